//! The terminal as a screen: opened, drawn, and given back, also after an error or a panic.

use std::io::{self, Stdout};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::draw::draw;
use super::state::{Action, State};
use crate::report::WatchView;

/// How long the thread that reads keys waits before it looks whether it is still needed.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long the end of that thread is waited for. crossterm reads a terminal that is gone for ever.
const LONGEST_END: Duration = Duration::from_millis(500);

/// A screen that shows frames and hears keys.
pub struct WatchScreen {
    state: State,
    // Never dropped: ratatui panics if it can't show the cursor of a terminal that is gone. The cursor is shown again below.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
    heard: UnboundedReceiver<io::Result<Event>>,
    // Dropped last: keys are not echoed until then.
    _raw: RawTerminal,
}

/// What a key or a change of the terminal leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    Quit,
    /// Ctrl-C: the terminal does not send the signal while it is a screen.
    Interrupt,
}

impl WatchScreen {
    pub(super) fn open(seed: &str, interval: Duration, is_colored: bool) -> io::Result<Self> {
        let interval = humantime::format_duration(interval).to_string();
        let (told, heard) = unbounded_channel();
        let raw = RawTerminal::open(told)?;
        let mut terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        terminal.hide_cursor()?;
        let mut screen = Self {
            state: State::new(seed, interval, is_colored),
            terminal: ManuallyDrop::new(terminal),
            heard,
            _raw: raw,
        };
        screen.draw()?;
        Ok(screen)
    }

    /// Shows a frame.
    pub fn show(&mut self, view: WatchView) -> io::Result<()> {
        self.state.take(view);
        self.draw()
    }

    /// Runs `work` and hears keys meanwhile; `None` if one of them quits.
    pub async fn until_quit<T>(&mut self, work: impl Future<Output = T>) -> io::Result<Option<T>> {
        let mut work = std::pin::pin!(work);
        loop {
            let event = tokio::select! {
                result = &mut work => return Ok(Some(result)),
                event = self.heard.recv() => event,
            };
            // The thread ends with this screen only, or with an error.
            let Some(event) = event else {
                return Err(io::Error::other("the terminal can't be read"));
            };
            match press(&mut self.state, &event?) {
                Flow::Quit => return Ok(None),
                // As everywhere else, the signal ends the command.
                Flow::Interrupt => kill_process(getpid(), Signal::INT)?,
                Flow::Continue => self.draw()?,
            }
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        let state = &self.state;
        self.terminal.draw(|frame| draw(frame, state))?;
        Ok(())
    }
}

pub(super) fn press(state: &mut State, event: &Event) -> Flow {
    let Event::Key(KeyEvent {
        code,
        modifiers,
        kind: KeyEventKind::Press | KeyEventKind::Repeat,
        ..
    }) = event
    else {
        // A new size is drawn anew.
        return Flow::Continue;
    };
    let is_control = modifiers.contains(KeyModifiers::CONTROL);
    let action = match code {
        KeyCode::Char('c') if is_control => return Flow::Interrupt,
        KeyCode::Char('q') => return Flow::Quit,
        KeyCode::Esc if !state.has_details => return Flow::Quit,
        KeyCode::Esc => Action::Close,
        KeyCode::Char('s') => Action::Sort,
        KeyCode::Char('p' | ' ') => Action::Pause,
        KeyCode::Up | KeyCode::Char('k') => Action::Up,
        KeyCode::Down | KeyCode::Char('j') => Action::Down,
        KeyCode::Enter => Action::Details,
        _ => return Flow::Continue,
    };
    state.act(action);
    Flow::Continue
}

/// The terminal in raw mode, with the thread that reads its keys.
struct RawTerminal {
    is_over: Arc<AtomicBool>,
    reading: Option<JoinHandle<()>>,
}

impl RawTerminal {
    fn open(told: UnboundedSender<io::Result<Event>>) -> io::Result<Self> {
        // A panic tells of itself where it can be read.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            give_back();
            hook(info);
        }));
        enable_raw_mode()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let mut raw = Self {
            is_over: Arc::clone(&is_over),
            reading: None,
        };
        execute!(io::stdout(), EnterAlternateScreen)?;
        raw.reading = Some(thread::spawn(move || read(&told, &is_over)));
        Ok(raw)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(reading) = self.reading.take() {
            let until = Instant::now() + LONGEST_END;
            while !reading.is_finished() && Instant::now() < until {
                thread::sleep(PATIENCE / 10);
            }
        }
        give_back();
    }
}

fn read(told: &UnboundedSender<io::Result<Event>>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let event = match event::poll(PATIENCE) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let is_last = event.is_err();
        if told.send(event).is_err() || is_last {
            return;
        }
    }
}

/// Makes the terminal what it was. There is nothing to do if that fails.
fn give_back() {
    let _ = disable_raw_mode();
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
}
