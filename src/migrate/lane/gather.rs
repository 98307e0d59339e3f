//! Moves keys from a node that does not own their slots to the owner.
//!
//! The owner serves clients all the time, so its values count. If both nodes have the same value,
//! the source's copy is deleted. If the values differ, both stay. For each window of slots:
//!
//! 1. Source IMPORTING from the target. MIGRATE sends only keys of slots that the node owns or that
//!    are open (Redis 3.2 to 8.6, Valkey 8 to 9.1). If redis-trib is cut off, the open slot also
//!    shows whose keys the source holds. Redis ≥ 8.4 reports its keys only in this state.
//! 2. Source NODE target. With another owner in its view, the source would answer MIGRATE with
//!    MOVED or CLUSTERDOWN.
//! 3. MIGRATE until the source has no keys left.
//! 4. Source STABLE, once the target's replicas have the keys.
//!
//! A slot that the owner is still migrating to this source comes back: the owner refuses keys of it as long as it is
//! MIGRATING (ASK), so it is made STABLE right before the keys are sent, and MIGRATING again if they can't be.

use std::time::Instant;

use super::setslot::{each, first_error, set_slots};
use super::watch::{open_on, view_of};
use super::{Ends, Lane, LaneError, Window, needed};
use crate::client::{ClientError, SetSlot};
use crate::cluster::parse::Direction;
use crate::cluster::slot::{Slot, SlotSet};
use crate::event::LaneEvent;
use crate::migrate::keys::{Authority, Movers, Prepared, Purged};
use crate::migrate::{OnBigKey, SlotProgress};

impl Lane {
    /// Brings all keys of these slots to the target.
    pub(super) async fn gather_all(
        &mut self,
        ends: &mut Ends,
        slots: Vec<Slot>,
    ) -> Result<(), LaneError> {
        let mut movers = self.movers(Authority::Target);
        // One window's conflicts don't keep the others waiting.
        let mut conflict = Ok(());
        for window in slots.chunks(self.options.max_open_slots.max(1)) {
            if !self.may_open().await {
                break;
            }
            let (window, opened) = self.offer(ends, window).await?;
            let batches = match self.sized(&movers, ends, &window).await {
                Ok(batches) => batches,
                Err(error) => {
                    self.close_untouched(ends, &opened).await;
                    return Err(error);
                }
            };
            let backwards = self.stop_migrating(ends, &window).await?;
            let none = SlotSet::new();
            let open = SlotProgress::Gathered;
            let moving = self.move_keys(&mut movers, ends, batches, &window, (&none, open));
            let moved = moving.await;
            let closed = match &moved {
                Ok(()) | Err(LaneError::Key(_)) => self.close(ends, &window).await,
                Err(_) => Ok(()),
            };
            // Clients find the keys that are left only by ASK.
            let left = backwards.into_iter();
            let left: Vec<Slot> = left.filter(|slot| self.begun.contains_key(slot)).collect();
            let again = each(&left, SetSlot::Migrating(self.source.id));
            set_slots(&ends.target, &again).await;
            match moved {
                Ok(()) => {}
                Err(error @ LaneError::Key(_)) => conflict = Err(error),
                Err(error) => return Err(error),
            }
            closed?;
        }
        conflict
    }

    /// Deletes the keys of these slots that equal the target's.
    pub(super) async fn purge_all(
        &mut self,
        ends: &mut Ends,
        slots: Vec<Slot>,
    ) -> Result<(), LaneError> {
        let mut movers = self.movers(Authority::Target);
        let mut others = 0;
        for window in slots.chunks(self.options.max_open_slots.max(1)) {
            if !self.may_open().await {
                break;
            }
            let (window, _) = self.offer(ends, window).await?;
            let purged = self.purge(&mut movers, ends, &window).await?;
            self.tally.keys += purged.deleted;
            others += purged.kept;
            let all: Vec<Slot> = window.iter().map(|(slot, _)| *slot).collect();
            self.stable(ends, &all).await?;
        }
        match others {
            0 => Ok(()),
            others => Err(LaneError::Key(format!(
                "{others} keys stay on {}: {} lacks them, or has them with other values \
                 (--collect-strays brings what it lacks)",
                self.source, self.target
            ))),
        }
    }

    /// Deletes the keys of a window that equal the target's, also across an election elsewhere.
    async fn purge(
        &self,
        movers: &mut Movers,
        ends: &mut Ends,
        window: &Window,
    ) -> Result<Purged, LaneError> {
        let mut wait = self.election_wait();
        let mut purged = Purged::default();
        loop {
            let compared = purged.compared;
            let done = movers.purge(ends, window, &mut purged).await;
            if purged.compared > compared {
                wait.served();
            }
            if let Some(()) = self.unless_down(&mut wait, ends, done).await? {
                return Ok(purged);
            }
        }
    }

    /// Reads the keys of a window that is open at the source, and refuses those that the target should not be given. The
    /// source tells of keys only once their slot is open.
    async fn sized(
        &self,
        movers: &Movers,
        ends: &mut Ends,
        window: &Window,
    ) -> Result<Prepared, LaneError> {
        let batches = self.prepare(movers, ends, window).await?;
        let (batches, big) = batches.without_big_keys(self.options.big());
        if let Some(big) = big
            && self.options.on_big_key != OnBigKey::Move
        {
            return Err(LaneError::Key(format!(
                "{big}: it would hold both servers (--on-big-key move)"
            )));
        }
        let coming = needed(batches.bytes(window).saturating_mul(self.sharing));
        if let Some(room) = self.room(ends).await?
            && coming > room
        {
            return Err(LaneError::Changed(format!(
                "{} has {} KiB left below its maxmemory, and the next {} slots need about {}: \
                 raise its maxmemory",
                self.target,
                room >> 10,
                window.len(),
                coming >> 10
            )));
        }
        Ok(batches)
    }

