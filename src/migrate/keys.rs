//! The keys of a window, from source to target.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::conflict::{Comparison, Verdict};
use super::lane::{Ends, LAG_WITHIN, LaneError, WINDOW_KEYS};
use super::pace::Pace;
use super::regulator::{Haste, Regulator};
use super::{BYTES_PER_SECOND, End, Lag, MoveOptions, OnBigKey, OnConflict, barrier_key};
use crate::client::{ClientError, Existing, Fault, Keep, MigrateFault, Migrated, Migration};
use crate::cluster::slot::{Slot, SlotSet};
use crate::cluster::text::clean;
use crate::connections::Connections;

/// How many keys are asked for in one go, in all slots of the request together.
const FETCHED: u64 = 4_096;
/// How many keys of one slot are asked for at a time: all keys of all windows but those of a single
/// slot that has more, so that big ones are known before their slot is opened.
const PER_SLOT: usize = WINDOW_KEYS as usize;
/// How many keys are weighed in one go: a few milliseconds of the server's time.
const WEIGHED: usize = 512;
/// Bytes with which a call takes a millisecond and more.
const HEAVY: u64 = 256 * 1024;
/// How often keys that stay at the source are tried again.
const TRIES: usize = 5;
/// How often a call is made again after the connection between the two broke or was too slow. Each
/// holds the source for as long as its deadline.
const IO_TRIES: usize = 2;
/// Before a try that follows a broken connection between the two.
const BREATH: Duration = Duration::from_millis(500);

/// Whose copy of a key is the one that clients read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authority {
    /// The source's, as long as it has it.
    Source,
    /// The target's: it owns the slot.
    Target,
}

/// Moves keys of one lane.
pub(super) struct Movers {
    source: End,
    target: End,
    connections: Arc<Connections>,
    options: Arc<MoveOptions>,
    regulator: Arc<Regulator>,
    turns: Option<Arc<Semaphore>>,
    pace: Pace,
    /// What tells equal values from differing ones, once that is needed.
    comparison: Option<Comparison>,
    /// Whether a call ended in the middle: keys may be on both ends since.
    broken: bool,
    authority: Authority,
    /// Slots with a key that has another value on either end, and what there is to say of one.
    conflicts: BTreeMap<Slot, String>,
    /// Bytes that the target was given since all of its replicas were known to have them.
    unconfirmed: u64,
}

/// Keys of one slot in one database.
pub(super) struct Batch {
    slot: Slot,
    database: u32,
    keys: Vec<Vec<u8>>,
    /// Bytes of each; 0 where the server does not tell.
    weights: Vec<u64>,
}

/// What is known of a window's keys before it is opened.
#[derive(Default)]
pub(super) struct Prepared {
    batches: Vec<Batch>,
}

/// Keys that are too big, and their slots.
pub(super) struct BigKeys {
    /// The slots that hold any.
    pub(super) slots: SlotSet,
    /// The largest: its slot, its bytes, its name.
    largest: (u64, Option<(Slot, Vec<u8>)>),
}

/// `key "user:1" of slot 42 weighs 1.5 GiB`.
impl fmt::Display for BigKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, Some((slot, key))) = &self.largest else {
            return f.write_str("big keys");
        };
        let mib = *bytes as f64 / f64::from(1 << 20);
        let seconds = bytes.div_ceil(BYTES_PER_SECOND);
        write!(
            f,
            "key {} of slot {slot} weighs {mib:.1} MiB: moving it would hold both servers for up to \
             {seconds} s",
            shown(key)
        )
    }
}

/// What became of keys where they don't belong.
#[derive(Debug, Default)]
pub(super) struct Purged {
    pub(super) deleted: u64,
    pub(super) kept: u64,
    /// How many comparisons were made, of some keys more than once.
    pub(super) compared: u64,
}

/// The progress of MIGRATE calls.
pub(super) enum Call {
    /// One for keys of this slot is about to be sent.
    Sent(Slot),
    /// The one for keys of this slot was answered: its outcome is known.
    Answered(Slot),
    /// One moved keys.
    Moved(Moved),
}

/// What one call moved.
pub(super) struct Moved {
    pub(super) keys: u64,
    pub(super) bytes: u64,
    pub(super) took: Duration,
}

