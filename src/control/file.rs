//! `--control FILE`: settings that are read from a file once a second.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Change, ChangedBy, Control};
use crate::event::Events;

/// The interval between two looks at the file.
const EVERY: Duration = Duration::from_secs(1);
/// The most bytes that a file may have.
const LARGEST: u64 = 64 << 10;

/// A control file, and what it said last.
#[derive(Debug)]
pub(super) struct ControlFile {
    path: PathBuf,
    /// The text that was read last. It is applied, and reported, once: what `throttle` and keys change afterwards holds until
    /// the text changes, also if the file could not be read for a while.
    text: Option<String>,
    /// Why the file could not be read at the last look.
    error: Option<String>,
    /// Whether the user knows that the file is not there.
    is_awaited: bool,
}

impl ControlFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            text: None,
            error: None,
            is_awaited: false,
        }
    }

    /// Applies what the file says, if that has changed.
    pub(super) fn look(&mut self, control: &Control, events: &Events) {
        let file = self.path.display();
        let refuse = |why: &str| {
            events.warn(format!(
                "--control {file}: {why}; the settings stay as they are"
            ));
        };
        let text = match read(&self.path) {
            Ok(text) => text,
            // It may come, and go.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.text.is_none() && self.error.is_none() && !self.is_awaited {
                    self.is_awaited = true;
                    events.note(format!(
                        "--control {file}: there is no such file yet; it is read as soon as it exists"
                    ));
                }
                return;
            }
            Err(error) => {
                let why = error.to_string();
                if self.error.as_ref() != Some(&why) {
                    refuse(&why);
                    self.error = Some(why);
                }
                return;
            }
        };
        self.error = None;
        if self.text.as_ref() == Some(&text) {
            return;
        }
        match Change::parse(&text) {
            Ok(change) => control.change(change, &ChangedBy::File(self.path.clone()), events),
            Err(why) => refuse(&why),
        }
        self.text = Some(text);
    }

    /// Looks at the file for ever.
    pub(super) async fn watch(mut self, control: Control, events: Events) {
        loop {
            tokio::time::sleep(EVERY).await;
            // A file system that hangs holds up this look, and nothing else.
            let looking = tokio::task::spawn_blocking({
                let (control, events) = (control.clone(), events.clone());
                move || {
                    self.look(&control, &events);
                    self
                }
            });
            match looking.await {
                Ok(file) => self = file,
                Err(_) => return,
            }
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    // Opening a pipe would wait until a program writes to it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    let mut file = fs::File::open(path)?.take(LARGEST + 1);
    file.read_to_string(&mut text)?;
    match text.len() as u64 {
        0..=LARGEST => Ok(text),
        _ => Err(io::Error::other("it is larger than 64 KiB")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Flow, Rate, Settings};
    use crate::event::Event;

    #[test]
    fn nonsense_is_reported_once_and_the_last_good_values_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let mut file = ControlFile::new(path.clone());
        let control = Control::default();
        control.begin(Settings::default());
        let (events, mut heard) = Events::channel();
        let mut look = |text: Option<&str>| {
            if let Some(text) = text {
                fs::write(&path, text).unwrap();
            }
            file.look(&control, &events);
            let mut said = Vec::new();
            while let Ok(event) = heard.try_recv() {
                said.push(event);
            }
            (control.settings().rate, said)
        };
        let (rate, said) = look(None);
        assert_eq!(rate, None, "it need not be there");
        assert!(
            matches!(&said[..], [Event::Note(why)] if why.contains("no such file yet")),
            "{said:?}"
        );
        assert_eq!(look(None), (None, vec![]), "that is told once");
        let (rate, said) = look(Some("rate 5000"));
        assert_eq!(rate, Some(Rate::Keys(5000)));
        assert!(matches!(&said[..], [Event::Note(_)]), "{said:?}");
        assert_eq!(look(None), (rate, vec![]));
        let (after, said) = look(Some("rate 9\nrat 6"));
        assert_eq!(after, rate);
        assert!(
            matches!(&said[..], [Event::Warning(why)] if why.contains("line 2")),
            "{said:?}"
        );
        assert_eq!(look(None), (rate, vec![]));
        let (after, _) = look(Some(&"#".repeat(70_000)));
        assert_eq!(after, rate);
        assert_eq!(look(Some("rate off")).0, None);
    }

    #[test]
    fn a_text_counts_once_also_if_the_file_could_not_be_read_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let mut file = ControlFile::new(path.clone());
        let control = Control::default();
        control.begin(Settings::default());
        let (events, mut heard) = Events::channel();
        fs::write(&path, "pause yes").unwrap();
        file.look(&control, &events);
        assert_eq!(control.settings().flow, Flow::Paused);
        // An operator resumes.
        control.toggle(&ChangedBy::Key, &events);
        let mut said = Vec::new();
        for _ in 0..2 {
            // What is not a file is not read.
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            file.look(&control, &events);
            file.look(&control, &events);
            fs::remove_dir(&path).unwrap();
            file.look(&control, &events);
            fs::write(&path, "pause yes").unwrap();
            file.look(&control, &events);
            assert_eq!(control.settings().flow, Flow::Moving);
        }
        while let Ok(event) = heard.try_recv() {
            said.extend(match event {
                Event::Warning(text) => Some(text),
                _ => None,
            });
        }
        assert_eq!(said.len(), 2, "once each time: {said:?}");
        assert!(said[0].contains("it is not a file"), "{said:?}");
        fs::write(&path, "pause yes # again").unwrap();
        file.look(&control, &events);
        assert_eq!(control.settings().flow, Flow::Paused);
    }
}
