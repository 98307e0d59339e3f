//! Replicas that get another master: apart from it and from each other, and as many for each master.
//!
//! Each move discards a copy and costs a full one, so the fewest moves count among placements that are equally good. A
//! master never loses its last replica: a replica leaves a shard only while another one of it stays. All placements of few
//! replicas are tried; of many, single moves and exchanges are made as long as they help.

use std::collections::BTreeMap;

use super::{PlaceNode, PlaceScore, PlaceStep};
use crate::cluster::node::NodeId;

/// The most placements that are tried out.
const MOST_TRIED: usize = 50_000;

/// The part of the score that replicas decide, then the moves.
type Rank = (usize, usize, usize, usize);

/// The moves in their order, carried out on `nodes`, and whether none are better.
pub(super) fn moves(nodes: &mut [PlaceNode], prefer: Option<&str>) -> (Vec<PlaceStep>, bool) {
    let masters: Vec<NodeId> = nodes
        .iter()
        .filter(|node| node.id == node.master)
        .map(|node| node.id)
        .collect();
    let replicas = nodes.iter().filter(|node| node.id != node.master).count();
    let tries = u32::try_from(replicas)
        .ok()
        .and_then(|replicas| masters.len().checked_pow(replicas));
    let before = nodes.to_vec();
    let is_small = tries.is_some_and(|tries| tries <= MOST_TRIED);
    let steps = match is_small {
        true => by_trying(&before, &masters, prefer),
        false => step_by_step(&before, &masters, prefer),
    };
    for step in &steps {
        apply(nodes, step);
    }
    (steps, is_small)
}

fn apply(nodes: &mut [PlaceNode], step: &PlaceStep) {
    if let PlaceStep::Move { replica, to, .. } = step
        && let Some(node) = nodes.iter_mut().find(|node| node.id == *replica)
    {
        node.master = *to;
    }
}

fn rank(nodes: &[PlaceNode], prefer: Option<&str>, moves: usize) -> Rank {
    let score = PlaceScore::of(nodes, prefer);
    (
        score.copies_in_zone,
        score.copies_on_host,
        score.replica_pairs,
        moves,
    )
}

/// Whether a replica has room for the data of a master.
fn has_room(replica: &PlaceNode, master: &PlaceNode) -> bool {
    replica.limit.is_none_or(|limit| master.used <= limit)
}

/// The step by which a replica gets that master; `None` if it may not.
fn step(nodes: &[PlaceNode], replica: NodeId, to: NodeId) -> Option<PlaceStep> {
    let find = |id: NodeId| nodes.iter().find(|node| node.id == id);
    let (node, master) = (find(replica)?, find(to)?);
    let stays = nodes.iter().any(|other| {
        other.master == node.master
            && other.id != other.master
            && other.id != replica
            && other.can_lead
    });
    let may_move = node.id != node.master && node.master != to && node.can_lead;
    let can_copy = has_room(node, master) && node.can_follow(master);
    (may_move && stays && can_copy).then_some(PlaceStep::Move {
        replica,
        from: node.master,
        to,
        bytes: master.used,
    })
}

/// The order in which replicas get their wanted masters, if there is one.
fn ordered(nodes: &[PlaceNode], wanted: &BTreeMap<NodeId, NodeId>) -> Option<Vec<PlaceStep>> {
    let mut nodes = nodes.to_vec();
    let mut left: Vec<(NodeId, NodeId)> = wanted.iter().map(|(id, to)| (*id, *to)).collect();
    let mut steps = Vec::new();
    while !left.is_empty() {
        let next = left.iter().enumerate();
        let (at, found) = next
            .filter_map(|(at, (id, to))| Some((at, step(&nodes, *id, *to)?)))
            .next()?;
        apply(&mut nodes, &found);
        steps.push(found);
        left.remove(at);
    }
    Some(steps)
}

