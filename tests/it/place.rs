//! `place`: masters even over hosts and zones again.

use std::collections::BTreeSet;

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::findings::finding;
use crate::support::hosts::on_host;
use crate::support::network::Network;
use crate::support::server::{Server, quick, versions};
use crate::support::views::myself;
use crate::support::wait::{PATIENCE, until};
use crate::support::writers::Writers;

const HOSTS: [&str; 3] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];

fn is_master(server: &Server) -> bool {
    server.field("role").as_deref() == Some("master")
}

/// The hosts of the masters.
fn hosts_of_masters(nodes: &[Server]) -> Vec<&str> {
    let masters = nodes.iter().filter(|server| is_master(server));
    let mut hosts: Vec<&str> = masters.map(Server::host).collect();
    hosts.sort_unstable();
    hosts
}

/// A planned failover, waited for until all replicas follow.
#[track_caller]
fn take_over(nodes: &[Server], replica: usize) {
    nodes[replica].cmd(&["CLUSTER", "FAILOVER"]);
    until("the replica to take over", PATIENCE, || {
        match is_master(&nodes[replica]) {
            true => Ok(()),
            false => Err(nodes[replica].nodes_text()),
        }
    });
    all_follow(nodes);
}

/// Waits until there are three masters, all links are up, and all nodes agree about the roles.
#[track_caller]
fn all_follow(nodes: &[Server]) {
    until("all replicas to follow", PATIENCE, || {
        let links = nodes.iter().filter(|server| {
            is_master(server) || server.field("master_link_status").as_deref() == Some("up")
        });
        let roles: BTreeSet<Vec<String>> = nodes
            .iter()
            .map(|server| {
                let text = server.nodes_text();
                let lines = text.lines().map(|line| {
                    let words: Vec<&str> = line.split(' ').collect();
                    format!(
                        "{} {} {}",
                        words[0],
                        words[2].replace("myself,", ""),
                        words[3]
                    )
                });
                let mut lines: Vec<String> = lines.collect();
                lines.sort();
                lines
            })
            .collect();
        let masters = nodes.iter().filter(|server| is_master(server)).count();
        match (links.count() == nodes.len(), roles.len(), masters) {
            (true, 1, 3) => Ok(()),
            other => Err(format!("{other:?} {roles:#?}")),
        }
    });
}

/// Three masters with two replicas each; each shard has a node on each host.
fn on_three_hosts(spec: impl Fn(&str) -> crate::support::server::Spec + Sync) -> Nodes {
    // Node i is of the shard i % 3.
    let nodes = Nodes::each(9, |i| spec(HOSTS[(i % 3 + i / 3) % 3]));
    nodes.form(3);
    nodes
}

#[test]
fn after_failovers_on_three_hosts() {
    let network = Network::new();
    let nodes = on_three_hosts(|host| quick().host_in(&network, host));
    assert_eq!(hosts_of_masters(&nodes), HOSTS);
    // The first is lost: the servers elect one of its replicas. The others follow by hand.
    network.cut(HOSTS[0]);
    let elected = until("a replica to be elected", PATIENCE, || {
        let elected = [3, 6].into_iter().find(|index| is_master(&nodes[*index]));
        elected.ok_or_else(|| nodes[3].nodes_text())
    });
    network.heal();
    all_follow(&nodes);
    let gathered = nodes[elected].host().to_owned();
    for shard in [1, 2] {
        let mut shard = [shard, shard + 3, shard + 6].into_iter();
        let there = shard
            .find(|index| nodes[*index].host() == gathered)
            .unwrap();
        if !is_master(&nodes[there]) {
            take_over(&nodes, there);
        }
    }
    assert_eq!(hosts_of_masters(&nodes), [&gathered[..]; 3]);
    let trib = |words: &[&str]| {
        let trib = network.trib().args([words[0], &nodes[0].addr()]);
        trib.args(&words[1..]).run()
    };
    // `check` names the remedy.
    let json = trib(&["check", "-o", "json"]).status(0).json();
    let remedy = finding(&json, "host-holds-quorum")["remedy"].to_string();
    assert!(remedy.contains("redis-trib place "), "{remedy}");
    trib(&["place", "--dry-run"])
        .status(0)
        .stdout_has(&format!(
            "host {gathered}: 3 masters, the majority of the masters → 1 master"
        ))
        .stdout_has("No placement of these nodes is better")
        .stdout_has("Dry run");
    let lines = trib(&["place", "--yes", "-o", "json"])
        .status(0)
        .json_lines();
    assert_eq!(lines[0]["event"], "place");
    assert_eq!(lines[0]["optimal"], true);
    assert_eq!(lines[0]["steps"].as_array().unwrap().len(), 2);
    let done = lines.iter().filter(|line| line["event"] == "failed-over");
    assert_eq!(done.count(), 2);
    assert_eq!(hosts_of_masters(&nodes), HOSTS);
    trib(&["place", "--yes"])
        .status(0)
        .stdout_has("No better placement exists for these nodes by failovers: nothing to do.");
}

