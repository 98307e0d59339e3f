//! The plan by which nodes join, and its view.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::anyhow;

use super::candidates::JoinCandidate;
use super::inspect::NewNode;
use super::origin;
use super::target::JoinTarget;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::ObservedNode;
use crate::cluster::topology::Member;
use crate::connections::Target;
use crate::converge::{Goal, KnownBy};
use crate::ops::join::zones::{ZoneRules, Zones};
use crate::plan::join::{Follower, Place, Shard, follow, meetings};
use crate::plan::{MembershipPlan, MembershipStep};
use crate::report::{ChosenBy, JoinView, JoiningNode, Node};
use crate::session::Session;
use crate::state::Participants;
use crate::state::{ClusterState, name};
use crate::stop::Stop;

/// The role that new nodes get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Masters without slots.
    Masters,
    /// Replicas of the masters with the fewest replicas.
    Replicas,
    /// Replicas of this master.
    ReplicasOf(NodeId),
}

impl Part {
    pub(crate) fn role(self) -> Role {
        match self {
            Self::Masters => Role::Master,
            Self::Replicas | Self::ReplicasOf(_) => Role::Replica,
        }
    }
}

/// How nodes join.
pub(crate) struct JoinPlan {
    /// The master of each new replica.
    pub(crate) masters: BTreeMap<NodeId, NodeId>,
    chosen_by: ChosenBy,
    pub(super) participants: Arc<Participants>,
    /// Members that do not answer.
    pub(super) absent: Arc<BTreeSet<NodeId>>,
    /// CLUSTER MEET, then CLUSTER REPLICATE.
    pub(super) plan: MembershipPlan,
    pub(super) goal: Arc<Goal>,
    zones: Zones,
}

impl JoinPlan {
    /// Plans how these nodes join.
    pub(crate) async fn of(
        session: &Session,
        target: &JoinTarget,
        candidates: &[JoinCandidate],
        part: Part,
        rules: &ZoneRules,
    ) -> Result<Self, Stop> {
        let zones = zones(session, target, candidates, rules).await?;
        let masters = masters(target, candidates, part, &zones)?;
        refuse_older_replicas(target, candidates, &masters)?;
        let (mut participants, absent) = target.cluster.participants(session).await?;
        let ids: Vec<NodeId> = candidates.iter().map(|new| new.node.id()).collect();
        let members: Vec<NodeId> = participants
            .keys()
            .filter(|id| !ids.contains(id))
            .copied()
            .collect();
        for candidate in candidates {
            // A node without an address for the others was refused.
            if let Some(participant) = candidate.node.participant() {
                participants.insert(participant.id, participant);
            }
        }
        let following: Vec<MembershipStep> = masters
            .iter()
            .map(|(replica, master)| MembershipStep::Replicate {
                replica: *replica,
                master: *master,
            })
            .collect();
        let mut rounds = vec![meetings(&members, &ids), following];
        rounds.retain(|round| !round.is_empty());
        let goal = goal(&target.cluster, &masters);
        Ok(Self {
            masters,
            chosen_by: match part {
                Part::ReplicasOf(_) => ChosenBy::User,
                Part::Masters | Part::Replicas => ChosenBy::Plan,
            },
            participants: Arc::new(participants),
            absent: Arc::new(absent),
            plan: MembershipPlan { rounds },
            goal: Arc::new(goal),
            zones,
        })
    }

