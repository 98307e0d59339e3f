//! The commands that copy keys from one server to another: SCAN, DUMP, RESTORE.
//!
//! They use connections of their own, which stay on one database ([`NodeClient::select`]), with many keys in one
//! pipeline. The caller bounds a pipeline by keys and by bytes.

use std::time::Duration;

use super::error::{ClientError, Fault};
use super::reply::Reply;
use super::{Command, Deadline, NodeClient};
use crate::cluster::node::Addr;

/// Half of the bytes that a slow network transfers per second: the deadline of a large pipeline grows by this rate.
pub(super) const BYTES_PER_SECOND: u64 = 4 << 20;

/// What PTTL and PEXPIRETIME reply if the key does not exist.
pub(super) const NO_KEY: i64 = -2;

/// How often keys are read again that were created between their two commands.
const DUMPS: usize = 10;

/// When a key expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    Never,
    /// At that time, in milliseconds since 1970 (RESTORE … ABSTTL: Redis ≥ 5.0).
    At(u64),
    /// In this many milliseconds.
    In(u64),
}

/// The command that reports when a key expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryQuestion {
    /// PEXPIRETIME (Redis ≥ 7.0, Valkey): an absolute time.
    Time,
    /// PTTL (every version): the remaining time.
    Left,
}

impl ExpiryQuestion {
    /// The command.
    pub(super) fn command(self) -> &'static str {
        match self {
            Self::Time => "PEXPIRETIME",
            Self::Left => "PTTL",
        }
    }

    /// The meaning of its reply for a key that exists.
    pub(super) fn expiry(self, time: i64) -> Expiry {
        match (u64::try_from(time), self) {
            (Err(_), _) => Expiry::Never,
            (Ok(time), Self::Time) => Expiry::At(time),
            (Ok(left), Self::Left) => Expiry::In(left),
        }
    }
}

/// A key as DUMP returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dumped {
    /// The payload for RESTORE.
    pub payload: Vec<u8>,
    /// When it expires.
    pub expires: Expiry,
}

/// A key as RESTORE takes it.
#[derive(Debug, Clone, Copy)]
pub struct Restoring<'a> {
    /// The name of the key.
    pub key: &'a [u8],
    /// The payload, from a DUMP or an RDB file.
    pub payload: &'a [u8],
    /// When it expires.
    pub expires: Expiry,
    /// Seconds since the last access (Redis ≥ 5.0).
    pub idle: Option<u64>,
    /// Its LFU counter (Redis ≥ 5.0).
    pub frequency: Option<u8>,
}

/// How RESTORE treats an existing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreMode {
    /// Refuses it.
    Keep,
    /// Overwrites it.
    Replace,
}

/// Whether the slot may be one that the node imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// The node owns it.
    No,
    /// Another node redirected the key (`ASK`).
    Yes,
}

/// Why a key was not restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreFault {
    /// The key exists already.
    BusyKey,
    /// The server has no memory left (`maxmemory`).
    OutOfMemory,
    /// Another node owns the slot.
    Moved,
    /// That node imports the slot, and the key belongs there.
    Ask(AskedNode),
    /// Temporary: the node is no longer a master, is loading, or the cluster is down in its view.
    NotNow(ClientError),
    /// The server does not accept the RDB version of the payload.
    Version,
    /// The server can't read the value: it does not have the type, or lacks the module.
    Format,
    /// Any other error.
    Refused(ClientError),
}

/// Why a key was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadFault {
    /// Another node owns the slot.
    Moved,
    /// That node imports the slot, and has the key if it exists.
    Ask(AskedNode),
    /// Temporary: the node is loading, or the cluster is down in its view.
    NotNow(ClientError),
    /// Any other error.
    Refused(ClientError),
}

/// The replies for a key.
enum DumpReplies {
    Read(Option<Dumped>),
    /// The key was created between the two commands: when it expires is not known.
    Torn,
}

/// The node that an ASK names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskedNode {
    /// The one at this address.
    At(Addr),
    /// The one that imports the slot; the reply has no host.
    Importing,
}

/// Where another node is named for a key.
enum Redirect {
    Moved,
    Ask(AskedNode),
}

/// The redirection that an error means, if it is one.
fn redirect(fault: &Fault) -> Option<Redirect> {
    let Fault::Server { code, message, .. } = fault else {
        return None;
    };
    match code.as_str() {
        "MOVED" => Some(Redirect::Moved),
        "ASK" => message.split(' ').nth(1).and_then(asked).map(Redirect::Ask),
        _ => None,
    }
}

