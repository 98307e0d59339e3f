//! `import`: what is missing is noticed before anything is copied, and functions are copied, too.

use crate::support::cluster::{Nodes, three};
use crate::support::command::{Finished, Trib};
use crate::support::dataset;
use crate::support::server::{Server, Spec, versions};
use crate::support::wait::{PATIENCE, until};

fn filled(spec: &Spec) -> Server {
    let source = spec.start();
    for n in 0..20 {
        source.cmd(&["SET", &format!("key:{n}"), "value"]);
    }
    source
}

fn import(source: &Server, nodes: &Nodes, args: &[&str]) -> Finished {
    let (from, node) = (source.addr(), nodes[0].addr());
    let line = ["import", "--from", &from, &node, "--yes"];
    Trib::new().args(line).args(args.iter().copied()).run()
}

#[test]
fn missing_rights_are_noticed_before_the_first_key_in_the_matrix() {
    for version in versions() {
        let plain = || Spec::new().plain().version(version);
        // Servers before 7.0 do not start with rules for commands that they do not have.
        let (reads, loads) = match *version {
            "redis-6.2" => ("", ""),
            _ => (
                " +pexpiretime +function|list",
                " -function|load -function|restore",
            ),
        };
        let reads = format!("~* +info +scan +dump +pttl +select{reads}");
        let source = filled(&plain().user("reader", "r", &reads).user(
            "lister",
            "l",
            "~* +info +scan",
        ));
        let all = "~* +@all";
        let nodes = three(
            &Spec::new()
                .quick()
                .version(version)
                .user("ann", "a", &format!("{all} -restore"))
                .user("bob", "b", &format!("{all}{loads}")),
        );
        let is_empty = || assert_eq!(dataset::digest(&nodes).len(), 0, "{version}");
        for option in ["--dry-run", "--yes"] {
            import(
                &source,
                &nodes,
                &["--from-user", "lister", "--from-pass", "l", option],
            )
            .status(3)
            .stderr_has("ACL SETUSER lister +dump");
            import(
                &source,
                &nodes,
                &[
                    "--from-user",
                    "reader",
                    "--from-pass",
                    "r",
                    "--move",
                    option,
                ],
            )
            .status(3)
            .stderr_has("ACL SETUSER reader")
            .stderr_has("+unlink");
            import(&source, &nodes, &["--user", "ann", "--pass", "a", option])
                .status(3)
                .stderr_has("ACL SETUSER ann +restore");
            is_empty();
        }
        if source
            .text(&["INFO", "memory"])
            .contains("number_of_libraries")
        {
            let code = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";
            source.cmd(&["FUNCTION", "LOAD", code]);
            import(&source, &nodes, &["--user", "bob", "--pass", "b"])
                .status(3)
                .stderr_has("+function|load");
            is_empty();
        }
        import(
            &source,
            &nodes,
            &["--from-user", "reader", "--from-pass", "r"],
        )
        .status(0)
        .stdout_has("[OK] 20 keys copied");
    }
}

#[test]
fn a_user_for_some_keys_may_copy_these() {
    let rules = "~key:1* +info +scan +dump +pttl +pexpiretime +multi +exec +discard +watch +unwatch +unlink";
    let source = filled(&Spec::new().plain().user("some", "s", rules));
    let nodes = three(&Spec::new().quick());
    let login = [
        "--from-user",
        "some",
        "--from-pass",
        "s",
        "--pattern",
        "key:1*",
    ];
    import(&source, &nodes, &[&login[..], &["--move"]].concat())
        .status(0)
        .stdout_has("[OK] 11 keys moved");
    assert_eq!(source.text(&["DBSIZE"]), "9");
}

#[test]
fn a_replica_that_was_never_in_sync_is_refused() {
    let nodes = three(&Spec::new().quick());
    for version in versions() {
        let source = Spec::new().plain().version(version).start();
        // Nobody listens there.
        source.cmd(&["REPLICAOF", "127.0.0.1", "1"]);
        until("the link to be down", PATIENCE, || {
            let info = source.text(&["INFO", "replication"]);
            match info.contains("master_link_status:down") {
                true => Ok(()),
                false => Err(info),
            }
        });
        let (from, node) = (source.addr(), nodes[0].addr());
        for args in [
            &["import", "--yes"][..],
            &["import", "--dry-run"],
            &["verify"],
        ] {
            Trib::new()
                .args(args.iter().copied())
                .args(["--from", &from, &node])
                .run()
                .status(3)
                .stderr_has("is a replica without keys")
                .stderr_has("name the master");
        }
    }
}

