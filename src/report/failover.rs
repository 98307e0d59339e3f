//! The plan and the result of `failover`.

use std::time::Duration;

use serde::Serialize;

use super::node::Node;
use super::values::millis;
use crate::cluster::node::{Addr, NodeId, Role, Takeover};
use crate::cluster::slot::SlotSet;
use crate::event::FailedOver;

/// The plan of `failover`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FailoverView {
    /// The replica that becomes the master.
    pub replica: Node,
    /// The master that it replaces.
    pub master: Node,
    /// The slots that change their owner.
    pub slots: SlotSet,
    /// How the replica takes over.
    pub how: Takeover,
    /// How many bytes of the master's stream it lacked when both were last seen; `None` where that
    /// is not known.
    #[serde(rename = "bytes_behind")]
    pub behind: Option<u64>,
    /// The number of replicas that it was chosen from; 1 where it was named.
    #[serde(rename = "candidate_count")]
    pub chosen_of: usize,
}

/// The result of a failover.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FailoverReport {
    /// The replica that has become the master.
    pub replica: Node,
    /// The master that it has replaced.
    pub master: Node,
    /// The slots that have changed their owner.
    pub slots: SlotSet,
    /// From the command until the replica was seen to own the slots.
    #[serde(rename = "held_ms", serialize_with = "millis")]
    #[cfg_attr(test, schemars(with = "u64"))]
    pub held: Duration,
    /// How the replica took over.
    pub how: Takeover,
}

impl From<&FailedOver> for FailoverReport {
    fn from(done: &FailedOver) -> Self {
        let node = |(id, addr): &(NodeId, Addr), role| Node {
            id: *id,
            addr: addr.clone(),
            role,
            zone: None,
        };
        Self {
            replica: node(&done.replica, Role::Master),
            master: node(&done.master, Role::Replica),
            slots: done.slots.clone(),
            held: done.held,
            how: done.how,
        }
    }
}
