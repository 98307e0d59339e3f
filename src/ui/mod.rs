//! What people and scripts see. No other module prints.
//!
//! Results and plans go to standard output; hints, warnings, errors, progress and prompts go to
//! standard error; in the two old modes only errors do. There is one renderer for each format, and all of them read
//! the views of [`crate::report`]. Nothing here talks to servers.
//!
//! A reader that goes away (`redis-trib check … | head -1`, or a terminal whose connection is lost) is not an error: the
//! rest of the output is dropped, the work continues, and the exit code is that of the work.

mod classic;
mod json;
mod keys;
mod messages;
mod nagios;
mod options;
mod progress;
mod prometheus;
mod prompt;
mod show;
mod streams;
mod style;
mod summary;
mod table;
mod text;
mod watch;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use secrecy::SecretSlice;
use serde::Serialize;

use crate::event::{Event, LaneEvent};
use crate::exit_code::ExitCode;
use crate::report::{ErrorDocument, Head, Headed, Line};
use crate::shell::command_line as shell_line;
use crate::stop::CommandLine;

pub use keys::{Key, Keys};
pub use messages::{Usage, help, text, usage_error, wrong_line};
pub use nagios::Status;
pub use options::{
    CheckExtra, ColorChoice, Detail, Mode, OutputFormat, Strictness, UiOptions, Verbosity,
};
pub use prompt::{Answer, PromptError};
pub use show::{CheckFor, ConfigText};
pub use watch::{Reader, WatchOutput, WatchScreen};

use classic::Dialect;
use messages::Waiting;
use progress::Progress;
use prompt::Asked;
use streams::{Asides, Format, Stream, Surroundings};
use style::{Style, Tone, plain, wrapped_message};

/// What is before all lines of a message but the first.
const INDENT: &str = "  ";

/// The two streams, and what goes where.
#[derive(Debug)]
pub struct Ui {
    format: Format,
    mode: Mode,
    /// What standard output was at the start: one that is gone is no terminal any more.
    stdout: Stream,
    /// Whether replies to `call` are written as they are: nobody chose a format, and no terminal acts on them.
    raw_replies: bool,
    /// The stream of everything that is neither a result nor an error.
    asides: Asides,
    /// The width of its lines, if they are for a person at a terminal.
    aside_width: Option<usize>,
    /// The colours of that stream.
    style: Style,
    verbosity: Verbosity,
    /// Locked while anything is written: two threads never share a line.
    progress: Mutex<Progress>,
    /// The state that was written for Nagios, which the exit code repeats.
    told_nagios: OnceLock<Status>,
    /// The last wait that was written.
    waiting: Mutex<Option<Waiting>>,
    /// The states that were waited for, and for how long in total.
    waited: Mutex<(Vec<&'static str>, Duration)>,
    /// The command, for the format of its JSON.
    command: OnceLock<&'static str>,
    /// Whether the JSON of the command is one document: then events are not lines of it.
    is_document: AtomicBool,
    /// Whether JSON output has started.
    begun: AtomicBool,
    /// The last line of the stream of events, until the exit code is known for certain.
    last: Mutex<Option<LastLine>>,
}

/// How a command ended, as the last line of its stream says it.
#[derive(Debug)]
struct LastLine {
    code: ExitCode,
    message: String,
    resume: Vec<CommandLine>,
}

impl Ui {
    /// Decides on formats and colours, from the options and from where the two streams go.
    pub fn new(options: UiOptions) -> Self {
        Self::within(Surroundings::read(), options)
    }

    fn within(surroundings: Surroundings, options: UiOptions) -> Self {
        let format = surroundings.format(options);
        let look = surroundings.look(format, options.verbosity);
        let asides = Asides::of(options.mode, format);
        let stream = match asides {
            Asides::Stderr => surroundings.stderr,
            Asides::Stdout => surroundings.stdout,
        };
        Self {
            format,
            mode: options.mode,
            stdout: surroundings.stdout,
            raw_replies: options.output == OutputFormat::Auto
                && surroundings.stdout == Stream::Pipe,
            asides,
            aside_width: match format {
                Format::Table(_) => surroundings.stderr_width,
                _ => None,
            },
            style: surroundings.style(options.color, stream),
            verbosity: options.verbosity,
            progress: Mutex::new(Progress::new(look, asides, options.mode)),
            told_nagios: OnceLock::new(),
            waiting: Mutex::default(),
            waited: Mutex::default(),
            command: OnceLock::new(),
            is_document: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            last: Mutex::default(),
        }
    }

    /// The program that this one stands in for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    fn dialect(&self) -> Dialect {
        Dialect::of(self.mode)
    }

    /// Names the command, which JSON says in `format`. The first call counts.
    pub fn command(&self, command: &'static str) {
        self.command.get_or_init(|| command);
    }

    /// The JSON of the command is one document, not a stream of lines.
    pub fn writes_document(&self) {
        self.is_document.store(true, Ordering::Relaxed);
    }

