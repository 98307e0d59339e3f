//! Compares the keys of a source with those of a cluster: types, values and times to live.
//!
//! The names of the source's keys come from SCAN, and several lanes read the values of both sides. Nothing is remembered
//! of equal keys, so the memory does not depend on their number. A key that is not equal may have been written between the
//! two reads: it is compared again after a pause, three times in all. Such keys wait in bounded queues, and if these are
//! full, the lanes wait too.
//!
//! Values up to 1 MiB are read by DUMP and compared by type ([`same_value`]); larger ones piece by piece
//! ([`comparison`](crate::comparison)), except for those of modules. What one connection has in memory is bounded by
//! [`BATCH_BYTES`], as far as MEMORY USAGE is right, and by the limit of replies (32 MiB) otherwise. A value with a larger
//! piece, and one whose pieces the user may not read, is read whole by DUMP: above 32 MiB on connections of its own, one at
//! a time.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::keyspace::{KeyReader, Keyspace, NodeKeys, ReadFrom, SourcePart, is_too_large};
use super::report::readable;
use super::scan::{Chunk, NodeParts, Scan, Sizes, node_parts};
use super::slots::SlotOwners;
use super::verify_report::{
    Discrepancy, FoundKey, NAMED, Sight, UNKNOWN_DUMPS, VerifyReport, left, on_one_side, same_ttl,
};
use super::workers::{finish, until_halted};
use super::{Stopper, TransferError};
use crate::backup::Meter;
use crate::client::{Dumped, ExpiryQuestion, Fault, Glance, Kind};
use crate::comparison::{Unequal, same_pieces};
use crate::rdb::{Sameness, same_value};

/// The most keys per batch.
const BATCH: usize = 256;
/// The bytes per batch, by MEMORY USAGE.
const BATCH_BYTES: u64 = 2 << 20;
/// Larger values are compared in pieces.
const LARGE: u64 = 1 << 20;
/// What is assumed of values whose size is not known. If it is wrong, the batch is read again key by key.
const UNKNOWN: u64 = 4 << 10;
/// The most lanes.
const LANES: usize = 16;
/// The chunks that wait for a lane.
const QUEUED_CHUNKS: usize = 4;
/// The tasks that compare keys again.
const RECHECKS: usize = 4;
/// The most keys that one of these tasks has in memory.
const SUSPECTS: usize = 4096;
/// The most bytes of their names.
const SUSPECT_BYTES: usize = 4 << 20;
/// How often a key is compared.
pub(super) const ROUNDS: usize = 3;
/// The pause before a key is compared again.
pub(super) const PAUSE: Duration = Duration::from_millis(250);
/// What is asked of times to live: the clocks of the two sides may differ.
pub(super) const LEFT: ExpiryQuestion = ExpiryQuestion::Left;
/// Which keys are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Those of the source.
    Source,
    /// Also those that only the cluster has.
    BothWays,
}

/// What is compared.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Only keys of this pattern.
    pub pattern: Option<String>,
    /// Which keys are looked for.
    pub direction: Direction,
    /// The masters of the cluster, if keys are looked for that only it has.
    pub masters: Vec<NodeKeys>,
    /// By how much times to live may differ.
    pub ttl_tolerance: Duration,
}

/// A key that is not equal, and its size in memory.
struct Suspect {
    key: Vec<u8>,
    size: Option<u64>,
}

/// What all lanes share.
struct Verification {
    owners: Arc<SlotOwners>,
    part: SourcePart,
    target: Keyspace,
    options: VerifyOptions,
    report: StdMutex<VerifyReport>,
    meter: Arc<Meter>,
    /// The counters of the nodes of both sides.
    parts: NodeParts,
    stopper: Stopper,
}

/// The reader of each side.
struct Readers {
    source: KeyReader,
    target: KeyReader,
}

impl Readers {
    /// Forgets the connections: if one side has failed, the other one may be in the middle of a reply.
    fn disconnect(&mut self) {
        self.source.disconnect();
        self.target.disconnect();
    }
}

