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
use super::packed::{Cursor, charge, decimal, intset, listpack, listpack_within, ziplist, zipmap};
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

/// The limit of a decoded value that is compared, in bytes. A string may have 512 MiB.
const ROOM: usize = 520 << 20;
/// The limit of a decoded value that is converted, in bytes. Beyond it the key can't be written.
const CONVERTED: usize = 2 << 30;

/// Reads the items of a small collection that is one string.
type ReadItems = fn(&[u8], &mut usize) -> Option<Vec<Bytes>>;

/// Compares two replies to DUMP.
pub fn same_value(one: &[u8], other: &[u8]) -> Sameness {
    let (Ok(one), Ok(other)) = (Payload::read(one), Payload::read(other)) else {
        return Sameness::Unknown;
    };
    if one.value == other.value {
        return Sameness::Same;
    }
    match (Content::within(&one, ROOM), Content::within(&other, ROOM)) {
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

/// What servers of some versions do not write. Two values differ only if both are known.
#[derive(Debug)]
pub(super) struct Known<T>(Option<T>);

impl<T: PartialEq> PartialEq for Known<T> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        }
    }
}

/// A stream. The active time of a consumer is left out.
#[derive(Debug, PartialEq)]
pub(super) struct Stream {
    last_id: StreamId,
    /// The greatest id of a deleted entry, and the number of entries ever added (Redis ≥ 7.0).
    history: Known<(StreamId, u64)>,
    entries: Vec<(StreamId, Vec<Bytes>)>,
    groups: BTreeMap<Bytes, Group>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Group {
    last_id: StreamId,
    /// The number of entries that the group has read, as it was saved (Redis ≥ 7.0).
    read: Known<u64>,
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
    /// Starts after the type, to convert the value.
    pub(super) fn new(payload: &Payload<'a>) -> Option<Self> {
        Self::within(payload, CONVERTED)
    }

    fn within(payload: &Payload<'a>, room: usize) -> Option<Self> {
        Some(Self {
            cursor: Cursor(payload.value.get(1..)?),
            room,
        })
    }
}

impl Content {
    /// The content of a value that is converted; `None` if it can't be decoded.
    pub(super) fn of(payload: &Payload<'_>) -> Option<Self> {
        Self::within(payload, CONVERTED)
    }

