//! The planner of `fix`: from a diagnosis to steps and refusals.
//!
//! A plan holds the next step for everything that is broken, not all steps: afterwards the cluster is
//! read again and a new plan is made. So an interrupted fix is no special case. The rules for each slot
//! are in `slot`.

mod assign;
mod evict;
mod passage;
mod slot;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::health::{Diagnosis, Stability};
use crate::cluster::holdings::Holdings;
use crate::cluster::node::{NodeId, Takeover};
use crate::cluster::slot::SlotSet;
use crate::cluster::write_refusal::WriteRefusal;
use crate::plan::failover;

use assign::share_out;
use slot::{Decision, decide};
pub use slot::{FixStep, Why};
use survey::Survey;

/// What the user allows, by name.
#[derive(Debug, Clone, Default)]
pub struct Consent {
    /// Slots that any master may take if no node holds a key of them.
    pub assign: SlotSet,
    /// Slots whose keys on unreachable nodes are given up.
    pub accept_loss: SlotSet,
    /// What happens to keys in slots that their node does not own.
    pub strays: Strays,
    /// How replicas of failed masters take over; `None`: they don't.
    pub failover: Option<Takeover>,
    /// Replicas that may take over although their copies are unsafe, or masters, of which any replica may.
    pub accept_data_loss_of: BTreeSet<NodeId>,
    /// Nodes of another cluster that leave.
    pub evict: BTreeSet<NodeId>,
}

/// What happens to keys in slots that their node does not own and that are not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strays {
    /// They stay and are reported.
    #[default]
    Leave,
    /// Keys that the owner has with the same value are deleted.
    Purge,
    /// They move to the owner; if it has another value, both stay.
    Collect,
}

/// The input of a plan.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The observed cluster.
    pub diagnosis: &'a Diagnosis,
    /// Whether the disagreement between nodes changed between two observations.
    pub stability: Stability,
    /// The key counts of each node and slot.
    pub holdings: &'a Holdings,
    /// Slots whose keys nodes were made to count; no second count is needed.
    pub revealed: &'a BTreeMap<NodeId, SlotSet>,
    /// Slots that nodes import since that count, because they hold keys of them.
    pub unveiled: &'a BTreeMap<NodeId, SlotSet>,
    /// Slots of which nodes held keys while they were open or had no owner: keys left there are no
    /// strays.
    pub begun: &'a BTreeMap<NodeId, SlotSet>,
    /// Steps that were taken before and have an effect once or never.
    pub tried: &'a BTreeSet<FixStep>,
    /// What the user allows.
    pub consent: &'a Consent,
    /// Nodes with open slots that refuse writes.
    pub refusals: &'a BTreeMap<NodeId, WriteRefusal>,
}

/// A step, with its slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// The step.
    pub step: FixStep,
    /// The slots; empty if the step is about a node.
    pub slots: SlotSet,
    /// How many keys move, or how many keys the node of a claim or fence holds.
    pub keys: u64,
}

/// Slots that are not repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixRefusal {
    /// The reason.
    pub why: Why,
    /// The slots.
    pub slots: SlotSet,
}

/// Keys in slots that their node does not own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The node that holds them.
    pub node: NodeId,
    /// The owner of their slots.
    pub owner: NodeId,
    /// Their slots.
    pub slots: SlotSet,
    /// How many keys.
    pub keys: u64,
}

/// The next step for everything that is broken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FixPlan {
    /// In the order in which they are carried out.
    pub remedies: Vec<PlannedStep>,
    /// What is not repaired, and why.
    pub refusals: Vec<FixRefusal>,
    /// Keys outside their owner; no client is affected.
    pub strays: Vec<Stray>,
    /// How many keys nodes have in slots whose keys they don't count.
    pub hidden: BTreeMap<NodeId, u64>,
    /// For [`Request::begun`] of the next plan.
    pub begun: BTreeMap<NodeId, SlotSet>,
    /// Why failovers that the user allows are refused, by master.
    pub refused_failovers: BTreeMap<NodeId, failover::Refusal>,
}

impl FixPlan {
    /// Whether there are no steps and no refusals.
    pub fn is_empty(&self) -> bool {
        self.remedies.is_empty() && self.refusals.is_empty()
    }
}

