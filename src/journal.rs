//! `--journal FILE`: every command that changes something, as a line of JSON.
//!
//! A line is written when its command was answered, or was not and never will be, and reaches the disk
//! before the next change is sent (fsync). Values, passwords and the names of keys are never part of
//! it; keys are counted. A file that can't be written any more lets nothing more be changed.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

use crate::cluster::node::{Addr, NodeId};

/// A file that only grows.
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
    /// Which node answers at an address, as far as that was seen.
    ids: HashMap<Addr, NodeId>,
    /// Why nothing can be written any more.
    broken: Option<String>,
}

/// Whether any command that changes a node was sent, and not refused: the node took it, or may have. Clones share
/// the answer.
#[derive(Debug, Clone, Default)]
pub struct SentChanges(Arc<AtomicBool>);

impl SentChanges {
    /// Whether any was.
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// One was.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A command that changes something, as it may be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRecord {
    /// Its words; `***` stands for what is nobody's business.
    pub command: String,
    /// How many keys it names.
    pub keys: usize,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// The node took it.
    Done,
    /// It did not; why.
    Refused(String),
    /// It was sent, and no answer came; it may have taken effect.
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

/// What is no file on a disk (a pipe, a terminal) has nothing to wait for.
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
    /// Opens the file, or makes it. `run` and `who` are part of every line, and so is the reason.
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

    /// The run's name, which is also part of its connections' names.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// The subcommand that is being carried out; the first one told counts.
    pub fn set_command(&self, command: &'static str) {
        self.command.get_or_init(|| command);
    }

    /// That node answers at that address.
    pub fn learn(&self, addr: &Addr, id: NodeId) {
        self.state().ids.insert(addr.clone(), id);
    }

    /// Why nothing more may be changed, in words; `None` while all is well.
    pub fn broken(&self) -> Option<String> {
        self.state().broken.clone()
    }

    /// Writes a line for each of the changes that were sent to that node, and sees to it that the disk
    /// has them. Where that fails, [`Self::broken`] says so from now on.
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
            // Strings and numbers can always be written to memory.
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
        // What a thread that died left behind is whole.
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
    fn lines_are_appended_and_name_who_and_where() {
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
    fn a_full_disk_is_remembered() {
        let full = Path::new("/dev/full");
        let journal = Journal::open(full, "5f".into(), "ann".into(), None).unwrap();
        journal.write(
            &Addr::new("h", 1),
            &[(change("DEL", 1), ChangeOutcome::Done)],
        );
        assert!(journal.broken().is_some());
    }
}
