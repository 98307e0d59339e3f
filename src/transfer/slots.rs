//! The current owners of all slots.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Semaphore;

use crate::cluster::node::NodeId;
use crate::cluster::slot::{SLOTS, Slot};
use crate::cluster::topology::Topology;
use crate::connections::{Connections, Target};
use crate::discover::{self, DiscoverError, Found};

/// Why the owners are unknown.
#[derive(Debug, thiserror::Error)]
pub enum SlotMapError {
    /// The cluster can't be read.
    #[error(transparent)]
    Discover(#[from] DiscoverError),
}

/// A master that owns slots.
#[derive(Debug, Clone)]
pub struct SlotOwner {
    /// Its node id.
    pub id: NodeId,
    /// How to reach it.
    pub target: Target,
    /// `127.0.0.1:7000 (1977c4d4)`.
    pub name: String,
}

/// The owners at one moment.
#[derive(Debug)]
struct Snapshot {
    /// How often the owners were read again.
    generation: u64,
    owners: BTreeMap<NodeId, SlotOwner>,
    by_slot: Vec<Option<NodeId>>,
}

impl Snapshot {
    fn of(found: &Found, generation: u64) -> Self {
        let topology = Topology::of(&found.observation);
        let mut owners = BTreeMap::new();
        let mut by_slot = vec![None; usize::from(SLOTS)];
        for member in topology.masters().filter(|m| !m.peer_status.is_lost()) {
            let node = found.observation.nodes.get(&member.id);
            let Some(target) = node.and_then(|node| found.target_of(node)) else {
                continue;
            };
            for slot in member.slots.iter() {
                by_slot[usize::from(slot.number())] = Some(member.id);
            }
            let owner = SlotOwner {
                id: member.id,
                target,
                name: found.observation.name(member.id),
            };
            owners.insert(member.id, owner);
        }
        Self {
            generation,
            owners,
            by_slot,
        }
    }
}

/// The owners as they were known at one moment.
pub(super) struct Known(Arc<Snapshot>);

impl Known {
    /// The owner of a slot; none if it is unassigned.
    pub(super) fn owner_of(&self, slot: Slot) -> Option<NodeId> {
        self.0.by_slot[usize::from(slot.number())]
    }
}

/// The owners of all slots, read again when a lane finds that they changed.
#[derive(Debug)]
pub struct SlotOwners {
    connections: Arc<Connections>,
    seeds: Vec<Target>,
    now: RwLock<Arc<Snapshot>>,
    reading: tokio::sync::Mutex<()>,
    large: Semaphore,
}

impl SlotOwners {
    /// Reads the owners.
    pub async fn read(
        connections: Arc<Connections>,
        seeds: Vec<Target>,
    ) -> Result<Self, SlotMapError> {
        let found = discover::find(&connections, &seeds).await?;
        let now = RwLock::new(Arc::new(Snapshot::of(&found, 0)));
        Ok(Self {
            connections,
            seeds,
            now,
            reading: tokio::sync::Mutex::default(),
            large: Semaphore::new(1),
        })
    }

    /// The connections to the cluster.
    pub(super) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// The turns for values that exceed the limit of replies.
    pub(super) fn large(&self) -> &Semaphore {
        &self.large
    }

    fn now(&self) -> Arc<Snapshot> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// All masters that own slots.
    pub fn all(&self) -> Vec<SlotOwner> {
        let now = self.now();
        let ids: std::collections::BTreeSet<NodeId> =
            now.by_slot.iter().filter_map(|id| *id).collect();
        ids.iter()
            .filter_map(|id| now.owners.get(id).cloned())
            .collect()
    }

    /// Returns a master that owns slots.
    pub(super) fn owner(&self, id: NodeId) -> Option<SlotOwner> {
        self.now().owners.get(&id).cloned()
    }

    /// Returns the owner of a key's slot, and the generation of that knowledge; no owner if the slot is unassigned.
    pub(super) fn of_key(&self, key: &[u8]) -> (Option<SlotOwner>, u64) {
        let now = self.now();
        let slot = usize::from(Slot::of_key(key).number());
        let owner = now.by_slot[slot].and_then(|id| now.owners.get(&id).cloned());
        (owner, now.generation)
    }

    /// Returns the owners as they are known now, for many keys.
    pub(super) fn known(&self) -> Known {
        Known(self.now())
    }

    /// Returns only the owner's id, which is cheaper.
    pub(super) fn id_of_key(&self, key: &[u8]) -> Option<NodeId> {
        let slot = usize::from(Slot::of_key(key).number());
        self.now().by_slot[slot]
    }

    /// Reads the owners again, unless that was done since the given generation.
    pub(super) async fn refresh(&self, seen: u64) -> Result<(), SlotMapError> {
        let _turn = self.reading.lock().await;
        if self.now().generation > seen {
            return Ok(());
        }
        // The last known owners are seeds as well: the original seeds may be gone.
        let mut seeds = self.seeds.clone();
        seeds.extend(self.now().owners.values().map(|owner| owner.target.clone()));
        let found = discover::find(&self.connections, &seeds).await?;
        let now = Arc::new(Snapshot::of(&found, seen + 1));
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(())
    }
}
