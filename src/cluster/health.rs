//! What is wrong with a cluster: from an observation to findings.
//!
//! A finding is data: a code that scripts match on, the nodes and slots that it is about, a
//! sentence for people, and the command that helps. Errors are what keeps the cluster from serving
//! all of its data, or would lose some; warnings are what will hurt one day.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::node::{NodeId, Role};
use super::observation::{Observation, ObservedNode, Seen};
use super::parse::{Direction, EntryState, MasterLink, Version};
use super::slot::SlotSet;
use super::topology::{self, Member, Topology};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// `check` exits 1.
    Error,
    /// `check` exits 0, unless `--strict`.
    Warning,
}

impl Severity {
    /// The word that JSON uses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $severity:ident $word:literal,)*) => {
        /// What a finding is about. The words are a contract with scripts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word that output uses.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// How bad it is.
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    /// Slots that no master serves.
    SlotsUncovered = Error "slots-uncovered",
    /// Slots that several masters claim.
    SlotsContested = Error "slots-multiple-owners",
    /// Slots that are migrating or importing.
    SlotsOpen = Error "slots-open",
    /// Members that see other owners than the rest.
    ViewsDiffer = Error "views-differ",
    /// Nodes that a majority of the members holds for dead.
    NodeFailed = Error "node-failed",
    /// Nodes that some member can't hear.
    NodeFailing = Warning "node-failing",
    /// Nodes that don't answer us.
    NodeUnreachable = Error "node-unreachable",
    /// Nodes that the members reach, and we don't.
    AddressUnreachable = Error "announced-address-unreachable",
    /// Addresses of members at which other nodes answer.
    NodeForeign = Error "foreign-node",
    /// Nodes that were met and never got to know the others.
    NodeHandshake = Warning "node-handshake",
    /// Nodes that are known by id only.
    NodeNoAddress = Warning "node-noaddr",
    /// Nodes that some members know and others don't.
    NodeForgotten = Error "node-unknown-to-some",
    /// Named nodes that are in no cluster.
    SeedNotMember = Error "seed-not-member",
    /// Nodes that say `cluster_state:fail`.
    StateNotOk = Error "cluster-state-not-ok",
    /// Nodes that are reading their data from disk, and don't serve yet.
    NodeLoading = Error "node-loading",
    /// Masters that did not take a key (`--probe-write`), or not give it back.
    ProbeFailed = Error "probe-write-failed",
    /// Replicas that have lost their master.
    ReplicaLinkDown = Error "replica-link-down",
    /// Replicas that receive a whole copy.
    ReplicaSyncing = Warning "replica-syncing",
    /// Replicas that follow a replica.
    ReplicaOfReplica = Warning "replica-of-replica",
    /// Replicas that follow nobody that is known.
    ReplicaOrphan = Error "replica-without-master",
    /// Masters with slots and without a replica.
    MasterAlone = Warning "master-without-replicas",
    /// Some masters have at least two replicas more than others.
    ReplicasUneven = Warning "uneven-replicas",
    /// All nodes stand on one host.
    OneHost = Warning "single-host",
    /// Replicas on the host of their master.
    ReplicaSameHost = Warning "replica-on-masters-host",
    /// Replicas in the zone of their master.
    ReplicaSameZone = Warning "replica-in-masters-zone",
    /// A host that takes the majority of masters with it when it dies.
    HostQuorum = Warning "host-holds-quorum",
    /// A zone that takes the majority of masters with it when it dies.
    ZoneQuorum = Warning "zone-holds-quorum",
    /// Masters that share a configuration epoch.
    EpochCollision = Warning "epoch-collision",
    /// Nodes of several versions.
    VersionsMixed = Warning "mixed-versions",
    /// Masters that keep nothing on disk and are started anew when they die.
    RestartsEmpty = Warning "restarts-empty",
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub code: Code,
    /// One sentence for people, which names nodes by address and short id.
    pub message: String,
    /// The nodes it is about.
    pub nodes: Vec<NodeId>,
    /// The slots it is about.
    pub slots: SlotSet,
    /// A command that helps, where one does.
    pub remedy: Option<String>,
}

