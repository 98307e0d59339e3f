//! Each subcommand once on each server version: what `docs/servers.md` tells. What a command does in detail is tested
//! elsewhere.

use std::path::Path;

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::hooks::Hooks;
use crate::support::ran::{self, SUBCOMMANDS};
use crate::support::scripted::{Reply, fake_cluster_where};
use crate::support::server::{ALL_VERSIONS, Server, Spec, quick, versions};
use crate::support::slots::{names, owned};
use crate::support::subcommands::{check, create};
use crate::support::wait::{PATIENCE, until};

fn masters(nodes: &Nodes) -> Vec<&Server> {
    let is_owner = |server: &&Server| {
        server.field("role").as_deref() == Some("master") && !owned(server).is_empty()
    };
    nodes.iter().filter(is_owner).collect()
}

/// `redis-trib COMMAND NODE ARG…`, which ends with 0.
#[track_caller]
fn done(command: &str, node: &Server, args: &[&str]) {
    let trib = Trib::new().args([command, &node.addr()]).args(args);
    trib.run().status(0);
}

#[test]
fn every_command_on_every_version_matrix() {
    for version in versions() {
        let spec = quick().version(version);
        let nodes = Nodes::with(8, &spec);
        let [seed, .., seventh, eighth] = &nodes[..] else {
            panic!("eight nodes")
        };
        let six = nodes[..6].iter().map(Server::addr);
        create(six).args(["--replicas", "1"]).run().status(0);
        check(&seed.addr()).run().status(0);
        done("info", seed, &[]);
        done("watch", seed, &["--once", "-n", "200ms"]);
        done("where", seed, &["key", "--slot", "0"]);
        done("slots", seed, &["--by", "keys"]);
        done("drift", seed, &[]);
        done("call", seed, &["PING"]);
        done("set-timeout", seed, &["3s", "--yes"]);

        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let source = Spec::new().version(version).plain().start();
        for key in names([7, 9_000], 20) {
            source.cmd(&["SET", &key, "value"]);
        }
        done("import", seed, &["--from", &source.addr(), "--yes"]);
        done("verify", seed, &["--from", &source.addr(), "--both-ways"]);

        let owners = masters(&nodes);
        let (from, to) = (owners[0], owners[1]);
        let first = owned(from)[0].0;
        let ranges = format!("{first}-{}", first + 4);
        let moves = ["--slot-ranges", &ranges, "--to", &to.id()];
        done("reshard", seed, &[&moves[..], &["--yes"]].concat());
        let back = [
            "--slot-ranges",
            &ranges,
            "--to",
            &from.id(),
            "--dry-run",
            "--plan-out",
            &path("plan"),
        ];
        done("reshard", seed, &back);
        let apply = Trib::new().args(["apply", &path("plan"), &seed.addr(), "--yes"]);
        apply.run().status(0);
        done("rebalance", seed, &["--threshold", "0", "--yes"]);

        let slot = owned(masters(&nodes)[0])[0].0.to_string();
        let (from, to) = (masters(&nodes)[0], masters(&nodes)[1]);
        to.cmd(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from.id()]);
        from.cmd(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to.id()]);
        done("fix", seed, &["--yes"]);

        done("ok-to-stop", seed, &[&masters(&nodes)[0].id()]);
        done("ok-to-stop", seed, &["--max"]);
        done(
            "failover",
            seed,
            &["--of", &masters(&nodes)[1].id(), "--yes"],
        );
        until("all replicas to be in sync", PATIENCE, || {
            let replicas = nodes[..6]
                .iter()
                .filter(|s| s.field("role").as_deref() == Some("slave"));
            let up = replicas.filter(|s| s.field("master_link_status").as_deref() == Some("up"));
            match up.count() {
                3 => Ok(()),
                n => Err(format!("{n}")),
            }
        });
        done("place", seed, &["--yes"]);
        let hooks = Hooks::new();
        let roll = ["--only", "replicas", "--each", &hooks.command(), "--yes"];
        hooks.serve(&nodes, Server::restart, || done("roll", seed, &roll));
        let add = Trib::new().args(["add-node", &seventh.addr(), &seed.addr(), "--yes"]);
        add.run().status(0);
        let replace = [
            "replace-node",
            &seed.addr(),
            &seventh.id(),
            &eighth.addr(),
            "--yes",
        ];
        Trib::new().args(replace).run().status(0);
        done("del-node", seed, &[&eighth.id(), "--yes"]);

        Trib::new()
            .args(["backup", &seed.addr(), &path("backup")])
            .run()
            .status(0);
        for master in masters(&nodes) {
            master.cmd(&["FLUSHALL"]);
        }
        let restore = Trib::new().args(["restore", &path("backup"), &seed.addr(), "--yes"]);
        restore.run().status(0);
        let keys: i64 = masters(&nodes)
            .iter()
            .map(|master| match master.cmd(&["DBSIZE"]) {
                redis::Value::Int(keys) => keys,
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(keys, 40, "{version}");
    }
}

