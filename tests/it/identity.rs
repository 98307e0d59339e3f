//! An address is not an identity: load balancers, copied nodes.conf files, nodes with several addresses.

use std::fs;

use crate::support::balancer::Balancer;
use crate::support::cluster::Nodes;
use crate::support::command::{Ended, Trib};
use crate::support::findings::{finding, is_healthy};
use crate::support::scripted::fake_cluster;
use crate::support::server::{Server, Spec, has_ipv6, versions};
use crate::support::subcommands::{check, check_json, create, reshard};
use crate::support::wait::{PATIENCE, until};

/// Starts a process with the nodes.conf of another one that goes on running.
fn twin_of(server: &Server, spec: &Spec) -> Server {
    let twin = spec.start();
    twin.kill();
    fs::copy(
        server.dir().join("nodes.conf"),
        twin.dir().join("nodes.conf"),
    )
    .unwrap();
    twin.restart();
    assert_eq!(twin.id(), server.id());
    twin
}

/// How often a server was asked for something, as INFO commandstats tells.
fn calls(server: &Server, name: &str) -> u64 {
    let stats = server.text(&["INFO", "commandstats"]);
    let prefix = format!("cmdstat_{name}:calls=");
    let mut lines = stats.lines();
    let count = lines.find_map(|line| line.strip_prefix(&prefix)?.split(',').next()?.parse().ok());
    count.unwrap_or_default()
}

#[test]
fn matrix_two_processes_with_one_id_are_always_found() {
    for version in versions() {
        let spec = Spec::new().quick().version(version);
        let nodes = Nodes::with(3, &spec);
        nodes.form(3);
        let twin = twin_of(&nodes[1], &spec);
        for seed in [0, 2, 0, 2, 1].map(|n| &nodes[n]).iter().chain([&&twin]) {
            let checked = check_json(&seed.addr()).run().status(1);
            let json = checked.json();
            let message = finding(&json, "node-id-twice")["message"]
                .as_str()
                .unwrap()
                .to_owned();
            assert!(message.contains(&nodes[1].addr()), "{message}");
            assert!(message.contains(&twin.addr()), "{message}");
        }
        let before = nodes[0].nodes_text().matches("[").count();
        for trib in [
            reshard(&nodes[0]).args([
                "--slots",
                "10",
                "--from",
                "all",
                "--to",
                &nodes[2].id(),
                "--yes",
            ]),
            Trib::new().args(["rebalance", "--yes", &nodes[0].addr()]),
            Trib::new().args(["set-timeout", "--yes", &nodes[0].addr(), "3s"]),
            Trib::new().args(["call", &nodes[0].addr(), "PING"]),
            Trib::new().args(["fix", "--yes", &nodes[0].addr()]),
        ] {
            trib.run()
                .status(3)
                .stderr_has("two processes answer as node");
        }
        assert_eq!(nodes[0].nodes_text().matches("[").count(), before);
    }
}

#[test]
fn a_twin_that_has_ended_leaves_a_healthy_cluster() {
    let spec = Spec::new().quick();
    let nodes = Nodes::with(3, &spec);
    nodes.form(3);
    let twin = twin_of(&nodes[1], &spec);
    check(&nodes[0].addr()).run().status(1);
    // Another run id at one address is a restart.
    nodes[1].restart();
    check(&nodes[0].addr()).run().status(1);
    twin.kill();
    until("the cluster to be healthy", PATIENCE, || {
        let checked = check(&nodes[0].addr()).run();
        (checked.status == Ended::Status(0))
            .then_some(())
            .ok_or(checked.stdout)
    });
}

/// In a new cluster nodes have links to each other, and do not know for seconds which links come from whom.
#[test]
fn old_links_in_one_direction_are_enough() {
    let cluster = fake_cluster(3, 0);
    check(&cluster.nodes[0].addr()).run().status(0);
    for node in &cluster.nodes {
        let commands = node.commands();
        let looks = commands
            .iter()
            .filter(|line| line.starts_with("CLUSTER LINKS"));
        assert!((1..=2).contains(&looks.count()), "{commands:?}");
    }
}

