//! Nodes leave a cluster for good: CLUSTER FORGET on every member, CLUSTER RESET on the nodes, and FORGET again.
//!
//! A member that forgets a node does not add it again for 60 s; after that it does if another member still gossips
//! about it. So FORGET goes to all members at the same time, and again after the node itself has forgotten them: RESET
//! deletes a replica's copy, which may take longer than 60 s. RESET HARD also gives the node a new id. A member that
//! missed FORGET then finds no node under the old id, and does not bring it back.
//!
//! The caller makes sure that the nodes own no slots, that no replica follows them, and that no last copy goes with them;
//! the first is checked again here.

pub(crate) mod drain;
mod execute;
mod prepare;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;

use crate::client::{ClientError, NodeClient, Reset};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::observation::Seen;
use crate::cluster::parse::EntryPool;
use crate::connections::{Connections, Target};
use crate::converge::forgotten;
use crate::event::{Event, Phase};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;

pub(crate) use execute::{DrainOptions, LeaveReport, execute};
pub(crate) use prepare::{LeavePlan, Looked, is_open, look, only_slots_forbid, prepare};
pub(crate) use request::{LeaveRequest, Unprotected};

/// How long all members may take until none of them knows the nodes any more.
pub(crate) const GONE_WITHIN: Duration = Duration::from_secs(15);

/// What happens to the servers of nodes that have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// They run on without peers. A soft reset leaves them their ids, and masters their keys, as in redis-cli.
    RunReset(Reset),
    /// SHUTDOWN after RESET HARD, as redis-trib.rb did.
    ShutDown,
}

/// How nodes left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// What failed, one line for each node; empty if all is done.
    pub(crate) troubles: Vec<String>,
}

/// Makes nodes leave. `cluster` is the state right before; nodes that do not answer are forgotten by the others only.
///
/// A signal does not stop it: it takes seconds, and the nodes would be known to some members only.
pub(crate) async fn leave(
    session: &Session,
    cluster: &ClusterState,
    leaving: &BTreeSet<NodeId>,
    afterwards: Afterwards,
) -> Left {
    let work = remove(session, cluster, leaving, afterwards);
    tokio::pin!(work);
    match session.interrupt.stops(&mut work).await {
        Ok(left) => left,
        Err(signal) => {
            session.events.warn(format!(
                "{signal}: the nodes have left in part; finishing that first, which takes some seconds"
            ));
            work.await
        }
    }
}

/// Refuses if a member would not execute FORGET. Each member is tested with an id that no node has.
pub(crate) async fn refuse_unwilling(
    session: &Session,
    cluster: &ClusterState,
    leaving: &BTreeSet<NodeId>,
) -> Result<(), Stop> {
    let stayers = stayers(cluster, leaving);
    let asking = session
        .connections
        .fan_out(stayers, |connections, (id, target)| async move {
            let told = async {
                let client = connections.client(&target).await?.for_trial();
                client.cluster_forget(NodeId::NOBODY).await
            };
            match told.await {
                Err(error) if !error.is_unknown_node() => {
                    connections.drop_client(&target);
                    Some((id, format!("was not told: {}", error.fault)))
                }
                _ => None,
            }
        });
    let unwilling: BTreeMap<NodeId, String> = asking.await.into_iter().flatten().collect();
    if unwilling.is_empty() {
        return Ok(());
    }
    Err(Stop::refused(anyhow!(
        "these members can't be told to forget a node:\n  {}\nNothing was changed.",
        lines(cluster, unwilling).join("\n  ")
    )))
}

/// Members that stay but do not answer: first those that may come back at any moment, then those that the others
/// flag as failed or that load their data set. Members without an address, or in handshake, are neither.
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
        // A node that loads its data set can't be told. It is a member, and comes back with what it knows.
        let can_not_hear = matches!(
            node.map(|node| &node.seen),
            Some(Seen::OtherNode(_) | Seen::Loading)
        );
        match peer_status.is_down() || can_not_hear {
            true => dead.push(cluster.name(member.id)),
            false => silent.push(format!(
                "{} {}",
                cluster.name(member.id),
                cluster.diagnosis.observation.why_absent(member.id)
            )),
        }
    }
    (silent, dead)
}

