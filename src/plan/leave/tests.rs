use proptest::prelude::*;

use super::super::samples::{node, shown, slots};
use super::*;
use crate::cluster::parse::Product;

fn place() -> Place {
    Place {
        host: "h".to_string(),
        zone: None,
    }
}

fn master(number: usize, owned: &str) -> LeaveMember {
    LeaveMember {
        id: node(number),
        role: Role::Master,
        master: None,
        version: None,
        slots: slots(owned),
        open: SlotSet::new(),
        life: Life::Well,
        in_sync: false,
        keys: 0,
        place: place(),
    }
}

fn replica(number: usize, of: usize) -> LeaveMember {
    LeaveMember {
        role: Role::Replica,
        master: Some(node(of)),
        in_sync: true,
        ..master(number, "")
    }
}

fn request(members: Vec<LeaveMember>, leaving: &[usize], slots: OwnedSlots) -> Request {
    Request {
        members,
        leaving: leaving.iter().map(|number| node(*number)).collect(),
        slots,
        unprotected: BTreeSet::new(),
    }
}

fn three() -> Vec<LeaveMember> {
    vec![
        master(1, "0-5460"),
        master(2, "5461-10922"),
        master(3, "10923-16383"),
        replica(4, 1),
        replica(5, 2),
        replica(6, 3),
    ]
}

fn given(of: &Leave) -> Vec<(NodeId, NodeId)> {
    of.given.iter().map(|one| (one.replica, one.to)).collect()
}

#[test]
fn a_master_is_drained_and_its_replica_given_away_before_the_last_slot() {
    let plan = leave(&request(three(), &[3], OwnedSlots::Drain)).unwrap();
    assert_eq!(shown(&plan.drain), ["3>1 10923-13653", "3>2 13654-16382"]);
    assert_eq!(shown(&plan.last), ["3>2 16383"]);
    assert_eq!(given(&plan), [(node(6), node(1))]);
    // If its replica leaves too, no slot is kept back.
    let plan = leave(&request(three(), &[3, 6], OwnedSlots::Drain)).unwrap();
    assert_eq!(shown(&plan.drain), ["3>1 10923-13653", "3>2 13654-16383"]);
    assert!(plan.last.is_empty() && plan.given.is_empty());
}

#[test]
fn slots_make_the_numbers_even() {
    let members = vec![
        master(1, "0-999"),
        master(2, "1000-8000"),
        master(3, "8001-8010"),
    ];
    let plan = leave(&request(members, &[3], OwnedSlots::Drain)).unwrap();
    assert_eq!(shown(&plan.drain), ["3>1 8001-8010"]);
}

#[test]
fn slots_are_named_unless_they_may_move() {
    let mut members = three();
    members.push(master(7, ""));
    let refusals = leave(&request(members.clone(), &[3], OwnedSlots::Refuse)).unwrap_err();
    let owns = Refusal::OwnsSlots {
        master: node(3),
        slots: slots("10923-16383"),
    };
    assert_eq!(refusals, [owns]);
    // A master without slots leaves, and its replicas get other masters.
    members.push(replica(8, 7));
    let plan = leave(&request(members.clone(), &[7], OwnedSlots::Refuse)).unwrap();
    assert!(plan.drain.is_empty() && plan.last.is_empty());
    assert_eq!(given(&plan), [(node(8), node(1))]);
    // Unless it holds keys.
    members[6].keys = 5;
    let refusals = leave(&request(members, &[7], OwnedSlots::Drain)).unwrap_err();
    let keys = Refusal::HoldsKeys {
        master: node(7),
        keys: 5,
    };
    assert_eq!(refusals, [keys]);
}

#[test]
fn last_copies_stay_unless_their_loss_is_named() {
    let mut asked = request(three(), &[4], OwnedSlots::Refuse);
    let refusals = leave(&asked).unwrap_err();
    let last = Refusal::LastCopy {
        replica: node(4),
        master: node(1),
    };
    assert_eq!(refusals, [last]);
    for named in [4, 1] {
        asked.unprotected = [node(named)].into();
        assert!(leave(&asked).is_ok());
    }
    asked.unprotected = [node(5)].into();
    assert!(leave(&asked).is_err());
    // A replica that is not in sync is not a copy.
    asked.members[3].in_sync = false;
    assert!(leave(&asked).is_ok());
    // One of two may leave, not both.
    let mut members = three();
    members.push(replica(7, 1));
    assert!(leave(&request(members.clone(), &[4], OwnedSlots::Refuse)).is_ok());
    let both = leave(&request(members, &[4, 7], OwnedSlots::Refuse));
    assert_eq!(both.unwrap_err().len(), 2);
}