/// When it was decided what becomes of a key that may be on both ends.
enum Settled {
    /// The call has moved it: the source has it no more.
    Before,
    /// Only now.
    Now,
}

impl Prepared {
    /// What a window's keys weigh, about: the mean of those that were looked at counts for all.
    pub(super) fn bytes(&self, window: &[(Slot, u64)]) -> u64 {
        let weights = || self.batches.iter().flat_map(|batch| &batch.weights);
        let (sum, looked_at) = (weights().sum::<u64>(), weights().count() as u64);
        let keys: u64 = window.iter().map(|(_, keys)| keys).sum();
        (sum / looked_at.max(1)).saturating_mul(keys).max(sum)
    }

    /// Leaves out the slots with keys above so many bytes, and tells of them.
    pub(super) fn without_big_keys(mut self, most: u64) -> (Self, Option<BigKeys>) {
        let mut big = BigKeys {
            slots: SlotSet::new(),
            largest: (0, None),
        };
        for batch in &self.batches {
            for (key, weight) in batch.keys.iter().zip(&batch.weights) {
                if *weight > most {
                    big.slots.insert(batch.slot);
                    if *weight > big.largest.0 {
                        big.largest = (*weight, Some((batch.slot, key.clone())));
                    }
                }
            }
        }
        if big.slots.is_empty() {
            return (self, None);
        }
        self.batches.retain(|batch| !big.slots.contains(batch.slot));
        (self, Some(big))
    }
}

impl Movers {
    pub(super) fn new(
        source: End,
        target: End,
        connections: Arc<Connections>,
        options: Arc<MoveOptions>,
        regulator: Arc<Regulator>,
        turns: Option<Arc<Semaphore>>,
        authority: Authority,
    ) -> Self {
        let pace = match options.pipeline {
            Some(keys) => Pace::fixed(keys, options.max_stall),
            None => Pace::adaptive(options.max_stall),
        };
        Self {
            source,
            target,
            connections,
            options,
            regulator,
            turns,
            pace,
            comparison: None,
            broken: false,
            authority,
            conflicts: BTreeMap::new(),
            unconfirmed: 0,
        }
    }

    /// Reads which keys there are, and how large they are, before anything is changed.
    pub(super) async fn prepare(
        &self,
        ends: &Ends,
        window: &[(Slot, u64)],
    ) -> Result<Prepared, LaneError> {
        let mut batches = Vec::new();
        for database in &ends.databases {
            let mut group: Vec<Slot> = Vec::new();
            let mut expected = 0;
            for (i, (slot, count)) in window.iter().enumerate() {
                if *count > 0 {
                    group.push(*slot);
                    expected += (*count).min(PER_SLOT as u64);
                }
                if expected >= FETCHED || i + 1 == window.len() {
                    batches.extend(self.fetch(ends, *database, &group).await?);
                    group.clear();
                    expected = 0;
                }
            }
        }
        Ok(Prepared { batches })
    }

    async fn fetch(
        &self,
        ends: &Ends,
        database: u32,
        slots: &[Slot],
    ) -> Result<Vec<Batch>, ClientError> {
        let lists = ends
            .source
            .cluster_getkeysinslot(database, slots, PER_SLOT)
            .await?;
        let mut batches: Vec<Batch> = slots
            .iter()
            .zip(lists)
            .filter(|(_, keys)| !keys.is_empty())
            .map(|(slot, keys)| Batch {
                slot: *slot,
                database,
                weights: vec![0; keys.len()],
                keys,
            })
            .collect();
        let keys: Vec<&Vec<u8>> = batches.iter().flat_map(|batch| &batch.keys).collect();
        let mut weights = Vec::with_capacity(keys.len());
        for keys in keys.chunks(WEIGHED) {
            let usage = match self.authority {
                Authority::Source => ends.source.memory_usage(database, keys).await?,
                Authority::Target => ends.source.memory_usage_asking(database, keys).await?,
            };
            self.regulator.note_usage(self.source.id, &usage);
            weights.extend(usage.weights);
        }
        let mut weights = weights.into_iter();
        for weight in batches.iter_mut().flat_map(|batch| &mut batch.weights) {
            *weight = weights.next().flatten().unwrap_or(0);
        }
        Ok(batches)
    }

