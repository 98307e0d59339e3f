//! From newcomers to the plan of their joining, and to how it is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::anyhow;

use super::candidates::Newcomer;
use super::target::Home;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::ObservedNode;
use crate::cluster::topology::Member;
use crate::connections::Target;
use crate::converge::{Goal, Heard};
use crate::ops::join::zones::{ZoneArgs, Zones};
use crate::plan::join::{Follower, Place, Shard, follow, meetings};
use crate::plan::{Plan, Step};
use crate::session::Session;
use crate::state::Parties;
use crate::state::{Cluster, name};
use crate::stop::Stop;
use crate::ui::{JoiningNode, JoiningView, NodeName};

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
pub(crate) struct Draft {
    /// The master of each newcomer that follows one.
    pub(crate) masters: BTreeMap<NodeId, NodeId>,
    pub(super) parties: Arc<Parties>,
    /// Members that do not answer.
    pub(super) absent: Arc<BTreeSet<NodeId>>,
    /// Meetings, then who follows whom.
    pub(super) plan: Plan,
    pub(super) goal: Arc<Goal>,
    zones: Zones,
}

impl Draft {
    /// Plans how these nodes join.
    pub(crate) async fn of(
        session: &Session,
        home: &Home,
        newcomers: &[Newcomer],
        part: Part,
        zone_args: &ZoneArgs,
    ) -> Result<Self, Stop> {
        let zones = zones(session, home, newcomers, zone_args).await?;
        let masters = masters(home, newcomers, part, &zones)?;
        let (mut parties, absent) = home.cluster.parties(session).await?;
        let ids: Vec<NodeId> = newcomers.iter().map(|new| new.recruit.id()).collect();
        let members: Vec<NodeId> = parties
            .keys()
            .filter(|id| !ids.contains(id))
            .copied()
            .collect();
        for newcomer in newcomers {
            // One that nobody can be told about was refused.
            if let Some(party) = newcomer.recruit.party() {
                parties.insert(party.id, party);
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
            parties: Arc::new(parties),
            absent: Arc::new(absent),
            plan: Plan { rounds },
            goal: Arc::new(goal),
            zones,
        })
    }

    /// The plan for people; `slots` tells how many each newcomer gets.
    pub(crate) fn view(
        &self,
        home: &Home,
        newcomers: &[Newcomer],
        warnings: &[String],
        slots: &BTreeMap<NodeId, usize>,
    ) -> JoiningView {
        let diagnosis = &home.cluster.diagnosis;
        let lead = diagnosis.observation.lead();
        let libraries = home.libraries.as_ref().map_or(0, |all| all.len());
        let nodes = newcomers.iter().map(|newcomer| {
            let id = newcomer.recruit.id();
            JoiningNode {
                node: NodeName {
                    id,
                    addr: newcomer.recruit.target.addr.clone(),
                    zone: self.zones.get(&id).cloned(),
                },
                follows: self.masters.get(&id).map(|master| name(diagnosis, *master)),
                before: newcomer.before,
                slots: slots.get(&id).copied().unwrap_or_default(),
            }
        });
        JoiningView {
            lead: lead
                .and_then(|node| node.addr().cloned())
                .unwrap_or_else(|| Addr::new("?", 0)),
            members: diagnosis.topology.members.len(),
            nodes: nodes.collect(),
            libraries: match newcomers.iter().any(|newcomer| newcomer.lacks_libraries) {
                true => libraries,
                false => 0,
            },
            warnings: warnings
                .iter()
                .cloned()
                .chain(self.shared_hosts(home, newcomers))
                .collect(),
        }
    }

    /// Replicas that stand with their masters, since nothing else was to be had.
    fn shared_hosts(&self, home: &Home, newcomers: &[Newcomer]) -> Option<String> {
        let nodes = &home.cluster.diagnosis.observation.nodes;
        let pairs: Vec<String> = newcomers
            .iter()
            .filter_map(|newcomer| {
                let master = nodes.get(self.masters.get(&newcomer.recruit.id())?)?;
                let ip = newcomer.recruit.ip?.to_string();
                let shared = master.host() == Some(&ip);
                shared.then(|| format!("{} on that of {master}", newcomer.recruit.name()))
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
pub(super) fn goal(cluster: &Cluster, masters: &BTreeMap<NodeId, NodeId>) -> Goal {
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
    home: &Home,
    newcomers: &[Newcomer],
    zone_args: &ZoneArgs,
) -> Result<Zones, Stop> {
    let observed: Vec<ObservedNode> = newcomers
        .iter()
        .map(|newcomer| newcomer.recruit.observed())
        .collect();
    let targets = newcomers.iter().map(|new| new.recruit.target.clone());
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

/// Whom the newcomers follow.
fn masters(
    home: &Home,
    newcomers: &[Newcomer],
    part: Part,
    zones: &Zones,
) -> Result<BTreeMap<NodeId, NodeId>, Stop> {
    let ids = newcomers.iter().map(|newcomer| newcomer.recruit.id());
    match part {
        Part::Masters => return Ok(BTreeMap::new()),
        Part::ReplicasOf(master) => return Ok(ids.map(|id| (id, master)).collect()),
        Part::Replicas => {}
    }
    let topology = &home.cluster.diagnosis.topology;
    let is_new = |id: NodeId| newcomers.iter().any(|new| new.recruit.id() == id);
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
    let is_there = |member: &&Member| !member.standing.is_down() && !member.standing.silent;
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
    let followers: Vec<Follower> = newcomers
        .iter()
        .map(|newcomer| {
            let id = newcomer.recruit.id();
            let host = newcomer.recruit.ip.map(|ip| ip.to_string());
            let host = host.unwrap_or_else(|| newcomer.recruit.target.addr.host().to_string());
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
