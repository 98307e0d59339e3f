//! `backup` and `backup --verify`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::Value as Reply;
use redis_trib::rdb::{
    Encoding, Keep, Payload, Reader, Record, Sameness, Value, payload_of_text, same_value,
};
use tempfile::TempDir;

use crate::support::cluster::Nodes;
use crate::support::command::{Signal, Trib};
use crate::support::dataset;
use crate::support::keys::fill;
use crate::support::proxy::Cut;
use crate::support::server::{Spec, versions};
use crate::support::slots::names;
use crate::support::tls::Material;
use crate::support::wait::{PATIENCE, until};

/// A directory that is not there yet, in one that goes with the test.
fn place() -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("backup");
    (home, path)
}

fn backup(node: &str, path: &Path) -> Trib {
    Trib::new().args(["backup", node, path.to_str().unwrap()])
}

fn verify(path: &Path) -> Trib {
    Trib::new().args(["backup", "--verify", path.to_str().unwrap()])
}

fn rdb_files(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rdb"))
        .collect();
    files.sort();
    files
}

/// Nothing is there that could be taken for a backup, or for a file of one.
#[track_caller]
fn no_half_file(path: &Path) {
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(name.ends_with(".rdb"), "{name} is left");
        }
    }
}

/// Three masters, an even share of the slots each, and some keys.
fn cluster(spec: &Spec) -> Nodes {
    let nodes = Nodes::with(3, spec);
    nodes.form(3);
    nodes
}

#[test]
fn matrix_files_hold_what_dump_answers() {
    for version in versions() {
        let nodes = Nodes::with(2, &Spec::new().quick().version(version));
        nodes.form(2);
        dataset::fill(&nodes);
        let (_home, path) = place();
        backup(&nodes[0].addr(), &path)
            .run()
            .status(0)
            .stdout_has("[OK] ");
        let mut values: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for file in rdb_files(&path) {
            let file = fs::File::open(file).unwrap();
            let mut reader = Reader::new(file, Keep::UpTo(1 << 30)).unwrap();
            loop {
                match reader.record().unwrap() {
                    Record::Entry(entry) => {
                        let payload = match entry.value {
                            Value::Payload(payload) => payload,
                            Value::Text(text) => payload_of_text(&text),
                            other => panic!("{other:?}"),
                        };
                        values.insert(entry.key, payload);
                    }
                    Record::End(_) => break,
                    _ => {}
                }
            }
        }
        let there = dataset::digest(&nodes);
        assert_eq!(values.len(), there.len(), "{version}");
        for (key, payload) in values {
            let Reply::BulkString(dump) = dataset::send(&nodes, &[b"DUMP", &key]) else {
                panic!("{version}: no DUMP of {key:?}");
            };
            let (ours, theirs) = (
                Payload::read(&payload).unwrap(),
                Payload::read(&dump).unwrap(),
            );
            // A file has the fields of a template one by one, DUMP has them in a listpack.
            let is_template = key.starts_with(b"template:");
            assert_eq!(
                is_template,
                matches!(
                    ours.encoding(),
                    Some(Encoding::TemplateListpack | Encoding::TemplateArray)
                )
            );
            if is_template {
                assert_eq!(ours.encoding(), theirs.encoding());
                assert_eq!(same_value(&payload, &dump), Sameness::Same);
            } else {
                assert_eq!(
                    ours.value,
                    theirs.value,
                    "{version}: {:?}",
                    String::from_utf8_lossy(&key)
                );
            }
            assert!(ours.version <= theirs.version, "{version}");
        }
        verify(&path)
            .run()
            .status(0)
            .stdout_has("as they were written");
    }
}

