//! A lane: writes batches of keys to the owners of their slots.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::Clock;
use super::report::{FailureReason, quoted};
use super::slots::{Group, SlotOwners, note_asked};
use super::verify_report::{Sight, TTL_TOLERANCE, left as remaining, same_ttl};
use super::{AfterFailure, Item, KeyOutcome, OnConflict, TransferError, TransferOptions};
use crate::client::{
    AskedNode, ClientError, DEFAULT_NODE_TIMEOUT, Denied, Dumped, Expiry, ExpiryQuestion, Fault,
    NodeClient, ReadFault, RestoreFault, Restoring,
};
use crate::cluster::node::Addr;
use crate::connections::Target;
use crate::rdb::{Dialect, Encoding, Sameness, module_type, older, same_value, translated};

/// How long a slot may have no owner that answers. A failover takes the node timeout and a little more.
pub(super) const OWNER_TIMEOUT: Duration = DEFAULT_NODE_TIMEOUT.saturating_mul(3);
/// The pause between attempts.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The bytes requested at a time when values are compared.
const COMPARED_BYTES: usize = 4 << 20;

/// Writes batches one after the other.
pub(super) struct Lane {
    owners: Arc<SlotOwners>,
    options: TransferOptions,
    database: u32,
    clients: HashMap<Addr, NodeClient>,
    /// The RDB versions that a node refused: such values are converted before they are sent.
    refused: HashMap<Addr, Refused>,
}

/// The lowest RDB version that a node refused, of each product.
#[derive(Debug, Clone, Copy, Default)]
struct Refused {
    redis: Option<u16>,
    valkey: Option<u16>,
}

impl Refused {
    fn lowest(&mut self, encoding: Encoding) -> &mut Option<u16> {
        match encoding.dialect() {
            Dialect::Redis => &mut self.redis,
            Dialect::Valkey => &mut self.valkey,
        }
    }

    fn note(&mut self, encoding: Encoding) {
        let version = encoding.version();
        let lowest = self.lowest(encoding);
        *lowest = Some(lowest.map_or(version, |lowest| lowest.min(version)));
    }

    fn has(mut self, encoding: Encoding) -> bool {
        let lowest = *self.lowest(encoding);
        lowest.is_some_and(|lowest| encoding.version() >= lowest)
    }
}

/// The keys of a batch that have a result, and why it stopped before the others had one.
pub(super) type Done = (Vec<(Item, KeyOutcome)>, Option<TransferError>);

/// How a key differs from the one that a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Difference {
    TimeToLive,
    Value,
    /// Perhaps not at all: the values can't be compared.
    Unknown,
}

impl Difference {
    pub(super) fn describe(self, node: &str) -> String {
        match self {
            Self::TimeToLive => format!("{node} has it with another time to live"),
            Self::Value => format!("{node} has another value"),
            Self::Unknown => format!("{node} has a value that can't be compared"),
        }
    }
}

/// A batch in progress.
struct Batch {
    items: Vec<Item>,
    outcomes: Vec<Option<KeyOutcome>>,
    /// Keys that the owner of their slot redirected (`ASK`), for the next attempt.
    asked: BTreeMap<usize, AskedNode>,
    /// Why keys were delayed last.
    delay: Option<String>,
    /// The same, if a node does not answer: that is not a fault of the keys.
    silence: Option<ClientError>,
    /// When it began; the times to live of its items count from here.
    began: Instant,
}

impl Lane {
    pub(super) fn new(owners: Arc<SlotOwners>, options: TransferOptions, database: u32) -> Self {
        Self {
            owners,
            options,
            database,
            clients: HashMap::new(),
            refused: HashMap::new(),
        }
    }

    /// Writes keys, and returns the result of each, and why it stopped before all had one.
    pub(super) async fn write(&mut self, items: Vec<Item>) -> Done {
        self.write_since(items, Instant::now()).await
    }

