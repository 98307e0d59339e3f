//! From the names on the command line to a plan that can be shown: which nodes leave, what has to be done before, and
//! what forbids it.

use std::collections::BTreeSet;

use anyhow::anyhow;

use super::request::{GoneNode, LeaveRequest, Unprotected, members, named, refusals, stale_owners};
use super::{Afterwards, silent_members};
use crate::cluster::health::{Code, Finding};
use crate::cluster::node::NodeId;
use crate::cluster::observation::Seen;
use crate::connections::Target;
use crate::converge::settle::settled;
use crate::ops::move_slots::{MethodRequest, PreparedMoves, at_rest, prepare_drain};
use crate::ops::raft::{self, Obstacle};
use crate::plan::leave::{self as planner, Leave, OwnedSlots, Refusal, Request};
use crate::report::{LeaveView, LeavingNode};
use crate::resolve::find_member;
use crate::session::Session;
use crate::state::{ClusterState, name};
use crate::stop::Stop;

/// Nodes that leave, and what is done before.
pub(crate) struct LeavePlan {
    /// The state that it was planned for.
    pub(crate) state: ClusterState,
    /// The nodes that leave.
    pub(crate) leaving: BTreeSet<NodeId>,
    /// What was asked of the planner.
    pub(super) request: Request,
    /// What is done before they leave.
    pub(super) leave: Leave,
    /// Nodes that were named and have left already.
    pub(crate) gone: Vec<GoneNode>,
    /// All moves of slots; `None` if no slots move.
    pub(crate) moves: Option<PreparedMoves>,
    /// What is shown of the nodes.
    pub(crate) view: LeaveView,
    /// What the user should know before the nodes leave.
    pub(crate) warnings: Vec<String>,
}

impl LeavePlan {
    /// Whether the same nodes leave after the same changes.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same_moves = match (&self.moves, &other.moves) {
            (Some(one), Some(other)) => one.is_same(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let gone = |plan: &Self| -> Vec<NodeId> { plan.gone.iter().map(|one| one.id).collect() };
        self.leaving == other.leaving
            && gone(self) == gone(other)
            && self.leave == other.leave
            && same_moves
    }

    /// The masters that answer: no other redis-trib may be at work on one of them.
    pub(crate) fn lock(&self) -> Vec<Target> {
        let masters = self.state.diagnosis.topology.masters();
        let answering = masters.filter(|master| !master.peer_status.silent);
        let targets = answering.filter_map(|master| self.state.reach.get(&master.id).cloned());
        targets.collect()
    }
}

/// The cluster, and the nodes that the names stand for.
pub(crate) struct Looked {
    pub(crate) state: ClusterState,
    /// Those that leave.
    pub(crate) leaving: BTreeSet<NodeId>,
    /// Those that have left already.
    pub(crate) gone: Vec<GoneNode>,
}

/// Looks at the cluster, and finds the nodes that the names stand for.
pub(crate) async fn look(session: &Session, names: &[String]) -> Result<Looked, Stop> {
    let state = settled(session, |state, finding| is_obstacle(state, finding, names)).await?;
    raft::refuse(&state, Obstacle::Forgets)?;
    let nodes = named(session, &state, names).await?;
    if nodes.apart.is_empty() {
        return Ok(Looked {
            state,
            leaving: nodes.ids,
            gone: nodes.gone,
        });
    }
    let mut targets = session.targets();
    targets.extend(nodes.apart);
    let state = ClusterState::look_from(session, &targets).await?;
    let nodes = named(session, &state, names).await?;
    Ok(Looked {
        state,
        leaving: nodes.ids,
        gone: nodes.gone,
    })
}

/// Whether nodes can't leave while there is this finding. Findings about the nodes that leave do not matter.
fn is_obstacle(state: &ClusterState, finding: &Finding, names: &[String]) -> bool {
    let leaves = |id: &NodeId| {
        let mut named = names.iter();
        named.any(|name| state.diagnosis.observation.find(name).ok() == Some(*id))
    };
    let is_about_leavers = !finding.nodes.is_empty() && finding.nodes.iter().all(leaves);
    // A member that does not answer would bring the nodes back.
    let is_obstacle = finding.blocks_changes() || finding.code == Code::SlotlessUnreachable;
    is_obstacle && !is_about_leavers
}

/// Whether slots are open between one of these nodes and another one.
pub(crate) fn is_open(state: &ClusterState, leaving: &BTreeSet<NodeId>) -> bool {
    let mut open = state.diagnosis.topology.open_slots();
    open.any(|(member, open)| leaving.contains(&member.id) || leaving.contains(&open.peer))
}

/// The refusals, if the only reason not to let the nodes leave is that they own slots: these could be moved first.
pub(crate) fn only_slots_forbid(
    state: &ClusterState,
    leaving: &BTreeSet<NodeId>,
    request: &LeaveRequest,
) -> Result<Option<String>, Stop> {
    let planned = planner::leave(&request.for_planner(state, leaving)?);
    let of_slots = |refusal: &Refusal| matches!(refusal, Refusal::OwnsSlots { .. });
    Ok(planned
        .err()
        .filter(|found| found.iter().all(of_slots))
        .map(|found| refusals(state, &found, &request.names)))
}

