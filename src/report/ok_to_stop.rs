//! The result of `ok-to-stop`.

use serde::Serialize;

use super::node::Node;
use crate::cluster::slot::SlotSet;

/// Whether nodes can be stopped.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OkToStopView {
    /// The nodes that would be stopped.
    #[serde(rename = "nodes")]
    pub stopping: Vec<Node>,
    /// Why they should not be stopped; empty where nothing speaks against it.
    #[serde(rename = "reasons")]
    pub objections: Vec<Objection>,
}

/// The same with the answer.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OkToStopDocument<'a> {
    /// Whether the nodes can be stopped now.
    ok: bool,
    #[serde(flatten)]
    view: &'a OkToStopView,
}

/// The largest set of nodes that may be stopped together.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LargestStopView {
    /// Whether any of the nodes can be stopped now.
    pub ok: bool,
    /// The number of nodes that can be stopped together.
    pub node_count: usize,
    /// These nodes.
    pub nodes: Vec<Node>,
    /// Why none can be stopped; empty if it depends on the choice.
    pub reasons: Vec<Objection>,
    /// The other nodes that were asked about, and why none of them can be stopped in addition.
    pub blocked: Vec<BlockedNodes>,
}

/// Nodes that can't be stopped together with the largest set, each of them for the same reasons.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BlockedNodes {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The reasons.
    pub reasons: Vec<Objection>,
}

/// A reason why nodes should not be stopped.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Objection {
    /// `slots-unserved`, `no-successor`, `no-majority`, `last-copy`, `slots-open`, `views-differ`,
    /// `slots-multiple-owners`.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
    /// The slots that it is about.
    pub slots: SlotSet,
}

impl<'a> OkToStopDocument<'a> {
    /// The document of a result.
    pub fn of(view: &'a OkToStopView) -> Self {
        Self {
            ok: view.objections.is_empty(),
            view,
        }
    }
}
