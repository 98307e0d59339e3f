//! From a plan to commands: one round after the other, the steps of a round side by side.
//!
//! Before the first step, and before nodes are told to meet, all of them are read again: an address
//! may by now be another cluster's, and CLUSTER MEET merges clusters (redis/redis#6174, #7287).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use crate::client::ClientError;
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::parse::{EntryPool, ParseError, View};
use crate::connections::Connections;
use crate::converge::foreign_node;
use crate::event::{Event, Phase};
use crate::plan::{Plan, Step};
use crate::state::{Participant, Participants};

/// What carries a plan out.
pub(crate) struct Execution {
    /// Kept open from step to step.
    pub(crate) connections: Arc<Connections>,
    /// Who is who.
    pub(crate) participants: Arc<Participants>,
    /// Members that the participants know and that do not answer: the plan leaves them alone.
    pub(crate) absent: Arc<BTreeSet<NodeId>>,
    /// Who is told.
    pub(crate) events: UnboundedSender<Event>,
    /// How far it is.
    pub(crate) tally: Arc<StepCounts>,
}

/// How many steps were carried out: still known when the execution itself was dropped half-way.
#[derive(Debug, Default)]
pub(crate) struct StepCounts {
    done: AtomicUsize,
    open: AtomicUsize,
}

impl StepCounts {
    /// Steps that a node has confirmed.
    pub(crate) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Steps that were sent and not answered: they may have taken effect.
    pub(crate) fn unknown(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether anything was changed, or may have been.
    pub(crate) fn has_begun(&self) -> bool {
        self.done() + self.unknown() > 0
    }

    fn answered(&self, answer: &Result<(), ClientError>) {
        match answer {
            Err(error) if error.outcome_unknown() => return,
            Err(_) => {}
            Ok(()) => {
                self.done.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a plan was not carried out to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    /// Commands were refused, or not answered.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Failed(Vec<Failure>),
    /// A node's CLUSTER NODES can't be read.
    #[error("{addr}: {error}")]
    Unreadable {
        /// The node.
        addr: Addr,
        /// What is wrong with it.
        error: ParseError,
    },
    /// Another node answers than the one that was planned with.
    #[error(
        "{addr} was node {planned} and is {found} now: it lost its nodes.conf, or its address was \
         given to another node",
        planned = .planned.short(),
        found = .found.short()
    )]
    Replaced {
        /// The address.
        addr: Addr,
        /// Who was there.
        planned: NodeId,
        /// Who is there.
        found: NodeId,
    },
    /// A node got to know somebody who is not in the plan.
    #[error(
        "{addr} has got to know {stranger}, who is not in the plan: to meet it would merge two clusters",
        stranger = .stranger.short()
    )]
    Stranger {
        /// The node.
        addr: Addr,
        /// Who should not be there.
        stranger: NodeId,
    },
}

/// A step that a node did not take.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {error}{}", if error.outcome_unknown() { " (it may have been done all the same)" } else { "" })]
pub(crate) struct Failure {
    /// What was to be done.
    what: &'static str,
    /// The node and what it said.
    error: ClientError,
}

impl Execution {
    /// Carries the plan out, if its nodes still are who they were.
    pub(crate) async fn run(&self, plan: &Plan) -> Result<(), ExecuteError> {
        let mut phase = None;
        for round in &plan.rounds {
            let Some(next) = round.first().map(phase_of) else {
                continue;
            };
            // Before the first step, since people take their time at a prompt; and right before the
            // nodes meet, which takes all of its rounds together some 50 ms.
            if phase.is_none() || (next == Phase::Meet && phase != Some(next)) {
                self.look_again().await?;
            }
            if phase != Some(next) {
                phase = Some(next);
                self.tell(Event::Phase(next));
            }
            self.round(round).await?;
        }
        Ok(())
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more when we were interrupted.
        let _ = self.events.send(event);
    }

    /// Waits for all steps of a round, also after one has failed: what is still on its way when we
    /// end would change a cluster that nobody watches.
    async fn round(&self, steps: &[Step]) -> Result<(), ExecuteError> {
        let mut doing = JoinSet::new();
        for step in steps.iter().cloned() {
            let connections = Arc::clone(&self.connections);
            let participants = Arc::clone(&self.participants);
            let tally = Arc::clone(&self.tally);
            doing.spawn(async move {
                let answer = apply(&connections, &participants, &tally, &step).await;
                (step, answer)
            });
        }
        let mut failures = Vec::new();
        while let Some(Ok((step, answer))) = doing.join_next().await {
            match answer {
                Ok(()) => {
                    if let Some(event) = event_of(&step) {
                        self.tell(event);
                    }
                }
                Err(error) => failures.push(Failure {
                    what: what(&step),
                    error,
                }),
            }
        }
        if failures.is_empty() {
            return Ok(());
        }
        failures.sort_by(|one, other| one.error.addr.cmp(&other.error.addr));
        Err(ExecuteError::Failed(failures))
    }

