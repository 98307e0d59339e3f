//! `roll`: rolling restarts and upgrades.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::cluster::Nodes;
use crate::support::command::{Signal, Trib};
use crate::support::hooks::Hooks;
use crate::support::server::{Server, Spec, quick, versions};
use crate::support::wait::{PATIENCE, until};
use crate::support::writers::Writers;

/// `roll --yes` of that cluster.
fn roll(node: &Server) -> Trib {
    Trib::new()
        .args(["roll", "--yes", &node.addr()])
        .timeout(Duration::from_secs(180))
}

fn role(server: &Server) -> String {
    server.field("role").unwrap()
}

fn run_ids(nodes: &[Server]) -> Vec<String> {
    nodes.iter().map(|s| s.field("run_id").unwrap()).collect()
}

/// Rolls a cluster under writers through these versions, by swapping the programs.
#[track_caller]
fn upgrade_under_writers(through: &[&str]) {
    let [first, rest @ ..] = through else {
        panic!("no version")
    };
    // A busy machine must not look like a dead node.
    let spec = quick().node_timeout(5000).version(first);
    let nodes = Nodes::with(6, &spec);
    nodes.form(3);
    let mut writers = Writers::start(&nodes, 3);
    for version in rest {
        let hooks = Hooks::new();
        let ended = hooks.serve(
            &nodes,
            |server| server.restart_as(version),
            || {
                roll(&nodes[0])
                    .args(["--each", &hooks.command(), "-o", "json"])
                    .run()
            },
        );
        let ended = ended.status(0);
        let asked = hooks.asked();
        // Each node once, and none as a master.
        assert_eq!(asked.len(), 6, "{version}: {asked:?}");
        assert!(asked.iter().all(|(role, _)| role == "replica"), "{asked:?}");
        let lines = ended.json_lines();
        assert_eq!(lines[0]["event"], "roll", "{}", lines[0]);
        let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
        assert_eq!(
            (count("restarted"), count("failed-over")),
            (6, 3),
            "{version}"
        );
        for line in lines.iter().filter(|line| line["event"] == "failed-over") {
            assert!(line["held_ms"].as_u64().unwrap() < 5000, "{line}");
        }
        let numbers = version.split_once('-').unwrap().1;
        for server in nodes.iter() {
            let field = match version.starts_with("valkey") {
                true => "valkey_version",
                false => "redis_version",
            };
            let runs = server.field(field).unwrap();
            assert!(runs.starts_with(numbers), "{} runs {runs}", server.addr());
        }
        writers.wait_for_more(50);
    }
    writers.stop();
    writers.assert_kept(&nodes.iter().collect::<Vec<_>>());
    Trib::new()
        .args(["check", &nodes[0].addr(), "--wait", "30s"])
        .run()
        .status(0);
}

#[test]
fn redis_is_upgraded_under_writers() {
    upgrade_under_writers(&["redis-6.2", "redis-7.0", "redis-8.2", "redis-8.10"]);
}

#[test]
fn valkey_is_upgraded_under_writers() {
    upgrade_under_writers(&["valkey-8.1", "valkey-9.1"]);
}

#[test]
fn matrix_every_node_restarts_and_masters_get_their_roles_back() {
    for version in versions() {
        let nodes = Nodes::with(6, &quick().version(version));
        nodes.form(3);
        let before = run_ids(&nodes);
        let hooks = Hooks::new();
        let work = || {
            roll(&nodes[0])
                .args(["--back", "--each", &hooks.command()])
                .run()
        };
        hooks
            .serve(&nodes, Server::restart, work)
            .status(0)
            .stdout_has("Restarting 6 of 6 nodes")
            .stdout_has(" has restarted and runs ")
            .stderr_has("a window with a single copy begins")
            .stdout_has("6 nodes restarted, 6 failovers.");
        let after = run_ids(&nodes);
        assert!(before.iter().zip(&after).all(|(one, other)| one != other));
        let ports: Vec<u16> = hooks.asked().iter().map(|(_, port)| *port).collect();
        // Shard by shard: the replica, then the old master.
        let expected = [3, 0, 4, 1, 5, 2].map(|index: usize| nodes[index].port());
        assert_eq!(ports, expected);
        for (index, server) in nodes.iter().enumerate() {
            assert_eq!(role(server), if index < 3 { "master" } else { "slave" });
        }
    }
}

#[test]
fn replicas_alone_and_several_at_once() {
    let nodes = Nodes::quick(9);
    nodes.form(3);
    let hooks = Hooks::new();
    let line = ["--only", "replicas", "--max-unavailable", "3", "--each"];
    let work = || {
        let line = roll(&nodes[0]).args(line).arg(hooks.command());
        line.args(["-o", "json"]).run()
    };
    let ended = hooks.serve(&nodes, Server::restart, work).status(0);
    let lines = ended.json_lines();
    let together = lines.iter().filter(|line| line["event"] == "restarting");
    let together: Vec<usize> = together
        .map(|line| line["nodes"].as_array().unwrap().len())
        .collect();
    assert_eq!(together, [3, 3]);
    assert!(nodes[..3].iter().all(|server| role(server) == "master"));
}

