//! The commands that move slots and their keys.
//!
//! Commands for one slot are sent for many slots in one pipeline. The server executes such a pipeline without serving
//! other clients: the caller bounds its length.

use std::time::Duration;

use super::error::{ClientError, Fault};
use super::reply::Reply;
use super::{Command, Deadline, Login, NodeClient};
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::slot::{Slot, SlotSet};
use crate::cluster::write_refusal::WriteRefusal;

/// The states that CLUSTER SETSLOT sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetSlot {
    /// `IMPORTING from`: the node will receive the slot.
    Importing(NodeId),
    /// `MIGRATING to`: the node gives the slot away.
    Migrating(NodeId),
    /// `NODE owner`: the owner of the slot.
    Node(NodeId),
    /// `STABLE`: neither importing nor migrating.
    Stable,
}

/// What the keys of a request weigh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Bytes of each key; `None` for a key that is gone, and where the server does not tell.
    pub weights: Vec<Option<u64>>,
    /// Why the server does not tell: the command does not exist or is denied.
    pub refused: Option<ClientError>,
}

/// Arguments of MIGRATE.
#[derive(Debug, Clone)]
pub struct Migration {
    /// The address at which the source reaches the target.
    pub peer: Addr,
    /// The *target's* credentials.
    pub login: Login,
    /// The database, on both nodes.
    pub database: u32,
    /// The server's own deadline, for each read and each write of the call.
    pub timeout: Duration,
    /// How keys that the target has already are treated.
    pub existing: Existing,
    /// Whether the source keeps the keys.
    pub source: Keep,
}

/// How MIGRATE treats keys that the target has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Fails with BUSYKEY.
    Refuse,
    /// Overwrites them (`REPLACE`).
    Replace,
}

/// How MIGRATE treats keys at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Deletes them once the target has them.
    Move,
    /// Keeps them (`COPY`).
    Copy,
}

/// The result of a MIGRATE without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrated {
    /// Those keys that still existed are at the target.
    Moved,
    /// None of the keys existed any more.
    NoKey,
}

/// Why MIGRATE failed, as far as callers distinguish it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrateFault {
    /// The target has one of the keys already; the others may have moved.
    BusyKey,
    /// The target requires other credentials, or none.
    Login,
    /// The target neither owns nor imports the slot.
    Moved,
    /// The target does not serve yet (a node that has just joined reports `fail` for 5 s).
    ClusterDown,
    /// The target takes no writes, or not values of this RDB version.
    TargetRefuses,
    /// The connection between the nodes broke or was too slow: keys may be on both.
    Io,
    /// Any other error.
    Other,
}

impl MigrateFault {
    /// Returns what the error of a [`NodeClient::migrate`] means.
    pub fn of(error: &ClientError) -> Self {
        let Fault::Server { code, message, .. } = &error.fault else {
            return if error.outcome_unknown() {
                Self::Io
            } else {
                Self::Other
            };
        };
        if code == "IOERR" {
            return Self::Io;
        }
        // `ERR Target instance replied with error: BUSYKEY Target key name already exists.`
        let Some((_, word)) = message.split_once("replied with error: ") else {
            return Self::Other;
        };
        let (code, said) = word.split_once(' ').unwrap_or((word, ""));
        match code {
            "BUSYKEY" => Self::BusyKey,
            _ if WriteRefusal::of(code, said).is_some() => Self::TargetRefuses,
            _ if said.starts_with("DUMP payload version or checksum") => Self::TargetRefuses,
            _ if said.starts_with("Bad data format") => Self::TargetRefuses,
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Self::Login,
            "MOVED" => Self::Moved,
            "CLUSTERDOWN" => Self::ClusterDown,
            // Older than 6.0: `ERR invalid password`; or the target needs no password.
            _ if word.contains("invalid password") || word.contains("no password is set") => {
                Self::Login
            }
            _ if word.contains("AUTH <password> called without any password") => Self::Login,
            _ => Self::Other,
        }
    }
}

/// Why the target of a MIGRATE refuses writes, if the error says so.
pub fn refusal_of_target(error: &ClientError) -> Option<WriteRefusal> {
    let Fault::Server { message, .. } = &error.fault else {
        return None;
    };
    let (_, said) = message.split_once("replied with error: ")?;
    let (code, message) = said.split_once(' ')?;
    WriteRefusal::of(code, message)
}

