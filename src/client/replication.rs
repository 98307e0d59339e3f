//! A node's data as it sends them to a replica: PSYNC and the RDB file that follows.
//!
//! This uses a stream of its own: the data are not a reply, have no known end and may be larger than memory. The node
//! treats the connection as a replica that wants only the file (`rdb-only`, Redis ≥ 7.0) and, if it is configured so,
//! sends it without a file on its own disk (`capa eof`, Redis ≥ 2.8.18). It may wait some seconds for more replicas
//! before it begins (`repl-diskless-sync-delay`), and sends an empty line each second meanwhile.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::connect::{Connector, Dialled, Login, MYID, Transport, compare_id};
use super::error::{ClientError, Fault};
use crate::cluster::node::{Addr, NodeId};

/// The longest line of the handshake.
const LINE_LIMIT: usize = 8 * 1024;
/// The bytes per read.
const CHUNK: usize = 256 * 1024;
/// The length of the mark that ends a file of unknown length.
const MARK: usize = 40;

/// The data of one node at one moment, while they are received.
pub struct Snapshot {
    /// The replication id.
    pub replication_id: String,
    /// The replication offset of the data.
    pub offset: u64,
    /// The total bytes, if the node knows.
    pub length: Option<u64>,
    wire: Wire,
    end: End,
    received: u64,
}

/// How the end of the data is recognized.
enum End {
    /// This many bytes remain.
    After(u64),
    /// These bytes follow the last one. Bytes that may be their beginning are held back.
    Mark([u8; MARK]),
    /// The end was reached.
    Reached,
}

/// Both directions of the stream, and bytes that were read too early.
pub(super) struct Wire {
    addr: Addr,
    pub(super) reader: Box<dyn AsyncRead + Unpin + Send>,
    pub(super) writer: Box<dyn AsyncWrite + Unpin + Send>,
    ahead: Vec<u8>,
    silence: Duration,
}

impl Connector {
    /// Asks a node for all of its data. `silence` is how long the node may send nothing, during the handshake and
    /// later. A login as a user other than the default one needs `+psync +replconf`. Fails if another node than
    /// `expected` answers.
    pub async fn snapshot(
        &self,
        addr: &Addr,
        login: &Login,
        transport: &Transport,
        expected: Option<NodeId>,
        silence: Duration,
    ) -> Result<Snapshot, ClientError> {
        let opened = async {
            let wire = self.wire(addr, login, transport, expected).await?;
            wire.begin(silence).await
        };
        opened.await.map_err(|fault| fault.at(addr))
    }

    /// Opens a stream and logs in. Fails if another node than `expected` answers.
    pub(super) async fn wire(
        &self,
        addr: &Addr,
        login: &Login,
        transport: &Transport,
        expected: Option<NodeId>,
    ) -> Result<Wire, Fault> {
        let (reader, writer) = match self.stream(addr, transport).await? {
            Dialled::Plain(stream) => boxed(stream),
            Dialled::Tls(stream) => boxed(stream),
        };
        let mut wire = Wire {
            addr: addr.clone(),
            reader,
            writer,
            ahead: Vec::new(),
            silence: self.command_timeout,
        };
        wire.introduce(login, expected).await?;
        Ok(wire)
    }
}

type Halves = (
    Box<dyn AsyncRead + Unpin + Send>,
    Box<dyn AsyncWrite + Unpin + Send>,
);

