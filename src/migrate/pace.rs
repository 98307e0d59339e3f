//! How many keys go in one MIGRATE.
//!
//! A call holds the source for as long as it lasts, and every client of the source waits. So
//! batches grow while calls stay well below the longest stall that is allowed, and shrink as soon
//! as one does not. Pure: time comes in as what was measured.
//!
//! Part of that time is the road between the nodes, and from us to them: fewer keys make it no shorter,
//! only more calls. What a call takes with next to nothing in it is not held against the keys.

use std::time::Duration;

/// The most keys that one call takes, however fast it is: redis-cli's users know 10, and beyond
/// some hundreds nothing is gained.
const MOST_KEYS: usize = 1_000;
/// The most bytes that one call takes; single keys may be larger.
const MOST_BYTES: f64 = 64.0 * 1024.0 * 1024.0;
/// What one call takes before anything was measured.
const FIRST_KEYS: f64 = 64.0;
const FIRST_BYTES: f64 = 256.0 * 1024.0;
/// What a batch never falls below, besides one key.
const FEWEST_BYTES: f64 = 4.0 * 1024.0;

/// So many keys of so many bytes in all are next to nothing.
const LIGHT_KEYS: usize = 2;
const LIGHT_BYTES: u64 = 16 * 1024;
/// After so many calls a long road is measured again.
const KNOWN_FOR: usize = 32;

/// The batch size, as it adapts.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    batch: Batch,
    longest: Duration,
    /// What a call takes however few keys it has, once that is known.
    road: Duration,
    /// Calls since that was measured.
    since: usize,
}

#[derive(Debug, Clone)]
enum Batch {
    /// `--pipeline`: so many keys, whatever they weigh.
    Fixed(usize),
    /// Adapts; bounded in keys and in bytes.
    Adaptive { keys: f64, bytes: f64 },
}

impl Pace {
    /// A pace that keeps calls below `longest`, where the keys allow it.
    pub(super) fn adaptive(longest: Duration) -> Self {
        Self {
            batch: Batch::Adaptive {
                keys: FIRST_KEYS,
                bytes: FIRST_BYTES,
            },
            longest,
            road: Duration::ZERO,
            since: 0,
        }
    }

    /// So many keys (at least 1) in each call.
    pub(super) fn fixed(keys: usize) -> Self {
        Self {
            batch: Batch::Fixed(keys.max(1)),
            longest: Duration::MAX,
            road: Duration::ZERO,
            since: 0,
        }
    }

    /// How many of the next keys, which weigh so much, go in one call: at least 1 of them.
    pub(super) fn next(&self, weights: &[u64]) -> usize {
        let (most_keys, most_bytes) = match self.batch {
            Batch::Fixed(keys) => return keys.min(weights.len()),
            Batch::Adaptive { keys, bytes } => (keys as usize, bytes as u64),
        };
        let tells = weights
            .first()
            .is_some_and(|weight| (1..=LIGHT_BYTES).contains(weight));
        if tells && self.road > self.longest / 4 && self.since >= KNOWN_FOR {
            return 1;
        }
        let mut sum = 0_u64;
        let fitting = weights.iter().take(most_keys).take_while(|weight| {
            sum = sum.saturating_add(**weight);
            sum <= most_bytes
        });
        fitting.count().clamp(1, weights.len().max(1))
    }

    /// What a call took. One that was smaller than it might have been says nothing about larger
    /// ones, unless it was slow.
    pub(super) fn measured(&mut self, keys: usize, bytes: u64, took: Duration) {
        let is_light = keys <= LIGHT_KEYS && (1..=LIGHT_BYTES).contains(&bytes);
        (self.road, self.since) = match is_light {
            true => (took, 0),
            false => (self.road.min(took), self.since + 1),
        };
        // Where the road alone takes longer, the keys can't help it.
        let for_keys = match self.longest.saturating_sub(self.road) {
            Duration::ZERO => self.longest,
            rest => rest,
        };
        let Batch::Adaptive {
            keys: most_keys,
            bytes: most_bytes,
        } = &mut self.batch
        else {
            return;
        };
        let full = (took - self.road).as_secs_f64() / for_keys.as_secs_f64();
        if full > 1.0 {
            // As many as would have fitted, and somewhat fewer.
            *most_keys = (keys as f64 / full * 0.8).max(1.0);
            *most_bytes = (bytes as f64 / full * 0.8).max(FEWEST_BYTES);
        } else if full < 0.5 {
            if keys as f64 > *most_keys * 0.5 {
                *most_keys = (*most_keys * 1.5).min(MOST_KEYS as f64);
            }
            if bytes as f64 > *most_bytes * 0.5 {
                *most_bytes = (*most_bytes * 1.5).min(MOST_BYTES);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STALL: Duration = Duration::from_millis(20);

    #[test]
    fn fast_calls_grow_and_slow_ones_shrink() {
        let mut pace = Pace::adaptive(STALL);
        let small = vec![100; 2_000];
        assert_eq!(pace.next(&small), 64);
        for _ in 0..20 {
            let keys = pace.next(&small);
            pace.measured(keys, keys as u64 * 100, STALL / 10);
        }
        assert_eq!(pace.next(&small), 1_000);
        pace.measured(1_000, 100_000, STALL * 4);
        assert_eq!(pace.next(&small), 200);
    }

    #[test]
    fn a_key_that_weighs_too_much_goes_alone() {
        let pace = Pace::adaptive(STALL);
        assert_eq!(pace.next(&[100 << 20, 1, 1]), 1);
        assert_eq!(pace.next(&[1, 1, 100 << 20]), 2);
    }

    /// 60 ms away, and 50 µs of work for each key.
    #[test]
    fn a_long_road_is_not_held_against_the_keys() {
        let mut pace = Pace::adaptive(STALL);
        let small = vec![100; 2_000];
        let road = STALL * 3;
        let mut calls = 0;
        for _ in 0..30 {
            let keys = pace.next(&small);
            let work = Duration::from_micros(50) * keys as u32;
            pace.measured(keys, keys as u64 * 100, road + work);
            calls += usize::from(keys < 64);
        }
        let settled = pace.next(&small);
        assert!((200..=400).contains(&settled), "{settled}");
        assert!(calls < 20, "{calls} calls before it knew");
        // It becomes short again: then calls are to be short, too.
        for _ in 0..20 {
            let keys = pace.next(&small);
            pace.measured(
                keys,
                keys as u64 * 100,
                Duration::from_micros(200) * keys as u32,
            );
        }
        assert!(pace.next(&small) <= 100, "{}", pace.next(&small));
    }

    #[test]
    fn a_fixed_pace_stays() {
        let mut pace = Pace::fixed(10);
        pace.measured(10, 1, STALL * 100);
        assert_eq!(pace.next(&[1 << 30; 30]), 10);
        assert_eq!(pace.next(&[1; 3]), 3);
    }

    proptest! {
        /// Whatever was measured, a call takes at least one key and no more than there are, and
        /// where time is linear in the work, calls end up below the longest stall.
        #[test]
        fn calls_settle_below_the_longest_stall(nanos_per_key in 100_u64..2_000_000, weight in 1_u64..100_000) {
            let mut pace = Pace::adaptive(STALL);
            let weights = vec![weight; 2_000];
            let mut took = Duration::ZERO;
            for _ in 0..100 {
                let keys = pace.next(&weights);
                prop_assert!((1..=weights.len()).contains(&keys));
                took = Duration::from_nanos(nanos_per_key * keys as u64);
                pace.measured(keys, weight * keys as u64, took);
            }
            prop_assert!(took <= STALL, "{took:?}");
        }
    }
}
