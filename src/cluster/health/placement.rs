//! Hosts and zones: nodes that fail together.

use std::collections::{BTreeMap, BTreeSet};

use super::{Code, Judge};
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;

/// The host or zone of a node, if known.
type Place<'b> = dyn Fn(NodeId) -> Option<&'b str> + 'b;

impl<'a> Judge<'a> {
    pub(super) fn placement(&mut self, zones: &BTreeMap<NodeId, String>) {
        let nodes = &self.observation.nodes;
        let host = |id: NodeId| nodes.get(&id).and_then(|node| node.host());
        let zone = |id: NodeId| zones.get(&id).map(String::as_str);
        let hosts: Vec<&str> = nodes.values().filter_map(|node| node.host()).collect();
        let distinct: BTreeSet<&str> = hosts.iter().copied().collect();
        match distinct.first() {
            // Then all replicas and the quorum are there too.
            Some(only) if distinct.len() == 1 && hosts.len() > 1 => {
                let message = format!("all {} nodes run on one host, {only}", hosts.len());
                self.add(Code::OneHost, message, &[], SlotSet::new());
            }
            _ => {
                self.together(Code::ReplicaSameHost, "on the same host as", &host);
                self.quorum(Code::HostQuorum, "on host", &host);
            }
        }
        self.together(Code::ReplicaSameZone, "in the same zone as", &zone);
        self.quorum(Code::ZoneQuorum, "in zone", &zone);
    }

    fn together(&mut self, code: Code, place_words: &str, place: &Place<'_>) {
        let together: Vec<NodeId> = self
            .topology
            .members
            .values()
            .filter(|member| {
                let own = place(member.id);
                own.is_some() && own == member.master.and_then(place)
            })
            .map(|member| member.id)
            .collect();
        if together.is_empty() {
            return;
        }
        self.add_nodes(code, &together, |names| {
            format!("replicas {place_words} their master: {names}")
        });
        self.remedy(self.place(true));
    }

    /// No failover is possible without a place that holds more than half of the voters: a majority of the masters with
    /// slots elects a replica (Redis Cluster specification, "Replica election and promotion"); on the Raft bus, of the
    /// voters.
    fn quorum(&mut self, code: Code, place_words: &str, place: &Place<'_>) {
        let mut by_place: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
        let mut voters = 0;
        for voter in self.topology.voters() {
            voters += 1;
            if let Some(at) = place(voter.id) {
                by_place.entry(at).or_default().push(voter.id);
            }
        }
        let word = self.topology.bus.voters_word();
        for (at, there) in by_place {
            if there.len() * 2 > voters && voters > 1 {
                let message = format!(
                    "{} of {voters} {word} run {place_words} {at}: if it fails, no replica can be elected",
                    there.len()
                );
                self.add(code, message, &there, SlotSet::new());
                self.remedy(self.place(false));
            }
        }
    }
}
