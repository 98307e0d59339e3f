//! How nodes join a cluster, for every command that brings new ones: who may, what is done to them
//! before, whom they meet, whom they follow, and when that is over.

mod candidates;
pub(crate) mod execute;
pub(crate) mod inspect;
mod plan;
mod target;
pub(crate) mod zones;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::change::legacy::Signals;
use crate::client::{ClientError, NodeClient, Reset};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::EntryPool;
use crate::connections::{Connections, Target};
use crate::converge::{NotInTime, Watch};
use crate::event::{Event, Phase};
use crate::exit_code::ExitCode;
use crate::ops::join::execute::{ExecuteError, Execution, StepCounts};
use crate::ops::join::zones::ZoneArgs;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::ui::{Before, Ui};

pub(crate) use candidates::{Allowed, JoinCandidate, JoinCandidates, judge};
pub(crate) use plan::{JoinPlan, Part};
pub(crate) use target::JoinTarget;

/// How long the cluster may take to tell how far we came.
const TELLING: Duration = Duration::from_secs(3);

/// Nodes about to join, all judged.
pub(crate) struct Joining<'a> {
    /// The cluster's.
    pub(crate) session: &'a Session,
    pub(crate) home: &'a JoinTarget,
    pub(crate) candidates: Vec<JoinCandidate>,
    pub(crate) part: Part,
    pub(crate) zones: &'a ZoneArgs,
    /// How long all of it may take.
    pub(crate) within: Duration,
    pub(crate) until: Until,
    pub(crate) afterwards: GoOn,
}

/// What goes on with what was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GoOn {
    /// `add-node` of those that are left.
    AddTheRest,
    /// The same command again.
    ResumeFlags,
}

/// When it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// All agree about who is what.
    Agreed,
    /// The candidates serve, or have their copy.
    Usable,
}

