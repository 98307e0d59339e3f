//! What helps against a finding, as data: `ui::remedy` renders it as a command line.

use super::Judge;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::ObservedTask;
use crate::cluster::parse::{MasterLink, Product};
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
    /// Let a replica follow another master.
    Replicate {
        /// The replica.
        replica: Addr,
        /// The master.
        master: NodeId,
    },
    /// Fail over to a replica without its master.
    ForceFailover {
        /// The replica.
        replica: Addr,
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

    /// CLUSTER FAILOVER FORCE on the replica that lost its failed master last. Not for a master that
    /// answers us, since it may still take writes; not on a replica whose copy is incomplete.
    /// TAKEOVER, which needs no votes, is never proposed: the majority may be where we can't see it,
    /// and elect another replica.
    pub(super) fn force_failover(&self, master: &Member) -> Option<Remedy> {
        if !master.peer_status.silent || !self.has_quorum() {
            return None;
        }
        let (_, dial) = self
            .topology
            .replicas_of(master.id)
            .filter_map(|replica| {
                let node = self.node(replica.id)?;
                let info = &node.report()?.info;
                match info.master_link? {
                    MasterLink::Down(Some(since)) if !info.loading => {
                        Some((since, node.dial.as_ref()?))
                    }
                    _ => None,
                }
            })
            .min_by_key(|(since, _)| *since)?;
        Some(Remedy::ForceFailover {
            replica: dial.clone(),
        })
    }

    pub(super) fn cancel_task(&self, leader: NodeId, task: &ObservedTask) -> Option<Remedy> {
        Some(Remedy::CancelTask {
            leader: self.dial(leader)?,
            product: task.product,
            task: task.id.clone(),
        })
    }
}
