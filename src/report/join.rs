//! The plan of `add-node`.

use serde::{Serialize, Serializer};

use super::node::Node;
use crate::cluster::node::Addr;
use crate::cluster::numbers::counted;

/// The plan of `add-node`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct JoinView {
    /// The member that was named, or led to the others.
    pub lead: Addr,
    /// How many nodes the cluster has now.
    #[serde(rename = "node_count")]
    pub members: usize,
    /// The nodes that join.
    pub nodes: Vec<JoiningNode>,
    /// The number of function libraries that new masters get.
    #[serde(rename = "library_count")]
    pub libraries: usize,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// A node that joins.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct JoiningNode {
    /// The node, with the role that it gets.
    #[serde(flatten)]
    pub node: Node,
    /// The master that it will replicate; in JSON its id.
    #[serde(rename = "replicates", serialize_with = "id_only")]
    #[cfg_attr(test, schemars(with = "Option<crate::cluster::node::NodeId>"))]
    pub follows: Option<Node>,
    /// Who chose that master.
    #[serde(skip)]
    pub chosen_by: ChosenBy,
    /// What is done to it before.
    #[serde(flatten)]
    pub before: Before,
    /// How many slots it gets (`--fill`).
    #[serde(rename = "slot_count")]
    pub slots: usize,
}

/// Who chose the master of a new replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChosenBy {
    /// The user named it.
    User,
    /// The plan: one of those with the fewest replicas.
    Plan,
}

/// What is done to a node before it joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(into = "Reset")]
pub enum Before {
    /// Nothing.
    Nothing,
    /// It forgets the nodes that it knew.
    Reset,
    /// It loses its keys, of which there are so many, and its id.
    Flush(u64),
}

/// The reset of a node in JSON.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Reset {
    /// `soft`, `hard`, or null where the node joins as it is.
    reset: Option<&'static str>,
    /// The number of keys that the node loses by it.
    keys_lost: u64,
}

impl From<Before> for Reset {
    fn from(before: Before) -> Self {
        let (reset, keys_lost) = match before {
            Before::Nothing => (None, 0),
            Before::Reset => (Some("soft"), 0),
            Before::Flush(keys) => (Some("hard"), keys),
        };
        Self { reset, keys_lost }
    }
}

impl Before {
    /// What happens to the node, as a predicate; empty for nothing.
    pub fn words(self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Reset => "forgets its old cluster".to_string(),
            Self::Flush(keys) => format!("LOSES its {} and its id", counted(keys, "key")),
        }
    }
}

fn id_only<S: Serializer>(node: &Option<Node>, serializer: S) -> Result<S::Ok, S::Error> {
    node.as_ref().map(|node| node.id).serialize(serializer)
}
