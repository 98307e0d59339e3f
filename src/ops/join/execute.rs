//! Runs a membership plan: one round after the other, the steps of a round in parallel.
//!
//! Before the first step, and before CLUSTER MEET, all nodes are read again: by now an address may
//! belong to another cluster, and CLUSTER MEET merges clusters (redis/redis#6174, #7287).
//!
//! A step about a node that is not a participant is an error before anything is sent; no step is
//! skipped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use crate::client::ClientError;
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::parse::{EntryPool, ParseError, View};
use crate::cluster::slot::SlotSet;
use crate::connections::Connections;
use crate::converge::foreign_node;
use crate::event::{Event, Phase};
use crate::plan::{MembershipPlan, MembershipStep};
use crate::state::{Participant, Participants};

/// Runs plans on a set of nodes.
pub(crate) struct Execution {
    /// Kept open from step to step.
    pub(crate) connections: Arc<Connections>,
    /// The nodes that steps may name.
    pub(crate) participants: Arc<Participants>,
    /// Members that the participants know and that do not answer: the plan has no steps for them.
    pub(crate) absent: Arc<BTreeSet<NodeId>>,
    /// Receives what is done.
    pub(crate) events: UnboundedSender<Event>,
    /// Counts the steps.
    pub(crate) tally: Arc<StepCounts>,
}

/// How many steps were carried out. The counts survive an execution that is dropped half-way.
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

/// Why a plan stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    /// Commands were refused, or not answered.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Failed(Vec<Failure>),
    /// A step names a node that is not a participant; no step was sent.
    #[error(
        "the plan has a step for node {node}, which is not one of its nodes ({what}); no step was sent",
        node = .node.short()
    )]
    NotParticipant {
        /// The node.
        node: NodeId,
        /// The step.
        what: &'static str,
    },
    /// A node's CLUSTER NODES can't be parsed.
    #[error("{addr}: {error}")]
    Unreadable {
        /// The node.
        addr: Addr,
        /// What is wrong with it.
        error: ParseError,
    },
    /// Another node answers at the address than when the plan was made.
    #[error(
        "{addr} was node {planned} and is {found} now: it lost its nodes.conf, or its address was \
         given to another node",
        planned = .planned.short(),
        found = .found.short()
    )]
    Replaced {
        /// The address.
        addr: Addr,
        /// The node of the plan.
        planned: NodeId,
        /// The node that answers.
        found: NodeId,
    },
    /// A node knows another one that is not in the plan.
    #[error(
        "{addr} now knows node {unexpected}, which is not in the plan: CLUSTER MEET would merge two \
         clusters",
        unexpected = .unexpected.short()
    )]
    UnexpectedNode {
        /// The node.
        addr: Addr,
        /// The node that it knows.
        unexpected: NodeId,
    },
}

/// A step that failed on a node.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {error}{}", if error.outcome_unknown() { " (it may have taken effect)" } else { "" })]
pub(crate) struct Failure {
    /// The step.
    what: &'static str,
    /// The node and what it said.
    error: ClientError,
}

/// A step, with what it takes to send it.
struct Task {
    step: MembershipStep,
    participant: Participant,
    command: Command,
}

/// The command of a step.
enum Command {
    AddSlots(SlotSet),
    SetConfigEpoch(u64),
    Meet(Participant),
    Replicate(NodeId),
}

impl Task {
    fn of(participants: &Participants, step: &MembershipStep) -> Result<Self, ExecuteError> {
        let find = |node: NodeId| {
            let found = participants.get(&node).cloned();
            found.ok_or(ExecuteError::NotParticipant {
                node,
                what: what(step),
            })
        };
        Ok(Self {
            participant: find(step.node())?,
            command: match step {
                MembershipStep::AddSlots { slots, .. } => Command::AddSlots(slots.clone()),
                MembershipStep::SetConfigEpoch { epoch, .. } => Command::SetConfigEpoch(*epoch),
                MembershipStep::Meet { with, .. } => Command::Meet(find(*with)?),
                // The replica resolves the id of its master, which need not be a participant.
                MembershipStep::Replicate { master, .. } => Command::Replicate(*master),
            },
            step: step.clone(),
        })
    }

    async fn run(&self, connections: &Connections, tally: &StepCounts) -> Result<(), ClientError> {
        let client = connections.client(&self.participant.target).await?;
        tally.open.fetch_add(1, Ordering::Relaxed);
        let answer = match &self.command {
            Command::AddSlots(slots) => client.cluster_addslots(slots).await,
            Command::SetConfigEpoch(epoch) => {
                match client.cluster_set_config_epoch(*epoch).await {
                    // The node was met meanwhile, by a step of an earlier run. Then the servers
                    // resolve equal epochs themselves.
                    Err(error) if error.server_code() == Some("ERR") => Ok(()),
                    answer => answer,
                }
            }
            Command::Meet(with) => client.cluster_meet(with.ip, with.port, with.bus_port).await,
            Command::Replicate(master) => client.cluster_replicate(*master).await,
        };
        tally.answered(&answer);
        answer
    }
}

