//! Waiting with a deadline, and saying for what.

use std::thread;
use std::time::{Duration, Instant};

/// How long a real server or cluster may take on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until `look` returns `Ok`; `what` completes "waited in vain for …", and the last
/// `Err` tells how far it got.
#[track_caller]
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let started = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(reason) if started.elapsed() >= limit => {
                panic!("waited {limit:?} in vain for {what}: {reason}")
            }
            Err(_) => thread::sleep(pause(started.elapsed())),
        }
    }
}

/// The pause after a look. Six tests that wait at the same time, each with a new connection every 10 ms, would take a
/// part of what the others need.
fn pause(waited: Duration) -> Duration {
    (waited / 16).clamp(Duration::from_millis(5), Duration::from_millis(30))
}
