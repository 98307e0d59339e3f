//! Nodes that are reached and answer with an error: each is named as what it is, with what helps.

use std::io::Write;
use std::net::TcpStream;

use serde_json::Value;

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::findings::{codes, finding};
use crate::support::hosts::apart;
use crate::support::server::{Server, Spec, versions};
use crate::support::subcommands::{check, check_json};
use crate::support::wait::{PATIENCE, until};

/// Three masters, and a replica of the first.
fn cluster(spec: impl Fn(usize) -> Spec + Sync) -> Nodes {
    let nodes = Nodes::each(4, spec);
    nodes.form(3);
    nodes
}

/// A connection on which a script runs that never ends. Closing it does not end the script.
fn run_forever(server: &Server, words: &[&str]) -> TcpStream {
    server.cmd(&["CONFIG", "SET", "lua-time-limit", "50"]);
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command += &format!("${}\r\n{word}\r\n", word.len());
    }
    stream.write_all(command.as_bytes()).unwrap();
    until("the node to be busy", PATIENCE, || {
        match server.try_cmd(&["PING"]) {
            Err(error) if error.code() == Some("BUSY") => Ok(()),
            said => Err(format!("{said:?}")),
        }
    });
    stream
}

fn state<'a>(json: &'a Value, id: &str) -> &'a str {
    let nodes = json["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["id"] == id).unwrap();
    node["state"].as_str().unwrap()
}

fn message(json: &Value, code: &str) -> String {
    finding(json, code)["message"].as_str().unwrap().to_string()
}

/// Runs a remedy of `redis-cli` as it is printed.
fn run_printed(line: &str) {
    let mut shell = std::process::Command::new("sh");
    let output = shell.arg("-c").arg(line).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.trim() == "OK",
        "{line}: {said}"
    );
}

