//! What has changed from one snapshot to the next. Each change is told once, and equal snapshots have none.

use std::collections::{BTreeMap, BTreeSet};

use super::{Health, Snapshot};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::slot::SlotSet;

/// A change of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The cluster serves all slots again, or does not any more.
    State {
        /// Whether it is `ok` now.
        is_ok: bool,
    },
    /// A replica became the master of its master's slots.
    FailedOver {
        /// The new master.
        to: NodeId,
        /// The old one.
        from: NodeId,
        /// The slots that the new master got.
        slots: SlotSet,
    },
    /// A replica became a master, without the slots of the old one.
    Promoted(NodeId),
    /// A node became a replica of that master, or changed to it.
    Follows {
        /// The replica.
        replica: NodeId,
        /// Its master.
        master: Option<NodeId>,
    },
    /// A node does not answer any more, or is flagged `fail`.
    Lost(NodeId),
    /// It is back.
    Back(NodeId),
    /// Its process is a new one.
    Restarted(NodeId),
    /// A new member.
    Joined(NodeId),
    /// No node that was asked knows it any more.
    Left(NodeId),
    /// Slots have another owner. `None`: they had no owner, or have none now.
    SlotsMoved {
        /// The old owner.
        from: Option<NodeId>,
        /// The new one.
        to: Option<NodeId>,
        /// The slots.
        slots: SlotSet,
    },
    /// The current epoch of the cluster.
    Epoch {
        /// Before.
        from: u64,
        /// Now.
        to: u64,
    },
}

/// What has changed between two snapshots, the most important first.
pub fn between(before: &Snapshot, after: &Snapshot) -> Vec<Change> {
    let mut changes = Vec::new();
    if let (Some(was_ok), Some(is_ok)) = (before.is_ok, after.is_ok)
        && was_ok != is_ok
    {
        changes.push(Change::State { is_ok });
    }
    let mut moved = moved(before, after);
    let mut successors: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    let kept = after
        .nodes
        .iter()
        .filter_map(|(id, node)| Some((*id, before.nodes.get(id)?, node)));
    for (id, was, is) in kept.clone() {
        if (was.role, is.role) == (Role::Replica, Role::Master) {
            let taken = was.master.and_then(|master| {
                let slots = moved.remove(&(Some(master), Some(id)))?;
                Some((master, slots))
            });
            changes.push(match taken {
                Some((from, slots)) => {
                    successors.insert(from, id);
                    Change::FailedOver {
                        to: id,
                        from,
                        slots,
                    }
                }
                None => Change::Promoted(id),
            });
        }
    }
    for (id, was, is) in kept {
        match (was.health == Health::Up, is.health == Health::Up) {
            (true, false) => changes.push(Change::Lost(id)),
            (false, true) => changes.push(Change::Back(id)),
            _ => {}
        }
        if let (Some(was), Some(is)) = (&was.run_id, &is.run_id)
            && was != is
        {
            changes.push(Change::Restarted(id));
        }
        // After a failover the old master and its replicas follow the new one: that is part of it.
        let old = match was.role {
            Role::Master => Some(id),
            Role::Replica => was.master,
        };
        let is_same = was.role == is.role && was.master == is.master;
        let is_part = old.is_some_and(|old| successors.get(&old).copied() == is.master);
        if is.role == Role::Replica && !is_same && !(is_part && is.master.is_some()) {
            changes.push(Change::Follows {
                replica: id,
                master: is.master,
            });
        }
    }
    let ids = |snapshot: &Snapshot| snapshot.nodes.keys().copied().collect::<BTreeSet<_>>();
    let (old, new) = (ids(before), ids(after));
    changes.extend(new.difference(&old).copied().map(Change::Joined));
    changes.extend(old.difference(&new).copied().map(Change::Left));
    let moved = moved.into_iter();
    changes.extend(moved.map(|((from, to), slots)| Change::SlotsMoved { from, to, slots }));
    if before.current_epoch != after.current_epoch {
        changes.push(Change::Epoch {
            from: before.current_epoch,
            to: after.current_epoch,
        });
    }
    changes
}

/// Slots with another owner, by the old and the new one.
fn moved(
    before: &Snapshot,
    after: &Snapshot,
) -> BTreeMap<(Option<NodeId>, Option<NodeId>), SlotSet> {
    let mut moved = BTreeMap::new();
    let mut gained = SlotSet::new();
    let mut lost: Vec<(NodeId, SlotSet)> = Vec::new();
    for (id, was) in &before.nodes {
        let now = after.nodes.get(id).map(|node| &node.slots);
        let slots = now.map_or_else(|| was.slots.clone(), |now| was.slots.difference(now));
        if !slots.is_empty() {
            lost.push((*id, slots));
        }
    }
    for (id, is) in &after.nodes {
        let had = before.nodes.get(id).map(|node| &node.slots);
        let mut new = had.map_or_else(|| is.slots.clone(), |had| is.slots.difference(had));
        gained.union_with(&new);
        for (from, slots) in &lost {
            if new.is_empty() {
                break;
            }
            let both = new.intersection(slots);
            if !both.is_empty() {
                new = new.difference(&both);
                moved.insert((Some(*from), Some(*id)), both);
            }
        }
        if !new.is_empty() {
            moved.insert((None, Some(*id)), new);
        }
    }
    for (from, slots) in lost {
        let unowned = slots.difference(&gained);
        if !unowned.is_empty() {
            moved.insert((Some(from), None), unowned);
        }
    }
    moved
}
