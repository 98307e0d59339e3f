//! What is shown of moves before consent, and what is refused then.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, anyhow};

use crate::cluster::health::Diagnosis;
use crate::cluster::node::NodeId;
use crate::cluster::parse::{Product, Version};
use crate::cluster::slot::SlotSet;
use crate::connections::Target;
use crate::event::Pair;
use crate::migrate::schedule::MoveMethod;
use crate::migrate::strategy::MethodChoice;
use crate::plan::MovePlan;
use crate::plan::file::{SlotWeights, to_json};
use crate::report::{How, MovesView, PlannedMove, TargetMemory};
use crate::session::Session;
use crate::state::{ClusterState, name};
use crate::stop::Stop;

/// The warning for key-by-key moves to Valkey 9.
///
/// Valkey 9.1.2 sends SETSLOT NODE to its replicas before it executes it. If the target is killed in between, its
/// pings have told the replicas that it does not own the slot, and the replica that takes over deletes the keys of that
/// slot ("I have keys for slot 2, but the slot is assigned to another node"), though it had confirmed them. Valkey
/// 8.1 and Redis 8.6 do not. One slot is affected at most: SETSLOTs go one by one, and the target's config epoch is
/// the highest before (`migrate::lane::rank`).
pub(super) fn valkey_9(
    state: &ClusterState,
    choices: &BTreeMap<Pair, MethodChoice>,
) -> Option<String> {
    const FIRST: Version = Version {
        product: Product::Valkey,
        numbers: [9, 0, 0],
    };
    let is_affected = |id: &NodeId| {
        let version = state.diagnosis.observation.version_of(*id);
        version.is_some_and(|version| version.product == FIRST.product && version >= FIRST)
    };
    let mut by_key = choices
        .iter()
        .filter(|(_, choice)| choice.way == MoveMethod::Keys)
        .map(|(pair, _)| pair.to);
    let target = by_key.find(is_affected)?;
    Some(format!(
        "{} runs Valkey 9: if it is killed at the moment it claims a slot that moves key by key, its replica may \
         delete the keys of that slot (seen on 9.1.2); atomic moves are not affected",
        state.name(target)
    ))
}

/// The setting by which a master that gives away its last slot, and a replica of it, follow the target (Redis ≥ 7.0,
/// Valkey; older versions always do).
const MIGRATION: &str = "cluster-allow-replica-migration";

/// The warnings for masters that give away their last slot. Such a master becomes a replica of the target, at once or
/// when it hears of the last slot, and drops its data. Each of its replicas decides by its own setting.
pub(super) async fn emptied_masters(
    session: &Session,
    state: &ClusterState,
    plan: &MovePlan,
) -> Vec<String> {
    let mut given: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
    let mut targets: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
    for one in plan.moves() {
        given.entry(one.from).or_default().union_with(&one.slots);
        targets.entry(one.from).or_default().insert(one.to);
    }
    let topology = &state.diagnosis.topology;
    let mut emptied = Vec::new();
    let mut warnings = Vec::new();
    let mut moving: Vec<(NodeId, BTreeSet<NodeId>)> = Vec::new();
    for (id, slots) in given {
        let Some(member) = topology.members.get(&id) else {
            continue;
        };
        let keeps = !member.slots.difference(&slots).is_empty();
        let Some(target) = state.reach.get(&id).filter(|_| !keeps) else {
            continue;
        };
        let follows = migrates(session, target).await;
        let mut followers = BTreeSet::new();
        if follows != Some(false) {
            emptied.push(state.name(id));
            followers.insert(id);
        }
        for replica in topology.replicas_of(id) {
            let Some(target) = state.reach.get(&replica.id) else {
                continue;
            };
            let (master, name) = (state.name(id), state.name(replica.id));
            let own = migrates(session, target).await;
            if own != Some(false) {
                followers.insert(replica.id);
            }
            match (follows, own) {
                (Some(true), Some(false)) => warnings.push(format!(
                    "replica {name} will stay with {master}, which becomes a replica itself: `{MIGRATION}` is `no` on \
                     {name} and `yes` on its master"
                )),
                (Some(false), Some(true)) => warnings.push(format!(
                    "replica {name} will leave {master} for the target, with a full resync: `{MIGRATION}` is `yes` on \
                     {name} and `no` on its master"
                )),
                _ => {}
            }
        }
        moving.push((id, followers));
    }
    if !emptied.is_empty() {
        warnings.insert(
            0,
            format!(
                "no slot is left on {}. A master that gives away its last slot becomes a replica of the target, and so \
                 do its replicas, unless `{MIGRATION}` is `no` on it",
                emptied.join(", ")
            ),
        );
    }
    let gone: BTreeSet<NodeId> = moving.iter().map(|(id, _)| *id).collect();
    warnings.extend(moving.iter().filter_map(|(id, followers)| {
        let targets = targets.get(id)?;
        too_old(state, *id, followers, targets, &gone)
    }));
    warnings
}

