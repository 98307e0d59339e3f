//! Client for one node: one connection, one typed method per server command.
//!
//! This is the only folder that names the `redis` crate, which frames commands and parses replies on a stream of this
//! module. The client adds:
//!
//! - a deadline for every command, by its class ([`Connector::command_timeout`]);
//! - a limit on what a node may send per request (32 MiB);
//! - replies of the wrong shape are errors, and text is cleaned of control characters;
//! - every failure is a [`ClientError`] that names the node and the remedy. A command that was sent and not answered
//!   is *unknown*, not failed: [`ClientError::outcome_unknown`].
//!
//! Commands go to this one node as they are: nothing is redirected. A connection that the server has closed is opened again
//! (`line`).

mod acl;
mod addresses;
mod atomic;
mod bulk;
mod bulk_read;
mod call;
mod connect;
mod error;
mod journaling;
mod key_facts;
mod line;
mod membership;
mod replication;
mod reply;
mod rights;
mod setup;
mod shards;
mod slot_stats;
mod slots;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod transfer;
mod values;
mod wire_log;
mod writes;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};
use tracing::debug;

pub use acl::Permission;
pub use atomic::{AsmTask, AtomicCommands, Side, TaskEnd};
pub use bulk::{BulkWriter, WriteCommands, Written};
pub use bulk_read::{BulkReader, ReadKey};
pub use call::CommandFlags;
pub use connect::{Connector, Login, LoginOutcome, Transport};
pub use error::{ClientError, Denied, Fault};
pub use key_facts::KeyFacts;
pub use membership::{Libraries, Library, Links, Reset};
pub use replication::Snapshot;
pub use rights::TransferRight;
pub use setup::RawSetup;
pub use slot_stats::SLOT_STATS_SETTING;
pub use slots::{
    Existing, Keep, MemoryUsage, MigrateFault, Migrated, Migration, SetSlot, refusal_of_target,
};
pub use tls::{TlsClient, TlsFault, TlsOptions, TlsSetupError, Verify};
pub use transfer::{
    AskedNode, Asking, Dumped, Expiry, ExpiryQuestion, ReadFault, RestoreFault, RestoreMode,
    Restoring,
};
pub use values::{Entries, Facts, Glance, Kind, Piece, Reader, Scanned, StreamId};

use crate::cluster::node::{Addr, NodeId};
use crate::cluster::slot::{Slot, SlotSet};
use crate::journal::{Journal, SentChanges};
use journaling::{ArgKind, Changes, JournaledChanges};
use line::{Line, Lines, may_be_repeated};
use reply::{Reply, clean_line};
use stream::{End, Wire};
use wire_log::Logged;

/// The setting after which nodes flag each other `fail?`, in ms.
pub const NODE_TIMEOUT: &str = "cluster-node-timeout";

/// The servers' default of `cluster-node-timeout`, which holds where CONFIG may not be asked.
pub const DEFAULT_NODE_TIMEOUT: Duration = Duration::from_secs(15);

/// The number of COUNTKEYSINSLOT per pipeline: the server serves others between two pipelines, and each has a
/// deadline of its own.
const COUNTS_PER_PIPELINE: usize = 1024;

/// The classes of commands that have a deadline each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deadline {
    /// Commands that only read.
    Read,
    /// Commands that read whole values: the time in which nothing of them arrives.
    Value,
    /// Commands that change something; one that timed out may have done so.
    Change,
    /// Commands with a time of their own (MIGRATE, WAIT).
    Within(Duration),
}

/// The time that each further change of a pipeline gets. Valkey ≥ 8 answers a SETSLOT when the replicas have it, and
/// then executes the next one: 64 of them take 64 round trips to the slowest replica.
const REPLICATED: Duration = Duration::from_millis(100);

/// A command, before it is sent.
#[derive(Clone)]
struct Command {
    name: &'static str,
    packed: redis::Cmd,
    /// What the journal may show of each word; words without an entry are hidden.
    arg_kinds: Vec<ArgKind>,
}

impl Command {
    fn new(name: &'static str, packed: redis::Cmd) -> Self {
        Self {
            name,
            packed,
            arg_kinds: Vec::new(),
        }
    }

