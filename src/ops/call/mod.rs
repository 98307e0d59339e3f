//! `call`: one command to all nodes.

pub(crate) mod danger;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::mpsc;

use crate::client::Fault;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::Seen;
use crate::cluster::topology::Topology;
use crate::connections::{Connections, Target};
use crate::discover;
use crate::report::Node;
use crate::resp::Resp;
use crate::session::Session;
use crate::stop::Stop;
use danger::{CommandName, Danger};

/// A command and the nodes that it is sent to.
pub(crate) struct CallRequest {
    /// The name of the command.
    pub(crate) name: CommandName,
    /// The command with its arguments.
    pub(crate) words: Vec<Vec<u8>>,
    /// The role of the nodes; `None` for all nodes.
    pub(crate) only: Option<Role>,
    /// The order of the nodes.
    pub(crate) order: Order,
    /// Whether dangerous and blocking commands may be sent.
    pub(crate) allows_danger: bool,
}

impl CallRequest {
    /// Whether its arguments are short, and none can be a password.
    pub(crate) fn may_be_shown(&self) -> bool {
        const LONGEST: usize = 1024;
        let word = |index: usize| self.words.get(index).map(|word| word.to_ascii_lowercase());
        let has_secret = match word(0).as_deref() {
            Some(b"auth" | b"hello" | b"acl" | b"migrate" | b"eval" | b"sentinel") => true,
            Some(b"config") => {
                word(1).as_deref() == Some(b"set") && {
                    let words = self.words.iter().map(|word| word.to_ascii_lowercase());
                    let mut names = words.map(|word| String::from_utf8_lossy(&word).into_owned());
                    names.any(|name| name.contains("pass") || name.contains("auth"))
                }
            }
            _ => false,
        };
        !has_secret && self.words.iter().map(Vec::len).sum::<usize>() <= LONGEST
    }

    /// The command as it was typed.
    pub(crate) fn text(&self) -> String {
        let words = self.words.iter().map(|word| String::from_utf8_lossy(word));
        words.collect::<Vec<_>>().join(" ")
    }
}

/// The order in which nodes are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Several nodes at the same time.
    Parallel,
    /// One node after the other.
    Serial {
        /// The wait between two nodes.
        pause: Duration,
    },
}

/// A member to call.
pub(crate) struct Callee {
    /// Its name.
    pub(crate) name: Node,
    /// Its role.
    pub(crate) role: Role,
    /// How it is reached; why it is not, in words.
    reach: Result<Target, String>,
}

/// A reply; why there is none, in words.
pub(crate) type Reply = Result<Resp, String>;

