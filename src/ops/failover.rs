//! How a replica takes over from its master: who may, the command, and the wait until all see it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep};

use crate::client::{ClientError, Fault};
use crate::cluster::node::{NodeId, Role, Takeover};
use crate::cluster::parse::{ClusterInfo, MasterLink};
use crate::cluster::topology::Member;
use crate::connections::Target;
use crate::converge::{Goal, Heard, NotInTime, Watch};
use crate::event::{Event, Phase};
use crate::plan::failover::{FailoverCandidate, NoCandidate, choose};
use crate::session::Session;
use crate::state::{ClusterState, name};
use crate::stop::Stop;
use crate::ui::{FailoverReport, FailoverView, Ui};

/// Between two looks at a replica that takes over. The time that writes were held is told to that.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// How long a planned takeover is waited for: the servers give up after 5 s (Redis, and Valkey's
/// default), and the votes come before that.
const CLAIMED_WITHIN: Duration = Duration::from_secs(8);

/// How long a forced takeover waits for the masters to hear who follows whom.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// How often a replica may say that its master is down, which we see alive.
const REFUSALS: usize = 20;

/// Between two such answers.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Who takes over from whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FailoverPlan {
    pub(crate) replica: NodeId,
    pub(crate) master: NodeId,
    pub(crate) how: Takeover,
    /// Of how many replicas it was chosen; 1 where it was named.
    chosen_of: usize,
}

/// Why a takeover did not come about, or was not seen to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// Not all agreed before anything was done.
    #[error("{0}")]
    NotReady(NotInTime),
    /// The command was refused, or its answer is missing.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// OK was said, and nothing came of it.
    #[error(
        "{replica} did not take over within {} s: the master may have been too busy, or too few \
         masters voted; writes go on at {master}",
        CLAIMED_WITHIN.as_secs()
    )]
    NotClaimed { replica: String, master: String },
    /// Not all agree.
    #[error("{replica} has taken over, but {late}")]
    Late { replica: String, late: NotInTime },
}

impl Failed {
    /// Whether anything may have changed.
    pub(crate) fn has_changed(&self) -> bool {
        match self {
            Self::NotReady(_) => false,
            Self::Client(error) => error.outcome_unknown(),
            Self::NotClaimed { .. } | Self::Late { .. } => true,
        }
    }
}

impl FailoverPlan {
    /// Who takes over where this node is named: the replica itself, or the best one of a master.
    /// Refuses what can't come about, or would lose what its manner promises to keep.
    pub(crate) fn of(cluster: &ClusterState, id: NodeId, how: Takeover) -> Result<Self, Stop> {
        let refuse = |why: String| Err(Stop::refused(anyhow!("{why}; nothing was changed")));
        let topology = &cluster.diagnosis.topology;
        let Some(member) = topology.members.get(&id) else {
            return refuse(format!("{} is no member", cluster.name(id)));
        };
        let (master, candidates, chosen_of) = match (member.role, member.master) {
            (Role::Replica, Some(master)) => (master, vec![candidate(cluster, member)], 1),
            (Role::Replica, None) => {
                return refuse(format!("{} follows nobody", cluster.name(id)));
            }
            (Role::Master, _) => {
                let candidates: Vec<FailoverCandidate> = topology
                    .replicas_of(id)
                    .map(|replica| candidate(cluster, replica))
                    .collect();
                let count = candidates.len();
                (id, candidates, count)
            }
        };
        let replica = match choose(&candidates, how) {
            Ok(replica) => replica,
            Err(NoCandidate::None) => {
                return refuse(format!(
                    "{} has no replica that could take over (redis-trib add-node NEW {} --replica \
                     --master-id {})",
                    cluster.name(master),
                    cluster.resume_seed(),
                    master.short()
                ));
            }
            Err(NoCandidate::Silent) if chosen_of == 1 => {
                return refuse(format!(
                    "{} does not answer",
                    cluster.name(candidates[0].id)
                ));
            }
            Err(NoCandidate::Silent) => {
                return refuse(format!(
                    "none of the {chosen_of} replicas of {} answers",
                    cluster.name(master)
                ));
            }
            Err(NoCandidate::Unlinked(replica)) => {
                return refuse(unlinked(cluster, replica, master));
            }
        };
        let succession = Self {
            replica,
            master,
            how,
            chosen_of,
        };
        succession.refuse_what_cannot_be(cluster)?;
        Ok(succession)
    }

