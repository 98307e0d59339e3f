//! Notes which subcommands ran on which server versions, for `docs/servers.md`.
//!
//! With `REDIS_TRIB_RAN=FILE`, each exit code that a test expects becomes a line of that file: the subcommand, the
//! version, the expected code, and whether it was that. `tests/servers_table.sh FILE` makes the table of it.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Mutex, OnceLock};

/// The subcommands that talk to servers.
pub(crate) const SUBCOMMANDS: [&str; 24] = [
    "create",
    "check",
    "info",
    "watch",
    "where",
    "slots",
    "drift",
    "fix",
    "reshard",
    "rebalance",
    "apply",
    "add-node",
    "del-node",
    "replace-node",
    "failover",
    "ok-to-stop",
    "place",
    "roll",
    "call",
    "set-timeout",
    "import",
    "verify",
    "backup",
    "restore",
];

fn versions() -> &'static Mutex<HashMap<String, String>> {
    static VERSIONS: OnceLock<Mutex<HashMap<String, String>>> = OnceLock::new();
    VERSIONS.get_or_init(Mutex::default)
}

/// A node of that version answers at that address. (A port is given to one server after the other.)
pub(crate) fn at(addr: &str, version: &str) {
    let mut known = versions().lock().unwrap();
    known.insert(addr.to_owned(), version.to_owned());
}

/// A command line ended, and was expected to end with this code.
pub(crate) fn note(line: &str, expected: i32, passed: bool) {
    let Some(file) = std::env::var_os("REDIS_TRIB_RAN") else {
        return;
    };
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let mut subcommands = words.iter().skip(1);
    let Some(subcommand) = subcommands.find(|word| SUBCOMMANDS.contains(word)) else {
        return;
    };
    let known = versions().lock().unwrap();
    let mut seen: Vec<&String> = words.iter().filter_map(|word| known.get(*word)).collect();
    seen.sort();
    seen.dedup();
    // Of a cluster of several versions it can't be told which one failed.
    let [version] = seen[..] else { return };
    let result = if passed { "passed" } else { "failed" };
    let text = format!("{subcommand}\t{version}\t{expected}\t{result}\n");
    let opened = OpenOptions::new().create(true).append(true).open(file);
    opened.unwrap().write_all(text.as_bytes()).unwrap();
}
