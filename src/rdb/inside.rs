//! Compares two values for equality, independent of how each is encoded.
//!
//! Equal payloads are equal values, but unequal payloads may be equal values too: sets and hashes are written in the
//! order of their tables, and small collections in other encodings than large ones (and by older servers). Both
//! values are therefore decoded by type, and unordered items are sorted.

use std::collections::BTreeMap;

use super::encoding::Encoding;
use super::extent::{
    FIELDS_LISTPACK, FIELDS_ONE_BY_ONE, INT8, INT16, INT32, ITEM_FLOAT, ITEM_INTEGER,
    ITEM_SHORT_STRING, ITEM_STRING, LZF,
};
use super::lzf;
use super::packed::{Cursor, decimal, intset, listpack, ziplist, zipmap};
use super::payload::Payload;
use super::roaring::{Container, containers};

/// The result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sameness {
    /// The values are equal.
    Same,
    /// The values differ.
    Different,
    /// Undecidable: a module's value, an unknown type, or more than fits into memory.
    Unknown,
}

/// The limit of both decoded values together, in bytes.
const ROOM: usize = 1 << 30;

/// Compares two replies to DUMP.
pub fn same_value(one: &[u8], other: &[u8]) -> Sameness {
    let (Ok(one), Ok(other)) = (Payload::read(one), Payload::read(other)) else {
        return Sameness::Unknown;
    };
    if one.value == other.value {
        return Sameness::Same;
    }
    match (Content::of(&one), Content::of(&other)) {
        (Some(one), Some(other)) if one == other => Sameness::Same,
        (Some(_), Some(_)) => Sameness::Different,
        _ => Sameness::Unknown,
    }
}

pub(super) type Bytes = Vec<u8>;
/// A stream id: milliseconds and number.
pub(super) type StreamId = (u64, u64);

/// A value as clients see it.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    String(Bytes),
    List(Vec<Bytes>),
    Set(Vec<Bytes>),
    /// Scores as bits, with -0 as 0.
    ZSet(BTreeMap<Bytes, u64>),
    /// Values, and when the field expires.
    Hash(BTreeMap<Bytes, (Bytes, Option<u64>)>),
    Stream(Box<Stream>),
    Array(Array),
    /// The length in bytes, and the bits.
    Bitmap(u64, Vec<Container>),
}

#[derive(Debug, PartialEq)]
pub(super) struct Array {
    items: BTreeMap<u64, ArrayItem>,
    /// The index of the last ARINSERT.
    inserted: Option<u64>,
}

/// An item of an array. Integers are text: clients see no difference.
#[derive(Debug, PartialEq)]
pub(super) enum ArrayItem {
    Text(Bytes),
    /// The bits of a number.
    Float(u64),
}

/// A stream. What servers of some versions do not write (the active time of a consumer, the number of entries ever
/// added) is left out.
#[derive(Debug, PartialEq)]
pub(super) struct Stream {
    last_id: StreamId,
    entries: Vec<(StreamId, Vec<Bytes>)>,
    groups: BTreeMap<Bytes, Group>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Group {
    last_id: StreamId,
    /// The delivery time and the delivery count.
    pending: BTreeMap<[u8; 16], (u64, u64)>,
    consumers: BTreeMap<Bytes, Vec<[u8; 16]>>,
}

/// The bytes of a value, and how much more may be decoded.
pub(super) struct Inside<'a> {
    pub(super) cursor: Cursor<'a>,
    room: usize,
}

impl<'a> Inside<'a> {
    /// Starts after the type.
    pub(super) fn new(payload: &Payload<'a>) -> Option<Self> {
        Some(Self {
            cursor: Cursor(payload.value.get(1..)?),
            room: ROOM / 2,
        })
    }
}

impl Content {
    /// Returns `None` if the value can't be decoded.
    pub(super) fn of(payload: &Payload<'_>) -> Option<Self> {
        let encoding = payload.encoding()?;
        let mut inside = Inside::new(payload)?;
        let content = inside.content(encoding)?;
        inside.cursor.0.is_empty().then_some(content)
    }
}

