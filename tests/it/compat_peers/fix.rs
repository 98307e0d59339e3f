//! `fix`, and what the other commands say of a cluster that is broken.

use std::thread;
use std::time::Duration;

use super::row::{Row, same};
use super::state::Side;
use super::{Peer, play};
use crate::support::cluster::Nodes;
use crate::support::keys::put_asking;
use crate::support::server::Server;
use crate::support::slots::names;
use crate::support::wait::{PATIENCE, until};

const ON_SLOTS: [usize; 4] = [100, 5000, 7000, 12_000];

fn three() -> Side {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    nodes.set_long_node_timeout();
    Side::new(nodes)
}

/// Nobody owns these slots any more. A message of the owner that was under way assigns them again, so it takes as many
/// attempts as that takes.
fn uncover(side: &Side, slots: &[usize]) {
    let delete = |node: &Server, slot: usize| {
        let deleted = node.try_cmd(&["CLUSTER", "DELSLOTS", &slot.to_string()]);
        usize::from(deleted.is_ok())
    };
    let mut quiet = 0;
    while quiet < 2 {
        let nodes = side.nodes.iter();
        let each = nodes.flat_map(|node| slots.iter().map(move |slot| delete(node, *slot)));
        quiet = match each.sum::<usize>() {
            0 => quiet + 1,
            _ => 0,
        };
        thread::sleep(Duration::from_millis(150));
    }
}

/// A key in a slot of the first node that nobody owns any more.
fn uncover_with_key(side: &Side, slot: usize) {
    let key = names([slot], 1).remove(0);
    side.nodes[0].cmd(&["SET", &key, "v"]);
    uncover(side, &[slot]);
}

fn open(side: &Side, slot: usize, migrating: Option<usize>, importing: Option<usize>) {
    let slot = slot.to_string();
    if let Some(node) = importing {
        let from = side.id(migrating.unwrap_or(0)).to_owned();
        side.nodes[node].cmd(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from]);
    }
    if let Some(node) = migrating {
        let to = side.id(importing.unwrap_or(1)).to_owned();
        side.nodes[node].cmd(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to]);
    }
}

fn fixes() -> Vec<Row> {
    vec![
        same("--cluster fix {a0}"),
        same("--cluster fix 127.0.0.1 {p0}"),
        // Open slots need no consent.
        same("--cluster check {a0}").before(|side| open(side, ON_SLOTS[0], Some(0), None)),
        same("--cluster rebalance {a0}"),
        same("--cluster fix {a0}"),
        same("--cluster fix {a0}")
            .before(|side| open(side, ON_SLOTS[0], None, Some(1)))
            .only_theirs(
                "Moving slot",
                "no key of it is there: it is closed and nothing moves",
            ),
        same("--cluster fix {a0}").before(|side| open(side, ON_SLOTS[1], Some(0), Some(1))),
        same("--cluster fix {a1}").before(|side| {
            for key in names([200], 3) {
                side.nodes[0].cmd(&["SET", &key, "v"]);
            }
            open(side, 200, Some(0), Some(2));
        }),
        same("--cluster fix {a0}").before(|side| {
            open(side, 300, None, Some(1));
            put_asking(&side.nodes[1], &names([300], 1)[0], "v");
        }),
        same("--cluster check {a0}"),
        // Uncovered slots need a yes, whatever the options are.
        same("--cluster check {a0}").before(|side| uncover(side, &[400])),
        same("--cluster fix {a0}"),
        same("--cluster fix {a0}").stdin("no\n"),
        same("--cluster fix {a0} --cluster-yes"),
        same("--cluster fix {a0}").env("REDISCLI_CLUSTER_YES", "1"),
        same(
            "--cluster reshard {a0} --cluster-from {i1} --cluster-to {i0} --cluster-slots 1 --cluster-yes",
        ),
        same("--cluster rebalance {a0}"),
        same("--cluster fix {a0}")
            .stdin("yes\n")
            .only_theirs(">>> Covering slot", "it takes a random master")
            .only_ours(">>> Covering slot", "the master with the fewest slots")
            .other_state("it takes a random master"),
        same("--cluster check {a0}").before(even),
        // With keys on one node.
        same("--cluster check {a0}").before(|side| uncover_with_key(side, 500)),
        same("--cluster fix {a0}"),
        same("--cluster fix {a0}").stdin("no\n"),
        same("--cluster fix {a0} --cluster-yes"),
        same("--cluster fix {a0}").stdin("yes\n"),
        same("--cluster check {a0}"),
    ]
}

