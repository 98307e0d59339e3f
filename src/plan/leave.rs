//! Nodes that leave a cluster: what has to be done before they can, and what forbids it.

use std::collections::{BTreeMap, BTreeSet};

use super::MovePlan;
use super::assignment::{Giver, Taker, pair};
use super::join::{Follower, Place, Shard, follow};
use super::reshard::level;
use crate::cluster::node::{NodeId, Role};
use crate::cluster::slot::SlotSet;

/// Who shall leave, of whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// All members, ghosts too.
    pub members: Vec<LeaveMember>,
    /// Those that shall leave.
    pub leaving: BTreeSet<NodeId>,
    /// What becomes of the slots that they own.
    pub slots: OwnedSlots,
    /// Replicas that may leave though their master is left without a copy in sync; their masters may
    /// be named instead.
    pub unprotected: BTreeSet<NodeId>,
}

/// What becomes of the slots of masters that leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnedSlots {
    /// They are a reason to refuse.
    Refuse,
    /// They go to the masters that stay.
    Drain,
}

/// A member, as far as it matters who leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaveMember {
    /// Its id.
    pub id: NodeId,
    /// What it does.
    pub role: Role,
    /// Whom it follows.
    pub master: Option<NodeId>,
    /// What it owns.
    pub slots: SlotSet,
    /// Slots that are on their way from it, to it, or that another member has open with it.
    pub open: SlotSet,
    /// Whether it answers, and the others don't hold it for dead.
    pub life: Life,
    /// A replica whose link to its master is up.
    pub in_sync: bool,
    /// Its keys; 0 where it does not tell.
    pub keys: u64,
    /// Where it would be lost together with others.
    pub place: Place,
}

/// Whether a node can be spoken to, and serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It answers, and serves.
    Well,
    /// It answers us, but the others don't hear it.
    Doubted,
    /// It does not answer.
    Silent,
}

/// What is to be done, in this order, before the nodes leave.
#[derive(Debug, Clone, PartialEq)]
pub struct Leave {
    /// Slots that move to the masters that stay.
    pub drain: MovePlan,
    /// Replicas of nodes that leave get other masters while those still own a slot: emptied masters
    /// become replicas themselves, and take theirs along (cluster-allow-replica-migration).
    pub given: Vec<Given>,
    /// The slots that were kept back for that.
    pub last: MovePlan,
}

impl Leave {
    /// All moves together.
    pub fn moves(&self) -> MovePlan {
        let mut moves: BTreeMap<(NodeId, NodeId), SlotSet> = BTreeMap::new();
        for one in self.drain.moves().chain(self.last.moves()) {
            let slots = moves.entry((one.from, one.to)).or_default();
            *slots = slots.union(&one.slots);
        }
        MovePlan::of_moves(moves)
    }
}

/// A replica that gets another master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// The replica.
    pub replica: NodeId,
    /// Whom it follows now; the node leaves.
    pub from: NodeId,
    /// Whom it will follow.
    pub to: NodeId,
}

/// Why nodes can't leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No master that owns slots would be left.
    LastOwner,
    /// A master owns slots, and nobody said that they may be moved.
    OwnsSlots {
        /// The master.
        master: NodeId,
        /// Its slots.
        slots: SlotSet,
    },
    /// It owns slots, and can't give them: it does not answer, or the others don't hear it.
    CantGive {
        /// The master.
        master: NodeId,
        /// Its slots.
        slots: SlotSet,
        /// One of its replicas that could take over.
        successor: Option<NodeId>,
    },
    /// Moves were begun that it has to do with.
    Open {
        /// The node.
        node: NodeId,
        /// The slots.
        slots: SlotSet,
    },
    /// The only copy in sync of a master that stays.
    LastCopy {
        /// The replica.
        replica: NodeId,
        /// Its master.
        master: NodeId,
    },
    /// Its master is down, or unknown: nobody else may have its data.
    MasterNotWell {
        /// The replica.
        replica: NodeId,
        /// Its master.
        master: Option<NodeId>,
        /// Whether it can be allowed: the replica does not answer, so nothing of it is deleted.
        can_be_allowed: bool,
    },
    /// A replica of a node that leaves can't be told to follow another one.
    CantBeGiven {
        /// The replica.
        replica: NodeId,
        /// Whom it follows.
        from: NodeId,
    },
    /// A replica of a node that leaves has nobody to follow: no master that stays owns a slot and serves.
    NobodyToFollow {
        /// The replica.
        replica: NodeId,
        /// Whom it follows.
        from: NodeId,
    },
    /// A master without slots holds keys, which would be lost.
    HoldsKeys {
        /// The master.
        master: NodeId,
        /// How many.
        keys: u64,
    },
}

