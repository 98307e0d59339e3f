//! The report of a transfer: counts, and the keys that failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::selection::Choice;
use super::{Item, KeyOutcome};

/// Why a key was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureReason {
    /// The cluster has another value for the key.
    Differs,
    /// The node does not accept the RDB version of the value.
    TooNew,
    /// The node does not know the type, or lacks the module.
    NotUnderstood,
    /// A later version wrote the value, and no command can be made of it.
    UnknownType,
    /// The value exceeds the limit of servers.
    TooLarge,
    /// The slot had no owner that answered in time.
    NoOwner,
    /// Another database of the source has a key that gets the same name.
    Collides,
    /// The key changed at the source before each deletion.
    KeptChanging,
    /// The key was deleted at the source by a client after it was written to the cluster, which has it still.
    DeletedMeanwhile,
    /// Any other error of the server.
    Refused,
}

impl FailureReason {
    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Differs => "differs",
            Self::TooNew => "too-new",
            Self::NotUnderstood => "not-understood",
            Self::UnknownType => "unknown-type",
            Self::TooLarge => "too-large",
            Self::NoOwner => "no-owner",
            Self::Collides => "collides",
            Self::KeptChanging => "kept-changing",
            Self::DeletedMeanwhile => "deleted-meanwhile",
            Self::Refused => "refused",
        }
    }
}

/// A key that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedKey {
    /// The key, printable and without quotes.
    pub key: String,
    /// The reason.
    pub why: String,
}

/// Counts of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TransferReport {
    /// Written keys.
    pub written: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Keys that existed with the same value.
    pub same: u64,
    /// Keys that expired before they were written.
    pub expired: u64,
    /// Keys that were not at the source any more: deleted, or expired.
    pub gone: u64,
    /// Keys deleted at the source after the transfer.
    pub deleted: u64,
    /// Stray keys, of slots that the node of the file did not own.
    pub strays: u64,
    /// Keys of other databases than the one that is wanted.
    pub other_databases: u64,
    /// Libraries of functions that every master has now.
    pub functions: u64,
    /// Modules with data that no command restores.
    pub module_data: BTreeSet<String>,
    /// Keys that were sent and whose replies were not waited for: they may be written or not.
    pub unknown: u64,
    /// Failed keys by reason, with the first few of each.
    pub failed: BTreeMap<FailureReason, (u64, Vec<FailedKey>)>,
}

/// The number of failed keys per reason that are named.
const EXAMPLES: usize = 5;

impl TransferReport {
    /// The number of failed keys.
    pub fn failures(&self) -> u64 {
        self.failed.values().map(|(count, _)| count).sum()
    }

    pub(super) fn count(&mut self, item: &Item, outcome: &KeyOutcome) {
        match outcome {
            KeyOutcome::Written => {
                self.written += 1;
                self.bytes += item.payload.len() as u64;
            }
            KeyOutcome::Same => self.same += 1,
            KeyOutcome::Expired => self.expired += 1,
            KeyOutcome::Failed(reason, why) => self.fail(*reason, &item.key, why),
        }
    }

    /// Counts a key that was left out, unless the user chose keys by their names.
    pub(super) fn count_left_out(&mut self, choice: &Choice) {
        match choice {
            Choice::Stray => self.strays += 1,
            Choice::OtherDatabase => self.other_databases += 1,
            Choice::OtherName | Choice::Wanted(_) => {}
        }
    }

    pub(super) fn fail(&mut self, reason: FailureReason, key: &[u8], why: &str) {
        self.fail_named(reason, readable(key), why);
    }

    /// The same for something other than a key.
    pub(super) fn fail_named(&mut self, reason: FailureReason, key: String, why: &str) {
        self.fail_some(reason, 1, key, why);
    }

    /// The same for several keys, one of which is named.
    pub(super) fn fail_some(&mut self, reason: FailureReason, keys: u64, key: String, why: &str) {
        let (count, examples) = self.failed.entry(reason).or_default();
        *count += keys;
        if examples.len() < EXAMPLES {
            examples.push(FailedKey {
                key,
                why: why.to_string(),
            });
        }
    }

    /// Adds the counts of another report.
    pub fn add(&mut self, other: Self) {
        self.written += other.written;
        self.bytes += other.bytes;
        self.same += other.same;
        self.expired += other.expired;
        self.gone += other.gone;
        self.deleted += other.deleted;
        self.strays += other.strays;
        self.other_databases += other.other_databases;
        self.functions += other.functions;
        self.unknown += other.unknown;
        self.module_data.extend(other.module_data);
        for (reason, (count, examples)) in other.failed {
            let (sum, all) = self.failed.entry(reason).or_default();
            *sum += count;
            all.extend(examples);
            all.truncate(EXAMPLES);
        }
    }
}

/// A report that all lanes write to.
#[derive(Debug, Default)]
pub(super) struct SharedReport(Mutex<TransferReport>);

impl SharedReport {
    pub(super) fn add(&self, report: TransferReport) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(report);
    }

    pub(super) fn take(&self) -> TransferReport {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A key in quotes, for messages.
pub(super) fn quoted(key: &[u8]) -> String {
    format!("\"{}\"", readable(key))
}

/// A key as text: long keys are cut, bytes that are not printable ASCII are escaped.
pub(super) fn readable(key: &[u8]) -> String {
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
        let mut report = TransferReport::default();
        report.fail(FailureReason::TooLarge, b"a \"b\"\x00\xff", "why");
        let (_, examples) = &report.failed[&FailureReason::TooLarge];
        assert_eq!(examples[0].key, r#"a "b"\x00\xff"#);
        assert_eq!(quoted(b"a"), "\"a\"");
    }
}
