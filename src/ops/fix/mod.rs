//! Mending: look, plan, show, ask, carry out, and look again, until nothing is left that can be
//! summary. `plan::fix` says what; here it is done.
//!
//! Every step leaves the cluster in a state that the next look plans for. So nothing is kept from
//! one round to the next but what was tried without success, and being cut off is no special case.

mod advice;
mod evict;
mod messages;
mod moves;
pub(crate) mod rejoin;
mod settle;
mod state;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;

use self::evict::Leaving;
use self::state::FixState;
use crate::args::moves::PaceArgs;
use crate::change::legacy::Signals;
use crate::change::legacy::{consent, shown};
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;
use crate::event::{Event, Phase};
use crate::migrate::OnConflict;
use crate::ops::move_slots::{Waited, ended};
use crate::plan::fix::{Consent, FixPlan, FixStep};
use crate::session::{LockHeld, Session};
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::ui::Ui;

/// Rounds of looking and mending. The longest way that the planner knows takes five; what takes
/// longer are conflicts between keys, which stop a window of slots each.
const ROUNDS: usize = 100;

/// What is to be summary, and how.
pub(crate) struct Job<'a> {
    /// Where.
    pub(crate) session: &'a Session,
    /// Who is told.
    pub(crate) ui: &'a Ui,
    /// How keys move.
    pub(crate) pace: &'a PaceArgs,
    /// Whose value counts where two differ.
    pub(crate) on_conflict: ConflictWinner,
    /// What is given up by name.
    pub(crate) consent: &'a Consent,
    /// Whether the user is asked.
    pub(crate) asking: Approval,
}

/// Whose value counts of a key that differs between a slot's owner and another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ConflictWinner {
    /// Nobody's: both stay, and the key is named.
    Abort,
    /// The value on the node that owns the slot.
    Owner,
    /// The value on the other node.
    Other,
}

/// Whether anything is changed, and whether that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Approval {
    /// The plan is shown, and that is all.
    DryRun,
    /// Nobody is asked.
    Yes,
    /// Somebody is.
    Ask,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct FixSummary {
    /// Remedies that were shown.
    pub(crate) planned: usize,
    /// Steps that were carried out.
    pub(crate) steps: usize,
    /// Keys that were brought where they belong.
    pub(crate) keys: u64,
    /// Keys that were deleted where they don't, since their owner has the same.
    pub(crate) purged: u64,
    /// What is not summary, in words: refused, or tried in vain.
    pub(crate) left: Vec<String>,
    /// Whether what is left was tried at all.
    pub(crate) failed: bool,
}

/// What is kept between rounds.
#[derive(Default)]
struct Memory {
    revealed: BTreeMap<NodeId, SlotSet>,
    unveiled: BTreeMap<NodeId, SlotSet>,
    begun: BTreeMap<NodeId, SlotSet>,
    tried: BTreeSet<FixStep>,
    /// Slots that stay open for what was found in them, and what that is.
    stuck: SlotSet,
    failures: Vec<String>,
    /// What could not even be begun, and why.
    refused: Vec<String>,
}

