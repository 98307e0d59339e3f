//! Backups: which node gives which master's data, and what came of it.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::columns::{Align, Column, Text, draw, push, total_width};
use super::create::NodeName;
use super::move_slots::per_second;
use super::node_table::shown_ranges;
use super::style::{bytes, counted, thousands};
use super::table::Sheet;
use super::{Format, Ui, json};
use crate::cluster::node::Role;
use crate::cluster::slot::SlotSet;
use crate::exit_code::ExitCode;

/// A backup, planned or done.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupView {
    /// Its parts, by their lowest slots.
    pub shards: Vec<ShardView>,
    /// The directory.
    pub directory: String,
}

/// The data of one master.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardView {
    /// The master.
    pub master: NodeName,
    /// Its slots.
    pub slots: SlotSet,
    /// Who gives them.
    pub source: NodeName,
    /// What that is.
    pub role: Role,
    /// What came; `None` in a plan.
    pub fetched: Option<Fetched>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// Its name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Its keys.
    pub keys: u64,
    /// In hex digits.
    pub sha256: String,
}

/// A part in JSON.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line<'a> {
    /// Who will give what.
    PlannedFile {
        master: String,
        source: String,
        source_addr: String,
        source_role: &'static str,
        slots: Vec<[u16; 2]>,
    },
    /// What is there.
    File {
        master: String,
        source: String,
        file: &'a str,
        bytes: u64,
        keys: u64,
        sha256: &'a str,
    },
}

impl BackupView {
    fn sums(&self) -> (u64, u64) {
        let fetched = || {
            self.shards
                .iter()
                .filter_map(|shard| shard.fetched.as_ref())
        };
        (
            fetched().map(|one| one.keys).sum(),
            fetched().map(|one| one.bytes).sum(),
        )
    }

    fn json(&self, out: &mut impl Write) -> io::Result<()> {
        for shard in &self.shards {
            let (master, source) = (shard.master.id.to_string(), shard.source.id.to_string());
            let object = match &shard.fetched {
                None => Line::PlannedFile {
                    master,
                    source,
                    source_addr: shard.source.addr.to_string(),
                    source_role: shard.role.word(),
                    slots: shard
                        .slots
                        .ranges()
                        .iter()
                        .map(|range| [range.start().number(), range.end().number()])
                        .collect(),
                },
                Some(fetched) => Line::File {
                    master,
                    source,
                    file: &fetched.file,
                    bytes: fetched.bytes,
                    keys: fetched.keys,
                    sha256: &fetched.sha256,
                },
            };
            json::write_line(out, &object)?;
        }
        Ok(())
    }

    fn classic(&self, out: &mut impl Write) -> io::Result<()> {
        for shard in &self.shards {
            match &shard.fetched {
                None => writeln!(
                    out,
                    ">>> Data of {} (slots:{}) from {} {}",
                    shard.master,
                    shard.slots,
                    shard.role.word(),
                    shard.source
                )?,
                Some(fetched) => writeln!(
                    out,
                    "{}: {} keys, {} bytes, sha256 {}",
                    fetched.file, fetched.keys, fetched.bytes, fetched.sha256
                )?,
            }
        }
        Ok(())
    }

    fn table(&self, out: &mut impl Write, sheet: Sheet) -> io::Result<()> {
        let mut columns = vec![
            Column::new("data of", Align::Left),
            Column::new("from", Align::Left),
            Column::new("", Align::Left),
        ];
        for shard in &self.shards {
            push(
                &mut columns,
                [
                    shard.master.to_string().into(),
                    shard.source.to_string().into(),
                    shard.role.word().into(),
                ],
            );
        }
        if self.shards.iter().any(|shard| shard.fetched.is_some()) {
            let mut keys = Column::new("keys", Align::Right);
            let mut size = Column::new("size", Align::Right);
            for fetched in self.shards.iter().map(|shard| shard.fetched.as_ref()) {
                keys.cells
                    .push(fetched.map_or(Text::from(""), |one| thousands(one.keys).into()));
                size.cells
                    .push(fetched.map_or(Text::from(""), |one| bytes(one.bytes).into()));
            }
            columns.extend([keys, size]);
        } else {
            let room = sheet
                .width
                .saturating_sub(total_width(&columns) + 2)
                .max(12);
            let mut slots = Column::new("slots", Align::Left);
            slots.cells = self
                .shards
                .iter()
                .map(|shard| shown_ranges(&shard.slots.ranges(), room).into())
                .collect();
            columns.push(slots);
        }
        draw(out, &columns, sheet.style)?;
        writeln!(out)
    }
}

impl Ui {
    /// Who will give what, or what came.
    pub fn backup(&self, view: &BackupView) -> io::Result<()> {
        self.progress().finish();
        self.result(|out| match self.format {
            Format::Table(sheet) => view.table(out, sheet),
            Format::Json => view.json(out),
            Format::Classic(_) | Format::Prometheus | Format::Nagios => view.classic(out),
        })
    }

    /// A backup is whole.
    pub fn backed_up(&self, view: &BackupView, took: Duration) -> io::Result<()> {
        self.backup_ends(view, took, "read back and verified")
    }

    /// A backup is as it was written.
    pub fn verified(&self, view: &BackupView, took: Duration) -> io::Result<()> {
        self.backup_ends(view, took, "as they were written")
    }

    fn backup_ends(&self, view: &BackupView, took: Duration, how: &str) -> io::Result<()> {
        self.backup(view)?;
        let (keys, size) = view.sums();
        let message = format!(
            "[OK] {} of {} in {} ({}), {how}; took {:.1} s ({}/s).",
            counted(keys, "key"),
            counted(view.shards.len() as u64, "master"),
            view.directory,
            bytes(size),
            took.as_secs_f64(),
            bytes(per_second(size, took)),
        );
        self.done(ExitCode::Done, &message)
    }
}
