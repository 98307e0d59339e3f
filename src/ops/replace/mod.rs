//! How a new node replaces an old one: it joins, gets a copy, takes over, and the old node leaves.
//!
//! Each step shows in the cluster once it is done, so an interrupted run is continued by the same command.

mod route;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;

use self::route::ReplaceRoute;
use crate::client::Reset;
use crate::cluster::health::Code;
use crate::cluster::naming::NoSuchNode;
use crate::cluster::node::{NodeId, Role, Takeover};
use crate::connections::Target;
use crate::converge::settle::settled;
use crate::converge::{Goal, KnownBy, Watch};
use crate::event::Event;
use crate::ops::failover;
use crate::ops::join::inspect::NewNode;
use crate::ops::join::zones::ZoneRules;
use crate::ops::join::{
    Allowed, GoOn, JoinCandidate, JoinPlan, JoinRules, JoinTarget, Joining, MemberNamed,
    NewLibraries, Until, judge,
};
use crate::ops::leave::{Afterwards, leave, silent_members};
use crate::plan::failover::{Decision, NamedMember, Request};
use crate::report::{Before, Node, ReplaceStep, ReplaceView, standing_words};
use crate::resolve::find_member;
use crate::session::Session;
use crate::state::{ClusterState, name};
use crate::stop::Stop;

/// What is asked for.
pub(crate) struct ReplaceRequest {
    /// The node that leaves, as it was named.
    pub(crate) old: String,
    /// What the new node may lose.
    pub(crate) allowed: Allowed,
    /// Where nodes stand.
    pub(crate) zones: ZoneRules,
    /// The timeout for the join, and for the wait until all nodes agree after the failover.
    pub(crate) join_timeout: Duration,
    /// The timeout for the first full resync.
    pub(crate) sync_timeout: Duration,
}

/// What is done for a request.
pub(crate) enum ReplaceDecision {
    /// The new node is a member, and the old one is not.
    NoChange {
        /// That, in words.
        message: String,
        /// The nodes on which no other operator may be at work.
        lock: Vec<Target>,
    },
    /// The node is replaced.
    Replace(Box<ReplacePlan>),
}

/// A replacement, and the cluster for which it was planned.
pub(crate) struct ReplacePlan {
    home: JoinTarget,
    lock: Vec<Target>,
    old: NodeId,
    new: NewNode,
    /// The new node as `judge` sees it, if it has not joined yet.
    candidate: Option<JoinCandidate>,
    route: ReplaceRoute,
    /// What people should know.
    pub(crate) warnings: Vec<String>,
}

/// Plans a replacement. `new_nodes` is what the new address stands for.
pub(crate) async fn plan(
    session: &Session,
    new_session: &Session,
    home: JoinTarget,
    new_nodes: Vec<NewNode>,
    request: &ReplaceRequest,
) -> Result<ReplaceDecision, Stop> {
    let lock = [home.targets(), new_session.targets()].concat();
    let old = match find_member(&home.cluster.diagnosis.observation, &request.old) {
        Ok(id) => id,
        // A complete id is no typing error for another one.
        Err(NoSuchNode::Unknown(_)) if request.old.parse::<NodeId>().is_ok() => {
            return already_replaced(&home, &new_nodes, &request.old, lock);
        }
        Err(error) => return Err(Stop::refused(error)),
    };
    let none = || Stop::refused(anyhow!("the new address stands for no node"));
    let new = new_nodes.first().cloned().ok_or_else(none)?;
    let route = ReplaceRoute::of(&home, old, &new);
    let mut route =
        route.map_err(|error| Stop::refused(anyhow!("{error}; nothing was changed")))?;
    let mut candidate = None;
    let mut warnings = Vec::new();
    if let Some(part) = route.joins {
        let rules = JoinRules {
            part,
            allowed: request.allowed,
            libraries: NewLibraries::SameAllowed,
            member_named: MemberNamed::Refused,
        };
        let judged = judge(new_session, &home, new_nodes, rules).await?;
        warnings.extend(judged.warnings);
        let judged = judged.nodes.into_iter().next().ok_or_else(none)?;
        let candidates = std::slice::from_ref(&judged);
        let join = JoinPlan::of(session, &home, candidates, part, &request.zones).await?;
        route.master = join.masters.get(&new.id()).copied();
        candidate = Some(judged);
    }
    if let (true, Some(version)) = (route.takes_over, new.report.info.version) {
        let too_old = failover::too_old_for(&home.cluster, old, &new.name(), version);
        warnings.extend(too_old);
    }
    Ok(ReplaceDecision::Replace(Box::new(ReplacePlan {
        home,
        lock,
        old,
        new,
        candidate,
        route,
        warnings,
    })))
}

