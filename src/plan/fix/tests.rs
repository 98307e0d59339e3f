//! Every combination of states of a slot on three nodes, on a model of the servers: the steps run one
//! by one, and gossip arrives when it does the most harm.

use proptest::prelude::*;

use super::passage::Passage;
use super::slot::{Decision, FixStep, MasterState, PeerState, SlotConsent, SlotState, Why, decide};
use super::*;
use crate::plan::samples::node;

/// The state of the slot on a model server, with the values of two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Server {
    sees: Option<usize>,
    migrating: Option<usize>,
    importing: Option<usize>,
    keys: [Option<char>; 2],
    epoch: u64,
}

impl Server {
    fn count(&self) -> u64 {
        self.keys.iter().flatten().count() as u64
    }
}

type World = [Server; 3];

/// Made once: they are read some hundred million times.
fn ids() -> &'static [NodeId; 3] {
    static IDS: std::sync::OnceLock<[NodeId; 3]> = std::sync::OnceLock::new();
    IDS.get_or_init(|| [1, 2, 3].map(node))
}

fn id(index: usize) -> NodeId {
    ids()[index]
}

fn index(id: NodeId) -> usize {
    ids().iter().position(|one| *one == id).unwrap()
}

/// When gossip arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gossip {
    /// After a complete step: the cluster bus was cut until then.
    BetweenSteps,
    /// After each command.
    AtOnce,
    /// The same as the first; and a node that imports a slot from a node that does not claim it takes
    /// the slot when it hears from that node, as in Valkey.
    Seizing,
}

fn claims(world: &World, index: usize) -> bool {
    world[index].sees == Some(index)
}

/// Every claim reaches every node: the higher epoch wins, a node that imports the slot ignores claims,
/// and a node that loses the slot deletes its keys (protocol.md section 1, peers.md section 4).
fn gossip(world: &mut World) {
    for _ in 0..4 {
        for sender in 0..3 {
            if !claims(world, sender) {
                continue;
            }
            for receiver in 0..3 {
                let seen = world[receiver].sees;
                if receiver == sender || seen == Some(sender) || world[receiver].importing.is_some()
                {
                    continue;
                }
                let is_newer = seen.is_none_or(|owner| world[owner].epoch < world[sender].epoch);
                if is_newer {
                    if seen == Some(receiver) {
                        world[receiver].keys = [None; 2];
                    }
                    world[receiver].sees = Some(sender);
                }
            }
        }
    }
}

/// A node that imports the slot from a node that does not claim it takes the slot (Valkey).
fn seize(world: &mut World) {
    for taker in 0..3 {
        if let Some(from) = world[taker].importing
            && !claims(world, from)
            && !claims(world, taker)
        {
            world[taker].sees = Some(taker);
            world[taker].importing = None;
            bump(world, taker);
            gossip(world);
        }
    }
}

fn bump(world: &mut World, index: usize) {
    let highest = world.iter().map(|server| server.epoch).max().unwrap();
    world[index].epoch = highest + 1;
}

/// Moves keys from one node to the other; `false` if a key has two values.
fn carry(world: &mut World, from: usize, to: usize) -> bool {
    for key in 0..2 {
        match (world[from].keys[key], world[to].keys[key]) {
            (None, _) => {}
            (Some(value), None) => {
                world[to].keys[key] = Some(value);
                world[from].keys[key] = None;
            }
            (Some(here), Some(there)) if here == there => world[from].keys[key] = None,
            (Some(_), Some(_)) => return false,
        }
    }
    true
}

/// Runs one step, as the servers do.
fn apply(world: &mut World, step: FixStep, heard: Gossip) {
    let hear = |world: &mut World| {
        if heard == Gossip::AtOnce {
            gossip(world);
        }
    };
    match step {
        FixStep::Fence { loser, winner } => {
            let (loser, winner) = (index(loser), index(winner));
            world[loser].importing = Some(winner);
            world[loser].sees = Some(winner);
        }
        FixStep::Guard { node, owner } => {
            assert!(!claims(world, index(node)));
            world[index(node)].importing = Some(index(owner));
        }
        FixStep::Claim { node } | FixStep::Assign { node } => {
            let taker = index(node);
            bump(world, taker);
            hear(world);
            world[taker].sees = Some(taker);
            world[taker].importing = None;
        }
        FixStep::Bump { node } => bump(world, index(node)),
        FixStep::Tell { node, owner } => {
            let (node, owner) = (index(node), index(owner));
            assert!(!claims(world, node) && claims(world, owner));
            world[node].sees = Some(owner);
            if world[node].count() == 0 {
                world[node].migrating = None;
            }
        }
        FixStep::Close { node } | FixStep::Refresh { node } => {
            world[index(node)].migrating = None;
            world[index(node)].importing = None;
        }
        FixStep::Finish { from, to } => {
            let (from, to) = (index(from), index(to));
            assert!(
                claims(world, from) && world[to].sees == Some(from),
                "{world:?}"
            );
            world[to].importing = Some(from);
            hear(world);
            world[from].migrating = Some(to);
            hear(world);
            if !carry(world, from, to) {
                return;
            }
            assert_eq!(world[from].count(), 0);
            world[to].sees = Some(to);
            world[to].importing = None;
            bump(world, to);
            hear(world);
            world[from].sees = Some(to);
            world[from].migrating = None;
        }
        FixStep::Gather { from, to } => {
            let (from, to) = (index(from), index(to));
            assert!(claims(world, to) && !claims(world, from), "{world:?}");
            assert_eq!(
                world[to].migrating, None,
                "it would send what it lacks elsewhere"
            );
            world[from].importing = Some(to);
            hear(world);
            world[from].sees = Some(to);
            if carry(world, from, to) {
                world[from].migrating = None;
                world[from].importing = None;
            }
        }
        _ => panic!("{step:?}"),
    }
    hear(world);
    let is_told_to_all = matches!(
        step,
        FixStep::Claim { .. }
            | FixStep::Assign { .. }
            | FixStep::Bump { .. }
            | FixStep::Finish { .. }
    );
    if heard == Gossip::Seizing && is_told_to_all {
        seize(world);
    }
}

