//! Input bytes with position and checksum; the bytes of a value are kept on request.

use std::io::Read;
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, PoisonError};

use super::RdbError;
use super::crc64::{Digest, digest};

/// The bytes read from a file at a time.
pub const BUFFER: usize = 256 * 1024;

/// The two bits in place of a length that begin a special encoding.
pub(super) const SPECIAL: u8 = 0xc0;

/// Bytes in a buffer that is not used again while they are lent.
#[derive(Debug, Clone)]
pub struct Piece {
    buffer: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }
}

impl From<Vec<u8>> for Piece {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            range: 0..bytes.len(),
            buffer: Arc::new(bytes),
        }
    }
}

/// Buffers that readers share, all of one size. One that is lent is used again once all of it is given back.
#[derive(Debug, Clone)]
pub struct Buffers {
    size: usize,
    lent: Arc<Mutex<Vec<Arc<Vec<u8>>>>>,
}

impl Buffers {
    /// No buffers yet; each will have `size` bytes.
    pub fn of(size: usize) -> Self {
        Self {
            size,
            lent: Arc::default(),
        }
    }

    /// Returns a buffer that nobody else has.
    fn take(&self) -> Arc<Vec<u8>> {
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        let free = lent.iter_mut().position(|one| Arc::get_mut(one).is_some());
        free.map_or_else(
            || Arc::new(vec![0; self.size]),
            |free| lent.swap_remove(free),
        )
    }

    fn give(&self, buffer: Arc<Vec<u8>>) {
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        lent.push(buffer);
    }
}

/// A stream of bytes with its checksum so far.
pub(super) struct Input<R> {
    inner: R,
    buffer: Arc<Vec<u8>>,
    buffers: Buffers,
    start: usize,
    end: usize,
    /// The position in the buffer from which bytes are not part of the checksum yet.
    unsummed: usize,
    sum: Digest,
    /// The number of bytes handed out.
    read: u64,
    kept: Option<Kept>,
}

/// The kept bytes of a value.
struct Kept {
    bytes: Vec<u8>,
    limit: usize,
    /// The number of bytes, kept or not.
    length: u64,
}

/// The end of a file.
pub(super) struct Rest<const N: usize> {
    /// The last byte before the checksum.
    pub(super) last: Option<u8>,
    /// The checksum; `None` if fewer bytes are left.
    pub(super) found: Option<[u8; N]>,
    /// The checksum of everything before it.
    pub(super) computed: u64,
}

/// A length, or a special encoding in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// A number of bytes or items.
    Plain(u64),
    /// A string in a special encoding.
    Special(u8),
}

impl<R: Read> Input<R> {
    /// Reads as many bytes at a time as a buffer holds.
    pub(super) fn new(inner: R, buffers: Buffers) -> Self {
        Self {
            inner,
            buffer: buffers.take(),
            buffers,
            start: 0,
            end: 0,
            unsummed: 0,
            sum: digest(),
            read: 0,
            kept: None,
        }
    }

    /// The number of bytes handed out.
    pub(super) fn position(&self) -> u64 {
        self.read
    }

    pub(super) fn damaged(&self, what: &'static str) -> RdbError {
        let at = self.read;
        RdbError::Damaged { at, what }
    }

    /// Keeps bytes from here on, after the `first` ones, up to `limit`; further bytes are only counted.
    pub(super) fn keep(&mut self, first: &[u8], limit: usize) {
        self.kept = Some(Kept {
            bytes: first.to_vec(),
            limit,
            length: first.len() as u64,
        });
    }

