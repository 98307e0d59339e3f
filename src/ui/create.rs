//! What `create` is about to make, as far as it is shown.

use std::fmt;

use crate::cluster::node::{Addr, NodeId};
use crate::cluster::slot::SlotRange;

/// The plan of a new cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutView {
    /// The masters, in the order of their slots.
    pub masters: Vec<PlannedShard>,
    /// What the plan could not avoid, such as a replica on its master's host.
    pub warnings: Vec<String>,
}

/// A master with its slots and its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedShard {
    /// The master.
    pub master: NodeName,
    /// The slots that it gets.
    pub slots: SlotRange,
    /// The nodes that will follow it.
    pub replicas: Vec<NodeName>,
}

/// A node as people call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName {
    /// Its id.
    pub id: NodeId,
    /// Where it is reached.
    pub addr: Addr,
    /// Where it stands, where that is known.
    pub zone: Option<String>,
}

/// `127.0.0.1:7000 (1977c4d4)`.
impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.addr, self.id.short())
    }
}

impl LayoutView {
    /// How many nodes the cluster will have.
    pub fn nodes(&self) -> usize {
        self.masters.iter().map(|m| 1 + m.replicas.len()).sum()
    }
}