fn masters(world: &World, counts_own_only: bool) -> Vec<MasterState> {
    let master = |(index, server): (usize, &Server)| MasterState {
        id: id(index),
        sees: server.sees.map(id),
        migrating: server.migrating.map(id),
        importing: server.importing.map(id),
        keys: server.count(),
        may_hold_more: false,
        imports_to_count: false,
        counts_own_only,
        epoch: server.epoch,
    };
    world.iter().enumerate().map(master).collect()
}

/// All three answer.
fn all_sound() -> BTreeMap<NodeId, PeerState> {
    (0..3)
        .map(|index| (id(index), PeerState::Healthy))
        .collect()
}

fn decided(world: &World, counts_own_only: bool, peers: &BTreeMap<NodeId, PeerState>) -> Decision {
    decide(&SlotState {
        masters: masters(world, counts_own_only),
        unreachable_owner: None,
        unreachable_master: None,
        orphan: None,
        peers,
        passage: &Passage::default(),
        consent: SlotConsent {
            assign: true,
            accept_loss: false,
        },
    })
}

/// The values of a key on all nodes, one bit each.
fn values(world: &World, key: usize) -> u32 {
    let values = world.iter().filter_map(|server| server.keys[key]);
    values.fold(0, |set, value| {
        set | 1 << (u32::from(value) - u32::from('a'))
    })
}

/// Runs all steps and checks the final state.
fn check(start: World, heard: Gossip, peers: &BTreeMap<NodeId, PeerState>) {
    if heard == Gossip::AtOnce {
        let mut alone = start;
        gossip(&mut alone);
        if alone.iter().zip(&start).any(|(a, b)| a.keys != b.keys) {
            // Lost before the fix began.
            return;
        }
    }
    // Valkey nodes, which take imported slots, count all keys; others may not.
    let counts_own_only = heard != Gossip::Seizing;
    let before = [values(&start, 0), values(&start, 1)];
    let in_conflict = before.iter().any(|values| values.count_ones() > 1);
    let mut world = start;
    for round in 0.. {
        assert!(round < 12, "the fix does not end: {start:#?} {world:#?}");
        let steps = match decided(&world, counts_own_only, peers) {
            Decision::Fine => break,
            Decision::Steps(steps) => steps,
            Decision::Assign => vec![FixStep::Assign { node: id(0) }],
            Decision::Refuse(why) => panic!("{why:?}: {start:#?} {world:#?}"),
            Decision::Strays { owner, holders } => holders
                .into_iter()
                .map(|from| FixStep::Gather { from, to: owner })
                .collect(),
        };
        assert!(steps.is_sorted(), "{steps:?}");
        let last = world;
        for step in steps {
            apply(&mut world, step, heard);
        }
        gossip(&mut world);
        let now = [values(&world, 0), values(&world, 1)];
        assert_eq!(
            before, now,
            "a value is lost: {start:#?} {last:#?} {world:#?}"
        );
        if last == world && in_conflict {
            return;
        }
    }
    gossip(&mut world);
    // The slot is not open, has one owner, and each key exists once, on its owner.
    let owners: Vec<usize> = (0..3).filter(|index| claims(&world, *index)).collect();
    let [owner] = owners[..] else {
        panic!("{owners:?} own it: {start:#?} {world:#?}");
    };
    for (index, server) in world.iter().enumerate() {
        let is_closed = server.migrating.is_none() && server.importing.is_none();
        assert!(is_closed, "{start:#?} {world:#?}");
        assert!(
            index == owner || server.count() == 0,
            "{start:#?} {world:#?}"
        );
    }
    for (key, before) in before.iter().enumerate() {
        let now = world
            .iter()
            .filter(|server| server.keys[key].is_some())
            .count();
        assert!(
            now == before.count_ones() as usize && now <= 1,
            "{start:#?}"
        );
    }
}

