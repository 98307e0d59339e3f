//! Creating a cluster of empty nodes.

mod execute;
mod existing;
mod plan;
mod unfit;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cluster::node::{Addr, NodeId};
use crate::cluster::slot::SlotSet;
use crate::ops::join::Until;
use crate::ops::join::inspect::{NewNode, key_count, refusal};
use crate::ops::join::zones::ZoneRules;
use crate::plan::create::{FewMasters, ReplicaOrder};
use crate::session::Session;
use crate::stop::Stop;

pub(crate) use execute::{Created, execute};
pub(crate) use plan::CreatePlan;

/// What `create` is asked for.
pub(crate) struct CreateRequest {
    /// Replicas of each master.
    pub(crate) replicas: usize,
    pub(crate) pin_master: Vec<Addr>,
    pub(crate) pin_replica: Vec<Addr>,
    pub(crate) few_masters: FewMasters,
    pub(crate) replica_order: ReplicaOrder,
    pub(crate) zones: ZoneRules,
    /// Whether a healthy cluster of exactly these nodes is success.
    pub(crate) if_needed: bool,
    pub(crate) until: Until,
    /// The timeout for all waits.
    pub(crate) within: Duration,
}

/// What is to be done with the nodes.
pub(crate) enum Proposed {
    /// Nothing: they form a healthy cluster of that many nodes.
    Exists(usize),
    Create(Box<CreatePlan>),
}

/// Plans a cluster of these nodes.
pub(crate) async fn propose(
    session: &Session,
    request: &CreateRequest,
    nodes: Vec<NewNode>,
) -> Result<Proposed, Stop> {
    let plan = CreatePlan::of(session, request, &nodes).await;
    let problems = match &plan {
        Ok(plan) => {
            let mut problems = unfit::problems(&nodes, &plan.plan, &plan.progress);
            problems.extend(plan.older_replicas());
            problems
        }
        Err(_) => Vec::new(),
    };
    let fits = plan.is_ok() && problems.is_empty();
    if request.if_needed && !fits && !nodes.iter().all(NewNode::is_bare) && are_distinct(&nodes) {
        let diagnosis = existing::healthy_cluster(session, &nodes, request.within).await?;
        return Ok(Proposed::Exists(diagnosis.topology.members.len()));
    }
    let plan = plan?;
    if problems.is_empty() {
        return Ok(Proposed::Create(Box::new(plan)));
    }
    Err(already_one_cluster(&nodes).unwrap_or_else(|| refusal(&problems)))
}

/// Whether no node is named by two of its addresses. The planner reports which one is.
fn are_distinct(nodes: &[NewNode]) -> bool {
    let ids: BTreeSet<NodeId> = nodes.iter().map(NewNode::id).collect();
    ids.len() == nodes.len()
}

/// Refuses nodes that form a complete cluster with one message, instead of one for each node.
fn already_one_cluster(nodes: &[NewNode]) -> Option<Stop> {
    let named: BTreeSet<NodeId> = nodes.iter().map(NewNode::id).collect();
    let mut slots = SlotSet::new();
    let mut keys = 0;
    for node in nodes {
        let view = &node.report.view;
        let known: BTreeSet<NodeId> = view.entries().map(|entry| entry.id).collect();
        if known != named {
            return None;
        }
        slots = slots.union(&view.myself().slots.iter().copied().collect());
        // The keys of replicas are copies.
        keys += match view.myself().master {
            None => node.keys(),
            Some(_) => 0,
        };
    }
    let lead = &nodes.first()?.target.addr;
    (slots == SlotSet::full()).then(|| {
        refusal(&[format!(
            "these {} nodes form a cluster already, with {}: create makes a cluster of empty nodes \
             (redis-trib check {lead} shows the existing one; --if-needed accepts it)",
            nodes.len(),
            key_count(keys),
        )])
    })
}
