//! `set-timeout`: cluster-node-timeout of all nodes.

use serde_json::json;

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::server::{Server, Spec, versions};

const NAME: &str = "cluster-node-timeout";

fn timeout(server: &Server) -> String {
    let value = server.cmd(&["CONFIG", "GET", NAME]);
    let pair: Vec<String> = redis::from_redis_value(value).unwrap();
    pair[1].clone()
}

fn set(nodes: &Nodes, time: &str) -> Trib {
    Trib::new().args(["set-timeout", &nodes[0].addr(), time])
}

#[test]
fn matrix_all_nodes_have_it_and_it_is_on_disk_where_there_is_a_file() {
    for version in versions() {
        let nodes = Nodes::each(3, |index| {
            let spec = Spec::new().version(version).quick();
            if index == 0 { spec.config_file() } else { spec }
        });
        nodes.form(3);
        let done = set(&nodes, "5s").args(["--yes"]).run().status(0);
        done.stdout_has(">>> New node timeout set. 3 OK, 0 ERR.")
            .stdout_has(&format!("*** New timeout set for {}", nodes[2].addr()))
            .stderr_has("2 of 3 nodes could not write the timeout")
            .stderr_has(&nodes[1].addr())
            .stderr_lacks(&nodes[0].addr());
        let file = std::fs::read_to_string(nodes[0].dir().join("server.conf")).unwrap();
        assert!(file.contains("cluster-node-timeout 5000"), "{file}");
        for server in nodes.iter() {
            assert_eq!(timeout(server), "5000");
        }
    }
}

#[test]
fn programs_are_told_what_was_and_what_is() {
    let nodes = Nodes::with(3, &Spec::new().quick().config_file());
    nodes.form(3);
    let lines = set(&nodes, "7s")
        .args(["--yes", "-o", "json"])
        .run()
        .status(0)
        .json_lines();
    let events: Vec<_> = lines.iter().map(|line| line["event"].clone()).collect();
    assert_eq!(
        events,
        [
            "timeouts",
            "timeout-set",
            "timeout-set",
            "timeout-set",
            "done"
        ]
        .map(|event| json!(event))
    );
    assert_eq!(lines[0]["timeout_ms"], json!(7000));
    assert_eq!(lines[0]["nodes"][0]["timeout_ms"], json!(2000));
    assert_eq!(lines[1]["set"], json!(true));
    assert_eq!(lines[1]["persisted"], json!(true));
    assert_eq!(lines[1]["node"]["id"], json!(nodes[0].id()));
}

#[test]
fn what_makes_no_sense_is_refused_at_once() {
    for (time, says) in [
        ("15000", "15000ms"),
        ("99ms", "below 100ms"),
        ("0s", "above zero"),
        ("100500us", "whole milliseconds"),
        ("soon", "unit"),
    ] {
        Trib::new()
            .args(["set-timeout", "127.0.0.1:1", time, "--yes"])
            .run()
            .status(2)
            .stderr_has(says);
    }
}

#[test]
fn nothing_is_set_without_consent() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    set(&nodes, "5s").run().status(5).stderr_has("--yes");
    set(&nodes, "5s")
        .args(["--dry-run"])
        .run()
        .status(0)
        .stdout_has("Dry run");
    let mut terminal = set(&nodes, "5s").terminal();
    terminal
        .expect("timeout now")
        .expect("(type 'yes' to accept): ")
        .send_line("no");
    terminal.finish().status(5);
    assert_eq!(timeout(&nodes[0]), "2000");
    let mut terminal = set(&nodes, "5s").terminal();
    terminal.expect("(type 'yes' to accept): ").send_line("yes");
    terminal.finish().status(0);
    assert_eq!(timeout(&nodes[0]), "5000");
}

#[test]
fn who_could_not_be_told_is_named() {
    let nodes = Nodes::quick(4);
    nodes.form(3);
    nodes[3].stop();
    let told = set(&nodes, "6s")
        .args(["--yes", "--command-timeout", "5s"])
        .run();
    nodes[3].cont();
    told.status(6)
        .stdout_has("3 OK, 1 ERR.")
        .stderr_has(&nodes[3].addr())
        .stderr_has("The same command tries all nodes again");
    assert_eq!(timeout(&nodes[0]), "6000");
    set(&nodes, "6s").args(["--yes"]).run().status(0);
    assert_eq!(timeout(&nodes[3]), "6000");
}

#[test]
fn who_may_not_is_told_so() {
    let spec = Spec::new()
        .quick()
        .user("poor", "secret", "~* &* +@all -config");
    let nodes = Nodes::with(3, &spec);
    nodes.form(3);
    set(&nodes, "5s")
        .args(["--yes", "--user", "poor", "--pass", "secret"])
        .run()
        .status(3)
        .stderr_has("CONFIG SET")
        .stderr_lacks("secret");
    assert_eq!(timeout(&nodes[0]), "2000");
}
