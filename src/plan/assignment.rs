//! The pairing of sources and targets of slots.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::cluster::node::NodeId;
use crate::cluster::slot::{Slot, SlotSet};

/// A source of slots.
pub(super) struct Giver {
    /// The node.
    pub(super) id: NodeId,
    /// The slots that it gives away.
    pub(super) slots: SlotSet,
}

/// A target of slots.
pub(super) struct Taker {
    /// The node.
    pub(super) id: NodeId,
    /// How many it takes.
    pub(super) count: usize,
}

/// Pairs nodes until no source has slots left, or no target takes more: always the source with the most
/// slots, with a target that takes just as many, or else with the target that takes most; equal nodes
/// in the order of the lists. Each pairing completes one of the two nodes, so there are fewer pairs
/// than nodes. Lowest slots move first.
pub(super) fn pair(givers: &[Giver], takers: &[Taker]) -> BTreeMap<(NodeId, NodeId), SlotSet> {
    let mut gives: Vec<(NodeId, Vec<Slot>)> = givers
        .iter()
        // Taken from the end.
        .map(|giver| (giver.id, giver.slots.iter().collect::<Vec<_>>()))
        .map(|(id, slots)| (id, slots.into_iter().rev().collect()))
        .collect();
    let mut takes: Vec<(NodeId, usize)> =
        takers.iter().map(|taker| (taker.id, taker.count)).collect();

    let mut moves: BTreeMap<(NodeId, NodeId), SlotSet> = BTreeMap::new();
    loop {
        let giver = gives
            .iter_mut()
            .enumerate()
            .max_by_key(|(index, (_, slots))| (slots.len(), Reverse(*index)))
            .map(|(_, giver)| giver);
        let Some((from, slots)) = giver else { break };
        let taker = takes
            .iter_mut()
            .enumerate()
            .max_by_key(|(index, (_, count))| (*count == slots.len(), *count, Reverse(*index)))
            .map(|(_, taker)| taker);
        let Some((to, count)) = taker else { break };
        let many = slots.len().min(*count);
        if many == 0 {
            break;
        }
        *count -= many;
        let given = slots.split_off(slots.len() - many);
        let moved = moves.entry((*from, *to)).or_default();
        for slot in given {
            moved.insert(slot);
        }
    }
    moves
}
