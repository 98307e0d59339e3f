//! The command that restarts a node (`--each CMD`).
//!
//! It runs through the shell, in a process group of its own: Ctrl-C stops redis-trib between two nodes and not a command
//! half-way, and a command that takes too long is ended with all that it has started.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::text::clean;
use crate::event::{Event, Events};

/// The longest line of output that is shown.
const LONGEST_LINE: u64 = 4096;

/// How long output is read after the command has ended: what it has started may keep the pipe open for ever.
const LAST_OUTPUT: Duration = Duration::from_millis(200);

/// How long a command that was told to end (SIGTERM) has until it is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Variables that hold passwords for redis-cli and valkey-cli, and for the containers of docker/ (`auth`).
const SECRETS: [&str; 3] = ["REDISCLI_AUTH", "VALKEYCLI_AUTH", "auth"];

/// What a command is told about its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HookNode {
    /// Its id.
    pub(crate) id: NodeId,
    /// The address at which redis-trib reaches it.
    pub(crate) addr: Addr,
    /// Its role now.
    pub(crate) role: Role,
    /// Its zone; empty if it is not known.
    pub(crate) zone: String,
}

impl HookNode {
    /// The first of its values that a careless command line would not survive: nodes announce their names themselves.
    pub(crate) fn refused(&self) -> Option<String> {
        let values = [("host", self.addr.host()), ("zone", self.zone.as_str())];
        let bad = values.into_iter().find(|(_, value)| !is_plain(value));
        bad.map(|(what, value)| format!("its {what} {:?}", clean(value, 255)))
    }

    fn variables(&self) -> [(&'static str, String); 6] {
        [
            ("REDIS_TRIB_ADDR", self.addr.to_string()),
            ("REDIS_TRIB_HOST", self.addr.host().to_string()),
            ("REDIS_TRIB_PORT", self.addr.port().to_string()),
            ("REDIS_TRIB_ID", self.id.to_string()),
            ("REDIS_TRIB_ROLE", self.role.word().to_string()),
            ("REDIS_TRIB_ZONE", self.zone.clone()),
        ]
    }
}

/// Whether a value has only characters of `[A-Za-z0-9.:_-]` and is no option.
fn is_plain(value: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ".:_-".contains(c);
    !value.starts_with('-') && value.chars().all(is_allowed)
}

/// Runs the command for one node. The error says why it failed.
pub(crate) async fn run(
    command: &str,
    node: &HookNode,
    within: Duration,
    events: &Events,
) -> Result<(), String> {
    let mut line = Command::new("sh");
    line.args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .envs(node.variables());
    for secret in SECRETS {
        line.env_remove(secret);
    }
    let child = line
        .spawn()
        .map_err(|error| format!("sh can't be started: {error}"))?;
    let mut running = Running(child);
    let last = Arc::<Mutex<Option<String>>>::default();
    let readers = [
        tokio::spawn(read(
            running.0.stdout.take(),
            node.clone(),
            events.clone(),
            Arc::clone(&last),
        )),
        tokio::spawn(read(
            running.0.stderr.take(),
            node.clone(),
            events.clone(),
            Arc::clone(&last),
        )),
    ];
    let ended = timeout(within, running.0.wait()).await;
    if ended.is_err() {
        running.end().await;
    }
    for mut reader in readers {
        if timeout(LAST_OUTPUT, &mut reader).await.is_err() {
            reader.abort();
        }
    }
    let why = match ended {
        Ok(Ok(status)) if status.success() => return Ok(()),
        Ok(Ok(status)) => failed(status),
        Ok(Err(error)) => format!("it can't be waited for: {error}"),
        Err(_) => format!(
            "it did not end within {} and was ended (--each-timeout)",
            humantime::format_duration(within)
        ),
    };
    let last = last.lock().unwrap_or_else(PoisonError::into_inner).take();
    Err(match last {
        Some(last) => format!("{why}; its last output: {last}"),
        None => why,
    })
}

fn failed(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("it ended with exit code {code}"),
        None => format!("it was ended by a signal ({status})"),
    }
}