/// Plans the next step.
pub fn plan(request: &Request<'_>) -> FixPlan {
    if let Some(plan) = evict::first(request) {
        return plan;
    }
    let view = Survey::of(request);
    let mut steps: BTreeMap<FixStep, SlotSet> = BTreeMap::new();
    let mut refusals: BTreeMap<Why, SlotSet> = BTreeMap::new();
    let mut strays: BTreeMap<(NodeId, NodeId), SlotSet> = BTreeMap::new();
    let mut free = SlotSet::new();
    let mut settled = view.troubled.clone();
    for slot in view.troubled.iter() {
        match decide(&view.slot_state(slot)) {
            Decision::Fine => {}
            Decision::Steps(of_slot) => {
                settled.remove(slot);
                for step in of_slot {
                    steps.entry(step).or_default().insert(slot);
                }
            }
            Decision::Assign => {
                settled.remove(slot);
                free.insert(slot);
            }
            Decision::Refuse(why) => {
                settled.remove(slot);
                match view.successor(why) {
                    Ok(step) => steps.entry(step).or_default().insert(slot),
                    Err(why) => refusals.entry(why).or_default().insert(slot),
                }
            }
            Decision::Strays { owner, holders } => {
                for node in holders {
                    let begun = request.begun.get(&node);
                    if begun.is_some_and(|slots| slots.contains(slot)) {
                        // So that a later run knows it, too.
                        steps
                            .entry(FixStep::Guard { node, owner })
                            .or_default()
                            .insert(slot);
                    } else {
                        strays.entry((node, owner)).or_default().insert(slot);
                    }
                }
            }
        }
    }
    let unsettled = view.troubled.difference(&settled);
    for (node, slots) in share_out(&view.masters(), &free) {
        steps.insert(FixStep::Assign { node }, slots);
    }
    for (step, slots) in view
        .unheard(&unsettled)
        .into_iter()
        .chain(view.stale(&unsettled))
        .chain(view.members())
    {
        if request.tried.contains(&step) {
            refusals
                .entry(Why::NoHelp(step))
                .or_default()
                .union_with(&slots);
        } else {
            steps.entry(step).or_default().union_with(&slots);
        }
    }
    let step = |from, to| match request.consent.strays {
        Strays::Leave => None,
        Strays::Purge => Some(FixStep::Purge { from, to }),
        Strays::Collect => Some(FixStep::Gather { from, to }),
    };
    let mut left = Vec::new();
    for ((node, owner), slots) in strays {
        match step(node, owner).filter(|step| !request.tried.contains(step)) {
            Some(step) => steps.entry(step).or_default().union_with(&slots),
            None => left.push(Stray {
                node,
                owner,
                keys: request.holdings.keys_in(node, &slots),
                slots,
            }),
        }
    }
    if steps.is_empty() && request.consent.strays != Strays::Leave {
        // Last, when no other open slot could be mistaken for it.
        steps = view.reveal_strays();
    }
    FixPlan {
        remedies: steps
            .into_iter()
            .map(|(step, slots)| PlannedStep {
                keys: keys_of(request.holdings, step, &slots),
                step,
                slots,
            })
            .collect(),
        refusals: refusals
            .into_iter()
            .map(|(why, slots)| FixRefusal { why, slots })
            .collect(),
        strays: left,
        hidden: view.hidden(),
        begun: view.begun(),
        refused_failovers: view.refused_failovers(),
    }
}

fn keys_of(holdings: &Holdings, step: FixStep, slots: &SlotSet) -> u64 {
    let of = |node| holdings.keys_in(node, slots);
    match step {
        FixStep::Fence { loser: node, .. }
        | FixStep::Guard { node, .. }
        | FixStep::Claim { node } => of(node),
        FixStep::Finish { from, .. }
        | FixStep::Gather { from, .. }
        | FixStep::Purge { from, .. } => of(from),
        FixStep::Evict { .. }
        | FixStep::Reveal { .. }
        | FixStep::Assign { .. }
        | FixStep::Bump { .. }
        | FixStep::Tell { .. }
        | FixStep::Close { .. }
        | FixStep::Refresh { .. }
        | FixStep::TakeOver { .. }
        | FixStep::Follow { .. }
        | FixStep::Forget { .. } => 0,
    }
}
