//! Waiting until nodes know each other, agree, and serve.
//!
//! Every wait has a deadline and reports its progress. On failure it names the nodes that do not meet the
//! condition, and the reason as far as it can be found out from here.

mod cluster_wait;
mod copies;
mod nudge;
pub mod poll;
mod probe;
mod report;
pub(crate) mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub(crate) use cluster_wait::{
    CopyNews, ViewError, followed, forgotten, known, linked, one_opinion, owners_known, relinked,
};
pub(crate) use copies::wait_for_copies;
pub(crate) use nudge::foreign_node;
use nudge::{begin_streams, nudge};
use probe::{Condition, Coverage, NotReady};
pub use report::NotInTime;
use report::mute;

use crate::cluster::node::NodeId;
use crate::cluster::slot::{SLOTS, SlotRange};
use crate::connections::Connections;
use crate::event::{Event, Phase};
use crate::session::Session;
use crate::state::Participants;

/// Pause between two looks at a node that is not ready. Gossip needs at least 100 ms.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Pause between two nudges of a node.
const NUDGE_AGAIN: Duration = Duration::from_secs(1);

/// The most nodes that a node may lack to be nudged.
const FEW: usize = 8;

/// How long links may be down after a nudge.
const SETTLES: Duration = Duration::from_millis(400);

/// How late an answer may be before a node counts as silent, at the deadline.
const IN_TIME: Duration = Duration::from_secs(1);

/// How long a goal is waited for before it is read again.
const GOAL_LASTS: Duration = Duration::from_secs(4);

/// How long reading the goal may take.
const LOOK: Duration = Duration::from_secs(3);

/// The roles and slot owners that the nodes have to agree about.
#[derive(Debug, Clone)]
pub struct Goal {
    /// The slots of every master.
    pub slots: BTreeMap<NodeId, Vec<SlotRange>>,
    /// The master of every replica.
    pub masters: BTreeMap<NodeId, NodeId>,
    /// The nodes that must know the masters of the replicas, besides the replicas themselves.
    pub roles_known_by: KnownBy,
}

impl Goal {
    /// How many slots the masters own for which `is_counted`.
    fn slots_of(&self, is_counted: impl Fn(NodeId) -> bool) -> usize {
        let masters = self.slots.iter().filter(|(id, _)| is_counted(**id));
        masters
            .flat_map(|(_, slots)| slots)
            .map(|range| range.count())
            .sum()
    }
}

/// The nodes that must know which master a replica has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownBy {
    /// The masters of the replicas. A master ignores a request of a replica (CLUSTER FAILOVER) as long as
    /// it does not know it as its replica.
    TheirMasters,
    /// All nodes. A master that still takes a replica for a master gives it no vote (Redis 6.2, 7.0).
    /// In a large cluster it may take half a node timeout until all know.
    All,
}

/// The nodes that have to agree, and the deadline for that.
#[derive(Clone)]
pub struct Watch {
    connections: Arc<Connections>,
    participants: Arc<Participants>,
    absent: Arc<BTreeSet<NodeId>>,
    events: UnboundedSender<Event>,
    /// One for all waits of a command.
    deadline: Instant,
    /// The time from the start to the deadline, for messages.
    within: Duration,
    /// Whether CLUSTER MEET was sent to a node since the last [`Watch::settle`].
    nudged: Arc<AtomicBool>,
}

/// A node that does not meet the condition, and what it lacks.
type Unready = (NodeId, NotReady);

impl Watch {
    /// Watches `participants`, on kept connections. `absent` are members that the others know and that
    /// do not answer: they are not waited for. All waits together may take as long as `within`.
    pub fn new(
        connections: Arc<Connections>,
        participants: impl Into<Arc<Participants>>,
        absent: impl Into<Arc<BTreeSet<NodeId>>>,
        events: UnboundedSender<Event>,
        within: Duration,
    ) -> Self {
        Self {
            connections,
            participants: participants.into(),
            absent: absent.into(),
            events,
            deadline: Instant::now() + within,
            within,
            nudged: Arc::default(),
        }
    }

    /// The same nodes with a deadline of their own, which is never later than this one's.
    pub fn within(&self, within: Duration) -> Self {
        let deadline = Instant::now() + within;
        let (deadline, within) = match deadline < self.deadline {
            true => (deadline, within),
            false => (self.deadline, self.within),
        };
        Self {
            deadline,
            within,
            ..self.clone()
        }
    }

