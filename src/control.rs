//! What can be changed while slots move: the rate, the number of node pairs, the latency limit, and whether it is paused.
//!
//! [`Control`] is shared by all parts of one run. Lanes read it before each step; they never wait for the one who changes
//! it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// A limit on how much moves in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Keys.
    Keys(u64),
    /// Bytes, as MEMORY USAGE counts them.
    Bytes(u64),
}

/// `5000 keys/s` or `10485760 B/s`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(keys) => write!(f, "{keys} keys/s"),
            Self::Bytes(bytes) => write!(f, "{bytes} B/s"),
        }
    }
}

/// Whether slots move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// They do.
    #[default]
    Moving,
    /// No slot is opened; those that are open are finished.
    Paused,
}

/// The settings of a run that can be changed while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// How much moves in a second, in all pairs together; `None` for no limit.
    pub rate: Option<Rate>,
    /// How many pairs of nodes move slots at a time, at least 1; `None` for the default.
    pub node_pairs: Option<usize>,
    /// By how much the move may delay other clients of its nodes; `None` for no limit.
    pub max_latency: Option<Duration>,
    /// Whether slots move.
    pub flow: Flow,
}

/// The settings of a run. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    settings: watch::Sender<Settings>,
    has_begun: AtomicBool,
}

impl Control {
    /// Sets what the command line says. Only the first call counts: what was changed since then holds for all later parts
    /// of the command.
    pub fn begin(&self, settings: Settings) {
        if !self.0.has_begun.swap(true, Ordering::Relaxed) {
            self.0.settings.send_replace(settings);
        }
    }

    /// Sets all of them.
    pub fn set(&self, settings: Settings) {
        self.0.settings.send_replace(settings);
    }

    /// The settings now.
    pub fn settings(&self) -> Settings {
        *self.0.settings.borrow()
    }

    /// Hears of every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<Settings> {
        self.0.settings.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_settings_of_a_command_line_count() {
        let control = Control::default();
        let first = Settings {
            node_pairs: Some(3),
            ..Settings::default()
        };
        control.begin(first);
        control.clone().begin(Settings::default());
        assert_eq!(control.settings(), first);
    }
}
