//! What the lanes of a run share: who may have slots open now, how long a call may take, and how fast keys go.
//!
//! A lane asks for a seat before it opens slots, and gives it up between two windows or tasks if fewer lanes are to work.
//! So a run that is paused, or whose idle latency is measured, has no slot open but those that were open before it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::meter::Meter;
use super::pace::{Growth, Share, WindowSize};
use super::probe::{Samples, samples_within};
use super::schedule::Work;
use super::throttle::Throttle;
use super::{End, StopSignal};
use crate::client::MemoryUsage;
use crate::cluster::node::NodeId;
use crate::cluster::numbers::counted;
use crate::cluster::parse::Info;
use crate::cluster::slot::SlotSet;
use crate::control::{Control, Flow, Pairs, Rate, Settings};
use crate::event::{Event, LaneEvent, Pair};

/// The share of one CPU above which the main thread of a node is busy.
const BUSY: f64 = 0.8;
/// The least time between two figures of which the share of a main thread is computed.
const CPU_OVER: Duration = Duration::from_millis(500);
/// The interval between two reports of progress.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long such a share is believed.
const CPU_HOLDS: Duration = Duration::from_secs(5);

/// What the lanes of a run share.
pub(super) struct Regulator {
    control: Control,
    /// Cancelled when no slot is to be opened any more.
    stop: CancellationToken,
    throttle: Throttle,
    state: watch::Sender<State>,
    events: UnboundedSender<Event>,
    threads: Mutex<BTreeMap<NodeId, MainThread>>,
    latency: Mutex<BTreeMap<NodeId, Latency>>,
    meter: Mutex<Meter>,
    /// Slots that were open before the run, and are not finished.
    open_before: Mutex<BTreeMap<Pair, SlotSet>>,
    rests: Mutex<Rests>,
}

/// The time in which no slot was open and none was to be opened: pauses, and the measurement of the idle latency.
#[derive(Debug, Default)]
struct Rests {
    /// When the one began that goes on now.
    since: Option<Instant>,
    /// Those that are over.
    over: Duration,
}

