//! Many keys in one write, without a value or an allocation for each reply.
//!
//! This uses a stream of its own: a restore sends hundreds of thousands of keys per second. A reply tells only whether
//! the key was written; what was not is sent again by [`NodeClient::restore_many`](super::NodeClient::restore_many),
//! which learns why.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tracing::info;

use super::connect::{Connector, Login, Transport};
use super::error::{ClientError, Fault};
use super::replication::Wire;
use super::transfer::{BYTES_PER_SECOND, RestoreMode, Restoring};
use crate::cluster::node::{Addr, NodeId};
use crate::journal::SentChanges;

/// The command in errors.
const NAME: &str = "RESTORE";
/// Larger values are written by themselves, and not copied.
const COPIED: usize = 64 << 10;
/// The bytes of commands that are collected before they are written.
const COLLECTED: usize = 256 << 10;
/// The longest reply.
const LINE_LIMIT: usize = 8 << 10;

/// A key to be written.
#[derive(Debug, Clone, Copy)]
pub enum Writing<'a> {
    /// SET: a string without expiry. The server computes no checksum and copies no value, unlike for RESTORE.
    Text {
        /// The name of the key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// RESTORE.
    Payload(Restoring<'a>),
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
    commands: Vec<u8>,
    replies: Vec<u8>,
}

impl Connector {
    /// Opens a connection that writes keys to one database. `None` if there is a journal, which has a line for each
    /// command.
    pub async fn bulk(
        &self,
        addr: &Addr,
        login: &Login,
        transport: &Transport,
        expected: Option<NodeId>,
        database: u32,
    ) -> Result<Option<BulkWriter>, ClientError> {
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
        Ok(Some(BulkWriter {
            addr: addr.clone(),
            wire,
            command_timeout: self.command_timeout,
            sent: self.sent.clone(),
            commands: Vec::new(),
            replies: Vec::new(),
        }))
    }
}

impl BulkWriter {
    /// Writes keys; returns the result of each. After an error the connection can't be used any more, and some keys may
    /// have been written.
    pub async fn write(
        &mut self,
        keys: &[Writing<'_>],
        mode: RestoreMode,
    ) -> Result<Vec<Written>, ClientError> {
        let bytes: usize = keys.iter().map(Writing::bytes).sum();
        let after = self.command_timeout + Duration::from_secs(bytes as u64 / BYTES_PER_SECOND);
        let started = Instant::now();
        let exchange = async {
            self.send(keys, mode).await?;
            self.receive(keys.len()).await
        };
        let fault = match timeout(after, exchange).await {
            Ok(Ok(written)) => {
                let count = written.iter().filter(|one| **one == Written::Yes).count();
                if count > 0 {
                    self.sent.note();
                }
                info!(
                    "{}  SET or RESTORE of {} keys  →  {count} written  ({:.1} ms)",
                    self.addr,
                    keys.len(),
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

    async fn send(&mut self, keys: &[Writing<'_>], mode: RestoreMode) -> Result<(), Fault> {
        let closed = |_| Fault::Closed { command: NAME };
        self.commands.clear();
        for key in keys {
            let value = key.begin(mode, &mut self.commands);
            if value.len() > COPIED {
                self.flush().await?;
                self.wire.writer.write_all(value).await.map_err(closed)?;
            } else {
                self.commands.extend_from_slice(value);
            }
            key.end(mode, &mut self.commands);
            if self.commands.len() >= COLLECTED {
                self.flush().await?;
            }
        }
        self.flush().await?;
        self.wire.writer.flush().await.map_err(closed)
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        let written = self.wire.writer.write_all(&self.commands).await;
        self.commands.clear();
        written.map_err(|_| Fault::Closed { command: NAME })
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
        [b'-', error @ ..] if error.starts_with(b"NOPERM") => Ok(Written::Denied),
        [b'-', ..] => Ok(Written::No),
        _ => Err(Fault::Malformed { command: NAME }),
    }
}

impl<'a> Writing<'a> {
    fn bytes(&self) -> usize {
        match self {
            Self::Text { value, .. } => value.len(),
            Self::Payload(restoring) => restoring.payload.len(),
        }
    }

    /// Writes the command up to its value, and returns that.
    fn begin(&self, mode: RestoreMode, out: &mut Vec<u8>) -> &'a [u8] {
        match self {
            Self::Text { key, value } => {
                let words = match mode {
                    RestoreMode::Keep => 4,
                    RestoreMode::Replace => 3,
                };
                head(words, out);
                word(b"SET", out);
                word(key, out);
                length(value.len(), out);
                value
            }
            Self::Payload(restoring) => {
                let (time, _) = restoring.time();
                head(4 + restoring.options(mode).len(), out);
                word(b"RESTORE", out);
                word(restoring.key, out);
                word(time.to_string().as_bytes(), out);
                length(restoring.payload.len(), out);
                restoring.payload
            }
        }
    }

    /// Writes the rest of the command.
    fn end(&self, mode: RestoreMode, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        match self {
            Self::Text { .. } if mode == RestoreMode::Keep => word(b"NX", out),
            Self::Text { .. } => {}
            Self::Payload(restoring) => {
                for option in restoring.options(mode) {
                    word(option.as_bytes(), out);
                }
            }
        }
    }
}

fn head(words: usize, out: &mut Vec<u8>) {
    line(b'*', words, out);
}

fn length(length: usize, out: &mut Vec<u8>) {
    line(b'$', length, out);
}

/// Writes a number, several times faster than `write!` does.
fn line(kind: u8, number: usize, out: &mut Vec<u8>) {
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

fn word(word: &[u8], out: &mut Vec<u8>) {
    length(word.len(), out);
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::transfer::Expiry;
    use super::*;

    fn command(writing: Writing<'_>, mode: RestoreMode) -> String {
        let mut out = Vec::new();
        let value = writing.begin(mode, &mut out);
        out.extend_from_slice(value);
        writing.end(mode, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn commands_are_those_of_the_protocol() {
        let text = Writing::Text {
            key: b"k",
            value: b"abc",
        };
        assert_eq!(
            command(text, RestoreMode::Keep),
            "*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nabc\r\n$2\r\nNX\r\n"
        );
        assert_eq!(
            command(text, RestoreMode::Replace),
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nabc\r\n"
        );
        let restoring = Restoring {
            key: b"k",
            payload: b"pp",
            expires: Expiry::At(1_700),
            idle: Some(9),
            frequency: None,
        };
        assert_eq!(
            command(Writing::Payload(restoring), RestoreMode::Replace),
            "*8\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$4\r\n1700\r\n$2\r\npp\r\n$7\r\nREPLACE\r\n$6\r\nABSTTL\r\n\
             $8\r\nIDLETIME\r\n$1\r\n9\r\n"
        );
    }

    #[test]
    fn replies_are_read_strictly() {
        assert_eq!(of_reply(b"+OK\r\n"), Ok(Written::Yes));
        assert_eq!(of_reply(b"$-1\r\n"), Ok(Written::No));
        assert_eq!(of_reply(b"-BUSYKEY x\r\n"), Ok(Written::No));
        assert_eq!(of_reply(b"-NOPERM x\r\n"), Ok(Written::Denied));
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
