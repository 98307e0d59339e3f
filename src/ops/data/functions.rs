//! Functions of a source that the cluster can't take, found before anything is written.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;

use super::rights::LoadsFunctions;
use crate::cluster::functions::{
    Functions, LibraryDifference, describe, differences, library_words, listed, shared_functions,
};
use crate::cluster::node::NodeId;
use crate::cluster::text::clean;
use crate::ops;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::transfer::{Direction, OnConflict};

/// Where functions come from, in words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    /// `masters of the backup`.
    pub(super) holders: &'static str,
    /// `the backup`.
    pub(super) source: &'static str,
    /// `restore`.
    pub(super) command: &'static str,
}

/// Compares the functions of the files or masters of a source with each other and with those of the cluster. Returns
/// warnings.
pub(super) async fn check(
    session: &Session,
    cluster: &ClusterState,
    on_conflict: OnConflict,
    words: Words,
    sets: &BTreeMap<String, Functions>,
    name: impl Fn(&String) -> String,
) -> Result<Vec<String>, Stop> {
    if sets.values().all(Functions::is_empty) {
        return Ok(Vec::new());
    }
    let (loaded, owners) = of_cluster(session, cluster).await;
    compare(words, sets, name, &loaded, owners, on_conflict, |id| {
        cluster.name(id)
    })
    .map_err(|why| Stop::refused(anyhow!("{why}\nNothing was changed.")))
}

/// The functions of the owners of slots, as far as they tell, and the number of all owners.
async fn of_cluster(
    session: &Session,
    cluster: &ClusterState,
) -> (BTreeMap<NodeId, Functions>, usize) {
    let diagnosis = &cluster.diagnosis;
    let owners = diagnosis.topology.masters().filter(|m| !m.slots.is_empty());
    let owners: Vec<NodeId> = owners.map(|master| master.id).collect();
    let count = owners.len();
    let target_of = |node: &_| cluster.target_of(node);
    let loaded = ops::functions::read(&session.connections, diagnosis, owners, target_of).await;
    (loaded, count)
}

/// Whether there are functions to load.
pub(super) fn loads<'a>(mut sets: impl Iterator<Item = &'a Functions>) -> LoadsFunctions {
    match sets.any(|set| !set.is_empty()) {
        true => LoadsFunctions::Yes,
        false => LoadsFunctions::No,
    }
}

/// A sentence about the functions that will be loaded.
pub(super) fn announced<'a>(sets: impl Iterator<Item = &'a Functions>) -> Option<String> {
    let names: BTreeSet<&str> = sets.flat_map(Functions::names).collect();
    let listed = listed(names.iter().map(|name| clean(name, 64)));
    match names.len() {
        0 => None,
        1 => Some(format!(
            "The function library {listed} is loaded on all masters."
        )),
        count => Some(format!(
            "{count} function libraries are loaded on all masters: {listed}."
        )),
    }
}

/// How the functions of a source differ from those of the cluster, in sentences.
pub(super) async fn differing(
    session: &Session,
    cluster: &ClusterState,
    sets: &BTreeMap<String, Functions>,
    direction: Direction,
) -> Vec<String> {
    let (masters, _) = of_cluster(session, cluster).await;
    differing_from(sets, &masters, direction, |id| cluster.name(id))
}

