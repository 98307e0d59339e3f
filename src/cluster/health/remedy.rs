//! What helps against a finding, as data: `ui::remedy` renders it as a command line.

use super::Judge;
use crate::cluster::copies::{ShardCopies, ShardCopy};
use crate::cluster::election::Votes;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::ObservedTask;
use crate::cluster::parse::{MasterLink, Product};
use crate::cluster::refusal::BusyWith;
use crate::cluster::slot::SlotSet;
use crate::cluster::topology::Member;

use super::Stability;

/// A command that helps. None of them can lose a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Wait until the cluster is healthy.
    Wait {
        /// A member.
        seed: Addr,
    },
    /// Run `fix`, which repairs it or says why it can't and what a person can do.
    Fix {
        /// A member.
        seed: Addr,
    },
    /// Run `fix --rejoin`: nodes meet again at the addresses that they have now.
    Rejoin {
        /// All nodes that answer.
        nodes: Vec<Addr>,
    },
    /// Run `fix --evict-foreign`: nodes of another cluster leave.
    EvictForeign {
        /// A member.
        seed: Addr,
        /// The nodes that leave.
        nodes: Vec<NodeId>,
    },
    /// Map announced addresses to addresses that can be dialled from here.
    MapAddresses {
        /// A member.
        seed: Addr,
        /// The announced addresses.
        peers: Vec<Addr>,
    },
    /// Remove a node from the cluster.
    Forget {
        /// A member.
        seed: Addr,
        /// The node.
        node: NodeId,
    },
    /// Remove a node that was reset, and add it again.
    AddAgain {
        /// A member.
        seed: Addr,
        /// The node.
        node: NodeId,
        /// Its address.
        addr: Addr,
    },
    /// Let a node that was reset meet the others, and assign the slots that it owned.
    MeetAndAssign {
        /// A member.
        seed: Addr,
        /// All nodes that answer.
        nodes: Vec<Addr>,
        /// The slots.
        slots: SlotSet,
    },
    /// Let a replica follow another master.
    Replicate {
        /// The replica.
        replica: Addr,
        /// The master.
        master: NodeId,
    },
    /// Fail over from a master that does not answer to its best replica.
    ForceFailover {
        /// A member.
        seed: Addr,
        /// The master.
        master: NodeId,
    },
    /// End what a busy node executes.
    Kill {
        /// The node.
        node: Addr,
        /// The command that ends it.
        command: &'static str,
    },
    /// Spread the masters over hosts and zones again.
    Place {
        /// A member.
        seed: Addr,
        /// Whether replicas have to get other masters for that.
        move_replicas: bool,
    },
    /// Save the data set of a node to its disk.
    Save {
        /// The node.
        node: Addr,
    },
    /// Cancel an atomic slot migration task.
    CancelTask {
        /// The node that leads the task.
        leader: Addr,
        /// What it runs: the commands differ.
        product: Product,
        /// The id of the task.
        task: String,
    },
}