#[test]
fn a_twin_of_a_replica_is_found() {
    let spec = Spec::new().quick();
    let nodes = Nodes::with(4, &spec);
    nodes.form(3);
    let twin = twin_of(&nodes[3], &spec);
    let json = check_json(&nodes[0].addr()).run().status(1).json();
    let message = finding(&json, "node-id-twice")["message"].to_string();
    assert!(message.contains(&nodes[3].addr()), "{message}");
    assert!(message.contains(&twin.addr()), "{message}");
}

#[test]
fn each_node_is_called_once_through_a_load_balancer() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let balancer = Balancer::over(nodes.addrs());
    for _ in 0..4 {
        Trib::new()
            .args(["call", "--allow-dangerous", &balancer.addr(), "LASTSAVE"])
            .run()
            .status(0);
    }
    for node in nodes.iter() {
        assert_eq!(calls(node, "lastsave"), 4);
    }
}

#[test]
fn a_load_balancer_is_one_seed_of_several_commands() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let balancer = Balancer::over(nodes.addrs());
    for _ in 0..3 {
        check(&balancer.addr()).run().status(0);
    }
    Trib::new()
        .args([
            "reshard",
            "--slots",
            "30",
            "--from",
            &nodes[0].id(),
            "--to",
            &nodes[1].id(),
        ])
        .args(["--yes", &balancer.addr()])
        .run()
        .status(0);
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("backup");
    Trib::new()
        .args(["backup", &balancer.addr(), files.to_str().unwrap()])
        .run()
        .status(0);
    is_healthy(&nodes[0]);
}

#[test]
fn a_load_balancer_is_no_new_node() {
    let nodes = Nodes::quick(4);
    let balancer = Balancer::over(nodes.addrs()[..2].to_vec());
    create([&balancer.addr(), &nodes[2].addr(), &nodes[3].addr()])
        .run()
        .status(3)
        .stderr_has("load balancer")
        .stderr_has(&balancer.addr());
    for node in nodes.iter() {
        assert_eq!(node.nodes_text().lines().count(), 1);
    }
    create(&nodes.addrs()[1..]).run().status(0);
    let others = Spec::new().quick().start();
    let mixed = Balancer::over(vec![nodes[0].addr(), others.addr()]);
    Trib::new()
        .args(["add-node", "--yes", &mixed.addr(), &nodes[1].addr()])
        .run()
        .status(3)
        .stderr_has("load balancer");
    assert_eq!(nodes[1].nodes_text().lines().count(), 3);
}

#[test]
fn a_user_who_may_not_ask_for_ids_is_served() {
    let spec = Spec::new()
        .quick()
        .user("ops", "secret", "~* &* +@all -cluster|myid");
    let nodes = Nodes::with(3, &spec);
    let login = ["--user", "ops", "--pass", "secret"];
    create(nodes.addrs()).args(login).run().status(0);
    check(&nodes[0].addr()).args(login).run().status(0);
    reshard(&nodes[0])
        .args([
            "--slots",
            "3",
            "--from",
            &nodes[0].id(),
            "--to",
            &nodes[1].id(),
            "--yes",
        ])
        .args(login)
        .run()
        .status(0);
}

#[test]
fn one_process_at_two_addresses_is_one_node() {
    if !has_ipv6() {
        return;
    }
    let spec = Spec::new().quick().words("--bind", &["127.0.0.1", "::1"]);
    let nodes = Nodes::with(3, &spec);
    nodes.form(3);
    let v6 = format!("[::1]:{}", nodes[0].port());
    let json = check_json(&v6).run().status(0).json();
    assert_eq!(json["nodes"].as_array().unwrap().len(), 3);
    Trib::new()
        .args([
            "reshard",
            "--slots",
            "3",
            "--from",
            &v6,
            "--to",
            &nodes[1].addr(),
            "--yes",
            &v6,
        ])
        .run()
        .status(0);
}
