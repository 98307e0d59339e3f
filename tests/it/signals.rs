//! Ctrl-C, SIGTERM and SIGHUP at every moment of a command: after a prompt, while it waits, between consent and the first
//! change. The program ends with 130 at once and leaves the terminal as it was.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::cluster::{Nodes, walkthrough};
use crate::support::command::{Finished, Running, Signal, Terminal, Trib};
use crate::support::keys::{Contents, assert_same, contents, fill};
use crate::support::proxy::Proxy;
use crate::support::server::{Server, Spec};
use crate::support::slots::{assert_closed, names, owned};
use crate::support::wait::{PATIENCE, until};

/// The longest time from a signal to the end of the program, on a busy machine. What it would wait for takes an hour.
const LIMIT: Duration = Duration::from_secs(15);

fn trib<'a>(words: impl IntoIterator<Item = &'a str>) -> Trib {
    Trib::new().args(words)
}

/// Runs the program on a terminal, from a shell that survives Ctrl-C and prints the exit code and the settings of the
/// terminal before and after.
fn on_terminal(words: &[&str]) -> Terminal {
    let script =
        "stty echo icanon; trap : INT; stty -a; \"$@\"; echo \"status $?\"; stty -a; echo over";
    Trib::new()
        .program("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_redis-trib")])
        .args(words)
        .terminal()
}

/// Presses Ctrl-C; returns what was on the screen.
#[track_caller]
fn press_ctrl_c(mut terminal: Terminal) -> String {
    let pressed = Instant::now();
    terminal.control('c').expect("status 130");
    assert!(pressed.elapsed() < LIMIT, "{:?}", pressed.elapsed());
    terminal.expect("over");
    let screen = terminal.finish().screen();
    let settings: Vec<&str> = screen
        .match_indices("speed ")
        .map(|(start, _)| &screen[start..start + 400])
        .collect();
    assert_eq!(settings.len(), 2, "{screen}");
    assert_eq!(settings[0], settings[1], "{screen}");
    screen
}

/// Sends a signal to a program without a terminal.
#[track_caller]
fn interrupt(running: Running, signal: Signal) -> Finished {
    let sent = Instant::now();
    running.signal(signal);
    let finished = running.wait().status(130);
    assert!(sent.elapsed() < LIMIT, "{:?}", sent.elapsed());
    finished.stderr_has(&format!("interrupted ({signal})"))
}

/// Waits until the program handles SIGINT: before that, the signal ends it as it would end any program.
fn wait_for_handler(running: &Running) {
    let path = format!("/proc/{}/status", running.pid());
    until("the program to handle SIGINT", PATIENCE, || {
        let status = fs::read_to_string(&path).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        let is_caught = caught & (1 << (Signal::SIGINT as u32 - 1)) != 0;
        is_caught.then_some(()).ok_or(status)
    });
}

/// Waits until the program has sent something to the node behind this proxy: it handles signals before that.
fn wait_asked(proxy: &Proxy) {
    until("the node to be asked", PATIENCE, || {
        let count = proxy.count("");
        (count > 0).then_some(()).ok_or("nothing".to_owned())
    });
}

fn node_timeout(server: &Server) -> Vec<String> {
    redis::from_redis_value(server.cmd(&["CONFIG", "GET", "cluster-node-timeout"])).unwrap()
}

#[test]
fn a_check_that_waits_ends_after_a_password_was_asked_for() {
    // A node without slots is not healthy.
    let nodes = Nodes::with(1, &Spec::new().quick().password("s3cret"));
    let addr = nodes[0].addr();
    let mut terminal = on_terminal(&["check", &addr, "--askpass", "--wait", "1h"]);
    terminal
        .expect("Password")
        .expect(": ")
        .send_line("s3cret")
        .expect("s left, not healthy yet");
    let screen = press_ctrl_c(terminal);
    assert!(screen.contains("interrupted (SIGINT)"), "{screen}");
    // The prompt itself.
    let mut terminal = on_terminal(&["check", &addr, "--askpass", "--wait", "1h"]);
    terminal.expect("Password").expect(": ").send("s3c");
    press_ctrl_c(terminal);
    // No prompt, and no terminal.
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let running = trib(["check", &addr, "--wait", "1h", "-a", "s3cret"]).spawn();
        running.wait_stderr("not healthy yet");
        interrupt(running, signal);
    }
}

