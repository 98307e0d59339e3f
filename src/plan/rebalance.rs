//! The planner of `rebalance`: every master gets its share of slots or of load, with few moves.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::assignment::{Giver, Taker, pair};
use super::shares::apportion;
use super::{Contested, MovePlan, SlotOwner, holdings};
use crate::cluster::node::NodeId;
use crate::cluster::slot::{Slot, SlotSet};

mod load;
mod redis_cli;

use load::Hottest;

/// Weights are rounded to multiples of the largest weight divided by this, so that further arithmetic
/// is exact.
const WEIGHT_STEPS: f64 = 4_294_967_295.0;

/// The cluster, and how it is to be balanced.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// All masters, those without slots too, in any order.
    pub masters: Vec<SlotOwner>,
    /// The weights of masters, 0 or more; a master that is not listed has weight 1. A master of weight 0
    /// gives all slots away.
    pub weights: Vec<(NodeId, f64)>,
    /// Whether masters without slots get some.
    pub empty: UseEmpty,
    /// By how many percent a master may differ from its share, 0 or more.
    pub threshold: f64,
    /// What is measured.
    pub by: By,
    /// How slots that can't be divided evenly are shared.
    pub rounding: Rounding,
}

/// How slots that can't be divided evenly are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rounding {
    /// By largest remainder.
    #[default]
    Exact,
    /// As redis-cli and redis-trib.rb do, which prefer the node that was named on the command line.
    RedisCli(NodeId),
}

/// Whether masters without slots get some. A weight alone does not make them take part, as in
/// redis-cli: scripts that set weights for all nodes may rely on it. [`Balance::left_out`] lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UseEmpty {
    /// They are left out.
    No,
    /// They take part.
    Yes,
}

/// The quantity that is balanced.
#[derive(Debug, Clone, PartialEq)]
pub enum By {
    /// The number of slots.
    Slots,
    /// The load of the slots, in keys or bytes, by slot number; missing slots have none.
    Load(Vec<u64>),
    /// The heat of the slots, in CPU time or traffic of a sample, by slot number. As by load, but the hottest slot of
    /// each master stays, unless the master has weight 0: moving it would only move the problem.
    Heat(Vec<u64>),
}

/// The shares of the masters, and the moves.
#[derive(Debug, Clone, PartialEq)]
pub struct Balance {
    /// The masters that take part, by id.
    pub shares: Vec<Share>,
    /// Masters without slots that don't take part ([`UseEmpty::No`]), by id.
    pub left_out: Vec<NodeId>,
    /// What to do.
    pub verdict: Verdict,
    /// Slots with more heat than a fair share: no master can hold one and be in balance. By heat only.
    pub oversized: Vec<OversizedSlot>,
}

/// A slot with more heat than a fair share of all masters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OversizedSlot {
    /// The slot.
    pub slot: Slot,
    /// Its owner before the moves.
    pub owner: NodeId,
    /// Its heat.
    pub load: u64,
    /// The largest fair share of a master.
    pub fair: u128,
}

/// The share of a master, in slots or in units of load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The master.
    pub id: NodeId,
    /// Its share before the moves.
    pub before: u128,
    /// The share that it should have. All expected shares add up to the total.
    pub expected: u128,
    /// Its share after the moves.
    pub after: u128,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing: all masters are within the threshold.
    Balanced,
    /// These moves. By load, some masters may still be beyond the threshold: see [`Share::after`].
    Moves(MovePlan),
    /// Nothing, although some masters are beyond the threshold: single slots have so much load that a
    /// move would not improve the balance. By load only.
    Indivisible,
}

/// Why the request is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RebalanceError {
    /// No master takes part.
    #[error("no master owns slots: there is nothing to balance")]
    NoMasters,
    /// A weight for a node that is not a master.
    #[error(
        "weight for {id}, which is not a master of this cluster: name a master (`redis-trib info` lists \
         them)"
    )]
    NotAMaster {
        /// The id.
        id: NodeId,
    },
    /// A negative weight, or not a number.
    #[error("weight {weight} of {id}: a weight is 0 (give all slots away) or a positive number")]
    BadWeight {
        /// The node.
        id: NodeId,
        /// The weight.
        weight: f64,
    },
    /// Two weights for one master.
    #[error("{id} has two weights, {one} and {other}: give one")]
    TwoWeights {
        /// The node.
        id: NodeId,
        /// The first.
        one: f64,
        /// Another one.
        other: f64,
    },
    /// No master would own the slots.
    #[error(
        "every master that takes part has weight 0, so none could own the slots: give one a positive \
         weight (masters without slots take part with --use-empty-masters)"
    )]
    AllZero,
    /// A negative threshold, or not a number.
    #[error("threshold {threshold}: it is a percentage, 0 (exact) or more, such as 2")]
    BadThreshold {
        /// The requested threshold.
        threshold: f64,
    },
    /// Two masters claim the same slots.
    #[error(transparent)]
    Contested(#[from] Contested),
}

