//! `import`: keys of a standalone server into a cluster.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use redis::Value;

use crate::support::cluster::Nodes;
use crate::support::command::{Signal, Trib};
use crate::support::dataset::{self, difference, digest};
use crate::support::proxy::{Cut, Proxy};
use crate::support::server::{Server, Spec, versions};
use crate::support::slots::{owned, slot_of};
use crate::support::tls::Material;
use crate::support::wait::PATIENCE;

fn cluster(spec: &Spec) -> Nodes {
    let nodes = Nodes::with(3, spec);
    nodes.form(3);
    nodes
}

fn standalone(version: &str) -> Server {
    Spec::new().plain().version(version).start()
}

fn import(from: &str, node: &str) -> Trib {
    Trib::new().args(["import", "--from", from, node, "--yes"])
}

/// Strings `key:0`…, 100 bytes each.
fn fill(server: &Server, count: usize) {
    let mut pipe = redis::pipe();
    for n in 0..count {
        pipe.cmd("SET")
            .arg(format!("key:{n}"))
            .arg("v".repeat(100))
            .ignore();
    }
    pipe.query::<()>(&mut server.connection().unwrap()).unwrap();
}

#[test]
fn matrix_every_type_arrives_as_it_was() {
    for version in versions() {
        let source = [standalone(version)];
        let nodes = cluster(&Spec::new().quick().version(version));
        dataset::fill(&source);
        let was = digest(&source);
        let keys = was.len();
        import(&source[0].addr(), &nodes[0].addr())
            .run()
            .status(0)
            .stdout_has(&format!("[OK] {keys} keys copied"));
        assert_eq!(difference(&was, &digest(&nodes)), [""; 0], "{version}");
        assert_eq!(
            difference(&was, &digest(&source)),
            [""; 0],
            "{version}: the source"
        );
        // Once more: all is there.
        import(&source[0].addr(), &nodes[0].addr())
            .args(["--fail-fast"])
            .run()
            .status(0)
            .stdout_has("[OK] 0 keys copied")
            .stdout_has("were there already, the same");
    }
}

#[test]
fn older_to_newer_and_back_in_the_matrix() {
    let (old, new) = ("redis-7.0", "redis-8.10");
    if !versions().contains(&new) {
        return;
    }
    let source = [standalone(old)];
    let nodes = cluster(&Spec::new().quick().version(new));
    dataset::fill(&source);
    import(&source[0].addr(), &nodes[0].addr()).run().status(0);
    assert_eq!(difference(&digest(&source), &digest(&nodes)), [""; 0]);

    // What an older server has no form for is named; all else arrives.
    let source = [standalone(new)];
    let nodes = cluster(&Spec::new().quick().version(old));
    dataset::fill(&source);
    let report = import(&source[0].addr(), &nodes[0].addr())
        .args(["-o", "json"])
        .run()
        .status(1);
    let lines = report.json_lines();
    let report = lines.iter().find(|line| line["event"] == "report").unwrap();
    let failed = report["failed"].as_array().unwrap();
    let named: Vec<&str> = failed
        .iter()
        .flat_map(|one| one["examples"].as_array().unwrap())
        .map(|one| one["key"].as_str().unwrap())
        .collect();
    // In five of the first eight keys there is each of the reasons.
    for key in &named {
        let known = [
            "fields:",
            "array",
            "stream:released",
            "stream:producers",
            "vectors",
        ];
        assert!(
            known.iter().any(|name| key.starts_with(name)),
            "{key} in {named:?}"
        );
    }
    assert!(failed.iter().any(|one| one["reason"] == "too-new"));
    let (was, is) = (digest(&source), digest(&nodes));
    for (key, what) in &is {
        assert_eq!(was.get(key), Some(what));
    }
    let lost = failed
        .iter()
        .map(|one| one["count"].as_u64().unwrap())
        .sum::<u64>();
    assert_eq!(is.len() as u64 + lost, was.len() as u64);
}

