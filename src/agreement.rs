//! Waiting until nodes know each other, agree, and serve.
//!
//! Every wait has a deadline, tells how far it is, and on failure names who is behind, and why as
//! far as that can be found out from here.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{ClientError, NodeClient};
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::parse::{
    ClusterInfo, EntryPool, EntryState, Info, MasterLink, ParseError, View,
};
use crate::cluster::slot::SlotRange;
use crate::connections::Connections;
use crate::event::{Event, Phase};
use crate::execute::{Parties, views};

/// Between two looks at a node that is not there yet. Gossip needs 100 ms at the least.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Between two rounds of introductions: a handshake needs a few ticks of 100 ms on both ends.
const INTRODUCE_AGAIN: Duration = Duration::from_millis(500);

/// How long a knock at a bus port may take.
const KNOCK: Duration = Duration::from_secs(2);

/// How many of those who are behind are named.
const NAMED: usize = 8;

/// What the nodes shall agree about.
#[derive(Debug, Clone)]
pub struct Goal {
    /// The slots of every master.
    pub slots: BTreeMap<NodeId, Vec<SlotRange>>,
    /// The master of every replica.
    pub masters: BTreeMap<NodeId, NodeId>,
}

/// A wait that ran out, in words.
#[derive(Debug, thiserror::Error)]
#[error("{waited_for}, after {}:{}", humantime::format_duration(*.after), .behind.iter().map(|b| format!("\n  {b}")).collect::<String>())]
pub struct NotInTime {
    waited_for: &'static str,
    after: Duration,
    behind: Vec<String>,
}

/// The nodes that are waited for.
pub struct Watch {
    /// Kept connections.
    pub connections: Arc<Connections>,
    /// The nodes.
    pub parties: Arc<Parties>,
    /// Who is told.
    pub events: UnboundedSender<Event>,
    /// The same for all waits of a command.
    pub deadline: Instant,
    /// How long that is from the start, for the error.
    pub within: Duration,
}

/// What is waited for.
#[derive(Debug, Clone)]
enum Until {
    Joined,
    Agreed(Arc<Goal>),
    Usable(Arc<Goal>),
}

/// A node that is behind, and what it lacks or why it does not say.
type Behind = (NodeId, Result<Lack, ClientError>);

/// What a node lacks.
#[derive(Debug, Clone)]
enum Lack {
    /// It has no live link to these.
    Peers(BTreeSet<NodeId>),
    /// Something else, in words.
    Other(String),
}

impl Watch {
    /// Until every node knows every other, and has a link to it.
    pub async fn join(&self) -> Result<(), NotInTime> {
        let behind = self.until_introduced(Until::Joined).await;
        if behind.is_empty() {
            return Ok(());
        }
        Err(self.not_joined(behind).await)
    }

    /// Until all nodes agree with the goal about slots and roles.
    pub async fn agree(&self, goal: &Arc<Goal>) -> Result<(), NotInTime> {
        let behind = self.until_introduced(Until::Agreed(Arc::clone(goal))).await;
        self.result("the nodes don't agree", behind)
    }

    /// Until every node serves, and every replica has a copy.
    pub async fn usable(&self, goal: &Arc<Goal>) -> Result<(), NotInTime> {
        let behind = self.until(Until::Usable(Arc::clone(goal))).await;
        self.result("the cluster is made, but not usable yet", behind)
    }

    /// As [`Self::until`]; nodes that gossip leaves behind are helped along meanwhile.
    async fn until_introduced(&self, until: Until) -> Vec<Behind> {
        let introduce = self.introduce(until.clone());
        tokio::select! {
            behind = self.until(until) => behind,
            never = introduce => match never {},
        }
    }

    /// Has those meet who lack each other, again and again.
    ///
    /// Gossip tells a node about others by chance, once a second: the last of a hundred nodes wait
    /// for seconds. Slots are worse: a node takes none from the answer that completes a handshake,
    /// so of two that were told to meet, the one that was met learns the other's slots only from a
    /// later ping between just these two; with a hundred nodes that took 20 to 27 s on Redis 7.0.15.
    /// A MEET from somebody who is known carries his slots, and leaves nothing else behind.
    async fn introduce(&self, until: Until) -> Infallible {
        if matches!(until, Until::Joined) {
            // They have just been told to meet.
            tokio::time::sleep(INTRODUCE_AGAIN).await;
        }
        loop {
            // Whom a node knows is read right before each MEET, so no other cluster is merged.
            let views = views(&self.connections, &self.parties).await;
            let mut meeting = JoinSet::new();
            for (id, view) in views.unwrap_or_default() {
                if view.myself().id != id {
                    continue;
                }
                for (node, with) in until.strangers(&view, &self.parties) {
                    let (Some(node), Some(with)) =
                        (self.parties.get(&node), self.parties.get(&with))
                    else {
                        continue;
                    };
                    let connections = Arc::clone(&self.connections);
                    let (node, with) = (node.target.clone(), with.clone());
                    meeting.spawn(async move {
                        let client = connections.client(&node).await?;
                        client.cluster_meet(with.ip, with.port, with.bus_port).await
                    });
                }
            }
            tracing::debug!(
                pairs = meeting.len(),
                "nodes that lack each other meet again"
            );
            for met in meeting.join_all().await {
                // The wait itself tells who stays behind.
                if let Err(error) = met {
                    tracing::debug!(%error, "nodes that lack each other could not meet again");
                }
            }
            tokio::time::sleep(INTRODUCE_AGAIN).await;
        }
    }

