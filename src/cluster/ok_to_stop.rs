//! Whether nodes can be stopped safely: every slot keeps a master or a replica that takes over, the
//! masters keep their majority, and no master loses its last replica in sync.

use std::collections::BTreeSet;

use super::node::{NodeId, Role};
use super::slot::SlotSet;

mod largest;

pub use largest::{Largest, largest};

/// The state of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopCandidate {
    /// Its id.
    pub id: NodeId,
    /// Its role.
    pub role: Role,
    /// Its master.
    pub master: Option<NodeId>,
    /// Whether it has a vote.
    pub votes: bool,
    /// Its slots.
    pub slots: SlotSet,
    /// Its open slots.
    pub open: SlotSet,
    /// Whether it serves: it answers, is not flagged as failed, and reports `cluster_state:ok`.
    pub is_up: bool,
    /// Whether it is a replica whose link to its master is up.
    pub in_sync: bool,
    /// Whether it is a replica that may take over by itself (`cluster-replica-no-failover no`).
    pub takes_over: bool,
}

/// Why nodes should not be stopped now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// No master serves these slots already now.
    Unserved(SlotSet),
    /// A master would be stopped, and no replica in sync can take over.
    NoSuccessor {
        /// The master.
        master: NodeId,
        /// The slots that no node would serve.
        slots: SlotSet,
    },
    /// Too few voters would be left to elect a replica.
    NoMajority {
        /// Voters that would be up.
        left: usize,
        /// All voters, including those that are down.
        of: usize,
    },
    /// All replicas in sync of a master that stays would be stopped.
    LastCopy {
        /// The master.
        master: NodeId,
        /// Its replicas in sync.
        replicas: Vec<NodeId>,
    },
    /// A master with open slots would be stopped.
    Open {
        /// The master.
        master: NodeId,
        /// The slots.
        slots: SlotSet,
    },
}

impl Reason {
    /// The word in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unserved(_) => "slots-unserved",
            Self::NoSuccessor { .. } => "no-successor",
            Self::NoMajority { .. } => "no-majority",
            Self::LastCopy { .. } => "last-copy",
            Self::Open { .. } => "slots-open",
        }
    }

    /// The slots concerned.
    pub fn slots(&self) -> SlotSet {
        match self {
            Self::Unserved(slots) | Self::NoSuccessor { slots, .. } | Self::Open { slots, .. } => {
                slots.clone()
            }
            Self::NoMajority { .. } | Self::LastCopy { .. } => SlotSet::new(),
        }
    }
}

