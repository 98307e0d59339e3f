//! Mending: look, plan, show, ask, carry out, and look again, until nothing is left that can be
//! mended. `plan::fix` says what; here it is done.
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
use self::state::Ward;
use crate::args::moves::PaceArgs;
use crate::change::consent::consent;
use crate::change::signals::Signals;
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;
use crate::event::{Event, Phase};
use crate::migrate::OnConflict;
use crate::ops::move_slots::{Waited, ended};
use crate::plan::fix::{Consent, FixPlan, Mend};
use crate::session::{Alone, Session};
use crate::state::Cluster;
use crate::stop::Stop;
use crate::ui::Ui;

/// Rounds of looking and mending. The longest way that the planner knows takes five; what takes
/// longer are conflicts between keys, which stop a window of slots each.
const ROUNDS: usize = 100;

/// What is to be mended, and how.
pub(crate) struct Job<'a> {
    /// Where.
    pub(crate) session: &'a Session,
    /// Who is told.
    pub(crate) ui: &'a Ui,
    /// How keys move.
    pub(crate) pace: &'a PaceArgs,
    /// Whose value counts where two differ.
    pub(crate) on_conflict: Winner,
    /// What is given up by name.
    pub(crate) consent: &'a Consent,
    /// Whether the user is asked.
    pub(crate) asking: Asking,
}

/// Whose value counts of a key that differs between a slot's owner and another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Winner {
    /// Nobody's: both stay, and the key is named.
    Abort,
    /// The value on the node that owns the slot.
    Owner,
    /// The value on the other node.
    Other,
}

/// Whether anything is changed, and whether that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// The plan is shown, and that is all.
    DryRun,
    /// Nobody is asked.
    Yes,
    /// Somebody is.
    Ask,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Mended {
    /// Remedies that were shown.
    pub(crate) planned: usize,
    /// Steps that were carried out.
    pub(crate) steps: usize,
    /// Keys that were brought where they belong.
    pub(crate) keys: u64,
    /// Keys that were deleted where they don't, since their owner has the same.
    pub(crate) purged: u64,
    /// What is not mended, in words: refused, or tried in vain.
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
    tried: BTreeSet<Mend>,
    /// Slots that stay open for what was found in them, and what that is.
    stuck: SlotSet,
    failures: Vec<String>,
    /// What could not even be begun, and why.
    refused: Vec<String>,
}

/// Mends what can be mended.
pub(crate) async fn mend(job: &Job<'_>) -> Result<Mended, Stop> {
    let mut memory = Memory::default();
    let dry_run = job.asking == Asking::DryRun;
    let cluster = Cluster::look(job.session).await?;
    let waited = ended(job.session, job.ui, &cluster, dry_run).await?;
    let mut alone = Alone::AllTheTime;
    if job.asking != Asking::DryRun {
        // Before the looks that wait for what is on its way.
        let masters = cluster.diagnosis.topology.masters();
        let masters = masters.filter_map(|master| cluster.reach.get(&master.id));
        alone = job.session.refuse_others(masters).await?;
    }
    let mut ward = match (waited, alone) {
        (Waited::No, Alone::AllTheTime) => Ward::look_on(job.session, cluster).await?,
        _ => Ward::look(job.session).await?,
    };
    let plan = ward.plan(job.consent, &memory);
    let mut view = messages::view(&ward, &plan);
    if !dry_run {
        // Whoever mends wants to see what is broken.
        view.warnings.clear();
    }
    job.ui.remedies(&view)?;
    let mut mended = Mended {
        planned: plan.remedies.len(),
        ..Mended::default()
    };
    if job.asking == Asking::DryRun || plan.remedies.is_empty() {
        mended.left = messages::left(&ward, &plan);
        return Ok(mended);
    }
    if job.asking == Asking::Ask {
        let question = "Carry these remedies out, and what they lead to?";
        consent(job.ui, question, &messages::about(&ward)).await?;
    }
    if job.session.refuse_others(ward.masters()).await? == Alone::ByNow {
        return Err(Stop::refused(anyhow!(
            "another redis-trib was at work until now: the plan may not fit any more; try again"
        )));
    }
    // From here on we end in order.
    let mut signals = Signals::listen()?;
    for round in 0..ROUNDS {
        // People take their time, and each step changes what the next one is.
        if round > 0 || job.asking == Asking::Ask {
            ward = Ward::look(job.session)
                .await
                .map_err(|stop| begun(stop, &mended))?;
        }
        let plan = ward.plan(job.consent, &memory);
        memory.begun.clone_from(&plan.begun);
        if plan.remedies.is_empty() {
            mended.failed = !memory.failures.is_empty();
            mended.left = memory.failures;
            mended.left.extend(memory.refused);
            mended.left.extend(messages::left(&ward, &plan));
            return Ok(mended);
        }
        if let Some(name) = signals.heard().await {
            return Err(interrupted(job, name, &ward, &plan));
        }
        let cheap = carry_out(job, &ward, &plan, &mut memory, &mut mended).await?;
        if !cheap {
            moves::carry_out(job, &ward, &plan, &mut memory, &mut mended, &mut signals).await?;
        }
        settle::wait(job, &mut signals).await?;
    }
    Err(Stop::partial(anyhow!(
        "after {ROUNDS} rounds something is still broken: {}",
        messages::left(&ward, &ward.plan(job.consent, &memory)).join("\n")
    )))
}

