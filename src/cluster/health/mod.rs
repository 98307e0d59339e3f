//! The health of a cluster: from an observation to findings.
//!
//! A finding is data: a code that scripts match on, its nodes and slots, a message for people, and a
//! remedy, if a command helps. An error keeps the cluster from serving all of its data, or may lose
//! some; a warning is a risk.
//!
//! A cause has one finding: its necessary consequences have none.

use std::collections::BTreeMap;
use std::fmt;

use super::links::MissingLinks;
use super::merger::{self, Intruders};
use super::node::NodeId;
use super::numbers::thousands;
use super::observation::{Observation, ObservedNode};
use super::slot::SlotSet;
use super::topology::{Bus, Topology};

pub use bus::BusSettings;
pub use passing::Passing;
pub use remedy::Remedy;

mod asm_tasks;
mod bus;
mod disk;
mod functions;
mod links;
mod members;
mod passing;
mod placement;
mod refusals;
mod remedy;
mod replication;
mod settings;
mod slots;
#[cfg(test)]
mod tests;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// `check` exits 1.
    Error,
    /// `check` exits 0, unless `--strict`.
    Warning,
}

impl Severity {
    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $severity:ident $word:literal,)*) => {
        /// The kind of a finding. Scripts rely on the words.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word in all output.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The severity of such findings.
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    /// Slots that no master serves.
    SlotsUncovered = Error "slots-uncovered",
    /// Slots that several masters claim.
    SlotsContested = Error "slots-multiple-owners",
    /// Slots that are migrating or importing.
    SlotsOpen = Error "slots-open",
    /// Nodes that see other slot owners than the rest.
    ViewsDiffer = Error "views-differ",
    /// Masters with slots that a majority of the nodes flags as failed.
    NodeFailed = Error "node-failed",
    /// Nodes without slots, mostly replicas, that a majority of the nodes flags as failed: the cluster
    /// still serves, and a replaced master stays in the list until it returns or is removed.
    SlotlessFailed = Warning "slotless-node-failed",
    /// Nodes that a minority of the nodes flags as failing.
    NodeFailing = Warning "node-failing",
    /// Masters with slots that don't answer redis-trib.
    NodeUnreachable = Error "node-unreachable",
    /// Nodes without slots that don't answer redis-trib.
    SlotlessUnreachable = Warning "slotless-node-unreachable",
    /// Nodes that the other nodes reach, but redis-trib does not.
    AddressUnreachable = Error "announced-address-unreachable",
    /// Nodes that execute a script, a function or a command of a module, and answer nothing else.
    NodeBusy = Error "node-busy",
    /// Nodes that have reached their limit of clients.
    NodeClientLimit = Error "node-client-limit",
    /// Nodes that refuse the login.
    NodeLogin = Error "node-login-failed",
    /// Nodes whose user lacks the right to read them.
    NodePermission = Error "node-permission-denied",
    /// Nodes in protected mode.
    NodeProtected = Error "node-protected-mode",
    /// Nodes that answer with another error.
    NodeError = Error "node-answers-with-error",
    /// Masters that can't write to their disk and refuse writes.
    WritesRefused = Error "node-refuses-writes",
    /// Members at whose address another node answers, and members that joined with another cluster.
    NodeForeign = Error "foreign-node",
    /// Members that know no other node: they were reset.
    NodeReset = Error "node-reset",
    /// Node ids under which two processes answer.
    NodeTwice = Error "node-id-twice",
    /// Slot owners that members have no link to, for longer than half the node timeout.
    OwnerUnlinked = Error "slot-owner-unlinked",
    /// Nodes that are stuck in handshake.
    NodeHandshake = Warning "node-handshake",
    /// Nodes whose address no node knows.
    NodeNoAddress = Warning "node-noaddr",
    /// Nodes that some nodes know and others don't.
    NodeForgotten = Error "node-unknown-to-some",
    /// Given nodes that are in no cluster.
    SeedNotMember = Error "seed-not-member",
    /// Nodes that report `cluster_state:fail`.
    StateNotOk = Error "cluster-state-not-ok",
    /// Masters with slots that load their data set and don't serve yet.
    NodeLoading = Error "node-loading",
    /// Nodes without slots, mostly replicas, that load their data set: the cluster serves without them.
    SlotlessLoading = Warning "slotless-node-loading",
    /// Masters that failed to write, read or delete a key (`--probe-write`).
    ProbeFailed = Error "probe-write-failed",
    /// Replicas that can't read the data of their master, which is newer.
    ReplicaCannotSync = Error "replica-cannot-sync",
    /// Replicas whose link to their master is down.
    ReplicaLinkDown = Error "replica-link-down",
    /// Replicas that serve no data while the link to their master is down.
    ReplicaStale = Warning "replica-refuses-reads",
    /// Replicas in a full resync.
    ReplicaSyncing = Warning "replica-syncing",
    /// Replicas that follow a replica.
    ReplicaOfReplica = Warning "replica-of-replica",
    /// Replicas of a master that no node knows.
    ReplicaOrphan = Error "replica-without-master",
    /// Masters with slots and without a replica.
    MasterAlone = Warning "master-without-replicas",
    /// Some masters have at least two replicas more than others.
    ReplicasUneven = Warning "uneven-replicas",
    /// All nodes run on one host.
    OneHost = Warning "single-host",
    /// Replicas on the host of their master.
    ReplicaSameHost = Warning "replica-on-masters-host",
    /// Replicas in the zone of their master.
    ReplicaSameZone = Warning "replica-in-masters-zone",
    /// A host with a majority of the masters.
    HostQuorum = Warning "host-holds-quorum",
    /// A zone with a majority of the masters.
    ZoneQuorum = Warning "zone-holds-quorum",
    /// Masters with the same config epoch.
    EpochCollision = Warning "epoch-collision",
    /// Slots in an atomic slot migration task that is under way or has failed.
    SlotsInTask = Warning "slots-in-job",
    /// Nodes that run different versions.
    VersionsMixed = Warning "mixed-versions",
    /// Nodes that fail to write to their disks and take writes all the same.
    PersistenceFailing = Warning "persistence-failing",
    /// Masters without persistence that are restarted automatically.
    RestartsEmpty = Warning "restarts-empty",
    /// Nodes whose cluster bus takes anyone for a node who reaches its port.
    BusUnauthenticated = Warning "bus-unauthenticated",
    /// Masters whose function libraries differ.
    FunctionsDiffer = Warning "functions-differ",
    /// Replicas with other settings for memory and persistence than their masters.
    SettingsDiffer = Warning "shard-settings-differ",
}

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The kind.
    pub code: Code,
    /// One sentence for people that names nodes by address and short id.
    pub message: String,
    /// The nodes concerned.
    pub nodes: Vec<NodeId>,
    /// The slots concerned.
    pub slots: SlotSet,
    /// A command that helps, if there is one.
    pub remedy: Option<Remedy>,
}

