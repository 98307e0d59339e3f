//! `del-node`: replicas, masters with their slots, dead ones and ghosts leave, and stay away.

use std::time::Duration;

use redis_trib::cluster::slot::Slot;
use serde_json::json;

use crate::support::cluster::Nodes;
use crate::support::command::{Ended, Finished, Signal, Trib};
use crate::support::counting_writers::Writers;
use crate::support::keys::{Keys, assert_same, contents, fill, fill_all_types, readable_contents};
use crate::support::server::{Server, Spec, fault_versions, versions};
use crate::support::slots::names;
use crate::support::views::{counts, owned_slots};
use crate::support::wait::until;

const PATIENCE: Duration = Duration::from_secs(30);

/// By the first node, unless that is one of those that leave: then by another.
fn del(nodes: &Nodes, leaving: &[usize]) -> Trib {
    let seed = (0..nodes.len()).find(|index| !leaving.contains(index));
    let ids = leaving.iter().map(|index| nodes[*index].id());
    Trib::new()
        .args(["del-node", &nodes[seed.unwrap()].addr()])
        .args(ids)
}

/// The others do not know it. It knows no other node, owns no slots and holds no keys.
#[track_caller]
fn assert_left(nodes: &Nodes, id: &str, left: Option<&Server>, stay: &[usize]) {
    for index in stay {
        let text = nodes[*index].nodes_text();
        assert!(
            !text.contains(id),
            "{} knows it:\n{text}",
            nodes[*index].addr()
        );
        assert_eq!(text.lines().count(), stay.len(), "{text}");
    }
    if let Some(left) = left {
        let text = left.nodes_text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains(id), "{text}");
        assert!(text.contains("myself,master - 0"), "{text}");
        assert_eq!(left.text(&["DBSIZE"]), "0");
    }
}

#[track_caller]
fn assert_healthy(server: &Server) -> Finished {
    Trib::new()
        .args(["check", &server.addr(), "--wait", "30s"])
        .run()
        .status(0)
        .stdout_has("[OK] All 16384 slots covered.")
}

fn migration(server: &Server) -> Option<String> {
    let value = server.cmd(&["CONFIG", "GET", "cluster-allow-replica-migration"]);
    let pair: Vec<String> = redis::from_redis_value(value).unwrap();
    pair.get(1).cloned()
}

fn master_of(server: &Server) -> String {
    let text = server.nodes_text();
    let line = text.lines().find(|line| line.contains("myself")).unwrap();
    line.split(' ').nth(3).unwrap().to_string()
}

#[test]
fn matrix_replicas_and_masters_leave() {
    for version in versions() {
        // Each master has a replica, the first one two.
        let nodes = Nodes::with(7, &Spec::new().version(version).quick());
        nodes.form(3);
        let keys = Keys::fill(&nodes, 3000, |_| true);
        let id = nodes[6].id();
        del(&nodes, &[6])
            .args(["--yes"])
            .run()
            .status(0)
            .stdout_has(&format!(">>> Removing node {id} from cluster"))
            .stdout_has("[OK] 1 node has left the cluster; 6 stay.");
        assert_left(&nodes, &id, Some(&nodes[6]), &[0, 1, 2, 3, 4, 5]);

        // By the master itself: it is the entry point.
        let id = nodes[2].id();
        Trib::new()
            .args(["del-node", &nodes[2].addr(), &id[..12], "--drain", "--yes"])
            .timeout(PATIENCE * 2)
            .run()
            .status(0)
            .stdout_has(">>> Removing node");
        assert_left(&nodes, &id, Some(&nodes[2]), &[0, 1, 3, 4, 5]);
        assert_eq!(counts(&nodes[..2]), [8192, 8192]);
        keys.assert_kept(&nodes);
        let new = master_of(&nodes[5]);
        assert!(new == nodes[0].id() || new == nodes[1].id());
        for server in nodes.iter() {
            assert_ne!(
                migration(server).as_deref(),
                Some("no"),
                "{}",
                server.addr()
            );
        }
        assert_healthy(&nodes[0]);
    }
}

