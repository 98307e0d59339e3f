//! From the files of a backup: values are cut out and sent, a few megabytes at a time.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinSet, spawn_blocking};

use super::lane::Lane;
use super::report::{FailureReason, SharedReport, TransferReport};
use super::slots::SlotOwners;
use super::workers::{BatchReceiver, Batcher, Queues, WriteCounts, finish, next};
use super::{AfterFailure, Item, OnConflict, Stopper, TransferError, TransferOptions};
use crate::backup::Meter;
use crate::client::{ClientError, Expiry, Fault, RestoreMode};
use crate::cluster::node::NodeId;
use crate::cluster::slot::{Slot, SlotSet};
use crate::rdb::{Entry, Keep, Reader, Record, Value};

/// How many keys go in one batch at most.
const BATCH: usize = 512;
/// From so many bytes on a batch is full.
const BATCH_BYTES: usize = 1 << 20;
/// Values larger than this can't be restored: the servers' own limit (`proto-max-bulk-len`).
const LARGEST: usize = 512 << 20;
/// How much may be on its way at a time, in KiB; a larger value goes alone.
const ROOM: u32 = 256 << 10;
/// How many files are read at a time.
const READERS: usize = 4;

/// A file of a backup.
#[derive(Debug, Clone)]
pub struct BackupFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// The slots that its node owned: other keys in it are left-overs.
    pub slots: SlotSet,
}

/// Keys of one database.
struct Batch {
    database: u32,
    items: Vec<Item>,
    /// Their share of the memory that may be used.
    _room: Option<OwnedSemaphorePermit>,
}

/// All that readers and lanes need.
struct Restore {
    owners: Arc<SlotOwners>,
    options: TransferOptions,
    counts: Arc<WriteCounts>,
    stopper: Stopper,
    room: Arc<Semaphore>,
    queues: Queues<Batch>,
    /// Libraries that were loaded already: every file has all of them.
    loaded: Mutex<BTreeSet<Vec<u8>>>,
}

/// Writes the keys of all files. What became of them is told also where it stopped.
pub async fn restore(
    owners: Arc<SlotOwners>,
    parts: Vec<BackupFile>,
    options: TransferOptions,
    meter: Meter,
    stopper: &Stopper,
) -> (TransferReport, Option<TransferError>) {
    let (queues, receivers) = Queues::new(&owners, options.lanes);
    let counts = Arc::new(WriteCounts {
        report: SharedReport::default(),
        meter,
    });
    let restore = Arc::new(Restore {
        owners: Arc::clone(&owners),
        options,
        counts: Arc::clone(&counts),
        stopper: stopper.clone(),
        room: Arc::new(Semaphore::new(ROOM as usize)),
        queues,
        loaded: Mutex::default(),
    });
    let mut lanes = JoinSet::new();
    for receiver in receivers {
        let (owners, counts) = (Arc::clone(&owners), Arc::clone(&counts));
        let stopper = stopper.clone();
        lanes.spawn(async move { run_lane(receiver, owners, options, counts, stopper).await });
    }
    let readers = Arc::new(Semaphore::new(READERS));
    for part in parts {
        let (restore, readers) = (Arc::clone(&restore), Arc::clone(&readers));
        lanes.spawn(async move {
            // Never closed.
            let _turn = readers.acquire_owned().await.ok();
            let runtime = Handle::current();
            let reading = spawn_blocking(move || restore.read(&part, &runtime));
            reading.await.unwrap_or(Err(TransferError::Interrupted))
        });
    }
    // The queues end with the last reader.
    drop(restore);
    finish(lanes, stopper).await;
    (counts.report.take(), stopper.why())
}

/// One lane.
async fn run_lane(
    receiver: BatchReceiver<Batch>,
    owners: Arc<SlotOwners>,
    options: TransferOptions,
    counts: Arc<WriteCounts>,
    stopper: Stopper,
) -> Result<(), TransferError> {
    let mut lanes: HashMap<u32, Lane> = HashMap::new();
    while let Some(batch) = next(&receiver, &stopper).await {
        let database = batch.database;
        let lane = lanes
            .entry(database)
            .or_insert_with(|| Lane::new(Arc::clone(&owners), options, database));
        let done = lane.write(batch.items).await?;
        let report = counts.count(&done);
        counts.report.add(report);
    }
    Ok(())
}

