//! How people name nodes: by id, by the beginning of an id, by address.

use super::node::NodeId;
use super::observation::Observation;

/// A name that stands for no node, or for several.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchNode {
    /// For none.
    #[error(
        "{0:?} is no node of this cluster: name it by its id, the beginning of it, or its address"
    )]
    Unknown(String),
    /// For several.
    #[error("{name:?} may be {}: write more of the id", .candidates.join(", "))]
    Ambiguous {
        /// What was given.
        name: String,
        /// Whom it may mean.
        candidates: Vec<String>,
    },
}

impl Observation {
    /// The node that is meant: a whole id, the beginning of one only, or an address of the node.
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
