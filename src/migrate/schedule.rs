//! Which lanes may run now.
//!
//! A lane is a pair of nodes, a source and a target. Pure.
//!
//! - A node is never source of one MIGRATE and target of another at once: both block their main
//!   threads, and with A→B beside B→A the calls died after their whole timeout, with keys on both
//!   ends (seen on Redis 7.0 and 8.6, Valkey 8.1 and 9.1).
//! - A source has one lane at a time: MIGRATE holds its main thread, so a second one gains nothing.
//! - A target takes a few lanes at a time, and so does the whole.

use std::collections::BTreeMap;

use crate::event::Pair;

/// How many lanes run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all, at least 1.
    pub lanes: usize,
    /// Into one target, at least 1.
    pub per_target: usize,
}

/// Lanes that wait and lanes that run.
#[derive(Debug)]
pub struct Schedule {
    limits: Limits,
    /// How much is left to do for each pair that waits.
    waiting: BTreeMap<Pair, usize>,
    running: Vec<Pair>,
}

impl Schedule {
    /// All pairs wait, each with the number of its slots.
    pub fn new(limits: Limits, pairs: impl IntoIterator<Item = (Pair, usize)>) -> Self {
        Self {
            limits,
            waiting: pairs.into_iter().collect(),
            running: Vec::new(),
        }
    }

    /// The next pair that may run, if any may; it runs from now on. The one with most to do goes
    /// first, since the whole is not over before it is.
    pub fn start(&mut self) -> Option<Pair> {
        let (pair, _) = self
            .waiting
            .iter()
            .filter(|(pair, _)| self.may_run(**pair))
            .max_by_key(|(pair, slots)| (**slots, std::cmp::Reverse(**pair)))?;
        let pair = *pair;
        self.waiting.remove(&pair);
        self.running.push(pair);
        Some(pair)
    }

    /// That pair runs no more.
    pub fn finish(&mut self, pair: Pair) {
        self.running.retain(|running| *running != pair);
    }

    /// Nothing more is started.
    pub fn stop(&mut self) {
        self.waiting.clear();
    }

    /// Pairs that were never started.
    pub fn waiting(&self) -> impl Iterator<Item = Pair> + '_ {
        self.waiting.keys().copied()
    }

    fn may_run(&self, pair: Pair) -> bool {
        let into_target = self.running.iter().filter(|other| other.to == pair.to);
        self.running.len() < self.limits.lanes.max(1)
            && into_target.count() < self.limits.per_target.max(1)
            && self.running.iter().all(|other| {
                other.from != pair.from && other.from != pair.to && other.to != pair.from
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::node::NodeId;
    use proptest::prelude::*;

    fn node(n: u8) -> NodeId {
        format!("{n:040x}").parse().unwrap()
    }

    proptest! {
        #[test]
        fn every_pair_runs_once_and_none_beside_its_opposite(
            pairs in proptest::collection::btree_map((0_u8..8, 0_u8..8), 1_usize..100, 0..30),
            lanes in 1_usize..6,
            per_target in 1_usize..4,
            order in proptest::collection::vec(any::<prop::sample::Index>(), 60),
        ) {
            let pairs: BTreeMap<Pair, usize> = pairs
                .into_iter()
                .filter(|((from, to), _)| from != to)
                .map(|((from, to), slots)| (Pair { from: node(from), to: node(to) }, slots))
                .collect();
            let mut schedule = Schedule::new(Limits { lanes, per_target }, pairs.clone());
            let mut running: Vec<Pair> = Vec::new();
            let mut done = Vec::new();
            let mut order = order.into_iter();
            loop {
                while let Some(pair) = schedule.start() {
                    running.push(pair);
                }
                prop_assert!(running.len() <= lanes);
                for pair in &running {
                    let into = running.iter().filter(|other| other.to == pair.to).count();
                    prop_assert!(into <= per_target);
                    prop_assert_eq!(running.iter().filter(|other| other.from == pair.from).count(), 1);
                    prop_assert!(running.iter().all(|other| other.to != pair.from));
                }
                if running.is_empty() {
                    break;
                }
                let i = order.next().map_or(0, |index| index.index(running.len()));
                let pair = running.swap_remove(i);
                schedule.finish(pair);
                done.push(pair);
            }
            done.sort_unstable();
            prop_assert_eq!(done, pairs.into_keys().collect::<Vec<_>>());
        }
    }
}
