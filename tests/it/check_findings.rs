//! What `check` finds: each state made to happen on real servers where that can be done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::findings::{codes, finding, node, settles_to};
use crate::support::hosts::{apart, on_host};
use crate::support::ports;
use crate::support::proxy::Proxy;
use crate::support::scripted::{Reply, Script, Scripted};
use crate::support::server::{Server, Spec};
use crate::support::subcommands::{check, check_json};
use crate::support::wait::{PATIENCE, until};

/// Looks until this holds of what is found.
#[track_caller]
fn until_found(addr: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    until(&format!("check to find {what}"), PATIENCE, || {
        let json = check_json(addr).run().json();
        if holds(&json) {
            Ok(json)
        } else {
            Err(format!("{:#}", json["findings"]))
        }
    })
}

fn has(json: &Value, code: &str) -> bool {
    codes(json).contains(&code)
}

fn ids(finding: &Value) -> Vec<&str> {
    let nodes = finding["nodes"].as_array().unwrap();
    nodes.iter().map(|id| id.as_str().unwrap()).collect()
}

fn message(finding: &Value) -> &str {
    finding["message"].as_str().unwrap()
}

/// Masters alone, a host each, sharing the slots: a warning is all that there is to say.
fn masters(count: usize) -> Nodes {
    let nodes = Nodes::each(count, apart);
    nodes.form(count);
    nodes
}

#[test]
fn open_slots_with_direction_and_keys() {
    let nodes = masters(3);
    let (source, target) = (&nodes[0], &nodes[1]);
    let addr = nodes[2].addr();
    source.cmd(&["SET", "{06S}a", "1"]); // slot 0
    source.cmd(&["SET", "{06S}b", "1"]);
    target.cmd(&["CLUSTER", "SETSLOT", "0", "IMPORTING", &source.id()]);
    source.cmd(&["CLUSTER", "SETSLOT", "0", "MIGRATING", &target.id()]);
    source.cmd(&["CLUSTER", "SETSLOT", "7", "MIGRATING", &target.id()]);

    let json = check_json(&addr).run().status(1).json();
    assert_eq!(json["healthy"], false);
    assert_eq!(json["slots_covered"], 16384);
    let open = node(&json, source)["open"].as_array().unwrap().clone();
    assert_eq!(
        open[0],
        json!({"slot": 0, "direction": "migrating", "peer": target.id(), "keys": 2})
    );
    assert_eq!(
        open[1],
        json!({"slot": 7, "direction": "migrating", "peer": target.id(), "keys": 0})
    );
    let open = &node(&json, target)["open"];
    assert_eq!(
        open[0],
        json!({"slot": 0, "direction": "importing", "peer": source.id(), "keys": 0})
    );
    let found: Vec<&Value> = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["code"] == "slots-open")
        .collect();
    assert!(
        found
            .iter()
            .any(|f| f["slots"] == json!([[7, 7]]) || f["slots"] == json!([[0, 0], [7, 7]])),
        "{found:#?}"
    );
    assert!(
        found.iter().any(|f| message(f).contains("2 keys")),
        "{found:#?}"
    );

    check(&addr)
        .run()
        .status(1)
        .stdout_has(&format!(
            "[WARNING] Node {} has slots in migrating state 0,7.\n",
            source.addr()
        ))
        .stdout_has(&format!(
            "[WARNING] Node {} has slots in importing state 0.\n",
            target.addr()
        ))
        .stdout_has("[WARNING] The following slots are open: 0,7.\n")
        .stdout_has("[OK] All 16384 slots covered.");
    check(&addr)
        .args(["-o", "nagios"])
        .run()
        .status(2)
        .stdout_has("CLUSTER CRITICAL - slots-open: ");
    let table = check(&addr).terminal().finish().status(1);
    assert!(table.screen().contains("2 migrating"), "{}", table.screen());

    for (server, slot) in [(source, "0"), (source, "7"), (target, "0")] {
        server.cmd(&["CLUSTER", "SETSLOT", slot, "STABLE"]);
    }
    check(&addr).run().status(0);
}

