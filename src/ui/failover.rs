//! Which replica is about to take over, and that it did.

use std::io::{self, Write};
use std::time::Duration;

use super::create::NodeName;
use super::move_slots::millis;
use super::style::{Tone, bytes, counted};
use super::summary::{Mark, Verdict};
use super::{Format, Ui};
use crate::cluster::node::{Addr, NodeId, Takeover};
use crate::cluster::slot::SlotSet;
use crate::event::FailedOver;

/// The plan of `failover`.
#[derive(Debug, Clone, PartialEq)]
pub struct FailoverView {
    /// Who takes over.
    pub replica: NodeName,
    /// From whom.
    pub master: NodeName,
    /// What.
    pub slots: SlotSet,
    /// How.
    pub how: Takeover,
    /// How many bytes of the master's stream it lacked when both were last seen; `None` where that
    /// is not known.
    pub behind: Option<u64>,
    /// Of how many replicas it was chosen; 1 where it was named.
    pub chosen_of: usize,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct FailoverReport {
    /// Who took over.
    pub replica: NodeName,
    /// From whom.
    pub master: NodeName,
    /// What.
    pub slots: SlotSet,
    /// From the command until the replica was seen to own the slots.
    pub held: Duration,
    /// How.
    pub how: Takeover,
}

impl From<&FailedOver> for FailoverReport {
    fn from(done: &FailedOver) -> Self {
        let name = |(id, addr): &(NodeId, Addr)| NodeName {
            id: *id,
            addr: addr.clone(),
            zone: None,
        };
        Self {
            replica: name(&done.replica),
            master: name(&done.master),
            slots: done.slots.clone(),
            held: done.held,
            how: done.how,
        }
    }
}

impl FailoverView {
    fn write(&self, out: &mut impl Write, strong: impl Fn(&str) -> String) -> io::Result<()> {
        let Self {
            replica,
            master,
            slots,
            ..
        } = self;
        let heading = format!("{replica} takes over from {master}");
        writeln!(
            out,
            "{}: {}",
            strong(&heading),
            counted(slots.count() as u64, "slot")
        )?;
        if self.chosen_of > 1 {
            let of = self.chosen_of;
            writeln!(out, "It has the most of the data, of {of} replicas.")?;
        }
        if let Some(behind) = self.behind.filter(|behind| *behind > 0) {
            writeln!(out, "It was {} behind when both were seen.", bytes(behind))?;
        }
        writeln!(
            out,
            "{}",
            match self.how {
                Takeover::Planned => {
                    "The master holds writes back until the replica has all of them: none is lost."
                }
                Takeover::Force => {
                    "Forced: the master is not asked. Writes that it has not sent to the replica ARE LOST."
                }
                Takeover::Takeover => {
                    "Takeover: nobody is asked, no majority of masters has to agree. Writes that the \
                     master has not sent to the replica ARE LOST; so may be those that another side of \
                     a split network has taken."
                }
            }
        )
    }
}

impl Ui {
    /// Who is about to take over.
    pub fn succession(&self, view: &FailoverView) -> io::Result<()> {
        self.progress().abandon();
        self.result(|out| match self.format {
            Format::Table(sheet) => {
                view.write(out, |text| sheet.style.tone(Tone::Strong, text))?;
                writeln!(out)
            }
            Format::Json => super::json::succession(out, view),
            Format::Classic(_) | Format::Prometheus | Format::Nagios => {
                view.write(out, |text| format!(">>> {text}"))
            }
        })
    }

    /// It has taken over.
    pub fn succeeded(&self, succeeded: &FailoverReport) -> io::Result<()> {
        self.progress().finish();
        let style = self.stdout_paint();
        self.result(|out| match self.format {
            Format::Json => super::json::succeeded(out, succeeded),
            _ => {
                let FailoverReport {
                    replica,
                    master,
                    slots,
                    held,
                    how,
                } = succeeded;
                let slots = counted(slots.count() as u64, "slot");
                let time = match how {
                    Takeover::Planned => format!("writes were held for {} at most", millis(*held)),
                    Takeover::Force | Takeover::Takeover => format!("it took {}", millis(*held)),
                };
                let text = format!("{replica} took over {slots} from {master}; {time}.");
                Verdict::new(Mark::Ok, text).write(out, style)
            }
        })
    }
}
