//! One lane: slots from one source to one target, window by window.
//!
//! The order for each slot, and why (servers: Redis 3.2 to 8.6, Valkey 8 to 9.1):
//!
//! 1. Target IMPORTING. This comes first: a source redirects clients (ASK), and the target has to
//!    accept them. A target that imports nothing also refuses MIGRATE.
//! 2. Source MIGRATING. From now on the source is authoritative for the keys that it still has,
//!    and only for those.
//! 3. MIGRATE until the source has no keys left, counted in every database. An owner that learns
//!    of another owner deletes the keys that it still holds.
//! 4. Target NODE, once its replicas have the keys (and, from Valkey 8 on, see its epoch above the
//!    source's, see `rank`). The target claims the slot with a new epoch and tells all nodes. If
//!    it died before its replicas had the keys, the keys would be lost.
//! 5. Source NODE. In the opposite order, a target that dies in between leaves a slot without
//!    owner.
//!
//! A window is a set of slots that take these steps together, in few round trips: the same
//! pipelines close one window and open the next. Both nodes are checked before each window. If one
//! has restarted or changed its role, it may have lost its open slots, and the lane stops.
//!
//! `atomic` has the lanes whose slots the servers move as ASM tasks. `gather` has the lanes for keys on a
//! node that does not own their slots.

mod atomic;
mod gather;
mod rank;
mod revert;
mod serving;
mod setslot;
mod size;
mod tidy;
mod watch;

pub use setslot::set_slots;
use setslot::{each, first_error, is_follower, more_connections, set_slots_on};
use size::Estimate;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::keys::{Authority, Call, Movers, Prepared};
use super::pace::WindowSize;
use super::panics::catch_panic;
use super::regulator::{Regulator, Seat};
use super::schedule::{MoveMethod, Work};
use super::{End, MoveOptions, OnBigKey, SlotProgress, StopSignal, try_migrate};
use crate::client::{ClientError, NodeClient, SetSlot};
use crate::cluster::node::NodeId;
use crate::cluster::numbers::counted;
use crate::cluster::parse::{OnlineReplica, Product};
use crate::cluster::slot::{Slot, SlotSet};
use crate::connections::Connections;
use crate::event::{Event, LaneEvent, MoveStats, Pair};

/// How long replicas of the target may take to have what was moved, before it claims the slots.
const REPLICAS_WITHIN: Duration = Duration::from_secs(10);
/// How long replicas that stay behind may take to come closer (`--max-replica-lag`).
pub(super) const LAG_WITHIN: Duration = Duration::from_secs(60);
/// A look that is older than this is taken again before anything is written: the tool itself may
/// have been stopped in between.
const LOOK_HOLDS: Duration = Duration::from_secs(5);
/// How often a look that took too long is taken again.
const LOOKS: usize = 3;
/// How many keys a window holds at most, unless a single slot has more.
pub(super) const WINDOW_KEYS: u64 = 8_192;
/// How many slots have their keys counted in one go, before they become windows.
const COUNTED_AHEAD: usize = 256;

/// How long a lane may take to cancel an ASM task when it has to drop what it has in hand.
const CANCELLED_WITHIN: Duration = Duration::from_secs(5);

/// A lane, before and while it runs.
pub(super) struct Lane {
    source: End,
    target: End,
    connections: Arc<Connections>,
    options: Arc<MoveOptions>,
    regulator: Arc<Regulator>,
    seat: Seat,
    events: UnboundedSender<Event>,
    stop: StopSignal,
    /// Lanes that may fill the target at the same time, this one included.
    sharing: u64,
    /// The permit to send the target a large batch.
    turns: Option<Arc<Semaphore>>,
    tally: MoveStats,
    /// For how long the source held writes back at the end of the last ASM task, as far as it reports that.
    last_write_pause: Duration,
    moved: SlotSet,
    skipped: SlotSet,
    /// Slots whose move has started, and when it started.
    begun: BTreeMap<Slot, (SlotProgress, Instant)>,
    /// Whether anything was sent that changes something.
    touched: bool,
}

