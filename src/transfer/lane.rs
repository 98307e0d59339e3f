//! A lane: writes batches of keys to the owners of their slots.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::report::{FailureReason, quoted};
use super::slots::{Group, SlotOwners};
use super::verify::{Sight, TTL_TOLERANCE, left as remaining, same_ttl};
use super::{AfterFailure, Item, KeyOutcome, OnConflict, TransferError, TransferOptions};
use crate::client::{
    ClientError, DEFAULT_NODE_TIMEOUT, Dumped, Expiry, ExpiryQuestion, Fault, NodeClient,
    ReadFault, RestoreFault, RestoreMode, Restoring,
};
use crate::cluster::node::Addr;
use crate::connections::Target;
use crate::rdb::{Encoding, Sameness, module_type, older, same_value};

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
    /// The lowest RDB version that a node refused: newer values are converted before they are sent.
    refused: HashMap<Addr, u16>,
}

/// A batch in progress.
struct Batch {
    items: Vec<Item>,
    outcomes: Vec<Option<KeyOutcome>>,
    /// Keys that the owner of their slot redirected (`ASK`), for the next attempt.
    asked: BTreeMap<usize, Addr>,
    /// Why keys were delayed last.
    delay: Option<String>,
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

    /// Writes keys, and returns the result of each.
    pub(super) async fn write(
        &mut self,
        items: Vec<Item>,
    ) -> Result<Vec<(Item, KeyOutcome)>, TransferError> {
        let outcome = |item: &Item| item.has_expired().then_some(KeyOutcome::Expired);
        let mut batch = Batch {
            outcomes: items.iter().map(outcome).collect(),
            items,
            asked: BTreeMap::new(),
            delay: None,
            began: Instant::now(),
        };
        let mut deadline = Instant::now() + OWNER_TIMEOUT;
        let mut left = batch.left();
        while !left.is_empty() {
            let keys = left.iter().map(|i| (*i, batch.items[*i].key.as_slice()));
            let (groups, generation) = self.owners.by_node(keys, &mut batch.asked);
            for group in groups {
                self.send(&mut batch, group).await?;
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
                for i in &left {
                    let why = batch.delay.clone();
                    let why = why.unwrap_or_else(|| "no master owns the slot".to_string());
                    batch.outcomes[*i] = Some(KeyOutcome::Failed(FailureReason::NoOwner, why));
                }
                break;
            }
            // Keys that were redirected by ASK are retried at once.
            if batch.asked.len() < left.len() {
                tokio::time::sleep(RETRY_PAUSE).await;
                if let Err(error) = self.owners.refresh(generation).await {
                    batch.delay = Some(error.to_string());
                }
            }
        }
        let done: Vec<(Item, KeyOutcome)> = batch
            .items
            .into_iter()
            .zip(batch.outcomes)
            .filter_map(|(item, outcome)| Some((item, outcome?)))
            .collect();
        if self.options.after_failure == AfterFailure::Stop
            && let Some((key, why)) = done.iter().find_map(|(item, outcome)| match outcome {
                KeyOutcome::Failed(_, why) => Some((quoted(&item.key), why.clone())),
                _ => None,
            })
        {
            return Err(TransferError::Key { key, why });
        }
        Ok(done)
    }

    /// The same for keys whose existing value is known to be older.
    pub(super) async fn overwrite(
        &mut self,
        items: Vec<Item>,
    ) -> Result<Vec<(Item, KeyOutcome)>, TransferError> {
        let usual = self.options.on_conflict;
        self.options.on_conflict = OnConflict::Replace;
        let written = self.write(items).await;
        self.options.on_conflict = usual;
        written
    }

    /// Sends the keys of one node. Values that it refuses as too new are sent again in an older form, until it takes
    /// one or there is no older one.
    async fn send(&mut self, batch: &mut Batch, mut group: Group) -> Result<(), TransferError> {
        let mut there = Vec::new();
        if let Some(refused) = self.refused.get(&group.target.addr) {
            for i in &group.members {
                let item = &mut batch.items[*i];
                while item.reaches(*refused) && item.make_older() {}
            }
        }
        loop {
            let Some(answers) = self.send_once(batch, &group).await? else {
                return Ok(());
            };
            let mut refused = Vec::new();
            for (i, answer) in group.members.iter().zip(answers) {
                match answer {
                    Err(RestoreFault::BusyKey) => there.push(*i),
                    Err(RestoreFault::Version) => {
                        let item = &mut batch.items[*i];
                        let version = item.encoding.map(Encoding::version);
                        if item.make_older() {
                            let addr = group.target.addr.clone();
                            let lowest = self.refused.entry(addr).or_insert(u16::MAX);
                            *lowest = version.map_or(*lowest, |version| version.min(*lowest));
                            refused.push(*i);
                        } else {
                            let why = item.too_new(&group.name);
                            let failed = KeyOutcome::Failed(FailureReason::TooNew, why);
                            batch.outcomes[*i] = Some(failed);
                        }
                    }
                    answer => batch.evaluate(*i, answer, &group.name)?,
                }
            }
            if refused.is_empty() {
                return self.compare(batch, &group, &there).await;
            }
            group.members = refused;
        }
    }

