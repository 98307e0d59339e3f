//! Settings that a replica does not share with its master: a failover changes what clients see.

use std::collections::{BTreeMap, BTreeSet};

use super::{Code, Judge};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::observation::Report;
use crate::cluster::slot::SlotSet;

/// The settings that INFO and the look at a node tell, as far as this node told them.
fn told(report: &Report) -> BTreeMap<&'static str, String> {
    let info = &report.info;
    let Some(maxmemory) = info.maxmemory else {
        return BTreeMap::new();
    };
    let word = |is_on: bool| (if is_on { "yes" } else { "no" }).to_string();
    let settings = [
        ("maxmemory", Some(maxmemory.to_string())),
        (
            "maxmemory-policy",
            info.maxmemory_policy.as_deref().map(str::to_string),
        ),
        ("appendonly", Some(word(info.aof_enabled))),
        ("save", report.saves.map(word)),
    ];
    let told = settings.into_iter();
    told.filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

impl Judge<'_> {
    pub(super) fn settings(&mut self) {
        let mut differing: BTreeMap<&str, BTreeSet<NodeId>> = BTreeMap::new();
        let replicas = self.topology.members.values().filter(|member| {
            member.role == Role::Replica && member.master.is_some_and(|id| self.owns_slots(id))
        });
        for replica in replicas {
            let report = |id| self.node(id).and_then(|node| node.report());
            let (Some(here), Some(there)) = (report(replica.id), replica.master.and_then(report))
            else {
                continue;
            };
            let (here, there) = (told(here), told(there));
            for (name, value) in &here {
                if there.get(name).is_some_and(|other| other != value) {
                    differing.entry(name).or_default().insert(replica.id);
                }
            }
        }
        if differing.is_empty() {
            return;
        }
        let what: Vec<String> = differing
            .iter()
            .map(|(name, replicas)| {
                let replicas: Vec<NodeId> = replicas.iter().copied().collect();
                format!("{name} on {}", self.names(&replicas))
            })
            .collect();
        let nodes: BTreeSet<NodeId> = differing.into_values().flatten().collect();
        let nodes: Vec<NodeId> = nodes.into_iter().collect();
        let message = format!(
            "replicas have other settings than their masters, so a failover changes what clients see: {} \
             (redis-trib drift shows the values)",
            what.join("; ")
        );
        self.add(Code::SettingsDiffer, message, &nodes, SlotSet::new());
    }

    fn owns_slots(&self, id: NodeId) -> bool {
        let member = self.topology.members.get(&id);
        member.is_some_and(|member| !member.slots.is_empty())
    }
}
