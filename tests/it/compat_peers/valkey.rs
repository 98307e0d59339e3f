//! The same with valkey-cli, for what it says and does in other ways than redis-cli. The matrix brings its own.

use std::path::PathBuf;

use super::members::join;
use super::row::{Row, same};
use super::state::Side;
use super::{Peer, play};
use crate::support::cluster::Nodes;
use crate::support::server::{Spec, valkey_cli};

/// On three hosts: where replicas can't be kept off their masters' hosts, valkey-cli swaps them by chance.
fn apart(version: &str, count: usize) -> Side {
    Side::new(Nodes::each(count, |index| {
        let host = format!("127.0.0.{}", 1 + index % 3);
        // With the short one a node that gets no processor for 2 s is warned of.
        let spec = Spec::new().quick().node_timeout(15_000);
        let spec = spec.version(version).bind(&host);
        spec.arg("--cluster-announce-ip", &host)
    }))
}

const COUNTED: &str = "8.1 says node(s), and 8.0 nodes";
const REMOVED: &str = "8.0 does not say it";
const RANGES: &str = "9.1 names ranges in its plan, and 8.1 and redis-cli each slot";

fn rows() -> Vec<Row> {
    vec![
        same("--cluster help"),
        same("--cluster create {a0} {a1} {a2} {a3} {a4} {a5} --cluster-replicas 1 --cluster-yes")
            .only_theirs(">>> Performing hash slots allocation", COUNTED)
            .only_ours(">>> Performing hash slots allocation", COUNTED),
        same("--cluster check {a0}"),
        same("--cluster check {a4}"),
        same("--cluster info {a1}"),
        same("--cluster call {a0} ping --cluster-only-primaries"),
        same("--cluster call {a0} config get maxmemory --cluster-only-replicas"),
        same("--cluster rebalance {a0}"),
        same(
            "--cluster reshard {a0} --cluster-from {i0} --cluster-to {i1} --cluster-slots 3 --cluster-yes",
        ),
        same("--cluster reshard {a0} --cluster-from {i1} --cluster-to {i0} --cluster-slots 3")
            .stdin("yes"),
        same("--cluster rebalance {a0} --cluster-use-empty-primaries --cluster-threshold 20"),
        join("--cluster add-node {a6} {a0}"),
        same("--cluster del-node {a0} {i6}").only_ours("removed from the cluster", REMOVED),
        // Another node: for a minute the members tell each other to forget the first one, also if it is met again.
        join("--cluster add-node {a7} {a0} --cluster-replica --cluster-primary-id {i1}"),
        same("--cluster del-node {a0} {i7}").only_ours("removed from the cluster", REMOVED),
        same("--cluster fix {a0}"),
    ]
}

fn few() -> Vec<Row> {
    vec![
        same("--cluster create {a0} {a1}"),
        same("--cluster create {a0} {a1} --cluster-yes")
            .only_theirs(">>> Performing hash slots allocation", COUNTED)
            .only_ours(">>> Performing hash slots allocation", COUNTED),
        same("--cluster check {a0}"),
    ]
}

fn peer(version: &str) -> Option<(Peer, &str)> {
    let path: Option<PathBuf> = valkey_cli(version);
    path.map(|path| (Peer::ValkeyCli(path), version))
}

#[test]
fn matrix_valkey_cli_says_and_does_the_same() {
    for version in ["valkey-8.0", "valkey-8.1"] {
        if let Some((peer, version)) = peer(version) {
            play(&peer, || apart(version, 8), rows());
        }
    }
}

/// Without its option it moves slots key by key, and so do we under its name.
#[test]
fn matrix_valkey_cli_9_says_and_does_the_same() {
    if let Some((peer, version)) = peer("valkey-9.1") {
        let rows = rows()
            .into_iter()
            .map(|row| match row.line.contains("shard") {
                true => row
                    .only_theirs("Moving slot", RANGES)
                    .only_ours("Moving slot", RANGES),
                false => row,
            });
        play(&peer, || apart(version, 8), rows.collect());
    }
}

#[test]
fn matrix_valkey_cli_creates_small_clusters() {
    if let Some((peer, version)) = peer("valkey-8.1") {
        play(&peer, || apart(version, 2), few());
    }
}
