//! Compares the keys of a source with those of a cluster: types, values and times to live.
//!
//! The names of the source's keys come from SCAN, and several lanes read the values of both sides. Nothing is remembered
//! of equal keys, so the memory does not depend on their number. A key that is not equal may have been written between the
//! two reads: it is compared again after a pause, three times in all. Such keys wait in bounded queues, and if these are
//! full, the lanes wait too.
//!
//! Values up to 1 MiB are read by DUMP and compared by type ([`same_value`]); larger ones piece by piece
//! ([`comparison`](crate::comparison)). What one connection has in memory is bounded by [`BATCH_BYTES`], as far as MEMORY
//! USAGE is right, and by the limit of replies (32 MiB) otherwise.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::keyspace::{KeyReader, Keyspace, ReadFrom, SourcePart, is_too_large};
use super::report::readable;
use super::scan::{Chunk, Scan, Sizes};
use super::slots::SlotOwners;
use super::workers::finish;
use super::{Stopper, TransferError};
use crate::backup::Meter;
use crate::client::{Dumped, Expiry, ExpiryQuestion, Fault, Glance, Kind};
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
/// By how much times to live may differ, unless the user says otherwise: a key is on its way for a moment, and the two
/// sides are not read at the same one.
pub const TTL_TOLERANCE: Duration = Duration::from_secs(5);
/// What is asked of times to live: the clocks of the two sides may differ.
pub(super) const LEFT: ExpiryQuestion = ExpiryQuestion::Left;
/// The number of keys that are named of each kind.
const NAMED: usize = 100;

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
    /// By how much times to live may differ.
    pub ttl_tolerance: Duration,
}

/// How a key is not equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Discrepancy {
    /// The cluster does not have it.
    Missing,
    /// Only the cluster has it.
    Extra,
    /// The values, the types or the times to live differ.
    Different,
}

/// A key that is not equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundKey {
    /// How it is not equal.
    pub discrepancy: Discrepancy,
    /// The database of the source.
    pub database: u32,
    /// The key at the source, printable and without quotes.
    pub key: String,
    /// What differs; empty for keys of one side.
    pub what: String,
}

/// The counts of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Equal keys. SCAN may return a key twice, and keys of slots that move are read twice: each time counts.
    pub same: u64,
    /// Keys that were deleted at the source, or expired, before they were compared.
    pub gone: u64,
    /// Keys that the cluster does not have.
    pub missing: u64,
    /// Keys that only the cluster has.
    pub extra: u64,
    /// Keys with different values, types or times to live.
    pub different: u64,
    /// Keys that were equal only when they were compared again; they count as equal, too.
    pub settled: u64,
    /// The first keys that are not equal, of each kind.
    pub found: Vec<FoundKey>,
}

/// How a key is on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    Same,
    /// Neither side has it, or the source has it no more.
    Gone,
    Missing,
    Extra,
    /// With the reason, if it is known already.
    Different(Option<String>),
}

/// A key that is not equal, and its size in memory.
struct Suspect {
    key: Vec<u8>,
    size: Option<u64>,
}

/// What all lanes share.
struct Verification {
    part: SourcePart,
    target: Keyspace,
    options: VerifyOptions,
    report: StdMutex<VerifyReport>,
    meter: Arc<Meter>,
    stopper: Stopper,
}

/// The reader of each side.
struct Readers {
    source: KeyReader,
    target: KeyReader,
}

impl VerifyReport {
    /// Counts a key that is not equal. The first ones are named.
    pub(super) fn count(&mut self, key: FoundKey) {
        let count = match key.discrepancy {
            Discrepancy::Missing => &mut self.missing,
            Discrepancy::Extra => &mut self.extra,
            Discrepancy::Different => &mut self.different,
        };
        *count += 1;
        if *count <= NAMED as u64 {
            self.found.push(key);
        }
    }

