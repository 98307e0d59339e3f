//! Compares the keys of RDB files, of a backup or of any origin, with those of a cluster.
//!
//! Files are read side by side on threads of their own, and their keys are compared in batches, which wait in a bounded
//! queue with their values. What is not equal is compared again after a pause: clients may write meanwhile.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinSet, spawn_blocking};

use super::keyspace::{KeyReader, Keyspace, ReadFrom, is_too_large};
use super::report::readable;
use super::restore::{LARGEST, READERS};
use super::selection::Selection;
use super::slots::SlotOwners;
use super::verify::{LEFT, PAUSE, ROUNDS};
use super::verify_report::{
    Discrepancy, FoundKey, Sight, UNKNOWN_DUMPS, VerifyReport, left as remaining, on_one_side,
    same_ttl,
};
use super::workers::{finish, until_halted};
use super::{Stopper, TransferError, ValuesBefore};
use crate::backup::{Meter, MeterPart, open_rdb};
use crate::client::Dumped;
use crate::cluster::functions::{Functions, library_name};
use crate::cluster::slot::{Slot, SlotSet};
use crate::rdb::{Keep, Reader, Record, Sameness, Value, payload_of_text, same_value};

/// The most keys per batch.
const BATCH: usize = 256;
/// The bytes of names and values per batch.
const BATCH_BYTES: usize = 2 << 20;
/// The batches that wait for a lane.
const QUEUED_BATCHES: usize = 4;
/// The memory for batches in progress, in KiB; a larger value is compared alone.
const ROOM: u32 = 128 << 10;
/// The number of lanes.
const LANES: usize = 8;

/// A file whose keys are compared. It may be packed.
#[derive(Debug, Clone)]
pub struct SavedFile {
    /// The path.
    pub path: PathBuf,
    /// The name in messages.
    pub name: String,
    /// The slots that its node owned: other keys in the file are stray keys.
    pub slots: SlotSet,
    /// The number of its keys that are compared, if that is known.
    pub keys: Option<u64>,
}

/// What is compared.
#[derive(Debug, Clone)]
pub struct FilesToVerify {
    /// The files.
    pub files: Vec<SavedFile>,
    /// Which of their keys are wanted, and where they are in the cluster.
    pub selection: Selection,
    /// By how much times to live may differ.
    pub ttl_tolerance: Duration,
}

/// A key of a file. Its name may be as long as a value.
struct Saved {
    /// Its name in the cluster.
    key: Vec<u8>,
    /// How much of the name is not in the file.
    prefix: usize,
    payload: Vec<u8>,
    /// When it expires, in milliseconds since 1970.
    expires: Option<u64>,
}

impl Saved {
    fn bytes(&self) -> usize {
        self.key.len() + self.payload.len()
    }
}

