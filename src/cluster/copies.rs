//! The copies of a shard: its master, its replicas, and the replicas of these. Which of them may become the master
//! without losing data that another one has.
//!
//! Offsets are compared within one history only (a replication id, and the id that it continues). Of a master that does
//! not answer nothing is known, so the best copy that answers may still lack writes.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;
use std::sync::Arc;

use super::election::is_up;
use super::node::{NodeId, Role};
use super::observation::{Observation, Report, Seen};
use super::parse::{Info, MasterLink, Version};
use super::topology::Topology;

/// What a copy whose link is up may lack before the failover: the nodes are read one after the other while clients
/// write. The failover itself waits until the copy has it.
const IN_FLIGHT: u64 = 64 << 20;
/// What any copy may lack: a few PINGs of the master (14 bytes each), of which a dying master sent some replicas more.
pub const HEARTBEATS: u64 = 64;
/// By how many seconds one copy lost its link earlier than another before it counts as older, if their offsets can't be
/// compared. Replicas of a master that dies lose it within a second or two.
const LOST_EARLIER: u64 = 10;

/// All copies of a shard.
#[derive(Debug, Clone)]
pub struct ShardCopies {
    /// The master first, then the replicas, by id.
    pub copies: Vec<ShardCopy>,
    /// Whether anything may be in flight from the master: it is up, as far as anybody knows.
    master_is_up: bool,
}

/// A copy of the data of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardCopy {
    /// The node that holds it.
    pub id: NodeId,
    /// Its role.
    pub role: Role,
    /// What it reports; `None` if it does not answer.
    pub facts: Option<CopyFacts>,
}

/// What a node reports about its copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFacts {
    /// The keys of all databases.
    pub keys: u64,
    /// The keys in slots of the shard, if they were counted.
    pub keys_of_shard: Option<u64>,
    /// The replication offset.
    pub offset: Option<u64>,
    /// The link to the master; `None` of a master, and of a replica that does not report it.
    pub link: Option<MasterLink>,
    /// Seconds since the last byte from the master, if the link is up.
    pub last_io: Option<u64>,
    /// Whether the node is loading its data set.
    pub is_loading: bool,
    /// The server and its version.
    pub version: Option<Version>,
    id: Option<Arc<str>>,
    earlier: Option<(Arc<str>, u64)>,
    has_backlog: Option<bool>,
    /// Whether its history is that of the master of another shard.
    is_of_other_shard: bool,
}

/// Why a copy must not become the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Danger {
    /// The reason.
    pub why: Unsafe,
    /// The best copy that answers, if there is a safe one.
    pub better: Option<NodeId>,
}

/// What is wrong with a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unsafe {
    /// It does not report the state of its replication.
    NotReported,
    /// It loads its data set from disk.
    Loading,
    /// A full resync is under way.
    Syncing,
    /// It has no keys, and no full resync was completed since its server started.
    NeverSynced,
    /// A full resync was begun, and broke off.
    CutOff,
    /// Its data is that of another shard: it was given another master, and got no copy from it.
    OtherShard,
    /// It lacks so many bytes of what another copy has.
    Behind(u64),
    /// Its history is not that of a copy that was in sync later.
    Older,
    /// It was loaded from disk, like another copy that has more keys, and no offset tells which one is newer.
    FewerKeys,
}

impl Unsafe {
    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotReported => "not-reported",
            Self::Loading => "loading",
            Self::Syncing => "syncing",
            Self::NeverSynced => "never-synced",
            Self::CutOff => "sync-cut-off",
            Self::OtherShard => "keys-of-other-shard",
            Self::Behind(_) => "behind",
            Self::Older => "older",
            Self::FewerKeys => "fewer-keys",
        }
    }
}

impl CopyFacts {
    fn of(report: &Report) -> Self {
        Self {
            keys_of_shard: report.keys_of_shard,
            ..Self::of_info(&report.info)
        }
    }

