//! `fix --rejoin`: all nodes were restarted elsewhere, and know each other where they no longer are.

use crate::reshard::quick;
use crate::reshard_data::{assert_same, contents, fill, names};
use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::server::{Server, Spec, versions};
use crate::support::wait::{PATIENCE, until};

fn rejoin<'a>(nodes: impl IntoIterator<Item = &'a Server>) -> Trib {
    let addrs = nodes.into_iter().map(Server::addr);
    Trib::new().args(["fix", "--rejoin"]).args(addrs)
}

/// Three masters and their replicas, with keys that survive a restart.
fn six(spec: &Spec) -> Nodes {
    let nodes = Nodes::with(6, spec);
    nodes.form(3);
    fill(&nodes[..3], &names(0..60, 2));
    nodes.iter().for_each(save);
    nodes
}

fn save(node: &Server) {
    node.cmd(&["SAVE"]);
}

/// All are ended before any is back.
fn scatter(nodes: &mut Nodes) {
    nodes.iter().for_each(Server::kill);
    nodes.iter_mut().for_each(Server::move_away);
}

/// What a node says of itself: role, master, epoch and slots.
fn standing(node: &Server) -> Vec<String> {
    let text = node.nodes_text();
    let own = text.lines().find(|line| line.contains("myself")).unwrap();
    let fields: Vec<&str> = own.split(' ').collect();
    let said = [0, 2, 3, 6].map(|field| fields[field]);
    said.iter()
        .chain(&fields[8..])
        .map(|&field| field.to_owned())
        .collect()
}

fn is_whole(nodes: &[Server]) {
    until("the cluster to be whole", PATIENCE, || {
        let check = Trib::new().args(["check", &nodes[0].addr()]).run();
        match check.status {
            crate::support::command::Ended::Status(0) => Ok(()),
            _ => Err(check.stdout),
        }
    });
}

#[test]
fn everybody_is_elsewhere_matrix() {
    for version in versions() {
        everybody_is_elsewhere(&quick().version(version).password("secret"));
    }
}

fn everybody_is_elsewhere(spec: &Spec) {
    let mut nodes = six(spec);
    let (before, standings) = (contents(&nodes), nodes.iter().map(standing));
    let standings: Vec<_> = standings.collect();
    scatter(&mut nodes);
    let line = || rejoin(nodes.iter()).args(["-a", "secret"]);
    // Nothing is done unasked, nor with the wrong password.
    line().run().status(5).stderr_has("--yes");
    line()
        .arg("--dry-run")
        .run()
        .status(0)
        .stdout_has("meets the others at their new addresses: it sees 0 of 5")
        .stdout_lacks("secret");
    rejoin(nodes.iter())
        .args(["-a", "wrong", "--yes"])
        .run()
        .status(4);
    assert!(!nodes[0].nodes_text().contains(&nodes[1].addr()));
    // Some only: the others are named.
    let some = rejoin(&nodes[..4]).args(["-a", "secret", "--yes", "-o", "json"]);
    let run = some.run().status(0);
    let plan = &run.json_lines()[0];
    assert_eq!(plan["refused"].as_array().unwrap().len(), 2, "{plan}");
    assert_eq!(plan["refused"][0]["code"], "not-named");
    line().arg("--yes").run().status(0);
    is_whole_with(&nodes, "secret");
    assert_eq!(
        standings,
        nodes.iter().map(standing).collect::<Vec<_>>(),
        "slots, roles and epochs are what they were"
    );
    assert_same(&before, &contents(&nodes));
    line()
        .run()
        .status(0)
        .stdout_has("[OK] These nodes all see each other.");
}

fn is_whole_with(nodes: &Nodes, password: &str) {
    Trib::new()
        .args(["check", &nodes[0].addr(), "-a", password, "--wait", "30s"])
        .run()
        .status(0);
}

/// What each of two clusters knows.
fn ids(nodes: &[Server]) -> Vec<String> {
    let text = nodes[0].nodes_text();
    let mut ids: Vec<String> = text.lines().map(|line| line[..40].to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn at_the_addresses_of_others_matrix() {
    for version in versions() {
        at_the_addresses_of_others(&quick().version(version));
    }
}

/// Members that stand where other members were, and members of two clusters that stand where those of
/// the other were.
fn at_the_addresses_of_others(spec: &Spec) {
    let (mut ours, mut theirs) = (Nodes::with(3, spec), Nodes::with(3, spec));
    for nodes in [&ours, &theirs] {
        nodes.form(3);
    }
    let known = [ids(&ours), ids(&theirs)];
    for node in ours.iter().chain(theirs.iter()) {
        node.kill();
    }
    let (first, rest) = ours.split_at_mut(1);
    first[0].trade_places(&mut rest[0]);
    rest[1].trade_places(&mut theirs[0]);
    for node in &mut theirs[1..] {
        node.move_away();
    }
    rejoin(ours.iter().chain(theirs.iter()))
        .arg("--yes")
        .run()
        .status(3)
        .stderr_has("belong to different clusters");
    for nodes in [&ours, &theirs] {
        rejoin(nodes.iter()).arg("--yes").run().status(0);
        is_whole(nodes);
    }
    assert_eq!(known, [ids(&ours), ids(&theirs)]);
}

#[test]
fn who_lost_its_memory_is_named() {
    let mut nodes = Nodes::with(3, &quick());
    nodes.form(3);
    scatter(&mut nodes);
    nodes[2].start_anew();
    rejoin(nodes.iter())
        .arg("--yes")
        .run()
        .status(3)
        .stderr_has(&format!(
            "{} ({}) remembers no other node",
            nodes[2].addr(),
            &nodes[2].id()[..8]
        ));
    assert!(
        nodes[0].nodes_text().contains("fail") || !nodes[0].nodes_text().contains(&nodes[1].addr())
    );
    // The others can do without it.
    rejoin(&nodes[..2])
        .arg("--yes")
        .run()
        .status(0)
        .stdout_has("was not named, or does not answer");
}
