//! The result of `where`: where keys and slots are.

use serde::Serialize;

use super::node::Node;
use crate::cluster::slot::Slot;

/// Keys and slots, in the order in which they were named.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WhereView {
    /// The database in which the keys were looked up.
    pub database: u32,
    /// The keys.
    pub keys: Vec<KeyView>,
    /// The slots of `--slot`.
    pub slots: Vec<SlotView>,
}

impl WhereView {
    /// Whether every question has an answer.
    pub fn is_complete(&self) -> bool {
        let keys = self.keys.iter().map(|key| &key.why_unknown);
        let slots = self.slots.iter().map(|slot| &slot.why_unknown);
        keys.chain(slots).all(Option::is_none)
    }
}

/// A slot, and the nodes that hold it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OwnersView {
    /// The slot.
    pub slot: Slot,
    /// The master that owns it; null if no node owns it.
    pub owner: Option<Node>,
    /// Other masters that claim it too; `fix` settles that.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub other_claims: Vec<Node>,
    /// The replicas of the owner.
    pub replicas: Vec<Node>,
    /// The node to which the slot is moving; null if it is not.
    pub moving_to: Option<Node>,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct KeyView {
    /// The key; bytes that are not printable as `\xHH`, a backslash as `\\`.
    pub key: String,
    /// The part that is hashed, in the same form; null where that is the whole key.
    pub hash_tag: Option<String>,
    /// Where it belongs.
    #[serde(flatten)]
    pub place: OwnersView,
    /// Whether it exists; null if that could not be found out.
    pub exists: Option<bool>,
    /// The node that has it: the owner, or the target while the slot moves.
    pub node: Option<Node>,
    /// The type, in the server's word: `string`, `hash`, `zset`…
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    /// Its size in memory, in bytes, as MEMORY USAGE estimates it; null where the server does not tell.
    pub memory_usage: Option<u64>,
    /// The time until it expires; null if it does not expire.
    pub ttl_ms: Option<u64>,
    /// Why it is not known whether the key exists.
    #[serde(rename = "error", skip_serializing_if = "Option::is_none")]
    pub why_unknown: Option<String>,
}

/// A slot.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SlotView {
    /// Where it is.
    #[serde(flatten)]
    pub place: OwnersView,
    /// The number of its keys on the owner in that database; null if that could not be found out.
    pub keys: Option<u64>,
    /// Why the number of keys is not known.
    #[serde(rename = "error", skip_serializing_if = "Option::is_none")]
    pub why_unknown: Option<String>,
}
