use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn id(number: usize) -> NodeId {
    format!("{number:040x}").parse().unwrap()
}

/// The number of the node that [`candidate`] made.
fn number(id: NodeId) -> usize {
    usize::from_str_radix(&id.to_string(), 16).unwrap()
}

fn candidate(number: usize, host: &str) -> Candidate {
    Candidate {
        id: id(number),
        addr: Addr::new(host, 7000 + number as u16),
        host: host.to_owned(),
        zone: None,
        pin: None,
        seed_set: number,
    }
}

/// Nodes on these hosts, numbered from 0.
fn request(hosts: &[&str], replicas: usize) -> Request {
    Request {
        nodes: hosts
            .iter()
            .enumerate()
            .map(|(number, host)| candidate(number, host))
            .collect(),
        replicas,
        few_masters: FewMasters::Refuse,
        replica_order: ReplicaOrder::Given,
    }
}

/// Per shard: the master's number, the slots, the replicas' numbers.
fn drawn(layout: &Layout) -> Vec<(usize, String, Vec<usize>)> {
    let draw = |shard: &ShardLayout| {
        let replicas = shard.replicas.iter().copied().map(number).collect();
        (number(shard.master), shard.slots.to_string(), replicas)
    };
    layout.shards.iter().map(draw).collect()
}

fn masters(layout: &Layout) -> Vec<usize> {
    let masters = layout.shards.iter().map(|shard| number(shard.master));
    masters.collect()
}

#[test]
fn the_walkthrough_gives_the_walkthroughs_layout() {
    let request = request(
        &[
            "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.7", "10.0.0.8", "10.0.0.9",
        ],
        1,
    );
    let layout = create(&request).unwrap();
    assert_eq!(
        drawn(&layout),
        [
            (0, "0-5460".to_owned(), vec![3]),
            (1, "5461-10922".to_owned(), vec![4]),
            (2, "10923-16383".to_owned(), vec![5]),
        ]
    );
    assert_eq!(layout.conflicts, []);
}

#[test]
fn the_service_named_first_has_the_masters() {
    // Two of the three machines run two masters' containers: by hosts alone, a replica's container
    // would have been taken.
    let mut request = request(&["a", "a", "b", "c", "d", "e"], 1);
    for (number, node) in request.nodes.iter_mut().enumerate() {
        node.seed_set = number / 3;
    }
    let layout = create(&request).unwrap();
    assert_eq!(
        BTreeSet::from_iter(masters(&layout)),
        BTreeSet::from([0, 1, 2])
    );

    // A plain list of addresses says nothing of the kind.
    for (number, node) in request.nodes.iter_mut().enumerate() {
        node.seed_set = number;
    }
    assert_eq!(masters(&create(&request).unwrap()), [0, 2, 3]);

    // Nor do services that don't add up to the masters.
    for (number, node) in request.nodes.iter_mut().enumerate() {
        node.seed_set = number / 2;
    }
    assert_eq!(masters(&create(&request).unwrap()), [0, 2, 3]);

    // Pins come first.
    for (number, node) in request.nodes.iter_mut().enumerate() {
        node.seed_set = number / 3;
    }
    request.nodes[0].pin = Some(Role::Replica);
    request.nodes[5].pin = Some(Role::Master);
    let masters = masters(&create(&request).unwrap());
    assert_eq!(BTreeSet::from_iter(masters), BTreeSet::from([1, 2, 5]));
}

#[test]
fn hosts_take_turns_and_replicas_go_elsewhere() {
    let layout = create(&request(&["a", "a", "b", "b", "c", "c"], 1)).unwrap();
    let pairs: Vec<_> = drawn(&layout).into_iter().map(|(m, _, r)| (m, r)).collect();
    assert_eq!(pairs, [(0, vec![3]), (2, vec![5]), (4, vec![1])]);
    assert_eq!(layout.conflicts, []);
}