#[test]
fn fields_that_expire_go_from_one_product_to_the_other() {
    let (redis, valkey) = ("redis-8.10", "valkey-9.1");
    if !versions().contains(&redis) {
        return;
    }
    for (from, to) in [(redis, valkey), (valkey, redis)] {
        let source = standalone(from);
        let nodes = cluster(&Spec::new().quick().version(to));
        for (key, fields) in [("fields:small", 3), ("fields:large", 2_000)] {
            let mut line = vec!["HSET".to_string(), key.to_string()];
            line.extend((0..2 * fields).map(|n| format!("f{}{}", n / 2, ["", "v"][n % 2])));
            source.cmd(&line);
            source.cmd(&[
                "HPEXPIREAT",
                key,
                "4102444800000",
                "FIELDS",
                "2",
                "f1",
                "f2",
            ]);
            source.cmd(&["HPEXPIREAT", key, "4102444800123", "FIELDS", "1", "f0"]);
        }
        source.cmd(&["SAVE"]);
        let file = source.dir().join("dump.rdb").to_str().unwrap().to_string();
        for from in [source.addr(), file] {
            let run = |line: &[&str]| {
                Trib::new()
                    .args(line.iter().copied())
                    .args(["--from", &from, &nodes[0].addr()])
                    .run()
                    .status(0)
            };
            run(&["import", "--yes", "--verify"])
                .stderr_lacks("will fail")
                .stdout_has("[OK] 2 keys copied")
                .stdout_has("[OK] 2 keys the same");
            run(&["import", "--yes"]).stdout_has("2 were there already, the same");
            for key in ["fields:small", "fields:large"] {
                let times = [
                    b"HPEXPIRETIME",
                    key.as_bytes(),
                    b"FIELDS",
                    b"3",
                    b"f0",
                    b"f1",
                    b"f2",
                ];
                let times = dataset::send(&nodes, &times);
                let at = [4_102_444_800_123, 4_102_444_800_000, 4_102_444_800_000];
                assert_eq!(times, Value::Array(at.map(Value::Int).to_vec()));
                dataset::send(&nodes, &[b"DEL", key.as_bytes()]);
            }
        }
    }
    // Neither form.
    let source = standalone(redis);
    source.cmd(&["HSET", "h", "a", "1"]);
    source.cmd(&["HPEXPIREAT", "h", "4102444800000", "FIELDS", "1", "a"]);
    let nodes = cluster(&Spec::new().quick().version("valkey-8.1"));
    import(&source.addr(), &nodes[0].addr())
        .run()
        .status(1)
        .stdout_has("needs Redis 7.4 or Valkey 9.0");
}

#[test]
fn conflicts_are_as_the_user_says() {
    let source = standalone("redis-7.0");
    let nodes = cluster(&Spec::new().quick());
    fill(&source, 100);
    let set = |value: &str| dataset::send(&nodes, &[b"SET", b"key:7", value.as_bytes()]);
    set("other");
    let (from, node) = (source.addr(), nodes[0].addr());
    let run = |args: &[&str]| import(&from, &node).args(args.iter().copied()).run();
    run(&[])
        .status(1)
        .stdout_has("1 key failed (differs)")
        .stdout_has("\"key:7\"")
        .stdout_has("99 keys copied");
    run(&["--on-conflict", "abort"])
        .status(6)
        .stderr_has("\"key:7\" is in the cluster with another value");
    run(&["--fail-fast"]).status(6);
    let value = || dataset::send(&nodes, &[b"GET", b"key:7"]);
    assert_eq!(value(), Value::BulkString(b"other".to_vec()));
    run(&["--replace"])
        .status(0)
        .stdout_has("[OK] 100 keys copied");
    assert_eq!(value(), Value::BulkString(vec![b'v'; 100]));
    // Equal sets are written in other orders: the same all the same.
    for n in 0..500 {
        let member = format!("member {n}");
        dataset::send(&nodes, &[b"SADD", b"set", member.as_bytes()]);
        let member = format!("member {}", 499 - n);
        source.cmd(&["SADD", "set", &member]);
    }
    run(&["--on-conflict", "abort"])
        .status(0)
        .stdout_has("101 were there already, the same");
}