#[test]
fn keys_of_all_databases_count_in_the_matrix() {
    // Before Valkey 9 there is only database 0.
    if !crate::support::server::versions().contains(&"valkey-9.1") {
        return;
    }
    let nodes = Nodes::each(2, |i| {
        apart(i)
            .version("valkey-9.1")
            .arg("--cluster-databases", 16)
    });
    nodes.form(2);
    let (source, target) = (&nodes[0], &nodes[1]);
    source.cmd(&["SET", "{06S}a", "1"]);
    source.cmd(&["SET", "{06S}b", "1"]);
    source.cmd(&["COPY", "{06S}a", "{06S}a", "DB", "9"]);
    target.cmd(&["CLUSTER", "SETSLOT", "0", "IMPORTING", &source.id()]);
    source.cmd(&["CLUSTER", "SETSLOT", "0", "MIGRATING", &target.id()]);
    let json = check_json(&target.addr()).run().status(1).json();
    assert_eq!(node(&json, source)["open"][0]["keys"], 3);
    assert_eq!(node(&json, source)["keys"], 3);
}

#[test]
fn slots_that_nobody_owns() {
    let nodes = Nodes::each(2, apart);
    nodes.assign(0, (0..16384).filter(|slot| ![5, 6, 9000].contains(slot)));
    nodes.join();
    let json = settles_to(
        &nodes[1].addr(),
        &[
            "slots-uncovered",
            "cluster-state-not-ok",
            "master-without-replicas",
        ],
    )
    .status(1);
    let json = json.json();
    assert_eq!(
        finding(&json, "slots-uncovered")["slots"],
        json!([[5, 6], [9000, 9000]])
    );
    assert_eq!(json["slots_covered"], 16381);
    check(&nodes[0].addr())
        .run()
        .status(1)
        .stdout_has("[ERR] Not all 16384 slots are covered by nodes.")
        .stdout_has("5-6,9000");
}

#[test]
fn a_disagreement_names_who_and_where() {
    let nodes = masters(3);
    // Its own claim alone is dropped: the others go on believing it.
    nodes[0].cmd(&["CLUSTER", "DELSLOTS", "3"]);
    let addr = nodes[1].addr();
    let differ = |json: &Value, word: &str| {
        has(json, "views-differ") && message(finding(json, "views-differ")).contains(word)
    };
    let json = until_found(&addr, "a disagreement", |json| differ(json, "not changing"));
    let found = finding(&json, "views-differ");
    assert_eq!(found["slots"], json!([[3, 3]]));
    assert_eq!(ids(found), [nodes[0].id()]);
    let text = message(found);
    assert!(
        text.contains("unassigned") && text.contains(&nodes[0].addr()),
        "{text}"
    );
    check(&addr)
        .run()
        .status(1)
        .stdout_has("[ERR] Nodes don't agree about configuration!\n    ");

    // A concurrent change: two observations differ.
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for slot in 10..5000 {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                nodes[0].cmd(&["CLUSTER", "DELSLOTS", &slot.to_string()]);
                thread::sleep(Duration::from_millis(100));
            }
        });
        // The thread may not come to a change between two observations.
        let json = until_found(&addr, "a change", |json| differ(json, "still changing"));
        done.store(true, Ordering::Relaxed);
        assert_eq!(json["healthy"], false);
        let remedy = finding(&json, "views-differ")["remedy"].as_str().unwrap();
        assert!(remedy.contains("--wait"), "{remedy}");
    });
}