/// How far a lane came.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) moved: SlotSet,
    pub(super) left: SlotSet,
    pub(super) skipped: SlotSet,
    pub(super) open: BTreeMap<Slot, SlotProgress>,
    pub(super) failure: Option<String>,
    /// The master of the target, if it is no master any more.
    pub(super) successor: Option<NodeId>,
    pub(super) tally: MoveStats,
    pub(super) touched: bool,
    /// Those of `left` that are to move key by key: the servers may not move them as ASM tasks.
    pub(super) by_key: SlotSet,
}

impl Report {
    /// The report of a lane that ended without one: all of its slots are in doubt.
    pub(super) fn broken_off(slots: &[Slot], why: String) -> Self {
        let open = slots.iter().map(|slot| (*slot, SlotProgress::Unknown));
        Self {
            moved: SlotSet::new(),
            left: SlotSet::new(),
            skipped: SlotSet::new(),
            open: open.collect(),
            failure: Some(format!("the lane broke off: {why}")),
            successor: None,
            tally: MoveStats::default(),
            touched: true,
            by_key: SlotSet::new(),
        }
    }
}

/// Why a lane does not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    /// A command failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A node is not what it was.
    #[error("{0}")]
    Changed(String),
    /// A key stands in the way.
    #[error("{0}")]
    Key(String),
    /// An ASM task did not do what it should.
    #[error("{0}")]
    Task(String),
    /// The source may not do on the target what an ASM task takes. The slots are where they were.
    #[error("{0}")]
    TaskDenied(String),
    /// A fault in the program.
    #[error("the lane panicked, which is a fault of redis-trib: {0}")]
    Panicked(String),
    /// The user does not want to wait for the windows in hand.
    #[error("stopped with slots in hand")]
    Dropped,
}

/// Both ends, connected, as they were when the lane began.
pub(super) struct Ends {
    pub(super) source: NodeClient,
    pub(super) target: NodeClient,
    /// More connections to both, for SETSLOT.
    more_source: Vec<NodeClient>,
    more_target: Vec<NodeClient>,
    source_run: Option<Arc<str>>,
    target_run: Option<Arc<str>>,
    evicted: Option<u64>,
    looked: Instant,
    /// Databases of the source that hold keys, and database 0.
    pub(super) databases: Vec<u32>,
    /// The same of the target.
    target_databases: Vec<u32>,
    /// Replicas that the target sees online.
    replicas_of_target: Vec<OnlineReplica>,
    /// The same of the source.
    replicas_of_source: Vec<OnlineReplica>,
    /// Whether the target has a maxmemory.
    limited: bool,
    target_product: Option<Product>,
    claiming: Claiming,
}

/// How the target claims the slots of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claiming {
    /// One by one, and each time it tells every other node.
    Each,
    /// In one transaction, and then it tells every other node.
    Together,
}

impl Ends {
    /// How many replicas the target sees online.
    pub(super) fn replicas(&self) -> usize {
        self.replicas_of_target.len()
    }
}

/// Slots that go together, with how many keys the source has in each.
type Window = Vec<(Slot, u64)>;

impl Lane {
    pub(super) fn new(
        source: End,
        target: End,
        connections: Arc<Connections>,
        options: Arc<MoveOptions>,
        regulator: Arc<Regulator>,
        events: UnboundedSender<Event>,
        stop: StopSignal,
    ) -> Self {
        let pair = Pair {
            from: source.id,
            to: target.id,
        };
        Self {
            seat: regulator.enter(pair),
            source,
            target,
            connections,
            options,
            regulator,
            events,
            stop,
            sharing: 1,
            turns: None,
            tally: MoveStats::default(),
            last_write_pause: Duration::ZERO,
            moved: SlotSet::new(),
            skipped: SlotSet::new(),
            begun: BTreeMap::new(),
            touched: false,
        }
    }

    /// So many lanes fill the target at the same time, and take turns with what is heavy.
    pub(super) fn sharing(mut self, lanes: usize, turns: Option<Arc<Semaphore>>) -> Self {
        self.sharing = lanes.max(1) as u64;
        self.turns = turns;
        self
    }

