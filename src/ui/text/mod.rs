//! Text that is the same in `table` and `classic`, but for its headings, its marks and its width.

pub(super) mod call;
pub(super) mod config;
pub(super) mod data;
pub(super) mod drift;
pub(super) mod failover;
pub(super) mod fix;
pub(super) mod join;
pub(super) mod place;
pub(super) mod replace;
pub(super) mod roll;
pub(super) mod slots;
pub(super) mod throttle;
pub(super) mod verify;
pub(super) mod where_is;

use std::io::{self, Write};

use super::streams::Format;
use super::style::{Style, Tone, plain, wrapped, wrapped_message};
use super::summary::Marked;
use super::table::Sheet;

/// How a text is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum TextFormat {
    /// Bold headings, labels, lines that fit.
    Table(Sheet),
    /// `>>>` and marks, lines as long as they are: scripts read them.
    Classic(Style),
}

impl TextFormat {
    pub(super) fn of(format: Format) -> Self {
        match format {
            Format::Table(sheet) => Self::Table(sheet),
            other => Self::Classic(other.style()),
        }
    }

    pub(super) fn style(self) -> Style {
        match self {
            Self::Table(sheet) => sheet.style,
            Self::Classic(style) => style,
        }
    }

    pub(super) fn heading(self, text: &str) -> String {
        match self {
            Self::Table(sheet) => {
                let text = wrapped(text, 0, sheet.width);
                sheet.style.tone(Tone::Strong, &text)
            }
            Self::Classic(_) => format!(">>> {text}"),
        }
    }

    pub(super) fn marked(self, out: &mut impl Write, line: &Marked) -> io::Result<()> {
        match self {
            Self::Table(sheet) => line.write_in(out, sheet),
            Self::Classic(style) => line.write(out, style),
        }
    }

    /// A sentence behind `before`.
    pub(super) fn sentence(self, out: &mut impl Write, before: &str, text: &str) -> io::Result<()> {
        let text = plain(text);
        match self {
            Self::Table(sheet) => {
                let text = wrapped_message(&text, before.chars().count(), sheet.width);
                writeln!(out, "{before}{text}")
            }
            Self::Classic(_) => writeln!(out, "{before}{text}"),
        }
    }
}
