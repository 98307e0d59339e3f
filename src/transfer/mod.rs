//! Writes keys to the current owners of their slots, for `import` and `restore`, and compares them, for `verify`.
//!
//! Keys are sent as RESTORE payloads, or by SET, read from a server by DUMP or cut out of RDB files. Keys of one owner are sent
//! together, in bounded batches; each owner has its lanes, and all owners are served side by side. A slot that moves
//! meanwhile is followed (`MOVED`, `ASK`); a node that does not answer for a moment is waited for.
//!
//! MIGRATE from the source is not used. Measured on 200,000 keys of 100 B it is not faster (benches/import.sh),
//! blocks the source during each call, reports no single keys, and works only if the source can reach the targets and
//! both understand the same RDB version.

mod bulk;
mod clock;
mod collisions;
mod file_collisions;
mod import;
mod keyspace;
mod lane;
mod libraries;
mod report;
mod restore;
mod scan;
mod selection;
mod slots;
mod verify;
mod verify_files;
mod verify_report;
mod workers;

use tokio_util::sync::CancellationToken;

use crate::client::{ClientError, Expiry, RestoreMode};
use crate::rdb::Encoding;

pub use clock::Clock;
pub use collisions::{Collisions, collisions};
pub use file_collisions::file_collisions;
pub use import::{ImportOptions, TransferMode, import};
pub use keyspace::{Keyspace, NodeKeys, ReadFrom, SourcePart};
pub use libraries::load_libraries;
pub use report::{FailedKey, FailureReason, TransferReport};
pub use restore::{FileContent, KeyFile, restore};
pub use selection::{Destination, FileDatabases, Selection};
pub use slots::{SlotMapError, SlotOwner, SlotOwners};
pub use verify::{Direction, VerifyOptions, verify};
pub use verify_files::{FilesToVerify, SavedFile, verify_files};
pub use verify_report::{Discrepancy, FoundKey, TTL_TOLERANCE, VerifyReport};

/// How a key is treated that is in the cluster with another value or time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// It stays as it is, and is reported.
    Skip,
    /// It is overwritten.
    Replace,
    /// The transfer stops.
    Abort,
}

impl OnConflict {
    /// How RESTORE treats such a key.
    fn restore_mode(self) -> RestoreMode {
        match self {
            Self::Replace => RestoreMode::Replace,
            Self::Skip | Self::Abort => RestoreMode::Keep,
        }
    }
}

/// Whether a failed key stops the transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// The transfer stops at the first failed key.
    Stop,
    /// Failed keys are reported at the end.
    GoOn,
}

/// How keys are written.
#[derive(Debug, Clone, Copy)]
pub struct TransferOptions {
    /// How keys are treated that exist with another value.
    pub on_conflict: OnConflict,
    /// Whether a failed key stops the transfer.
    pub after_failure: AfterFailure,
    /// The number of connections that write to one node at a time.
    pub lanes: usize,
}

/// A key to be written.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) encoding: Option<Encoding>,
    pub(crate) expires: Expiry,
    pub(crate) idle: Option<u64>,
    pub(crate) frequency: Option<u8>,
}

/// The result of writing a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyOutcome {
    /// The key was written.
    Written,
    /// The key existed with the same value and time to live.
    Same,
    /// The key expired.
    Expired,
    /// The key was not written.
    Failed(FailureReason, String),
}

/// Why the transfer stopped.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A key exists with another value or time to live, and `--on-existing-key` is `abort`.
    #[error(
        "{key} is in the cluster with another value or time to live ({node}): pass --on-existing-key skip to keep \
             such keys, or replace to overwrite them"
    )]
    Conflict {
        /// The key, ready to print.
        key: String,
        /// The node with the other value.
        node: String,
    },
    /// A node has no memory left.
    #[error("{0} has no memory left: raise maxmemory, or spread the slots over more nodes")]
    OutOfMemory(String),
    /// A key failed, and the first failure stops the transfer.
    #[error("{key}: {why}")]
    Key {
        /// The key, ready to print.
        key: String,
        /// The reason.
        why: String,
    },
    /// A server does not answer any more, or denies a command.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The cluster can't be read any more.
    #[error(transparent)]
    Slots(#[from] SlotMapError),
    /// No master answered for keys in time; the reason.
    #[error("{0}")]
    NoOwner(String),
    /// A file can't be read further.
    #[error("{file}: {error}")]
    File {
        /// The file.
        file: String,
        /// The reason.
        error: String,
        /// What is known of the values that came before.
        before: ValuesBefore,
    },
    /// The user interrupted the transfer.
    #[error("interrupted")]
    Interrupted,
    /// A task of the transfer panicked. The message of the panic is on standard error.
    #[error(
        "a task of the transfer panicked, which is a fault of redis-trib; its message is above"
    )]
    Panicked,
}

/// How long replies are waited for once a transfer stops.
const LAST_REPLIES: std::time::Duration = std::time::Duration::from_secs(2);

/// What is known of the values of a file that were read before an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValuesBefore {
    /// Each was verified before it was sent.
    Verified,
    /// They may be wrong: the error may be the effect of a damage that lies before it.
    Doubtful,
}

/// Stops all tasks of a transfer.
#[derive(Debug, Clone, Default)]
pub struct Stopper {
    token: CancellationToken,
    first: std::sync::Arc<std::sync::Mutex<Option<TransferError>>>,
}

impl Stopper {
    /// Stops the transfer; the first reason is kept.
    pub fn halt(&self, why: TransferError) {
        let mut first = self
            .first
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        first.get_or_insert(why);
        self.token.cancel();
    }

    /// Stops the transfer when the guard is dropped, which also happens if nobody waits for the result any more.
    pub fn halt_on_drop(self) -> tokio_util::sync::DropGuard {
        self.token.drop_guard()
    }

    /// Whether the transfer is to stop.
    pub fn is_halted(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until the transfer is to stop.
    pub async fn halted(&self) {
        self.token.cancelled().await;
    }

    /// Waits until the transfer is to stop and replies to what was sent are not waited for any longer.
    pub(crate) async fn given_up(&self) {
        self.halted().await;
        tokio::time::sleep(LAST_REPLIES).await;
    }

    /// Takes the reason.
    fn why(&self) -> Option<TransferError> {
        self.first
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
    }
}
