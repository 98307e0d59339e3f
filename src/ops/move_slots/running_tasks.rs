//! ASM tasks that run before we begin: the tasks of a redis-trib that was killed continue without it.

use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::client::AsmTask;
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::{ClusterInfo, Product};
use crate::converge::settle::healthy;
use crate::discover;
use crate::session::Session;
use crate::shell::cancel_task;
use crate::state::ClusterState;
use crate::stop::Stop;

/// How long such tasks may take to end.
const WITHIN: Duration = Duration::from_secs(60);
/// A task that has failed so often is not waited for.
const HOPELESS: u64 = 10;
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// A task, and the node that can cancel it.
struct RunningTask {
    leader: NodeId,
    product: Product,
    task: AsmTask,
}

/// The cluster once no ASM task runs: the owner of the slots that a task moves is not known before. A dry run does
/// not wait.
pub(crate) async fn at_rest(
    session: &Session,
    cluster: ClusterState,
    dry_run: bool,
) -> Result<ClusterState, Stop> {
    match ended(session, &cluster, dry_run).await? {
        Waited::No => Ok(cluster),
        Waited::ForThem => healthy(session).await,
    }
}

/// Whether tasks were waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// There were none, or this is a dry run.
    No,
    /// They have ended; what was observed before is out of date.
    ForThem,
}

/// Reports running ASM tasks and waits until they have ended. A dry run only reports them.
pub(crate) async fn ended(
    session: &Session,
    cluster: &ClusterState,
    dry_run: bool,
) -> Result<Waited, Stop> {
    let found = running(session, cluster).await;
    let hiding = hiding_keys(cluster);
    if found.is_empty() && hiding.is_empty() {
        return Ok(Waited::No);
    }
    if found.is_empty() {
        session.events.note(format!(
            "{} imports or trims slots, and hides their keys{}",
            names(cluster, &hiding),
            if dry_run {
                ": counts of keys are lower bounds"
            } else {
                ": waiting until it ends"
            }
        ));
    }
    for one in &found {
        let end = |id: Option<NodeId>| id.map_or_else(|| "?".to_string(), |id| cluster.name(id));
        session.events.note(format!(
            "an ASM task moves slots {} from {} to {} ({}{}){}",
            one.task.slots.summary(),
            end(one.task.source),
            end(one.task.target),
            one.task.state,
            one.task
                .progress
                .map_or_else(String::new, |progress| format!(", {progress}")),
            if dry_run {
                "; counts of keys are lower bounds until it ends"
            } else {
                ": waiting until it ends"
            }
        ));
    }
    if dry_run {
        return Ok(Waited::No);
    }
    let started = Instant::now();
    loop {
        tokio::time::sleep(PAUSE).await;
        let left = running(session, cluster).await;
        let Some(one) = left.first() else {
            let hiding = still_hiding(session, cluster, &hiding).await;
            if hiding.is_empty() {
                return Ok(Waited::ForThem);
            }
            if started.elapsed() >= WITHIN {
                return Err(Stop::refused(anyhow!(
                    "{} still hides keys of slots that it imports or trims after {} s, so that they can't be counted: \
                     try again when CLUSTER INFO tells of no slot migration; nothing was changed",
                    names(cluster, &hiding),
                    WITHIN.as_secs()
                )));
            }
            continue;
        };
        let is_hopeless =
            |one: &&RunningTask| one.task.state == "failed" && one.task.retries >= HOPELESS;
        let hopeless = left.iter().find(is_hopeless);
        if let Some(one) = hopeless.or((started.elapsed() >= WITHIN).then_some(one)) {
            let cancel = cancel_task(one.product, &one.task.id);
            let command = match cluster.reach.get(&one.leader) {
                Some(target) => cluster.redis_cli(&target.addr, &cancel),
                None => cancel,
            };
            let said = match one.task.message.as_str() {
                "" => String::new(),
                said => format!("; its message: {said}"),
            };
            return Err(Stop::refused(anyhow!(
                "the ASM task that moves slots {} {} ({}{said}): wait longer, or cancel it on {}: {command}; nothing \
                 was changed",
                one.task.slots,
                match hopeless {
                    Some(one) => format!("has failed {} times", one.task.retries),
                    None => format!("did not end within {} s", WITHIN.as_secs()),
                },
                one.task.state,
                cluster.name(one.leader)
            )));
        }
    }
}

/// Masters on which COUNTKEYSINSLOT and DBSIZE hide keys.
fn hiding_keys(cluster: &ClusterState) -> Vec<NodeId> {
    let reports = cluster.diagnosis.observation.reports();
    let hiding = reports.filter(|(_, report)| {
        report.cluster.hides_keys() && report.view.myself().role == Some(Role::Master)
    });
    hiding.map(|(node, _)| node.id).collect()
}

/// Those of these nodes that hide keys still. One that does not answer is reported by what needs it.
async fn still_hiding(session: &Session, cluster: &ClusterState, nodes: &[NodeId]) -> Vec<NodeId> {
    let targets = nodes
        .iter()
        .filter_map(|id| Some((*id, cluster.reach.get(id).cloned()?)));
    let asking = session
        .connections
        .fan_out(targets, |connections, (id, target)| async move {
            let client = connections.temporary(&target).await.ok()?;
            let info = ClusterInfo::parse(&client.cluster_info().await.ok()?);
            info.hides_keys().then_some(id)
        });
    asking.await.into_iter().flatten().collect()
}

fn names(cluster: &ClusterState, nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().map(|id| cluster.name(*id)).collect();
    names.join(", ")
}

/// The running tasks of all masters, each once: reported by the node that leads it.
async fn running(session: &Session, cluster: &ClusterState) -> Vec<RunningTask> {
    let masters = cluster.diagnosis.topology.masters().filter_map(|master| {
        let node = cluster.diagnosis.observation.nodes.get(&master.id);
        let version = node.and_then(|node| node.report()?.info.version)?;
        Some((master.id, version, cluster.reach.get(&master.id).cloned()?))
    });
    let asking = session.connections.fan_out(
        masters,
        |connections, (leader, version, target)| async move {
            // A node without the command, or that denies it, has no task that we could see.
            let tasks = discover::tasks_led_by(&connections, &target, version).await;
            let tasks = tasks.unwrap_or_default().into_iter();
            let running = tasks.filter(|task| task.end.is_none());
            let product = version.product;
            running
                .map(|task| RunningTask {
                    leader,
                    product,
                    task,
                })
                .collect::<Vec<_>>()
        },
    );
    asking.await.into_iter().flatten().collect()
}