    /// What INFO tells.
    pub fn of_info(info: &Info) -> Self {
        Self {
            keys: info.total_keys(),
            keys_of_shard: None,
            offset: info.replication_offset,
            link: info.master_link,
            last_io: info.last_io,
            is_loading: info.loading,
            version: info.version,
            id: info.replication_id.clone(),
            earlier: info.earlier_history.clone(),
            has_backlog: info.has_backlog,
            is_of_other_shard: false,
        }
    }

    /// How far `self` is in the history that it shares with `other`: ahead or behind, and by how many bytes. `None` if
    /// they share none.
    fn compare(&self, other: &Self) -> Option<(Ordering, u64)> {
        let (ours, theirs) = (self.offset?, other.offset?);
        let (id, other_id) = (self.id.as_ref()?, other.id.as_ref()?);
        let continues = |later: &Self, id: &Arc<str>, offset: u64| {
            // The offset is the first that is no longer shared.
            let earlier = later.earlier.as_ref();
            earlier.is_some_and(|(earlier, until)| earlier == id && offset < *until)
        };
        let is_shared =
            id == other_id || continues(other, id, ours) || continues(self, other_id, theirs);
        is_shared.then(|| (ours.cmp(&theirs), ours.abs_diff(theirs)))
    }

    /// How many bytes it lacks of what `other` has; 0 if they share no history.
    pub fn lacks(&self, other: &Self) -> u64 {
        match self.compare(other) {
            Some((Ordering::Less, bytes)) => bytes,
            _ => 0,
        }
    }

    /// How recently it was in sync, where offsets tell nothing. Of copies that were loaded from disk only the number of
    /// their keys tells which one has more (an AOF keeps no replication id).
    fn freshness(&self) -> (u8, Reverse<u64>, u64, Option<u64>) {
        let (class, since) = match self.link {
            None | Some(MasterLink::Up) => (3, 0),
            Some(MasterLink::Down(Some(since))) => (2, since),
            Some(MasterLink::Down(None)) => (1, 0),
            Some(MasterLink::Syncing) => (0, 0),
        };
        let keys = match class {
            1 => self.keys,
            _ => u64::from(self.keys > 0),
        };
        (class, Reverse(since), keys, self.offset)
    }
}

impl ShardCopy {
    /// What is wrong with the copy by itself.
    fn fault(&self) -> Option<Unsafe> {
        let facts = self.facts.as_ref()?;
        if facts.is_loading {
            return Some(Unsafe::Loading);
        }
        if self.role == Role::Master {
            return None;
        }
        match facts.link {
            None => Some(Unsafe::NotReported),
            Some(MasterLink::Up) => None,
            Some(MasterLink::Syncing) => Some(Unsafe::Syncing),
            Some(MasterLink::Down(since)) => {
                let has_other_keys = facts.keys > 0 && facts.keys_of_shard == Some(0);
                let is_of_other = facts.is_of_other_shard || has_other_keys;
                match since {
                    _ if is_of_other => Some(Unsafe::OtherShard),
                    // A file that it loaded tells the offset of its data set, which may be empty. Without one the offset
                    // is 0 (Redis) or 1 (Valkey).
                    None if facts.keys == 0 && facts.offset.is_none_or(|offset| offset <= 1) => {
                        Some(Unsafe::NeverSynced)
                    }
                    None => None,
                    Some(_) if facts.has_backlog == Some(false) => Some(Unsafe::CutOff),
                    Some(_) => None,
                }
            }
        }
    }

    /// Whether it was in sync since its server started, or is the master itself.
    fn was_in_sync(&self) -> bool {
        let link = self.facts.as_ref().map(|facts| facts.link);
        match self.role {
            Role::Master => link.is_some(),
            Role::Replica => matches!(link, Some(Some(MasterLink::Up | MasterLink::Down(Some(_))))),
        }
    }
}

