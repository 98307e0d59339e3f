//! Moves slots: lanes between pairs of nodes, in parallel as far as the servers allow.
//!
//! The guarantee, whatever fails: no key is lost, no key exists twice, and every slot is either
//! at its source, at its target, or named. The order of the steps ensures it (target IMPORTING,
//! source MIGRATING, the keys, source empty in every database, target NODE, source NODE). `lane`
//! explains why. `lane::atomic` asks servers that move slots by themselves to do so. `strategy`
//! says which servers do.

mod conflict;
mod keys;
mod lane;
mod meter;
mod pace;
mod panics;
mod probe;
mod regulator;
pub mod schedule;
pub mod strategy;
mod stray;
mod throttle;
mod trial;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client::Login;
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::slot::{Slot, SlotSet};
use crate::connections::{Connections, Target};
use crate::control::{Control, Flow, Settings};
use crate::event::{Event, MoveStats, Pair};
pub use lane::set_slots;
use lane::{Lane, Report};
use regulator::Regulator;
use schedule::{Limits, MoveMethod, Schedule, TaskLimit, Work};

pub use stray::{Hidden, Strays, strays};
pub use trial::{Trial, try_migrate};

/// How slots are moved.
#[derive(Debug, Clone)]
pub struct MoveOptions {
    /// The servers' own deadline for each read and write of a MIGRATE.
    pub timeout: Duration,
    /// So many keys in each MIGRATE; without it the number adapts.
    pub pipeline: Option<usize>,
    /// The longest that one MIGRATE may hold its servers, where the keys allow it.
    pub max_stall: Duration,
    /// How many slots a lane has open at a time, at least 1.
    pub max_open_slots: usize,
    /// How many lanes into one target run side by side, at least 1.
    pub per_target: usize,
    /// What can be changed while slots move, as the command line sets it.
    pub settings: Settings,
    /// A file that changes it.
    pub control_file: Option<PathBuf>,
    /// What becomes of keys that differ on both ends.
    pub on_conflict: OnConflict,
    /// The flag that chooses between them, for messages.
    pub conflict_flag: &'static str,
    /// Keys above so many bytes are big.
    pub big_key: u64,
    /// What becomes of slots with big keys.
    pub on_big_key: OnBigKey,
    /// After how long nodes take each other for dead (cluster-node-timeout).
    pub node_timeout: Duration,
    /// How far replicas may stay behind.
    pub max_replica_lag: Lag,
    /// What becomes of the other lanes when one fails.
    pub after_failure: AfterFailure,
    /// How long the windows in hand may take after a stop was asked for.
    pub stop_deadline: Duration,
    /// How long one ASM task may take; without it that depends on its size.
    pub task_deadline: Option<Duration>,
    /// Whether slots move key by key if the servers may not move them as ASM tasks.
    pub by_key_if_denied: bool,
}

/// How often the connections of a paused run are used. Servers close them after `timeout` seconds, if that is not 0.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Bytes in a second, by MEMORY USAGE, at which a key moves on a busy machine: hashes with many fields
/// went at 26 MiB/s, sorted sets at 80, lists at 150, strings at 180 (Redis 7.0.15, loopback).
const BYTES_PER_SECOND: u64 = 24 << 20;

impl MoveOptions {
    /// The weight above which a key is big: what was asked for, and in any case what takes so long that
    /// other nodes may take its servers for dead (half of cluster-node-timeout).
    fn big(&self) -> u64 {
        let half = self.node_timeout.as_millis() / 2;
        let bearable = u128::from(BYTES_PER_SECOND) * half / 1000;
        self.big_key
            .min(u64::try_from(bearable).unwrap_or(u64::MAX))
    }
}

/// How far replicas may stay behind their master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lag {
    /// So many bytes of what was written.
    Bytes(u64),
    /// So long since they were last heard of.
    Time(Duration),
}

/// The treatment of a key that has different values on both nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// The slot is not finished. Both copies stay, and the key is reported.
    Abort,
    /// The source's value wins.
    Source,
    /// The target's value wins.
    Target,
}

/// The treatment of slots with big keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBigKey {
    /// The lane stops before it opens the slot, and reports the key.
    Refuse,
    /// The slot stays where it is. The others move.
    Skip,
    /// The slot moves, however long that blocks both nodes.
    Move,
}

/// What becomes of the other lanes when one fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// They finish the windows in hand and stop.
    Stop,
    /// They go on.
    KeepGoing,
}

/// One end of a lane.
#[derive(Debug, Clone)]
pub struct End {
    /// The node.
    pub id: NodeId,
    /// Where we reach it.
    pub target: Target,
    /// Where MIGRATE reaches it.
    pub peer: Addr,
    /// Other addresses at which MIGRATE may reach it, the best first.
    pub other_peers: Vec<Addr>,
    /// The addresses at which these sources reach it: that of the trial that passed, then the others. What one source
    /// reaches, another may not.
    pub peers_of_sources: BTreeMap<NodeId, Vec<Addr>>,
    /// How MIGRATE logs in to it.
    pub login: Login,
}

