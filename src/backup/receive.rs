//! A file on its way from a node to the disk, parsed and summed as it passes.

use std::io::{self, Read};

use tokio::sync::mpsc;

use super::inspect::{Inspection, Sums, inspect_bytes};
use super::store::{StoreError, Unfinished};
use crate::cluster::slot::SlotSet;
use crate::rdb::RdbError;

/// The pieces that wait for the disk. A piece has 256 KiB at most.
const WAITING: usize = 8;

/// Why a file is not complete.
pub(super) enum Received {
    /// It can't be written.
    Unwritten(StoreError),
    /// It is not a valid RDB file.
    Invalid(RdbError),
}

/// The bytes of a file that arrive one piece after the other; each is written before it is handed out.
pub(super) struct Receiving {
    pieces: mpsc::Receiver<Vec<u8>>,
    file: Unfinished,
    piece: Vec<u8>,
    /// The bytes of the piece that were handed out.
    taken: usize,
    fault: Option<StoreError>,
}

impl Receiving {
    /// Returns the queue for the pieces; its end is the end of the file.
    pub(super) fn new(file: Unfinished) -> (Self, mpsc::Sender<Vec<u8>>) {
        let (sender, pieces) = mpsc::channel(WAITING);
        let receiving = Self {
            pieces,
            file,
            piece: Vec::new(),
            taken: 0,
            fault: None,
        };
        (receiving, sender)
    }

    /// Writes all pieces and syncs the file, on a thread that may block.
    pub(super) fn receive(mut self, slots: &SlotSet) -> Result<(Unfinished, Inspection), Received> {
        let found = inspect_bytes(&mut self, slots, Sums::Blocks, &|_| {});
        if let Some(fault) = self.fault {
            return Err(Received::Unwritten(fault));
        }
        let found = found.map_err(Received::Invalid)?;
        self.file.sync().map_err(Received::Unwritten)?;
        Ok((self.file, found))
    }
}

impl Read for Receiving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.piece.len() {
            let Some(piece) = self.pieces.blocking_recv() else {
                return Ok(0);
            };
            if let Err(fault) = self.file.write(&piece) {
                self.fault = Some(fault);
                return Err(io::ErrorKind::Other.into());
            }
            self.piece = piece;
            self.taken = 0;
        }
        let rest = self.piece.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        Ok(count)
    }
}
