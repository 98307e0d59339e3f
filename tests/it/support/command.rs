//! Runs `redis-trib` as a user or a script would, and looks at what it did.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use rexpect::process::WaitStatus;
use rexpect::session::PtySession;
use tempfile::TempDir;

pub(crate) use nix::sys::signal::Signal;

use super::ran;
use super::secrets::Secrets;
use super::wait::{PATIENCE, until};

/// The columns of every terminal and every table.
const COLUMNS: usize = 120;

/// The commands that have an output of redis-trib.rb or redis-cli.
const COMMANDS: [&str; 17] = [
    "add-node",
    "apply",
    "backup",
    "call",
    "check",
    "create",
    "del-node",
    "failover",
    "fix",
    "import",
    "info",
    "ok-to-stop",
    "rebalance",
    "replace-node",
    "reshard",
    "restore",
    "set-timeout",
];

/// A command line to be run: `Trib::new().args(["check", &addr]).run().status(0)`.
///
/// Nothing of the surroundings reaches the program: its environment is empty but for PATH, HOME (an empty
/// folder), LANG, TERM and COLUMNS.
pub(crate) struct Trib {
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    stdin: Option<Vec<u8>>,
    stdin_open: bool,
    limit: Duration,
    descriptors: Option<u64>,
    home: TempDir,
}

impl Trib {
    pub(crate) fn new() -> Self {
        Self {
            program: PathBuf::from(env!("CARGO_BIN_EXE_redis-trib")),
            args: Vec::new(),
            env: Vec::new(),
            stdin: None,
            stdin_open: false,
            limit: PATIENCE,
            descriptors: None,
            home: tempfile::Builder::new()
                .prefix("redis-trib-home-")
                .tempdir()
                .unwrap(),
        }
    }

    /// Another program, to be measured or compared in the same way.
    pub(crate) fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Calls it by another name, by a link: `redis-trib.rb`.
    pub(crate) fn called(mut self, name: &str) -> Self {
        let link = self.home.path().join(name);
        std::os::unix::fs::symlink(&self.program, &link).unwrap();
        self.program = link;
        self
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<str>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<S: AsRef<str>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.env.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What comes in on a pipe, which ends then. Without it stdin is empty from the start.
    pub(crate) fn stdin(mut self, bytes: &(impl AsRef<[u8]> + ?Sized)) -> Self {
        self.stdin = Some(bytes.as_ref().to_owned());
        self
    }

    /// A pipe on stdin that nobody writes to and nobody closes.
    pub(crate) fn stdin_open(mut self) -> Self {
        self.stdin_open = true;
        self
    }

    /// How long it may take, or, on a terminal, how long each expected text may take.
    pub(crate) fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The soft limit of open descriptors that it begins with. (The bench raises its own for a thousand fake
    /// nodes, and a child would inherit that.)
    pub(crate) fn descriptors(mut self, limit: u64) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(self) -> Finished {
        let limit = self.limit;
        self.spawn().wait_within(limit)
    }

    /// Starts it and lets it run.
    #[track_caller]
    pub(crate) fn spawn(self) -> Running {
        self.classic().spawn_as_given()
    }

    /// Starts it with the output that it has in a pipe.
    #[track_caller]
    pub(crate) fn spawn_as_given(self) -> Running {
        let mut command = match self.descriptors {
            Some(limit) => {
                let mut command = Command::new("sh");
                command
                    .args(["-c", &format!("ulimit -Sn {limit}; exec \"$0\" \"$@\"")])
                    .arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        self.surround(&mut command, "dumb");
        let piped = self.stdin.is_some() || self.stdin_open;
        command
            .stdin(if piped { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.line()));
        let mut held = child.stdin.take();
        if let Some(bytes) = &self.stdin {
            let mut pipe = held.take().unwrap();
            let bytes = bytes.clone();
            // On a thread of its own: a program that doesn't read must not stop the test. It may also end
            // without having read it all.
            thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        Running {
            line: self.line(),
            stdout: Captured::new(child.stdout.take().unwrap()),
            stderr: Captured::new(child.stderr.take().unwrap()),
            stdin: held,
            child,
            started,
            limit: self.limit,
            secrets: Secrets::of(&self.args, &self.env),
            home: self.home,
        }
    }

    /// Asks a command for the lines of redis-trib.rb, which most tests compare, unless a test chooses the output.
    fn classic(mut self) -> Self {
        let is_ours = self.program == Path::new(env!("CARGO_BIN_EXE_redis-trib"));
        let has_output = |arg: &String| {
            arg == "-o" || arg.starts_with("--output") || arg.starts_with("--cluster")
        };
        let is_command = |arg: &String| COMMANDS.contains(&arg.as_str());
        if is_ours && self.args.first().is_some_and(is_command) && !self.args.iter().any(has_output)
        {
            self.args.insert(0, "--output=classic".to_owned());
        }
        self
    }

    /// Runs it on a terminal of 120 columns.
    #[track_caller]
    pub(crate) fn terminal(self) -> Terminal {
        self.terminal_of("exec \"$0\" \"$@\"")
    }

    /// Runs it on a terminal of 120 columns by these lines of a shell, in which `"$0" "$@"` is the command.
    #[track_caller]
    pub(crate) fn terminal_of(self, lines: &str) -> Terminal {
        // The pseudo-terminal comes without a size.
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("stty cols {COLUMNS} rows 40; {lines}")])
            .arg(&self.program);
        self.surround(&mut command, "xterm-256color");
        let limit = u64::try_from(self.limit.as_millis()).ok();
        let session = rexpect::session::spawn_command(command, limit)
            .unwrap_or_else(|error| panic!("{}: {error}", self.line()));
        Terminal {
            line: self.line(),
            session,
            shown: String::new(),
            started: Instant::now(),
            limit: self.limit,
            secrets: Secrets::of(&self.args, &self.env),
            home: self.home,
        }
    }

    /// Runs it on a terminal of 120 columns whose connection may be lost, as the leader of a session.
    #[track_caller]
    pub(crate) fn remote(self) -> Remote {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let master = posix_openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let terminal = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(ptsname_r(&master).unwrap())
            .unwrap();
        let mut command = Command::new("setsid");
        let lines = format!("stty cols {COLUMNS} rows 40; exec \"$0\" \"$@\"");
        command
            .args(["--ctty", "sh", "-c", &lines])
            .arg(&self.program)
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal.try_clone().unwrap())
            .stderr(terminal);
        self.surround(&mut command, "xterm-256color");
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.line()));
        Remote {
            line: self.line(),
            child,
            connection: Some(Connection::new(master)),
            _home: self.home,
        }
    }

