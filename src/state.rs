//! The observed state of a cluster, its diagnosis, and the nodes to connect to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::anyhow;

use crate::cluster::health::{Background, Code, Diagnosis, Severity};
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::ObservedNode;
use crate::cluster::parse::{Direction, OpenSlot, Product};
use crate::cluster::peer_addrs::{self, AddressFacts};
use crate::cluster::slot::SlotSet;
use crate::cluster::topology::Member;
use crate::connections::Target;
use crate::control::Control;
use crate::discover::{self, Found};
use crate::plan::SlotOwner;
use crate::report::{Node, RemedyOptions};
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
    /// Other IPs at which they may reach it, the best first.
    pub other_ips: Vec<IpAddr>,
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
    /// How slots move, as it was changed meanwhile.
    control: Control,
}

impl ClusterState {
    /// Observes all nodes.
    pub(crate) async fn look(session: &Session) -> Result<Self, Stop> {
        Self::look_from(session, &session.targets()).await
    }

    /// Observes all nodes, starting from these instead of the named ones.
    pub(crate) async fn look_from(session: &Session, seeds: &[Target]) -> Result<Self, Stop> {
        let found = discover::find(&session.connections, seeds).await?;
        Ok(Self::of(session, found, &Background::default()))
    }

    fn of(session: &Session, found: Found, background: &Background) -> Self {
        let reach = found
            .observation
            .nodes
            .values()
            .filter_map(|node| Some((node.id, found.target_of(node)?)))
            .collect();
        let diagnosis = Diagnosis::of(found.observation, background);
        let resume = session.resume.clone();
        Self {
            diagnosis,
            reach,
            resume,
            control: session.control.clone(),
        }
    }

