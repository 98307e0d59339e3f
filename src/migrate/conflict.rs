//! Whether a key that is on both ends has the same value there.
//!
//! Equal DUMPs prove equal values; unequal ones prove nothing, since the order in a hash table
//! depends on the process (a set of 1,000 members that was moved with COPY dumped differently). So
//! what dumps differently is held against each other by its type, in pieces of some hundred
//! kilobytes: neither we nor the servers have the whole of a large value at hand at once.
//!
//! Clients may write meanwhile. At the source: each piece of the target's copy was equal to what the
//! source had at some moment, and what the source has since is newer, so that nothing is lost when the
//! source's value is sent over the copy. At the target (with ASKING only): the key is watched there, and
//! a copy that changed under the comparison is not equal.

use std::sync::Arc;
use std::time::Duration;

use super::End;
use crate::client::{ClientError, Fault, Glance, Kind, NodeClient, Reader, StreamId};
use crate::connections::Connections;

/// About as many bytes are asked for at a time.
const PIECE: u64 = 256 << 10;
/// As many members at a time at most.
const MEMBERS: u64 = 512;
/// Values up to this size are dumped; the servers' main threads do that in one go.
const DUMPED: u64 = 1 << 20;
/// The same for values that can't be compared in another way.
const DUMPED_AT_MOST: u64 = 16 << 20;
/// How often a key that clients write at the target is looked at again.
const LOOKS: usize = 3;

/// What holding two copies against each other came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The source has no such key any more.
    Gone,
    /// Only the source has it.
    LockHeld,
    /// Both have the same.
    Equal,
    /// They differ, or it is not known that they are the same. The text says how, without values.
    Differ(String),
}

/// A connection to either end, for this alone: what is too large to be read ends a connection.
pub(super) struct Comparison {
    source: NodeClient,
    target: NodeClient,
    /// The allowed difference of times to live: MIGRATE sends the remaining time, and takes some time
    /// itself.
    ttl_slack: u64,
}

/// Where two copies part.
enum Parted {
    /// Here, in words.
    At(String),
    /// They could not be read.
    Unread(ClientError),
}

impl From<ClientError> for Parted {
    fn from(error: ClientError) -> Self {
        Self::Unread(error)
    }
}

/// Nothing where both are the same.
fn same<T: PartialEq>(here: &T, there: &T, what: &str) -> Result<(), Parted> {
    if here == there {
        Ok(())
    } else {
        Err(Parted::At(format!("they differ in {what}")))
    }
}

