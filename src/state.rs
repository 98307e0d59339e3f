//! The observed state of a cluster, its diagnosis, and the nodes to connect to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::anyhow;

use crate::cluster::health::{Background, Code, Diagnosis, Severity};
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::ObservedNode;
use crate::cluster::parse::{Direction, OpenSlot};
use crate::cluster::slot::SlotSet;
use crate::cluster::topology::Member;
use crate::connections::Target;
use crate::discover;
use crate::plan::SlotOwner;
use crate::report::Node;
use crate::session::ResumeFlags;
use crate::session::Session;
use crate::shell::command_line;
use crate::stop::Stop;

/// A node that takes part in a change of membership.
#[derive(Debug, Clone)]
pub struct Participant {
    /// Its id.
    pub id: NodeId,
    /// The address and login that we connect with.
    pub target: Target,
    /// The IP that other nodes connect to: CLUSTER MEET takes IP addresses only.
    pub ip: IpAddr,
    /// The port that other nodes connect to.
    pub port: u16,
    /// Its cluster bus port if that is not port + 10000 (Redis ≥ 4).
    pub bus_port: Option<u16>,
}

/// The nodes that take part in a change of membership, by id.
pub type Participants = BTreeMap<NodeId, Participant>;

/// A cluster as observed at one moment.
pub(crate) struct ClusterState {
    /// What was observed, and its findings.
    pub(crate) diagnosis: Diagnosis,
    /// The address and login of each node that has an address.
    pub(crate) reach: BTreeMap<NodeId, Target>,
    /// Options for command lines that resume.
    resume: ResumeFlags,
}

impl ClusterState {
    /// Observes all nodes.
    pub(crate) async fn look(session: &Session) -> Result<Self, Stop> {
        Self::look_from(session, &session.targets()).await
    }

    /// Observes all nodes, starting from these instead of the named ones.
    pub(crate) async fn look_from(session: &Session, seeds: &[Target]) -> Result<Self, Stop> {
        let found = discover::find(&session.connections, seeds).await?;
        let reach = found
            .observation
            .nodes
            .values()
            .filter_map(|node| Some((node.id, found.target_of(node)?)))
            .collect();
        let diagnosis = Diagnosis::of(found.observation, &Background::default());
        let resume = session.resume.clone();
        Ok(Self {
            diagnosis,
            reach,
            resume,
        })
    }

