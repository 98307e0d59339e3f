//! Parsers of values that several commands take.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::Duration;

use crate::cluster::node::Addr;
use crate::cluster::slot::{Slot, SlotRange, SlotSet};
use crate::seed::{self, Seed};
use crate::stop::Stop;

/// The largest file that an option may name. Backups are directories and have no limit.
const LARGEST_FILE: u64 = 64 << 20;

/// Parses a time with its unit: above zero, at most a week.
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

/// Reads a file. One that is too large, such as a device without an end, is an error.
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

/// Parses the words that name exactly one node: `host:port`, or `host port` as two words.
pub(crate) fn node_words(words: &[String]) -> Result<Seed, Stop> {
    let text = match words {
        [host, port] if !host.contains(':') || host.parse::<Ipv6Addr>().is_ok() => {
            let port = seed::parse_port(port, port).map_err(Stop::usage)?;
            Addr::new(host, port).to_string()
        }
        [node] => node.clone(),
        _ => {
            // The words are not printed: they may contain a password.
            return Err(Stop::usage(anyhow::anyhow!(
                "exactly one node is expected here, as host:port or as host and port"
            )));
        }
    };
    text.parse().map_err(Stop::usage)
}

/// Refuses seeds that are named twice.
pub(crate) fn refuse_duplicates(seeds: &[Seed]) -> Result<(), Stop> {
    let mut named = BTreeSet::new();
    match seeds.iter().find(|seed| !named.insert(&seed.addr)) {
        Some(Seed { addr, .. }) => Err(Stop::usage(anyhow::anyhow!(
            "{addr} is named twice: name each node once"
        ))),
        None => Ok(()),
    }
}

/// Parses slots, such as `0-100,200`.
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
