//! Keys into a cluster, whoever owns their slots now: what `import` and `restore` share.
//!
//! Keys travel as RESTORE payloads, read from a server by DUMP or cut out of RDB files. Those of one
//! owner go together, in bounded batches; each owner has its lanes, and all owners are served side
//! by side. A slot that moves meanwhile is followed (`MOVED`, `ASK`), a node that is away for a
//! moment is waited for.
//!
//! MIGRATE from the source would do the same without us in between. Measured on 200,000 keys of
//! 100 B it is no faster than our copies (benches/import.sh), holds the source for as long as each call takes, tells
//! nothing of single keys, and works only where the source reaches the targets and speaks as they
//! do: so it is not used.

mod import;
mod lane;
mod report;
mod restore;
mod slots;
mod workers;

use tokio_util::sync::CancellationToken;

use crate::client::{ClientError, Expiry};
use crate::rdb::Encoding;

pub use import::{ImportOptions, Taking, import};
pub use report::{Example, Reason, Report};
pub use restore::{Part, restore};
pub use slots::{Owner, Owners, SlotMapError};

/// How a key is treated that is in the cluster with another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// It stays as it is, and is reported.
    Skip,
    /// It is overwritten.
    Replace,
    /// Everything stops.
    Abort,
}

/// Whether a key that fails stops the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// It does.
    Stop,
    /// It does not.
    GoOn,
}

/// How keys are written.
#[derive(Debug, Clone, Copy)]
pub struct TransferOptions {
    /// What becomes of keys that are there.
    pub on_conflict: OnConflict,
    /// What a failing key means to the others.
    pub after_failure: AfterFailure,
    /// How many connections write to one node at a time.
    pub lanes: usize,
}

/// A key on its way.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) encoding: Option<Encoding>,
    pub(crate) expires: Expiry,
    pub(crate) idle: Option<u64>,
    pub(crate) frequency: Option<u8>,
}

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is there now.
    Written,
    /// It was there already, the same.
    Same,
    /// Its time was over.
    Expired,
    /// It is not there, or not as it should be.
    Failed(Reason, String),
}

/// Why everything stops.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A key is there with another value, and nobody said which one counts.
    #[error(
        "{key} is in the cluster with another value ({node}): --on-conflict skip leaves such keys, \
             replace overwrites them"
    )]
    Conflict {
        /// The key, fit to be shown.
        key: String,
        /// Where.
        node: String,
    },
    /// A node has no room.
    #[error("{0} has no memory left (maxmemory): raise it, or spread the slots over more nodes")]
    OutOfMemory(String),
    /// A key failed, and the first failure was to be the last.
    #[error("{key}: {why}")]
    Key {
        /// The key, fit to be shown.
        key: String,
        /// Why it failed.
        why: String,
    },
    /// A server can't be asked any more, or does not let us.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The cluster can't be read any more.
    #[error(transparent)]
    Slots(#[from] SlotMapError),
    /// A file can't be read on.
    #[error("{file}: {error}")]
    File {
        /// Which.
        file: String,
        /// Why.
        error: String,
    },
    /// A signal.
    #[error("interrupted")]
    Interrupted,
}

/// Stops all of it once.
#[derive(Debug, Clone, Default)]
pub struct Stopper {
    token: CancellationToken,
    first: std::sync::Arc<std::sync::Mutex<Option<TransferError>>>,
}

impl Stopper {
    /// Stops everything; the first reason counts.
    pub fn halt(&self, why: TransferError) {
        let mut first = self
            .first
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        first.get_or_insert(why);
        self.token.cancel();
    }

    /// Whether everything is to stop.
    pub fn is_halted(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Until it is.
    pub async fn halted(&self) {
        self.token.cancelled().await;
    }

    /// Why.
    fn why(&self) -> Option<TransferError> {
        self.first
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
    }
}
