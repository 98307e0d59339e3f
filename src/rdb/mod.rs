//! RDB files: the records, the extent of each value, and the conversion of a value to a RESTORE payload.
//!
//! The bytes of a value after its type are the same in an RDB file and in the reply to DUMP (compared on Redis 6.2 to
//! 8.10 and Valkey 8.0 to 9.1). A value is therefore copied without being interpreted: its [`extent`](Reader) is found
//! by skipping strings and numbers. Only [`same_value`] and [`older()`] look inside.
//!
//! Hashes with templates (Redis 8.10) are the exception: the file has the field names once, ahead of all keys, and
//! RESTORE wants them in the value. The [`Reader`] keeps the templates and puts them there.
//!
//! Files are untrusted: no length in a file makes the reader allocate more than it has read, and the kept bytes of
//! one value have a limit ([`Keep`]). An unknown type or opcode is an error that names it, and nothing after it is
//! read, because the end of such a record is unknown ([`Unread`]).
//!
//! Redis and Valkey assign type numbers from 22 and opcodes up to 243 differently; the first bytes of a file say which
//! of them wrote it.

mod crc64;
mod encoding;
mod extent;
mod input;
mod inside;
mod lzf;
mod older;
mod packed;
mod payload;
mod reader;
mod roaring;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

pub use encoding::{Dialect, Encoding};
pub use input::{BUFFER, Buffers, Piece};
pub use inside::{Sameness, same_value};
pub use older::{older, translated};
pub use payload::{
    NotAPayload, Payload, module_type, payload_of_pieces, payload_of_text, portable, text_of,
    text_of_dump,
};
pub use reader::{Checksum, Entry, Header, Keep, Reader, Record, Value};

/// Why a file can't be read further.
#[derive(Debug, thiserror::Error)]
pub enum RdbError {
    /// Reading failed.
    #[error("can't be read: {0}")]
    Io(#[from] io::Error),
    /// The file does not begin like an RDB file.
    #[error("is not an RDB file: it begins with {begins:?}")]
    NotRdb {
        /// The first bytes.
        begins: String,
    },
    /// The header has a version that no server writes.
    #[error("has RDB version {version}, which no Redis server writes: the file is damaged")]
    Version {
        /// The version.
        version: u16,
    },
    /// The file ends in the middle of a record.
    #[error("ends after {at} bytes, in the middle of a record: the file is truncated")]
    Truncated {
        /// The length of the file.
        at: u64,
    },
    /// A record that no server writes.
    #[error("is damaged at byte {at}: {what}")]
    Damaged {
        /// The position.
        at: u64,
        /// The fault.
        what: &'static str,
    },
    /// A value type of a later version.
    #[error(
        "has a value of type {number} at byte {at}, which this redis-trib does not know \
             ({dialect}, RDB version {version}): try a newer redis-trib"
    )]
    UnknownType {
        /// The number of the type.
        number: u8,
        /// The name of the key, if it can be read.
        key: Option<Vec<u8>>,
        /// The position.
        at: u64,
        /// The product that wrote the file.
        dialect: Dialect,
        /// The RDB version of the file.
        version: u16,
    },
    /// A record of a later version or a release candidate.
    #[error("has a record {number} ({what}) at byte {at}, which this redis-trib does not support")]
    UnknownRecord {
        /// The opcode.
        number: u8,
        /// Its meaning, if known.
        what: &'static str,
        /// The position.
        at: u64,
    },
    /// The server was importing slots: the keys of these slots are not complete.
    #[error("was saved while the node imported slots (byte {at}): back up when no slots move")]
    SlotImport {
        /// The position.
        at: u64,
    },
    /// A hash refers to a template that is not in the file.
    #[error(
        "is damaged at byte {at}: a hash refers to template {template}, which the file does not have"
    )]
    MissingTemplate {
        /// The id of the template.
        template: u64,
        /// The position.
        at: u64,
    },
    /// The checksum does not match.
    #[error(
        "is damaged: the checksum in the file is {found:016x}, the checksum of its bytes is {computed:016x}"
    )]
    Checksum {
        /// The checksum in the file.
        found: u64,
        /// The checksum of its bytes.
        computed: u64,
    },
    /// The file has bytes after the end.
    #[error("has bytes after its end, at byte {at}: it is not a single RDB file")]
    Trailing {
        /// The position.
        at: u64,
    },
}

/// A record of a later version. Its end is not known, so neither it nor anything after it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread {
    /// The kind of the record.
    pub kind: UnreadKind,
    /// Its number.
    pub number: u8,
    /// The position of the record in the file.
    pub at: u64,
}

/// The kind of a record that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnreadKind {
    /// A key, by the type of its value.
    Value,
    /// Something else, by its opcode.
    Record,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            UnreadKind::Value => write!(f, "values of type {}", self.number),
            UnreadKind::Record => write!(f, "records of type {}", self.number),
        }
    }
}

impl RdbError {
    /// The record that is not read because a later version wrote it; `None` for all other errors. The file may be
    /// good: a server that knows the record can load it.
    pub fn unread(&self) -> Option<Unread> {
        let (kind, number, at) = match *self {
            Self::UnknownType { number, at, .. } => (UnreadKind::Value, number, at),
            Self::UnknownRecord { number, at, .. } => (UnreadKind::Record, number, at),
            _ => return None,
        };
        Some(Unread { kind, number, at })
    }
}
