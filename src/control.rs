//! What can be changed while slots move: the rate, the number of node pairs, the latency limit, and whether it is paused.
//!
//! [`Control`] is shared by all parts of one run. Lanes read it before each step; they never wait for who changes
//! it: a control file, `throttle` through a socket, or a key at a terminal.

mod file;
mod socket;
mod text;
pub mod values;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use socket::{Found, RunName, RunStatus, ask_runs};
pub use text::Change;

use crate::cluster::numbers::{counted, thousands};
use crate::event::Events;
use file::ControlFile;
use socket::SocketFile;
use values::Limit;

/// A limit on how much moves in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rate {
    /// Keys.
    Keys(u64),
    /// Bytes, as MEMORY USAGE counts them.
    Bytes(u64),
}

/// `5,000 keys/s` or `10.0 MiB/s`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Keys(keys) => write!(f, "{} keys/s", thousands(keys)),
            Self::Bytes(bytes) if bytes < 1 << 20 => {
                write!(f, "{:.1} KiB/s", bytes as f64 / 1024.0)
            }
            Self::Bytes(bytes) => write!(f, "{:.1} MiB/s", bytes as f64 / f64::from(1 << 20)),
        }
    }
}

/// Whether slots move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Flow {
    /// They do.
    #[default]
    Moving,
    /// No slot is opened; those that are open are finished.
    Paused,
}

/// The settings of a run that can be changed while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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

/// `moving, 5,000 keys/s, 4 node pairs, latency limit 5ms`.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.flow {
            Flow::Moving => "moving",
            Flow::Paused => "paused",
        })?;
        if let Some(rate) = self.rate {
            write!(f, ", {rate}")?;
        }
        if let Some(pairs) = self.node_pairs {
            write!(f, ", {}", counted(pairs as u64, "node pair"))?;
        }
        match self.max_latency {
            Some(limit) => write!(f, ", latency limit {}", humantime::format_duration(limit)),
            None => Ok(()),
        }
    }
}

/// A step up or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Faster.
    Up,
    /// Slower.
    Down,
}

/// The settings of a run. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    settings: watch::Sender<Settings>,
    has_begun: AtomicBool,
    /// How many pairs of nodes have slots open, or a task in hand.
    open_pairs: AtomicUsize,
    sources: Mutex<Option<Sources>>,
}

/// Where changes come from.
#[derive(Debug)]
struct Sources {
    tasks: Vec<AbortHandle>,
    _socket: Option<SocketFile>,
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
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

    /// Changes some of them, and tells the user if that makes a difference. `by` says where the change comes from.
    pub fn change(&self, change: Change, by: &str, events: &Events) {
        let mut after = Settings::default();
        let has_changed = self.0.settings.send_if_modified(|settings| {
            after = change.apply(*settings);
            std::mem::replace(settings, after) != after
        });
        if has_changed {
            events.note(format!("{by}: {after}"));
        }
    }

    /// Pauses, or goes on.
    pub fn toggle(&self, by: &str, events: &Events) {
        let flow = match self.settings().flow {
            Flow::Moving => Flow::Paused,
            Flow::Paused => Flow::Moving,
        };
        let flow = Some(flow);
        let change = Change {
            flow,
            ..Change::default()
        };
        self.change(change, by, events);
    }

    /// Makes the move faster or slower: the rate, or the latency limit, whichever there is, by a factor of two; without
    /// both, the number of node pairs by one.
    pub fn step(&self, step: Step, by: &str, events: &Events) {
        let settings = self.settings();
        let change = match (settings.rate, settings.max_latency) {
            (Some(rate), _) => Change {
                rate: Some(Limit::At(match rate {
                    Rate::Keys(keys) => Rate::Keys(step.scaled(keys)),
                    Rate::Bytes(bytes) => Rate::Bytes(step.scaled(bytes)),
                })),
                ..Change::default()
            },
            (None, Some(limit)) => {
                let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
                Change {
                    max_latency: Some(Limit::At(Duration::from_micros(step.scaled(micros)))),
                    ..Change::default()
                }
            }
            (None, None) => {
                let open = self.open_pairs().max(1);
                let now = settings.node_pairs.map_or(open, |pairs| pairs.min(open));
                let pairs = match step {
                    Step::Up => now + 1,
                    Step::Down => (now - 1).max(1),
                };
                Change {
                    node_pairs: Some(pairs),
                    ..Change::default()
                }
            }
        };
        self.change(change, by, events);
    }

    /// How many pairs of nodes have slots open, or a task in hand.
    pub fn open_pairs(&self) -> usize {
        self.0.open_pairs.load(Ordering::Relaxed)
    }

    /// Notes how many have.
    pub fn set_open_pairs(&self, pairs: usize) {
        self.0.open_pairs.store(pairs, Ordering::Relaxed);
    }

    /// Opens the socket of the run and reads its control file, from now until [`Self::close`]. Only the first call counts.
    pub fn listen(&self, name: RunName, file: Option<&Path>, events: &Events) {
        let mut sources = self.sources();
        if sources.is_some() {
            return;
        }
        let mut tasks = Vec::new();
        if let Some(path) = file {
            let mut file = ControlFile::new(path.to_path_buf());
            file.look(self, events);
            let watching = tokio::spawn(file.watch(self.clone(), events.clone()));
            tasks.push(watching.abort_handle());
        }
        let socket = match socket::open(&name.run) {
            Ok((listener, file)) => {
                let serving = socket::serve(listener, name, self.clone(), events.clone());
                tasks.push(tokio::spawn(serving).abort_handle());
                Some(file)
            }
            // The move does not depend on it.
            Err(error) => {
                events.note(format!("throttle can't find this run: {error}"));
                None
            }
        };
        *sources = Some(Sources {
            tasks,
            _socket: socket,
        });
    }

    /// Ends what [`Self::listen`] began.
    pub fn close(&self) {
        self.sources().take();
    }

    fn sources(&self) -> std::sync::MutexGuard<'_, Option<Sources>> {
        self.0
            .sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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

impl Step {
    fn scaled(self, number: u64) -> u64 {
        match self {
            Self::Up => number.saturating_mul(2),
            Self::Down => (number / 2).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_changes_what_limits_the_move() {
        let (events, mut heard) = Events::channel();
        let step = |settings, step| {
            let control = Control::default();
            control.begin(settings);
            control.set_open_pairs(3);
            control.step(step, "key", &events);
            control.settings()
        };
        let none = Settings::default();
        assert_eq!(step(none, Step::Down).node_pairs, Some(2));
        assert_eq!(step(none, Step::Up).node_pairs, Some(4));
        let limited = Settings {
            max_latency: Some(Duration::from_millis(8)),
            ..none
        };
        let slower = step(limited, Step::Down);
        assert_eq!(slower.max_latency, Some(Duration::from_millis(4)));
        assert_eq!(slower.node_pairs, None);
        let slow = Settings {
            rate: Some(Rate::Keys(1)),
            ..limited
        };
        assert_eq!(step(slow, Step::Down).rate, Some(Rate::Keys(1)));
        assert_eq!(step(slow, Step::Up).rate, Some(Rate::Keys(2)));
        let mut said = 0;
        while heard.try_recv().is_ok() {
            said += 1;
        }
        assert_eq!(said, 4, "what changes nothing is not told");
    }

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
