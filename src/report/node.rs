//! A node as plans and results name it.

use std::fmt;

use serde::Serialize;

use crate::cluster::node::{Addr, NodeId, Role};

/// A node of a plan or a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Node {
    /// 40 hex digits.
    pub id: NodeId,
    /// `host:port` by which this program reaches it.
    pub addr: Addr,
    /// Its role; for a node that joins, the role that it gets.
    pub role: Role,
    /// The zone that it is in, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// `127.0.0.1:7000 (1977c4d4)`.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.addr, self.id.short())
    }
}
