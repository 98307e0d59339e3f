//! `--rate`: no more than so much in a second, in all lanes together.
//!
//! What is sent is paid for before it goes, so that no part of a run is above the rate, however short it is. The time of a call
//! counts for the next one, up to [`SAVED`]: otherwise the rate would not be reached.
//!
//! Where MEMORY USAGE is denied or does not exist (before Redis 4.0), a rate in bytes takes keys for [`UNKNOWN_KEY`], and a
//! warning says so.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep_until};

use crate::client::MemoryUsage;
use crate::cluster::node::NodeId;
use crate::control::{Control, Rate};
use crate::event::Event;

/// Parts of a second whose worth goes at once, at most, unless a single key has more.
const PARTS: u64 = 10;
/// How much time is saved up while nothing is sent.
const SAVED: Duration = Duration::from_millis(1_000 / PARTS);

/// The bytes that a key counts for whose weight the server does not tell.
const UNKNOWN_KEY: u64 = 1 << 10;

/// A limit that lanes share.
#[derive(Debug)]
pub(super) struct Throttle {
    control: Control,
    events: UnboundedSender<Event>,
    paid: Mutex<Paid>,
    /// Sources that do not tell what their keys weigh, and why.
    unweighed: std::sync::Mutex<BTreeMap<NodeId, String>>,
}

/// Until when is paid for what was sent, at which rate.
#[derive(Debug)]
struct Paid {
    rate: Option<Rate>,
    until: Instant,
}

impl Paid {
    /// Another rate counts from now on.
    fn set_rate(&mut self, rate: Rate, now: Instant) {
        if self.rate != Some(rate) {
            (self.rate, self.until) = (Some(rate), now);
        }
    }

    /// Pays for keys; returns when they may be sent.
    fn pay_before(&mut self, cost: Duration, now: Instant) -> Instant {
        // A single key that is worth more may go at once after as long a rest.
        let saved = now.checked_sub(SAVED.max(cost)).unwrap_or(now);
        self.until = self.until.max(saved) + cost;
        self.until
    }

    /// Returns when a task may begin. The next one waits until it is paid for.
    fn pay_after(&mut self, cost: Duration, now: Instant) -> Instant {
        let turn = self.until.max(now);
        self.until = turn + cost;
        turn
    }
}

impl Throttle {
    pub(super) fn new(control: Control, events: UnboundedSender<Event>) -> Self {
        let paid = Paid {
            rate: None,
            until: Instant::now(),
        };
        Self {
            control,
            events,
            paid: Mutex::new(paid),
            unweighed: std::sync::Mutex::default(),
        }
    }

    /// Notes a source that does not tell what its keys weigh.
    pub(super) fn note_usage(&self, source: NodeId, usage: &MemoryUsage) {
        if let Some(why) = &usage.refused {
            let mut unweighed = self.unweighed();
            unweighed.entry(source).or_insert_with(|| why.to_string());
        }
    }

    fn unweighed(&self) -> MutexGuard<'_, BTreeMap<NodeId, String>> {
        self.unweighed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Warns the user, once, if there is a rate in bytes and this source does not tell what its keys weigh.
    fn warn_of_weights(&self, source: NodeId) {
        let why = self.unweighed().get(&source).cloned();
        let is_in_bytes = matches!(self.control.settings().rate, Some(Rate::Bytes(_)));
        if let Some(why) = why.filter(|_| is_in_bytes)
            && self.control.warns_of_weights()
        {
            // After an interrupt the receiver is gone.
            let _ = self.events.send(Event::Warning(format!(
                "{why}; a rate in bytes counts keys of unknown size as {} KiB each, a rate in keys (--rate 5000) needs no \
                 sizes",
                UNKNOWN_KEY >> 10
            )));
        }
    }

    /// Waits until some of the next keys of a source, which weigh so much, may be sent; returns how many: all without a rate,
    /// else at most a tenth of a second's worth, and at least 1. A weight of 0 is not known.
    pub(super) async fn pass(&self, source: NodeId, weights: &[u64]) -> usize {
        self.warn_of_weights(source);
        let mut count = weights.len();
        let pay = |paid: &mut Paid, rate, now| {
            count = at_once(rate, weights);
            let bytes = weights[..count].iter().copied().map(worth).sum();
            paid.pay_before(cost(rate, count as u64, bytes), now)
        };
        match self.paid(pay).await {
            Some(_) => count,
            None => weights.len(),
        }
    }

