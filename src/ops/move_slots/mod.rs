//! Moves of slots between masters, for every command that moves some.
//!
//! [`prepare`] asks the nodes how each pair can move its slots and returns what is shown of that; [`execute`] moves
//! the slots and waits until all nodes agree. [`open_slots`] does the same for moves that were interrupted.

mod asm_login;
mod endpoints;
mod finish;
mod fitness;
mod functions;
pub(crate) mod open_slots;
mod preview;
mod running_tasks;
mod strategy;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::Instant;

use crate::cluster::node::NodeId;
use crate::cluster::numbers::counted;
use crate::cluster::slot::SlotSet;
use crate::cluster::topology::Bus;
use crate::connections::Target;
use crate::event::{MoveStats, Pair, Phase};
use crate::migrate::schedule::{MoveMethod, Work};
use crate::migrate::strategy::{MethodChoice, Strategy};
use crate::migrate::{self, End, MoveOptions, Outcome, StopSignal};
use crate::plan::MovePlan;
use crate::plan::file::SlotWeights;
use crate::report::{MovesView, WritePause, milliseconds};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use finish::{agree, unfinished, warn_of_skipped};
use preview::{emptied_masters, valkey_9, view};
use strategy::choices;

pub(crate) use endpoints::{ends, node_timeout, try_logins};
pub(crate) use fitness::{refuse_unfit, unreadable};
pub(crate) use preview::{refuse_full_targets, save};
pub(crate) use running_tasks::{Waited, at_rest, ended};

/// How long all nodes may take to agree after the last slot.
const AGREE_WITHIN: Duration = Duration::from_secs(30);

/// How slots are asked to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MethodRequest {
    /// Atomically, key by key, or whichever is possible.
    pub(crate) strategy: Strategy,
    /// A rate is given, which only moves key by key can keep.
    pub(crate) throttled: bool,
}

/// A plan of moves with the method of each pair, ready to be shown and executed.
#[derive(Debug)]
pub(crate) struct PreparedMoves {
    /// The moves.
    pub(crate) plan: MovePlan,
    /// What is shown of them.
    pub(crate) view: MovesView,
    /// cluster-node-timeout.
    pub(crate) node_timeout: Duration,
    /// The figures that the moves were planned with.
    pub(crate) weights: Option<SlotWeights>,
    choices: BTreeMap<Pair, MethodChoice>,
}

impl PreparedMoves {
    async fn new(
        session: &Session,
        state: &ClusterState,
        plan: MovePlan,
        choices: BTreeMap<Pair, MethodChoice>,
    ) -> Self {
        let mut view = view(&state.diagnosis, &plan, &choices);
        view.warnings.extend(valkey_9(state, &choices));
        let functions = functions::warnings(session, state, &choices);
        view.warnings.extend(functions.await);
        Self {
            view,
            node_timeout: node_timeout(session, state).await,
            weights: None,
            plan,
            choices,
        }
    }

    async fn warn_of_emptied(&mut self, session: &Session, state: &ClusterState) {
        let emptied = emptied_masters(session, state, &self.plan).await;
        self.view.warnings.extend(emptied);
    }

    /// Whether the same slots move between the same nodes in the same way.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let methods = |moves: &Self| -> Vec<(Pair, MoveMethod)> {
            let choices = moves.choices.iter();
            choices.map(|(pair, choice)| (*pair, choice.way)).collect()
        };
        self.plan == other.plan && methods(self) == methods(other)
    }

    /// The slots of each pair, with their method. `state` is the cluster before.
    fn work(&self, state: &ClusterState) -> BTreeMap<Pair, Work> {
        let open = state.diagnosis.topology.open_set();
        let moves = self.plan.moves();
        moves
            .map(|one| {
                let (from, to) = (one.from, one.to);
                let pair = Pair { from, to };
                let choice = self.choices.get(&pair);
                let work = Work {
                    way: choice.map_or(MoveMethod::Keys, |choice| choice.way),
                    slots: one.slots.iter().collect(),
                    open: one.slots.intersection(&open),
                    untried: false,
                };
                (pair, work)
            })
            .collect()
    }
}

/// Finds the method of each pair, and what is shown. Refuses a plan that can't be executed as requested.
pub(crate) async fn prepare(
    session: &Session,
    state: &ClusterState,
    plan: MovePlan,
    request: MethodRequest,
) -> Result<PreparedMoves, Stop> {
    let mut moves = prepare_drain(session, state, plan, request).await?;
    moves.warn_of_emptied(session, state).await;
    Ok(moves)
}

/// The same for masters that are emptied on purpose: no warning says that they will be empty.
pub(crate) async fn prepare_drain(
    session: &Session,
    state: &ClusterState,
    plan: MovePlan,
    request: MethodRequest,
) -> Result<PreparedMoves, Stop> {
    let choices = choices(session, state, &plan, request).await?;
    refuse_unfit(session, state, &choices).await?;
    Ok(PreparedMoves::new(session, state, plan, choices).await)
}

