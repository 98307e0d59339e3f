//! Steps that move keys, in lanes as a reshard does.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::anyhow;

use super::state::FixState;
use super::{ConflictWinner, FixContext, FixCounts, Memory, messages};
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;
use crate::event::Pair;
use crate::migrate::schedule::{MoveMethod, Work};
use crate::migrate::strategy::MethodChoice;
use crate::migrate::{AfterFailure, End, MoveOptions};
use crate::ops::move_slots::{Worked, ends, refuse_unfit, try_logins, work};
use crate::plan::MovePlan;
use crate::plan::fix::{FixPlan, FixStep, PlannedStep};
use crate::session::Session;
use crate::stop::Stop;

/// Finishes moves, then moves stray keys to the owners of their slots.
pub(super) async fn carry_out(
    context: FixContext<'_>,
    state: &FixState,
    plan: &FixPlan,
    memory: &mut Memory,
    counts: &mut FixCounts,
) -> Result<(), Stop> {
    for way in [MoveMethod::Keys, MoveMethod::Gather, MoveMethod::Purge] {
        let remedies: Vec<&PlannedStep> = plan
            .remedies
            .iter()
            .filter(|remedy| lane(remedy.step).is_some_and(|(of, _)| of == way))
            .collect();
        let clear;
        let remedies = match (way, context.options.on_conflict) {
            (MoveMethod::Gather, ConflictWinner::Other) => {
                clear = without_ambiguous(state, &remedies, memory);
                clear.iter().collect()
            }
            _ => remedies,
        };
        if remedies.is_empty() {
            continue;
        }
        for remedy in &remedies {
            // It is tried once: what it leaves is reported.
            if let FixStep::Purge { from, .. } = remedy.step {
                memory.tried.insert(remedy.step);
                let known = memory.revealed.entry(from).or_default();
                known.union_with(&remedy.slots);
            }
        }
        run(context, state, way, &remedies, memory, counts).await?;
    }
    Ok(())
}

/// The same without slots of which several nodes besides the owner hold keys: `--on-stray-conflict other` does not say which.
fn without_ambiguous(
    state: &FixState,
    remedies: &[&PlannedStep],
    memory: &mut Memory,
) -> Vec<PlannedStep> {
    let (mut once, mut twice) = (SlotSet::new(), SlotSet::new());
    for remedy in remedies {
        twice.union_with(&once.intersection(&remedy.slots));
        once.union_with(&remedy.slots);
    }
    if !twice.is_empty() {
        let holders = remedies.iter().filter_map(|one| match one.step {
            FixStep::Gather { from, .. } if !one.slots.intersection(&twice).is_empty() => {
                Some(from)
            }
            _ => None,
        });
        let holders: Vec<String> = holders.map(|id| state.name(id)).collect();
        let why = format!(
            "besides their owner {} hold keys of them, and --on-stray-conflict other may mean any of these: \
             run the command without it first, which moves the keys that do not differ; then delete the values \
             that are not wanted",
            holders.join(" and ")
        );
        memory.refused.push(messages::about_slots(&twice, &why));
        memory.stuck.union_with(&twice);
    }
    let clear = remedies.iter().map(|one| PlannedStep {
        slots: one.slots.difference(&twice),
        ..(*one).clone()
    });
    clear.filter(|one| !one.slots.is_empty()).collect()
}

fn lane(step: FixStep) -> Option<(MoveMethod, Pair)> {
    match step {
        FixStep::Finish { from, to } => Some((MoveMethod::Keys, Pair { from, to })),
        FixStep::Gather { from, to } => Some((MoveMethod::Gather, Pair { from, to })),
        FixStep::Purge { from, to } => Some((MoveMethod::Purge, Pair { from, to })),
        _ => None,
    }
}