#[test]
fn slots_with_two_owners() {
    let nodes = masters(2);
    // A claim of the higher epoch wins with the next ping, within a second: there is always a new one.
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = nodes[1].connection().unwrap();
            for slot in 0..8000 {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                // Else a ping of the owner may come in between.
                let mut both = redis::pipe();
                both.atomic();
                both.cmd("CLUSTER").arg("DELSLOTS").arg(slot).ignore();
                both.cmd("CLUSTER").arg("ADDSLOTS").arg(slot).ignore();
                both.exec(&mut connection).unwrap();
                thread::sleep(Duration::from_millis(20));
            }
        });
        let json = until_found(&nodes[0].addr(), "two owners", |json| {
            has(json, "slots-multiple-owners")
        });
        done.store(true, Ordering::Relaxed);
        let mut expected = [nodes[0].id(), nodes[1].id()];
        expected.sort();
        assert_eq!(ids(finding(&json, "slots-multiple-owners")), expected);
    });
}

#[test]
fn a_master_that_dies() {
    let nodes = Nodes::each(4, apart);
    nodes.form(3);
    // For as long as this test wants.
    nodes[3].cmd(&["CONFIG", "SET", "cluster-replica-no-failover", "yes"]);
    let dead = nodes[0].id();
    nodes[0].kill();
    let addr = nodes[1].addr();
    let at_once = check_json(&addr).run().status(1).json();
    let named = at_once["findings"]
        .as_array()
        .unwrap()
        .iter()
        .any(|f| f["nodes"].as_array().unwrap().iter().any(|id| *id == *dead));
    assert!(named, "{:#}", at_once["findings"]);

    let json = until_found(&addr, "a failed node", |json| {
        has(json, "node-failed") && has(json, "cluster-state-not-ok")
    });
    assert_eq!(ids(finding(&json, "node-failed")), [dead.as_str()]);
    assert_eq!(
        finding(&json, "slots-uncovered")["slots"],
        json!([[0, 5460]])
    );
    assert_eq!(json["slots_covered"], 16384 - 5461);
    check(&addr)
        .run()
        .status(1)
        .stdout_has("[ERR] Not all 16384 slots are covered by nodes.")
        .stdout_has("slots:0-5460 (5461 slots) master,fail\n");
    check(&addr)
        .args(["-o", "prometheus"])
        .run()
        .status(1)
        .stdout_has("redis_trib_cluster_healthy 0\n")
        .stdout_has(&format!(
            "redis_trib_node_up{{id=\"{dead}\",addr=\"{}\"}} 0\n",
            nodes[0].addr()
        ));

    nodes[3].cmd(&["CONFIG", "SET", "cluster-replica-no-failover", "no"]);
    let json = until_found(&addr, "a failover", |json| {
        json["slots_covered"] == 16384 && !has(json, "cluster-state-not-ok")
    });
    // All slots are served, so the dead node is only a warning now.
    assert_eq!(json["healthy"], true, "{:#}", json["findings"]);
    assert_eq!(ids(finding(&json, "slotless-node-failed")), [dead.as_str()]);
    assert_eq!(node(&json, &nodes[3])["role"], "master");
    assert!(
        has(&json, "master-without-replicas"),
        "{:#}",
        json["findings"]
    );
    for gone in ["slots-uncovered", "views-differ", "replica-link-down"] {
        assert!(!has(&json, gone), "{:#}", json["findings"]);
    }

    // It comes back, and follows its replica.
    nodes[0].restart();
    check(&addr).args(["--wait", "60s"]).run().status(0);
    let json = until_found(&addr, "it as a replica", |json| {
        node(json, &nodes[0])["master_link"] == "up"
    });
    assert_eq!(node(&json, &nodes[0])["replicates"], nodes[3].id());
}

