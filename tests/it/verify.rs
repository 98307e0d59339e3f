//! `verify`: a cluster against the source that its keys came from.

use serde_json::Value as Json;

use crate::support::cluster::{Nodes, three};
use crate::support::command::{Finished, Trib};
use crate::support::dataset;
use crate::support::proxy::Proxy;
use crate::support::scripted::{Reply, Script};
use crate::support::server::{Server, Spec, versions};
use crate::support::wait::{PATIENCE, until};

fn standalone(version: &str) -> Server {
    Spec::new().plain().version(version).start()
}

fn import(from: &str, node: &str) -> Finished {
    let args = ["import", "--from", from, node, "--yes"];
    Trib::new().args(args).run().status(0)
}

fn verify(from: &str, node: &str) -> Trib {
    Trib::new().args(["verify", "--from", from, node])
}

/// Bytes that servers can't compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The counts of same, missing, different and extra keys.
#[track_caller]
fn counts(document: &Json) -> [Option<u64>; 4] {
    ["same", "missing", "different", "extra"].map(|name| document[name].as_u64())
}

/// The keys of one kind, and what is said of them.
fn found<'a>(document: &'a Json, kind: &str) -> Vec<(&'a str, &'a str)> {
    let found = document["found"].as_array().unwrap().iter();
    found
        .filter(|one| one["kind"] == kind)
        .map(|one| (one["key"].as_str().unwrap(), one["what"].as_str().unwrap()))
        .collect()
}

#[test]
fn matrix_every_type_is_compared() {
    for version in versions() {
        let source = standalone(version);
        let nodes = three(&Spec::new().quick().version(version));
        dataset::fill(std::slice::from_ref(&source));
        let keys = dataset::digest(std::slice::from_ref(&source)).len() as u64;
        import(&source.addr(), &nodes[0].addr());
        let run = verify(&source.addr(), &nodes[0].addr())
            .args(["--both-ways", "-o", "json"])
            .run()
            .status(0);
        assert_eq!(
            counts(&run.json()),
            [Some(keys), Some(0), Some(0), Some(0)],
            "{version}"
        );
    }
}

#[test]
fn versions_that_encode_values_in_other_ways_agree_in_the_matrix() {
    for (old, new) in [("redis-7.0", "redis-8.10"), ("redis-6.2", "valkey-9.1")] {
        if !(versions().contains(&old) && versions().contains(&new)) {
            continue;
        }
        let source = standalone(old);
        let nodes = three(&Spec::new().quick().version(new));
        dataset::fill(std::slice::from_ref(&source));
        import(&source.addr(), &nodes[0].addr());
        verify(&source.addr(), &nodes[0].addr())
            .arg("--both-ways")
            .run()
            .status(0)
            .stdout_has("the same");
    }
}

#[test]
fn large_values_of_modules_agree_across_versions_in_the_matrix() {
    let (old, new) = ("redis-8.2", "redis-8.10");
    if !(versions().contains(&old) && versions().contains(&new)) {
        return;
    }
    let source = standalone(old);
    let nodes = three(&Spec::new().quick().version(new));
    // One vector of 30,000 dimensions, and text beside it.
    let vector = 1.5_f32.to_le_bytes().repeat(30_000);
    let text = format!("\"{}\"", "x".repeat(2 << 20));
    let mut command = redis::cmd("VADD");
    command.arg("vectors").arg("FP32").arg(&vector).arg("elem");
    command.arg("NOQUANT").arg("SETATTR").arg(text);
    let mut connection = source.connection().unwrap();
    command.query::<()>(&mut connection).unwrap();
    let (from, node) = (source.addr(), nodes[0].addr());
    import(&from, &node);
    let dumps: Vec<Vec<u8>> = [&source, &nodes[0], &nodes[1], &nodes[2]]
        .iter()
        .filter_map(|server| {
            let mut connection = server.connection().unwrap();
            let dump = redis::cmd("DUMP").arg("vectors").query(&mut connection);
            dump.ok()
        })
        .collect();
    assert_eq!(dumps.len(), 2);
    assert_ne!(dumps[0], dumps[1]);
    verify(&from, &node).run().status(0);
}

