//! `manifest.json`: the contents of a backup. Versioned; fields may be added.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::blocks::{BLOCK, BlockSum, block_count};
use super::inspect::{Inspection, UnreadRest};
use super::store::{Directory, StoreError};
use crate::cluster::functions::Functions;
use crate::cluster::node::{NodeId, Role};
use crate::cluster::slot::{SLOTS, Slot, SlotRange, SlotSet};
use crate::cluster::text::is_unsafe;
use crate::rdb::{Dialect, Unread, UnreadKind};

/// The name of the file.
const NAME: &str = "manifest.json";
const FORMAT: &str = "redis-trib backup";
const VERSION: u32 = 1;
/// The largest manifest that is read. A thousand masters take about 1 MiB, a terabyte of data 18 MiB.
const LARGEST: u64 = 512 << 20;

/// The contents of a backup.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// When the first file was started.
    pub began: SystemTime,
    /// When the last file was complete.
    pub ended: SystemTime,
    /// One file per master, sorted by their lowest slots.
    pub files: Vec<FileFacts>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq)]
pub struct FileFacts {
    /// The name of the file in the directory.
    pub file: String,
    /// The master whose data it holds.
    pub master: NodeId,
    /// The address of the master.
    pub master_addr: String,
    /// The slots of the master.
    pub slots: SlotSet,
    /// The node that sent the data.
    pub source: NodeId,
    /// The address of that node.
    pub source_addr: String,
    /// The role of that node.
    pub source_role: Role,
    /// The replication id of the data.
    pub replication_id: String,
    /// The replication offset of the data.
    pub offset: u64,
    /// When the first byte arrived.
    pub began: SystemTime,
    /// The contents of the file.
    pub found: Inspection,
}

/// Why a directory is not a backup.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No backup was finished.
    #[error("there is no manifest.json: no backup was finished here")]
    Missing,
    /// The directory does not exist, or is not a directory.
    #[error("there is no such directory")]
    NoDirectory,
    /// The manifest can't be read.
    #[error("manifest.json can't be read: {0}")]
    Io(io::Error),
    /// The manifest is invalid.
    #[error("manifest.json is damaged: {0}")]
    Damaged(String),
    /// The manifest has a later version.
    #[error("manifest.json has version {0}: read it with a newer redis-trib")]
    Newer(u32),
}

/// The file format.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    format: String,
    version: u32,
    made_by: String,
    began: String,
    ended: String,
    keys: u64,
    bytes: u64,
    files: Vec<FileDocument>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FileDocument {
    file: String,
    master: String,
    master_addr: String,
    slots: Vec<[u16; 2]>,
    source: String,
    source_addr: String,
    source_role: String,
    server: String,
    rdb_product: String,
    rdb_version: u16,
    replication_id: String,
    offset: u64,
    began: String,
    bytes: u64,
    sha256: String,
    /// The bytes of a block, except for the last one…
    #[serde(default, skip_serializing_if = "Option::is_none")]
    block_bytes: Option<u64>,
    /// …and the SHA-256 of each, since version 0.3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    block_sha256: Vec<String>,
    crc64: Option<String>,
    keys: u64,
    expiring: u64,
    databases: BTreeMap<u32, u64>,
    encodings: BTreeMap<String, u64>,
    functions: u64,
    module_data: BTreeSet<String>,
    strays: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unread: Option<UnreadDocument>,
}

/// The part of a file that could not be read.
#[derive(Debug, Serialize, Deserialize)]
struct UnreadDocument {
    /// The type of the first value that could not be read…
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_type: Option<u8>,
    /// …or the type of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record_type: Option<u8>,
    at: u64,
    keys: u64,
    /// For people.
    #[serde(default)]
    note: String,
}

