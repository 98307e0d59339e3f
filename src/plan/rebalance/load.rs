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

use super::{OversizedSlot, Share, Verdict, WeightedMaster, is_beyond};
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

/// Whether the slot with the most load of a master may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hottest {
    /// Like the others.
    Moves,
    /// It stays, unless its master has weight 0.
    Stays,
}

fn load_of(load: &[u64], slot: Slot) -> u64 {
    let index = usize::from(slot.number());
    load.get(index).copied().unwrap_or(0)
}

/// The slot with the most load of a master, if it has any load; of several the first.
fn hottest(member: &WeightedMaster, load: &[u64]) -> Option<(u64, Slot)> {
    let slots = member.slots.iter().map(|slot| (load_of(load, slot), slot));
    let hottest = slots.min_by_key(|(load, slot)| (std::cmp::Reverse(*load), *slot));
    hottest.filter(|(load, _)| *load > 0)
}

fn total(members: &[WeightedMaster], load: &[u64]) -> u128 {
    let slots = members.iter().flat_map(|member| member.slots.iter());
    slots.map(|slot| u128::from(load_of(load, slot))).sum()
}

/// The slots whose load is more than the largest share of a master, the hottest first.
pub(super) fn oversized(members: &[WeightedMaster], load: &[u64]) -> Vec<OversizedSlot> {
    let weights: Vec<u64> = members.iter().map(|member| member.weight).collect();
    let shares = apportion(total(members, load), &weights, |index| index);
    let fair = shares.into_iter().max().unwrap_or(0);
    let slots = members
        .iter()
        .flat_map(|member| member.slots.iter().map(|slot| (member.id, slot)));
    let mut oversized: Vec<OversizedSlot> = slots
        .map(|(owner, slot)| OversizedSlot {
            slot,
            owner,
            load: load_of(load, slot),
            fair,
        })
        .filter(|one| u128::from(one.load) > fair)
        .collect();
    oversized.sort_by_key(|one| (std::cmp::Reverse(one.load), one.slot));
    oversized
}

/// The shares of all masters where the hottest slots stay: a master whose hottest slot exceeds its share is expected to
/// have that slot only, and the others share the rest.
fn shares_around(members: &[WeightedMaster], load: &[u64], before: &[u128]) -> Vec<u128> {
    let mut weights: Vec<u64> = members.iter().map(|member| member.weight).collect();
    let mut rest: u128 = before.iter().sum();
    let mut fixed = vec![None; members.len()];
    loop {
        let rank = |index: usize| std::cmp::Reverse(before[index]);
        let shares = apportion(rest, &weights, rank);
        let exceeds = (0..members.len()).find_map(|index| {
            let (load, _) = hottest(&members[index], load).filter(|_| weights[index] > 0)?;
            (u128::from(load) > shares[index]).then_some((index, u128::from(load)))
        });
        // The last master takes the rest, whatever it is.
        let free = weights.iter().filter(|weight| **weight > 0).count();
        match exceeds.filter(|_| free > 1) {
            Some((index, load)) => {
                fixed[index] = Some(load);
                weights[index] = 0;
                rest = rest.saturating_sub(load);
            }
            None => {
                let shares = fixed.into_iter().zip(shares);
                return shares
                    .map(|(fixed, share)| fixed.unwrap_or(share))
                    .collect();
            }
        }
    }
}

pub(super) fn rebalance(
    members: &[WeightedMaster],
    load: &[u64],
    threshold: f64,
    of_hottest: Hottest,
) -> (Vec<Share>, Verdict) {
    let load_of = |slot: Slot| load_of(load, slot);
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
    let expected = match of_hottest {
        Hottest::Moves => apportion(before.iter().sum(), &weights, |index| {
            std::cmp::Reverse(before[index])
        }),
        Hottest::Stays => shares_around(members, load, &before),
    };
    let stays = |member: &WeightedMaster| match of_hottest {
        Hottest::Stays if member.weight > 0 => hottest(member, load).map(|(_, slot)| slot),
        Hottest::Stays | Hottest::Moves => None,
    };
    let masters = members
        .iter()
        .zip(before.iter().zip(&expected))
        .map(|(member, (before, expected))| MasterLoad {
            weight: member.weight,
            expected: *expected,
            has: *before,
            slots: member.slots.count(),
            movable: {
                let stays = stays(member);
                let slots = member.slots.iter().filter(|slot| Some(*slot) != stays);
                let loads = slots.map(|slot| (load_of(slot), slot));
                loads.filter(|(load, _)| *load > 0).collect()
            },
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
