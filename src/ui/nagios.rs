//! One line for Nagios and monitors like it, and their exit codes (Monitoring Plugins guidelines, 2.1–2.6).

use std::io::{self, Write};

use super::Strictness;
use super::style::{counted, plain};
use super::summary::Totals;
use crate::cluster::node::Addr;
use crate::exit_code::ExitCode;
use crate::report::CheckView;

/// The states of Nagios; as numbers they are its exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Healthy, without a warning.
    Ok = 0,
    /// Healthy, with warnings.
    Warning = 1,
    /// Errors were found, or nothing could be reached.
    Critical = 2,
    /// The state is not known: wrong usage, or the check was interrupted.
    Unknown = 3,
}

impl Status {
    /// The state of a cluster.
    pub fn of(view: &CheckView, strictness: Strictness) -> Self {
        let passes = match strictness {
            Strictness::Lenient => view.healthy,
            Strictness::Strict => view.findings.is_empty(),
        };
        if !passes {
            Self::Critical
        } else if view.findings.is_empty() {
            Self::Ok
        } else {
            Self::Warning
        }
    }

    /// The state for a run that ended with that code before it could check the cluster. A cluster
    /// without a seed that can be reached is critical.
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
pub(super) fn check(out: &mut impl Write, view: &CheckView, status: Status) -> io::Result<()> {
    let totals = Totals::of(view);
    let covered = view.slots_covered;
    let text = match view.findings.split_first() {
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
    let (errors, warnings) = view.counts();
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

/// A run that ended before it could check the cluster.
pub(super) fn error(out: &mut impl Write, code: ExitCode, message: &str) -> io::Result<()> {
    let status = Status::of_exit(code).word();
    writeln!(out, "CLUSTER {status} - {}", one_line(message))
}

/// Nagios reads everything after a `|` as performance data, so the text must not contain one.
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
