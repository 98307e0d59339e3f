//! The socket of a run, by which `throttle` finds it on the same host.
//!
//! Its name is that of the run. A request is a line that says until when it holds, and a text of settings (see [`Change`]); a
//! reply is one JSON object.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::directories::{Directories, ENDING, Entries};
use super::{Change, ChangedBy, Control, Pairs, Settings};
use crate::event::Events;

/// The most bytes of a request or a reply.
const LARGEST: u64 = 16 << 10;
/// How long the other side may take. A run on a host without a free processor is late by seconds, and is not suspended.
const WITHIN: Duration = Duration::from_secs(5);
/// How long a request holds, for less than its sender waits: what got no answer is not carried out later, when a run goes on
/// that was suspended.
const HOLDS: Duration = Duration::from_millis(4_500);
/// How long a run may take between the creation of its socket and listening on it.
const STARTING: Duration = Duration::from_millis(100);
/// How many runs are asked, at most.
const MOST_RUNS: usize = 256;

/// A run that moves slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStatus {
    /// Its name: a random id. The connections of the run and its journal have it too.
    pub run: String,
    /// Its command.
    pub command: String,
    /// Its process.
    pub pid: u32,
    /// The first node that its command line names.
    pub node: String,
    /// Its settings.
    pub settings: Settings,
    /// What its pairs of nodes do.
    #[serde(flatten)]
    pub pairs: Pairs,
}

/// What a run is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Request {
    /// Until when it may be carried out, by the clock of this host.
    until: SystemTime,
    change: Change,
}

impl Request {
    /// The text that [`Self::parse`] reads.
    fn text(self) -> String {
        let until = self.until.duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("until {}\n{}", until.as_millis(), self.change.text())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (head, change) = text.split_once('\n').unwrap_or((text, ""));
        let until = head.strip_prefix("until ").and_then(|ms| ms.parse().ok());
        let until = until.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
        Ok(Self {
            until: until.ok_or("the request does not say until when it holds")?,
            change: Change::parse(change)?,
        })
    }
}

/// The reply to a request.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// The request was carried out.
    Run(RunStatus),
    /// It was not understood; why.
    Error(String),
}

/// What a run tells about itself.
#[derive(Debug, Clone)]
pub struct RunName {
    /// Its random id.
    pub run: String,
    /// Its command.
    pub command: String,
    /// The first node that its command line names.
    pub node: String,
}

/// A socket's file, which is removed when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file that stays is found to be of a dead run.
        let _ = fs::remove_file(&self.0);
    }
}

/// Opens the socket of a run.
pub(super) fn open(run: &str) -> io::Result<(UnixListener, SocketFile)> {
    let directories = Directories::of_environment();
    directories.make_own()?;
    let path = directories.own().join(format!("{run}.{ENDING}"));
    Ok((UnixListener::bind(&path)?, SocketFile(path)))
}

/// Removes the sockets that killed runs have left.
pub(super) async fn remove_left() {
    // Where they can't be listed, there are none of ours.
    let entries = Directories::of_environment().entries().unwrap_or_default();
    for (_, path) in entries.sockets {
        // Does not wait for a suspended run whose queue is full, as a blocking call would.
        let connected = UnixStream::connect(&path).await;
        if connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            remove_dead(&path);
        }
    }
}

