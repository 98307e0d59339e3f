//! The nodes that are to join, and why they can't.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::inspect::{NewNode, PasswordPolicy, key_count, list_nodes, loopback_problem, refusal};
use super::plan::Part;
use super::target::JoinTarget;
use crate::client::{ClientError, Libraries, LoginOutcome};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::observation::ObservedNode;
use crate::cluster::parse::{Entry, EntryPool, EntryState, Product};
use crate::cluster::slot::SlotSet;
use crate::cluster::topology::Member;
use crate::connections::{Connections, Target};
use crate::report::Before;
use crate::session::Session;
use crate::stop::Stop;

/// How many former peers of a node are asked whether it is still a member of their cluster.
const PEERS_ASKED: usize = 32;

/// What may be deleted on a node so that it can join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Allowed {
    Nothing,
    /// The nodes that it knows and the slots that it owns, if it has no keys (CLUSTER RESET).
    Reset,
    /// Its keys and its id too (FLUSHALL, CLUSTER RESET HARD).
    HardAndFlush,
}

/// Whether a new master may have function libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewLibraries {
    /// Libraries that the cluster has too, with the same code.
    SameAllowed,
    /// None, as in redis-cli.
    Refused,
}

/// What a node means that was named and is a member already, in the requested role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberNamed {
    /// A mistake, as in redis-cli and where the node takes another's place.
    Refused,
    /// The command is repeated: nothing is left to do.
    LeftAlone,
    /// The same, but a master without slots is still to get its share.
    Filled,
}

/// What is asked of the nodes that join.
#[derive(Clone, Copy)]
pub(crate) struct JoinRules {
    pub(crate) part: Part,
    pub(crate) allowed: Allowed,
    pub(crate) libraries: NewLibraries,
    pub(crate) member_named: MemberNamed,
}

/// A node that joins.
pub(crate) struct JoinCandidate {
    pub(crate) node: NewNode,
    /// What is done to it before it joins.
    pub(crate) before: Before,
    /// Whether function libraries are copied to it.
    pub(super) lacks_libraries: bool,
}

/// The nodes that join, and messages about them.
pub(crate) struct JoinCandidates {
    pub(crate) nodes: Vec<JoinCandidate>,
    pub(crate) warnings: Vec<String>,
    /// Nodes that are members already and are left alone, in words.
    pub(crate) members: Vec<String>,
}

/// Checks all nodes before any is changed. If one of them can't join, all are refused, with the reasons for each.
pub(crate) async fn judge(
    session: &Session,
    target: &JoinTarget,
    nodes: Vec<NewNode>,
    rules: JoinRules,
) -> Result<JoinCandidates, Stop> {
    let role = rules.part.role();
    let named: BTreeSet<NodeId> = nodes.iter().map(NewNode::id).collect();
    let mut inventories = inventories(session, &nodes, role).await;
    let (members, _) = target.cluster.participants(session).await?;
    let ips: Vec<IpAddr> = members.values().map(|member| member.ip).collect();
    let mut problems: Vec<String> = loopback_problem(&nodes, &ips).into_iter().collect();
    let mut judged = JoinCandidates {
        nodes: Vec::new(),
        warnings: Vec::new(),
        members: Vec::new(),
    };
    let mut seen: BTreeMap<NodeId, String> = BTreeMap::new();
    for node in nodes {
        let name = node.name();
        if let Some(first) = seen.insert(node.id(), name.clone()) {
            problems.push(format!(
                "{first} and {name} are the same node: name it once; if they are two nodes, CLUSTER \
                 RESET HARD gives one a new id"
            ));
            continue;
        }
        if let Some(member) = target.member(node.id()) {
            match membership(target, &node, member, rules) {
                Membership::Unfinished => judged.nodes.push(JoinCandidate {
                    node,
                    before: Before::Nothing,
                    lacks_libraries: false,
                }),
                Membership::Whole
                    if session.seeds[node.seed_set].is_many()
                        || is_repeated(member, rules.part)
                            && rules.member_named != MemberNamed::Refused =>
                {
                    judged.members.push(left_alone(target, &name, member));
                }
                Membership::Whole => problems.push(format!(
                    "{name} is a member of this cluster already, {}: leave it out",
                    member_as(target, member)
                )),
                Membership::Copied => problems.push(format!(
                    "{name} has the id of {}, but is a different node: its nodes.conf was copied \
                     (CLUSTER RESET HARD gives it a new id)",
                    target.cluster.name(node.id())
                )),
            }
            continue;
        }
        let mut against = node.problems(target.password, role);
        if target.password == PasswordPolicy::Open && node.login == LoginOutcome::Accepted {
            against.push(
                "requires a password, but the cluster does not: the nodes of a cluster must have the \
                 same requirepass and masterauth"
                    .to_string(),
            );
        }
        against.extend(older(target, &node));
        judged.warnings.extend(other_product(target, &node));
        let before = preparation(&session.connections, target, &named, &node, rules.allowed).await;
        let before = before.unwrap_or_else(|problem| {
            against.push(problem);
            Before::Nothing
        });
        let inventory = inventories.remove(&node.id()).unwrap_or_default();
        let lacks_libraries = lacks_libraries(
            target.libraries.as_ref(),
            inventory.libraries.as_ref(),
            rules.libraries,
        );
        let lacks_libraries = lacks_libraries.unwrap_or_else(|problem| {
            against.push(problem);
            false
        });
        judged.warnings.extend(
            missing_users(target, inventory.users.as_ref())
                .map(|users| format!("{name} lacks ACL users that {users}")),
        );
        problems.extend(against.into_iter().map(|why| format!("{name} {why}")));
        judged.nodes.push(JoinCandidate {
            node,
            before,
            lacks_libraries: lacks_libraries && role == Role::Master,
        });
    }
    if role == Role::Master && !judged.nodes.is_empty() {
        judged.warnings.extend(target.functions_differ.clone());
    }
    if problems.is_empty() {
        Ok(judged)
    } else {
        Err(refusal(&problems))
    }
}