#[test]
fn a_node_that_hangs_has_a_deadline() {
    let nodes = Nodes::each(3, |i| apart(i).node_timeout(60_000));
    nodes.form(3);
    nodes[2].stop();
    let addr = nodes[0].addr();
    // Longer than a node that only waits for a processor needs, and much shorter than the node timeout.
    let finished = check_json(&addr).args(["--command-timeout", "5s"]).run();
    let json = finished.status(1).within(Duration::from_secs(30)).json();
    let silent = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| ids(f).len() == 1 && message(f).contains("no answer"))
        .unwrap();
    assert_eq!(silent["severity"], "error");
    assert!(
        message(silent).contains(&nodes[2].addr()) && message(silent).contains("5s"),
        "{silent}"
    );
    assert_eq!(json["nodes"].as_array().unwrap().len(), 3);

    // A wait that runs out, and not later than it should.
    let wait = |time: &str| check(&addr).args(["--wait", time, "--command-timeout", "5s"]);
    let out = wait("15s").run().status(1).within(Duration::from_secs(45));
    assert!(out.elapsed >= Duration::from_secs(15));
    out.stderr_has("waiting: ").stdout_has("[ERR]");
    let nagios = wait("1s").args(["-o", "nagios"]).run();
    nagios.status(2).stdout_has("CLUSTER CRITICAL");

    // One that ends well.
    let running = wait("60s").spawn();
    running.wait_stderr("waiting: ");
    nodes[2].cont();
    running
        .wait()
        .status(0)
        .stdout_has("[OK] All 16384 slots covered.");
}

#[test]
fn a_wait_begins_before_the_seed() {
    let nodes = Nodes::each(2, apart);
    nodes.form(1);
    nodes[0].kill();
    nodes[1].kill();
    let addr = nodes[0].addr();
    check(&addr)
        .args(["--wait", "1s"])
        .run()
        .status(1)
        .stdout_empty()
        .stderr_has("--wait ran out")
        .stderr_has("connection refused");
    let running = check(&addr).args(["--wait", "60s"]).spawn();
    running.wait_stderr("connection refused");
    nodes[0].restart();
    nodes[1].restart();
    running.wait().status(0);
    let never = check(&addr).args(["--wait", "0s"]).run();
    never.status(2).stderr_has("--wait");
}

#[test]
fn a_replica_that_lost_its_master() {
    let nodes = Nodes::each(2, apart);
    nodes.form(1);
    // The master has no password, and takes none.
    nodes[1].cmd(&["CONFIG", "SET", "masterauth", "unwanted"]);
    nodes[0].cmd(&["CLIENT", "KILL", "TYPE", "replica"]);
    let json = settles_to(&nodes[0].addr(), &["replica-link-down"])
        .status(1)
        .json();
    assert_eq!(ids(finding(&json, "replica-link-down")), [nodes[1].id()]);
    assert_eq!(node(&json, &nodes[1])["master_link"], "down");
    assert_eq!(node(&json, &nodes[1])["state"], "link-down");
}

#[test]
fn a_first_sync_is_no_error() {
    let nodes = Nodes::each(2, |i| apart(i).arg("--repl-diskless-sync-delay", 600));
    nodes.assign(0, 0..16384);
    nodes.join();
    nodes.replicate(1, 0);
    // As long as the master waits for other replicas that might want the same copy.
    let json = settles_to(&nodes[0].addr(), &["replica-syncing"])
        .status(0)
        .json();
    assert_eq!(ids(finding(&json, "replica-syncing")), [nodes[1].id()]);
    assert_eq!(node(&json, &nodes[1])["master_link"], "syncing");
    check(&nodes[1].addr()).arg("--strict").run().status(1);
}

#[test]
fn masters_without_replicas_and_uneven_ones() {
    // Three replicas, and all follow the first.
    let nodes = Nodes::each(6, apart);
    nodes.form(6 - 3);
    let addr = nodes[0].addr();
    nodes.replicate(4, 0);
    nodes.replicate(5, 0);
    let json = settles_to(&addr, &["master-without-replicas"])
        .status(0)
        .json();
    let mut alone = [nodes[1].id(), nodes[2].id()];
    alone.sort();
    assert_eq!(ids(finding(&json, "master-without-replicas")), alone);
    check(&addr).arg("--strict").run().status(1);
    check(&addr)
        .args(["--strict", "-o", "nagios"])
        .run()
        .status(2);
    check(&addr)
        .args(["-o", "nagios"])
        .run()
        .status(1)
        .stdout_has("CLUSTER WARNING - master-without-replicas");
}

