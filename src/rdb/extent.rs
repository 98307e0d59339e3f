//! Finds the end of a value by skipping strings and numbers without interpreting them.
//!
//! Every iteration of every loop reads at least one byte, so no count makes this run longer than the file is.

use std::io::Read;

use super::RdbError;
use super::encoding::Encoding;
use super::input::{Input, Length};
use super::lzf;
use super::packed::listpack;

/// Special encodings of strings (rdb.h).
pub(super) const INT8: u8 = 0;
pub(super) const INT16: u8 = 1;
pub(super) const INT32: u8 = 2;
pub(super) const LZF: u8 = 3;

/// The parts of a module's value.
const MODULE_END: u64 = 0;
const MODULE_SIGNED: u64 = 1;
const MODULE_UNSIGNED: u64 = 2;
const MODULE_FLOAT: u64 = 3;
const MODULE_DOUBLE: u64 = 4;
const MODULE_STRING: u64 = 5;

/// How the fields of a template are written: as one listpack, or one by one (rdb.c, rdbLoadTemplateFields).
pub(super) const FIELDS_LISTPACK: u64 = 0;
pub(super) const FIELDS_ONE_BY_ONE: u8 = 1;

/// The items of an array (array.h): strings and numbers.
pub(super) const ITEM_STRING: u64 = 0;
pub(super) const ITEM_INTEGER: u64 = 1;
pub(super) const ITEM_FLOAT: u64 = 2;
pub(super) const ITEM_SHORT_STRING: u64 = 3;

/// The longest string that is read whole (keys, functions, aux fields): the servers' own limit.
const STRING_LIMIT: u64 = 512 * 1024 * 1024;

/// A stream id, or a pair of 64-bit numbers, uncompressed.
const STREAM_ID: u64 = 16;
const MILLISECONDS: u64 = 8;

impl<R: Read> Input<R> {
    /// Skips a value of that type.
    pub(super) fn skip_value(&mut self, encoding: Encoding) -> Result<(), RdbError> {
        match encoding {
            Encoding::String
            | Encoding::HashZipmap
            | Encoding::ListZiplist
            | Encoding::SetIntset
            | Encoding::ZSetZiplist
            | Encoding::HashZiplist
            | Encoding::HashListpack
            | Encoding::ZSetListpack
            | Encoding::SetListpack
            | Encoding::HashListpackExPreGa => self.skip_string(),
            Encoding::HashListpackEx => {
                self.skip(MILLISECONDS)?;
                self.skip_string()
            }
            Encoding::List | Encoding::Set | Encoding::ListQuicklist => {
                self.each(|input| input.skip_string())
            }
            Encoding::Hash => self.each(|input| {
                input.skip_string()?;
                input.skip_string()
            }),
            Encoding::ZSet => self.each(|input| {
                input.skip_string()?;
                // 253 to 255: not a number, and the two infinities.
                match input.byte()? {
                    253.. => Ok(()),
                    length => input.skip(u64::from(length)),
                }
            }),
            Encoding::ZSet2 => self.each(|input| {
                input.skip_string()?;
                input.skip(8)
            }),
            Encoding::ListQuicklist2 => self.each(|input| {
                input.length()?;
                input.skip_string()
            }),
            Encoding::HashMetadata => {
                self.skip(MILLISECONDS)?;
                self.skip_hash_metadata()
            }
            Encoding::HashMetadataPreGa => self.skip_hash_metadata(),
            Encoding::ValkeyHash2 => self.each(|input| {
                input.skip_string()?;
                input.skip_string()?;
                input.skip(MILLISECONDS)
            }),
            Encoding::Module2 => {
                self.length()?;
                self.skip_module()
            }
            Encoding::Stream => self.skip_stream(1),
            Encoding::Stream2 => self.skip_stream(2),
            Encoding::Stream3 => self.skip_stream(3),
            Encoding::Stream4 => self.skip_stream(4),
            Encoding::Stream5 => self.skip_stream(5),
            Encoding::Array => self.skip_array(),
            Encoding::TemplateListpack => {
                self.skip_fields()?;
                self.skip_string()
            }
            Encoding::TemplateArray => {
                for _ in 0..self.skip_fields()? {
                    self.skip_string()?;
                }
                Ok(())
            }
            // The reader resolves references; it knows the templates.
            Encoding::TemplateListpackRef | Encoding::TemplateArrayRef => {
                Err(self.damaged("a reference to a template"))
            }
            Encoding::Bitmap => {
                // The length of the bitmap in bytes, then the set bits.
                self.length()?;
                self.skip_string()
            }
        }
    }

    /// Skips the fields of a template that stands in the value itself; returns their number.
    fn skip_fields(&mut self) -> Result<u64, RdbError> {
        match self.length()? {
            FIELDS_LISTPACK => {
                let fields = listpack(&self.string()?);
                let fields = fields.ok_or_else(|| self.damaged("the fields of a template"))?;
                Ok(fields.len() as u64)
            }
            format if format == u64::from(FIELDS_ONE_BY_ONE) => {
                let count = self.length()?;
                for _ in 0..count {
                    self.skip_string()?;
                }
                Ok(count)
            }
            _ => Err(self.damaged("the fields of a template in an unknown form")),
        }
    }

