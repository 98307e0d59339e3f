//! What `ok-to-stop` found.

use std::io;

use super::create::NodeName;
use super::style::Style;
use super::summary::{Mark, Verdict};
use super::{Format, Ui, json};
use crate::cluster::slot::SlotSet;

/// Whether nodes can be stopped.
#[derive(Debug, Clone, PartialEq)]
pub struct OkToStopView {
    /// The nodes.
    pub stopping: Vec<NodeName>,
    /// What speaks against it; empty where nothing does.
    pub objections: Vec<Objection>,
}

/// Something that speaks against it.
#[derive(Debug, Clone, PartialEq)]
pub struct Objection {
    /// What it is about, kebab-case.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
    /// The slots it is about.
    pub slots: SlotSet,
}

impl Ui {
    /// The verdict.
    pub fn stopping(&self, view: &OkToStopView) -> io::Result<()> {
        let style = match self.format {
            Format::Table(sheet) => sheet.style,
            Format::Classic(style) => style,
            Format::Json => return self.result(|out| json::stopping(out, view)),
            Format::Prometheus | Format::Nagios => Style::Plain,
        };
        let names: Vec<String> = view.stopping.iter().map(ToString::to_string).collect();
        let names = names.join(", ");
        self.result(|out| {
            if view.objections.is_empty() {
                return Verdict::new(Mark::Ok, format!("{names}: ok to stop.")).write(out, style);
            }
            for objection in &view.objections {
                Verdict::new(Mark::Err, &objection.message).write(out, style)?;
            }
            Verdict::new(Mark::Err, format!("{names}: not ok to stop.")).write(out, style)
        })
    }
}
