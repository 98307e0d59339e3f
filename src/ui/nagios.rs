//! One line for Nagios and its kin, and their exit codes (Monitoring Plugins guidelines, 2.1–2.6).

use std::io::{self, Write};

use super::Strictness;
use super::node_state::Row;
use super::style::{counted, plain};
use super::summary::{self, Totals};
use crate::cluster::health::Diagnosis;
use crate::cluster::node::Addr;
use crate::exit_code::ExitCode;

/// The states that Nagios knows; as numbers they are its exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Healthy, without a warning.
    Ok = 0,
    /// Healthy, with warnings.
    Warning = 1,
    /// Errors were found, or nothing could be reached.
    Critical = 2,
    /// Nothing could be found out: wrong usage, or the check was broken off.
    Unknown = 3,
}

impl Status {
    /// The state of a cluster.
    pub fn of(diagnosis: &Diagnosis, strictness: Strictness) -> Self {
        if !strictness.passes(diagnosis) {
            Self::Critical
        } else if diagnosis.findings.is_empty() {
            Self::Ok
        } else {
            Self::Warning
        }
    }

    /// The state for a run that ended with that code before it could judge the cluster. A cluster
    /// of which no seed can be reached is one that somebody should look at now.
    pub fn of_exit(code: ExitCode) -> Self {
        match code {
            ExitCode::Done => Self::Ok,
            ExitCode::Unhealthy | ExitCode::Unreachable => Self::Critical,
            ExitCode::Usage
            | ExitCode::Refused
            | ExitCode::NotConfirmed
            | ExitCode::Partial
            | ExitCode::Interrupted => Self::Unknown,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl From<Status> for std::process::ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// `check`.
pub(super) fn check(out: &mut impl Write, diagnosis: &Diagnosis, status: Status) -> io::Result<()> {
    let totals = Totals::of(&Row::all(diagnosis));
    let covered = diagnosis.slots_covered();
    let text = match diagnosis.findings.split_first() {
        None => format!(
            "{}, {}, {}",
            counted(totals.nodes as u64, "node"),
            counted(covered as u64, "slot"),
            counted(totals.keys, "key"),
        ),
        Some((worst, [])) => format!("{}: {}", worst.code, worst.message),
        Some((worst, others)) => format!(
            "{}: {} (and {} more)",
            worst.code,
            worst.message,
            counted(others.len() as u64, "finding"),
        ),
    };
    let (errors, warnings) = summary::counts(diagnosis);
    writeln!(
        out,
        "CLUSTER {} - {}|slots_covered={covered} nodes={} masters={} keys={} errors={errors} warnings={warnings}",
        status.word(),
        one_line(&text),
        totals.nodes,
        totals.masters,
        totals.keys,
    )
}

/// `check --local` of a process that is alive.
pub(super) fn alive(out: &mut impl Write, addr: &Addr) -> io::Result<()> {
    let status = Status::Ok.word();
    writeln!(
        out,
        "CLUSTER {status} - {addr} answers, and runs in cluster mode"
    )
}

/// A run that ended before it could judge the cluster.
pub(super) fn error(out: &mut impl Write, code: ExitCode, message: &str) -> io::Result<()> {
    let status = Status::of_exit(code).word();
    writeln!(out, "CLUSTER {status} - {}", one_line(message))
}

/// Everything after a `|` is taken for figures, so the text may hold none.
fn one_line(text: &str) -> String {
    plain(&text.replace('\n', " ")).replace('|', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_a_state_and_one_line() {
        let mut out = Vec::new();
        error(&mut out, ExitCode::Unreachable, "a|b\nc\x1b").unwrap();
        error(&mut out, ExitCode::Usage, "no such option").unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "CLUSTER CRITICAL - a/b c\nCLUSTER UNKNOWN - no such option\n"
        );
        assert_eq!(Status::of_exit(ExitCode::Refused) as u8, 3);
        assert_eq!(Status::of_exit(ExitCode::Unhealthy) as u8, 2);
        assert_eq!(Status::of_exit(ExitCode::Done) as u8, 0);
    }
}