#[test]
fn each_difference_is_named() {
    let source = standalone("redis-7.0");
    let nodes = three(&Spec::new().quick());
    let fill = |words: &[&str]| drop(source.cmd(words));
    for n in 0..300 {
        fill(&["SET", &format!("key:{n}"), "value"]);
        fill(&["HSET", "hash", &format!("field:{n}"), "value"]);
        fill(&["RPUSH", "list", &format!("item {n}")]);
        fill(&["ZADD", "scores", &n.to_string(), &format!("member:{n}")]);
    }
    fill(&["SET", "kept", "value", "EX", "5000"]);
    let (from, node) = (source.addr(), nodes[0].addr());
    import(&from, &node);
    let change = |words: &[&str]| {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        dataset::send(&nodes, &words);
    };
    verify(&from, &node)
        .run()
        .status(0)
        .stdout_has("ok: 304 keys the same");
    change(&["SET", "key:1", "other"]);
    change(&["DEL", "key:2"]);
    change(&["DEL", "key:3"]);
    change(&["LPUSH", "key:3", "a list"]);
    change(&["HSET", "hash", "field:7", "other"]);
    change(&["LSET", "list", "299", "other"]);
    change(&["ZADD", "scores", "5000", "member:9"]);
    change(&["EXPIRE", "key:4", "100"]);
    change(&["EXPIRE", "kept", "4000"]);
    change(&["SET", "only", "here"]);
    let document = verify(&from, &node)
        .args(["-o", "json"])
        .run()
        .status(1)
        .json();
    assert_eq!(
        counts(&document),
        [Some(296), Some(1), Some(7), None],
        "{document:#}"
    );
    assert_eq!(found(&document, "missing"), [("key:2", "")]);
    let different = found(&document, "different");
    let said = [
        ("hash", "they differ in their fields"),
        ("kept", "at the source, in 1h 6m"),
        ("key:1", "they differ in their bytes"),
        ("key:3", "a string at the source, a list in the cluster"),
        ("key:4", "never at the source, in 1m 3"),
        ("list", "they differ in their elements"),
        ("scores", "they differ in their scores"),
    ];
    for ((key, what), (expected, part)) in different.iter().zip(said) {
        assert_eq!(*key, expected);
        let part = if part.contains("1m 3") {
            "never at the source, in 1m"
        } else {
            part
        };
        assert!(what.contains(part), "{key}: {what}");
    }
    let both = verify(&from, &node)
        .args(["--both-ways", "-o", "json"])
        .run()
        .status(1)
        .json();
    assert_eq!(both["extra"], 1);
    assert_eq!(found(&both, "extra"), [("only", "")]);
    verify(&from, &node)
        .args(["--both-ways", "--ttl-tolerance", "2h"])
        .run()
        .status(1)
        .stdout_has("warning: 1 key missing in the cluster:")
        .stdout_has("\"key:2\"")
        .stdout_has("warning: 1 key only in the cluster:")
        .stdout_lacks("\"kept\"")
        .stdout_has("\"key:4\"");
    // Only a part of the keys.
    verify(&from, &node)
        .args(["--pattern", "key:1*"])
        .run()
        .status(1)
        .stdout_has("110 keys the same, 1 different;");
    verify(&from, &node)
        .args(["--pattern", "key:29?", "--both-ways"])
        .run()
        .status(0);
}

