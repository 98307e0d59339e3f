//! `--journal`: what was changed, by which user, on which node; no passwords, values or key names.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::Command;
use std::thread;

use crate::support::cluster::{Nodes, walkthrough};
use crate::support::command::Trib;
use crate::support::journal::{lines, words};
use crate::support::keys::{assert_same, contents, fill};
use crate::support::server::{Spec, quick};
use crate::support::slots::{assert_closed, names, owned};
use crate::support::subcommands::reshard;

const SECRET: &str = "hunter2-hunter2";

#[test]
fn every_change_is_a_line_and_none_holds_a_secret() {
    let nodes = walkthrough(&quick().password(SECRET));
    let keys = names(0..6, 50);
    fill(&nodes[..3], &keys);
    let before = contents(&nodes);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let go = || {
        reshard(&nodes[0])
            .env("REDISCLI_AUTH", SECRET)
            .args(["--slot-ranges", "0-5", "--to", &nodes[3].id(), "--yes"])
            .args(["--journal", &path.display().to_string()])
    };
    go().arg("--dry-run").run().status(0);
    assert_eq!(lines(&path).len(), 0);
    go().args(["--reason", "ticket \"42\""]).run().status(0);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
    let all = lines(&path);
    let count = |word: &str| {
        let commands = all.iter().filter_map(|line| line["command"].as_str());
        commands.filter(|command| command.contains(word)).count()
    };
    let states = [(" IMPORTING ", 6), (" MIGRATING ", 6), (" NODE ", 2 * 6)];
    for (state, times) in states {
        assert_eq!(count(state), times, "{all:#?}");
    }
    let migrated = all.iter().filter(|line| words(line) == "MIGRATE");
    let sum: u64 = migrated
        .clone()
        .filter(|line| !line["command"].as_str().unwrap().contains(" COPY "))
        .map(|line| line["keys"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, keys.len() as u64);
    for line in &all {
        assert_eq!(line["doing"], "reshard");
        assert_eq!(line["reason"], "ticket \"42\"");
        assert!(line["who"].as_str().unwrap().contains('@'));
        assert_eq!(line["run"], all[0]["run"]);
        let node = &line["node"];
        let server = nodes.iter().find(|server| node["id"] == server.id());
        assert_eq!(node["addr"], server.unwrap().addr());
        // The trial of the login is refused with MOVED; that is what it is for.
        if !line["command"].as_str().unwrap().contains(" COPY ") {
            assert_eq!(line["result"], "ok", "{line}");
        }
    }
    for line in migrated {
        let command = line["command"].as_str().unwrap();
        assert!(command.contains("AUTH ***"), "{command}");
    }
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    assert!(keys.iter().all(|key| !text.contains(key)), "{text}");
}

#[test]
fn create_is_in_the_journal_too() {
    let nodes = Nodes::with(3, &Spec::new().quick());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    Trib::new()
        .args(["create", "--yes", "--journal", &path.display().to_string()])
        .args(nodes.addrs())
        .run()
        .status(0);
    let all = lines(&path);
    for command in ["CLUSTER ADDSLOTS", "CLUSTER MEET"] {
        assert!(all.iter().any(|line| words(line) == command), "{all:#?}");
    }
    assert!(all.iter().all(|line| line["node"]["id"].is_string()));
}

#[test]
fn without_a_journal_nothing_is_changed() {
    let nodes = walkthrough(&quick());
    let go = |file: &str| {
        reshard(&nodes[0])
            .args(["--slot-ranges", "0-99", "--to", &nodes[3].id(), "--yes"])
            .args(["--journal", file])
            .run()
    };
    go("/no/such/folder/file")
        .status(2)
        .stderr_has("/no/such/folder/file")
        .stdout_empty();
    reshard(&nodes[0])
        .args(["--reason", "why"])
        .run()
        .status(2)
        .stderr_has("--journal");
    assert!(owned(&nodes[3]).is_empty());
    // The disk is full: what can't be written down is not done.
    go("/dev/full").status(3).stderr_has("journal");
    assert!(owned(&nodes[3]).is_empty());
    assert!(!nodes[0].nodes_text().contains("->-"));
    reshard(&nodes[0])
        .args(["--slot-ranges", "0-99", "--to", &nodes[3].id(), "--yes"])
        .run()
        .status(0);
    assert_closed(&nodes);
    assert_eq!(owned(&nodes[3]), [(0, 99)]);
}

/// A reader that goes away is as good as a disk that fills up.
#[test]
fn a_journal_that_breaks_stops_before_the_next_change() {
    let nodes = walkthrough(&quick());
    fill(&nodes[..3], &names(0..20, 5));
    let before = contents(&nodes);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let reader = {
        let path = path.clone();
        thread::spawn(move || {
            let mut lines = BufReader::new(File::open(path).unwrap()).lines();
            lines.find(|line| line.as_ref().unwrap().contains(" NODE "));
        })
    };
    let go = || {
        reshard(&nodes[0])
            .args(["--slot-ranges", "0-19", "--to", &nodes[3].id(), "--yes"])
            .args(["--max-open-slots", "2", "--finish-open"])
    };
    let ended = go()
        .args(["--journal", &path.display().to_string(), "--rate", "10"])
        .run()
        .status(6);
    reader.join().unwrap();
    assert!(ended.stderr.contains("journal"), "{}", ended.stderr);
    assert!(ended.stderr.contains("open: slots"), "{}", ended.stderr);
    go().run().status(0);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
    assert_eq!(owned(&nodes[3]), [(0, 19)]);
}

/// Everything is done, and yet the run has failed: the last line says so, as the exit code does.
#[test]
fn a_journal_that_lacks_the_last_change() {
    let nodes = Nodes::quick(4);
    nodes.form(3);
    let ended = Trib::new()
        .args(["failover", &nodes[0].addr(), "--to", &nodes[3].id()])
        .args(["--yes", "-o", "json", "--journal", "/dev/full"])
        .run()
        .status(6)
        .stderr_has("the journal lacks the last changes");
    let lines = ended.json_lines();
    let done: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "done")
        .collect();
    assert_eq!(done.len(), 1, "{lines:#?}");
    assert_eq!(done[0]["exit_code"], 6);
    assert_eq!(lines.last().unwrap()["event"], "done");
}

/// What is tried and refused, as expected, is no change.
#[test]
fn trials_are_not_in_the_journal() {
    let nodes = Nodes::quick(5);
    nodes.form(3);
    let (key, slot) = ("{06S}a", "0");
    nodes[0].cmd(&["SET", key, "1"]);
    nodes[1].cmd(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &nodes[0].id()]);
    nodes[0].cmd(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &nodes[1].id()]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let go = |words: &[&str]| {
        let journal = path.display().to_string();
        let trib = Trib::new().args(words);
        trib.args(["--yes", "--journal", &journal]).run().status(0);
    };
    go(&["fix", &nodes[0].addr()]);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("SETSLOT"), "{text}");
    assert!(!text.contains("refused"), "{text}");
    let id = nodes[4].id();
    go(&[
        "del-node",
        &nodes[0].addr(),
        &id,
        "--leave-unprotected",
        &id,
    ]);
    let text = fs::read_to_string(&path).unwrap();
    // Each member is asked first whether it may forget a node, with an id that no node has.
    assert!(text.contains("FORGET"), "{text}");
    assert!(!text.contains(&"0".repeat(40)), "{text}");
}