impl NodeClient {
    /// CLUSTER SETSLOT for each slot, in one pipeline (Redis ≥ 3.0); returns the result of each.
    ///
    /// Valkey ≥ 8 replicates the command first, and fails with NOREPLICAS if a replica hangs.
    pub async fn cluster_setslots(
        &self,
        changes: &[(Slot, SetSlot)],
    ) -> Result<Vec<Result<(), ClientError>>, ClientError> {
        let commands = changes.iter().map(|(slot, state)| setslot(*slot, *state));
        let replies = self.pipeline(Deadline::Change, commands.collect()).await;
        let outcome = |reply: Reply| reply.ok().map_err(|fault| self.at(fault));
        Ok(replies
            .map_err(|fault| self.at(fault))?
            .into_iter()
            .map(outcome)
            .collect())
    }

    /// Whether this user may use MULTI and EXEC: sends an empty transaction.
    pub async fn may_use_transactions(&self) -> Result<bool, ClientError> {
        let commands = vec![Command::named("MULTI"), Command::named("EXEC")];
        let replies = self.pipeline(Deadline::Read, commands).await;
        let mut replies = replies.map_err(|fault| self.at(fault))?.into_iter();
        Ok(replies.all(|reply| reply.value().is_ok()))
    }

    /// CLUSTER SETSLOT `NODE me` for slots that this node, `me`, imports, as one transaction (Redis ≥ 3.0); returns
    /// the result of each.
    ///
    /// A node that claims a slot which it imports sends all slots that it owns to every other node at once, and each
    /// of them then walks all 16,384 slots (`clusterBroadcastPong` in Redis 3.2 to 8.6). All slots but the last are
    /// therefore made STABLE first, which sends nothing; the last one raises the config epoch and announces all. The
    /// server executes nothing in between, and a transaction that is cut off does not take effect.
    pub async fn cluster_claim(
        &self,
        slots: &[Slot],
        me: NodeId,
    ) -> Result<Vec<Result<(), ClientError>>, ClientError> {
        let quietly = slots.len().saturating_sub(1);
        let mut commands = vec![Command::named("MULTI")];
        for (i, slot) in slots.iter().enumerate() {
            if i < quietly {
                commands.push(setslot(*slot, SetSlot::Stable));
            }
            commands.push(setslot(*slot, SetSlot::Node(me)));
        }
        commands.push(Command::named("EXEC"));
        let replies = self.pipeline(Deadline::Change, commands).await;
        let mut replies = replies.map_err(|fault| self.at(fault))?;
        let executed = match replies.pop() {
            Some(exec) => exec.replies("CLUSTER SETSLOT"),
            None => Err(Fault::Malformed { command: "EXEC" }),
        };
        let executed = match executed {
            Ok(executed) if executed.len() == quietly + slots.len() => executed,
            Ok(_) => return Err(self.at(Fault::Malformed { command: "EXEC" })),
            // The reason for the refusal is in the reply to the queued command.
            Err(refused) => {
                let queued = replies.into_iter().map(Reply::value);
                let why = queued.filter_map(Result::err).next();
                return Err(self.at(why.unwrap_or(refused)));
            }
        };
        let mut executed = executed
            .into_iter()
            .map(|reply| reply.ok().map_err(|fault| self.at(fault)));
        let mut outcomes = Vec::with_capacity(slots.len());
        for i in 0..slots.len() {
            let quieted = if i < quietly { executed.next() } else { None };
            let claimed = executed.next().unwrap_or(Ok(()));
            outcomes.push(quieted.unwrap_or(Ok(())).and(claimed));
        }
        Ok(outcomes)
    }

    /// CLUSTER GETKEYSINSLOT of each slot, in one pipeline (Redis ≥ 3.0): up to `count` (above 0) keys of that
    /// database, in no order.
    pub async fn cluster_getkeysinslot(
        &self,
        database: u32,
        slots: &[Slot],
        count: usize,
    ) -> Result<Vec<Vec<Vec<u8>>>, ClientError> {
        let commands = slots.iter().map(|slot| {
            Command::named("CLUSTER GETKEYSINSLOT")
                .word(slot.number())
                .word(count)
        });
        self.in_database(database, Deadline::Read, commands.collect())
            .await?
            .into_iter()
            .map(|reply| reply.byte_strings().map_err(|fault| self.at(fault)))
            .collect()
    }

    /// MEMORY USAGE of each key, in one pipeline (Redis ≥ 4.0): bytes, estimated for large collections.
    pub async fn memory_usage(
        &self,
        database: u32,
        keys: &[&Vec<u8>],
    ) -> Result<MemoryUsage, ClientError> {
        let commands = keys
            .iter()
            .map(|key| Command::named("MEMORY USAGE").arg(key.as_slice()));
        let replies = self
            .in_database(database, Deadline::Read, commands.collect())
            .await?;
        Ok(self.usage(replies))
    }

