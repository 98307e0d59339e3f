//! `drift`: what differs among real nodes, and what no node may make it say.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::cluster::Nodes;
use crate::support::command::{Signal, Trib};
use crate::support::scripted::{Reply, fake_cluster_where};
use crate::support::server::{Server, Spec, versions};
use crate::support::wait::PATIENCE;

const SECRET: &str = "correct-horse-battery";

fn drift(node: &Server) -> Trib {
    Trib::new().args(["drift", &node.addr()])
}

/// Two masters with a replica each, and one without.
fn cluster(version: &str) -> Nodes {
    let nodes = Nodes::with(5, &Spec::new().quick().version(version));
    nodes.form(3);
    nodes
}

fn found(node: &Server, args: &[&str]) -> Value {
    let trib = drift(node).args(args).args(["-o", "json"]);
    trib.run().status(1).json()
}

#[track_caller]
fn difference<'a>(found: &'a Value, kind: &str, name: &str) -> &'a Value {
    let all = found["differences"].as_array().unwrap();
    let mut named = all
        .iter()
        .filter(|one| one["kind"] == kind && one["name"] == name);
    let one = named
        .next()
        .unwrap_or_else(|| panic!("{kind} {name}: {found:#}"));
    assert!(named.next().is_none(), "{found:#}");
    one
}

fn ids(of: &Value) -> Vec<&str> {
    of.as_array()
        .unwrap()
        .iter()
        .map(|node| node["id"].as_str().unwrap())
        .collect()
}

#[test]
fn matrix_drift_of_a_cluster() {
    for version in versions() {
        differences_of(version);
    }
}

#[test]
fn drift_on_redis_and_valkey() {
    for version in ["redis-8.10", "valkey-9.1"] {
        differences_of(version);
    }
}

fn differences_of(version: &str) {
    let nodes = cluster(version);
    let [first, second, _, replica, _] = &nodes[..] else {
        panic!("five nodes")
    };
    let same = drift(first).args(["-o", "json"]).run().status(0).json();
    assert_eq!(same["same"], true, "{version} {same:#}");
    assert_eq!(same["node_count"], 5);
    drift(first)
        .run()
        .status(0)
        .stdout_has("5 nodes have the same");

    // Inside a shard: an error if clients notice it after a failover.
    replica.cmd(&["CONFIG", "SET", "maxmemory", "100mb"]);
    replica.cmd(&["CONFIG", "SET", "slowlog-max-len", "77"]);
    second.cmd(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    second.cmd(&["CONFIG", "SET", "requirepass", ""]);
    first.cmd(&["CONFIG", "SET", "masterauth", SECRET]);
    second.cmd(&[
        "ACL",
        "SETUSER",
        "bob",
        "on",
        &format!(">{SECRET}"),
        "~a*",
        "+get",
    ]);
    let told = found(first, &[]);
    let maxmemory = difference(&told, "setting", "maxmemory");
    assert_eq!(maxmemory["severity"], "error", "{version}");
    assert_eq!(ids(&maxmemory["shards"]), [first.id()]);
    assert_eq!(maxmemory["values"][1]["value"], "104857600");
    assert_eq!(ids(&maxmemory["values"][1]["nodes"]), [replica.id()]);
    let slowlog = difference(&told, "setting", "slowlog-max-len");
    assert_eq!(slowlog["severity"], "warning");
    // The replica of the second master has another policy than its master.
    let policy = difference(&told, "setting", "maxmemory-policy");
    assert_eq!(policy["severity"], "error");
    let user = difference(&told, "user", "bob");
    assert_eq!(user["severity"], "warning");
    assert_eq!(user["values"][0]["exists"], false);
    assert_eq!(user["values"][1]["value"], Value::Null);
    let auth = match version.starts_with("valkey") {
        true => "primaryauth",
        false => "masterauth",
    };
    assert_eq!(
        difference(&told, "setting", auth)["values"][0]["value"],
        Value::Null
    );
    let count = told["differences"].as_array().unwrap().len();
    assert_eq!(count, 5, "{version} {told:#}");

    // The settings that are ignored are not named, and nothing else is.
    let ignore = [
        "--ignore",
        "maxmemory*,acl:bob,slowlog-max-len",
        "--ignore",
        "masterauth",
        "--ignore",
        "primaryauth",
    ];
    drift(first).args(ignore).run().status(0);

    // No secret, and no hash of one, in any format.
    for format in ["table", "classic", "json"] {
        let said = drift(first).args(["-o", format, "-vv"]).run().status(1);
        let said = format!("{}{}", said.stdout, said.stderr);
        assert!(!said.contains(SECRET), "{said}");
        assert!(!said.contains('#'), "{said}");
        assert!(said.contains("maxmemory-policy"), "{said}");
    }
    if version == "redis-6.2" {
        return;
    }
    let code = "#!lua name=mylib\nredis.register_function('f', function() return 1 end)";
    first.cmd(&["FUNCTION", "LOAD", code]);
    let function = found(first, &[]);
    let function = difference(&function, "function", "mylib");
    assert_eq!(
        function["severity"], "warning",
        "{version}: each shard is the same in itself"
    );
    assert_eq!(function["shards"], json!([]));
}

#[test]
fn a_node_that_does_not_answer_or_may_not_tell_is_named() {
    let spec = Spec::new()
        .quick()
        .user("eve", SECRET, "+@all ~* -config -acl|list");
    let nodes = Nodes::with(3, &spec);
    nodes.form(3);
    let told = drift(&nodes[0]).args(["--user", "eve", "-a", SECRET, "-o", "json"]);
    let told = told.run().status(1).json();
    assert_eq!(told["same"], false);
    assert_eq!(told["differences"], json!([]));
    let kinds: Vec<&Value> = told["unknown"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["kind"])
        .collect();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "setting").count(),
        3,
        "{told:#}"
    );
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "user").count(),
        3,
        "{told:#}"
    );
    let dead = nodes[2].id();
    nodes[2].kill();
    let told = found(&nodes[0], &[]);
    assert_eq!(told["node_count"], 2);
    assert_eq!(told["unknown"][0]["node"]["id"], dead);
    assert_eq!(told["unknown"][0]["kind"], Value::Null);
    drift(&nodes[0])
        .run()
        .status(1)
        .stdout_has("was not compared");
}