    fn surround(&self, command: &mut Command, term: &str) {
        command.args(&self.args).env_clear();
        // The last is where coverage data go.
        for kept in ["PATH", "TMPDIR", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
            .env("HOME", self.home.path())
            .env("LANG", "C.UTF-8")
            .env("TERM", term)
            .env("COLUMNS", COLUMNS.to_string())
            .envs(self.env.iter().map(|(name, value)| (name, value)));
    }

    fn line(&self) -> String {
        let name = self
            .program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        format!("{name} {}", self.args.join(" "))
    }
}

/// What a pipe has brought so far, read by a thread.
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Captured {
    fn new(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let shared = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                shared.lock().unwrap().extend_from_slice(&chunk[..count]);
            }
        });
        Self { bytes, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }
}

/// A program at work. It is killed when this is dropped.
pub(crate) struct Running {
    line: String,
    child: Child,
    stdout: Captured,
    stderr: Captured,
    stdin: Option<std::process::ChildStdin>,
    started: Instant,
    limit: Duration,
    secrets: Secrets,
    home: TempDir,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).expect("a program that still runs");
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The end of what comes in on its pipe (`stdin_open`).
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// What it has printed yet.
    pub(crate) fn stdout_so_far(&self) -> String {
        self.stdout.so_far()
    }

    /// Until this text stands on stdout.
    #[track_caller]
    pub(crate) fn wait_stdout(&self, text: &str) {
        self.wait_text("stdout", text, &self.stdout);
    }

    /// Until this text stands on stderr.
    #[track_caller]
    pub(crate) fn wait_stderr(&self, text: &str) {
        self.wait_text("stderr", text, &self.stderr);
    }

    #[track_caller]
    fn wait_text(&self, name: &str, text: &str, captured: &Captured) {
        until(
            &format!("{text:?} on {name} of `{}`", self.line),
            self.limit,
            || {
                if captured.so_far().contains(text) {
                    Ok(())
                } else {
                    Err(self.so_far())
                }
            },
        );
    }

    fn so_far(&self) -> String {
        format!(
            "\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout.so_far(),
            self.stderr.so_far()
        )
    }

    /// Until it ends, for as long as its timeout says.
    #[track_caller]
    pub(crate) fn wait(self) -> Finished {
        let limit = self.limit;
        self.wait_within(limit)
    }

    #[track_caller]
    pub(crate) fn wait_within(mut self, limit: Duration) -> Finished {
        let waiting = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            let waited = waiting.elapsed();
            if waited >= limit {
                panic!("`{}` still ran after {limit:?}{}", self.line, self.so_far());
            }
            let pause = waited / 32;
            thread::sleep(pause.clamp(Duration::from_millis(2), Duration::from_millis(15)));
        };
        let elapsed = self.started.elapsed();
        // The pipes end with the program, unless it left a child behind that holds them.
        until(
            &format!("the pipes of `{}` to end", self.line),
            limit,
            || {
                if self.stdout.reader.is_finished() && self.stderr.reader.is_finished() {
                    Ok(())
                } else {
                    Err("somebody holds them open".to_owned())
                }
            },
        );
        let (stdout, stderr) = (self.stdout.so_far(), self.stderr.so_far());
        self.secrets
            .assert_kept(&self.line, &[&stdout, &stderr], self.home.path());
        Finished {
            line: self.line.clone(),
            status: status.into(),
            stdout,
            stderr,
            elapsed,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Status(i32),
    Signal(i32),
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Status(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => panic!("neither a status nor a signal: {status:?}"),
        }
    }
}

