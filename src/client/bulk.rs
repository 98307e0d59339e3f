//! Many keys in one write, without a value or an allocation for each reply.
//!
//! This uses a stream of its own: a restore sends hundreds of thousands of keys per second. Commands are encoded where
//! their values are read ([`WriteCommands`]), and sent as they are. A reply tells only whether the key was written; what
//! was not is sent again by [`NodeClient::restore_many`](super::NodeClient::restore_many), which learns why.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tracing::info;

use super::connect::{Connector, Login, Transport};
use super::error::{ClientError, Denied, Fault};
use super::replication::Wire;
use super::transfer::{BYTES_PER_SECOND, RestoreMode, Restoring};
use crate::cluster::node::{Addr, NodeId};
use crate::journal::SentChanges;
use crate::rdb::Piece;

/// The command in errors.
const NAME: &str = "RESTORE";
/// How long a connection may be idle before it is not used again. Firewalls drop idle connections without a word, and a
/// node that does not answer may end the run.
const FRESH_FOR: Duration = Duration::from_secs(30);
/// The longest reply.
pub(super) const LINE_LIMIT: usize = 8 << 10;

/// Commands that write keys, as they are sent.
#[derive(Debug)]
pub struct WriteCommands {
    mode: RestoreMode,
    /// The commands without the lent values.
    bytes: Vec<u8>,
    lent: Vec<Lent>,
    keys: Vec<Place>,
    lent_bytes: usize,
}

/// A value that is sent from where it was read, without a copy.
#[derive(Debug)]
struct Lent {
    /// Its place in the commands.
    at: usize,
    pieces: Vec<Piece>,
}

/// Where the key and the value of a command are.
#[derive(Debug)]
struct Place {
    key: Range<usize>,
    value: ValuePlace,
}

#[derive(Debug)]
enum ValuePlace {
    Copied(Range<usize>),
    /// The number of the lent value.
    Lent(usize),
}

/// The result of writing a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was written.
    Yes,
    /// It was not: it exists, or there was an error.
    No,
    /// The user has no right to the command.
    Denied,
}

/// A connection that writes keys.
pub struct BulkWriter {
    addr: Addr,
    wire: Wire,
    command_timeout: Duration,
    sent: SentChanges,
    replies: Vec<u8>,
    heard: Heard,
}

/// When a node has answered last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard(Instant);

impl Heard {
    pub(super) fn now() -> Self {
        Self(Instant::now())
    }

    /// Whether the connection can be used without asking whether it is still there.
    pub(super) fn is_recent(self) -> bool {
        self.0.elapsed() < FRESH_FOR
    }
}

impl Connector {
    /// Opens a connection that writes keys to one database. `None` if there is a journal, which has a line for each
    /// command.
    pub async fn bulk_writer(
        &self,
        addr: &Addr,
        login: &Login,
        transport: &Transport,
        expected: Option<NodeId>,
        database: u32,
    ) -> Result<Option<BulkWriter>, ClientError> {
        let wire = self.bulk_wire(addr, login, transport, expected, database);
        Ok(wire.await?.map(|wire| BulkWriter {
            addr: addr.clone(),
            wire,
            command_timeout: self.command_timeout,
            sent: self.sent.clone(),
            replies: Vec::new(),
            heard: Heard::now(),
        }))
    }

    /// Opens the stream of such a connection; `None` if there is a journal.
    pub(super) async fn bulk_wire(
        &self,
        addr: &Addr,
        login: &Login,
        transport: &Transport,
        expected: Option<NodeId>,
        database: u32,
    ) -> Result<Option<Wire>, ClientError> {
        if self.journal.is_some() {
            return Ok(None);
        }
        let opened = async {
            let mut wire = self.wire(addr, login, transport, expected).await?;
            if let Some(name) = &self.name {
                // For other operators; a user may lack the right.
                wire.send("CLIENT SETNAME", &["CLIENT", "SETNAME", name])
                    .await?;
                drop(wire.answer("CLIENT SETNAME").await?);
            }
            if database != 0 {
                wire.send("SELECT", &["SELECT", &database.to_string()])
                    .await?;
                wire.answer("SELECT").await??;
            }
            Ok(wire)
        };
        let wire = opened.await.map_err(|fault: Fault| fault.at(addr))?;
        Ok(Some(wire))
    }
}

impl BulkWriter {
    /// Whether the node has answered a short while ago. Open another connection otherwise.
    pub fn is_fresh(&self) -> bool {
        self.heard.is_recent()
    }

