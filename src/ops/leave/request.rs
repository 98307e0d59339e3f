//! What was asked for: names to members, members to what the planner reads, refusals to words, and the command that
//! resumes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;

use super::Afterwards;
use crate::cluster::naming::NoSuchNode;
use crate::cluster::node::NodeId;
use crate::cluster::numbers::counted;
use crate::cluster::parse::{EntryPool, Info, MasterLink, Version};
use crate::cluster::slot::SlotSet;
use crate::connections::Target;
use crate::plan::join::Place;
use crate::plan::leave::{LeaveMember, Life, Refusal};
use crate::resolve::find_member;
use crate::seed::parse_addr;
use crate::session::Session;
use crate::shell::shell_word;
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
    pub(crate) unprotected: Unprotected,
    /// What happens to the servers.
    pub(crate) afterwards: Afterwards,
    /// Wait for the end of the ban and check that the nodes stay away.
    pub(crate) verify_after_ban: bool,
}

/// Replicas that may leave although their master is left without a copy in sync.
#[derive(Debug, Clone)]
pub(crate) enum Unprotected {
    /// These, as they were named.
    Named(Vec<String>),
    /// All nodes that leave.
    All,
}

/// The nodes that the names stand for.
#[derive(Debug, Default)]
pub(crate) struct NamedNodes {
    /// Members.
    pub(crate) ids: BTreeSet<NodeId>,
    /// Nodes that all members have forgotten but that still know them, named by address.
    pub(crate) apart: Vec<Target>,
    /// Nodes that are in no cluster any more, named by address.
    pub(crate) gone: Vec<GoneNode>,
}

/// A node that has left: it is empty and knows no other node.
#[derive(Debug, Clone)]
pub(crate) struct GoneNode {
    /// The id that it has now.
    pub(crate) id: NodeId,
    /// How it is reached.
    pub(crate) target: Target,
}

/// Finds the nodes that the names stand for. An address may also be that of a node that an interrupted `del-node` has
/// left on its own.
pub(crate) async fn named(
    session: &Session,
    cluster: &ClusterState,
    names: &[String],
) -> Result<NamedNodes, Stop> {
    let mut nodes = NamedNodes::default();
    for name in names {
        match find_member(&cluster.diagnosis.observation, name) {
            Ok(id) => {
                nodes.ids.insert(id);
            }
            Err(error @ NoSuchNode::Unknown(_)) => match forgotten(session, cluster, name).await {
                Some(Forgotten::Knows(target)) => nodes.apart.push(target),
                Some(Forgotten::Alone(gone)) => nodes.gone.push(gone),
                Some(Forgotten::HoldsKeys(target)) => {
                    return Err(Stop::refused(anyhow!(
                        "{} is in no cluster, but holds keys: it is not a node that has left; nothing was changed",
                        target.addr
                    )));
                }
                None => {
                    return Err(Stop::refused(anyhow!(
                        "{error}\nIf a del-node of it was interrupted, name it by its address; nothing was changed"
                    )));
                }
            },
            Err(error) => return Err(Stop::refused(error)),
        }
    }
    Ok(nodes)
}

/// A node that no member knows.
enum Forgotten {
    /// It knows members.
    Knows(Target),
    /// It knows no node, and is empty.
    Alone(GoneNode),
    /// It knows no node, and has data of its own.
    HoldsKeys(Target),
}

/// The node at that address, if it knows members although they do not know it, or no node at all.
async fn forgotten(session: &Session, cluster: &ClusterState, name: &str) -> Option<Forgotten> {
    if !name.contains(':') {
        return None;
    }
    let addr = parse_addr(name).ok()?;
    let known = &cluster.diagnosis.observation.nodes;
    let lead = cluster.reach.get(&cluster.diagnosis.observation.lead)?;
    let target = Target {
        addr,
        node: None,
        access: lead.access.clone(),
    };
    let client = session.connections.temporary(&target).await.ok()?;
    let text = client.cluster_nodes().await.ok()?;
    let view = EntryPool::default().view(&text).ok()?;
    if view.entries().any(|entry| known.contains_key(&entry.id)) {
        return Some(Forgotten::Knows(target));
    }
    if view.entries().len() > 1 || !view.myself().slots.is_empty() {
        return None;
    }
    let id = view.myself().id;
    // DBSIZE would count database 0 only.
    let info = Info::parse(&client.info().await.ok()?);
    Some(match info.total_keys() {
        0 => Forgotten::Alone(GoneNode { id, target }),
        _ => Forgotten::HoldsKeys(target),
    })
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
                version: info.and_then(|info| info.version),
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
            "{node} still sees slots {} on {}: their new owner has to reach it first \
             (redis-trib check {} --wait 60s)",
            slots.summary(),
            cluster.name(stale.id),
            cluster.resume_seed()
        ))
    })
}

