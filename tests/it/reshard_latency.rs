//! `--max-latency`: a move that slows down where it delays other clients, and recovers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::cluster::{Nodes, walkthrough};
use crate::support::command::{Signal, Trib};
use crate::support::journal::{lines, words};
use crate::support::keys::{assert_same, contents, fill};
use crate::support::server::{Server, quick};
use crate::support::slots::{assert_closed, names, owned};
use crate::support::subcommands::reshard;
use crate::support::wait::{PATIENCE, until};

/// Works for so many microseconds.
const SCRIPT: &str = "local t = redis.call('TIME') local b = t[1] * 1000000 + t[2] repeat t = redis.call('TIME') until \
                      t[1] * 1000000 + t[2] - b > tonumber(ARGV[1]) return 1";

/// Keeps a server from anything else for that time.
fn hold_up(server: &Server, milliseconds: u32) {
    server.cmd(&["EVAL", SCRIPT, "0", &(milliseconds * 1_000).to_string()]);
}

fn keys_of(server: &Server) -> u64 {
    server.text(&["DBSIZE"]).parse().unwrap()
}

#[test]
fn a_time_without_a_unit_or_of_nothing_is_wrong_usage() {
    for wrong in ["0", "0ms", "5", "-1ms", "fast", ""] {
        Trib::new()
            .args(["reshard", "127.0.0.1:1", &format!("--max-latency={wrong}")])
            .run()
            .status(2)
            .stderr_has("--max-latency");
    }
}

#[test]
fn a_move_slows_down_while_its_nodes_answer_late_and_recovers() {
    let (nodes, proxies) = Nodes::behind_proxies(2, &quick());
    nodes.form(2);
    let keys = names(0..150, 1_000);
    fill(&nodes, &keys);
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal.jsonl");
    let run = Trib::new()
        .args(["reshard", &proxies[0].addr(), "--yes", "--strategy", "keys"])
        .args(["--slot-ranges", "0-149", "--to", &nodes[1].id()])
        // A busy machine adds some tens of milliseconds by itself.
        .args(["--max-latency", "100ms", "--rate", "10000"])
        .args(["--journal", &journal.display().to_string()])
        .timeout(Duration::from_secs(120))
        .spawn();
    let there = keys_of(&nodes[1]);
    let moved = |count: u64| {
        until("keys to move", Duration::from_secs(60), || {
            match keys_of(&nodes[1]) - there {
                now if now >= count => Ok(()),
                now => Err(now.to_string()),
            }
        });
    };
    moved(20_000);
    proxies[0].delay_replies(Duration::from_millis(300));
    run.wait_stderr("the move slows down");
    // Until it is as slow as it can be, and goes on all the same.
    run.wait_stderr("as slow as it can be");
    let before = keys_of(&nodes[1]);
    moved(before - there + 1);
    let began = Instant::now();
    let before = keys_of(&nodes[1]);
    thread::sleep(Duration::from_secs(2));
    let slow = keys_of(&nodes[1]) - before;
    // While this test gets no processor, keys move.
    let speed = slow as f64 / began.elapsed().as_secs_f64();
    assert!(speed < 1_000.0, "{speed} keys/s");
    proxies[0].delay_replies(Duration::ZERO);
    run.wait().status(0);
    assert_eq!(keys_of(&nodes[1]) - there, 150_000);
    assert_closed(&nodes);
    let calls: Vec<u64> = lines(&journal)
        .iter()
        .filter(|line| words(line) == "MIGRATE")
        .filter_map(|line| line["keys"].as_u64())
        .collect();
    let last = calls[calls.len() - 50..].iter().max().unwrap();
    let least = calls.iter().min().unwrap();
    assert!(*least <= 160 && *last >= 32, "{least} and {last}");
}

#[test]
fn the_idle_latency_is_not_measured_at_the_cost_of_the_move() {
    let nodes = walkthrough(&quick());
    fill(&nodes[..3], &names(0..10, 5));
    let ended = reshard(&nodes[0])
        .args(["--slot-ranges", "0-9", "--to", &nodes[3].id(), "--yes"])
        .args(["--strategy", "keys", "--max-latency", "500ms", "-o", "json"])
        .run()
        .status(0);
    assert!(
        ended.elapsed > Duration::from_secs(2),
        "{:?}",
        ended.elapsed
    );
    let lines = ended.json_lines();
    let moved = lines.iter().find(|line| line["event"] == "moved").unwrap();
    let took = moved["took_ms"].as_f64().unwrap();
    let without = ended.elapsed.as_secs_f64() * 1_000.0 - 2_000.0;
    assert!(took <= without, "{took} of {:?}", ended.elapsed);
}

/// A number of keys in each call is the most that a call has.
#[test]
fn a_batch_is_the_most_under_a_latency_limit() {
    let nodes = walkthrough(&quick());
    fill(&nodes[..3], &names(0..20, 50));
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal.jsonl");
    reshard(&nodes[0])
        .args(["--slot-ranges", "0-19", "--to", &nodes[3].id(), "--yes"])
        .args([
            "--strategy",
            "keys",
            "--max-latency",
            "500ms",
            "--pipeline",
            "12",
        ])
        .args(["--journal", &journal.display().to_string()])
        .run()
        .status(0);
    let calls: Vec<u64> = lines(&journal)
        .iter()
        .filter(|line| words(line) == "MIGRATE")
        .filter_map(|line| line["keys"].as_u64())
        .collect();
    assert_eq!(calls.iter().sum::<u64>(), 1_000);
    assert_eq!(calls.iter().max(), Some(&12), "{calls:?}");
}

