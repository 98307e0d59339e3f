//! What `fix` is about to do, what it has done, and what it leaves alone.

use std::io::{self, Write};

use super::style::{Style, Tone, counted, plain};
use super::{Format, Ui, json};
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;
use crate::event::FixedStep;

/// A plan of remedies, as far as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FixView {
    /// What is done next, in order.
    pub remedies: Vec<FixLine>,
    /// What is not done, and why.
    pub refused: Vec<FixLine>,
    /// Keys where they don't belong.
    pub strays: Vec<FixLine>,
    /// What is not broken, and may be better.
    pub warnings: Vec<FixLine>,
}

/// A remedy, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixLine {
    /// Its word, for programs.
    pub word: &'static str,
    /// The slots that it is about, if any.
    pub slots: SlotSet,
    /// The nodes that it is about.
    pub nodes: Vec<NodeId>,
    /// The keys that it is about.
    pub keys: u64,
    /// What it is, in words that follow the slots.
    pub text: String,
}

impl From<&FixedStep> for FixLine {
    fn from(step: &FixedStep) -> Self {
        Self {
            word: step.word,
            slots: step.slots.clone(),
            nodes: step.nodes.clone(),
            keys: step.keys,
            text: step.text.clone(),
        }
    }
}

impl FixLine {
    /// `slots 5-8: closed on 127.0.0.1:7000 (1977c4d4): nothing is on its way there`.
    pub fn sentence(&self) -> String {
        // Findings begin with their slots themselves.
        if self.slots.is_empty() || self.text.starts_with("slot") {
            return self.text.clone();
        }
        let plural = if self.slots.count() == 1 { "" } else { "s" };
        format!("slot{plural} {}: {}", shown(&self.slots), self.text)
    }
}

/// Ranges, and how many more there are after some.
fn shown(slots: &SlotSet) -> String {
    const SHOWN: usize = 12;
    let ranges = slots.ranges();
    let text: Vec<String> = ranges.iter().take(SHOWN).map(ToString::to_string).collect();
    match ranges.len().saturating_sub(SHOWN) {
        0 => text.join(","),
        more => format!(
            "{} and {}",
            text.join(","),
            counted(more as u64, "range more").replace("range mores", "ranges more")
        ),
    }
}

impl Ui {
    /// The plan of `fix`.
    pub fn remedies(&self, view: &FixView) -> io::Result<()> {
        self.progress().abandon();
        self.result(|out| match self.format {
            Format::Json => json::remedies(out, view),
            Format::Table(sheet) => write(out, view, sheet.style),
            Format::Classic(style) => write(out, view, style),
            Format::Prometheus | Format::Nagios => write(out, view, Style::Plain),
        })
    }

    /// A remedy that was carried out.
    pub fn mended(&self, line: &FixLine) -> io::Result<()> {
        self.result(|out| match self.format {
            Format::Json => json::mended(out, line),
            Format::Table(sheet) => done(out, line, sheet.style),
            Format::Classic(style) => done(out, line, style),
            Format::Prometheus | Format::Nagios => done(out, line, Style::Plain),
        })
    }
}

fn done(out: &mut impl Write, line: &FixLine, style: Style) -> io::Result<()> {
    let mark = style.tone(Tone::Good, "[OK]");
    writeln!(out, "{mark} {}", plain(&line.sentence()))
}

fn write(out: &mut impl Write, view: &FixView, style: Style) -> io::Result<()> {
    let lists = [
        ("To be done:", &view.remedies, Tone::Strong),
        ("Not mended:", &view.refused, Tone::Bad),
        ("Left alone:", &view.strays, Tone::Warning),
        (
            "Not broken, but for a person to look at:",
            &view.warnings,
            Tone::Warning,
        ),
    ];
    for (title, lines, tone) in lists {
        if lines.is_empty() {
            continue;
        }
        writeln!(out, "{}", style.tone(tone, title))?;
        for line in lines {
            writeln!(out, "  {}", plain(&line.sentence()))?;
        }
    }
    Ok(())
}
