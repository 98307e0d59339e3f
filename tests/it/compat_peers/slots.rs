//! Lines that move slots: `reshard` and `rebalance`.

use super::row::{Row, same};
use super::state::Side;
use super::{Peer, play};
use crate::support::cluster::Nodes;
use crate::support::keys::fill;

const EMPTY: &str = "with 0 keys a MIGRATE a full slot looks empty, and its keys are lost";

const ROUNDED: &str = "the share of the first source is rounded up, all others are rounded down";
const EXACT: &str = "no deviation at all is allowed; there it stands for any deviation";

/// Four masters, the last one without slots.
fn four(sizes: [usize; 3]) -> Side {
    let nodes = Nodes::quick(4);
    let mut first = 0;
    for (index, size) in sizes.into_iter().enumerate() {
        nodes.assign(index, first..first + size);
        first += size;
    }
    for index in 0..4 {
        nodes[index].cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
    }
    nodes.join();
    let side = Side::new(nodes);
    side.settle();
    side.nodes.set_long_node_timeout();
    let keys: Vec<String> = (0..300).map(|n| format!("k{n}")).collect();
    fill(&side.nodes[..3], &keys);
    side
}

fn reshards() -> Vec<Row> {
    let yes = "--cluster-yes";
    vec![
        same(format!("--cluster reshard {{a0}} --cluster-from {{i0}} --cluster-to {{i2}} --cluster-slots 3 {yes}")),
        same(format!("--cluster reshard {{a1}} --cluster-from {{i1}} --cluster-to {{i0}} --cluster-slots 1 {yes}")),
        same(format!("--cluster reshard 127.0.0.1 {{p1}} --cluster-from {{i2}} --cluster-to {{i0}} --cluster-slots 2 {yes}")),
        same("--cluster reshard {a0} --cluster-from {i0} --cluster-to {i1} --cluster-slots 4").stdin("yes"),
        same("--cluster reshard {a0} --cluster-from {i0} --cluster-to {i1} --cluster-slots 4").stdin("yes\n"),
        same("--cluster reshard {a0} --cluster-from {i0} --cluster-to {i1} --cluster-slots 4").stdin("no\n"),
        // The first three bytes are compared.
        same("--cluster reshard {a0} --cluster-from {i0} --cluster-to {i1} --cluster-slots 4").stdin("YES\n"),
        same("--cluster reshard {a0} --cluster-from {i0} --cluster-to {i1} --cluster-slots 4").stdin(" yes\n"),
        same("--cluster reshard {a0} --cluster-from {i0} --cluster-to {i1} --cluster-slots 1").stdin("yes please\n"),
        same("--cluster reshard {a0} --cluster-from {i0} --cluster-to {i1} --cluster-slots 2").env("REDISCLI_CLUSTER_YES", "1"),
        same("--cluster reshard {a0} --cluster-from {i0} --cluster-to {i1} --cluster-slots 2").env("REDISCLI_CLUSTER_YES", "0"),
        // The last one counts.
        same(format!("--cluster reshard {{a0}} --cluster-from {{i1}} --cluster-from {{i0}} --cluster-to {{i2}} --cluster-slots 2 {yes}")),
        same(format!("--cluster reshard {{a0}} --cluster-from {{i0}} --cluster-to {{i1}} --cluster-to {{i2}} --cluster-slots 2 {yes}")),
        same(format!("--cluster reshard {{a0}} --cluster-from {{i0}} --cluster-to {{i1}} --cluster-slots 5 --cluster-slots 1 {yes}")),
        // A list that ends with a comma.
        same(format!("--cluster reshard {{a0}} --cluster-from {{i0}}, --cluster-to {{i1}} --cluster-slots 2 {yes}")),
        same(format!("--cluster reshard {{a0}} --cluster-from {{i0}},{{i2}}, --cluster-to {{i1}} --cluster-slots 2 {yes}"))
            .only_theirs("Moving slot", ROUNDED)
            .only_ours("Moving slot", ROUNDED)
            .other_state(ROUNDED),
    ]
}

