//! Whether the nodes of a plan can give and take keys: asked before a slot is opened.
//!
//! A target that refuses writes, or that can't read the values of the source, refuses every key of slots that are open
//! by then. Neither shows in a trial MIGRATE of a key that the target does not own: it answers MOVED first.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;

use crate::cluster::node::NodeId;
use crate::cluster::parse::Version;
use crate::cluster::write_refusal::WriteRefusal;
use crate::event::Pair;
use crate::migrate::schedule::MoveMethod;
use crate::migrate::strategy::MethodChoice;
use crate::ops::writes::write_refusals;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;

/// Refuses moves between nodes of which one can't give or take keys.
pub(crate) async fn refuse_unfit(
    session: &Session,
    cluster: &ClusterState,
    choices: &BTreeMap<Pair, MethodChoice>,
) -> Result<(), Stop> {
    let ids = choices.keys().flat_map(|pair| [pair.from, pair.to]);
    let ids: BTreeSet<NodeId> = ids.collect();
    let refusals = write_refusals(session, cluster, &ids).await;
    let unfit = unfit(cluster, choices, &refusals);
    if unfit.is_empty() {
        return Ok(());
    }
    Err(Stop::refused(anyhow!(
        "these moves are not possible, and no slot was opened:\n  {}",
        unfit.into_iter().collect::<Vec<_>>().join("\n  ")
    )))
}

/// What keeps pairs from moving slots, a line for each cause.
fn unfit(
    cluster: &ClusterState,
    choices: &BTreeMap<Pair, MethodChoice>,
    refusals: &BTreeMap<NodeId, WriteRefusal>,
) -> BTreeSet<String> {
    let mut unfit = BTreeSet::new();
    for (pair, choice) in choices {
        let gives_by_key = !matches!(choice.way, MoveMethod::Atomic(_));
        if let Some(refusal) = refusals.get(&pair.from).filter(|_| gives_by_key)
            && !refusal.lets_keys_leave()
        {
            unfit.insert(format!(
                "{} refuses writes, so no key can leave it: {refusal}; {}",
                cluster.name(pair.from),
                refusal.way_out()
            ));
        }
        // Copies that the target has already are deleted on the source; nothing arrives.
        if choice.way == MoveMethod::Purge {
            continue;
        }
        if let Some(refusal) = refusals.get(&pair.to) {
            unfit.insert(format!(
                "{} refuses writes, so it can't take slots: {refusal}; {}",
                cluster.name(pair.to),
                refusal.way_out()
            ));
        }
        unfit.extend(unreadable(cluster, *pair));
    }
    unfit
}

/// Why the target of a pair can't read the values of its source.
pub(crate) fn unreadable(cluster: &ClusterState, pair: Pair) -> Option<String> {
    let (source, target) = (version(cluster, pair.from)?, version(cluster, pair.to)?);
    (!target.takes_values_of(source)).then(|| {
        format!(
            "{} runs {}, and {} runs {}, which can't read its values: upgrade {} first, or choose another target",
            cluster.name(pair.from),
            source.with_rdb_version(),
            cluster.name(pair.to),
            target.with_rdb_version(),
            cluster.name(pair.to)
        )
    })
}

fn version(cluster: &ClusterState, id: NodeId) -> Option<Version> {
    cluster.diagnosis.observation.version_of(id)
}