/// More than a reply of 32 MiB holds: read alone, and compared alone the next time.
#[test]
fn a_key_that_expires_at_another_time_is_another_one() {
    let source = standalone("redis-7.0");
    let nodes = cluster(&Spec::new().quick());
    let (from, node) = (source.addr(), nodes[0].addr());
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    for (key, here, there) in [
        ("shorter", None, Some(1000)),
        ("longer", Some(1000), None),
        ("other", Some(1000), Some(2000)),
        ("close", Some(1000), Some(1002)),
        ("never", None, None),
    ] {
        // Points in time, so that it does not matter when these commands are carried out.
        let set = |ttl: Option<u64>| {
            let mut words = ["SET", key, "v"].map(str::to_string).to_vec();
            let at = ttl.map(|seconds| (now + seconds).to_string());
            words.extend(at.into_iter().flat_map(|at| ["EXAT".to_string(), at]));
            words
        };
        source.cmd(&set(here));
        let words = set(there);
        let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        dataset::send(&nodes, &words);
    }
    let moving = |args: &[&str]| {
        let moving = import(&from, &node).args(["--move"]);
        moving.args(args.iter().copied()).run()
    };
    moving(&["--on-existing-key", "abort", "--pattern", "shorter"])
        .status(6)
        .stderr_has("\"shorter\" is in the cluster with another value or time to live");
    moving(&[])
        .status(1)
        .stdout_has("3 keys failed (differs)")
        .stdout_has("has it with another time to live");
    for key in ["shorter", "longer", "other"] {
        assert_eq!(source.cmd(&["EXISTS", key]), Value::Int(1), "{key}");
    }
    for key in ["close", "never"] {
        assert_eq!(source.cmd(&["EXISTS", key]), Value::Int(0), "{key}");
    }
    moving(&["--replace"]).status(0).stdout_has("3 keys moved");
    let ttl = dataset::send(&nodes, &[b"TTL", b"shorter"]);
    assert_eq!(ttl, Value::Int(-1));
}

#[test]
fn values_larger_than_replies_should_be() {
    let source = standalone("redis-7.0");
    let nodes = cluster(&Spec::new().quick());
    fill(&source, 600);
    let set = |size: usize| {
        // No two bytes alike for long: LZF would make it small.
        let mut state = 1_u32;
        let value: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(size)
        .collect();
        let mut set = redis::cmd("SET");
        set.arg("large").arg(value);
        set.query::<()>(&mut source.connection().unwrap()).unwrap();
    };
    set(40 << 20);
    let run = || {
        import(&source.addr(), &nodes[0].addr())
            .args(["--on-conflict", "abort"])
            .run()
    };
    run().status(0).stdout_has("601 keys copied");
    run()
        .status(0)
        .stdout_has("601 were there already, the same");
    assert_eq!(
        difference(&digest(std::slice::from_ref(&source)), &digest(&nodes)),
        [""; 0]
    );
    set((40 << 20) + 1);
    run()
        .status(6)
        .stderr_has("\"large\" is in the cluster with another value");
}

#[test]
fn databases_patterns_and_moves() {
    let source = standalone("redis-7.0");
    let nodes = cluster(&Spec::new().quick());
    let mut connection = source.connection().unwrap();
    redis::pipe()
        .cmd("SELECT")
        .arg(3)
        .ignore()
        .cmd("SET")
        .arg("a:1")
        .arg("x")
        .ignore()
        .cmd("SET")
        .arg("b:1")
        .arg("y")
        .arg("PX")
        .arg(3_600_000)
        .ignore()
        .query::<()>(&mut connection)
        .unwrap();
    source.cmd(&["SET", "zero", "0"]);
    let (from, node) = (source.addr(), nodes[0].addr());
    import(&from, &node)
        .args(["--from-db", "3", "--pattern", "a:*", "--dry-run"])
        .run()
        .status(0)
        .stdout_has("2 keys of database 3")
        .stdout_has("Keys of other databases are not imported unless --from-db N names their database: 0 (1).")
        .stdout_has("Only keys that match \"a:*\"");
    import(&format!("redis://{from}/3"), &node)
        .args(["--pattern", "a:*", "--move"])
        .run()
        .status(0)
        .stdout_has("1 key moved");
    let left: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    assert_eq!(left, ["b:1"]);
    assert_eq!(digest(&nodes).len(), 1);
    import(&from, &node)
        .args(["--from-db", "3", "--move"])
        .run()
        .status(0);
    let left: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    assert_eq!(left, [""; 0]);
    let Value::Int(ttl) = dataset::send(&nodes, &[b"PTTL", b"b:1"]) else {
        panic!("no TTL");
    };
    assert!((3_400_000..=3_600_000).contains(&ttl), "{ttl}");
    assert_eq!(source.text(&["GET", "zero"]), "0");
    import(&format!("redis://{from}/3"), &node)
        .args(["--from-db", "4"])
        .run()
        .status(2);
    import(&from, &node)
        .args(["--from-db", "99"])
        .run()
        .status(3)
        .stderr_has("no database 99");
}

