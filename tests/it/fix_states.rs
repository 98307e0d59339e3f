//! Every state that three nodes can have for a slot, on real servers. Each slot of one cluster is a
//! case, and all are fixed at once. States that gossip would undo too soon (two owners) are tested on
//! the planner alone (`plan::fix::tests`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redis::cmd;

use crate::support::cluster::{Nodes, three};
use crate::support::command::Trib;
use crate::support::server::{Server, Spec, quick, versions};
use crate::support::slots::{assert_closed, names, owned};
use crate::support::subcommands::fix;
use crate::support::wait::{PATIENCE, until};

/// What a node that does not own the slot says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    No,
    FromOwner,
    FromOther,
}

/// One slot of the first node.
#[derive(Debug, Clone, Copy)]
struct Case {
    /// The node that the owner migrates it to.
    migrating: Option<usize>,
    /// What the two others say.
    others: [Open; 2],
    /// Which nodes have a key of their own, and which have a key that others have too.
    keys: [bool; 3],
    shared: [bool; 3],
    /// Whether it has an owner in the end.
    owned: bool,
}

fn cases() -> Vec<Case> {
    const OPENS: [Open; 3] = [Open::No, Open::FromOwner, Open::FromOther];
    const HOLDS: [[bool; 3]; 8] = [
        [false, false, false],
        [true, false, false],
        [false, true, false],
        [false, false, true],
        [true, true, false],
        [true, false, true],
        [false, true, true],
        [true, true, true],
    ];
    let mut cases = Vec::new();
    for migrating in [None, Some(1), Some(2)] {
        for one in OPENS {
            for two in OPENS {
                for keys in HOLDS {
                    for shared in [
                        [false, false, false],
                        [true, true, false],
                        [true, true, true],
                    ] {
                        for owned in [true, false] {
                            cases.push(Case {
                                migrating,
                                others: [one, two],
                                keys,
                                shared,
                                owned,
                            });
                        }
                    }
                }
            }
        }
    }
    cases
}

