//! Compares the value of one key on two nodes, piece by piece, so that neither this program nor the servers hold the
//! whole of a large value at once.
//!
//! The order of a hash table depends on the process, and encodings on the version, so values are compared by type.

use crate::client::{ClientError, Kind, Reader, StreamId};

/// About as many bytes are requested at a time.
const PIECE: u64 = 256 << 10;
/// The most members at a time.
const MEMBERS: u64 = 512;

/// Why two values are not known to be equal.
pub enum Unequal {
    /// They differ; the text says in what, without values.
    At(String),
    /// They could not be read.
    Unread(ClientError),
}

impl From<ClientError> for Unequal {
    fn from(error: ClientError) -> Self {
        Self::Unread(error)
    }
}

/// Nothing where both are the same.
fn same<T: PartialEq>(here: &T, there: &T, what: &str) -> Result<(), Unequal> {
    if here == there {
        Ok(())
    } else {
        Err(Unequal::At(format!("they differ in {what}")))
    }
}

/// How many members weigh about as much as a piece may.
fn members(weight: u64, length: u64) -> u64 {
    let each = weight / length.max(1);
    (PIECE / each.max(1)).clamp(1, MEMBERS)
}

/// Compares two values of the same type, of about `weight` bytes. The first reader is of the source, the second of the
/// target.
pub async fn same_pieces(
    here: Reader<'_>,
    there: Reader<'_>,
    kind: Kind,
    weight: u64,
) -> Result<(), Unequal> {
    if kind == Kind::Other {
        return Err(Unequal::At(
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
        return Err(Unequal::At(format!(
            "{mine} {of} at the source, {other} at the target"
        )));
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
) -> Result<(), Unequal> {
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

async fn arrays(here: Reader<'_>, there: Reader<'_>, count: u64) -> Result<(), Unequal> {
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

async fn streams(here: Reader<'_>, there: Reader<'_>, count: u64) -> Result<(), Unequal> {
    let (mine, other) = tokio::try_join!(here.stream_facts(), there.stream_facts())?;
    same(
        &mine,
        &other,
        "the facts of their streams (length, ids or number of groups)",
    )?;
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
