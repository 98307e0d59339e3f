//! Findings about nodes: failed, unreachable, unknown to some, and what nodes report of themselves.

use std::collections::BTreeMap;

use super::{Code, Judge, Stability, count};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::observation::{ObservedNode, Report, Seen};
use crate::cluster::parse::{EntryState, Version};
use crate::cluster::slot::SlotSet;
use crate::cluster::topology::{Bus, Member, PeerStatus};

impl Judge<'_> {
    /// The only node, if it owns no slot: a node that has just been started.
    pub(super) fn lone_node(&self) -> Option<NodeId> {
        let mut members = self.topology.members.values();
        let (member, None) = (members.next()?, members.next()) else {
            return None;
        };
        (member.slots.is_empty() && !member.peer_status.silent).then_some(member.id)
    }

    pub(super) fn in_no_cluster(&mut self, id: NodeId) {
        let message = format!(
            "{} is in no cluster: it knows no other node and owns no slots",
            self.name(id)
        );
        self.add(Code::SeedNotMember, message, &[id], SlotSet::new());
    }

    pub(super) fn bystanders(&mut self) {
        for bystander in &self.observation.bystanders {
            let message = format!(
                "{} ({}) was given as a node, but is in no cluster: it knows no other node and owns no slots",
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
        self.foreign();
        self.down();
        self.failing();
        self.silent();
        self.replaced();
        self.handshakes();
        self.without_address();
        self.reset();
        self.unknown_to_some();
        self.states();
        self.versions();
        self.epochs();
        self.restarts();
    }

    fn ids(&self, pick: impl Fn(&Member) -> bool) -> Vec<NodeId> {
        let members = self.topology.members.values();
        members.filter(|m| pick(m)).map(|m| m.id).collect()
    }

    /// Why a node did not answer, in the client's words.
    fn why_silent(&self, id: NodeId) -> Option<&str> {
        match &self.node(id)?.seen {
            Seen::Silent(why) => Some(why),
            Seen::Refused(refusal) => Some(&refusal.said),
            Seen::Loading => Some("it is loading its data set from disk"),
            Seen::Report(_) | Seen::OtherNode(_) | Seen::NoAddress => None,
        }
    }

    fn down(&mut self) {
        // One command lets all nodes that moved meet again.
        let mut has_rejoin = false;
        for member in self.topology.members.values() {
            let peer_status = member.peer_status;
            if !peer_status.is_down() {
                continue;
            }
            let (flagged, flag) = if peer_status.failed > 0 {
                (peer_status.failed, "fail")
            } else {
                (peer_status.failing, "fail?")
            };
            let here = if !peer_status.silent && peer_status.linked > 0 {
                // The other nodes keep the flag of a master that restarts for two node timeouts.
                "; it answers redis-trib: the flag passes if it has just restarted, else check its bus \
                 port and its links"
                    .to_string()
            } else if !peer_status.silent {
                "; it answers redis-trib: check its bus port and its links".to_string()
            } else {
                self.why_silent(member.id)
                    .map_or_else(String::new, |why| format!("; {why}"))
            };
            let message = format!(
                "{} {} is down: flagged `{flag}` by {flagged} of {}{here}",
                member.role.word(),
                self.name(member.id),
                count(peer_status.asked, "node", "nodes"),
            );
            let code = match member.slots.is_empty() {
                true => Code::SlotlessFailed,
                false => Code::NodeFailed,
            };
            self.add(code, message, &[member.id], member.slots.clone());
            if !peer_status.silent && peer_status.linked == 0 && !has_rejoin {
                let rejoin = self.rejoin_if_moved(member.id);
                has_rejoin = rejoin.is_some();
                self.remedy(rejoin);
            }
            // It can't return to an address that another node has.
            let node = self.node(member.id);
            if node.is_some_and(|node| matches!(node.seen, Seen::NoAddress)) {
                self.remedy(self.forget_if_useless(member.id));
            }
        }
    }

    fn failing(&mut self) {
        let mut failing_nodes = self.ids(|m| {
            let PeerStatus {
                failed, failing, ..
            } = m.peer_status;
            !m.peer_status.is_down() && failed + failing > 0
        });
        failing_nodes.retain(|id| !self.led_foreign_nodes_in(*id));
        for id in failing_nodes {
            let flagged_by: Vec<NodeId> = self
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
                "{} is flagged as failing by {} of {}: {}",
                self.name(id),
                flagged_by.len(),
                count(asked, "node", "nodes"),
                self.names(&flagged_by),
            );
            self.add(Code::NodeFailing, message, &[id], SlotSet::new());
        }
    }

    /// Nodes that don't answer redis-trib, by reason. Nodes that are down or in handshake have a finding
    /// of their own.
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
                format!(
                    "{names}: connected to the other nodes, but can't be reached from here: {why}"
                )
            } else {
                format!("{names} {verb} not answer: {why}")
            };
            self.add(code, message, &nodes, SlotSet::new());
            if code == Code::AddressUnreachable {
                self.remedy(self.map_addresses(&nodes));
            }
        }
    }

    /// Members at whose address another node answers.
    fn replaced(&mut self) {
        for node in self.observation.nodes.values() {
            let Seen::OtherNode(found) = node.seen else {
                continue;
            };
            let found_is = if self.observation.nodes.contains_key(&found) {
                "another member of the cluster"
            } else {
                "not a member of the cluster"
            };
            let message = format!(
                "node {} answers at the address of {}; it is {found_is}",
                found.short(),
                self.name(node.id),
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

    /// Nodes of another cluster that have become members of this one.
    fn foreign(&mut self) {
        for (lost, foreign) in self.foreign_nodes.clone() {
            let slots = foreign
                .iter()
                .filter_map(|id| self.topology.members.get(id))
                .fold(SlotSet::new(), |sum, member| sum.union(&member.slots));
            let nodes: Vec<NodeId> = foreign.into_iter().collect();
            let message = format!(
                "{} joined from another cluster through the former address of {}: their links to each \
                 other are older than their links to the rest",
                self.names(&nodes),
                self.name(lost),
            );
            self.add(Code::NodeForeign, message, &nodes, slots);
            self.remedy(self.evict_foreign(&nodes));
        }
    }

    /// Whether nodes of another cluster joined through the former address of this one.
    fn led_foreign_nodes_in(&self, id: NodeId) -> bool {
        self.foreign_nodes.contains_key(&id)
    }

    /// Whether a finding says that other nodes do not reach it.
    fn is_unlinked(&self, id: NodeId) -> bool {
        let mut findings = self.findings.iter();
        findings.any(|finding| finding.code == Code::OwnerUnlinked && finding.nodes.contains(&id))
    }

    fn handshakes(&mut self) {
        let handshake = self.ids(|m| m.peer_status.handshake > 0 && !m.peer_status.is_down());
        self.add_nodes(Code::NodeHandshake, &handshake, |names| {
            format!("in handshake, not joined (is the cluster bus port open?): {names}")
        });
    }

    fn without_address(&mut self) {
        let mut no_address = self.ids(|m| m.peer_status.no_address > 0 && !m.peer_status.is_down());
        no_address.retain(|id| !self.led_foreign_nodes_in(*id) && !self.is_unlinked(*id));
        self.add_nodes(Code::NodeNoAddress, &no_address, |names| {
            format!("known by id only, address unknown: {names}")
        });
        if let [only] = no_address[..] {
            self.remedy(self.forget_if_useless(only));
        }
    }

    /// Nodes that were reset by hand, or started without their `nodes.conf`: the others still list them.
    fn reset(&mut self) {
        for member in self.topology.members.values().filter(|m| m.is_reset) {
            let mut lost = SlotSet::new();
            for (_, report) in self.observation.reports() {
                if let Some(entry) = report.view.entry(member.id) {
                    lost.union_with(&entry.slots.iter().copied().collect());
                }
            }
            let claims = match lost.is_empty() {
                true => String::new(),
                false => format!(", with slots {}", lost.summary()),
            };
            let message = format!(
                "{} was reset, or lost its nodes.conf: it knows no other node and owns no slots, and {} of {} still \
                 list it{claims}",
                self.name(member.id),
                member.peer_status.known,
                count(member.peer_status.asked, "node", "nodes"),
            );
            self.add(Code::NodeReset, message, &[member.id], SlotSet::new());
            self.remedy(self.join_again(member.id, lost));
        }
    }

    fn unknown_to_some(&mut self) {
        let mut unknown = self.ids(|m| {
            let PeerStatus {
                known,
                asked,
                handshake,
                no_address,
                ..
            } = m.peer_status;
            known < asked && handshake == 0 && no_address == 0
        });
        unknown.retain(|id| !self.led_foreign_nodes_in(*id));
        for id in unknown {
            let without_it: Vec<NodeId> = self
                .observation
                .reports()
                .filter(|(node, report)| node.id != id && report.view.entry(id).is_none())
                .map(|(node, _)| node.id)
                .filter(|other| !self.is_reset(*other))
                .collect();
            let asked = self
                .topology
                .members
                .get(&id)
                .map_or(0, |m| m.peer_status.asked);
            let message = format!(
                "{} is unknown to {} of {}: {}",
                self.name(id),
                without_it.len(),
                count(asked, "node", "nodes"),
                self.names(&without_it),
            );
            self.add(Code::NodeForgotten, message, &[id], SlotSet::new());
            self.remedy(self.forget_if_useless(id));
            self.remedy_if_settling();
        }
    }

    /// The Raft bus (Valkey 10): nothing can be changed, and no replica takes over, without a leader that a majority of
    /// the voters follows. A node that has lost the majority goes on saying `cluster_state:ok`.
    fn raft(&mut self) {
        if self.topology.bus == Bus::Gossip {
            return;
        }
        let mut leaderless = Vec::new();
        let mut gossiping = Vec::new();
        for (node, report) in self.observation.reports() {
            match report.cluster.raft {
                Some(raft) if raft.leader.is_none() => leaderless.push(node.id),
                Some(_) => {}
                None => gossiping.push(node.id),
            }
        }
        self.add_nodes(Code::StateNotOk, &leaderless, |names| {
            format!(
                "without a Raft leader, whatever cluster_state says, so that nothing can be committed: {names}"
            )
        });
        self.add_nodes(Code::StateNotOk, &gossiping, |names| {
            format!("not on the Raft bus that the other nodes use (cluster-protocol): {names}")
        });
        let (up, all) = self.voters_up();
        if !self.has_quorum() {
            let down = self.topology.voters();
            let down: Vec<NodeId> = down
                .filter(|voter| voter.peer_status.is_lost())
                .map(|voter| voter.id)
                .collect();
            self.add_nodes(Code::StateNotOk, &down, |names| {
                format!(
                    "{up} of {all} Raft voters are up, which is no majority: nothing can be committed without {names}"
                )
            });
        }
    }

    fn states(&mut self) {
        self.raft();
        let reports = || self.observation.reports();
        // A node without a leader has its finding.
        let has_leader = |report: &Report| report.cluster.raft.is_none_or(|r| r.leader.is_some());
        let not_ok: Vec<NodeId> = reports()
            .filter(|(node, report)| !report.cluster.ok && !self.is_reset(node.id))
            .filter(|(_, report)| has_leader(report))
            .map(|(node, _)| node.id)
            .collect();
        let all = not_ok.len() == reports().count() && not_ok.len() > 1;
        let reported = count(not_ok.len(), "node reports", "nodes report");
        self.add_nodes(Code::StateNotOk, &not_ok, |names| {
            if all {
                format!("all {reported} cluster_state:fail")
            } else {
                format!("{reported} cluster_state:fail: {names}")
            }
        });
        // Without another cause it passes: a master that has just started or joined reports `fail` for
        // some seconds (protocol.md section 6).
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
            Seen::Silent(_) | Seen::Refused(_) | Seen::OtherNode(_) | Seen::NoAddress => false,
        };
        let nodes = self.observation.nodes.values();
        let owns_slots = |node: &ObservedNode| {
            let member = self.topology.members.get(&node.id);
            member.is_some_and(|member| !member.slots.is_empty())
        };
        let (owners, others): (Vec<_>, Vec<_>) = nodes
            .filter(|node| is_loading(node))
            .partition(|node| owns_slots(node));
        for (code, nodes) in [(Code::NodeLoading, owners), (Code::SlotlessLoading, others)] {
            let loading: Vec<NodeId> = nodes.into_iter().map(|node| node.id).collect();
            self.add_nodes(code, &loading, |names| {
                format!("loading the data set from disk: {names}")
            });
            if !loading.is_empty() {
                self.remedy(self.wait());
            }
        }
    }

    fn is_reset(&self, id: NodeId) -> bool {
        let member = self.topology.members.get(&id);
        member.is_some_and(|member| member.is_reset)
    }

    fn versions(&mut self) {
        let versions = self.observation.reports();
        let versions = versions.filter_map(|(_, report)| report.info.version);
        if let Some(list) = Version::differing(versions) {
            let message = format!("nodes run different versions: {list}");
            self.add(Code::VersionsMixed, message, &[], SlotSet::new());
        }
    }

    fn epochs(&mut self) {
        // Raft nodes agree on owners by their log; masters may share an epoch.
        if self.topology.bus == Bus::Raft {
            return;
        }
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

    /// A master that restarts empty before its replicas have elected another is still their master:
    /// they delete their data in the resync (Redis: "Replication", "Safety of replication when master
    /// has persistence turned off").
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
                "without persistence, but restarted automatically: a restart empties the replicas too: {names}"
            )
        });
    }
}
