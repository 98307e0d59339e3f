//! Connections that servers, proxies or people close: they are opened again, and what may be sent twice is sent again.

use std::thread::sleep;
use std::time::Duration;

use crate::support::cluster::Nodes;
use crate::support::command::{Signal, Trib};
use crate::support::keys::{Keys, on_owner};
use crate::support::server::{Server, Spec};

const SETTING: &str = "cluster-allow-replica-migration";

fn setting(server: &Server) -> String {
    let pair: Vec<String> =
        redis::from_redis_value(server.cmd(&["CONFIG", "GET", SETTING])).unwrap();
    pair[1].clone()
}

/// Servers that close connections which are idle for a second.
fn impatient() -> Spec {
    Spec::new().quick().arg("--timeout", 1)
}

/// A drain of the third node at that rate, of about a thousand keys.
fn drain(nodes: &[Server], rate: usize) -> Trib {
    Trib::new()
        .args(["del-node", &nodes[0].addr(), &nodes[2].id()])
        .args(["--drain", "--yes", "--rate", &rate.to_string()])
}

#[test]
fn a_long_drain_puts_the_setting_back() {
    let nodes = Nodes::with(6, &impatient());
    nodes.form(3);
    let keys = Keys::fill(&nodes, 3000, |_| true);
    drain(&nodes, 300).run().status(0);
    assert_eq!(setting(&nodes[2]), "yes");
    keys.assert_kept(&nodes);
}

#[test]
fn an_interrupted_drain_puts_the_setting_back() {
    let nodes = Nodes::with(3, &impatient());
    nodes.form(3);
    let keys = Keys::fill(&nodes, 3000, |_| true);
    let running = drain(&nodes, 60).args(["--output", "json"]).spawn();
    running.wait_stdout("slots-moved");
    assert_eq!(setting(&nodes[2]), "no");
    // The kept connections are closed by now.
    sleep(Duration::from_secs(3));
    running.signal(Signal::SIGINT);
    running.wait().status(130);
    assert_eq!(setting(&nodes[2]), "yes");
    keys.assert_kept(&nodes);
}

#[test]
fn connections_that_are_killed_during_a_move_are_opened_again() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let keys = Keys::fill(&nodes, 3000, |_| true);
    let mut running = Trib::new()
        .args(["reshard", &nodes[0].addr(), "--slot-ranges", "0-2000"])
        .args(["--to", &nodes[2].id(), "--yes", "--rate", "100"])
        .args(["--output", "json"])
        .spawn();
    running.wait_stdout("lane-started");
    let mut kills = 0;
    while !running.has_ended() && kills < 5 {
        sleep(Duration::from_millis(400));
        for node in [&nodes[0], &nodes[2]] {
            node.cmd(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        }
        kills += 1;
    }
    running.wait().status(0);
    keys.assert_kept(&nodes);
}

#[test]
fn every_command_works_with_impatient_servers() {
    let nodes = Nodes::with(3, &impatient());
    let run = |words: &[&str]| Trib::new().args(words).run().status(0);
    let addrs = nodes.addrs();
    let create = [
        &["create", "--yes"],
        &addrs.iter().map(String::as_str).collect::<Vec<_>>()[..],
    ];
    run(&create.concat());
    let seed = nodes[0].addr();
    let keys = Keys::fill(&nodes, 1000, |_| true);
    let (new, source) = (impatient().start(), impatient().plain().start());
    source.cmd(&["SET", "imported", "1"]);
    run(&["import", "--from", &source.addr(), &seed, "--yes"]);
    run(&["replace-node", &seed, &nodes[1].id(), &new.addr(), "--yes"]);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("backup");
    run(&["backup", &seed, &folder.display().to_string()]);
    run(&["restore", &folder.display().to_string(), &seed, "--yes"]);
    let mut all: Vec<Server> = nodes.into_iter().collect();
    all[1] = new;
    let mut imported = redis::cmd("DEL");
    imported.arg("imported");
    on_owner(&all, b"imported", &imported);
    keys.assert_kept(&all);
}

/// A drain that was killed has left `no` behind.
#[test]
fn a_setting_that_stays_no_is_named() {
    let nodes = Nodes::quick(4);
    nodes.form(4);
    nodes[2].cmd(&["CONFIG", "SET", SETTING, "no"]);
    let ended = drain(&nodes, 300).run().status(0);
    ended
        .stderr_has("is no already")
        .stderr_has(&format!("CONFIG SET {SETTING} yes"));
    // Where all have it, it is meant.
    for node in [0, 1, 3] {
        nodes[node].cmd(&["CONFIG", "SET", SETTING, "no"]);
    }
    let ended = Trib::new()
        .args(["del-node", &nodes[0].addr(), &nodes[3].id()])
        .args(["--drain", "--yes"])
        .run()
        .status(0);
    assert!(!ended.stderr.contains("is no already"), "{}", ended.stderr);
}
