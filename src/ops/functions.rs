//! The function libraries of masters, and the sentences about those that differ.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cluster::functions::Functions;
use crate::cluster::health::Diagnosis;
use crate::cluster::node::NodeId;
use crate::cluster::observation::ObservedNode;
use crate::connections::{Connections, Target};

/// Reads the libraries of `nodes`. Nodes that have no functions (Redis < 7.0), do not answer, or deny FUNCTION LIST are
/// missing in the result. A node whose INFO counts no library is not asked, so that clusters without functions cost
/// nothing.
pub(crate) async fn read(
    connections: &Arc<Connections>,
    diagnosis: &Diagnosis,
    nodes: impl IntoIterator<Item = NodeId>,
    target_of: impl Fn(&ObservedNode) -> Option<Target>,
) -> BTreeMap<NodeId, Functions> {
    let mut functions = BTreeMap::new();
    let mut asked = Vec::new();
    let nodes: BTreeSet<NodeId> = nodes.into_iter().collect();
    for node in nodes
        .iter()
        .filter_map(|id| diagnosis.observation.nodes.get(id))
    {
        let count = node
            .report()
            .and_then(|report| report.info.function_libraries);
        match (count, target_of(node)) {
            (Some(0), _) => drop(functions.insert(node.id, Functions::default())),
            (Some(_), Some(target)) => asked.push((node.id, target)),
            (Some(_), None) | (None, _) => {}
        }
    }
    let asking = connections.fan_out(asked, async |connections, (id, target)| {
        (id, of_node(&connections, &target).await)
    });
    let told = asking.await.into_iter();
    functions.extend(told.filter_map(|(id, told)| Some((id, told?))));
    functions
}

/// The libraries of all masters that answer.
pub(crate) async fn of_masters(
    connections: &Arc<Connections>,
    diagnosis: &Diagnosis,
    target_of: impl Fn(&ObservedNode) -> Option<Target>,
) -> BTreeMap<NodeId, Functions> {
    let masters = diagnosis.topology.masters().map(|master| master.id);
    read(connections, diagnosis, masters, target_of).await
}

/// The libraries of a node; the code is dropped at once. The reply is limited like all replies (32 MiB).
async fn of_node(connections: &Connections, target: &Target) -> Option<Functions> {
    let listed = async {
        let client = connections.temporary(target).await?;
        client.function_list().await
    };
    match listed.await {
        Ok(libraries) => {
            let mut functions = Functions::default();
            for (name, library) in libraries? {
                functions.add(&name, &library.code);
            }
            Some(functions)
        }
        Err(error) => {
            tracing::warn!(%error, "the functions of a node are not known");
            None
        }
    }
}