    /// Moves what was prepared, and then whatever is left, until the source has no key of the
    /// window.
    pub(super) async fn run(
        &mut self,
        ends: &Ends,
        prepared: Prepared,
        window: &[(Slot, u64)],
        bare: &SlotSet,
        mut tell: impl FnMut(Call),
    ) -> Result<(), LaneError> {
        let mut batches = prepared.batches;
        let slots: Vec<Slot> = window.iter().map(|(slot, _)| *slot).collect();
        let mut fewest = u64::MAX;
        let mut tries = 0;
        loop {
            for batch in batches {
                self.send(ends, batch, bare, &mut tell).await?;
            }
            // Whatever was not prepared: more keys than one request brings, keys that were written
            // since, keys of a database that was empty then.
            let mut left: Vec<(Slot, u64)> = slots.iter().map(|slot| (*slot, 0)).collect();
            for database in &ends.databases {
                let counts = ends
                    .source
                    .cluster_countkeysinslot(*database, &slots)
                    .await?;
                for ((_, sum), count) in left.iter_mut().zip(counts) {
                    *sum += count;
                }
            }
            left.retain(|(slot, _)| !self.conflicts.contains_key(slot));
            let sum: u64 = left.iter().map(|(_, count)| count).sum();
            if sum == 0 {
                return self.conflict();
            }
            tries = if sum < fewest { 0 } else { tries + 1 };
            fewest = fewest.min(sum);
            if tries == TRIES {
                return Err(LaneError::Key(format!(
                    "{sum} keys do not leave {}, though MIGRATE says that they do",
                    self.source
                )));
            }
            let prepared = self.prepare(ends, &left).await?;
            batches = match self.options.on_big_key {
                OnBigKey::Move => prepared.batches,
                // A slot that is open already can't be left out any more.
                OnBigKey::Refuse | OnBigKey::Skip => {
                    let (prepared, big) = prepared.without_big_keys(self.options.big());
                    if let Some(big) = big {
                        return Err(LaneError::Key(format!(
                            "{big}; it was met when its slot was open already, and \
                             --on-big-key move finishes that"
                        )));
                    }
                    prepared.batches
                }
            };
        }
    }

    /// What stopped slots of this window, now that all the others are through.
    fn conflict(&self) -> Result<(), LaneError> {
        let Some(first) = self.conflicts.values().next() else {
            return Ok(());
        };
        let more = match self.conflicts.len() - 1 {
            0 => String::new(),
            1 => "; and so has another slot".to_string(),
            more => format!("; and so have {more} other slots"),
        };
        Err(LaneError::Key(format!("{first}{more}")))
    }

    /// One slot's keys, call by call.
    async fn send(
        &mut self,
        ends: &Ends,
        batch: Batch,
        bare: &SlotSet,
        tell: &mut impl FnMut(Call),
    ) -> Result<(), LaneError> {
        let mut keys = batch.keys.as_slice();
        let mut weights = batch.weights.as_slice();
        let mut tries = 0;
        while !keys.is_empty() {
            let longest = self.regulator.longest_call(self.options.max_stall);
            let least = self.regulator.least_call(self.options.max_stall);
            self.pace.set_longest(longest, least);
            if self.regulator.haste() == Haste::Finishing {
                self.pace.hurry();
            }
            let count = self.pace.next(weights);
            let source = self.source.id;
            let count = self.regulator.pass(source, &weights[..count]).await;
            let bytes: u64 = weights[..count].iter().sum();
            let turn = self.turn(bytes).await;
            let started = Instant::now();
            let migration = self.migration(batch.database, self.existing());
            tell(Call::Sent(batch.slot));
            let outcome = ends.source.migrate(&migration, &keys[..count]).await;
            let took = started.elapsed();
            drop(turn);
            let growth = self.regulator.growth([&self.source.id, &self.target.id]);
            let is_answered = !matches!(&outcome, Err(error) if error.outcome_unknown());
            if is_answered {
                tell(Call::Answered(batch.slot));
            }
            match outcome {
                Ok(outcome) => {
                    self.pace.measured(count, bytes, took, growth);
                    if outcome == Migrated::Moved {
                        tell(Call::Moved(Moved {
                            keys: count as u64,
                            bytes,
                            took,
                        }));
                        self.wait_for_replicas(ends, batch.slot, bytes).await?;
                    }
                }
                Err(error) => match MigrateFault::of(&error) {
                    MigrateFault::BusyKey => {
                        let called = keys[..count].iter().zip(weights);
                        self.settle_all(ends, &batch, bare, called, took, tell)
                            .await?;
                    }
                    // A call whose connection was closed is over before the same process takes the next one.
                    MigrateFault::Io
                        if tries < IO_TRIES
                            && (!error.outcome_unknown()
                                || matches!(error.fault, Fault::Closed { .. })) =>
                    {
                        tries += 1;
                        self.broken = true;
                        let timeout = self.options.timeout;
                        self.pace.measured(count, bytes, timeout, growth);
                        tokio::time::sleep(BREATH).await;
                        // One that is stopped would hold the source as long again.
                        ends.target.info().await?;
                        continue;
                    }
                    _ => return Err(error.into()),
                },
            }
            self.regulator.rest(took).await;
            keys = &keys[count..];
            weights = &weights[count..];
        }
        Ok(())
    }