    /// Waits until a task of a source, of that much, may begin: until those before it are paid for.
    pub(super) async fn pass_task(&self, source: NodeId, keys: u64, bytes: u64) {
        self.warn_of_weights(source);
        let bytes = match self.unweighed().contains_key(&source) {
            // The size of some keys may be known.
            true => bytes.max(keys.saturating_mul(UNKNOWN_KEY)),
            false => bytes,
        };
        let pay = |paid: &mut Paid, rate, now| paid.pay_after(cost(rate, keys, bytes), now);
        self.paid(pay).await;
    }

    /// Waits until it is the turn of what `pay` pays for; it pays anew if the rate changes. Returns the rate.
    async fn paid(&self, mut pay: impl FnMut(&mut Paid, Rate, Instant) -> Instant) -> Option<Rate> {
        let mut changes = self.control.subscribe();
        loop {
            let rate = changes.borrow_and_update().rate?;
            let turn = {
                let mut paid = self.paid.lock().await;
                let now = Instant::now();
                paid.set_rate(rate, now);
                pay(&mut paid, rate, now)
            };
            let changed = async {
                // The sender lives as long as `self`.
                let _ = changes
                    .wait_for(|settings| settings.rate != Some(rate))
                    .await;
            };
            tokio::select! {
                () = sleep_until(turn) => return Some(rate),
                () = changed => {}
            }
        }
    }
}

/// The time that so much takes at this rate.
fn cost(rate: Rate, keys: u64, bytes: u64) -> Duration {
    let (amount, per_second) = match rate {
        Rate::Keys(per_second) => (keys, per_second),
        Rate::Bytes(per_second) => (bytes, per_second),
    };
    Duration::from_secs_f64(amount as f64 / per_second.max(1) as f64)
}

/// What a key of that weight counts for.
fn worth(weight: u64) -> u64 {
    match weight {
        0 => UNKNOWN_KEY,
        weight => weight,
    }
}