#[test]
fn keys_that_change_while_they_move_are_not_lost() {
    let source = standalone("redis-7.0");
    let nodes = cluster(&Spec::new().quick());
    fill(&source, 200);
    // A client writes between the copy and the deletion.
    let proxy = Proxy::to(&source.addr());
    proxy.stall_at("MULTI", 1);
    let running = import(&proxy.addr(), &nodes[0].addr())
        .args(["--move", "--lanes", "1"])
        .spawn();
    assert!(proxy.wait_stalled(PATIENCE));
    for n in 0..200 {
        source.cmd(&["SET", &format!("key:{n}"), "newer"]);
    }
    proxy.resume();
    running.wait().status(0).stdout_has("keys moved");
    assert_eq!(source.text(&["DBSIZE"]), "0");
    let there = digest(&nodes);
    assert_eq!(there.len(), 200);
    assert!(
        there
            .values()
            .all(|what| what.contains("newer") || what.contains("vvv"))
    );
    assert!(there.values().filter(|what| what.contains("newer")).count() >= 60);
}

/// Keys of one slot at a source that move, once they are copied and before they are deleted.
struct Copied {
    source: Server,
    nodes: Nodes,
    proxy: Proxy,
    running: crate::support::command::Running,
}

impl Copied {
    fn with(options: &[&str]) -> Self {
        let source = standalone("redis-7.0");
        let nodes = cluster(&Spec::new().quick());
        for key in ["{t}still", "{t}changed", "{t}both", "{t}deleted"] {
            source.cmd(&["SET", key, "old"]);
        }
        let proxy = Proxy::to(&source.addr());
        proxy.stall_at("MULTI", 1);
        let running = import(&proxy.addr(), &nodes[0].addr())
            .args(["--move", "-o", "json"])
            .args(options.iter().copied())
            .spawn();
        assert!(proxy.wait_stalled(PATIENCE));
        Self {
            source,
            nodes,
            proxy,
            running,
        }
    }

    fn set(&self, key: &str, value: &str) {
        dataset::send(&self.nodes, &[b"SET", key.as_bytes(), value.as_bytes()]);
    }
}

/// The counts of failed keys, by reason.
fn failures(report: &serde_json::Value) -> Vec<(String, u64)> {
    let failed = report["failed"].as_array().unwrap().iter();
    failed
        .map(|one| {
            (
                one["reason"].as_str().unwrap().to_string(),
                one["count"].as_u64().unwrap(),
            )
        })
        .collect()
}