#[test]
fn all_of_a_stream_is_compared_in_the_matrix() {
    for version in versions() {
        let source = [standalone(version)];
        let nodes = three(&Spec::new().quick().version(version));
        // The large one is compared in pieces.
        for (key, entries) in [("small", 10), ("large", 2_000)] {
            let mut pipe = redis::pipe();
            for n in 1..=entries {
                let id = format!("{n}-1");
                pipe.cmd("XADD")
                    .arg(key)
                    .arg(id)
                    .arg("field")
                    .arg("value".repeat(160));
            }
            for line in [
                format!("XGROUP CREATE {key} group 0"),
                format!("XREADGROUP GROUP group ann COUNT 5 STREAMS {key} >"),
                format!("XACK {key} group 1-1"),
            ] {
                pipe.add_command(crate::support::values::command(&line));
            }
            let mut connection = source[0].connection().unwrap();
            pipe.ignore().query::<()>(&mut connection).unwrap();
        }
        let (from, node) = (source[0].addr(), nodes[0].addr());
        import(&from, &node).status(0);
        verify(&from, &node).run().status(0);
        let mut changes = vec!["XGROUP SETID {} group 7-1", "XCLAIM {} group bob 0 3-1"];
        if *version != "redis-6.2" {
            changes.extend([
                "XSETID {} LAST ENTRIESADDED 60000 MAXDELETEDID 9-1",
                "XSETID {} LAST ENTRIESADDED LENGTH MAXDELETEDID 9-1",
                "XGROUP SETID {} group 5-1 ENTRIESREAD 4",
            ]);
        }
        for (key, length) in [("small", "10"), ("large", "2000")] {
            let last = format!("{length}-1");
            for change in &changes {
                let words = change.replace("{}", key).replace("LAST", &last);
                let words = words.replace("LENGTH", length);
                let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
                dataset::send(&nodes, &words);
                verify(&from, &node)
                    .run()
                    .status(1)
                    .stdout_has(&format!("\"{key}\": they differ in "));
                let replaced = ["import", "--from", &from, &node, "--yes", "--replace"];
                Trib::new().args(replaced).run().status(0);
            }
        }
        verify(&from, &node).run().status(0);
    }
}

#[test]
fn more_keys_than_are_named_and_large_values() {
    let source = standalone("redis-7.0");
    let nodes = three(&Spec::new().quick());
    let mut pipe = redis::pipe();
    for n in 0..5000 {
        pipe.cmd("SET").arg(format!("key:{n}")).arg(n).ignore();
        pipe.cmd("SADD")
            .arg("large:set")
            .arg(format!("{n:0300}"))
            .ignore();
    }
    let large = vec![7_u8; 40 << 20];
    pipe.cmd("SET").arg("large:string").arg(&large).ignore();
    pipe.query::<()>(&mut source.connection().unwrap()).unwrap();
    let (from, node) = (source.addr(), nodes[0].addr());
    // Nothing has arrived yet.
    let document = verify(&from, &node)
        .args(["-o", "json"])
        .run()
        .status(1)
        .json();
    assert_eq!(counts(&document), [Some(0), Some(5002), Some(0), None]);
    assert_eq!(document["found"].as_array().unwrap().len(), 100);
    import(&from, &node);
    verify(&from, &node).arg("--both-ways").run().status(0);
    dataset::send(&nodes, &[b"SETRANGE", b"large:string", b"41000000", b"8"]);
    let last = format!("{:0300}", 4999);
    dataset::send(&nodes, &[b"SREM", b"large:set", last.as_bytes()]);
    let document = verify(&from, &node)
        .args(["-o", "json"])
        .run()
        .status(1)
        .json();
    assert_eq!(
        found(&document, "different"),
        [
            (
                "large:set",
                "5000 members at the source, 4999 at the target"
            ),
            ("large:string", "they differ in their bytes")
        ]
    );
}

#[test]
fn a_key_that_changes_meanwhile_is_compared_again() {
    let source = standalone("redis-7.0");
    let nodes = three(&Spec::new().quick());
    source.cmd(&["SET", "key", "new"]);
    dataset::send(&nodes, &[b"SET", b"key", b"old"]);
    let proxy = Proxy::to(&source.addr());
    proxy.stall_at("DUMP", 2);
    let running = verify(&proxy.addr(), &nodes[0].addr())
        .args(["-o", "json"])
        .spawn();
    assert!(proxy.wait_stalled(PATIENCE));
    dataset::send(&nodes, &[b"SET", b"key", b"new"]);
    proxy.resume();
    let document = running.wait().status(0).json();
    assert_eq!(document["same"], 1);
    assert_eq!(document["settled"], 1);
    // It is deleted at the source meanwhile.
    dataset::send(&nodes, &[b"SET", b"key", b"old"]);
    let proxy = Proxy::to(&source.addr());
    proxy.stall_at("DUMP", 2);
    let running = verify(&proxy.addr(), &nodes[0].addr())
        .args(["-o", "json"])
        .spawn();
    assert!(proxy.wait_stalled(PATIENCE));
    source.cmd(&["DEL", "key"]);
    proxy.resume();
    let document = running.wait().status(0).json();
    assert_eq!(counts(&document), [Some(0), Some(0), Some(0), None]);
    assert_eq!(document["gone"], 1);
}