/// The members of the requested role in reading order, without nodes that never joined or have no address.
pub(crate) async fn callees(session: &Session, request: &CallRequest) -> Result<Vec<Callee>, Stop> {
    let found = discover::find(&session.connections, &session.targets()).await?;
    let topology = Topology::of(&found.observation);
    let mut skipped: Vec<NodeId> = Vec::new();
    let mut callees = Vec::new();
    for member in topology.reading_order() {
        let Some(node) = found.observation.nodes.get(&member.id) else {
            continue;
        };
        let reach = match &node.seen {
            Seen::Report(_) => found.target_of(node).ok_or("no address".to_string()),
            Seen::Silent(_) | Seen::Refused(_) if member.peer_status.handshake > 0 => {
                skipped.push(member.id);
                continue;
            }
            Seen::Silent(why) => Err(why.clone()),
            Seen::Refused(refusal) => Err(refusal.said.clone()),
            Seen::Loading => Err(Fault::Loading.to_string()),
            Seen::OtherNode(other) => {
                Err(format!("another node, {}, answers there", other.short()))
            }
            Seen::NoAddress => {
                skipped.push(member.id);
                continue;
            }
        };
        if request.only.is_none_or(|role| role == member.role) {
            callees.push(Callee {
                name: Node {
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
    if !skipped.is_empty() {
        let skipped: Vec<String> = skipped.iter().map(|id| id.short()).collect();
        session.events.warn(format!(
            "nodes that never joined or have no address are skipped: {}",
            skipped.join(", ")
        ));
    }
    if callees.is_empty() {
        return Err(Stop::refused(anyhow!(
            "the cluster has no {}: there is no node to call",
            match request.only {
                Some(Role::Replica) => "replicas",
                _ => "masters",
            }
        )));
    }
    Ok(callees)
}

/// The masters among the callees.
pub(crate) fn masters(callees: &[Callee]) -> Vec<Target> {
    let masters = callees.iter().filter(|callee| callee.role == Role::Master);
    let targets = masters.filter_map(|callee| callee.reach.as_ref().ok());
    targets.cloned().collect()
}

/// The highest danger that any node reports for the command. Without the flag, dangerous commands are refused.
pub(crate) async fn danger(
    session: &Session,
    callees: &[Callee],
    request: &CallRequest,
) -> Result<Danger, Stop> {
    let name = &request.name;
    let flag = "pass --allow-dangerous before the command to send it (nothing was sent)";
    if name.is_informational() {
        return Ok(Danger::None);
    }
    let targets = callees
        .iter()
        .filter_map(|callee| callee.reach.clone().ok());
    let names = name.with_container();
    let asking = session.connections.fan_out(targets, |connections, target| {
        let names = names.clone();
        async move {
            let client = connections.temporary(&target).await?;
            client.command_flags(&names).await
        }
    });
    let mut danger = Danger::None;
    for answer in asking.await {
        match answer {
            Ok(flags) => danger = danger.max(name.danger(&flags)),
            // COMMAND INFO may be denied by ACL.
            Err(_) if request.allows_danger => danger = Danger::Dangerous,
            Err(error) => {
                return Err(Stop::not_confirmed(anyhow!(
                    "can't tell whether {name} is dangerous ({error}): {flag}"
                )));
            }
        }
    }
    let why = match danger {
        Danger::None => return Ok(danger),
        _ if request.allows_danger => return Ok(danger),
        Danger::Blocking => "may block its connection",
        Danger::Dangerous => "is flagged as dangerous by the servers",
    };
    Err(Stop::not_confirmed(anyhow!("{name} {why}: {flag}")))
}

/// Calls all nodes and shows their replies in order. Ends at the first signal.
pub(crate) async fn execute(
    session: &Session,
    request: &CallRequest,
    callees: &[Callee],
    show: &mut impl FnMut(&Callee, &Reply) -> Result<(), Stop>,
) -> Result<(), Stop> {
    match request.order {
        Order::Parallel => parallel(session, request, callees, show).await,
        Order::Serial { pause } => serial(session, request, callees, pause, show).await,
    }
}

/// Each reply is shown as soon as all replies before it are.
async fn parallel(
    session: &Session,
    request: &CallRequest,
    callees: &[Callee],
    show: &mut impl FnMut(&Callee, &Reply) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let words = Arc::new(request.words.clone());
    let (sender, mut replies) = mpsc::unbounded_channel();
    let reaches = callees
        .iter()
        .map(|callee| callee.reach.clone())
        .enumerate();
    let reaches: Vec<_> = reaches.collect();
    let calling = session
        .connections
        .fan_out(reaches, move |connections, (place, reach)| {
            let (words, sender) = (Arc::clone(&words), sender.clone());
            async move {
                let reply = call(&connections, reach, &words).await;
                // The receiver is dropped if the replies can't be shown.
                let _ = sender.send((place, reply));
            }
        });
    let mut shown = 0;
    let showing = async {
        let mut early = BTreeMap::new();
        while let Some((place, reply)) = replies.recv().await {
            early.insert(place, reply);
            while let Some(reply) = early.remove(&shown) {
                show(&callees[shown], &reply)?;
                shown += 1;
            }
        }
        Ok(())
    };
    let work = async { tokio::join!(calling, showing).1 };
    match session.interrupt.stops(work).await {
        Ok(result) => result,
        Err(signal) => Err(Stop::interrupted(anyhow!(
            "interrupted ({signal}): {shown} of {} replies were shown; the other nodes may have run the command",
            callees.len()
        ))),
    }
}

async fn serial(
    session: &Session,
    request: &CallRequest,
    callees: &[Callee],
    pause: Duration,
    show: &mut impl FnMut(&Callee, &Reply) -> Result<(), Stop>,
) -> Result<(), Stop> {
    for (place, callee) in callees.iter().enumerate() {
        if place > 0
            && let Err(signal) = session.interrupt.stops(tokio::time::sleep(pause)).await
        {
            return Err(Stop::interrupted(anyhow!(
                "interrupted ({signal}): {place} of {} nodes were called; {} is next",
                callees.len(),
                callee.name
            )));
        }
        let work = call(&session.connections, callee.reach.clone(), &request.words);
        match session.interrupt.stops(work).await {
            Ok(reply) => show(callee, &reply)?,
            Err(signal) => {
                return Err(Stop::interrupted(anyhow!(
                    "interrupted ({signal}): {place} of {} nodes were called; {} may have run the command without \
                     a reply",
                    callees.len(),
                    callee.name
                )));
            }
        }
    }
    Ok(())
}

async fn call(
    connections: &Connections,
    reach: Result<Target, String>,
    words: &[Vec<u8>],
) -> Reply {
    let target = reach?;
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let reply = async { connections.temporary(&target).await?.call(&words).await };
    match reply.await {
        // SHUTDOWN closes the connection instead of replying.
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
