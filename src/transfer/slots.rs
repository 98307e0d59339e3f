//! The current owners of all slots.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Semaphore;

use super::clock::{self, Clock};
use crate::client::{AskedNode, Asking};
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::parse::{Direction, MasterLink, OpenSlot};
use crate::cluster::slot::{SLOTS, Slot, SlotSet};
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

/// The keys of a batch that go to one node.
#[derive(Debug)]
pub(super) struct Group {
    /// The node.
    pub(super) target: Target,
    /// Its name.
    pub(super) name: String,
    /// Whether the owner of the slots redirected the keys to it.
    pub(super) asking: Asking,
    /// A replica of the node that has its keys, too.
    pub(super) replica: Option<Target>,
    /// The positions of the keys in the batch.
    pub(super) members: Vec<usize>,
}

/// The owners at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// How often the owners were read again.
    pub(super) generation: u64,
    owners: BTreeMap<NodeId, SlotOwner>,
    by_slot: Vec<Option<NodeId>>,
    /// A replica of each owner, if one is in sync.
    replicas: BTreeMap<NodeId, Target>,
    /// The nodes that import slots from their owners, key by key.
    importing: BTreeMap<Slot, NodeId>,
}

impl Snapshot {
    /// The owner of a slot; none if it is unassigned.
    pub(super) fn id_of(&self, slot: Slot) -> Option<NodeId> {
        self.by_slot[usize::from(slot.number())]
    }

    fn of(found: &Found, generation: u64) -> Self {
        let topology = Topology::of(&found.observation);
        let mut owners = BTreeMap::new();
        let mut by_slot = vec![None; usize::from(SLOTS)];
        // Nodes accept the claim with the highest config epoch, so it is the last one here.
        let mut masters: Vec<_> = topology.masters().collect();
        masters.retain(|master| !master.peer_status.is_lost());
        masters.sort_by_key(|master| master.epoch);
        for member in masters {
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
        let mut replicas = BTreeMap::new();
        for id in owners.keys() {
            let in_sync = topology.replicas_of(*id).find_map(|replica| {
                let node = found.observation.nodes.get(&replica.id)?;
                let link = node.report()?.info.master_link?;
                found.target_of(node).filter(|_| link == MasterLink::Up)
            });
            replicas.extend(in_sync.map(|target| (*id, target)));
        }
        let open = topology
            .open_slots()
            .filter(|(member, _)| owners.contains_key(&member.id));
        let importing = imports(open.map(|(member, open)| (member.id, open)), &by_slot);
        Self {
            generation,
            owners,
            by_slot,
            replicas,
            importing,
        }
    }

    /// A replica of an owner that is in sync.
    pub(super) fn replica_of(&self, owner: NodeId) -> Option<&Target> {
        self.replicas.get(&owner)
    }

    /// A node of the cluster.
    pub(super) fn owner(&self, id: NodeId) -> Option<&SlotOwner> {
        self.owners.get(&id)
    }

    /// The node that imports the slot of a key.
    fn importer_of(&self, key: &[u8]) -> Option<&SlotOwner> {
        self.owners.get(self.importing.get(&Slot::of_key(key))?)
    }

    /// Slots by the node to which their keys go: the one that imports the slot, or the owner.
    pub(super) fn last_holders(&self) -> BTreeMap<NodeId, SlotSet> {
        let mut holders: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
        for slot in Slot::all() {
            let owner = self.by_slot[usize::from(slot.number())];
            let importing = self.importing.get(&slot).copied();
            if let Some(holder) = importing.or(owner) {
                holders.entry(holder).or_default().insert(slot);
            }
        }
        holders
    }

    /// Slots by their owner.
    pub(super) fn by_owner(&self) -> BTreeMap<NodeId, SlotSet> {
        let mut slots: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
        for slot in Slot::all() {
            if let Some(owner) = self.by_slot[usize::from(slot.number())] {
                slots.entry(owner).or_default().insert(slot);
            }
        }
        slots
    }
}

/// The nodes that import slots, by slot. Nodes answer one after the other: a slot of which the import was still open on
/// the target when the source had already closed it has no owner, and its keys are on the target.
fn imports(
    open: impl Iterator<Item = (NodeId, OpenSlot)>,
    by_slot: &[Option<NodeId>],
) -> BTreeMap<Slot, NodeId> {
    let importing = open.filter(|(_, open)| {
        let owner = by_slot[usize::from(open.slot.number())];
        open.direction == Direction::Importing && owner.is_none_or(|owner| owner == open.peer)
    });
    importing.map(|(id, open)| (open.slot, id)).collect()
}

/// Notes the node that another one names for a key. One that was named itself, and names the next one without a host, has
/// the slot no more: the owner is looked for.
pub(super) fn note_asked(
    asked: &mut BTreeMap<usize, AskedNode>,
    key: usize,
    node: AskedNode,
    by: Asking,
) {
    if by == Asking::No || node != AskedNode::Importing {
        asked.insert(key, node);
    }
}

/// The owners as they were known at one moment.
pub(super) struct Known(Arc<Snapshot>);

impl Known {
    /// The owner of a slot; none if it is unassigned.
    pub(super) fn owner_of(&self, slot: Slot) -> Option<NodeId> {
        self.0.id_of(slot)
    }
}

/// The owners of all slots, read again when a lane finds that they changed.
#[derive(Debug)]
pub struct SlotOwners {
    connections: Arc<Connections>,
    seeds: Vec<Target>,
    now: RwLock<Arc<Snapshot>>,
    reading: tokio::sync::Mutex<()>,
    clocks: RwLock<HashMap<Addr, Clock>>,
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
        let owners = Self {
            connections,
            seeds,
            now,
            reading: tokio::sync::Mutex::default(),
            clocks: RwLock::default(),
            large: Semaphore::new(1),
        };
        owners.read_clocks().await;
        Ok(owners)
    }

