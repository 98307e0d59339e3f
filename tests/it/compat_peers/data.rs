//! Lines about data: `import` and `backup`.

use super::row::{Row, same};
use super::state::Side;
use super::{Peer, play};
use crate::support::cluster::Nodes;
use crate::support::server::Spec;
use crate::support::wait::{PATIENCE, until};

const WORDS: &str = "host and port may be two words, as in the other commands";

fn three() -> Side {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    Side::new(nodes).with_source(Spec::new().plain().start())
}

fn keys(side: &Side, count: usize) {
    let source = side.source.as_ref().unwrap();
    for n in 0..count {
        source.cmd(&["SET", &format!("key:{n}"), "value"]);
    }
}

fn rows() -> Vec<Row> {
    vec![
        same("--cluster import {a0} --cluster-from {source}"),
        same("--cluster import {a0} --cluster-from {source} --cluster-copy").before(|side| keys(side, 50)),
        // They are there already.
        same("--cluster import {a0} --cluster-from {source} --cluster-copy --cluster-replace"),
        same("--cluster import 127.0.0.1 {p1} --cluster-from {source} --cluster-copy --cluster-replace")
            .exit(1, 0, WORDS)
            .only_ours("", WORDS),
        same("--cluster import {a0} --cluster-from {source} --cluster-replace"),
        same("--cluster import {a0} --cluster-from 127.0.0.1:1 --cluster-from {source}").before(|side| {
            let source = side.source.as_ref().unwrap();
            source.cmd(&["SET", "another", "v"]);
        }),
        same("--cluster import {a0} --cluster-from {source}").before(|side| {
            let source = side.source.as_ref().unwrap();
            source.cmd(&["SET", "key:7", "different"]);
        }),
        same("--cluster backup {a0} {dir}"),
        same("--cluster backup {a1} {dir}/")
            .exit(0, 1, "files of another backup are not overwritten")
            .only_theirs("", "it is refused before a node is asked"),
        same("--cluster check {a0}"),
    ]
}

/// The source is a node of another cluster.
fn three_beside_a_cluster() -> Side {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let source = Spec::new().quick().start();
    source.cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    until("cluster_state:ok", PATIENCE, || {
        match source.field("cluster_state") {
            Some(state) if state == "ok" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let side = Side::new(nodes).with_source(source);
    keys(&side, 10);
    side
}

#[test]
fn keys_are_imported_and_saved_alike() {
    play(&Peer::RedisCli, three, rows());
}

#[test]
fn keys_of_a_cluster_are_not_imported() {
    let rows = vec![
        same("--cluster import {a0} --cluster-from {source}"),
        same("--cluster import {a0} --cluster-from {source} --cluster-copy"),
    ];
    play(&Peer::RedisCli, three_beside_a_cluster, rows);
}