impl Rests {
    fn note(&mut self, is_at_rest: bool, now: Instant) {
        match (self.since, is_at_rest) {
            (None, true) => self.since = Some(now),
            (Some(since), false) => {
                self.over += now - since;
                self.since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    fn sum(&self, now: Instant) -> Duration {
        self.over + self.since.map_or(Duration::ZERO, |since| now - since)
    }
}

struct State {
    /// The lanes that have begun and not ended.
    lanes: BTreeSet<Pair>,
    /// Those of them that may have slots open.
    seated: BTreeSet<Pair>,
    share: Share,
    /// The idle latency is being measured.
    is_measuring: bool,
}

/// The main thread of a node.
#[derive(Debug, Clone, Copy)]
struct MainThread {
    at: Instant,
    used: Duration,
    share: f64,
    /// Whether the user was told that it is busy.
    is_told: bool,
}

/// The latency of a node.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// At the 99th percentile while nothing moved; `None` until that is known.
    pub(super) idle: Option<Duration>,
    pub(super) samples: Samples,
}

impl Latency {
    /// How much is added to the idle latency at the 99th percentile of the last `count` samples; `None` if there are too
    /// few.
    pub(super) fn added(&self, count: usize) -> Option<Duration> {
        let now = self.samples.percentile(count)?;
        Some(now.saturating_sub(self.idle?))
    }
}

/// What an ASM task did to other clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    /// The latency that was added, or the time for which the source held writes back if that is longer.
    pub(super) added: Duration,
    /// What may be added.
    pub(super) limit: Duration,
}

impl Regulator {
    pub(super) fn new(
        control: Control,
        moves: &BTreeMap<Pair, Work>,
        events: UnboundedSender<Event>,
        stop: CancellationToken,
    ) -> Self {
        let is_limited = control.settings().max_latency.is_some();
        let state = State {
            lanes: BTreeSet::new(),
            seated: BTreeSet::new(),
            share: Share::full(),
            is_measuring: is_limited,
        };
        control.note_pairs(state.pairs());
        let open_before = moves.iter().map(|(pair, work)| (*pair, work.open.clone()));
        Self {
            open_before: Mutex::new(open_before.collect()),
            throttle: Throttle::new(control.clone(), events.clone()),
            control,
            stop,
            state: watch::Sender::new(state),
            events,
            threads: Mutex::default(),
            latency: Mutex::default(),
            meter: Mutex::new(Meter::new(moves, Instant::now())),
            rests: Mutex::default(),
        }
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    pub(super) fn tell(&self, event: Event) {
        // After an interrupt the receiver is gone.
        let _ = self.events.send(event);
    }

    /// Counts an event of a lane, and passes it on.
    pub(super) fn tell_lane(&self, lane: Pair, event: LaneEvent) {
        self.meter().add(lane, &event, Instant::now());
        if let LaneEvent::Slots { moved } = &event {
            self.note_closed(lane, moved);
        }
        self.tell(Event::Lane { lane, event });
    }

    /// Notes that a lane has closed slots.
    pub(super) fn note_closed(&self, lane: Pair, slots: &SlotSet) {
        if let Some(open) = self.open_before().get_mut(&lane) {
            *open = open.difference(slots);
        }
    }

    /// How many slots were open before the run, and still are.
    fn still_open(&self) -> usize {
        let open = self.open_before();
        let all = open
            .values()
            .fold(SlotSet::new(), |all, one| all.union(one));
        all.count()
    }

    fn open_before(&self) -> MutexGuard<'_, BTreeMap<Pair, SlotSet>> {
        self.open_before
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells once a second how far the run has come.
    pub(super) async fn tell_progress(&self) -> Infallible {
        loop {
            tokio::time::sleep(TELL_EVERY).await;
            let now = Instant::now();
            let state = self.control.move_state();
            let progress = self.meter().progress(now, self.rested(), state);
            self.tell(Event::MoveProgress(Box::new(progress)));
        }
    }

    /// For how long the run has been at rest in all.
    pub(super) fn rested(&self) -> Duration {
        self.rests().sum(Instant::now())
    }

    fn rests(&self) -> MutexGuard<'_, Rests> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the time in which the run is at rest.
    pub(super) async fn count_rests(&self) -> Infallible {
        let mut settings = self.control.subscribe();
        let mut state = self.state.subscribe();
        loop {
            let now = *settings.borrow_and_update();
            let is_at_rest = {
                let state = state.borrow_and_update();
                state.seated.is_empty() && state.seats(now) == 0
            };
            self.rests().note(is_at_rest, Instant::now());
            // The senders live as long as `self`.
            tokio::select! {
                _ = settings.changed() => {}
                _ = state.changed() => {}
            }
        }
    }

    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a lane until the seat is dropped.
    pub(super) fn enter(self: &Arc<Self>, pair: Pair) -> Seat {
        self.change(|state| state.lanes.insert(pair));
        Seat {
            regulator: Arc::clone(self),
            pair,
            claim: Claim::Shared,
        }
    }

    /// Notes what a source tells about the weight of its keys.
    pub(super) fn note_usage(&self, source: NodeId, usage: &MemoryUsage) {
        self.throttle.note_usage(source, usage);
    }

    /// Waits until some of the next keys of a source, which weigh so much, may be sent; returns how many. No rate holds for
    /// slots that are finished before a pause or an end.
    pub(super) async fn pass(&self, source: NodeId, weights: &[u64]) -> usize {
        tokio::select! {
            biased;
            () = self.finishing() => weights.len(),
            count = self.throttle.pass(source, weights) => count,
        }
    }

    /// Waits until a task of a source, of that much, may begin.
    pub(super) async fn pass_task(&self, source: NodeId, keys: u64, bytes: u64) {
        self.throttle.pass_task(source, keys, bytes).await;
    }

    /// Waits until the slots in hand are the last ones before a pause or the end.
    async fn finishing(&self) {
        let mut settings = self.control.subscribe();
        tokio::select! {
            () = self.stop.cancelled() => {}
            // The sender lives as long as `self`.
            _ = settings.wait_for(|now| now.flow == Flow::Paused) => {}
        }
    }

    /// The latency limit. None holds for slots that are finished before a pause or an end: the sooner that is over, the better.
    pub(super) fn limit(&self) -> Option<Duration> {
        match self.haste() {
            Haste::Finishing => None,
            Haste::Moving => self.control.settings().max_latency,
        }
    }

    /// Whether the slots in hand are the last ones before a pause or the end.
    pub(super) fn haste(&self) -> Haste {
        let is_paused = self.control.settings().flow == Flow::Paused;
        match is_paused || self.stop.is_cancelled() {
            true => Haste::Finishing,
            false => Haste::Moving,
        }
    }

    /// How long one call may take. `longest` is what --max-stall says, which a latency limit caps.
    pub(super) fn longest_call(&self, longest: Duration) -> Duration {
        match self.limit() {
            None => longest,
            Some(limit) => self.share().call(longest.min(limit)),
        }
    }

    /// How long the keys of a call may take in any case; zero without a latency limit.
    pub(super) fn least_call(&self, longest: Duration) -> Duration {
        match self.limit() {
            None => Duration::ZERO,
            Some(limit) => Share::shortest_call(longest.min(limit)),
        }
    }

    /// Rests after a call that took so long, where a latency limit leaves only a small share.
    pub(super) async fn rest(&self, took: Duration) {
        let gap = match self.limit() {
            None => Duration::ZERO,
            Some(_) => self.share().gap(took),
        };
        if !gap.is_zero() {
            tokio::time::sleep(gap).await;
        }
    }

    /// How many slots a window may hold: with a latency limit, what `size` says.
    pub(super) fn window_slots(&self, most: usize, size: WindowSize) -> usize {
        match self.limit() {
            None => most,
            Some(_) => most.min(size.slots()),
        }
        .max(1)
    }

    /// How many keys a window may hold: fewer where keys move slowly, so that a pause or Ctrl-C does not wait long. With a
    /// rate, what moves in five seconds; with a latency limit, what `size` says.
    pub(super) fn window_keys(&self, most: u64, size: WindowSize) -> u64 {
        let most = match self.limit() {
            None => most,
            Some(_) => most.min(size.keys()),
        };
        match self.control.settings().rate {
            Some(Rate::Keys(rate)) => most.min(rate.saturating_mul(5)).max(1),
            // What keys weigh is not known before the window is.
            Some(Rate::Bytes(_)) | None => most,
        }
    }

    /// Notes what INFO says about the main thread of a node, and tells the user once if it is busy.
    pub(super) fn note_cpu(&self, end: &End, info: &Info) {
        if let Some(used) = info.main_thread_cpu {
            self.note_used(end.id, end, used, Instant::now());
        }
    }

    fn note_used(&self, id: NodeId, name: impl fmt::Display, used: Duration, now: Instant) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = threads.entry(id).or_insert(MainThread {
            at: now,
            used,
            share: 0.0,
            is_told: false,
        });
        let over = now - thread.at;
        if over < CPU_OVER {
            return;
        }
        // A process that restarted counts from zero.
        let share = used.saturating_sub(thread.used).as_secs_f64() / over.as_secs_f64();
        (thread.at, thread.used, thread.share) = (now, used, share);
        if share > BUSY && !thread.is_told {
            thread.is_told = true;
            self.tell(Event::Note(format!(
                "the main thread of {name} is busy ({:.0} %): the move does not grow while that is so",
                (share * 100.0).min(100.0)
            )));
        }
    }

