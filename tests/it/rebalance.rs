//! `rebalance`: shares by slots, keys and memory, and what becomes of the keys.

use redis_trib::cluster::slot::Slot;

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::keys::Keys;
use crate::support::server::{Server, Spec, versions};
use crate::support::views::{counts, size};

fn rebalance(nodes: &[Server]) -> Trib {
    Trib::new().args(["rebalance", &nodes[0].addr()])
}

/// `form` makes masters of the first ones; the last one joins them by raw commands.
fn with_an_empty_master(spec: &Spec) -> Nodes {
    let nodes = Nodes::with(4, spec);
    for index in 0..3 {
        let (from, to) = (index * 16384 / 3, (index + 1) * 16384 / 3 - 1);
        nodes.assign(index, from..=to);
    }
    for (index, server) in nodes.iter().enumerate() {
        server.cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
    }
    nodes.join();
    nodes.wait_usable();
    nodes
}

#[test]
fn matrix_an_empty_master_gets_its_share() {
    for version in versions() {
        let nodes = with_an_empty_master(&Spec::new().quick().version(version));
        let keys = Keys::fill(&nodes, 4000, |_| true);
        // Left out, and that is said.
        rebalance(&nodes)
            .run()
            .status(0)
            .stdout_is("*** No rebalancing needed! All nodes are within the 2.00% threshold.\n")
            .stderr_has(&nodes[3].addr())
            .stderr_has("--use-empty-masters");
        rebalance(&nodes)
            .args(["--use-empty-masters", "--yes"])
            .run()
            .status(0)
            .stdout_has(">>> Rebalancing across 4 nodes. Total weight = 4.00\n")
            .stdout_has("Ready to move 4096 slots.\n")
            .stdout_has("[OK] 4,096 slots and ");
        assert_eq!(counts(&nodes), [4096; 4]);
        keys.assert_kept(&nodes);
        Trib::new()
            .args(["check", &nodes[0].addr()])
            .run()
            .status(0);
    }
}

#[test]
fn weights_and_threshold() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let keys = Keys::fill(&nodes, 2000, |_| true);
    let (second, third) = (nodes[1].id(), nodes[2].addr());
    let weights = || {
        let second = format!("{}=2", &second[..8]);
        rebalance(&nodes).args(["--weight", &second, "--weight", &format!("{third}=0")])
    };
    // Nothing is changed without consent, nor by --dry-run, also under its old name.
    weights().run().status(5).stderr_has("--yes");
    for flag in ["--dry-run", "--simulate"] {
        weights()
            .arg(flag)
            .run()
            .status(0)
            .stdout_has(">>> Rebalancing across 3 nodes. Total weight = 3.00\n")
            .stdout_has(&format!("    Moving slot 10922 from {}", nodes[2].id()));
    }
    assert_eq!(counts(&nodes), [5461, 5461, 5462]);
    weights().arg("--yes").run().status(0);
    assert_eq!(counts(&nodes), [5461, 10923, 0]);
    keys.assert_kept(&nodes);

    // 10923 and 5461: a third off either way of 8192.
    let lax = ["--threshold", "34"];
    rebalance(&nodes)
        .args(lax)
        .run()
        .status(0)
        .stdout_is("*** No rebalancing needed! All nodes are within the 34.00% threshold.\n");
    rebalance(&nodes)
        .args(["--yes", "--threshold", "33"])
        .run()
        .status(0);
    assert_eq!(counts(&nodes)[..2], [8192, 8192]);
    keys.assert_kept(&nodes);
}

#[test]
fn exact_means_exact() {
    let nodes = Nodes::quick(2);
    nodes.assign(0, 0..=8192);
    nodes.assign(1, 8193..=16383);
    for (index, epoch) in ["1", "2"].iter().enumerate() {
        nodes[index].cmd(&["CLUSTER", "SET-CONFIG-EPOCH", epoch]);
    }
    nodes.join();
    nodes.wait_usable();
    rebalance(&nodes)
        .run()
        .status(0)
        .stdout_has("No rebalancing");
    let exact = || rebalance(&nodes).args(["--threshold", "0", "--yes"]);
    exact().run().status(0).stdout_has("Ready to move 1 slots.");
    assert_eq!(counts(&nodes), [8192, 8192]);
    exact()
        .run()
        .status(0)
        .stdout_is("*** No rebalancing needed! All nodes are within the 0.00% threshold.\n");
}