#[test]
fn what_clients_write_while_keys_move_is_kept() {
    for (options, both) in [(&[][..], "client"), (&["--replace"], "newer")] {
        let copied = Copied::with(options);
        copied.set("{t}still", "client");
        copied.source.cmd(&["SET", "{t}changed", "newer"]);
        copied.set("{t}both", "client");
        copied.source.cmd(&["SET", "{t}both", "newer"]);
        copied.source.cmd(&["DEL", "{t}deleted"]);
        copied.proxy.resume();
        let ended = copied.running.wait().status(1);
        let (source, nodes) = (&copied.source, &copied.nodes);
        let report = report(&ended);
        let mut expected = vec![("deleted-meanwhile".to_string(), 1)];
        if both == "client" {
            expected.insert(0, ("differs".to_string(), 1));
        }
        assert_eq!(failures(&report), expected, "{report:#}");
        let moved = 4 - expected.len();
        assert_eq!(
            [&report["written"], &report["deleted"]],
            [moved, moved],
            "{report:#}"
        );
        assert_eq!(
            source.cmd(&["EXISTS", "{t}still", "{t}changed"]),
            Value::Int(0)
        );
        let kept = i64::from(both == "client");
        assert_eq!(source.cmd(&["EXISTS", "{t}both"]), Value::Int(kept));
        for (key, value) in [
            ("still", "client"),
            ("changed", "newer"),
            ("both", both),
            ("deleted", "old"),
        ] {
            let key = format!("{{t}}{key}");
            let is = dataset::send(nodes, &[b"GET", key.as_bytes()]);
            assert_eq!(is, Value::BulkString(value.into()), "{key}");
        }
    }
}

#[test]
fn a_copy_that_a_client_deleted_is_not_made_again() {
    let copied = Copied::with(&[]);
    dataset::send(&copied.nodes, &[b"DEL", b"{t}both"]);
    copied.source.cmd(&["SET", "{t}both", "newer"]);
    copied.proxy.resume();
    let ended = copied.running.wait().status(1);
    assert_eq!(failures(&report(&ended)), [("differs".to_string(), 1)]);
    assert_eq!(copied.source.text(&["GET", "{t}both"]), "newer");
    let there = dataset::send(&copied.nodes, &[b"EXISTS", b"{t}both"]);
    assert_eq!(there, Value::Int(0));
}

#[test]
fn a_key_that_can_not_be_copied_again_has_failed() {
    let copied = Copied::with(&["--replace"]);
    let rules = |rule: &str| {
        for node in copied.nodes.iter() {
            node.cmd(&["ACL", "SETUSER", "default", "resetkeys", rule]);
        }
    };
    copied.source.cmd(&["SET", "{t}changed", "newer"]);
    rules("~other");
    copied.proxy.resume();
    let ended = copied.running.wait().status(1);
    let report = report(&ended);
    assert_eq!(
        failures(&report),
        [("refused".to_string(), 1)],
        "{report:#}"
    );
    assert_eq!(
        [&report["written"], &report["deleted"]],
        [3, 3],
        "{report:#}"
    );
    assert_eq!(copied.source.text(&["GET", "{t}changed"]), "newer");
    assert_eq!(copied.source.text(&["DBSIZE"]), "1");
}

/// What was written when the import stops is counted.
#[test]
fn keys_are_counted_when_a_conflict_stops_the_import() {
    for options in [
        &["--on-existing-key", "abort"][..],
        &["--fail-fast"],
        &["--on-existing-key", "abort", "--move"],
        &["--fail-fast", "--move"],
    ] {
        let source = standalone("redis-7.0");
        let nodes = cluster(&Spec::new().quick());
        for n in 0..90 {
            source.cmd(&["SET", &format!("{{t}}{n}"), "v"]);
        }
        dataset::send(&nodes, &[b"SET", b"{t}7", b"other"]);
        let ended = import(&source.addr(), &nodes[0].addr())
            .args(["-o", "json"])
            .args(options.iter().copied())
            .run()
            .status(6);
        let there = digest(&nodes).len() - 1;
        assert_eq!(there, 89);
        assert_eq!(report(&ended)["written"], there, "{options:?}");
        assert_eq!(source.text(&["DBSIZE"]), "90", "{options:?}");
    }
}

