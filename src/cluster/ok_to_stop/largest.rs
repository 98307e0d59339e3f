//! The largest set of nodes that may be stopped together.
//!
//! Within a shard, at least one copy must stay, and one that takes over if the master is stopped. Over all shards, a
//! majority of the voters must stay. So the best choice of each shard is computed for every number of its voters
//! that are stopped, and the best combination of these choices is that of a knapsack. The result is exact.

use std::collections::{BTreeMap, BTreeSet};

use super::{Reason, StopCandidate, reasons};
use crate::cluster::node::{NodeId, Role};

/// The largest set, and what prevents more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Largest {
    /// The nodes that may be stopped together.
    pub stopping: BTreeSet<NodeId>,
    /// Why none may be stopped, whatever is chosen: problems that exist already.
    pub reasons: Vec<Reason>,
    /// The other candidates, and why each of them may not be stopped in addition.
    pub blocked: Vec<(NodeId, Vec<Reason>)>,
}

/// Finds the largest set of the candidates that may be stopped together. Of equally large ones it is one that stops few
/// masters.
pub fn largest(members: &[StopCandidate], candidates: &BTreeSet<NodeId>) -> Largest {
    let reasons_now = reasons(members, &BTreeSet::new());
    if !reasons_now.is_empty() {
        return Largest {
            stopping: BTreeSet::new(),
            reasons: reasons_now,
            blocked: Vec::new(),
        };
    }
    let voters = members.iter().filter(|member| member.votes).count();
    let up = members
        .iter()
        .filter(|member| is_live_voter(member))
        .count();
    let budget = up.saturating_sub(voters / 2 + 1);
    let shards: Vec<Vec<Choice>> = shards(members)
        .iter()
        .map(|shard| choices(shard, candidates, budget))
        .collect();
    let stopping = combine(&shards, budget);
    let others = candidates.difference(&stopping);
    let blocked = others.map(|id| {
        let mut more = stopping.clone();
        more.insert(*id);
        (*id, reasons(members, &more))
    });
    Largest {
        blocked: blocked.collect(),
        stopping,
        reasons: Vec::new(),
    }
}

/// Whether stopping it costs a vote.
fn is_live_voter(member: &StopCandidate) -> bool {
    member.votes && member.is_up
}

/// The members of each shard, and each member of no shard by itself.
fn shards(members: &[StopCandidate]) -> Vec<Vec<&StopCandidate>> {
    let owners = members
        .iter()
        .filter(|member| member.role == Role::Master && !member.slots.is_empty());
    let owners: BTreeSet<NodeId> = owners.map(|owner| owner.id).collect();
    let mut shards: BTreeMap<NodeId, Vec<&StopCandidate>> = BTreeMap::new();
    for member in members {
        let master = member.master.filter(|master| owners.contains(master));
        let shard = match member.role {
            Role::Replica => master.unwrap_or(member.id),
            Role::Master => member.id,
        };
        shards.entry(shard).or_default().push(member);
    }
    shards.into_values().collect()
}

/// Nodes of one shard that may be stopped together.
#[derive(Debug, Clone, Default)]
struct Choice {
    nodes: Vec<NodeId>,
    /// Whether the owner of slots is among them.
    has_owner: bool,
}

impl Choice {
    /// Better ones are greater.
    fn value(&self) -> (usize, isize) {
        (self.nodes.len(), -isize::from(i8::from(self.has_owner)))
    }
}

