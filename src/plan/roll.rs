//! The order of a rolling restart: shard by shard, first the replicas, then a planned failover, then the old master.
//!
//! A step is chosen from the cluster as it is now, so that a roll that was interrupted, or in which the servers elected
//! another master meanwhile, goes on from there.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::node::{NodeId, Role};
use crate::cluster::ok_to_stop::{StopCandidate, reasons};
use crate::cluster::parse::Version;

/// A cluster in the middle of a roll.
#[derive(Debug, Clone)]
pub struct RollState {
    /// All members.
    pub members: Vec<StopCandidate>,
    /// The versions of the members that report one.
    pub versions: BTreeMap<NodeId, Version>,
    /// Members that still have to be restarted.
    pub pending: BTreeSet<NodeId>,
    /// Members that were restarted, by this run or an earlier one.
    pub done: BTreeSet<NodeId>,
}

/// What limits a roll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollLimits {
    /// How many nodes may be down at the same time, 1 at least. More than one only as far as `ok-to-stop` allows.
    pub max_unavailable: usize,
    /// Members that are masters again at the end.
    pub masters_at_end: BTreeSet<NodeId>,
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollStep {
    /// These nodes are restarted side by side.
    Restart(Vec<NodeId>),
    /// A replica takes over from its master.
    FailOver {
        /// The replica.
        to: NodeId,
        /// The master.
        from: NodeId,
        /// Whether the new master then has the only copy that is in sync, until the old one has restarted.
        only_copy: bool,
    },
}

/// Why a master can't be restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollRefusal {
    /// It has the only copy of its slots.
    SingleCopy(NodeId),
    /// It has the only copy, and would start empty: it writes nothing to its disk.
    NoPersistence(NodeId),
    /// It has replicas, and none of them is in sync.
    NoReplicaInSync(NodeId),
}

/// The refusals that are known before anything is changed. `persists` tells whether a node writes its data to disk;
/// `leave_unprotected` permits to restart the only copy of a shard.
pub fn refusals(
    state: &RollState,
    persists: impl Fn(NodeId) -> bool,
    leave_unprotected: bool,
) -> Vec<RollRefusal> {
    let masters = state.members.iter().filter(|member| {
        member.role == Role::Master
            && !member.slots.is_empty()
            && state.pending.contains(&member.id)
    });
    masters
        .filter_map(|master| {
            let replicas: Vec<&StopCandidate> = replicas(state, master.id).collect();
            // A pending replica that is down, or can't follow, is restarted first and then has its copy.
            let is_ready = |replica: &&StopCandidate| {
                replica.is_up && replica.in_sync || state.pending.contains(&replica.id)
            };
            match replicas.is_empty() {
                false if replicas.iter().any(is_ready) => None,
                false => Some(RollRefusal::NoReplicaInSync(master.id)),
                true if !persists(master.id) => Some(RollRefusal::NoPersistence(master.id)),
                true if !leave_unprotected => Some(RollRefusal::SingleCopy(master.id)),
                true => None,
            }
        })
        .collect()
}

/// The next step; `None` when the roll is complete.
pub fn next(state: &RollState, limits: &RollLimits) -> Result<Option<RollStep>, RollRefusal> {
    let mut restartable: Vec<&StopCandidate> = Vec::new();
    let mut first = None;
    for shard in shards(state) {
        let step = next_in(state, &shard)?;
        match step {
            ShardStep::Nothing => {}
            ShardStep::Restart(nodes) => restartable.extend(nodes),
            // Failovers keep the order of the shards; restarts of other shards do not wait for them.
            other => {
                first.get_or_insert((restartable.is_empty(), other));
            }
        }
    }
    match (restartable.split_first(), first) {
        (_, Some((true, ShardStep::FailOver(step)))) => Ok(Some(step)),
        (_, Some((true, ShardStep::Alone(id)))) => Ok(Some(RollStep::Restart(vec![id]))),
        (Some((one, others)), _) => Ok(Some(RollStep::Restart(batch(state, limits, one, others)))),
        (None, _) => Ok(back(state, limits)),
    }
}

/// All steps, as far as they can be foreseen.
pub fn foresee(state: &RollState, limits: &RollLimits) -> Vec<RollStep> {
    let mut state = state.clone();
    let mut steps = Vec::new();
    // Each step restarts a node or changes one master, so there can't be more.
    let most = state.members.len() * 3 + 1;
    while let Ok(Some(step)) = next(&state, limits) {
        apply(&mut state, &step);
        steps.push(step);
        if steps.len() > most {
            break;
        }
    }
    steps
}

/// The state after a step that went as planned.
pub fn apply(state: &mut RollState, step: &RollStep) {
    match step {
        RollStep::Restart(nodes) => {
            for id in nodes {
                state.pending.remove(id);
                state.done.insert(*id);
            }
            for member in &mut state.members {
                if nodes.contains(&member.id) {
                    member.is_up = true;
                    member.in_sync = member.role == Role::Replica;
                }
            }
        }
        RollStep::FailOver { to, from, .. } => {
            let old = state.members.iter().find(|member| member.id == *from);
            let Some((slots, votes)) = old.map(|old| (old.slots.clone(), old.votes)) else {
                return;
            };
            for member in &mut state.members {
                if member.id == *to {
                    member.role = Role::Master;
                    member.master = None;
                    member.slots = slots.clone();
                    member.votes = votes;
                    member.in_sync = false;
                } else if member.id == *from || member.master == Some(*from) {
                    if member.id == *from {
                        member.slots = Default::default();
                        member.votes = false;
                        member.takes_over = true;
                    }
                    member.role = Role::Replica;
                    member.master = Some(*to);
                    member.in_sync = true;
                }
            }
        }
    }
}

