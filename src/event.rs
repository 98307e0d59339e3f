//! Events of a command while it runs.
//!
//! Events are facts; `ui` decides how they look (a line, a progress bar, a JSON object).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::cluster::node::{Addr, NodeId, Role, Takeover};
use crate::cluster::observation::TaskProgress;
use crate::cluster::slot::SlotSet;

/// Where events go. Sending never waits and never fails: after an interrupt there may be no receiver.
#[derive(Debug, Clone)]
pub struct Events(UnboundedSender<Event>);

impl Events {
    /// A channel for the events of one command.
    pub fn channel() -> (Self, UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Returns the sending end of the channel.
    pub fn sender(&self) -> UnboundedSender<Event> {
        self.0.clone()
    }

    /// Sends an event.
    pub fn send(&self, event: Event) {
        let _ = self.0.send(event);
    }

    /// Tells that a phase begins.
    pub fn phase(&self, phase: Phase) {
        self.send(Event::Phase(phase));
    }

    /// Tells what the user may do next.
    pub fn hint(&self, text: impl Into<String>) {
        self.send(Event::Hint(text.into()));
    }

    /// Tells what was found or done.
    pub fn note(&self, text: impl Into<String>) {
        self.send(Event::Note(text.into()));
    }

    /// Warns the user; the command continues.
    pub fn warn(&self, text: impl Into<String>) {
        self.send(Event::Warning(text.into()));
    }

    /// Tells what the command waits for.
    pub fn waiting(&self, text: impl Into<String>) {
        self.send(Event::WaitingFor(text.into()));
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What the user may do next.
    Hint(String),
    /// What was found or done, in words.
    Note(String),
    /// A warning; the command continues.
    Warning(String),
    /// What the command waits for, in words.
    WaitingFor(String),
    /// A wait for states that normally pass is over, whether or not they have passed.
    Waited {
        /// The words for the states.
        waited_for: Vec<&'static str>,
        /// The time that it took.
        took: Duration,
    },
    /// A phase begins.
    Phase(Phase),
    /// The progress of a wait for nodes.
    Waiting {
        /// The phase that waits.
        phase: Phase,
        /// The number of nodes that are ready.
        ready: usize,
        /// The number of nodes to wait for.
        total: usize,
    },
    /// The progress of work whose steps are too small for single events; once a second, and at the end.
    Amount(Box<AmountProgress>),
    /// A master got its slots.
    SlotsAdded {
        /// The master.
        node: NodeId,
        /// Its slots.
        slots: SlotSet,
    },
    /// A replica got its master.
    Replicates {
        /// The replica.
        replica: NodeId,
        /// Its master.
        master: NodeId,
    },
    /// A node has left the cluster.
    Left {
        /// The id that the node had.
        node: NodeId,
    },
    /// Nodes have joined.
    Added {
        /// How many.
        nodes: usize,
    },
    /// A replica has taken over from its master.
    FailedOver(Box<FailedOver>),
    /// A step of `fix` was carried out.
    Fixed(Box<FixedStep>),
    /// Nodes are about to restart.
    Restarting {
        /// The nodes, with their roles.
        nodes: Vec<(NodeId, Addr, Role)>,
    },
    /// A node has restarted, and is as it should be.
    Restarted(Box<RestartedNode>),
    /// The command that restarts a node has written a line.
    HookOutput {
        /// The node.
        node: (NodeId, Addr),
        /// The line, without control characters.
        line: String,
    },
    /// How far the moves have come; once a second.
    MoveProgress(Box<MoveProgress>),
    /// An event in a lane.
    Lane {
        /// The lane.
        lane: Pair,
        /// The event.
        event: LaneEvent,
    },
}

/// How far moves have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveProgress {
    /// Whether slots move.
    pub state: MoveState,
    /// The pairs whose slots move now.
    pub pairs: Vec<(Pair, Progress)>,
    /// All pairs, also those that have ended or wait.
    pub total: Progress,
}

/// Whether slots move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MoveState {
    /// They do.
    #[default]
    Moving,
    /// The idle latency is measured: no slot is open.
    Measuring,
    /// The slots and tasks in hand are finished; then the run is paused.
    Pausing,
    /// No slot is open, and nothing is in flight.
    Paused,
}

