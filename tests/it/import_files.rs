//! `import --from` RDB files: recorded ones of every server, packed ones, directories, standard input, and bad ones.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use redis::Value;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::dataset::{self, Digest, difference, digest};
use crate::support::server::{Server, Spec, versions};

fn cluster(version: &str) -> Nodes {
    let nodes = Nodes::with(2, &Spec::new().quick().version(version));
    nodes.form(2);
    nodes
}

fn import(files: &[&Path], node: &str) -> Trib {
    let mut trib = Trib::new().arg("import");
    for file in files {
        trib = trib.args(["--from", file.to_str().unwrap()]);
    }
    trib.args([node, "--yes"])
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/rdb")
        .join(name)
}

/// The file that a server saves now.
fn saved(server: &Server) -> PathBuf {
    server.cmd(&["SAVE"]);
    server.dir().join("dump.rdb")
}

/// Names and contents as they are recorded: of long contents the SHA-256. Ids of producers of a stream are left out,
/// because servers forget them after some minutes.
fn readable(digest: &Digest) -> Vec<(String, String)> {
    let name = |key: &Vec<u8>| key.escape_ascii().to_string();
    let short = |what: &String| match what.split(" producers ").next().unwrap_or_default() {
        what if what.len() < 200 => what.to_owned(),
        what => {
            let length = what.len();
            let sum = ring::digest::digest(&ring::digest::SHA256, what.as_bytes());
            format!("{length} bytes, {sum:?}")
        }
    };
    digest
        .iter()
        .map(|(key, what)| (name(key), short(what)))
        .collect()
}

