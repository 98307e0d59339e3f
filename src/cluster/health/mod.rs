//! What is wrong with a cluster: from an observation to findings.
//!
//! A finding is data: a code that scripts match on, the nodes and slots that it is about, a
//! sentence for people, and the command that helps. Errors are what keeps the cluster from serving
//! all of its data, or would lose some; warnings are what will hurt one day.
//!
//! A cause is named once: what follows from it by necessity is left out. Remedies are commands
//! that exist, in words that a shell takes; none of them can lose a key.

use std::collections::BTreeMap;
use std::fmt;

use super::merger::{self, Intruders};
use super::node::{Addr, NodeId};
use super::observation::{Observation, ObservedNode};
use super::slot::SlotSet;
use super::topology::Topology;

mod asm_tasks;
mod members;
mod placement;
mod replication;
mod slots;
#[cfg(test)]
mod tests;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// `check` exits 1.
    Error,
    /// `check` exits 0, unless `--strict`.
    Warning,
}

impl Severity {
    /// The word that JSON uses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $severity:ident $word:literal,)*) => {
        /// What a finding is about. The words are a contract with scripts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word that output uses.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// How bad it is.
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
    /// Members that see other owners than the rest.
    ViewsDiffer = Error "views-differ",
    /// Masters of slots that a majority of the members holds for dead.
    NodeFailed = Error "node-failed",
    /// Nodes without slots, replicas mostly, that a majority of the members holds for dead: the
    /// cluster serves all the same, and a master that was replaced stays one for as long as nobody
    /// brings it back.
    SlotlessFailed = Warning "slotless-node-failed",
    /// Nodes that some member can't hear.
    NodeFailing = Warning "node-failing",
    /// Masters of slots that don't answer us.
    NodeUnreachable = Error "node-unreachable",
    /// Nodes without slots that don't answer us.
    SlotlessUnreachable = Warning "slotless-node-unreachable",
    /// Nodes that the members reach, and we don't.
    AddressUnreachable = Error "announced-address-unreachable",
    /// Addresses of members at which other nodes answer, and members that came in with another
    /// cluster.
    NodeForeign = Error "foreign-node",
    /// Nodes that were met and never got to know the others.
    NodeHandshake = Warning "node-handshake",
    /// Nodes that are known by id only.
    NodeNoAddress = Warning "node-noaddr",
    /// Nodes that some members know and others don't.
    NodeForgotten = Error "node-unknown-to-some",
    /// Named nodes that are in no cluster.
    SeedNotMember = Error "seed-not-member",
    /// Nodes that say `cluster_state:fail`.
    StateNotOk = Error "cluster-state-not-ok",
    /// Nodes that are reading their data from disk, and don't serve yet.
    NodeLoading = Error "node-loading",
    /// Masters that did not take a key (`--probe-write`), or not give it back.
    ProbeFailed = Error "probe-write-failed",
    /// Replicas that have lost their master.
    ReplicaLinkDown = Error "replica-link-down",
    /// Replicas that receive a whole copy.
    ReplicaSyncing = Warning "replica-syncing",
    /// Replicas that follow a replica.
    ReplicaOfReplica = Warning "replica-of-replica",
    /// Replicas that follow nobody that is known.
    ReplicaOrphan = Error "replica-without-master",
    /// Masters with slots and without a replica.
    MasterAlone = Warning "master-without-replicas",
    /// Some masters have at least two replicas more than others.
    ReplicasUneven = Warning "uneven-replicas",
    /// All nodes stand on one host.
    OneHost = Warning "single-host",
    /// Replicas on the host of their master.
    ReplicaSameHost = Warning "replica-on-masters-host",
    /// Replicas in the zone of their master.
    ReplicaSameZone = Warning "replica-in-masters-zone",
    /// A host that takes the majority of masters with it when it dies.
    HostQuorum = Warning "host-holds-quorum",
    /// A zone that takes the majority of masters with it when it dies.
    ZoneQuorum = Warning "zone-holds-quorum",
    /// Masters that share a configuration epoch.
    EpochCollision = Warning "epoch-collision",
    /// Slots that the servers move by themselves, and such moves that failed.
    SlotsInJob = Warning "slots-in-job",
    /// Nodes of several versions.
    VersionsMixed = Warning "mixed-versions",
    /// Masters that keep nothing on disk and are started anew when they die.
    RestartsEmpty = Warning "restarts-empty",
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub code: Code,
    /// One sentence for people, which names nodes by address and short id.
    pub message: String,
    /// The nodes it is about.
    pub nodes: Vec<NodeId>,
    /// The slots it is about.
    pub slots: SlotSet,
    /// A command that helps, where one does.
    pub remedy: Option<String>,
}

impl Finding {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

/// `replica-link-down`.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What one look can't tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stability {
    /// Looked once.
    #[default]
    Unknown,
    /// Two looks saw different things: the cluster is on its way.
    Settling,
    /// Two looks saw the same disagreement.
    Stuck,
}

/// What is known besides the observation.
#[derive(Debug, Clone, Default)]
pub struct Background {
    /// Whether what members disagree about changes between two looks.
    pub stability: Stability,
    /// The zone of each node, where it is known.
    pub zones: BTreeMap<NodeId, String>,
}