/// Slots, keys and bytes that have moved, of all that are to move. Totals of keys and bytes are estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Slots that have moved.
    pub slots: usize,
    /// All slots.
    pub slots_total: usize,
    /// Keys that have moved.
    pub keys: u64,
    /// All keys.
    pub keys_total: u64,
    /// Bytes that have moved, as MEMORY USAGE counts them.
    pub bytes: u64,
    /// All bytes.
    pub bytes_total: u64,
    /// The speed in keys.
    pub keys_per_second: u64,
    /// The speed in bytes.
    pub bytes_per_second: u64,
    /// The estimated time for the rest; `None` while nothing has moved, or the move is paused.
    pub left: Option<Duration>,
}

impl Progress {
    /// Keys that have not moved.
    pub fn keys_left(&self) -> u64 {
        self.keys_total.saturating_sub(self.keys)
    }

    /// Bytes that have not moved.
    pub fn bytes_left(&self) -> u64 {
        self.bytes_total.saturating_sub(self.bytes)
    }
}

/// A completed failover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedOver {
    /// The new master.
    pub replica: (NodeId, Addr),
    /// The old master.
    pub master: (NodeId, Addr),
    /// Their slots.
    pub slots: SlotSet,
    /// The time from the command until the new master owned the slots.
    pub held: Duration,
    /// How it took over.
    pub how: Takeover,
}

/// A node that has restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartedNode {
    /// The node.
    pub node: (NodeId, Addr, Role),
    /// The id of its new process.
    pub run_id: String,
    /// Its server and version, if it reports them.
    pub version: Option<String>,
    /// The time from the restart until it was in sync and all nodes agreed.
    pub took: Duration,
}

/// A completed step of `fix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedStep {
    /// Its kind, for programs.
    pub word: &'static str,
    /// Its slots; empty if it is about a node as a whole.
    pub slots: SlotSet,
    /// Its nodes.
    pub nodes: Vec<NodeId>,
    /// The number of its keys.
    pub keys: u64,
    /// What was done, in words that follow the slots.
    pub text: String,
}

/// The progress of work in many small steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmountProgress {
    /// The phase that the work belongs to.
    pub phase: Phase,
    /// The unit.
    pub unit: Unit,
    /// The work as a whole.
    pub sum: Amount,
    /// Its files or nodes, by name.
    pub parts: Vec<(Arc<str>, Amount)>,
}

/// How much of something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// The amount that is done.
    pub done: u64,
    /// The whole amount, if it is known.
    pub total: Option<u64>,
    /// The speed of the last seconds.
    pub per_second: u64,
    /// The estimated time for the rest; `None` while nothing is done, or the whole amount is not known.
    pub left: Option<Duration>,
}

impl Amount {
    /// Whether some of it is done, and not all.
    pub fn is_in_progress(&self) -> bool {
        self.done > 0 && self.total.is_none_or(|total| self.done < total)
    }
}

/// The unit of an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Keys.
    Keys,
    /// Bytes.
    Bytes,
}

/// A pair of nodes between which slots move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The source.
    pub from: NodeId,
    /// The target.
    pub to: NodeId,
}

/// An event in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaneEvent {
    /// The lane starts.
    Started {
        /// The number of slots to move.
        slots: usize,
    },
    /// What the source holds of the slots of the lane, about.
    Weighed {
        /// The number of keys.
        keys: u64,
        /// Their bytes, estimated from some of them.
        bytes: u64,
    },
    /// A MIGRATE call moved keys.
    Keys {
        /// The number of keys.
        keys: u64,
        /// Their bytes, as far as the server reports them.
        bytes: u64,
    },
    /// Slots have their new owner.
    Slots {
        /// The slots.
        moved: SlotSet,
    },
    /// Slots stay where they are, because of their big keys. They do not count any more.
    Skipped {
        /// The slots.
        slots: SlotSet,
        /// Their keys, as they were counted for `Weighed`.
        keys: u64,
        /// Their bytes, as they were estimated for `Weighed`.
        bytes: u64,
    },
    /// An ASM task failed and is started again.
    TaskRetry {
        /// The reason, in words.
        why: String,
    },
    /// How far the ASM task in hand has come, as its server reports it.
    TaskProgress(TaskProgress),
    /// The lane ended.
    Ended {
        /// The reason, if it ended early.
        failure: Option<String>,
        /// The longest time for which the source held writes back, if it reports that.
        write_pause: Option<Duration>,
    },
}

