//! What can be changed while slots move: the rate, the number of node pairs, the latency limit, and whether it is paused.
//!
//! [`Control`] is shared by all parts of one run. Lanes read it before each step; they never wait for who changes
//! it: a control file, `throttle` through a socket, or a key at a terminal.

mod directories;
mod file;
mod socket;
mod text;
pub mod values;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use socket::{Found, NoAnswer, RunName, RunStatus, ask_runs};
pub use text::Change;

use crate::cluster::numbers::{counted, thousands};
use crate::event::{Events, MoveState};
use file::ControlFile;
use socket::SocketFile;
use values::MOST_NODE_PAIRS;

/// How many pairs of nodes move slots at a time, unless the user says so.
pub const NODE_PAIRS: usize = 16;

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
    /// How many pairs of nodes move slots at a time, at least 1, as the user has set it; `None` for the default.
    pub node_pairs: Option<usize>,
    /// The same as the keys + and - have changed it since. Unlike the number that is set, it lifts no other limit.
    pub stepped_pairs: Option<usize>,
    /// By how much the move may delay other clients of its nodes; `None` for no limit.
    pub max_latency: Option<Duration>,
    /// Whether slots move.
    pub flow: Flow,
}

impl Settings {
    /// How many pairs of nodes move slots at a time; `None` for the default.
    pub fn pairs_now(&self) -> Option<usize> {
        self.stepped_pairs.or(self.node_pairs)
    }

    /// The same with the default, which is at most [`NODE_PAIRS`].
    pub fn most_pairs(&self) -> usize {
        self.pairs_now().unwrap_or(NODE_PAIRS)
    }
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
        if let Some(pairs) = self.pairs_now() {
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

/// Where a change comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedBy {
    /// A key at the terminal.
    Key,
    /// `--control FILE`.
    File(PathBuf),
    /// `throttle`, for the run of this name.
    Throttle(String),
}

impl fmt::Display for ChangedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::File(file) => write!(f, "--control {}", file.display()),
            Self::Throttle(_) => f.write_str("throttle"),
        }
    }
}

impl ChangedBy {
    /// How to go on after a pause that came from there.
    fn resume(&self) -> String {
        match self {
            Self::Key => "the key p".to_string(),
            Self::File(file) => format!("the line \"pause no\" in {}", file.display()),
            Self::Throttle(run) => format!("redis-trib throttle {run} --resume"),
        }
    }
}

/// The settings of a run. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    settings: watch::Sender<Settings>,
    /// What the command line said.
    first: OnceLock<Settings>,
    pairs: Mutex<Pairs>,
    /// Whether slots move in ASM tasks.
    has_tasks: AtomicBool,
    /// Whether the user was told that a rate in bytes is not exact.
    has_told_of_weights: AtomicBool,
    /// How to go on after the last pause.
    resume: Mutex<Option<String>>,
    sources: Mutex<Option<Sources>>,
}

/// What the pairs of nodes of a run do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pairs {
    /// How many have begun and not ended.
    pub lanes: usize,
    /// How many of them have slots open, or a task in hand.
    pub open_pairs: usize,
    /// The idle latency is being measured, for which none opens a slot.
    pub is_measuring: bool,
}

