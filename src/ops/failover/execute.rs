//! Sends CLUSTER FAILOVER, and waits until all nodes agree.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, sleep};

use super::{explain, view};
use crate::client::{ClientError, DEFAULT_NODE_TIMEOUT, Fault, NodeClient};
use crate::cluster::copies::{CopyFacts, Danger, HEARTBEATS, ShardCopies, Unsafe};
use crate::cluster::node::{NodeId, Role, Takeover};
use crate::cluster::numbers::bytes;
use crate::cluster::parse::{ClusterInfo, Info, MasterLink};
use crate::connections::Target;
use crate::converge::{Goal, KnownBy, NotInTime, Watch, warn_of_copies};
use crate::event::{FailedOver, Phase};
use crate::plan::failover::{FailoverPlan, Refusal};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::{CommandLine, Stop};

/// The interval between two looks at a replica that takes over. It is added to the reported time without writes.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The wait for a planned failover. Servers give up after 5 s (Redis, and Valkey's default), and the votes come
/// before that.
const CLAIMED_WITHIN: Duration = Duration::from_secs(8);

/// How long a forced failover waits until the masters know the replica as one.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// How long a replica that takes over without its master may need for what was in flight to it.
const ARRIVES_WITHIN: Duration = Duration::from_secs(5);

/// How often a replica may report its master as down while it answers us.
const REFUSALS: usize = 20;

/// The interval between two such answers.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Why a failover did not happen, or was not seen to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FailoverError {
    /// The members that must agree are not known.
    #[error("{0:#}")]
    Survey(anyhow::Error),
    /// Not all nodes agree before the failover.
    #[error("{0}")]
    NotReady(NotInTime),
    /// The replica lacks what its master had written when the wait began.
    #[error(
        "{replica} is {} behind its master, and has not caught up within {}", bytes(*.lacks), humantime::format_duration(*.within)
    )]
    Behind {
        replica: String,
        lacks: u64,
        within: Duration,
    },
    /// The replica lacks what another copy had when the wait began, and would take over without that.
    #[error("{0}")]
    UnsafeCopy(String),
    /// A node refused a command, or its answer is missing.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The replica accepted CLUSTER FAILOVER and stayed a replica.
    #[error("{replica} did not take over within {} s: {why}", CLAIMED_WITHIN.as_secs())]
    NotClaimed { replica: String, why: String },
    /// The copy of the replica has changed since the plan was made.
    #[error(
        "{replica} has started again, or has begun a full resync, since the failover was planned"
    )]
    CopyChanged { replica: String },
    /// Not all nodes agree after the failover.
    #[error("{replica} has taken over, but {late}")]
    Late { replica: String, late: NotInTime },
}

impl FailoverError {
    /// Whether the failover command may have taken effect.
    pub(crate) fn is_in_doubt(&self) -> bool {
        match self {
            Self::Survey(_)
            | Self::NotReady(_)
            | Self::Behind { .. }
            | Self::UnsafeCopy(_)
            | Self::CopyChanged { .. } => false,
            Self::Client(error) => error.outcome_unknown(),
            Self::NotClaimed { .. } | Self::Late { .. } => true,
        }
    }
}

/// Carries out the plan until it ends or the first signal arrives.
pub(crate) async fn execute(
    session: &Session,
    cluster: &ClusterState,
    plan: &FailoverPlan,
    within: Duration,
) -> Result<FailedOver, Stop> {
    let failover = Failover::new(session, cluster, plan, within);
    let interrupted = match session.interrupt.stops(failover.run()).await {
        Ok(Ok(report)) => return Ok(report),
        Ok(Err(error)) if error.is_in_doubt() => {
            let error = anyhow!(
                "{error}\nTo see where it stands:\n  redis-trib check {} --wait 30s",
                cluster.resume_seed()
            );
            return Err(Stop::partial(error).with_resume([again(session, cluster, plan)]));
        }
        Ok(Err(FailoverError::Survey(error))) => return Err(Stop::refused(error)),
        Ok(Err(error)) => return Err(Stop::refused(anyhow!("{error}; nothing was changed"))),
        Err(signal) => signal,
    };
    match failover.is_sent.get() {
        true => Err(Stop::interrupted(anyhow!(
            "interrupted ({interrupted}): {} may still take over; redis-trib check {} shows whether it did",
            cluster.name(plan.replica),
            cluster.resume_seed()
        ))
        .with_resume([again(session, cluster, plan)])),
        false => Err(Stop::interrupted(anyhow!(
            "interrupted ({interrupted}): nothing was changed"
        ))),
    }
}

