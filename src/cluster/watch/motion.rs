//! Keys that are left in open slots, and how many have moved since.

use std::collections::BTreeMap;

use crate::cluster::slot::Slot;

/// The number of keys that the source of each open slot still has.
pub type KeysLeft = BTreeMap<Slot, u64>;

/// The number of keys that have left their source between two looks. A slot that is not open any more has moved all of
/// its keys; a source that got more keys has moved none.
pub fn keys_moved(before: &KeysLeft, after: &KeysLeft) -> u64 {
    let moved = before.iter().map(|(slot, had)| {
        let has = after.get(slot).copied().unwrap_or_default();
        had.saturating_sub(has)
    });
    moved.fold(0, u64::saturating_add)
}
