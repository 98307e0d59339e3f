//! Masters to plan with, and what must hold of every plan that moves slots.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{MovePlan, SlotOwner};
use crate::cluster::node::NodeId;
use crate::cluster::slot::{SLOTS, Slot, SlotRange, SlotSet};

pub(super) fn node(number: usize) -> NodeId {
    format!("{number:040x}").parse().unwrap()
}

pub(super) fn slots(text: &str) -> SlotSet {
    let slot = |number: &str| Slot::new(number.parse().unwrap()).unwrap();
    text.split(',')
        .filter(|range| !range.is_empty())
        .map(|range| match range.split_once('-') {
            Some((start, end)) => SlotRange::new(slot(start), slot(end)).unwrap(),
            None => SlotRange::new(slot(range), slot(range)).unwrap(),
        })
        .collect()
}

pub(super) fn masters(owned: &[&str]) -> Vec<SlotOwner> {
    (1..)
        .zip(owned)
        .map(|(number, text)| SlotOwner {
            id: node(number),
            slots: slots(text),
        })
        .collect()
}

/// `from>to slots`, one move each.
pub(super) fn shown(plan: &MovePlan) -> Vec<String> {
    let number = |id: NodeId| usize::from_str_radix(&id.to_string()[32..], 16).unwrap();
    plan.moves()
        .map(|one| format!("{}>{} {}", number(one.from), number(one.to), one.slots))
        .collect()
}

/// Masters that own random slots, some of which nobody owns.
pub(super) fn clusters() -> impl Strategy<Value = Vec<SlotOwner>> {
    (
        2..9_usize,
        proptest::collection::vec((0..SLOTS, 0..12_usize), 0..40),
    )
        .prop_map(|(nodes, cuts)| {
            let starts: BTreeMap<u16, usize> = cuts.into_iter().collect();
            let mut owned = vec![SlotSet::new(); nodes];
            let mut owner = 0;
            for slot in Slot::all() {
                owner = starts.get(&slot.number()).copied().unwrap_or(owner);
                if let Some(slots) = owned.get_mut(owner) {
                    slots.insert(slot);
                }
            }
            let owner = |(number, slots)| SlotOwner {
                id: node(number),
                slots,
            };
            (1..).zip(owned).map(owner).collect()
        })
}

/// Each slot is in one move at most, and its owner gives it; each pair once.
pub(super) fn check_moves(masters: &[SlotOwner], plan: &MovePlan) -> Result<(), TestCaseError> {
    let mut moved = SlotSet::new();
    let mut pairs = BTreeSet::new();
    for one in plan.moves() {
        prop_assert!(!one.slots.is_empty());
        prop_assert!(one.from != one.to);
        prop_assert!(pairs.insert((one.from, one.to)));
        prop_assert!(moved.intersection(&one.slots).is_empty());
        moved = moved.union(&one.slots);
        let giver = masters.iter().find(|master| master.id == one.from);
        prop_assert!(one.slots.difference(&giver.unwrap().slots).is_empty());
    }
    let givers: BTreeSet<_> = pairs.iter().map(|(from, _)| *from).collect();
    let takers: BTreeSet<_> = pairs.iter().map(|(_, to)| *to).collect();
    prop_assert!(givers.is_disjoint(&takers));
    prop_assert!(pairs.is_empty() || pairs.len() < givers.len() + takers.len());
    Ok(())
}
