//! Messages that bring a node up to date sooner than gossip does.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::probe::{NotReady, read};
use super::{FEW, LOOK_AGAIN};
use crate::client::ClientError;
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::parse::{EntryState, Info, View};
use crate::cluster::peer_addrs::are_local;
use crate::connections::Connections;
use crate::state::{Participant, Participants};

/// How many attempts after the first go to the best address of a node.
const PATIENCE: usize = 2;

/// Speeds up gossip if only little is missing. Nodes exchange messages at random, and are sure to do
/// so only once in half a node timeout (7.5 s by default). A node that receives CLUSTER MEET sends
/// the other node a message at once, even if they know each other (Redis 3.2 to 8.6, Valkey 8 to
/// 9.1). The message contains the slots that it owns.
///
/// A node that is not seen may have been met at an address that others can't reach: a handshake that nobody answers
/// ends without a word. So after a few attempts, each takes the next address of the node.
pub(super) async fn nudge(
    connections: &Connections,
    participants: &Participants,
    absent: &BTreeSet<NodeId>,
    participant: &Participant,
    not_ready: &NotReady,
    attempt: usize,
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
        NotReady::NoLink { master } => {
            if let Some(master) = participants.get(master) {
                let _ = begin_stream(connections, master).await;
            }
            return 0;
        }
        NotReady::Peers(_)
        | NotReady::Loading
        | NotReady::Copying
        | NotReady::Other(_)
        | NotReady::Silent(_) => return 0,
    };
    // A node that is seen keeps its address: it would adopt the one at which it is met.
    let attempt = match not_ready {
        NotReady::Peers(_) => attempt,
        _ => 0,
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
            let Some(ip) = address_for(connections, participants, with, attempt).await else {
                return Ok(());
            };
            let client = connections.client(&node.target).await?;
            client.cluster_meet(ip, with.port, with.bus_port).await
        };
        if let Err(error) = meet.await {
            let error: ClientError = error;
            tracing::debug!(%error, "not nudged");
        }
    }
    sent
}

/// The address at which a node is met in that attempt; `None` if another node answers there.
async fn address_for(
    connections: &Connections,
    participants: &Participants,
    with: &Participant,
    attempt: usize,
) -> Option<IpAddr> {
    let dialled = participants.values().map(|one| &one.target.addr);
    let are_local = are_local(dialled);
    let others = with.other_ips.iter();
    let others: Vec<&IpAddr> = others.filter(|ip| are_local || !ip.is_loopback()).collect();
    let nth = attempt.saturating_sub(PATIENCE) % (others.len() + 1);
    let Some(ip) = nth.checked_sub(1).and_then(|nth| others.get(nth).copied()) else {
        return Some(with.ip);
    };
    let addr = Addr::new(&ip.to_string(), with.port);
    match connections.node_at(&addr, &with.target.access).await {
        Some(id) if id != with.id => None,
        _ => Some(*ip),
    }
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

/// Begins the replication streams of these masters, each as soon as a replica is attached to it.
pub(super) async fn begin_streams(connections: &Arc<Connections>, mut masters: Vec<Participant>) {
    while !masters.is_empty() {
        let asking =
            connections.fan_out(masters, async |connections, master| {
                match begin_stream(&connections, &master).await {
                    Stream::HasBegun => None,
                    Stream::IsAwaited => Some(master),
                }
            });
        masters = asking.await.into_iter().flatten().collect();
        // A thousand nodes are not asked ten times a second.
        sleep(LOOK_AGAIN + Duration::from_millis(masters.len() as u64)).await;
    }
}

/// Whether the replication stream of a master has content.
enum Stream {
    /// Something was replicated, or this user can't begin the stream.
    HasBegun,
    /// Nothing was replicated yet, and there may be no replica that it could be sent to.
    IsAwaited,
}

/// Writes something to the replication stream of a master that has not replicated anything. A replica that has copied an
/// empty master has offset 0 otherwise, and if it is restarted it cannot be told from one that has lost its copy, which
/// must not take over (Redis 7.0 to 8.10, Valkey 8.0 to 9.1, which begin the copy after `repl-diskless-sync-delay`).
async fn begin_stream(connections: &Connections, master: &Participant) -> Stream {
    let begun = async {
        let client = connections.client(&master.target).await?;
        let info = Info::parse(&client.info().await?);
        match info.replication_offset {
            // It has an effect only if a replica is attached.
            Some(0) => client.wait(1).await.map(|()| Stream::IsAwaited),
            _ => Ok(Stream::HasBegun),
        }
    };
    // The right to WAIT may be missing; the copy is as good without.
    begun.await.unwrap_or_else(|error: ClientError| {
        tracing::debug!(%error, "the replication stream was not begun");
        Stream::HasBegun
    })
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
