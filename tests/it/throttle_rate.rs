//! `--rate` while a single slot with many keys moves, and what lifts it.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::cluster::{Nodes, walkthrough};
use crate::support::command::{Running, Signal, Trib};
use crate::support::keys::{Contents, assert_same, contents, fill};
use crate::support::server::quick;
use crate::support::slots::{assert_closed, names};
use crate::support::subcommands::reshard;
use crate::support::wait::until;

/// A slot with many keys, which goes from the first node to the fourth.
struct Setting {
    nodes: Nodes,
    before: Contents,
    runtime: tempfile::TempDir,
}

impl Setting {
    fn new(keys: usize) -> Self {
        let nodes = walkthrough(&quick());
        fill(&nodes[..3], &names([7], keys));
        let before = contents(&nodes);
        let runtime = tempfile::tempdir().unwrap();
        Self {
            nodes,
            before,
            runtime,
        }
    }

    fn runtime(&self) -> String {
        self.runtime.path().join("redis-trib").display().to_string()
    }

    fn go(&self, options: &[&str]) -> Running {
        reshard(&self.nodes[0])
            .args(["--slot-ranges", "7", "--to", &self.nodes[3].id(), "--yes"])
            .args(["--strategy", "keys"])
            .args(options)
            .env("REDIS_TRIB_RUNTIME_DIR", self.runtime())
            .timeout(Duration::from_secs(60))
            .spawn()
    }

    fn throttle(&self, args: &[&str]) -> String {
        let throttle = Trib::new().arg("throttle").args(args);
        let run = throttle.env("REDIS_TRIB_RUNTIME_DIR", self.runtime()).run();
        run.status(0).stdout
    }

    /// The keys that the target has.
    fn moved(&self) -> u64 {
        match self.nodes[3].cmd(&["CLUSTER", "COUNTKEYSINSLOT", "7"]) {
            redis::Value::Int(keys) => keys.unsigned_abs(),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn wait_moved(&self, keys: u64) {
        until("keys to move", Duration::from_secs(20), || {
            match self.moved() {
                now if now >= keys => Ok(()),
                now => Err(now.to_string()),
            }
        });
    }
}

#[test]
fn the_first_ctrl_c_lifts_the_rate_for_the_slot_in_hand() {
    let setting = Setting::new(3_000);
    let run = setting.go(&["--rate", "50"]);
    setting.wait_moved(20);
    run.signal(Signal::SIGINT);
    let began = Instant::now();
    // The slot was the last one: nothing is left to do.
    let ended = run.wait();
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{}",
        ended.stderr
    );
    assert_eq!(setting.moved(), 3_000, "{}", ended.stderr);
    assert_closed(&setting.nodes);
    assert_same(&setting.before, &contents(&setting.nodes));
}

#[test]
fn a_pause_lifts_the_rate_for_the_slot_in_hand() {
    let setting = Setting::new(3_000);
    let run = setting.go(&["--rate", "50"]);
    setting.wait_moved(20);
    let began = Instant::now();
    setting.throttle(&["--pause"]);
    until(
        "the slot to be closed",
        Duration::from_secs(10),
        || match setting.nodes[0].nodes_text().contains("[7->-") {
            false => Ok(()),
            true => Err(setting.moved().to_string()),
        },
    );
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(setting.moved(), 3_000);
    // Nothing is left that would have to be resumed.
    run.wait().status(0);
    assert_closed(&setting.nodes);
}

#[test]
fn a_rate_holds_on_average_and_has_no_bursts() {
    let setting = Setting::new(600);
    let weight = match setting.nodes[0].cmd(&["MEMORY", "USAGE", &names([7], 1)[0]]) {
        redis::Value::Int(bytes) => bytes.unsigned_abs(),
        other => panic!("{other:?}"),
    };
    for rate in ["100".to_string(), format!("{}B", 100 * weight)] {
        let setting = Setting::new(600);
        let run = setting.go(&["--rate", &rate]);
        setting.wait_moved(1);
        let (began, first) = (Instant::now(), setting.moved());
        let mut most = 0.0_f64;
        loop {
            // The time is read last: while this test gets no processor, keys move.
            let moved = setting.moved();
            let now = began.elapsed();
            most = most.max((moved - first) as f64 - now.as_secs_f64() * 100.0);
            if moved >= 600 {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let took = began.elapsed();
        run.wait().status(0);
        // A tenth of a second's worth, what was on its way at the first look, and the time of a look.
        assert!(most < 30.0, "{rate}: {most} keys too many");
        let speed = (600 - first) as f64 / took.as_secs_f64();
        // Only the upper bound is the product's promise: a busy machine moves slower.
        assert!(
            (20.0..106.0).contains(&speed),
            "{rate}: {speed} keys/s in {took:?}"
        );
        assert_closed(&setting.nodes);
    }
}

#[test]
fn a_rate_in_bytes_limits_keys_of_unknown_size() {
    let setting = Setting::new(300);
    for node in setting.nodes.iter() {
        node.cmd(&["ACL", "SETUSER", "default", "-memory"]);
    }
    let run = setting.go(&["--rate", "100KiB"]);
    setting.wait_moved(1);
    let (began, first) = (Instant::now(), setting.moved());
    setting.wait_moved(300);
    let took = began.elapsed();
    let ended = run.wait().status(0).stderr_has("may not run MEMORY USAGE");
    let told = ended.stderr.matches("keys of unknown size as 1 KiB each");
    assert_eq!(told.count(), 1, "{}", ended.stderr);
    let speed = (300 - first) as f64 / took.as_secs_f64();
    assert!(speed < 110.0, "{speed} keys/s");
    assert_closed(&setting.nodes);
}

#[test]
fn a_run_that_measures_the_idle_latency_says_so() {
    let setting = Setting::new(100);
    let run = setting.go(&["--max-latency", "200ms", "--rate", "200", "-o", "json"]);
    // The run tells it once a second. A throttle that is started on a busy machine may come after the 2 s that it lasts.
    run.wait_stdout("\"state\":\"measuring\"");
    setting.wait_moved(1);
    let events = run.wait().status(0).json_lines();
    let mut measuring = events.iter().filter(|event| event["state"] == "measuring");
    assert!(measuring.all(|event| event["total"]["keys_moved"] == 0));
}

#[test]
fn a_line_that_resumes_has_the_rate_that_was_set_last() {
    let setting = Setting::new(1_000);
    fill(&setting.nodes[..3], &names(100..160, 100));
    let run = reshard(&setting.nodes[0])
        .args(["--slot-ranges", "7,100-159", "--yes"])
        .args(["--to", &setting.nodes[3].id(), "--max-open-slots", "2"])
        .args(["--strategy", "keys", "--rate", "100"])
        .env("REDIS_TRIB_RUNTIME_DIR", setting.runtime())
        .spawn();
    setting.wait_moved(10);
    setting.throttle(&["--rate", "75"]);
    run.signal(Signal::SIGINT);
    let ended = run.wait().status(130).stderr_has("--rate 75");
    assert!(!ended.stderr.contains("--rate 100"), "{}", ended.stderr);
    assert_closed(&setting.nodes);
}
