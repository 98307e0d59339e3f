//! What people and scripts see. Nothing else in the program prints.
//!
//! Results go to standard output; plans too. Hints, warnings, errors, progress and prompts go to
//! standard error; in the old manners only errors do. What is shown is data and events; the servers
//! are out of reach from here.
//!
//! A reader that goes away (`redis-trib check … | head -1`) is no error: what it would have read is
//! dropped, the work goes on, and the exit code is the work's.

mod backup;
mod call;
mod classic;
mod columns;
mod create;
mod failover;
mod fix;
mod join;
mod json;
mod lanes;
mod leave;
mod messages;
mod mode;
mod move_slots;
mod nagios;
mod node_state;
mod node_table;
mod ok_to_stop;
mod password;
mod progress;
mod prometheus;
mod prompt;
mod replace;
mod screen;
mod select;
mod set_timeout;
mod style;
mod summary;
mod table;
mod transfer;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::cluster::health::{Diagnosis, command_line};
use crate::cluster::node::NodeId;
use crate::event::{Event, LaneEvent};
use crate::exit_code::ExitCode;
use crate::stop::CommandLine;

pub use backup::{BackupView, Fetched, ShardView};
pub use call::Called;
pub use create::{LayoutView, NodeName, PlannedShard};
pub use failover::{FailoverReport, FailoverView};
pub use fix::{FixLine, FixView};
pub use join::{Before, JoinView, JoiningNode};
pub use leave::{LeaveView, LeavingNode};
pub use messages::{text, usage_error, wrong_line};
pub use mode::Mode;
pub use move_slots::{
    BalanceView, How, MasterShare, Measure, MovesView, PlannedMove, TargetMemory,
};
pub use nagios::Status;
pub use ok_to_stop::{Objection, OkToStopView};
pub use prompt::{Answer, PromptError};
pub use replace::{ReplaceStep, ReplaceView, standing_words};
pub use set_timeout::{SetTimeoutView, Timeout, TimeoutSet};
pub use style::counted;
pub use transfer::{FailedKey, FailedKeys, TransferPlan, TransferView};

use messages::Waiting;
use progress::{Look, Progress};
use prompt::Asked;
use style::{Style, Tone, plain};
use table::Sheet;

/// How results look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OutputArg {
    /// `table` on a terminal, `classic` in a pipe.
    #[default]
    Auto,
    /// For people.
    Table,
    /// The lines of redis-trib.rb and redis-cli, for the scripts that read them.
    Classic,
    /// For programs: one document, or one object per line from commands that change a cluster.
    Json,
    /// Metrics for the textfile collector of Prometheus' node exporter (check only).
    Prometheus,
    /// One line and the exit codes of Nagios (check only).
    Nagios,
}

/// When to write colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorArg {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Also in a pipe.
    Always,
    /// Not at all.
    Never,
}

/// How much is said besides results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verbosity {
    /// Hints and progress too.
    #[default]
    Normal,
    /// Warnings and errors only.
    Quiet,
}

/// What the command line says about output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UiOptions {
    /// How results look.
    pub output: OutputArg,
    /// When to write colours.
    pub color: ColorArg,
    /// How much is said besides results.
    pub quiet: Verbosity,
    /// Whose habits are kept: the old ones have prompts and progress on standard output, answers
    /// from a pipe, and 0 and 1 as exit codes.
    pub mode: Mode,
}

/// What counts against a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// Errors.
    #[default]
    Lenient,
    /// Warnings too (`--strict`).
    Strict,
}

impl Strictness {
    /// Whether `check` ends with 0.
    pub fn passes(self, diagnosis: &Diagnosis) -> bool {
        match self {
            Self::Lenient => diagnosis.is_healthy(),
            Self::Strict => diagnosis.findings.is_empty(),
        }
    }
}

/// What `check` shows besides the diagnosis.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckExtra {
    /// What counts against the cluster.
    pub strictness: Strictness,
    /// The zone of each node, where it is known.
    pub zones: BTreeMap<NodeId, String>,
    /// What else the command found out, as sentences; they come last.
    pub notes: Vec<String>,
}

/// The two streams, and what goes where.
#[derive(Debug)]
pub struct Ui {
    format: Format,
    mode: Mode,
    /// Where all goes that is neither a result nor an error.
    asides: Asides,
    /// Colours of what is neither a result nor an error.
    style: Style,
    verbosity: Verbosity,
    /// Locked for as long as anything is written: two threads never share a line.
    progress: Mutex<Progress>,
    /// What Nagios was told, which its exit code repeats.
    told_nagios: OnceLock<Status>,
    /// What was said last about a wait.
    waiting: Mutex<Option<Waiting>>,
    /// Whether the stream of events has had its last line.
    ended: AtomicBool,
}

/// How results look, settled.
#[derive(Debug, Clone, Copy)]
enum Format {
    Table(Sheet),
    Classic(Style),
    Json,
    Prometheus,
    Nagios,
}

/// Where the program runs, as far as output depends on it.
#[derive(Debug, Clone, Copy)]
struct Surroundings {
    stdout: Stream,
    stderr: Stream,
    colors: Colors,
    width: usize,
}

