//! One key's value, read piece by piece: what it takes to tell whether two nodes hold the same.
//!
//! Every command is preceded by ASKING, which holds for one command, so that a node that imports the
//! slot answers too; one that owns it passes it over. Commands of Redis 3.2, unless said otherwise.

use std::fmt;

use redis::ToRedisArgs;

use super::error::{ClientError, Fault};
use super::reply::Reply;
use super::{Command, Deadline, NodeClient};

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    String,
    /// A list.
    List,
    /// A set.
    Set,
    /// A sorted set.
    SortedSet,
    /// A hash.
    Hash,
    /// A stream (Redis ≥ 5.0).
    Stream,
    /// A module's type, or one that is younger than this program.
    Other,
}

/// `a string`, `a sorted set`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "a string",
            Self::List => "a list",
            Self::Set => "a set",
            Self::SortedSet => "a sorted set",
            Self::Hash => "a hash",
            Self::Stream => "a stream",
            Self::Other => "a module's type",
        })
    }
}

/// A key at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// What it holds.
    pub kind: Kind,
    /// Milliseconds that it has to live; `None` where it lives for ever.
    pub ttl: Option<u64>,
    /// Bytes in memory, about; `None` where the server does not tell (Redis < 4.0, ACL).
    pub weight: Option<u64>,
}

/// Values that can be held against each other, and are nothing else to us.
#[derive(Debug, PartialEq)]
pub struct Piece(Vec<redis::Value>);

/// Members of a collection, and where the next ones are.
#[derive(Debug)]
pub struct Scanned {
    /// Where to go on; 0 at the end.
    pub cursor: u64,
    /// Members; fields or members each followed by its value or score, where there are any.
    pub items: Vec<Vec<u8>>,
}

/// An entry of a stream: its time and its number in that millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(u64, u64);

impl StreamId {
    /// Before every other.
    pub const FIRST: Self = Self(0, 0);

    /// The next one that may be; `None` after the last of all.
    pub fn next(self) -> Option<Self> {
        match (self.0, self.1) {
            (time, number) if number < u64::MAX => Some(Self(time, number + 1)),
            (time, _) => Some(Self(time.checked_add(1)?, 0)),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (time, number) = std::str::from_utf8(bytes).ok()?.split_once('-')?;
        Some(Self(time.parse().ok()?, number.parse().ok()?))
    }
}

/// `1526919030474-55`.
impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// A part of a stream, or of what a group has not acknowledged.
#[derive(Debug)]
pub struct Entries {
    /// The entries, to be compared.
    pub piece: Piece,
    /// The last of them; `None` where there is none.
    pub last: Option<StreamId>,
}

/// Reads one key on one node.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    client: &'a NodeClient,
    database: u32,
    key: &'a [u8],
}

impl NodeClient {
    /// Reads that key of that database.
    pub fn reader<'a>(&'a self, database: u32, key: &'a [u8]) -> Reader<'a> {
        Reader {
            client: self,
            database,
            key,
        }
    }
}

