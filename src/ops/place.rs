//! `place`: masters even over hosts and zones again, by failovers; and replicas that get other masters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, sleep};

use crate::cluster::health::{Code, Finding};
use crate::cluster::node::{NodeId, Role, Takeover};
use crate::cluster::parse::MasterLink;
use crate::connections::Target;
use crate::converge::settle::settled_with_links;
use crate::event::Event;
use crate::ops::failover::{self, carry_out};
use crate::ops::join::zones::{ZoneRules, Zones};
use crate::plan::failover::{Decision, NamedMember, Request};
use crate::plan::place::{self, PlaceNode, PlacePlan, PlaceRefusal, PlaceStep, Wishes};
use crate::report::{PlaceStepView, PlaceView, PlacedGroup};
use crate::resolve::find_member;
use crate::session::Session;
use crate::shell::command_line;
use crate::state::{ClusterState, name};
use crate::stop::Stop;

/// Between two looks at a replica that receives its copy.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct PlaceRequest {
    /// As many masters as possible are in this zone.
    pub(crate) prefer: Option<String>,
    /// Members that are masters.
    pub(crate) masters: Vec<String>,
    /// Whether replicas may get other masters.
    pub(crate) move_replicas: bool,
    /// How long all nodes may take to agree after a failover.
    pub(crate) agreement_timeout: Duration,
    /// How long a replica may take to receive its copy.
    pub(crate) sync_timeout: Duration,
    /// Where the zones of nodes come from.
    pub(crate) zones: ZoneRules,
}

/// A planned placement.
pub(crate) struct Placement {
    pub(crate) cluster: ClusterState,
    zones: Zones,
    nodes: Vec<PlaceNode>,
    /// The plan.
    pub(crate) plan: PlacePlan,
    notes: Vec<String>,
}

/// Observes the cluster and plans the placement. Waits for states that normally pass.
pub(crate) async fn plan(session: &Session, request: &PlaceRequest) -> Result<Placement, Stop> {
    let blocks = |finding: &Finding| finding.blocks_changes() || finding.code == Code::SlotsInTask;
    let cluster = settled_with_links(session, |_, finding| blocks(finding)).await?;
    let findings = cluster.diagnosis.findings.iter();
    let blocking: Vec<String> = findings
        .filter(|finding| blocks(finding))
        .map(|finding| format!("{}: {}", finding.code, finding.message))
        .collect();
    if !blocking.is_empty() {
        session.refuse_if_at_work(&cluster.answering()).await?;
        return Err(Stop::refused(anyhow!(
            "roles change in a healthy cluster only, and not while slots move:\n  {}\nnothing was changed",
            blocking.join("\n  ")
        )));
    }
    let observed = cluster.nodes();
    let zones = request.zones.zones(&session.connections, &observed).await;
    let notes = request.zones.unmatched(&observed);
    let nodes = nodes(&cluster, &zones);
    let observation = &cluster.diagnosis.observation;
    let masters = request
        .masters
        .iter()
        .map(|name| find_member(observation, name));
    let wishes = Wishes {
        prefer: request.prefer.clone(),
        masters: masters.collect::<Result<_, _>>().map_err(Stop::refused)?,
        move_replicas: request.move_replicas,
    };
    let plan = place::plan(&nodes, &wishes).map_err(|refusal| {
        Stop::refused(anyhow!(
            "{}; nothing was changed",
            explain(&cluster, &refusal)
        ))
    })?;
    Ok(Placement {
        cluster,
        zones,
        nodes,
        plan,
        notes,
    })
}