impl Manifest {
    /// Keys in all files.
    pub fn keys(&self) -> u64 {
        self.files.iter().map(|file| file.found.keys).sum()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.found.bytes).sum()
    }

    /// Writes the manifest.
    pub fn write(&self, directory: &Directory) -> Result<(), StoreError> {
        let document = Document {
            format: FORMAT.to_string(),
            version: VERSION,
            made_by: format!("redis-trib {}", env!("CARGO_PKG_VERSION")),
            began: time(self.began),
            ended: time(self.ended),
            keys: self.keys(),
            bytes: self.bytes(),
            files: self.files.iter().map(FileFacts::document).collect(),
        };
        let mut file = directory.file(NAME)?;
        // Strings and numbers can always be serialized.
        let text = serde_json::to_string_pretty(&document).unwrap_or_default();
        file.write(text.as_bytes())?;
        file.write(b"\n")?;
        file.sync()?;
        file.publish().map(drop)
    }

    /// Reads the manifest of a directory.
    pub fn read(directory: &Path) -> Result<Self, ManifestError> {
        let file = match File::open(directory.join(NAME)) {
            Ok(file) => file,
            Err(_) if !directory.is_dir() => return Err(ManifestError::NoDirectory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ManifestError::Missing);
            }
            Err(error) => return Err(ManifestError::Io(error)),
        };
        let mut text = Vec::new();
        file.take(LARGEST)
            .read_to_end(&mut text)
            .map_err(ManifestError::Io)?;
        Self::parse(&text)
    }

    fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        let damaged = |what: String| ManifestError::Damaged(what);
        let value: serde_json::Value =
            serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))?;
        if value.get("format").and_then(|format| format.as_str()) != Some(FORMAT) {
            return Err(damaged("it is not the manifest of a backup".to_string()));
        }
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => {
                return Err(ManifestError::Newer(
                    u32::try_from(version).unwrap_or(u32::MAX),
                ));
            }
            None => return Err(damaged("it has no version".to_string())),
        }
        let document: Document =
            serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        Self::checked(document).map_err(damaged)
    }

    fn checked(document: Document) -> Result<Self, String> {
        let mut files = Vec::with_capacity(document.files.len());
        let mut slots = SlotSet::new();
        let mut names = BTreeSet::new();
        for file in document.files {
            let file = file.checked()?;
            if !names.insert(file.file.clone()) {
                return Err(format!("{:?} is listed twice", file.file));
            }
            if !slots.intersection(&file.slots).is_empty() {
                return Err(format!(
                    "slots of {:?} belong to another file, too",
                    file.file
                ));
            }
            slots = slots.union(&file.slots);
            files.push(file);
        }
        let all = |of: fn(&FileFacts) -> u64| {
            let mut numbers = files.iter().map(of);
            numbers.try_fold(0, u64::checked_add)
        };
        if all(|file| file.found.keys).is_none() || all(|file| file.found.bytes).is_none() {
            return Err("the sums over its files are too large".to_string());
        }
        if slots.count() != usize::from(SLOTS) {
            return Err(format!("its files cover only {} slots", slots.count()));
        }
        Ok(Self {
            began: moment(&document.began)?,
            ended: moment(&document.ended)?,
            files,
        })
    }
}

impl FileFacts {
    fn document(&self) -> FileDocument {
        let found = self.found.clone();
        let ranges = self.slots.ranges();
        FileDocument {
            file: self.file.clone(),
            master: self.master.to_string(),
            master_addr: self.master_addr.clone(),
            slots: ranges
                .iter()
                .map(|range| [range.start().number(), range.end().number()])
                .collect(),
            source: self.source.to_string(),
            source_addr: self.source_addr.clone(),
            source_role: self.source_role.word().to_string(),
            server: found.server,
            rdb_product: found.dialect.to_string().to_lowercase(),
            rdb_version: found.version,
            replication_id: self.replication_id.clone(),
            offset: self.offset,
            began: time(self.began),
            bytes: found.bytes,
            sha256: found.sha256,
            block_bytes: found.blocks.as_ref().map(|_| BLOCK as u64),
            block_sha256: found
                .blocks
                .iter()
                .flat_map(|sums| sums.iter().map(hex))
                .collect(),
            crc64: found.checksum.map(|sum| format!("{sum:016x}")),
            keys: found.keys,
            expiring: found.expiring,
            databases: found.databases,
            encodings: found.encodings,
            functions: found.functions,
            module_data: found.module_data,
            strays: found.strays,
            unread: found.unread.map(UnreadDocument::new),
        }
    }
}

impl UnreadDocument {
    fn new(rest: UnreadRest) -> Self {
        let Unread { kind, number, at } = rest.first;
        Self {
            value_type: (kind == UnreadKind::Value).then_some(number),
            record_type: (kind == UnreadKind::Record).then_some(number),
            at,
            keys: rest.keys,
            note: rest.to_string(),
        }
    }

