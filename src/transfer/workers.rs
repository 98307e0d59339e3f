//! Queues of batches for the lanes of every owner.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::report::{SharedReport, TransferReport};
use super::slots::SlotOwners;
use super::{Item, KeyOutcome, Stopper, TransferError};
use crate::backup::Meter;
use crate::cluster::node::NodeId;

/// The most batches that wait for one owner. This, the number of lanes and the size of a batch bound the memory.
const QUEUED_BATCHES: usize = 2;

/// Queues of batches by owner. Keys of unassigned slots go to the queue `any`, whose lanes wait for an owner.
pub(super) struct Queues<B> {
    by_owner: HashMap<NodeId, mpsc::Sender<B>>,
    any: mpsc::Sender<B>,
}

/// The receiving end of a queue, shared by its lanes.
pub(super) type BatchReceiver<B> = Arc<Mutex<mpsc::Receiver<B>>>;

impl<B> Queues<B> {
    /// Creates a queue for every current owner; returns one receiver per lane.
    pub(super) fn new(owners: &SlotOwners, lanes: usize) -> (Self, Vec<BatchReceiver<B>>) {
        let mut by_owner = HashMap::new();
        let mut receivers = Vec::new();
        let mut queue = || {
            let (sender, receiver) = mpsc::channel(QUEUED_BATCHES);
            let receiver = Arc::new(Mutex::new(receiver));
            receivers.extend(std::iter::repeat_n(receiver, lanes.max(1)));
            sender
        };
        for owner in owners.all() {
            by_owner.insert(owner.id, queue());
        }
        let any = queue();
        (Self { by_owner, any }, receivers)
    }

    /// Returns the queue of an owner.
    pub(super) fn of(&self, owner: Option<NodeId>) -> &mpsc::Sender<B> {
        owner
            .and_then(|id| self.by_owner.get(&id))
            .unwrap_or(&self.any)
    }
}

/// Collects keys into batches by owner.
pub(super) struct Batcher<K, T> {
    pending: HashMap<K, (Vec<T>, usize)>,
    most: usize,
    most_bytes: usize,
}

impl<K: Eq + Hash + Copy, T> Batcher<K, T> {
    pub(super) fn new(most: usize, most_bytes: usize) -> Self {
        Self {
            pending: HashMap::new(),
            most,
            most_bytes,
        }
    }

    /// Adds a key; returns the batch if it is full.
    pub(super) fn add(&mut self, owner: K, one: T, bytes: usize) -> Option<Vec<T>> {
        let (batch, sum) = self.pending.entry(owner).or_default();
        batch.push(one);
        *sum += bytes;
        let is_full = batch.len() >= self.most || *sum >= self.most_bytes;
        is_full.then(|| {
            *sum = 0;
            let next = Vec::with_capacity(batch.len());
            std::mem::replace(batch, next)
        })
    }

    /// Returns the incomplete batches.
    pub(super) fn rest(self) -> impl Iterator<Item = (K, Vec<T>)> {
        let rest = self.pending.into_iter();
        rest.filter(|(_, (batch, _))| !batch.is_empty())
            .map(|(owner, (batch, _))| (owner, batch))
    }
}

/// Returns the next batch, unless the transfer stops.
pub(super) async fn next<B>(receiver: &BatchReceiver<B>, stopper: &Stopper) -> Option<B> {
    let receive = async { receiver.lock().await.recv().await };
    tokio::select! {
        biased;
        () = stopper.halted() => None,
        batch = receive => batch,
    }
}

/// The counts that all lanes write to.
pub(super) struct WriteCounts {
    pub(super) report: SharedReport,
    pub(super) meter: Arc<Meter>,
}

impl WriteCounts {
    /// Counts keys that were sent, and whose replies did not come.
    pub(super) fn add_unknown(&self, keys: usize) {
        self.report.add(TransferReport {
            unknown: keys as u64,
            ..TransferReport::default()
        });
    }

    /// Counts keys of a batch without a result, if a node has stopped to answer: they may be written or not.
    pub(super) fn unknown(keys: usize, stopped: Option<&TransferError>) -> u64 {
        match stopped {
            Some(TransferError::Client(error)) if error.fault.is_silence() => keys as u64,
            _ => 0,
        }
    }

    /// Counts a batch.
    pub(super) fn count(&self, done: &[(Item, KeyOutcome)]) -> TransferReport {
        let mut report = TransferReport::default();
        for (item, outcome) in done {
            report.count(item, outcome);
        }
        self.meter.add(done.len() as u64);
        report
    }
}

/// Runs a task that only reads, until it ends or the transfer stops: what it waits for is of no use then.
pub(super) async fn until_halted(
    work: impl Future<Output = Result<(), TransferError>>,
    stopper: &Stopper,
) -> Result<(), TransferError> {
    tokio::select! {
        biased;
        () = stopper.halted() => Ok(()),
        done = work => done,
    }
}

/// Waits for all lanes; an error in one stops the others.
pub(super) async fn finish(mut lanes: JoinSet<Result<(), TransferError>>, stopper: &Stopper) {
    while let Some(ended) = lanes.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(why)) => stopper.halt(why),
            Err(_) => stopper.halt(TransferError::Panicked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_no_interruption() {
        let stopper = Stopper::default();
        let mut lanes = JoinSet::new();
        lanes.spawn(async { panic!("of a test") });
        finish(lanes, &stopper).await;
        assert!(matches!(stopper.why(), Some(TransferError::Panicked)));
    }
}
