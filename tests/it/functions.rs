//! Functions that differ between masters: what `check` says of them, plans of moves, `add-node`, `backup` and `restore`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::cluster::Nodes;
use crate::support::command::{Finished, Trib};
use crate::support::findings::{codes, finding};
use crate::support::hosts::apart;
use crate::support::server::{Server, Spec, versions};
use crate::support::subcommands::{check, check_json, reshard};
use crate::support::wait::{PATIENCE, until};

const DIFFER: &str = "functions-differ";

/// A library whose code depends on `result`.
fn code(library: &str, result: u32) -> String {
    format!(
        "#!lua name={library}\nredis.register_function('f_{library}', function() return {result} end)"
    )
}

#[track_caller]
fn load(server: &Server, library: &str, result: u32) {
    server.cmd(&["FUNCTION", "LOAD", "REPLACE", &code(library, result)]);
}

/// Masters alone, a host each.
fn masters(count: usize, version: &str) -> Nodes {
    let nodes = Nodes::each(count, |i| apart(i).quick().version(version));
    nodes.form(count);
    nodes
}

fn found(nodes: &[Server]) -> Value {
    check_json(&nodes[0].addr()).run().status(0).json()
}

#[track_caller]
fn assert_equal(nodes: &[Server]) {
    let json = found(nodes);
    assert!(!codes(&json).contains(&DIFFER), "{:#}", json["findings"]);
}

/// The message of the finding, with names instead of addresses: `A` is the first node.
#[track_caller]
fn said(nodes: &[Server]) -> String {
    let json = found(nodes);
    let message = finding(&json, DIFFER)["message"].as_str().unwrap();
    named(nodes, message)
}

fn named(nodes: &[Server], text: &str) -> String {
    ('A'..)
        .zip(nodes)
        .fold(text.to_string(), |text, (name, server)| {
            let node = format!("{} ({})", server.addr(), &server.id()[..8]);
            text.replace(&node, &name.to_string())
        })
}

fn names(json: &Value) -> Vec<&str> {
    let nodes = finding(json, DIFFER)["nodes"].as_array().unwrap();
    nodes.iter().map(|id| id.as_str().unwrap()).collect()
}

#[test]
fn matrix_check_names_libraries_and_masters() {
    for version in versions() {
        let nodes = masters(3, version);
        if *version == "redis-6.2" {
            assert_equal(&nodes);
            continue;
        }
        assert_equal(&nodes);
        // The order of FUNCTION LIST is another on each.
        let libraries = ["l", "m", "n", "o", "p"];
        for (first, server) in nodes.iter().enumerate() {
            for at in 0..libraries.len() {
                load(server, libraries[(at + first) % libraries.len()], 1);
            }
        }
        assert_equal(&nodes);
        load(&nodes[1], "l", 2);
        let text = said(&nodes);
        assert!(
            text.contains("library \"l\" has different code on A, C than on B")
                || text.contains("library \"l\" has different code on C, A than on B"),
            "{version}: {text}"
        );
        assert_eq!(names(&found(&nodes)), [nodes[1].id()], "{version}");
        nodes[2].cmd(&["FUNCTION", "DELETE", "m"]);
        load(&nodes[0], "q", 1);
        let text = said(&nodes);
        assert!(text.contains("library \"m\" is missing on C"), "{text}");
        assert!(text.contains("library \"q\" is only on A"), "{text}");
        for server in nodes.iter() {
            server.cmd(&["FUNCTION", "FLUSH", "SYNC"]);
        }
        assert_equal(&nodes);
    }
}

#[test]
fn check_says_it_in_every_format_and_ends_with_0() {
    let nodes = masters(3, "redis-7.0");
    let addr = nodes[0].addr();
    load(&nodes[0], "l", 1);
    let run = |format: &str| check(&addr).args(["--output", format]).run();
    check(&addr).arg("--strict").run().status(1);
    run("table").status(0).stdout_has("functions-differ");
    run("classic")
        .status(0)
        .stdout_has("[WARNING] function libraries differ between masters")
        .stdout_has("library \"l\" is only on ");
    run("nagios").status(1).stdout_has("warnings=2");
    run("prometheus")
        .status(0)
        .stdout_has("redis_trib_findings{code=\"functions-differ\",severity=\"warning\"} 1\n");
    Trib::new()
        .args(["--cluster", "check", &addr])
        .run()
        .status(0)
        .stdout_has("function libraries differ")
        .stderr_empty();
    load(&nodes[1], "l", 1);
    load(&nodes[2], "l", 1);
    Trib::new()
        .args(["--cluster", "check", &addr])
        .run()
        .status(0)
        .stdout_lacks("function");
}

