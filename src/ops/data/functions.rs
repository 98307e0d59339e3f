//! Functions of a backup that the cluster can't take, found before anything is written.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::functions::{
    Functions, LibraryDifference, describe, differences, library_words, listed,
};
use crate::cluster::node::NodeId;
use crate::transfer::OnConflict;

/// Finds libraries that are in the backup with different code, and those that are in the cluster with other code.
/// `master_of` names the master that a file is of.
/// `masters` has the owners of slots whose libraries are known, `owners` is the number of all. Returns warnings, or why
/// nothing is restored.
pub(super) fn compare(
    files: &BTreeMap<String, Functions>,
    master_of: impl Fn(&String) -> String,
    masters: &BTreeMap<NodeId, Functions>,
    owners: usize,
    on_conflict: OnConflict,
    name: impl Fn(NodeId) -> String,
) -> Result<Vec<String>, String> {
    let mut refused = Vec::new();
    let mut inside = differences(files);
    inside.retain(LibraryDifference::is_conflict);
    // Where all masters have the library and keep it, it does not matter what the backup has.
    let is_kept = |library: &str| {
        let is_everywhere = masters.len() == owners && masters.values().all(|has| has.has(library));
        on_conflict == OnConflict::Skip && is_everywhere
    };
    inside.retain(|difference| !is_kept(&difference.library));
    if !inside.is_empty() {
        refused.push(format!(
            "masters of the backup had different functions, and it is not known which ones are right: {} (load the right \
             code on all masters of the cluster, FUNCTION LOAD, and keep it with --on-existing-key skip)",
            describe(&inside, master_of)
        ));
    }
    let is_refused = |library: &str| inside.iter().any(|one| one.library == library);
    let mut other_code: BTreeMap<&str, BTreeSet<NodeId>> = BTreeMap::new();
    for (id, has) in masters {
        let conflicts = files.values().flat_map(|saved| saved.conflicts(has));
        for library in conflicts.filter(|library| !is_refused(library)) {
            other_code.entry(library).or_default().insert(*id);
        }
    }
    let mut warnings = Vec::new();
    if !other_code.is_empty() {
        let all = other_code.iter().map(|(library, nodes)| {
            let nodes = nodes.iter().map(|id| name(*id));
            format!("{} ({})", library_words(library), listed(nodes))
        });
        let what = format!(
            "functions of the backup are in the cluster with other code: {}",
            listed(all)
        );
        match on_conflict {
            OnConflict::Abort => refused.push(format!(
                "{what}; pass --on-existing-key skip to keep those of the cluster, or replace to overwrite them"
            )),
            OnConflict::Skip => {
                warnings.push(format!("{what}; the cluster keeps its own, and restore exits 1"));
            }
            OnConflict::Replace => warnings.push(format!("{what}; they are overwritten")),
        }
    }
    match refused.is_empty() {
        true => Ok(warnings),
        false => Err(refused.join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions(libraries: &[(&str, &str)]) -> Functions {
        let mut functions = Functions::default();
        for (name, code) in libraries {
            functions.add(name, code.as_bytes());
        }
        functions
    }

    const NONE: &[(&str, &str)] = &[];
    const ONE: &[(&str, &str)] = &[("l", "1")];
    const OTHER: &[(&str, &str)] = &[("l", "2")];

    /// Files and masters with these libraries.
    fn compared(
        files: &[&[(&str, &str)]],
        masters: &[&[(&str, &str)]],
        owners: usize,
        on_conflict: OnConflict,
    ) -> Result<Vec<String>, String> {
        let files = files.iter().enumerate();
        let files = files.map(|(n, set)| (format!("{n}.rdb"), functions(set)));
        let masters = ('1'..).zip(masters);
        let masters = masters.map(|(n, set)| {
            let id = n.to_string().repeat(40).parse().unwrap();
            (id, functions(set))
        });
        compare(
            &files.collect(),
            |file| file.replace(".rdb", ""),
            &masters.collect(),
            owners,
            on_conflict,
            |id: NodeId| id.short()[..1].to_string(),
        )
    }

    #[test]
    fn equal_functions_and_missing_ones_are_no_conflict() {
        for on_conflict in [OnConflict::Abort, OnConflict::Skip, OnConflict::Replace] {
            for (files, masters) in [
                (&[NONE, NONE][..], &[ONE][..]),
                (&[ONE, ONE], &[NONE, NONE]),
                (&[ONE, NONE], &[ONE, NONE]),
                (
                    &[&[("l", "1"), ("m", "1")], &[("m", "1"), ("l", "1")]],
                    &[ONE],
                ),
            ] {
                let said = compared(files, masters, masters.len(), on_conflict);
                assert_eq!(said, Ok(Vec::new()), "{files:?} {masters:?}");
            }
        }
    }

    #[test]
    fn different_code_in_the_backup_is_refused_unless_the_cluster_keeps_its_own() {
        let files = [ONE, OTHER];
        for on_conflict in [OnConflict::Abort, OnConflict::Skip, OnConflict::Replace] {
            let why = compared(&files, &[NONE, NONE], 2, on_conflict).unwrap_err();
            let said = "library \"l\" has different code on 0 than on 1";
            assert!(why.contains(said), "{why}");
        }
        assert!(compared(&files, &[ONE, NONE], 2, OnConflict::Skip).is_err());
        // One of two masters does not tell.
        assert!(compared(&files, &[ONE], 2, OnConflict::Skip).is_err());
        assert!(compared(&files, &[ONE, ONE], 2, OnConflict::Skip).is_ok());
        assert!(compared(&files, &[ONE, ONE], 2, OnConflict::Replace).is_err());
    }

    #[test]
    fn other_code_in_the_cluster_is_refused_or_told() {
        let masters = [OTHER, NONE, OTHER];
        let said =
            "functions of the backup are in the cluster with other code: library \"l\" (1, 3); ";
        let why = compared(&[ONE], &masters, 3, OnConflict::Abort).unwrap_err();
        assert!(why.starts_with(said), "{why}");
        for on_conflict in [OnConflict::Skip, OnConflict::Replace] {
            let warnings = compared(&[ONE], &masters, 3, on_conflict).unwrap();
            assert!(warnings[0].starts_with(said), "{warnings:?}");
        }
    }
}
