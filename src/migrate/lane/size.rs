//! How much moves in one ASM task: a few seconds' worth, by what the slots weigh and the last task took.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Ends, Lane, LaneError};
use crate::cluster::slot::{Slot, SlotSet};
use crate::event::LaneEvent;
use crate::migrate::pace::Growth;
use crate::migrate::regulator::Cost;

/// The time that a task should take: short enough to wait for after Ctrl-C.
const TASK_TAKES: Duration = Duration::from_secs(4);
/// What a task brings before anything was measured, in bytes. Each task costs the source a fork or a scan of all its
/// keys, and a tenth of a second: 1 GB of values of 16 KB took 4.2 s with 64 MiB first (Redis 8.10, three sources).
const FIRST_TASK: u64 = 512 << 20;
/// The same where the latency that a move adds has a limit.
const FIRST_LIMITED_TASK: u64 = 64 << 20;
/// What a task brings at least, in bytes. Smaller ones take a tenth of a second whatever they bring, and the source forks
/// for each: with 1 MiB, 1 GB that was limited to 5 ms had not moved after 15 minutes (Redis 8.10, forks of 60 ms).
const SMALLEST_TASK: u64 = 16 << 20;
/// The longest gap between two tasks.
const LONGEST_GAP: Duration = Duration::from_secs(10);
/// What a task brings at most, in bytes, unless a single slot has more.
const LARGEST_TASK: u64 = 2 << 30;
/// What a key is taken to weigh at least: servers may not tell, and a key costs time in any case.
const LIGHTEST: u64 = 64;
/// How many keys are weighed to know the rest.
const WEIGHED: usize = 256;

/// A slot, the keys that its source has of it, and about what they weigh together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weighed {
    pub(super) slot: Slot,
    pub(super) keys: u64,
    pub(super) bytes: u64,
}

/// The keys of slots, and about what they weigh: some of them are weighed to know the rest.
#[derive(Debug)]
pub(super) struct Estimate {
    counts: Vec<(Slot, u64)>,
    /// The weights of some keys, with their slots.
    samples: Vec<(Slot, u64)>,
}

impl Estimate {
    /// What a key weighs on average.
    fn mean(&self) -> u64 {
        let weights = self.samples.iter().map(|(_, weight)| *weight);
        let sum = weights.fold(0, u64::saturating_add);
        (sum / (self.samples.len() as u64).max(1)).max(LIGHTEST)
    }

    /// The slots, in their order.
    pub(super) fn slots(&self) -> impl Iterator<Item = Weighed> {
        let mean = self.mean();
        self.counts.iter().map(move |(slot, keys)| Weighed {
            slot: *slot,
            keys: *keys,
            bytes: keys.saturating_mul(mean),
        })
    }

    /// Keys and bytes of all slots.
    fn sum(&self) -> (u64, u64) {
        self.slots().fold((0, 0), |(keys, bytes), one| {
            (
                u64::saturating_add(keys, one.keys),
                u64::saturating_add(bytes, one.bytes),
            )
        })
    }

    /// Leaves slots out; returns by how many keys and bytes that makes the sum smaller. The weights of their keys do not
    /// stand for the rest any more.
    pub(super) fn remove(&mut self, slots: &SlotSet) -> (u64, u64) {
        let (keys, bytes) = self.sum();
        self.counts.retain(|(slot, _)| !slots.contains(*slot));
        self.samples.retain(|(slot, _)| !slots.contains(*slot));
        let (keys_left, bytes_left) = self.sum();
        (
            keys.saturating_sub(keys_left),
            bytes.saturating_sub(bytes_left),
        )
    }
}

/// How much goes in one ASM task; adapts to what the last one took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    bytes: u64,
    gap: Duration,
}

impl Size {
    /// The first task, with the limit of the latency that it may add.
    pub(super) fn first(limit: Option<Duration>) -> Self {
        Self {
            bytes: limit.map_or(FIRST_TASK, |_| FIRST_LIMITED_TASK),
            gap: Duration::ZERO,
        }
    }