impl NodeClient {
    /// SELECT: switches this connection to that database.
    pub async fn select(&self, database: u32) -> Result<(), ClientError> {
        // Affects this connection only.
        self.query(
            Deadline::Read,
            Command::named("SELECT").word(database),
            Reply::ok,
        )
        .await?;
        self.shared.lines.set_database(database);
        Ok(())
    }

    /// SCAN (Redis ≥ 2.8): the next cursor, 0 at the end, and some keys.
    pub async fn scan(
        &self,
        cursor: u64,
        pattern: Option<&str>,
        count: usize,
    ) -> Result<(u64, Vec<Vec<u8>>), ClientError> {
        let mut command = Command::named("SCAN").word(cursor);
        if let Some(pattern) = pattern {
            command = command.word("MATCH").arg(pattern);
        }
        let command = command.word("COUNT").word(count);
        self.query(Deadline::Read, command, Reply::scanned).await
    }

    /// DUMP of each key, with its expiry (Redis ≥ 2.6); `None` for keys that do not exist.
    pub async fn dump_many(
        &self,
        keys: &[&[u8]],
        question: ExpiryQuestion,
        asking: Asking,
    ) -> Result<Vec<Result<Option<Dumped>, ReadFault>>, ClientError> {
        let mut read = self.dump_once(keys, question, asking).await?;
        for _ in 0..DUMPS {
            let torn: Vec<usize> = (0..read.len())
                .filter(|i| matches!(read[*i], Ok(DumpReplies::Torn)))
                .collect();
            if torn.is_empty() {
                break;
            }
            let some: Vec<&[u8]> = torn.iter().map(|i| keys[*i]).collect();
            let again = self.dump_once(&some, question, asking).await?;
            for (i, again) in torn.into_iter().zip(again) {
                read[i] = again;
            }
        }
        let dumped = |read| match read {
            Ok(DumpReplies::Read(dumped)) => Ok(Ok(dumped)),
            Ok(DumpReplies::Torn) => Err(self.at(Fault::Malformed { command: "DUMP" })),
            Err(fault) => Ok(Err(fault)),
        };
        read.into_iter().map(dumped).collect()
    }

    async fn dump_once(
        &self,
        keys: &[&[u8]],
        question: ExpiryQuestion,
        asking: Asking,
    ) -> Result<Vec<Result<DumpReplies, ReadFault>>, ClientError> {
        // A large value takes longer than a deadline that is meant for answers.
        let replies = self
            .ask_each(Deadline::Value, keys, &[question.command(), "DUMP"], asking)
            .await?;
        let dumped = |[time, value]: [Reply; 2]| {
            let time = time.integer()?;
            Ok(match value.bytes()? {
                Some(_) if time == NO_KEY => DumpReplies::Torn,
                Some(payload) => {
                    let expires = question.expiry(time);
                    DumpReplies::Read(Some(Dumped { payload, expires }))
                }
                None => DumpReplies::Read(None),
            })
        };
        self.read_each(keys.len(), replies, dumped)
    }

    /// PTTL of each key (Redis ≥ 2.8): when it expires; `None` for keys that do not exist.
    pub async fn expiry_many(
        &self,
        keys: &[&[u8]],
        asking: Asking,
    ) -> Result<Vec<Result<Option<Expiry>, ReadFault>>, ClientError> {
        let replies = self
            .ask_each(Deadline::Read, keys, &["PTTL"], asking)
            .await?;
        let expiry = |[left]: [Reply; 1]| {
            Ok(match left.integer()? {
                NO_KEY => None,
                left => Some(u64::try_from(left).map_or(Expiry::Never, Expiry::In)),
            })
        };
        self.read_each(keys.len(), replies, expiry)
    }

    /// EXISTS of each key (every version).
    pub async fn exist_many(
        &self,
        keys: &[&[u8]],
        asking: Asking,
    ) -> Result<Vec<Result<bool, ReadFault>>, ClientError> {
        let replies = self
            .ask_each(Deadline::Read, keys, &["EXISTS"], asking)
            .await?;
        let exists = |[count]: [Reply; 1]| count.count().map(|count| count > 0);
        self.read_each(keys.len(), replies, exists)
    }

    /// MEMORY USAGE of each key (Redis ≥ 4.0), in bytes; `None` where the server does not tell.
    pub async fn memory_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<u64>>, ClientError> {
        let replies = self
            .ask_each(Deadline::Read, keys, &["MEMORY USAGE"], Asking::No)
            .await?;
        Ok(replies
            .into_iter()
            .map(|reply| reply.count().ok())
            .collect())
    }

