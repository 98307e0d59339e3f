//! Older forms of a value, for servers that do not know the newer one.
//!
//! A collection is written one item after the other, a form that every server reads. A stream loses what an older
//! server has no field for: the active time of a consumer (before Redis 7.2), the number of entries ever added
//! (before 7.0). It has no older form if data would be lost: pending entries that no consumer has (before 8.8), ids
//! of producers (before 8.6).

use std::ops::Range;

use super::encoding::Encoding;
use super::inside::{Bytes, Content, Inside};
use super::packed::listpack;
use super::payload::{Payload, frame};

/// Converts a payload of RESTORE to the next older form of the same value; `None` if there is none.
pub fn older(payload: &[u8]) -> Option<(Vec<u8>, Encoding)> {
    let payload = Payload::read(payload).ok()?;
    let encoding = payload.encoding()?;
    let older = encoding.older()?;
    let mut value = vec![older.number()];
    match encoding {
        Encoding::Stream5 => shorter(&payload, 5, &mut value)?,
        Encoding::Stream4 => shorter(&payload, 4, &mut value)?,
        Encoding::Stream3 => shorter(&payload, 3, &mut value)?,
        Encoding::Stream2 => shorter(&payload, 2, &mut value)?,
        Encoding::ListQuicklist2 => list(&payload, &mut value)?,
        _ => plain(Content::of(&payload)?, &mut value)?,
    }
    Some((frame(value, older.version()), older))
}

/// Converts a hash with field TTLs to the form of the other product, which neither reads of the other one; `None` for all
/// other values.
pub fn translated(payload: &[u8]) -> Option<(Vec<u8>, Encoding)> {
    let payload = Payload::read(payload).ok()?;
    let other = payload.encoding()?.of_other_product()?;
    let Content::Hash(fields) = Content::of(&payload)? else {
        return None;
    };
    let first = fields.values().filter_map(|(_, expires)| *expires).min();
    let Some(first) = first else {
        let mut value = vec![Encoding::Hash.number()];
        plain(Content::Hash(fields), &mut value)?;
        return Some((frame(value, Encoding::Hash.version()), Encoding::Hash));
    };
    let mut value = vec![other.number()];
    if other == Encoding::HashMetadata {
        value.extend_from_slice(&first.to_le_bytes());
    }
    length(fields.len() as u64, &mut value);
    for (field, (text, expires)) in fields {
        if other == Encoding::HashMetadata {
            length(expires.map_or(0, |expires| expires - first + 1), &mut value);
        }
        string(&field, &mut value);
        string(&text, &mut value);
        if other == Encoding::ValkeyHash2 {
            let expires = expires.map(i64::try_from).transpose().ok()?;
            value.extend_from_slice(&expires.unwrap_or(-1).to_le_bytes());
        }
    }
    Some((frame(value, other.version()), other))
}

/// Writes the items of a collection.
fn plain(content: Content, out: &mut Vec<u8>) -> Option<()> {
    match content {
        Content::Set(members) => {
            length(members.len() as u64, out);
            for member in members {
                string(&member, out);
            }
        }
        Content::ZSet(members) => {
            length(members.len() as u64, out);
            for (member, score) in members {
                string(&member, out);
                out.extend_from_slice(&score.to_le_bytes());
            }
        }
        Content::Hash(fields) => {
            length(fields.len() as u64, out);
            for (field, (value, expires)) in fields {
                if expires.is_some() {
                    return None;
                }
                string(&field, out);
                string(&value, out);
            }
        }
        _ => return None,
    }
    Some(())
}

/// Writes the items of a list, node by node: a list may be large.
fn list(payload: &Payload<'_>, out: &mut Vec<u8>) -> Option<()> {
    let mut inside = Inside::new(payload)?;
    let mut items = Vec::new();
    let mut count = 0;
    for _ in 0..inside.length()? {
        let node: Vec<Bytes> = match inside.length()? {
            1 => vec![inside.string()?],
            _ => listpack(&inside.string()?)?,
        };
        count += node.len() as u64;
        for item in node {
            string(&item, &mut items);
        }
    }
    length(count, out);
    out.append(&mut items);
    Some(())
}

/// Writes a stream of that version without what the version has added.
fn shorter(payload: &Payload<'_>, version: u8, out: &mut Vec<u8>) -> Option<()> {
    let mut parts = StreamParts {
        inside: Inside::new(payload)?,
        whole: payload.value.len(),
        version,
        added: Vec::new(),
    };
    parts.stream()?;
    if !parts.inside.cursor.0.is_empty() {
        return None;
    }
    let mut from = 1;
    for part in parts.added {
        out.extend_from_slice(payload.value.get(from..part.start)?);
        from = part.end;
    }
    out.extend_from_slice(payload.value.get(from..)?);
    Some(())
}

/// Finds the parts of a stream that its version has added.
struct StreamParts<'a> {
    inside: Inside<'a>,
    /// The length of type and value.
    whole: usize,
    version: u8,
    /// Positions in type and value.
    added: Vec<Range<usize>>,
}

impl StreamParts<'_> {
    fn position(&self) -> usize {
        self.whole - self.inside.cursor.0.len()
    }

    /// Reads a part that came with `version`.
    fn part<T>(&mut self, version: u8, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<()> {
        if self.version < version {
            return Some(());
        }
        let start = self.position();
        read(self)?;
        if self.version == version {
            let end = self.position();
            self.added.push(start..end);
        }
        Some(())
    }

    fn lengths(&mut self, count: usize) -> Option<()> {
        for _ in 0..count {
            self.inside.length()?;
        }
        Some(())
    }

    fn each(&mut self, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        for _ in 0..self.inside.length()? {
            item(self)?;
        }
        Some(())
    }

    fn bytes(&mut self, count: usize) -> Option<()> {
        self.inside.cursor.bytes(count).map(drop)
    }

    fn string(&mut self) -> Option<()> {
        self.inside.passing().map(drop)
    }

    /// The layout stands in `extent.rs`.
    fn stream(&mut self) -> Option<()> {
        self.each(|node| {
            node.string()?;
            node.string()
        })?;
        self.lengths(3)?;
        self.part(2, |parts| parts.lengths(5))?;
        self.each(Self::group)?;
        self.part(4, |parts| {
            parts.lengths(2)?;
            let producers = parts.inside.length()?;
            // A server that does not know them would take a message twice.
            (producers == 0 || parts.version > 4).then_some(())?;
            for _ in 0..producers {
                parts.string()?;
                parts.each(|added| {
                    added.string()?;
                    added.lengths(2)
                })?;
            }
            parts.lengths(2)
        })
    }

    fn group(&mut self) -> Option<()> {
        self.string()?;
        self.lengths(2)?;
        self.part(2, |parts| parts.lengths(1))?;
        self.each(|pending| {
            pending.bytes(24)?;
            pending.lengths(1)
        })?;
        self.each(|consumer| {
            consumer.string()?;
            consumer.bytes(8)?;
            consumer.part(3, |parts| parts.bytes(8))?;
            consumer.each(|pending| pending.bytes(16))
        })?;
        self.part(5, |parts| {
            // Each of them is pending, and older servers want a consumer for it.
            (parts.inside.length()? == 0).then_some(())
        })
    }
}

/// Writes a string as it is.
pub(super) fn string(bytes: &[u8], out: &mut Vec<u8>) {
    length(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Writes a length (rdb.c, rdbSaveLen).
pub(super) fn length(length: u64, out: &mut Vec<u8>) {
    match length {
        0..0x40 => out.push(length as u8),
        0x40..0x4000 => out.extend_from_slice(&(0x4000 | length as u16).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}
