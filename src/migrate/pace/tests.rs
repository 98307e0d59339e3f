//! Traces of calls and of latencies.

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
        pace.measured(keys, keys as u64 * 100, STALL / 10, Growth::Allowed);
    }
    assert_eq!(pace.next(&small), 1_000);
    pace.measured(1_000, 100_000, STALL * 4, Growth::Allowed);
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
        pace.measured(keys, keys as u64 * 100, road + work, Growth::Allowed);
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
            Growth::Allowed,
        );
    }
    assert!(pace.next(&small) <= 100, "{}", pace.next(&small));
}

#[test]
fn a_busy_node_holds_growth_but_not_the_way_back() {
    let mut pace = Pace::adaptive(STALL);
    let small = vec![100; 2_000];
    let fast = |pace: &mut Pace| {
        for _ in 0..20 {
            let keys = pace.next(&small);
            pace.measured(keys, keys as u64 * 100, STALL / 10, Growth::Held);
        }
        pace.next(&small)
    };
    assert_eq!(fast(&mut pace), 64);
    pace.measured(64, 6_400, STALL * 10, Growth::Held);
    assert_eq!(pace.next(&small), 5);
    assert_eq!(fast(&mut pace), 64);
}

#[test]
fn shorter_calls_are_smaller_at_once() {
    let mut pace = Pace::adaptive(STALL);
    let small = vec![100; 2_000];
    pace.set_longest(STALL / 8, Duration::ZERO);
    assert_eq!(pace.next(&small), 8);
    pace.set_longest(STALL, Duration::ZERO);
    assert_eq!(pace.next(&small), 8);
}

#[test]
fn a_fixed_pace_stays() {
    let mut pace = Pace::fixed(10, STALL);
    pace.measured(10, 1, STALL * 100, Growth::Allowed);
    assert_eq!(pace.next(&[1 << 30; 30]), 10);
    assert_eq!(pace.next(&[1; 3]), 3);
}

#[test]
fn a_fixed_pace_is_the_most_under_a_latency_limit() {
    let small = vec![100; 2_000];
    let limited = |keys, nanos_per_key| {
        let mut pace = Pace::fixed(keys, STALL);
        for _ in 0..50 {
            pace.set_longest(LIMIT, LIMIT / 8);
            let keys = pace.next(&small);
            let took = Duration::from_nanos(nanos_per_key * keys as u64);
            pace.measured(keys, keys as u64 * 100, took, Growth::Allowed);
        }
        pace.next(&small)
    };
    assert_eq!(limited(10, 1_000), 10);
    // 1,000 keys would take 100 ms.
    let fewer = limited(1_000, 100_000);
    assert!((15..=50).contains(&fewer), "{fewer}");
    assert_eq!(limited(10, 100_000), 10);
}

/// Scripts hold the target, so that each call waits for the end of one, whatever is in it. Recorded on Redis 7.0.15: MIGRATE of
/// 1 to 80 keys of 100 bytes to a server with scripts of 50 ms and pauses of up to 20 ms, in milliseconds.
const UNDER_SCRIPTS: [u64; 24] = [
    34, 42, 0, 0, 35, 51, 51, 50, 47, 0, 51, 1, 0, 52, 6, 2, 48, 1, 31, 0, 44, 34, 41, 50,
];

#[test]
fn calls_that_are_slow_whatever_is_in_them_do_not_shrink_to_a_key() {
    let mut pace = Pace::adaptive(STALL);
    let small = vec![100; 2_000];
    let mut least = usize::MAX;
    for took in UNDER_SCRIPTS.iter().cycle().take(200) {
        pace.set_longest(LIMIT / 8, LIMIT / 8);
        let keys = pace.next(&small);
        least = least.min(keys);
        let took = Duration::from_millis(*took);
        pace.measured(keys, keys as u64 * 100, took, Growth::Allowed);
    }
    assert!(least >= 20, "{least}");
    // What they take on average hides more keys than an eighth of the limit does.
    assert!((100..=160).contains(&pace.next(&small)));
    // A key of unknown weight may be large.
    assert_eq!(pace.next(&[0; 100]), 1);
    // So is one that is.
    assert_eq!(pace.next(&[1 << 20, 100, 100]), 1);
}

proptest! {
    /// Whatever a trace says, the keys of a call under a latency limit are no more than its bounds allow, and no fewer than move
    /// in an eighth of the limit at the lowest speed.
    #[test]
    fn a_limited_call_has_some_keys_and_not_too_many(
        trace in proptest::collection::vec(0_u64..500_000, 1..100),
        weight in 1_u64..4_000,
        limit_us in 100_u64..50_000,
    ) {
        let limit = Duration::from_micros(limit_us);
        let longest = STALL.min(limit);
        let mut pace = Pace::adaptive(STALL);
        let weights = vec![weight; 2_000];
        let least = longest.as_secs_f64() / 8.0;
        let few = (KEYS_PER_SECOND * least).min(BYTES_PER_SECOND as f64 * least / weight as f64) as usize;
        for took in trace {
            pace.set_longest(longest, longest / 8);
            let keys = pace.next(&weights);
            // One key in between measures the road.
            prop_assert!(keys >= few.min(2_000) || keys == 1, "{keys} of {few}");
            pace.measured(keys, weight * keys as u64, Duration::from_micros(took), Growth::Allowed);
        }
    }

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
            pace.measured(keys, weight * keys as u64, took, Growth::Allowed);
        }
        prop_assert!(took <= STALL, "{took:?}");
    }
}