/// The best choice for each number of voters that it stops at most.
fn choices(shard: &[&StopCandidate], candidates: &BTreeSet<NodeId>, budget: usize) -> Vec<Choice> {
    let owner = shard
        .iter()
        .find(|member| member.role == Role::Master && !member.slots.is_empty());
    let is_copy = |member: &StopCandidate| {
        owner.is_some() && member.role == Role::Replica && member.is_up && member.in_sync
    };
    // One of these must stay.
    let copies = |takes_over: bool| -> Vec<&StopCandidate> {
        let copies = shard.iter().copied().filter(|member| is_copy(member));
        copies
            .filter(|copy| copy.takes_over || !takes_over)
            .collect()
    };
    let without = |keep: Option<NodeId>, owner_stays: bool| -> Vec<&StopCandidate> {
        let stopped = shard
            .iter()
            .copied()
            .filter(|member| candidates.contains(&member.id));
        stopped
            .filter(|member| keep != Some(member.id))
            .filter(|member| !owner_stays || Some(member.id) != owner.map(|owner| owner.id))
            .collect()
    };
    let mut options = vec![without(kept(&copies(false), candidates), true)];
    if let Some(owner) = owner
        && owner.open.is_empty()
        && candidates.contains(&owner.id)
        && !copies(true).is_empty()
    {
        options.push(without(kept(&copies(true), candidates), false));
    }
    let voters = shard.iter().filter(|member| is_live_voter(member)).count();
    let best = |most: usize| {
        let choices = options.iter().map(|option| limited(option, most));
        choices.max_by_key(Choice::value).unwrap_or_default()
    };
    (0..=voters.min(budget)).map(best).collect()
}

/// The copy that stays: none in particular if one stays anyway. A voter is kept first.
fn kept(copies: &[&StopCandidate], candidates: &BTreeSet<NodeId>) -> Option<NodeId> {
    match copies.iter().all(|copy| candidates.contains(&copy.id)) {
        true => {
            let best = copies.iter().rev().max_by_key(|copy| is_live_voter(copy));
            best.map(|copy| copy.id)
        }
        false => None,
    }
}

/// As many of these nodes as possible, with at most so many voters. The owner of slots is the first to stay.
fn limited(option: &[&StopCandidate], most: usize) -> Choice {
    let is_owner = |member: &StopCandidate| member.role == Role::Master && !member.slots.is_empty();
    let (mut voters, others): (Vec<&StopCandidate>, Vec<&StopCandidate>) = option
        .iter()
        .copied()
        .partition(|member| is_live_voter(member));
    voters.sort_by_key(|member| is_owner(member));
    let chosen = others.into_iter().chain(voters.into_iter().take(most));
    let chosen: Vec<&StopCandidate> = chosen.collect();
    Choice {
        has_owner: chosen.iter().any(|member| is_owner(member)),
        nodes: chosen.iter().map(|member| member.id).collect(),
    }
}

