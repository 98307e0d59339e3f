//! Messages that bring a node up to date sooner than gossip does.

use std::collections::BTreeSet;

use super::FEW;
use super::probe::{NotReady, read};
use crate::client::ClientError;
use crate::cluster::node::NodeId;
use crate::cluster::parse::{EntryState, View};
use crate::connections::Connections;
use crate::state::{Participant, Participants};

/// Speeds up gossip if only little is missing. Nodes exchange messages at random, and are sure to do
/// so only once in half a node timeout (7.5 s by default). A node that receives CLUSTER MEET sends
/// the other node a message at once, even if they know each other (Redis 3.2 to 8.6, Valkey 8 to
/// 9.1). The message contains the slots that it owns.
pub(super) async fn nudge(
    connections: &Connections,
    participants: &Participants,
    absent: &BTreeSet<NodeId>,
    participant: &Participant,
    not_ready: &NotReady,
) -> usize {
    let meetings: Vec<(&Participant, &Participant)> = match not_ready {
        NotReady::Peers(peers) if peers.len() <= FEW => {
            let peers = peers.iter().filter_map(|id| participants.get(id));
            peers.map(|peer| (participant, peer)).collect()
        }
        NotReady::Claims(owners) | NotReady::Followers(owners) => {
            let owners = owners.iter().filter_map(|id| participants.get(id));
            owners.map(|owner| (owner, participant)).collect()
        }
        NotReady::Between { master, .. } => {
            lead(connections, participant, *master).await;
            return 0;
        }
        NotReady::Peers(_) | NotReady::Other(_) | NotReady::Silent(_) => return 0,
    };
    let sent = meetings.len();
    for (node, with) in meetings {
        let meet = async {
            // As before every MEET: an address may by now be another cluster's.
            for participant in [node, with] {
                let client = connections.client(&participant.target).await?;
                if is_other(
                    &client.cluster_nodes().await?,
                    participant,
                    participants,
                    absent,
                ) {
                    return Ok(());
                }
            }
            let client = connections.client(&node.target).await?;
            client.cluster_meet(with.ip, with.port, with.bus_port).await
        };
        if let Err(error) = meet.await {
            let error: ClientError = error;
            tracing::debug!(%error, "not nudged");
        }
    }
    sent
}

/// Makes a replica of a replica follow the master of both. A node may hear of a takeover from the old
/// master, now a replica, before it hears of it from the new master. It then assigns the slots to the
/// new master at once, and does not re-evaluate which master it should follow: its guard against
/// replicas of replicas runs only when slots change owner (Redis 8.2.3, 8.6.2; not Valkey 8.0 to 9.1).
async fn lead(connections: &Connections, participant: &Participant, master: NodeId) {
    let led = async {
        let client = connections.client(&participant.target).await?;
        // As before every such command: an address may by now be another node's.
        match read(&client.cluster_nodes().await?) {
            Ok(view) if view.myself().id == participant.id => {
                client.cluster_replicate(master).await
            }
            _ => Ok(()),
        }
    };
    if let Err(error) = led.await {
        let error: ClientError = error;
        tracing::debug!(%error, "not led");
    }
}

/// A node that the view knows and that is neither a participant nor a member that does not answer.
/// Handshakes have temporary ids, and don't count.
pub(crate) fn foreign_node(
    participants: &Participants,
    absent: &BTreeSet<NodeId>,
    view: &View,
) -> Option<NodeId> {
    view.entries()
        .filter(|entry| entry.state != EntryState::Handshake)
        .map(|entry| entry.id)
        .find(|id| !participants.contains_key(id) && !absent.contains(id))
}

/// Whether the view is that of another node, or knows a node that is not in the plan.
fn is_other(
    text: &str,
    participant: &Participant,
    participants: &Participants,
    absent: &BTreeSet<NodeId>,
) -> bool {
    read(text).map_or(true, |view| {
        view.myself().id != participant.id || foreign_node(participants, absent, &view).is_some()
    })
}
