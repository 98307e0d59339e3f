//! `import` and `verify` of files: patterns, databases, prefixes and comparisons, with the rules of servers.

use std::fs;
use std::path::{Path, PathBuf};

use redis::Value;
use serde_json::Value as Json;

use crate::support::cluster::{Nodes, three};
use crate::support::command::{Finished, Trib};
use crate::support::dataset;
use crate::support::server::{Server, Spec, versions};
use crate::support::wait::{PATIENCE, until};

/// A file with keys in three databases.
fn saved(version: &str) -> (Server, PathBuf) {
    let server = Spec::new().plain().version(version).start();
    let mut connection = server.connection().unwrap();
    let mut pipe = redis::pipe();
    for (database, names) in [
        (0, ["user:1", "user:2", "order:1"]),
        (3, ["user:3", "user:4", "order:2"]),
        (7, ["user:5", "{user}:6", "order:3"]),
    ] {
        pipe.cmd("SELECT").arg(database).ignore();
        for name in names {
            pipe.cmd("SET")
                .arg(name)
                .arg(format!("of {database}"))
                .ignore();
        }
    }
    pipe.query::<()>(&mut connection).unwrap();
    server.cmd(&["SAVE"]);
    let file = server.dir().join("dump.rdb");
    (server, file)
}

fn run(command: &str, files: &[&Path], node: &str, args: &[&str]) -> Finished {
    let mut trib = Trib::new().arg(command);
    for file in files {
        trib = trib.args(["--from", file.to_str().unwrap()]);
    }
    if command == "import" {
        trib = trib.arg("--yes");
    }
    trib.arg(node).args(args.iter().copied()).run()
}

fn keys(nodes: &Nodes) -> usize {
    dataset::digest(nodes).len()
}

fn flush(nodes: &Nodes) {
    for node in nodes.iter() {
        node.cmd(&["FLUSHALL"]);
    }
}

fn get(nodes: &Nodes, key: &str) -> Value {
    dataset::send(nodes, &[b"GET", key.as_bytes()])
}

fn of(database: u32) -> Value {
    Value::BulkString(format!("of {database}").into_bytes())
}

#[test]
fn patterns_databases_and_prefixes_select_keys_of_files_in_the_matrix() {
    for version in versions() {
        let (source, file) = saved(version);
        let nodes = three(&Spec::new().quick().version(version));
        let node = nodes[0].addr();
        for (args, count) in [
            (&["--pattern", "user:[12]"][..], 2),
            (&["--pattern", "order:*", "--from-db", "all"], 3),
            (&["--from-db", "3", "--key-prefix", "3=t:"], 3),
            (&["--from-db", "all", "--key-prefix", "3=t:,7=s:"], 9),
        ] {
            let count_text = format!("[OK] {count} keys copied");
            let same = format!("{count} keys the same");
            run("import", &[&file], &node, &[args, &["--verify"]].concat())
                .status(0)
                .stdout_has(&count_text)
                .stdout_has(&same);
            assert_eq!(keys(&nodes), count, "{args:?}");
            run("verify", &[&file], &node, args)
                .status(0)
                .stdout_has(&same);
            // What a server has is selected in the same way.
            let from = source.addr();
            let verify = ["verify", "--from", &from, &node];
            Trib::new()
                .args(verify)
                .args(args.iter().copied())
                .run()
                .status(0)
                .stdout_has(&same);
            if count == 9 {
                assert_eq!(get(&nodes, "t:user:3"), of(3));
                assert_eq!(get(&nodes, "s:{user}:6"), of(7));
                // Names are those of the file.
                dataset::send(&nodes, &[b"DEL", b"t:user:3"]);
                run("verify", &[&file], &node, args)
                    .status(1)
                    .stdout_has("\"user:3\" of database 3");
            }
            flush(&nodes);
        }
        if *version == "valkey-9.1" {
            continue;
        }
        run("import", &[&file], &node, &["--db-map", "3=2"])
            .status(3)
            .stderr_has("the cluster has no database 2");
    }
}

#[test]
fn databases_of_files_keep_their_numbers_where_the_cluster_has_them() {
    if !versions().contains(&"valkey-9.1") {
        return;
    }
    let (_source, file) = saved("valkey-9.1");
    let spec = Spec::new().quick().version("valkey-9.1");
    let nodes = three(&spec.arg("--cluster-databases", 16));
    let (node, map) = (nodes[0].addr(), ["--db-map", "3=2,7=7"]);
    run(
        "import",
        &[&file],
        &node,
        &[&map[..], &["--verify"]].concat(),
    )
    .status(0)
    .stdout_has("6 keys the same");
    assert_eq!(keys(&nodes), 0);
    run("verify", &[&file], &node, &map).status(0);
    run("verify", &[&file], &node, &["--db-map", "3=7,7=2"]).status(1);
}

