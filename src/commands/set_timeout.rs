//! `redis-trib set-timeout NODE DURATION`: cluster-node-timeout of all nodes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::task::JoinSet;

use crate::args::global::GlobalArgs;
use crate::args::values::duration;
use crate::client::{ClientError, Fault, NODE_TIMEOUT};
use crate::cluster::node::Addr;
use crate::cluster::observation::Seen;
use crate::cluster::topology::Topology;
use crate::connections::{Connections, Target};
use crate::discover;
use crate::exit_code::ExitCode;
use crate::seed::Seed;
use crate::session::{Access, LockHeld, Session};
use crate::stop::{CommandResult, Stop};
use crate::ui::{NodeName, SetTimeoutView, Timeout, TimeoutSet, Ui};

/// Arguments of `set-timeout`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A node that is silent for that long counts as failed. All nodes are told \
    (CONFIG SET), write it\nto their configuration files (CONFIG REWRITE), and are asked for it \
    again; those that could not\nwrite it are named.\n\nExample:\n  \
    redis-trib set-timeout 10.0.0.3 15s"
)]
pub struct Args {
    /// A node of the cluster.
    #[arg(value_name = "NODE")]
    node: Seed,
    /// The new cluster-node-timeout, 100ms at least.
    #[arg(value_name = "DURATION", value_parser = node_timeout)]
    timeout: Duration,
    /// Don't ask.
    #[arg(short, long)]
    yes: bool,
    /// Show what the nodes have now, and stop.
    #[arg(long)]
    dry_run: bool,
}

/// The least that redis-trib.rb and redis-cli take: below it nodes fail because somebody was busy.
const LEAST: Duration = Duration::from_millis(100);

/// Whole milliseconds, with their unit.
fn node_timeout(text: &str) -> Result<Duration, String> {
    if let Ok(number) = text.parse::<u64>() {
        return Err(format!(
            "{number} has no unit: write {number}ms, or {number}s"
        ));
    }
    let time = duration(text)?;
    if time < LEAST {
        Err("below 100ms nodes would count as failed whenever they are busy".to_string())
    } else if time.subsec_nanos() % 1_000_000 != 0 {
        Err("the servers count in whole milliseconds".to_string())
    } else {
        Ok(time)
    }
}

/// A member that is to be told.
struct Member {
    name: NodeName,
    /// How it is reached; why it is not, in words.
    reach: Result<Target, String>,
}

/// Sets the timeout.
pub async fn run(global: &GlobalArgs, ui: &Ui, args: Args) -> CommandResult {
    let outcome = set_all(global, ui, args).await;
    if let Err(stop) = &outcome {
        ui.stopped(stop.code, &stop.error)?;
    }
    outcome
}

async fn set_all(global: &GlobalArgs, ui: &Ui, args: Args) -> CommandResult {
    let intent = match args.dry_run {
        true => Access::Read,
        false => Access::Change("set-timeout"),
    };
    let session = Session::open(global, ui, std::slice::from_ref(&args.node), intent).await?;
    let members = members(&session).await?;
    ui.timeouts(&view(&session, &args, &members).await)?;
    if args.dry_run {
        ui.done(ExitCode::Done, "Dry run: nothing was changed.")?;
        return Ok(ExitCode::Done);
    }
    if !args.yes {
        let about = format!("A cluster of {} nodes.", members.len());
        crate::change::consent::consent(ui, "Set the timeout on all of them?", &about).await?;
    }
    let reachable = members
        .iter()
        .filter_map(|member| member.reach.as_ref().ok());
    if session.refuse_others(reachable).await? == LockHeld::ByNow {
        return Err(Stop::refused(anyhow!(
            "another redis-trib was at work until now: look again; nothing was changed"
        )));
    }
    let mut setting = JoinSet::new();
    for (i, member) in members.iter().enumerate() {
        let (connections, reach) = (Arc::clone(&session.connections), member.reach.clone());
        let timeout = args.timeout;
        setting.spawn(async move { (i, set(&connections, reach, timeout).await) });
    }
    let mut outcomes = setting.join_all().await;
    outcomes.sort_unstable_by_key(|(i, _)| *i);
    let mut counts = (0, 0);
    let mut failures = Vec::new();
    for (member, (_, outcome)) in members.iter().zip(outcomes) {
        match &outcome {
            TimeoutSet::Persisted => counts.0 += 1,
            TimeoutSet::InForce(_) => counts.1 += 1,
            TimeoutSet::Failed(why) => failures.push(format!("{}: {why}", member.name)),
        }
        ui.timeout_set(&member.name, &outcome)?;
    }
    let (persisted, in_force) = counts;
    let set = persisted + in_force;
    ui.timeouts_set(set, failures.len())?;
    if in_force > 0 {
        ui.warn(&format!(
            "{in_force} of {} nodes could not write it to their configuration file: they have it until \
             they are restarted",
            members.len()
        ));
    }
    if failures.is_empty() {
        let time = humantime::format_duration(args.timeout);
        let message =
            format!("{NODE_TIMEOUT} is {time} on all {set} nodes, {persisted} have it on disk");
        ui.ended(ExitCode::Done, &message)?;
        return Ok(ExitCode::Done);
    }
    let error = anyhow!(
        "{set} of {} nodes have the new timeout; these have not:\n{}\nThe same command again tries all \
         of them",
        members.len(),
        failures.join("\n")
    );
    Err(match set {
        0 => Stop::refused(error),
        _ => Stop::partial(error),
    })
}