    fn refuse_what_cannot_be(&self, cluster: &ClusterState) -> Result<(), Stop> {
        let refuse = |why: String| Err(Stop::refused(anyhow!("{why}; nothing was changed")));
        let topology = &cluster.diagnosis.topology;
        let name = cluster.name(self.master);
        let Some(master) = topology.members.get(&self.master) else {
            return refuse(format!("nobody knows the master {name}"));
        };
        if master.role == Role::Replica {
            return refuse(format!(
                "{} follows {name}, which is a replica itself",
                cluster.name(self.replica)
            ));
        }
        if self.how == Takeover::Planned
            && (master.peer_status.silent || master.peer_status.is_down())
        {
            return refuse(format!(
                "the master {name} does not answer, so it can't hand over: --force takes over without \
                 it, and loses what it had not sent yet"
            ));
        }
        // The promoted node does not know which slots were on their way (Redis 7.0, 8.6).
        let open: Vec<String> = topology
            .open_slots()
            .filter(|(member, open)| member.id == self.master || open.peer == self.master)
            .map(|(_, open)| open.slot.to_string())
            .collect();
        if self.how == Takeover::Planned && !open.is_empty() {
            return refuse(format!(
                "slots {} are on their way from or to {name}, which its successor would not know: \
                 finish that first (redis-trib reshard {} --finish-open, or redis-trib check)",
                open.join(","),
                cluster.resume_seed()
            ));
        }
        if self.how == Takeover::Takeover {
            return Ok(());
        }
        let voters: Vec<&Member> = topology.masters().filter(|m| !m.slots.is_empty()).collect();
        let there = |member: &&&Member| !member.peer_status.silent && !member.peer_status.is_down();
        let votes = voters.iter().filter(there).count();
        if votes * 2 <= voters.len() {
            return refuse(format!(
                "{votes} of {} masters answer, and a majority must vote: --takeover does without \
                 votes",
                voters.len()
            ));
        }
        Ok(())
    }

    /// For people.
    pub(crate) fn view(&self, cluster: &ClusterState) -> FailoverView {
        let diagnosis = &cluster.diagnosis;
        let offset = |id: NodeId| {
            let node = diagnosis.observation.nodes.get(&id)?;
            node.report()?.info.replication_offset
        };
        let behind = offset(self.master)
            .zip(offset(self.replica))
            .map(|(master, replica)| master.saturating_sub(replica));
        let member = diagnosis.topology.members.get(&self.master);
        FailoverView {
            replica: name(diagnosis, self.replica),
            master: name(diagnosis, self.master),
            slots: member.map(|m| m.slots.clone()).unwrap_or_default(),
            how: self.how,
            behind,
            chosen_of: self.chosen_of,
        }
    }

