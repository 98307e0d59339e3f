//! `fix` that is stopped in the middle of much to do: what it says then is true, and the next one goes on.

use std::time::Duration;

use serde_json::Value;

use crate::support::cluster::{Nodes, three};
use crate::support::command::{Finished, Signal, Trib};
use crate::support::keys::{assert_same, contents, fill};
use crate::support::server::{Spec, quick, versions};
use crate::support::slots::{assert_closed, names, owned, setslot};
use crate::support::stopped_run::assert_all_named;
use crate::support::subcommands::{fix, reshard};
use crate::support::wait::{PATIENCE, until};

const OPEN: usize = 1000;

/// All slots are open from the first node to the second, and no key has moved.
fn open(spec: &Spec) -> Nodes {
    let nodes = three(spec);
    fill(&nodes, &names(0..OPEN, 4));
    for slot in 0..OPEN {
        setslot(&nodes[1], slot, &["IMPORTING", &nodes[0].id()]);
        setslot(&nodes[0], slot, &["MIGRATING", &nodes[1].id()]);
    }
    nodes
}

/// `throttle` finds no other runs there.
fn run_in(runtime: &tempfile::TempDir, trib: Trib) -> Trib {
    let directory = runtime.path().join("redis-trib");
    trib.env("REDIS_TRIB_RUNTIME_DIR", directory.display().to_string())
}

fn done(run: &Finished) -> Value {
    let last = run.json_lines().pop().unwrap();
    assert_eq!(last["event"], "done", "{last}");
    last
}

fn moved(nodes: &Nodes) -> usize {
    let low = owned(&nodes[1]).into_iter().filter(|(_, to)| *to < OPEN);
    low.map(|(from, to)| to - from + 1).sum()
}

#[test]
fn stopped_in_the_middle_of_a_thousand_slots_matrix() {
    for version in versions() {
        stopped_in_the_middle_of_a_thousand_slots(&quick().version(version));
    }
}

fn stopped_in_the_middle_of_a_thousand_slots(spec: &Spec) {
    let nodes = open(spec);
    let before = contents(&nodes);
    // Without a terminal nothing is done, and JSON says so, too.
    let run = fix(&nodes[0]).args(["-o", "json"]).run().status(5);
    assert_eq!(done(&run)["exit_code"], 5);
    assert_eq!(moved(&nodes), 0);
    let line = || fix(&nodes[0]).args(["--yes", "--rate", "400", "-o", "json"]);
    let wait = |more: usize| {
        let goal = moved(&nodes) + more;
        until("some slots to have moved", PATIENCE, || {
            match moved(&nodes) {
                now if now >= goal => Ok(()),
                now => Err(now.to_string()),
            }
        });
    };
    let run = line().spawn();
    wait(50);
    run.signal(Signal::SIGINT);
    let run = run.wait_within(Duration::from_secs(20)).status(130);
    let last = done(&run);
    assert_eq!(last["exit_code"], 130);
    let said = last["message"].as_str().unwrap();
    assert!(said.contains("still open"), "{said}");
    let resume = last["resume"].as_array().unwrap();
    assert_eq!(resume[..3], ["redis-trib", "fix", &nodes[0].addr()]);
    // The slots that are reported as fixed are those that were fixed.
    let lines = run.json_lines();
    let fixed = lines.iter().find(|line| line["event"] == "fixed").unwrap();
    let ranges = fixed["slots"].as_array().unwrap().iter();
    let told: u64 = ranges
        .map(|range| range[1].as_u64().unwrap() - range[0].as_u64().unwrap() + 1)
        .sum();
    assert_eq!(told, moved(&nodes) as u64);
    assert!(told < OPEN as u64);

    let run = line().spawn();
    wait(50);
    run.signal(Signal::SIGKILL);
    run.wait();
    assert!(moved(&nodes) < OPEN);
    // The command that the first run named.
    let words = resume[1..].iter().map(|word| word.as_str().unwrap());
    Trib::new().args(words).arg("--yes").run().status(0);
    assert_eq!(moved(&nodes), OPEN);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}

/// A lane that stops between two windows is planned again. Once that has succeeded, its reason is none for an exit code.
#[test]
fn a_lane_that_failed_and_was_repeated_is_no_failure() {
    // What was acknowledged is on disk.
    let disk = quick()
        .arg("--appendonly", "yes")
        .arg("--appendfsync", "always");
    let nodes = open(&disk);
    let before = contents(&nodes);
    let runtime = tempfile::tempdir().unwrap();
    let own = |trib| run_in(&runtime, trib);
    let run = fix(&nodes[0]).args(["--yes", "-o", "json"]).args([
        "--rate",
        "400",
        "--max-open-slots",
        "4",
    ]);
    let run = own(run).spawn();
    until("some slots to have moved", PATIENCE, || {
        match moved(&nodes) {
            50.. => Ok(()),
            now => Err(now.to_string()),
        }
    });
    let throttle = |options: &[&str]| {
        let throttle = Trib::new().arg("throttle").args(options);
        own(throttle).run().status(0);
    };
    throttle(&["--pause"]);
    run.wait_stderr("slots are still open from before; resume with");
    nodes[1].restart();
    throttle(&["--resume", "--rate", "off"]);
    let run = run.wait_within(Duration::from_secs(60)).status(0);
    let lines = run.json_lines();
    let mut ends = lines.iter().filter(|line| line["event"] == "lane-ended");
    assert!(ends.any(|line| line["failure"].is_string()), "{lines:?}");
    assert_eq!(moved(&nodes), OPEN);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}

/// Slots that a command was to finish are open when it is stopped before it comes to them.
#[test]
fn slots_that_are_not_finished_count_as_open() {
    let nodes = open(&quick());
    let run = reshard(&nodes[0])
        .args(["--slot-ranges", "0-999", "--to", &nodes[1].id(), "--yes"])
        .args(["--finish-open", "--rate", "400", "--max-open-slots", "4"])
        .spawn();
    until("some slots to have moved", PATIENCE, || {
        match moved(&nodes) {
            20.. => Ok(()),
            now => Err(now.to_string()),
        }
    });
    run.signal(Signal::SIGINT);
    let run = run.wait_within(Duration::from_secs(20)).status(130);
    let run = run.stderr_has(", 0 not begun");
    assert_all_named(&run.stderr, OPEN);
    let open = run
        .stderr
        .lines()
        .find(|line| line.ends_with(", as before"));
    assert!(open.is_some(), "{}", run.stderr);
}

/// The last slots are finished during a pause, and nothing is left to wait for.
#[test]
fn a_pause_does_not_hold_up_a_run_that_is_done() {
    let (nodes, proxies) = Nodes::behind_proxies(3, &quick());
    nodes.form(3);
    fill(&nodes, &names(0..10, 20));
    let runtime = tempfile::tempdir().unwrap();
    let own = |trib| run_in(&runtime, trib);
    // The first one is a trial. With the second all slots are open, and the run can't end before it is paused.
    proxies[0].stall_at("MIGRATE", 2);
    let run = Trib::new()
        .args(["reshard", &proxies[0].addr(), "--slot-ranges", "0-9"])
        .args(["--to", &nodes[1].id(), "--yes"])
        .args(["--rate", "100", "--strategy", "keys"]);
    let run = own(run).spawn();
    assert!(proxies[0].wait_stalled(PATIENCE), "it never came to that");
    own(Trib::new().args(["throttle", "--pause"]))
        .run()
        .status(0);
    proxies[0].resume();
    run.wait_within(PATIENCE).status(0);
    assert_eq!(nodes[0].text(&["DBSIZE"]), "0");
    assert_closed(&nodes);
}