#[test]
fn replicas_give_the_data_where_they_are_in_sync() {
    let nodes = Nodes::quick(4);
    nodes.form(2);
    fill(&nodes[..2], &names([1, 9000], 50));
    let (_home, path) = place();
    let planned = backup(&nodes[0].addr(), &path)
        .args(["--dry-run", "-o", "json"])
        .run()
        .status(0);
    let lines = planned.json_lines();
    let plans: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "planned-file")
        .collect();
    assert_eq!(plans.len(), 2);
    assert!(
        plans.iter().all(|plan| plan["source"]["role"] == "replica"),
        "{plans:?}"
    );
    assert!(!path.exists(), "a dry run makes no directory");
    // Right after it was written, whatever the replicas have by then.
    backup(&nodes[0].addr(), &path)
        .run()
        .status(0)
        .stdout_has("100 keys of 2 masters");
    let manifest = fs::read_to_string(path.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["keys"], 100);
    assert_eq!(manifest["files"][0]["master"], nodes[0].id());
    assert_eq!(manifest["files"][0]["source"], nodes[2].id());
    assert_eq!(manifest["files"][0]["server"], "redis 7.0.15");
    assert_eq!(
        manifest["files"][0]["slots"],
        serde_json::json!([[0, 8191]])
    );
    assert_eq!(manifest["files"][0]["sha256"].as_str().unwrap().len(), 64);

    let (_home, path) = place();
    let masters = backup(&nodes[0].addr(), &path)
        .args(["--from-masters", "-o", "json"])
        .run()
        .status(0);
    let lines = masters.json_lines();
    assert!(lines.iter().any(|line| line["source"]["role"] == "master"));
    assert!(!lines.iter().any(|line| line["source"]["role"] == "replica"));
    assert_eq!(lines.last().unwrap()["event"], "done");

    // A hung replica is not used as a source, and does not delay the backup.
    nodes[2].stop();
    let (_home, path) = place();
    backup(&nodes[0].addr(), &path)
        .args(["--command-timeout", "5s"])
        .run()
        .status(0)
        .stdout_has(&format!("from master {}", nodes[0].addr()));
    nodes[2].cont();
}

#[test]
fn what_would_be_missing_is_refused() {
    let nodes = cluster(&Spec::new().quick());
    let node = nodes[0].addr();
    let (home, path) = place();
    backup(&node, home.path().join("no/such").as_path())
        .run()
        .status(3)
        .stderr_has("can't be created");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("notes"), "mine").unwrap();
    backup(&node, &path)
        .run()
        .status(3)
        .stderr_has("is not empty")
        .stdout_empty();
    fs::remove_file(path.join("notes")).unwrap();
    Trib::new()
        .args(["backup", &node])
        .run()
        .status(2)
        .stderr_has("NODE DIR");
    backup("127.0.0.1:1", &path).run().status(4);

    nodes[1].cmd(&["CLUSTER", "SETSLOT", "0", "IMPORTING", &nodes[0].id()]);
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "0", "MIGRATING", &nodes[1].id()]);
    backup(&node, &path)
        .run()
        .status(3)
        .stderr_has("slots 0 are open");
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "0", "STABLE"]);
    nodes[1].cmd(&["CLUSTER", "SETSLOT", "0", "STABLE"]);

    nodes[2].kill();
    backup(&node, &path)
        .run()
        .status(3)
        .stderr_has(&format!("{} (", nodes[2].addr()))
        .stderr_has("10922-16383");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
}

#[test]
fn broken_streams_leave_no_backup() {
    let spec = Spec::new().quick().arg("--repl-ping-replica-period", 1);
    let (nodes, proxies) = Nodes::behind_proxies(3, &spec);
    nodes.form(3);
    // About 110 KiB on each, compressed.
    fill(&nodes, &names([1, 6000, 12000], 3000));
    let node = proxies[0].addr();

    let (_home, path) = place();
    proxies[1].cut(Cut::at_reply_byte(60_000));
    let failed = backup(&node, &path)
        .run()
        .status(6)
        .stderr_has(&nodes[1].id()[..8])
        .stderr_has("the connection broke after");
    // Whether another file was complete by then is chance.
    let (remains, why) = match path.exists() {
        true => ("there is no backup in", "no backup was finished here"),
        false => ("nothing was kept", "there is no such directory"),
    };
    failed.stderr_has(remains);
    no_half_file(&path);
    verify(&path).run().status(1).stderr_has(why);

    let (_home, path) = place();
    proxies[1].stall_at("PSYNC", 1);
    backup(&node, &path)
        .args(["--stall-timeout", "1s"])
        .run()
        .status(6)
        .stderr_has("sent nothing for 1s");
    no_half_file(&path);
    proxies[1].disarm();
    proxies[1].resume();

    // Not enough room: the limit of a file's size stands for a full disk.
    let (_home, path) = place();
    Trib::new()
        .program("/bin/sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 100; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_redis-trib"),
        ])
        .args(["backup", &node, path.to_str().unwrap()])
        .run()
        .status(6)
        .stderr_has("can't be written: File too large");
    no_half_file(&path);

    // Interrupted while a node is silent.
    let (_home, path) = place();
    proxies[2].stall_at("PSYNC", 1);
    let running = backup(&node, &path).spawn();
    assert!(proxies[2].wait_stalled(PATIENCE));
    running.signal(Signal::SIGINT);
    running.wait().status(130).stderr_has("interrupted");
    no_half_file(&path);
    proxies[2].disarm();
    proxies[2].resume();

    let (_home, path) = place();
    backup(&node, &path)
        .run()
        .status(0)
        .stdout_has("9,000 keys of 3 masters");
}