/// Shows the lines of the output as they come. The last one is kept for the error.
async fn read(
    output: Option<impl AsyncRead + Unpin>,
    node: HookNode,
    events: Events,
    last: Arc<Mutex<Option<String>>>,
) {
    let Some(output) = output else {
        return;
    };
    let mut reader = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        let read = (&mut reader)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        let text = String::from_utf8_lossy(&line);
        let text = clean(text.trim_end(), LONGEST_LINE as usize);
        if text.is_empty() {
            continue;
        }
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.clone());
        events.send(Event::HookOutput {
            node: (node.id, node.addr.clone()),
            line: text,
        });
    }
}

/// A command under way. It is ended if nobody waits for it any more.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            // It may have ended meanwhile.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Asks the command and what it has started to end, then kills them.
    async fn end(&mut self) {
        self.signal(Signal::TERM);
        if timeout(ENDS_WITHIN, self.0.wait()).await.is_err() {
            self.signal(Signal::KILL);
            let _ = timeout(ENDS_WITHIN, self.0.wait()).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Without an id it has ended, and its group may be another one's by now.
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, zone: &str) -> HookNode {
        HookNode {
            id: "a".repeat(40).parse().unwrap(),
            addr: Addr::new(host, 7000),
            role: Role::Replica,
            zone: zone.to_string(),
        }
    }

    #[test]
    fn values_that_a_shell_could_act_on_are_refused() {
        for (host, zone) in [
            ("10.0.0.1", ""),
            ("redis-0.redis", "eu-west_1a"),
            ("fe80::1", "a:b"),
        ] {
            assert_eq!(node(host, zone).refused(), None, "{host} {zone}");
        }
        for (host, zone) in [
            ("-oProxyCommand=reboot", ""),
            ("$(reboot)", ""),
            ("a b", ""),
            ("fe80::1%eth0", ""),
            ("10.0.0.1", "a;b"),
            ("10.0.0.1", "-x"),
            ("10.0.0.1", "a\nb"),
            ("é", ""),
        ] {
            assert!(node(host, zone).refused().is_some(), "{host} {zone}");
        }
    }

    async fn said(command: &str, within: Duration) -> (Result<(), String>, Vec<String>) {
        let (events, mut heard) = Events::channel();
        let result = run(command, &node("10.0.0.1", "z"), within, &events).await;
        drop(events);
        let mut lines = Vec::new();
        while let Some(event) = heard.recv().await {
            if let Event::HookOutput { line, .. } = event {
                lines.push(line);
            }
        }
        (result, lines)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_command_knows_its_node() {
        let line = "echo $REDIS_TRIB_ADDR $REDIS_TRIB_HOST $REDIS_TRIB_PORT $REDIS_TRIB_ROLE $REDIS_TRIB_ZONE; cat";
        let (result, lines) = said(line, LONG).await;
        assert_eq!(result, Ok(()));
        assert_eq!(lines, ["10.0.0.1:7000 10.0.0.1 7000 replica z"]);
    }

    #[tokio::test]
    async fn a_command_that_fails_tells_its_last_line() {
        let (result, _) = said("echo one; echo 'two\u{1b}[31m' >&2; exit 3", LONG).await;
        let why = result.unwrap_err();
        assert!(why.starts_with("it ended with exit code 3"), "{why}");
        assert!(!why.contains('\u{1b}'), "{why}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_ended_with_its_children() {
        let within = Duration::from_millis(300);
        let began = std::time::Instant::now();
        let (result, lines) = said("sleep 60 & echo $!; wait", within).await;
        assert!(result.unwrap_err().contains("--each-timeout"));
        assert!(began.elapsed() < Duration::from_secs(5));
        let child = format!("/proc/{}/stat", lines[0]);
        let mut looks = 0;
        let ends = |text: String| text.contains(") Z ") || text.contains(") X ");
        while !std::fs::read_to_string(&child).map_or(true, ends) {
            looks += 1;
            assert!(looks < 100, "the child lives");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    #[tokio::test]
    async fn what_a_command_leaves_behind_is_not_waited_for() {
        let began = std::time::Instant::now();
        let (result, _) = said("sleep 3 & exit 0", LONG).await;
        assert_eq!(result, Ok(()));
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}