    /// Shows an event: a line of JSON, and progress for a person. A failure to write does not stop a change
    /// that is under way; [`Self::done`] reports it.
    pub fn event(&self, event: &Event) {
        match event {
            Event::Hint(text) => return self.hint(text),
            Event::Note(text) => return self.note(text),
            Event::Warning(text) => return self.warn(text),
            Event::WaitingFor(text) => return self.waiting(text),
            Event::Waited { waited_for, took } => return self.waited(waited_for, *took),
            // If standard output is closed, the end of the command reports it.
            Event::Added { nodes } => return drop(self.added(*nodes)),
            Event::FailedOver(done) => return drop(self.failed_over(&(&**done).into())),
            Event::Fixed(step) => return drop(self.fixed(&(&**step).into())),
            Event::Restarting { nodes } => self.restarting(nodes),
            Event::HookOutput { node, line } => self.hook_output(&node.1, line),
            Event::Restarted(done) => return drop(self.restarted(&(&**done).into())),
            _ => {}
        }
        let is_document = self.is_document.load(Ordering::Relaxed);
        if let (Format::Json, false, Some(line)) = (self.format, is_document, Line::of(event)) {
            let _ = self.json(&line);
        }
        self.progress().event(event);
        if let Event::Lane {
            event: LaneEvent::TaskRetry { why },
            ..
        } = event
        {
            self.warn(&format!("{why}; trying again"));
        }
    }

    /// The end of a command that changes a cluster: its last line.
    pub fn done(&self, code: ExitCode, message: &str) -> io::Result<()> {
        self.last_line(code, message, &[])
    }

