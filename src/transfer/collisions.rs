//! Names that several databases of a source would have in one database of the cluster.
//!
//! The keys of each database are looked up in those before it, so the memory does not depend on their number.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::keyspace::{KeyReader, SourcePart};
use super::report::readable;
use super::scan::{NodeParts, Scan, Sizes};
use super::{Stopper, TransferError};

/// The number of names that are listed.
const NAMED: usize = 100;
/// The chunks of names that wait to be looked up.
const QUEUED_CHUNKS: usize = 4;

/// Names that more than one database has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collisions {
    /// How many; a name that three databases have counts twice.
    pub count: u64,
    /// The first names, printable and without quotes, with two of the databases.
    pub named: BTreeMap<String, [u32; 2]>,
}

/// Finds the names that collide. Only keys of this pattern count.
pub async fn collisions(
    parts: &[SourcePart],
    pattern: Option<&str>,
) -> Result<Collisions, TransferError> {
    let mut found = Collisions::default();
    for (n, part) in parts.iter().enumerate() {
        let before = parts[..n].iter().filter(|other| other.into == part.into);
        let mut others: Vec<Other> = before.map(Other::of).collect();
        if !others.is_empty() {
            look_up(part, &mut others, pattern, &mut found).await?;
        }
    }
    Ok(found)
}

/// Another database, and a reader of its keys.
pub(super) struct Other {
    part: SourcePart,
    reader: KeyReader,
}

impl Other {
    pub(super) fn of(part: &SourcePart) -> Self {
        Self {
            part: part.clone(),
            reader: KeyReader::new(part.source.clone()),
        }
    }

    /// The database.
    pub(super) fn database(&self) -> u32 {
        self.part.database()
    }

    /// Which of these names in the cluster its keys would have, too.
    pub(super) async fn has(&mut self, names: &[&[u8]]) -> Result<Vec<bool>, TransferError> {
        let mut has = vec![false; names.len()];
        let originals = names.iter().enumerate();
        let (places, keys): (Vec<usize>, Vec<&[u8]>) = originals
            .filter_map(|(n, name)| Some((n, self.part.original(name)?)))
            .unzip();
        if keys.is_empty() {
            return Ok(has);
        }
        for (n, exists) in places.into_iter().zip(self.reader.exist(&keys).await?) {
            has[n] = exists;
        }
        Ok(has)
    }
}

async fn look_up(
    part: &SourcePart,
    others: &mut [Other],
    pattern: Option<&str>,
    found: &mut Collisions,
) -> Result<(), TransferError> {
    let (chunks, mut scanned) = mpsc::channel(QUEUED_CHUNKS);
    let scan = Scan {
        keyspace: part.source.clone(),
        pattern: pattern.map(ToString::to_string),
        sizes: Sizes::NotAsked,
        parts: NodeParts::new(),
        chunks,
        stopper: Stopper::default(),
    };
    let mut scanning = JoinSet::new();
    scanning.spawn(scan.run());
    while let Some(chunk) = scanned.recv().await {
        let names: Vec<_> = chunk.keys.iter().map(|key| part.renamed(key)).collect();
        let names: Vec<&[u8]> = names.iter().map(AsRef::as_ref).collect();
        for other in &mut *others {
            let has = other.has(&names).await?;
            for (name, _) in names.iter().zip(has).filter(|(_, has)| *has) {
                found.count += 1;
                if found.named.len() < NAMED {
                    let databases = [other.database(), part.database()];
                    found.named.insert(readable(name), databases);
                }
            }
        }
    }
    match scanning.join_next().await {
        Some(Ok(scanned)) => scanned,
        _ => Err(TransferError::Panicked),
    }
}
