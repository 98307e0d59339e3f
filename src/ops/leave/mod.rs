//! Nodes leave a cluster for good: CLUSTER FORGET on every member, CLUSTER RESET on the nodes, and
//! FORGET again.
//!
//! A member that forgets a node does not take it back for 60 s; after that it does, if any other
//! member still tells of it. So all are told side by side, and told again once the node itself has
//! forgotten them: to delete a replica's copy, as RESET does, may take longer than those 60 s. The
//! node gets a new id too (HARD): a member that could not be told finds nobody under the old one, and
//! brings nobody back.
//!
//! Whoever calls this has seen to it that the nodes own no slots, that nobody follows them, and that
//! no last copy goes with them; the first is looked at again here.

pub(crate) mod drain;
pub(crate) mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::task::JoinSet;

use crate::client::{ClientError, Reset};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::observation::Seen;
use crate::cluster::parse::EntryPool;
use crate::connections::{Connections, Target};
use crate::converge::forgotten;
use crate::event::{Event, Phase};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;

/// How long all members may take until none of them tells of the nodes any more.
pub(crate) const GONE_WITHIN: Duration = Duration::from_secs(15);

/// What becomes of the servers once they have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// They run on, empty and alone.
    Run,
    /// SHUTDOWN, as redis-trib.rb did.
    ShutDown,
}

/// How nodes left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// What went wrong, one line for each node that it went wrong with; empty when all is done.
    pub(crate) troubles: Vec<String>,
}

/// Makes nodes leave. `cluster` is what was seen right before; nodes of it that do not answer are
/// forgotten by the others, and that is all that can be done.
///
/// A signal does not stop it half-way: it is a matter of seconds, and the nodes would be half out.
pub(crate) async fn leave(
    session: &Session,
    cluster: &ClusterState,
    leaving: &BTreeSet<NodeId>,
    afterwards: Afterwards,
) -> Left {
    let work = out(session, cluster, leaving, afterwards);
    tokio::pin!(work);
    let name = tokio::select! {
        biased;
        left = &mut work => return left,
        name = session.interrupt.requested() => name,
    };
    session.events.warn(format!(
        "{name}: the nodes are half out of the cluster; this is finished first, in some seconds"
    ));
    work.await
}

/// Refuses while any member would not forget a node: each is told to forget one that nobody knows.
pub(crate) async fn refuse_unwilling(
    session: &Session,
    cluster: &ClusterState,
    leaving: &BTreeSet<NodeId>,
) -> Result<(), Stop> {
    let stayers = stayers(cluster, leaving);
    let unwilling = forget(&session.connections, &stayers, &[NodeId::NOBODY].into()).await;
    if unwilling.is_empty() {
        return Ok(());
    }
    Err(Stop::refused(anyhow!(
        "these members can't be told to forget a node:\n  {}\nNothing was changed.",
        lines(cluster, unwilling).join("\n  ")
    )))
}

/// Members that stay and can't be told: those that may come back any moment, and those that the
/// others hold for dead. Ghosts are neither.
pub(crate) fn silent_members(
    cluster: &ClusterState,
    leaving: &BTreeSet<NodeId>,
) -> (Vec<String>, Vec<String>) {
    let (mut silent, mut dead) = (Vec::new(), Vec::new());
    for member in cluster.diagnosis.topology.members.values() {
        let peer_status = member.peer_status;
        let node = cluster.diagnosis.observation.nodes.get(&member.id);
        let is_ghost =
            peer_status.handshake > 0 || matches!(node.map(|n| &n.seen), Some(Seen::NoAddress));
        if !peer_status.silent || leaving.contains(&member.id) || is_ghost {
            continue;
        }
        let is_replaced = matches!(node.map(|node| &node.seen), Some(Seen::Stranger(_)));
        match peer_status.is_down() || is_replaced {
            true => dead.push(cluster.name(member.id)),
            false => silent.push(cluster.name(member.id)),
        }
    }
    (silent, dead)
}

async fn out(
    session: &Session,
    cluster: &ClusterState,
    leaving: &BTreeSet<NodeId>,
    afterwards: Afterwards,
) -> Left {
    let connections = &session.connections;
    let stayers = stayers(cluster, leaving);
    let mut troubles: BTreeMap<NodeId, String> = BTreeMap::new();
    session.events.phase(Phase::Leave);
    let untold = forget(connections, &stayers, leaving).await;
    if untold.len() == stayers.len() && !stayers.is_empty() {
        // Denied, most likely: nobody has forgotten anything.
        return Left {
            troubles: lines(cluster, untold),
        };
    }
    for (id, outcome) in reset(connections, cluster, leaving).await {
        if let Err(why) = outcome {
            troubles.insert(id, why);
        }
    }
    troubles.extend(forget(connections, &stayers, leaving).await);
    // Those that could not be told are not waited for.
    let mut told = stayers;
    told.retain(|id, _| !troubles.contains_key(id));
    troubles.extend(forgotten(connections, told, leaving, GONE_WITHIN).await);
    for id in leaving.iter().filter(|id| !troubles.contains_key(id)) {
        session.events.send(Event::Left { node: *id });
    }
    if afterwards == Afterwards::ShutDown {
        for id in leaving {
            if let Some(target) = answering(cluster, *id)
                && !troubles.contains_key(id)
                && let Err(error) = shut_down(connections, &target).await
            {
                let why = format!("has left, but did not shut down: {}", error.fault);
                troubles.insert(*id, why);
            }
        }
    }
    Left {
        troubles: lines(cluster, troubles),
    }
}

