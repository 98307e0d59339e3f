//! `call`: any command to all nodes.

use std::time::Duration;

use serde_json::json;

use crate::support::cluster::Nodes;
use crate::support::command::{Finished, Signal, Trib};
use crate::support::server::{Spec, versions};

fn call(nodes: &Nodes, words: &[&str]) -> Finished {
    Trib::new()
        .args(["call", &nodes[0].addr()])
        .args(words)
        .run()
}

#[test]
fn matrix_every_node_answers_and_roles_can_be_chosen() {
    for version in versions() {
        let nodes = Nodes::with(4, &Spec::new().version(version).quick());
        nodes.form(3);
        let all = call(&nodes, &["PING"]).status(0).stderr_empty();
        for server in nodes.iter() {
            assert!(all.stdout.contains(&format!("{}: PONG\n", server.addr())));
        }
        let replica = nodes[3].addr();
        call(&nodes, &["--only-masters", "PING"])
            .status(0)
            .stdout_lacks(&replica);
        let only = format!(">>> Calling PING\n{replica}: PONG\n");
        call(&nodes, &["--only-replicas", "PING"])
            .status(0)
            .stdout_is(&only);

        // What only tells needs no consent; what changes does, subcommand by subcommand.
        call(&nodes, &["CONFIG", "GET", "maxmemory-policy"])
            .status(0)
            .stdout_has("maxmemory-policy\nnoeviction\n");
        call(&nodes, &["INFO", "server"])
            .status(0)
            .stdout_has("redis_version:");
        for line in [
            &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"][..],
            &["FLUSHALL"],
            &["KEYS", "*"],
            &["CLUSTER", "RESET", "HARD"],
            &["debug", "sleep", "0"],
        ] {
            let refused = call(&nodes, &[&["-o", "json"], line].concat()).status(5);
            assert_eq!(refused.json_lines()[0]["exit_code"], json!(5));
            call(&nodes, line)
                .status(5)
                .stderr_has("--allow-dangerous")
                .stderr_lacks("allkeys-lru")
                .stdout_empty();
        }
        call(&nodes, &["BLPOP", "a", "1"])
            .status(5)
            .stderr_has("may block");
        call(
            &nodes,
            &[
                "--allow-dangerous",
                "CONFIG",
                "SET",
                "maxmemory-policy",
                "allkeys-lru",
            ],
        )
        .status(0)
        .stdout_has(&format!("{replica}: OK\n"));
        call(&nodes, &["CONFIG", "GET", "maxmemory-policy"])
            .status(0)
            .stdout_lacks("noeviction");
    }
}

#[test]
fn arguments_go_out_as_they_are() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    for words in [
        &["ECHO", "--only-masters"][..],
        &["ECHO", "-h"],
        &["ECHO", "--yes"],
        &["ECHO", "--"],
        &["ECHO", ""],
        &["ECHO", "a b\t\"c'"],
        &["ECHO", "é\u{1}"],
    ] {
        let said = format!("{}: {}\n", nodes[0].addr(), words[1]);
        call(&nodes, words).status(0).stdout_has(&said);
    }
    // What the terminal would act on is written out.
    let mut terminal = Trib::new()
        .args(["call", &nodes[0].addr(), "ECHO", "a\u{1b}[2Jb"])
        .terminal();
    terminal.expect("a\\x1b[2Jb");
    terminal.finish().status(0);
    // Options before the command are ours, on either side of the node.
    Trib::new()
        .args([
            "call",
            "--only-masters",
            &nodes[0].addr(),
            "-o",
            "json",
            "ECHO",
            "x",
        ])
        .run()
        .status(0)
        .stdout_has("\"event\":\"reply\"");
}