fn differing_from(
    sets: &BTreeMap<String, Functions>,
    masters: &BTreeMap<NodeId, Functions>,
    direction: Direction,
    name: impl Fn(NodeId) -> String,
) -> Vec<String> {
    let names = |sets: &mut dyn Iterator<Item = &Functions>| -> BTreeSet<String> {
        let names = sets.flat_map(Functions::names);
        names.map(ToString::to_string).collect()
    };
    let of_source = names(&mut sets.values());
    let of_cluster = names(&mut masters.values());
    let mut sentences = Vec::new();
    for library in &of_source {
        let lacking = masters.iter().filter(|(_, has)| !has.has(library));
        let lacking: Vec<String> = lacking.map(|(id, _)| name(*id)).collect();
        let is_other = |has: &Functions| {
            has.has(library) && !sets.values().any(|set| set.has_same(library, has))
        };
        let other = masters.iter().filter(|(_, has)| is_other(has));
        let other: Vec<String> = other.map(|(id, _)| name(*id)).collect();
        let library = library_words(library);
        for (what, nodes) in [("is missing", lacking), ("has other code", other)] {
            if !nodes.is_empty() {
                sentences.push(format!(
                    "Functions differ: {library} {what} on {}.",
                    listed(nodes.into_iter())
                ));
            }
        }
    }
    if direction == Direction::BothWays {
        for library in of_cluster.difference(&of_source) {
            sentences.push(format!(
                "Functions differ: {} is only in the cluster.",
                library_words(library)
            ));
        }
    }
    sentences
}

/// Finds libraries that the source has with different code, and those that are in the cluster with other code. `sets` has
/// the libraries of each file or master, and `master_of` names it.
/// `masters` has the owners of slots whose libraries are known, `owners` is the number of all. Returns warnings, or why
/// nothing is restored.
pub(super) fn compare(
    words: Words,
    sets: &BTreeMap<String, Functions>,
    master_of: impl Fn(&String) -> String,
    masters: &BTreeMap<NodeId, Functions>,
    owners: usize,
    on_conflict: OnConflict,
    name: impl Fn(NodeId) -> String,
) -> Result<Vec<String>, String> {
    let mut refused = Vec::new();
    let mut inside = differences(sets);
    inside.retain(LibraryDifference::is_conflict);
    // Where all masters have the library and keep it, it does not matter what the backup has.
    let is_kept = |library: &str| {
        let is_everywhere = masters.len() == owners && masters.values().all(|has| has.has(library));
        on_conflict == OnConflict::Skip && is_everywhere
    };
    inside.retain(|difference| !is_kept(&difference.library));
    if !inside.is_empty() {
        refused.push(format!(
            "{} have different functions, and it is not known which ones are right: {} (load the right code on all \
             masters of the cluster, FUNCTION LOAD, and keep it with --on-existing-key skip)",
            words.holders,
            describe(&inside, master_of)
        ));
    }
    refused.extend(shared(words, sets, masters, owners, on_conflict, &name));
    let is_refused = |library: &str| inside.iter().any(|one| one.library == library);
    let mut other_code: BTreeMap<&str, BTreeSet<NodeId>> = BTreeMap::new();
    for (id, has) in masters {
        let conflicts = sets.values().flat_map(|saved| saved.conflicts(has));
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
            "functions of {} are in the cluster with other code: {}",
            words.source,
            listed(all)
        );
        match on_conflict {
            OnConflict::Abort => refused.push(format!(
                "{what}; pass --on-existing-key skip to keep those of the cluster, or replace to overwrite them"
            )),
            OnConflict::Skip => {
                warnings.push(format!(
                    "{what}; the cluster keeps its own, and {} exits 1",
                    words.command
                ));
            }
            OnConflict::Replace => warnings.push(format!("{what}; they are overwritten")),
        }
    }
    match refused.is_empty() {
        true => Ok(warnings),
        false => Err(refused.join("\n")),
    }
}