    /// The next slots: as many as fit, at least 1 of them.
    pub(super) fn take(self, queue: &mut VecDeque<Weighed>) -> Vec<Weighed> {
        let mut sum = 0_u64;
        let fitting = queue
            .iter()
            .take_while(|weighed| {
                sum = sum.saturating_add(weighed.bytes);
                sum <= self.bytes
            })
            .count();
        let count = fitting.max(1).min(queue.len());
        queue.drain(..count).collect()
    }

    /// What a task took that brought so much, and what it cost other clients where that has a limit. Returns the gap until
    /// the next one: where a task cost too much, as many times as long as it took.
    pub(super) fn measured(
        &mut self,
        bytes: u64,
        took: Duration,
        growth: Growth,
        cost: Option<Cost>,
    ) -> Duration {
        match cost {
            Some(cost) if cost.added > cost.limit => {
                let times = cost.added.as_secs_f64() / cost.limit.as_secs_f64().max(1e-6);
                self.gap = took.mul_f64(times.min(10.0)).min(LONGEST_GAP);
                self.bytes = (self.bytes / 2).max(SMALLEST_TASK);
                return self.gap;
            }
            Some(cost) if cost.added > cost.limit / 2 => return self.gap,
            Some(_) => self.gap /= 2,
            None => self.gap = Duration::ZERO,
        }
        if bytes >= SMALLEST_TASK / 2 {
            let fits = bytes as f64 / took.as_secs_f64().max(0.1) * TASK_TAKES.as_secs_f64();
            let most = match growth {
                Growth::Allowed => self.bytes.saturating_mul(4),
                Growth::Held => self.bytes,
            };
            self.bytes = (fits as u64).min(most).clamp(SMALLEST_TASK, LARGEST_TASK);
        }
        self.gap
    }
}

