//! Targets that answer and refuse writes: a full disk, no memory, too few replicas. No slot is opened to them, open ones
//! go back, and what cures them stays possible.

use crate::support::cluster::{Nodes, three, walkthrough};
use crate::support::command::Trib;
use crate::support::disk::{
    break_saves, fill_disk, free_disk, repair_saves, with_append_only_file,
};
use crate::support::findings::{codes, finding};
use crate::support::keys::{Contents, assert_same, contents, fill, put_asking};
use crate::support::server::{Server, quick, versions};
use crate::support::slots::{assert_closed, names, setslot};
use crate::support::subcommands::{check_json, fix, reshard};

/// `reshard` of slots of the first node, through the first node.
fn to(nodes: &Nodes, target: usize, slots: &str) -> Trib {
    reshard(&nodes[0]).args(["--slot-ranges", slots, "--to", &nodes[target].id(), "--yes"])
}

fn config(node: &Server, name: &str, value: &str) {
    node.cmd(&["CONFIG", "SET", name, value]);
}

fn is_open(nodes: &Nodes) -> bool {
    nodes.iter().any(|node| {
        let text = node.nodes_text();
        text.contains("->-") || text.contains("-<-")
    })
}

#[test]
fn matrix_a_target_that_can_not_save_gets_no_slot() {
    for version in versions() {
        let nodes = walkthrough(&quick().version(version));
        fill(&nodes, &names(0..20, 5));
        let before = contents(&nodes);
        break_saves(&nodes[1]);
        let refused = to(&nodes, 1, "0-9").run().status(3);
        let refused = refused.stderr_has("MISCONF").stderr_has(&nodes[1].addr());
        refused.stderr_has("BGSAVE").stderr_lacks("can't log in");
        // A plan says so, too, and so does a node that gives: MIGRATE is a write.
        let dry = reshard(&nodes[0]).args(["--slot-ranges", "0", "--to", &nodes[1].id()]);
        dry.arg("--dry-run").run().status(3).stderr_has("MISCONF");
        let away = reshard(&nodes[0]).args(["--from", &nodes[1].id(), "--slots", "3"]);
        let away = away.args(["--to", &nodes[2].id(), "--strategy", "keys", "--yes"]);
        away.run().status(3).stderr_has("no key can leave it");
        let rebalance = [
            "rebalance",
            "--use-empty-masters",
            "--strategy",
            "keys",
            "--yes",
            &nodes[0].addr(),
        ];
        Trib::new()
            .args(rebalance)
            .run()
            .status(3)
            .stderr_has("MISCONF");
        assert!(!is_open(&nodes));

        let json = check_json(&nodes[0].addr()).run().status(1).json();
        let found = finding(&json, "node-refuses-writes");
        assert_eq!(found["severity"], "error");
        assert_eq!(found["nodes"][0], nodes[1].id().as_str());
        assert!(
            found["remedy"].as_str().unwrap().ends_with("BGSAVE"),
            "{found}"
        );
        // The others go on.
        to(&nodes, 2, "0-9").run().status(0);
        repair_saves(&nodes[1]);
        to(&nodes, 1, "10-19").run().status(0);
        assert_closed(&nodes);
        assert_same(&before, &contents(&nodes));
    }
}

#[test]
fn matrix_other_refusals_are_told_by_name() {
    for version in versions() {
        let nodes = walkthrough(&quick().version(version));
        fill(&nodes, &names(0..20, 5));
        // The last one owns no slot.
        for target in [1, 3] {
            for (name, wrong, right, said) in [
                ("maxmemory", "1", "0", "OOM"),
                ("min-replicas-to-write", "1", "0", "NOREPLICAS"),
            ] {
                config(&nodes[target], name, wrong);
                let refused = to(&nodes, target, "0-9").run().status(3);
                refused.stderr_has(said).stderr_has(&nodes[target].addr());
                assert!(!is_open(&nodes));
                config(&nodes[target], name, right);
            }
        }
        to(&nodes, 3, "0-9").run().status(0);
        assert_closed(&nodes);
    }
}