#[test]
fn commands_end_while_a_node_hangs() {
    let (nodes, proxies) = Nodes::behind_proxies(4, &Spec::new().quick());
    nodes.form(3);
    let (seed, id) = (proxies[0].addr(), nodes[3].id());
    proxies[1].stall();
    let source = Spec::new().plain().start();
    let lines: [&[&str]; 11] = [
        &["info", &seed],
        // Its looks take two seconds at most, and the second one comes after an hour.
        &["watch", &seed, "--once", "-n", "1h"],
        &["where", &seed, "key"],
        &["verify", "--from", &source.addr(), &seed],
        &["slots", &seed],
        &["drift", &seed],
        &["ok-to-stop", &seed, &id],
        &["ok-to-stop", &seed, "--max"],
        &["check", &seed],
        &["call", &seed, "PING"],
        &["call", "--serial", &seed, "PING"],
    ];
    for words in lines {
        let (command, rest) = words.split_first().unwrap();
        let line = [&[*command, "--command-timeout", "1h"], rest].concat();
        proxies[1].forget_commands();
        let running = trib(line.iter().copied()).spawn();
        wait_asked(&proxies[1]);
        interrupt(running, Signal::SIGINT);
        proxies[1].forget_commands();
        let terminal = on_terminal(&line);
        wait_asked(&proxies[1]);
        let screen = press_ctrl_c(terminal);
        assert!(screen.contains("interrupted (SIGINT)"), "{screen}");
    }
}

#[test]
fn a_call_ends_while_it_pauses_or_reads_standard_input() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let seed = nodes[0].addr();
    let line = ["call", "--serial", "--pause", "1h", &seed, "PING"];
    let running = trib(line).spawn();
    running.wait_stdout("PONG");
    interrupt(running, Signal::SIGTERM)
        .stderr_has("1 of 3 nodes were called")
        .stderr_has(&nodes[1].addr());
    let mut terminal = on_terminal(&line);
    terminal.expect("PONG");
    press_ctrl_c(terminal);

    let running = trib(["call", "--stdin", &seed, "ECHO"])
        .stdin_open()
        .spawn();
    wait_for_handler(&running);
    interrupt(running, Signal::SIGINT);
}

#[test]
fn a_signal_between_consent_and_the_first_change_changes_nothing() {
    let (nodes, proxies) = Nodes::behind_proxies(3, &Spec::new().quick());
    nodes.form(3);
    let seed = proxies[0].addr();
    let before: Vec<_> = nodes.iter().map(node_timeout).collect();
    let line = ["set-timeout", &seed, "7s", "--command-timeout", "1h"];

    // The prompt.
    let mut terminal = on_terminal(&line);
    terminal.expect("(type 'yes' to accept): ");
    press_ctrl_c(terminal);

    // After the answer the lock is taken again, and the plan is made again.
    for command in ["CLIENT LIST", "CLUSTER NODES"] {
        let mut terminal = on_terminal(&line);
        terminal.expect("(type 'yes' to accept): ");
        proxies[1].stall_at(command, 1);
        terminal.send_line("yes");
        assert!(proxies[1].wait_stalled(PATIENCE), "{command}");
        let screen = press_ctrl_c(terminal);
        assert!(
            screen.contains("interrupted (SIGINT): nothing was changed"),
            "{screen}"
        );
        proxies[1].disarm();
        proxies[1].resume();
    }

    // Consent by a flag.
    proxies[1].stall_at("CLIENT LIST", 1);
    let running = trib(line).args(["--yes", "-o", "json"]).spawn();
    assert!(proxies[1].wait_stalled(PATIENCE));
    let finished = interrupt(running, Signal::SIGTERM).stderr_has("nothing was changed");
    let done = finished.json_lines().pop().unwrap();
    assert_eq!(done["event"], json!("done"));
    assert_eq!(done["exit_code"], json!(130));
    proxies[1].disarm();
    proxies[1].resume();
    let after: Vec<_> = nodes.iter().map(node_timeout).collect();
    assert_eq!(before, after);

    // During the change.
    proxies[1].stall_at("CONFIG SET", 1);
    let running = trib(line).arg("--yes").spawn();
    assert!(proxies[1].wait_stalled(PATIENCE));
    interrupt(running, Signal::SIGINT).stderr_has("the same command sets it on all of them");
}

