//! The cluster on which slots move.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::anyhow;

use crate::cluster::health::{Background, Code, Diagnosis, Severity};
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::ObservedNode;
use crate::cluster::topology::Member;
use crate::connections::Target;
use crate::discover;
use crate::plan::SlotOwner;
use crate::session::ResumeFlags;
use crate::session::Session;
use crate::stop::Stop;
use crate::ui::NodeName;

/// A node that a plan names.
#[derive(Debug, Clone)]
pub struct Participant {
    /// Its id.
    pub id: NodeId,
    /// Where we reach it.
    pub target: Target,
    /// Where the other nodes reach it. CLUSTER MEET takes IP addresses only.
    pub ip: IpAddr,
    /// Its port, for the other nodes.
    pub port: u16,
    /// Its bus port, where it is not port + 10000 (Redis ≥ 4).
    pub bus_port: Option<u16>,
}

/// The nodes that a plan names, by id.
pub type Participants = BTreeMap<NodeId, Participant>;

/// A cluster, judged, and how its nodes are reached.
pub(crate) struct ClusterState {
    /// What was seen of it.
    pub(crate) diagnosis: Diagnosis,
    /// How its nodes are reached.
    pub(crate) reach: BTreeMap<NodeId, Target>,
    /// Options for command lines that go on.
    resume: ResumeFlags,
}

impl ClusterState {
    /// Reads and judges all nodes.
    pub(crate) async fn look(session: &Session) -> Result<Self, Stop> {
        Self::look_from(session, &session.targets()).await
    }

    /// The same from other nodes than those that were named.
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

    /// The same, once what another command has just changed has come round, or a second has gone by.
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

    /// The seed and how it is reached, for command lines that go on.
    pub(crate) fn resume_seed(&self) -> String {
        [&[self.seed()], &self.resume.reach[..]].concat().join(" ")
    }

    /// The options of command lines that move slots on: they reach the nodes in the same way, and move as
    /// slots have moved so far.
    pub(crate) fn resume_options(&self) -> String {
        let options = self.resume.reach.iter().chain(&self.resume.moving);
        options.map(|option| format!(" {option}")).collect()
    }

    /// The seed.
    pub(crate) fn seed(&self) -> String {
        let lead = self.diagnosis.observation.lead();
        let addr = lead.and_then(|node| node.addr());
        addr.map_or_else(|| "NODE".to_string(), ToString::to_string)
    }

    /// Who the members that answer are for each other, and the ids of those that don't.
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
            // One that is alone, as a cluster of one, need not know its address.
            None => session.connections.client(target).await?.remote_ip(),
        };
        let Some(ip) = ip else {
            return Err(Stop::refused(anyhow!(
                "{node} has no IP address that other nodes could be told: set cluster-announce-ip; \
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

    /// All masters with what they own.
    pub(crate) fn owners(&self) -> Vec<SlotOwner> {
        let owner = |member: &Member| SlotOwner {
            id: member.id,
            slots: member.slots.clone(),
        };
        self.diagnosis.topology.masters().map(owner).collect()
    }
}

/// A cluster on which slots may be moved.
pub(crate) async fn healthy(session: &Session) -> Result<ClusterState, Stop> {
    let cluster = ClusterState::settled(session).await?;
    let diagnosis = &cluster.diagnosis;
    let errors = errors(diagnosis, |_| true);
    if errors.is_empty() {
        return Ok(cluster);
    }
    let open = diagnosis.findings.iter().any(|f| f.code == Code::SlotsOpen);
    let hint = if open {
        "\nfinish what was begun first: the same command with --finish-open"
    } else {
        ""
    };
    Err(Stop::refused(anyhow!("{}{hint}", unhealthy(&errors))))
}

/// What is wrong with it, as far as that counts.
pub(crate) fn errors(diagnosis: &Diagnosis, counts: impl Fn(Code) -> bool) -> Vec<String> {
    let findings = diagnosis.findings.iter();
    findings
        .filter(|finding| finding.severity() == Severity::Error && counts(finding.code))
        .map(|finding| format!("{}: {}", finding.code, finding.message))
        .collect()
}

/// Why nothing moves, for people.
pub(crate) fn unhealthy(errors: &[String]) -> String {
    format!(
        "the cluster is not healthy, and slots move between healthy nodes only:\n  {}",
        errors.join("\n  ")
    )
}

/// Who a node is, for what is shown.
pub(crate) fn name(diagnosis: &Diagnosis, id: NodeId) -> NodeName {
    let node = diagnosis.observation.nodes.get(&id);
    let member = diagnosis.topology.members.get(&id);
    NodeName {
        id,
        addr: node
            .and_then(|node| node.addr().cloned())
            .unwrap_or_else(|| Addr::new("?", 0)),
        role: member.map_or(Role::Master, |member| member.role),
        zone: None,
    }
}