/// Loads a library whose code depends on `result`.
fn load(server: &Server, library: &str, result: u32) {
    let code = format!(
        "#!lua name={library}\nredis.register_function('f_{library}', function() return {result} end)"
    );
    server.cmd(&["FUNCTION", "LOAD", "REPLACE", &code]);
}

#[test]
fn functions_of_a_server_are_announced_and_loaded_on_all_masters() {
    let source = filled(&Spec::new().plain());
    load(&source, "l", 1);
    load(&source, "m", 1);
    let nodes = three(&Spec::new().quick());
    let announced = "2 function libraries are loaded on all masters: l, m.";
    import(&source, &nodes, &["--dry-run"])
        .status(0)
        .stdout_has(announced);
    assert!(
        nodes[0]
            .text(&["INFO", "memory"])
            .contains("number_of_libraries:0\r\n")
    );
    // Until then they differ, which is no fault of keys.
    let verify = || {
        let (from, node) = (source.addr(), nodes[0].addr());
        Trib::new().args(["verify", "--from", &from, &node]).run()
    };
    import(&source, &nodes, &["--verify"])
        .status(0)
        .stdout_has(announced)
        .stdout_has("2 function libraries on every master")
        .stdout_has("[OK] 20 keys the same");
    for node in nodes.iter() {
        assert_eq!(node.text(&["FCALL", "f_m", "0"]), "1");
    }
    verify().status(0).stdout_lacks("Functions differ");
    // Other code is kept, unless the user says otherwise.
    load(&source, "m", 2);
    import(&source, &nodes, &["--on-existing-key", "abort"])
        .status(3)
        .stderr_has("functions of the source are in the cluster with other code: library \"m\"");
    import(&source, &nodes, &[])
        .status(1)
        .stderr_has("the cluster keeps its own");
    assert_eq!(nodes[1].text(&["FCALL", "f_m", "0"]), "1");
    let run = verify().status(0);
    run.stdout_has("Functions differ: library \"m\" has other code on ");
    import(&source, &nodes, &["--replace"]).status(0);
    for node in nodes.iter() {
        assert_eq!(node.text(&["FCALL", "f_m", "0"]), "2");
    }
    // Those of a file.
    source.cmd(&["SAVE"]);
    let file = source.dir().join("dump.rdb");
    let (file, node) = (file.to_str().unwrap(), nodes[0].addr());
    nodes[2].cmd(&["FUNCTION", "DELETE", "l"]);
    let compared = Trib::new().args(["verify", "--from", file, &node]).run();
    compared
        .status(0)
        .stdout_has("Functions differ: library \"l\" is missing on ")
        .stdout_has(&nodes[2].addr());
    Trib::new()
        .args(["import", "--from", file, &node, "--yes"])
        .run()
        .status(0)
        .stdout_has(announced);
    assert_eq!(nodes[2].text(&["FCALL", "f_l", "0"]), "1");
}

#[test]
fn functions_of_a_cluster_that_differ_are_refused() {
    let source = three(&Spec::new().quick());
    load(&source[0], "l", 1);
    load(&source[1], "l", 2);
    let nodes = three(&Spec::new().quick());
    import(&source[0], &nodes, &[])
        .status(3)
        .stderr_has("masters of the source have different functions");
    load(&source[1], "l", 1);
    import(&source[0], &nodes, &[]).status(0);
    assert_eq!(nodes[2].text(&["FCALL", "f_l", "0"]), "1");
}

const LIBRARY: &str = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";

