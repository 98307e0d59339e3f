//! `redis-trib call NODE CMD ARG…`: one command to all nodes.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use anyhow::anyhow;

use crate::args::values::duration;
use crate::change::{Approval, Change, Global};
use crate::cluster::node::Role;
use crate::exit_code::ExitCode;
use crate::ops::call::danger::{CommandName, Danger};
use crate::ops::call::{self, CallRequest, Callee, Order};
use crate::report::Called;
use crate::resp::Resp;
use crate::seed::Seed;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `call`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Everything after CMD is sent to the nodes unchanged; put options of redis-trib before \
    CMD.\nExit code 1: a node could not be reached or replied with an error.\n\nExamples:\n  \
    redis-trib call 10.0.0.3 CONFIG GET maxmemory\n  \
    redis-trib call 10.0.0.3 --only-masters DBSIZE\n  \
    redis-trib call 10.0.0.3 --only-masters --stdin FUNCTION LOAD REPLACE < library.lua\n  \
    redis-trib call 10.0.0.3 --serial --pause 5s --allow-dangerous BGREWRITEAOF"
)]
pub struct Args {
    /// A node of the cluster.
    #[arg(value_name = "NODE")]
    node: Seed,
    /// The command and its arguments, sent unchanged.
    #[arg(required = true, value_names = ["CMD", "ARG"], num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
    /// Call masters only.
    #[arg(long, conflicts_with = "only_replicas")]
    only_masters: bool,
    /// Call replicas only.
    #[arg(long)]
    only_replicas: bool,
    /// Call one node after the other; a failure does not stop the rest.
    #[arg(long)]
    serial: bool,
    /// Wait this long between two nodes.
    #[arg(long, value_name = "TIME", requires = "serial", value_parser = duration)]
    pause: Option<Duration>,
    /// Allow commands that the servers flag as dangerous or blocking.
    #[arg(long)]
    allow_dangerous: bool,
    /// Append the content of standard input as the last argument, byte for byte.
    #[arg(long)]
    stdin: bool,
    /// Replace the argument WORD with the content of standard input.
    #[arg(long, value_name = "WORD", conflicts_with = "stdin")]
    stdin_for: Option<OsString>,
}

/// The longest argument that servers take by default (`proto-max-bulk-len`).
const LONGEST: u64 = 512 << 20;

/// Sends a command to all nodes and shows each reply.
pub async fn run(global: &Global, ui: &Ui, mut args: Args) -> CommandResult {
    global.local(ui, async |_| args.read_stdin().await).await?;
    let request = args.request();
    if request.name.has_no_reply() {
        return Err(Stop::usage(anyhow!(
            "{} has no reply that call could wait for: use redis-cli on one node",
            request.name
        )));
    }
    let seeds = std::slice::from_ref(&args.node);
    let mut change = Change::open(global, ui, "call", seeds, Approval::NotNeeded).await?;
    let session = change.session();
    let callees = change.prepare(call::callees(&session, &request)).await?;
    let danger = change
        .prepare(call::danger(&session, &callees, &request))
        .await?;
    if danger == Danger::Dangerous {
        let about = format!("{} to {} nodes.", request.name, callees.len());
        change.confirm_if_protected(&about).await?;
        change.will_change_nodes();
        change.lock(&call::masters(&callees)).await?;
    }
    match ui.mode().is_old() && request.may_be_shown() {
        true => ui.calling(&request.text())?,
        false => ui.calling(&request.name.to_string())?,
    }
    let session = change.session();
    let mut failed = 0;
    let mut show = |callee: &Callee, reply: &Result<Resp, String>| {
        ui.called(&Called {
            node: &callee.name,
            reply,
        })?;
        let is_success = reply.as_ref().is_ok_and(|reply| reply.error().is_none());
        failed += usize::from(!is_success);
        Ok(())
    };
    let work = call::execute(&session, &request, &callees, &mut show);
    change.execute(work).await?;
    ui.all_called(failed, callees.len())?;
    Ok(match failed {
        0 => ExitCode::Done,
        _ => ExitCode::Unhealthy,
    })
}

impl Args {
    fn request(&self) -> CallRequest {
        let words: Vec<Vec<u8>> = self
            .command
            .iter()
            .map(|word| word.as_bytes().to_vec())
            .collect();
        CallRequest {
            name: CommandName::of(&words),
            words,
            only: match (self.only_masters, self.only_replicas) {
                (true, _) => Some(Role::Master),
                (_, true) => Some(Role::Replica),
                _ => None,
            },
            order: match self.serial {
                true => Order::Serial {
                    pause: self.pause.unwrap_or_default(),
                },
                false => Order::Parallel,
            },
            allows_danger: self.allow_dangerous,
        }
    }

    /// Puts the content of standard input into the command, if an option asks for it.
    async fn read_stdin(&mut self) -> Result<(), Stop> {
        let position = match &self.stdin_for {
            _ if self.stdin => self.command.len(),
            None => return Ok(()),
            Some(word) => self.position_of(word)?,
        };
        let reading = tokio::task::spawn_blocking(|| {
            let mut bytes = Vec::new();
            let stdin = std::io::stdin().lock();
            stdin.take(LONGEST + 1).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        });
        let read = reading.await.map_err(|error| Stop::usage(anyhow!(error)))?;
        let bytes =
            read.map_err(|error| Stop::usage(anyhow!("standard input can't be read: {error}")))?;
        if bytes.len() as u64 > LONGEST {
            return Err(Stop::usage(anyhow!(
                "standard input has more than 512 MiB, the limit of a server"
            )));
        }
        match self.command.get_mut(position) {
            Some(word) => *word = OsString::from_vec(bytes),
            None => self.command.push(OsString::from_vec(bytes)),
        }
        Ok(())
    }

    fn position_of(&self, word: &OsStr) -> Result<usize, Stop> {
        let position = self.command.iter().position(|one| one == word);
        position.ok_or_else(|| {
            Stop::usage(anyhow!(
                "--stdin-for {}: the command has no such word",
                word.to_string_lossy()
            ))
        })
    }
}
