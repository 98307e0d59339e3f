//! What execution tells the world while it changes a cluster.
//!
//! Events are facts; how they look (a line, a bar, a JSON object) is decided in `ui`.

use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;

/// Where events go. Sending never waits and never fails: after an interrupt nobody listens any more.
#[derive(Debug, Clone)]
pub struct Events(UnboundedSender<Event>);

impl Events {
    /// A channel for the events of one command.
    pub fn channel() -> (Self, UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Sends an event.
    pub fn send(&self, event: Event) {
        let _ = self.0.send(event);
    }

    /// Where lanes send their events.
    pub fn sender(&self) -> &UnboundedSender<Event> {
        &self.0
    }

    /// A phase begins.
    pub fn phase(&self, phase: Phase) {
        self.send(Event::Phase(phase));
    }

    /// What the user may do next.
    pub fn hint(&self, text: impl Into<String>) {
        self.send(Event::Hint(text.into()));
    }

    /// What the user should know, though the work goes on.
    pub fn warn(&self, text: impl Into<String>) {
        self.send(Event::Warning(text.into()));
    }

    /// What the command waits for.
    pub fn waiting(&self, text: impl Into<String>) {
        self.send(Event::WaitingFor(text.into()));
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What the user may do next.
    Hint(String),
    /// What the user should know, though the work goes on.
    Warning(String),
    /// What the command waits for, in words.
    WaitingFor(String),
    /// A part of the work begins.
    Phase(Phase),
    /// A wait goes on: so many of the nodes are where they should be.
    Waiting {
        /// What for.
        phase: Phase,
        /// Nodes that are ready.
        ready: usize,
        /// Nodes that must be.
        total: usize,
    },
    /// Work whose parts are too small to be told one by one.
    Amount(Amount),
    /// A master was given its slots.
    SlotsAdded {
        /// The master.
        node: NodeId,
        /// Its slots.
        slots: SlotSet,
    },
    /// A replica was told its master.
    Replicates {
        /// The replica.
        replica: NodeId,
        /// Its master.
        master: NodeId,
    },
    /// A node has left.
    Left {
        /// The node, by the id that it had.
        node: NodeId,
    },
    /// Something happened in a lane.
    Lane {
        /// Between whom.
        lane: Pair,
        /// What.
        event: LaneEvent,
    },
}

/// How far some work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// What for.
    pub phase: Phase,
    /// What is counted.
    pub unit: Unit,
    /// How much is done.
    pub done: u64,
    /// How much there is, where that is known.
    pub total: Option<u64>,
}

/// What an amount is an amount of.
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
    /// Who gives.
    pub from: NodeId,
    /// Who takes.
    pub to: NodeId,
}

/// What happens in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaneEvent {
    /// It begins.
    Started {
        /// How many slots it has to move.
        slots: usize,
    },
    /// A call moved keys.
    Keys {
        /// How many.
        keys: u64,
        /// Their bytes, as far as the server told.
        bytes: u64,
    },
    /// Slots have their new owner.
    Slots {
        /// How many.
        moved: usize,
    },
    /// A job of the servers failed, and is begun again.
    Again {
        /// Why, in words.
        why: String,
    },
    /// It is over.
    Ended {
        /// Why before its time, in words.
        failure: Option<String>,
    },
}

/// Sums of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MoveStats {
    /// Keys that moved.
    pub keys: u64,
    /// Their bytes, as far as the servers told.
    pub bytes: u64,
    /// The longest that one MIGRATE took.
    pub longest_call: Duration,
    /// The longest that one slot was open.
    pub longest_open: Duration,
    /// How long slots were open, each for itself.
    pub open_time: Duration,
    /// How many slots were open, and are not any more.
    pub closed: u32,
    /// The longest that one job of the servers took.
    pub longest_job: Duration,
}

impl MoveStats {
    /// A slot is closed that was open for so long.
    pub fn close(&mut self, open: Duration) {
        self.longest_open = self.longest_open.max(open);
        self.open_time += open;
        self.closed += 1;
    }

    /// How long a slot was open on average.
    pub fn mean_open(&self) -> Duration {
        self.open_time / self.closed.max(1)
    }

    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.keys += other.keys;
        self.bytes += other.bytes;
        self.longest_call = self.longest_call.max(other.longest_call);
        self.longest_open = self.longest_open.max(other.longest_open);
        self.open_time += other.open_time;
        self.closed += other.closed;
        self.longest_job = self.longest_job.max(other.longest_job);
    }
}

/// A part of the work on a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nodes forget what they were before.
    Reset,
    /// Libraries of functions are copied.
    Functions,
    /// Slots are given to masters that are alone yet.
    AddSlots,
    /// Every node gets a config epoch of its own.
    SetEpochs,
    /// Nodes are told to meet.
    Meet,
    /// Until every node knows every other.
    Join,
    /// Replicas are told their masters.
    Replicate,
    /// A replica takes over from its master.
    TakeOver,
    /// Slots move from node to node.
    Move,
    /// What nodes say of slots and of each other is put right.
    Fix,
    /// Nodes are forgotten by the others, and forget them.
    Leave,
    /// Nodes send all of their data, which are kept.
    Fetch,
    /// Files are read and held against what they should be.
    Verify,
    /// Keys come from elsewhere.
    Copy,
    /// Until all nodes agree about slots and roles.
    Agree,
    /// Until every node says `cluster_state:ok` and every replica has its copy.
    Usable,
}

impl Phase {
    /// Its word in JSON.
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
            Self::Fetch => "fetch",
            Self::Verify => "verify",
            Self::Copy => "copy",
            Self::Agree => "agree",
            Self::Usable => "usable",
        }
    }
}
