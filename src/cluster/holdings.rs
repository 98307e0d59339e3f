//! Key counts: the keys of each slot on every node, including nodes that do not own the slot.

use std::collections::BTreeMap;

use super::node::NodeId;
use super::slot::{SLOTS, Slot, SlotSet};

/// The keys that nodes hold, by slot, in all of their databases together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holdings {
    nodes: BTreeMap<NodeId, Held>,
}

/// The keys of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// By slot number.
    counts: Vec<u64>,
    /// Keys that the node has and does not count in any slot: Redis ≥ 8.4 counts only keys of slots that
    /// it owns or imports.
    hidden: u64,
    /// Whether it counts only such slots.
    hides: bool,
}

impl Held {
    /// From the counts of slots 0 to 16383 in that order, missing ones as 0, and the total number of keys
    /// of the node; `None` if it counts all slots.
    pub fn new(mut counts: Vec<u64>, all: Option<u64>) -> Self {
        counts.resize(usize::from(SLOTS), 0);
        let counted: u64 = counts.iter().sum();
        Self {
            counts,
            hidden: all.map_or(0, |all| all.saturating_sub(counted)),
            hides: all.is_some(),
        }
    }

    /// Keys that the node has in slots that it does not count.
    pub fn hidden(&self) -> u64 {
        self.hidden
    }
}

impl Holdings {
    /// Adds the counts of a node.
    pub fn insert(&mut self, node: NodeId, held: Held) {
        self.nodes.insert(node, held);
    }

    /// Whether that node was counted.
    pub fn has(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// The number of keys of that slot on that node; 0 if the node was not counted.
    pub fn keys(&self, node: NodeId, slot: Slot) -> u64 {
        let held = self.nodes.get(&node);
        held.map_or(0, |held| held.counts[usize::from(slot.number())])
    }

    /// The number of keys of several slots on that node.
    pub fn keys_in(&self, node: NodeId, slots: &SlotSet) -> u64 {
        slots.iter().map(|slot| self.keys(node, slot)).sum()
    }

    /// Whether the node was counted and has no key.
    pub fn is_empty(&self, node: NodeId) -> bool {
        let held = self.nodes.get(&node);
        held.is_some_and(|held| held.hidden == 0 && held.counts.iter().all(|count| *count == 0))
    }

    /// Keys that the node has in slots that it does not count.
    pub fn hidden(&self, node: NodeId) -> u64 {
        self.nodes.get(&node).map_or(0, |held| held.hidden)
    }

    /// Whether the node counts only slots that it owns or imports.
    pub fn hides(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|held| held.hides)
    }

    /// The slots of which that node holds keys.
    pub fn slots(&self, node: NodeId) -> SlotSet {
        let held = self.nodes.get(&node);
        held.into_iter()
            .flat_map(|held| Slot::all().zip(&held.counts))
            .filter(|(_, keys)| **keys > 0)
            .map(|(slot, _)| slot)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_outside_counted_slots_are_hidden() {
        let id: NodeId = "a".repeat(40).parse().unwrap();
        let mut holdings = Holdings::default();
        assert_eq!(holdings.keys(id, Slot::new(3).unwrap()), 0);
        holdings.insert(id, Held::new(vec![0, 0, 0, 7], Some(9)));
        assert_eq!(holdings.slots(id).to_string(), "3");
        assert_eq!(holdings.keys_in(id, &SlotSet::full()), 7);
        assert_eq!(holdings.hidden(id), 2);
        // More keys were counted than the total, which was read a moment earlier.
        holdings.insert(id, Held::new(vec![5], Some(4)));
        assert_eq!(holdings.hidden(id), 0);
    }
}
