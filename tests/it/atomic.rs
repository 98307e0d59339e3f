//! Slots that the servers move by themselves: whole moves, what is chosen and why, and what an end in
//! the middle leaves.

use std::collections::BTreeSet;

use redis::cmd;

use crate::support::atomic_moves::{Setting, slow, wait_for_job};
use crate::support::cluster::{Nodes, walkthrough};
use crate::support::command::{Signal, Trib};
use crate::support::counting_writers::Writers;
use crate::support::keys::{assert_same, contents, fill, fill_all_types};
use crate::support::server::{atomic_among, quick, versions};
use crate::support::slots::{assert_closed, names, owned};
use crate::support::stopped_run::resume;
use crate::support::subcommands::reshard;

#[test]
fn slots_move_at_once_while_clients_write_matrix() {
    for version in atomic_among(versions()) {
        let mut spec = quick().version(version);
        if version.starts_with("valkey") {
            spec = spec.arg("--cluster-databases", 4);
        }
        let nodes = walkthrough(&spec);
        fill(&nodes[..3], &names(0..60, 20));
        fill_all_types(&nodes, &names([30], 1)[0]);
        if version.starts_with("valkey") {
            let mut connection = nodes[0].connection().unwrap();
            cmd("SELECT").arg(2).query::<()>(&mut connection).unwrap();
            for key in names(0..60, 2) {
                let set = cmd("SET").arg(key).arg("in 2").to_owned();
                set.query::<()>(&mut connection).unwrap();
            }
        }
        let before = contents(&nodes);
        let keys = names(0..60, 1).into_iter().map(|key| format!("{key}:w"));
        let writers = Writers::start(&nodes.addrs(), vec![keys.collect()]);
        writers.wait(100);
        let go = || {
            let to = nodes[3].id();
            reshard(&nodes[0]).args(["--slot-ranges", "0-59", "--to", &to])
        };
        let shown = go().arg("--dry-run").run().status(0);
        assert!(
            shown.stdout.contains("Strategy: atomic"),
            "{}",
            shown.stdout
        );
        let ended = go().arg("--yes").run().status(0);
        assert!(ended.stdout.contains("longest task"), "{}", ended.stdout);
        writers.wait(100);
        writers.finish(&nodes);
        assert_closed(&nodes);
        assert_eq!(owned(&nodes[3]), [(0, 59)]);
        let mut after = contents(&nodes);
        after.retain(|key, _| before.contains_key(key));
        let mut before = before;
        before.retain(|(_, key), _| !key.ends_with(b":w"));
        after.retain(|(_, key), _| !key.ends_with(b":w"));
        assert_same(&before, &after);
    }
}

/// The pairs of a plan in the JSON output: source, method and reason.
#[track_caller]
fn ways(trib: Trib) -> BTreeSet<(String, String, String)> {
    let events = trib.args(["--dry-run", "--output", "json"]).run();
    let events = events.status(0).json_lines();
    let moves = events.iter().find(|event| event["event"] == "moves");
    let moves = moves.unwrap()["moves"].as_array().unwrap().clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    moves
        .iter()
        .map(|one| {
            (
                text(&one["from"]["addr"]),
                text(&one["strategy"]),
                text(&one["reason"]),
            )
        })
        .collect()
}

#[test]
fn what_stands_in_the_way_is_the_reason_matrix() {
    for version in atomic_among(versions()) {
        let setting = Setting::new(version);
        let nodes = &setting.nodes;
        let way = |more: &[&str]| {
            let to = nodes[3].id();
            let go = reshard(&nodes[0]).args(["--slot-ranges", "0-9", "--to", &to]);
            let ways = ways(go.args(more));
            let (_, way, reason) = ways.first().unwrap().clone();
            (way, reason)
        };
        let (strategy, reason) = way(&[]);
        assert_eq!(strategy, "atomic");
        assert!(reason.contains("both ends can"), "{reason}");
        assert_eq!(way(&["--strategy", "keys"]).0, "keys");
        let (strategy, reason) = way(&["--rate", "1000"]);
        assert_eq!(strategy, "keys");
        assert!(reason.contains("--rate"), "{reason}");
        let run = setting.go().args(["--rate", "1000"]).run().status(2);
        assert!(run.stderr.contains("--rate"), "{}", run.stderr);
        // A user without the permission.
        for node in nodes.iter() {
            let denied = match version.starts_with("valkey") {
                true => "-cluster|migrateslots",
                false => "-cluster|migration",
            };
            node.cmd(&[
                "ACL", "SETUSER", "mover", "on", ">m0ver", "~*", "&*", "+@all", denied,
            ]);
        }
        let login = ["--user", "mover", "--pass", "m0ver"];
        let (strategy, reason) = way(&login);
        assert_eq!(strategy, "keys");
        assert!(reason.contains("may not run"), "{reason}");
        // A key that the target should not have: with the same name, so that none is lost.
        let key = &names([5], 1)[0];
        let value = nodes[0].text(&["GET", key]);
        nodes[3].cmd(&["CLUSTER", "SETSLOT", "5", "IMPORTING", &nodes[0].id()]);
        let mut connection = nodes[3].connection().unwrap();
        cmd("ASKING").query::<()>(&mut connection).unwrap();
        cmd("SET")
            .arg(key)
            .arg(&value)
            .query::<()>(&mut connection)
            .unwrap();
        nodes[3].cmd(&["CLUSTER", "SETSLOT", "5", "STABLE"]);
        let (strategy, reason) = way(&[]);
        assert_eq!(strategy, "keys");
        assert!(reason.contains("holds 1 key of slot"), "{reason}");
        let refused = setting.go().run().status(3);
        assert!(refused.stderr.contains("holds 1 key"), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("nothing was changed"),
            "{}",
            refused.stderr
        );
        assert_eq!(owned(&nodes[3]), []);
        let to = nodes[3].id();
        let go = reshard(&nodes[0]).args(["--slot-ranges", "0-99", "--to", &to, "--yes"]);
        go.run().status(0);
        setting.assert_moved();
    }
}