#[test]
fn slots_that_move_meanwhile_are_named() {
    let (nodes, proxies) = Nodes::behind_proxies(3, &Spec::new().quick());
    nodes.form(3);
    let (_home, path) = place();
    proxies[2].stall_at("PSYNC", 1);
    let running = backup(&proxies[0].addr(), &path).spawn();
    assert!(proxies[2].wait_stalled(PATIENCE));
    for node in [1, 0, 2] {
        nodes[node].cmd(&["CLUSTER", "SETSLOT", "77", "NODE", &nodes[1].id()]);
    }
    proxies[2].resume();
    running
        .wait()
        .status(6)
        .stderr_has("slots 77 moved while the files were fetched");
    verify(&path).run().status(1);
}

/// The files are named by the masters at the beginning, and `nodes.json` names the same.
#[test]
fn a_failover_meanwhile_leaves_nodes_json_as_the_files_are() {
    let (nodes, proxies) = Nodes::behind_proxies(4, &Spec::new().quick());
    nodes.form(3);
    fill(&nodes[..3], &names([1, 6000, 12_000], 20));
    let was = dataset::digest(&nodes[..3]);
    let (_home, path) = place();
    fs::create_dir(&path).unwrap();
    proxies[2].stall_at("PSYNC", 1);
    let running = Trib::new()
        .args(["--cluster", "backup", &proxies[1].addr()])
        .arg(path.to_str().unwrap())
        .spawn();
    assert!(proxies[2].wait_stalled(PATIENCE));
    until("the files of the other two masters", PATIENCE, || {
        let files = rdb_files(&path);
        match files.len() {
            2 => Ok(()),
            _ => Err(format!("{files:?}")),
        }
    });
    nodes[3].cmd(&["CLUSTER", "FAILOVER"]);
    let id = nodes[3].id();
    for node in nodes.iter() {
        until("the new master to be known", PATIENCE, || {
            let text = node.nodes_text();
            let line = text.lines().find(|line| line.starts_with(&id));
            match line.is_some_and(|line| line.contains("master") && line.contains(" 0-5460")) {
                true => Ok(()),
                false => Err(text),
            }
        });
    }
    proxies[2].resume();
    running.wait().status(0);
    // As a program reads it that knows redis-cli's files only.
    fs::remove_file(path.join("manifest.json")).unwrap();
    let target = cluster(&Spec::new().quick());
    Trib::new()
        .args(["import", "--from", path.to_str().unwrap()])
        .args([&target[0].addr(), "--yes"])
        .run()
        .status(0);
    assert_eq!(
        dataset::difference(&was, &dataset::digest(&target)),
        [""; 0]
    );
}

