//! Import from a server: SCAN, DUMP, RESTORE, and UNLINK for keys that move.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::lane::Lane;
use super::report::{FailureReason, SharedReport, TransferReport};
use super::slots::SlotOwners;
use super::workers::{BatchReceiver, Batcher, Queues, WriteCounts, finish, next};
use super::{Item, KeyOutcome, Stopper, TransferError, TransferOptions};
use crate::backup::Meter;
use crate::client::{Asking, ClientError, Dumped, ExpiryQuestion, Fault, NodeClient};
use crate::cluster::node::NodeId;
use crate::connections::{Connections, Target};
use crate::rdb::portable;

/// The most keys per batch.
const BATCH: usize = 512;
/// The most keys per batch if they are watched: WATCH compares each key with all that the connection watches already
/// (Redis 7.0: 512 keys in 2 ms, half of the time that it takes to move them).
const WATCHED_BATCH: usize = 96;
/// The bytes per batch.
const BATCH_BYTES: u64 = 2 << 20;
/// The COUNT of SCAN.
const SCAN_COUNT: usize = 1000;
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
    /// The database.
    pub database: u32,
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
    source: Target,
    /// The connections to the source, which has an access other than the cluster's.
    source_connections: Arc<Connections>,
    wanted: ImportOptions,
    options: TransferOptions,
    counts: WriteCounts,
    stopper: Stopper,
    /// Large values are transferred one at a time.
    large: Semaphore,
}

/// Copies or moves all matching keys. The report covers what was done even if the transfer stopped.
pub async fn import(
    owners: Arc<SlotOwners>,
    source: Target,
    source_connections: Arc<Connections>,
    wanted: ImportOptions,
    options: TransferOptions,
    meter: Meter,
    stopper: &Stopper,
) -> (TransferReport, Option<TransferError>) {
    let (queues, receivers) = Queues::new(&owners, options.lanes);
    let import = Arc::new(Import {
        owners,
        source,
        source_connections,
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
    let scanner = Arc::clone(&import);
    lanes.spawn(async move { scanner.scan(queues).await });
    finish(lanes, stopper).await;
    (import.counts.report.take(), stopper.why())
}

impl Import {
    /// Scans all keys, and queues them by owner. The queues close at the end.
    async fn scan(&self, queues: Queues<Vec<Vec<u8>>>) -> Result<(), TransferError> {
        let client = self.connect().await?;
        let mut batcher = Batcher::new(BATCH, usize::MAX);
        let pattern = self.wanted.pattern.as_deref();
        let mut cursor = 0;
        loop {
            let (after, keys) = client.scan(cursor, pattern, SCAN_COUNT).await?;
            for key in keys {
                let owner = self.owners.id_of_key(&key);
                if let Some(batch) = batcher.add(owner, key, 0)
                    && !self.enqueue(&queues, owner, batch).await
                {
                    return Ok(());
                }
            }
            cursor = after;
            if cursor == 0 {
                break;
            }
        }
        for (owner, batch) in batcher.rest() {
            if !self.enqueue(&queues, owner, batch).await {
                break;
            }
        }
        Ok(())
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

    /// Opens a connection to the source, on its database.
    async fn connect(&self) -> Result<NodeClient, ClientError> {
        let client = self.source_connections.own(&self.source).await?;
        if self.wanted.database != 0 {
            client.select(self.wanted.database).await?;
        }
        Ok(client)
    }

    /// Runs one lane.
    async fn run_lane(&self, receiver: BatchReceiver<Vec<Vec<u8>>>) -> Result<(), TransferError> {
        let mut source = None;
        let mut lane = Lane::new(Arc::clone(&self.owners), self.options, 0);
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
                let client = match &mut source {
                    Some(client) => client,
                    empty => empty.insert(self.connect().await?),
                };
                let some: Vec<&[u8]> = some.iter().map(Vec::as_slice).collect();
                let bytes = match self.transfer(client, &mut lane, &some).await {
                    Ok(bytes) => bytes,
                    // Much larger than the previous values: retry one key at a time.
                    Err(TransferError::Client(error))
                        if matches!(error.fault, Fault::TooLarge { .. }) && some.len() > 1 =>
                    {
                        source = None;
                        alone = some.len();
                        continue;
                    }
                    Err(TransferError::Client(error))
                        if matches!(error.fault, Fault::TooLarge { .. }) =>
                    {
                        source = None;
                        self.transfer_large(&mut lane, some[0]).await?;
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
    async fn transfer(
        &self,
        source: &NodeClient,
        lane: &mut Lane,
        keys: &[&[u8]],
    ) -> Result<u64, TransferError> {
        let mut report = TransferReport::default();
        let mut bytes = 0;
        let mut left = keys.to_vec();
        for attempt in 0..COPY_ATTEMPTS {
            if self.wanted.mode == TransferMode::Move {
                source.watch_many(&left).await?;
            }
            let dumped = source
                .dump_many(&left, self.wanted.question, Asking::No)
                .await?;
            let mut items = Vec::with_capacity(left.len());
            for (key, dumped) in left.iter().zip(dumped) {
                match dumped {
                    Some(dumped) => items.push(item(key, dumped)),
                    None => report.gone += 1,
                }
            }
            bytes += items
                .iter()
                .map(|item| item.payload.len() as u64)
                .sum::<u64>();
            // Keys that were written by the previous attempt are no conflict.
            let done = match attempt {
                0 => lane.write(items).await?,
                _ => lane.overwrite(items).await?,
            };
            if attempt == 0 {
                report.add(self.counts.count(&done));
            }
            if self.wanted.mode == TransferMode::Copy {
                break;
            }
            let there: Vec<Vec<u8>> = done
                .into_iter()
                .filter(|(_, outcome)| matches!(outcome, KeyOutcome::Written | KeyOutcome::Same))
                .map(|(item, _)| item.key)
                .collect();
            if there.is_empty() {
                source.unwatch().await?;
                break;
            }
            let names: Vec<&[u8]> = there.iter().map(Vec::as_slice).collect();
            if let Some(deleted) = source.unlink_watched(&names).await? {
                report.deleted += deleted;
                break;
            }
            // A key was written meanwhile: copy all of these again.
            left.retain(|key| there.iter().any(|name| name == key));
            if attempt + 1 == COPY_ATTEMPTS {
                for key in &left {
                    let why = "the key, or another one of its batch, was written at the source during every attempt";
                    report.fail(FailureReason::KeptChanging, key, why);
                }
            }
        }
        self.counts.report.add(report);
        Ok(bytes)
    }

    /// Transfers a value that exceeds the limit of replies.
    async fn transfer_large(&self, lane: &mut Lane, key: &[u8]) -> Result<(), TransferError> {
        // The semaphore is never closed.
        let _turn = self.large.acquire().await.ok();
        let client = self.source_connections.for_one_value(&self.source).await?;
        if self.wanted.database != 0 {
            client.select(self.wanted.database).await?;
        }
        match self.transfer(&client, lane, &[key]).await {
            Err(TransferError::Client(error)) if matches!(error.fault, Fault::TooLarge { .. }) => {
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

fn item(key: &[u8], dumped: Dumped) -> Item {
    let Dumped { payload, expires } = dumped;
    let (payload, encoding) = portable(payload);
    Item {
        key: key.to_vec(),
        payload,
        encoding,
        expires,
        idle: None,
        frequency: None,
    }
}