    fn skip_array(&mut self) -> Result<(), RdbError> {
        let count = self.length()?;
        match self.length()? {
            0 => {}
            // The index of the last ARINSERT.
            1 => drop(self.length()?),
            _ => return Err(self.damaged("an unknown flag of an array")),
        }
        for _ in 0..count {
            self.length()?;
            match self.length()? {
                ITEM_STRING | ITEM_SHORT_STRING => self.skip_string()?,
                ITEM_INTEGER | ITEM_FLOAT => self.skip(8)?,
                _ => return Err(self.damaged("an unknown item of an array")),
            }
        }
        Ok(())
    }

    /// Reads a string, whole and uncompressed.
    pub(super) fn string(&mut self) -> Result<Vec<u8>, RdbError> {
        let too_long = "a string is longer than a server allows";
        match self.length_or_special()? {
            Length::Plain(length) if length > STRING_LIMIT => Err(self.damaged(too_long)),
            Length::Plain(length) => self.bytes(length),
            Length::Special(INT8) => Ok(decimal(i8::from_le_bytes(self.array()?))),
            Length::Special(INT16) => Ok(decimal(i16::from_le_bytes(self.array()?))),
            Length::Special(INT32) => Ok(decimal(i32::from_le_bytes(self.array()?))),
            Length::Special(LZF) => {
                let packed = self.length()?;
                let length = self.length()?;
                if packed > STRING_LIMIT || length > STRING_LIMIT {
                    return Err(self.damaged(too_long));
                }
                let packed = self.bytes(packed)?;
                lzf::expand(&packed, length, STRING_LIMIT as usize)
                    .ok_or_else(|| self.damaged("a compressed string can't be expanded"))
            }
            Length::Special(_) => Err(self.damaged("a string in an unknown encoding")),
        }
    }

    /// Skips as many items as the next length says.
    fn each(&mut self, item: impl Fn(&mut Self) -> Result<(), RdbError>) -> Result<(), RdbError> {
        for _ in 0..self.length()? {
            item(self)?;
        }
        Ok(())
    }

    pub(super) fn skip_string(&mut self) -> Result<(), RdbError> {
        match self.length_or_special()? {
            Length::Plain(length) => self.skip(length),
            Length::Special(special) => self.skip_special(special),
        }
    }

    /// Skips a string in this special encoding.
    pub(super) fn skip_special(&mut self, special: u8) -> Result<(), RdbError> {
        match special {
            INT8 => self.skip(1),
            INT16 => self.skip(2),
            INT32 => self.skip(4),
            LZF => {
                let compressed = self.length()?;
                self.length()?;
                self.skip(compressed)
            }
            _ => Err(self.damaged("a string in an unknown encoding")),
        }
    }

    /// Skips fields, each with its remaining time to live.
    fn skip_hash_metadata(&mut self) -> Result<(), RdbError> {
        self.each(|input| {
            input.length()?;
            input.skip_string()?;
            input.skip_string()
        })
    }

    /// Skips the parts of a module's value, up to its end.
    pub(super) fn skip_module(&mut self) -> Result<(), RdbError> {
        loop {
            match self.length()? {
                MODULE_END => return Ok(()),
                MODULE_SIGNED | MODULE_UNSIGNED => {
                    self.length()?;
                }
                MODULE_FLOAT => self.skip(4)?,
                MODULE_DOUBLE => self.skip(8)?,
                MODULE_STRING => self.skip_string()?,
                _ => return Err(self.damaged("an unknown part of a module's value")),
            }
        }
    }

    fn skip_lengths(&mut self, count: usize) -> Result<(), RdbError> {
        for _ in 0..count {
            self.length()?;
        }
        Ok(())
    }

    fn skip_stream(&mut self, version: u8) -> Result<(), RdbError> {
        // Listpacks, each with the id of its first item.
        self.each(|input| {
            input.skip_string()?;
            input.skip_string()
        })?;
        // The length and the last id.
        self.skip_lengths(3)?;
        if version >= 2 {
            // The first id, the highest deleted id, the number of entries ever added.
            self.skip_lengths(5)?;
        }
        self.each(|group| {
            group.skip_string()?;
            // The last delivered id, and from version 2 the number of entries read.
            group.skip_lengths(if version >= 2 { 3 } else { 2 })?;
            group.each(|pending| {
                pending.skip(STREAM_ID + MILLISECONDS)?;
                pending.length().map(drop)
            })?;
            group.each(|consumer| {
                consumer.skip_string()?;
                // The seen time, and from version 3 the active time.
                consumer.skip(if version >= 3 { 2 } else { 1 } * MILLISECONDS)?;
                consumer.each(|pending| pending.skip(STREAM_ID))
            })?;
            if version >= 5 {
                // Pending entries that XNACK took from their consumers.
                group.each(|released| released.skip(STREAM_ID))?;
            }
            Ok(())
        })?;
        if version >= 4 {
            // How long, and how many, ids of producers are remembered.
            self.skip_lengths(2)?;
            self.each(|producer| {
                producer.skip_string()?;
                producer.each(|added| {
                    added.skip_string()?;
                    added.skip_lengths(2)
                })
            })?;
            // The number of entries ever added, and of duplicates among them.
            self.skip_lengths(2)?;
        }
        Ok(())
    }
}

fn decimal(number: impl ToString) -> Vec<u8> {
    number.to_string().into_bytes()
}
