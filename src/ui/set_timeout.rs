//! What `set-timeout` is about to set, and has set.

use std::io::{self, Write};
use std::time::Duration;

use super::columns::{Align, Column, Text, draw, push};
use super::create::NodeName;
use super::style::{Tone, plain};
use super::{Format, Ui, json};
use crate::exit_code::ExitCode;

/// What all nodes have now, and shall have.
#[derive(Debug, Clone, PartialEq)]
pub struct SetTimeoutView {
    /// What they shall have, in whole milliseconds.
    pub wanted: Duration,
    /// What they have.
    pub nodes: Vec<Timeout>,
}

/// What one node has.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeout {
    /// The node.
    pub node: NodeName,
    /// Its timeout; `None` where it does not tell, an error where it does not answer.
    pub now: Result<Option<Duration>, String>,
}

/// What came of telling a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeoutSet {
    /// It has it, and has it on disk.
    Persisted,
    /// It has it until it is restarted; why it could not write it down.
    InForce(String),
    /// It has not.
    Failed(String),
}

impl Ui {
    /// The plan.
    pub fn timeouts(&self, view: &SetTimeoutView) -> io::Result<()> {
        self.result(|out| match self.format {
            Format::Json => json::timeouts(out, view),
            Format::Table(sheet) => {
                let mut columns = vec![
                    Column::new("node", Align::Left),
                    Column::new("id", Align::Left),
                    Column::new("timeout now", Align::Right),
                    Column::new("after", Align::Right),
                ];
                for Timeout { node, now } in &view.nodes {
                    push(
                        &mut columns,
                        [
                            node.addr.to_string().into(),
                            node.id.short().into(),
                            match now {
                                Ok(Some(now)) => shown(*now).into(),
                                Ok(None) => "?".into(),
                                Err(_) => Text::toned("no answer".to_string(), Tone::Bad),
                            },
                            match now {
                                Ok(_) => shown(view.wanted).into(),
                                Err(_) => "-".into(),
                            },
                        ],
                    );
                }
                draw(out, &columns, sheet.style)?;
                writeln!(out)
            }
            Format::Classic(_) | Format::Prometheus | Format::Nagios => {
                writeln!(
                    out,
                    ">>> Reconfiguring node timeout in every cluster node..."
                )
            }
        })
    }

    /// One node was told.
    pub fn timeout_set(&self, node: &NodeName, outcome: &TimeoutSet) -> io::Result<()> {
        if let Format::Json = self.format {
            return self.result(|out| json::timeout_set(out, node, outcome));
        }
        match outcome {
            TimeoutSet::Persisted | TimeoutSet::InForce(_) => {
                self.result(|out| writeln!(out, "*** New timeout set for {}", node.addr))?;
            }
            TimeoutSet::Failed(_) => {}
        }
        if let TimeoutSet::InForce(why) = outcome {
            self.warn(&format!("{node} has not written it down: {}", plain(why)));
        }
        Ok(())
    }

    /// All were told.
    pub fn timeouts_set(&self, set: usize, failed: usize) -> io::Result<()> {
        match self.format {
            Format::Json => Ok(()),
            _ => self
                .result(|out| writeln!(out, ">>> New node timeout set. {set} OK, {failed} ERR.")),
        }
    }

    /// The end of a command whose lines have said it all: a line of JSON.
    pub fn ended(&self, code: ExitCode, message: &str) -> io::Result<()> {
        match self.format {
            Format::Json => self.done(code, message),
            _ => Ok(()),
        }
    }
}

fn shown(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}
