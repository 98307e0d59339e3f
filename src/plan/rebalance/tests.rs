use super::*;
use crate::cluster::slot::{SLOTS, Slot};
use crate::plan::samples::{check_moves, clusters, masters, node, shown};
use proptest::prelude::*;

/// By slots, exactly, without empty masters; weights by number of the node.
fn request(owned: &[&str], weights: &[(usize, f64)]) -> Request {
    Request {
        masters: masters(owned),
        weights: weights
            .iter()
            .map(|(n, weight)| (node(*n), *weight))
            .collect(),
        empty: UseEmpty::No,
        threshold: 0.0,
        by: By::Slots,
        rounding: Rounding::Exact,
    }
}

fn moves(request: &Request) -> MovePlan {
    match rebalance(request).unwrap().verdict {
        Verdict::Moves(plan) => plan,
        other => panic!("{other:?}"),
    }
}

fn after(request: &Request) -> Vec<u128> {
    let shares = rebalance(request).unwrap().shares;
    shares.iter().map(|share| share.after).collect()
}

const THREE: [&str; 4] = ["0-5460", "5461-10922", "10923-16383", ""];

#[test]
fn the_layout_of_create_is_in_balance() {
    // The odd slot stays with its owner; redis-cli gives it to the first in its list.
    let balance = rebalance(&request(&THREE, &[])).unwrap();
    assert_eq!(balance.verdict, Verdict::Balanced);
    assert_eq!(balance.left_out, [node(4)]);
    let expected: Vec<u128> = balance.shares.iter().map(|share| share.expected).collect();
    assert_eq!(expected, [5461, 5462, 5461]);
}

#[test]
fn a_new_master_gets_its_share_from_all() {
    let request = Request {
        empty: UseEmpty::Yes,
        threshold: 2.0,
        ..request(&THREE, &[])
    };
    assert_eq!(
        shown(&moves(&request)),
        ["1>4 0-1364", "2>4 5461-6826", "3>4 10923-12287"]
    );
    assert_eq!(after(&request), [4096; 4]);
}

#[test]
fn the_threshold_is_a_part_of_the_share() {
    // 8192 each: 164 more are 2.002 %, 163 are 1.99 %.
    let with = |owned: &[&str], threshold| {
        let request = Request {
            threshold,
            ..request(owned, &[])
        };
        rebalance(&request).unwrap().verdict
    };
    let inside = ["0-8354", "8355-16383"];
    let outside = ["0-8355", "8356-16383"];
    assert_eq!(with(&inside, 2.0), Verdict::Balanced);
    assert!(matches!(with(&outside, 2.0), Verdict::Moves(_)));
    assert!(matches!(
        with(&["0-8192", "8193-16383"], 0.0),
        Verdict::Moves(_)
    ));
    assert_eq!(with(&["0-8191", "8192-16383"], 0.0), Verdict::Balanced);
}

#[test]
fn weights_share_the_slots_and_zero_empties() {
    let three = &THREE[..3];
    assert_eq!(after(&request(three, &[(1, 2.0)])), [8192, 4096, 4096]);
    assert_eq!(after(&request(three, &[(2, 0.0)])), [8192, 0, 8192]);
    // A weight alone does not bring in a master without slots.
    let balance = rebalance(&request(&THREE, &[(4, 5.0)])).unwrap();
    assert_eq!(balance.verdict, Verdict::Balanced);
    assert_eq!(balance.left_out, [node(4)]);
    // A tiny weight is not 0.
    assert_eq!(
        after(&request(three, &[(1, 1e-300), (2, 1e300), (3, 1e300)])),
        [1, 8191, 8192]
    );
}

#[test]
fn a_balance_with_odd_slots_stays_as_it_is() {
    // The share of each is half a slot more than it gets; the master with three times the weight owns
    // most slots, and has no larger remainder than the others.
    let owned = ["0-3", "4", "5-6", "7", "8", "9-11"];
    let unbalanced = request(&owned, &[(2, 3.0)]);
    assert_eq!(after(&unbalanced), [2, 4, 2, 1, 1, 2]);
    let masters = applied(&unbalanced.masters, &moves(&unbalanced));
    let balanced = Request {
        masters,
        ..unbalanced
    };
    assert_eq!(rebalance(&balanced).unwrap().verdict, Verdict::Balanced);
}