/// The command that finishes the failover: by the name of the replica, since the old master may be gone.
fn again(session: &Session, cluster: &ClusterState, plan: &FailoverPlan) -> CommandLine {
    let replica = plan.replica.to_string();
    let mut command = ["redis-trib", "failover"].map(str::to_string).to_vec();
    command.extend([cluster.seed(), "--to".to_string(), replica]);
    let mut own = session.resume.own.iter();
    while let Some(word) = own.next() {
        match word.as_str() {
            // The member that was named, with its flag.
            "--to" | "--of" => drop(own.next()),
            _ => command.push(word.clone()),
        }
    }
    command.extend(cluster.resume_options());
    command
}

/// Carries out the plan as a part of another change. It does not watch signals.
pub(crate) async fn carry_out(
    session: &Session,
    cluster: &ClusterState,
    plan: &FailoverPlan,
    within: Duration,
) -> Result<FailedOver, FailoverError> {
    Failover::new(session, cluster, plan, within).run().await
}

/// The same. The copies of the nodes in `left_behind` are not waited for: they restart next, and can't follow a newer
/// master before.
pub(crate) async fn carry_out_leaving(
    session: &Session,
    cluster: &ClusterState,
    plan: &FailoverPlan,
    within: Duration,
    left_behind: BTreeSet<NodeId>,
) -> Result<FailedOver, FailoverError> {
    let failover = Failover {
        left_behind,
        ..Failover::new(session, cluster, plan, within)
    };
    failover.run().await
}

/// A failover in progress.
struct Failover<'a> {
    session: &'a Session,
    cluster: &'a ClusterState,
    plan: FailoverPlan,
    within: Duration,
    /// Whether CLUSTER FAILOVER was sent.
    is_sent: Cell<bool>,
    /// Nodes whose copies are not waited for.
    left_behind: BTreeSet<NodeId>,
}

impl<'a> Failover<'a> {
    fn new(
        session: &'a Session,
        cluster: &'a ClusterState,
        plan: &FailoverPlan,
        within: Duration,
    ) -> Self {
        Self {
            session,
            cluster,
            plan: *plan,
            within,
            is_sent: Cell::new(false),
            left_behind: BTreeSet::new(),
        }
    }

