//! What became of all keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::{Item, Outcome};

/// Why a key is not where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The cluster has another value under its name.
    Differs,
    /// Its form is of an RDB version that the node does not take.
    TooNew,
    /// The node has no such type, or lacks the module.
    NotUnderstood,
    /// It is larger than a server takes in one piece.
    TooLarge,
    /// Its slot had no owner that answered in time.
    NoOwner,
    /// It changed at the source whenever it was about to be deleted there.
    KeptChanging,
    /// The server says something else.
    Refused,
}

impl Reason {
    /// Its word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Differs => "differs",
            Self::TooNew => "too-new",
            Self::NotUnderstood => "not-understood",
            Self::TooLarge => "too-large",
            Self::NoOwner => "no-owner",
            Self::KeptChanging => "kept-changing",
            Self::Refused => "refused",
        }
    }
}

/// A key that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Its name, printable and without quotes.
    pub key: String,
    /// Why, in words.
    pub why: String,
}

/// Numbers of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Written.
    pub written: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// There already, the same.
    pub same: u64,
    /// Expired, or deleted at the source, on their way.
    pub gone: u64,
    /// Deleted at the source once they were there.
    pub deleted: u64,
    /// Of slots that the node of the file did not own.
    pub strays: u64,
    /// Libraries of functions that every master has now.
    pub functions: u64,
    /// Modules of which a file holds what no command restores.
    pub module_data: BTreeSet<String>,
    /// Failed, by reason, each with the first few.
    pub failed: BTreeMap<Reason, (u64, Vec<Example>)>,
}

/// How many failures of a kind are told by name.
const EXAMPLES: usize = 5;

impl Report {
    /// How many failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().map(|(count, _)| count).sum()
    }

    pub(super) fn count(&mut self, item: &Item, outcome: &Outcome) {
        match outcome {
            Outcome::Written => {
                self.written += 1;
                self.bytes += item.payload.len() as u64;
            }
            Outcome::Same => self.same += 1,
            Outcome::Expired => self.gone += 1,
            Outcome::Failed(reason, why) => self.fail(*reason, &item.key, why),
        }
    }

    pub(super) fn fail(&mut self, reason: Reason, key: &[u8], why: &str) {
        self.fail_named(reason, readable(key), why);
    }

    /// The same for what is no key.
    pub(super) fn fail_named(&mut self, reason: Reason, key: String, why: &str) {
        let (count, examples) = self.failed.entry(reason).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push(Example {
                key,
                why: why.to_string(),
            });
        }
    }

    /// Both together.
    pub(super) fn add(&mut self, other: Self) {
        self.written += other.written;
        self.bytes += other.bytes;
        self.same += other.same;
        self.gone += other.gone;
        self.deleted += other.deleted;
        self.strays += other.strays;
        self.functions += other.functions;
        self.module_data.extend(other.module_data);
        for (reason, (count, examples)) in other.failed {
            let (sum, all) = self.failed.entry(reason).or_default();
            *sum += count;
            all.extend(examples);
            all.truncate(EXAMPLES);
        }
    }
}

/// A report that many write.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Report>);

impl Shared {
    pub(super) fn add(&self, report: Report) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(report);
    }

    pub(super) fn take(&self) -> Report {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A key in quotes, for messages.
pub(super) fn shown(key: &[u8]) -> String {
    format!("\"{}\"", readable(key))
}

/// A key as text: what is not printable as an escape, and cut where it is long.
fn readable(key: &[u8]) -> String {
    const LONGEST: usize = 80;
    let text: String = key
        .iter()
        .take(LONGEST)
        .flat_map(|byte| match byte {
            b'\'' | b'"' => vec![*byte],
            _ => std::ascii::escape_default(*byte).collect(),
        })
        .map(char::from)
        .collect();
    let more = if key.len() > LONGEST { "…" } else { "" };
    text + more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_quoted_once() {
        let mut report = Report::default();
        report.fail(Reason::TooLarge, b"a \"b\"\x00\xff", "why");
        let (_, examples) = &report.failed[&Reason::TooLarge];
        assert_eq!(examples[0].key, r#"a "b"\x00\xff"#);
        assert_eq!(shown(b"a"), "\"a\"");
    }
}
