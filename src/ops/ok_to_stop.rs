//! `ok-to-stop`: whether nodes can be stopped now.

use std::collections::BTreeSet;

use crate::cluster::health::Code;
use crate::cluster::node::NodeId;
use crate::cluster::ok_to_stop::{Reason, StopCandidate, largest, reasons};
use crate::cluster::parse::MasterLink;
use crate::report::{BlockedNodes, LargestStopView, Objection, OkToStopView};
use crate::resolve::find_member;
use crate::session::Session;
use crate::state::{ClusterState, name};
use crate::stop::Stop;

/// Looks at the cluster and collects the reasons not to stop the named nodes.
pub(crate) async fn check(session: &Session, names: &[String]) -> Result<OkToStopView, Stop> {
    let cluster = ClusterState::settled(session).await?;
    let stopping = named(&cluster, names)?;
    let no_failover = without_failover(session, &cluster, &stopping).await;
    let members = members(&cluster, &no_failover);
    let mut objections = objections(&cluster, &reasons(&members, &stopping));
    objections.extend(disagreements(&cluster));
    let names = stopping.iter().map(|id| name(&cluster.diagnosis, *id));
    Ok(OkToStopView {
        stopping: names.collect(),
        objections,
    })
}

/// Looks at the cluster and finds the largest set of the named nodes that can be stopped together; without names, of all
/// nodes that are up.
pub(crate) async fn largest_set(
    session: &Session,
    names: &[String],
) -> Result<LargestStopView, Stop> {
    let cluster = ClusterState::settled(session).await?;
    let mut candidates = named(&cluster, names)?;
    if names.is_empty() {
        let members = members(&cluster, &BTreeSet::new());
        let up = members.iter().filter(|member| member.is_up);
        candidates.extend(up.map(|member| member.id));
    }
    let no_failover = without_failover(session, &cluster, &candidates).await;
    let found = largest(&members(&cluster, &no_failover), &candidates);
    let named = |id: NodeId| name(&cluster.diagnosis, id);
    let mut reasons = objections(&cluster, &found.reasons);
    reasons.extend(disagreements(&cluster));
    if !reasons.is_empty() {
        return Ok(LargestStopView {
            ok: false,
            node_count: 0,
            nodes: Vec::new(),
            reasons,
            blocked: Vec::new(),
        });
    }
    let mut blocked: Vec<BlockedNodes> = Vec::new();
    for (id, reasons) in &found.blocked {
        let reasons = objections(&cluster, reasons);
        match blocked.iter_mut().find(|group| group.reasons == reasons) {
            Some(group) => group.nodes.push(named(*id)),
            None => blocked.push(BlockedNodes {
                nodes: vec![named(*id)],
                reasons,
            }),
        }
    }
    let order = cluster.diagnosis.topology.reading_order();
    let chosen = order
        .iter()
        .filter(|member| found.stopping.contains(&member.id));
    Ok(LargestStopView {
        ok: !found.stopping.is_empty(),
        node_count: found.stopping.len(),
        nodes: chosen.map(|member| named(member.id)).collect(),
        reasons,
        blocked,
    })
}

fn named(cluster: &ClusterState, names: &[String]) -> Result<BTreeSet<NodeId>, Stop> {
    let observation = &cluster.diagnosis.observation;
    let found = names.iter().map(|name| find_member(observation, name));
    found.collect::<Result<_, _>>().map_err(Stop::refused)
}

fn objections(cluster: &ClusterState, reasons: &[Reason]) -> Vec<Objection> {
    reasons
        .iter()
        .map(|reason| objection(cluster, reason))
        .collect()
}

/// Nodes that disagree about slots can't be judged.
fn disagreements(cluster: &ClusterState) -> impl Iterator<Item = Objection> {
    let findings = cluster.diagnosis.findings.iter();
    let disagreements =
        findings.filter(|finding| matches!(finding.code, Code::ViewsDiffer | Code::SlotsContested));
    disagreements.map(|finding| Objection {
        code: finding.code.word(),
        message: finding.message.clone(),
        slots: finding.slots.clone(),
    })
}

/// All members. `no_failover` are the replicas that never take over.
pub(crate) fn members(
    cluster: &ClusterState,
    no_failover: &BTreeSet<NodeId>,
) -> Vec<StopCandidate> {
    let topology = &cluster.diagnosis.topology;
    let mut open = cluster.open_by_node();
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
                votes: cluster.diagnosis.topology.votes(member),
                slots: member.slots.clone(),
                open: open.remove(&member.id).unwrap_or_default(),
                is_up: serves && !member.peer_status.is_lost(),
                in_sync: link == Some(MasterLink::Up),
                takes_over: !no_failover.contains(&member.id),
            }
        })
        .collect()
}

/// Replicas of the nodes to stop that are configured never to take over. If CONFIG is denied, the default of the servers
/// is assumed: a replica takes over.
async fn without_failover(
    session: &Session,
    cluster: &ClusterState,
    stopping: &BTreeSet<NodeId>,
) -> BTreeSet<NodeId> {
    // The first since Redis 5, the second until Redis 6.2.
    const NAMES: [&str; 2] = ["cluster-replica-no-failover", "cluster-slave-no-failover"];
    let replicas = cluster
        .diagnosis
        .observation
        .reports()
        .filter_map(|(node, _)| {
            let member = cluster.diagnosis.topology.members.get(&node.id)?;
            let is_affected = member
                .master
                .is_some_and(|master| stopping.contains(&master));
            let target = cluster.reach.get(&node.id).filter(|_| is_affected)?;
            Some((node.id, target.clone()))
        });
    let asking = session
        .connections
        .fan_out(replicas, |connections, (id, target)| async move {
            let values = async {
                let client = connections.temporary(&target).await?;
                client.config_get(&NAMES).await
            };
            let values = values.await.unwrap_or_default();
            values.values().any(|value| value == "yes").then_some(id)
        });
    asking.await.into_iter().flatten().collect()
}

fn objection(cluster: &ClusterState, reason: &Reason) -> Objection {
    let name = |id: NodeId| cluster.name(id);
    let message = match reason {
        Reason::Unserved(slots) => format!("no master serves slots {} now", slots.summary()),
        Reason::NoSuccessor { master, slots } => format!(
            "{} serves slots {} and has no replica in sync that would take over",
            name(*master),
            slots.summary()
        ),
        Reason::NoMajority { left, of } => {
            let word = cluster.diagnosis.topology.bus.voters_word();
            format!("only {left} of {of} {word} would be left: no majority for a failover")
        }
        Reason::LastCopy { master, replicas } => {
            let replicas: Vec<String> = replicas.iter().map(|id| name(*id)).collect();
            format!(
                "{} would be left without a copy in sync: its only replicas in sync are {}",
                name(*master),
                replicas.join(", ")
            )
        }
        Reason::Open { master, slots } => format!(
            "slots {} are moving from or to {}: finish the move first",
            slots.summary(),
            name(*master)
        ),
    };
    Objection {
        code: reason.word(),
        message,
        slots: reason.slots(),
    }
}
