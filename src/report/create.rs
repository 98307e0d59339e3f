//! The plan of `create`.

use serde::Serialize;

use super::node::Node;
use super::values::one_range;
use crate::cluster::slot::SlotRange;

/// The plan of a new cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LayoutView {
    /// The masters, in the order of their slots.
    pub masters: Vec<PlannedShard>,
    /// How many replicas each master was to have. Nodes that are left become additional ones.
    #[serde(rename = "replicas_per_master")]
    pub replicas: usize,
    /// What the plan could not avoid, such as a replica on its master's host.
    pub warnings: Vec<String>,
}

/// A master with its slots and its replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlannedShard {
    /// The master.
    #[serde(flatten)]
    pub master: Node,
    /// The slots that it gets.
    #[serde(serialize_with = "one_range")]
    #[cfg_attr(test, schemars(with = "crate::cluster::slot::SlotSet"))]
    pub slots: SlotRange,
    /// The nodes that will replicate it.
    pub replicas: Vec<Node>,
}

impl LayoutView {
    /// How many nodes the cluster will have.
    pub fn nodes(&self) -> usize {
        self.masters.iter().map(|m| 1 + m.replicas.len()).sum()
    }
}
