//! `pass_command` of the configuration file: a shell command whose first line of output is the password.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use tokio::sync::oneshot;

use super::credentials::first_line;

/// A password manager writes one line.
const LONGEST: u64 = 64 << 10;

/// The command is handed over in the environment: other users see the arguments of processes, and it may hold a token.
const SCRIPT: &str =
    "command=$REDIS_TRIB_PASS_COMMAND; unset REDIS_TRIB_PASS_COMMAND; eval \"$command\"";

/// A command that is ended if nobody waits for it any more (Ctrl-C).
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended in the normal case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the command. It may ask on the terminal; errors show neither the command nor its output.
pub(super) async fn run(command: &SecretString) -> anyhow::Result<SecretSlice<u8>> {
    let child = Command::new("sh")
        .args(["-c", SCRIPT])
        .env("REDIS_TRIB_PASS_COMMAND", command.expose_secret())
        .stdout(Stdio::piped())
        .spawn()
        .context("sh can't be started")?;
    let mut running = Running(child);
    let output = running.0.stdout.take().context("it has no output")?;
    let (sender, receiver) = oneshot::channel();
    // No thread of the runtime, for the reason given at the prompts.
    std::thread::Builder::new()
        .name("pass_command".to_string())
        .spawn(move || {
            let mut bytes = Vec::new();
            let read = output.take(LONGEST).read_to_end(&mut bytes);
            let _ = sender.send(read.map(|_| SecretSlice::from(bytes)));
        })?;
    let bytes = receiver
        .await
        .map_err(|_| anyhow!("its output can't be read"))??;
    let status = loop {
        match running.0.try_wait()? {
            Some(status) => break status,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    if !status.success() {
        bail!("the command failed ({status})");
    }
    first_line(bytes.expose_secret()).context("the first line of its output is empty")
}
