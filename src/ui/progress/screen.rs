//! Standard error as the target of bars and spinners.

use std::io::{self, ErrorKind};
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use console::{Term, measure_text_width, truncate_str};
use indicatif::{ProgressDrawTarget, TermLike};

/// The highest number of drawings a second.
const RATE: u8 = 20;

/// Standard error, for bars.
pub(super) fn screen() -> ProgressDrawTarget {
    let screen = Screen {
        term: Term::buffered_stderr(),
        frame: Mutex::default(),
    };
    ProgressDrawTarget::term_like_with_hz(Box::new(screen), RATE)
}

/// A terminal on which bars stay bars when its width changes.
///
/// indicatif fills each line with spaces up to the last column, and lets the terminal wrap. When the width changes, a terminal
/// wraps all of that anew, and what was drawn before stays above the new bars. Here each line ends after its text, and is cut
/// off where it would wrap. What a narrower terminal wraps all the same is counted, and erased with the next drawing.
///
/// A terminal of few rows has the last lines: the sum is the last one.
///
/// When the terminal is gone, nothing is drawn any more, and nothing fails: indicatif panics if it can't clear the screen.
///
/// The cursor rests at the start of the last line. indicatif leaves it after the last column. There the `^C` that a terminal
/// echoes would start a new line, and the first bar would stay on the screen.
#[derive(Debug)]
struct Screen {
    term: Term,
    frame: Mutex<Frame>,
}

/// The lines on the screen.
#[derive(Debug, Default)]
struct Frame {
    /// The columns of each.
    lines: Vec<usize>,
    /// The lines of the drawing in hand.
    next: Vec<String>,
    step: Step,
    /// Whether the last of `next` has its text, and what fills it up comes next.
    is_filled_next: bool,
    /// Whether the terminal is gone.
    is_gone: bool,
}

/// The part of a drawing. indicatif moves the cursor up and erases the lines of the last drawing, then writes each line and what
/// fills it up, and then flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Step {
    /// There is none.
    #[default]
    Resting,
    /// What was drawn has been erased.
    Erased,
    /// Lines are being written.
    Writing,
}

impl Frame {
    /// The rows above the cursor that the last `bars` lines take on a terminal of this width.
    fn rows_above(&self, bars: usize, width: usize) -> usize {
        let bars = bars.min(self.lines.len());
        let lines = &self.lines[self.lines.len() - bars..];
        let above = lines.iter().rev().skip(1);
        above.map(|columns| rows(*columns, width)).sum()
    }
}

/// The last lines, and how many there are above, if not all fit into the rows.
fn cut(mut lines: Vec<String>, rows: usize) -> Vec<String> {
    let above = lines.len().saturating_sub(rows.max(1));
    lines.drain(..above);
    if let (1.., [first, _, ..]) = (above, &mut lines[..]) {
        *first = format!("… {} more", above + 1);
    }
    lines
}

/// The rows that so many columns take.
fn rows(columns: usize, width: usize) -> usize {
    columns.div_ceil(width.max(1)).max(1)
}

impl Screen {
    fn frame(&self) -> MutexGuard<'_, Frame> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.term.size().1
    }

    /// indicatif would cut off the last lines.
    fn height(&self) -> u16 {
        u16::MAX
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        let mut frame = self.frame();
        if frame.step != Step::Resting {
            return Ok(());
        }
        frame.step = Step::Erased;
        if frame.lines.is_empty() || frame.is_gone {
            return Ok(());
        }
        let rows = frame.rows_above(n + 1, usize::from(self.width()));
        frame.lines.clear();
        self.term.move_cursor_up(rows)?;
        self.term.write_str("\r")?;
        self.term.clear_to_end_of_screen()
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_left(n)
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.term.write_line(line)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut frame = self.frame();
        if frame.is_filled_next {
            // The line was erased.
            frame.is_filled_next = false;
            return Ok(());
        }
        frame.step = Step::Writing;
        frame.is_filled_next = true;
        frame.next.push(text.to_string());
        Ok(())
    }

    /// What was drawn has been erased already.
    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut frame = self.frame();
        (frame.step, frame.is_filled_next) = (Step::Resting, false);
        let next = mem::take(&mut frame.next);
        if frame.is_gone {
            return Ok(());
        }
        let (rows, columns) = self.term.size();
        let next: Vec<String> = cut(next, usize::from(rows))
            .iter()
            .map(|line| truncate_str(line, usize::from(columns), "").into_owned())
            .collect();
        frame
            .lines
            .extend(next.iter().map(|line| measure_text_width(line)));
        self.term.write_str(&next.join("\r\n"))?;
        self.term.write_str("\r")?;
        if let Err(error) = self.term.flush() {
            frame.is_gone = error.kind() != ErrorKind::WouldBlock;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_have_the_last_lines() {
        let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_string()).collect();
        let four = || lines(&["1", "2", "3", "all"]);
        for (rows, shown) in [
            (9, &["1", "2", "3", "all"][..]),
            (4, &["1", "2", "3", "all"]),
            (3, &["… 2 more", "3", "all"]),
            (2, &["… 3 more", "all"]),
            (1, &["all"]),
            (0, &["all"]),
        ] {
            assert_eq!(cut(four(), rows), lines(shown), "{rows}");
        }
        assert_eq!(cut(Vec::new(), 0), lines(&[]));
    }

    #[test]
    fn a_narrower_terminal_wraps_what_is_there() {
        let frame = Frame {
            lines: vec![100, 40, 0, 100],
            ..Frame::default()
        };
        assert_eq!(frame.rows_above(4, 100), 3);
        assert_eq!(frame.rows_above(4, 60), 4);
        assert_eq!(frame.rows_above(4, 30), 7);
        // The first line is not a bar any more: it stays.
        assert_eq!(frame.rows_above(3, 60), 2);
        assert_eq!(frame.rows_above(9, 100), 3);
        assert_eq!(Frame::default().rows_above(1, 80), 0);
    }
}