    /// Takes over, and waits until all nodes that answer agree, and the old master follows.
    pub(crate) async fn carry_out(
        &self,
        session: &Session,
        cluster: &ClusterState,
        ui: &Ui,
        events: UnboundedSender<Event>,
        within: Duration,
    ) -> Result<FailoverReport, Failed> {
        let view = self.view(cluster);
        let Some(target) = cluster.reach.get(&self.replica) else {
            return Err(self.not_claimed(cluster));
        };
        // Everybody has an address: the look that this began with saw to it.
        let (participants, absent) = cluster.participants(session).await.unwrap_or_default();
        let watch = Watch {
            connections: Arc::clone(&session.connections),
            participants: Arc::new(participants),
            absent: Arc::new(absent),
            events: events.clone(),
            deadline: Instant::now() + within,
            within,
            nudged: Arc::default(),
        };
        self.heard_of(&watch, cluster).await?;
        self.outlast_old_votes(session, target, ui).await?;
        let _ = events.send(Event::Phase(Phase::TakeOver));
        let held = self.claim(session, cluster, target).await?;
        let late = |late: NotInTime| Failed::Late {
            replica: cluster.name(self.replica),
            late,
        };
        let look_again = async || {
            let cluster = ClusterState::look(session).await.ok()?;
            let candidate = cluster.diagnosis.topology.members.get(&self.replica)?;
            (candidate.role == Role::Master).then(|| self.goal(&cluster, self.replica))
        };
        let goal = Arc::new(self.goal(cluster, self.replica));
        let goal = watch.agree_as_it_is(goal, look_again).await.map_err(late)?;
        watch.agree_and_settle(&goal).await.map_err(late)?;
        watch.usable(&goal).await.map_err(late)?;
        Ok(FailoverReport {
            replica: view.replica,
            master: view.master,
            slots: view.slots,
            held,
            how: self.how,
        })
    }

    /// What was changed a moment ago may not be known to all who have a say: a master that takes the
    /// replica for a master gives it no vote, and with a long node timeout it asks once in minutes.
    async fn heard_of(&self, watch: &Watch, cluster: &ClusterState) -> Result<(), Failed> {
        let now = Arc::new(self.goal(cluster, self.master));
        match self.how {
            Takeover::Planned => {
                let agreed = watch.agree_and_settle(&now).await;
                agreed.map_err(Failed::NotReady)
            }
            // What is broken may keep some from ever agreeing, and it is to be mended by this.
            Takeover::Force => {
                let within = HEARD_WITHIN.min(watch.within);
                let for_now = Watch {
                    deadline: Instant::now() + within,
                    within,
                    ..watch.clone()
                };
                if let Err(late) = for_now.agree_and_settle(&now).await {
                    tracing::debug!(%late, "votes are asked for all the same");
                    for_now.settle().await;
                }
                Ok(())
            }
            Takeover::Takeover => Ok(()),
        }
    }

    /// A node that was elected keeps the votes for some time, and where it becomes a replica meanwhile
    /// it counts them again: it takes over at once, without anybody's vote and under its old epoch,
    /// loses to the master that it took over from, and with that the writes that it took (Redis
    /// 8.2.3, 2 of 2 tries; the code of 7.0 is the same). After four node timeouts it starts afresh.
    ///
    /// When it was elected it does not tell. That it ever asked for votes it does; and it has been a
    /// replica since then for as long as it has been connected to its master, at the least.
    async fn outlast_old_votes(
        &self,
        session: &Session,
        target: &Target,
        ui: &Ui,
    ) -> Result<(), Failed> {
        if self.how == Takeover::Takeover {
            return Ok(());
        }
        let client = session.connections.client(target).await?;
        if ClusterInfo::parse(&client.cluster_info().await?).votes_asked == 0 {
            return Ok(());
        }
        const NODE_TIMEOUT: &str = "cluster-node-timeout";
        let config = client.config_get(&[NODE_TIMEOUT]).await?;
        let timeout = config.get(NODE_TIMEOUT).and_then(|ms| ms.parse().ok());
        let timeout = timeout.map_or(Duration::from_secs(15), Duration::from_millis);
        let stale_for = (timeout * 4).max(Duration::from_secs(4));
        let began = Instant::now();
        loop {
            // Where its master is dead it may have been elected without us by now.
            if client.role().await? == Role::Master {
                return Ok(());
            }
            // Where nobody may look, the age is not known, and it is left at that.
            let Ok(list) = client.client_list().await else {
                return Ok(());
            };
            // In whole seconds, rounded down; none where its master is dead, but we have seen it a
            // replica all the time.
            let age = master_connection_age(&list).unwrap_or_default();
            let age = age.max(began.elapsed());
            let Some(left) = stale_for.checked_sub(age) else {
                return Ok(());
            };
            ui.waiting(&format!(
                "{} was elected a short while ago, and would count the old votes again: {} s to go",
                target.addr,
                left.as_secs() + 1
            ));
            sleep(left.min(Duration::from_secs(1))).await;
        }
    }