    /// As [`Self::settled`]. A slot owner that another member does not reach is looked at again, for half a node
    /// timeout at most: a finding says so if it lasts.
    pub(crate) async fn settled_with_links(session: &Session) -> Result<Self, Stop> {
        let cluster = Self::settled(session).await?;
        if !discover::may_miss_owners(&cluster.diagnosis.observation) {
            return Ok(cluster);
        }
        let (connections, seeds) = (&session.connections, session.targets());
        let found = discover::find(connections, &seeds).await?;
        let Some((last, missing_links)) =
            discover::lasting_to_owners(connections, &seeds, &found).await?
        else {
            return Ok(Self::of(session, found, &Background::default()));
        };
        let background = Background {
            missing_links,
            ..Background::default()
        };
        Ok(Self::of(session, last, &background))
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

    /// The address and login of a node; `None` if no node knows its address.
    pub(crate) fn target_of(&self, node: &ObservedNode) -> Option<Target> {
        self.reach.get(&node.id).cloned()
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

    /// The options of the command alone, how slots move, and the consent.
    pub(crate) fn own_options(&self) -> impl Iterator<Item = String> {
        let ResumeFlags {
            moving,
            consent,
            own,
            ..
        } = &self.resume;
        let moving = self.control.options_now(moving);
        own.iter()
            .cloned()
            .chain(moving)
            .chain(consent.iter().cloned())
    }

    /// The options of a command line by which a node is reached that the line names by its address.
    pub(crate) fn reach_options(&self) -> Vec<String> {
        self.resume.reach_of_address()
    }

    /// The command line that sends `command` to the node at `addr`.
    pub(crate) fn redis_cli(&self, addr: &Addr, command: &str) -> String {
        self.resume.redis_cli(addr, command)
    }

    /// What the command line of a remedy repeats.
    pub(crate) fn remedy_options(&self) -> RemedyOptions {
        self.resume.remedy_options()
    }

    /// The option that a line needs in addition if it names a node of a named cluster by its address.
    pub(crate) fn settings_options(&self) -> Vec<String> {
        let cluster = self.resume.cluster.iter();
        cluster
            .flat_map(|cluster| ["--settings-of".to_string(), cluster.clone()])
            .collect()
    }

    /// The options of a command line that resumes a move: how nodes are reached, how slots move, and the consent.
    pub(crate) fn resume_options(&self) -> impl Iterator<Item = String> {
        let ResumeFlags {
            reach,
            moving,
            consent,
            ..
        } = &self.resume;
        let moving = self.control.options_now(moving);
        reach
            .iter()
            .cloned()
            .chain(moving)
            .chain(consent.iter().cloned())
    }

    /// What to say about a rate that is not among them.
    pub(crate) fn rate_left_out(&self) -> Option<String> {
        let option = self.control.rate_left_out()?;
        Some(format!(
            "the command below leaves out the rate that was set while tasks ran, because --rate moves slots key by key: \
             set it again with redis-trib throttle {option}"
        ))
    }

    /// The name of the cluster, or the address of the node that it was found by.
    pub(crate) fn seed(&self) -> String {
        if let Some(cluster) = &self.resume.cluster {
            return format!("@{cluster}");
        }
        let lead = self.diagnosis.observation.lead();
        let addr = lead.and_then(|node| node.addr());
        addr.map_or_else(|| "NODE".to_string(), ToString::to_string)
    }

    /// All members that answer.
    pub(crate) fn members(&self) -> Vec<Target> {
        let reports = self.diagnosis.observation.reports();
        reports
            .filter_map(|(node, _)| self.target_of(node))
            .collect()
    }

    /// All nodes whose addresses are known, with these addresses.
    pub(crate) fn nodes(&self) -> Vec<(&ObservedNode, Target)> {
        let nodes = self.diagnosis.observation.nodes.values();
        nodes
            .filter_map(|node| Some((node, self.target_of(node)?)))
            .collect()
    }

    /// The masters that answer.
    pub(crate) fn answering(&self) -> Vec<Target> {
        let masters = self.diagnosis.topology.masters();
        masters
            .filter(|master| !master.peer_status.silent)
            .filter_map(|master| self.reach.get(&master.id).cloned())
            .collect()
    }

    /// The members that answer, as the other nodes address them, and the ids of those that do not answer.
    pub(crate) async fn participants(
        &self,
        session: &Session,
    ) -> Result<(Participants, BTreeSet<NodeId>), Stop> {
        let nodes = self.diagnosis.observation.nodes.values();
        let (answering, absent): (Vec<_>, Vec<_>) =
            nodes.partition(|node| node.report().is_some() && self.reach.contains_key(&node.id));
        // Only Valkey tells clients other addresses than other nodes.
        let doubtful = answering.iter().filter(|node| {
            let version = node.report().and_then(|report| report.info.version);
            node.peer.as_ref().and_then(Addr::ip).is_none()
                || version.is_some_and(|version| version.product == Product::Valkey)
        });
        let targets =
            doubtful.filter_map(|node| Some((node.id, self.reach.get(&node.id)?.clone())));
        let targets: Vec<(NodeId, Target)> = targets.collect();
        let asked = session
            .connections
            .fan_out(targets, async |connections, (id, target)| {
                // A node that does not answer any more is reported where it is needed.
                (
                    id,
                    connections.address_facts(&target).await.unwrap_or_default(),
                )
            });
        let facts: BTreeMap<NodeId, AddressFacts> = asked.await.into_iter().collect();
        let mut participants = Participants::new();
        for node in answering {
            let facts = facts.get(&node.id).cloned().unwrap_or_default();
            participants.extend(self.participant(session, node, facts)?);
        }
        Ok((
            participants,
            absent.into_iter().map(|node| node.id).collect(),
        ))
    }

    fn participant(
        &self,
        session: &Session,
        node: &ObservedNode,
        mut facts: AddressFacts,
    ) -> Result<Option<(NodeId, Participant)>, Stop> {
        let (Some(report), Some(target)) = (node.report(), self.reach.get(&node.id)) else {
            return Ok(None);
        };
        facts.mapped = facts
            .mapped
            .or_else(|| session.connections.peer_of(&target.addr));
        let addrs = peer_addrs::of_member(&self.diagnosis.observation, node.id, &facts);
        let mut ips = Vec::new();
        for ip in addrs.iter().filter_map(Addr::ip) {
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        let Some(ip) = ips.first().copied() else {
            return Err(Stop::refused(anyhow!(
                "{node} has no IP address that other nodes can connect to: set cluster-announce-ip; \
                 nothing was changed"
            )));
        };
        let myself = report.view.myself();
        let port = match (facts.port, &node.peer) {
            (Some(port), _) => port,
            (None, Some(peer)) => peer.port(),
            (None, None) if myself.port > 0 => myself.port,
            (None, None) => target.addr.port(),
        };
        let participant = Participant {
            id: node.id,
            target: target.clone(),
            ip,
            other_ips: ips.split_off(1),
            port,
            bus_port: myself
                .bus_port
                .filter(|bus| Some(*bus) != port.checked_add(10_000)),
        };
        Ok(Some((node.id, participant)))
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
