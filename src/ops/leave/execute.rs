//! Carries a [`LeavePlan`] out: slots and replicas get other masters, the nodes leave, and the rest is waited for.

use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, timeout};

use super::drain::{ReplicaMigrationGuard, give};
use super::prepare::LeavePlan;
use super::request::{LeaveRequest, LeftToRemove, members, refusals, resume};
use super::{Afterwards, leave, shut_down};
use crate::connections::Target;
use crate::converge::wait_for_copies;
use crate::migrate::MoveOptions;
use crate::ops::move_slots::{self, MethodRequest, prepare_drain};
use crate::plan::MovePlan;
use crate::plan::leave::{self as planner, Request};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;

/// For how long members refuse to add a forgotten node again (60 s in all versions), and a little more.
const BAN: Duration = Duration::from_secs(62);

/// How long the look may take that shows what is left to do.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// How the moves of a drain are made.
#[derive(Debug, Clone)]
pub(crate) struct DrainOptions {
    /// How the method of each pair is chosen.
    pub(crate) method: MethodRequest,
    /// The options of the lanes; `None` if no slots move.
    pub(crate) lanes: Option<MoveOptions>,
}

/// The nodes that have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaveReport {
    /// How many nodes left.
    pub(crate) left: usize,
    /// How many members stay.
    pub(crate) stay: usize,
}

/// Makes the nodes leave. A stop says how it is resumed.
pub(crate) async fn execute(
    session: &Session,
    plan: &LeavePlan,
    request: &LeaveRequest,
    options: &DrainOptions,
) -> Result<LeaveReport, Stop> {
    let removal = Removal {
        session,
        plan,
        request,
        options,
    };
    let state = match removal.remove().await {
        Ok(state) => state,
        Err(stop) => return Err(removal.resumed(stop).await),
    };
    if request.verify_after_ban {
        removal.verify_after_ban(&state).await?;
    }
    removal.wait_for_copies(&state).await?;
    let members = state.diagnosis.topology.members.keys();
    let stay = members.filter(|id| !plan.leaving.contains(id));
    Ok(LeaveReport {
        left: plan.leaving.len(),
        stay: stay.count(),
    })
}

struct Removal<'a> {
    session: &'a Session,
    plan: &'a LeavePlan,
    request: &'a LeaveRequest,
    options: &'a DrainOptions,
}

