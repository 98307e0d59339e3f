//! One topology from the views of all nodes: the members, their slots, and the disagreements.
//!
//! A node that answers describes itself; one that does not is described by the line that most of the
//! other nodes share.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::node::{NodeId, Role};
use super::observation::{Observation, Report, Seen};
use super::parse::{Entry, EntryState, OpenSlot};
use super::slot::{SLOTS, Slot, SlotSet};

/// The members of a cluster, and how far they agree.
#[derive(Debug, Clone)]
pub struct Topology {
    /// All members, by id.
    pub members: BTreeMap<NodeId, Member>,
    /// Groups of nodes that see the same slot owners, the largest first. One group: all agree.
    pub opinions: Vec<Opinion>,
    /// Which nodes have a vote.
    pub bus: Bus,
}

/// The protocol of the cluster bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// Gossip: masters with slots vote.
    Gossip,
    /// `cluster-protocol raft` (Valkey ≥ 10): all nodes vote that are no learners, replicas too.
    Raft,
}

impl Bus {
    /// The word for nodes that vote.
    pub fn voters_word(self) -> &'static str {
        match self {
            Self::Gossip => "masters",
            Self::Raft => "voters",
        }
    }
}

/// A member, as it reports itself or as most other nodes report it.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Its role; a node in handshake counts as a master without slots.
    pub role: Role,
    /// Its master.
    pub master: Option<NodeId>,
    /// The slots that it claims.
    pub slots: SlotSet,
    /// Its open slots.
    pub open: Vec<OpenSlot>,
    /// Its config epoch.
    pub epoch: u64,
    /// Whether it is a learner of the Raft bus, which has no vote.
    pub learner: bool,
    /// How the other nodes see it.
    pub peer_status: PeerStatus,
    /// Whether it answers and knows no other node, while others list it: it was reset, or lost its `nodes.conf`. What it
    /// sees says nothing about the cluster.
    pub is_reset: bool,
}

/// How the other nodes that answered see a node: numbers of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerStatus {
    /// Nodes that answered, without the node itself.
    pub asked: usize,
    /// Those that have it in their list.
    pub known: usize,
    /// Those whose bus link to it is up.
    pub linked: usize,
    /// Those that flag it `fail`.
    pub failed: usize,
    /// Those that flag it `fail?`.
    pub failing: usize,
    /// Those that flag it `handshake`.
    pub handshake: usize,
    /// Those that flag it `noaddr` and not `fail`.
    pub no_address: usize,
    /// Whether it did not answer redis-trib.
    pub silent: bool,
}

impl PeerStatus {
    /// Whether more than half of the nodes that answered flag it as failed: with `fail`, which takes a
    /// majority of masters; or with `fail?`, if it does not answer redis-trib either. The last of two
    /// masters never gets beyond `fail?` (Redis Cluster specification, "Failure detection").
    pub fn is_down(&self) -> bool {
        let suspected = if self.silent { self.failing } else { 0 };
        (self.failed + suspected) * 2 > self.asked
    }

    /// Whether clients are not redirected to it: it is down, or more than half know no address of it.
    pub fn is_lost(&self) -> bool {
        self.is_down() || self.no_address * 2 > self.asked
    }

    /// Whether no node that knows it reaches it; the others have forgotten it already.
    pub fn is_lost_to_all_who_know_it(&self) -> bool {
        self.known > 0 && self.failed + self.failing + self.no_address == self.known
    }
}

/// Nodes that see the same owner for each slot.
#[derive(Debug, Clone)]
pub struct Opinion {
    /// The nodes; never empty.
    pub held_by: Vec<NodeId>,
    /// The lines of the owners that they see. A thousand nodes may have a thousand opinions, so the
    /// owner of each slot is computed only when opinions are compared.
    owners: Vec<Arc<Entry>>,
}

impl Opinion {
    /// The owner of each slot, in slot order.
    fn owner_by_slot(&self) -> Vec<Option<NodeId>> {
        let mut owners = vec![None; usize::from(SLOTS)];
        for entry in &self.owners {
            for slot in entry.slots.iter().flat_map(|range| range.slots()) {
                owners[usize::from(slot.number())] = Some(entry.id);
            }
        }
        owners
    }