/// A master that takes part.
struct WeightedMaster {
    id: NodeId,
    slots: SlotSet,
    /// In steps of the largest weight divided by [`WEIGHT_STEPS`]; 0 only for weight 0.
    weight: u64,
}

/// Plans the moves that bring every master to its share.
///
/// By slots, shares are the slots by weight and largest remainder. Of equal remainders the master
/// with the larger surplus keeps the odd slot: that saves moves, and an existing balance stays as it
/// is. A master with a positive weight keeps or gets at least one slot if there are enough (a master
/// that loses its last slot becomes a replica: redis.conf, cluster-allow-replica-migration, on by
/// default). If one master is beyond the threshold, all get their exact shares, with the fewest
/// moves: each gives its surplus or takes its deficit, and no slot moves twice.
///
/// By load, slots move one by one from masters with a surplus to masters with a deficit, the best fit
/// first, until all are within the threshold or no move helps. The fewest moves would be as hard to
/// find as a bin packing; these are few. A slot moves at most once, and only if that brings two masters
/// closer together; slots without load stay, unless their master has weight 0; and no other master
/// loses its last slot. The remaining imbalance is less than the lightest slot that an overloaded
/// master could still give.
///
/// By heat it is the same, but the hottest slot of each master stays. If that slot exceeds the share of its master, the
/// master is expected to have nothing else, and the others share the rest.
///
/// # Errors
///
/// If weights or threshold are invalid, or no master could own the slots.
pub fn rebalance(request: &Request) -> Result<Balance, RebalanceError> {
    let threshold = request.threshold;
    if !threshold.is_finite() || threshold < 0.0 {
        return Err(RebalanceError::BadThreshold { threshold });
    }
    let masters = holdings(&request.masters)?;
    let weights = weights(&masters, &request.weights)?;
    let weight_of = |id: &NodeId| weights.get(id).copied().unwrap_or(1.0);

    let takes_part = |slots: &SlotSet| request.empty == UseEmpty::Yes || !slots.is_empty();
    let (inside, outside): (Vec<_>, Vec<_>) = masters
        .into_iter()
        .partition(|(_, slots)| takes_part(slots));
    if inside.iter().all(|(_, slots)| slots.is_empty()) {
        return Err(RebalanceError::NoMasters);
    }
    let largest = inside
        .iter()
        .map(|(id, _)| weight_of(id))
        .fold(0.0, f64::max);
    if largest <= 0.0 {
        return Err(RebalanceError::AllZero);
    }
    let members: Vec<WeightedMaster> = inside
        .into_iter()
        .map(|(id, slots)| WeightedMaster {
            id,
            slots,
            weight: in_steps(weight_of(&id), largest),
        })
        .collect();
    let mut oversized = Vec::new();
    let (shares, verdict) = match &request.by {
        By::Slots => {
            let expected = match request.rounding {
                Rounding::RedisCli(first) if threshold > 0.0 => {
                    let masters = members.iter().map(|member| redis_cli::Weighted {
                        id: member.id,
                        slots: &member.slots,
                        weight: weight_of(&member.id),
                    });
                    redis_cli::expected(&masters.collect::<Vec<_>>(), threshold, first)
                }
                Rounding::Exact | Rounding::RedisCli(_) => {
                    let expected = expected_slots(&members);
                    let mut off = members.iter().zip(&expected);
                    off.any(|(member, expected)| {
                        is_beyond(member.slots.count() as u128, *expected, threshold)
                    })
                    .then_some(expected)
                }
            };
            by_slots(&members, expected)
        }
        By::Load(load) => load::rebalance(&members, load, threshold, Hottest::Moves),
        By::Heat(load) => {
            oversized = load::oversized(&members, load);
            load::rebalance(&members, load, threshold, Hottest::Stays)
        }
    };
    Ok(Balance {
        shares,
        left_out: outside.into_iter().map(|(id, _)| id).collect(),
        verdict,
        oversized,
    })
}

