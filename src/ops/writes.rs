//! Which nodes refuse writes, asked before something is written to them.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;
use crate::cluster::write_refusal::WriteRefusal;
use crate::connections::{Connections, Target};
use crate::migrate::trial_key;
use crate::session::Session;
use crate::state::ClusterState;

/// Asks these masters whether they take writes. Those that do, and those that do not answer, are missing in the
/// result.
pub(crate) async fn write_refusals(
    session: &Session,
    cluster: &ClusterState,
    ids: &BTreeSet<NodeId>,
) -> BTreeMap<NodeId, WriteRefusal> {
    let open = cluster.diagnosis.topology.open_set();
    let nodes = ids.iter().filter_map(|id| {
        let member = cluster.diagnosis.topology.members.get(id);
        // Open slots redirect keys that do not exist.
        let slots = member.map_or_else(SlotSet::new, |member| member.slots.difference(&open));
        Some((*id, cluster.reach.get(id)?.clone(), trial_key(&slots)))
    });
    let asking = session
        .connections
        .fan_out(nodes, async |connections, (id, target, key)| {
            (id, ask(&connections, &target, key.as_deref()).await)
        });
    let asked = asking.await.into_iter();
    asked
        .filter_map(|(id, refusal)| Some((id, refusal?)))
        .collect()
}

async fn ask(
    connections: &Connections,
    target: &Target,
    key: Option<&[u8]>,
) -> Option<WriteRefusal> {
    let client = connections.temporary(target).await.ok()?;
    client.write_refusal(key).await.ok().flatten()
}
