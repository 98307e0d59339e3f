//! A request to stop a running command: SIGINT (Ctrl-C), SIGTERM, or SIGHUP (its terminal is gone).

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// A request to stop a running command. Clones share it.
///
/// The first signal requests an orderly stop, the second one an immediate stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    requested: CancellationToken,
    forced: CancellationToken,
    signal: Arc<OnceLock<&'static str>>,
}

impl Interrupt {
    /// Records a signal.
    pub fn signal(&self, name: &'static str) {
        if self.requested.is_cancelled() {
            self.forced.cancel();
        } else {
            self.signal.get_or_init(|| name);
            self.requested.cancel();
        }
    }

    /// Records that the terminal is gone. That never counts as the second signal: the shell and the kernel both send one.
    pub fn hang_up(&self) {
        if !self.requested.is_cancelled() {
            self.signal("SIGHUP");
        }
    }

    /// Waits for the first signal and returns its name.
    pub async fn requested(&self) -> &'static str {
        self.requested.cancelled().await;
        self.name()
    }

    /// Waits for the second signal.
    pub async fn forced(&self) {
        self.forced.cancelled().await;
    }

    /// Waits for the next signal: the first, or the second if the first was heard already.
    pub async fn next(&self) {
        match self.heard() {
            None => drop(self.requested().await),
            Some(_) => self.forced().await,
        }
    }

    /// The name of the first signal, if there was one.
    pub fn heard(&self) -> Option<&'static str> {
        self.requested.is_cancelled().then(|| self.name())
    }

    /// Runs `work` until it ends or the first signal arrives; then `work` is dropped and the signal's name returned.
    pub async fn stops<T>(&self, work: impl Future<Output = T>) -> Result<T, &'static str> {
        tokio::select! {
            biased;
            result = work => Ok(result),
            signal = self.requested() => Err(signal),
        }
    }

    fn name(&self) -> &'static str {
        self.signal.get().copied().unwrap_or("signal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_signal_requests_and_the_second_forces() {
        let interrupt = Interrupt::default();
        assert_eq!(interrupt.heard(), None);
        assert_eq!(interrupt.stops(async { 1 }).await, Ok(1));
        interrupt.signal("SIGINT");
        let next = tokio::time::timeout(std::time::Duration::ZERO, interrupt.next());
        assert!(next.await.is_err(), "the first signal is not the next one");
        assert_eq!(interrupt.heard(), Some("SIGINT"));
        assert_eq!(
            interrupt.stops(std::future::pending::<()>()).await,
            Err("SIGINT")
        );
        assert!(!interrupt.forced.is_cancelled());
        interrupt.signal("SIGTERM");
        interrupt.forced().await;
        interrupt.next().await;
        assert_eq!(interrupt.requested().await, "SIGINT");
    }

    #[tokio::test]
    async fn a_terminal_that_is_gone_requests_and_never_forces() {
        let interrupt = Interrupt::default();
        interrupt.hang_up();
        interrupt.hang_up();
        assert!(!interrupt.forced.is_cancelled());
        interrupt.signal("SIGTERM");
        assert_eq!(interrupt.heard(), Some("SIGHUP"));
        interrupt.forced().await;
        let interrupt = Interrupt::default();
        interrupt.signal("SIGINT");
        interrupt.hang_up();
        assert_eq!(interrupt.heard(), Some("SIGINT"));
        assert!(!interrupt.forced.is_cancelled());
    }
}
