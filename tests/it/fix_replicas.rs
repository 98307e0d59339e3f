//! `fix` and what only replicas know or have: slots that are open there alone, states towards nodes that died,
//! replicas of replicas, and of masters that the others have forgotten.

use std::fs;
use std::time::Duration;

use crate::support::cluster::{Nodes, three, walkthrough};
use crate::support::command::Trib;
use crate::support::findings::is_healthy;
use crate::support::keys::{assert_same, contents, fill, put_asking};
use crate::support::server::{Server, Spec, quick, versions};
use crate::support::slots::{assert_closed, names, setslot};
use crate::support::subcommands::fix;
use crate::support::views::is_held_for_dead;
use crate::support::wait::{PATIENCE, until};

/// Valkey sends open slots to replicas, and waits for them. A replica that hangs meanwhile learns of an open
/// slot after the master has given up.
#[test]
fn what_replicas_alone_have_open_matrix() {
    for version in versions().iter().filter(|v| v.starts_with("valkey")) {
        what_replicas_alone_have_open(&quick().version(version));
    }
}

fn what_replicas_alone_have_open(spec: &Spec) {
    let nodes = Nodes::with(4, &spec.clone().node_timeout(15_000));
    nodes.form(3);
    fill(&nodes[..3], &names(0..20, 1));
    let before = contents(&nodes);
    nodes[3].stop();
    let states = [
        ("5", "MIGRATING", nodes[1].id()),
        ("6000", "IMPORTING", nodes[1].id()),
    ];
    for (slot, state, peer) in &states {
        let words = ["CLUSTER", "SETSLOT", slot, state, peer, "TIMEOUT", "100"];
        let told = nodes[0].try_cmd(&words).unwrap_err();
        assert!(told.to_string().contains("NOREPLICAS"), "{told}");
    }
    nodes[3].cont();
    until("the replica to have heard of it", PATIENCE, || {
        let text = nodes[3].nodes_text();
        match text.contains("[5->-") && text.contains("[6000-<-") {
            true => Ok(()),
            false => Err(text),
        }
    });
    assert!(!nodes[0].nodes_text().contains("[5->-"));
    let check = Trib::new().args(["check", &nodes[0].addr()]).run();
    check
        .status(1)
        .stdout_has(&nodes[3].addr())
        .stdout_has("slots are open");
    let plan = fix(&nodes[0]).args(["--dry-run", "-o", "json"]).run();
    plan.status(0).stdout_has("\"code\":\"refresh\"");
    fix(&nodes[0]).arg("--yes").run().status(0);
    assert_closed(&nodes);
    is_healthy(&nodes[0]);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn towards_a_node_that_died_matrix() {
    for version in versions() {
        towards_a_node_that_died(&quick().version(version));
    }
}

/// On their way to a node without slots that died with some of their keys; and from it, to one that owns none of
/// them either.
fn towards_a_node_that_died(spec: &Spec) {
    let nodes = walkthrough(spec);
    let [a, d] = [nodes[0].id(), nodes[3].id()];
    fill(&nodes[..3], &names(5..9, 2));
    let mut before = contents(&nodes);
    for slot in [5, 6] {
        setslot(&nodes[3], slot, &["IMPORTING", &a]);
        setslot(&nodes[0], slot, &["MIGRATING", &d]);
    }
    let gone = format!("{}:gone", names([5], 1)[0]);
    put_asking(&nodes[3], &gone, "lost");
    setslot(&nodes[1], 7, &["IMPORTING", &d]);
    let kept = format!("{}:kept", names([7], 1)[0]);
    put_asking(&nodes[1], &kept, "elsewhere");
    nodes[3].kill();
    is_held_for_dead(&nodes[0], &d);
    let name = format!("{} ({})", nodes[3].addr(), &d[..8]);
    fix(&nodes[0])
        .arg("--yes")
        .run()
        .status(6)
        .stderr_has(&name)
        .stderr_has("--accept-data-loss 5-6");
    fix(&nodes[0])
        .arg("--yes")
        .run()
        .status(3)
        .stderr_has("--accept-data-loss 5-6");
    fix(&nodes[0])
        .args(["--yes", "--accept-data-loss", "5-6"])
        .run()
        .status(0);
    for node in &nodes[..3] {
        let text = node.nodes_text();
        assert!(!text.contains("->-") && !text.contains("-<-"), "{text}");
    }
    let mut after = contents(&nodes[..3]);
    let key = (0, kept.into_bytes());
    assert!(after.remove(&key).is_some(), "what the second had");
    before.remove(&key);
    assert_same(&before, &after);
    is_healthy(&nodes[0]);
}

#[test]
fn towards_a_node_that_nobody_knows_matrix() {
    for version in versions() {
        towards_a_node_that_nobody_knows(&quick().version(version));
    }
}

/// An id in a nodes.conf that no node has.
fn towards_a_node_that_nobody_knows(spec: &Spec) {
    let nodes = three(spec);
    let b = nodes[1].id();
    fill(&nodes, &names(5..9, 2));
    nodes.iter().for_each(|node| drop(node.cmd(&["SAVE"])));
    let before = contents(&nodes);
    setslot(&nodes[0], 5, &["MIGRATING", &b]);
    setslot(&nodes[2], 6, &["IMPORTING", &b]);
    let nobody = "0123456789abcdef0123456789abcdef01234567";
    for node in [&nodes[0], &nodes[2]] {
        node.cmd(&["CLUSTER", "SAVECONFIG"]);
        node.kill();
        let path = node.dir().join("nodes.conf");
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace(&format!("[5->-{b}"), &format!("[5->-{nobody}"));
        let text = text.replace(&format!("[6-<-{b}"), &format!("[6-<-{nobody}"));
        assert!(text.contains(nobody), "{text}");
        fs::write(&path, text).unwrap();
        node.restart();
    }
    until("all to serve", PATIENCE, || {
        let states: Vec<_> = nodes.iter().map(|n| n.field("cluster_state")).collect();
        match states.iter().all(|s| s.as_deref() == Some("ok")) {
            true => Ok(()),
            false => Err(format!("{states:?}")),
        }
    });
    fix(&nodes[1])
        .arg("--yes")
        .run()
        .status(6)
        .stderr_has(&nobody[..8])
        .stderr_has("--accept-data-loss 5");
    fix(&nodes[1])
        .args(["--yes", "--accept-data-loss", "5"])
        .run()
        .status(0);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
    for node in nodes.iter() {
        let text = node.nodes_text();
        assert!(!text.contains(nobody), "{text}");
    }
}

fn followed(node: &Server) -> String {
    let text = node.nodes_text();
    let own = text.lines().find(|line| line.contains("myself")).unwrap();
    own.split(' ').nth(3).unwrap().to_owned()
}

#[test]
fn a_replica_of_what_became_a_replica_matrix() {
    for version in versions() {
        a_replica_of_what_became_a_replica(&quick().version(version));
    }
}

fn a_replica_of_what_became_a_replica(spec: &Spec) {
    // The fourth is a master without slots, the fifth its replica.
    let nodes = Nodes::with(5, spec);
    for (index, slots) in [0..=5460, 5461..=10922, 10923..=16383]
        .into_iter()
        .enumerate()
    {
        nodes.assign(index, slots);
        nodes[index].cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
    }
    nodes.join();
    nodes.replicate(4, 3);
    nodes.wait_usable();
    nodes.replicate(3, 0);
    fix(&nodes[1]).arg("--yes").run().status(0);
    until("all to follow a master", Duration::from_secs(10), || {
        let masters: Vec<String> = nodes[..3].iter().map(Server::id).collect();
        match masters.contains(&followed(&nodes[4])) {
            true => Ok(()),
            false => Err(nodes[4].nodes_text()),
        }
    });
    nodes.wait_usable();
    is_healthy(&nodes[1]);
}

#[test]
fn a_replica_whose_master_the_others_forgot_matrix() {
    for version in versions() {
        a_replica_whose_master_the_others_forgot(&quick().version(version));
    }
}

/// The replica has the last copy, and can't be elected: no other node knows its master.
fn a_replica_whose_master_the_others_forgot(spec: &Spec) {
    let spec = spec.clone().arg("--cluster-replica-no-failover", "yes");
    let nodes = Nodes::with(4, &spec);
    nodes.form(3);
    fill(&nodes[..3], &names(0..20, 1));
    let before = contents(&nodes);
    until("the replica to have it all", PATIENCE, || {
        let size = nodes[3].text(&["DBSIZE"]);
        if size == "20" { Ok(()) } else { Err(size) }
    });
    let dead = nodes[0].id();
    nodes[0].kill();
    is_held_for_dead(&nodes[1], &dead);
    for node in &nodes[1..3] {
        node.cmd(&["CLUSTER", "FORGET", &dead]);
    }
    let name = format!("{} ({})", nodes[3].addr(), &nodes[3].id()[..8]);
    for more in [&[][..], &["--accept-data-loss", "0-5460"][..]] {
        fix(&nodes[1])
            .arg("--yes")
            .args(more)
            .run()
            .status(3)
            .stderr_has(&name)
            .stderr_has("which has 20 keys")
            .stderr_has("--failover takeover");
    }
    fix(&nodes[1])
        .args(["--yes", "--failover", "takeover"])
        .run()
        .status(0);
    assert_same(&before, &contents(&nodes[1..]));
}
