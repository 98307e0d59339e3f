//! Balance by load. The fewest moves would be as hard to find as a bin packing, so this is greedy: the
//! slot that fits best moves, one at a time, to the master with the largest deficit.
//!
//! The rules:
//! - A slot moves at most once, so it ends after 16384 moves at the latest.
//! - Masters of weight 0 give all slots away, those without load too. Of the other masters only slots
//!   with load move, and each keeps at least one slot.
//! - A slot that leaves a master of weight above 0 has less load than the surplus of source and target
//!   differ, so every such move brings them closer, and neither ends farther off than the farther one
//!   was.
//! - It stops when all masters are within the threshold, or when no move improves one that is beyond
//!   it. If such a master has a surplus, it then differs from every other one by no more than the load
//!   of its lightest slot that has load and has not moved.

use std::collections::{BTreeMap, BTreeSet};

use super::{Share, Verdict, WeightedMaster, is_beyond};
use crate::cluster::slot::{Slot, SlotSet};
use crate::plan::MovePlan;
use crate::plan::shares::apportion;

/// The state of a master while moves are planned.
struct MasterLoad {
    weight: u64,
    expected: u128,
    has: u128,
    /// Its number of slots.
    slots: usize,
    /// Its slots with load that have not moved, by load.
    movable: BTreeSet<(u64, Slot)>,
}

impl MasterLoad {
    /// Its load above the expected one; negative for a deficit.
    fn surplus(&self) -> i128 {
        // Sums of 16384 numbers of 64 bits: far below 127 bits.
        self.has as i128 - self.expected as i128
    }

    /// The slot whose load is nearest to `gap`, if it is below `limit`; of two equally near ones the
    /// smaller.
    fn nearest(&self, gap: i128, limit: i128) -> Option<(u64, Slot)> {
        if self.slots < 2 {
            return None;
        }
        let bound = u64::try_from(gap.max(0)).unwrap_or(u64::MAX);
        let first = (bound, Slot::all().next()?);
        let above = match bound.checked_add(1) {
            Some(next) => self.movable.range((next, first.1)..).next(),
            None => None,
        };
        let below = match bound.checked_add(1) {
            Some(next) => self.movable.range(..(next, first.1)).next_back(),
            None => self.movable.iter().next_back(),
        };
        [below, above]
            .into_iter()
            .flatten()
            .copied()
            .filter(|(load, _)| i128::from(*load) < limit)
            .min_by_key(|(load, _)| (gap - i128::from(*load)).unsigned_abs())
    }
}

/// The moves of single slots, while they are planned.
struct LoadMoves<'a> {
    members: &'a [WeightedMaster],
    masters: Vec<MasterLoad>,
    moved: BTreeMap<Slot, (usize, usize)>,
}

