//! One frame of `watch`.

use serde::Serialize;

use super::node::Node;
use super::values::words;
use crate::cluster::health::{Code, Severity};
use crate::cluster::slot::SlotSet;

/// A cluster at one moment. Rates are per second since the frame before; they are null in the first one, and for a node
/// whose counters began anew.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WatchView {
    /// When it was seen, in ms since 1970.
    pub at_ms: u64,
    /// The time since the frame before; null in the first one.
    pub since_ms: Option<u64>,
    /// Whether all nodes that were asked report `cluster_state:ok`; null if none answered.
    pub ok: Option<bool>,
    /// The number of slots of masters that are up, 0 to 16384.
    pub slots_covered: usize,
    /// The number of nodes.
    pub node_count: usize,
    /// The number of errors in the last check; null until the first one ended.
    pub errors: Option<usize>,
    /// The number of warnings in the last check.
    pub warnings: Option<usize>,
    /// The findings of the last check, errors first. It runs every ten seconds and after each change.
    pub findings: Vec<WatchFinding>,
    /// The masters, by their first slot.
    pub masters: Vec<WatchMaster>,
    /// Slots in motion, by pair of nodes.
    pub moves: Vec<WatchMove>,
    /// Atomic slot migration tasks that run or have failed.
    pub tasks: Vec<WatchTask>,
    /// What has changed since the frame before.
    pub events: Vec<WatchEvent>,
}

/// A finding of the last check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WatchFinding {
    /// How bad it is.
    pub severity: Severity,
    /// A word for it.
    pub code: Code,
    /// What was found, for people.
    pub message: String,
}

/// A master with its replicas.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WatchMaster {
    /// The master.
    #[serde(flatten)]
    pub node: WatchNode,
    /// Its slots.
    pub slots: SlotSet,
    /// The number of its slots.
    pub slot_count: usize,
    /// Its replicas.
    pub replicas: Vec<WatchNode>,
}

/// A node. What is not known of it is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WatchNode {
    /// The node.
    #[serde(flatten)]
    pub node: Node,
    /// Its state.
    pub state: WatchState,
    /// Why it did not answer.
    #[serde(rename = "error", skip_serializing_if = "Option::is_none")]
    pub why_silent: Option<String>,
    /// Its server: `redis 7.0.15`.
    pub version: Option<String>,
    /// Its config epoch.
    pub epoch: u64,
    /// Commands in a second.
    pub ops_per_second: Option<u64>,
    /// Bytes received in a second.
    pub bytes_in_per_second: Option<u64>,
    /// Bytes sent in a second.
    pub bytes_out_per_second: Option<u64>,
    /// The part of one core that its main thread takes, 0 to 1; of all threads before Redis 6.2.
    pub cpu: Option<f64>,
    /// In bytes.
    pub used_memory: Option<u64>,
    /// In bytes; null for no limit.
    pub maxmemory: Option<u64>,
    /// Connected clients.
    pub clients: Option<u64>,
    /// Keys in all databases.
    pub keys: Option<u64>,
    /// Bytes of its master's stream that it has not processed, of a replica.
    pub lag_bytes: Option<u64>,
    /// Seconds since it started.
    pub uptime_s: Option<u64>,
}

/// The state of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchState {
    /// It answers.
    Ok,
    /// It does not answer this program.
    Unreachable,
    /// Most nodes that were asked flag it `fail`.
    Fail,
    /// It is loading its data from disk.
    Loading,
    /// It is a replica in a full resync.
    Syncing,
    /// It is a replica without a link to its master.
    LinkDown,
}

impl WatchState {
    /// One word, as `check` has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unreachable => "unreachable",
            Self::Fail => "fail",
            Self::Loading => "loading",
            Self::Syncing => "syncing",
            Self::LinkDown => "link-down",
        }
    }
}

/// Slots in motion between two nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WatchMove {
    /// The source.
    pub from: Node,
    /// The target.
    pub to: Node,
    /// The slots that are open.
    pub open: SlotSet,
    /// The number of slots that have moved since `watch` saw the first of them.
    pub slots_moved: usize,
    /// Keys that the source still has in open slots (database 0).
    pub keys_left: Option<u64>,
    /// Keys that leave the source in a second.
    pub keys_per_second: Option<u64>,
    /// The time until the keys of the open slots have moved, at this rate.
    pub left_ms: Option<u64>,
}

/// An atomic slot migration task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WatchTask {
    /// The node that leads it: its source on Valkey, its target on Redis.
    pub leader: Node,
    /// Its slots.
    pub slots: SlotSet,
    /// The number of its slots.
    pub slot_count: usize,
    /// The source, if the server reports it.
    pub source: Option<Node>,
    /// The target, if the server reports it.
    pub target: Option<Node>,
    /// The server's word for its state.
    pub state: String,
    /// The last error, in the server's words.
    pub message: String,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WatchEvent {
    /// When it was seen, in ms since 1970.
    pub at_ms: u64,
    /// What it is.
    pub event: WatchEventKind,
    /// The same, for people.
    pub message: String,
    /// The nodes that it is about: the old one first.
    pub nodes: Vec<Node>,
    /// The slots that it is about.
    pub slots: SlotSet,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchEventKind {
    /// `cluster_state` changed.
    State,
    /// A replica took over from its master.
    Failover,
    /// A replica became a master, without the slots of its master.
    Promoted,
    /// A node became a replica of another node.
    Follows,
    /// A node was lost.
    NodeLost,
    /// It is back.
    NodeBack,
    /// A node was restarted.
    Restarted,
    /// A node joined.
    Joined,
    /// A node left.
    Left,
    /// Slots have another owner.
    SlotsMoved,
    /// The current epoch changed.
    Epoch,
}

impl WatchEventKind {
    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Failover => "failover",
            Self::Promoted => "promoted",
            Self::Follows => "follows",
            Self::NodeLost => "node-lost",
            Self::NodeBack => "node-back",
            Self::Restarted => "restarted",
            Self::Joined => "joined",
            Self::Left => "left",
            Self::SlotsMoved => "slots-moved",
            Self::Epoch => "epoch",
        }
    }

    /// Whether it is bad news.
    pub fn is_bad(self) -> bool {
        matches!(self, Self::NodeLost)
    }
}

words! {
    WatchState: |state| state.word(), ["ok", "unreachable", "fail", "loading", "syncing", "link-down"];
    WatchEventKind: |kind| kind.word(), [
        "state", "failover", "promoted", "follows", "node-lost", "node-back", "restarted", "joined", "left",
        "slots-moved", "epoch",
    ];
}

impl WatchView {
    /// All nodes: each master, then its replicas.
    pub fn nodes(&self) -> impl Iterator<Item = &WatchNode> {
        let masters = self.masters.iter();
        masters.flat_map(|master| std::iter::once(&master.node).chain(&master.replicas))
    }
}
