//! Plans: what is to be changed, as data.
//!
//! Everything here is pure: no sockets, no clock, no environment, no randomness. A planner takes
//! the request and the observation, and returns a plan that can be shown before anything is done;
//! the same input always gives the same plan. Each kind of change has a plan type of its own, so that
//! an executor meets only steps that it knows.

pub mod create;
pub mod drift;
pub mod failover;
pub mod file;
pub mod fix;
pub mod join;
pub mod leave;
pub mod place;
pub mod rebalance;
pub mod reshard;
pub mod roll;

mod affinity;
mod anti_affinity_search;
mod assignment;
mod membership;
mod moves;
#[cfg(test)]
mod samples;
mod shares;

use std::collections::BTreeMap;

use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;

pub use membership::{CreateProgress, MembershipPlan, MembershipStep};
pub use moves::{MovePlan, SlotMove};

/// A master, with the slots that it owns.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotOwner {
    /// Its id.
    pub id: NodeId,
    /// Its slots; may be empty.
    pub slots: SlotSet,
}

/// Two masters claim the same slots, so no move of them can be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{one} and {other} both claim slots {slots}: repair that first with `redis-trib fix`")]
pub struct Contested {
    /// The slots.
    pub slots: SlotSet,
    /// One of the masters.
    pub one: NodeId,
    /// Another one.
    pub other: NodeId,
}

/// The slots of every master, by id. A master that is listed twice owns the slots of both entries.
fn holdings(masters: &[SlotOwner]) -> Result<BTreeMap<NodeId, SlotSet>, Contested> {
    let mut holdings: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
    for SlotOwner { id, slots } in masters {
        let held = holdings.entry(*id).or_default();
        *held = held.union(slots);
    }
    let mut owners = BTreeMap::new();
    for (id, slots) in &holdings {
        for slot in slots.iter() {
            if let Some(other) = owners.insert(slot, *id) {
                return Err(Contested {
                    slots: slots.intersection(&holdings[&other]),
                    one: other,
                    other: *id,
                });
            }
        }
    }
    Ok(holdings)
}
