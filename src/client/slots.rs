//! The commands that move slots and their keys.
//!
//! Those that take one slot are sent for many slots in one go. The server carries such a pipeline
//! out without serving anybody else in between: the caller bounds it.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::error::{ClientError, Fault};
use super::reply::Reply;
use super::{Command, Deadline, Login, NodeClient};
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::slot::{Slot, SlotSet};

/// What SETSLOT makes of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetSlot {
    /// `IMPORTING from`: the node will take it.
    Importing(NodeId),
    /// `MIGRATING to`: the node gives it away.
    Migrating(NodeId),
    /// `NODE owner`: who owns it now.
    Node(NodeId),
    /// `STABLE`: neither of the first two.
    Stable,
}

/// Where MIGRATE sends keys, and how.
#[derive(Debug, Clone)]
pub struct Migration {
    /// Where the source reaches the target.
    pub peer: Addr,
    /// The *target's* credentials.
    pub login: Login,
    /// The database, on both ends.
    pub database: u32,
    /// The server's own deadline, for each read and each write of the call.
    pub timeout: Duration,
    /// What to do with keys that the target has already.
    pub existing: Existing,
    /// Whether the source keeps what it sends.
    pub source: Keep,
}

/// What MIGRATE does with keys that the target has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// BUSYKEY.
    Refuse,
    /// They are overwritten.
    Replace,
}

/// What MIGRATE does with keys at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// They are deleted once the target has them.
    Move,
    /// They stay (`COPY`).
    Copy,
}

/// What came of a MIGRATE that no error came of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrated {
    /// Those keys that still existed are at the target.
    Moved,
    /// None of them existed any more.
    NoKey,
}

/// Why MIGRATE failed, as far as callers treat it differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrateFault {
    /// The target has one of the keys already; the others may have moved.
    BusyKey,
    /// The target has no memory left.
    OutOfMemory,
    /// The target wants other credentials, or none.
    Login,
    /// The target neither owns nor imports the slot.
    Moved,
    /// The target does not serve (a node that has just joined says so for 5 s).
    ClusterDown,
    /// The connection between the two broke, or was too slow: keys may be on both ends.
    Io,
    /// Something else.
    Other,
}

impl MigrateFault {
    /// Tells what a failed [`NodeClient::migrate`] means.
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
        match word.split(' ').next().unwrap_or_default() {
            "BUSYKEY" => Self::BusyKey,
            "OOM" => Self::OutOfMemory,
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Self::Login,
            "MOVED" => Self::Moved,
            "CLUSTERDOWN" => Self::ClusterDown,
            // Older than 6.0: `ERR invalid password`; or a target that needs none.
            _ if word.contains("invalid password") || word.contains("no password is set") => {
                Self::Login
            }
            _ if word.contains("AUTH <password> called without any password") => Self::Login,
            _ => Self::Other,
        }
    }
}

impl NodeClient {
    /// CLUSTER SETSLOT for each of the slots, in one go (Redis ≥ 3.0), and what became of each.
    ///
    /// From Valkey 8 on it is replicated first, and fails with NOREPLICAS when a replica hangs.
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

    /// Whether this login may use MULTI and EXEC: an empty transaction tells.
    pub async fn may_use_transactions(&self) -> Result<bool, ClientError> {
        let commands = vec![Command::named("MULTI"), Command::named("EXEC")];
        let replies = self.pipeline(Deadline::Read, commands).await;
        let mut replies = replies.map_err(|fault| self.at(fault))?.into_iter();
        Ok(replies.all(|reply| reply.value().is_ok()))
    }

    /// CLUSTER SETSLOT `NODE me` for slots that this node, `me`, imports, as one transaction
    /// (Redis ≥ 3.0), and what became of each.
    ///
    /// A node that claims a slot which it imports tells every other node at once, with all slots
    /// that it owns, and each of these then goes through all 16,384 (`clusterBroadcastPong` in
    /// Redis 3.2 to 8.6). All but the last slot are therefore made STABLE first, which keeps the
    /// node quiet; the last one raises its epoch and tells of all. Nobody is served in between, and
    /// a transaction that is cut off has not happened.
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
            // Why it was refused is said where it was queued.
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

    /// CLUSTER GETKEYSINSLOT of each slot, in one go (Redis ≥ 3.0): up to `count` (above 0) keys of
    /// that database, in no order.
    pub async fn cluster_getkeysinslot(
        &self,
        database: u32,
        slots: &[Slot],
        count: usize,
    ) -> Result<Vec<Vec<Vec<u8>>>, ClientError> {
        let commands = slots.iter().map(|slot| {
            Command::named("CLUSTER GETKEYSINSLOT")
                .arg(slot.number())
                .arg(count)
        });
        self.in_database(database, Deadline::Read, commands.collect())
            .await?
            .into_iter()
            .map(|reply| reply.byte_strings().map_err(|fault| self.at(fault)))
            .collect()
    }

    /// MEMORY USAGE of each key, in one go (Redis ≥ 4.0): bytes, an estimate for large collections;
    /// `None` for a key that is gone, and where the command does not exist or is denied.
    pub async fn memory_usage(
        &self,
        database: u32,
        keys: &[&Vec<u8>],
    ) -> Result<Vec<Option<u64>>, ClientError> {
        let commands = keys
            .iter()
            .map(|key| Command::named("MEMORY USAGE").arg(key.as_slice()));
        let replies = self
            .in_database(database, Deadline::Read, commands.collect())
            .await?;
        Ok(replies
            .into_iter()
            .map(|reply| reply.count().ok())
            .collect())
    }

