//! What accompanies the drain of masters: they keep their role, and their replicas get other masters.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use anyhow::anyhow;

use crate::client::ClientError;
use crate::cluster::node::{NodeId, Role};
use crate::connections::{Connections, Target};
use crate::converge::followed;
use crate::converge::poll::{Poll, Polled};
use crate::event::{Event, Phase};
use crate::plan::leave::Given;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;

/// If it is `yes`, a master that gives away its last slot becomes a replica of the target and does a full resync, only
/// to be reset; so do its replicas (Redis ≥ 6.2, Valkey; older versions have no such setting and always do).
const MIGRATION: &str = "cluster-allow-replica-migration";

/// How long a node may take until its setting is put back, and the pause between two attempts.
const PUT_BACK_WITHIN: Duration = Duration::from_secs(5);
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// How long all members may take to see the new master of a replica.
const GIVEN_WITHIN: Duration = Duration::from_secs(30);

/// Keeps masters from becoming replicas during a drain.
pub(crate) struct ReplicaMigrationGuard<'a> {
    session: &'a Session,
    changed: Vec<(String, Target)>,
}

impl<'a> ReplicaMigrationGuard<'a> {
    /// Changes the setting of the masters that leave, and of their replicas that leave with them. If CONFIG SET is
    /// denied, the drain works all the same.
    pub(crate) async fn of(
        session: &'a Session,
        cluster: &ClusterState,
        leaving: &BTreeSet<NodeId>,
    ) -> Self {
        let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
        for id in leaving {
            let of_master = cluster.diagnosis.topology.members.get(id);
            let of_master = of_master.and_then(|member| member.master);
            let is_meant =
                is_master(cluster, *id) || of_master.is_some_and(|id| leaving.contains(&id));
            if let (true, Some(target)) = (is_meant, cluster.reach.get(id)) {
                let named = (cluster.name(*id), target.clone());
                match set(&session.connections, target, "yes", "no").await {
                    true => changed.push(named),
                    false => unchanged.push(named),
                }
            }
        }
        let guard = Self { session, changed };
        guard.warn_of_leftovers(cluster, leaving, unchanged).await;
        guard
    }

    /// Restores the setting.
    pub(crate) async fn release(self) {
        for (name, target) in &self.changed {
            if !self.put_back(target).await {
                let line = self.yes_again(target);
                self.session.events.warn(format!(
                    "{MIGRATION} of {name} can't be set to yes again: {line}"
                ));
            }
        }
    }
}

impl ReplicaMigrationGuard<'_> {
    /// Says where a run that was killed has left `no` behind: RESET keeps it. If the masters that stay have it, too, it is
    /// the operator's choice.
    async fn warn_of_leftovers(
        &self,
        cluster: &ClusterState,
        leaving: &BTreeSet<NodeId>,
        unchanged: Vec<(String, Target)>,
    ) {
        let connections = &self.session.connections;
        let mut masters = cluster.diagnosis.topology.masters();
        let stays = masters.find(|master| !leaving.contains(&master.id));
        let Some(usual) = stays.and_then(|master| cluster.reach.get(&master.id)) else {
            return;
        };
        if unchanged.is_empty() || !is_now(connections, usual, "yes").await {
            return;
        }
        for (name, target) in unchanged {
            if is_now(connections, &target, "no").await {
                let line = self.yes_again(&target);
                self.session.events.warn(format!(
                    "{MIGRATION} of {name} is no already, and stays so when it has left; if a run that was killed has set \
                     it, set it again: {line}"
                ));
            }
        }
    }

    /// The command line that sets the value again.
    fn yes_again(&self, target: &Target) -> String {
        let command = format!("CONFIG SET {MIGRATION} yes");
        self.session.resume.redis_cli(&target.addr, &command)
    }

    /// Sets the value again, and reads it. A node that can't be reached is tried again for some seconds.
    async fn put_back(&self, target: &Target) -> bool {
        let connections = &self.session.connections;
        let poll = Poll::every(TRY_AGAIN, PUT_BACK_WITHIN);
        let done = poll.until(async || {
            let _ = set(connections, target, "no", "yes").await;
            Ok::<_, Infallible>(match is_now(connections, target, "yes").await {
                true => Polled::Met(()),
                false => Polled::Missing(()),
            })
        });
        matches!(done.await, Ok(Polled::Met(())))
    }
}

fn is_master(cluster: &ClusterState, id: NodeId) -> bool {
    let member = cluster.diagnosis.topology.members.get(&id);
    member.is_some_and(|member| member.role == Role::Master)
}

/// Whether a node reports that value.
async fn is_now(connections: &Connections, target: &Target, value: &str) -> bool {
    let now = async {
        let client = connections.client(target).await?;
        client.config_get(&[MIGRATION]).await
    };
    let now: Result<_, ClientError> = now.await;
    now.is_ok_and(|now| now.get(MIGRATION).is_some_and(|now| now == value))
}

/// Changes the setting from one value to another. Returns whether it did.
async fn set(connections: &Connections, target: &Target, from: &str, to: &str) -> bool {
    let change = async {
        let client = connections.client(target).await?;
        let now = client.config_get(&[MIGRATION]).await?;
        if now.get(MIGRATION).map(String::as_str) != Some(from) {
            return Ok(false);
        }
        match client.config_set(MIGRATION, to).await {
            // It may have been set: what is put back is looked at before.
            Err(error) if error.outcome_unknown() => Ok(true),
            other => other.map(|()| true),
        }
    };
    change.await.unwrap_or_else(|error| {
        tracing::debug!(%error, "{MIGRATION} is not changed");
        false
    })
}

/// Gives replicas their new masters, and waits until all members that answer see it. A signal stops it.
pub(crate) async fn give(
    session: &Session,
    cluster: &ClusterState,
    given: &[Given],
) -> Result<(), Stop> {
    let work = tell_and_wait(session, cluster, given);
    session
        .interrupt
        .stops(work)
        .await
        .unwrap_or_else(|signal| {
            Err(Stop::interrupted(anyhow!(
                "interrupted ({signal}) while replicas got other masters; no node has left"
            )))
        })
}

async fn tell_and_wait(
    session: &Session,
    cluster: &ClusterState,
    given: &[Given],
) -> Result<(), Stop> {
    session.events.phase(Phase::Replicate);
    let reached = given.iter().filter_map(|one| {
        let target = cluster.reach.get(&one.replica).cloned()?;
        Some((*one, target))
    });
    let telling = session
        .connections
        .fan_out(reached, |connections, (one, target)| async move {
            let told = async {
                let client = connections.client(&target).await?;
                client.cluster_replicate(one.to).await
            };
            (one, told.await)
        });
    for (one, told) in telling.await {
        let (replica, to) = (one.replica, one.to);
        told.map_err(|error| {
            Stop::partial(anyhow!(
                "{} can't be made a replica of {}: {error}",
                cluster.name(replica),
                cluster.name(to)
            ))
        })?;
        session.events.send(Event::Replicates {
            replica,
            master: to,
        });
    }
    let masters = given.iter().map(|one| (one.replica, one.to)).collect();
    match followed(session, &masters, GIVEN_WITHIN).await? {
        Polled::Met(()) => Ok(()),
        Polled::Missing((node, replica)) => Err(Stop::partial(anyhow!(
            "{node} does not see after {} s that {} is a replica of {} now",
            GIVEN_WITHIN.as_secs(),
            cluster.name(replica),
            masters
                .get(&replica)
                .map_or(String::new(), |to| cluster.name(*to))
        ))),
    }
}