#[test]
fn json_keeps_the_types() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let script = "return {1, false, 'text', {'a'}, '\\255', redis.status_reply('FINE')}";
    let lines = call(&nodes, &["-o", "json", "EVAL", script, "0"])
        .status(0)
        .json_lines();
    assert_eq!(lines.len(), 4);
    let ids: Vec<String> = nodes.iter().map(|server| server.id()).collect();
    for (line, id) in lines.iter().zip(&ids) {
        assert_eq!(line["node"]["id"], json!(id));
        assert_eq!(line["node"]["role"], json!("master"));
        assert_eq!(
            line["reply"],
            json!([1, null, "text", ["a"], { "hex": "ff" }, "FINE"])
        );
        assert_eq!(line["failure"], json!(null));
    }
    assert_eq!(lines[3]["event"], json!("done"));
    assert_eq!(lines[3]["exit_code"], json!(0));
}

#[test]
fn a_failure_anywhere_is_exit_code_1() {
    let nodes = Nodes::quick(4);
    nodes.form(3);
    call(&nodes, &["NOSUCHCOMMAND", "--secret"])
        .status(1)
        .stdout_has(&format!("{}: ERR unknown command", nodes[2].addr()))
        .stderr_has("the command succeeded on 0 of 4 nodes");
    // One slot, one owner: the others say MOVED, as redis-cli shows it.
    let lines = call(&nodes, &["-o", "json", "SET", "key", "value"])
        .status(1)
        .json_lines();
    let failed = lines.iter().filter(|line| line["failure"].is_string());
    assert_eq!(failed.count(), 3);
    assert_eq!(lines.last().unwrap()["exit_code"], json!(1));
    // Whose answer is its end has not failed.
    call(
        &nodes,
        &["--only-replicas", "--allow-dangerous", "SHUTDOWN", "NOSAVE"],
    )
    .status(0);
    nodes[3].restart();
    nodes.wait_usable();
    nodes[3].stop();
    let answered = Trib::new()
        .args(["call", &nodes[0].addr(), "--command-timeout", "5s", "PING"])
        .run()
        .status(1);
    nodes[3].cont();
    let answered = answered
        .stdout_has(&format!("{}: PONG", nodes[2].addr()))
        .stdout_has(&format!("{}: (no reply)", nodes[3].addr()));
    assert!(answered.elapsed < Duration::from_secs(45));
}

#[test]
fn commands_without_an_end_are_refused_by_name() {
    for line in [
        &["MONITOR"][..],
        &["subscribe", "a"],
        &["PSYNC", "?", "-1"],
        &["CLIENT", "REPLY", "OFF"],
    ] {
        Trib::new()
            .args(["call", "127.0.0.1:1", "--allow-dangerous"])
            .args(line)
            .run()
            .status(2)
            .stderr_has(&line[0].to_ascii_uppercase());
    }
    Trib::new().args(["call", "127.0.0.1:1"]).run().status(2);
    Trib::new()
        .args(["call", "127.0.0.1:1", "--pause", "1s", "PING"])
        .run()
        .status(2)
        .stderr_has("--serial");
}

#[test]
fn one_after_the_other_with_a_pause() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let called = call(&nodes, &["--serial", "--pause", "300ms", "TIME"]).status(0);
    assert!(called.elapsed >= Duration::from_millis(600));
    let order: Vec<String> = called
        .stdout
        .lines()
        .filter_map(|line| Some(line.split_once(": ")?.0.to_string()))
        .collect();
    assert_eq!(order, nodes.addrs());
    // A signal in between says how far it was.
    let running = Trib::new()
        .args([
            "call",
            &nodes[0].addr(),
            "--serial",
            "--pause",
            "60s",
            "PING",
        ])
        .spawn();
    running.wait_stdout(&format!("{}: PONG", nodes[0].addr()));
    running.signal(Signal::SIGINT);
    running
        .wait()
        .status(130)
        .stderr_has("1 of 3 nodes were called")
        .stderr_has(&nodes[1].addr());
}

#[test]
fn a_reply_without_an_end_is_cut_off() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let script = "return string.rep('x', 40 * 1024 * 1024)";
    call(&nodes, &["--only-masters", "EVAL", script, "0"])
        .status(1)
        .stdout_has("longer than 32 MiB");
}
