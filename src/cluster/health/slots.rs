//! Findings about slots: uncovered, claimed twice, open, and seen with different owners.

use std::collections::{BTreeMap, BTreeSet};

use super::{Code, Judge, Stability, count, slots_are};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::observation::Seen;
use crate::cluster::parse::{Direction, OpenSlot};
use crate::cluster::slot::SlotSet;
use crate::cluster::topology::{Bus, Member, Opinion};

/// The ends of open slots, and which of them has the slots open.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct OpenMove {
    source: NodeId,
    target: NodeId,
    stage: Stage,
}

/// The ends that have a slot open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Both,
    MigratingOnly,
    ImportingOnly,
}

impl Judge<'_> {
    pub(super) fn slots(&mut self) {
        self.uncovered();
        for (claimants, slots) in self.topology.contested() {
            let message = format!(
                "{} claimed by {}: {}",
                slots_are(&slots),
                count(claimants.len(), "master", "masters"),
                self.names(&claimants),
            );
            self.add(Code::SlotsContested, message, &claimants, slots);
            self.remedy(self.fix());
            self.remedy_if_settling();
        }
        self.open_slots();
    }

    fn uncovered(&mut self) {
        let claimed = self
            .topology
            .masters()
            .fold(SlotSet::new(), |sum, member| sum.union(&member.slots));
        let unassigned = SlotSet::full().difference(&claimed);
        if !unassigned.is_empty() {
            let message = format!(
                "{} no owner: {}",
                count(unassigned.count(), "slot has", "slots have"),
                unassigned.summary()
            );
            self.add(Code::SlotsUncovered, message, &[], unassigned);
            self.remedy(self.fix());
            self.remedy_if_settling();
        }
        let served = self.topology.served();
        for member in self.topology.masters() {
            if !member.peer_status.is_lost() {
                continue;
            }
            let lost = member.slots.difference(&served);
            if lost.is_empty() {
                continue;
            }
            let fate = if member.peer_status.is_down() {
                "is down"
            } else {
                "has no known address"
            };
            let message = format!(
                "{} not served because {} {fate}{}: {}",
                count(lost.count(), "slot is", "slots are"),
                self.name(member.id),
                self.why_no_failover(member),
                lost.summary(),
            );
            self.add(Code::SlotsUncovered, message, &[member.id], lost);
            self.remedy(self.force_failover(member));
        }
    }

    fn why_no_failover(&self, master: &Member) -> &'static str {
        let mut replicas = self.topology.replicas_of(master.id).peekable();
        if replicas.peek().is_none() {
            " and has no replica"
        } else if replicas.all(|replica| replica.peer_status.is_down()) {
            " and so are its replicas"
        } else if !self.has_quorum() {
            match self.topology.bus {
                Bus::Gossip => " and too few masters are up to elect a replica",
                Bus::Raft => " and too few voters are up to elect a replica",
            }
        } else {
            ""
        }
    }

    /// Whether enough nodes are up to vote for a replica: more than half of the masters with slots (Redis Cluster
    /// specification, "Replica election and promotion"); on the Raft bus, of the voters.
    pub(super) fn has_quorum(&self) -> bool {
        let (up, all) = self.voters_up();
        up * 2 > all
    }

    /// How many voters are up, and how many there are.
    pub(super) fn voters_up(&self) -> (usize, usize) {
        let voters = || self.topology.voters();
        let up = voters().filter(|voter| !voter.peer_status.is_lost());
        (up.count(), voters().count())
    }

    fn open_slots(&mut self) {
        let reported: BTreeSet<(NodeId, OpenSlot)> = self
            .topology
            .open_slots()
            .filter(|(member, open)| !self.repeats_its_master(member, open))
            .map(|(member, open)| (member.id, open))
            .collect();
        let mut moves: BTreeMap<OpenMove, SlotSet> = BTreeMap::new();
        for (id, open) in &reported {
            let (source, target, direction) = match open.direction {
                Direction::Migrating => (*id, open.peer, Direction::Importing),
                Direction::Importing => (open.peer, *id, Direction::Migrating),
            };
            let answer = OpenSlot {
                slot: open.slot,
                direction,
                peer: *id,
            };
            let stage = if reported.contains(&(open.peer, answer)) {
                Stage::Both
            } else if open.direction == Direction::Migrating {
                Stage::MigratingOnly
            } else {
                Stage::ImportingOnly
            };
            let one = OpenMove {
                source,
                target,
                stage,
            };
            moves.entry(one).or_default().insert(open.slot);
        }
        for (one, slots) in moves {
            let open = slots_are(&slots);
            let source = self.end(one.source, &slots);
            let target = self.end(one.target, &slots);
            let message = match one.stage {
                Stage::Both => format!("{open} moving from {source} to {target}"),
                Stage::MigratingOnly => format!(
                    "{open} migrating on {source} to {target}, which {}",
                    self.other_end(one.target, "is not importing it")
                ),
                Stage::ImportingOnly => format!(
                    "{open} importing on {target} from {source}, which {}",
                    self.other_end(one.source, "is not migrating it")
                ),
            };
            let remedy = self.fix();
            self.add(Code::SlotsOpen, message, &[one.source, one.target], slots);
            self.remedy(remedy);
        }
    }

    /// Valkey ≥ 8 sends the open slots of a master to its replicas (protocol.md section 2).
    fn repeats_its_master(&self, member: &Member, open: &OpenSlot) -> bool {
        let master = member.master.and_then(|id| self.topology.members.get(&id));
        let is_told_by =
            |master: &Member| master.role == Role::Master && master.open.contains(open);
        member.role == Role::Replica && master.is_some_and(is_told_by)
    }

    /// A node at one end of open slots, with its number of keys in them if they were counted.
    fn end(&self, id: NodeId, slots: &SlotSet) -> String {
        let name = self.name(id);
        match self.keys_in(id, slots) {
            Some(keys) => format!("{name} with {}", count(keys, "key", "keys")),
            None => name,
        }
    }

    fn other_end(&self, id: NodeId, not_open: &'static str) -> &'static str {
        match self.node(id) {
            None => "no node knows",
            Some(node) if matches!(node.seen, Seen::Refused(_)) => "answers with an error",
            Some(node) if node.report().is_none() => "does not answer",
            Some(_) => not_open,
        }
    }

    /// The keys of a node in `slots`; `None` if not all of these were counted.
    fn keys_in(&self, id: NodeId, slots: &SlotSet) -> Option<usize> {
        let report = self.node(id)?.report()?;
        let counts = slots
            .iter()
            .map(|slot| report.open_keys.get(&slot).copied());
        let sum = counts.sum::<Option<u64>>()?;
        usize::try_from(sum).ok()
    }

    pub(super) fn views(&mut self) {
        /// Opinions with a finding of their own; in a badly partitioned cluster every node may have
        /// another one.
        const LISTED: usize = 4;
        let Some((most, others)) = self.topology.opinions.split_first() else {
            return;
        };
        for other in others.iter().take(LISTED) {
            let mut slots = SlotSet::new();
            let mut parts = Vec::new();
            for ((theirs, ours), differing) in other.difference(most) {
                let owner = |id: Option<NodeId>| match id {
                    Some(id) => format!("at {}", self.name(id)),
                    None => "unassigned".to_string(),
                };
                parts.push(format!(
                    "{} {} instead of {}",
                    differing.summary(),
                    owner(theirs),
                    owner(ours)
                ));
                slots = slots.union(&differing);
            }
            let more = parts.len().saturating_sub(LISTED);
            parts.truncate(LISTED);
            if more > 0 {
                parts.push(format!(
                    "and {}",
                    count(more, "difference more", "differences more")
                ));
            }
            self.view_differs(&other.held_by, &parts.join("; "), slots);
        }
        let rest: Vec<NodeId> = others
            .iter()
            .skip(LISTED)
            .flat_map(|opinion| opinion.held_by.iter().copied())
            .collect();
        if !rest.is_empty() {
            let slots = others
                .iter()
                .skip(LISTED)
                .flat_map(|opinion| opinion.difference(most).into_values())
                .fold(SlotSet::new(), |sum, slots| sum.union(&slots));
            let more = others.len() - LISTED;
            let what = format!(
                "{} in {}",
                slots.summary(),
                count(more, "other way", "other ways")
            );
            self.view_differs(&rest, &what, slots);
        }
    }

    fn view_differs(&mut self, held_by: &[NodeId], what: &str, slots: SlotSet) {
        let all: usize = self
            .topology
            .opinions
            .iter()
            .map(|o: &Opinion| o.held_by.len())
            .sum();
        let settling = match self.stability {
            Stability::Unknown => "",
            Stability::Settling => " (still changing)",
            Stability::Stuck => " (not changing by itself)",
        };
        let message = format!(
            "{} of {all} nodes {} other slot owners than {}{settling}: {} {} {what}",
            held_by.len(),
            if held_by.len() == 1 { "sees" } else { "see" },
            if held_by.len() * 2 == all {
                "the other half"
            } else {
                "most"
            },
            self.names(held_by),
            if held_by.len() == 1 { "sees" } else { "see" },
        );
        self.add(Code::ViewsDiffer, message, held_by, slots);
        if self.stability == Stability::Stuck {
            self.remedy(self.fix());
        }
        self.remedy_if_settling();
    }
}
