//! `slots`: the load of slots, from two samples of the statistics of every master.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::Instant;

use crate::client::{ClientError, SLOT_STATS_SETTING};
use crate::cluster::node::NodeId;
use crate::cluster::slot::Slot;
use crate::cluster::slot_stats::{Metric, NodeStats, SlotStats, between, hottest, load_of, part};
use crate::connections::{Connections, Target};
use crate::discover;
use crate::report::{HeatView, MasterHeat, SlotHeat, Unmeasured};
use crate::session::Session;
use crate::state::{ClusterState, name};
use crate::stop::Stop;

mod statistics;

pub(crate) use statistics::{StatisticsPlan, plan, with_statistics};

/// What is measured, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeatRequest {
    /// The metric.
    pub(crate) by: Metric,
    /// The time between two samples of counters.
    pub(crate) time: Duration,
    /// How many slots are shown.
    pub(crate) top: usize,
}

/// The load of the slots of each master.
pub(crate) struct Sample {
    /// The statistics of each master: counters over the sample.
    pub(crate) nodes: BTreeMap<NodeId, NodeStats>,
    /// The length of the sample; `None` if there was one look only.
    pub(crate) took: Option<Duration>,
    /// Why masters could not be measured.
    pub(crate) failures: BTreeMap<NodeId, Missing>,
}

/// Why a master could not be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It does not answer, or with an error.
    NoAnswer(String),
    /// The server has no CLUSTER SLOT-STATS.
    Unsupported,
    /// The statistic is off.
    Off,
}

impl Missing {
    /// In words.
    pub(crate) fn why(&self, by: Metric) -> String {
        match self {
            Self::NoAnswer(why) => why.clone(),
            Self::Unsupported => {
                "it has no CLUSTER SLOT-STATS (Redis ≥ 8.2, Valkey ≥ 8.0)".to_string()
            }
            Self::Off if by == Metric::Memory => format!(
                "it does not count the memory of slots (Redis ≥ 8.6, started with {SLOT_STATS_SETTING} yes)"
            ),
            Self::Off => format!("{SLOT_STATS_SETTING} is off"),
        }
    }
}

/// Measures the load and shows the hottest slots. Refuses if no master could be measured.
pub(crate) async fn heat(session: &Session, request: HeatRequest) -> Result<HeatView, Stop> {
    let cluster = ClusterState::look(session).await?;
    let sample = sample(session, &cluster, request.by, request.time).await;
    view(&cluster, request, &sample)
}

/// Takes two samples of every master that owns slots; one if the metric is no counter.
pub(crate) async fn sample(
    session: &Session,
    cluster: &ClusterState,
    by: Metric,
    time: Duration,
) -> Sample {
    let owners = cluster.owners();
    let mut failures = BTreeMap::new();
    let mut targets = Vec::new();
    for owner in owners.iter().filter(|owner| !owner.slots.is_empty()) {
        let node = cluster.diagnosis.observation.nodes.get(&owner.id);
        let report = node.and_then(|node| node.report());
        let reach = cluster.reach.get(&owner.id);
        let (Some(report), Some(target)) = (report, reach) else {
            let why = cluster.diagnosis.observation.why_absent(owner.id);
            failures.insert(owner.id, Missing::NoAnswer(why));
            continue;
        };
        let databases = report.info.keys.iter().map(|(database, _)| *database);
        targets.push(Measured {
            id: owner.id,
            target: target.clone(),
            slots: owner.slots.iter().collect(),
            databases: databases.collect(),
        });
    }
    let first = look(session, &targets, by, &mut failures).await;
    if !by.is_counter() || first.is_empty() {
        let nodes = first.into_iter().map(|(id, (stats, _))| (id, stats));
        return Sample {
            nodes: nodes.collect(),
            took: None,
            failures,
        };
    }
    targets.retain(|one| first.contains_key(&one.id));
    let time_shown = humantime::format_duration(time);
    session
        .events
        .waiting(format!("measuring for {time_shown}"));
    let until = Instant::now() + time;
    tokio::time::sleep_until(until).await;
    let second = look(session, &targets, by, &mut failures).await;
    let mut nodes = BTreeMap::new();
    let mut took = Duration::ZERO;
    for (id, (stats, at)) in second {
        let Some((earlier, began)) = first.get(&id) else {
            continue;
        };
        took = took.max(at.duration_since(*began));
        nodes.insert(id, between(earlier, &stats));
    }
    Sample {
        nodes,
        took: Some(took),
        failures,
    }
}

/// A master to measure.
#[derive(Clone)]
struct Measured {
    id: NodeId,
    target: Target,
    slots: BTreeSet<Slot>,
    databases: Vec<u32>,
}

/// One sample of every master, with its time.
async fn look(
    session: &Session,
    targets: &[Measured],
    by: Metric,
    failures: &mut BTreeMap<NodeId, Missing>,
) -> BTreeMap<NodeId, (NodeStats, Instant)> {
    let asking = session
        .connections
        .fan_out(targets.to_vec(), |connections, one| async move {
            let id = one.id;
            (id, stats_of(&connections, one, by).await, Instant::now())
        });
    let mut nodes = BTreeMap::new();
    for (id, stats, at) in asking.await {
        match stats {
            Ok(stats) => drop(nodes.insert(id, (stats, at))),
            Err(why) => drop(failures.insert(id, why)),
        }
    }
    nodes
}

