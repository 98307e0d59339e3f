//! Waiting until nodes know each other, agree, and serve.
//!
//! Every wait has a deadline, tells how far it is, and on failure names who is behind, and why as
//! far as that can be found out from here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::client::{ClientError, NodeClient};
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::parse::{
    ClusterInfo, Entry, EntryPool, EntryState, Info, MasterLink, ParseError, View,
};
use crate::cluster::slot::SlotRange;
use crate::connections::Connections;
use crate::event::{Event, Phase};
use crate::execute::{Parties, Party, stranger_to};

/// Between two looks at a node that is not there yet. Gossip needs 100 ms at the least.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Between two times that gossip is helped.
const NUDGE_AGAIN: Duration = Duration::from_secs(1);

/// How many nodes may be missing for that.
const FEW: usize = 8;

/// How long links may be down after gossip was helped.
const SETTLES: Duration = Duration::from_millis(400);

/// How late an answer may be before a node counts as silent, at the deadline.
const IN_TIME: Duration = Duration::from_secs(1);

/// After so long without agreement it is looked at again what there is to agree about.
const GOAL_LASTS: Duration = Duration::from_secs(4);

/// How long that look may take.
const LOOK: Duration = Duration::from_secs(3);

/// How long a knock at a bus port may take.
const KNOCK: Duration = Duration::from_secs(2);

/// From a node's port to its bus port, unless it says otherwise.
const BUS_OFFSET: u16 = 10_000;

/// How many of those who are behind are named.
const NAMED: usize = 8;

/// What the nodes shall agree about.
#[derive(Debug, Clone)]
pub struct Goal {
    /// The slots of every master.
    pub slots: BTreeMap<NodeId, Vec<SlotRange>>,
    /// The master of every replica.
    pub masters: BTreeMap<NodeId, NodeId>,
    /// Who must have heard of that, besides the replicas themselves.
    pub heard: Heard,
}

/// Who must have heard who follows whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The masters that are followed. A master passes over what a node asks of it as its replica
    /// (CLUSTER FAILOVER) until it has.
    ByTheirMasters,
    /// All. A master that has not heard yet that another has become a replica gives it no vote
    /// (Redis 6.2, 7.0), and in a large cluster it may take half a node timeout until all have.
    ByAll,
}

/// A wait that ran out, in words.
#[derive(Debug, thiserror::Error)]
#[error("{waited_for} after {}:{}", humantime::format_duration(*.after), .behind.iter().map(|b| format!("\n  {b}")).collect::<String>())]
pub struct NotInTime {
    waited_for: &'static str,
    after: Duration,
    behind: Vec<String>,
}

/// The nodes that are waited for.
#[derive(Clone)]
pub struct Watch {
    /// Kept connections.
    pub connections: Arc<Connections>,
    /// The nodes.
    pub parties: Arc<Parties>,
    /// Members that the others know and that do not answer: nobody waits for them.
    pub absent: Arc<BTreeSet<NodeId>>,
    /// Who is told.
    pub events: UnboundedSender<Event>,
    /// The same for all waits of a command.
    pub deadline: Instant,
    /// How long that is from the start, for the error.
    pub within: Duration,
    /// Whether gossip was helped.
    pub nudged: Arc<AtomicBool>,
}

/// What is waited for.
#[derive(Debug, Clone)]
enum Until {
    Joined,
    Agreed(Arc<Goal>),
    Usable(Arc<Goal>),
}

/// What a node lacks.
#[derive(Debug, Clone)]
enum Lack {
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

/// A node that is behind.
type Behind = (NodeId, Lack);

impl Watch {
    /// Until every node knows every other, and has a link to it.
    pub async fn join(&self) -> Result<(), NotInTime> {
        let behind = self.until(Until::Joined).await;
        if behind.is_empty() {
            return Ok(());
        }
        Err(self.not_in_time(
            "the nodes have not all joined",
            self.not_joined(behind).await,
        ))
    }

    /// Until all nodes agree with the goal: about slots as each sees them, about roles as each has
    /// its own.
    pub async fn agree(&self, goal: &Arc<Goal>) -> Result<(), NotInTime> {
        let behind = self.until(Until::Agreed(Arc::clone(goal))).await;
        self.result("not all nodes agree", behind)
    }

    /// The same in a cluster that lives: where somebody still sees something else after a while, it is
    /// looked at again what there is to agree about. A replica that took over elsewhere since then has
    /// changed that, and nobody is to wait for what was before. What they agree about.
    pub async fn agree_as_it_is(
        &self,
        mut goal: Arc<Goal>,
        look_again: impl AsyncFn() -> Option<Goal>,
    ) -> Result<Arc<Goal>, NotInTime> {
        loop {
            let for_now = Self {
                deadline: self.deadline.min(Instant::now() + GOAL_LASTS),
                ..self.clone()
            };
            match for_now.agree(&goal).await {
                Ok(()) => return Ok(goal),
                Err(late) if for_now.deadline == self.deadline => return Err(late),
                Err(_) => {}
            }
            if let Ok(Some(now)) = timeout(LOOK, look_again()).await {
                goal = Arc::new(now);
            }
        }
    }

