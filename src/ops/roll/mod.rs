//! `roll`: restarts or upgrades the nodes of a cluster one after the other.

mod execute;
mod hook;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::anyhow;

use crate::cluster::health::{Code, Finding, Passing, Severity};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::Version;
use crate::connections::Target;
use crate::converge::settle::{PassingState, passed};
use crate::ops::join::zones::{ZoneRules, Zones};
use crate::ops::ok_to_stop;
use crate::plan::roll::{self, RollLimits, RollRefusal, RollState, RollStep};
use crate::report::{RollNodeView, RollStepView, RollView};
use crate::resolve::{SeedSet, find_member};
use crate::session::Session;
use crate::state::{ClusterState, name};
use crate::stop::Stop;

use hook::HookNode;

pub(crate) use execute::execute;

/// How many masters that can't be restarted are named.
const NAMED: usize = 8;

/// How a node is restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Restart {
    /// This command restarts it, within that time.
    Each {
        /// For the shell.
        command: String,
        /// How long it may take.
        within: Duration,
    },
    /// A person restarts it.
    Pause,
}

/// Nodes that were named for a roll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Only {
    /// Those that are replicas when the roll begins.
    Replicas,
    /// Those of a zone.
    Zone(String),
    /// A member.
    Member(String),
}

/// A version, as far as it was given: `9`, `9.1` or `9.1.2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedVersion(pub(crate) Vec<u16>);

impl WantedVersion {
    fn fits(&self, version: Option<Version>) -> bool {
        version.is_some_and(|version| version.numbers.starts_with(&self.0))
    }
}

impl std::fmt::Display for WantedVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u16::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct RollRequest {
    /// How each node is restarted.
    pub(crate) restart: Restart,
    /// The nodes; empty for all.
    pub(crate) only: Vec<Only>,
    /// Whether the masters of the beginning are masters again at the end.
    pub(crate) back: bool,
    /// Members that are masters at the end, as a resuming command names them.
    pub(crate) back_to: Vec<String>,
    /// How many nodes may be down at the same time.
    pub(crate) max_unavailable: usize,
    /// How long a node may take to be back and in sync.
    pub(crate) back_within: Duration,
    /// Nodes at this version are done.
    pub(crate) until_version: Option<WantedVersion>,
    /// Whether the only copy of a shard may be restarted.
    pub(crate) leave_unprotected: bool,
    /// Nodes that are done, with the ids of the processes that an earlier run has started.
    pub(crate) done: BTreeMap<NodeId, String>,
    /// How long all nodes may take to agree after a failover.
    pub(crate) agreement_timeout: Duration,
    /// Where the zones of nodes come from.
    pub(crate) zones: ZoneRules,
}

/// A planned roll.
pub(crate) struct RollPlan {
    pub(crate) cluster: ClusterState,
    zones: Zones,
    /// The nodes that were restarted by an earlier run, with their run ids.
    done: BTreeMap<NodeId, String>,
    /// The nodes that are rolled, without those that are done.
    pending: BTreeSet<NodeId>,
    limits: RollLimits,
    /// The steps, as far as they can be foreseen.
    pub(crate) steps: Vec<RollStep>,
    /// Remarks about the command line.
    notes: Vec<String>,
}

/// Observes the cluster and plans the roll. Waits for states that normally pass.
pub(crate) async fn plan(session: &Session, request: &RollRequest) -> Result<RollPlan, Stop> {
    let look = async || ClusterState::settled(session).await;
    let cluster = passed(session, look, |cluster| {
        waits_for(cluster, &BTreeSet::new())
    })
    .await?;
    let nodes = cluster.nodes();
    let zones = request.zones.zones(&session.connections, &nodes).await;
    let notes = request.zones.unmatched(&nodes);
    let chosen = chosen(&cluster, &zones, &request.only).map_err(Stop::refused)?;
    let done = done(&cluster, request);
    let pending: BTreeSet<NodeId> = chosen
        .into_iter()
        .filter(|id| !done.contains_key(id) && !is_at_version(&cluster, *id, request))
        .collect();
    let masters_at_end = masters_at_end(&cluster, request)?;
    let plan = RollPlan {
        limits: RollLimits {
            max_unavailable: request.max_unavailable,
            masters_at_end,
        },
        cluster,
        zones,
        done,
        pending,
        steps: Vec::new(),
        notes,
    };
    plan.checked(session, request).await
}

