//! Restore from RDB files: values are cut out and sent, a few megabytes at a time.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinSet, spawn_blocking};

use super::bulk::{BulkLane, Form, Pending};
use super::lane::Lane;
use super::report::{FailureReason, SharedReport, TransferReport};
use super::slots::SlotOwners;
use super::workers::{BatchReceiver, Batcher, Queues, WriteCounts, finish, next};
use super::{AfterFailure, Item, OnConflict, Stopper, TransferError, TransferOptions};
use crate::backup::{BLOCK, BlockSum, Meter, RdbBytes, VerifiedFile, open_rdb, unpack};
use crate::client::{ClientError, Expiry, Fault, RestoreMode};
use crate::cluster::functions::library_name;
use crate::cluster::node::NodeId;
use crate::cluster::numbers::counted;
use crate::cluster::slot::{Slot, SlotSet};
use crate::rdb::{BUFFER, Entry, Keep, RdbError, Reader, Record, Value, payload_of_text};

/// The most keys per batch.
const BATCH: usize = 512;
/// The bytes from which a batch is full.
const BATCH_BYTES: usize = 1 << 20;
/// The largest value that can be restored: the servers' own limit (`proto-max-bulk-len`).
const LARGEST: usize = 512 << 20;
/// The memory for batches in progress, in KiB; a larger value is sent alone.
const ROOM: u32 = 256 << 10;
/// The number of files that are read at a time.
const READERS: usize = 4;

/// An RDB file whose keys are written.
#[derive(Debug, Clone)]
pub struct KeyFile {
    /// The name in messages.
    pub name: String,
    /// The slots that its node owned: other keys in the file are stray keys.
    pub slots: SlotSet,
    /// Where its bytes come from.
    pub content: FileContent,
    /// Where its keys go.
    pub databases: Databases,
}

/// The bytes of a file.
#[derive(Debug, Clone)]
pub enum FileContent {
    /// It was verified to its end; it may be packed.
    Verified(PathBuf),
    /// It is verified block by block.
    Blocks {
        /// The path.
        path: PathBuf,
        /// The checksums of its blocks.
        sums: Arc<[BlockSum]>,
        /// Its length.
        bytes: u64,
    },
    /// Standard input, which can't be verified before its end.
    Stdin,
}

/// The databases of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Databases {
    /// Each key goes to the database that it was in.
    AsSaved,
    /// Keys of this database go to database 0; others are left out.
    Only(u32),
}

/// A batch of keys of one database.
struct Batch {
    /// The owner of their slots, when they were read.
    owner: Option<NodeId>,
    database: u32,
    items: Vec<Pending>,
    /// Its share of the memory for batches.
    _room: Option<OwnedSemaphorePermit>,
}

/// The state that readers and lanes share.
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

/// Writes the keys of all files. The report covers what was done even if the transfer stopped.
pub async fn restore(
    owners: Arc<SlotOwners>,
    parts: Vec<KeyFile>,
    options: TransferOptions,
    meter: Arc<Meter>,
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
            // The semaphore is never closed.
            let _turn = readers.acquire_owned().await.ok();
            let runtime = Handle::current();
            let stopper = restore.stopper.clone();
            let reading = spawn_blocking(move || restore.read(&part, &runtime));
            tokio::select! {
                biased;
                read = reading => read.unwrap_or(Err(TransferError::Interrupted)),
                // The thread may wait for standard input. It sends nothing any more.
                () = stopper.halted() => Ok(()),
            }
        });
    }
    // The queues close with the last reader.
    drop(restore);
    finish(lanes, stopper).await;
    (counts.report.take(), stopper.why())
}

