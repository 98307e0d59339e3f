//! How far a backup, a restore, an import and a comparison have come: in all, and each file or master.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::cluster::three;
use crate::support::command::{Finished, Trib};
use crate::support::keys::fill;
use crate::support::server::quick;

const KEYS: u64 = 3_000;

/// The last progress of a phase.
#[track_caller]
fn last(ended: &Finished, phase: &str) -> Value {
    let mut events = ended.json_lines().into_iter();
    let of_phase = |event: &Value| event["event"] == "progress" && event["phase"] == phase;
    events.rfind(of_phase).unwrap()
}

/// Checks that all of the parts are done, and that they add up to the sum; returns the names and the amount.
#[track_caller]
fn complete(progress: &Value, unit: &str) -> (BTreeSet<String>, u64) {
    assert_eq!(progress["unit"], unit, "{progress}");
    let parts = progress["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 3, "{progress}");
    for amount in parts.iter().chain([progress]) {
        assert!(amount["done"].as_u64() > Some(0), "{progress}");
        assert_eq!(amount["done"], amount["total"], "{progress}");
        assert!(amount["per_second"].as_u64() > Some(0), "{progress}");
        assert_eq!(amount["time_left_ms"], 0, "{progress}");
    }
    let done = parts.iter().map(|part| part["done"].as_u64().unwrap());
    let done: u64 = done.sum();
    assert_eq!(progress["done"], done, "{progress}");
    let names = parts.iter().map(|part| part["name"].as_str().unwrap());
    (names.map(ToString::to_string).collect(), done)
}

#[test]
fn the_sum_and_each_file_or_master_are_told() {
    let (source, target) = (three(&quick()), three(&quick()));
    let names: Vec<String> = (0..KEYS).map(|n| format!("key:{n}")).collect();
    fill(&source, &names);
    let masters: BTreeSet<String> = source.addrs().into_iter().collect();
    let (from, node) = (source[1].addr(), target[0].addr());
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("backup");
    let path = path.to_str().unwrap();
    let go = |args: &[&str]| Trib::new().args(args).args(["-o", "json"]).run().status(0);

    let saved = last(&go(&["backup", &from, path]), "fetch");
    let (names, bytes) = complete(&saved, "bytes");
    assert_eq!(names, masters);
    // The values are compressed.
    assert!(bytes > KEYS * 10);

    let restored = last(&go(&["restore", path, &node, "--yes"]), "copy");
    let (names, keys) = complete(&restored, "keys");
    assert!(names.iter().all(|name| name.ends_with(".rdb")), "{names:?}");
    assert_eq!(keys, KEYS);

    for node in &*target {
        node.cmd(&["FLUSHALL"]);
    }
    let imported = go(&["import", "--from", &from, &node, "--yes", "--verify"]);
    for phase in ["copy", "compare"] {
        let (names, keys) = complete(&last(&imported, phase), "keys");
        assert_eq!((names, keys), (masters.clone(), KEYS), "{phase}");
    }
}
