//! Values with units, as options and control files write them.

use std::time::Duration;

use super::Rate;

/// The most pairs of nodes.
pub(super) const MOST_NODE_PAIRS: usize = 1_000;

/// A limit, as a text sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit<T> {
    /// There is none any more, or the default holds.
    Off,
    /// This one.
    At(T),
}

impl<T> Limit<T> {
    /// Parses `off`, or what `parse` does.
    pub fn parse(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            text => parse(text).map(Self::At),
        }
    }

    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::At(value) => Some(value),
        }
    }
}

/// Parses a time with its unit: above zero, at most a week.
pub fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
    let time = humantime::parse_duration(text)
        .map_err(|_| "not a time: write it with its unit, as 500ms, 60s or 5m".to_string())?;
    if time.is_zero() {
        Err("a time must be above zero".to_string())
    } else if time > LONGEST {
        Err("a time may be a week at most".to_string())
    } else {
        Ok(time)
    }
}

/// A time as [`duration`] parses it.
pub(super) fn duration_text(time: Duration) -> String {
    humantime::format_duration(time)
        .to_string()
        .replace(' ', "")
}

/// A rate as [`rate`] parses it.
pub(super) fn rate_text(rate: Rate) -> String {
    match rate {
        Rate::Keys(keys) => keys.to_string(),
        Rate::Bytes(bytes) => format!("{bytes}B"),
    }
}

/// Parses a size with its unit: `10MiB`, `512KiB`, `1GiB` or `100B`.
pub fn size(text: &str) -> Result<u64, String> {
    let units = [
        ("KiB", 1_u64 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("B", 1),
    ];
    let wrong =
        || format!("{text:?} is not a size: write it with its unit, as 512KiB, 64MiB or 1GiB");
    let (number, unit) = units
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)))
        .ok_or_else(wrong)?;
    let number: u64 = number.trim().parse().map_err(|_| wrong())?;
    number
        .checked_mul(*unit)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(wrong)
}

/// Parses keys (`5000`) or bytes (`10MiB`) per second.
pub fn rate(text: &str) -> Result<Rate, String> {
    match text.parse::<u64>() {
        Ok(0) => Err("a rate of 0 would move nothing".to_string()),
        Ok(keys) => Ok(Rate::Keys(keys)),
        Err(_) => size(text)
            .map(Rate::Bytes)
            .map_err(|_| format!("{text:?} is not a rate: write keys as 5000 or bytes as 10MiB")),
    }
}

/// Parses a number of node pairs.
pub fn node_pairs(text: &str) -> Result<usize, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=MOST_NODE_PAIRS).contains(number));
    number.ok_or_else(|| format!("{text} is not a number of pairs of nodes (1-1000)"))
}
