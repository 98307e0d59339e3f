//! Which lanes may run now.
//!
//! A lane is a pair of nodes, a source and a target. Pure.
//!
//! - A node is never source of one MIGRATE and target of another at once: both block their main
//!   threads, and with A→B beside B→A the calls died after their whole timeout, with keys on both
//!   ends (seen on Redis 7.0 and 8.6, Valkey 8.1 and 9.1).
//! - A source has one lane at a time: MIGRATE holds its main thread, so a second one gains nothing.
//! - A target takes a few lanes at a time, and so does the whole.
//! - Moves key by key and ASM tasks never share a node at a time: both servers refuse a
//!   task while any of their slots is open, and SETSLOT on a slot that is in one.
//! - Valkey's tasks are held to the same rules as MIGRATE, though it bears more: a source forks for
//!   one of them at a time, and calling off means all tasks of a source.
//! - On Redis a node is in one ASM task at a time, whichever its part.
//! - Sources on one host have one ASM task at a time, unless the user asks for more: a source forks, or reads what it
//!   sends from its whole data set, and the others on that host wait for the processors. (Three sources at once: worst stalls of
//!   7 to 44 ms and nearly the same time; one after the other 5 to 33 ms. Redis 8.10, Valkey 9.1, two processors.)

use std::collections::BTreeMap;

use crate::cluster::node::NodeId;
use crate::cluster::parse::Product;
use crate::cluster::slot::{Slot, SlotSet};
use crate::event::Pair;

/// How the slots of a pair move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MoveMethod {
    /// MIGRATE, key by key (every version).
    Keys,
    /// ASM tasks (atomic slot migration).
    Atomic(Product),
    /// Nothing but the keys: the target owns the slots, and the source should have none of them.
    Gather,
    /// The same, but keys that equal the target's are deleted, and the others stay.
    Purge,
}

/// What a pair has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// How.
    pub way: MoveMethod,
    /// Which slots, in the order in which they go.
    pub slots: Vec<Slot>,
    /// Those of them that were open before.
    pub open: SlotSet,
    /// Whether a MIGRATE has to be tried before the first slot is opened.
    pub untried: bool,
}

/// How many lanes run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all, at least 1.
    pub lanes: usize,
    /// Into one target, at least 1.
    pub per_target: usize,
    /// How many ASM tasks.
    pub tasks: TaskLimit,
}

/// How many ASM tasks run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskLimit {
    /// One for each host that has sources.
    OnePerSourceHost,
    /// As many as there are lanes.
    None,
}

/// Lanes that wait and lanes that run.
#[derive(Debug)]
pub struct Schedule {
    limits: Limits,
    hosts: BTreeMap<NodeId, String>,
    waiting: BTreeMap<Pair, Work>,
    running: Vec<(Pair, MoveMethod)>,
}

impl Schedule {
    /// All pairs wait. `hosts` has the hosts of the nodes; one that is missing has a host of its own.
    pub fn new(
        limits: Limits,
        hosts: BTreeMap<NodeId, String>,
        pairs: BTreeMap<Pair, Work>,
    ) -> Self {
        Self {
            limits,
            hosts,
            waiting: pairs,
            running: Vec::new(),
        }
    }

    /// Other limits from now on. Lanes that run already go on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The next pair that may run, if any may; it runs from now on. The one with most to do goes
    /// first, since the whole is not over before it is.
    pub fn start(&mut self) -> Option<(Pair, Work)> {
        let (pair, _) = self
            .waiting
            .iter()
            .filter(|(pair, work)| self.may_run(**pair, work.way))
            .max_by_key(|(pair, work)| (work.slots.len(), std::cmp::Reverse(**pair)))?;
        let pair = *pair;
        let work = self.waiting.remove(&pair)?;
        self.running.push((pair, work.way));
        Some((pair, work))
    }

    /// That pair runs no more.
    pub fn finish(&mut self, pair: Pair) {
        self.running.retain(|(running, _)| *running != pair);
    }

    /// That pair has something more to do, and waits for it.
    pub fn add(&mut self, pair: Pair, work: Work) {
        self.waiting.insert(pair, work);
    }

    /// Starts no further lanes. Returns the work that was never started.
    pub fn stop(&mut self) -> BTreeMap<Pair, Work> {
        std::mem::take(&mut self.waiting)
    }