    fn pair(&self) -> Pair {
        Pair {
            from: self.source.id,
            to: self.target.id,
        }
    }

    fn tell(&self, event: LaneEvent) {
        self.regulator.tell_lane(self.pair(), event);
    }

    pub(super) async fn run(mut self, work: Work) -> Report {
        let Work { way, slots, .. } = &work;
        let (way, slots, untried) = (*way, slots.clone(), work.untried);
        let all: SlotSet = slots.iter().copied().collect();
        self.tell(LaneEvent::Started { slots: slots.len() });
        let now = self.stop.now.clone();
        let done = tokio::select! {
            biased;
            done = catch_panic(self.carry_out(way, slots, untried)) => match done {
                Ok(done) => done,
                Err(message) => Err(LaneError::Panicked(message)),
            },
            // Whatever it waits for: a MIGRATE, a WAIT, a replica, an answer, its share of --rate.
            () = dropped(&now, way) => Err(LaneError::Dropped),
        };
        self.report(all, done.err()).await
    }

    async fn carry_out(
        &mut self,
        way: MoveMethod,
        slots: Vec<Slot>,
        untried: bool,
    ) -> Result<(), LaneError> {
        if untried {
            self.try_migrate(&slots).await?;
        }
        let mut ends = self.connect().await?;
        let done = match way {
            MoveMethod::Keys => self.move_all(&mut ends, slots).await,
            MoveMethod::Atomic(product) => self.move_as_tasks(&mut ends, product, slots).await,
            MoveMethod::Gather => self.gather_all(&mut ends, slots).await,
            MoveMethod::Purge => self.purge_all(&mut ends, slots).await,
        };
        if let Err(error) = &done
            && way == MoveMethod::Keys
        {
            self.tidy(&mut ends, error).await;
        }
        done
    }

    /// Tries a MIGRATE before the first slot is opened: ASM tasks reach the target in another way.
    async fn try_migrate(&mut self, slots: &[Slot]) -> Result<(), LaneError> {
        let slots: SlotSet = slots.iter().copied().collect();
        let tried = try_migrate(
            &self.connections,
            &self.source,
            &mut self.target,
            &slots,
            &self.options,
        );
        match tried.await {
            Ok(_) => Ok(()),
            Err(why) => Err(LaneError::Changed(why)),
        }
    }

    /// Ends the lane: what moved, what is open, what is left of `all`, and why it stopped.
    async fn report(mut self, all: SlotSet, error: Option<LaneError>) -> Report {
        let mut by_key = false;
        let (failure, successor) = match error {
            None => (None, None),
            Some(LaneError::TaskDenied(why)) if self.options.by_key_if_denied => {
                by_key = true;
                let warning = Event::Warning(format!("{why}; moving the rest key by key"));
                let _ = self.events.send(warning);
                (None, None)
            }
            // The user knows why.
            Some(LaneError::Dropped) => {
                self.ask_both().await;
                (None, None)
            }
            Some(error @ LaneError::Panicked(_)) => {
                self.touched = true;
                // What it had in hand may have changed without being noted.
                self.doubt_all();
                self.ask_both().await;
                (Some(error.to_string()), None)
            }
            Some(error) => {
                let why = error.to_string();
                let is_unanswered =
                    matches!(&error, LaneError::Client(error) if error.outcome_unknown());
                let now = self.stop.now.clone();
                let (why, successor) = tokio::select! {
                    biased;
                    explained = self.explain(error) => explained,
                    () = now.cancelled() => (why, None),
                };
                if is_unanswered {
                    // The answer is missing, not the effect: all may have moved.
                    self.ask_both().await;
                }
                match is_unanswered && self.begun.is_empty() && self.has_moved(&all) {
                    true => (None, None),
                    false => (Some(why), successor),
                }
            }
        };
        self.tell(LaneEvent::Ended {
            failure: failure.clone(),
            write_pause: self.tally.write_pause(),
        });
        let open: BTreeMap<Slot, SlotProgress> = self
            .begun
            .iter()
            .map(|(slot, (progress, _))| (*slot, *progress))
            .collect();
        let left = open
            .keys()
            .fold(all.difference(&self.moved), |mut left, slot| {
                left.remove(*slot);
                left
            })
            .difference(&self.skipped);
        Report {
            by_key: if by_key { left.clone() } else { SlotSet::new() },
            moved: self.moved,
            left,
            skipped: self.skipped,
            open,
            failure,
            successor,
            tally: self.tally,
            touched: self.touched,
        }
    }

