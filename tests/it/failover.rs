//! `failover`: a replica takes over.

use std::time::Duration;

use crate::support::cluster::Nodes;
use crate::support::command::{Signal, Trib};
use crate::support::server::{Server, Spec, versions};
use crate::support::views::{counts, myself};
use crate::support::wait::{PATIENCE, until};
use crate::support::writers::Writers;

fn failover(nodes: &[Server], id: &str) -> Trib {
    Trib::new().args(["failover", "--yes", &nodes[0].addr(), id])
}

fn role(server: &Server) -> String {
    server.field("role").unwrap()
}

#[test]
fn matrix_writes_go_on_and_none_is_lost() {
    for version in versions() {
        let nodes = Nodes::with(6, &Spec::new().quick().version(version));
        nodes.form(3);
        let mut writers = Writers::start(&nodes, 4);
        // The replica by the beginning of its id; then the master hands it back, to its best one.
        failover(&nodes, &nodes[4].id()[..12])
            .run()
            .status(0)
            .stdout_has(&format!("{} (", nodes[4].addr()))
            .stdout_has(" took over 5,461 slots from ")
            .stdout_has("writes were held for ")
            .stdout_has(" at most.\n");
        assert_eq!(role(&nodes[4]), "master");
        assert_eq!(myself(&nodes[1])[3], nodes[4].id());
        assert_eq!(nodes[1].field("master_link_status").unwrap(), "up");
        writers.wait_for_more(50);
        let ended = failover(&nodes, &nodes[4].addr())
            .args(["-o", "json"])
            .run()
            .status(0);
        let lines = ended.json_lines();
        assert_eq!(lines[0]["event"], "failover");
        assert_eq!(lines[0]["replica"]["id"], nodes[1].id());
        let done = lines
            .iter()
            .find(|line| line["event"] == "failed-over")
            .unwrap();
        assert!(done["held_ms"].as_u64().unwrap() < 5000, "{done}");
        assert_eq!(lines.last().unwrap()["event"], "done");
        assert_eq!(role(&nodes[1]), "master");
        writers.wait_for_more(50);
        writers.stop();
        writers.assert_kept(&nodes.iter().collect::<Vec<_>>());
        assert_eq!(counts(&nodes)[..3], [5461, 5461, 5462]);
        Trib::new()
            .args(["check", &nodes[0].addr()])
            .run()
            .status(0);
    }
}

/// A node that was elected would count its old votes again (Redis 8.2.3): it is waited for.
#[test]
fn there_and_back_and_there_again() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    let mut writers = Writers::start(&nodes, 4);
    for (index, waits) in [(4, false), (1, false), (4, true)] {
        let ended = failover(&nodes, &nodes[index].id()).run().status(0);
        assert_eq!(
            ended.stderr.contains("would count the old votes again"),
            waits,
            "{}",
            ended.stderr
        );
        assert_eq!(role(&nodes[index]), "master");
        writers.wait_for_more(50);
    }
    writers.stop();
    writers.assert_kept(&nodes.iter().collect::<Vec<_>>());
}

#[test]
fn of_several_replicas_the_best() {
    let nodes = Nodes::quick(5);
    nodes.form(3);
    // Both follow the first.
    nodes.replicate(4, 0);
    nodes.wait_usable();
    let line = format!("slave {}", nodes[0].id());
    for server in nodes.iter() {
        until("all to know both", PATIENCE, || {
            let text = server.nodes_text();
            match text.matches(&line).count() {
                2 => Ok(()),
                _ => Err(text),
            }
        });
    }
    nodes[4].stop();
    let ended = failover(&nodes, &nodes[0].id())
        .args(["--command-timeout", "500ms", "--timeout", "5s"])
        .run();
    nodes[4].cont();
    // The one that hangs is not chosen.
    ended
        .status(0)
        .stdout_has(&format!(">>> {} (", nodes[3].addr()))
        .stdout_has("It has the most of the data, of 2 replicas.");
    assert_eq!(role(&nodes[3]), "master");
}