impl RollPlan {
    /// Refuses what can't be done, and foresees the steps.
    async fn checked(self, session: &Session, request: &RollRequest) -> Result<Self, Stop> {
        let cluster = &self.cluster;
        if !self.pending.is_empty() {
            let blocking = blocking(cluster, &self.pending);
            if !blocking.is_empty() {
                session.refuse_if_at_work(&cluster.answering()).await?;
                let lines: Vec<String> = blocking
                    .iter()
                    .map(|finding| format!("{}: {}", finding.code, finding.message))
                    .collect();
                return Err(Stop::refused(anyhow!(
                    "the cluster is not in a state in which nodes can be restarted:\n  {}\nnothing was changed",
                    lines.join("\n  ")
                )));
            }
        }
        let state = state(cluster, &self.pending, &self.done);
        let refusals = roll::refusals(
            &state,
            |id| persists(cluster, id),
            request.leave_unprotected,
        );
        if !refusals.is_empty() {
            let named = refusals.iter().take(NAMED);
            let mut lines: Vec<String> = named.map(|one| explain(cluster, *one)).collect();
            if refusals.len() > NAMED {
                lines.push(format!("and {} more", refusals.len() - NAMED));
            }
            return Err(Stop::refused(anyhow!(
                "{}\nnothing was changed",
                lines.join("\n")
            )));
        }
        if let Restart::Each { .. } = request.restart {
            for id in &self.pending {
                self.hook_node(cluster, *id)?;
            }
        }
        let steps = roll::foresee(&state, &self.limits);
        Ok(Self { steps, ..self })
    }

    /// What the command for a node is told. Refuses values that could act on a shell or on a program that gets them.
    fn hook_node(&self, cluster: &ClusterState, id: NodeId) -> Result<HookNode, Stop> {
        let member = cluster.diagnosis.topology.members.get(&id);
        let Some(target) = cluster.reach.get(&id) else {
            return Err(Stop::refused(anyhow!(
                "{} has no address: nothing can be run for it",
                cluster.name(id)
            )));
        };
        let node = HookNode {
            id,
            addr: target.addr.clone(),
            role: member.map_or(Role::Master, |member| member.role),
            zone: self.zones.get(&id).cloned().unwrap_or_default(),
        };
        match node.refused() {
            None => Ok(node),
            Some(what) => Err(Stop::refused(anyhow!(
                "{what} is not passed to a command: only letters, digits and . : _ - are, and no - at the beginning \
                 (node {}); --address-map and --zone give it another one",
                id.short()
            ))),
        }
    }

    /// The plan, as it is shown.
    pub(crate) fn view(&self) -> RollView {
        let diagnosis = &self.cluster.diagnosis;
        let node = |id: NodeId| {
            let mut node = name(diagnosis, id);
            node.zone = self.zones.get(&id).cloned();
            node
        };
        let version = |id: NodeId| Some(version(&self.cluster, id)?.to_string());
        let order = diagnosis.topology.reading_order();
        let mut warnings = self.notes.clone();
        let state = state(&self.cluster, &self.pending, &self.done);
        let alone = state.members.iter().filter(|member| {
            member.role == Role::Master
                && !member.slots.is_empty()
                && self.pending.contains(&member.id)
                && !state
                    .members
                    .iter()
                    .any(|other| other.master == Some(member.id))
        });
        warnings.extend(alone.map(|member| {
            format!(
                "{} has the only copy of slots {}: no node serves them while it restarts",
                self.cluster.name(member.id),
                member.slots
            )
        }));
        RollView {
            nodes: order
                .iter()
                .map(|member| RollNodeView {
                    node: node(member.id),
                    version: version(member.id),
                    is_pending: self.pending.contains(&member.id),
                })
                .collect(),
            steps: self
                .steps
                .iter()
                .map(|step| match step {
                    RollStep::Restart(ids) => RollStepView::Restart {
                        nodes: ids.iter().map(|id| node(*id)).collect(),
                    },
                    RollStep::FailOver {
                        to,
                        from,
                        only_copy,
                    } => RollStepView::FailOver {
                        to: node(*to),
                        from: node(*from),
                        only_copy: *only_copy,
                    },
                })
                .collect(),
            warnings,
        }
    }

