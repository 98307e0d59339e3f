//! Reads the value of one key in pieces, to compare it between two nodes.
//!
//! Every command is preceded by ASKING, which holds for one command, so that a node that imports the slot answers
//! too; the owner ignores it. The commands exist since Redis 3.2 unless a comment says otherwise.

use std::fmt;

use redis::ToRedisArgs;

use super::error::{ClientError, Fault};
use super::reply::Reply;
use super::{Command, Deadline, NodeClient};

/// The type of a value.
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
    /// An array (Redis ≥ 8.8).
    Array,
    /// A module's type, or a type that this program does not know.
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
            Self::Array => "an array",
            Self::Other => "a module type",
        })
    }
}

/// Type, time to live and size of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// The type of the value.
    pub kind: Kind,
    /// Milliseconds to live; `None` if the key does not expire.
    pub ttl: Option<u64>,
    /// Approximate bytes in memory; `None` where the server does not report them (Redis < 4.0, ACL).
    pub weight: Option<u64>,
}

/// A part of a value, only for comparison.
#[derive(Debug, PartialEq)]
pub struct Piece(Vec<redis::Value>);

/// Properties of a value, for comparison. What one server does not report is no difference.
#[derive(Debug)]
pub struct Facts(Vec<Option<redis::Value>>);

impl PartialEq for Facts {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|pair| match pair {
            (Some(one), Some(other)) => one == other,
            _ => true,
        })
    }
}

/// Members of a collection, and the position of the next ones.
#[derive(Debug)]
pub struct Scanned {
    /// The next cursor; 0 at the end.
    pub cursor: u64,
    /// Members; in hashes and sorted sets each is followed by its value or score.
    pub items: Vec<Vec<u8>>,
}

/// The id of a stream's entry: its time and its number in that millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(u64, u64);

impl StreamId {
    /// Sorts before every other id.
    pub const FIRST: Self = Self(0, 0);

    /// The next possible id; `None` after the last one.
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

/// A part of a stream, or of the pending entries of a group.
#[derive(Debug)]
pub struct Entries {
    /// The entries, for comparison.
    pub piece: Piece,
    /// The id of the last one; `None` if there is none.
    pub last: Option<StreamId>,
}

/// A part of an array.
#[derive(Debug)]
pub struct ArrayItems {
    /// The indexes and values, for comparison.
    pub piece: Piece,
    /// The index from which the next ones are read; `None` at the end.
    pub next: Option<u64>,
}

/// The highest index of an array.
const LAST_INDEX: u64 = u64::MAX - 1;

/// Reads one key on one node.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    client: &'a NodeClient,
    database: u32,
    key: &'a [u8],
}

impl NodeClient {
    /// Returns a reader of that key in that database.
    pub fn reader<'a>(&'a self, database: u32, key: &'a [u8]) -> Reader<'a> {
        Reader {
            client: self,
            database,
            key,
        }
    }
}

