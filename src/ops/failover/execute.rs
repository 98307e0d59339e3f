//! Sends CLUSTER FAILOVER, and waits until all nodes agree.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, sleep};

use super::view;
use crate::client::{ClientError, DEFAULT_NODE_TIMEOUT, Fault};
use crate::cluster::node::{NodeId, Role, Takeover};
use crate::cluster::parse::ClusterInfo;
use crate::connections::Target;
use crate::converge::{Goal, KnownBy, NotInTime, Watch};
use crate::event::{FailedOver, Phase};
use crate::plan::failover::FailoverPlan;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;

/// The interval between two looks at a replica that takes over. It is added to the reported time without writes.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The wait for a planned failover. Servers give up after 5 s (Redis, and Valkey's default), and the votes come
/// before that.
const CLAIMED_WITHIN: Duration = Duration::from_secs(8);

/// How long a forced failover waits until the masters know the replica as one.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

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
    /// A node refused a command, or its answer is missing.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The replica accepted CLUSTER FAILOVER and stayed a replica.
    #[error(
        "{replica} did not take over within {} s: the master may have been too busy, or too few \
         masters voted; writes go on at {master}",
        CLAIMED_WITHIN.as_secs()
    )]
    NotClaimed { replica: String, master: String },
    /// Not all nodes agree after the failover.
    #[error("{replica} has taken over, but {late}")]
    Late { replica: String, late: NotInTime },
}

impl FailoverError {
    /// Whether the failover command may have taken effect.
    fn may_have_changed(&self) -> bool {
        match self {
            Self::Survey(_) | Self::NotReady(_) => false,
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
        Ok(Err(error)) if error.may_have_changed() => {
            return Err(Stop::partial(anyhow!(
                "{error}\nTo see where it stands:\n  redis-trib check {} --wait 30s",
                cluster.resume_seed()
            )));
        }
        Ok(Err(FailoverError::Survey(error))) => return Err(Stop::refused(error)),
        Ok(Err(error)) => return Err(Stop::refused(anyhow!("{error}; nothing was changed"))),
        Err(signal) => signal,
    };
    Err(Stop::interrupted(match failover.is_sent.get() {
        true => anyhow!(
            "interrupted ({interrupted}): {} may still take over; redis-trib check {} shows whether it did",
            cluster.name(plan.replica),
            cluster.resume_seed()
        ),
        false => anyhow!("interrupted ({interrupted}): nothing was changed"),
    }))
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

/// A failover in progress.
struct Failover<'a> {
    session: &'a Session,
    cluster: &'a ClusterState,
    plan: FailoverPlan,
    within: Duration,
    /// Whether CLUSTER FAILOVER was sent.
    is_sent: Cell<bool>,
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
        let watch = Watch::new(connections, participants, absent, events.sender(), within);
        self.wait_until_known(&watch).await?;
        self.outlast_old_votes(target).await?;
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
        let goal = watch.agree_as_it_is(goal, look_again).await.map_err(late)?;
        watch.agree_and_settle(&goal).await.map_err(late)?;
        watch.usable(&goal).await.map_err(late)?;
        Ok(FailedOver {
            replica: (view.replica.id, view.replica.addr),
            master: (view.master.id, view.master.addr),
            slots: view.slots,
            held,
            how: self.plan.how,
        })
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
    /// A node does not report when it was elected. It reports whether it ever asked for votes, and it has been a
    /// replica since then for at least as long as it has been connected to its master.
    async fn outlast_old_votes(&self, target: &Target) -> Result<(), FailoverError> {
        if self.plan.how == Takeover::Takeover {
            return Ok(());
        }
        let client = self.session.connections.client(target).await?;
        if ClusterInfo::parse(&client.cluster_info().await?).votes_asked == 0 {
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
                "{} was elected a short while ago and would count the old votes again: {} s to go",
                target.addr,
                left.as_secs() + 1
            ));
            sleep(left.min(Duration::from_secs(1))).await;
        }
    }

    /// Sends the command, and polls until the replica reports the role master. Returns the time that took: its master
    /// has held back writes for at most as long.
    async fn claim(&self, target: &Target) -> Result<Duration, FailoverError> {
        let client = self.session.connections.client(target).await?;
        // The servers have elected it during the waits.
        if client.role().await? == Role::Master {
            return Ok(Duration::ZERO);
        }
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
            master: self.cluster.name(self.plan.master),
        })
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
