//! What only the newest servers have: write pauses and progress of ASM tasks, hidden keys, the protection of the cluster
//! bus, and databases, their rights and zones on Valkey 9.1.

use std::time::Duration;

use redis::cmd;
use serde_json::Value;

use crate::support::cluster::{Nodes, walkthrough};
use crate::support::command::Trib;
use crate::support::findings::{codes, finding, node};
use crate::support::keys::{assert_same, contents, fill};
use crate::support::scripted::{FakeCluster, Reply, fake_cluster, fake_cluster_where};
use crate::support::server::{Server, Spec, quick, versions};
use crate::support::slots::{assert_closed, names, owned};
use crate::support::subcommands::{check, check_json, create, fix, reshard};
use crate::support::wait::{PATIENCE, until};

/// Those of the matrix that are run now.
fn among(wanted: &[&'static str]) -> Vec<&'static str> {
    let ran = wanted.iter().copied();
    ran.filter(|version| versions().contains(version)).collect()
}

#[test]
fn write_pauses_of_tasks_are_reported_matrix() {
    for version in among(&["redis-8.6", "redis-8.10"]) {
        let nodes = walkthrough(&quick().version(version));
        fill(&nodes[..3], &names(0..60, 20));
        let sources: Vec<String> = nodes[..2].iter().map(Server::id).collect();
        let lines = reshard(&nodes[0])
            .args(["--slots", "40", "--from", &sources.join(",")])
            .args(["--to", &nodes[3].id(), "--yes", "--output", "json"])
            .run()
            .status(0)
            .json_lines();
        let ended = lines.iter().filter(|line| line["event"] == "lane-ended");
        let by_lane: Vec<(String, Value)> = ended
            .map(|line| {
                (
                    line["from"].to_string(),
                    line["longest_write_pause_ms"].clone(),
                )
            })
            .collect();
        assert_eq!(by_lane.len(), 2, "{version}");
        let moved = lines.iter().find(|line| line["event"] == "moved").unwrap();
        let pairs = moved["write_pauses"].as_array().unwrap();
        for pair in pairs {
            let from = pair["from"]["id"].to_string();
            let lane = by_lane.iter().find(|(of, _)| *of == from).unwrap();
            assert_eq!(pair["longest_write_pause_ms"], lane.1);
        }
        // The servers count whole milliseconds.
        let pauses: Vec<f64> = pairs
            .iter()
            .map(|pair| pair["longest_write_pause_ms"].as_f64().unwrap())
            .collect();
        assert!(
            pauses.iter().all(|pause| (1.0..10_000.0).contains(pause)),
            "{pauses:?}"
        );
        let longest = pauses.iter().copied().fold(0.0, f64::max);
        assert_eq!(
            moved["longest_write_pause_ms"].as_f64().unwrap_or(0.0),
            longest
        );
        assert!(longest > 0.0, "{version} reports no pause");
    }
}

/// INFO of a master of a later Redis.
fn info_of(version: &str) -> Reply {
    Reply::bulk(&format!(
        "redis_version:{version}\r\nrun_id:{}\r\nloading:0\r\nrole:master\r\ncluster_enabled:1\r\nused_memory:1000000\r\n",
        "1".repeat(40)
    ))
}

/// Three masters of Redis 8.12; the second imports slots 0 to 9 from the first, and tells how far that is.
fn importing() -> FakeCluster {
    let ids = fake_cluster(3, 0).ids;
    fake_cluster_where(3, 0, move |index, script| {
        let script = script.on("INFO", info_of("8.12.0"));
        if index != 1 {
            return script.on("CLUSTER MIGRATION STATUS", Reply::array([]));
        }
        let field = |name: &str, value: &str| [Reply::bulk(name), Reply::bulk(value)];
        let number = |name: &str, value| [Reply::bulk(name), Reply::int(value)];
        let task = [
            field("id", &"7".repeat(40)),
            field("slots", "0-9"),
            field("source", &ids[0]),
            field("dest", &ids[1]),
            field("operation", "import"),
            field("state", "streaming-buffer"),
            field("last_error", ""),
            number("retries", 0),
            number("write_pause_ms", 0),
            number("keys_transferred", 1_200),
            number("keys_total", 5_000),
            number("bytes_transferred", 90_000),
            field("a_field_of_the_future", "who knows"),
        ];
        let task = Reply::array(task.into_iter().flatten());
        script.on("CLUSTER MIGRATION STATUS", Reply::array([task]))
    })
}

#[test]
fn the_progress_of_a_task_is_shown() {
    let cluster = importing();
    let addr = cluster.nodes[0].addr();
    let json = check_json(&addr).run().status(0).json();
    let message = finding(&json, "slots-in-job")["message"].as_str().unwrap();
    assert!(
        message.contains("streaming-buffer (1,200 of 5,000 keys, 87.9 KiB)"),
        "{message}"
    );
    Trib::new()
        .args(["reshard", &addr, "--slots", "1", "--from", "all"])
        .args(["--to", &cluster.ids[2], "--dry-run"])
        .run()
        .stderr_has("1,200 of 5,000 keys")
        .stderr_has("counts of keys are lower bounds");
}

/// A node that trims slots is waited for, since it hides their keys; a dry run says what its counts are worth.
#[test]
fn counts_wait_for_trims() {
    let cluster_info = |trims: u32| {
        Reply::bulk(&format!(
            "cluster_state:ok\r\ncluster_known_nodes:3\r\ncluster_size:3\r\ncluster_current_epoch:3\r\n\
             cluster_slot_migration_active_tasks:0\r\ncluster_slot_migration_active_trim_running:{trims}\r\n"
        ))
    };
    let start = |looks: usize| {
        fake_cluster_where(3, 0, move |index, script| {
            let trims = if index == 1 { looks } else { 0 };
            let busy = (0..trims).map(|_| cluster_info(1));
            script
                .on("INFO", info_of("8.10.2"))
                .on("CLUSTER MIGRATION STATUS", Reply::array([]))
                .on_each("CLUSTER INFO", busy.chain([cluster_info(0)]))
        })
    };
    let go = |cluster: &FakeCluster| {
        let addr = cluster.nodes[0].addr();
        let trib = Trib::new().args(["reshard", &addr, "--slots", "1", "--from", "all"]);
        trib.args(["--to", &cluster.ids[2]])
    };
    let cluster = start(1_000);
    go(&cluster).arg("--dry-run").run().stderr_has(
        "imports or trims slots, and hides their keys: counts of keys are lower bounds",
    );
    let cluster = start(6);
    let finished = go(&cluster).arg("--yes").run();
    let finished = finished
        .stderr_has("imports or trims slots")
        .stderr_has("waiting until it ends");
    assert!(finished.elapsed > Duration::from_millis(200));
}

#[test]
fn a_bus_that_takes_anyone_is_a_warning_matrix() {
    const CODE: &str = "bus-unauthenticated";
    for version in among(&["redis-8.2", "redis-8.6", "redis-8.10", "valkey-9.1"]) {
        let open = Nodes::with(2, &quick().version(version).arg("--bind", "0.0.0.0"));
        open.form(2);
        let json = check_json(&open[0].addr()).run().status(0).json();
        // The servers before do not have the setting: nothing could be switched on.
        assert_eq!(
            codes(&json).contains(&CODE),
            version == "redis-8.10",
            "{version}"
        );
        if version != "redis-8.10" {
            continue;
        }
        let found = finding(&json, CODE);
        assert_eq!(found["severity"], "warning");
        assert_eq!(found["nodes"].as_array().unwrap().len(), 2);
        let message = found["message"].as_str().unwrap();
        assert!(
            message.contains("tls-cluster yes") && message.contains("firewall"),
            "{message}"
        );
        check(&open[0].addr()).arg("--strict").run().status(1);
        let local = Nodes::with(2, &quick().version(version));
        local.form(2);
        let json = check_json(&local[0].addr()).run().status(0).json();
        assert!(!codes(&json).contains(&CODE), "{json:#}");
    }
}

fn valkey_9_1() -> Spec {
    quick().version("valkey-9.1").arg("--cluster-databases", 16)
}

/// `each` keys of these slots in databases 0, 1 and 15.
fn fill_databases(nodes: &[Server], slots: impl IntoIterator<Item = usize>, each: usize) -> usize {
    let keys = names(slots, each);
    for server in nodes {
        let owned = owned(server);
        for database in [0, 1, 15] {
            let mut connection = server.connection().unwrap();
            cmd("SELECT")
                .arg(database)
                .query::<()>(&mut connection)
                .unwrap();
            for key in &keys {
                let slot = crate::support::slots::slot_of(key.as_bytes());
                if owned.iter().any(|(a, b)| (*a..=*b).contains(&slot)) {
                    let set = cmd("SET")
                        .arg(key)
                        .arg(format!("{key} in {database}"))
                        .to_owned();
                    set.query::<()>(&mut connection).unwrap();
                }
            }
        }
    }
    3 * keys.len()
}

#[test]
fn keys_of_databases_0_1_and_15_matrix() {
    if among(&["valkey-9.1"]).is_empty() {
        return;
    }
    let nodes = walkthrough(&valkey_9_1());
    let count = fill_databases(&nodes[..3], (0..40).chain(6_000..6_010), 3);
    let before = contents(&nodes);
    assert_eq!(before.len(), count);
    let unchanged = |what: &str| {
        assert_closed(&nodes);
        let after = contents(&nodes);
        assert_eq!(after.len(), count, "{what}");
        assert_same(&before, &after);
    };
    let keys = |json: &Value| -> u64 {
        let nodes = json["nodes"].as_array().unwrap();
        let masters = nodes.iter().filter(|node| node["role"] == "master");
        masters.map(|node| node["keys"].as_u64().unwrap()).sum()
    };
    let json = check_json(&nodes[0].addr()).run().json();
    assert_eq!(keys(&json), count as u64);
    for (strategy, slots) in [("atomic", "0-9"), ("keys", "10-19")] {
        reshard(&nodes[0])
            .args(["--slot-ranges", slots, "--to", &nodes[3].id()])
            .args(["--strategy", strategy, "--yes"])
            .run()
            .status(0)
            .stdout_has("90 keys");
        unchanged(strategy);
    }
    let balance = Trib::new().args(["rebalance", &nodes[0].addr(), "--by", "keys", "--yes"]);
    balance.run().status(0);
    unchanged("rebalance --by keys");

    // A slot that is open in all three databases: some keys are on the target already.
    let slot = owned(&nodes[0])[0].0.to_string();
    let key = &names([owned(&nodes[0])[0].0], 1)[0];
    nodes[3].cmd(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &nodes[0].id()]);
    nodes[0].cmd(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &nodes[3].id()]);
    let port = nodes[3].port().to_string();
    for database in ["0", "1", "15"] {
        let mut connection = nodes[0].connection().unwrap();
        cmd("SELECT")
            .arg(database)
            .query::<()>(&mut connection)
            .unwrap();
        let migrate = ["127.0.0.1", &port, "", database, "5000", "KEYS", key];
        let moved: String = cmd("MIGRATE").arg(&migrate).query(&mut connection).unwrap();
        assert!(["OK", "NOKEY"].contains(&moved.as_str()), "{moved}");
    }
    fix(&nodes[0]).arg("--yes").run().status(0);
    unchanged("fix");

    let id = nodes[3].id();
    let delete = Trib::new().args(["del-node", &nodes[0].addr(), &id, "--drain", "--yes"]);
    delete.run().status(0);
    check(&nodes[0].addr()).run().status(0);
    let after = contents(&nodes[..3]);
    assert_same(&before, &after);

    // A node with keys in database 15 only is not empty.
    let other = valkey_9_1().start();
    let mut connection = other.connection().unwrap();
    other.cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    until("the node to serve", PATIENCE, || {
        match other.text(&["CLUSTER", "INFO"]) {
            info if info.contains("cluster_state:ok") => Ok(()),
            info => Err(info),
        }
    });
    cmd("SELECT").arg(15).query::<()>(&mut connection).unwrap();
    cmd("SET")
        .arg("k")
        .arg("v")
        .query::<()>(&mut connection)
        .unwrap();
    let more = [valkey_9_1().start(), valkey_9_1().start()];
    create([&other, &more[0], &more[1]].map(|server| server.addr()))
        .run()
        .status(3)
        .stderr_has("holds 1 key");
}

