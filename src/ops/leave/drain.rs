//! What goes on around the moving of slots: masters that stay masters, replicas that get another.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::task::JoinSet;

use crate::change::legacy::Signals;
use crate::cluster::node::NodeId;
use crate::commands::del_node::is_master;
use crate::connections::{Connections, Target};
use crate::converge::followed;
use crate::converge::poll::Polled;
use crate::event::{Event, Phase};
use crate::plan::leave::Given;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::ui::Ui;

/// Where it is `yes`, a master that has lost its last slot becomes a replica of whoever took it, and
/// receives a whole copy only to delete it; so do its replicas (Redis ≥ 6.2, Valkey; before, there is
/// no such setting, and they always do).
const MIGRATION: &str = "cluster-allow-replica-migration";

/// How long all members may take to see whom a replica follows.
const GIVEN_WITHIN: Duration = Duration::from_secs(30);

/// Masters that stay what they are for the time of a drain.
pub(crate) struct ReplicaMigrationGuard<'a> {
    session: &'a Session,
    held: Vec<(String, Target)>,
}

impl<'a> ReplicaMigrationGuard<'a> {
    /// Holds the masters that leave, and those of their replicas that leave with them. Where that is
    /// denied the drain works all the same.
    pub(crate) async fn of(
        session: &'a Session,
        cluster: &ClusterState,
        leaving: &BTreeSet<NodeId>,
    ) -> Self {
        let mut held = Vec::new();
        for id in leaving {
            let of_master = cluster.diagnosis.topology.members.get(id);
            let of_master = of_master.and_then(|member| member.master);
            let is_meant =
                is_master(cluster, *id) || of_master.is_some_and(|id| leaving.contains(&id));
            if let (true, Some(target)) = (is_meant, cluster.reach.get(id))
                && set(&session.connections, target, "yes", "no").await
            {
                held.push((cluster.name(*id), target.clone()));
            }
        }
        Self { session, held }
    }

    /// Puts back what was there.
    pub(crate) async fn release(self, ui: &Ui) {
        for (name, target) in self.held {
            if !set(&self.session.connections, &target, "no", "yes").await {
                let (host, port) = (target.addr.host(), target.addr.port());
                ui.warn(&format!(
                    "{name} can't be told to have {MIGRATION} yes again: redis-cli -h {host} -p {port} \
                     CONFIG SET {MIGRATION} yes"
                ));
            }
        }
    }
}

/// Changes the setting from one value to another; whether it was the one and is the other.
async fn set(connections: &Connections, target: &Target, from: &str, to: &str) -> bool {
    let change = async {
        let client = connections.client(target).await?;
        let now = client.config_get(&[MIGRATION]).await?;
        if now.get(MIGRATION).map(String::as_str) != Some(from) {
            return Ok(false);
        }
        client.config_set(MIGRATION, to).await.map(|()| true)
    };
    change.await.unwrap_or_else(|error| {
        tracing::debug!(%error, "{MIGRATION} is left as it is");
        false
    })
}

/// Tells replicas whom they follow from now on, and waits until all members that answer see it.
pub(crate) async fn give(
    session: &Session,
    ui: &Ui,
    cluster: &ClusterState,
    given: &[Given],
) -> Result<(), Stop> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        biased;
        done = tell_and_wait(session, ui, cluster, given) => done,
        signal = signals.next() => Err(Stop::interrupted(anyhow!(
            "interrupted ({signal}) while replicas were given other masters; no node has left"
        ))),
    }
}

async fn tell_and_wait(
    session: &Session,
    ui: &Ui,
    cluster: &ClusterState,
    given: &[Given],
) -> Result<(), Stop> {
    ui.event(&Event::Phase(Phase::Replicate));
    let mut telling = JoinSet::new();
    for one in given.iter().copied() {
        let Some(target) = cluster.reach.get(&one.replica).cloned() else {
            continue;
        };
        let connections = Arc::clone(&session.connections);
        telling.spawn(async move {
            let told = async {
                let client = connections.client(&target).await?;
                client.cluster_replicate(one.to).await
            };
            (one, told.await)
        });
    }
    for (one, told) in telling.join_all().await {
        let (replica, to) = (one.replica, one.to);
        told.map_err(|error| {
            Stop::partial(anyhow!(
                "{} can't be told to follow {}: {error}",
                cluster.name(replica),
                cluster.name(to)
            ))
        })?;
        ui.event(&Event::Replicates {
            replica,
            master: to,
        });
    }
    let masters = given.iter().map(|one| (one.replica, one.to)).collect();
    match followed(session, &masters, GIVEN_WITHIN).await? {
        Polled::Met(()) => Ok(()),
        Polled::Missing((node, replica)) => Err(Stop::partial(anyhow!(
            "{node} does not see within {} s that {} follows {} now",
            GIVEN_WITHIN.as_secs(),
            cluster.name(replica),
            masters
                .get(&replica)
                .map_or(String::new(), |to| cluster.name(*to))
        ))),
    }
}