    /// Takes over, and waits until all nodes that answer agree and the old master is a replica.
    async fn run(&self) -> Result<FailedOver, FailoverError> {
        let view = view(self.cluster, &self.plan);
        let survey = |error| FailoverError::Survey(error);
        let Some(target) = self.cluster.reach.get(&self.plan.replica) else {
            let name = self.cluster.name(self.plan.replica);
            return Err(survey(anyhow!("{name} has no address")));
        };
        let participants = self.cluster.participants(self.session).await;
        let (participants, absent) = participants.map_err(|stop| survey(stop.error))?;
        let events = &self.session.events;
        let connections = Arc::clone(&self.session.connections);
        let within = self.within;
        let (mut others, mut without_master) = (participants.clone(), absent.clone());
        let watch = Watch::new(connections, participants, absent, events.sender(), within);
        self.wait_until_known(&watch).await?;
        self.outlast_old_votes(target).await?;
        match self.plan.how {
            Takeover::Planned => self.wait_until_caught_up(target).await?,
            Takeover::Force | Takeover::Takeover => self.wait_for_data_in_flight(target).await?,
        }
        events.phase(Phase::TakeOver);
        let held = self.claim(target).await?;
        let late = |late: NotInTime| FailoverError::Late {
            replica: self.cluster.name(self.plan.replica),
            late,
        };
        let look_again = async || {
            let cluster = ClusterState::look(self.session).await.ok()?;
            let candidate = cluster.diagnosis.topology.members.get(&self.plan.replica)?;
            (candidate.role == Role::Master).then(|| self.goal(&cluster, self.plan.replica))
        };
        let goal = Arc::new(self.goal(self.cluster, self.plan.replica));
        if self.master_may_exit() {
            others.remove(&self.plan.master);
            without_master.insert(self.plan.master);
            let connections = Arc::clone(&self.session.connections);
            let events = events.sender();
            let others = Watch::new(connections, others, without_master, events, within);
            let goal = Arc::new(Goal {
                masters: others_of(&goal.masters, self.plan.master),
                ..(*goal).clone()
            });
            others.agree_and_settle(&goal).await.map_err(late)?;
            warn_of_copies(self.session, &others.usable(&goal).await.map_err(late)?);
        }
        if !self.has_exited().await {
            let agreed = async {
                let goal = watch.agree_as_it_is(goal, look_again).await?;
                watch.agree_and_settle(&goal).await?;
                watch.usable(&self.copies_of(&goal)).await
            };
            match agreed.await {
                Err(_) if self.has_exited().await => {}
                agreed => warn_of_copies(self.session, &agreed.map_err(late)?),
            }
        }
        Ok(FailedOver {
            replica: (view.replica.id, view.replica.addr),
            master: (view.master.id, view.master.addr),
            slots: view.slots,
            held,
            how: self.plan.how,
        })
    }

    /// The goal without the copies that are not waited for.
    fn copies_of(&self, goal: &Arc<Goal>) -> Arc<Goal> {
        let mut goal = (**goal).clone();
        goal.masters.retain(|id, _| !self.left_behind.contains(id));
        Arc::new(goal)
    }

    /// Whether the old master can't write to its disk. A node that can't save its nodes.conf exits, which it has to do
    /// as soon as it is a replica; and a replica that can't write what its master sends exits, too (Redis ≥ 7.0,
    /// `replica-ignore-disk-write-errors no`).
    fn master_may_exit(&self) -> bool {
        let nodes = &self.cluster.diagnosis.observation.nodes;
        let report = nodes.get(&self.plan.master).and_then(|node| node.report());
        report.is_some_and(|report| {
            report.refuses_writes().is_some() || report.info.disk_failures.any()
        })
    }

    /// Whether the old master has exited for that reason; the user is told.
    async fn has_exited(&self) -> bool {
        if !self.master_may_exit() {
            return false;
        }
        let Some(target) = self.cluster.reach.get(&self.plan.master) else {
            return false;
        };
        let has_exited = self.session.connections.own(target).await.is_err();
        if has_exited {
            self.session.events.warn(format!(
                "{} does not answer since it handed over: a server that can't write to its disk exits as a replica; \
                 repair its disk and start it again, and it follows its new master",
                self.cluster.name(self.plan.master)
            ));
        }
        has_exited
    }

    /// Waits until the voters know the replica as a replica of its master. A master that has not heard of a recent
    /// change takes the replica for a master and gives it no vote, and with a long node timeout the replica asks
    /// once in minutes.
    async fn wait_until_known(&self, watch: &Watch) -> Result<(), FailoverError> {
        let now = Arc::new(self.goal(self.cluster, self.plan.master));
        match self.plan.how {
            Takeover::Planned => {
                let agreed = watch.agree_and_settle(&now).await;
                agreed.map_err(FailoverError::NotReady)
            }
            // The fault that this failover repairs may keep nodes from ever agreeing.
            Takeover::Force => {
                let for_now = watch.within(HEARD_WITHIN);
                if let Err(late) = for_now.agree_and_settle(&now).await {
                    tracing::debug!(%late, "asking for votes although not all nodes agree");
                    for_now.settle().await;
                }
                Ok(())
            }
            Takeover::Takeover => Ok(()),
        }
    }

