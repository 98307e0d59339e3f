//! Finds the end of a value by skipping strings and numbers without interpreting them.
//!
//! Every iteration of every loop reads at least one byte, so no count makes this run longer than the file is.

use std::io::Read;

use super::RdbError;
use super::encoding::Encoding;
use super::input::{Input, Length};

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
            Length::Special(INT8) => self.skip(1),
            Length::Special(INT16) => self.skip(2),
            Length::Special(INT32) => self.skip(4),
            Length::Special(LZF) => {
                let compressed = self.length()?;
                self.length()?;
                self.skip(compressed)
            }
            Length::Special(_) => Err(self.damaged("a string in an unknown encoding")),
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
            })
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
