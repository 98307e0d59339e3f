//! The output of `watch`: a live screen, a table, or JSON. The only folder that names ratatui and crossterm.

mod draw;
pub(in crate::ui) mod rows;
mod screen;
mod state;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::streams::Format;
use super::style::Style;
use super::{Ui, json, table};
use crate::report::WatchView;

pub use screen::WatchScreen;

/// Where frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchOutput {
    /// A screen for a person.
    Screen,
    /// One table.
    Table,
    /// A line of JSON for each frame.
    Json,
    /// There is no terminal for a screen.
    NoTerminal,
}

/// Whether somebody still reads standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Yes.
    There,
    /// The pipe was closed.
    Gone,
}

impl Ui {
    /// Where frames go, as the command line and the streams say.
    pub fn watch_output(&self) -> WatchOutput {
        let is_terminal = || io::stdin().is_terminal() && io::stdout().is_terminal();
        match self.format {
            Format::Json => WatchOutput::Json,
            _ if is_terminal() => WatchOutput::Screen,
            _ => WatchOutput::NoTerminal,
        }
    }

    /// One frame, as a table or a document.
    pub fn watch_once(&self, view: &WatchView) -> io::Result<()> {
        if let Format::Json = self.format {
            return self.json(view);
        }
        let sheet = self.sheet();
        self.result(|out| table::frame(out, view, sheet))
    }

    /// One frame of a stream. It ends with its reader.
    pub fn watch_frame(&self, view: &WatchView) -> io::Result<Reader> {
        let mut text = Vec::new();
        json::write(&mut text, &self.headed(view))?;
        let mut stdout = io::stdout().lock();
        match stdout.write_all(&text).and_then(|()| stdout.flush()) {
            Err(error) if self.has_no_reader(&error) => Ok(Reader::Gone),
            written => written.map(|()| Reader::There),
        }
    }

    /// Opens the screen. It is closed when it is dropped.
    pub fn watch_screen(&self, seed: &str, interval: Duration) -> io::Result<WatchScreen> {
        WatchScreen::open(seed, interval, self.format.style() == Style::Ansi)
    }
}