    /// The nodes on which no other operator may be at work.
    pub(crate) fn lock(&self) -> Vec<Target> {
        self.cluster.members()
    }

    /// Whether both plans restart the same processes in the same order.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.steps == other.steps && self.pending == other.pending
    }

    /// Whether no node has to be restarted, and no role to be changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// The same session, which starts from all members that answer: the one that was named may be down while it restarts.
fn session_of(session: &Session, cluster: &ClusterState) -> Session {
    let targets = cluster.members();
    let seeds = session.seeds.first().map(|set| SeedSet {
        seed: set.seed.clone(),
        targets,
    });
    Session {
        seeds: seeds.into_iter().collect(),
        ..session.clone()
    }
}

fn chosen(
    cluster: &ClusterState,
    zones: &Zones,
    only: &[Only],
) -> anyhow::Result<BTreeSet<NodeId>> {
    let members = &cluster.diagnosis.topology.members;
    if only.is_empty() {
        return Ok(members.keys().copied().collect());
    }
    let mut chosen = BTreeSet::new();
    for one in only {
        match one {
            Only::Replicas => {
                let replicas = members.values().filter(|m| m.role == Role::Replica);
                chosen.extend(replicas.map(|member| member.id));
            }
            Only::Zone(zone) => {
                let there = zones.iter().filter(|(_, name)| *name == zone);
                let before = chosen.len();
                chosen.extend(there.map(|(id, _)| *id));
                if chosen.len() == before && !zones.values().any(|name| name == zone) {
                    let known: BTreeSet<&str> = zones.values().map(String::as_str).collect();
                    let known: Vec<&str> = known.into_iter().collect();
                    anyhow::bail!(match known.is_empty() {
                        true => format!(
                            "no node is in zone {zone:?}: no zone is known (--zone and --zone-from name zones)"
                        ),
                        false => format!(
                            "no node is in zone {zone:?}: there are {}",
                            known.join(", ")
                        ),
                    });
                }
            }
            Only::Member(name) => {
                chosen.insert(find_member(&cluster.diagnosis.observation, name)?);
            }
        }
    }
    Ok(chosen)
}

/// The nodes of `--done` that still run under the same process.
fn done(cluster: &ClusterState, request: &RollRequest) -> BTreeMap<NodeId, String> {
    let is_same = |id: &NodeId, run: &str| run_id(cluster, *id).is_some_and(|now| now == run);
    let done = request.done.iter().filter(|(id, run)| is_same(id, run));
    done.map(|(id, run)| (*id, run.clone())).collect()
}

fn masters_at_end(cluster: &ClusterState, request: &RollRequest) -> Result<BTreeSet<NodeId>, Stop> {
    let observation = &cluster.diagnosis.observation;
    let named = request
        .back_to
        .iter()
        .map(|name| find_member(observation, name));
    let named = named.collect::<Result<BTreeSet<NodeId>, _>>();
    let named = named.map_err(Stop::refused)?;
    if !request.back || !named.is_empty() {
        return Ok(named);
    }
    let masters = cluster.diagnosis.topology.masters();
    let owners = masters.filter(|master| !master.slots.is_empty());
    Ok(owners.map(|master| master.id).collect())
}

fn run_id(cluster: &ClusterState, id: NodeId) -> Option<String> {
    let node = cluster.diagnosis.observation.nodes.get(&id)?;
    Some(node.report()?.info.run_id.as_ref()?.to_string())
}

