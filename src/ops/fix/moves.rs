//! Steps that move keys: lanes, as for a reshard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::anyhow;

use super::state::Ward;
use super::{Job, Memory, Mended, Winner, messages};
use crate::change::signals::Signals;
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;
use crate::event::Pair;
use crate::migrate::schedule::{Way, Work};
use crate::migrate::strategy::Choice;
use crate::migrate::{AfterFailure, End, Options};
use crate::ops::move_slots::{Worked, ends, node_timeout, try_logins, work};
use crate::plan::Plan;
use crate::plan::fix::{FixPlan, Mend, Remedy};
use crate::stop::Stop;

/// Finishes moves, then brings stray keys home.
pub(super) async fn carry_out(
    job: &Job<'_>,
    ward: &Ward,
    plan: &FixPlan,
    memory: &mut Memory,
    mended: &mut Mended,
    signals: &mut Signals,
) -> Result<(), Stop> {
    for way in [Way::Keys, Way::Gather, Way::Purge] {
        let remedies: Vec<&Remedy> = plan
            .remedies
            .iter()
            .filter(|remedy| lane(remedy.mend).is_some_and(|(of, _)| of == way))
            .collect();
        let clear;
        let remedies = match (way, job.on_conflict) {
            (Way::Gather, Winner::Other) => {
                clear = without_ambiguous(ward, &remedies, memory);
                clear.iter().collect()
            }
            _ => remedies,
        };
        if remedies.is_empty() {
            continue;
        }
        for remedy in &remedies {
            // Once will do: what it leaves is told.
            if let Mend::Purge { from, .. } = remedy.mend {
                memory.tried.insert(remedy.mend);
                let known = memory.revealed.entry(from).or_default();
                known.union_with(&remedy.slots);
            }
        }
        run(job, ward, way, &remedies, memory, mended, signals).await?;
    }
    Ok(())
}

/// The same without slots of which several nodes besides the owner hold keys: which of them is the other
/// one, nobody has said.
fn without_ambiguous(ward: &Ward, remedies: &[&Remedy], memory: &mut Memory) -> Vec<Remedy> {
    let (mut once, mut twice) = (SlotSet::new(), SlotSet::new());
    for remedy in remedies {
        twice.union_with(&once.intersection(&remedy.slots));
        once.union_with(&remedy.slots);
    }
    if !twice.is_empty() {
        let holders = remedies.iter().filter_map(|one| match one.mend {
            Mend::Gather { from, .. } if !one.slots.intersection(&twice).is_empty() => Some(from),
            _ => None,
        });
        let holders: Vec<String> = holders.map(|id| ward.name(id)).collect();
        let why = format!(
            "besides their owner {} hold keys of them, and --on-conflict other may mean any of these: \
             leave it out first, which brings together what does not differ; then delete the values that \
             are not wanted",
            holders.join(" and ")
        );
        memory.refused.push(messages::about_slots(&twice, &why));
        memory.stuck.union_with(&twice);
    }
    let clear = remedies.iter().map(|one| Remedy {
        slots: one.slots.difference(&twice),
        ..(*one).clone()
    });
    clear.filter(|one| !one.slots.is_empty()).collect()
}

fn lane(mend: Mend) -> Option<(Way, Pair)> {
    match mend {
        Mend::Finish { from, to } => Some((Way::Keys, Pair { from, to })),
        Mend::Gather { from, to } => Some((Way::Gather, Pair { from, to })),
        Mend::Purge { from, to } => Some((Way::Purge, Pair { from, to })),
        _ => None,
    }
}

