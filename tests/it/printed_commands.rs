//! What is printed as the command that goes on goes on, exactly as it is printed.

use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::cluster::Nodes;
use crate::support::command::{Finished, Trib};
use crate::support::server::{Server, Spec};
use crate::support::subcommands::check_json;
use crate::support::wait::{PATIENCE, until};

/// Runs a line in a shell, in which `redis-trib` is the program under test.
fn shell(line: &str, env: &[(&str, &str)]) -> Output {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_redis-trib"));
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("PATH", path);
    command.envs(env.iter().copied());
    command.stdin(std::process::Stdio::null());
    command.output().unwrap()
}

#[track_caller]
fn runs(line: &str, env: &[(&str, &str)]) {
    let output = shell(line, env);
    assert!(
        output.status.success(),
        "$ {line}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The lines below "To resume:".
#[track_caller]
fn printed(ended: &Finished) -> Vec<String> {
    let (_, lines) = ended
        .stderr
        .split_once("To resume:")
        .unwrap_or_else(|| panic!("{}", ended.stderr));
    let lines = lines.lines().map(str::trim);
    let lines: Vec<String> = lines
        .filter(|line| line.starts_with("redis-trib "))
        .map(str::to_owned)
        .collect();
    assert!(!lines.is_empty(), "{}", ended.stderr);
    lines
}

/// The command in the last line of JSON: the same words.
#[track_caller]
fn in_json(ended: &Finished) -> Vec<String> {
    let last = ended.json_lines().pop().unwrap();
    assert_eq!(last["event"], "done");
    let words = last["resume"].as_array().unwrap().iter();
    words
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

/// Runs the printed lines, after the words of the JSON were compared with the first.
#[track_caller]
fn go_on(ended: &Finished, env: &[(&str, &str)]) {
    let lines = printed(ended);
    let words = in_json(ended);
    assert_eq!(lines[0].replace('\'', ""), words.join(" "));
    for line in lines {
        runs(&line, env);
    }
}

#[track_caller]
fn healthy(addr: &str) {
    until("the cluster to be healthy", PATIENCE, || {
        let json = check_json(addr).run().json();
        match json["healthy"].as_bool() {
            Some(true) => Ok(()),
            _ => Err(format!("{:#}", json["findings"])),
        }
    });
}

fn trib(words: &[&str]) -> Trib {
    Trib::new().args(words).args(["-o", "json", "--yes"])
}

fn gone(server: &Server) {
    until("the server to be gone", PATIENCE, || {
        match server.try_cmd(&["PING"]) {
            Err(_) => Ok(()),
            Ok(_) => Err("it answers".to_string()),
        }
    });
}

#[test]
fn a_node_that_has_left_is_named_by_its_address() {
    let nodes = Nodes::quick(5);
    nodes.form(3);
    let (seed, leaver, other) = (nodes[0].addr(), &nodes[3], &nodes[4]);
    let (id, other_id) = (leaver.id(), other.id());
    // It leaves, and may not be shut down; another one leaves at the same time, and may.
    leaver.cmd(&["ACL", "SETUSER", "default", "-shutdown"]);
    let ended = trib(&["del-node", &seed, &id, &other_id, "--shutdown"])
        .args(["--leave-unprotected", &id, "--leave-unprotected", &other_id])
        .run()
        .status(6);
    leaver.cmd(&["ACL", "SETUSER", "default", "+@all"]);
    let line = &printed(&ended)[0];
    assert!(
        line.contains(&leaver.addr()) && !line.contains(&other_id),
        "{line}"
    );
    go_on(&ended, &[]);
    gone(leaver);
    gone(other);
    healthy(&seed);
}

#[test]
fn a_node_that_was_forgotten_and_not_reset() {
    let nodes = Nodes::quick(4);
    nodes.form(3);
    let (seed, leaver) = (nodes[0].addr(), &nodes[3]);
    let id = leaver.id();
    leaver.cmd(&["ACL", "SETUSER", "default", "-cluster|reset"]);
    let ended = trib(&["del-node", &seed, &id, "--leave-unprotected", &id])
        .run()
        .status(6);
    leaver.cmd(&["ACL", "SETUSER", "default", "+@all"]);
    go_on(&ended, &[]);
    assert_eq!(leaver.nodes_text().lines().count(), 1);
    healthy(&seed);
    // It has left: the same is no fault, and a node with data of its own is not taken for one.
    trib(&["del-node", &seed, &leaver.addr()]).run().status(0);
    leaver.cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    until("the node to take writes", PATIENCE, || {
        let set = leaver.try_cmd(&["SET", "a", "1"]);
        set.map_err(|error| error.to_string())
    });
    trib(&["del-node", &seed, &leaver.addr(), "--shutdown"])
        .run()
        .status(3);
    assert_eq!(leaver.text(&["GET", "a"]), "1");
}

#[test]
fn creating_and_adding() {
    let (nodes, proxies) = Nodes::behind_proxies(5, &Spec::new().quick());
    let addrs: Vec<String> = proxies.iter().map(|proxy| proxy.addr()).collect();
    proxies[1].stall_at("CLUSTER MEET", 1);
    let run = trib(&["create", &addrs[0], &addrs[1], &addrs[2]])
        .args(["--join-timeout", "50s"])
        .spawn();
    assert!(proxies[1].wait_stalled(PATIENCE));
    run.signal(Signal::SIGINT);
    let ended = run.wait().status(130);
    proxies[1].resume();
    assert!(printed(&ended)[0].contains("--join-timeout 50s"));
    go_on(&ended, &[]);
    healthy(&addrs[0]);

    // The node has joined, and is not a replica yet.
    proxies[3].stall_at("CLUSTER REPLICATE", 1);
    let run = trib(&["add-node", &addrs[3], &addrs[0], "--replica"])
        .args(["--join-timeout", "40s"])
        .spawn();
    assert!(proxies[3].wait_stalled(PATIENCE));
    run.signal(Signal::SIGINT);
    let ended = run.wait().status(130);
    proxies[3].resume();
    assert!(printed(&ended)[0].contains("--join-timeout 40s"));
    go_on(&ended, &[]);
    assert_eq!(nodes[3].field("role").unwrap(), "slave");
    healthy(&addrs[0]);
}

#[test]
fn failing_over_and_replacing() {
    let (nodes, proxies) = Nodes::behind_proxies(5, &Spec::new().quick());
    let new = Spec::new().quick().start();
    nodes.form(3);
    let seed = proxies[0].addr();
    proxies[3].stall_at("CLUSTER FAILOVER", 1);
    let run = trib(&[
        "failover",
        &seed,
        "--of",
        &nodes[0].id(),
        "--timeout",
        "20s",
    ])
    .spawn();
    assert!(proxies[3].wait_stalled(PATIENCE));
    run.signal(Signal::SIGINT);
    let ended = run.wait().status(130);
    proxies[3].resume();
    go_on(&ended, &[]);
    assert_eq!(nodes[3].field("role").unwrap(), "master");
    healthy(&seed);

    let old = nodes[1].id();
    proxies[2].stall_at("CLUSTER FORGET", 1);
    let ended = trib(&["replace-node", &seed, &old, &new.addr()])
        .args(["--command-timeout", "5s"])
        .run()
        .status(6);
    proxies[2].resume();
    go_on(&ended, &[]);
    healthy(&seed);
}

#[test]
fn settings_and_keys_with_a_login() {
    let spec = Spec::new().quick().password("secret").config_file();
    let (nodes, proxies) = Nodes::behind_proxies(3, &spec);
    nodes.form(3);
    let seed = format!("redis://:secret@{}", proxies[0].addr());
    let env = [("REDISCLI_AUTH", "secret")];
    proxies[1].stall_at("CONFIG SET cluster-node-timeout", 1);
    let ended = trib(&["set-timeout", &proxies[0].addr(), "3s"])
        .args(["--command-timeout", "5s"])
        .env("REDISCLI_AUTH", "secret")
        .run()
        .status(6);
    proxies[1].resume();
    go_on(&ended, &env);

    let source = Spec::new().plain().start();
    let fill = "for key = 1, 5000 do redis.call('set', 'key:' .. key, '1') end";
    source.cmd(&["EVAL", fill, "0"]);
    proxies[2].stall_at("RESTORE", 5);
    let run = trib(&["import", "--from", &source.addr(), &seed]).spawn();
    assert!(proxies[2].wait_stalled(PATIENCE));
    run.signal(Signal::SIGINT);
    proxies[2].resume();
    let ended = run.wait().status(130);
    // The password of an address is asked for, and never printed.
    let line = &printed(&ended)[0];
    assert!(
        !line.contains("secret") && line.contains(" --askpass"),
        "{line}"
    );
    let mut terminal = {
        let words = in_json(&ended);
        Trib::new().args(&words[1..]).terminal()
    };
    terminal.expect("assword");
    terminal.send_line("secret");
    terminal.finish().status(0);
    let keys = nodes.iter().map(|node| node.text(&["DBSIZE"]));
    assert_eq!(
        keys.map(|keys| keys.parse::<u64>().unwrap()).sum::<u64>(),
        5000
    );
}

#[test]
fn moving_slots_with_options() {
    let spec = Spec::new().quick().password("secret");
    let (nodes, proxies) = Nodes::behind_proxies(3, &spec);
    nodes.form(3);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pass word");
    std::fs::write(&file, "secret\n").unwrap();
    for key in 0..2000 {
        let _ = nodes[0].try_cmd(&["SET", &format!("key:{key}"), &"v".repeat(500)]);
    }
    let ended = {
        proxies[0].stall_at("MIGRATE", 3);
        let run = trib(&["reshard", &proxies[0].addr(), "--slots", "300"])
            .args(["--from", &nodes[0].id(), "--to", &nodes[1].id()])
            .args([
                "--pass-file",
                file.to_str().unwrap(),
                "--max-open-slots",
                "4",
                "--strategy",
                "keys",
            ])
            .spawn();
        assert!(proxies[0].wait_stalled(PATIENCE));
        run.signal(Signal::SIGINT);
        std::thread::sleep(Duration::from_millis(200));
        proxies[0].resume();
        run.wait().status(130)
    };
    go_on(&ended, &[]);
    // 300 slots have moved, however many commands it took.
    let slots = nodes[1].field("cluster_slots_assigned");
    assert_eq!(slots.as_deref(), Some("16384"));
    let own = nodes[1].nodes_text();
    let own = own.lines().find(|line| line.contains("myself")).unwrap();
    assert!(own.contains(" 0-299 "), "{own}");
}

#[test]
fn named_clusters_stay_named() {
    let spec = Spec::new().quick().password("hunter2").config_file();
    let (nodes, proxies) = Nodes::behind_proxies(4, &spec);
    nodes.form(3);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let text = format!(
        "[clusters.prod]\nnodes = [\"{}\", \"{}\"]\npass_command = \"echo hunter2\"\nprotected = true\n",
        proxies[3].addr(),
        proxies[0].addr()
    );
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let env = [("REDIS_TRIB_CONFIG", config.as_str())];
    let go = |words: &[&str]| {
        let trib = Trib::new()
            .args(words)
            .args(["-o", "json", "--confirm", "prod"]);
        trib.env("REDIS_TRIB_CONFIG", &config)
    };
    proxies[1].stall_at("CONFIG SET cluster-node-timeout", 1);
    let ended = go(&["set-timeout", "@prod", "3s", "--command-timeout", "5s"])
        .run()
        .status(6);
    proxies[1].resume();
    let line = &printed(&ended)[0];
    assert!(
        line.starts_with("redis-trib set-timeout @prod 3s"),
        "{line}"
    );
    assert!(
        line.contains("--confirm prod") && !line.contains("hunter2"),
        "{line}"
    );
    go_on(&ended, &env);

    for key in 0..2000 {
        let _ = nodes[0].try_cmd(&["SET", &format!("key:{key}"), &"v".repeat(500)]);
    }
    proxies[0].stall_at("MIGRATE", 3);
    let (from, to) = (nodes[0].id(), nodes[1].id());
    let run = go(&[
        "reshard", "@prod", "--slots", "300", "--from", &from, "--to", &to,
    ])
    .args(["--max-open-slots", "4", "--strategy", "keys"])
    .spawn();
    assert!(proxies[0].wait_stalled(PATIENCE));
    run.signal(Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(200));
    proxies[0].resume();
    let ended = run.wait().status(130);
    assert!(printed(&ended)[0].starts_with("redis-trib reshard @prod "));
    go_on(&ended, &env);
    let slots = nodes[1].field("cluster_slots_assigned");
    assert_eq!(slots.as_deref(), Some("16384"));

    // The node that leaves is one of those that stand for the cluster: the line names another one.
    let (leaver, id) = (&nodes[3], nodes[3].id());
    leaver.cmd(&["ACL", "SETUSER", "default", "-cluster|reset"]);
    let ended = go(&["del-node", "@prod", &id, "--leave-unprotected", &id])
        .run()
        .status(6);
    leaver.cmd(&["ACL", "SETUSER", "default", "+@all"]);
    let line = &printed(&ended)[0];
    assert!(line.contains("--settings-of prod"), "{line}");
    go_on(&ended, &env);
    assert_eq!(leaver.nodes_text().lines().count(), 1);
}

/// Lines for redis-cli reach and log in as this run did.
#[test]
fn redis_cli_asks_for_the_password() {
    let nodes = Nodes::with(4, &Spec::new().quick().password("secret"));
    nodes.form(4);
    let leaver = &nodes[3];
    // As a run that was killed leaves it.
    leaver.cmd(&["CONFIG", "SET", "cluster-allow-replica-migration", "no"]);
    let seed = format!("redis://:secret@{}", nodes[0].addr());
    let ended = trib(&["del-node", &seed, &leaver.id(), "--drain"]).run();
    let port = leaver.port().to_string();
    let words = [
        "redis-cli ",
        "--askpass ",
        &port,
        "CONFIG SET cluster-allow-replica-migration yes",
    ];
    let ended = ended.status(0);
    let line = ended.stderr.lines().find(|line| line.contains(words[3]));
    let line = line.unwrap_or_else(|| panic!("{}", ended.stderr));
    assert!(words.iter().all(|word| line.contains(word)), "{line}");
    assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
}
