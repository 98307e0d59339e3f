//! `--max-latency`: how long the nodes of a run take to answer, and what follows from that.
//!
//! Each node is sent PING 100 times a second on a connection of its own. Before the first slot is opened, nothing moves for
//! [`IDLE`]: what is measured then, at the 99th percentile, is the node's own latency and that of its clients. Only what the
//! move adds counts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use super::End;
use super::pace::{Adapted, Share};
use super::regulator::{Measuring, Regulator};
use crate::cluster::node::NodeId;
use crate::connections::{Connections, Target};
use crate::event::{Event, Pair};

/// The interval between two PINGs to a node.
const EVERY: Duration = Duration::from_millis(10);
/// How many samples of a node count.
const KEPT: usize = 500;
/// How many samples a look needs, at least.
const FEWEST: usize = 20;
/// How many of them, before the share is cut again: half a second after the last cut.
const TO_CUT: usize = 50;
/// How long the idle latency is measured.
const IDLE: Duration = Duration::from_secs(2);
/// The interval between two looks at the samples.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The least time between two steps up.
const GROW_EVERY: Duration = Duration::from_secs(1);
/// The least time between two notes to the user.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Before a connection that broke is opened again.
const BREATH: Duration = Duration::from_secs(1);

/// How long the last PINGs to a node took.
#[derive(Debug, Default)]
pub(super) struct Samples {
    last: VecDeque<Duration>,
    /// How many of them were taken since the share was cut. The others tell what a task cost that began before.
    fresh: usize,
}

impl Samples {
    /// Adds a PING that took so long. While it waited, the next ones could not be sent: they count as if they had been.
    fn add(&mut self, took: Duration) {
        let mut took = took;
        for _ in 0..KEPT {
            if self.last.len() == KEPT {
                self.last.pop_front();
            }
            self.last.push_back(took);
            self.fresh = KEPT.min(self.fresh + 1);
            took = match took.checked_sub(EVERY) {
                Some(rest) if !rest.is_zero() => rest,
                _ => return,
            };
        }
    }

    /// The 99th percentile of the last `count` samples; `None` if there are too few.
    pub(super) fn percentile(&self, count: usize) -> Option<Duration> {
        let mut last: Vec<Duration> = self.last.iter().rev().take(count).copied().collect();
        if last.len() < FEWEST {
            return None;
        }
        last.sort_unstable();
        // The smallest that at least 99 of 100 do not exceed.
        last.get((last.len() * 99).div_ceil(100) - 1).copied()
    }
}

/// How many samples are taken in that time, as far as they are kept.
pub(super) fn samples_within(time: Duration) -> usize {
    let samples = time.as_millis() / EVERY.as_millis();
    usize::try_from(samples).unwrap_or(KEPT).clamp(FEWEST, KEPT)
}

/// Keeps the latency of a run below its limit, as long as there is one.
pub(super) async fn regulate(
    regulator: &Arc<Regulator>,
    ends: &BTreeMap<NodeId, End>,
    connections: &Arc<Connections>,
) -> Infallible {
    let mut settings = regulator.control().subscribe();
    loop {
        // The sender lives as long as the regulator.
        let _ = settings
            .wait_for(|settings| settings.max_latency.is_some())
            .await;
        regulator.measure(Measuring::Now);
        regulator.at_rest().await;
        regulator.latency().clear();
        let mut probes = JoinSet::new();
        for end in ends.values() {
            let (regulator, connections) = (Arc::clone(regulator), Arc::clone(connections));
            probes.spawn(probe(regulator, connections, end.id, end.target.clone()));
        }
        let lifted = async {
            let _ = settings
                .wait_for(|settings| settings.max_latency.is_none())
                .await;
        };
        // A limit that is lifted meanwhile needs no measurement.
        if timeout(IDLE, lifted).await.is_ok() {
            regulator.measure(Measuring::Over);
            continue;
        }
        learn_idle(regulator, ends);
        regulator.set_share(Share::first());
        regulator.measure(Measuring::Over);
        keep_limit(regulator, ends).await;
        regulator.set_share(Share::full());
    }
}

