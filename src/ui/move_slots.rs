//! What `reshard` and its kin are about to move, and what they have moved.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use super::columns::{Align, Column, Text, draw, push, total_width};
use super::create::NodeName;
use super::node_table::shown_ranges;
use super::style::{Style, Tone, bytes, counted, plain, thousands};
use super::table::Sheet;
use super::{Format, PromptError, Ui, select};
use crate::cluster::slot::{Slot, SlotSet};
use crate::event::MoveStats;
use crate::exit_code::ExitCode;

/// A plan of moves, as far as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct MovesView {
    /// From whom to whom, by the lowest slot.
    pub moves: Vec<PlannedMove>,
    /// What that makes of the targets' memory.
    pub targets: Vec<TargetMemory>,
}

/// How slots move, and why so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// In jobs of the servers.
    Atomic(String),
    /// With MIGRATE.
    Keys(String),
}

impl How {
    /// Its word, in JSON and in tables.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Atomic(_) => "atomic",
            Self::Keys(_) => "keys",
        }
    }

    /// Why.
    pub(super) fn reason(&self) -> &str {
        let (Self::Atomic(reason) | Self::Keys(reason)) = self;
        reason
    }
}

/// `atomic: both ends can (valkey 9.1.2)`.
impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Atomic(_) => "atomic",
            Self::Keys(_) => "key by key",
        };
        match self.reason() {
            "" => f.write_str(word),
            reason => write!(f, "{word}: {}", plain(reason)),
        }
    }
}

/// Slots that go from one node to another.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedMove {
    /// Who gives.
    pub from: NodeName,
    /// Who takes.
    pub to: NodeName,
    /// What.
    pub slots: SlotSet,
    /// How.
    pub how: How,
}

/// The memory of a node that takes slots, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetMemory {
    /// The node.
    pub node: NodeName,
    /// In use now.
    pub used: u64,
    /// What is coming, by the share of the sources' memory.
    pub coming: u64,
    /// Its maxmemory, where one is set.
    pub limit: Option<u64>,
}

/// Where the masters stand before and after a rebalance.
#[derive(Debug, Clone, PartialEq)]
pub struct BalanceView {
    /// What the shares are shares of.
    pub measure: Measure,
    /// By how many percent of its share a master may be off.
    pub threshold: f64,
    /// The masters that take part.
    pub masters: Vec<MasterShare>,
}

/// What is balanced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Slots.
    Slots,
    /// Keys.
    Keys,
    /// Bytes, estimated.
    Memory,
}

/// A master's share.
#[derive(Debug, Clone, PartialEq)]
pub struct MasterShare {
    /// The master.
    pub node: NodeName,
    /// In proportion to the others'.
    pub weight: f64,
    /// What it has.
    pub before: u128,
    /// What it should have.
    pub expected: u128,
    /// What it has when the moves are done.
    pub after: u128,
}

impl Measure {
    /// Its word, in tables and in JSON.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Keys => "keys",
            Self::Memory => "memory",
        }
    }

    fn amount(self, amount: u128) -> String {
        let amount = u64::try_from(amount).unwrap_or(u64::MAX);
        match self {
            Self::Slots | Self::Keys => thousands(amount),
            Self::Memory => bytes(amount),
        }
    }
}

impl MovesView {
    fn slots(&self) -> usize {
        self.moves.iter().map(|one| one.slots.count()).sum()
    }

    /// The ways of all pairs, with their reasons, each once.
    fn ways(&self) -> Vec<&How> {
        let ways: BTreeSet<&How> = self.moves.iter().map(|one| &one.how).collect();
        ways.into_iter().collect()
    }

    /// `atomic`, `keys`, or `mixed` where pairs differ.
    pub(super) fn strategy(&self) -> &'static str {
        let words: BTreeSet<&str> = self.moves.iter().map(|one| one.how.word()).collect();
        let mut words = words.into_iter();
        match (words.next(), words.next()) {
            (Some(word), None) => word,
            _ => "mixed",
        }
    }

    /// Each node once, in the order of the moves.
    fn each<'a>(&'a self, end: impl Fn(&'a PlannedMove) -> &'a NodeName) -> Vec<&'a NodeName> {
        let mut nodes: Vec<&NodeName> = Vec::new();
        for node in self.moves.iter().map(end) {
            if !nodes.iter().any(|other| other.id == node.id) {
                nodes.push(node);
            }
        }
        nodes
    }
}

