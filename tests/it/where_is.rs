//! `where`.

use serde_json::{Value, json};

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::scripted::{Reply, fake_cluster_where};
use crate::support::server::{Spec, versions};
use crate::support::slots::forget_owner;
use crate::support::wait::{PATIENCE, until};

fn ask(addr: &str, words: &[&str]) -> Trib {
    Trib::new().args(["where", addr]).args(words)
}

fn json_of(addr: &str, words: &[&str]) -> Value {
    let asked = ask(addr, words).args(["-o", "json"]);
    asked.run().status(0).stderr_empty().json()
}

#[test]
fn matrix_where_keys_are_and_what_they_hold() {
    for version in versions() {
        let nodes = Nodes::with(4, &Spec::new().version(version).quick());
        nodes.form(3);
        let addr = nodes[1].addr();
        // Slot 0, of the first master, which has the replica.
        nodes[0].cmd(&["SET", "{06S}a", "value", "PX", "900000"]);
        nodes[0].cmd(&["RPUSH", "{06S}list", "1", "2"]);
        until("the replica to be known", PATIENCE, || {
            let text = nodes[1].nodes_text();
            match text.contains("slave") {
                true => Ok(()),
                false => Err(text),
            }
        });
        let found = json_of(&addr, &["{06S}a", "{06S}list", "{06S}none", "--slot", "0"]);
        let key = &found["keys"][0];
        assert_eq!(key["key"], "{06S}a", "{version}");
        assert_eq!(key["hash_tag"], "06S");
        assert_eq!(key["slot"], 0);
        assert_eq!(key["owner"]["id"], nodes[0].id());
        assert_eq!(key["owner"]["role"], "master");
        assert_eq!(key["replicas"][0]["id"], nodes[3].id());
        assert_eq!(key["moving_to"], Value::Null);
        assert_eq!(key["exists"], true);
        assert_eq!(key["node"], key["owner"]);
        assert_eq!(key["type"], "string");
        let ttl = key["ttl_ms"].as_u64().unwrap();
        assert!((1..=900_000).contains(&ttl), "{ttl}");
        assert!(key["memory_usage"].as_u64().unwrap() > 8);
        assert_eq!(found["keys"][1]["type"], "list");
        assert_eq!(found["keys"][1]["ttl_ms"], Value::Null);
        assert_eq!(found["keys"][2]["exists"], false);
        assert_eq!(found["keys"][2]["type"], Value::Null);
        assert_eq!(found["slots"][0]["keys"], 2);
        assert_eq!(found["slots"][0]["owner"]["id"], nodes[0].id());

        let screen = ask(&addr, &["{06S}a"]).run().status(0);
        let owner = format!("master    {} ({})", nodes[0].addr(), &nodes[0].id()[..8]);
        screen
            .stdout_has("slot      0 (hash tag 06S)")
            .stdout_has(&owner)
            .stdout_has(&format!("replicas  {}", nodes[3].addr()))
            .stdout_has("value     string, ")
            .stdout_has("expires in 14m");
    }
}

#[test]
fn binary_keys_and_moving_slots() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let addr = nodes[0].addr();
    // Slot 0 again.
    let script = "return redis.call('set', KEYS[1], 'v')";
    let binary = "{06S}\u{0}\n\u{1b}";
    nodes[0].cmd(&["EVAL", script, "1", binary]);
    let found = json_of(&addr, &[r"{06S}\x00\x0a\x1b", r"{06S}\\x00"]);
    assert_eq!(found["keys"][0]["exists"], true);
    assert_eq!(found["keys"][0]["key"], r"{06S}\x00\x0a\x1b");
    assert_eq!(found["keys"][1]["exists"], false);
    assert_eq!(found["keys"][1]["key"], r"{06S}\\x00");
    // Bytes that are typed as they are end up the same way, and nothing acts on the terminal.
    let typed = ask(&addr, &["{06S}\n\u{1b}[2J"]).run().status(0);
    typed.stdout_has(r"{06S}\x0a\x1b[2J").stdout_lacks("\u{1b}");

    let (from, to) = (&nodes[0], &nodes[1]);
    from.cmd(&["SET", "{06S}stays", "1"]);
    from.cmd(&["SET", "{06S}goes", "1"]);
    to.cmd(&["CLUSTER", "SETSLOT", "0", "IMPORTING", &from.id()]);
    from.cmd(&["CLUSTER", "SETSLOT", "0", "MIGRATING", &to.id()]);
    let (host, port) = (to.host(), to.port().to_string());
    from.cmd(&["MIGRATE", host, &port, "{06S}goes", "0", "5000"]);
    let found = json_of(&addr, &["{06S}stays", "{06S}goes", "{06S}none"]);
    let keys = &found["keys"];
    for key in keys.as_array().unwrap() {
        assert_eq!(key["moving_to"]["id"], to.id());
        assert_eq!(key["owner"]["id"], from.id());
    }
    assert_eq!(keys[0]["node"]["id"], from.id());
    assert_eq!(keys[1]["node"]["id"], to.id());
    assert_eq!(keys[1]["type"], "string");
    assert_eq!(keys[2]["exists"], false);
    ask(&addr, &["{06S}goes"])
        .run()
        .status(0)
        .stdout_has(&format!("on {} ({}) already", to.addr(), &to.id()[..8]));
}

