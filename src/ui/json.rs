//! JSON for programs. Field names are a contract: fields may be added, none is renamed or dropped.
//!
//! Commands that read write one document on one line ([`document`]); commands that change a cluster
//! write one object on each line, told apart by `event`, the last of them `done` ([`stream`]).

mod document;
mod line;
mod stream;

use std::io::{self, Write};

use serde::Serialize;

use super::create::NodeName;
use super::style::plain;
use crate::cluster::slot::{SlotRange, SlotSet};
use crate::exit_code::ExitCode;

pub(super) use document::{alive, check, info, stopping};
pub(super) use stream::{
    added, balance, called, done, event, joining, layout, leaving, mended, moved, moves, remedies,
    replacing, succeeded, succession, timeout_set, timeouts,
};

/// A range of slots, both ends included: `[0, 5460]`.
type Range = [u16; 2];

/// A node of a plan.
#[derive(Debug, Serialize)]
struct Name {
    id: String,
    addr: String,
    zone: Option<String>,
}

pub(super) fn write_line(out: &mut impl Write, document: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, document)?;
    writeln!(out)
}

/// The document of a command that reads and fails.
pub(super) fn error(
    out: &mut impl Write,
    command: &str,
    code: ExitCode,
    error: &anyhow::Error,
) -> io::Result<()> {
    let document = serde_json::json!({
        "format": format!("redis-trib/{command}"),
        "version": 1,
        "error": { "code": code as u8, "message": plain(&format!("{error:#}")) },
    });
    write_line(out, &document)
}

fn name(name: &NodeName) -> Name {
    Name {
        id: name.id.to_string(),
        addr: name.addr.to_string(),
        zone: name.zone.as_deref().map(plain),
    }
}

fn range(range: SlotRange) -> Range {
    [range.start().number(), range.end().number()]
}

fn ranges(slots: &SlotSet) -> Vec<Range> {
    slots.ranges().into_iter().map(range).collect()
}