fn all_sources() -> Vec<Row> {
    let yes = "--cluster-yes";
    vec![
        same(format!("--cluster reshard {{a0}} --cluster-from all --cluster-to {{i3}} --cluster-slots 4 {yes}")),
        same(format!("--cluster reshard {{a0}} --cluster-from {{i0}},all --cluster-to {{i3}} --cluster-slots 4 {yes}")),
        same(format!("--cluster reshard {{a0}} --cluster-from {{i0}} --cluster-to {{i3}} --cluster-slots 2 --cluster-timeout 0 {yes}")),
        same(format!("--cluster reshard {{a0}} --cluster-from {{i0}} --cluster-to {{i1}} --cluster-slots 2 --cluster-pipeline 20000 {yes}")),
        same(format!("--cluster reshard {{a0}} --cluster-from {{i0}} --cluster-to {{i1}} --cluster-slots 2 --cluster-pipeline 1 {yes}")),
        same(format!("--cluster reshard {{a0}} --cluster-from {{i0}} --cluster-to {{i1}} --cluster-slots 2 --cluster-replace {yes}")),
        same(format!("--cluster reshard {{a0}} --cluster-from {{i0}} --cluster-to {{i1}} --cluster-slots 2 --cluster-timeout 3000 {yes}")),
        same(format!("--cluster reshard {{a0}} --cluster-from {{i0}} --cluster-to {{i1}} --cluster-slots 2 --cluster-pipeline 0 {yes}"))
            .ours_alone(1, EMPTY),
        same(format!("--cluster reshard {{a0}} --cluster-from {{i0}} --cluster-to {{i1}} --cluster-slots 2 --cluster-pipeline ten {yes}"))
            .ours_alone(1, EMPTY),
        same(format!("--cluster reshard {{a0}} --cluster-from {{i0}} --cluster-to {{i1}} --cluster-slots -5 {yes}"))
            .exit(0, 1, "a negative number of slots moves nothing, which is no success")
            .only_theirs("", "a refusal shows no plan"),
        // All that a master owns, and more. It stays a master without slots, or becomes a replica.
        same(format!("--cluster reshard {{a0}} --cluster-from {{i3}} --cluster-to {{i0}} --cluster-slots 16384 {yes}"))
            .only_theirs("Ready to move 16384 slots.", "as many as there are")
            .only_ours("Ready to move ", "as many as there are"),
        // An open slot.
        same(format!("--cluster reshard {{a0}} --cluster-from {{i0}} --cluster-to {{i1}} --cluster-slots 2 {yes}"))
            .before(|side| {
                side.nodes[0].cmd(&["CLUSTER", "SETSLOT", "900", "MIGRATING", side.id(1)]);
                side.nodes[1].cmd(&["CLUSTER", "SETSLOT", "900", "IMPORTING", side.id(0)]);
            }),
        same("--cluster rebalance {a0}"),
        same("--cluster check {a0}"),
        same("--cluster fix {a0}"),
        same("--cluster check {a0}"),
    ]
}

fn rebalances() -> Vec<Row> {
    vec![
        same("--cluster rebalance {a0} --cluster-simulate"),
        same("--cluster rebalance {a0}"),
        same("--cluster rebalance {a0}"),
        same("--cluster rebalance {a1} --cluster-use-empty-masters --cluster-simulate"),
        same("--cluster rebalance {a0} --cluster-weight {i0}=1.01 --cluster-threshold 0.5"),
        same("--cluster rebalance {a0} --cluster-weight {i0}=1.01 --cluster-threshold 0.5"),
        // The last weight of a node counts, and all weights are behind one option.
        same(
            "--cluster rebalance {a0} --cluster-weight {i0}=3 {s0}=1.01 {i0}=1.01 --cluster-threshold 0.5",
        ),
        same("--cluster rebalance {a0} --cluster-weight {i0}=3 --cluster-weight {i1}=2"),
        same("--cluster rebalance {a0} --cluster-threshold 0")
            .only_theirs("*** No rebalancing needed!", EXACT)
            .only_ours("", EXACT)
            .other_state(EXACT),
    ]
}

fn by_name(rows: fn() -> Vec<Row>, sizes: [usize; 3]) {
    play(&Peer::RedisCli, || four(sizes), rows());
}

#[test]
fn slots_are_moved_alike() {
    by_name(reshards, [6000, 5000, 5384]);
}

#[test]
fn slots_of_all_masters_are_moved_alike() {
    by_name(all_sources, [8192, 4096, 4096]);
}

#[test]
fn slots_are_balanced_alike() {
    by_name(rebalances, [5500, 5450, 5434]);
}
