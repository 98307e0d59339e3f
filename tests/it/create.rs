//! `create` where all goes well, and at the prompt.

use std::collections::BTreeSet;

use crate::support::cluster::Nodes;
use crate::support::command::{Signal, Trib};
use crate::support::ports;
use crate::support::server::{Server, Spec, has_ipv6, versions};
use crate::support::subcommands::create;
use crate::support::tls::Material;
use crate::support::views::{assert_bare, assert_usable, myself};
use crate::support::wait::PATIENCE;

/// Which master each replica follows, by index.
fn followed(nodes: &[Server]) -> Vec<Option<usize>> {
    let ids: Vec<String> = nodes.iter().map(Server::id).collect();
    nodes
        .iter()
        .map(|server| ids.iter().position(|id| *id == myself(server)[3]))
        .collect()
}

#[test]
fn matrix_six_nodes_become_a_usable_cluster() {
    for version in versions() {
        let nodes = Nodes::with(6, &Spec::new().quick().version(version));
        create(nodes.addrs())
            .args(["--replicas", "1"])
            .run()
            .status(0)
            .stdout_has(">>> Performing hash slots allocation on 6 nodes...")
            .stdout_has("[OK] All nodes agree about slots configuration.\n")
            .stdout_has("[OK] All 16384 slots covered.\n")
            .stdout_lacks("[ERR]")
            .stderr_has(">>> Sending CLUSTER MEET messages to join the cluster\n")
            .stderr_has("Waiting for the cluster to join");
        assert_usable(&nodes, 3);
        assert_eq!(followed(&nodes)[3..], [Some(0), Some(1), Some(2)]);
        assert_eq!(myself(&nodes[0])[8..], ["0-5460"]);
        assert_eq!(myself(&nodes[1])[8..], ["5461-10922"]);
        assert_eq!(myself(&nodes[2])[8..], ["10923-16383"]);
        // Usable means usable.
        for index in 0..3 {
            nodes[index].text(&["SET", ["b", "c", "a"][index], "1"]);
        }
    }
}

#[test]
fn masters_alone() {
    let nodes = Nodes::quick(3);
    create(nodes.addrs()).run().status(0);
    assert_usable(&nodes, 3);
}

#[test]
fn one_and_two_masters_where_it_is_allowed() {
    for count in [1, 2] {
        let nodes = Nodes::quick(count);
        create(nodes.addrs())
            .run()
            .status(3)
            .stderr_has("--allow-few-masters");
        assert_bare(&nodes);
        create(nodes.addrs())
            .arg("--allow-few-masters")
            .run()
            .status(0);
        assert_usable(&nodes, count);
    }
}

#[test]
fn a_dry_run_shows_the_plan_and_changes_nothing() {
    let nodes = Nodes::quick(4);
    let dry = |format: &str| {
        let run = Trib::new().arg("create").args(nodes.addrs());
        run.args([
            "--dry-run",
            "--replicas=1",
            "--allow-few-masters",
            "-o",
            format,
        ])
        .run()
        .status(0)
    };
    dry("classic")
        .stdout_has("Adding replica ")
        .stdout_has("all nodes are on one host, 127.0.0.1: replicas protect against the loss of a process, not of the host\n")
        .stdout_has("Dry run: nothing was changed.\n")
        .stderr_empty();
    dry("table").stdout_has("master").stdout_has("Dry run");
    let lines = dry("json").json_lines();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["event"], "plan");
    assert_eq!(lines[0]["warnings"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&lines[1]["event"], &lines[1]["exit_code"]),
        (&"done".into(), &0.into())
    );
    assert_bare(&nodes);
}

#[test]
fn pins_and_zones_decide_who_is_what() {
    let nodes = Nodes::quick(6);
    let addrs = nodes.addrs();
    let mut run = create(&addrs)
        .args(["--replicas", "1", "--no-wait", "-o", "json"])
        .args(["--pin-master", &addrs[5], "--pin-replica", &addrs[0]]);
    for (index, zone) in ["a", "a", "b", "b", "c", "c"].into_iter().enumerate() {
        run = run.args(["--zone", &format!("{}={zone}", addrs[index])]);
    }
    let lines = run.run().status(0).json_lines();
    let masters = lines[0]["masters"].as_array().unwrap();
    let planned: BTreeSet<&str> = masters
        .iter()
        .map(|m| m["addr"].as_str().unwrap())
        .collect();
    assert!(planned.contains(addrs[5].as_str()) && !planned.contains(addrs[0].as_str()));
    for master in masters {
        assert!(["a", "b", "c"].contains(&master["zone"].as_str().unwrap()));
        assert_ne!(master["zone"], master["replicas"][0]["zone"]);
    }
    assert_eq!(nodes[5].field("role").unwrap(), "master");
    assert_eq!(nodes[0].field("role").unwrap(), "slave");
}