/// The slot of the row before belongs to the first master on both sides. redis-cli gave it to a master with the highest
/// epoch: while the first master has a lower one, a ping of that master takes the slot from it again.
fn even(side: &Side) {
    let epoch = |node: &Server| node.field("cluster_current_epoch");
    until("the highest epoch to be known", PATIENCE, || {
        let epochs: Vec<_> = side.nodes.iter().map(epoch).collect();
        match epochs.iter().all(|epoch| *epoch == epochs[0]) {
            true => Ok(()),
            false => Err(format!("{epochs:?}")),
        }
    });
    side.nodes[0].cmd(&["CLUSTER", "BUMPEPOCH"]);
    let first = side.id(0).to_owned();
    for node in side.nodes.iter() {
        node.cmd(&["CLUSTER", "SETSLOT", "400", "NODE", &first]);
    }
}

/// Three masters, each with a replica, of which one is dead.
fn with_dead_replica() -> Side {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    let side = Side::new(nodes);
    // Nobody tells who has not heard of its role before it dies.
    let dying = side.id(5).to_owned();
    for node in side.nodes.iter() {
        until("its role to be known", PATIENCE, || {
            let text = node.nodes_text();
            let line = text.lines().find(|line| line.starts_with(&dying));
            match line.is_some_and(|line| line.contains("slave")) {
                true => Ok(()),
                false => Err(text),
            }
        });
    }
    side.nodes[5].kill();
    side.until_failed(5);
    side
}

fn dead_replica() -> Vec<Row> {
    vec![
        same("--cluster check {a0}"),
        same("--cluster info {a0}"),
        same("--cluster info {a1}"),
        same("--cluster call {a0} ping --cluster-only-masters"),
        same("--cluster rebalance {a0}"),
        same(
            "--cluster reshard {a0} --cluster-from {i0} --cluster-to {i1} --cluster-slots 2 --cluster-yes",
        ),
    ]
}

/// Four masters, of which one is dead.
fn with_dead_master() -> Side {
    let nodes = Nodes::quick(4);
    nodes.form(4);
    let side = Side::new(nodes);
    side.nodes[2].kill();
    side.until_failed(2);
    side
}

fn dead_master() -> Vec<Row> {
    vec![
        same("--cluster check {a0}"),
        same("--cluster info {a0}"),
        same("--cluster fix {a0}"),
        same("--cluster fix {a0}").stdin("yes\nyes\n"),
        same("--cluster fix {a0} --cluster-yes"),
        same("--cluster rebalance {a0}"),
        same("--cluster reshard {a0} --cluster-from {i0} --cluster-to {i1} --cluster-slots 2 --cluster-yes"),
        same("--cluster fix {a0} --cluster-fix-with-unreachable-masters").stdin("yes\n").ours_alone(
            1,
            "the slots of a master that may come back are not given away: it deletes its keys then",
        ),
    ]
}

#[test]
fn a_broken_cluster_is_fixed_alike() {
    play(&Peer::RedisCli, three, fixes());
}

#[test]
fn a_dead_replica_is_reported_alike() {
    play(&Peer::RedisCli, with_dead_replica, dead_replica());
}

#[test]
fn a_dead_master_is_treated_alike() {
    play(&Peer::RedisCli, with_dead_master, dead_master());
}
