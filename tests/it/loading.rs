//! Replicas that load their first copy: a warning, and no other command waits for them.

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::findings::{codes, finding};
use crate::support::server::{Server, Spec};
use crate::support::wait::{PATIENCE, until};

/// Three masters with keys on the first one, and a node that takes almost seven minutes to load these keys. Meanwhile it
/// answers ten times a second.
pub(crate) fn beside_a_slow_node() -> (Nodes, Server) {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let value = "v".repeat(180);
    let mut words = vec!["MSET".to_string()];
    for key in 0..20_000 {
        words.extend([format!("{{06S}}{key}"), value.clone()]);
    }
    nodes[0].cmd(&words);
    let spec = Spec::new().quick().arg("--key-load-delay", 20_000);
    let slow = spec.arg("--loading-process-events-interval-bytes", 1024);
    (nodes, slow.start())
}

/// Waits until the node loads its copy.
fn loads(replica: &Server) {
    until("the replica to load its copy", PATIENCE, || {
        match replica.field("loading").as_deref() {
            Some("1") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// Three masters, and a replica of the first one that loads its copy.
fn with_a_loading_replica() -> (Nodes, Server) {
    let (nodes, replica) = beside_a_slow_node();
    let adding = Trib::new()
        .args(["add-node", &replica.addr(), &nodes[0].addr(), "--yes"])
        .args(["--replica", "--master-id", &nodes[0].id()])
        .args(["--no-wait"]);
    adding.run().status(0);
    loads(&replica);
    (nodes, replica)
}

#[test]
fn it_is_a_warning_and_blocks_no_command() {
    let (nodes, replica) = with_a_loading_replica();
    let seed = nodes[1].addr();
    let run = |words: &[&str]| Trib::new().args(words).run();
    let checked = run(&["check", &seed, "--output", "json"]).status(0).json();
    let found = finding(&checked, "slotless-node-loading");
    assert_eq!(found["severity"], "warning", "{found:#}");
    for code in [
        "node-loading",
        "replica-link-down",
        "slotless-node-unreachable",
    ] {
        assert!(!codes(&checked).contains(&code), "{checked:#}");
    }
    let spec = Spec::new().quick();
    let (master, other) = (spec.start(), spec.start());
    run(&["add-node", &master.addr(), &seed, "--yes"]).status(0);
    run(&["add-node", &other.addr(), &seed, "--replica", "--yes"]).status(0);
    let to = master.id();
    run(&["reshard", &seed, "--slot-ranges", "7", "--to", &to, "--yes"]).status(0);
    run(&["rebalance", &seed, "--yes", "--use-empty-masters"]).status(0);
    let id = other.id();
    let deleted = run(&["del-node", &seed, &id, "--leave-unprotected", &id, "--yes"]);
    deleted.status(0).stderr_has(&replica.addr());
    run(&["set-timeout", &seed, "2500ms", "--yes"]).status(0);
    assert_eq!(replica.field("loading").as_deref(), Some("1"), "too fast");
}

#[test]
fn the_command_that_waits_for_a_copy_keeps_no_other_waiting() {
    let (nodes, replica) = beside_a_slow_node();
    let adding = Trib::new()
        .args(["add-node", &replica.addr(), &nodes[0].addr(), "--yes"])
        .args(["--replica", "--master-id", &nodes[0].id()])
        .args(["--join-timeout", "20s"])
        .spawn();
    loads(&replica);
    let master = Spec::new().quick().start();
    let run = |words: &[&str]| Trib::new().args(words).run();
    run(&["add-node", &master.addr(), &nodes[0].addr(), "--yes"]).status(0);
    adding
        .wait_within(PATIENCE * 3)
        .status(0)
        .stderr_has("still going on");
}
