//! Reads keys from where they are: one database of a server, or of all masters of a cluster.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::TransferError;
use super::clock::Clock;
use super::lane::{OWNER_TIMEOUT, RETRY_PAUSE};
use super::slots::{Group, SlotOwners, Snapshot, note_asked};
use crate::client::{
    Asking, ClientError, Dumped, Expiry, ExpiryQuestion, Fault, NodeClient, ReadFault,
};
use crate::cluster::node::{Addr, NodeId, Role};
use crate::connections::{Connections, Target};

/// Where keys are read.
#[derive(Debug, Clone)]
pub struct Keyspace {
    pub(super) place: Place,
    pub(super) database: u32,
}

/// The nodes that have the keys.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// A standalone server.
    Server {
        /// The server.
        target: Target,
        /// The connections to it.
        connections: Arc<Connections>,
        /// Its clock.
        clock: Clock,
    },
    /// The nodes of a cluster.
    Cluster(Arc<SlotOwners>, ReadFrom),
}

/// Which nodes of a cluster are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// Masters.
    Masters,
    /// Replicas in sync, where masters have any. What a replica does not have is read from its master: while a slot
    /// moves, a replica does not redirect (Redis up to 8).
    Replicas,
}

impl Keyspace {
    /// A database of a standalone server.
    pub fn of_server(
        target: Target,
        connections: Arc<Connections>,
        clock: Clock,
        database: u32,
    ) -> Self {
        Self {
            place: Place::Server {
                target,
                connections,
                clock,
            },
            database,
        }
    }

    /// A database of a cluster.
    pub fn of_cluster(owners: Arc<SlotOwners>, from: ReadFrom, database: u32) -> Self {
        Self {
            place: Place::Cluster(owners, from),
            database,
        }
    }

    /// The number of nodes that have keys.
    pub(super) fn nodes(&self) -> usize {
        match &self.place {
            Place::Server { .. } => 1,
            Place::Cluster(owners, _) => owners.all().len(),
        }
    }

    /// Opens a connection to a node, on the database.
    pub(super) async fn connect(&self, target: &Target) -> Result<NodeClient, ClientError> {
        let client = self.connections().own(target).await?;
        self.prepare(client).await
    }

    /// Opens a connection to a node, on the database, for a value of any size.
    async fn connect_for_one_value(&self, target: &Target) -> Result<NodeClient, ClientError> {
        let client = self.connections().for_one_value(target).await?;
        self.prepare(client).await
    }

    pub(super) fn connections(&self) -> &Arc<Connections> {
        match &self.place {
            Place::Server { connections, .. } => connections,
            Place::Cluster(owners, _) => owners.connections(),
        }
    }

    async fn prepare(&self, client: NodeClient) -> Result<NodeClient, ClientError> {
        if self.database != 0 {
            client.select(self.database).await?;
        }
        // Masters and standalone servers ignore it, but for servers without cluster mode, which refuse it.
        if let Place::Cluster(_, ReadFrom::Replicas) = &self.place {
            client.readonly().await?;
        }
        Ok(client)
    }

    /// The clock by which a key expires: a replica has the times of its master.
    pub(super) fn clock_of_key(&self, key: &[u8]) -> Clock {
        match &self.place {
            Place::Server { clock, .. } => *clock,
            Place::Cluster(owners, _) => owners.clock_of_key(key),
        }
    }

    /// Whether slots may move to other nodes.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.place, Place::Cluster(..))
    }
}

/// A database of a source, and where its keys go.
#[derive(Debug, Clone)]
pub struct SourcePart {
    /// The keys.
    pub source: Keyspace,
    /// The database of the cluster into which they go.
    pub into: u32,
    /// What their names get in front. It has no braces: hash tags stay.
    pub prefix: Vec<u8>,
    /// The masters of a cluster that have any.
    pub nodes: Vec<NodeKeys>,
}

/// The keys of a master, about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeKeys {
    /// Its node id.
    pub id: NodeId,
    /// Its name in messages.
    pub name: String,
    /// The number of its keys.
    pub keys: u64,
}

impl SourcePart {
    /// The database of the source.
    pub fn database(&self) -> u32 {
        self.source.database
    }