/// Sends PINGs to a node.
async fn probe(
    regulator: Arc<Regulator>,
    connections: Arc<Connections>,
    id: NodeId,
    target: Target,
) {
    loop {
        if let Ok(client) = connections.own(&target).await {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let sent = Instant::now();
                // With --verbose, these lines would bury all others.
                let answer = client.ping().with_subscriber(Dispatch::none()).await;
                let mut latency = regulator.latency();
                latency.entry(id).or_default().samples.add(sent.elapsed());
                drop(latency);
                // An error is an answer, too.
                if answer.is_err_and(|error| error.outcome_unknown()) {
                    break;
                }
            }
        }
        sleep(BREATH).await;
    }
}

/// Takes what was measured as the idle latency.
fn learn_idle(regulator: &Regulator, ends: &BTreeMap<NodeId, End>) {
    let mut unknown = Vec::new();
    let mut latency = regulator.latency();
    for end in ends.values() {
        let latency = latency.entry(end.id).or_default();
        latency.idle = latency.samples.percentile(KEPT);
        latency.samples = Samples::default();
        match latency.idle {
            Some(idle) => tracing::info!(node = %end, ?idle, "idle latency"),
            None => unknown.push(end.to_string()),
        }
    }
    drop(latency);
    if !unknown.is_empty() {
        regulator.tell(Event::Warning(format!(
            "--max-latency does not hold for {}: the idle latency could not be measured",
            unknown.join(", ")
        )));
    }
}

/// The node with the highest added latency, of those between which slots move.
fn worst(regulator: &Regulator, loaded: &BTreeSet<NodeId>) -> Option<Worst> {
    let mut latency = regulator.latency();
    let mut worst: Option<Worst> = None;
    for (id, latency) in &mut *latency {
        if !loaded.contains(id) {
            latency.samples = Samples::default();
            continue;
        }
        let samples = latency.samples.fresh;
        let added = latency.added(samples);
        if let (Some(added), Some(idle)) = (added, latency.idle)
            && worst.as_ref().is_none_or(|worst| added > worst.added)
        {
            worst = Some(Worst {
                node: *id,
                added,
                idle,
                samples,
            });
        }
    }
    worst
}

struct Worst {
    node: NodeId,
    added: Duration,
    idle: Duration,
    samples: usize,
}

/// Adapts the share of the run until there is no limit any more.
async fn keep_limit(regulator: &Regulator, ends: &BTreeMap<NodeId, End>) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changed = Instant::now();
    let mut told: Option<Instant> = None;
    let mut is_floor_told = false;
    loop {
        looks.tick().await;
        let Some(limit) = regulator.control().settings().max_latency else {
            return;
        };
        let loaded = regulator.loaded();
        let Some(worst) = worst(regulator, &loaded) else {
            continue;
        };
        let is_due = match worst.added > limit {
            true => worst.samples >= TO_CUT,
            false => changed.elapsed() >= GROW_EVERY,
        };
        if !is_due {
            continue;
        }
        let mut share = regulator.share();
        let was_at_floor = share.is_at_floor();
        let adapted = share.adapt(worst.added, limit, regulator.growth(&loaded));
        regulator.set_share(share);
        changed = Instant::now();
        if adapted != Adapted::Cut {
            continue;
        }
        for latency in regulator.latency().values_mut() {
            latency.samples.fresh = 0;
        }
        let name = ends
            .get(&worst.node)
            .map_or_else(|| worst.node.short(), ToString::to_string);
        let (added, idle) = (milliseconds(worst.added), milliseconds(worst.idle));
        if was_at_floor && !is_floor_told {
            is_floor_told = true;
            let cause = match slow_target(regulator, worst.node, limit) {
                Some((target, idle)) => {
                    let target = ends
                        .get(&target)
                        .map_or_else(|| target.short(), ToString::to_string);
                    format!(
                        "each MIGRATE waits for {target}, which answers after {} even when it is idle (slow commands of its \
                         clients?), and the clients of the source wait with it",
                        milliseconds(idle)
                    )
                }
                None => "other clients may be the cause".to_string(),
            };
            regulator.tell(Event::Warning(format!(
                "{name} still answers {added} later than when it was idle, though the move is as slow as it can be: {cause}"
            )));
        } else if !was_at_floor && told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            told = Some(Instant::now());
            regulator.tell(Event::Note(format!(
                "{name} answers {added} later than when it was idle ({idle}): the move slows down"
            )));
        }
    }
}

