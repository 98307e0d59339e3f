//! What stops a command: the exit code and the error that is printed once.

use std::io;

use crate::exit_code::ExitCode;

/// How a command ends: with a code of its own, or because something stopped it.
pub type CommandResult = Result<ExitCode, Stop>;

/// What stopped a command.
#[derive(Debug)]
pub struct Stop {
    /// The exit code that says so.
    pub code: ExitCode,
    /// What to tell the user, once.
    pub error: anyhow::Error,
}

impl Stop {
    /// Wrong usage.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: ExitCode::Usage,
            error: error.into(),
        }
    }

    /// A precondition does not hold; nothing was changed.
    pub(crate) fn refused(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: ExitCode::Refused,
            error: error.into(),
        }
    }

    /// The change was not wanted, or nobody could be asked; nothing was changed.
    pub(crate) fn not_confirmed(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: ExitCode::NotConfirmed,
            error: error.into(),
        }
    }

    /// A change stopped part-way.
    pub(crate) fn partial(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: ExitCode::Partial,
            error: error.into(),
        }
    }

    /// Ctrl-C, or a signal like it.
    pub(crate) fn interrupted(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: ExitCode::Interrupted,
            error: error.into(),
        }
    }
}

impl From<io::Error> for Stop {
    /// Results could not be written.
    fn from(error: io::Error) -> Self {
        Self {
            code: ExitCode::Unhealthy,
            error: anyhow::Error::new(error).context("standard output can't be written"),
        }
    }
}
