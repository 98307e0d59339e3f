//! RDB files that are packed by gzip or zstd, told apart by their first bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The bytes that are read at a time.
const BUFFER: usize = 256 << 10;

/// The bytes of an RDB file.
pub type RdbBytes = Box<dyn Read + Send>;

/// Opens a file, and unpacks it if it is packed.
pub fn open_rdb(path: &Path) -> io::Result<RdbBytes> {
    unpack(File::open(path)?)
}

/// Returns the number of bytes that [`open_rdb`] reads, if it is known: those of a packed file are not.
pub fn rdb_length(path: &Path) -> io::Result<Option<u64>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut head = Vec::new();
    file.take(ZSTD.len() as u64).read_to_end(&mut head)?;
    let is_packed = head.starts_with(&GZIP) || head == ZSTD;
    Ok((!is_packed).then_some(length))
}

/// Unpacks bytes if they are packed.
pub fn unpack(mut bytes: impl Read + Send + 'static) -> io::Result<RdbBytes> {
    let mut head = Vec::new();
    Read::by_ref(&mut bytes)
        .take(ZSTD.len() as u64)
        .read_to_end(&mut head)?;
    let is_gzip = head.starts_with(&GZIP);
    let is_zstd = head == ZSTD;
    let bytes = Cursor::new(head).chain(bytes);
    Ok(if is_gzip {
        Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, bytes)))
    } else if is_zstd {
        Box::new(Zstd {
            source: BufReader::with_capacity(BUFFER, bytes),
            decoder: FrameDecoder::new(),
            frame: Frame::Ended,
        })
    } else {
        Box::new(bytes)
    })
}

/// Where a packed file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    Begun,
    Ended,
}

/// One frame after the other, as `cat`, `pzstd` and appending writers leave them.
struct Zstd<R> {
    source: BufReader<R>,
    decoder: FrameDecoder,
    frame: Frame,
}

impl<R: Read> Zstd<R> {
    /// Begins the next frame that holds data; false at the end.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            let length = match self.decoder.reset(&mut self.source) {
                Ok(()) => {
                    self.frame = Frame::Begun;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => u64::from(length),
                Err(FrameDecoderError::WindowSizeTooBig { .. }) => {
                    let what = "it is packed by zstd with a window above 128 MiB: unpack it first";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                Err(error) => return Err(invalid(error)),
            };
            let skipped = io::copy(&mut self.source.by_ref().take(length), &mut io::sink())?;
            if skipped < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn invalid(error: FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.frame == Frame::Ended && !self.begin()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let block = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder
                    .decode_blocks(&mut self.source, block)
                    .map_err(invalid)?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.frame = Frame::Ended;
        }
    }
}
