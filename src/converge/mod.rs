//! Waiting until nodes know each other, agree, and serve.
//!
//! Every wait has a deadline and reports its progress. On failure it names the nodes that do not meet the
//! condition, and the reason as far as it can be found out from here.

mod cluster_wait;
mod nudge;
pub mod poll;
mod probe;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub(crate) use cluster_wait::{
    ViewError, copied, followed, forgotten, known, linked, one_opinion, owners_known,
};
pub(crate) use nudge::foreign_node;
use nudge::nudge;
use probe::{Condition, NotReady};
pub use report::NotInTime;
use report::mute;

use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotRange;
use crate::connections::Connections;
use crate::event::{Event, Phase};
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

    /// Waits until every node says `cluster_state:ok` and every replica has its copy.
    pub async fn usable(&self, goal: &Arc<Goal>) -> Result<(), NotInTime> {
        const LATE: &str = "the nodes agree, but not all are usable";
        self.require_participants(LATE)?;
        let behind = self.until(Condition::Usable(Arc::clone(goal))).await;
        self.result(LATE, behind)
    }

    /// Polls all nodes side by side until each meets the condition, or the deadline. Returns those that
    /// do not, with what they lack.
    async fn until(&self, condition: Condition) -> Vec<Unready> {
        let phase = condition.phase();
        // A thousand nodes are not asked ten times a second.
        let pause = LOOK_AGAIN + Duration::from_millis(self.participants.len() as u64);
        let mut polling = JoinSet::new();
        for participant in self.participants.values().cloned() {
            let deadline = self.deadline;
            let connections = Arc::clone(&self.connections);
            let participants = Arc::clone(&self.participants);
            let absent = Arc::clone(&self.absent);
            let condition = condition.clone();
            let nudged = Arc::clone(&self.nudged);
            polling.spawn(async move {
                let mut nudge_at = Instant::now() + condition.gossip_time();
                let mut last = None;
                loop {
                    let began = Instant::now();
                    let look = condition.look(&participant, &connections, &participants);
                    let not_ready = match timeout_at(deadline, look).await {
                        Ok(not_ready) => not_ready?,
                        // A stopped server would hold us for as long as a command may take; one
                        // that had no time to answer lacks what it lacked before.
                        Err(_) => {
                            let not_ready = last.filter(|_| began.elapsed() < IN_TIME);
                            let silent = || NotReady::Silent(mute(&participant));
                            return Some((participant.id, not_ready.unwrap_or_else(silent)));
                        }
                    };
                    let now = Instant::now();
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
                        );
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
        self.tell(phase, ready, total);
        while let Some(outcome) = polling.join_next().await {
            match outcome {
                Ok(None) => ready += 1,
                Ok(Some(not_ready)) => behind.push(not_ready),
                // A node that was not polled to the end must not count as ready.
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => continue,
                },
            }
            self.tell(phase, ready, total);
        }
        behind.sort_unstable_by_key(|(id, _)| *id);
        behind
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

#[cfg(test)]
mod tests;
