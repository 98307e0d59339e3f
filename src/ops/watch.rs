//! `watch`: looks at every node again and again, in one pipelined round each. It only reads.
//!
//! Every node tells of itself (INFO) with each tick. A few in turn, and masters whose slots move, are asked for CLUSTER
//! NODES and CLUSTER INFO too. The findings come from a whole check, which runs beside the ticks now and then.

mod frame;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::client::{AsmTask, ClientError, NodeClient, Side, TaskEnd};
use crate::cluster::health::{Background, Diagnosis};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::{ClusterInfo, Direction, EntryPool, Info, Product, Version};
use crate::cluster::slot::Slot;
use crate::cluster::watch::{self, Answers, Change, KeysLeft, Sample, Snapshot, keys_moved};
use crate::connections::{Connections, DialOptions, Target};
use crate::discover::{self, Found};
use crate::report::WatchView;
use crate::session::Session;
use crate::stop::Stop;

/// How many nodes are asked in turn for their view of the cluster, besides masters whose slots move.
const IN_TURN: usize = 8;

/// The time between two checks. A change brings the next one forward.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// The shortest time between two checks.
const CHECK_AGAIN: Duration = Duration::from_secs(1);

/// How long a pair of nodes is shown after its last slot moved.
const MOTION_SHOWN: Duration = Duration::from_secs(10);

/// Looks at a cluster again and again.
pub(crate) struct Watcher {
    connections: Arc<Connections>,
    seeds: Vec<Target>,
    /// The access to nodes that are found later.
    access: Arc<DialOptions>,
    /// How each node is reached.
    targets: BTreeMap<NodeId, Target>,
    began: Instant,
    /// The longest wait for a node.
    patience: Duration,
    turn: usize,
    snapshot: Snapshot,
    readings: BTreeMap<NodeId, Reading>,
    silent: BTreeMap<NodeId, String>,
    tasks: Vec<(NodeId, AsmTask)>,
    motions: BTreeMap<(NodeId, NodeId), Motion>,
    ticked: Option<Instant>,
    check: Check,
}

/// What a node told of itself, and before that.
struct Reading {
    info: Info,
    sample: Sample,
    before: Option<Sample>,
}

/// Slots in motion between two nodes.
#[derive(Default)]
struct Motion {
    keys: KeysLeft,
    /// Keys that left the source since the tick before.
    keys_moved: Option<u64>,
    slots_moved: usize,
    last: Option<Instant>,
}

/// What a check has found, and how nodes are reached; `None` if no node answers.
type Checked = Option<(Diagnosis, BTreeMap<NodeId, Target>)>;

/// The check that runs beside the ticks.
struct Check {
    running: Option<JoinHandle<Checked>>,
    last: Option<Diagnosis>,
    started: Instant,
    is_due: bool,
}

impl Drop for Check {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

/// What is asked of a node.
#[derive(Clone, Copy)]
struct Question {
    /// CLUSTER NODES and CLUSTER INFO.
    view: bool,
    /// The ASM tasks of a master that has them.
    tasks: Option<Product>,
}

/// What a node answered.
struct Answer {
    info: String,
    sampled: Instant,
    view: Option<(String, String)>,
    tasks: Vec<AsmTask>,
}

impl Watcher {
    /// Finds the cluster.
    pub(crate) async fn begin(session: &Session, interval: Duration) -> Result<Self, Stop> {
        let connections = Arc::clone(&session.connections);
        // Two processes with one node id take seconds to find: `check` looks for them.
        connections.watch_no_more();
        let seeds = session.targets();
        let found = discover::examine(&connections, &seeds).await?;
        let targets = targets_of(&found);
        let lead = targets.get(&found.observation.lead);
        let Some(access) = lead.or(seeds.first()).map(|one| Arc::clone(&one.access)) else {
            return Err(Stop::refused(anyhow::anyhow!("no node was named")));
        };
        let now = Instant::now();
        Ok(Self {
            connections,
            seeds,
            access,
            targets,
            began: now,
            patience: interval.clamp(Duration::from_millis(500), Duration::from_secs(2)),
            turn: 0,
            snapshot: Snapshot::default(),
            readings: BTreeMap::new(),
            silent: BTreeMap::new(),
            tasks: Vec::new(),
            motions: BTreeMap::new(),
            ticked: None,
            check: Check {
                running: None,
                last: Some(Diagnosis::of(found.observation, &Background::default())),
                started: now,
                is_due: false,
            },
        })
    }

    /// Looks at all nodes, and tells what has changed since the last tick.
    pub(crate) async fn tick(&mut self) -> WatchView {
        let started = Instant::now();
        let answers = self.ask().await;
        let next = self.read(answers);
        let next = self.snapshot.next(&next);
        self.learn_targets(&next);
        // The first tick finds the cluster; nothing has changed yet.
        let changes = match self.ticked {
            Some(_) => watch::between(&self.snapshot, &next),
            None => Vec::new(),
        };
        self.snapshot = next;
        self.follow_motion(&changes, started).await;
        self.check.is_due |= !changes.is_empty();
        self.run_check().await;
        let since = self.ticked.replace(started).map(|last| started - last);
        self.frame(now_ms(), since, &changes)
    }

