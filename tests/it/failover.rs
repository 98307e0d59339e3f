//! `failover`: a replica takes over.

use std::time::{Duration, Instant};

use crate::support::cluster::Nodes;
use crate::support::command::{Signal, Trib};
use crate::support::proxy::{How, Proxy};
use crate::support::scripted::{Reply, Script, Scripted};
use crate::support::server::{Server, Spec, versions};
use crate::support::views::{counts, myself};
use crate::support::wait::{PATIENCE, until};
use crate::support::writers::Writers;

/// `failover` to that replica.
fn failover(nodes: &[Server], replica: &str) -> Trib {
    Trib::new().args(["failover", "--yes", &nodes[0].addr(), "--to", replica])
}

/// `failover` from that master to its best replica.
fn hand_over(nodes: &[Server], master: &str) -> Trib {
    Trib::new().args(["failover", "--yes", &nodes[0].addr(), "--of", master])
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
        // First to a replica, named by a prefix of its id; then the new master hands back to its best replica.
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
        let ended = hand_over(&nodes, &nodes[4].addr())
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
    // Four node timeouts.
    const OLD_VOTES_COUNT: Duration = Duration::from_secs(8);
    let nodes = Nodes::quick(6);
    nodes.form(3);
    let mut writers = Writers::start(&nodes, 4);
    let mut followed_since = Instant::now();
    for (index, waits) in [(4, false), (1, false), (4, true)] {
        if index == 1 {
            followed_since = Instant::now();
        }
        let ended = failover(&nodes, &nodes[index].id()).run().status(0);
        let waited = ended.stderr.contains("would count the old votes again");
        // On a busy machine the votes are too old by then to be counted again.
        let is_due = waits && followed_since.elapsed() < OLD_VOTES_COUNT;
        assert!(waited || !is_due, "{}", ended.stderr);
        assert!(waits || !waited, "{}", ended.stderr);
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
    let ended = hand_over(&nodes, &nodes[0].id())
        .args(["--command-timeout", "3s"])
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
        .expect("Fail over, and lose such writes? (type 'yes' to accept): ")
        .send_line("no");
    terminal.finish().status(5);
    assert_eq!(role(&nodes[3]), "slave");
    let mut terminal = line(&[]).terminal();
    terminal.expect("Fail over?").send_line("yes");
    let ended = terminal.finish().status(0);
    assert!(ended.screen().contains("ok: "), "{}", ended.screen());
    assert_eq!(role(&nodes[3]), "master");
}

#[test]
fn what_can_not_be() {
    let nodes = Nodes::quick(5);
    nodes.form(3);
    let refused = |id: &str| failover(&nodes, id).run().status(3);
    refused("ffffffffff").stderr_has("\"ffffffffff\" is not a node of this cluster");
    refused(&nodes[3].id()[..3]).stderr_has("4 or more characters");
    let of = |id: &str| hand_over(&nodes, id).run().status(3);
    of(&nodes[2].id())
        .stderr_has("has no replica that could take over")
        .stderr_has("--master-id");
    // Slots on their way.
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "7", "MIGRATING", &nodes[1].id()]);
    refused(&nodes[3].id()).stderr_has("slots 7 are open on ");
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "7", "STABLE"]);
    let hung = nodes[4].id();
    // A node that does not answer has the role that the others report for it.
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
        .args(["--command-timeout", "3s"])
        .run()
        .status(3)
        .within(Duration::from_secs(25))
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
    // Exactly one member, named in one way.
    for members in [
        &[][..],
        &["--to", "abcd", "--of", "abcd"],
        &["abcd", "--to", "abcd"],
        &["abcd", "--of", "abcd"],
        &["abcd", "abcd"],
    ] {
        Trib::new()
            .args(["failover", "127.0.0.1:1", "--yes"])
            .args(members)
            .run()
            .status(2);
    }
}