async fn stats_of(
    connections: &Arc<Connections>,
    one: Measured,
    by: Metric,
) -> Result<NodeStats, Missing> {
    let no_answer = |error: ClientError| Missing::NoAnswer(error.fault.to_string());
    // The connection is kept for the second sample.
    let client = connections.client(&one.target).await.map_err(no_answer)?;
    let stats = client.cluster_slot_stats().await.map_err(no_answer)?;
    let mut stats = match (stats, by) {
        (Some(stats), _) => stats,
        // Keys can be counted on every version.
        (None, Metric::Keys) => {
            let slots: Vec<Slot> = one.slots.iter().copied().collect();
            let counts =
                discover::count_keys(connections, &one.target, &one.databases, &slots).await;
            let counts = counts.map_err(no_answer)?;
            let of_keys = |keys| SlotStats {
                keys: Some(keys),
                ..SlotStats::default()
            };
            slots
                .into_iter()
                .zip(counts.into_iter().map(of_keys))
                .collect()
        }
        (None, _) => return Err(Missing::Unsupported),
    };
    if stats.values().any(|stats| stats.load(by).is_none()) {
        return Err(Missing::Off);
    }
    // A server that names slots of others is not believed.
    stats.retain(|slot, _| one.slots.contains(slot));
    Ok(stats)
}

/// What is shown of a sample.
fn view(cluster: &ClusterState, request: HeatRequest, sample: &Sample) -> Result<HeatView, Stop> {
    let by = request.by;
    refuse_unmeasured(cluster, sample, by)?;
    let named = |id: NodeId| name(&cluster.diagnosis, id);
    let all: u128 = sample.nodes.values().map(|stats| load_of(stats, by)).sum();
    let mut masters: Vec<MasterHeat> = sample
        .nodes
        .iter()
        .map(|(id, stats)| {
            let load = load_of(stats, by);
            MasterHeat {
                node: named(*id),
                slot_count: stats.len(),
                load,
                cluster_share: part(load, all),
            }
        })
        .collect();
    masters.sort_by_key(|master| std::cmp::Reverse(master.load));
    let slots = hottest(&sample.nodes, by, request.top);
    let slots = slots.into_iter().map(|hot| SlotHeat {
        slot: hot.slot,
        node: named(hot.owner),
        load: hot.load,
        share: hot.share,
        cluster_share: hot.cluster_share,
        keys: hot.stats.keys,
        cpu_usec: hot.stats.cpu_usec.filter(|_| by.is_counter()),
        network_bytes_in: hot.stats.bytes_in.filter(|_| by.is_counter()),
        network_bytes_out: hot.stats.bytes_out.filter(|_| by.is_counter()),
        memory_bytes: hot.stats.memory,
    });
    let failures = sample.failures.iter().map(|(id, why)| Unmeasured {
        node: named(*id),
        error: why.why(by),
    });
    Ok(HeatView {
        by,
        sampled_ms: sample
            .took
            .map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        masters,
        slots: slots.collect(),
        failures: failures.collect(),
    })
}

/// Refuses a sample without any master, with the reasons.
fn refuse_unmeasured(cluster: &ClusterState, sample: &Sample, by: Metric) -> Result<(), Stop> {
    if !sample.nodes.is_empty() || sample.failures.is_empty() {
        return Ok(());
    }
    Err(unmeasured(cluster, sample, by))
}

/// The refusal that names the masters that could not be measured, and what helps.
pub(crate) fn unmeasured(cluster: &ClusterState, sample: &Sample, by: Metric) -> Stop {
    const SHOWN: usize = 5;
    let failures = sample.failures.iter().take(SHOWN);
    let mut lines: Vec<String> = failures
        .map(|(id, why)| format!("{}: {}", cluster.name(*id), why.why(by)))
        .collect();
    if let Some(more) = sample.failures.len().checked_sub(SHOWN).filter(|n| *n > 0) {
        lines.push(format!("and {more} more"));
    }
    let is_off = sample.failures.values().any(|why| *why == Missing::Off);
    let remedy = match by.is_counter() && is_off {
        true => format!(
            "\n`redis-trib slots {} --enable-stats` turns the statistics on for a sample; to keep them on, set \
             {SLOT_STATS_SETTING} to yes (Redis ≥ 8.6: to \"cpu net\") on every node",
            cluster.resume_seed()
        ),
        false => String::new(),
    };
    Stop::refused(anyhow!(
        "the {} of slots can't be measured:\n  {}{remedy}",
        match by {
            Metric::Cpu => "CPU time",
            Metric::Network => "network traffic",
            Metric::Keys => "keys",
            Metric::Memory => "memory",
        },
        lines.join("\n  ")
    ))
}
