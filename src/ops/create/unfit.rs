//! What keeps nodes from being made into a cluster.

use crate::cluster::node::Role;
use crate::cluster::parse::{Entry, EntryState};
use crate::ops::join::inspect::{NewNode, Rules, counted, known, loopback};
use crate::plan::{CreateProgress, MembershipPlan};

/// What keeps nodes from being made into this cluster; what an earlier, interrupted run of the same
/// plan left behind is fine.
pub(crate) fn misfits(
    recruits: &[NewNode],
    plan: &MembershipPlan,
    progress: &CreateProgress,
) -> Vec<String> {
    let mut misfits = Vec::new();
    let rules = Rules::of(recruits.iter().map(|recruit| recruit.login));
    // Any master may follow one day; but where nobody does, nobody need be able to.
    let role = match plan.split_at_replicas().1.is_empty() {
        true => Role::Master,
        false => Role::Replica,
    };
    for recruit in recruits {
        let mut add = |what: String| misfits.push(format!("{} {what}", recruit.name()));
        recruit.unfit(rules, role).into_iter().for_each(&mut add);
        let used = match strangers(recruit, recruits) {
            Some(strangers) => Some((
                format!("belongs to a cluster already: it knows {strangers}"),
                "leaves that cluster",
            )),
            None => progress.contradictions.get(&recruit.id()).map(|what| {
                (
                    format!("{what}, other than planned"),
                    "makes it forget that",
                )
            }),
        };
        match (used, recruit.keys()) {
            (Some((what, remedy)), 0) => add(format!("{what} (CLUSTER RESET on it {remedy})")),
            // What would empty it is not told beside what makes it look useful.
            (Some((what, _)), keys) => add(format!("{what}, and holds {}", counted(keys))),
            (None, 0) => {}
            (None, keys) => add(format!(
                "is not empty: it holds {} (FLUSHALL on it would delete them)",
                counted(keys)
            )),
        }
    }
    misfits.extend(loopback(recruits, &[]));
    misfits
}

/// Nodes that a node knows, and that were not named. (That compares all with all, but only where a
/// node knows many: bare ones are quick.)
fn strangers(recruit: &NewNode, recruits: &[NewNode]) -> Option<String> {
    // A node in handshake has a passing id; its address tells who it will be.
    let is_named = |entry: &Entry| match (entry.state, &entry.addr) {
        (EntryState::Handshake, Some(addr)) => recruits.iter().any(|other| other.is_at(addr)),
        _ => recruits.iter().any(|other| other.id() == entry.id),
    };
    let entries = recruit.report.view.entries();
    known(entries.filter(|entry| !is_named(entry)))
}
