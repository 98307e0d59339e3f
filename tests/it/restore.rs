//! `restore`: a backup into a cluster of another shape.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use redis::Value;
use tempfile::TempDir;

use crate::support::cluster::Nodes;
use crate::support::command::{Running, Signal, Trib};
use crate::support::dataset::{self, difference, digest};
use crate::support::proxy::{Cut, Proxy};
use crate::support::server::{Spec, versions};
use crate::support::wait::PATIENCE;

/// A backup of these nodes, in a directory that goes with the first.
#[track_caller]
fn backup(nodes: &Nodes) -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("backup");
    Trib::new()
        .args(["backup", &nodes[0].addr(), path.to_str().unwrap()])
        .run()
        .status(0);
    (home, path)
}

fn restore(path: &std::path::Path, node: &str) -> Trib {
    Trib::new().args(["restore", path.to_str().unwrap(), node, "--yes"])
}

fn cluster(masters: usize, version: &str) -> Nodes {
    let nodes = Nodes::with(masters, &Spec::new().quick().version(version));
    nodes.form(masters);
    nodes
}

const LIBRARY: &str =
    "#!lua name=greetings\nredis.register_function('greet', function() return 'hello' end)";

#[test]
fn matrix_a_backup_comes_back_as_it_was() {
    for version in versions() {
        let nodes = cluster(2, version);
        dataset::fill(&nodes);
        let has_functions = *version != "redis-6.2";
        if has_functions {
            for node in nodes.iter() {
                node.cmd(&["FUNCTION", "LOAD", LIBRARY]);
            }
        }
        let was = digest(&nodes);
        let (_home, path) = backup(&nodes);
        drop(nodes);
        // As it is, and where there is a newer one of the same house, into that.
        let newest = if version.starts_with("redis") {
            "redis-8.10"
        } else {
            "valkey-9.1"
        };
        let newest = if versions().len() > 1 {
            newest
        } else {
            version
        };
        let nodes = cluster(3, newest);
        restore(&path, &nodes[0].addr())
            .args(["--dry-run"])
            .run()
            .status(0);
        assert!(digest(&nodes).is_empty());
        let keys = was.len();
        restore(&path, &nodes[0].addr())
            .run()
            .status(0)
            .stdout_has(&format!("[OK] {keys} keys restored"));
        assert_eq!(
            difference(&was, &digest(&nodes)),
            [""; 0],
            "{version} to {newest}"
        );
        if has_functions {
            for node in nodes.iter() {
                let called = node.cmd(&["FCALL", "greet", "0"]);
                assert_eq!(called, Value::BulkString(b"hello".to_vec()), "{version}");
            }
        }
        // Once more: all is there.
        restore(&path, &nodes[0].addr())
            .run()
            .status(0)
            .stdout_has(&format!("{keys} were there already, the same"));
    }
}

#[test]
fn what_the_cluster_has_is_kept_or_replaced_as_the_user_says() {
    let nodes = cluster(2, "redis-7.0");
    for n in 0..50 {
        let key = format!("key:{n}");
        dataset::send(&nodes, &[b"SET", key.as_bytes(), b"saved"]);
    }
    let (_home, path) = backup(&nodes);
    dataset::send(&nodes, &[b"SET", b"key:7", b"newer"]);
    let node = nodes[0].addr();
    restore(&path, &node)
        .run()
        .status(6)
        .stderr_has("\"key:7\" is in the cluster with another value");
    restore(&path, &node)
        .args(["--on-conflict", "skip"])
        .run()
        .status(1)
        .stdout_has("1 key failed (differs)")
        .stdout_has("49 were there already");
    let value = || dataset::send(&nodes, &[b"GET", b"key:7"]);
    assert_eq!(value(), Value::BulkString(b"newer".to_vec()));
    restore(&path, &node)
        .args(["--on-conflict", "replace"])
        .run()
        .status(0)
        .stdout_has("50 keys restored");
    assert_eq!(value(), Value::BulkString(b"saved".to_vec()));
    Trib::new()
        .args(["restore", path.to_str().unwrap(), &node])
        .run()
        .status(5)
        .stderr_has("--yes");
}

