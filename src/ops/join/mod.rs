//! How nodes join a cluster, for every command that adds some: which nodes may join, what is reset on them before,
//! which nodes they meet and replicate, and when they are usable.

mod candidates;
pub(crate) mod execute;
pub(crate) mod inspect;
pub(crate) mod links;
pub(crate) mod origin;
mod plan;
mod request;
mod stay;
mod target;
pub(crate) mod zones;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, timeout};

use crate::client::{ClientError, NodeClient, Reset};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::EntryPool;
use crate::connections::{Connections, Target};
use crate::converge::{Watch, warn_of_copies};
use crate::event::Phase;
use crate::report::Before;
use crate::session::{ResumeFlags, Session};
use crate::state::ClusterState;
use crate::stop::{CommandLine, Stop};
use execute::{Execution, StepCounts};
use inspect::NewNode;
use zones::ZoneRules;

pub(crate) use candidates::{Allowed, JoinCandidate, JoinRules, MemberNamed, NewLibraries, judge};
pub(crate) use plan::{JoinPlan, Part};
pub(crate) use request::{Inspected, JoinProposal, JoinRequest, RequestedRole, fill_plan};
pub(crate) use target::JoinTarget;

/// Timeout for reading the cluster after a failure, to report which nodes have joined.
const REPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// Nodes about to join, all checked.
pub(crate) struct Joining<'a> {
    /// A session with the cluster.
    pub(crate) session: &'a Session,
    pub(crate) target: &'a JoinTarget,
    pub(crate) candidates: Vec<JoinCandidate>,
    pub(crate) part: Part,
    pub(crate) zones: &'a ZoneRules,
    /// The timeout for all of it.
    pub(crate) within: Duration,
    pub(crate) until: Until,
    pub(crate) afterwards: GoOn,
}

/// The command that resumes an interrupted join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GoOn {
    /// `add-node` of the nodes that are left.
    AddTheRest,
    /// The same command.
    SameCommand,
}

/// When a join is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// All nodes agree about slots and roles.
    Agreed,
    /// The new nodes report `cluster_state:ok`, or are in sync with their masters.
    Usable,
}

/// What has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinReport {
    /// The ids of the new nodes. A hard reset has changed them.
    pub(crate) joined: Vec<NodeId>,
}

/// Changes so far. They are still known after the work was dropped.
#[derive(Default)]
struct Changes {
    /// Nodes were reset, or got function libraries.
    prepared: AtomicBool,
    steps: Arc<StepCounts>,
}

impl Changes {
    fn any(&self) -> bool {
        self.prepared.load(Ordering::Relaxed) || self.steps.has_begun()
    }
}