/// A target whose own idle latency is above the limit, if slots move from `source` to one, and that latency.
fn slow_target(
    regulator: &Regulator,
    source: NodeId,
    limit: Duration,
) -> Option<(NodeId, Duration)> {
    let pairs: Vec<Pair> = regulator.seated();
    let latency = regulator.latency();
    let targets = pairs.iter().filter(|pair| pair.from == source);
    let slow = targets.filter_map(|pair| Some((pair.to, latency.get(&pair.to)?.idle?)));
    slow.filter(|(_, idle)| *idle > limit)
        .max_by_key(|(_, idle)| *idle)
}

/// `0.4 ms`.
fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_limit_that_is_lifted_while_it_is_measured_needs_no_latency() {
        use crate::client::{Connector, Login, Transport};
        use crate::cluster::node::Addr;
        use crate::connections::DialOptions;
        use crate::control::{Control, Settings};
        use crate::migrate::StopSignal;
        let connector = Connector {
            connect_timeout: Duration::from_secs(1),
            command_timeout: Duration::from_secs(1),
            name: None,
            journal: None,
            sent: Default::default(),
        };
        let connections = Arc::new(Connections::new(connector, Vec::new(), 4));
        let id = |n: u8| -> NodeId { format!("{n:040x}").parse().unwrap() };
        // Nothing answers there, so its latency can't be measured.
        let addr = Addr::new("127.0.0.1", 1);
        let end = End {
            id: id(1),
            target: Target {
                addr: addr.clone(),
                node: None,
                access: Arc::new(DialOptions {
                    login: Login::default(),
                    transport: Transport::Plain,
                }),
            },
            peer: addr,
            other_peers: Vec::new(),
            peers_of_sources: BTreeMap::new(),
            login: Login::default(),
        };
        let ends = BTreeMap::from([(end.id, end)]);
        let control = Control::default();
        control.begin(Settings {
            max_latency: Some(Duration::from_millis(5)),
            ..Settings::default()
        });
        let (events, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let stop = StopSignal::default();
        let regulator = Arc::new(Regulator::new(
            control.clone(),
            &BTreeMap::new(),
            events,
            stop.soon.clone(),
        ));
        let seat = regulator.enter(Pair {
            from: id(1),
            to: id(2),
        });
        let lifted = async {
            sleep(Duration::from_millis(50)).await;
            control.set(Settings::default());
            seat.take(&stop).await
        };
        tokio::select! {
            is_seated = lifted => assert!(is_seated),
            never = regulate(&regulator, &ends, &connections) => match never {},
        }
        assert_eq!(heard.try_recv().ok(), None);
    }

    fn samples(took: impl IntoIterator<Item = u64>) -> Samples {
        let mut samples = Samples::default();
        for took in took {
            samples.add(Duration::from_millis(took));
        }
        samples
    }

    #[test]
    fn one_slow_answer_in_a_hundred_is_not_the_99th_percentile() {
        let one = samples((0..99).map(|_| 1).chain([9]));
        assert_eq!(one.percentile(KEPT), Some(Duration::from_millis(1)));
        let two = samples((0..98).map(|_| 1).chain([9, 9]));
        assert_eq!(two.percentile(KEPT), Some(Duration::from_millis(9)));
        assert_eq!(two.percentile(FEWEST), Some(Duration::from_millis(9)));
        assert_eq!(samples([1; 19]).percentile(KEPT), None);
    }

    #[test]
    fn answers_that_could_not_be_waited_for_count() {
        let stalled = samples([35]);
        let millis: Vec<u128> = stalled.last.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [35, 25, 15, 5]);
        // However long it takes, no more are kept.
        assert_eq!(samples([1, 3_600_000]).last.len(), KEPT);
    }

    #[test]
    fn a_cut_hides_no_stall_from_the_cost_of_a_task() {
        let mut samples = samples((0..60).map(|_| 60));
        samples.fresh = 0;
        (0..30).for_each(|_| samples.add(Duration::from_millis(1)));
        let millis = |count| samples.percentile(count).map(|time| time.as_millis());
        assert_eq!(millis(samples.fresh), Some(1));
        assert_eq!(millis(samples_within(Duration::from_secs(1))), Some(60));
    }

    #[test]
    fn the_time_of_a_task_is_a_number_of_samples() {
        assert_eq!(samples_within(Duration::ZERO), FEWEST);
        assert_eq!(samples_within(Duration::from_secs(1)), 100);
        assert_eq!(samples_within(Duration::from_secs(3600)), KEPT);
    }
}
