//! What is shown of a plan before anyone says yes, and what is refused at that sight.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, anyhow};

use crate::cluster::health::Diagnosis;
use crate::cluster::node::NodeId;
use crate::cluster::parse::{Product, Version};
use crate::cluster::slot::SlotSet;
use crate::event::Pair;
use crate::migrate::schedule::MoveMethod;
use crate::migrate::strategy::MethodChoice;
use crate::plan::MovePlan;
use crate::plan::file::to_json;
use crate::session::Session;
use crate::state::{ClusterState, name};
use crate::stop::Stop;
use crate::ui::{How, MovesView, PlannedMove, TargetMemory, Ui};

/// Valkey 9.1.2, key by key: a SETSLOT NODE goes to the replicas first. Where the target is killed
/// between theirs and its own, its own pings have told them that it does not own the slot, and the one
/// that takes over deletes the keys of a slot that is not its own ("I have keys for slot 2, but the
/// slot is assigned to another node"), though it had confirmed them. Neither Valkey 8.1 nor Redis 8.6
/// does that. It is one slot, since SETSLOTs go one by one, and the target's epoch is seen to before
/// (`migrate::lane::rank`). People should know before they say yes.
pub(super) fn warn_of_valkey_9(
    ui: &Ui,
    cluster: &ClusterState,
    choices: &BTreeMap<Pair, MethodChoice>,
) {
    const FIRST: Version = Version {
        product: Product::Valkey,
        numbers: [9, 0, 0],
    };
    let is_affected = |id: &NodeId| {
        let node = cluster.diagnosis.observation.nodes.get(id);
        let version = node.and_then(|node| node.report()?.info.version);
        version.is_some_and(|version| version.product == FIRST.product && version >= FIRST)
    };
    let mut by_key = choices
        .iter()
        .filter(|(_, choice)| choice.way == MoveMethod::Keys)
        .map(|(pair, _)| pair.to);
    if let Some(target) = by_key.find(is_affected) {
        ui.warn(&format!(
            "{} runs Valkey 9: should it be killed in the instant in which it claims a slot key by \
             key, its replica may delete the keys of that one slot (seen on 9.1.2); atomic moves \
             don't have that",
            cluster.name(target)
        ));
    }
}

/// A master that gives its last slot away follows whom it gave it to, at once or when it hears of it
/// (all versions; from Redis 7.0 on cluster-allow-replica-migration says whether), and drops what it has.
/// Whoever means to use it again should know before.
pub(super) async fn warn_of_emptied(
    session: &Session,
    ui: &Ui,
    cluster: &ClusterState,
    plan: &MovePlan,
) {
    const NAME: &str = "cluster-allow-replica-migration";
    let mut given: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
    for one in plan.moves() {
        given.entry(one.from).or_default().union_with(&one.slots);
    }
    let mut emptied = Vec::new();
    for (id, slots) in given {
        let Some(member) = cluster.diagnosis.topology.members.get(&id) else {
            continue;
        };
        let keeps = !member.slots.difference(&slots).is_empty();
        let Some(target) = cluster.reach.get(&id).filter(|_| !keeps) else {
            continue;
        };
        let config = match session.connections.client(target).await {
            Ok(client) => client.config_get(&[NAME]).await.unwrap_or_default(),
            Err(_) => BTreeMap::new(),
        };
        if config.get(NAME).is_none_or(|value| value != "no") {
            emptied.push(cluster.name(id));
        }
    }
    if !emptied.is_empty() {
        ui.warn(&format!(
            "nothing is left on {}: who gives its last slot away becomes a replica of whom it gives it to, \
             and so do its replicas, unless {NAME} is no there",
            emptied.join(", ")
        ));
    }
}

/// What a plan moves, and what that does to the memory of its targets.
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

/// A target that is full loses keys, or refuses them half-way.
pub(super) fn refuse_full_targets(view: &MovesView, percent: u8) -> Result<(), Stop> {
    for memory in &view.targets {
        let after = memory.used.saturating_add(memory.coming);
        if let Some(limit) = memory.limit
            && after as f64 > limit as f64 * f64::from(percent) / 100.0
        {
            return Err(Stop::refused(anyhow!(
                "{} would hold about {} MiB of its maxmemory of {} MiB, more than {percent} %: \
                 raise maxmemory, move less, or allow it with --max-target-memory",
                memory.node,
                after >> 20,
                limit >> 20
            )));
        }
    }
    Ok(())
}

/// Nothing was changed yet, and nothing will be when the plan can't be kept.
pub(crate) fn save(flag: &str, file: &Path, plan: &MovePlan) -> Result<(), Stop> {
    let text = to_json(plan).map_err(Stop::refused)?;
    std::fs::write(file, text)
        .with_context(|| {
            let file = file.display();
            format!("{flag} {file}: can't be written, so nothing was changed; name another file")
        })
        .map_err(Stop::refused)
}