/// What a member is, in words that follow its name.
fn member_as(target: &JoinTarget, member: &Member) -> String {
    match member.master {
        Some(master) => format!("a replica of {}", target.cluster.name(master)),
        None if member.slots.is_empty() => "a master without slots".to_string(),
        None => "a master".to_string(),
    }
}

/// What is said of a member that was named again.
fn left_alone(target: &JoinTarget, name: &str, member: &Member) -> String {
    // An interrupted `add-node --fill` may have left it.
    let remedy = match member.role == Role::Master && member.slots.is_empty() {
        true => format!(
            " (redis-trib rebalance {} --use-empty-masters gives it its share)",
            target.cluster.resume_seed()
        ),
        false => String::new(),
    };
    format!(
        "{name} is a member already, {}, and is left alone{remedy}",
        member_as(target, member)
    )
}

/// Whether the member is what the command would make of it.
fn is_repeated(member: &Member, part: Part) -> bool {
    match part {
        Part::Masters => member.role == Role::Master,
        Part::Replicas => member.role == Role::Replica,
        Part::ReplicasOf(master) => member.master == Some(master),
    }
}

/// How a new node with the id of a member relates to that member.
enum Membership {
    /// It is the member, with nothing left to do.
    Whole,
    /// It is the member, and an interrupted run has not made it a replica yet, or has not given it its slots.
    Unfinished,
    /// It is a different node with the same id.
    Copied,
}

fn membership(
    target: &JoinTarget,
    node: &NewNode,
    member: &Member,
    rules: JoinRules,
) -> Membership {
    let observed = target.cluster.diagnosis.observation.nodes.get(&member.id);
    let run_id = observed.and_then(|node| node.report()?.info.run_id.clone());
    let same = match (run_id, &node.report.info.run_id) {
        (Some(one), Some(other)) => one == *other,
        _ => observed
            .and_then(|node| node.addr())
            .is_some_and(|addr| node.is_at(addr)),
    };
    let replicas = target.cluster.diagnosis.topology.replicas_of(member.id);
    if !same {
        Membership::Copied
    } else if member.role == Role::Master
        && member.slots.is_empty()
        && node.keys() == 0
        && replicas.count() == 0
        && (rules.part.role() == Role::Replica || rules.member_named == MemberNamed::Filled)
    {
        Membership::Unfinished
    } else {
        Membership::Whole
    }
}