/// No node has the old id: that is success if the new node is a member.
fn already_replaced(
    home: &JoinTarget,
    new_nodes: &[NewNode],
    old: &str,
    lock: Vec<Target>,
) -> Result<ReplaceDecision, Stop> {
    let new = new_nodes.iter().find(|new| home.member(new.id()).is_some());
    let Some(new) = new else {
        return Err(Stop::refused(anyhow!(
            "{old} is not a node of this cluster; nothing was changed"
        )));
    };
    Ok(ReplaceDecision::NoChange {
        message: format!(
            "{} is a member, and no node knows {old} any more: nothing to do.",
            new.name()
        ),
        lock,
    })
}

impl ReplacePlan {
    /// The nodes on which no other operator may be at work.
    pub(crate) fn lock(&self) -> Vec<Target> {
        self.lock.clone()
    }

    /// The cluster.
    pub(crate) fn cluster(&self) -> &ClusterState {
        &self.home.cluster
    }

    /// Whether the same steps are done with the same nodes.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let of = |plan: &Self| (plan.old, plan.new.id(), plan.before(), plan.route);
        of(self) == of(other)
    }

    /// What is done to the new node before it joins.
    fn before(&self) -> Before {
        let candidate = self.candidate.as_ref();
        candidate.map_or(Before::Nothing, |candidate| candidate.before)
    }

    /// The plan, as it is shown.
    pub(crate) fn view(&self) -> ReplaceView {
        let diagnosis = &self.home.cluster.diagnosis;
        let member = self.home.member(self.old);
        let answers = member.is_some_and(|member| !member.peer_status.silent);
        let master = member.and_then(|member| member.master);
        let master = master.map(|id| name(diagnosis, id));
        let mut steps = Vec::new();
        match (self.route.joins, self.route.master) {
            (Some(_), Some(master)) => {
                steps.push(ReplaceStep::Follows(name(diagnosis, master)));
            }
            (Some(_), None) => steps.push(ReplaceStep::Joins),
            (None, _) => {}
        }
        if self.route.takes_over {
            steps.push(ReplaceStep::TakesOver);
        }
        steps.push(ReplaceStep::Leaves);
        ReplaceView {
            old: name(diagnosis, self.old),
            what: standing_words(
                member.map_or(0, |member| member.slots.count()),
                master.as_ref(),
                answers,
            ),
            answers,
            new: Node {
                id: self.new.id(),
                addr: self.new.target.addr.clone(),
                role: Role::Master,
                zone: None,
            },
            before: self.before(),
            steps,
        }
    }
}

/// Carries out the plan; returns what was done, in words.
pub(crate) async fn execute(
    session: &Session,
    plan: ReplacePlan,
    request: &ReplaceRequest,
) -> Result<String, Stop> {
    let ReplacePlan {
        home,
        old,
        new,
        candidate,
        route,
        ..
    } = plan;
    let mut id = new.id();
    if let (Some(part), Some(candidate)) = (route.joins, candidate) {
        let joining = Joining {
            session,
            target: &home,
            candidates: vec![candidate],
            part,
            zones: &request.zones,
            within: request.join_timeout,
            until: match route.master {
                // The copy has a timeout of its own.
                Some(_) => Until::Agreed,
                None => Until::Usable,
            },
            afterwards: GoOn::SameCommand,
        };
        // A hard reset changes the id.
        id = joining.run().await?.joined.first().copied().unwrap_or(id);
        session.events.send(Event::Added { nodes: 1 });
    }
    let replacement = Replacement {
        session,
        old,
        old_name: home.cluster.name(old),
        new: id,
    };
    let handed_over = async {
        if route.master.is_some() {
            replacement.wait_for_copy(request.sync_timeout).await?;
        }
        if route.takes_over {
            replacement.take_over(request.join_timeout).await?;
        }
        Ok::<(), Stop>(())
    };
    match session.interrupt.stops(handed_over).await {
        Ok(done) => done?,
        Err(signal) => {
            return Err(Stop::interrupted(anyhow!(
                "interrupted ({signal}): {} is a member, and {} has not left the cluster yet. {AGAIN}",
                new.target.addr,
                replacement.old_name
            )));
        }
    }
    replacement.remove_old().await
}

/// What continues an interrupted replacement.
const AGAIN: &str = "Run the same command again to continue";

/// A replacement whose new node has joined.
struct Replacement<'a> {
    session: &'a Session,
    old: NodeId,
    old_name: String,
    new: NodeId,
}