fn lines(cluster: &ClusterState, troubles: BTreeMap<NodeId, String>) -> Vec<String> {
    troubles
        .into_iter()
        .map(|(id, why)| format!("{} {why}", cluster.name(id)))
        .collect()
}

/// The members that stay, and can be told.
fn stayers(cluster: &ClusterState, leaving: &BTreeSet<NodeId>) -> BTreeMap<NodeId, Target> {
    let nodes = cluster.diagnosis.observation.nodes.keys();
    nodes
        .filter(|id| !leaving.contains(id))
        .filter_map(|id| Some((*id, answering(cluster, *id)?)))
        .collect()
}

/// How a node is reached that answered as itself.
fn answering(cluster: &ClusterState, id: NodeId) -> Option<Target> {
    let node = cluster.diagnosis.observation.nodes.get(&id)?;
    node.report()?;
    cluster.reach.get(&id).cloned()
}

/// Tells every member, side by side; why some don't do it, by member.
async fn forget(
    connections: &Arc<Connections>,
    stayers: &BTreeMap<NodeId, Target>,
    leaving: &BTreeSet<NodeId>,
) -> BTreeMap<NodeId, String> {
    let mut telling = JoinSet::new();
    for (id, target) in stayers.clone() {
        let connections = Arc::clone(connections);
        let leaving = leaving.clone();
        telling.spawn(async move {
            let told = async {
                let client = connections.client(&target).await?;
                for gone in &leaving {
                    match client.cluster_forget(*gone).await {
                        Err(error) if error.is_unknown_node() => {}
                        other => other?,
                    }
                }
                Ok::<_, ClientError>(())
            };
            let told = told.await;
            if told.is_err() {
                // The next attempt opens a new connection.
                connections.drop_client(&target);
            }
            (id, told)
        });
    }
    let told = telling.join_all().await.into_iter();
    told.filter_map(|(id, told)| Some((id, format!("was not told: {}", told.err()?.fault))))
        .collect()
}

/// Resets those of the nodes that answer.
async fn reset(
    connections: &Arc<Connections>,
    cluster: &ClusterState,
    leaving: &BTreeSet<NodeId>,
) -> Vec<(NodeId, Result<(), String>)> {
    let mut resetting = JoinSet::new();
    for id in leaving.iter().copied() {
        let Some(target) = answering(cluster, id) else {
            continue;
        };
        let member = cluster.diagnosis.topology.members.get(&id);
        let master = member
            .filter(|member| member.role == Role::Replica)
            .and_then(|member| member.master)
            .filter(|master| !leaving.contains(master))
            .and_then(|master| cluster.reach.get(&master).cloned());
        let connections = Arc::clone(connections);
        resetting.spawn(async move {
            if let Some(master) = master
                && let Err(error) = ping(&connections, &master).await
            {
                let why = format!(
                    "is forgotten, and keeps its copy: its master does not answer any more ({error})"
                );
                return (id, Err(why));
            }
            (id, reset_one(&connections, &target, id).await)
        });
    }
    resetting.join_all().await
}

async fn ping(connections: &Connections, target: &Target) -> Result<(), ClientError> {
    connections.client(target).await?.ping().await
}

async fn reset_one(connections: &Connections, target: &Target, id: NodeId) -> Result<(), String> {
    let failed = |error: ClientError| {
        // It may be deleting its copy still.
        connections.drop_client(target);
        format!("is forgotten, but was not reset: {}", error.fault)
    };
    let client = connections.client(target).await.map_err(failed)?;
    let text = client.cluster_nodes().await.map_err(failed)?;
    let view = EntryPool::default()
        .view(&text)
        .map_err(|error| format!("is forgotten, but was not reset: {error}"))?;
    if view.myself().id != id {
        return Ok(());
    }
    if !view.myself().slots.is_empty() {
        return Err("was not reset: it has got slots meanwhile".to_string());
    }
    client.cluster_reset(Reset::Hard).await.map_err(failed)
}

async fn shut_down(connections: &Connections, target: &Target) -> Result<(), ClientError> {
    connections.client(target).await?.shutdown().await
}
