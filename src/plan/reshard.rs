//! Resharding: so many slots, or those slots, from these masters to those.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::assignment::{Giver, Taker, pair};
use super::shares::apportion;
use super::{Contested, MovePlan, SlotOwner, holdings};
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;

/// What is asked, and of whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// All masters, those without slots too, in any order.
    pub masters: Vec<SlotOwner>,
    /// What shall move.
    pub what: What,
}

/// What shall move, and to whom. Ids that are given twice count once.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// So many slots, whichever.
    Count {
        /// How many; from 1 to what the sources own.
        slots: usize,
        /// Who gives them.
        from: Sources,
        /// Who takes them, an equal number each; where that does not come out even, the first ones
        /// take one more.
        to: Vec<NodeId>,
    },
    /// These slots, whoever owns them. Those that a target owns stay where they are, so the same
    /// request can be made again when it was cut off.
    Slots {
        /// The slots.
        slots: SlotSet,
        /// Who shall own them. The others are shared out so that in the end the targets own
        /// numbers of them that are as even as can be.
        to: Vec<NodeId>,
    },
}

/// Who gives slots.
#[derive(Debug, Clone, PartialEq)]
pub enum Sources {
    /// Every master that owns slots and is no target.
    All,
    /// These.
    Nodes(Vec<NodeId>),
}

/// Why slots cannot be moved as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReshardError {
    /// Zero slots, or an empty set of slots.
    #[error("no slots to move: ask for at least one")]
    NoSlots,
    /// There is nobody to take the slots.
    #[error("no target: name one or more masters with --to")]
    NoTarget,
    /// There is nobody to give slots.
    #[error("no source: name one or more masters with --from, or `--from all`")]
    NoSource,
    /// Every master, but none besides the targets owns slots.
    #[error("no master but the targets owns slots: there is nobody to take slots from")]
    NothingBesidesTargets,
    /// It is none of the masters.
    #[error(
        "{id} is no master of this cluster, so it neither gives nor takes slots: name a master \
         (`redis-trib info` lists them)"
    )]
    NotAMaster {
        /// The id.
        id: NodeId,
    },
    /// It would give slots to itself, or to another target that is a source.
    #[error("{id} is named as source and as target: leave it out of one of them")]
    TargetIsSource {
        /// The node.
        id: NodeId,
    },
    /// It has nothing to give.
    #[error("source {id} owns no slots: leave it out")]
    SourceWithoutSlots {
        /// The node.
        id: NodeId,
    },
    /// More slots than the sources own.
    #[error(
        "{asked} slots are asked for, but the sources own only {owned}: ask for at most {owned}, or \
         name more sources"
    )]
    TooMany {
        /// How many are asked for.
        asked: usize,
        /// How many the sources own together.
        owned: usize,
    },
    /// Named slots that are in no master's hands.
    #[error(
        "nobody owns slots {slots}: leave them out, or assign them first with `redis-trib fix`"
    )]
    Unowned {
        /// The slots.
        slots: SlotSet,
    },
    /// All named slots are where they shall be. To a caller this may well be success.
    #[error("nothing to move: slots {slots} are where they shall be")]
    NothingToMove {
        /// The slots.
        slots: SlotSet,
    },
    /// Two masters claim the same slots.
    #[error(transparent)]
    Contested(#[from] Contested),
}

impl ReshardError {
    /// The node that it is about.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::NotAMaster { id }
            | Self::TargetIsSource { id }
            | Self::SourceWithoutSlots { id } => Some(*id),
            _ => None,
        }
    }
}

/// Plans the moves, all in one round.
///
/// By count each source gives in proportion to what it owns, by largest remainder (ties: who owns
/// more, then the lowest slot, then the id), its lowest slots first; the sum is always what was
/// asked for. No node both gives and takes, and there are fewer pairs than nodes.
///
/// # Errors
///
/// When the request names nodes or slots that cannot take part, or more slots than there are.
pub fn reshard(request: &Request) -> Result<MovePlan, ReshardError> {
    let masters = holdings(&request.masters)?;
    match &request.what {
        What::Count { slots, from, to } => by_count(&masters, *slots, from, to),
        What::Slots { slots, to } => by_name(&masters, slots, to),
    }
}