fn version(cluster: &ClusterState, id: NodeId) -> Option<Version> {
    cluster.diagnosis.observation.version_of(id)
}

fn is_at_version(cluster: &ClusterState, id: NodeId, request: &RollRequest) -> bool {
    let wanted = request.until_version.as_ref();
    wanted.is_some_and(|wanted| wanted.fits(version(cluster, id)))
}

/// Whether a node writes its data to disk, as far as it tells.
fn persists(cluster: &ClusterState, id: NodeId) -> bool {
    let node = cluster.diagnosis.observation.nodes.get(&id);
    let report = node.and_then(|node| node.report());
    report.is_some_and(|report| report.info.aof_enabled || report.saves != Some(false))
}

/// The cluster, as the planner sees it.
fn state(
    cluster: &ClusterState,
    pending: &BTreeSet<NodeId>,
    done: &BTreeMap<NodeId, String>,
) -> RollState {
    let members = ok_to_stop::members(cluster, &BTreeSet::new());
    let versions = members
        .iter()
        .filter_map(|member| Some((member.id, version(cluster, member.id)?)));
    RollState {
        versions: versions.collect(),
        members,
        pending: pending.clone(),
        done: done.keys().copied().collect(),
    }
}

/// The findings with which no node is restarted. A node that is restarted next may be down, or without a link to a master
/// that is newer.
fn blocking<'a>(cluster: &'a ClusterState, pending: &BTreeSet<NodeId>) -> Vec<&'a Finding> {
    let findings = cluster.diagnosis.findings.iter();
    findings
        .filter(|finding| {
            let is_of_pending =
                !finding.nodes.is_empty() && finding.nodes.iter().all(|id| pending.contains(id));
            match finding.code {
                Code::ReplicaCannotSync
                | Code::ReplicaLinkDown
                | Code::ReplicaSyncing
                | Code::SlotlessUnreachable
                | Code::SlotlessFailed
                | Code::SlotlessLoading => !is_of_pending,
                Code::SlotsInTask => true,
                // Says nothing about what a restart would do.
                Code::WritesRefused | Code::ProbeFailed => false,
                _ => finding.severity() == Severity::Error,
            }
        })
        .collect()
}

/// The findings of [`blocking`], if all of them normally pass.
fn waits_for(cluster: &ClusterState, pending: &BTreeSet<NodeId>) -> Vec<PassingState> {
    let diagnosis = &cluster.diagnosis;
    let states = blocking(cluster, pending).into_iter().map(|finding| {
        let age = match (finding.code, diagnosis.passing(finding)) {
            (_, Passing::Since(age)) => age,
            (Code::ReplicaSyncing, Passing::No) => None,
            (_, Passing::No) => return None,
        };
        Some(PassingState {
            word: finding.code.word(),
            nodes: finding.nodes.clone(),
            message: finding.message.clone(),
            age,
        })
    });
    states.collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// What is wrong, and what to do next.
fn explain(cluster: &ClusterState, refusal: RollRefusal) -> String {
    match refusal {
        RollRefusal::SingleCopy(id) => format!(
            "{} has the only copy of its slots, which no node would serve while it restarts: add a replica \
             (redis-trib add-node NEW {} --replica --master-id {}), or pass --leave-unprotected",
            cluster.name(id),
            cluster.resume_seed(),
            id.short()
        ),
        RollRefusal::NoPersistence(id) => format!(
            "{} has the only copy of its slots and writes nothing to disk (no save, no appendonly): it would start \
             empty; add a replica (redis-trib add-node NEW {} --replica --master-id {})",
            cluster.name(id),
            cluster.resume_seed(),
            id.short()
        ),
        RollRefusal::NoReplicaInSync(id) => format!(
            "no replica of {} is in sync, so that none can take over while it restarts: redis-trib check {} shows why",
            cluster.name(id),
            cluster.resume_seed()
        ),
    }
}
