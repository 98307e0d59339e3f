//! Import from a server or a cluster: SCAN, DUMP, RESTORE, and UNLINK for keys that move.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::collisions::Other;
use super::keyspace::{KeyReader, SourcePart, is_temporary, is_too_large};
use super::lane::{Lane, OWNER_TIMEOUT};
use super::report::{FailureReason, SharedReport, TransferReport};
use super::scan::{Chunk, Scan, Sizes};
use super::slots::SlotOwners;
use super::workers::{BatchReceiver, Batcher, Queues, WriteCounts, finish, next};
use super::{Item, KeyOutcome, OnConflict, Stopper, TransferError, TransferOptions};
use crate::backup::Meter;
use crate::client::{Asking, ClientError, Dumped, ExpiryQuestion, ReadFault};
use crate::cluster::node::NodeId;
use crate::cluster::slot::Slot;
use crate::rdb::portable;

/// The most keys per batch.
const BATCH: usize = 512;
/// The most keys per batch if they are watched: WATCH compares each key with all that the connection watches already
/// (Redis 7.0: 512 keys in 2 ms, half of the time that it takes to move them).
const WATCHED_BATCH: usize = 96;
/// The bytes per batch.
const BATCH_BYTES: u64 = 2 << 20;
/// The chunks of names that wait to be distributed.
const QUEUED_CHUNKS: usize = 4;
/// The most keys that wait for others of their slot. A transaction deletes keys of one slot only.
const MOST_PENDING: usize = 200_000;
/// How often keys that changed while they were moved are copied again.
const COPY_ATTEMPTS: usize = 10;

/// Whether keys stay at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferMode {
    /// Keys stay.
    Copy,
    /// Keys are deleted once they are in the cluster, unless they changed meanwhile.
    Move,
}

/// The part of the source that is read.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Where the keys are, and where they go.
    pub part: SourcePart,
    /// The databases that were imported before into the same database of the cluster.
    pub before: Vec<SourcePart>,
    /// Only keys of this pattern.
    pub pattern: Option<String>,
    /// Whether keys stay at the source.
    pub mode: TransferMode,
    /// How the source reports the expiry of keys.
    pub question: ExpiryQuestion,
}

/// The state that all lanes share.
struct Import {
    owners: Arc<SlotOwners>,
    wanted: ImportOptions,
    options: TransferOptions,
    counts: WriteCounts,
    stopper: Stopper,
    /// Large values are transferred one at a time.
    large: Semaphore,
}

/// What the keys of a batch have in common: the owner of their slots, and the slot if one transaction of a cluster deletes
/// them.
type Together = (Option<NodeId>, Option<Slot>);

/// Copies or moves all matching keys. The report covers what was done even if the transfer stopped.
pub async fn import(
    owners: Arc<SlotOwners>,
    wanted: ImportOptions,
    options: TransferOptions,
    meter: Arc<Meter>,
    stopper: &Stopper,
) -> (TransferReport, Option<TransferError>) {
    let (queues, receivers) = Queues::new(&owners, options.lanes);
    let (chunks, scanned) = mpsc::channel(QUEUED_CHUNKS);
    let scan = Scan {
        keyspace: wanted.part.source.clone(),
        pattern: wanted.pattern.clone(),
        sizes: Sizes::NotAsked,
        chunks,
        stopper: stopper.clone(),
    };
    let import = Arc::new(Import {
        owners,
        wanted,
        options,
        counts: WriteCounts {
            report: SharedReport::default(),
            meter,
        },
        stopper: stopper.clone(),
        large: Semaphore::new(1),
    });
    let mut lanes = JoinSet::new();
    for receiver in receivers {
        let import = Arc::clone(&import);
        lanes.spawn(async move { import.run_lane(receiver).await });
    }
    lanes.spawn(scan.run());
    let distributor = Arc::clone(&import);
    lanes.spawn(async move {
        distributor.distribute(scanned, queues).await;
        Ok(())
    });
    finish(lanes, stopper).await;
    (import.counts.report.take(), stopper.why())
}

/// The result of an attempt to move keys.
enum Attempt {
    Moved,
    /// Some of the keys were written at the source meanwhile.
    Changed,
    /// The slot moves, or its owner changes.
    NotNow,
}

