//! Restore from RDB files: values are cut out and sent, a few megabytes at a time.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinSet, spawn_blocking};

use super::bulk::{Attributes, BulkBatch, Writer};
use super::libraries::LibraryLoader;
use super::report::{FailureReason, SharedReport, TransferReport};
use super::selection::Selection;
use super::slots::SlotOwners;
use super::workers::{BatchReceiver, Queues, WriteCounts, finish, next};
use super::{AfterFailure, Stopper, TransferError, TransferOptions, ValuesBefore};
use crate::backup::{BLOCK, BlockSum, Meter, MeterPart, RdbBytes, VerifiedFile, open_rdb, unpack};
use crate::client::{Expiry, WriteCommands};
use crate::cluster::node::NodeId;
use crate::cluster::numbers::counted;
use crate::cluster::slot::{Slot, SlotSet};
use crate::rdb::{
    BUFFER, Buffers, Entry, Keep, Piece, RdbError, Reader, Record, Value, payload_of_pieces,
    payload_of_text,
};

/// The most keys per batch.
const BATCH: usize = 512;
/// The bytes from which a batch is full.
const BATCH_BYTES: usize = 256 << 10;
/// Values from this number of bytes on are sent from where they were read; smaller ones are copied into a batch.
const LENT: u64 = BATCH_BYTES as u64;
/// The most memory of a batch that another batch is put into.
const LARGEST_REUSED: usize = 4 * BATCH_BYTES;
/// The largest value that can be restored, in bytes: the servers' own limit (`proto-max-bulk-len`).
pub(super) const LARGEST: usize = 512 << 20;
/// The memory for batches in progress, in KiB; a larger value is sent alone.
const ROOM: u32 = 256 << 10;
/// The number of files that are read at a time.
pub(super) const READERS: usize = 4;

/// An RDB file whose keys are written.
#[derive(Debug, Clone)]
pub struct KeyFile {
    /// The name in messages.
    pub name: String,
    /// The slots that its node owned: other keys in the file are stray keys.
    pub slots: SlotSet,
    /// The number of its keys that are wanted, if that is known.
    pub keys: Option<u64>,
    /// Where its bytes come from.
    pub content: FileContent,
    /// Which of its keys are wanted, and where they go.
    pub selection: Arc<Selection>,
}