#[test]
fn a_replica_that_differs_is_no_finding() {
    let nodes = Nodes::each(4, |i| apart(i).quick());
    nodes.form(3);
    nodes[3].cmd(&["CONFIG", "SET", "replica-read-only", "no"]);
    load(&nodes[3], "l", 1);
    assert_equal(&nodes);
}

#[test]
fn masters_that_do_not_tell_are_left_out() {
    let nodes = masters(3, "redis-7.0");
    for server in nodes.iter() {
        let rules = ["on", ">pw", "+@all", "-function", "~*", "&*"];
        server.cmd(&[&["ACL", "SETUSER", "limited"][..], &rules].concat());
    }
    load(&nodes[0], "l", 1);
    load(&nodes[1], "l", 2);
    load(&nodes[2], "l", 2);
    let login = ["--user", "limited", "--pass", "pw"];
    let json = check_json(&nodes[0].addr()).args(login).run().status(0);
    assert!(!codes(&json.json()).contains(&DIFFER));
    reshard(&nodes[0])
        .args([
            "--slots",
            "1",
            "--from",
            &nodes[0].id(),
            "--to",
            &nodes[1].id(),
        ])
        .args(["--dry-run"])
        .args(login)
        .run()
        .status(0)
        .stderr_lacks("function");
    // One that does not tell does not hide the difference between the others.
    nodes[2].cmd(&["ACL", "SETUSER", "default", "-function|list"]);
    let text = said(&nodes);
    let either = ["on A than on B (", "on B than on A ("];
    assert!(either.iter().any(|words| text.contains(words)), "{text}");
}

/// The warnings in the plan of a dry run, with names instead of addresses.
#[track_caller]
fn warnings(nodes: &[Server], trib: Trib) -> String {
    let run = trib.args(["--dry-run", "--output", "json"]).run().status(0);
    let lines = run.json_lines();
    let plan = lines.iter().find_map(|line| line["warnings"].as_array());
    let warnings = plan.unwrap_or_else(|| panic!("no warnings: {}", run.stdout));
    let texts: Vec<&str> = warnings.iter().map(|one| one.as_str().unwrap()).collect();
    named(nodes, &texts.join("\n"))
}

fn some_slots(nodes: &[Server], from: usize, to: usize) -> Trib {
    let (from, to) = (nodes[from].id(), nodes[to].id());
    reshard(&nodes[0]).args(["--slots", "5", "--from", &from, "--to", &to])
}

#[test]
fn matrix_plans_of_moves_say_what_slots_leave_behind() {
    for version in versions() {
        if *version == "redis-6.2" {
            continue;
        }
        let nodes = masters(3, version);
        let copies = ["redis-8.6", "redis-8.10"].contains(version);
        assert!(!warnings(&nodes, some_slots(&nodes, 0, 1)).contains("function"));
        load(&nodes[0], "l", 1);
        let missing = warnings(&nodes, some_slots(&nodes, 0, 1));
        assert_eq!(
            missing.contains("library \"l\" is missing on B"),
            !copies,
            "{version}: {missing}"
        );
        let by_key = some_slots(&nodes, 0, 1).args(["--strategy", "keys"]);
        let by_key = warnings(&nodes, by_key);
        assert!(by_key.contains("library \"l\" is missing on B"), "{by_key}");
        load(&nodes[1], "l", 2);
        let other = warnings(&nodes, some_slots(&nodes, 0, 1));
        assert!(
            other.contains("library \"l\" has different code"),
            "{other}"
        );
        assert_eq!(
            other.contains("replace those of the target"),
            copies,
            "{other}"
        );
        // Two that are equal, in a cluster whose third master differs.
        load(&nodes[1], "l", 1);
        assert!(!warnings(&nodes, some_slots(&nodes, 0, 1)).contains("function"));
    }
}

#[test]
fn every_plan_of_moves_says_it() {
    let nodes = masters(4, "redis-7.0");
    let addr = nodes[0].addr();
    load(&nodes[3], "l", 1);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("plan.json");
    let file = file.to_str().unwrap();
    let plan = some_slots(&nodes, 3, 1).args(["--plan-out", file]);
    assert!(warnings(&nodes, plan).contains("library \"l\" is missing on B"));
    let text = "slots move without them: library \"l\" is ";
    for command in [
        &["apply", file, &addr][..],
        &[
            "rebalance",
            &addr,
            "--weight",
            &format!("{}=0", nodes[3].id()),
        ],
        &["del-node", &addr, &nodes[3].id(), "--drain"],
    ] {
        Trib::new()
            .args(command)
            .arg("--dry-run")
            .run()
            .status(0)
            .stderr_has(text);
    }
}

/// Nodes that are members, and a new one.
fn with_new(version: &str) -> (Nodes, Nodes) {
    let spec = Spec::new().quick().version(version);
    let nodes = Nodes::with(3, &spec);
    nodes.form(3);
    (nodes, Nodes::with(1, &spec))
}

