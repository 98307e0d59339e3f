//! What was seen of a cluster at one time: every node's own view, and the facts it tells of itself.
//!
//! An observation is never patched. Whoever changes a cluster looks again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::node::{Addr, NodeId};
use super::parse::{ClusterInfo, Info, MasterLink, Product, View};
use super::slot::{Slot, SlotSet};

/// A look at all nodes of a cluster.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The member that answered first, and led to the others.
    pub lead: NodeId,
    /// Every node that the user named or that any member knows of, by id.
    pub nodes: BTreeMap<NodeId, ObservedNode>,
    /// Nodes that the user named and that answered, yet belong to no cluster: they know nobody.
    pub bystanders: Vec<Bystander>,
}

/// One node of an observation.
#[derive(Debug, Clone)]
pub struct ObservedNode {
    /// Its id.
    pub id: NodeId,
    /// Where we reach it; `None` where no address is known.
    pub dial: Option<Addr>,
    /// Where the other nodes reach it, and the port alone of a node that does not know its address.
    pub peer: Option<Addr>,
    /// Its announced name.
    pub hostname: Option<Arc<str>>,
    /// What came of asking it.
    pub seen: Seen,
}

/// What came of asking a node.
#[derive(Debug, Clone)]
pub enum Seen {
    /// It answered.
    Report(Box<Report>),
    /// It did not; why, in the client's words.
    Silent(String),
    /// It answers that it is reading its data from disk, and nothing else.
    Loading,
    /// At its address another node answers.
    Stranger(NodeId),
    /// No member knows an address of it.
    NoAddress,
}

/// What a node says.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its CLUSTER NODES.
    pub view: View,
    /// Its CLUSTER INFO.
    pub cluster: ClusterInfo,
    /// Its INFO.
    pub info: Info,
    /// Whether it writes an RDB file by itself (`save` is not empty); `None` where CONFIG is denied.
    pub saves: Option<bool>,
    /// Keys that it holds in slots that are open anywhere, in all databases; empty until counted.
    pub open_keys: BTreeMap<Slot, u64>,
    /// Since when it has had a link to or from each other node, in ms of its own clock; asked for
    /// only where it tells who belongs together (`cluster::merger`).
    pub links: BTreeMap<NodeId, u64>,
    /// Jobs of the servers that it leads and that have not ended well (Redis ≥ 8.4, Valkey ≥ 9.0).
    pub jobs: Vec<ObservedTask>,
}

/// Slots that the servers move by themselves, at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedTask {
    /// What moves.
    pub slots: SlotSet,
    /// Who gives, where the server tells.
    pub source: Option<NodeId>,
    /// Who takes, where the server tells.
    pub target: Option<NodeId>,
    /// The server's word for how far it is.
    pub state: String,
    /// What went wrong last, in the server's words; empty where nothing did.
    pub said: String,
    /// Whether it goes on; else it has failed, and nobody begins it again.
    pub goes_on: bool,
    /// What its leader runs.
    pub product: Product,
    /// The id by which the leader cancels it (Redis; Valkey cancels all at once).
    pub id: String,
}

/// A node that was named, answers, and is in no cluster.
#[derive(Debug, Clone)]
pub struct Bystander {
    /// Its id.
    pub id: NodeId,
    /// Where it was reached.
    pub dial: Addr,
}

impl ObservedNode {
    /// What it says; `None` when it did not answer.
    pub fn report(&self) -> Option<&Report> {
        match &self.seen {
            Seen::Report(report) => Some(report),
            Seen::Silent(_) | Seen::Loading | Seen::Stranger(_) | Seen::NoAddress => None,
        }
    }

    /// The address to show: where we reach it, else where the others do.
    pub fn addr(&self) -> Option<&Addr> {
        self.dial.as_ref().or(self.peer.as_ref())
    }

    /// The host that it stands on, as far as its addresses tell.
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
    /// Every node that answered, with what it said.
    pub fn reports(&self) -> impl Iterator<Item = (&ObservedNode, &Report)> {
        self.nodes
            .values()
            .filter_map(|node| node.report().map(|report| (node, report)))
    }

    /// The node's name for people: address and short id; the id alone when it is not known.
    pub fn name(&self, id: NodeId) -> String {
        match self.nodes.get(&id) {
            Some(node) => node.to_string(),
            None => id.short(),
        }
    }

    /// The member that led to the others.
    pub fn lead(&self) -> Option<&ObservedNode> {
        self.nodes.get(&self.lead)
    }

    /// Which owner each member sees for the slots, and which nodes it knows, as one number each.
    /// Two looks with equal signatures have seen the same disagreement.
    pub fn signature(&self) -> BTreeMap<NodeId, (u64, usize)> {
        self.reports()
            .map(|(node, report)| {
                let view = &report.view;
                (node.id, (view.slots_signature(), view.entries().len()))
            })
            .collect()
    }

    /// A replica whose master holds its copy back, to send the same to others who may come
    /// (`repl-diskless-sync-delay`), says `down` like one that lost its master. The master knows
    /// better.
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