impl End {
    /// The same, as this source reaches it.
    fn for_source(mut self, source: NodeId) -> Self {
        let mut peers = self.peers_of_sources.remove(&source).into_iter().flatten();
        if let Some(best) = peers.next() {
            self.peer = best;
            self.other_peers = peers.collect();
        }
        self
    }

    /// Adds what the trials of other sources have shown.
    pub(crate) fn merge(&mut self, other: Self) {
        self.peers_of_sources.extend(other.peers_of_sources);
    }
}

/// `127.0.0.1:7000 (1977c4d4)`.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.target.addr, self.id.short())
    }
}

/// What a run has come to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Slots that are where they should be, by lane.
    pub moved: BTreeMap<Pair, SlotSet>,
    /// Slots whose move was not started, by lane.
    pub left: BTreeMap<Pair, SlotSet>,
    /// Slots that stayed because of their big keys, by lane.
    pub skipped: BTreeMap<Pair, SlotSet>,
    /// Slots that are open still, and why.
    pub open: BTreeMap<Slot, (Pair, SlotProgress)>,
    /// Whether any slot was touched, be it that all is as it was again.
    pub touched: bool,
    /// Why lanes stopped.
    pub failures: Vec<(Pair, String)>,
    /// Targets that are no masters any more, and their masters.
    pub successors: BTreeMap<NodeId, NodeId>,
    /// What moved.
    pub tally: MoveStats,
    /// For how long nothing was to move: pauses, and the measurement of the idle latency.
    pub rested: Duration,
    /// The longest time for which a source held writes back, by lane, as far as the sources report it.
    pub write_pauses: BTreeMap<Pair, Duration>,
}

/// The state of a slot whose move has started but not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotProgress {
    /// The target imports it; the source owns it and does not know.
    Importing,
    /// Both know; keys may be on both ends.
    Migrating,
    /// The target owns it; the source has no key of it, and was not told.
    Claimed,
    /// The target owns it; the source holds keys of it, and says that it imports it.
    Gathered,
    /// It was in an ASM task when the nodes last answered. Its owner has to be looked up again.
    InTask,
    /// A command that changes it got no answer, or its lane broke off. Its keys may be on both nodes.
    Unknown,
}

/// Stops a run: at `soon` it finishes the windows in progress, at `now` it drops everything.
#[derive(Debug, Clone, Default)]
pub struct StopSignal {
    /// Nothing new is started.
    pub soon: CancellationToken,
    /// Work in progress is not finished either.
    pub now: CancellationToken,
}

/// Moves all slots, or only their keys, and returns how far that came.
pub async fn run(
    moves: BTreeMap<Pair, Work>,
    ends: &BTreeMap<NodeId, End>,
    connections: &Arc<Connections>,
    options: &Arc<MoveOptions>,
    control: &Control,
    events: &UnboundedSender<Event>,
    stop: &StopSignal,
) -> Outcome {
    if moves.values().any(|work| schedule::is_task(work.way)) {
        control.note_tasks();
    }
    let regulator = Arc::new(Regulator::new(
        control.clone(),
        &moves,
        events.clone(),
        stop.soon.clone(),
    ));
    let mut into_targets: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut turns: BTreeMap<NodeId, Arc<Semaphore>> = BTreeMap::new();
    for pair in moves.keys() {
        *into_targets.entry(pair.to).or_default() += 1;
        let one = || Arc::new(Semaphore::new(1));
        turns.entry(pair.to).or_insert_with(one);
    }
    let limits = |settings| limits(settings, options.per_target);
    let host = |(id, end): (&NodeId, &End)| (*id, end.peer.host().to_string());
    let hosts = ends.iter().map(host).collect();
    let schedule = Schedule::new(limits(control.settings()), hosts, moves);
    let lanes = run_lanes(
        schedule,
        options.after_failure,
        stop,
        (control, limits),
        |pair, work| {
            let source = ends.get(&pair.from)?.clone();
            let target = ends.get(&pair.to)?.clone().for_source(pair.from);
            let into_target = into_targets.get(&pair.to).copied().unwrap_or(1);
            let sharing = into_target.min(options.per_target);
            let lane = Lane::new(
                source,
                target,
                Arc::clone(connections),
                Arc::clone(options),
                Arc::clone(&regulator),
                events.clone(),
                stop.clone(),
            );
            let lane = lane.sharing(sharing, turns.get(&pair.to).cloned());
            Some(lane.run(work))
        },
    );
    let outcome = tokio::select! {
        outcome = lanes => outcome,
        never = probe::regulate(&regulator, ends, connections) => match never {},
        never = regulator.tell_pauses() => match never {},
        never = regulator.tell_progress() => match never {},
        never = regulator.count_rests() => match never {},
        never = keep_connections(control, connections) => match never {},
    };
    Outcome {
        rested: regulator.rested(),
        ..outcome
    }
}