impl Judge<'_> {
    /// Sets the remedy of the finding that was added last.
    pub(super) fn remedy(&mut self, remedy: Option<Remedy>) {
        if let Some(finding) = self.findings.last_mut() {
            finding.remedy = remedy;
        }
    }

    /// Two looks saw different things, so time may be enough.
    pub(super) fn remedy_if_settling(&mut self) {
        if self.stability == Stability::Settling {
            self.remedy(self.wait());
        }
    }

    pub(super) fn wait(&self) -> Option<Remedy> {
        Some(Remedy::Wait { seed: self.seed()? })
    }

    pub(super) fn fix(&self) -> Option<Remedy> {
        Some(Remedy::Fix { seed: self.seed()? })
    }

    pub(super) fn place(&self, move_replicas: bool) -> Option<Remedy> {
        Some(Remedy::Place {
            seed: self.seed()?,
            move_replicas,
        })
    }

    fn seed(&self) -> Option<Addr> {
        Some(self.observation.lead()?.addr()?.clone())
    }

    fn dial(&self, id: NodeId) -> Option<Addr> {
        self.node(id)?.dial.clone()
    }

    /// The nodes meet again, if this one answers at another address than the others have for it.
    pub(super) fn rejoin_if_moved(&self, id: NodeId) -> Option<Remedy> {
        let dial = self.node(id)?.dial.as_ref()?;
        let others = || self.observation.reports().filter(|(node, _)| node.id != id);
        let mut known = others().filter_map(|(_, report)| report.view.entry(id)?.addr.as_ref());
        if !known.any(|addr| addr != dial) {
            return None;
        }
        let answering = self.observation.reports();
        Some(Remedy::Rejoin {
            nodes: answering
                .filter_map(|(node, _)| node.dial.clone())
                .collect(),
        })
    }

    /// What brings a node back that was reset, by the slots that the others still attribute to it.
    pub(super) fn join_again(&self, node: NodeId, slots: SlotSet) -> Option<Remedy> {
        let seed = self.seed()?;
        if slots.is_empty() {
            let addr = self.dial(node)?;
            return Some(Remedy::AddAgain { seed, node, addr });
        }
        let answering = self.observation.reports();
        Some(Remedy::MeetAndAssign {
            seed,
            nodes: answering
                .filter_map(|(node, _)| node.dial.clone())
                .collect(),
            slots,
        })
    }

    pub(super) fn evict_foreign(&self, nodes: &[NodeId]) -> Option<Remedy> {
        Some(Remedy::EvictForeign {
            seed: self.seed()?,
            nodes: nodes.to_vec(),
        })
    }

    pub(super) fn map_addresses(&self, nodes: &[NodeId]) -> Option<Remedy> {
        let peers: Vec<Addr> = nodes
            .iter()
            .filter_map(|id| self.node(*id)?.peer.clone())
            .collect();
        let seed = self.seed()?;
        (!peers.is_empty()).then_some(Remedy::MapAddresses { seed, peers })
    }

    /// `del-node` for a node that does not answer, that all others hold for failed, that owns no slot
    /// and that no replica follows. (A CLUSTER FORGET by hand has to reach all members within a minute:
    /// the slowest would tell the first of the node again. Redis: "CLUSTER FORGET".)
    pub(super) fn forget_if_useless(&self, id: NodeId) -> Option<Remedy> {
        let member = self.topology.members.get(&id)?;
        let is_useless = member.peer_status.silent
            && member.peer_status.is_lost()
            && member.slots.is_empty()
            && self.topology.replicas_of(id).next().is_none();
        let seed = self.seed()?;
        is_useless.then_some(Remedy::Forget { seed, node: id })
    }

    /// CLUSTER REPLICATE of the master at the end of a chain, if that master serves.
    pub(super) fn replicate(&self, replica: NodeId, master: Option<NodeId>) -> Option<Remedy> {
        let master = self.topology.members.get(&master?)?;
        let is_sound = master.role == Role::Master
            && !master.slots.is_empty()
            && !master.peer_status.silent
            && !master.peer_status.is_lost();
        let replica = self.dial(replica)?;
        let master = master.id;
        is_sound.then_some(Remedy::Replicate { replica, master })
    }

    /// `failover --of MASTER --force`. Not for a master that answers us or has a link to a replica, since it may still take
    /// writes; only if a replica has a safe copy and will get the votes. A takeover, which needs no votes, is never proposed: the majority
    /// may be where we can't see it, and elect another replica.
    pub(super) fn force_failover(&self, master: &Member) -> Option<Remedy> {
        if !master.peer_status.silent || !self.has_quorum() {
            return None;
        }
        let copies = ShardCopies::of(self.observation, self.topology, master.id);
        let link = |copy: &ShardCopy| copy.facts.as_ref().and_then(|facts| facts.link);
        if copies
            .copies
            .iter()
            .any(|copy| link(copy) == Some(MasterLink::Up))
        {
            return None;
        }
        let is_safe = |id: &NodeId| {
            let answers = copies.get(*id).is_some_and(|copy| copy.facts.is_some());
            answers && copies.danger(*id).is_none()
        };
        let replicas = self
            .topology
            .replicas_of(master.id)
            .map(|replica| replica.id);
        let replica = copies.best(replicas.filter(is_safe))?;
        let votes = Votes::of(self.observation, self.topology, replica, master.id);
        let seed = self.seed()?;
        votes.are_enough().then_some(Remedy::ForceFailover {
            seed,
            master: master.id,
        })
    }

    pub(super) fn kill(&self, id: NodeId, with: BusyWith) -> Option<Remedy> {
        Some(Remedy::Kill {
            node: self.dial(id)?,
            command: with.kill_command()?,
        })
    }

    /// BGSAVE, which also ends the refusal of writes if it succeeds. A failing append-only file is tried again by the
    /// server itself.
    pub(super) fn save(&self, id: NodeId) -> Option<Remedy> {
        let node = self.node(id)?;
        let has_failed = node.report()?.info.disk_failures.save;
        let dial = node.dial.clone()?;
        has_failed.then_some(Remedy::Save { node: dial })
    }

    pub(super) fn cancel_task(&self, leader: NodeId, task: &ObservedTask) -> Option<Remedy> {
        Some(Remedy::CancelTask {
            leader: self.dial(leader)?,
            product: task.product,
            task: task.id.clone(),
        })
    }
}
