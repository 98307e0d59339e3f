//! Lines about members: `create`, `add-node`, `del-node`, `set-timeout`.

use super::row::{Row, same};
use super::state::Side;
use super::{Peer, play};
use crate::support::cluster::Nodes;
use crate::support::server::Spec;

const LIBRARY: &str = "#!lua name=mylib\nredis.register_function('f', function() return 1 end)";

/// Nodes that are in no cluster.
fn apart(count: usize) -> Side {
    Side::new(Nodes::with(count, &Spec::new().quick().config_file()))
}

/// The same on three hosts. (Where replicas can't be kept off their masters' hosts, redis-cli swaps them by chance.)
fn on_three_hosts() -> Side {
    Side::new(Nodes::each(7, |index| {
        let host = format!("127.0.0.{}", 1 + index % 3);
        // Nodes learn their addresses from their connections, which all come from 127.0.0.1.
        let spec = Spec::new().quick().bind(&host);
        spec.arg("--cluster-announce-ip", &host)
    }))
}

const EPOCHS: &str = "a soft reset has left the nodes their epochs";

/// On nodes that were in a cluster before.
fn again(line: impl Into<String>) -> Row {
    same(line)
        .before(reset)
        .only_theirs(">>> Nodes configuration updated", EPOCHS)
        .only_theirs(">>> Assign a different config epoch", EPOCHS)
}

/// All nodes leave their cluster.
fn reset(side: &Side) {
    // Replicas are no masters before, and masters have no keys.
    for _ in 0..2 {
        for node in side.nodes.iter() {
            node.cmd(&["CLUSTER", "RESET", "SOFT"]);
        }
    }
}

const TWICE: &str = "a command that changes can be run again: what is done already is success";

fn creates() -> Vec<Row> {
    let three = "--cluster create {a0} {a1} {a2}";
    let six = "--cluster create {a0} {a1} {a2} {a3} {a4} {a5}";
    vec![
        same(three).exit(0, 1, "a declined create has not created anything"),
        same(three)
            .stdin("no\n")
            .exit(0, 1, "a declined create has not created anything"),
        same(format!("{three} --cluster-replicas 1 --cluster-yes")),
        same("--cluster create {a0} {a1} --cluster-yes"),
        same(format!("{three} --cluster-yes")),
        same(format!("{three} --cluster-yes"))
            .exit(1, 0, TWICE)
            .only_ours("", TWICE),
        again(three).stdin("yes"),
        again(format!("{six} --cluster-replicas 1")).stdin("yes\n"),
        again("--cluster create {a5} {a4} {a3} {a2} {a1} {a0} --cluster-replicas 1 --cluster-yes"),
        again(format!("{six} --cluster-replicas 0 --cluster-yes")),
        again(format!("{six} --cluster-yes")).env("REDISCLI_CLUSTER_YES", "0"),
        again("--cluster create {a0} {a1} {a2} {a3}").env("REDISCLI_CLUSTER_YES", "1"),
        // A node that is a member of another cluster.
        same("--cluster create {a4} {a5} {a0} --cluster-yes"),
    ]
}

/// Three masters, a replica of the first, and nodes that are in no cluster.
fn with_newcomers() -> Side {
    let side = apart(9);
    let nodes = &side.nodes;
    for (index, slots) in [0..=5460, 5461..=10_922, 10_923..=16_383]
        .into_iter()
        .enumerate()
    {
        nodes.assign(index, slots);
        nodes[index].cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
    }
    for index in 1..4 {
        nodes.meet(index, 0);
    }
    side.settle();
    side.until_known(3, 0);
    nodes.replicate(3, 0);
    side.settle();
    nodes.set_long_node_timeout();
    side
}

/// It waits for the node, and says so.
pub(super) fn join(line: &str) -> Row {
    same(line)
        .only_ours("Waiting for the cluster to join", "redis-cli does not wait")
        .only_ours(">>> Sending CLUSTER MEET", "several nodes join at once")
}

const ALONE: &str = "a node that is in no cluster can't be removed from one";

fn joins_and_leaves() -> Vec<Row> {
    vec![
        join("--cluster add-node {a4} {a0}"),
        join("--cluster add-node {a4} {a0}"),
        join("--cluster add-node {a5} {a1} --cluster-slave --cluster-master-id {i1}"),
        same("--cluster check {a5}"),
        join("--cluster add-node {a6} {a0}").before(|side| {
            side.nodes[6].cmd(&["FUNCTION", "LOAD", LIBRARY]);
        }),
        join("--cluster add-node {a6} {a0}").before(|side| {
            side.nodes[6].cmd(&["FUNCTION", "FLUSH"]);
            for index in [0, 1, 2, 4] {
                side.nodes[index].cmd(&["FUNCTION", "LOAD", LIBRARY]);
            }
        }),
        // As a replica of the master with the fewest, which is one only.
        join("--cluster add-node {a7} {a0} --cluster-slave --cluster-master-id {i2}"),
        // As a master: without --cluster-slave the id counts for nothing.
        join("--cluster add-node {a8} {a0} --cluster-master-id {i1}"),
        same("--cluster info {a8}"),
        same("--cluster del-node {a0} {i8}"),
        same("--cluster del-node {a8} {i8}")
            .exit(0, 1, ALONE)
            .only_theirs("", ALONE),
        same("--cluster check {a0}"),
        // A replica, the last one of its master.
        same("--cluster del-node {a0} {i5}"),
        same("--cluster del-node {a1} {i5}"),
        // A master without slots, asked through itself.
        same("--cluster del-node {a4} {i4}"),
        same("--cluster del-node {a0} {i6} --cluster-yes"),
        same("--cluster del-node {a0} {i2}"),
        same("--cluster check {a0}"),
        same("--cluster set-timeout {a0} 3000"),
        same("--cluster set-timeout {a3} 2500"),
        same("--cluster set-timeout {a0} 100"),
        same("--cluster set-timeout {a0} 2000"),
    ]
}

#[test]
fn clusters_are_created_alike() {
    play(&Peer::RedisCli, on_three_hosts, creates());
}

#[test]
fn nodes_join_and_leave_alike() {
    play(&Peer::RedisCli, with_newcomers, joins_and_leaves());
}