    /// Waits until the replica has dropped the votes of an earlier election. A node that was elected keeps its votes
    /// for some time, and counts them again if it becomes a replica meanwhile: it takes over at once, without a new
    /// vote and with its old epoch, loses against the master that it took over from, and loses the writes that it
    /// took (Redis 8.2.3, 2 of 2 tries; the code of 7.0 is the same). After four node timeouts it starts afresh.
    ///
    /// A node does not report when it was elected. It reports whether it ever got votes, and it has been a replica
    /// since then for at least as long as it has been connected to its master.
    async fn outlast_old_votes(&self, target: &Target) -> Result<(), FailoverError> {
        if self.plan.how == Takeover::Takeover {
            return Ok(());
        }
        let client = self.session.connections.client(target).await?;
        let info = ClusterInfo::parse(&client.cluster_info().await?);
        if info.votes_received == 0 {
            return Ok(());
        }
        let timeout = client.node_timeout().await?.unwrap_or(DEFAULT_NODE_TIMEOUT);
        let stale_for = (timeout * 4).max(Duration::from_secs(4));
        let began = Instant::now();
        loop {
            // The servers may have elected it meanwhile, if its master is dead.
            if client.role().await? == Role::Master {
                return Ok(());
            }
            // Without permission for CLIENT LIST the age is unknown, and there is no wait.
            let Ok(list) = client.client_list().await else {
                return Ok(());
            };
            // In whole seconds, rounded down; `None` if its master is dead, but it was a replica all the time that
            // we have watched it.
            let age = master_connection_age(&list).unwrap_or_default();
            let age = age.max(began.elapsed());
            let Some(left) = stale_for.checked_sub(age) else {
                return Ok(());
            };
            self.session.events.waiting(format!(
                "{} got votes a short while ago and would count the old votes again: {} s to go",
                target.addr,
                left.as_secs() + 1
            ));
            sleep(left.min(Duration::from_secs(1))).await;
        }
    }

    /// Waits until the replica has what its master had written when the wait began. From CLUSTER FAILOVER on the master
    /// holds back writes until the replica has the rest, and the servers give up after 5 s.
    ///
    /// A master of Redis 6.2 that has handed over goes on pausing its clients for up to 10 s. The connection to its
    /// new master is one of them: it processes nothing meanwhile (its log, 6.2: no "All master replication stream
    /// processed" after "Received replication offset").
    async fn wait_until_caught_up(&self, target: &Target) -> Result<(), FailoverError> {
        let Some(master) = self.cluster.reach.get(&self.plan.master) else {
            return Ok(());
        };
        let offset = async |target: &Target| {
            let client = self.session.connections.client(target).await?;
            let info = Info::parse(&client.info().await?);
            Ok::<_, ClientError>(info.replication_offset.unwrap_or_default())
        };
        let written = offset(master).await?;
        let began = Instant::now();
        loop {
            let lacks = written.saturating_sub(offset(target).await?);
            if lacks == 0 {
                return Ok(());
            }
            let replica = self.cluster.name(self.plan.replica);
            if began.elapsed() >= self.within {
                return Err(FailoverError::Behind {
                    replica,
                    lacks,
                    within: self.within,
                });
            }
            self.session.events.waiting(format!(
                "{replica} to have the last {} of its master",
                bytes(lacks)
            ));
            sleep(ASK_AGAIN).await;
        }
    }

