//! Two clusters that became one part again: each member of the one forgets all of the other, at one
//! go.
//!
//! At one go, since from Redis 7.2 and Valkey 7.2 on a node passes on whom it was told to forget. On
//! Valkey it does so in its answers to the pings of those whom it has forgotten, too: where one side alone
//! was told, each member of the other loses all its own fellows within seconds (seen on 8.1 and 9.1, not
//! on 8.0, nor on Redis 8.2 and 8.6). So both sides are told side by side, over connections that are there
//! already, and who can't be told is told again at once. What is left is the time between the first and the
//! last; who has lost fellows then is named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::Job;
use super::state::FixState;
use crate::change::legacy::shown;
use crate::cluster::health::redis_cli;
use crate::cluster::node::NodeId;
use crate::connections::{Connections, Target};
use crate::ops::leave::{Afterwards, gone, known, leave};
use crate::plan::fix::{FixPlan, FixStep};

/// How often a node is told whose connection breaks.
const TRIES: usize = 3;

type Side = BTreeMap<NodeId, Target>;

/// Members of another cluster that are to leave.
#[derive(Default)]
pub(super) struct Leaving {
    /// They keep what they have, and each other.
    fellows: BTreeSet<NodeId>,
    /// They follow masters that stay, and can't forget these but by RESET.
    copies: BTreeSet<NodeId>,
}

impl Leaving {
    pub(super) fn of(plan: &FixPlan) -> Self {
        let mut leaving = Self::default();
        for remedy in &plan.remedies {
            match remedy.step {
                FixStep::Evict { node, copies: None } => leaving.fellows.insert(node),
                FixStep::Evict { node, .. } => leaving.copies.insert(node),
                _ => false,
            };
        }
        leaving
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fellows.is_empty() && self.copies.is_empty()
    }
}

/// Has them leave.
pub(super) async fn carry_out(
    job: &Job<'_>,
    state: &FixState,
    Leaving { fellows, copies }: &Leaving,
) -> anyhow::Result<()> {
    let connections = &job.session.connections;
    let mut troubles = Vec::new();
    if !copies.is_empty() {
        let left = shown(job.ui, job.session, async |session| {
            leave(session, &state.cluster, copies, Afterwards::Run).await
        });
        troubles.extend(left.await.troubles);
    }
    if !fellows.is_empty() {
        let nodes = &state.diagnosis().observation.nodes;
        let staying: BTreeSet<NodeId> = nodes
            .keys()
            .filter(|id| !fellows.contains(id) && !copies.contains(id))
            .copied()
            .collect();
        let (those, these) = (side(state, fellows), side(state, &staying));
        // Nobody is told anything before all can be.
        for (id, target) in those.iter().chain(&these) {
            let client = connections.client(target).await;
            client.map_err(|error| anyhow::anyhow!("{}: {error}", state.name(*id)))?;
        }
        let (mut untold, others) = tokio::join!(
            part(connections, &those, &staying),
            part(connections, &these, fellows)
        );
        untold.extend(others);
        untold.extend(gone(connections, &those, &staying, &untold).await);
        untold.extend(gone(connections, &these, fellows, &untold).await);
        for side in [&those, &these] {
            untold.extend(strangers_now(state, connections, side).await);
        }
        let line = |(id, why): (NodeId, String)| format!("{} {why}", state.name(id));
        troubles.extend(untold.into_iter().map(line));
    }
    anyhow::ensure!(troubles.is_empty(), "{}", troubles.join("\n"));
    Ok(())
}

/// Members that have forgotten fellows of theirs, whom they knew before: with the way to bring them together.
async fn strangers_now(
    state: &FixState,
    connections: &Arc<Connections>,
    side: &Side,
) -> BTreeMap<NodeId, String> {
    let fellows: BTreeSet<NodeId> = side.keys().copied().collect();
    let mut strangers = BTreeMap::new();
    for (id, target) in side {
        // Who can't be asked has been named for that.
        let Ok(known) = known(connections, target, &fellows).await else {
            continue;
        };
        let missing = fellows
            .iter()
            .filter(|one| *one != id && !known.contains(one));
        let missing: Vec<String> = missing.map(|id| state.name(*id)).collect();
        if !missing.is_empty() {
            let meet = redis_cli(&target.addr, "CLUSTER MEET IP PORT");
            let why = format!(
                "has forgotten {}, which was not meant. They meet again a minute from now, by CLUSTER MEET \
                 with the address of each ({meet}); change nothing else before",
                missing.join(", "),
            );
            strangers.insert(*id, why);
        }
    }
    strangers
}

/// Those of them that answer.
fn side(state: &FixState, ids: &BTreeSet<NodeId>) -> Side {
    let reports = state.diagnosis().observation.reports();
    reports
        .filter(|(node, _)| ids.contains(&node.id))
        .filter_map(|(node, _)| Some((node.id, state.cluster.reach.get(&node.id)?.clone())))
        .collect()
}

/// Tells one side to forget the other; why some don't, by node.
async fn part(
    connections: &Arc<Connections>,
    side: &Side,
    others: &BTreeSet<NodeId>,
) -> BTreeMap<NodeId, String> {
    let mut telling = JoinSet::new();
    for (id, target) in side.clone() {
        let (connections, others) = (Arc::clone(connections), others.clone());
        telling.spawn(async move {
            let tell = || async {
                let client = connections.client(&target).await?;
                client.cluster_forget_all(&others).await
            };
            let mut told = tell().await;
            for _ in 1..TRIES {
                if told.is_ok() {
                    break;
                }
                connections.drop_client(&target.addr);
                told = tell().await;
            }
            (id, told)
        });
    }
    let told = telling.join_all().await.into_iter();
    told.filter_map(|(id, told)| Some((id, format!("was not told: {}", told.err()?.fault))))
        .collect()
}
