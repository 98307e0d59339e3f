//! Refusals of a failover in words: the cause, the copies where they matter, and the way out.

use crate::cluster::copies::{Danger, Unsafe};
use crate::cluster::election::Votes;
use crate::cluster::node::NodeId;
use crate::cluster::numbers::bytes;
use crate::cluster::topology::Bus;
use crate::plan::failover::Refusal;
use crate::state::ClusterState;

use super::copies;

/// What is wrong, and what to do next.
pub(crate) fn explain(cluster: &ClusterState, refusal: &Refusal) -> String {
    let name = |id: NodeId| cluster.name(id);
    let absent = |id: NodeId| cluster.diagnosis.observation.why_absent(id);
    let seed = || cluster.resume_seed();
    match refusal {
        Refusal::NotMember(id) => format!("{} is not a member of the cluster", name(*id)),
        Refusal::MasterNamed(id) => format!(
            "{} is a master: use --of {short} to hand over to its best replica, or --to REPLICA to name the \
             replica that takes over",
            name(*id),
            short = id.short()
        ),
        Refusal::Silent(id) => format!("{} {}", name(*id), absent(*id)),
        Refusal::NoMaster(id) => format!("{} is a replica without a master", name(*id)),
        Refusal::MasterOfReplicaDown { replica, master } => format!(
            "{} is a replica, and its master {} {}: --of {short} --force hands over the master's \
             slots, and loses the writes that it did not replicate",
            name(*replica),
            name(*master),
            absent(*master),
            short = master.short()
        ),
        Refusal::NoReplica(master) => format!(
            "{} has no replica that could take over (redis-trib add-node NEW {} --replica --master-id {})",
            name(*master),
            seed(),
            master.short()
        ),
        Refusal::SilentReplicas { master, replicas } => {
            format!(
                "none of the {replicas} replicas of {} answers",
                name(*master)
            )
        }
        Refusal::Unlinked {
            replica,
            master,
            is_syncing: true,
        } => format!(
            "{} has not finished its full resync from {}: wait until it has (redis-trib check {} shows that)",
            name(*replica),
            name(*master),
            seed()
        ),
        Refusal::Unlinked {
            replica,
            master,
            is_syncing: false,
        } => format!(
            "{} has no link to its master {}, so it may lack writes: check its log, its masterauth and \
             firewalls; --force takes over all the same, and loses these writes",
            name(*replica),
            name(*master)
        ),
        Refusal::UnknownMaster(id) => format!("the master {} is not a member", name(*id)),
        Refusal::ChainedReplica { replica, master } => format!(
            "the master of {} is {}, which is a replica itself",
            name(*replica),
            name(*master)
        ),
        Refusal::MasterDown(id) => format!(
            "the master {} {}, so it can't hand over: --force takes over without it, and loses \
             the writes that it did not replicate",
            name(*id),
            absent(*id)
        ),
        Refusal::OpenSlots { master, slots } => format!(
            "slots {} are open on {} or from it, and the new master would not know that: finish the moves first \
             (redis-trib fix {})",
            slots.summary(),
            name(*master),
            seed()
        ),
        Refusal::UnsafeCopy {
            replica,
            master,
            danger,
            votes,
        } => {
            let copy = unsafe_copy(cluster, *replica, *master, danger);
            match votes {
                Some(votes) => format!("{copy}. Besides, {}", no_votes(cluster, *replica, votes)),
                None => copy,
            }
        }
        Refusal::NoSlots { replica, master } => no_slots(cluster, *replica, *master),
        Refusal::NoVotes { replica, votes } => no_votes(cluster, *replica, votes),
        Refusal::NoMajority {
            answering,
            voters,
            word,
        } => match cluster.diagnosis.topology.bus {
            Bus::Gossip => format!(
                "{answering} of {voters} {word} answer, and a majority must vote: --takeover needs no votes"
            ),
            Bus::Raft => format!(
                "{answering} of {voters} {word} answer, and a majority must agree (cluster-protocol raft)"
            ),
        },
    }
}