/// Takes one choice of each shard, within the number of voters that may be stopped.
fn combine(shards: &[Vec<Choice>], budget: usize) -> BTreeSet<NodeId> {
    // The best value for each number of voters, and what the last shard took of them.
    let mut best = vec![(0, 0); budget + 1];
    let mut taken: Vec<Vec<usize>> = Vec::with_capacity(shards.len());
    for choices in shards {
        let values: Vec<(usize, isize)> = choices.iter().map(Choice::value).collect();
        let mut next = Vec::with_capacity(budget + 1);
        let mut took = Vec::with_capacity(budget + 1);
        for most in 0..=budget {
            let options = values.iter().enumerate().take(most + 1);
            let sums = options.map(|(voters, value)| {
                let rest = best[most - voters];
                (
                    rest.0 + value.0,
                    rest.1 + value.1,
                    std::cmp::Reverse(voters),
                )
            });
            let (nodes, owners, voters) = sums.max().unwrap_or_default();
            next.push((nodes, owners));
            took.push(voters.0);
        }
        best = next;
        taken.push(took);
    }
    let mut left = budget;
    let mut stopping = BTreeSet::new();
    for (choices, took) in shards.iter().zip(&taken).rev() {
        let voters = took[left];
        stopping.extend(choices[voters].nodes.iter().copied());
        left -= voters;
    }
    stopping
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{clusters, id, master, replica, six};
    use super::*;
    use crate::cluster::slot::{Slot, SlotSet};

    fn all(members: &[StopCandidate]) -> BTreeSet<NodeId> {
        members.iter().map(|member| member.id).collect()
    }

    #[test]
    fn one_node_of_three_masters_with_a_replica_each() {
        let members = six();
        let largest_of = |numbers: &[usize]| {
            let candidates = numbers.iter().map(|number| id(*number)).collect();
            largest(&members, &candidates)
        };
        let found = largest(&members, &all(&members));
        assert_eq!(found.stopping.len(), 1);
        assert!(found.reasons.is_empty());
        assert_eq!(found.blocked.len(), 5);
        assert!(found.blocked.iter().all(|(_, reasons)| !reasons.is_empty()));
        // The replicas are the only copies.
        assert!(largest_of(&[4, 5, 6]).stopping.is_empty());
        assert_eq!(largest_of(&[2, 5]).stopping, [id(2)].into());
        assert_eq!(largest_of(&[]).blocked, []);
    }

    #[test]
    fn replicas_are_stopped_rather_than_masters() {
        let mut members = six();
        members.extend([replica(7, 1), replica(8, 2), replica(9, 3)]);
        let found = largest(&members, &all(&members));
        // A replica of each master, and one master, whose other replica takes over.
        assert_eq!(found.stopping.len(), 4);
        let masters = found.stopping.iter().filter(|node| **node <= id(3));
        assert_eq!(masters.count(), 1);
        members[0].open = [Slot::new(7).unwrap()].into_iter().collect();
        members[1].open = members[0].open.clone();
        let found = largest(&members, &all(&members));
        assert!(found.stopping.contains(&id(3)));
        let reasons: Vec<_> = found
            .blocked
            .iter()
            .map(|(_, reasons)| reasons[0].word())
            .collect();
        assert!(reasons.contains(&"slots-open"), "{reasons:?}");
    }

    #[test]
    fn problems_that_exist_prevent_all() {
        let mut members = six();
        members[1].is_up = false;
        let found = largest(&members, &all(&members));
        assert!(found.stopping.is_empty() && found.blocked.is_empty());
        assert_eq!(found.reasons[0].word(), "slots-unserved");
    }

    #[test]
    fn masters_without_slots_are_free() {
        let mut members = six();
        members.push(StopCandidate {
            slots: SlotSet::new(),
            votes: false,
            ..master(7, 0, 0)
        });
        assert!(largest(&members, &all(&members)).stopping.contains(&id(7)));
    }

    fn subsets(of: &[NodeId]) -> impl Iterator<Item = BTreeSet<NodeId>> + '_ {
        (0..1_u32 << of.len()).map(|bits| {
            let chosen = of.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
            chosen.map(|(_, id)| *id).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// No larger set of the candidates may be stopped, by trying all of them.
        #[test]
        fn no_set_is_larger(
            (mut members, is_candidate) in clusters(),
            votes in proptest::option::of(proptest::collection::vec(any::<bool>(), 20)),
            open in proptest::collection::vec(proptest::bool::weighted(0.1), 20),
        ) {
            members.truncate(10);
            for (index, member) in members.iter_mut().enumerate() {
                // On the Raft bus any member may have a vote.
                if let Some(votes) = &votes {
                    member.votes = votes[index];
                }
                if open[index] {
                    member.open = member.slots.clone();
                }
                // Else half of the clusters have slots that nobody serves, and nothing to choose.
                member.is_up |= member.role == Role::Master;
            }
            let candidates: BTreeSet<NodeId> = members
                .iter()
                .zip(&is_candidate)
                .filter(|(_, is)| **is)
                .map(|(member, _)| member.id)
                .collect();
            let found = largest(&members, &candidates);
            prop_assert!(found.stopping.is_subset(&candidates));
            prop_assert_eq!(&found.reasons, &reasons(&members, &BTreeSet::new()));
            let ids: Vec<NodeId> = candidates.iter().copied().collect();
            let sizes = subsets(&ids).filter(|set| reasons(&members, set).is_empty()).map(|set| set.len());
            prop_assert_eq!(found.stopping.len(), sizes.max().unwrap_or(0));
            if found.reasons.is_empty() {
                prop_assert!(reasons(&members, &found.stopping).is_empty());
                prop_assert_eq!(found.blocked.len() + found.stopping.len(), candidates.len());
                for (_, why) in &found.blocked {
                    prop_assert!(!why.is_empty());
                }
            }
        }
    }
}
