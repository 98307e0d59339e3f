//! RDB files: which records they hold, where each value begins and ends, and how a value becomes
//! the payload of a RESTORE.
//!
//! A value's bytes after its type are the same in an RDB file and in the answer to DUMP (compared
//! on Redis 6.2 to 8.6 and Valkey 8.0 to 9.1), so a value is cut out, not understood: its
//! [`extent`](Reader) is found by counting strings and numbers. Only [`same_value`] looks inside.
//!
//! A file is hostile until its checksum says otherwise: no length in it makes anything allocate
//! more than was read, and what is kept of one value has a limit ([`Keep`]). What is not known
//! (a type of a later version, an opcode) is an error with its name, never passed over: where such
//! a record ends can't be told.
//!
//! Redis and Valkey number types and opcodes apart from 22 and 243 on; which of them wrote a file
//! is told by its first bytes.

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

/// Why a file can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum RdbError {
    /// Reading it failed.
    #[error("can't be read: {0}")]
    Io(#[from] io::Error),
    /// It does not begin like an RDB file.
    #[error("is no RDB file: it begins with {begins:?}")]
    NotRdb {
        /// Its first bytes.
        begins: String,
    },
    /// It ends in the middle of a record.
    #[error("ends after {at} bytes, in the middle of a record: it is cut off")]
    Truncated {
        /// Bytes that were there.
        at: u64,
    },
    /// A record that no server writes.
    #[error("is damaged at byte {at}: {what}")]
    Damaged {
        /// Where.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A type of value of a later version.
    #[error(
        "has a value of type {number} at byte {at}, which {dialect} files of version {version} \
             may hold and this redis-trib does not know: a newer redis-trib may"
    )]
    UnknownType {
        /// The type's number.
        number: u8,
        /// Where.
        at: u64,
        /// Whose numbers these are.
        dialect: Dialect,
        /// The file's RDB version.
        version: u16,
    },
    /// A record of a later version, or of an unfinished one.
    #[error("has a record {number} ({what}) at byte {at}, which this redis-trib does not read")]
    UnknownRecord {
        /// The opcode.
        number: u8,
        /// What it is, as far as that is known.
        what: &'static str,
        /// Where.
        at: u64,
    },
    /// What it holds is not what was written.
    #[error("is damaged: its checksum is {found:016x}, and {computed:016x} is that of its bytes")]
    Checksum {
        /// The one in the file.
        found: u64,
        /// The one of its bytes.
        computed: u64,
    },
    /// Something follows the end.
    #[error("goes on after its end, at byte {at}: it is not one RDB file")]
    Trailing {
        /// Where.
        at: u64,
    },
}
