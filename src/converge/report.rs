//! The nodes that are not ready at the deadline, and the reason as far as it can be found out from here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::probe::{NotReady, unlinked};
use super::{Unready, Watch};
use crate::client::ClientError;
use crate::cluster::node::{Addr, NodeId};
use crate::state::Participant;

/// How long a knock at a bus port may take.
const KNOCK: Duration = Duration::from_secs(2);

/// From a node's port to its bus port, unless it says otherwise.
const BUS_OFFSET: u16 = 10_000;

/// How many nodes are named.
const NAMED: usize = 8;

/// The message of a wait that was not over at the deadline.
#[derive(Debug, thiserror::Error)]
#[error("{waited_for} after {}:{}", humantime::format_duration(*.after), .behind.iter().map(|b| format!("\n  {b}")).collect::<String>())]
pub struct NotInTime {
    waited_for: &'static str,
    after: Duration,
    behind: Vec<String>,
}

impl Watch {
    pub(super) fn result(
        &self,
        waited_for: &'static str,
        behind: Vec<Unready>,
    ) -> Result<(), NotInTime> {
        if behind.is_empty() {
            return Ok(());
        }
        let lines = behind.iter().map(|unready| self.line(unready));
        Err(self.not_in_time(waited_for, lines.collect()))
    }

    /// What a node lacks, in words.
    pub(super) fn line(&self, (id, not_ready): &Unready) -> String {
        match not_ready {
            NotReady::Loading => format!("{} is loading its data set", self.name(*id)),
            NotReady::Copying => format!("{} is receiving its first copy", self.name(*id)),
            NotReady::NoLink { .. } => format!(
                "{} has no link to its master: look at its log, its masterauth and firewalls",
                self.name(*id)
            ),
            NotReady::Other(why) => format!("{} {why}", self.name(*id)),
            NotReady::Peers(peers) => format!("{} can't see {}", self.name(*id), self.names(peers)),
            NotReady::Claims(owners) => format!(
                "{} does not see the right slots at {}",
                self.name(*id),
                self.names(owners)
            ),
            NotReady::Followers(replicas) => format!(
                "{} does not know yet which masters these have: {}",
                self.name(*id),
                self.names(replicas)
            ),
            NotReady::Between { replica, master } => format!(
                "{} follows {}, which is a replica of {}",
                self.name(*id),
                self.name(*replica),
                self.name(*master)
            ),
            NotReady::Silent(why) => why.clone(),
        }
    }

    /// Refuses to wait without participants: nothing would show that the cluster agrees.
    pub(super) fn require_participants(&self, waited_for: &'static str) -> Result<(), NotInTime> {
        if !self.participants.is_empty() {
            return Ok(());
        }
        Err(NotInTime {
            waited_for,
            after: Duration::ZERO,
            behind: vec!["no member is known that could be asked".to_string()],
        })
    }

    pub(super) fn not_in_time(
        &self,
        waited_for: &'static str,
        mut behind: Vec<String>,
    ) -> NotInTime {
        let more = behind.len().saturating_sub(NAMED);
        if more > 0 {
            behind.truncate(NAMED);
            behind.push(format!("and {more} more"));
        }
        NotInTime {
            waited_for,
            after: self.within,
            behind,
        }
    }

    fn name(&self, id: NodeId) -> String {
        match self.participants.get(&id) {
            Some(participant) => format!("{} ({})", participant.target.addr, id.short()),
            None => id.short(),
        }
    }