impl Finding {
    /// The severity of its code.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// Whether slots should not be moved, nor nodes added or removed, before it is repaired. Such a change can be the
    /// cure of the others: those that concern it ask the nodes themselves.
    pub fn blocks_changes(&self) -> bool {
        let may_be_cured = matches!(self.code, Code::WritesRefused | Code::ReplicaCannotSync);
        self.severity() == Severity::Error && !may_be_cured
    }
}

/// `replica-link-down`.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Whether a disagreement between nodes still changes, which one observation can't tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stability {
    /// There was one observation.
    #[default]
    Unknown,
    /// Two observations differ: the cluster is converging.
    Settling,
    /// Two observations show the same disagreement.
    Stuck,
}

/// Facts besides the observation.
#[derive(Debug, Clone, Default)]
pub struct Background {
    /// Whether the disagreement between nodes changes.
    pub stability: Stability,
    /// The zone of each node, if known.
    pub zones: BTreeMap<NodeId, String>,
    /// Links to slot owners that are missing for longer than half the node timeout, which one observation can't tell.
    pub missing_links: MissingLinks,
}

/// A cluster with its findings.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    /// The observation.
    pub observation: Observation,
    /// The topology that results from it.
    pub topology: Topology,
    /// All findings, errors first.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// The findings of an observation.
    pub fn of(observation: Observation, background: &Background) -> Self {
        let topology = Topology::of(&observation);
        let findings = judge(&observation, &topology, background);
        Self {
            observation,
            topology,
            findings,
        }
    }

    /// Whether there is no error; warnings are allowed.
    pub fn is_healthy(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.severity() == Severity::Warning)
    }

    /// Adds the finding that a master failed the write probe.
    pub fn probe_failed(&mut self, id: NodeId, why: &str) {
        self.add(Finding {
            code: Code::ProbeFailed,
            message: format!("{} does not take writes: {why}", self.observation.name(id)),
            nodes: vec![id],
            slots: SlotSet::new(),
            remedy: None,
        });
    }

    /// Adds a finding at its place.
    fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
        self.findings
            .sort_by_key(|finding| (finding.severity(), finding.code));
    }

    /// The number of slots of masters that are up, 0 to 16384.
    pub fn slots_covered(&self) -> usize {
        self.topology.served().count()
    }

    /// Whether a second observation may show less: a converging cluster resolves such findings itself.
    pub fn may_settle(&self) -> bool {
        self.findings.iter().any(|finding| {
            matches!(
                finding.code,
                Code::ViewsDiffer
                    | Code::SlotsContested
                    | Code::NodeForgotten
                    | Code::EpochCollision
            )
        })
    }
}