impl Finding {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

/// `replica-link-down`.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What one look can't tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stability {
    /// Looked once.
    #[default]
    Unknown,
    /// Two looks saw different things: the cluster is on its way.
    Settling,
    /// Two looks saw the same disagreement.
    Stuck,
}

/// What is known besides the observation.
#[derive(Debug, Clone, Default)]
pub struct Background {
    /// Whether what members disagree about changes between two looks.
    pub stability: Stability,
    /// The zone of each node, where it is known.
    pub zones: BTreeMap<NodeId, String>,
}

/// A cluster, judged.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    /// What was seen.
    pub observation: Observation,
    /// The one picture that was made of it.
    pub topology: Topology,
    /// All that is wrong, errors first.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Judges what was seen.
    pub fn of(observation: Observation, background: &Background) -> Self {
        let topology = Topology::of(&observation);
        let findings = judge(&observation, &topology, background);
        Self {
            observation,
            topology,
            findings,
        }
    }

    /// Whether it is healthy: no errors; warnings are allowed.
    pub fn is_healthy(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.severity() == Severity::Warning)
    }

    /// Adds that a master did not take a key, or not give it back.
    pub fn probe_failed(&mut self, id: NodeId, why: &str) {
        self.findings.push(Finding {
            code: Code::ProbeFailed,
            message: format!("{} does not take writes: {why}", self.observation.name(id)),
            nodes: vec![id],
            slots: SlotSet::new(),
            remedy: None,
        });
        self.findings
            .sort_by_key(|finding| (finding.severity(), finding.code));
    }

    /// How many slots a master that is not down serves, 0 to 16384.
    pub fn slots_covered(&self) -> usize {
        self.topology.served().count()
    }

    /// Whether a second look may see less: findings that a cluster on its way heals by itself.
    pub fn may_settle(&self) -> bool {
        self.findings.iter().any(|finding| {
            matches!(
                finding.code,
                Code::ViewsDiffer
                    | Code::SlotsContested
                    | Code::NodeForgotten
                    | Code::EpochCollision
            )
        })
    }
}

fn judge(observation: &Observation, topology: &Topology, background: &Background) -> Vec<Finding> {
    let mut judge = Judge {
        observation,
        topology,
        seed: observation
            .lead()
            .and_then(ObservedNode::addr)
            .map(ToString::to_string)
            .unwrap_or_default(),
        findings: Vec::new(),
    };
    judge.slots();
    judge.views(background.stability);
    judge.nodes();
    judge.replication();
    judge.placement(&background.zones);
    judge.masters();
    let mut findings = judge.findings;
    findings.sort_by_key(|finding| (finding.severity(), finding.code));
    findings
}

