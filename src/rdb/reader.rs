//! Reads an RDB file record by record.

use std::collections::HashMap;
use std::io::Read;

use super::RdbError;
use super::encoding::{Dialect, Encoding};
use super::extent::FIELDS_ONE_BY_ONE;
use super::input::{BUFFER, Buffers, Input, Length, Piece, Rest, SPECIAL};
use super::packed::listpack_head;
use super::payload::frame;

/// Opcodes (rdb.h of Redis 8.10 and Valkey 9.1).
const HASH_TEMPLATE: u8 = 242;
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

/// The first number of an opcode; smaller numbers are types of values.
const FIRST_OPCODE: u8 = 200;

/// Redis stays below it: from here on versions are Valkey's, whose files begin with another word.
const VERSIONS_OF_REDIS: u16 = 80;

/// The first version with a checksum at the end.
const FIRST_CHECKSUM: u16 = 5;

/// The memory for the field names of all templates of a file.
const TEMPLATE_ROOM: usize = 1 << 30;

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
    /// The same, but strings that stand in the file as they are are left to [`Reader::append`] and [`Reader::lend`].
    ButText(usize),
}

impl Keep {
    /// The bytes of the largest value that is kept; `None` if none is.
    fn limit(self) -> Option<usize> {
        match self {
            Self::Nothing => None,
            Self::UpTo(limit) | Self::ButText(limit) => Some(limit),
        }
    }
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
    /// A string that stands in the file as it is.
    Text(Vec<u8>),
    /// The same, not read yet; its length.
    Ahead(u64),
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
    /// The bytes of the last value that nobody has read yet.
    ahead: u64,
    database: u32,
    /// The number of keys that the file announces, as far as it was read.
    announced: u64,
    /// The templates of hashes, by id.
    templates: HashMap<u64, Template>,
    template_room: usize,
}