    /// Whether each of these slots has moved, or stays on purpose.
    fn has_moved(&self, all: &SlotSet) -> bool {
        let left = all.difference(&self.moved).difference(&self.skipped);
        left.is_empty()
    }

    async fn connect(&self) -> Result<Ends, LaneError> {
        let (source, target) = tokio::try_join!(
            self.connections.own(&self.source.target),
            self.connections.own(&self.target.target),
        )?;
        let mut ends = Ends {
            source,
            target,
            more_source: Vec::new(),
            more_target: Vec::new(),
            source_run: None,
            target_run: None,
            evicted: None,
            looked: Instant::now(),
            databases: Vec::new(),
            target_databases: Vec::new(),
            replicas_of_target: Vec::new(),
            replicas_of_source: Vec::new(),
            limited: false,
            target_product: None,
            claiming: Claiming::Each,
        };
        self.look(&mut ends, &SlotSet::new(), &SlotSet::new())
            .await?;
        // Valkey replicates each SETSLOT and lets the caller wait for it, which a transaction can't.
        if ends.target_product == Some(Product::Redis) && ends.target.may_use_transactions().await?
        {
            ends.claiming = Claiming::Together;
        }
        if ends.replicas() > 0 {
            // Known before any slot is opened: none is closed without it.
            ends.target.wait(0).await?;
        }
        Ok(ends)
    }

    fn movers(&self, authority: Authority) -> Movers {
        Movers::new(
            self.source.clone(),
            self.target.clone(),
            Arc::clone(&self.connections),
            Arc::clone(&self.options),
            Arc::clone(&self.regulator),
            self.turns.clone(),
            authority,
        )
    }

