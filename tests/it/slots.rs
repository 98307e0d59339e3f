//! `slots`, and `rebalance --by cpu`: the load of slots, made by a real client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use redis::cmd;
use serde_json::Value;

use crate::support::cluster::Nodes;
use crate::support::command::{Signal, Trib};
use crate::support::hostile_text::HOSTILE;
use crate::support::scripted::{Reply, fake_cluster_where};
use crate::support::server::{Server, Spec, versions};
use crate::support::slots::owned;
use crate::support::wait::{PATIENCE, until};

const SETTING: &str = "cluster-slot-stats-enabled";

/// Slots 0 and 1180, both of the first master.
const HOTTEST: &str = "{06S}hot";
const WARM: &str = "{aa}warm";

fn has_statistics(version: &str) -> bool {
    !["redis-6.2", "redis-7.0"].contains(&version)
}

fn slots(node: &Server) -> Trib {
    Trib::new().args(["slots", &node.addr()])
}

/// A client that reads two keys of that node, the first one three times as often.
struct Client {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    fn of(node: &Server) -> Self {
        let value = "v".repeat(100);
        for key in [HOTTEST, WARM] {
            node.cmd(&["SET", key, &value]);
        }
        let mut connection = node.connection().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let keys = [HOTTEST, HOTTEST, HOTTEST, WARM];
            while !stops.load(Ordering::Relaxed) {
                for key in keys {
                    // The slot may move away.
                    let _ = cmd("GET").arg(key).query::<redis::Value>(&mut connection);
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn cluster(version: &str, enabled: bool) -> Nodes {
    let spec = Spec::new().quick().version(version);
    let nodes = Nodes::with(
        3,
        &match enabled {
            true => spec.arg("--cluster-slot-stats-enabled", "yes"),
            false => spec,
        },
    );
    nodes.form(3);
    nodes
}

fn setting(node: &Server) -> String {
    let redis::Value::Array(pair) = node.cmd(&["CONFIG", "GET", SETTING]) else {
        panic!("no array")
    };
    match &pair[1] {
        redis::Value::BulkString(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        redis::Value::SimpleString(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}

fn settings(nodes: &Nodes) -> Vec<String> {
    nodes.iter().map(setting).collect()
}

#[test]
fn matrix_the_hottest_slots_and_their_share() {
    for version in versions() {
        if !has_statistics(version) {
            let nodes = Nodes::with(3, &Spec::new().quick().version(version));
            nodes.form(3);
            nodes[0].cmd(&["SET", HOTTEST, "1"]);
            slots(&nodes[0])
                .run()
                .status(3)
                .stderr_has("CLUSTER SLOT-STATS (Redis ≥ 8.2, Valkey ≥ 8.0)");
            // Keys can be counted everywhere.
            let found = slots(&nodes[0]).args(["--by", "keys", "-o", "json"]);
            let found = found.run().status(0).json();
            assert_eq!(found["slots"][0]["slot"], 0, "{version}");
            assert_eq!(found["slots"][0]["keys"], 1);
            continue;
        }
        heat_of(version);
    }
}

#[test]
fn the_hottest_slots_on_redis_and_valkey() {
    for version in ["redis-8.10", "valkey-8.1"] {
        heat_of(version);
    }
}

fn heat_of(version: &str) {
    let nodes = cluster(version, true);
    let _client = Client::of(&nodes[0]);
    let measure = |by: &str| {
        let asked = slots(&nodes[1]).args(["--by", by, "--for", "1s", "-o", "json"]);
        asked.run().status(0).json()
    };
    for by in ["cpu", "network"] {
        let found = measure(by);
        assert_eq!(found["by"], by, "{version}");
        let took = found["sampled_ms"].as_u64().unwrap();
        assert!((1000..5000).contains(&took), "{took}");
        // On a busy machine the CPU time of single reads varies; the bytes do not.
        let of_slot = |slot: u16| {
            let slots = found["slots"].as_array().unwrap();
            slots.iter().find(|one| one["slot"] == slot).unwrap()
        };
        let [hot, warm] = [of_slot(0), of_slot(1180)];
        assert_eq!(hot["node"]["id"], nodes[0].id());
        assert_eq!(hot["keys"], 1);
        let share = |of: &Value| of["share"].as_f64().unwrap();
        assert!((share(hot) + share(warm) - 1.0).abs() < 0.05, "{found}");
        if by == "network" {
            // Three of four reads.
            assert!((0.7..0.8).contains(&share(hot)), "{found}");
            assert_eq!(found["slots"][0]["slot"], 0, "{version} {found}");
        }
        assert!(hot["cpu_usec"].as_u64().unwrap() > 0);
        assert!(hot["network_bytes_out"].as_u64().unwrap() > 100);
        assert_eq!(found["masters"][0]["id"], nodes[0].id());
        assert!(found["masters"][0]["cluster_share"].as_f64().unwrap() > 0.9);
        assert_eq!(found["failures"], serde_json::json!([]));
    }
    let found = measure("keys");
    assert_eq!(found["sampled_ms"], Value::Null);
    assert_eq!(found["slots"].as_array().unwrap().len(), 2);
    let screen = slots(&nodes[1])
        .args(["--by", "network", "--for", "500ms", "--top", "1"])
        .run()
        .status(0);
    screen
        .stdout_has("Load by network, measured for")
        .stdout_has("of master")
        .stdout_lacks("\n1180 ");
    // Memory is counted by Redis ≥ 8.6 only.
    let memory = slots(&nodes[1])
        .args(["--by", "memory", "-o", "json"])
        .run();
    match ["redis-8.6", "redis-8.10"].contains(&version) {
        true => {
            let found = memory.status(0).json();
            assert!(found["slots"][0]["memory_bytes"].as_u64().unwrap() > 100);
        }
        false => {
            let said = memory.status(3).json()["error"]["message"].to_string();
            assert!(said.contains("memory of slots"), "{said}");
        }
    }
}

#[test]
fn statistics_are_on_for_the_sample_only() {
    for version in ["redis-8.2", "redis-8.10", "valkey-9.1"] {
        let nodes = cluster(version, false);
        let before = settings(&nodes);
        assert_eq!(before, ["no"; 3], "{version}");
        slots(&nodes[0])
            .run()
            .status(3)
            .stderr_has("cluster-slot-stats-enabled is off")
            .stderr_has("--enable-stats");
        let enable = |words: &[&str]| {
            let trib = slots(&nodes[0]).args(["--enable-stats", "--for", "1s"]);
            trib.args(words)
        };
        enable(&[]).run().status(5).stdout_has("CONFIG SET");
        enable(&["--dry-run"])
            .run()
            .status(0)
            .stdout_has("Dry run: nothing was changed.");
        assert_eq!(settings(&nodes), before);
        let _client = Client::of(&nodes[0]);
        let lines = enable(&["--yes", "-o", "json"])
            .run()
            .status(0)
            .json_lines();
        let event = |name: &str| lines.iter().find(|line| line["event"] == name).unwrap();
        assert_eq!(event("statistics")["nodes"][0]["now"], "no", "{version}");
        assert_eq!(event("slots")["slots"][0]["slot"], 0);
        assert_eq!(event("done")["exit_code"], 0);
        assert_eq!(settings(&nodes), before, "{version}");

        // Ctrl-C in the middle of the sample.
        let running = enable(&["--yes", "--for", "1h"]).spawn();
        until("the statistics to be on", PATIENCE, || {
            let now = settings(&nodes);
            match now.iter().all(|value| value != "no") {
                true => Ok(()),
                false => Err(format!("{now:?}")),
            }
        });
        running.signal(Signal::SIGINT);
        running
            .wait()
            .status(130)
            .stderr_has("cluster-slot-stats-enabled was restored");
        assert_eq!(settings(&nodes), before, "{version}");
    }
}

#[test]
fn the_printed_command_restores_what_a_killed_run_left() {
    let nodes = cluster("redis-8.6", false);
    let running = slots(&nodes[0])
        .args(["--enable-stats", "--yes", "--for", "1h"])
        .spawn();
    until("the statistics to be on", PATIENCE, || {
        match settings(&nodes).iter().all(|value| value == "cpu net") {
            true => Ok(()),
            false => Err(format!("{:?}", settings(&nodes))),
        }
    });
    running.wait_stdout("  redis-trib call ");
    let shown = running.stdout_so_far();
    running.signal(Signal::SIGKILL);
    let shown = shown
        .lines()
        .find(|line| line.starts_with("  redis-trib call "));
    let words: Vec<&str> = shown.unwrap().split_whitespace().skip(1).collect();
    drop(running);
    Trib::new().args(&words).run().status(0);
    assert_eq!(settings(&nodes), ["no"; 3]);

    // Nodes that differ are restored each to its own; what is on stays on.
    nodes[1].cmd(&["CONFIG", "SET", SETTING, "cpu"]);
    let both = [
        "--enable-stats",
        "--yes",
        "--by",
        "network",
        "--for",
        "500ms",
        "-o",
        "json",
    ];
    let lines = slots(&nodes[0]).args(both).run().status(0).json_lines();
    let restore = lines[0]["restore"].as_array().unwrap();
    assert_eq!(restore.len(), 3, "{lines:?}");
    assert!(restore[0].to_string().contains("redis-cli"));
    assert_eq!(settings(&nodes), ["no", "cpu", "no"]);
    // Nothing to enable: no consent is needed.
    for node in nodes.iter() {
        node.cmd(&["CONFIG", "SET", SETTING, "cpu net"]);
    }
    slots(&nodes[0])
        .args(["--enable-stats", "--for", "500ms"])
        .run()
        .status(0)
        .stdout_has("Load by cpu");
}

#[test]
fn rebalance_moves_the_second_hottest_slot() {
    for version in ["redis-8.10", "valkey-8.1"] {
        let nodes = cluster(version, true);
        let _client = Client::of(&nodes[0]);
        let folder = tempfile::tempdir().unwrap();
        let plan = folder.path().join("plan").display().to_string();
        let rebalance = || {
            let trib = Trib::new().args(["rebalance", &nodes[0].addr(), "--by", "network"]);
            trib.args(["--for", "1s"])
        };
        let lines = rebalance()
            .args(["--dry-run", "--plan-out", &plan, "-o", "json"])
            .run()
            .status(0)
            .stderr_has("slot 0 of")
            .stderr_has("a fair share is 33 %")
            .json_lines();
        let event = |name: &str| lines.iter().find(|line| line["event"] == name).unwrap();
        let balance = event("balance");
        assert_eq!(balance["by"], "network", "{version}");
        assert_eq!(balance["threshold"], 10.0);
        assert_eq!(balance["oversized"][0]["slot"], 0);
        let moves = event("moves")["moves"].as_array().unwrap();
        assert_eq!(moves.len(), 1, "{moves:?}");
        let warm = balance_slot(WARM);
        assert_eq!(moves[0]["slots"], serde_json::json!([[warm, warm]]));
        let text = std::fs::read_to_string(&plan).unwrap();
        assert!(
            text.contains(&format!("\"by\":\"network\",\"weights\":[[{warm},")),
            "{text}"
        );

        Trib::new()
            .args(["apply", &plan, &nodes[0].addr(), "--yes"])
            .run()
            .status(0);
        assert!(
            !owned(&nodes[0])
                .iter()
                .any(|(a, b)| (*a..=*b).contains(&warm))
        );
        assert!(owned(&nodes[0]).iter().any(|(a, _)| *a == 0));
        Trib::new()
            .args(["check", &nodes[0].addr()])
            .run()
            .status(0);
    }
}

fn balance_slot(key: &str) -> usize {
    crate::support::slots::slot_of(key.as_bytes())
}

#[test]
fn rebalance_needs_the_statistics_of_all_masters() {
    let nodes = cluster("valkey-8.1", true);
    nodes[2].cmd(&["CONFIG", "SET", SETTING, "no"]);
    let rebalance = |words: &[&str]| {
        let trib = Trib::new().args(["rebalance", &nodes[0].addr()]);
        trib.args(words).run()
    };
    rebalance(&["--by", "cpu", "--for", "500ms", "--yes"])
        .status(3)
        .stderr_has(&nodes[2].addr())
        .stderr_has("is off");
    rebalance(&["--by", "keys", "--for", "5s"])
        .status(2)
        .stderr_has("--for");
    rebalance(&["--by", "network", "--for", "0s"])
        .status(2)
        .stderr_has("above zero");
    // A part of the masters is shown, and that it is a part.
    slots(&nodes[0])
        .args(["--for", "500ms"])
        .run()
        .status(1)
        .stdout_has("not measured: cluster-slot-stats-enabled is off");
}

#[test]
fn wrong_metrics_times_and_numbers_are_usage_errors() {
    for (words, said) in [
        (vec!["--by", "heat"], "heat"),
        (vec!["--for", "0s"], "above zero"),
        (vec!["--for", "10"], "unit"),
        (vec!["--top", "0"], "0 is not a number of slots"),
        (vec!["--yes"], "--enable-stats"),
        (
            vec!["--enable-stats", "--by", "memory"],
            "cpu and --by network only",
        ),
    ] {
        let trib = Trib::new().args(["slots", "127.0.0.1:1"]).args(&words);
        trib.run().status(2).stdout_empty().stderr_has(said);
    }
}

/// The statistics of the slots of one of `count` masters.
fn statistics(index: usize, count: usize, load: i64) -> Reply {
    let (from, to) = (index * 16384 / count, (index + 1) * 16384 / count);
    Reply::array((from..to).map(|slot| {
        let fields = [
            Reply::bulk("key-count"),
            Reply::int(2),
            Reply::bulk("cpu-usec"),
            Reply::int(load * slot as i64),
        ];
        Reply::array([Reply::int(slot as i64), Reply::array(fields)])
    }))
}

#[test]
fn a_hundred_nodes_take_two_seconds_and_the_sample() {
    let cluster = fake_cluster_where(100, 0, |index, script| {
        let samples = [statistics(index, 100, 1), statistics(index, 100, 3)];
        script.on_each("CLUSTER SLOT-STATS", samples)
    });
    let addr = cluster.nodes[0].addr();
    let trib = Trib::new().args(["slots", &addr, "--for", "1s", "-o", "json"]);
    // The limit is loose: the machine is busy with other tests, and the nodes are a part of this process.
    let found = trib.run().status(0).within(Duration::from_secs(10)).json();
    assert_eq!(found["masters"].as_array().unwrap().len(), 100);
    assert_eq!(found["slots"][0]["slot"], 16383);
    assert_eq!(found["slots"][0]["cpu_usec"], 2 * 16383);
}

#[test]
fn hostile_statistics_are_refused_or_harmless() {
    for reply in [
        Reply::bulk(HOSTILE),
        Reply::array([Reply::int(1)]),
        Reply::array([Reply::array([Reply::int(99_999), Reply::array([])])]),
    ] {
        let cluster = fake_cluster_where(3, 0, |_, script| {
            script.on("CLUSTER SLOT-STATS", reply.clone())
        });
        slots_of(&cluster.nodes[0].addr())
            .status(3)
            .stderr_has("malformed")
            .stderr_lacks("\u{1b}");
    }
}

fn slots_of(addr: &str) -> crate::support::command::Finished {
    Trib::new().args(["slots", addr, "--for", "500ms"]).run()
}
