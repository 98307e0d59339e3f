//! How many keys go in one MIGRATE, and how much of what is allowed a whole run uses.
//!
//! A call holds the source for as long as it lasts, and every client of the source waits. So
//! batches grow while calls stay well below the longest stall that is allowed, and shrink as soon
//! as one does not. Pure: time comes in as what was measured.
//!
//! Part of that time is the road between the nodes, and from us to them: fewer keys make it no shorter,
//! only more calls. What a call takes with next to nothing in it is not held against the keys.

use std::time::Duration;

use super::BYTES_PER_SECOND;

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
/// Keys of a call that are sent in a second on a busy machine, if they are small.
const KEYS_PER_SECOND: f64 = 32_000.0;
/// The longest time of keys that a slow call is taken to hide.
const LEAST_AT_MOST: Duration = Duration::from_millis(5);
/// Of how many calls the mean time is taken.
const MEAN_OF: u32 = 8;
/// After so many calls a long road is measured again.
const KNOWN_FOR: usize = 32;

/// Whether more may be sent than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// Yes.
    Allowed,
    /// No: a node is busy. What a call starts with is always allowed, so that one slow call does not make all that follow
    /// small.
    Held,
}

/// The batch size, as it adapts.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    batch: Batch,
    longest: Duration,
    /// How long the keys of a call may take in any case (a latency limit is in force); zero without.
    least: Duration,
    /// What calls take on average, of the last ones.
    mean: Duration,
    /// What a call takes however few keys it has, once that is known.
    road: Duration,
    /// Calls since that was measured.
    since: usize,
}

#[derive(Debug, Clone)]
struct Batch {
    /// `--pipeline`: so many keys, whatever they weigh. With a latency limit it is the most.
    fixed: Option<usize>,
    /// What adapts, in keys and in bytes.
    keys: f64,
    bytes: f64,
}

impl Pace {
    /// A pace that keeps calls below `longest`, where the keys allow it.
    pub(super) fn adaptive(longest: Duration) -> Self {
        Self {
            batch: Batch {
                fixed: None,
                keys: FIRST_KEYS,
                bytes: FIRST_BYTES,
            },
            longest,
            least: Duration::ZERO,
            mean: Duration::ZERO,
            road: Duration::ZERO,
            since: 0,
        }
    }

    /// So many keys (at least 1) in each call; with a latency limit, at most so many.
    pub(super) fn fixed(keys: usize, longest: Duration) -> Self {
        let mut pace = Self::adaptive(longest);
        pace.batch.fixed = Some(keys.max(1));
        pace
    }

    /// How many of the next keys, which weigh so much, go in one call: at least 1 of them.
    pub(super) fn next(&self, weights: &[u64]) -> usize {
        let most = match self.batch.fixed {
            Some(keys) if self.least.is_zero() => return keys.min(weights.len()),
            Some(keys) => keys,
            None => MOST_KEYS,
        };
        let (least_keys, least_bytes) = self.least_batch();
        let most_keys = (self.batch.keys as usize).min(most);
        let most_bytes = self.batch.bytes as u64;
        let tells = weights
            .first()
            .is_some_and(|weight| (1..=LIGHT_BYTES).contains(weight));
        if tells && self.road > self.longest / 4 && self.since >= KNOWN_FOR {
            return 1;
        }
        let mut sum = 0_u64;
        let fitting = weights.iter().take(most).enumerate();
        let fitting = fitting.take_while(|(i, weight)| {
            sum = sum.saturating_add(**weight);
            let fits = *i < most_keys && sum <= most_bytes;
            // What weighs nothing that is known of may weigh much.
            let costs_little = **weight > 0 && *i < least_keys && sum <= least_bytes;
            fits || costs_little
        });
        fitting.count().clamp(1, weights.len().max(1))
    }

