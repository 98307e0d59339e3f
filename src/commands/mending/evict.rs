//! Two clusters that became one part again: each member of the one forgets all of the other, at one
//! go.
//!
//! At one go, since from Redis 7.2 and Valkey 7.2 on a node passes on whom it was told to forget, to
//! all that it knows: one that knew both sides still, and had forgotten some of the other, would have
//! the rest of these forget each other. Those who leave are told first: cut off after that, the others
//! still know them, and the same command finds them again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::Job;
use super::look::Ward;
use crate::cluster::node::NodeId;
use crate::commands::leaving::{Afterwards, gone, leave};
use crate::connections::{Connections, Target};
use crate::plan::fix::{FixPlan, Mend};

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
            match remedy.mend {
                Mend::Evict { node, copies: None } => leaving.fellows.insert(node),
                Mend::Evict { node, .. } => leaving.copies.insert(node),
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
    ward: &Ward,
    Leaving { fellows, copies }: &Leaving,
) -> anyhow::Result<()> {
    let connections = &job.session.connections;
    let mut troubles = Vec::new();
    if !copies.is_empty() {
        let left = leave(job.session, job.ui, &ward.cluster, copies, Afterwards::Run);
        troubles.extend(left.await.map_err(|stop| stop.error)?.troubles);
    }
    if !fellows.is_empty() {
        let nodes = &ward.diagnosis().observation.nodes;
        let staying: BTreeSet<NodeId> = nodes
            .keys()
            .filter(|id| !fellows.contains(id) && !copies.contains(id))
            .copied()
            .collect();
        let (those, these) = (side(ward, fellows), side(ward, &staying));
        let mut untold = part(connections, &those, &staying).await;
        untold.extend(part(connections, &these, fellows).await);
        untold.extend(gone(connections, &those, &staying, &untold).await);
        untold.extend(gone(connections, &these, fellows, &untold).await);
        let line = |(id, why): (NodeId, String)| format!("{} {why}", ward.name(id));
        troubles.extend(untold.into_iter().map(line));
    }
    anyhow::ensure!(troubles.is_empty(), "{}", troubles.join("\n"));
    Ok(())
}

/// Those of them that answer.
fn side(ward: &Ward, ids: &BTreeSet<NodeId>) -> Side {
    let reports = ward.diagnosis().observation.reports();
    reports
        .filter(|(node, _)| ids.contains(&node.id))
        .filter_map(|(node, _)| Some((node.id, ward.cluster.reach.get(&node.id)?.clone())))
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
            let told = async {
                let client = connections.client(&target).await?;
                client.cluster_forget_all(&others).await
            };
            (id, told.await)
        });
    }
    let told = telling.join_all().await.into_iter();
    told.filter_map(|(id, told)| Some((id, format!("was not told: {}", told.err()?.fault))))
        .collect()
}