#[test]
fn a_cluster_as_source_while_slots_move() {
    let spec = Spec::new().quick();
    let (source, target) = (three(&spec), three(&spec));
    let fill = |nodes: &Nodes| {
        for n in 0..2000 {
            let (key, value) = (format!("key:{n}"), format!("{n}"));
            dataset::send(nodes, &[b"SET", key.as_bytes(), value.as_bytes()]);
        }
    };
    fill(&source);
    fill(&target);
    let (from, node) = (source[0].addr(), target[1].addr());
    let reshard = |nodes: &Nodes| {
        Trib::new()
            .args(["reshard", &nodes[0].addr(), "--slots", "1000", "--from"])
            .args([nodes[0].id(), "--to".to_string(), nodes[2].id()])
            .args(["--yes", "--rate", "400"])
            .spawn()
    };
    let moving = [reshard(&source), reshard(&target)];
    for running in moving {
        let run = verify(&from, &node)
            .args(["--both-ways", "-o", "json"])
            .run();
        let [same, missing, different, extra] = counts(&run.status(0).json());
        // Keys of slots that move are read again.
        assert!(same >= Some(2000), "{same:?}");
        assert_eq!([missing, different, extra], [Some(0); 3]);
        running.wait().status(0);
    }
    dataset::send(&target, &[b"DEL", b"key:5"]);
    verify(&from, &node).run().status(1).stdout_has("\"key:5\"");
}

#[test]
fn keys_that_expire_meanwhile_are_no_difference() {
    let source = standalone("redis-7.0");
    let nodes = three(&Spec::new().quick());
    let mut pipe = redis::pipe();
    for n in 0..20_000 {
        let milliseconds = 300 + n / 10;
        let key = format!("key:{n}");
        pipe.cmd("SET")
            .arg(key)
            .arg("v")
            .arg("PX")
            .arg(milliseconds)
            .ignore();
    }
    pipe.cmd("SET").arg("stays").arg("v").ignore();
    pipe.query::<()>(&mut source.connection().unwrap()).unwrap();
    let (from, node) = (source.addr(), nodes[0].addr());
    Trib::new()
        .args(["import", "--from", &from, &node, "--yes", "--verify"])
        .run()
        .status(0)
        .stdout_lacks("missing")
        .stdout_lacks("different");
    verify(&from, &node).arg("--both-ways").run().status(0);
}

#[test]
fn a_key_that_expires_a_moment_earlier_on_one_side_is_no_difference() {
    let source = [standalone("redis-7.0")];
    let nodes = three(&Spec::new().quick());
    let large = vec![b'x'; 2 << 20];
    for (servers, side) in [(&source[..], "source"), (&nodes[..], "cluster")] {
        for (key, value) in [("small", &b"v"[..]), ("large", &large[..])] {
            let key = format!("{key}:{side}");
            dataset::send(servers, &[b"SET", key.as_bytes(), value, b"EX", b"60"]);
        }
        let key = format!("later:{side}");
        dataset::send(servers, &[b"SET", key.as_bytes(), b"v", b"EX", b"5000"]);
    }
    let run = |tolerance: &str| {
        verify(&source[0].addr(), &nodes[0].addr())
            .args(["--both-ways", "--ttl-tolerance", tolerance])
            .args(["-o", "json"])
            .run()
            .status(1)
            .json()
    };
    let document = run("1m");
    assert_eq!(
        counts(&document),
        [Some(0), Some(1), Some(0), Some(1)],
        "{document:#}"
    );
    assert_eq!(document["gone"], 4);
    assert_eq!(found(&document, "missing")[0].0, "later:source");
    assert_eq!(found(&document, "extra")[0].0, "later:cluster");
    let document = run("1s");
    assert_eq!(
        counts(&document),
        [Some(0), Some(3), Some(0), Some(3)],
        "{document:#}"
    );
    // The same for the keys of files.
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("backup").to_str().unwrap().to_string();
    let node = nodes[0].addr();
    let backup = ["backup", &node, &directory];
    Trib::new().args(backup).run().status(0);
    dataset::send(&nodes, &[b"DEL", b"small:cluster"]);
    for (tolerance, status) in [("1m", 0), ("1s", 1)] {
        verify(&directory, &node)
            .args(["--ttl-tolerance", tolerance])
            .run()
            .status(status);
    }
}

