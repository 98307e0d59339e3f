//! Keys in slots that their node does not own, of which no state tells.

use std::time::Duration;

use redis::cmd;

use crate::support::cluster::{Nodes, three};
use crate::support::command::Trib;
use crate::support::findings::is_healthy;
use crate::support::keys::{on_owner, put_asking};
use crate::support::server::{Server, Spec, quick, versions};
use crate::support::slots::{assert_closed, names, setslot};
use crate::support::subcommands::fix;
use crate::support::wait::until;

/// How many keys a node has, shown or not.
fn size(node: &Server) -> u64 {
    let mut connection = node.connection().unwrap();
    cmd("DBSIZE").query(&mut connection).unwrap()
}

/// What the plan says of strays: how many keys, where.
fn told(node: &Server) -> u64 {
    let lines = fix(node)
        .args(["--dry-run", "-o", "json"])
        .run()
        .json_lines();
    let plan = lines.iter().find(|line| line["event"] == "remedies");
    let strays = plan.unwrap()["strays"].as_array().unwrap();
    strays.iter().map(|one| one["keys"].as_u64().unwrap()).sum()
}

fn get(nodes: &Nodes, key: &str) -> redis::Value {
    on_owner(nodes, key.as_bytes(), cmd("GET").arg(key))
}

#[test]
fn strays_are_collected_across_an_election_elsewhere() {
    let nodes = Nodes::with(6, &quick());
    nodes.form(3);
    let (owner, other) = (&nodes[0], &nodes[1]);
    let keys = names(0..60, 10);
    for slot in 0..60 {
        setslot(other, slot, &["IMPORTING", &owner.id()]);
    }
    for key in &keys {
        put_asking(other, key, "stray");
    }
    for slot in 0..60 {
        setslot(other, slot, &["STABLE"]);
    }
    let run = fix(owner)
        .args([
            "--yes",
            "--collect-strays",
            "--rate",
            "60",
            "--max-open-slots",
            "2",
        ])
        .timeout(Duration::from_secs(90))
        .spawn();
    until("keys to come", Duration::from_secs(30), || {
        match size(other) {
            0..580 => Ok(()),
            size => Err(size.to_string()),
        }
    });
    // No replica is elected before the run has seen that one has to be.
    let no_failover =
        |value| nodes[5].cmd(&["CONFIG", "SET", "cluster-replica-no-failover", value]);
    no_failover("yes");
    nodes[2].kill();
    run.wait_stderr("an election");
    no_failover("no");
    run.wait().status(0);
    assert_eq!((size(owner), size(other)), (600, 0));
}

/// What is not collected is as harmless afterwards as before.
#[test]
fn strays_that_are_too_big_open_no_slot() {
    let nodes = three(&quick());
    let (owner, other) = (&nodes[0], &nodes[1]);
    let keys = names(0..20, 1);
    for (slot, key) in keys.iter().enumerate() {
        setslot(other, slot, &["IMPORTING", &owner.id()]);
        put_asking(other, key, &"v".repeat(100_000));
        setslot(other, slot, &["STABLE"]);
    }
    owner.cmd(&["SET", &names([3], 2)[1], "of the owner"]);
    let collect = || fix(owner).args(["--yes", "--collect-strays"]);
    let refused = |trib: Trib, why: &str| {
        trib.run().status(6).stderr_has(why);
        assert_closed(&nodes);
        is_healthy(owner);
        assert_eq!((size(owner), size(other), told(owner)), (1, 20, 20));
    };
    refused(collect().args(["--big-key", "50KiB"]), "--on-big-key move");
    let used: u64 = owner.field("used_memory").unwrap().parse().unwrap();
    let limit = (used + (2 << 20)).to_string();
    owner.cmd(&["CONFIG", "SET", "maxmemory", &limit]);
    refused(collect(), "raise its maxmemory");
    owner.cmd(&["CONFIG", "SET", "maxmemory", "0"]);
    // A slot that was open before stays so.
    setslot(other, 3, &["IMPORTING", &owner.id()]);
    collect()
        .args(["--big-key", "50KiB"])
        .run()
        .status(6)
        .stderr_has("--on-big-key move");
    assert!(other.nodes_text().contains("[3-<-"));
    assert_eq!(other.nodes_text().matches("-<-").count(), 1);
    collect().run().status(0);
    assert_eq!((size(owner), size(other)), (21, 0));
    assert_closed(&nodes);
}

#[test]
fn strays_are_told_purged_and_collected_matrix() {
    for version in versions() {
        strays_are_told_purged_and_collected(&quick().version(version));
    }
}

fn strays_are_told_purged_and_collected(spec: &Spec) {
    let nodes = three(spec);
    let (owner, other) = (&nodes[0], &nodes[1]);
    // Slots 0 to 2 are the first node's: a key that both have, one that both have with other values, and one
    // that only the second has.
    let keys = names(0..3, 1);
    for (slot, key) in keys.iter().enumerate() {
        setslot(other, slot, &["IMPORTING", &owner.id()]);
        put_asking(other, key, "stray");
        setslot(other, slot, &["STABLE"]);
    }
    for (key, value) in keys.iter().zip(["stray", "owner"]) {
        on_owner(&nodes, key.as_bytes(), cmd("SET").arg(key).arg(value));
    }
    let stray = redis::Value::BulkString(b"stray".to_vec());
    let owners = redis::Value::BulkString(b"owner".to_vec());

    // They are no fault, and `fix` does not touch them unless asked to.
    fix(owner).arg("--yes").run().status(0);
    assert_eq!((told(owner), size(other)), (3, 3));

    // What the owner lacks, or has otherwise, is not deleted.
    let run = fix(owner).args(["--yes", "--purge-strays"]).run();
    run.status(6)
        .stderr_has("1 key deleted")
        .stderr_has("2 keys stay on");
    assert_eq!((told(owner), size(other)), (2, 2));
    assert_closed(&nodes);
    assert_eq!(get(&nodes, &keys[0]), stray);
    assert_eq!(get(&nodes, &keys[2]), redis::Value::Nil);

    // What it lacks is brought, and what it has otherwise is named, and stays.
    let run = fix(owner).args(["--yes", "--collect-strays"]).run();
    run.status(6).stderr_has(&keys[1]);
    assert_eq!(size(other), 1);
    assert_eq!(get(&nodes, &keys[1]), owners);
    assert_eq!(get(&nodes, &keys[2]), stray);
    let run = fix(owner).args(["--yes", "--collect-strays", "--on-conflict", "owner"]);
    run.run().status(0);
    assert_eq!((told(owner), size(other)), (0, 0));
    assert_closed(&nodes);
    assert_eq!(get(&nodes, &keys[1]), owners);
}
