//! The result of `info`: the masters and the sums.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::check::{CheckView, MemberView, NodeState};
use super::remedy::RemedyOptions;
use crate::cluster::health::Diagnosis;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::slot::{SLOTS, SlotSet};

/// The masters of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InfoView {
    /// The number of keys on all masters that answered.
    pub keys: u64,
    /// `keys` divided by 16384.
    pub keys_per_slot: f64,
    /// The number of slots that a master which is not down serves, 0 to 16384.
    pub slots_covered: usize,
    /// The number of nodes.
    pub node_count: usize,
    /// The servers of the nodes that answered: `redis 7.0.15`.
    pub versions: BTreeSet<String>,
    /// The id of the node by which the others were found.
    pub lead: NodeId,
    /// Its address.
    pub lead_addr: Option<Addr>,
    /// All masters, by their first slot.
    pub masters: Vec<MasterView>,
}

/// A master.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MasterView {
    /// 40 hex digits.
    pub id: NodeId,
    /// `host:port`.
    pub addr: Option<Addr>,
    /// Its announced name.
    pub hostname: Option<String>,
    /// Always `master`.
    pub role: Role,
    /// The number of its keys; null if it did not answer.
    pub keys: Option<u64>,
    /// The slots that it owns; JSON has their number.
    #[serde(skip)]
    pub slots: SlotSet,
    /// The number of slots that it owns.
    pub slot_count: usize,
    /// The number of its replicas.
    pub replicas: usize,
    /// In bytes.
    pub used_memory: Option<u64>,
    /// In bytes; null for no limit.
    pub maxmemory: Option<u64>,
    /// The worst state that is known of it.
    pub state: NodeState,
}

impl InfoView {
    /// The view of a diagnosis.
    pub fn of(diagnosis: &Diagnosis) -> Self {
        let check = CheckView::of(diagnosis, &BTreeMap::new(), &[], &RemedyOptions::default());
        Self {
            keys: check.keys,
            keys_per_slot: check.keys as f64 / f64::from(SLOTS),
            slots_covered: check.slots_covered,
            node_count: check.nodes.len(),
            versions: check.versions(),
            lead: check.lead,
            lead_addr: check.lead_addr.clone(),
            masters: check.masters(),
        }
    }
}

/// The masters among the nodes, with their numbers of replicas.
pub(super) fn masters(nodes: &[MemberView]) -> Vec<MasterView> {
    let mut replicas: BTreeMap<NodeId, usize> = BTreeMap::new();
    for node in nodes.iter().filter(|node| !node.is_master()) {
        if let Some(master) = node.replicates {
            *replicas.entry(master).or_default() += 1;
        }
    }
    let masters = nodes.iter().filter(|node| node.is_master());
    masters
        .map(|node| MasterView {
            id: node.id,
            addr: node.addr.clone(),
            hostname: node.hostname.clone(),
            role: node.role,
            keys: node.keys,
            slots: node.slots.clone(),
            slot_count: node.slots.count(),
            replicas: replicas.get(&node.id).copied().unwrap_or_default(),
            used_memory: node.used_memory,
            maxmemory: node.maxmemory,
            state: node.state,
        })
        .collect()
}
