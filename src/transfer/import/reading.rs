//! Reads keys in bulk where they usually are: on the server, or on the masters that own their slots. What that leaves, for
//! whatever reason, is left to a [`KeyReader`](crate::transfer::keyspace::KeyReader).

use std::collections::{BTreeMap, HashMap};

use crate::client::{BulkReader, ClientError, ExpiryQuestion, ReadKey};
use crate::cluster::node::Addr;
use crate::cluster::slot::Slot;
use crate::connections::Target;
use crate::transfer::keyspace::{Keyspace, Place, ReadFrom, Successor, is_too_large};

/// Connections to the nodes of a source, for many keys each.
pub(super) struct BulkSource {
    source: Keyspace,
    readers: HashMap<Addr, BulkReader>,
}

/// What one node is asked for.
struct Group {
    target: Target,
    /// Whether its keys can be read elsewhere if it does not answer.
    successor: Successor,
    /// The numbers of the keys.
    members: Vec<usize>,
}

impl BulkSource {
    pub(super) fn new(source: Keyspace) -> Self {
        Self {
            source,
            readers: HashMap::new(),
        }
    }

    /// Keys with their expiry; `None` if other connections have to read them all. Fails if a reply is too large, or a node
    /// does not answer that none can take over from: asking it again would take as long.
    pub(super) async fn dump(
        &mut self,
        keys: &[&[u8]],
        question: ExpiryQuestion,
    ) -> Result<Option<Vec<ReadKey<'_>>>, ClientError> {
        let Some(groups) = self.groups(keys) else {
            return Ok(None);
        };
        let mut read = Vec::with_capacity(groups.len());
        self.shrink();
        for Group {
            target,
            successor,
            members,
        } in groups
        {
            // Two owners at one address: one of them has moved, and which one is not known here.
            if read.iter().any(|(addr, _)| *addr == target.addr) {
                continue;
            }
            let some: Vec<&[u8]> = members.iter().map(|i| keys[*i]).collect();
            match self.dump_node(&target, &some, question).await {
                Ok(Some(reader)) => drop(self.readers.insert(target.addr.clone(), reader)),
                Ok(None) => return Ok(None),
                Err(error) if is_too_large(&error) => return Err(error),
                Err(error) if error.fault.is_silence() && successor == Successor::None => {
                    return Err(error);
                }
                Err(_) => continue,
            }
            read.push((target.addr, members));
        }
        let mut all = vec![ReadKey::Unread; keys.len()];
        for (addr, members) in read {
            let reader = self.readers.get(&addr);
            let keys = reader.map(|reader| reader.keys(question));
            for (i, key) in members.into_iter().zip(keys.unwrap_or_default()) {
                all[i] = key;
            }
        }
        Ok(Some(all))
    }

    /// Drops what was read last, where it takes much memory.
    pub(super) fn shrink(&mut self) {
        self.readers.values_mut().for_each(BulkReader::shrink);
    }

    /// Asks one node; returns its connection, with what it has read. `None` if there can be no such connections.
    async fn dump_node(
        &mut self,
        target: &Target,
        keys: &[&[u8]],
        question: ExpiryQuestion,
    ) -> Result<Option<BulkReader>, ClientError> {
        // A connection that fails, or is given up in the middle of its replies, is not used again.
        let kept = self.readers.remove(&target.addr);
        let mut reader = match kept.filter(BulkReader::is_fresh) {
            Some(reader) => reader,
            None => {
                let connections = self.source.connections();
                let opened = connections
                    .bulk_reader(target, self.source.database)
                    .await?;
                match opened {
                    Some(reader) => reader,
                    None => return Ok(None),
                }
            }
        };
        reader.dump(keys, question).await?;
        Ok(Some(reader))
    }

    /// The keys by the node that is asked for them. Keys of slots without an owner are in none. `None` if replicas are read.
    fn groups(&self, keys: &[&[u8]]) -> Option<Vec<Group>> {
        let owners = match &self.source.place {
            Place::Server { target, .. } => {
                return Some(vec![Group {
                    target: target.clone(),
                    successor: Successor::None,
                    members: (0..keys.len()).collect(),
                }]);
            }
            Place::Cluster(_, ReadFrom::Replicas) => return None,
            Place::Cluster(owners, ReadFrom::Masters) => owners.now(),
        };
        let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (i, key) in keys.iter().enumerate() {
            if let Some(owner) = owners.id_of(Slot::of_key(key)) {
                groups.entry(owner).or_default().push(i);
            }
        }
        let groups = groups.into_iter();
        let group = |(id, members)| {
            Some(Group {
                target: owners.owner(id)?.target.clone(),
                successor: Successor::of(Some(id), &owners),
                members,
            })
        };
        Some(groups.filter_map(group).collect())
    }
}
