//! What every command shares that moves slots: from a plan of moves to moved slots.

mod endpoints;
mod finish;
mod open_slots;
mod preview;
mod running_tasks;
mod strategy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::Instant;

use crate::args::moves::MoveArgs;
use crate::change::legacy::shown;
use crate::cluster::health::Diagnosis;
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;
use crate::event::{Pair, Phase};
use crate::exit_code::ExitCode;
use crate::migrate::schedule::{MoveMethod, Work};
use crate::migrate::strategy::MethodChoice;
use crate::migrate::{self, End, MoveOptions, Outcome, StopSignal};
use crate::plan::MovePlan;
use crate::plan::file::inverse;
use crate::session::{LockHeld, Session};
use crate::state::ClusterState;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;
use finish::{agree, rest, tell_skipped};
use preview::{refuse_full_targets, view, warn_of_emptied, warn_of_valkey_9};
use strategy::choices;

pub(crate) use endpoints::{ends, node_timeout, try_logins};
pub(crate) use open_slots::{Finished, finish_open, may_offer};
pub(crate) use preview::save;
pub(crate) use running_tasks::{Waited, at_rest, ended};

/// How long all nodes may take to agree after the last slot.
const AGREE_WITHIN: Duration = Duration::from_secs(30);

/// Shows a plan, asks, moves, and waits until all nodes agree.
pub(crate) async fn carry_out(
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
    cluster: &ClusterState,
    plan: &MovePlan,
) -> CommandResult {
    carry_out_part(session, ui, args, cluster, plan, Part::Last).await
}

/// What is shown as the end of the command, and what comes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Open slots are finished; what the command is about follows.
    First,
    /// Slots are moved away, so that something else can be done.
    Drain,
    /// What the command is about.
    Last,
}

async fn carry_out_part(
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
    cluster: &ClusterState,
    plan: &MovePlan,
    part: Part,
) -> CommandResult {
    let diagnosis = &cluster.diagnosis;
    let choices = present(session, ui, args, cluster, plan, part).await?;
    if args.dry_run {
        return Ok(ExitCode::Done);
    }
    consent(ui, args, diagnosis, part).await?;
    let masters: Vec<_> = diagnosis
        .topology
        .masters()
        .filter_map(|master| cluster.reach.get(&master.id))
        .collect();
    if session.refuse_others(masters.into_iter()).await? == LockHeld::AfterWaiting {
        return Err(Stop::refused(anyhow!(
            "another redis-trib was at work until now: the plan may not fit any more; try again"
        )));
    }
    transfer(session, ui, args, cluster, plan, &choices, part).await
}

/// Shows a plan whose moves are only a part of what a command does, saves it where that is wanted, and
/// refuses what its targets have no room for.
pub(crate) async fn present_drain(
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
    cluster: &ClusterState,
    plan: &MovePlan,
) -> Result<(), Stop> {
    present(session, ui, args, cluster, plan, Part::Drain).await?;
    Ok(())
}

/// Moves slots away that somebody has agreed to.
pub(crate) async fn drain(
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
    cluster: &ClusterState,
    plan: &MovePlan,
) -> Result<(), Stop> {
    let choices = choices(session, args, cluster, plan, Part::Drain).await?;
    transfer(session, ui, args, cluster, plan, &choices, Part::Drain).await?;
    Ok(())
}

async fn present(
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
    cluster: &ClusterState,
    plan: &MovePlan,
    part: Part,
) -> Result<BTreeMap<Pair, MethodChoice>, Stop> {
    let choices = choices(session, args, cluster, plan, part).await?;
    let view = view(&cluster.diagnosis, plan, &choices);
    match part {
        Part::Drain => ui.moves_away(&view)?,
        Part::First | Part::Last => ui.moves(&view)?,
    }
    warn_of_valkey_9(ui, cluster, &choices);
    if part != Part::Drain {
        warn_of_emptied(session, ui, cluster, plan).await;
    }
    if part != Part::First {
        if let Some(file) = &args.plan_out {
            save("--plan-out", file, plan)?;
        }
        if let Some(file) = &args.undo_out {
            save("--undo-out", file, &inverse(plan))?;
        }
    }
    refuse_full_targets(&view, args.max_target_memory)?;
    Ok(choices)
}