    /// Large batches to the same target are sent one after another: a call blocks its source until the
    /// target has restored the keys, and the target restores them one after another anyway.
    async fn turn(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let turns = self.turns.clone().filter(|_| bytes >= HEAVY)?;
        turns.acquire_owned().await.ok()
    }

    /// Lets the target's replicas follow within a window, too: what they have not read waits in its
    /// memory, and beyond client-output-buffer-limit they are cut off, and begin anew.
    async fn wait_for_replicas(
        &mut self,
        ends: &Ends,
        slot: Slot,
        more: u64,
    ) -> Result<(), LaneError> {
        let Lag::Bytes(most) = self.options.max_replica_lag else {
            return Ok(());
        };
        self.unconfirmed += more;
        let replicas = ends.replicas();
        if replicas == 0 || self.unconfirmed < most / 2 {
            return Ok(());
        }
        let slots = [slot].into_iter().collect();
        let Some(key) = barrier_key(&slots) else {
            return Ok(());
        };
        let target = &ends.target;
        let confirmed = target.wait_after_write(&key, replicas, LAG_WITHIN).await?;
        if confirmed < replicas as u64 {
            return Err(LaneError::Changed(format!(
                "{confirmed} of the {replicas} replicas of {} have followed, within {} s: look at the \
                 others, and go on when they have caught up (--max-replica-lag)",
                self.target,
                LAG_WITHIN.as_secs()
            )));
        }
        self.unconfirmed = 0;
        Ok(())
    }

    fn existing(&self) -> Existing {
        match self.options.on_conflict {
            OnConflict::Source => Existing::Replace,
            OnConflict::Abort | OnConflict::Target => Existing::Refuse,
        }
    }

    fn migration(&self, database: u32, existing: Existing) -> Migration {
        Migration {
            peer: self.target.peer.clone(),
            login: self.target.login.clone(),
            database,
            timeout: self.options.timeout,
            existing,
            source: Keep::Move,
        }
    }