#[test]
fn a_conflict_that_cannot_be_avoided_is_named() {
    let mut request = request(&["a", "a", "a", "a", "b", "c"], 1);
    for node in &mut request.nodes {
        node.zone = Some("z".to_owned());
    }
    let layout = create(&request).unwrap();
    let shared: Vec<_> = layout.conflicts.iter().map(|c| c.shared.clone()).collect();
    let zone = Shared::Zone("z".to_owned());
    let host = Shared::Host("a".to_owned());
    assert_eq!(
        BTreeSet::from_iter(shared.iter().map(|s| format!("{s:?}"))).len(),
        2
    );
    assert_eq!(shared.iter().filter(|s| **s == zone).count(), 2);
    assert_eq!(shared.iter().filter(|s| **s == host).count(), 1);
    for conflict in &layout.conflicts {
        assert_eq!(conflict.nodes.len(), 2);
        assert_eq!(conflict.nodes[0], conflict.master);
    }
}

#[test]
fn what_cannot_be_laid_out_is_refused() {
    let six = ["a", "b", "c", "d", "e", "f"];
    let refused = |request: &Request| create(request).unwrap_err();

    assert_eq!(refused(&request(&[], 0)), CreateError::NoNodes);
    assert_eq!(
        refused(&request(&six, 70000)).to_string(),
        "6 nodes are too few for 70000 replicas per master: three masters need 210003 nodes"
    );
    assert!(matches!(
        refused(&request(&six, usize::MAX)),
        CreateError::TooFewNodes {
            needed: usize::MAX,
            ..
        }
    ));
    assert_eq!(
        refused(&request(&six, 2)).to_string(),
        "6 nodes with 2 replicas per master make fewer than three masters (2): \
         give 9 nodes or fewer replicas, or accept it with --allow-few-masters"
    );
    let allowed = Request {
        few_masters: FewMasters::Allow,
        replica_order: ReplicaOrder::Given,
        ..request(&six, 2)
    };
    assert_eq!(masters(&create(&allowed).unwrap()), [0, 1]);

    let mut pinned = request(&six, 1);
    for node in &mut pinned.nodes[..4] {
        node.pin = Some(Role::Master);
    }
    assert!(matches!(
        refused(&pinned),
        CreateError::TooManyPinnedMasters {
            pinned: 4,
            masters: 3,
            ..
        }
    ));
    for node in &mut pinned.nodes[..4] {
        node.pin = Some(Role::Replica);
    }
    assert!(matches!(
        refused(&pinned),
        CreateError::TooManyPinnedReplicas {
            pinned: 4,
            room: 3,
            ..
        }
    ));

    let mut twice = request(&six, 1);
    twice.nodes[4].id = id(1);
    assert!(matches!(refused(&twice), CreateError::SameId { .. }));
    twice.nodes[4].addr = twice.nodes[1].addr.clone();
    assert!(matches!(refused(&twice), CreateError::SameAddr { .. }));
}

#[test]
fn slots_are_the_peers_for_every_number_of_masters() {
    for masters in 1..=1000 {
        let per_master = 16384.0 / masters as f64;
        let mut cursor = 0.0;
        let mut next = 0;
        for position in 0..masters {
            let range = share(position, masters).unwrap();
            let mut last = (cursor + per_master - 1.0_f64).round() as u16;
            if position == masters - 1 {
                last = 16383;
            }
            assert_eq!((range.start().number(), range.end().number()), (next, last));
            next = last + 1;
            cursor += per_master;
        }
    }
}

#[test]
fn slots_are_shared_evenly_up_to_one_each() {
    for masters in (1..=16384).step_by(97).chain([16384]) {
        let shares: Vec<_> = (0..masters).map(|i| share(i, masters).unwrap()).collect();
        let counts = shares.iter().map(|range| range.count());
        assert!(counts.clone().max().unwrap() - counts.clone().min().unwrap() <= 1);
        assert_eq!(counts.sum::<usize>(), 16384);
        for pair in shares.windows(2) {
            assert_eq!(pair[0].end().number() + 1, pair[1].start().number());
        }
    }
    assert!((0..16385).any(|position| share(position, 16385).is_none()));
}

