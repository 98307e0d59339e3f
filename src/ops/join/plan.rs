//! From candidates to the plan of their joining, and to how it is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::anyhow;

use super::candidates::JoinCandidate;
use super::target::JoinTarget;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::ObservedNode;
use crate::cluster::topology::Member;
use crate::connections::Target;
use crate::converge::{Goal, Heard};
use crate::ops::join::zones::{ZoneArgs, Zones};
use crate::plan::join::{Follower, Place, Shard, follow, meetings};
use crate::plan::{Plan, Step};
use crate::session::Session;
use crate::state::Participants;
use crate::state::{ClusterState, name};
use crate::stop::Stop;
use crate::ui::{JoinView, JoiningNode, NodeName};

/// What the nodes shall become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Masters without slots.
    Masters,
    /// Replicas of those that have the fewest.
    Replicas,
    /// Replicas of that one.
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
    /// The master of each candidate that follows one.
    pub(crate) masters: BTreeMap<NodeId, NodeId>,
    pub(super) participants: Arc<Participants>,
    /// Members that do not answer.
    pub(super) absent: Arc<BTreeSet<NodeId>>,
    /// Meetings, then who follows whom.
    pub(super) plan: Plan,
    pub(super) goal: Arc<Goal>,
    zones: Zones,
}

impl JoinPlan {
    /// Plans how these nodes join.
    pub(crate) async fn of(
        session: &Session,
        home: &JoinTarget,
        candidates: &[JoinCandidate],
        part: Part,
        zone_args: &ZoneArgs,
    ) -> Result<Self, Stop> {
        let zones = zones(session, home, candidates, zone_args).await?;
        let masters = masters(home, candidates, part, &zones)?;
        let (mut participants, absent) = home.cluster.participants(session).await?;
        let ids: Vec<NodeId> = candidates.iter().map(|new| new.recruit.id()).collect();
        let members: Vec<NodeId> = participants
            .keys()
            .filter(|id| !ids.contains(id))
            .copied()
            .collect();
        for candidate in candidates {
            // One that nobody can be told about was refused.
            if let Some(participant) = candidate.recruit.participant() {
                participants.insert(participant.id, participant);
            }
        }
        let following: Vec<Step> = masters
            .iter()
            .map(|(replica, master)| Step::Replicate {
                replica: *replica,
                master: *master,
            })
            .collect();
        let mut rounds = vec![meetings(&members, &ids), following];
        rounds.retain(|round| !round.is_empty());
        let goal = goal(&home.cluster, &masters);
        Ok(Self {
            masters,
            participants: Arc::new(participants),
            absent: Arc::new(absent),
            plan: Plan { rounds },
            goal: Arc::new(goal),
            zones,
        })
    }

