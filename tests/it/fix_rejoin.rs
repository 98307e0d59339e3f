//! `fix --rejoin`: all nodes were restarted elsewhere, and know each other where they no longer are.

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::hosts::{Hosts, services};
use crate::support::keys::{assert_same, contents, fill};
use crate::support::network::Network;
use crate::support::server::{Server, Spec, quick, versions};
use crate::support::slots::names;
use crate::support::subcommands::create;
use crate::support::wait::{PATIENCE, until};

fn rejoin<'a>(nodes: impl IntoIterator<Item = &'a Server>) -> Trib {
    let addrs = nodes.into_iter().map(Server::addr);
    Trib::new().args(["fix", "--rejoin"]).args(addrs)
}

/// Three masters and their replicas, with keys that survive a restart.
fn six(spec: &Spec) -> Nodes {
    let nodes = Nodes::with(6, spec);
    nodes.form(3);
    fill(&nodes[..3], &names(0..60, 2));
    // A replica says its master's epoch, as soon as it has heard of it.
    for (master, replica) in nodes[..3].iter().zip(&nodes[3..]) {
        until("a replica to know its master's epoch", PATIENCE, || {
            let (known, own) = (standing(replica), standing(master));
            (known[3] == own[3])
                .then_some(())
                .ok_or_else(|| format!("{known:?}, and {own:?}"))
        });
    }
    nodes.iter().for_each(save);
    nodes
}

/// Until a node has written down that replicas are of their masters' shards. Valkey 8.0 does not start with a
/// nodes.conf in which one is not: it calls it corrupted.
fn wait_remembered(node: &Server) {
    until("shards to be written down", PATIENCE, || {
        let text = std::fs::read_to_string(node.dir().join("nodes.conf")).unwrap_or_default();
        let shard = |line: &str| {
            let (_, rest) = line.split_once("shard-id=")?;
            Some(rest.split([' ', ',']).next()?.to_owned())
        };
        let of = |id: &str| {
            text.lines()
                .find(|line| line.starts_with(id))
                .and_then(shard)
        };
        let apart = text.lines().find(|line| {
            let master = line.split(' ').nth(3);
            master.is_some_and(|id| id.len() == 40 && of(id) != shard(line))
        });
        apart.is_none().then_some(()).ok_or_else(|| text.clone())
    });
}

fn save(node: &Server) {
    node.cmd(&["SAVE"]);
}

/// All are ended before any is back.
fn scatter(nodes: &mut Nodes) {
    nodes.iter().for_each(wait_remembered);
    nodes.iter().for_each(Server::kill);
    nodes.iter_mut().for_each(Server::move_away);
}

/// What a node says of itself: role, master, epoch and slots.
fn standing(node: &Server) -> Vec<String> {
    let text = node.nodes_text();
    let own = text.lines().find(|line| line.contains("myself")).unwrap();
    let fields: Vec<&str> = own.split(' ').collect();
    let said = [0, 2, 3, 6].map(|field| fields[field]);
    said.iter()
        .chain(&fields[8..])
        .map(|&field| field.to_owned())
        .collect()
}

fn is_whole(nodes: &[Server]) {
    until("the cluster to be whole", PATIENCE, || {
        let check = Trib::new().args(["check", &nodes[0].addr()]).run();
        match check.status {
            crate::support::command::Ended::Status(0) => Ok(()),
            _ => Err(check.stdout),
        }
    });
}

#[test]
fn everybody_is_elsewhere_matrix() {
    for version in versions() {
        everybody_is_elsewhere(&quick().version(version).password("secret"));
    }
}

fn everybody_is_elsewhere(spec: &Spec) {
    let mut nodes = six(spec);
    let (before, standings) = (contents(&nodes), nodes.iter().map(standing));
    let standings: Vec<_> = standings.collect();
    scatter(&mut nodes);
    let line = || rejoin(nodes.iter()).args(["-a", "secret"]);
    // Nothing is done unasked, nor with the wrong password.
    line().run().status(5).stderr_has("--yes");
    line()
        .arg("--dry-run")
        .run()
        .status(0)
        .stdout_has("meets the others at their new addresses: it sees 0 of 5")
        .stdout_lacks("secret");
    rejoin(nodes.iter())
        .args(["-a", "wrong", "--yes"])
        .run()
        .status(4);
    assert!(!nodes[0].nodes_text().contains(&nodes[1].addr()));
    // Some only: the others are named.
    let some = rejoin(&nodes[..4]).args(["-a", "secret", "--yes", "-o", "json"]);
    let run = some.run().status(0);
    let plan = &run.json_lines()[0];
    assert_eq!(plan["refused"].as_array().unwrap().len(), 2, "{plan}");
    assert_eq!(plan["refused"][0]["code"], "not-named");
    line().arg("--yes").run().status(0);
    is_whole_with(&nodes, "secret");
    assert_eq!(
        standings,
        nodes.iter().map(standing).collect::<Vec<_>>(),
        "slots, roles and epochs are what they were"
    );
    assert_same(&before, &contents(&nodes));
    line()
        .run()
        .status(0)
        .stdout_has("[OK] These nodes all see each other.");
}

fn is_whole_with(nodes: &Nodes, password: &str) {
    Trib::new()
        .args(["check", &nodes[0].addr(), "-a", password, "--wait", "30s"])
        .run()
        .status(0);
}

