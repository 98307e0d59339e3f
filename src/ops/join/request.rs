//! What `add-node` is asked for, and what follows from it for the cluster as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;

use super::candidates::{
    Allowed, JoinCandidate, JoinCandidates, JoinRules, MemberNamed, NewLibraries, judge,
};
use super::inspect::{NewNode, inspect};
use super::plan::{JoinPlan, Part};
use super::target::JoinTarget;
use super::zones::ZoneRules;
use crate::cluster::node::{NodeId, Role};
use crate::cluster::slot::SLOTS;
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::plan::MovePlan;
use crate::plan::reshard::{self, Request, Sources, What};
use crate::report::JoinView;
use crate::resolve::find_member;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;

/// What `add-node` is asked for.
pub(crate) struct JoinRequest {
    pub(crate) role: RequestedRole,
    pub(crate) allowed: Allowed,
    pub(crate) zones: ZoneRules,
    /// Whether new masters get their share of the slots.
    pub(crate) fill: bool,
    pub(crate) libraries: NewLibraries,
    pub(crate) member_named: MemberNamed,
}

/// The role of the new nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestedRole {
    Masters,
    /// Replicas of the masters with the fewest replicas.
    Replicas,
    /// Replicas of this master, by id or address.
    ReplicasOf(String),
}

/// The cluster and the new nodes before any change.
pub(crate) struct Inspected {
    pub(crate) target: JoinTarget,
    pub(crate) nodes: Vec<NewNode>,
}

impl Inspected {
    /// Reads the cluster that `session` names, and the nodes that `new` names.
    pub(crate) async fn read(
        session: &Session,
        new: &Session,
        start_timeout: Option<Duration>,
    ) -> Result<Self, Stop> {
        let target = JoinTarget::visit(session).await?;
        let nodes = inspect(new, start_timeout).await;
        // The cluster was reached; that no new node was is a refusal.
        let nodes = nodes.map_err(|stop| match stop.code {
            ExitCode::Unreachable => Stop::refused(stop.error.context("nothing was changed")),
            _ => stop,
        })?;
        Ok(Self { target, nodes })
    }

    /// All nodes, members and new ones.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let new = self.nodes.iter().map(|node| node.target.clone());
        self.target.targets().into_iter().chain(new).collect()
    }
}

/// What `add-node` is about to do.
pub(crate) struct JoinProposal {
    pub(crate) target: JoinTarget,
    pub(crate) candidates: Vec<JoinCandidate>,
    /// Nodes that are members already and are left alone, in words.
    pub(crate) members: Vec<String>,
    pub(crate) part: Part,
    /// All nodes, members and new ones.
    pub(crate) targets: Vec<Target>,
    /// `None` if there are no candidates.
    pub(crate) view: Option<JoinView>,
}

impl JoinProposal {
    /// Checks the nodes, and plans how they join.
    pub(crate) async fn of(
        session: &Session,
        new: &Session,
        inspected: Inspected,
        request: &JoinRequest,
    ) -> Result<Self, Stop> {
        let targets = inspected.targets();
        let Inspected { target, nodes } = inspected;
        let part = request.role.part(&target)?;
        let JoinCandidates {
            nodes: candidates,
            warnings,
            members,
        } = judge(
            new,
            &target,
            nodes,
            JoinRules {
                part,
                allowed: request.allowed,
                libraries: request.libraries,
                member_named: request.member_named,
            },
        )
        .await?;
        let mut proposal = Self {
            target,
            candidates,
            members,
            part,
            targets,
            view: None,
        };
        if proposal.candidates.is_empty() {
            return Ok(proposal);
        }
        let (target, candidates) = (&proposal.target, &proposal.candidates);
        let plan = JoinPlan::of(session, target, candidates, part, &request.zones).await?;
        let ids: Vec<NodeId> = candidates.iter().map(|new| new.node.id()).collect();
        let shares = match request.fill {
            true => fair_shares(owners(&target.cluster), &ids, usize::from(SLOTS)),
            false => BTreeMap::new(),
        };
        proposal.view = Some(plan.view(target, candidates, &warnings, &shares));
        Ok(proposal)
    }
}

impl RequestedRole {
    /// Finds the master that is named.
    fn part(&self, target: &JoinTarget) -> Result<Part, Stop> {
        let name = match self {
            Self::Masters => return Ok(Part::Masters),
            Self::Replicas => return Ok(Part::Replicas),
            Self::ReplicasOf(name) => name,
        };
        let observation = &target.cluster.diagnosis.observation;
        let id = find_member(observation, name).map_err(Stop::refused)?;
        match target.member(id) {
            Some(member) if member.role == Role::Replica => {
                let of = match member.master {
                    Some(master) => format!(
                        " of {}: name that master instead",
                        target.cluster.name(master)
                    ),
                    None => ": name a master".to_string(),
                };
                Err(Stop::refused(anyhow!(
                    "--master-id: {} is a replica{of}; nothing was changed",
                    target.cluster.name(id)
                )))
            }
            Some(member) if member.peer_status.silent => Err(Stop::refused(anyhow!(
                "--master-id: {} {}, so no replica can sync with it; nothing was changed",
                target.cluster.name(id),
                target.cluster.diagnosis.observation.why_absent(id)
            ))),
            _ => Ok(Part::ReplicasOf(id)),
        }
    }
}

/// Plans the moves that give new masters their share of the slots. Each other master gives in proportion to what it
/// owns.
pub(crate) fn fill_plan(cluster: &ClusterState, joined: &[NodeId]) -> Result<MovePlan, Stop> {
    let shares = fair_shares(owners(cluster), joined, usize::from(SLOTS));
    let request = Request {
        masters: cluster.owners(),
        what: What::Count {
            slots: shares.values().sum(),
            from: Sources::All,
            to: joined.to_vec(),
        },
    };
    reshard::reshard(&request).map_err(Stop::refused)
}

/// How many masters own slots.
fn owners(cluster: &ClusterState) -> usize {
    let owners = cluster.owners();
    owners
        .iter()
        .filter(|owner| !owner.slots.is_empty())
        .count()
}

/// How many slots each new master gets, if all masters get the same number. The first ones get one more if that does
/// not come out even.
fn fair_shares(owners: usize, candidates: &[NodeId], slots: usize) -> BTreeMap<NodeId, usize> {
    let masters = owners + candidates.len();
    let all = slots * candidates.len() / masters.max(1);
    let (each, more) = (all / candidates.len().max(1), all % candidates.len().max(1));
    candidates
        .iter()
        .enumerate()
        .map(|(index, id)| (*id, each + usize::from(index < more)))
        .collect()
}
