//! The plan and the result of `set-timeout`.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::node::Node;
use super::values::{millis, whole_millis};

/// The plan: what every node has now, and what it gets.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SetTimeoutView {
    /// The new timeout.
    #[serde(rename = "timeout_ms", serialize_with = "millis")]
    #[cfg_attr(test, schemars(with = "u64"))]
    pub wanted: Duration,
    /// The nodes with the timeouts that they have.
    pub nodes: Vec<Timeout>,
}

/// The timeout of a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Timeout {
    /// The node.
    #[serde(flatten)]
    pub node: Node,
    /// Its timeout; `None` where it does not tell, an error where it does not answer; null in JSON for both.
    #[serde(rename = "timeout_ms", serialize_with = "known")]
    #[cfg_attr(test, schemars(with = "Option<u64>"))]
    pub now: Result<Option<Duration>, String>,
}

/// The result on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(into = "SetResult")]
pub enum TimeoutSet {
    /// The timeout is in force and in the configuration file.
    Persisted,
    /// The timeout is in force until the node restarts; why CONFIG REWRITE failed.
    InForce(String),
    /// The timeout was not set; why.
    Failed(String),
}

/// The result on one node in JSON.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SetResult {
    /// Whether the timeout is in force.
    set: bool,
    /// Whether the node has written it to its configuration file.
    persisted: bool,
    /// What failed.
    failure: Option<String>,
}

impl From<TimeoutSet> for SetResult {
    fn from(result: TimeoutSet) -> Self {
        let (set, persisted) = match result {
            TimeoutSet::Persisted => (true, true),
            TimeoutSet::InForce(_) => (true, false),
            TimeoutSet::Failed(_) => (false, false),
        };
        let failure = match result {
            TimeoutSet::Persisted => None,
            TimeoutSet::InForce(why) | TimeoutSet::Failed(why) => Some(why),
        };
        Self {
            set,
            persisted,
            failure,
        }
    }
}

fn known<S: Serializer>(
    now: &Result<Option<Duration>, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let now = now.as_ref().ok().copied().flatten();
    now.map(whole_millis).serialize(serializer)
}
