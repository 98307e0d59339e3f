//! Servers of several RDB versions in one cluster: values of a newer one do not go to an older one.

use crate::support::cluster::Nodes;
use crate::support::command::{Finished, Trib};
use crate::support::findings::{codes, finding};
use crate::support::keys::{assert_same, contents, fill, put_asking};
use crate::support::server::{Server, quick, versions};
use crate::support::slots::{assert_closed, names, owned, setslot};
use crate::support::subcommands::{check_json, fix, reshard};
use crate::support::wait::{PATIENCE, until};

/// A newer server, and older ones that can't read its values.
const PAIRS: [(&str, &str); 5] = [
    ("redis-8.2", "redis-7.0"),
    ("redis-8.6", "redis-8.2"),
    ("redis-8.10", "redis-8.6"),
    ("valkey-9.1", "valkey-8.1"),
    ("redis-7.0", "redis-6.2"),
];

/// Three masters, of which the first runs the newer version.
fn mixed(newer: &str, older: &str) -> Nodes {
    let nodes = Nodes::each(3, |index| {
        quick().version(if index == 0 { newer } else { older })
    });
    nodes.form(3);
    nodes
}

fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    let is_there = versions().len() > 1;
    PAIRS.into_iter().filter(move |_| is_there)
}

#[test]
fn matrix_slots_of_a_newer_server_do_not_go_to_an_older_one() {
    for (newer, older) in pairs() {
        let nodes = mixed(newer, older);
        fill(&nodes, &names((0..10).chain(6000..6010), 5));
        let before = contents(&nodes);
        let numbers = newer.rsplit('-').next().unwrap();
        let to = |from: usize, to: usize| {
            let (from, to) = (nodes[from].id(), nodes[to].id());
            reshard(&nodes[0]).args(["--from", &from, "--to", &to, "--slots", "5", "--yes"])
        };
        let refused = to(0, 1).run().status(3);
        let refused = refused.stderr_has(numbers).stderr_has("RDB version");
        refused.stderr_has(older.rsplit('-').next().unwrap());
        let addr = nodes[0].addr();
        let id = nodes[0].id();
        let drain = ["rebalance", &addr, "--weight", &format!("{id}=0"), "--yes"];
        Trib::new().args(drain).run().status(3).stderr_has(numbers);
        // The other direction is fine.
        to(1, 0).run().status(0);
        assert_closed(&nodes);
        assert_same(&before, &contents(&nodes));
    }
}

#[test]
fn matrix_fix_takes_back_a_move_to_an_older_server() {
    for (newer, older) in pairs() {
        let nodes = mixed(newer, older);
        fill(&nodes, &names(0..2, 3));
        let before = contents(&nodes);
        for slot in 0..3 {
            setslot(&nodes[1], slot, &["IMPORTING", &nodes[0].id()]);
            setslot(&nodes[0], slot, &["MIGRATING", &nodes[1].id()]);
        }
        // A client was redirected.
        let late = format!("{}:late", names([0], 1)[0]);
        put_asking(&nodes[1], &late, "v");
        reshard(&nodes[0])
            .args([
                "--finish-open",
                "--from",
                &nodes[0].id(),
                "--to",
                &nodes[1].id(),
            ])
            .args(["--slots", "1", "--yes"])
            .run()
            .status(3)
            .stderr_has("redis-trib fix");
        fix(&nodes[2]).arg("--yes").run().status(0);
        assert_closed(&nodes);
        let mut after = contents(&nodes);
        assert!(
            after.remove(&(0, late.into_bytes())).is_some(),
            "{newer} {older}"
        );
        assert_same(&before, &after);
        let count = nodes[1].cmd(&["CLUSTER", "COUNTKEYSINSLOT", "0"]);
        assert_eq!(count, redis::Value::Int(0), "{newer} {older}");
    }
}