/// Why nodes have not joined.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error(transparent)]
    ExecuteError(#[from] ExecuteError),
    #[error(transparent)]
    Late(#[from] NotInTime),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Stop(anyhow::Error),
    #[error("interrupted ({0})")]
    Signal(&'static str),
}

/// What was begun.
#[derive(Default)]
struct Begun {
    /// Something was changed before the first meeting.
    prepared: AtomicBool,
    tally: Arc<StepCounts>,
}

impl Begun {
    fn anything(&self) -> bool {
        self.prepared.load(Ordering::Relaxed) || self.tally.has_begun()
    }
}

impl Joining<'_> {
    /// Makes the nodes members; their ids, which a hard reset has changed. What stopped it says how
    /// far it came, and how to go on.
    pub(crate) async fn run(mut self, ui: &Ui, signals: &mut Signals) -> Result<Vec<NodeId>, Stop> {
        let (events, mut told) = mpsc::unbounded_channel();
        let show = async {
            while let Some(event) = told.recv().await {
                ui.event(&event);
            }
        };
        let begun = Begun::default();
        let work = self.carry_out(ui, events, &begun);
        let outcome = tokio::select! {
            biased;
            (outcome, ()) = async { tokio::join!(work, show) } => outcome,
            signal = signals.next() => Err(Cut::Signal(signal)),
        };
        match outcome {
            Ok(()) => Ok(self.ids()),
            Err(cut) => Err(self.with_way_out(&cut, &begun).await),
        }
    }

    fn ids(&self) -> Vec<NodeId> {
        self.candidates
            .iter()
            .map(|candidate| candidate.recruit.id())
            .collect()
    }

    async fn carry_out(
        &mut self,
        ui: &Ui,
        events: UnboundedSender<Event>,
        begun: &Begun,
    ) -> Result<(), Cut> {
        let connections = Arc::clone(&self.session.connections);
        self.reset(&events, begun).await?;
        let draft = JoinPlan::of(
            self.session,
            self.home,
            &self.candidates,
            self.part,
            self.zones,
        );
        let draft = draft.await.map_err(|stop| Cut::Stop(stop.error))?;
        self.copy_functions(&events, begun).await?;
        let watch = Watch {
            connections: Arc::clone(&connections),
            participants: Arc::clone(&draft.participants),
            absent: Arc::clone(&draft.absent),
            events: events.clone(),
            deadline: Instant::now() + self.within,
            within: self.within,
            nudged: Arc::default(),
        };
        let execution = Execution {
            connections,
            participants: Arc::clone(&draft.participants),
            absent: Arc::clone(&draft.absent),
            events,
            tally: Arc::clone(&begun.tally),
        };
        let (meeting, following) = draft.plan.split_at_replicas();
        execution.run(&meeting).await?;
        watch.join().await?;
        execution.run(&following).await?;
        let look_again = async || {
            let cluster = ClusterState::look(self.session).await.ok()?;
            Some(plan::goal(&cluster, &draft.masters))
        };
        let goal = Arc::clone(&draft.goal);
        let goal = watch.agree_as_it_is(goal, look_again).await?;
        if self.until == Until::Agreed {
            return Ok(());
        }
        if self.part.role() == Role::Master {
            ui.hint(
                "a master that has just joined says cluster_state:fail for up to 5 s: that is waited \
                 for",
            );
        }
        watch.usable(&goal).await?;
        Ok(())
    }

    /// Nodes that must forget something do, and are read again.
    async fn reset(&mut self, events: &UnboundedSender<Event>, begun: &Begun) -> Result<(), Cut> {
        let mut resetting = JoinSet::new();
        for (index, candidate) in self.candidates.iter().enumerate() {
            if candidate.before == Before::Nothing {
                continue;
            }
            let connections = Arc::clone(&self.session.connections);
            let target = candidate.recruit.target.clone();
            let (id, before) = (candidate.recruit.id(), candidate.before);
            resetting.spawn(async move {
                let text = reset(&connections, &target, id, before).await;
                (index, text)
            });
        }
        if resetting.is_empty() {
            return Ok(());
        }
        // Nobody listens any more when we were interrupted.
        let _ = events.send(Event::Phase(Phase::Reset));
        begun.prepared.store(true, Ordering::Relaxed);
        let mut pool = EntryPool::default();
        for (index, text) in resetting.join_all().await {
            let candidate = &mut self.candidates[index];
            let text = text?;
            let name = candidate.recruit.name();
            let view = pool
                .view(&text)
                .map_err(|error| Cut::Stop(anyhow!("{name}: {error}")))?;
            if view.entries().len() > 1 || !view.myself().slots.is_empty() {
                return Err(Cut::Stop(anyhow!(
                    "{name} knows other nodes again right after its reset: its old cluster is alive, \
                     and takes it back"
                )));
            }
            candidate.recruit.report.view = view;
            candidate.before = Before::Nothing;
        }
        Ok(())
    }

    /// New masters get the functions that the cluster has; replicas get them with their copy.
    async fn copy_functions(
        &self,
        events: &UnboundedSender<Event>,
        begun: &Begun,
    ) -> Result<(), Cut> {
        let lacking: Vec<&JoinCandidate> = self
            .candidates
            .iter()
            .filter(|candidate| candidate.lacks_libraries)
            .collect();
        let (Some(function_source), false) = (&self.home.function_source, lacking.is_empty())
        else {
            return Ok(());
        };
        let _ = events.send(Event::Phase(Phase::Functions));
        let connections = &self.session.connections;
        let dump = connections
            .client(function_source)
            .await?
            .function_dump()
            .await?;
        begun.prepared.store(true, Ordering::Relaxed);
        for candidate in lacking {
            let client = connections.client(&candidate.recruit.target).await?;
            client.function_restore(&dump).await?;
        }
        Ok(())
    }

    /// What is done, what is left, and the command that goes on.
    async fn with_way_out(&self, cut: &Cut, begun: &Begun) -> Stop {
        let code = match cut {
            Cut::Signal(_) => ExitCode::Interrupted,
            _ if begun.anything() => ExitCode::Partial,
            _ => ExitCode::Refused,
        };
        if !begun.anything() {
            return Stop::new(code, anyhow!("{cut}\nNothing was changed."));
        }
        let seed = self.home.cluster.resume_seed();
        let look = timeout(TELLING, ClusterState::look(self.session)).await;
        let Ok(Ok(cluster)) = look else {
            return Stop::new(
                code,
                anyhow!(
                    "{cut}\nSome of the nodes may have joined: redis-trib check {seed} tells which; \
                     add the others again"
                ),
            );
        };
        let mut lines = Vec::new();
        let mut left = Vec::new();
        for candidate in &self.candidates {
            let (id, name) = (candidate.recruit.id(), candidate.recruit.name());
            let member = cluster.diagnosis.topology.members.get(&id);
            let joined = member.filter(|member| {
                let peer_status = member.peer_status;
                peer_status.known == peer_status.asked && peer_status.handshake == 0
            });
            match joined {
                Some(member) if member.role == self.part.role() => {
                    lines.push(format!("{name} has joined as a {}", member.role.word()));
                }
                Some(_) => {
                    lines.push(format!("{name} has joined, and follows no master yet"));
                    left.push(candidate.recruit.target.addr.to_string());
                }
                None => {
                    lines.push(format!("{name} has not joined"));
                    left.push(candidate.recruit.target.addr.to_string());
                }
            }
        }
        if self.afterwards == GoOn::ResumeFlags {
            let lines = lines.join("\n");
            return Stop::new(
                code,
                anyhow!("{cut}\n{lines}. The same command again goes on"),
            );
        }
        let go_on = if left.is_empty() {
            format!("redis-trib check {seed} --wait 60s")
        } else {
            let role = match self.part {
                Part::Masters => String::new(),
                Part::Replicas => " --replica".to_string(),
                Part::ReplicasOf(master) => format!(" --replica --master-id {master}"),
            };
            format!("redis-trib add-node {} {seed}{role}", left.join(" "))
        };
        Stop::new(
            code,
            anyhow!("{cut}\n{}. To go on:\n  {go_on}", lines.join("\n")),
        )
    }
}

/// Resets one node; what it says of itself afterwards.
async fn reset(
    connections: &Connections,
    target: &Target,
    id: NodeId,
    before: Before,
) -> Result<String, ClientError> {
    let client = connections.client(target).await?;
    match before {
        Before::Nothing => {}
        Before::Reset => client.cluster_reset(Reset::Soft).await?,
        Before::Flush(_) => flush(&client, id).await?,
    }
    client.cluster_nodes().await
}

/// A replica takes no FLUSHALL, and loses its copy by the reset; a master must have no keys for it.
async fn flush(client: &NodeClient, id: NodeId) -> Result<(), ClientError> {
    let view = EntryPool::default().view(&client.cluster_nodes().await?);
    let role = view.ok().and_then(|view| {
        let myself = view.myself();
        (myself.id == id).then_some(myself.role)
    });
    if let Some(Some(Role::Master)) = role {
        client.flushall().await?;
    }
    client.cluster_reset(Reset::Hard).await
}

/// How many slots each new master gets: as many as every other would have if all had as many, the
/// first ones one more where that does not come out even.
pub(crate) fn fair_shares(
    owners: usize,
    candidates: &[NodeId],
    slots: usize,
) -> BTreeMap<NodeId, usize> {
    let masters = owners + candidates.len();
    let all = slots * candidates.len() / masters.max(1);
    let (each, more) = (all / candidates.len().max(1), all % candidates.len().max(1));
    candidates
        .iter()
        .enumerate()
        .map(|(index, id)| (*id, each + usize::from(index < more)))
        .collect()
}
