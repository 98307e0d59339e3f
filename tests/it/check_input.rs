//! What `check` does where it is not given a cluster: each one clear error, the right exit code, at once.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::findings::codes;
use crate::support::hostile_text::{HOSTILE, is_unsafe};
use crate::support::hosts::where_names_are;
use crate::support::ports;
use crate::support::scripted::{Reply, Script, Scripted};
use crate::support::server::Spec;
use crate::support::subcommands::{check, check_json};

/// 4, with this on stderr, and nothing on stdout.
#[track_caller]
fn not_reached(addr: &str, why: &str) {
    not_reached_within("5s", addr, why);
}

/// The same with a timeout for the answer: short where there is none.
#[track_caller]
fn not_reached_within(timeout: &str, addr: &str, why: &str) {
    check(addr)
        .args(["--command-timeout", timeout, "--connect-timeout", "5s"])
        .run()
        .status(4)
        .within(Duration::from_secs(30))
        .stdout_empty()
        .stderr_has(addr)
        .stderr_has(why);
}

#[test]
fn what_is_typed_wrong_is_named() {
    for (args, why) in [
        (&["check"][..], "<NODE>"),
        (&["check", "7000"], "\"7000\" is not a host"),
        (&["check", "127.0.0.1:0"], "\"0\" is not a port"),
        (&["check", "127.0.0.1:70000"], "\"70000\" is not a port"),
        (&["check", "127.0.0.1", "70000"], "\"70000\" is not a port"),
        (&["check", "127.0.0.1:7000", "127.0.0.1:7001"], "one node"),
        (&["check", "a", "b", "c"], "c"),
        (&["check", "127.0.0.1;7000"], "not a host name"),
        (
            &["check", "http://127.0.0.1:7000"],
            "http:// is not supported",
        ),
        (&["check", "127.0.0.1:1", "--wiat", "5s"], "--wait"),
        (&["check", "127.0.0.1:1", "--wait", "5"], "60s"),
        (&["check", "127.0.0.1:1", "--wait", "-5s"], "-5"),
        (
            &["check", "127.0.0.1:1", "--command-timeout", "0s"],
            "above zero",
        ),
        (
            &["check", "127.0.0.1:1", "--connections", "0"],
            "--connections",
        ),
        (&["check", "127.0.0.1:1", "--output", "xml"], "prometheus"),
        (&["check", "127.0.0.1:1", "--address-map", "x"], "PEER=DIAL"),
        (&["chekc", "127.0.0.1:1"], "check"),
        (
            &["check", "redis://u:hush@h:99999"],
            "redis://user:password@host:port",
        ),
        (&["check", "127.0.0.1:1", "-q", "-v"], "--verbose"),
    ] {
        let finished = Trib::new().args(args).run().status(2).stdout_empty();
        finished.stderr_has(why).stderr_lacks("hush");
    }
    // Nagios reads nothing but standard output.
    for args in [
        &["check", "-o", "nagios"][..],
        &["check", "7000", "--output=nagios"],
        &["check", "a", "-onagios", "--no-such"],
    ] {
        Trib::new()
            .args(args)
            .run()
            .status(3)
            .stdout_has("CLUSTER UNKNOWN - ")
            .stderr_empty();
    }
}

