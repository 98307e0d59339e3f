//! Takes back slots whose keys a node refuses to give or to take.
//!
//! Nothing would be won by leaving them open: the next try is refused, too, and open slots stand in the way of other
//! commands. Only slots of which the target holds no key are taken back:
//!
//! 1. Source STABLE. From now on it redirects no client to the target.
//! 2. The target's keys are counted again, in every database: a client that was redirected before may have written
//!    some.
//! 3. Target STABLE, for slots without keys. Keys that have arrived are brought back first. If that fails, the slot is
//!    MIGRATING again, so that clients find them.
//!
//! The other slots stay open: their source is still migrating, and clients find every key.

use std::time::{Duration, Instant};

use super::setslot::{each, set_slots};
use super::watch::databases;
use super::{Ends, Lane, LaneError};
use crate::client::{Fault, MigrateFault, SetSlot};
use crate::cluster::parse::Info;
use crate::cluster::slot::{Slot, SlotSet};
use crate::migrate::SlotProgress;

/// The time in which a client that was redirected has written: a round trip.
const REDIRECTED_WITHIN: Duration = Duration::from_millis(200);

impl LaneError {
    /// Whether a node refuses keys, and will go on to do so.
    pub(super) fn is_refusal(&self) -> bool {
        let Self::Client(error) = self else {
            return false;
        };
        if MigrateFault::of(error) == MigrateFault::TargetRefuses {
            return true;
        }
        // The source, or the target when it was written to for WAIT. SETSLOT says NOREPLICAS for another reason
        // (Valkey ≥ 8).
        let is_write = match &error.fault {
            Fault::Server { command, .. } => ["MIGRATE", "SET"].contains(command),
            Fault::Misconf { .. } => true,
            _ => false,
        };
        is_write && error.write_refusal().is_some()
    }
}

impl Lane {
    /// Closes the slots of which the target holds nothing.
    pub(super) async fn revert(&mut self, ends: &Ends) {
        let migrating = self.slots_with(SlotProgress::Migrating);
        let Some(bare) = self.without_keys(ends, migrating).await else {
            return;
        };
        let stable = each(&bare, SetSlot::Stable);
        let outcomes = set_slots(&ends.source, &stable).await;
        let mut closed = Vec::new();
        for (slot, outcome) in bare.into_iter().zip(outcomes) {
            if outcome.is_ok()
                && let Some((progress, _)) = self.begun.get_mut(&slot)
            {
                *progress = SlotProgress::Importing;
                closed.push(slot);
            }
        }
        if closed.is_empty() {
            return;
        }
        tokio::time::sleep(REDIRECTED_WITHIN).await;
        self.take_back(ends).await;
        closed.retain(|slot| self.begun.contains_key(slot));
        if !closed.is_empty() {
            self.bring_back(ends, closed).await;
        }
    }

    /// Those of the slots of which the target has no key; `None` if it does not say.
    async fn without_keys(&self, ends: &Ends, slots: Vec<Slot>) -> Option<Vec<Slot>> {
        let databases = databases(&Info::parse(&ends.target.info().await.ok()?));
        let counts = self.count(&ends.target, &databases, &slots).await.ok()?;
        let bare = slots.into_iter().zip(counts);
        Some(
            bare.filter(|(_, count)| *count == 0)
                .map(|(slot, _)| slot)
                .collect(),
        )
    }

    /// Brings keys back that clients wrote to the target before the source was STABLE.
    async fn bring_back(&mut self, ends: &Ends, slots: Vec<Slot>) {
        let mut back = Self::new(
            self.target.clone(),
            self.source.clone(),
            self.connections.clone(),
            self.options.clone(),
            self.regulator.clone(),
            self.events.clone(),
            self.stop.clone(),
        );
        back.seat.claim_always();
        let brought = match back.connect().await {
            Ok(mut backwards) => back.gather_all(&mut backwards, slots.clone()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = brought {
            tracing::warn!(%error, "keys that clients wrote to the target stay there");
        }
        let all: SlotSet = slots.into_iter().collect();
        let left: Vec<Slot> = all.difference(&back.moved).iter().collect();
        for slot in back.moved.iter() {
            self.begun.remove(&slot);
        }
        let again = each(&left, SetSlot::Migrating(self.target.id));
        let outcomes = set_slots(&ends.source, &again).await;
        for (slot, outcome) in left.iter().zip(outcomes) {
            let progress = match outcome {
                Ok(()) => SlotProgress::Migrating,
                Err(_) => SlotProgress::Unknown,
            };
            self.begun.insert(*slot, (progress, Instant::now()));
        }
    }
}