/// All findings, errors first.
fn judge(observation: &Observation, topology: &Topology, background: &Background) -> Vec<Finding> {
    let mut judge = Judge {
        observation,
        topology,
        stability: background.stability,
        foreign_nodes: merger::intruders(observation),
        findings: Vec::new(),
    };
    match judge.lone_node() {
        // Everything else follows from this.
        Some(id) => judge.in_no_cluster(id),
        None => {
            judge.slots();
            judge.tasks();
            judge.views();
            judge.twins();
            // A Raft node needs a link to the leader only.
            if topology.bus == Bus::Gossip {
                judge.unlinked(&background.missing_links);
            }
            judge.members();
            judge.replication();
            judge.disks();
            judge.settings();
            judge.placement(&background.zones);
        }
    }
    judge.bystanders();
    judge.loading();
    judge.refusals();
    let mut findings = judge.findings;
    findings.sort_by_key(|finding| (finding.severity(), finding.code));
    findings
}

/// Collects findings; each submodule adds those of one subject.
struct Judge<'a> {
    observation: &'a Observation,
    topology: &'a Topology,
    stability: Stability,
    foreign_nodes: Intruders,
    findings: Vec<Finding>,
}

impl<'a> Judge<'a> {
    fn add(&mut self, code: Code, message: String, nodes: &[NodeId], slots: SlotSet) {
        self.findings.push(Finding {
            code,
            message,
            nodes: nodes.to_vec(),
            slots,
            remedy: None,
        });
    }

    /// One finding about all of `nodes`, if there are any; `message` gets their names.
    fn add_nodes(&mut self, code: Code, nodes: &[NodeId], message: impl FnOnce(String) -> String) {
        if !nodes.is_empty() {
            let message = message(self.names(nodes));
            self.add(code, message, nodes, SlotSet::new());
        }
    }

    fn node(&self, id: NodeId) -> Option<&'a ObservedNode> {
        self.observation.nodes.get(&id)
    }

    fn name(&self, id: NodeId) -> String {
        self.observation.name(id)
    }

    /// The names of up to four nodes, then the number of the others.
    fn names(&self, nodes: &[NodeId]) -> String {
        const SHOWN: usize = 4;
        let names: Vec<String> = nodes.iter().take(SHOWN).map(|id| self.name(*id)).collect();
        let names = names.join(", ");
        match nodes.len().saturating_sub(SHOWN) {
            0 => names,
            more => format!("{names} and {more} more"),
        }
    }
}

/// `slot 93 is`, `slots 93,95-97 are`.
fn slots_are(slots: &SlotSet) -> String {
    if slots.count() == 1 {
        format!("slot {slots} is")
    } else {
        format!("slots {} are", slots.summary())
    }
}

/// `1 node`, `5,461 nodes`.
fn count(number: usize, one: &str, many: &str) -> String {
    let noun = if number == 1 { one } else { many };
    format!("{} {noun}", thousands(number as u64))
}
