//! Many values in one read, without a value or an allocation for each reply.
//!
//! This uses a stream of its own, like [`bulk`](super::bulk): an import reads hundreds of thousands of keys per second.
//! What a server answers with an error is asked for again by [`NodeClient::dump_many`](super::NodeClient::dump_many),
//! which learns why.

use std::ops::Range;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tracing::info;

use super::bulk::{Heard, LINE_LIMIT, head, word};
use super::connect::{Connector, Login, Transport};
use super::error::{ClientError, Fault};
use super::replication::Wire;
use super::stream::REPLY_LIMIT;
use super::transfer::{BYTES_PER_SECOND, Expiry, ExpiryQuestion, NO_KEY};
use crate::cluster::node::{Addr, NodeId};

/// The command in errors.
const NAME: &str = "DUMP";
/// The least room for what a read returns, in bytes.
const ROOM: usize = 64 << 10;
/// The most memory of requests and replies that is kept for the next ones, in bytes.
const LARGEST_KEPT: usize = 4 << 20;

/// A connection that reads keys.
pub struct BulkReader {
    addr: Addr,
    wire: Wire,
    command_timeout: Duration,
    requests: Vec<u8>,
    replies: Vec<u8>,
    /// The replies for each key: when it expires, and its value.
    read: Vec<(Reply, Reply)>,
    heard: Heard,
}

/// A key as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadKey<'a> {
    /// The payload for RESTORE, and when the key expires.
    Value(&'a [u8], Expiry),
    /// It does not exist.
    Gone,
    /// The server answered with an error or was not asked, or the key was created while it was read.
    Unread,
}

/// A reply, and where its value is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reply {
    Integer(i64),
    Value(Range<usize>),
    Nil,
    Error,
}

impl Connector {
    /// Opens a connection that reads keys of one database. `None` if there is a journal, which has a line for each command.
    pub async fn bulk_reader(
        &self,
        addr: &Addr,
        login: &Login,
        transport: &Transport,
        expected: Option<NodeId>,
        database: u32,
    ) -> Result<Option<BulkReader>, ClientError> {
        let wire = self.bulk_wire(addr, login, transport, expected, database);
        Ok(wire.await?.map(|wire| BulkReader {
            addr: addr.clone(),
            wire,
            command_timeout: self.command_timeout,
            requests: Vec::new(),
            replies: Vec::new(),
            read: Vec::new(),
            heard: Heard::now(),
        }))
    }
}

impl BulkReader {
    /// Whether the node has answered a short while ago. Open another connection otherwise.
    pub fn is_fresh(&self) -> bool {
        self.heard.is_recent()
    }

    /// Drops what was read last, if that takes much memory.
    pub fn shrink(&mut self) {
        if self.replies.capacity() + self.requests.capacity() > LARGEST_KEPT {
            self.replies = Vec::new();
            self.requests = Vec::new();
            self.read.clear();
        }
    }

    /// Sends DUMP of each key, and the question when it expires. After an error the connection can't be used any more.
    pub async fn dump(
        &mut self,
        keys: &[&[u8]],
        question: ExpiryQuestion,
    ) -> Result<(), ClientError> {
        let started = Instant::now();
        let exchanged = self.exchange(keys, question).await;
        exchanged.map_err(|fault| fault.at(&self.addr))?;
        self.heard = Heard::now();
        info!(
            "{}  {} and DUMP of {} keys  →  {} bytes  ({:.1} ms)",
            self.addr,
            question.command(),
            keys.len(),
            self.replies.len(),
            started.elapsed().as_secs_f64() * 1_000.0
        );
        Ok(())
    }

    /// What [`Self::dump`] has read, in the order of the keys.
    pub fn keys(&self, question: ExpiryQuestion) -> Vec<ReadKey<'_>> {
        let read = self.read.iter();
        read.map(|(time, value)| read_key(time, value, &self.replies, question))
            .collect()
    }

    async fn exchange(&mut self, keys: &[&[u8]], question: ExpiryQuestion) -> Result<(), Fault> {
        self.requests.clear();
        for key in keys {
            for name in [question.command(), NAME] {
                head(2, &mut self.requests);
                word(name.as_bytes(), &mut self.requests);
                word(key, &mut self.requests);
            }
        }
        let seconds = self.requests.len() as u64 / BYTES_PER_SECOND;
        let after = self.command_timeout + Duration::from_secs(seconds);
        let sent = async {
            self.wire.writer.write_all(&self.requests).await?;
            self.wire.writer.flush().await
        };
        match timeout(after, sent).await {
            Ok(Ok(())) => self.receive(keys.len()).await,
            Ok(Err(_)) => Err(Fault::Closed { command: NAME }),
            Err(_) => Err(timed_out(after)),
        }
    }

    /// Receives two replies for each of `count` keys: when it expires, and its value.
    async fn receive(&mut self, count: usize) -> Result<(), Fault> {
        self.read.clear();
        self.replies.clear();
        let mut parsed = 0;
        loop {
            while let Some((time, value, after)) = replies_of_key(&self.replies, parsed)? {
                self.read.push((time, value));
                parsed = after;
            }
            if self.read.len() > count {
                return Err(Fault::Malformed { command: NAME });
            }
            if self.read.len() == count {
                return match parsed == self.replies.len() {
                    true => Ok(()),
                    false => Err(Fault::Malformed { command: NAME }),
                };
            }
            if self.replies.len() as u64 > REPLY_LIMIT {
                return Err(Fault::TooLarge {
                    command: NAME,
                    limit: REPLY_LIMIT,
                });
            }
            self.replies.reserve(ROOM);
            // A large value takes longer than a deadline that is meant for answers: only silence counts.
            let read = self.wire.reader.read_buf(&mut self.replies);
            match timeout(self.command_timeout, read).await {
                Ok(Ok(1..)) => {}
                Ok(_) => return Err(Fault::Closed { command: NAME }),
                Err(_) => return Err(timed_out(self.command_timeout)),
            }
        }
    }
}