/// Refuses a node that is older than the cluster: a replica could not read the RDB of its master, and a master could
/// not read the keys that are migrated to it. Patch releases (the last number) do not change formats.
fn older(target: &JoinTarget, node: &NewNode) -> Option<String> {
    let version = node.report.info.version?;
    let (newest, member) = target.newest(version.product)?;
    (version.numbers[..2] < newest.numbers[..2]).then(|| {
        format!(
            "runs {version}, older than the cluster ({member} runs {newest}): it could not read the \
             data of newer nodes"
        )
    })
}

fn other_product(target: &JoinTarget, node: &NewNode) -> Option<String> {
    let version = node.report.info.version?;
    let other = match version.product {
        Product::Redis => Product::Valkey,
        Product::Valkey => Product::Redis,
    };
    let (newest, member) = target.newest(other)?;
    target.newest(version.product).is_none().then(|| {
        format!(
            "{} runs {version} and {member} runs {newest}: they may not be able to read each other's data",
            node.name()
        )
    })
}

/// Returns what must be done to a node before it can join, or why that is not allowed.
async fn preparation(
    connections: &Arc<Connections>,
    target: &JoinTarget,
    named: &BTreeSet<NodeId>,
    node: &NewNode,
    allowed: Allowed,
) -> Result<Before, String> {
    let keys = node.keys();
    let before = match (state(target, named, node), keys, allowed) {
        (None, 0, _) => return Ok(Before::Nothing),
        (Some(_), 0, Allowed::Reset) => Before::Reset,
        (_, _, Allowed::HardAndFlush) => Before::Flush(keys),
        (Some(state), 0, Allowed::Nothing) => {
            return Err(format!(
                "{state} (--reset makes it forget that, if that cluster no longer exists)"
            ));
        }
        // The option that deletes the keys is not named beside a reason to keep them.
        (Some(state), keys, _) => return Err(format!("{state}, and holds {}", key_count(keys))),
        (None, keys, _) => {
            return Err(format!(
                "is not empty: it holds {} (--reset-hard-and-flush deletes them)",
                key_count(keys)
            ));
        }
    };
    let peers = living_peers(connections, target, named, node).await;
    if peers.is_empty() {
        Ok(before)
    } else {
        Err(format!(
            "is an active member of another cluster: {}; remove it from that cluster first",
            peers.join(", ")
        ))
    }
}

/// Returns what is left on a node of a former cluster.
fn state(target: &JoinTarget, named: &BTreeSet<NodeId>, node: &NewNode) -> Option<String> {
    let view = &node.report.view;
    let myself = view.myself();
    if let Some(others) = list_nodes(unknown_nodes(target, named, node)) {
        return Some(format!("belongs to another cluster: it knows {others}"));
    }
    if !myself.slots.is_empty() {
        let slots: SlotSet = myself.slots.iter().copied().collect();
        return Some(format!("owns slots {}", slots.summary()));
    }
    if !myself.open.is_empty() {
        return Some("has open slots".to_string());
    }
    let master = myself.master.map(|id| target.cluster.name(id));
    match (myself.role, master) {
        (Some(Role::Replica), Some(master)) => Some(format!("is still a replica of {master}")),
        (Some(Role::Replica), None) => Some("is still a replica".to_string()),
        _ => None,
    }
}

/// Returns the nodes that a node knows, and that are neither members nor candidates. A node in handshake has a
/// temporary id; its address identifies it.
fn unknown_nodes<'a>(
    target: &'a JoinTarget,
    named: &'a BTreeSet<NodeId>,
    node: &'a NewNode,
) -> impl Iterator<Item = &'a Arc<Entry>> {
    node.report.view.entries().filter(move |entry| {
        let is_known = target.member(entry.id).is_some() || named.contains(&entry.id);
        let is_met = || match (&entry.addr, entry.state) {
            (Some(addr), EntryState::Handshake) => target
                .nodes()
                .any(|node| node.peer.as_ref() == Some(addr) || node.dial.as_ref() == Some(addr)),
            _ => false,
        };
        !is_known && !is_met()
    })
}