    fn within(payload: &Payload<'_>, room: usize) -> Option<Self> {
        let encoding = payload.encoding()?;
        let mut inside = Inside::within(payload, room)?;
        let content = inside.content(encoding)?;
        inside.cursor.0.is_empty().then_some(content)
    }
}

impl Inside<'_> {
    fn content(&mut self, encoding: Encoding) -> Option<Content> {
        Some(match encoding {
            Encoding::String => Content::String(self.string()?),
            Encoding::List => Content::List(self.strings(1)?),
            Encoding::ListZiplist => Content::List(self.items(ziplist)?),
            Encoding::ListQuicklist => {
                let mut items = Vec::new();
                for _ in 0..self.length()? {
                    items.extend(self.items(ziplist)?);
                }
                Content::List(items)
            }
            Encoding::ListQuicklist2 => {
                let mut items = Vec::new();
                for _ in 0..self.length()? {
                    // One large item as it is, or many.
                    match self.length()? {
                        1 => items.push(self.string()?),
                        _ => items.extend(self.items(listpack_within)?),
                    }
                }
                Content::List(items)
            }
            Encoding::Set => set(self.strings(1)?),
            Encoding::SetIntset => set(self.items(intset)?),
            Encoding::SetListpack => set(self.items(listpack_within)?),
            Encoding::ZSet => self.zset(|inside| match inside.cursor.byte()? {
                253 => Some(f64::NAN),
                254 => Some(f64::INFINITY),
                255 => Some(f64::NEG_INFINITY),
                length => score(inside.cursor.bytes(usize::from(length))?),
            })?,
            Encoding::ZSet2 => {
                self.zset(|inside| Some(f64::from_le_bytes(inside.cursor.array()?)))?
            }
            Encoding::ZSetZiplist => zset(self.items(ziplist)?)?,
            Encoding::ZSetListpack => zset(self.items(listpack_within)?)?,
            Encoding::Hash => hash(self.strings(2)?)?,
            Encoding::HashZipmap => hash(self.items(zipmap)?)?,
            Encoding::HashZiplist => hash(self.items(ziplist)?)?,
            Encoding::HashListpack => hash(self.items(listpack_within)?)?,
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
                hash_of_triples(&self.items(listpack_within)?)?
            }
            Encoding::HashListpackExPreGa => hash_of_triples(&self.items(listpack_within)?)?,
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
                let mut values = listpack(&self.string()?)?.into_iter();
                values.next()?;
                paired(fields, values.collect())?
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
                let bits = self.passing()?;
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
            let bytes = self.cursor.bytes(length)?;
            charge(&mut self.room, length)?;
            return Some(bytes.to_vec());
        };
        self.cursor.byte()?;
        let string = match special {
            INT8 => decimal(i64::from(i8::from_le_bytes(self.cursor.array()?))),
            INT16 => decimal(i64::from(i16::from_le_bytes(self.cursor.array()?))),
            INT32 => decimal(i64::from(i32::from_le_bytes(self.cursor.array()?))),
            LZF => {
                let packed = usize::try_from(self.length()?).ok()?;
                let length = self.length()?;
                lzf::expand(self.cursor.bytes(packed)?, length, self.room)?
            }
            _ => return None,
        };
        charge(&mut self.room, string.len())?;
        Some(string)
    }

    /// Reads a string that is not kept.
    pub(super) fn passing(&mut self) -> Option<Bytes> {
        let room = self.room;
        let string = self.string()?;
        self.room = room;
        Some(string)
    }

    fn items(&mut self, read: ReadItems) -> Option<Vec<Bytes>> {
        let packed = self.passing()?;
        read(&packed, &mut self.room)
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
            FIELDS_LISTPACK => self.items(listpack_within),
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
            charge(&mut self.room, 0)?;
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
            let first: [u8; 16] = self.passing()?.try_into().ok()?;
            let packed = self.passing()?;
            stream_entries(&first, &packed, &mut self.room, &mut entries)?;
        }
        self.length()?;
        let last_id = self.id()?;
        let history = match version {
            2.. => {
                // The first id follows from the entries.
                self.id()?;
                Some((self.id()?, self.length()?))
            }
            _ => None,
        };
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
            history: Known(history),
            entries,
            groups,
        })))
    }

    fn group(&mut self, version: u8) -> Option<Group> {
        let last_id = self.id()?;
        let read = match version {
            2.. => Some(self.length()?),
            _ => None,
        };
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
            read: Known(read),
            pending,
            consumers,
        })
    }

    /// The ids of producers are remembered for a while only: not part of the comparison.
    fn producers(&mut self) -> Option<()> {
        self.id()?;
        for _ in 0..self.length()? {
            self.passing()?;
            for _ in 0..self.length()? {
                self.passing()?;
                self.id()?;
            }
        }
        self.id().map(drop)
    }
}

