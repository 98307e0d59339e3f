//! Reads an RDB file record by record.

use std::io::Read;

use super::RdbError;
use super::encoding::{Dialect, Encoding};
use super::extent::{INT8, INT16, INT32, LZF};
use super::input::{Input, Length};
use super::lzf;
use super::payload::frame;

/// Opcodes (rdb.h of Redis 8.6 and Valkey 9.1).
const KEY_META_OR_SLOT_IMPORT: u8 = 243;
const SLOT_INFO: u8 = 244;
const FUNCTION2: u8 = 245;
const FUNCTION_PRE_GA: u8 = 246;
const MODULE_AUX: u8 = 247;
const IDLE: u8 = 248;
const FREQ: u8 = 249;
const AUX: u8 = 250;
const RESIZE_DB: u8 = 251;
const EXPIRE_MS: u8 = 252;
const EXPIRE_S: u8 = 253;
const SELECT_DB: u8 = 254;
const END: u8 = 255;

/// The longest string that is read whole (keys, functions, aux fields): the servers' own limit.
const STRING_LIMIT: u64 = 512 * 1024 * 1024;

/// The header of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The product that wrote it.
    pub dialect: Dialect,
    /// Its RDB version.
    pub version: u16,
}

/// What is kept of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: values are skipped.
    Nothing,
    /// Values up to this number of bytes.
    UpTo(usize),
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A property of the file: `redis-ver`, `ctime`, `used-mem`…
    Aux(Vec<u8>, Vec<u8>),
    /// A library of functions, as FUNCTION LOAD takes it.
    Function(Vec<u8>),
    /// Data of a module besides keys; a server accepts it only in an RDB file.
    ModuleAux(String),
    /// A key.
    Entry(Entry),
    /// The end.
    End(Checksum),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The number of its database.
    pub database: u32,
    /// The name of the key.
    pub key: Vec<u8>,
    /// The encoding of its value.
    pub encoding: Encoding,
    /// When it expires, in milliseconds since 1970.
    pub expires: Option<u64>,
    /// Seconds since the last access.
    pub idle: Option<u64>,
    /// The LFU counter.
    pub frequency: Option<u8>,
    /// Its value.
    pub value: Value,
}

/// A value, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The payload for RESTORE.
    Payload(Vec<u8>),
    /// Larger than the limit; its length.
    TooLarge(u64),
    /// Skipped.
    NotKept,
}

/// The checksum of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Present and correct.
    Right(u64),
    /// Absent: the server writes none (`rdbchecksum no`).
    Absent,
}

/// Reads a file.
pub struct Reader<R> {
    input: Input<R>,
    header: Header,
    keep: Keep,
    database: u32,
}

/// The properties that precede a key.
#[derive(Default)]
struct Before {
    expires: Option<u64>,
    idle: Option<u64>,
    frequency: Option<u8>,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub fn new(inner: R, keep: Keep) -> Result<Self, RdbError> {
        let mut input = Input::new(inner);
        let magic: [u8; 9] = input.array()?;
        let number = |digits: &[u8]| {
            let text = std::str::from_utf8(digits).ok()?;
            text.parse::<u16>().ok()
        };
        let header = if let Some(digits) = magic.strip_prefix(b"REDIS") {
            number(digits).map(|version| (Dialect::Redis, version))
        } else if let Some(digits) = magic.strip_prefix(b"VALKEY") {
            number(digits).map(|version| (Dialect::Valkey, version))
        } else {
            None
        };
        let Some((dialect, version)) = header else {
            return Err(RdbError::NotRdb {
                begins: String::from_utf8_lossy(&magic).into_owned(),
            });
        };
        Ok(Self {
            input,
            header: Header { dialect, version },
            keep,
            database: 0,
        })
    }

    /// The header of the file.
    pub fn header(&self) -> Header {
        self.header
    }

    /// The number of bytes read so far.
    pub fn position(&self) -> u64 {
        self.input.position()
    }

