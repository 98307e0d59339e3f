//! The plan and the result of commands that write keys into a cluster: `import` and `restore`.

use std::time::Duration;

use serde::Serialize;

use super::values::millis;
use crate::exit_code::ExitCode;

/// The plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TransferPlan {
    /// Where the keys come from: a server or a directory.
    pub from: String,
    /// How many keys there are; some of them may not be wanted. Null if that is not known: standard input.
    pub keys: Option<u64>,
    /// The address of a node of the cluster.
    pub to: String,
    /// How many masters the cluster has.
    pub masters: usize,
    /// How many keys are in the cluster already.
    pub present: u64,
    /// How it will be done, as sentences.
    pub notes: Vec<String>,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TransferView {
    /// What was done with the keys: `copied`, `moved` or `restored`.
    pub done: &'static str,
    /// The number of keys that were written.
    pub written: u64,
    /// The bytes of their values.
    pub bytes: u64,
    /// The number of keys that were there already, with the same value.
    pub same: u64,
    /// The number of keys that expired before they were written.
    pub expired: u64,
    /// The number of keys that were deleted at the source before they were written.
    pub gone: u64,
    /// The number of keys that were deleted at the source after they were written.
    pub deleted: u64,
    /// The number of keys in a file of a node that did not own their slots; they were skipped.
    pub strays: u64,
    /// The number of function libraries.
    pub functions: u64,
    /// The number of keys that masters evicted meanwhile; any keys, not only those that were written.
    pub evicted: u64,
    /// The keys that are not in the cluster as they should be, by reason.
    pub failed: Vec<FailedKeys>,
}

/// The result as it is written: with the time that it took.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TransferReport<'a> {
    /// The result.
    #[serde(flatten)]
    pub view: &'a TransferView,
    /// The time.
    #[serde(rename = "took_ms", serialize_with = "millis")]
    #[cfg_attr(test, schemars(with = "u64"))]
    pub took: Duration,
}

/// Keys that failed for one reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FailedKeys {
    /// The reason: kebab-case.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<FailedKey>,
}

/// A key that failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FailedKey {
    /// The key, without quotes; what is not printable is escaped.
    pub key: String,
    /// Why.
    pub why: String,
}

impl TransferView {
    /// How many keys were looked at.
    pub fn seen(&self) -> u64 {
        self.written + self.same + self.expired + self.gone + self.failures()
    }

    /// The exit code of a transfer that reached its end.
    pub fn exit_code(&self) -> ExitCode {
        match (self.failures(), self.evicted) {
            (0, 0) => ExitCode::Done,
            _ => ExitCode::Unhealthy,
        }
    }

    /// How many keys failed.
    pub fn failures(&self) -> u64 {
        self.failed.iter().map(|failed| failed.count).sum()
    }
}