#[test]
fn what_can_not_be_a_source_is_refused() {
    let nodes = cluster(&Spec::new().quick());
    let node = nodes[0].addr();
    import(&nodes[1].addr(), &node)
        .run()
        .status(3)
        .stderr_has("a node of the cluster itself");
    let other = Spec::new().start();
    import(&other.addr(), &node)
        .run()
        .status(3)
        .stderr_has("is a cluster node");
    import("127.0.0.1:1", &node)
        .run()
        .status(4)
        .stderr_has("--from");
    let source = standalone("redis-7.0");
    import(&source.addr(), &source.addr()).run().status(3);
    Trib::new()
        .args(["import", "--from", &source.addr(), &node])
        .run()
        .status(5)
        .stderr_has("--yes");
    Trib::new().args(["import", &node]).run().status(2);
    Trib::new()
        .args(["import", "--from", "redis://u:secret@h:x", &node])
        .run()
        .status(2)
        .stderr_lacks("secret");
    nodes[2].kill();
    import(&source.addr(), &node)
        .run()
        .status(3)
        .stderr_has(&format!("{} (", nodes[2].addr()))
        .stderr_has("does not answer");
}

#[test]
fn source_with_its_own_password_and_tls() {
    let material = Material::new();
    let source = Spec::new()
        .plain()
        .password("sour-ce")
        .tls(&material)
        .start();
    let nodes = cluster(&Spec::new().quick().password("clus-ter"));
    fill(&source, 50);
    let (from, node) = (format!("rediss://{}", source.addr()), nodes[0].addr());
    let run = |args: &[&str]| {
        import(&from, &node)
            .args([
                "--cacert",
                material.ca.to_str().unwrap(),
                "--pass",
                "clus-ter",
            ])
            .args(args.iter().copied())
            .run()
            .stderr_lacks("sour-ce")
            .stdout_lacks("sour-ce")
    };
    run(&[])
        .status(4)
        .stderr_has("needs a password: --from-pass-file");
    run(&["--from-pass", "wrong"])
        .status(4)
        .stderr_has("wrong password (user default)")
        .stderr_has("--from-user, give its own");
    run(&["--from-pass", "sour-ce"])
        .status(0)
        .stdout_has("50 keys copied");
    let secret = material.ca.parent().unwrap().join("secret");
    std::fs::write(&secret, "sour-ce\n").unwrap();
    run(&["--from-pass-file", secret.to_str().unwrap()])
        .status(0)
        .stdout_has("50 were there");
}

#[test]
fn slots_that_move_and_nodes_that_stumble_are_followed() {
    let source = standalone("redis-7.0");
    let (nodes, proxies) = Nodes::behind_proxies(3, &Spec::new().quick());
    nodes.form(3);
    fill(&source, 3000);
    // A slot is open, another moves while keys are on their way, a connection breaks.
    let slot = slot_of(b"key:7").to_string();
    let owner = nodes
        .iter()
        .position(|node| {
            owned(node)
                .iter()
                .any(|(a, b)| (*a..=*b).contains(&slot.parse().unwrap()))
        })
        .unwrap();
    let other = (owner + 1) % 3;
    nodes[other].cmd(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &nodes[owner].id()]);
    nodes[owner].cmd(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &nodes[other].id()]);
    proxies[0].stall_at("RESTORE", 40);
    proxies[1].cut(Cut::after("RESTORE").nth(30));
    let running = import(&source.addr(), &proxies[0].addr()).spawn();
    assert!(proxies[0].wait_stalled(PATIENCE));
    // A slot whose keys have not come yet: a node does not give away a slot with keys.
    let seen = proxies[0].commands();
    let come: BTreeSet<usize> = seen
        .iter()
        .filter_map(|command| command.strip_prefix("RESTORE "))
        .filter_map(|rest| rest.split(' ').next())
        .map(|key| slot_of(key.as_bytes()))
        .collect();
    let of_first = owned(&nodes[0]);
    let moving = (0..3000)
        .map(|n| slot_of(format!("key:{n}").as_bytes()))
        .filter(|slot| of_first.iter().any(|(a, b)| (*a..=*b).contains(slot)))
        .find(|moving| !come.contains(moving) && moving.to_string() != slot)
        .unwrap()
        .to_string();
    for node in [2, 0, 1] {
        nodes[node].cmd(&["CLUSTER", "SETSLOT", &moving, "NODE", &nodes[2].id()]);
    }
    proxies[0].resume();
    running.wait().status(0);
    for node in [other, owner] {
        nodes[node].cmd(&["CLUSTER", "SETSLOT", &slot, "NODE", &nodes[other].id()]);
    }
    assert_eq!(digest(&nodes).len(), 3000);
}