    /// Reads the clocks of owners that were not read before.
    async fn read_clocks(&self) {
        let unread = {
            let known = self.clocks.read().unwrap_or_else(PoisonError::into_inner);
            let owners = self.all().into_iter().map(|owner| owner.target);
            owners
                .filter(|target| !known.contains_key(&target.addr))
                .collect()
        };
        let read = clock::read(&self.connections, unread).await;
        let mut known = self.clocks.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(read);
    }

    /// The clock of a node; if it is not known, that of another node or of this machine.
    pub(super) fn clock(&self, addr: &Addr) -> Clock {
        let known = self.clocks.read().unwrap_or_else(PoisonError::into_inner);
        let clock = known.get(addr).or_else(|| known.values().next()).copied();
        clock.unwrap_or_else(Clock::of_machine)
    }

    /// The clock of a master.
    pub(super) fn clock_of(&self, owner: Option<NodeId>) -> Clock {
        match owner.and_then(|owner| self.owner(owner)) {
            Some(owner) => self.clock(&owner.target.addr),
            None => Clock::of_machine(),
        }
    }

    /// The clock of the node that owns the slot of a key.
    pub(super) fn clock_of_key(&self, key: &[u8]) -> Clock {
        match self.of_key(key) {
            Some(owner) => self.clock(&owner.target.addr),
            None => Clock::of_machine(),
        }
    }

    /// The connections to the cluster.
    pub(super) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// The turns for values that exceed the limit of replies.
    pub(super) fn large(&self) -> &Semaphore {
        &self.large
    }

    /// The owners as they were read last.
    pub(super) fn now(&self) -> Arc<Snapshot> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// All masters that own slots.
    pub fn all(&self) -> Vec<SlotOwner> {
        let now = self.now();
        let ids: BTreeSet<NodeId> = now.by_slot.iter().filter_map(|id| *id).collect();
        ids.iter()
            .filter_map(|id| now.owners.get(id).cloned())
            .collect()
    }

    /// Returns a master that owns slots.
    pub(super) fn owner(&self, id: NodeId) -> Option<SlotOwner> {
        self.now().owners.get(&id).cloned()
    }

    /// Returns the owner of a key's slot; none if the slot is unassigned.
    pub(super) fn of_key(&self, key: &[u8]) -> Option<SlotOwner> {
        let now = self.now();
        now.owner(now.id_of(Slot::of_key(key))?).cloned()
    }

    /// Returns the owners as they are known now, for many keys.
    pub(super) fn known(&self) -> Known {
        Known(self.now())
    }

    /// Returns only the owner's id, which is cheaper.
    pub(super) fn id_of_key(&self, key: &[u8]) -> Option<NodeId> {
        self.now().id_of(Slot::of_key(key))
    }

