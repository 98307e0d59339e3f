//! Keys in slots that their node does not own, of which no state tells.

use redis::cmd;

use crate::support::cluster::{Nodes, three};
use crate::support::keys::{on_owner, put_asking};
use crate::support::server::{Server, Spec, quick, versions};
use crate::support::slots::{assert_closed, names, setslot};
use crate::support::subcommands::fix;

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