impl Reader<'_> {
    /// TYPE, PTTL and MEMORY USAGE (Redis ≥ 4.0); `None` where the key is not there, or has left for
    /// another node.
    pub async fn glance(&self) -> Result<Option<Glance>, ClientError> {
        let commands = vec![
            self.on_key("TYPE"),
            self.on_key("PTTL"),
            self.on_key("MEMORY USAGE"),
        ];
        let replies = match self.ask(commands).await {
            Err(error) if error.server_code() == Some("ASK") => return Ok(None),
            replies => replies?,
        };
        let [kind, ttl, weight] = self.exactly("TYPE", replies)?;
        let kind = match kind.word() {
            Err(Fault::Server { code, .. }) if code == "ASK" => return Ok(None),
            word => word.map_err(|fault| self.client.at(fault))?,
        };
        let kind = match kind.as_str() {
            "none" => return Ok(None),
            "string" => Kind::String,
            "list" => Kind::List,
            "set" => Kind::Set,
            "zset" => Kind::SortedSet,
            "hash" => Kind::Hash,
            "stream" => Kind::Stream,
            _ => Kind::Other,
        };
        let ttl = match ttl.integer() {
            // It went between the two.
            Err(Fault::Server { code, .. }) if code == "ASK" => return Ok(None),
            Ok(-2) => return Ok(None),
            ttl => u64::try_from(ttl.map_err(|fault| self.client.at(fault))?).ok(),
        };
        Ok(Some(Glance {
            kind,
            ttl,
            weight: weight.count().ok(),
        }))
    }

    /// How many bytes or members it has.
    pub async fn length(&self, kind: Kind) -> Result<u64, ClientError> {
        let name = match kind {
            Kind::String | Kind::Other => "STRLEN",
            Kind::List => "LLEN",
            Kind::Set => "SCARD",
            Kind::SortedSet => "ZCARD",
            Kind::Hash => "HLEN",
            Kind::Stream => "XLEN",
        };
        self.one(self.on_key(name), Reply::count).await
    }

    /// GETRANGE: so many bytes of a string from there on.
    pub async fn bytes(&self, from: u64, count: u64) -> Result<Piece, ClientError> {
        let command = self.on_key("GETRANGE").arg(from).arg(last(from, count));
        self.piece(command).await
    }

    /// LRANGE: so many elements of a list from there on.
    pub async fn elements(&self, from: u64, count: u64) -> Result<Piece, ClientError> {
        let command = self.on_key("LRANGE").arg(from).arg(last(from, count));
        self.piece(command).await
    }

    /// SSCAN, ZSCAN or HSCAN: about so many members, each at least once until the cursor is 0 again.
    pub async fn scan(&self, kind: Kind, cursor: u64, count: u64) -> Result<Scanned, ClientError> {
        let name = match kind {
            Kind::SortedSet => "ZSCAN",
            Kind::Hash => "HSCAN",
            _ => "SSCAN",
        };
        let command = self.on_key(name).arg(cursor).arg("COUNT").arg(count);
        self.one(command, |reply| {
            let malformed = || Fault::Malformed { command: name };
            let [cursor, items] =
                <[Reply; 2]>::try_from(reply.parts()?).map_err(|_| malformed())?;
            Ok(Scanned {
                cursor: cursor.text()?.parse().map_err(|_| malformed())?,
                items: items.byte_strings()?,
            })
        })
        .await
    }

    /// SISMEMBER of each: whether it is a member of the set.
    pub async fn has(&self, members: &[&[u8]]) -> Result<Vec<bool>, ClientError> {
        let commands = members.iter().map(|m| self.on_key("SISMEMBER").arg(*m));
        let replies = self.ask(commands.collect()).await?;
        let has = |reply: Reply| reply.count().map(|count| count == 1);
        self.each(replies, has)
    }

    /// ZSCORE of each; `None` for one that is no member of the sorted set.
    pub async fn scores(&self, members: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, ClientError> {
        let commands = members.iter().map(|m| self.on_key("ZSCORE").arg(*m));
        let replies = self.ask(commands.collect()).await?;
        self.each(replies, Reply::bytes)
    }

    /// HMGET: the value of each field; `None` for one that the hash does not have.
    pub async fn values(&self, fields: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, ClientError> {
        let command = with_each(self.on_key("HMGET"), fields);
        self.one(command, |reply| {
            reply.parts()?.into_iter().map(Reply::bytes).collect()
        })
        .await
    }

    /// HPEXPIRETIME (Redis ≥ 7.4, Valkey ≥ 9.0): when each field expires, in milliseconds since 1970;
    /// negative for never. `None` where fields of hashes don't expire.
    pub async fn field_times(&self, fields: &[&[u8]]) -> Result<Option<Vec<i64>>, ClientError> {
        let command = self.on_key("HPEXPIRETIME").arg("FIELDS").arg(fields.len());
        let times = self
            .one(with_each(command, fields), |reply| {
                reply.parts()?.into_iter().map(Reply::integer).collect()
            })
            .await;
        match times {
            Err(error) if error.is_unknown_command() => Ok(None),
            times => times.map(Some),
        }
    }

    /// XINFO STREAM (Redis ≥ 5.0): what a stream knows beside its entries.
    pub async fn stream_facts(&self) -> Result<Piece, ClientError> {
        const FACTS: [&str; 5] = [
            "length",
            "last-generated-id",
            "max-deleted-entry-id",
            "entries-added",
            "groups",
        ];
        self.one(self.on_key("XINFO STREAM"), |reply| {
            facts(reply, &FACTS).map(Piece)
        })
        .await
    }

    /// XRANGE (Redis ≥ 5.0): so many entries of a stream from that one on.
    pub async fn entries(&self, from: StreamId, count: u64) -> Result<Entries, ClientError> {
        let command = self.on_key("XRANGE").arg(from.to_string());
        let command = command.arg("+").arg("COUNT").arg(count);
        self.one(command, |reply| entries(reply, &[])).await
    }

    /// XINFO GROUPS (Redis ≥ 5.0): the groups' names, and what they know.
    pub async fn groups(&self) -> Result<(Vec<Vec<u8>>, Piece), ClientError> {
        const FACTS: [&str; 5] = [
            "name",
            "consumers",
            "pending",
            "last-delivered-id",
            "entries-read",
        ];
        self.one(self.on_key("XINFO GROUPS"), |reply| named(reply, &FACTS))
            .await
    }

    /// XINFO CONSUMERS (Redis ≥ 5.0): the consumers of a group, and how much they have not
    /// acknowledged. Since when they are idle is no part of the value.
    pub async fn consumers(&self, group: &[u8]) -> Result<Piece, ClientError> {
        let command = self.on_key("XINFO CONSUMERS").arg(group);
        let (_, piece) = self
            .one(command, |reply| named(reply, &["name", "pending"]))
            .await?;
        Ok(piece)
    }

    /// XPENDING (Redis ≥ 5.0): so many entries that a group's consumers have not acknowledged, from
    /// that one on: whose they are, and how often they were delivered.
    pub async fn pending(
        &self,
        group: &[u8],
        from: StreamId,
        count: u64,
    ) -> Result<Entries, ClientError> {
        /// Milliseconds since the last delivery: another one with every look.
        const IDLE: usize = 2;
        let command = self.on_key("XPENDING").arg(group).arg(from.to_string());
        let command = command.arg("+").arg(count);
        self.one(command, |reply| entries(reply, &[IDLE])).await
    }

    /// WATCH: from now on [`Self::is_unchanged`] tells whether anybody wrote the key. One key on one
    /// connection at a time.
    pub async fn watch(&self) -> Result<(), ClientError> {
        self.one(self.on_key("WATCH"), Reply::ok).await
    }

    /// MULTI and EXEC of nothing: whether the key that is watched still is what it was.
    pub async fn is_unchanged(&self) -> Result<bool, ClientError> {
        let commands = vec![Command::named("MULTI"), Command::named("EXEC")];
        let replies = self.client.pipeline(Deadline::Read, commands).await;
        let replies = replies.map_err(|fault| self.client.at(fault))?;
        let [multi, exec] = self.exactly("EXEC", replies)?;
        multi
            .ok()
            .and_then(|()| exec.nil())
            .map(|dropped| !dropped)
            .map_err(|fault| self.client.at(fault))
    }

    fn on_key(&self, name: &'static str) -> Command {
        Command::named(name).arg(self.key)
    }

    async fn piece(&self, command: Command) -> Result<Piece, ClientError> {
        self.one(command, |reply| Ok(Piece(vec![reply.value()?])))
            .await
    }

    async fn one<T>(
        &self,
        command: Command,
        read: impl FnOnce(Reply) -> Result<T, Fault>,
    ) -> Result<T, ClientError> {
        let name = command.name;
        let replies = self.ask(vec![command]).await?;
        let [reply] = self.exactly(name, replies)?;
        read(reply).map_err(|fault| self.client.at(fault))
    }

    fn each<T>(
        &self,
        replies: Vec<Reply>,
        read: impl Fn(Reply) -> Result<T, Fault>,
    ) -> Result<Vec<T>, ClientError> {
        let read = replies.into_iter().map(read);
        read.collect::<Result<_, _>>()
            .map_err(|fault| self.client.at(fault))
    }

    fn exactly<const N: usize>(
        &self,
        command: &'static str,
        replies: Vec<Reply>,
    ) -> Result<[Reply; N], ClientError> {
        <[Reply; N]>::try_from(replies).map_err(|_| self.client.at(Fault::Malformed { command }))
    }

    /// Sends commands, each with ASKING in front, and leaves out what is said to that.
    async fn ask(&self, commands: Vec<Command>) -> Result<Vec<Reply>, ClientError> {
        let asking = |command| [Command::named("ASKING"), command];
        let commands = commands.into_iter().flat_map(asking).collect();
        let replies = self
            .client
            .in_database(self.database, Deadline::Read, commands)
            .await?;
        Ok(replies.into_iter().skip(1).step_by(2).collect())
    }
}

/// The last of `count` from there on, as GETRANGE and LRANGE count.
fn last(from: u64, count: u64) -> u64 {
    from.saturating_add(count).saturating_sub(1)
}

fn with_each(command: Command, args: &[impl ToRedisArgs]) -> Command {
    args.iter().fold(command, |command, arg| command.arg(arg))
}

/// The values of these names in a flat list of names and values; a name that the server does not
/// know is passed over.
fn facts(reply: Reply, wanted: &[&str]) -> Result<Vec<redis::Value>, Fault> {
    let mut facts = Vec::with_capacity(wanted.len());
    let mut parts = reply.parts()?.into_iter();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        if wanted.contains(&name.text()?.as_str()) {
            facts.push(value.value()?);
        }
    }
    Ok(facts)
}