/// Weights in proportion to the masters' `maxmemory` in bytes.
///
/// # Errors
///
/// The masters without a limit (0).
pub fn weights_by_memory(
    maxmemory: &[(NodeId, u64)],
) -> Result<Vec<(NodeId, f64)>, WithoutMaxmemory> {
    let nodes: Vec<NodeId> = maxmemory
        .iter()
        .filter(|(_, bytes)| *bytes == 0)
        .map(|(id, _)| *id)
        .collect();
    if !nodes.is_empty() {
        return Err(WithoutMaxmemory { nodes });
    }
    Ok(maxmemory
        .iter()
        .map(|(id, bytes)| (*id, *bytes as f64))
        .collect())
}

/// Masters without a memory limit, although weights are made of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "weights can't be derived from memory limits: maxmemory is not set on {}; set it, or give weights",
    list(nodes)
)]
pub struct WithoutMaxmemory {
    /// The masters.
    pub nodes: Vec<NodeId>,
}

fn list(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
    names.join(", ")
}

fn weights(
    masters: &BTreeMap<NodeId, SlotSet>,
    given: &[(NodeId, f64)],
) -> Result<BTreeMap<NodeId, f64>, RebalanceError> {
    let mut weights = BTreeMap::new();
    for (id, weight) in given.iter().copied() {
        if !masters.contains_key(&id) {
            return Err(RebalanceError::NotAMaster { id });
        }
        if !weight.is_finite() || weight < 0.0 {
            return Err(RebalanceError::BadWeight { id, weight });
        }
        match weights.insert(id, weight) {
            Some(one) if one != weight => {
                let other = weight;
                return Err(RebalanceError::TwoWeights { id, one, other });
            }
            _ => {}
        }
    }
    Ok(weights)
}

fn in_steps(weight: f64, largest: f64) -> u64 {
    if weight > 0.0 {
        // Between 0 and WEIGHT_STEPS; a tiny weight is still one.
        ((weight / largest * WEIGHT_STEPS).round() as u64).max(1)
    } else {
        0
    }
}

/// Whether a share differs from the expected one by more than the threshold.
fn is_beyond(has: u128, expected: u128, threshold: f64) -> bool {
    let off = has.abs_diff(expected);
    off > 0 && off as f64 * 100.0 > threshold * expected as f64
}

/// The moves to the expected numbers of slots; `None` if all masters are within the threshold.
fn by_slots(members: &[WeightedMaster], expected: Option<Vec<u128>>) -> (Vec<Share>, Verdict) {
    let is_balanced = expected.is_none();
    let expected = expected.unwrap_or_else(|| expected_slots(members));
    let share = |(member, expected): (&WeightedMaster, &u128)| Share {
        id: member.id,
        before: member.slots.count() as u128,
        expected: *expected,
        after: member.slots.count() as u128,
    };
    let mut shares: Vec<Share> = members.iter().zip(&expected).map(share).collect();
    if is_balanced {
        return (shares, Verdict::Balanced);
    }
    let (mut givers, mut takers) = (Vec::new(), Vec::new());
    for (member, share) in members.iter().zip(&mut shares) {
        share.after = share.expected;
        givers.push(Giver {
            id: member.id,
            slots: member
                .slots
                .iter()
                .take(share.before.saturating_sub(share.expected) as usize)
                .collect(),
        });
        takers.push(Taker {
            id: member.id,
            count: share.expected.saturating_sub(share.before) as usize,
        });
    }
    let plan = MovePlan::of_moves(pair(&givers, &takers));
    (shares, Verdict::Moves(plan))
}

/// The number of slots that each master should have.
fn expected_slots(members: &[WeightedMaster]) -> Vec<u128> {
    let weights: Vec<u64> = members.iter().map(|member| member.weight).collect();
    let owned: Vec<usize> = members.iter().map(|member| member.slots.count()).collect();
    let total: usize = owned.iter().sum();
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    // The slots beyond its share rounded down; never more than it owns.
    let beyond = |index: usize| {
        let share = total as u128 * u128::from(weights[index]) / sum.max(1);
        Reverse((owned[index] as u128).saturating_sub(share))
    };
    let mut expected = apportion(total as u128, &weights, beyond);
    let weighted = weights.iter().filter(|weight| **weight > 0).count();
    if weighted <= total {
        for index in 0..members.len() {
            if weights[index] == 0 || expected[index] > 0 {
                continue;
            }
            // Another master has two or more, since there are enough slots for all.
            let richest =
                (0..members.len()).max_by_key(|other| (expected[*other], Reverse(*other)));
            if let Some(richest) = richest {
                expected[richest] -= 1;
                expected[index] += 1;
            }
        }
    }
    expected
}

#[cfg(test)]
mod tests;
