//! `--rate`: no more than so much in a second, in all lanes together.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::Rate;

/// A limit that lanes share.
#[derive(Debug)]
pub(super) struct Throttle {
    rate: Option<Rate>,
    /// When what was sent so far is paid for.
    free: Mutex<Instant>,
}

impl Throttle {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self {
            rate,
            free: Mutex::new(Instant::now()),
        }
    }

    /// Waits until that much may be sent. Nothing is saved up while nothing is sent.
    pub(super) async fn pass(&self, keys: usize, bytes: u64) {
        let (amount, per_second) = match self.rate {
            None => return,
            Some(Rate::Keys(per_second)) => (keys as u64, per_second),
            Some(Rate::Bytes(per_second)) => (bytes, per_second),
        };
        let cost = Duration::from_secs_f64(amount as f64 / per_second.max(1) as f64);
        let turn = {
            let mut free = self.free.lock().await;
            let turn = (*free).max(Instant::now());
            *free = turn + cost;
            turn
        };
        sleep_until(turn).await;
    }
}
