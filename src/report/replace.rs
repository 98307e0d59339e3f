//! The plan of `replace-node`.

use serde::Serialize;

use super::join::Before;
use super::node::Node;
use super::values::words;
use crate::cluster::numbers::counted;

/// The plan of `replace-node`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReplaceView {
    /// The node that leaves.
    pub old: Node,
    /// What it is, for people: `a master with 5,462 slots`.
    #[serde(skip)]
    pub what: String,
    /// Whether it answers, and so can be reset.
    #[serde(rename = "reachable")]
    pub answers: bool,
    /// The node that joins.
    pub new: Node,
    /// What is done to the new node before it joins.
    #[serde(flatten)]
    pub before: Before,
    /// What is left to do, in order.
    pub steps: Vec<ReplaceStep>,
}

/// A step of a replacement.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplaceStep {
    /// The new node joins as a master without slots.
    Joins,
    /// The new node joins as a replica of this one, and receives a copy of its data.
    Follows(Node),
    /// The new node takes over from the old one.
    TakesOver,
    /// The old node leaves.
    Leaves,
}

words! {
    ReplaceStep: |step| match step {
        ReplaceStep::Joins => "join",
        ReplaceStep::Follows(_) => "replicate",
        ReplaceStep::TakesOver => "failover",
        ReplaceStep::Leaves => "leave",
    }, ["join", "replicate", "failover", "leave"];
}

/// Returns what a node is, by its role and its slots.
pub fn standing_words(slots: usize, follows: Option<&Node>, answers: bool) -> String {
    let dead = if answers { "" } else { " that does not answer" };
    match follows {
        Some(master) => format!("a replica of {}{dead}", master.addr),
        None if slots == 0 => format!("a master without slots{dead}"),
        None => format!("a master with {}{dead}", counted(slots as u64, "slot")),
    }
}
