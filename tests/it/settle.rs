//! States that normally pass are waited for while they are young; what a command leaves behind has settled.

use std::time::Duration;

use serde_json::Value;

use crate::loading::beside_a_slow_node;
use crate::support::cluster::Nodes;
use crate::support::command::{Finished, Trib};
use crate::support::keys::Keys;
use crate::support::server::{Server, Spec, versions};
use crate::support::views::lines;
use crate::support::wait::{PATIENCE, until};

/// The last line of a stream.
fn done(finished: &Finished) -> Value {
    let last = finished.json_lines().pop().unwrap();
    assert_eq!(last["event"], "done", "{last:#}");
    last
}

/// The age of the oldest connection with that name.
fn age(server: &Server, name: &str) -> u64 {
    let list = server.text(&["CLIENT", "LIST"]);
    let line = list.lines().find(|line| line.contains(name)).unwrap();
    let age = line.split(' ').find_map(|field| field.strip_prefix("age="));
    age.unwrap().parse().unwrap()
}

fn healthy(node: &Server) {
    Trib::new().args(["check", &node.addr()]).run().status(0);
}

/// What a node is that does not answer: at first the others still have their links to it.
const UNREACHABLE: [&str; 2] = ["announced-address-unreachable", "node-unreachable"];

/// Valkey 8.0 and 8.1 wait for replicas with each SETSLOT: thousands of slots take more than a minute on a busy machine.
const SLOW: Duration = Duration::from_secs(180);

#[test]
fn a_node_that_does_not_answer_for_a_moment_is_waited_for() {
    // The servers' own node timeout: nobody flags the node before it continues.
    let nodes = Nodes::start(4);
    nodes.form(3);
    let seed = nodes[0].addr();
    let (to, replica) = (nodes[2].id(), nodes[3].id());
    let new = Spec::new().start();
    let commands: [&[&str]; 6] = [
        &["reshard", &seed, "--slot-ranges", "7", "--to", &to],
        &["rebalance", &seed, "--weight", &format!("{to}=2")],
        &["add-node", &new.addr(), &seed],
        &["del-node", &seed, &replica, "--leave-unprotected", &replica],
        &["replace-node", &seed, &replica, &new.addr()],
        &["set-timeout", &seed, "15s"],
    ];
    for command in commands {
        nodes[1].stop();
        let running = Trib::new()
            .args(command)
            .args(["--dry-run", "--output", "json", "--command-timeout", "3s"])
            .spawn();
        running.wait_stderr("waiting: ");
        nodes[1].cont();
        let done = done(&running.wait().status(0));
        let code = &done["waited_for"][0];
        assert!(
            UNREACHABLE.contains(&code.as_str().unwrap()),
            "{command:?} {done:#}"
        );
        assert!(done["waited_ms"].as_u64() > Some(0), "{done:#}");
    }
    // Nothing is said of waits where there were none; commands that read do not wait.
    let dry = [commands[0], &["--dry-run", "--output", "json"]].concat();
    let quick = done(&Trib::new().args(dry).run().status(0));
    assert!(quick.get("waited_for").is_none(), "{quick:#}");
    nodes[1].stop();
    let limit = ["--command-timeout", "3s"];
    Trib::new()
        .args(["check", &seed])
        .args(limit)
        .run()
        .status(1)
        .stderr_lacks("waiting");
    // What does not pass in time is refused, and the wait is named.
    let late = Trib::new()
        .args(commands[0])
        .args(["--yes", "--output", "json", "--settle-timeout", "1s"])
        .args(limit)
        .run()
        .status(3)
        .stderr_has("waiting: ")
        .stderr_has("not healthy");
    let late = done(&late);
    assert!(late["waited_ms"].as_u64() >= Some(1000), "{late:#}");
    nodes[1].cont();
}

#[test]
fn what_does_not_pass_is_refused_at_once() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    nodes[2].kill();
    until("the others to flag it", PATIENCE, || {
        let flags = |node: &Server| {
            lines(node)
                .iter()
                .any(|line| line[2].contains("fail") && !line[2].contains("fail?"))
        };
        match [&nodes[0], &nodes[1]].iter().all(|node| flags(node)) {
            true => Ok(()),
            false => Err(nodes[0].nodes_text()),
        }
    });
    // It has no replica that could be elected.
    Trib::new()
        .args(["reshard", &nodes[0].addr(), "--slot-ranges", "7", "--yes"])
        .args(["--to", &nodes[1].id()])
        .run()
        .status(3)
        .stderr_has("node-failed")
        .stderr_lacks("waiting:");
}