/// A program that has ended. Every assertion returns it; one that fails shows all of it.
pub(crate) struct Finished {
    line: String,
    pub(crate) status: Ended,
    /// On a terminal: all that was shown, with its escape sequences.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) elapsed: Duration,
}

impl Finished {
    #[track_caller]
    pub(crate) fn status(self, code: i32) -> Self {
        let passed = self.status == Ended::Status(code);
        ran::note(&self.line, code, passed);
        self.demand(passed, &format!("status {code}"));
        self
    }

    /// It died of this signal, instead of ending by itself.
    #[track_caller]
    pub(crate) fn killed_by(self, signal: Signal) -> Self {
        self.demand(
            self.status == Ended::Signal(signal as i32),
            &format!("an end by {signal}"),
        );
        self
    }

    #[track_caller]
    pub(crate) fn stdout_has(self, text: &str) -> Self {
        self.demand(self.stdout.contains(text), &format!("{text:?} on stdout"));
        self
    }

    #[track_caller]
    pub(crate) fn stdout_lacks(self, text: &str) -> Self {
        self.demand(
            !self.stdout.contains(text),
            &format!("no {text:?} on stdout"),
        );
        self
    }

    #[track_caller]
    pub(crate) fn stdout_is(self, text: &str) -> Self {
        self.demand(self.stdout == text, &format!("exactly {text:?} on stdout"));
        self
    }

    #[track_caller]
    pub(crate) fn stdout_empty(self) -> Self {
        self.demand(self.stdout.is_empty(), "nothing on stdout");
        self
    }

    #[track_caller]
    pub(crate) fn stderr_has(self, text: &str) -> Self {
        self.demand(self.stderr.contains(text), &format!("{text:?} on stderr"));
        self
    }

    #[track_caller]
    pub(crate) fn stderr_lacks(self, text: &str) -> Self {
        self.demand(
            !self.stderr.contains(text),
            &format!("no {text:?} on stderr"),
        );
        self
    }

    #[track_caller]
    pub(crate) fn stderr_empty(self) -> Self {
        self.demand(self.stderr.is_empty(), "nothing on stderr");
        self
    }

    /// It took no longer than this.
    #[track_caller]
    pub(crate) fn within(self, limit: Duration) -> Self {
        self.demand(
            self.elapsed <= limit,
            &format!("an end within {limit:?}, not after {:?}", self.elapsed),
        );
        self
    }

    /// Stdout as one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not JSON ({error})\n{}", self.all()))
    }

    /// Stdout as one JSON object a line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{line:?} is not JSON ({error})\n{}", self.all()))
        };
        self.stdout.lines().map(parse).collect()
    }

    /// What a reader of the terminal saw: stdout without colours and other escape sequences.
    pub(crate) fn screen(&self) -> String {
        console::strip_ansi_codes(&self.stdout).replace('\r', "")
    }

    #[track_caller]
    fn demand(&self, holds: bool, wanted: &str) {
        assert!(holds, "wanted {wanted}\n{}", self.all());
    }

    fn all(&self) -> String {
        let mut text = format!(
            "$ {}\n{:?} after {:?}\n",
            self.line, self.status, self.elapsed
        );
        let _ = write!(
            text,
            "--- stdout\n{}\n--- stderr\n{}",
            self.stdout, self.stderr
        );
        text
    }
}

/// A program on a terminal. It is killed when this is dropped.
pub(crate) struct Terminal {
    line: String,
    session: PtySession,
    shown: String,
    started: Instant,
    limit: Duration,
    secrets: Secrets,
    home: TempDir,
}