/// The two ends of a lane.
struct Ends {
    source: KeyReader,
    /// The databases that were imported before, whose keys may have the same names.
    before: Vec<Other>,
    target: Lane,
}

/// Keys on their way from the source.
struct Moving<'a> {
    /// The keys that are still there.
    left: Vec<&'a [u8]>,
    /// Whether all of them were written to the cluster before.
    are_written: bool,
    report: TransferReport,
    bytes: u64,
}

impl Import {
    /// Queues keys by owner. The queues close at the end.
    async fn distribute(&self, mut scanned: mpsc::Receiver<Chunk>, queues: Queues<Vec<Vec<u8>>>) {
        let by_slot =
            self.wanted.part.source.is_cluster() && self.wanted.mode == TransferMode::Move;
        let most = match by_slot {
            true => WATCHED_BATCH,
            false => BATCH,
        };
        let mut batcher = Batcher::new(most, usize::MAX);
        let mut pending = 0;
        while let Some(chunk) = scanned.recv().await {
            for key in chunk.keys {
                let owner = self.owners.id_of_key(&self.wanted.part.renamed(&key));
                let together: Together = (owner, by_slot.then(|| Slot::of_key(&key)));
                pending += 1;
                if let Some(batch) = batcher.add(together, key, 0) {
                    pending -= batch.len();
                    if !self.enqueue(&queues, owner, batch).await {
                        return;
                    }
                }
            }
            if pending >= MOST_PENDING {
                let full = std::mem::replace(&mut batcher, Batcher::new(most, usize::MAX));
                pending = 0;
                if !self.enqueue_rest(&queues, full).await {
                    return;
                }
            }
        }
        self.enqueue_rest(&queues, batcher).await;
    }

    async fn enqueue_rest(
        &self,
        queues: &Queues<Vec<Vec<u8>>>,
        batcher: Batcher<Together, Vec<u8>>,
    ) -> bool {
        for ((owner, _), batch) in batcher.rest() {
            if !self.enqueue(queues, owner, batch).await {
                return false;
            }
        }
        true
    }

    /// Queues a batch; false if the transfer stops.
    async fn enqueue(
        &self,
        queues: &Queues<Vec<Vec<u8>>>,
        owner: Option<NodeId>,
        batch: Vec<Vec<u8>>,
    ) -> bool {
        tokio::select! {
            biased;
            () = self.stopper.halted() => false,
            sent = queues.of(owner).send(batch) => sent.is_ok(),
        }
    }

    /// Runs one lane.
    async fn run_lane(&self, receiver: BatchReceiver<Vec<Vec<u8>>>) -> Result<(), TransferError> {
        let mut lane = self.lane(KeyReader::new(self.wanted.part.source.clone()));
        let most = match self.wanted.mode {
            TransferMode::Copy => BATCH,
            TransferMode::Move => WATCHED_BATCH,
        };
        // How many keys fit into a batch, estimated from the previous one.
        let mut size = most;
        while let Some(keys) = next(&receiver, &self.stopper).await {
            let mut rest = keys.as_slice();
            // The number of keys to send one at a time, because a value among them is large: each wrong guess at how
            // many fit would dump it again, and block the source.
            let mut alone: usize = 0;
            while !rest.is_empty() {
                if self.stopper.is_halted() {
                    return Ok(());
                }
                let count = if alone > 0 { 1 } else { size.min(rest.len()) };
                let (some, others) = rest.split_at(count);
                alone = alone.saturating_sub(1);
                let some: Vec<&[u8]> = some.iter().map(Vec::as_slice).collect();
                let bytes = match self.transfer(&mut lane, &some).await {
                    Ok(bytes) => bytes,
                    // Much larger than the previous values: retry one key at a time.
                    Err(TransferError::Client(error)) if is_too_large(&error) && some.len() > 1 => {
                        lane.source.disconnect();
                        alone = some.len();
                        continue;
                    }
                    Err(TransferError::Client(error)) if is_too_large(&error) => {
                        lane.source.disconnect();
                        self.transfer_large(some[0]).await?;
                        0
                    }
                    Err(why) => return Err(why),
                };
                let each = bytes / some.len() as u64;
                size = usize::try_from(BATCH_BYTES / each.max(1)).unwrap_or(most);
                size = size.clamp(1, most);
                rest = others;
            }
        }
        Ok(())
    }