    fn checked(&self) -> Result<UnreadRest, String> {
        let (kind, number) = match (self.value_type, self.record_type) {
            (Some(number), None) => (UnreadKind::Value, number),
            (None, Some(number)) => (UnreadKind::Record, number),
            _ => return Err("the unread part of a file has no type".to_string()),
        };
        let (at, keys) = (self.at, self.keys);
        let first = Unread { kind, number, at };
        Ok(UnreadRest { first, keys })
    }
}

impl FileDocument {
    fn checked(self) -> Result<FileFacts, String> {
        let name = &self.file;
        // The name must not lead out of the directory.
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(is_allowed) {
            return Err(format!("{name:?} is not a file name"));
        }
        // Some of these are printed.
        let texts = [
            &self.master_addr,
            &self.source_addr,
            &self.server,
            &self.replication_id,
            &self.sha256,
        ];
        let texts = texts.into_iter().chain(self.encodings.keys());
        let is_hostile = |text: &&String| text.contains(is_unsafe);
        if let Some(text) = texts.chain(&self.module_data).find(is_hostile) {
            return Err(format!("{text:?} has control characters"));
        }
        let id = |text: &str| {
            text.parse()
                .map_err(|_| format!("{text:?} is not a node id"))
        };
        let range = |[start, end]: [u16; 2]| SlotRange::new(Slot::new(start)?, Slot::new(end)?);
        let slots: Option<SlotSet> = self.slots.iter().map(|pair| range(*pair)).collect();
        let dialect = match self.rdb_product.as_str() {
            "redis" => Dialect::Redis,
            "valkey" => Dialect::Valkey,
            other => return Err(format!("{other:?} is not a known product")),
        };
        let checksum = match &self.crc64 {
            None => None,
            Some(text) => Some(
                u64::from_str_radix(text, 16).map_err(|_| format!("{text:?} is not a checksum"))?,
            ),
        };
        let blocks = self.blocks()?;
        Ok(FileFacts {
            master: id(&self.master)?,
            master_addr: self.master_addr,
            slots: slots.ok_or_else(|| format!("{name:?} has invalid slots"))?,
            source: id(&self.source)?,
            source_addr: self.source_addr,
            source_role: match self.source_role.as_str() {
                "replica" => Role::Replica,
                _ => Role::Master,
            },
            replication_id: self.replication_id,
            offset: self.offset,
            began: moment(&self.began)?,
            found: Inspection {
                dialect,
                version: self.rdb_version,
                server: self.server,
                bytes: self.bytes,
                sha256: self.sha256,
                checksum,
                keys: self.keys,
                databases: self.databases,
                encodings: self.encodings,
                expiring: self.expiring,
                functions: self.functions,
                libraries: Functions::default(),
                module_data: self.module_data,
                strays: self.strays,
                unread: self.unread.map(|unread| unread.checked()).transpose()?,
                blocks,
            },
            file: self.file,
        })
    }

    /// The checksums of the blocks; `None` for blocks of a size that this version does not use, too.
    fn blocks(&self) -> Result<Option<Arc<[BlockSum]>>, String> {
        if self.block_bytes != Some(BLOCK as u64) {
            return Ok(None);
        }
        let sums: Option<Arc<[BlockSum]>> =
            self.block_sha256.iter().map(|text| of_hex(text)).collect();
        let sums = sums.filter(|sums| sums.len() as u64 == block_count(self.bytes));
        match sums {
            Some(sums) => Ok(Some(sums)),
            None => Err(format!(
                "the checksums of the blocks of {:?} are invalid",
                self.file
            )),
        }
    }
}

fn hex(sum: &BlockSum) -> String {
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of_hex(text: &str) -> Option<BlockSum> {
    let mut sum = BlockSum::default();
    if text.len() != 2 * sum.len() || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in sum.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(sum)
}

/// `2026-11-22T21:33:03Z`.
fn time(time: SystemTime) -> String {
    // Times before 1970 can't be written; they become 1970.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

fn moment(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339(text).map_err(|_| format!("{text:?} is not a time"))
}

#[cfg(test)]
mod tests;