    /// The same for keys that an attempt may have written since `began`; their times to live count from then.
    pub(super) async fn write_since(&mut self, items: Vec<Item>, began: Instant) -> Done {
        let mut batch = Batch {
            outcomes: vec![None; items.len()],
            items,
            asked: BTreeMap::new(),
            delay: None,
            silence: None,
            began,
        };
        let mut stopped = self.write_batch(&mut batch).await.err();
        let done: Vec<(Item, KeyOutcome)> = batch
            .items
            .into_iter()
            .zip(batch.outcomes)
            .filter_map(|(item, outcome)| Some((item, outcome?)))
            .collect();
        if stopped.is_none() && self.options.after_failure == AfterFailure::Stop {
            stopped = done.iter().find_map(|(item, outcome)| match outcome {
                KeyOutcome::Failed(_, why) => Some(TransferError::Key {
                    key: quoted(&item.key),
                    why: why.clone(),
                }),
                _ => None,
            });
        }
        (done, stopped)
    }

    async fn write_batch(&mut self, batch: &mut Batch) -> Result<(), TransferError> {
        let mut deadline = Instant::now() + OWNER_TIMEOUT;
        let mut left = batch.left();
        while !left.is_empty() {
            let keys = left.iter().map(|i| (*i, batch.items[*i].key.as_slice()));
            let (groups, generation) = self.owners.by_node(keys, &mut batch.asked);
            batch.silence = None;
            for group in groups {
                self.send(batch, group).await?;
            }
            let still = batch.left();
            if still.len() < left.len() {
                deadline = Instant::now() + OWNER_TIMEOUT;
            }
            left = still;
            if left.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                if let Some(error) = batch.silence.take() {
                    return Err(error.into());
                }
                for i in &left {
                    let why = batch.delay.clone();
                    let why = why.unwrap_or_else(|| "no master owns the slot".to_string());
                    batch.outcomes[*i] = Some(KeyOutcome::Failed(FailureReason::NoOwner, why));
                }
                break;
            }
            // Keys that were redirected by ASK are retried at once.
            let Batch { asked, items, .. } = &mut *batch;
            asked.retain(|i, node| self.owners.knows(node, &items[*i].key, generation));
            if asked.len() < left.len() {
                tokio::time::sleep(RETRY_PAUSE).await;
                if let Err(error) = self.owners.refresh(generation).await {
                    batch.delay = Some(error.to_string());
                }
            }
        }
        Ok(())
    }

    /// The same for keys that are overwritten, whatever the user wants for others.
    pub(super) async fn overwrite(&mut self, items: Vec<Item>) -> Done {
        let usual = self.options.on_conflict;
        self.options.on_conflict = OnConflict::Replace;
        let done = self.write(items).await;
        self.options.on_conflict = usual;
        done
    }

    /// Sends the keys of one node. Values that it refuses as too new are sent again in another form, until it takes one or
    /// there is no other one.
    async fn send(&mut self, batch: &mut Batch, mut group: Group) -> Result<(), TransferError> {
        let mut there = Vec::new();
        let clock = self.owners.clock(&group.target.addr);
        batch.leave_expired(&mut group.members, clock);
        if let Some(refused) = self.refused.get(&group.target.addr) {
            for i in &group.members {
                let item = &mut batch.items[*i];
                while item.is_refused(*refused) && item.convert(*refused) {}
            }
        }
        while !group.members.is_empty() {
            let Some(answers) = self.send_once(batch, &group).await? else {
                return Ok(());
            };
            let (mut refused, mut stopped) = (Vec::new(), None);
            for (i, answer) in group.members.iter().zip(answers) {
                match answer {
                    Err(RestoreFault::BusyKey) => there.push(*i),
                    Err(RestoreFault::Version) => {
                        let item = &mut batch.items[*i];
                        let addr = group.target.addr.clone();
                        let known = self.refused.entry(addr).or_default();
                        if let Some(encoding) = item.encoding {
                            known.note(encoding);
                        }
                        if item.convert(*known) {
                            refused.push(*i);
                        } else {
                            let why = item.too_new(&group.name);
                            let failed = KeyOutcome::Failed(FailureReason::TooNew, why);
                            batch.outcomes[*i] = Some(failed);
                        }
                    }
                    // The others have a result, too.
                    answer => {
                        if let Err(why) = batch.evaluate(*i, answer, &group, clock) {
                            stopped.get_or_insert(why);
                        }
                    }
                }
            }
            if let Some(why) = stopped {
                return Err(why);
            }
            if refused.is_empty() {
                return self.compare(batch, &group, &there).await;
            }
            group.members = refused;
        }
        Ok(())
    }

    /// Sends one pipeline to one node. `None` if it must be sent again later, or the keys have failed.
    async fn send_once(
        &mut self,
        batch: &mut Batch,
        group: &Group,
    ) -> Result<Option<Vec<Result<(), RestoreFault>>>, TransferError> {
        let mode = self.options.on_conflict.restore_mode();
        let client = match self.client(&group.target).await {
            Ok(client) => client,
            // The database does not exist; another one would be wrong.
            Err(error) if self.database != 0 && matches!(error.fault, Fault::Server { .. }) => {
                for i in &group.members {
                    let why = error.to_string();
                    batch.outcomes[*i] = Some(KeyOutcome::Failed(FailureReason::Refused, why));
                }
                return Ok(None);
            }
            Err(error) => return batch.delay_after(error, group).map(|()| None),
        };
        let restoring: Vec<Restoring<'_>> = group
            .members
            .iter()
            .map(|i| batch.items[*i].restoring())
            .collect();
        let answers = client.restore_many(&restoring, mode, group.asking).await;
        match answers {
            Ok(answers) => Ok(Some(answers)),
            Err(error) => {
                // Some keys may be written: the next attempt finds them.
                self.clients.remove(&group.target.addr);
                batch.delay_after(error, group).map(|()| None)
            }
        }
    }

    /// Compares keys that exist already.
    async fn compare(
        &mut self,
        batch: &mut Batch,
        group: &Group,
        there: &[usize],
    ) -> Result<(), TransferError> {
        let clock = self.owners.clock(&group.target.addr);
        let mut rest = there;
        while !rest.is_empty() {
            // As many as are expected to fit; a value that is much larger than ours differs anyway.
            let mut bytes = 0;
            let fits = |i: &&usize| {
                bytes += batch.items[**i].payload.len();
                bytes <= COMPARED_BYTES
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (some, others) = rest.split_at(count);
            rest = others;
            let client = match self.client(&group.target).await {
                Ok(client) => client,
                Err(error) => return batch.delay_after(error, group),
            };
            let keys: Vec<&[u8]> = some
                .iter()
                .map(|i| batch.items[*i].key.as_slice())
                .collect();
            let dumped = client
                .dump_many(&keys, ExpiryQuestion::Left, group.asking)
                .await;
            let theirs = match dumped {
                Ok(theirs) => theirs,
                Err(error) if matches!(error.fault, Fault::TooLarge { .. }) && count > 1 => {
                    self.clients.remove(&group.target.addr);
                    for one in some {
                        Box::pin(self.compare(batch, group, &[*one])).await?;
                    }
                    continue;
                }
                Err(error) if matches!(error.fault, Fault::TooLarge { .. }) => {
                    self.clients.remove(&group.target.addr);
                    match self.dump_large(group, keys[0]).await {
                        Ok(value) => value,
                        // Larger than any value that could be sent: it differs.
                        Err(error) if matches!(error.fault, Fault::TooLarge { .. }) => {
                            let nothing = Vec::new();
                            vec![Ok(Some(Dumped {
                                payload: nothing,
                                expires: Expiry::Never,
                            }))]
                        }
                        Err(error) => return batch.delay_after(error, group),
                    }
                }
                Err(error) => {
                    self.clients.remove(&group.target.addr);
                    return batch.delay_after(error, group);
                }
            };
            for (i, theirs) in some.iter().zip(theirs) {
                let theirs = match theirs {
                    Ok(Some(theirs)) => theirs,
                    // It vanished or moved meanwhile: the next attempt writes it.
                    Ok(None) | Err(ReadFault::Moved) => continue,
                    Err(ReadFault::Ask(node)) => {
                        note_asked(&mut batch.asked, *i, node, group.asking);
                        continue;
                    }
                    Err(ReadFault::NotNow(error)) => {
                        batch.delay = Some(error.to_string());
                        continue;
                    }
                    Err(ReadFault::Refused(error)) if is_of_key(&error) => {
                        let failed = KeyOutcome::Failed(FailureReason::Refused, error.to_string());
                        batch.outcomes[*i] = Some(failed);
                        continue;
                    }
                    Err(ReadFault::Refused(error)) => return Err(error.into()),
                };
                let node = (group.name.as_str(), clock);
                let outcome = batch.existing(*i, &theirs, node, self.options.on_conflict)?;
                batch.outcomes[*i] = Some(outcome);
            }
        }
        Ok(())
    }

    /// Dumps a value that exceeds the limit of replies; one at a time over all lanes.
    async fn dump_large(
        &self,
        group: &Group,
        key: &[u8],
    ) -> Result<Vec<Result<Option<Dumped>, ReadFault>>, ClientError> {
        // The semaphore is never closed.
        let _turn = self.owners.large().acquire().await.ok();
        let connections = self.owners.connections();
        let client = connections.for_one_value(&group.target).await?;
        if self.database != 0 {
            client.select(self.database).await?;
        }
        client
            .dump_many(&[key], ExpiryQuestion::Left, group.asking)
            .await
    }

    /// Returns this lane's connection to a node, on its database.
    async fn client(&mut self, target: &Target) -> Result<NodeClient, ClientError> {
        if let Some(client) = self.clients.get(&target.addr) {
            return Ok(client.clone());
        }
        let client = self.owners.connections().own(target).await?;
        if self.database != 0 {
            client.select(self.database).await?;
        }
        self.clients.insert(target.addr.clone(), client.clone());
        Ok(client)
    }
}