#[test]
fn slots_are_named_and_the_way_out_is() {
    let nodes = Nodes::quick(4);
    // As after three reshards of 1365 slots: one was left over.
    nodes.assign(0, 0..=5460);
    nodes.assign(1, 5461..=10922);
    nodes.assign(2, 10923..=16382);
    nodes.assign(3, [16383]);
    nodes.join();
    nodes.wait_usable();
    let id = nodes[3].id();
    let addr = nodes[0].addr();
    let way_out = format!("redis-trib del-node {addr} {id} --drain");
    del(&nodes, &[3])
        .args(["--yes"])
        .run()
        .status(3)
        .stdout_empty()
        .stderr_has(&nodes[3].addr())
        .stderr_has("slot 16383")
        .stderr_has(&way_out);
    del(&nodes, &[3]).run().status(3).stderr_has("slot 16383");
    // A person is asked, and may say no.
    let mut terminal = del(&nodes, &[3]).terminal();
    terminal
        .expect("slot 16383")
        .expect("--drain")
        .expect("moved to the other masters first? (type 'yes' to accept): ")
        .send_line("no");
    terminal.finish().status(5);
    assert_eq!(owned_slots(&nodes[3]), [16383]);
    let mut terminal = del(&nodes, &[3]).terminal();
    terminal
        .expect("first? (type 'yes' to accept): ")
        .send_line("yes");
    terminal
        .expect("gives its slots away, then leaves")
        .expect("Remove it from the cluster? (type 'yes' to accept): ")
        .send_line("yes");
    terminal.finish().status(0);
    assert_left(&nodes, &id, Some(&nodes[3]), &[0, 1, 2]);
    assert_eq!(counts(&nodes[..3]).iter().sum::<usize>(), 16384);
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    let before = nodes[0].nodes_text().lines().count();
    let addr = nodes[0].addr();
    let line = |words: &[&str]| Trib::new().args(["del-node", &addr]).args(words).run();
    let replica = nodes[3].id();
    line(&[]).status(2);
    line(&["deadbeefdeadbeef", "--yes"])
        .status(3)
        .stderr_has("deadbeefdeadbeef")
        .stderr_has("is not a node of this cluster");
    line(&["", "--yes"]).status(3);
    // No consent, no terminal.
    line(&[&nodes[5].id(), "--leave-unprotected", &nodes[5].id()])
        .status(5)
        .stderr_has("--yes");
    // Last copies, each by name.
    line(&[&replica, "--yes"])
        .status(3)
        .stderr_has("last copy in sync")
        .stderr_has(&format!("--leave-unprotected {}", &replica[..8]));
    line(&[&replica, "--yes", "--leave-unprotected", &nodes[4].id()]).status(3);
    // All masters; all nodes.
    let masters: Vec<String> = nodes[..3].iter().map(Server::id).collect();
    let all: Vec<String> = nodes.iter().map(Server::id).collect();
    for ids in [&masters, &all] {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        line(&[&ids[..], &["--drain", "--yes"]].concat())
            .status(3)
            .stderr_has("last one");
    }
    line(&[&nodes[2].id(), "--drain", "--dry-run"])
        .status(0)
        .stdout_has("Dry run");
    // Slots on their way.
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "7", "MIGRATING", &nodes[1].id()]);
    line(&[&masters[0], "--yes"])
        .status(3)
        .stderr_has("slots 7 are open on");
    assert_eq!(nodes[0].nodes_text().lines().count(), before);
    assert_eq!(counts(&nodes[..3]).iter().sum::<usize>(), 16384);
    // Allowed by name, and by its master's name.
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "7", "STABLE"]);
    line(&[&replica, "--yes", "--leave-unprotected", &nodes[3].addr()]).status(0);
    assert_left(&nodes, &replica, Some(&nodes[3]), &[0, 1, 2, 4, 5]);
}

