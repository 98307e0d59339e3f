//! `--control FILE`: settings that are read from a file once a second.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Change, Control};
use crate::event::Events;

/// The interval between two looks at the file.
const EVERY: Duration = Duration::from_secs(1);
/// The most bytes that a file may have.
const LARGEST: u64 = 64 << 10;

/// A control file, and what it said last.
#[derive(Debug)]
pub(super) struct ControlFile {
    path: PathBuf,
    /// What was read last, or why it could not be read. It is applied, and reported, once: what `throttle` and keys change
    /// afterwards holds until the file changes.
    last: Option<Result<String, String>>,
}

impl ControlFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, last: None }
    }

    /// Applies what the file says, if that has changed.
    pub(super) fn look(&mut self, control: &Control, events: &Events) {
        let read = match read(&self.path) {
            // It may come, and go.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            read => read.map_err(|error| error.to_string()),
        };
        if self.last.as_ref() == Some(&read) {
            return;
        }
        let change = match &read {
            Ok(text) => Change::parse(text),
            Err(why) => Err(why.clone()),
        };
        let file = self.path.display();
        match change {
            Ok(change) => control.change(change, &format!("--control {file}"), events),
            Err(why) => events.warn(format!(
                "--control {file}: {why}; the settings stay as they are"
            )),
        }
        self.last = Some(read);
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
    use crate::control::{Rate, Settings};
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
        assert_eq!(look(None), (None, vec![]), "it need not be there");
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
}
