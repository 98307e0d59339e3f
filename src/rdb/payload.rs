//! The payload of DUMP and RESTORE: type, value, RDB version, checksum.

use super::crc64::{checksum, digest};
use super::encoding::{Dialect, Encoding};
use super::input::Piece;
use super::older::{length, string};
use super::reader::module_name;

/// The bytes of version (2) and checksum (8) at the end.
const FOOTER: usize = 10;

/// The most bytes before a string: its type, and its length.
const LONGEST_HEAD: usize = 10;

/// RESTORE exists since this version (Redis 2.6).
const OLDEST: u16 = 6;

/// The first version that is Valkey's own; Redis is far below it.
const VALKEY_FROM: u16 = 80;

/// A value preceded by its type, as in an RDB file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload<'a> {
    /// Type and value.
    pub value: &'a [u8],
    /// The RDB version of the payload.
    pub version: u16,
}

/// The bytes are not a reply to DUMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a reply to DUMP: the checksum is wrong")]
pub struct NotAPayload;

impl<'a> Payload<'a> {
    /// Parses a reply to DUMP. Servers that write no checksum in RDB files still write one here.
    pub fn read(dump: &'a [u8]) -> Result<Self, NotAPayload> {
        let (value, footer) = dump
            .len()
            .checked_sub(FOOTER)
            .filter(|length| *length > 0)
            .map(|length| dump.split_at(length))
            .ok_or(NotAPayload)?;
        let (version, sum) = footer.split_at(2);
        let computed = checksum(&dump[..value.len() + 2]);
        if sum != computed.to_le_bytes() {
            return Err(NotAPayload);
        }
        Ok(Self {
            value,
            version: u16::from_le_bytes([version[0], version[1]]),
        })
    }

    /// The product whose type numbers are used, as far as the version tells.
    pub fn dialect(&self) -> Dialect {
        match self.version {
            VALKEY_FROM.. => Dialect::Valkey,
            _ => Dialect::Redis,
        }
    }

    /// The encoding of the value; `None` if it is unknown.
    pub fn encoding(&self) -> Option<Encoding> {
        Encoding::of(*self.value.first()?, self.dialect(), self.version)
    }

    /// Returns the oldest version for the payload: the first one with its type.
    ///
    /// A server checks the version and then reads the value by its type alone: a type that an older server knows is
    /// safe there, and one that it does not know is still refused by the version. The version of an unknown type
    /// stays.
    fn oldest_version(&self) -> u16 {
        self.encoding().map_or(self.version, Encoding::version)
    }
}

/// Returns the module type of a value, if it has one: its id follows the number of the type, as a length of eight
/// bytes (rdb.c, rdbSaveObjectType and rdbSaveObject).
pub fn module_type(payload: &[u8]) -> Option<String> {
    let [_, 0x81, id @ ..] = payload else {
        return None;
    };
    let encoding = Encoding::of(*payload.first()?, Dialect::Redis, OLDEST);
    let id = id
        .first_chunk()
        .filter(|_| encoding == Some(Encoding::Module2))?;
    Some(module_name(u64::from_be_bytes(*id)))
}

/// Converts a reply to DUMP for RESTORE on as many servers as possible, and returns the encoding of its value if it
/// is known. Invalid bytes stay as they are: the server decides.
pub fn portable(mut dump: Vec<u8>) -> (Vec<u8>, Option<Encoding>) {
    let Ok(read) = Payload::read(&dump) else {
        return (dump, None);
    };
    let (version, encoding) = (read.oldest_version(), read.encoding());
    // In place: a value may have 512 MiB.
    dump.truncate(read.value.len());
    (frame(dump, version), encoding)
}

/// The string of a reply to DUMP that has it as it is, if the checksum is right.
pub fn text_of_dump(dump: &[u8]) -> Option<&[u8]> {
    // The checksum last: other types have theirs computed elsewhere.
    text_of(dump).filter(|_| Payload::read(dump).is_ok())
}

/// The string of a payload that has it as it is: not a number, and not compressed. The checksum is not verified.
pub fn text_of(payload: &[u8]) -> Option<&[u8]> {
    let (value, _) = payload.split_at_checked(payload.len().checked_sub(FOOTER)?)?;
    let (&kind, value) = value.split_first()?;
    if kind != Encoding::String.number() {
        return None;
    }
    let (&first, rest) = value.split_first()?;
    // The forms of a length: the two highest bits, or the whole byte (rdb.h, RDB_6BITLEN and following).
    let (bytes, text) = match (first >> 6, first) {
        (0, _) => (u64::from(first), rest),
        (1, _) => {
            let (&second, text) = rest.split_first()?;
            (u64::from(first & 0x3f) << 8 | u64::from(second), text)
        }
        (2, 0x80) => {
            let (four, text) = rest.split_first_chunk()?;
            (u64::from(u32::from_be_bytes(*four)), text)
        }
        (2, 0x81) => {
            let (eight, text) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*eight), text)
        }
        _ => return None,
    };
    (text.len() as u64 == bytes).then_some(text)
}

/// The payload of RESTORE for a string.
pub fn payload_of_text(text: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(text.len() + FOOTER + LONGEST_HEAD);
    value.push(Encoding::String.number());
    string(text, &mut value);
    frame(value, Encoding::String.version())
}

/// The same for a string in pieces, which are not copied.
pub fn payload_of_pieces(text: Vec<Piece>) -> Vec<Piece> {
    let bytes: usize = text.iter().map(|piece| piece.len()).sum();
    let mut head = vec![Encoding::String.number()];
    length(bytes as u64, &mut head);
    let mut footer = Encoding::String
        .version()
        .max(OLDEST)
        .to_le_bytes()
        .to_vec();
    let mut sum = digest();
    sum.update(&head);
    text.iter().for_each(|piece| sum.update(piece));
    sum.update(&footer);
    footer.extend_from_slice(&sum.finalize().to_le_bytes());
    let mut payload = Vec::with_capacity(text.len() + 2);
    payload.push(Piece::from(head));
    payload.extend(text);
    payload.push(Piece::from(footer));
    payload
}

/// Appends version and checksum to a value that is preceded by its type.
pub(super) fn frame(mut value: Vec<u8>, version: u16) -> Vec<u8> {
    value.reserve_exact(FOOTER);
    value.extend_from_slice(&version.max(OLDEST).to_le_bytes());
    let sum = checksum(&value);
    value.extend_from_slice(&sum.to_le_bytes());
    value
}
