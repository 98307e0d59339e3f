//! The usual case of a restore: keys that the cluster does not have, written to the owner of their slots. Keys that are
//! not written here, for whatever reason, are left to a [lane](super::lane).

use std::sync::Arc;

use super::report::TransferReport;
use super::slots::SlotOwners;
use super::{Item, KeyOutcome, OnConflict, TransferOptions};
use crate::client::{BulkWriter, RestoreMode, Writing, Written};
use crate::cluster::node::{Addr, NodeId};
use crate::rdb::payload_of_text;

/// How the value of a key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// By SET: the payload of the item is the string itself.
    Text,
    /// By RESTORE.
    Payload,
}

/// A key to be written, and how.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) item: Item,
    pub(super) form: Form,
}

impl Pending {
    /// Returns the key for RESTORE.
    fn into_item(mut self) -> Item {
        if self.form == Form::Text {
            self.item.payload = payload_of_text(&self.item.payload);
        }
        self.item
    }

    fn writing(&self) -> Writing<'_> {
        match self.form {
            Form::Text => Writing::Text {
                key: &self.item.key,
                value: &self.item.payload,
            },
            Form::Payload => Writing::Payload(self.item.restoring()),
        }
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
    options: TransferOptions,
    database: u32,
    strings: Strings,
    writer: Option<(Addr, BulkWriter)>,
}

impl BulkLane {
    pub(super) fn new(owners: Arc<SlotOwners>, options: TransferOptions, database: u32) -> Self {
        Self {
            owners,
            options,
            database,
            strings: Strings::BySet,
            writer: None,
        }
    }

    /// Writes keys to the master `owner`; returns the counts of those that were written, and those that were not.
    pub(super) async fn write(
        &mut self,
        owner: Option<NodeId>,
        batch: Vec<Pending>,
    ) -> (TransferReport, Vec<Item>) {
        let mut report = TransferReport::default();
        let items = |batch: Vec<Pending>| batch.into_iter().map(Pending::into_item).collect();
        let Some((addr, mut writer)) = self.connect(owner).await else {
            return (report, items(batch));
        };
        let is_sent = |one: &Pending| {
            let is_denied = one.form == Form::Text && self.strings == Strings::ByRestore;
            !is_denied && !one.item.has_expired()
        };
        let (sent, mut left): (Vec<Pending>, Vec<Pending>) = batch.into_iter().partition(is_sent);
        let mode = match self.options.on_conflict {
            OnConflict::Replace => RestoreMode::Replace,
            OnConflict::Skip | OnConflict::Abort => RestoreMode::Keep,
        };
        let keys: Vec<Writing<'_>> = sent.iter().map(Pending::writing).collect();
        // Why it failed, a lane finds out.
        let Ok(written) = writer.write(&keys, mode).await else {
            left.extend(sent);
            return (report, items(left));
        };
        self.writer = Some((addr, writer));
        for (one, written) in sent.into_iter().zip(written) {
            match written {
                // RESTORE of a time that has passed on the way answers OK and writes nothing (Redis ≥ 5.0).
                Written::Yes if one.item.has_expired() => {
                    report.count(&one.item, &KeyOutcome::Expired);
                }
                Written::Yes => report.count(&one.item, &KeyOutcome::Written),
                Written::No => left.push(one),
                Written::Denied => {
                    if one.form == Form::Text {
                        self.strings = Strings::ByRestore;
                    }
                    left.push(one);
                }
            }
        }
        (report, items(left))
    }

    /// Takes the connection to a master, or opens it.
    async fn connect(&mut self, owner: Option<NodeId>) -> Option<(Addr, BulkWriter)> {
        let target = self.owners.owner(owner?)?.target;
        match self.writer.take() {
            Some((addr, writer)) if addr == target.addr => Some((addr, writer)),
            _ => {
                let connections = self.owners.connections();
                let opened = connections.bulk(&target, self.database).await;
                Some((target.addr, opened.ok()??))
            }
        }
    }
}
