use super::*;
use crate::cluster::health::{Background, Diagnosis};
use crate::cluster::holdings::{Held, Holdings};
use crate::cluster::observation::{Observation, ObservedNode, Report};
use crate::cluster::parse::{ClusterInfo, EntryPool, Info};
use crate::plan::fix::{Consent, plan};
use crate::plan::samples::node;

/// Two masters, a replica of the second one, and a replica of a master that no node knows. The versions are theirs.
fn cluster(versions: [&str; 4]) -> Diagnosis {
    let role = |number: usize| match number {
        1 => ("master", "-".to_string(), "0-8191"),
        2 => ("master", "-".to_string(), "8192-16383"),
        3 => ("slave", node(2).to_string(), ""),
        _ => ("slave", node(9).to_string(), ""),
    };
    let mut pool = EntryPool::default();
    let mut observed = |number: usize, version: &str| {
        let lines = (1..=4).map(|other| {
            let (flags, master, slots) = role(other);
            let own = if other == number { "myself," } else { "" };
            let (id, port) = (node(other), 7000 + other);
            format!(
                "{id} 10.0.0.1:{port}@1{port} {own}{flags} {master} 0 0 {other} connected {slots}\n"
            )
        });
        let view = pool.view(&lines.collect::<String>()).unwrap();
        let link = view
            .myself()
            .master
            .map_or("", |_| "master_link_status:up\n");
        ObservedNode {
            id: node(number),
            dial: view.myself().addr.clone(),
            peer: view.myself().addr.clone(),
            hostname: None,
            seen: Seen::Report(Box::new(Report {
                info: Info::parse(&format!("redis_version:{version}\n{link}")),
                cluster: ClusterInfo::default(),
                saves: None,
                refuses: None,
                open_keys: BTreeMap::new(),
                keys_of_shard: None,
                links: BTreeMap::new(),
                tasks: Vec::new(),
                view,
            })),
        }
    };
    let nodes = (1..).zip(versions).map(|(number, version)| {
        let observed = observed(number, version);
        (observed.id, observed)
    });
    let observation = Observation {
        lead: node(1),
        nodes: nodes.collect(),
        bystanders: Vec::new(),
        identities: Default::default(),
    };
    Diagnosis::of(observation, &Background::default())
}

/// The masters that the plan gives to replicas.
fn given(diagnosis: &Diagnosis) -> Vec<(NodeId, NodeId)> {
    let mut holdings = Holdings::default();
    for number in 1..=4 {
        holdings.insert(node(number), Held::new(Vec::new(), None));
    }
    let request = Request {
        diagnosis,
        stability: Stability::Stuck,
        holdings: &holdings,
        revealed: &BTreeMap::new(),
        unveiled: &BTreeMap::new(),
        begun: &BTreeMap::new(),
        tried: &BTreeSet::new(),
        consent: &Consent::default(),
        refusals: &BTreeMap::new(),
    };
    let remedies = plan(&request).remedies.into_iter();
    remedies
        .filter_map(|one| match one.step {
            FixStep::Follow { replica, master } => Some((replica, master)),
            _ => None,
        })
        .collect()
}

#[test]
fn an_empty_replica_without_a_master_gets_one_that_it_can_follow() {
    let (old, new) = ("7.0.15", "8.6.1");
    // The first master has no replica.
    let fewest = [(node(4), node(1))];
    assert_eq!(given(&cluster([old, old, old, old])), fewest);
    assert_eq!(given(&cluster([new, new, new, new])), fewest);
    assert_eq!(given(&cluster([old, new, new, new])), fewest);
    assert_eq!(given(&cluster([new, old, old, old])), [(node(4), node(2))]);
    let none: [(NodeId, NodeId); 0] = [];
    assert_eq!(given(&cluster([new, new, new, old])), none);
}
