//! The lines that scripts look for, in `classic`, and the marks at their heads.
//!
//! Their wording is redis-trib.rb's and redis-cli's, to the letter; `table` says the same in its own words.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::style::{Style, Tone, plain, wrapped_message};
use super::table::Sheet;
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::parse::Direction;
use crate::cluster::slot::{SLOTS, SlotSet};
use crate::report::{CheckView, InfoView, MasterView};

/// The word at the head of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Ok,
    Err,
    Warning,
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "[OK]",
            Self::Err => "[ERR]",
            Self::Warning => "[WARNING]",
        }
    }

    /// The word in `table`.
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Err => "error",
            Self::Warning => "warning",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Ok => Tone::Good,
            Self::Err => Tone::Bad,
            Self::Warning => Tone::Warning,
        }
    }
}

/// A line with its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) mark: Mark,
    pub(super) text: String,
}

impl Marked {
    pub(super) fn new(mark: Mark, text: impl Into<String>) -> Self {
        Self {
            mark,
            text: text.into(),
        }
    }

    pub(super) fn write(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let mark = style.tone(self.mark.tone(), self.mark.word());
        writeln!(out, "{mark} {}", plain(&self.text))
    }

    /// The same in the words of `table`.
    pub(super) fn write_in(&self, out: &mut impl Write, sheet: Sheet) -> io::Result<()> {
        labelled(out, self.mark.label(), self.mark.tone(), &self.text, sheet)
    }

    /// A message that begins with a mark.
    fn of(message: &str) -> Option<Self> {
        [Mark::Ok, Mark::Err, Mark::Warning]
            .into_iter()
            .find_map(|mark| {
                let text = message.strip_prefix(mark.word())?;
                Some(Self::new(mark, text.trim_start()))
            })
    }
}

/// A sentence behind its label, in lines that fit.
pub(super) fn labelled(
    out: &mut impl Write,
    label: &str,
    tone: Tone,
    text: &str,
    sheet: Sheet,
) -> io::Result<()> {
    let used = label.chars().count() + 2;
    let text = wrapped_message(&plain(text), used, sheet.width);
    writeln!(out, "{}: {text}", sheet.style.tone(tone, label))
}

/// The end of a command in the words of `table`.
pub(super) fn told(out: &mut impl Write, message: &str, sheet: Sheet) -> io::Result<()> {
    match Marked::of(message) {
        Some(marked) => marked.write_in(out, sheet),
        None => {
            let text = plain(&unmarked(message));
            writeln!(out, "{}", wrapped_message(&text, 0, sheet.width))
        }
    }
}

/// A message without the marks of its lines: programs have the exit code.
pub(super) fn unmarked(message: &str) -> String {
    let marks = [Mark::Ok, Mark::Err, Mark::Warning].map(Mark::word);
    let lines = message.lines().map(|line| {
        let text = marks
            .iter()
            .chain(&["***", ">>>"])
            .find_map(|mark| line.strip_prefix(mark));
        text.map_or(line, str::trim_start)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The sums over the whole cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub(super) nodes: usize,
    pub(super) masters: usize,
    /// Masters that answered, so that their keys are counted.
    pub(super) masters_heard: usize,
    pub(super) keys: u64,
}

impl Totals {
    pub(super) fn of(view: &CheckView) -> Self {
        Self::over(view.nodes.len(), &view.masters(), view.keys)
    }

    pub(super) fn of_info(view: &InfoView) -> Self {
        Self::over(view.node_count, &view.masters, view.keys)
    }

    fn over(nodes: usize, masters: &[MasterView], keys: u64) -> Self {
        Self {
            nodes,
            masters: masters.len(),
            masters_heard: masters.iter().filter(|one| one.keys.is_some()).count(),
            keys,
        }
    }

    pub(super) fn replicas(self) -> usize {
        self.nodes - self.masters
    }

    pub(super) fn keys_per_slot(self) -> f64 {
        self.keys as f64 / f64::from(SLOTS)
    }

    /// Counts the masters that answered, as redis-cli counts those that it could load.
    pub(super) fn line(self, word: &str) -> Marked {
        let (keys, masters) = (self.keys, self.masters_heard);
        Marked::new(Mark::Ok, format!("{keys} keys in {masters} {word}."))
    }
}

/// `check --local` of a process that is alive.
pub(super) fn alive(addr: &Addr) -> Marked {
    let text = format!("{addr} answers, and runs in cluster mode.");
    Marked::new(Mark::Ok, text)
}

/// Whether all nodes see the same owners.
pub(super) fn agreement(view: &CheckView) -> Marked {
    if view.views_agree {
        Marked::new(Mark::Ok, "All nodes agree about slots configuration.")
    } else {
        Marked::new(Mark::Err, "Nodes don't agree about configuration!")
    }
}

/// Which slots are open, by node, then all of them; nothing if none is.
pub(super) fn open_slots(view: &CheckView) -> Vec<Marked> {
    let mut by_node: BTreeMap<(NodeId, Direction), SlotSet> = BTreeMap::new();
    let mut all = SlotSet::new();
    for node in &view.nodes {
        for open in &node.open {
            by_node
                .entry((node.id, open.direction))
                .or_default()
                .insert(open.slot);
            all.insert(open.slot);
        }
    }
    let name = |id: NodeId| {
        let node = view.nodes.iter().find(|node| node.id == id);
        let addr = node.and_then(|node| node.addr.as_ref());
        addr.map_or_else(|| id.to_string(), Addr::to_string)
    };
    let mut lines: Vec<Marked> = by_node
        .into_iter()
        .map(|((id, direction), slots)| {
            let (name, state, slots) = (name(id), direction.word(), one_by_one(&slots));
            let text = format!("Node {name} has slots in {state} state {slots}.");
            Marked::new(Mark::Warning, text)
        })
        .collect();
    if !lines.is_empty() {
        let text = format!("The following slots are open: {}.", one_by_one(&all));
        lines.push(Marked::new(Mark::Warning, text));
    }
    lines
}

/// Whether every slot is served.
pub(super) fn coverage(view: &CheckView) -> Marked {
    if view.slots_covered == usize::from(SLOTS) {
        Marked::new(Mark::Ok, format!("All {SLOTS} slots covered."))
    } else {
        let text = format!("Not all {SLOTS} slots are covered by nodes.");
        Marked::new(Mark::Err, text)
    }
}

/// `1,2,3`: redis-cli never folds open slots to ranges.
fn one_by_one(slots: &SlotSet) -> String {
    let numbers: Vec<String> = slots.iter().map(|slot| slot.to_string()).collect();
    numbers.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_for_programs_have_no_marks() {
        for (message, expected) in [
            ("[OK] 10 slots moved.", "10 slots moved."),
            ("*** No rebalancing needed!", "No rebalancing needed!"),
            ("[ERR] a\n>>> b\n  c", "a\nb\n  c"),
            ("plain [OK]", "plain [OK]"),
            ("", ""),
        ] {
            assert_eq!(unmarked(message), expected);
        }
    }
}
