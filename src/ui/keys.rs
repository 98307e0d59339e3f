//! Keys that control a running move, on a terminal.
//!
//! The terminal gives keys at once and does not echo them, but goes on to turn Ctrl-C into a signal. Ctrl-Z is a key like
//! others here: some shells (dash, BusyBox) leave the settings of the terminal to the program, so it gives them back before it
//! stops. Then it stops as the terminal would have stopped it: the whole process group gets SIGTSTP (a script that runs the
//! program stops too), and the kernel ignores that for a group that no shell could continue.
//!
//! A process in the background may neither read a terminal nor change it (SIGTTIN, SIGTTOU stop it), so it does not try.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Signal, getpgrp, kill_current_process_group};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Ui;

/// The interval between two looks at the terminal.
const EVERY: Duration = Duration::from_millis(100);
/// The character that no key has (`_POSIX_VDISABLE`).
const NO_KEY: u8 = if cfg!(target_os = "linux") { 0 } else { 0xff };

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
    /// Keys that were read and not taken yet.
    read: VecDeque<Key>,
    /// The looks at the terminal. They outlive [`Keys::next`], which is dropped whenever something else happens first.
    looks: Interval,
}

/// The settings that the terminal had before keys were read; `None` while it has them.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

impl Ui {
    /// Reads keys from now on, whenever the program is in the foreground; `None` where no person sits at a terminal.
    pub fn keys(&self) -> Option<Keys> {
        self.is_with_person().then(Keys::open)
    }
}

impl Keys {
    fn open() -> Self {
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let keys = Self {
            read: VecDeque::new(),
            looks,
        };
        if is_in_foreground() {
            set();
        }
        keys
    }

    /// Waits for the next key that means something. No key is lost if the wait is dropped.
    pub async fn next(&mut self) -> Key {
        loop {
            if let Some(key) = self.read.pop_front() {
                return key;
            }
            self.looks.tick().await;
            if is_in_foreground() && set() {
                let mut bytes = [0; 64];
                let read = rustix::io::read(io::stdin(), &mut bytes).unwrap_or(0);
                let bytes = &bytes[..read];
                self.read
                    .extend(bytes.iter().filter_map(|byte| Key::of(*byte)));
                if bytes.iter().any(|byte| is_stop_key(*byte)) {
                    restore();
                    // There is nothing to do if that fails.
                    let _ = kill_current_process_group(Signal::TSTP);
                }
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        restore();
    }
}

/// Makes the terminal give keys at once, also again: after Ctrl-Z and `fg` it has the settings of the shell. Returns whether it
/// does.
fn set() -> bool {
    let Ok(now) = tcgetattr(io::stdin()) else {
        return false;
    };
    let gives_keys = |now: &Termios| {
        !now.local_modes
            .intersects(LocalModes::ICANON | LocalModes::ECHO)
            && now.special_codes[SpecialCodeIndex::VMIN] == 0
            && now.special_codes[SpecialCodeIndex::VTIME] == 0
            && now.special_codes[SpecialCodeIndex::VSUSP] == NO_KEY
    };
    if gives_keys(&now) {
        return true;
    }
    let mut changed = now.clone();
    changed.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
    // A read returns at once, with nothing if there is nothing.
    changed.special_codes[SpecialCodeIndex::VMIN] = 0;
    changed.special_codes[SpecialCodeIndex::VTIME] = 0;
    changed.special_codes[SpecialCodeIndex::VSUSP] = NO_KEY;
    before().get_or_insert(now);
    tcsetattr(io::stdin(), OptionalActions::Now, &changed).is_ok()
}

/// Gives the terminal its settings back.
fn restore() {
    let settings = before().take();
    if let Some(settings) = settings
        && is_in_foreground()
    {
        // There is nothing to do if that fails.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &settings);
    }
}

fn before() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this is the key that stops programs (Ctrl-Z), in the settings that the terminal had before.
fn is_stop_key(byte: u8) -> bool {
    byte != NO_KEY
        && before()
            .as_ref()
            .is_some_and(|settings| settings.special_codes[SpecialCodeIndex::VSUSP] == byte)
}

/// Whether this program is the one that the terminal belongs to now.
fn is_in_foreground() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp())
}