/// The plan as redis-trib.rb printed it. It had one destination; of several each slot names its.
pub(super) fn classic(out: &mut impl Write, view: &MovesView) -> io::Result<()> {
    let targets = view.each(|one| &one.to);
    writeln!(out, "\nReady to move {} slots.", view.slots())?;
    writeln!(out, "  Source nodes:")?;
    for node in view.each(|one| &one.from) {
        writeln!(out, "    M: {} {}", node.id, node.addr)?;
    }
    let plural = if targets.len() > 1 { "s" } else { "" };
    writeln!(out, "  Destination node{plural}:")?;
    for node in &targets {
        writeln!(out, "    M: {} {}", node.id, node.addr)?;
    }
    writeln!(out, "  Resharding plan:")?;
    let planned: BTreeMap<Slot, &PlannedMove> = view
        .moves
        .iter()
        .flat_map(|one| one.slots.iter().map(move |slot| (slot, one)))
        .collect();
    for (slot, one) in planned {
        write!(out, "    Moving slot {slot} from {}", one.from.id)?;
        if targets.len() > 1 {
            write!(out, " to {}", one.to.id)?;
        }
        writeln!(out)?;
    }
    for how in view.ways() {
        writeln!(out, "  Strategy: {how}")?;
    }
    for memory in &view.targets {
        let limit = match memory.limit {
            Some(limit) => format!(" of {}", bytes(limit)),
            None => String::new(),
        };
        writeln!(
            out,
            "  Memory of {}: {} now, about {} coming, {} after{limit}",
            memory.node,
            bytes(memory.used),
            bytes(memory.coming),
            bytes(memory.after()),
        )?;
    }
    Ok(())
}

impl TargetMemory {
    fn after(&self) -> u64 {
        self.used.saturating_add(self.coming)
    }
}

/// The plan for a person: pairs, then what they make of the targets' memory.
pub(super) fn table(out: &mut impl Write, view: &MovesView, sheet: Sheet) -> io::Result<()> {
    let title = format!("{} to move", counted(view.slots() as u64, "slot"));
    writeln!(out, "{}", sheet.style.tone(Tone::Strong, &title))?;
    for how in view.ways() {
        writeln!(out, "{how}")?;
    }
    writeln!(out)?;
    let mut columns = vec![
        Column::new("from", Align::Left),
        Column::new("to", Align::Left),
        Column::new("slots", Align::Right),
        Column::new("how", Align::Left),
    ];
    for one in &view.moves {
        push(
            &mut columns,
            [
                one.from.to_string().into(),
                one.to.to_string().into(),
                thousands(one.slots.count() as u64).into(),
                one.how.word().into(),
            ],
        );
    }
    // The ranges get what is left of the line, and a little at least.
    let room = sheet
        .width
        .saturating_sub(total_width(&columns) + 2)
        .max(12);
    let mut ranges = Column::new("ranges", Align::Left);
    ranges.cells = view
        .moves
        .iter()
        .map(|one| shown_ranges(&one.slots.ranges(), room).into())
        .collect();
    columns.push(ranges);
    draw(out, &columns, sheet.style)?;
    writeln!(out)?;
    let mut columns = vec![
        Column::new("memory of", Align::Left),
        Column::new("now", Align::Right),
        Column::new("coming", Align::Right),
        Column::new("after", Align::Right),
        Column::new("limit", Align::Right),
    ];
    for memory in &view.targets {
        let limit = memory.limit.map_or_else(|| "none".to_string(), bytes);
        let after = bytes(memory.after());
        push(
            &mut columns,
            [
                memory.node.to_string().into(),
                bytes(memory.used).into(),
                format!("~{}", bytes(memory.coming)).into(),
                match memory.limit {
                    Some(limit) if memory.after() > limit => Text::toned(after, Tone::Bad),
                    _ => after.into(),
                },
                limit.into(),
            ],
        );
    }
    draw(out, &columns, sheet.style)?;
    // A question or bars come next.
    writeln!(out)
}

/// As redis-cli says it.
pub(super) fn balance_classic(out: &mut impl Write, view: &BalanceView) -> io::Result<()> {
    let weight: f64 = view.masters.iter().map(|master| master.weight).sum();
    writeln!(
        out,
        ">>> Rebalancing across {} nodes. Total weight = {weight:.2}",
        view.masters.len()
    )
}

/// What every master has, should have, and will have.
pub(super) fn balance_table(
    out: &mut impl Write,
    view: &BalanceView,
    sheet: Sheet,
) -> io::Result<()> {
    balance_classic(out, view)?;
    writeln!(out)?;
    let measure = view.measure;
    let mut columns = vec![
        Column::new("master", Align::Left),
        Column::new("weight", Align::Right),
        Column::new(measure.word(), Align::Right),
        Column::new("share", Align::Right),
        Column::new("after", Align::Right),
    ];
    for master in &view.masters {
        push(
            &mut columns,
            [
                master.node.to_string().into(),
                format!("{:.2}", master.weight).into(),
                measure.amount(master.before).into(),
                measure.amount(master.expected).into(),
                measure.amount(master.after).into(),
            ],
        );
    }
    draw(out, &columns, sheet.style)?;
    writeln!(out)
}

