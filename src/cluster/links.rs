//! Links of the cluster bus that are missing: members that do not reach another member.
//!
//! A node learns the address of another one from the connections that come from it. A node that connects from another
//! address than the one at which it listens (another interface, another IP family) is looked for where nobody answers,
//! or where another node does; then its address is removed (`noaddr`). Seen on 7.0 and later.

use std::collections::BTreeMap;

use super::node::{Addr, NodeId};
use super::observation::{Observation, Report, Seen};
use super::parse::EntryState;
use super::topology::{Member, Topology};

/// Missing links, by the node that lacks one and the node that it does not reach.
pub type MissingLinks = BTreeMap<(NodeId, NodeId), MissingLink>;

/// How a node sees another one that it does not reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingLink {
    /// The address that it has for it; `None` for `noaddr`.
    pub seen_at: Option<Addr>,
    /// Since when it waits for an answer, in ms; `None` if it does not tell.
    pub waits_ms: Option<u64>,
}

/// The links that are missing in an observation. A ping without an answer for longer than `patience_ms` counts like a
/// link that is down: while a connection is being opened, the link is `connected`.
///
/// Nodes that are down have a finding of their own, and so have nodes that do not answer here and nodes at whose address
/// another one answers: what they lack follows from that.
pub fn missing(
    observation: &Observation,
    topology: &Topology,
    patience_ms: u64,
    concerns: impl Fn(&Member) -> bool,
) -> MissingLinks {
    let is_down = |id: NodeId| {
        let member = topology.members.get(&id);
        member.is_none_or(|member| member.peer_status.is_down())
    };
    let twins = &observation.identities.twins;
    let mut missing = MissingLinks::new();
    for (viewer, report) in observation.reports() {
        if is_down(viewer.id) {
            continue;
        }
        for entry in report.view.entries() {
            let id = entry.id;
            let concerned = topology.members.get(&id).is_some_and(&concerns);
            if id == viewer.id || !concerned || is_down(id) || twins.iter().any(|t| t.id == id) {
                continue;
            }
            let waits_ms = waits_ms(report, id);
            let seen = observation.nodes.get(&id).map(|node| &node.seen);
            let answers = matches!(seen, Some(Seen::Report(_)));
            let is_missing = match entry.state {
                EntryState::Handshake => false,
                EntryState::NoAddress => !matches!(seen, Some(Seen::OtherNode(_))),
                EntryState::Fine | EntryState::Failing | EntryState::Failed => {
                    answers && (!entry.linked || waits_ms.is_some_and(|ms| ms > patience_ms))
                }
            };
            if is_missing {
                let seen_at = entry.addr.clone();
                missing.insert((viewer.id, id), MissingLink { seen_at, waits_ms });
            }
        }
    }
    missing
}

/// Whether any node misses any link: of a thousand nodes, that is cheaper to find out than which links.
pub fn may_be_missing(observation: &Observation, patience_ms: u64) -> bool {
    observation.reports().any(|(_, report)| {
        report.view.entries().any(|entry| {
            !entry.linked
                || entry.state == EntryState::NoAddress
                || waits_ms(report, entry.id).is_some_and(|ms| ms > patience_ms)
        })
    })
}

/// How long the node has been waiting for an answer of another one.
fn waits_ms(report: &Report, id: NodeId) -> Option<u64> {
    let since = report.view.ping_sent(id)?;
    Some(report.info.server_time_ms?.saturating_sub(since))
}

/// Keeps what is still missing. An address that was seen before is kept: it is removed and learnt again in turns.
pub fn still_missing(before: MissingLinks, mut now: MissingLinks) -> MissingLinks {
    now.retain(|pair, link| {
        let Some(was) = before.get(pair) else {
            return false;
        };
        if link.seen_at.is_none() {
            link.seen_at.clone_from(&was.seen_at);
        }
        true
    });
    now
}

/// One sentence about a node that others do not reach, with the remedy.
pub fn sentence(observation: &Observation, id: NodeId, links: &MissingLinks) -> String {
    const SHOWN: usize = 4;
    let mut views: BTreeMap<Option<&Addr>, Vec<NodeId>> = BTreeMap::new();
    for ((viewer, other), link) in links {
        if *other == id {
            views
                .entry(link.seen_at.as_ref())
                .or_default()
                .push(*viewer);
        }
    }
    let node = observation.nodes.get(&id);
    let dial = node.and_then(|node| node.dial.as_ref());
    let views: Vec<String> = views
        .into_iter()
        .map(|(seen_at, viewers)| {
            let names = viewers.iter().take(SHOWN).map(|id| observation.name(*id));
            let mut names = names.collect::<Vec<_>>().join(", ");
            if viewers.len() > SHOWN {
                names.push_str(&format!(" and {} more", viewers.len() - SHOWN));
            }
            match seen_at {
                Some(addr) if Some(addr) != dial => {
                    let by = answers_at(observation, addr, id);
                    format!("{names} (it is seen there at {addr}{by})")
                }
                Some(_) => names,
                None => format!("{names} (no address of it is known there)"),
            }
        })
        .collect();
    let name = observation.name(id);
    let set = match dial.and_then(Addr::ip) {
        Some(ip) => format!("set cluster-announce-ip {ip} or bind-source-addr {ip} on it"),
        None => "set cluster-announce-ip or bind-source-addr on it".to_string(),
    };
    format!(
        "{name} has no link from {}: if it connects to them from another address, {set}; else check its bus port",
        views.join("; ")
    )
}

/// `, where node 1977c4d4 answers`.
fn answers_at(observation: &Observation, addr: &Addr, id: NodeId) -> String {
    let mut nodes = observation.nodes.values();
    let other = nodes.find(|node| node.id != id && node.dial.as_ref() == Some(addr));
    other.map_or_else(String::new, |node| {
        format!(", where node {} answers", node.id.short())
    })
}
