//! A lane: writes batches of keys to whoever owns their slots.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::report::{FailureReason, shown};
use super::slots::{SlotOwner, SlotOwners};
use super::{AfterFailure, Item, KeyOutcome, OnConflict, TransferError, TransferOptions};
use crate::client::{
    Asking, ClientError, DEFAULT_NODE_TIMEOUT, Dumped, Expiry, ExpiryQuestion, Fault, NodeClient,
    RestoreFault, RestoreMode, Restoring,
};
use crate::cluster::node::Addr;
use crate::connections::Target;
use crate::rdb::{Sameness, module_type, same_value};

/// How long a slot may have no owner that answers. A failover takes the node timeout and a little more.
const OWNER_TIMEOUT: Duration = DEFAULT_NODE_TIMEOUT.saturating_mul(3);
/// Before another try.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How much is asked for in one go where values are compared.
const COMPARED_BYTES: usize = 4 << 20;

/// Writes batches, one after the other.
pub(super) struct Lane {
    owners: Arc<SlotOwners>,
    options: TransferOptions,
    database: u32,
    clients: HashMap<Addr, NodeClient>,
}

/// Where some of a batch go, and how.
struct Group {
    target: Target,
    name: String,
    asking: Asking,
    members: Vec<usize>,
}

/// A batch in hand: what became of each, and which are still to be done.
struct Batch {
    items: Vec<Item>,
    outcomes: Vec<Option<KeyOutcome>>,
    /// Sent elsewhere by the owner of their slot, for the next try.
    asked: BTreeMap<usize, Addr>,
    /// Why it was put off last.
    delay: Option<String>,
}

impl Lane {
    pub(super) fn new(owners: Arc<SlotOwners>, options: TransferOptions, database: u32) -> Self {
        Self {
            owners,
            options,
            database,
            clients: HashMap::new(),
        }
    }