/// What has moved, in one line.
pub(super) fn summary(slots: usize, tally: &MoveStats, took: Duration) -> String {
    let mut longest = Vec::new();
    if tally.longest_open > Duration::ZERO {
        longest.push(format!("longest call {}", millis(tally.longest_call)));
        longest.push(format!(
            "longest time a slot was open {} (mean {})",
            millis(tally.longest_open),
            millis(tally.mean_open())
        ));
    }
    if tally.longest_job > Duration::ZERO {
        longest.push(format!("longest job {}", millis(tally.longest_job)));
    }
    format!(
        "[OK] {} and {} moved in {} ({} keys/s, {}/s); {}.",
        counted(slots as u64, "slot"),
        counted(tally.keys, "key"),
        millis(took),
        thousands(per_second(tally.keys, took)),
        bytes(per_second(tally.bytes, took)),
        longest.join(", "),
    )
}

/// What has moved, as a small table.
pub(super) fn summary_table(
    out: &mut impl Write,
    slots: usize,
    tally: &MoveStats,
    took: Duration,
    style: Style,
) -> io::Result<()> {
    let mut cells = vec![
        ("slots", thousands(slots as u64)),
        ("keys", thousands(tally.keys)),
        ("bytes", bytes(tally.bytes)),
        ("time", millis(took)),
        ("keys/s", thousands(per_second(tally.keys, took))),
    ];
    if tally.longest_open > Duration::ZERO {
        cells.push(("longest call", millis(tally.longest_call)));
        cells.push(("mean open", millis(tally.mean_open())));
        cells.push(("longest open", millis(tally.longest_open)));
    }
    if tally.longest_job > Duration::ZERO {
        cells.push(("longest job", millis(tally.longest_job)));
    }
    let columns = cells.into_iter().map(|(title, value)| {
        let mut column = Column::new(title, Align::Right);
        column.cells.push(Text::from(value));
        column
    });
    draw(out, &columns.collect::<Vec<_>>(), style)
}

pub(super) fn per_second(count: u64, took: Duration) -> u64 {
    (count as f64 / took.as_secs_f64().max(0.001)) as u64
}

pub(super) fn millis(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1000.0),
        seconds => format!("{seconds:.1} s"),
    }
}

impl Ui {
    /// The plan.
    pub fn moves(&self, view: &MovesView) -> io::Result<()> {
        self.progress().abandon();
        self.progress().plan(view);
        self.result(|out| match self.format {
            Format::Table(sheet) => table(out, view, sheet),
            Format::Json => super::json::moves(out, view),
            Format::Classic(_) | Format::Prometheus | Format::Nagios => classic(out, view),
        })
    }

    /// A plan that is only a part of what a command does: each pair on one line.
    pub fn moves_away(&self, view: &MovesView) -> io::Result<()> {
        let Format::Classic(_) = self.format else {
            return self.moves(view);
        };
        self.progress().plan(view);
        self.result(|out| {
            view.moves.iter().try_for_each(|one| {
                let PlannedMove {
                    from, to, slots, ..
                } = one;
                let count = counted(slots.count() as u64, "slot");
                writeln!(out, ">>> {count} from {from} to {to}: {slots}")
            })
        })
    }

    /// Where the masters stand.
    pub fn balance(&self, view: &BalanceView) -> io::Result<()> {
        self.progress().abandon();
        self.result(|out| match self.format {
            Format::Table(sheet) => balance_table(out, view, sheet),
            Format::Json => super::json::balance(out, view),
            Format::Classic(_) | Format::Prometheus | Format::Nagios => balance_classic(out, view),
        })
    }

    /// What has moved.
    pub fn moved(&self, slots: usize, tally: &MoveStats, took: Duration) -> io::Result<()> {
        self.progress().finish();
        let message = match self.format {
            Format::Table(sheet) => {
                self.result(|out| {
                    summary_table(out, slots, tally, took, sheet.style)?;
                    writeln!(out)
                })?;
                format!("[OK] {} moved.", counted(slots as u64, "slot"))
            }
            Format::Json => {
                self.result(|out| super::json::moved(out, slots, tally, took))?;
                summary(slots, tally, took)
            }
            Format::Classic(_) | Format::Prometheus | Format::Nagios => summary(slots, tally, took),
        };
        self.done(ExitCode::Done, &message)
    }

    /// Whether there is somebody to ask: natively, a terminal.
    pub fn can_ask(&self) -> bool {
        self.asked().may_answer()
    }

    /// Whether a person sits at a terminal, natively: somebody who may be offered things.
    pub fn is_with_person(&self) -> bool {
        self.asked() == super::prompt::Asked::Terminal && self.can_ask()
    }

    /// Lets one of a list be taken with the arrow keys; `None` where none was.
    pub async fn one_of(
        &self,
        title: &str,
        items: &[String],
    ) -> Result<Option<usize>, PromptError> {
        self.progress().finish();
        select::one_of(title, items).await
    }

    /// The same for some of a list.
    pub async fn some_of(
        &self,
        title: &str,
        items: &[String],
    ) -> Result<Option<Vec<usize>>, PromptError> {
        self.progress().finish();
        select::some_of(title, items).await
    }

    /// Asks for a line.
    pub async fn question(&self, question: &str) -> Result<String, PromptError> {
        self.progress().finish();
        let line = super::prompt::line(question, self.asked()).await?;
        Ok(line.trim().to_string())
    }
}