    /// The keys and bytes that a call takes in any case, under a latency limit. A call may be slow whatever is in it: where
    /// scripts hold the target, each waits for the end of one. Fewer keys would only make more calls of that kind, and so more
    /// waits. A quarter of what a call takes anyhow is next to nothing, at the lowest speed that was seen.
    fn least_batch(&self) -> (usize, u64) {
        if self.least.is_zero() {
            return (0, 0);
        }
        let time = (self.mean / 4).clamp(self.least, self.least.max(LEAST_AT_MOST));
        let seconds = time.as_secs_f64();
        let keys = (KEYS_PER_SECOND * seconds) as usize;
        let bytes = BYTES_PER_SECOND as f64 * seconds;
        (keys.max(1), bytes as u64)
    }

    /// Calls stay below `longest` from now on, as far as their keys take longer than `least`. Batches shrink at once if
    /// `longest` is less than before, and grow with the next calls if it is more.
    pub(super) fn set_longest(&mut self, longest: Duration, least: Duration) {
        let Batch { keys, bytes, .. } = &mut self.batch;
        if longest < self.longest {
            let share = longest.as_secs_f64() / self.longest.as_secs_f64();
            *keys = (*keys * share).max(1.0);
            *bytes = (*bytes * share).max(FEWEST_BYTES);
        }
        self.longest = longest;
        self.least = least;
    }

    /// Batches are at least what a call starts with: slots that are open are to be finished soon.
    pub(super) fn hurry(&mut self) {
        let Batch { keys, bytes, .. } = &mut self.batch;
        *keys = keys.max(FIRST_KEYS);
        *bytes = bytes.max(FIRST_BYTES);
    }

    /// What a call took. One that was smaller than it might have been says nothing about larger
    /// ones, unless it was slow.
    pub(super) fn measured(&mut self, keys: usize, bytes: u64, took: Duration, growth: Growth) {
        self.mean = match self.mean {
            Duration::ZERO => took,
            mean => (mean * (MEAN_OF - 1) + took) / MEAN_OF,
        };
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
        let Batch {
            keys: most_keys,
            bytes: most_bytes,
            ..
        } = &mut self.batch;
        let full = (took - self.road).as_secs_f64() / for_keys.as_secs_f64();
        if full > 1.0 {
            // As many as would have fitted, and somewhat fewer.
            *most_keys = (keys as f64 / full * 0.8).max(1.0);
            *most_bytes = (bytes as f64 / full * 0.8).max(FEWEST_BYTES);
        } else if full < 0.5 {
            let (limit_keys, limit_bytes) = match growth {
                Growth::Allowed => (MOST_KEYS as f64, MOST_BYTES),
                Growth::Held => (most_keys.max(FIRST_KEYS), most_bytes.max(FIRST_BYTES)),
            };
            if keys as f64 > *most_keys * 0.5 {
                *most_keys = (*most_keys * 1.5).min(limit_keys);
            }
            if bytes as f64 > *most_bytes * 0.5 {
                *most_bytes = (*most_bytes * 1.5).min(limit_bytes);
            }
        }
    }
}

/// The share of what is allowed that a run uses: additive increase, multiplicative decrease.
///
/// It sets the length of calls, the number of lanes, and below [`Share::WITH_GAPS`] the gaps between calls. It never falls to
/// zero: at its floor calls have few keys, one lane works, and it rests 15 times as long as a call takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share {
    share: f64,
    /// Whether it has been cut. Until then it doubles, so that short moves do not spend their time at the start.
    was_cut: bool,
}

/// What a look at the latency led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adapted {
    /// The share is smaller. What was measured before says nothing any more.
    Cut,
    /// It is larger.
    Grown,
    /// It is as it was.
    Kept,
}

impl Share {
    /// What a run with a latency limit starts with.
    const FIRST: f64 = 0.25;
    /// What it never falls below.
    const FLOOR: f64 = 1.0 / 64.0;
    /// By how much it grows.
    const STEP: f64 = 1.0 / 16.0;
    /// The share of the shortest calls.
    const SHORTEST: f64 = 0.125;
    /// Below this share, calls have gaps between them.
    const WITH_GAPS: f64 = 0.25;

