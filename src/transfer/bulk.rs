//! The usual case of a restore and of an import: keys that the cluster does not have, written to the owner of their slots.
//! Keys that are not written here, for whatever reason, are left to a [lane](super::lane).

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::clock::Clock;
use super::lane::{Done, Lane};
use super::report::TransferReport;
use super::slots::SlotOwners;
use super::workers::WriteCounts;
use super::{Item, KeyOutcome, TransferError, TransferOptions};
use crate::backup::MeterPart;
use crate::client::{BulkWriter, ClientError, Expiry, Restoring, WriteCommands, Written};
use crate::cluster::node::{Addr, NodeId};
use crate::rdb::{Encoding, Piece, RdbError, payload_of_text, text_of};

/// How the value of a key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// By SET: the value is the string itself.
    Text,
    /// By RESTORE.
    Payload,
}

/// What is known of a key besides its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) encoding: Encoding,
    pub(super) expires: Expiry,
    pub(super) idle: Option<u64>,
    pub(super) frequency: Option<u8>,
}

impl Attributes {
    /// Those of a string that never expires.
    const OF_TEXT: Self = Self {
        encoding: Encoding::String,
        expires: Expiry::Never,
        idle: None,
        frequency: None,
    };

    /// Whether its time is over by that clock.
    pub(super) fn has_expired(&self, clock: Clock) -> bool {
        clock.is_past(self.expires)
    }

    /// Whether SET tells all of them. It knows no idle time and no frequency, and before Redis 6.2 no time to expire at.
    pub(super) fn are_plain(&self) -> bool {
        self.expires == Expiry::Never && self.idle.is_none() && self.frequency.is_none()
    }

    fn restoring<'a>(&self, key: &'a [u8], payload: &'a [u8]) -> Restoring<'a> {
        Restoring {
            key,
            payload,
            expires: self.expires,
            idle: self.idle,
            frequency: self.frequency,
        }
    }
}

/// Keys of one database, and the commands that write them.
pub(super) struct BulkBatch {
    /// The owner of their slots, when they were read.
    pub(super) owner: Option<NodeId>,
    pub(super) database: u32,
    commands: WriteCommands,
    /// In the order of the commands.
    keys: Vec<(Form, Attributes)>,
    /// The counters of the file that the keys are of.
    pub(super) file: Option<Arc<MeterPart>>,
    /// Its share of the memory for batches.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl BulkBatch {
    /// An empty batch; `commands` has none.
    pub(super) fn new(owner: Option<NodeId>, database: u32, commands: WriteCommands) -> Self {
        Self {
            owner,
            database,
            commands,
            keys: Vec::new(),
            file: None,
            room: None,
        }
    }

    /// The number of its keys.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The bytes of its commands.
    pub(super) fn bytes(&self) -> usize {
        self.commands.bytes()
    }

    /// Adds a string of `length` bytes that `append` appends to what it gets.
    pub(super) fn add_text(
        &mut self,
        key: &[u8],
        attributes: Attributes,
        length: u64,
        append: impl FnOnce(&mut Vec<u8>) -> Result<(), RdbError>,
    ) -> Result<(), RdbError> {
        self.commands.set(key, length, append)?;
        self.keys.push((Form::Text, attributes));
        Ok(())
    }

    /// Adds a string that is not copied.
    pub(super) fn add_lent(&mut self, key: &[u8], attributes: Attributes, pieces: Vec<Piece>) {
        self.commands.set_lent(key, pieces);
        self.keys.push((Form::Text, attributes));
    }

    /// Adds a payload.
    pub(super) fn add_payload(&mut self, key: &[u8], attributes: Attributes, payload: &[u8]) {
        self.commands.restore(&attributes.restoring(key, payload));
        self.keys.push((Form::Payload, attributes));
    }

    /// Adds a payload that is not copied.
    pub(super) fn add_lent_payload(
        &mut self,
        key: &[u8],
        attributes: Attributes,
        pieces: Vec<Piece>,
    ) {
        let restoring = attributes.restoring(key, &[]);
        self.commands.restore_lent(&restoring, pieces);
        self.keys.push((Form::Payload, attributes));
    }

    /// The memory of its commands, for another batch, and its share of the memory for batches.
    pub(super) fn into_memory(self) -> (Vec<u8>, Option<OwnedSemaphorePermit>) {
        (self.commands.into_memory(), self.room)
    }

