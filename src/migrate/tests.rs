//! Lanes beside each other when one of them fails or panics.

use tokio_util::sync::CancellationToken;

use super::*;

fn node(n: u8) -> NodeId {
    format!("{n:040x}").parse().unwrap()
}

fn pair(from: u8, to: u8) -> Pair {
    Pair {
        from: node(from),
        to: node(to),
    }
}

fn work(first: usize) -> Work {
    Work {
        way: MoveMethod::Keys,
        slots: Slot::all().skip(first).take(3).collect(),
        open: SlotSet::new(),
        untried: false,
    }
}

fn slots(work: &Work) -> SlotSet {
    work.slots.iter().copied().collect()
}

fn moved(work: &Work) -> Report {
    Report {
        moved: slots(work),
        left: SlotSet::new(),
        skipped: SlotSet::new(),
        open: BTreeMap::new(),
        failure: None,
        successor: None,
        tally: MoveStats::default(),
        touched: true,
        by_key: SlotSet::new(),
    }
}

/// Two lanes side by side and one that waits for its turn; the first one panics.
async fn with_a_panic(after_failure: AfterFailure) -> (Outcome, StopSignal) {
    let stop = StopSignal::default();
    let lanes = [(pair(1, 9), 0), (pair(2, 8), 10), (pair(1, 7), 20)];
    let lanes = lanes.map(|(pair, first)| (pair, work(first)));
    let limits = Limits {
        lanes: 2,
        per_target: 1,
        tasks: TaskLimit::None,
    };
    let schedule = Schedule::new(limits, BTreeMap::new(), lanes.into_iter().collect());
    let control = (&Control::default(), |_| limits);
    let panicked = CancellationToken::new();
    let outcome = run_lanes(schedule, after_failure, &stop, control, |lane, work| {
        let (panicked, stop) = (panicked.clone(), stop.clone());
        Some(async move {
            if lane == pair(1, 7) {
                let _panicked = panicked.drop_guard();
                panic!("out of {}", "range");
            }
            panicked.cancelled().await;
            // As lanes do: after a stop request, nothing new is started.
            tokio::task::yield_now().await;
            match stop.soon.is_cancelled() {
                true => Report {
                    moved: SlotSet::new(),
                    left: slots(&work),
                    ..moved(&work)
                },
                false => moved(&work),
            }
        })
    });
    (outcome.await, stop)
}

#[test]
fn tasks_of_one_host_run_together_only_if_the_user_says_so() {
    let tasks = |node_pairs, stepped_pairs| {
        let settings = Settings {
            node_pairs,
            stepped_pairs,
            ..Settings::default()
        };
        let limits = limits(settings, 4);
        (limits.lanes, limits.tasks)
    };
    let one = TaskLimit::OnePerSourceHost;
    assert_eq!(tasks(None, None), (16, one));
    assert_eq!(tasks(None, Some(2)), (2, one));
    assert_eq!(tasks(Some(3), None), (3, TaskLimit::None));
    assert_eq!(tasks(Some(3), Some(2)), (2, TaskLimit::None));
}

#[tokio::test]
async fn the_other_lanes_go_on_when_one_panics() {
    let (outcome, stop) = with_a_panic(AfterFailure::KeepGoing).await;
    let [(failed, why)] = &outcome.failures[..] else {
        panic!("{outcome:?}");
    };
    assert_eq!(*failed, pair(1, 7));
    assert!(why.contains("out of range"), "{why}");
    let open: BTreeMap<Slot, (Pair, SlotProgress)> = work(20)
        .slots
        .into_iter()
        .map(|slot| (slot, (pair(1, 7), SlotProgress::Unknown)))
        .collect();
    assert_eq!(outcome.open, open);
    assert_eq!(outcome.moved[&pair(2, 8)], slots(&work(10)));
    assert_eq!(outcome.moved[&pair(1, 9)], slots(&work(0)));
    assert!(outcome.touched);
    assert!(!stop.soon.is_cancelled());
}

#[tokio::test]
async fn the_other_lanes_stop_when_one_panics_unless_they_are_to_go_on() {
    let (outcome, stop) = with_a_panic(AfterFailure::Stop).await;
    assert_eq!(outcome.failures.len(), 1, "{outcome:?}");
    assert_eq!(outcome.open.len(), 3, "{outcome:?}");
    assert!(stop.soon.is_cancelled());
    // It waited for the source of the lane that panicked, and was never started.
    assert_eq!(outcome.left[&pair(1, 9)], slots(&work(0)));
}
