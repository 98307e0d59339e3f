//! What the journal records of commands: those that change something, without secrets.

use std::iter::repeat;
use std::sync::Arc;

use redis::Arg;

use super::reply::{Reply, clean_line};
use super::{Command, Deadline, Fault};
use crate::cluster::node::Addr;
use crate::journal::{ChangeOutcome, ChangeRecord, Journal, SentChanges};

/// How an argument appears in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArgKind {
    /// Shown.
    Word,
    /// Counted: a key.
    Key,
    /// Hidden: a value or a password.
    Hidden,
}

/// Commands that are sent with changes but change nothing themselves: they hold for this connection only, wait, or
/// read.
const NO_CHANGES: [&str; 10] = [
    "ASKING",
    "AUTH",
    "CLIENT SETNAME",
    "CLUSTER GETSLOTMIGRATIONS",
    "CLUSTER MYID",
    "EXEC",
    "MULTI",
    "READONLY",
    "SELECT",
    "WAIT",
];

/// Changes on their way to a node. If the caller stops waiting for the answers, they are recorded as unknown.
pub(super) struct JournaledChanges {
    sent: SentChanges,
    addr: Addr,
    /// For each command of the pipeline whether it changes anything.
    is_change: Vec<bool>,
    /// The position of EXEC; MULTI comes first then, and the commands in between take effect with EXEC.
    exec: Option<usize>,
    journaled: Option<Journaled>,
    answered: bool,
}

/// What the journal records of the commands.
struct Journaled {
    journal: Arc<Journal>,
    /// For each command of the pipeline the change it makes, if it makes one.
    changes: Vec<Option<ChangeRecord>>,
}

impl JournaledChanges {
    /// Returns `None` if no command changes anything, and a fault if the journal can't be written any more.
    pub(super) fn begin(
        journal: Option<&Arc<Journal>>,
        sent: &SentChanges,
        addr: &Addr,
        class: Deadline,
        commands: &[Command],
    ) -> Result<Option<Self>, Fault> {
        let is_change: Vec<bool> = commands.iter().map(is_change).collect();
        if class == Deadline::Read || !is_change.contains(&true) {
            return Ok(None);
        }
        if let Some(error) = journal.and_then(|journal| journal.broken()) {
            return Err(Fault::Journal(error));
        }
        let journaled = journal.map(|journal| Journaled {
            journal: Arc::clone(journal),
            changes: commands.iter().map(change).collect(),
        });
        Ok(Some(Self {
            sent: sent.clone(),
            addr: addr.clone(),
            is_change,
            exec: commands.iter().position(|command| command.name == "EXEC"),
            journaled,
            answered: false,
        }))
    }

    /// Records the outcome of each command; of a trial nothing that was refused, as expected. Writing the journal waits for
    /// the disk, on a thread of its own.
    pub(super) async fn end(mut self, answer: &Result<Vec<Reply>, Fault>, is_trial: bool) {
        self.answered = true;
        let outcomes: Vec<ChangeOutcome> = (0..self.is_change.len())
            .map(|place| self.outcome(place, answer))
            .collect();
        let took_effect = |(is_change, outcome): (&bool, &ChangeOutcome)| {
            *is_change && !matches!(outcome, ChangeOutcome::Refused(_))
        };
        if self.is_change.iter().zip(&outcomes).any(took_effect) {
            self.sent.note();
        }
        let Some(Journaled { journal, changes }) = self.journaled.take() else {
            return;
        };
        let lines = changes.into_iter().zip(outcomes);
        let lines =
            lines.filter(|(_, outcome)| !is_trial || !matches!(outcome, ChangeOutcome::Refused(_)));
        let lines: Vec<(ChangeRecord, ChangeOutcome)> = lines
            .filter_map(|(change, outcome)| Some((change?, outcome)))
            .collect();
        if lines.is_empty() {
            return;
        }
        let addr = self.addr.clone();
        // Fails only when the program ends.
        let _ = tokio::task::spawn_blocking(move || journal.write(&addr, &lines)).await;
    }

    /// Returns the outcome of the command at that position.
    fn outcome(&self, place: usize, answer: &Result<Vec<Reply>, Fault>) -> ChangeOutcome {
        match answer {
            Ok(replies) => {
                let executed = self.exec.filter(|exec| place < *exec);
                let refusal = match executed.and_then(|exec| replies.get(exec)) {
                    Some(exec) => exec.refusal_of(place.saturating_sub(1)),
                    None => replies.get(place).and_then(Reply::refusal),
                };
                refusal.map_or(ChangeOutcome::Done, |fault| {
                    ChangeOutcome::Refused(fault.to_string())
                })
            }
            Err(fault) if fault.outcome_unknown() => ChangeOutcome::Unknown(fault.to_string()),
            Err(fault) => ChangeOutcome::Refused(fault.to_string()),
        }
    }
}

impl Drop for JournaledChanges {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        self.sent.note();
        let Some(Journaled { journal, changes }) = self.journaled.take() else {
            return;
        };
        let unknown = ChangeOutcome::Unknown("the wait for the answer was interrupted".to_owned());
        let changes = changes.into_iter().flatten();
        let lines: Vec<_> = changes.map(|change| (change, unknown.clone())).collect();
        journal.write(&self.addr, &lines);
    }
}

fn is_change(command: &Command) -> bool {
    !NO_CHANGES.contains(&command.name)
}

/// The command as the journal shows it; `None` for one that changes nothing.
fn change(command: &Command) -> Option<ChangeRecord> {
    is_change(command).then(|| {
        let (command, keys) = words(command);
        ChangeRecord { command, keys }
    })
}

/// The words of a command without secrets and without its keys, and the number of these.
pub(super) fn words(command: &Command) -> (String, usize) {
    /// The most characters of a word.
    const LONGEST: usize = 255;
    let kinds = command
        .arg_kinds
        .iter()
        .copied()
        .chain(repeat(ArgKind::Hidden));
    let mut words = Vec::new();
    let mut keys = 0;
    for (arg, kinds) in command.packed.args_iter().zip(kinds) {
        match (kinds, arg) {
            (ArgKind::Key, _) => keys += 1,
            (ArgKind::Word, Arg::Simple([])) => words.push("\"\"".to_owned()),
            (ArgKind::Word, Arg::Simple(word)) => {
                words.push(clean_line(&String::from_utf8_lossy(word), LONGEST));
            }
            _ => words.push("***".to_owned()),
        }
    }
    (words.join(" "), keys)
}
