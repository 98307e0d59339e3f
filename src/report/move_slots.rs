//! The plan and the result of commands that move slots.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::node::Node;
use super::values::words;
use crate::cluster::node::NodeId;
use crate::cluster::slot::{Slot, SlotSet};
use crate::event::{MoveStats, Pair, Progress};

/// A plan of moves.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MovesView {
    /// The moves, by their lowest slot.
    pub moves: Vec<PlannedMove>,
    /// What the moves do to the memory of their targets.
    pub targets: Vec<TargetMemory>,
    /// What people should know before the moves begin.
    pub warnings: Vec<String>,
}

/// How far the moves between two nodes have come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PairProgress {
    /// The id of the source.
    pub from: NodeId,
    /// The id of the target.
    pub to: NodeId,
    /// How far they have come.
    #[serde(flatten)]
    pub progress: ProgressView,
}

/// Slots, keys and bytes that have moved, and what is left. What is left of keys and bytes is an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProgressView {
    /// Slots that have moved.
    pub slots_moved: usize,
    /// Slots that are left.
    pub slots_left: usize,
    /// Keys that have moved.
    pub keys_moved: u64,
    /// Keys that are left.
    pub keys_left: u64,
    /// Bytes that have moved, as MEMORY USAGE counts them.
    pub bytes_moved: u64,
    /// Bytes that are left.
    pub bytes_left: u64,
    /// The speed of the last seconds in keys.
    pub keys_per_second: u64,
    /// The speed of the last seconds in bytes.
    pub bytes_per_second: u64,
    /// The estimated time for the rest; null while nothing has moved, or the move is paused.
    pub time_left_ms: Option<u64>,
}

impl From<Progress> for ProgressView {
    fn from(progress: Progress) -> Self {
        let left = |left: Duration| u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        Self {
            slots_moved: progress.slots,
            slots_left: progress.slots_total.saturating_sub(progress.slots),
            keys_moved: progress.keys,
            keys_left: progress.keys_left(),
            bytes_moved: progress.bytes,
            bytes_left: progress.bytes_left(),
            keys_per_second: progress.keys_per_second,
            bytes_per_second: progress.bytes_per_second,
            time_left_ms: progress.left.map(left),
        }
    }
}

impl From<&(Pair, Progress)> for PairProgress {
    fn from((pair, progress): &(Pair, Progress)) -> Self {
        Self {
            from: pair.from,
            to: pair.to,
            progress: (*progress).into(),
        }
    }
}

/// How slots move, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "strategy", content = "reason", rename_all = "lowercase")]
pub enum How {
    /// By atomic slot migration.
    Atomic(String),
    /// Key by key, with MIGRATE.
    Keys(String),
}

impl How {
    /// Its word, in JSON and in tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Atomic(_) => "atomic",
            Self::Keys(_) => "keys",
        }
    }

    /// Why.
    fn reason(&self) -> &str {
        let (Self::Atomic(reason) | Self::Keys(reason)) = self;
        reason
    }
}

/// `atomic: both ends can (valkey 9.1.2)`.
impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Atomic(_) => "atomic",
            Self::Keys(_) => "key by key",
        };
        match self.reason() {
            "" => f.write_str(word),
            reason => write!(f, "{word}: {reason}"),
        }
    }
}

/// Slots that go from one node to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlannedMove {
    /// The source.
    pub from: Node,
    /// The target.
    pub to: Node,
    /// The slots.
    pub slots: SlotSet,
    /// How they move: `strategy` and `reason`.
    #[serde(flatten)]
    pub how: How,
}

/// The memory of a node that takes slots, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TargetMemory {
    /// The node.
    #[serde(flatten)]
    pub node: Node,
    /// In use now.
    #[serde(rename = "used_memory")]
    pub used: u64,
    /// What the slots will add, estimated from the memory of the sources.
    #[serde(rename = "incoming_memory")]
    pub coming: u64,
    /// Its maxmemory; null for no limit.
    #[serde(rename = "maxmemory")]
    pub limit: Option<u64>,
}

/// What the masters have before and after a rebalance.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BalanceView {
    /// What is balanced.
    #[serde(rename = "by")]
    pub measure: Measure,
    /// By how many percent of its share a master may be off.
    pub threshold: f64,
    /// The masters that take part.
    pub masters: Vec<MasterShare>,
    /// By cpu and network: slots with more than a fair share, which no move can divide.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub oversized: Vec<OversizedSlotView>,
}

