//! Finds the names of all keys of a server or a cluster.
//!
//! All masters of a cluster are scanned side by side, each for the slots that it owns. SCAN returns every key that is
//! there from its beginning to its end. Keys of a slot go one way only while it moves, so a key that a scan of the source
//! has not returned is on the target by the end of that scan: slots that moved, or move still, are scanned again on the
//! node to which they went, until none moved meanwhile. A key may be returned more than once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::keyspace::{Keyspace, NodeKeys, Place, ReadFrom, Successor};
use super::lane::{OWNER_TIMEOUT, RETRY_PAUSE};
use super::slots::SlotOwners;
use super::{Stopper, TransferError};
use crate::backup::{Meter, MeterPart};
use crate::client::ClientError;
use crate::cluster::node::NodeId;
use crate::cluster::slot::{Slot, SlotSet};
use crate::connections::Target;

/// The COUNT of SCAN.
const SCAN_COUNT: usize = 1000;

/// Names of keys.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) keys: Vec<Vec<u8>>,
    /// Their sizes in memory, in bytes, where the server tells them; empty if nobody asked.
    pub(super) sizes: Vec<Option<u64>>,
    /// What counts them once they are done.
    pub(super) part: Option<Arc<MeterPart>>,
}

/// The counters of the nodes of a cluster.
pub(super) type NodeParts = BTreeMap<NodeId, Arc<MeterPart>>;

/// Adds a part for each node; keys of a pattern are a part of its keys that is not known.
pub(super) fn node_parts(meter: &Meter, nodes: &[NodeKeys], pattern: Option<&str>) -> NodeParts {
    let total = |keys: u64| pattern.is_none().then_some(keys);
    let part = |node: &NodeKeys| (node.id, meter.part(&node.name, total(node.keys)));
    nodes.iter().map(part).collect()
}

/// Whether the sizes of keys are read, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizes {
    Asked,
    NotAsked,
}

/// A scan of all keys.
#[derive(Clone)]
pub(super) struct Scan {
    pub(super) keyspace: Keyspace,
    /// Only keys of this pattern.
    pub(super) pattern: Option<String>,
    pub(super) sizes: Sizes,
    /// The counters of nodes.
    pub(super) parts: NodeParts,
    /// Where the names go.
    pub(super) chunks: mpsc::Sender<Chunk>,
    pub(super) stopper: Stopper,
}

/// Why a node was not scanned to its end.
enum Cut {
    /// The transfer stops.
    Stopped,
    Failed(ClientError),
}

impl From<ClientError> for Cut {
    fn from(error: ClientError) -> Self {
        Self::Failed(error)
    }
}

impl Scan {
    /// Runs to the end, or until the transfer stops.
    pub(super) async fn run(self) -> Result<(), TransferError> {
        let scanned = match &self.keyspace.place {
            Place::Server { target, .. } => self.node(target, None, None).await,
            Place::Cluster(owners, from) => return self.cluster(owners, *from).await,
        };
        match scanned {
            Ok(()) | Err(Cut::Stopped) => Ok(()),
            Err(Cut::Failed(error)) => Err(error.into()),
        }
    }

