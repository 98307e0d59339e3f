//! Finds the names of all keys of a server or a cluster.
//!
//! All masters of a cluster are scanned side by side, each for the slots that it owns. SCAN returns every key that is
//! there from its beginning to its end. Keys of a slot go one way only while it moves, so a key that a scan of the source
//! has not returned is on the target by the end of that scan: slots that moved, or move still, are scanned again on the
//! node to which they went, until none moved meanwhile. A key may be returned more than once.
//!
//! A key that leaves its node and returns during one scan of it may be missing. No server tells: the config epoch of a
//! node also rises when it receives other slots, and does not when an open slot is given up and its keys go back.

use std::collections::{BTreeMap, BTreeSet};
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

/// The slots that were scanned to the end.
struct Scanned {
    /// Slots that had an owner when the scan began. Slots without an owner have no keys; those that lose theirs get
    /// another one.
    owned: SlotSet,
    /// The slots by the node on which they were scanned last.
    by_node: BTreeMap<NodeId, SlotSet>,
    /// The slots without a holder in the last map.
    unowned: SlotSet,
}

impl Scanned {
    fn of(owners: &BTreeMap<NodeId, SlotSet>) -> Self {
        Self {
            owned: union(owners),
            by_node: BTreeMap::new(),
            unowned: SlotSet::new(),
        }
    }

    fn add(&mut self, id: NodeId, slots: &SlotSet) {
        for of_other in self.by_node.values_mut() {
            *of_other = of_other.difference(slots);
        }
        self.by_node.entry(id).or_default().union_with(slots);
    }

    /// What is left by a new map: slots to scan, by their holder, and slots whose holder has to be waited for.
    fn rest(
        &mut self,
        owners: &BTreeMap<NodeId, SlotSet>,
        mut holders: BTreeMap<NodeId, SlotSet>,
    ) -> (BTreeMap<NodeId, SlotSet>, SlotSet) {
        // The keys of an open slot are on both nodes: the one that imports it is read after its owner, if it has one.
        let owned = union(owners);
        let mut ready = union(&self.by_node).difference(&owned);
        for (id, slots) in owners {
            if let Some(done) = self.by_node.get(id) {
                ready.union_with(&slots.intersection(done));
            }
        }
        for (id, slots) in &mut holders {
            let own = owners.get(id).cloned().unwrap_or_default();
            let done = self.by_node.get(id).cloned().unwrap_or_default();
            *slots = slots.intersection(&own.union(&done).union(&ready));
        }
        let held = union(&holders);
        for (id, slots) in owners {
            let slots = slots.difference(&held);
            holders.entry(*id).or_default().union_with(&slots);
        }
        // An import of a slot that never had an owner can't be read: no node would redirect to it.
        let readable = self.owned.union(&owned);
        let unowned = self.owned.difference(&union(&holders));
        for (id, slots) in &mut holders {
            *slots = slots.intersection(&readable);
            if let Some(done) = self.by_node.get(id) {
                *slots = slots.difference(done);
            }
        }
        holders.retain(|_, slots| !slots.is_empty());
        // A slot that moves between the answers of two nodes has no owner in that map, but has one in the next.
        let done = union(&self.by_node).intersection(&self.unowned);
        self.unowned = unowned.clone();
        (holders, unowned.difference(&done))
    }
}

fn union(by_node: &BTreeMap<NodeId, SlotSet>) -> SlotSet {
    let slots = by_node.values();
    slots.fold(SlotSet::new(), |all, slots| all.union(slots))
}

/// How long owners that can't be read are waited for.
struct Patience {
    deadline: Instant,
    failed: BTreeSet<NodeId>,
}

impl Patience {
    fn from(now: Instant) -> Self {
        Self {
            deadline: now + OWNER_TIMEOUT,
            failed: BTreeSet::new(),
        }
    }

    /// A node was scanned to its end.
    fn renew(&mut self, now: Instant) {
        self.deadline = now + OWNER_TIMEOUT;
    }