impl Inside<'_> {
    fn content(&mut self, encoding: Encoding) -> Option<Content> {
        Some(match encoding {
            Encoding::String => Content::String(self.string()?),
            Encoding::List => Content::List(self.strings(1)?),
            Encoding::ListZiplist => Content::List(ziplist(&self.string()?)?),
            Encoding::ListQuicklist => {
                let mut items = Vec::new();
                for _ in 0..self.length()? {
                    items.extend(ziplist(&self.string()?)?);
                }
                Content::List(items)
            }
            Encoding::ListQuicklist2 => {
                let mut items = Vec::new();
                for _ in 0..self.length()? {
                    // One large item as it is, or many.
                    match self.length()? {
                        1 => items.push(self.string()?),
                        _ => items.extend(listpack(&self.string()?)?),
                    }
                }
                Content::List(items)
            }
            Encoding::Set => set(self.strings(1)?),
            Encoding::SetIntset => set(intset(&self.string()?)?),
            Encoding::SetListpack => set(listpack(&self.string()?)?),
            Encoding::ZSet => self.zset(|inside| match inside.cursor.byte()? {
                253 => Some(f64::NAN),
                254 => Some(f64::INFINITY),
                255 => Some(f64::NEG_INFINITY),
                length => score(inside.cursor.bytes(usize::from(length))?),
            })?,
            Encoding::ZSet2 => {
                self.zset(|inside| Some(f64::from_le_bytes(inside.cursor.array()?)))?
            }
            Encoding::ZSetZiplist => zset(ziplist(&self.string()?)?)?,
            Encoding::ZSetListpack => zset(listpack(&self.string()?)?)?,
            Encoding::Hash => hash(self.strings(2)?)?,
            Encoding::HashZipmap => hash(zipmap(&self.string()?)?)?,
            Encoding::HashZiplist => hash(ziplist(&self.string()?)?)?,
            Encoding::HashListpack => hash(listpack(&self.string()?)?)?,
            Encoding::HashMetadata => {
                let least = u64::from_le_bytes(self.cursor.array()?);
                // The offset from the first expiry, plus 1; 0 for fields that do not expire.
                self.hash_with_ttls(|ttl| match ttl {
                    0 => None,
                    ttl => Some(least.saturating_add(ttl - 1)),
                })?
            }
            Encoding::HashMetadataPreGa => self.hash_with_ttls(|ttl| (ttl != 0).then_some(ttl))?,
            Encoding::HashListpackEx => {
                self.cursor.bytes(8)?;
                hash_of_triples(&listpack(&self.string()?)?)?
            }
            Encoding::HashListpackExPreGa => hash_of_triples(&listpack(&self.string()?)?)?,
            Encoding::ValkeyHash2 => {
                let mut fields = BTreeMap::new();
                for _ in 0..self.length()? {
                    let (field, value) = (self.string()?, self.string()?);
                    let expires = i64::from_le_bytes(self.cursor.array()?);
                    fields.insert(field, (value, u64::try_from(expires).ok()));
                }
                Content::Hash(fields)
            }
            Encoding::Stream => self.stream(1)?,
            Encoding::Stream2 => self.stream(2)?,
            Encoding::Stream3 => self.stream(3)?,
            Encoding::Stream4 => self.stream(4)?,
            Encoding::Stream5 => self.stream(5)?,
            Encoding::Array => self.array()?,
            Encoding::TemplateListpack => {
                let fields = self.fields()?;
                // The id of the template comes first.
                let values = listpack(&self.string()?)?.split_off(1);
                paired(fields, values)?
            }
            Encoding::TemplateArray => {
                let fields = self.fields()?;
                let values = fields
                    .iter()
                    .map(|_| self.string())
                    .collect::<Option<_>>()?;
                paired(fields, values)?
            }
            Encoding::Bitmap => {
                let length = self.length()?;
                let bits = self.string()?;
                Content::Bitmap(length, containers(&bits, self.room)?)
            }
            // A reference means nothing without its file.
            Encoding::TemplateListpackRef | Encoding::TemplateArrayRef | Encoding::Module2 => {
                return None;
            }
        })
    }

    pub(super) fn length(&mut self) -> Option<u64> {
        let first = self.cursor.byte()?;
        match (first >> 6, first) {
            (0, _) => Some(u64::from(first)),
            (1, _) => Some(u64::from(first & 0x3f) << 8 | u64::from(self.cursor.byte()?)),
            (_, 0x80) => Some(u64::from(u32::from_be_bytes(self.cursor.array()?))),
            (_, 0x81) => Some(u64::from_be_bytes(self.cursor.array()?)),
            _ => None,
        }
    }

    pub(super) fn string(&mut self) -> Option<Bytes> {
        let special = match self.cursor.0.first()? {
            first if first >> 6 == 3 => Some(first & 0x3f),
            _ => None,
        };
        let Some(special) = special else {
            let length = usize::try_from(self.length()?).ok()?;
            return Some(self.cursor.bytes(length)?.to_vec());
        };
        self.cursor.byte()?;
        Some(match special {
            INT8 => decimal(i64::from(i8::from_le_bytes(self.cursor.array()?))),
            INT16 => decimal(i64::from(i16::from_le_bytes(self.cursor.array()?))),
            INT32 => decimal(i64::from(i32::from_le_bytes(self.cursor.array()?))),
            LZF => {
                let packed = usize::try_from(self.length()?).ok()?;
                let length = self.length()?;
                let string = lzf::expand(self.cursor.bytes(packed)?, length, self.room)?;
                self.room -= string.len();
                string
            }
            _ => return None,
        })
    }

    /// Reads `each` strings for every item of the next length.
    fn strings(&mut self, each: usize) -> Option<Vec<Bytes>> {
        let mut strings = Vec::new();
        for _ in 0..self.length()? {
            for _ in 0..each {
                strings.push(self.string()?);
            }
        }
        Some(strings)
    }

    fn zset(&mut self, score: impl Fn(&mut Self) -> Option<f64>) -> Option<Content> {
        let mut members = BTreeMap::new();
        for _ in 0..self.length()? {
            let member = self.string()?;
            members.insert(member, folded(score(self)?));
        }
        Some(Content::ZSet(members))
    }

    fn hash_with_ttls(&mut self, expires: impl Fn(u64) -> Option<u64>) -> Option<Content> {
        let mut fields = BTreeMap::new();
        for _ in 0..self.length()? {
            let ttl = self.length()?;
            let (field, value) = (self.string()?, self.string()?);
            fields.insert(field, (value, expires(ttl)));
        }
        Some(Content::Hash(fields))
    }

    /// Reads the fields of a template.
    fn fields(&mut self) -> Option<Vec<Bytes>> {
        match self.length()? {
            FIELDS_LISTPACK => listpack(&self.string()?),
            format if format == u64::from(FIELDS_ONE_BY_ONE) => self.strings(1),
            _ => None,
        }
    }

    fn array(&mut self) -> Option<Content> {
        let mut items = BTreeMap::new();
        let count = self.length()?;
        let inserted = match self.length()? {
            0 => None,
            1 => Some(self.length()?),
            _ => return None,
        };
        for _ in 0..count {
            let index = self.length()?;
            let item = match self.length()? {
                ITEM_STRING | ITEM_SHORT_STRING => ArrayItem::Text(self.string()?),
                ITEM_INTEGER => ArrayItem::Text(decimal(i64::from_le_bytes(self.cursor.array()?))),
                ITEM_FLOAT => ArrayItem::Float(u64::from_le_bytes(self.cursor.array()?)),
                _ => return None,
            };
            items.insert(index, item);
        }
        Some(Content::Array(Array { items, inserted }))
    }

    fn id(&mut self) -> Option<StreamId> {
        Some((self.length()?, self.length()?))
    }

    fn stream(&mut self, version: u8) -> Option<Content> {
        let mut entries = Vec::new();
        for _ in 0..self.length()? {
            let first: [u8; 16] = self.string()?.try_into().ok()?;
            let packed = self.string()?;
            stream_entries(&first, &packed, &mut entries)?;
        }
        self.length()?;
        let last_id = self.id()?;
        if version >= 2 {
            for _ in 0..5 {
                self.length()?;
            }
        }
        let mut groups = BTreeMap::new();
        for _ in 0..self.length()? {
            let name = self.string()?;
            groups.insert(name, self.group(version)?);
        }
        if version >= 4 {
            self.producers()?;
        }
        Some(Content::Stream(Box::new(Stream {
            last_id,
            entries,
            groups,
        })))
    }

    fn group(&mut self, version: u8) -> Option<Group> {
        let last_id = self.id()?;
        if version >= 2 {
            self.length()?;
        }
        let mut pending = BTreeMap::new();
        for _ in 0..self.length()? {
            let id = self.cursor.array()?;
            let delivered = u64::from_le_bytes(self.cursor.array()?);
            pending.insert(id, (delivered, self.length()?));
        }
        let mut consumers = BTreeMap::new();
        for _ in 0..self.length()? {
            let name = self.string()?;
            self.cursor.bytes(if version >= 3 { 16 } else { 8 })?;
            let mut theirs = Vec::new();
            for _ in 0..self.length()? {
                theirs.push(self.cursor.array()?);
            }
            theirs.sort_unstable();
            consumers.insert(name, theirs);
        }
        if version >= 5 {
            // Pending entries that no consumer has: the comparison of both lists covers them.
            for _ in 0..self.length()? {
                self.cursor.bytes(16)?;
            }
        }
        Some(Group {
            last_id,
            pending,
            consumers,
        })
    }

    /// The ids of producers are remembered for a while only: not part of the comparison.
    fn producers(&mut self) -> Option<()> {
        self.id()?;
        for _ in 0..self.length()? {
            self.string()?;
            for _ in 0..self.length()? {
                self.string()?;
                self.id()?;
            }
        }
        self.id().map(drop)
    }
}