    /// The name of a key in the cluster.
    pub(super) fn renamed<'a>(&self, key: &'a [u8]) -> Cow<'a, [u8]> {
        match self.prefix.is_empty() {
            true => Cow::Borrowed(key),
            false => Cow::Owned([&self.prefix, key].concat()),
        }
    }

    /// The name at the source of a key that has this name in the cluster; `None` if no key can get it.
    pub(super) fn original<'a>(&self, name: &'a [u8]) -> Option<&'a [u8]> {
        name.strip_prefix(self.prefix.as_slice())
    }
}

/// Reads keys, on connections of its own.
pub(super) struct KeyReader {
    keyspace: Keyspace,
    replies: Replies,
    clients: HashMap<Addr, NodeClient>,
}

/// The size of replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replies {
    /// 32 MiB at most.
    Limited,
    /// Any.
    OneValue,
}

/// Keys that one node is asked for.
struct Part {
    target: Target,
    asking: Asking,
    role: Role,
    successor: Successor,
    members: Vec<usize>,
}

/// Whether a node's keys can be read elsewhere if it does not answer any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Successor {
    /// A replica in sync can become the master.
    Replica,
    /// No other node has the keys.
    None,
}

impl Successor {
    /// That of a master.
    pub(super) fn of(owner: Option<NodeId>, view: &Snapshot) -> Self {
        Self::by(owner.and_then(|owner| view.replica_of(owner)))
    }

    fn by(replica: Option<&Target>) -> Self {
        match replica {
            Some(_) => Self::Replica,
            None => Self::None,
        }
    }

    /// Whether another attempt may succeed after this error. A node that answers nothing in time is waited for only if
    /// another one can take over from it.
    pub(super) fn may_follow(self, error: &ClientError) -> bool {
        is_temporary(error) && (self == Self::Replica || !error.fault.is_silence())
    }
}

/// What is read of each key.
#[derive(Debug, Clone, Copy)]
enum Question {
    /// Its value and its expiry.
    Dump(ExpiryQuestion),
    /// When it expires.
    Expiry,
    /// Whether it exists.
    Exists,
}

enum Answer {
    Dumped(Option<Dumped>),
    Expiry(Option<Expiry>),
    Exists(bool),
}

impl Answer {
    /// Whether the node does not have the key.
    fn is_none(&self) -> bool {
        matches!(
            self,
            Self::Dumped(None) | Self::Expiry(None) | Self::Exists(false)
        )
    }
}

/// A node that has a key.
pub(super) struct Holder {
    pub(super) client: NodeClient,
    /// When the key expires.
    pub(super) expires: Expiry,
}

impl KeyReader {
    pub(super) fn new(keyspace: Keyspace) -> Self {
        Self {
            keyspace,
            replies: Replies::Limited,
            clients: HashMap::new(),
        }
    }

    /// A reader of one value of any size.
    pub(super) fn for_one_value(keyspace: Keyspace) -> Self {
        Self {
            replies: Replies::OneValue,
            ..Self::new(keyspace)
        }
    }

    /// The connection to the server, or to the master that owns the slot of a key; `None` while no master does.
    pub(super) async fn owner(&mut self, key: &[u8]) -> Result<Option<NodeClient>, ClientError> {
        let target = match &self.keyspace.place {
            Place::Server { target, .. } => target.clone(),
            Place::Cluster(owners, _) => match owners.of_key(key) {
                Some(owner) => owner.target,
                None => return Ok(None),
            },
        };
        self.client(&target).await.map(Some)
    }

    /// Whether another node can take over from the owner of a key's slot.
    pub(super) fn successor(&self, key: &[u8]) -> Successor {
        match &self.keyspace.place {
            Place::Server { .. } => Successor::None,
            Place::Cluster(owners, _) => {
                let owner = owners.of_key(key);
                Successor::of(owner.map(|owner| owner.id), &owners.now())
            }
        }
    }

    /// Closes all connections, waits a moment, and reads the owners of the slots again.
    pub(super) async fn start_again(&mut self) {
        self.clients.clear();
        tokio::time::sleep(RETRY_PAUSE).await;
        if let Place::Cluster(owners, _) = &self.keyspace.place {
            // If that fails, the next attempt tells why.
            let _ = owners.refresh(owners.now().generation).await;
        }
    }

