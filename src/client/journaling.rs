//! What the journal is told of commands: those that change something, and nothing that is secret.

use std::iter::repeat;
use std::sync::Arc;

use redis::Arg;

use super::reply::{Reply, clean_line};
use super::{Command, Deadline, Fault};
use crate::cluster::node::Addr;
use crate::journal::{Change, Journal, Outcome};

/// What an argument is to somebody who reads the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArgKind {
    /// A word that may be read.
    Word,
    /// A key, which is counted.
    Key,
    /// A value or a password.
    Hidden,
}

/// Sent with changes, and none themselves: they hold for our connection only, wait, or look.
const NO_CHANGES: [&str; 9] = [
    "ASKING",
    "AUTH",
    "CLIENT SETNAME",
    "CLUSTER GETSLOTMIGRATIONS",
    "EXEC",
    "MULTI",
    "READONLY",
    "SELECT",
    "WAIT",
];

/// Changes on their way to a node. Who gives up waiting for their answers has them written down as
/// unknown.
pub(super) struct JournaledChanges {
    journal: Arc<Journal>,
    addr: Addr,
    /// For each command of the pipeline what it is, if it changes anything.
    changes: Vec<Option<Change>>,
    /// Where EXEC stands; MULTI comes first then, and what is between waits for EXEC.
    exec: Option<usize>,
}

impl JournaledChanges {
    /// `None` where there is nothing to tell; a fault where nothing could be told any more.
    pub(super) fn begin(
        journal: Option<&Arc<Journal>>,
        addr: &Addr,
        class: Deadline,
        commands: &[Command],
    ) -> Result<Option<Self>, Fault> {
        let Some(journal) = journal.filter(|_| class != Deadline::Read) else {
            return Ok(None);
        };
        let changes: Vec<Option<Change>> = commands.iter().map(change).collect();
        if changes.iter().all(Option::is_none) {
            return Ok(None);
        }
        match journal.broken() {
            Some(error) => Err(Fault::Journal(error)),
            None => Ok(Some(Self {
                journal: Arc::clone(journal),
                addr: addr.clone(),
                changes,
                exec: commands.iter().position(|command| command.name == "EXEC"),
            })),
        }
    }

    /// Writes down what came of them. It takes a disk's time, on a thread of its own.
    pub(super) async fn end(mut self, answer: &Result<Vec<Reply>, Fault>) {
        let changes = std::mem::take(&mut self.changes);
        let lines: Vec<(Change, Outcome)> = match answer {
            Ok(replies) => {
                let told = changes.into_iter().zip(replies).enumerate();
                let line = |(i, (change, reply)): (usize, (Option<Change>, &Reply))| {
                    let executed = self.exec.filter(|exec| i < *exec);
                    let refusal = match executed.and_then(|exec| replies.get(exec)) {
                        Some(exec) => exec.refusal_of(i.saturating_sub(1)),
                        None => reply.refusal(),
                    };
                    let outcome = match refusal {
                        None => Outcome::Done,
                        Some(fault) => Outcome::Refused(fault.to_string()),
                    };
                    Some((change?, outcome))
                };
                told.filter_map(line).collect()
            }
            Err(fault) => {
                let text = fault.to_string();
                let outcome = match fault.outcome_unknown() {
                    true => Outcome::Unknown(text),
                    false => Outcome::Refused(text),
                };
                let changes = changes.into_iter().flatten();
                changes.map(|change| (change, outcome.clone())).collect()
            }
        };
        let (journal, addr) = (Arc::clone(&self.journal), self.addr.clone());
        // It fails only when the program ends.
        let _ = tokio::task::spawn_blocking(move || journal.write(&addr, &lines)).await;
    }
}

impl Drop for JournaledChanges {
    fn drop(&mut self) {
        let changes = std::mem::take(&mut self.changes).into_iter().flatten();
        let unknown = Outcome::Unknown("nobody waited for the answer".to_owned());
        let lines: Vec<_> = changes.map(|change| (change, unknown.clone())).collect();
        if !lines.is_empty() {
            self.journal.write(&self.addr, &lines);
        }
    }
}

/// The command as it may be read; `None` for one that changes nothing.
fn change(command: &Command) -> Option<Change> {
    /// A word of a command line that is nobody's novel.
    const LONGEST: usize = 255;
    if NO_CHANGES.contains(&command.name) {
        return None;
    }
    let told = command.told.iter().copied().chain(repeat(ArgKind::Hidden));
    let mut words = Vec::new();
    let mut keys = 0;
    for (arg, told) in command.packed.args_iter().zip(told) {
        match (told, arg) {
            (ArgKind::Key, _) => keys += 1,
            (ArgKind::Word, Arg::Simple([])) => words.push("\"\"".to_owned()),
            (ArgKind::Word, Arg::Simple(word)) => {
                words.push(clean_line(&String::from_utf8_lossy(word), LONGEST));
            }
            _ => words.push("***".to_owned()),
        }
    }
    Some(Change {
        command: words.join(" "),
        keys,
    })
}