#[test]
fn a_command_that_fails_stops_the_roll_and_another_run_goes_on() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    let (hooks, third) = (Hooks::new(), nodes[4].port());
    // The node of the third restart fails.
    let command = format!(
        "if [ $REDIS_TRIB_PORT = {third} ]; then echo no such unit >&2; exit 5; fi; {}",
        hooks.command()
    );
    let work = || {
        roll(&nodes[0])
            .args(["--each", &command, "-o", "json"])
            .run()
    };
    let ended = hooks.serve(&nodes, Server::restart, work).status(6);
    let addr = nodes[4].addr();
    let ended = ended
        .stderr_has(&format!("the command for {addr} ("))
        .stderr_has("failed: it ended with exit code 5; its last output: no such unit")
        .stderr_has(&format!("in between: {addr} ("))
        .stderr_has("--done");
    let lines = ended.json_lines();
    let resume = lines.last().unwrap()["resume"].as_array().unwrap().clone();
    let mut resume: Vec<String> = resume
        .iter()
        .map(|word| word.as_str().unwrap().to_owned())
        .collect();
    // The person repairs the command. Meanwhile a node that was done has crashed: it is not taken for done.
    nodes[3].restart();
    let place = resume.iter().position(|word| *word == command).unwrap();
    resume[place] = hooks.command();
    let before = hooks.asked().len();
    assert_eq!(before, 2);
    let work = || Trib::new().args(&resume[1..]).run();
    hooks
        .serve(&nodes, Server::restart, work)
        .status(0)
        .stdout_has("Restarting 5 of 6 nodes");
    assert_eq!(hooks.asked().len(), before + 5);
    let again = |version: &str| {
        let line = ["--until-version", version, "--each", "false"];
        roll(&nodes[0]).args(line).run()
    };
    again("7.0").status(0).stdout_has("nothing to do");
    again("6").status(6);
}

#[test]
fn a_command_that_hangs_is_ended() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    roll(&nodes[0])
        .args(["--each", "sleep 100", "--each-timeout", "500ms"])
        .run()
        .status(6)
        .within(Duration::from_secs(20))
        .stderr_has("it did not end within 500ms and was ended (--each-timeout)")
        .stderr_has("To resume:");
}

#[test]
fn a_node_that_does_not_come_back_as_it_was_stops_the_roll() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    let limits = ["--back-within", "15s"];
    let stopped = |restart: &(dyn Fn(&Server) + Sync)| {
        let hooks = Hooks::new();
        let line = || {
            roll(&nodes[0])
                .args(limits)
                .args(["--each", &hooks.command()])
                .run()
        };
        hooks.serve(&nodes, restart, line).status(6)
    };
    // Nothing happens.
    let ended = stopped(&|_| {});
    ended.stderr_has("has not restarted: it runs under the same run id as before, after 15s");
    // Another node restarts.
    let ended = stopped(&|_| nodes[5].restart());
    let text = format!("{} (", nodes[5].addr());
    ended
        .stderr_has(&text)
        .stderr_has(" has restarted instead of ");
    // It comes back empty: as another node.
    let lost = nodes[3].id();
    let ended = stopped(&|server| server.start_anew());
    ended
        .stderr_has("came back empty, without its nodes.conf")
        .stderr_has(&lost[..8]);
}

#[test]
fn a_command_gets_no_secret_and_no_terminal() {
    let nodes = Nodes::with(4, &quick().password("correct-horse"));
    nodes.form(3);
    let hooks = Hooks::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("env");
    let command = format!(
        "env > {0}; cat >> {0}; {1}",
        file.display(),
        hooks.command()
    );
    let replica = nodes[3].id();
    let addr = nodes[3].addr();
    let zone = format!("{addr}=z1");
    let line = || {
        roll(&nodes[0])
            .env("REDISCLI_AUTH", "correct-horse")
            .args(["--only", "zone=z1", "--zone", &zone, "--each", &command])
            .run()
    };
    hooks.serve(&nodes, Server::restart, line).status(0);
    let env = std::fs::read_to_string(&file).unwrap();
    assert!(!env.contains("correct-horse"), "{env}");
    for line in [
        format!("REDIS_TRIB_ADDR={addr}"),
        "REDIS_TRIB_HOST=127.0.0.1".to_owned(),
        format!("REDIS_TRIB_PORT={}", nodes[3].port()),
        format!("REDIS_TRIB_ID={replica}"),
        "REDIS_TRIB_ROLE=replica".to_owned(),
        "REDIS_TRIB_ZONE=z1".to_owned(),
    ] {
        assert!(env.lines().any(|one| one == line), "{line}: {env}");
    }
}