/// How many of these keys go at once.
fn at_once(rate: Rate, weights: &[u64]) -> usize {
    let fitting = match rate {
        Rate::Keys(per_second) => usize::try_from(per_second / PARTS).unwrap_or(usize::MAX),
        Rate::Bytes(per_second) => {
            let mut sum = 0_u64;
            let fits = |weight: &&u64| {
                sum = sum.saturating_add(worth(**weight));
                sum <= per_second / PARTS
            };
            weights.iter().take_while(fits).count()
        }
    };
    fitting.max(1).min(weights.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{ClientError, Fault};
    use crate::cluster::node::Addr;
    use crate::control::Settings;
    use proptest::prelude::*;
    use tokio::sync::mpsc::unbounded_channel;

    fn node(n: u8) -> NodeId {
        format!("{n:040x}").parse().unwrap()
    }

    #[tokio::test]
    async fn another_rate_ends_the_wait_for_the_old_one() {
        let control = Control::default();
        let at = |rate| Settings {
            rate,
            ..Settings::default()
        };
        control.begin(at(Some(Rate::Keys(1))));
        let throttle = Throttle::new(control.clone(), unbounded_channel().0);
        let source = node(1);
        // An hour's worth goes at once, and has to be paid for.
        throttle.pass_task(source, 3_600, 0).await;
        let waiting = throttle.pass_task(source, 10, 0);
        let faster = async {
            tokio::task::yield_now().await;
            control.set(at(Some(Rate::Keys(100_000))));
        };
        let waiting = async { tokio::join!(waiting, faster) };
        let within = Duration::from_secs(5);
        assert!(tokio::time::timeout(within, waiting).await.is_ok());
        control.set(at(None));
        throttle.pass_task(source, 1 << 40, 0).await;
        assert_eq!(throttle.pass(source, &[1; 500]).await, 500);
    }

    #[tokio::test]
    async fn a_rate_in_bytes_holds_without_weights_and_that_is_told_once() {
        let (events, mut heard) = unbounded_channel();
        let control = Control::default();
        control.begin(Settings {
            rate: Some(Rate::Bytes(1 << 20)),
            ..Settings::default()
        });
        let throttle = Throttle::new(control, events);
        let usage = |refused| MemoryUsage {
            weights: vec![None],
            refused,
        };
        // A key that is gone.
        throttle.note_usage(node(1), &usage(None));
        assert_eq!(throttle.pass(node(1), &[0; 50]).await, 50);
        assert!(heard.try_recv().is_err());
        let refused = || {
            Some(ClientError {
                addr: Addr::new("10.0.0.3", 6379),
                fault: Fault::Server {
                    command: "MEMORY USAGE",
                    code: "ERR".to_string(),
                    message: "unknown command 'MEMORY'".to_string(),
                },
            })
        };
        for source in [node(1), node(2)] {
            throttle.note_usage(source, &usage(refused()));
            assert_eq!(throttle.pass(source, &[0; 5_000]).await, 102);
        }
        let Ok(Event::Warning(why)) = heard.try_recv() else {
            panic!("a warning");
        };
        assert!(
            why.starts_with("10.0.0.3:6379: ") && why.contains("as 1 KiB each"),
            "{why}"
        );
        assert!(heard.try_recv().is_err());
        // A minute's worth, and one more.
        throttle.pass_task(node(1), 60 << 10, 1).await;
        let passing = throttle.pass_task(node(1), 1, 1);
        let within = Duration::from_millis(20);
        assert!(tokio::time::timeout(within, passing).await.is_err());
    }

    #[test]
    fn a_tenth_of_a_second_goes_at_once() {
        assert_eq!(at_once(Rate::Keys(50), &[1; 300]), 5);
        assert_eq!(at_once(Rate::Keys(5), &[1; 300]), 1);
        assert_eq!(at_once(Rate::Keys(5_000), &[1; 300]), 300);
        assert_eq!(at_once(Rate::Bytes(1_000), &[40; 300]), 2);
        assert_eq!(at_once(Rate::Bytes(1_000), &[5_000, 1]), 1);
        assert_eq!(at_once(Rate::Bytes(1_000), &[]), 0);
        let of_unknown_keys = Rate::Bytes(30 * UNKNOWN_KEY);
        assert_eq!(at_once(of_unknown_keys, &[0; 300]), 3);
    }

    proptest! {
        /// Whatever calls take, no more goes in any time than the rate and what goes at once; and the rate is reached but for
        /// the time by which calls take longer than it leaves them.
        #[test]
        fn a_rate_holds_in_each_part_of_a_run(
            per_second in 1_u64..5_000,
            calls in proptest::collection::vec(0_u64..90, 2..200),
        ) {
            let rate = Rate::Keys(per_second);
            let start = Instant::now() + Duration::from_secs(3_600);
            let mut paid = Paid { rate: Some(rate), until: start };
            let count = at_once(rate, &[1; 1_000]) as f64;
            let cost = Duration::from_secs_f64(count / per_second as f64);
            let mut sent = Vec::new();
            let mut now = start;
            let mut late = Duration::ZERO;
            for millis in calls {
                now = now.max(paid.pay_before(cost, now));
                sent.push(now);
                let took = Duration::from_millis(millis);
                now += took;
                late += took.saturating_sub(cost);
            }
            let worth = count.max(per_second as f64 / 10.0);
            for (i, from) in sent.iter().enumerate() {
                let took = (*sent.last().unwrap() - *from).as_secs_f64();
                let keys = count * (sent.len() - i) as f64;
                prop_assert!(keys <= per_second as f64 * took + worth + count + 0.01);
            }
            let all = (*sent.last().unwrap() - start).as_secs_f64();
            let ideal = cost.as_secs_f64() * sent.len() as f64;
            let margin = 0.1 + ideal * 0.001;
            prop_assert!(all > ideal - margin, "{all} {ideal}");
            prop_assert!(all < ideal + late.as_secs_f64() + margin, "{all} {ideal} {late:?}");
        }
    }
}