#[test]
fn consent() {
    let nodes = Nodes::quick(4);
    nodes.form(3);
    let line = |flags: &[&str]| {
        Trib::new()
            .args(["failover", &nodes[1].addr(), &nodes[3].id()])
            .args(flags)
    };
    line(&[]).run().status(5).stderr_has("--yes");
    line(&["--dry-run"])
        .run()
        .status(0)
        .stdout_has("Dry run: nothing was changed.");
    let mut terminal = line(&["--takeover"]).terminal();
    terminal
        .expect(" takes over from ")
        .expect("ARE LOST")
        .expect("Let it take over, and lose such writes? (type 'yes' to accept): ")
        .send_line("no");
    terminal.finish().status(5);
    assert_eq!(role(&nodes[3]), "slave");
    let mut terminal = line(&[]).terminal();
    terminal.expect("Let it take over?").send_line("yes");
    let ended = terminal.finish().status(0);
    assert!(ended.screen().contains("[OK] "), "{}", ended.screen());
    assert_eq!(role(&nodes[3]), "master");
}

#[test]
fn what_can_not_be() {
    let nodes = Nodes::quick(5);
    nodes.form(3);
    let refused = |id: &str| failover(&nodes, id).run().status(3);
    refused("ffffffffff").stderr_has("\"ffffffffff\" is no node of this cluster");
    refused(&nodes[2].id())
        .stderr_has("has no replica that could take over")
        .stderr_has("--master-id");
    // Slots on their way.
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "7", "MIGRATING", &nodes[1].id()]);
    refused(&nodes[3].id()).stderr_has("slots 7 are on their way");
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "7", "STABLE"]);
    let hung = nodes[4].id();
    // Who does not answer is what the others take it for.
    until("the others to hear that it is a replica", PATIENCE, || {
        let text = nodes[0].nodes_text();
        let line = text.lines().find(|line| line.starts_with(&hung));
        match line.is_some_and(|line| line.contains("slave")) {
            true => Ok(()),
            false => Err(text),
        }
    });
    nodes[4].stop();
    failover(&nodes, &hung)
        .args(["--command-timeout", "500ms"])
        .run()
        .status(3)
        .within(Duration::from_secs(10))
        .stderr_has(&format!("{} (", nodes[4].addr()))
        .stderr_has("does not answer");
    nodes[4].cont();
    Trib::new()
        .args(["failover", "127.0.0.1:1", "abc", "--yes"])
        .run()
        .status(4);
    Trib::new()
        .args(["failover", "h:1", "abc", "--force", "--takeover"])
        .run()
        .status(2);
}

#[test]
fn a_master_that_hangs_is_left_out_by_force() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    // Longer than the test: nobody is elected meanwhile.
    for server in nodes.iter() {
        server.cmd(&["CONFIG", "SET", "cluster-node-timeout", "60000"]);
    }
    nodes[1].stop();
    let quick = ["--command-timeout", "500ms", "--timeout", "10s"];
    failover(&nodes, &nodes[4].id())
        .args(quick)
        .run()
        .status(3)
        .stderr_has(&format!("the master {} (", nodes[1].addr()))
        .stderr_has("does not answer, so it can't hand over: --force takes over without it");
    failover(&nodes, &nodes[4].id())
        .args(quick)
        .arg("--force")
        .run()
        .status(0)
        .stdout_has("ARE LOST")
        .stdout_has(" took over 5,461 slots from ");
    assert_eq!(role(&nodes[4]), "master");
    nodes[1].cont();
    until("the old master to follow", PATIENCE, || {
        match myself(&nodes[1])[3].clone() {
            master if master == nodes[4].id() => Ok(()),
            other => Err(other),
        }
    });
}

#[test]
fn voters_hear_first_whom_the_replica_follows() {
    // Nodes with such a timeout gossip slowly, and ask for votes once in minutes.
    let nodes = Nodes::with(4, &Spec::new().quick().node_timeout(60_000));
    nodes.form(3);
    nodes[0].stop();
    let run = failover(&nodes[1..], &nodes[3].id())
        .args(["--command-timeout", "500ms", "--timeout", "10s", "--force"])
        .run();
    nodes[0].cont();
    run.status(0).stdout_has(" took over 5,461 slots from ");
}

#[test]
fn who_can_not_agree_holds_no_forced_takeover_up() {
    let nodes = Nodes::with(4, &Spec::new().quick().node_timeout(60_000));
    nodes.form(3);
    nodes[0].stop();
    // Who owns it is silent, so this one does not hear of it again.
    nodes[2].cmd(&["CLUSTER", "DELSLOTS", "7"]);
    let run = failover(&nodes[1..], &nodes[3].id())
        .args(["--command-timeout", "500ms", "--force"])
        .run();
    nodes[0].cont();
    run.status(0)
        .within(Duration::from_secs(20))
        .stdout_has(" took over 5,461 slots from ");
    assert_eq!(counts(&nodes)[3], 5461);
}

