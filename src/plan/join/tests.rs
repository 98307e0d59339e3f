use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn id(number: usize) -> NodeId {
    format!("{number:040x}").parse().unwrap()
}

fn place(host: usize, zone: Option<usize>) -> Place {
    Place {
        host: format!("h{host}"),
        zone: zone.map(|zone| format!("z{zone}")),
    }
}

fn follower(number: usize, place: Place) -> Follower {
    Follower {
        id: id(number),
        place,
    }
}

fn shard(number: usize, place: Place, replicas: Vec<Place>) -> Shard {
    Shard {
        master: id(number),
        place,
        replicas,
    }
}

#[test]
fn fewest_first_and_recomputed_after_each() {
    let far = |n: usize| place(100 + n, None);
    let shards = [
        shard(0, far(0), vec![far(1)]),
        shard(1, far(2), vec![]),
        shard(2, far(3), vec![]),
    ];
    let newcomers: Vec<Follower> = (0..4).map(|n| follower(10 + n, place(n, None))).collect();
    let masters = follow(&shards, &newcomers).unwrap();
    assert_eq!(masters, [1, 2, 0, 1].map(id));
    assert_eq!(follow(&[], &newcomers), None);
}

#[test]
fn who_comes_first_does_not_take_what_only_another_could() {
    // The first of the newcomers could follow either, the others not.
    let shards: Vec<Shard> = (1..=3).map(|n| shard(n, place(n, None), vec![])).collect();
    let newcomers: Vec<Follower> = (1..=3).map(|n| follower(10 + n, place(n, None))).collect();
    let masters = follow(&shards, &newcomers).unwrap();
    for (n, master) in (1..=3).zip(masters) {
        assert_ne!(master, id(n), "on its master's host");
    }
}

proptest! {
    #[test]
    fn numbers_stay_even(
        shards in prop::collection::vec((0..5_usize, prop::option::of(0..3_usize), 0..3_usize), 1..6),
        newcomers in prop::collection::vec((0..5_usize, prop::option::of(0..3_usize)), 0..12),
    ) {
        let shards: Vec<Shard> = shards
            .iter()
            .enumerate()
            .map(|(n, (host, zone, replicas))| {
                shard(n, place(*host, *zone), vec![place(50 + n, None); *replicas])
            })
            .collect();
        let newcomers: Vec<Follower> = newcomers
            .iter()
            .enumerate()
            .map(|(n, (host, zone))| follower(100 + n, place(*host, *zone)))
            .collect();
        let masters = follow(&shards, &newcomers).unwrap();
        prop_assert_eq!(masters.len(), newcomers.len());
        let mut counts: BTreeMap<NodeId, usize> = shards
            .iter()
            .map(|shard| (shard.master, shard.replicas.len()))
            .collect();
        for master in &masters {
            *counts.get_mut(master).unwrap() += 1;
        }
        // Nobody who got one has more than one more than anybody.
        let least = counts.values().min().unwrap();
        for master in masters.iter().collect::<BTreeSet<_>>() {
            prop_assert!(counts[master] <= least + 1, "{:?}", counts);
        }
    }

    #[test]
    fn everybody_is_met(members in 1..300_usize, newcomers in 1..40_usize) {
        let members: Vec<NodeId> = (0..members).map(id).collect();
        let newcomers: Vec<NodeId> = (1000..1000 + newcomers).map(id).collect();
        let steps = meetings(&members, &newcomers);
        let mut met: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        for step in &steps {
            let MembershipStep::Meet { node, with } = step else {
                panic!("{step:?}");
            };
            prop_assert_ne!(node, with);
            prop_assert!(newcomers.contains(with));
            if members.contains(node) {
                prop_assert!(met.entry(*with).or_default().insert(*node), "twice");
            }
        }
        for newcomer in &newcomers {
            prop_assert!(met[newcomer].len() >= LEAST.min(members.len()));
        }
    }
}
