//! `drift`: what differs among the nodes of a cluster.

mod fix;

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::node::NodeId;
use crate::cluster::setup::{Item, Kind, Setup, Value};

pub use fix::{DriftFix, FixRefusal, FixTarget, What, plan_fix};

/// Settings that change what clients see after a failover, if a replica has another value than its master.
const CRITICAL: [&str; 4] = ["appendonly", "maxmemory", "maxmemory-policy", "save"];

/// A node and its setup.
#[derive(Debug, Clone)]
pub struct NodeSetup {
    /// Its id.
    pub id: NodeId,
    /// The master of its shard; its own id if it is a master.
    pub shard: NodeId,
    /// How it is set up.
    pub setup: Setup,
}

/// Something that is not the same on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is.
    pub item: Item,
    /// Whether a failover would change what clients see: a part of the setup that matters there differs inside a shard.
    pub is_error: bool,
    /// The masters of the shards inside which it differs.
    pub shards: Vec<NodeId>,
    /// The nodes by the value that they have; the largest group first.
    pub groups: Vec<Group>,
}

/// Nodes that have the same value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The value; `None` if these nodes do not have the item.
    pub value: Option<Value>,
    /// The nodes.
    pub nodes: Vec<NodeId>,
}

/// What `--ignore` leaves out: the key of an item, or its beginning with `*` at the end.
#[derive(Debug, Clone, Default)]
pub struct Ignored(Vec<String>);

impl Ignored {
    /// Leaves out items with these keys.
    pub fn new(keys: Vec<String>) -> Self {
        Self(keys)
    }

    fn covers(&self, item: &Item) -> bool {
        let key = item.key();
        self.0
            .iter()
            .any(|ignored| match ignored.strip_suffix('*') {
                Some(beginning) => key.starts_with(beginning),
                None => key == *ignored,
            })
    }
}

/// What differs among these nodes, each item once; errors first. The order of the nodes does not matter.
pub fn compare(nodes: &[NodeSetup], ignored: &Ignored) -> Vec<Difference> {
    let mut nodes: Vec<&NodeSetup> = nodes.iter().collect();
    nodes.sort_by_key(|node| node.id);
    let items: BTreeSet<&Item> = nodes.iter().flat_map(|node| node.setup.items()).collect();
    let items = items.into_iter().filter(|item| !ignored.covers(item));
    let mut differences: Vec<Difference> =
        items.filter_map(|item| difference(&nodes, item)).collect();
    differences
        .sort_by(|one, other| (!one.is_error, &one.item).cmp(&(!other.is_error, &other.item)));
    differences
}

fn difference(nodes: &[&NodeSetup], item: &Item) -> Option<Difference> {
    let told = nodes
        .iter()
        .filter(|node| !node.setup.untold().contains_key(&item.kind));
    let values: Vec<(&NodeSetup, Option<&Value>)> =
        told.map(|node| (*node, node.setup.get(item))).collect();
    let (_, first) = values.first()?;
    if values.iter().all(|(_, value)| value == first) {
        return None;
    }
    // A setting that a version of the server does not have is no difference by itself.
    let having = values.iter().filter(|(_, value)| value.is_some());
    let versions: BTreeSet<Option<&Value>> = having.map(|(node, _)| node.setup.version()).collect();
    let mut by_value: BTreeMap<Option<&Value>, Vec<NodeId>> = BTreeMap::new();
    let mut by_shard: BTreeMap<NodeId, BTreeSet<Option<&Value>>> = BTreeMap::new();
    for (node, value) in &values {
        let is_unknown_there = item.kind == Kind::Setting
            && value.is_none()
            && !versions.contains(&node.setup.version());
        if is_unknown_there {
            continue;
        }
        by_value.entry(*value).or_default().push(node.id);
        by_shard.entry(node.shard).or_default().insert(*value);
    }
    if by_value.len() < 2 {
        return None;
    }
    let groups = by_value.into_iter().map(|(value, nodes)| Group {
        value: value.cloned(),
        nodes,
    });
    let mut groups: Vec<Group> = groups.collect();
    groups.sort_by(|one, other| {
        let by_size = other.nodes.len().cmp(&one.nodes.len());
        by_size.then_with(|| one.nodes.cmp(&other.nodes))
    });
    let shards = by_shard.into_iter().filter(|(_, values)| values.len() > 1);
    let shards: Vec<NodeId> = shards.map(|(shard, _)| shard).collect();
    Some(Difference {
        is_error: is_critical(item) && !shards.is_empty(),
        item: item.clone(),
        shards,
        groups,
    })
}