/// Returns the former peers of a node that still list it as a member, or to which it still has a link. Peers that are
/// candidates themselves do not count.
async fn living_peers(
    connections: &Arc<Connections>,
    target: &JoinTarget,
    named: &BTreeSet<NodeId>,
    node: &NewNode,
) -> Vec<String> {
    let id = node.id();
    let peers = unknown_nodes(target, named, node)
        .filter(|entry| entry.state != EntryState::Handshake)
        .take(PEERS_ASKED)
        .map(|entry| (Arc::clone(entry), Arc::clone(&node.target.access)));
    let peers: Vec<_> = peers.collect();
    let asking = connections.fan_out(peers, |connections, (entry, access)| async move {
        let peer = entry.addr.clone()?;
        let name = format!("{peer} ({})", entry.id.short());
        let addr = connections.dial_of(&peer);
        let text = async {
            // Its id is compared below.
            let node = None;
            let client = connections
                .temporary(&Target { addr, node, access })
                .await?;
            client.cluster_nodes().await
        };
        let text: Result<String, ClientError> = text.await;
        match text {
            Ok(text) => {
                let view = EntryPool::default().view(&text).ok()?;
                let lists_it = view.myself().id == entry.id
                    && view
                        .entry(id)
                        .is_some_and(|its| its.state != EntryState::Handshake);
                lists_it.then(|| format!("{name} lists it as a member"))
            }
            Err(_) => (entry.linked && entry.state == EntryState::Fine)
                .then(|| format!("it has a link to {name}")),
        }
    });
    let mut alive: Vec<String> = asking.await.into_iter().flatten().collect();
    alive.sort_unstable();
    alive.truncate(4);
    alive
}

/// What a node has besides keys.
#[derive(Default)]
struct Inventory {
    libraries: Option<Libraries>,
    users: Option<BTreeSet<String>>,
}

async fn inventories(
    session: &Session,
    nodes: &[NewNode],
    role: Role,
) -> BTreeMap<NodeId, Inventory> {
    let nodes: Vec<(NodeId, Target)> = nodes
        .iter()
        .map(|node| (node.id(), node.target.clone()))
        .collect();
    let reading = session
        .connections
        .fan_out(nodes, move |connections, (id, target)| async move {
            let client = connections.client(&target).await.ok()?;
            // A replica gets the libraries of its master.
            let libraries = match role {
                Role::Master => client.function_list().await.ok()?,
                Role::Replica => None,
            };
            let users = client.acl_users().await.ok()?;
            let users = users.map(|users| users.into_iter().collect());
            Some((id, Inventory { libraries, users }))
        });
    reading.await.into_iter().flatten().collect()
}

/// Returns whether a node lacks libraries of the cluster. Libraries that the cluster does not have are an error, in
/// words that follow the name of the node.
fn lacks_libraries(
    cluster: Option<&Libraries>,
    node: Option<&Libraries>,
    allowed: NewLibraries,
) -> Result<bool, String> {
    let (Some(cluster), Some(node)) = (cluster, node) else {
        return Ok(false);
    };
    if allowed == NewLibraries::Refused && !node.is_empty() {
        // The words of redis-cli.
        return Err(
            "can't join: New node already contains functions and can not be added to the cluster. \
             Use FUNCTION FLUSH and try again"
                .to_string(),
        );
    }
    let other: Vec<&str> = node
        .iter()
        .filter(|(name, library)| cluster.get(*name) != Some(*library))
        .map(|(name, _)| name.as_str())
        .collect();
    if other.is_empty() {
        return Ok(node.len() < cluster.len());
    }
    Err(format!(
        "has function libraries that the cluster does not have, or has with different code: {} \
         (FUNCTION DELETE them on it, or load the same code on all nodes)",
        other.join(", ")
    ))
}

/// Returns the ACL users that the cluster has and the node has not.
fn missing_users(target: &JoinTarget, users: Option<&BTreeSet<String>>) -> Option<String> {
    let (member, of_cluster) = target.users.as_ref()?;
    let missing: Vec<&str> = of_cluster.difference(users?).map(String::as_str).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "{member} has ({}): they can't log in to it until ACL SETUSER creates them",
            missing.join(", ")
        )
    })
}

impl JoinTarget {
    /// The addresses by which the members reach each other.
    pub(super) fn ips(&self) -> Vec<IpAddr> {
        let peers = self.nodes().filter_map(|node| node.peer.as_ref()?.ip());
        peers.collect()
    }

    fn nodes(&self) -> impl Iterator<Item = &ObservedNode> {
        self.cluster.diagnosis.observation.nodes.values()
    }
}