    /// The same as [`Self::agree`], and until all links are up again, so that whoever needs votes next gets them: a node
    /// that is told to meet one that it knows already calls anew, and that one hangs up the link
    /// that it had, which comes back with the next round of pings (100 ms; Redis 6.2 to 8.6).
    pub async fn agree_and_settle(&self, goal: &Arc<Goal>) -> Result<(), NotInTime> {
        self.agree(goal).await?;
        if self.nudged.swap(false, Ordering::Relaxed) {
            sleep(SETTLES).await;
        }
        self.join().await?;
        if self.nudged.load(Ordering::Relaxed) {
            sleep(SETTLES).await;
        }
        Ok(())
    }

    /// Until every node serves, and every replica has a copy.
    pub async fn usable(&self, goal: &Arc<Goal>) -> Result<(), NotInTime> {
        let behind = self.until(Until::Usable(Arc::clone(goal))).await;
        self.result("the nodes agree, but not all are usable", behind)
    }

    /// Polls all nodes side by side until each lacks nothing, or the deadline; then who lacks what.
    async fn until(&self, until: Until) -> Vec<Behind> {
        let phase = until.phase();
        // A thousand nodes are not asked ten times a second.
        let pause = LOOK_AGAIN + Duration::from_millis(self.parties.len() as u64);
        let mut polling = JoinSet::new();
        for party in self.parties.values().cloned() {
            let deadline = self.deadline;
            let connections = Arc::clone(&self.connections);
            let parties = Arc::clone(&self.parties);
            let absent = Arc::clone(&self.absent);
            let until = until.clone();
            let nudged = Arc::clone(&self.nudged);
            polling.spawn(async move {
                let mut nudge_at = Instant::now() + until.gossip_time();
                let mut last = None;
                loop {
                    let began = Instant::now();
                    let look = until.look(&party, &connections, &parties);
                    let lack = match timeout_at(deadline, look).await {
                        Ok(lack) => lack?,
                        // A stopped server would hold us for as long as a command may take; one
                        // that had no time to answer lacks what it lacked before.
                        Err(_) => {
                            let lack = last.filter(|_| began.elapsed() < IN_TIME);
                            let silent = || Lack::Silent(mute(&party));
                            return Some((party.id, lack.unwrap_or_else(silent)));
                        }
                    };
                    let now = Instant::now();
                    if now + pause >= deadline {
                        return Some((party.id, lack));
                    }
                    if now >= nudge_at {
                        nudge_at = now + NUDGE_AGAIN;
                        let nudge = nudge(&connections, &parties, &absent, &party, &lack);
                        // It would only be faster.
                        let sent = timeout_at(deadline, nudge).await;
                        nudged.fetch_or(sent != Ok(0), Ordering::Relaxed);
                    }
                    last = Some(lack);
                    sleep(pause).await;
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
        let lines = behind.iter().map(|(id, lack)| match lack {
            Lack::Other(why) => format!("{} {why}", self.name(*id)),
            Lack::Peers(peers) => format!("{} can't see {}", self.name(*id), self.names(peers)),
            Lack::Claims(owners) => format!(
                "{} does not see the right slots at {}",
                self.name(*id),
                self.names(owners)
            ),
            Lack::Followers(replicas) => format!(
                "{} has not heard yet whom these follow: {}",
                self.name(*id),
                self.names(replicas)
            ),
            Lack::Between { replica, master } => format!(
                "{} follows {}, which is a replica of {}",
                self.name(*id),
                self.name(*replica),
                self.name(*master)
            ),
            Lack::Silent(why) => why.clone(),
        });
        Err(self.not_in_time(waited_for, lines.collect()))
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

    fn name(&self, id: NodeId) -> String {
        match self.parties.get(&id) {
            Some(party) => format!("{} ({})", party.target.addr, id.short()),
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

    /// Who can't see whom, the node with most such pairs first, and what a knock at its bus port
    /// tells.
    async fn not_joined(&self, behind: Vec<Behind>) -> Vec<String> {
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

    /// Looks once more at those who are behind, side by side: each pair of who can't see whom, and
    /// those who do not answer.
    async fn unlinked_pairs(
        &self,
        behind: Vec<Behind>,
    ) -> (BTreeSet<(NodeId, NodeId)>, BTreeMap<NodeId, String>) {
        let mut looking = JoinSet::new();
        let mut pairs = BTreeSet::new();
        let mut silent = BTreeMap::new();
        for (id, lack) in behind {
            match lack {
                Lack::Silent(why) => {
                    silent.insert(id, why);
                }
                Lack::Peers(peers) => pairs.extend(peers.into_iter().map(|peer| (id, peer))),
                // It knew too few nodes: which?
                Lack::Claims(_) | Lack::Followers(_) | Lack::Between { .. } | Lack::Other(_) => {
                    let Some(party) = self.parties.get(&id).cloned() else {
                        continue;
                    };
                    let connections = Arc::clone(&self.connections);
                    let parties = Arc::clone(&self.parties);
                    looking.spawn(async move {
                        let look = async {
                            let client = connections.client(&party.target).await?;
                            Ok(unlinked(&client.cluster_nodes().await?, &parties))
                        };
                        let lack = timeout(KNOCK, look).await.unwrap_or(Ok(None));
                        (id, lack)
                    });
                }
            }
        }
        for (id, lack) in looking.join_all().await {
            match lack {
                Ok(Some(Lack::Peers(peers))) => {
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
        let party = self.parties.get(&id)?;
        let bus = party
            .bus_port
            .or_else(|| party.port.checked_add(BUS_OFFSET))?;
        let addr = Addr::new(&party.ip.to_string(), bus);
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

/// Helps out where only little is missing, which gossip may take long to bring: nodes talk to each
/// other at random, and are sure to do so only once in half a node timeout, 7.5 s by default. A node
/// that is told to meet another sends it a message at once, also if they know each other (Redis 3.2
/// to 8.6, Valkey 8 to 9.1), and with it the slots that it owns.
async fn nudge(
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

fn mute(party: &Party) -> String {
    let Party { id, target, .. } = party;
    format!(
        "{} ({}) does not answer: its server is stopped or busy",
        target.addr,
        id.short()
    )
}

/// Whether that is another node's view, or one that got to know somebody who is not in the plan.
fn is_other(text: &str, party: &Party, parties: &Parties, absent: &BTreeSet<NodeId>) -> bool {
    read(text).map_or(true, |view| {
        view.myself().id != party.id || stranger_to(parties, absent, &view).is_some()
    })
}

impl Until {
    fn phase(&self) -> Phase {
        match self {
            Self::Joined => Phase::Join,
            Self::Agreed(_) => Phase::Agree,
            Self::Usable(_) => Phase::Usable,
        }
    }

    /// How long gossip is left alone before it is helped.
    fn gossip_time(&self) -> Duration {
        match self {
            Self::Joined => Duration::from_millis(300),
            // A new master tells all at once, and the help costs links.
            Self::Agreed(goal) if goal.heard == Heard::ByAll => Duration::from_secs(1),
            // It had its time while the nodes joined.
            Self::Agreed(_) | Self::Usable(_) => Duration::ZERO,
        }
    }

    /// One look at one node: what it lacks, if anything.
    async fn look(
        &self,
        party: &Party,
        connections: &Connections,
        parties: &Parties,
    ) -> Option<Lack> {
        let looked = async {
            let client = connections.client(&party.target).await?;
            self.lack(party.id, &client, parties).await
        };
        looked.await.unwrap_or_else(|error| {
            // The next look opens a new connection.
            connections.drop_client(&party.target.addr);
            Some(Lack::Silent(error.to_string()))
        })
    }

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
                if info.known_nodes + FEW < parties.len() {
                    let known = info.known_nodes;
                    return Ok(Some(Lack::Other(format!("knows {known} nodes"))));
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
                        "has no link to its master: look at its log, its masterauth and firewalls"
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
    let planned = |id| goal.slots.get(&id).map_or(&[][..], Vec::as_slice);
    let entries = view.entries().map(|entry| (entry.id, &entry.slots[..]));
    let seen: BTreeMap<NodeId, &[SlotRange]> = entries.collect();
    let ids: BTreeSet<NodeId> = seen.keys().chain(goal.slots.keys()).copied().collect();
    let wrong: BTreeSet<NodeId> = ids
        .into_iter()
        .filter(|id| seen.get(id).copied().unwrap_or_default() != planned(*id))
        .collect();
    if !wrong.is_empty() {
        return Some(Lack::Claims(wrong));
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
        return Some(Lack::Followers(unheard));
    }
    let master = *goal.masters.get(&id)?;
    let myself = view.myself();
    if follows(myself, master) {
        return None;
    }
    let between = myself.master.and_then(|replica| view.entry(replica));
    Some(match between.filter(|replica| follows(replica, master)) {
        Some(replica) => Lack::Between {
            replica: replica.id,
            master,
        },
        None => Lack::Other(format!("does not follow {} yet", master.short())),
    })
}