#[test]
fn a_target_with_a_full_disk_gets_no_slot() {
    let nodes = Nodes::each(3, |_| with_append_only_file(quick()));
    nodes.form(3);
    fill(&nodes, &names(0..10, 5));
    let key = &names([6000], 1)[0];
    fill_disk(&nodes[1], key);
    to(&nodes, 1, "0-9")
        .run()
        .status(3)
        .stderr_has("append-only file (MISCONF)");
    assert!(!is_open(&nodes));
    let json = check_json(&nodes[0].addr()).run().status(1).json();
    assert!(codes(&json).contains(&"node-refuses-writes"), "{json:#}");
    free_disk(&nodes[1]);
    to(&nodes, 1, "0-9").run().status(0);
    assert_closed(&nodes);
}

/// Only what a server refuses is an error.
#[test]
fn a_node_that_fails_to_save_and_takes_writes_is_a_warning() {
    let nodes = three(&quick());
    config(&nodes[1], "stop-writes-on-bgsave-error", "no");
    break_saves(&nodes[1]);
    let json = check_json(&nodes[0].addr()).run().status(0).json();
    let found = finding(&json, "persistence-failing");
    assert_eq!(found["severity"], "warning");
    assert_eq!(found["nodes"][0], nodes[1].id().as_str());
    fill(&nodes, &names(0..5, 5));
    to(&nodes, 1, "0-4").run().status(0);
}

/// Slots 0-2 are open from the first node to the second: the first one has keys on both, the second only at home, and
/// the third none. Returns what the masters had before a client was redirected.
fn half_moved(nodes: &Nodes) -> Contents {
    fill(nodes, &names(0..2, 3));
    let before = contents(nodes);
    for slot in 0..3 {
        setslot(&nodes[1], slot, &["IMPORTING", &nodes[0].id()]);
        setslot(&nodes[0], slot, &["MIGRATING", &nodes[1].id()]);
    }
    put_asking(&nodes[1], &late(), "v");
    before
}

/// The key of the client that was redirected.
fn late() -> String {
    format!("{}:late", names([0], 1)[0])
}

/// All that there was before, and the key of the client that was redirected.
#[track_caller]
fn assert_complete(before: &Contents, nodes: &Nodes) {
    assert_closed(nodes);
    let mut after = contents(nodes);
    let redirected = after.remove(&(0, late().into_bytes()));
    assert!(redirected.is_some(), "the redirected client's key is lost");
    assert_same(before, &after);
}

