//! The nodes of a plan: how they reach each other, and how they log in to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::anyhow;

use crate::client::{Login, LoginOutcome};
use crate::cluster::health::Diagnosis;
use crate::cluster::node::NodeId;
use crate::cluster::peer_addrs;
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
                let why = cluster.diagnosis.observation.why_absent(id);
                return Err(Stop::refused(anyhow!("{name} {why}")));
            };
            let peer = node.peer.clone().unwrap_or_else(|| target.addr.clone());
            let login = target.access.login.clone();
            let end = End {
                id,
                target,
                peer,
                other_peers: Vec::new(),
                peers_of_sources: BTreeMap::new(),
                login,
            };
            Ok((id, end))
        })
        .collect()
}

/// Tries the addresses and the login that MIGRATE will use, with a MIGRATE. A target that accepts the login answers MOVED
/// for a key of a slot that it neither owns nor imports. (NOKEY proves nothing: MIGRATE looks for the keys before it
/// connects.) Pairs that use ASM tasks need neither.
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
        let facts = session.connections.address_facts(&end.target).await;
        let facts = facts.map_err(Stop::refused)?;
        let mut addrs = peer_addrs::of_member(&diagnosis.observation, end.id, &facts).into_iter();
        if let Some(best) = addrs.next() {
            end.peer = best;
            end.other_peers = addrs.collect();
        }
        if client.login_outcome() == LoginOutcome::NoPasswordNeeded {
            // AUTH would be an error on that node, although the keys arrive.
            end.login = Login::default();
        }
    }
    let open = diagnosis.topology.open_set();
    let is_atomic = |way| matches!(way, MoveMethod::Atomic(_));
    let by_key = choices.iter().filter(|(_, choice)| !is_atomic(choice.way));
    for (pair, _) in by_key {
        let (Some(source), Some(mut target)) = (ends.get(&pair.from), ends.get(&pair.to).cloned())
        else {
            continue;
        };
        // Any key of the source serves, except keys of open slots: the target would accept these.
        let owned = diagnosis.topology.members.get(&pair.from);
        let slots = owned.map_or_else(SlotSet::new, |member| member.slots.difference(&open));
        // The same holds for slots that both nodes claim.
        let taker = diagnosis.topology.members.get(&pair.to);
        let slots = taker.map_or(slots.clone(), |member| slots.difference(&member.slots));
        let connections = session.connections.as_ref();
        match migrate::try_migrate(connections, source, &mut target, &slots, options).await {
            Ok(Trial::Passed) => {}
            Ok(Trial::Impossible(why)) => session.events.warn(format!(
                "the login of {source} on {target} could not be tried: {why}"
            )),
            Err(why) => return Err(Stop::refused(anyhow!("{why}; nothing was changed"))),
        }
        // The address that works for one source is the first to try for the next.
        let peers = [&[target.peer.clone()], &target.other_peers[..]].concat();
        target.peers_of_sources.insert(pair.from, peers);
        if let Some(end) = ends.get_mut(&pair.to) {
            *end = target;
        }
    }
    Ok(())
}
