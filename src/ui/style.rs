//! Colours, units, and the text that is safe to write to a terminal.
//!
//! A colour only repeats what a word says: output reads the same without it.

use std::time::Duration;

use console::Style as Ansi;

use crate::cluster::health::Severity;
use crate::cluster::text::clean;
use crate::report::NodeState;

pub(super) use crate::cluster::numbers::{bytes, counted, thousands};

/// Whether a stream gets colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// No colours.
    Plain,
    /// ANSI escapes.
    Ansi,
}

/// The meaning of a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// No problem.
    Good,
    /// A problem that may become worse.
    Warning,
    /// A problem now.
    Bad,
    /// A heading, an address, a command to copy.
    Strong,
}

impl Tone {
    pub(super) fn of(severity: Severity) -> Self {
        match severity {
            Severity::Error => Self::Bad,
            Severity::Warning => Self::Warning,
        }
    }

    pub(super) fn of_state(state: NodeState) -> Self {
        match state {
            NodeState::Ok => Self::Good,
            NodeState::Failing
            | NodeState::Handshake
            | NodeState::NoAddress
            | NodeState::Loading
            | NodeState::Syncing => Self::Warning,
            NodeState::Fail | NodeState::Unreachable | NodeState::Foreign | NodeState::LinkDown => {
                Self::Bad
            }
        }
    }
}

impl Style {
    /// The text in that tone.
    pub(super) fn tone(self, tone: Tone, text: &str) -> String {
        match self {
            Self::Plain => text.to_string(),
            // `console` looks at the streams of the whole process; the decision is ours.
            Self::Ansi => ansi(tone).force_styling(true).apply_to(text).to_string(),
        }
    }
}

fn ansi(tone: Tone) -> Ansi {
    match tone {
        Tone::Good => Ansi::new().green(),
        Tone::Warning => Ansi::new().yellow(),
        Tone::Bad => Ansi::new().red(),
        Tone::Strong => Ansi::new().bold(),
    }
}

/// Text from outside (a server's error, an announced name) without what a terminal would act on, and without line
/// breaks.
pub(super) fn plain(text: &str) -> String {
    clean(text, usize::MAX)
}

/// Milliseconds as the views have them.
pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// A number of milliseconds: `18.7 ms`, `2.5 s`.
pub(super) fn millis(ms: f64) -> String {
    match ms / 1_000.0 {
        seconds if seconds < 1.0 => format!("{ms:.1} ms"),
        seconds => format!("{seconds:.1} s"),
    }
}

/// A rate, for a count that took so many milliseconds.
pub(super) fn per_second(count: u64, ms: f64) -> u64 {
    (count as f64 / (ms / 1_000.0).max(0.001)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(millis(18.7), "18.7 ms");
        assert_eq!(millis(ms(Duration::from_millis(2_500))), "2.5 s");
        assert_eq!(per_second(100, ms(Duration::from_secs(2))), 50);
        assert_eq!(per_second(100, 0.0), 100_000);
    }

    #[test]
    fn plain_text_has_nothing_for_a_terminal_to_act_on() {
        assert_eq!(
            plain("a\x1b[31mb\r\nc\u{9b}d\u{202e}e\u{2028}\u{feff}"),
            "a[31mbcde"
        );
    }
}