    /// Sends these commands for each key in one pipeline. The replies to ASKING are left out.
    async fn ask_each(
        &self,
        class: Deadline,
        keys: &[&[u8]],
        names: &[&'static str],
        asking: Asking,
    ) -> Result<Vec<Reply>, ClientError> {
        let mut commands = Vec::with_capacity(keys.len() * names.len() * 2);
        for key in keys {
            for name in names {
                if asking == Asking::Yes {
                    commands.push(Command::named("ASKING"));
                }
                commands.push(Command::of_key(name, key));
            }
        }
        let replies = self.pipeline(class, commands).await;
        let replies = replies.map_err(|fault| self.at(fault))?;
        let each = match asking {
            Asking::No => 1,
            Asking::Yes => 2,
        };
        Ok(replies.into_iter().skip(each - 1).step_by(each).collect())
    }

    /// Reads `N` replies for each of `count` keys.
    fn read_each<const N: usize, T>(
        &self,
        count: usize,
        replies: Vec<Reply>,
        read: impl Fn([Reply; N]) -> Result<T, Fault>,
    ) -> Result<Vec<Result<T, ReadFault>>, ClientError> {
        let mut replies = replies.into_iter();
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            let mut is_short = false;
            let some = std::array::from_fn(|_| {
                replies.next().unwrap_or_else(|| {
                    is_short = true;
                    Reply::new("DUMP", redis::Value::Nil)
                })
            });
            if is_short {
                return Err(self.at(Fault::Malformed { command: "DUMP" }));
            }
            all.push(match read(some) {
                Ok(value) => Ok(value),
                // What is not a reply to the command ends the connection.
                Err(fault @ Fault::Malformed { .. }) => return Err(self.at(fault)),
                Err(fault) => Err(self.read_fault(fault)),
            });
        }
        Ok(all)
    }

    fn read_fault(&self, fault: Fault) -> ReadFault {
        match (redirect(&fault), &fault) {
            (Some(Redirect::Moved), _) => ReadFault::Moved,
            (Some(Redirect::Ask(node)), _) => ReadFault::Ask(node),
            (None, Fault::Loading | Fault::MasterDown | Fault::Busy(_)) => {
                ReadFault::NotNow(self.at(fault))
            }
            (None, Fault::Server { code, .. })
                if ["CLUSTERDOWN", "TRYAGAIN"].contains(&code.as_str()) =>
            {
                ReadFault::NotNow(self.at(fault))
            }
            (None, _) => ReadFault::Refused(self.at(fault)),
        }
    }