#[test]
fn uneven_replicas() {
    let nodes = Nodes::each(6, apart);
    nodes.form(2);
    nodes.replicate(3, 0);
    let addr = nodes[0].addr();
    let json = settles_to(&addr, &["uneven-replicas"]).json();
    assert_eq!(ids(finding(&json, "uneven-replicas")), [nodes[0].id()]);
}

#[test]
fn hosts_and_zones_that_hold_too_much() {
    // Two masters on one host, and one of their replicas beside them.
    let hosts = [
        "127.0.0.1",
        "127.0.0.1",
        "127.0.0.2",
        "127.0.0.1",
        "127.0.0.3",
        "127.0.0.3",
    ];
    let nodes = Nodes::each(6, |i| on_host(hosts[i]));
    nodes.form(3);
    let addr = nodes[0].addr();
    let json = settles_to(&addr, &["replica-on-masters-host", "host-holds-quorum"])
        .status(0)
        .json();
    assert_eq!(
        ids(finding(&json, "replica-on-masters-host")),
        [nodes[3].id()]
    );
    let mut quorum = [nodes[0].id(), nodes[1].id()];
    quorum.sort();
    assert_eq!(ids(finding(&json, "host-holds-quorum")), quorum);

    // Zones from the command line: the third pair is in one zone.
    let zone = |i: usize, name: &str| format!("--zone={}={name}", nodes[i].addr());
    let zones = [
        zone(0, "a"),
        zone(1, "b"),
        zone(2, "c"),
        zone(3, "b"),
        zone(4, "c"),
        zone(5, "c"),
    ];
    let json = check_json(&addr).args(&zones).run().status(0).json();
    assert_eq!(
        ids(finding(&json, "replica-in-masters-zone")),
        [nodes[5].id()]
    );
    assert_eq!(node(&json, &nodes[5])["zone"], "c");
    let json = check_json(&addr)
        .args([zone(0, "a"), zone(2, "a")])
        .run()
        .json();
    assert!(message(finding(&json, "zone-holds-quorum")).contains('a'));
    // A zone for an address that no node has is reported.
    let json = check_json(&addr)
        .arg("--zone=127.0.0.77:1=a")
        .run()
        .status(0)
        .json();
    assert!(json["notes"][0].as_str().unwrap().contains("127.0.0.77:1"));
    check(&addr)
        .arg("--zone=x")
        .run()
        .status(2)
        .stderr_has("ADDR=NAME");
    check(&addr)
        .args(["--zone-from", "nowhere"])
        .run()
        .status(2)
        .stderr_has("availability-zone");
}

#[test]
fn zones_that_servers_tell_in_the_matrix() {
    for version in crate::support::server::versions() {
        if matches!(*version, "redis-6.2" | "redis-7.0") {
            continue;
        }
        let nodes = Nodes::each(2, |i| {
            apart(i)
                .version(version)
                .arg("--cluster-announce-human-nodename", "rack-1")
        });
        nodes.form(1);
        let from = |field: &str| {
            check_json(&nodes[0].addr())
                .args(["--zone-from", field])
                .run()
                .json()
        };
        let json = from("human-nodename");
        assert_eq!(node(&json, &nodes[0])["zone"], "rack-1", "{version}");
        assert!(has(&json, "replica-in-masters-zone"), "{version}");
        assert!(!has(&from("none"), "replica-in-masters-zone"), "{version}");
    }
}

/// Nodes that stay in a state which real ones leave within a second. Each announces a proxy, whose address
/// is known before the node speaks. `line` tells what stands behind the address, for each.
fn nodes_who_say(lines: &[&str]) -> Vec<(Proxy, Scripted)> {
    nodes_who_say_besides(lines, |_| Script::new())
}