impl ShardCopies {
    /// The copies of the shard of this master.
    pub fn of(observation: &Observation, topology: &Topology, master: NodeId) -> Self {
        let mut ids = vec![master];
        let mut seen: BTreeSet<NodeId> = [master].into();
        let mut next = 0;
        while let Some(id) = ids.get(next).copied() {
            next += 1;
            let replicas = topology.replicas_of(id).map(|replica| replica.id);
            ids.extend(replicas.filter(|id| seen.insert(*id)));
        }
        let elsewhere: BTreeSet<&Arc<str>> = topology
            .masters()
            .filter(|other| !seen.contains(&other.id))
            .filter_map(|other| observation.nodes.get(&other.id)?.report())
            .filter_map(|report| report.info.replication_id.as_ref())
            .collect();
        let copy = |id: NodeId| {
            let node = observation.nodes.get(&id);
            let report = node.and_then(|node| node.report());
            let facts = report.map(|report| {
                let facts = CopyFacts::of(report);
                let is_of_other_shard = facts.id.as_ref().is_some_and(|id| elsewhere.contains(id));
                CopyFacts {
                    is_of_other_shard,
                    ..facts
                }
            });
            let is_loading = node.is_some_and(|node| matches!(node.seen, Seen::Loading));
            ShardCopy {
                id,
                role: topology
                    .members
                    .get(&id)
                    .map_or(Role::Master, |member| member.role),
                facts: facts.or_else(|| {
                    is_loading.then(|| CopyFacts {
                        is_loading,
                        ..CopyFacts::nothing()
                    })
                }),
            }
        };
        let member = topology.members.get(&master);
        Self {
            copies: ids.into_iter().map(copy).collect(),
            master_is_up: member.is_some_and(|master| is_up(observation, master)),
        }
    }

    /// That copy.
    pub fn get(&self, id: NodeId) -> Option<&ShardCopy> {
        self.copies.iter().find(|copy| copy.id == id)
    }

    /// Whether a replica is loading its data set.
    pub fn has_loading_replica(&self) -> bool {
        let mut replicas = self.copies.iter().filter(|copy| copy.role == Role::Replica);
        replicas.any(|copy| copy.facts.as_ref().is_some_and(|facts| facts.is_loading))
    }

    /// The other copies that answer and are sound by themselves.
    pub fn others(&self, id: NodeId) -> impl Iterator<Item = (&ShardCopy, &CopyFacts)> {
        self.copies
            .iter()
            .filter(move |other| other.id != id && other.fault().is_none())
            .filter_map(|other| Some((other, other.facts.as_ref()?)))
    }

    /// Why that copy must not become the master; `None` if it may, or does not answer.
    pub fn danger(&self, id: NodeId) -> Option<Danger> {
        let copy = self.get(id)?;
        let facts = copy.facts.as_ref()?;
        let fault = copy.fault();
        let is_unknown = matches!(fault, Some(Unsafe::Loading | Unsafe::NotReported));
        if !is_unknown && self.is_empty() {
            return None;
        }
        let (why, better) = match fault {
            Some(why) => (why, None),
            None => {
                let (why, better) = self.loses(copy, facts)?;
                (why, Some(better))
            }
        };
        let others = self.copies.iter().map(|copy| copy.id);
        let better = better.or_else(|| self.best(others.filter(|other| *other != id)));
        Some(Danger { why, better })
    }

    /// Of these nodes the one with the most advanced copy, without those that are unsafe by themselves. Of equals the
    /// lowest id, so that the result is stable.
    pub fn best(&self, ids: impl IntoIterator<Item = NodeId>) -> Option<NodeId> {
        let mut ids: Vec<NodeId> = ids.into_iter().collect();
        ids.sort_unstable();
        let copies = ids.into_iter().filter_map(|id| self.get(id));
        let sound = copies.filter(|copy| self.is_empty() || copy.fault().is_none());
        Self::most_advanced(sound)
    }

