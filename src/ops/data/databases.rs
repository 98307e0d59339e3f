//! The databases of a source, and where their keys go: the same rules for servers and for files.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;

use super::{infos, masters};
use crate::cluster::key;
use crate::cluster::numbers::{counted, thousands};
use crate::cluster::parse::{Info, Product, Version};
use crate::cluster::pattern::KeyPattern;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::transfer::{Collisions, Destination, FileDatabases, Selection};

/// A sentence about where keys go.
pub(super) const FIRST: &str = "Keys go to database 0 of the cluster.";

/// Databases of a source.
#[derive(Debug, Clone)]
pub(crate) enum Databases {
    /// All that have keys, into database 0, with prefixes for some.
    All(BTreeMap<u32, Vec<u8>>),
    /// These.
    Some(Vec<DatabaseMapping>),
}

/// A database of a source, and where its keys go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatabaseMapping {
    /// The database of the source.
    pub(crate) from: u32,
    /// The database of the cluster.
    pub(crate) into: u32,
    /// What the names of its keys get in front; often nothing.
    pub(crate) prefix: Vec<u8>,
}

impl Databases {
    /// The databases that are read. Of all databases, those in `found`, which have keys.
    pub(super) fn mappings(&self, found: impl IntoIterator<Item = u32>) -> Vec<DatabaseMapping> {
        match self {
            Self::Some(mappings) => mappings.clone(),
            Self::All(prefixes) => {
                let mapping = |from| DatabaseMapping {
                    from,
                    into: 0,
                    prefix: prefixes.get(&from).cloned().unwrap_or_default(),
                };
                found.into_iter().map(mapping).collect()
            }
        }
    }

    /// The number of keys that are read, of the keys of each database.
    pub(super) fn keys(&self, counts: &BTreeMap<u32, u64>) -> u64 {
        let mappings = self.mappings(counts.keys().copied()).into_iter();
        mappings
            .filter_map(|mapping| counts.get(&mapping.from))
            .sum()
    }

    /// These, and those that have a prefix: which databases have keys is not known of all files.
    pub(super) fn mappings_with_prefixes(
        &self,
        found: impl IntoIterator<Item = u32>,
    ) -> Vec<DatabaseMapping> {
        let mut all: BTreeSet<u32> = found.into_iter().collect();
        if let Self::All(prefixes) = self {
            all.extend(prefixes.keys());
        }
        self.mappings(all)
    }

    /// The choice for keys of files, with a pattern of their names.
    pub(crate) fn selection(&self, pattern: Option<&str>) -> Selection {
        let databases = match self {
            Self::All(prefixes) => FileDatabases::IntoFirst(prefixes.clone()),
            Self::Some(mappings) => {
                let destination = |mapping: &DatabaseMapping| {
                    let (into, prefix) = (mapping.into, mapping.prefix.clone());
                    (mapping.from, Destination { into, prefix })
                };
                FileDatabases::Only(mappings.iter().map(destination).collect())
            }
        };
        Selection {
            databases,
            pattern: pattern.map(|pattern| KeyPattern::new(pattern.as_bytes())),
        }
    }

    /// Whether keys of several databases may go to one.
    pub(crate) fn may_merge(&self) -> bool {
        match self {
            Self::All(_) => true,
            Self::Some(mappings) => merges(mappings),
        }
    }
}

/// Whether two of these databases go to one database of the cluster.
pub(super) fn merges(mappings: &[DatabaseMapping]) -> bool {
    let into: BTreeSet<u32> = mappings.iter().map(|mapping| mapping.into).collect();
    into.len() < mappings.len()
}

/// Refuses databases that the cluster does not have.
pub(super) async fn refuse_missing(
    session: &Session,
    cluster: &ClusterState,
    mappings: &[DatabaseMapping],
) -> Result<(), Stop> {
    let wanted: BTreeSet<u32> = mappings.iter().map(|mapping| mapping.into).collect();
    for target in masters(cluster) {
        for database in wanted.iter().filter(|database| **database != 0) {
            let client = session.connections.own(&target).await.map_err(Stop::from)?;
            client.select(*database).await.map_err(|error| {
                Stop::refused(anyhow!(
                    "the cluster has no database {database} (Valkey 9 has several with cluster-databases): {error}"
                ))
            })?;
        }
    }
    Ok(())
}

/// Refuses databases that have keys which would get the same name.
pub(super) fn refuse_collisions(found: &Collisions) -> Result<(), Stop> {
    if found.count == 0 {
        return Ok(());
    }
    let named: Vec<String> = found
        .named
        .iter()
        .map(|(name, [one, other])| format!("\"{name}\" (databases {one} and {other})"))
        .collect();
    let more = match found.count.saturating_sub(named.len() as u64) {
        0 => String::new(),
        more => format!("\n  and {} more", thousands(more)),
    };
    Err(Stop::refused(anyhow!(
        "{} of several databases would be one: give a database a prefix (--key-prefix N=tenant:), or import fewer \
         databases:\n  {}{more}",
        counted(found.count, "name"),
        named.join("\n  ")
    )))
}

/// The database of the cluster, where that is not clear: Valkey 9 may have several (cluster-databases).
pub(super) fn destination(cluster: &ClusterState, mappings: &[DatabaseMapping]) -> Option<String> {
    const SEVERAL: Version = Version {
        product: Product::Valkey,
        numbers: [9, 0, 0],
    };
    let has_many = |info: &Info| {
        let version = info.version;
        version.is_some_and(|one| one.product == SEVERAL.product && one >= SEVERAL)
    };
    if mappings.iter().any(|mapping| mapping.into != 0) {
        let pairs: Vec<String> = mappings
            .iter()
            .map(|mapping| format!("{} to {}", mapping.from, mapping.into))
            .collect();
        return Some(format!(
            "Keys go to databases of the cluster: {}.",
            pairs.join(", ")
        ));
    }
    let is_unclear =
        mappings.iter().any(|mapping| mapping.from != 0) || infos(cluster).values().any(has_many);
    is_unclear.then(|| FIRST.to_string())
}

/// A sentence for each database whose keys get other names.
pub(super) fn prefixes(mappings: &[DatabaseMapping]) -> impl Iterator<Item = String> {
    let renamed = mappings.iter().filter(|mapping| !mapping.prefix.is_empty());
    renamed.map(|mapping| {
        format!(
            "Names of keys of database {} get the prefix {}. Names with a hash tag stay in their slots; all others \
             are in other slots than without the prefix.",
            mapping.from,
            key::shown(&mapping.prefix)
        )
    })
}

/// The databases with keys that are not read.
pub(super) fn others(
    databases: &BTreeMap<u32, u64>,
    mappings: &[DatabaseMapping],
) -> Option<String> {
    let others: Vec<String> = databases
        .iter()
        .filter(|(number, keys)| {
            **keys > 0 && mappings.iter().all(|mapping| mapping.from != **number)
        })
        .map(|(number, keys)| format!("{number} ({keys})"))
        .collect();
    (!others.is_empty()).then(|| {
        format!(
            "Keys of other databases are not imported unless --from-db N names their database: {}.",
            others.join(", ")
        )
    })
}
