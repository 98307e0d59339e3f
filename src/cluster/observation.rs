//! An observation of a cluster at one time: the view of every node, and its facts about itself.
//!
//! An observation is never changed. After a change the cluster is observed again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::identity::Identities;
use super::node::{Addr, NodeId};
use super::numbers::{bytes, counted, thousands};
use super::parse::{ClusterInfo, Info, MasterLink, Product, Version, View};
use super::refusal::{Refusal, RefusalKind};
use super::slot::{Slot, SlotSet};
use super::write_refusal::WriteRefusal;

/// An observation of all nodes of a cluster.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The member that answered first, through which the others were found.
    pub lead: NodeId,
    /// Every node that the user gave or that a member knows, by id.
    pub nodes: BTreeMap<NodeId, ObservedNode>,
    /// Nodes that the user gave and that are in no cluster: they know no other node.
    pub bystanders: Vec<Bystander>,
    /// Which processes answer under the ids of the nodes.
    pub identities: Identities,
}

/// One node of an observation.
#[derive(Debug, Clone)]
pub struct ObservedNode {
    /// Its id.
    pub id: NodeId,
    /// The address at which redis-trib reaches it; `None` if unknown.
    pub dial: Option<Addr>,
    /// The address at which the other nodes reach it; only the port is known of a node that does not know
    /// its own address.
    pub peer: Option<Addr>,
    /// Its announced host name.
    pub hostname: Option<Arc<str>>,
    /// The result of reading it.
    pub seen: Seen,
}

/// The result of reading a node.
#[derive(Debug, Clone)]
pub enum Seen {
    /// It answered.
    Report(Box<Report>),
    /// It did not answer; the reason, in the client's words.
    Silent(String),
    /// It answers with an error to the commands that read it.
    Refused(Refusal),
    /// It answers LOADING to every command.
    Loading,
    /// Another node answers at its address.
    OtherNode(NodeId),
    /// No node knows its address.
    NoAddress,
}

/// What a node reports.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its CLUSTER NODES.
    pub view: View,
    /// Its CLUSTER INFO.
    pub cluster: ClusterInfo,
    /// Its INFO.
    pub info: Info,
    /// Whether it writes an RDB file by itself (`save` is not empty); `None` if CONFIG is denied.
    pub saves: Option<bool>,
    /// Why it refuses PING, and with it writes or reads of data.
    pub refuses: Option<Refusal>,
    /// Its keys in slots that are open on any node, in all databases; empty until counted.
    pub open_keys: BTreeMap<Slot, u64>,
    /// Its keys in slots of its master, in all databases; counted only if it is a replica whose link is down.
    pub keys_of_shard: Option<u64>,
    /// The time of the first link to or from each other node, in ms of its own clock; read only if two
    /// clusters may have merged (`cluster::merger`).
    pub links: BTreeMap<NodeId, u64>,
    /// Atomic slot migration tasks that it leads and that have not succeeded (Redis ≥ 8.4, Valkey ≥ 9.0).
    pub tasks: Vec<ObservedTask>,
}

/// An atomic slot migration task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedTask {
    /// Its slots.
    pub slots: SlotSet,
    /// The source, if the server reports it.
    pub source: Option<NodeId>,
    /// The target, if the server reports it.
    pub target: Option<NodeId>,
    /// The server's word for its state.
    pub state: String,
    /// The last error, in the server's words; empty if there is none.
    pub said: String,
    /// How far it has come, if the server reports it.
    pub progress: Option<TaskProgress>,
    /// Whether it continues; else it has failed and is not retried.
    pub goes_on: bool,
    /// What its leader runs.
    pub product: Product,
    /// The id by which the leader cancels it (Redis; Valkey cancels all at once).
    pub id: String,
}

/// How far a task has come, as far as the server reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskProgress {
    /// Keys that have moved.
    pub keys: Option<u64>,
    /// All keys of the task.
    pub keys_total: Option<u64>,
    /// Bytes that have moved.
    pub bytes: Option<u64>,
    /// All bytes of the task.
    pub bytes_total: Option<u64>,
    /// The percentage that is done, 0 to 100.
    pub percent: Option<u64>,
}

