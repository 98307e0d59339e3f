//! Several operators at once: one that works is reported as such, and where they can't see each other that is said.

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::server::{Server, Spec};
use crate::support::wait::PATIENCE;

/// A connection with the name that another redis-trib has while it moves slots.
fn another_at(server: &Server) -> redis::Connection {
    let mut connection = server.connection().unwrap();
    let mut name = redis::cmd("CLIENT");
    let name = name.arg(&["SETNAME", "redis-trib/rebalance/ann@host/0000aaaa"]);
    name.query::<()>(&mut connection).unwrap();
    connection
}

fn open_slot(nodes: &Nodes) {
    nodes[1].cmd(&["CLUSTER", "SETSLOT", "0", "IMPORTING", &nodes[0].id()]);
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "0", "MIGRATING", &nodes[1].id()]);
}

#[test]
fn another_one_that_moves_slots_is_reported_first() {
    let nodes = Nodes::quick(4);
    nodes.form(3);
    open_slot(&nodes);
    let directory = tempfile::tempdir().unwrap();
    let backup = directory.path().join("backup");
    let (seed, id, to) = (nodes[2].addr(), nodes[0].id(), nodes[2].id());
    let backup = backup.to_str().unwrap();
    let slots = ["--slots", "5", "--from", "all", "--to", &to, "--yes"];
    let reshard = [&["reshard", &seed][..], &slots].concat();
    let lines: &[&[&str]] = &[
        &reshard,
        &["rebalance", &seed, "--yes"],
        &["failover", &seed, "--of", &id, "--yes"],
        &["backup", &seed, backup],
    ];
    let another = another_at(&nodes[1]);
    for line in lines {
        Trib::new()
            .args(*line)
            .run()
            .status(3)
            .stderr_has("another redis-trib is at work on ")
            .stderr_has("redis-trib/rebalance/ann@host/0000aaaa")
            .stderr_lacks("--finish-open");
    }
    // Once it is gone, its slots are what is left.
    drop(another);
    for line in lines {
        let told = Trib::new().args(*line).run().status(3).stderr;
        assert!(
            told.contains("--finish-open") || told.contains("redis-trib fix "),
            "{told}"
        );
    }
}

#[test]
fn without_client_there_is_no_lock() {
    for denied in ["-client|list", "-client|setname", "-client"] {
        let rules = format!("~* &* +@all {denied}");
        let spec = Spec::new().quick().user("ann", "secret", &rules);
        let nodes = Nodes::with(3, &spec);
        nodes.form(3);
        Trib::new()
            .args(["set-timeout", &nodes[0].addr(), "3s", "--yes"])
            .args(["--user", "ann"])
            .env("REDISCLI_AUTH", "secret")
            .run()
            .status(0)
            .stderr_has("there is no lock");
    }
}

/// Nobody sees the other one's work, which CLUSTER RESET would undo.
#[test]
fn the_cluster_of_another_one_is_not_to_be_undone() {
    let rules = "~* &* +@all -client";
    let spec = Spec::new().quick().user("ann", "secret", rules);
    let (nodes, proxies) = Nodes::behind_proxies(3, &spec);
    let addrs: Vec<String> = proxies.iter().map(|proxy| proxy.addr()).collect();
    let create = || {
        let trib = Trib::new()
            .args(["create", "--yes", "--user", "ann"])
            .args(["--command-timeout", "60s"])
            .args(&addrs);
        trib.env("REDISCLI_AUTH", "secret")
    };
    proxies[1].stall_at("CLUSTER MEET", 1);
    let first = create().args(["-o", "json"]).spawn();
    assert!(proxies[1].wait_stalled(PATIENCE));
    nodes.join();
    nodes.wait_usable();
    first.signal(nix::sys::signal::Signal::SIGINT);
    let ended = first.wait().status(130);
    assert!(!ended.stderr.contains("undo"), "{}", ended.stderr);
    proxies[1].resume();
}
