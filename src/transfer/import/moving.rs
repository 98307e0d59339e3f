//! Keys that move: they are copied, and deleted at the source in a transaction that fails if one of them changes.
//!
//! After a change, all keys of the batch are read again. Only those that changed are sent again, and only over the copy
//! that was sent before: what a client of the cluster has written meanwhile stays, unless the user wants keys to be
//! replaced. Between that comparison and the write there is one round trip.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::{Ends, Import, bytes_of, reused_as};
use crate::client::{Asking, ClientError, ExpiryQuestion, ReadFault};
use crate::cluster::slot::Slot;
use crate::rdb::{Sameness, same_value};
use crate::transfer::clock::Clock;
use crate::transfer::keyspace::{Successor, is_too_large};
use crate::transfer::lane::{Done, OWNER_TIMEOUT};
use crate::transfer::report::{FailureReason, TransferReport, quoted};
use crate::transfer::verify_report::{Sight, TTL_TOLERANCE, same_ttl};
use crate::transfer::workers::WriteCounts;
use crate::transfer::{AfterFailure, Item, KeyOutcome, OnConflict, TransferError};

/// How often keys that changed while they were moved are copied again.
const COPY_ATTEMPTS: usize = 10;
/// Times to live that differ by less are those of one time to expire, read twice.
const SAME_EXPIRY: Duration = Duration::from_millis(100);

/// The result of an attempt to move keys.
enum Attempt {
    Moved,
    /// Some of the keys were written at the source meanwhile.
    Changed,
    /// The slot moves, or its owner changes.
    NotNow,
}

/// Whether the source may have deleted the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deletion {
    /// It has not: each transaction failed.
    NotDone,
    /// The reply to a transaction was lost.
    Unanswered,
}

/// A value that the cluster has.
struct Sent {
    item: Item,
    /// Written by an attempt, or there before with the same value.
    outcome: KeyOutcome,
    /// When it was read: a time to live counts from here.
    read: Instant,
}

impl Sent {
    /// The milliseconds that the copy has left.
    fn left(&self, clock: Clock) -> Option<u64> {
        self.item.left(self.read.elapsed(), clock)
    }

    /// Whether the copy has expired, or will within the tolerance.
    fn expires_now(&self, clock: Clock) -> bool {
        let left = self.left(clock);
        left.is_some_and(|left| u128::from(left) <= TTL_TOLERANCE.as_millis())
    }

    /// Whether the source still has this value, now that it has been read again as `item`.
    fn is_still(&self, item: &Item, clock: Clock) -> bool {
        let here = item.left(Duration::ZERO, clock);
        same_value(&item.payload, &self.item.payload) == Sameness::Same
            && same_ttl(here, self.left(clock), SAME_EXPIRY) == Sight::Same
    }
}

/// Keys on their way from the source.
struct Moving<'a> {
    /// The keys that are to be deleted at the source.
    left: Vec<&'a [u8]>,
    /// What the cluster has of them, by their names there. Each is counted once it is certain what becomes of it.
    sent: HashMap<Vec<u8>, Sent>,
    /// The number of keys that are being written.
    in_transit: usize,
    deletion: Deletion,
    report: TransferReport,
    bytes: u64,
}

impl Moving<'_> {
    /// Counts a key as failed.
    fn fail(&mut self, reason: FailureReason, name: &[u8], why: &str) {
        self.sent.remove(name);
        self.report.fail(reason, name, why);
    }

    /// Notes the results of keys that were written.
    fn note(&mut self, (done, stopped): Done, read: Instant) -> Result<(), TransferError> {
        let keys = std::mem::take(&mut self.in_transit) - done.len();
        self.report.unknown += WriteCounts::unknown(keys, stopped.as_ref());
        for (item, outcome) in done {
            if matches!(outcome, KeyOutcome::Written | KeyOutcome::Same) {
                let name = item.key.clone();
                self.sent.insert(
                    name,
                    Sent {
                        item,
                        outcome,
                        read,
                    },
                );
            } else {
                self.report.count(&item, &outcome);
            }
        }
        stopped.map_or(Ok(()), Err)
    }

    /// Counts the keys that the cluster has.
    fn settle(&mut self) {
        for sent in std::mem::take(&mut self.sent).into_values() {
            self.report.count(&sent.item, &sent.outcome);
        }
    }
}