async fn run(
    context: FixContext<'_>,
    state: &FixState,
    way: MoveMethod,
    remedies: &[&PlannedStep],
    memory: &mut Memory,
    counts: &mut FixCounts,
) -> Result<(), Stop> {
    let on_conflict = context.options.on_conflict;
    let options = Arc::new(MoveOptions {
        on_conflict: on_conflict.in_lane(way == MoveMethod::Keys),
        conflict_flag: "--on-stray-conflict owner|other",
        after_failure: AfterFailure::KeepGoing,
        ..context.options.moving.clone()
    });
    let open = state.diagnosis().topology.open_set();
    let mut reached: BTreeMap<NodeId, End> = BTreeMap::new();
    let mut moves: BTreeMap<Pair, Work> = BTreeMap::new();
    for remedy in remedies {
        let Some((_, pair)) = lane(remedy.step) else {
            continue;
        };
        match ready(context.session, state, (pair, way), &remedy.slots, &options).await {
            Ok(ends) => {
                for (id, end) in ends {
                    match reached.entry(id) {
                        Entry::Vacant(entry) => drop(entry.insert(end)),
                        Entry::Occupied(mut known) => known.get_mut().merge(end),
                    }
                }
                let slots = remedy.slots.iter().collect();
                let work = Work {
                    way,
                    slots,
                    open: remedy.slots.intersection(&open),
                    untried: false,
                };
                moves.insert(pair, work);
            }
            // The other pairs can go on.
            Err(why) => {
                memory
                    .refused
                    .push(messages::about_slots(&remedy.slots, &why));
                memory.stuck.union_with(&remedy.slots);
            }
        }
    }
    let slots_of = |(pair, work): (&Pair, &Work)| (*pair, work.slots.iter().copied().collect());
    let tried: BTreeMap<Pair, SlotSet> = moves.iter().map(slots_of).collect();
    let Worked {
        outcome, stopped, ..
    } = work(context.session, &options, &reached, moves).await;
    match way {
        MoveMethod::Purge => counts.purged += outcome.tally.keys,
        _ => counts.keys += outcome.tally.keys,
    }
    let mut left = SlotSet::new();
    for remedy in remedies {
        let done = lane(remedy.step).and_then(|(_, pair)| outcome.moved.get(&pair));
        left.union_with(&remedy.slots);
        let Some(done) = done.filter(|slots| !slots.is_empty()) else {
            continue;
        };
        left = left.difference(done);
        counts.steps += 1;
        context.fixed(messages::moved(state, remedy.step, done));
    }
    if stopped {
        let left = messages::about_slots(&left, "not done yet, and still open");
        return Err(Stop::interrupted(anyhow!("interrupted: {left}"))
            .with_resume([messages::resume(context, state)]));
    }
    let moved: usize = outcome.moved.values().map(SlotSet::count).sum();
    let failed: BTreeSet<Pair> = outcome.failures.iter().map(|(pair, _)| *pair).collect();
    for (pair, slots) in &tried {
        memory.failures.tried_again((way, *pair), slots);
    }
    for (pair, why) in &outcome.failures {
        let (from, to) = (state.name(pair.from), state.name(pair.to));
        let text = format!("{from} to {to}: {why}");
        match (way, tried.get(pair)) {
            (MoveMethod::Keys | MoveMethod::Gather, Some(slots)) => {
                let done = [&outcome.moved, &outcome.skipped];
                let done = done.into_iter().filter_map(|done| done.get(pair));
                let left = done.fold(slots.clone(), |left, done| left.difference(done));
                memory.failures.add_lane((way, *pair), left, text);
            }
            // A purge is not repeated, and slots whose keys differ count as done.
            _ => memory.failures.add(text),
        }
    }
    let mut stuck: SlotSet = outcome.open.keys().copied().collect();
    for skipped in outcome.skipped.values().filter(|slots| !slots.is_empty()) {
        stuck.union_with(skipped);
        memory.failures.add(format!(
            "slots {skipped} stay: they hold big keys (--on-big-key move)"
        ));
    }
    if stuck.is_empty() && moved == 0 {
        // Another round would end the same.
        let left = outcome
            .left
            .iter()
            .filter(|(pair, _)| failed.contains(pair));
        left.for_each(|(_, slots)| stuck.union_with(slots));
    }
    memory.stuck.union_with(&stuck);
    Ok(())
}

/// The two ends of a lane, if they serve and the target accepts the source's login.
async fn ready(
    session: &Session,
    state: &FixState,
    (pair, way): (Pair, MoveMethod),
    slots: &SlotSet,
    options: &MoveOptions,
) -> Result<BTreeMap<NodeId, End>, String> {
    for id in [pair.from, pair.to] {
        let node = state.diagnosis().observation.nodes.get(&id);
        let report = node.and_then(|node| node.report());
        if report.is_some_and(|report| !report.cluster.ok) {
            return Err(format!(
                "{} reports cluster_state:fail, and can neither send nor receive keys: assign slots without an \
                 owner and repair broken links first",
                state.name(id)
            ));
        }
    }
    let plan = MovePlan::of_moves([((pair.from, pair.to), slots.clone())].into());
    let text = |stop: Stop| format!("{:#}", stop.error);
    let mut ends = ends(&state.cluster, &plan).map_err(text)?;
    let reason = String::new();
    let choices = [(pair, MethodChoice { way, reason })].into();
    let fit = refuse_unfit(session, &state.cluster, &choices);
    fit.await.map_err(text)?;
    let tried = try_logins(session, state.diagnosis(), &choices, &mut ends, options);
    tried.await.map_err(text)?;
    Ok(ends)
}
