//! Steps of the keys, resumed command lines, and what a run does.

use super::*;

#[test]
fn a_step_changes_what_limits_the_move() {
    let (events, mut heard) = Events::channel();
    let step = |settings, step| {
        let control = Control::default();
        control.begin(settings);
        control.note_pairs(Pairs {
            lanes: 5,
            open_pairs: match settings.flow {
                Flow::Moving => 3,
                Flow::Paused => 0,
            },
            is_measuring: false,
        });
        control.step(step, &ChangedBy::Key, &events);
        control.settings()
    };
    let none = Settings::default();
    assert_eq!(step(none, Step::Down).pairs_now(), Some(2));
    let paused = Settings {
        flow: Flow::Paused,
        ..none
    };
    assert_eq!(step(paused, Step::Down).pairs_now(), Some(4));
    let configured = Settings {
        node_pairs: Some(8),
        ..none
    };
    assert_eq!(step(configured, Step::Down).pairs_now(), Some(2));
    assert_eq!(step(configured, Step::Up).pairs_now(), Some(9));
    let limited = Settings {
        max_latency: Some(Duration::from_millis(8)),
        ..none
    };
    let slower = step(limited, Step::Down);
    assert_eq!(slower.max_latency, Some(Duration::from_millis(4)));
    assert_eq!(slower.pairs_now(), None);
    let slow = Settings {
        rate: Some(Rate::Keys(1)),
        ..limited
    };
    assert_eq!(step(slow, Step::Down).rate, Some(Rate::Keys(1)));
    assert_eq!(step(slow, Step::Up).rate, Some(Rate::Keys(2)));
    let mut said = 0;
    while heard.try_recv().is_ok() {
        said += 1;
    }
    assert_eq!(said, 6, "what changes nothing is not told");
}

#[test]
fn a_step_up_never_makes_a_move_slower() {
    let (events, _heard) = Events::channel();
    for (lanes, open_pairs) in [(0, 0), (5, 0), (5, 3), (40, 16)] {
        for node_pairs in [None, Some(1), Some(8), Some(MOST_NODE_PAIRS)] {
            let control = Control::default();
            control.begin(Settings {
                node_pairs,
                ..Settings::default()
            });
            control.note_pairs(Pairs {
                lanes,
                open_pairs,
                is_measuring: false,
            });
            let mut before = control.settings().most_pairs();
            for step in [Step::Up, Step::Up, Step::Down, Step::Up] {
                control.step(step, &ChangedBy::Key, &events);
                let after = control.settings().most_pairs();
                match step {
                    Step::Up => assert_eq!(after, (before + 1).min(MOST_NODE_PAIRS)),
                    Step::Down => assert!((1..=before).contains(&after), "{after}"),
                }
                before = after;
            }
            // What the user has set stays, and what goes with it.
            assert_eq!(control.settings().node_pairs, node_pairs);
        }
    }
}

#[test]
fn a_command_line_has_the_settings_that_hold_now() {
    let control = Control::default();
    let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_string).collect() };
    let given = words("--rate 1500 --replace --max-latency 5ms");
    assert_eq!(control.options_now(&given), given);
    let first = Settings {
        rate: Some(Rate::Keys(1_500)),
        max_latency: Some(Duration::from_millis(5)),
        ..Settings::default()
    };
    control.begin(first);
    assert_eq!(control.options_now(&given), given);
    control.set(Settings {
        rate: Some(Rate::Keys(750)),
        node_pairs: Some(3),
        stepped_pairs: None,
        max_latency: None,
        flow: Flow::Paused,
    });
    let now = words("--replace --rate 750 --node-pairs 3");
    assert_eq!(control.options_now(&given), now);
    let atomic = words("--strategy atomic");
    let now = words("--strategy atomic --node-pairs 3");
    assert_eq!(control.options_now(&atomic), now);
    control.set(Settings {
        stepped_pairs: Some(17),
        ..first
    });
    assert_eq!(
        control.options_now(&given),
        words("--rate 1500 --replace --max-latency 5ms --node-pairs 17")
    );
    // Tasks of one host would run at the same time.
    assert_eq!(control.options_now(&atomic), atomic);
}

#[test]
fn a_command_line_of_tasks_takes_no_rate() {
    let control = Control::default();
    control.begin(Settings::default());
    control.set(Settings {
        rate: Some(Rate::Bytes(50 << 20)),
        ..Settings::default()
    });
    let rate = ["--rate".to_string(), "52428800B".to_string()];
    assert_eq!(control.options_now(&[]), rate);
    assert_eq!(control.rate_left_out(), None);
    control.note_tasks();
    assert_eq!(control.options_now(&[]), [""; 0]);
    assert_eq!(control.rate_left_out(), Some(rate.join(" ")));
    control.set(Settings::default());
    assert_eq!(control.rate_left_out(), None);
}

#[test]
fn a_run_that_opens_nothing_yet_does_not_move() {
    let state = |open_pairs, is_measuring, flow| {
        let lanes = 2;
        Pairs {
            lanes,
            open_pairs,
            is_measuring,
        }
        .state(flow)
    };
    assert_eq!(state(0, true, Flow::Moving), MoveState::Measuring);
    assert_eq!(state(1, true, Flow::Moving), MoveState::Moving);
    assert_eq!(state(0, false, Flow::Moving), MoveState::Moving);
    assert_eq!(state(0, true, Flow::Paused), MoveState::Paused);
    assert_eq!(state(1, false, Flow::Paused), MoveState::Pausing);
}

#[test]
fn the_first_settings_of_a_command_line_count() {
    let control = Control::default();
    let first = Settings {
        node_pairs: Some(3),
        ..Settings::default()
    };
    control.begin(first);
    control.clone().begin(Settings::default());
    assert_eq!(control.settings(), first);
}
