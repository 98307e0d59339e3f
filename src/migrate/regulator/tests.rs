//! Seats, shares and busy nodes.

use super::*;
use crate::control::Settings;
use tokio::sync::mpsc::unbounded_channel;

fn pair(from: u8, to: u8) -> Pair {
    let node = |n: u8| format!("{n:040x}").parse().unwrap();
    Pair {
        from: node(from),
        to: node(to),
    }
}

fn regulator(settings: Settings) -> Arc<Regulator> {
    let control = Control::default();
    control.begin(settings);
    Arc::new(Regulator::new(
        control,
        &BTreeMap::new(),
        unbounded_channel().0,
        CancellationToken::new(),
    ))
}

async fn waits(seat: &Seat, stop: &StopSignal) -> bool {
    let taking = seat.take(stop);
    tokio::time::timeout(Duration::from_millis(20), taking)
        .await
        .is_err()
}

#[tokio::test]
async fn a_paused_run_gives_no_seats() {
    let settings = Settings {
        node_pairs: Some(1),
        ..Settings::default()
    };
    let (regulator, stop) = (regulator(settings), StopSignal::default());
    let (one, two) = (regulator.enter(pair(1, 9)), regulator.enter(pair(2, 9)));
    assert!(one.take(&stop).await && one.take(&stop).await);
    assert!(waits(&two, &stop).await);
    assert!(!one.is_to_yield());
    regulator.control.set(Settings {
        flow: Flow::Paused,
        ..settings
    });
    assert!(one.is_to_yield());
    one.give_up();
    regulator.at_rest().await;
    assert!(waits(&one, &stop).await && waits(&two, &stop).await);
    // It goes on, with more lanes.
    regulator.control.set(Settings {
        node_pairs: Some(2),
        ..settings
    });
    assert!(one.take(&stop).await && two.take(&stop).await);
    regulator.control.set(settings);
    assert!(one.is_to_yield() && two.is_to_yield());
    drop(one);
    assert!(!two.is_to_yield());
    two.give_up();
    let resumed = async {
        tokio::task::yield_now().await;
        stop.soon.cancel();
    };
    regulator.measure(Measuring::Now);
    let (seated, ()) = tokio::join!(two.take(&stop), resumed);
    assert!(!seated, "a run that is to stop opens nothing");
}

#[test]
fn a_busy_main_thread_holds_growth_and_is_told_once() {
    let (events, mut heard) = unbounded_channel();
    let regulator = Regulator::new(
        Control::default(),
        &BTreeMap::new(),
        events,
        CancellationToken::new(),
    );
    let Pair { from, to } = pair(1, 2);
    let began = Instant::now();
    let mut note = |millis, used| {
        let now = began + Duration::from_millis(millis);
        regulator.note_used(from, "10.0.0.3:6379", Duration::from_millis(used), now);
        let growth = regulator.growth([&from, &to]);
        (growth, heard.try_recv().is_ok())
    };
    assert_eq!(note(0, 100_000), (Growth::Allowed, false));
    // Too soon to tell.
    assert_eq!(note(100, 100_100), (Growth::Allowed, false));
    assert_eq!(note(1_000, 100_900), (Growth::Held, true));
    assert_eq!(note(2_000, 101_800), (Growth::Held, false));
    assert_eq!(note(3_000, 102_500), (Growth::Allowed, false));
    // It restarted.
    assert_eq!(note(4_000, 10), (Growth::Allowed, false));
    assert_eq!(regulator.growth([&to]), Growth::Allowed);
}

#[tokio::test]
async fn a_small_share_has_fewer_lanes_and_shorter_calls() {
    let settings = Settings {
        max_latency: Some(Duration::from_millis(8)),
        ..Settings::default()
    };
    let (regulator, stop) = (regulator(settings), StopSignal::default());
    let seats: Vec<Seat> = (1..=4).map(|from| regulator.enter(pair(from, 9))).collect();
    assert!(
        waits(&seats[0], &stop).await,
        "the idle latency comes first"
    );
    regulator.measure(Measuring::Over);
    regulator.set_share(Share::first());
    assert!(seats[0].take(&stop).await);
    assert!(waits(&seats[1], &stop).await);
    let longest = |stall| regulator.longest_call(Duration::from_millis(stall));
    assert_eq!(longest(20), Duration::from_millis(2));
    assert_eq!(longest(4), Duration::from_millis(1));
    let (first, mut fast) = (WindowSize::first(), WindowSize::first());
    assert_eq!(regulator.window_keys(8_192, first), first.keys());
    assert_eq!(regulator.window_slots(64, first), first.slots());
    for _ in 0..5 {
        fast.measured(fast.slots(), fast.keys(), Duration::from_millis(1));
    }
    assert_eq!(regulator.window_keys(8_192, fast), 2_048);
    assert_eq!(regulator.window_slots(64, fast), 64);
    regulator.set_share(Share::full());
    for seat in &seats {
        assert!(seat.take(&stop).await);
    }
}

#[tokio::test]
async fn slots_that_are_finished_before_a_pause_or_an_end_know_no_limit() {
    let limited = Settings {
        max_latency: Some(Duration::from_millis(1)),
        ..Settings::default()
    };
    let stall = Duration::from_millis(20);
    let regulator = regulator(limited);
    regulator.set_share(Share::first());
    assert!(regulator.longest_call(stall) < stall);
    regulator.control.set(Settings {
        flow: Flow::Paused,
        ..limited
    });
    assert_eq!(regulator.longest_call(stall), stall);
    regulator.control.set(limited);
    assert!(regulator.longest_call(stall) < stall);
    regulator.stop.cancel();
    assert_eq!(regulator.longest_call(stall), stall);
    assert_eq!(regulator.haste(), Haste::Finishing);
}
