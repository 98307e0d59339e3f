//! The blocks of a file: each has a SHA-256 in the manifest, so that a restore can verify and send at the same time.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use ring::digest::{Context, SHA256, digest};

use super::inspect::InspectError;

/// The bytes of a block; the last one of a file has fewer.
pub const BLOCK: usize = 4 << 20;

/// The SHA-256 of a block.
pub type BlockSum = [u8; 32];

/// The number of blocks of a file.
pub(super) fn block_count(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK as u64)
}

/// The checksums of the blocks of a file that arrives in pieces of any length.
pub(super) struct BlockSums {
    done: Vec<BlockSum>,
    context: Context,
    /// The bytes of the current block so far.
    filled: usize,
}

impl Default for BlockSums {
    fn default() -> Self {
        Self {
            done: Vec::new(),
            context: Context::new(&SHA256),
            filled: 0,
        }
    }
}

impl BlockSums {
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (some, rest) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
            self.context.update(some);
            self.filled += some.len();
            bytes = rest;
            if self.filled == BLOCK {
                self.end_block();
            }
        }
    }

    fn end_block(&mut self) {
        let context = std::mem::replace(&mut self.context, Context::new(&SHA256));
        let mut sum = BlockSum::default();
        sum.copy_from_slice(context.finish().as_ref());
        self.done.push(sum);
        self.filled = 0;
    }

    pub(super) fn finish(mut self) -> Arc<[BlockSum]> {
        if self.filled > 0 {
            self.end_block();
        }
        self.done.into()
    }
}

/// A file that is read block by block. Hands out no byte of a block before all of the block is verified.
pub struct VerifiedFile {
    file: File,
    sums: Arc<[BlockSum]>,
    /// The next block.
    next: usize,
    /// The bytes that are left.
    left: u64,
}

impl VerifiedFile {
    /// Opens a file that has these blocks, `bytes` together.
    pub fn open(path: &Path, sums: Arc<[BlockSum]>, bytes: u64) -> Result<Self, InspectError> {
        let file = File::open(path).map_err(InspectError::open(path))?;
        Ok(Self {
            file,
            sums,
            next: 0,
            left: bytes,
        })
    }
}

impl Read for VerifiedFile {
    /// Reads one block. The buffer must have room for it: nothing is kept here.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.left).unwrap_or(BLOCK).min(BLOCK);
        if length == 0 {
            return Ok(0);
        }
        let number = self.next;
        let (Some(block), Some(sum)) = (buffer.get_mut(..length), self.sums.get(number)) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        self.file.read_exact(block)?;
        if digest(&SHA256, block).as_ref() != sum {
            let from = number as u64 * BLOCK as u64;
            let to = from + length as u64;
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "bytes {from} to {to} are damaged: their SHA-256 is not that of the manifest"
                ),
            ));
        }
        self.next += 1;
        self.left -= length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn sums(bytes: &[u8], piece: usize) -> Arc<[BlockSum]> {
        let mut sums = BlockSums::default();
        bytes.chunks(piece).for_each(|piece| sums.update(piece));
        sums.finish()
    }

    /// What is read before the first error, and the error.
    fn read(path: &Path, sums: &Arc<[BlockSum]>, bytes: u64) -> (Vec<u8>, Option<String>) {
        let mut file = VerifiedFile::open(path, Arc::clone(sums), bytes).unwrap();
        let (mut all, mut buffer) = (Vec::new(), vec![0; BLOCK]);
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return (all, None),
                Ok(count) => all.extend_from_slice(&buffer[..count]),
                Err(error) => return (all, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn sums_do_not_depend_on_the_pieces() {
        let bytes: Vec<u8> = (0..2 * BLOCK + 7).map(|n| (n % 251) as u8).collect();
        let whole = sums(&bytes, usize::MAX);
        assert_eq!(whole.len() as u64, block_count(bytes.len() as u64));
        for piece in [1 << 10, 12_345, BLOCK, BLOCK + 1] {
            assert_eq!(sums(&bytes, piece), whole, "{piece}");
        }
        assert_eq!(sums(&[], 1).len() as u64, block_count(0));
        assert_eq!(
            sums(&bytes[..BLOCK], 999).len() as u64,
            block_count(BLOCK as u64)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// No byte of a damaged block is handed out, and all bytes before it are.
        #[test]
        fn damaged_blocks_are_not_handed_out(at in 0..3 * BLOCK, bit in 0_u8..8) {
            let bytes = vec![7; 3 * BLOCK];
            let sums = sums(&bytes, BLOCK);
            let file = tempfile::NamedTempFile::new().unwrap();
            let length = bytes.len() as u64;
            fs::write(file.path(), &bytes).unwrap();
            prop_assert_eq!(read(file.path(), &sums, length), (bytes.clone(), None));
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            fs::write(file.path(), &damaged).unwrap();
            let (some, error) = read(file.path(), &sums, length);
            let whole = at / BLOCK * BLOCK;
            prop_assert_eq!(&some, &bytes[..whole]);
            let said = format!("bytes {whole} to {} are damaged", whole + BLOCK);
            prop_assert!(error.unwrap().starts_with(&said));
            // Truncated.
            fs::write(file.path(), &bytes[..at]).unwrap();
            let (some, error) = read(file.path(), &sums, length);
            prop_assert_eq!(&some, &bytes[..whole]);
            prop_assert!(error.is_some());
        }
    }
}
