//! The wait after a restart: the node runs as another process, has its role and its copy, and all nodes agree.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::{Duration, Instant, sleep, timeout};

use super::{RollRequest, blocking, is_at_version, run_id, version};
use crate::client::ClientError;
use crate::cluster::node::{NodeId, Role};
use crate::cluster::observation::{ObservedNode, Report, Seen};
use crate::cluster::parse::MasterLink;
use crate::cluster::topology::Member;
use crate::connections::Target;
use crate::session::Session;
use crate::state::ClusterState;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// How long another node may answer at the address of one that restarts: addresses of containers are given to others.
const OTHER_NODE_FOR: Duration = Duration::from_secs(10);

/// How long a node may take to tell which one it is.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// What was known of the nodes before some of them restarted.
pub(super) struct Before {
    /// The nodes that restart.
    pub(super) restarting: BTreeSet<NodeId>,
    /// All members that can't be looked at through the ones that restart.
    seeds: Vec<Target>,
    /// The processes of all members.
    run_ids: BTreeMap<NodeId, String>,
    /// Where the nodes that restart were reached.
    targets: BTreeMap<NodeId, Target>,
    /// The keys of the nodes that restart, of masters with slots alone.
    keys_of_masters: BTreeMap<NodeId, u64>,
}

impl Before {
    pub(super) fn of(cluster: &ClusterState, restarting: &[NodeId]) -> Self {
        let nodes = &cluster.diagnosis.observation.nodes;
        let members = &cluster.diagnosis.topology.members;
        let is_owner = |id: &NodeId| {
            let member = members.get(id);
            member.is_some_and(|m| m.role == Role::Master && !m.slots.is_empty())
        };
        let keys = restarting.iter().filter(|id| is_owner(id));
        Self {
            restarting: restarting.iter().copied().collect(),
            seeds: cluster.members(),
            run_ids: nodes
                .keys()
                .filter_map(|id| Some((*id, run_id(cluster, *id)?)))
                .collect(),
            targets: restarting
                .iter()
                .filter_map(|id| Some((*id, cluster.reach.get(id)?.clone())))
                .collect(),
            keys_of_masters: keys
                .filter_map(|id| Some((*id, nodes.get(id)?.report()?.info.total_keys())))
                .collect(),
        }
    }

    fn has_restarted(&self, cluster: &ClusterState, id: NodeId) -> bool {
        let now = run_id(cluster, id);
        now.is_some() && now.as_ref() != self.run_ids.get(&id)
    }
}

/// Why the roll stops at these nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotBack(pub(super) String);

/// What a look shows of the nodes that restart.
enum Look {
    /// All are as they should be.
    Back,
    /// The first thing that is missing.
    Missing(String),
    /// Something that more time does not change.
    Wrong(String),
}

/// A wait in progress.
pub(super) struct Wait<'a> {
    pub(super) session: &'a Session,
    pub(super) request: &'a RollRequest,
    pub(super) before: Before,
    /// The nodes that still have to be restarted, without those that are being restarted.
    pub(super) pending: BTreeSet<NodeId>,
    /// The offsets of the masters when the links of their replicas came up.
    goals: BTreeMap<NodeId, u64>,
    /// Since when another node answers at the address of a node.
    other_since: BTreeMap<NodeId, Instant>,
}

impl<'a> Wait<'a> {
    pub(super) fn new(
        session: &'a Session,
        request: &'a RollRequest,
        before: Before,
        pending: &BTreeSet<NodeId>,
    ) -> Self {
        let pending = pending.difference(&before.restarting).copied().collect();
        Self {
            session,
            request,
            before,
            pending,
            goals: BTreeMap::new(),
            other_since: BTreeMap::new(),
        }
    }