impl Pairs {
    /// What the run does.
    pub fn state(self, flow: Flow) -> MoveState {
        match (flow, self.open_pairs) {
            (Flow::Paused, 0) => MoveState::Paused,
            (Flow::Paused, _) => MoveState::Pausing,
            (Flow::Moving, 0) if self.is_measuring => MoveState::Measuring,
            (Flow::Moving, _) => MoveState::Moving,
        }
    }
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
        if self.0.first.set(settings).is_ok() {
            self.0.settings.send_replace(settings);
        }
    }

    /// Notes that slots of this command move in ASM tasks.
    pub fn note_tasks(&self) {
        self.0.has_tasks.store(true, Ordering::Relaxed);
    }

    /// Options of a command line, with the settings that hold now but for [`Self::rate_left_out`].
    pub fn options_now(&self, options: &[String]) -> Vec<String> {
        let mut options = options.to_vec();
        let (Some(first), now) = (self.0.first.get(), self.settings()) else {
            return options;
        };
        let is_atomic = options
            .windows(2)
            .any(|words| words == ["--strategy", "atomic"]);
        let has_tasks = is_atomic || self.has_tasks();
        if now.rate != first.rate && !has_tasks {
            replace_option(&mut options, "--rate", now.rate.map(values::rate_text));
        }
        // The option has ASM tasks of one host run at the same time, which the keys do not.
        let pairs = match now.node_pairs {
            None if has_tasks => None,
            _ => now.pairs_now(),
        };
        if pairs != first.node_pairs {
            let pairs = pairs.map(|pairs| pairs.to_string());
            replace_option(&mut options, "--node-pairs", pairs);
        }
        if now.max_latency != first.max_latency {
            let limit = now.max_latency.map(values::duration_text);
            replace_option(&mut options, "--max-latency", limit);
        }
        options
    }

    fn has_tasks(&self) -> bool {
        self.0.has_tasks.load(Ordering::Relaxed)
    }

    /// The option for a rate that was set while ASM tasks ran. A command line does not have it: with `--rate`, slots move key
    /// by key.
    pub fn rate_left_out(&self) -> Option<String> {
        let now = self.settings().rate;
        let is_left_out = self.has_tasks() && self.0.first.get()?.rate != now;
        let rate = now.filter(|_| is_left_out)?;
        Some(format!("--rate {}", values::rate_text(rate)))
    }

    /// Sets all of them.
    pub fn set(&self, settings: Settings) {
        self.0.settings.send_replace(settings);
    }

    /// Changes some of them, and tells the user if that makes a difference.
    pub fn change(&self, change: Change, by: &ChangedBy, events: &Events) {
        self.update(by, events, |settings| change.apply(settings));
    }

    fn update(&self, by: &ChangedBy, events: &Events, change: impl FnOnce(Settings) -> Settings) {
        let mut before = Settings::default();
        let mut after = before;
        let has_changed = self.0.settings.send_if_modified(|settings| {
            before = *settings;
            after = change(before);
            *settings = after;
            before != after
        });
        if has_changed {
            if (before.flow, after.flow) == (Flow::Moving, Flow::Paused) {
                *self.resume() = Some(by.resume());
            }
            events.note(format!("{by}: {after}"));
        }
    }

    /// Pauses, or goes on.
    pub fn toggle(&self, by: &ChangedBy, events: &Events) {
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
    pub fn step(&self, step: Step, by: &ChangedBy, events: &Events) {
        let pairs = self.pairs();
        self.update(by, events, |mut settings| {
            match (settings.rate, settings.max_latency) {
                (Some(rate), _) => {
                    settings.rate = Some(match rate {
                        Rate::Keys(keys) => Rate::Keys(step.scaled(keys)),
                        Rate::Bytes(bytes) => Rate::Bytes(step.scaled(bytes)),
                    });
                }
                (None, Some(limit)) => {
                    let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
                    settings.max_latency = Some(Duration::from_micros(step.scaled(micros)));
                }
                (None, None) => settings.stepped_pairs = Some(step.pairs(settings, pairs)),
            }
            settings
        });
    }

    /// Whether the user is to be told that a rate in bytes is not exact: at the first call only.
    pub fn warns_of_weights(&self) -> bool {
        !self.0.has_told_of_weights.swap(true, Ordering::Relaxed)
    }

    /// How to go on after the last pause, in words.
    pub fn how_to_resume(&self) -> Option<String> {
        self.resume().clone()
    }

    fn resume(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.0.resume.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the pairs of nodes do.
    pub fn pairs(&self) -> Pairs {
        *self.0.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what they do.
    pub fn note_pairs(&self, pairs: Pairs) {
        *self.0.pairs.lock().unwrap_or_else(PoisonError::into_inner) = pairs;
    }

    /// What the run does.
    pub fn move_state(&self) -> MoveState {
        self.pairs().state(self.settings().flow)
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
                tasks.push(tokio::spawn(socket::remove_left()).abort_handle());
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

/// Gives an option another value, or removes it.
fn replace_option(options: &mut Vec<String>, option: &str, value: Option<String>) {
    if let Some(place) = options.iter().position(|word| word == option) {
        options.drain(place..(place + 2).min(options.len()));
    }
    if let Some(value) = value {
        options.extend([option.to_string(), value]);
    }
}

impl Step {
    fn scaled(self, number: u64) -> u64 {
        match self {
            Self::Up => number.saturating_mul(2),
            Self::Down => (number / 2).max(1),
        }
    }

    /// How many node pairs there may be after this step.
    fn pairs(self, settings: Settings, pairs: Pairs) -> usize {
        let most = settings.most_pairs();
        match self {
            // Also where fewer are at work: some may not have begun, others are done.
            Self::Up => (most + 1).min(MOST_NODE_PAIRS),
            Self::Down => {
                let at_work = match (settings.flow, pairs) {
                    // While paused, none has slots open, or soon none will.
                    (Flow::Moving, Pairs { open_pairs, .. }) if open_pairs > 0 => open_pairs,
                    (_, Pairs { lanes: 0, .. }) => most,
                    (_, Pairs { lanes, .. }) => lanes,
                };
                most.min(at_work).saturating_sub(1).max(1)
            }
        }
    }
}

#[cfg(test)]
mod tests;
