//! Balance by what slots hold. To do it with the fewest moves is as hard as packing bins, so this
//! is greedy: slots that fit best, one by one, to who lacks most.
//!
//! What it keeps to:
//! - A slot moves at most once, so it ends after 16384 moves at the latest.
//! - Masters of weight 0 give everything, slots that hold nothing too. Of the others only slots
//!   that hold something move, and each keeps at least one slot.
//! - A slot that leaves a master of weight above 0 holds less than the two masters are apart, so
//!   every such move brings them closer, and neither ends farther off than the farther one was.
//! - It stops when all are within the threshold, or when that can't be done any more to a master
//!   beyond it. Such a master, when it has too much, is then apart from every other one by no more
//!   than its lightest slot that holds something and hasn't moved: no more than that is left.

use std::collections::{BTreeMap, BTreeSet};

use super::{Share, Verdict, WeightedMaster, is_beyond};
use crate::cluster::slot::{Slot, SlotSet};
use crate::plan::MovePlan;
use crate::plan::shares::apportion;

/// A member, as it becomes.
struct Carrier {
    weight: u64,
    expected: u128,
    has: u128,
    /// How many slots it has.
    slots: usize,
    /// Those of its slots that hold something and haven't moved, by what they hold.
    movable: BTreeSet<(u64, Slot)>,
}

impl Carrier {
    /// How much too much it has; negative: too little.
    fn surplus(&self) -> i128 {
        // Sums of 16384 numbers of 64 bits: far below 127 bits.
        self.has as i128 - self.expected as i128
    }

    /// The slot that comes nearest to `gap`, if it holds less than `limit`; between two that are
    /// as near, the smaller one.
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

/// Moves of single slots, as they are decided.
struct Moving<'a> {
    members: &'a [WeightedMaster],
    carriers: Vec<Carrier>,
    moved: BTreeMap<Slot, (usize, usize)>,
}

impl Moving<'_> {
    fn move_slot(&mut self, load: u64, slot: Slot, from: usize, to: usize) {
        let source = &mut self.carriers[from];
        source.movable.remove(&(load, slot));
        source.slots -= 1;
        source.has -= u128::from(load);
        let target = &mut self.carriers[to];
        target.slots += 1;
        target.has += u128::from(load);
        self.moved.insert(slot, (from, to));
    }

    /// What masters of weight 0 own goes away, the heaviest first: each to who lacks most, and what
    /// holds nothing to who has fewest slots for its weight.
    fn drain(&mut self, load_of: impl Fn(Slot) -> u64) {
        let mut leaving: Vec<(u64, Slot, usize)> = Vec::new();
        for (from, member) in self.members.iter().enumerate() {
            if member.weight == 0 {
                leaving.extend(member.slots.iter().map(|slot| (load_of(slot), slot, from)));
            }
        }
        leaving.sort_unstable_by_key(|(load, slot, _)| (std::cmp::Reverse(*load), *slot));
        for (load, slot, from) in leaving {
            let weighty = (0..self.carriers.len()).filter(|index| self.carriers[*index].weight > 0);
            let to = if load > 0 {
                weighty.min_by_key(|index| (self.carriers[*index].surplus(), *index))
            } else {
                weighty.min_by(|one, other| {
                    let (a, b) = (&self.carriers[*one], &self.carriers[*other]);
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

    /// Moves one slot from or to a master that is beyond the threshold; false when none helps.
    fn improve(&mut self, threshold: f64) -> bool {
        let mut by_surplus: Vec<usize> = (0..self.carriers.len())
            .filter(|index| self.carriers[*index].weight > 0)
            .collect();
        by_surplus.sort_by_key(|index| (self.carriers[*index].surplus(), *index));
        let mut troubled: Vec<usize> = by_surplus
            .iter()
            .copied()
            .filter(|index| {
                let carrier = &self.carriers[*index];
                is_beyond(carrier.has, carrier.expected, threshold)
            })
            .collect();
        troubled.sort_by_key(|index| {
            let off = self.carriers[*index].surplus().unsigned_abs();
            (std::cmp::Reverse(off), *index)
        });
        for one in troubled {
            let gives = self.carriers[one].surplus() > 0;
            let partner = |nth: usize| {
                let last = by_surplus.len() - 1;
                by_surplus[if gives { nth } else { last - nth }]
            };
            for other in (0..by_surplus.len()).map(partner) {
                let (from, to) = if gives { (one, other) } else { (other, one) };
                let (over, under) = (self.carriers[from].surplus(), self.carriers[to].surplus());
                if over <= under {
                    // The partners that follow are nearer still.
                    break;
                }
                let fits = self.carriers[from].nearest(over.min(-under), over - under);
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
    let carriers = members
        .iter()
        .zip(before.iter().zip(&expected))
        .map(|(member, (before, expected))| Carrier {
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
    let mut moving = Moving {
        members,
        carriers,
        moved: BTreeMap::new(),
    };
    moving.drain(load_of);
    while moving.improve(threshold) {}

    let shares: Vec<Share> = members
        .iter()
        .zip(before.iter().zip(&moving.carriers))
        .map(|(member, (before, carrier))| Share {
            id: member.id,
            before: *before,
            expected: carrier.expected,
            after: carrier.has,
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
