use proptest::prelude::*;

use super::*;
use crate::cluster::ok_to_stop::tests::{id, master, replica};
use crate::cluster::parse::Product;
use crate::cluster::slot::SlotSet;

fn version(major: u16) -> Version {
    Version {
        product: Product::Redis,
        numbers: [major, 0, 0],
    }
}

/// Masters 1 to 3 with so many replicas each.
fn cluster(replicas: usize) -> RollState {
    let mut members = vec![
        master(1, 0, 5461),
        master(2, 5461, 10923),
        master(3, 10923, 16384),
    ];
    for number in 0..replicas * 3 {
        members.push(replica(number + 4, number % 3 + 1));
    }
    let pending = members.iter().map(|member| member.id).collect();
    RollState {
        versions: members.iter().map(|m| (m.id, version(7))).collect(),
        members,
        pending,
        done: BTreeSet::new(),
    }
}

fn limits(max_unavailable: usize) -> RollLimits {
    RollLimits {
        max_unavailable,
        masters_at_end: BTreeSet::new(),
    }
}

fn words(steps: &[RollStep]) -> Vec<String> {
    let number = |id: &NodeId| usize::from_str_radix(&id.to_string(), 16).unwrap();
    steps
        .iter()
        .map(|step| match step {
            RollStep::Restart(ids) => {
                let ids: Vec<String> = ids.iter().map(|id| number(id).to_string()).collect();
                ids.join("+")
            }
            RollStep::FailOver {
                to,
                from,
                only_copy,
            } => {
                let mark = if *only_copy { "!" } else { "" };
                format!("{}>{}{mark}", number(from), number(to))
            }
        })
        .collect()
}

#[test]
fn one_shard_after_the_other() {
    let steps = foresee(&cluster(1), &limits(1));
    assert_eq!(
        words(&steps),
        ["4", "1>4!", "1", "5", "2>5!", "2", "6", "3>6!", "3"]
    );
    let steps = foresee(&cluster(2), &limits(1));
    assert_eq!(words(&steps)[..4], ["4", "7", "1>4", "1"]);
}

#[test]
fn more_at_once_only_as_far_as_copies_stay() {
    // With one replica each, the first of them is the last copy in sync already.
    let steps = foresee(&cluster(1), &limits(3));
    assert_eq!(
        words(&steps),
        ["4", "1>4!", "1", "5", "2>5!", "2", "6", "3>6!", "3"]
    );
    let steps = foresee(&cluster(2), &limits(3));
    assert_eq!(words(&steps)[..2], ["4+5+6", "7+8+9"]);
    // Never both replicas of a shard.
    let steps = foresee(&cluster(2), &limits(6));
    assert_eq!(words(&steps)[..2], ["4+5+6", "7+8+9"]);
}

#[test]
fn masters_get_their_roles_back_at_the_end() {
    let limits = RollLimits {
        masters_at_end: [1, 2, 3].map(id).into(),
        ..limits(1)
    };
    let steps = foresee(&cluster(1), &limits);
    assert_eq!(words(&steps)[9..], ["4>1", "5>2", "6>3"]);
}

#[test]
fn only_some_nodes() {
    let mut state = cluster(1);
    state.pending = [5, 2].map(id).into();
    assert_eq!(words(&foresee(&state, &limits(1))), ["5", "2>5!", "2"]);
    // The replica is not restarted, but takes over all the same.
    state.pending = [id(2)].into();
    assert_eq!(words(&foresee(&state, &limits(1))), ["2>5!", "2"]);
    state.pending.clear();
    assert!(foresee(&state, &limits(1)).is_empty());
}

#[test]
fn a_replica_that_stays_behind_can_follow_the_new_master() {
    let mut state = cluster(2);
    // 4 was updated; 7 is not to be, and can't follow it.
    state.pending = [id(1)].into();
    state.done = [id(4)].into();
    state.versions.insert(id(4), version(8));
    assert_eq!(words(&foresee(&state, &limits(1)))[0], "1>7");
}

#[test]
fn an_interrupted_roll_goes_on_with_the_old_master() {
    let mut state = cluster(1);
    let failover = RollStep::FailOver {
        to: id(4),
        from: id(1),
        only_copy: true,
    };
    apply(&mut state, &RollStep::Restart(vec![id(4)]));
    apply(&mut state, &failover);
    // It is older than its new master, and can't follow it.
    let old = state.members.iter_mut().find(|m| m.id == id(1)).unwrap();
    old.in_sync = false;
    assert_eq!(words(&foresee(&state, &limits(1)))[..2], ["1", "5"]);
}