fn pipe(node: &Server, commands: &[Vec<String>]) {
    let mut connection = node.connection().unwrap();
    for commands in commands.chunks(512) {
        let mut pipe = redis::pipe();
        for words in commands {
            let mut command = redis::Cmd::new();
            for word in words {
                command.arg(word);
            }
            pipe.add_command(command).ignore();
        }
        pipe.query::<()>(&mut connection).unwrap();
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Sets all cases up, slot by slot, and tells which keys there are.
fn set_up(nodes: &Nodes, cases: &[Case]) -> BTreeSet<String> {
    let ids: Vec<String> = nodes.iter().map(Server::id).collect();
    let tags = names(0..cases.len(), 1);
    let mut all = BTreeSet::new();
    let mut commands: [Vec<Vec<String>>; 3] = Default::default();
    for (slot, (case, tag)) in cases.iter().zip(&tags).enumerate() {
        for commands in &mut commands[1..] {
            commands.push(words(&format!(
                "CLUSTER SETSLOT {slot} IMPORTING {}",
                ids[0]
            )));
        }
        for (node, commands) in commands.iter_mut().enumerate() {
            let own = case.keys[node].then(|| format!("{tag}:own{node}"));
            let shared = case.shared[node].then(|| format!("{tag}:shared"));
            for key in [own, shared].into_iter().flatten() {
                commands.push(words("ASKING"));
                commands.push(words(&format!("SET {key} {key}")));
                all.insert(key);
            }
        }
        for (node, commands) in commands.iter_mut().enumerate().skip(1) {
            let state = match case.others[node - 1] {
                Open::No => "STABLE".to_owned(),
                Open::FromOwner => continue,
                Open::FromOther => format!("IMPORTING {}", ids[3 - node]),
            };
            commands.push(words(&format!("CLUSTER SETSLOT {slot} {state}")));
        }
        if let Some(to) = case.migrating {
            commands[0].push(words(&format!(
                "CLUSTER SETSLOT {slot} MIGRATING {}",
                ids[to]
            )));
        }
    }
    for (node, commands) in nodes.iter().zip(&commands) {
        pipe(node, commands);
    }
    // Slots without owner: DELSLOTS at the owner first, or its next ping would undo it.
    let lost: Vec<String> = (0..cases.len())
        .filter(|slot| !cases[*slot].owned)
        .map(|slot| slot.to_string())
        .collect();
    for node in nodes.iter() {
        let mut connection = node.connection().unwrap();
        for slot in &lost {
            // A node that has already heard of it has nothing to delete.
            let delete = cmd("CLUSTER").arg("DELSLOTS").arg(slot).to_owned();
            let _ = delete.query::<()>(&mut connection);
        }
    }
    all
}

/// The nodes that have each key.
fn holders(nodes: &Nodes) -> BTreeMap<String, Vec<usize>> {
    let mut holders: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        let mut connection = node.connection().unwrap();
        let keys: Vec<String> = cmd("KEYS").arg("*").query(&mut connection).unwrap();
        for key in keys.into_iter().filter(|key| key.starts_with('{')) {
            holders.entry(key).or_default().push(index);
        }
    }
    holders
}

fn keys(nodes: &Nodes) -> BTreeSet<String> {
    holders(nodes).into_keys().collect()
}

#[test]
fn every_state_of_a_slot_matrix() {
    for version in versions() {
        let mut cases = cases();
        if versions().len() > 1 {
            // Every seventh, and with each version another seventh.
            let first = version.len() % 7;
            cases = cases.into_iter().skip(first).step_by(7).collect();
        }
        every_state_of_a_slot(&quick().version(version), &cases);
    }
}

fn every_state_of_a_slot(spec: &Spec, cases: &[Case]) {
    let nodes = three(spec);
    let mut all = set_up(&nodes, cases);
    if spec_takes_what_it_imports(&nodes) {
        // A node that imports a slot from a node that does not own it takes the slot. If two nodes
        // do so, one of them loses its keys, before `fix` can run.
        let mut last = BTreeSet::new();
        until("the servers to come to rest", PATIENCE, || {
            let now = keys(&nodes);
            if now == last {
                return Ok(());
            }
            last = now;
            std::thread::sleep(Duration::from_secs(2));
            Err(last.len().to_string())
        });
        all = last;
    }
    let ranges = format!("0-{}", cases.len() - 1);
    // A dry run changes nothing.
    let before: Vec<String> = nodes.iter().map(open_on).collect();
    let dry_run = fix(&nodes[1]).args(["--dry-run", "-o", "json"]);
    dry_run.timeout(PATIENCE * 4).run();
    assert_eq!(before, nodes.iter().map(open_on).collect::<Vec<_>>());
    fix(&nodes[1])
        .args(["--yes", "--assign-uncovered", &ranges])
        .timeout(PATIENCE * 4)
        .run()
        .status(0);
    assert_closed(&nodes);
    // Strays are where they were: no key is gone.
    assert_eq!(all, seen(&nodes, &all), "keys are gone");
    fix(&nodes[2])
        .args(["--yes", "--collect-strays"])
        .timeout(PATIENCE * 4)
        .run()
        .status(0);
    assert_closed(&nodes);
    let owners: Vec<Vec<(usize, usize)>> = nodes.iter().map(owned).collect();
    let now = holders(&nodes);
    assert_eq!(all, now.keys().cloned().collect());
    for (key, nodes) in now {
        let [only] = nodes[..] else {
            panic!("{key} is on {nodes:?}");
        };
        let slot = crate::support::slots::slot_of(key.as_bytes());
        let is_owned = owners[only].iter().any(|(a, b)| (*a..=*b).contains(&slot));
        assert!(
            is_owned,
            "{key} is on {only}, which does not own slot {slot}"
        );
    }
    Trib::new()
        .args(["check", &nodes[0].addr()])
        .run()
        .status(0);
}

fn spec_takes_what_it_imports(nodes: &Nodes) -> bool {
    nodes[0].version().starts_with("valkey")
}

/// Redis 8 shows keys of slots that a node owns or imports only; what it hides is counted on.
fn seen(nodes: &Nodes, all: &BTreeSet<String>) -> BTreeSet<String> {
    let shown = keys(nodes);
    if nodes[0].version().starts_with("redis-8") {
        return all.clone();
    }
    shown
}

fn open_on(node: &Server) -> String {
    let text = node.nodes_text();
    let myself = text.lines().find(|line| line.contains("myself")).unwrap();
    let open = myself
        .split(' ')
        .skip(8)
        .filter(|field| field.starts_with('['));
    open.collect::<Vec<_>>().join(" ")
}