    /// Writes keys; returns the result of each. After an error the connection can't be used any more, and some keys may
    /// have been written.
    pub async fn write(&mut self, commands: &WriteCommands) -> Result<Vec<Written>, ClientError> {
        let seconds = commands.bytes() as u64 / BYTES_PER_SECOND;
        let after = self.command_timeout + Duration::from_secs(seconds);
        let started = Instant::now();
        let exchange = async {
            let sent = self.send(commands).await;
            sent.map_err(|_| Fault::Closed { command: NAME })?;
            self.receive(commands.len()).await
        };
        let fault = match timeout(after, exchange).await {
            Ok(Ok(written)) => {
                self.heard = Heard::now();
                let count = written.iter().filter(|one| **one == Written::Yes).count();
                if count > 0 {
                    self.sent.note();
                }
                info!(
                    "{}  SET or RESTORE of {} keys  →  {count} written  ({:.1} ms)",
                    self.addr,
                    commands.len(),
                    started.elapsed().as_secs_f64() * 1_000.0
                );
                return Ok(written);
            }
            Ok(Err(fault)) => fault,
            Err(_) => Fault::Timeout {
                command: NAME,
                after,
            },
        };
        self.sent.note();
        Err(fault.at(&self.addr))
    }

    async fn send(&mut self, commands: &WriteCommands) -> io::Result<()> {
        let mut slices = Vec::with_capacity(1 + 2 * commands.lent.len());
        let mut from = 0;
        for lent in &commands.lent {
            slices.push(IoSlice::new(&commands.bytes[from..lent.at]));
            slices.extend(lent.pieces.iter().map(|piece| IoSlice::new(piece)));
            from = lent.at;
        }
        slices.push(IoSlice::new(&commands.bytes[from..]));
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match self.wire.writer.write_vectored(left).await? {
                0 => return Err(io::Error::from(io::ErrorKind::WriteZero)),
                written => IoSlice::advance_slices(&mut left, written),
            }
        }
        self.wire.writer.flush().await
    }

    async fn receive(&mut self, count: usize) -> Result<Vec<Written>, Fault> {
        let mut written = Vec::with_capacity(count);
        self.replies.clear();
        loop {
            let mut rest = self.replies.as_slice();
            loop {
                // Nearly all of them.
                while let Some(after) = rest.strip_prefix(b"+OK\r\n") {
                    written.push(Written::Yes);
                    rest = after;
                }
                let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                    break;
                };
                let (line, after) = rest.split_at(end + 1);
                written.push(of_reply(line)?);
                rest = after;
            }
            let left = rest.len();
            if written.len() > count || left > LINE_LIMIT {
                return Err(Fault::Malformed { command: NAME });
            }
            if written.len() == count && left == 0 {
                return Ok(written);
            }
            let parsed = self.replies.len() - left;
            self.replies.drain(..parsed);
            let read = self.wire.reader.read_buf(&mut self.replies).await;
            if !matches!(read, Ok(1..)) {
                return Err(Fault::Closed { command: NAME });
            }
        }
    }
}

/// The meaning of a line: `+OK`, `$-1` of SET NX, or an error.
fn of_reply(line: &[u8]) -> Result<Written, Fault> {
    match line {
        b"+OK\r\n" => Ok(Written::Yes),
        b"$-1\r\n" | b"_\r\n" => Ok(Written::No),
        [b'-', error @ ..] if error.starts_with(b"NOPERM") => {
            Ok(match Denied::of_message(&String::from_utf8_lossy(error)) {
                Denied::Command | Denied::Database => Written::Denied,
                // Others of its commands may be allowed.
                Denied::Key => Written::No,
            })
        }
        [b'-', ..] => Ok(Written::No),
        _ => Err(Fault::Malformed { command: NAME }),
    }
}

impl WriteCommands {
    /// No commands yet. `memory` is where they are put; its content is dropped.
    pub fn new(mode: RestoreMode, mut memory: Vec<u8>) -> Self {
        memory.clear();
        Self {
            mode,
            bytes: memory,
            lent: Vec::new(),
            keys: Vec::new(),
            lent_bytes: 0,
        }
    }

    /// The memory, for other commands.
    pub fn into_memory(self) -> Vec<u8> {
        self.bytes
    }

