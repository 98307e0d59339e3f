//! `fix` if several nodes own a slot because they are cut off from each other, and if members see other
//! owners than the rest and gossip does not correct it.

use std::collections::BTreeSet;

use redis::cmd;

use crate::support::cluster::{Nodes, three};
use crate::support::command::Trib;
use crate::support::findings::is_healthy;
use crate::support::keys::{assert_same, contents, fill};
use crate::support::network::Network;
use crate::support::server::{Server, Spec, quick, versions};
use crate::support::slots::{assert_closed, names, owned, setslot};
use crate::support::subcommands::fix;
use crate::support::wait::{PATIENCE, until};

/// Three masters, each on a host of its own, whose bus can be cut while clients reach them. They do not hold
/// each other for dead meanwhile.
struct Apart {
    network: Network,
    nodes: Nodes,
}

impl Apart {
    fn new(spec: &Spec) -> Self {
        let network = Network::new();
        let nodes = Nodes::each(3, |index| {
            spec.clone()
                .host_in(&network, &format!("127.0.9.{}", index + 1))
        });
        nodes.form(3);
        let apart = Self { network, nodes };
        apart.set_timeout(60_000);
        apart
    }

    fn set_timeout(&self, milliseconds: u32) {
        for node in self.nodes.iter() {
            let value = milliseconds.to_string();
            node.cmd(&["CONFIG", "SET", "cluster-node-timeout", &value]);
        }
    }

    fn fix(&self) -> Trib {
        self.network.trib().args(["fix", &self.nodes[0].addr()])
    }

    /// Links the nodes again, and waits until they have exchanged messages.
    #[track_caller]
    fn heal(&self) {
        self.network.heal();
        // Links that had no answer for half of this are made anew.
        self.set_timeout(4000);
        let epochs = || -> BTreeSet<String> {
            let nodes = self.nodes.iter();
            nodes
                .map(|node| node.field("cluster_current_epoch").unwrap())
                .collect()
        };
        until("all to have heard all", PATIENCE, || {
            let epochs = epochs();
            let texts: Vec<String> = self.nodes.iter().map(Server::nodes_text).collect();
            let is_heard = !texts.iter().any(|text| text.contains("fail"));
            match epochs.len() == 1 && is_heard {
                true => Ok(()),
                false => Err(format!("{epochs:?}\n{}", texts.join("\n"))),
            }
        });
    }

    /// How many nodes say that they own a slot.
    fn claimants(&self, slot: usize) -> Vec<usize> {
        let claims = |node: &Server| owned(node).iter().any(|(a, b)| (*a..=*b).contains(&slot));
        (0..3).filter(|n| claims(&self.nodes[*n])).collect()
    }

    /// All names of keys, wherever they are.
    fn keys(&self) -> BTreeSet<String> {
        let nodes = self.nodes.iter();
        nodes
            .flat_map(|node| {
                let mut connection = node.connection().unwrap();
                let keys: Vec<String> = cmd("KEYS").arg("*").query(&mut connection).unwrap();
                keys
            })
            .collect()
    }
}

/// A host of its own needs --bind-source-addr, which 6.2 does not have.
fn of_hosts() -> impl Iterator<Item = &'static str> {
    let versions = versions().iter().copied();
    versions.filter(|version| *version != "redis-6.2")
}

/// A node takes a slot for its own, and puts these there.
fn claim(node: &Server, slot: usize, keys: &[(&str, &str)]) {
    setslot(node, slot, &["NODE", &node.id()]);
    for (key, value) in keys {
        node.cmd(&["SET", key, value]);
    }
}

fn get_asking(node: &Server, key: &str) -> Option<String> {
    let mut connection = node.connection().unwrap();
    cmd("ASKING").query::<()>(&mut connection).unwrap();
    cmd("GET").arg(key).query(&mut connection).unwrap()
}

#[test]
fn several_owners_who_can_not_hear_each_other_matrix() {
    for version in of_hosts() {
        several_owners_who_can_not_hear_each_other(&quick().version(version));
    }
}