fn by_count(
    masters: &BTreeMap<NodeId, SlotSet>,
    count: usize,
    from: &Sources,
    to: &[NodeId],
) -> Result<MovePlan, ReshardError> {
    if count == 0 {
        return Err(ReshardError::NoSlots);
    }
    let targets = targets(masters, to)?;
    let sources = sources(masters, from, &targets)?;
    let owned: Vec<u64> = sources
        .iter()
        .map(|source| source.slots.count() as u64)
        .collect();
    let total = owned.iter().sum::<u64>() as usize;
    if count > total {
        return Err(ReshardError::TooMany {
            asked: count,
            owned: total,
        });
    }
    let givers: Vec<Giver> = apportion(count as u128, &owned, |_| ())
        .into_iter()
        .zip(sources)
        .map(|(share, source)| Giver {
            id: source.id,
            slots: source.slots.iter().take(share as usize).collect(),
        })
        .collect();
    let takers: Vec<Taker> = apportion(count as u128, &vec![1; targets.len()], |_| ())
        .into_iter()
        .zip(targets)
        .map(|(share, id)| Taker {
            id,
            count: share as usize,
        })
        .collect();
    Ok(MovePlan::of_moves(pair(&givers, &takers)))
}

fn by_name(
    masters: &BTreeMap<NodeId, SlotSet>,
    slots: &SlotSet,
    to: &[NodeId],
) -> Result<MovePlan, ReshardError> {
    if slots.is_empty() {
        return Err(ReshardError::NoSlots);
    }
    let targets = targets(masters, to)?;
    let unowned = masters
        .values()
        .fold(slots.clone(), |rest, owned| rest.difference(owned));
    if !unowned.is_empty() {
        return Err(ReshardError::Unowned { slots: unowned });
    }
    let kept: Vec<usize> = targets
        .iter()
        .map(|id| masters[id].intersection(slots).count())
        .collect();
    let givers: Vec<Giver> = masters
        .iter()
        .filter(|(id, _)| !targets.contains(id))
        .map(|(id, owned)| Giver {
            id: *id,
            slots: owned.intersection(slots),
        })
        .collect();
    let coming = slots.count() - kept.iter().sum::<usize>();
    if coming == 0 {
        return Err(ReshardError::NothingToMove {
            slots: slots.clone(),
        });
    }
    let takers: Vec<Taker> = targets
        .into_iter()
        .zip(level(&kept, coming))
        .map(|(id, count)| Taker { id, count })
        .collect();
    Ok(MovePlan::of_moves(pair(&givers, &takers)))
}

/// The targets, each once, in the order in which they were named.
fn targets(
    masters: &BTreeMap<NodeId, SlotSet>,
    to: &[NodeId],
) -> Result<Vec<NodeId>, ReshardError> {
    let targets = once_each(masters, to)?;
    if targets.is_empty() {
        return Err(ReshardError::NoTarget);
    }
    Ok(targets)
}

/// The sources, those that own most first.
fn sources(
    masters: &BTreeMap<NodeId, SlotSet>,
    from: &Sources,
    targets: &[NodeId],
) -> Result<Vec<SlotOwner>, ReshardError> {
    let ids: Vec<NodeId> = match from {
        Sources::All => {
            let gives = |id: &NodeId| !masters[id].is_empty() && !targets.contains(id);
            let ids: Vec<NodeId> = masters.keys().copied().filter(gives).collect();
            if ids.is_empty() {
                return Err(ReshardError::NothingBesidesTargets);
            }
            ids
        }
        Sources::Nodes(named) => {
            let ids = once_each(masters, named)?;
            if ids.is_empty() {
                return Err(ReshardError::NoSource);
            }
            if let Some(id) = ids.iter().find(|id| targets.contains(id)) {
                return Err(ReshardError::TargetIsSource { id: *id });
            }
            if let Some(id) = ids.iter().find(|id| masters[*id].is_empty()) {
                return Err(ReshardError::SourceWithoutSlots { id: *id });
            }
            ids
        }
    };
    let mut sources: Vec<SlotOwner> = ids
        .into_iter()
        .map(|id| SlotOwner {
            id,
            slots: masters[&id].clone(),
        })
        .collect();
    sources.sort_by_cached_key(|source| {
        let lowest = source.slots.iter().next();
        (Reverse(source.slots.count()), lowest, source.id)
    });
    Ok(sources)
}

/// The ids without repetitions, when all of them are masters.
fn once_each(
    masters: &BTreeMap<NodeId, SlotSet>,
    ids: &[NodeId],
) -> Result<Vec<NodeId>, ReshardError> {
    if let Some(id) = ids.iter().find(|id| !masters.contains_key(id)) {
        return Err(ReshardError::NotAMaster { id: *id });
    }
    let mut seen = BTreeSet::new();
    Ok(ids.iter().copied().filter(|id| seen.insert(*id)).collect())
}

/// How many of `coming` slots each target takes, beside what it has, so that the totals end as
/// even as can be; the first ones get what does not come out even.
pub(super) fn level(has: &[usize], coming: usize) -> Vec<usize> {
    let mut takes = vec![0; has.len()];
    for _ in 0..coming {
        let neediest = (0..has.len()).min_by_key(|target| (has[*target] + takes[*target], *target));
        if let Some(target) = neediest {
            takes[target] += 1;
        }
    }
    takes
}

#[cfg(test)]
mod tests;