/// Whether the user may not use this key, but perhaps others.
fn is_of_key(error: &ClientError) -> bool {
    matches!(
        error.fault,
        Fault::NoPermission {
            denied: Denied::Key,
            ..
        }
    )
}

impl Batch {
    fn left(&self) -> Vec<usize> {
        let outcomes = self.outcomes.iter().enumerate();
        outcomes
            .filter(|(_, outcome)| outcome.is_none())
            .map(|(i, _)| i)
            .collect()
    }

    /// Leaves out keys that have expired by the clock of their node.
    fn leave_expired(&mut self, members: &mut Vec<usize>, clock: Clock) {
        members.retain(|i| {
            let has_expired = self.items[*i].has_expired(clock);
            if has_expired {
                self.outcomes[*i] = Some(KeyOutcome::Expired);
            }
            !has_expired
        });
    }

    /// Compares a key with the one that exists. One that would expire at another time is another one: it may not be
    /// deleted at its source.
    fn existing(
        &self,
        i: usize,
        theirs: &Dumped,
        (node, clock): (&str, Clock),
        on_conflict: OnConflict,
    ) -> Result<KeyOutcome, TransferError> {
        let item = &self.items[i];
        let why = match item.difference(theirs, self.began.elapsed(), clock) {
            None => return Ok(KeyOutcome::Same),
            Some(Difference::TimeToLive) if item.has_expired(clock) => {
                return Ok(KeyOutcome::Expired);
            }
            Some(difference) => difference.describe(node),
        };
        match on_conflict {
            OnConflict::Abort => Err(TransferError::Conflict {
                key: quoted(&item.key),
                node: node.to_string(),
            }),
            _ => Ok(KeyOutcome::Failed(FailureReason::Differs, why)),
        }
    }

