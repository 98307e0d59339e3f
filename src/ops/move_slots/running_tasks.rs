//! Jobs of the servers that are under way before we begin: a redis-trib that was killed leaves its
//! own to end by themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tokio::task::JoinSet;

use crate::args::moves::MoveArgs;
use crate::change::legacy::shown;
use crate::client::AsmTask;
use crate::cluster::node::NodeId;
use crate::cluster::parse::Product;
use crate::discover;
use crate::session::Session;
use crate::shell::{cancel_task, redis_cli};
use crate::state::{ClusterState, healthy};
use crate::stop::Stop;
use crate::ui::Ui;

/// How long jobs may go on that somebody else began.
const WITHIN: Duration = Duration::from_secs(60);
/// One that its server has begun so often, and that has failed again, is not waited for.
const HOPELESS: u64 = 10;
/// Between two looks at them.
const PAUSE: Duration = Duration::from_millis(200);

/// A job, and the node that can call it off.
struct UnderWay {
    leader: NodeId,
    product: Product,
    job: AsmTask,
}

/// The cluster once no job of its servers is under way: until then nobody knows who owns what it
/// moves. With --dry-run it is only told of.
pub(crate) async fn at_rest(
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
    cluster: ClusterState,
) -> Result<ClusterState, Stop> {
    let waited = shown(ui, session, async |session| {
        ended(session, &cluster, args.dry_run).await
    });
    match waited.await? {
        Waited::No => Ok(cluster),
        Waited::ForThem => healthy(session).await,
    }
}

/// Whether jobs were waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// There were none, or they were only told of.
    No,
    /// What was seen before is no longer so.
    ForThem,
}

/// Waits for the jobs of the servers that are under way, or tells of them only.
pub(crate) async fn ended(
    session: &Session,
    cluster: &ClusterState,
    dry_run: bool,
) -> Result<Waited, Stop> {
    let found = under_way(session, cluster).await;
    if found.is_empty() {
        return Ok(Waited::No);
    }
    for one in &found {
        let end = |id: Option<NodeId>| id.map_or_else(|| "?".to_string(), |id| cluster.name(id));
        session.events.hint(format!(
            "slots {} are on their way from {} to {} in a job of the servers ({}){}",
            one.job.slots,
            end(one.job.source),
            end(one.job.target),
            one.job.state,
            if dry_run { "" } else { ": waiting for its end" }
        ));
    }
    if dry_run {
        return Ok(Waited::No);
    }
    let started = Instant::now();
    loop {
        tokio::time::sleep(PAUSE).await;
        let left = under_way(session, cluster).await;
        let Some(one) = left.first() else {
            return Ok(Waited::ForThem);
        };
        let is_hopeless =
            |one: &&UnderWay| one.job.state == "failed" && one.job.retries >= HOPELESS;
        let hopeless = left.iter().find(is_hopeless);
        if let Some(one) = hopeless.or((started.elapsed() >= WITHIN).then_some(one)) {
            let cancel = cancel_task(one.product, &one.job.id);
            let command = match cluster.reach.get(&one.leader) {
                Some(target) => redis_cli(&target.addr, &cancel),
                None => cancel,
            };
            let said = match one.job.message.as_str() {
                "" => String::new(),
                said => format!("; it says: {said}"),
            };
            return Err(Stop::refused(anyhow!(
                "the job that moves slots {} {} ({}{said}): wait longer, or call it off on {}: \
                 {command}; nothing was changed",
                one.job.slots,
                match hopeless {
                    Some(one) => format!("has failed {} times", one.job.retries),
                    None => format!("does not end within {} s", WITHIN.as_secs()),
                },
                one.job.state,
                cluster.name(one.leader)
            )));
        }
    }
}

/// The jobs of all masters, each once: told by the node that leads it.
async fn under_way(session: &Session, cluster: &ClusterState) -> Vec<UnderWay> {
    let mut asking = JoinSet::new();
    for master in cluster.diagnosis.topology.masters() {
        let node = cluster.diagnosis.observation.nodes.get(&master.id);
        let version = node.and_then(|node| node.report()?.info.version);
        let (Some(version), Some(target)) = (version, cluster.reach.get(&master.id).cloned())
        else {
            continue;
        };
        let leader = master.id;
        let connections = Arc::clone(&session.connections);
        asking.spawn(async move {
            // Who does not know the command, or may not use it, has no job that we could see.
            let jobs = discover::tasks_led_by(&connections, &target, version).await;
            let running = jobs.unwrap_or_default().into_iter();
            let running = running.filter(|job| job.end.is_none());
            let product = version.product;
            running
                .map(|job| UnderWay {
                    leader,
                    product,
                    job,
                })
                .collect::<Vec<_>>()
        });
    }
    asking.join_all().await.into_iter().flatten().collect()
}