/// What was written when the restore stops is counted.
#[test]
fn keys_are_counted_when_a_conflict_stops_the_restore() {
    let nodes = cluster(3, "redis-7.0");
    let names: Vec<String> = (0..90).map(|n| format!("{{t}}{n}")).collect();
    crate::support::keys::fill(&nodes, &names);
    let (_home, path) = backup(&nodes);
    for option in [&["--on-existing-key", "abort"][..], &["--fail-fast"]] {
        let other = cluster(3, "redis-7.0");
        dataset::send(&other, &[b"SET", b"{t}7", b"other"]);
        let ended = restore(&path, &other[0].addr())
            .args(["-o", "json"])
            .args(option.iter().copied())
            .run()
            .status(6);
        let lines = ended.json_lines();
        let report = lines.iter().find(|line| line["event"] == "report").unwrap();
        assert_eq!(report["written"], 89, "{report:#}");
        assert_eq!(digest(&other).len(), 90);
    }
}

#[test]
fn what_expired_stays_away_and_times_to_live_go_on() {
    let nodes = cluster(2, "redis-7.0");
    dataset::send(&nodes, &[b"SET", b"short", b"x", b"PX", b"15000"]);
    dataset::send(&nodes, &[b"SET", b"long", b"x", b"PX", b"3600000"]);
    let (_home, path) = backup(&nodes);
    crate::support::wait::until("the short one to go", PATIENCE, || {
        match dataset::send(&nodes, &[b"EXISTS", b"short"]) {
            Value::Int(0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let other = cluster(1, "redis-7.0");
    restore(&path, &other[0].addr())
        .run()
        .status(0)
        .stdout_has("1 key restored")
        .stdout_has("1 expired before it was written");
    let Value::Int(ttl) = other[0].cmd(&["PTTL", "long"]) else {
        panic!("no TTL");
    };
    assert!((3_400_000..3_600_000).contains(&ttl), "{ttl}");
    // Again: it is the same. With another time to live it is not.
    restore(&path, &other[0].addr()).run().status(0);
    other[0].cmd(&["PERSIST", "long"]);
    restore(&path, &other[0].addr())
        .run()
        .status(6)
        .stderr_has("\"long\" is in the cluster with another value or time to live");
}

#[test]
fn no_backup_is_no_restore() {
    let nodes = cluster(1, "redis-7.0");
    let node = nodes[0].addr();
    let (_home, path) = backup(&nodes);
    let file = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "rdb"))
        .unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    restore(&path, &node).run().status(3).stderr_has("damaged");
    fs::remove_file(path.join("manifest.json")).unwrap();
    restore(&path, &node)
        .run()
        .status(3)
        .stderr_has("no backup was finished here");
    restore(&path.join("nowhere"), &node)
        .run()
        .status(3)
        .stderr_has("there is no such directory");
    Trib::new()
        .args(["restore", path.to_str().unwrap()])
        .run()
        .status(2);
}

/// Bytes that LZF can't make smaller (xorshift).
fn noise(length: usize) -> Vec<u8> {
    let mut word = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

/// A backup with more than one block in a file.
fn large_backup() -> (Nodes, TempDir, PathBuf, PathBuf) {
    let nodes = cluster(1, "redis-7.0");
    let value = noise(100_000);
    for n in 0..200 {
        let key = format!("key:{n:03}");
        dataset::send(&nodes, &[b"SET", key.as_bytes(), &value]);
    }
    dataset::send(&nodes, &[b"HSET", b"hash", b"field", &value]);
    let (home, path) = backup(&nodes);
    let mut files = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|extension| extension == "rdb"));
    (nodes, home, path, file.unwrap())
}

/// Values of undamaged blocks are sent before the end of the file is verified, and no value of a damaged one is.
#[test]
fn no_value_of_a_damaged_block_is_sent() {
    const BLOCK: usize = 4 << 20;
    let (nodes, _home, path, file) = large_backup();
    let was = digest(&nodes);
    let whole = fs::read(&file).unwrap();
    assert!(whole.len() > 4 * BLOCK);
    let manifest = fs::read_to_string(path.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let sums = manifest["files"][0]["block_sha256"].as_array().unwrap();
    assert_eq!(sums.len(), whole.len().div_ceil(BLOCK));
    for damaged_block in [1, 3, sums.len() - 1] {
        let mut bytes = whole.clone();
        let at = damaged_block * BLOCK + 17;
        bytes[at] ^= 4;
        fs::write(&file, bytes).unwrap();
        let other = cluster(2, "redis-7.0");
        let said = format!("bytes {} to ", damaged_block * BLOCK);
        restore(&path, &other[0].addr())
            .run()
            .status(6)
            .stderr_has(&said)
            .stderr_has("are damaged")
            .stderr_has("use another copy of the backup")
            .stderr_lacks("continues")
            .stderr_lacks("To resume:");
        let is = digest(&other);
        for (key, value) in &is {
            assert_eq!(was.get(key), Some(value), "{key:?}");
        }
        // Each key has 100,000 bytes; those that are not whole before the block are not there.
        let before = damaged_block * BLOCK / 100_000;
        assert!(is.len() <= before, "{} of {before}", is.len());
    }
    // The first block, and the length of the file, are verified before anything is sent.
    let other = cluster(2, "redis-7.0");
    let mut first = whole.clone();
    first[1000] ^= 1;
    let longer = [&whole[..], b"x"].concat();
    for bytes in [&first[..], &whole[..whole.len() - 1], &longer] {
        fs::write(&file, bytes).unwrap();
        restore(&path, &other[0].addr())
            .run()
            .status(3)
            .stderr_has("the backup is damaged");
        assert!(digest(&other).is_empty());
    }
    fs::write(&file, &whole).unwrap();
    restore(&path, &other[0].addr()).run().status(0);
    assert_eq!(difference(&was, &digest(&other)), [""; 0]);
}

/// The manifests of older versions have no checksums of blocks.
#[test]
fn older_backups_are_verified_as_a_whole() {
    let (nodes, _home, path, file) = large_backup();
    let was = digest(&nodes);
    let name = path.join("manifest.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(&name).unwrap()).unwrap();
    let facts = manifest["files"][0].as_object_mut().unwrap();
    facts.remove("block_sha256").unwrap();
    facts.remove("block_bytes").unwrap();
    fs::write(&name, manifest.to_string()).unwrap();
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() - 100] ^= 1;
    fs::write(&file, damaged).unwrap();
    let other = cluster(2, "redis-7.0");
    restore(&path, &other[0].addr())
        .run()
        .status(3)
        .stderr_has("damaged");
    assert!(digest(&other).is_empty());
    fs::write(&file, &whole).unwrap();
    restore(&path, &other[0].addr()).run().status(0);
    assert_eq!(difference(&was, &digest(&other)), [""; 0]);
}

/// Strings go by SET, unless the user may not.
#[test]
fn a_user_without_set_restores_strings() {
    let nodes = cluster(1, "redis-7.0");
    // Short, so that the server does not compress them.
    crate::support::keys::Keys::fill(&nodes, 2000, |_| true);
    let was = digest(&nodes);
    let (_home, path) = backup(&nodes);
    let (target, proxies) = Nodes::behind_proxies(2, &Spec::new().quick().password("s3cret"));
    target.form(2);
    let node = proxies[0].addr();
    restore(&path, &node)
        .args(["--pass", "s3cret"])
        .run()
        .status(0);
    assert_eq!(difference(&was, &digest(&target)), [""; 0]);
    let by_set: usize = proxies.iter().map(|proxy| proxy.count("SET")).sum();
    assert_eq!(by_set, 2000);
    for node in target.iter() {
        node.cmd(&["FLUSHALL"]);
        node.cmd(&["ACL", "SETUSER", "default", "-set"]);
    }
    restore(&path, &node)
        .args(["--pass", "s3cret"])
        .run()
        .status(0);
    assert_eq!(difference(&was, &digest(&target)), [""; 0]);
    let by_restore: usize = proxies.iter().map(|proxy| proxy.count("RESTORE")).sum();
    assert!(by_restore >= 2000, "{by_restore}");
}

#[test]
fn what_an_older_server_has_no_form_for_is_named_in_the_matrix() {
    // What each has no form for, besides keys of the same names.
    let since_7_4 = ["fields:many", "fields:small", "vectors"];
    let since_8_6 = ["stream:producers"];
    let since_8_8 = ["array", "array:far", "array:inserted", "stream:released"];
    let of_8_10 = [&since_7_4[..], &since_8_6, &since_8_8].concat();
    // Fields that expire have a form of their own there, into which they are converted.
    let not_in_valkey = [&["vectors"][..], &since_8_6, &since_8_8].concat();
    for (new, old, lost) in [
        (
            "redis-8.6",
            "redis-7.0",
            [&since_7_4[..], &since_8_6].concat(),
        ),
        ("redis-8.10", "redis-8.6", since_8_8.to_vec()),
        (
            "redis-8.10",
            "redis-8.2",
            [&since_8_6[..], &since_8_8].concat(),
        ),
        ("redis-8.10", "redis-7.0", of_8_10.clone()),
        ("redis-8.10", "redis-6.2", of_8_10.clone()),
        ("redis-8.10", "valkey-9.1", not_in_valkey),
    ] {
        if versions().len() == 1 {
            continue;
        }
        let nodes = cluster(2, new);
        dataset::fill(&nodes);
        let was = digest(&nodes);
        let (_home, path) = backup(&nodes);
        let old = cluster(3, old);
        let node = old[0].addr();
        let (vectors, arrays) = (lost.contains(&"vectors"), lost.contains(&"array"));
        let plan = restore(&path, &node).args(["--dry-run"]).run().status(0);
        let plan = plan.stdout_has("1 key with types of modules");
        let plan = plan.stderr_has("does not take all encodings");
        if lost.contains(&"fields:many") {
            plan.stderr_has("of hash-field-ttl");
        } else {
            plan.stderr_has("of array");
        }
        let report = restore(&path, &node).args(["-o", "json"]).run().status(1);
        let lines = report.json_lines();
        let report = lines.iter().find(|line| line["event"] == "report").unwrap();
        let failed = report["failed"].as_array().unwrap();
        let mut named: Vec<&str> = failed
            .iter()
            .flat_map(|one| one["examples"].as_array().unwrap())
            .map(|one| one["key"].as_str().unwrap())
            .collect();
        named.sort_unstable();
        let mut expected = lost.clone();
        expected.sort_unstable();
        let count: u64 = failed
            .iter()
            .map(|one| one["count"].as_u64().unwrap())
            .sum();
        assert_eq!(count, expected.len() as u64, "{failed:?}");
        // Five keys of each reason are named.
        assert!(named.iter().all(|key| expected.contains(key)), "{named:?}");
        assert!(failed.iter().any(|one| one["reason"] == "too-new"));
        // Redis 8's vector sets are a module that is built in.
        let why = |text: &str| failed.iter().any(|one| one.to_string().contains(text));
        assert_eq!(
            vectors,
            why("the module of its type, vectorset, is not loaded")
        );
        assert_eq!(arrays, why("array, RDB version 14"));
        let is = digest(&old);
        for key in was.keys() {
            let is_lost = lost.iter().any(|name| name.as_bytes() == key);
            assert_eq!(is.contains_key(key), !is_lost, "{key:?}");
        }
        for (key, what) in &is {
            assert_eq!(was.get(key), Some(what), "{key:?}");
        }
        // Once more: what was converted is the same value.
        let count = format!("{} were there already, the same", is.len());
        restore(&path, &node).run().status(1).stdout_has(&count);
    }
}

#[test]
fn left_overs_of_moved_slots_are_passed_over() {
    let nodes = cluster(2, "redis-7.0");
    dataset::send(&nodes, &[b"SET", b"mine", b"1"]);
    // A key of the other node's slot, as an unlucky move leaves it.
    let slot = crate::support::slots::slot_of(b"mine");
    let other = usize::from(slot < 8192);
    let other = &nodes[other];
    other.cmd(&[
        "CLUSTER",
        "SETSLOT",
        &slot.to_string(),
        "IMPORTING",
        &nodes[usize::from(slot >= 8192)].id(),
    ]);
    let mut pipe = redis::pipe();
    pipe.cmd("ASKING").cmd("SET").arg("mine").arg("stale");
    pipe.query::<()>(&mut other.connection().unwrap()).unwrap();
    other.cmd(&["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"]);
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("backup");
    Trib::new()
        .args(["backup", &nodes[0].addr(), path.to_str().unwrap()])
        .run()
        .status(0)
        .stderr_has("1 key of slots that");
    let target = cluster(1, "redis-7.0");
    restore(&path, &target[0].addr())
        .run()
        .status(0)
        .stdout_has("left-over of a moved slot");
    assert_eq!(target[0].text(&["GET", "mine"]), "1");
}

#[test]
fn what_was_cut_off_goes_on() {
    let nodes = cluster(2, "redis-7.0");
    let names: Vec<String> = (0..5000).map(|n| format!("key:{n}")).collect();
    crate::support::keys::fill(&nodes, &names);
    let was = digest(&nodes);
    let (_home, path) = backup(&nodes);
    let (target, proxies) = Nodes::behind_proxies(3, &Spec::new().quick());
    target.form(3);
    let node = proxies[0].addr();
    proxies[1].stall_at("RESTORE", 600);
    let running = restore(&path, &node).spawn();
    assert!(proxies[1].wait_stalled(PATIENCE));
    running.signal(Signal::SIGINT);
    proxies[1].resume();
    running.wait().status(130).stderr_has("interrupted");
    // A connection that breaks is made again.
    proxies[2].cut(Cut::after("RESTORE").nth(100));
    restore(&path, &node)
        .run()
        .status(0)
        .stdout_has("were there already, the same");
    assert_eq!(difference(&was, &digest(&target)), [""; 0]);
}

/// A backup of some thousand lists, and a cluster behind proxies that do not pass on more than some of them to its second
/// node, which is stopped then.
fn stopped_in_a_restore(args: &[&str]) -> (Nodes, Vec<Proxy>, TempDir, PathBuf, Running) {
    let nodes = cluster(2, "redis-7.0");
    let names: Vec<String> = (0..5000).map(|n| format!("key:{n}")).collect();
    crate::support::keys::fill(&nodes, &names);
    let (home, path) = backup(&nodes);
    let (target, proxies) = Nodes::behind_proxies(3, &Spec::new().quick());
    target.form(3);
    proxies[1].stall_at("RESTORE", 600);
    let running = restore(&path, &proxies[0].addr()).args(args).spawn();
    assert!(proxies[1].wait_stalled(PATIENCE));
    target[1].stop();
    proxies[1].resume();
    (target, proxies, home, path, running)
}

/// That is not a fault of the keys: one message names the node, and nothing more is sent.
#[test]
fn a_stopped_master_ends_a_restore() {
    let (target, proxies, _home, path, running) =
        stopped_in_a_restore(&["--command-timeout", "3s"]);
    running
        .wait_within(Duration::from_secs(20))
        .status(6)
        .stderr_has(&format!(
            "{}: no answer to RESTORE within 3s",
            proxies[1].addr()
        ))
        .stderr_has("in transit may be in the cluster or not")
        .stderr_has("the same command continues")
        .stdout_lacks("failed");
    target[1].cont();
    target.wait_usable();
    restore(&path, &proxies[0].addr())
        .run()
        .status(0)
        .stdout_has("were there already, the same");
}

#[test]
fn sigterm_ends_a_restore_that_waits_for_a_stopped_master() {
    let (_target, _proxies, _home, _path, running) =
        stopped_in_a_restore(&["--command-timeout", "30s"]);
    running.signal(Signal::SIGTERM);
    running
        .wait_within(Duration::from_secs(10))
        .status(130)
        .stderr_has("in transit may be in the cluster or not");
}

/// More than a reply of 32 MiB holds: what is there is the same all the same.
#[test]
fn large_values_are_no_conflict_with_themselves() {
    let nodes = cluster(1, "redis-7.0");
    for part in noise(40 << 20).chunks(1 << 20) {
        dataset::send(&nodes[..1], &[b"APPEND", b"large", part]);
    }
    let (_home, path) = backup(&nodes);
    for said in ["1 key restored", "0 keys restored"] {
        restore(&path, &nodes[0].addr())
            .args([
                "--on-conflict",
                if said.starts_with('1') {
                    "replace"
                } else {
                    "abort"
                },
            ])
            .run()
            .status(0)
            .stdout_has(said);
    }
}

#[test]
fn databases_of_valkey_9_in_the_matrix() {
    if !versions().contains(&"valkey-9.1") {
        return;
    }
    let spec = |databases: u32| {
        Spec::new()
            .quick()
            .version("valkey-9.1")
            .arg("--cluster-databases", databases)
    };
    let nodes = Nodes::with(1, &spec(16));
    nodes.form(1);
    let set = |database: u32, key: &str| {
        let mut pipe = redis::pipe();
        pipe.cmd("SELECT")
            .arg(database)
            .cmd("SET")
            .arg(key)
            .arg(database.to_string());
        pipe.query::<()>(&mut nodes[0].connection().unwrap())
            .unwrap();
    };
    set(0, "a");
    set(5, "a");
    let (_home, path) = backup(&nodes);
    let wide = Nodes::with(2, &spec(16));
    wide.form(2);
    restore(&path, &wide[0].addr())
        .run()
        .status(0)
        .stdout_has("2 keys restored");
    let mut found = Vec::new();
    for server in wide.iter() {
        let mut pipe = redis::pipe();
        pipe.cmd("SELECT").arg(5).ignore().cmd("DBSIZE");
        found.push(
            pipe.query::<(i64,)>(&mut server.connection().unwrap())
                .unwrap()
                .0,
        );
    }
    assert_eq!(found.iter().sum::<i64>(), 1);
    // Where there is no such database, its keys are named, and none lands in another.
    let narrow = cluster(1, "redis-7.0");
    restore(&path, &narrow[0].addr())
        .run()
        .status(1)
        .stderr_has("1 key in databases other than 0")
        .stdout_has("1 key failed (refused)");
    assert_eq!(narrow[0].text(&["GET", "a"]), "0");
}