/// Runs one lane.
async fn run_lane(
    receiver: BatchReceiver<Batch>,
    owners: Arc<SlotOwners>,
    options: TransferOptions,
    counts: Arc<WriteCounts>,
    stopper: Stopper,
) -> Result<(), TransferError> {
    let mut lanes: HashMap<u32, (BulkLane, Lane)> = HashMap::new();
    while let Some(batch) = next(&receiver, &stopper).await {
        let database = batch.database;
        let (bulk, lane) = lanes.entry(database).or_insert_with(|| {
            (
                BulkLane::new(Arc::clone(&owners), options, database),
                Lane::new(Arc::clone(&owners), options, database),
            )
        });
        let (report, left) = bulk.write(batch.owner, batch.items).await;
        counts.meter.add(report.written + report.expired);
        counts.report.add(report);
        if !left.is_empty() {
            let done = lane.write(left).await?;
            let report = counts.count(&done);
            counts.report.add(report);
        }
    }
    Ok(())
}

impl Restore {
    /// Reads one file, on a thread of its own.
    fn read(&self, part: &KeyFile, runtime: &Handle) -> Result<(), TransferError> {
        let unreadable = |error: String| TransferError::File {
            file: part.name.clone(),
            error,
        };
        let (bytes, buffer): (RdbBytes, usize) = match &part.content {
            FileContent::Verified(path) => (
                open_rdb(path).map_err(|error| unreadable(error.to_string()))?,
                BUFFER,
            ),
            FileContent::Stdin => (
                unpack(io::stdin()).map_err(|error| unreadable(error.to_string()))?,
                BUFFER,
            ),
            FileContent::Blocks { path, sums, bytes } => {
                let file = VerifiedFile::open(path, Arc::clone(sums), *bytes);
                let file = file.map_err(|error| unreadable(error.to_string()))?;
                (Box::new(file), BLOCK)
            }
        };
        let reader = Reader::with_buffer(bytes, Keep::UpTo(LARGEST), buffer);
        let mut reader = reader.map_err(|error| unreadable(error.to_string()))?;
        let mut batcher = Batcher::new(BATCH, BATCH_BYTES);
        let mut report = TransferReport::default();
        let mut keys = 0;
        let mut known = self.owners.known();
        while !self.stopper.is_halted() {
            let record = match reader.record() {
                Ok(record) => record,
                Err(error) if error.unread().is_some() => {
                    // What came before it is restored.
                    self.flush(batcher, runtime);
                    let left = reader.announced().saturating_sub(keys);
                    self.leave_out(part, &error, left, &mut report)?;
                    break;
                }
                Err(error) => return Err(unreadable(error.to_string())),
            };
            match record {
                Record::Aux(..) => {}
                Record::ModuleAux(module) => drop(report.module_data.insert(module)),
                Record::Function(code) => {
                    runtime.block_on(self.load(&code, &mut report))?;
                }
                Record::Entry(entry) => {
                    keys += 1;
                    let slot = Slot::of_key(&entry.key);
                    if !part.slots.contains(slot) {
                        report.strays += 1;
                        continue;
                    }
                    let Some(entry) = part.databases.take(entry, &mut report) else {
                        continue;
                    };
                    let Some((database, item)) = self.item(entry, &mut report)? else {
                        continue;
                    };
                    let owner = known.owner_of(slot);
                    let bytes = item.item.payload.len();
                    if let Some(items) = batcher.add((owner, database), item, bytes) {
                        runtime.block_on(self.enqueue(owner, database, items));
                        known = self.owners.known();
                    }
                }
                Record::End(_) => {
                    self.flush(batcher, runtime);
                    break;
                }
            }
        }
        self.counts.report.add(report);
        Ok(())
    }

    /// Queues the last, incomplete batches.
    fn flush(&self, batcher: Batcher<(Option<NodeId>, u32), Pending>, runtime: &Handle) {
        for ((owner, database), items) in batcher.rest() {
            runtime.block_on(self.enqueue(owner, database, items));
        }
    }

