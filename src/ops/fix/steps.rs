//! Steps that take a command or a few.

use std::time::Duration;

use tokio::sync::mpsc;

use super::state::FixState;
use super::{Job, Memory};
use crate::change::legacy::shown;
use crate::client::{ClientError, NodeClient, SetSlot};
use crate::cluster::node::{NodeId, Takeover};
use crate::cluster::slot::{Slot, SlotSet};
use crate::migrate::set_slots;
use crate::ops::failover::FailoverPlan;
use crate::ops::leave::{Afterwards, leave};
use crate::plan::fix::{FixStep, Remedy};
use crate::session::Session;

/// Slots that go in one pipeline: the server serves nobody else meanwhile.
const AT_ONCE: usize = 512;

/// Takes one step.
pub(super) async fn take(
    job: &Job<'_>,
    state: &FixState,
    remedy: &Remedy,
    memory: &mut Memory,
) -> anyhow::Result<()> {
    let session = job.session;
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
            // Of slots that nobody owns it is the holder; of these it is a stranger.
            if let Some(owner) = members.get(&from) {
                let held = remedy.slots.difference(&empty).intersection(&owner.slots);
                memory.unveiled.entry(node).or_default().union_with(&held);
            }
        }
        FixStep::Claim { node } | FixStep::Assign { node } => {
            let client = reach(session, state, node).await?;
            // First: who claims with an epoch that is older than what a member believes is told so, and
            // deletes its keys (Redis 6.2; from 7.0 on who does not claim it any more does not count).
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
        FixStep::TakeOver { master } => {
            memory.tried.insert(remedy.step);
            take_over(job, state, master).await?;
        }
        FixStep::Follow { replica, master } => {
            memory.tried.insert(remedy.step);
            let client = reach(session, state, replica).await?;
            client.cluster_replicate(master).await?;
        }
        FixStep::Forget { node } => {
            memory.tried.insert(remedy.step);
            let nodes = [node].into();
            let left = shown(job.ui, session, async |session| {
                leave(session, &state.cluster, &nodes, Afterwards::Run).await
            });
            let troubles = left.await.troubles;
            anyhow::ensure!(troubles.is_empty(), "{}", troubles.join("\n"));
        }
        // All of them at once: see `evict`.
        FixStep::Evict { .. } => drop(memory.tried.insert(remedy.step)),
        // Many commands to two nodes each, and together: see `moves`.
        FixStep::Finish { .. } | FixStep::Gather { .. } | FixStep::Purge { .. } => {}
    }
    Ok(())
}

/// The best replica of a dead master takes its place.
async fn take_over(job: &Job<'_>, state: &FixState, master: NodeId) -> anyhow::Result<()> {
    /// How long all may take to hear of it.
    const WITHIN: Duration = Duration::from_secs(30);
    let how = job.consent.failover.unwrap_or(Takeover::Force);
    let succession = FailoverPlan::of(&state.cluster, master, how).map_err(|stop| stop.error)?;
    let (events, mut told) = mpsc::unbounded_channel();
    let show = async {
        while let Some(event) = told.recv().await {
            job.ui.event(&event);
        }
    };
    let work = succession.carry_out(job.session, &state.cluster, job.ui, events, WITHIN);
    let (outcome, ()) = tokio::join!(work, show);
    job.ui.succeeded(&outcome?)?;
    Ok(())
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

/// Has a node import slots, so that it counts what it holds of them. Those that it holds nothing of
/// are closed at once.
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
        // Redis has database 0 only, and nobody else keeps what he holds to himself.
        let counts = client.cluster_countkeysinslot(0, slots).await?;
        let without = slots.iter().zip(counts).filter(|(_, count)| *count == 0);
        let without: Vec<Slot> = without.map(|(slot, _)| *slot).collect();
        set(&client, &without, SetSlot::Stable).await?;
        empty.union_with(&without.into_iter().collect());
    }
    Ok(empty)
}
