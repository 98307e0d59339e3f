//! `fix`: what is broken is fixed without losing a key, or refused by name.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::support::cluster::{Nodes, three, walkthrough};
use crate::support::command::Signal;
use crate::support::findings::is_healthy;
use crate::support::keys::{Contents, assert_same, contents, fill, put_asking};
use crate::support::server::{Server, Spec, fault_versions, quick, versions};
use crate::support::slots::{assert_closed, names, owned, setslot};
use crate::support::subcommands::{fix, reshard};
use crate::support::wait::until;

/// `[slot, …]` of what a line of JSON is about.
fn slots(value: &Value) -> Vec<(u64, u64)> {
    let range = |range: &Value| (range[0].as_u64().unwrap(), range[1].as_u64().unwrap());
    value["slots"]
        .as_array()
        .unwrap()
        .iter()
        .map(range)
        .collect()
}

/// The plan of a dry run: codes, with their slots.
pub(crate) fn planned(node: &Server, list: &str) -> Vec<(String, Vec<(u64, u64)>)> {
    let run = fix(node).args(["--dry-run", "-o", "json"]).run();
    let lines = run.json_lines();
    let line = lines
        .iter()
        .find(|line| line["event"] == "remedies")
        .unwrap();
    line[list]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["code"].as_str().unwrap().to_owned(), slots(one)))
        .collect()
}

#[test]
fn nothing_is_broken() {
    let nodes = three(&quick());
    fix(&nodes[0])
        .run()
        .status(0)
        .stdout_has("Nothing is broken");
    let run = fix(&nodes[0]).args(["--yes", "-o", "json"]).run().status(0);
    let lines = run.json_lines();
    assert_eq!(lines.last().unwrap()["event"], "done");
    assert_eq!(lines.last().unwrap()["exit_code"], 0);
}

#[test]
fn open_slots_of_every_kind_matrix() {
    for version in versions() {
        open_slots_of_every_kind(&quick().version(version));
    }
}