/// Such lists in a list, in the order of their names, which are the first of the wanted facts.
fn named(reply: Reply, wanted: &[&str]) -> Result<(Vec<Vec<u8>>, Piece), Fault> {
    let command = reply.command();
    let mut all = Vec::new();
    for part in reply.parts()? {
        let facts = facts(part, wanted)?;
        let Some(redis::Value::BulkString(name)) = facts.first().cloned() else {
            return Err(Fault::Malformed { command });
        };
        all.push((name, redis::Value::Array(facts)));
    }
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    let (names, facts) = all.into_iter().unzip();
    Ok((names, Piece(facts)))
}

/// Entries that begin with their id, without the columns of these numbers.
fn entries(reply: Reply, without: &[usize]) -> Result<Entries, Fault> {
    let command = reply.command();
    let mut last = None;
    let mut piece = Vec::new();
    for entry in reply.parts()? {
        for (column, part) in entry.parts()?.into_iter().enumerate() {
            let value = part.value()?;
            if let (0, redis::Value::BulkString(id)) = (column, &value) {
                let id = StreamId::parse(id).ok_or(Fault::Malformed { command })?;
                last = Some(id);
            }
            if !without.contains(&column) {
                piece.push(value);
            }
        }
    }
    Ok(Entries {
        piece: Piece(piece),
        last,
    })
}