impl Comparison {
    pub(super) async fn open(
        connections: &Arc<Connections>,
        source: &End,
        target: &End,
        on_its_way: Duration,
    ) -> Result<Self, ClientError> {
        let (source, target) = tokio::try_join!(
            connections.own(&source.target),
            connections.own(&target.target),
        )?;
        let slack = on_its_way.max(Duration::from_secs(5));
        Ok(Self {
            source,
            target,
            ttl_slack: u64::try_from(slack.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Compares one key of one database.
    pub(super) async fn of(&self, database: u32, key: &[u8]) -> Result<Verdict, ClientError> {
        let (here, there) = (
            self.source.reader(database, key),
            self.target.reader(database, key),
        );
        for _ in 0..LOOKS {
            let watched = match there.watch().await {
                Ok(()) => true,
                // Without the permission, assume that clients of the target do not change the key.
                Err(error) if matches!(error.fault, Fault::NoPermission { .. }) => false,
                Err(error) => return Err(error),
            };
            let verdict = self.compare(here, there, database, key).await;
            // A connection that has ended watches nothing any more.
            let lost = matches!(&verdict, Err(error) if error.outcome_unknown());
            let unchanged = lost || !watched || there.is_unchanged().await?;
            match verdict {
                Ok(Verdict::Equal) if !unchanged => {}
                verdict => return verdict,
            }
        }
        Ok(Verdict::Differ(
            "it is being written at the target".to_string(),
        ))
    }

    async fn compare(
        &self,
        here: Reader<'_>,
        there: Reader<'_>,
        database: u32,
        key: &[u8],
    ) -> Result<Verdict, ClientError> {
        let glances = tokio::try_join!(here.glance(), there.glance())?;
        let (mine, other) = match glances {
            (None, _) => return Ok(Verdict::Gone),
            (Some(_), None) => return Ok(Verdict::LockHeld),
            (Some(mine), Some(other)) => (mine, other),
        };
        if mine.kind != other.kind {
            return Ok(Verdict::Differ(format!(
                "{} here, {} there",
                mine.kind, other.kind
            )));
        }
        let weight = |glance: Glance| glance.weight.unwrap_or(0);
        let heavier = weight(mine).max(weight(other));
        let may_be_dumped = match mine.kind {
            Kind::Other => DUMPED_AT_MOST,
            _ => DUMPED,
        };
        let dumps_are_equal = async {
            let (mine, other) = tokio::try_join!(
                self.source.dump(database, key),
                self.target.dump(database, key)
            )?;
            Ok::<_, ClientError>(mine == other)
        };
        let parted = if heavier <= may_be_dumped && dumps_are_equal.await? {
            Ok(())
        } else {
            by_kind(here, there, mine.kind, heavier).await
        };
        match parted.and_then(|()| self.same_ttl(mine, other)) {
            Ok(()) => Ok(Verdict::Equal),
            Err(Parted::At(place)) => Ok(Verdict::Differ(place)),
            Err(Parted::Unread(error)) => match error.fault {
                // It left, or expired, meanwhile.
                Fault::Server { ref code, .. } if code == "ASK" => Ok(Verdict::Gone),
                Fault::NoPermission { .. } | Fault::TooLarge { .. } => {
                    Ok(Verdict::Differ(format!("they can't be compared: {error}")))
                }
                _ if error.is_unknown_command() => {
                    Ok(Verdict::Differ(format!("they can't be compared: {error}")))
                }
                _ => Err(error),
            },
        }
    }

    fn same_ttl(&self, mine: Glance, other: Glance) -> Result<(), Parted> {
        let same = match (mine.ttl, other.ttl) {
            (None, None) => true,
            (Some(mine), Some(other)) => mine.abs_diff(other) <= self.ttl_slack,
            _ => false,
        };
        if same {
            Ok(())
        } else {
            Err(Parted::At("they differ in their time to live".to_string()))
        }
    }
}

/// How many members weigh about as much as a piece may.
fn members(weight: u64, length: u64) -> u64 {
    let each = weight / length.max(1);
    (PIECE / each.max(1)).clamp(1, MEMBERS)
}

async fn by_kind(
    here: Reader<'_>,
    there: Reader<'_>,
    kind: Kind,
    weight: u64,
) -> Result<(), Parted> {
    if kind == Kind::Other {
        return Err(Parted::At(
            "they dump differently, and are of a module's type".to_string(),
        ));
    }
    let (mine, other) = tokio::try_join!(here.length(kind), there.length(kind))?;
    if mine != other {
        let of = match kind {
            Kind::String => "bytes",
            Kind::Stream => "entries",
            _ => "members",
        };
        return Err(Parted::At(format!("{mine} {of} here, {other} there")));
    }
    match kind {
        Kind::String => {
            for from in steps(mine, PIECE) {
                let (mine, other) =
                    tokio::try_join!(here.bytes(from, PIECE), there.bytes(from, PIECE))?;
                same(&mine, &other, "their bytes")?;
            }
            Ok(())
        }
        Kind::List => {
            let count = members(weight, mine);
            for from in steps(mine, count) {
                let (mine, other) =
                    tokio::try_join!(here.elements(from, count), there.elements(from, count))?;
                same(&mine, &other, "their elements")?;
            }
            Ok(())
        }
        Kind::Set | Kind::SortedSet | Kind::Hash => {
            let count = members(weight, mine);
            let mut cursor = 0;
            loop {
                let scanned = here.scan(kind, cursor, count).await?;
                for items in scanned.items.chunks(2 * MEMBERS as usize) {
                    held_by(kind, items, here, there).await?;
                }
                cursor = scanned.cursor;
                if cursor == 0 {
                    return Ok(());
                }
            }
        }
        Kind::Stream => streams(here, there, members(weight, mine)).await,
        Kind::Array => arrays(here, there, members(weight, mine)).await,
        Kind::Other => Ok(()),
    }
}

fn steps(length: u64, step: u64) -> impl Iterator<Item = u64> {
    (0..length.div_ceil(step)).map(move |n| n * step)
}

/// Whether the other one has these members too. As many as here it has, so it has no others.
async fn held_by(
    kind: Kind,
    items: &[Vec<u8>],
    here: Reader<'_>,
    there: Reader<'_>,
) -> Result<(), Parted> {
    let firsts: Vec<&[u8]> = match kind {
        Kind::Set => items.iter().map(Vec::as_slice).collect(),
        _ => items.iter().step_by(2).map(Vec::as_slice).collect(),
    };
    if firsts.is_empty() {
        return Ok(());
    }
    let seconds = items.iter().skip(1).step_by(2);
    match kind {
        Kind::Set => {
            let has = there.has(&firsts).await?;
            same(&has, &vec![true; firsts.len()], "their members")
        }
        Kind::SortedSet => {
            // Versions write the same number in different ways.
            let number = |text: &[u8]| -> Option<f64> { str::from_utf8(text).ok()?.parse().ok() };
            let mine: Vec<_> = seconds.map(|score| number(score)).collect();
            let other = there.scores(&firsts).await?;
            let other: Vec<_> = other.iter().map(|score| number(score.as_ref()?)).collect();
            same(&mine, &other, "their scores")
        }
        _ => {
            let mine: Vec<_> = seconds.map(|value| Some(value.clone())).collect();
            same(&mine, &there.values(&firsts).await?, "their fields")?;
            let times = tokio::try_join!(here.field_times(&firsts), there.field_times(&firsts))?;
            let never = || vec![-1; firsts.len()];
            let mine = times.0.unwrap_or_else(never);
            let other = times.1.unwrap_or_else(never);
            same(&mine, &other, "when their fields expire")
        }
    }
}

async fn arrays(here: Reader<'_>, there: Reader<'_>, count: u64) -> Result<(), Parted> {
    let (mine, other) = tokio::try_join!(here.array_facts(), there.array_facts())?;
    same(&mine, &other, "what their arrays have seen")?;
    let mut next = Some(0);
    while let Some(from) = next {
        let (mine, other) = tokio::try_join!(
            here.array_items(from, count),
            there.array_items(from, count)
        )?;
        same(&mine.piece, &other.piece, "their items")?;
        next = mine.next;
    }
    Ok(())
}

async fn streams(here: Reader<'_>, there: Reader<'_>, count: u64) -> Result<(), Parted> {
    let (mine, other) = tokio::try_join!(here.stream_facts(), there.stream_facts())?;
    same(&mine, &other, "what their streams have seen")?;
    let mut next = Some(StreamId::FIRST);
    while let Some(from) = next {
        let (mine, other) =
            tokio::try_join!(here.entries(from, count), there.entries(from, count))?;
        same(&mine.piece, &other.piece, "their entries")?;
        next = mine.last.and_then(StreamId::next);
    }
    let (mine, other) = tokio::try_join!(here.groups(), there.groups())?;
    same(&mine, &other, "their groups")?;
    for group in &mine.0 {
        let (mine, other) = tokio::try_join!(here.consumers(group), there.consumers(group))?;
        same(&mine, &other, "the consumers of a group")?;
        let mut next = Some(StreamId::FIRST);
        while let Some(from) = next {
            let (mine, other) = tokio::try_join!(
                here.pending(group, from, MEMBERS),
                there.pending(group, from, MEMBERS)
            )?;
            same(
                &mine.piece,
                &other.piece,
                "what a group has not acknowledged",
            )?;
            next = mine.last.and_then(StreamId::next);
        }
    }
    Ok(())
}
