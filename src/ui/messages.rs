//! Messages besides results: waits, the ends of commands, and wrong usage.

use std::io::{self, Write};
use std::process::ExitCode as ProcessExitCode;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::options::Mode;
use super::progress::seconds;
use super::streams::{Format, Surroundings};
use super::style::{Style, plain};
use super::{CheckExtra, CheckFor, ColorChoice, OutputFormat, Status, Ui, UiOptions, Verbosity};
use crate::cluster::health::Diagnosis;
use crate::cluster::node::Addr;
use crate::cluster::numbers::counted;
use crate::exit_code::ExitCode;
use crate::stop::Stop;

/// The last message about a wait, and when it was written.
#[derive(Debug)]
pub(super) struct Waiting {
    text: String,
    said: Instant,
}

impl Waiting {
    /// Whether this message is to be written too. Seconds and counts change all the time: they do not make it another
    /// message.
    fn is_worth(&self, text: &str) -> bool {
        const AGAIN: Duration = Duration::from_secs(10);
        let words = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
        self.said.elapsed() >= AGAIN || words(&self.text) != words(text)
    }
}

/// Text about the command line, with and without colours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// With ANSI colours.
    pub colored: String,
    /// Without colours.
    pub plain: String,
}

impl Usage {
    fn bytes(&self, style: Style) -> &[u8] {
        match style {
            Style::Ansi => self.colored.as_bytes(),
            Style::Plain => self.plain.as_bytes(),
        }
    }
}

/// Prints the help or the version, because the command line asks for it.
pub fn help(usage: &Usage) -> ProcessExitCode {
    let surroundings = Surroundings::read();
    let style = surroundings.style(ColorChoice::Auto, surroundings.stdout);
    text(usage.bytes(style))
}

/// Reports a wrong command line. Nagios gets one line on standard output and its own exit code.
pub fn usage_error(error: &Usage, output: OutputFormat, mode: Mode) -> ProcessExitCode {
    let code = ExitCode::Usage;
    if output == OutputFormat::Nagios {
        let ui = Ui::new(UiOptions {
            output,
            ..UiOptions::default()
        });
        let first = error.plain.lines().next().unwrap_or_default();
        let first = first.trim_start_matches("error: ").to_string();
        ui.error(&anyhow::Error::msg(first), code);
        return ui.exit_code(code);
    }
    let surroundings = Surroundings::read();
    let style = surroundings.style(ColorChoice::Auto, surroundings.stderr);
    // There is no other place to report that standard error can't be written.
    let _ = io::stderr().lock().write_all(error.bytes(style));
    in_mode(code, mode).into()
}

/// Reports a wrong command line of the two old modes.
pub fn wrong_line(wrong: anyhow::Error) -> ProcessExitCode {
    let ui = Ui::new(UiOptions {
        mode: Mode::RedisCli,
        ..UiOptions::default()
    });
    ui.error(&wrong, ExitCode::Usage);
    ui.exit_code(ExitCode::Usage)
}

/// Writes a text as it is: a list of commands, or completions. There is nothing to do if it can't
/// be written.
pub fn text(text: &[u8]) -> ProcessExitCode {
    let _ = io::stdout().lock().write_all(text);
    ExitCode::Done.into()
}

/// The two old modes have 0 and 1 only.
fn in_mode(code: ExitCode, mode: Mode) -> ExitCode {
    match code {
        ExitCode::Done => code,
        _ if mode.is_old() => ExitCode::Unhealthy,
        _ => code,
    }
}

impl Ui {
    /// The exit code of the process; Nagios has its own.
    pub fn exit_code(&self, code: ExitCode) -> ProcessExitCode {
        match self.format {
            Format::Nagios => {
                let told = self.told_nagios.get().copied();
                told.unwrap_or_else(|| Status::of_exit(code)).into()
            }
            _ => in_mode(code, self.mode).into(),
        }
    }

    /// Shows what a command waits for: when that changes, and every few seconds.
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

    /// The same with the time that is left. A terminal shows a spinner.
    pub fn waiting_until(&self, text: &str, left: Duration) {
        if self.progress().wait(&plain(text), left) {
            return;
        }
        self.waiting(&format!("{text} ({} left)", seconds(left)));
    }

    /// Shows on a terminal that a wait has begun, before it is known what it is for.
    pub fn waiting_begins(&self, text: &str, left: Duration) {
        self.progress().wait(text, left);
    }

    /// Writes a text as it is: a script, a man page.
    pub fn document(&self, text: &[u8]) -> io::Result<()> {
        self.result(|out| out.write_all(text))
    }

    /// The cluster existed already and is healthy.
    pub fn already(&self, diagnosis: &Diagnosis) -> io::Result<()> {
        let nodes = diagnosis.topology.members.len();
        let message =
            format!("These nodes already form a healthy cluster of {nodes}: nothing to do.");
        self.done(ExitCode::Done, &message)
    }

    /// A cluster was created.
    pub fn created(&self, diagnosis: &Diagnosis, took: Duration) -> io::Result<()> {
        let nodes = counted(diagnosis.topology.members.len() as u64, "node");
        let message = format!("a cluster of {nodes}, in {:.1} s", took.as_secs_f64());
        if let Format::Json = self.format {
            return self.done(ExitCode::Done, &message);
        }
        self.progress().finish();
        match self.mode.is_old() {
            true => self.check_before(diagnosis, CheckFor::Change)?,
            false => self.diagnosis(diagnosis, &CheckExtra::default())?,
        }
        self.remark(&message)
    }

    /// A cluster was created, and the command did not wait until it serves.
    pub fn agreed(&self, nodes: usize, took: Duration, lead: &Addr) -> io::Result<()> {
        let took = took.as_secs_f64();
        let nodes = counted(nodes as u64, "node");
        let message = format!(
            "a cluster of {nodes}, in {took:.1} s; it serves in some seconds: \
             redis-trib check {lead} --wait 60s"
        );
        if let Format::Json = self.format {
            return self.done(ExitCode::Done, &message);
        }
        self.progress().finish();
        if let Format::Table(_) = self.format {
            return self.done(ExitCode::Done, &format!("[OK] {message}"));
        }
        self.result(|out| {
            writeln!(out, "[OK] All nodes agree about slots configuration.")?;
            writeln!(out, "[OK] All 16384 slots covered.")
        })?;
        self.remark(&message)
    }

    /// A last line that belongs to the result. The old programs have none.
    fn remark(&self, message: &str) -> io::Result<()> {
        match (self.format, self.mode.is_old()) {
            (_, true) => Ok(()),
            (Format::Table(_), false) => self.done(ExitCode::Done, &format!("[OK] {message}")),
            (_, false) => self.result(|out| writeln!(out, "{message}")),
        }
    }

    /// The end of a command whose lines have said everything: a line of JSON.
    pub fn ended(&self, code: ExitCode, message: &str) -> io::Result<()> {
        match self.format {
            Format::Json => self.done(code, message),
            _ => Ok(()),
        }
    }

    /// The last line in JSON of a command that `stop` ended. It replaces one that the command has prepared.
    pub fn ended_by(&self, stop: &Stop) -> io::Result<()> {
        match self.format {
            Format::Json => {
                self.last_line(stop.code, &format!("{:#}", stop.error), &stop.resume)?;
                self.finish_stream()
            }
            _ => Ok(()),
        }
    }
}
