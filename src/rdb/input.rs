//! Bytes in, counted and summed; what belongs to a value is kept aside.

use std::io::Read;

use crc::{CRC_64_REDIS, Crc, Digest, Table};

use super::RdbError;

/// The checksum of RDB files and payloads (Jones' polynomial, reflected, from 0).
pub(super) static CRC64: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// How much is read from the file at a time.
const BUFFER: usize = 256 * 1024;

/// A stream of bytes with its checksum so far.
pub(super) struct Input<R> {
    inner: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Where in the buffer the bytes begin that the sum does not hold yet.
    unsummed: usize,
    sum: Digest<'static, u64, Table<16>>,
    /// Bytes that were handed out.
    read: u64,
    kept: Option<Kept>,
}

/// What is kept of a value.
struct Kept {
    bytes: Vec<u8>,
    limit: usize,
    /// How many there were, kept or not.
    length: u64,
}

/// A length, or what stands in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// So many bytes or items.
    Plain(u64),
    /// A string that is written in another form.
    Special(u8),
}

impl<R: Read> Input<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            unsummed: 0,
            sum: CRC64.digest(),
            read: 0,
            kept: None,
        }
    }

    /// How many bytes were handed out.
    pub(super) fn position(&self) -> u64 {
        self.read
    }

    pub(super) fn damaged(&self, what: &'static str) -> RdbError {
        let at = self.read;
        RdbError::Damaged { at, what }
    }

    /// From here on bytes are kept, up to `limit`; beyond, they are only counted.
    pub(super) fn keep(&mut self, first: u8, limit: usize) {
        self.kept = Some(Kept {
            bytes: vec![first],
            limit,
            length: 1,
        });
    }

    /// What was kept, and how many bytes it should be.
    pub(super) fn kept(&mut self) -> (Vec<u8>, u64) {
        match self.kept.take() {
            Some(kept) => (kept.bytes, kept.length),
            None => (Vec::new(), 0),
        }
    }

    /// The checksum of all bytes that were handed out.
    pub(super) fn checksum(&mut self) -> u64 {
        self.sum.update(&self.buffer[self.unsummed..self.start]);
        self.unsummed = self.start;
        self.sum.clone().finalize()
    }

    /// Whether there is anything more.
    pub(super) fn is_at_end(&mut self) -> Result<bool, RdbError> {
        Ok(self.start == self.end && !self.fill()?)
    }

    /// Reads more; false at the end of the file. All that was there has been handed out.
    fn fill(&mut self) -> Result<bool, RdbError> {
        self.sum.update(&self.buffer[self.unsummed..self.start]);
        self.start = 0;
        self.end = 0;
        self.unsummed = 0;
        loop {
            match self.inner.read(&mut self.buffer) {
                Ok(count) => {
                    self.end = count;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Hands out the next `most` bytes, or fewer where the buffer ends; at least one.
    fn take(&mut self, most: usize) -> Result<&[u8], RdbError> {
        if self.start == self.end && !self.fill()? {
            return Err(RdbError::Truncated { at: self.read });
        }
        let count = most.min(self.end - self.start);
        let bytes = &self.buffer[self.start..self.start + count];
        self.start += count;
        self.read += count as u64;
        if let Some(kept) = &mut self.kept {
            kept.length += count as u64;
            if kept.length <= kept.limit as u64 {
                kept.bytes.extend_from_slice(bytes);
            } else {
                // Too large to be used: nor does it take room until its end is found.
                kept.bytes = Vec::new();
            }
        }
        Ok(bytes)
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), RdbError> {
        let mut left = count;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            left -= self.take(most)?.len() as u64;
        }
        Ok(())
    }

    /// As many bytes as the array holds.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        let mut bytes = [0; N];
        let mut filled = 0;
        while filled < N {
            let taken = self.take(N - filled)?;
            bytes[filled..filled + taken.len()].copy_from_slice(taken);
            filled += taken.len();
        }
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, RdbError> {
        Ok(self.array::<1>()?[0])
    }

    /// So many bytes; room is made as they come, whatever was announced.
    pub(super) fn bytes(&mut self, count: u64) -> Result<Vec<u8>, RdbError> {
        let mut bytes = Vec::new();
        let mut left = count;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let taken = self.take(most)?;
            bytes.extend_from_slice(taken);
            left -= taken.len() as u64;
        }
        Ok(bytes)
    }

    /// A length or a special form (rdb.c, rdbLoadLen).
    pub(super) fn length_or_special(&mut self) -> Result<Length, RdbError> {
        let first = self.byte()?;
        Ok(match (first >> 6, first) {
            (0, _) => Length::Plain(u64::from(first)),
            (1, _) => {
                let low = self.byte()?;
                Length::Plain(u64::from(first & 0x3f) << 8 | u64::from(low))
            }
            (3, _) => Length::Special(first & 0x3f),
            (_, 0x80) => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
            (_, 0x81) => Length::Plain(u64::from_be_bytes(self.array()?)),
            _ => return Err(self.damaged("no length begins like this")),
        })
    }

    /// A length.
    pub(super) fn length(&mut self) -> Result<u64, RdbError> {
        match self.length_or_special()? {
            Length::Plain(length) => Ok(length),
            Length::Special(_) => Err(self.damaged("a length is missing")),
        }
    }
}
