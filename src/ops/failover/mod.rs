//! How a replica takes over from its master: the plan, the command, and the wait until all nodes agree.

mod execute;
mod refusal;

use std::time::Duration;

use anyhow::anyhow;

use crate::cluster::copies::ShardCopies;
use crate::cluster::health::Code;
use crate::cluster::node::{NodeId, Takeover};
use crate::cluster::observation::Seen;
use crate::cluster::parse::{MasterLink, Version};
use crate::connections::Target;
use crate::converge::settle::{PassingState, passed};
use crate::ops::raft::{self, Obstacle};
use crate::plan::failover::{self, Already, Decision, FailoverPlan, Refusal, Request};
use crate::report::{CopyView, FailoverView};
use crate::session::Session;
use crate::state::{ClusterState, name};
use crate::stop::Stop;

pub(crate) use execute::{carry_out, carry_out_leaving, execute};
pub(crate) use refusal::explain;

/// Observes the cluster and plans a failover. Waits for refusals that normally pass; never for a dead master.
pub(crate) async fn observe_and_plan(
    session: &Session,
    request: impl Fn(&ClusterState) -> Result<Request, Stop>,
) -> Result<(ClusterState, anyhow::Result<Decision>), Stop> {
    let look = async || ClusterState::settled(session).await;
    let cluster = passed(session, look, |cluster| {
        let refusal = request(cluster).ok().and_then(|request| {
            let decision = failover::plan(&cluster.diagnosis, &request);
            decision.err()
        });
        refusal
            .and_then(|refusal| passing(cluster, &refusal))
            .into_iter()
            .collect()
    });
    let cluster = cluster.await?;
    let decision = plan(&cluster, &request(&cluster)?);
    Ok((cluster, decision))
}

/// The state behind a refusal, if it normally passes: gossip that has not arrived, a link that was lost a moment ago, a
/// replica that loads its data set.
fn passing(cluster: &ClusterState, refusal: &Refusal) -> Option<PassingState> {
    let node = |id: &NodeId| cluster.diagnosis.observation.nodes.get(id);
    let (word, replica, age) = match refusal {
        Refusal::Unlinked {
            replica,
            is_syncing: true,
            ..
        } => (Code::ReplicaSyncing, replica, None),
        Refusal::Unlinked {
            replica,
            is_syncing: false,
            ..
        } => {
            let link = node(replica).and_then(|node| node.report()?.info.master_link);
            let age = match link {
                Some(MasterLink::Down(since)) => since.map(Duration::from_secs),
                _ => None,
            };
            (Code::ReplicaLinkDown, replica, age)
        }
        Refusal::ChainedReplica { replica, .. } => (Code::ReplicaOfReplica, replica, None),
        Refusal::UnknownMaster(id) | Refusal::NoMaster(id) => (Code::ReplicaOrphan, id, None),
        Refusal::Silent(id) if matches!(node(id)?.seen, Seen::Loading) => {
            (Code::SlotlessLoading, id, None)
        }
        _ => return None,
    };
    Some(PassingState {
        word: word.word(),
        nodes: vec![*replica],
        message: explain(cluster, refusal),
        age,
    })
}

/// Plans a failover in the cluster as it was observed. The error says what is wrong and what to do next.
pub(crate) fn plan(cluster: &ClusterState, request: &Request) -> anyhow::Result<Decision> {
    if request.how == Takeover::Takeover {
        raft::refuse(cluster, Obstacle::Takeover).map_err(|stop| stop.error)?;
    }
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
        copies: copies(cluster, plan.master),
        warnings: warnings(cluster, plan),
    }
}

/// The copies of a shard that answer.
pub(crate) fn copies(cluster: &ClusterState, master: NodeId) -> Vec<CopyView> {
    let diagnosis = &cluster.diagnosis;
    let copies = ShardCopies::of(&diagnosis.observation, &diagnosis.topology, master);
    let view = |id: NodeId| {
        let facts = copies.get(id)?.facts.as_ref()?;
        let (link, link_age) = match facts.link {
            None => (None, None),
            Some(MasterLink::Up) => (Some("up"), facts.last_io),
            Some(MasterLink::Syncing) => (Some("syncing"), None),
            Some(MasterLink::Down(since)) => (Some("down"), since),
        };
        Some(CopyView {
            node: name(diagnosis, id),
            key_count: facts.keys,
            replication_offset: facts.offset,
            link,
            link_age: link_age.map(|seconds| seconds.saturating_mul(1000)),
            danger: copies.danger(id).map(|danger| danger.why.word()),
        })
    };
    let ids = copies.copies.iter().map(|copy| copy.id);
    ids.filter_map(view).collect()
}

/// What the user should know before a failover.
pub(crate) fn warnings(cluster: &ClusterState, plan: &FailoverPlan) -> Vec<String> {
    let mut warnings: Vec<String> = open_slots_note(cluster, plan).into_iter().collect();
    warnings.extend(too_old(cluster, plan.master, plan.replica));
    warnings
}

/// The nodes of a shard that are too old to follow one of its replicas, in words.
pub(crate) fn too_old(cluster: &ClusterState, master: NodeId, replica: NodeId) -> Vec<String> {
    let new = cluster.diagnosis.observation.version_of(replica);
    new.map_or_else(Vec::new, |new| {
        too_old_for(cluster, master, &cluster.name(replica), new)
    })
}

/// The same, with a new master that may be no member yet.
pub(crate) fn too_old_for(
    cluster: &ClusterState,
    master: NodeId,
    name: &str,
    new: Version,
) -> Vec<String> {
    let diagnosis = &cluster.diagnosis;
    let copies = ShardCopies::of(&diagnosis.observation, &diagnosis.topology, master);
    let older = copies.copies.iter().filter_map(|copy| {
        let old = copy.facts.as_ref()?.version?;
        (!old.can_follow(new)).then(|| left_behind(cluster, (copy.id, old), (name, new)))
    });
    older.collect()
}

/// The warning for a node that can't follow its new master, which is newer.
pub(crate) fn left_behind(
    cluster: &ClusterState,
    (id, old): (NodeId, Version),
    (master, new): (&str, Version),
) -> String {
    format!(
        "{} runs {old} and can't load the data set of {new}: it will be unable to follow {master} as soon as it needs \
         a full resync",
        cluster.name(id)
    )
}

/// What the user should know of slots that are open while their master fails over.
fn open_slots_note(cluster: &ClusterState, plan: &FailoverPlan) -> Option<String> {
    let open = failover::open_slots_of(&cluster.diagnosis.topology, plan.master);
    (!open.is_empty()).then(|| {
        format!(
            "slots {open} are open on {} or from it: clients may not find keys that have moved until the moves go on; run \
             this right after the failover: redis-trib fix {}",
            cluster.name(plan.master),
            cluster.resume_seed()
        )
    })
}
