//! Two clusters that have become one.
//!
//! A node that restarts elsewhere leaves its address to others. Where a node of another cluster gets
//! it, and somebody has it met there, all members of both clusters know each other a second later,
//! and each slot goes to whoever has the higher epoch (redis/redis#6174, #7287; Valkey ≥ 8.1 meets by
//! itself, valkey-io/valkey#4286). No server keeps a name of its cluster, so what is left to see is:
//!
//! - a node that is known by an id alone: at its address another one answered, so its members struck
//!   the address out (seen on 7.0 and 9.1). Gossip does not tell of such nodes, so members of the
//!   other cluster don't know it, any more than members that joined later;
//! - links (CLUSTER LINKS, Redis ≥ 7.0): those who joined later had none to each other before they
//!   had one to the rest, and members of another cluster had.

use std::collections::{BTreeMap, BTreeSet};

use super::node::NodeId;
use super::observation::{Observation, Seen};
use super::parse::EntryState;

/// Nodes that join side by side meet each other about as soon as they meet the rest.
const HEAD_START_MS: u64 = 2000;

/// Members that came in with another cluster, by the node through whose address they came.
pub type Intruders = BTreeMap<NodeId, BTreeSet<NodeId>>;

/// Who knows a node that lost its address, and who does not.
struct Divide {
    lost: NodeId,
    knows: BTreeSet<NodeId>,
    does_not: BTreeSet<NodeId>,
}

/// Members that do not know a node that lost its address, where they are several: they joined later,
/// or came in with another cluster, as their links tell.
pub fn newcomers(observation: &Observation) -> BTreeSet<NodeId> {
    let divides = divides(observation);
    divides.flat_map(|divide| divide.does_not).collect()
}

/// Members that came in with another cluster, as seen by the node that led to them: those who are of
/// the same as it are of ours.
pub fn intruders(observation: &Observation) -> Intruders {
    let mut intruders = Intruders::new();
    for divide in divides(observation) {
        if knew_each_other(observation, &divide) {
            let Divide {
                lost,
                knows,
                does_not,
            } = divide;
            let is_ours = knows.contains(&observation.lead);
            intruders.insert(lost, if is_ours { does_not } else { knows });
        }
    }
    intruders
}

fn divides(observation: &Observation) -> impl Iterator<Item = Divide> {
    let is_lost = |seen: &Seen| matches!(seen, Seen::NoAddress | Seen::Stranger(_));
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

/// Whether those who do not know the lost node had links to each other before they had any to the
/// rest. A node that was restarted had all its links made anew, and says nothing of it.
fn knew_each_other(observation: &Observation, divide: &Divide) -> bool {
    let mut older = 0;
    for id in &divide.does_not {
        let node = observation.nodes.get(id);
        let Some(report) = node.and_then(|node| node.report()) else {
            continue;
        };
        let oldest = |side: &BTreeSet<NodeId>| {
            let links = report.links.iter().filter(|(peer, _)| side.contains(peer));
            links.map(|(_, since)| *since).min()
        };
        let (Some(within), Some(across)) = (oldest(&divide.does_not), oldest(&divide.knows)) else {
            continue;
        };
        if within.saturating_add(HEAD_START_MS) < across {
            older += 1;
        } else if across.saturating_add(HEAD_START_MS) < within {
            return false;
        }
    }
    older * 2 > divide.does_not.len()
}