    /// Observes all nodes. A state that gossip may still change is observed again, for one second at most.
    pub(crate) async fn settled(session: &Session) -> Result<Self, Stop> {
        let mut looks = 0;
        loop {
            let cluster = Self::look(session).await?;
            looks += 1;
            if looks == 3 || !cluster.diagnosis.may_settle() {
                return Ok(cluster);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// `127.0.0.1:7000 (1977c4d4)`.
    pub(crate) fn name(&self, id: NodeId) -> String {
        self.diagnosis.observation.name(id)
    }

    /// The seed with the options that reach it, for command lines in messages.
    pub(crate) fn resume_seed(&self) -> String {
        let words = [&[self.seed()], &self.resume.reach[..]].concat();
        command_line(&words)
    }

    /// The options of a command line that resumes a move: how nodes are reached, and how slots move.
    pub(crate) fn resume_options(&self) -> impl Iterator<Item = String> {
        self.resume.reach.iter().chain(&self.resume.moving).cloned()
    }

    /// The address of the node that the cluster was found by.
    pub(crate) fn seed(&self) -> String {
        let lead = self.diagnosis.observation.lead();
        let addr = lead.and_then(|node| node.addr());
        addr.map_or_else(|| "NODE".to_string(), ToString::to_string)
    }

    /// The members that answer, as the other nodes address them, and the ids of those that do not answer.
    pub(crate) async fn participants(
        &self,
        session: &Session,
    ) -> Result<(Participants, BTreeSet<NodeId>), Stop> {
        let mut participants = Participants::new();
        let mut absent = BTreeSet::new();
        for node in self.diagnosis.observation.nodes.values() {
            match self.participant(session, node).await? {
                Some(participant) => drop(participants.insert(participant.id, participant)),
                None => drop(absent.insert(node.id)),
            }
        }
        Ok((participants, absent))
    }

    async fn participant(
        &self,
        session: &Session,
        node: &ObservedNode,
    ) -> Result<Option<Participant>, Stop> {
        let (Some(report), Some(target)) = (node.report(), self.reach.get(&node.id)) else {
            return Ok(None);
        };
        let myself = report.view.myself();
        let ip = match node.peer.as_ref().and_then(Addr::ip) {
            Some(ip) => Some(ip),
            // A node without peers may not know its own address.
            None => session.connections.client(target).await?.remote_ip(),
        };
        let Some(ip) = ip else {
            return Err(Stop::refused(anyhow!(
                "{node} has no IP address that other nodes can connect to: set cluster-announce-ip; \
                 nothing was changed"
            )));
        };
        let port = match &node.peer {
            Some(peer) => peer.port(),
            None if myself.port > 0 => myself.port,
            None => target.addr.port(),
        };
        Ok(Some(Participant {
            id: node.id,
            target: target.clone(),
            ip,
            port,
            bus_port: myself
                .bus_port
                .filter(|bus| Some(*bus) != port.checked_add(10_000)),
        }))
    }

    /// Open slots as masters report them, with the number of keys that their owners still have. The number falls while
    /// another operator moves the slot; clients create keys on the target only.
    pub(crate) fn in_transit(&self) -> Vec<(NodeId, OpenSlot, Option<u64>)> {
        open_at_masters(&self.diagnosis)
            .map(|(member, open)| {
                let node = self.diagnosis.observation.nodes.get(&member.id);
                let report = node.and_then(|node| node.report());
                let keys = match open.direction {
                    Direction::Migrating => {
                        report.and_then(|report| report.open_keys.get(&open.slot).copied())
                    }
                    Direction::Importing => None,
                };
                (member.id, open, keys)
            })
            .collect()
    }

    /// The open slots of each node, as source or as target.
    pub(crate) fn open_by_node(&self) -> BTreeMap<NodeId, SlotSet> {
        let mut open: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
        for (member, slot) in open_at_masters(&self.diagnosis) {
            open.entry(member.id).or_default().insert(slot.slot);
            open.entry(slot.peer).or_default().insert(slot.slot);
        }
        open
    }

    /// All masters with their slots.
    pub(crate) fn owners(&self) -> Vec<SlotOwner> {
        let owner = |member: &Member| SlotOwner {
            id: member.id,
            slots: member.slots.clone(),
        };
        self.diagnosis.topology.masters().map(owner).collect()
    }
}

/// Observes a cluster and refuses it unless slots can be moved on it.
pub(crate) async fn healthy(session: &Session) -> Result<ClusterState, Stop> {
    let cluster = ClusterState::settled(session).await?;
    let diagnosis = &cluster.diagnosis;
    let errors = errors(diagnosis, |_| true);
    if errors.is_empty() {
        return Ok(cluster);
    }
    let open = diagnosis.findings.iter().any(|f| f.code == Code::SlotsOpen);
    let hint = if open {
        "\nfinish the open slots first: the same command with --finish-open"
    } else {
        ""
    };
    Err(Stop::refused(anyhow!("{}{hint}", unhealthy(&errors))))
}

/// The errors among the findings whose code `counts`.
pub(crate) fn errors(diagnosis: &Diagnosis, counts: impl Fn(Code) -> bool) -> Vec<String> {
    let findings = diagnosis.findings.iter();
    findings
        .filter(|finding| finding.severity() == Severity::Error && counts(finding.code))
        .map(|finding| format!("{}: {}", finding.code, finding.message))
        .collect()
}

/// The refusal of a cluster with these errors.
pub(crate) fn unhealthy(errors: &[String]) -> String {
    format!(
        "the cluster is not healthy, and slots move between healthy nodes only:\n  {}",
        errors.join("\n  ")
    )
}

/// The id and address of a node, for views.
pub(crate) fn name(diagnosis: &Diagnosis, id: NodeId) -> Node {
    let node = diagnosis.observation.nodes.get(&id);
    let member = diagnosis.topology.members.get(&id);
    Node {
        id,
        addr: node
            .and_then(|node| node.addr().cloned())
            .unwrap_or_else(|| Addr::new("?", 0)),
        role: member.map_or(Role::Master, |member| member.role),
        zone: None,
    }
}

/// The open slots of masters. From Valkey 8 on, replicas repeat those of their master.
pub(crate) fn open_at_masters(diagnosis: &Diagnosis) -> impl Iterator<Item = (&Member, OpenSlot)> {
    let open = diagnosis.topology.open_slots();
    open.filter(|(member, _)| member.role == Role::Master)
}
