//! The result of `verify`: how the keys of a source and of a cluster compare.

use std::time::Duration;

use serde::Serialize;

use super::values::millis;

/// How many keys are equal, and which are not.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct VerifyView {
    /// The source.
    pub from: String,
    /// The address of a node of the cluster, or its name.
    pub to: String,
    /// The number of keys that are the same on both sides.
    pub same: u64,
    /// How many of them were the same only when they were compared again.
    pub settled: u64,
    /// The number of keys that were deleted at the source, or expired, while keys were compared.
    pub gone: u64,
    /// The number of keys that the cluster does not have.
    pub missing: u64,
    /// The number of keys with different values, types or times to live.
    pub different: u64,
    /// The number of keys that only the cluster has; null if they were not looked for (`--both-ways`).
    pub extra: Option<u64>,
    /// The number of keys that could not be compared: their dumps differ and can't be decoded, or they are larger than a
    /// server accepts. In files also keys that a later version wrote; these are not named.
    pub uncompared: u64,
    /// What else differs, as sentences. It does not change the exit code.
    pub notes: Vec<String>,
    /// By how much times to live may differ.
    #[serde(rename = "ttl_tolerance_ms", serialize_with = "millis")]
    #[cfg_attr(test, schemars(with = "u64"))]
    pub ttl_tolerance: Duration,
    /// The first hundred keys of each kind that are not the same.
    pub found: Vec<UnequalKey>,
    /// The time that the comparison took.
    #[serde(rename = "took_ms", serialize_with = "millis")]
    #[cfg_attr(test, schemars(with = "u64"))]
    pub took: Duration,
}

/// A key that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UnequalKey {
    /// `missing`, `different`, `extra` or `uncompared`.
    pub kind: &'static str,
    /// The database of the source.
    pub database: u32,
    /// The key, without quotes; what is not printable is escaped.
    pub key: String,
    /// What differs, or why that is not known; empty if one side does not have the key.
    pub what: String,
}

impl VerifyView {
    /// The number of keys that are not the same, or not known to be.
    pub fn unequal(&self) -> u64 {
        self.missing + self.different + self.extra.unwrap_or_default() + self.uncompared
    }
}