    /// Waits until every node knows every other, and has a link to it.
    pub async fn join(&self) -> Result<(), NotInTime> {
        const LATE: &str = "the nodes have not all joined";
        self.require_participants(LATE)?;
        let behind = self.until(Condition::Joined).await;
        if behind.is_empty() {
            return Ok(());
        }
        Err(self.not_in_time(LATE, self.not_joined(behind).await))
    }

    /// Waits until all nodes agree with the goal: each about all slots and about its own role.
    pub async fn agree(&self, goal: &Arc<Goal>) -> Result<(), NotInTime> {
        const LATE: &str = "not all nodes agree";
        self.require_participants(LATE)?;
        let behind = self.until(Condition::Agreed(Arc::clone(goal))).await;
        self.result(LATE, behind)
    }

    /// Waits for agreement in a cluster that may change meanwhile. While nodes differ, the goal is read
    /// again from time to time: a failover of another master since then has changed it. Returns the goal
    /// that the nodes agree with.
    pub async fn agree_as_it_is(
        &self,
        mut goal: Arc<Goal>,
        look_again: impl AsyncFn() -> Option<Goal>,
    ) -> Result<Arc<Goal>, NotInTime> {
        loop {
            let for_now = self.within(GOAL_LASTS);
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

    /// Waits for an agreement, and meanwhile begins the replication streams of masters that have got replicas: the copy of
    /// an empty master begins `repl-diskless-sync-delay` (5 s) after its replica is attached, which may be before the
    /// nodes agree.
    pub async fn with_streams_of<T>(
        &self,
        masters: impl IntoIterator<Item = NodeId>,
        agreement: impl Future<Output = T>,
    ) -> T {
        let masters: BTreeSet<NodeId> = masters.into_iter().collect();
        let masters = masters.iter().filter_map(|id| self.participants.get(id));
        let streams = begin_streams(&self.connections, masters.cloned().collect());
        tokio::pin!(agreement);
        tokio::select! {
            agreed = &mut agreement => agreed,
            () = streams => agreement.await,
        }
    }

    /// Waits for agreement, and until all links are up again, so that nodes can vote next. A node that
    /// receives CLUSTER MEET for a node that it knows opens a new link. The other node closes its old
    /// link, and opens it again with the next round of pings (100 ms; Redis 6.2 to 8.6).
    pub async fn agree_and_settle(&self, goal: &Arc<Goal>) -> Result<(), NotInTime> {
        self.agree(goal).await?;
        self.settle().await;
        self.join().await?;
        self.settle().await;
        Ok(())
    }

    /// Waits until the links are up again that MEET messages have closed.
    pub async fn settle(&self) {
        if self.nudged.swap(false, Ordering::Relaxed) {
            sleep(SETTLES).await;
        }
    }

    /// Waits until every node says `cluster_state:ok` and every replica has its copy. A copy has a deadline of its own, as
    /// long as that of the whole: it takes the time that its size takes. Returns the replicas that still receive or load
    /// their copies then, in words.
    ///
    /// While slots have no owner that answers, no node will say `cluster_state:ok` (unless
    /// `cluster-require-full-coverage no`): that is not waited for then, and the user is told.
    pub async fn usable(&self, goal: &Arc<Goal>) -> Result<Vec<String>, NotInTime> {
        const LATE: &str = "the nodes agree, but not all are usable";
        self.require_participants(LATE)?;
        let served = goal.slots_of(|id| self.participants.contains_key(&id));
        let coverage = match usize::from(SLOTS) - served {
            0 => Coverage::Whole,
            holes => {
                self.warn(format!(
                    "{holes} slots have no master that answers: until they have one, the nodes may report \
                     cluster_state:fail"
                ));
                Coverage::Holes
            }
        };
        let behind = self
            .until(Condition::Usable(Arc::clone(goal), coverage))
            .await;
        let is_copying = |(id, not_ready): &Unready| {
            let is_copy = matches!(not_ready, NotReady::Loading | NotReady::Copying);
            is_copy && goal.masters.contains_key(id)
        };
        match behind.iter().all(is_copying) {
            true => Ok(behind.iter().map(|unready| self.line(unready)).collect()),
            false => self.result(LATE, behind).map(|()| Vec::new()),
        }
    }

    /// Polls all nodes side by side until each meets the condition, or the deadline. Returns those that
    /// do not, with what they lack.
    async fn until(&self, condition: Condition) -> Vec<Unready> {
        let phase = condition.phase();
        // A thousand nodes are not asked ten times a second.
        let pause = LOOK_AGAIN + Duration::from_millis(self.participants.len() as u64);
        let mut polling = JoinSet::new();
        let copied_by = match condition {
            Condition::Usable(..) => Instant::now() + self.within,
            Condition::Joined | Condition::Agreed(_) => self.deadline,
        };
        for participant in self.participants.values().cloned() {
            let mut deadline = self.deadline;
            let connections = Arc::clone(&self.connections);
            let participants = Arc::clone(&self.participants);
            let absent = Arc::clone(&self.absent);
            let condition = condition.clone();
            let nudged = Arc::clone(&self.nudged);
            polling.spawn(async move {
                let mut nudge_at = Instant::now() + condition.gossip_time();
                let mut last = None;
                let mut attempt = 0;
                loop {
                    let began = Instant::now();
                    let look = condition.look(&participant, &connections, &participants);
                    // A healthy node has the time to answer, also to a look right before the deadline.
                    let answers_by = deadline.max(began + IN_TIME);
                    let not_ready = match timeout_at(answers_by, look).await {
                        Ok(not_ready) => not_ready?,
                        // A stopped server would hold us for as long as a command may take; one
                        // that had no time to answer lacks what it lacked before.
                        Err(_) => {
                            let not_ready = last.filter(|_| answers_by > deadline);
                            let silent = || NotReady::Silent(mute(&participant));
                            return Some((participant.id, not_ready.unwrap_or_else(silent)));
                        }
                    };
                    let now = Instant::now();
                    deadline = match not_ready {
                        NotReady::Loading if condition.is_told_by_others(participant.id) => now,
                        NotReady::Loading | NotReady::Copying => deadline.max(copied_by),
                        _ => deadline,
                    };
                    if now + pause >= deadline {
                        return Some((participant.id, not_ready));
                    }
                    if now >= nudge_at {
                        nudge_at = now + NUDGE_AGAIN;
                        let nudge = nudge(
                            &connections,
                            &participants,
                            &absent,
                            &participant,
                            &not_ready,
                            attempt,
                        );
                        attempt += 1;
                        // It would only be faster.
                        let sent = timeout_at(deadline, nudge).await;
                        nudged.fetch_or(sent != Ok(0), Ordering::Relaxed);
                    }
                    last = Some(not_ready);
                    sleep(pause).await;
                }
            });
        }
        let total = self.participants.len();
        let mut ready = 0;
        let mut behind = Vec::new();
        let mut told_by_others = Vec::new();
        self.tell(phase, ready, total);
        while let Some(outcome) = polling.join_next().await {
            match outcome {
                Ok(None) => ready += 1,
                Ok(Some((id, NotReady::Loading))) if condition.is_told_by_others(id) => {
                    ready += 1;
                    told_by_others.push((id, NotReady::Loading));
                }
                Ok(Some(not_ready)) => behind.push(not_ready),
                // A node that was not polled to the end must not count as ready.
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => continue,
                },
            }
            self.tell(phase, ready, total);
        }
        // Without any other node nobody tells.
        if told_by_others.len() == total {
            behind = told_by_others;
        }
        behind.sort_unstable_by_key(|(id, _)| *id);
        behind
    }

    fn warn(&self, text: String) {
        // After an interrupt the receiver is gone.
        let _ = self.events.send(Event::Warning(text));
    }

    fn tell(&self, phase: Phase, ready: usize, total: usize) {
        // After an interrupt the receiver is gone.
        let _ = self.events.send(Event::Waiting {
            phase,
            ready,
            total,
        });
    }
}

/// Warns of replicas that still receive their copies: that goes on without us.
pub(crate) fn warn_of_copies(session: &Session, copying: &[String]) {
    if !copying.is_empty() {
        session.events.warn(format!(
            "still going on: {} (redis-trib check shows when that is done)",
            copying.join(", ")
        ));
    }
}

#[cfg(test)]
mod tests;