    /// Everything: there is no limit.
    pub(super) fn full() -> Self {
        Self {
            share: 1.0,
            was_cut: true,
        }
    }

    /// The start of a run with a limit.
    pub(super) fn first() -> Self {
        Self {
            share: Self::FIRST,
            was_cut: false,
        }
    }

    /// Whether it can't be cut any more.
    pub(super) fn is_at_floor(self) -> bool {
        self.share <= Self::FLOOR
    }

    /// Halves the share where the added latency is above the limit, and grows it where that is below half of it. In between
    /// it stays, so that it comes to rest.
    pub(super) fn adapt(&mut self, added: Duration, limit: Duration, growth: Growth) -> Adapted {
        if added > limit {
            self.was_cut = true;
            self.share = (self.share / 2.0).max(Self::FLOOR);
            return Adapted::Cut;
        }
        let most = match growth {
            Growth::Allowed => 1.0,
            Growth::Held => self.share.max(Self::FIRST),
        };
        if added > limit / 2 || self.share >= most {
            return Adapted::Kept;
        }
        let grown = match self.was_cut {
            true => self.share + Self::STEP,
            false => self.share * 2.0,
        };
        self.share = grown.min(most);
        Adapted::Grown
    }

    /// How long one call may take, of so much that is allowed. Shares below [`Self::SHORTEST`] only make the gaps longer: the
    /// latency is not that of the calls any more then.
    pub(super) fn call(self, longest: Duration) -> Duration {
        longest.mul_f64(self.share.max(Self::SHORTEST))
    }

    /// How long calls are that the smallest share allows.
    pub(super) fn shortest_call(longest: Duration) -> Duration {
        longest.mul_f64(Self::SHORTEST)
    }

    /// How many lanes may have slots open, of so many: at least 1.
    pub(super) fn lanes(self, most: usize) -> usize {
        usize::try_from(self.of(most as u64)).unwrap_or(most)
    }

    /// The share of so many, rounded up: at least 1.
    pub(super) fn of(self, most: u64) -> u64 {
        ((most as f64 * self.share).ceil() as u64).clamp(1, most.max(1))
    }

    /// The rest after a call that took so long.
    pub(super) fn gap(self, took: Duration) -> Duration {
        const LONGEST: Duration = Duration::from_millis(500);
        let times = (Self::WITH_GAPS / self.share - 1.0).max(0.0);
        took.mul_f64(times).min(LONGEST)
    }
}

/// How much a window holds under a latency limit: what moves in a few seconds, as far as the last window tells. A pause or
/// Ctrl-C waits for the window in hand, and the speed is not known before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct WindowSize {
    slots: f64,
    keys: f64,
}

impl WindowSize {
    /// How long a window is to take.
    const WITHIN: Duration = Duration::from_secs(3);
    /// How much larger the next one is, at most.
    const GROWTH: f64 = 8.0;

    /// Before anything was measured.
    pub(super) fn first() -> Self {
        Self {
            slots: 4.0,
            keys: 32.0,
        }
    }

    /// The most slots: at least 1.
    pub(super) fn slots(self) -> usize {
        (self.slots as usize).max(1)
    }

    /// The most keys: at least 1. A single slot may have more.
    pub(super) fn keys(self) -> u64 {
        (self.keys as u64).max(1)
    }

    /// What a window took. One that was smaller than it might have been makes the next one no smaller, unless it was slow.
    pub(super) fn measured(&mut self, slots: usize, keys: u64, took: Duration) {
        let times = Self::WITHIN.as_secs_f64() / took.as_secs_f64().max(0.001);
        let (slots, keys) = (slots as f64, keys as f64);
        if times < 1.0 {
            self.slots = (slots * times).max(1.0);
            self.keys = (keys * times).max(1.0);
        } else {
            let times = times.min(Self::GROWTH);
            self.slots = self.slots.max(slots * times);
            self.keys = self.keys.max(keys * times);
        }
    }
}

#[cfg(test)]
mod tests;
