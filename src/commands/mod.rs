//! The subcommands. Each reads the same: discover → request → plan → show → confirm → execute →
//! verify.

pub mod add_node;
pub mod apply;
pub mod backup;
pub mod call;
pub mod check;
pub mod completions;
pub mod create;
pub mod del_node;
pub mod failover;
pub mod fix;
pub mod import;
pub mod info;
mod joining;
pub(crate) mod journal;
mod leaving;
pub mod man;
mod mending;
mod moving;
pub mod ok_to_stop;
pub mod rebalance;
mod recruit;
pub mod replace_node;
pub mod reshard;
pub mod restore;
mod session;
pub mod set_timeout;
mod signals;
mod succession;
mod transferring;
mod zones;

use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv6Addr;
use std::path::Path;

use crate::client::{ClientError, Fault};
use crate::cluster::node::Addr;
use crate::cluster::slot::{Slot, SlotRange, SlotSet};
use crate::discover::DiscoverError;
use crate::exit_code::ExitCode;
use crate::resolve::ResolveError;
use crate::seed::{self, Seed};
use crate::ui::{Answer, PromptError, Ui};

/// More than any file holds that is named on a command line, but for backups.
const LARGEST_FILE: u64 = 64 << 20;

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
    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: ExitCode::Usage,
            error: error.into(),
        }
    }

    /// A precondition does not hold; nothing was changed.
    fn refused(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: ExitCode::Refused,
            error: error.into(),
        }
    }

    /// The change was not wanted, or nobody could be asked; nothing was changed.
    fn not_confirmed(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: ExitCode::NotConfirmed,
            error: error.into(),
        }
    }

    /// A change stopped part-way.
    fn partial(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: ExitCode::Partial,
            error: error.into(),
        }
    }

    /// Ctrl-C, or a signal like it.
    fn interrupted(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: ExitCode::Interrupted,
            error: error.into(),
        }
    }
}

impl From<ResolveError> for Stop {
    fn from(error: ResolveError) -> Self {
        let code = match &error {
            ResolveError::NotResolved { .. } => ExitCode::Unreachable,
            ResolveError::WrongNumber { .. } | ResolveError::MiscountedAddresses { .. } => {
                ExitCode::Refused
            }
        };
        Self {
            code,
            error: error.into(),
        }
    }
}

impl From<DiscoverError> for Stop {
    fn from(error: DiscoverError) -> Self {
        let code = match &error {
            // They were reached, and they answered.
            DiscoverError::NobodyAnswers(errors)
                if errors.iter().all(|e| e.fault == Fault::ClusterDisabled) =>
            {
                ExitCode::Refused
            }
            DiscoverError::NobodyAnswers(_) | DiscoverError::Unreadable { .. } => {
                ExitCode::Unreachable
            }
            DiscoverError::TwoClusters(..) => ExitCode::Refused,
        };
        Self {
            code,
            error: error.into(),
        }
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        let code = match error.fault {
            Fault::ClusterDisabled => ExitCode::Refused,
            _ => ExitCode::Unreachable,
        };
        Self {
            code,
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

/// Asks for consent to a change; anything but a yes is a stop, with nothing changed.
async fn consent(ui: &Ui, question: &str, about: &str) -> Result<(), Stop> {
    match ui.confirm(question, about).await {
        Ok(Answer::Accepted) => Ok(()),
        Ok(Answer::Declined) => Err(Stop::not_confirmed(anyhow::anyhow!(
            "declined: nothing was changed"
        ))),
        Err(PromptError::NoTerminal) => Err(Stop::not_confirmed(anyhow::anyhow!(
            "there is no terminal to ask on: --yes says yes; nothing was changed"
        ))),
        Err(PromptError::Interrupted) => Err(Stop::interrupted(anyhow::anyhow!(
            "interrupted: nothing was changed"
        ))),
        Err(error) => Err(Stop::not_confirmed(anyhow::anyhow!(
            "{error}: nothing was changed"
        ))),
    }
}

/// The text of a file that was named. One without an end (a device) is refused, not read.
fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?
        .take(LARGEST_FILE + 1)
        .read_to_string(&mut text)?;
    match u64::try_from(read) {
        Ok(0..=LARGEST_FILE) => Ok(text),
        _ => Err(io::Error::other("it is larger than 64 MiB")),
    }
}

/// Where exactly one node is meant: `host:port`, or `host port` as two words.
fn node_words(words: &[String]) -> Result<Seed, Stop> {
    let text = match words {
        [host, port] if !host.contains(':') || host.parse::<Ipv6Addr>().is_ok() => {
            let port = seed::parse_port(port, port).map_err(Stop::usage)?;
            Addr::new(host, port).to_string()
        }
        [node] => node.clone(),
        _ => {
            // Not repeated: there may be a password in it.
            return Err(Stop::usage(anyhow::anyhow!(
                "one node is meant here, as host:port or as host and port"
            )));
        }
    };
    text.parse().map_err(Stop::usage)
}

/// `0-100,200`.
fn slot_ranges(text: &str) -> Result<SlotSet, String> {
    let range = |part: &str| {
        let (start, end) = part.split_once('-').unwrap_or((part, part));
        let slot = |text: &str| Slot::new(text.trim().parse().ok()?);
        SlotRange::new(slot(start)?, slot(end)?)
    };
    text.split(',')
        .map(|part| {
            range(part).ok_or_else(|| format!("{part:?} is no slot (0 to 16383) or range of slots"))
        })
        .collect()
}
