//! The choice of a master for each shard.

use std::collections::{BTreeMap, BTreeSet};

use super::flow::Network;
use super::{PlaceNode, PlaceScore, Wishes, fail_over, left_behind};
use crate::cluster::node::NodeId;

/// The most placements that are tried out, which takes well below a second.
const MOST_TRIED: usize = 100_000;

/// The masters by the present masters of their shards.
type Choice = BTreeMap<NodeId, NodeId>;

/// What decides between two choices: the score as far as masters count, then the failovers.
type Rank = (usize, usize, usize, usize);

/// A node that may be the master of its shard.
#[derive(Debug, Clone, Copy)]
struct Candidate<'a> {
    node: &'a PlaceNode,
    is_master: bool,
}

/// The best choice, and whether it is known to be.
pub(super) fn choose(nodes: &[PlaceNode], wishes: &Wishes) -> (Choice, bool) {
    let shards = candidates(nodes, wishes);
    let prefer = wishes.prefer.as_deref();
    let choice = by_flow(&shards, prefer);
    if !crosses(nodes) {
        return (choice, true);
    }
    let mut count: usize = 1;
    for candidates in shards.values() {
        count = count.saturating_mul(candidates.len());
    }
    match count <= MOST_TRIED {
        true => (by_trying(nodes, &shards, prefer), true),
        false => (improved(nodes, &shards, prefer, choice), false),
    }
}

/// Whether a host lies in several zones.
fn crosses(nodes: &[PlaceNode]) -> bool {
    let mut zones: BTreeMap<&str, BTreeSet<Option<&str>>> = BTreeMap::new();
    for node in nodes {
        let zone = node.zone.as_deref();
        zones.entry(&node.host).or_default().insert(zone);
    }
    zones.values().any(|zones| zones.len() > 1)
}

/// The nodes that may be masters, by shard: the present master first. A wish leaves one. Without a wish, no node takes over
/// that another one of the shard can't follow.
fn candidates<'a>(nodes: &'a [PlaceNode], wishes: &Wishes) -> BTreeMap<NodeId, Vec<Candidate<'a>>> {
    let mut shards: BTreeMap<NodeId, Vec<Candidate<'a>>> = BTreeMap::new();
    for node in nodes {
        let is_master = node.id == node.master;
        let is_wanted = wishes.masters.contains(&node.id);
        let leads =
            node.can_lead && (is_wanted || left_behind(nodes, node.master, node).next().is_none());
        if leads || is_master {
            let candidate = Candidate { node, is_master };
            shards.entry(node.master).or_default().push(candidate);
        }
    }
    for candidates in shards.values_mut() {
        let is_wanted = |one: &Candidate<'_>| wishes.masters.contains(&one.node.id);
        if candidates.iter().any(is_wanted) {
            candidates.retain(is_wanted);
        }
        candidates.sort_by_key(|one| (!one.is_master, one.node.id));
    }
    shards
}

/// The choice of least cost, with the hosts of each zone as hosts of their own.
fn by_flow(shards: &BTreeMap<NodeId, Vec<Candidate<'_>>>, prefer: Option<&str>) -> Choice {
    let count = shards.len() as i128;
    // One unit of each weighs more than all of the next ones together.
    let of_host = count + 1;
    let of_zone = of_host * (count * count + 1);
    let of_preference = of_zone * (count * count + 1);
    let mut network = Network::default();
    let (source, sink) = (network.point(), network.point());
    let mut hosts = BTreeMap::new();
    let mut zones = BTreeMap::new();
    let mut edges = Vec::new();
    for (master, candidates) in shards {
        let shard = network.point();
        network.edge(source, shard, 0);
        for candidate in candidates {
            let node = candidate.node;
            let zone = node.zone.as_deref();
            let host = hosts
                .entry((zone, node.host.as_str()))
                .or_insert_with(|| (network.point(), 0_i128));
            let misses = prefer.is_some() && zone != prefer;
            let cost = i128::from(!candidate.is_master) + of_preference * i128::from(misses);
            edges.push((*master, node.id, network.edge(shard, host.0, cost)));
            host.1 += 1;
        }
    }
    // The next master of a place makes a pair with each one that is there already.
    for ((zone, _), (host, most)) in hosts {
        let point = match zone {
            None => sink,
            Some(zone) => {
                let entry = zones
                    .entry(zone)
                    .or_insert_with(|| (network.point(), 0_i128));
                entry.1 += most;
                entry.0
            }
        };
        for pairs in 0..most {
            network.edge(host, point, of_host * pairs);
        }
    }
    for (zone, most) in zones.into_values() {
        for pairs in 0..most {
            network.edge(zone, sink, of_zone * pairs);
        }
    }
    network.fill(source, sink);
    let used = edges
        .into_iter()
        .filter(|(.., edge)| network.is_used(*edge));
    used.map(|(master, chosen, _)| (master, chosen)).collect()
}

fn rank(nodes: &[PlaceNode], choice: &Choice, prefer: Option<&str>) -> Rank {
    let mut placed = nodes.to_vec();
    for (from, to) in choice {
        fail_over(&mut placed, *from, *to);
    }
    let score = PlaceScore::of(&placed, prefer);
    let failovers = choice.iter().filter(|(from, to)| from != to).count();
    (
        score.not_preferred,
        score.masters_in_zone,
        score.masters_on_host,
        failovers,
    )
}

/// Tries all choices. Of equals the first counts, which changes the least.
fn by_trying(
    nodes: &[PlaceNode],
    shards: &BTreeMap<NodeId, Vec<Candidate<'_>>>,
    prefer: Option<&str>,
) -> Choice {
    let lists: Vec<(&NodeId, &Vec<Candidate<'_>>)> = shards.iter().collect();
    let mut places = vec![0; lists.len()];
    let mut best: Option<(Rank, Choice)> = None;
    loop {
        let chosen = lists.iter().zip(&places);
        let choice: Choice = chosen
            .filter_map(|((master, list), place)| Some((**master, list.get(*place)?.node.id)))
            .collect();
        let rank = rank(nodes, &choice, prefer);
        if best.as_ref().is_none_or(|(known, _)| rank < *known) {
            best = Some((rank, choice));
        }
        let mut at = 0;
        while let Some(place) = places.get_mut(at) {
            *place += 1;
            if *place < lists[at].1.len() {
                break;
            }
            *place = 0;
            at += 1;
        }
        if at == lists.len() {
            return best.map(|(_, choice)| choice).unwrap_or_default();
        }
    }
}

/// Changes single masters as long as that helps. The present masters are a choice, too.
fn improved(
    nodes: &[PlaceNode],
    shards: &BTreeMap<NodeId, Vec<Candidate<'_>>>,
    prefer: Option<&str>,
    choice: Choice,
) -> Choice {
    let firsts = shards.iter();
    let present: Choice = firsts
        .filter_map(|(master, list)| Some((*master, list.first()?.node.id)))
        .collect();
    let mut best = [choice, present]
        .into_iter()
        .map(|choice| (rank(nodes, &choice, prefer), choice))
        .min_by_key(|(rank, _)| *rank)
        .unwrap_or_default();
    loop {
        let (known, choice) = &best;
        let changes = shards.iter().flat_map(|(master, list)| {
            list.iter().map(move |candidate| {
                let mut changed = choice.clone();
                changed.insert(*master, candidate.node.id);
                changed
            })
        });
        let better = changes
            .map(|changed| (rank(nodes, &changed, prefer), changed))
            .min_by_key(|(rank, _)| *rank)
            .filter(|(rank, _)| rank < known);
        match better {
            Some(better) => best = better,
            None => return best.1,
        }
    }
}
