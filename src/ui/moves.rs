//! What `reshard` and its kin are about to move, and what they have moved.

use std::io::{self, IsTerminal};
use std::time::Duration;

use super::layout::NodeName;
use super::paint::{bytes, counted, plain};
use super::{Format, Ui};
use crate::cluster::slot::SlotSet;
use crate::event::Tally;
use crate::exit_code::ExitCode;

/// A plan of moves, as far as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct MovesView {
    /// From whom to whom, by the lowest slot.
    pub moves: Vec<PlannedMove>,
    /// What that makes of the targets' memory.
    pub targets: Vec<TargetMemory>,
    /// How slots are moved, and why so.
    pub strategy: String,
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

impl Ui {
    /// The plan.
    pub fn moves(&self, view: &MovesView) -> io::Result<()> {
        let slots: usize = view.moves.iter().map(|one| one.slots.count()).sum();
        let mut text = String::new();
        if let Format::Json = self.format {
            return self.result(|out| super::json::moves(out, view));
        }
        text += &format!(
            "Ready to move {}, {}:\n",
            counted(slots as u64, "slot"),
            view.strategy
        );
        for one in &view.moves {
            text += &format!(
                "  {:>6} from {} to {}: {}\n",
                one.slots.count(),
                one.from,
                one.to,
                one.slots
            );
        }
        for memory in &view.targets {
            let after = memory.used.saturating_add(memory.coming);
            text += &format!(
                "  memory of {}: {} now, about {} coming, {} after{}\n",
                memory.node,
                bytes(memory.used),
                bytes(memory.coming),
                bytes(after),
                match memory.limit {
                    Some(limit) => format!(" of {}", bytes(limit)),
                    None => String::new(),
                }
            );
        }
        self.result(|out| io::Write::write_all(out, text.as_bytes()))
    }

    /// What has moved.
    pub fn moved(&self, slots: usize, tally: &Tally, took: Duration) -> io::Result<()> {
        let seconds = took.as_secs_f64();
        let message = format!(
            "[OK] {} and {} moved in {seconds:.1} s ({:.0} keys/s, {}/s); longest call {:.1} ms, \
             longest time a slot was open {:.1} ms.",
            counted(slots as u64, "slot"),
            counted(tally.keys, "key"),
            tally.keys as f64 / seconds.max(0.001),
            bytes((tally.bytes as f64 / seconds.max(0.001)) as u64),
            tally.longest_call.as_secs_f64() * 1000.0,
            tally.longest_open.as_secs_f64() * 1000.0,
        );
        self.done(ExitCode::Done, &plain(&message))
    }

    /// Whether there is a terminal to ask on.
    pub fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks for a line on the terminal.
    pub async fn question(&self, question: &str) -> Result<String, super::PromptError> {
        self.progress().finish();
        let line = super::prompt::line(question).await?;
        Ok(line.trim().to_string())
    }
}