struct Judge<'a> {
    observation: &'a Observation,
    topology: &'a Topology,
    seed: String,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    fn add(&mut self, code: Code, message: String, nodes: &[NodeId], slots: SlotSet) {
        self.findings.push(Finding {
            code,
            message,
            nodes: nodes.to_vec(),
            slots,
            remedy: None,
        });
    }

    /// One finding about all of `nodes`, if there are any; `tell` gets them as text.
    fn add_nodes(&mut self, code: Code, nodes: &[NodeId], tell: impl FnOnce(String) -> String) {
        if !nodes.is_empty() {
            let message = tell(self.names(nodes));
            self.add(code, message, nodes, SlotSet::new());
        }
    }

    fn remedy(&mut self, remedy: String) {
        if let Some(finding) = self.findings.last_mut() {
            finding.remedy = Some(remedy);
        }
    }

    /// Up to four nodes by name, then how many more.
    fn names(&self, nodes: &[NodeId]) -> String {
        const SHOWN: usize = 4;
        let mut names: Vec<String> = nodes
            .iter()
            .take(SHOWN)
            .map(|id| self.observation.name(*id))
            .collect();
        if nodes.len() > SHOWN {
            names.push(format!("and {} more", nodes.len() - SHOWN));
        }
        names.join(", ")
    }

    fn slots(&mut self) {
        let claimed = self
            .topology
            .masters()
            .fold(SlotSet::new(), |sum, member| sum.union(&member.slots));
        let unassigned = SlotSet::full().difference(&claimed);
        if !unassigned.is_empty() {
            let message = format!(
                "{} no owner: {}",
                have(unassigned.count(), "slot"),
                shown(&unassigned)
            );
            self.add(Code::SlotsUncovered, message, &[], unassigned);
        }
        let served = self.topology.served();
        for member in self.topology.masters() {
            let lost = member.slots.difference(&served);
            if member.standing.is_down() && !lost.is_empty() {
                let message = format!(
                    "{} served: their master {} is down: {}",
                    are_not(lost.count(), "slot"),
                    self.observation.name(member.id),
                    shown(&lost),
                );
                self.add(Code::SlotsUncovered, message, &[member.id], lost);
                if let Some(replica) = self
                    .topology
                    .replicas_of(member.id)
                    .find(|replica| !replica.standing.is_down())
                    .and_then(|replica| self.observation.nodes.get(&replica.id)?.dial.as_ref())
                {
                    let (host, port) = (replica.host(), replica.port());
                    self.remedy(format!(
                        "redis-cli -h {host} -p {port} CLUSTER FAILOVER FORCE"
                    ));
                }
            }
        }
        for (claimants, slots) in self.topology.contested() {
            let message = format!(
                "{} claimed by several masters: {} by {}",
                are(slots.count(), "slot"),
                shown(&slots),
                self.names(&claimants),
            );
            self.add(Code::SlotsContested, message, &claimants, slots);
        }
        self.open_slots();
    }

    fn open_slots(&mut self) {
        let mut by_way: BTreeMap<(NodeId, Direction, NodeId), SlotSet> = BTreeMap::new();
        for (member, open) in self.topology.open_slots() {
            by_way
                .entry((member.id, open.direction, open.peer))
                .or_default()
                .insert(open.slot);
        }
        for ((id, direction, peer), slots) in by_way {
            let towards = match direction {
                Direction::Migrating => "to",
                Direction::Importing => "from",
            };
            let keys: u64 = self.keys_in(id, &slots);
            let peer_keys: u64 = self.keys_in(peer, &slots);
            let message = format!(
                "{} {} {} on {} ({}) {towards} {} ({})",
                are(slots.count(), "slot"),
                shown(&slots),
                direction.word(),
                self.observation.name(id),
                plural(keys, "key"),
                self.observation.name(peer),
                plural(peer_keys, "key"),
            );
            self.add(Code::SlotsOpen, message, &[id, peer], slots);
        }
    }

    fn keys_in(&self, id: NodeId, slots: &SlotSet) -> u64 {
        let report = self
            .observation
            .nodes
            .get(&id)
            .and_then(|node| node.report());
        report.map_or(0, |report| {
            slots
                .iter()
                .filter_map(|slot| report.open_keys.get(&slot))
                .sum()
        })
    }

    fn views(&mut self, stability: Stability) {
        let opinions = &self.topology.opinions;
        let Some((most, others)) = opinions.split_first() else {
            return;
        };
        for other in others {
            let mut slots = SlotSet::new();
            let mut parts = Vec::new();
            for ((theirs, ours), differing) in topology::difference(other, most) {
                let owner = |id: Option<NodeId>| match id {
                    Some(id) => self.observation.name(id),
                    None => "nobody".to_string(),
                };
                parts.push(format!(
                    "{} at {} instead of {}",
                    shown(&differing),
                    owner(theirs),
                    owner(ours)
                ));
                slots = slots.union(&differing);
            }
            let more = parts.len().saturating_sub(4);
            parts.truncate(4);
            if more > 0 {
                parts.push(format!("and {more} differences more"));
            }
            let settling = match stability {
                Stability::Unknown => "",
                Stability::Settling => " (still changing)",
                Stability::Stuck => " (not changing by itself)",
            };
            let message = format!(
                "{} of {} members see other owners than the rest{settling}: {} {}: {}",
                other.held_by.len(),
                opinions.iter().map(|o| o.held_by.len()).sum::<usize>(),
                self.names(&other.held_by),
                if other.held_by.len() == 1 {
                    "sees"
                } else {
                    "see"
                },
                parts.join("; "),
            );
            self.add(Code::ViewsDiffer, message, &other.held_by, slots);
            if stability == Stability::Settling {
                self.remedy(format!("redis-trib check {} --wait 60s", self.seed));
            }
        }
    }

    fn nodes(&mut self) {
        let members = &self.topology.members;
        let ids = |pick: &dyn Fn(&Member) -> bool| -> Vec<NodeId> {
            members.values().filter(|m| pick(m)).map(|m| m.id).collect()
        };
        let answers = |id: NodeId| {
            self.observation
                .nodes
                .get(&id)
                .is_some_and(|node| node.report().is_some())
        };
        let ghost = |m: &Member| m.standing.handshake > 0 || m.standing.no_address > 0;
        let failed = ids(&|m| m.standing.is_down());
        let failing = ids(&|m| {
            !m.standing.is_down() && m.standing.failed + m.standing.failing > 0 && !ghost(m)
        });
        let handshake = ids(&|m| m.standing.handshake > 0 && !m.standing.is_down());
        let no_address = ids(&|m| m.standing.no_address > 0 && !m.standing.is_down());
        let forgotten = ids(&|m| m.standing.known < m.standing.asked && m.standing.handshake == 0);
        let not_ok: Vec<NodeId> = self
            .observation
            .reports()
            .filter(|(_, report)| !report.cluster.ok)
            .map(|(node, _)| node.id)
            .collect();
        let loading: Vec<NodeId> = self
            .observation
            .reports()
            .filter(|(_, report)| report.info.loading)
            .map(|(node, _)| node.id)
            .collect();
        let silent: Vec<(NodeId, String)> = self
            .observation
            .nodes
            .values()
            .filter_map(|node| match &node.seen {
                Seen::Silent(why) => Some((node.id, why.clone())),
                _ => None,
            })
            .filter(|(id, _)| !handshake.contains(id))
            .collect();
        let strangers: Vec<(NodeId, NodeId)> = self
            .observation
            .nodes
            .values()
            .filter_map(|node| match node.seen {
                Seen::Stranger(found) => Some((node.id, found)),
                _ => None,
            })
            .collect();

        let asked = members.values().map(|m| m.standing.asked).max();
        for id in failed {
            let role = members.get(&id).map_or("node", |m| m.role.word());
            let slots = members
                .get(&id)
                .map(|m| m.slots.clone())
                .unwrap_or_default();
            let reached = if answers(id) {
                "; it answers us, so look at its bus port and links"
            } else {
                ""
            };
            let message = format!(
                "{role} {} is down: {} of {} members say fail{reached}",
                self.observation.name(id),
                members.get(&id).map_or(0, |m| m.standing.failed),
                members.get(&id).map_or(0, |m| m.standing.asked),
            );
            self.add(Code::NodeFailed, message, &[id], slots);
        }
        for id in failing {
            let Some(m) = members.get(&id) else { continue };
            let doubters = self.members_that(id, |state| {
                matches!(state, EntryState::Failing | EntryState::Failed)
            });
            let message = format!(
                "{} can't be heard by {} of {} members: {}",
                self.observation.name(id),
                m.standing.failed + m.standing.failing,
                m.standing.asked,
                self.names(&doubters),
            );
            self.add(Code::NodeFailing, message, &[id], SlotSet::new());
        }
        for (id, why) in silent {
            let standing = members.get(&id).map(|m| m.standing).unwrap_or_default();
            if standing.linked > 0 && standing.failed + standing.failing == 0 {
                let message = format!(
                    "{} is linked to {} of {} members, but can't be reached from here: {why}",
                    self.observation.name(id),
                    standing.linked,
                    standing.asked,
                );
                self.add(Code::AddressUnreachable, message, &[id], SlotSet::new());
                if let Some(addr) = self.observation.nodes.get(&id).and_then(|n| n.peer.clone()) {
                    self.remedy(format!(
                        "redis-trib check {} --address-map {addr}=ADDRESS-REACHABLE-FROM-HERE",
                        self.seed
                    ));
                }
            } else {
                let message = format!("{} does not answer: {why}", self.observation.name(id));
                self.add(Code::NodeUnreachable, message, &[id], SlotSet::new());
            }
        }
        for (id, found) in strangers {
            let message = format!(
                "at the address of {} another node answers, {}: the address was given to another cluster or a new node",
                self.observation.name(id),
                found.short(),
            );
            self.add(Code::NodeForeign, message, &[id, found], SlotSet::new());
        }
        for bystander in &self.observation.bystanders {
            let message = format!(
                "{} ({}) was named, but belongs to no cluster",
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
        self.add_nodes(Code::NodeHandshake, &handshake, |names| {
            format!("met, but never joined: {names}")
        });
        self.add_nodes(Code::NodeNoAddress, &no_address, |names| {
            format!("known by id only, without an address: {names}")
        });
        for id in forgotten {
            let ignorant: Vec<NodeId> = self
                .observation
                .reports()
                .filter(|(node, report)| node.id != id && report.view.entry(id).is_none())
                .map(|(node, _)| node.id)
                .collect();
            let message = format!(
                "{} is known to {} of {} members; not to {}",
                self.observation.name(id),
                members.get(&id).map_or(0, |m| m.standing.known),
                members.get(&id).map_or(0, |m| m.standing.asked),
                self.names(&ignorant),
            );
            self.add(Code::NodeForgotten, message, &[id], SlotSet::new());
        }
        if !not_ok.is_empty() {
            let message = if Some(not_ok.len()) == asked.map(|n| n + 1) {
                format!("all {} members say cluster_state:fail", not_ok.len())
            } else {
                format!("cluster_state is not ok on {}", self.names(&not_ok))
            };
            self.add(Code::StateNotOk, message, &not_ok, SlotSet::new());
            self.remedy(format!("redis-trib check {} --wait 60s", self.seed));
        }
        self.add_nodes(Code::NodeLoading, &loading, |names| {
            format!("reading their data from disk: {names}")
        });
    }

    fn members_that(&self, id: NodeId, say: impl Fn(EntryState) -> bool) -> Vec<NodeId> {
        self.observation
            .reports()
            .filter(|(node, _)| node.id != id)
            .filter(|(_, report)| report.view.entry(id).is_some_and(|e| say(e.state)))
            .map(|(node, _)| node.id)
            .collect()
    }

    fn replication(&mut self) {
        let mut down = Vec::new();
        let mut syncing = Vec::new();
        let mut of_replica = Vec::new();
        let mut orphans = Vec::new();
        for member in self.topology.members.values() {
            if member.role != Role::Replica || member.standing.is_down() {
                continue;
            }
            match member.master.and_then(|id| self.topology.members.get(&id)) {
                None => orphans.push(member.id),
                Some(master) if master.role == Role::Replica => of_replica.push(member.id),
                Some(_) => {}
            }
            let report = self
                .observation
                .nodes
                .get(&member.id)
                .and_then(|n| n.report());
            match report.and_then(|report| report.info.master_link) {
                Some(MasterLink::Down(since)) => down.push((member, since)),
                Some(MasterLink::Syncing) => syncing.push(member.id),
                Some(MasterLink::Up) | None => {}
            }
        }
        for (member, since) in down {
            let master = member.master.map_or_else(
                || "its master".to_string(),
                |id| format!("its master {}", self.observation.name(id)),
            );
            let since = since.map_or_else(String::new, |s| format!(" for {s} s"));
            let message = format!(
                "replica {} has had no link to {master}{since}",
                self.observation.name(member.id)
            );
            self.add(Code::ReplicaLinkDown, message, &[member.id], SlotSet::new());
        }
        self.add_nodes(Code::ReplicaSyncing, &syncing, |names| {
            format!("receiving a first copy from their masters: {names}")
        });
        self.add_nodes(Code::ReplicaOfReplica, &of_replica, |names| {
            format!("replicas that follow a replica, and can't take over: {names}")
        });
        self.add_nodes(Code::ReplicaOrphan, &orphans, |names| {
            format!("replicas that follow nobody that is known: {names}")
        });

        let owners: Vec<(NodeId, usize)> = self
            .topology
            .masters()
            .filter(|master| !master.slots.is_empty() && !master.standing.is_down())
            .map(|master| {
                let alive = self
                    .topology
                    .replicas_of(master.id)
                    .filter(|r| !r.standing.is_down());
                (master.id, alive.count())
            })
            .collect();
        let alone: Vec<NodeId> = owners
            .iter()
            .filter(|(_, n)| *n == 0)
            .map(|(id, _)| *id)
            .collect();
        let most = owners.iter().map(|(_, n)| *n).max().unwrap_or(0);
        if alone.len() == owners.len() && owners.len() > 1 {
            let message = format!("none of the {} masters has a replica", owners.len());
            self.add(Code::MasterAlone, message, &alone, SlotSet::new());
        } else {
            self.add_nodes(Code::MasterAlone, &alone, |names| {
                format!("masters without a replica that is up: {names}")
            });
        }
        let fewest = owners
            .iter()
            .map(|(_, n)| *n)
            .filter(|n| *n > 0)
            .min()
            .unwrap_or(0);
        if most > fewest + 1 && fewest > 0 {
            let richest: Vec<NodeId> = owners
                .iter()
                .filter(|(_, n)| *n == most)
                .map(|(id, _)| *id)
                .collect();
            self.add_nodes(Code::ReplicasUneven, &richest, |names| {
                format!("replicas are uneven: {most} at {names}, {fewest} elsewhere")
            });
        }
    }

    fn placement(&mut self, zones: &BTreeMap<NodeId, String>) {
        let nodes = &self.observation.nodes;
        let host = |id: NodeId| nodes.get(&id).and_then(|node| node.host());
        let zone = |id: NodeId| zones.get(&id).map(String::as_str);
        let hosts: BTreeSet<&str> = nodes.values().filter_map(|node| node.host()).collect();
        match hosts.first() {
            Some(only) if hosts.len() == 1 && nodes.len() > 1 => {
                let message = format!("all {} nodes stand on one host, {only}", nodes.len());
                self.add(Code::OneHost, message, &[], SlotSet::new());
            }
            _ => {
                self.together(Code::ReplicaSameHost, "host", &host);
                self.quorum(Code::HostQuorum, "host", &host);
            }
        }
        self.together(Code::ReplicaSameZone, "zone", &zone);
        self.quorum(Code::ZoneQuorum, "zone", &zone);
    }

    fn together<'b>(&mut self, code: Code, what: &str, place: &dyn Fn(NodeId) -> Option<&'b str>) {
        let beside: Vec<NodeId> = self
            .topology
            .members
            .values()
            .filter(|member| {
                let own = place(member.id);
                own.is_some() && own == member.master.and_then(place)
            })
            .map(|member| member.id)
            .collect();
        self.add_nodes(code, &beside, |names| {
            format!("replicas that share the {what} of their master: {names}")
        });
    }

    /// A place that holds more than half of the masters takes failover with it (the cluster
    /// specification wants votes from a majority of masters with slots).
    fn quorum<'b>(&mut self, code: Code, what: &str, place: &dyn Fn(NodeId) -> Option<&'b str>) {
        let mut by_place: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
        let mut voters = 0;
        for master in self.topology.masters().filter(|m| !m.slots.is_empty()) {
            voters += 1;
            if let Some(at) = place(master.id) {
                by_place.entry(at).or_default().push(master.id);
            }
        }
        for (at, masters) in by_place {
            if masters.len() * 2 > voters && voters > 1 {
                let message = format!(
                    "{} of {voters} masters stand in {what} {at}: without it no failover can be voted",
                    masters.len()
                );
                self.add(code, message, &masters, SlotSet::new());
            }
        }
    }

    fn masters(&mut self) {
        let mut epochs: BTreeMap<u64, Vec<NodeId>> = BTreeMap::new();
        for master in self.topology.masters().filter(|m| !m.slots.is_empty()) {
            epochs.entry(master.epoch).or_default().push(master.id);
        }
        for (epoch, masters) in epochs {
            if masters.len() > 1 {
                let message = format!(
                    "{} masters share the config epoch {epoch}: {}",
                    masters.len(),
                    self.names(&masters)
                );
                self.add(Code::EpochCollision, message, &masters, SlotSet::new());
            }
        }
        let mut versions: BTreeMap<Version, usize> = BTreeMap::new();
        let mut empty_restarts = Vec::new();
        for (node, report) in self.observation.reports() {
            if let Some(version) = report.info.version {
                *versions.entry(version).or_default() += 1;
            }
            // A master that comes back empty before its replicas have voted is still their master:
            // they throw their data away to be as empty as it is.
            let is_owner = self.topology.members.get(&node.id).is_some_and(|member| {
                member.role == Role::Master
                    && !member.slots.is_empty()
                    && self.topology.replicas_of(member.id).next().is_some()
            });
            let restarts = report.info.supervised || report.info.process_id == Some(1);
            if is_owner && restarts && report.saves == Some(false) && !report.info.aof_enabled {
                empty_restarts.push(node.id);
            }
        }
        if versions.len() > 1 {
            let list: Vec<String> = versions
                .iter()
                .map(|(version, count)| format!("{version} on {}", plural(*count as u64, "node")))
                .collect();
            let message = format!("nodes of several versions: {}", list.join(", "));
            self.add(Code::VersionsMixed, message, &[], SlotSet::new());
        }
        self.add_nodes(Code::RestartsEmpty, &empty_restarts, |names| {
            format!(
                "keep nothing on disk and are started anew when they die, which would empty their replicas: {names}"
            )
        });
    }
}

/// Slots as ranges, shortened after the eighth.
fn shown(slots: &SlotSet) -> String {
    const SHOWN: usize = 8;
    let ranges = slots.ranges();
    let mut text: Vec<String> = ranges.iter().take(SHOWN).map(ToString::to_string).collect();
    if ranges.len() > SHOWN {
        text.push(format!("… {} ranges more", ranges.len() - SHOWN));
    }
    text.join(",")
}

fn plural(count: u64, thing: &str) -> String {
    if count == 1 {
        format!("1 {thing}")
    } else {
        format!("{count} {thing}s")
    }
}

fn have(count: usize, thing: &str) -> String {
    let verb = if count == 1 { "has" } else { "have" };
    format!("{} {verb}", plural(count as u64, thing))
}

fn are(count: usize, thing: &str) -> String {
    let verb = if count == 1 { "is" } else { "are" };
    format!("{} {verb}", plural(count as u64, thing))
}

fn are_not(count: usize, thing: &str) -> String {
    format!("{} not", are(count, thing))
}