/// Answers requests for ever.
pub(super) async fn serve(listener: UnixListener, name: RunName, control: Control, events: Events) {
    loop {
        match listener.accept().await {
            // One after the other: each has little time.
            Ok((stream, _)) => {
                let answering = answer(stream, &name, &control, &events);
                let _ = timeout(WITHIN, answering).await;
            }
            Err(error) => {
                tracing::warn!(%error, "throttle can't connect");
                tokio::time::sleep(WITHIN).await;
            }
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    name: &RunName,
    control: &Control,
    events: &Events,
) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != geteuid().as_raw() && uid != 0 {
        return Ok(());
    }
    let request = read_all(&mut stream).await?;
    let reply = match Request::parse(&request) {
        // Its sender has given up, and told the user that nothing was changed.
        Ok(Request { until, .. }) if until < SystemTime::now() => {
            Reply::Error("the request came too late".to_string())
        }
        Ok(Request { change, .. }) => {
            control.change(change, &ChangedBy::Throttle(name.run.clone()), events);
            Reply::Run(RunStatus {
                run: name.run.clone(),
                command: name.command.clone(),
                pid: std::process::id(),
                node: name.node.clone(),
                settings: control.settings(),
                pairs: control.pairs(),
            })
        }
        Err(why) => Reply::Error(why),
    };
    stream.write_all(&serde_json::to_vec(&reply)?).await?;
    stream.shutdown().await
}

async fn read_all(stream: &mut UnixStream) -> io::Result<String> {
    let mut text = String::new();
    stream.take(LARGEST).read_to_string(&mut text).await?;
    Ok(text)
}

/// A run that did not answer as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAnswer {
    /// Its process, where the system tells.
    pub pid: Option<u32>,
    /// What happened, and what may help.
    pub why: String,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// What was found where the sockets of runs are.
#[derive(Debug, Default)]
pub struct Found {
    /// The runs, with what they answered, or why they did not.
    pub runs: Vec<(String, Result<RunStatus, NoAnswer>)>,
    /// What is no run, and why.
    pub others: Vec<String>,
}

/// Asks the runs on this host for `change`, if their name `is_wanted`. The sockets of dead runs are removed. Fails if the
/// directory in which this process would open its own is not to be trusted.
pub async fn ask_runs(change: Change, is_wanted: impl Fn(&str) -> bool) -> io::Result<Found> {
    let Entries { sockets, others } = Directories::of_environment().entries()?;
    let others = others.into_iter().filter(|(name, _)| is_wanted(name));
    let no_socket = |path: &Path| format!("{} is not a socket", path.display());
    let mut others: Vec<String> = others.map(|(_, path)| no_socket(&path)).collect();
    let mut sockets = sockets.into_iter().filter(|(run, _)| is_wanted(run));
    let mut runs = Vec::new();
    // Those of dead runs do not count.
    while runs.len() < MOST_RUNS {
        let mut asking = JoinSet::new();
        for (run, path) in sockets.by_ref().take(MOST_RUNS - runs.len()) {
            asking.spawn(ask_one(run, path, change));
        }
        if asking.is_empty() {
            break;
        }
        for asked in asking.join_all().await {
            match asked {
                Asked::Run(run, answer) => runs.push((run, answer)),
                Asked::Other(why) => others.push(why),
                Asked::Gone => {}
            }
        }
    }
    runs.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(Found { runs, others })
}

/// The result of asking one socket.
enum Asked {
    /// A run, with what it answered, or why it did not.
    Run(String, Result<RunStatus, NoAnswer>),
    /// It is no run; why.
    Other(String),
    /// Its run has ended.
    Gone,
}

async fn ask_one(run: String, path: PathBuf, change: Change) -> Asked {
    let mut pid = None;
    let asked = timeout(WITHIN, ask(&path, change, &mut pid)).await;
    let answer = match asked {
        Ok(Ok(Reply::Run(status))) => Ok(status),
        Ok(Ok(Reply::Error(why))) => Err(why),
        // Nobody listens: the process is gone.
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            remove_dead(&path);
            return Asked::Gone;
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Asked::Gone,
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Asked::Other(format!("{}: {error}", path.display()));
        }
        // Too many have asked since it answered last.
        Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(silence(pid)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(silence(pid)),
    };
    Asked::Run(run, answer.map_err(|why| NoAnswer { pid, why }))
}

/// Why a run says nothing, most likely: the connection is open, so its process exists.
fn silence(pid: Option<u32>) -> String {
    let within = WITHIN.as_secs();
    match pid {
        Some(pid) => format!(
            "no answer within {within} s: process {pid} may be suspended (fg or kill -CONT {pid} continues it)"
        ),
        None => format!("no answer within {within} s: its process may be suspended"),
    }
}

/// Asks one run. Its process is known as soon as the connection is open, before the run says anything.
async fn ask(path: &Path, change: Change, pid: &mut Option<u32>) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(path).await?;
    let listener = stream.peer_cred()?.pid();
    // A process of another namespace has the number 0.
    *pid = listener.and_then(|pid| u32::try_from(pid).ok().filter(|pid| *pid > 0));
    let request = Request {
        until: SystemTime::now() + HOLDS,
        change,
    };
    stream.write_all(request.text().as_bytes()).await?;
    stream.shutdown().await?;
    let reply = read_all(&mut stream).await?;
    Ok(serde_json::from_str(&reply)?)
}

