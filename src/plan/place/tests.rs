use proptest::prelude::*;

use super::*;
use crate::cluster::parse::Product;

fn id(number: usize) -> NodeId {
    format!("{number:040x}").parse().unwrap()
}

fn node(number: usize, master: usize, host: &str, zone: Option<&str>) -> PlaceNode {
    PlaceNode {
        id: id(number),
        master: id(master),
        can_lead: true,
        version: None,
        host: host.to_string(),
        zone: zone.map(str::to_string),
        limit: None,
        used: 1000,
    }
}

fn failovers(plan: &PlacePlan) -> Vec<(NodeId, NodeId)> {
    plan.steps
        .iter()
        .filter_map(|step| match step {
            PlaceStep::FailOver { to, from } => Some((*from, *to)),
            PlaceStep::Move { .. } => None,
        })
        .collect()
}

/// Three hosts, and all masters on the first after two failovers.
fn three_hosts() -> Vec<PlaceNode> {
    vec![
        node(1, 1, "a", None),
        node(2, 2, "a", None),
        node(3, 3, "a", None),
        node(4, 1, "b", None),
        node(5, 2, "c", None),
        node(6, 3, "b", None),
        node(7, 3, "c", None),
    ]
}

#[test]
fn the_fewest_failovers_spread_the_masters() {
    let plan = plan(&three_hosts(), &Wishes::default()).unwrap();
    assert!(plan.is_proven);
    assert_eq!(plan.before.masters_on_host, 3);
    assert_eq!(plan.after.masters_on_host, 0);
    assert_eq!(failovers(&plan).len(), 2);
    let mut placed = three_hosts();
    for (from, to) in failovers(&plan) {
        fail_over(&mut placed, from, to);
    }
    assert_eq!(super::plan(&placed, &Wishes::default()).unwrap().steps, []);
}

#[test]
fn zones_count_before_hosts() {
    let nodes = [
        node(1, 1, "a1", Some("a")),
        node(2, 2, "a2", Some("a")),
        node(3, 1, "b1", Some("b")),
        node(4, 2, "b1", Some("b")),
    ];
    let plan = plan(&nodes, &Wishes::default()).unwrap();
    assert_eq!(failovers(&plan).len(), 1);
    assert_eq!(
        (plan.before.masters_in_zone, plan.after.masters_in_zone),
        (1, 0)
    );
}

#[test]
fn wishes_come_first() {
    let nodes = [
        node(1, 1, "a1", Some("a")),
        node(2, 2, "b1", Some("b")),
        node(3, 1, "b2", Some("b")),
        node(4, 2, "a2", Some("a")),
    ];
    assert_eq!(plan(&nodes, &Wishes::default()).unwrap().steps, []);
    let prefer = |zone: &str| Wishes {
        prefer: Some(zone.to_string()),
        ..Wishes::default()
    };
    let in_b = plan(&nodes, &prefer("b")).unwrap();
    assert_eq!(failovers(&in_b), [(id(1), id(3))]);
    assert_eq!(
        (in_b.before.not_preferred, in_b.after.not_preferred),
        (1, 0)
    );
    assert_eq!(
        plan(&nodes, &prefer("z")),
        Err(PlaceRefusal::UnknownZone {
            zone: "z".to_string(),
            known: vec!["a".to_string(), "b".to_string()]
        })
    );
    let masters = |numbers: &[usize]| Wishes {
        masters: numbers.iter().copied().map(id).collect(),
        ..Wishes::default()
    };
    let chosen = plan(&nodes, &masters(&[3])).unwrap();
    // The other shard moves to the zone that is free now.
    assert_eq!(failovers(&chosen), [(id(1), id(3)), (id(2), id(4))]);
    let refused = |numbers: &[usize]| plan(&nodes, &masters(numbers)).unwrap_err();
    assert_eq!(refused(&[1, 3]), PlaceRefusal::SameShard(id(1), id(3)));
    assert_eq!(refused(&[9]), PlaceRefusal::NoShard(id(9)));
    let mut nodes = nodes.to_vec();
    nodes[2].can_lead = false;
    assert_eq!(
        plan(&nodes, &masters(&[3])),
        Err(PlaceRefusal::CantLead(id(3)))
    );
    assert_eq!(plan(&nodes, &prefer("b")).unwrap().steps, []);
}

#[test]
fn replicas_move_only_if_they_may_and_where_there_is_room() {
    // The replica 4 is on the host of its master; both shards have two replicas.
    let nodes = vec![
        node(1, 1, "a", None),
        node(2, 2, "b", None),
        node(4, 1, "a", None),
        node(5, 1, "c", None),
        node(6, 2, "c", None),
        node(7, 2, "d", None),
    ];
    let wishes = Wishes {
        move_replicas: true,
        masters: [1, 2].map(id).into(),
        ..Wishes::default()
    };
    assert_eq!(plan(&nodes, &Wishes::default()).unwrap().steps, []);
    let moved = plan(&nodes, &wishes).unwrap();
    assert_eq!(moved.steps.len(), 2, "{:?}", moved.steps);
    assert_eq!(
        (moved.before.copies_on_host, moved.after.copies_on_host),
        (1, 0)
    );
    assert_eq!(moved.after.replica_pairs, moved.before.replica_pairs);
    // Without room for the data of the other master nothing moves.
    let mut full = nodes.clone();
    for node in &mut full {
        node.limit = Some(500);
    }
    assert_eq!(plan(&full, &wishes).unwrap().steps, []);
    // A master keeps its last replica.
    let mut few = nodes;
    few.retain(|node| ![5, 6].map(id).contains(&node.id));
    assert_eq!(plan(&few, &wishes).unwrap().steps, []);
}

