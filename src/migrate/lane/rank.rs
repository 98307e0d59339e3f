//! Gives a target a higher config epoch than its source, in the view of the target's replicas.
//!
//! From Valkey 8 on, a node sends SETSLOT to its replicas before it executes it. If the target dies
//! right then, its replicas know that it owns the slot, but not the new config epoch of its claim.
//! If the source's epoch is the higher one, the next message about the source gives the slot back
//! to the source in their view. The replica that takes over then does not own the slot. On Valkey
//! 9.1.2 it deletes the keys of the slot ("I have keys for slot 0, but the slot is assigned to
//! another node"). They are lost, since the source has deleted them as well.
//!
//! So the target gets a higher epoch before it claims a slot, and its replicas learn that epoch. One
//! slot remains at risk: the slot whose SETSLOT the target has not executed itself when it dies. The
//! target's pings say that it does not own this slot, and no epoch prevents that.

use std::time::{Duration, Instant};

use super::setslot::replicates;
use super::watch::view_of;
use super::{Ends, Lane, LaneError};
use crate::cluster::node::Role;
use crate::cluster::parse::{EntryState, Info, View};
use crate::connections::Target;

/// How long replicas may take to hear of an epoch: half a cluster-node-timeout, which is 15 s by
/// default, and some more.
const HEARD_WITHIN: Duration = Duration::from_secs(15);
/// Between two looks at them.
const PAUSE: Duration = Duration::from_millis(50);

impl Lane {
    /// Returns once the target's replicas see it above the source.
    pub(super) async fn outrank(&self, ends: &Ends) -> Result<(), LaneError> {
        let info = Info::parse(&ends.target.info().await?);
        if !replicates(&info) {
            return Ok(());
        }
        let started = Instant::now();
        if let Some(view) = view_of(&ends.target).await
            && !self.is_above(&view)
        {
            ends.target.cluster_bumpepoch().await?;
        }
        loop {
            let Some(view) = view_of(&ends.target).await else {
                return Err(LaneError::Changed(format!(
                    "{} can't be looked at",
                    self.target
                )));
            };
            let Some(behind) = self.replica_behind(&view).await else {
                return Ok(());
            };
            if started.elapsed() > HEARD_WITHIN {
                return Err(LaneError::Changed(format!(
                    "{behind}, a replica of {}, does not hear of its master's config epoch within \
                     {} s: look at the link between the two",
                    self.target,
                    HEARD_WITHIN.as_secs()
                )));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn is_above(&self, view: &View) -> bool {
        let epoch = |id| view.entry(id).map(|entry| entry.epoch);
        epoch(self.target.id) > epoch(self.source.id)
    }

    /// A replica of the target that does not see it above the source. One that can't be asked from
    /// here counts as one that does.
    async fn replica_behind(&self, view: &View) -> Option<String> {
        let replicas = view.entries().filter(|entry| {
            entry.role == Some(Role::Replica)
                && entry.master == Some(self.target.id)
                && entry.state == EntryState::Fine
                && entry.linked
        });
        for replica in replicas {
            let Some(peer) = &replica.addr else {
                continue;
            };
            let addr = self.connections.dial_of(peer);
            let target = Target {
                addr: addr.clone(),
                node: Some(replica.id),
                access: self.target.target.access.clone(),
            };
            let Ok(client) = self.connections.client(&target).await else {
                continue;
            };
            if let Some(view) = view_of(&client).await
                && !self.is_above(&view)
            {
                return Some(format!("{addr} ({})", replica.id.short()));
            }
        }
        None
    }
}