/// All that takes a command or a few. Whether there was any: what is left then may be another matter
/// than what was planned.
async fn carry_out(
    job: &Job<'_>,
    ward: &Ward,
    plan: &FixPlan,
    memory: &mut Memory,
    mended: &mut Mended,
) -> Result<bool, Stop> {
    let mut told = false;
    let foreign = Leaving::of(plan);
    if !foreign.is_empty() {
        job.ui.event(&Event::Phase(Phase::Mend));
        told = true;
        evict::carry_out(job, ward, &foreign)
            .await
            .map_err(|error| Stop::partial(anyhow!("{error:#}\n{}", messages::again(job, ward))))?;
    }
    for remedy in plan
        .remedies
        .iter()
        .filter(|remedy| !remedy.mend.moves_keys())
    {
        if !told {
            job.ui.event(&Event::Phase(Phase::Mend));
            told = true;
        }
        steps::take(job, ward, remedy, memory)
            .await
            .map_err(|error| {
                Stop::partial(anyhow!(
                    "{}: {error}\n{}",
                    messages::doing(ward, remedy),
                    messages::again(job, ward)
                ))
            })?;
        mended.steps += 1;
        job.ui.mended(&messages::line(ward, remedy))?;
    }
    Ok(told)
}

/// A look that fails after something was changed is no refusal.
fn begun(stop: Stop, mended: &Mended) -> Stop {
    match mended.steps {
        0 => stop,
        steps => Stop::partial(
            stop.error
                .context(format!("{steps} steps were taken, but then")),
        ),
    }
}

fn interrupted(job: &Job<'_>, name: &str, ward: &Ward, plan: &FixPlan) -> Stop {
    let left: Vec<String> = plan
        .remedies
        .iter()
        .map(|remedy| messages::doing(ward, remedy))
        .collect();
    Stop::interrupted(anyhow!(
        "{name}: what was in hand is done; what is left: {}\n{}",
        left.join("; "),
        messages::again(job, ward)
    ))
}

impl Winner {
    /// The same, for a run of lanes whose source, or target, owns the slots.
    fn in_lane(self, owner_is_source: bool) -> OnConflict {
        match (self, owner_is_source) {
            (Self::Abort, _) => OnConflict::Abort,
            (Self::Owner, true) | (Self::Other, false) => OnConflict::Source,
            (Self::Owner, false) | (Self::Other, true) => OnConflict::Target,
        }
    }
}