    /// The values of keys, with their expiry; `None` for keys that do not exist.
    pub(super) async fn dump(
        &mut self,
        keys: &[&[u8]],
        question: ExpiryQuestion,
    ) -> Result<Vec<Option<Dumped>>, TransferError> {
        let answers = self.ask(keys, Question::Dump(question)).await?;
        let dumped = answers.into_iter().map(|(answer, _)| match answer {
            Answer::Dumped(dumped) => dumped,
            Answer::Expiry(_) | Answer::Exists(_) => None,
        });
        Ok(dumped.collect())
    }

    /// Whether keys exist.
    pub(super) async fn exist(&mut self, keys: &[&[u8]]) -> Result<Vec<bool>, TransferError> {
        let answers = self.ask(keys, Question::Exists).await?;
        let exist = answers
            .into_iter()
            .map(|(answer, _)| matches!(answer, Answer::Exists(true)));
        Ok(exist.collect())
    }

    /// The node that has a key; `None` if the key does not exist.
    pub(super) async fn holder(&mut self, key: &[u8]) -> Result<Option<Holder>, TransferError> {
        let answers = self.ask(&[key], Question::Expiry).await?;
        Ok(answers.into_iter().find_map(|(answer, addr)| match answer {
            Answer::Expiry(Some(expires)) => {
                let client = self.clients.get(&addr).cloned()?;
                Some(Holder { client, expires })
            }
            _ => None,
        }))
    }

    /// Forgets the connections: one of them has ended.
    pub(super) fn disconnect(&mut self) {
        self.clients.clear();
    }