    /// The slots with different owners, by the owner in this and in the other opinion.
    pub fn difference(&self, other: &Self) -> BTreeMap<(Option<NodeId>, Option<NodeId>), SlotSet> {
        let mut by_owners: BTreeMap<_, SlotSet> = BTreeMap::new();
        let (ours, theirs) = (self.owner_by_slot(), other.owner_by_slot());
        for (slot, owners) in Slot::all().zip(ours.into_iter().zip(theirs)) {
            if owners.0 != owners.1 {
                by_owners.entry(owners).or_default().insert(slot);
            }
        }
        by_owners
    }
}

impl Topology {
    /// The topology of an observation.
    pub fn of(observation: &Observation) -> Self {
        let reset = reset_nodes(observation);
        let mut statuses: HashMap<NodeId, PeerStatus> = HashMap::new();
        for (node, report) in observation.reports() {
            for entry in report.view.entries() {
                if entry.id != node.id {
                    statuses.entry(entry.id).or_default().count(entry);
                }
            }
        }
        let answered = observation.reports().count() - reset.len();
        let members = observation
            .nodes
            .values()
            .map(|node| {
                let mut peer_status = statuses.remove(&node.id).unwrap_or_default();
                peer_status.silent = node.report().is_none();
                let is_reset = reset.contains(&node.id);
                let is_among_them = !peer_status.silent && !is_reset;
                peer_status.asked = answered - usize::from(is_among_them);
                let mut member = match &node.seen {
                    Seen::Report(report) => Member::from_entry(report.view.myself(), peer_status),
                    _ => match prevailing_entry(observation, node.id) {
                        Some(entry) => Member::from_entry(&entry, peer_status),
                        None => Member::unknown(node.id, peer_status),
                    },
                };
                member.is_reset = is_reset;
                (node.id, member)
            })
            .collect();
        let is_raft = observation
            .reports()
            .any(|(_, report)| report.cluster.raft.is_some());
        Self {
            members,
            opinions: opinions(observation, &reset),
            bus: if is_raft { Bus::Raft } else { Bus::Gossip },
        }
    }

    /// Whether a member has a vote: on the failure of a master, and on the Raft bus on every change.
    pub fn votes(&self, member: &Member) -> bool {
        match self.bus {
            Bus::Gossip => member.role == Role::Master && !member.slots.is_empty(),
            Bus::Raft => !member.learner,
        }
    }

    /// Members with a vote, by id.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| self.votes(member))
    }

    /// Members that are masters, by id.
    pub fn masters(&self) -> impl Iterator<Item = &Member> {
        self.members
            .values()
            .filter(|member| member.role == Role::Master)
    }

    /// The replicas of a master.
    pub fn replicas_of(&self, master: NodeId) -> impl Iterator<Item = &Member> {
        self.members
            .values()
            .filter(move |member| member.role == Role::Replica && member.master == Some(master))
    }

    /// Masters that clients can be redirected to.
    fn serving(&self) -> impl Iterator<Item = &Member> {
        self.masters()
            .filter(|member| !member.peer_status.is_lost())
    }

    /// Slots that a serving master claims.
    pub fn served(&self) -> SlotSet {
        self.serving()
            .fold(SlotSet::new(), |sum, member| sum.union(&member.slots))
    }

    /// Slots that several serving masters claim, by these masters.
    pub fn contested(&self) -> BTreeMap<Vec<NodeId>, SlotSet> {
        let mut once = SlotSet::new();
        let mut twice = SlotSet::new();
        for member in self.serving() {
            twice = twice.union(&once.intersection(&member.slots));
            once = once.union(&member.slots);
        }
        let mut by_claimants: BTreeMap<Vec<NodeId>, SlotSet> = BTreeMap::new();
        for slot in twice.iter() {
            let claimants = self
                .serving()
                .filter(|member| member.slots.contains(slot))
                .map(|member| member.id)
                .collect();
            by_claimants.entry(claimants).or_default().insert(slot);
        }
        by_claimants
    }

    /// All open slots, each with the node that reports it.
    pub fn open_slots(&self) -> impl Iterator<Item = (&Member, OpenSlot)> {
        self.members
            .values()
            .flat_map(|member| member.open.iter().map(move |open| (member, *open)))
    }

    /// All slots that are open on any node.
    pub fn open_set(&self) -> SlotSet {
        self.open_slots().map(|(_, open)| open.slot).collect()
    }

    /// Members in the order of all output: masters by their first slot, then masters without slots, each
    /// followed by its replicas; last, replicas of unknown masters.
    pub fn reading_order(&self) -> Vec<&Member> {
        let mut masters: Vec<&Member> = self.masters().collect();
        masters.sort_by_cached_key(|member| {
            let first = member.slots.iter().next().map(Slot::number);
            (first.is_none(), first, member.id)
        });
        let mut order: Vec<&Member> = Vec::with_capacity(self.members.len());
        let mut replicas: HashMap<NodeId, Vec<&Member>> = HashMap::new();
        let mut orphans = Vec::new();
        for member in self.members.values() {
            if member.role == Role::Replica {
                match member.master {
                    Some(master) if self.is_master(master) => {
                        replicas.entry(master).or_default().push(member);
                    }
                    _ => orphans.push(member),
                }
            }
        }
        for master in masters {
            order.push(master);
            order.extend(replicas.remove(&master.id).unwrap_or_default());
        }
        order.extend(orphans);
        order
    }

    fn is_master(&self, id: NodeId) -> bool {
        self.members
            .get(&id)
            .is_some_and(|member| member.role == Role::Master)
    }
}