/// The members of shards that own slots.
fn nodes(cluster: &ClusterState, zones: &Zones) -> Vec<PlaceNode> {
    let topology = &cluster.diagnosis.topology;
    let owners = topology.masters().filter(|master| !master.slots.is_empty());
    let owners: BTreeSet<NodeId> = owners.map(|master| master.id).collect();
    let members = topology.members.values().filter_map(|member| {
        let master = match member.role {
            Role::Master => member.id,
            Role::Replica => member.master?,
        };
        owners.contains(&master).then_some((member, master))
    });
    members
        .map(|(member, master)| {
            let node = cluster.diagnosis.observation.nodes.get(&member.id);
            let report = node.and_then(|node| node.report());
            let is_linked =
                report.is_some_and(|report| report.info.master_link == Some(MasterLink::Up));
            let host = node.and_then(|node| node.host()).unwrap_or_default();
            PlaceNode {
                id: member.id,
                master,
                can_lead: member.role == Role::Master || is_linked,
                version: report.and_then(|report| report.info.version),
                host: host.to_string(),
                zone: zones.get(&member.id).cloned(),
                limit: report
                    .and_then(|report| report.info.maxmemory)
                    .filter(|limit| *limit > 0),
                used: report
                    .and_then(|report| report.info.used_memory)
                    .unwrap_or_default(),
            }
        })
        .collect()
}

impl Placement {
    /// The plan, as it is shown.
    pub(crate) fn view(&self) -> PlaceView {
        let node = |id: NodeId| {
            let mut node = name(&self.cluster.diagnosis, id);
            node.zone = self.zones.get(&id).cloned();
            node
        };
        let mut after = self.nodes.clone();
        for step in &self.plan.steps {
            match *step {
                PlaceStep::FailOver { to, from } => place::fail_over(&mut after, from, to),
                PlaceStep::Move { replica, to, .. } => {
                    let moved = after.iter_mut().find(|node| node.id == replica);
                    moved.into_iter().for_each(|node| node.master = to);
                }
            }
        }
        PlaceView {
            steps: self
                .plan
                .steps
                .iter()
                .map(|step| match *step {
                    PlaceStep::FailOver { to, from } => PlaceStepView::FailOver {
                        to: node(to),
                        from: node(from),
                    },
                    PlaceStep::Move {
                        replica,
                        from,
                        to,
                        bytes,
                    } => PlaceStepView::Move {
                        replica: node(replica),
                        from: node(from),
                        to: node(to),
                        copied_bytes: bytes,
                    },
                })
                .collect(),
            groups: groups(&self.nodes, &after),
            is_proven: self.plan.is_proven,
            warnings: [self.notes.clone(), self.left_behind()].concat(),
        }
    }

    /// The warnings for masters that were asked for, and that other nodes of their shards can't follow.
    fn left_behind(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for step in &self.plan.steps {
            let PlaceStep::FailOver { to, from } = *step else {
                continue;
            };
            let Some(new) = self.nodes.iter().find(|node| node.id == to) else {
                continue;
            };
            let older = place::left_behind(&self.nodes, from, new);
            warnings.extend(older.filter_map(|old| {
                Some(failover::left_behind(
                    &self.cluster,
                    (old.id, old.version?),
                    (&self.cluster.name(to), new.version?),
                ))
            }));
        }
        warnings
    }

    /// The nodes on which no other operator may be at work.
    pub(crate) fn lock(&self) -> Vec<Target> {
        let reports = self.cluster.diagnosis.observation.reports();
        reports
            .filter_map(|(node, _)| self.cluster.target_of(node))
            .collect()
    }

    /// A shell script that undoes the plan.
    pub(crate) fn undo(&self) -> String {
        let seed = [&[self.cluster.seed()][..], &self.cluster.reach_options()].concat();
        let mut lines = vec![
            "#!/bin/sh".to_string(),
            "# Undoes a redis-trib place, the last step first.".to_string(),
            "set -e".to_string(),
        ];
        for step in self.plan.steps.iter().rev() {
            lines.push(match step {
                PlaceStep::FailOver { from, .. } => {
                    let words = ["redis-trib", "failover"].map(str::to_string).to_vec();
                    let to = ["--to".to_string(), from.to_string(), "--yes".to_string()];
                    command_line(&[words, seed.clone(), to.to_vec()].concat())
                }
                PlaceStep::Move { replica, from, .. } => {
                    let addr = name(&self.cluster.diagnosis, *replica).addr;
                    self.cluster
                        .redis_cli(&addr, &format!("CLUSTER REPLICATE {from}"))
                }
            });
        }
        lines.join("\n") + "\n"
    }
}