/// The same, of nodes that have more to say.
fn nodes_who_say_besides(
    lines: &[&str],
    script: impl Fn(usize) -> Script,
) -> Vec<(Proxy, Scripted)> {
    let proxies: Vec<Proxy> = lines.iter().map(|_| Proxy::unconnected()).collect();
    let table = |myself: usize| -> String {
        let line = |(i, line): (usize, &&str)| {
            let me = if i == myself { "myself," } else { "" };
            format!("{} {}@1 {me}{line}\n", id(i), proxies[i].addr())
        };
        lines.iter().enumerate().map(line).collect()
    };
    let tables: Vec<String> = (0..lines.len()).map(table).collect();
    let says = |(i, (proxy, table)): (usize, (Proxy, String))| {
        let node = script(i)
            .on("CLUSTER NODES", Reply::bulk(&table))
            .on("CLUSTER INFO", Reply::bulk("cluster_state:ok\r\n"))
            .start();
        proxy.point_at(&node.addr());
        (proxy, node)
    };
    proxies
        .into_iter()
        .zip(tables)
        .enumerate()
        .map(says)
        .collect()
}

fn id(index: usize) -> String {
    format!("{index:040x}")
}

#[test]
fn epochs_that_collide() {
    let nodes = nodes_who_say(&[
        "master - 0 0 7 connected 0-99",
        "master - 0 0 7 connected 100-16383",
    ]);
    let json = check_json(&nodes[0].0.addr()).run().status(0).json();
    assert_eq!(ids(finding(&json, "epoch-collision")), [id(0), id(1)]);
}

#[test]
fn a_replica_of_a_replica() {
    let (one, two) = (id(0), id(1));
    let nodes = nodes_who_say(&[
        "master - 0 0 7 connected 0-16383",
        &format!("slave {one} 0 0 7 connected"),
        &format!("slave {two} 0 0 7 connected"),
    ]);
    let json = check_json(&nodes[0].0.addr()).run().status(0).json();
    assert!(ids(finding(&json, "replica-of-replica")).contains(&id(2).as_str()));
}

#[test]
fn a_node_without_an_address() {
    let nodes = nodes_who_say(&["master - 0 0 7 connected 0-16383"]);
    let ghost = format!("{} :0@0 master,noaddr - 0 0 0 disconnected\n", id(9));
    let table = format!(
        "{} {}@1 myself,master - 0 0 7 connected 0-16383\n{ghost}",
        id(0),
        nodes[0].0.addr()
    );
    let node = Script::new()
        .on("CLUSTER NODES", Reply::bulk(&table))
        .on("CLUSTER INFO", Reply::bulk("cluster_state:ok\r\n"))
        .start();
    let json = check_json(&node.addr()).run().status(0).json();
    assert_eq!(ids(finding(&json, "node-noaddr")), [id(9)]);
    check(&node.addr()).run().status(0).stdout_has(&id(9));
    check(&node.addr()).terminal().finish().status(0);
}

#[test]
fn versions_that_are_mixed_in_the_matrix() {
    if crate::support::server::versions().len() == 1 {
        return;
    }
    let nodes = Nodes::each(2, |i| apart(i).version(["redis-7.0", "redis-8.2"][i]));
    nodes.form(1);
    let json = check_json(&nodes[0].addr()).run().status(0).json();
    let text = message(finding(&json, "mixed-versions")).to_owned();
    assert!(text.contains("7.0.15") && text.contains("8.2.3"), "{text}");
    let table = check(&nodes[0].addr()).terminal().finish();
    assert!(table.screen().contains("version"), "{}", table.screen());
}