impl Import {
    /// Copies keys and deletes them at the source, unless they change meanwhile. While the slot of a source cluster moves,
    /// its keys wait.
    pub(super) async fn move_away(
        &self,
        lane: &mut Ends,
        keys: &[&[u8]],
    ) -> Result<u64, TransferError> {
        // SCAN may return a key twice.
        let mut seen = HashSet::new();
        let mut left = keys.to_vec();
        left.retain(|key| seen.insert(*key));
        let mut moving = Moving {
            left,
            sent: HashMap::new(),
            in_transit: 0,
            deletion: Deletion::NotDone,
            report: TransferReport::default(),
            bytes: 0,
        };
        let ended = self.attempts(lane, &mut moving).await;
        match &ended {
            // Each of them is tried once more, alone.
            Err(TransferError::Client(error)) if is_too_large(error) => {}
            _ => moving.settle(),
        }
        let report = moving.report;
        let keys = report.written + report.same + report.expired + report.failures();
        self.counts.meter.add(keys);
        self.counts.report.add(report);
        ended.map(|()| moving.bytes)
    }

    async fn attempts(
        &self,
        lane: &mut Ends,
        moving: &mut Moving<'_>,
    ) -> Result<(), TransferError> {
        let mut changes = 0;
        let mut deadline = Instant::now() + OWNER_TIMEOUT;
        loop {
            let attempt = tokio::select! {
                biased;
                attempt = self.attempt(lane, moving) => attempt?,
                () = self.stopper.given_up() => {
                    moving.report.unknown += moving.in_transit as u64;
                    return Ok(());
                }
            };
            match attempt {
                Attempt::Moved => return Ok(()),
                Attempt::Changed => {
                    deadline = Instant::now() + OWNER_TIMEOUT;
                    changes += 1;
                    if changes == COPY_ATTEMPTS {
                        let why = "the key, or another one of its batch, was written at the source during every attempt";
                        for key in std::mem::take(&mut moving.left) {
                            let name = self.wanted.part.renamed(key);
                            moving.fail(FailureReason::KeptChanging, &name, why);
                        }
                        return Ok(());
                    }
                }
                Attempt::NotNow if self.stopper.is_halted() => return Ok(()),
                Attempt::NotNow if Instant::now() < deadline => lane.source.start_again().await,
                Attempt::NotNow => {
                    let slot = moving.left.first().map(|key| Slot::of_key(key));
                    return Err(TransferError::NoOwner(format!(
                        "slot {} of the source has no owner that answers, or moves for long",
                        slot.map(|slot| slot.to_string()).unwrap_or_default()
                    )));
                }
            }
        }
    }

