//! Clusters on the Raft bus (`cluster-protocol raft`, Valkey 10), which most changes do not support.
//!
//! There MEET, SETSLOT, REPLICATE and FORGET wait until the change is committed, and are rejected inside MULTI. Two
//! clusters can't merge, so that nodes join one after the other, all through one member. What relies on anything else
//! is refused before it sends a command.

use anyhow::anyhow;

use crate::cluster::topology::Bus;
use crate::state::ClusterState;
use crate::stop::Stop;

/// What a change does that the Raft bus does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// Nodes meet several others at the same time.
    Meets,
    /// SETSLOT is sent inside MULTI.
    Transactions,
    /// Each member is told to forget a node.
    Forgets,
    /// A replica takes over without the consent of a majority.
    Takeover,
}

impl Obstacle {
    fn why(self) -> &'static str {
        match self {
            Self::Meets => {
                "redis-trib sends CLUSTER MEET to several nodes at once, and Raft nodes join one by one through one \
                 member: CLUSTER MEET on a member, node by node, adds them"
            }
            Self::Transactions => {
                "redis-trib sends CLUSTER SETSLOT inside MULTI, and Raft nodes reject it there: CLUSTER MIGRATESLOTS on \
                 the source (reshard --strategy atomic) moves slots without it"
            }
            Self::Forgets => {
                "redis-trib tells each member to forget a node, and Raft nodes commit that once for all: CLUSTER FORGET \
                 on one member removes the node"
            }
            Self::Takeover => {
                "a takeover does without a majority, and Raft nodes change nothing without one: bring the voters back, \
                 or leave out --takeover"
            }
        }
    }
}

/// The refusal; `what` are the nodes concerned, in words.
pub(crate) fn refusal(what: &str, obstacle: Obstacle) -> Stop {
    Stop::refused(anyhow!(
        "{what} on the Raft cluster bus (cluster-protocol raft), where this is not supported: {}; nothing was changed",
        obstacle.why()
    ))
}

/// Refuses a change of a cluster on the Raft bus.
pub(crate) fn refuse(cluster: &ClusterState, obstacle: Obstacle) -> Result<(), Stop> {
    match cluster.diagnosis.topology.bus {
        Bus::Gossip => Ok(()),
        Bus::Raft => Err(refusal("the cluster is", obstacle)),
    }
}