/// Plans what is done, on the cluster as it is once no ASM task runs.
pub(crate) async fn prepare(
    session: &Session,
    request: &LeaveRequest,
    method: MethodRequest,
    dry_run: bool,
) -> Result<LeavePlan, Stop> {
    let Looked {
        state,
        leaving,
        gone,
    } = look(session, &request.names).await?;
    let state = at_rest(session, state, dry_run).await?;
    refuse_refusing(&state, &leaving)?;
    let planner_request = request.for_planner(&state, &leaving)?;
    let leave = match planner::leave(&planner_request) {
        Ok(leave) => leave,
        Err(found) => {
            session.refuse_if_at_work(&state.answering()).await?;
            let text = refusals(&state, &found, &request.names);
            return Err(Stop::refused(anyhow!("{text}\nNothing was changed.")));
        }
    };
    let dead = match leaving.is_empty() {
        // Those that were named have left: nothing depends on the members.
        true => Vec::new(),
        false => refuse_unhealthy(&state, &leaving, &leave)?,
    };
    let mut warnings = Vec::new();
    if !dead.is_empty() {
        warnings.push(format!(
            "{} can't be told: if they come back, run the same command again so that they forget the nodes too (or \
             name them, so that they leave as well)",
            dead.join(", ")
        ));
    }
    let after = match request.afterwards {
        Afterwards::RunReset(_) => "",
        Afterwards::ShutDown => ", and is shut down",
    };
    warnings.extend(
        gone.iter()
            .map(|node| format!("{} has left the cluster already{after}", node.target.addr)),
    );
    let all = leave.moves();
    let moves = match all.is_empty() {
        true => None,
        false => Some(prepare_drain(session, &state, all, method).await?),
    };
    if let Some(moves) = &moves {
        warnings.extend(moves.view.warnings.iter().cloned());
        let owners = state.diagnosis.topology.masters();
        let owners = owners.filter(|m| !m.slots.is_empty() && !leaving.contains(&m.id));
        if owners.count() < 3 {
            warnings.push(
                "fewer than three masters with slots stay: when one of them fails, the others can't elect its \
                 successor"
                    .to_string(),
            );
        }
    }
    Ok(LeavePlan {
        view: view(&state, &leaving, &leave),
        gone,
        request: planner_request,
        state,
        leaving,
        leave,
        moves,
        warnings,
    })
}

/// Refuses nodes that run but answer with an error, or load their data set: they would keep the cluster in their list, and
/// their data.
fn refuse_refusing(state: &ClusterState, leaving: &BTreeSet<NodeId>) -> Result<(), Stop> {
    let nodes = leaving
        .iter()
        .filter_map(|id| state.diagnosis.observation.nodes.get(id));
    let refusing: Vec<String> = nodes
        .filter(|node| matches!(node.seen, Seen::Refused(_) | Seen::Loading))
        .map(|node| format!("{node} {}", node.why_absent()))
        .collect();
    if refusing.is_empty() {
        return Ok(());
    }
    Err(Stop::refused(anyhow!(
        "these nodes run, and can't be told to leave:\n  {}\nTry again once they answer, or stop them first; nothing \
         was changed",
        refusing.join("\n  ")
    )))
}

/// Refuses a cluster on which the nodes can't leave now; returns the members that are down and stay.
fn refuse_unhealthy(
    state: &ClusterState,
    leaving: &BTreeSet<NodeId>,
    leave: &Leave,
) -> Result<Vec<String>, Stop> {
    let (silent, dead) = silent_members(state, leaving);
    if !silent.is_empty() {
        return Err(Stop::refused(anyhow!(
            "these members do not answer, and would bring the nodes back:\n  {}\nWait until they do, \
             or name them too, so that they leave as well; nothing was changed",
            silent.join("\n  ")
        )));
    }
    if let Some(why) = stale_owners(state, leaving) {
        return Err(Stop::refused(anyhow!("{why}; nothing was changed")));
    }
    if leave.drain.is_empty() && leave.last.is_empty() {
        return Ok(dead);
    }
    let findings = state.diagnosis.findings.iter();
    let errors: Vec<String> = findings
        .filter(|finding| finding.blocks_changes())
        // Errors of the nodes that leave do not matter.
        .filter(|finding| {
            finding.nodes.is_empty() || finding.nodes.iter().any(|id| !leaving.contains(id))
        })
        .map(|finding| format!("\n  {}: {}", finding.code, finding.message))
        .collect();
    if errors.is_empty() {
        return Ok(dead);
    }
    Err(Stop::refused(anyhow!(
        "the cluster is not healthy, and slots move between healthy nodes only:{}",
        errors.concat()
    )))
}

fn view(state: &ClusterState, leaving: &BTreeSet<NodeId>, leave: &Leave) -> LeaveView {
    let diagnosis = &state.diagnosis;
    let members = diagnosis.topology.reading_order().into_iter();
    let leavers = members.filter(|member| leaving.contains(&member.id));
    let given = leave.given.iter();
    LeaveView {
        lead: state.seed(),
        leavers: leavers
            .map(|member| LeavingNode {
                node: name(diagnosis, member.id),
                slots: member.slots.count(),
                answers: !member.peer_status.silent,
            })
            .collect(),
        given: given
            .map(|one| (name(diagnosis, one.replica), name(diagnosis, one.to)))
            .collect(),
    }
}

impl LeaveRequest {
    /// The same for the planner.
    fn for_planner(
        &self,
        state: &ClusterState,
        leaving: &BTreeSet<NodeId>,
    ) -> Result<Request, Stop> {
        let find = |name: &String| {
            let found = find_member(&state.diagnosis.observation, name);
            found.map_err(|error| Stop::refused(anyhow!("--leave-unprotected: {error}")))
        };
        Ok(Request {
            members: members(state),
            leaving: leaving.clone(),
            slots: match self.drain {
                true => OwnedSlots::Drain,
                false => OwnedSlots::Refuse,
            },
            unprotected: match &self.unprotected {
                Unprotected::Named(names) => names.iter().map(find).collect::<Result<_, _>>()?,
                Unprotected::All => leaving.clone(),
            },
        })
    }
}