    /// Returns the view of the plan; `slots` is the number of slots that each candidate gets.
    pub(crate) fn view(
        &self,
        target: &JoinTarget,
        candidates: &[JoinCandidate],
        warnings: &[String],
        slots: &BTreeMap<NodeId, usize>,
    ) -> JoinView {
        let diagnosis = &target.cluster.diagnosis;
        let lead = diagnosis.observation.lead();
        let libraries = target.libraries.as_ref().map_or(0, |all| all.len());
        let nodes = candidates.iter().map(|candidate| {
            let id = candidate.node.id();
            JoiningNode {
                node: Node {
                    id,
                    addr: candidate.node.target.addr.clone(),
                    role: match self.masters.contains_key(&id) {
                        true => Role::Replica,
                        false => Role::Master,
                    },
                    zone: self.zones.get(&id).cloned(),
                },
                follows: self.masters.get(&id).map(|master| name(diagnosis, *master)),
                chosen_by: self.chosen_by,
                before: candidate.before,
                slots: slots.get(&id).copied().unwrap_or_default(),
            }
        });
        JoinView {
            lead: lead
                .and_then(|node| node.addr().cloned())
                .unwrap_or_else(|| Addr::new("?", 0)),
            members: diagnosis.topology.members.len(),
            nodes: nodes.collect(),
            libraries: match candidates.iter().any(|candidate| candidate.lacks_libraries) {
                true => libraries,
                false => 0,
            },
            warnings: warnings
                .iter()
                .cloned()
                .chain(self.shared_hosts(target, candidates))
                .chain(origin::warnings(&nodes_of(candidates), &target.ips()))
                .collect(),
        }
    }

    /// Warns of replicas on the hosts of their masters, where no other host was available.
    fn shared_hosts(&self, target: &JoinTarget, candidates: &[JoinCandidate]) -> Option<String> {
        let nodes = &target.cluster.diagnosis.observation.nodes;
        let pairs: Vec<String> = candidates
            .iter()
            .filter_map(|candidate| {
                let master = nodes.get(self.masters.get(&candidate.node.id())?)?;
                let ip = candidate.node.ip?.to_string();
                let shared = master.host() == Some(&ip);
                shared.then(|| format!("{} on that of {master}", candidate.node.name()))
            })
            .collect();
        let pairs = match &pairs[..] {
            [] => return None,
            few @ ([_] | [_, _] | [_, _, _]) => few.join(", "),
            [first, rest @ ..] => format!("{first}, and {} more", rest.len()),
        };
        Some(format!(
            "replicas on the hosts of their masters protect against the loss of a process, not of \
             the host: {pairs}"
        ))
    }
}

/// Refuses replicas that could never sync from their master.
fn refuse_older_replicas(
    target: &JoinTarget,
    candidates: &[JoinCandidate],
    masters: &BTreeMap<NodeId, NodeId>,
) -> Result<(), Stop> {
    let nodes = &target.cluster.diagnosis.observation.nodes;
    for candidate in candidates {
        let Some(master) = masters
            .get(&candidate.node.id())
            .and_then(|id| nodes.get(id))
        else {
            continue;
        };
        let version = target.cluster.diagnosis.observation.version_of(master.id);
        let (Some(own), Some(version)) = (candidate.node.report.info.version, version) else {
            continue;
        };
        if !own.can_follow(version) {
            return Err(Stop::refused(anyhow!(
                "{} runs {}, and {master} runs {}: it could never sync from such a master, whose data it can't read; \
                 upgrade the new node first; nothing was changed",
                candidate.node.name(),
                own.with_rdb_version(),
                version.with_rdb_version()
            )));
        }
    }
    Ok(())
}

fn nodes_of(candidates: &[JoinCandidate]) -> Vec<NewNode> {
    let nodes = candidates.iter().map(|candidate| candidate.node.clone());
    nodes.collect()
}

/// The goal of all nodes, in the cluster as it is now. If a replica was promoted after the plan was made, it has the
/// slots of its former master, and the replicas of that master.
pub(super) fn goal(cluster: &ClusterState, masters: &BTreeMap<NodeId, NodeId>) -> Goal {
    let members = &cluster.diagnosis.topology.members;
    let now = |master: NodeId| {
        let member = members.get(&master);
        member.and_then(|member| member.master).unwrap_or(master)
    };
    let owners = cluster.owners().into_iter();
    Goal {
        slots: owners
            .map(|owner| (owner.id, owner.slots.ranges()))
            .collect(),
        masters: masters
            .iter()
            .map(|(replica, master)| (*replica, now(*master)))
            .collect(),
        roles_known_by: KnownBy::TheirMasters,
    }
}