impl Lane {
    /// Counts the keys of all slots, weighs some, and tells it.
    pub(super) async fn weigh(&self, ends: &Ends, slots: Vec<Slot>) -> Result<Estimate, LaneError> {
        let counts = self.count(&ends.source, &ends.databases, &slots).await?;
        let counts: Vec<(Slot, u64)> = slots.into_iter().zip(counts).collect();
        let filled = counts.iter().filter(|(_, keys)| *keys > 0);
        let filled: Vec<Slot> = filled.map(|(slot, _)| *slot).collect();
        let step = filled.len().div_ceil(WEIGHED).max(1);
        let some: Vec<Slot> = filled.into_iter().step_by(step).collect();
        let mut samples = Vec::new();
        for database in &ends.databases {
            // Without the right to look at keys their number has to do.
            let keys = ends.source.cluster_getkeysinslot(*database, &some, 1).await;
            let keys: Vec<Vec<u8>> = keys.unwrap_or_default().into_iter().flatten().collect();
            let named: Vec<&Vec<u8>> = keys.iter().collect();
            if let Ok(told) = ends.source.memory_usage(*database, &named).await {
                self.regulator.note_usage(self.source.id, &told);
                let weights = keys.iter().zip(told.weights);
                samples
                    .extend(weights.filter_map(|(key, weight)| Some((Slot::of_key(key), weight?))));
            }
        }
        let estimate = Estimate { counts, samples };
        let (keys, bytes) = estimate.sum();
        self.tell(LaneEvent::Weighed { keys, bytes });
        Ok(estimate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queue(weights: &[u64]) -> VecDeque<Weighed> {
        let weighed = |(slot, bytes): (Slot, &u64)| Weighed {
            slot,
            keys: 1,
            bytes: *bytes,
        };
        Slot::all().zip(weights).map(weighed).collect()
    }

    fn timed(size: &mut Size, bytes: u64, took: Duration) {
        let gap = size.measured(bytes, took, Growth::Allowed, None);
        assert_eq!(gap, Duration::ZERO);
    }

    #[test]
    fn tasks_that_cost_too_much_become_small_and_rare() {
        let limit = Duration::from_millis(5);
        let mut size = Size::first(Some(limit));
        let took = Duration::from_millis(400);
        let mut after = |added| {
            let cost = Some(Cost { added, limit });
            let gap = size.measured(size.bytes, took, Growth::Allowed, cost);
            (size.bytes, gap)
        };
        assert_eq!(after(limit * 2), (FIRST_LIMITED_TASK / 2, took * 2));
        assert_eq!(after(limit * 100), (FIRST_LIMITED_TASK / 4, took * 10));
        for _ in 0..10 {
            after(limit * 100);
        }
        assert_eq!(
            after(limit),
            (SMALLEST_TASK, took * 10),
            "in between all stays"
        );
        assert_eq!(after(limit / 5), (SMALLEST_TASK * 4, took * 5));
        for _ in 0..20 {
            after(limit / 5);
        }
        let (bytes, gap) = after(Duration::ZERO);
        assert!(
            bytes > FIRST_LIMITED_TASK && gap < Duration::from_millis(1),
            "{bytes} {gap:?}"
        );
    }

    #[test]
    fn a_busy_node_gets_no_larger_tasks() {
        let mut size = Size::first(None);
        let took = Duration::from_millis(100);
        size.measured(FIRST_TASK, took, Growth::Held, None);
        assert_eq!(size.bytes, FIRST_TASK);
    }

    #[test]
    fn tasks_grow_while_they_are_short_and_shrink_when_they_are_not() {
        let mut size = Size::first(None);
        timed(&mut size, 100, Duration::from_millis(100));
        assert_eq!(size.bytes, FIRST_TASK);
        timed(&mut size, FIRST_TASK, Duration::from_millis(500));
        assert_eq!(size.bytes, LARGEST_TASK);
        timed(&mut size, LARGEST_TASK, Duration::from_secs(16));
        assert_eq!(size.bytes, LARGEST_TASK / 4);
        timed(&mut size, FIRST_TASK, Duration::from_secs(600));
        assert_eq!(size.bytes, SMALLEST_TASK);
    }

    #[test]
    fn what_is_left_out_takes_its_share_of_the_sum_away() {
        let slots: Vec<Slot> = Slot::all().take(100).collect();
        let estimate = |samples: Vec<(Slot, u64)>| Estimate {
            counts: slots.iter().map(|slot| (*slot, 10)).collect(),
            samples,
        };
        let big: SlotSet = [slots[7]].into_iter().collect();
        // The big key was not among those that were weighed.
        let mut unseen = estimate(vec![(slots[0], 100), (slots[50], 100)]);
        assert_eq!(unseen.sum(), (1_000, 100_000));
        assert_eq!(unseen.remove(&big), (10, 1_000));
        assert_eq!(unseen.sum(), (990, 99_000));
        // It was, and stood for others.
        let mut seen = estimate(vec![(slots[0], 100), (slots[7], 2 << 30)]);
        let (_, before) = seen.sum();
        let (keys, bytes) = seen.remove(&big);
        assert_eq!((keys, seen.sum()), (10, (990, 99_000)));
        assert_eq!(before - bytes, 99_000);
        assert_eq!(seen.remove(&big), (0, 0));
    }

    #[test]
    fn a_slot_that_is_too_large_goes_alone() {
        let mut slots = queue(&[LARGEST_TASK * 2, 1, 1]);
        assert_eq!(Size::first(None).take(&mut slots).len(), 1);
        assert_eq!(Size::first(None).take(&mut slots).len(), 2);
        assert!(slots.is_empty());
    }

    proptest! {
        /// Every slot goes once, and no task is larger than it may be unless it is one slot.
        #[test]
        fn tasks_take_every_slot_once(
            weights in proptest::collection::vec(0..FIRST_TASK * 2, 1..200),
            took in proptest::collection::vec(1_u64..20_000, 200),
        ) {
            let mut slots = queue(&weights);
            let mut size = Size::first(None);
            let mut gone = Vec::new();
            for millis in took {
                if slots.is_empty() {
                    break;
                }
                let task = size.take(&mut slots);
                let bytes: u64 = task.iter().map(|weighed| weighed.bytes).sum();
                prop_assert!(task.len() == 1 || bytes <= size.bytes);
                gone.extend(task.iter().map(|weighed| weighed.slot));
                timed(&mut size, bytes, Duration::from_millis(millis));
                prop_assert!((SMALLEST_TASK..=LARGEST_TASK).contains(&size.bytes));
            }
            prop_assert_eq!(gone, Slot::all().take(weights.len()).collect::<Vec<_>>());
        }
    }
}
