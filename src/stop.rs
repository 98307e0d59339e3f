//! What stops a command: the exit code, the error that is printed once, and the commands that resume it.

use std::io;

use crate::exit_code::ExitCode;

/// How a command ends: with a code of its own, or because something stopped it.
pub type CommandResult = Result<ExitCode, Stop>;

/// A command line as an argument vector, the program's name first.
pub type CommandLine = Vec<String>;

/// What stopped a command.
#[derive(Debug)]
pub struct Stop {
    /// The exit code.
    pub code: ExitCode,
    /// What is printed, once.
    pub error: anyhow::Error,
    /// The commands that resume what was stopped, in this order. Slots for several targets need several commands.
    pub resume: Vec<CommandLine>,
    /// What the same command would do.
    pub same_command: SameCommand,
}

/// What the same command would do after a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameCommand {
    /// It finishes the work, if there is no command to resume it.
    MayFinish,
    /// It would stop at the same place, or refuse.
    StopsAgain,
}

impl Stop {
    /// A stop with this exit code.
    pub(crate) fn new(code: ExitCode, error: impl Into<anyhow::Error>) -> Self {
        Self {
            code,
            error: error.into(),
            resume: Vec::new(),
            same_command: SameCommand::MayFinish,
        }
    }

    /// Wrong usage.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::new(ExitCode::Usage, error)
    }

    /// A precondition does not hold; nothing was changed.
    pub(crate) fn refused(error: impl Into<anyhow::Error>) -> Self {
        Self::new(ExitCode::Refused, error)
    }

    /// The user declined, or could not be asked; nothing was changed.
    pub(crate) fn not_confirmed(error: impl Into<anyhow::Error>) -> Self {
        Self::new(ExitCode::NotConfirmed, error)
    }

    /// A change stopped part-way.
    pub(crate) fn partial(error: impl Into<anyhow::Error>) -> Self {
        Self::new(ExitCode::Partial, error)
    }

    /// Ctrl-C, SIGTERM or SIGHUP.
    pub(crate) fn interrupted(error: impl Into<anyhow::Error>) -> Self {
        Self::new(ExitCode::Interrupted, error)
    }

    /// The same, resumed by these commands and no others.
    pub(crate) fn with_resume(self, resume: impl IntoIterator<Item = CommandLine>) -> Self {
        Self {
            resume: resume.into_iter().collect(),
            ..self
        }
    }
}

impl From<io::Error> for Stop {
    /// Results could not be written.
    fn from(error: io::Error) -> Self {
        let error = anyhow::Error::new(error).context("standard output can't be written");
        Self::new(ExitCode::Unhealthy, error)
    }
}
