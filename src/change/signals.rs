//! Ctrl-C, and the signal by which containers are stopped.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::stop::Stop;

/// Listens from its making on: from then these signals no longer end the program by themselves.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Self, Stop> {
        let listen = |kind| {
            signal(kind)
                .context("can't listen for signals")
                .map_err(Stop::refused)
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The name of one that has come already.
    pub(crate) async fn heard(&mut self) -> Option<&'static str> {
        tokio::select! {
            biased;
            name = self.next() => Some(name),
            () = std::future::ready(()) => None,
        }
    }

    /// The name of the next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