/// All members, in the order in which people read them, ghosts left out.
async fn members(session: &Session) -> Result<Vec<Member>, Stop> {
    let found = discover::find(&session.connections, &session.targets()).await?;
    let topology = Topology::of(&found.observation);
    let mut members = Vec::new();
    for member in topology.reading_order() {
        let Some(node) = found.observation.nodes.get(&member.id) else {
            continue;
        };
        let reach = match &node.seen {
            Seen::Report(_) => found.target_of(node).ok_or("no address".to_string()),
            Seen::Silent(_) | Seen::NoAddress if member.peer_status.handshake > 0 => continue,
            Seen::NoAddress => continue,
            Seen::Silent(why) => Err(why.clone()),
            Seen::Loading => Err(Fault::Loading.to_string()),
            Seen::Stranger(other) => Err(format!("another node, {}, answers there", other.short())),
        };
        members.push(Member {
            name: NodeName {
                id: member.id,
                addr: node.addr().cloned().unwrap_or_else(|| Addr::new("?", 0)),
                zone: None,
            },
            reach,
        });
    }
    Ok(members)
}

/// What all have now.
async fn view(session: &Session, args: &Args, members: &[Member]) -> SetTimeoutView {
    let mut asking = JoinSet::new();
    for (i, member) in members.iter().enumerate() {
        let (connections, reach) = (Arc::clone(&session.connections), member.reach.clone());
        asking.spawn(async move {
            let now = match reach {
                Ok(target) => read(&connections, &target)
                    .await
                    .map_err(|e| e.fault.to_string()),
                Err(why) => Err(why),
            };
            (i, now)
        });
    }
    let mut now = asking.join_all().await;
    now.sort_unstable_by_key(|(i, _)| *i);
    let nodes = members.iter().zip(now).map(|(member, (_, now))| Timeout {
        node: member.name.clone(),
        now,
    });
    SetTimeoutView {
        wanted: args.timeout,
        nodes: nodes.collect(),
    }
}

/// What a node says that its timeout is; `None` where it does not tell.
async fn read(connections: &Connections, target: &Target) -> Result<Option<Duration>, ClientError> {
    connections.temporary(target).await?.node_timeout().await
}

/// Sets it on one node, and asks the node for it again: what timed out may have been done.
async fn set(
    connections: &Connections,
    reach: Result<Target, String>,
    timeout: Duration,
) -> TimeoutSet {
    let target = match reach {
        Ok(target) => target,
        Err(why) => return TimeoutSet::Failed(why),
    };
    let change = async {
        let client = connections.temporary(&target).await?;
        let millis = timeout.as_millis().to_string();
        client.config_set(NODE_TIMEOUT, &millis).await?;
        Ok::<_, ClientError>(client.config_rewrite().await)
    };
    let change = change.await;
    let now = read(connections, &target).await;
    match (now, change) {
        (Ok(Some(now)), Ok(rewritten)) if now == timeout => match rewritten {
            Ok(()) => TimeoutSet::Persisted,
            Err(error) => TimeoutSet::InForce(error.fault.to_string()),
        },
        (Ok(Some(now)), Err(error)) if now == timeout => {
            TimeoutSet::InForce(error.fault.to_string())
        }
        (_, Err(error)) | (Err(error), Ok(_)) => TimeoutSet::Failed(error.fault.to_string()),
        (Ok(Some(now)), Ok(_)) => TimeoutSet::Failed(format!(
            "it took the new one, and yet says {}",
            humantime::format_duration(now)
        )),
        (Ok(None), Ok(_)) => TimeoutSet::Failed("it does not tell its timeout".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_a_unit_and_are_whole_milliseconds() {
        assert_eq!(node_timeout("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(node_timeout("100ms"), Ok(LEAST));
        let bare = node_timeout("15000").unwrap_err();
        assert!(bare.contains("15000ms"), "{bare}");
        for bad in ["99ms", "0s", "1500us", "-1s", "", "15 parsecs", "2w"] {
            assert!(node_timeout(bad).is_err(), "{bad:?}");
        }
    }
}