#[test]
fn no_wait_returns_when_all_agree() {
    // For all that can be read they never serve: one that waits for that ends with an error.
    let (nodes, proxies) = Nodes::behind_proxies(6, &Spec::new());
    for proxy in &proxies {
        proxy.rewrite(b"cluster_state:ok", b"cluster_state:no");
    }
    let addrs: Vec<String> = proxies.iter().map(|proxy| proxy.addr()).collect();
    create(&addrs)
        .args(["--replicas", "1", "--no-wait"])
        .run()
        .status(0)
        .stdout_has("[OK] All nodes agree about slots configuration.\n")
        .stdout_has(&format!("redis-trib check {} --wait 60s", addrs[0]));
    assert_eq!(followed(&nodes)[3..], [Some(0), Some(1), Some(2)]);
    for server in nodes.iter() {
        let assigned = server.field("cluster_slots_assigned").unwrap();
        assert_eq!(assigned, "16384", "{}", server.nodes_text());
    }
}

#[test]
fn json_is_an_event_a_line_and_the_last_is_done() {
    let nodes = Nodes::quick(3);
    let ended = create(nodes.addrs()).args(["-o", "json"]).run().status(0);
    let lines = ended.stderr_empty().json_lines();
    let events: Vec<&str> = lines.iter().map(|l| l["event"].as_str().unwrap()).collect();
    assert_eq!(events[0], "plan");
    for event in ["phase", "slots-added", "waiting"] {
        assert!(events.contains(&event), "{events:?}");
    }
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["event"], &last["exit_code"]),
        (&"done".into(), &0.into())
    );
    assert_usable(&nodes, 3);
    // So it is on failure.
    let ended = create(["127.0.0.1:1"]).args(["-o", "json"]).run().status(4);
    let lines = ended.json_lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["event"], "done");
    assert_eq!(lines[0]["exit_code"], 4);
}

#[test]
fn passwords_from_everywhere() {
    const PASSWORD: &str = "tr0ub4dor&3";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{PASSWORD}\n")).unwrap();
    let nodes = Nodes::with(4, &Spec::new().quick().password(PASSWORD));
    let addrs = nodes.addrs();
    let urls: Vec<String> = addrs
        .iter()
        .map(|addr| format!("redis://:tr0ub4dor%263@{addr}"))
        .collect();
    let create = |addrs: &[String]| {
        let plan = ["create", "--replicas=1", "--allow-few-masters"];
        Trib::new().args(plan).args(addrs)
    };
    let file = file.path().display().to_string();
    create(&addrs)
        .args(["--dry-run", "-a", PASSWORD])
        .run()
        .status(0);
    create(&addrs)
        .args(["--dry-run", "--pass-file", &file])
        .run()
        .status(0);
    let verbose = create(&urls)
        .args(["--dry-run", "--verbose"])
        .run()
        .status(0);
    verbose
        .stderr_has("AUTH")
        .stderr_lacks(PASSWORD)
        .stderr_lacks("tr0ub4dor%263");
    create(&addrs)
        .env("REDISCLI_AUTH", PASSWORD)
        .args(["--yes", "--verbose"])
        .run()
        .status(0)
        .stderr_lacks(PASSWORD)
        .stdout_lacks(PASSWORD);
    assert_usable(&nodes, 2);
}

#[test]
fn an_acl_user_where_the_default_user_is_off() {
    let spec = Spec::new()
        .quick()
        .user("ann", "secret", "~* &* +@all")
        .words("--user", &["default", "off"])
        .arg("--masteruser", "ann")
        .arg("--masterauth", "secret")
        .admin("ann", "secret");
    let nodes = Nodes::with(4, &spec);
    create(nodes.addrs())
        .args(["--replicas=1", "--allow-few-masters", "--user", "ann"])
        .env("REDISCLI_AUTH", "secret")
        .run()
        .status(0);
    assert_usable(&nodes, 2);
}

#[test]
fn tls_everywhere() {
    let material = Material::new();
    let nodes = Nodes::with(6, &Spec::new().quick().tls(&material));
    create(nodes.addrs())
        .args(["--replicas", "1", "--tls", "--cacert"])
        .arg(material.ca.display().to_string())
        .run()
        .status(0);
    assert_usable(&nodes, 3);
}