#[test]
fn the_data_of_a_failed_master_is_not_deleted() {
    let mut asked = request(three(), &[4], OwnedSlots::Refuse);
    asked.members[0].life = Life::Silent;
    asked.unprotected = [node(4)].into();
    let refusals = leave(&asked).unwrap_err();
    assert!(matches!(
        refusals[..],
        [Refusal::MasterNotWell {
            can_be_allowed: false,
            ..
        }]
    ));
    // A failed replica deletes nothing.
    asked.members[3].life = Life::Silent;
    assert!(leave(&asked).is_ok());
}

#[test]
fn a_failed_master_with_slots_needs_a_failover_first() {
    let mut asked = request(three(), &[1], OwnedSlots::Drain);
    asked.members[0].life = Life::Silent;
    let refusals = leave(&asked).unwrap_err();
    let cant = Refusal::CantGive {
        master: node(1),
        slots: slots("0-5460"),
        successor: Some(node(4)),
    };
    assert_eq!(refusals, [cant]);
    // After that it leaves.
    asked.members[0].slots = SlotSet::new();
    asked.members[3] = master(4, "0-5460");
    assert!(leave(&asked).is_ok());
}

#[test]
fn the_last_owner_stays() {
    for leaving in [&[1, 2, 3][..], &[1, 2, 3, 4, 5, 6]] {
        let refusals = leave(&request(three(), leaving, OwnedSlots::Drain)).unwrap_err();
        assert!(refusals.contains(&Refusal::LastOwner), "{refusals:?}");
    }
    let members = vec![master(1, "0-16383"), master(2, "")];
    let refusals = leave(&request(members, &[1], OwnedSlots::Drain)).unwrap_err();
    assert_eq!(refusals, [Refusal::LastOwner]);
}

#[test]
fn a_replica_that_does_not_answer_cant_be_given_away() {
    let mut asked = request(three(), &[3], OwnedSlots::Drain);
    asked.members[5].life = Life::Silent;
    let cant = Refusal::CantBeGiven {
        replica: node(6),
        from: node(3),
    };
    assert_eq!(leave(&asked).unwrap_err(), [cant]);
}

/// Found by the property below: the replica would follow a node that all forget.
#[test]
fn without_slot_owners_a_replica_has_no_master_to_follow() {
    let members = vec![master(1, ""), replica(2, 1)];
    let refusals = leave(&request(members, &[1], OwnedSlots::Refuse)).unwrap_err();
    let nobody = Refusal::NobodyToFollow {
        replica: node(2),
        from: node(1),
    };
    assert_eq!(refusals, [nobody]);
}

fn redis(major: u16) -> Option<Version> {
    Some(Version {
        product: Product::Redis,
        numbers: [major, 0, 0],
    })
}

#[test]
fn a_replica_goes_to_a_master_whose_data_it_reads() {
    let mut asked = request(three(), &[1], OwnedSlots::Drain);
    for (member, major) in asked.members.iter_mut().zip([7, 8, 7, 7, 8, 7]) {
        member.version = redis(major);
    }
    // The other master has as many replicas, and the lower slots.
    assert_eq!(given(&leave(&asked).unwrap()), [(node(4), node(3))]);
    asked.members[2].version = redis(8);
    let too_old = Refusal::TooOldToFollow {
        replica: node(4),
        from: node(1),
        version: redis(7).unwrap(),
        masters: redis(8).into_iter().collect(),
    };
    assert_eq!(leave(&asked).unwrap_err(), [too_old]);
    // It is named too, or it is upgraded first.
    asked.leaving.insert(node(4));
    assert!(leave(&asked).is_ok());
    asked.leaving.remove(&node(4));
    asked.members[3].version = redis(8);
    assert!(leave(&asked).is_ok());
}