    fn usage(&self, replies: impl IntoIterator<Item = Reply>) -> MemoryUsage {
        let mut refused = None;
        let weight = |reply: Reply| match reply.count() {
            Ok(bytes) => Some(bytes),
            Err(fault) => {
                let is_denied = matches!(fault, Fault::NoPermission { .. });
                if refused.is_none() && (is_denied || fault.is_unknown_command()) {
                    refused = Some(self.at(fault));
                }
                None
            }
        };
        MemoryUsage {
            weights: replies.into_iter().map(weight).collect(),
            refused,
        }
    }

    /// Takes slots away from a node that claims them, without deleting its keys: `MULTI`, `DELSLOTS`, then for each
    /// slot `IMPORTING winner` and `NODE winner`, `EXEC` (Redis ≥ 3.0). The node processes no messages of other nodes
    /// in between. While it imports the slot, it does not delete its keys when the winner claims the slot; and
    /// because it knows the winner, it lets MIGRATE send the keys there.
    pub async fn cluster_fence(&self, slots: &SlotSet, winner: NodeId) -> Result<(), ClientError> {
        let mut delete = Command::named("CLUSTER DELSLOTS");
        for slot in slots.iter() {
            delete = delete.word(slot.number());
        }
        let set = |state: SetSlot| slots.iter().map(move |slot| setslot(slot, state));
        let mut commands = vec![delete];
        commands.extend(set(SetSlot::Importing(winner)));
        commands.extend(set(SetSlot::Node(winner)));
        let executed = self.transaction(commands).await?;
        executed
            .into_iter()
            .try_for_each(Reply::ok)
            .map_err(|fault| self.at(fault))
    }

    /// CLUSTER BUMPEPOCH (Redis ≥ 3.0): the node repeats its claims with the highest config epoch of all. A node that
    /// is the only one with the highest epoch keeps it.
    pub async fn cluster_bumpepoch(&self) -> Result<(), ClientError> {
        let command = Command::named("CLUSTER BUMPEPOCH");
        self.query(Deadline::Change, command, |reply| reply.word().map(drop))
            .await
    }

    /// MEMORY USAGE of keys of slots that the node imports, in one pipeline (Redis ≥ 4.0); see
    /// [`Self::memory_usage`].
    pub async fn memory_usage_asking(
        &self,
        database: u32,
        keys: &[&Vec<u8>],
    ) -> Result<MemoryUsage, ClientError> {
        let commands = keys.iter().flat_map(|key| {
            let usage = Command::named("MEMORY USAGE").arg(key.as_slice());
            [Command::named("ASKING"), usage]
        });
        let replies = self
            .in_database(database, Deadline::Read, commands.collect())
            .await?;
        Ok(self.usage(replies.into_iter().skip(1).step_by(2)))
    }

    /// MIGRATE (several keys of one slot in one call since Redis 3.0.6). It blocks the source, and partly the target.
    /// The client's deadline is ten times the server's own.
    pub async fn migrate(
        &self,
        migration: &Migration,
        keys: &[Vec<u8>],
    ) -> Result<Migrated, ClientError> {
        let mut command = Command::named("MIGRATE")
            .word(migration.peer.host())
            .word(migration.peer.port())
            .word("")
            .word(migration.database)
            .word(migration.timeout.as_millis().min(u128::from(u64::MAX)));
        if migration.source == Keep::Copy {
            command = command.word("COPY");
        }
        if migration.existing == Existing::Replace {
            command = command.word("REPLACE");
        }
        command = match migration.login.words() {
            None => command,
            Some((None, password)) => command.word("AUTH").arg(password),
            Some((Some(user), password)) => command.word("AUTH2").word(user).arg(password),
        };
        command = command.word("KEYS");
        for key in keys {
            command = command.key(key);
        }
        let within = Deadline::Within(migration.timeout.saturating_mul(10));
        let mut replies = self
            .in_database(migration.database, within, vec![command])
            .await?;
        let malformed = Fault::Malformed { command: "MIGRATE" };
        let reply = replies.pop().ok_or_else(|| self.at(malformed))?;
        match reply.word().map_err(|fault| self.at(fault))?.as_str() {
            "NOKEY" => Ok(Migrated::NoKey),
            _ => Ok(Migrated::Moved),
        }
    }

    /// WAIT for so many replicas, for a millisecond (Redis ≥ 3.0). With 0 it only tells whether this user may do so. With 1
    /// a master without a replica in sync asks all that are attached for an acknowledgement, with a command in its
    /// replication stream (37 bytes).
    pub async fn wait(&self, replicas: u64) -> Result<(), ClientError> {
        let command = Command::named("WAIT").word(replicas).word(1);
        self.query(Deadline::Read, command, Reply::count)
            .await
            .map(drop)
    }