async fn zones(
    session: &Session,
    target: &JoinTarget,
    candidates: &[JoinCandidate],
    rules: &ZoneRules,
) -> Result<Zones, Stop> {
    let observed: Vec<ObservedNode> = candidates
        .iter()
        .map(|candidate| candidate.node.observed())
        .collect();
    let targets = candidates.iter().map(|new| new.node.target.clone());
    let mut nodes: Vec<(&ObservedNode, Target)> = observed.iter().zip(targets).collect();
    let cluster = &target.cluster;
    let members = cluster.diagnosis.observation.nodes.values();
    nodes.extend(members.filter_map(|node| Some((node, cluster.reach.get(&node.id)?.clone()))));
    let unmatched = rules.unmatched(&nodes);
    if !unmatched.is_empty() {
        return Err(Stop::usage(anyhow!("{}", unmatched.join("\n"))));
    }
    Ok(rules.zones(&session.connections, &nodes).await)
}

/// Returns the master of each candidate that becomes a replica.
fn masters(
    target: &JoinTarget,
    candidates: &[JoinCandidate],
    part: Part,
    zones: &Zones,
) -> Result<BTreeMap<NodeId, NodeId>, Stop> {
    let ids = candidates.iter().map(|candidate| candidate.node.id());
    match part {
        Part::Masters => return Ok(BTreeMap::new()),
        Part::ReplicasOf(master) => return Ok(ids.map(|id| (id, master)).collect()),
        Part::Replicas => {}
    }
    let topology = &target.cluster.diagnosis.topology;
    let is_new = |id: NodeId| candidates.iter().any(|new| new.node.id() == id);
    let nodes = &target.cluster.diagnosis.observation.nodes;
    let place = |id: NodeId| Place {
        host: nodes
            .get(&id)
            .and_then(|node| node.host())
            .unwrap_or_default()
            .to_string(),
        zone: zones.get(&id).cloned(),
    };
    // A master without slots needs no replica, and a dead replica does not protect its master.
    let owns = |master: &&Member| !master.slots.is_empty();
    let is_up = |member: &&Member| !member.peer_status.is_down() && !member.peer_status.silent;
    let shards: Vec<Shard> = topology
        .reading_order()
        .into_iter()
        .filter(|member| member.role == Role::Master && !is_new(member.id))
        .filter(owns)
        .map(|master| Shard {
            master: master.id,
            version: target.cluster.diagnosis.observation.version_of(master.id),
            place: place(master.id),
            replicas: topology
                .replicas_of(master.id)
                .filter(is_up)
                .map(|replica| place(replica.id))
                .collect(),
        })
        .collect();
    let followers: Vec<Follower> = candidates
        .iter()
        .map(|candidate| {
            let id = candidate.node.id();
            let host = candidate.node.ip.map(|ip| ip.to_string());
            let host = host.unwrap_or_else(|| candidate.node.target.addr.host().to_string());
            let zone = zones.get(&id).cloned();
            Follower {
                id,
                version: candidate.node.report.info.version,
                place: Place { host, zone },
            }
        })
        .collect();
    let Some(first) = shards.first() else {
        return Err(Stop::refused(anyhow!(
            "no master of this cluster owns slots, so no master needs a replica; nothing was changed"
        )));
    };
    Ok(match follow(&shards, &followers) {
        Some(masters) => ids.zip(masters).collect(),
        // The check of all pairs names those that can follow no master.
        None => followers
            .iter()
            .filter(|follower| !shards.iter().any(|shard| follower.can_follow(shard)))
            .map(|follower| (follower.id, first.master))
            .collect(),
    })
}