#[test]
fn surplus_and_deficit_that_match_are_paired() {
    let owned = ["0-5095", "5096-9491", "9492-12987", "12988-16383"];
    // 5096, 4396, 3496, 3396 to 4096 each: surplus 1000 and 300, deficit 600 and 700.
    assert_eq!(
        shown(&moves(&request(&owned, &[]))),
        ["1>4 0-699", "1>3 700-999", "2>3 5096-5395"]
    );
}

#[test]
fn what_cannot_be_balanced_is_refused_by_name() {
    let with = |weights: &[(usize, f64)]| rebalance(&request(&THREE, weights)).unwrap_err();
    assert_eq!(
        with(&[(9, 1.0)]),
        RebalanceError::NotAMaster { id: node(9) }
    );
    for weight in [-1.0, f64::NAN, f64::INFINITY] {
        let error = with(&[(2, weight)]);
        assert!(matches!(error, RebalanceError::BadWeight { id, .. } if id == node(2)));
    }
    assert_eq!(
        with(&[(1, 1.0), (1, 1.0), (1, 2.0)]),
        RebalanceError::TwoWeights {
            id: node(1),
            one: 1.0,
            other: 2.0,
        }
    );
    let zero = [(1, 0.0), (2, 0.0), (3, 0.0)];
    assert_eq!(with(&zero), RebalanceError::AllZero);
    assert_eq!(
        rebalance(&request(&["", ""], &[])),
        Err(RebalanceError::NoMasters)
    );
    for threshold in [-1.0, f64::NAN] {
        let request = Request {
            threshold,
            ..request(&THREE, &[])
        };
        let error = rebalance(&request).unwrap_err();
        assert!(matches!(error, RebalanceError::BadThreshold { .. }));
    }
    assert!(matches!(
        rebalance(&request(&["0-9", "5-20"], &[])),
        Err(RebalanceError::Contested(_))
    ));
}

#[test]
fn weights_come_from_memory_limits_where_all_have_one() {
    let weights = weights_by_memory(&[(node(1), 1 << 30), (node(2), 3 << 30)]).unwrap();
    let request = Request {
        weights,
        ..request(&["0-8191", "8192-16383"], &[])
    };
    assert_eq!(after(&request), [4096, 12288]);
    let error = weights_by_memory(&[(node(1), 0), (node(2), 5), (node(3), 0)]).unwrap_err();
    assert_eq!(error.nodes, [node(1), node(3)]);
}

/// By load, `slot:load` each; other slots hold nothing.
fn by_load(owned: &[&str], loads: &[(u16, u64)], threshold: f64) -> Request {
    let mut load = vec![0; usize::from(SLOTS)];
    for (slot, held) in loads {
        load[usize::from(*slot)] = *held;
    }
    Request {
        threshold,
        by: By::Load(load),
        ..request(owned, &[])
    }
}

#[test]
fn the_slot_that_fits_best_moves_alone() {
    let loads = [(0, 50), (1, 30), (2, 19), (3, 1), (100, 40)];
    let request = by_load(&["0-99", "100-199"], &loads, 0.0);
    assert_eq!(shown(&moves(&request)), ["1>2 1"]);
    assert_eq!(after(&request), [70, 70]);
}

#[test]
fn a_slot_that_is_too_hot_stays() {
    let request = by_load(&["0-99", "100-199"], &[(5, 1000), (100, 10)], 2.0);
    let balance = rebalance(&request).unwrap();
    assert_eq!(balance.verdict, Verdict::Indivisible);
    let request = by_load(&["5", "100-199"], &[(5, 1000), (100, 10)], 2.0);
    assert_eq!(rebalance(&request).unwrap().verdict, Verdict::Indivisible);
}

#[test]
fn the_last_slot_stays_however_little_its_master_weighs() {
    let loads = [(5, 100)];
    for (weight, verdict) in [(0.1, "Indivisible"), (0.0, "Moves")] {
        let mut request = by_load(&["5", "100-199"], &loads, 2.0);
        request.weights = vec![(node(1), weight)];
        let found = format!("{:?}", rebalance(&request).unwrap().verdict);
        assert!(found.starts_with(verdict), "{found}");
    }
}

#[test]
fn masters_without_keys_are_in_balance() {
    let request = by_load(&["0-99", "100-199"], &[], 0.0);
    assert_eq!(rebalance(&request).unwrap().verdict, Verdict::Balanced);
    let short = Request {
        by: By::Load(vec![7]),
        ..request
    };
    assert_eq!(rebalance(&short).unwrap().verdict, Verdict::Indivisible);
}