fn settings(pairs: &[(&str, &str)]) -> Reply {
    Reply::array(
        pairs
            .iter()
            .flat_map(|(name, value)| [Reply::bulk(name), Reply::bulk(value)]),
    )
}

#[test]
fn what_a_node_says_does_not_act_on_the_terminal() {
    let long = "x".repeat(1 << 20);
    let cluster = fake_cluster_where(3, 0, |index, script| {
        let value = match index {
            1 => "\u{1b}[31mred\r\n[OK] fine",
            _ => "1",
        };
        script
            .on(
                "CONFIG GET *",
                settings(&[
                    ("hz", value),
                    ("bad\u{1b}name", value),
                    ("proc-title-template", if index == 2 { &long } else { "" }),
                ]),
            )
            .on(
                "ACL LIST",
                Reply::array([Reply::bulk(&format!("user a\u{1b}[2J{index} on"))]),
            )
            .on("MODULE LIST", Reply::array([]))
            .on(
                "FUNCTION LIST",
                Reply::error("ERR unknown command 'FUNCTION'"),
            )
    });
    let addr = cluster.nodes[0].addr();
    for format in ["table", "json"] {
        let said = Trib::new()
            .args(["drift", &addr, "-o", format])
            .run()
            .status(1);
        assert!(
            !said.stdout.contains('\u{1b}') && said.stdout.len() < 20_000,
            "{}",
            said.stdout
        );
        assert!(!said.stdout.contains("\n[OK]"), "{}", said.stdout);
        assert!(
            !said.stdout.contains("name\"") || !said.stdout.contains("badname"),
            "{}",
            said.stdout
        );
    }
}

#[test]
fn a_hundred_nodes_are_asked_side_by_side() {
    // One after the other they would take 50 s.
    const PAUSE: Duration = Duration::from_millis(500);
    let cluster = fake_cluster_where(50, 50, |index, script| {
        let mut pairs: Vec<(String, String)> = (0..250)
            .map(|n| (format!("setting-{n}"), "value".to_string()))
            .collect();
        pairs.push(("maxmemory".to_string(), (index % 2).to_string()));
        let pairs: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        script
            .on("CONFIG GET *", settings(&pairs).after(PAUSE))
            .on(
                "ACL LIST",
                Reply::array([Reply::bulk("user default on nopass ~* &* +@all")]),
            )
            .on("MODULE LIST", Reply::array([]))
            .on("FUNCTION LIST", Reply::array([]))
    });
    let addr = cluster.nodes[0].addr();
    let said = Trib::new()
        .args(["drift", &addr, "-o", "json"])
        .run()
        .status(1);
    let said = said.within(Duration::from_secs(45)).json();
    assert_eq!(said["node_count"], 100);
    assert_eq!(said["differences"].as_array().unwrap().len(), 1, "{said:#}");
}

#[test]
fn wrong_arguments_are_usage_errors() {
    for (words, message) in [
        (vec![], "<NODE>"),
        (vec!["127.0.0.1:1", "--ignore", ""], "acl:USER"),
    ] {
        let trib = Trib::new().arg("drift").args(&words);
        trib.run().status(2).stdout_empty().stderr_has(message);
    }
    let bare = Spec::new().plain().start();
    drift(&bare).run().status(3).stderr_has("cluster-enabled");
}

