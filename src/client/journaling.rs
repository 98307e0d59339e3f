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

/// The changes of a pipeline.
#[derive(Clone)]
pub(super) struct Changes {
    /// For each command whether it changes anything.
    is_change: Vec<bool>,
    /// The position of EXEC; MULTI comes first then, and the commands in between take effect with EXEC.
    exec: Option<usize>,
    /// For each command what the journal records of it, if it changes anything; empty without a journal.
    records: Vec<Option<ChangeRecord>>,
}

impl Changes {
    /// Returns `None` if no command changes anything.
    pub(super) fn of(class: Deadline, commands: &[Command], journal: bool) -> Option<Self> {
        if matches!(class, Deadline::Read | Deadline::Value) {
            return None;
        }
        let is_change: Vec<bool> = commands.iter().map(is_change).collect();
        is_change.contains(&true).then(|| Self {
            is_change,
            exec: commands.iter().position(|command| command.name == "EXEC"),
            records: match journal {
                true => commands.iter().map(change).collect(),
                false => Vec::new(),
            },
        })
    }
}

/// Changes on their way to a node. If the caller stops waiting for the answers, they are recorded as unknown.
pub(super) struct JournaledChanges {
    sent: SentChanges,
    addr: Addr,
    changes: Changes,
    /// Where they are recorded; taken when they are.
    journal: Option<Arc<Journal>>,
    answered: bool,
}

impl JournaledChanges {
    /// Fails if the journal can't be written any more.
    pub(super) fn begin(
        journal: Option<&Arc<Journal>>,
        sent: &SentChanges,
        addr: &Addr,
        changes: Changes,
    ) -> Result<Self, Fault> {
        if let Some(error) = journal.and_then(|journal| journal.broken()) {
            return Err(Fault::Journal(error));
        }
        Ok(Self {
            sent: sent.clone(),
            addr: addr.clone(),
            changes,
            journal: journal.cloned(),
            answered: false,
        })
    }

    /// Records the outcome of each command; of a trial nothing that was refused, as expected. Writing the journal waits for
    /// the disk, on a thread of its own.
    pub(super) async fn end(mut self, answer: &Result<Vec<Reply>, Fault>, is_trial: bool) {
        self.answered = true;
        let outcomes: Vec<ChangeOutcome> = (0..self.changes.is_change.len())
            .map(|place| self.outcome(place, answer))
            .collect();
        let took_effect = |(is_change, outcome): (&bool, &ChangeOutcome)| {
            *is_change && !matches!(outcome, ChangeOutcome::Refused(_))
        };
        if self
            .changes
            .is_change
            .iter()
            .zip(&outcomes)
            .any(took_effect)
        {
            self.sent.note();
        }
        let Some(journal) = self.journal.take() else {
            return;
        };
        let records = std::mem::take(&mut self.changes.records);
        let lines = records.into_iter().zip(outcomes);
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
                let executed = self.changes.exec.filter(|exec| place < *exec);
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
        let Some(journal) = self.journal.take() else {
            return;
        };
        let unknown = ChangeOutcome::Unknown("the wait for the answer was interrupted".to_owned());
        let records = std::mem::take(&mut self.changes.records);
        let changes = records.into_iter().flatten();
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
