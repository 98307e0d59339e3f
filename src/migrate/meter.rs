//! How far a run has come, and how long the rest may take. Pure: time comes in.
//!
//! The rest is what the sources hold of the slots that have not moved, as they counted it when their lane began. It is divided by
//! the speed of the last seconds, or by that of the whole run where nothing was reported in between (ASM tasks report when they
//! end).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::schedule::Work;
use crate::event::{LaneEvent, MoveProgress, MoveState, Pair, Progress};

/// The time over which the speed is measured.
const RECENT: Duration = Duration::from_secs(10);
/// The longest time that is told.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// What all lanes have moved and have to move.
#[derive(Debug)]
pub(super) struct Meter {
    lanes: BTreeMap<Pair, Lane>,
    total: Speed,
    /// For how long the run had been at rest when its progress was last asked for.
    rested: Duration,
}

#[derive(Debug)]
struct Lane {
    is_running: bool,
    slots: usize,
    slots_total: usize,
    amount: Amount,
    /// What it holds in all; `None` until it was counted.
    whole: Option<Amount>,
    speed: Speed,
}

/// Keys, and what they weigh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amount {
    keys: u64,
    bytes: u64,
}

/// What had moved at points in the last seconds.
#[derive(Debug)]
struct Speed {
    began: Instant,
    recent: VecDeque<(Instant, Amount)>,
}

impl Meter {
    /// Nothing has moved of what is planned.
    pub(super) fn new(moves: &BTreeMap<Pair, Work>, now: Instant) -> Self {
        let lane = |work: &Work| Lane {
            is_running: false,
            slots: 0,
            slots_total: work.slots.len(),
            amount: Amount::default(),
            whole: None,
            speed: Speed::new(now),
        };
        Self {
            lanes: moves
                .iter()
                .map(|(pair, work)| (*pair, lane(work)))
                .collect(),
            total: Speed::new(now),
            rested: Duration::ZERO,
        }
    }

    /// Counts an event of a lane.
    pub(super) fn add(&mut self, pair: Pair, event: &LaneEvent, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&pair) else {
            return;
        };
        match event {
            LaneEvent::Started { .. } => {
                lane.is_running = true;
                lane.speed = Speed::new(now);
            }
            LaneEvent::Weighed { keys, bytes } => {
                lane.whole = Some(Amount {
                    keys: lane.amount.keys.saturating_add(*keys),
                    bytes: lane.amount.bytes.saturating_add(*bytes),
                });
            }
            LaneEvent::Keys { keys, bytes } => {
                lane.amount.keys = lane.amount.keys.saturating_add(*keys);
                lane.amount.bytes = lane.amount.bytes.saturating_add(*bytes);
            }
            LaneEvent::Slots { moved } => lane.slots += moved.count(),
            LaneEvent::Skipped { slots, keys, bytes } => {
                lane.slots_total = lane.slots_total.saturating_sub(slots.count());
                lane.whole = lane.whole.map(|whole| Amount {
                    keys: whole.keys.saturating_sub(*keys),
                    bytes: whole.bytes.saturating_sub(*bytes),
                });
            }
            LaneEvent::Ended { .. } => lane.is_running = false,
            LaneEvent::TaskRetry { .. } | LaneEvent::TaskProgress(_) => {}
        }
    }

    /// How far the lanes that run have come, and all lanes together. It is to be called once a second. `rested` is for how
    /// long the run has been at rest in all, which is not held against its speed.
    pub(super) fn progress(
        &mut self,
        now: Instant,
        rested: Duration,
        state: MoveState,
    ) -> MoveProgress {
        let rest = rested.saturating_sub(self.rested);
        self.rested = rested;
        self.total.skip(rest, now);
        for lane in self.lanes.values_mut() {
            lane.speed.skip(rest, now);
        }
        let guess = self.guess();
        let mut sum = Progress::default();
        let mut pairs = Vec::new();
        for (pair, lane) in &mut self.lanes {
            let whole = lane.whole(guess);
            let progress = Progress {
                slots: lane.slots,
                slots_total: lane.slots_total,
                keys: lane.amount.keys,
                keys_total: whole.keys,
                bytes: lane.amount.bytes,
                bytes_total: whole.bytes,
                ..Progress::default()
            };
            sum.slots += progress.slots;
            sum.slots_total += progress.slots_total;
            sum.keys += progress.keys;
            sum.keys_total += progress.keys_total;
            sum.bytes += progress.bytes;
            sum.bytes_total += progress.bytes_total;
            if lane.is_running {
                pairs.push((*pair, lane.speed.complete(progress, now)));
            }
        }
        let mut total = self.total.complete(sum, now);
        if state != MoveState::Moving {
            let all = pairs.iter_mut().map(|(_, progress)| progress);
            for progress in all.chain([&mut total]) {
                progress.left = None;
            }
        }
        if matches!(state, MoveState::Paused | MoveState::Measuring) {
            let all = pairs.iter_mut().map(|(_, progress)| progress);
            for progress in all.chain([&mut total]) {
                (progress.keys_per_second, progress.bytes_per_second) = (0, 0);
            }
        }
        MoveProgress {
            state,
            pairs,
            total,
        }
    }

    /// What a slot holds on average, of those that were counted: keys and bytes, and the number of slots.
    fn guess(&self) -> (Amount, u64) {
        let counted = self.lanes.values().filter_map(|lane| {
            let whole = lane.whole?;
            Some((whole, lane.slots_total as u64))
        });
        counted.fold((Amount::default(), 0), |(sum, slots), (whole, more)| {
            let keys = sum.keys.saturating_add(whole.keys);
            let bytes = sum.bytes.saturating_add(whole.bytes);
            (Amount { keys, bytes }, slots + more)
        })
    }
}

