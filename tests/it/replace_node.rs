//! `replace-node`: a new node takes the place of an old one.

use std::time::Duration;

use crate::support::cluster::Nodes;
use crate::support::command::{Ended, Signal, Trib};
use crate::support::server::{Server, Spec, versions};
use crate::support::views::{assert_bare, lines, myself, owned_slots};
use crate::support::wait::{PATIENCE, until};
use crate::support::writers::Writers;

fn replace(nodes: &[Server], old: &str, new: &Server) -> Trib {
    Trib::new()
        .args(["replace-node", "--yes", &nodes[0].addr(), old])
        .arg(new.addr())
}

/// All of these know each other and no other node, and `check` finds no error.
#[track_caller]
fn assert_whole<'a>(nodes: impl IntoIterator<Item = &'a Server>) {
    let nodes: Vec<&Server> = nodes.into_iter().collect();
    for server in &nodes {
        until("all to know each other", PATIENCE, || {
            let text = server.nodes_text();
            let is_whole = text.lines().count() == nodes.len() && !text.contains("handshake");
            if is_whole { Ok(()) } else { Err(text) }
        });
    }
    Trib::new()
        .args(["check", &nodes[0].addr(), "--wait", "30s"])
        .run()
        .status(0);
}

#[test]
fn matrix_a_replica_and_a_master_under_writes() {
    for version in versions() {
        let spec = Spec::new().quick().version(version);
        let nodes = Nodes::with(6, &spec);
        nodes.form(3);
        let new = Nodes::with(2, &spec);
        let mut writers = Writers::start(&nodes, 4);
        // The replica of the second.
        replace(&nodes, &nodes[4].id()[..10], &new[0])
            .run()
            .status(0)
            .stdout_has("a replica of ")
            .stdout_has("1. ")
            .stdout_has(" has replaced ");
        assert_eq!(myself(&new[0])[3], nodes[1].id());
        assert_bare_again(&nodes[4]);
        writers.wait_for_more(50);
        // The second itself.
        let slots = owned_slots(&nodes[1]);
        replace(&nodes, &nodes[1].id(), &new[1])
            .run()
            .status(0)
            .stdout_has("a master with 5,461 slots")
            .stdout_has("2. ")
            .stdout_has("writes were held for ")
            .stdout_has(" has replaced ");
        assert_eq!(owned_slots(&new[1]), slots, "no slot moves");
        assert_bare_again(&nodes[1]);
        writers.wait_for_more(50);
        writers.stop();
        let now = [&nodes[0], &nodes[2], &nodes[3], &nodes[5], &new[0], &new[1]];
        assert_whole(now);
        assert_eq!(myself(&new[0])[3], new[1].id());
        writers.assert_kept(&now);
    }
}

/// In no cluster, and empty. (A soft or hard reset may leave an epoch.)
#[track_caller]
fn assert_bare_again(server: &Server) {
    assert_eq!(lines(server).len(), 1, "{}", server.nodes_text());
    assert_eq!(server.text(&["DBSIZE"]), "0");
}