    /// The plan for people; `slots` tells how many each candidate gets.
    pub(crate) fn view(
        &self,
        home: &JoinTarget,
        candidates: &[JoinCandidate],
        warnings: &[String],
        slots: &BTreeMap<NodeId, usize>,
    ) -> JoinView {
        let diagnosis = &home.cluster.diagnosis;
        let lead = diagnosis.observation.lead();
        let libraries = home.libraries.as_ref().map_or(0, |all| all.len());
        let nodes = candidates.iter().map(|candidate| {
            let id = candidate.recruit.id();
            JoiningNode {
                node: NodeName {
                    id,
                    addr: candidate.recruit.target.addr.clone(),
                    zone: self.zones.get(&id).cloned(),
                },
                follows: self.masters.get(&id).map(|master| name(diagnosis, *master)),
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
                .chain(self.shared_hosts(home, candidates))
                .collect(),
        }
    }

    /// Replicas that stand with their masters, since nothing else was to be had.
    fn shared_hosts(&self, home: &JoinTarget, candidates: &[JoinCandidate]) -> Option<String> {
        let nodes = &home.cluster.diagnosis.observation.nodes;
        let pairs: Vec<String> = candidates
            .iter()
            .filter_map(|candidate| {
                let master = nodes.get(self.masters.get(&candidate.recruit.id())?)?;
                let ip = candidate.recruit.ip?.to_string();
                let shared = master.host() == Some(&ip);
                shared.then(|| format!("{} on that of {master}", candidate.recruit.name()))
            })
            .collect();
        let told = match &pairs[..] {
            [] => return None,
            few @ ([_] | [_, _] | [_, _, _]) => few.join(", "),
            [first, rest @ ..] => format!("{first}, and {} more", rest.len()),
        };
        Some(format!(
            "replicas on the hosts of their masters protect against the loss of a process, not of \
             the host: {told}"
        ))
    }
}

/// What the nodes shall agree about, in the cluster as it is: a replica that took over since the plan was
/// made has the slots of its master, and those that were to follow that.
pub(super) fn goal(cluster: &ClusterState, masters: &BTreeMap<NodeId, NodeId>) -> Goal {
    let members = &cluster.diagnosis.topology.members;
    let heir = |master: NodeId| {
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
            .map(|(replica, master)| (*replica, heir(*master)))
            .collect(),
        heard: Heard::ByTheirMasters,
    }
}

async fn zones(
    session: &Session,
    home: &JoinTarget,
    candidates: &[JoinCandidate],
    zone_args: &ZoneArgs,
) -> Result<Zones, Stop> {
    let observed: Vec<ObservedNode> = candidates
        .iter()
        .map(|candidate| candidate.recruit.observed())
        .collect();
    let targets = candidates.iter().map(|new| new.recruit.target.clone());
    let mut nodes: Vec<(&ObservedNode, Target)> = observed.iter().zip(targets).collect();
    nodes.extend(
        home.cluster
            .diagnosis
            .observation
            .nodes
            .values()
            .filter_map(|node| Some((node, home.cluster.reach.get(&node.id)?.clone()))),
    );
    let strays = zone_args.strays(&nodes);
    if !strays.is_empty() {
        return Err(Stop::usage(anyhow!("{}", strays.join("\n"))));
    }
    Ok(zone_args.zones(&session.connections, &nodes).await)
}

/// Whom the candidates follow.
fn masters(
    home: &JoinTarget,
    candidates: &[JoinCandidate],
    part: Part,
    zones: &Zones,
) -> Result<BTreeMap<NodeId, NodeId>, Stop> {
    let ids = candidates.iter().map(|candidate| candidate.recruit.id());
    match part {
        Part::Masters => return Ok(BTreeMap::new()),
        Part::ReplicasOf(master) => return Ok(ids.map(|id| (id, master)).collect()),
        Part::Replicas => {}
    }
    let topology = &home.cluster.diagnosis.topology;
    let is_new = |id: NodeId| candidates.iter().any(|new| new.recruit.id() == id);
    let nodes = &home.cluster.diagnosis.observation.nodes;
    let place = |id: NodeId| Place {
        host: nodes
            .get(&id)
            .and_then(|node| node.host())
            .unwrap_or_default()
            .to_string(),
        zone: zones.get(&id).cloned(),
    };
    // A replica of a master without slots would protect nothing; a dead one does not protect either.
    let owns = |master: &&Member| !master.slots.is_empty();
    let is_there = |member: &&Member| !member.peer_status.is_down() && !member.peer_status.silent;
    let shards: Vec<Shard> = topology
        .reading_order()
        .into_iter()
        .filter(|member| member.role == Role::Master && !is_new(member.id))
        .filter(owns)
        .map(|master| Shard {
            master: master.id,
            place: place(master.id),
            replicas: topology
                .replicas_of(master.id)
                .filter(is_there)
                .map(|replica| place(replica.id))
                .collect(),
        })
        .collect();
    let followers: Vec<Follower> = candidates
        .iter()
        .map(|candidate| {
            let id = candidate.recruit.id();
            let host = candidate.recruit.ip.map(|ip| ip.to_string());
            let host = host.unwrap_or_else(|| candidate.recruit.target.addr.host().to_string());
            let zone = zones.get(&id).cloned();
            Follower {
                id,
                place: Place { host, zone },
            }
        })
        .collect();
    let masters = follow(&shards, &followers).ok_or_else(|| {
        Stop::refused(anyhow!(
            "no master of this cluster owns slots, so none needs a replica; nothing was changed"
        ))
    })?;
    Ok(ids.zip(masters).collect())
}