#[test]
fn matrix_a_replica_that_can_not_sync_is_an_error() {
    // Valkey writes what an older replica reads.
    for (newer, older) in pairs().filter(|(newer, _)| newer.starts_with("redis")) {
        let nodes = Nodes::each(2, |index| quick().version([newer, older][index]));
        nodes.assign(0, 0..16384);
        nodes.join();
        nodes.wait_usable();
        fill(&nodes[..1], &names(0..2, 3));
        let joined = quick().version(older).start();
        let addr = nodes[0].addr();
        let add = ["add-node", "--replica", &joined.addr(), &addr, "--yes"];
        Trib::new()
            .args(add)
            .run()
            .status(3)
            .stderr_has(older.rsplit('-').next().unwrap());

        nodes[1].cmd(&["CLUSTER", "REPLICATE", &nodes[0].id()]);
        let json = until("check to find it", PATIENCE, || {
            let json = check_json(&addr).run().json();
            match codes(&json).contains(&"replica-cannot-sync") {
                true => Ok(json),
                false => Err(format!("{:#}", json["findings"])),
            }
        });
        let found = finding(&json, "replica-cannot-sync");
        assert_eq!(found["nodes"][0], nodes[1].id().as_str());
        assert!(!codes(&json).contains(&"replica-syncing"), "{json:#}");
        assert!(!codes(&json).contains(&"replica-link-down"), "{json:#}");
    }
}

#[test]
fn matrix_create_gives_no_replica_a_master_that_it_can_not_follow() {
    for (newer, older) in pairs().filter(|(newer, _)| newer.starts_with("redis")) {
        // The last three become replicas.
        let nodes = Nodes::each(6, |index| {
            quick().version(if index < 3 { newer } else { older })
        });
        let create = |args: &[&str]| {
            let create = Trib::new().args(["create", "--yes", "--replicas", "1"]);
            create.args(args).args(nodes.addrs())
        };
        // One command for all of them, which redis-cli's form does not have.
        let replicas = nodes[3..].iter();
        let pinned: String = replicas
            .map(|node| format!(" --pin-master {}", node.addr()))
            .collect();
        let remedy = format!("make masters of them (redis-trib create{pinned})");
        let ended = create(&[]).run().status(3).stderr_has("RDB version");
        let said = ended
            .stderr
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert_eq!(said.matches(&remedy).count(), 1, "{said}");
        assert_eq!(said.matches("--pin-master").count(), 3, "{said}");
        let old_form = Trib::new()
            .args(["--cluster", "create"])
            .args(nodes.addrs());
        let ended = old_form
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .run();
        let said = ended
            .status(1)
            .stderr
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(said.contains(&remedy), "{said}");
        for server in nodes.iter() {
            assert_eq!(server.field("cluster_known_nodes").unwrap(), "1");
        }
        // The older ones as masters are followed by the newer ones.
        let pins: Vec<String> = nodes[3..].iter().map(|node| node.addr()).collect();
        let pins: Vec<&str> = pins.iter().flat_map(|pin| ["--pin-master", pin]).collect();
        create(&pins)
            .run()
            .status(0)
            .stdout_has("nodes run different versions");
        nodes.wait_usable();
    }
}

const OLD: &str = "redis-7.0";
const NEW: &str = "redis-8.6";

/// A cluster in the middle of an upgrade: the nodes in `older` still run the old version.
fn upgrading(count: usize, masters: usize, older: &[usize]) -> Nodes {
    let nodes = Nodes::each(count, |index| {
        quick().version(if older.contains(&index) { OLD } else { NEW })
    });
    nodes.form(masters);
    nodes
}

fn master_of(node: &Server) -> String {
    let text = node.nodes_text();
    let own = text.lines().find(|line| line.contains("myself")).unwrap();
    own.split(' ').nth(3).unwrap().to_owned()
}

fn drain(nodes: &Nodes, leaving: &[usize]) -> Finished {
    let ids: Vec<String> = leaving.iter().map(|index| nodes[*index].id()).collect();
    Trib::new()
        .args(["del-node", &nodes[1].addr(), "--drain", "--yes"])
        .args(ids)
        .run()
}

