//! An RDB file, record by record.

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

/// Strings that are read whole (keys, functions, aux fields) end here: the servers' own limit.
const STRING_LIMIT: u64 = 512 * 1024 * 1024;

/// How a file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whose numbers it uses.
    pub dialect: Dialect,
    /// Its RDB version.
    pub version: u16,
}

/// What is kept of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: they are passed over.
    Nothing,
    /// All of those that are no larger than so many bytes.
    UpTo(usize),
}

/// One record, as far as anybody wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A fact about the file: `redis-ver`, `ctime`, `used-mem`…
    Aux(Vec<u8>, Vec<u8>),
    /// A library of functions, as FUNCTION LOAD takes it.
    Function(Vec<u8>),
    /// What a module keeps besides keys; it can't be given to a server but in an RDB file.
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
    /// Its name.
    pub key: Vec<u8>,
    /// How its value is written.
    pub encoding: Encoding,
    /// When it expires, in milliseconds of the epoch.
    pub expires: Option<u64>,
    /// For how many seconds nobody used it.
    pub idle: Option<u64>,
    /// How often it is used (the LFU counter).
    pub frequency: Option<u8>,
    /// Its value.
    pub value: Value,
}

/// A value, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// As RESTORE takes it.
    Payload(Vec<u8>),
    /// Larger than what is kept; so many bytes.
    TooLarge(u64),
    /// Passed over.
    NotKept,
}

/// What a file says about its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// It is right.
    Right(u64),
    /// The server writes none (`rdbchecksum no`).
    Absent,
}

/// Reads a file.
pub struct Reader<R> {
    input: Input<R>,
    header: Header,
    keep: Keep,
    database: u32,
}

/// What stands before a key.
#[derive(Default)]
struct Before {
    expires: Option<u64>,
    idle: Option<u64>,
    frequency: Option<u8>,
}

impl<R: Read> Reader<R> {
    /// Begins to read.
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

    /// How the file begins.
    pub fn header(&self) -> Header {
        self.header
    }

    /// How many bytes were read so far.
    pub fn position(&self) -> u64 {
        self.input.position()
    }

    /// The next record; after [`Record::End`] there is none.
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
                        .map_err(|_| self.input.damaged("no database has such a number"))?;
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

    /// A string, whole and expanded.
    fn string(&mut self) -> Result<Vec<u8>, RdbError> {
        let too_long = "a name is longer than a server takes";
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
                    .ok_or_else(|| self.input.damaged("a compressed name does not expand"))
            }
            Length::Special(_) => Err(self.input.damaged("a name in a form that is not known")),
        }
    }

    /// The checksum, and nothing after it. Files older than version 5 have none.
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

/// The nine letters that are a module's type (module.c, moduleTypeNameByID).
pub(super) fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // The lowest ten bits are a version.
    (0..9)
        .map(|i| char::from(LETTERS[(id >> (58 - 6 * i)) as usize & 63]))
        .collect()
}
