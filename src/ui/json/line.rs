//! The lines of commands that change a cluster, as they are written.

use serde::Serialize;

use super::{Name, Range};

/// A line of a command that changes a cluster.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Line {
    /// What is about to be made.
    Plan {
        masters: Vec<Shard>,
        warnings: Vec<String>,
    },
    /// What is about to move: `atomic`, `keys` or `mixed`.
    Moves {
        strategy: &'static str,
        moves: Vec<PlannedMove>,
        targets: Vec<TargetMemory>,
    },
    /// What the masters have, should have, and will have.
    Balance {
        by: &'static str,
        threshold: f64,
        masters: Vec<MasterShare>,
    },
    /// Who is about to join.
    Joining {
        lead: String,
        nodes: Vec<JoiningNode>,
        libraries: usize,
        warnings: Vec<String>,
    },
    /// So many have joined.
    Added { nodes: usize },
    /// Who is about to be replaced by whom, in which steps.
    Replacing {
        old: Name,
        new: Name,
        steps: Vec<&'static str>,
        reset: Option<&'static str>,
        keys_lost: u64,
    },
    /// What is about to be mended, and what is not.
    Remedies {
        remedies: Vec<Mend>,
        refused: Vec<Mend>,
        strays: Vec<Mend>,
        warnings: Vec<Mend>,
    },
    /// A remedy was carried out.
    Mended {
        #[serde(flatten)]
        mend: Mend,
    },
    /// Who is about to take over.
    Succession {
        replica: Name,
        master: Name,
        slots: Vec<Range>,
        how: &'static str,
        bytes_behind: Option<u64>,
    },
    /// It has; writes were held for so long at most.
    FailedOver {
        replica: Name,
        master: Name,
        slots: Vec<Range>,
        held_ms: u64,
    },
    /// A part of the work begins.
    Phase { phase: &'static str },
    /// A wait goes on.
    Waiting {
        phase: &'static str,
        ready: usize,
        total: usize,
    },
    /// How far work in many small parts is.
    Progress {
        phase: &'static str,
        /// `keys` or `bytes`.
        unit: &'static str,
        done: u64,
        /// Null where nobody knows.
        total: Option<u64>,
    },
    /// A master was given its slots.
    SlotsAdded { node: String, slots: Vec<Range> },
    /// A replica was told its master.
    Replicates { replica: String, master: String },
    /// Who is about to leave, and which replicas get other masters.
    Leaving {
        nodes: Vec<LeavingNode>,
        replicas: Vec<GivenReplica>,
    },
    /// A node has left the cluster.
    Left { node: String },
    /// Slots begin to move from one node to another.
    LaneStarted {
        from: String,
        to: String,
        slots: usize,
    },
    /// So many slots have their new owner.
    SlotsMoved {
        from: String,
        to: String,
        slots: usize,
    },
    /// A job of the servers failed, and is begun again.
    JobAgain {
        from: String,
        to: String,
        why: String,
    },
    /// A lane is over.
    LaneEnded {
        from: String,
        to: String,
        failure: Option<String>,
    },
    /// All slots that were to move have moved. Times in milliseconds; null where no slot went key by
    /// key, or none in a job.
    Moved {
        slots: usize,
        keys: u64,
        bytes: u64,
        took_ms: f64,
        longest_call_ms: Option<f64>,
        longest_open_ms: Option<f64>,
        mean_open_ms: Option<f64>,
        longest_job_ms: Option<f64>,
    },
    /// What cluster-node-timeout shall be, and is.
    Timeouts {
        timeout_ms: u64,
        nodes: Vec<NodeTimeout>,
    },
    /// A node was told its new timeout.
    TimeoutSet {
        node: Name,
        set: bool,
        persisted: bool,
        failure: Option<String>,
    },
    /// A node has answered a command, or has not.
    Reply {
        node: Name,
        role: &'static str,
        reply: Option<serde_json::Value>,
        failure: Option<String>,
    },
    /// The last line.
    Done {
        exit_code: u8,
        message: String,
        /// The commands that resume a stopped run, each as an argument vector.
        resume: Vec<Vec<String>>,
    },
}

/// A remedy, or why there is none.
#[derive(Debug, Serialize)]
pub(super) struct Mend {
    /// What is done, or why nothing is: kebab-case.
    pub(super) code: &'static str,
    /// The slots it is about; none where it is about nodes.
    pub(super) slots: Vec<Range>,
    /// Ids of the nodes it is about; first whom it changes.
    pub(super) nodes: Vec<String>,
    /// The keys it is about.
    pub(super) keys: u64,
    /// A sentence for people.
    pub(super) message: String,
}

/// Slots that go from one node to another.
#[derive(Debug, Serialize)]
pub(super) struct PlannedMove {
    pub(super) from: Name,
    pub(super) to: Name,
    pub(super) slots: Vec<Range>,
    /// `atomic` or `keys`.
    pub(super) strategy: &'static str,
    /// Why, in words.
    pub(super) reason: String,
}

/// A node that joins.
#[derive(Debug, Serialize)]
pub(super) struct JoiningNode {
    #[serde(flatten)]
    pub(super) node: Name,
    /// What it becomes.
    pub(super) role: &'static str,
    /// Id of the master that it will follow.
    pub(super) replicates: Option<String>,
    /// `soft`, `hard`, or null where it joins as it is.
    pub(super) reset: Option<&'static str>,
    /// Keys that it loses by that.
    pub(super) keys_lost: u64,
    /// Slots that it gets.
    pub(super) slots: usize,
}

/// The memory of a node that takes slots, in bytes.
#[derive(Debug, Serialize)]
pub(super) struct TargetMemory {
    #[serde(flatten)]
    pub(super) node: Name,
    pub(super) used: u64,
    pub(super) coming: u64,
    pub(super) limit: Option<u64>,
}

/// A node that leaves.
#[derive(Debug, Serialize)]
pub(super) struct LeavingNode {
    #[serde(flatten)]
    pub(super) node: Name,
    pub(super) role: &'static str,
    /// Slots that it gives away before.
    pub(super) slots: usize,
    /// False where it does not answer: the others forget it.
    pub(super) reachable: bool,
}

/// A replica that gets another master.
#[derive(Debug, Serialize)]
pub(super) struct GivenReplica {
    #[serde(flatten)]
    pub(super) node: Name,
    /// Id of the master that it will follow.
    pub(super) replicates: String,
}

/// The timeout of a node; null where it does not tell.
#[derive(Debug, Serialize)]
pub(super) struct NodeTimeout {
    #[serde(flatten)]
    pub(super) node: Name,
    pub(super) timeout_ms: Option<u64>,
}

/// A master's share: slots, keys or bytes.
#[derive(Debug, Serialize)]
pub(super) struct MasterShare {
    #[serde(flatten)]
    pub(super) node: Name,
    pub(super) weight: f64,
    pub(super) before: u64,
    pub(super) expected: u64,
    pub(super) after: u64,
}

/// A master of a plan.
#[derive(Debug, Serialize)]
pub(super) struct Shard {
    #[serde(flatten)]
    pub(super) master: Name,
    pub(super) slots: Vec<Range>,
    pub(super) replicas: Vec<Name>,
}
