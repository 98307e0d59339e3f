//! `ok-to-stop`: whether nodes can be stopped now.

use serde_json::json;

use crate::support::cluster::Nodes;
use crate::support::command::{Finished, Trib};
use crate::support::server::{Server, Spec, versions};

fn ask(nodes: &Nodes, stopping: &[usize]) -> Finished {
    let ids = stopping.iter().map(|index| nodes[*index].id());
    Trib::new()
        .args(["ok-to-stop", &nodes[0].addr()])
        .args(ids)
        .run()
}

#[test]
fn matrix_yes_where_others_step_in_and_no_with_the_reason() {
    for version in versions() {
        let nodes = Nodes::with(7, &Spec::new().version(version).quick());
        nodes.form(3);
        for one in [0, 1, 2, 3, 6] {
            ask(&nodes, &[one])
                .status(0)
                .stdout_has("ok to stop.")
                .stderr_empty();
        }
        // The only copy of a master that stays; of the first there are two.
        ask(&nodes, &[4])
            .status(3)
            .stdout_has(&nodes[1].addr())
            .stdout_has("without a copy in sync");
        ask(&nodes, &[3, 6]).status(3);
        ask(&nodes, &[0, 3]).status(0);
        ask(&nodes, &[1, 4])
            .status(3)
            .stdout_has("slots 5461-10921")
            .stdout_has("no replica in sync");
        ask(&nodes, &[0, 1])
            .status(3)
            .stdout_has("only 1 of 3 masters would be left");
        // It says yes, and is right.
        nodes[0].kill();
        let id = nodes[0].addr();
        let survivors = Trib::new()
            .args(["check", &nodes[1].addr(), "--wait", "60s"])
            .run()
            .status(0);
        assert!(survivors.stdout.contains("All 16384 slots covered"), "{id}");
    }
}

#[test]
fn programs_are_told_why() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    let line = |index: usize| {
        let (seed, id) = (nodes[0].addr(), nodes[index].id());
        Trib::new()
            .args(["ok-to-stop", &seed, &id, "-o", "json"])
            .run()
    };
    let no = line(4).status(3).json();
    assert_eq!(no["ok"], json!(false));
    assert_eq!(no["nodes"][0]["id"], json!(nodes[4].id()));
    assert_eq!(no["reasons"][0]["code"], json!("last-copy"));
    let yes = line(1).status(0).json();
    assert_eq!(yes["ok"], json!(true));
    assert_eq!(yes["reasons"], json!([]));
}

#[test]
fn matrix_the_largest_set_can_be_stopped_together() {
    for version in versions() {
        let nodes = Nodes::with(9, &Spec::new().version(version).quick());
        nodes.form(3);
        let seed = nodes[0].addr();
        let ask = |words: &[&str]| Trib::new().args(["ok-to-stop", &seed, "--max"]).args(words);
        let found = ask(&["-o", "json"]).run().status(0).json();
        // A replica of each master, and one master.
        assert_eq!(found["ok"], json!(true), "{version}: {found}");
        assert_eq!(found["node_count"], 4, "{found}");
        assert_eq!(found["reasons"], json!([]));
        let ids: Vec<String> = found["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["id"].as_str().unwrap().to_owned())
            .collect();
        let masters = ids
            .iter()
            .filter(|id| nodes[..3].iter().any(|n| n.id() == **id));
        assert_eq!(masters.count(), 1);
        let codes: Vec<&str> = found["blocked"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|group| group["reasons"][0]["code"].as_str())
            .collect();
        assert!(
            codes.contains(&"no-majority") && codes.contains(&"last-copy"),
            "{found}"
        );
        let blocked = found["blocked"].as_array().unwrap().iter();
        let blocked: usize = blocked
            .map(|group| group["nodes"].as_array().unwrap().len())
            .sum();
        assert_eq!(blocked, 5);

        ask(&[&nodes[3].id()])
            .run()
            .status(0)
            .stdout_has("1 node can be stopped: ");
        ask(&[&nodes[3].id(), &nodes[6].addr()])
            .run()
            .status(0)
            .stdout_has("1 node can be stopped: ")
            .stdout_has("not also ")
            .stdout_has("without a copy in sync");
        ask(&["deadbeef"]).run().status(3).stderr_has("deadbeef");

        // They really can.
        Trib::new()
            .args(["ok-to-stop", &seed])
            .args(&ids)
            .run()
            .status(0);
        let (stopped, stay): (Vec<&Server>, Vec<&Server>) =
            nodes.iter().partition(|node| ids.contains(&node.id()));
        stopped.iter().for_each(|node| node.kill());
        let left = stay[0];
        let check = Trib::new().args(["check", &left.addr(), "--wait", "60s"]);
        check.run().status(0).stdout_has("16384 slots covered");
    }
}

#[test]
fn problems_that_exist_prevent_every_set() {
    let nodes = Nodes::quick(4);
    nodes.form(3);
    let max = |words: &[&str]| {
        let trib = Trib::new().args(["ok-to-stop", &nodes[0].addr(), "--max"]);
        trib.args(words).run()
    };
    // The other masters have no replica.
    max(&[]).status(0).stdout_has(&nodes[0].addr());
    nodes[1].kill();
    let found = max(&["-o", "json"]).status(3).json();
    assert_eq!(found["ok"], json!(false));
    assert_eq!(found["node_count"], 0);
    assert_eq!(found["reasons"][0]["code"], "slots-unserved");
    max(&[]).status(3).stdout_has("no master serves slots");
}

#[test]
fn faults_that_exist_are_reasons() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    // A replica that never takes over can not replace its master.
    let name = "cluster-replica-no-failover";
    nodes[3].cmd(&["CONFIG", "SET", name, "yes"]);
    ask(&nodes, &[0]).status(3).stdout_has("no replica in sync");
    nodes[3].cmd(&["CONFIG", "SET", name, "no"]);
    ask(&nodes, &[0]).status(0);
    // Nor is one that does not answer.
    nodes[3].stop();
    let stopped = Trib::new()
        .args(["ok-to-stop", &nodes[1].addr(), &nodes[0].id()])
        .args(["--command-timeout", "5s"])
        .run();
    nodes[3].cont();
    stopped.status(3).stdout_has(&nodes[0].addr());
    // An open slot.
    nodes[2].cmd(&["CLUSTER", "SETSLOT", "16000", "MIGRATING", &nodes[1].id()]);
    ask(&nodes, &[2])
        .status(3)
        .stdout_has("slots 16000 are moving from or to");
}

#[test]
fn unknown_nodes_and_clusters_are_no_yes() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let line = |words: &[&str]| Trib::new().arg("ok-to-stop").args(words).run();
    let addr = nodes[0].addr();
    line(&[&addr, "deadbeef"]).status(3).stderr_has("deadbeef");
    line(&[&addr]).status(2);
    line(&["127.0.0.1:1", "deadbeef"]).status(4);
    let ids: Vec<String> = nodes.iter().map(Server::id).collect();
    line(&[&addr, &ids[0]])
        .status(3)
        .stdout_has("not ok to stop");
}
