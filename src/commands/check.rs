//! `redis-trib check NODE`: the health of a cluster, for people, scripts and monitoring.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::session::{Intent, Session};
use super::zones::{ZoneArgs, Zones};
use super::{CommandResult, Stop, node_words};
use crate::cli::{GlobalArgs, duration};
use crate::client::{ClientError, Fault};
use crate::cluster::health::{Background, Diagnosis, Stability};
use crate::cluster::node::NodeId;
use crate::cluster::slot::{Slot, SlotSet};
use crate::connections::{Connections, Target};
use crate::discover;
use crate::exit_code::ExitCode;
use crate::ui::{CheckExtra, Ui};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib check 10.0.0.3:6379\n  \
    redis-trib check tasks.master --wait 60s        # until healthy, or exit 1\n  \
    redis-trib check 10.0.0.3 --output json | jq '.findings[].code'\n  \
    redis-trib check 127.0.0.1 --local              # a container's HEALTHCHECK")]
pub struct Args {
    /// A node of the cluster (`host port` as two words is understood too).
    #[arg(required = true, num_args = 1..=2, value_name = "NODE")]
    node: Vec<String>,
    /// Look again until the cluster is healthy, for this long at most.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    wait: Option<Duration>,
    /// Warnings count as errors.
    #[arg(long)]
    strict: bool,
    /// Write a small key on each master, read it back and delete it.
    #[arg(long)]
    probe_write: bool,
    /// Judge this one process alone: it answers, and runs in cluster mode. It need not be in a
    /// cluster, and what ails other nodes does not count.
    #[arg(long, conflicts_with_all = ["strict", "probe_write", "zone", "zone_from"])]
    local: bool,
    #[command(flatten)]
    zones: ZoneArgs,
}

/// How long a cluster on its way gets before the second look: gossip comes each second.
const SETTLE: Duration = Duration::from_millis(1100);