    /// RESTORE of each key (Redis ≥ 2.6); returns the result of each.
    pub async fn restore_many(
        &self,
        keys: &[Restoring<'_>],
        mode: RestoreMode,
        asking: Asking,
    ) -> Result<Vec<Result<(), RestoreFault>>, ClientError> {
        let mut commands = Vec::with_capacity(keys.len());
        for key in keys {
            if asking == Asking::Yes {
                commands.push(Command::named("ASKING"));
            }
            commands.push(restore(key, mode));
        }
        let bytes: usize = keys.iter().map(|key| key.payload.len()).sum();
        let more = Duration::from_secs(bytes as u64 / BYTES_PER_SECOND);
        let class = Deadline::Within(self.shared.command_timeout + more);
        let replies = self.pipeline(class, commands).await;
        let each = match asking {
            Asking::No => 1,
            Asking::Yes => 2,
        };
        Ok(replies
            .map_err(|fault| self.at(fault))?
            .into_iter()
            .skip(each - 1)
            .step_by(each)
            .map(|reply| reply.ok().map_err(|fault| self.restore_fault(fault)))
            .collect())
    }

    fn restore_fault(&self, fault: Fault) -> RestoreFault {
        match redirect(&fault) {
            Some(Redirect::Moved) => return RestoreFault::Moved,
            Some(Redirect::Ask(node)) => return RestoreFault::Ask(node),
            None => {}
        }
        let Fault::Server { code, message, .. } = &fault else {
            return match fault {
                Fault::Loading | Fault::MasterDown | Fault::Busy(_) => {
                    RestoreFault::NotNow(self.at(fault))
                }
                fault => RestoreFault::Refused(self.at(fault)),
            };
        };
        match code.as_str() {
            "BUSYKEY" => RestoreFault::BusyKey,
            "OOM" => RestoreFault::OutOfMemory,
            "CLUSTERDOWN" | "TRYAGAIN" | "READONLY" => RestoreFault::NotNow(self.at(fault)),
            _ if message.starts_with("DUMP payload version or checksum") => RestoreFault::Version,
            _ if message.starts_with("Bad data format") => RestoreFault::Format,
            _ => RestoreFault::Refused(self.at(fault)),
        }
    }

    /// WATCH (Redis ≥ 2.2): [`Self::unlink_watched`] does nothing if one of the keys changes.
    pub async fn watch_many(&self, keys: &[&[u8]]) -> Result<(), ClientError> {
        let command = keys
            .iter()
            .fold(Command::named("WATCH"), |command, key| command.key(key));
        self.query(Deadline::Read, command, Reply::ok).await?;
        self.shared.lines.set_watching(true);
        Ok(())
    }

    /// UNWATCH (Redis ≥ 2.2).
    pub async fn unwatch(&self) -> Result<(), ClientError> {
        let command = Command::named("UNWATCH");
        let unwatched = self.query(Deadline::Read, command, Reply::ok).await;
        self.shared.lines.set_watching(false);
        unwatched
    }

    /// UNLINK in a transaction (Redis ≥ 4.0): returns the number of deleted keys; `None` if a watched key had
    /// changed, and nothing was deleted. The keys are no longer watched afterwards.
    pub async fn unlink_watched(&self, keys: &[&[u8]]) -> Result<Option<u64>, ClientError> {
        let unlink = keys
            .iter()
            .fold(Command::named("UNLINK"), |command, key| command.key(key));
        let commands = vec![Command::named("MULTI"), unlink, Command::named("EXEC")];
        let replies = self.pipeline(Deadline::Change, commands).await;
        self.shared.lines.set_watching(false);
        let replies = replies.map_err(|fault| self.at(fault))?;
        let malformed = Fault::Malformed { command: "EXEC" };
        let [_, queued, executed] =
            <[Reply; 3]>::try_from(replies).map_err(|_| self.at(malformed))?;
        queued.word().map_err(|fault| self.at(fault))?;
        executed.executed_count().map_err(|fault| self.at(fault))
    }

    /// FUNCTION LOAD (Redis ≥ 7.0, Valkey): a library, for the engine that its first line names.
    pub async fn function_load(&self, code: &[u8], mode: RestoreMode) -> Result<(), ClientError> {
        let mut command = Command::named("FUNCTION LOAD");
        if mode == RestoreMode::Replace {
            command = command.word("REPLACE");
        }
        self.query(Deadline::Change, command.arg(code), |reply| {
            reply.bytes().map(drop)
        })
        .await
    }
}

impl Restoring<'_> {
    /// The time to live that RESTORE takes, and whether it is a point in time.
    pub(super) fn time(&self) -> (u64, bool) {
        match self.expires {
            Expiry::Never => (0, false),
            // 0 would mean never.
            Expiry::At(time) => (time.max(1), true),
            Expiry::In(left) => (left.max(1), false),
        }
    }

    /// The words after the payload.
    pub(super) fn options(&self, mode: RestoreMode) -> Vec<String> {
        let mut options = Vec::new();
        if mode == RestoreMode::Replace {
            options.push("REPLACE".to_string());
        }
        if self.time().1 {
            options.push("ABSTTL".to_string());
        }
        // Only one of them: a server has either an LRU or an LFU policy.
        if let Some(idle) = self.idle {
            options.extend(["IDLETIME".to_string(), idle.to_string()]);
        } else if let Some(frequency) = self.frequency {
            options.extend(["FREQ".to_string(), frequency.to_string()]);
        }
        options
    }
}

fn restore(key: &Restoring<'_>, mode: RestoreMode) -> Command {
    let command = Command::named("RESTORE")
        .key(key.key)
        .word(key.time().0)
        .arg(key.payload);
    key.options(mode)
        .into_iter()
        .fold(command, |command, option| command.word(option))
}

/// `10.0.0.4:6379`, or `::1:6379` as servers write it. A node may have no host to name (`cluster-preferred-endpoint-type`
/// `unknown-endpoint`, or `hostname` without one: `?`). For clients that means the host at which they asked, which is not
/// it where ports are mapped.
fn asked(text: &str) -> Option<AskedNode> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    Some(match host {
        "" | "?" => AskedNode::Importing,
        host => AskedNode::At(Addr::new(host, port)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_without_a_host_means_the_node_that_imports_the_slot() {
        let at = |host| Some(AskedNode::At(Addr::new(host, 6381)));
        assert_eq!(asked("10.0.0.5:6381"), at("10.0.0.5"));
        assert_eq!(asked("::1:6381"), at("::1"));
        assert_eq!(asked(":6381"), Some(AskedNode::Importing));
        assert_eq!(asked("?:6381"), Some(AskedNode::Importing));
        for text in ["", "6381", "10.0.0.5:", "10.0.0.5:x"] {
            assert_eq!(asked(text), None, "{text}");
        }
    }
}
