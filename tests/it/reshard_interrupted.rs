//! A second Ctrl-C while `reshard` waits for a server: it stops at once, and open slots are named.

use std::thread;
use std::time::Duration;

use crate::support::cluster::{Nodes, walkthrough};
use crate::support::command::{Finished, Running, Signal, Trib};
use crate::support::keys::{assert_same, contents, fill};
use crate::support::proxied_masters::Two;
use crate::support::server::{Server, atomic_among, fault_versions, quick};
use crate::support::slots::{assert_closed, names, owned, until_moved};
use crate::support::stopped_run::{assert_all_named, resume};
use crate::support::subcommands::reshard;
use crate::support::wait::{PATIENCE, until};

/// How long a run may take to end after the second signal: it may ask both ends for a second, and the machine is busy.
/// What it would wait for otherwise takes 12 s or longer.
const AT_ONCE: Duration = Duration::from_secs(9);

/// For the line that resumes a run, which repeats its low rate: the last one counts.
const FAST: [&str; 2] = ["--rate", "100000"];

/// Sends the two signals.
#[track_caller]
fn interrupt_twice(run: Running, limit: Duration) -> Finished {
    run.signal(Signal::SIGINT);
    run.wait_stderr("a second signal stops at once");
    run.signal(Signal::SIGINT);
    run.wait_within(limit)
        .status(130)
        .stderr_has("interrupted")
        .stderr_lacks("caught up")
}

/// Waits until a server is held up in a command, as MIGRATE does to a source.
#[track_caller]
fn wait_blocked(server: &Server) {
    until("the source to be held up", Duration::from_secs(10), || {
        let (sender, answer) = std::sync::mpsc::channel();
        let addr = server.addr();
        thread::spawn(move || {
            let client = redis::Client::open(format!("redis://{addr}")).unwrap();
            let timeout = Duration::from_millis(300);
            let connection = client.get_connection_with_timeout(timeout);
            let _ = connection.map(|_| sender.send(()));
        });
        match answer.recv_timeout(Duration::from_millis(400)) {
            Ok(()) => Err("it answers".to_owned()),
            Err(_) => Ok(()),
        }
    });
}