/// A server that writes a type that is not known yet: its files are kept, and nobody takes them for more than they are.
#[test]
fn a_type_of_a_later_version_is_kept_and_named() {
    // Without a checksum, which the proxy would break.
    let spec = Spec::new().quick().arg("--rdbchecksum", "no");
    let (nodes, proxies) = Nodes::behind_proxies(2, &spec);
    nodes.form(2);
    // In one file all keys of the first node come before or after the newer one.
    let (first, second) = (&nodes[..1], &nodes[1..]);
    fill(first, &names(0..10, 2));
    fill(second, &names(9000..9010, 2));
    dataset::send(first, &[b"SET", b"{06S}newer", b"1"]);
    for proxy in &proxies {
        proxy.rewrite(b"\x00\x0a{06S}newer", b"\x3c\x0a{06S}newer");
    }
    let (_home, path) = place();
    let node = proxies[0].addr();
    let said = "values of type 60 can only be restored by loading the file into a server or by a newer redis-trib";
    let report = backup(&node, &path).run().status(0).stderr_has(said);
    report
        .stdout_has("[WARNING]")
        .stdout_has(said)
        .stdout_lacks("[OK]");
    let text = fs::read_to_string(path.join("manifest.json")).unwrap();
    assert!(text.contains(said), "{text}");
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let files = manifest["files"].as_array().unwrap();
    let unread: Vec<_> = files
        .iter()
        .filter(|file| !file["unread"].is_null())
        .collect();
    let [file] = unread.as_slice() else {
        panic!("{text}");
    };
    assert_eq!(file["unread"]["value_type"], 60);
    let (read, left) = (
        file["keys"].as_u64().unwrap(),
        file["unread"]["keys"].as_u64().unwrap(),
    );
    assert_eq!(read + left, 21, "{text}");

    let report = verify(&path).args(["-o", "json"]).run().status(0);
    let lines = report.json_lines();
    let shown = lines.iter().find(|line| !line["unread"].is_null()).unwrap();
    assert_eq!(shown["unread"]["what"], "values of type 60");
    verify(&path)
        .run()
        .status(0)
        .stdout_has("[WARNING]")
        .stdout_has(said);

    // All that is known is restored.
    let target = Nodes::with(1, &Spec::new().quick());
    target.form(1);
    let restore = |more: &[&str]| {
        Trib::new()
            .args([
                "restore",
                path.to_str().unwrap(),
                &target[0].addr(),
                "--yes",
            ])
            .args(more)
            .run()
    };
    restore(&["--dry-run"])
        .status(0)
        .stderr_has("will be left out");
    let report = restore(&[]).status(1);
    report
        .stdout_has("failed (unknown-type)")
        .stdout_has("{06S}newer")
        .stdout_has("type 60");
    assert_eq!(dataset::digest(&target).len() as u64, 20 + read);
    restore(&["--on-conflict", "replace", "--fail-fast"])
        .status(6)
        .stderr_has("type 60");
}

#[test]
fn versions_that_no_server_writes_are_no_backup() {
    let (nodes, proxies) = Nodes::behind_proxies(1, &Spec::new().quick());
    nodes.form(1);
    fill(&nodes, &names(0..10, 2));
    proxies[0].rewrite(b"REDIS0010", b"REDIS0099");
    let (_home, path) = place();
    backup(&proxies[0].addr(), &path)
        .run()
        .status(6)
        .stderr_has("has RDB version 99, which no Redis server writes");
    no_half_file(&path);
    verify(&path).run().status(1);
}

/// Damage that neither the checksum nor the manifest tells of.
#[test]
fn damaged_templates_are_no_backup_matrix() {
    if !versions().contains(&"redis-8.10") {
        return;
    }
    let spec = Spec::new().quick().version("redis-8.10");
    let nodes = Nodes::with(1, &spec.arg("--hash-min-template-entries", 1));
    nodes.form(1);
    for n in 0..10 {
        let key = format!("hash:{n}");
        nodes[0].cmd(&["HSET", &key, "name", "x", "city", "y"]);
    }
    let (_home, path) = place();
    backup(&nodes[0].addr(), &path).run().status(0);
    let file = rdb_files(&path).remove(0);
    let whole = fs::read(&file).unwrap();
    let find = |what: &[u8]| {
        whole
            .windows(what.len())
            .position(|some| some == what)
            .unwrap()
    };
    let opcode = find(b"\x04city\x04name") - 3;
    assert_eq!(whole[opcode], 242);
    let mut missing = whole.clone();
    missing[opcode + 1] = 40;
    let cut = whole[..find(b"\x1e\x06hash:") + 15].to_vec();
    let mut version = whole.clone();
    version[5..9].copy_from_slice(b"0099");
    for (mut bytes, says) in [
        (missing, "refers to template"),
        (cut, "in the middle of a record: the file is truncated"),
        (version, "has RDB version 99"),
    ] {
        if bytes.len() == whole.len() {
            let sum = bytes.len() - 8;
            bytes[sum..].fill(0);
        }
        fs::write(&file, bytes).unwrap();
        verify(&path).run().status(1).stderr_has(says);
        nodes[0].cmd(&["FLUSHALL"]);
        Trib::new()
            .args(["restore", path.to_str().unwrap(), &nodes[0].addr(), "--yes"])
            .run()
            .status(3)
            .stderr_has(says);
        assert!(dataset::digest(&nodes).is_empty());
    }
}