/// Compares all keys. The report covers what was compared even if the comparison stopped.
pub async fn verify(
    part: SourcePart,
    owners: Arc<SlotOwners>,
    options: VerifyOptions,
    meter: Arc<Meter>,
    stopper: &Stopper,
) -> (VerifyReport, Option<TransferError>) {
    let target = Keyspace::of_cluster(Arc::clone(&owners), ReadFrom::Masters, part.into);
    let lanes = (2 * part.source.nodes().max(target.nodes())).clamp(2, LANES);
    let pattern = options.pattern.as_deref();
    let mut parts = node_parts(&meter, &part.nodes, pattern);
    parts.extend(node_parts(&meter, &options.masters, pattern));
    let all = Arc::new(Verification {
        owners,
        part,
        target,
        options,
        report: StdMutex::default(),
        meter,
        parts,
        stopper: stopper.clone(),
    });
    let (suspects, suspected) = mpsc::channel(SUSPECTS);
    let suspected = Arc::new(Mutex::new(suspected));
    let mut tasks = JoinSet::new();
    for _ in 0..RECHECKS {
        let (all, suspected) = (Arc::clone(&all), Arc::clone(&suspected));
        tasks.spawn(async move { until_halted(all.recheck(&suspected), &all.stopper).await });
    }
    let work = Arc::clone(&all);
    tasks.spawn(async move { work.look_through(lanes, suspects).await });
    finish(tasks, stopper).await;
    (std::mem::take(&mut *all.report()), stopper.why())
}

impl Verification {
    /// Compares the keys of the source, then looks for those that only the cluster has.
    async fn look_through(
        self: Arc<Self>,
        lanes: usize,
        suspects: mpsc::Sender<Suspect>,
    ) -> Result<(), TransferError> {
        self.pass(self.part.source.clone(), Pass::Compare, lanes, &suspects)
            .await?;
        match self.options.direction {
            Direction::Source => Ok(()),
            Direction::BothWays => {
                self.pass(self.target.clone(), Pass::LookForExtra, lanes, &suspects)
                    .await
            }
        }
    }