impl Joining<'_> {
    /// Makes the nodes members, until the first signal. An error says which nodes have joined, and which command
    /// resumes.
    pub(crate) async fn run(mut self) -> Result<JoinReport, Stop> {
        let changes = Changes::default();
        let interrupt = self.session.interrupt.clone();
        match interrupt.stops(self.join(&changes)).await {
            Ok(Ok(())) => Ok(JoinReport { joined: self.ids() }),
            Ok(Err(error)) => Err(self.explained(Stop::partial(error), &changes).await),
            Err(signal) => {
                let stop = Stop::interrupted(anyhow!("interrupted ({signal})"));
                Err(self.explained(stop, &changes).await)
            }
        }
    }

    fn ids(&self) -> Vec<NodeId> {
        self.candidates
            .iter()
            .map(|candidate| candidate.node.id())
            .collect()
    }

    async fn join(&mut self, changes: &Changes) -> anyhow::Result<()> {
        let session = self.session;
        let connections = Arc::clone(&session.connections);
        let may_be_forgotten = stay::may_be_forgotten(&self.candidates);
        self.reset(changes).await?;
        let plan = JoinPlan::of(
            session,
            self.target,
            &self.candidates,
            self.part,
            self.zones,
        );
        let plan = plan.await.map_err(|stop| stop.error)?;
        self.copy_functions(changes).await?;
        let watch = Watch::new(
            Arc::clone(&connections),
            Arc::clone(&plan.participants),
            Arc::clone(&plan.absent),
            session.events.sender(),
            self.within,
        );
        let execution = Execution {
            connections: Arc::clone(&connections),
            participants: Arc::clone(&plan.participants),
            absent: Arc::clone(&plan.absent),
            events: session.events.sender(),
            tally: Arc::clone(&changes.steps),
        };
        let (meeting, replicating) = plan.plan.split_at_replicas();
        execution.run(&meeting).await?;
        watch.join().await?;
        execution.run(&replicating).await?;
        let goal_now = async || {
            let cluster = ClusterState::look(session).await.ok()?;
            Some(plan::goal(&cluster, &plan.masters))
        };
        let agreement = watch.agree_as_it_is(Arc::clone(&plan.goal), goal_now);
        let masters = plan.masters.values().copied();
        let goal = watch.with_streams_of(masters, agreement).await?;
        let stays = stay::stay(
            session,
            &plan,
            &may_be_forgotten,
            Instant::now(),
            self.within,
        );
        if self.until == Until::Agreed {
            stays.await?;
            return self.verify_links().await;
        }
        if self.part.role() == Role::Master {
            session.events.waiting(
                "cluster_state:ok (a new master reports `fail` for up to 5 s after joining)",
            );
        }
        if self.part.role() == Role::Replica {
            // The rest is only looked at: a long resync does not keep other operators waiting.
            connections.release_name();
        }
        let usable = watch.usable(&goal);
        let (copying, ()) = tokio::try_join!(async { Ok(usable.await?) }, stays)?;
        warn_of_copies(session, &copying);
        self.verify_links().await
    }

    /// Verifies that the new nodes and the members reach each other.
    async fn verify_links(&self) -> anyhow::Result<()> {
        let nodes: Vec<NewNode> = self.candidates.iter().map(|c| c.node.clone()).collect();
        let mut seeds = self.session.targets();
        // The others may know them by an address at which nobody answers.
        seeds.extend(nodes.iter().map(|node| node.target.clone()));
        links::verify(self.session, &seeds, &nodes, &self.target.ips()).await?;
        Ok(())
    }

    /// Resets the nodes that have to be, and reads them again.
    async fn reset(&mut self, changes: &Changes) -> anyhow::Result<()> {
        let to_reset: Vec<(usize, Target, NodeId, Before)> = self
            .candidates
            .iter()
            .enumerate()
            .filter(|(_, candidate)| candidate.before != Before::Nothing)
            .map(|(index, candidate)| {
                let node = &candidate.node;
                (index, node.target.clone(), node.id(), candidate.before)
            })
            .collect();
        if to_reset.is_empty() {
            return Ok(());
        }
        self.session.events.phase(Phase::Reset);
        changes.prepared.store(true, Ordering::Relaxed);
        let resetting = self.session.connections.fan_out(
            to_reset,
            |connections, (index, target, id, before)| async move {
                let text = reset(&connections, &target, id, before).await;
                (index, text)
            },
        );
        let mut pool = EntryPool::default();
        for (index, text) in resetting.await {
            let candidate = &mut self.candidates[index];
            let text = text?;
            let name = candidate.node.name();
            let view = pool
                .view(&text)
                .map_err(|error| anyhow!("{name}: {error}"))?;
            if view.entries().len() > 1 || !view.myself().slots.is_empty() {
                return Err(anyhow!(
                    "{name} knows other nodes again right after its reset: its former cluster is still \
                     running and adds it again"
                ));
            }
            // A hard reset gives it a new id.
            candidate.node.target.node = Some(view.myself().id);
            candidate.node.report.view = view;
            candidate.before = Before::Nothing;
        }
        Ok(())
    }

    /// Copies the functions of the cluster to new masters. Replicas get them with the full resync.
    async fn copy_functions(&self, changes: &Changes) -> anyhow::Result<()> {
        let lacking: Vec<&JoinCandidate> = self
            .candidates
            .iter()
            .filter(|candidate| candidate.lacks_libraries)
            .collect();
        let (Some(source), false) = (&self.target.function_source, lacking.is_empty()) else {
            return Ok(());
        };
        self.session.events.phase(Phase::Functions);
        let connections = &self.session.connections;
        let dump = connections.client(source).await?.function_dump().await?;
        changes.prepared.store(true, Ordering::Relaxed);
        for candidate in lacking {
            let client = connections.client(&candidate.node.target).await?;
            client.function_restore(&dump).await?;
        }
        Ok(())
    }

    /// Adds to a stop which nodes have joined, and the command that resumes.
    async fn explained(&self, stop: Stop, changes: &Changes) -> Stop {
        let error = stop.error;
        let explained = |error| Stop { error, ..stop };
        if !changes.any() {
            return explained(anyhow!("{error}\nNothing was changed."));
        }
        let seed = self.target.cluster.resume_seed();
        let look = timeout(REPORT_TIMEOUT, ClusterState::look(self.session)).await;
        let Ok(Ok(cluster)) = look else {
            return explained(anyhow!(
                "{error}\nSome of the nodes may have joined: redis-trib check {seed} shows which; add \
                 the others again"
            ));
        };
        let mut lines = Vec::new();
        let mut left = Vec::new();
        for candidate in &self.candidates {
            let (id, name) = (candidate.node.id(), candidate.node.name());
            let member = cluster.diagnosis.topology.members.get(&id);
            let joined = member.filter(|member| {
                let peer_status = member.peer_status;
                peer_status.known == peer_status.asked && peer_status.handshake == 0
            });
            match joined {
                Some(member) if member.role == self.part.role() => {
                    lines.push(format!("{name} has joined as a {}", member.role.word()));
                    continue;
                }
                Some(_) => lines.push(format!("{name} has joined, but is not a replica yet")),
                None => lines.push(format!("{name} has not joined")),
            }
            left.push(candidate.node.target.addr.to_string());
        }
        let lines = lines.join("\n");
        if self.afterwards == GoOn::SameCommand {
            return explained(anyhow!("{error}\n{lines}. The same command again goes on"));
        }
        let mut resume: CommandLine = vec!["redis-trib".into()];
        let mut add = |words: &[&str]| resume.extend(words.iter().map(|word| (*word).to_string()));
        let cluster = self.target.cluster.seed();
        if left.is_empty() {
            add(&["check", &cluster, "--wait", "60s"]);
        } else {
            add(&["add-node"]);
            left.iter().for_each(|addr| add(&[addr]));
            add(&[&cluster]);
            let ResumeFlags {
                own,
                moving,
                consent,
                ..
            } = &self.session.resume;
            // The role may have been chosen at a prompt.
            if !own.iter().any(|word| word == "--replica") {
                match self.part {
                    Part::Masters => {}
                    Part::Replicas => add(&["--replica"]),
                    Part::ReplicasOf(master) => {
                        add(&["--replica", "--master-id", &master.to_string()]);
                    }
                }
            }
            resume.extend([own, moving, consent].into_iter().flatten().cloned());
        }
        resume.extend(self.session.resume.reach.iter().cloned());
        explained(anyhow!("{error}\n{lines}")).with_resume([resume])
    }
}

/// Resets one node, and returns its CLUSTER NODES afterwards.
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

/// Deletes all keys of a node, and resets it. A replica refuses FLUSHALL, and the reset deletes its keys; a master
/// refuses the reset while it has keys.
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
