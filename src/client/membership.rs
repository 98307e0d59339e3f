//! The commands by which nodes join, leave and fail over, and those for functions and users.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redis::Value;

use super::error::{ClientError, Fault};
use super::reply::Reply;
use super::{Command, Deadline, NodeClient};
use crate::cluster::node::{NodeId, Role, Takeover};

/// What CLUSTER RESET clears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// The other nodes, the slots and the role; the node id and the config epoch stay.
    Soft,
    /// The node id and the config epoch, too.
    Hard,
}

/// A library of functions, as the server stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The engine.
    pub engine: Vec<u8>,
    /// The source code.
    pub code: Vec<u8>,
}

/// The libraries of a node, by name.
pub type Libraries = BTreeMap<String, Library>;

/// FLUSHALL and CLUSTER RESET free all keys before they answer.
const FREE_TIMEOUT: Duration = Duration::from_secs(60);

/// The links between a node and another one, in ms of the node's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Links {
    /// When the oldest was opened.
    pub oldest: u64,
    /// When the newest was opened.
    pub newest: u64,
    /// Whether the node has a link to the other one. It connects within 100 ms.
    pub outgoing: bool,
}

impl NodeClient {
    /// CLUSTER RESET (Redis ≥ 3.0): the node forgets all others and becomes a master without slots. A master that
    /// holds keys refuses; a replica deletes its copy.
    pub async fn cluster_reset(&self, reset: Reset) -> Result<(), ClientError> {
        let how = match reset {
            Reset::Soft => "SOFT",
            Reset::Hard => "HARD",
        };
        self.shared.lines.forget_id();
        let command = Command::named("CLUSTER RESET").word(how);
        self.query(Deadline::Within(FREE_TIMEOUT), command, Reply::ok)
            .await
    }