#[test]
fn a_replica_as_source() {
    let master = standalone("redis-7.0");
    let source = standalone("redis-7.0");
    let nodes = three(&Spec::new().quick());
    dataset::fill(std::slice::from_ref(&master));
    source.cmd(&["REPLICAOF", master.host(), &master.port().to_string()]);
    until("the copy", PATIENCE, || {
        match source.text(&["DBSIZE"]) == master.text(&["DBSIZE"]) {
            true => Ok(()),
            false => Err(source.text(&["INFO", "replication"])),
        }
    });
    import(&source.addr(), &nodes[0].addr());
    for from in [source.addr(), master.addr()] {
        verify(&from, &nodes[0].addr())
            .arg("--both-ways")
            .run()
            .status(0);
    }
}

#[test]
fn matrix_a_backup_is_compared() {
    for version in versions() {
        let spec = Spec::new().quick().version(version);
        let nodes = three(&spec);
        dataset::fill(&nodes);
        let keys = dataset::digest(&nodes).len() as u64;
        dataset::send(&nodes, &[b"SET", b"short", b"lived", b"PX", b"1500"]);
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("backup").to_str().unwrap().to_string();
        Trib::new()
            .args(["backup", &nodes[0].addr(), &directory])
            .run()
            .status(0);
        let other = three(&spec);
        Trib::new()
            .args(["restore", &directory, &other[0].addr(), "--yes"])
            .run()
            .status(0);
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let json = |nodes: &Nodes, code: i32| {
            let run = verify(&directory, &nodes[1].addr())
                .args(["-o", "json"])
                .run();
            run.status(code).json()
        };
        for cluster in [&nodes, &other] {
            let document = json(cluster, 0);
            assert_eq!(
                counts(&document),
                [Some(keys), Some(0), Some(0), None],
                "{version}"
            );
            // Before Redis 7 a backup takes longer than the key lives.
            assert!(document["gone"].as_u64() <= Some(1), "{version}");
        }
        dataset::send(&other, &[b"DEL", b"string"]);
        dataset::send(&other, &[b"LPUSH", b"list:small", b"more"]);
        dataset::send(&other, &[b"EXPIRE", b"string:int", b"100"]);
        let document = json(&other, 1);
        assert_eq!(
            counts(&document),
            [Some(keys - 3), Some(1), Some(2), None],
            "{version}"
        );
        assert_eq!(found(&document, "missing"), [("string", "")]);
        let [list, int] = found(&document, "different")[..] else {
            panic!("{document:#}");
        };
        assert_eq!(list, ("list:small", "the values differ"));
        assert!(int.1.contains("never at the source, in 1m"), "{int:?}");
    }
}

#[test]
fn a_user_with_the_least_rights_compares() {
    let rules = "~* +info +dump +pttl +exists +scan";
    let of_cluster = format!("{rules} +cluster|nodes +cluster|info");
    let source = Spec::new().plain().user("sue", "sour-ce", rules).start();
    let nodes = three(&Spec::new().quick().user("ann", "clus-ter", &of_cluster));
    for n in 0..20 {
        source.cmd(&["SET", &format!("key:{n}"), "value"]);
    }
    let (from, node) = (source.addr(), nodes[0].addr());
    import(&from, &node);
    let run = || {
        verify(&from, &node)
            .args(["--user", "ann", "--pass", "clus-ter"])
            .args([
                "--from-user",
                "sue",
                "--from-pass",
                "sour-ce",
                "--both-ways",
            ])
            .run()
            .stdout_lacks("sour-ce")
            .stderr_lacks("sour-ce")
    };
    run().status(0).stdout_has("20 keys the same");
    dataset::send(&nodes, &[b"SET", b"key:1", b"other"]);
    run().status(1).stdout_has("\"key:1\": the values differ");
    // Above the limit of replies.
    let large = noise(40 << 20);
    for servers in [std::slice::from_ref(&source), &nodes[..]] {
        dataset::send(servers, &[b"SET", b"large", &large]);
    }
    dataset::send(&nodes, &[b"SET", b"key:1", b"value"]);
    run().status(0).stdout_has("21 keys the same");
    dataset::send(&nodes, &[b"SETRANGE", b"large", b"41000000", b"y"]);
    run().status(1).stdout_has("\"large\": the values differ");
}

