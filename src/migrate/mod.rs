//! Moving slots: lanes between pairs of nodes, side by side as far as the servers bear it.
//!
//! What is promised, whatever happens: no key is lost, none is twice, and every slot is either
//! where it was, where it should be, or named. The order that makes it so (target IMPORTING, source
//! MIGRATING, the keys, source empty in every database, target NODE, source NODE) and the reasons
//! are told in `lane`; servers that move slots by themselves are asked to in `lane::atomic`, and
//! `strategy` says which do.

mod conflict;
mod keys;
mod lane;
mod pace;
pub mod schedule;
pub mod strategy;
mod stray;
mod throttle;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::{ClientError, Existing, Keep, Login, MigrateFault, Migration};
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::slot::{Slot, SlotSet};
use crate::connections::{Connections, Target};
use crate::event::{Event, Pair, Tally};
use lane::Lane;
use schedule::{Limits, Schedule, Work};
use throttle::Throttle;

pub use stray::{Strays, strays};

/// How slots are moved.
#[derive(Debug, Clone)]
pub struct Options {
    /// The servers' own deadline for each read and write of a MIGRATE.
    pub timeout: Duration,
    /// So many keys in each MIGRATE; without it the number adapts.
    pub pipeline: Option<usize>,
    /// The longest that one MIGRATE may hold its servers, where the keys allow it.
    pub max_stall: Duration,
    /// How many slots a lane has open at a time, at least 1.
    pub max_open_slots: usize,
    /// How many lanes run side by side.
    pub limits: Limits,
    /// How much moves in a second, in all lanes together.
    pub rate: Option<Rate>,
    /// What becomes of keys that differ on both ends.
    pub on_conflict: OnConflict,
    /// Keys above so many bytes are big.
    pub big_key: u64,
    /// What becomes of slots with big keys.
    pub on_big_key: OnBigKey,
    /// What becomes of the other lanes when one fails.
    pub after_failure: AfterFailure,
    /// How long the windows in hand may take after a stop was asked for.
    pub stop_deadline: Duration,
    /// How long one job of the servers may take; without it that depends on its size.
    pub job_deadline: Option<Duration>,
}

/// A limit on how much moves in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Keys.
    Keys(u64),
    /// Bytes, as MEMORY USAGE counts them.
    Bytes(u64),
}

/// What becomes of keys that have different values on both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnConflict {
    /// The slot stops, both copies stay, the key is named.
    Abort,
    /// The source's value wins.
    Source,
    /// The target's value wins.
    Target,
}

/// What becomes of slots with big keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnBigKey {
    /// The lane stops before it opens the slot, and names the key.
    Refuse,
    /// The slot stays where it is, the others move.
    Skip,
    /// It moves, however long that holds the servers.
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
    /// Who it is.
    pub id: NodeId,
    /// Where we reach it.
    pub target: Target,
    /// Where MIGRATE reaches it.
    pub peer: Addr,
    /// How MIGRATE logs in to it.
    pub login: Login,
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
    /// Slots that were not begun, by lane.
    pub left: BTreeMap<Pair, SlotSet>,
    /// Slots that stayed because of their big keys, by lane.
    pub skipped: BTreeMap<Pair, SlotSet>,
    /// Slots that are open still, and why.
    pub open: BTreeMap<Slot, (Pair, Standing)>,
    /// Why lanes stopped.
    pub failures: Vec<(Pair, String)>,
    /// What moved.
    pub tally: Tally,
}

/// Where a slot stands that was begun and not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The target imports it; the source owns it and does not know.
    Importing,
    /// Both know; keys may be on both ends.
    Migrating,
    /// The target owns it; the source has no key of it, and was not told.
    Claimed,
    /// It was in a job of the servers when they were last heard of; where it is, a look will tell.
    InJob,
}

/// Asked to stop, a run finishes the windows in hand; told to, it drops everything.
#[derive(Debug, Clone, Default)]
pub struct StopSignal {
    /// Nothing new is begun.
    pub soon: CancellationToken,
    /// Not even what is in hand is finished.
    pub now: CancellationToken,
}

