//! `watch`: the screen on a pseudo-terminal, one table, and JSON.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::atomic_moves::Setting;
use crate::support::cluster::Nodes;
use crate::support::command::{Signal, Terminal, Trib};
use crate::support::server::{Server, atomic_among, versions};
use crate::support::wait::{PATIENCE, until};

fn watch(seed: &Server) -> Trib {
    Trib::new().args(["watch", &seed.addr()])
}

/// Starts it on a terminal of 80×24, from a shell that survives Ctrl-C, writes the name of the terminal into a file, and
/// prints the exit code and the settings of the terminal before and after.
fn on_screen(tty: &Path, seed: &Server, interval: &str) -> Terminal {
    let script = "stty cols 80 rows 24; tty >\"$0\"; trap : INT; stty -a; \"$@\"; echo \"status $?\"; \
                  stty cols 80 rows 24; stty -a; echo over";
    let tty = tty.display().to_string();
    Trib::new()
        .program("sh")
        .args([
            "-c",
            script,
            &tty,
            env!("CARGO_BIN_EXE_redis-trib"),
            "watch",
        ])
        .args([&seed.addr(), "-n", interval])
        .terminal()
}

fn resize(tty: &Path, columns: u16, rows: u16) {
    let tty = fs::read_to_string(tty).unwrap();
    let (columns, rows) = (columns.to_string(), rows.to_string());
    let stty = Command::new("stty")
        .args(["-F", tty.trim(), "cols", &columns, "rows", &rows])
        .status();
    assert!(stty.unwrap().success());
}

/// The end of a screen: the terminal is what it was.
#[track_caller]
fn given_back(mut terminal: Terminal, status: i32) -> String {
    terminal.expect(&format!("status {status}")).expect("over");
    let shown = terminal.finish().stdout;
    assert!(shown.contains("\u{1b}[?1049l"), "{shown}");
    let settings: Vec<&str> = shown
        .match_indices("speed ")
        .map(|(start, _)| &shown[start..start + 400])
        .collect();
    assert_eq!(settings.len(), 2, "{shown}");
    assert_eq!(settings[0], settings[1], "{shown}");
    shown
}

#[test]
fn a_screen_survives_lost_nodes_and_a_new_size() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    let folder = tempfile::tempdir().unwrap();
    let tty = folder.path().join("tty");
    // A node is lost after the interval. One that is late on a busy machine would be lost for that reason when it dies.
    let mut terminal = on_screen(&tty, &nodes[0], "2s");
    terminal
        .expect("\u{1b}[?1049h")
        .expect("UTC")
        .expect("ops/s");
    resize(&tty, 200, 60);
    terminal.expect("clients");
    resize(&tty, 60, 15);
    terminal.expect("memory").expect("quit");
    terminal.send("p").expect("PAUSED").send("p");
    resize(&tty, 80, 24);
    terminal.expect("keys");
    // A node hangs, and another one is gone: the others are shown.
    nodes[4].stop();
    terminal.expect("lost");
    nodes[5].kill();
    terminal.expect("refused");
    nodes[4].cont();
    terminal.expect("back");
    terminal.send("\r").expect("uptime").send("\u{1b}");
    terminal.send("q");
    given_back(terminal, 0);
}

#[test]
fn signals_give_the_terminal_back() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let folder = tempfile::tempdir().unwrap();
    let tty = folder.path().join("tty");
    let mut terminal = on_screen(&tty, &nodes[0], "200ms");
    terminal.expect("UTC").control('c');
    let shown = given_back(terminal, 130);
    assert!(shown.contains("interrupted (SIGINT)"), "{shown}");
    // All nodes are gone: that is shown, too.
    let mut terminal = on_screen(&tty, &nodes[0], "200ms");
    terminal.expect("UTC");
    for server in nodes.iter() {
        server.kill();
    }
    terminal.expect("unreachable").send("q");
    given_back(terminal, 0);
}

#[test]
fn events_of_a_failover_and_of_slots_that_move() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    let json = watch(&nodes[1]).args(["-n", "100ms", "-o", "json"]).spawn();
    json.wait_stdout("\"since_ms\":1");
    // A reshard runs beside it.
    Trib::new()
        .args(["reshard", &nodes[1].addr(), "--slots", "5", "--yes"])
        .args(["--from", &nodes[0].id(), "--to", &nodes[1].id()])
        .run()
        .status(0);
    json.wait_stdout("\"slots-moved\"");
    let lost = nodes[0].id();
    nodes[0].kill();
    json.wait_stdout("\"node-lost\"");
    json.wait_stdout("\"failover\"");
    json.wait_stdout("\"epoch\"");
    json.signal(Signal::SIGINT);
    let lines = json.wait().status(130).json_lines();
    assert_eq!(lines[0]["format"], "redis-trib/watch");
    let events: Vec<&serde_json::Value> = lines
        .iter()
        .flat_map(|line| line["events"].as_array().unwrap())
        .collect();
    let of = |kind: &str| -> Vec<_> {
        let all = events.iter();
        all.filter(|one| one["event"] == kind).collect()
    };
    // Any other node that says nothing for half a second is lost for that time, too.
    let is_lost = |one: &&&serde_json::Value| one["nodes"][0]["id"] == lost;
    assert!(of("node-lost").iter().any(is_lost), "{events:#?}");
    assert_eq!(of("failover").len(), 1, "{events:#?}");
    let moved: u64 = events
        .iter()
        .filter(|one| one["event"] == "slots-moved")
        .flat_map(|one| one["slots"].as_array().unwrap())
        .map(|range| range[1].as_u64().unwrap() - range[0].as_u64().unwrap() + 1)
        .sum();
    assert_eq!(moved, 5, "{events:#?}");
}