#[test]
fn verify_finds_what_was_damaged() {
    let nodes = cluster(&Spec::new().quick());
    fill(&nodes, &names([1, 6000, 12000], 20));
    let (_home, path) = place();
    backup(&nodes[0].addr(), &path).run().status(0);
    let file = rdb_files(&path).remove(0);
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    let whole = fs::read(&file).unwrap();
    let damage = |bytes: &[u8], says: &str| {
        fs::write(&file, bytes).unwrap();
        verify(&path)
            .run()
            .status(1)
            .stderr_has(&name)
            .stderr_has(says);
    };
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    damage(&flipped, "damaged");
    damage(&whole[..whole.len() - 20], "truncated");
    damage(b"", "truncated");
    fs::remove_file(&file).unwrap();
    verify(&path).run().status(1).stderr_has("No such file");
    fs::write(&file, &whole).unwrap();
    verify(&path).run().status(0).stdout_has("60 keys");

    let manifest = path.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    for (from, to, says) in [
        (name.as_str(), "../../etc/passwd", "is not a file name"),
        ("\"version\": 1", "\"version\": 2", "a newer redis-trib"),
        ("\"slots\": [", "\"slots\": [[5,20000],", "damaged"),
        ("{", "", "damaged"),
    ] {
        fs::write(&manifest, text.replacen(from, to, 1)).unwrap();
        verify(&path).run().status(1).stderr_has(says);
    }
    fs::remove_file(&manifest).unwrap();
    verify(&path).run().status(1).stderr_has("no manifest.json");
}

#[test]
fn passwords_users_and_tls() {
    let material = Material::new();
    let rules = "~* &* +cluster|nodes +cluster|info +info +psync +replconf";
    let spec = Spec::new()
        .quick()
        .password("s3cret")
        .user("saver", "pa55", rules)
        .tls(&material);
    let nodes = cluster(&spec);
    dataset::send(&nodes, &[b"SET", b"a", b"1"]);
    let (_home, path) = place();
    let tls = ["--tls", "--cacert", material.ca.to_str().unwrap()];
    let run = |user: &[&str]| {
        backup(&nodes[0].addr(), &path)
            .args(tls)
            .args(user.iter().copied())
            .run()
    };
    run(&["--pass", "wrong"])
        .status(4)
        .stderr_lacks("wrong\n")
        .stderr_has("password");
    run(&["--user", "saver", "--pass", "pa55"])
        .status(0)
        .stdout_has("1 key of 3 masters");
    nodes[0].cmd(&["ACL", "SETUSER", "saver", "-psync"]);
    fs::remove_dir_all(&path).unwrap();
    run(&["--user", "saver", "--pass", "pa55"])
        .status(6)
        .stderr_has("may not run PSYNC")
        .stderr_lacks("pa55");
    assert!(!path.exists() || !path.join("manifest.json").exists());
}

/// Demands that so many of three masters are asked for their data at the same time, each with a value of that many bytes.
#[track_caller]
fn are_asked_at_once(expected: usize, bytes: usize) {
    let (nodes, proxies) = Nodes::behind_proxies(3, &Spec::new().quick().node_timeout(15_000));
    nodes.form(3);
    // On a busy machine a server needs seconds for the large value.
    for (node, key) in nodes.iter().zip(names([1, 6000, 12000], 1)) {
        node.cmd(&["SETRANGE", &key, &bytes.to_string(), "x"]);
    }
    let (_home, path) = place();
    for proxy in &proxies {
        proxy.stall_at("PSYNC", 1);
    }
    let asked = || (0..3).filter(|i| proxies[*i].count("PSYNC") > 0).count();
    let running = backup(&proxies[0].addr(), &path).spawn();
    until("the PSYNCs", PATIENCE, || match asked() {
        count if count < expected => Err(format!("{count} of {expected}")),
        _ => Ok(()),
    });
    // The time for more than these.
    std::thread::sleep(Duration::from_millis(300));
    let at_once = asked();
    for proxy in &proxies {
        proxy.disarm();
        proxy.resume();
    }
    running.wait().status(0);
    assert_eq!(at_once, expected);
}

#[test]
fn one_fork_a_host() {
    // All three stand on one host.
    are_asked_at_once(1, 200 << 20);
    // All three have little data.
    are_asked_at_once(3, 10);
}
