//! The plan and the result of `backup`.

use serde::Serialize;

use super::node::Node;
use crate::cluster::slot::SlotSet;

/// A backup, planned or done. In JSON each of its shards is a line.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupView {
    /// Its parts, by their lowest slots.
    pub shards: Vec<ShardView>,
    /// The directory.
    pub directory: String,
}

/// The data of one master.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ShardView {
    /// The master.
    pub master: Node,
    /// Its slots.
    pub slots: SlotSet,
    /// The node that sends the data: the master or a replica of it.
    pub source: Node,
    /// What was received; `None` in a plan.
    #[serde(flatten)]
    pub fetched: Option<Fetched>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fetched {
    /// Its name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// The number of its keys.
    pub keys: u64,
    /// Its SHA-256, in hex digits.
    pub sha256: String,
    /// The part that this version can't read; `keys` counts the keys before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<UnreadView>,
}

/// The part of a file that only a server that loads it, or a newer redis-trib, can restore.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UnreadView {
    /// The records that can't be read: `values of type 34`.
    pub what: String,
    /// The position of the first one in the file.
    pub at: u64,
    /// The number of keys from there on; 0 if it is not known.
    pub keys: u64,
}

impl BackupView {
    /// What can't be read in the files, and how many keys that concerns.
    pub fn unread(&self) -> Option<(String, u64)> {
        let fetched = self
            .shards
            .iter()
            .filter_map(|shard| shard.fetched.as_ref());
        let unread: Vec<&UnreadView> = fetched.filter_map(|one| one.unread.as_ref()).collect();
        let mut kinds: Vec<&str> = unread.iter().map(|rest| rest.what.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let keys = unread.iter().map(|rest| rest.keys).sum();
        (!kinds.is_empty()).then(|| (kinds.join(" and "), keys))
    }

    /// The keys and the bytes of all files.
    pub fn sums(&self) -> (u64, u64) {
        let fetched = || {
            self.shards
                .iter()
                .filter_map(|shard| shard.fetched.as_ref())
        };
        (
            fetched().map(|one| one.keys).sum(),
            fetched().map(|one| one.bytes).sum(),
        )
    }
}