    /// Writes a key, deletes it, and sends WAIT (Redis ≥ 3.0): returns how many replicas have everything that was
    /// written on this node so far. Returns when `replicas` have it, or the time is up.
    ///
    /// The key belongs to a slot that the node imports or owns. The write is needed because WAIT counts from the last
    /// write of its own connection on Redis ≥ 7.2 and Valkey; on older servers any command would do. Without the
    /// right to write that key, WAIT is sent alone.
    pub async fn wait_after_write(
        &self,
        key: &[u8],
        replicas: usize,
        within: Duration,
    ) -> Result<u64, ClientError> {
        let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let commands = vec![
            Command::named("ASKING"),
            // The key expires if the DEL never arrives.
            Command::named("SET")
                .key(key)
                .arg("")
                .word("PX")
                .word(10_000),
            Command::named("ASKING"),
            Command::named("DEL").key(key),
            Command::named("WAIT").word(replicas).word(millis.max(1)),
        ];
        let deadline = Deadline::Within(within + self.shared.command_timeout);
        let replies = self
            .pipeline(deadline, commands)
            .await
            .map_err(|fault| self.at(fault))?;
        let malformed = Fault::Malformed { command: "WAIT" };
        let [_, set, _, _, wait] =
            <[Reply; 5]>::try_from(replies).map_err(|_| self.at(malformed))?;
        match set.ok() {
            Ok(()) | Err(Fault::NoPermission { .. }) => {}
            Err(fault) => return Err(self.at(fault)),
        }
        wait.count().map_err(|fault| self.at(fault))
    }

    /// DUMP of a key of an importing slot, or of any key that this node serves; `None` if the key does not exist, or
    /// has moved to another node (every version).
    pub async fn dump(&self, database: u32, key: &[u8]) -> Result<Option<Vec<u8>>, ClientError> {
        // ASKING holds for one command. The owner of the slot ignores it.
        let commands = vec![Command::named("ASKING"), Command::named("DUMP").arg(key)];
        let mut replies = self.in_database(database, Deadline::Read, commands).await?;
        let malformed = Fault::Malformed { command: "DUMP" };
        let reply = replies.pop().ok_or_else(|| self.at(malformed))?;
        match reply.bytes() {
            // The source of a migrating slot no longer has the key.
            Err(Fault::Server { code, .. }) if code == "ASK" => Ok(None),
            value => value.map_err(|fault| self.at(fault)),
        }
    }

    /// DEL of a key that this node serves, has served, or imports (every version).
    pub async fn del_in(&self, database: u32, key: &[u8]) -> Result<(), ClientError> {
        // ASKING holds for one command. The owner of the slot ignores it.
        let commands = vec![Command::named("ASKING"), Command::named("DEL").key(key)];
        let mut replies = self
            .in_database(database, Deadline::Change, commands)
            .await?;
        let malformed = Fault::Malformed { command: "DEL" };
        let reply = replies.pop().ok_or_else(|| self.at(malformed))?;
        match reply.count() {
            // The key is gone already.
            Err(Fault::Server { code, .. }) if code == "ASK" => Ok(()),
            deleted => deleted.map(drop).map_err(|fault| self.at(fault)),
        }
    }

    /// Sends commands on a database, which is selected for them alone: all other commands expect database 0. For
    /// database 0 nothing is selected, and no right to SELECT is needed.
    pub(super) async fn in_database(
        &self,
        database: u32,
        class: Deadline,
        mut commands: Vec<Command>,
    ) -> Result<Vec<Reply>, ClientError> {
        if database != 0 {
            commands.insert(0, Command::named("SELECT").word(database));
            commands.push(Command::named("SELECT").word(0));
        }
        let mut replies = self
            .pipeline(class, commands)
            .await
            .map_err(|fault| self.at(fault))?;
        if database != 0 {
            let selected = [replies.remove(0), replies.remove(replies.len() - 1)];
            for reply in selected {
                reply.ok().map_err(|fault| self.at(fault))?;
            }
        }
        Ok(replies)
    }
}

fn setslot(slot: Slot, state: SetSlot) -> Command {
    let command = Command::named("CLUSTER SETSLOT").word(slot.number());
    match state {
        SetSlot::Importing(from) => command.word("IMPORTING").word(from),
        SetSlot::Migrating(to) => command.word("MIGRATING").word(to),
        SetSlot::Node(owner) => command.word("NODE").word(owner),
        SetSlot::Stable => command.word("STABLE"),
    }
}