    /// Takes slots from a node that claims them without deleting its keys: `MULTI`, `DELSLOTS`, then
    /// for each slot `IMPORTING winner` and `NODE winner`, `EXEC` (Redis ≥ 3.0). Between these nothing
    /// is heard from other nodes; importing, the node does not delete what it holds when it hears of
    /// the winner, and knowing the winner it lets MIGRATE send them there.
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

    /// CLUSTER BUMPEPOCH (Redis ≥ 3.0): the node repeats its claims with the highest epoch of all. One
    /// that has it alone already keeps it.
    pub async fn cluster_bumpepoch(&self) -> Result<(), ClientError> {
        let command = Command::named("CLUSTER BUMPEPOCH");
        self.query(Deadline::Change, command, |reply| reply.word().map(drop))
            .await
    }

    /// MEMORY USAGE of keys of slots that the node imports, in one go (Redis ≥ 4.0); see
    /// [`Self::memory_usage`].
    pub async fn memory_usage_asking(
        &self,
        database: u32,
        keys: &[&Vec<u8>],
    ) -> Result<Vec<Option<u64>>, ClientError> {
        let commands = keys.iter().flat_map(|key| {
            let usage = Command::named("MEMORY USAGE").arg(key.as_slice());
            [Command::named("ASKING"), usage]
        });
        let replies = self
            .in_database(database, Deadline::Read, commands.collect())
            .await?;
        let usages = replies.into_iter().skip(1).step_by(2);
        Ok(usages.map(|reply| reply.count().ok()).collect())
    }

    /// MIGRATE (keys of one slot in one call since Redis 3.0.6). It blocks the source, and the
    /// target for its part. The deadline is ours on top of the server's own: the call is given up
    /// when nothing is heard for ten of the server's.
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
        command = match (&migration.login.user, &migration.login.password) {
            (_, None) => command,
            (None, Some(password)) => command.word("AUTH").arg(password.expose_secret()),
            (Some(user), Some(password)) => command
                .word("AUTH2")
                .word(user)
                .arg(password.expose_secret()),
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

    /// Whether this user may WAIT: waits for nobody.
    pub async fn may_wait(&self) -> Result<(), ClientError> {
        let command = Command::named("WAIT").arg(0).arg(1);
        self.query(Deadline::Read, command, Reply::count)
            .await
            .map(drop)
    }

    /// Writes a key, deletes it, and WAITs (Redis ≥ 3.0): how many replicas have all that was
    /// written on this node so far. Returns when `replicas` have, or the time is up.
    ///
    /// The key is of a slot that the node imports or owns. The write is there because WAIT counts
    /// from the last write of its own connection on Redis ≥ 7.2 and Valkey; on older servers any
    /// command would do. Without the right to write that key WAIT alone has to do.
    pub async fn wait_after_write(
        &self,
        key: &[u8],
        replicas: usize,
        within: Duration,
    ) -> Result<u64, ClientError> {
        let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let commands = vec![
            Command::named("ASKING"),
            // It goes by itself should the next one never arrive.
            Command::named("SET")
                .key(key)
                .arg("")
                .word("PX")
                .word(10_000),
            Command::named("ASKING"),
            Command::named("DEL").key(key),
            Command::named("WAIT").arg(replicas).arg(millis.max(1)),
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

    /// DUMP of a key of an importing slot, or of any key this node serves; `None` where it is not
    /// there, or has left for another node (every version).
    pub async fn dump(&self, database: u32, key: &[u8]) -> Result<Option<Vec<u8>>, ClientError> {
        // ASKING holds for one command. A node that owns the slot passes it over.
        let commands = vec![Command::named("ASKING"), Command::named("DUMP").arg(key)];
        let mut replies = self.in_database(database, Deadline::Read, commands).await?;
        let malformed = Fault::Malformed { command: "DUMP" };
        let reply = replies.pop().ok_or_else(|| self.at(malformed))?;
        match reply.bytes() {
            // A source that gives the slot away has no such key any more.
            Err(Fault::Server { code, .. }) if code == "ASK" => Ok(None),
            value => value.map_err(|fault| self.at(fault)),
        }
    }

    /// DEL of a key that this node serves, has served, or imports (every version).
    pub async fn del_in(&self, database: u32, key: &[u8]) -> Result<(), ClientError> {
        // ASKING holds for one command. A node that owns the slot passes it over.
        let commands = vec![Command::named("ASKING"), Command::named("DEL").key(key)];
        let mut replies = self
            .in_database(database, Deadline::Change, commands)
            .await?;
        let malformed = Fault::Malformed { command: "DEL" };
        let reply = replies.pop().ok_or_else(|| self.at(malformed))?;
        match reply.count() {
            // It went by itself meanwhile.
            Err(Fault::Server { code, .. }) if code == "ASK" => Ok(()),
            deleted => deleted.map(drop).map_err(|fault| self.at(fault)),
        }
    }

    /// Commands on a database, which is selected for them alone: everything else counts on
    /// database 0. Nothing is selected, and no right to is needed, where it is 0.
    pub(super) async fn in_database(
        &self,
        database: u32,
        class: Deadline,
        mut commands: Vec<Command>,
    ) -> Result<Vec<Reply>, ClientError> {
        if database != 0 {
            commands.insert(0, Command::named("SELECT").arg(database));
            commands.push(Command::named("SELECT").arg(0));
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
