//! Members: down, doubted, silent, half known; and what they say of themselves.

use std::collections::BTreeMap;

use super::{Code, Judge, Stability, count};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::observation::{ObservedNode, Seen};
use crate::cluster::parse::{EntryState, Version};
use crate::cluster::slot::SlotSet;
use crate::cluster::topology::{Member, PeerStatus};

impl Judge<'_> {
    /// The only node there is, if it owns nothing: a node that has just been started.
    pub(super) fn loner(&self) -> Option<NodeId> {
        let mut members = self.topology.members.values();
        let (member, None) = (members.next()?, members.next()) else {
            return None;
        };
        (member.slots.is_empty() && !member.peer_status.silent).then_some(member.id)
    }

    pub(super) fn in_no_cluster(&mut self, loner: NodeId) {
        let message = format!(
            "{} is in no cluster: it knows no other node, and owns no slot",
            self.name(loner)
        );
        self.add(Code::SeedNotMember, message, &[loner], SlotSet::new());
    }

    pub(super) fn bystanders(&mut self) {
        for bystander in &self.observation.bystanders {
            let message = format!(
                "{} ({}) was named, but is in no cluster: it knows no other node, and owns no slot",
                bystander.dial,
                bystander.id.short()
            );
            self.add(
                Code::SeedNotMember,
                message,
                &[bystander.id],
                SlotSet::new(),
            );
        }
    }

    pub(super) fn members(&mut self) {
        self.intruders();
        self.down();
        self.doubted();
        self.silent();
        self.strangers();
        self.ghosts();
        self.forgotten();
        self.states();
        self.versions();
        self.epochs();
        self.restarts();
    }

    fn ids(&self, pick: impl Fn(&Member) -> bool) -> Vec<NodeId> {
        let members = self.topology.members.values();
        members.filter(|m| pick(m)).map(|m| m.id).collect()
    }

    /// What a silent node's silence is like, in the client's words.
    fn silence(&self, id: NodeId) -> Option<&str> {
        match &self.node(id)?.seen {
            Seen::Silent(why) => Some(why),
            Seen::Loading => Some("it is still reading its data from disk"),
            Seen::Report(_) | Seen::Stranger(_) | Seen::NoAddress => None,
        }
    }

    fn down(&mut self) {
        // All that moved meet by one command.
        let mut told_to_rejoin = false;
        for member in self.topology.members.values() {
            let peer_status = member.peer_status;
            if !peer_status.is_down() {
                continue;
            }
            let (doubts, word) = if peer_status.failed > 0 {
                (peer_status.failed, "fail")
            } else {
                (peer_status.failing, "fail?")
            };
            let for_us = if !peer_status.silent && peer_status.linked > 0 {
                // A master that comes back is held for dead for two node timeouts more.
                "; it answers us: where it has only just come back this passes, else look at its bus port \
                 and its links"
                    .to_string()
            } else if !peer_status.silent {
                "; it answers us, so look at its bus port and its links".to_string()
            } else {
                self.silence(member.id).map_or_else(String::new, |why| {
                    format!("; to us it does not answer: {why}")
                })
            };
            let message = format!(
                "{} {} is down: {doubts} of {} {} {word}{for_us}",
                member.role.word(),
                self.name(member.id),
                count(peer_status.asked, "member", "members"),
                if doubts == 1 { "says" } else { "say" },
            );
            let code = match member.slots.is_empty() {
                true => Code::SlotlessFailed,
                false => Code::NodeFailed,
            };
            self.add(code, message, &[member.id], member.slots.clone());
            if !peer_status.silent && peer_status.linked == 0 && !told_to_rejoin {
                let rejoin = self.rejoin_if_moved(member.id);
                told_to_rejoin = rejoin.is_some();
                self.remedy(rejoin);
            }
            // It can't come back to an address that another node has.
            let node = self.node(member.id);
            if node.is_some_and(|node| matches!(node.seen, Seen::NoAddress)) {
                self.remedy(self.forget_if_useless(member.id));
            }
        }
    }

    fn doubted(&mut self) {
        let mut doubted = self.ids(|m| {
            let PeerStatus {
                failed, failing, ..
            } = m.peer_status;
            !m.peer_status.is_down() && failed + failing > 0
        });
        doubted.retain(|id| !self.is_door(*id));
        for id in doubted {
            let doubters: Vec<NodeId> = self
                .observation
                .reports()
                .filter(|(node, _)| node.id != id)
                .filter(|(_, report)| {
                    let state = report.view.entry(id).map(|entry| entry.state);
                    matches!(state, Some(EntryState::Failing | EntryState::Failed))
                })
                .map(|(node, _)| node.id)
                .collect();
            let asked = self
                .topology
                .members
                .get(&id)
                .map_or(0, |m| m.peer_status.asked);
            let message = format!(
                "{} is not heard by {} of {}: {}",
                self.name(id),
                doubters.len(),
                count(asked, "member", "members"),
                self.names(&doubters),
            );
            self.add(Code::NodeFailing, message, &[id], SlotSet::new());
        }
    }

    /// Nodes that don't answer us, by why; those that are down, or that never joined, have been
    /// named for that.
    fn silent(&mut self) {
        let mut silent: BTreeMap<(Code, &str), Vec<NodeId>> = BTreeMap::new();
        for node in self.observation.nodes.values() {
            let Seen::Silent(why) = &node.seen else {
                continue;
            };
            let Some(member) = self.topology.members.get(&node.id) else {
                continue;
            };
            let peer_status = member.peer_status;
            if peer_status.is_down() || peer_status.handshake > 0 {
                continue;
            }
            let code = if peer_status.linked > 0 && peer_status.failed + peer_status.failing == 0 {
                Code::AddressUnreachable
            } else if member.slots.is_empty() {
                Code::SlotlessUnreachable
            } else {
                Code::NodeUnreachable
            };
            silent.entry((code, why)).or_default().push(node.id);
        }
        for ((code, why), nodes) in silent {
            let names = self.names(&nodes);
            let verb = if nodes.len() == 1 { "does" } else { "do" };
            let message = if code == Code::AddressUnreachable {
                format!("{names}: linked to the members, but can't be reached from here: {why}")
            } else {
                format!("{names} {verb} not answer: {why}")
            };
            self.add(code, message, &nodes, SlotSet::new());
            if code == Code::AddressUnreachable {
                self.remedy(self.map_addresses(&nodes));
            }
        }
    }

    fn strangers(&mut self) {
        for node in self.observation.nodes.values() {
            let Seen::Stranger(found) = node.seen else {
                continue;
            };
            let known = if self.observation.nodes.contains_key(&found) {
                "another member"
            } else {
                "a node of no or another cluster"
            };
            let message = format!(
                "at the address of {} now answers {known}, {}",
                self.name(node.id),
                found.short(),
            );
            self.add(
                Code::NodeForeign,
                message,
                &[node.id, found],
                SlotSet::new(),
            );
            self.remedy(self.forget_if_useless(node.id));
        }
    }

    /// Members of another cluster that are members of this one now.
    fn intruders(&mut self) {
        for (door, intruders) in self.intruders.clone() {
            let slots = intruders
                .iter()
                .filter_map(|id| self.topology.members.get(id))
                .fold(SlotSet::new(), |sum, member| sum.union(&member.slots));
            let nodes: Vec<NodeId> = intruders.into_iter().collect();
            let message = format!(
                "{} came in from another cluster, through the address that {} had: they knew each other \
                 before they knew the rest",
                self.names(&nodes),
                self.name(door),
            );
            self.add(Code::NodeForeign, message, &nodes, slots);
            self.remedy(self.evict_foreign(&nodes));
        }
    }

    /// Whether members of another cluster came in through the address that it had.
    fn is_door(&self, id: NodeId) -> bool {
        self.intruders.contains_key(&id)
    }

    fn ghosts(&mut self) {
        let handshake = self.ids(|m| m.peer_status.handshake > 0 && !m.peer_status.is_down());
        self.add_nodes(Code::NodeHandshake, &handshake, |names| {
            format!("met, but not joined (is the bus port open?): {names}")
        });
        let mut no_address = self.ids(|m| m.peer_status.no_address > 0 && !m.peer_status.is_down());
        no_address.retain(|id| !self.is_door(*id));
        self.add_nodes(Code::NodeNoAddress, &no_address, |names| {
            format!("known by id only, without an address: {names}")
        });
        if let [only] = no_address[..] {
            self.remedy(self.forget_if_useless(only));
        }
    }

    fn forgotten(&mut self) {
        let mut forgotten = self.ids(|m| {
            let PeerStatus {
                known,
                asked,
                handshake,
                no_address,
                ..
            } = m.peer_status;
            known < asked && handshake == 0 && no_address == 0
        });
        forgotten.retain(|id| !self.is_door(*id));
        for id in forgotten {
            let ignorant: Vec<NodeId> = self
                .observation
                .reports()
                .filter(|(node, report)| node.id != id && report.view.entry(id).is_none())
                .map(|(node, _)| node.id)
                .collect();
            let asked = self
                .topology
                .members
                .get(&id)
                .map_or(0, |m| m.peer_status.asked);
            let message = format!(
                "{} is unknown to {} of {}: {}",
                self.name(id),
                ignorant.len(),
                count(asked, "member", "members"),
                self.names(&ignorant),
            );
            self.add(Code::NodeForgotten, message, &[id], SlotSet::new());
            self.remedy(self.forget_if_useless(id));
            self.remedy_if_settling();
        }
    }

    fn states(&mut self) {
        let reports = || self.observation.reports();
        let not_ok: Vec<NodeId> = reports()
            .filter(|(_, report)| !report.cluster.ok)
            .map(|(node, _)| node.id)
            .collect();
        let all = not_ok.len() == reports().count() && not_ok.len() > 1;
        let said = count(not_ok.len(), "member says", "members say");
        self.add_nodes(Code::StateNotOk, &not_ok, |names| {
            if all {
                format!("all {said} cluster_state:fail")
            } else {
                format!("{said} cluster_state:fail: {names}")
            }
        });
        // Where nothing else keeps it from serving, it is waiting out its first seconds
        // (protocol.md section 6).
        let explained = |code| matches!(code, Code::SlotsUncovered | Code::NodeFailed);
        let is_explained = self.findings.iter().any(|finding| explained(finding.code));
        if !not_ok.is_empty() && !is_explained {
            self.remedy(self.wait());
        }
    }

    pub(super) fn loading(&mut self) {
        let is_loading = |node: &ObservedNode| match &node.seen {
            Seen::Report(report) => report.info.loading,
            Seen::Loading => true,
            Seen::Silent(_) | Seen::Stranger(_) | Seen::NoAddress => false,
        };
        let nodes = self.observation.nodes.values();
        let loading: Vec<NodeId> = nodes
            .filter(|node| is_loading(node))
            .map(|node| node.id)
            .collect();
        self.add_nodes(Code::NodeLoading, &loading, |names| {
            format!("still reading data from disk: {names}")
        });
        if !loading.is_empty() {
            self.remedy(self.wait());
        }
    }

    fn versions(&mut self) {
        let mut versions: BTreeMap<Version, usize> = BTreeMap::new();
        for (_, report) in self.observation.reports() {
            if let Some(version) = report.info.version {
                *versions.entry(version).or_default() += 1;
            }
        }
        if versions.len() > 1 {
            let list: Vec<String> = versions
                .iter()
                .map(|(version, nodes)| format!("{version} on {}", count(*nodes, "node", "nodes")))
                .collect();
            let message = format!("nodes of several versions: {}", list.join(", "));
            self.add(Code::VersionsMixed, message, &[], SlotSet::new());
        }
    }

    fn epochs(&mut self) {
        let mut epochs: BTreeMap<u64, Vec<NodeId>> = BTreeMap::new();
        for master in self.topology.masters().filter(|m| !m.slots.is_empty()) {
            epochs.entry(master.epoch).or_default().push(master.id);
        }
        for (epoch, masters) in epochs {
            if masters.len() == 1 {
                continue;
            }
            let message = format!(
                "{} masters share the config epoch {epoch}: {}",
                masters.len(),
                self.names(&masters)
            );
            self.add(Code::EpochCollision, message, &masters, SlotSet::new());
            self.remedy_if_settling();
            if self.stability == Stability::Stuck && self.topology.opinions.len() == 1 {
                self.remedy(self.fix());
            }
        }
    }

    /// A master that comes back empty before its replicas have voted is still their master: they
    /// throw their data away to be as empty as it is (Redis: "Replication", "Safety of replication
    /// when master has persistence turned off").
    fn restarts(&mut self) {
        let restarts: Vec<NodeId> = self
            .observation
            .reports()
            .filter(|(node, report)| {
                let member = self.topology.members.get(&node.id);
                let owns = member.is_some_and(|m| m.role == Role::Master && !m.slots.is_empty());
                let is_restarted = report.info.supervised || report.info.process_id == Some(1);
                let keeps_nothing = report.saves == Some(false) && !report.info.aof_enabled;
                owns && is_restarted && keeps_nothing
            })
            .filter(|(node, _)| self.topology.replicas_of(node.id).next().is_some())
            .map(|(node, _)| node.id)
            .collect();
        self.add_nodes(Code::RestartsEmpty, &restarts, |names| {
            format!(
                "without persistence, but restarted when they die: that empties their replicas too: {names}"
            )
        });
    }
}