impl Execution {
    /// Carries the plan out, provided that its nodes have not changed since it was made.
    pub(crate) async fn run(&self, plan: &MembershipPlan) -> Result<(), ExecuteError> {
        let tasks = |round: &Vec<MembershipStep>| {
            let tasks = round.iter().map(|step| Task::of(&self.participants, step));
            tasks.collect::<Result<Vec<Task>, ExecuteError>>()
        };
        // All of them before the first is sent.
        let rounds: Vec<Vec<Task>> = plan.rounds.iter().map(tasks).collect::<Result<_, _>>()?;
        let mut phase = None;
        for round in rounds {
            let Some(next) = round.first().map(|task| phase_of(&task.step)) else {
                continue;
            };
            // Before the first step, since a prompt can take long; and right before the nodes meet:
            // all rounds of meetings together take some 50 ms.
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
        // There is no receiver after an interrupt.
        let _ = self.events.send(event);
    }

    /// Runs the steps of a round. Waits for all of them, also after one has failed: a command that is
    /// still under way when the program ends would change the cluster unseen.
    async fn round(&self, tasks: Vec<Task>) -> Result<(), ExecuteError> {
        let mut doing = JoinSet::new();
        for task in tasks {
            let connections = Arc::clone(&self.connections);
            let tally = Arc::clone(&self.tally);
            doing.spawn(async move {
                let answer = task.run(&connections, &tally).await;
                (task.step, answer)
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

    /// Reads the id of every participant, and the nodes that it knows, again.
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
            if let Some(unexpected) = foreign_node(&self.participants, &self.absent, &view) {
                return Err(ExecuteError::UnexpectedNode {
                    addr: addr(),
                    unexpected,
                });
            }
        }
        Ok(())
    }
}

/// The view of every participant, read in parallel; by id.
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
                what: "reading the node again",
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

fn phase_of(step: &MembershipStep) -> Phase {
    match step {
        MembershipStep::AddSlots { .. } => Phase::AddSlots,
        MembershipStep::SetConfigEpoch { .. } => Phase::SetEpochs,
        MembershipStep::Meet { .. } => Phase::Meet,
        MembershipStep::Replicate { .. } => Phase::Replicate,
    }
}

fn what(step: &MembershipStep) -> &'static str {
    match step {
        MembershipStep::AddSlots { .. } => "assigning slots",
        MembershipStep::SetConfigEpoch { .. } => "setting the config epoch",
        MembershipStep::Meet { .. } => "sending CLUSTER MEET",
        MembershipStep::Replicate { .. } => "making a node a replica",
    }
}

fn event_of(step: &MembershipStep) -> Option<Event> {
    match step {
        MembershipStep::AddSlots { node, slots } => Some(Event::SlotsAdded {
            node: *node,
            slots: slots.clone(),
        }),
        MembershipStep::Replicate { replica, master } => Some(Event::Replicates {
            replica: *replica,
            master: *master,
        }),
        MembershipStep::SetConfigEpoch { .. } | MembershipStep::Meet { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Login, Transport};
    use crate::connections::{DialOptions, Target};

    fn node(digit: char) -> NodeId {
        digit.to_string().repeat(40).parse().unwrap()
    }

    #[test]
    fn a_step_about_a_node_that_is_not_a_participant_is_an_error() {
        let steps = [
            MembershipStep::AddSlots {
                node: node('a'),
                slots: SlotSet::full(),
            },
            MembershipStep::SetConfigEpoch {
                node: node('a'),
                epoch: 1,
            },
            MembershipStep::Meet {
                node: node('a'),
                with: node('b'),
            },
            MembershipStep::Replicate {
                replica: node('a'),
                master: node('b'),
            },
        ];
        for step in &steps {
            let Err(error) = Task::of(&Participants::new(), step) else {
                panic!("{step:?} was accepted");
            };
            assert!(
                matches!(error, ExecuteError::NotParticipant { node: id, .. } if id == node('a')),
                "{error}"
            );
        }
    }

    #[test]
    fn a_meeting_with_a_node_that_is_not_a_participant_is_an_error() {
        let participants = Participants::from([(node('a'), participant('a'))]);
        let step = MembershipStep::Meet {
            node: node('a'),
            with: node('b'),
        };
        let error = Task::of(&participants, &step).err().unwrap();
        assert_eq!(
            error.to_string(),
            "the plan has a step for node bbbbbbbb, which is not one of its nodes (sending CLUSTER \
             MEET); no step was sent"
        );
    }

    fn participant(digit: char) -> Participant {
        Participant {
            id: node(digit),
            target: Target {
                addr: Addr::new("127.0.0.1", 7000),
                node: None,
                access: Arc::new(DialOptions {
                    login: Login::default(),
                    transport: Transport::Plain,
                }),
            },
            ip: std::net::Ipv4Addr::LOCALHOST.into(),
            other_ips: Vec::new(),
            port: 7000,
            bus_port: None,
        }
    }
}