fn unsafe_copy(cluster: &ClusterState, replica: NodeId, master: NodeId, danger: &Danger) -> String {
    let name = |id: NodeId| cluster.name(id);
    let better = || danger.better.map_or_else(String::new, name);
    let why = match danger.why {
        Unsafe::NotReported => {
            "it does not report the state of its replication (INFO replication)".to_string()
        }
        Unsafe::Loading => "it is loading its data set from disk".to_string(),
        Unsafe::Syncing => {
            "its full resync is under way, and its copy is not complete before that ends"
                .to_string()
        }
        Unsafe::NeverSynced => {
            "it has no keys, and has completed no full resync since its server started".to_string()
        }
        Unsafe::CutOff => {
            "its last full resync broke off, so its copy is incomplete or from before".to_string()
        }
        Unsafe::OtherShard => format!(
            "its data is that of another shard: it became a replica of {} and got no copy from it",
            name(master)
        ),
        Unsafe::Behind(lacks) => format!("it is {} behind {}", bytes(lacks), better()),
        Unsafe::Older => format!(
            "its data is older than that of {}, or of unknown age",
            better()
        ),
        Unsafe::FewerKeys => format!(
            "it has fewer keys than {}; both were loaded from disk, and no offset tells which one is newer",
            better()
        ),
    };
    let way_out = match (danger.why, danger.better) {
        (Unsafe::Loading, None) => format!(
            "wait until it has (redis-trib check {} --wait 60s)",
            cluster.resume_seed()
        ),
        (_, Some(better)) if better == master => format!(
            "{} answers and has the better copy: keep it as the master, or hand over without --force and \
             --takeover",
            name(master)
        ),
        (_, Some(better)) => {
            format!(
                "{} has the better copy (--to {})",
                name(better),
                better.short()
            )
        }
        (_, None) => {
            format!(
                "no safe copy answers: start {} again if its data is still there",
                name(master)
            )
        }
    };
    format!(
        "{} must not take over from {}: {why}; {way_out}; or give up what it lacks: --accept-data-loss-of {} (copies \
         that answer: {})",
        name(replica),
        name(master),
        replica.short(),
        listed(cluster, master)
    )
}

/// The copies that answer, in one line.
fn listed(cluster: &ClusterState, master: NodeId) -> String {
    let copies = copies(cluster, master);
    let copies: Vec<String> = copies.iter().map(ToString::to_string).collect();
    copies.join("; ")
}

fn no_slots(cluster: &ClusterState, replica: NodeId, master: NodeId) -> String {
    let (seed, short) = (cluster.resume_seed(), master.short());
    let members = &cluster.diagnosis.topology.members;
    let is_silent = members
        .get(&master)
        .is_none_or(|master| master.peer_status.silent);
    let way_out = match is_silent {
        true => format!(
            "no data depends on it: remove it (redis-trib del-node {seed} {master}), or start it again"
        ),
        false => format!(
            "move slots to it first (redis-trib reshard {seed} --to {short}), or remove its replica and add it as a \
             master (redis-trib del-node, redis-trib add-node)"
        ),
    };
    format!(
        "{} owns no slots, so {} has nothing to take over, and Redis elects no replica of such a master: {way_out}",
        cluster.name(master),
        cluster.name(replica)
    )
}

fn no_votes(cluster: &ClusterState, replica: NodeId, votes: &Votes) -> String {
    let name = cluster.name(replica);
    if !votes.have_majority() {
        return format!(
            "{} of {} {} answer, and a majority must vote: --takeover needs no votes",
            votes.answering, votes.voters, votes.word
        );
    }
    format!(
        "{} of {} masters will not vote for {name}: it knows its master's slots with config epoch {}, and they with \
         epoch {}, which it missed while it was down; --takeover needs no votes",
        votes.refusing.len(),
        votes.voters,
        votes.epoch,
        votes.newest_epoch
    )
}