#[test]
fn scripts_of_other_clients_are_not_held_against_a_move() {
    let nodes = walkthrough(&quick());
    let keys = names(0..40, 200);
    fill(&nodes[..3], &keys);
    let before = contents(&nodes);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // The target is held up by scripts a third of the time. They, and the limit, are longer than what a busy machine
        // adds to the latency by itself.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                hold_up(&nodes[3], 400);
                thread::sleep(Duration::from_millis(800));
            }
        });
        // Also if an assertion fails.
        let _over = Over(&is_over);
        let began = Instant::now();
        let ended = reshard(&nodes[0])
            .args(["--slot-ranges", "0-39", "--to", &nodes[3].id(), "--yes"])
            .args(["--strategy", "keys", "--max-latency", "320ms"])
            .run();
        let took = began.elapsed();
        ended.status(0).stderr_lacks("as slow as it can be");
        assert!(took < Duration::from_secs(60), "{took:?}");
    });
    assert_eq!(owned(&nodes[3]), [(0, 39)]);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}

/// Clients that hold the last node up all the time, by scripts that take so long, and did so before `run` began.
fn under_scripts(milliseconds: u32, run: impl FnOnce(&Nodes)) {
    let nodes = walkthrough(&quick());
    fill(&nodes[..3], &names(0..200, 100));
    let before = contents(&nodes);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                hold_up(&nodes[3], milliseconds);
            }
        });
        // Also if an assertion fails.
        let _over = Over(&is_over);
        run(&nodes);
    });
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The least that may move, between nodes of which one answers late.
fn limited(nodes: &Nodes) -> Trib {
    reshard(&nodes[0])
        .args(["--slot-ranges", "0-199", "--to", &nodes[3].id(), "--yes"])
        .args(["--strategy", "keys", "--max-latency", "5ms"])
        .timeout(Duration::from_secs(180))
}

#[track_caller]
fn wait_moved(nodes: &Nodes) {
    until("a slot to move", PATIENCE, || {
        match owned(&nodes[3]).len() {
            0 => Err("none".to_string()),
            _ => Ok(()),
        }
    });
}

#[test]
fn a_move_that_its_target_slows_down_ends_soon_after_a_signal() {
    under_scripts(50, |nodes| {
        let run = limited(nodes).spawn();
        wait_moved(nodes);
        thread::sleep(Duration::from_secs(1));
        let began = Instant::now();
        run.signal(Signal::SIGTERM);
        run.wait().status(130).stderr_has("0 open");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(25), "{took:?}");
        assert_closed(nodes);
    });
}

#[test]
fn a_move_that_its_target_slows_down_comes_to_rest_soon() {
    under_scripts(50, |nodes| {
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("control");
        let run = limited(nodes)
            .args(["--control", &control.display().to_string()])
            .spawn();
        wait_moved(nodes);
        thread::sleep(Duration::from_secs(1));
        let began = Instant::now();
        std::fs::write(&control, "pause\n").unwrap();
        run.wait_stderr("paused: no slot is open");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(25), "{took:?}");
        assert_closed(nodes);
        run.signal(Signal::SIGINT);
        run.wait().status(130);
    });
}

/// Each MIGRATE waits for a script, whatever is in it: the move goes on with calls of many keys, and says why it is slow.
#[test]
fn a_move_that_its_target_slows_down_makes_progress_and_says_why() {
    // Long ones: on a busy machine there are few calls, and those that wait are to be more than 1 of 100 samples.
    under_scripts(200, |nodes| {
        let run = limited(nodes).spawn();
        wait_moved(nodes);
        let moved = || -> usize { owned(&nodes[3]).iter().map(|(a, b)| b - a + 1).sum() };
        run.wait_stderr("each MIGRATE waits for");
        let before = moved();
        until("ten slots more", PATIENCE, || match moved() {
            now if now >= before + 10 => Ok(()),
            now => Err(now.to_string()),
        });
        run.signal(Signal::SIGINT);
        run.wait().status(130);
    });
}

/// The events of the lanes in the order in which they came: whether each is a start.
fn starts(stdout: &str) -> Vec<bool> {
    let events = stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    events
        .filter_map(|event| match event["event"].as_str() {
            Some("lane-started") => Some(true),
            Some("lane-ended") => Some(false),
            _ => None,
        })
        .collect()
}

#[test]
fn tasks_of_one_host_run_one_after_the_other() {
    for version in ["redis-8.6", "valkey-9.1"] {
        let nodes = walkthrough(&quick().version(version));
        fill(
            &nodes[..3],
            &names((0..20).chain(6000..6020).chain(11000..11020), 10),
        );
        let before = contents(&nodes);
        let ended = reshard(&nodes[0])
            .args(["--slot-ranges", "0-19,6000-6019,11000-11019"])
            .args(["--to", &nodes[3].id(), "--yes", "-o", "json"])
            .args(["--strategy", "atomic", "--max-latency", "50ms"])
            .run()
            .status(0);
        let expected = [true, false, true, false, true, false];
        assert_eq!(starts(&ended.stdout), expected, "{version}");
        assert_closed(&nodes);
        assert_same(&before, &contents(&nodes));
    }
}
