//! `create` of names that stand for many nodes.
//!
//! Names are made by a hosts file of the program's own, in a mount namespace of its own.

use std::time::Duration;

use crate::support::hosts::{Hosts, services};
use crate::support::server::{Server, Spec, has_ipv6};
use crate::support::views::{assert_bare, assert_usable, myself};

const SIX: [&str; 6] = [
    "127.0.1.2",
    "127.0.1.3",
    "127.0.1.4",
    "127.0.1.5",
    "127.0.1.6",
    "127.0.1.7",
];

#[test]
fn a_service_of_masters_and_one_of_replicas() {
    let all: Vec<(&str, &str)> = SIX
        .into_iter()
        .zip(["tasks.slave"; 3].into_iter().chain(["tasks.master"; 3]))
        .collect();
    let hosts = Hosts::new(&all[..2]);
    let nodes = services(&SIX);
    let port = nodes[0].port();
    let run = hosts
        .trib()
        .args(["create", "--yes", "--replicas", "1", "--expect-nodes", "6"])
        .args([
            format!("tasks.master:{port}"),
            format!("tasks.slave:{port}"),
        ])
        .spawn();
    run.wait_stderr("waiting: 6 nodes are expected, but \"tasks.master\" does not resolve");
    hosts.write(&all[..5]);
    run.wait_stderr("waiting: 6 nodes are expected, 5 found so far");
    hosts.write(&all);
    // No two of a shard share a host, so nothing is warned of.
    run.wait().status(0).stdout_lacks("[WARNING]");
    assert_usable(&nodes, 3);
    for server in &nodes[..3] {
        assert!(myself(server)[2].contains("slave"), "{}", server.addr());
    }
}

#[test]
fn too_few_nodes_behind_a_name() {
    let lines = [(SIX[0], "tasks.redis"), (SIX[1], "tasks.redis")];
    let hosts = Hosts::new(&lines);
    hosts
        .trib()
        .args(["create", "--yes", "tasks.redis:7000"])
        .args(["--expect-nodes", "3", "--resolve-timeout", "1s"])
        .run()
        .status(3)
        .within(Duration::from_secs(10))
        .stderr_has("2 found after 1s, 3 expected (--expect-nodes): 127.0.1.2:7000, 127.0.1.3:7000")
        .stderr_has("--resolve-timeout");
}

#[test]
fn a_name_of_two_families() {
    let lines = [("127.0.0.1", "here"), ("::1", "here")];
    let hosts = Hosts::new(&lines);
    if !has_ipv6() {
        return;
    }
    // No server listens at the first address: the nodes get the address that was connected to.
    let nodes: Vec<Server> = (0..3)
        .map(|_| Spec::new().quick().bind("::1").start())
        .collect();
    assert_bare(&nodes);
    hosts
        .trib()
        .args(["create", "--yes", "--no-wait"])
        .args(nodes.iter().map(|node| format!("here:{}", node.port())))
        .run()
        .status(0);
}
