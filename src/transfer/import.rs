//! Import from a server or a cluster: SCAN, DUMP, RESTORE, and UNLINK for keys that move.

mod moving;
mod reading;

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::bulk::{BulkBatch, Writer};
use super::clock::Clock;
use super::collisions::Other;
use super::keyspace::{KeyReader, Keyspace, ReadFrom, SourcePart, is_too_large};
use super::report::{FailureReason, SharedReport, TransferReport};
use super::scan::{Chunk, Scan, Sizes, node_parts};
use super::slots::SlotOwners;
use super::workers::{BatchReceiver, Batcher, Queues, WriteCounts, finish, next, until_halted};
use super::{Item, OnConflict, Stopper, TransferError, TransferOptions};
use crate::backup::Meter;
use crate::client::{Dumped, Expiry, ExpiryQuestion, ReadKey, WriteCommands};
use crate::cluster::node::NodeId;
use crate::cluster::slot::Slot;
use crate::rdb::{portable, text_of_dump};

use self::reading::BulkSource;

/// The most keys per batch.
const BATCH: usize = 512;
/// The most keys per batch if they are watched: WATCH compares each key with all that the connection watches already
/// (Redis 7.0: 512 keys in 2 ms, half of the time that it takes to move them).
const WATCHED_BATCH: usize = 96;
/// The bytes per batch.
const BATCH_BYTES: u64 = 2 << 20;
/// The most memory of commands that is kept for the next batch, in bytes.
const LARGEST_REUSED: usize = 4 << 20;
/// The chunks of names that wait to be distributed.
const QUEUED_CHUNKS: usize = 4;
/// The most keys that wait for others of their slot. A transaction deletes keys of one slot only.
const MOST_PENDING: usize = 200_000;

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
        parts: node_parts(&meter, &wanted.part.nodes, wanted.pattern.as_deref()),
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
    let halted = stopper.clone();
    lanes.spawn(async move { until_halted(scan.run(), &halted).await });
    let distributor = Arc::clone(&import);
    lanes.spawn(async move {
        distributor.distribute(scanned, queues).await;
        Ok(())
    });
    finish(lanes, stopper).await;
    (import.counts.report.take(), stopper.why())
}

/// The two ends of a lane.
struct Ends {
    source: KeyReader,
    /// Reads the usual keys; `None` for a value that is too large for it.
    bulk: Option<BulkSource>,
    /// Reads what the cluster has.
    copies: KeyReader,
    /// The databases that were imported before, whose keys may have the same names.
    before: Vec<Other>,
    writer: Writer,
    /// Memory for the commands of a batch.
    memory: Vec<u8>,
}

/// Keys on their way to one node.
struct ImportBatch {
    bulk: BulkBatch,
    /// The keys that are not among the commands.
    others: Vec<Item>,
    /// The clock of the node.
    clock: Clock,
}

impl ImportBatch {
    /// Adds a key. Large values are not copied into commands.
    fn add(&mut self, item: Item) {
        if !self.is_usual(&item) || !self.bulk.add_item(&item) {
            self.others.push(item);
        }
    }

    /// Whether commands may have the value. Written with REPLACE, one that has expired deletes the one in the cluster.
    fn is_usual(&self, item: &Item) -> bool {
        item.payload.len() as u64 <= BATCH_BYTES && !item.has_expired(self.clock)
    }
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
            let listed = chunk.keys.len() as u64;
            let known = self.owners.known();
            for key in chunk.keys {
                let owner = known.owner_of(Slot::of_key(&self.wanted.part.renamed(&key)));
                let together: Together = (owner, by_slot.then(|| Slot::of_key(&key)));
                pending += 1;
                if let Some(batch) = batcher.add(together, key, 0) {
                    pending -= batch.len();
                    if !self.enqueue(&queues, owner, batch).await {
                        return;
                    }
                }
            }
            // Not the batches: their keys are of several masters of the source.
            if let Some(part) = chunk.part {
                part.add(listed);
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
        let bulk = BulkSource::new(self.wanted.part.source.clone());
        let mut lane = self.lane(KeyReader::new, Some(bulk));
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
        if self.wanted.mode == TransferMode::Move {
            return self.move_away(lane, keys).await;
        }
        let copied = tokio::select! {
            biased;
            copied = self.copy(lane, keys) => copied,
            () = self.stopper.given_up() => Ok(0),
        };
        let uncounted = lane.writer.take_uncounted();
        let is_unknown = match &copied {
            Ok(_) => true,
            Err(TransferError::Client(error)) => error.fault.is_silence(),
            Err(_) => false,
        };
        if is_unknown {
            self.counts.add_unknown(uncounted);
        }
        copied
    }