    /// All slots, window by window.
    async fn move_all(&mut self, ends: &mut Ends, slots: Vec<Slot>) -> Result<(), LaneError> {
        self.outrank(ends).await?;
        let mut estimate = self.weigh(ends, slots.clone()).await?;
        let connections = &self.connections;
        (ends.more_source, ends.more_target) = tokio::try_join!(
            more_connections(connections, &ends.source, &self.source.target, slots.len()),
            more_connections(connections, &ends.target, &self.target.target, slots.len())
        )?;
        let mut movers = self.movers(Authority::Source);
        let mut size = WindowSize::first();
        let mut ahead = slots.into_iter();
        let mut counted: std::collections::VecDeque<(Slot, u64)> = Default::default();
        let mut closing: Window = Vec::new();
        loop {
            if self.seat.is_to_yield() {
                if !closing.is_empty() {
                    self.turn(ends, &closing, &Window::new()).await?;
                    closing.clear();
                }
                self.seat.give_up();
            }
            if closing.is_empty() && counted.is_empty() && ahead.len() == 0 {
                // A pause does not hold up what is done.
                return Ok(());
            }
            let stopping = !self.seat.take(&self.stop).await;
            if counted.is_empty() && !stopping {
                let next: Vec<Slot> = ahead.by_ref().take(COUNTED_AHEAD).collect();
                let counts = self.count(&ends.source, &ends.databases, &next).await?;
                counted.extend(next.into_iter().zip(counts));
            }
            let mut opening = Window::new();
            let mut keys = 0;
            let most_keys = self.regulator.window_keys(WINDOW_KEYS, size);
            let most_slots = self
                .regulator
                .window_slots(self.options.max_open_slots, size);
            while !stopping
                && opening.len() < most_slots
                && let Some((slot, count)) = counted.front().copied()
                && (opening.is_empty() || keys + count <= most_keys)
            {
                counted.pop_front();
                keys += count;
                opening.push((slot, count));
            }
            if opening.is_empty() && closing.is_empty() {
                return Ok(());
            }
            let batches = self.prepare(&movers, ends, &opening).await?;
            let (batches, big) = batches.without_big_keys(self.options.big());
            if let Some(big) = big {
                match self.options.on_big_key {
                    OnBigKey::Move => {}
                    OnBigKey::Refuse => {
                        self.turn(ends, &closing, &Window::new()).await?;
                        return Err(LaneError::Key(format!("{big} (--on-big-key skip|move)")));
                    }
                    OnBigKey::Skip => {
                        self.skip(&big.slots, &mut estimate);
                        opening.retain(|(slot, _)| !big.slots.contains(*slot));
                    }
                }
            }
            let coming = batches.bytes(&opening);
            if let Some(room) = self.room(ends).await?
                && needed(coming.saturating_mul(self.sharing)) > room
            {
                self.turn(ends, &closing, &Window::new()).await?;
                return Err(LaneError::Changed(format!(
                    "{} has {} KiB left below its maxmemory, and the next {} slots need about {}: \
                     raise its maxmemory, or move fewer slots at a time (--max-open-slots)",
                    self.target,
                    room >> 10,
                    opening.len(),
                    needed(coming.saturating_mul(self.sharing)) >> 10
                )));
            }
            if !opening.is_empty() {
                self.wait_for_replicas(ends).await?;
            }
            self.turn(ends, &closing, &opening).await?;
            closing.clear();
            let bare = self.bare(ends, &opening).await?;
            let began = Instant::now();
            let open = SlotProgress::Migrating;
            self.move_keys(&mut movers, ends, batches, &opening, (&bare, open))
                .await?;
            if !opening.is_empty() {
                let keys = opening.iter().map(|(_, keys)| keys).sum();
                size.measured(opening.len(), keys, began.elapsed());
            }
            closing = opening;
        }
    }

    /// Leaves slots where they are. They count neither as moved nor as left.
    fn skip(&mut self, slots: &SlotSet, estimate: &mut Estimate) {
        self.skipped.union_with(slots);
        let (keys, bytes) = estimate.remove(slots);
        self.tell(LaneEvent::Skipped {
            slots: slots.clone(),
            keys,
            bytes,
        });
    }

    /// Waits until a window may be opened, or a task begin; nothing of this lane is open. Returns false if the run is to stop.
    async fn may_open(&self) -> bool {
        if self.seat.is_to_yield() {
            self.seat.give_up();
        }
        self.seat.take(&self.stop).await
    }

    /// Moves the keys of a window that is open, also across an election elsewhere. `bare` are the slots of which the target
    /// had no key, `open` is their progress.
    async fn move_keys(
        &mut self,
        movers: &mut Movers,
        ends: &mut Ends,
        mut batches: Prepared,
        window: &Window,
        (bare, open): (&SlotSet, SlotProgress),
    ) -> Result<(), LaneError> {
        let mut wait = self.election_wait();
        loop {
            let called = |call| {
                if matches!(call, Call::Moved(_)) {
                    wait.served();
                }
                self.called(call, open);
            };
            let moved = movers.run(ends, batches, window, bare, called).await;
            if let Some(()) = self.unless_down(&mut wait, ends, moved).await? {
                return Ok(());
            }
            // What is left is looked up again.
            batches = Prepared::default();
        }
    }

    /// Reads the keys of a window before it is opened, again after an election elsewhere.
    async fn prepare(
        &self,
        movers: &Movers,
        ends: &mut Ends,
        opening: &Window,
    ) -> Result<Prepared, LaneError> {
        let mut wait = self.election_wait();
        loop {
            let prepared = movers.prepare(ends, opening).await;
            if let Some(prepared) = self.unless_down(&mut wait, ends, prepared).await? {
                return Ok(prepared);
            }
        }
    }