    /// Scans one side, and lets the lanes work on what it has.
    async fn pass(
        self: &Arc<Self>,
        scanned: Keyspace,
        pass: Pass,
        lanes: usize,
        suspects: &mpsc::Sender<Suspect>,
    ) -> Result<(), TransferError> {
        let (chunks, received) = mpsc::channel(QUEUED_CHUNKS);
        let received = Arc::new(Mutex::new(received));
        let scan = Scan {
            keyspace: scanned,
            pattern: self.options.pattern.clone(),
            sizes: match pass {
                Pass::Compare => Sizes::Asked,
                Pass::LookForExtra => Sizes::NotAsked,
            },
            parts: self.parts.clone(),
            chunks,
            stopper: self.stopper.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(scan.run());
        for _ in 0..lanes {
            let (all, received) = (Arc::clone(self), Arc::clone(&received));
            let suspects = suspects.clone();
            tasks.spawn(async move {
                until_halted(all.lane(pass, &received, &suspects), &all.stopper).await
            });
        }
        finish(tasks, &self.stopper).await;
        Ok(())
    }

    async fn lane(
        &self,
        pass: Pass,
        received: &Mutex<mpsc::Receiver<Chunk>>,
        suspects: &mpsc::Sender<Suspect>,
    ) -> Result<(), TransferError> {
        let mut readers = self.readers();
        loop {
            let next = async { received.lock().await.recv().await };
            let chunk = tokio::select! {
                biased;
                () = self.stopper.halted() => None,
                chunk = next => chunk,
            };
            let Some(chunk) = chunk else {
                return Ok(());
            };
            match pass {
                Pass::Compare => self.compare_chunk(&mut readers, chunk, suspects).await?,
                Pass::LookForExtra => self.look_for_extra(&mut readers, chunk, suspects).await?,
            }
        }
    }

    fn readers(&self) -> Readers {
        Readers {
            source: KeyReader::new(self.part.source.clone()),
            target: KeyReader::new(self.target.clone()),
        }
    }

    async fn compare_chunk(
        &self,
        readers: &mut Readers,
        chunk: Chunk,
        suspects: &mpsc::Sender<Suspect>,
    ) -> Result<(), TransferError> {
        let keys = chunk.keys.into_iter().zip(chunk.sizes);
        let keys: Vec<Suspect> = keys.map(|(key, size)| Suspect { key, size }).collect();
        for batch in batches(keys) {
            if self.stopper.is_halted() {
                return Ok(());
            }
            let sights = self.compare(readers, &batch).await?;
            self.meter.add(batch.len() as u64);
            if let Some(part) = &chunk.part {
                part.add(batch.len() as u64);
            }
            for (key, sight) in batch.into_iter().zip(sights) {
                match sight {
                    Sight::Same => self.report().same += 1,
                    // What only the cluster has is found in the other direction.
                    Sight::Gone | Sight::Extra => self.report().gone += 1,
                    Sight::Missing | Sight::Different(_) | Sight::Unknown(_) => {
                        self.suspect(suspects, key).await;
                    }
                }
            }
        }
        Ok(())
    }

    /// Keys that both sides have were compared before.
    async fn look_for_extra(
        &self,
        readers: &mut Readers,
        chunk: Chunk,
        suspects: &mpsc::Sender<Suspect>,
    ) -> Result<(), TransferError> {
        let names = chunk.keys.iter().map(Vec::as_slice);
        // Of the same names: nothing is renamed where keys are looked for in both directions.
        let names: Vec<&[u8]> = names.collect();
        let exist = readers.source.exist(&names).await?;
        self.meter.add(names.len() as u64);
        if let Some(part) = &chunk.part {
            part.add(names.len() as u64);
        }
        for (key, exists) in chunk.keys.into_iter().zip(exist) {
            if !exists {
                self.suspect(suspects, Suspect { key, size: None }).await;
            }
        }
        Ok(())
    }

    async fn suspect(&self, suspects: &mpsc::Sender<Suspect>, key: Suspect) {
        tokio::select! {
            biased;
            () = self.stopper.halted() => {}
            // The receivers live until all senders are gone.
            _ = suspects.send(key) => {}
        }
    }

    /// Compares keys again that were not equal.
    async fn recheck(
        &self,
        suspected: &Mutex<mpsc::Receiver<Suspect>>,
    ) -> Result<(), TransferError> {
        let mut readers = self.readers();
        loop {
            let mut some = Vec::new();
            let mut bytes = 0;
            let fill = async {
                let mut suspected = suspected.lock().await;
                while some.len() < SUSPECTS && bytes < SUSPECT_BYTES {
                    let Some(one) = suspected.recv().await else {
                        return;
                    };
                    bytes += one.key.len();
                    some.push(one);
                }
            };
            tokio::select! {
                biased;
                () = self.stopper.halted() => return Ok(()),
                () = fill => {}
            }
            if some.is_empty() {
                return Ok(());
            }
            self.settle(&mut readers, some).await?;
        }
    }

    async fn settle(
        &self,
        readers: &mut Readers,
        mut suspects: Vec<Suspect>,
    ) -> Result<(), TransferError> {
        for round in 1..ROUNDS {
            tokio::select! {
                biased;
                () = self.stopper.halted() => return Ok(()),
                () = tokio::time::sleep(PAUSE) => {}
            }
            let is_last = round + 1 == ROUNDS;
            let mut still = Vec::new();
            for batch in batches(std::mem::take(&mut suspects)) {
                if self.stopper.is_halted() {
                    return Ok(());
                }
                let sights = self.compare(readers, &batch).await?;
                for (suspect, sight) in batch.into_iter().zip(sights) {
                    let discrepancy = match sight {
                        Sight::Same => {
                            let mut report = self.report();
                            report.same += 1;
                            report.settled += 1;
                            continue;
                        }
                        Sight::Gone => {
                            self.report().gone += 1;
                            continue;
                        }
                        Sight::Extra if self.options.direction == Direction::Source => {
                            self.report().gone += 1;
                            continue;
                        }
                        _ if !is_last => {
                            still.push(suspect);
                            continue;
                        }
                        Sight::Missing => (Discrepancy::Missing, Some(String::new())),
                        Sight::Extra => (Discrepancy::Extra, Some(String::new())),
                        Sight::Different(what) => (Discrepancy::Different, what),
                        Sight::Unknown(why) => (Discrepancy::Uncompared, Some(why)),
                    };
                    self.count(readers, &suspect, discrepancy).await?;
                }
            }
            suspects = still;
        }
        Ok(())
    }

    /// Counts a key that is not equal. The first ones are named, with what differs.
    async fn count(
        &self,
        readers: &mut Readers,
        suspect: &Suspect,
        (discrepancy, what): (Discrepancy, Option<String>),
    ) -> Result<(), TransferError> {
        let is_named = {
            let mut report = self.report();
            let count = match discrepancy {
                Discrepancy::Missing => &mut report.missing,
                Discrepancy::Extra => &mut report.extra,
                Discrepancy::Different => &mut report.different,
                Discrepancy::Uncompared => &mut report.uncompared,
            };
            *count += 1;
            *count <= NAMED as u64
        };
        if !is_named {
            return Ok(());
        }
        let what = match what {
            Some(what) => what,
            None => match self.in_pieces(readers, &suspect.key).await? {
                Sight::Different(Some(what)) => what,
                _ => "the values differed each time they were compared".to_string(),
            },
        };
        self.report().found.push(FoundKey {
            discrepancy,
            database: self.part.database(),
            key: readable(&suspect.key),
            what,
        });
        Ok(())
    }

    /// Compares the keys of one batch; a large value is in a batch of its own.
    async fn compare(
        &self,
        readers: &mut Readers,
        batch: &[Suspect],
    ) -> Result<Vec<Sight>, TransferError> {
        if let [one] = batch
            && one.size.is_some_and(|size| size > LARGE)
        {
            return Ok(vec![self.in_pieces(readers, &one.key).await?]);
        }
        let names: Vec<&[u8]> = batch.iter().map(|one| one.key.as_slice()).collect();
        let renamed: Vec<_> = names.iter().map(|key| self.part.renamed(key)).collect();
        let renamed: Vec<&[u8]> = renamed.iter().map(AsRef::as_ref).collect();
        let read = tokio::try_join!(
            readers.source.dump(&names, LEFT),
            readers.target.dump(&renamed, LEFT)
        );
        match read {
            Ok((here, there)) => {
                let pairs = here.into_iter().zip(there);
                Ok(pairs.map(|(here, there)| self.sight(here, there)).collect())
            }
            Err(TransferError::Client(error)) if is_too_large(&error) => {
                readers.disconnect();
                let mut sights = Vec::with_capacity(batch.len());
                for (one, renamed) in batch.iter().zip(renamed) {
                    sights.push(match self.dumps(readers, &one.key, renamed).await {
                        Err(TransferError::Client(error)) if is_too_large(&error) => {
                            readers.disconnect();
                            self.in_pieces(readers, &one.key).await?
                        }
                        sight => sight?,
                    });
                }
                Ok(sights)
            }
            Err(error) => Err(error),
        }
    }

    /// Compares one key by the dumps of both sides.
    async fn dumps(
        &self,
        readers: &mut Readers,
        key: &[u8],
        renamed: &[u8],
    ) -> Result<Sight, TransferError> {
        let (key, renamed) = ([key], [renamed]);
        let (mut here, mut there) = tokio::try_join!(
            readers.source.dump(&key, LEFT),
            readers.target.dump(&renamed, LEFT)
        )?;
        Ok(self.sight(here.pop().flatten(), there.pop().flatten()))
    }

    /// The same for dumps of any size, one at a time over all lanes if they exceed the limit of replies. There is no more
    /// to tell of what differs.
    async fn whole_dumps(
        &self,
        readers: &mut Readers,
        key: &[u8],
        renamed: &[u8],
    ) -> Result<Sight, TransferError> {
        Ok(match self.any_dumps(readers, key, renamed).await? {
            Sight::Different(None) => Sight::Different(Some("the values differ".to_string())),
            sight => sight,
        })
    }

    async fn any_dumps(
        &self,
        readers: &mut Readers,
        key: &[u8],
        renamed: &[u8],
    ) -> Result<Sight, TransferError> {
        match self.dumps(readers, key, renamed).await {
            Err(TransferError::Client(error)) if is_too_large(&error) => readers.disconnect(),
            sight => return sight,
        }
        // Both are in memory. The semaphore is never closed.
        let _turn = self.owners.large().acquire().await.ok();
        let mut alone = Readers {
            source: KeyReader::for_one_value(self.part.source.clone()),
            target: KeyReader::for_one_value(self.target.clone()),
        };
        match self.dumps(&mut alone, key, renamed).await {
            Err(TransferError::Client(error)) if is_too_large(&error) => {
                let why = "a dump is larger than 512 MiB, the limit of servers";
                Ok(Sight::Unknown(why.to_string()))
            }
            sight => sight,
        }
    }

    fn sight(&self, here: Option<Dumped>, there: Option<Dumped>) -> Sight {
        let (here, there) = match (here, there) {
            (None, None) => return Sight::Gone,
            (Some(here), None) => return self.on_one_side(Sight::Missing, left(here.expires)),
            (None, Some(there)) => return self.on_one_side(Sight::Extra, left(there.expires)),
            (Some(here), Some(there)) => (here, there),
        };
        match same_value(&here.payload, &there.payload) {
            Sameness::Same => self.same_ttl(left(here.expires), left(there.expires)),
            Sameness::Different => Sight::Different(None),
            Sameness::Unknown => Sight::Unknown(UNKNOWN_DUMPS.to_string()),
        }
    }

    fn same_ttl(&self, here: Option<u64>, there: Option<u64>) -> Sight {
        same_ttl(here, there, self.options.ttl_tolerance)
    }

    fn on_one_side(&self, sight: Sight, left: Option<u64>) -> Sight {
        on_one_side(sight, left, self.options.ttl_tolerance)
    }

    /// Compares one key piece by piece.
    async fn in_pieces(&self, readers: &mut Readers, key: &[u8]) -> Result<Sight, TransferError> {
        let renamed = self.part.renamed(key);
        let holders =
            tokio::try_join!(readers.source.holder(key), readers.target.holder(&renamed))?;
        let (source, target) = match holders {
            (None, None) => return Ok(Sight::Gone),
            (Some(source), None) => {
                return Ok(self.on_one_side(Sight::Missing, left(source.expires)));
            }
            (None, Some(target)) => {
                return Ok(self.on_one_side(Sight::Extra, left(target.expires)));
            }
            (Some(source), Some(target)) => (source.client, target.client),
        };
        // The connections are on their database.
        let (here, there) = (source.reader(0, key), target.reader(0, &renamed));
        let compared = async {
            let (mine, other) = match tokio::try_join!(here.glance(), there.glance())? {
                (None, None) => return Ok(Some(Sight::Gone)),
                (Some(mine), None) => {
                    return Ok(Some(self.on_one_side(Sight::Missing, mine.ttl)));
                }
                (None, Some(other)) => {
                    return Ok(Some(self.on_one_side(Sight::Extra, other.ttl)));
                }
                (Some(mine), Some(other)) => (mine, other),
            };
            if mine.kind != other.kind {
                return Err(Unequal::At(format!(
                    "{} at the source, {} in the cluster",
                    mine.kind, other.kind
                )));
            }
            match mine.kind {
                // It has no pieces.
                Kind::Other => return Ok(None),
                kind => same_pieces(here, there, kind, heavier(mine, other)).await?,
            }
            Ok(Some(self.same_ttl(mine.ttl, other.ttl)))
        };
        match compared.await {
            Ok(Some(sight)) => Ok(sight),
            Ok(None) => self.whole_dumps(readers, key, &renamed).await,
            Err(Unequal::At(what)) => Ok(Sight::Different(Some(what))),
            Err(Unequal::Unread(error)) => {
                readers.disconnect();
                match error.fault {
                    // A member is larger than a reply may be, or the members are not as large as MEMORY USAGE estimated
                    // by a few of them. Or the user may read values by DUMP only.
                    Fault::TooLarge { .. } | Fault::NoPermission { .. } => {
                        self.whole_dumps(readers, key, &renamed).await
                    }
                    Fault::Server { .. } if error.is_unknown_command() => {
                        self.whole_dumps(readers, key, &renamed).await
                    }
                    // It moved meanwhile, or was replaced by a value of another type.
                    Fault::Server { .. } => Ok(Sight::Unknown(error.to_string())),
                    _ => Err(error.into()),
                }
            }
        }
    }

    fn report(&self) -> std::sync::MutexGuard<'_, VerifyReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Compare,
    LookForExtra,
}

/// Divides keys into batches that fit into memory. A large value is alone in its batch.
fn batches(keys: Vec<Suspect>) -> Vec<Vec<Suspect>> {
    let mut batches = Vec::new();
    let mut batch: Vec<Suspect> = Vec::new();
    let mut bytes = 0;
    for key in keys {
        let size = key.size.unwrap_or(UNKNOWN);
        if size > LARGE {
            batches.push(vec![key]);
            continue;
        }
        if batch.len() == BATCH || bytes + size > BATCH_BYTES {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += size;
        batch.push(key);
    }
    batches.push(batch);
    batches.retain(|batch| !batch.is_empty());
    batches
}

fn heavier(one: Glance, other: Glance) -> u64 {
    one.weight.unwrap_or(0).max(other.weight.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(sizes: &[Option<u64>]) -> Vec<Suspect> {
        let keys = sizes.iter().map(|size| Suspect {
            key: b"key".to_vec(),
            size: *size,
        });
        keys.collect()
    }

    #[test]
    fn batches_are_bounded_by_keys_and_bytes() {
        let lengths = |sizes: &[Option<u64>]| {
            let batches = batches(keys(sizes));
            batches.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&[Some(10); 3]), [3]);
        assert_eq!(lengths(&[None; 600]), [256, 256, 88]);
        assert_eq!(lengths(&[Some(1 << 20); 5]), [2, 2, 1]);
        // A large value does not split the batch around it.
        assert_eq!(lengths(&[Some(1), Some(2 << 20), Some(1)]), [1, 2]);
    }
}