    /// CLUSTER FORGET of several nodes (Redis ≥ 3.0); a node that is unknown is forgotten already. Sent in a
    /// transaction: from Redis 7.2 and Valkey 7.2 on, a node tells all nodes that it knows which ones to forget. A
    /// node that had forgotten only some would make the others of these forget them, too.
    pub async fn cluster_forget_all(&self, ids: &BTreeSet<NodeId>) -> Result<(), ClientError> {
        let forget = |id| Command::named("CLUSTER FORGET").word(id);
        for forgotten in self.transaction(ids.iter().map(forget).collect()).await? {
            match forgotten.ok().map_err(|fault| self.at(fault)) {
                Err(error) if error.is_unknown_node() => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// CLUSTER LINKS (Redis ≥ 7.0, Valkey): the links to and from each other node; `None` where the command is
    /// unknown or denied.
    pub async fn cluster_links(&self) -> Result<Option<BTreeMap<NodeId, Links>>, ClientError> {
        let command = Command::named("CLUSTER LINKS");
        let records = match self.query(Deadline::Read, command, Reply::records).await {
            Ok(records) => records,
            Err(error) if is_unknown_or_denied(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut links: BTreeMap<NodeId, Links> = BTreeMap::new();
        for record in records {
            let node = record.get("node").and_then(|id| id.parse().ok());
            let since = record.get("create-time").and_then(|ms| ms.parse().ok());
            if let (Some(node), Some(since)) = (node, since) {
                let link = links.entry(node).or_insert(Links {
                    oldest: since,
                    newest: since,
                    outgoing: false,
                });
                link.oldest = since.min(link.oldest);
                link.newest = since.max(link.newest);
                link.outgoing |= record.get("direction").is_some_and(|way| way == "to");
            }
        }
        Ok(Some(links))
    }

    /// CLUSTER MYID and INFO server in one round trip (Redis ≥ 3.0): which node answers, and which process.
    ///
    /// The run id is chosen at the start of a process: two run ids at the same time are two processes.
    pub async fn identity(&self) -> Result<(NodeId, String), ClientError> {
        let commands = vec![
            Command::named("CLUSTER MYID"),
            Command::named("INFO").word("server"),
        ];
        let replies = self.pipeline(Deadline::Read, commands).await;
        let read = |replies: Vec<Reply>| {
            let malformed = || Fault::Malformed {
                command: "CLUSTER MYID",
            };
            let [id, info] = <[Reply; 2]>::try_from(replies).map_err(|_| malformed())?;
            let id = id.text()?.parse().map_err(|_| malformed())?;
            Ok((id, info.text()?))
        };
        replies.and_then(read).map_err(|fault| self.at(fault))
    }

    /// SHUTDOWN (every version): stops the server, which writes its data to disk first if it is configured to. It
    /// answers by closing the connection.
    pub async fn shutdown(&self) -> Result<(), ClientError> {
        match self.change(Command::named("SHUTDOWN")).await {
            Err(error) if matches!(error.fault, Fault::Closed { .. } | Fault::MaybeTls) => Ok(()),
            other => other,
        }
    }

    /// FLUSHALL (every version): deletes the keys of all databases.
    pub async fn flushall(&self) -> Result<(), ClientError> {
        let command = Command::named("FLUSHALL");
        self.query(Deadline::Within(FREE_TIMEOUT), command, Reply::ok)
            .await
    }

    /// CLUSTER FAILOVER (Redis ≥ 3.0), sent to a replica. OK does not mean success: the roles change later, or never.
    pub async fn cluster_failover(&self, how: Takeover) -> Result<(), ClientError> {
        let command = Command::named("CLUSTER FAILOVER");
        self.change(match how {
            Takeover::Planned => command,
            Takeover::Force => command.word("FORCE"),
            Takeover::Takeover => command.word("TAKEOVER"),
        })
        .await
    }

    /// ROLE (Redis ≥ 2.8.12): the role of the node in its own view; a short reply where CLUSTER NODES is long.
    pub async fn role(&self) -> Result<Role, ClientError> {
        let command = Command::named("ROLE");
        self.query(Deadline::Read, command, |reply| {
            let malformed = Fault::Malformed { command: "ROLE" };
            let Value::Array(fields) = reply.value()? else {
                return Err(malformed);
            };
            match fields.first() {
                Some(Value::BulkString(word)) if word == b"master" => Ok(Role::Master),
                Some(Value::BulkString(word)) if word == b"slave" => Ok(Role::Replica),
                _ => Err(malformed),
            }
        })
        .await
    }

    /// FUNCTION LIST WITHCODE (Redis ≥ 7.0, Valkey); `None` where the command is unknown or denied.
    pub async fn function_list(&self) -> Result<Option<Libraries>, ClientError> {
        let command = Command::named("FUNCTION LIST").arg("WITHCODE");
        match self.query(Deadline::Read, command, libraries).await {
            Ok(libraries) => Ok(Some(libraries)),
            Err(error) if is_unknown_or_denied(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// FUNCTION LIST LIBRARYNAME … WITHCODE (Redis ≥ 7.0, Valkey): the code of a library; `None` where there is no such
    /// library, and where the command is unknown or denied. The name is a pattern, in which the letters, digits and
    /// underscores of a valid name stand for themselves.
    pub async fn function_code(&self, name: &str) -> Result<Option<Vec<u8>>, ClientError> {
        let command = Command::named("FUNCTION LIST");
        let command = command.word("LIBRARYNAME").arg(name).word("WITHCODE");
        match self.query(Deadline::Read, command, libraries).await {
            Ok(mut libraries) => Ok(libraries.remove(name).map(|library| library.code)),
            Err(error) if is_unknown_or_denied(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// FUNCTION DUMP (Redis ≥ 7.0, Valkey): all libraries, for [`Self::function_restore`].
    pub async fn function_dump(&self) -> Result<Vec<u8>, ClientError> {
        let command = Command::named("FUNCTION DUMP");
        self.query(Deadline::Read, command, |reply| {
            Ok(reply.bytes()?.unwrap_or_default())
        })
        .await
    }

    /// FUNCTION RESTORE … REPLACE (Redis ≥ 7.0, Valkey): adds those libraries and replaces libraries of the same
    /// names.
    pub async fn function_restore(&self, dump: &[u8]) -> Result<(), ClientError> {
        let command = Command::named("FUNCTION RESTORE");
        self.change(command.arg(dump).word("REPLACE")).await
    }

    /// ACL USERS (Redis ≥ 6.0); `None` where the command is unknown or denied.
    pub async fn acl_users(&self) -> Result<Option<Vec<String>>, ClientError> {
        let command = Command::named("ACL USERS");
        match self.query(Deadline::Read, command, Reply::texts).await {
            Ok(users) => Ok(Some(users)),
            Err(error) if is_unknown_or_denied(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether the command is unknown to the server, or denied to this user.
fn is_unknown_or_denied(error: &ClientError) -> bool {
    error.is_unknown_command() || matches!(error.fault, Fault::NoPermission { .. })
}

/// Each library is a map, sent as a flat array in RESP2.
pub(super) fn libraries(reply: Reply) -> Result<Libraries, Fault> {
    let malformed = || Fault::Malformed {
        command: "FUNCTION LIST",
    };
    let Value::Array(items) = reply.value()? else {
        return Err(malformed());
    };
    let library = |item: Value| {
        let Value::Array(fields) = item else {
            return None;
        };
        let (mut name, mut engine, mut code) = (None, None, None);
        let mut fields = fields.into_iter();
        while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
            let (Value::BulkString(field), Value::BulkString(value)) = (field, value) else {
                continue;
            };
            match &field[..] {
                b"library_name" => name = Some(String::from_utf8(value).ok()?),
                b"engine" => engine = Some(value),
                b"library_code" => code = Some(value),
                _ => {}
            }
        }
        let (engine, code) = (engine?, code?);
        Some((name?, Library { engine, code }))
    };
    items
        .into_iter()
        .map(|item| library(item).ok_or_else(malformed))
        .collect()
}