#[test]
fn weight_zero_gives_slots_without_load_too() {
    let mut request = by_load(&["0-99", "100-199", "200-399"], &[(0, 5), (1, 5)], 0.0);
    request.weights = vec![(node(1), 0.0)];
    let plan = moves(&request);
    assert_eq!(plan.slots_moved(), 100);
    assert_eq!(after(&request), [0, 5, 5]);
    // Slots without load go to the master with the fewest slots.
    let moved = plan.moves().find(|one| one.to == node(3)).unwrap();
    assert_eq!(moved.slots.count(), 1);
}

#[test]
fn even_loads_end_within_the_threshold() {
    let mut request = by_load(&THREE, &[], 1.0);
    request.empty = UseEmpty::Yes;
    request.by = By::Load((0..u64::from(SLOTS)).map(|slot| 90 + slot % 21).collect());
    let balance = rebalance(&request).unwrap();
    for share in &balance.shares {
        assert!(!is_beyond(share.after, share.expected, 1.0), "{share:?}");
    }
    // At most a quarter of the slots; fewer if the heaviest go first.
    assert!(moves(&request).slots_moved() <= 4096);
}

/// The slots of every master after the plan.
fn applied(masters: &[SlotOwner], plan: &MovePlan) -> Vec<SlotOwner> {
    let mut masters = masters.to_vec();
    for one in plan.moves() {
        for master in &mut masters {
            if master.id == one.from {
                master.slots = master.slots.difference(&one.slots);
            }
            if master.id == one.to {
                master.slots = master.slots.union(&one.slots);
            }
        }
    }
    masters
}

fn owned_by_all(masters: &[SlotOwner]) -> SlotSet {
    masters
        .iter()
        .fold(SlotSet::new(), |sum, master| sum.union(&master.slots))
}

fn requests() -> impl Strategy<Value = Request> {
    let weight = prop_oneof![
        Just(0.0),
        Just(1.0),
        Just(1.0),
        (1..40_u8).prop_map(|tenths| f64::from(tenths) / 10.0),
        0.0..1e9,
    ];
    let weights = proptest::collection::vec(weight, 0..8);
    let threshold = prop_oneof![Just(0.0), Just(2.0), 0.0..100.0];
    let empty = prop_oneof![Just(UseEmpty::No), Just(UseEmpty::Yes)];
    (clusters(), weights, threshold, empty).prop_map(|(masters, weights, threshold, empty)| {
        Request {
            weights: masters
                .iter()
                .map(|master| master.id)
                .zip(weights)
                .collect(),
            masters,
            empty,
            threshold,
            by: By::Slots,
            rounding: Rounding::Exact,
        }
    })
}

/// Loads with many light slots and some heavy ones.
fn loads() -> impl Strategy<Value = Vec<u64>> {
    let load = prop_oneof![
        4 => Just(0),
        4 => 0..100_u64,
        1 => 0..10_000_u64,
        1 => prop_oneof![99 => 0..1000_u64, 1 => Just(u64::MAX)],
    ];
    proptest::collection::vec(load, 0..3000).prop_map(|some| {
        // Spread over all slots; all distinct positions.
        let mut loads = vec![0; usize::from(SLOTS)];
        for (index, load) in some.into_iter().enumerate() {
            loads[index * 4099 % usize::from(SLOTS)] = load;
        }
        loads
    })
}

/// Checks what holds by slots and by load; returns the slots of the masters afterwards.
fn check_balance(request: &Request, balance: &Balance) -> Result<Vec<SlotOwner>, TestCaseError> {
    let plan = match &balance.verdict {
        Verdict::Moves(plan) => plan.clone(),
        Verdict::Balanced | Verdict::Indivisible => MovePlan::default(),
    };
    let after = applied(&request.masters, &plan);
    prop_assert_eq!(owned_by_all(&after), owned_by_all(&request.masters));
    let sum = |of: fn(&Share) -> u128| balance.shares.iter().map(of).sum::<u128>();
    prop_assert_eq!(sum(|share| share.after), sum(|share| share.before));
    prop_assert_eq!(sum(|share| share.expected), sum(|share| share.before));
    prop_assert_eq!(
        balance.shares.len() + balance.left_out.len(),
        request.masters.len()
    );
    for (before, after) in request.masters.iter().zip(&after) {
        let weight = request.weights.iter().find(|(id, _)| *id == before.id);
        if weight.is_some_and(|(_, weight)| *weight == 0.0) {
            prop_assert!(balance.verdict == Verdict::Balanced || after.slots.is_empty());
        } else {
            prop_assert!(before.slots.is_empty() || !after.slots.is_empty());
        }
        if balance.left_out.contains(&before.id) {
            prop_assert!(after.slots.is_empty());
        }
    }
    Ok(after)
}

