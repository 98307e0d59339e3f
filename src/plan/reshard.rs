//! The planner of `reshard`: a number of slots, or given slots, move between masters.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::assignment::{Giver, Taker, pair};
use super::shares::apportion;
use super::{Contested, MovePlan, SlotOwner, holdings};
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;

/// The cluster, and the moves that are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// All masters, those without slots too, in any order.
    pub masters: Vec<SlotOwner>,
    /// What moves.
    pub what: What,
}

/// What moves, and the targets. Ids that are given twice count once.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A number of slots.
    Count {
        /// How many; from 1 to what the sources own.
        slots: usize,
        /// The sources.
        from: Sources,
        /// The targets, which take an equal number each; if that is not possible, the first ones take one
        /// more.
        to: Vec<NodeId>,
    },
    /// These slots. Slots that a target owns stay there, so an interrupted request can be repeated.
    Slots {
        /// The slots.
        slots: SlotSet,
        /// The targets, which end with numbers of them as even as possible.
        to: Vec<NodeId>,
    },
}

/// The sources of slots.
#[derive(Debug, Clone, PartialEq)]
pub enum Sources {
    /// Every master that owns slots and is not a target.
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
    /// There is no target.
    #[error("no target: name one or more masters with --to")]
    NoTarget,
    /// There is no source.
    #[error("no source: name one or more masters with --from, or `--from all`")]
    NoSource,
    /// The sources are all masters, but only targets own slots.
    #[error("only the targets own slots: there is no source to take slots from")]
    NothingBesidesTargets,
    /// The id is not that of a master.
    #[error(
        "{id} is not a master of this cluster, so it can neither give nor take slots: name a master \
         (`redis-trib info` lists them)"
    )]
    NotAMaster {
        /// The id.
        id: NodeId,
    },
    /// A node is a source and a target.
    #[error("{id} is both a source and a target: remove it from one of them")]
    TargetIsSource {
        /// The node.
        id: NodeId,
    },
    /// The source has no slots.
    #[error("source {id} owns no slots: remove it from the sources")]
    SourceWithoutSlots {
        /// The node.
        id: NodeId,
    },
    /// More slots than the sources own.
    #[error(
        "{asked} slots requested, but the sources own only {owned}: request at most {owned}, or name \
         more sources"
    )]
    TooMany {
        /// The requested number.
        asked: usize,
        /// How many the sources own together.
        owned: usize,
    },
    /// Some of the given slots have no owner.
    #[error(
        "slots {slots} have no owner: leave them out, or assign them first with `redis-trib fix`"
    )]
    Unowned {
        /// The slots.
        slots: SlotSet,
    },
    /// The targets own all given slots already. A caller may treat this as success.
    #[error("nothing to move: the targets own slots {slots} already")]
    NothingToMove {
        /// The slots.
        slots: SlotSet,
    },
    /// Two masters claim the same slots.
    #[error(transparent)]
    Contested(#[from] Contested),
}

impl ReshardError {
    /// The node concerned.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::NotAMaster { id }
            | Self::TargetIsSource { id }
            | Self::SourceWithoutSlots { id } => Some(*id),
            _ => None,
        }
    }
}

/// Plans the moves.
///
/// By count, each source gives in proportion to its number of slots, by largest remainder (ties: more
/// slots, then the lowest slot, then the id), its lowest slots first; the sum is the requested number.
/// No node both gives and takes, and there are fewer pairs than nodes.
///
/// # Errors
///
/// If the request names nodes or slots that can't take part, or more slots than there are.
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

/// The sources, by number of slots, the largest first.
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

/// How many of `coming` slots each target takes in addition to those it has, so that the totals are as
/// even as possible; the first targets get one more if necessary.
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
