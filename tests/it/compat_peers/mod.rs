//! The same command lines on redis-cli (or valkey-cli) and on us, on identical clusters: the exit code, the state of all
//! nodes afterwards, and the lines that scripts look for are equal.
//!
//! A scene is a pair of clusters and a list of rows that run one after another on both. A row that differs on purpose says
//! in what, and why. To add a line, add a row to the scene whose state it needs; a scene goes on from the state that its
//! rows have left.

// Each line and its time are its result.
#![allow(clippy::print_stdout)]

mod data;
mod fix;
mod lines;
mod members;
mod reading;
mod row;
mod slots;
mod state;
mod usage;
mod valkey;

use std::thread;
use std::time::{Duration, Instant};

use crate::support::command::{Ended, Finished, Trib};
use crate::support::subcommands::{has_redis_cli, redis_cli};

use lines::Names;
use row::{Allowed, Row};
use state::Side;

/// How long both clusters may take to reach the same state.
const SETTLES_WITHIN: Duration = Duration::from_secs(15);

/// The program that ours is compared with.
#[derive(Debug, Clone)]
enum Peer {
    RedisCli,
    /// At this path.
    ValkeyCli(std::path::PathBuf),
}

impl Peer {
    fn theirs(&self) -> Trib {
        match self {
            Self::RedisCli => redis_cli(),
            Self::ValkeyCli(path) => Trib::new().program(path),
        }
    }

    /// Ours, under the name that the caller is used to.
    fn ours(&self) -> Trib {
        match self {
            Self::RedisCli => Trib::new(),
            Self::ValkeyCli(_) => Trib::new().called("valkey-cli"),
        }
    }
}

/// Runs all rows on two clusters, and reports all that differ.
fn play(peer: &Peer, make: impl Fn() -> Side + Sync, rows: Vec<Row>) {
    if matches!(peer, Peer::RedisCli) && !has_redis_cli() {
        return;
    }
    let (theirs, ours) = thread::scope(|scope| {
        let theirs = scope.spawn(&make);
        let ours = make();
        (theirs.join().unwrap(), ours)
    });
    let mut failures = Vec::new();
    let count = rows.len();
    for row in rows {
        let begun = Instant::now();
        let failed = compare(peer, &theirs, &ours, &row);
        println!("{:>6} ms  {}", begun.elapsed().as_millis(), row.line);
        if !failed.is_empty() {
            failures.push(format!("`{}`\n  {}", row.line, failed.join("\n  ")));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {count} lines differ:\n\n{}\n",
        failures.len(),
        failures.join("\n\n")
    );
}

/// What differs and is not allowed to.
fn compare(peer: &Peer, theirs: &Side, ours: &Side, row: &Row) -> Vec<String> {
    let (said, told) = thread::scope(|scope| {
        let said = scope.spawn(|| match row.peer_stays_out {
            Some(_) => {
                theirs.prepare(row);
                None
            }
            None => Some(theirs.run(peer.theirs(), row)),
        });
        let told = ours.run(peer.ours(), row);
        (said.join().unwrap(), told)
    });
    let mut failures = Vec::new();
    codes(row, said.as_ref(), &told, &mut failures);
    if let Some(said) = &said {
        let names = (&Names::of(theirs), &Names::of(ours));
        lines(row, names, (said, &told), &mut failures);
    }
    if let Err(difference) = states(row, theirs, ours) {
        failures.push(difference);
    }
    if !failures.is_empty() {
        let said = said.map_or_else(String::new, |said| {
            format!("{}\n{}", said.stdout, said.stderr)
        });
        failures.push(format!(
            "--- theirs\n{said}\n--- ours\n{}\n{}",
            told.stdout, told.stderr
        ));
    }
    failures
}

fn codes(row: &Row, said: Option<&Finished>, told: &Finished, failures: &mut Vec<String>) {
    let wanted = match (row.exit, said) {
        (Some((theirs, ours)), said) => {
            if let Some(said) = said
                && said.status != Ended::Status(theirs)
            {
                failures.push(format!("theirs ended with {:?}", said.status));
            }
            Ended::Status(ours)
        }
        (None, Some(said)) => said.status,
        (None, None) => Ended::Status(1),
    };
    if told.status != wanted {
        failures.push(format!("ended with {:?}, not {wanted:?}", told.status));
    }
}

fn lines(
    row: &Row,
    names: (&Names, &Names),
    finished: (&Finished, &Finished),
    failures: &mut Vec<String>,
) {
    let mut said = names.0.lines(finished.0);
    let mut told = names.1.lines(finished.1);
    let take = |rest: &mut Vec<String>, line: &str| {
        let place = rest.iter().position(|one| one == line);
        place.map(|place| rest.remove(place))
    };
    let missing: Vec<String> = said
        .drain(..)
        .filter(|line| take(&mut told, line).is_none())
        .collect();
    for (line, side) in missing
        .iter()
        .map(|line| (line, Allowed::Theirs))
        .chain(told.iter().map(|line| (line, Allowed::Ours)))
    {
        if !row.allows(side, line) {
            failures.push(match side {
                Allowed::Theirs => format!("lacks    {line}"),
                Allowed::Ours => format!("has also {line}"),
            });
        }
    }
}

/// Until both clusters are in the same state.
fn states(row: &Row, theirs: &Side, ours: &Side) -> Result<(), String> {
    if row.other_state.is_some() {
        return Ok(());
    }
    let deadline = Instant::now() + SETTLES_WITHIN;
    loop {
        let (there, here) = (theirs.state(), ours.state());
        if there == here {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let differing: Vec<String> = there
                .iter()
                .zip(&here)
                .filter(|(there, here)| there != here)
                .map(|(there, here)| format!("  theirs {there}\n    ours   {here}"))
                .collect();
            return Err(format!("other states:\n  {}", differing.join("\n  ")));
        }
        thread::sleep(Duration::from_millis(100));
    }
}