    /// Transfers the keys of one batch to the cluster; returns their bytes.
    async fn transfer(&self, lane: &mut Ends, keys: &[&[u8]]) -> Result<u64, TransferError> {
        match self.wanted.mode {
            TransferMode::Copy => self.copy(lane, keys).await,
            TransferMode::Move => self.move_away(lane, keys).await,
        }
    }

    async fn copy(&self, lane: &mut Ends, keys: &[&[u8]]) -> Result<u64, TransferError> {
        let dumped = lane.source.dump(keys, self.wanted.question).await?;
        let mut report = TransferReport::default();
        let items = self.items(keys, dumped, &mut report);
        let bytes = bytes_of(&items);
        let items = self.without_collisions(lane, items, &mut report).await?;
        let done = lane.target.write(items).await?;
        report.add(self.counts.count(&done));
        self.counts.report.add(report);
        Ok(bytes)
    }

    /// Copies keys and deletes them at the source, unless they change meanwhile. While the slot of a source cluster moves,
    /// its keys wait.
    async fn move_away(&self, lane: &mut Ends, keys: &[&[u8]]) -> Result<u64, TransferError> {
        let mut moving = Moving {
            left: keys.to_vec(),
            are_written: false,
            report: TransferReport::default(),
            bytes: 0,
        };
        let mut changes = 0;
        let mut deadline = Instant::now() + OWNER_TIMEOUT;
        loop {
            match self.attempt(lane, &mut moving).await {
                Ok(Attempt::Moved) => break,
                Ok(Attempt::Changed) => {
                    deadline = Instant::now() + OWNER_TIMEOUT;
                    changes += 1;
                    if changes == COPY_ATTEMPTS {
                        for key in &moving.left {
                            let why = "the key, or another one of its batch, was written at the source during every attempt";
                            moving.report.fail(FailureReason::KeptChanging, key, why);
                        }
                        break;
                    }
                }
                Ok(Attempt::NotNow) if Instant::now() < deadline => lane.source.start_again().await,
                Ok(Attempt::NotNow) => {
                    self.counts.report.add(moving.report);
                    return Err(TransferError::NoOwner(format!(
                        "slot {} of the source has no owner that answers, or moves for long",
                        Slot::of_key(keys[0])
                    )));
                }
                Err(why) => {
                    self.counts.report.add(moving.report);
                    return Err(why);
                }
            }
        }
        self.counts.report.add(moving.report);
        Ok(moving.bytes)
    }

    async fn attempt(
        &self,
        lane: &mut Ends,
        moving: &mut Moving<'_>,
    ) -> Result<Attempt, TransferError> {
        let not_now =
            |error: ClientError| match self.wanted.part.source.is_cluster() && passes(&error) {
                true => Ok(Attempt::NotNow),
                false => Err(TransferError::from(error)),
            };
        let source = match lane.source.owner(moving.left[0]).await {
            Ok(Some(source)) => source,
            Ok(None) => return Ok(Attempt::NotNow),
            Err(error) => return not_now(error),
        };
        if let Err(error) = source.watch_many(&moving.left).await {
            return not_now(error);
        }
        let question = self.wanted.question;
        let dumped = match source.dump_many(&moving.left, question, Asking::No).await {
            Ok(dumped) => dumped,
            Err(error) => return not_now(error),
        };
        let mut values = Vec::with_capacity(dumped.len());
        for one in dumped {
            match one {
                Ok(value) => values.push(value),
                Err(ReadFault::Moved | ReadFault::Ask(_)) => return Ok(Attempt::NotNow),
                Err(ReadFault::NotNow(error) | ReadFault::Refused(error)) => return not_now(error),
            }
        }
        let mut report = TransferReport::default();
        let items = self.items(&moving.left, values, &mut report);
        moving.bytes += bytes_of(&items);
        // What was there before is not lost: it was deleted by an attempt whose answer was lost, or by a client.
        if !moving.are_written {
            moving.report.gone += report.gone;
        }
        // Keys that were written by an earlier attempt are no conflict.
        let done = match moving.are_written {
            false => {
                let items = self
                    .without_collisions(lane, items, &mut moving.report)
                    .await?;
                lane.target.write(items).await?
            }
            true => lane.target.overwrite(items).await?,
        };
        if !moving.are_written {
            moving.report.add(self.counts.count(&done));
            moving.are_written = true;
        }
        let there: Vec<Vec<u8>> = done
            .into_iter()
            .filter(|(_, outcome)| matches!(outcome, KeyOutcome::Written | KeyOutcome::Same))
            .map(|(item, _)| item.key)
            .collect();
        let is_there = |key: &[u8]| {
            let mut originals = there
                .iter()
                .filter_map(|name| self.wanted.part.original(name));
            originals.any(|original| original == key)
        };
        moving.left.retain(|key| is_there(key));
        if moving.left.is_empty() {
            source.unwatch().await?;
            return Ok(Attempt::Moved);
        }
        match source.unlink_watched(&moving.left).await {
            Ok(Some(deleted)) => {
                moving.report.deleted += deleted;
                Ok(Attempt::Moved)
            }
            // A key was written meanwhile: all of these are copied again.
            Ok(None) => Ok(Attempt::Changed),
            Err(error) => not_now(error),
        }
    }