impl Restore {
    /// Reads one file, on a thread of its own.
    fn read(&self, part: &BackupFile, runtime: &Handle) -> Result<(), TransferError> {
        let unreadable = |error: String| TransferError::File {
            file: part.name.clone(),
            error,
        };
        let file = File::open(&part.path).map_err(|error| unreadable(error.to_string()))?;
        let mut reader = Reader::new(file, Keep::UpTo(LARGEST))
            .map_err(|error| unreadable(error.to_string()))?;
        let mut batcher = Batcher::new(BATCH, BATCH_BYTES);
        let mut report = TransferReport::default();
        while !self.stopper.is_halted() {
            match reader
                .record()
                .map_err(|error| unreadable(error.to_string()))?
            {
                Record::Aux(..) => {}
                Record::ModuleAux(module) => drop(report.module_data.insert(module)),
                Record::Function(code) => {
                    runtime.block_on(self.load(&code, &mut report))?;
                }
                Record::Entry(entry) => {
                    if !part.slots.contains(Slot::of_key(&entry.key)) {
                        report.strays += 1;
                        continue;
                    }
                    let Some((database, item)) = self.item(entry, &mut report)? else {
                        continue;
                    };
                    let owner = self.owners.id_of_key(&item.key);
                    let bytes = item.payload.len();
                    if let Some(items) = batcher.add((owner, database), item, bytes) {
                        runtime.block_on(self.enqueue(owner, database, items));
                    }
                }
                Record::End(_) => {
                    for ((owner, database), items) in batcher.rest() {
                        runtime.block_on(self.enqueue(owner, database, items));
                    }
                    break;
                }
            }
        }
        self.counts.report.add(report);
        Ok(())
    }

    /// A key as it is sent; `None` for one that can't be.
    fn item(
        &self,
        entry: Entry,
        report: &mut TransferReport,
    ) -> Result<Option<(u32, Item)>, TransferError> {
        let payload = match entry.value {
            Value::Payload(payload) => payload,
            Value::TooLarge(bytes) => {
                let why = format!("{bytes} bytes: larger than the 512 MiB that a server takes");
                if self.options.after_failure == AfterFailure::Stop {
                    let key = super::report::shown(&entry.key);
                    return Err(TransferError::Key { key, why });
                }
                report.fail(FailureReason::TooLarge, &entry.key, &why);
                return Ok(None);
            }
            Value::NotKept => return Ok(None),
        };
        let item = Item {
            key: entry.key,
            payload,
            encoding: Some(entry.encoding),
            expires: entry.expires.map_or(Expiry::Never, Expiry::At),
            idle: entry.idle,
            frequency: entry.frequency,
        };
        Ok(Some((entry.database, item)))
    }

    /// Puts a batch in a queue, once there is room for it.
    async fn enqueue(&self, owner: Option<NodeId>, database: u32, items: Vec<Item>) {
        let bytes: usize = items.iter().map(|item| item.payload.len()).sum();
        let share = u32::try_from(bytes >> 10).unwrap_or(ROOM).clamp(1, ROOM);
        let send = async {
            // Never closed.
            let room = Arc::clone(&self.room).acquire_many_owned(share).await.ok();
            let batch = Batch {
                database,
                items,
                _room: room,
            };
            let _ = self.queues.of(owner).send(batch).await;
        };
        tokio::select! {
            biased;
            () = self.stopper.halted() => {}
            () = send => {}
        }
    }

    /// Gives a library of functions to every master.
    async fn load(&self, code: &[u8], report: &mut TransferReport) -> Result<(), TransferError> {
        let is_new = {
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.insert(code.to_vec())
        };
        if !is_new {
            return Ok(());
        }
        let mut everywhere = true;
        for owner in self.owners.all() {
            let client = self.owners.connections().client(&owner.target).await?;
            let mode = match self.options.on_conflict {
                OnConflict::Replace => RestoreMode::Replace,
                OnConflict::Skip | OnConflict::Abort => RestoreMode::Keep,
            };
            let error = match client.function_load(code, mode).await {
                Ok(()) => continue,
                Err(error) => error,
            };
            let libraries = client.function_list().await?.unwrap_or_default();
            if libraries.values().any(|library| library.code == code) {
                continue;
            }
            everywhere = false;
            if already_exists(&error) && self.options.on_conflict == OnConflict::Abort {
                return Err(TransferError::Conflict {
                    key: name_of(code),
                    node: owner.name,
                });
            }
            let reason = match already_exists(&error) {
                true => FailureReason::Differs,
                false => FailureReason::Refused,
            };
            report.fail_named(reason, name_of(code), &error.to_string());
            break;
        }
        report.functions += u64::from(everywhere);
        Ok(())
    }
}

/// `ERR Library 'mylib' already exists`.
fn already_exists(error: &ClientError) -> bool {
    match &error.fault {
        Fault::Server { message, .. } => message.ends_with("already exists"),
        _ => false,
    }
}

/// `the functions "#!lua name=mylib"`.
fn name_of(code: &[u8]) -> String {
    let line = code.split(|byte| *byte == b'\n').next().unwrap_or_default();
    format!("the functions {}", super::report::shown(line))
}