/// Removes a socket on which nobody listens, unless it has just been created: a run that starts binds it first, and listens
/// then.
fn remove_dead(path: &Path) {
    let age = fs::symlink_metadata(path).and_then(|about| about.modified());
    if age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= STARTING)) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Rate;

    #[tokio::test]
    async fn a_request_that_comes_too_late_changes_nothing() {
        let name = RunName {
            run: "5f3a09c1".to_string(),
            command: "reshard".to_string(),
            node: "10.0.0.3:6379".to_string(),
        };
        let control = Control::default();
        let (events, _heard) = Events::channel();
        let ask = async |until: SystemTime| {
            let change = Change::parse("rate 5\nmax-latency off").unwrap();
            let request = Request { until, change };
            assert_eq!(Request::parse(&request.text()), Ok(request));
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(request.text().as_bytes()).await.unwrap();
            ours.shutdown().await.unwrap();
            answer(theirs, &name, &control, &events).await.unwrap();
            let reply = read_all(&mut ours).await.unwrap();
            let reply = serde_json::from_str::<Reply>(&reply).unwrap();
            (reply, control.settings())
        };
        // Whole milliseconds are sent.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = UNIX_EPOCH + Duration::from_millis(now.as_millis().try_into().unwrap());
        let second = Duration::from_secs(1);
        let (reply, settings) = ask(now - second).await;
        assert!(matches!(reply, Reply::Error(why) if why.contains("too late")));
        assert_eq!(settings, Settings::default());
        let (reply, settings) = ask(now + 60 * second).await;
        assert!(matches!(reply, Reply::Run(status) if status.settings == settings));
        assert_eq!(settings.rate, Some(Rate::Keys(5)));
        for text in ["", "rate 5", "until soon\nrate 5", "until 99\nspeed 5"] {
            assert!(Request::parse(text).is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_run_answers_and_is_gone_when_it_ends() {
        let name = |run: &str| RunName {
            run: run.to_string(),
            command: "reshard".to_string(),
            node: "10.0.0.3:6379".to_string(),
        };
        let run = format!("test{}", std::process::id());
        let (listener, file) = open(&run).unwrap();
        let path = file.0.clone();
        let control = Control::default();
        let (events, _heard) = Events::channel();
        let serving = tokio::spawn(serve(listener, name(&run), control.clone(), events));
        let change = Change::parse("lanes 3\npause yes").unwrap();
        let runs = ask_runs(change, |name| name == run).await.unwrap();
        let [(_, Ok(status))] = &runs.runs[..] else {
            panic!("{runs:?}");
        };
        assert_eq!(status.settings, control.settings());
        assert_eq!(status.settings.node_pairs, Some(3));
        serving.abort();
        assert!(serving.await.is_err());
        drop(file);
        assert!(!path.exists());
        // One that is suspended has a socket, and does not answer.
        let (suspended, file) = open(&run).unwrap();
        let runs = ask_runs(Change::default(), |name| name == run).await;
        let runs = runs.unwrap().runs;
        let [(_, Err(silent))] = &runs[..] else {
            panic!("{runs:?}");
        };
        let pid = std::process::id();
        assert_eq!(silent.pid, Some(pid));
        let why = format!("no answer within 5 s: process {pid} may be suspended");
        assert!(silent.why.starts_with(&why), "{}", silent.why);
        drop((file, suspended));
        // A run that was killed leaves its file, which is removed.
        let leave_dead = async || {
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            assert!(path.exists());
            tokio::time::sleep(STARTING * 2).await;
        };
        leave_dead().await;
        let left = ask_runs(Change::default(), |name| name == run).await;
        assert_eq!(left.unwrap().runs, []);
        assert!(!path.exists());
        // The next run removes it, too.
        leave_dead().await;
        let next = open(&format!("{run}next")).unwrap();
        remove_left().await;
        assert!(!path.exists() && next.1.0.exists());
    }
}
