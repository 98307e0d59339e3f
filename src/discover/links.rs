//! Which missing links last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{DiscoverError, Found, examine, node_timeout};
use crate::cluster::links::{self, MissingLinks};
use crate::cluster::node::NodeId;
use crate::cluster::observation::Observation;
use crate::cluster::topology::{Member, Topology};
use crate::connections::{Connections, Target};

/// The most time that a missing link has to come back.
const LONGEST: Duration = Duration::from_secs(15);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long a node may be without a link to another one: half the node timeout, after which a node opens a link again
/// if it got no answer on it.
pub async fn patience(connections: &Connections, target: Option<&Target>) -> Duration {
    (node_timeout(connections, target).await / 2).min(LONGEST)
}

/// The links to slot owners that are missing in an observation.
fn missing_to_owners(observation: &Observation, patience: Duration) -> MissingLinks {
    let topology = Topology::of(observation);
    let patience_ms = patience.as_millis() as u64;
    links::missing(observation, &topology, patience_ms, |member: &Member| {
        !member.slots.is_empty()
    })
}

/// Whether it is worth while to ask for the node timeout: most clusters miss no link.
pub fn may_miss_owners(observation: &Observation) -> bool {
    // Raft nodes need a link to the leader only.
    let mut reports = observation.reports();
    if reports.any(|(_, report)| report.cluster.raft.is_some()) {
        return false;
    }
    links::may_be_missing(observation, LOOK_AGAIN.as_millis() as u64)
        && !missing_to_owners(observation, LOOK_AGAIN).is_empty()
}

/// Missing links over several observations, and since when each has been missing.
#[derive(Debug, Default)]
pub struct Lasting {
    missing: MissingLinks,
    since: BTreeMap<(NodeId, NodeId), Instant>,
}

impl Lasting {
    /// Takes in what is missing now.
    pub fn look(&mut self, now: MissingLinks) {
        let before = std::mem::take(&mut self.missing);
        let fresh = now.clone();
        self.missing = links::still_missing(before, now);
        for (pair, link) in fresh {
            self.missing.entry(pair).or_insert(link);
        }
        let missing = &self.missing;
        self.since.retain(|pair, _| missing.contains_key(pair));
        for pair in self.missing.keys() {
            self.since.entry(*pair).or_insert_with(Instant::now);
        }
    }

    /// What is missing now.
    pub fn missing(&self) -> &MissingLinks {
        &self.missing
    }

    /// What two looks saw, and has been missing for longer than `patience`, as far as the nodes or the looks tell.
    pub fn lasting(&self, patience: Duration) -> MissingLinks {
        let patience_ms = patience.as_millis() as u64;
        let lasts = |pair: &(NodeId, NodeId), waits_ms: Option<u64>| {
            let seen_for = self
                .since
                .get(pair)
                .map_or(Duration::ZERO, Instant::elapsed);
            let told = waits_ms.is_some_and(|ms| ms > patience_ms);
            seen_for > patience || (told && seen_for >= LOOK_AGAIN)
        };
        let missing = self.missing.iter();
        missing
            .filter(|(pair, link)| lasts(pair, link.waits_ms))
            .map(|(pair, link)| (*pair, link.clone()))
            .collect()
    }
}

/// Looks again while a link to a slot owner is missing, until it is back or has been missing for longer than half the
/// node timeout. Returns the last look, if one was needed, and the links that last.
pub async fn lasting_to_owners(
    connections: &Arc<Connections>,
    seeds: &[Target],
    found: &Found,
) -> Result<Option<(Found, MissingLinks)>, DiscoverError> {
    let nodes = &found.observation.nodes;
    let lead = nodes.get(&found.observation.lead);
    let lead = lead.and_then(|node| found.target_of(node));
    if !may_miss_owners(&found.observation) {
        return Ok(None);
    }
    let patience = patience(connections, lead.as_ref()).await;
    let mut lasting = Lasting::default();
    lasting.look(missing_to_owners(&found.observation, patience));
    let mut last = None;
    while !lasting.missing().is_empty() && lasting.lasting(patience).len() < lasting.missing().len()
    {
        sleep(LOOK_AGAIN).await;
        let found = examine(connections, seeds).await?;
        let now = missing_to_owners(&found.observation, patience);
        // A link that went down later is young, and not waited for.
        let first = std::mem::take(&mut lasting.missing);
        lasting.missing = links::still_missing(first, now);
        last = Some(found);
    }
    Ok(last.map(|last| (last, lasting.lasting(patience))))
}
