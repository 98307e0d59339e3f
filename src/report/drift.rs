//! The result of `drift`: what differs among the nodes.

use serde::Serialize;

use super::node::Node;
use super::values::words;
use crate::cluster::functions::listed;
use crate::cluster::health::Severity;
use crate::cluster::numbers::counted;
use crate::cluster::setup::Kind;

words! {
    Kind: |kind| kind.word(), ["version", "setting", "user", "function", "module"];
}

/// The number of values that a sentence names.
const SHOWN: usize = 3;

/// What differs among the nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DriftView {
    /// Whether all nodes were compared and are the same.
    pub same: bool,
    /// The number of nodes that were compared.
    pub node_count: usize,
    /// What differs, errors first. Each thing is named once.
    pub differences: Vec<DifferenceView>,
    /// What nodes did not tell.
    pub unknown: Vec<UntoldView>,
}

/// Something that is not the same on all nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DifferenceView {
    /// `error` if a failover would change what clients see: `maxmemory`, `maxmemory-policy`, `appendonly`, `save`, a
    /// module or a function differs inside a shard.
    pub severity: Severity,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The masters of the shards inside which it differs; empty if it differs between shards only.
    pub shards: Vec<Node>,
    /// The values and their nodes; most nodes first.
    pub values: Vec<ValueView>,
}

/// The nodes that have one value.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ValueView {
    /// Whether these nodes have it at all.
    pub exists: bool,
    /// The value; null for passwords, the rules of users, and the code of functions.
    pub value: Option<String>,
    /// The nodes.
    pub nodes: Vec<Node>,
}

/// A part of a node's setup that is not known.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UntoldView {
    /// The node.
    pub node: Node,
    /// What is not known; null if the node does not answer at all.
    pub kind: Option<Kind>,
    /// Why.
    pub error: String,
}

/// The plan of `drift --fix`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DriftFixView {
    /// What is copied: `functions`, `acl:USER` or `config:KEY`.
    pub fix: String,
    /// The node that it is copied from.
    pub from: Node,
    /// The value of a setting; null otherwise.
    pub value: Option<String>,
    /// The nodes that change, in this order. Masters pass functions on to their replicas.
    pub nodes: Vec<DriftTargetView>,
    /// What stays as it is, and what to think of.
    pub warnings: Vec<String>,
}

/// A node that changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DriftTargetView {
    /// The node.
    pub node: Node,
    /// The value of the setting now; null otherwise.
    pub now: Option<String>,
}

impl DriftView {
    /// The number of differences of that severity.
    pub fn count(&self, severity: Severity) -> usize {
        let all = self.differences.iter();
        all.filter(|one| one.severity == severity).count()
    }
}

impl DifferenceView {
    /// `maxmemory differs inside the shard of A: 100 on B; 200 on C`.
    pub fn sentence(&self) -> String {
        let name = &self.name;
        let what = match self.kind {
            Kind::Version => "the version".to_string(),
            Kind::Setting => name.clone(),
            Kind::User => format!("ACL user {name:?}"),
            Kind::Library => format!("library {name:?}"),
            Kind::Module => format!("module {name:?}"),
        };
        let place = match self.shards.len() as u64 {
            0 => "between shards".to_string(),
            1 => format!("inside the shard of {}", names(&self.shards)),
            count => format!(
                "inside {} (of {})",
                counted(count, "shard"),
                names(&self.shards)
            ),
        };
        let mut hidden = 0;
        let mut values: Vec<String> = Vec::new();
        for value in self.values.iter().take(SHOWN) {
            let what = match (value.exists, &value.value) {
                (false, _) => "none".to_string(),
                (true, Some(text)) if text.is_empty() => "\"\"".to_string(),
                (true, Some(text)) => text.clone(),
                (true, None) => {
                    hidden += 1;
                    match hidden {
                        1 => "one".to_string(),
                        _ => "another".to_string(),
                    }
                }
            };
            values.push(format!("{what} on {}", names(&value.nodes)));
        }
        if let Some(more) = self
            .values
            .len()
            .checked_sub(SHOWN)
            .filter(|more| *more > 0)
        {
            values.push(format!("and {}", counted(more as u64, "more value")));
        }
        format!("{what} differs {place}: {}", values.join("; "))
    }
}

fn names(nodes: &[Node]) -> String {
    listed(nodes.iter().map(ToString::to_string))
}
