//! Functions at the ends of moves: slots move without them.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::functions::{LibraryDifference, describe, differences};
use crate::cluster::node::NodeId;
use crate::cluster::parse::Product;
use crate::event::Pair;
use crate::migrate::schedule::MoveMethod;
use crate::migrate::strategy::MethodChoice;
use crate::ops::functions;
use crate::session::Session;
use crate::state::ClusterState;

/// Warns of functions that differ between sources and targets. Only atomic moves of Redis copy them: they send FUNCTION
/// RESTORE … REPLACE before the keys (8.4 to 8.6), and so replace other code on the target.
pub(super) async fn warnings(
    session: &Session,
    state: &ClusterState,
    choices: &BTreeMap<Pair, MethodChoice>,
) -> Vec<String> {
    let ends = choices.keys().flat_map(|pair| [pair.from, pair.to]);
    let target_of = |node: &_| state.target_of(node);
    let read = functions::read(&session.connections, &state.diagnosis, ends, target_of);
    let functions = read.await;
    let mut left_behind = BTreeSet::new();
    let mut replaced = BTreeSet::new();
    for (pair, choice) in choices {
        let (Some(source), Some(target)) = (functions.get(&pair.from), functions.get(&pair.to))
        else {
            continue;
        };
        match choice.way {
            MoveMethod::Atomic(Product::Redis) if source.conflicts(target).next().is_some() => {
                replaced.extend([pair.from, pair.to]);
            }
            MoveMethod::Atomic(Product::Redis) => {}
            _ if source != target => left_behind.extend([pair.from, pair.to]),
            _ => {}
        }
    }
    let among = |nodes: &BTreeSet<NodeId>| {
        let known = functions.iter().filter(|(id, _)| nodes.contains(id));
        differences(&known.map(|(id, set)| (*id, set.clone())).collect())
    };
    let words =
        |differences: &[LibraryDifference<NodeId>]| describe(differences, |id| state.name(*id));
    let mut warnings = Vec::new();
    if !left_behind.is_empty() {
        warnings.push(format!(
            "function libraries differ, and slots move without them: {}. FCALL with a key that has moved runs what the \
             target has: load the same code on all masters first (FUNCTION LOAD REPLACE)",
            words(&among(&left_behind))
        ));
    }
    if !replaced.is_empty() {
        let mut conflicts = among(&replaced);
        conflicts.retain(LibraryDifference::is_conflict);
        warnings.push(format!(
            "function libraries differ, and atomic moves of Redis replace those of the target by those of the source: \
             {}. Load the same code on all masters first (FUNCTION LOAD REPLACE)",
            words(&conflicts)
        ));
    }
    warnings
}
