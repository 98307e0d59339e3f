//! The nodes that shall join, and what speaks against them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::target::JoinTarget;
use crate::client::{ClientError, Libraries, LoginOutcome};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::observation::ObservedNode;
use crate::cluster::parse::{Entry, EntryPool, EntryState, Product};
use crate::cluster::topology::Member;
use crate::connections::{Connections, Target};
use crate::ops::join::inspect::{NewNode, Rules, counted, known, loopback, refusal};
use crate::session::Session;
use crate::stop::Stop;
use crate::ui::Before;

/// How many of a node's old peers are asked whether it still belongs to them.
const ASKED: usize = 32;

/// What may be taken from a node so that it can join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Allowed {
    /// Nothing.
    Nothing,
    /// Whom it knew and what it owned, where it holds no keys.
    Reset,
    /// Its keys too, and its id.
    HardAndFlush,
}

/// A node that joins.
pub(crate) struct JoinCandidate {
    pub(crate) recruit: NewNode,
    /// What is done to it before.
    pub(crate) before: Before,
    /// Libraries that it lacks, as a master.
    pub(super) lacks_libraries: bool,
}

/// Those who join, and what people should know of it.
pub(crate) struct JoinCandidates {
    pub(crate) nodes: Vec<JoinCandidate>,
    pub(crate) warnings: Vec<String>,
    /// Members that a name brought, and that are left alone.
    pub(crate) members: Vec<String>,
}

/// Judges all nodes before anything is done to any: one that does not fit refuses them all, each
/// with its reasons.
pub(crate) async fn judge(
    session: &Session,
    home: &JoinTarget,
    recruits: Vec<NewNode>,
    role: Role,
    allowed: Allowed,
) -> Result<JoinCandidates, Stop> {
    let named: BTreeSet<NodeId> = recruits.iter().map(NewNode::id).collect();
    let mut inventory = inventory(session, &recruits, role).await;
    let mut problems = loopback(&recruits, &home.ips())
        .into_iter()
        .collect::<Vec<_>>();
    let mut judged = JoinCandidates {
        nodes: Vec::new(),
        warnings: Vec::new(),
        members: Vec::new(),
    };
    let mut seen: BTreeMap<NodeId, String> = BTreeMap::new();
    for recruit in recruits {
        let name = recruit.name();
        if let Some(first) = seen.insert(recruit.id(), name.clone()) {
            problems.push(format!(
                "{first} and {name} are the same node: name it once; if they are two, CLUSTER RESET \
                 HARD gives one a new id"
            ));
            continue;
        }
        let mut against = recruit.unfit(home.rules, role);
        if let Some(member) = home.member(recruit.id()) {
            match membership(home, &recruit, member, role) {
                Membership::Unfinished => judged.nodes.push(JoinCandidate {
                    recruit,
                    before: Before::Nothing,
                    lacks_libraries: false,
                }),
                Membership::Whole if session.seeds[recruit.seed_set].is_many() => {
                    judged.members.push(name);
                }
                Membership::Whole => problems.push(format!(
                    "{name} is a member of this cluster already{}",
                    match member.master {
                        Some(master) =>
                            format!(", a replica of {}: leave it out", home.cluster.name(master)),
                        // Perhaps the end of an add-node --fill that was cut off.
                        None if member.slots.is_empty() => format!(
                            ", a master without slots: leave it out; redis-trib rebalance {} \
                             --use-empty-masters gives it its share",
                            home.cluster.resume_seed()
                        ),
                        None => ": leave it out".to_string(),
                    }
                )),
                Membership::Copied => problems.push(format!(
                    "{name} has the id of {}, and is another node: its nodes.conf was copied \
                     (CLUSTER RESET HARD gives it an id of its own)",
                    home.cluster.name(recruit.id())
                )),
            }
            continue;
        }
        if home.rules == Rules::Open && recruit.login == LoginOutcome::Accepted {
            against.push(
                "needs a password, while the cluster does not: nodes of one cluster must have the \
                 same (requirepass and masterauth)"
                    .to_string(),
            );
        }
        against.extend(older(home, &recruit));
        judged.warnings.extend(other_product(home, &recruit));
        let before = match past(home, &named, &recruit, allowed) {
            Ok(Before::Nothing) => Before::Nothing,
            Ok(before) => {
                let alive = living_peers(&session.connections, home, &named, &recruit).await;
                if alive.is_empty() {
                    before
                } else {
                    against.push(format!(
                        "is a living member of another cluster: {}; take it out of that one first",
                        alive.join(", ")
                    ));
                    Before::Nothing
                }
            }
            Err(why) => {
                against.push(why);
                Before::Nothing
            }
        };
        let inventory = inventory.remove(&recruit.id()).unwrap_or_default();
        let lacks_libraries = match lacking(home.libraries.as_ref(), inventory.libraries.as_ref()) {
            Ok(lacking) => lacking && role == Role::Master,
            Err(why) => {
                against.push(why);
                false
            }
        };
        judged.warnings.extend(
            missing_users(home, inventory.users.as_ref())
                .map(|users| format!("{name} lacks ACL users that {}", users)),
        );
        problems.extend(against.into_iter().map(|why| format!("{name} {why}")));
        judged.nodes.push(JoinCandidate {
            recruit,
            before,
            lacks_libraries,
        });
    }
    if problems.is_empty() {
        Ok(judged)
    } else {
        Err(refusal(&problems))
    }
}

