//! What was asked for: names to members, members to what the planner reads, refusals to words, and the command that
//! resumes.

use std::collections::BTreeSet;

use anyhow::anyhow;

use super::Afterwards;
use crate::cluster::naming::NoSuchNode;
use crate::cluster::node::NodeId;
use crate::cluster::parse::{EntryPool, MasterLink};
use crate::cluster::slot::SlotSet;
use crate::connections::Target;
use crate::plan::join::Place;
use crate::plan::leave::{LeaveMember, Life, Refusal};
use crate::seed::parse_addr;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::{CommandLine, Stop};

/// What `del-node` was asked for.
#[derive(Debug, Clone)]
pub(crate) struct LeaveRequest {
    /// The nodes that leave, as they were named: ids, prefixes or addresses.
    pub(crate) names: Vec<String>,
    /// Their slots move to the other masters first.
    pub(crate) drain: bool,
    /// Replicas that may leave although their master is left without a copy in sync.
    pub(crate) unprotected: Vec<String>,
    /// What happens to the servers.
    pub(crate) afterwards: Afterwards,
    /// Wait for the end of the ban and check that the nodes stay away.
    pub(crate) verify_after_ban: bool,
}

/// The members that the names stand for. An address may also be that of a node that all members have forgotten but
/// that still knows them; these addresses are returned apart.
pub(crate) async fn named(
    session: &Session,
    cluster: &ClusterState,
    names: &[String],
) -> Result<(BTreeSet<NodeId>, Vec<Target>), Stop> {
    let mut ids = BTreeSet::new();
    let mut apart = Vec::new();
    for name in names {
        match cluster.diagnosis.observation.find(name) {
            Ok(id) => {
                ids.insert(id);
            }
            Err(error @ NoSuchNode::Unknown(_)) => match forgotten(session, cluster, name).await {
                Some(target) => apart.push(target),
                None => {
                    return Err(Stop::refused(anyhow!(
                        "{error}\nIf a del-node of it was interrupted, name it by its address; nothing was changed"
                    )));
                }
            },
            Err(error) => return Err(Stop::refused(error)),
        }
    }
    Ok((ids, apart))
}

/// The node at that address, if it knows members although they do not know it.
async fn forgotten(session: &Session, cluster: &ClusterState, name: &str) -> Option<Target> {
    if !name.contains(':') {
        return None;
    }
    let addr = parse_addr(name).ok()?;
    let known = &cluster.diagnosis.observation.nodes;
    let lead = cluster.reach.get(&cluster.diagnosis.observation.lead)?;
    let target = Target {
        addr,
        access: lead.access.clone(),
    };
    let look = async {
        session
            .connections
            .temporary(&target)
            .await?
            .cluster_nodes()
            .await
    };
    let text = look.await.ok()?;
    let view = EntryPool::default().view(&text).ok()?;
    let knows = view.entries().any(|entry| known.contains_key(&entry.id));
    knows.then_some(target)
}

/// All members, for the planner.
pub(crate) fn members(cluster: &ClusterState) -> Vec<LeaveMember> {
    let topology = &cluster.diagnosis.topology;
    let mut open = cluster.open_by_node();
    topology
        .members
        .values()
        .map(|member| {
            let node = cluster.diagnosis.observation.nodes.get(&member.id);
            let info = node.and_then(|node| Some(&node.report()?.info));
            let life = match info {
                None => Life::Silent,
                Some(info) if info.loading || member.peer_status.is_lost() => Life::Doubted,
                Some(_) => Life::Well,
            };
            let link = info.and_then(|info| info.master_link);
            let keys = info.map_or(0, |info| info.keys.iter().map(|(_, keys)| keys).sum());
            let host = node.and_then(|node| node.host()).unwrap_or_default();
            LeaveMember {
                id: member.id,
                role: member.role,
                master: member.master,
                slots: member.slots.clone(),
                open: open.remove(&member.id).unwrap_or_default(),
                life,
                in_sync: link == Some(MasterLink::Up) && life == Life::Well,
                keys,
                place: Place {
                    host: host.to_string(),
                    zone: info
                        .and_then(|info| Some(info.availability_zone.as_deref()?.to_string())),
                },
            }
        })
        .collect()
}

/// Why a member that stays can't forget a node yet: it still sees slots on it that have another owner.
pub(crate) fn stale_owners(cluster: &ClusterState, leaving: &BTreeSet<NodeId>) -> Option<String> {
    let members = &cluster.diagnosis.topology.members;
    let mut reports = cluster.diagnosis.observation.reports();
    reports.find_map(|(node, report)| {
        if leaving.contains(&node.id) {
            return None;
        }
        let stale = leaving.iter().find_map(|id| {
            let owns_none = members
                .get(id)
                .is_some_and(|member| member.slots.is_empty());
            let entry = report.view.entry(*id)?;
            (owns_none && !entry.slots.is_empty()).then_some(entry)
        })?;
        let slots: SlotSet = stale.slots.iter().copied().collect();
        Some(format!(
            "{node} still sees slots {slots} on {}: their new owner has to reach it first \
             (redis-trib check {} --wait 60s)",
            cluster.name(stale.id),
            cluster.resume_seed()
        ))
    })
}

