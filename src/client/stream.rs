//! The stream that the `redis` crate speaks on: it counts what a node sends, and remembers how a
//! connection began and ended.
//!
//! The crate reads replies of any size and reports every broken connection alike. Both matter
//! here: a port may speak anything, for ever, and the error should say what it spoke.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::tls::TlsFault;

/// The bytes that a node may send between two of our writes. CLUSTER NODES of a thousand nodes is
/// about 200 KiB, CLIENT LIST of 65,000 clients about 26 MiB. More is not honest, and parsed it may
/// take twenty times its size (an array of nulls, 3 bytes each).
pub(super) const REPLY_LIMIT: u64 = 32 * 1024 * 1024;

/// The same where one value is asked for: as much as a server takes back (`proto-max-bulk-len`,
/// 512 MiB), and a little.
pub(super) const VALUE_LIMIT: u64 = 520 * 1024 * 1024;

/// As many bytes of a connection's beginning as are kept, to tell what speaks there.
const BEGINNING: usize = 512;

/// How a connection ended, seen from our side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The node closed it, or it broke.
    Closed,
    /// TLS ended it.
    Tls(TlsFault),
    /// We gave up: the reply was longer than the limit.
    TooLarge,
}

/// What was seen on one connection; shared between the stream and its client.
#[derive(Debug)]
pub(super) struct Wire {
    limit: u64,
    received: AtomicU64,
    seen: Mutex<Seen>,
}

/// A connection's beginning and its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The first bytes that the node sent, 512 at most.
    pub(super) beginning: Vec<u8>,
    /// Why nothing more will come; `None` while the stream itself is well.
    pub(super) end: Option<End>,
}

impl Wire {
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            received: AtomicU64::new(0),
            seen: Mutex::default(),
        })
    }

    /// The most bytes that a node may send per request.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        // The data is whole after every statement that holds the lock, a panic elsewhere or not.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first end is the cause; what follows are its echoes.
    fn ended(&self, end: End) {
        self.lock().end.get_or_insert(end);
    }

    fn failed(&self, error: &io::Error) {
        self.ended(TlsFault::of_io(error).map_or(End::Closed, End::Tls));
    }

    fn received(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            self.ended(End::Closed);
            return Ok(());
        }
        let count = bytes.len() as u64;
        let before = self.received.fetch_add(count, Ordering::Relaxed);
        // Only the first write's replies can hold the beginning: later ones need no lock.
        if before < BEGINNING as u64 {
            let beginning = &mut self.lock().beginning;
            let room = BEGINNING - beginning.len();
            beginning.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        if before + count > self.limit {
            self.ended(End::TooLarge);
            // A kind for which the redis crate gives the connection up.
            return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
        }
        Ok(())
    }
}

/// A stream, watched.
pub(super) struct Watched<S> {
    stream: S,
    wire: Arc<Wire>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, wire: Arc<Wire>) -> Self {
        Self { stream, wire }
    }

    /// Notes a failure on its way to the redis crate, which would lose what it was.
    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result {
            self.wire.failed(error);
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        ready!(self.note(result))?;
        Poll::Ready(self.wire.received(&buf.filled()[filled..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(_)) = result {
            // A new request has a budget of its own.
            self.wire.received.store(0, Ordering::Relaxed);
        }
        self.note(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
