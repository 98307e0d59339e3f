//! `redis-trib call NODE CMD ARG…`: one command to all nodes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::task::JoinSet;

use crate::args::values::duration;
use crate::change::Global;
use crate::change::credentials::Credentials;
use crate::change::legacy::Access;
use crate::change::legacy::Signals;
use crate::client::Fault;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::Seen;
use crate::cluster::topology::Topology;
use crate::connections::{Connections, Target};
use crate::discover;
use crate::exit_code::ExitCode;
use crate::ops::call::danger::{Danger, Name};
use crate::resp::Resp;
use crate::seed::Seed;
use crate::session::Session;
use crate::stop::{CommandResult, Stop};
use crate::ui::{Called, NodeName, Ui};

/// Arguments of `call`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Everything after CMD goes to the nodes as it is; options of redis-trib come before \
    it.\nExit code 1 says that a node could not be asked, or answered with an error.\n\nExamples:\n  \
    redis-trib call 10.0.0.3 CONFIG GET maxmemory\n  \
    redis-trib call 10.0.0.3 --only-masters DBSIZE\n  \
    redis-trib call 10.0.0.3 --only-masters --stdin FUNCTION LOAD REPLACE < library.lua\n  \
    redis-trib call 10.0.0.3 --serial --pause 5s --allow-dangerous BGREWRITEAOF"
)]
pub struct Args {
    /// A node of the cluster.
    #[arg(value_name = "NODE")]
    node: Seed,
    /// The command, and its arguments as they are.
    #[arg(required = true, value_names = ["CMD", "ARG"], num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
    /// Leave replicas out.
    #[arg(long, conflicts_with = "only_replicas")]
    only_masters: bool,
    /// Leave masters out.
    #[arg(long)]
    only_replicas: bool,
    /// One node after the other, also after one has failed.
    #[arg(long)]
    serial: bool,
    /// Wait so long between two nodes.
    #[arg(long, value_name = "TIME", requires = "serial", value_parser = duration)]
    pause: Option<Duration>,
    /// Send commands that the servers flag as dangerous or blocking, too.
    #[arg(long)]
    allow_dangerous: bool,
    /// The last argument is what standard input holds, byte for byte.
    #[arg(long)]
    stdin: bool,
    /// The argument that is this word is what standard input holds.
    #[arg(long, value_name = "WORD", conflicts_with = "stdin")]
    stdin_for: Option<OsString>,
}

/// No server takes a longer argument (`proto-max-bulk-len`).
const LONGEST: u64 = 512 << 20;

/// A member that is to be asked.
struct Callee {
    name: NodeName,
    role: Role,
    /// How it is reached; why it is not, in words.
    reach: Result<Target, String>,
}

/// Sends a command to all nodes, and shows what each says to it.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let outcome = call_all(global, ui, args).await;
    if let Err(stop) = &outcome {
        ui.stopped(stop.code, &stop.error)?;
    }
    outcome
}

async fn call_all(global: &Global, ui: &Ui, mut args: Args) -> CommandResult {
    args.read_stdin().await?;
    let words: Vec<&[u8]> = args.command.iter().map(|word| word.as_bytes()).collect();
    let name = Name::of(&words);
    if name.has_no_reply() {
        return Err(Stop::usage(anyhow!(
            "{} has no reply that could be waited for: use redis-cli on one node",
            name
        )));
    }
    let seeds = [args.node.clone()];
    let credentials = Credentials::read(&global.args, ui, &seeds).await?;
    let open = |intent| crate::change::legacy::with(&credentials, global, &seeds, intent);
    let mut session = open(Access::Read).await?;
    let callees = callees(&session, &args, ui).await?;
    let danger = match name.only_tells() {
        true => Danger::None,
        false => danger(&session, &callees, &name, args.allow_dangerous).await?,
    };
    if danger != Danger::None {
        refuse_without_flag(&args, &name, danger)?;
    }
    if danger == Danger::Dangerous {
        // Now we change something, and others shall see us.
        session = open(Access::Change("call")).await?;
        let masters = callees.iter().filter(|callee| callee.role == Role::Master);
        let masters = masters.filter_map(|callee| callee.reach.as_ref().ok());
        session.refuse_others(masters).await?;
    }
    ui.calling(&name.to_string())?;
    let failed = match args.serial {
        true => one_by_one(&session, ui, &args, &callees).await?,
        false => side_by_side(&session, ui, &args, &callees).await?,
    };
    ui.all_called(failed, callees.len())?;
    Ok(match failed {
        0 => ExitCode::Done,
        _ => ExitCode::Unhealthy,
    })
}