    async fn cluster(
        &self,
        owners: &Arc<SlotOwners>,
        mut from: ReadFrom,
    ) -> Result<(), TransferError> {
        let mut view = owners.now();
        let mut left = view.by_owner();
        // Slots without an owner have no keys; those that lose theirs get another one.
        let owned = left
            .values()
            .fold(SlotSet::new(), |all, slots| all.union(slots));
        // The slots that were scanned to the end, by the node on which that was last.
        let mut scanned: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
        let mut delay = None;
        let mut deadline = Instant::now() + OWNER_TIMEOUT;
        loop {
            let mut scans = JoinSet::new();
            for (id, slots) in left {
                let Some(owner) = view.owner(id) else {
                    continue;
                };
                let replica = match from {
                    ReadFrom::Masters => None,
                    ReadFrom::Replicas => view.replica_of(id),
                };
                let (scan, target) = (self.clone(), replica.unwrap_or(&owner.target).clone());
                let part = self.parts.get(&id).map(Arc::clone);
                scans.spawn(async move {
                    let done = scan.node(&target, Some(&slots), part).await;
                    (id, slots, done)
                });
            }
            // A replica may lack what has just moved to its master.
            from = ReadFrom::Masters;
            while let Some(ended) = scans.join_next().await {
                match ended {
                    Ok((id, slots, Ok(()))) => {
                        deadline = Instant::now() + OWNER_TIMEOUT;
                        for of_other in scanned.values_mut() {
                            *of_other = of_other.difference(&slots);
                        }
                        scanned.entry(id).or_default().union_with(&slots);
                    }
                    Ok((_, _, Err(Cut::Stopped))) => return Ok(()),
                    Ok((id, _, Err(Cut::Failed(error))))
                        if Successor::of(Some(id), &view).may_follow(&error) =>
                    {
                        delay = Some(error.to_string());
                    }
                    Ok((_, _, Err(Cut::Failed(error)))) => return Err(error.into()),
                    Err(_) => return Err(TransferError::Panicked),
                }
            }
            if let Err(error) = owners.refresh(view.generation).await {
                delay = Some(error.to_string());
            }
            view = owners.now();
            left = view.last_holders();
            let held = left
                .values()
                .fold(SlotSet::new(), |all, slots| all.union(slots));
            for (id, slots) in &mut left {
                *slots = match scanned.get(id) {
                    Some(done) => slots.difference(done),
                    None => slots.clone(),
                };
            }
            left.retain(|_, slots| !slots.is_empty());
            let done = scanned
                .values()
                .fold(SlotSet::new(), |all, slots| all.union(slots));
            let unowned = owned.difference(&held).difference(&done);
            if left.is_empty() && unowned.is_empty() {
                return Ok(());
            }
            if self.stopper.is_halted() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let missing = left.values().fold(unowned, |all, slots| all.union(slots));
                let why = delay.unwrap_or_else(|| "no master owns them".to_string());
                return Err(TransferError::NoOwner(format!(
                    "slots {} can't be read: {why}",
                    missing.summary()
                )));
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Scans one node. With `slots`, only keys of these slots count.
    async fn node(
        &self,
        target: &Target,
        slots: Option<&SlotSet>,
        part: Option<Arc<MeterPart>>,
    ) -> Result<(), Cut> {
        let client = self.keyspace.connect(target).await?;
        // A cursor means nothing to another process: the connection is not opened again to one with another run id.
        client.info().await?;
        let pattern = self.pattern.as_deref();
        let mut cursor = 0;
        loop {
            let (after, mut keys) = client.scan(cursor, pattern, SCAN_COUNT).await?;
            if let Some(slots) = slots {
                keys.retain(|key| slots.contains(Slot::of_key(key)));
            }
            if !keys.is_empty() {
                let sizes = match self.sizes {
                    Sizes::Asked => {
                        let names: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                        client.memory_many(&names).await?
                    }
                    Sizes::NotAsked => Vec::new(),
                };
                if let Some(part) = &part {
                    part.list(keys.len() as u64);
                }
                let part = part.clone();
                self.hand_over(Chunk { keys, sizes, part }).await?;
            }
            cursor = after;
            if cursor == 0 {
                if let Some(part) = &part {
                    part.complete();
                }
                return Ok(());
            }
        }
    }

    async fn hand_over(&self, chunk: Chunk) -> Result<(), Cut> {
        let is_sent = tokio::select! {
            biased;
            () = self.stopper.halted() => false,
            sent = self.chunks.send(chunk) => sent.is_ok(),
        };
        match is_sent {
            true => Ok(()),
            false => Err(Cut::Stopped),
        }
    }
}
