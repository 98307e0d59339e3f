//! How people name nodes: by id, by a prefix of an id, by address.

use super::node::{Addr, NodeId};
use super::observation::Observation;

/// The shortest prefix of an id that is accepted: shorter ones are unique by chance in a small cluster, and name
/// another node as soon as one joins.
const SHORTEST_PREFIX: usize = 4;

/// A name that stands for no node, or for several.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchNode {
    /// For none.
    #[error(
        "{0:?} is not a node of this cluster: name a node by its id, a unique prefix of its id of {SHORTEST_PREFIX} or more \
         characters, or its address"
    )]
    Unknown(String),
    /// It is a prefix, and too short.
    #[error(
        "{0:?} is too short for a node id: name a node by its id, a unique prefix of its id of {SHORTEST_PREFIX} or more \
         characters, or its address"
    )]
    TooShort(String),
    /// For several.
    #[error("{name:?} is ambiguous: it is a prefix of {}; add more characters of the id", .candidates.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// The nodes that it may stand for.
        candidates: Vec<String>,
    },
    /// It is a host name that leads to several.
    #[error("{name:?} stands for several nodes of this cluster: {}; name one of them", .nodes.join(", "))]
    Several {
        /// The name.
        name: String,
        /// The nodes.
        nodes: Vec<String>,
    },
}

impl Observation {
    /// Returns the node that is named by its id, a unique prefix of its id, or one of its addresses.
    pub fn find(&self, name: &str) -> Result<NodeId, NoSuchNode> {
        let unknown = || NoSuchNode::Unknown(name.chars().take(80).collect());
        let lower = name.to_ascii_lowercase();
        let by_addr = self.nodes.values().find(|node| {
            let addrs = || [&node.dial, &node.peer].into_iter().flatten();
            addrs().any(|addr| addr.to_string() == lower)
                || node.hostname.as_deref().is_some_and(|host| {
                    let host = host.to_ascii_lowercase();
                    addrs().any(|addr| Addr::new(&host, addr.port()).to_string() == lower)
                })
        });
        if let Some(node) = by_addr {
            return Ok(node.id);
        }
        let mut aliases = self.identities.aliases.iter();
        if let Some((_, id)) = aliases.find(|(addr, _)| addr.to_string() == lower) {
            return Ok(*id);
        }
        if lower.is_empty() || !lower.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        if lower.len() < SHORTEST_PREFIX {
            return Err(NoSuchNode::TooShort(name.to_string()));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cluster::observation::{ObservedNode, Seen};

    fn id(text: &str) -> NodeId {
        format!("{text:0<40}").parse().unwrap()
    }

    fn observation() -> Observation {
        let nodes: BTreeMap<_, _> = [("abcd1", 7000), ("abcd2", 7001), ("12ff", 7002)]
            .into_iter()
            .map(|(text, port)| {
                let node = ObservedNode {
                    id: id(text),
                    dial: Some(Addr::new("10.0.0.1", port)),
                    peer: None,
                    hostname: None,
                    seen: Seen::NoAddress,
                };
                (node.id, node)
            })
            .collect();
        Observation {
            lead: id("abcd1"),
            nodes,
            bystanders: Vec::new(),
            identities: Default::default(),
        }
    }

    #[test]
    fn a_node_is_found_by_id_prefix_and_address() {
        let observation = observation();
        assert_eq!(observation.find(&id("abcd1").to_string()), Ok(id("abcd1")));
        assert_eq!(observation.find("ABCD2"), Ok(id("abcd2")));
        assert_eq!(observation.find("12ff"), Ok(id("12ff")));
        assert_eq!(observation.find("10.0.0.1:7002"), Ok(id("12ff")));
    }

    #[test]
    fn a_node_is_found_by_its_announced_host_name() {
        let mut observation = observation();
        if let Some(node) = observation.nodes.get_mut(&id("12ff")) {
            node.hostname = Some("Redis-2.example".into());
        }
        assert_eq!(observation.find("redis-2.example:7002"), Ok(id("12ff")));
        assert!(observation.find("redis-2.example:7000").is_err());
    }

    #[test]
    fn prefixes_shorter_than_four_characters_are_refused() {
        let observation = observation();
        for name in ["1", "12", "12f"] {
            assert_eq!(
                observation.find(name),
                Err(NoSuchNode::TooShort(name.to_string()))
            );
        }
        let error = observation.find("12f").unwrap_err().to_string();
        assert!(error.contains("4 or more characters"), "{error}");
    }

    #[test]
    fn an_ambiguous_prefix_names_the_candidates() {
        let error = observation().find("abcd").unwrap_err().to_string();
        assert!(error.contains("10.0.0.1:7000 (abcd1000)"), "{error}");
        assert!(error.contains("10.0.0.1:7001 (abcd2000)"), "{error}");
    }

    #[test]
    fn other_names_are_unknown() {
        for name in ["", "beef", "abcde", "10.0.0.1:7003", "xyz"] {
            assert!(
                matches!(observation().find(name), Err(NoSuchNode::Unknown(_))),
                "{name}"
            );
        }
    }
}