#[test]
fn what_is_no_node_is_named() {
    let reserved = ports::reserve();
    let closed = format!("127.0.0.1:{}", reserved.port);
    not_reached(&closed, "connection refused");
    check(&closed)
        .args(["-o", "nagios"])
        .run()
        .status(2)
        .stdout_has("CLUSTER CRITICAL - ");
    let failed = check(&closed).args(["-o", "json"]).run().status(4).json();
    assert_eq!(failed["format"], "redis-trib/check");
    assert_eq!(failed["error"]["code"], 4);
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.contains("connection refused"), "{message}");

    let hung = Spec::new().start();
    hung.stop();
    not_reached_within(
        "500ms",
        &hung.addr(),
        "no answer to CLUSTER NODES within 500ms",
    );

    let plain = Spec::new().plain().start();
    check(&plain.addr())
        .run()
        .status(3)
        .stdout_empty()
        .stderr_has("cluster-enabled");

    // A bare node is in no cluster.
    let bare = Spec::new().start();
    check_json(&bare.addr()).run().status(1);

    let says = |bytes: &str| Script::default().on("", Reply::raw(bytes)).start();
    let http = says("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    not_reached(&http.addr(), "does not speak the Redis protocol");
    not_reached(
        &says("-DENIED Redis is running in protected mode\r\n").addr(),
        "protected mode",
    );
    not_reached(
        &says("-LOADING Redis is loading the dataset in memory\r\n").addr(),
        "loading",
    );
    not_reached(
        &says("-ERR max number of clients reached\r\n").addr(),
        "maxclients",
    );
    not_reached(&says("\u{1b}[2J\u{0}\u{7}garbage").addr(), "");
    not_reached(
        &Script::default().on("", Reply::close()).start().addr(),
        "--tls",
    );
}

/// A node that is good but for one answer.
fn odd(command: &str, reply: Reply) -> Scripted {
    Script::new()
        .on("CLUSTER NODES", Reply::bulk(&table("")))
        .on("CLUSTER INFO", Reply::bulk("cluster_state:ok\r\n"))
        .on(command, reply)
        .start()
}

fn table(more: &str) -> String {
    format!(
        "{} 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-16383\n{more}",
        id(1)
    )
}

fn id(number: usize) -> String {
    format!("{number:040x}")
}

#[test]
fn nonsense_is_an_error_and_ends() {
    for (reply, why) in [
        (Reply::bulk(""), "myself"),
        (Reply::bulk("one two\n"), "CLUSTER NODES line 1"),
        (Reply::bulk(&table(&table(""))), "CLUSTER NODES"),
        (
            Reply::bulk(&table("xyz 127.0.0.1:1@2 master - 0 0 1 connected\n")),
            "line 2",
        ),
        (
            Reply::bulk(&table(&format!(
                "{} 127.0.0.1:x master - 0 0 1 connected\n",
                id(2)
            ))),
            "port",
        ),
        (
            Reply::bulk(&table(&format!(
                "{} 127.0.0.1:1 master - 0 0 1 connected 5-99999\n",
                id(2)
            ))),
            "slot",
        ),
        (Reply::int(7), "is malformed"),
        (Reply::null(), "is malformed"),
        (Reply::array([Reply::int(1), Reply::int(2)]), "is malformed"),
        (Reply::raw("%zz\r\n"), ""),
        (Reply::endless_bulk(), "32 MiB"),
        (Reply::endless_line(), ""),
        (Reply::claims(1 << 40), ""),
        (Reply::claims_items(1 << 40), ""),
        (Reply::close(), ""),
    ] {
        not_reached(&odd("CLUSTER NODES", reply).addr(), why);
    }
    let silent = odd("CLUSTER NODES", Reply::never());
    not_reached_within("500ms", &silent.addr(), "no answer");
    // More nodes than any cluster has.
    let many: String = (2..10_500)
        .map(|i| format!("{} 127.0.0.1:1@2 master - 0 0 1 connected\n", id(i)))
        .collect();
    not_reached(
        &odd("CLUSTER NODES", Reply::bulk(&table(&many))).addr(),
        "10000",
    );
    // Nonsense elsewhere is as if nothing had been said.
    let json = check_json(&odd("INFO", Reply::bulk("\u{0}:\n::\nredis_version:99999.1\n")).addr())
        .run()
        .json();
    assert_eq!(json["nodes"][0]["version"], serde_json::Value::Null);
    let json = check_json(&odd("CLUSTER INFO", Reply::bulk("?")).addr())
        .run()
        .status(1)
        .json();
    assert!(codes(&json).contains(&"cluster-state-not-ok"));
}