    /// Adds the counts of another part.
    pub fn add(&mut self, other: Self) {
        self.same += other.same;
        self.gone += other.gone;
        self.missing += other.missing;
        self.extra += other.extra;
        self.different += other.different;
        self.settled += other.settled;
        for one in other.found {
            let kind = self
                .found
                .iter()
                .filter(|found| found.discrepancy == one.discrepancy);
            if kind.count() < NAMED {
                self.found.push(one);
            }
        }
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
    let target = Keyspace::of_cluster(owners, ReadFrom::Masters, part.into);
    let lanes = (2 * part.source.nodes().max(target.nodes())).clamp(2, LANES);
    let all = Arc::new(Verification {
        part,
        target,
        options,
        report: StdMutex::default(),
        meter,
        stopper: stopper.clone(),
    });
    let (suspects, suspected) = mpsc::channel(SUSPECTS);
    let suspected = Arc::new(Mutex::new(suspected));
    let mut tasks = JoinSet::new();
    for _ in 0..RECHECKS {
        let (all, suspected) = (Arc::clone(&all), Arc::clone(&suspected));
        tasks.spawn(async move { all.recheck(&suspected).await });
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
            chunks,
            stopper: self.stopper.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(scan.run());
        for _ in 0..lanes {
            let (all, received) = (Arc::clone(self), Arc::clone(&received));
            let suspects = suspects.clone();
            tasks.spawn(async move { all.lane(pass, &received, &suspects).await });
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
            for (key, sight) in batch.into_iter().zip(sights) {
                match sight {
                    Sight::Same => self.report().same += 1,
                    // What only the cluster has is found in the other direction.
                    Sight::Gone | Sight::Extra => self.report().gone += 1,
                    Sight::Missing | Sight::Different(_) => self.suspect(suspects, key).await,
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
        let renamed: Vec<Vec<u8>> = names.iter().map(|key| self.part.renamed(key)).collect();
        let renamed: Vec<&[u8]> = renamed.iter().map(Vec::as_slice).collect();
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
                // The other side may be in the middle of a reply.
                readers.source.disconnect();
                readers.target.disconnect();
                let mut sights = Vec::with_capacity(batch.len());
                for (one, renamed) in batch.iter().zip(renamed) {
                    let (alone, renamed) = ([one.key.as_slice()], [renamed]);
                    let read = tokio::try_join!(
                        readers.source.dump(&alone, LEFT),
                        readers.target.dump(&renamed, LEFT)
                    );
                    sights.push(match read {
                        Ok((mut here, mut there)) => {
                            self.sight(here.pop().flatten(), there.pop().flatten())
                        }
                        Err(TransferError::Client(error)) if is_too_large(&error) => {
                            readers.source.disconnect();
                            readers.target.disconnect();
                            self.in_pieces(readers, &one.key).await?
                        }
                        Err(error) => return Err(error),
                    });
                }
                Ok(sights)
            }
            Err(error) => Err(error),
        }
    }

    fn sight(&self, here: Option<Dumped>, there: Option<Dumped>) -> Sight {
        let (here, there) = match (here, there) {
            (None, None) => return Sight::Gone,
            (Some(_), None) => return Sight::Missing,
            (None, Some(_)) => return Sight::Extra,
            (Some(here), Some(there)) => (here, there),
        };
        match same_value(&here.payload, &there.payload) {
            Sameness::Same => self.same_ttl(left(here.expires), left(there.expires)),
            Sameness::Different => Sight::Different(None),
            Sameness::Unknown => Sight::Different(Some(
                "the dumps of the values differ, and their type can't be compared".to_string(),
            )),
        }
    }

    fn same_ttl(&self, here: Option<u64>, there: Option<u64>) -> Sight {
        same_ttl(here, there, self.options.ttl_tolerance)
    }

    /// Compares one key piece by piece.
    async fn in_pieces(&self, readers: &mut Readers, key: &[u8]) -> Result<Sight, TransferError> {
        let renamed = self.part.renamed(key);
        let holders =
            tokio::try_join!(readers.source.holder(key), readers.target.holder(&renamed))?;
        let (source, target) = match holders {
            (None, None) => return Ok(Sight::Gone),
            (Some(_), None) => return Ok(Sight::Missing),
            (None, Some(_)) => return Ok(Sight::Extra),
            (Some(source), Some(target)) => (source, target),
        };
        // The connections are on their database.
        let (here, there) = (source.reader(0, key), target.reader(0, &renamed));
        let compared = async {
            let (mine, other) = match tokio::try_join!(here.glance(), there.glance())? {
                (None, None) => return Ok(Sight::Gone),
                (Some(_), None) => return Ok(Sight::Missing),
                (None, Some(_)) => return Ok(Sight::Extra),
                (Some(mine), Some(other)) => (mine, other),
            };
            if mine.kind != other.kind {
                return Err(Unequal::At(format!(
                    "{} at the source, {} in the cluster",
                    mine.kind, other.kind
                )));
            }
            match mine.kind {
                Kind::Other => {
                    let (mine, other) =
                        tokio::try_join!(source.dump(0, key), target.dump(0, &renamed))?;
                    if mine != other {
                        return Err(Unequal::At(
                            "the dumps of the values differ, and their type can't be compared"
                                .to_string(),
                        ));
                    }
                }
                kind => same_pieces(here, there, kind, heavier(mine, other)).await?,
            }
            Ok(self.same_ttl(mine.ttl, other.ttl))
        };
        match compared.await {
            Ok(sight) => Ok(sight),
            Err(Unequal::At(what)) => Ok(Sight::Different(Some(what))),
            Err(Unequal::Unread(error)) => {
                readers.source.disconnect();
                readers.target.disconnect();
                match error.fault {
                    // It moved meanwhile, or was replaced by a value of another type; or the user may not read it.
                    Fault::NoPermission { .. } | Fault::Server { .. } | Fault::TooLarge { .. } => {
                        Ok(Sight::Different(Some(format!(
                            "they can't be compared: {error}"
                        ))))
                    }
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

/// Compares the milliseconds that a key has left on both sides; `None` if it does not expire.
pub(super) fn same_ttl(here: Option<u64>, there: Option<u64>, tolerance: Duration) -> Sight {
    let tolerance = u64::try_from(tolerance.as_millis()).unwrap_or(u64::MAX);
    match (here, there) {
        (None, None) => Sight::Same,
        (Some(here), Some(there)) if here.abs_diff(there) <= tolerance => Sight::Same,
        (here, there) => Sight::Different(Some(format!(
            "they expire at different times: {} at the source, {} in the cluster",
            expiry(here),
            expiry(there)
        ))),
    }
}

fn heavier(one: Glance, other: Glance) -> u64 {
    one.weight.unwrap_or(0).max(other.weight.unwrap_or(0))
}

/// The milliseconds that a key has left, as [`KeyReader::dump`] asks for them.
pub(super) fn left(expires: Expiry) -> Option<u64> {
    match expires {
        Expiry::Never => None,
        Expiry::At(left) | Expiry::In(left) => Some(left),
    }
}

fn expiry(left: Option<u64>) -> String {
    match left {
        None => "never".to_string(),
        Some(left) => {
            let left = Duration::from_millis(left);
            format!("in {}", humantime::format_duration(left))
        }
    }
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