/// A cluster, judged.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    /// What was seen.
    pub observation: Observation,
    /// The one picture that was made of it.
    pub topology: Topology,
    /// All that is wrong, errors first.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Judges what was seen.
    pub fn of(observation: Observation, background: &Background) -> Self {
        let topology = Topology::of(&observation);
        let findings = judge(&observation, &topology, background);
        Self {
            observation,
            topology,
            findings,
        }
    }

    /// Whether it is healthy: no errors; warnings are allowed.
    pub fn is_healthy(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.severity() == Severity::Warning)
    }

    /// Adds that a master did not take a key, or not give it back.
    pub fn probe_failed(&mut self, id: NodeId, why: &str) {
        self.findings.push(Finding {
            code: Code::ProbeFailed,
            message: format!("{} does not take writes: {why}", self.observation.name(id)),
            nodes: vec![id],
            slots: SlotSet::new(),
            remedy: None,
        });
        self.findings
            .sort_by_key(|finding| (finding.severity(), finding.code));
    }

    /// How many slots a master that is not down serves, 0 to 16384.
    pub fn slots_covered(&self) -> usize {
        self.topology.served().count()
    }

    /// Whether a second look may see less: findings that a cluster on its way heals by itself.
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

/// All that is wrong, errors first.
fn judge(observation: &Observation, topology: &Topology, background: &Background) -> Vec<Finding> {
    let mut judge = Judge {
        observation,
        topology,
        stability: background.stability,
        intruders: merger::intruders(observation),
        findings: Vec::new(),
    };
    match judge.loner() {
        // All else follows from it.
        Some(loner) => judge.in_no_cluster(loner),
        None => {
            judge.slots();
            judge.jobs();
            judge.views();
            judge.members();
            judge.replication();
            judge.placement(&background.zones);
        }
    }
    judge.bystanders();
    judge.loading();
    let mut findings = judge.findings;
    findings.sort_by_key(|finding| (finding.severity(), finding.code));
    findings
}

/// A judgement under way. The modules below are its parts.
struct Judge<'a> {
    observation: &'a Observation,
    topology: &'a Topology,
    stability: Stability,
    intruders: Intruders,
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

    /// One finding about all of `nodes`, if there are any; `tell` gets them as text.
    fn add_nodes(&mut self, code: Code, nodes: &[NodeId], tell: impl FnOnce(String) -> String) {
        if !nodes.is_empty() {
            let message = tell(self.names(nodes));
            self.add(code, message, nodes, SlotSet::new());
        }
    }

    /// What helps against the finding that was added last.
    fn remedy(&mut self, remedy: Option<String>) {
        if let Some(finding) = self.findings.last_mut() {
            finding.remedy = remedy;
        }
    }

    /// Where two looks saw different things, time may be all that it takes.
    fn remedy_if_settling(&mut self) {
        if self.stability == Stability::Settling {
            self.remedy(self.wait());
        }
    }

    /// The command that waits until all is well.
    fn wait(&self) -> Option<String> {
        Some(format!("redis-trib check {} --wait 60s", self.lead_addr()?))
    }

    /// The command that mends it, or says why it can't be mended and what a person can do.
    fn fix(&self) -> Option<String> {
        Some(format!("redis-trib fix {}", self.lead_addr()?))
    }

    fn lead_addr(&self) -> Option<String> {
        let addr = self.observation.lead()?.addr()?;
        Some(shell_word(&addr.to_string()))
    }

    /// A command for one node, as redis-cli sends it.
    fn redis_cli(&self, id: NodeId, command: &str) -> Option<String> {
        let addr = self.node(id)?.dial.as_ref()?;
        Some(redis_cli(addr, command))
    }

    /// All members forget it, and side by side: within a minute the slowest would tell the first of it
    /// again (Redis: "CLUSTER FORGET").
    fn forget(&self, id: NodeId) -> Option<String> {
        Some(format!("redis-trib del-node {} {id}", self.lead_addr()?))
    }

    fn node(&self, id: NodeId) -> Option<&'a ObservedNode> {
        self.observation.nodes.get(&id)
    }

    fn name(&self, id: NodeId) -> String {
        self.observation.name(id)
    }

    /// Up to four nodes by name, then how many more.
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

/// A command for the node at that address, as redis-cli sends it.
pub fn redis_cli(addr: &Addr, command: &str) -> String {
    let (host, port) = (shell_word(addr.host()), addr.port());
    format!("redis-cli -h {host} -p {port} {command}")
}

/// A word that a shell leaves alone. Hosts are announced by nodes, and remedies get pasted.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".:-_=/,%+@".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_string()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A command line for a shell.
pub fn command_line(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
    words.join(" ")
}

/// `slot 93 is`, `slots 93,95-97 are`.
fn slots_are(slots: &SlotSet) -> String {
    if slots.count() == 1 {
        format!("slot {slots} is")
    } else {
        format!("slots {} are", shown(slots))
    }
}

/// Slots as ranges, shortened after the eighth.
fn shown(slots: &SlotSet) -> String {
    const SHOWN: usize = 8;
    let ranges = slots.ranges();
    let text: Vec<String> = ranges.iter().take(SHOWN).map(ToString::to_string).collect();
    let text = text.join(",");
    match ranges.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text} and {}", count(more, "range more", "ranges more")),
    }
}

/// `1 node`, `3 nodes`.
fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