/// The entries of one listpack of a stream (t_stream.c, above streamAppendItem). Fields that stand in it once are in each
/// entry.
fn stream_entries(
    first: &[u8; 16],
    packed: &[u8],
    room: &mut usize,
    entries: &mut Vec<(StreamId, Vec<Bytes>)>,
) -> Option<()> {
    const DELETED: i64 = 1;
    const SAME_FIELDS: i64 = 2;
    let (high, low) = first.split_at(8);
    let milliseconds = u64::from_be_bytes(high.try_into().ok()?);
    let number = u64::from_be_bytes(low.try_into().ok()?);
    // What is kept of them is charged below.
    let mut left = *room;
    let mut items = listpack_within(packed, &mut left)?.into_iter();
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
        let before = *room;
        charge(room, 0)?;
        let mut pairs = Vec::new();
        let mut keep = |item: Bytes| {
            charge(room, item.len())?;
            pairs.push(item);
            Some(())
        };
        if flags & SAME_FIELDS != 0 {
            for field in &fields {
                keep(field.clone())?;
                keep(next()?)?;
            }
        } else {
            for _ in 0..integer(next()?)?.checked_mul(2)? {
                keep(next()?)?;
            }
        }
        // The number of items of the entry.
        next()?;
        if flags & DELETED == 0 {
            entries.push((id, pairs));
        } else {
            *room = before;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn content(value: &[u8], room: usize) -> Option<Content> {
        Content::within(&Payload { value, version: 10 }, room)
    }

    /// A value of that type that is one string, of less than 16 KiB.
    fn of_one_string(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        let length = 0x4000 | bytes.len() as u16;
        [&[encoding.number()][..], &length.to_be_bytes(), bytes].concat()
    }

    fn in_listpack(items: &[u8], count: u16) -> Vec<u8> {
        let total = items.len() as u32 + 7;
        let head = [&total.to_le_bytes()[..], &count.to_le_bytes()].concat();
        [&head[..], items, &[0xff]].concat()
    }

    #[test]
    fn items_take_room_besides_their_bytes() {
        let numbers: Vec<u8> = (0..1000_u16).flat_map(u16::to_le_bytes).collect();
        let set = [&2_u32.to_le_bytes()[..], &1000_u32.to_le_bytes(), &numbers].concat();
        let small: Vec<u8> = (0..1000).flat_map(|_| [7, 1]).collect();
        let listpack = in_listpack(&small, 1000);
        let mut ziplist = [0; 10].to_vec();
        (0..1000).for_each(|_| ziplist.extend([2, 0xf2]));
        ziplist.push(0xff);
        let total = ziplist.len() as u32;
        ziplist[..4].copy_from_slice(&total.to_le_bytes());
        let mut strings = vec![Encoding::List.number(), 0x43, 0xe8];
        (0..1000).for_each(|_| strings.extend([1, b'x']));
        for value in [
            of_one_string(Encoding::SetIntset, &set),
            of_one_string(Encoding::SetListpack, &listpack),
            of_one_string(Encoding::ListZiplist, &ziplist),
            strings,
        ] {
            let count = |content| match content {
                Content::Set(items) | Content::List(items) => items.len(),
                other => panic!("{other:?}"),
            };
            assert_eq!(content(&value, 50_000), None);
            assert_eq!(content(&value, 70_000).map(count), Some(1000));
        }
    }

    /// A stream has the name of a field once, and each entry gets a copy.
    #[test]
    fn copied_names_of_fields_take_room() {
        let number = |number: u8| [number, 1];
        let name = [&[0xe3, 0xe8][..], &[b'f'; 1000], &[0x87, 0x6a]].concat();
        let mut items = [number(50), number(0), number(1)].concat();
        items.extend(name);
        items.extend(number(0));
        for n in 0..50 {
            // The same fields, the id, the value, the number of items.
            items.extend([2, 0, n, 7, 4].map(number).concat());
        }
        let packed = in_listpack(&items, 255);
        let length = 0x4000 | packed.len() as u16;
        let mut value = vec![Encoding::Stream.number(), 1, 16];
        value.extend([0; 16]);
        value.extend(length.to_be_bytes());
        value.extend(packed);
        // The length, the last id, no groups.
        value.extend([50, 0, 49, 0]);
        assert!(value.len() < 2_000);
        assert_eq!(content(&value, 40_000), None);
        let Some(Content::Stream(stream)) = content(&value, 80_000) else {
            panic!("not read");
        };
        assert_eq!(stream.entries.len(), 50);
        assert_eq!(stream.entries[9].1, [vec![b'f'; 1000], b"7".to_vec()]);
    }
}