    /// The command of that name with a key, in few allocations: imports send hundreds of thousands of these.
    fn of_key(name: &'static str, key: &[u8]) -> Self {
        Self::with_room(name, key.len()).key(key)
    }

    /// The command of that name, which may be two words, without arguments.
    fn named(name: &'static str) -> Self {
        Self::with_room(name, 0)
    }

    /// The same, with room for an argument of so many bytes.
    fn with_room(name: &'static str, bytes: usize) -> Self {
        let packed = redis::Cmd::with_capacity(3, name.len() + bytes);
        let mut command = Self::new(name, packed);
        for word in name.split(' ') {
            command.arg_kinds.push(ArgKind::Word);
            command.packed.arg(word);
        }
        command
    }

    /// Adds an argument that the journal hides: a value, a password, a user's text.
    fn arg(mut self, arg: impl redis::ToRedisArgs) -> Self {
        self.arg_kinds
            .resize(self.arg_kinds.len() + arg.num_of_args(), ArgKind::Hidden);
        self.packed.arg(arg);
        self
    }

    /// Adds an argument that the journal shows: a number, an id, an address, a keyword.
    fn word(mut self, word: impl fmt::Display) -> Self {
        self.arg_kinds.push(ArgKind::Word);
        self.packed.arg(word.to_string());
        self
    }

    /// Adds the name of a key that is written or moved; the journal counts it.
    fn key(mut self, key: &[u8]) -> Self {
        self.arg_kinds.push(ArgKind::Key);
        self.packed.arg(key);
        self
    }
}

/// Commands of one pipeline, as they are sent, once or twice.
struct Batch {
    class: Deadline,
    names: Vec<&'static str>,
    pipe: redis::Pipeline,
    changes: Option<Changes>,
    logged: Option<Logged>,
}

impl Batch {
    fn of(class: Deadline, commands: Vec<Command>, journal: bool) -> Self {
        let changes = Changes::of(class, &commands, journal);
        let logged = Logged::of(&commands);
        let mut names = Vec::with_capacity(commands.len());
        let mut pipe = redis::Pipeline::with_capacity(commands.len());
        for command in commands {
            names.push(command.name);
            pipe.add_command(command.packed);
        }
        Self {
            class,
            names,
            pipe,
            changes,
            logged,
        }
    }
}

fn setname(name: &str) -> Command {
    Command::named("CLIENT SETNAME").word(name)
}

fn config_get(name: &str) -> Command {
    Command::named("CONFIG GET").word(name)
}

/// The replies of one look at a node, unparsed but cleaned of control characters other than line ends. See
/// [`NodeClient::look`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawLook {
    /// CLUSTER NODES.
    pub nodes: String,
    /// CLUSTER INFO.
    pub cluster_info: String,
    /// INFO, its default sections.
    pub info: String,
    /// Why PING was answered with an error. It is refused like a write or a read of data is: MISCONF on a master that
    /// can't write to its disk (all versions), MASTERDOWN on a replica without a link that serves no stale data
    /// (Redis ≥ 7.0).
    pub ping: Option<Fault>,
    /// CONFIG GET save: when the server writes its data to disk, empty for never; `None` where CONFIG is denied.
    pub save: Option<String>,
}

/// A connection to one node, logged in. Clones share it; it is closed with the last of them.
///
/// Requests of several callers at once are pipelined in the order of their calls. Dropping a request does not
/// withdraw its command.
#[derive(Clone)]
pub struct NodeClient {
    shared: Arc<Shared>,
    login: LoginOutcome,
    named: bool,
    remote: Option<IpAddr>,
    sent: SentChanges,
    is_trial: bool,
}

struct Shared {
    addr: Addr,
    lines: Lines,
    over: Over,
    command_timeout: Duration,
    journal: Option<Arc<Journal>>,
}

/// The transport that carries the commands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Tcp,
    Tls,
}

impl fmt::Debug for NodeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeClient")
            .field("addr", &self.shared.addr)
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

impl NodeClient {
    fn new(shared: Shared, sent: SentChanges) -> Self {
        Self {
            shared: Arc::new(shared),
            login: LoginOutcome::NotTried,
            named: false,
            remote: None,
            sent,
            is_trial: false,
        }
    }