/// `drift --fix`, with consent.
fn fix(node: &Server, what: &str, from: &Server) -> Trib {
    drift(node).args(["--fix", what, "--from", &from.id(), "--yes"])
}

fn setting(node: &Server, key: &str) -> String {
    let pair: Vec<String> = redis::from_redis_value(node.cmd(&["CONFIG", "GET", key])).unwrap();
    pair[1].clone()
}

fn users(node: &Server) -> Vec<String> {
    let lines: Vec<String> = redis::from_redis_value(node.cmd(&["ACL", "LIST"])).unwrap();
    // Redis 7.0 leaves this out until a user is reset.
    let lines = lines
        .iter()
        .map(|line| line.replace("sanitize-payload ", ""));
    lines.collect()
}

#[test]
fn matrix_fixes_of_a_cluster() {
    for version in versions() {
        fixes_on(version);
    }
}

#[test]
fn fixes_on_redis_and_valkey() {
    for version in ["redis-8.10", "valkey-9.1"] {
        fixes_on(version);
    }
}

fn fixes_on(version: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = |index: usize| folder.path().join(format!("users-{index}.acl"));
    let nodes = Nodes::each(5, |index| {
        std::fs::write(file(index), "").unwrap();
        let spec = Spec::new().quick().version(version).config_file();
        spec.arg("--aclfile", file(index).display())
    });
    nodes.form(3);
    let [first, second, _, replica, _] = &nodes[..] else {
        panic!("five nodes")
    };

    // A setting.
    replica.cmd(&["CONFIG", "SET", "maxmemory", "100mb"]);
    let values = || -> Vec<String> {
        nodes
            .iter()
            .map(|node| setting(node, "maxmemory"))
            .collect()
    };
    let before = values();
    let plan = ["--fix", "config:maxmemory", "--from", &replica.id()];
    drift(first)
        .args(plan)
        .arg("--dry-run")
        .run()
        .status(0)
        .stdout_has("104857600");
    drift(first).args(plan).run().status(5);
    assert_eq!(values(), before, "{version}");
    fix(first, "config:maxmemory", replica)
        .run()
        .status(0)
        .stdout_has("4 nodes")
        .stderr_lacks("until it restarts");
    assert!(
        values().iter().all(|value| value == "104857600"),
        "{version}"
    );
    fix(first, "config:maxmemory", replica)
        .run()
        .status(0)
        .stdout_has("nothing to do");
    // However long the restart takes, it comes back as a master.
    let no_failover = "cluster-replica-no-failover";
    replica.cmd(&["CONFIG", "SET", no_failover, "yes"]);
    first.restart();
    nodes.wait_usable();
    replica.cmd(&["CONFIG", "SET", no_failover, "no"]);
    assert_eq!(
        setting(first, "maxmemory"),
        "104857600",
        "{version}: it is written down"
    );
    // Less than what is used.
    second.cmd(&["CONFIG", "SET", "maxmemory", "100kb"]);
    let before = values();
    fix(first, "config:maxmemory", second)
        .run()
        .status(3)
        .stderr_has("evict keys");
    assert_eq!(values(), before, "{version}");
    fix(first, "config:maxmemory", first).run().status(0);

    // A user.
    let rules = [
        "on",
        &format!(">{SECRET}"),
        "~a*",
        "resetchannels",
        "&c*",
        "-@all",
        "+get",
        "+@hash",
    ];
    second.cmd(&[&["ACL", "SETUSER", "bob"][..], &rules].concat());
    if version != "redis-6.2" {
        second.cmd(&["ACL", "SETUSER", "bob", "(%R~b* +set)"]);
    }
    first.cmd(&["ACL", "SETUSER", "bob", "on", "nopass", "~*", "+@all"]);
    let line = users(second)
        .into_iter()
        .find(|line| line.starts_with("user bob "))
        .unwrap();
    let hash = line
        .split(['#', ' '])
        .find(|word| word.len() == 64)
        .unwrap()
        .to_owned();
    for format in ["classic", "json"] {
        let journal = folder.path().join(format!("journal-{format}"));
        let said = fix(first, "acl:bob", second).args([
            "-o",
            format,
            "-vv",
            "--journal",
            journal.to_str().unwrap(),
        ]);
        let said = said.run().status(0);
        let journal = std::fs::read_to_string(journal).unwrap();
        for text in [&said.stdout, &said.stderr, &journal] {
            assert!(
                !text.contains(&hash) && !text.contains(SECRET),
                "{version} {text}"
            );
        }
        if format == "classic" {
            assert!(journal.contains("ACL SETUSER"), "{journal}");
        }
    }
    for (index, node) in nodes.iter().enumerate() {
        assert!(users(node).contains(&line), "{version} {:?}", users(node));
        let saved = std::fs::read_to_string(file(index)).unwrap();
        assert_eq!(
            saved.contains("user bob"),
            node.id() != second.id(),
            "{version} {saved}"
        );
    }
    drift(first).run().status(0);
    fix(first, "acl:nobody", second)
        .run()
        .status(3)
        .stderr_has("no user \"nobody\"");
    drift(first)
        .args(["--fix", "acl:default", "--from", &first.id(), "--dry-run"])
        .run()
        .status(0)
        .stdout_has("logs in as");

    // Functions.
    if version == "redis-6.2" {
        fix(first, "functions", second)
            .run()
            .status(3)
            .stderr_has("no functions");
        return;
    }
    let code = |name: &str, value: u32| {
        format!(
            "#!lua name={name}\nredis.register_function('{name}_f', function() return {value} end)"
        )
    };
    first.cmd(&["FUNCTION", "LOAD", &code("shared", 1)]);
    second.cmd(&["FUNCTION", "LOAD", &code("shared", 2)]);
    second.cmd(&["FUNCTION", "LOAD", &code("other", 3)]);
    let done = fix(first, "functions", first).run().status(0);
    done.stdout_has("\"other\"").stdout_has("2 nodes");
    for node in nodes.iter() {
        let list = format!("{:?}", node.cmd(&["FUNCTION", "LIST", "WITHCODE"]));
        assert!(
            list.contains("return 1") && !list.contains("return 2"),
            "{version} {list}"
        );
    }
    let kept = format!("{:?}", second.cmd(&["FUNCTION", "LIST"]));
    assert!(
        kept.contains("other"),
        "{version}: functions are never removed"
    );
}