/// The answer of a busy node, in every format and of every command.
#[test]
fn matrix_a_busy_node_is_reached() {
    for version in versions() {
        let nodes = cluster(|i| apart(i).version(version));
        let (seed, busy) = (nodes[0].addr(), &nodes[1]);
        let ids: Vec<String> = nodes.iter().map(Server::id).collect();
        let _running = run_forever(busy, &["EVAL", "while true do end", "0"]);

        let json = check_json(&seed).run().status(1).json();
        let said = message(&json, "node-busy");
        assert!(
            said.contains("SCRIPT KILL") && said.contains("can't be killed"),
            "{said}"
        );
        for code in ["node-unreachable", "announced-address-unreachable"] {
            assert!(!codes(&json).contains(&code), "{version}: {json:#}");
        }
        assert_eq!(state(&json, &ids[1]), "busy");
        let remedy = finding(&json, "node-busy")["remedy"]
            .as_str()
            .unwrap()
            .to_string();
        assert_eq!(
            remedy,
            format!(
                "redis-cli -h {} -p {} SCRIPT KILL",
                busy.host(),
                busy.port()
            )
        );
        for format in ["table", "classic", "nagios"] {
            let told = check(&seed).args(["-o", format]).run();
            let told = told.stdout_has("SCRIPT KILL").stdout_lacks("address-map");
            told.status(if format == "nagios" { 2 } else { 1 });
        }
        check(&seed)
            .args(["-o", "prometheus"])
            .run()
            .status(1)
            .stdout_has(r#"redis_trib_findings{code="node-busy",severity="error"} 1"#);
        Trib::new()
            .args(["--cluster", "check", &seed])
            .run()
            .status(1)
            .stdout_has("SCRIPT KILL");
        // A restart of the process would not help.
        Trib::new()
            .args(["check", &busy.addr(), "--local"])
            .run()
            .status(0);
        for more in [&["--output", "json"][..], &[]] {
            let told = Trib::new().args(["check", &busy.addr()]).args(more).run();
            let told = told.status(4);
            let said = format!("{}{}", told.stdout, told.stderr);
            assert!(said.contains("SCRIPT KILL"), "{said}");
        }
        Trib::new()
            .args(["check", &busy.addr(), "-o", "nagios"])
            .run()
            .status(2)
            .stdout_has("SCRIPT KILL");
        refuses_changes(&seed, &ids);
        run_printed(&remedy);
        until("the cluster to be healthy", PATIENCE, || {
            let json = check_json(&seed).run().json();
            match json["healthy"].as_bool() {
                Some(true) => Ok(()),
                _ => Err(format!("{:#}", json["findings"])),
            }
        });
    }
}

/// No command changes a cluster with such a node, and each says why.
fn refuses_changes(seed: &str, ids: &[String]) {
    let [other, id, _, replica] = ids else {
        panic!("{ids:?}")
    };
    let weight = format!("{other}=2");
    let directory = tempfile::tempdir().unwrap();
    let backup = directory.path().join("backup");
    let lines: &[&[&str]] = &[
        &[
            "reshard", seed, "--slots", "5", "--from", "all", "--to", other, "--yes",
        ],
        &["rebalance", seed, "--weight", &weight, "--yes"],
        &["del-node", seed, id, "--yes"],
        &[
            "del-node",
            seed,
            replica,
            "--leave-unprotected",
            replica,
            "--yes",
        ],
        &["backup", seed, backup.to_str().unwrap()],
        &["fix", seed, "--yes"],
    ];
    for line in lines {
        let told = Trib::new().args(*line).run().status(3);
        told.stderr_has("SCRIPT KILL").stderr_lacks("address-map");
    }
    assert!(!backup.exists());
}

#[test]
fn matrix_functions_and_scripts_that_wrote() {
    for version in versions() {
        let nodes = cluster(|i| apart(i).version(version));
        let seed = nodes[0].addr();
        // The third master is started again in the end: nothing else stops such a script.
        let wrote = "redis.call('set', KEYS[1], 1) while true do end";
        let key = "{foo}"; // slot 12182
        let _running = run_forever(&nodes[2], &["EVAL", wrote, "1", key]);
        let said = message(&check_json(&seed).run().status(1).json(), "node-busy");
        assert!(said.contains("SHUTDOWN NOSAVE"), "{said}");
        let unkillable = nodes[2].try_cmd(&["SCRIPT", "KILL"]).unwrap_err();
        assert_eq!(unkillable.code(), Some("UNKILLABLE"));
        nodes[2].kill();
        nodes[2].restart();
        if *version == "redis-6.2" {
            continue;
        }
        let code = "#!lua name=l\nredis.register_function('f', function() while true do end end)";
        nodes[1].cmd(&["FUNCTION", "LOAD", code]);
        let _running = run_forever(&nodes[1], &["FCALL", "f", "0"]);
        let json = check_json(&seed).run().status(1).json();
        let remedy = finding(&json, "node-busy")["remedy"]
            .as_str()
            .unwrap()
            .to_string();
        assert!(remedy.ends_with("FUNCTION KILL"), "{remedy}");
        run_printed(&remedy);
    }
}

#[test]
fn a_busy_replica() {
    let nodes = cluster(apart);
    let (seed, replica) = (nodes[0].addr(), &nodes[3]);
    let id = replica.id();
    let _running = run_forever(replica, &["EVAL", "while true do end", "0"]);
    let json = check_json(&seed).run().status(1).json();
    assert_eq!(state(&json, &id), "busy");
    // Its master sends the data.
    let directory = tempfile::tempdir().unwrap();
    let backup = directory.path().join("backup");
    Trib::new()
        .args(["backup", &seed, backup.to_str().unwrap()])
        .run()
        .status(0);
    Trib::new()
        .args(["del-node", &seed, &id, "--yes"])
        .run()
        .status(3)
        .stderr_has("SCRIPT KILL");
    replica.cmd(&["SCRIPT", "KILL"]);
}

#[test]
fn other_errors_have_their_own_words() {
    // Links of the bus that were opened again would leave places for clients meanwhile.
    let lasting = |i| apart(i).node_timeout(15_000);
    let nodes = cluster(|i| lasting(i).user("ann", "secret", "~* &* +@all"));
    let seed = nodes[0].addr();
    let as_ann = |args: &[&str]| {
        let trib = Trib::new().args(args).args(["--user", "ann"]);
        trib.env("REDISCLI_AUTH", "secret").run()
    };
    let told = |code: &str, words: &str| {
        let json = as_ann(&["check", &seed, "--output", "json"])
            .status(1)
            .json();
        let said = message(&json, code);
        assert!(said.contains(words), "{said}");
        assert!(!json.to_string().contains("address-map"), "{json:#}");
        let slots = [
            "reshard", &seed, "--slots", "5", "--yes", "--from", "all", "--to",
        ];
        let refused = as_ann(&[&slots[..], &[&nodes[0].id()]].concat());
        refused.status(3).stderr_has(words);
    };

    nodes[1].cmd(&["ACL", "SETUSER", "ann", "-cluster|nodes"]);
    told("node-permission-denied", "ACL SETUSER");
    as_ann(&["check", &nodes[1].addr()])
        .status(4)
        .stderr_has("ACL SETUSER");
    nodes[1].cmd(&["ACL", "SETUSER", "ann", "+@all", "<secret", ">other"]);
    told("node-login-failed", "wrong password");
    as_ann(&["check", &nodes[1].addr()])
        .status(4)
        .stderr_has("wrong password");
    nodes[1].cmd(&["ACL", "SETUSER", "ann", "<other", ">secret"]);

    // The cluster bus counts as well (Redis ≥ 6.2).
    let open = nodes[1].field("connected_clients").unwrap();
    let links = nodes[1].field("cluster_connections").unwrap_or_default();
    let limit = open.parse::<usize>().unwrap() + links.parse::<usize>().unwrap_or(0);
    let mut held = nodes[1].connection().unwrap();
    let set = |connection: &mut redis::Connection, limit: &str| {
        let mut command = redis::cmd("CONFIG");
        let command = command.arg(&["SET", "maxclients", limit]);
        command.query::<()>(connection).unwrap();
    };
    set(&mut held, &limit.to_string());
    let full: Vec<TcpStream> = (0..=limit)
        .map(|_| TcpStream::connect(nodes[1].addr()).unwrap())
        .collect();
    told("node-client-limit", "maxclients");
    as_ann(&["check", &nodes[1].addr()])
        .status(4)
        .stderr_has("maxclients");
    drop(full);
    set(&mut held, "10000");
    drop(held);
    as_ann(&["check", &seed]).status(0);
}

/// Everything that can't be had from a real server at will is an error all the same.
#[test]
fn an_unknown_error_is_no_fault_of_the_network() {
    let nodes = cluster(apart);
    // A process without cluster mode has taken the port of a member.
    nodes[1].kill();
    nodes[1].restart_with(&["--cluster-enabled", "no"]);
    let json = check_json(&nodes[0].addr()).run().status(1).json();
    let said = message(&json, "node-answers-with-error");
    assert!(said.contains("cluster-enabled"), "{said}");
    check(&nodes[1].addr())
        .run()
        .status(3)
        .stderr_has("cluster-enabled");
}

#[test]
fn matrix_a_master_that_cannot_write_to_its_disk() {
    for version in versions() {
        let nodes = cluster(|i| apart(i).version(version).words("--save", &["3600", "1"]));
        let (seed, full) = (nodes[0].addr(), &nodes[1]);
        // A directory in the place of the file: every save fails.
        std::fs::create_dir(full.dir().join("dump.rdb")).unwrap();
        full.cmd(&["SET", "{c}", "1"]); // slot 7365
        let _ = full.try_cmd(&["BGSAVE"]);
        until("the node to refuse writes", PATIENCE, || {
            match full.try_cmd(&["PING"]) {
                Err(error) if error.code() == Some("MISCONF") => Ok(()),
                said => Err(format!("{said:?}")),
            }
        });
        let json = check_json(&seed).run().status(1).json();
        let said = message(&json, "node-refuses-writes");
        assert!(said.contains("MISCONF") && said.contains("disk"), "{said}");
        Trib::new()
            .args([
                "reshard",
                &seed,
                "--slots",
                "5",
                "--from",
                "all",
                "--yes",
                "--from",
                "all",
                "--to",
                &full.id(),
            ])
            .run()
            .status(3)
            .stderr_has("MISCONF");
    }
}

#[test]
fn a_replica_that_serves_no_stale_data() {
    let nodes = cluster(|i| {
        apart(i)
            .arg("--replica-serve-stale-data", "no")
            .node_timeout(60_000)
    });
    nodes[0].kill();
    let replica = &nodes[3];
    until("the link to be down", PATIENCE, || {
        match replica.try_cmd(&["PING"]) {
            Err(error) if error.code() == Some("MASTERDOWN") => Ok(()),
            said => Err(format!("{said:?}")),
        }
    });
    let json = check_json(&nodes[1].addr()).run().status(1).json();
    let said = message(&json, "replica-refuses-reads");
    assert!(said.contains("replica-serve-stale-data"), "{said}");
    let directory = tempfile::tempdir().unwrap();
    let backup = directory.path().join("backup");
    Trib::new()
        .args(["backup", &nodes[1].addr(), backup.to_str().unwrap()])
        .run()
        .status(3)
        // It answers, which the text does not deny.
        .stderr_has(&format!("its replica {} ", replica.addr()))
        .stderr_has("no link to its master")
        .stderr_lacks("no replica in sync that does");
    assert!(!backup.exists());
}