/// `1,200 of 5,000 keys, 4.0 KiB, 24%`.
impl fmt::Display for TaskProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |done: u64| match self.keys_total {
            Some(total) => format!("{} of {}", thousands(done), counted(total, "key")),
            None => counted(done, "key"),
        };
        let volume = |done: u64| match self.bytes_total {
            Some(total) => format!("{} of {}", bytes(done), bytes(total)),
            None => bytes(done),
        };
        let parts = [
            self.keys.map(keys),
            self.bytes.map(volume),
            self.percent.map(|percent| format!("{percent}%")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

/// A node that the user gave, that answers, and that is in no cluster.
#[derive(Debug, Clone)]
pub struct Bystander {
    /// Its id.
    pub id: NodeId,
    /// The address at which it was reached.
    pub dial: Addr,
}

impl Report {
    /// Why it refuses writes, if its disk is the reason: by its answer to PING, and without the right to PING by its
    /// INFO.
    pub fn refuses_writes(&self) -> Option<WriteRefusal> {
        let refusal = self.refuses.as_ref();
        let is_misconf = refusal.is_some_and(|refusal| refusal.kind == RefusalKind::Misconf);
        match (self.info.disk_failures.append, is_misconf) {
            (true, _) => Some(WriteRefusal::AppendFailed),
            (false, true) => Some(WriteRefusal::SaveFailed),
            (false, false) => None,
        }
    }
}

impl ObservedNode {
    /// What it reports; `None` if it did not answer.
    pub fn report(&self) -> Option<&Report> {
        match &self.seen {
            Seen::Report(report) => Some(report),
            Seen::Silent(_)
            | Seen::Refused(_)
            | Seen::Loading
            | Seen::OtherNode(_)
            | Seen::NoAddress => None,
        }
    }

    /// Why it reports nothing, as the rest of a sentence that begins with its name.
    pub fn why_absent(&self) -> String {
        match &self.seen {
            Seen::Refused(refusal) => refusal.to_string(),
            Seen::Loading => "is loading its data set from disk".to_string(),
            Seen::Report(_) | Seen::Silent(_) | Seen::OtherNode(_) | Seen::NoAddress => {
                "does not answer".to_string()
            }
        }
    }

    /// Whether it accepts connections and did not answer in time: it is busy or stopped.
    pub fn is_slow(&self) -> bool {
        // The words of the client for that.
        matches!(&self.seen, Seen::Silent(why) if why.starts_with("no answer to "))
    }

    /// The address to show: that at which redis-trib reaches it, else that of the other nodes.
    pub fn addr(&self) -> Option<&Addr> {
        self.dial.as_ref().or(self.peer.as_ref())
    }

    /// Its host, as far as its addresses tell.
    pub fn host(&self) -> Option<&str> {
        self.peer.as_ref().or(self.dial.as_ref()).map(Addr::host)
    }
}

/// `127.0.0.1:7000 (1977c4d4)`.
impl fmt::Display for ObservedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr() {
            Some(addr) => write!(f, "{addr} ({})", self.id.short()),
            None => write!(f, "{} (no address)", self.id.short()),
        }
    }
}

impl Observation {
    /// The version of a node, if it was asked and tells it.
    pub fn version_of(&self, id: NodeId) -> Option<Version> {
        self.nodes.get(&id)?.report()?.info.version
    }

    /// Keeps what an earlier look saw of nodes whose address is forgotten by now: members forget an address at which
    /// another node answers.
    pub fn keep_other_nodes(&mut self, earlier: &Self) {
        for (id, node) in &mut self.nodes {
            if let (Seen::NoAddress, Some(before)) = (&node.seen, earlier.nodes.get(id))
                && matches!(before.seen, Seen::OtherNode(_))
            {
                *node = before.clone();
            }
        }
    }

    /// Every node that answered, with its report.
    pub fn reports(&self) -> impl Iterator<Item = (&ObservedNode, &Report)> {
        self.nodes
            .values()
            .filter_map(|node| node.report().map(|report| (node, report)))
    }

    /// The name of a node for people: address and short id; the short id alone if the node is unknown.
    pub fn name(&self, id: NodeId) -> String {
        match self.nodes.get(&id) {
            Some(node) => node.to_string(),
            None => id.short(),
        }
    }

    /// Why a node reports nothing, as the rest of a sentence that begins with its name.
    pub fn why_absent(&self, id: NodeId) -> String {
        let node = self.nodes.get(&id);
        node.map_or_else(|| "does not answer".to_string(), ObservedNode::why_absent)
    }

    /// The member through which the others were found.
    pub fn lead(&self) -> Option<&ObservedNode> {
        self.nodes.get(&self.lead)
    }

    /// The slot owners that each member sees, as a hash, and the number of nodes that it knows. Two
    /// observations with equal signatures show the same disagreement.
    pub fn signature(&self) -> BTreeMap<NodeId, (u64, usize)> {
        self.reports()
            .map(|(node, report)| {
                let view = &report.view;
                (node.id, (view.slots_signature(), view.entries().len()))
            })
            .collect()
    }

    /// Corrects the link of replicas that wait for a full resync: a master that delays it for more
    /// replicas (`repl-diskless-sync-delay`) lists them, but they report `down` like a replica that lost
    /// its master.
    pub fn tell_first_syncs(&mut self) {
        let mut copying = Vec::new();
        for (node, report) in self.reports() {
            let myself = report.view.myself();
            let master = myself.master.and_then(|id| self.nodes.get(&id)?.report());
            if let (Some(peer), Some(master)) = (&node.peer, master)
                && matches!(report.info.master_link, Some(MasterLink::Down(_)))
                && master.info.copying_replicas.iter().any(|addr| {
                    // Behind NAT the master sees another host than the node announces.
                    addr == peer || (addr.port() == peer.port() && self.is_only_port(peer))
                })
            {
                copying.push(node.id);
            }
        }
        for id in copying {
            if let Some(Seen::Report(report)) = self.nodes.get_mut(&id).map(|node| &mut node.seen) {
                report.info.master_link = Some(MasterLink::Syncing);
            }
        }
    }

    /// Whether no other node has that port.
    fn is_only_port(&self, addr: &Addr) -> bool {
        let peers = self.nodes.values().filter_map(|node| node.peer.as_ref());
        peers.filter(|peer| peer.port() == addr.port()).count() == 1
    }
}
