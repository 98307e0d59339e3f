//! Jobs of the servers that are under way before we begin: a redis-trib that was killed leaves its
//! own to end by themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tokio::task::JoinSet;

use super::args::MoveArgs;
use super::cluster::{Cluster, healthy};
use crate::client::{ClientError, Side, SlotJob};
use crate::cluster::node::NodeId;
use crate::cluster::parse::{Product, Version};
use crate::commands::Stop;
use crate::commands::session::Session;
use crate::connections::{Connections, Target};
use crate::ui::Ui;

/// How long jobs may go on that somebody else began.
const WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at them.
const PAUSE: Duration = Duration::from_millis(200);

/// A job, and the node that can call it off.
struct UnderWay {
    leader: NodeId,
    product: Product,
    job: SlotJob,
}

/// The cluster once no job of its servers is under way: until then nobody knows who owns what it
/// moves. With --dry-run it is only told of.
pub(in crate::commands) async fn at_rest(
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
    cluster: Cluster,
) -> Result<Cluster, Stop> {
    match ended(session, ui, &cluster, args.dry_run).await? {
        Waited::No => Ok(cluster),
        Waited::ForThem => healthy(session).await,
    }
}

/// Whether jobs were waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) enum Waited {
    /// There were none, or they were only told of.
    No,
    /// What was seen before is no longer so.
    ForThem,
}

/// Waits for the jobs of the servers that are under way, or tells of them only.
pub(in crate::commands) async fn ended(
    session: &Session,
    ui: &Ui,
    cluster: &Cluster,
    dry_run: bool,
) -> Result<Waited, Stop> {
    let found = under_way(session, cluster).await;
    if found.is_empty() {
        return Ok(Waited::No);
    }
    for one in &found {
        let end = |id: Option<NodeId>| id.map_or_else(|| "?".to_string(), |id| cluster.name(id));
        ui.hint(&format!(
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
        if started.elapsed() >= WITHIN {
            let command = match one.product {
                Product::Valkey => "CLUSTER CANCELSLOTMIGRATIONS".to_string(),
                Product::Redis => format!("CLUSTER MIGRATION CANCEL ID {}", one.job.id),
            };
            let said = match one.job.message.as_str() {
                "" => String::new(),
                said => format!("; it says: {said}"),
            };
            return Err(Stop::refused(anyhow!(
                "the job that moves slots {} does not end within {} s ({}{said}): wait longer, or \
                 call it off on {} with {command}; nothing was changed",
                one.job.slots,
                WITHIN.as_secs(),
                one.job.state,
                cluster.name(one.leader)
            )));
        }
    }
}

/// The jobs of all masters, each once: told by the node that leads it.
async fn under_way(session: &Session, cluster: &Cluster) -> Vec<UnderWay> {
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
            let jobs = jobs_of(&connections, &target, version).await;
            let lead = leading_side(version.product);
            let running = jobs.unwrap_or_default().into_iter();
            let running = running.filter(|job| job.end.is_none() && job.side == lead);
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

/// Who begins a job, and calls it off.
fn leading_side(product: Product) -> Side {
    match product {
        Product::Valkey => Side::Source,
        Product::Redis => Side::Target,
    }
}

async fn jobs_of(
    connections: &Connections,
    target: &Target,
    version: Version,
) -> Result<Vec<SlotJob>, ClientError> {
    let first = match version.product {
        Product::Valkey => [9, 0, 0],
        Product::Redis => [8, 4, 0],
    };
    if version.numbers < first {
        return Ok(Vec::new());
    }
    let client = connections.client(target).await?;
    match version.product {
        Product::Valkey => client.cluster_getslotmigrations().await,
        Product::Redis => client.cluster_migration_status().await,
    }
}