    /// Notes the progress of MIGRATE calls for slots that are open with this progress.
    fn called(&mut self, call: Call, open: SlotProgress) {
        let (slot, progress) = match call {
            Call::Sent(slot) => (slot, SlotProgress::Unknown),
            Call::Answered(slot) => (slot, open),
            Call::Moved(moved) => {
                self.tally.keys += moved.keys;
                self.tally.bytes += moved.bytes;
                self.tally.longest_call = self.tally.longest_call.max(moved.took);
                self.tell(LaneEvent::Keys {
                    keys: moved.keys,
                    bytes: moved.bytes,
                });
                return;
            }
        };
        if let Some((now, _)) = self.begun.get_mut(&slot) {
            *now = progress;
        }
    }

    /// The keys that the source has in each slot, in all of its databases.
    async fn count(
        &self,
        source: &NodeClient,
        databases: &[u32],
        slots: &[Slot],
    ) -> Result<Vec<u64>, LaneError> {
        let mut sums = vec![0; slots.len()];
        for database in databases {
            let counts = source.cluster_countkeysinslot(*database, slots).await?;
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        Ok(sums)
    }

    /// Closes one window and opens the next.
    async fn turn(
        &mut self,
        ends: &mut Ends,
        closing: &Window,
        opening: &Window,
    ) -> Result<(), LaneError> {
        let closed: Vec<Slot> = closing.iter().map(|(slot, _)| *slot).collect();
        let owned: SlotSet = closing
            .iter()
            .chain(opening)
            .map(|(slot, _)| *slot)
            .collect();
        let open: SlotSet = closed.iter().copied().collect();
        self.confirm(ends, &open).await?;
        for look in 1.. {
            self.look(ends, &owned, &open).await?;
            let counts = self.count(&ends.source, &ends.databases, &closed).await?;
            if let Some((slot, count)) = closed.iter().zip(counts).find(|(_, count)| *count > 0) {
                return Err(LaneError::Key(format!(
                    "slot {slot} still has {} on {}, though all were moved",
                    counted(count, "key"),
                    self.source
                )));
            }
            if ends.looked.elapsed() <= LOOK_HOLDS {
                break;
            }
            if look == LOOKS {
                return Err(LaneError::Changed(format!(
                    "{} takes more than {} s to be looked at",
                    self.source,
                    LOOK_HOLDS.as_secs()
                )));
            }
        }
        self.touched |= !owned.is_empty();
        let opened: Vec<Slot> = opening.iter().map(|(slot, _)| *slot).collect();
        let claims = each(&closed, SetSlot::Node(self.target.id));
        let imports = each(&opened, SetSlot::Importing(self.source.id));
        self.expect(&claims);
        self.expect(&imports);
        let (claimed, imported) = tokio::join!(
            self.claim(ends, &closed, &claims),
            set_slots_on(&ends.target, &ends.more_target, &imports)
        );
        self.note(&claims, &claimed);
        self.note(&imports, &imported);
        first_error(claimed)?;
        first_error(imported)?;
        let mut to_source = claims;
        to_source.extend(each(&opened, SetSlot::Migrating(self.target.id)));
        self.expect(&to_source);
        let outcomes = self.give(ends, &to_source).await;
        self.note(&to_source, &outcomes);
        first_error(outcomes)?;
        if !closed.is_empty() {
            self.tell(LaneEvent::Slots {
                moved: closed.iter().copied().collect(),
            });
        }
        Ok(())
    }

    async fn claim(
        &self,
        ends: &Ends,
        closed: &[Slot],
        claims: &[(Slot, SetSlot)],
    ) -> Vec<Result<(), ClientError>> {
        match ends.claiming {
            // One at a time: see `rank`.
            Claiming::Each => set_slots(&ends.target, claims).await,
            Claiming::Together if closed.is_empty() => Vec::new(),
            Claiming::Together => match ends.target.cluster_claim(closed, self.target.id).await {
                Ok(outcomes) => outcomes,
                Err(error) => closed.iter().map(|_| Err(error.clone())).collect(),
            },
        }
    }

    /// Notes changes that are about to be sent: a slot is never open without being known as such,
    /// even if the lane ends before an answer comes.
    fn expect(&mut self, changes: &[(Slot, SetSlot)]) {
        for (slot, state) in changes {
            match (state, self.begun.get(slot).copied()) {
                (SetSlot::Importing(_), None) => {
                    let importing = (SlotProgress::Importing, Instant::now());
                    self.begun.insert(*slot, importing);
                }
                (
                    SetSlot::Migrating(_) | SetSlot::Node(_),
                    Some((SlotProgress::Importing | SlotProgress::Migrating, since)),
                ) => {
                    self.begun.insert(*slot, (SlotProgress::Unknown, since));
                }
                _ => {}
            }
        }
    }

    /// Notes what became of changes.
    fn note(&mut self, changes: &[(Slot, SetSlot)], outcomes: &[Result<(), ClientError>]) {
        for ((slot, state), outcome) in changes.iter().zip(outcomes) {
            let Some((progress, since)) = self.begun.get(slot).copied() else {
                continue;
            };
            // What is not known counts as done: it is looked at before anything is undone.
            let took_effect = match outcome {
                Ok(()) => true,
                Err(error) => error.outcome_unknown(),
            };
            let now = match (state, took_effect) {
                (SetSlot::Importing(_), true) => Some(SlotProgress::Importing),
                (SetSlot::Importing(_), false) => None,
                (SetSlot::Migrating(_), true) => Some(SlotProgress::Migrating),
                (SetSlot::Migrating(_), false) => Some(SlotProgress::Importing),
                (SetSlot::Node(_), true)
                    if progress == SlotProgress::Claimed && outcome.is_ok() =>
                {
                    self.tally.close(since.elapsed());
                    self.moved.insert(*slot);
                    None
                }
                (SetSlot::Node(_), true) => Some(SlotProgress::Claimed),
                (SetSlot::Node(_), false) if progress == SlotProgress::Unknown => {
                    Some(SlotProgress::Migrating)
                }
                (SetSlot::Node(_) | SetSlot::Stable, _) => Some(progress),
            };
            match now {
                Some(now) => self.begun.insert(*slot, (now, since)),
                None => self.begun.remove(slot),
            };
        }
    }

    /// Tells the source the owner of slots.
    async fn give(&self, ends: &Ends, changes: &[(Slot, SetSlot)]) -> Vec<Result<(), ClientError>> {
        set_slots_on(&ends.source, &ends.more_source, changes)
            .await
            .into_iter()
            .zip(changes)
            .map(|(outcome, (_, state))| match (outcome, state) {
                // It gave its last slot away, and follows the target by now.
                (Err(error), SetSlot::Node(_)) if is_follower(&error) => Ok(()),
                (outcome, _) => outcome,
            })
            .collect()
    }

    fn slots_with(&self, wanted: SlotProgress) -> Vec<Slot> {
        self.begun
            .iter()
            .filter(|(_, (progress, _))| *progress == wanted)
            .map(|(slot, _)| *slot)
            .collect()
    }
}

/// The room that so many bytes of keys need: what they come in takes memory as well, and so do hash
/// tables while they grow. (With half of it, Redis 7.0 evicted keys in the middle of a window.)
fn needed(coming: u64) -> u64 {
    const ASIDE: u64 = 1 << 20;
    coming.saturating_mul(2).saturating_add(ASIDE)
}

/// Until a lane has to drop what it has in hand. One whose slots the servers move has some time from
/// then on to cancel that.
async fn dropped(now: &CancellationToken, way: MoveMethod) {
    now.cancelled().await;
    if matches!(way, MoveMethod::Atomic(_)) {
        tokio::time::sleep(CANCELLED_WITHIN).await;
    }
}

/// Waits for something unless the user does not want to wait any more.
pub(super) async fn unless_dropped<T>(
    now: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, LaneError> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = now.cancelled() => Err(LaneError::Dropped),
    }
}

#[cfg(test)]
mod tests;
