//! The lines that scripts look for, whichever format says them (design.md section 4).
//!
//! Their wording is redis-trib.rb's and redis-cli's, to the letter.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use super::node_state::Row;
use super::style::{Style, Tone, plain};
use crate::cluster::health::{Code, Diagnosis, Finding, Severity};
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::parse::Direction;
use crate::cluster::slot::{SLOTS, SlotSet};

/// The word at the head of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Ok,
    Err,
    Warning,
}

/// A line with its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) mark: Mark,
    pub(super) text: String,
}

impl Verdict {
    pub(super) fn new(mark: Mark, text: impl Into<String>) -> Self {
        Self {
            mark,
            text: text.into(),
        }
    }

    pub(super) fn write(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let (tone, word) = match self.mark {
            Mark::Ok => (Tone::Good, "[OK]"),
            Mark::Err => (Tone::Bad, "[ERR]"),
            Mark::Warning => (Tone::Warning, "[WARNING]"),
        };
        writeln!(out, "{} {}", style.tone(tone, word), plain(&self.text))
    }
}

/// What the whole cluster adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub(super) nodes: usize,
    pub(super) masters: usize,
    /// Masters that answered, and so told their keys.
    pub(super) masters_heard: usize,
    pub(super) keys: u64,
}

impl Totals {
    pub(super) fn of(rows: &[Row<'_>]) -> Self {
        let mut totals = Self {
            nodes: rows.len(),
            ..Self::default()
        };
        for row in rows.iter().filter(|row| row.is_master()) {
            totals.masters += 1;
            if let Some(keys) = row.keys() {
                totals.masters_heard += 1;
                totals.keys = totals.keys.saturating_add(keys);
            }
        }
        totals
    }

    pub(super) fn replicas(self) -> usize {
        self.nodes - self.masters
    }

    pub(super) fn keys_per_slot(self) -> f64 {
        self.keys as f64 / f64::from(SLOTS)
    }

    /// Counts the masters that answered, as redis-cli counts those that it could load.
    pub(super) fn verdict(self) -> Verdict {
        let (keys, masters) = (self.keys, self.masters_heard);
        Verdict::new(Mark::Ok, format!("{keys} keys in {masters} masters."))
    }
}

/// How many replicas each master has.
pub(super) fn replica_counts(rows: &[Row<'_>]) -> HashMap<NodeId, usize> {
    let mut counts = HashMap::new();
    for row in rows.iter().filter(|row| row.member.role == Role::Replica) {
        if let Some(master) = row.member.master {
            *counts.entry(master).or_default() += 1;
        }
    }
    counts
}

/// `check --local` of a process that is alive.
pub(super) fn alive(addr: &Addr) -> Verdict {
    let text = format!("{addr} answers, and runs in cluster mode.");
    Verdict::new(Mark::Ok, text)
}

/// Whether all nodes see the same owners.
pub(super) fn agreement(diagnosis: &Diagnosis) -> Verdict {
    if diagnosis.topology.opinions.len() > 1 {
        Verdict::new(Mark::Err, "Nodes don't agree about configuration!")
    } else {
        Verdict::new(Mark::Ok, "All nodes agree about slots configuration.")
    }
}

/// Which slots are open, by node, then all of them; nothing when none is.
pub(super) fn open_slots(diagnosis: &Diagnosis) -> Vec<Verdict> {
    let topology = &diagnosis.topology;
    let mut by_node: BTreeMap<(NodeId, Direction), SlotSet> = BTreeMap::new();
    for (member, open) in topology.open_slots() {
        by_node
            .entry((member.id, open.direction))
            .or_default()
            .insert(open.slot);
    }
    let mut lines: Vec<Verdict> = by_node
        .into_iter()
        .map(|((id, direction), slots)| {
            let node = diagnosis.observation.nodes.get(&id);
            let name = match node.and_then(|node| node.addr()) {
                Some(addr) => addr.to_string(),
                None => id.to_string(),
            };
            let (state, slots) = (direction.word(), one_by_one(&slots));
            let text = format!("Node {name} has slots in {state} state {slots}.");
            Verdict::new(Mark::Warning, text)
        })
        .collect();
    if !lines.is_empty() {
        let slots = one_by_one(&topology.open_set());
        let text = format!("The following slots are open: {slots}.");
        lines.push(Verdict::new(Mark::Warning, text));
    }
    lines
}

/// Whether every slot is served.
pub(super) fn coverage(diagnosis: &Diagnosis) -> Verdict {
    if diagnosis.slots_covered() == usize::from(SLOTS) {
        Verdict::new(Mark::Ok, format!("All {SLOTS} slots covered."))
    } else {
        let text = format!("Not all {SLOTS} slots are covered by nodes.");
        Verdict::new(Mark::Err, text)
    }
}

/// Findings about what one of the lines has said already, and to which they add who and where.
pub(super) fn findings_about(diagnosis: &Diagnosis, code: Code) -> impl Iterator<Item = &Finding> {
    diagnosis
        .findings
        .iter()
        .filter(move |finding| finding.code == code)
}

/// How many errors and how many warnings were found.
pub(super) fn counts(diagnosis: &Diagnosis) -> (usize, usize) {
    let findings = &diagnosis.findings;
    let is_error = |finding: &&Finding| finding.severity() == Severity::Error;
    let errors = findings.iter().filter(is_error).count();
    (errors, findings.len() - errors)
}

/// `1,2,3`: redis-cli never folds open slots to ranges.
fn one_by_one(slots: &SlotSet) -> String {
    let numbers: Vec<String> = slots.iter().map(|slot| slot.to_string()).collect();
    numbers.join(",")
}