    async fn copy(&self, lane: &mut Ends, keys: &[&[u8]]) -> Result<u64, TransferError> {
        // What these keys would overwrite has to be known first.
        let overwrites = self.options.on_conflict == OnConflict::Replace && !lane.before.is_empty();
        let read = match &mut lane.bulk {
            Some(source) if !overwrites => source.dump(keys, self.wanted.question).await,
            _ => Ok(None),
        };
        let Some(read) = read? else {
            return self.copy_each(lane, keys).await;
        };
        let is_unread = |(_, read): &(_, &ReadKey<'_>)| **read == ReadKey::Unread;
        let unread = keys.iter().zip(&read).filter(is_unread);
        let unread: Vec<&[u8]> = unread.map(|(key, _)| *key).collect();
        let mut report = TransferReport::default();
        // Before anything is written: if that is too large for one reply, all of these keys are read again. And before the
        // others are judged by their times to live: it may take as long as an election.
        let items = match unread.is_empty() {
            true => Vec::new(),
            false => {
                let dumped = lane.source.dump(&unread, self.wanted.question).await?;
                self.items(&unread, dumped, &mut report)
            }
        };
        let mut bytes = bytes_of(&items);
        let name = keys.first().map(|key| self.wanted.part.renamed(key));
        let mut batch = self.batch(name.as_deref(), std::mem::take(&mut lane.memory));
        for (key, read) in keys.iter().zip(read) {
            match read {
                ReadKey::Value(payload, expires) => {
                    bytes += payload.len() as u64;
                    self.add_value(&mut batch, key, payload, expires);
                }
                ReadKey::Gone => report.gone += 1,
                ReadKey::Unread => {}
            }
        }
        items.into_iter().for_each(|item| batch.add(item));
        if let Some(source) = &mut lane.bulk {
            source.shrink();
        }
        self.counts.report.add(report);
        self.write(lane, batch).await?;
        Ok(bytes)
    }

    /// The same without [`BulkSource`].
    async fn copy_each(&self, lane: &mut Ends, keys: &[&[u8]]) -> Result<u64, TransferError> {
        let dumped = lane.source.dump(keys, self.wanted.question).await?;
        let mut report = TransferReport::default();
        let items = self.items(keys, dumped, &mut report);
        let bytes = bytes_of(&items);
        let items = self.without_collisions(lane, items, &mut report).await?;
        self.counts.report.add(report);
        let name = items.first().map(|item| item.key.as_slice());
        let mut batch = self.batch(name, std::mem::take(&mut lane.memory));
        items.into_iter().for_each(|item| batch.add(item));
        self.write(lane, batch).await?;
        Ok(bytes)
    }

    async fn write(&self, lane: &mut Ends, batch: ImportBatch) -> Result<(), TransferError> {
        let (batch, others) = (batch.bulk, batch.others);
        let recycle = reused_as(&mut lane.memory);
        let written = lane.writer.write(batch, others, &self.counts, recycle);
        written.await
    }

    /// No commands yet, for the owner of the slot of this key.
    fn batch(&self, name: Option<&[u8]>, memory: Vec<u8>) -> ImportBatch {
        let mode = self.options.on_conflict.restore_mode();
        // Names of a batch had one owner when they were distributed.
        let owner = name.and_then(|name| self.owners.id_of_key(name));
        let commands = WriteCommands::new(mode, memory);
        ImportBatch {
            bulk: BulkBatch::new(owner, self.wanted.part.into, commands),
            clock: self.owners.clock_of(owner),
            others: Vec::new(),
        }
    }

    /// Adds a key as it was read.
    fn add_value(&self, batch: &mut ImportBatch, key: &[u8], payload: &[u8], expires: Expiry) {
        let is_usual = expires == Expiry::Never && payload.len() as u64 <= BATCH_BYTES;
        match is_usual.then(|| text_of_dump(payload)).flatten() {
            Some(text) => batch.bulk.add_copied(&self.wanted.part.renamed(key), text),
            None => {
                let payload = payload.to_vec();
                batch.add(self.item(key, Dumped { payload, expires }));
            }
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
                Some(dumped) => items.push(self.item(key, dumped)),
                None => report.gone += 1,
            }
        }
        items
    }

    /// The key under its name in the cluster, with the time that it has left.
    fn item(&self, original: &[u8], dumped: Dumped) -> Item {
        let key = self.wanted.part.renamed(original).into_owned();
        let expires = match dumped.expires {
            Expiry::At(time) => {
                let clock = self.wanted.part.source.clock_of_key(original);
                clock.expiry_by(self.owners.clock_of_key(&key), time)
            }
            expires => expires,
        };
        let (payload, encoding) = portable(dumped.payload);
        Item {
            key,
            payload,
            encoding,
            expires,
            idle: None,
            frequency: None,
        }
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

    fn lane(&self, reader: fn(Keyspace) -> KeyReader, bulk: Option<BulkSource>) -> Ends {
        let owners = Arc::clone(&self.owners);
        let database = self.wanted.part.into;
        Ends {
            source: reader(self.wanted.part.source.clone()),
            bulk,
            copies: reader(Keyspace::of_cluster(owners, ReadFrom::Masters, database)),
            before: self.wanted.before.iter().map(Other::of).collect(),
            writer: Writer::new(&self.owners, self.options, database),
            memory: Vec::new(),
        }
    }

    /// Transfers a value that exceeds the limit of replies.
    async fn transfer_large(&self, key: &[u8]) -> Result<(), TransferError> {
        // The semaphore is never closed.
        let _turn = self.large.acquire().await.ok();
        let mut lane = self.lane(KeyReader::for_one_value, None);
        match self.transfer(&mut lane, &[key]).await {
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

/// Keeps the memory of commands for the next batch, unless it is large.
fn reused_as(memory: &mut Vec<u8>) -> impl FnOnce(Vec<u8>) {
    |used| {
        if used.capacity() <= LARGEST_REUSED {
            *memory = used;
        }
    }
}

fn bytes_of(items: &[Item]) -> u64 {
    items.iter().map(|item| item.payload.len() as u64).sum()
}