async fn run(
    job: &Job<'_>,
    ward: &Ward,
    way: Way,
    remedies: &[&Remedy],
    memory: &mut Memory,
    mended: &mut Mended,
    signals: &mut Signals,
) -> Result<(), Stop> {
    let options = Arc::new(Options {
        on_conflict: job.on_conflict.in_lane(way == Way::Keys),
        conflict_flag: "--on-conflict owner|other",
        after_failure: AfterFailure::KeepGoing,
        ..job
            .pace
            .options(node_timeout(job.session, &ward.cluster).await)
    });
    let mut reached = BTreeMap::new();
    let mut moves: BTreeMap<Pair, Work> = BTreeMap::new();
    for remedy in remedies {
        let Some((_, pair)) = lane(remedy.mend) else {
            continue;
        };
        match ready(job, ward, (pair, way), &remedy.slots, &options).await {
            Ok(ends) => {
                reached.extend(ends);
                let slots = remedy.slots.iter().collect();
                moves.insert(pair, Work { way, slots });
            }
            // One pair that can't is no reason for the others not to.
            Err(why) => {
                memory
                    .refused
                    .push(messages::about_slots(&remedy.slots, &why));
                memory.stuck.union_with(&remedy.slots);
            }
        }
    }
    let Worked {
        outcome, stopped, ..
    } = work(job.session, job.ui, &options, &reached, moves, signals).await;
    match way {
        Way::Purge => mended.purged += outcome.tally.keys,
        _ => mended.keys += outcome.tally.keys,
    }
    let mut left = SlotSet::new();
    for remedy in remedies {
        let done = lane(remedy.mend).and_then(|(_, pair)| outcome.moved.get(&pair));
        left.union_with(&remedy.slots);
        let Some(done) = done.filter(|slots| !slots.is_empty()) else {
            continue;
        };
        left = left.difference(done);
        mended.steps += 1;
        job.ui.mended(&messages::moved(ward, remedy.mend, done))?;
    }
    if stopped {
        let left = messages::about_slots(&left, "not done yet, and still open");
        return Err(Stop::interrupted(anyhow!(
            "interrupted: {left}\n{}",
            messages::again(job, ward)
        )));
    }
    let moved: usize = outcome.moved.values().map(SlotSet::count).sum();
    let failed: BTreeSet<Pair> = outcome.failures.iter().map(|(pair, _)| *pair).collect();
    for (pair, why) in &outcome.failures {
        let (from, to) = (ward.name(pair.from), ward.name(pair.to));
        memory.failures.push(format!("{from} to {to}: {why}"));
    }
    let mut stuck: SlotSet = outcome.open.keys().copied().collect();
    for skipped in outcome.skipped.values().filter(|slots| !slots.is_empty()) {
        stuck.union_with(skipped);
        memory.failures.push(format!(
            "slots {skipped} stay: they hold big keys (--on-big-key move)"
        ));
    }
    if stuck.is_empty() && moved == 0 {
        // It would be the same again.
        let left = outcome
            .left
            .iter()
            .filter(|(pair, _)| failed.contains(pair));
        left.for_each(|(_, slots)| stuck.union_with(slots));
    }
    memory.stuck.union_with(&stuck);
    Ok(())
}

/// Both ends of a lane, if they serve and the source may send its keys to the target.
async fn ready(
    job: &Job<'_>,
    ward: &Ward,
    (pair, way): (Pair, Way),
    slots: &SlotSet,
    options: &Options,
) -> Result<BTreeMap<NodeId, End>, String> {
    for id in [pair.from, pair.to] {
        let node = ward.diagnosis().observation.nodes.get(&id);
        let report = node.and_then(|node| node.report());
        if report.is_some_and(|report| !report.cluster.ok) {
            return Err(format!(
                "{} says cluster_state:fail, and neither sends nor takes keys until that is over: where \
                 slots have no owner, or nodes do not hear each other, see to that first",
                ward.name(id)
            ));
        }
    }
    let plan = Plan::of_moves([((pair.from, pair.to), slots.clone())].into());
    let told = |stop: Stop| format!("{:#}", stop.error);
    let mut ends = ends(&ward.cluster, &plan).map_err(told)?;
    let reason = String::new();
    let choices = [(pair, Choice { way, reason })].into();
    let tried = try_logins(
        job.session,
        job.ui,
        ward.diagnosis(),
        &choices,
        &mut ends,
        options,
    );
    tried.await.map_err(told)?;
    Ok(ends)
}
