//! Settings as text: a control file, and what `throttle` sends to a run.
//!
//! One setting a line, its name and its value, with or without `=` between them: `rate 5000`, `max-latency = 5ms`. `#`
//! begins a comment. Of two lines for the same setting, the last one counts. `pause` alone is `pause yes`.

use std::fmt::Write;

use super::values::{Limit, duration, duration_text, node_pairs, rate, rate_text};
use super::{Flow, Rate, Settings};
use crate::cluster::text::clean;
use std::time::Duration;

/// A change of settings. What it does not name stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// The new rate.
    pub rate: Option<Limit<Rate>>,
    /// The new number of node pairs.
    pub node_pairs: Option<Limit<usize>>,
    /// The new latency limit.
    pub max_latency: Option<Limit<Duration>>,
    /// Whether slots move from now on.
    pub flow: Option<Flow>,
}

impl Change {
    /// Reads a text. An error names the line, and nothing of the text holds then.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut change = Self::default();
        // Editors of Windows write a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let words = line.replacen('=', " ", 1);
            let mut words = words.split_whitespace();
            let Some(name) = words.next() else {
                continue;
            };
            let value = words.next().unwrap_or_default();
            let set = match (value, words.next()) {
                // A template whose value is empty asks for nothing.
                ("", _) if line.contains('=') => Err("no value after =".to_string()),
                (value, rest) => change.set(name, value).and_then(|()| match rest {
                    None => Ok(()),
                    Some(_) => Err("more than one value".to_string()),
                }),
            };
            set.map_err(|why| clean(&format!("line {}: {why}", number + 1), 200))?;
        }
        Ok(change)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "rate" => self.rate = Some(Limit::parse(value, rate)?),
            "node-pairs" | "lanes" => self.node_pairs = Some(Limit::parse(value, node_pairs)?),
            "max-latency" => self.max_latency = Some(Limit::parse(value, duration)?),
            "pause" => {
                self.flow = Some(match value {
                    "yes" | "on" | "true" | "1" | "" => Flow::Paused,
                    "no" | "off" | "false" | "0" => Flow::Moving,
                    _ => return Err(format!("pause is yes or no, not {value:?}")),
                });
            }
            _ => {
                // The name may be a secret, of a file that is given by mistake.
                return Err(
                    "not a setting: rate, node-pairs, max-latency and pause are".to_string()
                );
            }
        }
        Ok(())
    }

    /// The text that [`Self::parse`] reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let mut add = |name: &str, value: String| {
            let _ = writeln!(text, "{name} {value}");
        };
        match self.rate {
            None => {}
            Some(Limit::Off) => add("rate", "off".to_string()),
            Some(Limit::At(rate)) => add("rate", rate_text(rate)),
        }
        match self.node_pairs {
            None => {}
            Some(Limit::Off) => add("node-pairs", "off".to_string()),
            Some(Limit::At(pairs)) => add("node-pairs", pairs.to_string()),
        }
        match self.max_latency {
            None => {}
            Some(Limit::Off) => add("max-latency", "off".to_string()),
            Some(Limit::At(limit)) => add("max-latency", duration_text(limit)),
        }
        match self.flow {
            None => {}
            Some(Flow::Moving) => add("pause", "no".to_string()),
            Some(Flow::Paused) => add("pause", "yes".to_string()),
        }
        text
    }

    /// The settings after the change.
    pub fn apply(self, settings: Settings) -> Settings {
        Settings {
            rate: self.rate.map_or(settings.rate, Limit::value),
            node_pairs: self.node_pairs.map_or(settings.node_pairs, Limit::value),
            // What is set counts from then on.
            stepped_pairs: settings.stepped_pairs.filter(|_| self.node_pairs.is_none()),
            max_latency: self.max_latency.map_or(settings.max_latency, Limit::value),
            flow: self.flow.unwrap_or(settings.flow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_sets_what_it_names() {
        let text = "# slowly during the day\nrate = 10MiB   # bytes\n\nlanes 3\nmax-latency=5ms\npause no\n";
        let change = Change::parse(text).unwrap();
        let expected = Change {
            rate: Some(Limit::At(Rate::Bytes(10 << 20))),
            node_pairs: Some(Limit::At(3)),
            max_latency: Some(Limit::At(Duration::from_millis(5))),
            flow: Some(Flow::Moving),
        };
        assert_eq!(change, expected);
        let settings = change.apply(Settings::default());
        assert_eq!(settings.node_pairs, Some(3));
        let lifted = Change::parse("rate off").unwrap().apply(settings);
        assert_eq!((lifted.rate, lifted.node_pairs), (None, Some(3)));
        let pairs_after = |text: &str, settings: Settings| {
            let after = Change::parse(text).unwrap().apply(settings);
            (after.node_pairs, after.pairs_now())
        };
        let stepped = Settings {
            stepped_pairs: Some(2),
            ..settings
        };
        assert_eq!(pairs_after("rate off", stepped), (Some(3), Some(2)));
        assert_eq!(pairs_after("node-pairs 5", stepped), (Some(5), Some(5)));
        assert_eq!(pairs_after("lanes off", stepped), (None, None));
        assert_eq!(Change::parse("pause").unwrap().flow, Some(Flow::Paused));
        let of_windows = Change::parse("\u{feff}rate=5\r\npause\r\n").unwrap();
        assert_eq!(
            (of_windows.rate, of_windows.flow),
            (Some(Limit::At(Rate::Keys(5))), Some(Flow::Paused))
        );
        let twice = Change::parse("rate 5\npause yes\nrate off\npause no\n").unwrap();
        assert_eq!(
            (twice.rate, twice.flow),
            (Some(Limit::Off), Some(Flow::Moving)),
            "the last line counts"
        );
    }

    #[test]
    fn nonsense_names_its_line() {
        for (text, word) in [
            ("rate 0", "line 1: a rate of 0"),
            ("\nrate fast", "line 2: \"fast\" is not a rate"),
            ("max-latency 0ms", "above zero"),
            ("max-latency", "not a time"),
            ("lanes 0", "1-1000"),
            ("pause maybe", "yes or no"),
            ("pause =", "line 1: no value after ="),
            ("rate 5\npause= # yes", "line 2: no value after ="),
            ("= pause", "no value after ="),
            ("rate =", "no value after ="),
            ("speed 9", "line 1: not a setting: rate"),
            ("rate 5 6", "line 1: more than one value"),
            ("\u{1b}[2J", "not a setting"),
            ("rate \u{1b}[2J", "not a rate"),
        ] {
            let why = Change::parse(text).unwrap_err();
            assert!(why.contains(word), "{text:?}: {why}");
            assert!(!why.contains('\u{1b}'), "{why:?}");
        }
    }

    #[test]
    fn a_line_of_another_file_is_not_shown() {
        for text in ["s3cret", "s3cret=9", "rate 5 s3cret", "requirepass s3cret"] {
            let why = Change::parse(text).unwrap_err();
            assert!(!why.contains("s3cret"), "{why}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            rate in proptest::option::of(prop_oneof![
                Just(Limit::Off),
                (1_u64..1 << 50).prop_map(|keys| Limit::At(Rate::Keys(keys))),
                (1_u64..1 << 50).prop_map(|bytes| Limit::At(Rate::Bytes(bytes))),
            ]),
            node_pairs in proptest::option::of(prop_oneof![
                Just(Limit::Off),
                (1_usize..=1000).prop_map(Limit::At),
            ]),
            max_latency in proptest::option::of(prop_oneof![
                Just(Limit::Off),
                (1_u64..600_000_000).prop_map(|us| Limit::At(Duration::from_micros(us))),
            ]),
            flow in proptest::option::of(prop_oneof![Just(Flow::Moving), Just(Flow::Paused)]),
        ) {
            let change = Change { rate, node_pairs, max_latency, flow };
            prop_assert_eq!(Change::parse(&change.text()), Ok(change));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = Change::parse(&text);
        }
    }
}