proptest! {
    // Each case reads all slots of all masters many times.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn by_slots_all_end_at_their_shares(request in requests()) {
        match rebalance(&request) {
            Ok(balance) => {
                let masters = check_balance(&request, &balance)?;
                if let Verdict::Moves(plan) = &balance.verdict {
                    check_moves(&request.masters, plan)?;
                    let surplus: u128 = balance
                        .shares
                        .iter()
                        .map(|share| share.before.saturating_sub(share.expected))
                        .sum();
                    prop_assert_eq!(plan.slots_moved() as u128, surplus);
                    for share in &balance.shares {
                        let master = masters.iter().find(|master| master.id == share.id).unwrap();
                        prop_assert_eq!(master.slots.count() as u128, share.expected);
                        prop_assert_eq!(share.after, share.expected);
                    }
                    let again = Request { masters, ..request.clone() };
                    if !again.masters.iter().any(|master| master.slots.is_empty()) {
                        prop_assert_eq!(rebalance(&again).unwrap().verdict, Verdict::Balanced);
                    }
                }
            }
            Err(RebalanceError::AllZero | RebalanceError::NoMasters) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn by_load_no_slot_is_lost_and_the_imbalance_is_bounded(request in requests(), load in loads()) {
        let request = Request { by: By::Load(load.clone()), ..request };
        let Ok(balance) = rebalance(&request) else { return Ok(()) };
        let masters = check_balance(&request, &balance)?;
        let held = |slots: &SlotSet| -> u128 {
            slots.iter().map(|slot| u128::from(load[usize::from(slot.number())])).sum()
        };
        let moved = match &balance.verdict {
            Verdict::Moves(plan) => plan.moves().fold(SlotSet::new(), |sum, one| sum.union(&one.slots)),
            Verdict::Balanced | Verdict::Indivisible => SlotSet::new(),
        };
        let weighs = |id: NodeId| !request.weights.contains(&(id, 0.0));
        let surplus = |share: &Share| share.after as i128 - share.expected as i128;
        for share in &balance.shares {
            let master = masters.iter().find(|master| master.id == share.id).unwrap();
            prop_assert_eq!(held(&master.slots), share.after);
            let beyond = is_beyond(share.after, share.expected, request.threshold);
            prop_assert!(!beyond || balance.verdict != Verdict::Balanced);
            if !beyond || surplus(share) < 0 || master.slots.count() < 2 {
                continue;
            }
            let lightest = master
                .slots
                .difference(&moved)
                .iter()
                .map(|slot| i128::from(load[usize::from(slot.number())]))
                .filter(|load| *load > 0)
                .min();
            for other in balance.shares.iter().filter(|other| weighs(other.id)) {
                let apart = surplus(share) - surplus(other);
                prop_assert!(lightest.is_none_or(|lightest| apart <= lightest));
            }
        }
        if request.weights.iter().all(|(_, weight)| *weight > 0.0) {
            let worst = |surplus: fn(&Share) -> u128| balance.shares.iter().map(surplus).max();
            prop_assert!(
                worst(|share| share.after.abs_diff(share.expected))
                    <= worst(|share| share.before.abs_diff(share.expected))
            );
        }
    }
}

#[test]
fn two_hundred_masters_are_balanced_quickly() {
    let request = Request {
        masters: (0..200_u16)
            .map(|number| SlotOwner {
                id: node(usize::from(number)),
                slots: Slot::all()
                    .filter(|slot| slot.number() / 90 == number)
                    .collect(),
            })
            .collect(),
        weights: Vec::new(),
        empty: UseEmpty::Yes,
        threshold: 2.0,
        by: By::Load(
            (0..u64::from(SLOTS))
                .map(|slot| slot * slot % 1009)
                .collect(),
        ),
        rounding: Rounding::Exact,
    };
    let balance = rebalance(&request).unwrap();
    let within = |share: &&Share| !is_beyond(share.after, share.expected, 2.0);
    assert_eq!(balance.shares.iter().filter(within).count(), 200);
}

/// The heat of some slots; the others have none.
fn heat(slots: &[(u16, u64)]) -> By {
    let mut heat = vec![0; usize::from(SLOTS)];
    for (slot, load) in slots {
        heat[usize::from(*slot)] = *load;
    }
    By::Heat(heat)
}

#[test]
fn the_hottest_slot_stays_and_the_next_ones_leave() {
    let by_heat = |slots: &[(u16, u64)]| Request {
        by: heat(slots),
        threshold: 10.0,
        ..request(&THREE[..3], &[])
    };
    // 100, 0 and 50 of 150: the first keeps its hottest slot, and one move is enough.
    let two = by_heat(&[(0, 50), (1, 50), (11_000, 50)]);
    assert_eq!(shown(&moves(&two)), ["1>2 1"]);
    assert_eq!(rebalance(&two).unwrap().oversized, []);
    // A slot with more than a third of all is named, and all the rest leaves its master.
    let one = by_heat(&[(7, 900), (8, 60), (9, 40)]);
    let balance = rebalance(&one).unwrap();
    let named: Vec<_> = balance
        .oversized
        .iter()
        .map(|one| (one.slot.number(), one.load, one.fair))
        .collect();
    assert_eq!(named, [(7, 900, 334)]);
    let expected: Vec<u128> = balance.shares.iter().map(|share| share.expected).collect();
    assert_eq!(expected, [900, 50, 50]);
    assert_eq!(shown(&moves(&one)).len(), 2);
    // One slot has everything: nothing can be done.
    let alone = rebalance(&by_heat(&[(7, 900)])).unwrap();
    assert_eq!(alone.verdict, Verdict::Balanced);
    assert_eq!(alone.oversized.len(), 1);
    // Nothing happened during the sample.
    assert_eq!(rebalance(&by_heat(&[])).unwrap().verdict, Verdict::Balanced);
    // A master of weight 0 gives its hottest slot away, too.
    let mut drained = by_heat(&[(0, 50), (1, 50), (11_000, 50)]);
    drained.weights = vec![(node(1), 0.0)];
    assert_eq!(moves(&drained).slots_moved(), 5461);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn by_heat_the_hottest_slots_stay_and_no_master_gets_worse(request in requests(), load in loads()) {
        let request = Request { by: By::Heat(load.clone()), ..request };
        let Ok(balance) = rebalance(&request) else { return Ok(()) };
        check_balance(&request, &balance)?;
        let of = |slot: Slot| load[usize::from(slot.number())];
        let moved = match &balance.verdict {
            Verdict::Moves(plan) => plan.moves().fold(SlotSet::new(), |sum, one| sum.union(&one.slots)),
            Verdict::Balanced | Verdict::Indivisible => SlotSet::new(),
        };
        let weighs = |id: NodeId| !request.weights.contains(&(id, 0.0));
        for master in request.masters.iter().filter(|master| weighs(master.id)) {
            let hottest = master.slots.iter().map(of).max().unwrap_or(0);
            let stay = master.slots.difference(&moved);
            prop_assert!(hottest == 0 || stay.iter().any(|slot| of(slot) == hottest));
            // Slots without load stay.
            prop_assert!(master.slots.intersection(&moved).iter().all(|slot| of(slot) > 0));
        }
        let largest = |share: &Share| share.expected;
        let most = balance.shares.iter().map(largest).max().unwrap_or(0);
        for one in &balance.oversized {
            prop_assert!(u128::from(one.load) > one.fair);
            prop_assert_eq!(one.load, of(one.slot));
        }
        for master in &request.masters {
            let over = master.slots.iter().filter(|slot| u128::from(of(*slot)) > most.max(1)).count();
            prop_assert!(over <= balance.oversized.len());
        }
        if request.weights.iter().all(|(_, weight)| *weight > 0.0) {
            let worst = |surplus: fn(&Share) -> u128| balance.shares.iter().map(surplus).max();
            prop_assert!(
                worst(|share| share.after.abs_diff(share.expected))
                    <= worst(|share| share.before.abs_diff(share.expected))
            );
        }
    }
}