/// How a node that is named belongs to the cluster.
enum Membership {
    /// As it should.
    Whole,
    /// It was to be a replica, and that is left to do: what a cut leaves behind.
    Unfinished,
    /// Another node has its id.
    Copied,
}

fn membership(home: &JoinTarget, recruit: &NewNode, member: &Member, role: Role) -> Membership {
    let observed = home.cluster.diagnosis.observation.nodes.get(&member.id);
    let process = observed.and_then(|node| node.report()?.info.run_id.clone());
    let same = match (process, &recruit.report.info.run_id) {
        (Some(one), Some(other)) => one == *other,
        _ => observed
            .and_then(|node| node.addr())
            .is_some_and(|addr| recruit.is_at(addr)),
    };
    let followed = home.cluster.diagnosis.topology.replicas_of(member.id);
    if !same {
        Membership::Copied
    } else if role == Role::Replica
        && member.role == Role::Master
        && member.slots.is_empty()
        && recruit.keys() == 0
        && followed.count() == 0
    {
        Membership::Unfinished
    } else {
        Membership::Whole
    }
}

/// A node can't read what a newer one writes: as a replica its copy, as a master the keys that it
/// is sent. Fixes (the last number) change no format.
fn older(home: &JoinTarget, recruit: &NewNode) -> Option<String> {
    let version = recruit.report.info.version?;
    let (newest, member) = home.newest(version.product)?;
    (version.numbers[..2] < newest.numbers[..2]).then(|| {
        format!(
            "runs {version}, older than the cluster ({member} runs {newest}): it could not read \
             what that one sends"
        )
    })
}

fn other_product(home: &JoinTarget, recruit: &NewNode) -> Option<String> {
    let version = recruit.report.info.version?;
    let other = match version.product {
        Product::Redis => Product::Valkey,
        Product::Valkey => Product::Redis,
    };
    let (newest, member) = home.newest(other)?;
    home.newest(version.product).is_none().then(|| {
        format!(
            "{} runs {version} and {member} runs {newest}: these may not read each other's data",
            recruit.name()
        )
    })
}

/// What must be done to a node before it can join, if it may be.
fn past(
    home: &JoinTarget,
    named: &BTreeSet<NodeId>,
    recruit: &NewNode,
    allowed: Allowed,
) -> Result<Before, String> {
    let keys = recruit.keys();
    let history = history(home, named, recruit);
    match (history, keys, allowed) {
        (None, 0, _) => Ok(Before::Nothing),
        (Some(_), 0, Allowed::Reset) => Ok(Before::Reset),
        (_, _, Allowed::HardAndFlush) => Ok(Before::Flush(keys)),
        (Some(what), 0, Allowed::Nothing) => Err(format!(
            "{what} (--reset makes it forget that, where that cluster is gone)"
        )),
        // What would empty it is not told beside what makes it look useful.
        (Some(what), keys, _) => Err(format!("{what}, and holds {}", counted(keys))),
        (None, keys, _) => Err(format!(
            "is not empty: it holds {} (--reset-hard-and-flush deletes them)",
            counted(keys)
        )),
    }
}

/// What a node was before.
fn history(home: &JoinTarget, named: &BTreeSet<NodeId>, recruit: &NewNode) -> Option<String> {
    let view = &recruit.report.view;
    let myself = view.myself();
    if let Some(strangers) = known(strangers(home, named, recruit)) {
        return Some(format!("belongs to another cluster: it knows {strangers}"));
    }
    if !myself.slots.is_empty() {
        let slots: crate::cluster::slot::SlotSet = myself.slots.iter().copied().collect();
        return Some(format!("owns slots {slots}"));
    }
    if !myself.open.is_empty() {
        return Some("has open slots".to_string());
    }
    let master = myself.master.map(|id| home.cluster.name(id));
    match (myself.role, master) {
        (Some(Role::Replica), Some(master)) => {
            Some(format!("still takes itself for a replica of {master}"))
        }
        (Some(Role::Replica), None) => Some("still takes itself for a replica".to_string()),
        _ => None,
    }
}

