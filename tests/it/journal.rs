//! `--journal`: what was changed, by whom, where; without passwords, values and names of keys.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::reshard::{quick, reshard, walkthrough};
use crate::reshard_data::{assert_closed, assert_same, contents, fill, names, owned};
use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::server::Spec;

const SECRET: &str = "hunter2-hunter2";

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// The first two words of a line's command.
fn words(line: &Value) -> String {
    let command = line["command"].as_str().unwrap();
    let words: Vec<&str> = command.split(' ').take(2).collect();
    match words[0] {
        "CLUSTER" => words.join(" "),
        name => name.to_owned(),
    }
}

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
    let count = |name: &str| all.iter().filter(|line| words(line) == name).count();
    assert_eq!(count("CLUSTER SETSLOT"), 4 * 6, "{all:#?}");
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
    let ended = go("/dev/full").status(6);
    assert!(ended.stderr.contains("journal"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--finish-open"), "{}", ended.stderr);
    assert!(owned(&nodes[3]).is_empty());
    assert!(!nodes[0].nodes_text().contains("->-"));
    reshard(&nodes[0])
        .args(["--slot-ranges", "0-99", "--to", &nodes[3].id(), "--yes"])
        .arg("--finish-open")
        .run()
        .status(0);
    assert_closed(&nodes);
    assert_eq!(owned(&nodes[3]), [(0, 99)]);
}
