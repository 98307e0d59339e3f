//! The lines of redis-trib.rb and redis-cli, for the scripts that read them.
//!
//! Wording, order and indentation are redis-trib.rb 4.0's where it had the line, and redis-cli's
//! where it did not. What those two never said follows after their lines, never between them.

mod backup;
mod check;
mod create;
mod dialect;
mod fix;
mod join;
mod leave;
mod move_slots;
mod set_timeout;

use std::io::{self, Write};

use super::style::{Style, Tone};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::slot::SlotSet;

pub(super) use backup::backup;
#[cfg(test)]
pub(super) use check::check;
pub(super) use check::{Nodes, check_of, checked, info, sums_of};
pub(super) use create::layout;
pub(super) use dialect::Dialect;
pub(super) use fix::fixed;
pub(super) use join::joining;
pub(super) use leave::leaving;
pub(super) use move_slots::{balance, balance_moves, moved, moves, moves_by_pair};
pub(super) use set_timeout::timeouts;

/// `>>> Check for open slots...`.
pub(super) fn heading(out: &mut impl Write, text: &str, style: Style) -> io::Result<()> {
    writeln!(out, "{}", style.tone(Tone::Strong, &format!(">>> {text}")))
}

/// `M: 1977c4d47bfbed850375b2c40d798e4b37e2c070 10.0.0.3:6379`.
fn head(out: &mut impl Write, role: Role, id: NodeId, addr: &str, style: Style) -> io::Result<()> {
    let letter = match role {
        Role::Master => "M:",
        Role::Replica => "S:",
    };
    writeln!(out, "{} {id} {addr}", style.tone(Tone::Strong, letter))
}

/// `   slots:0-5460 (5461 slots) master`.
fn slots_line(
    out: &mut impl Write,
    slots: &SlotSet,
    flags: &str,
    dialect: Dialect,
) -> io::Result<()> {
    let count = slots.count();
    writeln!(
        out,
        "   slots:{} ({count} slots) {flags}",
        dialect.slots(slots)
    )
}