impl Replacement<'_> {
    /// Waits until the new node has its copy.
    async fn wait_for_copy(&self, within: Duration) -> Result<(), Stop> {
        let cluster = ClusterState::look(self.session).await.map_err(joined)?;
        let members = &cluster.diagnosis.topology.members;
        let Some(master) = members.get(&self.new).and_then(|member| member.master) else {
            return Err(Stop::partial(anyhow!(
                "{} has no master any more: another operator has changed it. {AGAIN}",
                cluster.name(self.new)
            )));
        };
        let participants = cluster.participants(self.session).await;
        let (mut participants, absent) = participants.map_err(joined)?;
        participants.retain(|id, _| *id == self.new);
        let goal = Arc::new(Goal {
            slots: Default::default(),
            masters: [(self.new, master)].into(),
            roles_known_by: KnownBy::TheirMasters,
        });
        let connections = Arc::clone(&self.session.connections);
        let events = self.session.events.sender();
        let watch = Watch::new(connections, participants, absent, events, within);
        let late = |late: &dyn std::fmt::Display| {
            Stop::partial(anyhow!(
                "{late}\n--sync-timeout sets a longer wait. {AGAIN}"
            ))
        };
        let copying = watch.usable(&goal).await.map_err(|error| late(&error))?;
        match copying.first() {
            None => Ok(()),
            Some(copying) => Err(late(&format!(
                "{copying} after {}",
                humantime::format_duration(within)
            ))),
        }
    }

    /// Fails over from the old node to the new one.
    async fn take_over(&self, within: Duration) -> Result<(), Stop> {
        let request = |_: &ClusterState| {
            Ok(Request {
                member: NamedMember::To(self.new),
                how: Takeover::Planned,
                accepted: BTreeSet::new(),
            })
        };
        let planned = failover::observe_and_plan(self.session, request).await;
        let (cluster, decision) = planned.map_err(joined)?;
        let decision = decision.map_err(|error| joined(Stop::partial(error)))?;
        let Decision::FailOver(plan) = decision else {
            return Ok(());
        };
        if plan.master != self.old {
            // The servers elected another replica meanwhile, which is not to be replaced.
            return Err(Stop::partial(anyhow!(
                "{} is a replica of {} now, since {} is no longer the master: there is no failover from that node. \
                 {AGAIN}",
                cluster.name(self.new),
                cluster.name(plan.master),
                self.old_name
            )));
        }
        match failover::carry_out(self.session, &cluster, &plan, within).await {
            Ok(report) => {
                let event = Event::FailedOver(Box::new(report));
                self.session.events.send(event);
                Ok(())
            }
            Err(error) => Err(Stop::partial(anyhow!(
                "{error}\n{} is a member, and {} has not left the cluster yet. {AGAIN}",
                cluster.name(self.new),
                self.old_name
            ))),
        }
    }

    /// Removes the old node, once nothing depends on it.
    async fn remove_old(&self) -> Result<String, Stop> {
        // A member that restarts would bring the old node back.
        let cluster = settled(self.session, |_, finding| {
            let is_silent = matches!(
                finding.code,
                Code::NodeUnreachable | Code::SlotlessUnreachable | Code::AddressUnreachable
            );
            is_silent && !finding.nodes.contains(&self.old)
        });
        let cluster = cluster.await.map_err(joined)?;
        let (old, new) = (cluster.name(self.old), cluster.name(self.new));
        let topology = &cluster.diagnosis.topology;
        if let Some(member) = topology.members.get(&self.old) {
            let has_replicas = topology.replicas_of(self.old).next().is_some();
            if !member.slots.is_empty() || has_replicas {
                return Err(Stop::partial(anyhow!(
                    "{old} owns slots or has replicas again: another operator has changed it. {AGAIN}"
                )));
            }
        }
        let leaving = [self.old].into();
        let (silent, dead) = silent_members(&cluster, &leaving);
        if !silent.is_empty() {
            return Err(Stop::partial(anyhow!(
                "{new} has replaced {old}, but {old} has not left the cluster yet: these members do not answer, and would \
                 bring it back:\n  {}\n{AGAIN}, once they answer",
                silent.join("\n  ")
            )));
        }
        if !dead.is_empty() {
            self.session.events.warn(format!(
                "{} can't be told: if they come back, redis-trib del-node {} {} makes them forget {old}",
                dead.join(", "),
                cluster.resume_seed(),
                self.old
            ));
        }
        let left = leave(
            self.session,
            &cluster,
            &leaving,
            Afterwards::RunReset(Reset::Hard),
        )
        .await;
        if !left.troubles.is_empty() {
            return Err(Stop::partial(anyhow!(
                "{new} has replaced {old}, but {old} has not left the cluster yet:\n  {}\n{AGAIN}",
                left.troubles.join("\n  ")
            )));
        }
        Ok(format!("[OK] {new} has replaced {old}."))
    }
}

/// Adds how far the replacement is.
fn joined(stop: Stop) -> Stop {
    Stop {
        error: anyhow!("{:#}\nThe new node has joined. {AGAIN}", stop.error),
        ..stop
    }
}
