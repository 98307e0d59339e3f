//! The plan and the result of `failover`.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::node::Node;
use super::values::millis;
use crate::cluster::node::{Addr, NodeId, Role, Takeover};
use crate::cluster::numbers::{counted, thousands};
use crate::cluster::slot::SlotSet;
use crate::event::FailedOver;

/// The plan of `failover`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FailoverView {
    /// The replica that becomes the master.
    pub replica: Node,
    /// The master that it replaces.
    pub master: Node,
    /// The slots that change their owner.
    pub slots: SlotSet,
    /// How the replica takes over.
    pub how: Takeover,
    /// How many bytes of the master's stream it lacked when both were last seen; `None` where that
    /// is not known.
    #[serde(rename = "bytes_behind")]
    pub behind: Option<u64>,
    /// The number of replicas that it was chosen from; 1 where it was named.
    #[serde(rename = "candidate_count")]
    pub chosen_of: usize,
    /// The copies of the shard's data that answer: the master's, then those of the replicas.
    pub copies: Vec<CopyView>,
    /// What the user should know before.
    pub warnings: Vec<String>,
}

/// A copy of the data of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CopyView {
    /// The node that holds it.
    #[serde(flatten)]
    pub node: Node,
    /// Its keys, in all databases.
    pub key_count: u64,
    /// Its replication offset.
    pub replication_offset: Option<u64>,
    /// The link to its master: `up`, `syncing` or `down`; `None` of a master.
    pub link: Option<&'static str>,
    /// How long the link has been down, or since when nothing came over it if it is up; `None` if it was not up since
    /// the server started.
    #[serde(rename = "link_age_ms")]
    pub link_age: Option<u64>,
    /// Why it must not become the master, in one word.
    #[serde(rename = "unsafe")]
    pub danger: Option<&'static str>,
}

impl CopyView {
    /// `3,000 keys, offset 18,841, link down for 6 s`.
    pub fn state(&self) -> String {
        let seconds = self.link_age.map(|age| age / 1000);
        let link = match (self.link, seconds) {
            (None, _) => String::new(),
            (Some("up"), Some(seconds)) => format!(", link up (last heard of {seconds} s ago)"),
            (Some("up"), None) => ", link up".to_string(),
            (Some("syncing"), _) => ", full resync under way".to_string(),
            (Some(_), Some(seconds)) => format!(", link down for {seconds} s"),
            (Some(_), None) => ", link not up since its server started".to_string(),
        };
        let offset = self.replication_offset.map_or_else(
            || "offset unknown".to_string(),
            |offset| format!("offset {}", thousands(offset)),
        );
        format!("{}, {offset}{link}", counted(self.key_count, "key"))
    }
}

/// `127.0.0.1:7003 (1977c4d4): 3,000 keys, offset 18,841, link down for 6 s`.
impl fmt::Display for CopyView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: {}",
            self.node.role.word(),
            self.node,
            self.state()
        )
    }
}

/// The result of a failover.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FailoverReport {
    /// The replica that has become the master.
    pub replica: Node,
    /// The master that it has replaced.
    pub master: Node,
    /// The slots that have changed their owner.
    pub slots: SlotSet,
    /// From the command until the replica was seen to own the slots.
    #[serde(rename = "held_ms", serialize_with = "millis")]
    #[cfg_attr(test, schemars(with = "u64"))]
    pub held: Duration,
    /// How the replica took over.
    pub how: Takeover,
}

impl From<&FailedOver> for FailoverReport {
    fn from(done: &FailedOver) -> Self {
        let node = |(id, addr): &(NodeId, Addr), role| Node {
            id: *id,
            addr: addr.clone(),
            role,
            zone: None,
        };
        Self {
            replica: node(&done.replica, Role::Master),
            master: node(&done.master, Role::Replica),
            slots: done.slots.clone(),
            held: done.held,
            how: done.how,
        }
    }
}
