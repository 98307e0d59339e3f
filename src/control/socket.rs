//! The socket of a run, by which `throttle` finds it on the same host.
//!
//! It lies in `redis-trib` in `$XDG_RUNTIME_DIR`, or in `/tmp/redis-trib-UID` where that is not set (containers), is not ours
//! (after `su`), or is too long for the path of a socket. The directory has to be ours with mode 0700: who may create files in it could pose as a run. The name of
//! the socket is that of the run. A request is a text of settings (see [`Change`]), a reply one JSON object.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::{Change, Control, Settings};
use crate::event::Events;

/// The ending of a socket's name.
const ENDING: &str = "sock";
/// The most bytes of a socket's path (`sun_path` of Linux, without the zero at its end).
const LONGEST_PATH: usize = 107;
/// The bytes of `/redis-trib/5f3a09c1.sock`, which follow the path of the runtime directory.
const LONGEST_NAME: usize = 25;
/// The most bytes of a request or a reply.
const LARGEST: u64 = 16 << 10;
/// How long the other side may take.
const WITHIN: Duration = Duration::from_secs(2);
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
    /// How many pairs of nodes have slots open, or a task in hand.
    pub open_pairs: usize,
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

/// Opens the socket of a run, and removes those that killed runs have left.
pub(super) fn open(run: &str) -> io::Result<(UnixListener, SocketFile)> {
    let directory = directory();
    make_ours(&directory)?;
    for (_, path) in entries()?.sockets {
        let connected = std::os::unix::net::UnixStream::connect(&path);
        if connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            remove_dead(&path);
        }
    }
    let path = directory.join(format!("{run}.{ENDING}"));
    Ok((UnixListener::bind(&path)?, SocketFile(path)))
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
    let reply = match Change::parse(&request) {
        Ok(change) => {
            control.change(change, "throttle", events);
            Reply::Run(RunStatus {
                run: name.run.clone(),
                command: name.command.clone(),
                pid: std::process::id(),
                node: name.node.clone(),
                settings: control.settings(),
                open_pairs: control.open_pairs(),
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

/// What was found where the sockets of runs are.
#[derive(Debug, Default)]
pub struct Found {
    /// The runs, with what they answered, or why they did not.
    pub runs: Vec<(String, Result<RunStatus, String>)>,
    /// What is no run, and why.
    pub others: Vec<String>,
}

/// Asks the runs on this host for `change`, if their name `is_wanted`. The sockets of dead runs are removed. Fails if the
/// directory of the sockets is not to be trusted.
pub async fn ask_runs(change: Change, is_wanted: impl Fn(&str) -> bool) -> io::Result<Found> {
    let Entries { sockets, others } = entries()?;
    let others = others.into_iter().filter(|(name, _)| is_wanted(name));
    let no_socket = |path: &Path| format!("{} is not a socket", path.display());
    let mut others: Vec<String> = others.map(|(_, path)| no_socket(&path)).collect();
    let mut runs = Vec::new();
    for (run, path) in sockets {
        if !is_wanted(&run) {
            continue;
        }
        if runs.len() == MOST_RUNS {
            break;
        }
        let asked = timeout(WITHIN, ask(&path, change)).await;
        let answer = match asked {
            Ok(Ok(Reply::Run(status))) => Ok(status),
            Ok(Ok(Reply::Error(why))) => Err(why),
            // Nobody listens: the process is gone.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                remove_dead(&path);
                continue;
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => continue,
            Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                others.push(format!("{}: {error}", path.display()));
                continue;
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", WITHIN.as_secs())),
        };
        runs.push((run, answer));
    }
    Ok(Found { runs, others })
}

async fn ask(path: &Path, change: Change) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(change.text().as_bytes()).await?;
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

/// Files with the names of sockets, and these names.
#[derive(Debug, Default)]
struct Entries {
    sockets: Vec<(String, PathBuf)>,
    /// Those that are something else.
    others: Vec<(String, PathBuf)>,
}

fn entries() -> io::Result<Entries> {
    let directory = directory();
    match is_ours(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Entries::default()),
        ours => ours?,
    }
    let mut found = Entries::default();
    for entry in fs::read_dir(&directory)? {
        let entry = entry?;
        let path = entry.path();
        let has_ending = path.extension().is_some_and(|ending| ending == ENDING);
        let name = path.file_stem().and_then(|name| name.to_str());
        if let (true, Some(name)) = (has_ending, name) {
            let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
            match is_socket {
                true => found.sockets.push((name.to_string(), path.clone())),
                false => found.others.push((name.to_string(), path.clone())),
            }
        }
    }
    found.sockets.sort();
    found.others.sort();
    Ok(found)
}

fn directory() -> PathBuf {
    directory_in(std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from))
}

fn directory_in(runtime: Option<PathBuf>) -> PathBuf {
    let uid = geteuid().as_raw();
    let is_usable = |path: &PathBuf| {
        path.is_absolute()
            && path.as_os_str().len() + LONGEST_NAME <= LONGEST_PATH
            && fs::metadata(path).is_ok_and(|about| about.is_dir() && about.uid() == uid)
    };
    match runtime.filter(is_usable) {
        Some(path) => path.join("redis-trib"),
        None => PathBuf::from(format!("/tmp/redis-trib-{uid}")),
    }
}

/// Creates the directory unless it is there, and fails if it is not ours alone.
fn make_ours(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    is_ours(directory)
}

fn is_ours(directory: &Path) -> io::Result<()> {
    let about = fs::symlink_metadata(directory)?;
    let is_ours = about.is_dir() && about.uid() == geteuid().as_raw() && about.mode() & 0o077 == 0;
    match is_ours {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "{} is not a directory of this user with mode 0700",
            directory.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_a_directory_of_ours_is_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs");
        make_ours(&path).unwrap();
        make_ours(&path).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(make_ours(&link).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(make_ours(&path).is_err());
        assert!(is_ours(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn a_runtime_directory_with_a_long_path_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("long".repeat(25));
        fs::create_dir(&long).unwrap();
        let short = directory_in(Some(folder.path().to_path_buf()));
        assert!(short.starts_with(folder.path()));
        let fallback = format!("/tmp/redis-trib-{}", geteuid().as_raw());
        assert_eq!(directory_in(Some(long)), Path::new(&fallback));
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
        assert!(!path.exists() && next.1.0.exists());
    }
}