fn several_owners_who_can_not_hear_each_other(spec: &Spec) {
    let apart = Apart::new(spec);
    let [a, b, c] = [&apart.nodes[0], &apart.nodes[1], &apart.nodes[2]];
    let tags = names(0..9, 1);
    let key = |slot: usize, what: &str| format!("{}:{what}", tags[slot]);
    let put = |node: &Server, slot: usize, what: &str, value: &str| {
        node.cmd(&["SET", &key(slot, what), value]);
    };
    for (slot, what) in [
        (2, "a"),
        (4, "a"),
        (5, "same"),
        (6, "two"),
        (7, "a"),
        (8, "a"),
    ] {
        put(a, slot, what, "v");
    }
    apart.network.cut_bus();
    // Keys nowhere; on the one; on the other; on both, others; on both, the same; two values.
    claim(b, 1, &[]);
    claim(b, 2, &[]);
    claim(b, 3, &[(&key(3, "b"), "v")]);
    claim(b, 4, &[(&key(4, "b"), "v"), (&key(4, "b2"), "v")]);
    claim(b, 5, &[(&key(5, "same"), "v")]);
    claim(b, 6, &[(&key(6, "two"), "other")]);
    // Three of them.
    claim(b, 7, &[(&key(7, "b"), "v")]);
    claim(c, 7, &[(&key(7, "c"), "v")]);
    // As a fix leaves it that was killed after it had fenced the loser.
    claim(b, 8, &[(&key(8, "b"), "v")]);
    let mut fence = redis::pipe();
    fence.atomic();
    fence.cmd("CLUSTER").arg("DELSLOTS").arg(8).ignore();
    for state in ["IMPORTING", "NODE"] {
        let set = fence.cmd("CLUSTER").arg("SETSLOT");
        set.arg(8).arg(state).arg(b.id()).ignore();
    }
    fence.exec(&mut a.connection().unwrap()).unwrap();
    let before = apart.keys();
    assert_eq!(before.len(), 12, "{before:?}");

    // The owners are fenced, and the keys brought together, while the nodes are cut off.
    let run = apart.fix().arg("--yes").timeout(PATIENCE * 2).run();
    run.status(6)
        .stderr_has(&key(6, "two"))
        .stderr_has("--on-stray-conflict owner|other");
    for slot in 1..9 {
        assert_eq!(apart.claimants(slot).len(), 1, "slot {slot}");
    }
    assert_eq!(before, apart.keys());

    // What they hear of each other then costs no key.
    apart.heal();
    assert_eq!(before, apart.keys());
    let run = apart.fix().arg("--yes").run();
    assert!(run.stderr.contains(&key(6, "two")), "{}", run.stderr);
    let values: BTreeSet<_> = [a, b]
        .iter()
        .filter_map(|node| get_asking(node, &key(6, "two")))
        .collect();
    assert_eq!(values.len(), 2, "both stay: {values:?}");
    let winner = apart.claimants(6)[0];
    let value = get_asking(&apart.nodes[winner], &key(6, "two")).unwrap();
    apart
        .fix()
        .args(["--yes", "--on-conflict", "owner"])
        .run()
        .status(0);
    assert_closed(&apart.nodes);
    let after = contents(&apart.nodes);
    assert_eq!(after.len(), before.len());
    assert!(after[&(0, key(6, "two").into_bytes())].0.contains(&value));
}

/// A node that missed newer epochs would claim the slots with an epoch that is older than the view of other
/// nodes. They correct it as soon as they receive the claim, and it deletes its keys.
#[test]
fn who_has_not_heard_of_the_newest_epoch_does_not_win_matrix() {
    for version in of_hosts() {
        who_has_not_heard_of_the_newest_epoch_does_not_win(&quick().version(version));
    }
}

fn who_has_not_heard_of_the_newest_epoch_does_not_win(spec: &Spec) {
    let apart = Apart::new(spec);
    let [a, b] = [&apart.nodes[0], &apart.nodes[1]];
    fill(&apart.nodes, &names([1, 2, 3], 3));
    let before = apart.keys();
    apart.network.cut_bus_of(a.host());
    let other = names([1], 1)[0].replace(":0", ":b");
    claim(b, 1, &[(&other, "v")]);
    claim(b, 2, &[]);
    claim(b, 3, &[]);
    for node in [&apart.nodes[2], b, &apart.nodes[2], b] {
        node.cmd(&["CLUSTER", "BUMPEPOCH"]);
        until("the other to hear it", PATIENCE, || {
            let newest = node.field("cluster_my_epoch");
            match apart.nodes[1..]
                .iter()
                .all(|one| one.field("cluster_current_epoch") == newest)
            {
                true => Ok(()),
                false => Err(format!("{newest:?}")),
            }
        });
    }
    let c = apart.nodes[2].nodes_text();
    let seen = c.lines().find(|line| line.starts_with(&b.id())).unwrap();
    assert!(seen.contains(" 1-3 "), "the third has heard of it: {c}");
    // And no node claims this slot any more.
    for node in [b, a] {
        node.cmd(&["CLUSTER", "DELSLOTS", "3"]);
    }
    apart.fix().arg("--yes").run();
    apart.heal();
    apart.fix().arg("--yes").run().status(0);
    assert_closed(&apart.nodes);
    let after = contents(&apart.nodes);
    assert_eq!(after.len(), before.len() + 1);
    apart
        .network
        .trib()
        .args(["check", &a.addr()])
        .run()
        .status(0);
}

