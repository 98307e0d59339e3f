//! The plan of `place`.

use serde::Serialize;

use super::node::Node;

/// The plan of `place`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlaceView {
    /// The steps, in the order in which they are carried out.
    pub steps: Vec<PlaceStepView>,
    /// What the loss of each zone and each host takes down, before and after.
    #[serde(rename = "places")]
    pub groups: Vec<PlacedGroup>,
    /// Whether no placement is better, and none as good takes fewer steps.
    #[serde(rename = "optimal")]
    pub is_proven: bool,
    /// What the user should know before.
    pub warnings: Vec<String>,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum PlaceStepView {
    /// A replica takes over from its master; writes are held for milliseconds.
    FailOver {
        /// The replica.
        to: Node,
        /// The master.
        from: Node,
    },
    /// A replica discards its copy and gets another master, which forks and sends a full copy.
    Move {
        /// The replica.
        replica: Node,
        /// Its master.
        from: Node,
        /// Its new master.
        to: Node,
        /// The memory that the new master uses.
        copied_bytes: u64,
    },
}

/// What the loss of a host or a zone takes down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlacedGroup {
    /// `zone` or `host`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The masters there now.
    pub masters_before: usize,
    /// The masters there after the plan.
    pub masters_after: usize,
    /// The shards of which all copies are there now.
    pub shards_lost_before: usize,
    /// The same after the plan.
    pub shards_lost_after: usize,
    /// Whether a majority of the masters is there now, so that no replica can be elected without it.
    pub quorum_lost_before: bool,
    /// The same after the plan.
    pub quorum_lost_after: bool,
}
