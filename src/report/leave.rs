//! The plan of `del-node`.

use serde::{Serialize, Serializer};

use super::node::Node;
use crate::cluster::node::NodeId;

/// The plan of `del-node`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LeaveView {
    /// The address of the node by which the cluster was found.
    pub lead: String,
    /// The nodes that leave.
    #[serde(rename = "nodes")]
    pub leavers: Vec<LeavingNode>,
    /// Replicas that get another master, each with that master.
    #[serde(rename = "replicas", serialize_with = "reassigned")]
    #[cfg_attr(test, schemars(with = "Vec<ReassignedReplica<'static>>"))]
    pub given: Vec<(Node, Node)>,
}

/// A node that leaves.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LeavingNode {
    /// The node.
    #[serde(flatten)]
    pub node: Node,
    /// The number of slots that it gives away before.
    #[serde(rename = "slot_count")]
    pub slots: usize,
    /// Whether it answers, and so can be reset; if not, the others only forget it.
    #[serde(rename = "reachable")]
    pub answers: bool,
}

/// A replica that gets another master.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ReassignedReplica<'a> {
    #[serde(flatten)]
    node: &'a Node,
    /// The id of its new master.
    replicates: NodeId,
}

fn reassigned<S: Serializer>(given: &[(Node, Node)], serializer: S) -> Result<S::Ok, S::Error> {
    let replicas = given.iter().map(|(node, master)| ReassignedReplica {
        node,
        replicates: master.id,
    });
    serializer.collect_seq(replicas)
}