impl Terminal {
    /// Until this text is shown, after what was expected before.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) -> &mut Self {
        match self.session.exp_string(&to_bytes_as_chars(text)) {
            Ok(before) => {
                self.shown.push_str(&from_bytes_as_chars(&before));
                self.shown.push_str(text);
                self
            }
            Err(error) => panic!(
                "`{}` did not show {text:?}: {error}\nbefore:\n{}",
                self.line, self.shown
            ),
        }
    }

    #[track_caller]
    pub(crate) fn send_line(&mut self, line: &str) -> &mut Self {
        self.session.send_line(line).unwrap();
        self
    }

    /// Keys without Enter.
    #[track_caller]
    pub(crate) fn send(&mut self, keys: &str) -> &mut Self {
        self.session.send(keys).unwrap();
        self.session.flush().unwrap();
        self
    }

    /// `control('c')` is Ctrl-C.
    #[track_caller]
    pub(crate) fn control(&mut self, key: char) -> &mut Self {
        self.session.send_control(key).unwrap();
        self
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> &mut Self {
        self.session.process_mut().signal(signal).unwrap();
        self
    }

    /// All that was shown until the last expected text, with its escape sequences.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Until it ends. Both streams are on the screen, that is, in `stdout`.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Finished {
        match self.session.exp_eof() {
            Ok(rest) => self.shown.push_str(&from_bytes_as_chars(&rest)),
            Err(error) => panic!(
                "`{}` did not end: {error}\nbefore:\n{}",
                self.line, self.shown
            ),
        }
        let status = until(
            &format!("`{}` to end", self.line),
            self.limit,
            || match self.session.process().status() {
                Some(WaitStatus::Exited(_, code)) => Ok(Ended::Status(code)),
                Some(WaitStatus::Signaled(_, signal, _)) => Ok(Ended::Signal(signal as i32)),
                other => Err(format!("{other:?}")),
            },
        );
        self.secrets
            .assert_kept(&self.line, &[&self.shown], self.home.path());
        Finished {
            line: self.line.clone(),
            status,
            stdout: std::mem::take(&mut self.shown),
            stderr: String::new(),
            elapsed: self.started.elapsed(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // rexpect's own way is SIGTERM, which a stopped or hanging program survives for a long time. What has
        // been waited for already must not be signalled: its number may be another's by now.
        if let Some(WaitStatus::StillAlive) = self.session.process().status() {
            let _ = self.session.process_mut().signal(Signal::SIGKILL);
        }
    }
}

/// A program on a terminal whose connection may be lost. It is killed when this is dropped.
pub(crate) struct Remote {
    line: String,
    child: Child,
    connection: Option<Connection>,
    _home: TempDir,
}

impl Remote {
    /// Until this text is shown.
    #[track_caller]
    pub(crate) fn expect(&self, text: &str) {
        let shown = &self.connection.as_ref().unwrap().shown;
        until(&format!("{text:?} on the terminal"), PATIENCE, || {
            let shown = String::from_utf8_lossy(&shown.lock().unwrap()).into_owned();
            shown.contains(text).then_some(()).ok_or(shown)
        });
    }

    /// Loses the connection; returns the exit code of the program, which goes on to its end.
    #[track_caller]
    pub(crate) fn hang_up(mut self) -> Option<i32> {
        self.connection = None;
        let status = until(&format!("`{}` to end", self.line), PATIENCE, || {
            let ended = self.child.try_wait().unwrap();
            ended.ok_or("it runs".to_owned())
        });
        status.code()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other end of a terminal, which a thread reads. The terminal is gone when this is dropped.
struct Connection {
    shown: Arc<Mutex<Vec<u8>>>,
    is_lost: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Connection {
    fn new(mut master: PtyMaster) -> Self {
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let is_lost = Arc::<AtomicBool>::default();
        let (read, lost) = (Arc::clone(&shown), Arc::clone(&is_lost));
        let reader = thread::spawn(move || {
            let mut chunk = [0; 8192];
            while !lost.load(Ordering::Relaxed) {
                match master.read(&mut chunk) {
                    Ok(count @ 1..) => read.lock().unwrap().extend_from_slice(&chunk[..count]),
                    // Nothing yet, or the program has ended.
                    _ => thread::sleep(Duration::from_millis(10)),
                }
            }
        });
        Self {
            shown,
            is_lost,
            reader: Some(reader),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.is_lost.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }
}

// rexpect takes each byte for a character; so do we on the way in and out, and what is not ASCII stays whole.

fn to_bytes_as_chars(text: &str) -> String {
    text.bytes().map(char::from).collect()
}

fn from_bytes_as_chars(text: &str) -> String {
    let bytes: Vec<u8> = text
        .chars()
        .filter_map(|char| u8::try_from(char).ok())
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
