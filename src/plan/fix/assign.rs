//! Assignment of slots without keys to masters.

use std::collections::BTreeMap;

use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;

/// Shares slots so that the masters own numbers as even as possible; each master takes consecutive
/// slots. Masters without slots take none if other masters have some.
pub(super) fn share_out(
    masters: &[(NodeId, &SlotSet)],
    free: &SlotSet,
) -> BTreeMap<NodeId, SlotSet> {
    let mut counts: Vec<(usize, NodeId)> = masters
        .iter()
        .map(|(id, slots)| (slots.count(), *id))
        .collect();
    if counts.iter().any(|(count, _)| *count > 0) {
        counts.retain(|(count, _)| *count > 0);
    }
    let mut shares: BTreeMap<NodeId, usize> = BTreeMap::new();
    if counts.is_empty() {
        return BTreeMap::new();
    }
    for _ in free.iter() {
        if let Some(least) = counts.iter_mut().min() {
            least.0 += 1;
            *shares.entry(least.1).or_default() += 1;
        }
    }
    let mut slots = free.iter();
    shares
        .into_iter()
        .map(|(id, share)| (id, slots.by_ref().take(share).collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::samples::{node, slots};
    use proptest::prelude::*;

    #[test]
    fn masters_with_fewest_slots_take_most_and_empty_masters_none() {
        let (few, many, none) = (slots("0-9"), slots("10-29"), SlotSet::new());
        let masters = [(node(1), &few), (node(2), &many), (node(3), &none)];
        let shared = share_out(&masters, &slots("100-119"));
        assert_eq!(shared[&node(1)].to_string(), "100-114");
        assert_eq!(shared[&node(2)].to_string(), "115-119");
        assert_eq!(shared.len(), 2);
        let shared = share_out(&[(node(3), &none)], &slots("5,7"));
        assert_eq!(shared[&node(3)].to_string(), "5,7");
        assert!(share_out(&[], &slots("5")).is_empty());
    }

    proptest! {
        #[test]
        fn each_slot_goes_to_one_master(
            owned in proptest::collection::vec(0_u16..200, 1..6),
            free in 0_u16..500,
        ) {
            let mut start = 1000;
            let owned: Vec<SlotSet> = owned.into_iter().map(|count| {
                start += count;
                slots(&(start - count..start).map(|s| s.to_string()).collect::<Vec<_>>().join(","))
            }).collect();
            let free = slots(&(0..free).map(|s| s.to_string()).collect::<Vec<_>>().join(","));
            let masters: Vec<_> = (1..).map(node).zip(&owned).collect();
            let shared = share_out(&masters, &free);
            let mut all = SlotSet::new();
            for slots in shared.values() {
                prop_assert!(!slots.is_empty());
                prop_assert!(all.intersection(slots).is_empty());
                all = all.union(slots);
            }
            prop_assert_eq!(all, free);
        }
    }
}
