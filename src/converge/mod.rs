//! Waiting until nodes know each other, agree, and serve.
//!
//! Every wait has a deadline, tells how far it is, and on failure names who is behind, and why as
//! far as that can be found out from here.

mod nudge;
mod probe;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub(crate) use nudge::foreign_node;
use nudge::nudge;
use probe::{NotReady, Until};
pub use report::NotInTime;
use report::mute;

use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotRange;
use crate::connections::Connections;
use crate::event::{Event, Phase};
use crate::state::Participants;

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
    /// Whether a node was told to meet another since the last [`Watch::settle`].
    nudged: Arc<AtomicBool>,
}

/// A node that is behind.
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

    /// The same as [`Self::agree`], and until all links are up again, so that whoever needs votes next gets them: a node
    /// that is told to meet one that it knows already calls anew, and that one hangs up the link
    /// that it had, which comes back with the next round of pings (100 ms; Redis 6.2 to 8.6).
    pub async fn agree_and_settle(&self, goal: &Arc<Goal>) -> Result<(), NotInTime> {
        self.agree(goal).await?;
        self.settle().await;
        self.join().await?;
        self.settle().await;
        Ok(())
    }

    /// Until the links are up again that help has cost.
    pub async fn settle(&self) {
        if self.nudged.swap(false, Ordering::Relaxed) {
            sleep(SETTLES).await;
        }
    }

    /// Until every node serves, and every replica has a copy.
    pub async fn usable(&self, goal: &Arc<Goal>) -> Result<(), NotInTime> {
        let behind = self.until(Until::Usable(Arc::clone(goal))).await;
        self.result("the nodes agree, but not all are usable", behind)
    }

    /// Polls all nodes side by side until each lacks nothing, or the deadline; then who lacks what.
    async fn until(&self, until: Until) -> Vec<Unready> {
        let phase = until.phase();
        // A thousand nodes are not asked ten times a second.
        let pause = LOOK_AGAIN + Duration::from_millis(self.participants.len() as u64);
        let mut polling = JoinSet::new();
        for participant in self.participants.values().cloned() {
            let deadline = self.deadline;
            let connections = Arc::clone(&self.connections);
            let participants = Arc::clone(&self.participants);
            let absent = Arc::clone(&self.absent);
            let until = until.clone();
            let nudged = Arc::clone(&self.nudged);
            polling.spawn(async move {
                let mut nudge_at = Instant::now() + until.gossip_time();
                let mut last = None;
                loop {
                    let began = Instant::now();
                    let look = until.look(&participant, &connections, &participants);
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
        // Nobody listens any more when we were interrupted.
        let _ = self.events.send(Event::Waiting {
            phase,
            ready,
            total,
        });
    }
}
