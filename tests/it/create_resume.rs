//! `create` that was cut off, or comes too late: what is left behind, and what the next run makes of
//! it.

use std::time::Duration;

use crate::support::cluster::Nodes;
use crate::support::command::{Finished, Signal, Trib};
use crate::support::ports;
use crate::support::proxy::{Cut, How, Proxy};
use crate::support::scripted::Script;
use crate::support::server::{Server, Spec};
use crate::support::subcommands::create;
use crate::support::views::{assert_bare, assert_usable, lines, myself};
use crate::support::wait::PATIENCE;

/// Six nodes behind proxies, and the command that makes a cluster of them.
struct Six {
    nodes: Nodes,
    proxies: Vec<Proxy>,
}

impl Six {
    fn new() -> Self {
        let (nodes, proxies) = Nodes::behind_proxies(6, &Spec::new().quick());
        Self { nodes, proxies }
    }

    fn create(&self) -> Trib {
        create(self.proxies.iter().map(Proxy::addr)).args(["--replicas", "1"])
    }

    /// The same command once more, with nothing in its way.
    #[track_caller]
    fn finish(&self) -> Finished {
        let ended = self.create().run().status(0);
        assert_usable(&self.nodes, 3);
        ended
    }
}

/// The commands in the message that undo the change.
fn undo(said: &str) -> Vec<Vec<String>> {
    said.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("redis-cli "))
        .map(|line| line.split(' ').map(str::to_owned).collect())
        .collect()
}

#[track_caller]
fn take_back(said: &str) {
    for line in undo(said) {
        Trib::new()
            .program("redis-cli")
            .args(&line[1..])
            .run()
            .stdout_is("OK\n");
    }
}

#[test]
fn cut_before_and_after_each_command() {
    let cuts = [
        "CLUSTER ADDSLOTS",
        "CLUSTER SET-CONFIG-EPOCH",
        "CLUSTER MEET",
        "CLUSTER REPLICATE",
    ];
    std::thread::scope(|scope| {
        for command in cuts {
            scope.spawn(move || {
                let six = Six::new();
                // A replica gets no slots, a master follows no node.
                let index = if command == "CLUSTER REPLICATE" { 4 } else { 1 };
                if ["CLUSTER MEET", "CLUSTER REPLICATE"].contains(&command) {
                    // They may be sent twice: the connection is opened again.
                    six.proxies[index].cut(Cut::before(command).reset());
                    six.finish();
                    return;
                }
                six.proxies[index].cut(Cut::before(command).reset());
                let said = six.create().run().status(6).stderr;
                assert!(said.contains(&six.proxies[index].addr()), "{said}");
                assert!(said.contains("it may have taken effect"), "{said}");
                assert!(
                    said.contains("The same command again finishes the work"),
                    "{said}"
                );
                six.proxies[index].cut(Cut::after(command).reset());
                six.create().run().status(6);
                six.finish();
            });
        }
    });
}

#[test]
fn killed_at_any_time() {
    let moments = [
        "CLUSTER ADDSLOTS",
        "CLUSTER SET-CONFIG-EPOCH",
        "CLUSTER MEET",
        "CLUSTER REPLICATE",
    ];
    std::thread::scope(|scope| {
        for moment in moments {
            scope.spawn(move || {
                let six = Six::new();
                let index = if moment == "CLUSTER REPLICATE" { 5 } else { 0 };
                six.proxies[index].stall_at(moment, 1);
                let run = six.create().spawn();
                assert!(six.proxies[index].wait_stalled(PATIENCE), "{moment}");
                run.signal(Signal::SIGKILL);
                run.wait().killed_by(Signal::SIGKILL);
                for proxy in &six.proxies {
                    proxy.cut_now(How::Reset);
                    proxy.resume();
                }
                six.finish();
            });
        }
    });
}

#[test]
fn a_refusal_of_the_very_first_command_is_no_change() {
    let nodes = Nodes::quick(2);
    // Takes no slots; for all that can be read it is bare.
    let id = "0123456789012345678901234567890123456789";
    let stubborn = Script::new()
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
        .on(
            "CLUSTER ADDSLOTS",
            crate::support::scripted::Reply::error("ERR Slot 0 is already busy"),
        )
        .start();
    let addrs = [stubborn.addr(), nodes[0].addr(), nodes[1].addr()];
    // One master: no other is given slots beside it.
    let plan = ["--allow-few-masters", "--replicas", "2", "--pin-master"];
    create(&addrs)
        .args(plan)
        .arg(stubborn.addr())
        .run()
        .status(3)
        .stderr_has(&format!(
            "assigning slots: {}: CLUSTER ADDSLOTS was refused: ERR Slot 0 is already busy",
            stubborn.addr()
        ))
        .stderr_has("Nothing was changed.")
        .stderr_lacks("redis-cli");
    assert_bare(&nodes);
}