/// The other options of this command, for a line that adds `--drain`.
fn also(cluster: &ClusterState) -> String {
    let options = cluster.own_options().filter(|word| word != "--drain");
    options
        .map(|word| format!(" {}", shell_word(&word)))
        .collect()
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
                many => (
                    format!("{} ({})", counted(many as u64, "slot"), slots.summary()),
                    "them",
                ),
            };
            format!(
                "{} still owns {slots}: --drain moves {them} to the other masters first\n  \
                 redis-trib del-node {seed} {ids} --drain{}",
                name(*master),
                also(cluster)
            )
        }
        Refusal::CantGive {
            master,
            slots,
            successor,
        } => {
            let way_out = match successor {
                Some(_) => format!(
                    "let its replica take over first\n  redis-trib failover {seed} --of {master} --force"
                ),
                None => {
                    "no replica of it could take over; start it again, or repair that first with redis-trib fix"
                        .to_string()
                }
            };
            format!(
                "{} owns slots {} and can't be reached to move them: {way_out}",
                name(*master),
                slots.summary()
            )
        }
        Refusal::Open { node, slots } => format!(
            "slots {} are open on {}: finish their moves first\n  \
             redis-trib fix {seed}\n  redis-trib del-node {seed} {ids} --drain{}",
            slots.summary(),
            name(*node),
            also(cluster)
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
            "{} is a replica of {} and {}, so it can't be given another master: name it too, or \
             start it again",
            name(*replica),
            name(*from),
            cluster.diagnosis.observation.why_absent(*replica)
        ),
        Refusal::NobodyToFollow { replica, from } => format!(
            "{} is a replica of {}, and no other master that owns slots serves: name it too",
            name(*replica),
            name(*from)
        ),
        Refusal::TooOldToFollow {
            replica,
            from,
            version,
            masters,
        } => format!(
            "{} is a replica of {} and runs {}. The masters that stay run {}, whose data it can't read: name it too, or \
             upgrade it first",
            name(*replica),
            name(*from),
            version.with_rdb_version(),
            Version::with_rdb_versions(masters.iter().copied())
        ),
        Refusal::HoldsKeys { master, keys } => format!(
            "{} owns no slots but holds {}, which no client could read afterwards: look at them, and delete \
             them first (FLUSHALL on that node)",
            name(*master),
            counted(*keys, "key")
        ),
    }
}

/// The nodes that are left to remove, as a command line names them. A node that all members have forgotten is named by
/// its address: its id means nothing to them.
#[derive(Debug)]
pub(super) struct LeftToRemove {
    pub(super) names: Vec<String>,
    /// Those that are still in the cluster's or their own list, by the id that they had.
    members: BTreeMap<NodeId, String>,
}

impl LeftToRemove {
    /// All of them.
    pub(super) fn all(leaving: &BTreeSet<NodeId>) -> Self {
        Self {
            names: leaving.iter().map(ToString::to_string).collect(),
            members: leaving.iter().map(|id| (*id, id.to_string())).collect(),
        }
    }

    /// What `now` shows of the nodes that were to leave in the state `before`.
    pub(super) fn of(
        now: &ClusterState,
        before: &ClusterState,
        leaving: &BTreeSet<NodeId>,
        afterwards: Afterwards,
    ) -> Self {
        let mut left = Self {
            names: Vec::new(),
            members: BTreeMap::new(),
        };
        let bystanders = &now.diagnosis.observation.bystanders;
        for id in leaving {
            let addr = before.reach.get(id).map(|target| &target.addr);
            match (now.diagnosis.topology.members.get(id), addr) {
                (Some(member), Some(addr)) if member.peer_status.known == 0 => {
                    left.members.insert(*id, addr.to_string());
                }
                (Some(_), _) => drop(left.members.insert(*id, id.to_string())),
                // It has left, and runs on.
                (None, Some(addr))
                    if afterwards == Afterwards::ShutDown
                        && bystanders.iter().any(|bystander| bystander.dial == *addr) =>
                {
                    left.names.push(addr.to_string());
                }
                (None, _) => {}
            }
        }
        left.names.extend(left.members.values().cloned());
        left
    }
}

/// The command that resumes, by a node that stays: it removes what is left.
pub(super) fn resume(
    state: &ClusterState,
    leaving: &BTreeSet<NodeId>,
    left: &LeftToRemove,
    request: &LeaveRequest,
) -> CommandLine {
    let observation = &state.diagnosis.observation;
    let mut seed = state.seed();
    let mut by_address = Vec::new();
    // The nodes of a named cluster may be among those that leave.
    if leaving.contains(&observation.lead) || seed.starts_with('@') && !leaving.is_empty() {
        let mut reports = observation.reports();
        let stays = reports.find(|(node, _)| !leaving.contains(&node.id));
        if let Some(addr) = stays.and_then(|(node, _)| node.addr()) {
            seed = addr.to_string();
            by_address = state.settings_options();
        }
    }
    if left.names.is_empty() {
        let mut command = ["redis-trib", "check", &seed, "--wait", "60s"]
            .map(str::to_string)
            .to_vec();
        command.extend(state.reach_options());
        return command;
    }
    let mut command = ["redis-trib", "del-node"].map(str::to_string).to_vec();
    command.push(seed);
    command.extend(left.names.iter().cloned());
    if request.drain {
        command.push("--drain".to_string());
    }
    // A replica that has left needs no permission any more, and is no longer found.
    let unprotected: Vec<&String> = match &request.unprotected {
        Unprotected::All => left.members.values().collect(),
        Unprotected::Named(names) => names
            .iter()
            .filter_map(|name| match observation.find(name) {
                Ok(id) if leaving.contains(&id) => left.members.get(&id),
                _ => Some(name),
            })
            .collect(),
    };
    for name in unprotected {
        command.extend(["--leave-unprotected".to_string(), name.clone()]);
    }
    if request.afterwards == Afterwards::ShutDown {
        command.push("--shutdown".to_string());
    }
    if request.verify_after_ban {
        command.push("--verify-after-ban".to_string());
    }
    command.extend(by_address);
    command.extend(state.resume_options());
    command
}