/// The entries of one listpack of a stream (t_stream.c, above streamAppendItem).
fn stream_entries(
    first: &[u8; 16],
    packed: &[u8],
    entries: &mut Vec<(StreamId, Vec<Bytes>)>,
) -> Option<()> {
    const DELETED: i64 = 1;
    const SAME_FIELDS: i64 = 2;
    let (high, low) = first.split_at(8);
    let milliseconds = u64::from_be_bytes(high.try_into().ok()?);
    let number = u64::from_be_bytes(low.try_into().ok()?);
    let mut items = listpack(packed)?.into_iter();
    let mut next = || items.next();
    let integer = |item: Bytes| -> Option<i64> { std::str::from_utf8(&item).ok()?.parse().ok() };
    let count = integer(next()?)?.checked_add(integer(next()?)?)?;
    let fields: Vec<Bytes> = (0..integer(next()?)?)
        .map(|_| next())
        .collect::<Option<_>>()?;
    next()?;
    for _ in 0..count {
        let flags = integer(next()?)?;
        let id = (
            milliseconds.wrapping_add_signed(integer(next()?)?),
            number.wrapping_add_signed(integer(next()?)?),
        );
        let mut pairs = Vec::new();
        if flags & SAME_FIELDS != 0 {
            for field in &fields {
                pairs.push(field.clone());
                pairs.push(next()?);
            }
        } else {
            for _ in 0..integer(next()?)?.checked_mul(2)? {
                pairs.push(next()?);
            }
        }
        // The number of items of the entry.
        next()?;
        if flags & DELETED == 0 {
            entries.push((id, pairs));
        }
    }
    Some(())
}

