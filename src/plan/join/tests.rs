use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::cluster::parse::Product;

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
        version: None,
        place,
    }
}

fn shard(number: usize, place: Place, replicas: Vec<Place>) -> Shard {
    Shard {
        master: id(number),
        version: None,
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
fn the_first_does_not_take_the_only_place_of_another() {
    // The first new replica could follow either master, the others could not.
    let shards: Vec<Shard> = (1..=3).map(|n| shard(n, place(n, None), vec![])).collect();
    let newcomers: Vec<Follower> = (1..=3).map(|n| follower(10 + n, place(n, None))).collect();
    let masters = follow(&shards, &newcomers).unwrap();
    for (n, master) in (1..=3).zip(masters) {
        assert_ne!(master, id(n), "on its master's host");
    }
}

const OLD_TO_NEW: [(u16, u16); 4] = [(7, 0), (7, 2), (8, 2), (8, 6)];

fn redis(at: usize) -> Option<Version> {
    let (major, minor) = *OLD_TO_NEW.get(at)?;
    Some(Version {
        product: Product::Redis,
        numbers: [major, minor, 0],
    })
}

#[test]
fn an_older_replica_gets_a_master_that_it_can_follow() {
    let shards = [(1, 0), (2, 3)].map(|(number, at)| Shard {
        version: redis(at),
        ..shard(number, place(number, None), vec![])
    });
    let new = |number, at| Follower {
        version: redis(at),
        ..follower(number, place(number, None))
    };
    // The newer one, which comes first, leaves the older master to the older one.
    let masters = follow(&shards, &[new(10, 3), new(11, 0)]).unwrap();
    assert_eq!(masters, [2, 1].map(id));
    let masters = follow(&shards, &[new(10, 0), new(11, 0)]).unwrap();
    assert_eq!(masters, [1, 1].map(id));
    assert_eq!(follow(&shards[1..], &[new(10, 3), new(11, 0)]), None);
}

proptest! {
    #[test]
    fn every_replica_can_follow_its_master(
        shards in prop::collection::vec((0..5_usize, 0..5_usize, 0..3_usize), 1..6),
        newcomers in prop::collection::vec((0..5_usize, 0..5_usize), 0..12),
    ) {
        let shards: Vec<Shard> = shards.iter().enumerate().map(|(n, (host, at, replicas))| Shard {
            version: redis(*at),
            ..shard(n, place(*host, None), vec![place(50 + n, None); *replicas])
        }).collect();
        let newcomers: Vec<Follower> = newcomers.iter().enumerate().map(|(n, (host, at))| Follower {
            version: redis(*at),
            ..follower(100 + n, place(*host, None))
        }).collect();
        let can = |one: &Follower| shards.iter().any(|shard| one.can_follow(shard));
        let masters = follow(&shards, &newcomers);
        prop_assert_eq!(masters.is_some(), newcomers.iter().all(can));
        let masters = masters.unwrap_or_default();
        let mut counts: BTreeMap<NodeId, usize> = shards
            .iter()
            .map(|shard| (shard.master, shard.replicas.len()))
            .collect();
        for master in &masters {
            *counts.get_mut(master).unwrap() += 1;
        }
        for (new, master) in newcomers.iter().zip(&masters) {
            let its = shards.iter().find(|shard| shard.master == *master).unwrap();
            prop_assert!(new.can_follow(its));
            // No other master that it can follow would have fewer replicas with it.
            for other in shards.iter().filter(|shard| new.can_follow(shard)) {
                prop_assert!(counts[master] <= counts[&other.master] + 1, "{:?}", counts);
            }
        }
    }

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
        // No master that got a replica has more than one replica above another.
        let least = counts.values().min().unwrap();
        for master in masters.iter().collect::<BTreeSet<_>>() {
            prop_assert!(counts[master] <= least + 1, "{:?}", counts);
        }
    }

    #[test]
    fn all_new_nodes_are_met(members in 1..300_usize, newcomers in 1..40_usize) {
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