impl KeyFile {
    fn is_by_block(&self) -> bool {
        matches!(self.content, FileContent::Blocks { .. })
    }
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

/// The state that readers and lanes share.
struct Restore {
    owners: Arc<SlotOwners>,
    options: TransferOptions,
    counts: Arc<WriteCounts>,
    stopper: Stopper,
    room: Arc<Semaphore>,
    queues: Queues<BulkBatch>,
    /// Memory for the commands of batches: that of batches that were sent.
    memory: Memory,
    buffers: Buffers,
    libraries: LibraryLoader,
}

/// Memory that is used again and again: the system takes its time to give more.
type Memory = Arc<Mutex<Vec<Vec<u8>>>>;

/// The batches that are not full yet, by owner and database.
type Open = HashMap<(Option<NodeId>, u32), BulkBatch>;

/// A reader of any bytes.
type FileReader = Reader<RdbBytes>;

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
        memory: Memory::default(),
        buffers: Buffers::of(match parts.iter().any(KeyFile::is_by_block) {
            true => BLOCK,
            false => BUFFER,
        }),
        libraries: LibraryLoader::new(Arc::clone(&owners), options.on_conflict),
    });
    let mut lanes = JoinSet::new();
    for receiver in receivers {
        let lane = RestoreLane {
            owners: Arc::clone(&owners),
            options,
            counts: Arc::clone(&counts),
            stopper: stopper.clone(),
            memory: Arc::clone(&restore.memory),
            by_database: HashMap::new(),
        };
        lanes.spawn(lane.run(receiver));
    }
    let readers = Arc::new(Semaphore::new(READERS));
    for part in parts {
        let (restore, readers) = (Arc::clone(&restore), Arc::clone(&readers));
        let file = restore.counts.meter.part(&part.name, part.keys);
        lanes.spawn(async move {
            // The semaphore is never closed.
            let _turn = readers.acquire_owned().await.ok();
            let runtime = Handle::current();
            let stopper = restore.stopper.clone();
            let reading = spawn_blocking(move || restore.read(&part, &file, &runtime));
            tokio::select! {
                biased;
                read = reading => read.unwrap_or(Err(TransferError::Panicked)),
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

/// Writes batches, one after the other.
struct RestoreLane {
    owners: Arc<SlotOwners>,
    options: TransferOptions,
    counts: Arc<WriteCounts>,
    stopper: Stopper,
    memory: Memory,
    by_database: HashMap<u32, Writer>,
}

impl RestoreLane {
    async fn run(mut self, receiver: BatchReceiver<BulkBatch>) -> Result<(), TransferError> {
        let stopper = self.stopper.clone();
        while let Some(batch) = next(&receiver, &stopper).await {
            let (keys, file, database) = (batch.len(), batch.file.clone(), batch.database);
            let recycle = |memory: Vec<u8>| {
                if memory.capacity() <= LARGEST_REUSED {
                    let mut all = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
                    all.push(memory);
                }
            };
            let writer = self
                .by_database
                .entry(database)
                .or_insert_with(|| Writer::new(&self.owners, self.options, database));
            let written = tokio::select! {
                biased;
                written = writer.write(batch, Vec::new(), &self.counts, recycle) => written,
                () = stopper.given_up() => Ok(()),
            };
            let uncounted = writer.take_uncounted();
            if let Some(file) = file {
                file.add((keys - uncounted) as u64);
            }
            if matches!(written, Ok(()) | Err(TransferError::Client(_))) {
                self.counts.add_unknown(uncounted);
            }
            written?;
        }
        Ok(())
    }
}

impl Restore {
    /// Reads one file, on a thread of its own. What it counted counts even if it fails.
    fn read(
        &self,
        part: &KeyFile,
        file: &Arc<MeterPart>,
        runtime: &Handle,
    ) -> Result<(), TransferError> {
        let mut report = TransferReport::default();
        let read = self.read_records(part, file, runtime, &mut report);
        if read.is_ok() && !self.stopper.is_halted() {
            file.complete();
        }
        self.counts.report.add(report);
        read
    }

    fn read_records(
        &self,
        part: &KeyFile,
        file: &Arc<MeterPart>,
        runtime: &Handle,
        report: &mut TransferReport,
    ) -> Result<(), TransferError> {
        let unreadable = |error: String| TransferError::File {
            file: part.name.clone(),
            error,
            before: match part.content {
                FileContent::Blocks { .. } => ValuesBefore::Verified,
                FileContent::Verified(_) | FileContent::Stdin => ValuesBefore::Doubtful,
            },
        };
        let bytes: RdbBytes = match &part.content {
            FileContent::Verified(path) => {
                open_rdb(path).map_err(|error| unreadable(error.to_string()))?
            }
            FileContent::Stdin => {
                unpack(io::stdin()).map_err(|error| unreadable(error.to_string()))?
            }
            FileContent::Blocks { path, sums, bytes } => {
                let verified = VerifiedFile::open(path, Arc::clone(sums), *bytes);
                let verified = verified.map_err(|error| unreadable(error.to_string()))?;
                Box::new(verified)
            }
        };
        let reader = Reader::with_buffers(bytes, Keep::ButText(LARGEST), self.buffers.clone());
        let mut reader = reader.map_err(|error| unreadable(error.to_string()))?;
        let mut open = Open::new();
        let mut keys = 0;
        let mut known = self.owners.known();
        while !self.stopper.is_halted() {
            let record = match reader.record() {
                Ok(record) => record,
                Err(error) if error.unread().is_some() => {
                    // What came before it is restored.
                    self.flush(open, file, runtime);
                    let left = reader.announced().saturating_sub(keys);
                    self.leave_out(part, &error, left, report)?;
                    break;
                }
                Err(error) => return Err(unreadable(error.to_string())),
            };
            match record {
                Record::Aux(..) => {}
                Record::ModuleAux(module) => drop(report.module_data.insert(module)),
                Record::Function(code) => {
                    runtime.block_on(self.libraries.load(&code, report))?;
                }
                Record::Entry(mut entry) => {
                    keys += 1;
                    let slot = Slot::of_key(&entry.key);
                    let choice = part.selection.choose(&part.slots, slot, &entry);
                    report.count_left_out(&choice);
                    let Some(to) = choice.wanted() else {
                        continue;
                    };
                    entry.key = to.renamed(entry.key);
                    entry.database = to.into;
                    let slot = match part.selection.renames() {
                        true => Slot::of_key(&entry.key),
                        false => slot,
                    };
                    let target = (known.owner_of(slot), entry.database);
                    let batch = open.entry(target).or_insert_with(|| self.batch(target));
                    let added = self.add(batch, entry, &mut reader, report, runtime)?;
                    added.map_err(|error| unreadable(error.to_string()))?;
                    if batch.len() >= BATCH || batch.bytes() >= BATCH_BYTES {
                        let full = std::mem::replace(batch, self.batch(target));
                        runtime.block_on(self.enqueue(full, file));
                        known = self.owners.known();
                    }
                }
                Record::End(_) => {
                    self.flush(open, file, runtime);
                    break;
                }
            }
        }
        Ok(())
    }

    /// An empty batch.
    fn batch(&self, (owner, database): (Option<NodeId>, u32)) -> BulkBatch {
        let mode = self.options.on_conflict.restore_mode();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let commands = WriteCommands::new(mode, memory.pop().unwrap_or_default());
        BulkBatch::new(owner, database, commands)
    }

    /// Queues the last, incomplete batches.
    fn flush(&self, open: Open, file: &Arc<MeterPart>, runtime: &Handle) {
        for (_, batch) in open {
            if batch.len() > 0 {
                runtime.block_on(self.enqueue(batch, file));
            }
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

    /// Adds a key to a batch, unless it can't be written. The inner error is the file's.
    fn add(
        &self,
        batch: &mut BulkBatch,
        entry: Entry,
        reader: &mut FileReader,
        report: &mut TransferReport,
        runtime: &Handle,
    ) -> Result<Result<(), RdbError>, TransferError> {
        let attributes = Attributes {
            encoding: entry.encoding,
            expires: entry.expires.map_or(Expiry::Never, Expiry::At),
            idle: entry.idle,
            frequency: entry.frequency,
        };
        let key = &entry.key;
        if let Value::TooLarge(bytes) = entry.value {
            let why = format!("{bytes} bytes: larger than 512 MiB, the limit of servers");
            if self.options.after_failure == AfterFailure::Stop {
                let key = super::report::quoted(key);
                return Err(TransferError::Key { key, why });
            }
            report.fail(FailureReason::TooLarge, key, &why);
            return Ok(Ok(()));
        }
        let is_over = || attributes.has_expired(self.owners.clock_of(batch.owner));
        if attributes.expires != Expiry::Never && is_over() {
            report.expired += 1;
            self.counts.meter.add(1);
            return Ok(Ok(()));
        }
        let is_plain = attributes.are_plain();
        Ok(match entry.value {
            Value::Ahead(length @ LENT..) => {
                let room = runtime.block_on(self.room(blocks_of(length)));
                reader.lend().map(|pieces| {
                    match is_plain {
                        true => batch.add_lent(key, attributes, pieces),
                        false => {
                            let pieces = payload_of_pieces(pieces);
                            batch.add_lent_payload(key, attributes, pieces);
                        }
                    }
                    batch.room = room;
                })
            }
            Value::Ahead(length) if is_plain => {
                batch.add_text(key, attributes, length, |out| reader.append(out))
            }
            Value::Ahead(length) => {
                let mut text = Vec::with_capacity(length as usize);
                reader.append(&mut text).map(|()| {
                    batch.add_payload(key, attributes, &payload_of_text(&text));
                })
            }
            Value::Payload(payload) if payload.len() as u64 >= LENT => {
                batch.add_lent_payload(key, attributes, vec![Piece::from(payload)]);
                Ok(())
            }
            Value::Payload(payload) => {
                batch.add_payload(key, attributes, &payload);
                Ok(())
            }
            Value::Text(_) | Value::TooLarge(_) | Value::NotKept => Ok(()),
        })
    }

    /// Queues a batch once there is memory for it.
    async fn enqueue(&self, mut batch: BulkBatch, file: &Arc<MeterPart>) {
        file.list(batch.len() as u64);
        batch.file = Some(Arc::clone(file));
        if batch.room.is_none() {
            batch.room = self.room(batch.bytes() as u64).await;
        }
        let send = async {
            let _ = self.queues.of(batch.owner).send(batch).await;
        };
        tokio::select! {
            biased;
            () = self.stopper.halted() => {}
            () = send => {}
        }
    }

    /// Waits for memory for this number of bytes; `None` if the transfer stops.
    async fn room(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let share = u32::try_from(bytes >> 10).unwrap_or(ROOM).clamp(1, ROOM);
        tokio::select! {
            biased;
            () = self.stopper.halted() => None,
            // The semaphore is never closed.
            room = Arc::clone(&self.room).acquire_many_owned(share) => room.ok(),
        }
    }
}

/// The bytes of the blocks that hold a value.
fn blocks_of(length: u64) -> u64 {
    let block = BLOCK as u64;
    (length.div_ceil(block) + 1) * block
}