#[test]
fn what_is_not_known_is_said() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let addr = nodes[0].addr();
    // The owner of slot 16383 is gone, and slot 5 has no owner.
    let lost = nodes[2].id();
    nodes[2].kill();
    for node in &nodes[..2] {
        forget_owner(node, 5);
    }
    let asked = ask(&addr, &["--slot", "16383,5,6", "-o", "json"]);
    let found = asked.run().status(1).json();
    let slots = &found["slots"];
    assert_eq!(slots[0]["owner"]["id"], lost);
    assert_eq!(slots[0]["keys"], Value::Null);
    let error = slots[0]["error"].as_str().unwrap();
    assert!(error.contains("does not answer"), "{error}");
    assert_eq!(slots[1]["owner"], Value::Null);
    assert_eq!(slots[1]["error"], "no node owns slot 5");
    assert_eq!(slots[2]["keys"], 0);
    assert_eq!(slots[2].get("error"), None);
    ask(&addr, &["--slot", "5"])
        .run()
        .status(1)
        .stdout_has("unknown: no node owns slot 5");
}

#[test]
fn what_a_node_says_does_not_act_on_the_terminal() {
    let cluster = fake_cluster_where(3, 0, |_, script| {
        script
            .on("TYPE", Reply::simple("st\u{1b}[31mring"))
            .on("PTTL", Reply::int(-1))
            .on("MEMORY", Reply::error("ERR unknown command 'MEMORY'"))
    });
    let addr = cluster.nodes[0].addr();
    let found = ask(&addr, &["key"])
        .args(["-o", "json"])
        .run()
        .status(0)
        .json();
    assert_eq!(found["keys"][0]["type"], "st[31mring");
    assert_eq!(found["keys"][0]["memory_usage"], Value::Null);
    ask(&addr, &["key"])
        .run()
        .status(0)
        .stdout_has("value     st[31mring, does not expire");
}

#[test]
fn wrong_keys_slots_and_databases_are_usage_errors() {
    for (words, said) in [
        (vec!["127.0.0.1:1"], "<KEY>"),
        (vec!["127.0.0.1:1", r"a\x0"], "two hex digits"),
        (
            vec!["127.0.0.1:1", "--slot", "16384"],
            "16384 is not a slot (0-16383)",
        ),
        (vec!["127.0.0.1:1", "--slot", "x"], "x is not a slot"),
        (vec!["127.0.0.1:1", "k", "--db", "-1"], "-1"),
    ] {
        let trib = Trib::new().arg("where").args(&words);
        trib.run().status(2).stdout_empty().stderr_has(said);
    }
    let bare = Spec::new().plain().start();
    ask(&bare.addr(), &["key"])
        .run()
        .status(3)
        .stderr_has("cluster-enabled");
    let error = ask("127.0.0.1:1", &["key", "-o", "json"])
        .run()
        .status(4)
        .json();
    assert_eq!(error["error"]["code"], json!(4));
    // Databases other than 0 are Valkey's, from 9.0 on, and must exist.
    let nodes = Nodes::with(3, &Spec::new().quick().version("redis-7.0"));
    nodes.form(3);
    ask(&nodes[0].addr(), &["key", "--db", "1"])
        .run()
        .status(1)
        .stdout_has("unknown: ")
        .stdout_has("SELECT");
}