    /// Asks the node that has each key, also where the slot moves meanwhile. Returns the answers and the addresses of the
    /// nodes that gave them.
    async fn ask(
        &mut self,
        keys: &[&[u8]],
        question: Question,
    ) -> Result<Vec<(Answer, Addr)>, TransferError> {
        let owners = match &self.keyspace.place {
            Place::Server { target, .. } => {
                return self.ask_server(target.clone(), keys, question).await;
            }
            Place::Cluster(owners, _) => Arc::clone(owners),
        };
        let mut answers: Vec<Option<(Answer, Addr)>> = keys.iter().map(|_| None).collect();
        let mut asked = BTreeMap::new();
        // Keys of which a replica could not tell.
        let mut of_masters = BTreeSet::new();
        let mut delay = None;
        let mut deadline = Instant::now() + OWNER_TIMEOUT;
        let mut left: Vec<usize> = (0..keys.len()).collect();
        while !left.is_empty() {
            let of_left = left.iter().map(|i| (*i, keys[*i]));
            let (groups, generation) = owners.by_node(of_left, &mut asked);
            let asked_masters = of_masters.len();
            let parts = groups.into_iter();
            for part in parts
                .flat_map(|group| self.parts(group, &of_masters))
                .collect::<Vec<_>>()
            {
                let some: Vec<&[u8]> = part.members.iter().map(|i| keys[*i]).collect();
                let read = self
                    .ask_node(&part.target, &some, question, part.asking)
                    .await;
                let read = match (read, part.role) {
                    (Ok(read), _) => read,
                    (Err(error), _) if is_too_large(&error) => return Err(error.into()),
                    (Err(_), Role::Replica) => {
                        of_masters.extend(part.members);
                        continue;
                    }
                    (Err(error), Role::Master) if part.successor.may_follow(&error) => {
                        delay = Some(error.to_string());
                        continue;
                    }
                    (Err(error), Role::Master) => return Err(error.into()),
                };
                for (i, answer) in part.members.iter().zip(read) {
                    match (answer, part.role) {
                        (Err(_), Role::Replica) => {
                            of_masters.insert(*i);
                        }
                        (Ok(answer), Role::Replica) if answer.is_none() => {
                            of_masters.insert(*i);
                        }
                        (Ok(answer), _) => answers[*i] = Some((answer, part.target.addr.clone())),
                        (Err(ReadFault::Moved), _) => {}
                        (Err(ReadFault::Ask(node)), _) => {
                            note_asked(&mut asked, *i, node, part.asking);
                        }
                        (Err(ReadFault::NotNow(error)), _) => delay = Some(error.to_string()),
                        (Err(ReadFault::Refused(error)), _) => return Err(error.into()),
                    }
                }
            }
            let before = left.len();
            left.retain(|i| answers[*i].is_none());
            if left.len() < before {
                deadline = Instant::now() + OWNER_TIMEOUT;
            }
            if left.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                let why = delay.unwrap_or_else(|| "no master owns the slot".to_string());
                return Err(TransferError::NoOwner(why));
            }
            // Keys that were redirected by ASK, or that a replica does not have, are asked for at once.
            asked.retain(|i, node| owners.knows(node, keys[*i], generation));
            if asked.len() + of_masters.len() - asked_masters < left.len() {
                tokio::time::sleep(RETRY_PAUSE).await;
                if let Err(error) = owners.refresh(generation).await {
                    delay = Some(error.to_string());
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Divides the keys of an owner among a replica and the owner itself.
    fn parts(&self, group: Group, of_masters: &BTreeSet<usize>) -> Vec<Part> {
        let Group {
            target,
            asking,
            replica,
            members,
            ..
        } = group;
        let successor = Successor::by(replica.as_ref());
        let replica = match self.keyspace.place {
            Place::Cluster(_, ReadFrom::Replicas) => replica,
            _ => None,
        };
        let (of_master, of_replica) = match &replica {
            Some(_) => members.into_iter().partition(|i| of_masters.contains(i)),
            None => (members, Vec::new()),
        };
        let part = |target, role, members| Part {
            target,
            asking,
            role,
            successor,
            members,
        };
        let mut parts = vec![part(target, Role::Master, of_master)];
        parts.extend(replica.map(|target| part(target, Role::Replica, of_replica)));
        parts.retain(|part| !part.members.is_empty());
        parts
    }

    /// A standalone server redirects nothing.
    async fn ask_server(
        &mut self,
        target: Target,
        keys: &[&[u8]],
        question: Question,
    ) -> Result<Vec<(Answer, Addr)>, TransferError> {
        let answers = self.ask_node(&target, keys, question, Asking::No).await?;
        let addr = target.addr;
        answers
            .into_iter()
            .map(|answer| match answer {
                Ok(answer) => Ok((answer, addr.clone())),
                Err(ReadFault::NotNow(error) | ReadFault::Refused(error)) => Err(error.into()),
                Err(ReadFault::Moved | ReadFault::Ask(_)) => Err(TransferError::NoOwner(format!(
                    "{addr} is a cluster node by now"
                ))),
            })
            .collect()
    }

    /// The connection to a node.
    async fn client(&mut self, target: &Target) -> Result<NodeClient, ClientError> {
        if let Some(client) = self.clients.get(&target.addr) {
            return Ok(client.clone());
        }
        let client = match self.replies {
            Replies::Limited => self.keyspace.connect(target).await?,
            Replies::OneValue => self.keyspace.connect_for_one_value(target).await?,
        };
        self.clients.insert(target.addr.clone(), client.clone());
        Ok(client)
    }

    /// Asks one node. A connection that fails is not used again.
    async fn ask_node(
        &mut self,
        target: &Target,
        keys: &[&[u8]],
        question: Question,
        asking: Asking,
    ) -> Result<Vec<Result<Answer, ReadFault>>, ClientError> {
        let client = self.client(target).await?;
        let answers = match question {
            Question::Dump(expiry) => {
                let dumped = client.dump_many(keys, expiry, asking).await;
                dumped.map(|all| each(all, Answer::Dumped))
            }
            Question::Expiry => {
                let expiry = client.expiry_many(keys, asking).await;
                expiry.map(|all| each(all, Answer::Expiry))
            }
            Question::Exists => {
                let exist = client.exist_many(keys, asking).await;
                exist.map(|all| each(all, Answer::Exists))
            }
        };
        if answers.is_err() {
            self.clients.remove(&target.addr);
        }
        answers
    }
}

fn each<T>(
    all: Vec<Result<T, ReadFault>>,
    answer: impl Fn(T) -> Answer,
) -> Vec<Result<Answer, ReadFault>> {
    all.into_iter().map(|one| one.map(&answer)).collect()
}

/// Whether another attempt may succeed; a wrong password or a missing right does not change.
fn is_temporary(error: &ClientError) -> bool {
    error.fault.may_pass() && !matches!(error.fault, Fault::Server { .. })
}

/// Whether the reply exceeds the limit.
pub(super) fn is_too_large(error: &ClientError) -> bool {
    matches!(error.fault, Fault::TooLarge { .. })
}
