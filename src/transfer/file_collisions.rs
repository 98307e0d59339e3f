//! Names that several databases of RDB files would have in one database of the cluster.
//!
//! Files can't be asked for a name, so all names are hashed, in as many passes over the files as the memory for hashes
//! requires ([`HASHES`]). The key of the hash is random: nobody can choose names of equal hashes.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use super::collisions::Collisions;
use super::report::readable;
use super::selection::Selection;
use super::verify_files::SavedFile;
use super::{Stopper, TransferError, ValuesBefore};
use crate::backup::open_rdb;
use crate::cluster::slot::Slot;
use crate::rdb::{Keep, Reader, Record};

/// The most hashes in memory, of 16 bytes each.
const HASHES: u64 = 8 << 20;
/// The number of names that are listed.
const NAMED: usize = 100;

/// Finds the names that collide; `keys` is about the number of keys in the files. Reads the files on this thread.
pub fn file_collisions(
    files: &[SavedFile],
    selection: &Selection,
    keys: u64,
    stopper: &Stopper,
) -> Result<Collisions, TransferError> {
    search(files, selection, keys, HASHES, stopper)
}

fn search(
    files: &[SavedFile],
    selection: &Selection,
    keys: u64,
    most: u64,
    stopper: &Stopper,
) -> Result<Collisions, TransferError> {
    let passes = keys.div_ceil(most).max(1);
    // The hashes are spread evenly over the passes, so the memory is not taken twice while it grows.
    let expected = usize::try_from(keys / passes / 16 * 17).unwrap_or_default();
    let hasher = RandomState::new();
    let mut found = Collisions::default();
    let mut to_name: HashMap<u64, [u32; 2]> = HashMap::new();
    for pass in 0..passes {
        let mut hashes: Vec<(u64, u32)> = Vec::with_capacity(expected);
        each_name(files, selection, stopper, |database, into, name| {
            let hash = hasher.hash_one((into, name));
            if hash % passes == pass {
                hashes.push((hash, database));
            }
        })?;
        hashes.sort_unstable();
        hashes.dedup();
        for same in hashes.chunk_by(|one, other| one.0 == other.0) {
            let [(hash, one), (_, other), ..] = same else {
                continue;
            };
            found.count += same.len() as u64 - 1;
            if to_name.len() < NAMED {
                to_name.insert(*hash, [*one, *other]);
            }
        }
    }
    if to_name.is_empty() {
        return Ok(found);
    }
    let mut named = BTreeMap::new();
    each_name(files, selection, stopper, |_, into, name| {
        if let Some(databases) = to_name.get(&hasher.hash_one((into, name))) {
            named.insert(readable(name), *databases);
        }
    })?;
    found.named = named;
    Ok(found)
}

/// Calls `tell` with the database of each wanted key in the files, and with its database and its name in the cluster.
fn each_name(
    files: &[SavedFile],
    selection: &Selection,
    stopper: &Stopper,
    mut tell: impl FnMut(u32, u32, &[u8]),
) -> Result<(), TransferError> {
    for file in files {
        let unreadable = |error: String| TransferError::File {
            file: file.name.clone(),
            error,
            // No value was read.
            before: ValuesBefore::Verified,
        };
        let opened = open_rdb(&file.path).map_err(|error| unreadable(error.to_string()))?;
        let reader = Reader::new(opened, Keep::Nothing);
        let mut reader = reader.map_err(|error| unreadable(error.to_string()))?;
        loop {
            if stopper.is_halted() {
                return Err(TransferError::Interrupted);
            }
            match reader.record() {
                Ok(Record::Entry(entry)) => {
                    let slot = Slot::of_key(&entry.key);
                    let choice = selection.choose(&file.slots, slot, &entry);
                    if let Some(to) = choice.wanted() {
                        tell(entry.database, to.into, &to.renamed(entry.key));
                    }
                }
                Ok(Record::End(_)) => break,
                Ok(_) => {}
                // Neither it nor what follows it is imported.
                Err(error) if error.unread().is_some() => break,
                Err(error) => return Err(unreadable(error.to_string())),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::selection::FileDatabases;
    use super::*;
    use crate::cluster::slot::SlotSet;

    /// A file without checksum: a string for each name of each database.
    fn file(databases: &[(u8, &[&str])]) -> Vec<u8> {
        let mut bytes = b"REDIS0004".to_vec();
        for (database, names) in databases {
            bytes.extend([254, *database]);
            for name in *names {
                bytes.extend([0, name.len() as u8]);
                bytes.extend(name.as_bytes());
                bytes.extend([1, b'v']);
            }
        }
        bytes.push(255);
        bytes
    }

    #[test]
    fn names_are_found_in_one_pass_or_many() {
        let home = tempfile::tempdir().unwrap();
        let saved = |name: &str, bytes: Vec<u8>| {
            let path = home.path().join(name);
            fs::write(&path, bytes).unwrap();
            SavedFile {
                path,
                name: name.to_string(),
                slots: SlotSet::full(),
                keys: None,
            }
        };
        let files = [
            saved("a", file(&[(0, &["one", "p:two"]), (3, &["one", "two"])])),
            // A name twice in one database is no collision of databases.
            saved("b", file(&[(0, &["p:two", "x"]), (7, &["one", "y"])])),
        ];
        let find = |prefixes: &[(u32, &str)], most| {
            let prefixes = prefixes.iter();
            let prefixes = prefixes.map(|(n, prefix)| (*n, prefix.as_bytes().to_vec()));
            let selection = Selection {
                databases: FileDatabases::IntoFirst(prefixes.collect()),
                pattern: None,
            };
            search(&files, &selection, 8, most, &Stopper::default()).unwrap()
        };
        // In one pass, two and eight.
        for most in [8, 4, 1] {
            let found = find(&[], most);
            assert_eq!(found.count, 2);
            let named: Vec<(&str, [u32; 2])> =
                found.named.iter().map(|(n, d)| (n.as_str(), *d)).collect();
            assert_eq!(named, [("one", [0, 3])]);
            let found = find(&[(3, "p:"), (7, "q:")], most);
            assert_eq!(found.count, 1);
            assert_eq!(found.named["p:two"], [0, 3]);
            assert_eq!(find(&[(3, "s:"), (7, "q:")], most).count, 0);
        }
    }
}
