//! Polls of one condition, until it holds or its time is over.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// What one look tells about a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled<T, N> {
    /// It holds.
    Met(T),
    /// It does not hold yet: what does not meet it.
    Missing(N),
}

/// How long and how often a condition is polled.
#[derive(Debug, Clone, Copy)]
pub struct Poll {
    deadline: Instant,
    pause: Duration,
    longest_pause: Duration,
}

impl Poll {
    /// Polls for `within` from now on, with `pause` between two looks.
    pub fn every(pause: Duration, within: Duration) -> Self {
        Self {
            deadline: Instant::now() + within,
            pause,
            longest_pause: pause,
        }
    }

    /// Doubles the pause after each look, up to `longest`.
    pub fn slowing_to(self, longest: Duration) -> Self {
        Self {
            longest_pause: longest.max(self.pause),
            ..self
        }
    }

    /// Whether the look in hand is the last one.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Calls `look` at least once, and again until the condition holds. After the deadline, returns
    /// `Missing` with the result of the last call. An error of `look` ends the wait.
    pub async fn until<T, N, E>(
        &self,
        mut look: impl AsyncFnMut() -> Result<Polled<T, N>, E>,
    ) -> Result<Polled<T, N>, E> {
        let mut pause = self.pause;
        loop {
            let found = look().await?;
            if matches!(found, Polled::Met(_)) || self.is_over() {
                return Ok(found);
            }
            sleep(pause).await;
            pause = (pause * 2).min(self.longest_pause);
        }
    }
}
