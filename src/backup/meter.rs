//! How far work in many small steps has come, each of its files or nodes too, and how long the rest may take.
//!
//! Those who do the work only add to counters. Once a second these are read and told. A rate is that of the last seconds.
//! The time left is that for the rest at this rate, or at the rate of the whole run where nothing was done lately.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::event::{Amount, AmountProgress, Event, Events, Phase, Unit};

/// How often the progress is told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// The time over which rates are measured.
const RECENT: Duration = Duration::from_secs(10);
/// The longest time that is told.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Counts an amount and reports the progress at intervals.
#[derive(Debug)]
pub struct Meter {
    phase: Phase,
    unit: Unit,
    total: Total,
    done: AtomicU64,
    paces: Mutex<Paces>,
    events: Events,
}

/// The whole amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Total {
    Known(u64),
    Unknown,
    /// The sum of the parts, once all of these are known.
    OfParts,
}

#[derive(Debug)]
struct Paces {
    sum: Pace,
    parts: Vec<(Arc<MeterPart>, Pace)>,
}

impl Meter {
    /// From 0.
    pub fn new(phase: Phase, unit: Unit, total: Option<u64>, events: Events) -> Self {
        let total = total.map_or(Total::Unknown, Total::Known);
        Self::starting((phase, unit), total, events, Instant::now())
    }

    /// From 0 to the sum of the parts.
    pub fn of_parts(phase: Phase, unit: Unit, events: Events) -> Self {
        Self::starting((phase, unit), Total::OfParts, events, Instant::now())
    }

    fn starting((phase, unit): (Phase, Unit), total: Total, events: Events, now: Instant) -> Self {
        Self {
            phase,
            unit,
            total,
            done: AtomicU64::new(0),
            paces: Mutex::new(Paces {
                sum: Pace::new(now),
                parts: Vec::new(),
            }),
            events,
        }
    }

    /// Adds a part: a file, or a node. What is added to it does not count for the sum.
    pub fn part(&self, name: &str, total: Option<u64>) -> Arc<MeterPart> {
        self.part_at(name, total, Instant::now())
    }

    fn part_at(&self, name: &str, total: Option<u64>, now: Instant) -> Arc<MeterPart> {
        let part = Arc::new(MeterPart {
            name: name.into(),
            done: AtomicU64::new(0),
            listed: AtomicU64::new(0),
            total: Mutex::new(total),
        });
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        paces.parts.push((Arc::clone(&part), Pace::new(now)));
        part
    }

    /// Adds an amount.
    pub fn add(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
    }

    /// Does the work; tells the progress at intervals, and at the end.
    pub async fn tell_while<T>(&self, work: impl Future<Output = T>) -> T {
        let done = tokio::select! {
            biased;
            done = work => done,
            never = self.tell_on() => match never {},
        };
        if self.done.load(Ordering::Relaxed) > 0 {
            self.tell();
        }
        done
    }

    async fn tell_on(&self) -> Infallible {
        loop {
            sleep(TELL_EVERY).await;
            self.tell();
        }
    }

    fn tell(&self) {
        let progress = self.progress(Instant::now());
        self.events.send(Event::Amount(Box::new(progress)));
    }

    fn progress(&self, now: Instant) -> AmountProgress {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let Paces { sum, parts } = &mut *paces;
        let parts: Vec<(Arc<str>, Amount)> = parts
            .iter_mut()
            .map(|(part, pace)| {
                let done = part.done.load(Ordering::Relaxed);
                (Arc::clone(&part.name), pace.amount(done, part.total(), now))
            })
            .collect();
        let total = match self.total {
            Total::Known(total) => Some(total),
            Total::Unknown => None,
            Total::OfParts if parts.is_empty() => None,
            Total::OfParts => parts.iter().map(|(_, part)| part.total).sum(),
        };
        AmountProgress {
            phase: self.phase,
            unit: self.unit,
            sum: sum.amount(self.done.load(Ordering::Relaxed), total, now),
            parts,
        }
    }
}

