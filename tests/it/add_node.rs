//! `add-node`: nodes join a cluster, and what keeps them from it.

use std::time::Duration;

use crate::support::cluster::Nodes;
use crate::support::command::{Finished, Signal, Trib};
use crate::support::hosts::{Hosts, services};
use crate::support::keys::Keys;
use crate::support::ports;
use crate::support::proxy::How;
use crate::support::server::{Server, Spec, versions};
use crate::support::tls::Material;
use crate::support::views::{assert_bare, assert_usable, counts, lines, myself};
use crate::support::wait::{PATIENCE, until};

/// `add-node --yes` of these.
fn add<S: AsRef<str>>(new: impl IntoIterator<Item = S>, existing: &Server) -> Trib {
    Trib::new()
        .args(["add-node", "--yes"])
        .args(new)
        .arg(existing.addr())
}

/// A cluster of the first, and the others beside it.
fn beside(masters: usize, members: usize, new: usize, spec: &Spec) -> (Nodes, Nodes) {
    let nodes = Nodes::with(members, spec);
    nodes.form(masters);
    (nodes, Nodes::with(new, spec))
}

#[track_caller]
fn check(server: &Server) {
    Trib::new().args(["check", &server.addr()]).run().status(0);
}

/// A node that was met twice is known twice for a moment, until the handshake shows that it is the
/// same node.
#[track_caller]
fn settle<'a>(nodes: impl IntoIterator<Item = &'a Server>) {
    for server in nodes {
        until("the handshakes to end", PATIENCE, || {
            let text = server.nodes_text();
            if text.contains("handshake") {
                Err(text)
            } else {
                Ok(())
            }
        });
    }
}

/// All nodes know each other and report `ok`.
#[track_caller]
fn assert_joined(members: &[Server], new: &[Server]) {
    let all = members.len() + new.len();
    settle(members.iter().chain(new));
    for server in members.iter().chain(new) {
        let field = |name: &str| server.field(name).unwrap_or_default();
        assert_eq!(field("cluster_state"), "ok", "{}", server.addr());
        assert_eq!(field("cluster_known_nodes"), all.to_string());
    }
}

/// Runs it; it ends with that code, one error, and a cluster that knows as many nodes as before.
#[track_caller]
fn refused(run: Trib, code: i32, members: &[Server]) -> Finished {
    let before = lines(&members[0]).len();
    let ended = run.run().status(code).within(Duration::from_secs(60));
    assert_eq!(
        ended.stderr.matches("error:").count(),
        1,
        "{}",
        ended.stderr
    );
    for server in members {
        assert_eq!(lines(server).len(), before, "{}", server.nodes_text());
    }
    ended.stdout_empty()
}

#[test]
fn matrix_a_master_and_a_replica_join_and_a_reshard_at_once_works() {
    for version in versions() {
        let spec = Spec::new().quick().version(version);
        let (nodes, new) = beside(3, 3, 2, &spec);
        let keys = Keys::fill(&nodes, 300, |_| true);
        add([new[0].addr()], &nodes[0])
            .run()
            .status(0)
            .stdout_has(&format!(
                ">>> Adding node {} to cluster {}",
                new[0].addr(),
                nodes[0].addr()
            ))
            .stdout_has("[OK] New node added correctly.\n")
            .stderr_has(">>> Sending CLUSTER MEET messages to join the cluster\n")
            .stderr_has("--use-empty-masters");
        assert_joined(&nodes, &new[..1]);
        Trib::new()
            .args(["reshard", &nodes[0].addr(), "--yes", "--slots", "100"])
            .args(["--from", "all", "--to", &new[0].id()])
            .run()
            .status(0);
        assert_eq!(counts(&new[..1]), [100]);
        add([new[1].addr()], &nodes[0])
            .args(["--replica", "--master-id", &nodes[1].id()[..10]])
            .run()
            .status(0)
            .stdout_has(&format!(
                ">>> Configure node as replica of {}.",
                nodes[1].addr()
            ))
            .stdout_has("[OK] New node added correctly.\n");
        assert_joined(&nodes, &new);
        assert_eq!(myself(&new[1])[3], nodes[1].id());
        assert_eq!(new[1].field("master_link_status").unwrap(), "up");
        let all: Vec<Server> = nodes.into_iter().chain(new).collect();
        keys.assert_kept(&all);
    }
}

