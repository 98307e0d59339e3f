//! Carries out a roll, step by step. Each step is chosen from the cluster as it is then.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;
use tokio::time::Instant;

use super::hook::{self, HookNode};
use super::wait::{Before, Wait};
use super::{
    Restart, RollPlan, RollRequest, explain, run_id, session_of, state, version, waits_for,
};
use crate::cluster::node::{Addr, NodeId, Role, Takeover};
use crate::converge::settle::passed;
use crate::event::{Event, RestartedNode};
use crate::ops::failover::{self, carry_out_leaving};
use crate::plan::failover::{Decision, NamedMember, Request};
use crate::plan::roll::{self, RollStep};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::{CommandLine, Stop};

/// What a roll did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rolled {
    /// The nodes that were restarted.
    pub(crate) restarted: usize,
    /// The failovers.
    pub(crate) failovers: usize,
}

/// Carries out the plan. `ask` asks a person to restart a node (`--pause`).
pub(crate) async fn execute(
    session: &Session,
    plan: RollPlan,
    request: &RollRequest,
    ask: impl AsyncFn(&str) -> Result<(), Stop>,
) -> Result<Rolled, Stop> {
    let mut roll = Roll {
        session,
        request,
        done: plan.done.clone(),
        pending: plan.pending.clone(),
        plan,
        rolled: Rolled::default(),
        in_hand: None,
    };
    // A second signal stops at once, whatever is under way.
    let outcome = tokio::select! {
        biased;
        outcome = roll.run(&ask) => outcome,
        () = session.interrupt.forced() => Err(Stop::interrupted(anyhow!("interrupted twice"))),
    };
    outcome
        .map(|()| roll.rolled)
        .map_err(|stop| roll.stopped(stop))
}

/// A roll in progress.
struct Roll<'a> {
    session: &'a Session,
    request: &'a RollRequest,
    plan: RollPlan,
    /// The nodes that are done, with the ids of their processes.
    done: BTreeMap<NodeId, String>,
    pending: BTreeSet<NodeId>,
    rolled: Rolled,
    /// The nodes in hand, of which it is not known whether they have restarted.
    in_hand: Option<Vec<NodeId>>,
}

