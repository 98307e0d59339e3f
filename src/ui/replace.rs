//! Which node is about to be replaced by which, and how.

use std::io::{self, Write};

use super::Ui;
use super::create::NodeName;
use super::join::Before;
use super::style::{Tone, counted};
use super::{Format, json};

/// The plan of `replace-node`.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplaceView {
    /// Who goes.
    pub old: NodeName,
    /// What it is, in words: `a master with 5,462 slots`.
    pub what: String,
    /// Whether it answers, and so can be reset.
    pub answers: bool,
    /// Who comes.
    pub new: NodeName,
    /// What is done to that one before.
    pub before: Before,
    /// What is left to do, in order.
    pub steps: Vec<ReplaceStep>,
}

/// A step of a replacement.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplaceStep {
    /// The new node joins as a master without slots.
    Joins,
    /// It joins as a replica of that one, and gets its copy.
    Follows(NodeName),
    /// It takes over from the old one.
    TakesOver,
    /// The old one leaves.
    Leaves,
}

impl ReplaceStep {
    /// Its word in JSON.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Joins => "join",
            Self::Follows(_) => "replicate",
            Self::TakesOver => "take-over",
            Self::Leaves => "leave",
        }
    }
}

impl ReplaceView {
    fn write(&self, out: &mut impl Write, strong: impl Fn(&str) -> String) -> io::Result<()> {
        let Self { old, what, new, .. } = self;
        let heading = format!("Replacing {old}, {what}, by {new}");
        writeln!(out, "{}", strong(&heading))?;
        if self.before != Before::Nothing {
            writeln!(out, "   The new one {} before.", self.before.words())?;
        }
        for (number, step) in (1..).zip(&self.steps) {
            let text = match step {
                ReplaceStep::Joins => format!("{} joins as a master without slots", new.addr),
                ReplaceStep::Follows(master) => format!(
                    "{} joins as a replica of {}, and gets its copy",
                    new.addr, master.addr
                ),
                ReplaceStep::TakesOver => format!(
                    "{} takes over: writes are held for a moment and none is lost, no slot moves",
                    new.addr
                ),
                ReplaceStep::Leaves if self.answers => format!(
                    "{} is forgotten by all members, and reset: its copy and its id go",
                    old.addr
                ),
                ReplaceStep::Leaves => format!("{} is forgotten by all members", old.addr),
            };
            writeln!(out, "   {number}. {text}")?;
        }
        Ok(())
    }
}

impl Ui {
    /// Who is about to be replaced by whom.
    pub fn replacing(&self, view: &ReplaceView) -> io::Result<()> {
        self.progress().abandon();
        self.result(|out| match self.format {
            Format::Table(sheet) => {
                view.write(out, |text| sheet.style.tone(Tone::Strong, text))?;
                writeln!(out)
            }
            Format::Json => json::replacing(out, view),
            Format::Classic(_) | Format::Prometheus | Format::Nagios => {
                view.write(out, |text| format!(">>> {text}"))
            }
        })
    }
}

/// What a node is, by its role and its slots.
pub fn standing_words(slots: usize, follows: Option<&NodeName>, answers: bool) -> String {
    let dead = if answers { "" } else { " that does not answer" };
    match follows {
        Some(master) => format!("a replica of {}{dead}", master.addr),
        None if slots == 0 => format!("a master without slots{dead}"),
        None => format!("a master with {}{dead}", counted(slots as u64, "slot")),
    }
}