/// What was moved.
#[derive(Debug)]
pub(crate) struct MoveReport {
    /// The number of slots.
    pub(crate) slots: usize,
    /// Keys, bytes and times.
    pub(crate) stats: MoveStats,
    /// The time that the lanes took.
    pub(crate) took: Duration,
    /// The longest write pause of each pair, as far as the sources report it.
    pub(crate) write_pauses: Vec<WritePause>,
}

/// Moves slots and waits until all nodes agree. The first signal finishes the slots in hand, the second drops them.
/// `plan_file` holds the whole plan if the user has it in a file: applying that resumes.
pub(crate) async fn execute(
    session: &Session,
    state: &ClusterState,
    moves: &PreparedMoves,
    mut options: MoveOptions,
    plan_file: Option<&Path>,
) -> Result<MoveReport, Stop> {
    // A task that fails is no reason to go on in a way that the bus does not allow.
    options.by_key_if_denied &= state.diagnosis.topology.bus == Bus::Gossip;
    let options = Arc::new(options);
    let connecting = async {
        let mut ends = ends(state, &moves.plan)?;
        // Asked for the plan, too; the answer to the question may have taken long.
        refuse_unfit(session, state, &moves.choices).await?;
        let diagnosis = &state.diagnosis;
        try_logins(session, diagnosis, &moves.choices, &mut ends, &options).await?;
        Ok::<_, Stop>(ends)
    };
    let ends = match session.interrupt.stops(connecting).await {
        Ok(ends) => ends?,
        Err(signal) => {
            return Err(Stop::interrupted(anyhow!(
                "interrupted ({signal}) before a slot was moved"
            )));
        }
    };
    let worked = work(session, &options, &ends, moves.work(state)).await;
    let outcome = &worked.outcome;
    let slots = outcome.moved.values().map(SlotSet::count).sum();
    let left = outcome.left.values().any(|slots| !slots.is_empty());
    if !outcome.failures.is_empty() || !outcome.open.is_empty() || left {
        return Err(unfinished(state, &worked, plan_file));
    }
    tokio::select! {
        biased;
        agreed = agree(session, state, &moves.plan, outcome) => agreed?,
        () = session.interrupt.next() => {
            return Err(Stop::interrupted(anyhow!(
                "interrupted: {} moved, and it is not known yet whether all nodes agree",
                counted(slots as u64, "slot")
            )));
        }
    }
    warn_of_skipped(session, state, outcome);
    Ok(MoveReport {
        slots,
        stats: outcome.tally,
        took: worked.took,
        write_pauses: write_pauses(state, outcome),
    })
}

fn write_pauses(state: &ClusterState, outcome: &Outcome) -> Vec<WritePause> {
    let node = |id| crate::state::name(&state.diagnosis, id);
    let pauses = outcome.write_pauses.iter().map(|(pair, pause)| WritePause {
        from: node(pair.from),
        to: node(pair.to),
        longest_write_pause_ms: milliseconds(*pause),
    });
    pauses.collect()
}

/// The masters that can be reached: no other redis-trib may be at work on one of them.
pub(crate) fn masters(state: &ClusterState) -> Vec<Target> {
    let masters = state.diagnosis.topology.masters();
    let targets = masters.filter_map(|master| state.reach.get(&master.id).cloned());
    targets.collect()
}

/// What the lanes did.
pub(crate) struct Worked {
    /// The result of each lane.
    pub(crate) outcome: Outcome,
    /// The time they took, without that in which nothing was to move.
    pub(crate) took: Duration,
    /// Whether a signal stopped them.
    pub(crate) stopped: bool,
}

/// Runs lanes. The first signal finishes the slots in hand within `--stop-deadline`, the second drops them.
pub(crate) async fn work(
    session: &Session,
    options: &Arc<MoveOptions>,
    ends: &BTreeMap<NodeId, End>,
    moves: BTreeMap<Pair, Work>,
) -> Worked {
    let stop = StopSignal::default();
    let started = Instant::now();
    session.events.phase(Phase::Move);
    let connections = &session.connections;
    let events = session.events.sender();
    let control = &session.control;
    control.begin(options.settings);
    let file = options.control_file.as_deref();
    control.listen(session.run_name(), file, &session.events);
    let outcome = tokio::select! {
        outcome = migrate::run(moves, ends, connections, options, control, &events, &stop) => outcome,
        never = stop_at_signals(session, &stop, options.stop_deadline) => match never {},
    };
    // A lane that failed asks the others to stop; only a signal drops the slots in hand.
    let stopped =
        stop.now.is_cancelled() || (stop.soon.is_cancelled() && outcome.failures.is_empty());
    Worked {
        took: started.elapsed().saturating_sub(outcome.rested),
        outcome,
        stopped,
    }
}

/// Passes signals on to the lanes, which end by themselves.
async fn stop_at_signals(session: &Session, stop: &StopSignal, deadline: Duration) -> Infallible {
    let signal = session.interrupt.requested().await;
    stop.soon.cancel();
    session.events.warn(format!(
        "{signal}: finishing the slots in hand; a second signal stops at once"
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