/// What the loss of each host and zone takes down.
fn groups(before: &[PlaceNode], after: &[PlaceNode]) -> Vec<PlacedGroup> {
    let mut groups = Vec::new();
    for kind in ["zone", "host"] {
        let place = |node: &PlaceNode| match kind {
            "zone" => node.zone.clone(),
            _ => Some(node.host.clone()),
        };
        let places: BTreeSet<String> = before.iter().filter_map(place).collect();
        let count = |nodes: &[PlaceNode], at: &str| {
            let here = |node: &&PlaceNode| place(node).as_deref() == Some(at);
            let masters = nodes.iter().filter(|node| node.id == node.master);
            let there = masters.clone().filter(here).count();
            let mut copies: BTreeMap<NodeId, bool> = BTreeMap::new();
            for node in nodes {
                let is_elsewhere = place(node).as_deref() != Some(at);
                *copies.entry(node.master).or_default() |= is_elsewhere;
            }
            let lost = copies.values().filter(|survives| !**survives).count();
            (there, lost, there * 2 > masters.count())
        };
        for at in places {
            let (was, is) = (count(before, &at), count(after, &at));
            groups.push(PlacedGroup {
                kind,
                name: at,
                masters_before: was.0,
                masters_after: is.0,
                shards_lost_before: was.1,
                shards_lost_after: is.1,
                quorum_lost_before: was.2,
                quorum_lost_after: is.2,
            });
        }
    }
    groups
}

/// Carries out the plan. A signal stops it between two steps, and while a copy is received.
pub(crate) async fn execute(
    session: &Session,
    placement: &Placement,
    request: &PlaceRequest,
) -> Result<(), Stop> {
    let all = placement.plan.steps.len();
    for (done, step) in placement.plan.steps.iter().enumerate() {
        if let Some(signal) = session.interrupt.heard() {
            return Err(Stop::interrupted(anyhow!(
                "interrupted ({signal}): {done} of {all} steps are done; the same command goes on"
            )));
        }
        let work = async {
            match *step {
                PlaceStep::FailOver { to, .. } => fail_over(session, to, request).await,
                PlaceStep::Move { replica, to, .. } => {
                    move_replica(session, replica, to, request).await
                }
            }
        };
        let result = tokio::select! {
            biased;
            result = work => result,
            () = session.interrupt.forced() => Err(Stop::interrupted(anyhow!("interrupted twice"))),
        };
        result.map_err(|stop| Stop {
            error: anyhow!(
                "{:#}\n{done} of {all} steps are done; the same command plans the rest again",
                stop.error
            ),
            ..stop
        })?;
    }
    Ok(())
}

async fn fail_over(session: &Session, to: NodeId, request: &PlaceRequest) -> Result<(), Stop> {
    let wanted = |_: &ClusterState| {
        Ok(Request {
            member: NamedMember::To(to),
            how: Takeover::Planned,
            accepted: BTreeSet::new(),
        })
    };
    let (cluster, decision) = failover::observe_and_plan(session, wanted).await?;
    let decision = decision.map_err(Stop::partial)?;
    let Decision::FailOver(plan) = decision else {
        return Ok(());
    };
    let carried = carry_out(session, &cluster, &plan, request.agreement_timeout).await;
    let done = carried.map_err(|error| Stop::partial(anyhow!("{error}")))?;
    session.events.send(Event::FailedOver(Box::new(done)));
    Ok(())
}

