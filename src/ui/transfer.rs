//! Keys that come from elsewhere: what is about to come, and what became of them.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::columns::{Align, Column, Text, draw};
use super::move_slots::per_second;
use super::style::{bytes, counted, plain, thousands};
use super::{Format, Ui, json};
use crate::exit_code::ExitCode;

/// What is about to come.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TransferPlan {
    /// From where: a server, a directory.
    pub from: String,
    /// How many keys there are, of which some may not be wanted.
    pub keys: u64,
    /// Where to: a node of the cluster.
    pub to: String,
    /// How many masters that has.
    pub masters: usize,
    /// Keys that are in the cluster already.
    pub present: u64,
    /// How it will be done, as sentences.
    pub notes: Vec<String>,
}

/// What became of all keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TransferView {
    /// What was done with them: `copied`, `moved`, `restored`.
    pub done: &'static str,
    /// How many were written.
    pub written: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// There already, the same.
    pub same: u64,
    /// Expired, or deleted, on their way.
    pub gone: u64,
    /// Deleted at the source.
    pub deleted: u64,
    /// In a file of a node that did not own their slots: passed over.
    pub strays: u64,
    /// Libraries of functions.
    pub functions: u64,
    /// Those that are not in the cluster as they should be, by reason.
    pub failed: Vec<FailedKeys>,
}

/// Keys that failed for one reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailedKeys {
    /// Its word.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<FailedKey>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailedKey {
    /// Its name.
    pub key: String,
    /// Why.
    pub why: String,
}

/// Both in JSON.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line<'a> {
    /// Before.
    TransferPlan(&'a TransferPlan),
    /// After.
    Report(&'a TransferView),
}

impl TransferPlan {
    fn text(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            ">>> {} of {} into the cluster of {} ({}, {})",
            counted(self.keys, "key"),
            plain(&self.from),
            self.to,
            counted(self.masters as u64, "master"),
            counted(self.present, "key"),
        )?;
        for note in &self.notes {
            writeln!(out, "    {}", plain(note))?;
        }
        Ok(())
    }
}

impl TransferView {
    /// How many failed.
    pub fn failures(&self) -> u64 {
        self.failed.iter().map(|failed| failed.count).sum()
    }

    /// All in one line.
    fn summary(&self, took: Duration) -> String {
        let mut more = Vec::new();
        for (count, what) in [
            (self.same, "were there already, the same"),
            (self.gone, "expired or were deleted meanwhile"),
            (
                self.strays,
                "were left-overs of moved slots and passed over",
            ),
        ] {
            if count > 0 {
                more.push(format!("{} {what}", thousands(count)));
            }
        }
        if self.functions > 0 {
            let libraries = match self.functions {
                1 => "1 library of functions".to_string(),
                count => format!("{count} libraries of functions"),
            };
            more.push(format!("{libraries} on every master"));
        }
        let more = match more.is_empty() {
            true => String::new(),
            false => format!("; {}", more.join(", ")),
        };
        format!(
            "{} {} ({}) in {:.1} s ({} keys/s, {}/s){more}.",
            counted(self.written, "key"),
            self.done,
            bytes(self.bytes),
            took.as_secs_f64(),
            thousands(per_second(self.written, took)),
            bytes(per_second(self.bytes, took)),
        )
    }

    fn failures_as_text(&self, out: &mut impl Write) -> io::Result<()> {
        for failed in &self.failed {
            writeln!(
                out,
                "[WARNING] {} failed ({}):",
                counted(failed.count, "key"),
                failed.reason
            )?;
            for one in &failed.examples {
                writeln!(out, "    {}: {}", plain(&one.key), plain(&one.why))?;
            }
            let named = failed.examples.len() as u64;
            if failed.count > named {
                writeln!(out, "    and {} more", thousands(failed.count - named))?;
            }
        }
        Ok(())
    }
}

impl Ui {
    /// What is about to come.
    pub fn transfer_plan(&self, plan: &TransferPlan) -> io::Result<()> {
        self.progress().finish();
        self.result(|out| match self.format {
            Format::Json => json::write_line(out, &Line::TransferPlan(plan)),
            _ => plan.text(out),
        })
    }

    /// What became of the keys, as far as it went.
    pub fn transferred(&self, view: &TransferView, took: Duration) -> io::Result<()> {
        self.progress().finish();
        self.result(|out| match self.format {
            Format::Json => json::write_line(out, &Line::Report(view)),
            Format::Table(sheet) => {
                let columns = [
                    (view.done, view.written),
                    ("the same", view.same),
                    ("gone", view.gone),
                    ("failed", view.failures()),
                ]
                .map(|(title, count)| {
                    let mut column = Column::new(title, Align::Right);
                    column.cells.push(Text::from(thousands(count)));
                    column
                });
                draw(out, &columns, sheet.style)?;
                writeln!(out)?;
                view.failures_as_text(out)
            }
            _ => view.failures_as_text(out),
        })?;
        let summary = view.summary(took);
        match view.failures() {
            0 => self.done(ExitCode::Done, &format!("[OK] {summary}")),
            count => self.done(
                ExitCode::Unhealthy,
                &format!("[ERR] {} failed. {summary}", counted(count, "key")),
            ),
        }
    }

    /// What became of the keys until it stopped; why it did is said elsewhere.
    pub fn transfer_stopped(&self, view: &TransferView, took: Duration) -> io::Result<()> {
        self.progress().abandon();
        self.result(|out| match self.format {
            Format::Json => json::write_line(out, &Line::Report(view)),
            _ => {
                view.failures_as_text(out)?;
                writeln!(out, "{}", view.summary(took))
            }
        })
    }
}