impl Removal<'_> {
    /// Returns the last state in which they were members.
    async fn remove(&self) -> Result<ClusterState, Stop> {
        self.drain().await?;
        let state = self.give_rest().await?;
        // The drain ends without an error if the slots in hand were the last ones.
        if let Some(signal) = self.session.interrupt.heard() {
            return Err(Stop::interrupted(anyhow!(
                "interrupted ({signal}): no node has left yet"
            )));
        }
        self.leave(&state).await?;
        Ok(state)
    }

    /// Adds the command that removes what is left.
    async fn resumed(&self, stop: Stop) -> Stop {
        let before = &self.plan.state;
        let leaving = &self.plan.leaving;
        let mut seeds = self.stayers(before);
        // A node that was reset has another id.
        let anyone = self.all_targets().into_iter();
        seeds.extend(anyone.map(|target| Target {
            node: None,
            ..target
        }));
        let look = timeout(LOOK_WITHIN, ClusterState::look_from(self.session, &seeds));
        let mut left = match look.await {
            Ok(Ok(now)) => LeftToRemove::of(&now, before, leaving, self.request.afterwards),
            // All of them, then: those that have left are found no more by their id.
            _ => LeftToRemove::all(leaving),
        };
        if self.request.afterwards == Afterwards::ShutDown {
            let gone = self.plan.gone.iter();
            left.names
                .extend(gone.map(|node| node.target.addr.to_string()));
        }
        stop.with_resume([resume(before, leaving, &left, self.request)])
    }

    /// Moves slots to other masters and gives replicas other masters. The masters keep their role meanwhile; their
    /// setting is restored in any case.
    async fn drain(&self) -> Result<(), Stop> {
        let (session, state, leave) = (self.session, &self.plan.state, &self.plan.leave);
        if leave.drain.is_empty() && leave.last.is_empty() {
            return Ok(());
        }
        let guard = ReplicaMigrationGuard::of(session, state, &self.plan.leaving).await;
        let work = async {
            self.move_away(state, &leave.drain).await?;
            if !leave.given.is_empty() {
                give(session, state, &leave.given).await?;
            }
            if !leave.last.is_empty() {
                let now = ClusterState::look(session).await?;
                self.move_away(&now, &leave.last).await?;
            }
            Ok(())
        };
        let outcome = work.await;
        guard.release().await;
        outcome
    }

    async fn move_away(&self, state: &ClusterState, plan: &MovePlan) -> Result<(), Stop> {
        let Some(lanes) = self.options.lanes.clone().filter(|_| !plan.is_empty()) else {
            return Ok(());
        };
        let session = self.session;
        let moves = prepare_drain(session, state, plan.clone(), self.options.method).await?;
        let report = move_slots::execute(session, state, &moves, lanes, None).await?;
        session
            .events
            .note(format!("slots that have moved away: {}", report.slots));
        Ok(())
    }

    /// Gives other masters to replicas of masters that had no slots to drain, and to replicas that came to follow one
    /// meanwhile. Plans again for the state after the drain, and returns the last state.
    async fn give_rest(&self) -> Result<ClusterState, Stop> {
        const ATTEMPTS: usize = 3;
        // A drained master may be a replica of the target of its slots now: no copy is lost with it.
        let mut request = self.plan.request.clone();
        let drained = self.plan.leave.moves();
        let drained = drained.moves().map(|one| one.from);
        request.unprotected.extend(drained);
        for _ in 0..ATTEMPTS {
            let now = ClusterState::look_from(self.session, &self.all_targets()).await?;
            let again = Request {
                members: members(&now),
                ..request.clone()
            };
            let rest = planner::leave(&again).map_err(|found| {
                Stop::refused(anyhow!("{}", refusals(&now, &found, &self.request.names)))
            })?;
            if !rest.moves().is_empty() {
                return Err(Stop::refused(anyhow!("slots came back meanwhile")));
            }
            if rest.given.is_empty() {
                return Ok(now);
            }
            give(self.session, &now, &rest.given).await?;
        }
        Err(Stop::refused(anyhow!(
            "new replicas followed the nodes {ATTEMPTS} times"
        )))
    }

    /// The seeds, and the nodes that leave: it may be that no other member knows them any more.
    fn all_targets(&self) -> Vec<Target> {
        let mut targets = self.session.targets();
        let state = &self.plan.state;
        let reports = state.diagnosis.observation.reports();
        let leaving = reports.filter(|(node, _)| self.plan.leaving.contains(&node.id));
        targets.extend(leaving.filter_map(|(node, _)| state.reach.get(&node.id).cloned()));
        targets
    }

    async fn leave(&self, state: &ClusterState) -> Result<(), Stop> {
        let afterwards = self.request.afterwards;
        let mut left = leave(self.session, state, &self.plan.leaving, afterwards).await;
        if afterwards == Afterwards::ShutDown {
            left.troubles.extend(self.shut_gone_down().await);
        }
        if !left.troubles.is_empty() {
            return Err(Stop::partial(anyhow!(
                "not all of this is done:\n  {}",
                left.troubles.join("\n  ")
            )));
        }
        if afterwards == Afterwards::ShutDown {
            self.hint_restarts(state);
        }
        Ok(())
    }

    /// Shuts down the nodes that had left before. Returns what failed.
    async fn shut_gone_down(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        for node in &self.plan.gone {
            let stopped = shut_down(&self.session.connections, &node.target, node.id);
            if let Err(why) = stopped.await {
                let addr = &node.target.addr;
                troubles.push(format!("{addr} has left, but was not shut down: {why}"));
            }
        }
        troubles
    }

    /// Names nodes that a container service or a supervisor starts again.
    fn hint_restarts(&self, state: &ClusterState) {
        for id in &self.plan.leaving {
            let node = state.diagnosis.observation.nodes.get(id);
            let info = node.and_then(|node| Some(&node.report()?.info));
            if info.is_some_and(|info| info.process_id == Some(1)) {
                self.session.events.hint(format!(
                    "{} was the first process of a container; if a service starts it again: docker service rm \
                     SERVICE",
                    state.name(*id)
                ));
            } else if info.is_some_and(|info| info.supervised) {
                self.session.events.hint(format!(
                    "{} is run by a supervisor that may start it again: systemctl disable SERVICE",
                    state.name(*id)
                ));
            }
        }
    }

    /// Waits until the ban is over, and looks for members that know the nodes.
    async fn verify_after_ban(&self, state: &ClusterState) -> Result<(), Stop> {
        let until = Instant::now() + BAN;
        let waiting = async {
            loop {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let seconds = left.as_secs();
                self.session.events.waiting(format!(
                    "{seconds} s until members may add forgotten nodes again (--verify-after-ban)"
                ));
                tokio::time::sleep(left.min(Duration::from_secs(1))).await;
            }
            ClusterState::look_from(self.session, &self.stayers(state)).await
        };
        let now = match self.session.interrupt.stops(waiting).await {
            Ok(now) => now?,
            Err(signal) => {
                return Err(Stop::interrupted(anyhow!(
                    "interrupted ({signal}): the nodes have left; whether members add them again was not checked"
                )));
            }
        };
        let back: Vec<String> = self
            .plan
            .leaving
            .iter()
            .filter(|id| now.diagnosis.topology.members.contains_key(id))
            .map(|id| now.name(*id))
            .collect();
        if back.is_empty() {
            return Ok(());
        }
        let stop = Stop::partial(anyhow!(
            "members again after the ban: {}; a member that did not forget them brought them back",
            back.join(", ")
        ));
        Err(self.resumed(stop).await)
    }

    /// Waits for the full resync of replicas with other masters, which goes on without us.
    async fn wait_for_copies(&self, state: &ClusterState) -> Result<(), Stop> {
        if self.plan.leave.given.is_empty() && self.plan.leave.moves().is_empty() {
            return Ok(());
        }
        let (before, left) = (&self.plan.state, &self.plan.leaving);
        let seeds = self.stayers(state);
        let waiting = wait_for_copies(self.session, &seeds, before, left);
        waiting.await.map_err(|signal| {
            Stop::interrupted(anyhow!(
                "interrupted ({signal}): the nodes have left; replicas that got other masters may still be \
                 receiving their copies"
            ))
        })
    }

    /// Some members that stay, by which the cluster is found again.
    fn stayers(&self, state: &ClusterState) -> Vec<Target> {
        const ENOUGH: usize = 5;
        let reports = state.diagnosis.observation.reports();
        let stay = reports.filter(|(node, _)| !self.plan.leaving.contains(&node.id));
        stay.filter_map(|(node, _)| state.reach.get(&node.id).cloned())
            .take(ENOUGH)
            .collect()
    }
}
