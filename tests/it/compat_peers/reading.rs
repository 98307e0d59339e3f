//! Lines that change nothing, on a healthy cluster: `check`, `info`, `call`, `rebalance --cluster-simulate`.

use super::row::{Row, same};
use super::state::Side;
use super::{Peer, play};
use crate::support::cluster::Nodes;
use crate::support::keys::fill;

const OWNERS: &str =
    "three [OK] lines are what scripts count, and several owners are searched for always";
const FAILED: &str = "a command that failed on a node is no success";

/// Three masters with a replica each, and two nodes that are in no cluster.
pub(super) fn healthy() -> Side {
    let nodes = Nodes::quick(8);
    for (index, slots) in [0..=5999, 6000..=10_999, 11_000..=16_383]
        .into_iter()
        .enumerate()
    {
        nodes.assign(index, slots);
        nodes[index].cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
    }
    for index in 1..6 {
        nodes.meet(index, 0);
    }
    let side = Side::new(nodes);
    side.settle();
    for index in 3..6 {
        side.until_known(index, index - 3);
        side.nodes.replicate(index, index - 3);
    }
    side.settle();
    side.nodes.set_long_node_timeout();
    let keys: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    fill(&side.nodes[..3], &keys);
    side
}

fn check_and_info() -> Vec<Row> {
    vec![
        same("--cluster check {a0}"),
        same("--cluster check {a1}"),
        same("--cluster check {a4}"),
        same("--cluster check 127.0.0.1 {p0}"),
        same("--cluster check {a2}@12345"),
        same("--cluster check localhost:{p0}"),
        same("--cluster check localhost {p1}"),
        same("--verbose --cluster check {a0} --cluster-yes"),
        same("-c --cluster check {a0}"),
        same("--no-auth-warning --cluster check {a0}"),
        same("--cluster check {a0} --cluster-search-multiple-owners")
            .only_theirs("[OK] No multiple owners found.", OWNERS),
        same("--cluster check {a0} --cluster-fix-with-unreachable-masters"),
        same("--cluster check {a0} -t 5")
            .exit(1, 0, "an option of redis-cli since 7.2")
            .only_ours("", "an option of redis-cli since 7.2"),
        same("--cluster check {a0} --cluster-timeout 0"),
        same("--cluster check {a0} --cluster-pipeline 0"),
        same("--cluster check {a0} --cluster-slots -1"),
        same("--cluster check {a0} --cluster-replicas 7 --cluster-weight a=1"),
        // A node that is in no cluster.
        same("--cluster check {a6}"),
        same("--cluster check 127.0.0.1:1"),
        same("--cluster check nosuchhost.invalid:7000"),
        same("--cluster info {a0}"),
        same("--cluster info {a3}"),
        same("--cluster info 127.0.0.1 {p2}"),
        same("--cluster info localhost:{p2}"),
        same("--cluster info {a0} --cluster-yes"),
        same("--cluster info {a6}"),
        same("--cluster info 127.0.0.1:1"),
        same("-p {p0} --cluster info {a1}"),
    ]
}

fn call() -> Vec<Row> {
    vec![
        same("--cluster call {a0} ping"),
        same("--cluster call {a0} PING"),
        same("--cluster call {a4} dbsize"),
        same("--cluster call {a0} config get maxmemory"),
        same("--cluster call {a0} Config Get maxmemory"),
        same("--cluster call {a0} config get maxmemory --cluster-only-masters"),
        same("--cluster call {a0} config get maxmemory --cluster-only-replicas"),
        same("--cluster-only-masters --cluster call {a0} dbsize"),
        same("--cluster call {a0} cluster keyslot user:1000"),
        same("--cluster call {a0} cluster countkeysinslot 5"),
        same("--cluster call {a0} echo {empty}"),
        same("--cluster call {a0} object freq nokey").exit(0, 1, FAILED),
        same("--cluster call {a0} nosuchcommand").exit(0, 1, FAILED),
        same("--cluster call {a0} get").exit(0, 1, FAILED),
        same("-x --cluster call {a0} echo").stdin("fed"),
        same("-X T --cluster call {a0} echo T").stdin("fed"),
        same("--cluster call {a0} config set maxmemory 1000001 --cluster-only-masters"),
        same("--cluster call {a0} config set maxmemory 1000002"),
        same("--cluster call {a0} config set maxmemory 0 --cluster-only-replicas"),
        same("--cluster call {a0} config set maxmemory 0"),
        same("--cluster call {a0}"),
        same("--cluster call 127.0.0.1:1 ping"),
    ]
}

fn simulated() -> Vec<Row> {
    vec![
        same("--cluster rebalance {a0} --cluster-simulate --cluster-threshold 20"),
        same("--cluster rebalance {a0} --cluster-simulate --cluster-threshold 50"),
        same("--cluster rebalance 127.0.0.1 {p0} --cluster-simulate --cluster-threshold 30"),
        same("--cluster rebalance {a0} --cluster-threshold 33.5"),
        same("--cluster rebalance {a0} --cluster-threshold 50%"),
        same("--cluster rebalance {a0} --cluster-threshold 40 --cluster-threshold 25"),
        same(
            "--cluster rebalance {a0} --cluster-weight {i0}=1.2 {i1}=1 {i2}=1.0768 --cluster-threshold 3",
        ),
        same(
            "--cluster rebalance {a0} --cluster-weight {s0}=1.2 {s1}=1 {s2}=1.0768 --cluster-threshold 3",
        ),
        same("--cluster rebalance {a0} --cluster-threshold 20 --cluster-timeout 0"),
        same("--cluster rebalance {a0} --cluster-threshold 20 --cluster-pipeline 20000"),
        same("--cluster rebalance {a0} --cluster-threshold 20 --cluster-replace"),
        same("--cluster rebalance {a0} --cluster-threshold 20 --cluster-use-empty-masters"),
        // A weight for a replica, or for a node that is not a member.
        same("--cluster rebalance {a0} --cluster-weight {i4}=3 --cluster-threshold 20"),
        same("--cluster rebalance {a0} --cluster-weight {s4}=3 --cluster-threshold 20"),
        same("--cluster rebalance {a0} --cluster-weight ffffffff=1 --cluster-threshold 20")
            .only_ours("", "the cluster is checked before the names are looked up"),
        same("--cluster rebalance 127.0.0.1:1"),
    ]
}

#[test]
fn a_healthy_cluster_is_read_alike() {
    let rows = [check_and_info(), call(), simulated(), super::usage::rows()];
    play(
        &Peer::RedisCli,
        healthy,
        rows.into_iter().flatten().collect(),
    );
}