#[test]
fn without_a_majority_only_a_takeover_helps() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    let dead = [nodes[1].id(), nodes[2].id()];
    nodes[1].kill();
    nodes[2].kill();
    for id in &dead {
        // Of three masters one is left: it can only doubt.
        until("the dead to be missed", PATIENCE, || {
            let text = nodes[0].nodes_text();
            let line = text.lines().find(|line| line.starts_with(id)).unwrap();
            if line.contains("fail") {
                Ok(())
            } else {
                Err(text)
            }
        });
    }
    let line = |flag: &str| failover(&nodes, &nodes[4].id()).args([flag, "--timeout", "3s"]);
    line("--force")
        .run()
        .status(3)
        .stderr_has("1 of 3 masters answer, and a majority must vote: --takeover");
    // The slots of the other dead master are served by nobody; whether the nodes have noticed by then
    // is another matter.
    let ended = line("--takeover").run();
    assert!(
        ended.stdout.contains("[OK] ") || ended.stderr.contains("has taken over, but"),
        "{}",
        ended.stderr
    );
    assert_eq!(role(&nodes[4]), "master");
}

#[test]
fn no_votes_no_takeover() {
    let (nodes, proxies) = Nodes::behind_proxies(4, &Spec::new().quick());
    nodes.form(3);
    for server in nodes.iter() {
        server.cmd(&["CONFIG", "SET", "cluster-node-timeout", "30000"]);
    }
    proxies[3].stall_at("CLUSTER FAILOVER", 1);
    let run = Trib::new()
        .args(["failover", "--yes", &proxies[0].addr(), &nodes[3].id()])
        .spawn();
    assert!(proxies[3].wait_stalled(PATIENCE));
    nodes[1].stop();
    nodes[2].stop();
    proxies[3].resume();
    let ended = run.wait();
    nodes[1].cont();
    nodes[2].cont();
    ended
        .status(6)
        .within(Duration::from_secs(40))
        .stderr_has("did not take over within 8 s")
        .stderr_has("writes go on at ")
        .stderr_has(&format!(
            "redis-trib check {} --wait 30s",
            proxies[0].addr()
        ));
    until("the master to serve writes", PATIENCE, || {
        nodes[0]
            .try_cmd(&["SET", "b", "1"])
            .map_err(|error| error.to_string())
    });
}

#[test]
fn interrupted() {
    let (nodes, proxies) = Nodes::behind_proxies(4, &Spec::new().quick());
    nodes.form(3);
    proxies[3].stall_at("CLUSTER FAILOVER", 1);
    let run = Trib::new()
        .args(["failover", "--yes", &proxies[0].addr(), &nodes[3].id()])
        .spawn();
    assert!(proxies[3].wait_stalled(PATIENCE));
    run.signal(Signal::SIGINT);
    run.wait()
        .status(130)
        .stderr_has("takes over all the same, if it can");
    proxies[3].resume();
}

/// Who hears first from the old master that it is a replica now, follows it on: its server never asks
/// itself again (Redis 8.2, 8.6).
#[test]
fn matrix_a_sibling_that_hears_from_the_old_master_first() {
    for version in versions() {
        // These know no shards, or no DEBUG CLUSTERLINK.
        if ["redis-6.2", "redis-7.0"].contains(version) {
            continue;
        }
        let spec = Spec::new().quick().version(version);
        let spec = spec.arg("--enable-debug-command", "yes");
        let (nodes, proxies) = Nodes::behind_proxies(5, &spec);
        nodes.form(3);
        nodes.replicate(4, 0);
        nodes.wait_usable();
        proxies[3].stall_at("CLUSTER FAILOVER", 1);
        let run = Trib::new()
            .args(["failover", "--yes", &proxies[0].addr(), &nodes[3].id()])
            .spawn();
        assert!(proxies[3].wait_stalled(PATIENCE));
        // It comes back with the next tick of the new master's clock: up to 100 ms.
        nodes[3].cmd(&["DEBUG", "CLUSTERLINK", "KILL", "TO", &nodes[4].id()]);
        proxies[3].resume();
        run.wait().status(0);
        assert_eq!(myself(&nodes[4])[3], nodes[3].id());
        assert_eq!(nodes[4].field("master_link_status").unwrap(), "up");
    }
}