    /// Waits until the replica has what the other copies that answer had when the wait began. A link says up until
    /// `repl-timeout` after its last byte, and during CLIENT PAUSE a replica of Redis 6.2 processes nothing. So a
    /// replica may lack much more than what is in flight to a healthy one, which arrives in moments.
    async fn wait_for_data_in_flight(&self, target: &Target) -> Result<(), FailoverError> {
        let FailoverPlan {
            replica, master, ..
        } = self.plan;
        if self.plan.accepts_loss {
            return Ok(());
        }
        let facts = async |target: &Target| {
            let client = self.session.connections.client(target).await?;
            let info = Info::parse(&client.info().await?);
            Ok::<_, ClientError>(CopyFacts::of_info(&info))
        };
        let diagnosis = &self.cluster.diagnosis;
        let copies = ShardCopies::of(&diagnosis.observation, &diagnosis.topology, master);
        let others = copies.others(replica);
        let mut others: BTreeMap<NodeId, CopyFacts> =
            others.map(|(copy, its)| (copy.id, its.clone())).collect();
        let master_answers = others.contains_key(&master);
        if let (Some(before), Some(target)) =
            (others.get_mut(&master), self.cluster.reach.get(&master))
        {
            // If it has died since, what it had before is known.
            *before = facts(target).await.unwrap_or_else(|_| before.clone());
        }
        let began = Instant::now();
        while !others.is_empty() {
            let own = facts(target).await?;
            let lacks = others.iter().map(|(id, its)| (own.lacks(its), *id));
            let (lacks, better) = lacks.max().unwrap_or((0, master));
            let allowed = match own.link {
                Some(MasterLink::Up) if master_answers => 0,
                _ => HEARTBEATS,
            };
            if lacks <= allowed {
                break;
            }
            if began.elapsed() >= ARRIVES_WITHIN {
                let refusal = Refusal::UnsafeCopy {
                    replica,
                    master,
                    danger: Danger {
                        why: Unsafe::Behind(lacks),
                        better: Some(better),
                    },
                    votes: None,
                };
                return Err(FailoverError::UnsafeCopy(explain(self.cluster, &refusal)));
            }
            self.session.events.waiting(format!(
                "{} to have the last {} of {}",
                self.cluster.name(replica),
                bytes(lacks),
                self.cluster.name(better)
            ));
            sleep(ASK_AGAIN).await;
        }
        Ok(())
    }