    async fn attempt(
        &self,
        lane: &mut Ends,
        moving: &mut Moving<'_>,
    ) -> Result<Attempt, TransferError> {
        let Some(first) = moving.left.first().copied() else {
            return Ok(Attempt::Moved);
        };
        let successor = lane.source.successor(first);
        let is_cluster = self.wanted.part.source.is_cluster();
        let not_now = |error: ClientError| match is_cluster && passes(&error, successor) {
            true => Ok(Attempt::NotNow),
            false => Err(TransferError::from(error)),
        };
        let source = match lane.source.owner(first).await {
            Ok(Some(source)) => source,
            Ok(None) => return Ok(Attempt::NotNow),
            Err(error) => return not_now(error),
        };
        if let Err(error) = source.watch_many(&moving.left).await {
            return not_now(error);
        }
        let question = self.wanted.question;
        // On the connection that watches: another one may lead to another server of the same name.
        let dumped = match source.dump_many(&moving.left, question, Asking::No).await {
            Ok(dumped) => dumped,
            Err(error) => return not_now(error),
        };
        let mut values = Vec::with_capacity(dumped.len());
        for one in dumped {
            match one {
                Ok(value) => values.push(value),
                Err(ReadFault::Moved | ReadFault::Ask(_)) => return Ok(Attempt::NotNow),
                Err(ReadFault::NotNow(error) | ReadFault::Refused(error)) => return not_now(error),
            }
        }
        let read = Instant::now();
        let (mut new, mut changed, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in moving.left.iter().zip(values) {
            let name = self.wanted.part.renamed(key);
            match (
                value.map(|value| self.item(key, value)),
                moving.sent.get(&*name),
            ) {
                (Some(item), None) => new.push(item),
                (Some(item), Some(sent)) => {
                    if !sent.is_still(&item, self.owners.clock_of_key(&name)) {
                        changed.push(item);
                    }
                }
                (None, None) => moving.report.gone += 1,
                (None, Some(_)) => deleted.push(name.into_owned()),
            }
        }
        self.note_deleted(moving, deleted);
        moving.bytes += bytes_of(&new) + bytes_of(&changed);
        let new = self
            .without_collisions(lane, new, &mut moving.report)
            .await?;
        moving.in_transit = new.len();
        let done = self.write_new(lane, new).await;
        moving.note(done, read)?;
        let changed = self.over_copies(lane, moving, changed, read).await?;
        moving.in_transit = changed.len();
        for item in &changed {
            moving.sent.remove(&item.key);
        }
        let done = lane.writer.lane.overwrite(changed).await;
        moving.note(done, read)?;
        let sent = &moving.sent;
        moving
            .left
            .retain(|key| sent.contains_key(&*self.wanted.part.renamed(key)));
        if moving.left.is_empty() {
            source.unwatch().await?;
            return Ok(Attempt::Moved);
        }
        match source.unlink_watched(&moving.left).await {
            Ok(Some(deleted)) => {
                moving.report.deleted += deleted;
                Ok(Attempt::Moved)
            }
            // A key was written meanwhile: all of these are read again.
            Ok(None) => Ok(Attempt::Changed),
            Err(error) => {
                if error.server_code().is_none() {
                    moving.deletion = Deletion::Unanswered;
                }
                not_now(error)
            }
        }
    }

    /// Writes keys that the cluster does not have from us yet.
    async fn write_new(&self, lane: &mut Ends, new: Vec<Item>) -> Done {
        let name = new.first().map(|item| item.key.as_slice());
        let mut batch = self.batch(name, std::mem::take(&mut lane.memory));
        let mut sent = Vec::with_capacity(new.len());
        for item in new {
            match batch.is_usual(&item) && batch.bulk.add_item(&item) {
                true => sent.push(item),
                false => batch.others.push(item),
            }
        }
        let recycle = reused_as(&mut lane.memory);
        lane.writer
            .write_each(batch.bulk, sent, batch.others, recycle)
            .await
    }

    /// Notes keys that are no longer at the source, and whose copies are in the cluster. A transaction deletes all or none:
    /// as long as one key is there, the others were deleted by clients.
    fn note_deleted(&self, moving: &mut Moving<'_>, names: Vec<Vec<u8>>) {
        let are_all = names.len() == moving.left.len();
        if are_all && moving.deletion == Deletion::Unanswered {
            return moving.settle();
        }
        for name in names {
            let Some(sent) = moving.sent.remove(&name) else {
                continue;
            };
            if sent.expires_now(self.owners.clock_of_key(&name)) {
                moving.report.count(&sent.item, &sent.outcome);
            } else {
                let why = "it was deleted at the source while it was moved; the cluster has the copy that was made before: delete \
                           it if nobody needs it";
                moving.fail(FailureReason::DeletedMeanwhile, &name, why);
            }
        }
    }

    /// Leaves out keys whose copy in the cluster is no longer what was sent there: a client has written or deleted it, and
    /// that is not undone unless the user wants keys to be replaced.
    async fn over_copies(
        &self,
        lane: &mut Ends,
        moving: &mut Moving<'_>,
        changed: Vec<Item>,
        read: Instant,
    ) -> Result<Vec<Item>, TransferError> {
        if changed.is_empty() || self.options.on_conflict == OnConflict::Replace {
            return Ok(changed);
        }
        let names: Vec<&[u8]> = changed.iter().map(|item| item.key.as_slice()).collect();
        let copies = lane.copies.dump(&names, ExpiryQuestion::Left).await?;
        let mut wanted = Vec::with_capacity(changed.len());
        let mut conflict = None;
        for (item, copy) in changed.into_iter().zip(copies) {
            let owner = self.owners.of_key(&item.key);
            let node = owner.map_or_else(
                || "the cluster".to_string(),
                |owner| owner.target.addr.to_string(),
            );
            let clock = self.owners.clock_of_key(&item.key);
            let Some(sent) = moving.sent.get_mut(&item.key) else {
                continue;
            };
            let difference = match copy {
                None if sent.expires_now(clock) => None,
                None => Some(format!("it was deleted on {node} meanwhile")),
                Some(copy) if item.difference(&copy, read.elapsed(), clock).is_none() => {
                    // A client has written the same there.
                    sent.item = item;
                    sent.read = read;
                    continue;
                }
                Some(copy) => {
                    let difference = sent.item.difference(&copy, sent.read.elapsed(), clock);
                    difference.map(|difference| difference.describe(&node))
                }
            };
            let Some(difference) = difference else {
                wanted.push(item);
                continue;
            };
            let why = format!("it was written at the source while it was moved, and {difference}");
            moving.fail(FailureReason::Differs, &item.key, &why);
            let key = quoted(&item.key);
            conflict = match (self.options.on_conflict, self.options.after_failure) {
                (OnConflict::Abort, _) => Some(TransferError::Conflict { key, node }),
                (_, AfterFailure::Stop) => Some(TransferError::Key { key, why }),
                _ => conflict,
            };
        }
        conflict.map_or(Ok(wanted), Err)
    }
}

/// Whether the error passes once the slot has an owner again.
fn passes(error: &ClientError, successor: Successor) -> bool {
    const CODES: [&str; 6] = [
        "MOVED",
        "ASK",
        "TRYAGAIN",
        "CLUSTERDOWN",
        "READONLY",
        "EXECABORT",
    ];
    match error.server_code() {
        Some(code) => CODES.contains(&code),
        None => successor.may_follow(error),
    }
}