#[test]
fn a_pair_of_two_versions_goes_by_key_matrix() {
    for version in atomic_among(versions()) {
        let older = match version.starts_with("valkey") {
            true => "valkey-8.1",
            false => "redis-8.2",
        };
        let nodes = Nodes::each(3, |index| {
            quick().version(if index == 0 { older } else { version })
        });
        nodes.form(3);
        fill(&nodes, &names((0..20).chain(6000..6020), 10));
        let before = contents(&nodes);
        let to = nodes[2].id();
        let go = || {
            let ranges = "0-19,6000-6019";
            reshard(&nodes[0]).args(["--slot-ranges", ranges, "--to", &to])
        };
        let ways = ways(go());
        let way_of = |index: usize| {
            let addr = nodes[index].addr();
            let way = ways.iter().find(|(from, _, _)| *from == addr);
            way.unwrap_or_else(|| panic!("{ways:?}")).clone()
        };
        assert_eq!(way_of(0).1, "keys", "{ways:?}");
        assert!(way_of(0).2.contains(&nodes[0].addr()), "{ways:?}");
        assert_eq!(way_of(1).1, "atomic", "{ways:?}");
        let refused = go().args(["--strategy", "atomic", "--yes"]).run().status(3);
        assert!(refused.stderr.contains(&nodes[0].addr()));
        go().arg("--yes").run().status(0);
        assert_closed(&nodes);
        assert_same(&before, &contents(&nodes));
    }
}

/// The servers finish the running tasks, and the same command notices that when run again.
#[test]
fn killed_in_the_middle_of_a_job_matrix() {
    for version in atomic_among(versions()) {
        let setting = Setting::new(version);
        let run = setting.start_long(&[]);
        run.signal(Signal::SIGKILL);
        run.wait();
        let shown = setting.go().arg("--dry-run").run().status(0);
        assert!(
            shown.stderr.contains("an ASM task moves slots"),
            "{}",
            shown.stderr
        );
        // All that it was to move is where it wanted it.
        setting.go().run().status(0);
        setting.assert_moved();
    }
}

#[test]
fn a_job_that_takes_too_long_after_ctrl_c_is_called_off_matrix() {
    for version in atomic_among(versions()) {
        let setting = Setting::new(version);
        let run = setting.start_long(&["--stop-deadline", "300ms"]);
        run.signal(Signal::SIGINT);
        let ended = run.wait().status(130);
        assert!(
            ended
                .stderr
                .contains("0 slots moved, 0 open, 100 not begun"),
            "{}",
            ended.stderr
        );
        setting.assert_stayed();
        // A second signal doesn't wait.
        let run = setting.start_long(&[]);
        run.signal(Signal::SIGINT);
        run.wait_stderr("a second signal stops at once");
        run.signal(Signal::SIGINT);
        let ended = run.wait().status(130);
        setting.assert_stayed();
        slow(&setting.nodes[0], 0);
        resume(&ended).run().status(0);
        setting.assert_moved();
    }
}

/// With `--rate` slots move key by key, so the line that resumes has no rate that was set while tasks ran.
#[test]
fn a_drain_tells_the_rate_that_it_leaves_out_matrix() {
    for version in atomic_among(versions()) {
        let setting = Setting::new(version);
        let nodes = &setting.nodes;
        let directory = tempfile::tempdir().unwrap();
        let runtime = directory.path().join("runs").display().to_string();
        slow(&nodes[0], 10_000);
        let run = Trib::new()
            .args(["del-node", &nodes[1].addr(), &nodes[0].id(), "--drain"])
            .args(["--strategy", "atomic", "--stop-deadline", "300ms", "--yes"])
            .env("REDIS_TRIB_RUNTIME_DIR", &runtime)
            .spawn();
        wait_for_job(&nodes[0]);
        Trib::new()
            .args(["throttle", "--rate", "500"])
            .env("REDIS_TRIB_RUNTIME_DIR", &runtime)
            .run()
            .status(0);
        run.signal(Signal::SIGINT);
        let ended = run.wait().status(130);
        let ended = ended.stderr_has("redis-trib throttle --rate 500");
        slow(&nodes[0], 0);
        resume(&ended).run().status(0);
    }
}

#[test]
fn a_job_in_hand_ends_after_ctrl_c_matrix() {
    for version in atomic_among(versions()) {
        let setting = Setting::new(version);
        let run = setting.start(&[]);
        run.signal(Signal::SIGTERM);
        run.wait().status(0);
        setting.assert_moved();
    }
}

#[test]
fn a_job_beyond_its_deadline_is_called_off_matrix() {
    for version in atomic_among(versions()) {
        let setting = Setting::new(version);
        let ended = setting.start(&["--task-deadline", "1s"]).wait().status(6);
        assert!(ended.stderr.contains("--task-deadline"), "{}", ended.stderr);
        setting.assert_stayed();
        slow(&setting.nodes[0], 0);
        resume(&ended).run().status(0);
        setting.assert_moved();
    }
}
