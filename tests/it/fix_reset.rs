//! A node that was reset by hand: one finding, and the commands that bring it back.

use crate::support::cluster::Nodes;
use crate::support::command::{Ended, Trib};
use crate::support::findings::{codes, finding};
use crate::support::server::{Server, Spec, versions};
use crate::support::subcommands::check_json;
use crate::support::wait::{PATIENCE, until};

/// Waits until the others have heard that it owns nothing, and returns what is found, as JSON.
#[track_caller]
fn found(seed: &Server) -> serde_json::Value {
    until("check to find the node", PATIENCE, || {
        let json = check_json(&seed.addr()).run().json();
        match codes(&json).contains(&"node-reset") {
            true => Ok(json),
            false => Err(format!("{:#}", json["findings"])),
        }
    })
}

/// Runs the commands of a remedy, as printed.
#[track_caller]
fn run(remedy: &str) {
    for command in remedy.split(" && ") {
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        Trib::new().args(words).arg("--yes").run().status(0);
    }
}

#[track_caller]
fn until_healthy(seed: &Server) {
    until("the cluster to be healthy", PATIENCE, || {
        let ended = Trib::new().args(["check", &seed.addr()]).run();
        match ended.status {
            Ended::Status(0) => Ok(()),
            _ => Err(ended.stdout),
        }
    });
}

#[test]
fn matrix_a_replica_that_was_reset() {
    for version in versions() {
        let nodes = Nodes::with(6, &Spec::new().quick().version(version));
        nodes.form(3);
        // Valkey ≥ 8.1 meets a node again that has had no link to it for a node timeout.
        if ["valkey-8.1", "valkey-9.1"].contains(version) {
            for node in nodes.iter() {
                node.cmd(&["CONFIG", "SET", "cluster-node-timeout", "30000"]);
            }
        }
        let epochs = || -> Vec<_> {
            let epoch = |node: &Server| node.field("cluster_my_epoch");
            nodes[..3].iter().map(epoch).collect()
        };
        let before = epochs();
        let reset = nodes[5].id();
        nodes[5].cmd(&["CLUSTER", "RESET", "SOFT"]);
        let json = found(&nodes[0]);
        let errors: Vec<&str> = json["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|finding| finding["severity"] == "error")
            .map(|finding| finding["code"].as_str().unwrap())
            .collect();
        assert_eq!(errors, ["node-reset"]);
        let one = finding(&json, "node-reset");
        assert_eq!(one["nodes"][0], reset);
        let remedy = one["remedy"].as_str().unwrap();
        assert_eq!(
            remedy,
            format!(
                "redis-trib del-node {seed} {reset} --command-timeout 10s && redis-trib add-node {} {seed} --replica \
                 --command-timeout 10s",
                nodes[5].addr(),
                seed = nodes[0].addr()
            )
        );
        let fix = Trib::new().args(["fix", "--yes", &nodes[0].addr()]).run();
        if fix.status == Ended::Status(0) {
            // Valkey ≥ 8.1 meets a node again that has no link to it for three seconds.
            assert!(["valkey-8.1", "valkey-9.1"].contains(version), "{version}");
            continue;
        }
        // Nothing is done to healthy nodes.
        let mut fix = fix
            .status(3)
            .stderr_has(&remedy.replace(" --command-timeout 10s", ""));
        for healthy in &nodes[..5] {
            fix = fix.stderr_lacks(&format!("del-node {} {}", nodes[0].addr(), healthy.id()));
        }
        assert_eq!(epochs(), before);
        run(remedy);
        until_healthy(&nodes[0]);
        assert_eq!(nodes[5].field("role").unwrap(), "slave");
    }
}

#[test]
fn a_master_that_was_reset() {
    let nodes = Nodes::quick(6);
    nodes.form(3);
    nodes[2].cmd(&["CLUSTER", "RESET", "SOFT"]);
    let json = found(&nodes[0]);
    let one = finding(&json, "node-reset");
    let message = one["message"].as_str().unwrap();
    assert!(message.contains("with slots 10922-16383"), "{message}");
    let found = codes(&json);
    for wrong in ["views-differ", "node-unknown-to-some"] {
        assert!(!found.contains(&wrong), "{found:?}");
    }
    run(one["remedy"].as_str().unwrap());
    until_healthy(&nodes[0]);
}