fn recorded(version: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(fixture(&format!("{version}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// `UPDATE_FIXTURES=1` records the files of all servers of the matrix anew.
#[test]
fn files_of_every_server_come_back_matrix() {
    for version in versions() {
        let file = fixture(&format!("{version}.rdb"));
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            let server = [Spec::new().plain().version(version).start()];
            dataset::fill(&server);
            let text = serde_json::to_string_pretty(&readable(&digest(&server))).unwrap();
            fs::create_dir_all(fixture("")).unwrap();
            fs::copy(saved(&server[0]), &file).unwrap();
            fs::write(fixture(&format!("{version}.json")), text + "\n").unwrap();
        }
        let was = recorded(version);
        let nodes = cluster(version);
        let node = nodes[0].addr();
        import(&[&file], &node).args(["--dry-run"]).run().status(0);
        assert!(digest(&nodes).is_empty());
        let keys = was.len();
        import(&[&file], &node)
            .run()
            .status(0)
            .stdout_has(&format!("[OK] {keys} keys copied"));
        assert_eq!(readable(&digest(&nodes)), was, "{version}");
        // Once more: all is there.
        import(&[&file], &node)
            .run()
            .status(0)
            .stdout_has(&format!("{keys} were there already, the same"));
    }
}

#[test]
fn packed_files_and_standard_input_are_read() {
    let plain = fs::read(fixture("redis-7.0.rdb")).unwrap();
    let was = recorded("redis-7.0");
    let home = tempfile::tempdir().unwrap();
    let gzip = |bytes: &[u8]| {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| compress_to_vec(bytes, CompressionLevel::Fastest);
    let (one, other) = plain.split_at(plain.len() / 3);
    // A zstd frame to be skipped.
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    for (name, bytes) in [
        ("a.rdb.gz", gzip(&plain)),
        ("b.rdb.gz", [gzip(one), gzip(other)].concat()),
        ("c.rdb.zst", zstd(&plain)),
        ("d.rdb.zst", [zstd(one), skipped, zstd(other)].concat()),
        ("e.rdb", gzip(&plain)),
    ] {
        let path = home.path().join(name);
        fs::write(&path, &bytes).unwrap();
        let nodes = cluster("redis-7.0");
        import(&[&path], &nodes[0].addr()).run().status(0);
        assert_eq!(readable(&digest(&nodes)), was, "{name}");
        // The same on standard input.
        for node in nodes.iter() {
            node.cmd(&["FLUSHALL"]);
        }
        import(&[Path::new("-")], &nodes[0].addr())
            .stdin(&bytes)
            .run()
            .status(0);
        assert_eq!(readable(&digest(&nodes)), was, "{name} on standard input");
        // Damaged: nothing is written, for files are read first.
        for node in nodes.iter() {
            node.cmd(&["FLUSHALL"]);
        }
        let mut damaged = bytes.clone();
        let at = damaged.len() / 2;
        damaged[at] ^= 8;
        for bytes in [&damaged[..], &bytes[..at]] {
            fs::write(&path, bytes).unwrap();
            import(&[&path], &nodes[0].addr())
                .run()
                .status(3)
                .stderr_has(name)
                .stderr_has("Nothing was changed");
            assert!(digest(&nodes).is_empty());
        }
    }
}

#[test]
fn what_can_not_be_imported_is_refused() {
    let nodes = cluster("redis-7.0");
    let node = nodes[0].addr();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("dump.rdb");
    let whole = fs::read(fixture("redis-7.0.rdb")).unwrap();
    let mut newer = whole.clone();
    newer[5..9].copy_from_slice(b"0099");
    for (bytes, says) in [
        (&newer[..], "has RDB version 99"),
        (b"", "ends after 0 bytes"),
        (b"*1\r\n$4\r\nPING\r\n", "is not an RDB file"),
        (b"hello\n", "is not an RDB file"),
        (b"REDIS00", "truncated"),
        (&whole[..whole.len() - 3], "truncated"),
    ] {
        fs::write(&path, bytes).unwrap();
        import(&[&path], &node).run().status(3).stderr_has(says);
        // The same on standard input, which is closed for the second.
        import(&[Path::new("-")], &node)
            .stdin(bytes)
            .run()
            .status(3)
            .stderr_has(says);
    }
    fs::remove_file(&path).unwrap();
    import(&[&path], &node)
        .run()
        .status(3)
        .stderr_has("No such file");
    import(&[home.path()], &node)
        .run()
        .status(3)
        .stderr_has("there is no RDB file");
    fs::write(&path, &whole).unwrap();
    import(&[&path, &path], &node)
        .run()
        .status(3)
        .stderr_has("is named twice");
    let path = path.to_str().unwrap();
    for (args, says) in [
        (
            &["--from", path, "--move"][..],
            "--move deletes keys at a server",
        ),
        (
            &["--from", path, "--from-user", "ann"],
            "a login is for a server",
        ),
        (
            &["--from", path, "--from", "10.0.0.9"],
            "only files can be named together",
        ),
        (
            &["--from", "10.0.0.9", "--ignore-aof-increments"],
            "is for files",
        ),
    ] {
        let trib = Trib::new()
            .args(["import", &node, "--yes"])
            .args(args.iter().copied());
        trib.run().status(2).stderr_has(says);
    }
    for node in nodes.iter() {
        node.cmd(&["FLUSHALL"]);
    }
    // Without a terminal, standard input can't answer.
    Trib::new()
        .args(["import", "--from", "-", &node])
        .stdin(&whole)
        .run()
        .status(5)
        .stderr_has("--yes");
    assert!(digest(&nodes).is_empty());
}

#[test]
fn standard_input_that_ends_after_keys_were_written_is_a_partial_import() {
    let source = Spec::new().plain().start();
    let mut pipe = redis::pipe();
    for n in 0..20_000 {
        pipe.cmd("SET").arg(format!("key:{n}")).arg(n).ignore();
    }
    pipe.query::<()>(&mut source.connection().unwrap()).unwrap();
    let whole = fs::read(saved(&source)).unwrap();
    let nodes = cluster("redis-7.0");
    import(&[Path::new("-")], &nodes[0].addr())
        .stdin(&whole[..whole.len() - 3])
        .run()
        .status(6)
        .stderr_has("come from this damaged data: their values may be wrong")
        .stderr_has("--on-existing-key replace overwrites them")
        .stderr_lacks("continues")
        .stderr_lacks("To resume:");
    assert!(!digest(&nodes).is_empty());
}

#[test]
fn functions_of_standard_input_that_ends_after_them_are_counted() {
    let source = Spec::new().plain().version("redis-7.0").start();
    let code = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";
    source.cmd(&["FUNCTION", "LOAD", code]);
    source.cmd(&["SET", "key", &"value".repeat(1000)]);
    let whole = fs::read(saved(&source)).unwrap();
    let nodes = cluster("redis-7.0");
    let said = import(&[Path::new("-")], &nodes[0].addr())
        .stdin(&whole[..whole.len() - 15])
        .run()
        .status(6)
        .stdout_has("0 keys copied")
        .stdout_has("1 function library on every master");
    assert!(
        !said.stderr.contains("No key was written"),
        "{}",
        said.stderr
    );
    assert!(!said.stderr.contains("To resume"), "{}", said.stderr);
    for node in nodes.iter() {
        let info = node.text(&["INFO", "memory"]);
        assert!(info.contains("number_of_libraries:1"), "{info}");
    }
    assert!(digest(&nodes).is_empty());
}

#[test]
fn keys_in_the_cluster_are_kept_replaced_or_stop_it() {
    let nodes = cluster("redis-7.0");
    let node = nodes[0].addr();
    dataset::send(&nodes, &[b"SET", b"string", b"newer"]);
    let file = fixture("redis-7.0.rdb");
    let value = || dataset::send(&nodes, &[b"GET", b"string"]);
    import(&[&file], &node)
        .args(["--on-existing-key", "abort"])
        .run()
        .status(6)
        .stderr_has("\"string\" is in the cluster with another value")
        .stderr_has("stops at this key again")
        .stderr_lacks("continues")
        .stderr_lacks("To resume:");
    import(&[&file], &node)
        .run()
        .status(1)
        .stdout_has("1 key failed (differs)");
    assert_eq!(value(), Value::BulkString(b"newer".to_vec()));
    import(&[&file], &node).args(["--replace"]).run().status(0);
    assert_eq!(value(), Value::BulkString(b"text".to_vec()));
}

#[test]
fn databases_are_imported_one_at_a_time() {
    let source = Spec::new().plain().start();
    let mut pipe = redis::pipe();
    for database in [0, 3] {
        pipe.cmd("SELECT")
            .arg(database)
            .cmd("SET")
            .arg("a")
            .arg(database);
    }
    pipe.query::<()>(&mut source.connection().unwrap()).unwrap();
    let file = saved(&source);
    let nodes = cluster("redis-7.0");
    let node = nodes[0].addr();
    import(&[&file], &node)
        .run()
        .status(0)
        .stdout_has("[OK] 1 key copied")
        .stderr_has("1 key of other databases: not imported");
    let value = || dataset::send(&nodes, &[b"GET", b"a"]);
    assert_eq!(value(), Value::BulkString(b"0".to_vec()));
    import(&[&file], &node)
        .args(["--from-db", "3", "--replace"])
        .run()
        .status(0);
    assert_eq!(value(), Value::BulkString(b"3".to_vec()));
}

#[test]
fn directories_of_redis_cli_and_of_servers() {
    let nodes = cluster("redis-7.0");
    dataset::fill(&nodes);
    let was = digest(&nodes);
    let home = tempfile::tempdir().unwrap();
    let backup = home.path().join("backup");
    fs::create_dir(&backup).unwrap();
    let made = Command::new("redis-cli")
        .args([
            "--cluster",
            "backup",
            &nodes[0].addr(),
            backup.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let target = cluster("redis-7.0");
    import(&[&backup], &target[0].addr()).run().status(0);
    assert_eq!(difference(&was, &digest(&target)), [""; 0]);
}

/// The directory of an append-only file has a manifest since Redis 7.0, with more in it since 8.0.
#[test]
fn appendonlydirs_of_servers_matrix() {
    let known = versions().iter().filter(|version| **version != "redis-6.2");
    for version in known {
        appendonlydir_of(version);
    }
}

fn appendonlydir_of(version: &str) {
    let source = Spec::new()
        .plain()
        .version(version)
        .arg("--appendfilename", "append only")
        .arg("--appendonly", "yes")
        .arg("--aof-use-rdb-preamble", "yes")
        .start();
    source.cmd(&["SET", "before", "1"]);
    source.cmd(&["BGREWRITEAOF"]);
    crate::support::wait::until("the base file", crate::support::wait::PATIENCE, || {
        let info = source.text(&["INFO", "persistence"]);
        match info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrites:1") {
            true => Ok(()),
            false => Err(info),
        }
    });
    let files = source.dir().join("appendonlydir");
    let target = cluster(version);
    let node = target[0].addr();
    import(&[&files], &node)
        .run()
        .status(0)
        .stdout_has("[OK] 1 key copied");
    source.cmd(&["SET", "after", "2"]);
    import(&[&files], &node)
        .run()
        .status(3)
        .stderr_has(".incr.aof has commands")
        .stderr_has("--ignore-aof-increments");
    import(&[&files], &node)
        .args(["--ignore-aof-increments"])
        .run()
        .status(0)
        .stdout_has("1 was there already");
    assert_eq!(
        dataset::send(&target, &[b"EXISTS", b"after"]),
        Value::Int(0)
    );
    for file in fs::read_dir(&files).unwrap() {
        let file = file.unwrap().path();
        if file.to_string_lossy().ends_with(".incr.aof") {
            fs::remove_file(file).unwrap();
        }
    }
    import(&[&files], &node)
        .run()
        .status(3)
        .stderr_has(".incr.aof is missing")
        .stderr_has("--ignore-aof-increments");
}

/// A string as an RDB file has it, below 16,384 bytes.
fn text(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap() | 0x4000;
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A ziplist of short strings.
fn ziplist(items: &[&str]) -> Vec<u8> {
    let (mut body, mut before, mut tail) = (Vec::new(), 0_u8, 10_u32);
    for item in items {
        tail = 10 + u32::try_from(body.len()).unwrap();
        body.extend([before, u8::try_from(item.len()).unwrap()]);
        body.extend(item.as_bytes());
        before = u8::try_from(item.len() + 2).unwrap();
    }
    let total = u32::try_from(body.len() + 11).unwrap();
    let count = u16::try_from(items.len()).unwrap();
    let head = [
        &total.to_le_bytes()[..],
        &tail.to_le_bytes(),
        &count.to_le_bytes(),
    ]
    .concat();
    [&head[..], &body, &[0xff]].concat()
}

/// Redis 3.2 can't be had any more: this is its file format (RDB version 7), and that of 2.8 (6), from their
/// specification. The checksum is 0: `rdbchecksum no`.
#[test]
fn files_of_redis_2_8_and_3_2_made_by_hand() {
    for version in [6, 7] {
        let mut file = format!("REDIS{version:04}").into_bytes();
        if version == 7 {
            file.extend([&[250][..], &text(b"redis-ver"), &text(b"3.2.13")].concat());
            file.extend([&[250][..], &text(b"redis-bits"), &[0xc0, 64]].concat());
        }
        file.extend([254, 0]);
        if version == 7 {
            file.extend([251, 9, 1]);
        }
        let mut add = |kind: u8, key: &str, value: Vec<u8>| {
            file.extend([&[kind][..], &text(key.as_bytes()), &value].concat());
        };
        add(0, "string", text(b"plain"));
        add(0, "number", vec![0xc1, 0x39, 0x30]);
        add(2, "set", [&[2][..], &text(b"a"), &text(b"b")].concat());
        add(3, "zset", [&[1][..], &text(b"m"), b"\x031.5"].concat());
        add(4, "hash", [&[1][..], &text(b"f"), &text(b"v")].concat());
        add(11, "intset", text(&[2, 0, 0, 0, 2, 0, 0, 0, 5, 0, 7, 0]));
        add(12, "zset:small", text(&ziplist(&["m", "2"])));
        add(13, "hash:small", text(&ziplist(&["f", "v", "g", "w"])));
        let list = text(&ziplist(&["x", "y", "z"]));
        match version {
            7 => add(14, "list", [&[1][..], &list].concat()),
            _ => add(10, "list", list),
        }
        // With an expiry in seconds, as Redis 2.4 wrote it, far in the future.
        file.push(253);
        file.extend(4_000_000_000_u32.to_le_bytes());
        file.extend([&[0][..], &text(b"expires"), &text(b"late")].concat());
        file.push(255);
        file.extend([0; 8]);
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("dump.rdb");
        fs::write(&path, &file).unwrap();
        let nodes = cluster("redis-7.0");
        import(&[&path], &nodes[0].addr())
            .run()
            .status(0)
            .stdout_has("[OK] 10 keys copied");
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let list = |items: &[&str]| Value::Array(items.iter().map(|item| bulk(item)).collect());
        for (command, value) in [
            (&["GET", "string"][..], bulk("plain")),
            (&["GET", "number"], bulk("12345")),
            (&["SISMEMBER", "set", "b"], Value::Int(1)),
            (&["ZSCORE", "zset", "m"], bulk("1.5")),
            (&["HGETALL", "hash"], list(&["f", "v"])),
            (&["SMEMBERS", "intset"], list(&["5", "7"])),
            (&["ZSCORE", "zset:small", "m"], bulk("2")),
            (&["HGETALL", "hash:small"], list(&["f", "v", "g", "w"])),
            (&["LRANGE", "list", "0", "-1"], list(&["x", "y", "z"])),
            (&["GET", "expires"], bulk("late")),
            (&["PEXPIRETIME", "expires"], Value::Int(4_000_000_000_000)),
        ] {
            let words: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
            assert_eq!(
                dataset::send(&nodes, &words),
                value,
                "{version}: {command:?}"
            );
        }
    }
}