    /// The same, whatever is wrong with them.
    pub fn best_of_all(&self, ids: impl IntoIterator<Item = NodeId>) -> Option<NodeId> {
        let ids: Vec<NodeId> = ids.into_iter().collect();
        self.best(ids.iter().copied()).or_else(|| {
            let copies = ids.into_iter().filter_map(|id| self.get(id));
            Self::most_advanced(copies)
        })
    }

    fn most_advanced<'a>(copies: impl Iterator<Item = &'a ShardCopy>) -> Option<NodeId> {
        let answering = copies.filter_map(|copy| Some((copy.id, copy.facts.as_ref()?)));
        let best = answering.reduce(|best, other| {
            let is_ahead = match other.1.compare(best.1) {
                Some((Ordering::Greater, _)) => true,
                Some((Ordering::Less, _)) => false,
                Some((Ordering::Equal, _)) | None => other.1.freshness() > best.1.freshness(),
            };
            if is_ahead { other } else { best }
        });
        best.map(|(id, _)| id)
    }

    /// Whether the shard has no data: no copy that answers has a key, and one of them was in sync.
    fn is_empty(&self) -> bool {
        let mut answering = self.copies.iter().filter_map(|copy| copy.facts.as_ref());
        let sound = |copy: &ShardCopy| copy.was_in_sync() && copy.fault().is_none();
        answering.all(|facts| facts.keys == 0 && !facts.is_loading) && self.copies.iter().any(sound)
    }

    /// What a copy that is sound by itself lacks, and which copy has it.
    fn loses(&self, copy: &ShardCopy, facts: &CopyFacts) -> Option<(Unsafe, NodeId)> {
        let allowed = match facts.link {
            Some(MasterLink::Up) if self.master_is_up => IN_FLIGHT,
            _ => HEARTBEATS,
        };
        let others = || self.others(copy.id);
        let ahead = others().filter_map(|(other, its)| match facts.compare(its)? {
            (Ordering::Less, bytes) if bytes > allowed => Some((bytes, other.id)),
            _ => None,
        });
        if let Some((bytes, better)) = ahead.max_by_key(|(bytes, id)| (*bytes, Reverse(*id))) {
            return Some((Unsafe::Behind(bytes), better));
        }
        let later = others().filter(|(other, its)| {
            facts.compare(its).is_none() && its.keys > 0 && other.was_in_sync() && {
                let is_loaded = facts.link == Some(MasterLink::Down(None));
                let age = |facts: &CopyFacts| match facts.link {
                    Some(MasterLink::Down(since)) => since.unwrap_or(u64::MAX),
                    _ => 0,
                };
                let lost_earlier = age(facts) > age(its).saturating_add(LOST_EARLIER);
                let has_less = facts.keys <= its.keys;
                is_loaded || facts.keys == 0 || (lost_earlier && has_less)
            }
        });
        if let Some(better) = Self::most_advanced(later.map(|(other, _)| other)) {
            return Some((Unsafe::Older, better));
        }
        let is_loaded = |facts: &CopyFacts| facts.link == Some(MasterLink::Down(None));
        let larger = others().filter(|(_, its)| {
            is_loaded(facts)
                && is_loaded(its)
                && its.keys > facts.keys
                && facts.compare(its).is_none()
        });
        let better = Self::most_advanced(larger.map(|(other, _)| other))?;
        Some((Unsafe::FewerKeys, better))
    }
}

impl CopyFacts {
    /// Of a node that answers nothing but that it is loading.
    fn nothing() -> Self {
        Self {
            keys: 0,
            keys_of_shard: None,
            offset: None,
            link: None,
            last_io: None,
            is_loading: false,
            version: None,
            id: None,
            earlier: None,
            has_backlog: None,
            is_of_other_shard: false,
        }
    }
}

#[cfg(test)]
mod tests;