    /// Sends the command, and looks until the replica calls itself a master: how long that took is
    /// the most that its master can have held writes back.
    async fn claim(
        &self,
        session: &Session,
        cluster: &ClusterState,
        target: &Target,
    ) -> Result<Duration, Failed> {
        let client = session.connections.client(target).await?;
        // Elected without us while we waited.
        if client.role().await? == Role::Master {
            return Ok(Duration::ZERO);
        }
        let mut refused = 0;
        let sent = loop {
            let sent = Instant::now();
            match client.cluster_failover(self.how).await {
                Ok(()) => break sent,
                // Its bus link to its master has just been lost, and comes back at once: the master
                // answers us.
                Err(error) if is_unlinked(&error) && refused < REFUSALS => {
                    refused += 1;
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
        Err(self.not_claimed(cluster))
    }

    fn not_claimed(&self, cluster: &ClusterState) -> Failed {
        Failed::NotClaimed {
            replica: cluster.name(self.replica),
            master: cluster.name(self.master),
        }
    }

    /// One of the two owns what the master did; the other follows it, and so do the other replicas.
    fn goal(&self, cluster: &ClusterState, owner: NodeId) -> Goal {
        let topology = &cluster.diagnosis.topology;
        let slots = cluster.owners().into_iter().map(|its| {
            let id = if its.id == self.master { owner } else { its.id };
            (id, its.slots.ranges())
        });
        let replicas = topology.replicas_of(self.master);
        let shard = replicas.chain(topology.members.get(&self.master));
        let followers = shard.filter(|member| member.id != owner && !member.peer_status.silent);
        Goal {
            slots: slots.collect(),
            masters: followers.map(|member| (member.id, owner)).collect(),
            heard: Heard::ByAll,
        }
    }
}

/// How long a replica has been connected to its master, by its CLIENT LIST: the connection that has
/// the flag M.
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

fn candidate(cluster: &ClusterState, member: &Member) -> FailoverCandidate {
    let node = cluster.diagnosis.observation.nodes.get(&member.id);
    let info = node
        .and_then(|node| node.report())
        .map(|report| &report.info);
    FailoverCandidate {
        id: member.id,
        link: info.map(|info| info.master_link.unwrap_or(MasterLink::Down(None))),
        offset: info.and_then(|info| info.replication_offset),
    }
}

/// Why a planned takeover by that replica is out of the question.
fn unlinked(cluster: &ClusterState, replica: NodeId, master: NodeId) -> String {
    let topology = &cluster.diagnosis.topology;
    let is_gone = topology
        .members
        .get(&master)
        .is_some_and(|member| member.peer_status.silent || member.peer_status.is_down());
    let (replica_name, name) = (cluster.name(replica), cluster.name(master));
    if is_gone {
        return format!(
            "the master {name} does not answer, so it can't hand over: --force takes over without it, \
             and loses what it had not sent yet"
        );
    }
    let node = cluster.diagnosis.observation.nodes.get(&replica);
    let link = node.and_then(|node| node.report()?.info.master_link);
    match link {
        Some(MasterLink::Syncing) => format!(
            "{replica_name} is receiving its first copy of {name}: wait until it has it (redis-trib \
             check {} shows that)",
            cluster.resume_seed()
        ),
        _ => format!(
            "{replica_name} has no link to its master {name}, so it can't have all writes: look at its \
             log, its masterauth and firewalls; --force takes over all the same, and loses them"
        ),
    }
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