fn redis(major: u16) -> Option<Version> {
    Some(Version {
        product: Product::Redis,
        numbers: [major, 0, 0],
    })
}

#[test]
fn replicas_move_only_to_masters_that_they_can_follow() {
    // The replica 4 is on the host of its master, and the other master is newer.
    let mut nodes = vec![
        node(1, 1, "a", None),
        node(2, 2, "b", None),
        node(4, 1, "a", None),
        node(5, 1, "c", None),
    ];
    let wishes = Wishes {
        move_replicas: true,
        masters: [1, 2].map(id).into(),
        ..Wishes::default()
    };
    assert_eq!(plan(&nodes, &wishes).unwrap().steps.len(), 1);
    for (node, major) in nodes.iter_mut().zip([7, 8, 7, 7]) {
        node.version = redis(major);
    }
    assert_eq!(plan(&nodes, &wishes).unwrap().steps, []);
}

#[test]
fn a_newer_node_takes_over_only_by_wish() {
    let mut nodes = vec![
        node(1, 1, "a", None),
        node(2, 2, "a", None),
        node(3, 1, "b", None),
    ];
    let steps = |nodes: &[PlaceNode], wishes: &Wishes| plan(nodes, wishes).unwrap().steps;
    assert_eq!(steps(&nodes, &Wishes::default()).len(), 1);
    for (node, major) in nodes.iter_mut().zip([7, 7, 8]) {
        node.version = redis(major);
    }
    assert_eq!(steps(&nodes, &Wishes::default()), []);
    let wishes = Wishes {
        masters: [id(3)].into(),
        ..Wishes::default()
    };
    assert_eq!(steps(&nodes, &wishes).len(), 1);
    assert_eq!(left_behind(&nodes, id(1), &nodes[2]).count(), 1);
}

/// Clusters whose hosts lie in one zone each, or not.
fn clusters(is_tree: bool) -> impl Strategy<Value = Vec<PlaceNode>> {
    (
        1..5_usize,
        proptest::collection::vec(
            (
                0..5_usize,
                0..5_usize,
                0..4_usize,
                proptest::bool::weighted(0.9),
            ),
            1..11,
        ),
    )
        .prop_map(move |(masters, places)| {
            let zones = ["x", "y", "z"];
            let hosts = ["a", "b", "c", "d", "e"];
            places
                .iter()
                .enumerate()
                .map(|(number, (of, host, zone, can_lead))| {
                    let zone = match is_tree {
                        true => host % 4,
                        false => *zone,
                    };
                    let master = if number < masters {
                        number
                    } else {
                        of % masters.min(places.len())
                    };
                    PlaceNode {
                        can_lead: *can_lead || number < masters,
                        ..node(number, master, hosts[*host], zones.get(zone).copied())
                    }
                })
                .collect()
        })
}

fn placed(nodes: &[PlaceNode], plan: &PlacePlan) -> Vec<PlaceNode> {
    let mut nodes = nodes.to_vec();
    for step in &plan.steps {
        match *step {
            PlaceStep::FailOver { to, from } => fail_over(&mut nodes, from, to),
            PlaceStep::Move {
                replica, from, to, ..
            } => {
                let others = nodes
                    .iter()
                    .filter(|n| n.master == from && n.id != from && n.id != replica);
                assert!(others.count() > 0, "a master lost its last replica");
                let node = nodes.iter_mut().find(|n| n.id == replica).unwrap();
                assert_eq!(node.master, from);
                node.master = to;
            }
        }
    }
    nodes
}

/// The best choice of masters, found by trying all of them.
fn best(nodes: &[PlaceNode]) -> (PlaceScore, usize) {
    let masters: Vec<NodeId> = nodes
        .iter()
        .filter(|n| n.id == n.master)
        .map(|n| n.id)
        .collect();
    let mut all = vec![(nodes.to_vec(), 0)];
    for master in masters {
        let mut next = Vec::new();
        for (placed, count) in all {
            for to in nodes
                .iter()
                .filter(|n| n.master == master && (n.can_lead || n.id == master))
            {
                let mut placed = placed.clone();
                fail_over(&mut placed, master, to.id);
                next.push((placed, count + usize::from(to.id != master)));
            }
        }
        all = next;
    }
    let scores = all
        .into_iter()
        .map(|(nodes, count)| (PlaceScore::of(&nodes, None), count));
    scores
        .min_by_key(|(score, count)| (score.masters_in_zone, score.masters_on_host, *count))
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_choice_of_masters_is_better(tree in any::<bool>().prop_flat_map(clusters)) {
        let plan = plan(&tree, &Wishes::default()).unwrap();
        let (score, count) = best(&tree);
        prop_assert!(plan.is_proven);
        prop_assert_eq!(plan.after.masters_in_zone, score.masters_in_zone);
        prop_assert_eq!(plan.after.masters_on_host, score.masters_on_host);
        prop_assert_eq!(plan.steps.len(), count);
        let after = placed(&tree, &plan);
        prop_assert_eq!(PlaceScore::of(&after, None), plan.after);
        // What was placed stays.
        prop_assert!(super::plan(&after, &Wishes::default()).unwrap().steps.is_empty());
    }

    #[test]
    fn moves_help_and_no_master_loses_its_last_replica(nodes in any::<bool>().prop_flat_map(clusters)) {
        let wishes = Wishes { move_replicas: true, ..Wishes::default() };
        let plan = plan(&nodes, &wishes).unwrap();
        let after = placed(&nodes, &plan);
        prop_assert_eq!(PlaceScore::of(&after, None), plan.after);
        let with_failovers = {
            let plan = super::plan(&nodes, &Wishes::default()).unwrap();
            plan.after
        };
        prop_assert!(plan.after <= with_failovers);
        prop_assert!(plan.after.masters_on_host == with_failovers.masters_on_host);
    }
}