    /// Writes them, and tells what became of each.
    pub(super) async fn write(
        &mut self,
        items: Vec<Item>,
    ) -> Result<Vec<(Item, KeyOutcome)>, TransferError> {
        let now = milliseconds();
        let outcome = |item: &Item| match item.expires {
            Expiry::At(time) if time <= now => Some(KeyOutcome::Expired),
            _ => None,
        };
        let mut batch = Batch {
            outcomes: items.iter().map(outcome).collect(),
            items,
            asked: BTreeMap::new(),
            delay: None,
        };
        let mut deadline = Instant::now() + OWNER_TIMEOUT;
        let mut left = batch.left();
        while !left.is_empty() {
            let (groups, generation) = self.groups(&mut batch, &left);
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
                    let why = why.unwrap_or_else(|| "no master owns its slot".to_string());
                    batch.outcomes[*i] = Some(KeyOutcome::Failed(FailureReason::NoOwner, why));
                }
                break;
            }
            // What ASK said is tried at once.
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
                KeyOutcome::Failed(_, why) => Some((shown(&item.key), why.clone())),
                _ => None,
            })
        {
            return Err(TransferError::Key { key, why });
        }
        Ok(done)
    }

    /// The same where what is there is known to be older.
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

    /// Those that are left, by where they go.
    fn groups(&self, batch: &mut Batch, left: &[usize]) -> (Vec<Group>, u64) {
        let mut groups: HashMap<(Addr, bool), Group> = HashMap::new();
        let asked = std::mem::take(&mut batch.asked);
        let mut generation = u64::MAX;
        for i in left {
            let (owner, known) = self.owners.of_key(&batch.items[*i].key);
            generation = generation.min(known);
            let Some(SlotOwner { target, name, .. }) = owner else {
                continue;
            };
            let (target, name, asking) = match asked.get(i) {
                Some(peer) => {
                    let addr = self.owners.connections().dial_of(peer);
                    let name = addr.to_string();
                    let access = Arc::clone(&target.access);
                    (Target { addr, access }, name, Asking::Yes)
                }
                None => (target, name, Asking::No),
            };
            let group = groups
                .entry((target.addr.clone(), asking == Asking::Yes))
                .or_insert_with(|| Group {
                    target,
                    name,
                    asking,
                    members: Vec::new(),
                });
            group.members.push(*i);
        }
        (groups.into_values().collect(), generation)
    }

    /// One pipeline to one node, and what follows from its answers.
    async fn send(&mut self, batch: &mut Batch, group: Group) -> Result<(), TransferError> {
        let mode = match self.options.on_conflict {
            OnConflict::Replace => RestoreMode::Replace,
            OnConflict::Skip | OnConflict::Abort => RestoreMode::Keep,
        };
        let client = match self.client(&group.target).await {
            Ok(client) => client,
            // There is no such database; that of another number would be the wrong place.
            Err(error) if self.database != 0 && matches!(error.fault, Fault::Server { .. }) => {
                for i in group.members {
                    let why = error.to_string();
                    batch.outcomes[i] = Some(KeyOutcome::Failed(FailureReason::Refused, why));
                }
                return Ok(());
            }
            Err(error) => return batch.put_off(error),
        };
        let restoring: Vec<Restoring<'_>> = group
            .members
            .iter()
            .map(|i| batch.items[*i].restoring())
            .collect();
        let answers = client.restore_many(&restoring, mode, group.asking).await;
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => {
                // It may have written some of them: those are there already at the next try.
                self.clients.remove(&group.target.addr);
                return batch.put_off(error);
            }
        };
        let mut there = Vec::new();
        for (i, answer) in group.members.iter().zip(answers) {
            let failed = |reason, why: String| Some(KeyOutcome::Failed(reason, why));
            let item = &batch.items[*i];
            batch.outcomes[*i] = match answer {
                Ok(()) => Some(KeyOutcome::Written),
                Err(RestoreFault::BusyKey) => {
                    there.push(*i);
                    None
                }
                Err(RestoreFault::OutOfMemory) => {
                    return Err(TransferError::OutOfMemory(group.name));
                }
                Err(RestoreFault::Moved) => None,
                Err(RestoreFault::Ask(addr)) => {
                    batch.asked.insert(*i, addr);
                    None
                }
                Err(RestoreFault::NotNow(error)) => {
                    batch.delay = Some(error.to_string());
                    None
                }
                Err(RestoreFault::Version) => {
                    failed(FailureReason::TooNew, item.too_new(&group.name))
                }
                Err(RestoreFault::Format) => failed(
                    FailureReason::NotUnderstood,
                    item.not_understood(&group.name),
                ),
                Err(RestoreFault::Refused(error)) => match error.fault {
                    // No other key would fare better.
                    Fault::NoPermission { .. } | Fault::PasswordNeeded => return Err(error.into()),
                    _ => failed(FailureReason::Refused, error.to_string()),
                },
            };
        }
        self.compare(batch, &group, &there).await
    }

    /// Keys that are there already: whether they are the same.
    async fn compare(
        &mut self,
        batch: &mut Batch,
        group: &Group,
        there: &[usize],
    ) -> Result<(), TransferError> {
        let mut rest = there;
        while !rest.is_empty() {
            // As many as may be expected to fit; a value that is far larger than ours differs anyway.
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
                Err(error) => return batch.put_off(error),
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
                        Ok(value) => vec![value],
                        // Larger than any that could be sent: ours is another.
                        Err(error) if matches!(error.fault, Fault::TooLarge { .. }) => {
                            let nothing = Vec::new();
                            vec![Some(Dumped {
                                payload: nothing,
                                expires: Expiry::Never,
                            })]
                        }
                        Err(error) => return batch.put_off(error),
                    }
                }
                Err(error) => {
                    self.clients.remove(&group.target.addr);
                    return batch.put_off(error);
                }
            };
            for (i, theirs) in some.iter().zip(theirs) {
                let item = &batch.items[*i];
                // One that went meanwhile is written at the next try.
                let Some(theirs) = theirs else {
                    continue;
                };
                let sameness = same_value(&theirs.payload, &item.payload);
                let outcome = match sameness {
                    Sameness::Same => KeyOutcome::Same,
                    Sameness::Different | Sameness::Unknown
                        if self.options.on_conflict == OnConflict::Abort =>
                    {
                        return Err(TransferError::Conflict {
                            key: shown(&item.key),
                            node: group.name.clone(),
                        });
                    }
                    Sameness::Different => KeyOutcome::Failed(
                        FailureReason::Differs,
                        format!("{} has another value", group.name),
                    ),
                    Sameness::Unknown => KeyOutcome::Failed(
                        FailureReason::Differs,
                        format!("{} has a value that can't be compared", group.name),
                    ),
                };
                batch.outcomes[*i] = Some(outcome);
            }
        }
        Ok(())
    }

    /// A value that is larger than any reply should be; one at a time, whoever asks.
    async fn dump_large(&self, group: &Group, key: &[u8]) -> Result<Option<Dumped>, ClientError> {
        // Never closed.
        let _turn = self.owners.large().acquire().await.ok();
        let connections = self.owners.connections();
        let client = connections.for_one_value(&group.target).await?;
        if self.database != 0 {
            client.select(self.database).await?;
        }
        let dumped = client
            .dump_many(&[key], ExpiryQuestion::Left, group.asking)
            .await?;
        Ok(dumped.into_iter().next().flatten())
    }

    /// Our connection to a node, on our database.
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

    /// What may pass is tried again; what a password or a right causes stays.
    fn put_off(&mut self, error: ClientError) -> Result<(), TransferError> {
        if !error.fault.may_pass() || matches!(error.fault, Fault::Server { .. }) {
            return Err(error.into());
        }
        self.delay = Some(error.to_string());
        Ok(())
    }
}

impl Item {
    fn restoring(&self) -> Restoring<'_> {
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

/// Now, in milliseconds of the epoch.
pub(super) fn milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
