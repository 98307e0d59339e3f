//! After a failure: what can be closed is closed, what can be taken back is.

use crate::client::SetSlot;
use crate::cluster::parse::{Direction, Info};
use crate::cluster::slot::{Slot, SlotSet};

use super::watch::{databases, open_on, view_of};
use super::{Ends, Lane, Window, set_slots};
use crate::migrate::Standing;

impl Lane {
    /// After a failure: what is empty at the source is closed, what is claimed is told to the
    /// source, what only the target knows of is taken back. The rest stays open, and is named.
    ///
    /// A slot that is migrating is never made STABLE, not even where the target has no key of it: a
    /// client that was sent on (ASK) may be about to write one there.
    pub(super) async fn tidy(&mut self, ends: &mut Ends) {
        let Some(target) = view_of(&ends.target).await else {
            return;
        };
        // A claim that got no answer may not have happened. If the source were told all the same,
        // the slot would have no owner.
        let claimed: SlotSet = target.myself().slots.iter().copied().collect();
        let mut give = Vec::new();
        for (slot, (standing, _)) in &mut self.begun {
            if claimed.contains(*slot) {
                *standing = Standing::Claimed;
                give.push((*slot, SetSlot::Node(self.target.id)));
            } else if *standing == Standing::Claimed {
                *standing = Standing::Migrating;
            }
        }
        let outcomes = self.give(&ends.source, &give).await;
        self.note(&give, &outcomes);
        let migrating = self.standing_at(Standing::Migrating);
        if let Ok(counts) = self.count(&ends.source, &ends.databases, &migrating).await {
            let empty: Window = migrating
                .into_iter()
                .zip(counts)
                .filter(|(_, count)| *count == 0)
                .collect();
            if !empty.is_empty() {
                // It looks, and counts, again; why it can't close them is no news.
                let _ = self.turn(ends, &empty, &Window::new()).await;
            }
        }
        self.take_back(ends).await;
    }

    /// STABLE at the target, for slots of which the source was never told.
    pub(super) async fn take_back(&mut self, ends: &Ends) {
        let importing = self.standing_at(Standing::Importing);
        if importing.is_empty() {
            return;
        }
        let (Some(source), Ok(info)) = (view_of(&ends.source).await, ends.target.info().await)
        else {
            return;
        };
        let told = open_on(source.myself(), Direction::Migrating, None);
        let owned: SlotSet = source.myself().slots.iter().copied().collect();
        let databases = databases(&Info::parse(&info));
        let Ok(counts) = self.count(&ends.target, &databases, &importing).await else {
            return;
        };
        let untouched: Vec<(Slot, SetSlot)> = importing
            .into_iter()
            .zip(counts)
            .filter(|(slot, count)| *count == 0 && owned.contains(*slot) && !told.contains(*slot))
            .map(|(slot, _)| (slot, SetSlot::Stable))
            .collect();
        let outcomes = set_slots(&ends.target, &untouched).await;
        for ((slot, _), outcome) in untouched.iter().zip(outcomes) {
            if outcome.is_ok() {
                self.begun.remove(slot);
            }
        }
    }
}
