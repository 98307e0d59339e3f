//! Findings about identities and links: two processes with one node id, slot owners that other members do not reach.

use std::collections::BTreeSet;

use super::{Code, Judge};
use crate::cluster::links::{MissingLinks, sentence};
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;

impl Judge<'_> {
    pub(super) fn twins(&mut self) {
        for twins in &self.observation.identities.twins {
            let message = twins.to_string();
            self.add(Code::NodeTwice, message, &[twins.id], SlotSet::new());
        }
    }

    /// Slot owners that other members do not reach, each once.
    pub(super) fn unlinked(&mut self, missing: &MissingLinks) {
        let owners: BTreeSet<NodeId> = missing.keys().map(|(_, owner)| *owner).collect();
        for owner in owners {
            let message = sentence(self.observation, owner, missing);
            let slots = self.topology.members.get(&owner);
            let slots = slots.map(|member| member.slots.clone());
            self.add(
                Code::OwnerUnlinked,
                message,
                &[owner],
                slots.unwrap_or_default(),
            );
        }
    }
}
