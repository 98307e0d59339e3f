//! What DUMP answers and RESTORE takes: type, value, RDB version, checksum.

use super::encoding::{Dialect, Encoding};
use super::input::CRC64;
use super::reader::module_name;

/// Version (2 bytes) and checksum (8) at the end.
const FOOTER: usize = 10;

/// RESTORE is as old as this version (Redis 2.6).
const OLDEST: u16 = 6;

/// The first version that is Valkey's own; Redis is not expected to come near.
const VALKEY_FROM: u16 = 80;

/// A value with its type in front, as it stands in an RDB file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload<'a> {
    /// Type and value.
    pub value: &'a [u8],
    /// The RDB version that it was framed with.
    pub version: u16,
}

/// Bytes that are no answer to DUMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the answer to a DUMP: its checksum is wrong")]
pub struct NotAPayload;

impl<'a> Payload<'a> {
    /// Takes the answer to a DUMP apart. Servers without checksums in their RDB files still write
    /// them here.
    pub fn read(dump: &'a [u8]) -> Result<Self, NotAPayload> {
        let (value, footer) = dump
            .len()
            .checked_sub(FOOTER)
            .filter(|length| *length > 0)
            .map(|length| dump.split_at(length))
            .ok_or(NotAPayload)?;
        let (version, sum) = footer.split_at(2);
        let computed = CRC64.checksum(&dump[..value.len() + 2]);
        if sum != computed.to_le_bytes() {
            return Err(NotAPayload);
        }
        Ok(Self {
            value,
            version: u16::from_le_bytes([version[0], version[1]]),
        })
    }

    /// Whose numbers the types are, as far as the version tells.
    pub fn dialect(&self) -> Dialect {
        match self.version {
            VALKEY_FROM.. => Dialect::Valkey,
            _ => Dialect::Redis,
        }
    }

    /// How the value is written; `None` where that is not known.
    pub fn encoding(&self) -> Option<Encoding> {
        Encoding::of(*self.value.first()?, self.dialect())
    }

    /// The oldest version that it can be framed with: the one that brought its type.
    ///
    /// A server checks the version, and then reads the value by its type alone: so a type that an
    /// older server knows is safe there, one that it does not know is still refused by the
    /// version. Of a type that is not known here the version stays.
    fn oldest_version(&self) -> u16 {
        self.encoding().map_or(self.version, Encoding::version)
    }
}

/// The type that a module gave a value, where one did: its id follows the number of the type, as a
/// length of eight bytes (rdb.c, rdbSaveObjectType and rdbSaveObject).
pub fn module_type(payload: &[u8]) -> Option<String> {
    let [_, 0x81, id @ ..] = payload else {
        return None;
    };
    let encoding = Encoding::of(*payload.first()?, Dialect::Redis);
    let id = id
        .first_chunk()
        .filter(|_| encoding == Some(Encoding::Module2))?;
    Some(module_name(u64::from_be_bytes(*id)))
}

/// The answer to a DUMP for RESTORE on as many servers as can be, and how its value is written
/// where that is known. What is no such answer stays as it is: the server may know better.
pub fn portable(mut dump: Vec<u8>) -> (Vec<u8>, Option<Encoding>) {
    let Ok(read) = Payload::read(&dump) else {
        return (dump, None);
    };
    let (version, encoding) = (read.oldest_version(), read.encoding());
    // In place: it may be as large as 512 MiB.
    dump.truncate(read.value.len());
    (frame(dump, version), encoding)
}

/// Puts version and checksum behind a value with its type in front.
pub(super) fn frame(mut value: Vec<u8>, version: u16) -> Vec<u8> {
    value.reserve_exact(FOOTER);
    value.extend_from_slice(&version.max(OLDEST).to_le_bytes());
    let sum = CRC64.checksum(&value);
    value.extend_from_slice(&sum.to_le_bytes());
    value
}