impl Args {
    /// Puts what standard input holds where it was asked for.
    async fn read_stdin(&mut self) -> Result<(), Stop> {
        let place = match &self.stdin_for {
            _ if self.stdin => self.command.len(),
            None => return Ok(()),
            Some(word) => self.place_of(word)?,
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
                "standard input holds more than the 512 MiB that a server takes"
            )));
        }
        match self.command.get_mut(place) {
            Some(word) => *word = OsString::from_vec(bytes),
            None => self.command.push(OsString::from_vec(bytes)),
        }
        Ok(())
    }

    fn place_of(&self, word: &OsStr) -> Result<usize, Stop> {
        let place = self.command.iter().position(|one| one == word);
        place.ok_or_else(|| {
            Stop::usage(anyhow!(
                "--stdin-for {}: the command has no such word",
                word.to_string_lossy()
            ))
        })
    }
}

fn refuse_without_flag(args: &Args, name: &Name, danger: Danger) -> Result<(), Stop> {
    let what = match danger {
        _ if args.allow_dangerous => return Ok(()),
        Danger::None => return Ok(()),
        Danger::Blocking => "may block its connection",
        Danger::Dangerous => "is flagged as dangerous by the servers",
    };
    Err(Stop::not_confirmed(anyhow!(
        "{} {what}: --allow-dangerous, before the command, sends it all the same; nothing was sent",
        name
    )))
}

/// The members that are meant, in the order in which people read them. Ghosts, which have no address
/// or never joined, are none.
async fn callees(session: &Session, args: &Args, ui: &Ui) -> Result<Vec<Callee>, Stop> {
    let found = discover::find(&session.connections, &session.targets()).await?;
    let topology = Topology::of(&found.observation);
    let mut ghosts: Vec<NodeId> = Vec::new();
    let mut callees = Vec::new();
    for member in topology.reading_order() {
        let Some(node) = found.observation.nodes.get(&member.id) else {
            continue;
        };
        let reach = match &node.seen {
            Seen::Report(_) => found.target_of(node).ok_or("no address".to_string()),
            Seen::Silent(_) if member.peer_status.handshake > 0 => {
                ghosts.push(member.id);
                continue;
            }
            Seen::Silent(why) => Err(why.clone()),
            Seen::Loading => Err(Fault::Loading.to_string()),
            Seen::Stranger(other) => Err(format!("another node, {}, answers there", other.short())),
            Seen::NoAddress => {
                ghosts.push(member.id);
                continue;
            }
        };
        let is_meant = match member.role {
            Role::Master => !args.only_replicas,
            Role::Replica => !args.only_masters,
        };
        if is_meant {
            callees.push(Callee {
                name: NodeName {
                    id: member.id,
                    addr: node.addr().cloned().unwrap_or_else(|| Addr::new("?", 0)),
                    role: member.role,
                    zone: None,
                },
                role: member.role,
                reach,
            });
        }
    }
    if !ghosts.is_empty() {
        let ghosts: Vec<String> = ghosts.iter().map(|id| id.short()).collect();
        ui.warn(&format!(
            "not asked, since they never joined or have no address: {}",
            ghosts.join(", ")
        ));
    }
    if callees.is_empty() {
        return Err(Stop::refused(anyhow!(
            "the cluster has no {}: there is nobody to ask",
            if args.only_replicas {
                "replicas"
            } else {
                "masters"
            }
        )));
    }
    Ok(callees)
}

