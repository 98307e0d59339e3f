//! Names of nodes on the command line: an id, a prefix of an id, or an address.

use super::node::NodeId;
use super::observation::Observation;

/// A name that matches no node, or several.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchNode {
    /// It matches none.
    #[error("{0:?} is no node of this cluster: give its id, a prefix of the id, or its address")]
    Unknown(String),
    /// It matches several.
    #[error("{name:?} is ambiguous: it matches {}; give a longer prefix", .candidates.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// The nodes that it matches.
        candidates: Vec<String>,
    },
}

impl Observation {
    /// The node with that id, the only one with that prefix, or the one with that address.
    pub fn find(&self, name: &str) -> Result<NodeId, NoSuchNode> {
        let unknown = || NoSuchNode::Unknown(name.chars().take(80).collect());
        let lower = name.to_ascii_lowercase();
        let by_addr = self.nodes.values().find(|node| {
            [&node.dial, &node.peer]
                .into_iter()
                .flatten()
                .any(|addr| addr.to_string() == lower)
        });
        if let Some(node) = by_addr {
            return Ok(node.id);
        }
        if lower.is_empty() {
            return Err(unknown());
        }
        let candidates: Vec<NodeId> = self
            .nodes
            .keys()
            .filter(|id| id.to_string().starts_with(&lower))
            .copied()
            .collect();
        match candidates[..] {
            [] => Err(unknown()),
            [only] => Ok(only),
            _ => Err(NoSuchNode::Ambiguous {
                name: name.to_string(),
                candidates: candidates.iter().map(|id| self.name(*id)).collect(),
            }),
        }
    }
}