/// What a shard needs next.
enum ShardStep<'a> {
    Nothing,
    Restart(Vec<&'a StopCandidate>),
    /// A master without any replica, which nothing else may be down with.
    Alone(NodeId),
    FailOver(RollStep),
}

/// A master with its replicas; or replicas whose master is no member.
struct Shard<'a> {
    master: Option<&'a StopCandidate>,
    replicas: Vec<&'a StopCandidate>,
}

fn replicas(state: &RollState, master: NodeId) -> impl Iterator<Item = &StopCandidate> {
    let members = state.members.iter();
    members.filter(move |member| member.role == Role::Replica && member.master == Some(master))
}

/// The shards by their first slots, then masters without slots, then replicas of unknown masters.
fn shards(state: &RollState) -> Vec<Shard<'_>> {
    let masters = state.members.iter();
    let masters = masters.filter(|member| member.role == Role::Master);
    let mut masters: Vec<&StopCandidate> = masters.collect();
    masters.sort_by_key(|master| {
        let first = master.slots.iter().next().map(|slot| slot.number());
        (first.is_none(), first, master.id)
    });
    let known: BTreeSet<NodeId> = masters.iter().map(|master| master.id).collect();
    let mut shards: Vec<Shard<'_>> = masters
        .into_iter()
        .map(|master| Shard {
            master: Some(master),
            replicas: replicas(state, master.id).collect(),
        })
        .collect();
    let orphans = state.members.iter().filter(|member| {
        member.role == Role::Replica && member.master.is_none_or(|id| !known.contains(&id))
    });
    shards.push(Shard {
        master: None,
        replicas: orphans.collect(),
    });
    shards
}

fn next_in<'a>(state: &RollState, shard: &Shard<'a>) -> Result<ShardStep<'a>, RollRefusal> {
    let is_pending = |member: &&&StopCandidate| state.pending.contains(&member.id);
    let mut nodes: Vec<&StopCandidate> =
        shard.replicas.iter().filter(is_pending).copied().collect();
    // One that is down already costs nothing more.
    nodes.sort_by_key(|node| (node.is_up && node.in_sync, node.id));
    if !nodes.is_empty() {
        return Ok(ShardStep::Restart(nodes));
    }
    let Some(master) = shard.master.filter(|master| is_pending(&master)) else {
        return Ok(ShardStep::Nothing);
    };
    if master.slots.is_empty() {
        return Ok(ShardStep::Restart(vec![master]));
    }
    if shard.replicas.is_empty() {
        return Ok(ShardStep::Alone(master.id));
    }
    let to = successor(state, shard).ok_or(RollRefusal::NoReplicaInSync(master.id))?;
    Ok(ShardStep::FailOver(fail_over(state, to, master.id, shard)))
}

/// Whether a node can follow a master, as far as their versions tell.
fn can_follow(state: &RollState, replica: NodeId, master: NodeId) -> bool {
    let version = |id| state.versions.get(&id).copied();
    Version::may_follow(version(replica), version(master))
}

/// The replica that takes over: one that the replicas which are not restarted can follow, and of these one that was
/// restarted.
fn successor(state: &RollState, shard: &Shard<'_>) -> Option<NodeId> {
    let ready = shard.replicas.iter();
    let ready = ready.filter(|replica| replica.is_up && replica.in_sync);
    ready
        .min_by_key(|candidate| {
            let others = shard.replicas.iter();
            let left_behind = others.filter(|other| {
                other.id != candidate.id && !can_follow(state, other.id, candidate.id)
            });
            let is_updated = state.done.contains(&candidate.id);
            (left_behind.count(), !is_updated, candidate.id)
        })
        .map(|candidate| candidate.id)
}

fn fail_over(state: &RollState, to: NodeId, from: NodeId, shard: &Shard<'_>) -> RollStep {
    let mut others = shard.replicas.iter();
    let stays_in_sync = |replica: &&StopCandidate| {
        replica.id != to && replica.in_sync && can_follow(state, replica.id, to)
    };
    RollStep::FailOver {
        to,
        from,
        only_copy: !others.any(stays_in_sync),
    }
}

/// The first node, and as many others as may be down beside it.
fn batch(
    state: &RollState,
    limits: &RollLimits,
    first: &StopCandidate,
    others: &[&StopCandidate],
) -> Vec<NodeId> {
    let mut stopping: BTreeSet<NodeId> = [first.id].into();
    let mut batch = vec![first.id];
    for other in others {
        if batch.len() >= limits.max_unavailable.max(1) {
            break;
        }
        stopping.insert(other.id);
        match reasons(&state.members, &stopping).is_empty() {
            true => batch.push(other.id),
            false => drop(stopping.remove(&other.id)),
        }
    }
    batch
}

/// The next failover back to a master of the beginning.
fn back(state: &RollState, limits: &RollLimits) -> Option<RollStep> {
    let member = |id: NodeId| state.members.iter().find(|member| member.id == id);
    limits.masters_at_end.iter().find_map(|id| {
        let replica = member(*id)?;
        let is_ready = replica.role == Role::Replica && replica.is_up && replica.in_sync;
        let master = member(replica.master.filter(|_| is_ready)?)?;
        let shard = Shard {
            master: Some(master),
            replicas: replicas(state, master.id).collect(),
        };
        // Two of one shard can't both be its master.
        let is_wanted = limits.masters_at_end.contains(&master.id);
        (!is_wanted && master.role == Role::Master && !master.slots.is_empty()).then(|| {
            let step = fail_over(state, *id, master.id, &shard);
            match step {
                RollStep::FailOver { to, from, .. } => RollStep::FailOver {
                    to,
                    from,
                    // The old master runs and follows.
                    only_copy: !can_follow(state, from, to),
                },
                other => other,
            }
        })
    })
}

#[cfg(test)]
mod tests;