#[test]
fn an_election_is_waited_for() {
    // The others flag the node after 10 s: until then, a program that starts late still finds it without a successor.
    let nodes = Nodes::with(6, &Spec::new().quick().node_timeout(10_000));
    nodes.form(3);
    nodes[2].kill();
    let moved = Trib::new()
        .args(["reshard", &nodes[0].addr(), "--slot-ranges", "7", "--yes"])
        .args(["--to", &nodes[1].id(), "--output", "json"])
        .args(["--settle-timeout", "60s"])
        .run()
        .status(0)
        .stderr_has("waiting:");
    assert!(done(&moved)["waited_ms"].as_u64() > Some(0));
}

#[test]
fn a_redis_trib_that_is_about_to_end_is_waited_for() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let name = "redis-trib/reshard/!ann@host/00000000";
    let mut other = nodes[1].connection().unwrap();
    redis::cmd("CLIENT")
        .arg("SETNAME")
        .arg(name)
        .query::<()>(&mut other)
        .unwrap();
    until(
        "the other one to be older than ours",
        PATIENCE,
        || match age(&nodes[1], name) {
            age @ 0..5 => Err(age.to_string()),
            _ => Ok(()),
        },
    );
    let set = || {
        let seed = nodes[0].addr();
        Trib::new().args(["set-timeout", &seed, "3s", "--yes", "--output", "json"])
    };
    let running = set().spawn();
    running.wait_stderr("waiting: another redis-trib is at work");
    drop(other);
    let ended = done(&running.wait().status(0));
    assert_eq!(ended["waited_for"][0], "running-redis-trib", "{ended:#}");
    // One that runs for longer has more to do.
    let mut other = nodes[1].connection().unwrap();
    redis::cmd("CLIENT")
        .arg("SETNAME")
        .arg(name)
        .query::<()>(&mut other)
        .unwrap();
    until("the other one to be old", PATIENCE, || {
        match age(&nodes[1], name) {
            age @ 0..5 => Err(age.to_string()),
            _ => Ok(()),
        }
    });
    set()
        .args(["--settle-timeout", "1s"])
        .run()
        .status(3)
        .stderr_has("another redis-trib is at work");
}

#[test]
fn matrix_the_cluster_is_healthy_right_after_a_master_was_emptied() {
    for version in versions() {
        let nodes = Nodes::with(6, &Spec::new().quick().version(version));
        nodes.form(3);
        let keys = Keys::fill(&nodes, 1000, |_| true);
        let rebalance = |weights: &[&str]| {
            let weights = weights.iter().flat_map(|weight| ["--weight", *weight]);
            Trib::new()
                .args(["rebalance", &nodes[0].addr(), "--yes"])
                .args(weights)
                .timeout(SLOW)
                .run()
                .status(0)
                .stderr_lacks("UNBLOCKED");
            healthy(&nodes[0]);
        };
        rebalance(&[&format!("{}=0", nodes[2].id())]);
        keys.assert_kept(&nodes);
        let drained = Trib::new()
            .args(["del-node", &nodes[0].addr(), &nodes[1].id()])
            .args(["--drain", "--yes"])
            .timeout(SLOW)
            .run();
        drained.status(0);
        healthy(&nodes[0]);
    }
}

#[test]
fn replicas_with_a_setting_of_their_own_are_announced() {
    const SETTING: &str = "cluster-allow-replica-migration";
    for (on_master, on_replica, words) in [
        ("yes", "no", "will stay with"),
        ("no", "yes", "with a full resync"),
    ] {
        let nodes = Nodes::quick(6);
        nodes.form(3);
        let replica = nodes
            .iter()
            .find(|node| node.field("master_port") == Some(nodes[2].port().to_string()))
            .unwrap();
        nodes[2].cmd(&["CONFIG", "SET", SETTING, on_master]);
        replica.cmd(&["CONFIG", "SET", SETTING, on_replica]);
        Trib::new()
            .args(["rebalance", &nodes[0].addr(), "--dry-run"])
            .args(["--weight", &format!("{}=0", nodes[2].id())])
            .run()
            .status(0)
            .stderr_has(words)
            .stderr_has(&replica.addr());
    }
}

#[test]
fn the_wait_for_a_first_copy_is_no_longer_than_its_deadline() {
    // The copy takes two minutes, and join and agreement seconds.
    let (nodes, new) = beside_a_slow_node();
    Trib::new()
        .args(["add-node", &new.addr(), &nodes[0].addr(), "--yes"])
        .args(["--replica", "--master-id", &nodes[0].id()])
        .args(["--join-timeout", "10s"])
        .run()
        .status(0)
        .stderr_has("still going on");
}