#[test]
fn a_fix_that_stops_goes_on_with_the_same_command() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let mut others: Vec<&Server> = nodes[1..].iter().collect();
    others.sort_by_key(|node| node.id());
    nodes[0].cmd(&["CONFIG", "SET", "slowlog-max-len", "77"]);
    others[1].cmd(&["ACL", "SETUSER", "default", "-config|set"]);
    let stopped = fix(&nodes[0], "config:slowlog-max-len", &nodes[0]).run();
    let stopped = stopped.status(6).stderr_has("1 of 2 nodes are done");
    stopped.stderr_has("drift").stderr_has(&others[1].addr());
    others[1].cmd(&["ACL", "SETUSER", "default", "+config|set"]);
    fix(&nodes[0], "config:slowlog-max-len", &nodes[0])
        .run()
        .status(0)
        .stdout_has("1 node");
    drift(&nodes[0])
        .args(["--ignore", "acl:default"])
        .run()
        .status(0);
}

#[test]
fn a_signal_during_a_fix_ends_it_after_the_node_in_hand() {
    let (nodes, proxies) = Nodes::behind_proxies(3, &Spec::new().quick());
    nodes.form(3);
    nodes[0].cmd(&["CONFIG", "SET", "slowlog-max-len", "77"]);
    // One node after the other, by their ids.
    let mut others = [1, 2];
    others.sort_by_key(|at| nodes[*at].id());
    let in_hand = &proxies[others[0]];
    in_hand.stall_at("CONFIG SET", 1);
    let run = fix(&nodes[0], "config:slowlog-max-len", &nodes[0]).spawn();
    assert!(in_hand.wait_stalled(PATIENCE));
    run.signal(Signal::SIGINT);
    run.wait_stderr("finishing the node in hand");
    in_hand.resume();
    let ended = run.wait().status(130);
    ended.stderr_has("1 of 2 nodes are done; the same command goes on");
    let has = |at: usize| setting(&nodes[others[at]], "slowlog-max-len");
    assert_eq!((has(0).as_str(), has(1).as_str()), ("77", "128"));
    let again = fix(&nodes[0], "config:slowlog-max-len", &nodes[0]).run();
    again.status(0).stdout_has("1 node");
    assert_eq!(has(1), "77");
}

#[test]
fn a_fix_that_is_not_allowed_is_refused() {
    for (words, message) in [
        (
            ["--fix", "config:port", "--from", "abcd"],
            "not a setting that is copied",
        ),
        (
            ["--fix", "config:requirepass", "--from", "abcd"],
            "not a setting that is copied",
        ),
        (
            ["--fix", "config:replicaof", "--from", "abcd"],
            "not a setting that is copied",
        ),
        (["--fix", "modules", "--from", "abcd"], "acl:USER"),
        (["--fix", "acl:", "--from", "abcd"], "acl:USER"),
        (["--fix", "functions", "--ignore", "hz"], "--from"),
        (["--from", "abcd", "--ignore", "hz"], "--fix"),
    ] {
        let trib = Trib::new().args(["drift", "127.0.0.1:1"]).args(words);
        trib.run().status(2).stdout_empty().stderr_has(message);
    }
}
