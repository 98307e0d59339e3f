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
            | NodeState::Busy
            | NodeState::Loading
            | NodeState::Syncing => Self::Warning,
            NodeState::Fail
            | NodeState::Error
            | NodeState::Unreachable
            | NodeState::Foreign
            | NodeState::LinkDown => Self::Bad,
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

/// The text in lines of at most `width` columns; the first begins after `used` of them, and the others are indented. Lines
/// are broken between words, but not between an address and its `(id)`, nor within a `(redis-trib …)`.
pub(super) fn wrapped(text: &str, used: usize, width: usize) -> String {
    const INDENT: &str = "    ";
    let mut lines = String::with_capacity(text.len());
    let (mut column, mut is_first) = (used, true);
    for word in glued(text).split(' ') {
        let long = word.chars().count();
        if !is_first && column + 1 + long > width {
            lines.push('\n');
            lines.push_str(INDENT);
            column = INDENT.len();
        } else if !is_first {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(&word.replace(GLUE, " "));
        column += long;
        is_first = false;
    }
    lines
}

/// A space at which no line is broken.
const GLUE: char = '\u{a0}';

/// The text with its unbreakable spaces.
fn glued(text: &str) -> String {
    let mut glued = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(" (") {
        glued.push_str(before);
        let is_command = after.starts_with("redis-trib ");
        // A command is worth a line of its own; an id belongs to the address before it.
        glued.push(if is_command { ' ' } else { GLUE });
        glued.push('(');
        rest = after;
        if let (true, Some((command, after))) = (is_command, after.split_once(')')) {
            glued.push_str(&command.replace(' ', &GLUE.to_string()));
            glued.push(')');
            rest = after;
        }
    }
    glued + rest
}

/// The same for a message. A command at its end gets a line of its own and is never broken: it is there to be copied.
pub(super) fn wrapped_message(text: &str, used: usize, width: usize) -> String {
    const COMMAND: &str = "redis-trib ";
    if used + text.chars().count() <= width || text.trim_start().starts_with(COMMAND) {
        return text.to_string();
    }
    match text.rsplit_once(": redis-trib ") {
        Some((before, command)) => {
            let before = wrapped(&format!("{before}:"), used, width);
            format!("{before}\n  {COMMAND}{command}")
        }
        None => wrapped(text, used, width),
    }
}

/// Milliseconds as the views have them.
pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// A number of milliseconds: `18.7 ms`, `2.5 s`.
pub(super) fn millis(ms: f64) -> String {
    match ms / 1_000.0 {
        seconds if seconds < 1.0 => format!("{ms:.1} ms"),
        seconds if seconds < 1_000.0 => format!("{seconds:.1} s"),
        seconds => format!("{} s", thousands(seconds as u64)),
    }
}

/// A time that is left, about: `3 s`, `4 min`, `2 h`. What takes more than four days may take any time.
pub(super) fn about(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=99 => format!("{} s", seconds.max(1)),
        seconds @ 100..=5_999 => format!("{} min", seconds.div_ceil(60)),
        seconds @ 6_000..=356_400 => format!("{} h", seconds.div_ceil(3_600)),
        _ => ">99 h".to_string(),
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
    fn times_left_are_rounded() {
        let about = |seconds| about(Duration::from_secs(seconds));
        assert_eq!(about(0), "1 s");
        assert_eq!(about(99), "99 s");
        assert_eq!(about(100), "2 min");
        assert_eq!(about(6_000), "2 h");
        assert_eq!(about(99 * 3_600), "99 h");
        assert_eq!(about(99 * 3_600 + 1), ">99 h");
        assert_eq!(about(365 * 24 * 3_600), ">99 h");
    }

    #[test]
    fn long_texts_are_broken_between_words() {
        assert_eq!(wrapped("one two", 0, 80), "one two");
        assert_eq!(wrapped("one two three", 0, 8), "one two\n    three");
        assert_eq!(wrapped("one two", 4, 8), "one\n    two");
        assert_eq!(
            wrapped("at 10.0.0.1:1 (abcd)", 0, 14),
            "at\n    10.0.0.1:1 (abcd)"
        );
        assert_eq!(wrapped("unbreakable", 0, 4), "unbreakable");
        assert_eq!(
            wrapped("see to it (redis-trib fix a:1); nothing was changed", 0, 24),
            "see to it\n    (redis-trib fix a:1);\n    nothing was changed"
        );
    }

    #[test]
    fn commands_are_never_broken() {
        let text = "it owns no slots: redis-trib rebalance 10.0.0.1";
        assert_eq!(wrapped_message(text, 6, 80), text);
        assert_eq!(
            wrapped_message(text, 6, 20),
            "it owns no\n    slots:\n  redis-trib rebalance 10.0.0.1"
        );
        let command = "  redis-trib rebalance 10.0.0.1";
        assert_eq!(wrapped_message(command, 2, 20), command);
    }

    #[test]
    fn plain_text_has_nothing_for_a_terminal_to_act_on() {
        assert_eq!(
            plain("a\x1b[31mb\r\nc\u{9b}d\u{202e}e\u{2028}\u{feff}"),
            "a[31mbcde"
        );
    }
}