    /// Returns the kept bytes, and how many there were.
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
        self.sum.finalize()
    }

    /// Whether the end is reached.
    pub(super) fn is_at_end(&mut self) -> Result<bool, RdbError> {
        Ok(self.start == self.end && !self.fill()?)
    }

    /// Reads more; false at the end of the file. The buffer must be used up. It is filled whatever the pieces are in which
    /// the bytes come: one that is lent for a few bytes takes as much memory as a full one.
    fn fill(&mut self) -> Result<bool, RdbError> {
        self.sum.update(&self.buffer[self.unsummed..self.start]);
        self.start = 0;
        self.end = 0;
        self.unsummed = 0;
        if Arc::get_mut(&mut self.buffer).is_none() {
            let free = self.buffers.take();
            self.buffers.give(std::mem::replace(&mut self.buffer, free));
        }
        // Nobody else has it: this copies nothing.
        let buffer = Arc::<Vec<u8>>::make_mut(&mut self.buffer);
        while let Some(room) = buffer.get_mut(self.end..).filter(|room| !room.is_empty()) {
            match self.inner.read(room) {
                Ok(0) => break,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.end > 0)
    }

    /// Hands out the next `most` bytes, or fewer if the buffer ends; at least one.
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
                // Too large to be used: it is not kept while its end is searched.
                kept.bytes = Vec::new();
            }
        }
        Ok(bytes)
    }

    /// Skips bytes.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), RdbError> {
        let mut left = count;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            left -= self.take(most)?.len() as u64;
        }
        Ok(())
    }

    /// Skips to the end of the file, whose last `N` bytes are a checksum.
    pub(super) fn skip_rest<const N: usize>(&mut self) -> Result<Rest<N>, RdbError> {
        self.checksum();
        let mut sum = self.sum;
        let mut last = None;
        let mut held = Vec::new();
        while !self.is_at_end()? {
            held.extend_from_slice(self.take(usize::MAX)?);
            let before = held.len().saturating_sub(N);
            sum.update(&held[..before]);
            last = held[..before].last().copied().or(last);
            held.drain(..before);
        }
        Ok(Rest {
            last,
            found: held.try_into().ok(),
            computed: sum.finalize(),
        })
    }

    /// Reads as many bytes as the array holds.
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

    /// Reads the first bytes of a file. A file that is shorter is cut off only if it begins like an RDB file.
    pub(super) fn beginning(&mut self) -> Result<[u8; 9], RdbError> {
        let mut bytes = [0; 9];
        for place in 0..bytes.len() {
            match self.byte() {
                Ok(byte) => bytes[place] = byte,
                Err(error @ RdbError::Truncated { .. }) => {
                    let read = &bytes[..place];
                    let is_begun =
                        |word: &[u8]| read.iter().zip(word).all(|(one, other)| one == other);
                    return Err(match is_begun(b"REDIS") || is_begun(b"VALKEY") {
                        true => error,
                        false => RdbError::NotRdb {
                            begins: String::from_utf8_lossy(read).into_owned(),
                        },
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, RdbError> {
        Ok(self.array::<1>()?[0])
    }

    /// Reads `length` bytes; memory is allocated as they arrive, whatever was announced.
    pub(super) fn bytes(&mut self, count: u64) -> Result<Vec<u8>, RdbError> {
        let mut bytes = Vec::new();
        self.append(count, &mut bytes)?;
        Ok(bytes)
    }

    /// Appends the next `count` bytes to `out`, as they arrive.
    pub(super) fn append(&mut self, count: u64, out: &mut Vec<u8>) -> Result<(), RdbError> {
        let mut left = count;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let taken = self.take(most)?;
            out.extend_from_slice(taken);
            left -= taken.len() as u64;
        }
        Ok(())
    }

    /// Lends the next `count` bytes. They are not copied, and their buffers are not used again while they are lent.
    pub(super) fn lend(&mut self, count: u64) -> Result<Vec<Piece>, RdbError> {
        let mut pieces = Vec::new();
        let mut left = count;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let taken = self.take(most)?.len();
            pieces.push(Piece {
                buffer: Arc::clone(&self.buffer),
                range: self.start - taken..self.start,
            });
            left -= taken as u64;
        }
        Ok(pieces)
    }

    /// Reads a length or a special encoding (rdb.c, rdbLoadLen).
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
            _ => return Err(self.damaged("not a valid length")),
        })
    }

    /// Reads a length.
    pub(super) fn length(&mut self) -> Result<u64, RdbError> {
        match self.length_or_special()? {
            Length::Plain(length) => Ok(length),
            Length::Special(_) => Err(self.damaged("a length is missing")),
        }
    }
}