#[test]
fn names_of_files_that_collide_are_found_before_anything_is_written() {
    let (source, file) = saved("redis-7.0");
    let nodes = three(&Spec::new().quick());
    let node = nodes[0].addr();
    let other = source.dir().join("other.rdb");
    fs::copy(&file, &other).unwrap();
    let mut connection = source.connection().unwrap();
    redis::cmd("SELECT").arg(3).exec(&mut connection).unwrap();
    redis::cmd("SET")
        .arg("user:1")
        .arg("of 3")
        .exec(&mut connection)
        .unwrap();
    source.cmd(&["SAVE"]);
    for option in ["--dry-run", "--replace"] {
        run("import", &[&file], &node, &["--from-db", "all", option])
            .status(3)
            .stderr_has("1 name of several databases would be one")
            .stderr_has("\"user:1\" (databases 0 and 3)");
    }
    assert_eq!(keys(&nodes), 0);
    // In two files, and as a name with its prefix.
    fs::copy(&file, source.dir().join("third.rdb")).unwrap();
    run("import", &[&other, &file], &node, &["--from-db", "all"]).status(3);
    let without = ["--from-db", "all", "--pattern", "order:*"];
    run("import", &[&file], &node, &without).status(0);
    run(
        "import",
        &[&file],
        &node,
        &["--from-db", "all", "--key-prefix", "3=t:"],
    )
    .status(0)
    .stdout_has("2 were there already");
    assert_eq!(get(&nodes, "user:1"), of(0));
    assert_eq!(get(&nodes, "t:user:1"), of(3));
}

#[test]
fn standard_input_is_read_once() {
    let (_source, file) = saved("redis-7.0");
    let bytes = fs::read(&file).unwrap();
    let nodes = three(&Spec::new().quick());
    let node = nodes[0].addr();
    let stdin = |command: &str, args: &[&str]| {
        let line = [&[command, "--from", "-", &node][..], args].concat();
        Trib::new().args(line).stdin(&bytes).run()
    };
    stdin("verify", &[])
        .status(2)
        .stderr_has("can be read only once");
    stdin("import", &["--yes", "--verify"])
        .status(2)
        .stderr_has("can be read only once");
    stdin("import", &["--yes", "--from-db", "all", "--replace"])
        .status(2)
        .stderr_has("leave out --replace");
    assert_eq!(keys(&nodes), 0);
    stdin("import", &["--dry-run", "--from-db", "all"])
        .status(0)
        .stdout_has("Keys go to database 0 of the cluster.");
    stdin(
        "import",
        &["--dry-run", "--from-db", "all", "--key-prefix", "3=t:"],
    )
    .status(0)
    .stdout_has("Keys go to database 0 of the cluster.")
    .stdout_has("Names of keys of database 3 get the prefix t:.");
    stdin("import", &["--dry-run"])
        .status(0)
        .stdout_has("their number is not known")
        .stdout_lacks("0 keys of");
    let lines = stdin("import", &["--dry-run", "-o", "json"])
        .status(0)
        .json_lines();
    let plan = lines
        .iter()
        .find(|line| line["event"] == "transfer-plan")
        .unwrap();
    assert!(plan["keys"].is_null(), "{plan}");
    stdin(
        "import",
        &["--yes", "--pattern", "user:*", "--from-db", "all"],
    )
    .status(0)
    .stdout_has("[OK] 5 keys copied");
    assert_eq!(keys(&nodes), 5);
}

#[test]
fn several_files_are_compared() {
    let (one, first) = saved("redis-7.0");
    let other = Spec::new().plain().start();
    other.cmd(&["SET", "lone", "1"]);
    other.cmd(&["SET", "short", "1", "EX", "1000"]);
    other.cmd(&["SAVE"]);
    let second = other.dir().join("dump.rdb");
    let nodes = three(&Spec::new().quick());
    let node = nodes[0].addr();
    let files = [first.as_path(), second.as_path()];
    run("import", &files, &node, &["--verify"])
        .status(0)
        .stdout_has("5 keys the same");
    let verify = |code: i32| -> Json {
        run("verify", &files, &node, &["-o", "json"])
            .status(code)
            .json()
    };
    let json = verify(0);
    assert_eq!([&json["same"], &json["uncompared"]], [5, 0], "{json:#}");
    dataset::send(&nodes, &[b"SET", b"lone", b"2"]);
    dataset::send(&nodes, &[b"PERSIST", b"short"]);
    dataset::send(&nodes, &[b"DEL", b"user:2"]);
    let json = verify(1);
    assert_eq!([&json["different"], &json["missing"]], [2, 1], "{json:#}");
    // A directory, and a backup of redis-trib together with a file.
    let home = tempfile::tempdir().unwrap();
    for (name, file) in [("a.rdb", &first), ("b.rdb", &second)] {
        fs::copy(file, home.path().join(name)).unwrap();
    }
    run("verify", &[home.path()], &node, &["-o", "json"]).status(1);
    let backup = home.path().join("backup");
    let path = backup.to_str().unwrap();
    Trib::new().args(["backup", &node, path]).run().status(0);
    run("verify", &[&backup], &node, &["--pattern", "lone"])
        .status(0)
        .stdout_has("1 key the same");
    run("verify", &[&backup, &first], &node, &[])
        .status(2)
        .stderr_has("compared alone");
    for (args, says) in [
        (&["--both-ways"][..], "--both-ways compares two servers"),
        (&["--from-user", "ann"], "a login is for a server"),
    ] {
        run("verify", &[&first], &node, args)
            .status(2)
            .stderr_has(says);
    }
    // A file that is cut off.
    let bytes = fs::read(&first).unwrap();
    let cut = one.dir().join("cut.rdb");
    fs::write(&cut, &bytes[..bytes.len() - 3]).unwrap();
    run("verify", &[&cut], &node, &[])
        .status(3)
        .stderr_has("truncated");
}