    /// Whether the node that an owner of `generation` named for a key can be asked without another look at the owners.
    pub(super) fn knows(&self, node: &AskedNode, key: &[u8], generation: u64) -> bool {
        let now = self.now();
        match node {
            AskedNode::At(_) => true,
            // After another look, its owner may name another one.
            AskedNode::Importing => now.generation == generation && now.importer_of(key).is_some(),
        }
    }

    /// Groups keys by the node that has them, as far as it is known. `asked` has the nodes to which owners redirected keys;
    /// it is empty afterwards. Also returns the generation of that knowledge.
    pub(super) fn by_node<'a>(
        &self,
        keys: impl Iterator<Item = (usize, &'a [u8])>,
        asked: &mut BTreeMap<usize, AskedNode>,
    ) -> (Vec<Group>, u64) {
        let mut groups: HashMap<(Addr, bool), Group> = HashMap::new();
        let asked = std::mem::take(asked);
        let now = self.now();
        for (i, key) in keys {
            let owner = now.id_of(Slot::of_key(key)).and_then(|id| now.owner(id));
            let Some(SlotOwner { id, target, name }) = owner.cloned() else {
                continue;
            };
            let (target, name, asking) = match asked.get(&i) {
                Some(AskedNode::At(peer)) => {
                    let addr = self.connections.dial_of(peer);
                    let name = addr.to_string();
                    let access = Arc::clone(&target.access);
                    let node = None;
                    (Target { addr, node, access }, name, Asking::Yes)
                }
                Some(AskedNode::Importing) => match now.importer_of(key).cloned() {
                    Some(SlotOwner { target, name, .. }) => (target, name, Asking::Yes),
                    None => (target, name, Asking::No),
                },
                None => (target, name, Asking::No),
            };
            let group = groups
                .entry((target.addr.clone(), asking == Asking::Yes))
                .or_insert_with(|| Group {
                    target,
                    name,
                    asking,
                    replica: match asking {
                        Asking::No => now.replica_of(id).cloned(),
                        Asking::Yes => None,
                    },
                    members: Vec::new(),
                });
            group.members.push(i);
        }
        (groups.into_values().collect(), now.generation)
    }

    /// Reads the owners again, unless that was done since the given generation.
    pub(super) async fn refresh(&self, seen: u64) -> Result<(), SlotMapError> {
        let _turn = self.reading.lock().await;
        if self.now().generation > seen {
            return Ok(());
        }
        self.read_again().await
    }

    /// Reads the owners again in any case: what is known afterwards was read after this call.
    pub(super) async fn renew(&self) -> Result<(), SlotMapError> {
        let _turn = self.reading.lock().await;
        self.read_again().await
    }

    /// Reads the owners again. The caller has the turn to read.
    async fn read_again(&self) -> Result<(), SlotMapError> {
        let generation = self.now().generation + 1;
        // The last known owners are seeds as well: the original seeds may be gone.
        let mut seeds = self.seeds.clone();
        seeds.extend(self.now().owners.values().map(|owner| owner.target.clone()));
        let found = discover::find(&self.connections, &seeds).await?;
        let now = Arc::new(Snapshot::of(&found, generation));
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = now;
        self.read_clocks().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_closed_between_the_answers_is_with_the_node_that_imports_it() {
        let [a, b, c]: [NodeId; 3] = ["a", "b", "c"].map(|id| id.repeat(40).parse().unwrap());
        let slot = Slot::of_key(b"key");
        let open = |direction, peer| OpenSlot {
            slot,
            direction,
            peer,
        };
        let found = |owner, id, open| {
            let mut by_slot = vec![None; usize::from(SLOTS)];
            by_slot[usize::from(slot.number())] = owner;
            imports([(id, open)].into_iter(), &by_slot)
                .get(&slot)
                .copied()
        };
        assert_eq!(found(Some(a), b, open(Direction::Importing, a)), Some(b));
        assert_eq!(found(None, b, open(Direction::Importing, a)), Some(b));
        // The import is a remnant: the slot came from another node, or has arrived.
        assert_eq!(found(Some(c), b, open(Direction::Importing, a)), None);
        assert_eq!(found(Some(b), b, open(Direction::Importing, a)), None);
        assert_eq!(found(Some(a), a, open(Direction::Migrating, b)), None);
    }
}