#[test]
fn an_import_ends_before_its_first_key() {
    let (nodes, proxies) = Nodes::behind_proxies(3, &Spec::new().quick());
    nodes.form(3);
    let source = Spec::new().plain().start();
    source.cmd(&["SET", "key", "value"]);
    let (from, seed) = (source.addr(), proxies[0].addr());
    let line = ["import", "--from", &from, &seed, "--command-timeout", "1h"];
    let mut terminal = on_terminal(&line);
    terminal.expect("(type 'yes' to accept): ");
    proxies[2].stall_at("CLIENT LIST", 1);
    terminal.send_line("yes");
    assert!(proxies[2].wait_stalled(PATIENCE));
    let screen = press_ctrl_c(terminal);
    assert!(screen.contains("nothing was changed"), "{screen}");
    // The password of the source.
    let mut terminal = on_terminal(&[&line[..], &["--from-askpass"]].concat());
    terminal.expect("Password of the source").send("s3c");
    press_ctrl_c(terminal);
    for server in nodes.iter() {
        assert_eq!(server.text(&["DBSIZE"]), "0");
    }
}

/// A cluster, and a move that takes half a minute.
fn slow_move() -> (Nodes, Contents, Vec<String>) {
    let nodes = walkthrough(&Spec::new().quick());
    fill(&nodes[..3], &names(0..300, 20));
    let before = contents(&nodes);
    let words = [
        "reshard",
        "--slot-ranges",
        "0-299",
        "--strategy",
        "keys",
        "--yes",
    ];
    let more = ["--max-open-slots", "4", "--rate", "200", "--to"];
    let mut line: Vec<String> = words
        .iter()
        .chain(&more)
        .map(|word| (*word).to_owned())
        .collect();
    line.extend([nodes[3].id(), nodes[0].addr()]);
    (nodes, before, line)
}

fn wait_moved(nodes: &Nodes, slots: usize) {
    until("slots to move", PATIENCE, || {
        let now: usize = owned(&nodes[3]).iter().map(|(a, b)| b - a + 1).sum();
        (now >= slots).then_some(now).ok_or(now.to_string())
    });
}

#[test]
fn a_move_without_its_terminal_leaves_no_slot_open() {
    let (nodes, before, line) = slow_move();
    let run = Trib::new().args(&line).args(["-o", "json"]).spawn();
    wait_moved(&nodes, 4);
    // The shell sends one, and the kernel too: neither is a second signal.
    run.signal(Signal::SIGHUP);
    run.wait_stderr("SIGHUP: finishing the slots in hand");
    run.signal(Signal::SIGHUP);
    let ended = run.wait().status(130).stderr_has("0 open");
    assert_eq!(ended.json_lines().last().unwrap()["exit_code"], 130);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));

    // A real terminal, in the middle of bars. Nothing can be written any more.
    let remote = Trib::new().args(&line).remote();
    remote.expect("all pairs");
    wait_moved(&nodes, 8);
    assert_eq!(remote.hang_up(), Some(130));
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
    let now: usize = owned(&nodes[3]).iter().map(|(a, b)| b - a + 1).sum();
    assert!((8..300).contains(&now), "{now}");
}

#[test]
fn under_nohup_a_move_goes_on_without_its_terminal() {
    let (nodes, before, line) = slow_move();
    let script = "trap '' HUP; exec \"$@\"";
    let run = |rate: &str| {
        Trib::new()
            .program("sh")
            .args(["-c", script, "sh", env!("CARGO_BIN_EXE_redis-trib")])
            .args(&line)
            // The last one counts.
            .args(["--rate", rate])
    };
    let mut running = run("200").spawn();
    wait_moved(&nodes, 4);
    running.signal(Signal::SIGHUP);
    wait_moved(&nodes, 12);
    assert!(!running.has_ended());
    running.signal(Signal::SIGINT);
    running.wait().status(130);
    assert_closed(&nodes);
    // Bars and the result have nowhere to go, and the move ends well.
    let remote = run("2000").remote();
    remote.expect("all pairs");
    assert_eq!(remote.hang_up(), Some(0));
    wait_moved(&nodes, 300);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn commands_that_read_end_without_their_terminal() {
    let nodes = Nodes::quick(1);
    let check = ["check", &nodes[0].addr(), "--wait", "1h"];
    let running = trib(check).spawn();
    running.wait_stderr("not healthy yet");
    running.signal(Signal::SIGHUP);
    running
        .wait()
        .status(130)
        .stderr_has("interrupted (SIGHUP)");
    let watch = ["watch", &nodes[0].addr()];
    for (words, shown) in [(&check[..], "not healthy yet"), (&watch[..], "UTC")] {
        let remote = trib(words.iter().copied()).remote();
        remote.expect(shown);
        assert_eq!(remote.hang_up(), Some(130), "{words:?}");
    }
}