    /// A node failed. The wait for its replica begins at its first failure, however long it was scanned until then.
    fn failed(&mut self, id: NodeId, now: Instant) {
        if self.failed.insert(id) {
            self.renew(now);
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.deadline
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
        let mut scanned = Scanned::of(&left);
        let mut delay = None;
        let mut patience = Patience::from(Instant::now());
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
                        patience.renew(Instant::now());
                        scanned.add(id, &slots);
                    }
                    Ok((_, _, Err(Cut::Stopped))) => return Ok(()),
                    Ok((id, _, Err(Cut::Failed(error))))
                        if Successor::of(Some(id), &view).may_follow(&error) =>
                    {
                        patience.failed(id, Instant::now());
                        delay = Some(error.to_string());
                    }
                    Ok((_, _, Err(Cut::Failed(error)))) => return Err(error.into()),
                    Err(_) => return Err(TransferError::Panicked),
                }
            }
            // A map from before the end of the scans may lack what moved after it was read. A map that another task reads
            // right now may have begun too early as well.
            while let Err(error) = owners.renew().await {
                if self.stopper.is_halted() {
                    return Ok(());
                }
                if patience.is_over(Instant::now()) {
                    return Err(error.into());
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            view = owners.now();
            let unowned;
            (left, unowned) = scanned.rest(&view.by_owner(), view.last_holders());
            if left.is_empty() && unowned.is_empty() {
                return Ok(());
            }
            if self.stopper.is_halted() {
                return Ok(());
            }
            if patience.is_over(Instant::now()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn node(digit: &str) -> NodeId {
        digit.repeat(40).parse().unwrap()
    }

    fn slots(numbers: &[u16]) -> SlotSet {
        Slot::all()
            .filter(|slot| numbers.contains(&slot.number()))
            .collect()
    }

    fn map<const N: usize>(nodes: [(&str, &[u16]); N]) -> BTreeMap<NodeId, SlotSet> {
        let of_node = |(id, numbers)| (node(id), slots(numbers));
        nodes.map(of_node).into_iter().collect()
    }

    #[test]
    fn slots_are_scanned_where_they_went() {
        let began = map([("a", &[1, 2]), ("b", &[3])]);
        let mut scanned = Scanned::of(&began);
        scanned.add(node("a"), &slots(&[1, 2]));
        scanned.add(node("b"), &slots(&[3]));
        let (left, unowned) = scanned.rest(&began, map([("a", &[1]), ("b", &[2, 3])]));
        assert_eq!((left, unowned), (map([("b", &[2])]), slots(&[])));
        scanned.add(node("b"), &slots(&[2]));
        let (left, unowned) = scanned.rest(&began, map([("a", &[1, 2]), ("b", &[3])]));
        assert_eq!((left, unowned), (map([("a", &[2])]), slots(&[])));
    }

    #[test]
    fn slots_without_an_owner_are_looked_for_once_more() {
        let mut scanned = Scanned::of(&map([("a", &[1, 2])]));
        scanned.add(node("a"), &slots(&[1]));
        let now = map([]);
        // The second one was not scanned: it is waited for until the deadline.
        assert_eq!(scanned.rest(&now, map([])), (map([]), slots(&[1, 2])));
        assert_eq!(scanned.rest(&now, map([])), (map([]), slots(&[2])));
    }

    /// Its source restarts while it is scanned, or its replica takes over.
    #[test]
    fn an_import_is_read_after_its_source() {
        let began = map([("a", &[1, 2])]);
        let mut scanned = Scanned::of(&began);
        let holders = map([("a", &[1]), ("b", &[2])]);
        let (left, unowned) = scanned.rest(&began, holders.clone());
        assert_eq!((left, unowned), (began.clone(), slots(&[])));
        // Its last slots are the open ones, and nobody owns them until a replica has taken over.
        let (left, unowned) = scanned.rest(&map([]), map([("b", &[2])]));
        assert_eq!((left, unowned), (map([]), slots(&[1, 2])));
        scanned.add(node("a"), &slots(&[1, 2]));
        let (left, unowned) = scanned.rest(&began, holders);
        assert_eq!((left, unowned), (map([("b", &[2])]), slots(&[])));
        scanned.add(node("b"), &slots(&[2]));
        let (left, unowned) = scanned.rest(&began, map([("a", &[1]), ("b", &[2])]));
        assert_eq!((left, unowned), (map([]), slots(&[])));
    }

    /// It moved twice during one scan.
    #[test]
    fn an_import_is_read_after_an_owner_that_was_not_scanned() {
        let mut scanned = Scanned::of(&map([("c", &[2])]));
        scanned.add(node("c"), &slots(&[2]));
        let (now, holders) = (map([("a", &[2])]), map([("b", &[2])]));
        assert_eq!(scanned.rest(&now, holders.clone()).0, now);
        scanned.add(node("a"), &slots(&[2]));
        assert_eq!(scanned.rest(&now, holders.clone()).0, holders);
    }

    #[test]
    fn imports_of_slots_that_never_had_an_owner_are_left_out() {
        let began = map([("a", &[1])]);
        let mut scanned = Scanned::of(&began);
        scanned.add(node("a"), &slots(&[1]));
        let holders = map([("a", &[1]), ("b", &[7])]);
        assert_eq!(scanned.rest(&began, holders.clone()), (map([]), slots(&[])));
        let (left, _) = scanned.rest(&holders, holders.clone());
        assert_eq!(left, map([("b", &[7])]));
    }

    #[test]
    fn the_wait_for_a_replica_begins_when_its_master_fails() {
        let began = Instant::now();
        let mut patience = Patience::from(began);
        let failed = began + 3 * OWNER_TIMEOUT;
        patience.failed(node("a"), failed);
        assert!(!patience.is_over(failed));
        patience.failed(node("a"), failed + OWNER_TIMEOUT / 2);
        assert!(patience.is_over(failed + OWNER_TIMEOUT));
    }
}