/// Gives a replica another master, and waits until it has its copy. The shard that it leaves must keep a replica in sync, and
/// it must have room for the other copy.
async fn move_replica(
    session: &Session,
    replica: NodeId,
    to: NodeId,
    request: &PlaceRequest,
) -> Result<(), Stop> {
    let cluster = ClusterState::settled(session).await?;
    let now = nodes(&cluster, &Zones::new());
    let find = |id: NodeId| now.iter().find(|node| node.id == id);
    let (Some(node), Some(master)) = (find(replica), find(to)) else {
        return Err(changed(&cluster, replica));
    };
    if node.master == to {
        return Ok(());
    }
    let stays = now.iter().any(|other| {
        other.master == node.master
            && other.id != other.master
            && other.id != replica
            && other.can_lead
    });
    let has_room = node.limit.is_none_or(|limit| master.used <= limit);
    let is_replica = node.id != node.master && master.id == master.master;
    if !(stays && has_room && is_replica && node.can_follow(master)) {
        return Err(changed(&cluster, replica));
    }
    let Some(target) = cluster.reach.get(&replica) else {
        return Err(changed(&cluster, replica));
    };
    let client = session.connections.client(target).await;
    let sent = match client {
        Ok(client) => client.cluster_replicate(to).await,
        Err(error) => Err(error),
    };
    sent.map_err(|error| Stop::partial(anyhow!("{error}")))?;
    session.events.send(Event::Replicates {
        replica,
        master: to,
    });
    let within = request.sync_timeout;
    let deadline = Instant::now() + within;
    loop {
        if let Some(signal) = session.interrupt.heard() {
            return Err(Stop::interrupted(anyhow!(
                "interrupted ({signal}): {} still receives its copy from {}",
                cluster.name(replica),
                cluster.name(to)
            )));
        }
        let look = ClusterState::look(session).await?;
        let has_copy = nodes(&look, &Zones::new())
            .iter()
            .any(|node| node.id == replica && node.master == to && node.can_lead);
        let known = look.diagnosis.observation.reports();
        let is_known = known.into_iter().all(|(_, report)| {
            let entry = report.view.entry(replica);
            entry.is_some_and(|entry| entry.master == Some(to))
        });
        if has_copy && is_known {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Stop::partial(anyhow!(
                "{} has not received its copy from {} within {} (--sync-timeout)",
                cluster.name(replica),
                cluster.name(to),
                humantime::format_duration(within)
            )));
        }
        session.events.waiting(format!(
            "{} receives its copy from {}",
            cluster.name(replica),
            cluster.name(to)
        ));
        sleep(LOOK_AGAIN).await;
    }
}

fn changed(cluster: &ClusterState, replica: NodeId) -> Stop {
    Stop::partial(anyhow!(
        "{} can't get another master any more: the cluster has changed since the plan was made",
        cluster.name(replica)
    ))
}

/// What is wrong, and what to do next.
fn explain(cluster: &ClusterState, refusal: &PlaceRefusal) -> String {
    match refusal {
        PlaceRefusal::SameShard(one, other) => format!(
            "{} and {} are of one shard, which has one master: name one of them",
            cluster.name(*one),
            cluster.name(*other)
        ),
        PlaceRefusal::NoShard(id) => {
            format!("{} belongs to no shard that owns slots", cluster.name(*id))
        }
        PlaceRefusal::CantLead(id) => format!(
            "{} can't become a master: it does not answer or is not in sync (redis-trib check {} shows why)",
            cluster.name(*id),
            cluster.resume_seed()
        ),
        PlaceRefusal::UnknownZone { zone, known } if known.is_empty() => format!(
            "no node is in zone {zone:?}: no zone is known (--zone and --zone-from name zones)"
        ),
        PlaceRefusal::UnknownZone { zone, known } => {
            format!(
                "no node is in zone {zone:?}: there are {}",
                known.join(", ")
            )
        }
    }
}