#[test]
fn members_above_the_limit_of_replies_are_compared() {
    let source = standalone("redis-7.0");
    let nodes = three(&Spec::new().quick());
    let mut pipe = redis::pipe();
    let large = noise(33 << 20);
    pipe.cmd("RPUSH").arg("list").arg("small").arg(&large);
    pipe.cmd("HSET").arg("hash").arg("field").arg(&large);
    pipe.cmd("XADD")
        .arg("stream")
        .arg("1-1")
        .arg("f")
        .arg(&large);
    // MEMORY USAGE looks at five fields only: all of the hash is one piece.
    for n in 0..500 {
        pipe.cmd("HSET").arg("skewed").arg(n).arg("small");
    }
    for n in 0..4 {
        let medium = vec![b'x'; 9 << 20];
        pipe.cmd("HSET").arg("skewed").arg(format!("large:{n}"));
        pipe.arg(medium);
    }
    let mut connection = source.connection().unwrap();
    pipe.ignore().query::<()>(&mut connection).unwrap();
    let (from, node) = (source.addr(), nodes[0].addr());
    import(&from, &node);
    verify(&from, &node).run().status(0);
    dataset::send(&nodes, &[b"RPUSH", b"list", b"more"]);
    dataset::send(&nodes, &[b"HSET", b"skewed", b"large:3", b"other"]);
    let document = verify(&from, &node)
        .args(["-o", "json"])
        .run()
        .status(1)
        .json();
    let [list, skewed] = found(&document, "different")[..] else {
        panic!("{document:#}");
    };
    assert_eq!(list, ("list", "2 members at the source, 3 at the target"));
    // In pieces if one of the five fields was a large one.
    let either = ["the values differ", "they differ in their fields"];
    assert!(
        skewed.0 == "skewed" && either.contains(&skewed.1),
        "{skewed:?}"
    );
}

#[test]
fn values_of_modules_that_differ_are_not_compared_in_the_matrix() {
    let know_vectors = |version: &&&str| version.starts_with("redis-8");
    for version in versions().iter().filter(know_vectors) {
        let source = standalone(version);
        let nodes = three(&Spec::new().quick().version(version));
        for (servers, number) in [(std::slice::from_ref(&source), "1"), (&nodes[..], "-1")] {
            let words = ["VADD", "vectors", "VALUES", "1", number, "elem"];
            dataset::send(servers, &words.map(str::as_bytes));
        }
        let document = verify(&source.addr(), &nodes[0].addr())
            .args(["-o", "json"])
            .run()
            .status(1)
            .json();
        assert_eq!(document["uncompared"], 1, "{version}: {document:#}");
        assert_eq!(found(&document, "uncompared")[0].0, "vectors");
    }
}

#[test]
fn directories_that_are_no_backup_are_refused() {
    let nodes = three(&Spec::new().quick());
    let folder = tempfile::tempdir().unwrap();
    let (directory, node) = (folder.path().to_str().unwrap(), nodes[0].addr());
    verify(directory, &node)
        .run()
        .status(3)
        .stderr_has("there is no RDB file");
    verify("/no/such/backup", &node).run().status(3);
    verify(directory, &node)
        .args(["--both-ways"])
        .run()
        .status(2);
    let two = ["verify", "--from", "10.0.0.9", "--from", directory, &node];
    Trib::new()
        .args(two)
        .run()
        .status(2)
        .stderr_has("only files can be named together");
}

#[test]
fn a_backup_whose_files_can_not_be_read_is_refused() {
    let nodes = three(&Spec::new().quick());
    dataset::fill(&nodes);
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("backup");
    let (path, node) = (directory.to_str().unwrap(), nodes[0].addr());
    let backup = Trib::new().args(["backup", &node, path]).run();
    backup.status(0);
    let files = std::fs::read_dir(&directory).unwrap();
    let mut files = files.map(|file| file.unwrap().path());
    let file = files.find(|file| file.extension().is_some_and(|end| end == "rdb"));
    let file = file.unwrap();
    std::fs::write(&file, b"nothing").unwrap();
    verify(path, &node).run().status(3).stderr_has(".rdb: ");
    std::fs::remove_file(&file).unwrap();
    verify(path, &node)
        .run()
        .status(3)
        .stderr_has("No such file");
}