#[test]
fn ghosts_and_forgotten_nodes() {
    let nodes = masters(3);
    let addr = nodes[0].addr();
    // Meets an address without a server repeatedly: a handshake lasts only for the node timeout.
    let reserved = ports::reserve();
    let nobody = reserved.port.to_string();
    let json = until_found(&addr, "a handshake", |json| {
        nodes[0].cmd(&["CLUSTER", "MEET", "127.0.0.1", &nobody]);
        has(json, "node-handshake")
    });
    let text = message(finding(&json, "node-handshake"));
    assert!(text.contains(&format!("127.0.0.1:{nobody}")), "{text}");
    assert_eq!(finding(&json, "node-handshake")["severity"], "warning");

    // One of them forgets another.
    nodes[2].cmd(&["CLUSTER", "FORGET", &nodes[1].id()]);
    let json = until_found(&addr, "who was forgotten", |json| {
        has(json, "node-unknown-to-some")
    });
    let found = finding(&json, "node-unknown-to-some");
    assert!(ids(found).contains(&nodes[1].id().as_str()), "{found}");
    assert!(message(found).contains(&nodes[2].addr()), "{found}");
    assert!(
        has(&json, "slots-uncovered") || has(&json, "views-differ"),
        "{:#}",
        json["findings"]
    );
}

