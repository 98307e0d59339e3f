//! Parsers of values that several commands take.

use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::Duration;

use crate::cluster::node::Addr;
use crate::cluster::slot::{Slot, SlotRange, SlotSet};
use crate::seed::{self, Seed};
use crate::stop::Stop;

/// More than any file holds that is named on a command line, but for backups.
const LARGEST_FILE: u64 = 64 << 20;

/// A time with its unit, above zero and at most a week.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
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

/// The text of a file that was named. One without an end (a device) is refused, not read.
pub(crate) fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?
        .take(LARGEST_FILE + 1)
        .read_to_string(&mut text)?;
    match u64::try_from(read) {
        Ok(0..=LARGEST_FILE) => Ok(text),
        _ => Err(io::Error::other("it is larger than 64 MiB")),
    }
}

/// Where exactly one node is meant: `host:port`, or `host port` as two words.
pub(crate) fn node_words(words: &[String]) -> Result<Seed, Stop> {
    let text = match words {
        [host, port] if !host.contains(':') || host.parse::<Ipv6Addr>().is_ok() => {
            let port = seed::parse_port(port, port).map_err(Stop::usage)?;
            Addr::new(host, port).to_string()
        }
        [node] => node.clone(),
        _ => {
            // Not repeated: there may be a password in it.
            return Err(Stop::usage(anyhow::anyhow!(
                "one node is meant here, as host:port or as host and port"
            )));
        }
    };
    text.parse().map_err(Stop::usage)
}

/// `0-100,200`.
pub(crate) fn slot_ranges(text: &str) -> Result<SlotSet, String> {
    let range = |part: &str| {
        let (start, end) = part.split_once('-').unwrap_or((part, part));
        let slot = |text: &str| Slot::new(text.trim().parse().ok()?);
        SlotRange::new(slot(start)?, slot(end)?)
    };
    text.split(',')
        .map(|part| {
            range(part).ok_or_else(|| format!("{part:?} is no slot (0 to 16383) or range of slots"))
        })
        .collect()
}