fn boxed(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Halves {
    let (reader, writer) = tokio::io::split(stream);
    (Box::new(reader), Box::new(writer))
}

impl Wire {
    async fn introduce(&mut self, login: &Login, expected: Option<NodeId>) -> Result<(), Fault> {
        if let Some(auth) = login.command() {
            self.write("AUTH", &auth.packed.get_packed_command())
                .await?;
            let answer = self.answer("AUTH").await?;
            login.outcome(answer.map(drop))?;
        }
        if expected.is_some() {
            self.send(MYID, &["CLUSTER", "MYID"]).await?;
            let told = self.bulk(MYID).await?;
            compare_id(expected, told)?;
        }
        Ok(())
    }

    /// The handshake of a replica, up to the first byte of the data.
    async fn begin(mut self, silence: Duration) -> Result<Snapshot, Fault> {
        // Without a version, Valkey 9 writes for the oldest replicas: field TTLs have no encoding then, and its fork
        // dies at the first one (9.1.2).
        let options = [
            ("rdb-only", "1"),
            ("capa", "eof"),
            ("version", "255.255.255"),
        ];
        for (option, value) in options {
            self.send("REPLCONF", &["REPLCONF", option, value]).await?;
            match self.answer("REPLCONF").await? {
                // The server is older than the option and works without it.
                Ok(_) | Err(Fault::Server { .. }) => {}
                Err(fault) => return Err(fault),
            }
        }
        self.send("PSYNC", &["PSYNC", "?", "-1"]).await?;
        // A fork may take some time now.
        self.silence = silence;
        let answer = self.answer("PSYNC").await??;
        let malformed = Fault::Malformed { command: "PSYNC" };
        let mut words = answer.split(' ');
        let (Some("FULLRESYNC"), Some(id), Some(offset)) =
            (words.next(), words.next(), words.next())
        else {
            return Err(malformed);
        };
        let is_id = id.len() == MARK && id.bytes().all(|c| c.is_ascii_hexdigit());
        let Some(offset) = offset.parse().ok().filter(|_| is_id) else {
            return Err(malformed);
        };
        let replication_id = id.to_string();
        let header = self.line("PSYNC").await?;
        let (length, end) = match header.strip_prefix("$EOF:") {
            Some(mark) => {
                let mark = mark.as_bytes().try_into().map_err(|_| malformed)?;
                (None, End::Mark(mark))
            }
            None => {
                let length = header.strip_prefix('$').and_then(|text| text.parse().ok());
                let length = length.ok_or(malformed)?;
                (Some(length), End::After(length))
            }
        };
        Ok(Snapshot {
            replication_id,
            offset,
            length,
            wire: self,
            end,
            received: 0,
        })
    }

    pub(super) async fn send(
        &mut self,
        command: &'static str,
        words: &[&str],
    ) -> Result<(), Fault> {
        let mut packed = redis::Cmd::new();
        for word in words {
            packed.arg(*word);
        }
        self.write(command, &packed.get_packed_command()).await
    }

    async fn write(&mut self, command: &'static str, bytes: &[u8]) -> Result<(), Fault> {
        let written = async {
            self.writer.write_all(bytes).await?;
            self.writer.flush().await
        };
        match timeout(self.silence, written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Fault::Closed { command }),
            Err(_) => Err(self.timed_out(command)),
        }
    }

    fn timed_out(&self, command: &'static str) -> Fault {
        let after = self.silence;
        match command {
            "PSYNC" => Fault::Stalled { after, received: 0 },
            _ => Fault::Timeout { command, after },
        }
    }

    /// Returns the words after `+`, or the fault that an error means; the outer fault is the stream's.
    pub(super) async fn answer(
        &mut self,
        command: &'static str,
    ) -> Result<Result<String, Fault>, Fault> {
        let line = self.line(command).await?;
        match line.split_at_checked(1) {
            Some(("+", words)) => Ok(Ok(words.to_string())),
            Some(("-", error)) => {
                let (code, message) = error.split_once(' ').unwrap_or((error, ""));
                Ok(Err(Fault::of_server(command, code, message)))
            }
            _ => Err(Fault::Malformed { command }),
        }
    }

    /// Returns a short bulk string, or the fault that an error means; the outer fault is the stream's.
    async fn bulk(&mut self, command: &'static str) -> Result<Result<String, Fault>, Fault> {
        let header = self.line(command).await?;
        match header.split_at_checked(1) {
            Some(("$", _)) => Ok(Ok(self.line(command).await?)),
            Some(("-", error)) => {
                let (code, message) = error.split_once(' ').unwrap_or((error, ""));
                Ok(Err(Fault::of_server(command, code, message)))
            }
            _ => Err(Fault::Malformed { command }),
        }
    }

    /// Returns the next line that is not empty.
    async fn line(&mut self, command: &'static str) -> Result<String, Fault> {
        loop {
            if let Some(end) = self.ahead.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.ahead.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim().to_string();
                if line.is_empty() {
                    continue;
                }
                return Ok(line);
            }
            if self.ahead.len() > LINE_LIMIT {
                return Err(Fault::Malformed { command });
            }
            let mut chunk = [0; 4096];
            match timeout(self.silence, self.reader.read(&mut chunk)).await {
                Ok(Ok(0) | Err(_)) if command == "PSYNC" => {
                    return Err(Fault::CutOff { received: 0 });
                }
                Ok(Ok(0) | Err(_)) => return Err(Fault::Closed { command }),
                Ok(Ok(count)) => self.ahead.extend_from_slice(&chunk[..count]),
                Err(_) => return Err(self.timed_out(command)),
            }
        }
    }
}

impl Snapshot {
    /// The bytes of the data received so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Returns the next bytes of the data; `None` after the last. The data are complete only then.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            let data = match self.end {
                End::Reached | End::After(0) => return Ok(None),
                End::After(left) => {
                    let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                    let data = self.read(most).await?;
                    self.end = End::After(left - data.len() as u64);
                    data
                }
                End::Mark(mark) => {
                    // A small file may have arrived whole with the handshake.
                    let mut data = match self.wire.ahead.ends_with(&mark) {
                        true => std::mem::take(&mut self.wire.ahead),
                        false => self.read(CHUNK).await?,
                    };
                    // Nothing follows the mark until the client sends something, so it can only be at the end.
                    let held_back = data.len().saturating_sub(MARK);
                    let tail = data.split_off(held_back);
                    if tail == mark {
                        self.end = End::Reached;
                    } else {
                        self.wire.ahead = tail;
                    }
                    data
                }
            };
            self.received += data.len() as u64;
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }

    /// Returns the bytes that were held back and those that follow, at most `most` of the former.
    async fn read(&mut self, most: usize) -> Result<Vec<u8>, ClientError> {
        let mut data = std::mem::take(&mut self.wire.ahead);
        if data.len() >= most {
            self.wire.ahead = data.split_off(most);
            return Ok(data);
        }
        if matches!(self.end, End::After(_)) && !data.is_empty() {
            return Ok(data);
        }
        let before = data.len();
        data.resize(most.max(before + 1), 0);
        let silence = self.wire.silence;
        let received = self.received;
        let fault = match timeout(silence, self.wire.reader.read(&mut data[before..])).await {
            Ok(Ok(count)) if count > 0 => {
                data.truncate(before + count);
                return Ok(data);
            }
            Ok(_) => Fault::CutOff { received },
            Err(_) => Fault::Stalled {
                after: silence,
                received,
            },
        };
        Err(fault.at(&self.wire.addr))
    }
}