    /// Sends the command, and polls until the replica reports the role master. Returns the time that took: its master
    /// has held back writes for at most as long.
    async fn claim(&self, target: &Target) -> Result<Duration, FailoverError> {
        let client = self.session.connections.client(target).await?;
        // The servers have elected it during the waits.
        if client.role().await? == Role::Master {
            return Ok(Duration::ZERO);
        }
        self.check_copy(&client).await?;
        let mut refused = 0;
        let sent = loop {
            let sent = Instant::now();
            self.is_sent.set(true);
            match client.cluster_failover(self.plan.how).await {
                Ok(()) => break sent,
                // It has just lost its bus link to its master, which answers us; the link comes back at once.
                Err(error) if is_unlinked(&error) && refused < REFUSALS => {
                    refused += 1;
                    self.is_sent.set(false);
                    sleep(ASK_AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        while sent.elapsed() < CLAIMED_WITHIN {
            if client.role().await? == Role::Master {
                return Ok(sent.elapsed());
            }
            sleep(LOOK_AGAIN).await;
        }
        Err(FailoverError::NotClaimed {
            replica: self.cluster.name(self.plan.replica),
            why: self.why_not_claimed(&client).await,
        })
    }

    /// Refuses a replica whose copy is no longer the one that was planned with: the waits before take seconds.
    async fn check_copy(&self, client: &NodeClient) -> Result<(), FailoverError> {
        if self.plan.how == Takeover::Planned || self.plan.gives_up_data {
            return Ok(());
        }
        let node = self
            .cluster
            .diagnosis
            .observation
            .nodes
            .get(&self.plan.replica);
        let planned = node
            .and_then(|node| node.report())
            .map(|report| &report.info);
        let now = Info::parse(&client.info().await?);
        let is_same = planned.is_none_or(|planned| planned.run_id == now.run_id);
        // In an empty shard this loses nothing.
        let was_syncing =
            planned.is_some_and(|planned| planned.master_link == Some(MasterLink::Syncing));
        let is_syncing = now.master_link == Some(MasterLink::Syncing) && !was_syncing;
        match is_same && !now.loading && !is_syncing {
            true => Ok(()),
            false => Err(FailoverError::CopyChanged {
                replica: self.cluster.name(self.plan.replica),
            }),
        }
    }

    /// Why the replica stayed a replica, as far as it tells.
    async fn why_not_claimed(&self, client: &NodeClient) -> String {
        let master = self.cluster.name(self.plan.master);
        if self.plan.how == Takeover::Force {
            let info = client.cluster_info().await;
            let votes = info.map_or(0, |text| ClusterInfo::parse(&text).votes_received);
            return format!(
                "too few masters voted for it (it got {votes} votes since it started): --takeover needs no votes"
            );
        }
        let answers = async {
            let target = self.cluster.reach.get(&self.plan.master)?;
            let client = self.session.connections.client(target).await.ok()?;
            client.role().await.ok()
        };
        let writes = match answers.await {
            Some(Role::Master) => format!("writes go on at {master}"),
            Some(Role::Replica) => format!("{master} is a replica now"),
            None => format!("{master} does not answer any more"),
        };
        format!("the master may have been too busy, or too few masters voted; {writes}")
    }

    /// The state in which `owner`, one of the two, owns the master's slots, and the rest of the shard are its replicas.
    fn goal(&self, cluster: &ClusterState, owner: NodeId) -> Goal {
        let master = self.plan.master;
        let topology = &cluster.diagnosis.topology;
        let slots = cluster.owners().into_iter().map(|its| {
            let id = if its.id == master { owner } else { its.id };
            (id, its.slots.ranges())
        });
        let replicas = topology.replicas_of(master);
        let shard = replicas.chain(topology.members.get(&master));
        let followers = shard.filter(|member| member.id != owner && !member.peer_status.silent);
        Goal {
            slots: slots.collect(),
            masters: followers.map(|member| (member.id, owner)).collect(),
            roles_known_by: KnownBy::All,
        }
    }
}

/// The same without one of the replicas.
fn others_of(masters: &BTreeMap<NodeId, NodeId>, replica: NodeId) -> BTreeMap<NodeId, NodeId> {
    let others = masters.iter().filter(|(id, _)| **id != replica);
    others.map(|(id, master)| (*id, *master)).collect()
}

/// The age of a replica's connection to its master, from its CLIENT LIST: the connection with the flag M.
fn master_connection_age(list: &str) -> Option<Duration> {
    let field = |line: &str, name: &str| {
        let mut fields = line.split(' ').filter_map(|field| field.split_once('='));
        fields.find_map(|(key, value)| (key == name).then(|| value.to_string()))
    };
    let mut lines = list.lines();
    let line = lines.find(|line| field(line, "flags").is_some_and(|flags| flags.contains('M')))?;
    field(line, "age")?.parse().ok().map(Duration::from_secs)
}

/// `Master is down or failed, please use CLUSTER FAILOVER FORCE`.
fn is_unlinked(error: &ClientError) -> bool {
    matches!(&error.fault, Fault::Server { message, .. } if message.contains("is down or failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_the_link_is_that_of_the_connection_with_the_flag_m() {
        let list = "id=3 addr=127.0.0.1:5 age=90 idle=0 flags=N cmd=client\n\
                    id=9 addr=127.0.0.1:7000 age=12 idle=0 flags=M cmd=replconf\n";
        assert_eq!(master_connection_age(list), Some(Duration::from_secs(12)));
        assert_eq!(master_connection_age("id=3 age=90 flags=N\n"), None);
    }
}
