//! `info`.

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::hosts::apart;
use crate::support::server::Spec;

#[test]
fn masters_with_keys_slots_and_replicas() {
    let nodes = Nodes::each(3, apart);
    nodes.form(2);
    nodes[0].cmd(&["SET", "{06S}a", "1"]); // slot 0
    let info = |addr: &str| Trib::new().args(["info", addr]);
    let addr = nodes[2].addr();
    let line = |index: usize, rest: &str| {
        format!(
            "{} ({}...) -> {rest}\n",
            nodes[index].addr(),
            &nodes[index].id()[..8]
        )
    };
    let expected = line(0, "1 keys | 8192 slots | 1 slaves.")
        + &line(1, "0 keys | 8192 slots | 0 slaves.")
        + "[OK] 1 keys in 2 masters.\n0.00 keys per slot on average.\n";
    info(&addr)
        .run()
        .status(0)
        .stderr_empty()
        .stdout_is(&expected);
    let words = Trib::new().args(["info", nodes[2].host(), &nodes[2].port().to_string()]);
    words.run().status(0).stdout_is(&expected);

    let json = info(&addr).args(["-o", "json"]).run().status(0).json();
    assert_eq!(json["keys"], 1);
    assert_eq!(json["slots_covered"], 16384);
    assert_eq!(json["masters"][0]["id"], nodes[0].id());
    assert_eq!(json["masters"][0]["replicas"], 1);
    assert_eq!(json["masters"][1]["slot_count"], 8192);
    let screen = info(&addr).terminal().finish().status(0).screen();
    assert!(screen.contains("2 masters, 1 replica, 1 key"), "{screen}");

    // A master that is gone is not a reason to say nothing.
    nodes[1].kill();
    let json = info(&addr).args(["-o", "json"]).run().status(0).json();
    assert_eq!(json["masters"][1]["keys"], serde_json::Value::Null);
}

#[test]
fn what_info_can_not_say_is_a_usage_error() {
    for format in ["prometheus", "nagios"] {
        Trib::new()
            .args(["info", "127.0.0.1:1", "--output", format])
            .run()
            .status(2)
            .stdout_empty()
            .stderr_has(&format!("--output {format} is for check only"));
    }
    let bare = Spec::new().plain().start();
    let info = Trib::new().args(["info", &bare.addr()]);
    info.run().status(3).stderr_has("cluster-enabled");
}
