//! The runs on this host that move slots, with their settings.

use std::time::Duration;

use serde::Serialize;

use super::move_slots::milliseconds;
use crate::event::MoveState;

/// The result of `throttle`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ThrottleView {
    /// The runs that answered, by their names.
    pub runs: Vec<RunView>,
    /// The runs that did not answer.
    pub unanswered: Vec<UnansweredView>,
}

/// A run that did not answer: it may be suspended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UnansweredView {
    /// Its name.
    pub run: String,
    /// Its process; null where the system does not tell.
    pub pid: Option<u32>,
    /// What happened.
    pub reason: String,
}

/// A run that moves slots.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunView {
    /// Its name: a random id, as in the names of its connections and in its journal.
    pub run: String,
    /// Its command.
    pub command: String,
    /// Its process.
    pub pid: u32,
    /// The first node that its command line names.
    pub node: String,
    /// What it does now.
    pub state: RunState,
    /// How much moves in a second; null for no limit.
    pub rate: Option<RateView>,
    /// How many pairs of nodes move slots at a time; null for the default.
    pub node_pairs: Option<usize>,
    /// By how much it may delay other clients; null for no limit.
    #[serde(rename = "max_latency_ms", serialize_with = "limit")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub max_latency: Option<Duration>,
}

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Slots move.
    Moving,
    /// The idle latency is measured (`--max-latency`): no slot is open.
    Measuring,
    /// The slots and tasks in hand are finished; then it is paused.
    Pausing,
    /// No slot is open, and nothing is in flight.
    Paused,
}

impl From<MoveState> for RunState {
    fn from(state: MoveState) -> Self {
        match state {
            MoveState::Moving => Self::Moving,
            MoveState::Measuring => Self::Measuring,
            MoveState::Pausing => Self::Pausing,
            MoveState::Paused => Self::Paused,
        }
    }
}

/// A limit on how much moves in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "unit", rename_all = "lowercase")]
pub enum RateView {
    /// Keys.
    Keys {
        /// How many in a second.
        per_second: u64,
    },
    /// Bytes.
    Bytes {
        /// How many in a second.
        per_second: u64,
    },
}

fn limit<S: serde::Serializer>(limit: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    limit.map(milliseconds).serialize(serializer)
}