#[test]
fn matrix_fix_brings_keys_back_from_a_target_without_memory() {
    for version in versions() {
        let nodes = three(&quick().version(version));
        let before = half_moved(&nodes);
        config(&nodes[1], "maxmemory", "1");
        fix(&nodes[0]).arg("--yes").run().status(0);
        assert_complete(&before, &nodes);
        for slot in 0..3 {
            let count = nodes[1].cmd(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
            assert_eq!(count, redis::Value::Int(0), "{version}: slot {slot}");
        }
    }
}

/// Keys that can't come back because of another one of their slot are found by clients all the same.
#[test]
fn keys_that_stay_on_a_target_without_memory_are_found() {
    let nodes = three(&quick());
    // More than are asked for in one go.
    let keys = names([0], 9_000);
    for (node, state, other) in [(1, "IMPORTING", 0), (0, "MIGRATING", 1)] {
        if node == 0 {
            // Servers tell the oldest or the newest keys first.
            fill(&nodes, &[&keys[..5], &keys[8_995..]].concat());
        }
        setslot(&nodes[node], 0, &[state, &nodes[other].id()]);
    }
    let mut pipe = redis::pipe();
    for key in &keys {
        pipe.cmd("ASKING").ignore();
        pipe.cmd("SET").arg(key).arg("other").ignore();
    }
    pipe.query::<()>(&mut nodes[1].connection().unwrap())
        .unwrap();
    config(&nodes[1], "maxmemory", "1");
    fix(&nodes[0])
        .arg("--yes")
        .run()
        .status(6)
        .stderr_has("--on-stray-conflict");
    let left = nodes[1].cmd(&["CLUSTER", "COUNTKEYSINSLOT", "0"]);
    assert!(matches!(left, redis::Value::Int(11..)), "{left:?}");
    let text = nodes[0].nodes_text();
    assert!(text.contains("[0->-"), "{text}");
}

#[test]
fn matrix_fix_closes_what_it_can_to_a_target_that_can_not_save() {
    for version in versions() {
        let nodes = three(&quick().version(version));
        let before = half_moved(&nodes);
        break_saves(&nodes[1]);
        let refused = fix(&nodes[0]).arg("--yes").run();
        let text = format!("{}{}", refused.stdout, refused.stderr);
        assert!(text.contains("MISCONF"), "{version}: {text}");
        // One of them has a key there, which MIGRATE can't fetch.
        for node in &nodes[..2] {
            let text = node.nodes_text();
            assert!(text.contains("[0-"), "{version}: {text}");
            assert!(
                !text.contains("[1-") && !text.contains("[2-"),
                "{version}: {text}"
            );
        }
        repair_saves(&nodes[1]);
        fix(&nodes[0]).arg("--yes").run().status(0);
        assert_complete(&before, &nodes);
    }
}

/// The replica of a target that can't save takes over, and the moves go on to it.
#[test]
fn matrix_a_failover_cures_a_target_with_open_slots() {
    for version in versions() {
        let nodes = Nodes::with(6, &quick().version(version));
        nodes.form(3);
        let before = half_moved(&nodes);
        break_saves(&nodes[1]);
        let failover = [
            "failover",
            &nodes[0].addr(),
            "--of",
            &nodes[1].addr(),
            "--yes",
        ];
        let done = Trib::new().args(failover).run().status(0);
        done.stdout_has("redis-trib fix");
        // A replica that can't save exits at the first write of its master (Redis ≥ 7.0).
        repair_saves(&nodes[1]);
        fix(&nodes[0]).arg("--yes").run().status(0);
        assert_complete(&before, &nodes);
    }
}

/// Without a fault that it cures, it stays refused.
#[test]
fn a_failover_with_open_slots_is_refused_on_a_sound_master() {
    let nodes = Nodes::with(6, &quick());
    nodes.form(3);
    half_moved(&nodes);
    for (of, how) in [
        (0, None),
        (1, None),
        (0, Some("--force")),
        (0, Some("--takeover")),
    ] {
        let failover = [
            "failover",
            &nodes[2].addr(),
            "--of",
            &nodes[of].addr(),
            "--yes",
        ];
        Trib::new()
            .args(failover)
            .args(how)
            .run()
            .status(3)
            .stderr_has("open");
    }
    // A source that can't save is no target: its replica does not know what has moved.
    break_saves(&nodes[0]);
    let failover = [
        "failover",
        &nodes[2].addr(),
        "--of",
        &nodes[0].addr(),
        "--yes",
    ];
    Trib::new()
        .args(failover)
        .run()
        .status(3)
        .stderr_has("open");
}

#[test]
fn imports_and_restores_are_refused_before_a_key_is_written() {
    let nodes = three(&quick());
    let source = quick().plain().start();
    source.cmd(&["SET", "k", "v"]);
    config(&nodes[1], "maxmemory", "1");
    let import = [
        "import",
        "--from",
        &source.addr(),
        &nodes[0].addr(),
        "--yes",
    ];
    let refused = Trib::new().args(import).run().status(3);
    refused.stderr_has("OOM").stderr_has(&nodes[1].addr());
}
