//! What one look at a node tells: what it lacks, if anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{FEW, Goal, Heard};
use crate::client::{ClientError, NodeClient};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::{
    ClusterInfo, Entry, EntryPool, EntryState, Info, MasterLink, ParseError, View,
};
use crate::cluster::slot::SlotRange;
use crate::connections::Connections;
use crate::event::Phase;
use crate::state::{Participant, Participants};

/// What is waited for.
#[derive(Debug, Clone)]
pub(super) enum Until {
    Joined,
    Agreed(Arc<Goal>),
    Usable(Arc<Goal>),
}

/// What a node lacks.
#[derive(Debug, Clone)]
pub(super) enum NotReady {
    /// It has no live link to these.
    Peers(BTreeSet<NodeId>),
    /// It has not heard yet which slots these own.
    Claims(BTreeSet<NodeId>),
    /// It has not heard yet whom these follow.
    Followers(BTreeSet<NodeId>),
    /// It follows a replica of the master that it is to follow.
    Between {
        /// That replica.
        replica: NodeId,
        /// Its master.
        master: NodeId,
    },
    /// Something else, in words that follow the node's name.
    Other(String),
    /// It does not say; the whole of what is to be told about it.
    Silent(String),
}

impl Until {
    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Joined => Phase::Join,
            Self::Agreed(_) => Phase::Agree,
            Self::Usable(_) => Phase::Usable,
        }
    }

    /// How long gossip is left alone before it is helped.
    pub(super) fn gossip_time(&self) -> Duration {
        match self {
            Self::Joined => Duration::from_millis(300),
            // A new master tells all at once, and the help costs links.
            Self::Agreed(goal) if goal.heard == Heard::ByAll => Duration::from_secs(1),
            // It had its time while the nodes joined.
            Self::Agreed(_) | Self::Usable(_) => Duration::ZERO,
        }
    }

    /// One look at one node: what it lacks, if anything.
    pub(super) async fn look(
        &self,
        participant: &Participant,
        connections: &Connections,
        participants: &Participants,
    ) -> Option<NotReady> {
        let looked = async {
            let client = connections.client(&participant.target).await?;
            self.not_ready(participant.id, &client, participants).await
        };
        looked.await.unwrap_or_else(|error| {
            // The next look opens a new connection.
            connections.drop_client(&participant.target);
            Some(NotReady::Silent(error.to_string()))
        })
    }

    async fn not_ready(
        &self,
        id: NodeId,
        client: &NodeClient,
        participants: &Participants,
    ) -> Result<Option<NotReady>, ClientError> {
        match self {
            Self::Joined => {
                // Short where CLUSTER NODES is long, and polled often.
                let info = ClusterInfo::parse(&client.cluster_info().await?);
                if info.known_nodes + FEW < participants.len() {
                    let known = info.known_nodes;
                    return Ok(Some(NotReady::Other(format!("knows {known} nodes"))));
                }
                Ok(unlinked(&client.cluster_nodes().await?, participants))
            }
            Self::Agreed(goal) => Ok(differs(&client.cluster_nodes().await?, id, goal)),
            Self::Usable(goal) => {
                if !ClusterInfo::parse(&client.cluster_info().await?).ok {
                    return Ok(Some(NotReady::Other("says cluster_state:fail".to_string())));
                }
                if !goal.masters.contains_key(&id) {
                    return Ok(None);
                }
                let why = match Info::parse(&client.info().await?).master_link {
                    Some(MasterLink::Up) => return Ok(None),
                    Some(MasterLink::Syncing) => "is receiving its first copy",
                    Some(MasterLink::Down(_)) | None => {
                        "has no link to its master: look at its log, its masterauth and firewalls"
                    }
                };
                Ok(Some(NotReady::Other(why.to_string())))
            }
        }
    }
}

pub(super) fn read(text: &str) -> Result<View, ParseError> {
    EntryPool::default().view(text)
}

/// The participants that a node has no live link to.
pub(super) fn unlinked(text: &str, participants: &Participants) -> Option<NotReady> {
    let view = match read(text) {
        Ok(view) => view,
        Err(error) => return Some(NotReady::Other(error.to_string())),
    };
    let peers: BTreeSet<NodeId> = participants
        .keys()
        .filter(|id| {
            view.entry(**id)
                .is_none_or(|entry| !entry.linked || entry.state == EntryState::Handshake)
        })
        .copied()
        .collect();
    (!peers.is_empty()).then_some(NotReady::Peers(peers))
}

/// What a node sees differently from the goal.
fn differs(text: &str, id: NodeId, goal: &Goal) -> Option<NotReady> {
    let view = match read(text) {
        Ok(view) => view,
        Err(error) => return Some(NotReady::Other(error.to_string())),
    };
    let planned = |id| goal.slots.get(&id).map_or(&[][..], Vec::as_slice);
    let entries = view.entries().map(|entry| (entry.id, &entry.slots[..]));
    let seen: BTreeMap<NodeId, &[SlotRange]> = entries.collect();
    let ids: BTreeSet<NodeId> = seen.keys().chain(goal.slots.keys()).copied().collect();
    let wrong: BTreeSet<NodeId> = ids
        .into_iter()
        .filter(|id| seen.get(id).copied().unwrap_or_default() != planned(*id))
        .collect();
    if !wrong.is_empty() {
        return Some(NotReady::Claims(wrong));
    }
    let follows = |entry: &Entry, master: NodeId| {
        entry.role == Some(Role::Replica) && entry.master == Some(master)
    };
    let concerns = |master: NodeId| goal.heard == Heard::ByAll || master == id;
    let unheard: BTreeSet<NodeId> = goal
        .masters
        .iter()
        .filter(|(replica, master)| concerns(**master) && **replica != id)
        .filter(|(replica, master)| {
            let entry = view.entry(**replica);
            entry.is_none_or(|entry| !follows(entry, **master))
        })
        .map(|(replica, _)| *replica)
        .collect();
    if !unheard.is_empty() {
        return Some(NotReady::Followers(unheard));
    }
    let master = *goal.masters.get(&id)?;
    let myself = view.myself();
    if follows(myself, master) {
        return None;
    }
    let between = myself.master.and_then(|replica| view.entry(replica));
    Some(match between.filter(|replica| follows(replica, master)) {
        Some(replica) => NotReady::Between {
            replica: replica.id,
            master,
        },
        None => NotReady::Other(format!("does not follow {} yet", master.short())),
    })
}
