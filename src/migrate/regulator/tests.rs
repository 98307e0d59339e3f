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
    assert_eq!(regulator.window_keys(8_192, fast), 8_192);
    assert_eq!(regulator.window_slots(64, fast), 64);
    regulator.set_share(Share::full());
    for seat in &seats {
        assert!(seat.take(&stop).await);
    }
}

#[test]
fn rests_add_up() {
    let began = Instant::now();
    let at = |millis| began + Duration::from_millis(millis);
    let mut rests = Rests::default();
    for (millis, is_at_rest) in [(0, true), (10, true), (20, false), (30, false), (50, true)] {
        rests.note(is_at_rest, at(millis));
    }
    assert_eq!(rests.sum(at(60)), Duration::from_millis(30));
}

#[tokio::test]
async fn a_pause_tells_how_to_go_on_and_that_it_does() {
    use crate::control::{Change, ChangedBy};
    use crate::event::Events;
    let (events, mut heard) = unbounded_channel();
    let control = Control::default();
    let regulator = Regulator::new(
        control.clone(),
        &BTreeMap::new(),
        events,
        CancellationToken::new(),
    );
    let (notes, _notes) = Events::channel();
    let by = ChangedBy::Throttle("5f3a09c1".to_string());
    let said = async {
        let mut said = Vec::new();
        for flow in ["pause yes", "pause no"] {
            control.change(Change::parse(flow).unwrap(), &by, &notes);
            match heard.recv().await {
                Some(Event::Note(text)) => said.push(text),
                other => panic!("{other:?}"),
            }
        }
        said
    };
    let said = tokio::select! {
        said = said => said,
        never = regulator.tell_pauses() => match never {},
    };
    assert_eq!(
        said,
        [
            "paused: no slot is open, and nothing is in flight; resume with redis-trib throttle 5f3a09c1 --resume",
            "the move goes on, after a pause of 0s"
        ]
    );
}

#[tokio::test]
async fn a_pause_tells_how_many_slots_are_open_from_before() {
    use crate::cluster::slot::Slot;
    use crate::migrate::schedule::MoveMethod;
    let slots = |count| Slot::all().take(count);
    let work = |open: usize| Work {
        way: MoveMethod::Keys,
        slots: slots(10).collect(),
        open: slots(open).collect(),
        untried: false,
    };
    let (events, mut heard) = unbounded_channel();
    let control = Control::default();
    let (one, two) = (pair(1, 9), pair(2, 9));
    let regulator = Regulator::new(
        control.clone(),
        &[(one, work(10)), (two, work(0))].into(),
        events,
        CancellationToken::new(),
    );
    let flow = |flow| {
        control.set(Settings {
            flow,
            ..Settings::default()
        });
    };
    let said = async {
        let mut said = Vec::new();
        for finished in [0, 7, 9, 10] {
            let moved = || LaneEvent::Slots {
                moved: slots(finished).collect(),
            };
            regulator.tell_lane(one, moved());
            regulator.tell_lane(two, moved());
            flow(Flow::Paused);
            loop {
                match heard.recv().await {
                    Some(Event::Note(text)) => break said.push(text),
                    Some(_) => {}
                    None => panic!("{said:?}"),
                }
            }
            flow(Flow::Moving);
            let goes_on = heard.recv().await;
            assert!(matches!(goes_on, Some(Event::Note(_))), "{goes_on:?}");
        }
        said
    };
    let said = tokio::select! {
        said = said => said,
        never = regulator.tell_pauses() => match never {},
    };
    assert_eq!(
        said,
        [
            "paused: nothing is in progress; 10 slots are still open from before",
            "paused: nothing is in progress; 3 slots are still open from before",
            "paused: nothing is in progress; 1 slot is still open from before",
            "paused: no slot is open, and nothing is in flight",
        ]
    );
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

#[tokio::test]
async fn a_pause_ends_the_wait_for_the_rate() {
    let slow = Settings {
        rate: Some(Rate::Keys(1)),
        ..Settings::default()
    };
    let regulator = regulator(slow);
    // It would take a minute.
    let source = pair(1, 9).from;
    regulator.pass_task(source, 60, 0).await;
    let pausing = async {
        tokio::task::yield_now().await;
        regulator.control.set(Settings {
            flow: Flow::Paused,
            ..slow
        });
    };
    let passing = async { tokio::join!(regulator.pass(source, &[1; 8]), pausing) };
    let passed = tokio::time::timeout(Duration::from_secs(5), passing).await;
    assert_eq!(passed.map(|(count, ())| count), Ok(8));
    regulator.control.set(slow);
    let passing = regulator.pass(source, &[1; 8]);
    let passed = tokio::time::timeout(Duration::from_millis(20), passing).await;
    assert!(passed.is_err());
}