    /// Asks all nodes side by side.
    async fn ask(&mut self) -> Vec<(NodeId, Result<Answer, String>)> {
        let ids: Vec<NodeId> = self.targets.keys().copied().collect();
        let in_turn: BTreeSet<NodeId> = (0..IN_TURN.min(ids.len()))
            .map(|i| ids[(self.turn + i) % ids.len()])
            .collect();
        self.turn = (self.turn + IN_TURN) % ids.len().max(1);
        let moving: BTreeSet<NodeId> = self
            .motions
            .keys()
            .flat_map(|(from, to)| [*from, *to])
            .collect();
        let questions: Vec<(NodeId, Target, Question)> = self
            .targets
            .iter()
            .map(|(id, target)| {
                let question = Question {
                    view: in_turn.contains(id) || moving.contains(id),
                    tasks: self.has_tasks(*id),
                };
                (*id, target.clone(), question)
            })
            .collect();
        let patience = self.patience;
        let asking = self.connections.fan_out(
            questions,
            |connections, (id, target, question)| async move {
                let asked = timeout(patience, ask(&connections, &target, question)).await;
                let answer = match asked {
                    Ok(answer) => answer.map_err(|error| error.fault.to_string()),
                    Err(_) => {
                        // The next question must not wait behind this one.
                        connections.drop_client(&target);
                        Err(format!("no answer in {} ms", patience.as_millis()))
                    }
                };
                (id, answer)
            },
        );
        asking.await
    }

    /// The product of a master that has ASM tasks.
    fn has_tasks(&self, id: NodeId) -> Option<Product> {
        let is_master = self.snapshot.nodes.get(&id)?.role == Role::Master;
        let version = self.readings.get(&id)?.info.version;
        let version = version.filter(|version: &Version| version.can_migrate_atomically())?;
        is_master.then_some(version.product)
    }

    /// Reads what the nodes answered.
    fn read(&mut self, answered: Vec<(NodeId, Result<Answer, String>)>) -> Answers {
        let mut answers = Answers::default();
        // Lines change with every slot: a pool that is kept would grow.
        let mut pool = EntryPool::default();
        let mut readings = BTreeMap::new();
        self.silent.clear();
        self.tasks.clear();
        for (id, answer) in answered {
            let answer = match answer {
                Ok(answer) => answer,
                Err(why) => {
                    self.silent.insert(id, why);
                    continue;
                }
            };
            if let Some((nodes, info)) = &answer.view {
                match pool.view(nodes) {
                    Ok(view) => {
                        let info = ClusterInfo::parse(info);
                        answers.is_ok = Some(answers.is_ok.unwrap_or(true) && info.ok);
                        answers.current_epoch = answers.current_epoch.max(info.current_epoch);
                        answers.views.push(view);
                    }
                    Err(error) => {
                        self.silent.insert(id, error.to_string());
                        continue;
                    }
                }
            }
            let at = answer.sampled.duration_since(self.began).as_millis();
            let reading = Reading {
                info: Info::parse(&answer.info),
                sample: Sample::parse(&answer.info, u64::try_from(at).unwrap_or(u64::MAX)),
                before: self.readings.remove(&id).map(|before| before.sample),
            };
            answers.up.insert(id, reading.info.run_id.clone());
            readings.insert(id, reading);
            self.tasks
                .extend(answer.tasks.into_iter().map(|task| (id, task)));
        }
        self.readings = readings;
        answers
    }

    /// Learns how new members are reached.
    fn learn_targets(&mut self, snapshot: &Snapshot) {
        self.targets
            .retain(|id, _| snapshot.nodes.is_empty() || snapshot.nodes.contains_key(id));
        for (id, node) in &snapshot.nodes {
            let is_known = self.targets.contains_key(id);
            let Some(addr) = node.addr.as_ref().filter(|_| !is_known) else {
                continue;
            };
            let addr = self.connections.dial_of(addr);
            if let Some(hostname) = &node.hostname {
                self.connections.note_hostname(&addr, hostname);
            }
            let target = Target {
                addr,
                node: Some(*id),
                access: Arc::clone(&self.access),
            };
            self.targets.insert(*id, target);
        }
    }