#[test]
fn refused_before_anything_is_changed() {
    let nodes = Nodes::with(4, &quick().arg("--save", "3600 1"));
    nodes.form(3);
    let before = run_ids(&nodes);
    let line = |words: &[&str]| roll(&nodes[0]).args(words).run();
    let name = |index: usize| format!("{} (", nodes[index].addr());
    // The second master has no replica.
    line(&["--each", "true"])
        .status(3)
        .stderr_has(&name(1))
        .stderr_has("has the only copy of its slots")
        .stderr_has("--leave-unprotected");
    nodes[1].cmd(&["CONFIG", "SET", "save", ""]);
    line(&["--each", "true", "--leave-unprotected"])
        .status(3)
        .stderr_has(&name(1))
        .stderr_has("would start empty");
    line(&["--each", "true", "--only", "zone=nowhere"])
        .status(3)
        .stderr_has("no node is in zone \"nowhere\"");
    let (addr, other) = (nodes[3].addr(), Nodes::quick(1));
    line(&["--each", "true", "--only", &other[0].id()])
        .status(3)
        .stderr_has("is not a node of this cluster");
    let zone = format!("{addr}=$(reboot)");
    line(&["--each", "true", "--only", "replicas", "--zone", &zone])
        .status(3)
        .stderr_has("is not passed to a command");
    for (words, text) in [
        (&["--only", "replicas"][..], "--each"),
        (&["--each", ""], "the command is empty"),
        (&["--each", "true", "--pause"], "cannot be used with"),
        (
            &["--each", "true", "--max-unavailable", "0"],
            "is not a number of nodes",
        ),
        (&["--each", "true", "--back-within", "0s"], "above zero"),
        (&["--each", "true", "--each-timeout", "9"], "with its unit"),
        (
            &["--each", "true", "--until-version", "new"],
            "is not a version",
        ),
        (&["--each", "true", "--done", "x=y"], "is not ID=RUNID"),
        (&["--each", "true", "--only", "zone="], "names no zone"),
        (&["--pause"], "--pause needs a terminal"),
    ] {
        line(words).status(2).stderr_has(text);
    }
    // Slots on their way.
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "7", "MIGRATING", &nodes[1].id()]);
    line(&["--each", "true", "--only", "replicas"])
        .status(3)
        .stderr_has("slots-open");
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "7", "STABLE"]);
    assert_eq!(run_ids(&nodes), before);
    // The only copy, if that is wanted: it comes back with its keys.
    nodes[2].cmd(&["SET", "{foo}1", "value"]);
    nodes[2].cmd(&["SAVE"]);
    let hooks = Hooks::new();
    let third = nodes[2].id();
    let flags = ["--leave-unprotected", "--only", &third, "--each"];
    let work = || roll(&nodes[0]).args(flags).arg(hooks.command()).run();
    hooks
        .serve(&nodes, Server::restart, work)
        .status(0)
        .stdout_has("no node serves them while it restarts");
    assert_eq!(nodes[2].text(&["GET", "{foo}1"]), "value");
}

#[test]
fn ctrl_c_stops_between_two_nodes() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    let hooks = Hooks::new();
    let is_signalled = AtomicBool::new(false);
    let work = || {
        let running = roll(&nodes[0]).args(["--each", &hooks.command()]).spawn();
        running.wait_stderr("restarting replica ");
        running.signal(Signal::SIGINT);
        is_signalled.store(true, Ordering::Relaxed);
        running.wait()
    };
    let slowly = |server: &Server| {
        until("the signal to be sent", PATIENCE, || {
            let sent = is_signalled.load(Ordering::Relaxed);
            sent.then_some(()).ok_or("not yet".to_owned())
        });
        server.restart();
    };
    let ended = hooks.serve(&nodes, slowly, work).status(130);
    ended
        .stderr_has("the roll stopped between two nodes")
        .stderr_has(&format!("done: {} (", nodes[3].addr()))
        .stderr_has("To resume:")
        .stderr_has(&format!(
            "{}={}",
            nodes[3].id(),
            nodes[3].field("run_id").unwrap()
        ));
    assert_eq!(hooks.asked().len(), 1);
}

#[test]
fn a_person_restarts_the_nodes() {
    let nodes = Nodes::quick(4);
    nodes.form(3);
    let words = ["roll", &nodes[0].addr(), "--pause", "--only", "replicas"];
    let mut terminal = Trib::new().args(words).terminal();
    terminal
        .expect("Restart these nodes? (type 'yes' to accept): ")
        .send_line("yes")
        .expect("Restart replica ")
        .expect(" now, then press Enter: ");
    nodes[3].restart();
    terminal.send_line("");
    terminal.finish().status(0);
    until("the replica to be in sync", PATIENCE, || {
        match nodes[3].field("master_link_status").as_deref() {
            Some("up") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn a_dry_run_shows_the_order() {
    let nodes = Nodes::with(6, &Spec::new().quick());
    nodes.form(3);
    let before = run_ids(&nodes);
    let words = ["roll", &nodes[0].addr(), "--each", "true", "--dry-run"];
    let ended = Trib::new().args(words).run().status(0);
    ended
        .stdout_has(&format!(" 1. restart {} (", nodes[3].addr()))
        .stdout_has(&format!(
            " 2. {} takes over from {}; a single copy is in sync until",
            nodes[3].addr(),
            nodes[0].addr()
        ))
        .stdout_has("Dry run: nothing was changed.");
    assert_eq!(run_ids(&nodes), before);
}
