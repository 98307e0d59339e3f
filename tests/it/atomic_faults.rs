//! ASM tasks when something breaks in the middle: nothing is lost, and what is not known is named.

use std::time::Duration;

use crate::support::atomic_moves::{Setting, Shards, slow};
use crate::support::cluster::Nodes;
use crate::support::command::{Ended, Signal};
use crate::support::keys::{assert_same, contents, fill};
use crate::support::proxied_masters::Two;
use crate::support::proxy::Cut;
use crate::support::server::{atomic_among, fault_versions, quick};
use crate::support::slots::{assert_closed, names, owned};
use crate::support::stopped_run::{assert_all_named, resume};
use crate::support::subcommands::reshard;
use crate::support::wait::{PATIENCE, until};

#[test]
fn either_end_of_a_job_dies_and_its_replica_takes_over_on_each_version() {
    for version in atomic_among(fault_versions()) {
        for victim in [0, 1] {
            let shards = Shards::new(version);
            let run = shards.start();
            shards.nodes[victim].kill();
            let ended = run.wait_within(Duration::from_secs(40)).status(6);
            let addr = shards.nodes[victim].addr();
            assert!(ended.stderr.contains(&addr), "{}", ended.stderr);
            shards.failed_over(victim);
            shards.back(victim);
            let to = if victim == 1 { 4 } else { 1 };
            shards.go(&shards.nodes[to]).run().status(0);
            assert_closed(&shards.nodes);
            assert_same(&shards.before, &contents(&shards.nodes));
        }
    }
}

#[test]
fn the_source_of_a_job_fails_over_by_hand_on_each_version() {
    for version in atomic_among(fault_versions()) {
        let shards = Shards::new(version);
        let run = shards.start();
        shards.nodes[3].cmd(&["CLUSTER", "FAILOVER"]);
        let ended = run.wait_within(Duration::from_secs(40)).status(6);
        let addr = shards.nodes[0].addr();
        assert!(ended.stderr.contains(&addr), "{}", ended.stderr);
        shards.failed_over(0);
        shards.go(&shards.nodes[1]).run().status(0);
        assert_closed(&shards.nodes);
        assert_same(&shards.before, &contents(&shards.nodes));
    }
}

/// Without replicas: the process comes back as it was, but empty.
#[test]
fn a_source_that_restarts_empty_is_noticed_on_each_version() {
    for version in atomic_among(fault_versions()) {
        let setting = Setting::new(version);
        let run = setting.start(&["--command-timeout", "2s"]);
        setting.nodes[0].restart();
        let ended = run.wait_within(Duration::from_secs(40)).status(6);
        let addr = setting.nodes[0].addr();
        assert!(ended.stderr.contains(&addr), "{}", ended.stderr);
    }
}

/// The target hangs longer than the source pauses its writes. The outcome of the task is then
/// unknown, and the message says so. Once the target runs again, the same command continues.
#[test]
fn a_target_that_sleeps_beyond_the_pause_on_each_version() {
    for version in atomic_among(fault_versions()) {
        let setting = Setting::new(version);
        for node in setting.nodes.iter() {
            let (name, value) = match version.starts_with("valkey") {
                true => ("cluster-manual-failover-timeout", "1000"),
                false => ("cluster-slot-migration-write-pause-timeout", "1000"),
            };
            node.cmd(&["CONFIG", "SET", name, value]);
            node.cmd(&["CONFIG", "SET", "cluster-node-timeout", "20000"]);
            node.cmd(&["CONFIG", "SET", "repl-timeout", "5"]);
        }
        let run = setting.start(&["--command-timeout", "2s", "--task-deadline", "10s"]);
        setting.nodes[3].stop();
        let ended = run.wait_within(Duration::from_secs(60)).status(6);
        let addr = setting.nodes[3].addr();
        assert!(ended.stderr.contains(&addr), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("100 open, 0 not begun"),
            "{}",
            ended.stderr
        );
        setting.nodes[3].cont();
        slow(&setting.nodes[0], 0);
        setting.nodes.wait_usable();
        resume(&ended).run().status(0);
        setting.assert_moved();
    }
}

#[test]
fn a_full_target_takes_no_job_on_each_version() {
    for version in atomic_among(fault_versions()) {
        let mut setting = Setting::new(version);
        fill(&setting.nodes[..3], &names(0..100, 100));
        setting.before = contents(&setting.nodes);
        let used = setting.nodes[3].field("used_memory").unwrap();
        let used: u64 = used.parse().unwrap();
        // Few slots have all the keys, so that the plan sees no danger.
        let limit = (used + (5 << 19)).to_string();
        setting.nodes[3].cmd(&["CONFIG", "SET", "maxmemory", &limit]);
        let ended = setting
            .go()
            .args(["--max-target-memory", "100"])
            .run()
            .status(3);
        assert!(ended.stderr.contains("maxmemory"), "{}", ended.stderr);
        setting.assert_stayed();
        setting.nodes[3].cmd(&["CONFIG", "SET", "maxmemory", "0"]);
        resume(&ended).run().status(0);
        setting.assert_moved();
    }
}