    /// Sends one pipeline to one node. `None` if it must be sent again later, or the keys have failed.
    async fn send_once(
        &mut self,
        batch: &mut Batch,
        group: &Group,
    ) -> Result<Option<Vec<Result<(), RestoreFault>>>, TransferError> {
        let mode = match self.options.on_conflict {
            OnConflict::Replace => RestoreMode::Replace,
            OnConflict::Skip | OnConflict::Abort => RestoreMode::Keep,
        };
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
            Err(error) => return batch.delay_after(error).map(|()| None),
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
                batch.delay_after(error).map(|()| None)
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
                Err(error) => return batch.delay_after(error),
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
                        Err(error) => return batch.delay_after(error),
                    }
                }
                Err(error) => {
                    self.clients.remove(&group.target.addr);
                    return batch.delay_after(error);
                }
            };
            for (i, theirs) in some.iter().zip(theirs) {
                let theirs = match theirs {
                    Ok(Some(theirs)) => theirs,
                    // It vanished or moved meanwhile: the next attempt writes it.
                    Ok(None) | Err(ReadFault::Moved) => continue,
                    Err(ReadFault::Ask(addr)) => {
                        batch.asked.insert(*i, addr);
                        continue;
                    }
                    Err(ReadFault::NotNow(error)) => {
                        batch.delay = Some(error.to_string());
                        continue;
                    }
                    Err(ReadFault::Refused(error)) => return Err(error.into()),
                };
                let outcome = batch.existing(*i, &theirs, &group.name, self.options.on_conflict)?;
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

impl Batch {
    fn left(&self) -> Vec<usize> {
        let outcomes = self.outcomes.iter().enumerate();
        outcomes
            .filter(|(_, outcome)| outcome.is_none())
            .map(|(i, _)| i)
            .collect()
    }

    /// Compares a key with the one that exists. One that would expire at another time is another one: it may not be
    /// deleted at its source.
    fn existing(
        &self,
        i: usize,
        theirs: &Dumped,
        node: &str,
        on_conflict: OnConflict,
    ) -> Result<KeyOutcome, TransferError> {
        let item = &self.items[i];
        let why = match same_value(&theirs.payload, &item.payload) {
            Sameness::Same => {
                let here = item.left(self.began.elapsed());
                match same_ttl(here, remaining(theirs.expires), TTL_TOLERANCE) {
                    Sight::Different(_) if item.has_expired() => return Ok(KeyOutcome::Expired),
                    Sight::Different(_) => format!("{node} has it with another time to live"),
                    _ => return Ok(KeyOutcome::Same),
                }
            }
            Sameness::Different => format!("{node} has another value"),
            Sameness::Unknown => format!("{node} has a value that can't be compared"),
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
        node: &str,
    ) -> Result<(), TransferError> {
        let failed = |reason, why: String| Some(KeyOutcome::Failed(reason, why));
        let item = &self.items[i];
        self.outcomes[i] = match answer {
            // RESTORE of a time that has passed on the way answers OK and writes nothing (Redis ≥ 5.0).
            Ok(()) if item.has_expired() => Some(KeyOutcome::Expired),
            Ok(()) => Some(KeyOutcome::Written),
            Err(RestoreFault::OutOfMemory) => {
                return Err(TransferError::OutOfMemory(node.to_string()));
            }
            Err(RestoreFault::Moved | RestoreFault::BusyKey) => None,
            Err(RestoreFault::Ask(addr)) => {
                self.asked.insert(i, addr);
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
            Err(RestoreFault::Refused(error)) => match error.fault {
                // All other keys would fail in the same way.
                Fault::NoPermission { .. } | Fault::PasswordNeeded => return Err(error.into()),
                _ => failed(FailureReason::Refused, error.to_string()),
            },
        };
        Ok(())
    }

    /// Keeps the keys for another attempt if the error is temporary; a wrong password or a missing right is not.
    fn delay_after(&mut self, error: ClientError) -> Result<(), TransferError> {
        if !error.fault.may_pass() || matches!(error.fault, Fault::Server { .. }) {
            return Err(error.into());
        }
        self.delay = Some(error.to_string());
        Ok(())
    }
}

impl Item {
    /// Whether its time is over.
    pub(super) fn has_expired(&self) -> bool {
        matches!(self.expires, Expiry::At(time) if time <= milliseconds())
    }

    /// The milliseconds that it has left; `waited` is the time since its own were read.
    fn left(&self, waited: Duration) -> Option<u64> {
        match self.expires {
            Expiry::Never => None,
            Expiry::At(time) => Some(time.saturating_sub(milliseconds())),
            Expiry::In(left) => {
                Some(left.saturating_sub(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)))
            }
        }
    }

    fn reaches(&self, version: u16) -> bool {
        let encoding = self.encoding.map(Encoding::version);
        encoding.is_some_and(|own| own >= version)
    }

    /// Converts the value to its next older form, if it has one.
    fn make_older(&mut self) -> bool {
        let Some((payload, encoding)) = older(&self.payload) else {
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
        format!("too new for {node}: {}", self.form())
    }

    fn not_understood(&self, node: &str) -> String {
        match module_type(&self.payload) {
            Some(name) => format!("the module of its type, {name}, is not loaded on {node}"),
            None => format!("{node} can't read its type: {}", self.form()),
        }
    }
}

/// The current time in milliseconds since 1970.
pub(super) fn milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