/// A slot with more than a fair share.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OversizedSlotView {
    /// The slot.
    pub slot: Slot,
    /// Its owner.
    pub node: Node,
    /// Its load.
    pub load: u64,
    /// The largest fair share of a master.
    pub fair_share: u128,
}

/// What is balanced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Slots.
    Slots,
    /// Keys.
    Keys,
    /// Bytes, estimated.
    Memory,
    /// Microseconds on the main thread, in a sample.
    Cpu,
    /// Bytes received and sent, in a sample.
    Network,
}

impl Measure {
    /// Its word, in tables and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Keys => "keys",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Network => "network",
        }
    }
}

words! {
    Measure: |measure| measure.word(), ["slots", "keys", "memory", "cpu", "network"];
}

/// A master's share of what is balanced: a number of slots, keys, bytes or microseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MasterShare {
    /// The master.
    #[serde(flatten)]
    pub node: Node,
    /// Its weight among the masters.
    pub weight: f64,
    /// What it has.
    pub before: u128,
    /// What it should have.
    pub expected: u128,
    /// What it has when the moves are done.
    pub after: u128,
}

impl MovesView {
    /// How many slots move.
    pub fn slot_count(&self) -> usize {
        self.moves.iter().map(|one| one.slots.count()).sum()
    }

    /// The strategies of all moves with their reasons, each once.
    pub fn strategies(&self) -> Vec<&How> {
        let strategies: BTreeSet<&How> = self.moves.iter().map(|one| &one.how).collect();
        strategies.into_iter().collect()
    }

    /// `atomic`, `keys`, or `mixed` where the moves differ.
    pub(super) fn strategy(&self) -> &'static str {
        let words: BTreeSet<&str> = self.moves.iter().map(|one| one.how.word()).collect();
        let mut words = words.into_iter();
        match (words.next(), words.next()) {
            (Some(word), None) => word,
            _ => "mixed",
        }
    }

    /// Each node once, in the order of the moves.
    pub fn each<'a>(&'a self, end: impl Fn(&'a PlannedMove) -> &'a Node) -> Vec<&'a Node> {
        let mut nodes: Vec<&Node> = Vec::new();
        for node in self.moves.iter().map(end) {
            if !nodes.iter().any(|other| other.id == node.id) {
                nodes.push(node);
            }
        }
        nodes
    }
}

impl TargetMemory {
    /// What it will use when the slots are there.
    pub fn after(&self) -> u64 {
        self.used.saturating_add(self.coming)
    }
}

/// What has moved. Times are null where no slot moved key by key, or none by an ASM task.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MovedView {
    /// The number of slots that have moved.
    pub slot_count: usize,
    /// The number of keys that have moved.
    pub keys: u64,
    /// Their bytes, as far as the servers told.
    pub bytes: u64,
    /// From the first move to the last, without pauses and without the time in which the idle latency is measured.
    pub took_ms: f64,
    /// The longest MIGRATE call.
    pub longest_call_ms: Option<f64>,
    /// The longest time that a slot was open.
    pub longest_open_ms: Option<f64>,
    /// The mean time that a slot was open.
    pub mean_open_ms: Option<f64>,
    /// The longest ASM task.
    pub longest_task_ms: Option<f64>,
    /// The longest time for which a source held writes back at the end of an ASM task; null where no source tells.
    pub longest_write_pause_ms: Option<f64>,
    /// The same for each pair of nodes; empty where no source tells.
    pub write_pauses: Vec<WritePause>,
}

/// The write pauses of one pair of nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WritePause {
    /// The source, which held writes back.
    pub from: Node,
    /// The target.
    pub to: Node,
    /// The longest of them.
    pub longest_write_pause_ms: f64,
}

impl MovedView {
    /// The result of moves.
    pub fn of(
        slots: usize,
        stats: &MoveStats,
        took: Duration,
        write_pauses: Vec<WritePause>,
    ) -> Self {
        let by_key = stats.longest_open > Duration::ZERO;
        let by_task = stats.longest_task > Duration::ZERO;
        Self {
            slot_count: slots,
            keys: stats.keys,
            bytes: stats.bytes,
            took_ms: milliseconds(took),
            longest_call_ms: by_key.then(|| milliseconds(stats.longest_call)),
            longest_open_ms: by_key.then(|| milliseconds(stats.longest_open)),
            mean_open_ms: by_key.then(|| milliseconds(stats.mean_open())),
            longest_task_ms: by_task.then(|| milliseconds(stats.longest_task)),
            longest_write_pause_ms: stats.write_pause().map(milliseconds),
            write_pauses,
        }
    }
}

/// To the microsecond.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}
