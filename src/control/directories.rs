//! The directories in which the sockets of runs are.
//!
//! The socket of a run lies in `redis-trib` in `$XDG_RUNTIME_DIR`, or in `/tmp/redis-trib-UID` where that is not set (cron,
//! containers), is not ours (after `su`), or is too long for the path of a socket. Runs are looked for in both, and in
//! `/run/user/UID`: the environment of a run may be another one. `REDIS_TRIB_RUNTIME_DIR` names another directory, and the only
//! one then. A directory has to be ours with mode 0700: who may create files in it could pose as a run.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// The variable that names the directory of the sockets.
const VARIABLE: &str = "REDIS_TRIB_RUNTIME_DIR";
/// The ending of a socket's name.
pub(super) const ENDING: &str = "sock";
/// The most bytes of a socket's path (`sun_path` of Linux, without the zero at its end).
const LONGEST_PATH: usize = 107;
/// The bytes of `/redis-trib/5f3a09c1.sock`, which follow the path of the runtime directory.
const LONGEST_NAME: usize = 25;

/// Where the sockets of runs of this user are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directories {
    /// Where a run of this environment opens its own.
    own: PathBuf,
    /// Where runs of other environments have theirs.
    others: Vec<PathBuf>,
}

/// Files with the names of sockets, and these names.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) sockets: Vec<(String, PathBuf)>,
    /// Those that are something else.
    pub(super) others: Vec<(String, PathBuf)>,
}

impl Directories {
    /// What the environment of this process says.
    pub(super) fn of_environment() -> Self {
        let variable = |name| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        match variable(VARIABLE) {
            Some(own) => Self {
                own,
                others: Vec::new(),
            },
            None => Self::of(variable("XDG_RUNTIME_DIR")),
        }
    }

    fn of(runtime: Option<PathBuf>) -> Self {
        let uid = geteuid().as_raw();
        let is_usable = |path: &PathBuf| {
            path.is_absolute()
                && path.as_os_str().len() + LONGEST_NAME <= LONGEST_PATH
                && fs::metadata(path).is_ok_and(|about| about.is_dir() && about.uid() == uid)
        };
        let within = |path: PathBuf| is_usable(&path).then(|| path.join("redis-trib"));
        let fallback = PathBuf::from(format!("/tmp/redis-trib-{uid}"));
        // What XDG_RUNTIME_DIR is in a login session.
        let session = within(PathBuf::from(format!("/run/user/{uid}")));
        let own = runtime.and_then(within).unwrap_or_else(|| fallback.clone());
        let others = session.into_iter().chain([fallback]);
        Self {
            others: others.filter(|other| *other != own).collect(),
            own,
        }
    }

    /// Where a run of this environment opens its socket.
    pub(super) fn own(&self) -> &Path {
        &self.own
    }

    /// Creates that directory unless it is there, and fails if it is not ours alone.
    pub(super) fn make_own(&self) -> io::Result<()> {
        make_ours(&self.own)
    }

    /// All sockets. Fails if the directory in which this process would open its own is not to be trusted.
    pub(super) fn entries(&self) -> io::Result<Entries> {
        let mut found = Entries::default();
        found.add(&self.own)?;
        for directory in &self.others {
            // No run of ours is in what is not ours: everybody may create files in /tmp.
            let _ = found.add(directory);
        }
        // Two names of one directory have the same runs.
        for files in [&mut found.sockets, &mut found.others] {
            files.sort();
            files.dedup_by(|one, other| one.0 == other.0);
        }
        Ok(found)
    }
}

impl Entries {
    fn add(&mut self, directory: &Path) -> io::Result<()> {
        match is_ours(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            ours => ours?,
        }
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let path = entry.path();
            let has_ending = path.extension().is_some_and(|ending| ending == ENDING);
            let name = path.file_stem().and_then(|name| name.to_str());
            if let (true, Some(name)) = (has_ending, name) {
                let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
                match is_socket {
                    true => self.sockets.push((name.to_string(), path.clone())),
                    false => self.others.push((name.to_string(), path.clone())),
                }
            }
        }
        Ok(())
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
        let fallback = PathBuf::from(format!("/tmp/redis-trib-{}", geteuid().as_raw()));
        let short = Directories::of(Some(folder.path().to_path_buf()));
        assert!(short.own.starts_with(folder.path()));
        assert_eq!(short.others.last(), Some(&fallback));
        for runtime in [Some(long), None] {
            let directories = Directories::of(runtime);
            assert_eq!(directories.own, fallback);
            assert!(!directories.others.contains(&fallback));
        }
    }

    #[test]
    fn runs_of_other_environments_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let listen = |directory: &str, name: &str| {
            make_ours(&path(directory)).unwrap();
            std::os::unix::net::UnixListener::bind(path(directory).join(name)).unwrap()
        };
        let _sockets = [
            listen("own", "b.sock"),
            listen("cron", "a.sock"),
            listen("open", "c.sock"),
        ];
        std::os::unix::fs::symlink(folder.path(), path("link")).unwrap();
        fs::set_permissions(path("open"), fs::Permissions::from_mode(0o755)).unwrap();
        let names = |own: &str, others: &[&str]| {
            let directories = Directories {
                own: path(own),
                others: others.iter().map(|other| path(other)).collect(),
            };
            let names = directories
                .entries()
                .map(|found| found.sockets.into_iter().map(|(name, _)| name));
            names.map(Iterator::collect::<Vec<_>>)
        };
        assert_eq!(names("own", &["missing", "cron"]).unwrap(), ["a", "b"]);
        assert_eq!(names("missing", &["open", "cron"]).unwrap(), ["a"]);
        assert_eq!(names("own", &["link/own"]).unwrap(), ["b"]);
        assert!(names("open", &["own"]).is_err());
    }
}