/// What has to be done before nodes can leave; all that forbids it, where anything does.
///
/// Slots are spread over the masters that stay and own slots, so that in the end these own numbers
/// that are as even as can be. Replicas go to the masters that have fewest.
pub fn leave(request: &Request) -> Result<Leave, Vec<Refusal>> {
    let judge = Judge::of(request);
    let refusals = judge.refusals();
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let (drain, last) = judge.drain();
    Ok(Leave {
        drain,
        given: judge.given(),
        last,
    })
}

struct Judge<'a> {
    request: &'a Request,
    by_id: BTreeMap<NodeId, &'a LeaveMember>,
}

impl<'a> Judge<'a> {
    fn of(request: &'a Request) -> Self {
        let members = request.members.iter();
        Self {
            request,
            by_id: members.map(|member| (member.id, member)).collect(),
        }
    }

    fn leavers(&self) -> impl Iterator<Item = &'a LeaveMember> {
        let leaving = self.request.leaving.iter();
        leaving.filter_map(|id| self.by_id.get(id).copied())
    }

    fn stayers(&self) -> impl Iterator<Item = &'a LeaveMember> {
        let members = self.request.members.iter();
        members.filter(|member| !self.request.leaving.contains(&member.id))
    }

    /// Masters that stay, own slots and serve, those of the lowest slots first.
    fn owners(&self) -> Vec<&'a LeaveMember> {
        let mut owners: Vec<&LeaveMember> = self
            .stayers()
            .filter(|member| member.role == Role::Master && member.life == Life::Well)
            .filter(|member| !member.slots.is_empty())
            .collect();
        owners.sort_by_key(|member| (member.slots.iter().next(), member.id));
        owners
    }

    fn refusals(&self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let owns = |member: &LeaveMember| member.role == Role::Master && !member.slots.is_empty();
        let nobody_stays = self.stayers().next().is_none();
        if nobody_stays || self.leavers().any(owns) && !self.stayers().any(owns) {
            refusals.push(Refusal::LastOwner);
        }
        for member in self.leavers() {
            if !member.open.is_empty() {
                refusals.push(Refusal::Open {
                    node: member.id,
                    slots: member.open.clone(),
                });
            }
            refusals.extend(match member.role {
                Role::Master => self.against_master(member),
                Role::Replica => self.against_replica(member),
            });
        }
        let nobody_serves = self.owners().is_empty() && !refusals.contains(&Refusal::LastOwner);
        for member in self.followers() {
            let Some(from) = member.master else {
                continue;
            };
            let replica = member.id;
            if member.life == Life::Silent {
                refusals.push(Refusal::CantBeGiven { replica, from });
            } else if nobody_serves {
                refusals.push(Refusal::NobodyToFollow { replica, from });
            }
        }
        refusals
    }

    fn against_master(&self, master: &LeaveMember) -> Option<Refusal> {
        let id = master.id;
        if master.slots.is_empty() {
            let holds = master.keys > 0 && master.life != Life::Silent;
            return holds.then_some(Refusal::HoldsKeys {
                master: id,
                keys: master.keys,
            });
        }
        let slots = master.slots.clone();
        if master.life != Life::Well {
            let replicas = self.request.members.iter();
            let mut successors = replicas
                .filter(|member| member.master == Some(id) && member.life == Life::Well)
                .map(|member| member.id);
            return Some(Refusal::CantGive {
                master: id,
                slots,
                successor: successors.next(),
            });
        }
        match self.request.slots {
            OwnedSlots::Refuse => Some(Refusal::OwnsSlots { master: id, slots }),
            OwnedSlots::Drain => None,
        }
    }

    fn against_replica(&self, replica: &LeaveMember) -> Option<Refusal> {
        let is_allowed = |master: Option<NodeId>| {
            let unprotected = &self.request.unprotected;
            unprotected.contains(&replica.id) || master.is_some_and(|id| unprotected.contains(&id))
        };
        if let Some(master) = replica.master
            && self.request.leaving.contains(&master)
        {
            return None;
        }
        let master = replica.master.and_then(|id| self.by_id.get(&id));
        let Some(master) = master else {
            return (!is_allowed(replica.master)).then_some(Refusal::MasterNotWell {
                replica: replica.id,
                master: replica.master,
                can_be_allowed: true,
            });
        };
        // Of a chain: its copy is one of many.
        if master.role == Role::Replica || master.slots.is_empty() {
            return None;
        }
        if master.life != Life::Well {
            let can_be_allowed = replica.life == Life::Silent;
            let refused = !can_be_allowed || !is_allowed(Some(master.id));
            return refused.then_some(Refusal::MasterNotWell {
                replica: replica.id,
                master: Some(master.id),
                can_be_allowed,
            });
        }
        let copies = |member: &&LeaveMember| member.master == Some(master.id) && member.in_sync;
        let is_last = replica.in_sync && !self.stayers().any(|member| copies(&member));
        (is_last && !is_allowed(Some(master.id))).then_some(Refusal::LastCopy {
            replica: replica.id,
            master: master.id,
        })
    }

    /// Replicas that stay, of nodes that leave.
    fn followers(&self) -> impl Iterator<Item = &'a LeaveMember> {
        let leaving = &self.request.leaving;
        self.stayers().filter(move |member| {
            member.role == Role::Replica && member.master.is_some_and(|id| leaving.contains(&id))
        })
    }

    fn given(&self) -> Vec<Given> {
        let shards: Vec<Shard> = self
            .owners()
            .into_iter()
            .map(|owner| Shard {
                master: owner.id,
                place: owner.place.clone(),
                replicas: self
                    .stayers()
                    .filter(|member| member.master == Some(owner.id) && member.life == Life::Well)
                    .map(|member| member.place.clone())
                    .collect(),
            })
            .collect();
        let followers: Vec<Follower> = self
            .followers()
            .map(|member| Follower {
                id: member.id,
                place: member.place.clone(),
            })
            .collect();
        let masters = follow(&shards, &followers).unwrap_or_default();
        self.followers()
            .zip(masters)
            .filter_map(|(replica, to)| {
                Some(Given {
                    replica: replica.id,
                    from: replica.master?,
                    to,
                })
            })
            .collect()
    }

    /// The moves, and those that wait until the replicas are given away: the last slot of each master
    /// that has such replicas.
    fn drain(&self) -> (MovePlan, MovePlan) {
        let owners = self.owners();
        let givers: Vec<Giver> = self
            .leavers()
            .filter(|member| member.role == Role::Master && !member.slots.is_empty())
            .map(|member| Giver {
                id: member.id,
                slots: member.slots.clone(),
            })
            .collect();
        let coming = givers.iter().map(|giver| giver.slots.count()).sum();
        let has: Vec<usize> = owners.iter().map(|owner| owner.slots.count()).collect();
        let takers: Vec<Taker> = owners
            .iter()
            .zip(level(&has, coming))
            .map(|(owner, count)| Taker {
                id: owner.id,
                count,
            })
            .collect();
        let mut moves = pair(&givers, &takers);
        let mut last: BTreeMap<(NodeId, NodeId), SlotSet> = BTreeMap::new();
        let followed: BTreeSet<NodeId> = self.followers().filter_map(|m| m.master).collect();
        for giver in givers.iter().filter(|giver| followed.contains(&giver.id)) {
            let of_giver = moves.iter_mut().filter(|((from, _), _)| *from == giver.id);
            let highest = of_giver
                .filter_map(|(pair, slots)| Some((slots.iter().last()?, *pair, slots)))
                .max_by_key(|(slot, ..)| *slot);
            if let Some((slot, pair, slots)) = highest {
                let one: SlotSet = [slot].into_iter().collect();
                *slots = slots.difference(&one);
                last.insert(pair, one);
            }
        }
        (MovePlan::of_moves(moves), MovePlan::of_moves(last))
    }
}

#[cfg(test)]
mod tests;
