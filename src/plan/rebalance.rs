//! Rebalancing: every master its share, by slots or by what the slots hold, with few moves.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::assignment::{Giver, Taker, pair};
use super::shares::apportion;
use super::{Contested, MovePlan, SlotOwner, holdings};
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;

mod load;

/// Weights are taken as whole multiples of the largest one divided by this, which keeps all
/// further arithmetic exact.
const WEIGHT_STEPS: f64 = 4_294_967_295.0;

/// What is to be balanced, and how well.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// All masters, those without slots too, in any order.
    pub masters: Vec<SlotOwner>,
    /// How much masters shall get in proportion to each other, from 0 on; who isn't named weighs
    /// 1. A master of weight 0 gives everything away.
    pub weights: Vec<(NodeId, f64)>,
    /// What becomes of masters without slots.
    pub empty: UseEmpty,
    /// By how many percent of its share a master may be off, from 0 (not at all) on.
    pub threshold: f64,
    /// What is measured.
    pub by: By,
}

/// Whether masters without slots get some. A weight alone doesn't make them take part: it doesn't
/// for redis-cli, and scripts that name weights for all their nodes may rely on it. They are in
/// [`Balance::left_out`], so that it can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UseEmpty {
    /// They are left out.
    No,
    /// They take part.
    Yes,
}

/// What the shares are shares of.
#[derive(Debug, Clone, PartialEq)]
pub enum By {
    /// The number of slots.
    Slots,
    /// What the slots hold: keys or bytes, by slot number from 0 on; slots beyond its end hold
    /// nothing.
    Load(Vec<u64>),
}

/// Where the masters stand, and what is to be done about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Balance {
    /// The masters that take part, by id.
    pub shares: Vec<Share>,
    /// Masters without slots that don't ([`UseEmpty::No`]), by id.
    pub left_out: Vec<NodeId>,
    /// What is to be done.
    pub verdict: Verdict,
}

/// A master's share, in slots or in what the load is measured in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The master.
    pub id: NodeId,
    /// What it has.
    pub before: u128,
    /// What it should have. These add up to what all have.
    pub expected: u128,
    /// What it has when the moves are done.
    pub after: u128,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing: all masters are within the threshold.
    Balanced,
    /// These moves, all in one round. By load some masters may be beyond the threshold even then:
    /// [`Share::after`] tells.
    Moves(MovePlan),
    /// Nothing, though some are beyond the threshold: single slots hold so much that moving one
    /// would only move the trouble. By load only.
    Indivisible,
}

/// Why nothing can be balanced as asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RebalanceError {
    /// No master takes part.
    #[error("no master owns slots: there is nothing to balance")]
    NoMasters,
    /// A weight for none of the masters.
    #[error(
        "weight for {id}, which is no master of this cluster: name a master (`redis-trib info` lists \
         them)"
    )]
    NotAMaster {
        /// The id.
        id: NodeId,
    },
    /// A negative weight, or none at all.
    #[error("weight {weight} of {id}: weights are numbers from 0 (give all slots away) on")]
    BadWeight {
        /// The node.
        id: NodeId,
        /// The weight.
        weight: f64,
    },
    /// Two weights for one master.
    #[error("{id} is given two weights, {one} and {other}: give one")]
    TwoWeights {
        /// The node.
        id: NodeId,
        /// The first.
        one: f64,
        /// Another one.
        other: f64,
    },
    /// There would be nobody to own the slots.
    #[error(
        "every master that takes part has weight 0, so nobody could own the slots: give one a weight \
         (masters without slots take part with --use-empty-masters)"
    )]
    AllZero,
    /// A negative threshold, or no number.
    #[error("threshold {threshold}: it is a percentage from 0 (exact) on, such as 2")]
    BadThreshold {
        /// What was asked for.
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
    /// In [`WEIGHT_STEPS`] of the largest weight; 0 only for weight 0.
    weight: u64,
}

/// Plans what brings every master to its share.
///
/// By slots, shares are the owned slots by weight and largest remainder; between equal remainders
/// those who own more beyond their share keep the odd slot, which saves moves, and leaves a balance
/// alone that stands already. Who weighs anything keeps or gets at
/// least one slot where there are enough (a master that loses its last slot becomes a replica:
/// redis.conf, cluster-allow-replica-migration, on by default). Where one master is
/// beyond the threshold all are brought to their exact shares, with the fewest moves that do: each
/// gives its surplus or takes its deficit, no slot comes and goes.
///
/// By load, slots go one by one from who has too much to who has too little, those first that fit
/// best, until all are within the threshold or no move helps. To find the fewest moves would be as
/// hard as packing bins; these are few. A slot moves at most once and only where that brings two
/// masters closer together; slots that hold nothing stay, unless their master has weight 0; and no
/// other master loses its last slot. What may be left is less than the lightest slot that an
/// overloaded master could still give.
///
/// # Errors
///
/// When weights or threshold make no sense, or leave nobody to own the slots.
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
    let (shares, verdict) = match &request.by {
        By::Slots => by_slots(&members, threshold),
        By::Load(load) => load::rebalance(&members, load, threshold),
    };
    Ok(Balance {
        shares,
        left_out: outside.into_iter().map(|(id, _)| id).collect(),
        verdict,
    })
}

/// Weights in proportion to the masters' `maxmemory` in bytes.
///
/// # Errors
///
/// The masters that have none (0 is none): theirs can't be compared with the others'.
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

/// Masters without a memory limit, where weights were to come from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no weights can be made of memory limits: maxmemory is not set on {}; set it, or give weights",
    list(nodes)
)]
pub struct WithoutMaxmemory {
    /// Which ones.
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

/// Whether it is off by more than that many percent of what it should be.
fn is_beyond(has: u128, expected: u128, threshold: f64) -> bool {
    let off = has.abs_diff(expected);
    off > 0 && off as f64 * 100.0 > threshold * expected as f64
}

fn by_slots(members: &[WeightedMaster], threshold: f64) -> (Vec<Share>, Verdict) {
    let expected = expected_slots(members);
    let share = |(member, expected): (&WeightedMaster, &u128)| Share {
        id: member.id,
        before: member.slots.count() as u128,
        expected: *expected,
        after: member.slots.count() as u128,
    };
    let mut shares: Vec<Share> = members.iter().zip(&expected).map(share).collect();
    if !shares
        .iter()
        .any(|share| is_beyond(share.before, share.expected, threshold))
    {
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

/// How many slots each shall have.
fn expected_slots(members: &[WeightedMaster]) -> Vec<u128> {
    let weights: Vec<u64> = members.iter().map(|member| member.weight).collect();
    let owned: Vec<usize> = members.iter().map(|member| member.slots.count()).collect();
    let total: usize = owned.iter().sum();
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    // What it owns beyond its share rounded down; never more than it owns.
    let beyond = |index: usize| {
        let share = total as u128 * u128::from(weights[index]) / sum.max(1);
        Reverse((owned[index] as u128).saturating_sub(share))
    };
    let mut expected = apportion(total as u128, &weights, beyond);
    let weighty = weights.iter().filter(|weight| **weight > 0).count();
    if weighty <= total {
        for index in 0..members.len() {
            if weights[index] == 0 || expected[index] > 0 {
                continue;
            }
            // There is one with two or more, since they are enough for all.
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
