//! The old spellings of what is done to members: the same command line on redis-cli and on us.

use crate::support::cluster::Nodes;
use crate::support::command::{Ended, Trib};
use crate::support::server::{Server, Spec};
use crate::support::subcommands::{has_redis_cli, redis_cli};
use crate::support::wait::{PATIENCE, until};

/// Three masters, and two nodes that are in no cluster.
fn with_newcomers() -> Nodes {
    let nodes = Nodes::quick(6);
    for (index, slots) in [0..=5460, 5461..=10_922, 10_923..=16_383]
        .into_iter()
        .enumerate()
    {
        nodes.assign(index, slots);
        nodes[index].cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
    }
    nodes.meet(0, 1);
    nodes.meet(1, 2);
    for index in 0..3 {
        until("cluster_state:ok", PATIENCE, || {
            match nodes[index].field("cluster_state") {
                Some(state) if state == "ok" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    nodes
}

#[test]
fn add_node_as_redis_cli_does() {
    if !has_redis_cli() {
        return;
    }
    for (nodes, peer) in [(with_newcomers(), true), (with_newcomers(), false)] {
        let program = || if peer { redis_cli() } else { Trib::new() };
        let master = nodes[1].id();
        // There is no prompt.
        let said = program()
            .args(["--cluster", "add-node", &nodes[3].addr(), &nodes[0].addr()])
            .run()
            .status(0)
            .stdout_has("[OK] New node added correctly.");
        if !peer {
            said.stderr_empty();
        }
        if peer {
            // It returns before the others know the node, and then refuses to go on.
            until("all to agree", PATIENCE, || {
                let check = redis_cli().args(["--cluster", "check", &nodes[3].addr()]);
                let said = check.run();
                match said.stdout.contains("using node") && said.status == Ended::Status(0) {
                    true => Ok(()),
                    false => Err(said.stdout),
                }
            });
        }
        let said = program()
            .args(["--cluster", "add-node", &nodes[4].addr(), &nodes[0].addr()])
            .args(["--cluster-slave", "--cluster-master-id", &master])
            .run()
            .status(0)
            .stdout_has("[OK] New node added correctly.");
        if !peer {
            said.stderr_empty();
            let check = Trib::new().args(["--cluster", "check", &nodes[4].addr()]);
            check.run().status(0).stderr_empty();
        }
        let wanted = format!("slave {master}");
        until("the replica", PATIENCE, || {
            let text = nodes[4].nodes_text();
            let myself = text
                .lines()
                .find(|line| line.contains("myself"))
                .unwrap_or_default();
            match myself.replace("myself,", "").contains(&wanted) {
                true => Ok(()),
                false => Err(text),
            }
        });
        // The master with the fewest replicas, which has none: not the one with the replica.
        let said = program()
            .args(["--cluster", "add-node", &nodes[5].addr(), &nodes[0].addr()])
            .args(["--cluster-slave"])
            .run()
            .status(0);
        let chosen = said.stdout.lines().find_map(|line| {
            let addr = line.strip_prefix("Automatically selected master ")?;
            Some(addr.to_string())
        });
        assert!(
            chosen.is_some_and(|addr| addr != nodes[1].addr()),
            "{}",
            said.stdout
        );
        // Both programs refuse a node that is already a member.
        program()
            .args(["--cluster", "add-node", &nodes[3].addr(), &nodes[0].addr()])
            .run()
            .status(1);
    }
}

#[test]
fn call_and_set_timeout_as_redis_cli_does() {
    if !has_redis_cli() {
        return;
    }
    let nodes = Nodes::with(4, &Spec::new());
    nodes.form(3);
    let addr = nodes[0].addr();
    for peer in [true, false] {
        let program = || if peer { redis_cli() } else { Trib::new() };
        // CONFIG is dangerous, says the server; redis-cli sends it.
        let value = if peer { "1000001" } else { "1000002" };
        let said = program()
            .args([
                "--cluster",
                "call",
                &addr,
                "config",
                "set",
                "maxmemory",
                value,
            ])
            .arg("--cluster-only-masters")
            .run()
            .status(0)
            .stdout_has(">>> Calling ");
        if !peer {
            said.stderr_empty();
        }
        for index in 0..4 {
            let has = format!("{:?}", nodes[index].cmd(&["CONFIG", "GET", "maxmemory"]));
            assert_eq!(has.contains(value), index < 3, "{index}: {has}");
        }
        let timeout = if peer { "12345" } else { "12346" };
        let said = program()
            .args(["--cluster", "set-timeout", &addr, timeout])
            .run();
        // The servers of the bench have no configuration file to write it to. Both programs report
        // that, and do not fail.
        said.status(0)
            .stdout_has(">>> Reconfiguring node timeout in every cluster node...");
        for server in nodes.iter() {
            let has = format!(
                "{:?}",
                server.cmd(&["CONFIG", "GET", "cluster-node-timeout"])
            );
            assert!(has.contains(timeout), "{has}");
        }
        program()
            .args(["--cluster", "set-timeout", &addr, "5"])
            .run()
            .status(1);
    }
    // The last word from standard input, byte for byte (-x), or one in the middle (-X).
    for peer in [true, false] {
        let program = || if peer { redis_cli() } else { Trib::new() };
        program()
            .args(["-x", "--cluster", "call", &addr, "echo"])
            .stdin("fed\n")
            .run()
            .status(0)
            .stdout_has("fed");
        program()
            .args(["-X", "T", "--cluster", "call", &addr])
            .args(["object", "T", "key"])
            .stdin("freq")
            .run()
            .stdout_has("MOVED");
    }
    Trib::new()
        .args(["call", "--stdin-for", "T", &addr, "ECHO", "U"])
        .stdin("fed")
        .run()
        .status(2)
        .stderr_has("--stdin-for T");
    Trib::new()
        .called("redis-trib.rb")
        .args(["call", &addr, "set", "--verbose", "1"])
        .run()
        // The key is on one of the nodes, and the others redirect to it.
        .status(1)
        .stdout_has("MOVED");
}

#[test]
fn backup_as_redis_cli_does() {
    if !has_redis_cli() {
        return;
    }
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let folder = tempfile::tempdir().unwrap();
    for peer in [true, false] {
        let program = if peer { redis_cli() } else { Trib::new() };
        let dir = folder.path().join(if peer { "theirs" } else { "ours" });
        std::fs::create_dir(&dir).unwrap();
        let said = program
            .args(["--cluster", "backup", &nodes[0].addr()])
            .arg(dir.to_str().unwrap())
            .run()
            .status(0);
        if !peer {
            said.stderr_empty();
        }
        let files = std::fs::read_dir(&dir).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let rdb = names.filter(|name| name.ends_with(".rdb")).count();
        assert_eq!(rdb, 3, "{dir:?}");
    }
}

#[test]
fn import_as_redis_cli_does() {
    if !has_redis_cli() {
        return;
    }
    for peer in [true, false] {
        let program = || if peer { redis_cli() } else { Trib::new() };
        let nodes = Nodes::quick(3);
        nodes.form(3);
        let source = Spec::new().plain().start();
        for n in 0..200 {
            source.cmd(&["SET", &format!("key:{n}"), "value"]);
        }
        source.cmd(&["HSET", "hash", "field", "value"]);
        let import = |flags: &[&str]| {
            program()
                .args(["--cluster", "import", &nodes[0].addr()])
                .args(["--cluster-from", &source.addr()])
                .args(flags)
                .run()
        };
        let keys = || -> usize {
            let sizes = nodes
                .iter()
                .map(|node| format!("{:?}", node.cmd(&["DBSIZE"])));
            let digits = |size: String| size.chars().filter(char::is_ascii_digit).collect();
            sizes
                .map(digits)
                .map(|size: String| size.parse::<usize>().unwrap())
                .sum()
        };
        // There is no prompt. With --cluster-copy the source keeps its keys.
        let copied = import(&["--cluster-copy"]).status(0);
        if !peer {
            copied.stderr_empty();
        }
        assert_eq!(keys(), 201);
        assert_eq!(source.cmd(&["DBSIZE"]), redis::Value::Int(201));
        // Without it they are gone there.
        import(&["--cluster-replace"]).status(0);
        assert_eq!(keys(), 201);
        assert_eq!(source.cmd(&["DBSIZE"]), redis::Value::Int(0));
        // A key that is there already, with another value, is not overwritten.
        source.cmd(&["SET", "key:7", "another"]);
        import(&["--cluster-copy"]);
        assert_eq!(keys(), 201);
        assert_eq!(source.cmd(&["DBSIZE"]), redis::Value::Int(1));
    }
}

/// `import` of these modes deletes keys at the source without a question.
#[test]
fn a_cluster_is_no_source_in_the_old_modes() {
    let (to, from) = (Spec::new().quick().start(), Spec::new().quick().start());
    for server in [&to, &from] {
        server.cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        until("cluster_state:ok", PATIENCE, || {
            match server.field("cluster_state") {
                Some(state) if state == "ok" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    from.cmd(&["SET", "a", "1"]);
    let (addr, source) = (to.addr(), from.addr());
    let redis_cli = ["--cluster", "import", &addr, "--cluster-from", &source];
    let ruby = ["import", "--from", &source, &addr];
    for (name, line, copy) in [
        ("redis-trib", &redis_cli[..], "--cluster-copy"),
        ("valkey-cli", &redis_cli[..], "--cluster-copy"),
        ("redis-trib.rb", &ruby[..], "--copy"),
    ] {
        for flag in [None, Some(copy)] {
            Trib::new()
                .called(name)
                .args(line)
                .args(flag)
                .run()
                .status(1)
                .stderr_has("[ERR] The source node should not be a cluster node.\n")
                .stderr_has("`redis-trib import` copies from clusters");
        }
    }
    let size = |server: &Server| server.cmd(&["DBSIZE"]);
    assert_eq!(size(&from), redis::Value::Int(1));
    assert_eq!(size(&to), redis::Value::Int(0));
    // Natively it copies.
    Trib::new()
        .args(["import", &addr, "--from", &source, "--yes"])
        .run()
        .status(0);
    assert_eq!(size(&from), redis::Value::Int(1));
    assert_eq!(size(&to), redis::Value::Int(1));
}

#[test]
fn del_node_as_the_peers_do() {
    if !has_redis_cli() {
        return;
    }
    for peer in [true, false] {
        let program = || if peer { redis_cli() } else { Trib::new() };
        let nodes = Nodes::quick(5);
        nodes.form(3);
        let (addr, replica) = (nodes[0].addr(), nodes[3].id());
        // A master with slots stays where it is.
        let master = nodes[1].id();
        program()
            .args(["--cluster", "del-node", &addr, &master])
            .run()
            .status(1);
        // A replica goes without a question, though it is its master's only one.
        let said = program()
            .args(["--cluster", "del-node", &addr, &replica])
            .run()
            .status(0);
        if !peer {
            said.stderr_empty();
        }
        assert!(!nodes[0].nodes_text().contains(&replica));
        assert_eq!(nodes[3].field("cluster_known_nodes").unwrap(), "1");
        if !peer {
            // It has left already: that is no error, and redis-trib.rb shuts it down.
            let left = nodes[3].addr();
            program()
                .args(["--cluster", "del-node", &addr, &left])
                .run()
                .status(0)
                .stdout_has(&format!(
                    "Nothing to do: {left} has left the cluster already."
                ));
            let ruby = || Trib::new().called("redis-trib.rb");
            ruby().args(["del-node", &addr, &left]).run().status(0);
            assert!(nodes[3].connection().is_err());
            // redis-trib.rb shuts down what it removes, and has its options before its arguments.
            let other = nodes[4].id();
            ruby()
                .args(["del-node", "--connect-timeout", "5s", &addr, &other])
                .run()
                .status(0)
                .stdout_has(">>> SHUTDOWN the node.\n")
                .stderr_empty();
            assert!(nodes[4].connection().is_err());
        }
    }
}