/// Moves all slots, and tells how far that came.
pub async fn run(
    moves: BTreeMap<Pair, Work>,
    ends: &BTreeMap<NodeId, End>,
    connections: &Arc<Connections>,
    options: &Arc<Options>,
    events: &UnboundedSender<Event>,
    stop: &StopSignal,
) -> Outcome {
    let throttle = Arc::new(Throttle::new(options.rate));
    let mut into_targets: BTreeMap<NodeId, usize> = BTreeMap::new();
    for pair in moves.keys() {
        *into_targets.entry(pair.to).or_default() += 1;
    }
    let mut schedule = Schedule::new(options.limits, moves);
    let mut running = JoinSet::new();
    let mut outcome = Outcome::default();
    let mut lanes: HashMap<tokio::task::Id, (Pair, Vec<Slot>)> = HashMap::new();
    loop {
        if stop.soon.is_cancelled() {
            for (pair, work) in schedule.stop() {
                outcome.left.insert(pair, work.slots.into_iter().collect());
            }
        }
        while let Some((pair, work)) = schedule.start() {
            let (Some(source), Some(target)) =
                (ends.get(&pair.from).cloned(), ends.get(&pair.to).cloned())
            else {
                schedule.finish(pair);
                outcome.left.insert(pair, work.slots.into_iter().collect());
                continue;
            };
            let connections = Arc::clone(connections);
            let options = Arc::clone(options);
            let throttle = Arc::clone(&throttle);
            let (events, stop) = (events.clone(), stop.clone());
            let into_target = into_targets.get(&pair.to).copied().unwrap_or(1);
            let sharing = into_target.min(options.limits.per_target);
            let kept = work.slots.clone();
            let task = running.spawn(async move {
                let lane = Lane::new(source, target, connections, options, throttle, events, stop);
                (pair, lane.sharing(sharing).run(work).await)
            });
            lanes.insert(task.id(), (pair, kept));
        }
        let (pair, report) = match running.join_next().await {
            None => break,
            Some(Ok(ended)) => ended,
            // A fault in the program. What became of that lane's slots only a look can tell; the
            // other lanes must not be cut off by it.
            Some(Err(error)) => {
                if let Some((pair, slots)) = lanes.remove(&error.id()) {
                    schedule.finish(pair);
                    outcome.left.insert(pair, slots.into_iter().collect());
                    outcome
                        .failures
                        .push((pair, format!("it broke off: {error}")));
                    stop.soon.cancel();
                }
                continue;
            }
        };
        schedule.finish(pair);
        outcome.tally.add(report.tally);
        outcome.moved.insert(pair, report.moved);
        outcome.left.insert(pair, report.left);
        outcome.skipped.insert(pair, report.skipped);
        for (slot, standing) in report.open {
            outcome.open.insert(slot, (pair, standing));
        }
        if let Some(why) = report.failure {
            outcome.failures.push((pair, why));
            if options.after_failure == AfterFailure::Stop {
                stop.soon.cancel();
            }
        }
    }
    outcome
}

/// Sends one small key of these slots with COPY to a target that must not take them (from an
/// importing slot the copy would stay there). `Ok` where the target
/// answered as one that took the login does, or where the source has no key to try with.
pub async fn try_login(
    connections: &Connections,
    source: &End,
    target: &End,
    slots: &SlotSet,
    options: &Options,
) -> Result<(), ClientError> {
    /// Slots that are looked through for a key in one go.
    const LOOKED_AT: usize = 1024;
    let client = connections.client(&source.target).await?;
    let slots: Vec<Slot> = slots.iter().collect();
    let mut lightest = None;
    for slots in slots.chunks(LOOKED_AT) {
        let keys = client.cluster_getkeysinslot(0, slots, 1).await?;
        let keys: Vec<Vec<u8>> = keys.into_iter().flatten().collect();
        let named: Vec<&Vec<u8>> = keys.iter().collect();
        let weights = client.memory_usage(0, &named).await?;
        lightest = keys
            .into_iter()
            .zip(weights)
            .min_by_key(|(_, weight)| *weight);
        if lightest.is_some() {
            break;
        }
    }
    let Some((key, _)) = lightest else {
        return Ok(());
    };
    let migration = Migration {
        peer: target.peer.clone(),
        login: target.login.clone(),
        database: 0,
        timeout: options.timeout,
        existing: Existing::Refuse,
        source: Keep::Copy,
    };
    match client.migrate(&migration, &[key]).await {
        Ok(_) => Ok(()),
        Err(error) if MigrateFault::of(&error) == MigrateFault::Moved => Ok(()),
        Err(error) => Err(error),
    }
}
