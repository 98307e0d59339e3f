//! The shares of slots as redis-cli and redis-trib.rb compute them.

use crate::cluster::node::NodeId;
use crate::cluster::slot::{SLOTS, SlotSet};

/// A master, and its weight as it was given.
pub(super) struct Weighted<'a> {
    pub(super) id: NodeId,
    pub(super) slots: &'a SlotSet,
    pub(super) weight: f64,
}

/// The number of slots that each master should have; `None` if all are within the threshold.
///
/// Each gets its part rounded down. What is left goes, one each, to masters that give nothing: to `first`, the node
/// that was named on the command line, and then in the order of the list. A master is off by percents of what it has,
/// not of what it should have. Single precision, as there.
pub(super) fn expected(
    masters: &[Weighted<'_>],
    threshold: f64,
    first: NodeId,
) -> Option<Vec<u128>> {
    let total: f32 = masters.iter().map(|master| master.weight as f32).sum();
    let share = |weight: f64| (f32::from(SLOTS) / total * weight as f32) as i64;
    let owned = |master: &Weighted<'_>| master.slots.count() as i64;
    let mut balances: Vec<i64> = masters
        .iter()
        .map(|master| owned(master) - share(master.weight))
        .collect();
    let is_beyond = |master: &Weighted<'_>| {
        let (has, should) = (owned(master), share(master.weight));
        match has {
            0 => should > 1,
            _ => (100.0 - 100.0 * should as f64 / has as f64).abs() > threshold,
        }
    };
    if !masters.iter().any(is_beyond) {
        return None;
    }
    let mut order: Vec<usize> = (0..masters.len()).collect();
    order.sort_by_key(|index| masters[*index].id != first);
    let mut left: i64 = balances.iter().sum();
    while left > 0 && balances.iter().any(|balance| *balance <= 0) {
        for index in &order {
            if balances[*index] <= 0 && left > 0 {
                balances[*index] -= 1;
                left -= 1;
            }
        }
    }
    let expected = masters.iter().zip(&balances);
    let expected = expected.map(|(master, balance)| (owned(master) - balance).max(0) as u128);
    Some(expected.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::slot::{Slot, SlotRange};

    fn id(number: u8) -> NodeId {
        format!("{number:040x}").parse().unwrap()
    }

    fn slots(from: u16, to: u16) -> SlotSet {
        let slot = |number| Slot::new(number).unwrap();
        [SlotRange::new(slot(from), slot(to)).unwrap()]
            .into_iter()
            .collect()
    }

    #[test]
    fn the_odd_slot_goes_to_the_node_that_is_named() {
        let owned = [slots(0, 5999), slots(6000, 10_999), slots(11_000, 16_383)];
        let masters: Vec<Weighted<'_>> = (1..)
            .zip(&owned)
            .map(|(number, slots)| Weighted {
                id: id(number),
                slots,
                weight: 1.0,
            })
            .collect();
        // The first one gives slots.
        for (first, wanted) in [
            (1, [5461, 5462, 5461]),
            (2, [5461, 5462, 5461]),
            (3, [5461, 5461, 5462]),
        ] {
            assert_eq!(expected(&masters, 2.0, id(first)).unwrap(), wanted);
        }
        // 6000 slots are 9 % more than 5461, and 5461 are 9.0 % less than 6000.
        assert_eq!(expected(&masters, 9.3, id(1)), None);
    }
}