    /// Reports a record that can't be read, and with it the `left` last keys of the file; or stops for it.
    fn leave_out(
        &self,
        part: &KeyFile,
        error: &RdbError,
        left: u64,
        report: &mut TransferReport,
    ) -> Result<(), TransferError> {
        let key = match error {
            RdbError::UnknownType { key: Some(key), .. } => super::report::readable(key),
            _ => "?".to_string(),
        };
        let count = match left {
            0 => String::new(),
            left => format!(" ({})", counted(left, "key")),
        };
        let why = format!(
            "{} {error}; it and all keys after it in the file were left out{count}: load the file into a server, or \
             use a newer redis-trib",
            part.name
        );
        if self.options.after_failure == AfterFailure::Stop {
            return Err(TransferError::Key { key, why });
        }
        report.fail_some(FailureReason::UnknownType, left.max(1), key, &why);
        Ok(())
    }

    /// Returns a key to be written; `None` if it can't be.
    fn item(
        &self,
        entry: Entry,
        report: &mut TransferReport,
    ) -> Result<Option<(u32, Pending)>, TransferError> {
        let is_plain = entry.expires.is_none() && entry.idle.is_none() && entry.frequency.is_none();
        let (payload, form) = match entry.value {
            Value::Payload(payload) => (payload, Form::Payload),
            // SET knows no idle time and no frequency, and before Redis 6.2 no time to expire at.
            Value::Text(text) if is_plain => (text, Form::Text),
            Value::Text(text) => (payload_of_text(&text), Form::Payload),
            Value::TooLarge(bytes) => {
                let why = format!("{bytes} bytes: larger than 512 MiB, the limit of servers");
                if self.options.after_failure == AfterFailure::Stop {
                    let key = super::report::quoted(&entry.key);
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
        Ok(Some((entry.database, Pending { item, form })))
    }

    /// Queues a batch once there is memory for it.
    async fn enqueue(&self, owner: Option<NodeId>, database: u32, items: Vec<Pending>) {
        let bytes: usize = items.iter().map(|one| one.item.payload.len()).sum();
        let share = u32::try_from(bytes >> 10).unwrap_or(ROOM).clamp(1, ROOM);
        let send = async {
            // The semaphore is never closed.
            let room = Arc::clone(&self.room).acquire_many_owned(share).await.ok();
            let batch = Batch {
                owner,
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

    /// Loads a library of functions on every master.
    async fn load(&self, code: &[u8], report: &mut TransferReport) -> Result<(), TransferError> {
        let is_new = {
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.insert(code.to_vec())
        };
        if !is_new {
            return Ok(());
        }
        if self.options.on_conflict != OnConflict::Replace
            && let Some(owner) = self.has_other_code(code).await?
        {
            // Loaded on the other masters, it would differ from this one.
            return self.differs(code, owner, report);
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
                return self.differs(code, owner.name, report);
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

    /// The first master that has the library with other code.
    async fn has_other_code(&self, code: &[u8]) -> Result<Option<String>, TransferError> {
        let Some(name) = library_name(code) else {
            return Ok(None);
        };
        for owner in self.owners.all() {
            let client = self.owners.connections().client(&owner.target).await?;
            let loaded = client.function_code(&name).await?;
            if loaded.is_some_and(|loaded| loaded != code) {
                return Ok(Some(owner.name));
            }
        }
        Ok(None)
    }

    /// Reports a library that a master has with other code, or stops for it.
    fn differs(
        &self,
        code: &[u8],
        node: String,
        report: &mut TransferReport,
    ) -> Result<(), TransferError> {
        let key = name_of(code);
        if self.options.on_conflict == OnConflict::Abort {
            return Err(TransferError::Conflict { key, node });
        }
        let why = format!("{node} has it with other code");
        report.fail_named(FailureReason::Differs, key, &why);
        Ok(())
    }
}

impl Databases {
    /// Returns the key as it is written; `None` if it is left out.
    fn take(self, entry: Entry, report: &mut TransferReport) -> Option<Entry> {
        match self {
            Self::AsSaved => Some(entry),
            Self::Only(database) if database == entry.database => Some(Entry {
                database: 0,
                ..entry
            }),
            Self::Only(_) => {
                report.other_databases += 1;
                None
            }
        }
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
    format!("the functions {}", super::report::quoted(line))
}
