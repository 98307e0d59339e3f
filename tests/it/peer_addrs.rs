//! Addresses between servers: CLUSTER MEET and MIGRATE use those of the nodes, not those that only clients reach.

use std::fs;

use crate::support::cluster::{Nodes, three};
use crate::support::command::Trib;
use crate::support::keys::{assert_same, contents, fill};
use crate::support::proxy::{Cut, Proxy};
use crate::support::server::{Server, Spec, has_ipv6, quick};
use crate::support::slots::{assert_closed, names, owned};
use crate::support::subcommands::{check, create, reshard};
use crate::support::wait::{PATIENCE, until};

/// An address of a documentation network, which nobody reaches.
const OUTSIDE: &str = "203.0.113.7";

fn map() -> [&'static str; 2] {
    ["--address-map", "203.0.113.7=127.0.0.1"]
}

fn for_clients(version: &str) -> Spec {
    quick()
        .version(version)
        .arg("--cluster-announce-client-ipv4", OUTSIDE)
}

/// All the ways in which nodes get to know each other, and keys move.
fn live_through(nodes: &Nodes) {
    let addrs = nodes.addrs();
    create(&addrs[..3]).args(map()).arg("--yes").run().status(0);
    let add = |addr: &str| {
        Trib::new()
            .args(["add-node", addr, &addrs[0], "--yes"])
            .args(map())
    };
    add(&addrs[3]).run().status(0);
    let master = nodes[0].id();
    add(&addrs[4])
        .args(["--replica", "--master-id", &master])
        .run()
        .status(0);
    fill(&nodes[..3], &names(0..10, 5));
    let before = contents(nodes);
    reshard(&nodes[0])
        .args(["--slot-ranges", "0-9", "--to", &nodes[3].id(), "--yes"])
        .args(["--strategy", "keys"])
        .args(map())
        .run()
        .status(0);
    assert_closed(nodes);
    assert_eq!(owned(&nodes[3]), [(0, 9)]);
    assert_same(&before, &contents(nodes));
    check(&addrs[0]).args(map()).run().status(0);
}

#[test]
fn addresses_for_clients_are_not_used_between_nodes_matrix() {
    for version in ["valkey-9.1", "valkey-8.0"] {
        live_through(&Nodes::with(5, &for_clients(version)));
    }
}

#[test]
fn addresses_for_clients_where_config_is_denied() {
    let nodes = three(&for_clients("valkey-9.1"));
    let new = for_clients("valkey-9.1").start();
    for node in nodes.iter().chain([&new]) {
        node.cmd(&[
            "ACL", "SETUSER", "mover", "on", ">m", "~*", "&*", "+@all", "-config",
        ]);
    }
    let as_mover = |trib: Trib| {
        let trib = trib.env("REDISCLI_AUTH", "m").args(["--user", "mover"]);
        trib.args(map()).arg("--yes")
    };
    let moved = reshard(&nodes[0]).args(["--slot-ranges", "0-9", "--to", &nodes[1].id()]);
    as_mover(moved.args(["--strategy", "keys"])).run().status(0);
    as_mover(Trib::new().args(["add-node", &new.addr(), &nodes[0].addr()]))
        .run()
        .status(0);
}

