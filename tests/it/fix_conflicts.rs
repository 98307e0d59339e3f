//! `fix` where a key has several values, on several nodes: what is equal becomes one, the rest stays and is named.

use std::collections::BTreeSet;

use redis::{Connection, cmd};

use crate::support::cluster::three;
use crate::support::findings::is_healthy;
use crate::support::keys::{assert_same, contents};
use crate::support::server::{Server, Spec, quick, versions};
use crate::support::slots::{assert_closed, names, setslot};
use crate::support::subcommands::fix;
use crate::support::values::{command, on, values, words};

const SLOT: usize = 7;

fn has(connection: &mut Connection, key: &str) -> bool {
    cmd("ASKING").query::<()>(connection).unwrap();
    cmd("EXISTS").arg(key).query(connection).unwrap()
}

fn holders(nodes: &[Server], key: &str) -> BTreeSet<usize> {
    let holds = |node: &usize| has(&mut nodes[*node].connection().unwrap(), key);
    (0..nodes.len()).filter(holds).collect()
}

#[test]
fn several_holders_of_several_values_matrix() {
    for version in versions() {
        several_holders_of_several_values(&quick().version(version));
    }
}

fn several_holders_of_several_values(spec: &Spec) {
    let nodes = three(spec);
    let tag = &names([SLOT], 1)[0];
    let key = |name: &str| format!("{tag}{name}");
    let mut connections: Vec<Connection> = nodes
        .iter()
        .map(|node| node.connection().unwrap())
        .collect();
    for node in &nodes[1..] {
        setslot(node, SLOT, &["IMPORTING", &nodes[0].id()]);
    }
    let order: Vec<usize> = (0..900).collect();
    let reversed: Vec<usize> = (0..900).rev().collect();
    for (connection, order) in connections.iter_mut().zip([&order, &reversed, &order]) {
        for command in values(tag, order, false, false) {
            on(connection, &command);
        }
    }
    // The second has another list and other groups of its stream, the third another string; each has one more.
    for line in [
        format!("LSET {} 2999 other", key("list")),
        format!("XGROUP SETID {} idlers 3-1", key("stream")),
        format!("SET {} b", key("b")),
    ] {
        on(&mut connections[1], &command(&line));
    }
    on(&mut connections[2], &words(["SET", &key("string"), "z"]));
    on(&mut connections[2], &words(["SET", &key("c"), "c"]));
    let differing = ["list", "stream", "string"];
    let held: Vec<usize> = differing
        .iter()
        .map(|name| holders(&nodes, &key(name)).len())
        .collect();
    assert_eq!(held, [3, 3, 3]);
    let said = fix(&nodes[0])
        .arg("--yes")
        .run()
        .status(6)
        .stderr_has("--on-stray-conflict owner|other")
        .stderr;
    assert!(
        differing.iter().any(|name| said.contains(&key(name))),
        "{said}"
    );
    for (name, other) in [("list", 1), ("stream", 1), ("string", 2)] {
        let holders = holders(&nodes, &key(name));
        assert!(
            holders.is_superset(&[0, other].into()),
            "{name}: {holders:?}"
        );
    }
    // Which of the other two is the other one?
    let of_owner = || nodes[0].text(&["GET", &key("string")]);
    let string = of_owner();
    fix(&nodes[0])
        .args(["--yes", "--on-conflict", "other"])
        .run()
        .status(3)
        .stderr_has(&nodes[1].addr())
        .stderr_has(&nodes[2].addr())
        .stderr_has("may mean any of these");
    assert_eq!(string, of_owner());
    assert!(holders(&nodes, &key("string")).contains(&2));
    fix(&nodes[0])
        .args(["--yes", "--on-conflict", "owner"])
        .run()
        .status(0);
    assert_closed(&nodes);
    is_healthy(&nodes[0]);
    assert_eq!(string, of_owner());
    let after = contents(&nodes);
    // Seven keys of all three, and two more.
    assert_eq!(after.len(), 10);
    let last = nodes[0].cmd(&["LINDEX", &key("list"), "-1"]);
    assert!(format!("{last:?}").contains("2999"), "{last:?}");

    // Of two the other one is known.
    setslot(&nodes[1], SLOT, &["IMPORTING", &nodes[0].id()]);
    on(
        &mut connections[1],
        &words(["SET", &key("string"), "theirs"]),
    );
    fix(&nodes[0])
        .args(["--yes", "--on-conflict", "other"])
        .run()
        .status(0);
    assert_closed(&nodes);
    assert_eq!(of_owner(), "theirs");
    let mut now = contents(&nodes);
    let changed = (0, key("string").into_bytes());
    now.insert(changed.clone(), after[&changed].clone());
    assert_same(&after, &now);
}
