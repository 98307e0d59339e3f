//! Slots: uncovered, claimed twice, open, and whom the members see as their owners.

use std::collections::{BTreeMap, BTreeSet};

use super::{Code, Judge, Stability, count, shown, slots_are};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::{Direction, OpenSlot};
use crate::cluster::slot::SlotSet;
use crate::cluster::topology::{Member, Opinion};

/// Slots on the same way, at the same stage.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct MoveMethod {
    source: NodeId,
    target: NodeId,
    stage: Stage,
}

/// Which ends say that a slot is open.
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
                shown(&unassigned)
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
                "{} not served, as {} {fate}{}: {}",
                count(lost.count(), "slot is", "slots are"),
                self.name(member.id),
                self.why_nobody_took_over(member),
                shown(&lost),
            );
            self.add(Code::SlotsUncovered, message, &[member.id], lost);
            self.remedy(self.force_failover(member));
        }
    }

    fn why_nobody_took_over(&self, master: &Member) -> &'static str {
        let mut replicas = self.topology.replicas_of(master.id).peekable();
        if replicas.peek().is_none() {
            " and has no replica"
        } else if replicas.all(|replica| replica.peer_status.is_down()) {
            " and so are its replicas"
        } else if !self.has_quorum() {
            ", and too few masters are up to vote for a replica"
        } else {
            ""
        }
    }

    /// Whether enough masters are up to vote for a replica: more than half of those with slots
    /// (Redis Cluster specification, "Replica election and promotion").
    pub(super) fn has_quorum(&self) -> bool {
        let voters = || self.topology.masters().filter(|m| !m.slots.is_empty());
        let up = voters()
            .filter(|master| !master.peer_status.is_lost())
            .count();
        up * 2 > voters().count()
    }

    fn open_slots(&mut self) {
        let told: BTreeSet<(NodeId, OpenSlot)> = self
            .topology
            .open_slots()
            .filter(|(member, open)| !self.repeats_its_master(member, open))
            .map(|(member, open)| (member.id, open))
            .collect();
        let mut ways: BTreeMap<MoveMethod, SlotSet> = BTreeMap::new();
        for (id, open) in &told {
            let (source, target, direction) = match open.direction {
                Direction::Migrating => (*id, open.peer, Direction::Importing),
                Direction::Importing => (open.peer, *id, Direction::Migrating),
            };
            let answer = OpenSlot {
                slot: open.slot,
                direction,
                peer: *id,
            };
            let stage = if told.contains(&(open.peer, answer)) {
                Stage::Both
            } else if open.direction == Direction::Migrating {
                Stage::MigratingOnly
            } else {
                Stage::ImportingOnly
            };
            let way = MoveMethod {
                source,
                target,
                stage,
            };
            ways.entry(way).or_default().insert(open.slot);
        }
        for (way, slots) in ways {
            let open = slots_are(&slots);
            let source = self.end(way.source, &slots);
            let target = self.end(way.target, &slots);
            let message = match way.stage {
                Stage::Both => format!("{open} moving from {source} to {target}"),
                Stage::MigratingOnly => format!(
                    "{open} migrating on {source} to {target}, which {}",
                    self.other_end(way.target, "is not importing it")
                ),
                Stage::ImportingOnly => format!(
                    "{open} importing on {target} from {source}, which {}",
                    self.other_end(way.source, "is not migrating it")
                ),
            };
            let remedy = self.fix();
            self.add(Code::SlotsOpen, message, &[way.source, way.target], slots);
            self.remedy(remedy);
        }
    }

    /// From Valkey 8 on replicas know the open slots of their master (protocol.md section 2).
    fn repeats_its_master(&self, member: &Member, open: &OpenSlot) -> bool {
        let master = member.master.and_then(|id| self.topology.members.get(&id));
        let is_told_by =
            |master: &Member| master.role == Role::Master && master.open.contains(open);
        member.role == Role::Replica && master.is_some_and(is_told_by)
    }

    /// A node at one end of open slots, with the keys that it holds in them where they were counted.
    fn end(&self, id: NodeId, slots: &SlotSet) -> String {
        let name = self.name(id);
        match self.keys_in(id, slots) {
            Some(keys) => format!("{name} with {}", count(keys, "key", "keys")),
            None => name,
        }
    }

    fn other_end(&self, id: NodeId, silent_about_it: &'static str) -> &'static str {
        match self.node(id) {
            None => "no member knows",
            Some(node) if node.report().is_none() => "does not answer",
            Some(_) => silent_about_it,
        }
    }

    /// `None` where not all of them were counted.
    fn keys_in(&self, id: NodeId, slots: &SlotSet) -> Option<usize> {
        let report = self.node(id)?.report()?;
        let counts = slots
            .iter()
            .map(|slot| report.open_keys.get(&slot).copied());
        let sum = counts.sum::<Option<u64>>()?;
        usize::try_from(sum).ok()
    }

    pub(super) fn views(&mut self) {
        /// Opinions that are told one by one; in a cluster that falls to pieces every member
        /// may have its own.
        const TOLD: usize = 4;
        let Some((most, others)) = self.topology.opinions.split_first() else {
            return;
        };
        for other in others.iter().take(TOLD) {
            let mut slots = SlotSet::new();
            let mut parts = Vec::new();
            for ((theirs, ours), differing) in other.difference(most) {
                let owner = |id: Option<NodeId>| match id {
                    Some(id) => self.name(id),
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
            let more = parts.len().saturating_sub(TOLD);
            parts.truncate(TOLD);
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
            .skip(TOLD)
            .flat_map(|opinion| opinion.held_by.iter().copied())
            .collect();
        if !rest.is_empty() {
            let slots = others
                .iter()
                .skip(TOLD)
                .flat_map(|opinion| opinion.difference(most).into_values())
                .fold(SlotSet::new(), |sum, slots| sum.union(&slots));
            let ways = others.len() - TOLD;
            let what = format!(
                "{} in {}",
                shown(&slots),
                count(ways, "other way", "other ways")
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
            "{} of {all} members {} other owners than {}{settling}: {} {} {what}",
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