#[test]
fn replicas_go_where_they_are_needed_most() {
    // Masters and newcomers on three hosts; the third master has a replica already.
    let hosts = ["127.0.3.1", "127.0.3.2", "127.0.3.3"];
    let spec = |index: usize| {
        let host = hosts[index % 3];
        Spec::new()
            .quick()
            .bind(host)
            .arg("--cluster-announce-ip", host)
    };
    let nodes = Nodes::each(3, spec);
    nodes.form(3);
    let new = Nodes::each(3, spec);
    let ended = add(new.addrs(), &nodes[0])
        .args(["--slave", "-o", "json"])
        .run()
        .status(0);
    let ids: Vec<String> = nodes.iter().map(Server::id).collect();
    let mut masters: Vec<usize> = new
        .iter()
        .map(|server| ids.iter().position(|id| *id == myself(server)[3]).unwrap())
        .collect();
    for (index, master) in masters.iter().enumerate() {
        assert_ne!(index, *master, "on its master's host");
    }
    masters.sort_unstable();
    assert_eq!(masters, [0, 1, 2]);
    let lines = ended.json_lines();
    assert_eq!(lines[0]["event"], "joining");
    assert_eq!(lines[0]["nodes"][0]["role"], "replica");
    assert_eq!(lines[0]["warnings"].as_array().unwrap().len(), 0);
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["event"], &last["exit_code"]),
        (&"done".into(), &0.into())
    );
    assert!(
        lines
            .iter()
            .any(|line| line["event"] == "added" && line["node_count"] == 3)
    );
    check(&nodes[0]);
}

#[test]
fn many_at_once_with_their_share_of_slots() {
    let (nodes, new) = beside(3, 6, 3, &Spec::new().quick());
    let keys = Keys::fill(&nodes, 2000, |_| true);
    let trib = |flag: &str| {
        let trib = Trib::new().arg("add-node").args(new.addrs());
        // The last node as two words.
        let port = nodes[4].port().to_string();
        trib.args(["127.0.0.1", &port, "--fill", flag]).run()
    };
    trib("--dry-run")
        .status(0)
        .stdout_has("It gets 2731 slots.")
        .stdout_has("Dry run: nothing was changed.\n");
    assert_bare(&new);
    trib("--yes")
        .status(0)
        .stdout_has("[OK] 3 new nodes added correctly.\n")
        .stdout_has("Ready to move 8192 slots.");
    assert_joined(&nodes, &new);
    let owned: Vec<usize> = counts(&nodes)[..3]
        .iter()
        .chain(&counts(&new))
        .copied()
        .collect();
    assert_eq!(owned.iter().sum::<usize>(), 16384);
    assert!(
        owned.iter().all(|count| (2730..=2731).contains(count)),
        "{owned:?}"
    );
    check(&nodes[0]);
    let all: Vec<Server> = nodes.into_iter().chain(new).collect();
    keys.assert_kept(&all);
}

#[test]
fn a_node_is_waited_for_until_it_serves() {
    // The servers' own timeouts: 5 s of cluster_state:fail.
    let (nodes, more) = beside(3, 3, 1, &Spec::new());
    let more = &more[0];
    let (new, proxies) = Nodes::behind_proxies(1, &Spec::new());
    // However late the second run looks, it finds that the first node does not serve yet.
    proxies[0].rewrite(b"cluster_state:ok", b"cluster_state:no");
    add([proxies[0].addr()], &nodes[0])
        .arg("--no-wait")
        .run()
        .status(0);
    assert_eq!(lines(&new[0]).len(), 4);
    let run = add([more.addr()], &nodes[1]).spawn();
    run.wait_stderr("waiting: cluster-state-not-ok: 1 node reports cluster_state:fail");
    proxies[0].stop_rewriting();
    let ended = run.wait().status(0);
    assert!(
        ended.elapsed > Duration::from_secs(2),
        "{:?}",
        ended.elapsed
    );
    assert_eq!(more.field("cluster_state").unwrap(), "ok");
    // First for the one before it, then for its own.
    ended.stderr_has("waiting: cluster_state:ok");
}