/// Where hints, warnings, progress and prompts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asides {
    Stderr,
    /// Between the results, as redis-cli has it.
    Stdout,
}

impl Asides {
    fn of(mode: Mode, format: Format) -> Self {
        match format {
            Format::Table(_) | Format::Classic(_) if mode.is_old() => Self::Stdout,
            _ => Self::Stderr,
        }
    }

    /// Nothing can be done where that fails.
    fn write(self, text: &str) {
        fn all(mut stream: impl Write, text: &str) -> io::Result<()> {
            stream.write_all(text.as_bytes())?;
            stream.flush()
        }
        let _ = match self {
            Self::Stderr => all(io::stderr().lock(), text),
            Self::Stdout => all(io::stdout().lock(), text),
        };
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Terminal,
    Pipe,
}

/// Whether a terminal wants colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colors {
    Wanted,
    Unwanted,
}

/// The width of a table that goes to no terminal.
const DEFAULT_WIDTH: usize = 120;

impl Surroundings {
    fn read() -> Self {
        let stream = |terminal: bool| match terminal {
            true => Stream::Terminal,
            false => Stream::Pipe,
        };
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let is_dumb = variable("TERM").is_some_and(|term| term == "dumb");
        let size = console::Term::stdout().size_checked();
        let columns = || variable("COLUMNS")?.parse().ok();
        Self {
            stdout: stream(io::stdout().is_terminal()),
            stderr: stream(io::stderr().is_terminal()),
            // https://no-color.org: set and not empty.
            colors: if variable("NO_COLOR").is_some() || is_dumb {
                Colors::Unwanted
            } else {
                Colors::Wanted
            },
            width: size
                .map(|(_, width)| usize::from(width))
                .or_else(columns)
                .unwrap_or(DEFAULT_WIDTH),
        }
    }

    fn style(self, color: ColorArg, stream: Stream) -> Style {
        match (color, stream, self.colors) {
            (ColorArg::Always, _, _) => Style::Ansi,
            (ColorArg::Auto, Stream::Terminal, Colors::Wanted) => Style::Ansi,
            _ => Style::Plain,
        }
    }

    fn format(self, options: UiOptions) -> Format {
        let style = self.style(options.color, self.stdout);
        let width = self.width;
        match (options.output, self.stdout) {
            (OutputArg::Auto, _) if options.mode.is_old() => Format::Classic(style),
            (OutputArg::Table, _) | (OutputArg::Auto, Stream::Terminal) => {
                Format::Table(Sheet { width, style })
            }
            (OutputArg::Classic, _) | (OutputArg::Auto, Stream::Pipe) => Format::Classic(style),
            (OutputArg::Json, _) => Format::Json,
            (OutputArg::Prometheus, _) => Format::Prometheus,
            (OutputArg::Nagios, _) => Format::Nagios,
        }
    }

    fn look(self, format: Format, verbosity: Verbosity) -> Look {
        match (verbosity, format, self.stderr) {
            (Verbosity::Quiet, _, _) => Look::Silent,
            (_, Format::Classic(_), _) => Look::Dots,
            (_, Format::Table(_), Stream::Terminal) => Look::Spinner,
            (_, Format::Table(_), Stream::Pipe) => Look::Lines,
            // Events in a file, and a person who waits for the end of them.
            (_, Format::Json, Stream::Terminal) if self.stdout == Stream::Pipe => Look::Spinner,
            _ => Look::Silent,
        }
    }
}

impl Ui {
    /// Settles how output looks, from the options and from where the two streams go.
    pub fn new(options: UiOptions) -> Self {
        Self::within(Surroundings::read(), options)
    }

