//! Nodes that do not reach each other: `create` and `check` say so.

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::findings::codes;
use crate::support::server::{Server, Spec, has_ipv6};
use crate::support::subcommands::{check_json, create};
use crate::support::wait::{PATIENCE, until};

/// Servers on one port of several addresses that do not announce theirs: they connect from 127.0.0.1.
fn on_addresses(hosts: &[&str]) -> Vec<Server> {
    let spec = |host: &str| Spec::new().quick().bind(host);
    let mut servers = vec![spec(hosts[0]).start()];
    for host in &hosts[1..] {
        servers.push(spec(host).start_beside(&servers[0]));
    }
    servers
}

#[test]
fn nodes_that_connect_from_another_address_are_no_cluster() {
    let servers = on_addresses(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    let addrs: Vec<String> = servers.iter().map(Server::addr).collect();
    let seen_at = format!("127.0.0.1:{}", servers[0].port());
    create(&addrs)
        .run()
        .status(6)
        .stderr_has("cluster-announce-ip")
        .stderr_has("bind-source-addr")
        .stderr_has(&addrs[1])
        .stderr_has(&seen_at)
        .stderr_has("CLUSTER RESET");
    for addr in &addrs {
        check_json(addr).run().status(1);
    }
}

#[test]
fn the_plan_warns_of_an_address_at_which_a_node_does_not_listen() {
    let servers = on_addresses(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    let addrs: Vec<String> = servers.iter().map(Server::addr).collect();
    create(&addrs)
        .arg("--dry-run")
        .run()
        .status(0)
        .stdout_has("cluster-announce-ip 127.0.0.2 or bind-source-addr 127.0.0.2");
}

#[test]
fn addresses_of_both_families_are_no_cluster() {
    if !has_ipv6() {
        return;
    }
    let specs = ["127.0.0.1", "::1", "127.0.0.1"].map(|host| Spec::new().quick().bind(host));
    let servers = specs.map(|spec| spec.start());
    create(servers.iter().map(Server::addr))
        .run()
        .status(6)
        .stderr_has("cluster-announce-ip")
        .stderr_has("bind-source-addr");
}

#[test]
fn nodes_that_announce_their_addresses_are_a_cluster_of_both_families() {
    if !has_ipv6() {
        return;
    }
    let specs = ["127.0.0.1", "::1", "127.0.0.1"].map(|host| {
        let spec = Spec::new().quick().bind(host);
        spec.arg("--cluster-announce-ip", host)
    });
    let servers = specs.map(|spec| spec.start());
    create(servers.iter().map(Server::addr)).run().status(0);
    for server in &servers {
        let json = check_json(&server.addr()).run().status(0).json();
        assert_eq!(json["nodes"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn an_added_node_that_the_others_do_not_reach_is_an_error() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let new = Spec::new().quick().bind("127.0.0.2").start();
    Trib::new()
        .args(["add-node", "--yes", &new.addr(), &nodes[0].addr()])
        .run()
        .status(6)
        .stderr_has("cluster-announce-ip")
        .stderr_has(&new.addr());
}

#[test]
fn a_slot_owner_that_a_member_has_no_address_of_is_an_error_from_every_seed() {
    let nodes = Nodes::quick(4);
    nodes.form(4);
    // It connects from 127.0.0.1, where the first node listens on that port.
    let last = Spec::new()
        .quick()
        .bind("127.0.0.2")
        .start_beside(&nodes[0]);
    last.kill();
    std::fs::copy(
        nodes[3].dir().join("nodes.conf"),
        last.dir().join("nodes.conf"),
    )
    .unwrap();
    nodes[3].kill();
    last.restart();
    for seed in 0..3 {
        until("the error", PATIENCE, || {
            let json = check_json(&nodes[seed].addr()).run().json();
            let names_it = |code: &&str| ["slot-owner-unlinked", "node-failed"].contains(code);
            match codes(&json).iter().any(names_it) {
                true => Ok(()),
                false => Err(format!("{:#}", json["findings"])),
            }
        });
    }
}
