//! Colour, and what may be written to a terminal at all.
//!
//! Colour only ever repeats what a word says already: output reads the same without it.

use console::Style as Ansi;

use crate::cluster::health::Severity;
use crate::cluster::text::clean;

/// Whether a stream gets colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Words alone.
    Plain,
    /// ANSI escapes around them.
    Ansi,
}

/// What a colour stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// Will hurt one day.
    Warning,
    /// Hurts now.
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

/// Text that others wrote (a server's error, an announced name), fit to be shown: what a terminal
/// would act on is dropped, line breaks too.
pub(super) fn plain(text: &str) -> String {
    clean(text, usize::MAX)
}

/// A count with its noun: `1 slot`, `1,365 slots`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(count))
}

/// `16384` as `16,384`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.2 GiB`.
pub(super) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{count} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (16384, "16,384"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(thousands(number), text);
        }
        assert_eq!(counted(1, "slot"), "1 slot");
        assert_eq!(counted(1365, "slot"), "1,365 slots");
    }

    #[test]
    fn plain_text_has_nothing_for_a_terminal_to_act_on() {
        assert_eq!(
            plain("a\x1b[31mb\r\nc\u{9b}d\u{202e}e\u{2028}\u{feff}"),
            "a[31mbcde"
        );
    }
}