#[test]
fn ipv6() {
    if !has_ipv6() {
        return;
    }
    let nodes = Nodes::with(4, &Spec::new().quick().bind("::1"));
    create(nodes.addrs())
        .args(["--replicas=1", "--allow-few-masters"])
        .run()
        .status(0)
        .stdout_has(&format!("[::1]:{}", nodes[0].port()));
    assert_usable(&nodes, 2);
}

#[test]
fn a_bus_port_of_its_own() {
    let bus: Vec<_> = (0..3).map(|_| ports::reserve()).collect();
    let nodes = Nodes::each(3, |i| {
        Spec::new().quick().arg("--cluster-port", bus[i].port)
    });
    create(nodes.addrs()).run().status(0);
    assert_usable(&nodes, 3);
}

#[test]
fn announced_addresses_are_mapped() {
    let (nodes, proxies) = Nodes::behind_proxies(3, &Spec::new().quick());
    // Reached at the proxies, named by them.
    let named: Vec<String> = proxies.iter().map(|proxy| proxy.addr()).collect();
    create(&named).run().status(0);
    assert_usable(&nodes, 3);
    let (nodes, proxies) = Nodes::behind_proxies(
        3,
        &Spec::new()
            .quick()
            .arg("--cluster-announce-ip", "127.0.0.1"),
    );
    // Announced: the proxies, which is nowhere for us; reached at their own ports.
    let mut run = create(nodes.addrs());
    for (node, proxy) in nodes.iter().zip(&proxies) {
        proxy.refuse();
        let map = format!("127.0.0.1:{}={}", proxy.port(), node.addr());
        run = run.args(["--address-map", &map]);
    }
    run.run().status(0);
    assert_usable(&nodes, 3);
}

#[test]
fn a_node_that_was_reset_softly_keeps_its_epoch() {
    let nodes = Nodes::quick(3);
    create(nodes.addrs()).arg("--no-wait").run().status(0);
    for server in nodes.iter() {
        server.cmd(&["CLUSTER", "RESET"]);
    }
    // Its epoch is 3, which the plan would give to the last.
    let fresh = Nodes::quick(2);
    let addrs = [nodes[2].addr(), fresh[0].addr(), fresh[1].addr()];
    create(&addrs).run().status(0);
    let epochs = [&nodes[2], &fresh[0], &fresh[1]].map(|server| myself(server)[6].clone());
    assert_eq!(epochs, ["3", "2", "4"]);
}

fn prompt(nodes: &Nodes) -> Trib {
    Trib::new().arg("create").args(nodes.addrs())
}

const QUESTION: &str = "Can I set the above configuration? (type 'yes' to accept): ";

#[test]
fn yes_at_the_prompt() {
    let nodes = Nodes::quick(3);
    let mut terminal = prompt(&nodes).terminal();
    terminal
        .expect("A new cluster of 3 nodes.")
        .expect(QUESTION)
        .send_line("yes");
    let ended = terminal.finish().status(0);
    assert!(
        ended.screen().contains("all 16,384 slots are served"),
        "{}",
        ended.screen()
    );
    assert_usable(&nodes, 3);
}

#[test]
fn anything_else_at_the_prompt() {
    let nodes = Nodes::quick(3);
    for (answer, code, said) in [
        ("no\r", 5, "declined: nothing was changed"),
        ("\r", 5, "declined: nothing was changed"),
        (
            "\u{4}",
            5,
            "the input ended before an answer: nothing was changed",
        ),
        ("\u{3}", 130, "nothing was changed"),
    ] {
        let mut terminal = prompt(&nodes).terminal();
        terminal.expect(QUESTION).send(answer);
        let ended = terminal.finish().status(code);
        assert!(
            ended.screen().contains(said),
            "{answer:?}: {}",
            ended.screen()
        );
    }
    let mut terminal = prompt(&nodes).terminal();
    terminal.expect(QUESTION).signal(Signal::SIGTERM);
    terminal.finish().status(130);
    assert_bare(&nodes);
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let nodes = Nodes::quick(3);
    for run in [
        prompt(&nodes),
        prompt(&nodes).stdin("yes\n"),
        prompt(&nodes).stdin_open(),
    ] {
        run.run()
            .status(5)
            .within(PATIENCE)
            .stderr_has("--yes")
            .stderr_has("nothing was changed");
    }
    assert_bare(&nodes);
}