#[test]
fn matrix_zones_and_wishes_under_writers() {
    for version in versions() {
        let nodes = on_three_hosts(|host| on_host(host).version(version));
        let zones = nodes.iter().map(|server| {
            let zone = if server.host() == HOSTS[2] { "b" } else { "a" };
            format!("--zone={}={zone}", server.addr())
        });
        let zones: Vec<String> = zones.collect();
        let place = |words: &[&str]| {
            Trib::new()
                .args(["place", &nodes[0].addr(), "--yes"])
                .args(&zones)
                .args(words)
                .run()
        };
        let mut writers = Writers::start(&nodes, 2);
        // Two masters in one zone of two are even already.
        place(&[]).status(0).stdout_has("nothing to do");
        let dir = tempfile::tempdir().unwrap();
        let undo = dir.path().join("undo.sh").display().to_string();
        place(&["--prefer", "zone=b", "--undo-out", &undo])
            .status(0)
            .stdout_has("2 steps carried out");
        assert_eq!(hosts_of_masters(&nodes), [HOSTS[2]; 3], "{version}");
        let script = std::fs::read_to_string(&undo).unwrap();
        let [one, other] = [0, 1].map(|index: usize| nodes[index].id());
        let back = |id: &str| script.contains(&format!("--to {id} --yes"));
        assert!(back(&one) && back(&other), "{script}");
        // By name: the first masters.
        let wanted = format!("{one},{other}");
        place(&["--masters", &wanted]).status(0);
        assert!(is_master(&nodes[0]) && is_master(&nodes[1]), "{version}");
        writers.wait_for_more(50);
        writers.stop();
        writers.assert_kept(&nodes.iter().collect::<Vec<_>>());
    }
}

#[test]
fn replicas_get_other_masters_only_if_that_is_wanted() {
    // Of the first shard two nodes are on one host, and it has three replicas; the others have one.
    let hosts = [
        HOSTS[0], HOSTS[1], HOSTS[2], HOSTS[0], HOSTS[2], HOSTS[0], HOSTS[1], HOSTS[2],
    ];
    let nodes = Nodes::each(8, |i| on_host(hosts[i]));
    nodes.form(3);
    // 3 and 6 follow 0, 4 and 7 follow 1, 5 follows 2.
    nodes.replicate(7, 0);
    all_follow(&nodes);
    let key = "{foo}1";
    nodes[2].cmd(&["SET", key, "value"]);
    let place = |words: &[&str]| {
        let line = Trib::new().args(["place", &nodes[0].addr(), "--yes"]);
        line.args(words).run()
    };
    place(&[]).status(0).stdout_has("nothing to do");
    assert_eq!(myself(&nodes[3])[3], nodes[0].id());
    let ended = place(&["--move-replicas", "-o", "json"]).status(0);
    let lines = ended.json_lines();
    let steps = lines[0]["steps"].as_array().unwrap();
    // The replica on its master's host moves, and then all have two replicas but one.
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert_eq!(steps[0]["replica"]["id"], nodes[3].id());
    assert!(steps[0]["copied_bytes"].as_u64().unwrap() > 0);
    let master = myself(&nodes[3])[3].clone();
    assert!([nodes[1].id(), nodes[2].id()].contains(&master));
    assert_eq!(nodes[3].field("master_link_status").unwrap(), "up");
    place(&["--move-replicas"])
        .status(0)
        .stdout_has("No better placement exists for these nodes by failovers or moves of replicas");
}

#[test]
fn refused_with_nothing_changed() {
    let nodes = Nodes::quick(5);
    nodes.form(3);
    let place = |words: &[&str]| {
        let line = Trib::new().args(["place", &nodes[0].addr(), "--yes"]);
        line.args(words).run()
    };
    place(&["--prefer", "zone=x"])
        .status(3)
        .stderr_has("no node is in zone \"x\": no zone is known");
    place(&["--prefer", "x"])
        .status(2)
        .stderr_has("is not zone=NAME");
    place(&["--masters", "ffffffff"])
        .status(3)
        .stderr_has("is not a node of this cluster");
    let both = format!("{},{}", nodes[0].id(), nodes[3].id());
    place(&["--masters", &both])
        .status(3)
        .stderr_has("are of one shard");
    place(&["--sync-timeout", "0s"]).status(2);
    // No better placement exists on one host.
    place(&[]).status(0).stdout_has("nothing to do");
    let file = "/nonexistent/undo.sh";
    place(&["--masters", &nodes[3].id(), "--undo-out", file])
        .status(3)
        .stderr_has("--undo-out /nonexistent/undo.sh: can't be written; nothing was changed");
    assert!(is_master(&nodes[0]));
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "7", "MIGRATING", &nodes[1].id()]);
    place(&[])
        .status(3)
        .stderr_has("not while slots move")
        .stderr_has("slots-open");
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "7", "STABLE"]);
}