#[test]
fn ports_for_clients_are_not_used_between_nodes() {
    let nodes = Nodes::with(4, &quick().version("valkey-9.1"));
    for n in 0..3 {
        nodes.assign(n, (n * 5462)..=(n * 5462 + 5461).min(16_383));
    }
    let told = |node: &Server| node.port() % 10_000 + 50_000;
    let mut maps = Vec::new();
    for node in nodes.iter() {
        let port = told(node).to_string();
        node.cmd(&["CONFIG", "SET", "cluster-announce-client-port", &port]);
        maps.push(format!("127.0.0.1:{port}={}", node.addr()));
    }
    let mapped = |mut trib: Trib| {
        for map in &maps {
            trib = trib.args(["--address-map", map]);
        }
        trib
    };
    // The fourth joins by add-node.
    nodes.meet(0, 1);
    nodes.meet(0, 2);
    nodes.meet(1, 2);
    for node in &nodes[..3] {
        until("three nodes that serve", PATIENCE, || {
            let is_ok = node.field("cluster_state").as_deref() == Some("ok");
            let text = node.nodes_text();
            let all = nodes[..3]
                .iter()
                .all(|other| text.contains(&format!(":{}@", told(other))));
            if is_ok && all { Ok(()) } else { Err(text) }
        });
    }
    fill(&nodes[..3], &names(0..10, 5));
    let before = contents(&nodes);
    let add = Trib::new().args(["add-node", &nodes[3].addr(), &nodes[0].addr(), "--yes"]);
    mapped(add).run().status(0);
    let go = reshard(&nodes[0]).args(["--slot-ranges", "0-9", "--to", &nodes[3].id(), "--yes"]);
    mapped(go).args(["--strategy", "keys"]).run().status(0);
    assert_same(&before, &contents(&nodes));
}

