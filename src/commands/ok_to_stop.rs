//! `redis-trib ok-to-stop NODE ID…`: whether nodes can be stopped now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::change::Global;
use crate::change::legacy::Access;
use crate::cluster::health::Code;
use crate::cluster::node::{NodeId, Role};
use crate::cluster::ok_to_stop::{Reason, StopCandidate, reasons};
use crate::cluster::parse::MasterLink;
use crate::cluster::slot::SlotSet;
use crate::exit_code::ExitCode;
use crate::seed::Seed;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::{CommandResult, Stop};
use crate::ui::{Objection, OkToStopView, Ui};

/// Arguments of `ok-to-stop`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 0: every slot keeps a server (a replica in sync takes over from a \
    master), a majority\nof masters stays, and no master loses its last copy. Exit code 3: it is not \
    so, and the reasons\nare on standard output. For rolling restarts and preStop hooks.\n\nExamples:\n  \
    redis-trib ok-to-stop 10.0.0.3 8fabdaed\n  \
    until redis-trib ok-to-stop 127.0.0.1 127.0.0.1:6379 --quiet; do sleep 5; done"
)]
pub struct Args {
    /// A node of the cluster; it may be one of those that would be stopped.
    #[arg(value_name = "NODE")]
    node: Seed,
    /// The nodes that would be stopped, all together: ids, beginnings of ids, or addresses.
    #[arg(required = true, num_args = 1.., value_name = "ID")]
    ids: Vec<String>,
}

/// Judges whether nodes can be stopped.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let seed = std::slice::from_ref(&args.node);
    let session = crate::change::legacy::open(global, ui, seed, Access::Read).await?;
    let cluster = ClusterState::settled(&session).await?;
    let observation = &cluster.diagnosis.observation;
    let stopping: BTreeSet<NodeId> = args
        .ids
        .iter()
        .map(|name| observation.find(name).map_err(Stop::refused))
        .collect::<Result<_, _>>()?;
    let stubborn = stubborn(&session, &cluster, &stopping).await;
    let members = members(&cluster, &stubborn);
    let mut objections: Vec<Objection> = reasons(&members, &stopping)
        .iter()
        .map(|reason| objection(&cluster, reason))
        .collect();
    let differing = cluster.diagnosis.findings.iter();
    objections.extend(
        differing
            .filter(|finding| matches!(finding.code, Code::ViewsDiffer | Code::SlotsContested))
            .map(|finding| Objection {
                code: finding.code.word(),
                message: finding.message.clone(),
                slots: finding.slots.clone(),
            }),
    );
    let view = OkToStopView {
        stopping: stopping
            .iter()
            .map(|id| crate::state::name(&cluster.diagnosis, *id))
            .collect(),
        objections,
    };
    ui.stopping(&view)?;
    Ok(match view.objections.is_empty() {
        true => ExitCode::Done,
        false => ExitCode::Refused,
    })
}

fn members(cluster: &ClusterState, stubborn: &BTreeSet<NodeId>) -> Vec<StopCandidate> {
    let topology = &cluster.diagnosis.topology;
    let mut open: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
    for (member, slot) in topology.open_slots() {
        if member.role == Role::Master {
            open.entry(member.id).or_default().insert(slot.slot);
            open.entry(slot.peer).or_default().insert(slot.slot);
        }
    }
    topology
        .members
        .values()
        .map(|member| {
            let node = cluster.diagnosis.observation.nodes.get(&member.id);
            let report = node.and_then(|node| node.report());
            let serves = report.is_some_and(|report| report.cluster.ok && !report.info.loading);
            let link = report.and_then(|report| report.info.master_link);
            StopCandidate {
                id: member.id,
                role: member.role,
                master: member.master,
                slots: member.slots.clone(),
                open: open.remove(&member.id).unwrap_or_default(),
                is_up: serves && !member.peer_status.is_lost(),
                in_sync: link == Some(MasterLink::Up),
                takes_over: !stubborn.contains(&member.id),
            }
        })
        .collect()
}

/// Replicas of nodes that would be stopped that were told never to take over. Where CONFIG is denied
/// they are taken to have the servers' default, and do.
async fn stubborn(
    session: &Session,
    cluster: &ClusterState,
    stopping: &BTreeSet<NodeId>,
) -> BTreeSet<NodeId> {
    // The first from Redis 5 on, the second until Redis 6.2.
    const NAMES: [&str; 2] = ["cluster-replica-no-failover", "cluster-slave-no-failover"];
    let mut asking = JoinSet::new();
    for (node, _) in cluster.diagnosis.observation.reports() {
        let member = cluster.diagnosis.topology.members.get(&node.id);
        let follows = member.and_then(|member| member.master);
        if let Some(target) = cluster.reach.get(&node.id).cloned()
            && follows.is_some_and(|master| stopping.contains(&master))
        {
            let connections = Arc::clone(&session.connections);
            let id = node.id;
            asking.spawn(async move {
                let values = async {
                    connections
                        .temporary(&target)
                        .await?
                        .config_get(&NAMES)
                        .await
                };
                let values = values.await.unwrap_or_default();
                (id, values.values().any(|value| value == "yes"))
            });
        }
    }
    let told = asking.join_all().await.into_iter();
    told.filter_map(|(id, never)| never.then_some(id)).collect()
}

fn objection(cluster: &ClusterState, reason: &Reason) -> Objection {
    let name = |id: NodeId| cluster.name(id);
    let message = match reason {
        Reason::Unserved(slots) => format!("nobody serves slots {slots} as it is"),
        Reason::NoSuccessor { master, slots } => format!(
            "{} serves slots {slots}, and has no replica in sync that would take over",
            name(*master)
        ),
        Reason::NoMajority { left, of } => {
            format!("only {left} of {of} masters would be left: no majority to elect a successor")
        }
        Reason::LastCopy { master, replicas } => {
            let replicas: Vec<String> = replicas.iter().map(|id| name(*id)).collect();
            format!(
                "{} would be left without a copy in sync: there is none but {}",
                name(*master),
                replicas.join(", ")
            )
        }
        Reason::Open { master, slots } => format!(
            "slots {slots} are on their way from or to {}: let that be finished first",
            name(*master)
        ),
    };
    Objection {
        code: reason.word(),
        message,
        slots: reason.slots(),
    }
}
