//! Tables for a person at a terminal.

mod backup;
mod check;
mod columns;
mod create;
mod data;
mod info;
mod join;
mod leave;
mod move_slots;
mod nodes;
mod set_timeout;
mod slots;
mod watch;

use super::style::Style;

pub(super) use backup::backup;
pub(super) use check::{check, check_brief};
pub(super) use create::layout;
pub(super) use data::transferred;
pub(super) use info::info;
pub(super) use join::joining;
pub(super) use leave::leaving;
pub(super) use move_slots::{balance, moved, moves};
pub(super) use set_timeout::timeouts;
pub(super) use slots::heat;
pub(super) use watch::frame;

/// Where a table goes: how wide it is, and whether it has colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sheet {
    pub(super) width: usize,
    pub(super) style: Style,
}