    /// Evaluates the reply to one key that is neither there already nor too new.
    fn evaluate(
        &mut self,
        i: usize,
        answer: Result<(), RestoreFault>,
        group: &Group,
        clock: Clock,
    ) -> Result<(), TransferError> {
        let node = group.name.as_str();
        let failed = |reason, why: String| Some(KeyOutcome::Failed(reason, why));
        let item = &self.items[i];
        self.outcomes[i] = match answer {
            // RESTORE of a time that has passed on the way answers OK and writes nothing (Redis ≥ 5.0).
            Ok(()) if item.has_expired(clock) => Some(KeyOutcome::Expired),
            Ok(()) => Some(KeyOutcome::Written),
            Err(RestoreFault::OutOfMemory) => {
                return Err(TransferError::OutOfMemory(node.to_string()));
            }
            Err(RestoreFault::Moved | RestoreFault::BusyKey) => None,
            Err(RestoreFault::Ask(node)) => {
                note_asked(&mut self.asked, i, node, group.asking);
                None
            }
            Err(RestoreFault::NotNow(error)) => {
                self.delay = Some(error.to_string());
                None
            }
            Err(RestoreFault::Version) => failed(FailureReason::TooNew, item.too_new(node)),
            Err(RestoreFault::Format) => {
                failed(FailureReason::NotUnderstood, item.not_understood(node))
            }
            Err(RestoreFault::Refused(error)) => match &error.fault {
                _ if is_of_key(&error) => failed(FailureReason::Refused, error.to_string()),
                // All other keys would fail in the same way.
                Fault::NoPermission { .. } | Fault::PasswordNeeded => return Err(error.into()),
                _ => failed(FailureReason::Refused, error.to_string()),
            },
        };
        Ok(())
    }

