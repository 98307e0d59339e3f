//! The exit codes. Scripts rely on them. docs/automation.md has the doc comments as a table.

use std::process::ExitCode as ProcessExitCode;

/// The result of a run of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done; or healthy (warnings are allowed, unless `--strict` is given).
    Done = 0,
    /// `check` found errors, or its `--wait` ran out; `call`: a node failed; `backup --verify` found damage;
    /// `import`, `restore`: some keys failed, differ, or were evicted; `where`: a slot has no owner that answers;
    /// `slots`: some masters could not be measured; `drift`: nodes differ, or one could not be read;
    /// `verify`: keys differ, or could not be compared; `config check`: found faults;
    /// stdout could not be written.
    Unhealthy = 1,
    /// Wrong usage.
    Usage = 2,
    /// Refused before anything was changed: a precondition does not hold; `ok-to-stop`: the nodes cannot be
    /// stopped now.
    Refused = 3,
    /// No given node could be reached, authenticated or spoken to.
    Unreachable = 4,
    /// Not confirmed: declined, `--yes` is needed because stdin is not a terminal, or `call` needs
    /// `--allow-dangerous`.
    NotConfirmed = 5,
    /// A change stopped part-way; the output says what is left to do.
    Partial = 6,
    /// Interrupted by a signal.
    Interrupted = 130,
}

impl From<ExitCode> for ProcessExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