/// The state that each form asks for is success when it is there already: nothing is changed.
#[test]
fn the_same_command_twice() {
    let nodes = Nodes::quick(4);
    nodes.form(3);
    let (master, replica) = (&nodes[0], &nodes[3]);
    let line = |args: &[&str]| {
        Trib::new()
            .args(["failover", "--yes", &nodes[1].addr()])
            .args(args)
    };
    let epochs = || {
        nodes
            .iter()
            .map(|node| node.field("cluster_current_epoch"))
            .collect::<Vec<_>>()
    };
    let unchanged = |args: &[&str], said: &str| {
        let before = epochs();
        let ended = line(args).run().status(0);
        assert!(ended.stdout.contains(said), "{}", ended.stdout);
        assert!(!ended.stdout.contains("took over"), "{}", ended.stdout);
        assert_eq!(epochs(), before);
    };

    line(&["--to", &replica.id()])
        .run()
        .status(0)
        .stdout_has(" took over 5,461 slots from ");
    unchanged(&["--to", &replica.id()], "is already the master");
    unchanged(&["--of", &master.id()], "is already a replica of");
    // It needs no consent, and says the same in a dry run and in JSON.
    Trib::new()
        .args(["failover", &nodes[1].addr(), "--to", &replica.addr()])
        .run()
        .status(0)
        .stdout_has("is already the master");
    unchanged(
        &["--to", &replica.id(), "--dry-run"],
        "is already the master",
    );
    let lines = line(&["--of", &master.id(), "-o", "json"])
        .run()
        .status(0)
        .json_lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["event"], "done");
    assert_eq!(lines[0]["exit_code"], 0);

    // A member without an option: a replica takes over, a master is refused.
    line(&[&replica.id()[..8]])
        .run()
        .status(3)
        .stderr_has("is a master: use --of ")
        .stderr_has("--to REPLICA");
    line(&[&master.id()[..8]])
        .run()
        .status(0)
        .stdout_has(" took over 5,461 slots from ");
    assert_eq!(role(master), "master");

    line(&["--of", &master.addr()]).run().status(0);
    assert_eq!(role(replica), "master");
    unchanged(&["--of", &master.addr()], "is already a replica of");
}

/// `--of` a replica whose master is dead is no success: its slots are not served.
#[test]
fn of_a_replica_without_its_master() {
    let nodes = Nodes::with(4, &Spec::new().quick().node_timeout(60_000));
    nodes.form(3);
    let master = nodes[0].id();
    nodes[0].stop();
    let quick = ["--command-timeout", "3s"];
    hand_over(&nodes[1..], &nodes[3].id())
        .args(quick)
        .run()
        .status(3)
        .stderr_has("is a replica, and its master ")
        .stderr_has("does not answer: --of ");
    // Nor is a master that hangs "already the master".
    failover(&nodes[1..], &master)
        .args(quick)
        .run()
        .status(3)
        .stderr_has("does not answer");
    nodes[0].cont();
}

/// The nodes that must agree are looked up before anything is sent. The second master announces a name, so its IP
/// address is only known from a connection to it, and it dies while it is asked for other operators.
#[test]
fn a_failed_survey_is_a_refusal() {
    let proxies: Vec<Proxy> = (0..4).map(|_| Proxy::unconnected()).collect();
    let port = |index: usize| proxies[index].addr().rsplit_once(':').unwrap().1.to_owned();
    let table = |myself: usize| {
        let line = |index: usize| {
            let me = if index == myself { "myself," } else { "" };
            let host = if index == 1 { "localhost" } else { "127.0.0.1" };
            let rest = match index {
                0 => "master - 0 1 1 connected 0-5460".to_owned(),
                1 => "master - 0 1 2 connected 5461-10922".to_owned(),
                2 => "master - 0 1 3 connected 10923-16383".to_owned(),
                _ => format!("slave {:040x} 0 1 1 connected", 1),
            };
            format!("{:040x} {host}:{}@1 {me}{rest}\n", index + 1, port(index))
        };
        Reply::bulk(&(0..4).map(line).collect::<String>())
    };
    let mut nodes: Vec<Option<Scripted>> = (0..4)
        .map(|index| {
            let script = Script::new()
                .on("CLUSTER NODES", table(index))
                .on("CLUSTER INFO", Reply::bulk("cluster_state:ok\r\n"))
                .on("CLUSTER FAILOVER", Reply::ok());
            let script = match index {
                1 => script.on("CLIENT LIST", Reply::never()),
                3 => {
                    let slave = [
                        Reply::bulk("slave"),
                        Reply::bulk("127.0.0.1"),
                        Reply::int(port(0).parse().unwrap()),
                        Reply::bulk("connected"),
                        Reply::int(100),
                    ];
                    script.on("ROLE", Reply::array(slave)).on(
                        "INFO",
                        Reply::bulk(
                            "redis_version:7.0.15\r\ncluster_enabled:1\r\nrole:slave\r\n\
                             master_link_status:up\r\nslave_repl_offset:100\r\n",
                        ),
                    )
                }
                _ => script,
            };
            Some(script.start())
        })
        .collect();
    for (proxy, node) in proxies.iter().zip(&nodes) {
        proxy.point_at(&node.as_ref().unwrap().addr());
    }
    let replica = format!("{:040x}", 4);
    let run = Trib::new()
        .args(["failover", "--yes", &proxies[0].addr(), "--to", &replica])
        .args(["--timeout", "3s"])
        .spawn();
    until("CLIENT LIST to be asked", PATIENCE, || {
        let commands = nodes[1].as_ref().unwrap().commands();
        match commands.iter().any(|command| command == "CLIENT LIST") {
            true => Ok(()),
            false => Err(commands.join("\n")),
        }
    });
    nodes[1] = None;
    run.wait().status(3).stderr_has("localhost");
    let commands = nodes[3].as_ref().unwrap().commands();
    assert!(
        !commands
            .iter()
            .any(|command| command.starts_with("CLUSTER FAILOVER")),
        "{commands:?}"
    );
}