#[test]
fn a_replica_with_other_settings_than_its_master() {
    let nodes = Nodes::quick(4);
    nodes.form(3);
    let addr = nodes[0].addr();
    let json = check_json(&addr).run().status(0).json();
    assert!(!has(&json, "shard-settings-differ"), "{json:#}");
    nodes[3].cmd(&["CONFIG", "SET", "maxmemory", "100mb"]);
    nodes[1].cmd(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let json = check_json(&addr).run().status(0).json();
    let found = finding(&json, "shard-settings-differ");
    assert_eq!(ids(found), [nodes[3].id()]);
    assert!(message(found).contains(": maxmemory on "), "{found}");
}

#[test]
fn another_node_at_a_members_address() {
    let nodes = Nodes::each(3, |i| apart(i).node_timeout(60_000));
    nodes.form(3);
    let lost = nodes[2].id();
    nodes[2].kill();
    std::fs::remove_file(nodes[2].dir().join("nodes.conf")).unwrap();
    // With another bus port: members that reach it would clear the address, and nothing could be told of it.
    let bus = ports::reserve();
    nodes[2].restart_with(&["--cluster-port", &bus.port.to_string()]);
    let json = check_json(&nodes[0].addr()).run().status(1).json();
    let found = finding(&json, "foreign-node");
    assert_eq!(ids(found), [lost.as_str(), &nodes[2].id()]);
    assert!(message(found).contains(&nodes[2].addr()), "{found}");
}

#[test]
fn a_node_that_loads() {
    let nodes = Nodes::each(3, |i| apart(i).words("--save", &["3600", "1"]));
    nodes.form(3);
    // Half a minute of loading, and between two keys it answers.
    let value = "v".repeat(2000);
    for key in 0..300 {
        nodes[0].cmd(&["SET", &format!("{{06S}}{key}"), &value]);
    }
    let id = nodes[0].id();
    nodes[0].cmd(&["CONFIG", "SET", "rdbcompression", "no"]);
    nodes[0].cmd(&["SAVE"]);
    nodes[0].restart_with(&[
        "--key-load-delay",
        "100000",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    let json = check_json(&nodes[1].addr()).run().status(1).json();
    assert_eq!(ids(finding(&json, "node-loading")), [id]);
    for code in ["node-unreachable", "announced-address-unreachable"] {
        assert!(!has(&json, code), "{json:#}");
    }
    Trib::new()
        .args([
            "reshard",
            &nodes[1].addr(),
            "--slot-ranges",
            "6000",
            "--yes",
        ])
        .args(["--to", &nodes[2].id(), "--settle-timeout", "1s"])
        .run()
        .status(3)
        .stderr_has("waiting: node-loading")
        .stderr_has("not healthy");
    // It lives, all the same, and to kill it would make it start over.
    check(&nodes[0].addr()).arg("--local").run().status(0);
    check(&nodes[0].addr())
        .run()
        .status(4)
        .stderr_has("loading");
}

#[test]
fn masters_that_restart_empty() {
    // Process 1 of a container that is started again when it ends.
    let info = |save: &str| {
        Script::new()
            .on(
                "INFO",
                Reply::bulk("redis_version:7.0.15\r\nprocess_id:1\r\naof_enabled:0\r\n"),
            )
            .on(
                "CONFIG GET save",
                Reply::array([Reply::bulk("save"), Reply::bulk(save)]),
            )
    };
    for (save, expected) in [("", &["restarts-empty"][..]), ("3600 1", &[])] {
        let one = id(0);
        let lines = [
            "master - 0 0 7 connected 0-16383",
            &format!("slave {one} 0 0 7 connected"),
        ];
        let nodes = nodes_who_say_besides(&lines, |_| info(save));
        let json = check_json(&nodes[0].0.addr()).run().status(0).json();
        let found: Vec<&str> = codes(&json)
            .into_iter()
            .filter(|code| *code == "restarts-empty")
            .collect();
        assert_eq!(found, expected, "{:#}", json["findings"]);
    }
}

#[test]
fn writes_are_probed() {
    let nodes = masters(3);
    let addr = nodes[0].addr();
    let probe = || check_json(&addr).arg("--probe-write");
    probe().run().status(0);
    for server in nodes.iter() {
        assert_eq!(server.text(&["INFO", "keyspace"]).trim(), "# Keyspace");
    }
    // One that wants replicas to write to, and one that is full.
    nodes[1].cmd(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    nodes[2].cmd(&["CONFIG", "SET", "maxmemory", "1"]);
    check_json(&addr).run().status(0);
    let json = probe().run().status(1).json();
    let failed: Vec<&Value> = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["code"] == "probe-write-failed")
        .collect();
    assert_eq!(failed.len(), 2, "{failed:#?}");
    for (server, word) in [(&nodes[1], "NOREPLICAS"), (&nodes[2], "OOM")] {
        assert!(
            failed
                .iter()
                .any(|f| message(f).contains(word) && ids(f) == [server.id()]),
            "{failed:#?}"
        );
    }
    check(&addr)
        .arg("--probe-write")
        .run()
        .status(1)
        .stdout_has("[ERR] ")
        .stdout_has("NOREPLICAS");
    assert_eq!(nodes[0].text(&["INFO", "keyspace"]).trim(), "# Keyspace");
}

#[test]
fn one_process_alone() {
    let local = |server: &Server| check(&server.addr()).arg("--local");
    let bare = Spec::new().start();
    local(&bare)
        .run()
        .status(0)
        .stderr_empty()
        .stdout_has("[OK] ")
        .stdout_has(&bare.addr());
    assert_eq!(
        local(&bare).args(["-o", "json"]).run().status(0).json()["alive"],
        true
    );
    local(&bare)
        .args(["-o", "prometheus"])
        .run()
        .status(0)
        .stdout_has("redis_trib_local_alive{addr=");
    local(&bare)
        .args(["-o", "nagios"])
        .run()
        .status(0)
        .stdout_has("CLUSTER OK - ");

    // Of a cluster that is broken.
    let nodes = masters(2);
    nodes[1].kill();
    local(&nodes[0]).run().status(0);
    check(&nodes[0].addr()).run().status(1);

    bare.stop();
    let hung = || local(&bare).args(["--command-timeout", "300ms"]);
    hung()
        .run()
        .status(4)
        .stderr_has("no answer")
        .stderr_has("300ms");
    hung()
        .args(["--wait", "1s"])
        .run()
        .status(1)
        .stderr_has("waiting: ")
        .stderr_has("--wait ran out");
    let running = hung().args(["--wait", "60s"]).spawn();
    running.wait_stderr("waiting: ");
    bare.cont();
    running.wait().status(0);

    let plain = Spec::new().plain().start();
    local(&plain)
        .run()
        .status(3)
        .stdout_empty()
        .stderr_has("cluster-enabled");
    local(&plain)
        .args(["--wait", "60s"])
        .run()
        .status(3)
        .within(Duration::from_secs(20));
    local(&bare)
        .arg("--strict")
        .run()
        .status(2)
        .stderr_has("--local");
}