/// What each of two clusters knows.
fn ids(nodes: &[Server]) -> Vec<String> {
    let text = nodes[0].nodes_text();
    let mut ids: Vec<String> = text.lines().map(|line| line[..40].to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn at_the_addresses_of_others_matrix() {
    for version in versions() {
        at_the_addresses_of_others(&quick().version(version));
    }
}

/// Members that stand where other members were, and members of two clusters that stand where those of
/// the other were.
fn at_the_addresses_of_others(spec: &Spec) {
    let (mut ours, mut theirs) = (Nodes::with(3, spec), Nodes::with(3, spec));
    for nodes in [&ours, &theirs] {
        nodes.form(3);
    }
    let known = [ids(&ours), ids(&theirs)];
    for node in ours.iter().chain(theirs.iter()) {
        node.kill();
    }
    let (first, rest) = ours.split_at_mut(1);
    first[0].trade_places(&mut rest[0]);
    rest[1].trade_places(&mut theirs[0]);
    for node in &mut theirs[1..] {
        node.move_away();
    }
    rejoin(ours.iter().chain(theirs.iter()))
        .arg("--yes")
        .run()
        .status(3)
        .stderr_has("belong to different clusters");
    for nodes in [&ours, &theirs] {
        rejoin(nodes.iter()).arg("--yes").run().status(0);
        is_whole(nodes);
    }
    assert_eq!(known, [ids(&ours), ids(&theirs)]);
}

#[test]
fn who_lost_its_memory_is_named() {
    let mut nodes = Nodes::with(3, &quick());
    nodes.form(3);
    scatter(&mut nodes);
    nodes[2].start_anew();
    rejoin(nodes.iter())
        .arg("--yes")
        .run()
        .status(3)
        .stderr_has(&format!(
            "{} ({}) knows no other node",
            nodes[2].addr(),
            &nodes[2].id()[..8]
        ));
    assert!(
        nodes[0].nodes_text().contains("fail") || !nodes[0].nodes_text().contains(&nodes[1].addr())
    );
    // The others can do without it.
    rejoin(&nodes[..2])
        .arg("--yes")
        .run()
        .status(0)
        .stdout_has("was not named, or does not answer");
}

/// A replica that hears of its master's new address from others notes it, and goes on calling the old one: here the
/// two can't hear each other while they meet.
#[test]
fn a_replica_that_calls_its_master_where_it_was_matrix() {
    // A host of its own needs --bind-source-addr, which 6.2 does not have.
    for version in versions().iter().filter(|one| **one != "redis-6.2") {
        // Which node hears of the other first depends on gossip. Versions other than 7.0 always hear
        // of it.
        let called = |_| a_replica_that_calls_its_master_where_it_was(&quick().version(version));
        let tries = if *version == "redis-7.0" { 8 } else { 1 };
        let has_called = (0..tries).any(called);
        assert!(has_called || *version != "redis-7.0", "it never called");
    }
}

/// Whether it did.
fn a_replica_that_calls_its_master_where_it_was(spec: &Spec) -> bool {
    let network = Network::new();
    let mut nodes = Nodes::each(4, |index| {
        let host = format!("127.0.9.{}", index + 1);
        spec.clone().host_in(&network, &host)
    });
    nodes.form(3);
    let old = nodes[0].port().to_string();
    scatter(&mut nodes);
    network.cut_bus_between(nodes[0].host(), nodes[3].host());
    let line = network.trib().args(["fix", "--rejoin", "--yes"]);
    let run = line.args(nodes.addrs()).timeout(PATIENCE * 2).spawn();
    let (master, replica) = (&nodes[0], &nodes[3]);
    for (node, other) in [(replica, master), (master, replica)] {
        until("it to have heard where the other is", PATIENCE, || {
            let text = node.nodes_text();
            if text.contains(&other.addr()) {
                Ok(())
            } else {
                Err(text)
            }
        });
    }
    network.heal();
    let has_called = replica.field("master_port").unwrap() == old;
    run.wait().status(0).stderr_lacks("without a link");
    assert_eq!(
        replica.field("master_port").unwrap(),
        master.port().to_string()
    );
    // It may be receiving its copy still.
    until("the link to be up", PATIENCE, || {
        match replica.field("master_link_status").unwrap().as_str() {
            "up" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    has_called
}

/// The tasks of a service: each stands where another one was, and they are found by the service's name.
#[test]
fn a_name_that_stands_for_all() {
    let addrs = ["127.0.2.2", "127.0.2.3", "127.0.2.4"];
    let nodes = services(&addrs);
    create(nodes.iter().map(Server::addr))
        .arg("--yes")
        .run()
        .status(0);
    let known = ids(&nodes);
    nodes.iter().for_each(Server::kill);
    let files: Vec<Vec<u8>> = nodes
        .iter()
        .map(|node| std::fs::read(node.dir().join("nodes.conf")).unwrap())
        .collect();
    for (node, file) in nodes.iter().zip(files.iter().cycle().skip(1)) {
        std::fs::write(node.dir().join("nodes.conf"), file).unwrap();
        node.restart();
    }
    let lines = addrs.map(|addr| (addr, "tasks.redis"));
    let hosts = Hosts::new(&lines);
    let name = format!("tasks.redis:{}", nodes[0].port());
    let line = || hosts.trib().args(["fix", "--rejoin", &name]);
    line()
        .arg("--dry-run")
        .run()
        .status(0)
        .stdout_has("meets the others at their new addresses");
    line().arg("--yes").run().status(0);
    is_whole(&nodes);
    assert_eq!(known, ids(&nodes));
    line()
        .run()
        .status(0)
        .stdout_has("These nodes all see each other");
}