    /// Follows slots that move: those that are open, and those that have another owner now.
    async fn follow_motion(&mut self, changes: &[Change], now: Instant) {
        let mut open: BTreeMap<(NodeId, NodeId), Vec<Slot>> = BTreeMap::new();
        let masters = self.snapshot.nodes.iter();
        for (id, node) in masters.filter(|(_, node)| node.role == Role::Master) {
            for slot in &node.open {
                let pair = match slot.direction {
                    Direction::Migrating => (*id, slot.peer),
                    Direction::Importing => (slot.peer, *id),
                };
                let slots = open.entry(pair).or_default();
                if !slots.contains(&slot.slot) {
                    slots.push(slot.slot);
                }
            }
        }
        for change in changes {
            if let Change::SlotsMoved {
                from: Some(from),
                to: Some(to),
                slots,
            } = change
            {
                let motion = self.motions.entry((*from, *to)).or_default();
                motion.slots_moved += slots.count();
                motion.last = Some(now);
            }
        }
        for pair in open.keys() {
            self.motions.entry(*pair).or_default().last = Some(now);
        }
        let sources: Vec<_> = open
            .into_iter()
            .filter_map(|(pair, slots)| Some((pair, self.targets.get(&pair.0)?.clone(), slots)))
            .collect();
        let patience = self.patience;
        let counting =
            self.connections
                .fan_out(sources, |connections, (pair, target, slots)| async move {
                    let counted = timeout(patience, async {
                        let client = connections.client(&target).await.ok()?;
                        client.cluster_countkeysinslot(0, &slots).await.ok()
                    });
                    let counts = counted.await.ok().flatten();
                    (pair, counts.map(|counts| slots.into_iter().zip(counts)))
                });
        let counted: BTreeMap<_, _> = counting.await.into_iter().collect();
        self.motions.retain(|_, motion| {
            motion
                .last
                .is_some_and(|last| now.duration_since(last) < MOTION_SHOWN)
        });
        let mut counted = counted;
        for (pair, motion) in &mut self.motions {
            let keys: KeysLeft = match counted.remove(pair) {
                Some(Some(keys)) => keys.collect(),
                // It could not be asked: what it had is what is known.
                Some(None) => motion.keys.clone(),
                None => KeysLeft::new(),
            };
            motion.keys_moved = Some(keys_moved(&motion.keys, &keys));
            motion.keys = keys;
        }
    }

    /// Takes the result of a check that has ended, and starts the next one if it is due.
    async fn run_check(&mut self) {
        if self
            .check
            .running
            .as_ref()
            .is_some_and(JoinHandle::is_finished)
            && let Some(running) = self.check.running.take()
            && let Ok(Some((diagnosis, found))) = running.await
        {
            // A node that was restarted may have another address.
            let lost = found.into_iter();
            self.targets
                .extend(lost.filter(|(id, _)| self.silent.contains_key(id)));
            self.check.last = Some(diagnosis);
        }
        let age = self.check.started.elapsed();
        let is_time = age >= CHECK_EVERY || (self.check.is_due && age >= CHECK_AGAIN);
        if self.check.running.is_some() || !is_time {
            return;
        }
        self.check.started = Instant::now();
        self.check.is_due = false;
        let connections = Arc::clone(&self.connections);
        // The nodes that were named may be gone.
        let up = self.readings.keys().filter_map(|id| self.targets.get(id));
        let mut seeds: Vec<Target> = up.take(3).cloned().collect();
        if seeds.is_empty() {
            seeds.clone_from(&self.seeds);
        }
        self.check.running = Some(tokio::spawn(async move {
            let found = discover::examine(&connections, &seeds).await.ok()?;
            let targets = targets_of(&found);
            let diagnosis = Diagnosis::of(found.observation, &Background::default());
            Some((diagnosis, targets))
        }));
    }
}

fn targets_of(found: &Found) -> BTreeMap<NodeId, Target> {
    let nodes = found.observation.nodes.values();
    nodes
        .filter_map(|node| Some((node.id, found.target_of(node)?)))
        .collect()
}

/// Asks a node everything in one round.
async fn ask(
    connections: &Connections,
    target: &Target,
    question: Question,
) -> Result<Answer, ClientError> {
    let client = connections.client(target).await?;
    let view = async {
        match question.view {
            true => {
                let (nodes, info) =
                    tokio::try_join!(client.cluster_nodes(), client.cluster_info())?;
                Ok(Some((nodes, info)))
            }
            false => Ok(None),
        }
    };
    let info = async {
        let info = client.info().await?;
        Ok((info, Instant::now()))
    };
    // The right to ask for tasks may be missing.
    let tasks = async { Ok(tasks(&client, question.tasks).await.unwrap_or_default()) };
    let ((info, sampled), view, tasks) = tokio::try_join!(info, view, tasks)?;
    Ok(Answer {
        info,
        sampled,
        view,
        tasks,
    })
}

/// The tasks that a node leads and that have not ended well.
async fn tasks(client: &NodeClient, product: Option<Product>) -> Result<Vec<AsmTask>, ClientError> {
    let (tasks, side) = match product {
        Some(Product::Valkey) => (client.cluster_getslotmigrations().await?, Side::Source),
        Some(Product::Redis) => (client.cluster_migration_status().await?, Side::Target),
        None => return Ok(Vec::new()),
    };
    let shown =
        |task: &AsmTask| task.side == side && task.end.is_none_or(|end| end == TaskEnd::Failed);
    // A server keeps a log of old failures: those after the last success count, the newest is first.
    let recent = tasks
        .into_iter()
        .take_while(|task| task.end != Some(TaskEnd::Done));
    Ok(recent.filter(shown).collect())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
