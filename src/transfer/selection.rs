//! Which keys of RDB files are wanted, and where they go.

use std::collections::BTreeMap;

use crate::cluster::pattern::KeyPattern;
use crate::cluster::slot::{Slot, SlotSet};
use crate::rdb::Entry;

/// The keys of files that are wanted.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Where the keys of each database go.
    pub databases: FileDatabases,
    /// Only keys whose names in the file match it.
    pub pattern: Option<KeyPattern>,
}

/// The databases of files.
#[derive(Debug, Clone, Default)]
pub enum FileDatabases {
    /// Each key goes to the database that it was in.
    #[default]
    AsSaved,
    /// All keys go to database 0; the names of some databases get a prefix.
    IntoFirst(BTreeMap<u32, Vec<u8>>),
    /// Keys of these databases; others are left out.
    Only(BTreeMap<u32, Destination>),
}

/// Where the keys of a database go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// The database of the cluster.
    pub into: u32,
    /// What the names of the keys get in front. It has no braces: hash tags stay.
    pub prefix: Vec<u8>,
}

impl Selection {
    /// What becomes of a key of a file; `slots` are those of the file's node, and `slot` is that of the key.
    pub(super) fn choose(&self, slots: &SlotSet, slot: Slot, entry: &Entry) -> Choice {
        if !slots.contains(slot) {
            return Choice::Stray;
        }
        match self.destination(entry.database) {
            None => Choice::OtherDatabase,
            Some(_) if !self.has_name(&entry.key) => Choice::OtherName,
            Some(to) => Choice::Wanted(to),
        }
    }

    /// Where the keys of a database go; `None` if they are left out.
    fn destination(&self, database: u32) -> Option<Destination> {
        match &self.databases {
            FileDatabases::AsSaved => Some(Destination {
                into: database,
                prefix: Vec::new(),
            }),
            FileDatabases::IntoFirst(prefixes) => Some(Destination {
                into: 0,
                prefix: prefixes.get(&database).cloned().unwrap_or_default(),
            }),
            FileDatabases::Only(wanted) => wanted.get(&database).cloned(),
        }
    }

    /// Whether keys of this name in the file are wanted.
    fn has_name(&self, key: &[u8]) -> bool {
        self.pattern
            .as_ref()
            .is_none_or(|pattern| pattern.matches(key))
    }

    /// Whether any key gets another name.
    pub(super) fn renames(&self) -> bool {
        match &self.databases {
            FileDatabases::AsSaved => false,
            FileDatabases::IntoFirst(prefixes) => !prefixes.is_empty(),
            FileDatabases::Only(wanted) => wanted.values().any(|one| !one.prefix.is_empty()),
        }
    }
}

/// What becomes of a key of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// It goes there.
    Wanted(Destination),
    /// The node of the file did not own its slot.
    Stray,
    /// Its database is left out.
    OtherDatabase,
    /// Its name does not match the pattern.
    OtherName,
}

impl Choice {
    /// Where it goes; `None` if it is left out.
    pub(super) fn wanted(self) -> Option<Destination> {
        match self {
            Self::Wanted(to) => Some(to),
            Self::Stray | Self::OtherDatabase | Self::OtherName => None,
        }
    }
}

impl Destination {
    /// The name of a key in the cluster.
    pub(super) fn renamed(&self, mut key: Vec<u8>) -> Vec<u8> {
        if !self.prefix.is_empty() {
            key.splice(0..0, self.prefix.iter().copied());
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::{Keep, Reader, Record};

    /// A string in that database, as a file has it.
    fn entry(database: u8, name: &str) -> Entry {
        let mut bytes = b"REDIS0004".to_vec();
        bytes.extend([254, database, 0, name.len() as u8]);
        bytes.extend(name.as_bytes());
        bytes.extend([1, b'v', 255]);
        let mut reader = Reader::new(bytes.as_slice(), Keep::Nothing).unwrap();
        match reader.record().unwrap() {
            Record::Entry(entry) => entry,
            _ => panic!("no entry"),
        }
    }

    #[test]
    fn a_key_is_left_out_for_its_slot_its_database_or_its_name() {
        let to = |into, prefix: &str| Destination {
            into,
            prefix: prefix.as_bytes().to_vec(),
        };
        let selection = Selection {
            databases: FileDatabases::Only(BTreeMap::from([(0, to(0, "")), (3, to(1, "t:"))])),
            pattern: Some(KeyPattern::new(b"user:*")),
        };
        let choose = |slots: &SlotSet, database, name: &str| {
            selection.choose(slots, Slot::of_key(name.as_bytes()), &entry(database, name))
        };
        let all = SlotSet::full();
        assert_eq!(choose(&SlotSet::new(), 0, "user:1"), Choice::Stray);
        assert_eq!(choose(&all, 7, "user:1"), Choice::OtherDatabase);
        assert_eq!(choose(&all, 3, "order:1"), Choice::OtherName);
        assert_eq!(choose(&all, 0, "user:1"), Choice::Wanted(to(0, "")));
        let wanted = choose(&all, 3, "user:1").wanted().unwrap();
        assert_eq!(wanted, to(1, "t:"));
        assert_eq!(wanted.renamed(b"user:1".to_vec()), b"t:user:1");
    }
}
