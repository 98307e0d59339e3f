//! From the words of a command line to the exit code of the process.

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode as ProcessExitCode;
use std::time::Instant;

use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::Cli;
use super::compat::{self, Consent, ParsedLine};
use super::completions::Question;
use crate::exit_code::ExitCode;
use crate::ui::{self, Ui};

/// The wanted limit of open files: a thousand nodes with one connection each, and a reserve.
const OPEN_FILES: u64 = 16_384;

/// The time of a line of the log: seconds since the start.
struct SinceStart(Instant);

impl FormatTime for SinceStart {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write!(out, "{:9.4} s", self.0.elapsed().as_secs_f64())
    }
}

/// Runs the program. The first word is its name.
pub fn run(line: Vec<OsString>) -> ProcessExitCode {
    if let Some(question) = Question::read() {
        return ui::text(&question.answer());
    }
    let consent = Consent::VARIABLES.into_iter().find_map(std::env::var_os);
    let (line, mode) = match compat::read(&line, Consent::of(consent.as_deref())) {
        Ok(ParsedLine::Command { words, mode }) => (words, mode),
        Ok(ParsedLine::Help { text, code }) => {
            ui::text(text.as_bytes());
            return code.into();
        }
        Err(error) => return ui::wrong_line(error.into()),
    };
    let cli = match Cli::read(&line) {
        Ok(cli) => cli,
        Err(error) => return super::report_usage(&error, &line, mode),
    };
    let ui = Ui::new(cli.global.ui_options(mode));
    if cli.global.verbose > 0 {
        let traces = cli.global.verbose > 1;
        tracing_subscriber::fmt()
            .with_max_level(if traces { Level::TRACE } else { Level::INFO })
            .with_timer(SinceStart(Instant::now()))
            .with_level(traces)
            .with_target(traces)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
    }
    // If the hard limit is lower, opening the connections reports it.
    let _ = rlimit::increase_nofile_limit(OPEN_FILES);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = anyhow::Error::new(error).context("can't start the runtime");
            ui.error(&error, ExitCode::Unreachable);
            return ui.exit_code(ExitCode::Unreachable);
        }
    };
    let code = runtime.block_on(cli.run(&ui));
    // A prompt that was interrupted still blocks its thread, which is not waited for.
    runtime.shutdown_background();
    ui.exit_code(code)
}