#[test]
fn interrupted_in_the_middle() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let six = Six::new();
        // However late the signal comes, the run still waits.
        six.proxies[4].rewrite(b"cluster_state:ok", b"cluster_state:no");
        let run = six.create().args(["-o", "json"]).spawn();
        run.wait_stdout("\"phase\":\"join\"");
        run.signal(signal);
        let ended = run
            .wait()
            .status(130)
            .within(Duration::from_secs(45))
            .stderr_has(signal.as_str())
            .stderr_has("The same command again ")
            .stderr_has("; these commands undo them:");
        six.proxies[4].stop_rewriting();
        let last = ended.json_lines().pop().unwrap();
        assert_eq!(
            (&last["event"], &last["exit_code"]),
            (&"done".into(), &130.into())
        );
        if signal == Signal::SIGINT {
            six.finish();
        } else {
            assert_eq!(undo(&ended.stderr).len(), 6);
            take_back(&ended.stderr);
            // Handshakes that were under way when the first were reset may come back.
            take_back(&ended.stderr);
            for server in six.nodes.iter() {
                assert_eq!(lines(server).len(), 1, "{}", server.nodes_text());
                assert_eq!(myself(server).len(), 8);
            }
            // Their epochs stay (a soft reset); it works all the same.
            six.finish();
        }
    }
}

#[test]
fn a_second_redis_trib_is_named() {
    let nodes = Nodes::quick(3);
    let mut first = Trib::new().arg("create").args(nodes.addrs()).terminal();
    first.expect("(type 'yes' to accept): ");
    create(nodes.addrs())
        .run()
        .status(3)
        .stderr_has("another redis-trib is at work on 127.0.0.1:")
        .stderr_has(": redis-trib/create/root@");
    // Looking is free.
    create(nodes.addrs()).arg("--dry-run").run().status(0);
    assert_bare(&nodes);
    first.control('c');
    first.finish().status(130);
}

#[test]
fn two_at_once() {
    let nodes = Nodes::quick(3);
    let runs = [0, 1].map(|_| create(nodes.addrs()).arg("--if-needed").spawn());
    let ended = runs.map(|run| run.wait());
    let codes: Vec<String> = ended
        .iter()
        .map(|ended| format!("{:?}", ended.status))
        .collect();
    assert!(codes.contains(&"Status(0)".to_owned()), "{codes:?}");
    for ended in &ended {
        if ended.stderr.contains("error:") {
            assert!(
                ended.stderr.contains("another redis-trib is at work"),
                "{}",
                ended.stderr
            );
        }
    }
    assert_usable(&nodes, 3);
}

#[test]
fn if_needed() {
    let nodes = Nodes::quick(3);
    let run = || create(nodes.addrs()).arg("--if-needed");
    run().run().status(0).stdout_has(">>> Creating cluster");
    assert_usable(&nodes, 3);
    nodes.set_long_node_timeout();
    let known = || nodes[0].nodes_text().lines().count();
    let again = run().run().status(0);
    again.stdout_is("These nodes already form a healthy cluster of 3: nothing to do.\n");
    // Without the flag, an empty cluster just as planned is no error either.
    create(nodes.addrs())
        .run()
        .status(0)
        .stdout_has("nothing to do");
    nodes[0].cmd(&["SET", "b", "1"]);
    run().run().status(0).stdout_has("nothing to do");
    create(nodes.addrs())
        .run()
        .status(3)
        .stderr_has("these 3 nodes form a cluster already, with 1 key")
        .stderr_has("--if-needed");
    assert_eq!(known(), 3);

    // A node of no cluster among them, one node too few, and a node that lost its volume.
    let stranger = Spec::new().quick().start();
    run()
        .arg(stranger.addr())
        .run()
        .status(3)
        .stderr_has(&format!("{} (", stranger.addr()))
        .stderr_has("is in no cluster, but others are");
    create(&nodes.addrs()[..2])
        .args(["--if-needed", "--allow-few-masters"])
        .run()
        .status(3)
        .stderr_has(&format!("{} (", nodes[2].addr()))
        .stderr_has("is a member too, but was not named");
    let old = nodes[2].id();
    nodes[2].kill();
    std::fs::remove_file(nodes[2].dir().join("nodes.conf")).unwrap();
    nodes[2].restart();
    run()
        .run()
        .status(3)
        .stderr_has(&format!(
            "If {} lost its volume (nodes.conf)",
            nodes[2].addr()
        ))
        .stderr_has(&format!("redis-trib del-node {} {old}", nodes[0].addr()));
    assert_bare(&[stranger]);
    assert_bare(&nodes[2..]);
}