    /// Polls all nodes side by side until each lacks nothing, or the deadline; then who lacks what.
    async fn until(&self, until: Until) -> Vec<Behind> {
        let phase = until.phase();
        let mut polling = JoinSet::new();
        for (id, party) in self.parties.iter() {
            let (id, target, deadline) = (*id, party.target.clone(), self.deadline);
            let connections = Arc::clone(&self.connections);
            let parties = Arc::clone(&self.parties);
            let until = until.clone();
            polling.spawn(async move {
                loop {
                    let lack = match connections.client(&target).await {
                        Ok(client) => until.lack(id, &client, &parties).await,
                        Err(error) => Err(error),
                    };
                    let late = Instant::now() >= deadline;
                    match lack.transpose() {
                        None => return None,
                        Some(lack) if late => return Some((id, lack)),
                        Some(Ok(_)) => {}
                        // The next look opens a new connection.
                        Some(Err(_)) => connections.drop_client(&target.addr),
                    }
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            });
        }
        let total = self.parties.len();
        let mut ready = 0;
        let mut behind = Vec::new();
        self.tell(phase, ready, total);
        while let Some(Ok(outcome)) = polling.join_next().await {
            match outcome {
                None => ready += 1,
                Some(lack) => behind.push(lack),
            }
            self.tell(phase, ready, total);
        }
        behind.sort_unstable_by_key(|(id, _)| *id);
        behind
    }

    fn tell(&self, phase: Phase, ready: usize, total: usize) {
        // Nobody listens any more when we were interrupted.
        let _ = self.events.send(Event::Waiting {
            phase,
            ready,
            total,
        });
    }

    fn result(&self, waited_for: &'static str, behind: Vec<Behind>) -> Result<(), NotInTime> {
        if behind.is_empty() {
            return Ok(());
        }
        Err(self.not_in_time(waited_for, self.told(&behind)))
    }

    fn not_in_time(&self, waited_for: &'static str, mut behind: Vec<String>) -> NotInTime {
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

    fn told(&self, behind: &[Behind]) -> Vec<String> {
        behind
            .iter()
            .map(|(id, lack)| match lack {
                Ok(Lack::Other(why)) => format!("{} {why}", self.name(*id)),
                Ok(Lack::Peers(peers)) => {
                    let peers: Vec<String> =
                        peers.iter().take(NAMED).map(|id| self.name(*id)).collect();
                    format!("{} can't see {}", self.name(*id), peers.join(", "))
                }
                Err(error) => error.to_string(),
            })
            .collect()
    }

    fn name(&self, id: NodeId) -> String {
        match self.parties.get(&id) {
            Some(party) => format!("{} ({})", party.target.addr, id.short()),
            None => id.short(),
        }
    }

    /// Who can't see whom, and what a knock at the bus ports tells.
    async fn not_joined(&self, behind: Vec<Behind>) -> NotInTime {
        let mut unseen: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut pairs = Vec::new();
        for (id, lack) in behind {
            let lack = match (&lack, self.parties.get(&id)) {
                // It knew too few nodes: by now we want to know which.
                (Ok(_), Some(party)) => match self.connections.client(&party.target).await {
                    Ok(client) => client
                        .cluster_nodes()
                        .await
                        .map(|text| unlinked(&text, &self.parties)),
                    Err(error) => Err(error),
                },
                _ => lack.map(Some),
            };
            if let Ok(Some(Lack::Peers(peers))) = &lack {
                for peer in peers {
                    *unseen.entry(*peer).or_default() += 1;
                }
            }
            if let Some(lack) = lack.transpose() {
                pairs.push((id, lack));
            }
        }
        let mut lines = self.told(&pairs);
        let more = lines.len().saturating_sub(NAMED);
        lines.truncate(NAMED);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        let mut worst: Vec<(NodeId, usize)> = unseen.into_iter().collect();
        worst.sort_by_key(|(id, count)| (std::cmp::Reverse(*count), *id));
        for (id, _) in worst.into_iter().take(2) {
            if let Some(party) = self.parties.get(&id) {
                let bus = party.bus_port.unwrap_or(party.port.saturating_add(10_000));
                let addr = Addr::new(party.target.addr.host(), bus);
                lines.push(match self.connections.knock(&addr, KNOCK).await {
                    Ok(()) => format!(
                        "the bus port of {} ({bus}) is open from here: look at firewalls between \
                         the nodes, and at cluster-announce-ip and -bus-port",
                        self.name(id)
                    ),
                    Err(why) => format!(
                        "the bus port of {} ({bus}) is closed from here too: {why}",
                        self.name(id)
                    ),
                });
            }
        }
        NotInTime {
            waited_for: "not every node knows every other",
            after: self.within,
            behind: lines,
        }
    }
}

impl Until {
    fn phase(&self) -> Phase {
        match self {
            Self::Joined => Phase::Join,
            Self::Agreed(_) => Phase::Agree,
            Self::Usable(_) => Phase::Usable,
        }
    }

    /// Who should be told to meet whom, as far as one view tells: those that it lacks; masters whose
    /// slots it does not see.
    fn strangers(&self, view: &View, parties: &Parties) -> Vec<(NodeId, NodeId)> {
        let me = view.myself().id;
        match self {
            Self::Joined => parties
                .keys()
                .filter(|id| view.entry(**id).is_none())
                .map(|id| (me, *id))
                .collect(),
            Self::Agreed(goal) => goal
                .slots
                .iter()
                .filter(|(_, slots)| !slots.is_empty())
                .filter(|(id, _)| view.entry(**id).is_some_and(|e| e.slots.is_empty()))
                .map(|(id, _)| (*id, me))
                .collect(),
            Self::Usable(_) => Vec::new(),
        }
    }

    /// One look at one node.
    async fn lack(
        &self,
        id: NodeId,
        client: &NodeClient,
        parties: &Parties,
    ) -> Result<Option<Lack>, ClientError> {
        match self {
            Self::Joined => {
                // Short where CLUSTER NODES is long, and polled often.
                let info = ClusterInfo::parse(&client.cluster_info().await?);
                if info.known_nodes < parties.len() {
                    return Ok(Some(Lack::Other(format!(
                        "knows {} nodes",
                        info.known_nodes
                    ))));
                }
                Ok(unlinked(&client.cluster_nodes().await?, parties))
            }
            Self::Agreed(goal) => Ok(differs(&client.cluster_nodes().await?, id, goal)),
            Self::Usable(goal) => {
                if !ClusterInfo::parse(&client.cluster_info().await?).ok {
                    return Ok(Some(Lack::Other("says cluster_state:fail".to_string())));
                }
                if !goal.masters.contains_key(&id) {
                    return Ok(None);
                }
                let why = match Info::parse(&client.info().await?).master_link {
                    Some(MasterLink::Up) => return Ok(None),
                    Some(MasterLink::Syncing) => "is receiving its first copy",
                    Some(MasterLink::Down(_)) | None => {
                        "has no link to its master (masterauth? a firewall?)"
                    }
                };
                Ok(Some(Lack::Other(why.to_string())))
            }
        }
    }
}

fn read(text: &str) -> Result<View, ParseError> {
    EntryPool::default().view(text)
}

/// The parties that a node has no live link to.
fn unlinked(text: &str, parties: &Parties) -> Option<Lack> {
    let view = match read(text) {
        Ok(view) => view,
        Err(error) => return Some(Lack::Other(error.to_string())),
    };
    let peers: BTreeSet<NodeId> = parties
        .keys()
        .filter(|id| {
            view.entry(**id)
                .is_none_or(|entry| !entry.linked || entry.state == EntryState::Handshake)
        })
        .copied()
        .collect();
    (!peers.is_empty()).then_some(Lack::Peers(peers))
}

/// What a node sees differently from the goal.
fn differs(text: &str, id: NodeId, goal: &Goal) -> Option<Lack> {
    let view = match read(text) {
        Ok(view) => view,
        Err(error) => return Some(Lack::Other(error.to_string())),
    };
    let wrong = view.entries().find(|entry| {
        entry.slots.as_slice() != goal.slots.get(&entry.id).map_or(&[][..], Vec::as_slice)
    });
    if let Some(wrong) = wrong {
        let id = wrong.id.short();
        return Some(Lack::Other(format!("sees other slots at {id}")));
    }
    let myself = view.myself();
    match goal.masters.get(&id) {
        Some(master) if myself.role != Some(Role::Replica) || myself.master != Some(*master) => {
            Some(Lack::Other(format!(
                "does not follow {} yet",
                master.short()
            )))
        }
        _ => None,
    }
}