impl Reader<'_> {
    /// Type, time to live and size; `None` if the key does not exist, or has moved to another node.
    pub async fn glance(&self) -> Result<Option<Glance>, ClientError> {
        let Some(facts) = self.facts().await? else {
            return Ok(None);
        };
        let kind = match facts.type_name.as_str() {
            "string" => Kind::String,
            "list" => Kind::List,
            "set" => Kind::Set,
            "zset" => Kind::SortedSet,
            "hash" => Kind::Hash,
            "stream" => Kind::Stream,
            "array" => Kind::Array,
            _ => Kind::Other,
        };
        Ok(Some(Glance {
            kind,
            ttl: facts.ttl,
            weight: facts.memory,
        }))
    }

    /// The number of bytes or members.
    pub async fn length(&self, kind: Kind) -> Result<u64, ClientError> {
        let name = match kind {
            Kind::String | Kind::Other => "STRLEN",
            Kind::List => "LLEN",
            Kind::Set => "SCARD",
            Kind::SortedSet => "ZCARD",
            Kind::Hash => "HLEN",
            Kind::Stream => "XLEN",
            Kind::Array => "ARCOUNT",
        };
        self.one(self.on_key(name), Reply::count).await
    }

    /// GETRANGE: `count` bytes of a string from `from` on.
    pub async fn bytes(&self, from: u64, count: u64) -> Result<Piece, ClientError> {
        let command = self.on_key("GETRANGE").arg(from).arg(last(from, count));
        self.piece(command).await
    }

    /// LRANGE: `count` elements of a list from `from` on.
    pub async fn elements(&self, from: u64, count: u64) -> Result<Piece, ClientError> {
        let command = self.on_key("LRANGE").arg(from).arg(last(from, count));
        self.piece(command).await
    }

    /// SSCAN, ZSCAN or HSCAN: about `count` members, each at least once until the cursor is 0 again.
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

    /// ZSCORE of each; `None` for one that is not a member of the sorted set.
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

    /// HPEXPIRETIME (Redis ≥ 7.4, Valkey ≥ 9.0): when each field expires, in milliseconds since 1970; negative for
    /// never. `None` where the server has no field expiry.
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

    /// ARINFO (Redis ≥ 8.8): the properties of an array besides its items.
    pub async fn array_facts(&self) -> Result<Facts, ClientError> {
        const FACTS: [&str; 3] = ["count", "len", "next-insert-index"];
        self.one(self.on_key("ARINFO"), |reply| {
            facts(reply, &FACTS).map(Facts)
        })
        .await
    }

    /// ARSCAN (Redis ≥ 8.8): `count` items of an array from the index `from` on.
    pub async fn array_items(&self, from: u64, count: u64) -> Result<ArrayItems, ClientError> {
        let command = self.on_key("ARSCAN").arg(from).arg(LAST_INDEX);
        let command = command.arg("LIMIT").arg(count);
        self.one(command, array_items).await
    }

    /// XINFO STREAM (Redis ≥ 5.0): the properties of a stream besides its entries.
    pub async fn stream_facts(&self) -> Result<Facts, ClientError> {
        const FACTS: [&str; 5] = [
            "length",
            "last-generated-id",
            "max-deleted-entry-id",
            "entries-added",
            "groups",
        ];
        self.one(self.on_key("XINFO STREAM"), |reply| {
            facts(reply, &FACTS).map(Facts)
        })
        .await
    }

    /// XRANGE (Redis ≥ 5.0): `count` entries of a stream from `from` on.
    pub async fn entries(&self, from: StreamId, count: u64) -> Result<Entries, ClientError> {
        let command = self.on_key("XRANGE").arg(from.to_string());
        let command = command.arg("+").arg("COUNT").arg(count);
        self.one(command, |reply| entries(reply, &[])).await
    }

    /// XINFO GROUPS (Redis ≥ 5.0): the names of the groups, and their properties.
    pub async fn groups(&self) -> Result<(Vec<Vec<u8>>, Vec<Facts>), ClientError> {
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

    /// XINFO CONSUMERS (Redis ≥ 5.0): the consumers of a group, and the number of their pending entries. The idle
    /// time is not part of the value.
    pub async fn consumers(&self, group: &[u8]) -> Result<Vec<Facts>, ClientError> {
        let command = self.on_key("XINFO CONSUMERS").arg(group);
        let (_, facts) = self
            .one(command, |reply| named(reply, &["name", "pending"]))
            .await?;
        Ok(facts)
    }

    /// XPENDING (Redis ≥ 5.0): `count` pending entries of a group from `from` on, with consumer and delivery count.
    pub async fn pending(
        &self,
        group: &[u8],
        from: StreamId,
        count: u64,
    ) -> Result<Entries, ClientError> {
        /// Milliseconds since the last delivery: changes with every look.
        const IDLE: usize = 2;
        let command = self.on_key("XPENDING").arg(group).arg(from.to_string());
        let command = command.arg("+").arg(count);
        self.one(command, |reply| entries(reply, &[IDLE])).await
    }

    /// WATCH: from now on [`Self::is_unchanged`] reports whether the key was written. One key per connection at a
    /// time.
    pub async fn watch(&self) -> Result<(), ClientError> {
        self.one(self.on_key("WATCH"), Reply::ok).await
    }

    /// An empty MULTI and EXEC: whether the watched key is unchanged.
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

    pub(super) fn on_key(&self, name: &'static str) -> Command {
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

    pub(super) fn at(&self, fault: Fault) -> ClientError {
        self.client.at(fault)
    }

    pub(super) fn exactly<const N: usize>(
        &self,
        command: &'static str,
        replies: Vec<Reply>,
    ) -> Result<[Reply; N], ClientError> {
        <[Reply; N]>::try_from(replies).map_err(|_| self.client.at(Fault::Malformed { command }))
    }

    /// Sends commands, each preceded by ASKING, and omits the replies to ASKING.
    pub(super) async fn ask(&self, commands: Vec<Command>) -> Result<Vec<Reply>, ClientError> {
        let asking = |command| [Command::named("ASKING"), command];
        let commands = commands.into_iter().flat_map(asking).collect();
        let replies = self
            .client
            .in_database(self.database, Deadline::Read, commands)
            .await?;
        Ok(replies.into_iter().skip(1).step_by(2).collect())
    }
}

/// The index of the last of `count` from `from` on, as GETRANGE and LRANGE count.
fn last(from: u64, count: u64) -> u64 {
    from.saturating_add(count).saturating_sub(1)
}

fn with_each(command: Command, args: &[impl ToRedisArgs]) -> Command {
    args.iter().fold(command, |command, arg| command.arg(arg))
}

/// The values of these names in a flat list of names and values; `None` for a name that the server does not know.
fn facts(reply: Reply, wanted: &[&str]) -> Result<Vec<Option<redis::Value>>, Fault> {
    let mut facts = vec![None; wanted.len()];
    let mut parts = reply.parts()?.into_iter();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        let name = name.text()?;
        if let Some(place) = wanted.iter().position(|one| *one == name) {
            facts[place] = Some(value.value()?);
        }
    }
    Ok(facts)
}

/// A list of such lists, sorted by name, which is the first of the wanted facts.
fn named(reply: Reply, wanted: &[&str]) -> Result<(Vec<Vec<u8>>, Vec<Facts>), Fault> {
    let command = reply.command();
    let mut all = Vec::new();
    for part in reply.parts()? {
        let facts = facts(part, wanted)?;
        let Some(Some(redis::Value::BulkString(name))) = facts.first().cloned() else {
            return Err(Fault::Malformed { command });
        };
        all.push((name, Facts(facts)));
    }
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(all.into_iter().unzip())
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

/// Pairs of an index and a value. An index that exceeds a signed number is sent as text.
fn array_items(reply: Reply) -> Result<ArrayItems, Fault> {
    let command = reply.command();
    let mut last = None;
    let mut piece = Vec::new();
    for item in reply.parts()? {
        let values: Vec<redis::Value> = item
            .parts()?
            .into_iter()
            .map(Reply::value)
            .collect::<Result<_, _>>()?;
        let index = values.first().and_then(|index| match index {
            redis::Value::Int(index) => u64::try_from(*index).ok(),
            redis::Value::BulkString(text) => str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        });
        last = Some(index.ok_or(Fault::Malformed { command })?);
        piece.extend(values);
    }
    let next = last.filter(|last| *last < LAST_INDEX);
    Ok(ArrayItems {
        piece: Piece(piece),
        next: next.map(|last| last + 1),
    })
}
