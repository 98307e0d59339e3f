//! Finishing what an earlier command began: open slots, and nodes that were not told.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;

use super::{AGREE_WITHIN, Part, carry_out_part, consent};
use crate::args::moves::MoveArgs;
use crate::client::SetSlot;
use crate::cluster::health::{Code, Diagnosis};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::{Direction, OpenSlot};
use crate::cluster::slot::{Slot, SlotSet};
use crate::cluster::topology::Member;
use crate::converge::poll::Polled;
use crate::converge::{ViewError, owners_known};
use crate::plan::MovePlan;
use crate::session::Session;
use crate::state::{ClusterState, errors, unhealthy};
use crate::stop::Stop;
use crate::ui::Ui;

/// Whether open slots are offered to be finished first: to a person who has not said yes to all.
pub(crate) fn may_offer(ui: &Ui, args: &MoveArgs) -> bool {
    ui.is_with_person() && !args.yes && !args.dry_run
}

/// Finishes moves that were begun and cut off: those that two looks show in the same state, so that
/// nobody else is at them. With --dry-run they are shown, and nothing else is.
pub(crate) async fn finish_open(
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
) -> Result<Finished, Stop> {
    /// Looks, a second apart, that may show clients at work on the keys of open slots.
    const LOOKS: usize = 6;
    let mut cluster = ClusterState::look(session).await?;
    if cluster.diagnosis.topology.open_set().is_empty() {
        return Ok(Finished::NothingOpen);
    }
    if !args.dry_run {
        let masters = cluster.diagnosis.topology.masters();
        let masters = masters.filter_map(|master| cluster.reach.get(&master.id));
        session.refuse_others(masters).await?;
    }
    let mut look = 0;
    let unfinished = loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let next = ClusterState::look(session).await?;
        let settled = in_transit(&cluster.diagnosis) == in_transit(&next.diagnosis);
        cluster = next;
        look += 1;
        // After a failover it takes a moment until all nodes tell the same.
        match unfinished(&cluster.diagnosis) {
            Ok(unfinished) if settled => {
                let hindrances = hindrances(&cluster.diagnosis);
                let go_on = args.dry_run
                    || hindrances.is_empty()
                    || unfinished.plan.slots_moved() == 0
                    || !unfinished.orphaned.is_empty();
                if go_on {
                    break unfinished;
                }
                // A node that has just restarted says for some seconds that it does not serve.
                let may_pass = hindrances.iter().all(|code| *code == Code::StateNotOk);
                if !may_pass || look == LOOKS {
                    let errors = errors(&cluster.diagnosis, |code| hindrances.contains(&code));
                    return Err(Stop::refused(anyhow!("{}", unhealthy(&errors))));
                }
            }
            Err(stop) if look == LOOKS => return Err(stop),
            _ if look == LOOKS => {
                return Err(Stop::refused(anyhow!(
                    "slots {} are on their way: their keys become fewer, so somebody else moves \
                     them; wait until that is done",
                    cluster.diagnosis.topology.open_set()
                )));
            }
            _ => {}
        }
    };
    if !args.dry_run {
        tell_late(session, ui, args, &cluster, &unfinished).await?;
    }
    if !args.dry_run && !unfinished.orphaned.is_empty() {
        consent(ui, args, &cluster.diagnosis, Part::First).await?;
        for (holder, slots) in &unfinished.orphaned {
            adopt(session, &cluster, *holder, slots).await?;
        }
        cluster = ClusterState::look(session).await?;
    }
    if unfinished.plan.slots_moved() > 0 {
        ui.hint(&format!(
            "finishing what was begun: slots {}",
            cluster.diagnosis.topology.open_set()
        ));
        let plan = &unfinished.plan;
        carry_out_part(session, ui, args, &cluster, plan, Part::First).await?;
    }
    Ok(if args.dry_run {
        Finished::OnlyShown
    } else {
        Finished::All
    })
}

/// What keeps slots from being finished, whichever they are: no key moves between nodes that don't
/// serve.
fn hindrances(diagnosis: &Diagnosis) -> Vec<Code> {
    const HINDER: [Code; 7] = [
        Code::SlotsUncovered,
        Code::NodeFailed,
        Code::NodeUnreachable,
        Code::AddressUnreachable,
        Code::NodeForeign,
        Code::StateNotOk,
        Code::NodeLoading,
    ];
    let found = diagnosis.findings.iter().map(|finding| finding.code);
    found.filter(|code| HINDER.contains(code)).collect()
}

/// What has become of open slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finished {
    /// There were none.
    NothingOpen,
    /// They are open still (--dry-run).
    OnlyShown,
    /// They are closed.
    All,
}

/// Open slots as masters tell of them, with the keys that their owners still have: these become
/// fewer while somebody moves them, whereas clients create keys at the other end only.
fn in_transit(diagnosis: &Diagnosis) -> Vec<(NodeId, OpenSlot, Option<u64>)> {
    open_at_masters(diagnosis)
        .map(|(member, open)| {
            let node = diagnosis.observation.nodes.get(&member.id);
            let keys = match open.direction {
                Direction::Migrating => node
                    .and_then(|node| node.report())
                    .and_then(|report| report.open_keys.get(&open.slot).copied()),
                Direction::Importing => None,
            };
            (member.id, open, keys)
        })
        .collect()
}

/// From Valkey 8 on replicas repeat what is open at their master.
fn open_at_masters(diagnosis: &Diagnosis) -> impl Iterator<Item = (&Member, OpenSlot)> {
    let open = diagnosis.topology.open_slots();
    open.filter(|(member, _)| member.role == Role::Master)
}

