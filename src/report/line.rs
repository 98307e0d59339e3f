//! The lines of commands that change a cluster: one JSON object each, told apart by `event`.

use serde::Serialize;

use super::amount::{AmountView, PartAmount};
use super::backup::ShardView;
use super::call::ReplyView;
use super::check::CheckView;
use super::create::LayoutView;
use super::data::{TransferPlan, TransferReport};
use super::drift::DriftFixView;
use super::failover::{FailoverReport, FailoverView};
use super::fix::{FixLine, FixView};
use super::join::JoinView;
use super::leave::LeaveView;
use super::move_slots::{
    BalanceView, MovedView, MovesView, PairProgress, ProgressView, milliseconds,
};
use super::node::Node;
use super::place::PlaceView;
use super::replace::ReplaceView;
use super::roll::{RestartedView, RollView};
use super::set_timeout::{SetTimeoutView, TimeoutSet};
use super::slots::{HeatView, StatisticsView};
use super::throttle::RunState;
use super::verify::VerifyView;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::slot::SlotSet;
use crate::event::{Event, LaneEvent, Phase, Unit};

/// A line of a command that changes a cluster.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Line<'a> {
    /// The cluster as it was seen before the plan was made.
    Cluster(&'a CheckView),
    /// The plan of `create`.
    Plan(&'a LayoutView),
    /// The plan of moves.
    Moves {
        /// `atomic`, `keys`, or `mixed` where the moves differ.
        strategy: &'static str,
        /// The moves.
        #[serde(flatten)]
        view: &'a MovesView,
    },
    /// What the masters have, should have, and will have.
    Balance(&'a BalanceView),
    /// The plan of `add-node`.
    Joining(&'a JoinView),
    /// New nodes have joined.
    Added {
        /// How many.
        node_count: usize,
    },
    /// The plan of `replace-node`.
    Replacing(&'a ReplaceView),
    /// The plan of `fix`.
    Remedies(&'a FixView),
    /// A remedy was carried out.
    Fixed(&'a FixLine),
    /// The plan of `failover`.
    Failover(&'a FailoverView),
    /// A replica has become the master; writes were held for so long at most.
    FailedOver(&'a FailoverReport),
    /// The plan of `place`.
    Place(&'a PlaceView),
    /// The plan of `roll`.
    Roll(&'a RollView),
    /// Nodes are about to restart.
    Restarting {
        /// The nodes.
        nodes: Vec<Node>,
    },
    /// The command that restarts a node has written a line.
    HookOutput {
        /// The id of the node.
        node: NodeId,
        /// The line.
        line: String,
    },
    /// A node has restarted, and is as it should be.
    Restarted(RestartedView),
    /// A part of the work begins.
    Phase {
        /// The part.
        phase: Phase,
    },
    /// A wait goes on.
    Waiting {
        /// The part of the work that waits.
        phase: Phase,
        /// The number of nodes that are ready.
        ready: usize,
        /// The number of nodes that must be ready.
        total: usize,
    },
    /// The progress of work in many small steps; once a second, and at the end.
    Progress {
        /// The part of the work.
        phase: Phase,
        /// What is counted.
        unit: Unit,
        /// How much is done, and what is left.
        #[serde(flatten)]
        sum: AmountView,
        /// The files or nodes that the work consists of.
        parts: Vec<PartAmount>,
    },
    /// A master was given its slots.
    SlotsAdded {
        /// The id of the master.
        node: NodeId,
        /// Its slots.
        slots: SlotSet,
    },
    /// A replica was told its master.
    Replicates {
        /// The id of the replica.
        replica: NodeId,
        /// The id of its master.
        master: NodeId,
    },
    /// The plan of `del-node`.
    Leaving(&'a LeaveView),
    /// A node has left the cluster.
    Left {
        /// The id that it had.
        node: NodeId,
    },
    /// Slots begin to move from one node to another.
    LaneStarted {
        /// The id of the source.
        from: NodeId,
        /// The id of the target.
        to: NodeId,
        /// The number of slots that will move.
        slot_count: usize,
    },
    /// Slots have their new owner.
    SlotsMoved {
        /// The id of the source.
        from: NodeId,
        /// The id of the target.
        to: NodeId,
        /// The number of slots that have moved since the last such line.
        slot_count: usize,
    },
    /// Slots stay where they are, because of their big keys (`--on-big-key skip`).
    SlotsSkipped {
        /// The id of the source.
        from: NodeId,
        /// The id of the target.
        to: NodeId,
        /// The slots.
        slots: SlotSet,
    },
    /// An ASM task failed and is started again.
    TaskRetry {
        /// The id of the source.
        from: NodeId,
        /// The id of the target.
        to: NodeId,
        /// Why it failed.
        why: String,
    },
    /// How far an ASM task has come; null where the server does not tell (Redis ≥ 8.12).
    TaskProgress {
        /// The id of the source.
        from: NodeId,
        /// The id of the target.
        to: NodeId,
        /// Keys that have moved.
        keys: Option<u64>,
        /// All keys of the task.
        keys_total: Option<u64>,
        /// Bytes that have moved.
        bytes: Option<u64>,
        /// All bytes of the task.
        bytes_total: Option<u64>,
        /// The percentage that is done.
        percent: Option<u64>,
    },
    /// How far the moves have come; once a second.
    LaneProgress {
        /// Whether slots move.
        state: RunState,
        /// The pairs of nodes between which slots move now.
        pairs: Vec<PairProgress>,
        /// All pairs together, also those that have ended or wait.
        total: ProgressView,
    },
    /// All moves from one node to another have ended.
    LaneEnded {
        /// The id of the source.
        from: NodeId,
        /// The id of the target.
        to: NodeId,
        /// Why they ended early.
        failure: Option<String>,
        /// The longest time for which the source held writes back at the end of an ASM task; null where it does not
        /// tell (Redis ≥ 8.4 tells).
        longest_write_pause_ms: Option<f64>,
    },
    /// All slots have moved.
    Moved(&'a MovedView),
    /// The plan of `set-timeout`.
    Timeouts(&'a SetTimeoutView),
    /// The result of `set-timeout` on a node.
    TimeoutSet {
        /// The node.
        node: &'a Node,
        /// The result.
        #[serde(flatten)]
        result: &'a TimeoutSet,
    },
    /// The plan of `drift --fix`.
    DriftFix(&'a DriftFixView),
    /// The plan of `slots --enable-stats`.
    Statistics(&'a StatisticsView),
    /// The result of `slots --enable-stats`.
    Slots(&'a HeatView),
    /// The reply of a node.
    Reply(ReplyView<'a>),
    /// The plan of `import` or `restore`.
    TransferPlan(&'a TransferPlan),
    /// The result of `import` or `restore`.
    Report(TransferReport<'a>),
    /// The result of `import --verify`.
    Compared(&'a VerifyView),
    /// The plan of a part of a backup.
    PlannedFile(&'a ShardView),
    /// A file of a backup.
    File(&'a ShardView),
    /// The last line, whatever happened.
    Done {
        /// The exit code of the program.
        exit_code: u8,
        /// What happened, for people.
        message: String,
        /// The words of the command that continues; empty if there is nothing to continue.
        resume: &'a [String],
        /// Further commands, if one is not enough.
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        resume_next: &'a [Vec<String>],
        /// The states that were waited for because they normally pass: codes of findings; `running-redis-trib`.
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        waited_for: &'a [&'static str],
        /// For how long in total.
        #[serde(skip_serializing_if = "Option::is_none")]
        waited_ms: Option<u64>,
    },
}

impl Line<'_> {
    /// The line of an event; `None` if it has none.
    pub fn of(event: &Event) -> Option<Self> {
        Some(match event {
            // These go to standard error.
            Event::Hint(_) | Event::Note(_) | Event::Warning(_) | Event::WaitingFor(_) => {
                return None;
            }
            // These have lines of their own.
            Event::Added { .. } | Event::FailedOver(_) | Event::Fixed(_) => return None,
            // In the last line.
            Event::Waited { .. } => return None,
            Event::Restarting { nodes } => Self::Restarting {
                nodes: nodes.iter().map(plain_node).collect(),
            },
            Event::HookOutput { node, line } => Self::HookOutput {
                node: node.0,
                line: line.clone(),
            },
            Event::Restarted(done) => Self::Restarted((&**done).into()),
            Event::Phase(phase) => Self::Phase { phase: *phase },
            Event::Waiting {
                phase,
                ready,
                total,
            } => Self::Waiting {
                phase: *phase,
                ready: *ready,
                total: *total,
            },
            Event::SlotsAdded { node, slots } => Self::SlotsAdded {
                node: *node,
                slots: slots.clone(),
            },
            Event::MoveProgress(progress) => Self::LaneProgress {
                state: progress.state.into(),
                pairs: progress.pairs.iter().map(Into::into).collect(),
                total: progress.total.into(),
            },
            Event::Lane { lane, event } => {
                let (from, to) = (lane.from, lane.to);
                match event {
                    LaneEvent::Started { slots } => Self::LaneStarted {
                        from,
                        to,
                        slot_count: *slots,
                    },
                    LaneEvent::Slots { moved } => Self::SlotsMoved {
                        from,
                        to,
                        slot_count: moved.count(),
                    },
                    LaneEvent::Skipped { slots, .. } => Self::SlotsSkipped {
                        from,
                        to,
                        slots: slots.clone(),
                    },
                    LaneEvent::TaskRetry { why } => Self::TaskRetry {
                        from,
                        to,
                        why: why.clone(),
                    },
                    LaneEvent::TaskProgress(progress) => Self::TaskProgress {
                        from,
                        to,
                        keys: progress.keys,
                        keys_total: progress.keys_total,
                        bytes: progress.bytes,
                        bytes_total: progress.bytes_total,
                        percent: progress.percent,
                    },
                    LaneEvent::Ended {
                        failure,
                        write_pause,
                    } => Self::LaneEnded {
                        from,
                        to,
                        failure: failure.clone(),
                        longest_write_pause_ms: write_pause.map(milliseconds),
                    },
                    // There are thousands a second; the last line has their sum.
                    LaneEvent::Keys { .. } | LaneEvent::Weighed { .. } => return None,
                }
            }
            Event::Left { node } => Self::Left { node: *node },
            Event::Amount(progress) => Self::Progress {
                phase: progress.phase,
                unit: progress.unit,
                sum: progress.sum.into(),
                parts: progress.parts.iter().map(Into::into).collect(),
            },
            Event::Replicates { replica, master } => Self::Replicates {
                replica: *replica,
                master: *master,
            },
        })
    }
}

impl<'a> Line<'a> {
    /// The plan of moves.
    pub fn moves(view: &'a MovesView) -> Self {
        Self::Moves {
            strategy: view.strategy(),
            view,
        }
    }
}

fn plain_node((id, addr, role): &(NodeId, Addr, Role)) -> Node {
    Node {
        id: *id,
        addr: addr.clone(),
        role: *role,
        zone: None,
    }
}
