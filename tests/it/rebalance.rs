//! `rebalance`: shares by slots, keys and memory, and what becomes of the keys.

use std::collections::BTreeMap;

use redis_trib::cluster::slot::Slot;

use crate::create::myself;
use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::server::{Server, Spec, versions};

/// Keys in a cluster, spread over the slots that they are told to be in.
pub(crate) struct Keys {
    values: BTreeMap<String, String>,
}

impl Keys {
    /// `count` keys, of the slots that `wanted` lets through.
    #[track_caller]
    pub(crate) fn fill(nodes: &[Server], count: usize, wanted: impl Fn(Slot) -> bool) -> Self {
        let values: BTreeMap<String, String> = (0..)
            .map(|n| format!("key:{n}"))
            .filter(|key| wanted(Slot::of_key(key.as_bytes())))
            .take(count)
            .map(|key| (key.clone(), format!("value of {key}")))
            .collect();
        let keys = Self { values };
        let set = |pipe: &mut redis::Pipeline, key: &str, value: &str| {
            pipe.set(key, value).ignore();
        };
        keys.ask::<()>(nodes, set);
        keys
    }

    /// Every key is where its slot is, with its value, and there is no other.
    #[track_caller]
    pub(crate) fn assert_kept(&self, nodes: &[Server]) {
        let get = |pipe: &mut redis::Pipeline, key: &str, _: &str| {
            pipe.get(key);
        };
        for (keys, values) in self.ask::<Vec<Option<String>>>(nodes, get) {
            for (key, value) in keys.iter().zip(values) {
                assert_eq!(value.as_ref(), self.values.get(key), "{key}");
            }
        }
        let sizes = nodes.iter().filter(|server| is_master(server)).map(size);
        assert_eq!(sizes.sum::<usize>(), self.values.len());
    }

    /// One pipeline to each owner.
    #[track_caller]
    fn ask<T: redis::FromRedisValue>(
        &self,
        nodes: &[Server],
        add: impl Fn(&mut redis::Pipeline, &str, &str),
    ) -> Vec<(Vec<String>, T)> {
        let owners = owners(nodes);
        let mut pipes: BTreeMap<usize, (Vec<String>, redis::Pipeline)> = BTreeMap::new();
        for (key, value) in &self.values {
            let slot = Slot::of_key(key.as_bytes());
            let (keys, pipe) = pipes.entry(owners[&slot.number()]).or_default();
            add(pipe, key, value);
            keys.push(key.clone());
        }
        pipes
            .into_iter()
            .map(|(index, (keys, pipe))| {
                let client = redis::Client::open(format!("redis://{}", nodes[index].addr()));
                let mut connection = client.unwrap().get_connection().unwrap();
                (keys, pipe.query(&mut connection).unwrap())
            })
            .collect()
    }
}

fn is_master(server: &Server) -> bool {
    server.field("role").as_deref() == Some("master")
}

pub(crate) fn size(server: &Server) -> usize {
    server.text(&["DBSIZE"]).parse().unwrap()
}

/// The slots that a node says it owns.
pub(crate) fn owned(server: &Server) -> Vec<u16> {
    myself(server)[8..]
        .iter()
        .filter(|field| !field.starts_with('['))
        .flat_map(|field| {
            let (start, end) = field.split_once('-').unwrap_or((field, field));
            start.parse::<u16>().unwrap()..=end.parse().unwrap()
        })
        .collect()
}

/// How many slots each node owns.
pub(crate) fn counts(nodes: &[Server]) -> Vec<usize> {
    nodes.iter().map(|server| owned(server).len()).collect()
}

/// The index of the node that owns each slot.
fn owners(nodes: &[Server]) -> BTreeMap<u16, usize> {
    let of = |(index, server): (usize, &Server)| {
        let owned = owned(server);
        owned.into_iter().map(move |slot| (slot, index))
    };
    nodes.iter().enumerate().flat_map(of).collect()
}

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