#[test]
fn an_owner_that_is_held_for_dead_is_no_loser_yet() {
    let apart = Apart::new(&quick());
    let [a, b] = [&apart.nodes[0], &apart.nodes[1]];
    fill(&apart.nodes, &names([1], 2));
    apart.network.cut_bus_of(b.host());
    let other = names([1], 1)[0].replace(":0", ":b");
    claim(b, 1, &[(&other, "v")]);
    apart.set_timeout(2000);
    until("it to be held for dead", PATIENCE, || {
        let text = a.nodes_text();
        let line = text.lines().find(|line| line.starts_with(&b.id())).unwrap();
        match line.contains(" master,fail ") || line.contains(",fail ") {
            true => Ok(()),
            false => Err(text),
        }
    });
    let before = apart.keys();
    let run = apart.fix().arg("--yes").run().status(3);
    let name = format!("{} ({})", b.addr(), &b.id()[..8]);
    assert!(run.stderr.contains(&name), "{}", run.stderr);
    assert!(
        run.stderr.contains("the other nodes flag it as failed"),
        "{}",
        run.stderr
    );
    // The message names the danger, and the nodes that are in danger.
    let danger = format!(
        "{} ({}) claims slots 1 too: as soon as the two are linked, {} ({}), which has the older config epoch, \
         deletes its keys in them (2 keys)",
        a.addr(),
        &a.id()[..8],
        a.addr(),
        &a.id()[..8]
    );
    assert!(run.stderr.contains(&danger), "{}", run.stderr);
    assert_eq!(before, apart.keys());
    assert_eq!(apart.claimants(1), [0, 1]);
    // And so it is.
    apart.heal();
    until("one to have lost it", PATIENCE, || {
        match apart.claimants(1)[..] {
            [1] => Ok(()),
            _ => Err(a.nodes_text()),
        }
    });
    assert_eq!(apart.keys().into_iter().collect::<Vec<_>>(), [other]);
}

#[test]
fn masters_of_the_same_epoch_matrix() {
    for version in of_hosts() {
        masters_of_the_same_epoch(&quick().version(version));
    }
}

/// As soon as they hear each other one of them takes another: it stays for as long as they can't.
fn masters_of_the_same_epoch(spec: &Spec) {
    let apart = Apart::new(spec);
    apart.network.cut_bus();
    for node in &apart.nodes[..2] {
        node.cmd(&["CLUSTER", "BUMPEPOCH"]);
    }
    let check = || {
        let line = ["check", &apart.nodes[2].addr(), "-o", "json"];
        apart.network.trib().args(line).run().json()
    };
    let codes = |json: &serde_json::Value| -> String { json["findings"].to_string() };
    assert!(codes(&check()).contains("epoch-collision"));
    // A new one is no more than the highest that a node has heard of: it has that already.
    apart
        .fix()
        .arg("--yes")
        .run()
        .status(6)
        .stderr_has("shares its config epoch with another master still");
    apart.heal();
    for node in apart.nodes.iter() {
        until("it to know three epochs", PATIENCE, || {
            let text = node.nodes_text();
            let epochs: BTreeSet<_> = text.lines().map(|line| line.split(' ').nth(6)).collect();
            match epochs.len() {
                3 => Ok(()),
                _ => Err(text),
            }
        });
    }
    assert!(!codes(&check()).contains("epoch-collision"));
    apart.fix().run().status(0).stdout_has("Nothing is broken");
    assert_closed(&apart.nodes);
}

#[test]
fn views_that_do_not_settle_matrix() {
    for version in versions() {
        views_that_do_not_settle(&quick().version(version));
    }
}

/// The owner dropped slots that the other nodes still assign to it, and a node that imports a slot
/// does not learn of its owner.
fn views_that_do_not_settle(spec: &Spec) {
    let nodes = three(spec);
    let [a, b, c] = [&nodes[0], &nodes[1], &nodes[2]];
    fill(&nodes, &names(3..9, 2));
    let before = contents(&nodes);
    // What the third node is told below has to be older than the claim of the first node: else the
    // first would lose the slot.
    a.cmd(&["CLUSTER", "BUMPEPOCH"]);
    until("the third to have heard of it", PATIENCE, || {
        let [here, there] = [a, c].map(|node| node.field("cluster_current_epoch"));
        if here == there {
            Ok(())
        } else {
            Err(format!("{here:?} {there:?}"))
        }
    });
    a.cmd(&["CLUSTER", "DELSLOTS", "3", "4"]);
    // Valkey takes what it imports from a node that does not own it, and the owner loses its keys then.
    if !c.version().starts_with("valkey") {
        for state in ["IMPORTING", "NODE"] {
            setslot(c, 7, &[state, &b.id()]);
        }
        let plan = fix(c).args(["--dry-run", "-o", "json"]).run().status(0);
        plan.stdout_has("\"code\":\"tell\"");
    }
    fix(c).arg("--yes").run().status(0);
    assert_closed(&nodes);
    is_healthy(c);
    assert_same(&before, &contents(&nodes));
}