#[test]
fn a_new_master_gets_the_functions_of_the_majority() {
    let (nodes, new) = with_new("redis-7.0");
    load(&nodes[0], "l", 1);
    load(&nodes[1], "l", 2);
    load(&nodes[2], "l", 2);
    let add = || Trib::new().args(["add-node", &new[0].addr(), &nodes[0].addr()]);
    let said = warnings(&nodes, add());
    assert!(said.contains("library \"l\" has different code"), "{said}");
    assert!(
        said.ends_with("New masters get those of B")
            || said.ends_with("New masters get those of C"),
        "{said}"
    );
    // A replica gets those of its master.
    let replica = add().args(["--replica"]);
    assert!(!warnings(&nodes, replica).contains("function"));
    add()
        .arg("--yes")
        .run()
        .status(0)
        .stdout_has("New masters get those of ");
    assert_eq!(new[0].text(&["FCALL", "f_l", "0"]), "2");
}

#[test]
fn a_master_without_slots_is_replaced_with_the_functions_of_the_majority() {
    let (nodes, new) = with_new("redis-7.0");
    Trib::new()
        .args(["add-node", &new[0].addr(), &nodes[0].addr(), "--yes"])
        .run()
        .status(0);
    load(&nodes[0], "l", 1);
    let other = Spec::new().quick().start();
    Trib::new()
        .args([
            "replace-node",
            &nodes[0].addr(),
            &new[0].id(),
            &other.addr(),
        ])
        .arg("--dry-run")
        .run()
        .status(0)
        .stderr_has("New masters get those of ");
}

/// A backup of a cluster with these libraries on its two masters.
fn backup(libraries: [&[(&str, u32)]; 2]) -> (TempDir, PathBuf, Finished) {
    let nodes = masters(2, "redis-7.0");
    for (server, libraries) in nodes.iter().zip(libraries) {
        for (library, result) in libraries {
            load(server, library, *result);
        }
        // One of these is of a slot of the first master, the other of the second.
        let _ = server.try_cmd(&["SET", "a", "1"]);
        let _ = server.try_cmd(&["SET", "b", "1"]);
    }
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("backup");
    let run = Trib::new()
        .args(["backup", &nodes[0].addr(), path.to_str().unwrap()])
        .run()
        .status(0);
    (home, path, run)
}

fn restore(path: &Path, nodes: &[Server]) -> Trib {
    Trib::new().args(["restore", path.to_str().unwrap(), &nodes[0].addr(), "--yes"])
}

/// Neither keys nor functions.
#[track_caller]
fn assert_untouched(nodes: &[Server], libraries: &[u64]) {
    for (server, count) in nodes.iter().zip(libraries) {
        assert_eq!(server.text(&["DBSIZE"]), "0");
        let info = server.text(&["INFO", "memory"]);
        assert!(
            info.contains(&format!("number_of_libraries:{count}\r\n")),
            "{info}"
        );
    }
}

#[test]
fn a_backup_with_two_codes_of_a_library_is_refused_before_anything_is_written() {
    let (_home, path, run) = backup([&[("l", 1), ("m", 1)], &[("m", 1), ("l", 2)]]);
    run.stderr_has("library \"l\" has different code on ");
    let nodes = masters(3, "redis-7.0");
    for option in [
        &["--dry-run"][..],
        &[],
        &["--on-conflict", "skip"],
        &["--on-conflict", "replace"],
    ] {
        restore(&path, &nodes)
            .args(option)
            .run()
            .status(3)
            .stderr_has("library \"l\" has different code on ")
            .stderr_lacks("\"m\"")
            .stderr_has("Nothing was changed");
        assert_untouched(&nodes, &[0, 0, 0]);
    }
    restore(&path, &nodes)
        .args(["--output", "json"])
        .run()
        .status(3)
        .stdout_has("library \\\"l\\\" has different code on ");
    // The way out that the refusal names.
    for server in nodes.iter() {
        load(server, "l", 2);
    }
    restore(&path, &nodes).run().status(3);
    restore(&path, &nodes)
        .args(["--on-conflict", "skip"])
        .run()
        .status(1)
        .stderr_has("the cluster keeps its own")
        .stdout_has("2 keys restored");
    for server in nodes.iter() {
        assert_eq!(server.text(&["FCALL", "f_l", "0"]), "2");
        assert_eq!(server.text(&["FCALL", "f_m", "0"]), "1");
    }
}