    /// Makes slots STABLE at the source of which no key has moved. `fix` would take open ones for half a move.
    async fn close_untouched(&mut self, ends: &Ends, slots: &[Slot]) {
        let outcomes = set_slots(&ends.source, &each(slots, SetSlot::Stable)).await;
        for (slot, outcome) in slots.iter().zip(outcomes) {
            if outcome.is_ok() {
                self.begun.remove(slot);
            }
        }
    }

    /// Looks at both ends, and opens a window at the source. Returns it, and those of its slots that were not open there.
    async fn offer(
        &mut self,
        ends: &mut Ends,
        slots: &[Slot],
    ) -> Result<(Window, Vec<Slot>), LaneError> {
        let wanted: SlotSet = slots.iter().copied().collect();
        let (source, target) = self.survey(ends).await?;
        let owned: SlotSet = target.myself().slots.iter().copied().collect();
        let lost = wanted.difference(&owned);
        if !lost.is_empty() {
            return Err(LaneError::Changed(format!(
                "{} does not own slots {lost} any more",
                self.target
            )));
        }
        let back = open_on(target.myself(), Direction::Migrating, Some(self.source.id));
        let away = open_on(target.myself(), Direction::Migrating, None).difference(&back);
        let away = wanted.intersection(&away);
        let claimed: SlotSet = source.myself().slots.iter().copied().collect();
        let claimed = wanted.intersection(&claimed);
        if !away.is_empty() || !claimed.is_empty() {
            return Err(LaneError::Changed(format!(
                "slots {} of {} and {} are being changed by another client",
                away.union(&claimed),
                self.source,
                self.target
            )));
        }
        let open = open_on(source.myself(), Direction::Importing, None);
        let closed = slots.iter().copied().filter(|slot| !open.contains(*slot));
        let closed: Vec<Slot> = closed.collect();
        for slot in slots {
            self.begun
                .insert(*slot, (SlotProgress::Gathered, Instant::now()));
        }
        for state in [
            SetSlot::Importing(self.target.id),
            SetSlot::Node(self.target.id),
        ] {
            let changes: Vec<_> = slots.iter().map(|slot| (*slot, state)).collect();
            let outcomes = set_slots(&ends.source, &changes).await;
            for (slot, outcome) in slots.iter().zip(&outcomes) {
                let is_refused = |error: &ClientError| !error.outcome_unknown();
                if matches!(state, SetSlot::Importing(_)) && outcome.as_ref().is_err_and(is_refused)
                {
                    self.begun.remove(slot);
                }
            }
            first_error(outcomes)?;
        }
        let counts = self.count(&ends.source, &ends.databases, slots).await?;
        let window = slots.iter().copied().zip(counts).collect();
        Ok((window, closed))
    }

    /// Makes those slots of a window STABLE that the owner is migrating to the source; returns them.
    async fn stop_migrating(&self, ends: &Ends, window: &Window) -> Result<Vec<Slot>, LaneError> {
        let view = view_of(&ends.target).await;
        let Some(view) = view else {
            return Err(LaneError::Changed(format!(
                "{} does not tell which slots it has open",
                self.target
            )));
        };
        let migrating = open_on(view.myself(), Direction::Migrating, Some(self.source.id));
        let slots = window.iter().map(|(slot, _)| *slot);
        let slots: Vec<Slot> = slots.filter(|slot| migrating.contains(*slot)).collect();
        first_error(set_slots(&ends.target, &each(&slots, SetSlot::Stable)).await)?;
        Ok(slots)
    }

    /// Closes the slots of a window of which the source has no key any more.
    async fn close(&mut self, ends: &mut Ends, window: &Window) -> Result<(), LaneError> {
        let slots: Vec<Slot> = window.iter().map(|(slot, _)| *slot).collect();
        let counts = self.count(&ends.source, &ends.databases, &slots).await?;
        let empty: Vec<Slot> = slots
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| *count == 0)
            .map(|(slot, _)| slot)
            .collect();
        let gathered: SlotSet = empty.iter().copied().collect();
        self.confirm(ends, &gathered).await?;
        self.stable(ends, &empty).await?;
        if !empty.is_empty() {
            self.tell(LaneEvent::Slots { moved: gathered });
        }
        Ok(())
    }

    async fn stable(&mut self, ends: &Ends, slots: &[Slot]) -> Result<(), LaneError> {
        let changes: Vec<_> = slots.iter().map(|slot| (*slot, SetSlot::Stable)).collect();
        first_error(set_slots(&ends.source, &changes).await)?;
        let closed = slots.iter().copied().collect();
        self.regulator.note_closed(self.pair(), &closed);
        for slot in slots {
            if let Some((_, since)) = self.begun.remove(slot) {
                self.tally.close(since.elapsed());
            }
            self.moved.insert(*slot);
        }
        Ok(())
    }
}