impl Lane {
    /// What the lane holds in all: at least what has moved, and no more once all slots have.
    fn whole(&self, (sum, slots): (Amount, u64)) -> Amount {
        if self.slots >= self.slots_total {
            return self.amount;
        }
        let share = |amount: u64| {
            let share = u128::from(amount) * self.slots_total as u128 / u128::from(slots.max(1));
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        let whole = self.whole.unwrap_or(Amount {
            keys: share(sum.keys),
            bytes: share(sum.bytes),
        });
        Amount {
            keys: whole.keys.max(self.amount.keys),
            bytes: whole.bytes.max(self.amount.bytes),
        }
    }
}

impl Speed {
    fn new(began: Instant) -> Self {
        Self {
            began,
            recent: VecDeque::new(),
        }
    }

    /// Leaves out a time in which nothing was to move.
    fn skip(&mut self, rest: Duration, now: Instant) {
        let later = |at: Instant| (at + rest).min(now);
        self.began = later(self.began);
        for (at, _) in &mut self.recent {
            *at = later(*at);
        }
    }

    /// Adds the speed, and the time that is left.
    fn complete(&mut self, progress: Progress, now: Instant) -> Progress {
        let done = Amount {
            keys: progress.keys,
            bytes: progress.bytes,
        };
        self.recent.push_back((now, done));
        while self.recent.len() > 2 && self.recent.front().is_some_and(|r| now - r.0 > RECENT) {
            self.recent.pop_front();
        }
        let nothing = (self.began, Amount::default());
        // The first sample is that of the end of the first second.
        let (since, then) = match self.recent.front() {
            Some(first) if self.recent.len() > 1 => *first,
            _ => nothing,
        };
        let seconds = (now - since).as_secs_f64().max(0.001);
        let per_second = |now: u64, then: u64| (now.saturating_sub(then) as f64 / seconds) as u64;
        Progress {
            keys_per_second: per_second(done.keys, then.keys),
            bytes_per_second: per_second(done.bytes, then.bytes),
            left: left(&progress, done, (since, then), (self.began, now)),
            ..progress
        }
    }
}

/// The time for the rest: by bytes where they are known, else by keys, else by slots.
fn left(
    progress: &Progress,
    done: Amount,
    (since, then): (Instant, Amount),
    (began, now): (Instant, Instant),
) -> Option<Duration> {
    let whole_run = now - began;
    let amounts = [
        (progress.bytes_total, done.bytes, then.bytes),
        (progress.keys_total, done.keys, then.keys),
    ];
    let (rest, moved, took) = amounts
        .into_iter()
        .filter(|(total, ..)| *total > 0)
        .map(|(total, done, then)| {
            let rest = total.saturating_sub(done);
            match done.saturating_sub(then) {
                0 => (rest, done, whole_run),
                recent => (rest, recent, now - since),
            }
        })
        .next()
        .unwrap_or_else(|| {
            let rest = progress.slots_total.saturating_sub(progress.slots);
            (rest as u64, progress.slots as u64, whole_run)
        });
    if rest == 0 {
        return Some(Duration::ZERO);
    }
    let seconds = rest as f64 * took.as_secs_f64() / moved as f64;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .map(|left| left.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::slot::{Slot, SlotSet};
    use crate::migrate::schedule::MoveMethod;
    use proptest::prelude::*;

    fn pair(from: u8, to: u8) -> Pair {
        let node = |n: u8| format!("{n:040x}").parse().unwrap();
        Pair {
            from: node(from),
            to: node(to),
        }
    }

    fn work(slots: usize) -> Work {
        Work {
            way: MoveMethod::Keys,
            slots: Slot::all().take(slots).collect(),
            open: SlotSet::new(),
            untried: false,
        }
    }

    const NONE: Duration = Duration::ZERO;

    #[test]
    fn a_rest_is_not_held_against_the_speed() {
        let began = Instant::now();
        let one = pair(1, 9);
        let mut meter = Meter::new(&[(one, work(100))].into(), began);
        meter.add(one, &LaneEvent::Started { slots: 100 }, began);
        let whole = LaneEvent::Weighed {
            keys: 1_000,
            bytes: 1_000,
        };
        meter.add(one, &whole, began);
        let keys = LaneEvent::Keys {
            keys: 100,
            bytes: 100,
        };
        // The idle latency is measured for 2 s, and after two more seconds there is a pause of 60 s.
        meter.progress(began + second(2), second(2), MoveState::Moving);
        meter.add(one, &keys, began + second(3));
        meter.progress(began + second(3), second(2), MoveState::Moving);
        meter.add(one, &keys, began + second(4));
        let far = meter.progress(began + second(4), second(2), MoveState::Moving);
        assert_eq!(far.total.keys_per_second, 100, "{far:?}");
        let paused = meter.progress(began + second(64), second(62), MoveState::Paused);
        assert_eq!((paused.total.left, paused.total.keys_per_second), (None, 0));
        meter.add(one, &keys, began + second(65));
        let far = meter.progress(began + second(65), second(62), MoveState::Moving);
        assert_eq!(far.total.keys_per_second, 100, "{far:?}");
        assert_eq!(far.total.left, Some(second(7)));
    }

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_rest_is_told_for_each_pair_and_in_total() {
        let began = Instant::now();
        let (one, two) = (pair(1, 9), pair(2, 9));
        let moves = [(one, work(100)), (two, work(50))].into();
        let mut meter = Meter::new(&moves, began);
        let slots = |n| LaneEvent::Slots {
            moved: Slot::all().take(n).collect::<SlotSet>(),
        };
        meter.add(one, &LaneEvent::Started { slots: 100 }, began);
        let whole = LaneEvent::Weighed {
            keys: 1_000,
            bytes: 10_000,
        };
        meter.add(one, &whole, began);
        for n in 1..=4 {
            let keys = LaneEvent::Keys {
                keys: 100,
                bytes: 1_000,
            };
            meter.add(one, &keys, began + second(n));
            meter.add(one, &slots(10), began + second(n));
            meter.progress(began + second(n), NONE, MoveState::Moving);
        }
        let far = meter.progress(began + second(4), NONE, MoveState::Moving);
        let MoveProgress { pairs, total, .. } = far;
        let [(shown, first)] = &pairs[..] else {
            panic!("{pairs:?}");
        };
        assert_eq!(*shown, one);
        assert_eq!((first.slots, first.slots_total), (40, 100));
        assert_eq!((first.keys, first.keys_total), (400, 1_000));
        assert_eq!(
            (first.keys_per_second, first.bytes_per_second),
            (100, 1_000)
        );
        assert_eq!(first.left, Some(second(6)));
        // The other pair has half as many slots, and is thought to hold half as much.
        assert_eq!((total.keys_total, total.bytes_total), (1_500, 15_000));
        assert_eq!(total.left, Some(second(11)));
    }

    #[test]
    fn slots_that_are_skipped_are_not_left_to_do() {
        let began = Instant::now();
        let one = pair(1, 9);
        let mut meter = Meter::new(&[(one, work(100))].into(), began);
        let slots = |n| Slot::all().take(n).collect::<SlotSet>();
        meter.add(one, &LaneEvent::Started { slots: 100 }, began);
        let whole = LaneEvent::Weighed {
            keys: 100,
            bytes: 9_900 + (2 << 30),
        };
        meter.add(one, &whole, began);
        let skipped = LaneEvent::Skipped {
            slots: slots(1),
            keys: 1,
            bytes: 2 << 30,
        };
        meter.add(one, &skipped, began);
        let half = LaneEvent::Keys {
            keys: 33,
            bytes: 3_300,
        };
        meter.add(one, &half, began + second(1));
        meter.add(one, &LaneEvent::Slots { moved: slots(33) }, began);
        let total = meter.progress(began + second(1), NONE, MoveState::Moving);
        let total = total.total;
        assert_eq!((total.slots, total.slots_total), (33, 99));
        assert_eq!((total.keys_left(), total.bytes_left()), (66, 6_600));
        assert_eq!(total.left, Some(second(2)));
        // The lane is done with the 99 others.
        meter.add(one, &LaneEvent::Slots { moved: slots(66) }, began);
        let far = meter.progress(began + second(2), NONE, MoveState::Moving);
        let total = far.total;
        assert_eq!((total.slots, total.slots_total), (99, 99));
        assert_eq!((total.bytes_left(), total.left), (0, Some(NONE)));
    }

    #[test]
    fn slots_without_keys_have_a_time_left_too() {
        let began = Instant::now();
        let mut meter = Meter::new(&[(pair(1, 9), work(100))].into(), began);
        let none = LaneEvent::Weighed { keys: 0, bytes: 0 };
        meter.add(pair(1, 9), &none, began);
        let first = meter.progress(began + second(1), NONE, MoveState::Moving);
        assert_eq!(first.total.left, None);
        let moved = LaneEvent::Slots {
            moved: Slot::all().take(25).collect(),
        };
        meter.add(pair(1, 9), &moved, began);
        let total = meter.progress(began + second(2), NONE, MoveState::Moving);
        let total = total.total;
        assert_eq!(total.left, Some(second(6)));
    }

    proptest! {
        /// Whatever is reported, no figure exceeds its total, and the time left is bounded.
        #[test]
        fn figures_fit_together(
            events in proptest::collection::vec((0_u64..1 << 40, 0_u64..1 << 60, 0_usize..5), 1..50),
            keys in 0_u64..1 << 40,
        ) {
            let began = Instant::now();
            let one = pair(1, 9);
            let mut meter = Meter::new(&[(one, work(100))].into(), began);
            meter.add(one, &LaneEvent::Started { slots: 100 }, began);
            meter.add(one, &LaneEvent::Weighed { keys, bytes: keys }, began);
            for (n, (keys, bytes, slots)) in events.into_iter().enumerate() {
                let now = began + second(n as u64);
                meter.add(one, &LaneEvent::Keys { keys, bytes }, now);
                let moved = LaneEvent::Slots { moved: Slot::all().take(slots).collect() };
                meter.add(one, &moved, now);
                let far = meter.progress(now, NONE, MoveState::Moving);
                let MoveProgress { pairs, total, .. } = far;
                for progress in pairs.iter().map(|(_, progress)| progress).chain([&total]) {
                    prop_assert!(progress.keys <= progress.keys_total);
                    prop_assert!(progress.bytes <= progress.bytes_total);
                    prop_assert!(progress.left.is_none_or(|left| left <= LONGEST));
                }
            }
        }
    }
}