    /// Waits until the nodes are back. A signal does not end the wait: the roll stops after these nodes.
    pub(super) async fn until_back(mut self) -> Result<ClusterState, NotBack> {
        let within = self.request.back_within;
        let deadline = Instant::now() + within;
        let mut is_told = false;
        loop {
            let cluster = ClusterState::look_from(self.session, &self.before.seeds).await;
            let missing = match cluster {
                Ok(cluster) => {
                    let look = match self.other_node(&cluster).await {
                        Some(other) => other,
                        None => self.look(&cluster),
                    };
                    match look {
                        Look::Back => return Ok(cluster),
                        Look::Missing(what) => what,
                        Look::Wrong(what) => return Err(NotBack(what)),
                    }
                }
                Err(stop) => format!("{:#}", stop.error),
            };
            if Instant::now() >= deadline {
                let time = humantime::format_duration(within);
                return Err(NotBack(format!("{missing}, after {time} (--back-within)")));
            }
            if let (Some(signal), false) = (self.session.interrupt.heard(), is_told) {
                is_told = true;
                self.session.events.warn(format!(
                    "interrupted ({signal}): the roll stops when this node is back; once more stops it now"
                ));
            }
            self.session.events.waiting(missing);
            sleep(LOOK_AGAIN).await;
        }
    }

    fn look(&mut self, cluster: &ClusterState) -> Look {
        let restarting: Vec<NodeId> = self.before.restarting.iter().copied().collect();
        let nodes = &cluster.diagnosis.observation.nodes;
        for id in &restarting {
            if !self.before.has_restarted(cluster, *id)
                && let Some(other) = self.other_restarted(cluster)
            {
                return Look::Wrong(format!(
                    "{} has restarted instead of {}",
                    cluster.name(other),
                    cluster.name(*id)
                ));
            }
        }
        for id in restarting {
            let look = match (nodes.get(&id), cluster.diagnosis.topology.members.get(&id)) {
                (Some(node), Some(member)) => self.node(cluster, node, member),
                _ => Look::Missing(format!("no node knows {} any more", id.short())),
            };
            if !matches!(look, Look::Back) {
                return look;
            }
        }
        self.all_nodes(cluster)
    }

    /// A member that runs as another process now, and was not to be restarted.
    fn other_restarted(&self, cluster: &ClusterState) -> Option<NodeId> {
        let mut others = self.before.run_ids.iter();
        let (id, _) = others.find(|(id, before)| {
            let now = run_id(cluster, **id);
            !self.before.restarting.contains(*id) && now.is_some_and(|now| now != **before)
        })?;
        Some(*id)
    }

    fn node(&mut self, cluster: &ClusterState, node: &ObservedNode, member: &Member) -> Look {
        let id = node.id;
        let report = match &node.seen {
            Seen::Report(report) => report,
            _ => return Look::Missing(format!("{node} {}", node.why_absent())),
        };
        if !self.before.has_restarted(cluster, id) {
            return Look::Missing(format!(
                "{node} has not restarted: it runs under the same run id as before"
            ));
        }
        if member.is_reset {
            return Look::Wrong(format!(
                "{node} came back without its nodes.conf: it knows no other node"
            ));
        }
        if let (Some(wanted), false) = (
            &self.request.until_version,
            is_at_version(cluster, id, self.request),
        ) {
            let runs = version(cluster, id);
            let runs = runs.map_or_else(|| "an unknown version".to_string(), |v| v.to_string());
            return Look::Wrong(format!(
                "{node} has restarted and runs {runs}, not version {wanted}"
            ));
        }
        if report.info.loading {
            return Look::Missing(format!("{node} is loading its data set from disk"));
        }
        match member.role {
            Role::Master => self.master(node, member, report),
            Role::Replica => self.replica(cluster, node, member, report),
        }
    }

