//! States that normally pass by themselves: gossip that has not arrived, a node that does not serve yet, a link that was
//! lost a moment ago, an election that is due.

use std::time::Duration;

use super::{Code, Diagnosis, Finding};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::observation::ObservedNode;
use crate::cluster::parse::MasterLink;
use crate::cluster::slot::SlotSet;

/// Whether a finding normally passes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// It does not.
    No,
    /// It does, if it is young. For how long it has lasted, if the servers tell.
    Since(Option<Duration>),
}

impl Diagnosis {
    /// Whether a finding normally passes by itself.
    pub fn passing(&self, finding: &Finding) -> Passing {
        match finding.code {
            Code::ViewsDiffer
            | Code::SlotsContested
            | Code::StateNotOk
            | Code::NodeLoading
            | Code::SlotlessLoading
            // Its replica is elected once the others have flagged it; a node that restarts answers again before.
            | Code::NodeUnreachable => Passing::Since(None),
            // The others still have their links to it: it is busy, or was stopped a moment ago.
            Code::AddressUnreachable => self.passing_if(finding, |id| self.is_slow(id)),
            Code::SlotlessUnreachable => self.passing_if(finding, |id| !self.is_down(id)),
            // Gossip tells the others of a node that answers.
            Code::NodeForgotten => self.passing_if(finding, |id| self.answers(id)),
            Code::NodeFailed => match finding.nodes.iter().all(|id| self.has_live_replica(*id)) {
                true => Passing::Since(self.failed_since(&finding.nodes)),
                false => Passing::No,
            },
            Code::SlotsUncovered => self.uncovered(finding),
            Code::ReplicaLinkDown => self.link_down(finding),
            _ => Passing::No,
        }
    }

    fn passing_if(&self, finding: &Finding, passes: impl Fn(NodeId) -> bool) -> Passing {
        match finding.nodes.iter().all(|id| passes(*id)) {
            true => Passing::Since(None),
            false => Passing::No,
        }
    }

    fn answers(&self, id: NodeId) -> bool {
        let node = self.observation.nodes.get(&id);
        node.is_some_and(|node| node.report().is_some())
    }

    fn is_slow(&self, id: NodeId) -> bool {
        let node = self.observation.nodes.get(&id);
        node.is_some_and(ObservedNode::is_slow)
    }

    fn is_down(&self, id: NodeId) -> bool {
        let member = self.topology.members.get(&id);
        member.is_none_or(|member| member.peer_status.is_down())
    }

    /// Whether the servers can elect a replica of this master.
    fn has_live_replica(&self, master: NodeId) -> bool {
        let mut replicas = self.topology.replicas_of(master);
        replicas.any(|replica| self.answers(replica.id) && !replica.peer_status.is_down())
    }

    /// For how long masters have failed, as their replicas tell by their lost links.
    fn failed_since(&self, masters: &[NodeId]) -> Option<Duration> {
        let links = masters.iter().flat_map(|master| {
            let replicas = self.topology.replicas_of(*master);
            replicas.filter_map(|replica| self.link_down_for(replica.id))
        });
        links.max()
    }

    fn link_down_for(&self, replica: NodeId) -> Option<Duration> {
        match self
            .observation
            .nodes
            .get(&replica)?
            .report()?
            .info
            .master_link?
        {
            MasterLink::Down(since) => since.map(Duration::from_secs),
            MasterLink::Up | MasterLink::Syncing => None,
        }
    }

    /// Slots are served again once a replica of their failed master is elected.
    fn uncovered(&self, finding: &Finding) -> Passing {
        let mut covered = SlotSet::new();
        let mut masters = Vec::new();
        for master in self.topology.masters() {
            if master.peer_status.is_down() && self.has_live_replica(master.id) {
                covered.union_with(&master.slots);
                masters.push(master.id);
            }
        }
        match finding.slots.difference(&covered).is_empty() {
            true => Passing::Since(self.failed_since(&masters)),
            false => Passing::No,
        }
    }

    /// A link comes up again within seconds, or its master is flagged as failed.
    fn link_down(&self, finding: &Finding) -> Passing {
        let Some(replica) = finding.nodes.first().copied() else {
            return Passing::No;
        };
        let member = self.topology.members.get(&replica);
        let master = member
            .filter(|member| member.role == Role::Replica)
            .and_then(|member| member.master);
        match master.is_some_and(|master| self.topology.members.contains_key(&master)) {
            true => Passing::Since(self.link_down_for(replica)),
            false => Passing::No,
        }
    }
}