    /// Whether more may be sent between these nodes than before.
    pub(super) fn growth<'a>(&self, nodes: impl IntoIterator<Item = &'a NodeId>) -> Growth {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let is_busy = |id: &NodeId| {
            let thread = threads.get(id);
            thread.is_some_and(|thread| thread.share > BUSY && thread.at.elapsed() < CPU_HOLDS)
        };
        match nodes.into_iter().any(is_busy) {
            true => Growth::Held,
            false => Growth::Allowed,
        }
    }

    /// What a task between these nodes that took so long cost other clients; `None` without a limit.
    pub(super) fn cost(&self, pair: Pair, took: Duration, write_pause: Duration) -> Option<Cost> {
        let limit = self.control.settings().max_latency?;
        let latency = self.latency();
        let added = [pair.from, pair.to]
            .into_iter()
            .filter_map(|id| latency.get(&id)?.added(samples_within(took)))
            .max();
        let added = added.unwrap_or_default().max(write_pause);
        Some(Cost { added, limit })
    }

    pub(super) fn latency(&self) -> MutexGuard<'_, BTreeMap<NodeId, Latency>> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The nodes between which slots move now.
    pub(super) fn loaded(&self) -> BTreeSet<NodeId> {
        let state = self.state.borrow();
        let seated = state.seated.iter();
        seated.flat_map(|pair| [pair.from, pair.to]).collect()
    }

    /// The pairs that may have slots open.
    pub(super) fn seated(&self) -> Vec<Pair> {
        self.state.borrow().seated.iter().copied().collect()
    }

    pub(super) fn share(&self) -> Share {
        self.state.borrow().share
    }

    pub(super) fn set_share(&self, share: Share) {
        self.state.send_modify(|state| state.share = share);
    }

    /// Lets no lane open a slot while the idle latency is measured, or lets them again.
    pub(super) fn measure(&self, measuring: Measuring) {
        self.change(|state| {
            let is_measuring = measuring == Measuring::Now;
            std::mem::replace(&mut state.is_measuring, is_measuring) != is_measuring
        });
    }

    /// Changes the state, if `change` returns true, and tells who asks for it from outside. Returns whether it did.
    fn change(&self, change: impl FnOnce(&mut State) -> bool) -> bool {
        self.state.send_if_modified(|state| {
            let has_changed = change(state);
            if has_changed {
                self.control.note_pairs(state.pairs());
            }
            has_changed
        })
    }

    /// Waits until no lane has a slot open.
    pub(super) async fn at_rest(&self) {
        let mut state = self.state.subscribe();
        // The sender lives as long as `self`.
        let _ = state.wait_for(|state| state.seated.is_empty()).await;
    }