    /// Another node answers where one that restarts was reached. The members forget the address of the node then, so that
    /// they can't tell.
    async fn other_node(&mut self, cluster: &ClusterState) -> Option<Look> {
        for (id, target) in &self.before.targets {
            let node = cluster.diagnosis.observation.nodes.get(id);
            if node.is_some_and(|node| node.report().is_some()) {
                self.other_since.remove(id);
                continue;
            }
            let anyone = Target {
                node: None,
                ..target.clone()
            };
            let connections = &self.session.connections;
            let asked = async { connections.temporary(&anyone).await?.identity().await };
            let answer = timeout(ANSWERS_WITHIN, asked).await;
            let Some(other) = answer
                .ok()
                .and_then(|answer: Result<_, ClientError>| answer.ok())
                .map(|(other, _)| other)
                .filter(|other| other != id)
            else {
                self.other_since.remove(id);
                continue;
            };
            let since = *self.other_since.entry(*id).or_insert_with(Instant::now);
            let text = format!(
                "another node, {}, answers at the address of {} ({})",
                other.short(),
                target.addr,
                id.short()
            );
            return Some(match since.elapsed() > OTHER_NODE_FOR {
                true => Look::Wrong(format!(
                    "{text}: it came back empty, without its nodes.conf"
                )),
                false => Look::Missing(text),
            });
        }
        None
    }

    fn master(&self, node: &ObservedNode, member: &Member, report: &Report) -> Look {
        let keys = self.before.keys_of_masters.get(&node.id).copied();
        match keys {
            Some(keys) if keys > 0 && report.info.total_keys() == 0 && !member.slots.is_empty() => {
                Look::Wrong(format!(
                    "{node} came back empty: it had {keys} keys before, and its shard has no other copy"
                ))
            }
            _ => Look::Back,
        }
    }

    fn replica(
        &mut self,
        cluster: &ClusterState,
        node: &ObservedNode,
        member: &Member,
        report: &Report,
    ) -> Look {
        if report.info.master_link != Some(MasterLink::Up) {
            self.goals.remove(&node.id);
            let what = match report.info.master_link {
                Some(MasterLink::Syncing) => "receives a full copy from its master",
                _ => "has no link to its master yet",
            };
            return Look::Missing(format!("{node} {what}"));
        }
        let nodes = &cluster.diagnosis.observation.nodes;
        let master = member.master.and_then(|id| nodes.get(&id)?.report());
        let offset = master.and_then(|master| master.info.replication_offset);
        let goal = match (self.goals.get(&node.id), offset) {
            (Some(goal), _) => *goal,
            (None, Some(offset)) => *self.goals.entry(node.id).or_insert(offset),
            (None, None) => 0,
        };
        match report.info.replication_offset {
            Some(offset) if offset < goal => Look::Missing(format!(
                "{node} is {} bytes behind its master",
                goal - offset
            )),
            _ => Look::Back,
        }
    }

    /// All nodes agree about the slots, report `cluster_state:ok`, and reach the nodes that have restarted.
    fn all_nodes(&self, cluster: &ClusterState) -> Look {
        let diagnosis = &cluster.diagnosis;
        for id in &self.before.restarting {
            let Some(member) = diagnosis.topology.members.get(id) else {
                continue;
            };
            let status = &member.peer_status;
            let doubts = status.failed + status.failing + status.handshake + status.no_address;
            if doubts > 0 {
                return Look::Missing(format!(
                    "{doubts} of {} nodes still flag {} as failing",
                    status.asked,
                    cluster.name(*id)
                ));
            }
            if status.linked < status.asked {
                return Look::Missing(format!(
                    "{} of {} nodes have no bus link to {} yet",
                    status.asked - status.linked,
                    status.asked,
                    cluster.name(*id)
                ));
            }
        }
        let mut reports = diagnosis.observation.reports();
        if let Some((node, _)) = reports.find(|(_, report)| !report.cluster.ok) {
            return Look::Missing(format!("{node} reports cluster_state:fail"));
        }
        match blocking(cluster, &self.pending).first() {
            Some(finding) => Look::Missing(format!("{}: {}", finding.code, finding.message)),
            None => Look::Back,
        }
    }
}