/// What the two replies for a key mean.
fn read_key<'a>(
    time: &Reply,
    value: &Reply,
    replies: &'a [u8],
    question: ExpiryQuestion,
) -> ReadKey<'a> {
    match (time, value) {
        // The key was created between the two commands: when it expires is not known.
        (Reply::Integer(NO_KEY), Reply::Value(_)) => ReadKey::Unread,
        (Reply::Integer(time), Reply::Value(place)) => {
            ReadKey::Value(&replies[place.clone()], question.expiry(*time))
        }
        (Reply::Integer(_), Reply::Nil) => ReadKey::Gone,
        _ => ReadKey::Unread,
    }
}

fn timed_out(after: Duration) -> Fault {
    Fault::Timeout {
        command: NAME,
        after,
    }
}

/// The two replies that begin at `from`, and where the next ones begin; `None` if they are incomplete.
fn replies_of_key(bytes: &[u8], from: usize) -> Result<Option<(Reply, Reply, usize)>, Fault> {
    let Some((time, next)) = reply(bytes, from)? else {
        return Ok(None);
    };
    let value = reply(bytes, next)?;
    Ok(value.map(|(value, after)| (time, value, after)))
}

/// The reply that begins at `from`, and where the next one begins; `None` if it is incomplete.
fn reply(bytes: &[u8], from: usize) -> Result<Option<(Reply, usize)>, Fault> {
    const MALFORMED: Fault = Fault::Malformed { command: NAME };
    let rest = &bytes[from..];
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return match rest.len() > LINE_LIMIT {
            true => Err(MALFORMED),
            false => Ok(None),
        };
    };
    let line = rest[..end].strip_suffix(b"\r").ok_or(MALFORMED)?;
    let next = from + end + 1;
    let (kind, text) = line.split_first().ok_or(MALFORMED)?;
    let number = || {
        let text = str::from_utf8(text).ok();
        text.and_then(|text| text.parse::<i64>().ok())
            .ok_or(MALFORMED)
    };
    Ok(Some(match kind {
        b':' => (Reply::Integer(number()?), next),
        b'$' => match u64::try_from(number()?) {
            Err(_) => (Reply::Nil, next),
            Ok(length) if length > REPLY_LIMIT => {
                return Err(Fault::TooLarge {
                    command: NAME,
                    limit: REPLY_LIMIT,
                });
            }
            Ok(length) => {
                let end = next + length as usize;
                match bytes.get(end..end + 2) {
                    None => return Ok(None),
                    Some(b"\r\n") => (Reply::Value(next..end), end + 2),
                    Some(_) => return Err(MALFORMED),
                }
            }
        },
        b'_' => (Reply::Nil, next),
        b'-' => (Reply::Error, next),
        _ => return Err(MALFORMED),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MALFORMED: Fault = Fault::Malformed { command: NAME };

    #[test]
    fn replies_are_told_from_each_other() {
        let bytes = b":-1\r\n$3\r\na\r\n\r\n:5\r\n$-1\r\n-NOPERM no\r\n_\r\n";
        let (time, value, next) = replies_of_key(bytes, 0).unwrap().unwrap();
        assert_eq!((time, value), (Reply::Integer(-1), Reply::Value(9..12)));
        let (time, value, next) = replies_of_key(bytes, next).unwrap().unwrap();
        assert_eq!((time, value), (Reply::Integer(5), Reply::Nil));
        let (time, value, next) = replies_of_key(bytes, next).unwrap().unwrap();
        assert_eq!((time, value), (Reply::Error, Reply::Nil));
        assert_eq!(next, bytes.len());
    }

    #[test]
    fn a_key_that_was_created_between_its_commands_is_unread() {
        let read = |time, value: &Reply| {
            let question = ExpiryQuestion::Left;
            read_key(&Reply::Integer(time), value, b"abc", question)
        };
        let value = Reply::Value(0..3);
        assert_eq!(read(-2, &value), ReadKey::Unread);
        assert_eq!(read(-1, &value), ReadKey::Value(b"abc", Expiry::Never));
        assert_eq!(read(5, &value), ReadKey::Value(b"abc", Expiry::In(5)));
        assert_eq!(read(-2, &Reply::Nil), ReadKey::Gone);
    }

    #[test]
    fn whatever_is_missing_is_waited_for() {
        let bytes = b":12\r\n$3\r\nabc\r\n";
        for length in 0..bytes.len() {
            assert_eq!(replies_of_key(&bytes[..length], 0), Ok(None), "{length}");
        }
        assert!(replies_of_key(bytes, 0).unwrap().is_some());
    }

    #[test]
    fn what_is_no_reply_ends_the_connection() {
        for bytes in [
            b"\r\n".as_slice(),
            b"+OK\r\n",
            b":x\r\n",
            b":1\n",
            b"$3\r\nabcde",
            b"*2\r\n",
        ] {
            assert_eq!(reply(bytes, 0), Err(MALFORMED), "{bytes:?}");
        }
        assert_eq!(reply(&[b'x'; LINE_LIMIT + 1], 0), Err(MALFORMED));
        assert_eq!(reply(&[b'x'; LINE_LIMIT], 0), Ok(None));
        let (command, limit) = (NAME, REPLY_LIMIT);
        for bytes in ["$33554433\r\n", "$9223372036854775807\r\n"] {
            let fault = Fault::TooLarge { command, limit };
            assert_eq!(reply(bytes.as_bytes(), 0), Err(fault));
        }
    }
}