#[test]
fn refused_before_anything_is_changed() {
    let mut state = cluster(1);
    state.members.retain(|member| member.id != id(4));
    state.pending.remove(&id(4));
    let all = |state: &RollState, persists: bool, flag: bool| refusals(state, |_| persists, flag);
    assert_eq!(all(&state, true, false), [RollRefusal::SingleCopy(id(1))]);
    assert_eq!(all(&state, true, true), []);
    let no_persistence = [RollRefusal::NoPersistence(id(1))];
    assert_eq!(all(&state, false, true), no_persistence);
    assert_eq!(all(&state, false, false), no_persistence);
    // Its only replica is not in sync, and is not restarted.
    let mut state = cluster(1);
    state.members[3].in_sync = false;
    assert_eq!(all(&state, true, true), []);
    state.pending.remove(&id(4));
    assert_eq!(
        all(&state, true, true),
        [RollRefusal::NoReplicaInSync(id(1))]
    );
}

fn rolls() -> impl Strategy<Value = (RollState, RollLimits)> {
    (
        1..6_usize,
        proptest::collection::vec((0..6_usize, any::<bool>()), 0..14),
        proptest::collection::vec(proptest::bool::weighted(0.8), 20),
        1..5_usize,
        any::<bool>(),
    )
        .prop_map(|(masters, followers, pending, max_unavailable, back)| {
            let bound = |number: usize| (16384 * number / masters) as u16;
            let mut members: Vec<StopCandidate> = (0..masters)
                .map(|n| master(n + 1, bound(n), bound(n + 1)))
                .collect();
            for (number, (of, _)) in (masters + 1..).zip(&followers) {
                members.push(replica(number, of % masters + 1));
            }
            let versions = members.iter().zip(&pending);
            let versions = versions.map(|(m, old)| (m.id, version(if *old { 7 } else { 8 })));
            let versions = versions.collect();
            let chosen = members
                .iter()
                .zip(&pending)
                .filter(|(_, pending)| **pending);
            let pending = chosen.map(|(member, _)| member.id).collect();
            let masters_at_end = match back {
                true => (1..=masters).map(id).collect(),
                false => BTreeSet::new(),
            };
            let state = RollState {
                members,
                versions,
                pending,
                done: BTreeSet::new(),
            };
            let limits = RollLimits {
                max_unavailable,
                masters_at_end,
            };
            (state, limits)
        })
}

proptest! {
    #[test]
    fn every_node_restarts_once_and_no_slot_loses_its_master((start, limits) in rolls()) {
        let mut state = start.clone();
        let mut restarted = BTreeSet::new();
        for step in foresee(&start, &limits) {
            match &step {
                RollStep::Restart(nodes) => {
                    prop_assert!(!nodes.is_empty() && nodes.len() <= limits.max_unavailable);
                    for id in nodes {
                        prop_assert!(restarted.insert(*id), "{id:?} twice");
                        prop_assert!(start.pending.contains(id));
                        let member = state.members.iter().find(|m| m.id == *id).unwrap();
                        let is_owner = member.role == Role::Master && !member.slots.is_empty();
                        // A master with replicas hands over first; one without stops alone.
                        let has_replicas = state.members.iter().any(|m| m.master == Some(*id));
                        prop_assert!(!is_owner || (!has_replicas && nodes.len() == 1));
                        // Its pending replicas went before it.
                        let waits = state.members.iter().any(|m| m.master == Some(*id) && state.pending.contains(&m.id));
                        prop_assert!(!waits || !is_owner);
                    }
                    if nodes.len() > 1 {
                        let set = nodes.iter().copied().collect();
                        prop_assert!(reasons(&state.members, &set).is_empty());
                    }
                }
                RollStep::FailOver { to, from, .. } => {
                    let replica = state.members.iter().find(|m| m.id == *to).unwrap();
                    prop_assert!(replica.master == Some(*from) && replica.in_sync && replica.is_up);
                }
            }
            apply(&mut state, &step);
            let served = state.members.iter().filter(|m| m.role == Role::Master);
            let served = served.fold(SlotSet::new(), |sum, m| sum.union(&m.slots));
            prop_assert_eq!(served.count(), 16384);
        }
        prop_assert_eq!(&restarted, &start.pending);
        prop_assert!(state.pending.is_empty());
        // Masters have their roles back.
        for id in &limits.masters_at_end {
            let member = state.members.iter().find(|m| m.id == *id).unwrap();
            prop_assert_eq!(member.role, Role::Master);
        }
        // At most one failover for each shard, and one back.
        let failovers = foresee(&start, &limits).into_iter().filter(|step| matches!(step, RollStep::FailOver { .. }));
        let masters = start.members.iter().filter(|m| m.role == Role::Master).count();
        prop_assert!(failovers.count() <= masters * 2);
    }

    #[test]
    fn a_roll_that_stopped_anywhere_goes_on_to_the_same_end((start, limits) in rolls(), stop_after in 0..20_usize) {
        let mut state = start.clone();
        let steps = foresee(&start, &limits);
        for step in steps.iter().take(stop_after) {
            apply(&mut state, step);
        }
        let rest = foresee(&state, &limits);
        let left = &steps[stop_after.min(steps.len())..];
        prop_assert_eq!(&rest[..], left);
    }
}