    /// Keeps the keys for another attempt if the error is temporary. A wrong password or a missing right is not, and
    /// neither is a node that does not answer if no replica can take over from it.
    fn delay_after(&mut self, error: ClientError, group: &Group) -> Result<(), TransferError> {
        let is_silent = error.fault.is_silence();
        let is_server = matches!(error.fault, Fault::Server { .. });
        if !error.fault.may_pass() || is_server || (is_silent && group.replica.is_none()) {
            return Err(error.into());
        }
        self.delay = Some(error.to_string());
        self.silence = is_silent.then_some(error);
        Ok(())
    }
}

impl Item {
    /// Whether its time is over by that clock.
    pub(super) fn has_expired(&self, clock: Clock) -> bool {
        clock.is_past(self.expires)
    }

    /// How it differs from what a node has; `waited` is the time since it was read.
    pub(super) fn difference(
        &self,
        theirs: &Dumped,
        waited: Duration,
        clock: Clock,
    ) -> Option<Difference> {
        match same_value(&theirs.payload, &self.payload) {
            Sameness::Same => {
                let (here, there) = (self.left(waited, clock), remaining(theirs.expires));
                let sight = same_ttl(here, there, TTL_TOLERANCE);
                matches!(sight, Sight::Different(_)).then_some(Difference::TimeToLive)
            }
            Sameness::Different => Some(Difference::Value),
            Sameness::Unknown => Some(Difference::Unknown),
        }
    }

    /// The milliseconds that it has left by that clock; `waited` is the time since its own were read.
    pub(super) fn left(&self, waited: Duration, clock: Clock) -> Option<u64> {
        match self.expires {
            Expiry::Never => None,
            Expiry::At(time) => Some(time.saturating_sub(clock.now())),
            Expiry::In(left) => {
                Some(left.saturating_sub(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)))
            }
        }
    }

    fn is_refused(&self, refused: Refused) -> bool {
        self.encoding.is_some_and(|own| refused.has(own))
    }

    /// Converts the value to its next older form, or to that of the other product unless that is refused, too. False if
    /// there is none.
    fn convert(&mut self, refused: Refused) -> bool {
        let of_other = || translated(&self.payload).filter(|(_, encoding)| !refused.has(*encoding));
        let Some((payload, encoding)) = older(&self.payload).or_else(of_other) else {
            return false;
        };
        self.payload = payload;
        self.encoding = Some(encoding);
        true
    }

    pub(super) fn restoring(&self) -> Restoring<'_> {
        Restoring {
            key: &self.key,
            payload: &self.payload,
            expires: self.expires,
            idle: self.idle,
            frequency: self.frequency,
        }
    }

    fn form(&self) -> String {
        match self.encoding {
            Some(encoding) => format!("{encoding}, RDB version {}", encoding.version()),
            None => "a type that this redis-trib does not know".to_string(),
        }
    }

    fn too_new(&self, node: &str) -> String {
        if self.encoding.is_some_and(Encoding::has_field_ttls) {
            return format!(
                "too new for {node}: fields of the hash expire, which needs Redis 7.4 or Valkey 9.0 (HPERSIST at the \
                 source keeps the fields for ever)"
            );
        }
        format!("too new for {node}: {}", self.form())
    }

    fn not_understood(&self, node: &str) -> String {
        match module_type(&self.payload) {
            Some(name) => format!("the module of its type, {name}, is not loaded on {node}"),
            None => format!("{node} can't read its type: {}", self.form()),
        }
    }
}