/// Nodes that a node knows, and that are neither members nor candidates. A handshake has a passing
/// id; its address tells who it will be.
fn strangers<'a>(
    home: &'a JoinTarget,
    named: &'a BTreeSet<NodeId>,
    recruit: &'a NewNode,
) -> impl Iterator<Item = &'a Arc<Entry>> {
    recruit.report.view.entries().filter(move |entry| {
        let is_known = home.member(entry.id).is_some() || named.contains(&entry.id);
        let is_met = || match (&entry.addr, entry.state) {
            (Some(addr), EntryState::Handshake) => home
                .nodes()
                .any(|node| node.peer.as_ref() == Some(addr) || node.dial.as_ref() == Some(addr)),
            _ => false,
        };
        !is_known && !is_met()
    })
}

/// Old peers of a node that still count it among them, or that it is still linked to: who they are.
/// Those that are candidates too leave together with it.
async fn living_peers(
    connections: &Arc<Connections>,
    home: &JoinTarget,
    named: &BTreeSet<NodeId>,
    recruit: &NewNode,
) -> Vec<String> {
    let mut asking = JoinSet::new();
    let strangers = strangers(home, named, recruit);
    let has_address = |entry: &&Arc<Entry>| entry.state != EntryState::Handshake;
    for entry in strangers.filter(has_address).take(ASKED).cloned() {
        let connections = Arc::clone(connections);
        let access = Arc::clone(&recruit.target.access);
        let id = recruit.id();
        asking.spawn(async move {
            let peer = entry.addr.clone()?;
            let name = format!("{peer} ({})", entry.id.short());
            let addr = connections.dial_of(&peer);
            let text = async {
                let client = connections.temporary(&Target { addr, access }).await?;
                client.cluster_nodes().await
            };
            let text: Result<String, ClientError> = text.await;
            match text {
                Ok(text) => {
                    let view = EntryPool::default().view(&text).ok()?;
                    let counts = view.myself().id == entry.id
                        && view
                            .entry(id)
                            .is_some_and(|its| its.state != EntryState::Handshake);
                    counts.then(|| format!("{name} counts it as a member"))
                }
                Err(_) => (entry.linked && entry.state == EntryState::Fine)
                    .then(|| format!("it is linked to {name}")),
            }
        });
    }
    let mut alive: Vec<String> = asking.join_all().await.into_iter().flatten().collect();
    alive.sort_unstable();
    alive.truncate(4);
    alive
}

/// What a node brings besides keys.
#[derive(Default)]
struct Inventory {
    libraries: Option<Libraries>,
    users: Option<BTreeSet<String>>,
}

async fn inventory(
    session: &Session,
    recruits: &[NewNode],
    role: Role,
) -> BTreeMap<NodeId, Inventory> {
    let mut asking = JoinSet::new();
    for recruit in recruits {
        let (id, target) = (recruit.id(), recruit.target.clone());
        let connections = Arc::clone(&session.connections);
        asking.spawn(async move {
            let client = connections.client(&target).await.ok()?;
            // A replica's are its master's.
            let libraries = match role {
                Role::Master => client.function_list().await.ok()?,
                Role::Replica => None,
            };
            let users = client.acl_users().await.ok()?;
            let users = users.map(|users| users.into_iter().collect());
            Some((id, Inventory { libraries, users }))
        });
    }
    asking.join_all().await.into_iter().flatten().collect()
}

/// Whether a node lacks libraries of the cluster; an error where it has others, in words that follow
/// its name.
fn lacking(cluster: Option<&Libraries>, node: Option<&Libraries>) -> Result<bool, String> {
    let (Some(cluster), Some(node)) = (cluster, node) else {
        return Ok(false);
    };
    let other: Vec<&str> = node
        .iter()
        .filter(|(name, library)| cluster.get(*name) != Some(*library))
        .map(|(name, _)| name.as_str())
        .collect();
    if other.is_empty() {
        return Ok(node.len() < cluster.len());
    }
    Err(format!(
        "has libraries of functions that the cluster has not, or has otherwise: {} (FUNCTION DELETE \
         on it, or load the same everywhere)",
        other.join(", ")
    ))
}

/// Users that the cluster has, and the node has not.
fn missing_users(home: &JoinTarget, users: Option<&BTreeSet<String>>) -> Option<String> {
    let (member, of_cluster) = home.users.as_ref()?;
    let missing: Vec<&str> = of_cluster.difference(users?).map(String::as_str).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "{member} has ({}): they can't log in there until ACL SETUSER makes them",
            missing.join(", ")
        )
    })
}

impl JoinTarget {
    /// Where the members are for each other.
    fn ips(&self) -> Vec<IpAddr> {
        let peers = self.nodes().filter_map(|node| node.peer.as_ref()?.ip());
        peers.collect()
    }

    fn nodes(&self) -> impl Iterator<Item = &ObservedNode> {
        self.cluster.diagnosis.observation.nodes.values()
    }
}