impl Roll<'_> {
    async fn run(&mut self, ask: &impl AsyncFn(&str) -> Result<(), Stop>) -> Result<(), Stop> {
        loop {
            self.plan.cluster = self.settled().await?;
            if let Some(signal) = self.session.interrupt.heard() {
                return Err(Stop::interrupted(anyhow!(
                    "interrupted ({signal}): the roll stopped between two nodes"
                )));
            }
            let cluster = &self.plan.cluster;
            // Nodes that have restarted get our name again, and another operator may have begun.
            self.session.lock(&cluster.members()).await?;
            let now = state(cluster, &self.pending, &self.done);
            let step = roll::next(&now, &self.plan.limits)
                .map_err(|refusal| Stop::partial(anyhow!("{}", explain(cluster, refusal))))?;
            match step {
                None => return Ok(()),
                Some(RollStep::Restart(ids)) => self.restart(&ids, ask).await?,
                Some(RollStep::FailOver {
                    to,
                    from,
                    only_copy,
                }) => self.fail_over(to, from, only_copy).await?,
            }
        }
    }

    /// The cluster, once nothing is in the way of the next step.
    async fn settled(&self) -> Result<ClusterState, Stop> {
        let session = session_of(self.session, &self.plan.cluster);
        let look = async || ClusterState::look(&session).await;
        let cluster = passed(&session, look, |now| waits_for(now, &self.pending)).await?;
        let blocking = super::blocking(&cluster, &self.pending);
        match blocking.first() {
            None => Ok(cluster),
            Some(finding) => Err(Stop::partial(anyhow!(
                "the next node is not restarted: {}: {}",
                finding.code,
                finding.message
            ))),
        }
    }

    /// Restarts nodes side by side, and waits until all are back.
    async fn restart(
        &mut self,
        ids: &[NodeId],
        ask: &impl AsyncFn(&str) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let cluster = &self.plan.cluster;
        let nodes = ids.iter().map(|id| self.plan.hook_node(cluster, *id));
        let nodes = match self.request.restart {
            Restart::Each { .. } => nodes.collect::<Result<Vec<HookNode>, Stop>>()?,
            Restart::Pause => Vec::new(),
        };
        let named = ids.iter().map(|id| self.node(*id)).collect();
        self.session.events.send(Event::Restarting { nodes: named });
        let before = Before::of(cluster, ids);
        let began = Instant::now();
        self.in_hand = Some(ids.to_vec());
        self.session.connections.note_change();
        match &self.request.restart {
            Restart::Pause => {
                for id in ids {
                    let role = self.node(*id).2.word();
                    let name = cluster.name(*id);
                    ask(&format!("Restart {role} {name} now, then press Enter: ")).await?;
                }
            }
            Restart::Each { command, within } => {
                let (events, within) = (&self.session.events, *within);
                let runs = nodes
                    .into_iter()
                    .map(|node| (node, command.clone(), events.clone()));
                let running = self.session.connections.fan_out(
                    runs,
                    |_, (node, command, events)| async move {
                        let ended = hook::run(&command, &node, within, &events).await;
                        ended.map_err(|why| (node.id, why))
                    },
                );
                for ended in running.await {
                    ended.map_err(|(id, why)| {
                        Stop::partial(anyhow!(
                            "the command for {} failed: {why}",
                            cluster.name(id)
                        ))
                    })?;
                }
            }
        }
        let wait = Wait::new(self.session, self.request, before, &self.pending);
        let back = wait.until_back().await;
        let cluster = back.map_err(|why| Stop::partial(anyhow!("{}", why.0)))?;
        self.plan.cluster = cluster;
        for id in ids {
            self.pending.remove(id);
            let run = run_id(&self.plan.cluster, *id).unwrap_or_default();
            self.session
                .events
                .send(Event::Restarted(Box::new(RestartedNode {
                    node: self.node(*id),
                    run_id: run.clone(),
                    version: version(&self.plan.cluster, *id).map(|version| version.to_string()),
                    took: began.elapsed(),
                })));
            self.done.insert(*id, run);
            self.rolled.restarted += 1;
        }
        self.in_hand = None;
        Ok(())
    }

    /// The address and the role of a member, for events.
    fn node(&self, id: NodeId) -> (NodeId, Addr, Role) {
        let node = crate::state::name(&self.plan.cluster.diagnosis, id);
        (node.id, node.addr, node.role)
    }

    /// A planned failover. The copy of the old master is not waited for if it restarts next: it can't follow a master that
    /// is newer.
    async fn fail_over(&mut self, to: NodeId, from: NodeId, only_copy: bool) -> Result<(), Stop> {
        let session = session_of(self.session, &self.plan.cluster);
        let request = |_: &ClusterState| {
            Ok(Request {
                member: NamedMember::To(to),
                how: Takeover::Planned,
                accepted: BTreeSet::new(),
            })
        };
        let (cluster, decision) = failover::observe_and_plan(&session, request).await?;
        let decision = decision.map_err(|error| {
            Stop::partial(anyhow!("{} can't take over: {error}", cluster.name(to)))
        })?;
        let Decision::FailOver(plan) = decision else {
            return Ok(());
        };
        if only_copy {
            self.session.events.warn(format!(
                "a window with a single copy begins: {} has the only copy in sync of its shard until {} has restarted",
                cluster.name(to),
                cluster.name(from)
            ));
        }
        let newer = version(&cluster, to);
        let cannot_follow = |id: &NodeId| {
            let versions = version(&cluster, *id).zip(newer);
            versions.is_some_and(|(old, new)| !old.can_follow(new))
        };
        let members = cluster.diagnosis.topology.members.keys();
        let left_behind = members
            .filter(|id| self.pending.contains(id) || cannot_follow(id))
            .copied()
            .collect();
        let within = self.request.agreement_timeout;
        let carried = carry_out_leaving(&session, &cluster, &plan, within, left_behind).await;
        let done = carried.map_err(|error| Stop::partial(anyhow!("{error}")))?;
        self.session.events.send(Event::FailedOver(Box::new(done)));
        self.rolled.failovers += 1;
        Ok(())
    }

    /// Adds which nodes are done, which is in between, and the command that goes on.
    fn stopped(&self, stop: Stop) -> Stop {
        let is_begun = !self.done.is_empty() || self.rolled.failovers > 0 || self.in_hand.is_some();
        if !is_begun {
            return stop;
        }
        let cluster = &self.plan.cluster;
        let names = |ids: &mut dyn Iterator<Item = NodeId>| {
            let names: Vec<String> = ids.map(|id| cluster.name(id)).collect();
            match names.is_empty() {
                true => "none".to_string(),
                false => names.join(", "),
            }
        };
        let in_hand = self.in_hand.clone().unwrap_or_default();
        let done = names(&mut self.done.keys().copied());
        let mut rest = self.pending.iter().copied();
        let left = names(&mut rest.by_ref().filter(|id| !in_hand.contains(id)));
        let mut lines = vec![format!("done: {done}")];
        if !in_hand.is_empty() {
            let between = names(&mut in_hand.iter().copied());
            lines.push(format!(
                "in between: {between} (it may have restarted; the resumed roll restarts it)"
            ));
        }
        lines.push(format!("not restarted: {left}"));
        let error = anyhow!("{:#}\n{}", stop.error, lines.join("\n"));
        Stop { error, ..stop }.with_resume([self.resume()])
    }

    /// The command that goes on: `--done` names the nodes with their processes, so that a node that has crashed since
    /// is restarted again.
    fn resume(&self) -> CommandLine {
        let cluster = &self.plan.cluster;
        let mut command = ["redis-trib", "roll"].map(str::to_string).to_vec();
        command.push(cluster.seed());
        let mut own = self.session.resume.own.iter();
        while let Some(word) = own.next() {
            match word.as_str() {
                "--done" | "--back-to" => drop(own.next()),
                "--back" => {}
                _ => command.push(word.clone()),
            }
        }
        if !self.plan.limits.masters_at_end.is_empty() {
            let masters = self.plan.limits.masters_at_end.iter();
            let masters: Vec<String> = masters.map(NodeId::to_string).collect();
            command.extend(["--back-to".to_string(), masters.join(",")]);
        }
        if !self.done.is_empty() {
            let done = self.done.iter().map(|(id, run)| format!("{id}={run}"));
            let done: Vec<String> = done.collect();
            command.extend(["--done".to_string(), done.join(",")]);
        }
        command.extend(cluster.resume_options());
        command
    }
}
