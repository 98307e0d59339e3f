//! `--journal FILE`: every command that changes something, as a line of JSON.
//!
//! A line is written when the outcome of its command is known or can't be known any more, and is synced to the disk
//! before the next change is sent (fsync). Values, passwords and key names are never written; keys are counted. If
//! the file can't be written, no further change is sent.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

use crate::cluster::node::{Addr, NodeId};

/// An append-only file of changes.
#[derive(Debug)]
pub struct Journal {
    run: String,
    who: String,
    reason: Option<String>,
    /// The subcommand, once it is known.
    command: OnceLock<&'static str>,
    state: Mutex<JournalFile>,
}

#[derive(Debug)]
struct JournalFile {
    file: File,
    /// The node ids by address, as far as they are known.
    ids: HashMap<Addr, NodeId>,
    /// Why the file can't be written any more.
    broken: Option<String>,
}

/// Whether any command that changes a node was sent and not refused: the node executed it, or may have. Clones share
/// the answer.
#[derive(Debug, Clone, Default)]
pub struct SentChanges(Arc<AtomicBool>);

impl SentChanges {
    /// Whether a change was sent.
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Records that a change was sent.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A command that changes something, as the journal shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRecord {
    /// Its words; `***` replaces hidden ones.
    pub command: String,
    /// The number of keys that it names.
    pub keys: usize,
}

/// The outcome of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// The node executed it.
    Done,
    /// The node refused it; the reason.
    Refused(String),
    /// It was sent and not answered; it may have taken effect.
    Unknown(String),
}

/// A line of the file.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    run: &'a str,
    who: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    doing: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    node: Node,
    command: &'a str,
    #[serde(skip_serializing_if = "is_none")]
    keys: usize,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct Node {
    addr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// A file that is not on a disk (a pipe, a terminal) can't be synced.
fn to_disk(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

impl Journal {
    /// Opens or creates the file. `run`, `who` and the reason are part of every line.
    pub fn open(path: &Path, run: String, who: String, reason: Option<String>) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        to_disk(&file)?;
        Ok(Self {
            run,
            who,
            reason,
            command: OnceLock::new(),
            state: Mutex::new(JournalFile {
                file,
                ids: HashMap::new(),
                broken: None,
            }),
        })
    }

    /// The name of this run, which is also part of its connection names.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Sets the subcommand; the first call wins.
    pub fn set_command(&self, command: &'static str) {
        self.command.get_or_init(|| command);
    }

    /// Records the node id behind an address.
    pub fn learn(&self, addr: &Addr, id: NodeId) {
        self.state().ids.insert(addr.clone(), id);
    }

    /// Returns why nothing more may be changed; `None` while the file can be written.
    pub fn broken(&self) -> Option<String> {
        self.state().broken.clone()
    }

    /// Writes a line for each change that was sent to that node, and syncs the file. After a failure,
    /// [`Self::broken`] returns the reason.
    pub fn write(&self, addr: &Addr, changes: &[(ChangeRecord, ChangeOutcome)]) {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut state = self.state();
        let id = state.ids.get(addr).map(NodeId::to_string);
        let mut text = Vec::new();
        for (change, outcome) in changes {
            let (result, error) = match outcome {
                ChangeOutcome::Done => ("ok", None),
                ChangeOutcome::Refused(error) => ("refused", Some(error.as_str())),
                ChangeOutcome::Unknown(error) => ("unknown", Some(error.as_str())),
            };
            let line = Line {
                time: time.clone(),
                run: &self.run,
                who: &self.who,
                doing: self.command.get().copied(),
                reason: self.reason.as_deref(),
                node: Node {
                    addr: addr.to_string(),
                    id: id.clone(),
                },
                command: &change.command,
                keys: change.keys,
                result,
                error,
            };
            // Strings and numbers can always be serialized to memory.
            if serde_json::to_writer(&mut text, &line).is_ok() {
                text.push(b'\n');
            }
        }
        let written = state.file.write_all(&text);
        if let Err(error) = written.and_then(|()| to_disk(&state.file)) {
            state.broken = Some(error.to_string());
        }
    }

    fn state(&self) -> MutexGuard<'_, JournalFile> {
        // The data is consistent even after a panic of another thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(command: &str, keys: usize) -> ChangeRecord {
        ChangeRecord {
            command: command.to_string(),
            keys,
        }
    }

    #[test]
    fn lines_are_appended_with_user_and_node() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        std::fs::write(&path, "older\n").unwrap();
        let open = || {
            Journal::open(
                &path,
                "5f".into(),
                "ann@host".into(),
                Some("why \"so\"".into()),
            )
        };
        let journal = open().unwrap();
        let addr = Addr::new("::1", 7000);
        let id: NodeId = format!("{:040x}", 7).parse().unwrap();
        journal.write(&addr, &[(change("CLUSTER MEET", 0), ChangeOutcome::Done)]);
        journal.set_command("reshard");
        journal.learn(&addr, id);
        let refused = ChangeOutcome::Refused("no\nway".into());
        let unknown = ChangeOutcome::Unknown("silence".into());
        journal.write(
            &addr,
            &[
                (change("MIGRATE ***", 3), refused),
                (change("DEL", 1), unknown),
            ],
        );
        assert_eq!(journal.broken(), None);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (4, "older"));
        let lines: Vec<serde_json::Value> = lines[1..]
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["node"]["addr"], "[::1]:7000");
        assert_eq!(lines[0]["node"].get("id"), None);
        assert_eq!(lines[0]["result"], "ok");
        assert_eq!(lines[1]["doing"], "reshard");
        assert_eq!(lines[1]["node"]["id"], id.to_string());
        assert_eq!(lines[1]["keys"], 3);
        assert_eq!(lines[1]["error"], "no\nway");
        assert_eq!(lines[1]["reason"], "why \"so\"");
        assert_eq!(lines[2]["result"], "unknown");
    }

    #[test]
    fn a_full_disk_stops_further_writes() {
        let full = Path::new("/dev/full");
        let journal = Journal::open(full, "5f".into(), "ann".into(), None).unwrap();
        journal.write(
            &Addr::new("h", 1),
            &[(change("DEL", 1), ChangeOutcome::Done)],
        );
        assert!(journal.broken().is_some());
    }
}