#[test]
fn open_slots_with_the_keys_that_are_left() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    for n in 0..20 {
        nodes[0].cmd(&["SET", &format!("{{06S}}{n}"), "1"]); // slot 0
    }
    nodes[1].cmd(&["CLUSTER", "SETSLOT", "0", "IMPORTING", &nodes[0].id()]);
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "0", "MIGRATING", &nodes[1].id()]);
    let once = || watch(&nodes[0]).args(["--once", "-n", "200ms"]);
    let view = once().args(["-o", "json"]).run().status(0).json();
    let moves = view["moves"].as_array().unwrap();
    assert_eq!(moves.len(), 1, "{view:#}");
    assert_eq!(moves[0]["keys_left"], 20, "{view:#}");
    assert_eq!(moves[0]["open"], serde_json::json!([[0, 0]]));
    once()
        .run()
        .status(0)
        .stdout_has("slot 0 open, 20 keys left");
}

/// Beside the reshard that has begun it.
#[test]
fn matrix_an_asm_task_under_way_is_shown() {
    for version in atomic_among(versions()) {
        let setting = Setting::new(version);
        let nodes = &setting.nodes;
        // 20 s, so that both looks see it.
        let run = setting.start_long(&[]);
        let once = || watch(&nodes[1]).args(["--once", "-n", "100ms"]);
        let tasks = || once().args(["-o", "json"]).run().status(0).json()["tasks"].clone();
        let task = &tasks()[0];
        assert_eq!(task["source"]["id"], nodes[0].id(), "{version}: {task:#}");
        assert_eq!(task["target"]["id"], nodes[3].id(), "{version}: {task:#}");
        assert_eq!(task["slots"], serde_json::json!([[0, 99]]), "{version}");
        let ends = format!("ASM task {} → {}", nodes[0].addr(), nodes[3].addr());
        once().run().status(0).stdout_has(&ends);
        run.wait().status(0);
        setting.assert_moved();
        assert_eq!(tasks(), serde_json::json!([]), "{version}");
    }
}

#[test]
fn one_frame_in_a_pipe_writes_nothing_to_the_nodes() {
    const READS: [&str; 20] = [
        "info",
        "ping",
        "hello",
        "auth",
        "select",
        "dbsize",
        "replconf",
        "psync",
        "command",
        "command|info",
        "cluster",
        "cluster|nodes",
        "cluster|info",
        "cluster|myid",
        "cluster|links",
        "cluster|countkeysinslot",
        "cluster|migration",
        "cluster|getslotmigrations",
        "config|get",
        "config|resetstat",
    ];
    let nodes = Nodes::quick(4);
    nodes.form(3);
    for server in nodes.iter() {
        server.cmd(&["CONFIG", "RESETSTAT"]);
    }
    let table = watch(&nodes[0]).args(["--once", "-n", "300ms"]);
    let said = table.run().status(0).stderr_empty();
    let said = said.stdout_has("state ok, 16,384 of 16,384 slots, 4 nodes");
    for server in nodes.iter() {
        assert!(said.stdout.contains(&server.addr()), "{}", said.stdout);
        let stats = server.text(&["INFO", "commandstats"]);
        let used: BTreeSet<&str> = stats
            .lines()
            .filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next())
            .collect();
        let others: Vec<&&str> = used.iter().filter(|name| !READS.contains(name)).collect();
        assert!(others.is_empty(), "{others:?}");
    }
}

#[test]
fn the_stream_ends_with_its_reader() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let script = format!(
        "\"$0\" watch {} -n 50ms -o json | head -n 2",
        nodes[0].addr()
    );
    let said = Trib::new()
        .program("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_redis-trib")])
        .run()
        .status(0);
    assert_eq!(said.json_lines().len(), 2);
}

#[test]
fn rates_follow_a_client() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let json = watch(&nodes[0]).args(["-n", "100ms", "-o", "json"]).spawn();
    until("a rate above 200", PATIENCE, || {
        for _ in 0..100 {
            let _ = nodes[0].try_cmd(&["GET", "{06S}"]);
        }
        let text = json.stdout_so_far();
        let rates = text.lines().filter_map(|line| {
            let view: serde_json::Value = serde_json::from_str(line).ok()?;
            view["masters"][0]["ops_per_second"].as_u64()
        });
        match rates.max() {
            Some(201..) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    // The counters begin anew.
    nodes[0].cmd(&["CONFIG", "RESETSTAT"]);
    json.signal(Signal::SIGTERM);
    json.wait().status(130);
}

#[test]
fn what_watch_can_not_do_is_a_usage_error() {
    let watch = |rest: &[&str]| Trib::new().args(["watch", "127.0.0.1:1"]).args(rest).run();
    watch(&["-n", "0s"])
        .status(2)
        .stderr_has("a time must be above zero");
    watch(&["-n", "2"])
        .status(2)
        .stderr_has("write it with its unit");
    watch(&[]).status(2).stderr_has("--once for one table");
    watch(&["-o", "table"])
        .status(2)
        .stderr_has("watch needs a terminal");
    watch(&["--once"]).status(4);
    watch(&["-o", "json"]).status(4);
}
