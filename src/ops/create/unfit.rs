//! Why nodes can't become a cluster.

use crate::cluster::node::Role;
use crate::cluster::parse::{Entry, EntryState};
use crate::ops::join::inspect::{NewNode, PasswordPolicy, key_count, list_nodes, loopback_problem};
use crate::plan::{CreateProgress, MembershipPlan};

/// Returns why the nodes can't become the planned cluster. What an interrupted run of the same plan has done is no
/// problem.
pub(super) fn problems(
    nodes: &[NewNode],
    plan: &MembershipPlan,
    progress: &CreateProgress,
) -> Vec<String> {
    let mut problems = Vec::new();
    let policy = PasswordPolicy::of(nodes.iter().map(|node| node.login));
    // Any node may become a replica after a failover, except in a cluster without replicas.
    let role = match plan.split_at_replicas().1.is_empty() {
        true => Role::Master,
        false => Role::Replica,
    };
    for node in nodes {
        let mut add = |what: String| problems.push(format!("{} {what}", node.name()));
        node.problems(policy, role).into_iter().for_each(&mut add);
        let used = match unknown_nodes(node, nodes) {
            Some(others) => Some((
                format!("belongs to a cluster already: it knows {others}"),
                "leaves that cluster",
            )),
            None => progress.contradictions.get(&node.id()).map(|what| {
                (
                    format!("{what}, other than planned"),
                    "makes it forget that",
                )
            }),
        };
        match (used, node.keys()) {
            (Some((what, remedy)), 0) => add(format!("{what} (CLUSTER RESET on it {remedy})")),
            // The command that deletes the keys is not named beside a reason to keep them.
            (Some((what, _)), keys) => add(format!("{what}, and holds {}", key_count(keys))),
            (None, 0) => {}
            (None, keys) => add(format!(
                "is not empty: it holds {} (FLUSHALL on it would delete them)",
                key_count(keys)
            )),
        }
    }
    problems.extend(loopback_problem(nodes, &[]));
    problems
}

/// Lists the nodes that a node knows, and that are not named. This compares all nodes with all, but only for nodes
/// that know many.
fn unknown_nodes(node: &NewNode, nodes: &[NewNode]) -> Option<String> {
    // A node in handshake has a temporary id; its address identifies it.
    let is_named = |entry: &Entry| match (entry.state, &entry.addr) {
        (EntryState::Handshake, Some(addr)) => nodes.iter().any(|other| other.is_at(addr)),
        _ => nodes.iter().any(|other| other.id() == entry.id),
    };
    let entries = node.report.view.entries();
    list_nodes(entries.filter(|entry| !is_named(entry)))
}
