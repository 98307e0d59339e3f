//! Moves of slots between masters: what reshard, rebalance, apply and the drain of a leaving node
//! carry out.

use std::collections::BTreeMap;

use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;

/// Slots that change their owner, with their keys.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotMove {
    /// The slots; never empty.
    pub slots: SlotSet,
    /// The master that owns them.
    pub from: NodeId,
    /// The master that takes them; never `from`.
    pub to: NodeId,
}

/// Moves that do not depend on each other: one for each pair of nodes, by lowest slot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MovePlan {
    moves: Vec<SlotMove>,
}

impl MovePlan {
    /// A plan of these moves, by source and target. Pairs without slots are left out.
    pub(crate) fn of_moves(moves: BTreeMap<(NodeId, NodeId), SlotSet>) -> Self {
        let mut by_slot: Vec<_> = moves
            .into_iter()
            .filter_map(|(pair, slots)| {
                let lowest = slots.iter().next()?;
                Some((lowest, pair, slots))
            })
            .collect();
        by_slot.sort_unstable_by_key(|(lowest, pair, _)| (*lowest, *pair));
        let moves = by_slot
            .into_iter()
            .map(|(_, (from, to), slots)| SlotMove { slots, from, to })
            .collect();
        Self { moves }
    }

    /// The moves, in order.
    pub fn moves(&self) -> impl Iterator<Item = &SlotMove> {
        self.moves.iter()
    }

    /// How many slots change their owner.
    pub fn slots_moved(&self) -> usize {
        self.moves().map(|one| one.slots.count()).sum()
    }

    /// Whether nothing moves.
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }
}