    /// Notes a wait, for the last line.
    fn waited(&self, waited_for: &[&'static str], took: Duration) {
        let mut waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        for word in waited_for {
            if !waited.0.contains(word) {
                waited.0.push(word);
            }
        }
        waited.1 += took;
    }

    fn last_line(&self, code: ExitCode, message: &str, resume: &[CommandLine]) -> io::Result<()> {
        match code {
            ExitCode::Done => self.progress().finish(),
            _ => self.progress().abandon(),
        }
        if let Format::Json = self.format {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(LastLine {
                code,
                message: summary::unmarked(message),
                resume: resume.to_vec(),
            });
            return Ok(());
        }
        if let (Format::Table(sheet), false) = (self.format, message.is_empty()) {
            return self.result(|out| summary::told(out, message, sheet));
        }
        // redis-cli and redis-trib.rb end without a line, and scripts count their marks.
        let message = match message.strip_prefix("[OK] ") {
            Some(unmarked) if self.mode.is_old() => unmarked,
            _ => message,
        };
        self.result(|out| match message.is_empty() {
            true => Ok(()),
            false => writeln!(out, "{}", plain(message)),
        })
    }

    /// Writes the last line of the stream, once nothing can change the exit code any more.
    pub fn finish_stream(&self) -> io::Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = last.take() else {
            return Ok(());
        };
        let (resume, resume_next) = match last.resume.split_first() {
            Some((first, next)) => (&first[..], next),
            None => (&[][..], &[][..]),
        };
        let waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        let (waited_for, took) = &*waited;
        self.json(&Line::Done {
            exit_code: last.code as u8,
            message: last.message,
            resume,
            resume_next,
            waited_for,
            waited_ms: (!waited_for.is_empty())
                .then(|| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    /// Shows what the user may do next.
    pub fn hint(&self, text: &str) {
        if self.verbosity != Verbosity::Quiet {
            self.aside(self.asides, &self.style.tone(Tone::Strong, "hint:"), text);
        }
    }

    /// Shows what was found or done.
    pub fn note(&self, text: &str) {
        if self.verbosity != Verbosity::Quiet {
            self.aside(self.asides, &self.style.tone(Tone::Strong, "note:"), text);
        }
    }

    /// Shows what the user should know, though the work continues.
    pub fn warn(&self, text: &str) {
        let label = self.style.tone(Tone::Warning, "warning:");
        self.aside(self.asides, &label, text);
    }

    /// Shows why the program ends with that code; for Nagios that is the result. It is called once.
    pub fn error(&self, error: &anyhow::Error, code: ExitCode) {
        self.progress().abandon();
        if let Format::Nagios = self.format {
            // Nagios reads standard output only; the exit code has the rest.
            let _ = self.result(|out| nagios::error(out, code, &format!("{error:#}")));
            return;
        }
        let label = self.style.tone(Tone::Bad, "error:");
        self.aside(Asides::Stderr, &label, &error.to_string());
        for cause in error.chain().skip(1) {
            self.aside(Asides::Stderr, "  because:", &cause.to_string());
        }
    }

    /// A command that reads has failed; in JSON that is its document.
    pub fn failed(&self, code: ExitCode, error: &anyhow::Error) -> io::Result<()> {
        match self.format {
            Format::Json if !self.begun.load(Ordering::Relaxed) => {
                self.json(&ErrorDocument::of(code, format!("{error:#}")))
            }
            _ => Ok(()),
        }
    }

    /// The commands that resume a stopped run, after [`Self::error`].
    pub fn resume(&self, commands: &[CommandLine]) {
        if commands.is_empty() || matches!(self.format, Format::Nagios) {
            return;
        }
        let lines: Vec<String> = commands.iter().map(|words| shell_line(words)).collect();
        let text = format!("\n{}", lines.join("\n"));
        self.verbatim(Asides::Stderr, "To resume:", &text);
    }

    /// Asks for consent: shows which `cluster` it is about, then asks `question`
    /// (`Can I set the above configuration?`). Natively it fails at once if there is no terminal.
    pub async fn confirm(&self, question: &str, cluster: &str) -> Result<Answer, PromptError> {
        self.progress().finish();
        prompt::confirm(question, cluster, self.asked()).await
    }

    /// Asks for consent to changes of a protected cluster: its name is to be typed.
    pub async fn confirm_name(&self, name: &str, cluster: &str) -> Result<Answer, PromptError> {
        self.progress().finish();
        prompt::confirm_name(name, cluster, self.asked()).await
    }

    /// Shows the command line that does without questions what was answered at prompts.
    pub fn equivalent(&self, command: &[String]) {
        if self.verbosity != Verbosity::Quiet && !self.mode.is_old() {
            let label = self.style.tone(Tone::Strong, "Without prompts:");
            self.verbatim(self.asides, &label, &shell_line(command));
        }
    }

    /// Asks for a line.
    pub async fn question(&self, question: &str) -> Result<String, PromptError> {
        self.progress().finish();
        let line = prompt::line(question, self.asked()).await?;
        Ok(line.trim().to_string())
    }

    /// Asks for a password without echo.
    pub async fn password(&self, question: &str) -> Result<SecretSlice<u8>, PromptError> {
        self.progress().finish();
        prompt::password::ask(question, self.asked()).await
    }

    /// Asks for one of a list, to be taken with the arrow keys; `None` if none was.
    pub async fn one_of(
        &self,
        title: &str,
        items: &[String],
    ) -> Result<Option<usize>, PromptError> {
        self.progress().finish();
        prompt::select::one_of(title, items).await
    }

    /// Asks for some of a list; `None` if none were taken.
    pub async fn some_of(
        &self,
        title: &str,
        items: &[String],
    ) -> Result<Option<Vec<usize>>, PromptError> {
        self.progress().finish();
        prompt::select::some_of(title, items).await
    }

    /// Whether a question may get an answer: natively, whether there is a terminal.
    pub fn can_ask(&self) -> bool {
        self.asked().may_answer()
    }

    /// Whether a person sits at a terminal, natively.
    pub fn is_with_person(&self) -> bool {
        self.asked() == Asked::Terminal && self.can_ask()
    }

    fn asked(&self) -> Asked {
        match self.mode.is_old() {
            true if self.mode.is_redis_cli() && !io::stdin().is_terminal() => {
                Asked::RedisCliPipe(self.asides)
            }
            true => Asked::Input(self.asides),
            false => Asked::Terminal,
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        // A thread that panicked while it wrote has left a consistent state.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a document, or a line of a stream.
    fn json(&self, body: &impl Serialize) -> io::Result<()> {
        let headed = self.headed(body);
        self.result(|out| json::write(out, &headed))
    }

    /// Adds the format and its version to what is written first.
    fn headed<T>(&self, body: T) -> Headed<T> {
        let is_first = !self.begun.swap(true, Ordering::Relaxed);
        let command = self.command.get().copied().unwrap_or_default();
        Headed {
            head: is_first.then(|| Head::of(command)),
            body,
        }
    }

    /// Writes a whole result at once.
    fn result(&self, render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        let mut text = Vec::new();
        render(&mut text)?;
        let written = self.progress().aside(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&text)?;
            stdout.flush()
        });
        match written {
            Err(error) if self.has_no_reader(&error) => Ok(()),
            other => other,
        }
    }

    /// Whether a write failed because whoever read standard output is gone: a pipe is closed, or the terminal is.
    fn has_no_reader(&self, error: &io::Error) -> bool {
        match self.stdout {
            Stream::Terminal => error.raw_os_error() == Some(Errno::IO.raw_os_error()),
            Stream::Pipe => error.kind() == io::ErrorKind::BrokenPipe,
        }
    }

    /// Writes a message beside the results, in lines that fit into a terminal.
    fn aside(&self, asides: Asides, label: &str, text: &str) {
        let Some(width) = self.aside_width else {
            return self.verbatim(asides, label, text);
        };
        // All lines but the first are indented.
        let width = width.saturating_sub(INDENT.len());
        let mut used = (console::measure_text_width(label) + 1).saturating_sub(INDENT.len());
        let mut lines = Vec::new();
        for line in text.lines() {
            lines.push(wrapped_message(&plain(line), used, width));
            used = 0;
        }
        self.verbatim(asides, label, &lines.join("\n"));
    }

    /// Writes a message as it is: a command is never broken, since it is there to be copied.
    fn verbatim(&self, asides: Asides, label: &str, text: &str) {
        let lines: Vec<String> = text.lines().map(plain).collect();
        let text = format!("{label} {}\n", lines.join(&format!("\n{INDENT}")));
        self.progress().aside(|| asides.write(&text));
    }
}
