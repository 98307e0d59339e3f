//! The load of slots: what CLUSTER SLOT-STATS tells, the difference of two samples, and the hottest slots.

use std::collections::BTreeMap;

use super::node::NodeId;
use super::slot::Slot;

/// What the load of a slot is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// The time that commands took on the main thread.
    Cpu,
    /// Bytes received and sent.
    Network,
    /// The number of keys.
    Keys,
    /// The memory of the keys.
    Memory,
}

impl Metric {
    /// Its word on the command line and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Network => "network",
            Self::Keys => "keys",
            Self::Memory => "memory",
        }
    }

    /// Whether the servers count it up, so that it takes two samples.
    pub fn is_counter(self) -> bool {
        match self {
            Self::Cpu | Self::Network => true,
            Self::Keys | Self::Memory => false,
        }
    }
}

/// The statistics of a slot. Those that are off are `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotStats {
    /// The number of keys.
    pub keys: Option<u64>,
    /// Microseconds on the main thread.
    pub cpu_usec: Option<u64>,
    /// Bytes received.
    pub bytes_in: Option<u64>,
    /// Bytes sent.
    pub bytes_out: Option<u64>,
    /// Bytes of its keys (Redis ≥ 8.6).
    pub memory: Option<u64>,
}

impl SlotStats {
    /// The load by that metric; `None` if the statistic is off.
    pub fn load(&self, by: Metric) -> Option<u64> {
        match by {
            Metric::Cpu => self.cpu_usec,
            Metric::Network => Some(self.bytes_in?.saturating_add(self.bytes_out?)),
            Metric::Keys => self.keys,
            Metric::Memory => self.memory,
        }
    }

    /// What happened since an earlier sample. CONFIG RESETSTAT and a change of owner set counters to zero, so a counter
    /// that fell, or that had no earlier value, counted from zero.
    pub fn since(&self, earlier: Option<&Self>) -> Self {
        let counted = |now: Option<u64>, earlier: Option<u64>| {
            let now = now?;
            Some(now.checked_sub(earlier.unwrap_or(0)).unwrap_or(now))
        };
        let earlier = earlier.copied().unwrap_or_default();
        Self {
            keys: self.keys,
            cpu_usec: counted(self.cpu_usec, earlier.cpu_usec),
            bytes_in: counted(self.bytes_in, earlier.bytes_in),
            bytes_out: counted(self.bytes_out, earlier.bytes_out),
            memory: self.memory,
        }
    }
}

/// The statistics of the slots of one node.
pub type NodeStats = BTreeMap<Slot, SlotStats>;

/// What happened on a node between two samples. Slots that it has given away meanwhile are left out.
pub fn between(first: &NodeStats, second: &NodeStats) -> NodeStats {
    let slots = second.iter();
    slots
        .map(|(slot, stats)| (*slot, stats.since(first.get(slot))))
        .collect()
}

/// A slot and its part of the load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HotSlot {
    /// The slot.
    pub slot: Slot,
    /// Its owner.
    pub owner: NodeId,
    /// Its statistics.
    pub stats: SlotStats,
    /// Its load.
    pub load: u64,
    /// Its part of the load of its owner, 0 to 1.
    pub share: f64,
    /// Its part of the load of all masters, 0 to 1.
    pub cluster_share: f64,
}

/// The load of a node: the sum of its slots.
pub fn load_of(stats: &NodeStats, by: Metric) -> u128 {
    let loads = stats.values().filter_map(|stats| stats.load(by));
    loads.map(u128::from).sum()
}

/// A part of a whole, 0 to 1.
pub fn part(of: u128, whole: u128) -> f64 {
    match whole {
        0 => 0.0,
        whole => of as f64 / whole as f64,
    }
}