    /// The number of commands.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The bytes of all commands.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.lent_bytes
    }

    /// The key of a command.
    pub fn key(&self, number: usize) -> &[u8] {
        let place = self.keys.get(number);
        place.map_or(&[], |place| &self.bytes[place.key.clone()])
    }

    /// The bytes of a value: a string, or a payload.
    pub fn value_length(&self, number: usize) -> usize {
        self.value(number).map(<[u8]>::len).sum()
    }

    /// A value, in pieces.
    pub fn value(&self, number: usize) -> impl Iterator<Item = &[u8]> {
        let (copied, lent): (&[u8], &[Piece]) = match self.keys.get(number).map(|one| &one.value) {
            Some(ValuePlace::Copied(range)) => (&self.bytes[range.clone()], &[]),
            Some(ValuePlace::Lent(number)) => (&[], &self.lent[*number].pieces),
            None => (&[], &[]),
        };
        std::iter::once(copied).chain(lent.iter().map(|piece| &**piece))
    }

    /// Adds SET: a string without expiry. The server computes no checksum and copies no value, unlike for RESTORE.
    /// `append` appends the value, which has `length` bytes. Nothing is added if it fails.
    pub fn set<E>(
        &mut self,
        key: &[u8],
        length: u64,
        append: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.bytes.len();
        let key = self.begin_set(key, length);
        let start = self.bytes.len();
        if let Err(error) = append(&mut self.bytes) {
            self.bytes.truncate(before);
            return Err(error);
        }
        let value = ValuePlace::Copied(start..self.bytes.len());
        self.end_set(Place { key, value });
        Ok(())
    }

    /// The same with a value that is at hand.
    pub fn set_copied(&mut self, key: &[u8], value: &[u8]) {
        let key = self.begin_set(key, value.len() as u64);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        let value = ValuePlace::Copied(start..self.bytes.len());
        self.end_set(Place { key, value });
    }

    /// The same with a value that is not copied.
    pub fn set_lent(&mut self, key: &[u8], pieces: Vec<Piece>) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let key = self.begin_set(key, length as u64);
        let value = self.lend(pieces, length);
        self.end_set(Place { key, value });
    }

    /// Adds RESTORE; the payload is that of `restoring`.
    pub fn restore(&mut self, restoring: &Restoring<'_>) {
        let payload = restoring.payload;
        let key = self.begin_restore(restoring, payload.len());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        let value = ValuePlace::Copied(start..self.bytes.len());
        self.end_restore(restoring, Place { key, value });
    }

    /// The same with a payload that is not copied.
    pub fn restore_lent(&mut self, restoring: &Restoring<'_>, pieces: Vec<Piece>) {
        let length = pieces.iter().map(|piece| piece.len()).sum();
        let key = self.begin_restore(restoring, length);
        let value = self.lend(pieces, length);
        self.end_restore(restoring, Place { key, value });
    }

    /// Writes RESTORE up to its payload; returns where the key is.
    fn begin_restore(&mut self, restoring: &Restoring<'_>, length: usize) -> Range<usize> {
        let words = 4 + restoring.options(self.mode).len() as u64;
        let (time, _) = restoring.time();
        head(words, &mut self.bytes);
        word(b"RESTORE", &mut self.bytes);
        let key = word(restoring.key, &mut self.bytes);
        word(time.to_string().as_bytes(), &mut self.bytes);
        line(b'$', length as u64, &mut self.bytes);
        key
    }

    fn end_restore(&mut self, restoring: &Restoring<'_>, place: Place) {
        self.bytes.extend_from_slice(b"\r\n");
        for option in restoring.options(self.mode) {
            word(option.as_bytes(), &mut self.bytes);
        }
        self.keys.push(place);
    }

    /// Writes SET up to its value; returns where the key is.
    fn begin_set(&mut self, key: &[u8], length: u64) -> Range<usize> {
        let words = match self.mode {
            RestoreMode::Keep => 4,
            RestoreMode::Replace => 3,
        };
        head(words, &mut self.bytes);
        word(b"SET", &mut self.bytes);
        let key = word(key, &mut self.bytes);
        line(b'$', length, &mut self.bytes);
        key
    }

    fn end_set(&mut self, place: Place) {
        self.bytes.extend_from_slice(match self.mode {
            RestoreMode::Keep => b"\r\n$2\r\nNX\r\n",
            RestoreMode::Replace => b"\r\n",
        });
        self.keys.push(place);
    }

    fn lend(&mut self, pieces: Vec<Piece>, length: usize) -> ValuePlace {
        self.lent_bytes += length;
        let at = self.bytes.len();
        self.lent.push(Lent { at, pieces });
        ValuePlace::Lent(self.lent.len() - 1)
    }
}