const LIMIT: Duration = Duration::from_millis(5);

/// What a server adds to the latency of its clients at a share: a floor that has nothing to do with the move, and a part
/// that grows with it.
fn added(share: Share, others: Duration, slope: Duration) -> Duration {
    others + slope.mul_f64(share.share)
}

#[test]
fn a_share_becomes_calls_lanes_and_gaps() {
    let full = Share::full();
    assert_eq!((full.call(LIMIT), full.lanes(16)), (LIMIT, 16));
    assert_eq!(full.gap(LIMIT), Duration::ZERO);
    let mut least = full;
    for _ in 0..20 {
        least.adapt(LIMIT * 2, LIMIT, Growth::Allowed);
    }
    assert!(least.is_at_floor());
    assert_eq!(least.lanes(16), 1);
    assert!(least.call(LIMIT) > Duration::ZERO);
    assert_eq!(
        least.gap(Duration::from_micros(100)),
        Duration::from_micros(1_500)
    );
}

#[test]
fn a_slow_link_slows_a_move_down_and_it_recovers() {
    let mut share = Share::first();
    let quiet = Duration::from_micros(300);
    let mut trace = vec![quiet; 5];
    trace.extend([LIMIT * 20; 6]);
    trace.extend([quiet; 20]);
    let mut shares = Vec::new();
    for added in trace {
        share.adapt(added, LIMIT, Growth::Allowed);
        shares.push(share.share);
    }
    assert_eq!(
        shares[4], 1.0,
        "it doubles before the first cut: {shares:?}"
    );
    assert!(shares[10] <= 1.0 / 64.0, "{shares:?}");
    assert_eq!(shares[30], 1.0, "{shares:?}");
}

#[test]
fn a_busy_node_keeps_the_share_where_it_is() {
    let mut share = Share::first();
    for _ in 0..10 {
        share.adapt(Duration::ZERO, LIMIT, Growth::Held);
    }
    assert_eq!(share, Share::first());
}

proptest! {
    /// Where latency grows with the share, the share settles: it ends at or below the limit, is never zero, and in the end
    /// swings between half of what fits and one step above it at most, or rests.
    #[test]
    fn shares_settle_below_the_limit(slope_us in 0_u64..200_000, others_us in 0_u64..2_000) {
        let (slope, others) = (Duration::from_micros(slope_us), Duration::from_micros(others_us));
        let mut share = Share::first();
        let mut late = Vec::new();
        for round in 0..300 {
            share.adapt(added(share, others, slope), LIMIT, Growth::Allowed);
            prop_assert!((Share::FLOOR..=1.0).contains(&share.share));
            if round >= 200 {
                late.push(share.share);
            }
        }
        let fits = ((LIMIT - others).as_secs_f64() / slope.as_secs_f64().max(1e-9)).clamp(Share::FLOOR, 1.0);
        for share in late {
            prop_assert!(share <= fits + Share::STEP + 1e-9, "{share} of {fits}");
            // Or it rests, in the middle between growing and being cut.
            let rests = others + slope.mul_f64(share) > LIMIT / 2;
            let least = (fits / 2.0 - Share::STEP).max(Share::FLOOR);
            prop_assert!(rests || share >= least, "{share} of {fits}");
        }
    }

    /// Whatever is measured, a share stays within its bounds, is cut only above the limit, and makes progress.
    #[test]
    fn no_trace_stops_a_move(trace in proptest::collection::vec((0_u64..1_000_000, any::<bool>()), 1..200)) {
        let mut share = Share::first();
        for (added_us, is_held) in trace {
            let growth = if is_held { Growth::Held } else { Growth::Allowed };
            let before = share.share;
            let adapted = share.adapt(Duration::from_micros(added_us), LIMIT, growth);
            prop_assert_eq!(adapted == Adapted::Cut, added_us > 5_000);
            prop_assert!(share.share >= Share::FLOOR && share.share <= 1.0);
            prop_assert_eq!(adapted == Adapted::Grown, share.share > before);
            prop_assert!(share.lanes(16) >= 1 && !share.call(LIMIT).is_zero());
            prop_assert!(share.gap(LIMIT) <= Duration::from_secs(1));
        }
    }
}

#[test]
fn a_batch_in_a_hurry_is_as_large_as_the_first() {
    let mut pace = Pace::adaptive(STALL);
    let small = vec![100; 2_000];
    pace.measured(64, 6_400, STALL * 100, Growth::Allowed);
    assert_eq!(pace.next(&small), 1);
    pace.hurry();
    assert_eq!(pace.next(&small), 64);
}

#[test]
fn windows_hold_what_moves_in_three_seconds() {
    let second = Duration::from_secs(1);
    let mut size = WindowSize::first();
    size.measured(4, 32, second / 100);
    assert_eq!((size.slots(), size.keys()), (32, 256));
    size.measured(32, 256, second * 24);
    assert_eq!((size.slots(), size.keys()), (4, 32));
    size.measured(4, 32, second * 600);
    assert_eq!((size.slots(), size.keys()), (1, 1));
    // A single slot has more keys.
    size.measured(1, 500, second * 2);
    assert_eq!((size.slots(), size.keys()), (1, 750));
    // The last window of a lane is small.
    size.measured(1, 1, second * 2);
    assert_eq!((size.slots(), size.keys()), (1, 750));
}
