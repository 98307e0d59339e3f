//! RDB files: the records, the extent of each value, and the conversion of a value to a RESTORE payload.
//!
//! The bytes of a value after its type are the same in an RDB file and in the reply to DUMP (compared on Redis 6.2 to
//! 8.6 and Valkey 8.0 to 9.1). A value is therefore copied without being interpreted: its [`extent`](Reader) is found
//! by skipping strings and numbers. Only [`same_value`] looks inside.
//!
//! Files are untrusted: no length in a file makes the reader allocate more than it has read, and the kept bytes of
//! one value have a limit ([`Keep`]). An unknown type or opcode is an error that names it and is never skipped,
//! because the end of such a record is unknown.
//!
//! Redis and Valkey assign type numbers from 22 and opcodes from 243 differently; the first bytes of a file say which
//! of them wrote it.

mod encoding;
mod extent;
mod input;
mod inside;
mod lzf;
mod packed;
mod payload;
mod reader;
#[cfg(test)]
mod tests;

use std::io;

pub use encoding::{Dialect, Encoding};
pub use inside::{Sameness, same_value};
pub use payload::{NotAPayload, Payload, module_type, portable};
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