/// How often `--wait` looks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Judges the health of a cluster.
pub async fn run(global: &GlobalArgs, ui: &Ui, args: Args) -> CommandResult {
    let seed = node_words(&args.node)?;
    let deadline = args.wait.map(|wait| Instant::now() + wait);
    let session = loop {
        match Session::open(global, ui, std::slice::from_ref(&seed), Intent::Read).await {
            Err(stop) if stop.code == ExitCode::Unreachable && before(deadline) => {
                ui.waiting(&format!("waiting for {}: {:#}", seed.addr, stop.error));
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            other => break other?,
        }
    };
    if args.local {
        return local(ui, &session, deadline).await;
    }
    loop {
        let judged = judge(&session, &args).await;
        let good = |diagnosis: &Diagnosis| {
            diagnosis.is_healthy() && (diagnosis.findings.is_empty() || !args.strict)
        };
        match judged {
            Ok((diagnosis, zones)) if good(&diagnosis) => {
                ui.diagnosis(
                    &diagnosis,
                    &CheckExtra {
                        zones,
                        notes: Vec::new(),
                    },
                )?;
                return Ok(ExitCode::Done);
            }
            Ok((diagnosis, zones)) if !before(deadline) => {
                ui.diagnosis(
                    &diagnosis,
                    &CheckExtra {
                        zones,
                        notes: Vec::new(),
                    },
                )?;
                return Ok(ExitCode::Unhealthy);
            }
            Ok((diagnosis, _)) => {
                let first = diagnosis.findings.first();
                ui.waiting(&format!(
                    "waiting for the cluster to be healthy: {}",
                    first.map_or("", |finding| finding.message.as_str())
                ));
            }
            Err(stop) if !before(deadline) => return Err(late(stop, deadline)),
            Err(stop) => ui.waiting(&format!("waiting for {}: {:#}", seed.addr, stop.error)),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn before(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() < deadline)
}

/// A wait that ran out is exit 1, whatever it waited for.
fn late(stop: Stop, deadline: Option<Instant>) -> Stop {
    match deadline {
        Some(_) => Stop {
            code: ExitCode::Unhealthy,
            ..stop
        },
        None => stop,
    }
}

/// Looks once, and a second time where that may make a difference.
async fn judge(session: &Session, args: &Args) -> Result<(Diagnosis, Zones), Stop> {
    let connections = &session.connections;
    let targets = session.targets();
    let first = discover::observe(connections, &targets).await?;
    let nodes: Vec<_> = first
        .nodes
        .values()
        .filter_map(|node| Some((node, session.target_of(node)?)))
        .collect();
    let zones = args.zones.zones(connections, &nodes).await;
    let mut background = Background {
        stability: Stability::Unknown,
        zones,
    };
    let signature = first.signature();
    let mut diagnosis = Diagnosis::of(first, &background);
    if diagnosis.may_settle() {
        tokio::time::sleep(SETTLE).await;
        let second = discover::observe(connections, &targets).await?;
        let stability = if second.signature() == signature {
            Stability::Stuck
        } else {
            Stability::Settling
        };
        background.stability = stability;
        diagnosis = Diagnosis::of(second, &background);
    }
    if args.probe_write {
        for (id, why) in probe_write(session, &diagnosis).await {
            diagnosis.probe_failed(id, &why);
        }
    }
    Ok((diagnosis, background.zones))
}

/// Writes, reads and deletes a key on every master that serves slots.
async fn probe_write(session: &Session, diagnosis: &Diagnosis) -> Vec<(NodeId, String)> {
    let open = diagnosis.topology.open_set();
    let mut probing = JoinSet::new();
    for master in diagnosis.topology.masters() {
        let settled = master.slots.difference(&open);
        let node = diagnosis.observation.nodes.get(&master.id);
        let target = node.and_then(|node| session.target_of(node));
        let (Some(target), Some(key)) = (target, probe_key(&settled)) else {
            continue;
        };
        let connections = Arc::clone(&session.connections);
        let id = master.id;
        probing.spawn(async move {
            let probed = probe(&connections, &target, key.as_bytes()).await;
            (id, probed)
        });
    }
    let mut failed: Vec<(NodeId, String)> = probing
        .join_all()
        .await
        .into_iter()
        .filter_map(|(id, probed)| match probed {
            Ok(true) => None,
            Ok(false) => Some((id, "what was written did not come back".to_string())),
            Err(error) => Some((id, error.fault.to_string())),
        })
        .collect();
    failed.sort_unstable();
    failed
}

async fn probe(
    connections: &Connections,
    target: &Target,
    key: &[u8],
) -> Result<bool, ClientError> {
    /// If we are killed before we delete it.
    const GONE_AFTER: Duration = Duration::from_secs(60);
    const VALUE: &[u8] = b"redis-trib";
    let client = connections.errand(target).await?;
    client.set(key, VALUE, GONE_AFTER).await?;
    let read = client.get(key).await?;
    client.del(key).await?;
    Ok(read.as_deref() == Some(VALUE))
}

/// A key that lives in one of these slots, and that nobody else is likely to use.
fn probe_key(slots: &SlotSet) -> Option<String> {
    if slots.is_empty() {
        return None;
    }
    // A single slot is met once in 16384 tries on average; a million tries miss it with a chance
    // of 10^-27.
    (0..1_000_000)
        .map(|n| format!("redis-trib:probe:{}:{n}", std::process::id()))
        .find(|key| slots.contains(Slot::of_key(key.as_bytes())))
}

/// Judges one process alone. One that is reading its data from disk is alive: to kill it would make
/// it start over.
async fn local(ui: &Ui, session: &Session, deadline: Option<Instant>) -> CommandResult {
    let target = session.target();
    loop {
        let look = async { session.connections.errand(target).await?.look().await }.await;
        match look {
            Ok(_) => break,
            Err(error) if matches!(error.fault, Fault::Loading) => break,
            Err(error) if before(deadline) => ui.waiting(&format!("waiting for {error}")),
            Err(error) => return Err(late(error.into(), deadline)),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    ui.alive(&target.addr)?;
    Ok(ExitCode::Done)
}
