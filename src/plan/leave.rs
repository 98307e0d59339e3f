//! The planner of `del-node`: what happens before nodes leave a cluster, and why they can't.

use std::collections::{BTreeMap, BTreeSet};

use super::MovePlan;
use super::assignment::{Giver, Taker, pair};
use super::join::{Follower, Place, Shard, follow};
use super::reshard::level;
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::Version;
use crate::cluster::slot::SlotSet;

/// The nodes that are to leave, and the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// All members, those without an address too.
    pub members: Vec<LeaveMember>,
    /// Those that are to leave.
    pub leaving: BTreeSet<NodeId>,
    /// What happens to their slots.
    pub slots: OwnedSlots,
    /// Replicas that may leave although their master then has no replica in sync; or such masters.
    pub unprotected: BTreeSet<NodeId>,
}

/// What happens to the slots of masters that leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnedSlots {
    /// The plan is refused.
    Refuse,
    /// They move to the masters that stay.
    Drain,
}

/// The state of a member.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaveMember {
    /// Its id.
    pub id: NodeId,
    /// Its role.
    pub role: Role,
    /// Its master.
    pub master: Option<NodeId>,
    /// Its version; `None` if unknown.
    pub version: Option<Version>,
    /// Its slots.
    pub slots: SlotSet,
    /// Slots that are open on it, or open on another member with it as the other end.
    pub open: SlotSet,
    /// Whether it answers and is not flagged as failed.
    pub life: Life,
    /// Whether it is a replica whose link to its master is up.
    pub in_sync: bool,
    /// Its number of keys; 0 if unknown.
    pub keys: u64,
    /// Its host and zone.
    pub place: Place,
}

/// Whether a node is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It answers and serves.
    Well,
    /// It answers redis-trib, but the other nodes flag it as failed.
    Doubted,
    /// It does not answer.
    Silent,
}

/// What happens before the nodes leave, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct Leave {
    /// Slots that move to the masters that stay.
    pub drain: MovePlan,
    /// Replicas of nodes that leave get other masters while their masters still own a slot: a master
    /// without slots becomes a replica itself, and its replicas follow (cluster-allow-replica-migration).
    pub given: Vec<Given>,
    /// The slots that are kept back for that.
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
    /// Its master, which leaves.
    pub from: NodeId,
    /// Its new master.
    pub to: NodeId,
}

/// Why nodes can't leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No master with slots would stay.
    LastOwner,
    /// A master owns slots, and the request does not allow to move them.
    OwnsSlots {
        /// The master.
        master: NodeId,
        /// Its slots.
        slots: SlotSet,
    },
    /// A master owns slots and can't give them away: it does not answer, or is flagged as failed.
    CantGive {
        /// The master.
        master: NodeId,
        /// Its slots.
        slots: SlotSet,
        /// One of its replicas that could take over.
        successor: Option<NodeId>,
    },
    /// It has open slots.
    Open {
        /// The node.
        node: NodeId,
        /// The slots.
        slots: SlotSet,
    },
    /// It is the only replica in sync of a master that stays.
    LastCopy {
        /// The replica.
        replica: NodeId,
        /// Its master.
        master: NodeId,
    },
    /// Its master is down or unknown: no other node may have the data.
    MasterNotWell {
        /// The replica.
        replica: NodeId,
        /// Its master.
        master: Option<NodeId>,
        /// Whether the user can allow it: the replica does not answer, so none of its data is deleted.
        can_be_allowed: bool,
    },
    /// A replica of a node that leaves does not answer, so it can't get another master.
    CantBeGiven {
        /// The replica.
        replica: NodeId,
        /// Its master.
        from: NodeId,
    },
    /// A replica of a node that leaves can't get another master: no master that stays owns a slot and
    /// serves.
    NobodyToFollow {
        /// The replica.
        replica: NodeId,
        /// Its master.
        from: NodeId,
    },
    /// A replica of a node that leaves can't get another master: it can't read the data of those that stay, which are
    /// newer.
    TooOldToFollow {
        /// The replica.
        replica: NodeId,
        /// Its master.
        from: NodeId,
        /// Its version.
        version: Version,
        /// The versions of the masters that stay.
        masters: BTreeSet<Version>,
    },
    /// A master without slots holds keys, which would be lost.
    HoldsKeys {
        /// The master.
        master: NodeId,
        /// How many.
        keys: u64,
    },
}

/// Plans what happens before nodes leave, or returns all reasons against it.
///
/// Slots are spread over the masters that stay and own slots, so that these own numbers as even as
/// possible. Replicas go to the masters with the fewest replicas of those that they can follow.
pub fn leave(request: &Request) -> Result<Leave, Vec<Refusal>> {
    let planner = LeavePlanner::of(request);
    let refusals = planner.refusals();
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let (drain, last) = planner.drain();
    Ok(Leave {
        drain,
        given: planner.given(),
        last,
    })
}

struct LeavePlanner<'a> {
    request: &'a Request,
    by_id: BTreeMap<NodeId, &'a LeaveMember>,
}

impl<'a> LeavePlanner<'a> {
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

    /// Masters that stay, own slots and serve, by lowest slot.
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
        let none_stays = self.stayers().next().is_none();
        if none_stays || self.leavers().any(owns) && !self.stayers().any(owns) {
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
        let owners = self.owners();
        let none_serves = owners.is_empty() && !refusals.contains(&Refusal::LastOwner);
        let masters: BTreeSet<Version> = owners.iter().filter_map(|one| one.version).collect();
        let can_follow_any = |member: &LeaveMember| {
            let mut owners = owners.iter();
            owners.any(|owner| Version::may_follow(member.version, owner.version))
        };
        for member in self.followers() {
            let Some(from) = member.master else {
                continue;
            };
            let replica = member.id;
            if member.life == Life::Silent {
                refusals.push(Refusal::CantBeGiven { replica, from });
            } else if none_serves {
                refusals.push(Refusal::NobodyToFollow { replica, from });
            } else if let Some(version) = member.version
                && !owners.is_empty()
                && !can_follow_any(member)
            {
                refusals.push(Refusal::TooOldToFollow {
                    replica,
                    from,
                    version,
                    masters: masters.clone(),
                });
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
        // Its master is a replica too, or has no data: its copy is not the last one.
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
                version: owner.version,
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
                version: member.version,
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

    /// The moves, and those that wait until the replicas have other masters: one slot of each master with
    /// such replicas.
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