/// All refusals in words, each with its remedy.
pub(crate) fn refusals(cluster: &ClusterState, refusals: &[Refusal], ids: &[String]) -> String {
    let lines = refusals.iter().map(|one| refusal(cluster, one, ids));
    lines.collect::<Vec<_>>().join("\n")
}

fn refusal(cluster: &ClusterState, refusal: &Refusal, ids: &[String]) -> String {
    let name = |id: NodeId| cluster.name(id);
    let (seed, ids) = (cluster.resume_seed(), ids.join(" "));
    match refusal {
        Refusal::LastOwner => {
            "no master that owns slots would be left: the last one can't leave".to_string()
        }
        Refusal::OwnsSlots { master, slots } => {
            let (slots, them) = match slots.count() {
                1 => (format!("slot {slots}"), "it"),
                many => (format!("{many} slots ({slots})"), "them"),
            };
            format!(
                "{} still owns {slots}: --drain moves {them} to the other masters first\n  \
                 redis-trib del-node {seed} {ids} --drain",
                name(*master)
            )
        }
        Refusal::CantGive {
            master,
            slots,
            successor,
        } => {
            let way_out = match successor {
                Some(replica) => format!(
                    "let its replica take over first\n  redis-trib failover {seed} {replica} --force"
                ),
                None => {
                    "no replica of it could take over; start it again, or repair that first with redis-trib fix"
                        .to_string()
                }
            };
            format!(
                "{} owns slots {slots} and can't be reached to move them: {way_out}",
                name(*master)
            )
        }
        Refusal::Open { node, slots } => format!(
            "slots {slots} are open on {}: finish their moves first\n  \
             redis-trib del-node {seed} {ids} --drain\n  redis-trib fix {seed}",
            name(*node)
        ),
        Refusal::LastCopy { replica, master } => format!(
            "{} is the last copy in sync of {}: add another replica first, or allow it with \
             --leave-unprotected {}",
            name(*replica),
            name(*master),
            replica.short()
        ),
        Refusal::MasterNotWell {
            replica,
            master,
            can_be_allowed,
        } => {
            let master = match master {
                Some(master) => format!("its master {} does not serve", name(*master)),
                None => "its master is not known".to_string(),
            };
            let way_out = match can_be_allowed {
                true => format!("allow it with --leave-unprotected {}", replica.short()),
                false => format!(
                    "let it take over first, or bring its master back\n  redis-trib failover {seed} \
                     {replica} --force"
                ),
            };
            format!(
                "{} may hold the only copy of its data, since {master}: {way_out}",
                name(*replica)
            )
        }
        Refusal::CantBeGiven { replica, from } => format!(
            "{} is a replica of {} and does not answer, so it can't be given another master: name it too, or \
             start it again",
            name(*replica),
            name(*from)
        ),
        Refusal::NobodyToFollow { replica, from } => format!(
            "{} is a replica of {}, and no other master that owns slots serves: name it too",
            name(*replica),
            name(*from)
        ),
        Refusal::HoldsKeys { master, keys } => format!(
            "{} owns no slots but holds {keys} keys, which no client could read afterwards: look at them, and delete \
             them first (FLUSHALL on that node)",
            name(*master)
        ),
    }
}

/// The command that resumes, by a node that stays.
pub(super) fn resume(
    state: &ClusterState,
    leaving: &BTreeSet<NodeId>,
    request: &LeaveRequest,
) -> CommandLine {
    let observation = &state.diagnosis.observation;
    let mut seed = state.seed();
    if leaving.contains(&observation.lead) {
        let mut reports = observation.reports();
        let stays = reports.find(|(node, _)| !leaving.contains(&node.id));
        if let Some(addr) = stays.and_then(|(node, _)| node.addr()) {
            seed = addr.to_string();
        }
    }
    let mut command = ["redis-trib", "del-node"].map(str::to_string).to_vec();
    command.push(seed);
    command.extend(leaving.iter().map(ToString::to_string));
    if request.drain {
        command.push("--drain".to_string());
    }
    for name in &request.unprotected {
        command.extend(["--leave-unprotected".to_string(), name.clone()]);
    }
    if request.afterwards == Afterwards::ShutDown {
        command.push("--shutdown".to_string());
    }
    if request.verify_after_ban {
        command.push("--verify-after-ban".to_string());
    }
    command.extend(state.resume_options());
    command
}