    /// Tells the user when a run that is to pause has come to rest.
    pub(super) async fn tell_pauses(&self) -> Infallible {
        let mut settings = self.control.subscribe();
        // The senders live as long as `self`.
        loop {
            let _ = settings.wait_for(|now| now.flow == Flow::Paused).await;
            let resumed = async {
                let _ = settings.wait_for(|now| now.flow == Flow::Moving).await;
            };
            tokio::select! {
                () = self.at_rest() => {}
                () = resumed => continue,
            }
            let resume = self.control.how_to_resume();
            let resume = resume.map_or_else(String::new, |how| format!("; resume with {how}"));
            let state = match self.still_open() {
                0 => "no slot is open, and nothing is in flight".to_string(),
                1 => "nothing is in progress; 1 slot is still open from before".to_string(),
                open => format!(
                    "nothing is in progress; {} are still open from before",
                    counted(open as u64, "slot")
                ),
            };
            self.tell(Event::Note(format!("paused: {state}{resume}")));
            let began = Instant::now();
            let _ = settings.wait_for(|now| now.flow == Flow::Moving).await;
            let pause = Duration::from_secs(began.elapsed().as_secs());
            self.tell(Event::Note(format!(
                "the move goes on, after a pause of {}",
                humantime::format_duration(pause)
            )));
        }
    }
}

impl State {
    /// How many lanes may have slots open.
    fn seats(&self, settings: Settings) -> usize {
        if settings.flow == Flow::Paused || self.is_measuring {
            return 0;
        }
        let most = settings.most_pairs();
        match settings.max_latency {
            None => most,
            Some(_) => self.share.lanes(most.min(self.lanes.len())),
        }
    }

    fn pairs(&self) -> Pairs {
        Pairs {
            lanes: self.lanes.len(),
            open_pairs: self.seated.len(),
            is_measuring: self.is_measuring,
        }
    }
}

/// Whether slots are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    /// They are.
    Moving,
    /// Those that are open are finished, and no more are opened.
    Finishing,
}

/// Whether the idle latency is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measuring {
    /// It is.
    Now,
    /// It is known, or not needed.
    Over,
}

/// The place of a lane. Dropping it ends the lane's part in the run.
pub(super) struct Seat {
    regulator: Arc<Regulator>,
    pair: Pair,
    claim: Claim,
}

/// How a lane gets its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// It waits until there is one.
    Shared,
    /// It has one always: it closes slots that another lane has open.
    Always,
}

impl Seat {
    /// The lane closes slots that another lane has open: it waits for no seat.
    pub(super) fn claim_always(&mut self) {
        self.claim = Claim::Always;
    }

    /// Waits until this lane may open slots. Returns false if the run is to stop.
    pub(super) async fn take(&self, stop: &StopSignal) -> bool {
        let regulator = &self.regulator;
        let mut settings = regulator.control.subscribe();
        let mut state = regulator.state.subscribe();
        loop {
            if stop.soon.is_cancelled() {
                return false;
            }
            if self.claim == Claim::Always {
                return true;
            }
            // What changes from here on wakes the wait below.
            let now = *settings.borrow_and_update();
            state.mark_unchanged();
            if state.borrow().seated.contains(&self.pair) {
                return true;
            }
            let is_seated = regulator.change(|state| {
                let is_free = state.seated.len() < state.seats(now);
                is_free && state.seated.insert(self.pair)
            });
            if is_seated {
                return true;
            }
            tokio::select! {
                () = stop.soon.cancelled() => return false,
                _ = settings.changed() => {}
                _ = state.changed() => {}
            }
        }
    }

    /// Whether this lane is to close its slots: fewer lanes may work than do.
    pub(super) fn is_to_yield(&self) -> bool {
        let settings = self.regulator.control.settings();
        let state = self.regulator.state.borrow();
        state.seated.contains(&self.pair) && state.seated.len() > state.seats(settings)
    }

    /// Waits until this lane is to close its slots.
    pub(super) async fn to_yield(&self) {
        let mut settings = self.regulator.control.subscribe();
        let mut state = self.regulator.state.subscribe();
        loop {
            settings.mark_unchanged();
            state.mark_unchanged();
            if self.is_to_yield() {
                return;
            }
            // The senders live as long as the regulator.
            tokio::select! {
                _ = settings.changed() => {}
                _ = state.changed() => {}
            }
        }
    }

    /// Gives the seat up: no slot of this lane is open.
    pub(super) fn give_up(&self) {
        let give_up = |state: &mut State| state.seated.remove(&self.pair);
        self.regulator.change(give_up);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.regulator.change(|state| {
            state.seated.remove(&self.pair);
            state.lanes.remove(&self.pair)
        });
    }
}

#[cfg(test)]
mod tests;