/// All states of the slot on one node: the owner that it sees, and whether the slot is open.
fn states(index: usize) -> Vec<(Option<usize>, Option<usize>, Option<usize>)> {
    let others: Vec<usize> = (0..3).filter(|other| *other != index).collect();
    let [one, other] = others[..] else { panic!() };
    let states = [
        (None, None),
        (Some(one), None),
        (Some(other), None),
        (None, Some(one)),
        (None, Some(other)),
        (Some(one), Some(other)),
    ];
    let views = [None, Some(0), Some(1), Some(2)];
    let both = |sees| states.map(|(migrating, importing)| (sees, migrating, importing));
    views.into_iter().flat_map(both).collect()
}

/// 24 states × 4 holdings for each of three nodes: 884,736 worlds.
#[test]
fn every_state_of_three_nodes_is_repaired_without_loss() {
    let holdings = [
        [None, None],
        [Some('v'), None],
        [Some('w'), None],
        [None, Some('x')],
    ];
    let server = |index: usize, saying: (Option<usize>, Option<usize>, Option<usize>), keys| {
        let (sees, migrating, importing) = saying;
        Server {
            sees,
            migrating,
            importing,
            keys,
            epoch: index as u64 + 1,
        }
    };
    // Each thread takes a part, to keep the test below a minute.
    let all = [states(0), states(1), states(2)];
    std::thread::scope(|scope| {
        for part in 0..4 {
            let all = &all;
            let server = &server;
            scope.spawn(move || {
                let peers = all_sound();
                for first in all[0].iter().skip(part).step_by(4) {
                    for second in &all[1] {
                        for third in &all[2] {
                            for mix in 0..64 {
                                let world = [
                                    server(0, *first, holdings[mix / 16]),
                                    server(1, *second, holdings[mix / 4 % 4]),
                                    server(2, *third, holdings[mix % 4]),
                                ];
                                check(world, Gossip::Seizing, &peers);
                            }
                        }
                    }
                }
            });
        }
    });
}

fn any_world() -> impl Strategy<Value = World> {
    let value = || proptest::option::of(prop_oneof![Just('v'), Just('w')]);
    let server = move |index: usize| {
        let all = states(index);
        (0..all.len(), value(), value(), 1_u64..6).prop_map(move |(saying, one, two, epoch)| {
            let (sees, migrating, importing) = all[saying];
            Server {
                sees,
                migrating,
                importing,
                keys: [one, two],
                epoch,
            }
        })
    };
    (server(0), server(1), server(2)).prop_map(|(a, b, c)| [a, b, c])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn gossip_at_any_moment_loses_no_key(world in any_world()) {
        let peers = all_sound();
        check(world, Gossip::AtOnce, &peers);
        check(world, Gossip::BetweenSteps, &peers);
        check(world, Gossip::Seizing, &peers);
    }

    /// A slot of an owner that may return is not changed, whatever other nodes report.
    #[test]
    fn slots_of_an_unreachable_owner_are_not_reassigned(world in any_world(), away in 0..3_usize) {
        let mut masters = masters(&world, false);
        masters.remove(away);
        let peers = (0..3)
            .map(|index| (id(index), if index == away { PeerState::Unreachable } else { PeerState::Healthy }))
            .collect();
        let mut slot = SlotState {
            masters,
            unreachable_owner: Some(id(away)),
            unreachable_master: Some(id(away)),
            orphan: None,
            peers: &peers,
            passage: &Passage::default(),
            consent: SlotConsent { assign: true, accept_loss: false },
        };
        prop_assert_eq!(decide(&slot), Decision::Refuse(Why::OwnerAway(id(away))));
        // It owns no slot as far as is known, and may still hold keys.
        slot.unreachable_owner = None;
        let owners = slot.masters.iter().filter(|master| master.sees == Some(master.id)).count();
        let decision = decide(&slot);
        if owners == 0 {
            prop_assert_eq!(&decision, &Decision::Refuse(Why::HolderAway(id(away))));
        }
        let goes_there = |master: &MasterState| master.migrating == Some(id(away));
        if owners == 1 {
            let is_given_to_it = slot
                .masters
                .iter()
                .any(|master| master.sees == Some(master.id) && goes_there(master));
            let closes = |step: &FixStep| {
                matches!(step, FixStep::Close { node } if slot.masters.iter().any(|s| s.id == *node
                    && s.sees == Some(s.id) && s.importing.is_none()))
            };
            if let Decision::Steps(steps) = &decision {
                prop_assert!(!is_given_to_it || !steps.iter().any(closes), "{:?}", steps);
            }
        }
        let names = |step: &FixStep| format!("{step:?}").contains(&id(away).to_string());
        if let Decision::Steps(steps) = &decision {
            prop_assert!(!steps.iter().any(names), "{:?}", steps);
        }
    }
}