/// The counters of a part of the work.
#[derive(Debug)]
pub struct MeterPart {
    name: Arc<str>,
    done: AtomicU64,
    listed: AtomicU64,
    total: Mutex<Option<u64>>,
}

impl MeterPart {
    /// Adds an amount that is done.
    pub fn add(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds an amount that is on its way to being done.
    pub fn list(&self, count: u64) {
        self.listed.fetch_add(count, Ordering::Relaxed);
    }

    /// Sets the whole amount.
    pub fn expect(&self, total: u64) {
        *self.total.lock().unwrap_or_else(PoisonError::into_inner) = Some(total);
    }

    /// Nothing else is on its way: the whole amount is what was listed, or is done.
    pub fn complete(&self) {
        let listed = self.listed.load(Ordering::Relaxed);
        self.expect(listed.max(self.done.load(Ordering::Relaxed)));
    }

    fn total(&self) -> Option<u64> {
        *self.total.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much was done at points in the last seconds.
#[derive(Debug)]
struct Pace {
    /// The last time at which nothing was done.
    began: Instant,
    recent: VecDeque<(Instant, u64)>,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            recent: VecDeque::from([(now, 0)]),
        }
    }

    /// Notes how much is done; returns that with the rate and the time left.
    fn amount(&mut self, done: u64, total: Option<u64>, now: Instant) -> Amount {
        if done == 0 {
            *self = Self::new(now);
        } else {
            self.recent.push_back((now, done));
        }
        // Of the points that are older, the last one stays.
        while self
            .recent
            .get(1)
            .is_some_and(|next| now - next.0 >= RECENT)
        {
            self.recent.pop_front();
        }
        let nothing = (self.began, 0);
        let (since, then) = *self.recent.front().unwrap_or(&nothing);
        let recent = done.saturating_sub(then);
        let seconds = (now - since).as_secs_f64().max(0.001);
        // What was found later than the total was counted belongs to it.
        let total = total.map(|total| total.max(done));
        let left = total.and_then(|total| match (total - done, recent) {
            (0, _) => Some(Duration::ZERO),
            (rest, 0) => left(rest, done, now - self.began),
            (rest, recent) => left(rest, recent, now - since),
        });
        Amount {
            done,
            total,
            per_second: (recent as f64 / seconds) as u64,
            left,
        }
    }
}

/// The time for the rest, if `done` took so long; `None` if that was nothing.
fn left(rest: u64, done: u64, took: Duration) -> Option<Duration> {
    if done == 0 {
        return None;
    }
    let seconds = rest as f64 * took.as_secs_f64() / done as f64;
    let left = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST);
    Some(left.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        let idle = pace.amount(0, Some(10_000), began + seconds(1));
        assert_eq!((idle.per_second, idle.left), (0, None));
        // 10 a second for 20 s, then 100 a second for 20 s.
        let mut done = 0;
        let mut amount = idle;
        for second in 2..=41 {
            done += if second <= 21 { 10 } else { 100 };
            amount = pace.amount(done, Some(10_000), began + seconds(second));
        }
        assert_eq!(amount.done, 2_200);
        assert_eq!(amount.per_second, 100);
        assert_eq!(amount.left, Some(seconds(78)));
        // Nothing for 20 s: the rate is that of the whole run, from the last moment at which nothing was done.
        for second in 42..=61 {
            amount = pace.amount(done, Some(10_000), began + seconds(second));
        }
        assert_eq!(amount.per_second, 0);
        assert_eq!(
            amount.left,
            Some(Duration::from_secs_f64(7_800.0 * 60.0 / 2_200.0))
        );
    }

