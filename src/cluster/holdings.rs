//! Where the keys of each slot are: counted on every node, whoever owns the slot.

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
    /// Keys that the node has and does not count in any slot: Redis ≥ 8.4 counts those of slots that
    /// it owns or imports only.
    hidden: u64,
}

impl Held {
    /// The counts of slots 0 to 16383 in that order, missing ones as 0, and how many keys the node
    /// has in all (0 where that is not known).
    pub fn new(mut counts: Vec<u64>, all: u64) -> Self {
        counts.resize(usize::from(SLOTS), 0);
        let counted: u64 = counts.iter().sum();
        Self {
            counts,
            hidden: all.saturating_sub(counted),
        }
    }
}

impl Holdings {
    /// What was counted on a node.
    pub fn insert(&mut self, node: NodeId, held: Held) {
        self.nodes.insert(node, held);
    }

    /// Whether that node was counted.
    pub fn has(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// The keys of that slot on that node; 0 where it was not counted.
    pub fn keys(&self, node: NodeId, slot: Slot) -> u64 {
        let held = self.nodes.get(&node);
        held.map_or(0, |held| held.counts[usize::from(slot.number())])
    }

    /// The same of many slots together.
    pub fn keys_in(&self, node: NodeId, slots: &SlotSet) -> u64 {
        slots.iter().map(|slot| self.keys(node, slot)).sum()
    }

    /// Keys that the node has in slots which it does not tell.
    pub fn hidden(&self, node: NodeId) -> u64 {
        self.nodes.get(&node).map_or(0, |held| held.hidden)
    }

    /// Slots of which that node holds keys.
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
    fn what_is_in_no_slot_is_hidden() {
        let id: NodeId = "a".repeat(40).parse().unwrap();
        let mut holdings = Holdings::default();
        assert_eq!(holdings.keys(id, Slot::new(3).unwrap()), 0);
        holdings.insert(id, Held::new(vec![0, 0, 0, 7], 9));
        assert_eq!(holdings.slots(id).to_string(), "3");
        assert_eq!(holdings.keys_in(id, &SlotSet::full()), 7);
        assert_eq!(holdings.hidden(id), 2);
        // More were counted than there were a moment before.
        holdings.insert(id, Held::new(vec![5], 4));
        assert_eq!(holdings.hidden(id), 0);
    }
}