/// The warning for a master that gives away its last slot, if it or a replica of it will follow a target whose data it
/// can't read. `gone` are all masters that give away their last slot.
fn too_old(
    state: &ClusterState,
    master: NodeId,
    followers: &BTreeSet<NodeId>,
    targets: &BTreeSet<NodeId>,
    gone: &BTreeSet<NodeId>,
) -> Option<String> {
    let version = |id: NodeId| state.diagnosis.observation.version_of(id);
    let can_follow = |id: NodeId, to: NodeId| Version::may_follow(version(id), version(to));
    let named = |id: NodeId| {
        let runs = version(id).map(|its| format!(" ({})", its.with_rdb_version()));
        format!("{}{}", state.name(id), runs.unwrap_or_default())
    };
    let list = |ids: &BTreeSet<NodeId>| {
        let names: Vec<String> = ids.iter().map(|id| named(*id)).collect();
        names.join(", ")
    };
    let newer: BTreeSet<NodeId> = targets
        .iter()
        .copied()
        .filter(|to| followers.iter().any(|id| !can_follow(*id, *to)))
        .collect();
    let older: BTreeSet<NodeId> = followers
        .iter()
        .copied()
        .filter(|id| newer.iter().any(|to| !can_follow(*id, *to)))
        .collect();
    if older.is_empty() {
        return None;
    }
    // `del-node` gives the replicas to masters that stay. Those that can follow none of them leave, too.
    let owners = state.owners();
    let stays = |id: NodeId| {
        let mut others = owners.iter().filter(|owner| !gone.contains(&owner.id));
        others.any(|owner| can_follow(id, owner.id))
    };
    let leaving = older.iter().filter(|id| **id != master && !stays(**id));
    let ids: Vec<String> = std::iter::once(&master)
        .chain(leaving)
        .map(ToString::to_string)
        .collect();
    Some(format!(
        "the new master of {} will be {}, whose data older versions can't read: they will be unable to sync. Remove the \
         emptied master with `redis-trib del-node {} {} --drain` instead, or set `{MIGRATION}` to `no` on these nodes \
         first",
        list(&older),
        list(&newer),
        state.resume_seed(),
        ids.join(" ")
    ))
}

/// The setting of a node; `None` if it has none, or does not tell.
async fn migrates(session: &Session, target: &Target) -> Option<bool> {
    let client = session.connections.client(target).await.ok()?;
    let config = client.config_get(&[MIGRATION]).await.ok()?;
    config.get(MIGRATION).map(|value| value != "no")
}

/// The moves of a plan, and the memory that its targets will need.
pub(super) fn view(
    diagnosis: &Diagnosis,
    plan: &MovePlan,
    choices: &BTreeMap<Pair, MethodChoice>,
) -> MovesView {
    let how = |from: NodeId, to: NodeId| match choices.get(&Pair { from, to }) {
        Some(MethodChoice {
            way: MoveMethod::Atomic(_),
            reason,
        }) => How::Atomic(reason.clone()),
        Some(MethodChoice { reason, .. }) => How::Keys(reason.clone()),
        None => How::Keys(String::new()),
    };
    let mut coming: BTreeMap<NodeId, u64> = BTreeMap::new();
    for one in plan.moves() {
        let used = used_memory(diagnosis, one.from);
        let owned = diagnosis
            .topology
            .members
            .get(&one.from)
            .map_or(0, |member| member.slots.count());
        let share = used as f64 * one.slots.count() as f64 / owned.max(1) as f64;
        *coming.entry(one.to).or_default() += share as u64;
    }
    MovesView {
        moves: plan
            .moves()
            .map(|one| PlannedMove {
                from: name(diagnosis, one.from),
                to: name(diagnosis, one.to),
                slots: one.slots.clone(),
                how: how(one.from, one.to),
            })
            .collect(),
        targets: coming
            .into_iter()
            .map(|(id, coming)| {
                let info = diagnosis
                    .observation
                    .nodes
                    .get(&id)
                    .and_then(|n| n.report());
                TargetMemory {
                    node: name(diagnosis, id),
                    used: used_memory(diagnosis, id),
                    coming,
                    limit: info
                        .and_then(|report| report.info.maxmemory)
                        .filter(|max| *max > 0),
                }
            })
            .collect(),
        warnings: Vec::new(),
    }
}

fn used_memory(diagnosis: &Diagnosis, id: NodeId) -> u64 {
    let report = diagnosis
        .observation
        .nodes
        .get(&id)
        .and_then(|n| n.report());
    report
        .and_then(|report| report.info.used_memory)
        .unwrap_or(0)
}

/// Refuses moves for which a target has no room: a full target evicts keys, or rejects them part-way.
pub(crate) fn refuse_full_targets(view: &MovesView, percent: u8) -> Result<(), Stop> {
    for memory in &view.targets {
        let after = memory.used.saturating_add(memory.coming);
        if let Some(limit) = memory.limit
            && after as f64 > limit as f64 * f64::from(percent) / 100.0
        {
            return Err(Stop::refused(anyhow!(
                "{} would use about {} MiB of its maxmemory of {} MiB, more than {percent} %: raise maxmemory, move \
                 less, or allow it with --max-target-memory",
                memory.node,
                after >> 20,
                limit >> 20
            )));
        }
    }
    Ok(())
}

/// Writes a plan to a file, before the first change.
pub(crate) fn save(
    flag: &str,
    file: &Path,
    plan: &MovePlan,
    weights: Option<&SlotWeights>,
) -> Result<(), Stop> {
    let text = to_json(plan, weights).map_err(Stop::refused)?;
    std::fs::write(file, text)
        .with_context(|| {
            let file = file.display();
            format!("{flag} {file}: can't be written; nothing was changed")
        })
        .map_err(Stop::refused)
}
