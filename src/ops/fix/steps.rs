//! Steps that take a few commands.

use std::time::Duration;

use super::state::FixState;
use super::{FixContext, Memory};
use crate::client::{ClientError, NodeClient, Reset, SetSlot};
use crate::cluster::node::{NodeId, Takeover};
use crate::cluster::slot::{Slot, SlotSet};
use crate::event::Event;
use crate::migrate::set_slots;
use crate::ops::failover;
use crate::ops::leave::{Afterwards, leave};
use crate::plan::failover::{Decision, NamedMember, Request};
use crate::plan::fix::{FixStep, PlannedStep};
use crate::session::Session;

/// Slots in one pipeline: the server serves no other client meanwhile.
const AT_ONCE: usize = 512;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepOutcome {
    /// It was carried out.
    Done,
    /// It failed, and the reason is kept. Other steps do not depend on it.
    Failed,
}

/// Carries out one step.
pub(super) async fn carry_out(
    context: FixContext<'_>,
    state: &FixState,
    remedy: &PlannedStep,
    memory: &mut Memory,
) -> anyhow::Result<StepOutcome> {
    let session = context.session;
    let slots: Vec<Slot> = remedy.slots.iter().collect();
    match remedy.step {
        FixStep::Fence { loser, winner } => {
            let client = reach(session, state, loser).await?;
            for slots in slots.chunks(AT_ONCE) {
                client
                    .cluster_fence(&slots.iter().copied().collect(), winner)
                    .await?;
            }
        }
        FixStep::Guard { node, owner } => {
            let client = reach(session, state, node).await?;
            set(&client, &slots, SetSlot::Importing(owner)).await?;
        }
        FixStep::Reveal { node, from } => {
            let empty = reveal(session, state, node, from, &slots).await?;
            memory.revealed.entry(node).or_default().union_with(&empty);
            let members = &state.diagnosis().topology.members;
            // Slots without an owner are not concerned: there the node is the only holder.
            if let Some(owner) = members.get(&from) {
                let held = remedy.slots.difference(&empty).intersection(&owner.slots);
                memory.unveiled.entry(node).or_default().union_with(&held);
            }
        }
        FixStep::Claim { node } | FixStep::Assign { node } => {
            let client = reach(session, state, node).await?;
            // Before the claim: a node whose claim has an older epoch than a receiver's view is corrected by an
            // UPDATE message and deletes its keys (Redis 6.2; from 7.0 on, views of nodes that no longer claim the
            // slot do not count).
            client.cluster_bumpepoch().await?;
            set(&client, &slots, SetSlot::Node(node)).await?;
        }
        FixStep::Bump { node } => {
            memory.tried.insert(remedy.step);
            reach(session, state, node)
                .await?
                .cluster_bumpepoch()
                .await?;
        }
        FixStep::Tell { node, owner } => {
            let client = reach(session, state, node).await?;
            set(&client, &slots, SetSlot::Node(owner)).await?;
        }
        FixStep::Refresh { node } | FixStep::Close { node } => {
            if let FixStep::Refresh { .. } = remedy.step {
                memory.tried.insert(remedy.step);
            }
            let client = reach(session, state, node).await?;
            set(&client, &slots, SetSlot::Stable).await?;
        }
        FixStep::TakeOver { replica, .. } => {
            memory.tried.insert(remedy.step);
            return fail_over(context, state, replica, memory).await;
        }
        FixStep::Follow { replica, master } => {
            memory.tried.insert(remedy.step);
            let client = reach(session, state, replica).await?;
            client.cluster_replicate(master).await?;
        }
        FixStep::Forget { node } => {
            memory.tried.insert(remedy.step);
            let nodes = [node].into();
            let left = leave(
                session,
                &state.cluster,
                &nodes,
                Afterwards::RunReset(Reset::Hard),
            )
            .await;
            let troubles = left.troubles;
            anyhow::ensure!(troubles.is_empty(), "{}", troubles.join("\n"));
        }
        // `evict` carries these out together, `moves` the others.
        FixStep::Evict { .. }
        | FixStep::Finish { .. }
        | FixStep::Gather { .. }
        | FixStep::Purge { .. } => {
            anyhow::bail!("{} is not a single step", remedy.step.word());
        }
    }
    Ok(StepOutcome::Done)
}

/// Fails over from a dead master to this replica.
async fn fail_over(
    context: FixContext<'_>,
    state: &FixState,
    replica: NodeId,
    memory: &mut Memory,
) -> anyhow::Result<StepOutcome> {
    /// The timeout until all nodes agree.
    const WITHIN: Duration = Duration::from_secs(30);
    let consent = &context.options.consent;
    let request = Request {
        member: NamedMember::To(replica),
        how: consent.failover.unwrap_or(Takeover::Force),
        accepted: consent.accept_data_loss_of.clone(),
    };
    let Decision::FailOver(plan) = failover::plan(&state.cluster, &request)? else {
        return Ok(StepOutcome::Done);
    };
    let session = context.session;
    match failover::carry_out(session, &state.cluster, &plan, WITHIN).await {
        Ok(report) => {
            session.events.send(Event::FailedOver(Box::new(report)));
            Ok(StepOutcome::Done)
        }
        // What was sent may take effect later; the next round looks.
        Err(error) if error.is_in_doubt() => {
            memory.failures.add(error.to_string());
            Ok(StepOutcome::Failed)
        }
        Err(error) => {
            memory.refused.push(error.to_string());
            Ok(StepOutcome::Failed)
        }
    }
}

async fn reach(
    session: &Session,
    state: &FixState,
    id: NodeId,
) -> anyhow::Result<std::sync::Arc<NodeClient>> {
    let target = state.cluster.reach.get(&id);
    let target = target.ok_or_else(|| anyhow::anyhow!("{} has no address", state.name(id)))?;
    Ok(session.connections.client(target).await?)
}

async fn set(client: &NodeClient, slots: &[Slot], state: SetSlot) -> Result<(), ClientError> {
    for slots in slots.chunks(AT_ONCE) {
        let changes: Vec<_> = slots.iter().map(|slot| (*slot, state)).collect();
        let outcomes = set_slots(client, &changes).await;
        outcomes.into_iter().collect::<Result<(), _>>()?;
    }
    Ok(())
}

/// Makes a node import slots, so that it counts the keys that it holds in them. Slots without keys are closed at once;
/// they are returned.
async fn reveal(
    session: &Session,
    state: &FixState,
    node: NodeId,
    from: NodeId,
    slots: &[Slot],
) -> anyhow::Result<SlotSet> {
    let client = reach(session, state, node).await?;
    let mut empty = SlotSet::new();
    for slots in slots.chunks(AT_ONCE) {
        set(&client, slots, SetSlot::Importing(from)).await?;
        // Only Redis hides such keys, and it has database 0 only.
        let counts = client.cluster_countkeysinslot(0, slots).await?;
        let without = slots.iter().zip(counts).filter(|(_, count)| *count == 0);
        let without: Vec<Slot> = without.map(|(slot, _)| *slot).collect();
        set(&client, &without, SetSlot::Stable).await?;
        empty.union_with(&without.into_iter().collect());
    }
    Ok(empty)
}