#[test]
fn a_master_that_hangs_is_left_out_by_force() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    // Longer than the test, so that no replica is elected meanwhile.
    for server in nodes.iter() {
        server.cmd(&["CONFIG", "SET", "cluster-node-timeout", "60000"]);
    }
    nodes[1].stop();
    let quick = ["--command-timeout", "3s"];
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
        .args(["--command-timeout", "3s", "--force"])
        .run();
    nodes[0].cont();
    run.status(0).stdout_has(" took over 5,461 slots from ");
}

#[test]
fn who_can_not_agree_holds_no_forced_takeover_up() {
    let nodes = Nodes::with(4, &Spec::new().quick().node_timeout(60_000));
    nodes.form(3);
    nodes[0].stop();
    // The owner of the slot is stopped, so this node does not learn of it again.
    nodes[2].cmd(&["CLUSTER", "DELSLOTS", "7"]);
    let run = failover(&nodes[1..], &nodes[3].id())
        .args(["--command-timeout", "3s", "--timeout", "120s", "--force"])
        .timeout(PATIENCE * 3)
        .run();
    nodes[0].cont();
    run.status(0)
        .within(PATIENCE)
        .stdout_has(" took over 5,461 slots from ");
    assert_eq!(counts(&nodes)[3], 5461);
}

#[test]
fn without_a_majority_only_a_takeover_helps() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    let dead = [nodes[1].id(), nodes[2].id()];
    // Between the two there is a majority that could elect a replica of the first.
    for replica in &nodes[4..] {
        replica.cmd(&["CONFIG", "SET", "cluster-replica-no-failover", "yes"]);
    }
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
    // The slots of the other dead master are not served. The nodes may or may not have noticed that
    // by then.
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
        .stderr_has("may still take over; redis-trib check ");
    proxies[3].resume();
}

/// A replica that first hears from the old master itself that it is now a replica still follows it:
/// it does not re-evaluate which master it should follow (Redis 8.2, 8.6).
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

/// Without the members that have to agree, nothing shows that they do.
#[test]
fn a_member_that_goes_away_before_the_start_is_a_refusal() {
    let (nodes, proxies) = Nodes::behind_proxies(6, &Spec::new().quick());
    // Its address has to be asked for: the others know it by a name.
    nodes[5].cmd(&["CONFIG", "SET", "cluster-announce-ip", "localhost"]);
    nodes.form(3);
    let go = || Trib::new().args(["failover", &proxies[0].addr(), &nodes[4].id()]);
    // It goes away between the plan and the start, while other operators are looked for.
    proxies[4].stall_at("CLIENT LIST", 1);
    let run = go().arg("--yes").spawn();
    assert!(proxies[4].wait_stalled(PATIENCE), "it never came to that");
    proxies[5].refuse();
    proxies[5].cut_now(How::Reset);
    proxies[4].resume();
    let ended = run.wait().status(3);
    assert!(!ended.stderr.contains("took over"), "{}", ended.stderr);
    assert_eq!(role(&nodes[4]), "slave");
    proxies[5].resume();
    go().arg("--yes").run().status(0);
    assert_eq!(role(&nodes[4]), "master");
}