    #[test]
    fn what_is_found_later_belongs_to_the_total() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        let more = pace.amount(12, Some(10), began + seconds(1));
        assert_eq!((more.total, more.left), (Some(12), Some(Duration::ZERO)));
        let unknown = pace.amount(12, None, began + seconds(2));
        assert_eq!((unknown.total, unknown.left), (None, None));
    }

    fn told(events: &mut tokio::sync::mpsc::UnboundedReceiver<Event>) -> Vec<AmountProgress> {
        let events = std::iter::from_fn(|| events.try_recv().ok());
        let amounts = events.filter_map(|event| match event {
            Event::Amount(amount) => Some(*amount),
            _ => None,
        });
        amounts.collect()
    }

    #[test]
    fn the_sum_and_each_part_have_a_rate_and_a_time() {
        let (events, _receiver) = Events::channel();
        let began = Instant::now();
        let (what, total) = ((Phase::Copy, Unit::Keys), Total::Known(100));
        let meter = Meter::starting(what, total, events, began);
        let one = meter.part_at("a", Some(80), began);
        meter.part_at("b", Some(20), began);
        meter.add(10);
        one.add(10);
        let first = meter.progress(began + seconds(1));
        assert_eq!((first.sum.done, first.sum.total), (10, Some(100)));
        assert_eq!(first.sum.per_second, 10);
        assert_eq!(first.sum.left, Some(seconds(9)));
        meter.add(20);
        one.add(30);
        let second = meter.progress(began + seconds(2));
        assert_eq!(second.sum.per_second, 15);
        let (name, part) = &second.parts[0];
        assert_eq!((&**name, part.done, part.left), ("a", 40, Some(seconds(2))));
        let (name, waiting) = &second.parts[1];
        assert_eq!((&**name, waiting.done, waiting.left), ("b", 0, None));
        assert_eq!((waiting.total, waiting.per_second), (Some(20), 0));
    }

    #[tokio::test]
    async fn the_end_is_told_unless_there_was_nothing() {
        let (events, mut receiver) = Events::channel();
        let meter = Meter::new(Phase::Verify, Unit::Bytes, Some(7), events);
        meter.tell_while(async {}).await;
        assert!(told(&mut receiver).is_empty());
        meter.tell_while(async { meter.add(7) }).await;
        let [end] = &told(&mut receiver)[..] else {
            panic!("told more than once");
        };
        assert_eq!((end.sum.done, end.sum.left), (7, Some(Duration::ZERO)));
    }

    #[test]
    fn a_part_ends_at_what_was_listed_of_it() {
        let (events, _receiver) = Events::channel();
        let meter = Meter::of_parts(Phase::Fetch, Unit::Bytes, events);
        assert_eq!(meter.progress(Instant::now()).sum.total, None);
        // Ten of the keys have expired.
        let listed = meter.part("listed", Some(100));
        let done = meter.part("done", None);
        listed.list(90);
        listed.add(60);
        done.add(7);
        assert_eq!(meter.progress(Instant::now()).sum.total, None);
        listed.complete();
        done.complete();
        let progress = meter.progress(Instant::now());
        let totals: Vec<Option<u64>> = progress.parts.iter().map(|(_, part)| part.total).collect();
        assert_eq!(totals, [Some(90), Some(7)]);
        assert_eq!(progress.sum.total, Some(97));
        assert!(progress.parts[0].1.is_in_progress());
        assert!(!progress.parts[1].1.is_in_progress());
    }

    proptest! {
        /// Whatever is counted whenever it is, figures fit together and are finite.
        #[test]
        fn figures_fit_together(
            steps in proptest::collection::vec((0_u64..1 << 58, 0_u64..100_000), 1..30),
            total in proptest::option::of(any::<u64>()),
        ) {
            let mut now = Instant::now();
            let mut pace = Pace::new(now);
            let mut done = 0;
            for (more, millis) in steps {
                done += more;
                now += Duration::from_millis(millis);
                let amount = pace.amount(done, total, now);
                prop_assert_eq!(amount.done, done);
                prop_assert!(amount.total.is_none_or(|total| done <= total));
                prop_assert_eq!(amount.total.is_some(), total.is_some());
                prop_assert!(amount.left.is_none_or(|left| left <= LONGEST));
                prop_assert!(amount.left.is_none() || total.is_some());
            }
        }
    }
}