    /// The same connection for a trial that is meant to be refused: its commands do not count as changes, and the journal
    /// has those only that were not refused.
    pub fn for_trial(&self) -> Self {
        Self {
            sent: SentChanges::default(),
            is_trial: true,
            ..self.clone()
        }
    }

    /// The address that was dialled.
    pub fn addr(&self) -> &Addr {
        &self.shared.addr
    }

    /// The node's answer to the login.
    pub fn login_outcome(&self) -> LoginOutcome {
        self.login
    }

    /// Whether the connection has its name: other operators see it in CLIENT LIST.
    pub fn is_named(&self) -> bool {
        self.named
    }

    /// The IP address of the node, one of those that its name may have.
    pub fn remote_ip(&self) -> Option<IpAddr> {
        self.remote
    }

    /// PING (every version).
    pub async fn ping(&self) -> Result<(), ClientError> {
        self.query(Deadline::Read, Command::named("PING"), |reply| {
            reply.status("PONG")
        })
        .await
    }

    /// TIME (Redis ≥ 2.6): the clock of the node, in milliseconds since 1970; `None` if the user may not read it.
    pub async fn time(&self) -> Result<Option<u64>, ClientError> {
        let command = Command::named("TIME");
        let told = self.query(Deadline::Read, command, |reply| {
            let parts = reply.texts()?;
            let number = |place: usize| parts.get(place).and_then(|text| text.parse::<u64>().ok());
            let time = number(0).zip(number(1));
            let time = time.map(|(seconds, micros)| seconds.saturating_mul(1_000) + micros / 1_000);
            time.ok_or(Fault::Malformed { command: "TIME" })
        });
        match told.await {
            Ok(time) => Ok(Some(time)),
            Err(error)
                if matches!(
                    error.fault,
                    Fault::NoPermission { .. } | Fault::Server { .. }
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// CLUSTER NODES, CLUSTER INFO, INFO, PING and CONFIG GET save in one round trip (Redis ≥ 3.0).
    ///
    /// Fails with [`Fault::ClusterDisabled`] on a server that is not a cluster node; [`NodeClient::info`] works
    /// there. PING and CONFIG may be denied or renamed; the others may not.
    pub async fn look(&self) -> Result<RawLook, ClientError> {
        let commands = vec![
            Command::named("CLUSTER NODES"),
            Command::named("CLUSTER INFO"),
            Command::named("INFO"),
            Command::named("PING"),
            config_get("save"),
        ];
        let replies = self.pipeline(Deadline::Read, commands).await;
        let look = replies.and_then(raw_look).map_err(|fault| self.at(fault))?;
        self.learn(&look.nodes);
        self.shared.lines.learn_run(&look.info);
        Ok(look)
    }

    /// INFO: the default sections (every version).
    pub async fn info(&self) -> Result<String, ClientError> {
        let info = self
            .query(Deadline::Read, Command::named("INFO"), Reply::text)
            .await?;
        self.shared.lines.learn_run(&info);
        Ok(info)
    }

    /// CLUSTER NODES: the node's own view, a line per node (Redis ≥ 3.0).
    pub async fn cluster_nodes(&self) -> Result<String, ClientError> {
        let nodes = self
            .query(Deadline::Read, Command::named("CLUSTER NODES"), Reply::text)
            .await?;
        self.learn(&nodes);
        Ok(nodes)
    }

    /// Learns the node id behind this address, for the journal and for connections that are opened again.
    fn learn(&self, nodes: &str) {
        let own = nodes.lines().find(|line| line.contains("myself"));
        let Some(id) = own.and_then(|line| line.split(' ').next()?.parse().ok()) else {
            return;
        };
        self.shared.lines.learn_id(id);
        if let Some(journal) = &self.shared.journal {
            journal.learn(self.addr(), id);
        }
    }

    /// CLUSTER INFO (Redis ≥ 3.0).
    pub async fn cluster_info(&self) -> Result<String, ClientError> {
        self.query(Deadline::Read, Command::named("CLUSTER INFO"), Reply::text)
            .await
    }

    /// CLUSTER MYID (Redis ≥ 3.0).
    pub async fn cluster_myid(&self) -> Result<NodeId, ClientError> {
        let command = Command::named("CLUSTER MYID");
        let name = command.name;
        let id = self.query(Deadline::Read, command, |reply| {
            let text = reply.text()?;
            text.parse().map_err(|_| Fault::Malformed { command: name })
        });
        let id = id.await?;
        self.shared.lines.learn_id(id);
        Ok(id)
    }

    /// CONFIG GET of each name, in one round trip (every version). Names that the server does not know, or may not
    /// report, are missing in the result.
    pub async fn config_get(
        &self,
        names: &[&str],
    ) -> Result<BTreeMap<String, String>, ClientError> {
        // One command per name: several names in one command need Redis 7.0.
        let commands: Vec<_> = names.iter().map(|name| config_get(name)).collect();
        let replies = self.pipeline(Deadline::Read, commands).await;
        let replies = replies.map_err(|fault| self.at(fault))?;
        let mut values = BTreeMap::new();
        for (name, reply) in names.iter().zip(replies) {
            let value = configured(name, reply).map_err(|fault| self.at(fault))?;
            values.extend(value.map(|value| ((*name).to_owned(), value)));
        }
        Ok(values)
    }

    /// CONFIG GET cluster-node-timeout (Redis ≥ 3.0); `None` where CONFIG may not be asked.
    pub async fn node_timeout(&self) -> Result<Option<Duration>, ClientError> {
        let values = self.config_get(&[NODE_TIMEOUT]).await?;
        let millis = values
            .get(NODE_TIMEOUT)
            .and_then(|value| value.parse().ok());
        Ok(millis.map(Duration::from_millis))
    }

    /// CONFIG SET of one value (every version), until the server is restarted.
    pub async fn config_set(&self, name: &str, value: &str) -> Result<(), ClientError> {
        /// Numbers and switches, which the journal may show.
        const NO_SECRETS: [&str; 3] = [
            "cluster-allow-replica-migration",
            NODE_TIMEOUT,
            SLOT_STATS_SETTING,
        ];
        let command = Command::named("CONFIG SET").word(name);
        let command = match NO_SECRETS.contains(&name) {
            true => command.word(value),
            false => command.arg(value),
        };
        self.change(command).await
    }

    /// CONFIG REWRITE (Redis ≥ 2.8): writes the current settings to the configuration file, if the server has one.
    pub async fn config_rewrite(&self) -> Result<(), ClientError> {
        self.change(Command::named("CONFIG REWRITE")).await
    }

    /// CLUSTER ADDSLOTS: assigns unassigned slots to the node, in its own view (Redis ≥ 3.0). All of them or none;
    /// sends nothing if there is no slot.
    pub async fn cluster_addslots(&self, slots: &SlotSet) -> Result<(), ClientError> {
        self.change_slots("CLUSTER ADDSLOTS", slots).await
    }

    /// CLUSTER DELSLOTS: the node forgets the owners of those slots (Redis ≥ 3.0). All of them or none; sends nothing
    /// if there is no slot.
    pub async fn cluster_delslots(&self, slots: &SlotSet) -> Result<(), ClientError> {
        self.change_slots("CLUSTER DELSLOTS", slots).await
    }

    /// CLUSTER SET-CONFIG-EPOCH (Redis ≥ 3.0): refused by a node that knows others, or has a config epoch other than
    /// 0 already.
    pub async fn cluster_set_config_epoch(&self, epoch: u64) -> Result<(), ClientError> {
        let command = Command::named("CLUSTER SET-CONFIG-EPOCH").word(epoch);
        self.change(command).await
    }

    /// CLUSTER MEET (Redis ≥ 3.0): the node tries to join the node at that address, which it must be able to reach
    /// itself. OK does not mean that they have met. The bus port (Redis ≥ 4.0) is only needed if it is not the port +
    /// 10000.
    pub async fn cluster_meet(
        &self,
        ip: IpAddr,
        port: u16,
        bus_port: Option<u16>,
    ) -> Result<(), ClientError> {
        let mut command = Command::named("CLUSTER MEET").word(ip).word(port);
        if let Some(bus_port) = bus_port {
            command = command.word(bus_port);
        }
        self.change(command).await
    }

    /// CLUSTER REPLICATE (Redis ≥ 3.0): makes the node a replica of that master. `ERR Unknown node` until the node
    /// knows it.
    pub async fn cluster_replicate(&self, master: NodeId) -> Result<(), ClientError> {
        let command = Command::named("CLUSTER REPLICATE").word(master);
        self.change(command).await
    }

    /// CLUSTER FORGET (Redis ≥ 3.0): the node removes another node from its list, and does not add it again for 60 s.
    pub async fn cluster_forget(&self, id: NodeId) -> Result<(), ClientError> {
        let command = Command::named("CLUSTER FORGET").word(id);
        self.change(command).await
    }

    /// CLUSTER COUNTKEYSINSLOT of each slot, in their order (Redis ≥ 3.0): the keys that the node itself holds in
    /// that database, expired ones included. Cluster nodes have databases other than 0 from Valkey 9 on.
    pub async fn cluster_countkeysinslot(
        &self,
        database: u32,
        slots: &[Slot],
    ) -> Result<Vec<u64>, ClientError> {
        let mut counts = Vec::with_capacity(slots.len());
        for slots in slots.chunks(COUNTS_PER_PIPELINE) {
            let count = |slot: &Slot| Command::named("CLUSTER COUNTKEYSINSLOT").word(slot.number());
            let mut commands: Vec<Command> = slots.iter().map(count).collect();
            // Selected back in the same pipeline: all other commands expect database 0. For database 0 there is
            // nothing to select, and the right to SELECT may be missing.
            let selects = usize::from(database != 0);
            if database != 0 {
                commands.insert(0, Command::named("SELECT").word(database));
                commands.push(Command::named("SELECT").word(0));
            }
            let replies = self.pipeline(Deadline::Read, commands).await;
            for (i, reply) in replies
                .map_err(|fault| self.at(fault))?
                .into_iter()
                .enumerate()
            {
                if (selects..selects + slots.len()).contains(&i) {
                    counts.push(reply.count().map_err(|fault| self.at(fault))?);
                } else {
                    reply.ok().map_err(|fault| self.at(fault))?;
                }
            }
        }
        Ok(counts)
    }

    /// DBSIZE: the keys of database 0 (every version).
    pub async fn dbsize(&self) -> Result<u64, ClientError> {
        self.query(Deadline::Read, Command::named("DBSIZE"), Reply::count)
            .await
    }

    /// CLIENT LIST: a line per connection (Redis ≥ 2.4).
    pub async fn client_list(&self) -> Result<String, ClientError> {
        self.query(Deadline::Read, Command::named("CLIENT LIST"), Reply::text)
            .await
    }

    /// CLIENT SETNAME (Redis ≥ 2.6.9): printable ASCII without spaces.
    pub async fn client_setname(&self, name: &str) -> Result<(), ClientError> {
        self.change(setname(name)).await
    }

    /// SET with an expiry in whole milliseconds, 1 at least (PX: Redis ≥ 2.6.12).
    pub async fn set(&self, key: &[u8], value: &[u8], expire: Duration) -> Result<(), ClientError> {
        let milliseconds = expire.as_millis().clamp(1, i64::MAX as u128) as i64;
        let command = Command::named("SET")
            .key(key)
            .arg(value)
            .word("PX")
            .word(milliseconds);
        self.change(command).await
    }

    /// GET (every version); `None` where there is no such key.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ClientError> {
        self.query(Deadline::Read, Command::named("GET").arg(key), Reply::bytes)
            .await
    }

    /// DEL of one key (every version): the number of deleted keys, 0 or 1.
    pub async fn del(&self, key: &[u8]) -> Result<u64, ClientError> {
        self.query(
            Deadline::Change,
            Command::named("DEL").key(key),
            Reply::count,
        )
        .await
    }

    /// READONLY: a replica serves reads on this connection (Redis ≥ 3.0).
    pub async fn readonly(&self) -> Result<(), ClientError> {
        self.change(Command::named("READONLY")).await?;
        self.shared.lines.set_readonly();
        Ok(())
    }

    async fn change_slots(&self, name: &'static str, slots: &SlotSet) -> Result<(), ClientError> {
        if slots.is_empty() {
            return Ok(());
        }
        let mut command = Command::named(name);
        for slot in slots.iter() {
            command = command.word(slot.number());
        }
        self.change(command).await
    }

    /// Sends a change that is answered by OK.
    async fn change(&self, command: Command) -> Result<(), ClientError> {
        self.query(Deadline::Change, command, Reply::ok).await
    }

    async fn query<T>(
        &self,
        class: Deadline,
        command: Command,
        read: impl FnOnce(Reply) -> Result<T, Fault>,
    ) -> Result<T, ClientError> {
        let malformed = Fault::Malformed {
            command: command.name,
        };
        let replies = self.pipeline(class, vec![command]).await;
        replies
            .and_then(|mut replies| replies.pop().ok_or(malformed))
            .and_then(read)
            .map_err(|fault| self.at(fault))
    }

    fn at(&self, fault: Fault) -> ClientError {
        fault.at(&self.shared.addr)
    }

    /// `MULTI`, changes, `EXEC`: the server executes nothing in between. Returns the reply of each change, in order.
    /// Fails as a whole if a command is not queued.
    async fn transaction(&self, changes: Vec<Command>) -> Result<Vec<Reply>, ClientError> {
        let at = |fault| self.at(fault);
        let name = changes.first().map_or("EXEC", |change| change.name);
        let mut commands = vec![Command::named("MULTI")];
        commands.extend(changes);
        commands.push(Command::named("EXEC"));
        let mut replies = self
            .pipeline(Deadline::Change, commands)
            .await
            .map_err(at)?;
        let exec = replies.pop();
        let exec = exec.ok_or_else(|| at(Fault::Malformed { command: "EXEC" }))?;
        for queued in replies {
            queued.value().map_err(at)?;
        }
        exec.replies(name).map_err(at)
    }

    /// Sends commands in one pipeline and waits for all replies, within one deadline. A command that the server
    /// refuses does not hide the replies of the others.
    ///
    /// If the server closes the connection, commands that may be sent twice are sent again on a new one.
    async fn pipeline(&self, class: Deadline, commands: Vec<Command>) -> Result<Vec<Reply>, Fault> {
        self.refresh().await;
        let (_, generation) = self.shared.lines.current();
        let may_be_repeated = may_be_repeated(class, &commands);
        let batch = Batch::of(class, commands, self.shared.journal.is_some());
        let result = self.send(&batch).await;
        let was_closed = matches!(result, Err(Fault::Closed { .. }));
        if was_closed && may_be_repeated && self.reopen(generation).await {
            return self.send(&batch).await;
        }
        result
    }

    /// Sends commands once, on the connection as it is.
    async fn exchange(&self, class: Deadline, commands: Vec<Command>) -> Result<Vec<Reply>, Fault> {
        let journal = self.shared.journal.is_some();
        self.send(&Batch::of(class, commands, journal)).await
    }

    /// Sends a batch on the connection as it is.
    ///
    /// After a timeout the connection stays usable: the crate keeps a place in its queue for each command that it
    /// wrote, so that a late reply does not reach the next command.
    async fn send(&self, batch: &Batch) -> Result<Vec<Reply>, Fault> {
        let Some(first) = batch.names.first().copied() else {
            return Ok(Vec::new());
        };
        let noted = match batch.changes.clone() {
            None => None,
            Some(changes) => {
                let journal = self.shared.journal.as_ref();
                let addr = &self.shared.addr;
                Some(JournaledChanges::begin(journal, &self.sent, addr, changes)?)
            }
        };
        let (class, count) = (batch.class, batch.names.len());
        let more = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX);
        let after = match class {
            Deadline::Read | Deadline::Value => self.shared.command_timeout,
            Deadline::Change => self.shared.command_timeout + REPLICATED.saturating_mul(more),
            Deadline::Within(time) => time,
        };
        let started = Instant::now();
        let in_flight = self.shared.lines.begin();
        let (mut line, _) = self.shared.lines.current();
        let sending = line.connection.send_packed_commands(&batch.pipe, 0, count);
        let sent = match class {
            Deadline::Value => until_silent(sending, &line.wire, after).await,
            _ => timeout(after, sending).await,
        };
        drop(in_flight);
        let result = match sent {
            Ok(Ok(values)) if values.len() == count => {
                line.spoken.store(true, Ordering::Relaxed);
                self.shared.lines.answered();
                let replies = batch.names.iter().zip(values);
                Ok(replies
                    .map(|(name, value)| Reply::new(name, value))
                    .collect())
            }
            Ok(Ok(_)) => Err(Fault::Malformed { command: first }),
            // The crate reports all broken connections alike; the stream knows the cause.
            Ok(Err(_)) => Err(self.ended(&line, first)),
            Err(_) => Err(Fault::Timeout {
                command: first,
                after,
            }),
        };
        if let Some(logged) = &batch.logged {
            logged.write(&self.shared.addr, &result, started.elapsed());
        }
        debug!(
            node = %self.shared.addr,
            command = first,
            count,
            class = ?class,
            took = ?started.elapsed(),
            answered = result.is_ok(),
        );
        if let Some(noted) = noted {
            noted.end(&result, self.is_trial).await;
        }
        result
    }

    /// Returns why no reply can arrive any more.
    fn ended(&self, line: &Line, command: &'static str) -> Fault {
        let seen = line.wire.seen();
        if seen.end == Some(End::TooLarge) {
            let limit = line.wire.limit();
            return Fault::TooLarge { command, limit };
        }
        if line.spoken.load(Ordering::Relaxed) {
            return match seen.end {
                Some(_) => Fault::Closed { command },
                None => Fault::Malformed { command },
            };
        }
        match (seen.beginning.first(), self.shared.over, seen.end) {
            // A TLS record of type alert.
            (Some(0x15), Over::Tcp, _) => Fault::MaybeTls,
            // An error before the first command was read, or instead of its answer: DENIED, too many clients. The
            // crate drops replies that it did not ask for.
            (Some(b'-'), _, Some(_)) => greeting(command, &seen.beginning),
            (Some(b'+' | b':' | b'$' | b'*'), _, Some(_)) => Fault::Closed { command },
            (Some(b'+' | b':' | b'$' | b'*' | b'-'), _, None) => Fault::Malformed { command },
            (Some(_), _, _) => Fault::NotRedis {
                begins: first_line(&seen.beginning),
            },
            // With TLS 1.3 the server verifies our certificate after the handshake is complete on our side.
            (None, _, Some(End::Tls(fault))) => Fault::Tls(fault),
            (None, Over::Tcp, _) => Fault::MaybeTls,
            (None, Over::Tls, _) => Fault::Closed { command },
        }
    }
}

/// Waits for replies as long as parts of them arrive. Ends once nothing has come for `silence`, or for twice as long.
async fn until_silent<T>(
    replies: impl Future<Output = T>,
    wire: &Wire,
    silence: Duration,
) -> Result<T, Elapsed> {
    let mut replies = pin!(replies);
    loop {
        let heard = wire.heard();
        match timeout(silence, &mut replies).await {
            Err(_) if wire.heard() != heard => {}
            ended => return ended,
        }
    }
}

/// Returns an error line that arrived before the connection ended.
fn greeting(command: &'static str, beginning: &[u8]) -> Fault {
    let line = String::from_utf8_lossy(&beginning[1..]);
    let line = line.lines().next().unwrap_or_default();
    let (code, message) = line.split_once(' ').unwrap_or((line, ""));
    Fault::of_server(command, code, message)
}

/// The first bytes of another protocol, short enough for an error.
fn first_line(beginning: &[u8]) -> String {
    let text = String::from_utf8_lossy(beginning);
    clean_line(text.lines().next().unwrap_or_default(), 60)
}

fn raw_look(replies: Vec<Reply>) -> Result<RawLook, Fault> {
    let command = "CLUSTER NODES";
    let [nodes, cluster_info, info, ping, save] =
        <[Reply; 5]>::try_from(replies).map_err(|_| Fault::Malformed { command })?;
    Ok(RawLook {
        nodes: nodes.text()?,
        cluster_info: cluster_info.text()?,
        info: info.text()?,
        ping: ping.refusal(),
        save: configured("save", save)?,
    })
}

/// Returns the value in a reply to CONFIG GET: `None` where the server does not know the name, or does not report it
/// (denied by an ACL, renamed, a managed service).
fn configured(name: &str, reply: Reply) -> Result<Option<String>, Fault> {
    match reply.texts() {
        Ok(pair) => {
            let mut words = pair.into_iter();
            match (words.next(), words.next()) {
                (Some(told), Some(value)) if told.eq_ignore_ascii_case(name) => Ok(Some(value)),
                _ => Ok(None),
            }
        }
        Err(Fault::NoPermission { .. } | Fault::Server { .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}
