//! The settings that `slots --enable-stats` changes.

use std::io::{self, Write};

use crate::report::StatisticsView;
use crate::shell::command_line;
use crate::ui::style::plain;

/// What changes, and how to restore it by hand.
pub(in crate::ui) fn statistics(out: &mut Vec<u8>, view: &StatisticsView) -> io::Result<()> {
    for one in &view.nodes {
        let now = plain(&one.now);
        writeln!(
            out,
            "{}: cluster-slot-stats-enabled is {now}; on for the sample, then {now} again",
            one.node
        )?;
    }
    writeln!(out, "If redis-trib is killed, this restores it:")?;
    for words in &view.restore {
        writeln!(out, "  {}", plain(&command_line(words)))?;
    }
    writeln!(out)
}