/// A master that gives everything away follows the target, and so does its replica.
#[test]
fn an_emptied_master_becomes_a_replica_on_each_version() {
    for version in atomic_among(fault_versions()) {
        let shards = Shards::new(version);
        let all = owned(&shards.nodes[0]);
        let [(first, last)] = all[..] else {
            panic!("{all:?}");
        };
        reshard(&shards.nodes[2])
            .args(["--slot-ranges", &format!("{first}-{last}")])
            .args(["--to", &shards.nodes[1].id(), "--yes"])
            .run()
            .status(0);
        assert_closed(&shards.nodes);
        assert_same(&shards.before, &contents(&shards.nodes));
        let role = shards.nodes[0].field("role");
        assert_eq!(role.as_deref(), Some("slave"));
    }
}

/// A slot that was opened by hand is refused without `--finish-open`. With it, the slot moves key
/// by key.
#[test]
fn an_open_slot_by_hand_goes_by_key_on_each_version() {
    for version in atomic_among(fault_versions()) {
        let setting = Setting::new(version);
        let (from, to) = (setting.nodes[0].id(), setting.nodes[3].id());
        setting.nodes[3].cmd(&["CLUSTER", "SETSLOT", "7", "IMPORTING", &from]);
        setting.nodes[0].cmd(&["CLUSTER", "SETSLOT", "7", "MIGRATING", &to]);
        setting.go().run().status(3).stderr_has("--finish-open");
        setting.go().arg("--finish-open").run().status(0);
        setting.assert_moved();
    }
}

/// The commands that control a task, and the node that gets them: the source on Valkey, else the
/// target.
fn moments(version: &str) -> (&'static [(&'static str, usize)], bool) {
    match version.starts_with("valkey") {
        true => (
            &[
                ("CLUSTER MIGRATESLOTS", 2),
                ("CLUSTER GETSLOTMIGRATIONS", 6),
            ],
            true,
        ),
        false => (&[("CLUSTER MIGRATION", 7)], false),
    }
}

/// Waits until tasks that redis-trib no longer watches have ended.
#[track_caller]
fn wait_for_no_job(nodes: &Nodes) {
    for node in nodes.iter() {
        until("jobs to end", Duration::from_secs(20), || {
            let log = match node.version().starts_with("valkey") {
                true => node.cmd(&["CLUSTER", "GETSLOTMIGRATIONS"]),
                false => node.cmd(&["CLUSTER", "MIGRATION", "STATUS", "ALL"]),
            };
            let log = format!("{log:?}");
            let ended = ["\"success\"", "\"failed\"", "cancel", "completed"];
            let count = |words: &[&str]| -> usize {
                words.iter().map(|word| log.matches(word).count()).sum()
            };
            match count(&ended) >= count(&["operation"]) {
                true => Ok(()),
                false => Err(log),
            }
        });
    }
}

#[test]
fn killed_at_each_command_of_a_job_on_each_version() {
    for version in atomic_among(fault_versions()) {
        let two = Two::new(&quick().version(version), "atomic");
        let (moments, at_source) = moments(version);
        for (command, count) in moments {
            for nth in 1..=*count {
                let (from, to) = two.ends();
                let proxy = &two.proxies[if at_source { from } else { to }];
                proxy.stall_at(command, nth);
                let run = two.reshard(to).spawn();
                let reached = proxy.wait_stalled(PATIENCE);
                run.signal(Signal::SIGKILL);
                run.wait();
                assert!(reached, "{command} number {nth} never came");
                // What it had sent is carried out after its death: perhaps while the next one looks.
                proxy.resume();
                let ended = two.reshard(to).run();
                assert_ne!(ended.status, Ended::Status(6), "{}", ended.stderr);
                wait_for_no_job(&two.nodes);
                two.finish(to);
            }
        }
    }
}

#[test]
fn cut_at_each_command_of_a_job_on_each_version() {
    for version in atomic_among(fault_versions()) {
        let two = Two::new(&quick().version(version), "atomic");
        let (moments, at_source) = moments(version);
        for (command, count) in moments {
            for nth in 1..=*count {
                for cut in [Cut::before, Cut::after] {
                    let (from, to) = two.ends();
                    let proxy = &two.proxies[if at_source { from } else { to }];
                    proxy.cut(cut(command).nth(nth).reset());
                    let ended = two.reshard(to).run();
                    proxy.disarm();
                    match ended.status {
                        Ended::Status(0) => {}
                        Ended::Status(6) => assert_all_named(&ended.stderr, 3),
                        // Before anything was changed.
                        Ended::Status(3 | 4) => {}
                        other => panic!("{other:?} {}", ended.stderr),
                    }
                    two.finish(to);
                }
            }
        }
    }
}