fn open_slots_of_every_kind(spec: &Spec) {
    let nodes = three(spec);
    let [a, b, c] = [nodes[0].id(), nodes[1].id(), nodes[2].id()];
    fill(&nodes, &names(0..60, 3));
    let mut before = contents(&nodes);
    // 0-9: in the middle of a move.
    for slot in 0..10 {
        setslot(&nodes[1], slot, &["IMPORTING", &a]);
        setslot(&nodes[0], slot, &["MIGRATING", &b]);
    }
    let moved = &names([3], 2)[1];
    let value = nodes[0].text(&["GET", moved]);
    nodes[0].cmd(&["DEL", moved]);
    put_asking(&nodes[1], moved, &value);
    // 10-19: several import, and hold nothing.
    for slot in 10..20 {
        setslot(&nodes[1], slot, &["IMPORTING", &a]);
        setslot(&nodes[2], slot, &["IMPORTING", &a]);
    }
    // 20-29: the owner alone is open.
    for slot in 20..30 {
        setslot(&nodes[0], slot, &["MIGRATING", &c]);
    }
    // 30-39: two import and hold keys, from one that does not own them, too.
    for (slot, n) in (30..40).zip(0..) {
        setslot(&nodes[1], slot, &["IMPORTING", &a]);
        setslot(&nodes[2], slot, &["IMPORTING", &b]);
        for (node, nth) in [(&nodes[1], 7), (&nodes[2], 8)] {
            let key = format!("{}:{n}", names([slot], nth)[nth - 1]);
            put_asking(node, &key, "elsewhere");
        }
    }
    let elsewhere = 20;
    let kinds: Vec<String> = planned(&nodes[2], "remedies")
        .into_iter()
        .map(|(code, _)| code)
        .collect();
    for kind in ["guard", "close", "finish"] {
        assert!(kinds.iter().any(|one| one == kind), "{kinds:?}");
    }
    // Without a terminal nothing is changed.
    fix(&nodes[0]).run().status(5).stderr_has("--yes");
    assert!(nodes[0].nodes_text().contains("->-"));
    fix(&nodes[0])
        .arg("--yes")
        .run()
        .status(0)
        .stdout_has("Everything is fixed");
    assert_closed(&nodes);
    is_healthy(&nodes[0]);
    let mut after = contents(&nodes);
    let gathered: Contents = after
        .iter()
        .filter(|(_, (value, _))| value.contains("elsewhere"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    assert_eq!(gathered.len(), elsewhere);
    after.retain(|key, _| !gathered.contains_key(key));
    before.retain(|_, (value, _)| !value.contains("elsewhere"));
    assert_same(&before, &after);
    fix(&nodes[0])
        .arg("--yes")
        .run()
        .status(0)
        .stdout_has("Nothing is broken");
}

#[test]
fn uncovered_slots_matrix() {
    for version in versions() {
        uncovered_slots(&quick().version(version));
    }
}

fn spec_is_redis_8(nodes: &Nodes) -> bool {
    nodes[0].version().starts_with("redis-8")
}

fn uncovered_slots(spec: &Spec) {
    let nodes = three(spec);
    let a = nodes[0].id();
    // 1: one holder; 2: two holders; 3: no node has a key.
    fill(&nodes, &names([1, 2], 4));
    setslot(&nodes[1], 2, &["IMPORTING", &a]);
    let other = format!("{}:other", names([2], 1)[0]);
    put_asking(&nodes[1], &other, "elsewhere");
    setslot(&nodes[1], 2, &["STABLE"]);
    let expected = 9;
    for node in nodes.iter() {
        for slot in ["1", "2", "3"] {
            // A node that has already heard of it has nothing to delete.
            let _ = node.try_cmd(&["CLUSTER", "DELSLOTS", slot]);
        }
    }
    // Redis 8 has to be made to tell what it holds of slots that are not its own.
    if !spec_is_redis_8(&nodes) {
        let refused = planned(&nodes[2], "refused");
        let nobody = ("nobody-holds".to_owned(), vec![(3, 3)]);
        assert!(refused.contains(&nobody), "{refused:?}");
    }
    fix(&nodes[2])
        .arg("--yes")
        .run()
        .status(6)
        .stderr_has("--assign-uncovered 3");
    fix(&nodes[2])
        .arg("--yes")
        .run()
        .status(3)
        .stderr_has("--assign-uncovered 3");
    fix(&nodes[2])
        .args(["--yes", "--assign-uncovered", "3"])
        .run()
        .status(0);
    assert_closed(&nodes);
    is_healthy(&nodes[0]);
    assert_eq!(contents(&nodes).len(), expected);
}

#[test]
fn an_unfinished_reshard_is_finished() {
    let nodes = walkthrough(&quick());
    fill(&nodes[..3], &names(0..200, 20));
    let before = contents(&nodes);
    let run = reshard(&nodes[0])
        .args([
            "--slot-ranges",
            "0-199",
            "--to",
            &nodes[3].id(),
            "--yes",
            "--rate",
            "100",
            "--max-open-slots",
            "4",
        ])
        .spawn();
    until(
        "some slots to move",
        Duration::from_secs(20),
        || match owned(&nodes[3]).len() {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        },
    );
    fix(&nodes[0])
        .args(["--yes", "--settle-timeout", "100ms"])
        .run()
        .status(3)
        .stderr_has("another redis-trib");
    run.signal(Signal::SIGKILL);
    run.wait();
    fix(&nodes[0]).arg("--yes").run().status(0);
    assert_closed(&nodes);
    is_healthy(&nodes[0]);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn two_values_stay_until_one_is_chosen_on_each_version() {
    for version in fault_versions() {
        two_values_stay_until_one_is_chosen(&quick().version(version));
    }
}

fn two_values_stay_until_one_is_chosen(spec: &Spec) {
    let nodes = three(spec);
    let [a, b] = [nodes[0].id(), nodes[1].id()];
    let keys = names(0..20, 2);
    fill(&nodes, &keys);
    // 0-9 move on; 10-19 go home. In slots 4 and 14 a key has two values.
    for slot in 0..20 {
        setslot(&nodes[1], slot, &["IMPORTING", &a]);
        if slot < 10 {
            setslot(&nodes[0], slot, &["MIGRATING", &b]);
        }
    }
    let mut expected = BTreeMap::new();
    for slot in [4, 14] {
        let key = names([slot], 1)[0].clone();
        put_asking(&nodes[1], &key, "other");
        expected.insert(key.clone(), nodes[0].text(&["GET", &key]));
    }
    let run = fix(&nodes[0]).arg("--yes").run().status(6);
    for key in expected.keys() {
        assert!(run.stderr.contains(key), "{}", run.stderr);
    }
    assert!(
        run.stderr.contains("--on-stray-conflict owner|other"),
        "{}",
        run.stderr
    );
    let open: Vec<usize> = (0..20)
        .filter(|slot| nodes[1].nodes_text().contains(&format!("[{slot}-<-")))
        .collect();
    assert_eq!(open, [4, 14]);
    fix(&nodes[0])
        .args(["--yes", "--on-conflict", "owner"])
        .run()
        .status(0);
    assert_closed(&nodes);
    let after = contents(&nodes);
    assert_eq!(after.len(), keys.len());
    for (key, value) in expected {
        assert!(after[&(0, key.into_bytes())].0.contains(&value));
    }
}

/// Consent is for the kinds of remedies that were shown: a later round with another kind asks again.
#[test]
fn a_new_kind_of_remedy_asks_again() {
    let nodes = three(&quick());
    // A node imports a slot from one that does not own it: it has to import from the owner before keys can move.
    let key = &names([3], 1)[0];
    setslot(&nodes[2], 3, &["IMPORTING", &nodes[1].id()]);
    put_asking(&nodes[2], key, "value");

    let mut terminal = fix(&nodes[0]).terminal();
    terminal
        .expect("imports them from ")
        .expect("Carry out these remedies? (type 'yes' to accept): ")
        .send_line("yes");
    terminal
        .expect("Carry out these remedies? (type 'yes' to accept): ")
        .send_line("no");
    let ended = terminal.finish().status(6);
    let screen = ended.screen();
    assert!(
        screen.contains("declined: nothing more was changed"),
        "{screen}"
    );
    assert!(screen.contains("To resume:"), "{screen}");
    assert!(screen.contains("redis-trib fix "), "{screen}");
    assert!(nodes[2].nodes_text().contains("-<-"));

    let run = fix(&nodes[0]).arg("--yes").run();
    run.status(0).stdout_has("Everything is fixed");
    assert_closed(&nodes);
    assert_eq!(nodes[2].text(&["GET", key]), "value");
}