#[test]
fn a_user_of_some_databases_matrix() {
    if among(&["valkey-9.1"]).is_empty() {
        return;
    }
    let nodes = walkthrough(&valkey_9_1());
    for node in nodes.iter() {
        node.cmd(&[
            "ACL", "SETUSER", "some", "on", ">p", "~*", "&*", "+@all", "db=0",
        ]);
    }
    fill(&nodes[..3], &names(0..5, 2));
    let go = |strategy: &str| {
        reshard(&nodes[0])
            .args(["--slot-ranges", "0-4", "--to", &nodes[3].id()])
            .args([
                "--strategy",
                strategy,
                "--yes",
                "--user",
                "some",
                "--pass",
                "p",
            ])
    };
    let why = "the user is limited to some databases";
    go("atomic")
        .run()
        .status(3)
        .stderr_has(why)
        .stderr_has("alldbs");
    assert_eq!(owned(&nodes[3]), []);
    // Keys of database 0 only: key by key goes, and the plan says why.
    let before = contents(&nodes);
    go("auto").run().status(0).stdout_has(why);
    assert_closed(&nodes);
    assert_eq!(owned(&nodes[3]), [(0, 4)]);
    assert_same(&before, &contents(&nodes));

    // A key in database 1 would stay behind.
    fill_databases(&nodes[..3], [20], 1);
    let before = contents(&nodes);
    reshard(&nodes[0])
        .args(["--slot-ranges", "20", "--to", &nodes[3].id()])
        .args(["--yes", "--user", "some", "--pass", "p"])
        .run()
        .status(3)
        .stderr_has("may not use database 1 on")
        .stderr_has("alldbs");
    assert_closed(&nodes);
    assert_eq!(owned(&nodes[3]), [(0, 4)]);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn members_tell_the_zone_of_a_node_that_is_down_matrix() {
    if among(&["valkey-9.1"]).is_empty() {
        return;
    }
    let zones = ["a", "b", "c"];
    let nodes = Nodes::each(3, |i| {
        quick()
            .version("valkey-9.1")
            .arg("--availability-zone", zones[i])
    });
    nodes.form(3);
    let zone_of = |json: &Value, i: usize| node(json, &nodes[i])["zone"].clone();
    until("the zones to be known to all", PATIENCE, || {
        let shards = format!("{:?}", nodes[0].cmd(&["CLUSTER", "SHARDS"]));
        match shards.matches("availability-zone").count() {
            3 => Ok(()),
            n => Err(n.to_string()),
        }
    });
    let json = check_json(&nodes[0].addr()).run().json();
    assert_eq!(zone_of(&json, 2), "c");
    let id = nodes[2].id();
    nodes[2].stop();
    let json = check_json(&nodes[0].addr())
        .args(["--command-timeout", "3s"])
        .run()
        .status(1)
        .json();
    let entries = json["nodes"].as_array().unwrap();
    let down = entries
        .iter()
        .find(|entry| entry["id"] == id.as_str())
        .unwrap();
    assert_eq!(
        (&down["answered"], &down["zone"]),
        (&Value::Bool(false), &Value::from("c"))
    );
}