/// Keys that are there are compared: a second run needs the rights to that, and is told before it begins.
#[test]
fn rights_to_compare_are_noticed_in_the_matrix() {
    for version in versions() {
        let rules = "~* +@all -dump -pttl";
        let spec = Spec::new().quick().version(version);
        let nodes = three(
            &spec
                .user("writer", "w", rules)
                .user("some", "s", "~key:1* +@all -acl"),
        );
        let source = filled(&Spec::new().plain().version(version).user(
            "reader",
            "r",
            "~* +@all -pttl",
        ));
        let writer = ["--user", "writer", "--pass", "w"];
        let lacking = "ACL SETUSER writer +dump +pttl";
        let run = |more: &[&str]| import(&source, &nodes, &[&writer[..], more].concat());
        run(&[]).status(3).stderr_has(lacking);
        assert_eq!(dataset::digest(&nodes).len(), 0, "{version}");
        run(&["--replace", "--verify"])
            .status(3)
            .stderr_has(lacking);
        assert_eq!(dataset::digest(&nodes).len(), 0, "{version}");
        run(&["--replace"]).status(0).stdout_has("20 keys copied");
        let (from, node) = (source.addr(), nodes[0].addr());
        let verify = ["verify", "--from", &from, &node];
        let verified = Trib::new().args(verify).args(writer).run();
        verified.status(3).stderr_has(lacking);
        let reader = ["--from-user", "reader", "--from-pass", "r"];
        let verified = Trib::new().args(verify).args(reader).run();
        verified.status(3).stderr_has("ACL SETUSER reader +pttl");
        import(&source, &nodes, &[&reader[..], &["--verify"]].concat())
            .status(3)
            .stderr_has("ACL SETUSER reader +pttl");
        // Of one file, too.
        source.cmd(&["SAVE"]);
        let file = source.dir().join("dump.rdb");
        let file = file.to_str().unwrap();
        for args in [&["import", "--yes"][..], &["verify"]] {
            Trib::new()
                .args(args.iter().copied())
                .args(["--from", file, &node])
                .args(writer)
                .run()
                .status(3)
                .stderr_has(lacking);
        }
        // Denied keys are failures of these keys, whether the command goes by RESTORE or by SET.
        for node in nodes.iter() {
            node.cmd(&["FLUSHALL"]);
        }
        let some = ["--user", "some", "--pass", "s"];
        import(&source, &nodes, &some)
            .status(1)
            .stdout_has("11 keys copied")
            .stdout_has("the user may not use a key of RESTORE");
        Trib::new()
            .args(["import", "--from", file, &node, "--yes", "--replace"])
            .args(some)
            .run()
            .status(1)
            .stdout_has("11 keys copied")
            .stdout_has("the user may not use a key of RESTORE");
        assert_eq!(dataset::digest(&nodes).len(), 11, "{version}");
    }
}

#[test]
fn functions_that_can_not_be_compared_are_noticed() {
    let rules = "~* +@all -function +function|load";
    let nodes = three(&Spec::new().quick().user("loader", "l", rules));
    let source = filled(&Spec::new().plain());
    source.cmd(&["FUNCTION", "LOAD", LIBRARY]);
    let loader = ["--user", "loader", "--pass", "l"];
    import(&source, &nodes, &loader)
        .status(3)
        .stderr_has("ACL SETUSER loader +function|list");
    assert_eq!(dataset::digest(&nodes).len(), 0);
    import(&source, &nodes, &[&loader[..], &["--replace"]].concat()).status(0);
    // The functions on standard input are not known beforehand.
    source.cmd(&["SAVE"]);
    let file = std::fs::read(source.dir().join("dump.rdb")).unwrap();
    let node = nodes[0].addr();
    Trib::new()
        .args(["import", "--from", "-", &node, "--yes"])
        .args(loader)
        .stdin(&file)
        .run()
        .status(1)
        .stdout_has("it is not known whether its code is the same")
        .stdout_lacks("(differs)");
}

/// The user of the source may read some keys, and no pattern says so.
#[test]
fn a_denied_key_at_the_source_stops_with_its_cause() {
    let rules = "~other:* +@all";
    let source = filled(&Spec::new().plain().user("some", "s", rules));
    let nodes = three(&Spec::new().quick());
    import(
        &source,
        &nodes,
        &["--from-user", "some", "--from-pass", "s"],
    )
    .status(6)
    .stderr_has("the user may not use a key of ")
    .stderr_has("Once the user has this right, the same command continues.")
    .stdout_lacks("To resume")
    .stderr_lacks("To resume");
}

#[test]
fn a_user_that_may_not_end_transactions_can_not_move_keys_in_the_matrix() {
    let rules = "-@all +info +ping +dump +pttl +hello +client +select +time +scan +watch +unwatch +multi +unlink ~*";
    for version in versions() {
        let rules = match *version {
            "redis-6.2" => rules.to_string(),
            _ => format!("{rules} +pexpiretime"),
        };
        let plain = Spec::new().plain().version(version);
        let source = filled(&plain.user("mover", "m", &rules));
        let nodes = three(&Spec::new().quick().version(version));
        let login = ["--from-user", "mover", "--from-pass", "m"];
        import(&source, &nodes, &[&login[..], &["--move"]].concat())
            .status(3)
            .stderr_has("ACL SETUSER mover +exec");
        assert_eq!(dataset::digest(&nodes).len(), 0, "{version}");
        import(&source, &nodes, &login)
            .status(0)
            .stdout_has("[OK] 20 keys copied");
    }
}
