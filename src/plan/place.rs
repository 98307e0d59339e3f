//! The fewest failovers after which the masters are spread evenly over zones and hosts, and then the replicas that get
//! another master.
//!
//! A failover chooses another node of the same shard as the master. The masters of all shards are chosen together: as a
//! flow from the shards over hosts and zones, with a price for each further master of a place that grows with their
//! number (`flow`). Such a flow of least cost is the best choice there is, if each host lies in one zone. Hosts that lie in
//! several zones, which addresses of one machine may do, are tried out instead, as far as that is possible.

mod flow;
mod masters;
mod replicas;

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::node::NodeId;
use crate::cluster::parse::Version;

/// A member of a shard that owns slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceNode {
    /// Its id.
    pub id: NodeId,
    /// The master of its shard; itself for a master.
    pub master: NodeId,
    /// Whether it may become the master by a planned failover, or is the master.
    pub can_lead: bool,
    /// Its version; `None` if unknown.
    pub version: Option<Version>,
    /// Its host.
    pub host: String,
    /// Its zone, if it is known.
    pub zone: Option<String>,
    /// Its memory limit in bytes; `None` for none.
    pub limit: Option<u64>,
    /// The memory that it uses.
    pub used: u64,
}

impl PlaceNode {
    /// Whether its version can read the data of that master.
    pub fn can_follow(&self, master: &Self) -> bool {
        Version::may_follow(self.version, master.version)
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    /// As many masters as possible are in this zone.
    pub prefer: Option<String>,
    /// These are masters.
    pub masters: BTreeSet<NodeId>,
    /// Whether replicas may get other masters.
    pub move_replicas: bool,
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceStep {
    /// A replica takes over from its master.
    FailOver {
        /// The replica.
        to: NodeId,
        /// The master.
        from: NodeId,
    },
    /// A replica gets another master: its copy is discarded, and the new master sends a full one.
    Move {
        /// The replica.
        replica: NodeId,
        /// Its master.
        from: NodeId,
        /// Its new master.
        to: NodeId,
        /// The memory that the new master uses.
        bytes: u64,
    },
}

/// The steps, in the order in which they are carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacePlan {
    /// The steps.
    pub steps: Vec<PlaceStep>,
    /// The score before them.
    pub before: PlaceScore,
    /// The score after them.
    pub after: PlaceScore,
    /// Whether no placement is better, and none as good takes fewer failovers.
    pub is_proven: bool,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceRefusal {
    /// Two members of one shard can't both be masters.
    SameShard(NodeId, NodeId),
    /// The member is in no shard that owns slots.
    NoShard(NodeId),
    /// The replica does not answer, or is not in sync.
    CantLead(NodeId),
    /// No node is in that zone.
    UnknownZone {
        /// The zone.
        zone: String,
        /// The zones that there are.
        known: Vec<String>,
    },
}

/// How good a placement is: pairs of nodes that a host or zone takes down together. Less is better, the first number
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PlaceScore {
    /// Masters that are not in the preferred zone.
    pub not_preferred: usize,
    /// Pairs of masters in one zone.
    pub masters_in_zone: usize,
    /// Pairs of masters on one host.
    pub masters_on_host: usize,
    /// Pairs of nodes of one shard in one zone.
    pub copies_in_zone: usize,
    /// Pairs of nodes of one shard on one host.
    pub copies_on_host: usize,
    /// How far the numbers of replicas differ: pairs of replicas of one master.
    pub replica_pairs: usize,
}

impl PlaceScore {
    /// The score of a placement. `prefer` is the preferred zone.
    pub fn of(nodes: &[PlaceNode], prefer: Option<&str>) -> Self {
        let masters = || nodes.iter().filter(|node| node.id == node.master);
        let zone_of = |node: &PlaceNode| node.zone.clone();
        let in_shard = |node: &PlaceNode, place: String| (node.master, place);
        let replicas = nodes.iter().filter(|node| node.id != node.master);
        Self {
            not_preferred: prefer.map_or(0, |zone| {
                masters()
                    .filter(|node| node.zone.as_deref() != Some(zone))
                    .count()
            }),
            masters_in_zone: pairs(masters().filter_map(zone_of)),
            masters_on_host: pairs(masters().map(|node| node.host.clone())),
            copies_in_zone: pairs(
                nodes
                    .iter()
                    .filter_map(|node| Some(in_shard(node, node.zone.clone()?))),
            ),
            copies_on_host: pairs(nodes.iter().map(|node| in_shard(node, node.host.clone()))),
            replica_pairs: pairs(replicas.map(|node| node.master)),
        }
    }
}

/// The number of pairs of equal things.
fn pairs<T: Ord>(things: impl Iterator<Item = T>) -> usize {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for thing in things {
        *counts.entry(thing).or_default() += 1;
    }
    counts.values().map(|count| count * (count - 1) / 2).sum()
}

/// Plans the failovers and moves.
pub fn plan(nodes: &[PlaceNode], wishes: &Wishes) -> Result<PlacePlan, PlaceRefusal> {
    check(nodes, wishes)?;
    let prefer = wishes.prefer.as_deref();
    let before = PlaceScore::of(nodes, prefer);
    let (chosen, is_proven) = masters::choose(nodes, wishes);
    let mut placed = nodes.to_vec();
    let mut steps = Vec::new();
    for (from, to) in chosen {
        if from != to {
            fail_over(&mut placed, from, to);
            steps.push(PlaceStep::FailOver { to, from });
        }
    }
    let mut is_proven = is_proven;
    if wishes.move_replicas {
        let (moves, are_proven) = replicas::moves(&mut placed, prefer);
        steps.extend(moves);
        is_proven &= are_proven;
    }
    Ok(PlacePlan {
        steps,
        before,
        after: PlaceScore::of(&placed, prefer),
        is_proven,
    })
}

/// The members of the shard of `from` that can't follow `to`, which takes over from it.
pub fn left_behind<'a>(
    nodes: &'a [PlaceNode],
    from: NodeId,
    to: &'a PlaceNode,
) -> impl Iterator<Item = &'a PlaceNode> {
    let shard = nodes.iter().filter(move |node| node.master == from);
    shard.filter(|node| !node.can_follow(to))
}

/// The placement after a failover.
pub fn fail_over(nodes: &mut [PlaceNode], from: NodeId, to: NodeId) {
    for node in nodes.iter_mut().filter(|node| node.master == from) {
        node.master = to;
    }
}

fn check(nodes: &[PlaceNode], wishes: &Wishes) -> Result<(), PlaceRefusal> {
    let mut shards: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    for id in &wishes.masters {
        let Some(node) = nodes.iter().find(|node| node.id == *id) else {
            return Err(PlaceRefusal::NoShard(*id));
        };
        if !node.can_lead {
            return Err(PlaceRefusal::CantLead(*id));
        }
        if let Some(other) = shards.insert(node.master, *id) {
            return Err(PlaceRefusal::SameShard(other, *id));
        }
    }
    if let Some(zone) = &wishes.prefer {
        let known: BTreeSet<&String> = nodes.iter().filter_map(|node| node.zone.as_ref()).collect();
        if !known.contains(zone) {
            return Err(PlaceRefusal::UnknownZone {
                zone: zone.clone(),
                known: known.into_iter().cloned().collect(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
