//! Parsers of values that several commands take.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::path::Path;

pub(crate) use crate::control::values::duration;

use super::again::without_password;
use crate::cluster::node::Addr;
use crate::cluster::slot::{Slot, SlotRange, SlotSet};
use crate::seed::{self, Seed};
use crate::shell::command_line;
use crate::stop::Stop;

/// The largest file that an option may name. Backups are directories and have no limit.
const LARGEST_FILE: u64 = 64 << 20;

/// A parser of numbers within a range; `what` names what is counted: `abc is not a number of slots (1-16384)`.
pub(crate) fn number(
    what: &'static str,
    range: RangeInclusive<u16>,
) -> impl Fn(&str) -> Result<u16, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let (least, most) = (range.start(), range.end());
        number.ok_or_else(|| format!("{text} is not a number of {what} ({least}-{most})"))
    }
}

/// Parses the number of a slot.
pub(crate) fn slot(text: &str) -> Result<Slot, String> {
    let slot = text.parse().ok().and_then(Slot::new);
    slot.ok_or_else(|| format!("{text} is not a slot (0-16383)"))
}

/// Reads a file. One that is too large, such as a device without an end, is an error.
pub(crate) fn text_of(path: &Path) -> io::Result<String> {
    String::from_utf8(bytes_of(path)?).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

/// The same for a file whose bytes need not be text.
pub(crate) fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?
        .take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)?;
    match u64::try_from(read) {
        Ok(0..=LARGEST_FILE) => Ok(bytes),
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

/// Refuses `command NODE PATH` where `command PATH NODE` is right: the words are swapped if only the other order makes
/// sense.
pub(crate) fn refuse_swapped(command: &str, path: &Path, node: &str) -> Result<(), Stop> {
    let Some(text) = path.to_str() else {
        return Ok(());
    };
    let is_swapped = !path.exists() && text.parse::<Seed>().is_ok() && Path::new(node).exists();
    match is_swapped {
        true => Err(swapped(command, node, text)),
        false => Ok(()),
    }
}

/// The same where the node is first. The directory need not exist.
pub(crate) fn refuse_swapped_after(command: &str, node: &str, path: &str) -> Result<(), Stop> {
    let (Ok(second), false) = (path.parse::<Seed>(), Path::new(path).exists()) else {
        return Ok(());
    };
    let is_swapped = match node.parse::<Seed>() {
        Err(_) => true,
        Ok(_) if Path::new(node).is_dir() => true,
        // A directory may be called like a host, but not like an address or a cluster.
        Ok(first) => {
            let is_sure = |seed: &Seed| seed.addr.ip().is_some() || seed.cluster.is_some();
            is_sure(&second) && !is_sure(&first) && !node.contains(':')
        }
    };
    match is_swapped {
        true => Err(swapped(command, path, node)),
        false => Ok(()),
    }
}

fn swapped(command: &str, first: &str, second: &str) -> Stop {
    let words = [first, second].map(|word| without_password(word).0);
    let words = ["redis-trib".to_string(), command.to_string()]
        .into_iter()
        .chain(words);
    let line = command_line(&words.collect::<Vec<_>>());
    Stop::usage(anyhow::anyhow!(
        "the arguments are swapped: write {line} (and the same options)"
    ))
}

/// Refuses seeds that are named twice.
pub(crate) fn refuse_duplicates(seeds: &[Seed]) -> Result<(), Stop> {
    let mut named = BTreeSet::new();
    match seeds.iter().find(|seed| !named.insert(&seed.addr)) {
        Some(seed) => Err(Stop::usage(anyhow::anyhow!(
            "{seed} is named twice: name each node once"
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