/// Statistics of the moves of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MoveStats {
    /// The number of keys that moved.
    pub keys: u64,
    /// Their bytes, as far as the servers report them.
    pub bytes: u64,
    /// The longest duration of one MIGRATE.
    pub longest_call: Duration,
    /// The longest time that one slot was open.
    pub longest_open: Duration,
    /// The sum of the times that slots were open.
    pub open_time: Duration,
    /// The number of slots that were opened and closed again.
    pub closed: u32,
    /// The longest duration of one ASM task.
    pub longest_task: Duration,
    /// The longest time for which a source held writes back at the end of an ASM task, as far as the sources report it
    /// (Redis ≥ 8.4).
    pub longest_write_pause: Duration,
}

impl MoveStats {
    /// Counts a slot that was open for this time and is closed.
    pub fn close(&mut self, open: Duration) {
        self.longest_open = self.longest_open.max(open);
        self.open_time += open;
        self.closed += 1;
    }

    /// The average time that a slot was open.
    pub fn mean_open(&self) -> Duration {
        self.open_time / self.closed.max(1)
    }

    /// Adds the statistics of another run.
    pub fn add(&mut self, other: Self) {
        self.keys += other.keys;
        self.bytes += other.bytes;
        self.longest_call = self.longest_call.max(other.longest_call);
        self.longest_open = self.longest_open.max(other.longest_open);
        self.open_time += other.open_time;
        self.closed += other.closed;
        self.longest_task = self.longest_task.max(other.longest_task);
        self.longest_write_pause = self.longest_write_pause.max(other.longest_write_pause);
    }

    /// The longest write pause, if a source reported one.
    pub fn write_pause(&self) -> Option<Duration> {
        Some(self.longest_write_pause).filter(|pause| !pause.is_zero())
    }
}

/// A phase of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nodes are reset.
    Reset,
    /// Function libraries are copied.
    Functions,
    /// Masters get their slots, before they meet.
    AddSlots,
    /// Every node gets its own config epoch.
    SetEpochs,
    /// CLUSTER MEET is sent.
    Meet,
    /// Waits until every node knows all others.
    Join,
    /// Replicas get their masters.
    Replicate,
    /// A failover is in progress.
    TakeOver,
    /// Slots move.
    Move,
    /// Faults are repaired.
    Fix,
    /// Nodes leave the cluster.
    Leave,
    /// Nodes that have left are reset, and keep their ids.
    ResetSoft,
    /// Nodes that have left are shut down.
    ShutDown,
    /// Nodes send their data, which is saved.
    Fetch,
    /// Files are read and compared with their manifest.
    Verify,
    /// Names of several databases that would be one are looked for in files.
    FindCollisions,
    /// Keys are written into the cluster.
    Copy,
    /// Keys of a source and of the cluster are compared.
    Compare,
    /// Waits until all nodes agree about slots and roles.
    Agree,
    /// Waits until all nodes report `cluster_state:ok` and all replicas are in sync.
    Usable,
}

impl Phase {
    /// The word for it in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Functions => "functions",
            Self::AddSlots => "add-slots",
            Self::SetEpochs => "set-epochs",
            Self::Meet => "meet",
            Self::Join => "join",
            Self::Replicate => "replicate",
            Self::TakeOver => "take-over",
            Self::Move => "move",
            Self::Fix => "fix",
            Self::Leave => "leave",
            Self::ResetSoft => "reset-soft",
            Self::ShutDown => "shut-down",
            Self::Fetch => "fetch",
            Self::Verify => "verify",
            Self::FindCollisions => "find-collisions",
            Self::Copy => "copy",
            Self::Compare => "compare",
            Self::Agree => "agree",
            Self::Usable => "usable",
        }
    }
}
