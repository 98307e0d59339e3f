//! The contents of an RDB file: reads it to its end and skips the values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{Context, SHA256};

use super::blocks::{BlockSum, BlockSums};
use super::unpack::open_rdb;
use crate::cluster::functions::{Functions, library_name};
use crate::cluster::numbers::thousands;
use crate::cluster::slot::{Slot, SlotSet};
use crate::rdb::{Checksum, Dialect, Keep, RdbError, Reader, Record, Unread, UnreadKind};

/// The contents of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The product that wrote it.
    pub dialect: Dialect,
    /// Its RDB version.
    pub version: u16,
    /// The server that wrote it: `redis 7.0.15`.
    pub server: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, in hex digits.
    pub sha256: String,
    /// The checksum in the file; `None` if the server writes none.
    pub checksum: Option<u64>,
    /// Keys in all databases.
    pub keys: u64,
    /// Keys of each database.
    pub databases: BTreeMap<u32, u64>,
    /// Keys by the encoding of their values.
    pub encodings: BTreeMap<String, u64>,
    /// Keys that expire.
    pub expiring: u64,
    /// Libraries of functions.
    pub functions: u64,
    /// Their code. The manifest does not have it.
    pub libraries: Functions,
    /// Modules that store data besides keys.
    pub module_data: BTreeSet<String>,
    /// Stray keys, outside of the slots that the node owned: left behind by a slot migration.
    pub strays: u64,
    /// The part of the file that this version can't read. The counts are those of the part before it.
    pub unread: Option<UnreadRest>,
    /// The SHA-256 of each block, if they were computed.
    pub blocks: Option<Arc<[BlockSum]>>,
}

/// The part of a file from the first record that a later version wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnreadRest {
    /// The first record that can't be read.
    pub first: Unread,
    /// The keys from there on; 0 if the file did not announce its keys before.
    pub keys: u64,
}

impl fmt::Display for UnreadRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, keys } = self;
        write!(
            f,
            "{first} can only be restored by loading the file into a server or by a newer redis-trib; the file was \
             read up to the first of them (byte {})",
            first.at,
        )?;
        match keys {
            0 => Ok(()),
            1 => f.write_str(", 1 key from there on is not read"),
            keys => write!(f, ", {} keys from there on are not read", thousands(*keys)),
        }
    }
}

/// Why a file is invalid.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The file can't be opened.
    #[error("{}: {error}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
    /// The file can't be read to its end.
    #[error(transparent)]
    Rdb(#[from] RdbError),
}

impl InspectError {
    pub(super) fn open(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |error| Self::Open { path, error }
    }
}

/// The checksums of a file that are computed while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sums {
    /// That of the whole file.
    Whole,
    /// The same, and that of each block.
    Blocks,
}

/// Reads a file to its end. `tell` receives the number of bytes read since the last call.
pub fn inspect(
    path: &Path,
    slots: &SlotSet,
    tell: &(dyn Fn(u64) + Sync),
) -> Result<Inspection, InspectError> {
    let file = File::open(path).map_err(InspectError::open(path))?;
    Ok(inspect_bytes(file, slots, Sums::Whole, tell)?)
}

/// Reads an RDB file of any origin to its end; it may be packed, and then its length is that of the data. `tell` receives
/// the number of bytes read since the last call.
pub fn inspect_rdb(
    path: &Path,
    slots: &SlotSet,
    tell: &(dyn Fn(u64) + Sync),
) -> Result<Inspection, InspectError> {
    let bytes = open_rdb(path).map_err(InspectError::open(path))?;
    Ok(inspect_bytes(bytes, slots, Sums::Whole, tell)?)
}

