//! ASM tasks that run before we begin: the tasks of a redis-trib that was killed continue without it.

use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::client::AsmTask;
use crate::cluster::node::NodeId;
use crate::cluster::parse::Product;
use crate::discover;
use crate::session::Session;
use crate::shell::{cancel_task, redis_cli};
use crate::state::{ClusterState, healthy};
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
    if found.is_empty() {
        return Ok(Waited::No);
    }
    for one in &found {
        let end = |id: Option<NodeId>| id.map_or_else(|| "?".to_string(), |id| cluster.name(id));
        session.events.hint(format!(
            "an ASM task moves slots {} from {} to {} ({}){}",
            one.task.slots,
            end(one.task.source),
            end(one.task.target),
            one.task.state,
            if dry_run {
                ""
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
            return Ok(Waited::ForThem);
        };
        let is_hopeless =
            |one: &&RunningTask| one.task.state == "failed" && one.task.retries >= HOPELESS;
        let hopeless = left.iter().find(is_hopeless);
        if let Some(one) = hopeless.or((started.elapsed() >= WITHIN).then_some(one)) {
            let cancel = cancel_task(one.product, &one.task.id);
            let command = match cluster.reach.get(&one.leader) {
                Some(target) => redis_cli(&target.addr, &cancel),
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
