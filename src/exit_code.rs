//! The exit codes. Scripts rely on them.

use std::process::ExitCode as ProcessExitCode;

/// The result of a run of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done; or healthy.
    Done = 0,
    /// `check` found errors, or its `--wait` ran out.
    Unhealthy = 1,
    /// Wrong usage.
    Usage = 2,
    /// Refused before anything was changed: a precondition does not hold.
    Refused = 3,
    /// No seed could be reached, authenticated or spoken to.
    Unreachable = 4,
    /// Declined, or consent was needed and stdin is not a terminal.
    NotConfirmed = 5,
    /// A change stopped part-way.
    Partial = 6,
    /// Interrupted by a signal.
    Interrupted = 130,
}

impl From<ExitCode> for ProcessExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