#[test]
fn by_keys_and_by_memory() {
    let nodes = Nodes::quick(2);
    nodes.form(2);
    // All in the first half.
    let keys = Keys::fill(&nodes, 3000, |slot| slot.number() < 8192);
    assert_eq!(size(&nodes[0]), 3000);
    let ran = rebalance(&nodes)
        .args(["--by", "keys", "--yes", "--output", "json"])
        .run()
        .status(0);
    let balance = &ran.json_lines()[0];
    assert_eq!(balance["event"], "balance");
    assert_eq!(balance["by"], "keys");
    assert_eq!(balance["masters"][0]["expected"], 1500);
    let off = size(&nodes[0]).abs_diff(1500);
    assert!(off <= 30, "{off}: more than 2 %");
    keys.assert_kept(&nodes);
    rebalance(&nodes)
        .args(["--by", "keys"])
        .run()
        .status(0)
        .stdout_has("No rebalancing needed!");
    rebalance(&nodes)
        .args(["--by", "memory", "--threshold", "20"])
        .run()
        .status(0)
        .stdout_has("No rebalancing needed!");
}

#[test]
fn one_slot_that_holds_all_can_not_be_divided() {
    let nodes = Nodes::quick(2);
    nodes.form(2);
    let tag = Slot::of_key(b"key:0");
    Keys::fill(&nodes, 5, |slot| slot == tag);
    rebalance(&nodes)
        .args(["--by", "keys", "--yes"])
        .run()
        .status(0)
        .stdout_has("Nothing is moved");
    assert_eq!(counts(&nodes), [8192, 8192]);
}

#[test]
fn weights_by_maxmemory() {
    let nodes = Nodes::each(2, |index| {
        Spec::new()
            .quick()
            .arg("--maxmemory", ["100mb", "300mb"][index])
    });
    nodes.form(2);
    rebalance(&nodes)
        .args(["--auto-weights", "--yes"])
        .run()
        .status(0)
        .stdout_has("Total weight = 4.00");
    assert_eq!(counts(&nodes), [4096, 12288]);
    nodes[0].cmd(&["CONFIG", "SET", "maxmemory", "0"]);
    rebalance(&nodes)
        .arg("--auto-weights")
        .run()
        .status(3)
        .stderr_has("maxmemory")
        .stderr_has(&nodes[0].id());
}

#[test]
fn what_can_not_be_meant_is_refused() {
    let nodes = Nodes::quick(3);
    nodes.form(2);
    let (first, second, replica) = (nodes[0].id(), nodes[1].id(), nodes[2].id());
    let weights = |weights: &[String]| {
        let flags = weights.iter().flat_map(|weight| ["--weight", weight]);
        rebalance(&nodes).arg("--yes").args(flags).run()
    };
    weights(&[format!("{first}=-1")])
        .status(2)
        .stderr_has("weight");
    weights(&[format!("{first}=nan")]).status(2);
    weights(std::slice::from_ref(&first)).status(2);
    weights(&[format!("{first}=1"), format!("{first}=2")])
        .status(2)
        .stderr_has("two weights");
    weights(&[format!("{first}=0"), format!("{second}=0")])
        .status(3)
        .stderr_has("weight 0");
    weights(&["ffffffffff=1".to_owned()])
        .status(3)
        .stderr_has("ffffffffff");
    weights(&[format!("{replica}=1")])
        .status(3)
        .stderr_has(&replica);
    for threshold in ["--threshold=-1", "--threshold=x", "--threshold=inf"] {
        rebalance(&nodes)
            .arg(threshold)
            .run()
            .status(2)
            .stderr_has("--threshold");
    }
    assert_eq!(counts(&nodes)[..2], [8192, 8192]);
}
