//! Compares the keys of the files of a backup with those of a cluster.
//!
//! Files are read side by side on threads of their own, and their keys are compared in batches, which wait in a bounded
//! queue with their values. What is not equal is compared again after a pause: clients may write meanwhile.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinSet, spawn_blocking};

use super::keyspace::{KeyReader, Keyspace, ReadFrom, is_too_large};
use super::lane::milliseconds;
use super::report::readable;
use super::slots::SlotOwners;
use super::verify::{Discrepancy, FoundKey, LEFT, PAUSE, ROUNDS, Sight, VerifyReport, same_ttl};
use super::workers::finish;
use super::{Stopper, TransferError};
use crate::backup::Meter;
use crate::client::{Dumped, Expiry};
use crate::cluster::slot::{Slot, SlotSet};
use crate::rdb::{Keep, Reader, Record, Sameness, Value, payload_of_text, same_value};

/// The most keys per batch.
const BATCH: usize = 256;
/// The bytes per batch.
const BATCH_BYTES: usize = 2 << 20;
/// The batches that wait for a lane.
const QUEUED_BATCHES: usize = 4;
/// The largest value that a server accepts (proto-max-bulk-len), in bytes.
const LARGEST: usize = 512 << 20;
/// The number of files that are read at a time.
const READERS: usize = 4;
/// The memory for batches in progress, in KiB; a larger value is compared alone.
const ROOM: u32 = 128 << 10;
/// The number of lanes.
const LANES: usize = 8;

/// A file of a backup.
#[derive(Debug, Clone)]
pub struct SavedFile {
    /// The path.
    pub path: PathBuf,
    /// The name in messages.
    pub name: String,
    /// The slots that its node owned: other keys in the file are stray keys.
    pub slots: SlotSet,
}

/// A key of a file.
struct Saved {
    key: Vec<u8>,
    payload: Vec<u8>,
    /// When it expires, in milliseconds since 1970.
    expires: Option<u64>,
}

/// Keys of one database.
struct Batch {
    database: u32,
    keys: Vec<Saved>,
    /// Its share of the memory for batches.
    _room: Option<OwnedSemaphorePermit>,
}

struct Verification {
    owners: Arc<SlotOwners>,
    /// By how much times to live may differ.
    tolerance: Duration,
    report: StdMutex<VerifyReport>,
    meter: Arc<Meter>,
    stopper: Stopper,
    /// Large values are read one at a time.
    large: Semaphore,
}

/// Compares all keys of the files. Times to live may differ by `tolerance`. The report covers what was compared even if
/// the comparison stopped.
pub async fn verify_backup(
    owners: Arc<SlotOwners>,
    files: Vec<SavedFile>,
    tolerance: Duration,
    meter: Arc<Meter>,
    stopper: &Stopper,
) -> (VerifyReport, Option<TransferError>) {
    let all = Arc::new(Verification {
        owners,
        tolerance,
        report: StdMutex::default(),
        meter,
        stopper: stopper.clone(),
        large: Semaphore::new(1),
    });
    let (batches, received) = mpsc::channel(QUEUED_BATCHES);
    let received = Arc::new(Mutex::new(received));
    let mut tasks = JoinSet::new();
    for _ in 0..LANES {
        let (all, received) = (Arc::clone(&all), Arc::clone(&received));
        tasks.spawn(async move { all.lane(&received).await });
    }
    let turns = Arc::new(Semaphore::new(READERS));
    let room = Arc::new(Semaphore::new(ROOM as usize));
    for file in files {
        let turns = Arc::clone(&turns);
        let queue = Queue {
            batches: batches.clone(),
            room: Arc::clone(&room),
            stopper: stopper.clone(),
        };
        tasks.spawn(async move {
            // The semaphore is never closed.
            let _turn = turns.acquire_owned().await.ok();
            let runtime = Handle::current();
            let reading = spawn_blocking(move || read(&file, &queue, &runtime));
            reading.await.unwrap_or(Err(TransferError::Interrupted))
        });
    }
    drop(batches);
    finish(tasks, stopper).await;
    (std::mem::take(&mut *all.report()), stopper.why())
}

/// Where the readers of files put batches.
struct Queue {
    batches: mpsc::Sender<Batch>,
    room: Arc<Semaphore>,
    stopper: Stopper,
}

impl Queue {
    /// Queues a batch once there is memory for it.
    async fn send(&self, database: u32, keys: Vec<Saved>) {
        let bytes: usize = keys.iter().map(|saved| saved.payload.len()).sum();
        let share = u32::try_from(bytes >> 10).unwrap_or(ROOM).clamp(1, ROOM);
        let send = async {
            // The semaphore is never closed.
            let room = Arc::clone(&self.room).acquire_many_owned(share).await.ok();
            let batch = Batch {
                database,
                keys,
                _room: room,
            };
            let _ = self.batches.send(batch).await;
        };
        tokio::select! {
            biased;
            () = self.stopper.halted() => {}
            () = send => {}
        }
    }
}