/// The field names that hashes share (Redis ≥ 8.10). A file has each once, before the hashes.
struct Template {
    fields: u64,
    /// As they stand in a payload: one by one.
    bytes: Vec<u8>,
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
        Self::with_buffers(inner, keep, Buffers::of(BUFFER))
    }

    /// Reads the header. `inner` is read with these buffers.
    pub fn with_buffers(inner: R, keep: Keep, buffers: Buffers) -> Result<Self, RdbError> {
        let mut input = Input::new(inner, buffers);
        let magic: [u8; 9] = input.beginning()?;
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
        if dialect == Dialect::Redis && !(1..VERSIONS_OF_REDIS).contains(&version) {
            return Err(RdbError::Version { version });
        }
        Ok(Self {
            input,
            header: Header { dialect, version },
            keep,
            ahead: 0,
            database: 0,
            announced: 0,
            templates: HashMap::new(),
            template_room: TEMPLATE_ROOM,
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

    /// The number of keys that the file announced so far. Each database announces its keys before the first one.
    pub fn announced(&self) -> u64 {
        self.announced
    }

    /// Skips the rest of the file after a record that is [unread](RdbError::unread): verifies that the file ends with
    /// an end and the right checksum, as a file does that arrived whole.
    pub fn skip_rest(&mut self) -> Result<Checksum, RdbError> {
        if self.header.version < FIRST_CHECKSUM {
            return match self.input.skip_rest::<0>()?.last {
                Some(END) => Ok(Checksum::Absent),
                _ => Err(self.truncated()),
            };
        }
        let Rest {
            last,
            found,
            computed,
        } = self.input.skip_rest::<8>()?;
        match (last, found.map(u64::from_le_bytes)) {
            (Some(END), Some(0)) => Ok(Checksum::Absent),
            (Some(END), Some(found)) if found == computed => Ok(Checksum::Right(found)),
            (Some(END), Some(found)) => Err(RdbError::Checksum { found, computed }),
            _ => Err(self.truncated()),
        }
    }

    fn truncated(&self) -> RdbError {
        let at = self.input.position();
        RdbError::Truncated { at }
    }

    /// Appends the [string](Value::Ahead) of the last record to `out`. After an error, a part of it may be there.
    pub fn append(&mut self, out: &mut Vec<u8>) -> Result<(), RdbError> {
        let count = std::mem::take(&mut self.ahead);
        self.input.append(count, out)
    }

    /// Lends the [string](Value::Ahead) of the last record without a copy. The reader takes more memory meanwhile.
    pub fn lend(&mut self) -> Result<Vec<Piece>, RdbError> {
        let count = std::mem::take(&mut self.ahead);
        self.input.lend(count)
    }

    /// Reads the next record; there is none after [`Record::End`].
    pub fn record(&mut self) -> Result<Record, RdbError> {
        if self.ahead > 0 {
            let count = std::mem::take(&mut self.ahead);
            self.input.skip(count)?;
        }
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
                    let keys = self.input.length()?;
                    self.announced = self.announced.saturating_add(keys);
                    self.input.length()?;
                }
                SLOT_INFO => {
                    for _ in 0..3 {
                        self.input.length()?;
                    }
                }
                AUX => {
                    let name = self.input.string()?;
                    return Ok(Record::Aux(name, self.input.string()?));
                }
                FUNCTION2 => return Ok(Record::Function(self.input.string()?)),
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
                    return Err(RdbError::SlotImport { at });
                }
                KEY_META_OR_SLOT_IMPORT => {
                    return unknown(KEY_META_OR_SLOT_IMPORT, "modules' metadata of a key");
                }
                HASH_TEMPLATE if self.header.dialect == Dialect::Redis => self.template()?,
                number => {
                    let Header { dialect, version } = self.header;
                    match Encoding::of(number, dialect, version) {
                        Some(encoding) => return self.entry(before, number, encoding),
                        None if number > FIRST_OPCODE => return unknown(number, "an opcode"),
                        None => {
                            // The name of a key follows its type, whatever the type.
                            let key = self.input.string().ok();
                            return Err(RdbError::UnknownType {
                                number,
                                key,
                                at,
                                dialect,
                                version,
                            });
                        }
                    }
                }
            }
        }
    }

    fn entry(
        &mut self,
        before: Before,
        number: u8,
        encoding: Encoding,
    ) -> Result<Record, RdbError> {
        let key = self.input.string()?;
        let (encoding, value) = match encoding {
            Encoding::TemplateListpackRef => {
                (Encoding::TemplateListpack, self.listpack_of_template()?)
            }
            Encoding::TemplateArrayRef => (Encoding::TemplateArray, self.array_of_template()?),
            _ => (encoding, self.value(number, encoding)?),
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

    /// Reads a value, as it is.
    fn value(&mut self, number: u8, encoding: Encoding) -> Result<Value, RdbError> {
        if encoding == Encoding::String {
            return self.text(number);
        }
        self.start_keeping(&[number]);
        self.input.skip_value(encoding)?;
        Ok(self.kept(encoding, None))
    }

    /// Reads a string.
    fn text(&mut self, number: u8) -> Result<Value, RdbError> {
        let length = match self.input.length_or_special()? {
            Length::Plain(length) => length,
            Length::Special(special) => {
                self.start_keeping(&[number, SPECIAL | special]);
                self.input.skip_special(special)?;
                return Ok(self.kept(Encoding::String, None));
            }
        };
        match self.keep {
            Keep::UpTo(limit) if length <= limit as u64 => {
                Ok(Value::Text(self.input.bytes(length)?))
            }
            Keep::ButText(limit) if length <= limit as u64 => {
                self.ahead = length;
                Ok(Value::Ahead(length))
            }
            Keep::UpTo(_) | Keep::ButText(_) => {
                self.input.skip(length)?;
                Ok(Value::TooLarge(length))
            }
            Keep::Nothing => {
                self.input.skip(length)?;
                Ok(Value::NotKept)
            }
        }
    }

    fn start_keeping(&mut self, first: &[u8]) {
        if let Some(limit) = self.keep.limit() {
            self.input.keep(first, limit);
        }
    }

    /// The bytes kept since the start, as a payload; `template` is put between the type and the rest.
    fn kept(&mut self, encoding: Encoding, template: Option<u64>) -> Value {
        let Some(limit) = self.keep.limit() else {
            return Value::NotKept;
        };
        let (mut bytes, mut length) = self.input.kept();
        if let Some(template) = template.and_then(|id| self.templates.get(&id)) {
            length = length.saturating_add(template.bytes.len() as u64);
            if length <= limit as u64 {
                bytes.splice(1..1, template.bytes.iter().copied());
            }
        }
        if length > limit as u64 {
            return Value::TooLarge(length);
        }
        Value::Payload(frame(bytes, encoding.version()))
    }

    /// Reads a template: its id and its fields.
    fn template(&mut self) -> Result<(), RdbError> {
        let id = self.input.length()?;
        self.input.keep(&[FIELDS_ONE_BY_ONE], self.template_room);
        let fields = self.input.length()?;
        for _ in 0..fields {
            self.input.skip_string()?;
        }
        let (bytes, length) = self.input.kept();
        let room = usize::try_from(length).ok();
        let room = room.and_then(|length| self.template_room.checked_sub(length));
        self.template_room = room.ok_or_else(|| {
            self.input
                .damaged("the field names of its hash templates exceed 1 GiB")
        })?;
        if fields == 0 {
            return Err(self.input.damaged("a hash template without fields"));
        }
        match self.templates.insert(id, Template { fields, bytes }) {
            None => Ok(()),
            Some(_) => Err(self.input.damaged("two hash templates with the same id")),
        }
    }

    fn fields_of(&self, template: u64, at: u64) -> Result<u64, RdbError> {
        let known = self.templates.get(&template).map(|known| known.fields);
        known.ok_or(RdbError::MissingTemplate { template, at })
    }

    /// Reads a listpack of the id of a template and one value per field.
    fn listpack_of_template(&mut self) -> Result<Value, RdbError> {
        let at = self.input.position();
        self.start_keeping(&[Encoding::TemplateListpack.number()]);
        let packed = self.input.string()?;
        let head = listpack_head(&packed).and_then(|(id, items)| {
            let id = u64::try_from(id).ok()?;
            Some((id, items))
        });
        let (id, items) =
            head.ok_or_else(|| self.input.damaged("a hash without the id of its template"))?;
        let fields = self.fields_of(id, at)?;
        if items.is_some_and(|items| u64::from(items) != fields.saturating_add(1)) {
            return Err(self
                .input
                .damaged("a hash with more or fewer values than fields"));
        }
        Ok(self.kept(Encoding::TemplateListpack, Some(id)))
    }

    /// Reads the id of a template and one value per field.
    fn array_of_template(&mut self) -> Result<Value, RdbError> {
        let at = self.input.position();
        let id = self.input.length()?;
        let fields = self.fields_of(id, at)?;
        self.start_keeping(&[Encoding::TemplateArray.number()]);
        for _ in 0..fields {
            self.input.skip_string()?;
        }
        Ok(self.kept(Encoding::TemplateArray, Some(id)))
    }

    /// Verifies the checksum, and that nothing follows it. Files older than version 5 have none.
    fn end(&mut self) -> Result<Checksum, RdbError> {
        let computed = self.input.checksum();
        let checksum = if self.header.version < FIRST_CHECKSUM {
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

/// Returns the nine letters of a module type (module.c, moduleTypeNameByID).
pub(super) fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // The lowest ten bits are a version.
    (0..9)
        .map(|i| char::from(LETTERS[(id >> (58 - 6 * i)) as usize & 63]))
        .collect()
}
