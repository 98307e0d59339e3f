//! How a replica takes over from its master: the plan, the command, and the wait until all nodes agree.

mod execute;

use anyhow::anyhow;

use crate::cluster::node::NodeId;
use crate::connections::Target;
use crate::plan::failover::{self, Already, Decision, FailoverPlan, Refusal, Request};
use crate::report::FailoverView;
use crate::state::{ClusterState, name};

pub(crate) use execute::{carry_out, execute};

/// Plans a failover in the cluster as it was observed. The error says what is wrong and what to do next.
pub(crate) fn plan(cluster: &ClusterState, request: &Request) -> anyhow::Result<Decision> {
    let decision = failover::plan(&cluster.diagnosis, request);
    decision.map_err(|refusal| anyhow!("{}", explain(cluster, &refusal)))
}

/// Why nothing has to be done.
pub(crate) fn already(cluster: &ClusterState, already: Already) -> String {
    match already {
        Already::Master(id) => format!(
            "{} is already the master: nothing was changed.",
            cluster.name(id)
        ),
        Already::ReplicaOf { replica, master } => format!(
            "{} is already a replica of {}: nothing was changed.",
            cluster.name(replica),
            cluster.name(master)
        ),
    }
}

/// The nodes on which no other operator may be at work: all masters, and the replica that takes over.
pub(crate) fn lock(cluster: &ClusterState, replica: Option<NodeId>) -> Vec<Target> {
    let diagnosis = &cluster.diagnosis;
    let masters = diagnosis.topology.masters().map(|master| master.id);
    let answers = |id: &NodeId| {
        let node = diagnosis.observation.nodes.get(id);
        node.is_some_and(|node| node.report().is_some())
    };
    masters
        .chain(replica)
        .filter(answers)
        .filter_map(|id| cluster.reach.get(&id).cloned())
        .collect()
}

/// The plan, as it is shown.
pub(crate) fn view(cluster: &ClusterState, plan: &FailoverPlan) -> FailoverView {
    let diagnosis = &cluster.diagnosis;
    let offset = |id: NodeId| {
        let node = diagnosis.observation.nodes.get(&id)?;
        node.report()?.info.replication_offset
    };
    let behind = offset(plan.master)
        .zip(offset(plan.replica))
        .map(|(master, replica)| master.saturating_sub(replica));
    let member = diagnosis.topology.members.get(&plan.master);
    FailoverView {
        replica: name(diagnosis, plan.replica),
        master: name(diagnosis, plan.master),
        slots: member.map(|m| m.slots.clone()).unwrap_or_default(),
        how: plan.how,
        behind,
        chosen_of: plan.chosen_of,
    }
}

fn explain(cluster: &ClusterState, refusal: &Refusal) -> String {
    let name = |id: NodeId| cluster.name(id);
    let seed = || cluster.resume_seed();
    match *refusal {
        Refusal::NotMember(id) => format!("{} is not a member of the cluster", name(id)),
        Refusal::MasterNamed(id) => format!(
            "{} is a master: use --of {short} to hand over to its best replica, or --to REPLICA to name the \
             replica that takes over",
            name(id),
            short = id.short()
        ),
        Refusal::Silent(id) => format!("{} does not answer", name(id)),
        Refusal::NoMaster(id) => format!("{} is a replica without a master", name(id)),
        Refusal::MasterOfReplicaDown { replica, master } => format!(
            "{} is a replica, and its master {} does not answer: --of {short} --force hands over the master's \
             slots, and loses the writes that it did not replicate",
            name(replica),
            name(master),
            short = master.short()
        ),
        Refusal::NoReplica(master) => format!(
            "{} has no replica that could take over (redis-trib add-node NEW {} --replica --master-id {})",
            name(master),
            seed(),
            master.short()
        ),
        Refusal::SilentReplicas { master, replicas } => {
            format!(
                "none of the {replicas} replicas of {} answers",
                name(master)
            )
        }
        Refusal::Unlinked {
            replica,
            master,
            is_syncing: true,
        } => format!(
            "{} has not finished its first full resync from {}: wait until it has (redis-trib check {} shows \
             that)",
            name(replica),
            name(master),
            seed()
        ),
        Refusal::Unlinked {
            replica,
            master,
            is_syncing: false,
        } => format!(
            "{} has no link to its master {}, so it may lack writes: check its log, its masterauth and \
             firewalls; --force takes over all the same, and loses these writes",
            name(replica),
            name(master)
        ),
        Refusal::UnknownMaster(id) => format!("the master {} is not a member", name(id)),
        Refusal::ChainedReplica { replica, master } => format!(
            "the master of {} is {}, which is a replica itself",
            name(replica),
            name(master)
        ),
        Refusal::MasterDown(id) => format!(
            "the master {} does not answer, so it can't hand over: --force takes over without it, and loses \
             the writes that it did not replicate",
            name(id)
        ),
        Refusal::OpenSlots { master, ref slots } => format!(
            "slots {slots} are open on {} or from it, and the new master would not know that: finish the moves \
             first (redis-trib reshard {} --finish-open, or redis-trib check)",
            name(master),
            seed()
        ),
        Refusal::NoMajority { answering, masters } => format!(
            "{answering} of {masters} masters answer, and a majority must vote: --takeover needs no votes"
        ),
    }
}
