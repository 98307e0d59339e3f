//! After a failure: what can be closed is closed, what can be taken back is, and both ends are asked for
//! the reason.

use std::time::Duration;

use tokio::time::timeout;

use crate::client::{MigrateFault, SetSlot, refusal_of_target};
use crate::cluster::node::NodeId;
use crate::cluster::parse::{ClusterInfo, Direction, Info, View};
use crate::cluster::slot::{Slot, SlotSet};

use super::setslot::set_slots;
use super::watch::{databases, followed, missing_owners, open_on, view_of};
use super::{Ends, Lane, LaneError, Window};
use crate::migrate::{End, SlotProgress};

/// How long both ends may take to say which slots are open, after a stop that must not wait.
const ASKED_FOR: Duration = Duration::from_secs(1);

impl Lane {
    /// Cleans up after a failure. Closes the slots that are empty at the source, tells the source
    /// which slots the target has claimed, and makes slots STABLE that only the target has open.
    /// The other slots stay open, and are named.
    ///
    /// A migrating slot is not made STABLE, even if the target has no key of it: a client that
    /// was redirected (ASK) may be about to write one there. Slots that a node refuses to move are
    /// the exception: `revert` looks for such keys.
    pub(super) async fn tidy(&mut self, ends: &mut Ends, error: &LaneError) {
        let Some(target) = view_of(&ends.target).await else {
            return;
        };
        // A claim that got no answer may not have been executed. SETSLOT NODE at the source would
        // then leave the slot without an owner.
        let claimed: SlotSet = target.myself().slots.iter().copied().collect();
        let mut give = Vec::new();
        for (slot, (progress, _)) in &mut self.begun {
            if claimed.contains(*slot) {
                *progress = SlotProgress::Claimed;
                give.push((*slot, SetSlot::Node(self.target.id)));
            } else if matches!(progress, SlotProgress::Claimed | SlotProgress::Unknown) {
                *progress = SlotProgress::Migrating;
            }
        }
        let outcomes = self.give(ends, &give).await;
        self.note(&give, &outcomes);
        if error.is_refusal() {
            self.revert(ends).await;
        }
        let migrating = self.slots_with(SlotProgress::Migrating);
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

    /// Makes slots STABLE at the target that are open only there.
    pub(super) async fn take_back(&mut self, ends: &Ends) {
        let importing = self.slots_with(SlotProgress::Importing);
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

    /// Why the lane stopped, with what servers don't say when they refuse a command; and the
    /// master of the target, if it is no master any more.
    pub(super) async fn explain(&self, error: LaneError) -> (String, Option<NodeId>) {
        let mut why = error.to_string();
        let target = self.view_at(&self.target).await;
        let successor = target.as_ref().and_then(followed);
        let LaneError::Client(error) = &error else {
            return (why, successor.map(|master| master.id));
        };
        if let Some(master) = successor {
            why += &format!("; {} follows {master}", self.target);
        }
        if let Some(refusal) = refusal_of_target(error) {
            why += &format!("; {}: {}", self.target, refusal.way_out());
        }
        let is_down = error.server_code() == Some("CLUSTERDOWN")
            || MigrateFault::of(error) == MigrateFault::ClusterDown;
        if is_down {
            for end in [&self.source, &self.target] {
                why += &self.what_is_down(end).await.unwrap_or_default();
            }
        }
        (why, successor.map(|master| master.id))
    }

    /// Nothing is known for certain any more of the slots in hand.
    pub(super) fn doubt_all(&mut self) {
        for (progress, _) in self.begun.values_mut() {
            if !matches!(progress, SlotProgress::Gathered | SlotProgress::InTask) {
                *progress = SlotProgress::Unknown;
            }
        }
    }

    /// Asks both ends, on new connections, which of the slots in hand are open still. It changes
    /// nothing on them, and does not wait long: where an end does not answer, what was known stays.
    pub(super) async fn ask_both(&mut self) {
        if self.begun.is_empty() {
            return;
        }
        let view = async |end: &End| {
            let client = self.connections.own(&end.target).await.ok()?;
            let view = view_of(&client).await?;
            (view.myself().id == end.id).then_some(view)
        };
        let both = async { tokio::join!(view(&self.source), view(&self.target)) };
        let Ok((Some(source), Some(target))) = timeout(ASKED_FOR, both).await else {
            return;
        };
        let claims = Claims::of(&source, &target);
        for slot in self.begun.keys().copied().collect::<Vec<_>>() {
            let Some((progress, since)) = self.begun.remove(&slot) else {
                continue;
            };
            match claims.progress(slot, progress) {
                Told::Open(progress) => {
                    self.begun.insert(slot, (progress, since));
                }
                Told::Moved => {
                    self.moved.insert(slot);
                }
                Told::Untouched => {}
            }
        }
    }

    async fn view_at(&self, end: &End) -> Option<View> {
        let client = self.connections.client(&end.target).await.ok()?;
        view_of(&client).await
    }

    async fn what_is_down(&self, end: &End) -> Option<String> {
        let client = self.connections.client(&end.target).await.ok()?;
        if ClusterInfo::parse(&client.cluster_info().await.ok()?).ok {
            return None;
        }
        let missing = missing_owners(&view_of(&client).await?);
        Some(format!("; {end} says cluster_state:fail{missing}"))
    }
}

/// What both ends say of slots.
struct Claims {
    source_owns: SlotSet,
    target_owns: SlotSet,
    migrating: SlotSet,
    importing: SlotSet,
    /// Open on the source while keys of it go to the owner.
    gathering: SlotSet,
}

/// What both ends say of one slot.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Open(SlotProgress),
    /// The target owns it, and both know.
    Moved,
    /// The source owns it, and neither has it open.
    Untouched,
}

impl Claims {
    fn of(source: &View, target: &View) -> Self {
        let (source, target) = (source.myself(), target.myself());
        Self {
            source_owns: source.slots.iter().copied().collect(),
            target_owns: target.slots.iter().copied().collect(),
            migrating: open_on(source, Direction::Migrating, Some(target.id)),
            importing: open_on(target, Direction::Importing, Some(source.id)),
            gathering: open_on(source, Direction::Importing, Some(target.id)),
        }
    }

    fn progress(&self, slot: Slot, known: SlotProgress) -> Told {
        let has = |slots: &SlotSet| slots.contains(slot);
        match known {
            SlotProgress::InTask => return Told::Open(known),
            _ if has(&self.gathering) => return Told::Open(SlotProgress::Gathered),
            // Closed, or never opened: looking for its keys again does no harm.
            SlotProgress::Gathered => return Told::Untouched,
            _ => {}
        }
        match (has(&self.source_owns), has(&self.target_owns)) {
            (true, true) => Told::Open(SlotProgress::Claimed),
            (_, _) if has(&self.migrating) => Told::Open(SlotProgress::Migrating),
            (_, _) if has(&self.importing) => Told::Open(SlotProgress::Importing),
            (true, false) => Told::Untouched,
            (false, true) => Told::Moved,
            (false, false) => Told::Open(known),
        }
    }
}
