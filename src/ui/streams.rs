//! The two streams: their format, their width and their colours.

use std::io::{self, IsTerminal, Write};

use super::options::{ColorChoice, Mode, OutputFormat, UiOptions, Verbosity};
use super::progress::Look;
use super::style::Style;
use super::table::Sheet;

/// The format of results, once `auto` is decided.
#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    Table(Sheet),
    Classic(Style),
    Json,
    Prometheus,
    Nagios,
}

impl Format {
    /// The colours of standard output.
    pub(super) fn style(self) -> Style {
        match self {
            Self::Table(sheet) => sheet.style,
            Self::Classic(style) => style,
            Self::Json | Self::Prometheus | Self::Nagios => Style::Plain,
        }
    }
}

/// What output depends on besides the command line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings {
    pub(super) stdout: Stream,
    pub(super) stderr: Stream,
    pub(super) colors: Colors,
    pub(super) width: usize,
    /// The width of standard error, if that is a terminal.
    pub(super) stderr_width: Option<usize>,
}

/// Where hints, warnings, progress and prompts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asides {
    Stderr,
    /// Between the results, like redis-cli.
    Stdout,
}

impl Asides {
    pub(super) fn of(mode: Mode, format: Format) -> Self {
        match format {
            Format::Table(_) | Format::Classic(_) if mode.is_old() => Self::Stdout,
            _ => Self::Stderr,
        }
    }

    /// Writes a text. There is nothing to do if that fails.
    pub(super) fn write(self, text: &str) {
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
pub(super) enum Stream {
    Terminal,
    Pipe,
}

/// Whether a terminal wants colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colors {
    Wanted,
    Unwanted,
}

/// The width of a table that does not go to a terminal.
const DEFAULT_WIDTH: usize = 100;

impl Surroundings {
    pub(super) fn read() -> Self {
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
            stderr_width: console::Term::stderr()
                .size_checked()
                .map(|(_, width)| usize::from(width)),
        }
    }

    pub(super) fn style(self, color: ColorChoice, stream: Stream) -> Style {
        match (color, stream, self.colors) {
            (ColorChoice::Always, _, _) => Style::Ansi,
            (ColorChoice::Auto, Stream::Terminal, Colors::Wanted) => Style::Ansi,
            _ => Style::Plain,
        }
    }

    pub(super) fn format(self, options: UiOptions) -> Format {
        let style = self.style(options.color, self.stdout);
        let width = self.width;
        match options.output {
            OutputFormat::Auto if options.mode.is_old() => Format::Classic(style),
            OutputFormat::Table | OutputFormat::Auto => Format::Table(Sheet { width, style }),
            OutputFormat::Classic => Format::Classic(style),
            OutputFormat::Json => Format::Json,
            OutputFormat::Prometheus => Format::Prometheus,
            OutputFormat::Nagios => Format::Nagios,
        }
    }

    pub(super) fn look(self, format: Format, verbosity: Verbosity) -> Look {
        match (verbosity, format, self.stderr) {
            (Verbosity::Quiet, _, _) => Look::Silent,
            (_, Format::Classic(_), _) => Look::Dots,
            (Verbosity::Normal, Format::Table(_), Stream::Terminal) => Look::Spinner,
            (_, Format::Table(_), _) => Look::Lines,
            // The events go to a file, and a person waits for their end.
            (Verbosity::Normal, Format::Json, Stream::Terminal) if self.stdout == Stream::Pipe => {
                Look::Spinner
            }
            _ => Look::Silent,
        }
    }
}
