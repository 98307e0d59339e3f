//! From the names on the command line to a plan that can be shown: which nodes leave, what has to be done before, and
//! what forbids it.

use std::collections::BTreeSet;

use anyhow::anyhow;

use super::request::{LeaveRequest, members, named, refusals, stale_owners};
use super::silent_members;
use crate::cluster::health::Severity;
use crate::cluster::node::NodeId;
use crate::connections::Target;
use crate::ops::move_slots::{MethodRequest, PreparedMoves, at_rest, prepare_drain};
use crate::plan::leave::{self as planner, Leave, OwnedSlots, Refusal, Request};
use crate::report::{LeaveView, LeavingNode};
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
        self.leaving == other.leaving && self.leave == other.leave && same_moves
    }

    /// The masters that answer: no other redis-trib may be at work on one of them.
    pub(crate) fn lock(&self) -> Vec<Target> {
        let masters = self.state.diagnosis.topology.masters();
        let answering = masters.filter(|master| !master.peer_status.silent);
        let targets = answering.filter_map(|master| self.state.reach.get(&master.id).cloned());
        targets.collect()
    }
}

/// The cluster, and the members that the names stand for.
pub(crate) async fn look(
    session: &Session,
    names: &[String],
) -> Result<(ClusterState, BTreeSet<NodeId>), Stop> {
    let state = ClusterState::settled(session).await?;
    let (leaving, apart) = named(session, &state, names).await?;
    if apart.is_empty() {
        return Ok((state, leaving));
    }
    let mut targets = session.targets();
    targets.extend(apart);
    let state = ClusterState::look_from(session, &targets).await?;
    let (leaving, _) = named(session, &state, names).await?;
    Ok((state, leaving))
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
    let (state, leaving) = look(session, &request.names).await?;
    let state = at_rest(session, state, dry_run).await?;
    let planner_request = request.for_planner(&state, &leaving)?;
    let leave = planner::leave(&planner_request).map_err(|found| {
        let text = refusals(&state, &found, &request.names);
        Stop::refused(anyhow!("{text}\nNothing was changed."))
    })?;
    let dead = refuse_unhealthy(&state, &leaving, &leave)?;
    let mut warnings = Vec::new();
    if !dead.is_empty() {
        warnings.push(format!(
            "{} can't be told: if they come back, run the same command again so that they forget the nodes too (or \
             name them, so that they leave as well)",
            dead.join(", ")
        ));
    }
    let all = leave.moves();
    let moves = match all.is_empty() {
        true => None,
        false => Some(prepare_drain(session, &state, all, method).await?),
    };
    if let Some(moves) = &moves {
        warnings.extend(moves.warnings.iter().cloned());
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
        request: planner_request,
        state,
        leaving,
        leave,
        moves,
        warnings,
    })
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
            "these members do not answer, and would bring the nodes back: {}\nWait until they do, \
             or name them too, so that they leave as well; nothing was changed",
            silent.join(", ")
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
        .filter(|finding| finding.severity() == Severity::Error)
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
            let found = state.diagnosis.observation.find(name);
            found.map_err(|error| Stop::refused(anyhow!("--leave-unprotected: {error}")))
        };
        Ok(Request {
            members: members(state),
            leaving: leaving.clone(),
            slots: match self.drain {
                true => OwnedSlots::Drain,
                false => OwnedSlots::Refuse,
            },
            unprotected: self
                .unprotected
                .iter()
                .map(find)
                .collect::<Result<_, _>>()?,
        })
    }
}
