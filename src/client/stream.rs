//! The stream below the `redis` crate: counts what a node sends, and remembers how a connection began and ended.
//!
//! The crate reads replies of any size and reports all broken connections alike. Both matter: a port may send
//! anything without end, and the error must say what it sent.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::tls::TlsFault;

/// The most bytes that a node may send between two of our writes. CLUSTER NODES of a thousand nodes has about 200
/// KiB, CLIENT LIST of 65,000 clients about 26 MiB. Parsed replies can take twenty times their size (an array of
/// nulls, 3 bytes each).
pub(super) const REPLY_LIMIT: u64 = 32 * 1024 * 1024;

/// The limit where one value is requested: the largest that a server accepts (`proto-max-bulk-len`, 512 MiB), plus
/// some framing.
pub(super) const VALUE_LIMIT: u64 = 520 * 1024 * 1024;

/// The bytes of a connection's beginning that are kept, to tell which protocol it speaks.
const BEGINNING: usize = 512;

/// How a connection ended, seen from our side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The node closed it, or it broke.
    Closed,
    /// A TLS error ended it.
    Tls(TlsFault),
    /// The reply exceeded the limit.
    TooLarge,
}

/// Observations of one connection; shared between the stream and its client.
#[derive(Debug)]
pub(super) struct Wire {
    limit: u64,
    /// Bytes since our last write.
    received: AtomicU64,
    /// Bytes in all.
    heard: AtomicU64,
    seen: Mutex<Seen>,
}

/// A connection's beginning and its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The first bytes that the node sent, 512 at most.
    pub(super) beginning: Vec<u8>,
    /// Why the connection ended; `None` while it is open.
    pub(super) end: Option<End>,
}

impl Wire {
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            received: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            seen: Mutex::default(),
        })
    }

    /// The most bytes that a node may send per request.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// The number of bytes that the node has sent.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    pub(super) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// Whether the node has closed the connection, or it broke.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().end == Some(End::Closed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        // The data is consistent after every statement that holds the lock, even if another thread panics.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the end. The first one is the cause; later ones follow from it.
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
        self.heard.fetch_add(count, Ordering::Relaxed);
        // Only the first bytes are kept: later reads need no lock.
        if before < BEGINNING as u64 {
            let beginning = &mut self.lock().beginning;
            let room = BEGINNING - beginning.len();
            beginning.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        if before + count > self.limit {
            self.ended(End::TooLarge);
            // An error kind at which the redis crate closes the connection.
            return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
        }
        Ok(())
    }
}

/// A stream with its observations.
pub(super) struct ObservedStream<S> {
    stream: S,
    wire: Arc<Wire>,
}

impl<S> ObservedStream<S> {
    pub(super) fn new(stream: S, wire: Arc<Wire>) -> Self {
        Self { stream, wire }
    }

    /// Records an error on its way to the redis crate, which would lose its cause.
    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result {
            self.wire.failed(error);
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ObservedStream<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for ObservedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(_)) = result {
            // Each request has a new budget.
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