/// The worst that any of the nodes says about the command.
async fn danger(
    session: &Session,
    callees: &[Callee],
    name: &Name,
    is_allowed: bool,
) -> Result<Danger, Stop> {
    let mut asking = JoinSet::new();
    for callee in callees {
        if let Ok(target) = callee.reach.clone() {
            let connections = Arc::clone(&session.connections);
            let names = name.both();
            asking.spawn(async move {
                let client = connections.temporary(&target).await?;
                client.command_flags(&names).await
            });
        }
    }
    let mut worst = Danger::None;
    for answer in asking.join_all().await {
        match answer {
            Ok(flags) => worst = worst.max(name.danger(&flags)),
            // Not everybody may ask.
            Err(_) if is_allowed => worst = Danger::Dangerous,
            Err(error) => {
                return Err(Stop::not_confirmed(anyhow!(
                    "it can't be told whether {} is dangerous ({error}): --allow-dangerous, before \
                     the command, sends it all the same; nothing was sent",
                    name
                )));
            }
        }
    }
    Ok(worst)
}

/// Shown in order, each as soon as all before it have answered.
async fn side_by_side(
    session: &Session,
    ui: &Ui,
    args: &Args,
    callees: &[Callee],
) -> Result<usize, Stop> {
    let words = Arc::new(args.command.clone());
    let mut calling = JoinSet::new();
    for (i, callee) in callees.iter().enumerate() {
        let reach = callee.reach.clone();
        let connections = Arc::clone(&session.connections);
        let words = Arc::clone(&words);
        calling.spawn(async move { (i, call(&connections, reach, &words).await) });
    }
    let mut failed = 0;
    let mut early = BTreeMap::new();
    let mut waiting = callees.iter().enumerate();
    let mut next = waiting.next();
    while let Some(Ok((i, reply))) = calling.join_next().await {
        early.insert(i, reply);
        while let Some((i, callee)) = next
            && let Some(reply) = early.remove(&i)
        {
            failed += show(ui, callee, &reply)?;
            next = waiting.next();
        }
    }
    Ok(failed)
}

async fn one_by_one(
    session: &Session,
    ui: &Ui,
    args: &Args,
    callees: &[Callee],
) -> Result<usize, Stop> {
    let mut signals = Signals::listen()?;
    let mut failed = 0;
    for (i, callee) in callees.iter().enumerate() {
        let work = async {
            if let (1.., Some(pause)) = (i, args.pause) {
                tokio::time::sleep(pause).await;
            }
            call(&session.connections, callee.reach.clone(), &args.command).await
        };
        let reply = tokio::select! {
            biased;
            signal = signals.next() => {
                return Err(Stop::interrupted(anyhow!(
                    "interrupted ({signal}): {i} of {} nodes were asked; {} was next, or has just been \
                     asked",
                    callees.len(),
                    callee.name
                )));
            }
            reply = work => reply,
        };
        failed += show(ui, callee, &reply)?;
    }
    Ok(failed)
}

async fn call(
    connections: &Connections,
    reach: Result<Target, String>,
    words: &[OsString],
) -> Result<Resp, String> {
    let target = reach?;
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let reply = async { connections.temporary(&target).await?.call(&words).await };
    match reply.await {
        // It ends instead of an answer.
        Err(error) if is_shutdown(&words) && matches!(error.fault, Fault::Closed { .. }) => {
            Ok(Resp::Nil)
        }
        other => other.map_err(|error| error.fault.to_string()),
    }
}

fn is_shutdown(words: &[&[u8]]) -> bool {
    words
        .first()
        .is_some_and(|word| word.eq_ignore_ascii_case(b"SHUTDOWN"))
}

/// 1 for a reply that is none, or an error.
fn show(ui: &Ui, callee: &Callee, reply: &Result<Resp, String>) -> Result<usize, Stop> {
    ui.called(&Called {
        node: &callee.name,
        reply,
    })?;
    let is_fine = reply.as_ref().is_ok_and(|reply| reply.error().is_none());
    Ok(usize::from(!is_fine))
}