    /// Adds a string that is read elsewhere, too.
    pub(super) fn add_copied(&mut self, key: &[u8], text: &[u8]) {
        self.commands.set_copied(key, text);
        self.keys.push((Form::Text, Attributes::OF_TEXT));
    }

    /// Adds a key; false if RESTORE alone can tell what it is.
    pub(super) fn add_item(&mut self, item: &Item) -> bool {
        let Some(encoding) = item.encoding else {
            return false;
        };
        let attributes = Attributes {
            encoding,
            expires: item.expires,
            idle: item.idle,
            frequency: item.frequency,
        };
        match text_of(&item.payload).filter(|_| attributes.are_plain()) {
            Some(text) => {
                self.commands.set_copied(&item.key, text);
                self.keys.push((Form::Text, attributes));
            }
            None => self.add_payload(&item.key, attributes, &item.payload),
        }
        true
    }

    /// Returns a key for RESTORE.
    fn item(&self, number: usize, form: Form, attributes: Attributes) -> Item {
        let mut value = Vec::with_capacity(self.commands.value_length(number));
        self.commands
            .value(number)
            .for_each(|piece| value.extend_from_slice(piece));
        Item {
            key: self.commands.key(number).to_vec(),
            payload: match form {
                Form::Text => payload_of_text(&value),
                Form::Payload => value,
            },
            encoding: Some(attributes.encoding),
            expires: attributes.expires,
            idle: attributes.idle,
            frequency: attributes.frequency,
        }
    }

    /// All keys for RESTORE.
    fn items(&self) -> Vec<Item> {
        let keys = self.keys.iter().enumerate();
        keys.map(|(number, (form, attributes))| self.item(number, *form, *attributes))
            .collect()
    }
}

/// Whether strings go by SET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strings {
    BySet,
    /// The user has no right to SET.
    ByRestore,
}

/// Writes batches to one node, one after the other.
pub(super) struct BulkLane {
    owners: Arc<SlotOwners>,
    database: u32,
    strings: Strings,
    writer: Option<(Addr, BulkWriter)>,
}

impl BulkLane {
    pub(super) fn new(owners: Arc<SlotOwners>, database: u32) -> Self {
        Self {
            owners,
            database,
            strings: Strings::BySet,
            writer: None,
        }
    }

    /// Writes keys to the owner of the batch; returns the counts of those that were written, and those that were not.
    async fn write(
        &mut self,
        batch: &BulkBatch,
    ) -> Result<(TransferReport, Vec<Item>), TransferError> {
        let mut report = TransferReport::default();
        let Some((written, clock)) = self.results(batch).await? else {
            return Ok((report, batch.items()));
        };
        let mut left = Vec::new();
        for (number, (written, (form, attributes))) in written.iter().zip(&batch.keys).enumerate() {
            match written {
                // RESTORE of a time that has passed on the way answers OK and writes nothing (Redis ≥ 5.0).
                Written::Yes if attributes.has_expired(clock) => report.expired += 1,
                Written::Yes => {
                    report.written += 1;
                    report.bytes += batch.commands.value_length(number) as u64;
                }
                Written::No | Written::Denied => {
                    left.push(batch.item(number, *form, *attributes));
                }
            }
        }
        Ok((report, left))
    }

    /// Writes keys to the owner of the batch; returns the result of each, and the clock of the owner. `None` if a lane has to
    /// find out what became of them.
    async fn results(
        &mut self,
        batch: &BulkBatch,
    ) -> Result<Option<(Vec<Written>, Clock)>, TransferError> {
        let has_text = || batch.keys.iter().any(|(form, _)| *form == Form::Text);
        let is_denied = self.strings == Strings::ByRestore && has_text();
        if batch.keys.is_empty() || is_denied {
            return Ok(None);
        }
        let (addr, mut writer) = match self.connect(batch.owner).await {
            Ok(Some(connected)) => connected,
            Ok(None) => return Ok(None),
            Err(error) => return self.left_after(error, batch.owner),
        };
        let written = match writer.write(&batch.commands).await {
            Ok(written) => written,
            Err(error) => return self.left_after(error, batch.owner),
        };
        let clock = self.owners.clock(&addr);
        self.writer = Some((addr, writer));
        let is_denied = |(written, (form, _)): (&Written, &(Form, Attributes))| {
            *written == Written::Denied && *form == Form::Text
        };
        if written.iter().zip(&batch.keys).any(is_denied) {
            self.strings = Strings::ByRestore;
        }
        Ok(Some((written, clock)))
    }