/// Moves slots, and waits until all nodes agree.
async fn transfer(
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
    cluster: &ClusterState,
    plan: &MovePlan,
    choices: &BTreeMap<Pair, MethodChoice>,
    part: Part,
) -> CommandResult {
    let diagnosis = &cluster.diagnosis;
    let node_timeout = node_timeout(session, cluster).await;
    let options = Arc::new(args.options(node_timeout));
    let mut ends = ends(cluster, plan)?;
    let tried = shown(ui, session, async |session| {
        try_logins(session, diagnosis, choices, &mut ends, &options).await
    });
    tried.await?;

    let moves: BTreeMap<Pair, Work> = plan
        .moves()
        .map(|one| {
            let pair = Pair {
                from: one.from,
                to: one.to,
            };
            let work = Work {
                way: choices
                    .get(&pair)
                    .map_or(MoveMethod::Keys, |choice| choice.way),
                slots: one.slots.iter().collect(),
            };
            (pair, work)
        })
        .collect();
    let worked = shown(ui, session, async |session| {
        work(session, &options, &ends, moves).await
    });
    let worked = worked.await;
    let Worked {
        outcome,
        took,
        stopped: interrupted,
    } = worked;
    let moved: usize = outcome.moved.values().map(SlotSet::count).sum();
    let left = outcome.left.values().any(|slots| !slots.is_empty());
    if outcome.failures.is_empty() && outcome.open.is_empty() && !left {
        agree(session, ui, plan, &outcome).await?;
        match part {
            Part::First => ui.hint(&format!("what was begun is finished: {moved} slots")),
            Part::Drain => ui.hint(&format!("slots that have moved away: {moved}")),
            Part::Last => ui.moved(moved, &outcome.tally, took)?,
        }
        tell_skipped(ui, cluster, &outcome);
        return Ok(ExitCode::Done);
    }
    let error = anyhow!(
        "{}",
        rest(args, part, cluster, &outcome, moved, interrupted)
    );
    let code = match interrupted {
        true => ExitCode::Interrupted,
        // A lane that could not even begin.
        false if !outcome.touched && part != Part::First => ExitCode::Refused,
        false => ExitCode::Partial,
    };
    ui.stopped(code, &error)?;
    Err(Stop { code, error })
}

/// What lanes came to.
pub(crate) struct Worked {
    /// How far each came.
    pub(crate) outcome: Outcome,
    /// How long that took.
    pub(crate) took: Duration,
    /// Whether a signal cut it off.
    pub(crate) stopped: bool,
}

/// Runs lanes, shows how far they are, and heeds signals.
pub(crate) async fn work(
    session: &Session,
    options: &Arc<MoveOptions>,
    ends: &BTreeMap<NodeId, End>,
    moves: BTreeMap<Pair, Work>,
) -> Worked {
    let stop = StopSignal::default();
    let started = Instant::now();
    let lanes = async {
        session.events.phase(Phase::Move);
        let events = session.events.sender();
        let connections = &session.connections;
        migrate::run(moves, ends, connections, options, &events, &stop).await
    };
    let outcome = tokio::select! {
        outcome = lanes => outcome,
        // It never comes back: the work ends on its own once it was asked to.
        () = heed_signals(session, &stop, options.stop_deadline) => Outcome::default(),
    };
    // A lane that failed asks the others to stop; only a signal makes them drop what is in hand.
    let stopped =
        stop.now.is_cancelled() || (stop.soon.is_cancelled() && outcome.failures.is_empty());
    Worked {
        outcome,
        took: started.elapsed(),
        stopped,
    }
}

/// The first signal asks to finish what is in hand, within the deadline; the second drops it.
async fn heed_signals(session: &Session, stop: &StopSignal, deadline: Duration) {
    let name = session.interrupt.requested().await;
    stop.soon.cancel();
    session.events.warn(format!(
        "{name}: the slots in hand are finished first; once more stops at once"
    ));
    tokio::select! {
        () = session.interrupt.forced() => {}
        () = tokio::time::sleep(deadline) => session.events.warn(format!(
            "--stop-deadline {} is over: the slots in hand stay open",
            humantime::format_duration(deadline)
        )),
    }
    stop.now.cancel();
    std::future::pending().await
}

async fn consent(ui: &Ui, args: &MoveArgs, diagnosis: &Diagnosis, part: Part) -> Result<(), Stop> {
    if args.yes {
        return Ok(());
    }
    let about = format!(
        "The cluster of {} nodes that {} belongs to.",
        diagnosis.topology.members.len(),
        diagnosis.observation.name(diagnosis.observation.lead)
    );
    let question = match part {
        Part::First => {
            let open = diagnosis.topology.open_set();
            format!("Slots {open} are open: moves that were cut off. Finish them first?")
        }
        Part::Drain | Part::Last => {
            "Do you want to proceed with the proposed reshard plan?".to_string()
        }
    };
    crate::change::legacy::consent(ui, &question, &about).await
}