#[test]
fn the_dead() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    let new = Nodes::quick(2);
    let (replica, master) = (nodes[4].id(), nodes[2].id());
    nodes[4].kill();
    nodes[2].kill();
    for id in [&replica, &master] {
        until("the dead to be missed", PATIENCE, || {
            let text = nodes[0].nodes_text();
            let line = text.lines().find(|line| line.starts_with(id.as_str()));
            if line.is_some_and(|line| line.contains("fail ")) {
                Ok(())
            } else {
                Err(text)
            }
        });
    }
    until("the successor to be seen", PATIENCE, || {
        match nodes[0].field("cluster_state").unwrap().as_str() {
            "ok" if nodes[5].field("role").unwrap() == "master" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    let line =
        |old: &str, new: &Server| replace(&nodes, old, new).args(["--command-timeout", "2s"]);
    line(&replica, &new[0])
        .run()
        .status(0)
        .stdout_has("that does not answer")
        .stdout_has("is forgotten by all members\n");
    assert_eq!(myself(&new[0])[3], nodes[1].id());
    // The replica that took over has no replica: the new node follows it.
    line(&master, &new[1]).run().status(0);
    assert_eq!(myself(&new[1])[3], nodes[5].id());
    let now = [&nodes[0], &nodes[1], &nodes[3], &nodes[5], &new[0], &new[1]];
    assert_whole(now);
}

#[test]
fn killed_at_each_step_and_run_again() {
    std::thread::scope(|scope| {
        for phase in ["meet", "replicate", "take-over", "leave"] {
            scope.spawn(move || {
                let nodes = Nodes::quick(6);
                nodes.form(3);
                let new = Spec::new().quick().start();
                let old = nodes[1].id();
                let mut writers = Writers::start(&nodes, 1);
                let line = || replace(&nodes, &old, &new).args(["-o", "json"]);
                let run = line().spawn();
                run.wait_stdout(&format!("\"phase\":\"{phase}\""));
                run.signal(Signal::SIGKILL);
                // The rest may be done before the signal arrives.
                let ended = run.wait();
                if ended.status != Ended::Status(0) {
                    ended.killed_by(Signal::SIGKILL);
                }
                // The last commands may still be taking effect, and a run that nodes answer too late says that the same
                // command continues.
                let again = until("the cluster to be whole enough", PATIENCE, || {
                    let ended = line().run();
                    let has_begun = ended.stdout.contains("\"replacing\"");
                    let has_stopped = ended.status == Ended::Status(6);
                    if ended.stderr.contains("error:") && (!has_begun || has_stopped) {
                        Err(ended.stderr)
                    } else {
                        Ok(ended)
                    }
                });
                again.status(0);
                writers.stop();
                let now = [&nodes[0], &nodes[2], &nodes[3], &nodes[4], &nodes[5], &new];
                assert_whole(now);
                writers.assert_kept(&now);
                assert_eq!(new.field("role").unwrap(), "master");
                assert_eq!(owned_slots(&new).len(), 5461);
                // And once more: there is nothing left to do.
                replace(&nodes, &old, &new)
                    .run()
                    .status(0)
                    .stdout_has("no node knows")
                    .stdout_has("nothing to do");
            });
        }
    });
}

/// One member does not hear that the old one is to be forgotten, and the old one has a new id by then.
#[test]
fn half_forgotten_and_run_again() {
    let (nodes, proxies) = Nodes::behind_proxies(3, &Spec::new().quick());
    nodes.form(3);
    let new = Spec::new().quick().start();
    let old = nodes[1].id();
    let line = || {
        Trib::new()
            .args(["replace-node", "--yes", &proxies[0].addr(), &old])
            .args([&new.addr(), "--command-timeout", "5s"])
    };
    proxies[2].stall_at("CLUSTER FORGET", 1);
    line()
        .run()
        .status(6)
        .stderr_has(" has replaced ")
        .stderr_has("was not told")
        .stderr_has("Run the same command again to continue");
    proxies[2].resume();
    assert_bare_again(&nodes[1]);
    until(
        "the one that was not told to be asked again",
        PATIENCE,
        || {
            let ended = line().run();
            match ended.stderr.contains("error:") {
                true => Err(ended.stderr),
                false => Ok(()),
            }
        },
    );
    assert_whole([&nodes[0], &nodes[2], &new]);
}

/// A run that was killed while it told the members to forget the old one: some have, for 60 s, and the old one runs on.
#[test]
fn killed_when_some_have_forgotten() {
    let nodes = Nodes::quick(4);
    nodes.form(3);
    // It has the replica that takes over.
    let (old, new) = (&nodes[0], &nodes[3]);
    new.cmd(&["CLUSTER", "FAILOVER"]);
    until("all to know of the failover", PATIENCE, || {
        match nodes.iter().all(|node| {
            let text = node.nodes_text();
            let mut lines = text.lines().filter(|line| line.starts_with(&old.id()));
            lines.any(|line| line.contains(&new.id()))
        }) {
            true => Ok(()),
            false => Err(nodes[1].nodes_text()),
        }
    });
    nodes[1].cmd(&["CLUSTER", "FORGET", &old.id()]);
    Trib::new()
        .args(["replace-node", "--yes", &nodes[2].addr(), &old.id()])
        .arg(new.addr())
        .run()
        .status(0)
        .stdout_has(" has replaced ");
    assert_bare_again(old);
    assert_whole([&nodes[1], &nodes[2], new]);
}

#[test]
fn interrupted() {
    let nodes = Nodes::quick(4);
    nodes.form(3);
    // The first copy takes 5 s.
    nodes[1].cmd(&["CONFIG", "SET", "repl-diskless-sync-delay", "5"]);
    let new = Spec::new().start();
    let run = replace(&nodes, &nodes[1].id(), &new)
        .args(["-o", "json"])
        .spawn();
    run.wait_stdout("\"event\":\"added\"");
    run.signal(Signal::SIGINT);
    let ended = run
        .wait()
        .status(130)
        .stderr_has("has not left the cluster yet. Run the same command again to continue");
    assert_eq!(ended.json_lines().last().unwrap()["exit_code"], 130);
    replace(&nodes, &nodes[1].id(), &new)
        .run()
        .status(0)
        .stdout_lacks("becomes a replica");
    assert_whole([&nodes[0], &nodes[2], &nodes[3], &new]);
}

#[test]
fn what_can_not_be() {
    let nodes = Nodes::quick(5);
    nodes.form(3);
    let new = Spec::new().quick().start();
    let refused = |old: &str, new: &Server| replace(&nodes, old, new).run().status(3);
    refused("ffffffffff", &new).stderr_has("\"ffffffffff\" is not a node of this cluster");
    refused(&"f".repeat(40), &new).stderr_has("is not a node of this cluster");
    refused(&nodes[1].id(), &nodes[1]).stderr_has("can't replace itself");
    refused(&nodes[1].id(), &nodes[3]).stderr_has("is a member of this cluster already, elsewhere");
    let full = Nodes::quick(1);
    full.form(1);
    full[0].cmd(&["SET", "key", "value"]);
    refused(&nodes[1].id(), &full[0]).stderr_has("and holds 1 key");
    let plain = Spec::new().plain().start();
    refused(&nodes[1].id(), &plain).stderr_has("is not a cluster node");
    let line = || {
        Trib::new()
            .args(["replace-node", &nodes[0].addr(), &nodes[1].addr()])
            .arg(new.addr())
    };
    line().run().status(5).stderr_has("--yes");
    line()
        .arg("--dry-run")
        .run()
        .status(0)
        .stdout_has("1. ")
        .stdout_has("3. ")
        .stdout_has("Dry run: nothing was changed.");
    assert_bare(&[new]);
    Trib::new()
        .args(["replace-node", "--yes", "127.0.0.1:1", "abc", "127.0.0.1:2"])
        .run()
        .status(4);
}

#[test]
fn a_master_that_hangs_must_be_succeeded_first() {
    let nodes = Nodes::quick(4);
    nodes.form(3);
    for server in nodes.iter() {
        server.cmd(&["CONFIG", "SET", "cluster-node-timeout", "60000"]);
    }
    let (new, old) = (Spec::new().quick().start(), nodes[0].id());
    nodes[0].stop();
    let run = Trib::new()
        .args(["replace-node", "--yes", &nodes[1].addr(), &old, &new.addr()])
        .args(["--command-timeout", "5s"])
        .run();
    nodes[0].cont();
    run.status(3)
        .within(Duration::from_secs(60))
        .stderr_has(&nodes[0].addr());
    assert_bare(&[new]);
}

#[test]
fn a_master_that_dies_meanwhile() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    // The new node's first copy takes a while.
    nodes[1].cmd(&["CONFIG", "SET", "repl-diskless-sync-delay", "3"]);
    let new = Spec::new().quick().start();
    let old = nodes[1].id();
    let run = replace(&nodes, &old, &new)
        .args([
            "-o",
            "json",
            "--command-timeout",
            "2s",
            "--sync-timeout",
            "40s",
        ])
        .spawn();
    run.wait_stdout("\"event\":\"added\"");
    nodes[1].kill();
    // Its other replica is elected, and is not taken over from.
    run.wait()
        .status(6)
        .within(Duration::from_secs(60))
        .stderr_has("Run the same command again to continue");
    until("its replica to be elected", PATIENCE, || {
        match nodes[4].field("role").unwrap().as_str() {
            "master" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    until(
        "the cluster to serve, and the new one to follow",
        PATIENCE,
        || {
            let ended = Trib::new()
                .args(["check", &nodes[0].addr(), "--command-timeout", "2s"])
                .run();
            let follows = myself(&new)[3] == nodes[4].id();
            if ended.stdout.contains("[ERR]") || !follows {
                Err(ended.stdout)
            } else {
                Ok(())
            }
        },
    );
    replace(&nodes, &old, &new)
        .args(["--command-timeout", "2s"])
        .run()
        .status(0);
    assert_whole([&nodes[0], &nodes[2], &nodes[3], &nodes[4], &nodes[5], &new]);
    assert_eq!(nodes[4].field("role").unwrap(), "master");
}
