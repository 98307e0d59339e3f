//! SIGINT (Ctrl-C), SIGTERM (which stops containers) and SIGHUP (the terminal is gone), from the start of the program to its
//! end.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::interrupt::Interrupt;
use crate::stop::Stop;

/// The bit of SIGHUP in a mask of signals.
const HANG_UP_BIT: u64 = 1;

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
    // Under nohup, or where a script has set a trap, SIGHUP stays ignored.
    let mut hang_up = match ignores_hang_up() {
        true => None,
        false => Some(open(SignalKind::hangup())?),
    };
    let interrupt = Interrupt::default();
    let told = interrupt.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = int.recv() => told.signal("SIGINT"),
                Some(()) = term.recv() => told.signal("SIGTERM"),
                Some(()) = next(&mut hang_up) => told.hang_up(),
                else => return,
            }
        }
    });
    Ok(interrupt)
}

/// The next of a signal, if that is listened for.
async fn next(signal: &mut Option<Signal>) -> Option<()> {
    signal.as_mut()?.recv().await
}

/// Whether SIGHUP was ignored when the program started. There is no safe call that tells: the kernel does where there is /proc,
/// and a child of ours elsewhere, which inherits what is ignored.
fn ignores_hang_up() -> bool {
    match fs::read_to_string("/proc/self/status") {
        Ok(status) => is_ignored_in(&status),
        Err(_) => survives_hang_up(),
    }
}

/// Reads the mask of ignored signals, in hexadecimal: `SigIgn:\t0000000000000001`.
fn is_ignored_in(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & HANG_UP_BIT != 0)
}

/// Whether a child that sends SIGHUP to itself goes on.
fn survives_hang_up() -> bool {
    let child = Command::new("/bin/sh")
        .args(["-c", "kill -HUP $$; exit 0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    child.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let with =
            |mask: &str| format!("Name:\tredis-trib\nSigBlk:\t1\nSigIgn:\t{mask}\nSigCgt:\t1\n");
        assert!(is_ignored_in(&with("0000000000001001")));
        assert!(!is_ignored_in(&with("0000000000001000")));
        assert!(!is_ignored_in(&with("nonsense")));
        assert!(!is_ignored_in(""));
    }

    #[test]
    fn both_ways_to_know_agree() {
        assert_eq!(ignores_hang_up(), survives_hang_up());
    }
}