#[test]
fn import_verifies() {
    let source = standalone("redis-7.0");
    let nodes = three(&Spec::new().quick());
    for n in 0..100 {
        source.cmd(&["SET", &format!("key:{n}"), "value"]);
    }
    let (from, node) = (source.addr(), nodes[0].addr());
    let run = |args: &[&str]| {
        let import = ["import", "--from", &from, &node, "--yes", "--verify"];
        Trib::new().args(import).args(args).run()
    };
    run(&[])
        .status(0)
        .stdout_has("[OK] 100 keys copied")
        .stdout_has("[OK] 100 keys the same");
    dataset::send(&nodes, &[b"SET", b"key:5", b"other"]);
    let lines = run(&["-o", "json"]).status(1).json_lines();
    let of = |event: &str| lines.iter().find(|line| line["event"] == event).unwrap();
    assert_eq!(of("report")["failed"][0]["reason"], "differs");
    assert_eq!(counts(of("compared")), [Some(99), Some(0), Some(1), None]);
    assert_eq!(of("done")["exit_code"], 1);
    run(&["--move"]).status(2);
}

#[test]
fn what_can_not_be_compared_is_refused() {
    let nodes = three(&Spec::new().quick());
    let node = nodes[0].addr();
    verify(&nodes[1].addr(), &node)
        .run()
        .status(3)
        .stderr_has("a node of the cluster itself");
    verify("127.0.0.1:1", &node)
        .run()
        .status(4)
        .stderr_has("--from");
    let source = standalone("redis-7.0");
    verify(&source.addr(), &source.addr()).run().status(3);
    verify(&source.addr(), &node)
        .args(["--from-db", "99"])
        .run()
        .status(3)
        .stderr_has("no database 99");
    let sentinel = Script::new()
        .on(
            "INFO",
            Reply::bulk("redis_version:7.0.15\r\nredis_mode:sentinel\r\n"),
        )
        .start();
    verify(&sentinel.addr(), &node)
        .run()
        .status(3)
        .stderr_has("is a Sentinel");
    let old = Script::new()
        .on(
            "INFO",
            Reply::bulk("redis_version:2.6.17\r\nredis_mode:standalone\r\n"),
        )
        .on("SCAN", Reply::error("ERR unknown command 'SCAN'"))
        .start();
    for command in ["verify", "import"] {
        Trib::new()
            .args([command, "--from", &old.addr(), &node])
            .run()
            .status(3)
            .stderr_has("does not know SCAN");
    }
    Trib::new().args(["verify", &node]).run().status(2);
}

#[test]
fn functions_that_the_source_does_not_list_are_told() {
    let spec = Spec::new().plain();
    let source = spec.user("reader", "r", "~* +@all -function").start();
    let nodes = three(&Spec::new().quick());
    let code = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";
    for server in std::iter::once(&source).chain(nodes.iter()) {
        server.cmd(&["FUNCTION", "LOAD", code]);
    }
    let run = verify(&source.addr(), &nodes[0].addr())
        .args(["--both-ways", "--from-user", "reader", "--from-pass", "r"])
        .run()
        .status(0);
    run.stdout_has(&format!(
        "Functions are not compared with those of {}: FUNCTION LIST is denied there.",
        source.addr()
    ))
    .stdout_lacks("Functions differ");
}

#[test]
fn patterns_may_begin_with_a_hyphen() {
    let source = standalone("redis-7.0");
    for key in ["-a", "-b", "--yes", "a"] {
        source.cmd(&["SET", key, "value"]);
    }
    let nodes = three(&Spec::new().quick());
    let run = |pattern: &str| {
        let (from, node) = (source.addr(), nodes[0].addr());
        let args = ["import", "--from", &from, &node, "--pattern", pattern];
        Trib::new().args(args).arg("--yes").run()
    };
    run("--dry-run").status(2).stderr_has("'\\--dry-run'");
    run("-[ab]").status(0).stdout_has("2 keys copied");
    run("\\--yes").status(0).stdout_has("1 key copied");
    let (from, node) = (source.addr(), nodes[0].addr());
    verify(&from, &node)
        .args(["--pattern", "-*"])
        .run()
        .status(0);
}