#[test]
fn if_needed_and_not_healthy() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    nodes[0].cmd(&["SET", "b", "1"]);
    nodes[1].cmd(&["CLUSTER", "DELSLOTS", "10000"]);
    create(nodes.addrs())
        .arg("--if-needed")
        .run()
        .status(3)
        .stderr_has("the nodes form a cluster already, but not a healthy one")
        .stderr_has("slots-uncovered: 1 slot has no owner: 10000");
}

#[test]
fn if_needed_waits_for_nodes_that_start() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    for server in nodes.iter() {
        server.restart();
    }
    create(nodes.addrs())
        .arg("--if-needed")
        .run()
        .status(0)
        .stdout_has("nothing to do");
}

#[test]
fn a_node_that_stops_during_the_join_is_named() {
    let six = Six::new();
    let (stopped, proxy) = (&six.nodes[4], &six.proxies[4]);
    proxy.stall_at("CLUSTER MEET", 1);
    let run = six
        .create()
        .args(["--join-timeout", "3s", "--command-timeout", "5s"])
        .spawn();
    assert!(proxy.wait_stalled(PATIENCE));
    // The first look after that waits for the nodes to join.
    proxy.stall_at("CLUSTER NODES", 1);
    proxy.resume();
    assert!(proxy.wait_stalled(PATIENCE));
    stopped.stop();
    proxy.resume();
    let ended = run.wait();
    stopped.cont();
    ended
        .status(6)
        .within(Duration::from_secs(45))
        .stderr_has(&format!("{} (", proxy.addr()))
        .stderr_has("The same command again finishes the work");
    six.finish();
}

#[test]
fn a_closed_bus_port_is_named() {
    let nowhere = ports::reserve();
    let nodes = Nodes::each(3, |index| match index {
        1 => Spec::new()
            .quick()
            .arg("--cluster-announce-bus-port", nowhere.port),
        _ => Spec::new().quick(),
    });
    let ended = create(nodes.addrs())
        .args(["--join-timeout", "3s"])
        .run()
        .status(6);
    ended
        .within(PATIENCE)
        .stderr_has("the nodes have not all joined after 3s:")
        .stderr_has(&format!("{} (", nodes[1].addr()))
        .stderr_has(&format!(
            "its bus port 127.0.0.1:{} can't be reached from here either",
            nowhere.port
        ))
        .stderr_has("cluster-announce-bus-port");
}

#[test]
fn a_node_replaced_at_the_prompt_is_shown_before_it_is_met() {
    let nodes = Nodes::quick(3);
    let mut terminal = Trib::new().arg("create").args(nodes.addrs()).terminal();
    terminal.expect("(type 'yes' to accept): ");
    nodes[1].kill();
    std::fs::remove_file(nodes[1].dir().join("nodes.conf")).unwrap();
    nodes[1].restart();
    terminal
        .send_line("yes")
        .expect("the cluster changed after the plan was shown")
        .expect("(type 'yes' to accept): ")
        .send_line("no");
    terminal.finish().status(5);
    assert_bare(&nodes);
}

#[test]
fn a_wrong_masterauth_is_found_out_by_waiting() {
    let spec = |index| {
        let spec = Spec::new().quick().password("secret");
        match index {
            3 => spec.arg("--masterauth", "other"),
            _ => spec,
        }
    };
    let nodes = Nodes::each(4, spec);
    let follower: &Server = &nodes[3];
    create(nodes.addrs())
        .args([
            "--replicas=1",
            "--allow-few-masters",
            "--join-timeout",
            "6s",
        ])
        .args(["-a", "secret"])
        .run()
        .status(6)
        .stderr_has("the nodes agree, but not all are usable after 6s:")
        .stderr_has(&format!("{} (", follower.addr()))
        .stderr_has("has no link to its master: look at its log, its masterauth and firewalls");
    // Once the password is set, the same command finishes.
    follower.cmd(&["CONFIG", "SET", "masterauth", "secret"]);
    create(nodes.addrs())
        .args(["--replicas=1", "--allow-few-masters", "-a", "secret"])
        .run()
        .status(0);
    assert_usable(&nodes, 2);
}
