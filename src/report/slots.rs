//! The result of `slots`: the load of masters, and the hottest slots.

use serde::Serialize;

use super::node::Node;
use super::values::words;
use crate::cluster::slot::Slot;
use crate::cluster::slot_stats::Metric;

words! {
    Metric: |metric| metric.word(), ["cpu", "network", "keys", "memory"];
}

/// The load of slots. It is counted over the sample for `cpu` (microseconds) and `network` (bytes), and is the current
/// number for `keys` and `memory` (bytes).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HeatView {
    /// What is measured.
    pub by: Metric,
    /// The length of the sample; null where one look is enough.
    pub sampled_ms: Option<u64>,
    /// The masters that were measured, those with the most load first.
    pub masters: Vec<MasterHeat>,
    /// The slots with the most load, the hottest first.
    pub slots: Vec<SlotHeat>,
    /// Masters that could not be measured.
    pub failures: Vec<Unmeasured>,
}

/// The load of a master.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MasterHeat {
    /// The master.
    #[serde(flatten)]
    pub node: Node,
    /// The number of its slots.
    pub slot_count: usize,
    /// The load of its slots.
    pub load: u128,
    /// Its part of the load of all masters, 0 to 1.
    pub cluster_share: f64,
}

/// The load of a slot.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SlotHeat {
    /// The slot.
    pub slot: Slot,
    /// Its owner.
    pub node: Node,
    /// Its load.
    pub load: u64,
    /// Its part of the load of its owner, 0 to 1.
    pub share: f64,
    /// Its part of the load of all masters, 0 to 1.
    pub cluster_share: f64,
    /// The number of its keys.
    pub keys: Option<u64>,
    /// The time that its commands took on the main thread during the sample; null if the statistic is off.
    pub cpu_usec: Option<u64>,
    /// Bytes received during the sample; null if the statistic is off.
    pub network_bytes_in: Option<u64>,
    /// Bytes sent during the sample; null if the statistic is off.
    pub network_bytes_out: Option<u64>,
    /// Bytes of its keys; null if the statistic is off.
    pub memory_bytes: Option<u64>,
}

/// A master that could not be measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unmeasured {
    /// The master.
    pub node: Node,
    /// Why.
    pub error: String,
}

/// The plan of `slots --enable-stats`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StatisticsView {
    /// The masters whose setting changes for the time of the sample.
    pub nodes: Vec<StatisticsOf>,
    /// The commands that restore the settings if redis-trib is killed.
    pub restore: Vec<Vec<String>>,
}

/// The setting of a master.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StatisticsOf {
    /// The master.
    pub node: Node,
    /// The value of `cluster-slot-stats-enabled` now, and after the sample.
    pub now: String,
}