pub(super) fn head(words: u64, out: &mut Vec<u8>) {
    line(b'*', words, out);
}

/// Writes a number, several times faster than `write!` does.
fn line(kind: u8, number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 24];
    let mut from = digits.len();
    let mut left = number;
    loop {
        from -= 1;
        digits[from] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.push(kind);
    out.extend_from_slice(&digits[from..]);
    out.extend_from_slice(b"\r\n");
}

/// Writes a word; returns where it is.
pub(super) fn word(word: &[u8], out: &mut Vec<u8>) -> Range<usize> {
    line(b'$', word.len() as u64, out);
    let start = out.len();
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
    start..start + word.len()
}

#[cfg(test)]
mod tests {
    use super::super::transfer::Expiry;
    use super::*;

    /// What is sent.
    fn sent(commands: &WriteCommands) -> String {
        let mut out = commands.bytes.clone();
        for lent in commands.lent.iter().rev() {
            let value = lent.pieces.iter().flat_map(|piece| piece.to_vec());
            out.splice(lent.at..lent.at, value);
        }
        String::from_utf8(out).unwrap()
    }

    fn set(commands: &mut WriteCommands, key: &[u8], value: &[u8]) {
        let append = |out: &mut Vec<u8>| {
            out.extend_from_slice(value);
            Ok::<_, ()>(())
        };
        commands.set(key, value.len() as u64, append).unwrap();
    }

    #[test]
    fn commands_are_those_of_the_protocol() {
        let mut commands = WriteCommands::new(RestoreMode::Keep, b"before".to_vec());
        set(&mut commands, b"k", b"abc");
        let keep = "*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nabc\r\n$2\r\nNX\r\n";
        assert_eq!(sent(&commands), keep);
        // A value that can't be read leaves nothing behind.
        let fails = |out: &mut Vec<u8>| {
            out.push(b'a');
            Err(())
        };
        assert_eq!(commands.set(b"other", 2, fails), Err(()));
        assert_eq!((commands.len(), sent(&commands).as_str()), (1, keep));
        let mut commands = WriteCommands::new(RestoreMode::Replace, Vec::new());
        set(&mut commands, b"k", b"abc");
        assert_eq!(
            sent(&commands),
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nabc\r\n"
        );
    }

    #[test]
    fn lent_values_are_sent_in_their_places() {
        let restoring = Restoring {
            key: b"k",
            payload: b"pp",
            expires: Expiry::At(1_700),
            idle: Some(9),
            frequency: None,
        };
        let restore = "*8\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$4\r\n1700\r\n$2\r\npp\r\n$7\r\nREPLACE\r\n\
                       $6\r\nABSTTL\r\n$8\r\nIDLETIME\r\n$1\r\n9\r\n";
        let set = "*3\r\n$3\r\nSET\r\n$2\r\nk2\r\n$4\r\nabcd\r\n";
        let mut commands = WriteCommands::new(RestoreMode::Replace, Vec::new());
        commands.restore(&restoring);
        let pieces = [b"ab".to_vec(), b"cd".to_vec()].map(Piece::from);
        commands.set_lent(b"k2", pieces.to_vec());
        let pieces = [b"p".to_vec(), Vec::new(), b"p".to_vec()].map(Piece::from);
        commands.restore_lent(&restoring, pieces.to_vec());
        assert_eq!(sent(&commands), [restore, set, restore].concat());
        assert_eq!(commands.key(1), b"k2");
        let value = |number| commands.value(number).collect::<Vec<_>>().concat();
        assert_eq!([value(0), value(1), value(2)], [&b"pp"[..], b"abcd", b"pp"]);
        assert_eq!(commands.value_length(1), 4);
        assert_eq!(commands.bytes(), sent(&commands).len());
    }

    #[test]
    fn replies_are_read_strictly() {
        assert_eq!(of_reply(b"+OK\r\n"), Ok(Written::Yes));
        assert_eq!(of_reply(b"$-1\r\n"), Ok(Written::No));
        assert_eq!(of_reply(b"-BUSYKEY x\r\n"), Ok(Written::No));
        assert_eq!(of_reply(b"-NOPERM x\r\n"), Ok(Written::Denied));
        let of_key = b"-NOPERM No permissions to access a key\r\n";
        assert_eq!(of_reply(of_key), Ok(Written::No));
        for line in [
            &b"+QUEUED\r\n"[..],
            b"$5\r\n",
            b":1\r\n",
            b"\n",
            b"HTTP/1.1\r\n",
        ] {
            assert!(of_reply(line).is_err());
        }
    }
}
