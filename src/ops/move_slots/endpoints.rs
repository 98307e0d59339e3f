//! The nodes of a plan: how they reach each other, and how they log in to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::anyhow;

use crate::client::{ClientError, Login, LoginOutcome, MigrateFault, NodeClient, Transport};
use crate::cluster::health::Diagnosis;
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::slot::SlotSet;
use crate::discover;
use crate::event::Pair;
use crate::migrate::schedule::MoveMethod;
use crate::migrate::strategy::MethodChoice;
use crate::migrate::{self, End, MoveOptions, Trial};
use crate::plan::MovePlan;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;

/// cluster-node-timeout of the cluster.
pub(crate) async fn node_timeout(session: &Session, cluster: &ClusterState) -> Duration {
    let lead = cluster.reach.get(&cluster.diagnosis.observation.lead);
    discover::node_timeout(&session.connections, lead).await
}

/// The nodes of the plan. Refuses nodes that do not answer.
pub(crate) fn ends(cluster: &ClusterState, plan: &MovePlan) -> Result<BTreeMap<NodeId, End>, Stop> {
    let ids: BTreeSet<NodeId> = plan.moves().flat_map(|one| [one.from, one.to]).collect();
    ids.into_iter()
        .map(|id| {
            let node = cluster.diagnosis.observation.nodes.get(&id);
            let answers = node.is_some_and(|node| node.report().is_some());
            let target = cluster.reach.get(&id).cloned();
            let (Some(node), true, Some(target)) = (node, answers, target) else {
                let name = cluster.name(id);
                return Err(Stop::refused(anyhow!("{name} can't be reached")));
            };
            let peer = node.peer.clone().unwrap_or_else(|| target.addr.clone());
            let login = target.access.login.clone();
            let end = End {
                id,
                target,
                peer,
                login,
            };
            Ok((id, end))
        })
        .collect()
}

/// Tries the login that MIGRATE will use, with a MIGRATE. A target that accepts the login answers MOVED for a key of a
/// slot that it neither owns nor imports. (NOKEY proves nothing: MIGRATE looks for the keys before it connects.)
/// Pairs that use ASM tasks need no such login.
pub(crate) async fn try_logins(
    session: &Session,
    diagnosis: &Diagnosis,
    choices: &BTreeMap<Pair, MethodChoice>,
    ends: &mut BTreeMap<NodeId, End>,
    options: &MoveOptions,
) -> Result<(), Stop> {
    for end in ends.values_mut() {
        let client = session.connections.client(&end.target).await;
        let client = client.map_err(Stop::refused)?;
        end.peer = peer_for_servers(&client, end).await;
        if client.login_outcome() == LoginOutcome::NoPasswordNeeded {
            // AUTH would be an error on that node, although the keys arrive.
            end.login = Login::default();
        }
    }
    let open = diagnosis.topology.open_set();
    let is_atomic = |way| matches!(way, MoveMethod::Atomic(_));
    let by_key = choices.iter().filter(|(_, choice)| !is_atomic(choice.way));
    for (pair, _) in by_key {
        let (Some(source), Some(target)) = (ends.get(&pair.from), ends.get(&pair.to)) else {
            continue;
        };
        // Any key of the source serves, except keys of open slots: the target would accept these.
        let owned = diagnosis.topology.members.get(&pair.from);
        let slots = owned.map_or_else(SlotSet::new, |member| member.slots.difference(&open));
        // The same holds for slots that both nodes claim.
        let taker = diagnosis.topology.members.get(&pair.to);
        let slots = taker.map_or(slots.clone(), |member| slots.difference(&member.slots));
        let tried = migrate::try_login(
            session.connections.as_ref(),
            source,
            target,
            &slots,
            options,
        );
        match tried.await {
            Ok(Trial::Passed) => {}
            Ok(Trial::Impossible(why)) => session.events.warn(format!(
                "the login of {source} on {target} could not be tried: {why}"
            )),
            Err(error) => return Err(Stop::refused(explain_login(source, target, &error))),
        }
    }
    Ok(())
}

/// The address that other servers use for MIGRATE to this one. CLUSTER NODES tells a TLS client the TLS port and
/// others the plain port; servers among themselves follow `tls-cluster`.
async fn peer_for_servers(client: &NodeClient, end: &End) -> Addr {
    const NAMES: [&str; 5] = [
        "tls-cluster",
        "port",
        "tls-port",
        "cluster-announce-port",
        "cluster-announce-tls-port",
    ];
    // If CONFIG is denied, the trial MIGRATE shows whether the port is right.
    let config = client.config_get(&NAMES).await.unwrap_or_default();
    let port = |name: &str| -> Option<u16> {
        let port = config.get(name)?.parse().ok()?;
        (port != 0).then_some(port)
    };
    let ours_is_tls = matches!(end.target.access.transport, Transport::Tls(_));
    let theirs = match (config.get("tls-cluster").map(String::as_str), ours_is_tls) {
        (Some("yes"), false) => port("cluster-announce-tls-port").or_else(|| port("tls-port")),
        (Some("no"), true) => port("cluster-announce-port").or_else(|| port("port")),
        _ => None,
    };
    match theirs {
        Some(port) => Addr::new(end.peer.host(), port),
        None => end.peer.clone(),
    }
}

fn explain_login(source: &End, target: &End, error: &ClientError) -> anyhow::Error {
    match MigrateFault::of(error) {
        MigrateFault::Login => anyhow!(
            "{target} rejects the login that {source} would use for MIGRATE: {}; nothing was changed",
            error.fault
        ),
        MigrateFault::Io => anyhow!(
            "{source} can't reach {target} at {}: {}; nothing was changed",
            target.peer,
            error.fault
        ),
        _ => anyhow!(
            "a trial MIGRATE from {source} to {target} fails: {}; nothing was changed",
            error.fault
        ),
    }
}