    /// Why a batch failed, a lane finds out. But a node that accepts connections and answers nothing, and that no replica
    /// can take over from, does not answer the lane either.
    fn left_after<T>(
        &self,
        error: ClientError,
        owner: Option<NodeId>,
    ) -> Result<Option<T>, TransferError> {
        let now = self.owners.now();
        let replica = owner.and_then(|owner| now.replica_of(owner));
        match error.fault.is_silence() && replica.is_none() {
            true => Err(error.into()),
            false => Ok(None),
        }
    }

    /// Takes the connection to a master, or opens it.
    async fn connect(
        &mut self,
        owner: Option<NodeId>,
    ) -> Result<Option<(Addr, BulkWriter)>, ClientError> {
        let Some(owner) = owner.and_then(|owner| self.owners.owner(owner)) else {
            return Ok(None);
        };
        let target = owner.target;
        match self.writer.take() {
            Some((addr, writer)) if addr == target.addr && writer.is_fresh() => {
                Ok(Some((addr, writer)))
            }
            _ => {
                let connections = self.owners.connections();
                let opened = connections.bulk_writer(&target, self.database).await?;
                Ok(opened.map(|writer| (target.addr, writer)))
            }
        }
    }
}

/// Writes batches of one database: in bulk, and key by key what that leaves.
pub(super) struct Writer {
    bulk: BulkLane,
    pub(super) lane: Lane,
    /// The keys of the batch in progress that are not counted yet.
    uncounted: usize,
}

impl Writer {
    pub(super) fn new(owners: &Arc<SlotOwners>, options: TransferOptions, database: u32) -> Self {
        Self {
            bulk: BulkLane::new(Arc::clone(owners), database),
            lane: Lane::new(Arc::clone(owners), options, database),
            uncounted: 0,
        }
    }

    /// Writes a batch, and keys that could not be added to it; counts all that have a result. `recycle` gets the memory of the
    /// commands as soon as they are done.
    pub(super) async fn write(
        &mut self,
        batch: BulkBatch,
        others: Vec<Item>,
        counts: &WriteCounts,
        recycle: impl FnOnce(Vec<u8>),
    ) -> Result<(), TransferError> {
        let began = Instant::now();
        self.uncounted = batch.len() + others.len();
        let (report, mut left) = self.bulk.write(&batch).await?;
        // The share of the memory is for what is left, too.
        let (memory, _room) = batch.into_memory();
        recycle(memory);
        left.extend(others);
        self.uncounted = left.len();
        counts.meter.add(report.written + report.expired);
        counts.report.add(report);
        if left.is_empty() {
            return Ok(());
        }
        let (done, stopped) = self.lane.write_since(left, began).await;
        counts.report.add(counts.count(&done));
        self.uncounted -= done.len();
        stopped.map_or(Ok(()), Err)
    }

    /// Writes keys of a batch, and others, like [`Lane::write`]: returns the result of each. `sent` are those of the batch, in
    /// its order.
    pub(super) async fn write_each(
        &mut self,
        batch: BulkBatch,
        sent: Vec<Item>,
        others: Vec<Item>,
        recycle: impl FnOnce(Vec<u8>),
    ) -> Done {
        let began = Instant::now();
        let (mut done, mut left) = (Vec::with_capacity(sent.len()), others);
        match self.bulk.results(&batch).await {
            Ok(Some((written, clock))) => {
                for (item, written) in sent.into_iter().zip(written) {
                    match written {
                        Written::Yes if item.has_expired(clock) => {
                            done.push((item, KeyOutcome::Expired));
                        }
                        Written::Yes => done.push((item, KeyOutcome::Written)),
                        Written::No | Written::Denied => left.push(item),
                    }
                }
            }
            Ok(None) => left.extend(sent),
            Err(why) => return (done, Some(why)),
        }
        recycle(batch.into_memory().0);
        if left.is_empty() {
            return (done, None);
        }
        let (others, stopped) = self.lane.write_since(left, began).await;
        done.extend(others);
        (done, stopped)
    }

    /// The keys of the last batch that were not counted, once it ended or is given up.
    pub(super) fn take_uncounted(&mut self) -> usize {
        std::mem::take(&mut self.uncounted)
    }
}