fn is_critical(item: &Item) -> bool {
    match item.kind {
        Kind::Module | Kind::Library => true,
        Kind::Setting => CRITICAL.contains(&item.name.as_str()),
        Kind::User | Kind::Version => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> NodeId {
        format!("{number:040x}").parse().unwrap()
    }

    /// A node with settings; `-` stands for a setting that it does not have.
    fn node(number: u8, shard: u8, settings: &[(&str, &str)]) -> NodeSetup {
        let mut setup = Setup::default();
        let settings = settings.iter().filter(|(_, value)| *value != "-");
        let pairs =
            settings.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        setup.add_settings(pairs.collect());
        NodeSetup {
            id: id(number),
            shard: id(shard),
            setup,
        }
    }

    fn keys(differences: &[Difference]) -> Vec<String> {
        differences.iter().map(|one| one.item.key()).collect()
    }

    #[test]
    fn what_matters_after_a_failover_is_an_error_inside_a_shard_only() {
        let one = [("maxmemory", "1"), ("hz", "10")];
        let other = [("maxmemory", "2"), ("hz", "20")];
        let between = compare(&[node(1, 1, &one), node(2, 2, &other)], &Ignored::default());
        assert!(
            between
                .iter()
                .all(|one| !one.is_error && one.shards.is_empty()),
            "{between:?}"
        );
        assert_eq!(keys(&between), ["hz", "maxmemory"]);
        let inside = compare(
            &[node(1, 1, &one), node(2, 1, &other), node(3, 3, &one)],
            &Ignored::default(),
        );
        assert_eq!(keys(&inside), ["maxmemory", "hz"]);
        assert!(inside[0].is_error && !inside[1].is_error);
        assert_eq!(inside[0].shards, [id(1)]);
        assert_eq!(inside[0].groups[0].nodes, [id(1), id(3)]);
        assert_eq!(inside[0].groups[1].nodes, [id(2)]);
    }

    #[test]
    fn functions_and_modules_are_errors_users_and_versions_are_not() {
        let mut with = node(1, 1, &[]);
        with.setup.add_library("lib", b"code");
        with.setup.add_module("search", "1");
        with.setup.add_users(&[b"user bob on".to_vec()]);
        let all = compare(&[with, node(2, 1, &[])], &Ignored::default());
        let found: Vec<_> = all
            .iter()
            .map(|one| (one.item.key(), one.is_error))
            .collect();
        assert_eq!(
            found,
            [
                ("function:lib".to_string(), true),
                ("module:search".to_string(), true),
                ("acl:bob".to_string(), false),
            ]
        );
        assert_eq!(all[0].groups[1].value, None);
    }

    #[test]
    fn what_is_ignored_or_not_told_is_not_named() {
        let (one, mut other) = (
            node(1, 1, &[("hz", "10"), ("save", "1")]),
            node(2, 1, &[("hz", "20"), ("save", "2")]),
        );
        let ignored = |keys: &[&str]| Ignored::new(keys.iter().map(ToString::to_string).collect());
        assert_eq!(
            keys(&compare(&[one.clone(), other.clone()], &ignored(&["hz"]))),
            ["save"]
        );
        assert_eq!(
            keys(&compare(&[one.clone(), other.clone()], &ignored(&["s*"]))),
            ["hz"]
        );
        other.setup.miss(Kind::Setting, "denied");
        assert!(compare(&[one, other], &Ignored::default()).is_empty());
    }

    #[test]
    fn a_setting_that_a_version_lacks_is_no_difference() {
        use crate::cluster::parse::{Product, Version};
        let version = |minor| Version {
            product: Product::Redis,
            numbers: [7, minor, 0],
        };
        let (mut old, mut new, mut odd) = (
            node(1, 1, &[]),
            node(2, 1, &[("new", "1")]),
            node(3, 1, &[]),
        );
        old.setup.add_version(version(0));
        new.setup.add_version(version(2));
        odd.setup.add_version(version(2));
        assert_eq!(
            keys(&compare(&[old.clone(), new.clone()], &Ignored::default())),
            ["version"]
        );
        let all = compare(&[old, new, odd], &Ignored::default());
        assert_eq!(keys(&all), ["version", "new"]);
        assert_eq!(all[1].groups.len(), 2);
    }

    fn clusters() -> impl Strategy<Value = Vec<NodeSetup>> {
        let setting = (
            prop::sample::select(vec!["hz", "save", "maxmemory", "timeout"]),
            prop::sample::select(vec!["1", "2", "-"]),
        );
        let nodes = prop::collection::vec((0..4_u8, prop::collection::vec(setting, 0..4)), 0..8);
        nodes.prop_map(|nodes| {
            let nodes = (0..).zip(nodes);
            nodes
                .map(|(number, (shard, settings))| node(number, shard, &settings))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn equal_nodes_do_not_differ(nodes in clusters(), copies in 1..5_u8) {
            for one in nodes {
                let same: Vec<NodeSetup> = (0..copies).map(|n| NodeSetup { id: id(n), ..one.clone() }).collect();
                prop_assert!(compare(&same, &Ignored::default()).is_empty());
            }
        }

        #[test]
        fn the_order_of_the_nodes_does_not_matter(nodes in clusters(), turn in 0..8_usize) {
            let mut other = nodes.clone();
            other.reverse();
            if !other.is_empty() {
                let turn = turn % other.len();
                other.rotate_left(turn);
            }
            prop_assert_eq!(compare(&nodes, &Ignored::default()), compare(&other, &Ignored::default()));
        }

        #[test]
        fn every_difference_is_named_once(nodes in clusters()) {
            let found = compare(&nodes, &Ignored::default());
            let mut expected = BTreeSet::new();
            for one in &nodes {
                for item in one.setup.items() {
                    if nodes.iter().any(|other| other.setup.get(item) != one.setup.get(item)) {
                        expected.insert(item.key());
                    }
                }
            }
            let named = keys(&found);
            prop_assert_eq!(named.len(), expected.len());
            prop_assert_eq!(named.into_iter().collect::<BTreeSet<_>>(), expected);
            for one in &found {
                // Every node is in one group, and the groups differ.
                let members: Vec<NodeId> = one.groups.iter().flat_map(|group| group.nodes.clone()).collect();
                prop_assert_eq!(members.len(), nodes.len());
                let values: BTreeSet<_> = one.groups.iter().map(|group| &group.value).collect();
                prop_assert_eq!(values.len(), one.groups.len());
            }
        }
    }
}
