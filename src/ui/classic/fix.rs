//! The steps of `fix`.

use std::io::{self, Write};

use crate::report::FixLine;
use crate::ui::style::plain;

/// A step that was carried out. Slots that got an owner have the lines of redis-cli.
pub(in crate::ui) fn fixed(out: &mut impl Write, line: &FixLine, owner: &str) -> io::Result<()> {
    if matches!(line.word, "assign" | "claim") {
        let mut slots = line.slots.iter();
        return slots.try_for_each(|slot| writeln!(out, ">>> Covering slot {slot} with {owner}"));
    }
    writeln!(out, ">>> {}", plain(&line.sentence()))
}