/// Nodes that were not told, before the cut, what all others know: who owns the slots now.
async fn tell_late(
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
    cluster: &ClusterState,
    unfinished: &Unfinished,
) -> Result<(), Stop> {
    if unfinished.told_late.is_empty() {
        return Ok(());
    }
    consent(ui, args, &cluster.diagnosis, Part::First).await?;
    let masters = cluster.diagnosis.topology.masters();
    let masters = masters.filter_map(|master| cluster.reach.get(&master.id));
    session.refuse_others(masters).await?;
    for (holder, slots, owner) in &unfinished.told_late {
        let Some(target) = cluster.reach.get(holder) else {
            continue;
        };
        let changes: Vec<_> = slots
            .iter()
            .map(|slot| (slot, SetSlot::Node(*owner)))
            .collect();
        let client = session.connections.client(target).await?;
        for outcome in client.cluster_setslots(&changes).await? {
            outcome.map_err(|error| {
                Stop::partial(anyhow!(
                    "slots {slots} belong to {}, but {} can't be told: {error}",
                    cluster.name(*owner),
                    cluster.name(*holder)
                ))
            })?;
        }
    }
    Ok(())
}

/// Lets a target see who owns slots now whose source failed over while it imported them. Until it
/// does, it has no owner for them and serves nothing (Redis 7.0, 8.6; Valkey mends that by itself).
/// Their keys stay on it: a node deletes only what it owned.
async fn adopt(
    session: &Session,
    cluster: &ClusterState,
    holder: NodeId,
    slots: &SlotSet,
) -> Result<(), Stop> {
    let Some(target) = cluster.reach.get(&holder) else {
        return Ok(());
    };
    let name = cluster.name(holder);
    let client = session.connections.client(target).await?;
    let changes: Vec<_> = slots.iter().map(|slot| (slot, SetSlot::Stable)).collect();
    for outcome in client.cluster_setslots(&changes).await? {
        outcome.map_err(|error| {
            Stop::partial(anyhow!(
                "{name} can't be told that the source of slots {slots} failed over: {error}"
            ))
        })?;
    }
    match owners_known(&client, slots, AGREE_WITHIN).await {
        Ok(Polled::Met(())) => Ok(()),
        Ok(Polled::Missing(_)) => Err(Stop::partial(anyhow!(
            "{name} does not learn within {} s who owns slots {slots}; the same command again goes on",
            AGREE_WITHIN.as_secs()
        ))),
        Err(ViewError::Client(error)) => Err(error.into()),
        Err(ViewError::Parse(error)) => Err(Stop::partial(anyhow!("{name}: {error}"))),
    }
}

/// What a cut left behind.
struct Unfinished {
    /// Moves that are finished by doing them again.
    plan: MovePlan,
    /// Nodes that gave slots away and were not told: the slots, and who owns them.
    told_late: Vec<(NodeId, SlotSet, NodeId)>,
    /// Targets that import slots from a node that has failed over since.
    orphaned: BTreeMap<NodeId, SlotSet>,
}

fn unfinished(diagnosis: &Diagnosis) -> Result<Unfinished, Stop> {
    let topology = &diagnosis.topology;
    let owner_of = |slot: Slot| {
        let mut owners = topology.masters().filter(|m| m.slots.contains(slot));
        match (owners.next(), owners.next()) {
            (Some(owner), None) => Some(owner.id),
            _ => None,
        }
    };
    let mut moves: BTreeMap<(NodeId, NodeId), SlotSet> = BTreeMap::new();
    let mut told_late: BTreeMap<(NodeId, NodeId), SlotSet> = BTreeMap::new();
    let mut targets: BTreeMap<Slot, NodeId> = BTreeMap::new();
    let mut orphaned: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
    // Who was a master when the move began, and follows its successor now.
    let successor = |id: NodeId| match topology.members.get(&id) {
        Some(member) if member.role == Role::Replica => member.master.unwrap_or(id),
        _ => id,
    };
    for (member, open) in open_at_masters(diagnosis) {
        let owner = owner_of(open.slot).ok_or_else(|| {
            Stop::refused(anyhow!(
                "slot {} has no single owner to move it from",
                open.slot
            ))
        })?;
        let (from, to) = match open.direction {
            Direction::Migrating => (member.id, successor(open.peer)),
            Direction::Importing => (successor(open.peer), member.id),
        };
        if owner == to {
            told_late
                .entry((member.id, owner))
                .or_default()
                .insert(open.slot);
            continue;
        }
        if owner != from
            || targets
                .insert(open.slot, to)
                .is_some_and(|other| other != to)
        {
            let name = |id| diagnosis.observation.name(id);
            let (holder, peer) = (name(member.id), name(open.peer));
            let how = match open.direction {
                Direction::Migrating => format!("{holder} gives it to {peer}"),
                Direction::Importing => format!("{holder} takes it from {peer}"),
            };
            return Err(Stop::refused(anyhow!(
                "slot {} is not just an unfinished move: {} owns it, and {how} (redis-trib fix --dry-run \
                 tells what can be done)",
                open.slot,
                name(owner)
            )));
        }
        if open.direction == Direction::Importing && from != open.peer {
            orphaned.entry(member.id).or_default().insert(open.slot);
        }
        moves.entry((from, to)).or_default().insert(open.slot);
    }
    Ok(Unfinished {
        orphaned,
        plan: MovePlan::of_moves(moves),
        told_late: told_late
            .into_iter()
            .map(|((holder, owner), slots)| (holder, slots, owner))
            .collect(),
    })
}