fn clusters() -> impl Strategy<Value = Request> {
    let masters = 1..8_usize;
    let member = (0..8_usize, 0..3_u8, any::<bool>());
    let versions = proptest::collection::vec(7..9_u16, 24);
    (
        masters,
        proptest::collection::vec(member, 0..16),
        proptest::collection::vec(any::<bool>(), 24),
        proptest::collection::vec(0..100_u16, 7),
        any::<bool>(),
        proptest::collection::btree_set(1..24_usize, 0..3),
        versions,
    )
        .prop_map(
            |(masters, replicas, leaving, sizes, drain, unprotected, versions)| {
                let mut start = 0;
                let mut members: Vec<LeaveMember> = (0..masters)
                    .map(|number| {
                        let end = start + sizes[number];
                        let owned = match sizes[number] {
                            0 => String::new(),
                            _ => format!("{start}-{}", end - 1),
                        };
                        start = end;
                        master(number + 1, &owned)
                    })
                    .collect();
                for (number, (of, life, in_sync)) in (masters + 1..).zip(replicas) {
                    members.push(LeaveMember {
                        life: [Life::Well, Life::Doubted, Life::Silent][usize::from(life)],
                        in_sync: in_sync && life != 2,
                        ..replica(number, of % masters + 1)
                    });
                }
                for (member, major) in members.iter_mut().zip(versions) {
                    member.version = redis(major);
                }
                let leaving = (1..=members.len()).filter(|number| leaving[*number - 1]);
                Request {
                    leaving: leaving.map(node).collect(),
                    members,
                    slots: match drain {
                        true => OwnedSlots::Drain,
                        false => OwnedSlots::Refuse,
                    },
                    unprotected: unprotected.into_iter().map(node).collect(),
                }
            },
        )
}

proptest! {
    #[test]
    fn nodes_that_leave_leave_nothing_behind(request in clusters()) {
        let Ok(plan) = leave(&request) else {
            return Ok(());
        };
        let of = |id: NodeId| request.members.iter().find(|member| member.id == id).unwrap();
        let stays = |id: NodeId| !request.leaving.contains(&id);

        // Every slot of theirs moves once, to a master that stays and owned slots before.
        let mut moved = SlotSet::new();
        let mut after: BTreeMap<NodeId, usize> = BTreeMap::new();
        for one in plan.drain.moves().chain(plan.last.moves()) {
            prop_assert!(!stays(one.from) && stays(one.to));
            prop_assert!(one.slots.difference(&of(one.from).slots).is_empty());
            prop_assert!(!of(one.to).slots.is_empty());
            prop_assert!(moved.intersection(&one.slots).is_empty());
            moved = moved.union(&one.slots);
            *after.entry(one.to).or_default() += one.slots.count();
        }
        let owned = request.members.iter().filter(|member| !stays(member.id));
        let owned = owned.fold(SlotSet::new(), |sum, member| sum.union(&member.slots));
        prop_assert_eq!(&moved, &owned);

        // No master that took slots has more than one slot above another.
        let total = |member: &LeaveMember| {
            member.slots.count() + after.get(&member.id).copied().unwrap_or(0)
        };
        let owners: Vec<&LeaveMember> = request.members.iter()
            .filter(|member| stays(member.id) && !member.slots.is_empty())
            .collect();
        for taker in owners.iter().filter(|owner| after.contains_key(&owner.id)) {
            for other in &owners {
                prop_assert!(total(taker) <= total(other) + 1);
            }
        }

        // Every replica that stays follows a node that stays, and got its new master while its old one
        // still had a slot.
        for member in request.members.iter().filter(|m| stays(m.id) && m.role == Role::Replica) {
            let new = plan.given.iter().find(|one| one.replica == member.id);
            let from = member.master.unwrap();
            prop_assert_eq!(new.is_some(), !stays(from));
            prop_assert!(new.is_none_or(|one| stays(one.to) && !of(one.to).slots.is_empty()));
            prop_assert!(new.is_none_or(|one| Version::may_follow(member.version, of(one.to).version)));
            if !stays(from) && !of(from).slots.is_empty() {
                let kept: usize = plan.last.moves()
                    .filter(|one| one.from == from)
                    .map(|one| one.slots.count())
                    .sum();
                prop_assert_eq!(kept, 1);
            }
        }

        // No master that stays loses its last copy, unless that was named.
        for owner in &owners {
            let copies = |leaving: bool| request.members.iter()
                .filter(|m| m.master == Some(owner.id) && m.in_sync && stays(m.id) != leaving)
                .map(|m| m.id)
                .collect::<Vec<_>>();
            let (left, gone) = (copies(false), copies(true));
            let is_named = |id: &NodeId| {
                request.unprotected.contains(id) || request.unprotected.contains(&owner.id)
            };
            prop_assert!(gone.is_empty() || !left.is_empty() || gone.iter().all(is_named));
        }
        prop_assert!(owned.is_empty() || request.slots == OwnedSlots::Drain);
        prop_assert!(request.members.iter().any(|member| stays(member.id)));
    }
}
