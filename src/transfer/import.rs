//! From a server: SCAN, DUMP, RESTORE, and UNLINK where keys are to move.

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

/// How many keys go in one batch at most.
const BATCH: usize = 512;
/// The same where they are watched meanwhile: WATCH compares each key with all that the connection
/// watches already (Redis 7.0: 512 keys in 2 ms, half of all that moving them takes).
const WATCHED_BATCH: usize = 96;
/// How many bytes a batch should have.
const BATCH_BYTES: u64 = 2 << 20;
/// How many keys SCAN looks at in one go.
const SCAN_COUNT: usize = 1000;
/// How often keys are copied again that changed while they were moved.
const COPY_ATTEMPTS: usize = 10;

/// Whether keys stay at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferMode {
    /// They do.
    Copy,
    /// They are deleted there once they are in the cluster, unless they changed meanwhile.
    Move,
}

/// What is read of the source.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Its database.
    pub database: u32,
    /// Keys of this pattern only.
    pub pattern: Option<String>,
    /// Whether they stay there.
    pub mode: TransferMode,
    /// How it tells when keys go.
    pub question: ExpiryQuestion,
}

/// All that lanes need.
struct Import {
    owners: Arc<SlotOwners>,
    source: Target,
    /// How the source is reached: not the way in which the cluster is.
    reach: Arc<Connections>,
    wanted: ImportOptions,
    options: TransferOptions,
    counts: WriteCounts,
    stopper: Stopper,
    /// Large values come one at a time.
    large: Semaphore,
}

/// Copies or moves all keys that are wanted. What became of them is told also where it stopped.
pub async fn import(
    owners: Arc<SlotOwners>,
    source: Target,
    reach: Arc<Connections>,
    wanted: ImportOptions,
    options: TransferOptions,
    meter: Meter,
    stopper: &Stopper,
) -> (TransferReport, Option<TransferError>) {
    let (queues, receivers) = Queues::new(&owners, options.lanes);
    let import = Arc::new(Import {
        owners,
        source,
        reach,
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
    /// Names all keys, and hands them out by owner. The queues end with it.
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

    /// Puts a batch in a queue; false where everything stops.
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

    /// A connection of its own to the source, on its database.
    async fn connect(&self) -> Result<NodeClient, ClientError> {
        let client = self.reach.own(&self.source).await?;
        if self.wanted.database != 0 {
            client.select(self.wanted.database).await?;
        }
        Ok(client)
    }

    /// One lane.
    async fn run_lane(&self, receiver: BatchReceiver<Vec<Vec<u8>>>) -> Result<(), TransferError> {
        let mut source = None;
        let mut lane = Lane::new(Arc::clone(&self.owners), self.options, 0);
        let most = match self.wanted.mode {
            TransferMode::Copy => BATCH,
            TransferMode::Move => WATCHED_BATCH,
        };
        // How many keys fit into a batch, by those that came before.
        let mut size = most;
        while let Some(keys) = next(&receiver, &self.stopper).await {
            let mut rest = keys.as_slice();
            // How many go alone, since a value among them is large: it would be dumped again, and
            // the source held, for each guess at how many fit.
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
                    // Far larger than those before: again, one at a time.
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

    /// Keys of one batch, from the source to the cluster; how many bytes they had.
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
            // What we wrote ourselves a moment ago is no conflict.
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
            // Somebody wrote to one of them: all of these once more.
            left.retain(|key| there.iter().any(|name| name == key));
            if attempt + 1 == COPY_ATTEMPTS {
                for key in &left {
                    let why =
                        "it, or a key beside it, was written to at the source again and again";
                    report.fail(FailureReason::KeptChanging, key, why);
                }
            }
        }
        self.counts.report.add(report);
        Ok(bytes)
    }

    /// A value that is larger than any reply should be.
    async fn transfer_large(&self, lane: &mut Lane, key: &[u8]) -> Result<(), TransferError> {
        // Never closed.
        let _turn = self.large.acquire().await.ok();
        let client = self.reach.for_one_value(&self.source).await?;
        if self.wanted.database != 0 {
            client.select(self.wanted.database).await?;
        }
        match self.transfer(&client, lane, &[key]).await {
            Err(TransferError::Client(error)) if matches!(error.fault, Fault::TooLarge { .. }) => {
                let mut report = TransferReport::default();
                let why = "larger than the 512 MiB that a server takes in one piece";
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