#[test]
fn a_migrate_to_a_target_that_hangs() {
    let nodes = walkthrough(&quick().node_timeout(30_000));
    fill(&nodes[..3], &names([5], 3000));
    let before = contents(&nodes);
    let to = nodes[3].id();
    let run = reshard(&nodes[0])
        .args(["--slot-ranges", "5-9", "--to", &to, "--yes"])
        .args(["--timeout", "12s", "--command-timeout", "30s"])
        .args(["--rate", "100", "--max-open-slots", "1"])
        .spawn();
    until(
        "keys at the target",
        Duration::from_secs(20),
        || match nodes[3].text(&["DBSIZE"]).as_str() {
            "0" => Err("none".to_owned()),
            _ => Ok(()),
        },
    );
    nodes[3].stop();
    wait_blocked(&nodes[0]);
    let ended = interrupt_twice(run, AT_ONCE)
        .stderr_has("state unknown, its keys may be on both nodes")
        .stderr_has("--finish-open");
    assert_all_named(&ended.stderr, 5);
    nodes[3].cont();
    nodes.wait_usable();
    resume(&ended).args(FAST).run().status(0);
    assert_closed(&nodes);
    assert_eq!(owned(&nodes[3]), [(5, 9)]);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn any_command_of_a_move_that_gets_no_answer() {
    thread::scope(|scope| {
        for (command, at_source) in [
            ("CLUSTER SETSLOT", true),
            ("CLUSTER SETSLOT", false),
            ("MIGRATE", true),
            ("CLUSTER COUNTKEYSINSLOT", true),
        ] {
            scope.spawn(move || {
                let two = Two::new(&quick(), "keys");
                let (from, to) = two.ends();
                let proxy = &two.proxies[if at_source { from } else { to }];
                proxy.stall_at(command, 2);
                let run = two.reshard(to).args(["--command-timeout", "30s"]).spawn();
                let reached = proxy.wait_stalled(PATIENCE);
                let ended = interrupt_twice(run, AT_ONCE);
                assert!(reached, "{command} never came");
                assert_all_named(&ended.stderr, 3);
                if command == "MIGRATE" {
                    let unknown = "state unknown, its keys may be on both nodes";
                    assert!(ended.stderr.contains(unknown), "{}", ended.stderr);
                }
                // What was sent is carried out all the same.
                proxy.resume();
                two.finish(to);
            });
        }
    });
}

#[test]
fn a_task_of_servers_that_do_not_answer_on_each_version() {
    for version in atomic_among(fault_versions()) {
        let (command, at_source) = match version.starts_with("valkey") {
            true => ("CLUSTER GETSLOTMIGRATIONS", true),
            false => ("CLUSTER MIGRATION", false),
        };
        // The first four are sent before the task is begun: until then one signal ends the run.
        for nth in 5..=7 {
            let two = Two::new(&quick().version(version), "atomic");
            let (from, to) = two.ends();
            let proxy = &two.proxies[if at_source { from } else { to }];
            proxy.stall_at(command, nth);
            let run = two.reshard(to).args(["--command-timeout", "30s"]).spawn();
            let reached = proxy.wait_stalled(PATIENCE);
            // It has some time to cancel the task.
            let ended = interrupt_twice(run, Duration::from_secs(5) + AT_ONCE);
            assert!(reached, "{command} never came");
            assert_all_named(&ended.stderr, 3);
            proxy.resume();
            until("the tasks to end", Duration::from_secs(20), || {
                let again = Trib::new().args(["check", &two.nodes[to].addr()]).run();
                match again.stdout.contains("slots-in-job") {
                    true => Err(again.stderr),
                    false => Ok(()),
                }
            });
            two.finish(to);
        }
    }
}

fn with_replicas() -> Nodes {
    let nodes = Nodes::with(6, &quick().node_timeout(15_000));
    nodes.form(3);
    fill(&nodes[..3], &names(0..100, 20));
    nodes
}

fn slots_of(server: &Server) -> usize {
    owned(server).iter().map(|(a, b)| b - a + 1).sum()
}

#[test]
fn a_wait_for_replicas_that_hang() {
    thread::scope(|scope| {
        // The target's replica has to confirm; the source's may not stay far behind.
        for (hangs, lag) in [(4, "64MiB"), (3, "2s")] {
            scope.spawn(move || {
                let nodes = with_replicas();
                let before = contents(&nodes);
                let first = slots_of(&nodes[1]);
                let run = reshard(&nodes[0])
                    .args(["--slot-ranges", "0-99", "--to", &nodes[1].id(), "--yes"])
                    .args(["--rate", "100", "--max-open-slots", "4"])
                    .args(["--max-replica-lag", lag])
                    .spawn();
                until_moved(&nodes[1], 4);
                nodes[hangs].stop();
                let mut last = (slots_of(&nodes[1]), std::time::Instant::now());
                until("the move to wait", Duration::from_secs(20), || {
                    let now = slots_of(&nodes[1]);
                    if now != last.0 {
                        last = (now, std::time::Instant::now());
                    }
                    match last.1.elapsed() > Duration::from_millis(1500) {
                        true => Ok(()),
                        false => Err(now.to_string()),
                    }
                });
                let ended = interrupt_twice(run, AT_ONCE);
                assert_all_named(&ended.stderr, 100);
                nodes[hangs].cont();
                nodes.wait_usable();
                resume(&ended).args(FAST).run().status(0);
                assert_closed(&nodes);
                assert_eq!(slots_of(&nodes[1]), first + 100);
                assert_same(&before, &contents(&nodes));
            });
        }
    });
}