#[test]
fn without_consent() {
    let (nodes, new) = beside(3, 3, 1, &Spec::new().quick());
    let line = || Trib::new().args(["add-node", &new[0].addr(), &nodes[0].addr()]);
    line()
        .run()
        .status(5)
        .stderr_has("pass --yes (nothing was changed)");
    for (answer, code) in [("no\r", 5), ("\u{3}", 130)] {
        let mut terminal = line().terminal();
        terminal
            .expect("1 new node for the cluster of 3 nodes that ")
            .expect("Add this node? (type 'yes' to accept): ")
            .send(answer);
        terminal.finish().status(code);
    }
    assert_bare(&new);
    let mut terminal = line().terminal();
    terminal.expect("Add this node?").send_line("yes");
    let ended = terminal.finish().status(0);
    assert!(
        ended.screen().contains("ok: 1 node joined the cluster."),
        "{}",
        ended.screen()
    );
    assert_joined(&nodes, &new);
}

#[test]
fn wrong_usage() {
    let line = |args: &[&str]| Trib::new().arg("add-node").args(args).run();
    for (args, said) in [
        (&["h:1"][..], "EXISTING"),
        (&["h:1", "h:1", "h:2"], "h:1 is named twice"),
        (&["7000", "h:2"], "\"7000\" is not a host"),
        (&["h:1", "h:2", "--master-id", "abc"], "--replica"),
        (&["h:1", "h:2", "--fill", "--replica"], "--replica"),
        (
            &["h:1", "h:2", "--reset", "--reset-hard-and-flush"],
            "--reset",
        ),
        (&["h:1", "h:2", "--plan-out", "f"], "add --fill"),
        (
            &["h:1", "h:2", "-o", "nagios"],
            "--output nagios is for check only",
        ),
    ] {
        line(args).status(2).stderr_has(said);
    }
}

#[test]
fn nodes_that_lead_nowhere() {
    let (nodes, new) = beside(3, 3, 1, &Spec::new().quick());
    add(new.addrs(), &nodes[0]).run().status(0);
    // All reasons at once.
    let plain = Spec::new().plain().start();
    let other = Nodes::quick(2);
    refused(
        add([&new[0].addr(), &plain.addr(), "127.0.0.1:1"], &nodes[0]),
        3,
        &nodes,
    )
    .stderr_has("127.0.0.1:1: connection refused")
    .stderr_has("is not a cluster node: set cluster-enabled yes");
    // What is a member already is left alone, unless it has another role.
    add([new[0].addr(), nodes[1].addr()], &nodes[0])
        .run()
        .status(0)
        .stdout_has("nothing to do")
        .stderr_has("is a member already, a master without slots, and is left alone")
        .stderr_has(&format!(
            "rebalance {} --use-empty-masters",
            nodes[0].addr()
        ));
    let as_replica = add([nodes[1].addr()], &nodes[0]).arg("--replica");
    refused(as_replica, 3, &nodes)
        .stderr_has("is a member of this cluster already, a master: leave it out");
    let port = other[0].port();
    refused(
        add([other[0].addr(), format!("localhost:{port}")], &nodes[0]),
        3,
        &nodes,
    )
    .stderr_has("are the same node: name it once");
    refused(add(["127.0.0.1:1"], &nodes[0]), 3, &nodes).stderr_has("connection refused");
    Trib::new()
        .args(["add-node", "--yes", &other[0].addr(), "127.0.0.1:1"])
        .run()
        .status(4)
        .stderr_has("127.0.0.1:1: connection refused");
    // Not a cluster to join.
    refused(add([other[0].addr()], &other[1]), 3, &nodes).stderr_has("is in no cluster");
    let hung = Spec::new().quick().start();
    hung.stop();
    refused(
        add([hung.addr()], &nodes[0]).args(["--command-timeout", "5s"]),
        3,
        &nodes,
    )
    .stderr_has(&format!("{}: no answer to", hung.addr()));
    assert_bare(&other);
}