impl LoadMoves<'_> {
    fn move_slot(&mut self, load: u64, slot: Slot, from: usize, to: usize) {
        let source = &mut self.masters[from];
        source.movable.remove(&(load, slot));
        source.slots -= 1;
        source.has -= u128::from(load);
        let target = &mut self.masters[to];
        target.slots += 1;
        target.has += u128::from(load);
        self.moved.insert(slot, (from, to));
    }

    /// Masters of weight 0 give their slots away, the heaviest first: each to the master with the largest
    /// deficit, and slots without load to the master with the fewest slots for its weight.
    fn drain(&mut self, load_of: impl Fn(Slot) -> u64) {
        let mut leaving: Vec<(u64, Slot, usize)> = Vec::new();
        for (from, member) in self.members.iter().enumerate() {
            if member.weight == 0 {
                leaving.extend(member.slots.iter().map(|slot| (load_of(slot), slot, from)));
            }
        }
        leaving.sort_unstable_by_key(|(load, slot, _)| (std::cmp::Reverse(*load), *slot));
        for (load, slot, from) in leaving {
            let weighted = (0..self.masters.len()).filter(|index| self.masters[*index].weight > 0);
            let to = if load > 0 {
                weighted.min_by_key(|index| (self.masters[*index].surplus(), *index))
            } else {
                weighted.min_by(|one, other| {
                    let (a, b) = (&self.masters[*one], &self.masters[*other]);
                    let fill = a.slots as u128 * u128::from(b.weight);
                    fill.cmp(&(b.slots as u128 * u128::from(a.weight)))
                        .then(one.cmp(other))
                })
            };
            if let Some(to) = to {
                self.move_slot(load, slot, from, to);
            }
        }
    }

    /// Moves one slot from or to a master that is beyond the threshold; `false` if no move improves it.
    fn improve(&mut self, threshold: f64) -> bool {
        let mut by_surplus: Vec<usize> = (0..self.masters.len())
            .filter(|index| self.masters[*index].weight > 0)
            .collect();
        by_surplus.sort_by_key(|index| (self.masters[*index].surplus(), *index));
        let mut beyond: Vec<usize> = by_surplus
            .iter()
            .copied()
            .filter(|index| {
                let master = &self.masters[*index];
                is_beyond(master.has, master.expected, threshold)
            })
            .collect();
        beyond.sort_by_key(|index| {
            let off = self.masters[*index].surplus().unsigned_abs();
            (std::cmp::Reverse(off), *index)
        });
        for one in beyond {
            let gives = self.masters[one].surplus() > 0;
            let partner = |nth: usize| {
                let last = by_surplus.len() - 1;
                by_surplus[if gives { nth } else { last - nth }]
            };
            for other in (0..by_surplus.len()).map(partner) {
                let (from, to) = if gives { (one, other) } else { (other, one) };
                let (over, under) = (self.masters[from].surplus(), self.masters[to].surplus());
                if over <= under {
                    // The remaining partners are even nearer.
                    break;
                }
                let fits = self.masters[from].nearest(over.min(-under), over - under);
                if let Some((load, slot)) = fits {
                    self.move_slot(load, slot, from, to);
                    return true;
                }
            }
        }
        false
    }
}

pub(super) fn rebalance(
    members: &[WeightedMaster],
    load: &[u64],
    threshold: f64,
) -> (Vec<Share>, Verdict) {
    let load_of = |slot: Slot| {
        let index = usize::from(slot.number());
        load.get(index).copied().unwrap_or(0)
    };
    let before: Vec<u128> = members
        .iter()
        .map(|member| {
            member
                .slots
                .iter()
                .map(|slot| u128::from(load_of(slot)))
                .sum()
        })
        .collect();
    let weights: Vec<u64> = members.iter().map(|member| member.weight).collect();
    let expected = apportion(before.iter().sum(), &weights, |index| {
        std::cmp::Reverse(before[index])
    });
    let masters = members
        .iter()
        .zip(before.iter().zip(&expected))
        .map(|(member, (before, expected))| MasterLoad {
            weight: member.weight,
            expected: *expected,
            has: *before,
            slots: member.slots.count(),
            movable: member
                .slots
                .iter()
                .map(|slot| (load_of(slot), slot))
                .filter(|(load, _)| *load > 0)
                .collect(),
        })
        .collect();
    let mut moving = LoadMoves {
        members,
        masters,
        moved: BTreeMap::new(),
    };
    moving.drain(load_of);
    while moving.improve(threshold) {}

    let shares: Vec<Share> = members
        .iter()
        .zip(before.iter().zip(&moving.masters))
        .map(|(member, (before, master))| Share {
            id: member.id,
            before: *before,
            expected: master.expected,
            after: master.has,
        })
        .collect();
    if moving.moved.is_empty() {
        let beyond = |share: &Share| is_beyond(share.before, share.expected, threshold);
        let verdict = if shares.iter().any(beyond) {
            Verdict::Indivisible
        } else {
            Verdict::Balanced
        };
        return (shares, verdict);
    }
    let mut moves: BTreeMap<_, SlotSet> = BTreeMap::new();
    for (slot, (from, to)) in moving.moved {
        let pair = (members[from].id, members[to].id);
        moves.entry(pair).or_default().insert(slot);
    }
    (shares, Verdict::Moves(MovePlan::of_moves(moves)))
}