    /// The keys that are still there, with their values and their names in the cluster.
    fn items(
        &self,
        keys: &[&[u8]],
        dumped: Vec<Option<Dumped>>,
        report: &mut TransferReport,
    ) -> Vec<Item> {
        let mut items = Vec::with_capacity(keys.len());
        for (key, dumped) in keys.iter().zip(dumped) {
            match dumped {
                Some(dumped) => items.push(item(self.wanted.part.renamed(key), dumped)),
                None => report.gone += 1,
            }
        }
        items
    }

    /// Leaves out keys that would overwrite one of another database. RESTORE without REPLACE overwrites nothing.
    async fn without_collisions(
        &self,
        lane: &mut Ends,
        mut items: Vec<Item>,
        report: &mut TransferReport,
    ) -> Result<Vec<Item>, TransferError> {
        if self.options.on_conflict != OnConflict::Replace {
            return Ok(items);
        }
        for other in &mut lane.before {
            let names: Vec<&[u8]> = items.iter().map(|item| item.key.as_slice()).collect();
            let mut has = other.has(&names).await?.into_iter();
            let why = format!(
                "database {} has a key that gets this name, too",
                other.database()
            );
            items.retain(|item| {
                let collides = has.next().unwrap_or(false);
                if collides {
                    report.fail(FailureReason::Collides, &item.key, &why);
                }
                !collides
            });
        }
        Ok(items)
    }

    fn lane(&self, source: KeyReader) -> Ends {
        Ends {
            source,
            before: self.wanted.before.iter().map(Other::of).collect(),
            target: Lane::new(
                Arc::clone(&self.owners),
                self.options,
                self.wanted.part.into,
            ),
        }
    }

    /// Transfers a value that exceeds the limit of replies.
    async fn transfer_large(&self, key: &[u8]) -> Result<(), TransferError> {
        // The semaphore is never closed.
        let _turn = self.large.acquire().await.ok();
        let reader = KeyReader::for_one_value(self.wanted.part.source.clone());
        match self.transfer(&mut self.lane(reader), &[key]).await {
            Err(TransferError::Client(error)) if is_too_large(&error) => {
                let mut report = TransferReport::default();
                let why = "larger than 512 MiB, the limit of servers";
                report.fail(FailureReason::TooLarge, key, why);
                self.counts.report.add(report);
                Ok(())
            }
            other => other.map(drop),
        }
    }
}

/// Whether the error passes once the slot has an owner again.
fn passes(error: &ClientError) -> bool {
    const CODES: [&str; 6] = [
        "MOVED",
        "ASK",
        "TRYAGAIN",
        "CLUSTERDOWN",
        "READONLY",
        "EXECABORT",
    ];
    match error.server_code() {
        Some(code) => CODES.contains(&code),
        None => is_temporary(error),
    }
}

fn bytes_of(items: &[Item]) -> u64 {
    items.iter().map(|item| item.payload.len() as u64).sum()
}

fn item(key: Vec<u8>, dumped: Dumped) -> Item {
    let Dumped { payload, expires } = dumped;
    let (payload, encoding) = portable(payload);
    Item {
        key,
        payload,
        encoding,
        expires,
        idle: None,
        frequency: None,
    }
}
