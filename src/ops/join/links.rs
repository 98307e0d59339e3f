//! Verifies that nodes that have joined reach each other, at addresses at which they answer.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, sleep};

use super::inspect::NewNode;
use super::origin;
use crate::cluster::links::{self, MissingLinks};
use crate::cluster::node::NodeId;
use crate::cluster::observation::Observation;
use crate::cluster::parse::EntryState;
use crate::cluster::topology::Topology;
use crate::connections::Target;
use crate::discover::{self, Lasting};
use crate::session::Session;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// The time beyond two node timeouts that links have to come back.
const MARGIN: Duration = Duration::from_secs(10);

/// How many nodes are named.
const NAMED: usize = 8;

/// Looks at the cluster until every link from and to these nodes is up, and no node is in handshake. Links that stay
/// down for longer than half the node timeout are an error. Where `new` and `members` may learn wrong addresses from each
/// other's messages, which they exchange within half a node timeout, that time is waited first.
///
/// Returns the last look.
pub(crate) async fn verify(
    session: &Session,
    seeds: &[Target],
    new: &[NewNode],
    members: &[IpAddr],
) -> anyhow::Result<Observation> {
    let patience = discover::patience(&session.connections, seeds.first()).await;
    let nodes: BTreeSet<NodeId> = new.iter().map(NewNode::id).collect();
    let is_uncertain = origin::is_uncertain(new, members);
    // Their links are young, but no id is there twice: that was refused before they joined.
    session.connections.mark_watched(nodes.iter().copied());
    let started = Instant::now();
    let watched = match is_uncertain {
        // Nodes look once a second for others that they have not heard of.
        true => patience + Duration::from_secs(1),
        false => Duration::ZERO,
    };
    let deadline = watched + patience * 4 + MARGIN;
    if is_uncertain {
        session.events.waiting(format!(
            "watching for {} whether the nodes see each other at the right addresses",
            humantime::format_duration(Duration::from_millis(watched.as_millis() as u64))
        ));
    }
    let mut lasting = Lasting::default();
    loop {
        let observation = discover::observe(&session.connections, seeds).await?;
        lasting.look(missing(&observation, &nodes, patience));
        let lasts = lasting.lasting(patience);
        let is_over = started.elapsed() > deadline;
        if !lasts.is_empty() || (is_over && !lasting.missing().is_empty()) {
            let links = match is_over {
                true => lasting.missing(),
                false => &lasts,
            };
            let foreseen = origin::warnings(new, members);
            return Err(anyhow!("{}", unlinked(&observation, links, foreseen)));
        }
        // A handshake that was there before may never end.
        let given_up = started.elapsed() > patience * 2 + Duration::from_secs(1);
        let is_settled =
            lasting.missing().is_empty() && (given_up || !has_handshakes(&observation));
        if (is_settled && started.elapsed() >= watched) || is_over {
            return Ok(observation);
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The missing links from and to these nodes.
fn missing(
    observation: &Observation,
    nodes: &BTreeSet<NodeId>,
    patience: Duration,
) -> MissingLinks {
    let topology = Topology::of(observation);
    let patience_ms = patience.as_millis() as u64;
    let mut missing = links::missing(observation, &topology, patience_ms, |_| true);
    missing.retain(|(viewer, id), _| nodes.contains(viewer) || nodes.contains(id));
    missing
}

/// Whether a node tries to meet another one. It gives up after a node timeout.
fn has_handshakes(observation: &Observation) -> bool {
    observation.reports().any(|(_, report)| {
        let mut entries = report.view.entries();
        entries.any(|entry| entry.state == EntryState::Handshake)
    })
}

fn unlinked(observation: &Observation, missing: &MissingLinks, foreseen: Vec<String>) -> String {
    let ids: BTreeSet<NodeId> = missing.keys().map(|(_, id)| *id).collect();
    let lines = ids.iter().take(NAMED);
    let mut lines: Vec<String> = lines
        .map(|id| links::sentence(observation, *id, missing))
        .collect();
    if ids.len() > NAMED {
        lines.push(format!("and {} more", ids.len() - NAMED));
    }
    lines.extend(foreseen.into_iter().take(NAMED));
    format!(
        "the nodes have joined, but do not reach each other:\n  {}",
        lines.join("\n  ")
    )
}