    /// Reads every participant's id and whom it knows.
    async fn look_again(&self) -> Result<(), ExecuteError> {
        for (participant, view) in views(&self.connections, &self.participants).await? {
            let addr = || participant.target.addr.clone();
            let found = view.myself().id;
            if found != participant.id {
                return Err(ExecuteError::Replaced {
                    addr: addr(),
                    planned: participant.id,
                    found,
                });
            }
            if let Some(stranger) = foreign_node(&self.participants, &self.absent, &view) {
                return Err(ExecuteError::Stranger {
                    addr: addr(),
                    stranger,
                });
            }
        }
        Ok(())
    }
}

/// The view of every participant, side by side; in the order of their ids.
async fn views(
    connections: &Arc<Connections>,
    participants: &Participants,
) -> Result<Vec<(Participant, View)>, ExecuteError> {
    let mut reading = JoinSet::new();
    for participant in participants.values().cloned() {
        let connections = Arc::clone(connections);
        reading.spawn(async move {
            let text = async {
                let client = connections.client(&participant.target).await?;
                client.cluster_nodes().await
            };
            let text = text.await;
            (participant, text)
        });
    }
    let mut pool = EntryPool::default();
    let mut views = Vec::with_capacity(participants.len());
    let mut failures = Vec::new();
    for (participant, text) in reading.join_all().await {
        match text {
            Ok(text) => {
                let view = pool.view(&text).map_err(|error| ExecuteError::Unreadable {
                    addr: participant.target.addr.clone(),
                    error,
                })?;
                views.push((participant, view));
            }
            Err(error) => failures.push(Failure {
                what: "looking at the node again",
                error,
            }),
        }
    }
    if failures.is_empty() {
        views.sort_unstable_by_key(|(participant, _)| participant.id);
        Ok(views)
    } else {
        Err(ExecuteError::Failed(failures))
    }
}

async fn apply(
    connections: &Connections,
    participants: &Participants,
    tally: &StepCounts,
    step: &Step,
) -> Result<(), ClientError> {
    // A plan names its participants only; a step about somebody else is nobody's.
    let Some(participant) = participants.get(&step.node()) else {
        return Ok(());
    };
    let client = connections.client(&participant.target).await?;
    tally.open.fetch_add(1, Ordering::Relaxed);
    let answer = match step {
        Step::AddSlots { slots, .. } => client.cluster_addslots(slots).await,
        Step::SetConfigEpoch { epoch, .. } => {
            match client.cluster_set_config_epoch(*epoch).await {
                // It has been met by now, by what an earlier run began. Then servers see to
                // different epochs themselves.
                Err(error) if error.server_code() == Some("ERR") => Ok(()),
                answer => answer,
            }
        }
        Step::Meet { with, .. } => match participants.get(with) {
            Some(with) => client.cluster_meet(with.ip, with.port, with.bus_port).await,
            None => Ok(()),
        },
        Step::Replicate { master, .. } => client.cluster_replicate(*master).await,
        // Many commands to two nodes each, and together: `migrate::run` does that.
        Step::MoveSlots { .. } => Ok(()),
    };
    tally.answered(&answer);
    answer
}

fn phase_of(step: &Step) -> Phase {
    match step {
        Step::AddSlots { .. } => Phase::AddSlots,
        Step::SetConfigEpoch { .. } => Phase::SetEpochs,
        Step::Meet { .. } => Phase::Meet,
        Step::Replicate { .. } => Phase::Replicate,
        Step::MoveSlots { .. } => Phase::Move,
    }
}

fn what(step: &Step) -> &'static str {
    match step {
        Step::AddSlots { .. } => "giving slots",
        Step::SetConfigEpoch { .. } => "setting the config epoch",
        Step::Meet { .. } => "telling a node to meet another",
        Step::Replicate { .. } => "making a node a replica",
        Step::MoveSlots { .. } => "moving slots",
    }
}

fn event_of(step: &Step) -> Option<Event> {
    match step {
        Step::AddSlots { node, slots } => Some(Event::SlotsAdded {
            node: *node,
            slots: slots.clone(),
        }),
        Step::Replicate { replica, master } => Some(Event::Replicates {
            replica: *replica,
            master: *master,
        }),
        Step::SetConfigEpoch { .. } | Step::Meet { .. } | Step::MoveSlots { .. } => None,
    }
}
