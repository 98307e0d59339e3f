//! What is left to do for a replacement, by what the cluster shows.

use anyhow::{anyhow, bail};

use crate::cluster::node::{NodeId, Role};
use crate::cluster::topology::Member;
use crate::ops::join::inspect::NewNode;
use crate::ops::join::{JoinTarget, Part};

/// The steps that are left, in order; the old node leaves in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReplaceRoute {
    /// How the new node joins; `None` if it has.
    pub(super) joins: Option<Part>,
    /// The master of which it becomes a replica.
    pub(super) master: Option<NodeId>,
    /// Whether it takes over from the old node.
    pub(super) takes_over: bool,
}

impl ReplaceRoute {
    /// Only the old node is left to be removed.
    const LEAVE: Self = Self {
        joins: None,
        master: None,
        takes_over: false,
    };

    /// Each step shows in the cluster once it is done: the master of the new node, the owner of the slots, and whether
    /// the old node is known.
    pub(super) fn of(home: &JoinTarget, old: NodeId, new: &NewNode) -> anyhow::Result<Self> {
        let cluster = &home.cluster;
        let name = || cluster.name(old);
        let Some(member) = home.member(old) else {
            bail!("{} is not a member", name());
        };
        if new.id() == old {
            bail!("{} can't replace itself", name());
        }
        let joined = home.member(new.id());
        if is_leaving(member) && joined.is_some_and(|joined| !joined.slots.is_empty()) {
            return Ok(Self::LEAVE);
        }
        let part = match member.role {
            // It has taken over already.
            Role::Replica if member.master == Some(new.id()) => return Ok(Self::LEAVE),
            Role::Replica => match member.master.and_then(|id| home.member(id)) {
                Some(master) if !is_dead(master) => Part::ReplicasOf(master.id),
                _ => Part::Replicas,
            },
            Role::Master => of_master(home, member)?,
        };
        let fits = |joined: &Member| match part {
            Part::ReplicasOf(master) => joined.master == Some(master),
            Part::Replicas => joined.role == Role::Replica,
            Part::Masters => is_empty_master(joined),
        };
        let joins = match joined {
            None => Some(part),
            Some(joined) if fits(joined) => None,
            // The earlier run ended between CLUSTER MEET and CLUSTER REPLICATE. `judge` looks at it.
            Some(joined) if is_empty_master(joined) => Some(part),
            Some(_) => bail!(
                "{} is a member of this cluster already, elsewhere: failover and del-node replace a node by another \
                 member",
                new.name()
            ),
        };
        let master = match part {
            Part::ReplicasOf(master) => Some(master),
            Part::Replicas | Part::Masters => joined.and_then(|joined| joined.master),
        };
        Ok(Self {
            joins,
            master,
            takes_over: part == Part::ReplicasOf(old),
        })
    }
}

/// The part of the new node, if the old one is a master.
fn of_master(home: &JoinTarget, member: &Member) -> anyhow::Result<Part> {
    let cluster = &home.cluster;
    let old = member.id;
    let mut replicas = cluster.diagnosis.topology.replicas_of(old);
    match (member.slots.is_empty(), is_dead(member)) {
        (false, true) => Err(anyhow!(
            "{} owns slots and {}: a replica must take over first (redis-trib failover {} --of {} --force)",
            cluster.name(old),
            cluster.diagnosis.observation.why_absent(old),
            cluster.resume_seed(),
            old.short()
        )),
        (false, false) => Ok(Part::ReplicasOf(old)),
        // One of its replicas was elected, and now has one replica fewer.
        (true, true) => Ok(Part::Replicas),
        (true, false) if replicas.next().is_some() => Err(anyhow!(
            "{} owns no slots but has replicas: move slots to it first, or remove it with its replicas \
             (redis-trib del-node)",
            cluster.name(old)
        )),
        (true, false) => Ok(Part::Masters),
    }
}

fn is_dead(member: &Member) -> bool {
    member.peer_status.silent
}

fn is_empty_master(member: &Member) -> bool {
    member.role == Role::Master && member.slots.is_empty()
}

/// Some members have forgotten it and others have not: its slots have a new owner, and an earlier run was removing it.
fn is_leaving(member: &Member) -> bool {
    is_dead(member)
        && member.slots.is_empty()
        && member.peer_status.known < member.peer_status.asked
}