/// Keeps the connections of a run that is paused, and thereby its lock.
async fn keep_connections(control: &Control, connections: &Arc<Connections>) -> Infallible {
    let mut settings = control.subscribe();
    loop {
        // The sender lives as long as the run.
        let _ = settings.wait_for(|now| now.flow == Flow::Paused).await;
        let resumed = settings.wait_for(|now| now.flow == Flow::Moving);
        if timeout(KEEP_ALIVE, resumed).await.is_err() {
            connections.keep_alive().await;
        }
    }
}

/// How many lanes may run with these settings. ASM tasks of nodes on one host compete for it: each forks or reads its whole
/// data set. So there is one at a time, unless the user sets how many pairs there are; the keys + and - do not.
fn limits(settings: Settings, per_target: usize) -> Limits {
    Limits {
        lanes: settings.most_pairs(),
        per_target,
        tasks: match settings.node_pairs {
            Some(_) => TaskLimit::None,
            None => TaskLimit::OnePerSourceHost,
        },
    }
}

/// Runs one lane for each pair as the schedule allows, and adds up their reports. `limits` are those of the settings, which
/// may change. `lane` returns `None` for a pair with an end that is not known.
async fn run_lanes<F>(
    mut schedule: Schedule,
    after_failure: AfterFailure,
    stop: &StopSignal,
    (control, limits): (&Control, impl Fn(Settings) -> Limits),
    lane: impl Fn(Pair, Work) -> Option<F>,
) -> Outcome
where
    F: Future<Output = Report> + Send + 'static,
{
    let mut running = JoinSet::new();
    let mut outcome = Outcome::default();
    let mut lanes: HashMap<tokio::task::Id, (Pair, Vec<Slot>)> = HashMap::new();
    let mut settings = control.subscribe();
    loop {
        schedule.set_limits(limits(*settings.borrow_and_update()));
        if stop.soon.is_cancelled() {
            for (pair, work) in schedule.stop() {
                outcome.left.insert(pair, work.slots.into_iter().collect());
            }
        }
        while let Some((pair, work)) = schedule.start() {
            let slots = work.slots.clone();
            match lane(pair, work) {
                Some(lane) => {
                    let task = running.spawn(lane);
                    lanes.insert(task.id(), (pair, slots));
                }
                None => {
                    schedule.finish(pair);
                    outcome.left.insert(pair, slots.into_iter().collect());
                }
            }
        }
        let ended = tokio::select! {
            ended = running.join_next_with_id() => ended,
            Ok(()) = settings.changed() => continue,
        };
        let Some(ended) = ended else {
            break;
        };
        let task = match &ended {
            Ok((task, _)) => *task,
            Err(error) => error.id(),
        };
        let Some((pair, slots)) = lanes.remove(&task) else {
            continue;
        };
        schedule.finish(pair);
        let mut report = match ended {
            Ok((_, report)) => report,
            // A lane catches the panics of its own work. This one came from outside of that.
            Err(error) => Report::broken_off(&slots, error.to_string()),
        };
        if report.failure.is_some() && after_failure == AfterFailure::Stop {
            stop.soon.cancel();
        }
        if !report.by_key.is_empty() && !stop.soon.is_cancelled() {
            report.left = report.left.difference(&report.by_key);
            let work = Work {
                way: MoveMethod::Keys,
                slots: report.by_key.iter().collect(),
                open: SlotSet::new(),
                untried: true,
            };
            schedule.add(pair, work);
        }
        outcome.add(pair, report);
    }
    outcome
}

impl Outcome {
    fn add(&mut self, pair: Pair, report: Report) {
        self.tally.add(report.tally);
        if let Some(pause) = report.tally.write_pause() {
            let longest = self.write_pauses.entry(pair).or_default();
            *longest = pause.max(*longest);
        }
        self.touched |= report.touched;
        // A pair may have two lanes, one after the other.
        let add = |all: &mut BTreeMap<Pair, SlotSet>, slots: &SlotSet| {
            all.entry(pair).or_default().union_with(slots);
        };
        add(&mut self.moved, &report.moved);
        add(&mut self.left, &report.left);
        add(&mut self.skipped, &report.skipped);
        for (slot, progress) in report.open {
            self.open.insert(slot, (pair, progress));
        }
        if let Some(successor) = report.successor {
            self.successors.insert(pair.to, successor);
        }
        if let Some(why) = report.failure {
            self.failures.push((pair, why));
        }
    }
}

/// The key of trials, in one of these slots.
pub(crate) fn trial_key(slots: &SlotSet) -> Option<Vec<u8>> {
    key_of("redis-trib:trial:", slots)
}

/// The key of the writes that WAIT counts from, in one of these slots.
fn barrier_key(slots: &SlotSet) -> Option<Vec<u8>> {
    key_of("redis-trib:barrier:", slots)
}

/// A name that begins so, for a key of ours in one of these slots.
fn key_of(prefix: &str, slots: &SlotSet) -> Option<Vec<u8>> {
    if slots.is_empty() {
        return None;
    }
    (0..u32::MAX)
        .map(|n| format!("{prefix}{n}").into_bytes())
        .find(|key| slots.contains(Slot::of_key(key)))
}

#[cfg(test)]
mod tests;