    fn within(surroundings: Surroundings, options: UiOptions) -> Self {
        let format = surroundings.format(options);
        let look = surroundings.look(format, options.quiet);
        let asides = Asides::of(options.mode, format);
        let stream = match asides {
            Asides::Stderr => surroundings.stderr,
            Asides::Stdout => surroundings.stdout,
        };
        Self {
            format,
            mode: options.mode,
            asides,
            style: surroundings.style(options.color, stream),
            verbosity: options.quiet,
            progress: Mutex::new(Progress::new(look, asides)),
            told_nagios: OnceLock::new(),
            waiting: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }

    /// The result of `check`.
    pub fn diagnosis(&self, diagnosis: &Diagnosis, extra: &CheckExtra) -> io::Result<()> {
        self.progress().abandon();
        let status = Status::of(diagnosis, extra.strictness);
        self.told_nagios.get_or_init(|| status);
        let notes = &extra.notes;
        self.result(|out| match self.format {
            Format::Table(sheet) => table::check(out, diagnosis, notes, sheet),
            Format::Classic(style) => classic::check(out, diagnosis, notes, style),
            Format::Json => json::check(out, diagnosis, &extra.zones, notes),
            Format::Prometheus => prometheus::check(out, diagnosis),
            Format::Nagios => nagios::check(out, diagnosis, status),
        })
    }

    /// The result of `info`. `cli` refuses the formats that only `check` has.
    pub fn info(&self, diagnosis: &Diagnosis) -> io::Result<()> {
        self.progress().abandon();
        self.result(|out| match self.format {
            Format::Table(sheet) => table::info(out, diagnosis, sheet),
            Format::Classic(style) => classic::info(out, diagnosis, style),
            Format::Json => json::info(out, diagnosis),
            Format::Prometheus | Format::Nagios => classic::info(out, diagnosis, Style::Plain),
        })
    }

    /// The plan of `create`. The formats that only `check` has give way to `classic`.
    pub fn layout(&self, layout: &LayoutView) -> io::Result<()> {
        self.progress().abandon();
        self.result(|out| match self.format {
            Format::Table(sheet) => table::layout(out, layout, sheet),
            Format::Classic(style) => classic::layout(out, layout, style),
            Format::Json => json::layout(out, layout),
            Format::Prometheus | Format::Nagios => classic::layout(out, layout, Style::Plain),
        })
    }

    /// Something that happened: a line of JSON, and progress for a person. Nothing that goes wrong here stops a change
    /// that is under way; [`Self::done`] reports it.
    pub fn event(&self, event: &Event) {
        match event {
            Event::Hint(text) => return self.hint(text),
            Event::Warning(text) => return self.warn(text),
            Event::WaitingFor(text) => return self.waiting(text),
            _ => {}
        }
        if let Format::Json = self.format {
            let _ = self.result(|out| json::event(out, event));
        }
        self.progress().event(event);
        if let Event::Lane {
            event: LaneEvent::Again { why },
            ..
        } = event
        {
            self.warn(&format!("{why}; trying again"));
        }
    }

    /// The end of a command that changes a cluster, said on standard output; in JSON the last line.
    pub fn done(&self, code: ExitCode, message: &str) -> io::Result<()> {
        self.last_line(code, message, &[])
    }

    fn last_line(&self, code: ExitCode, message: &str, resume: &[CommandLine]) -> io::Result<()> {
        match code {
            ExitCode::Done => self.progress().finish(),
            _ => self.progress().abandon(),
        }
        self.ended.store(true, Ordering::Relaxed);
        self.result(|out| match self.format {
            Format::Json => json::done(out, code, message, resume),
            _ if message.is_empty() => Ok(()),
            _ => writeln!(out, "{}", plain(message)),
        })
    }

    /// What the user may do next.
    pub fn hint(&self, text: &str) {
        if self.verbosity == Verbosity::Normal {
            self.aside(self.asides, &self.style.tone(Tone::Strong, "hint:"), text);
        }
    }

    /// What the user should know, though the work goes on.
    pub fn warn(&self, text: &str) {
        let label = self.style.tone(Tone::Warning, "warning:");
        self.aside(self.asides, &label, text);
    }

    /// Why the program ends with that code. `main` says it, once; for Nagios it is the result.
    pub fn error(&self, error: &anyhow::Error, code: ExitCode) {
        self.progress().abandon();
        if let Format::Nagios = self.format {
            // Nagios reads nothing but standard output, and the exit code says the rest.
            let _ = self.result(|out| nagios::error(out, code, &format!("{error:#}")));
            return;
        }
        let label = self.style.tone(Tone::Bad, "error:");
        self.aside(Asides::Stderr, &label, &error.to_string());
        for cause in error.chain().skip(1) {
            self.aside(Asides::Stderr, "  because:", &cause.to_string());
        }
    }

    /// The commands that resume a stopped run, after [`Self::error`].
    pub fn resume(&self, commands: &[CommandLine]) {
        if commands.is_empty() || matches!(self.format, Format::Nagios) {
            return;
        }
        let lines: Vec<String> = commands.iter().map(|words| command_line(words)).collect();
        self.aside(
            Asides::Stderr,
            "To resume:",
            &format!("\n{}", lines.join("\n")),
        );
    }

    /// Asks for consent on the terminal: says what `cluster` it is about, then asks `question`
    /// (`Can I set the above configuration?`). Without a terminal it fails at once, but for the old
    /// manners: they read the answer wherever it comes from.
    pub async fn confirm(&self, question: &str, cluster: &str) -> Result<Answer, PromptError> {
        self.progress().finish();
        prompt::confirm(question, cluster, self.asked()).await
    }

    /// Colours on standard output.
    fn stdout_paint(&self) -> Style {
        match self.format {
            Format::Table(sheet) => sheet.style,
            Format::Classic(style) => style,
            Format::Json | Format::Prometheus | Format::Nagios => Style::Plain,
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        // A thread that died while it wrote has left nothing that could be wrong.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
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
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    /// Who is asked, and where.
    fn asked(&self) -> Asked {
        match (self.mode.is_old(), self.asides) {
            (true, asides) => Asked::Anybody(asides),
            (false, _) => Asked::Terminal,
        }
    }

    fn aside(&self, asides: Asides, label: &str, text: &str) {
        let lines: Vec<String> = text.lines().map(plain).collect();
        let text = format!("{label} {}\n", lines.join("\n  "));
        self.progress().aside(|| asides.write(&text));
    }
}
