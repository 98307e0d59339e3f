//! The planner of nodes that join: their meetings, and their masters.

use super::MembershipStep;
use super::membership::joining;
use crate::cluster::node::NodeId;
use crate::cluster::parse::Version;

/// The number of meetings of one plan, if there are that many pairs. More meetings would cost more than
/// the gossip that they replace.
const MEETINGS: usize = 2000;

/// The least number of members that meet each new node.
const LEAST: usize = 8;

/// The host and zone of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Nodes of one host fail together.
    pub host: String,
    /// Nodes of one zone fail together. A node without a zone shares it with no other node.
    pub zone: Option<String>,
}

/// A master that can get replicas, and the replicas that it has.
#[derive(Debug, Clone, PartialEq)]
pub struct Shard {
    /// The master.
    pub master: NodeId,
    /// The version of the master; `None` if unknown.
    pub version: Option<Version>,
    /// Its host and zone.
    pub place: Place,
    /// The hosts and zones of its replicas.
    pub replicas: Vec<Place>,
}

/// A node that becomes a replica.
#[derive(Debug, Clone, PartialEq)]
pub struct Follower {
    /// Its id.
    pub id: NodeId,
    /// Its version; `None` if unknown.
    pub version: Option<Version>,
    /// Its host and zone.
    pub place: Place,
}

impl Follower {
    /// Whether it can read the data of that master.
    pub fn can_follow(&self, shard: &Shard) -> bool {
        Version::may_follow(self.version, shard.version)
    }
}

/// The meetings through which new nodes and members get to know each other.
///
/// The members get the command, since they then open the connection: if the bus port of the new node is
/// closed, nothing happens and the cluster stays as it was. (A new node that connects first becomes a
/// member that can't be reached.)
pub fn meetings(members: &[NodeId], newcomers: &[NodeId]) -> Vec<MembershipStep> {
    let each = (MEETINGS / newcomers.len().max(1))
        .max(LEAST)
        .min(members.len());
    let by_members = newcomers.iter().enumerate().flat_map(|(i, newcomer)| {
        // Different members of a large cluster for each.
        let first = i * each;
        (first..first + each).map(move |at| MembershipStep::Meet {
            node: members[at % members.len()],
            with: *newcomer,
        })
    });
    by_members
        .chain(joining(newcomers).into_iter().flatten())
        .collect()
}

/// The master of each new replica, in their order: always the master with the fewest replicas of those that it can
/// follow, the previous new ones included. Of equal masters, the one with the fewest nodes in the same zone, then on
/// the same host; no exchange of two new replicas, and no other choice between equals, would leave fewer
/// of them together. `None` if there is no master, or a replica can follow none of them.
pub fn follow(shards: &[Shard], newcomers: &[Follower]) -> Option<Vec<NodeId>> {
    if shards.is_empty() {
        return None;
    }
    // The oldest ones choose first: what they can follow, the others can, too.
    let choices = |newcomer: &Follower| shards.iter().filter(|s| newcomer.can_follow(s)).count();
    let mut order: Vec<usize> = (0..newcomers.len()).collect();
    order.sort_by_key(|at| choices(&newcomers[*at]));
    let sorted: Vec<Follower> = order.iter().map(|at| newcomers[*at].clone()).collect();
    let mut choice = MasterChoice::new(shards, &sorted);
    for newcomer in 0..sorted.len() {
        let possible = (0..shards.len()).filter(|shard| choice.is_possible(newcomer, *shard));
        let best = possible.min_by_key(|shard| {
            (
                choice.counts[*shard],
                choice.cost_in(newcomer, *shard, None),
                *shard,
            )
        })?;
        choice.take(newcomer, best);
    }
    while choice.improve() {}
    let mut masters: Vec<(usize, NodeId)> = order
        .into_iter()
        .zip(choice.shard_of.iter().map(|shard| shards[*shard].master))
        .collect();
    masters.sort_by_key(|(at, _)| *at);
    Some(masters.into_iter().map(|(_, master)| master).collect())
}

/// Pairs of nodes of one shard that share a zone, then those that share a host.
type Cost = (usize, usize);

struct MasterChoice<'a> {
    shards: &'a [Shard],
    newcomers: &'a [Follower],
    /// The shard of each new replica that has one already.
    shard_of: Vec<usize>,
    /// The number of replicas of each shard.
    counts: Vec<usize>,
}

impl<'a> MasterChoice<'a> {
    fn new(shards: &'a [Shard], newcomers: &'a [Follower]) -> Self {
        Self {
            shards,
            newcomers,
            shard_of: Vec::with_capacity(newcomers.len()),
            counts: shards.iter().map(|shard| shard.replicas.len()).collect(),
        }
    }

    fn take(&mut self, newcomer: usize, shard: usize) {
        debug_assert_eq!(newcomer, self.shard_of.len());
        self.shard_of.push(shard);
        self.counts[shard] += 1;
    }

    /// Whether a new replica can read the data of the master.
    fn is_possible(&self, newcomer: usize, shard: usize) -> bool {
        self.newcomers[newcomer].can_follow(&self.shards[shard])
    }

    /// The number of nodes of a shard with which a new replica would share a place; `without` is not
    /// counted.
    fn cost_in(&self, newcomer: usize, shard: usize, without: Option<usize>) -> Cost {
        let place = &self.newcomers[newcomer].place;
        let of_shard = &self.shards[shard];
        let placed = self.shard_of.iter().enumerate();
        let others = placed
            .filter(|(other, its)| **its == shard && *other != newcomer && Some(*other) != without)
            .map(|(other, _)| &self.newcomers[other].place);
        std::iter::once(&of_shard.place)
            .chain(&of_shard.replicas)
            .chain(others)
            .fold((0, 0), |(zones, hosts), other| {
                let zone = place.zone.is_some() && place.zone == other.zone;
                (
                    zones + usize::from(zone),
                    hosts + usize::from(place.host == other.host),
                )
            })
    }

    /// Makes one improvement, if there is any; the numbers of replicas stay as even as they are.
    fn improve(&mut self) -> bool {
        for one in 0..self.newcomers.len() {
            let here = self.shard_of[one];
            let now = self.cost_in(one, here, None);
            if now == (0, 0) {
                continue;
            }
            for there in 0..self.shards.len() {
                // As many there after the move as here before it.
                let is_even = self.counts[there] + 1 == self.counts[here];
                let may_be = is_even && self.is_possible(one, there);
                if may_be && self.cost_in(one, there, None) < now {
                    self.counts[here] -= 1;
                    self.counts[there] += 1;
                    self.shard_of[one] = there;
                    return true;
                }
            }
            for other in 0..self.newcomers.len() {
                let there = self.shard_of[other];
                let can_change = self.is_possible(one, there) && self.is_possible(other, here);
                if there == here || !can_change {
                    continue;
                }
                let before = sum(now, self.cost_in(other, there, None));
                let after = sum(
                    self.cost_in(one, there, Some(other)),
                    self.cost_in(other, here, Some(one)),
                );
                if after < before {
                    self.shard_of.swap(one, other);
                    return true;
                }
            }
        }
        false
    }
}

fn sum(one: Cost, other: Cost) -> Cost {
    (one.0 + other.0, one.1 + other.1)
}

#[cfg(test)]
mod tests;