/// The slots with the most load, the hottest first; slots without load are left out.
pub fn hottest(nodes: &BTreeMap<NodeId, NodeStats>, by: Metric, top: usize) -> Vec<HotSlot> {
    let all: u128 = nodes.values().map(|stats| load_of(stats, by)).sum();
    let mut slots: Vec<HotSlot> = Vec::new();
    for (owner, stats) in nodes {
        let whole = load_of(stats, by);
        let loaded = stats
            .iter()
            .filter_map(|(slot, stats)| Some((slot, stats, stats.load(by).filter(|n| *n > 0)?)));
        slots.extend(loaded.map(|(slot, stats, load)| HotSlot {
            slot: *slot,
            owner: *owner,
            stats: *stats,
            load,
            share: part(load.into(), whole),
            cluster_share: part(load.into(), all),
        }));
    }
    slots.sort_by_key(|hot| (std::cmp::Reverse(hot.load), hot.slot));
    slots.truncate(top);
    slots
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    fn cpu(cpu_usec: u64) -> SlotStats {
        SlotStats {
            keys: Some(3),
            cpu_usec: Some(cpu_usec),
            ..SlotStats::default()
        }
    }

    #[test]
    fn counters_that_fall_were_set_to_zero() {
        assert_eq!(cpu(100).since(Some(&cpu(40))), cpu(60));
        assert_eq!(cpu(30).since(Some(&cpu(40))), cpu(30));
        assert_eq!(cpu(30).since(None), cpu(30));
        let off = SlotStats::default();
        assert_eq!(off.since(Some(&cpu(1))).cpu_usec, None);
        assert_eq!(off.load(Metric::Network), None);
        let half = SlotStats {
            bytes_in: Some(1),
            ..off
        };
        assert_eq!(half.load(Metric::Network), None);
    }

    fn node(number: u16) -> NodeId {
        format!("{number:040x}").parse().unwrap()
    }

    fn clusters() -> impl Strategy<Value = BTreeMap<NodeId, NodeStats>> {
        let load = prop_oneof![Just(0), 0..1000_u64, Just(u64::MAX)];
        proptest::collection::vec((0..5_u16, 0..16384_u16, load), 0..60).prop_map(|slots| {
            let mut nodes: BTreeMap<NodeId, NodeStats> = BTreeMap::new();
            for (owner, number, load) in slots {
                nodes
                    .entry(node(owner))
                    .or_default()
                    .insert(slot(number), cpu(load));
            }
            nodes
        })
    }

    proptest! {
        #[test]
        fn shares_are_parts_of_the_whole(nodes in clusters(), top in 0..70_usize) {
            let hot = hottest(&nodes, Metric::Cpu, top);
            prop_assert!(hot.len() <= top);
            prop_assert!(hot.windows(2).all(|pair| pair[0].load >= pair[1].load));
            let least = hot.last().map_or(0, |last| last.load);
            let loads = nodes.values().flatten().map(|(_, stats)| stats.cpu_usec.unwrap());
            let above = loads.filter(|load| *load > least).count();
            prop_assert!(hot.len() >= above.min(top));
            for one in &hot {
                prop_assert!(one.load > 0);
                prop_assert!(one.share > 0.0 && one.share <= 1.0);
                prop_assert!(one.cluster_share <= one.share);
            }
            let all = hottest(&nodes, Metric::Cpu, usize::MAX);
            let sum: f64 = all.iter().map(|one| one.cluster_share).sum();
            prop_assert!(all.is_empty() || (sum - 1.0).abs() < 1e-6, "{}", sum);
        }

        #[test]
        fn differences_are_never_more_than_the_counter(first in clusters(), second in clusters()) {
            for (node, stats) in &second {
                let earlier = first.get(node).cloned().unwrap_or_default();
                let difference = between(&earlier, stats);
                prop_assert_eq!(difference.len(), stats.len());
                for (slot, stats) in stats {
                    prop_assert!(difference[slot].cpu_usec <= stats.cpu_usec);
                    prop_assert_eq!(difference[slot].keys, stats.keys);
                }
            }
        }
    }
}