/// Reads the bytes of a file to their end.
pub(super) fn inspect_bytes(
    bytes: impl Read,
    slots: &SlotSet,
    sums: Sums,
    tell: &(dyn Fn(u64) + Sync),
) -> Result<Inspection, RdbError> {
    let mut hashed = Hashed {
        bytes,
        context: Context::new(&SHA256),
        blocks: match sums {
            Sums::Whole => None,
            Sums::Blocks => Some(BlockSums::default()),
        },
        tell,
    };
    let mut reader = Reader::new(&mut hashed, Keep::Nothing)?;
    let header = reader.header();
    let mut found = Inspection {
        dialect: header.dialect,
        version: header.version,
        server: String::new(),
        bytes: 0,
        sha256: String::new(),
        checksum: None,
        keys: 0,
        databases: BTreeMap::new(),
        encodings: BTreeMap::new(),
        expiring: 0,
        functions: 0,
        libraries: Functions::default(),
        module_data: BTreeSet::new(),
        strays: 0,
        unread: None,
        blocks: None,
    };
    loop {
        let record = match reader.record() {
            Ok(record) => record,
            Err(error) => {
                let first = error.unread().ok_or(error)?;
                let checksum = reader.skip_rest()?;
                found.checksum = sum(checksum);
                let least = u64::from(first.kind == UnreadKind::Value);
                let keys = reader.announced().saturating_sub(found.keys).max(least);
                found.unread = Some(UnreadRest { first, keys });
                break;
            }
        };
        match record {
            Record::Aux(name, value) => {
                if let Some(server) = server(&name, &value) {
                    found.server = server;
                }
            }
            Record::Function(code) => {
                found.functions += 1;
                if let Some(name) = library_name(&code) {
                    found.libraries.add(&name, &code);
                }
            }
            Record::ModuleAux(module) => drop(found.module_data.insert(module)),
            Record::Entry(entry) => {
                found.keys += 1;
                *found.databases.entry(entry.database).or_default() += 1;
                // The names come from a table: a key can't add one.
                match found.encodings.get_mut(entry.encoding.word()) {
                    Some(count) => *count += 1,
                    None => drop(found.encodings.insert(entry.encoding.to_string(), 1)),
                }
                found.expiring += u64::from(entry.expires.is_some());
                found.strays += u64::from(!slots.contains(Slot::of_key(&entry.key)));
            }
            Record::End(checksum) => {
                found.checksum = sum(checksum);
                break;
            }
        }
    }
    found.bytes = reader.position();
    found.sha256 = hex(hashed.context);
    found.blocks = hashed.blocks.map(BlockSums::finish);
    Ok(found)
}

/// The server that wrote a file, if that is what this property says.
fn server(name: &[u8], value: &[u8]) -> Option<String> {
    let product = match name {
        b"redis-ver" => "redis",
        b"valkey-ver" => "valkey",
        _ => return None,
    };
    let version: String = String::from_utf8_lossy(value)
        .chars()
        .filter(|c| c.is_ascii_graphic())
        .take(40)
        .collect();
    Some(format!("{product} {version}"))
}

impl Inspection {
    /// Returns how a file differs from its description in the manifest, if it does.
    pub fn differs(&self, now: &Self) -> Option<String> {
        if self.bytes != now.bytes {
            return Some(format!(
                "has {} bytes; the manifest says {}",
                now.bytes, self.bytes
            ));
        }
        if self.sha256 != now.sha256 {
            return Some(format!(
                "is damaged: its SHA-256 is {}; the manifest says {}",
                now.sha256, self.sha256
            ));
        }
        let is_read = self.unread.is_none() && now.unread.is_none();
        (is_read && self.keys != now.keys)
            .then(|| format!("holds {} keys; the manifest says {}", now.keys, self.keys))
    }
}

fn sum(checksum: Checksum) -> Option<u64> {
    match checksum {
        Checksum::Right(sum) => Some(sum),
        Checksum::Absent => None,
    }
}

/// Returns a SHA-256 in hex digits.
fn hex(context: Context) -> String {
    let digest = context.finish();
    let bytes = digest.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes whose SHA-256 is computed while they are read.
struct Hashed<'a, R> {
    bytes: R,
    context: Context,
    blocks: Option<BlockSums>,
    tell: &'a (dyn Fn(u64) + Sync),
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        self.context.update(&buffer[..count]);
        if let Some(blocks) = &mut self.blocks {
            blocks.update(&buffer[..count]);
        }
        (self.tell)(count as u64);
        Ok(count)
    }
}