#[test]
fn full_targets_and_signals_stop_it_and_it_goes_on() {
    let source = standalone("redis-7.0");
    let nodes = cluster(&Spec::new().quick());
    fill(&source, 5000);
    let (from, node) = (source.addr(), nodes[0].addr());
    let limit = |bytes: &str| drop(nodes[1].cmd(&["CONFIG", "SET", "maxmemory", bytes]));
    limit("1");
    import(&from, &node).run().status(3).stderr_has("OOM");
    limit("0");
    // It becomes full later.
    let proxy = Proxy::to(&from);
    proxy.stall_at("DUMP", 1);
    let running = import(&proxy.addr(), &node).spawn();
    assert!(proxy.wait_stalled(PATIENCE));
    limit("1");
    proxy.resume();
    running
        .wait()
        .status(6)
        .stderr_has(&format!("{} (", nodes[1].addr()))
        .stderr_has("no memory left")
        .stderr_has("same command");
    limit("0");
    let proxy = Proxy::to(&from);
    proxy.stall_at("DUMP", 2000);
    let running = import(&proxy.addr(), &node).spawn();
    assert!(proxy.wait_stalled(PATIENCE));
    running.signal(Signal::SIGTERM);
    proxy.resume();
    running.wait().status(130).stderr_has("interrupted");
    import(&from, &node)
        .run()
        .status(0)
        .stdout_has("were there already, the same");
    assert_eq!(difference(&digest(&[source]), &digest(&nodes)), [""; 0]);
}

#[test]
fn keys_that_masters_evict_are_not_deleted_at_the_source() {
    let source = standalone("redis-7.0");
    let nodes = cluster(&Spec::new().quick());
    fill(&source, 5000);
    let (from, node) = (source.addr(), nodes[0].addr());
    let set = |name: &str, value: &str| {
        for node in nodes.iter() {
            node.cmd(&["CONFIG", "SET", name, value]);
        }
    };
    set("maxmemory-policy", "allkeys-lru");
    let moving = || import(&from, &node).args(["--move", "--dry-run"]).run();
    // Without a limit nothing is evicted.
    moving().status(0);
    set("maxmemory", "1gb");
    moving()
        .status(3)
        .stderr_has(&format!("{} (", nodes[1].addr()))
        .stderr_has("maxmemory-policy allkeys-lru")
        .stderr_has("leave out --move");
    set("maxmemory-policy", "noeviction");
    moving().status(0);
    // They are full after a third of the keys.
    let mut pipe = redis::pipe();
    for n in 0..3000 {
        let name = format!("large:{n}");
        pipe.cmd("SET").arg(name).arg("v".repeat(10_000)).ignore();
    }
    pipe.query::<()>(&mut source.connection().unwrap()).unwrap();
    set("maxmemory-policy", "allkeys-lru");
    let used = nodes[0].text(&["INFO", "memory"]);
    let used = used
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    let used: u64 = used.unwrap().trim().parse().unwrap();
    set("maxmemory", &(used + (5 << 20)).to_string());
    import(&from, &node)
        .args(["--writers", "1"])
        .run()
        .stdout_has("Masters evicted")
        .status(1)
        .stderr_has("during the transfer because it has no memory left");
}

/// The last report of a transfer.
#[track_caller]
fn report(run: &crate::support::command::Finished) -> serde_json::Value {
    let lines = run.json_lines();
    let report = lines.iter().find(|line| line["event"] == "report");
    report
        .unwrap_or_else(|| panic!("no report: {}", run.stdout))
        .clone()
}