fn set(mut members: Vec<Bytes>) -> Content {
    members.sort_unstable();
    Content::Set(members)
}

fn score(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn folded(score: f64) -> u64 {
    (score + 0.0).to_bits()
}

fn zset(items: Vec<Bytes>) -> Option<Content> {
    let mut members = BTreeMap::new();
    let mut items = items.into_iter();
    while let Some(member) = items.next() {
        members.insert(member, folded(score(&items.next()?)?));
    }
    Some(Content::ZSet(members))
}

fn hash(items: Vec<Bytes>) -> Option<Content> {
    let mut fields = BTreeMap::new();
    let mut items = items.into_iter();
    while let Some(field) = items.next() {
        fields.insert(field, (items.next()?, None));
    }
    Some(Content::Hash(fields))
}

fn paired(fields: Vec<Bytes>, values: Vec<Bytes>) -> Option<Content> {
    if fields.len() != values.len() {
        return None;
    }
    let pairs = values.into_iter().map(|value| (value, None));
    Some(Content::Hash(fields.into_iter().zip(pairs).collect()))
}

/// Field, value, and when the field expires: 0 for never.
fn hash_of_triples(items: &[Bytes]) -> Option<Content> {
    let mut fields = BTreeMap::new();
    for triple in items.chunks(3) {
        let [field, value, expires] = triple else {
            return None;
        };
        let expires: u64 = std::str::from_utf8(expires).ok()?.parse().ok()?;
        let expires = (expires != 0).then_some(expires);
        fields.insert(field.clone(), (value.clone(), expires));
    }
    Some(Content::Hash(fields))
}