#[test]
fn several_leave_in_one_go_and_programs_hear_of_it() {
    let nodes = Nodes::quick(8);
    nodes.form(4);
    let lines = del(&nodes, &[3, 7, 6])
        .args([
            "--drain",
            "--yes",
            "-o",
            "json",
            "--leave-unprotected",
            &nodes[6].id(),
        ])
        .run()
        .status(0)
        .json_lines();
    let events = |name: &str| {
        lines
            .iter()
            .filter(|line| line["event"] == json!(name))
            .collect::<Vec<_>>()
    };
    let [leaving] = events("leaving")[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(leaving["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(leaving["replicas"], json!([]));
    assert_eq!(events("left").len(), 3);
    assert_eq!(events("done").len(), 1);
    assert_eq!(lines.last().unwrap()["exit_code"], json!(0));
    for index in [3, 6, 7] {
        assert_eq!(nodes[index].nodes_text().lines().count(), 1);
    }
    assert_eq!(nodes[0].nodes_text().lines().count(), 5);
    let mut after = counts(&nodes[..3]);
    after.sort_unstable();
    assert_eq!(after, [5461, 5461, 5462]);
}

#[test]
fn writers_go_on_while_a_master_is_drained() {
    for version in fault_versions() {
        let nodes = Nodes::with(6, &Spec::new().version(version).quick());
        nodes.form(3);
        fill(&nodes, &names((0..16384).step_by(97), 3));
        fill_all_types(&nodes, &names([12000], 1)[0]);
        let before = contents(&nodes);
        let keys: Vec<Vec<String>> = (0..3)
            .map(|writer| (0..400).map(|n| format!("w{writer}:{n}")).collect())
            .collect();
        let writers = Writers::start(&nodes.addrs()[..2], keys.clone());
        writers.wait(500);
        del(&nodes, &[2]).args(["--drain", "--yes"]).run().status(0);
        writers.wait(500);
        writers.finish(&nodes);
        let mut after = contents(&nodes);
        after.retain(|(_, key), _| {
            !keys
                .iter()
                .flatten()
                .any(|mine| mine.as_bytes() == &key[..])
        });
        assert_same(&before, &after);
        assert_healthy(&nodes[0]);
    }
}

#[test]
fn dead_ones_leave_by_id() {
    for version in fault_versions() {
        let nodes = Nodes::with(7, &Spec::new().version(version).quick());
        nodes.form(3);
        let (master, replica) = (nodes[0].id(), nodes[4].id());
        // Not while its slots have no owner: its replica has to take over.
        nodes[0].kill();
        nodes[4].kill();
        let failed = |id: &str| {
            until("the others to see it dead", PATIENCE, || {
                let text = nodes[1].nodes_text();
                let line = text.lines().find(|line| line.starts_with(id)).unwrap();
                match line.contains("fail") && !line.contains("fail?") {
                    true => Ok(()),
                    false => Err(text),
                }
            });
        };
        failed(&master);
        failed(&replica);
        until("a replica to take over", PATIENCE, || {
            let owns = [3, 6]
                .iter()
                .any(|index| !owned_slots(&nodes[*index]).is_empty());
            match owns {
                true => Ok(()),
                false => Err(nodes[1].nodes_text()),
            }
        });
        // Only one of the two: the other does not answer, and is named.
        Trib::new()
            .args(["del-node", &nodes[1].addr(), &master, "--yes"])
            .run()
            .status(0)
            .stderr_has(&nodes[4].addr())
            .stderr_has("can't be told");
        Trib::new()
            .args(["del-node", &nodes[1].addr(), &replica, "--yes"])
            .run()
            .status(0);
        for id in [&master, &replica] {
            assert_left(&nodes, id, None, &[1, 2, 3, 5, 6]);
        }
        // They come back with their old nodes.conf, and stay outside.
        nodes[0].restart();
        nodes[4].restart();
        let addr = nodes[1].addr();
        for index in [0, 4] {
            let told = Trib::new()
                .args(["del-node", &addr, &nodes[index].addr(), "--yes"])
                .args(["--leave-unprotected", &nodes[1].id()])
                .run();
            // What had been forgotten, and knows the others still, is reset by its address.
            let told = told.status(0);
            let text = nodes[index].nodes_text();
            assert_eq!(
                text.lines().count(),
                1,
                "{index}: {text}\n{}\n{}",
                told.stdout,
                told.stderr
            );
        }
        assert_eq!(nodes[1].nodes_text().lines().count(), 5);
        assert_healthy(&nodes[1]);
    }
}

#[test]
fn a_dead_master_of_slots_is_not_forgotten() {
    let nodes = Nodes::with(
        4,
        &Spec::new()
            .quick()
            .arg("--cluster-require-full-coverage", "no"),
    );
    nodes.form(3);
    let id = nodes[1].id();
    nodes[1].kill();
    Trib::new()
        .args(["del-node", &nodes[0].addr(), &id, "--drain", "--yes"])
        .run()
        .status(3)
        .stderr_has("can't be reached to move them");
    assert!(nodes[0].nodes_text().contains(&id));
}

#[test]
fn a_stopped_member_is_named_before_anything_is_done() {
    let nodes = Nodes::with(
        6,
        &Spec::new()
            .node_timeout(15_000)
            .arg("--repl-diskless-sync-delay", 0),
    );
    nodes.form(3);
    nodes[4].stop();
    let id = nodes[5].id();
    let refused = Trib::new()
        .args([
            "del-node",
            &nodes[0].addr(),
            &id,
            "--yes",
            "--command-timeout",
            "5s",
        ])
        .args(["--leave-unprotected", &id, "--settle-timeout", "1s"])
        .run();
    nodes[4].cont();
    refused
        .status(3)
        .stderr_has(&nodes[4].addr())
        .stderr_has("would bring the nodes back")
        .within(Duration::from_secs(60));
    assert_eq!(nodes[0].nodes_text().lines().count(), 6);
}

#[test]
fn a_stopped_node_leaves_and_does_not_come_back() {
    for version in fault_versions() {
        let nodes = Nodes::with(7, &Spec::new().version(version).quick());
        nodes.form(3);
        let id = nodes[6].id();
        nodes[6].stop();
        let left = Trib::new()
            .args([
                "del-node",
                &nodes[0].addr(),
                &id,
                "--yes",
                "--command-timeout",
                "5s",
            ])
            .run();
        nodes[6].cont();
        left.status(0).stdout_has("6 stay");
        assert_left(&nodes, &id, None, &[0, 1, 2, 3, 4, 5]);
        // It still takes itself for a member: named by its address, it is reset.
        Trib::new()
            .args(["del-node", &nodes[0].addr(), &nodes[6].addr(), "--yes"])
            .run()
            .status(0);
        assert_left(&nodes, &id, Some(&nodes[6]), &[0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn ghosts_are_cleaned_away() {
    for version in fault_versions() {
        let nodes = Nodes::with(7, &Spec::new().version(version).quick());
        nodes.form(3);
        let id = nodes[6].id();
        // Forgotten by some only, as by a redis-cli that was cut off.
        for index in [0, 1, 4] {
            nodes[index].cmd(&["CLUSTER", "FORGET", &id]);
        }
        // From Redis 7.2 on, FORGET spreads by gossip, and no member may know its id: then by address.
        let run = |name: &str| {
            Trib::new()
                .args(["del-node", &nodes[0].addr(), name, "--yes"])
                .run()
        };
        let by_id = run(&id);
        if by_id.status != Ended::Status(0) {
            by_id.status(3).stderr_has("name it by its address");
            run(&nodes[6].addr()).status(0);
        }
        assert_left(&nodes, &id, Some(&nodes[6]), &[0, 1, 2, 3, 4, 5]);
        assert_healthy(&nodes[0]);
    }
}

/// The rate limit makes the drain slow, so that it can be cut off in the middle.
fn slow_drain(nodes: &Nodes) -> Trib {
    del(nodes, &[2]).args(["--drain", "--yes", "--rate", "300", "--max-open-slots", "4"])
}

#[test]
fn what_was_cut_off_is_finished_by_the_same_command() {
    for version in fault_versions() {
        let nodes = Nodes::with(6, &Spec::new().version(version).quick());
        nodes.form(3);
        let id = nodes[2].id();
        let keys = Keys::fill(&nodes, 3000, |slot: Slot| slot.number() > 10922);
        let begun = |fewer: usize| {
            until(
                "some slots to have moved",
                PATIENCE,
                || match owned_slots(&nodes[2]).len() {
                    left if left < 5461 - fewer => Ok(()),
                    left => Err(format!("{left} are there")),
                },
            );
        };
        let run = slow_drain(&nodes).spawn();
        begun(100);
        run.signal(Signal::SIGINT);
        run.wait().status(130).stderr_has(&format!(
            "redis-trib del-node {} {id} --drain",
            nodes[0].addr()
        ));
        // What was changed for the time of the drain is as it was.
        assert_eq!(migration(&nodes[2]).as_deref(), Some("yes"));
        let run = slow_drain(&nodes).spawn();
        begun(300);
        run.signal(Signal::SIGKILL);
        run.wait();
        // Valkey 8 waits for replicas at each of 5,461 slots, on three masters that share two cores.
        let rest = del(&nodes, &[2]).args(["--drain", "--yes"]);
        rest.timeout(PATIENCE * 2).run().status(0);
        assert_left(&nodes, &id, Some(&nodes[2]), &[0, 1, 3, 4, 5]);
        assert_eq!(counts(&nodes[..2]), [8192, 8192]);
        keys.assert_kept(&nodes);
    }
}

#[test]
fn a_signal_while_the_last_slots_move_keeps_the_node() {
    let (nodes, proxies) = Nodes::behind_proxies(3, &Spec::new().quick());
    for (index, slots) in [0..=7999, 8000..=16379, 16380..=16383]
        .into_iter()
        .enumerate()
    {
        nodes.assign(index, slots);
        nodes[index].cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
    }
    nodes.join();
    nodes.wait_usable();
    fill(&nodes, &names(16380..16384, 150));
    let before = contents(&nodes);
    let id = nodes[2].id();
    proxies[2].stall_at("CLUSTER SETSLOT", 1);
    let run = del(&nodes, &[2])
        .args(["--drain", "--yes", "--pipeline", "5"])
        .args(["--max-open-slots", "4"])
        .spawn();
    assert!(proxies[2].wait_stalled(PATIENCE));
    // The keys of a slot now take 30 s.
    proxies[2].delay_requests(Duration::from_secs(1));
    proxies[2].resume();
    until("all slots to be open", PATIENCE, || {
        let text = nodes[2].nodes_text();
        match text.matches("->-").count() {
            4 => Ok(()),
            _ => Err(text),
        }
    });
    run.signal(Signal::SIGINT);
    run.wait_stderr("finishing the slots in hand");
    proxies[2].delay_requests(Duration::ZERO);
    run.wait()
        .status(130)
        .stderr_has("no node has left yet")
        .stderr_has(&format!(
            "redis-trib del-node {} {id} --drain",
            proxies[0].addr()
        ));
    // The slots in hand were finished.
    assert_eq!(owned_slots(&nodes[2]).len(), 0);
    assert_eq!(nodes[2].nodes_text().lines().count(), 3);
    assert_eq!(nodes[2].id(), id);
    del(&nodes, &[2]).args(["--drain", "--yes"]).run().status(0);
    assert_left(&nodes, &id, Some(&nodes[2]), &[0, 1]);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn a_member_that_stops_during_the_drain_is_named() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    Keys::fill(&nodes, 2000, |slot: Slot| slot.number() > 10922);
    let before = contents(&nodes);
    let run = slow_drain(&nodes).args(["--command-timeout", "2s"]).spawn();
    until(
        "some slots to have moved",
        PATIENCE,
        || match owned_slots(&nodes[2]).len() {
            left if left < 5300 => Ok(()),
            left => Err(format!("{left} are there")),
        },
    );
    // A target of the moves.
    nodes[0].stop();
    let ended = run.wait();
    nodes[0].cont();
    ended
        .status(6)
        .stderr_has(&nodes[0].addr())
        .stderr_has("del-node");
    until(
        "the stopped node or its replica to be there",
        PATIENCE,
        || {
            let check = Trib::new().args(["info", &nodes[1].addr()]).run();
            match nodes[1].field("cluster_state").as_deref() {
                Some("ok") if check.stdout.contains("slots") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        },
    );
    until(
        "the same command to finish it",
        Duration::from_secs(60),
        || {
            let again = Trib::new()
                .args([
                    "del-node",
                    &nodes[1].addr(),
                    &nodes[2].addr(),
                    "--drain",
                    "--yes",
                ])
                .run();
            match again.status {
                Ended::Status(0) => Ok(()),
                _ => Err(again.stderr),
            }
        },
    );
    assert_eq!(nodes[2].nodes_text().lines().count(), 1);
    assert_healthy(&nodes[1]);
    assert_same(&before, &readable_contents(&nodes));
}

/// Killed with a FORGET on its way, with a RESET on its way, and after that: run again it finishes.
#[test]
fn killed_among_forget_and_reset() {
    for version in fault_versions() {
        const AWAY: usize = 6;
        for (command, at, nth) in [
            ("CLUSTER FORGET", 1, 1),
            ("CLUSTER RESET", AWAY, 1),
            ("CLUSTER FORGET", 4, 2),
        ] {
            let (nodes, proxies) = Nodes::behind_proxies(7, &Spec::new().version(version).quick());
            nodes.form(3);
            let id = nodes[AWAY].id();
            let run =
                |name: &str| Trib::new().args(["del-node", &proxies[0].addr(), name, "--yes"]);
            proxies[at].stall_at(command, nth);
            let cut = run(&id).spawn();
            let reached = proxies[at].wait_stalled(PATIENCE);
            cut.signal(Signal::SIGKILL);
            cut.wait();
            assert!(reached, "{command} number {nth} never came");
            proxies[at].resume();
            // A node that no member knows any more is named by address.
            let again = run(&id).run();
            if again.status == Ended::Status(3) {
                let again = again.stderr_has("name it by its address");
                let by_addr = run(&proxies[AWAY].addr()).run();
                // Unless all was done.
                if nodes[AWAY].nodes_text().lines().count() > 1 {
                    panic!("{command} {nth}\n{}\n{}", again.stderr, by_addr.stderr);
                }
            } else {
                again.status(0);
            }
            assert_left(&nodes, &id, Some(&nodes[AWAY]), &[0, 1, 2, 3, 4, 5]);
        }
    }
}

#[test]
fn servers_are_shut_down_where_that_is_wanted() {
    let nodes = Nodes::quick(7);
    nodes.form(3);
    del(&nodes, &[6])
        .args(["--shutdown", "--yes"])
        .run()
        .status(0);
    until("the server to be gone", PATIENCE, || {
        match nodes[6].try_cmd(&["PING"]) {
            Err(_) => Ok(()),
            Ok(_) => Err("it answers".to_string()),
        }
    });
    assert_eq!(nodes[0].nodes_text().lines().count(), 6);
}

/// Another server takes the address of the node between the first look and the reset.
#[test]
fn another_node_at_the_address_is_neither_reset_nor_shut_down() {
    let (nodes, proxies) = Nodes::behind_proxies(7, &Spec::new().quick());
    nodes.form(3);
    let other = Spec::new().quick().start();
    let (id, other_id) = (nodes[6].id(), other.id());
    // The first FORGET only finds out whether it is allowed.
    proxies[1].stall_at("CLUSTER FORGET", 2);
    let run = Trib::new()
        .args(["del-node", &proxies[0].addr(), &id, "--shutdown", "--yes"])
        .spawn();
    let reached = proxies[1].wait_stalled(PATIENCE);
    proxies[6].point_at(&other.addr());
    proxies[1].resume();
    run.wait()
        .status(6)
        .stderr_has("was not reset: ")
        .stderr_has(&other_id[..8])
        .stderr_has(&proxies[6].addr());
    assert!(reached, "no FORGET came");
    for (server, id) in [(&nodes[6], &id), (&other, &other_id)] {
        assert_eq!(server.id(), *id);
        assert_eq!(server.text(&["PING"]), "PONG");
    }
    for command in ["CLUSTER RESET", "SHUTDOWN"] {
        assert_eq!(proxies[6].count(command), 0, "{command}");
    }
}

#[test]
fn who_may_not_is_told_before_anything_is_done() {
    let rules = "~* &* +@all -cluster|forget";
    let nodes = Nodes::with(7, &Spec::new().quick().user("poor", "secret", rules));
    nodes.form(3);
    del(&nodes, &[2])
        .args(["--drain", "--yes", "--user", "poor", "--pass", "secret"])
        .run()
        .status(3)
        .stderr_has("CLUSTER FORGET")
        .stderr_has(&nodes[1].addr())
        .stderr_has("Nothing was changed.")
        .stderr_lacks("secret");
    assert_eq!(counts(&nodes[..3]), [5461, 5461, 5462]);
}

#[test]
fn another_operator_is_named() {
    let nodes = Nodes::quick(7);
    nodes.form(3);
    let mut other = nodes[1].connection().unwrap();
    redis::cmd("CLIENT")
        .arg("SETNAME")
        .arg("redis-trib/reshard/ann@laptop/0000")
        .query::<()>(&mut other)
        .unwrap();
    del(&nodes, &[6])
        .args(["--yes"])
        .run()
        .status(3)
        .stderr_has("ann@laptop");
    assert_eq!(nodes[0].nodes_text().lines().count(), 7);
}

/// It would keep its data and its list of nodes, and come back as an outcast.
#[test]
fn a_replica_that_loads_its_data_is_not_forgotten() {
    let nodes = Nodes::with(4, &Spec::new().quick().words("--save", &["3600", "1"]));
    nodes.form(3);
    let value = "v".repeat(2000);
    for key in 0..300 {
        nodes[0].cmd(&["SET", &format!("{{06S}}{key}"), &value]);
    }
    nodes[0].cmd(&["WAIT", "1", "5000"]);
    nodes[3].cmd(&["CONFIG", "SET", "rdbcompression", "no"]);
    nodes[3].cmd(&["SAVE"]);
    let id = nodes[3].id();
    // Half a minute of loading, and between two keys it answers.
    nodes[3].restart_with(&[
        "--key-load-delay",
        "100000",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    Trib::new()
        .args(["del-node", &nodes[0].addr(), &id, "--yes"])
        .run()
        .status(3)
        .stderr_has("loading")
        .stderr_has("nothing was changed");
    assert!(nodes[0].nodes_text().contains(&id));
}