/// Keys of one database of a file.
struct Batch {
    database: u32,
    /// The database of the cluster.
    into: u32,
    keys: Vec<Saved>,
    /// The counters of the file.
    part: Arc<MeterPart>,
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

/// Compares all wanted keys of the files. The report covers what was compared even if the comparison stopped.
pub async fn verify_files(
    owners: Arc<SlotOwners>,
    wanted: FilesToVerify,
    meter: Arc<Meter>,
    stopper: &Stopper,
) -> (VerifyReport, Option<TransferError>) {
    let all = Arc::new(Verification {
        owners,
        tolerance: wanted.ttl_tolerance,
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
        tasks.spawn(async move { until_halted(all.lane(&received), &all.stopper).await });
    }
    let turns = Arc::new(Semaphore::new(READERS));
    let room = Arc::new(Semaphore::new(ROOM as usize));
    let selection = Arc::new(wanted.selection);
    for file in wanted.files {
        let (turns, selection) = (Arc::clone(&turns), Arc::clone(&selection));
        let (all, name) = (Arc::clone(&all), file.name.clone());
        let queue = Queue {
            batches: batches.clone(),
            room: Arc::clone(&room),
            part: all.meter.part(&file.name, file.keys),
            stopper: stopper.clone(),
        };
        tasks.spawn(async move {
            // The semaphore is never closed.
            let _turn = turns.acquire_owned().await.ok();
            let runtime = Handle::current();
            let reading = spawn_blocking(move || read(&file, &selection, &queue, &runtime));
            let read = reading.await.unwrap_or(Err(TransferError::Panicked))?;
            let mut report = all.report();
            report.uncompared += read.unread;
            report.functions.insert(name, read.functions);
            Ok(())
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
    part: Arc<MeterPart>,
    stopper: Stopper,
}

impl Queue {
    /// Queues a batch once there is memory for it.
    async fn send(&self, (database, into): (u32, u32), keys: Vec<Saved>) {
        if keys.is_empty() {
            return;
        }
        self.part.list(keys.len() as u64);
        let bytes: usize = keys.iter().map(Saved::bytes).sum();
        let share = u32::try_from(bytes >> 10).unwrap_or(ROOM).clamp(1, ROOM);
        let send = async {
            // The semaphore is never closed.
            let room = Arc::clone(&self.room).acquire_many_owned(share).await.ok();
            let batch = Batch {
                database,
                into,
                keys,
                part: Arc::clone(&self.part),
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

/// What became of a file.
struct ReadFile {
    /// The keys from the first record on that a later version wrote, and values above the limit of servers.
    unread: u64,
    functions: Functions,
}

/// Reads one file, on a thread of its own.
fn read(
    file: &SavedFile,
    selection: &Selection,
    queue: &Queue,
    runtime: &Handle,
) -> Result<ReadFile, TransferError> {
    let unreadable = |error: String| TransferError::File {
        file: file.name.clone(),
        error,
        before: ValuesBefore::Doubtful,
    };
    let opened = open_rdb(&file.path).map_err(|error| unreadable(error.to_string()))?;
    let reader = Reader::new(opened, Keep::UpTo(LARGEST));
    let mut reader = reader.map_err(|error| unreadable(error.to_string()))?;
    let (mut keys, mut functions) = (Vec::new(), Functions::default());
    let (mut databases, mut bytes, mut seen, mut unread) = ((0, 0), 0, 0, 0);
    while !queue.stopper.is_halted() {
        let entry = match reader.record() {
            Ok(Record::Entry(entry)) => entry,
            Ok(Record::End(_)) => break,
            Ok(Record::Function(code)) => {
                if let Some(name) = library_name(&code) {
                    functions.add(&name, &code);
                }
                continue;
            }
            Ok(_) => continue,
            Err(error) if error.unread().is_some() => {
                unread += reader.announced().saturating_sub(seen).max(1);
                break;
            }
            Err(error) => return Err(unreadable(error.to_string())),
        };
        seen += 1;
        // Stray keys are not restored either.
        let choice = selection.choose(&file.slots, Slot::of_key(&entry.key), &entry);
        let Some(to) = choice.wanted() else {
            continue;
        };
        let payload = match entry.value {
            Value::Payload(payload) => payload,
            Value::Text(text) => payload_of_text(&text),
            // No server can have it.
            Value::TooLarge(_) | Value::Ahead(_) | Value::NotKept => {
                unread += 1;
                continue;
            }
        };
        let saved = Saved {
            key: to.renamed(entry.key),
            prefix: to.prefix.len(),
            payload,
            expires: entry.expires,
        };
        let is_full = keys.len() == BATCH || bytes + saved.bytes() > BATCH_BYTES;
        if is_full || databases != (entry.database, to.into) {
            runtime.block_on(queue.send(databases, std::mem::take(&mut keys)));
            databases = (entry.database, to.into);
            bytes = 0;
        }
        bytes += saved.bytes();
        keys.push(saved);
    }
    runtime.block_on(queue.send(databases, keys));
    if !queue.stopper.is_halted() {
        queue.part.complete();
    }
    Ok(ReadFile { unread, functions })
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
            let Some(batch) = batch else {
                return Ok(());
            };
            let reader = readers
                .entry(batch.into)
                .or_insert_with(|| KeyReader::new(self.target(batch.into)));
            let (keys, part) = (batch.keys.len() as u64, Arc::clone(&batch.part));
            self.compare(reader, batch).await?;
            self.meter.add(keys);
            part.add(keys);
        }
    }

    fn target(&self, database: u32) -> Keyspace {
        Keyspace::of_cluster(Arc::clone(&self.owners), ReadFrom::Masters, database)
    }

    /// Compares the keys of one batch, again those that are not equal.
    async fn compare(&self, reader: &mut KeyReader, batch: Batch) -> Result<(), TransferError> {
        let Batch {
            database,
            into,
            mut keys,
            _room,
            ..
        } = batch;
        for round in 1..=ROUNDS {
            if round > 1 {
                tokio::select! {
                    biased;
                    () = self.stopper.halted() => return Ok(()),
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
            let values = self.dump(reader, into, &keys).await?;
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
                    Sight::Unknown(why) => (Discrepancy::Uncompared, why),
                };
                self.report().count(FoundKey {
                    discrepancy,
                    database,
                    key: readable(saved.key.get(saved.prefix..).unwrap_or_default()),
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
        let clock = || self.owners.clock_of_key(&saved.key);
        let left = saved.expires.map(|time| time.saturating_sub(clock().now()));
        // What the cluster has under its name was written later.
        if left == Some(0) {
            return Sight::Gone;
        }
        let Some(value) = value else {
            return on_one_side(Sight::Missing, left, self.tolerance);
        };
        match same_value(&saved.payload, &value.payload) {
            Sameness::Same => same_ttl(left, remaining(value.expires), self.tolerance),
            Sameness::Different => Sight::Different(None),
            Sameness::Unknown => Sight::Unknown(UNKNOWN_DUMPS.to_string()),
        }
    }

    /// The values of keys in the cluster. Those that exceed the limit of replies are read one at a time.
    async fn dump(
        &self,
        reader: &mut KeyReader,
        into: u32,
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
            let mut alone = KeyReader::for_one_value(self.target(into));
            values.extend(alone.dump(&[name], LEFT).await?);
        }
        Ok(values)
    }

    fn report(&self) -> std::sync::MutexGuard<'_, VerifyReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Events, Phase, Unit};

    #[tokio::test]
    async fn names_take_room_as_values_do() {
        let room = Arc::new(Semaphore::new(ROOM as usize));
        let (batches, mut received) = mpsc::channel(1);
        let (events, _receiver) = Events::channel();
        let meter = Meter::new(Phase::Compare, Unit::Keys, None, events);
        let queue = Queue {
            batches,
            room: Arc::clone(&room),
            part: meter.part("a", None),
            stopper: Stopper::default(),
        };
        let saved = Saved {
            key: vec![b'k'; 1 << 20],
            prefix: 0,
            payload: vec![0; 2 << 20],
            expires: None,
        };
        queue.send((0, 0), vec![saved]).await;
        assert_eq!(room.available_permits(), (ROOM - (3 << 10)) as usize);
        drop(received.recv().await);
        assert_eq!(room.available_permits(), ROOM as usize);
    }
}