#[test]
fn epochs_that_nodes_have_kept_are_not_reused() {
    let kept = |id| [3, 0, 0, 9][number(id)];
    let layout = create(&request(&["a", "b", "c", "d"], 0)).unwrap();
    let epochs: Vec<_> = layout.plan(kept).rounds[1]
        .iter()
        .map(|step| match step {
            MembershipStep::SetConfigEpoch { node, epoch } => (number(*node), *epoch),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(epochs, [(1, 2), (2, 5)]);
}

#[test]
fn the_plan_joins_in_doubling_rounds() {
    let plan = create(&request(&["a", "b", "c", "d", "e", "f"], 1))
        .unwrap()
        .plan(|_| 0);
    let meetings: Vec<Vec<(usize, usize)>> = plan
        .rounds
        .iter()
        .map(|round| {
            let meet = |step: &MembershipStep| match step {
                MembershipStep::Meet { node, with } => Some((number(*node), number(*with))),
                _ => None,
            };
            round.iter().filter_map(meet).collect()
        })
        .collect();
    assert_eq!(meetings.len(), 6);
    assert_eq!(meetings[2], [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]);
    assert_eq!(meetings[3], [(0, 2), (1, 3), (2, 4), (3, 5)]);
    assert_eq!(meetings[4], [(0, 4), (1, 5)]);

    let epochs: Vec<_> = plan.rounds[1]
        .iter()
        .map(|step| match step {
            MembershipStep::SetConfigEpoch { node, epoch } => (number(*node), *epoch),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(epochs, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]);
    assert_eq!(
        plan.rounds[5],
        [(3, 0), (4, 1), (5, 2)].map(|(replica, master)| MembershipStep::Replicate {
            replica: id(replica),
            master: id(master),
        })
    );

    let alone = Request {
        few_masters: FewMasters::Allow,
        replica_order: ReplicaOrder::Given,
        ..request(&["a"], 0)
    };
    assert_eq!(create(&alone).unwrap().plan(|_| 0).rounds.len(), 2);
}

/// Violations in zones, then in hosts.
type Cost = (usize, usize);

fn cost(shards: &[Vec<usize>], nodes: &[Candidate]) -> Cost {
    let pairs = |key: fn(&Candidate) -> Option<&String>| -> usize {
        shards
            .iter()
            .flat_map(|shard| {
                count(shard.iter().filter_map(|node| key(&nodes[*node]))).into_values()
            })
            .map(|size| size * (size - 1) / 2)
            .sum()
    };
    (
        pairs(|node| node.zone.as_ref()),
        pairs(|node| Some(&node.host)),
    )
}

/// The least cost of all layouts with shards of even size, each with exactly one of the masters
/// that were asked for.
fn least_cost(nodes: &[Candidate], masterships: &[Mastership], masters: usize) -> Cost {
    fn place(
        next: usize,
        shards: &mut Vec<Vec<usize>>,
        nodes: &[Candidate],
        masterships: &[Mastership],
        least: &mut Option<Cost>,
    ) {
        let masters = shards.len();
        if next == nodes.len() {
            let may_stand = shards.iter().all(|shard| {
                let count = |of: fn(&Mastership) -> bool| {
                    shard.iter().filter(|n| of(&masterships[**n])).count()
                };
                shard.len() >= nodes.len() / masters
                    && count(|m| *m <= Mastership::Named) <= 1
                    && count(|m| *m != Mastership::Barred) >= 1
            });
            if may_stand {
                let cost = cost(shards, nodes);
                *least = Some(least.map_or(cost, |least| least.min(cost)));
            }
            return;
        }
        for shard in 0..masters {
            if shards[shard].len() < nodes.len().div_ceil(masters) {
                let first = shards[shard].is_empty();
                shards[shard].push(next);
                place(next + 1, shards, nodes, masterships, least);
                shards[shard].pop();
                // Empty shards are alike.
                if first {
                    break;
                }
            }
        }
    }
    let mut least = None;
    place(
        0,
        &mut vec![Vec::new(); masters],
        nodes,
        masterships,
        &mut least,
    );
    least.unwrap()
}

/// How zones lie to hosts in a random request.
#[derive(Debug, Clone, Copy)]
enum Zones {
    None,
    /// Each host is in one zone, or in none.
    AroundHosts,
    /// Each zone is on one host.
    WithinHosts,
    /// Anyhow.
    Crossing,
}

/// How roles are asked for in a random request.
#[derive(Debug, Clone, Copy)]
enum Roles {
    Free,
    Pinned,
    /// The first nodes come from one seed set.
    Named,
}

fn requests(zones: Zones, roles: Roles, most: usize) -> impl Strategy<Value = Request> {
    let node = (0..5_usize, 0..4_usize, 0..6_usize);
    let nodes = proptest::collection::vec(node, 1..=most);
    (nodes, 0..4_usize, 0..4_usize, 1..6_usize).prop_map(move |(nodes, replicas, shift, hosts)| {
        let replicas = replicas.min(nodes.len() - 1);
        let masters = nodes.len() / (replicas + 1);
        let (mut masters_left, mut replicas_left) = (masters, nodes.len() - masters);
        let nodes = nodes.iter().enumerate().map(|(number, (host, zone, pin))| {
            let host = host % hosts;
            let mut node = candidate(number, &format!("h{host}"));
            let zone = match zones {
                Zones::None => 0,
                Zones::AroundHosts => (host * 7 + shift) % 3,
                Zones::WithinHosts => host * 4 + zone,
                Zones::Crossing => *zone,
            };
            node.zone = (zone > 0).then(|| format!("z{zone}"));
            match (roles, pin) {
                (Roles::Pinned, 0 | 1) if masters_left > 0 => {
                    masters_left -= 1;
                    node.pin = Some(Role::Master);
                }
                (Roles::Pinned, 2 | 3) if replicas_left > 0 => {
                    replicas_left -= 1;
                    node.pin = Some(Role::Replica);
                }
                (Roles::Named, _) if number < masters => node.seed_set = 0,
                (Roles::Named, _) => node.seed_set = 1,
                _ => {}
            }
            node
        });
        Request {
            nodes: nodes.collect(),
            replicas,
            few_masters: FewMasters::Allow,
            replica_order: ReplicaOrder::Given,
        }
    })
}

fn any_requests(zones: &[Zones]) -> impl Strategy<Value = Request> + use<> {
    let roles = [Roles::Free, Roles::Pinned, Roles::Named];
    let kinds = zones
        .iter()
        .flat_map(|zones| roles.map(|roles| requests(*zones, roles, 8).boxed()));
    proptest::strategy::Union::new(kinds)
}

fn dealt(layout: &Layout) -> Vec<Vec<usize>> {
    let nodes = |shard: &ShardLayout| {
        let ids = [shard.master].into_iter().chain(shard.replicas.clone());
        ids.map(number).collect()
    };
    layout.shards.iter().map(nodes).collect()
}

/// What holds for every layout.
fn assert_sound(request: &Request, layout: &Layout) {
    let nodes = &request.nodes;
    let shards = dealt(layout);
    let mut placed: Vec<usize> = shards.concat();
    placed.sort_unstable();
    assert_eq!(placed, Vec::from_iter(0..nodes.len()));
    for shard in &shards {
        let even = nodes.len() / shards.len()..=nodes.len().div_ceil(shards.len());
        assert!(even.contains(&shard.len()));
        assert!(shard.len() > request.replicas);
        assert_ne!(nodes[shard[0]].pin, Some(Role::Replica));
        assert!(
            shard[1..]
                .iter()
                .all(|node| nodes[*node].pin != Some(Role::Master))
        );
    }
    assert_eq!(layout, &create(request).unwrap());
    let named = layout
        .conflicts
        .iter()
        .any(|c| matches!(c.shared, Shared::Host(_)));
    assert_eq!(named, cost(&shards, nodes).1 > 0);
    assert_eq!(layout.conflicts.is_empty(), cost(&shards, nodes) == (0, 0));
}

fn assert_least(request: &Request) {
    let layout = create(request).unwrap();
    assert_sound(request, &layout);
    let masters = layout.shards.len();
    let masterships = masterships(&request.nodes, masters);
    assert_eq!(
        cost(&dealt(&layout), &request.nodes),
        least_cost(&request.nodes, &masterships, masters)
    );
}

/// How often each thing is there.
fn count<T: Ord>(things: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for thing in things {
        *counts.entry(thing).or_default() += 1;
    }
    counts
}

/// Whether masters can be chosen of nodes in these places so that no place has more than half.
fn can_avoid_majority(places: impl Iterator<Item = String>, masters: usize) -> bool {
    let counts = count(places).into_values();
    counts.map(|count| count.min(masters / 2)).sum::<usize>() >= masters
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_layout_has_fewer_violations(
        request in any_requests(&[Zones::None, Zones::AroundHosts, Zones::WithinHosts])
    ) {
        assert_least(&request);
    }

    #[test]
    fn nor_where_hosts_and_zones_cross(request in any_requests(&[Zones::Crossing])) {
        assert_least(&request);
    }

    #[test]
    fn no_host_or_zone_has_most_masters_if_avoidable(
        hosts in requests(Zones::None, Roles::Free, 12),
        zones in requests(Zones::AroundHosts, Roles::Free, 12),
    ) {
        for request in [hosts, zones] {
            let nodes = &request.nodes;
            let masters = masters(&create(&request).unwrap());
            if masters.len() < SAFE_MASTERS {
                continue;
            }
            let chosen = || masters.iter().map(|number| &nodes[*number]);
            // A node in no zone is lost with its host.
            let zone = |node: &Candidate| node.zone.clone().unwrap_or(node.host.clone());
            let host = |node: &Candidate| node.host.clone();
            for place in [zone, host] {
                if can_avoid_majority(nodes.iter().map(place), masters.len()) {
                    let most = count(chosen().map(place)).into_values().max();
                    prop_assert!(most <= Some(masters.len() / 2));
                }
            }
        }
    }
}

#[test]
fn a_thousand_nodes_are_spread_as_evenly_as_can_be() {
    /// What `most` nodes of each place make, spread over `masters` shards.
    fn even(counts: impl Iterator<Item = usize>, masters: usize) -> usize {
        let pairs = |nodes: usize| nodes * nodes.saturating_sub(1) / 2;
        counts
            .map(|n| {
                let (each, over) = (n / masters, n % masters);
                over * pairs(each + 1) + (masters - over) * pairs(each)
            })
            .sum()
    }
    type Named = fn(usize) -> usize;
    let cases: [(Named, Option<Named>); 7] = [
        (|number| number, None),
        (|number| number % 10, None),
        (|_| 0, None),
        (|number| number / 10, None),
        (|number| number % 50, Some(|number| number % 50 % 3)),
        (
            |number| number * number % 77,
            Some(|number| number * number % 77 % 3),
        ),
        // Crossing.
        (|number| number % 7, Some(|number| number / 13 % 5)),
    ];
    for (host, zone) in cases {
        for replicas in [0, 1, 2, 332] {
            for pinned in [false, true] {
                let mut nodes: Vec<_> = (0..1000).map(|n| candidate(n, "")).collect();
                let masters = nodes.len() / (replicas + 1);
                for (number, node) in nodes.iter_mut().enumerate() {
                    node.host = format!("h{}", host(number));
                    node.zone = zone.map(|zone| format!("z{}", zone(number)));
                    // The last nodes as masters: against the order.
                    if pinned && 1000 - number <= masters {
                        node.pin = Some(Role::Master);
                    }
                }
                let request = Request {
                    nodes,
                    replicas,
                    few_masters: FewMasters::Refuse,
                    replica_order: ReplicaOrder::Given,
                };
                let layout = create(&request).unwrap();
                let counts = |place: fn(&Candidate) -> Option<&String>| {
                    even(
                        count(request.nodes.iter().filter_map(place)).into_values(),
                        masters,
                    )
                };
                let least = (
                    counts(|node| node.zone.as_ref()),
                    counts(|node| Some(&node.host)),
                );
                assert_eq!(cost(&dealt(&layout), &request.nodes), least);
            }
        }
    }
}
