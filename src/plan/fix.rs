//! What steps a cluster: from what was seen to remedies and refusals.
//!
//! A plan is the next step for everything that is broken, not the whole way: after it the cluster
//! is looked at again, and planned for anew. That is what makes a fix that was cut off no special
//! case. Which step, and why, is told in `slot`.

mod assign;
mod evict;
mod slot;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::health::{Diagnosis, Stability};
use crate::cluster::holdings::Holdings;
use crate::cluster::node::{NodeId, Takeover};
use crate::cluster::slot::SlotSet;

use assign::share_out;
use slot::{Decision, decide};
pub use slot::{FixStep, Why};
use survey::Survey;

/// What the user gives up, by name.
#[derive(Debug, Clone, Default)]
pub struct Consent {
    /// Slots that anybody may take where nobody has a key of them.
    pub assign: SlotSet,
    /// Slots of which the keys are given up that nodes have which can't be asked.
    pub accept_loss: SlotSet,
    /// What becomes of keys in slots that their node does not own.
    pub strays: Strays,
    /// How replicas of dead masters take over; without it they don't.
    pub failover: Option<Takeover>,
    /// Members that belong to another cluster.
    pub evict: BTreeSet<NodeId>,
}

/// What becomes of keys in slots that their node does not own, and that no state tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strays {
    /// They stay, and are told of.
    #[default]
    Leave,
    /// Those that their owner has with the same value are deleted.
    Purge,
    /// They are brought to the owner; where it has another value both stay.
    Collect,
}

/// What is known.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What was seen.
    pub diagnosis: &'a Diagnosis,
    /// Whether what members disagree about changed between two looks.
    pub stability: Stability,
    /// Where the keys are.
    pub holdings: &'a Holdings,
    /// Slots of which nodes were made to tell what they hold, and that needs no second look: they held
    /// nothing, or it is told already.
    pub revealed: &'a BTreeMap<NodeId, SlotSet>,
    /// Slots that nodes import since then, because they do hold something.
    pub unveiled: &'a BTreeMap<NodeId, SlotSet>,
    /// Slots of which nodes held keys when they were open, or nobody's: what is left there of them is
    /// no stray.
    pub begun: &'a BTreeMap<NodeId, SlotSet>,
    /// Steps that were taken before and help once or not at all.
    pub tried: &'a BTreeSet<FixStep>,
    /// What the user gives up.
    pub consent: &'a Consent,
}

/// A step, with the slots it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// What is done.
    pub step: FixStep,
    /// The slots; empty where it is about a node as a whole.
    pub slots: SlotSet,
    /// The keys that it is about: those that move, or that a claimant holds.
    pub keys: u64,
}

/// Slots that stay as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub why: Why,
    /// Which.
    pub slots: SlotSet,
}

/// Keys in slots that their node does not own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Where they are.
    pub node: NodeId,
    /// Who owns their slots.
    pub owner: NodeId,
    /// Their slots.
    pub slots: SlotSet,
    /// How many they are.
    pub keys: u64,
}

/// The next step for all that is broken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FixPlan {
    /// In the order in which they are carried out.
    pub remedies: Vec<Remedy>,
    /// What is not mended, and why.
    pub refusals: Vec<Refusal>,
    /// What is not broken, and not in order.
    pub strays: Vec<Stray>,
    /// How many keys nodes have more than they show: strays, of slots that they don't tell.
    pub hidden: BTreeMap<NodeId, u64>,
    /// For [`Request::begun`] of the next plan.
    pub begun: BTreeMap<NodeId, SlotSet>,
}

impl FixPlan {
    /// Whether there is nothing to be done, nor anything refused.
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
        match decide(&view.slotwise(slot)) {
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
                    Some(step) => steps.entry(step).or_default().insert(slot),
                    None => refusals.entry(why).or_default().insert(slot),
                }
            }
            Decision::Strays { owner, holders } => {
                for node in holders {
                    let begun = request.begun.get(&node);
                    if begun.is_some_and(|slots| slots.contains(slot)) {
                        // So that whoever comes after us knows it, too.
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
        // Last, when nothing else is open that could be taken for it.
        steps = view.reveal_strays();
    }
    FixPlan {
        remedies: steps
            .into_iter()
            .map(|(step, slots)| Remedy {
                keys: keys_of(request.holdings, step, &slots),
                step,
                slots,
            })
            .collect(),
        refusals: refusals
            .into_iter()
            .map(|(why, slots)| Refusal { why, slots })
            .collect(),
        strays: left,
        hidden: view.hidden(),
        begun: view.begun(),
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