async fn remove(
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
        // Most likely the command is denied: no member has forgotten a node.
        return Left {
            troubles: lines(cluster, untold),
        };
    }
    let how = match afterwards {
        Afterwards::RunReset(how) => how,
        Afterwards::ShutDown => Reset::Hard,
    };
    if how == Reset::Soft {
        session.events.phase(Phase::ResetSoft);
    }
    let mut new_ids = BTreeMap::new();
    for (id, outcome) in reset(connections, cluster, leaving, how).await {
        match outcome {
            Ok(new_id) => drop(new_ids.insert(id, new_id)),
            Err(why) => drop(troubles.insert(id, why)),
        }
    }
    troubles.extend(forget(connections, &stayers, leaving).await);
    // Nodes on which FORGET failed are not waited for.
    let mut told = stayers;
    told.retain(|id, _| !troubles.contains_key(id));
    troubles.extend(forgotten(connections, told, leaving, GONE_WITHIN).await);
    for id in leaving.iter().filter(|id| !troubles.contains_key(id)) {
        session.events.send(Event::Left { node: *id });
    }
    if afterwards == Afterwards::ShutDown && !new_ids.is_empty() {
        session.events.phase(Phase::ShutDown);
        // Nodes that do not answer have no new id.
        for (id, new_id) in new_ids {
            if let Some(target) = answering(cluster, id)
                && let Err(why) = shut_down(connections, &target, new_id).await
            {
                troubles.insert(id, format!("has left, but was not shut down: {why}"));
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

/// The members that stay and answer.
fn stayers(cluster: &ClusterState, leaving: &BTreeSet<NodeId>) -> BTreeMap<NodeId, Target> {
    let nodes = cluster.diagnosis.observation.nodes.keys();
    nodes
        .filter(|id| !leaving.contains(id))
        .filter_map(|id| Some((*id, answering(cluster, *id)?)))
        .collect()
}

/// The address of a node that answered under its id.
fn answering(cluster: &ClusterState, id: NodeId) -> Option<Target> {
    let node = cluster.diagnosis.observation.nodes.get(&id)?;
    node.report()?;
    cluster.reach.get(&id).cloned()
}

/// Tells every member to forget the nodes. Returns why members do not, by member.
async fn forget(
    connections: &Arc<Connections>,
    stayers: &BTreeMap<NodeId, Target>,
    leaving: &BTreeSet<NodeId>,
) -> BTreeMap<NodeId, String> {
    let telling = connections.fan_out(stayers.clone(), |connections, (id, target)| {
        let leaving = leaving.clone();
        async move {
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
        }
    });
    let told = telling.await.into_iter();
    told.filter_map(|(id, told)| Some((id, format!("was not told: {}", told.err()?.fault))))
        .collect()
}

/// Resets the nodes that answer. Returns their new ids, or why they were not reset.
async fn reset(
    connections: &Arc<Connections>,
    cluster: &ClusterState,
    leaving: &BTreeSet<NodeId>,
    how: Reset,
) -> Vec<(NodeId, Result<NodeId, String>)> {
    let nodes = leaving.iter().filter_map(|id| {
        let target = answering(cluster, *id)?;
        let member = cluster.diagnosis.topology.members.get(id);
        let master = member
            .filter(|member| member.role == Role::Replica)
            .and_then(|member| member.master)
            .filter(|master| !leaving.contains(master))
            .and_then(|master| cluster.reach.get(&master).cloned());
        Some((*id, target, master))
    });
    let resetting = connections.fan_out(nodes, |connections, (id, target, master)| async move {
        if let Some(master) = master
            && let Err(error) = ping(&connections, &master).await
        {
            let why = format!(
                "is forgotten, and keeps its copy: its master does not answer any more ({error})"
            );
            return (id, Err(why));
        }
        (id, reset_one(&connections, &target, id, how).await)
    });
    resetting.await
}

async fn ping(connections: &Connections, target: &Target) -> Result<(), ClientError> {
    connections.client(target).await?.ping().await
}

/// Resets a node and returns its new id. Another node that answers at its address is left alone.
async fn reset_one(
    connections: &Connections,
    target: &Target,
    id: NodeId,
    how: Reset,
) -> Result<NodeId, String> {
    let failed = |why: String| {
        // The node may still be deleting its copy.
        connections.drop_client(target);
        format!("is forgotten, but was not reset: {why}")
    };
    let client = connections.client(target).await;
    let client = client.map_err(|error| failed(error.fault.to_string()))?;
    let (now, slots) = myself(&client).await.map_err(failed)?;
    if now != id {
        let addr = &target.addr;
        let short = now.short();
        return Err(failed(format!("another node, {short}, answers at {addr}")));
    }
    if slots > 0 {
        return Err("was not reset: it owns slots again".to_string());
    }
    let reset = client.cluster_reset(how).await;
    reset.map_err(|error| failed(error.fault.to_string()))?;
    // On the same connection: this id is the node's own.
    let new_id = myself(&client).await;
    Ok(new_id
        .map_err(|why| {
            connections.drop_client(target);
            format!("was reset, but its new id is not known: {why}")
        })?
        .0)
}

/// The id that a node has, and how many slots it owns.
async fn myself(client: &NodeClient) -> Result<(NodeId, usize), String> {
    let text = client.cluster_nodes().await;
    let text = text.map_err(|error| error.fault.to_string())?;
    let view = EntryPool::default()
        .view(&text)
        .map_err(|error| error.to_string())?;
    let myself = view.myself();
    Ok((myself.id, myself.slots.len()))
}

/// Shuts a node down, if it is the one that got this id when it was reset.
async fn shut_down(
    connections: &Connections,
    target: &Target,
    new_id: NodeId,
) -> Result<(), String> {
    let client = connections.client(target).await;
    let client = client.map_err(|error| error.fault.to_string())?;
    let (now, _) = myself(&client).await?;
    if now != new_id {
        let (short, addr) = (now.short(), &target.addr);
        return Err(format!("another node, {short}, answers at {addr}"));
    }
    let shutdown = client.shutdown().await;
    shutdown.map_err(|error| error.fault.to_string())
}
