//! `check` and `fix` with ASM tasks: tasks that run, failed or are stuck, and nodes that die in the middle of one.

use std::time::Duration;

use serde_json::Value;

use crate::support::atomic_moves::{Setting, Shards, slow, wait_for_job};
use crate::support::cluster::walkthrough_of;
use crate::support::command::Trib;
use crate::support::findings::{codes, finding};
use crate::support::keys::{assert_same, contents, fill};
use crate::support::server::{Server, atomic_among, quick, versions};
use crate::support::slots::{assert_closed, names};
use crate::support::subcommands::{check_json, fix};
use crate::support::views::is_held_for_dead;
use crate::support::wait::{PATIENCE, until};

/// Slots 0-99, by hand.
fn begin(from: &Server, to: &Server) {
    match from.version().starts_with("valkey") {
        true => {
            let words = ["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", "0", "99", "NODE"];
            from.cmd(&[&words[..], &[&to.id()]].concat());
        }
        false => drop(to.cmd(&["CLUSTER", "MIGRATION", "IMPORT", "0", "99"])),
    }
}

/// The finding of `check` about a task; `None` if there is none.
fn told(node: &Server) -> Option<Value> {
    let json = check_json(&node.addr()).run().json();
    let is_told = codes(&json).contains(&"slots-in-job");
    is_told.then(|| finding(&json, "slots-in-job").clone())
}

#[test]
fn a_job_under_way_is_named_and_waited_for_matrix() {
    for version in atomic_among(versions()) {
        let setting = Setting::new(version);
        // The task lasts ten seconds: three runs begin within that.
        slow(&setting.nodes[0], 5000);
        begin(&setting.nodes[0], &setting.nodes[3]);
        wait_for_job(&setting.nodes[0]);
        let found = told(&setting.nodes[1]).unwrap();
        assert_eq!(found["slots"], serde_json::json!([[0, 99]]));
        let text = found["message"].as_str().unwrap();
        for node in [0, 3] {
            assert!(text.contains(&setting.nodes[node].addr()), "{text}");
        }
        fix(&setting.nodes[1])
            .arg("--dry-run")
            .run()
            .status(0)
            .stderr_has("an ASM task moves slots");
        fix(&setting.nodes[1])
            .arg("--yes")
            .run()
            .status(0)
            .stderr_has("waiting until it ends")
            .stdout_has("Nothing is broken");
        setting.assert_moved();
        assert_eq!(told(&setting.nodes[1]), None);
    }
}

/// The target of a task dies: on Valkey the source remembers the failure, on Redis no node does.
#[test]
fn a_failed_job_is_named_until_its_slots_have_moved_matrix() {
    for version in atomic_among(versions()) {
        let setting = Setting::new(version);
        let nodes = &setting.nodes;
        slow(&nodes[0], 2000);
        begin(&nodes[0], &nodes[3]);
        wait_for_job(&nodes[0]);
        nodes[3].kill();
        let is_valkey = version.starts_with("valkey");
        if is_valkey {
            until("the job to have failed", PATIENCE, || {
                let log = format!("{:?}", nodes[0].cmd(&["CLUSTER", "GETSLOTMIGRATIONS"]));
                if log.contains("failed") {
                    Ok(())
                } else {
                    Err(log)
                }
            });
        }
        nodes[3].restart();
        nodes.wait_usable();
        slow(&nodes[0], 0);
        assert_eq!(told(&nodes[1]).is_some(), is_valkey);
        if let Some(found) = told(&nodes[1]) {
            let text = found["message"].as_str().unwrap();
            assert!(
                text.contains("failed") && text.contains(&nodes[3].addr()),
                "{text}"
            );
        }
        fix(&nodes[1])
            .arg("--yes")
            .run()
            .status(0)
            .stdout_has("Nothing is broken");
        setting.assert_stayed();
        setting.go().run().status(0);
        setting.assert_moved();
        assert_eq!(told(&nodes[1]), None);
    }
}

/// Redis restarts a failed task by itself until it is canceled: here the source is too old.
#[test]
fn a_job_that_never_ends_is_refused_by_name_matrix() {
    if !atomic_among(versions()).contains(&"redis-8.6") {
        return;
    }
    let nodes = walkthrough_of(|index| {
        quick().version(match index {
            0 => "redis-8.2",
            _ => "redis-8.6",
        })
    });
    fill(&nodes[..3], &names(0..20, 2));
    let before = contents(&nodes);
    nodes[3].cmd(&["CLUSTER", "MIGRATION", "IMPORT", "0", "99"]);
    let mut found = Value::Null;
    until("it to be begun anew", PATIENCE, || {
        found = told(&nodes[1]).ok_or("not told of")?;
        match found["remedy"].as_str() {
            Some(_) => Ok(()),
            None => Err(found.to_string()),
        }
    });
    let remedy = found["remedy"].as_str().unwrap();
    let leader = format!("redis-cli -h 127.0.0.1 -p {} ", nodes[3].port());
    let cancel = remedy.strip_prefix(&leader).unwrap();
    assert!(
        cancel.starts_with("CLUSTER MIGRATION CANCEL ID "),
        "{cancel}"
    );
    fix(&nodes[1])
        .arg("--yes")
        .run()
        .status(3)
        .within(Duration::from_secs(30))
        .stderr_has(&nodes[3].addr())
        .stderr_has(cancel);
    nodes[3].cmd(&cancel.split(' ').collect::<Vec<_>>());
    assert_eq!(told(&nodes[1]), None);
    fix(&nodes[1])
        .arg("--yes")
        .run()
        .status(0)
        .stdout_has("Nothing is broken");
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn an_end_of_a_job_that_dies_and_comes_back_as_a_replica_matrix() {
    for version in atomic_among(versions()) {
        for victim in [0, 1] {
            let shards = Shards::new(version);
            let nodes = &shards.nodes;
            slow(&nodes[0], 2000);
            begin(&nodes[0], &nodes[1]);
            wait_for_job(&nodes[0]);
            let dead = nodes[victim].id();
            nodes[victim].kill();
            is_held_for_dead(&nodes[2], &dead);
            // Before the replica has taken over, there is nothing to fix without an option.
            fix(&nodes[2]).arg("--yes").run();
            shards.failed_over(victim);
            shards.back(victim);
            fix(&nodes[2]).arg("--yes").run().status(0);
            assert_closed(nodes);
            assert_same(&shards.before, &contents(nodes));
            Trib::new()
                .args(["check", &nodes[2].addr()])
                .run()
                .status(0);
        }
    }
}