/// Why nothing is restored where two libraries register a function: servers load only one of them, with REPLACE, too.
fn shared(
    words: Words,
    sets: &BTreeMap<String, Functions>,
    masters: &BTreeMap<NodeId, Functions>,
    owners: usize,
    on_conflict: OnConflict,
    name: impl Fn(NodeId) -> String,
) -> Option<String> {
    let inside = shared_functions(sets.values());
    let is_kept = |function: &str| {
        let is_everywhere =
            masters.len() == owners && masters.values().all(|has| has.registers(function));
        on_conflict == OnConflict::Skip && is_everywhere
    };
    let inside = inside.iter().filter(|(function, _)| !is_kept(function));
    let of_source: Vec<String> = inside
        .map(|(function, libraries)| {
            let libraries = libraries.iter().map(|library| library_words(library));
            format!("\"{function}\" in {}", listed(libraries))
        })
        .collect();
    if !of_source.is_empty() {
        return Some(format!(
            "{} have a function in two libraries, of which a server loads only one: {} (load the right library on all \
             masters of the cluster, FUNCTION LOAD, and keep it with --on-existing-key skip)",
            words.holders,
            listed(of_source.into_iter())
        ));
    }
    // With `skip` the cluster keeps its own, and the library of the source is reported.
    if on_conflict == OnConflict::Skip {
        return None;
    }
    let mut with_cluster = Vec::new();
    for (id, has) in masters {
        let own = has.without(sets.values());
        for (function, libraries) in shared_functions(sets.values().chain([&own])) {
            let own = libraries.iter().find(|library| own.has(library));
            let own = own.map(|library| library_words(library));
            let own = own.unwrap_or_default();
            with_cluster.push(format!("\"{function}\" in {own} ({})", name(*id)));
        }
    }
    (!with_cluster.is_empty()).then(|| {
        format!(
            "functions of {} are in the cluster in a library of another name: {} (delete that library, FUNCTION DELETE, \
             or pass --on-existing-key skip to keep it)",
            words.source,
            listed(with_cluster.into_iter())
        )
    })
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
            Words {
                holders: "masters of the backup",
                source: "the backup",
                command: "restore",
            },
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
    fn a_function_of_two_libraries_is_refused() {
        const F: &str = "redis.register_function('f', cb)";
        const G: &str = "redis.register_function('g', cb)";
        let (a, b): (&[_], &[_]) = (&[("a", F)], &[("b", F)]);
        for on_conflict in [OnConflict::Abort, OnConflict::Skip, OnConflict::Replace] {
            let why = compared(&[a, b], &[NONE, NONE], 2, on_conflict).unwrap_err();
            let said = "\"f\" in library \"a\", library \"b\" (load";
            assert!(why.contains(said), "{why}");
            assert!(compared(&[a, a], &[a, NONE], 2, on_conflict).is_ok());
        }
        // Kept on all masters.
        assert!(compared(&[a, b], &[a, a], 2, OnConflict::Skip).is_ok());
        assert!(compared(&[a, b], &[a, NONE], 2, OnConflict::Skip).is_err());
        assert!(compared(&[a, b], &[a, a], 2, OnConflict::Replace).is_err());
        // In the cluster only.
        for on_conflict in [OnConflict::Abort, OnConflict::Replace] {
            let why = compared(&[a], &[NONE, b], 2, on_conflict).unwrap_err();
            assert!(why.contains("\"f\" in library \"b\" (2) (delete"), "{why}");
        }
        assert!(compared(&[a], &[NONE, b], 2, OnConflict::Skip).is_ok());
        // The library that has it now is replaced by one that has not.
        let both: &[_] = &[("a", F), ("b", G)];
        assert!(compared(&[both], &[b, b], 2, OnConflict::Replace).is_ok());
    }

    #[test]
    fn functions_that_differ_are_named() {
        let id = |digit: &str| digit.repeat(40).parse().unwrap();
        let masters = BTreeMap::from([
            (id("1"), functions(&[("l", "1"), ("m", "2")])),
            (id("2"), functions(&[("own", "1")])),
        ]);
        let differ = |sets: &[&[(&str, &str)]], direction| {
            let sets = sets.iter().enumerate();
            let sets = sets.map(|(n, set)| (n.to_string(), functions(set)));
            differing_from(&sets.collect(), &masters, direction, |id: NodeId| {
                id.short()[..1].to_string()
            })
        };
        assert_eq!(
            differ(&[&[("l", "1"), ("m", "1")]], Direction::Source),
            [
                "Functions differ: library \"l\" is missing on 2.",
                "Functions differ: library \"m\" is missing on 2.",
                "Functions differ: library \"m\" has other code on 1.",
            ]
        );
        let both = differ(&[ONE, NONE], Direction::BothWays);
        assert_eq!(both.len(), 3, "{both:?}");
        assert!(both[2].ends_with("library \"own\" is only in the cluster."));
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