#[test]
fn masters_that_are_none() {
    let (nodes, new) = beside(2, 3, 1, &Spec::new().quick());
    let line = |id: &str| add(new.addrs(), &nodes[0]).args(["--replica", "--master-id", id]);
    refused(line("ffffffffff"), 3, &nodes)
        .stderr_has("\"ffffffffff\" is not a node of this cluster");
    refused(line(&nodes[2].id()), 3, &nodes)
        .stderr_has("is a replica of")
        .stderr_has(&format!("{} (", nodes[0].addr()));
    assert_bare(&new);
}

#[test]
fn an_unhealthy_cluster_takes_nobody_in() {
    let (nodes, new) = beside(3, 3, 1, &Spec::new().quick());
    nodes[1].cmd(&["CLUSTER", "DELSLOTS", "7000"]);
    add(new.addrs(), &nodes[0])
        .run()
        .status(3)
        .stderr_has("in healthy clusters only")
        .stderr_has("slots-uncovered");
    assert_bare(&new);
}

#[test]
fn what_a_node_holds_or_knows_is_told() {
    let spec = Spec::new().quick();
    let (nodes, new) = beside(3, 3, 3, &spec);
    let other = Nodes::with(2, &spec);
    other.form(1);
    other[0].cmd(&["SET", "key", "value"]);
    // Slots and a key, in no cluster.
    new[1].cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    until("the slots to be served", PATIENCE, || {
        new[1]
            .try_cmd(&["SET", "a", "1"])
            .map_err(|error| error.to_string())
    });
    new[1].cmd(&["CLUSTER", "DELSLOTSRANGE", "0", "16383"]);
    new[2].cmd(&["CLUSTER", "ADDSLOTS", "7"]);
    refused(
        add(
            [new[0].addr(), new[1].addr(), new[2].addr(), other[1].addr()],
            &nodes[0],
        ),
        3,
        &nodes,
    )
    .stderr_has("for 3 reasons")
    .stderr_has("is not empty: it holds 1 key (--reset-hard-and-flush deletes them)")
    .stderr_has("owns slots 7 (--reset makes it forget that, if that cluster no longer exists)")
    .stderr_has(&format!(
        "belongs to another cluster: it knows {} (",
        other[0].addr()
    ))
    .stderr_has(", and holds 1 key");
    // No flag takes a node from a cluster that lives.
    for flag in ["--reset", "--reset-hard-and-flush"] {
        refused(add([other[0].addr()], &nodes[0]).arg(flag), 3, &nodes);
    }
    refused(
        add([other[0].addr()], &nodes[0]).arg("--reset-hard-and-flush"),
        3,
        &nodes,
    )
    .stderr_has("is an active member of another cluster")
    .stderr_has("lists it as a member");
    assert_eq!(other[0].text(&["GET", "key"]), "value");
    assert_bare(&new[..1]);
}

/// Redis ≥ 7.2 and Valkey ≥ 8.0: members tell each other for 60 s which nodes they have forgotten, and forget these again.
#[test]
fn what_was_forgotten_a_moment_ago_stays() {
    std::thread::scope(|scope| {
        for version in ["redis-8.10", "valkey-9.1"] {
            scope.spawn(move || forgotten_and_added(version));
        }
    });
}

