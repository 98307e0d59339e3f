//! Nodes that join: whom they meet, and whom they follow.

use super::MembershipStep;
use super::membership::joining;
use crate::cluster::node::NodeId;

/// How many meetings one call asks for, where there are that many pairs: with all of them nothing is
/// left to gossip, and for more it would be cheaper.
const MEETINGS: usize = 2000;

/// How many members meet each newcomer at the least.
const LEAST: usize = 8;

/// Where a node would be lost together with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Nodes of the same host are taken to fail together.
    pub host: String,
    /// So are nodes of the same zone. A node in no zone shares it with nobody.
    pub zone: Option<String>,
}

/// A master that can be followed, and the replicas that it has.
#[derive(Debug, Clone, PartialEq)]
pub struct Shard {
    /// The master.
    pub master: NodeId,
    /// Where it stands.
    pub place: Place,
    /// Where its replicas stand.
    pub replicas: Vec<Place>,
}

/// A node that shall follow somebody.
#[derive(Debug, Clone, PartialEq)]
pub struct Follower {
    /// Its id.
    pub id: NodeId,
    /// Where it stands.
    pub place: Place,
}

/// Who meets whom, so that newcomers get to know all members and each other.
///
/// It is the members who are told to meet, since they then call the newcomer: where its bus port is
/// closed nothing comes of it, and the cluster is left as it was. (A newcomer that calls first is
/// taken in, and can't be reached.)
pub fn meetings(members: &[NodeId], newcomers: &[NodeId]) -> Vec<MembershipStep> {
    let each = (MEETINGS / newcomers.len().max(1))
        .max(LEAST)
        .min(members.len());
    let by_members = newcomers.iter().enumerate().flat_map(|(i, newcomer)| {
        // Another part of a large cluster for each.
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

/// Whom each newcomer follows, in their order: always the master with the fewest replicas, those of
/// the newcomers before it counted too. Between equals it is kept off the zones, then the hosts, of
/// the master and its other replicas; no exchange of two newcomers, and no other choice between
/// equals, would leave fewer of them together. `None` where there is no master.
pub fn follow(shards: &[Shard], newcomers: &[Follower]) -> Option<Vec<NodeId>> {
    if shards.is_empty() {
        return None;
    }
    let mut choice = Choice::new(shards, newcomers);
    for newcomer in 0..newcomers.len() {
        let best = (0..shards.len()).min_by_key(|shard| {
            (
                choice.counts[*shard],
                choice.cost_in(newcomer, *shard, None),
                *shard,
            )
        })?;
        choice.take(newcomer, best);
    }
    while choice.improve() {}
    Some(
        choice
            .shard_of
            .iter()
            .map(|shard| shards[*shard].master)
            .collect(),
    )
}

/// Pairs of nodes of one shard that share a zone, then those that share a host.
type Cost = (usize, usize);

struct Choice<'a> {
    shards: &'a [Shard],
    newcomers: &'a [Follower],
    /// The shard of each newcomer that has one already.
    shard_of: Vec<usize>,
    /// How many replicas each shard has.
    counts: Vec<usize>,
}

impl<'a> Choice<'a> {
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

    /// With how many nodes of a shard a newcomer would share a place; one other is left out.
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

    /// One change for the better, if there is any; the numbers of replicas stay as even as they are.
    fn improve(&mut self) -> bool {
        for one in 0..self.newcomers.len() {
            let here = self.shard_of[one];
            let now = self.cost_in(one, here, None);
            if now == (0, 0) {
                continue;
            }
            for there in 0..self.shards.len() {
                // As many there, with it, as here with it.
                let is_even = self.counts[there] + 1 == self.counts[here];
                if is_even && self.cost_in(one, there, None) < now {
                    self.counts[here] -= 1;
                    self.counts[there] += 1;
                    self.shard_of[one] = there;
                    return true;
                }
            }
            for other in 0..self.newcomers.len() {
                let there = self.shard_of[other];
                if there == here {
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