/// A node that moved keeps its old address in its own line until somebody meets it.
#[test]
fn a_stale_own_line_is_not_used() {
    let nodes = three(&quick());
    fill(&nodes[..3], &names(0..10, 5));
    let before = contents(&nodes);
    nodes[1].kill();
    let file = nodes[1].dir().join("nodes.conf");
    let text = fs::read_to_string(&file).unwrap();
    let lines = text.lines().map(|line| match line.contains("myself") {
        true => line.replace("127.0.0.1:", "203.0.113.7:"),
        false => line.to_owned(),
    });
    fs::write(&file, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
    nodes[1].restart();
    nodes.wait_usable();
    assert!(
        nodes[1].nodes_text().contains("203.0.113.7"),
        "{}",
        nodes[1].nodes_text()
    );
    let go = |from: usize, to: usize| {
        reshard(&nodes[0])
            .args([
                "--slots",
                "10",
                "--from",
                &nodes[from].id(),
                "--to",
                &nodes[to].id(),
                "--yes",
            ])
            .run()
            .status(0);
    };
    go(0, 1);
    go(1, 2);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}

/// A node that announces a port at which nothing listens is reached as we reach it.
#[test]
fn the_address_that_was_given_is_tried_last() {
    let nodes = three(&quick());
    fill(&nodes[..3], &names(0..10, 5));
    let before = contents(&nodes);
    let target = &nodes[1];
    let wrong = target.port() + 3000;
    target.cmd(&["CONFIG", "SET", "cluster-announce-port", &wrong.to_string()]);
    until("the port to be known", PATIENCE, || {
        let text = nodes[0].nodes_text();
        let is_known = text.contains(&format!(":{wrong}@"));
        if is_known { Ok(()) } else { Err(text) }
    });
    reshard(&nodes[0])
        .args(["--slot-ranges", "0-9", "--to", &target.id(), "--yes"])
        .args([
            "--address-map",
            &format!("127.0.0.1:{wrong}={}", target.addr()),
        ])
        .run()
        .status(0);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}

/// A third master that announces the first of two proxies and that we reach through the second.
struct TwoAddresses {
    nodes: Nodes,
    announced: Proxy,
    ours: Proxy,
}

impl TwoAddresses {
    fn new(spec: &Spec) -> Self {
        let [announced, ours] = [Proxy::unconnected(), Proxy::unconnected()];
        let nodes = Nodes::each(3, |index| match index {
            2 => spec
                .clone()
                .arg("--cluster-announce-port", announced.port()),
            _ => spec.clone(),
        });
        announced.point_at(&nodes[2].addr());
        ours.point_at(&nodes[2].addr());
        nodes.form(3);
        Self {
            nodes,
            announced,
            ours,
        }
    }

    fn reshard(&self, ranges: &str) -> Trib {
        reshard(&self.nodes[0])
            .args(["--slot-ranges", ranges, "--to", &self.nodes[2].id()])
            .args(["--yes", "--strategy", "keys", "--address-map"])
            .arg(format!("{}={}", self.announced.addr(), self.ours.addr()))
    }
}

/// The keys that came through a proxy.
fn keys_through(proxy: &Proxy) -> Vec<String> {
    let commands = proxy.commands().into_iter();
    let key = |command: String| {
        let mut words = command.split(' ');
        let is_restore = words.next() == Some("RESTORE-ASKING");
        is_restore.then(|| words.next().unwrap_or_default().to_owned())
    };
    commands.filter_map(key).collect()
}

/// One source reaches the target at one address only, another at another one: each uses what its own trial found.
#[test]
fn each_source_uses_the_address_that_works_for_it() {
    let two = TwoAddresses::new(&quick());
    let nodes = &two.nodes;
    let slots = [0..10, 6000..6010];
    let keys = slots.clone().map(|slots| names(slots, 5));
    fill(nodes, &keys.concat());
    let before = contents(nodes);
    let mut sources = [0, 1];
    sources.sort_by_key(|index| nodes[*index].id());
    let [first, second] = sources;
    // The trial of the second source, and its repetition by the server.
    for _ in 0..2 {
        two.announced
            .cut(Cut::before("RESTORE-ASKING").nth(2).reset());
    }
    two.reshard("0-9,6000-6009").run().status(0);
    assert_closed(nodes);
    assert_same(&before, &contents(nodes));
    let (announced, ours) = (keys_through(&two.announced), keys_through(&two.ours));
    for key in &keys[first] {
        assert!(announced.contains(key), "{key}: {announced:?}");
        assert!(!ours.contains(key), "{key}: {ours:?}");
    }
    for key in &keys[second] {
        assert!(ours.contains(key), "{key}: {ours:?}");
    }
}

/// A trial at an address from which nothing comes back does not hold up the clients of the source for as long as a move may.
#[test]
fn a_trial_is_short() {
    let two = TwoAddresses::new(&quick());
    let nodes = &two.nodes;
    fill(nodes, &names(0..10, 5));
    let before = contents(nodes);
    nodes[0].cmd(&["CONFIG", "SET", "slowlog-log-slower-than", "500000"]);
    two.announced.stall();
    two.reshard("0-9")
        .args(["--migrate-timeout", "20s"])
        .run()
        .status(0);
    assert_closed(nodes);
    assert_same(&before, &contents(nodes));
    let slow: Vec<(i64, i64, i64, Vec<String>, String, String)> =
        redis::from_redis_value(nodes[0].cmd(&["SLOWLOG", "GET"])).unwrap();
    let migrates = slow
        .iter()
        .filter(|(_, _, _, words, ..)| words[0] == "MIGRATE");
    let longest = migrates.map(|(_, _, took, ..)| *took).max().unwrap();
    assert!(longest < 10_000_000, "{slow:?}");
}

#[test]
fn nodes_of_ipv6_tell_clients_of_ipv4_another_address() {
    if !has_ipv6() {
        return;
    }
    let spec = quick()
        .version("valkey-9.1")
        .bind("::1")
        .arg("--cluster-announce-client-ipv6", "2001:db8::7");
    let nodes = Nodes::with(4, &spec);
    let map = ["--address-map", "[2001:db8::7]=[::1]"];
    let addrs = nodes.addrs();
    create(&addrs[..3]).args(map).arg("--yes").run().status(0);
    Trib::new()
        .args(["add-node", &addrs[3], &addrs[0], "--yes"])
        .args(map)
        .run()
        .status(0);
    reshard(&nodes[0])
        .args([
            "--slot-ranges",
            "0-9",
            "--to",
            &nodes[3].id(),
            "--yes",
            "--strategy",
            "keys",
        ])
        .args(map)
        .run()
        .status(0);
}
