//! The plan and the results of `roll`.

use std::time::Duration;

use serde::Serialize;

use super::node::Node;
use super::values::millis;
use crate::event::RestartedNode;

/// The plan of `roll`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RollView {
    /// All members.
    pub nodes: Vec<RollNodeView>,
    /// The steps, as far as they can be foreseen.
    pub steps: Vec<RollStepView>,
    /// What the user should know before.
    pub warnings: Vec<String>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RollNodeView {
    /// The member.
    #[serde(flatten)]
    pub node: Node,
    /// Its server and version; null where it does not tell.
    pub version: Option<String>,
    /// Whether it is to be restarted; false if it is done, or was not chosen.
    #[serde(rename = "pending")]
    pub is_pending: bool,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum RollStepView {
    /// These nodes restart side by side.
    Restart {
        /// The nodes.
        nodes: Vec<Node>,
    },
    /// A replica takes over from its master.
    FailOver {
        /// The replica.
        to: Node,
        /// The master.
        from: Node,
        /// Whether the new master has the only copy in sync until the old one has restarted.
        only_copy: bool,
    },
}

/// A node that has restarted.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RestartedView {
    /// The node.
    #[serde(flatten)]
    pub node: Node,
    /// The id of its new process.
    pub run_id: String,
    /// Its server and version; null where it does not tell.
    pub version: Option<String>,
    /// The time from the restart until it was in sync and all nodes agreed.
    #[serde(rename = "took_ms", serialize_with = "millis")]
    #[cfg_attr(test, schemars(with = "u64"))]
    pub took: Duration,
}

impl From<&RestartedNode> for RestartedView {
    fn from(done: &RestartedNode) -> Self {
        let (id, addr, role) = done.node.clone();
        Self {
            node: Node {
                id,
                addr,
                role,
                zone: None,
            },
            run_id: done.run_id.clone(),
            version: done.version.clone(),
            took: done.took,
        }
    }
}
