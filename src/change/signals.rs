//! SIGINT (Ctrl-C) and SIGTERM (which stops containers), from the start of the program to its end.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::interrupt::Interrupt;
use crate::stop::Stop;

/// Starts to listen. From then on these signals no longer end the process by themselves: tokio keeps its handler for
/// the life of the process, so every command watches the [`Interrupt`].
pub(crate) fn listen() -> Result<Interrupt, Stop> {
    let open = |kind| {
        signal(kind)
            .context("can't listen for signals")
            .map_err(Stop::refused)
    };
    let mut int = open(SignalKind::interrupt())?;
    let mut term = open(SignalKind::terminate())?;
    let interrupt = Interrupt::default();
    let told = interrupt.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = int.recv() => told.signal("SIGINT"),
                Some(()) = term.recv() => told.signal("SIGTERM"),
                else => return,
            }
        }
    });
    Ok(interrupt)
}
