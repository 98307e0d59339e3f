//! What helps a node that is behind.

use std::collections::BTreeSet;

use super::FEW;
use super::probe::{Lack, read};
use crate::client::ClientError;
use crate::cluster::node::NodeId;
use crate::connections::Connections;
use crate::ops::join::execute::stranger_to;
use crate::state::{Parties, Party};

/// Helps out where only little is missing, which gossip may take long to bring: nodes talk to each
/// other at random, and are sure to do so only once in half a node timeout, 7.5 s by default. A node
/// that is told to meet another sends it a message at once, also if they know each other (Redis 3.2
/// to 8.6, Valkey 8 to 9.1), and with it the slots that it owns.
pub(super) async fn nudge(
    connections: &Connections,
    parties: &Parties,
    absent: &BTreeSet<NodeId>,
    party: &Party,
    lack: &Lack,
) -> usize {
    let meetings: Vec<(&Party, &Party)> = match lack {
        Lack::Peers(peers) if peers.len() <= FEW => {
            let peers = peers.iter().filter_map(|id| parties.get(id));
            peers.map(|peer| (party, peer)).collect()
        }
        Lack::Claims(owners) | Lack::Followers(owners) => {
            let owners = owners.iter().filter_map(|id| parties.get(id));
            owners.map(|owner| (owner, party)).collect()
        }
        Lack::Between { master, .. } => {
            lead(connections, party, *master).await;
            return 0;
        }
        Lack::Peers(_) | Lack::Other(_) | Lack::Silent(_) => return 0,
    };
    let sent = meetings.len();
    for (node, with) in meetings {
        let meet = async {
            // As before every MEET: an address may by now be another cluster's.
            for party in [node, with] {
                let client = connections.client(&party.target).await?;
                if is_other(&client.cluster_nodes().await?, party, parties, absent) {
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

/// Has a replica's replica follow the master of both. A node that hears of a takeover from the old
/// master, now a replica, before it hears of it from the new one, counts the slots as the new one's at
/// once, and never asks itself again whom it should follow itself: its guard against such replicas runs
/// only where slots change hands (Redis 8.2.3, 8.6.2; not Valkey 8.0 to 9.1).
async fn lead(connections: &Connections, party: &Party, master: NodeId) {
    let led = async {
        let client = connections.client(&party.target).await?;
        // As before every such command: an address may by now be another node's.
        match read(&client.cluster_nodes().await?) {
            Ok(view) if view.myself().id == party.id => client.cluster_replicate(master).await,
            _ => Ok(()),
        }
    };
    if let Err(error) = led.await {
        let error: ClientError = error;
        tracing::debug!(%error, "not led");
    }
}

/// Whether that is another node's view, or one that got to know somebody who is not in the plan.
fn is_other(text: &str, party: &Party, parties: &Parties, absent: &BTreeSet<NodeId>) -> bool {
    read(text).map_or(true, |view| {
        view.myself().id != party.id || stranger_to(parties, absent, &view).is_some()
    })
}