    /// The keys of a call that met some of them at the target: the others have moved.
    async fn settle_all<'a>(
        &mut self,
        ends: &Ends,
        batch: &Batch,
        bare: &SlotSet,
        called: impl Iterator<Item = (&'a Vec<u8>, &'a u64)>,
        took: Duration,
        tell: &mut impl FnMut(Call),
    ) -> Result<(), LaneError> {
        let mut moved = Moved {
            keys: 0,
            bytes: 0,
            took,
        };
        let mut settled = Ok(());
        for (key, bytes) in called {
            match self.settle(ends, batch, bare, (key, *bytes), tell).await {
                Ok(Settled::Before) => {
                    moved.keys += 1;
                    moved.bytes += bytes;
                }
                Ok(Settled::Now) => {}
                Err(error) => {
                    settled = Err(error);
                    break;
                }
            }
        }
        let bytes = moved.bytes;
        if moved.keys > 0 {
            tell(Call::Moved(moved));
        }
        settled?;
        self.wait_for_replicas(ends, batch.slot, bytes).await
    }

    /// A key that may be on both ends: equal values are one, differing ones are named.
    ///
    /// Of a slot that the target had no key of when it was opened, a differing value at the target
    /// is what a call of ours left there before it broke: as long as the source has the key, clients
    /// read and write it there, and its value counts.
    async fn settle(
        &mut self,
        ends: &Ends,
        batch: &Batch,
        bare: &SlotSet,
        (key, bytes): (&[u8], u64),
        tell: &mut impl FnMut(Call),
    ) -> Result<Settled, LaneError> {
        let (slot, database) = (batch.slot, batch.database);
        let existing = match self.compare(database, key).await? {
            Verdict::Gone => return Ok(Settled::Before),
            Verdict::LockHeld => Existing::Refuse,
            // The source's may be newer by now; where clients use the target's, it is the other way
            // round.
            Verdict::Equal if self.authority == Authority::Source => Existing::Replace,
            Verdict::Equal => {
                ends.source.del_in(database, key).await?;
                return Ok(Settled::Now);
            }
            Verdict::Differ(_) if self.broken && bare.contains(slot) => Existing::Replace,
            Verdict::Differ(how) => match self.options.on_conflict {
                OnConflict::Source => Existing::Replace,
                OnConflict::Target => {
                    ends.source.del_in(database, key).await?;
                    return Ok(Settled::Now);
                }
                OnConflict::Abort => {
                    let (key, here, there) = (shown(key), &self.source, &self.target);
                    let flag = self.options.conflict_flag;
                    self.conflicts.entry(slot).or_insert_with(|| {
                        format!(
                            "key {key} of slot {slot} has one value on {here} and another on {there} \
                             ({how}): both stay ({flag} chooses)"
                        )
                    });
                    return Ok(Settled::Now);
                }
            },
        };
        let migration = self.migration(database, existing);
        tell(Call::Sent(slot));
        let started = Instant::now();
        let outcome = ends.source.migrate(&migration, &[key.to_vec()]).await?;
        tell(Call::Answered(slot));
        if outcome == Migrated::Moved {
            tell(Call::Moved(Moved {
                keys: 1,
                bytes,
                took: started.elapsed(),
            }));
            self.wait_for_replicas(ends, slot, bytes).await?;
        }
        Ok(Settled::Now)
    }

    /// Deletes the source's keys that equal the target's. Keys that the target lacks, or has with
    /// other values, stay. It may be called again after an error.
    pub(super) async fn purge(
        &mut self,
        ends: &Ends,
        window: &[(Slot, u64)],
        purged: &mut Purged,
    ) -> Result<(), LaneError> {
        purged.kept = 0;
        for database in &ends.databases {
            for (slot, _) in window.iter().filter(|(_, keys)| *keys > 0) {
                loop {
                    let one = [*slot];
                    let lists = ends.source.cluster_getkeysinslot(*database, &one, PER_SLOT);
                    let keys: Vec<Vec<u8>> = lists.await?.into_iter().flatten().collect();
                    let (before, all) = (purged.deleted, keys.len());
                    for key in keys {
                        let verdict = self.compare(*database, &key).await?;
                        purged.compared += 1;
                        match verdict {
                            Verdict::Equal => {
                                ends.source.del_in(*database, &key).await?;
                                purged.deleted += 1;
                            }
                            Verdict::Gone => {}
                            Verdict::LockHeld | Verdict::Differ(_) => purged.kept += 1,
                        }
                    }
                    // Those that stay would be asked for again.
                    if all < PER_SLOT || purged.deleted == before {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    async fn compare(&mut self, database: u32, key: &[u8]) -> Result<Verdict, ClientError> {
        let comparison = match self.comparison.take() {
            Some(comparison) => comparison,
            None => {
                let timeout = self.options.timeout;
                Comparison::open(&self.connections, &self.source, &self.target, timeout).await?
            }
        };
        let verdict = comparison.of(database, key).await;
        // Its connections may have ended with what could not be compared.
        if matches!(
            verdict,
            Ok(Verdict::Equal | Verdict::LockHeld | Verdict::Gone)
        ) {
            self.comparison = Some(comparison);
        }
        verdict
    }
}

/// A key as it may be shown: what is not printable is escaped.
fn shown(key: &[u8]) -> String {
    const LONGEST: usize = 80;
    let text = clean(&key.escape_ascii().to_string(), LONGEST + 1);
    if text.len() > LONGEST {
        format!("\"{}…\"", &text[..LONGEST])
    } else {
        format!("\"{text}\"")
    }
}