/// Mends what can be summary.
pub(crate) async fn fix(job: &Job<'_>) -> Result<FixSummary, Stop> {
    let mut memory = Memory::default();
    let dry_run = job.asking == Approval::DryRun;
    let cluster = ClusterState::look(job.session).await?;
    let waited = shown(job.ui, job.session, async |session| {
        ended(session, &cluster, dry_run).await
    })
    .await?;
    let mut alone = LockHeld::AtOnce;
    if job.asking != Approval::DryRun {
        // Before the looks that wait for what is on its way.
        let masters = cluster.diagnosis.topology.masters();
        let masters = masters.filter_map(|master| cluster.reach.get(&master.id));
        alone = job.session.refuse_others(masters).await?;
    }
    let mut state = match (waited, alone) {
        (Waited::No, LockHeld::AtOnce) => FixState::look_on(job.session, cluster).await?,
        _ => FixState::look(job.session).await?,
    };
    let plan = state.plan(job.consent, &memory);
    let mut view = messages::view(&state, &plan);
    if !dry_run {
        // Whoever mends wants to see what is broken.
        view.warnings.clear();
    }
    job.ui.remedies(&view)?;
    let mut summary = FixSummary {
        planned: plan.remedies.len(),
        ..FixSummary::default()
    };
    if job.asking == Approval::DryRun || plan.remedies.is_empty() {
        summary.left = messages::left(&state, &plan);
        return Ok(summary);
    }
    if job.asking == Approval::Ask {
        let question = "Carry these remedies out, and what they lead to?";
        consent(job.ui, question, &messages::about(&state)).await?;
    }
    if job.session.refuse_others(state.masters()).await? == LockHeld::AfterWaiting {
        return Err(Stop::refused(anyhow!(
            "another redis-trib was at work until now: the plan may not fit any more; try again"
        )));
    }
    // From here on we end in order.
    let mut signals = Signals::listen()?;
    for round in 0..ROUNDS {
        // People take their time, and each step changes what the next one is.
        if round > 0 || job.asking == Approval::Ask {
            state = FixState::look(job.session)
                .await
                .map_err(|stop| begun(stop, &summary))?;
        }
        let plan = state.plan(job.consent, &memory);
        memory.begun.clone_from(&plan.begun);
        if plan.remedies.is_empty() {
            summary.failed = !memory.failures.is_empty();
            summary.left = memory.failures;
            summary.left.extend(memory.refused);
            summary.left.extend(messages::left(&state, &plan));
            return Ok(summary);
        }
        if let Some(name) = signals.heard().await {
            return Err(interrupted(job, name, &state, &plan));
        }
        let cheap = carry_out(job, &state, &plan, &mut memory, &mut summary).await?;
        if !cheap {
            moves::carry_out(job, &state, &plan, &mut memory, &mut summary).await?;
        }
        settle::wait(job, &mut signals).await?;
    }
    Err(Stop::partial(anyhow!(
        "after {ROUNDS} rounds something is still broken: {}",
        messages::left(&state, &state.plan(job.consent, &memory)).join("\n")
    )))
}

/// All that takes a command or a few. Whether there was any: what is left then may be another matter
/// than what was planned.
async fn carry_out(
    job: &Job<'_>,
    state: &FixState,
    plan: &FixPlan,
    memory: &mut Memory,
    summary: &mut FixSummary,
) -> Result<bool, Stop> {
    let mut told = false;
    let foreign = Leaving::of(plan);
    if !foreign.is_empty() {
        job.ui.event(&Event::Phase(Phase::Fix));
        told = true;
        evict::carry_out(job, state, &foreign)
            .await
            .map_err(|error| {
                Stop::partial(anyhow!("{error:#}\n{}", messages::again(job, state)))
            })?;
    }
    for remedy in plan
        .remedies
        .iter()
        .filter(|remedy| !remedy.step.moves_keys())
    {
        if !told {
            job.ui.event(&Event::Phase(Phase::Fix));
            told = true;
        }
        steps::take(job, state, remedy, memory)
            .await
            .map_err(|error| {
                Stop::partial(anyhow!(
                    "{}: {error}\n{}",
                    messages::doing(state, remedy),
                    messages::again(job, state)
                ))
            })?;
        summary.steps += 1;
        job.ui.mended(&messages::line(state, remedy))?;
    }
    Ok(told)
}

/// A look that fails after something was changed is no refusal.
fn begun(stop: Stop, summary: &FixSummary) -> Stop {
    match summary.steps {
        0 => stop,
        steps => Stop::partial(
            stop.error
                .context(format!("{steps} steps were taken, but then")),
        ),
    }
}

fn interrupted(job: &Job<'_>, name: &str, state: &FixState, plan: &FixPlan) -> Stop {
    let left: Vec<String> = plan
        .remedies
        .iter()
        .map(|remedy| messages::doing(state, remedy))
        .collect();
    Stop::interrupted(anyhow!(
        "{name}: what was in hand is done; what is left: {}\n{}",
        left.join("; "),
        messages::again(job, state)
    ))
}

impl ConflictWinner {
    /// The same, for a run of lanes whose source, or target, owns the slots.
    fn in_lane(self, owner_is_source: bool) -> OnConflict {
        match (self, owner_is_source) {
            (Self::Abort, _) => OnConflict::Abort,
            (Self::Owner, true) | (Self::Other, false) => OnConflict::Source,
            (Self::Owner, false) | (Self::Other, true) => OnConflict::Target,
        }
    }
}