#[test]
fn patterns_match_as_those_of_a_server() {
    let (source, file) = saved("redis-7.0");
    for name in ["a*b", "a\\b", "a[b", "a]b", "a-b", "axb", "a^b", "ab"] {
        source.cmd(&["SET", name, "1"]);
    }
    source.cmd(&["SAVE"]);
    let nodes = three(&Spec::new().quick());
    for pattern in [
        "a*b", r"a\*b", "a[*]b", "a?b", "a[^x]b", r"a[\]]b", "a[[]b", r"a\\b", "a[a-z]b",
        "a[z-a]b", "a[x", "a*", "*b", "**", "a[^]b", "[a]b",
    ] {
        let scanned = source.cmd(&["SCAN", "0", "MATCH", pattern, "COUNT", "1000"]);
        let count = match scanned {
            Value::Array(parts) => match &parts[1] {
                Value::Array(keys) => keys.len(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        let lines = run(
            "import",
            &[&file],
            &nodes[0].addr(),
            &["--pattern", pattern, "-o", "json"],
        );
        let lines = lines.status(0).json_lines();
        let report = lines.iter().find(|line| line["event"] == "report").unwrap();
        assert_eq!(report["written"], count, "{pattern}");
        flush(&nodes);
    }
}

/// Two files are read side by side, so the plan says that either value may stay.
#[test]
fn keys_of_two_files_are_announced_where_they_may_overwrite_each_other() {
    const NOTE: &str = "where two have one name, either value may stay";
    let (source, file) = saved("redis-7.0");
    let other = source.dir().join("other.rdb");
    fs::copy(&file, &other).unwrap();
    let nodes = three(&Spec::new().quick());
    let node = nodes[0].addr();
    let plan = |files: &[&Path], args: &[&str]| {
        let args = [args, &["--dry-run"]].concat();
        run("import", files, &node, &args).status(0)
    };
    let note = format!("Several files have keys of one database (3): {NOTE}.");
    plan(&[&file, &other], &["--replace", "--from-db", "3"]).stdout_has(&note);
    // No name meets another one, or nothing is overwritten.
    plan(&[&file], &["--replace"]).stdout_lacks(NOTE);
    plan(&[&file, &other], &[]).stdout_lacks(NOTE);
    plan(&[&file, &other], &["--replace", "--from-db", "5"]).stdout_lacks(NOTE);
}

#[test]
fn json_tells_the_search_for_collisions_from_the_reading() {
    let (_source, file) = saved("redis-7.0");
    let nodes = three(&Spec::new().quick());
    let args = ["--from-db", "all", "-o", "json"];
    let run = run("import", &[&file], &nodes[0].addr(), &args).status(0);
    let lines = run.stdout.lines();
    let lines = lines.map(|line| serde_json::from_str::<Json>(line).unwrap());
    let phases: Vec<String> = lines
        .filter(|line| line["event"] == "phase")
        .filter_map(|line| Some(line["phase"].as_str()?.to_string()))
        .collect();
    let first: Vec<&str> = phases.iter().map(String::as_str).take(2).collect();
    assert_eq!(first, ["verify", "find-collisions"], "{phases:?}");
}

#[test]
fn keys_that_have_expired_in_a_file_are_counted_apart() {
    let spec = Spec::new().plain().arg("--enable-debug-command", "yes");
    let source = spec.start();
    // The file has keys that have expired, whenever it is written.
    source.cmd(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    source.cmd(&["SET", "new", "old value", "PX", "1500"]);
    source.cmd(&["SET", "away", "old value", "PX", "1500"]);
    source.cmd(&["SET", "stays", "value"]);
    source.cmd(&["SAVE"]);
    let file = source.dir().join("dump.rdb");
    let nodes = three(&Spec::new().quick());
    let set = |key: &[u8], value: &[u8]| drop(dataset::send(&nodes, &[b"SET", key, value]));
    set(b"new", b"another value");
    set(b"stays", b"value");
    until("the keys to expire", PATIENCE, || {
        match source.text(&["EXISTS", "new", "away"]).as_str() {
            "0" => Ok(()),
            other => Err(other.to_string()),
        }
    });
    let found = run("verify", &[&file], &nodes[0].addr(), &["-o", "json"])
        .status(0)
        .json();
    let counts = ["same", "gone", "missing", "different"].map(|name| found[name].as_u64());
    assert_eq!(counts, [Some(1), Some(2), Some(0), Some(0)], "{found:#}");
}
