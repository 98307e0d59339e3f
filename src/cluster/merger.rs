//! Two clusters that have merged.
//!
//! A node that restarts elsewhere frees its address. If a node of another cluster gets that address and
//! a member meets it there, all nodes of both clusters know each other a second later, and each slot
//! goes to the master with the higher epoch (redis/redis#6174, #7287; Valkey ≥ 8.1 sends MEET itself,
//! valkey-io/valkey#4286). No server stores the name of its cluster, so the evidence is:
//!
//! - a node known by its id alone: another node answered at its address, so the members removed the
//!   address (seen on 7.0 and 9.1). Gossip does not mention such nodes, so neither nodes of the other
//!   cluster nor nodes that joined later know it;
//! - links (CLUSTER LINKS, Redis ≥ 7.0): nodes that joined later had no links to each other before they
//!   had links to the rest; nodes of another cluster had, and so had those of this one.
//!
//! One node alone that still knows the other is no evidence: it may have been cut off while the rest forgot that node,
//! and its links are new since.

use std::collections::{BTreeMap, BTreeSet};

use super::node::NodeId;
use super::observation::{Observation, Seen};
use super::parse::EntryState;

/// Nodes that join together connect to each other about as early as to the rest.
const HEAD_START_MS: u64 = 2000;

/// Nodes of another cluster, by the node through whose former address they joined.
pub type Intruders = BTreeMap<NodeId, BTreeSet<NodeId>>;

/// The nodes that know a node without an address, and those that don't.
struct Divide {
    lost: NodeId,
    knows: BTreeSet<NodeId>,
    does_not: BTreeSet<NodeId>,
}

/// Nodes whose links are evidence: all, if one without an address is known to some of them only.
pub fn witnesses(observation: &Observation) -> BTreeSet<NodeId> {
    let divides = divides(observation);
    divides
        .flat_map(|divide| divide.does_not.into_iter().chain(divide.knows))
        .collect()
}

/// Nodes that joined from another cluster, as seen from the lead node: the nodes of its side belong to
/// this cluster.
pub fn intruders(observation: &Observation) -> Intruders {
    let mut intruders = Intruders::new();
    for divide in divides(observation) {
        let Divide {
            lost,
            knows,
            does_not,
        } = divide;
        if have_older_links(observation, &does_not, &knows)
            && have_older_links(observation, &knows, &does_not)
        {
            let is_this_cluster = knows.contains(&observation.lead);
            intruders.insert(lost, if is_this_cluster { does_not } else { knows });
        }
    }
    intruders
}

fn divides(observation: &Observation) -> impl Iterator<Item = Divide> {
    let is_lost = |seen: &Seen| matches!(seen, Seen::NoAddress | Seen::OtherNode(_));
    let nodes = observation.nodes.values();
    let lost = nodes.filter(move |node| is_lost(&node.seen));
    lost.filter_map(|node| {
        let mut divide = Divide {
            lost: node.id,
            knows: BTreeSet::new(),
            does_not: BTreeSet::new(),
        };
        for (member, report) in observation.reports() {
            match report.view.entry(node.id) {
                Some(entry) if entry.state == EntryState::Handshake => return None,
                Some(_) => divide.knows.insert(member.id),
                None => divide.does_not.insert(member.id),
            };
        }
        (!divide.knows.is_empty() && divide.does_not.len() > 1).then_some(divide)
    })
}

/// Whether the nodes of a side had links to each other before they had links to the other side. A restarted node has new
/// links only and is no evidence.
fn have_older_links(
    observation: &Observation,
    side: &BTreeSet<NodeId>,
    other_side: &BTreeSet<NodeId>,
) -> bool {
    let mut older = 0;
    for id in side {
        let node = observation.nodes.get(id);
        let Some(report) = node.and_then(|node| node.report()) else {
            continue;
        };
        let oldest = |side: &BTreeSet<NodeId>| {
            let links = report.links.iter().filter(|(peer, _)| side.contains(peer));
            links.map(|(_, since)| *since).min()
        };
        let (Some(within), Some(across)) = (oldest(side), oldest(other_side)) else {
            continue;
        };
        if within.saturating_add(HEAD_START_MS) < across {
            older += 1;
        } else if across.saturating_add(HEAD_START_MS) < within {
            return false;
        }
    }
    older * 2 > side.len()
}
