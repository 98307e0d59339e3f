//! A running cluster from one moment to the next: the nodes as a few of them report them, what has changed, and rates.
//!
//! A look asks every node about itself, and a few in turn about the cluster: gossip makes their answers nearly equal.
//! [`Snapshot::next`] settles what is left, so that an old answer never undoes a newer one.

mod changes;
mod motion;
mod rates;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::node::{Addr, NodeId, Role};
use super::parse::{Entry, EntryState, OpenSlot, View};
use super::slot::SlotSet;

pub use changes::{Change, between};
pub use motion::{KeysLeft, keys_moved};
pub use rates::{Rates, Sample};

/// A member at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedNode {
    /// The address at which the other nodes reach it.
    pub addr: Option<Addr>,
    /// Its announced host name.
    pub hostname: Option<Arc<str>>,
    /// Its role.
    pub role: Role,
    /// Its master.
    pub master: Option<NodeId>,
    /// Its config epoch.
    pub epoch: u64,
    /// The slots that it owns.
    pub slots: SlotSet,
    /// Its open slots, when it was last asked.
    pub open: Vec<OpenSlot>,
    /// Whether it answers, and how the other nodes flag it.
    pub health: Health,
    /// The run id of its process, when it last answered.
    pub run_id: Option<Arc<str>>,
}

/// Whether a node is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Up,
    /// It does not answer this program.
    Silent,
    /// Most of the nodes that were asked flag it `fail`.
    Failed,
}

/// A cluster at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The members.
    pub nodes: BTreeMap<NodeId, WatchedNode>,
    /// The highest epoch that a node has seen.
    pub current_epoch: u64,
    /// Whether all nodes that were asked report `cluster_state:ok`; `None` if none was.
    pub is_ok: Option<bool>,
}

/// What the nodes answered at one moment.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// CLUSTER NODES of some of them.
    pub views: Vec<View>,
    /// The nodes that answered, with the run ids of their processes.
    pub up: BTreeMap<NodeId, Option<Arc<str>>>,
    /// The highest epoch that a node reports.
    pub current_epoch: u64,
    /// Whether all that were asked report `cluster_state:ok`; `None` if none was.
    pub is_ok: Option<bool>,
}

impl Snapshot {
    /// The snapshot that follows this one.
    ///
    /// What a node reports of itself holds. Of a node that was not asked about itself, the line with the highest config
    /// epoch holds, and what is known already unless a line has a higher one. A slot that two nodes claim belongs to the one
    /// with the higher config epoch, as in the cluster.
    pub fn next(&self, answers: &Answers) -> Self {
        let mut nodes: BTreeMap<NodeId, WatchedNode> = BTreeMap::new();
        for (id, line) in lines(&answers.views) {
            nodes.insert(id, self.node(id, &line, answers));
        }
        if answers.views.is_empty() {
            nodes.clone_from(&self.nodes);
            for (id, node) in &mut nodes {
                node.judge(*id, answers);
            }
        }
        settle_slots(&mut nodes);
        Self {
            nodes,
            current_epoch: self.current_epoch.max(answers.current_epoch),
            is_ok: answers.is_ok.or(self.is_ok),
        }
    }

    fn node(&self, id: NodeId, line: &Line, answers: &Answers) -> WatchedNode {
        let entry = &line.entry;
        let known = self.nodes.get(&id);
        let mut node = match known {
            Some(known) if !line.is_own && known.epoch >= entry.epoch => known.clone(),
            _ => WatchedNode {
                addr: None,
                hostname: None,
                role: entry.role.unwrap_or(Role::Master),
                master: entry.master,
                epoch: entry.epoch,
                slots: entry.slots.iter().copied().collect(),
                open: match line.is_own {
                    true => entry.open.clone(),
                    false => known.map(|known| known.open.clone()).unwrap_or_default(),
                },
                health: Health::Silent,
                run_id: known.and_then(|known| known.run_id.clone()),
            },
        };
        // A node may not know its own address.
        node.addr = line
            .addr
            .clone()
            .or_else(|| known.and_then(|known| known.addr.clone()));
        node.hostname.clone_from(&entry.hostname);
        node.judge(id, answers);
        node
    }

    /// The number of slots that a node which is up owns.
    pub fn slots_covered(&self) -> usize {
        let up = self.nodes.values().filter(|node| node.health == Health::Up);
        up.map(|node| node.slots.count()).sum()
    }
}

impl WatchedNode {
    fn judge(&mut self, id: NodeId, answers: &Answers) {
        let others = || answers.views.iter().filter(|view| view.myself().id != id);
        let flags = others().filter(|view| {
            let entry = view.entry(id);
            entry.is_some_and(|entry| entry.state == EntryState::Failed)
        });
        self.health = match answers.up.get(&id) {
            _ if flags.count() * 2 > others().count() => Health::Failed,
            Some(_) => Health::Up,
            None => Health::Silent,
        };
        if let Some(Some(run_id)) = answers.up.get(&id) {
            self.run_id = Some(Arc::clone(run_id));
        }
    }
}

/// What holds of a node among the lines about it.
struct Line {
    entry: Arc<Entry>,
    is_own: bool,
    addr: Option<Addr>,
}

fn lines(views: &[View]) -> BTreeMap<NodeId, Line> {
    let mut lines: BTreeMap<NodeId, Line> = BTreeMap::new();
    for view in views {
        let myself = view.myself().id;
        let members = view
            .entries()
            .filter(|entry| entry.state != EntryState::Handshake && entry.role.is_some());
        for entry in members {
            let is_own = entry.id == myself;
            let found = lines.get_mut(&entry.id);
            let Some(line) = found else {
                let line = Line {
                    entry: Arc::clone(entry),
                    is_own,
                    addr: entry.addr.clone(),
                };
                lines.insert(entry.id, line);
                continue;
            };
            if line.addr.is_none() {
                line.addr.clone_from(&entry.addr);
            }
            if is_own || (!line.is_own && entry.epoch > line.entry.epoch) {
                line.entry = Arc::clone(entry);
                line.is_own = is_own;
            }
        }
    }
    lines
}

/// Gives each slot to the node with the highest config epoch of those that claim it.
fn settle_slots(nodes: &mut BTreeMap<NodeId, WatchedNode>) {
    let mut claims: Vec<(&NodeId, &mut WatchedNode)> = nodes.iter_mut().collect();
    claims.sort_by_key(|(id, node)| (Reverse(node.epoch), **id));
    let mut taken = SlotSet::new();
    for (_, node) in claims {
        if node.role == Role::Replica {
            node.slots = SlotSet::new();
        } else if !node.slots.is_empty() {
            node.slots = node.slots.difference(&taken);
            taken.union_with(&node.slots);
        }
    }
}

#[cfg(test)]
mod tests;