/// All reasons against stopping these nodes together now; empty if it is safe.
pub fn reasons(members: &[StopCandidate], stopping: &BTreeSet<NodeId>) -> Vec<Reason> {
    let stays = |member: &StopCandidate| member.is_up && !stopping.contains(&member.id);
    let is_owner =
        |member: &&StopCandidate| member.role == Role::Master && !member.slots.is_empty();
    let owners: Vec<&StopCandidate> = members.iter().filter(is_owner).collect();

    let mut reasons = Vec::new();
    let served = owners.iter().filter(|owner| owner.is_up);
    let served = served.fold(SlotSet::new(), |sum, owner| sum.union(&owner.slots));
    let unserved = SlotSet::full().difference(&served);
    if !unserved.is_empty() {
        reasons.push(Reason::Unserved(unserved));
    }
    for owner in &owners {
        let copies: Vec<&StopCandidate> = members
            .iter()
            .filter(|member| member.role == Role::Replica && member.master == Some(owner.id))
            .filter(|member| member.is_up && member.in_sync)
            .collect();
        if stopping.contains(&owner.id) {
            if !copies.iter().any(|copy| stays(copy) && copy.takes_over) {
                reasons.push(Reason::NoSuccessor {
                    master: owner.id,
                    slots: owner.slots.clone(),
                });
            }
            if !owner.open.is_empty() {
                reasons.push(Reason::Open {
                    master: owner.id,
                    slots: owner.open.clone(),
                });
            }
        } else if !copies.is_empty() && !copies.iter().any(|copy| stays(copy)) {
            reasons.push(Reason::LastCopy {
                master: owner.id,
                replicas: copies.iter().map(|copy| copy.id).collect(),
            });
        }
    }
    let of = members.iter().filter(|member| member.votes).count();
    let left = members
        .iter()
        .filter(|member| member.votes && stays(member));
    let left = left.count();
    if left * 2 <= of {
        reasons.push(Reason::NoMajority { left, of });
    }
    reasons
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::slot::Slot;

    pub(crate) fn id(number: usize) -> NodeId {
        format!("{number:040x}").parse().unwrap()
    }

    pub(crate) fn master(number: usize, from: u16, to: u16) -> StopCandidate {
        StopCandidate {
            id: id(number),
            role: Role::Master,
            master: None,
            votes: from < to,
            slots: (from..to).filter_map(Slot::new).collect(),
            open: SlotSet::new(),
            is_up: true,
            in_sync: false,
            takes_over: false,
        }
    }

    pub(crate) fn replica(number: usize, of: usize) -> StopCandidate {
        StopCandidate {
            role: Role::Replica,
            master: Some(id(of)),
            in_sync: true,
            takes_over: true,
            ..master(number, 0, 0)
        }
    }

    /// Masters 1 to 3, and 4 to 6 that follow them.
    pub(super) fn six() -> Vec<StopCandidate> {
        vec![
            master(1, 0, 5461),
            master(2, 5461, 10923),
            master(3, 10923, 16384),
            replica(4, 1),
            replica(5, 2),
            replica(6, 3),
        ]
    }

    fn words(members: &[StopCandidate], stopping: &[usize]) -> Vec<&'static str> {
        let stopping = stopping.iter().map(|number| id(*number)).collect();
        let reasons = reasons(members, &stopping);
        reasons.iter().map(Reason::word).collect()
    }

    #[test]
    fn one_node_is_fine_if_a_replica_takes_over() {
        let members = six();
        assert!(words(&members, &[1]).is_empty());
        // The only replica of a master that stays.
        assert_eq!(words(&members, &[4]), ["last-copy"]);
        assert_eq!(words(&members, &[1, 4]), ["no-successor"]);
        assert_eq!(words(&members, &[1, 2]), ["no-majority"]);
        let mut two_copies = six();
        two_copies.push(replica(7, 1));
        assert!(words(&two_copies, &[4]).is_empty());
        assert_eq!(words(&two_copies, &[4, 7]), ["last-copy"]);
        assert!(words(&two_copies, &[1, 4]).is_empty());
    }

    #[test]
    fn existing_problems_count() {
        let mut members = six();
        members[3].in_sync = false;
        assert_eq!(words(&members, &[1]), ["no-successor"]);
        members = six();
        members[3].takes_over = false;
        assert_eq!(words(&members, &[1]), ["no-successor"]);
        members = six();
        members[1].is_up = false;
        assert_eq!(words(&members, &[]), ["slots-unserved"]);
        assert_eq!(words(&members, &[1]), ["slots-unserved", "no-majority"]);
        members = six();
        members[0].open = [Slot::new(7).unwrap()].into_iter().collect();
        assert_eq!(words(&members, &[1]), ["slots-open"]);
        assert!(words(&members, &[2]).is_empty());
    }

    #[test]
    fn one_of_two_masters_is_no_majority() {
        let members = vec![master(1, 0, 8192), master(2, 8192, 16384), replica(3, 1)];
        assert_eq!(words(&members, &[1]), ["no-majority"]);
    }

    pub(super) fn clusters() -> impl Strategy<Value = (Vec<StopCandidate>, Vec<bool>)> {
        let flags = || proptest::collection::vec(any::<bool>(), 20);
        let mostly = || proptest::collection::vec(proptest::bool::weighted(0.9), 20);
        (
            1..7_usize,
            proptest::collection::vec(0..6_usize, 0..14),
            mostly(),
            mostly(),
            mostly(),
            flags(),
        )
            .prop_map(|(masters, replicas, up, in_sync, takes_over, stopping)| {
                let bound = |number: usize| (16384 * number / masters) as u16;
                let mut members: Vec<StopCandidate> = (0..masters)
                    .map(|number| master(number + 1, bound(number), bound(number + 1)))
                    .collect();
                for (number, of) in (masters + 1..).zip(replicas) {
                    members.push(replica(number, of % masters + 1));
                }
                for (index, member) in members.iter_mut().enumerate() {
                    member.is_up = up[index];
                    member.in_sync &= in_sync[index];
                    member.takes_over &= takes_over[index];
                }
                (members, stopping)
            })
    }

    proptest! {
        #[test]
        fn stopping_is_safe_if_there_is_no_reason_against_it((members, stopping) in clusters(), fewer in 0..20_usize) {
            let of = |stopping: &[bool]| -> BTreeSet<NodeId> {
                let stopped = members.iter().zip(stopping).filter(|(_, stops)| **stops);
                stopped.map(|(member, _)| member.id).collect()
            };
            let set = of(&stopping);
            if !reasons(&members, &set).is_empty() {
                return Ok(());
            }
            let lives = |member: &StopCandidate| member.is_up && !set.contains(&member.id);
            for slot in Slot::all().step_by(61) {
                // Its owner stays up, or a replica in sync that takes over.
                let owner = members.iter().find(|member| member.slots.contains(slot)).unwrap();
                let copies = |all: bool| members.iter()
                    .filter(|m| m.master == Some(owner.id) && m.in_sync && m.is_up)
                    .filter(|m| all || (lives(m) && m.takes_over))
                    .count();
                prop_assert!(lives(owner) || copies(false) > 0);
                // A master with replicas in sync keeps one, or a replica takes over.
                let kept = members.iter().filter(|m| m.master == Some(owner.id) && m.in_sync && lives(m));
                prop_assert!(copies(true) == 0 || kept.count() > 0);
            }
            let masters = members.iter().filter(|m| m.role == Role::Master);
            let (alive, all) = (masters.clone().filter(|m| lives(m)).count(), masters.count());
            prop_assert!(alive > all / 2);
            // Then stopping fewer is safe, too.
            let mut some = stopping.clone();
            some[fewer] = false;
            prop_assert!(reasons(&members, &of(&some)).is_empty());
        }
    }
}