/// Reads one file, on a thread of its own.
fn read(file: &SavedFile, queue: &Queue, runtime: &Handle) -> Result<(), TransferError> {
    let unreadable = |error: String| TransferError::File {
        file: file.name.clone(),
        error,
    };
    let opened = File::open(&file.path).map_err(|error| unreadable(error.to_string()))?;
    let reader = Reader::new(opened, Keep::UpTo(LARGEST));
    let mut reader = reader.map_err(|error| unreadable(error.to_string()))?;
    let mut keys = Vec::new();
    let (mut database, mut bytes) = (0, 0);
    while !queue.stopper.is_halted() {
        let record = reader.record();
        match record.map_err(|error| unreadable(error.to_string()))? {
            Record::Entry(entry) if file.slots.contains(Slot::of_key(&entry.key)) => {
                let payload = match entry.value {
                    Value::Payload(payload) => payload,
                    Value::Text(text) => payload_of_text(&text),
                    Value::TooLarge(_) | Value::NotKept => {
                        let key = super::report::quoted(&entry.key);
                        return Err(unreadable(format!("{key} is larger than 512 MiB")));
                    }
                };
                let is_full = keys.len() == BATCH || bytes + payload.len() > BATCH_BYTES;
                if is_full || database != entry.database {
                    runtime.block_on(queue.send(database, std::mem::take(&mut keys)));
                    database = entry.database;
                    bytes = 0;
                }
                bytes += payload.len();
                keys.push(Saved {
                    key: entry.key,
                    payload,
                    expires: entry.expires,
                });
            }
            Record::End(_) => break,
            // Stray keys are not restored either, and functions are no keys.
            _ => {}
        }
    }
    runtime.block_on(queue.send(database, keys));
    Ok(())
}

impl Verification {
    async fn lane(&self, received: &Mutex<mpsc::Receiver<Batch>>) -> Result<(), TransferError> {
        let mut readers: HashMap<u32, KeyReader> = HashMap::new();
        loop {
            let next = async { received.lock().await.recv().await };
            let batch = tokio::select! {
                biased;
                () = self.stopper.halted() => None,
                batch = next => batch,
            };
            let Some(Batch {
                database,
                keys,
                _room,
            }) = batch
            else {
                return Ok(());
            };
            let reader = readers
                .entry(database)
                .or_insert_with(|| KeyReader::new(self.target(database)));
            self.meter.add(keys.len() as u64);
            self.compare(reader, database, keys).await?;
        }
    }

    fn target(&self, database: u32) -> Keyspace {
        Keyspace::of_cluster(Arc::clone(&self.owners), ReadFrom::Masters, database)
    }

    /// Compares the keys of one batch, again those that are not equal.
    async fn compare(
        &self,
        reader: &mut KeyReader,
        database: u32,
        mut keys: Vec<Saved>,
    ) -> Result<(), TransferError> {
        for round in 1..=ROUNDS {
            if round > 1 {
                tokio::select! {
                    biased;
                    () = self.stopper.halted() => return Ok(()),
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
            let values = self.dump(reader, database, &keys).await?;
            let mut still = Vec::new();
            for (saved, value) in keys.into_iter().zip(values) {
                let (discrepancy, what) = match self.sight(&saved, value) {
                    Sight::Same => {
                        let mut report = self.report();
                        report.same += 1;
                        report.settled += u64::from(round > 1);
                        continue;
                    }
                    Sight::Gone | Sight::Extra => {
                        self.report().gone += 1;
                        continue;
                    }
                    _ if round < ROUNDS => {
                        still.push(saved);
                        continue;
                    }
                    Sight::Missing => (Discrepancy::Missing, String::new()),
                    Sight::Different(what) => {
                        let what = what.unwrap_or_else(|| "the values differ".to_string());
                        (Discrepancy::Different, what)
                    }
                };
                self.report().count(FoundKey {
                    discrepancy,
                    database,
                    key: readable(&saved.key),
                    what,
                });
            }
            keys = still;
            if keys.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn sight(&self, saved: &Saved, value: Option<Dumped>) -> Sight {
        let now = milliseconds();
        let left = saved.expires.map(|time| time.saturating_sub(now));
        let Some(value) = value else {
            return match left {
                Some(0) => Sight::Gone,
                _ => Sight::Missing,
            };
        };
        match same_value(&saved.payload, &value.payload) {
            Sameness::Same => {
                let there = match value.expires {
                    Expiry::Never => None,
                    Expiry::At(left) | Expiry::In(left) => Some(left),
                };
                same_ttl(left, there, self.tolerance)
            }
            Sameness::Different => Sight::Different(None),
            Sameness::Unknown => Sight::Different(Some(
                "the dumps of the values differ, and their type can't be compared".to_string(),
            )),
        }
    }

    /// The values of keys in the cluster. Those that exceed the limit of replies are read one at a time.
    async fn dump(
        &self,
        reader: &mut KeyReader,
        database: u32,
        keys: &[Saved],
    ) -> Result<Vec<Option<Dumped>>, TransferError> {
        let names: Vec<&[u8]> = keys.iter().map(|saved| saved.key.as_slice()).collect();
        match reader.dump(&names, LEFT).await {
            Err(TransferError::Client(error)) if is_too_large(&error) => {}
            read => return read,
        }
        let mut values = Vec::with_capacity(keys.len());
        for name in names {
            // The semaphore is never closed.
            let _turn = self.large.acquire().await.ok();
            let mut alone = KeyReader::for_one_value(self.target(database));
            values.extend(alone.dump(&[name], LEFT).await?);
        }
        Ok(values)
    }

    fn report(&self) -> std::sync::MutexGuard<'_, VerifyReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
