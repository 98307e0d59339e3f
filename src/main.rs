//! The `redis-trib` program: parse, start the runtime, report an error once, exit code.

use std::ffi::OsString;
use std::process::ExitCode as ProcessExitCode;

use redis_trib::cli::compat::{self, Consent, ParsedLine};
use redis_trib::cli::completions::Question;
use redis_trib::cli::{self, Cli};
use redis_trib::exit_code::ExitCode;
use redis_trib::ui::{self, Ui};
use tracing::Level;

/// A look at a thousand nodes, each of them with a connection, and some to spare.
const DESCRIPTORS: u64 = 16_384;

fn main() -> ProcessExitCode {
    if let Some(question) = Question::read() {
        return ui::text(&question.answer());
    }
    let line: Vec<OsString> = std::env::args_os().collect();
    let said = Consent::VARIABLES.into_iter().find_map(std::env::var_os);
    let consent = Consent::of(said.as_deref());
    let (line, mode) = match compat::read(&line, consent) {
        Ok(ParsedLine::Line { words, mode }) => (words, mode),
        Ok(ParsedLine::Help(text)) => return ui::text(text.as_bytes()),
        Err(wrong) => return ui::wrong_line(wrong.into()),
    };
    let command = match Cli::read(&line) {
        Ok(command) => command,
        Err(error) => return cli::report_usage(&error, &line, mode),
    };
    let ui = Ui::new(command.global.ui_options(mode));
    if command.global.verbose {
        tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
    }
    // Where the hard limit is lower, opening the connections says so.
    let _ = rlimit::increase_nofile_limit(DESCRIPTORS);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = anyhow::Error::new(error).context("the runtime does not start");
            ui.error(&error, ExitCode::Unreachable);
            return ui.exit_code(ExitCode::Unreachable);
        }
    };
    let code = runtime.block_on(command.run(&ui));
    // A prompt that was interrupted still holds its thread; it is not waited for.
    runtime.shutdown_background();
    ui.exit_code(code)
}
