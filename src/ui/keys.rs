//! Keys that control a running move, on a terminal.
//!
//! The terminal gives keys at once and does not echo them, but goes on to turn Ctrl-C into a signal. A process in the
//! background may neither read a terminal nor change it (SIGTTIN, SIGTTOU stop it), so it does not try.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::time::Duration;

use rustix::process::getpgrp;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Ui;

/// The interval between two looks at the terminal.
const EVERY: Duration = Duration::from_millis(100);

/// A key that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// `p`: pause, or go on.
    Pause,
    /// `+`: faster.
    Faster,
    /// `-`: slower.
    Slower,
}

impl Key {
    fn of(byte: u8) -> Option<Self> {
        match byte {
            b'p' | b'P' => Some(Self::Pause),
            b'+' => Some(Self::Faster),
            b'-' => Some(Self::Slower),
            _ => None,
        }
    }
}

/// A terminal that gives keys. Dropping it restores its settings.
#[derive(Debug)]
pub struct Keys {
    settings: Termios,
    changed: Termios,
    /// Keys that were read and not taken yet.
    read: VecDeque<Key>,
    /// The looks at the terminal. They outlive [`Keys::next`], which is dropped whenever something else happens first.
    looks: Interval,
}

impl Ui {
    /// Reads keys from now on; `None` where no person sits at a terminal, or the program runs in the background.
    pub fn keys(&self) -> Option<Keys> {
        let is_terminal = self.is_with_person() && io::stdout().is_terminal();
        (is_terminal && is_in_foreground())
            .then(Keys::open)
            .and_then(Result::ok)
    }
}

impl Keys {
    fn open() -> io::Result<Self> {
        let settings = tcgetattr(io::stdin())?;
        let mut changed = settings.clone();
        changed.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        // A read returns at once, with nothing if there is nothing.
        changed.special_codes[SpecialCodeIndex::VMIN] = 0;
        changed.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &changed)?;
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            settings,
            changed,
            read: VecDeque::new(),
            looks,
        })
    }

    /// Waits for the next key that means something. No key is lost if the wait is dropped.
    pub async fn next(&mut self) -> Key {
        loop {
            if let Some(key) = self.read.pop_front() {
                return key;
            }
            self.looks.tick().await;
            if is_in_foreground() {
                self.set_again();
                let mut bytes = [0; 64];
                let read = rustix::io::read(io::stdin(), &mut bytes).unwrap_or(0);
                let keys = bytes.iter().take(read).filter_map(|byte| Key::of(*byte));
                self.read.extend(keys);
            }
        }
    }
}

impl Keys {
    /// Sets the terminal again after Ctrl-Z and `fg`: shells put their own settings back.
    fn set_again(&self) {
        let is_reset = |now: Termios| now.local_modes.contains(LocalModes::ICANON);
        if tcgetattr(io::stdin()).is_ok_and(is_reset) {
            // Without it, keys count after Enter only.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.changed);
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if is_in_foreground() {
            // There is nothing to do if that fails.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.settings);
        }
    }
}

/// Whether this program is the one that the terminal belongs to now.
fn is_in_foreground() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp())
}