#[test]
fn nothing_of_a_node_steers_the_terminal() {
    let evil = HOSTILE.replace("\rINJECTED", "\nINJECTED");
    let names = table(&format!(
        "{} 127.0.0.1:1@2,{evil},shard-id={evil} slave,{evil} {} 0 0 1 {evil}\n{} 127.0.0.1{evil}:3@4 master,fail? - 0 0 3 connected\n",
        id(2),
        id(1),
        id(3)
    ));
    let nodes = [
        odd("CLUSTER NODES", Reply::bulk(&names)),
        odd("CLUSTER NODES", Reply::error(&format!("ERR {evil}"))),
        odd("CLUSTER NODES", Reply::bulk(&format!("{evil} {evil}\n"))),
        odd("", Reply::raw(format!("{evil}\r\n"))),
        odd(
            "INFO",
            Reply::bulk(&format!(
                "redis_version:{evil}\r\navailability_zone:{evil}\r\nrole:{evil}\r\nmaster_link_status:{evil}\r\n"
            )),
        ),
        odd("SET", Reply::error(&format!("OOM {evil}"))),
    ];
    for node in &nodes {
        for format in ["table", "classic", "json", "prometheus", "nagios"] {
            let finished = check(&node.addr())
                .args([
                    "-o",
                    format,
                    "--probe-write",
                    "--verbose",
                    "--command-timeout",
                    "500ms",
                ])
                .run();
            for text in [&finished.stdout, &finished.stderr] {
                assert!(!text.contains(is_unsafe), "{format}: {text:?}");
            }
            // Nor does it pass for a line of ours.
            assert!(
                !finished
                    .stdout
                    .lines()
                    .any(|line| line.starts_with("INJECTED")),
                "{}",
                finished.stdout
            );
        }
    }
}

#[test]
fn a_node_that_lies_about_its_id() {
    // Each observation finds another id: a different node answers at the member's address.
    let liar = Script::new()
        .on(
            "CLUSTER NODES",
            Reply::bulk(&format!(
                "{} 127.0.0.1:1@2 myself,master - 0 0 1 connected\n",
                id(66)
            )),
        )
        .on("CLUSTER INFO", Reply::bulk("cluster_state:ok\r\n"))
        .start();
    let more = format!("{} {}@2 master - 0 0 2 connected\n", id(2), liar.addr());
    let json = check_json(&odd("CLUSTER NODES", Reply::bulk(&table(&more))).addr())
        .run()
        .status(1)
        .json();
    assert!(
        codes(&json).contains(&"foreign-node"),
        "{:#}",
        json["findings"]
    );
}

#[test]
fn credentials_of_an_address_are_those_of_all_nodes() {
    let nodes = Nodes::with(2, &Spec::new().quick().password("s3cret"));
    nodes.form(1);
    let port = nodes[0].port();
    let addr = format!("redis://:s3cret@tasks.master:{port}");
    let names = [("tasks.master", "127.0.0.1")];
    where_names_are(&names, &["check", &addr, "--probe-write"])
        .run()
        .status(0)
        .stderr_lacks("s3cret");
}

#[test]
fn a_reader_that_leaves_and_a_disk_that_is_full() {
    let nodes = Nodes::with(1, &Spec::new().quick());
    nodes.form(1);
    let addr = nodes[0].addr();
    let trib = env!("CARGO_BIN_EXE_redis-trib");
    let script = "set -o pipefail; \"$0\" check \"$1\" | head -1; echo \"${PIPESTATUS[0]}\"";
    let line = Trib::new()
        .program("bash")
        .args(["-c", script, trib, &addr])
        .run()
        .status(0);
    assert_eq!(line.stdout.lines().count(), 2);
    line.stderr_empty().stdout_has("\n0\n");
    let closed = Trib::new().program("bash").args([
        "-c",
        "\"$0\" check \"$1\" | true; echo \"${PIPESTATUS[0]}\"",
        trib,
        &addr,
    ]);
    closed.run().stdout_is("0\n").stderr_empty();

    for args in [
        &["check"][..],
        &["check", "-o", "json"],
        &["check", "--local"],
        &["info"],
    ] {
        let output = Command::new(trib)
            .args(args)
            .arg(&addr)
            .stdout(File::options().write(true).open("/dev/full").unwrap())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("standard output"), "{stderr}");
    }
}
