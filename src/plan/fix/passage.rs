//! Between which nodes keys can move.

use std::collections::BTreeMap;

use super::Request;
use crate::cluster::node::NodeId;
use crate::cluster::parse::Version;
use crate::cluster::write_refusal::WriteRefusal;

/// Which nodes can give and take keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Passage {
    versions: BTreeMap<NodeId, Version>,
    refusals: BTreeMap<NodeId, WriteRefusal>,
}

impl Passage {
    pub(super) fn of(request: &Request<'_>) -> Self {
        let reports = request.diagnosis.observation.reports();
        Self {
            versions: reports
                .filter_map(|(node, report)| Some((node.id, report.info.version?)))
                .collect(),
            refusals: request.refusals.clone(),
        }
    }

    /// Whether keys can move from one node to another: the first lets them leave, and the other takes writes and
    /// reads the values of the first.
    pub(super) fn is_open(&self, from: NodeId, to: NodeId) -> bool {
        let leaves = self
            .refusals
            .get(&from)
            .is_none_or(|why| why.lets_keys_leave());
        let reads = match (self.versions.get(&from), self.versions.get(&to)) {
            (Some(source), Some(target)) => target.takes_values_of(*source),
            _ => true,
        };
        leaves && reads && !self.refusals.contains_key(&to)
    }

    #[cfg(test)]
    pub(super) fn refusing(refusals: BTreeMap<NodeId, WriteRefusal>) -> Self {
        Self {
            versions: BTreeMap::new(),
            refusals,
        }
    }
}