#[test]
fn other_code_in_the_cluster_is_refused_before_anything_is_written() {
    let (_home, path, run) = backup([&[("l", 1)], &[("l", 1)]]);
    run.stderr_lacks("function");
    let nodes = masters(3, "redis-7.0");
    load(&nodes[2], "l", 2);
    for option in [&["--dry-run"][..], &[]] {
        restore(&path, &nodes)
            .args(option)
            .run()
            .status(3)
            .stderr_has("functions of the backup are in the cluster with other code: library \"l\"")
            .stderr_has(&nodes[2].addr())
            .stderr_has("--on-existing-key skip");
        assert_untouched(&nodes, &[0, 0, 1]);
    }
    // Kept, and not loaded on the others: the masters would differ.
    restore(&path, &nodes)
        .args(["--on-conflict", "skip"])
        .run()
        .status(1)
        .stdout_has("has it with other code");
    assert_eq!(nodes[2].text(&["FCALL", "f_l", "0"]), "2");
    let info = nodes[0].text(&["INFO", "memory"]);
    assert!(info.contains("number_of_libraries:0\r\n"), "{info}");
    restore(&path, &nodes)
        .args(["--on-conflict", "replace"])
        .run()
        .status(0)
        .stderr_has("they are overwritten")
        .stdout_has("1 function library on every master");
    for server in nodes.iter() {
        assert_eq!(server.text(&["FCALL", "f_l", "0"]), "1");
    }
}

/// A renamed library, half rolled out.
#[test]
fn a_function_of_two_libraries_is_refused_before_anything_is_written() {
    let named = |library: &str| code(library, 1).replace(&format!("f_{library}"), "f");
    let source = masters(2, "redis-7.0");
    source[0].cmd(&["FUNCTION", "LOAD", &named("a")]);
    source[1].cmd(&["FUNCTION", "LOAD", &named("b")]);
    for key in ["a", "b"] {
        source
            .iter()
            .for_each(|server| drop(server.try_cmd(&["SET", key, "1"])));
    }
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("backup");
    Trib::new()
        .args(["backup", &source[0].addr(), path.to_str().unwrap()])
        .run()
        .status(0);
    let nodes = masters(3, "redis-7.0");
    for option in [&[][..], &["--on-conflict", "replace"]] {
        restore(&path, &nodes)
            .args(option)
            .run()
            .status(3)
            .stderr_has("\"f\" in library \"a\", library \"b\"")
            .stderr_has("Nothing was changed");
        assert_untouched(&nodes, &[0, 0, 0]);
    }
    // The way out that the refusal names.
    for server in nodes.iter() {
        server.cmd(&["FUNCTION", "LOAD", &named("b")]);
    }
    restore(&path, &nodes)
        .run()
        .status(3)
        .stderr_has("in library");
    restore(&path, &nodes)
        .args(["--on-conflict", "skip"])
        .run()
        .status(1)
        .stdout_has("2 keys restored")
        .stdout_has("Function f already exists");
    for server in nodes.iter() {
        assert_eq!(server.text(&["FCALL", "f", "0"]), "1");
        let info = server.text(&["INFO", "memory"]);
        assert!(info.contains("number_of_libraries:1\r\n"), "{info}");
    }
}

#[test]
fn a_library_of_one_master_goes_to_all() {
    let (_home, path, run) = backup([&[("l", 1)], &[]]);
    run.stderr_lacks("function");
    let nodes = masters(2, "redis-7.0");
    // On one of them already, the same.
    load(&nodes[0], "l", 1);
    restore(&path, &nodes)
        .run()
        .status(0)
        .stdout_has("1 function library on every master");
    until("replies of both", PATIENCE, || {
        let results: Vec<String> = nodes
            .iter()
            .map(|server| server.text(&["FCALL", "f_l", "0"]))
            .collect();
        if results == ["1", "1"] {
            Ok(())
        } else {
            Err(format!("{results:?}"))
        }
    });
}

#[test]
fn functions_that_an_import_has_loaded_are_compared_as_they_are() {
    let version = "redis-7.0";
    let source = Spec::new().plain().version(version).start();
    source.cmd(&["SET", "key", "value"]);
    load(&source, "mylib", 1);
    source.cmd(&["SAVE"]);
    let file = source.dir().join("dump.rdb").to_str().unwrap().to_string();
    for from in [source.addr(), file] {
        let nodes = masters(2, version);
        let node = nodes[0].addr();
        let run = |args: &[&str]| {
            let line = ["import", "--from", &from, &node, "--yes", "--verify"];
            Trib::new().args(line).args(args.iter().copied()).run()
        };
        let first = run(&[]).status(0).stdout_has("1 key the same");
        assert!(!first.stdout.contains("differ"), "{}", first.stdout);
        assert!(!first.stderr.contains("differ"), "{}", first.stderr);
        load(&nodes[1], "mylib", 2);
        let said = run(&["--on-existing-key", "skip"]).status(1);
        let said = format!("{}{}", said.stdout, said.stderr);
        assert!(said.contains("\"mylib\" has other code on"), "{said}");
    }
}
