//! `--rate`: no more than so much in a second, in all lanes together.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::control::{Control, Rate};

/// A limit that lanes share.
#[derive(Debug)]
pub(super) struct Throttle {
    control: Control,
    /// When what was sent so far is paid for.
    free: Mutex<Instant>,
}

impl Throttle {
    pub(super) fn new(control: Control) -> Self {
        Self {
            control,
            free: Mutex::new(Instant::now()),
        }
    }

    /// Waits until that much may be sent. Nothing is saved up while nothing is sent. Another rate counts from the moment
    /// at which it is set.
    pub(super) async fn pass(&self, keys: usize, bytes: u64) {
        let mut changes = self.control.subscribe();
        loop {
            let rate = changes.borrow_and_update().rate;
            let (amount, per_second) = match rate {
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
            let changed = async {
                // The sender lives as long as `self`.
                let _ = changes.wait_for(|settings| settings.rate != rate).await;
            };
            tokio::select! {
                () = sleep_until(turn) => return,
                () = changed => *self.free.lock().await = Instant::now(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Settings;

    #[tokio::test]
    async fn another_rate_ends_the_wait_for_the_old_one() {
        let control = Control::default();
        let at = |rate| Settings {
            rate,
            ..Settings::default()
        };
        control.begin(at(Some(Rate::Keys(1))));
        let throttle = Throttle::new(control.clone());
        // An hour's worth goes at once, and has to be paid for.
        throttle.pass(3_600, 0).await;
        let faster = async {
            tokio::task::yield_now().await;
            control.set(at(Some(Rate::Keys(1_000))));
        };
        let waiting = async { tokio::join!(throttle.pass(10, 0), faster) };
        let within = Duration::from_secs(5);
        assert!(tokio::time::timeout(within, waiting).await.is_ok());
        control.set(at(None));
        throttle.pass(1 << 20, 0).await;
    }
}