    fn may_run(&self, pair: Pair, way: MoveMethod) -> bool {
        let into_target = self.running.iter().filter(|(other, _)| other.to == pair.to);
        self.running.len() < self.limits.lanes.max(1)
            && into_target.count() < self.limits.per_target.max(1)
            && self.running.iter().all(|(other, other_way)| {
                let are_tasks = is_task(way) && is_task(*other_way);
                if are_tasks
                    && self.limits.tasks == TaskLimit::OnePerSourceHost
                    && self.share_host(pair.from, other.from)
                {
                    return false;
                }
                let apart =
                    other.from != pair.from && other.from != pair.to && other.to != pair.from;
                let into_one = other.to == pair.to;
                let may_share_target =
                    *other_way == way && way != MoveMethod::Atomic(Product::Redis);
                apart && (!into_one || may_share_target)
            })
    }

    fn share_host(&self, one: NodeId, other: NodeId) -> bool {
        match (self.hosts.get(&one), self.hosts.get(&other)) {
            (Some(host), Some(other)) => host == other,
            _ => one == other,
        }
    }
}

/// Whether slots that move in this way do so in ASM tasks.
pub(super) fn is_task(way: MoveMethod) -> bool {
    matches!(way, MoveMethod::Atomic(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(n: u8) -> NodeId {
        format!("{n:040x}").parse().unwrap()
    }

    fn way() -> impl Strategy<Value = MoveMethod> {
        prop_oneof![
            Just(MoveMethod::Keys),
            Just(MoveMethod::Atomic(Product::Valkey)),
            Just(MoveMethod::Atomic(Product::Redis)),
        ]
    }

    fn touches(one: Pair, node: NodeId) -> bool {
        one.from == node || one.to == node
    }

    proptest! {
        #[test]
        fn every_pair_runs_once_and_none_beside_what_it_can_t(
            pairs in proptest::collection::btree_map(
                (0_u8..8, 0_u8..8),
                (1_usize..100, way()),
                0..30,
            ),
            lanes in 1_usize..6,
            per_target in 1_usize..4,
            hosts in 1_u8..9,
            one_per_host in any::<bool>(),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 60),
        ) {
            let pairs: BTreeMap<Pair, Work> = pairs
                .into_iter()
                .filter(|((from, to), _)| from != to)
                .map(|((from, to), (slots, way))| {
                    let slots = Slot::all().take(slots).collect();
                    (Pair { from: node(from), to: node(to) }, Work { way, slots, open: SlotSet::new(), untried: false })
                })
                .collect();
            let host = |id: NodeId| (0..8).find(|n| node(*n) == id).map(|n| n % hosts);
            let by_node = (0..8).map(|n| (node(n), (n % hosts).to_string())).collect();
            let tasks = match one_per_host {
                true => TaskLimit::OnePerSourceHost,
                false => TaskLimit::None,
            };
            let limits = Limits { lanes, per_target, tasks };
            let mut schedule = Schedule::new(limits, by_node, pairs.clone());
            let mut running: Vec<(Pair, MoveMethod)> = Vec::new();
            let mut done = Vec::new();
            let mut order = order.into_iter();
            loop {
                while let Some((pair, work)) = schedule.start() {
                    prop_assert_eq!(pairs.get(&pair), Some(&work));
                    running.push((pair, work.way));
                }
                prop_assert!(running.len() <= lanes);
                for (pair, way) in &running {
                    let into = running.iter().filter(|(other, _)| other.to == pair.to).count();
                    prop_assert!(into <= per_target);
                    let from = running.iter().filter(|(other, _)| other.from == pair.from).count();
                    prop_assert_eq!(from, 1);
                    prop_assert!(running.iter().all(|(other, _)| other.to != pair.from));
                    for (other, other_way) in running.iter().filter(|(other, _)| other != pair) {
                        if one_per_host && is_task(*way) && is_task(*other_way) {
                            prop_assert_ne!(host(pair.from), host(other.from));
                        }
                        if touches(*other, pair.from) || touches(*other, pair.to) {
                            prop_assert_eq!(way, other_way);
                            prop_assert_ne!(*way, MoveMethod::Atomic(Product::Redis));
                        }
                    }
                }
                if running.is_empty() {
                    break;
                }
                let i = order.next().map_or(0, |index| index.index(running.len()));
                let (pair, _) = running.swap_remove(i);
                schedule.finish(pair);
                done.push(pair);
            }
            done.sort_unstable();
            prop_assert_eq!(done, pairs.into_keys().collect::<Vec<_>>());
            prop_assert!(schedule.stop().is_empty());
        }
    }
}