/// Leaves as with redis-cli, which resets softly, and is added at once.
fn forgotten_and_added(version: &str) {
    let nodes = Nodes::with(4, &Spec::new().quick().version(version));
    nodes.form(3);
    let (members, node) = (&nodes[..3], &nodes[3]);
    let id = node.id();
    for member in members {
        member.cmd(&["CLUSTER", "FORGET", &id]);
    }
    node.cmd(&["CLUSTER", "RESET", "SOFT"]);
    let ended = add([node.addr()], &nodes[0])
        .timeout(Duration::from_secs(120))
        .run()
        .status(0);
    assert_eq!(node.id(), id);
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(500));
        for member in members {
            let text = member.nodes_text();
            assert!(text.contains(&id), "{text}\n{}", ended.stderr);
        }
    }
    check(&nodes[0]);
}

#[test]
fn resets() {
    let spec = Spec::new().quick();
    let (nodes, new) = beside(3, 3, 1, &spec);
    let other = Nodes::with(3, &spec);
    other.form(2);
    let old = other[0].id();
    // Its peers are gone; it holds nothing.
    other[1].kill();
    other[2].kill();
    let reset = || add([other[0].addr(), new[0].addr()], &nodes[0]).arg("--reset");
    until("the dead to be missed", PATIENCE, || {
        let text = other[0].nodes_text();
        if text.matches("disconnected").count() == 2 {
            Ok(())
        } else {
            Err(text)
        }
    });
    refused(add([other[0].addr()], &nodes[0]), 3, &nodes)
        .stderr_has("--reset makes it forget that");
    reset()
        .run()
        .status(0)
        .stdout_has("It forgets its old cluster before that.\n")
        .stdout_has("[OK] 2 new nodes added correctly.\n");
    assert_eq!(other[0].id(), old, "a soft reset keeps the id");
    assert_eq!(lines(&nodes[0]).len(), 5);
    check(&nodes[0]);

    // With keys it takes the other flag, which says what is lost.
    let full = Nodes::with(2, &spec);
    full.form(1);
    full[0].cmd(&["SET", "key", "value"]);
    until("the replica to have the key", PATIENCE, || {
        match full[1].text(&["DBSIZE"]).as_str() {
            "1" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    full[0].kill();
    until("the dead to be missed", PATIENCE, || {
        let text = full[1].nodes_text();
        if text.contains("disconnected") {
            Ok(())
        } else {
            Err(text)
        }
    });
    let (old, line) = (full[1].id(), || add([full[1].addr()], &nodes[0]));
    refused(line().arg("--reset"), 3, &nodes).stderr_has(", and holds 1 key");
    line()
        .arg("--reset-hard-and-flush")
        .run()
        .status(0)
        .stdout_has("It LOSES its 1 key and its id before that.\n");
    assert_ne!(full[1].id(), old);
    assert_eq!(full[1].text(&["DBSIZE"]), "0");
    assert_eq!(lines(&nodes[0]).len(), 6);
    check(&nodes[0]);
}

#[test]
fn passwords() {
    let spec = Spec::new().quick().password("s3cret");
    let nodes = Nodes::with(3, &spec);
    nodes.form(3);
    let open = Spec::new().quick().start();
    let half = spec.clone().arg("--masterauth", "").start();
    let other = Spec::new().quick().password("0ther").start();
    let good = spec.start();
    let line = |server: &Server| add([server.addr()], &nodes[0]).args(["-a", "s3cret"]);
    refused(line(&open), 3, &nodes)
        .stderr_has(&format!("{} (", open.addr()))
        .stderr_has(
            "requires no password, but other nodes do: set the same requirepass and masterauth on it",
        );
    refused(line(&half).arg("--replica"), 3, &nodes).stderr_has("has no masterauth");
    refused(line(&other), 3, &nodes)
        .stderr_has("wrong password")
        .stderr_lacks("s3cret");
    line(&good).arg("--replica").run().status(0);
    assert_eq!(good.field("master_link_status").unwrap(), "up");
    // The other way round.
    let plain = Nodes::quick(3);
    plain.form(3);
    refused(
        add([half.addr()], &plain[0]).args(["-a", "s3cret"]),
        3,
        &plain,
    )
    .stderr_has("requires a password, but the cluster does not");
    assert_bare(&[open, half, other]);
}

#[test]
fn functions_and_users_come_along() {
    const LIBRARY: &str = "#!lua name=lib\nredis.register_function('one', function() return 1 end)";
    let (nodes, new) = beside(3, 3, 3, &Spec::new().quick());
    for server in nodes.iter() {
        server.cmd(&["FUNCTION", "LOAD", LIBRARY]);
    }
    nodes[0].cmd(&["ACL", "SETUSER", "ann", "on", ">x", "+@all", "~*"]);
    nodes[1].cmd(&["ACL", "SETUSER", "ann", "on", ">x", "+@all", "~*"]);
    nodes[2].cmd(&["ACL", "SETUSER", "ann", "on", ">x", "+@all", "~*"]);
    add([new[0].addr()], &nodes[0])
        .run()
        .status(0)
        .stdout_has("New masters get 1 function library.\n")
        .stdout_has("[WARNING]")
        .stdout_has("(ann)");
    assert_eq!(new[0].text(&["FCALL", "one", "0"]), "1");
    // The same already: nothing to copy.
    new[1].cmd(&["FUNCTION", "LOAD", LIBRARY]);
    add([new[1].addr()], &nodes[0])
        .run()
        .status(0)
        .stdout_lacks("New masters get");
    new[2].cmd(&["FUNCTION", "LOAD", &LIBRARY.replace("return 1", "return 2")]);
    add([new[2].addr()], &nodes[0]).run().status(3).stderr_has(
        "has function libraries that the cluster does not have, or has with different code: lib",
    );
    assert_bare(&new[2..]);
}

#[test]
fn a_closed_bus_port_is_named_and_nothing_stays_behind() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let nowhere = ports::reserve();
    let new = Spec::new()
        .quick()
        .arg("--cluster-announce-bus-port", nowhere.port)
        .start();
    let good = Spec::new().quick().start();
    add([new.addr(), good.addr()], &nodes[0])
        .args(["--join-timeout", "15s"])
        .run()
        .status(6)
        .within(Duration::from_secs(40))
        .stderr_has("the nodes have not all joined after 15s:")
        .stderr_has(&format!(
            "its bus port 127.0.0.1:{} can't be reached from here either",
            nowhere.port
        ))
        .stderr_has(&format!("{} (", new.addr()))
        .stderr_has("has not joined")
        .stderr_has(&format!(
            "redis-trib add-node {} {}",
            new.addr(),
            nodes[0].addr()
        ));
    // The other one has joined all the same; the handshakes end by themselves.
    settle(nodes.iter());
    assert_eq!(lines(&nodes[0]).len(), 4);
    check(&nodes[0]);
}

#[test]
fn a_member_that_hangs_or_dies_meanwhile_is_named() {
    for dies in [false, true] {
        let (nodes, proxies) = Nodes::behind_proxies(3, &Spec::new().quick());
        nodes.form(3);
        let new = Spec::new().start();
        let member = &proxies[2];
        member.stall_at("CLUSTER MEET", 1);
        let run = add([new.addr()], &nodes[0])
            .args(["--join-timeout", "4s", "--command-timeout", "5s"])
            .spawn();
        assert!(member.wait_stalled(PATIENCE));
        // The first look after that waits for the nodes to join.
        member.stall_at("CLUSTER NODES", 1);
        member.resume();
        assert!(member.wait_stalled(PATIENCE));
        if dies {
            nodes[2].kill();
        } else {
            nodes[2].stop();
        }
        member.resume();
        run.wait()
            .status(6)
            .within(Duration::from_secs(45))
            .stderr_has(&member.addr())
            .stderr_has("To resume:");
    }
}

#[test]
fn a_silent_replica_keeps_nobody_out() {
    let (nodes, new) = beside(3, 4, 1, &Spec::new().quick());
    nodes[3].stop();
    until("the replica to be missed", PATIENCE, || {
        let text = nodes[0].nodes_text();
        if text.contains(",fail ") || text.contains("slave,fail") {
            Ok(())
        } else {
            Err(text)
        }
    });
    let ended = add(new.addrs(), &nodes[0])
        .args(["--command-timeout", "5s"])
        .run();
    nodes[3].cont();
    ended.status(0);
    until("the replica to hear of it", PATIENCE, || {
        match lines(&nodes[3]).len() {
            5 => Ok(()),
            other => Err(other.to_string()),
        }
    });
}

#[test]
fn a_replica_that_takes_over_meanwhile_is_agreed_about() {
    let (nodes, new) = beside(3, 6, 1, &Spec::new().quick());
    let run = add(new.addrs(), &nodes[0]).args(["-o", "json"]).spawn();
    run.wait_stdout("\"phase\":\"meet\"");
    nodes[4].cmd(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
    run.wait().status(0);
    assert_eq!(nodes[4].field("role").unwrap(), "master");
    // The takeover may have come after the last look of the run.
    Trib::new()
        .args(["check", &nodes[0].addr(), "--wait", "60s"])
        .timeout(2 * PATIENCE)
        .run()
        .status(0);
}

#[test]
fn killed_half_way_and_run_again() {
    let spec = Spec::new().quick();
    let nodes = Nodes::with(3, &spec);
    nodes.form(3);
    let (new, proxies) = Nodes::behind_proxies(2, &spec);
    // Both have joined by then, and the first does not become a replica.
    proxies[0].stall_at("CLUSTER REPLICATE", 1);
    let named = || proxies.iter().map(|proxy| proxy.addr());
    let run = add(named(), &nodes[0]).arg("--replica").spawn();
    assert!(proxies[0].wait_stalled(PATIENCE));
    run.signal(Signal::SIGKILL);
    run.wait().killed_by(Signal::SIGKILL);
    for proxy in &proxies {
        proxy.cut_now(How::Reset);
        proxy.resume();
    }
    assert_eq!(new[0].field("role").unwrap(), "master");
    // Those that follow already are refused by name; those that don't yet are finished.
    let done = |server: &&Server| server.field("role").as_deref() == Some("slave");
    let left = new
        .iter()
        .zip(&proxies)
        .filter(|(server, _)| !done(server))
        .map(|(_, proxy)| proxy.addr());
    until("all to know each other", PATIENCE, || {
        let run = Trib::new().args(["check", &nodes[0].addr()]).run();
        if run.stdout.contains("[ERR]") {
            Err(run.stdout)
        } else {
            Ok(())
        }
    });
    settle(nodes.iter());
    add(left, &nodes[0]).arg("--replica").run().status(0);
    assert_joined(&nodes, &new);
    let all: Vec<Server> = nodes.into_iter().chain(new).collect();
    assert_usable(&all, 3);
}

#[test]
fn interrupted() {
    let nodes = Nodes::start(3);
    nodes.form(3);
    let (_new, proxies) = Nodes::behind_proxies(1, &Spec::new());
    // However late the signal comes, the run still waits.
    proxies[0].rewrite(b"cluster_state:ok", b"cluster_state:no");
    let run = add([proxies[0].addr()], &nodes[0])
        .args(["-o", "json"])
        .spawn();
    run.wait_stdout("\"phase\":\"usable\"");
    run.signal(Signal::SIGINT);
    let ended = run
        .wait()
        .status(130)
        .stderr_has("interrupted (SIGINT)")
        .stderr_has("has joined as a master")
        .stderr_has(&format!("redis-trib check {} --wait 60s", nodes[0].addr()));
    let lines = ended.json_lines();
    assert_eq!(
        lines.iter().filter(|line| line["event"] == "done").count(),
        1
    );
    assert_eq!(lines.last().unwrap()["exit_code"], 130);
}

#[test]
fn an_older_server_is_refused() {
    // The bench's own: only the number is what it is about.
    let (nodes, _) = beside(3, 3, 0, &Spec::new().quick());
    let id = "0123456789012345678901234567890123456789";
    let old = crate::support::scripted::Script::new()
        .on(
            "INFO",
            crate::support::scripted::Reply::bulk("redis_version:6.2.5\r\ncluster_enabled:1\r\n"),
        )
        .on(
            "CLUSTER NODES",
            crate::support::scripted::Reply::bulk(&format!(
                "{id} :7000@17000 myself,master - 0 0 0 connected\n"
            )),
        )
        .on(
            "CLUSTER INFO",
            crate::support::scripted::Reply::bulk("cluster_state:fail\r\n"),
        )
        .start();
    refused(add([old.addr()], &nodes[0]), 3, &nodes)
        .stderr_has("runs redis 6.2.5, older than the cluster")
        .stderr_has("runs redis 7.0.15");
}

#[test]
fn names_that_stand_for_many() {
    let hosts = [
        "127.0.4.1",
        "127.0.4.2",
        "127.0.4.3",
        "127.0.4.4",
        "127.0.4.5",
    ];
    let lines: Vec<(&str, &str)> = hosts.into_iter().zip(["tasks.redis"; 5]).collect();
    let names = Hosts::new(&lines[..4]);
    let nodes = services(&hosts);
    let (port, first) = (nodes[0].port(), nodes[0].addr());
    Trib::new()
        .args(["create", "--yes"])
        .args(nodes[..3].iter().map(Server::addr))
        .run()
        .status(0);
    let service = format!("tasks.redis:{port}");
    // The service has grown from three to five, and is named for both.
    let run = names
        .trib()
        .args(["add-node", "--yes", "--replica", &service, &service])
        .args(["--expect-nodes", "5"])
        .spawn();
    run.wait_stderr("waiting: 5 nodes are expected, 4 found so far");
    names.write(&lines);
    run.wait()
        .status(0)
        .stdout_has("ok: 2 nodes joined the cluster.\n")
        .stderr_has(&format!("note: {first} ("))
        .stderr_has("and is left alone");
    settle(&nodes);
    assert_usable(&nodes, 3);
    // Again there is nothing to do; one by one they are refused.
    let again = || names.trib().args(["add-node", "--yes"]);
    again()
        .args([&service, &first])
        .run()
        .status(0)
        .stdout_is("All of these nodes are members already: nothing to do.\n");
    again()
        .args([&nodes[4].addr(), &first])
        .run()
        .status(3)
        .stderr_has("is a member of this cluster already, a replica of");
}

#[test]
fn over_tls() {
    let material = Material::new();
    let spec = Spec::new().quick().tls(&material);
    let (nodes, new) = beside(3, 3, 2, &spec);
    let ca = material.ca.display().to_string();
    add(new.addrs(), &nodes[0])
        .args(["--replica", "--tls", "--cacert", &ca])
        .run()
        .status(0);
    for server in new.iter() {
        assert_eq!(server.field("master_link_status").unwrap(), "up");
    }
}

/// The table of rules in docs/security.md.
#[test]
fn the_least_rights() {
    const CHECK: &str = "+cluster|nodes +cluster|info +info";
    let rules = |more: &str| format!("~* &* {CHECK} {more}");
    let spec = Spec::new()
        .quick()
        .user(
            "adder",
            "secret",
            &rules("+cluster|meet +cluster|replicate"),
        )
        .user("heir", "secret", &rules("+cluster|failover +role"));
    let (nodes, new) = beside(3, 3, 2, &spec);
    let line = |user: &str, words: &[&str]| {
        let run = Trib::new().args(words).args(["--yes", "--user", user]);
        run.env("REDISCLI_AUTH", "secret").run()
    };
    let first = nodes[0].addr();
    line("adder", &["add-node", &new[0].addr(), &first]).status(0);
    let replica = ["add-node", &new[1].addr(), &first, "--replica"];
    line("adder", &replica).status(0);
    line("heir", &["failover", &first, &new[1].id()]).status(0);
    assert_eq!(new[1].field("role").unwrap(), "master");
}
