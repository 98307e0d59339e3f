//! One look at a node: what it lacks to meet a condition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{FEW, Goal, KnownBy};
use crate::client::{ClientError, Fault, NodeClient};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::{
    ClusterInfo, Entry, EntryPool, EntryState, Info, MasterLink, ParseError, View,
};
use crate::cluster::slot::SlotRange;
use crate::connections::Connections;
use crate::event::Phase;
use crate::state::{Participant, Participants};

/// A condition that every node has to meet.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    Joined,
    Agreed(Arc<Goal>),
    Usable(Arc<Goal>, Coverage),
}

/// Whether every slot has a master that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coverage {
    Whole,
    Holes,
}

/// What a node lacks.
#[derive(Debug, Clone)]
pub(super) enum NotReady {
    /// It has no live link to these.
    Peers(BTreeSet<NodeId>),
    /// It does not know yet which slots these own.
    Claims(BTreeSet<NodeId>),
    /// It does not know yet which masters these have.
    Followers(BTreeSet<NodeId>),
    /// Its master is a replica of the planned master.
    Between {
        /// That replica.
        replica: NodeId,
        /// Its master.
        master: NodeId,
    },
    /// It loads its data set, and answers nothing else.
    Loading,
    /// It receives its first copy from its master.
    Copying,
    /// It is a replica and has no link to this master.
    NoLink { master: NodeId },
    /// Something else, in words that follow the name of the node.
    Other(String),
    /// It does not answer. This is the whole message about it.
    Silent(String),
}

impl Condition {
    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Joined => Phase::Join,
            Self::Agreed(_) => Phase::Agree,
            Self::Usable(..) => Phase::Usable,
        }
    }

    /// How long gossip has before a node is nudged.
    pub(super) fn gossip_time(&self) -> Duration {
        match self {
            Self::Joined => Duration::from_millis(300),
            // A new master tells all at once, and the help costs links.
            Self::Agreed(goal) if goal.roles_known_by == KnownBy::All => Duration::from_secs(1),
            // It had its time while the nodes joined.
            Self::Agreed(_) | Self::Usable(..) => Duration::ZERO,
        }
    }

    /// Whether the other nodes tell enough about a node that loads its data set: it owns no slots, and answers no
    /// question about itself.
    pub(super) fn is_told_by_others(&self, id: NodeId) -> bool {
        let owns_nothing = |goal: &Goal| goal.slots.get(&id).is_none_or(Vec::is_empty);
        match self {
            Self::Joined => true,
            Self::Agreed(goal) => owns_nothing(goal),
            Self::Usable(goal, _) => owns_nothing(goal) && !goal.masters.contains_key(&id),
        }
    }

    /// Looks at one node once, and returns what it lacks.
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
            if error.fault == Fault::Loading {
                return Some(NotReady::Loading);
            }
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
            Self::Usable(goal, coverage) => {
                if *coverage == Coverage::Whole
                    && !ClusterInfo::parse(&client.cluster_info().await?).ok
                {
                    return Ok(Some(NotReady::Other("says cluster_state:fail".to_string())));
                }
                let Some(master) = goal.masters.get(&id).copied() else {
                    return Ok(None);
                };
                let info = Info::parse(&client.info().await?);
                Ok(match info.master_link {
                    Some(MasterLink::Up) => None,
                    _ if info.loading => Some(NotReady::Loading),
                    Some(MasterLink::Syncing) => Some(NotReady::Copying),
                    Some(MasterLink::Down(_)) | None => Some(NotReady::NoLink { master }),
                })
            }
        }
    }
}

pub(super) fn read(text: &str) -> Result<View, ParseError> {
    EntryPool::default().view(text)
}

/// Returns the participants that a node has no live link to.
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

/// Returns what a node sees differently from the goal.
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
    let concerns = |master: NodeId| goal.roles_known_by == KnownBy::All || master == id;
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