#[test]
fn a_drain_gives_a_replica_to_a_master_that_it_can_follow() {
    // The second master has the lower slots and no more replicas, and is newer.
    let nodes = upgrading(6, 3, &[0, 2, 3, 5]);
    fill(&nodes[..3], &names(0..20, 2));
    let before = contents(&nodes[..3]);
    drain(&nodes, &[0]).status(0).stderr_lacks("still without");
    assert_eq!(master_of(&nodes[3]), nodes[2].id());
    assert_eq!(nodes[3].field("master_link_status").unwrap(), "up");
    assert_same(&before, &contents(&nodes[1..3]));
}

#[test]
fn a_drain_that_leaves_a_replica_no_master_to_follow_is_refused() {
    let nodes = upgrading(4, 3, &[0, 3]);
    fill(&nodes[..3], &names(0..20, 2));
    let before = contents(&nodes[..3]);
    let slots = owned(&nodes[0]);
    drain(&nodes, &[0])
        .status(3)
        .stderr_has(&nodes[3].addr())
        .stderr_has("redis 7.0.15 (RDB version 10)")
        .stderr_has("RDB version 13")
        .stderr_has("name it too")
        .stderr_has("Nothing was changed");
    assert_eq!(owned(&nodes[0]), slots);
    assert_eq!(master_of(&nodes[3]), nodes[0].id());
    // The remedy.
    drain(&nodes, &[0, 3]).status(0);
    assert_same(&before, &contents(&nodes[1..3]));
}

#[test]
fn place_gives_no_replica_a_master_that_it_can_not_follow() {
    let nodes = Nodes::each(4, |index| {
        quick().version(if index == 1 { NEW } else { OLD })
    });
    nodes.assign(0, 0..8192);
    nodes.assign(1, 8192..16384);
    for (index, epoch) in ["1", "2"].iter().enumerate() {
        nodes[index].cmd(&["CLUSTER", "SET-CONFIG-EPOCH", epoch]);
    }
    nodes.join();
    nodes.replicate(2, 0);
    nodes.replicate(3, 0);
    nodes.wait_usable();
    Trib::new()
        .args(["place", &nodes[0].addr(), "--move-replicas", "--yes"])
        .run()
        .status(0);
    for replica in [2, 3] {
        assert_eq!(master_of(&nodes[replica]), nodes[0].id());
    }
}

/// The usual way to upgrade, and a wrong one: the slots of an older master move to a newer one.
#[test]
fn moves_that_empty_an_older_master_say_what_becomes_of_it() {
    const SETTING: &str = "cluster-allow-replica-migration";
    let nodes = upgrading(4, 3, &[0, 3]);
    fill(&nodes[..3], &names(0..20, 2));
    let before = contents(&nodes[..3]);
    let slots = owned(&nodes[0]);
    let (first, last) = slots[0];
    let empty = || {
        reshard(&nodes[1])
            .args(["--slot-ranges", &format!("{first}-{last}")])
            .args(["--to", &nodes[1].id()])
    };
    let remedy = format!(
        "redis-trib del-node {} {} {} --drain",
        nodes[1].addr(),
        nodes[0].id(),
        nodes[3].id()
    );
    let warned = empty().arg("--dry-run").run().status(0);
    let warned = warned
        .stderr
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(warned.contains("unable to sync"), "{warned}");
    assert!(warned.contains(&remedy), "{warned}");
    for (index, value) in [(0, "no"), (3, "no"), (0, "yes"), (3, "yes")] {
        nodes[index].cmd(&["CONFIG", "SET", SETTING, value]);
        if (index, value) == (3, "no") {
            let quiet = empty().arg("--dry-run").run().status(0);
            quiet.stderr_lacks("unable to sync");
        }
    }
    // It says so, and does not wait for a copy that can't come.
    empty()
        .arg("--yes")
        .run()
        .status(0)
        .stderr_has("can't sync: it runs redis 7.0.15")
        .stderr_lacks("still without a copy");
    assert_same(&before, &contents(&nodes[1..3]));
}