    /// Reads the next record; there is none after [`Record::End`].
    pub fn record(&mut self) -> Result<Record, RdbError> {
        let mut before = Before::default();
        loop {
            let at = self.input.position();
            let unknown = |number, what| Err(RdbError::UnknownRecord { number, what, at });
            match self.input.byte()? {
                EXPIRE_MS => before.expires = Some(u64::from_le_bytes(self.input.array()?)),
                EXPIRE_S => {
                    let seconds = u32::from_le_bytes(self.input.array()?);
                    before.expires = Some(u64::from(seconds) * 1000);
                }
                IDLE => before.idle = Some(self.input.length()?),
                FREQ => before.frequency = Some(self.input.byte()?),
                SELECT_DB => {
                    let number = self.input.length()?;
                    self.database = u32::try_from(number)
                        .map_err(|_| self.input.damaged("an invalid database number"))?;
                }
                RESIZE_DB => {
                    self.input.length()?;
                    self.input.length()?;
                }
                SLOT_INFO => {
                    for _ in 0..3 {
                        self.input.length()?;
                    }
                }
                AUX => {
                    let name = self.string()?;
                    return Ok(Record::Aux(name, self.string()?));
                }
                FUNCTION2 => return Ok(Record::Function(self.string()?)),
                MODULE_AUX => {
                    let module = module_name(self.input.length()?);
                    self.input.skip_module()?;
                    return Ok(Record::ModuleAux(module));
                }
                END => return self.end().map(Record::End),
                FUNCTION_PRE_GA => {
                    return unknown(
                        FUNCTION_PRE_GA,
                        "functions of a Redis 7.0 release candidate",
                    );
                }
                KEY_META_OR_SLOT_IMPORT if self.header.dialect == Dialect::Valkey => {
                    return unknown(KEY_META_OR_SLOT_IMPORT, "slots are being imported");
                }
                KEY_META_OR_SLOT_IMPORT => {
                    return unknown(KEY_META_OR_SLOT_IMPORT, "modules' metadata of a key");
                }
                number => match Encoding::of(number, self.header.dialect) {
                    Some(encoding) => return self.entry(before, number, encoding),
                    None if number > 200 => return unknown(number, "an opcode"),
                    None => {
                        let Header { dialect, version } = self.header;
                        return Err(RdbError::UnknownType {
                            number,
                            at,
                            dialect,
                            version,
                        });
                    }
                },
            }
        }
    }

    fn entry(
        &mut self,
        before: Before,
        number: u8,
        encoding: Encoding,
    ) -> Result<Record, RdbError> {
        let key = self.string()?;
        let value = match self.keep {
            Keep::Nothing => {
                self.input.skip_value(encoding)?;
                Value::NotKept
            }
            Keep::UpTo(limit) => {
                self.input.keep(number, limit);
                let skipped = self.input.skip_value(encoding);
                let (bytes, length) = self.input.kept();
                skipped?;
                if length > limit as u64 {
                    Value::TooLarge(length)
                } else {
                    Value::Payload(frame(bytes, encoding.version()))
                }
            }
        };
        Ok(Record::Entry(Entry {
            database: self.database,
            key,
            encoding,
            expires: before.expires,
            idle: before.idle,
            frequency: before.frequency,
            value,
        }))
    }

    /// Reads a string, whole and uncompressed.
    fn string(&mut self) -> Result<Vec<u8>, RdbError> {
        let too_long = "a name is longer than a server allows";
        match self.input.length_or_special()? {
            Length::Plain(length) if length > STRING_LIMIT => Err(self.input.damaged(too_long)),
            Length::Plain(length) => self.input.bytes(length),
            Length::Special(INT8) => Ok(decimal(i8::from_le_bytes(self.input.array()?))),
            Length::Special(INT16) => Ok(decimal(i16::from_le_bytes(self.input.array()?))),
            Length::Special(INT32) => Ok(decimal(i32::from_le_bytes(self.input.array()?))),
            Length::Special(LZF) => {
                let packed = self.input.length()?;
                let length = self.input.length()?;
                if packed > STRING_LIMIT || length > STRING_LIMIT {
                    return Err(self.input.damaged(too_long));
                }
                let packed = self.input.bytes(packed)?;
                lzf::expand(&packed, length, STRING_LIMIT as usize)
                    .ok_or_else(|| self.input.damaged("a compressed name can't be expanded"))
            }
            Length::Special(_) => Err(self.input.damaged("a name in an unknown encoding")),
        }
    }

    /// Verifies the checksum, and that nothing follows it. Files older than version 5 have none.
    fn end(&mut self) -> Result<Checksum, RdbError> {
        let computed = self.input.checksum();
        let checksum = if self.header.version < 5 {
            Checksum::Absent
        } else {
            match u64::from_le_bytes(self.input.array()?) {
                0 => Checksum::Absent,
                found if found == computed => Checksum::Right(found),
                found => return Err(RdbError::Checksum { found, computed }),
            }
        };
        if !self.input.is_at_end()? {
            let at = self.input.position();
            return Err(RdbError::Trailing { at });
        }
        Ok(checksum)
    }
}

fn decimal(number: impl ToString) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// Returns the nine letters of a module type (module.c, moduleTypeNameByID).
pub(super) fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // The lowest ten bits are a version.
    (0..9)
        .map(|i| char::from(LETTERS[(id >> (58 - 6 * i)) as usize & 63]))
        .collect()
}