/// Commands that change nothing, on nodes that answer as Redis 3.2 does: without HELLO, and with its INFO.
#[test]
fn reading_commands_on_scripted_nodes_of_redis_3_2() {
    let info = |role: &str| {
        Reply::bulk(&format!(
            "redis_version:3.2.12\r\nrun_id:{}\r\nloading:0\r\nused_memory:900000\r\nrole:{role}\r\n\
             cluster_enabled:1\r\ndb0:keys=7,expires=0,avg_ttl=0\r\n",
            "1".repeat(40)
        ))
    };
    let cluster = fake_cluster_where(3, 0, |_, script| {
        script
            .on("INFO", info("master"))
            .on("HELLO", Reply::error("ERR unknown command 'HELLO'"))
            .on("DBSIZE", Reply::int(7))
    });
    for node in &cluster.nodes {
        ran::at(&node.addr(), "redis-3.2");
    }
    let addr = cluster.nodes[0].addr();
    for line in [
        vec!["check", &addr],
        vec!["info", &addr],
        vec!["call", &addr, "--allow-dangerous", "PING"],
    ] {
        Trib::new().args(line).run().status(0);
    }
    let json = check(&addr).args(["-o", "json"]).run().status(0).json();
    assert_eq!(json["nodes"][0]["version"], "3.2.12");
}

/// `docs/servers.md` is made of what the tests ran: it must not lag behind the commands and the versions.
#[test]
fn the_table_of_servers_is_plausible() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/servers.md");
    let text = std::fs::read_to_string(path).unwrap();
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim_matches('|').split('|');
        line.map(|cell| cell.trim().to_owned()).collect()
    };
    let table: Vec<Vec<String>> = text
        .lines()
        .filter(|l| l.starts_with('|'))
        .map(cells)
        .collect();
    let [head, _, rows @ ..] = &table[..] else {
        panic!("no table")
    };
    let shown = |version: &&str| {
        version
            .replace("redis-", "Redis ")
            .replace("valkey-", "Valkey ")
    };
    let versions: Vec<String> = ALL_VERSIONS.iter().map(shown).collect();
    assert_eq!(head[1], "Redis 3.2 (scripted)");
    assert_eq!(head[2..], versions);
    let commands: Vec<String> = rows.iter().map(|row| row[0].replace('`', "")).collect();
    assert_eq!(commands, SUBCOMMANDS);
    for row in rows {
        assert_eq!(row.len(), head.len(), "{row:?}");
        // No real server of 3.2 was tried.
        assert!(["scripted", "–"].contains(&row[1].as_str()), "{row:?}");
        for (cell, version) in row[2..].iter().zip(&versions) {
            assert_eq!(cell, "yes", "{} on {version}", row[0]);
        }
    }
}