    fn names<'a>(&self, ids: impl IntoIterator<Item = &'a NodeId>) -> String {
        let mut names: Vec<String> = ids.into_iter().map(|id| self.name(*id)).collect();
        let more = names.len().saturating_sub(NAMED);
        if more > 0 {
            names.truncate(NAMED);
            names.push(format!("{more} more"));
        }
        names.join(", ")
    }

    /// Returns which nodes have no link to which, the node with most such pairs first, and whether its bus
    /// port can be reached from here.
    pub(super) async fn not_joined(&self, behind: Vec<Unready>) -> Vec<String> {
        let (mut pairs, silent) = self.unlinked_pairs(behind).await;
        let mut lines: Vec<String> = silent.values().cloned().collect();
        let mut knocked = 0;
        while let Some(worst) = most_frequent(&pairs) {
            let (its, rest): (BTreeSet<_>, BTreeSet<_>) = pairs
                .into_iter()
                .partition(|(one, other)| *one == worst || *other == worst);
            pairs = rest;
            let blind = its.iter().filter(|(_, other)| *other == worst);
            let blind: BTreeSet<NodeId> = blind.map(|(one, _)| *one).collect();
            let unseen = its.iter().filter(|(one, _)| *one == worst);
            let unseen: BTreeSet<NodeId> = unseen.map(|(_, other)| *other).collect();
            lines.push(match (blind.is_empty(), unseen.is_empty()) {
                (false, false) if blind == unseen => format!(
                    "{} and these can't see each other: {}",
                    self.name(worst),
                    self.names(&blind)
                ),
                (false, true) => {
                    format!("{} is not seen by {}", self.name(worst), self.names(&blind))
                }
                (true, _) => format!("{} can't see {}", self.name(worst), self.names(&unseen)),
                (false, false) => format!(
                    "{} is not seen by {}, and can't see {}",
                    self.name(worst),
                    self.names(&blind),
                    self.names(&unseen)
                ),
            });
            // The first two tell enough.
            if knocked < 2 && !silent.contains_key(&worst) {
                lines.extend(self.at_bus_port(worst).await);
                knocked += 1;
            }
        }
        lines
    }

    /// Looks once more at the nodes that are not ready, side by side. Returns each pair without a link, and
    /// the nodes that do not answer.
    async fn unlinked_pairs(
        &self,
        behind: Vec<Unready>,
    ) -> (BTreeSet<(NodeId, NodeId)>, BTreeMap<NodeId, String>) {
        let mut looking = JoinSet::new();
        let mut pairs = BTreeSet::new();
        let mut silent = BTreeMap::new();
        for (id, not_ready) in behind {
            match not_ready {
                NotReady::Silent(why) => {
                    silent.insert(id, why);
                }
                NotReady::Loading | NotReady::Copying => {
                    silent.insert(id, self.line(&(id, not_ready)));
                }
                NotReady::Peers(peers) => pairs.extend(peers.into_iter().map(|peer| (id, peer))),
                // It knew too few nodes: which?
                NotReady::Claims(_)
                | NotReady::Followers(_)
                | NotReady::Between { .. }
                | NotReady::NoLink { .. }
                | NotReady::Other(_) => {
                    let Some(participant) = self.participants.get(&id).cloned() else {
                        continue;
                    };
                    let connections = Arc::clone(&self.connections);
                    let participants = Arc::clone(&self.participants);
                    looking.spawn(async move {
                        let look = async {
                            let client = connections.client(&participant.target).await?;
                            Ok(unlinked(&client.cluster_nodes().await?, &participants))
                        };
                        let not_ready = timeout(KNOCK, look).await.unwrap_or(Ok(None));
                        (id, not_ready)
                    });
                }
            }
        }
        for (id, not_ready) in looking.join_all().await {
            match not_ready {
                Ok(Some(NotReady::Peers(peers))) => {
                    pairs.extend(peers.into_iter().map(|peer| (id, peer)));
                }
                Ok(_) => {}
                Err(error) => {
                    let error: ClientError = error;
                    silent.insert(id, error.to_string());
                }
            }
        }
        (pairs, silent)
    }

    /// What a knock at a node's bus port tells.
    async fn at_bus_port(&self, id: NodeId) -> Option<String> {
        let participant = self.participants.get(&id)?;
        let bus = participant
            .bus_port
            .or_else(|| participant.port.checked_add(BUS_OFFSET))?;
        let addr = Addr::new(&participant.ip.to_string(), bus);
        Some(match self.connections.knock(&addr, KNOCK).await {
            Ok(()) => format!(
                "  its bus port {addr} can be reached from here: look at firewalls between the \
                 nodes, and at cluster-announce-ip and cluster-announce-bus-port"
            ),
            Err(why) => format!(
                "  its bus port {addr} can't be reached from here either ({why}): the nodes must \
                 reach it; look at firewalls, cluster-port and cluster-announce-bus-port"
            ),
        })
    }
}

/// The node that most of these pairs have in common.
fn most_frequent(pairs: &BTreeSet<(NodeId, NodeId)>) -> Option<NodeId> {
    let mut counts: BTreeMap<NodeId, usize> = BTreeMap::new();
    for id in pairs.iter().flat_map(|(one, other)| [one, other]) {
        *counts.entry(*id).or_default() += 1;
    }
    let most = counts
        .into_iter()
        .max_by_key(|(id, count)| (*count, std::cmp::Reverse(*id)));
    most.map(|(id, _)| id)
}

pub(super) fn mute(participant: &Participant) -> String {
    let Participant { id, target, .. } = participant;
    format!(
        "{} ({}) does not answer: its server is stopped or busy",
        target.addr,
        id.short()
    )
}