impl Member {
    fn from_entry(entry: &Entry, peer_status: PeerStatus) -> Self {
        Self {
            id: entry.id,
            role: entry.role.unwrap_or(Role::Master),
            master: entry.master,
            slots: entry.slots.iter().copied().collect(),
            open: entry.open.clone(),
            epoch: entry.epoch,
            learner: entry.learner,
            peer_status,
            is_reset: false,
        }
    }

    fn unknown(id: NodeId, peer_status: PeerStatus) -> Self {
        Self {
            id,
            role: Role::Master,
            master: None,
            slots: SlotSet::new(),
            open: Vec::new(),
            epoch: 0,
            learner: false,
            peer_status,
            is_reset: false,
        }
    }
}

impl PeerStatus {
    fn count(&mut self, entry: &Entry) {
        self.known += 1;
        self.linked += usize::from(entry.linked);
        match entry.state {
            EntryState::Fine => {}
            EntryState::Failing => self.failing += 1,
            EntryState::Failed => self.failed += 1,
            EntryState::Handshake => self.handshake += 1,
            EntryState::NoAddress => self.no_address += 1,
        }
    }
}

/// The line about a node that most views share; of equally frequent ones that of the higher epoch.
fn prevailing_entry(observation: &Observation, id: NodeId) -> Option<Arc<Entry>> {
    let mut lines: Vec<(usize, &Arc<Entry>)> = Vec::new();
    for (_, report) in observation.reports() {
        if let Some(entry) = report.view.entry(id) {
            match lines.iter_mut().find(|(_, other)| *other == entry) {
                Some((count, _)) => *count += 1,
                None => lines.push((1, entry)),
            }
        }
    }
    lines
        .into_iter()
        .max_by_key(|(count, entry)| (*count, entry.epoch))
        .map(|(_, entry)| Arc::clone(entry))
}

/// Nodes that answer, own no slot and know no other node, although another one that answers lists them.
fn reset_nodes(observation: &Observation) -> BTreeSet<NodeId> {
    let is_alone =
        |report: &Report| report.view.entries().len() == 1 && report.view.myself().slots.is_empty();
    let alone = observation.reports().filter(|(_, report)| is_alone(report));
    alone
        .map(|(node, _)| node.id)
        .filter(|id| {
            let mut others = observation.reports().filter(|(node, _)| node.id != *id);
            others.any(|(_, report)| report.view.entry(*id).is_some())
        })
        .collect()
}

fn opinions(observation: &Observation, reset: &BTreeSet<NodeId>) -> Vec<Opinion> {
    let mut groups: BTreeMap<u64, Vec<NodeId>> = BTreeMap::new();
    for (node, report) in observation
        .reports()
        .filter(|(node, _)| !reset.contains(&node.id))
    {
        groups
            .entry(report.view.slots_signature())
            .or_default()
            .push(node.id);
    }
    let mut opinions: Vec<Opinion> = groups
        .into_values()
        .map(|held_by| {
            let view = held_by
                .first()
                .and_then(|id| observation.nodes.get(id))
                .and_then(|node| node.report())
                .map(|report| &report.view);
            let entries = view.into_iter().flat_map(|view| view.entries());
            Opinion {
                held_by,
                owners: entries.filter(|e| !e.slots.is_empty()).cloned().collect(),
            }
        })
        .collect();
    opinions.sort_by_key(|opinion| (Reverse(opinion.held_by.len()), opinion.held_by[0]));
    opinions
}