fn by_trying(nodes: &[PlaceNode], masters: &[NodeId], prefer: Option<&str>) -> Vec<PlaceStep> {
    let movable = nodes.iter().filter(|node| node.id != node.master);
    let replicas: Vec<&PlaceNode> = movable.collect();
    let mut places: Vec<usize> = vec![0; replicas.len()];
    let mut best = (rank(nodes, prefer, 0), Vec::new());
    loop {
        let wanted: BTreeMap<NodeId, NodeId> = replicas
            .iter()
            .zip(&places)
            .filter_map(|(replica, place)| Some((replica.id, *masters.get(*place)?)))
            .filter(|(id, to)| {
                nodes
                    .iter()
                    .any(|node| node.id == *id && node.master != *to)
            })
            .collect();
        let mut placed = nodes.to_vec();
        for node in &mut placed {
            if let Some(to) = wanted.get(&node.id) {
                node.master = *to;
            }
        }
        let rank = rank(&placed, prefer, wanted.len());
        if rank < best.0
            && let Some(steps) = ordered(nodes, &wanted)
        {
            best = (rank, steps);
        }
        let mut at = 0;
        while let Some(place) = places.get_mut(at) {
            *place += 1;
            if *place < masters.len() {
                break;
            }
            *place = 0;
            at += 1;
        }
        if at == places.len() {
            return best.1;
        }
    }
}

/// Single moves and exchanges of two replicas, as long as they help: for one replica after the other the best of its own.
/// Only the shards that they touch are scored: there may be hundreds.
fn step_by_step(nodes: &[PlaceNode], masters: &[NodeId], prefer: Option<&str>) -> Vec<PlaceStep> {
    let mut nodes = nodes.to_vec();
    let mut steps = Vec::new();
    loop {
        let before = steps.len();
        for place in 0..nodes.len() {
            let found = best_of(&nodes, masters, prefer, place);
            for step in &found {
                apply(&mut nodes, step);
            }
            steps.extend(found);
        }
        if steps.len() == before {
            return steps;
        }
    }
}

/// The best move or exchange of one replica; nothing if none helps.
fn best_of(
    nodes: &[PlaceNode],
    masters: &[NodeId],
    prefer: Option<&str>,
    place: usize,
) -> Vec<PlaceStep> {
    let Some(node) = nodes.get(place).filter(|node| node.id != node.master) else {
        return Vec::new();
    };
    let (one, its) = (node.id, node.master);
    let mut shards: BTreeMap<NodeId, Vec<PlaceNode>> = BTreeMap::new();
    for node in nodes {
        shards.entry(node.master).or_default().push(node.clone());
    }
    let fewest = shards.values().map(Vec::len).min().unwrap_or_default();
    let shard = shards.get(&its).cloned().unwrap_or_default();
    let count = shard.len();
    let (zones, hosts, _) = part(shard.into_iter(), prefer);
    // A move can only help where something is wrong.
    if zones + hosts == 0 && count <= fewest + 1 {
        return Vec::new();
    }
    let mut best: Option<(Gain, Vec<PlaceStep>)> = None;
    let mut consider = |wanted: BTreeMap<NodeId, NodeId>, touched: [NodeId; 2]| {
        let gain = gain(&shards, touched, &wanted, prefer);
        if gain < best.as_ref().map_or((0, 0, 0), |(known, _)| *known)
            && let Some(found) = ordered(nodes, &wanted)
        {
            best = Some((gain, found));
        }
    };
    for to in masters.iter().filter(|to| **to != its) {
        consider([(one, *to)].into(), [its, *to]);
    }
    for other in nodes
        .iter()
        .filter(|other| other.id != other.master && other.master != its)
    {
        let wanted = [(one, other.master), (other.id, its)].into();
        consider(wanted, [its, other.master]);
    }
    best.map(|(_, steps)| steps).unwrap_or_default()
}

/// A change of the score.
type Gain = (i64, i64, i64);

fn part(nodes: impl Iterator<Item = PlaceNode>, prefer: Option<&str>) -> Gain {
    let nodes: Vec<PlaceNode> = nodes.collect();
    let (zones, hosts, replicas, _) = rank(&nodes, prefer, 0);
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    (number(zones), number(hosts), number(replicas))
}

/// How the score of two shards changes if these replicas get those masters.
fn gain(
    shards: &BTreeMap<NodeId, Vec<PlaceNode>>,
    touched: [NodeId; 2],
    wanted: &BTreeMap<NodeId, NodeId>,
    prefer: Option<&str>,
) -> Gain {
    let nodes = || {
        touched
            .iter()
            .filter_map(|id| shards.get(id))
            .flatten()
            .cloned()
    };
    let before = part(nodes(), prefer);
    let moved = nodes().map(|node| PlaceNode {
        master: wanted.get(&node.id).copied().unwrap_or(node.master),
        ..node
    });
    let after = part(moved, prefer);
    (after.0 - before.0, after.1 - before.1, after.2 - before.2)
}