/// Keys that have expired and are still counted by the server: `dead:0`…
fn fill_expired(server: &Server, count: usize) {
    server.cmd(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    let mut pipe = redis::pipe();
    for n in 0..count {
        pipe.cmd("SET")
            .arg(format!("dead:{n}"))
            .arg("v")
            .arg("PX")
            .arg(1)
            .ignore();
    }
    pipe.query::<()>(&mut server.connection().unwrap()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(5));
}

fn debuggable(version: &str) -> Spec {
    let spec = Spec::new().plain().version(version);
    match version {
        "redis-6.2" => spec,
        _ => spec.arg("--enable-debug-command", "yes"),
    }
}

#[test]
fn matrix_expired_keys_are_counted_as_expired() {
    for version in versions() {
        let source = debuggable(version).start();
        let nodes = cluster(&Spec::new().quick().version(version));
        fill(&source, 30);
        fill_expired(&source, 20);
        let run = import(&source.addr(), &nodes[0].addr())
            .args(["-o", "json"])
            .run()
            .status(0);
        let report = report(&run);
        assert_eq!(
            [&report["written"], &report["expired"], &report["gone"]],
            [30, 20, 0],
            "{version}: {report:#}"
        );
        // A pattern leaves keys out that have not expired.
        let run = import(&source.addr(), &nodes[0].addr())
            .args(["--pattern", "key:1*"])
            .run()
            .status(0);
        run.stdout_lacks("deleted at the source")
            .stdout_lacks("expired before");
    }
}

#[test]
fn a_replica_as_source_counts_expired_keys_and_tells_its_age() {
    let master = debuggable("redis-7.0").start();
    fill(&master, 30);
    fill_expired(&master, 20);
    let (host, port) = (master.host().to_string(), master.port().to_string());
    let source = debuggable("redis-7.0").arg("--repl-timeout", 5).start();
    source.cmd(&["REPLICAOF", &host, &port]);
    let nodes = cluster(&Spec::new().quick());
    let field = |text: &str| source.text(&["INFO", "replication"]).contains(text);
    let until = |what: &str, text: &str| {
        crate::support::wait::until(what, PATIENCE, || match field(text) {
            true => Ok(()),
            false => Err(source.text(&["INFO", "replication"])),
        });
    };
    until("the copy", "master_link_status:up");
    let run = || {
        import(&source.addr(), &nodes[0].addr())
            .args(["-o", "json"])
            .run()
    };
    let with_master = run().status(0);
    let counts = report(&with_master);
    assert_eq!(
        [&counts["written"], &counts["expired"], &counts["gone"]],
        [30, 20, 0],
        "{counts:#}"
    );
    with_master.stdout_lacks("lost its master");
    master.kill();
    until("the link to be down", "master_link_status:down");
    let counts = report(
        &run()
            .status(0)
            .stdout_has("lacks what was written in the last "),
    );
    assert_eq!(
        [&counts["same"], &counts["expired"]],
        [30, 20],
        "{counts:#}"
    );
    // It serves nothing.
    source.cmd(&["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    for option in [&["--dry-run"][..], &[]] {
        import(&source.addr(), &nodes[0].addr())
            .args(option)
            .run()
            .status(3)
            .stderr_has("without a link to its master");
    }
}

#[test]
fn the_database_of_the_cluster_is_told_in_the_matrix() {
    let dry_run = |source: &Server, nodes: &Nodes| {
        import(&source.addr(), &nodes[0].addr())
            .args(["--dry-run", "--from-db", "0"])
            .run()
            .status(0)
    };
    for version in versions() {
        let source = standalone(version);
        let nodes = cluster(&Spec::new().quick().version(version));
        let said = "Keys go to database 0 of the cluster.";
        let run = dry_run(&source, &nodes);
        match *version {
            "valkey-9.1" => run.stdout_has(said),
            _ => run.stdout_lacks(said),
        };
        let mut connection = source.connection().unwrap();
        redis::cmd("SELECT").arg(2).exec(&mut connection).unwrap();
        redis::cmd("SET")
            .arg("a")
            .arg("1")
            .exec(&mut connection)
            .unwrap();
        import(&source.addr(), &nodes[0].addr())
            .args(["--from-db", "2"])
            .run()
            .status(0)
            .stdout_has(said);
        assert_eq!(
            dataset::send(&nodes, &[b"GET", b"a"]),
            Value::BulkString(b"1".to_vec())
        );
    }
}
