//! Nodes' views of the cluster: the lines of CLUSTER NODES, and assertions on what all nodes report.

use std::collections::BTreeSet;

use super::server::Server;
use super::wait::{PATIENCE, until};

/// The lines of one node's CLUSTER NODES, as fields.
pub(crate) fn lines(server: &Server) -> Vec<Vec<String>> {
    let text = server.nodes_text();
    text.lines()
        .map(|line| line.split(' ').map(str::to_owned).collect())
        .collect()
}

/// What a node says of itself in CLUSTER NODES.
pub(crate) fn myself(server: &Server) -> Vec<String> {
    let mut lines = lines(server).into_iter();
    lines.find(|line| line[2].contains("myself")).unwrap()
}

/// The slots that a node says it owns.
pub(crate) fn owned_slots(server: &Server) -> Vec<u16> {
    myself(server)[8..]
        .iter()
        .filter(|field| !field.starts_with('['))
        .flat_map(|field| {
            let (start, end) = field.split_once('-').unwrap_or((field, field));
            start.parse::<u16>().unwrap()..=end.parse().unwrap()
        })
        .collect()
}

/// How many slots each node owns.
pub(crate) fn counts(nodes: &[Server]) -> Vec<usize> {
    nodes
        .iter()
        .map(|server| owned_slots(server).len())
        .collect()
}

pub(crate) fn size(server: &Server) -> usize {
    server.text(&["DBSIZE"]).parse().unwrap()
}

/// Each node knows no other node and owns nothing: it was not changed.
#[track_caller]
pub(crate) fn assert_bare(nodes: &[Server]) {
    for server in nodes {
        let lines = lines(server);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0].len(), 8, "it owns slots: {lines:?}");
        assert_eq!(lines[0][6], "0", "it has a config epoch: {lines:?}");
    }
}

/// All say ok, all agree, every replica is in sync; and so many masters there are.
#[track_caller]
pub(crate) fn assert_usable(nodes: &[Server], masters: usize) {
    let mut epochs = BTreeSet::new();
    let mut found = 0;
    for server in nodes {
        let addr = server.addr();
        let field = |name: &str| server.field(name).unwrap_or_default();
        assert_eq!(field("cluster_state"), "ok", "{addr}");
        assert_eq!(field("cluster_slots_ok"), "16384", "{addr}");
        assert_eq!(
            field("cluster_known_nodes"),
            nodes.len().to_string(),
            "{addr}"
        );
        assert_eq!(field("cluster_size"), masters.to_string(), "{addr}");
        if field("role") == "master" {
            found += 1;
            let epoch = myself(server)[6].clone();
            assert!(epochs.insert(epoch), "two masters share an epoch");
        } else {
            assert_eq!(field("master_link_status"), "up", "{addr}");
        }
    }
    assert_eq!(found, masters);
}

/// Another node has the address of that one, and this node knows.
pub(crate) fn is_struck_out(node: &Server, lost: &str) {
    until("the lost node's address to be struck out", PATIENCE, || {
        let text = node.nodes_text();
        let line = text.lines().find(|line| line.starts_with(lost)).unwrap();
        if line.contains("noaddr") {
            Ok(())
        } else {
            Err(text)
        }
    });
}

/// Until the others hold it for dead.
pub(crate) fn is_held_for_dead(node: &Server, dead: &str) {
    until("it to be held for dead", PATIENCE, || {
        let text = node.nodes_text();
        let line = text.lines().find(|line| line.starts_with(dead)).unwrap();
        if line.contains("fail") && !line.contains("fail?") {
            Ok(())
        } else {
            Err(text)
        }
    });
}
