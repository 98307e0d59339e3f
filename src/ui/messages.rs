//! What commands have to say besides results: that they wait, that there was nothing to do, how it
//! went. Kept apart from the formats, which all of this goes through.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode as ProcessExitCode;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use secrecy::SecretString;

use super::mode::Mode;
use super::{
    CheckExtra, Format, OutputArg, PromptError, Status, Ui, UiOptions, Verbosity, json, nagios,
    password, prometheus, summary,
};
use crate::cluster::health::Diagnosis;
use crate::cluster::node::Addr;
use crate::exit_code::ExitCode;
use crate::stop::Stop;

/// What was said last about a wait, and when.
#[derive(Debug)]
pub(super) struct Waiting {
    text: String,
    said: Instant,
}

impl Waiting {
    /// Whether this is to be said too. Seconds and counts that go on changing are not news.
    fn is_worth(&self, text: &str) -> bool {
        const AGAIN: Duration = Duration::from_secs(10);
        let words = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
        self.said.elapsed() >= AGAIN || words(&self.text) != words(text)
    }
}

/// Says what is wrong with a command line. `error` is the help itself where that was asked for.
/// Nagios, where the line names it, gets its own exit code and its answer on standard output.
pub fn usage_error(error: &clap::Error, line: &[OsString], mode: Mode) -> ProcessExitCode {
    if !error.use_stderr() {
        // Help and version; nobody is left to tell when they can't be written.
        let _ = error.print();
        return ExitCode::Done.into();
    }
    // Only `check` has that format; elsewhere the word is what is wrong.
    let says = |word: &str| line.iter().any(|said| said == word);
    let for_nagios = says("check")
        && (says("nagios") || says("--output=nagios") || says("-o=nagios") || says("-onagios"));
    let code = ExitCode::Usage;
    if for_nagios {
        let ui = Ui::new(UiOptions {
            output: OutputArg::Nagios,
            ..UiOptions::default()
        });
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let first = first.trim_start_matches("error: ").to_string();
        ui.error(&anyhow::Error::msg(first), code);
        return ui.exit_code(code);
    }
    let _ = error.print();
    of_manner(code, mode).into()
}

/// Says what is wrong with a command line in an old spelling.
pub fn wrong_line(wrong: anyhow::Error) -> ProcessExitCode {
    let ui = Ui::new(UiOptions {
        mode: Mode::RedisCli,
        ..UiOptions::default()
    });
    ui.error(&wrong, ExitCode::Usage);
    ui.exit_code(ExitCode::Usage)
}

/// Text as it is: a list of commands, what a shell asked for. Nobody is left to tell when it can't
/// be written.
pub fn text(text: &[u8]) -> ProcessExitCode {
    let _ = io::stdout().lock().write_all(text);
    ExitCode::Done.into()
}

/// Scripts of old know 0 and 1.
fn of_manner(code: ExitCode, mode: Mode) -> ExitCode {
    match code {
        ExitCode::Done => code,
        _ if mode.is_old() => ExitCode::Unhealthy,
        _ => code,
    }
}

impl Ui {
    /// The exit code of the process: Nagios has its own.
    pub fn exit_code(&self, code: ExitCode) -> ProcessExitCode {
        match self.format {
            Format::Nagios => {
                let told = self.told_nagios.get().copied();
                told.unwrap_or_else(|| Status::of_exit(code)).into()
            }
            _ => of_manner(code, self.mode).into(),
        }
    }

    /// What a command that looks again and again waits for: said when it is another thing than
    /// before, and now and then.
    pub fn waiting(&self, text: &str) {
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        let mut last = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|last| last.is_worth(text)) {
            *last = Some(Waiting {
                text: text.to_string(),
                said: Instant::now(),
            });
            self.aside(self.asides, "waiting:", text);
        }
    }

    /// A document as it is: a script, a man page.
    pub fn document(&self, text: &[u8]) -> io::Result<()> {
        self.result(|out| out.write_all(text))
    }

    /// `check --local` found the process alive.
    pub fn alive(&self, addr: &Addr) -> io::Result<()> {
        self.progress().abandon();
        self.result(|out| match self.format {
            Format::Table(sheet) => summary::alive(addr).write(out, sheet.style),
            Format::Classic(style) => summary::alive(addr).write(out, style),
            Format::Json => json::alive(out, addr),
            Format::Prometheus => prometheus::alive(out, addr),
            Format::Nagios => nagios::alive(out, addr),
        })
    }

    /// The cluster was there already, and healthy.
    pub fn already(&self, diagnosis: &Diagnosis) -> io::Result<()> {
        let nodes = diagnosis.topology.members.len();
        let message =
            format!("These nodes already form a healthy cluster of {nodes}: nothing to do.");
        self.done(ExitCode::Done, &message)
    }

    /// A cluster was made: how it is, and how long that took.
    pub fn created(&self, diagnosis: &Diagnosis, took: Duration) -> io::Result<()> {
        let nodes = diagnosis.topology.members.len();
        let message = format!("a cluster of {nodes} nodes, in {:.1} s", took.as_secs_f64());
        if let Format::Json = self.format {
            return self.done(ExitCode::Done, &message);
        }
        self.progress().finish();
        self.diagnosis(diagnosis, &CheckExtra::default())?;
        self.hint(&message);
        Ok(())
    }

    /// A cluster was made, and nobody waited until it serves.
    pub fn agreed(&self, nodes: usize, took: Duration, lead: &Addr) -> io::Result<()> {
        let took = took.as_secs_f64();
        let message = format!(
            "a cluster of {nodes} nodes, in {took:.1} s; it serves in some seconds: \
             redis-trib check {lead} --wait 60s"
        );
        if let Format::Json = self.format {
            return self.done(ExitCode::Done, &message);
        }
        self.progress().finish();
        self.result(|out| {
            writeln!(out, "[OK] All nodes agree about slots configuration.")?;
            writeln!(out, "[OK] All 16384 slots covered.")
        })?;
        self.hint(&message);
        Ok(())
    }

    /// A command that changes a cluster was stopped; `main` says why. In JSON that is the last line,
    /// where a part of the command has not said it already.
    pub fn stopped(&self, code: ExitCode, error: &anyhow::Error) -> io::Result<()> {
        match self.format {
            Format::Json if !self.ended.load(Ordering::Relaxed) => {
                self.done(code, &format!("{error:#}"))
            }
            _ => Ok(()),
        }
    }

    /// The last line in JSON of a command that `stop` ended, unless the command has written it already.
    pub fn ended_by(&self, stop: &Stop) -> io::Result<()> {
        match self.format {
            Format::Json if !self.ended.load(Ordering::Relaxed) => {
                self.last_line(stop.code, &format!("{:#}", stop.error), &stop.resume)
            }
            _ => Ok(()),
        }
    }

    /// Asks for a password, which does not show.
    pub async fn password(&self, question: &str) -> Result<SecretString, PromptError> {
        self.progress().finish();
        password::ask(question, self.asked()).await
    }
}
