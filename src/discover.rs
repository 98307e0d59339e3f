//! From a few addresses to the whole cluster: every node that any member knows is looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

use crate::client::{AsmTask, ClientError, Fault, JobEnd, LoginOutcome, NodeClient, RawLook, Side};
use crate::cluster::holdings::{Held, Holdings};
use crate::cluster::merger;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::{
    Bystander, Observation, ObservedNode, ObservedTask, Report, Seen,
};
use crate::cluster::parse::{
    ClusterInfo, EntryPool, EntryState, Info, MAX_NODES, ParseError, Product, Version, View,
};
use crate::cluster::slot::{Slot, SlotSet};
use crate::cluster::topology::Topology;
use crate::connections::{Connections, DialOptions, Target};
use crate::exit_code::ExitCode;
use crate::stop::Stop;

/// Why seeds don't lead to one cluster.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// Nobody answered.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    NobodyAnswers(Vec<ClientError>),
    /// A node answers with something that is not its CLUSTER NODES.
    #[error("{addr}: {error}")]
    Unreadable {
        /// The node.
        addr: Addr,
        /// What is wrong with it.
        error: ParseError,
    },
    /// Two seeds don't know each other.
    #[error("{0} and {1} belong to different clusters: name nodes of one only")]
    TwoClusters(Addr, Addr),
}

/// A cluster as it was found: what was seen of its nodes, and how each of them is reached.
#[derive(Debug)]
pub struct Found {
    /// What was seen.
    pub observation: Observation,
    /// Named addresses at which nobody answered, or nobody who makes sense. Where it is a member
    /// that stands behind one, the observation says so too.
    pub silent_seeds: Vec<ClientError>,
    ways: Ways,
}

impl Found {
    /// How a node is reached; `None` where nobody knows its address.
    pub fn target_of(&self, node: &ObservedNode) -> Option<Target> {
        Some(self.ways.target(node.dial.clone()?))
    }
}

/// How nodes are logged in to: those that were named as their seed says, all others as the lead.
#[derive(Debug)]
struct Ways {
    lead: Arc<DialOptions>,
    named: HashMap<Addr, Arc<DialOptions>>,
}

impl Ways {
    fn target(&self, addr: Addr) -> Target {
        let access = self.named.get(&addr).unwrap_or(&self.lead);
        Target {
            access: Arc::clone(access),
            addr,
        }
    }
}

/// Looks at every node that can be found from the seeds.
pub async fn observe(
    connections: &Arc<Connections>,
    seeds: &[Target],
) -> Result<Observation, DiscoverError> {
    Ok(find(connections, seeds).await?.observation)
}

/// The same, for those who have more to ask the nodes.
pub async fn find(
    connections: &Arc<Connections>,
    seeds: &[Target],
) -> Result<Found, DiscoverError> {
    let mut survey = Survey::begin(connections, seeds).await?;
    survey.ask_the_rest().await;
    survey.observation.tell_first_syncs();
    survey.ask_for_links().await;
    survey.ask_for_jobs().await;
    survey.count_open_keys().await;
    Ok(Found {
        observation: survey.observation,
        silent_seeds: survey.silent_seeds,
        ways: survey.ways,
    })
}

/// An observation in the making.
struct Survey<'a> {
    connections: &'a Arc<Connections>,
    pool: Arc<Mutex<EntryPool>>,
    observation: Observation,
    silent_seeds: Vec<ClientError>,
    ways: Ways,
}

impl<'a> Survey<'a> {
    /// Asks all seeds side by side. The first in their order that is a member leads.
    async fn begin(
        connections: &'a Arc<Connections>,
        seeds: &[Target],
    ) -> Result<Self, DiscoverError> {
        let pool = Arc::default();
        let mut asked = JoinSet::new();
        for (i, seed) in seeds.iter().cloned().enumerate() {
            let (connections, pool) = (Arc::clone(connections), Arc::clone(&pool));
            asked.spawn(async move {
                let heard = hear(&connections, &seed, &pool).await;
                (i, seed, heard)
            });
        }
        let mut heard = asked.join_all().await;
        heard.sort_unstable_by_key(|(i, _, _)| *i);
        let mut silent_seeds = Vec::new();
        let mut unreadable = None;
        let mut answers = Vec::new();
        for (_, seed, heard) in heard {
            match heard {
                Ok(report) => answers.push((seed, report)),
                Err(ProbeError::Silent(error)) => silent_seeds.push(error),
                Err(ProbeError::Unreadable(error)) => {
                    unreadable.get_or_insert((seed.addr, error));
                }
            }
        }
        let lead = answers
            .iter()
            .position(|(_, report)| !is_alone(&report.view))
            .unwrap_or(0);
        let Some((seed, report)) = answers.get(lead) else {
            return Err(match unreadable {
                Some((addr, error)) => DiscoverError::Unreadable { addr, error },
                None => DiscoverError::NobodyAnswers(silent_seeds),
            });
        };
        let lead_addr = seed.addr.clone();
        let lead_view = report.view.clone();
        let named = seeds
            .iter()
            .map(|seed| (seed.addr.clone(), Arc::clone(&seed.access)));
        let mut survey = Self {
            connections,
            pool,
            observation: Observation {
                lead: lead_view.myself().id,
                nodes: BTreeMap::new(),
                bystanders: Vec::new(),
            },
            silent_seeds,
            ways: Ways {
                lead: Arc::clone(&seed.access),
                named: named.collect(),
            },
        };
        for (seed, report) in answers {
            let id = report.view.myself().id;
            if share_a_member(&report.view, &lead_view) {
                survey.add(id, Some(seed.addr), Seen::Report(Box::new(report)));
            } else if is_alone(&report.view) {
                let dial = seed.addr;
                survey.observation.bystanders.push(Bystander { id, dial });
            } else {
                return Err(DiscoverError::TwoClusters(lead_addr, seed.addr));
            }
        }
        Ok(survey)
    }

    /// Asks every node that a member names and that was not asked yet, until nobody names another.
    async fn ask_the_rest(&mut self) {
        loop {
            let unasked = self.unasked();
            let mut asked = JoinSet::new();
            for (id, dial) in unasked {
                let Some(dial) = dial else {
                    self.add(id, None, Seen::NoAddress);
                    continue;
                };
                let connections = Arc::clone(self.connections);
                let pool = Arc::clone(&self.pool);
                let target = self.ways.target(dial);
                asked.spawn(async move {
                    let heard = hear(&connections, &target, &pool).await;
                    (id, target.addr, heard)
                });
            }
            if asked.is_empty() {
                return;
            }
            while let Some(Ok((id, dial, heard))) = asked.join_next().await {
                let seen = match heard {
                    Err(ProbeError::Silent(error)) if error.fault == Fault::Loading => {
                        Seen::Loading
                    }
                    Err(ProbeError::Silent(error)) => Seen::Silent(error.fault.to_string()),
                    Err(ProbeError::Unreadable(error)) => Seen::Silent(error.to_string()),
                    Ok(report) if report.view.myself().id != id => {
                        Seen::Stranger(report.view.myself().id)
                    }
                    Ok(report) => Seen::Report(Box::new(report)),
                };
                self.add(id, Some(dial), seen);
            }
        }
    }

    /// Nodes that are named and were not asked, with an address where any member has one for them.
    /// Handshakes have passing ids, which nobody answers to: they have no address worth asking.
    fn unasked(&self) -> BTreeMap<NodeId, Option<Addr>> {
        let nodes = &self.observation.nodes;
        let mut unasked: BTreeMap<NodeId, Option<Addr>> = BTreeMap::new();
        for (_, report) in self.observation.reports() {
            for entry in report.view.entries() {
                if nodes.contains_key(&entry.id) || nodes.len() + unasked.len() >= MAX_NODES {
                    continue;
                }
                let dial = unasked.entry(entry.id).or_default();
                if dial.is_none() && entry.state != EntryState::Handshake {
                    *dial = entry
                        .addr
                        .as_ref()
                        .map(|peer| self.connections.dial_of(peer));
                }
            }
        }
        unasked
    }

    fn add(&mut self, id: NodeId, dial: Option<Addr>, seen: Seen) {
        let own = match &seen {
            Seen::Report(report) => Some(Arc::clone(report.view.myself())),
            _ => None,
        };
        let told = own.or_else(|| {
            let mut entries = self
                .observation
                .reports()
                .filter_map(|(_, report)| report.view.entry(id));
            entries.find(|entry| entry.addr.is_some()).cloned()
        });
        let node = ObservedNode {
            id,
            dial,
            peer: told.as_ref().and_then(|entry| entry.addr.clone()),
            hostname: told.and_then(|entry| entry.hostname.clone()),
            seen,
        };
        // A seed that was named twice, under two addresses, keeps the first.
        self.observation.nodes.entry(id).or_insert(node);
    }

    /// Asks those who may have come in with another cluster whom they have known how long.
    async fn ask_for_links(&mut self) {
        let mut asked = JoinSet::new();
        for id in merger::newcomers(&self.observation) {
            let node = self.observation.nodes.get(&id);
            let Some(dial) = node.and_then(|node| node.dial.clone()) else {
                continue;
            };
            let target = self.ways.target(dial);
            let connections = Arc::clone(self.connections);
            asked.spawn(async move {
                let client = connections.temporary(&target).await?;
                Ok::<_, ClientError>((id, client.cluster_links().await?))
            });
        }
        for told in asked.join_all().await {
            match told {
                Ok((id, links)) => {
                    let node = self.observation.nodes.get_mut(&id);
                    if let Some(Seen::Report(report)) = node.map(|node| &mut node.seen) {
                        report.links = links.unwrap_or_default();
                    }
                }
                Err(error) => tracing::warn!(%error, "its links are not known"),
            }
        }
    }

    /// Asks masters that can have jobs which they lead.
    async fn ask_for_jobs(&mut self) {
        let mut asked = JoinSet::new();
        for (node, report) in self.observation.reports() {
            let is_master = report.view.myself().role == Some(Role::Master);
            let (Some(version), Some(dial), true) = (report.info.version, &node.dial, is_master)
            else {
                continue;
            };
            if !has_jobs(version) {
                continue;
            }
            let target = self.ways.target(dial.clone());
            let connections = Arc::clone(self.connections);
            let id = node.id;
            asked.spawn(async move {
                let jobs = jobs_led_by(&connections, &target, version).await;
                (id, version.product, jobs)
            });
        }
        for (id, product, jobs) in asked.join_all().await {
            let node = self.observation.nodes.get_mut(&id);
            let Some(Seen::Report(report)) = node.map(|node| &mut node.seen) else {
                continue;
            };
            match jobs {
                Ok(jobs) => {
                    let owned = report.view.myself().slots.iter().copied().collect();
                    report.jobs = not_ended_well(jobs, product, &owned);
                }
                // The right to ask may be missing.
                Err(error) => tracing::warn!(%error, "its jobs are not known"),
            }
        }
    }

    /// Counts the keys of open slots on every node that has them open, or is the other end.
    async fn count_open_keys(&mut self) {
        let topology = Topology::of(&self.observation);
        let slots: Vec<Slot> = topology.open_set().iter().collect();
        if slots.is_empty() {
            return;
        }
        let ends: BTreeSet<NodeId> = topology
            .open_slots()
            .flat_map(|(member, open)| [member.id, open.peer])
            .collect();
        let mut counting = JoinSet::new();
        for id in ends {
            let Some(node) = self.observation.nodes.get(&id) else {
                continue;
            };
            let (Some(report), Some(dial)) = (node.report(), &node.dial) else {
                continue;
            };
            let target = self.ways.target(dial.clone());
            let databases: Vec<u32> = report.info.keys.iter().map(|(db, _)| *db).collect();
            let connections = Arc::clone(self.connections);
            let slots = slots.clone();
            counting.spawn(async move {
                let counts = count_keys(&connections, &target, &databases, &slots).await;
                (id, slots, counts)
            });
        }
        while let Some(Ok((id, slots, counts))) = counting.join_next().await {
            let Some(Seen::Report(report)) = self
                .observation
                .nodes
                .get_mut(&id)
                .map(|node| &mut node.seen)
            else {
                continue;
            };
            match counts {
                Ok(counts) => report.open_keys = slots.into_iter().zip(counts).collect(),
                Err(error) => tracing::warn!(%error, "keys of open slots are not counted"),
            }
        }
    }
}

/// Why there is no report of a node.
enum ProbeError {
    Silent(ClientError),
    Unreadable(ParseError),
}

/// Looks at a node, and reads what it says before the next one has its turn: a thousand looks are
/// 200 MB of text, and the same lines over and over once they are read.
async fn hear(
    connections: &Connections,
    target: &Target,
    pool: &Mutex<EntryPool>,
) -> Result<Report, ProbeError> {
    let client = connections
        .temporary(target)
        .await
        .map_err(ProbeError::Silent)?;
    let raw = client.look().await.map_err(ProbeError::Silent)?;
    // What a thread that died left behind is whole lines.
    let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
    read(&mut pool, &raw).map_err(ProbeError::Unreadable)
}

/// What one look at one node brings.
#[derive(Debug, Clone)]
pub struct Looked {
    /// What it says.
    pub raw: RawLook,
    /// What it said to our password.
    pub login: LoginOutcome,
}

/// Looks at nodes side by side; the answers come in the order of the nodes.
pub async fn look_at_all(
    connections: &Arc<Connections>,
    targets: &[Target],
) -> Vec<(Target, Result<Looked, ClientError>)> {
    let mut asked = JoinSet::new();
    for (i, target) in targets.iter().cloned().enumerate() {
        let connections = Arc::clone(connections);
        asked.spawn(async move {
            let look = look(&connections, &target).await;
            (i, target, look)
        });
    }
    let mut looks = asked.join_all().await;
    looks.sort_unstable_by_key(|(i, _, _)| *i);
    looks
        .into_iter()
        .map(|(_, target, look)| (target, look))
        .collect()
}

async fn look(connections: &Connections, target: &Target) -> Result<Looked, ClientError> {
    let client = connections.temporary(target).await?;
    Ok(Looked {
        raw: client.look().await?,
        login: client.login_outcome(),
    })
}

/// The keys of each slot, in all of these databases together.
pub async fn count_keys(
    connections: &Connections,
    target: &Target,
    databases: &[u32],
    slots: &[Slot],
) -> Result<Vec<u64>, ClientError> {
    let client = connections.temporary(target).await?;
    let mut sums = vec![0; slots.len()];
    for database in databases {
        let counts = client.cluster_countkeysinslot(*database, slots).await?;
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    Ok(sums)
}

/// Counts the keys of every slot on all masters that answered, and on replicas whose master nobody
/// knows: 16 requests for each database of a node. Who can't be counted is missing from the answer.
pub async fn count_holdings(
    connections: &Arc<Connections>,
    observation: &Observation,
    reach: &BTreeMap<NodeId, Target>,
) -> Holdings {
    let mut counting = JoinSet::new();
    for (node, report) in observation.reports() {
        let myself = report.view.myself();
        let follows = myself
            .master
            .filter(|id| observation.nodes.contains_key(id));
        let is_copy = myself.role == Some(Role::Replica) && follows.is_some();
        let Some(target) = reach.get(&node.id).cloned().filter(|_| !is_copy) else {
            continue;
        };
        let databases: Vec<u32> = report.info.keys.iter().map(|(db, _)| *db).collect();
        let hides = report.info.version.is_some_and(hides_strays);
        let connections = Arc::clone(connections);
        let id = node.id;
        counting.spawn(async move { (id, hold(&connections, &target, &databases, hides).await) });
    }
    let mut holdings = Holdings::default();
    for (id, held) in counting.join_all().await {
        match held {
            Ok(held) => holdings.insert(id, held),
            Err(error) => tracing::warn!(%error, "its keys are not counted"),
        }
    }
    holdings
}

/// Redis 8 began to count keys of slots that a node owns or imports only (seen on 8.6; 7.0 counts
/// all).
fn hides_strays(version: Version) -> bool {
    version.product == Product::Redis && version.numbers >= [8, 0, 0]
}

async fn hold(
    connections: &Connections,
    target: &Target,
    databases: &[u32],
    hides: bool,
) -> Result<Held, ClientError> {
    let slots: Vec<Slot> = Slot::all().collect();
    if !hides {
        let counts = count_keys(connections, target, databases, &slots).await?;
        return Ok(Held::new(counts, None));
    }
    /// Clients write while it is counted, so that the sum is off by some keys each time: what is hidden
    /// is missing each time.
    const COUNTS: usize = 3;
    let client = connections.temporary(target).await?;
    let mut held = hold_hiding(&client, &slots).await?;
    for _ in 1..COUNTS {
        if held.hidden() == 0 {
            break;
        }
        let again = hold_hiding(&client, &slots).await?;
        if again.hidden() < held.hidden() {
            held = again;
        }
    }
    Ok(held)
}

async fn hold_hiding(client: &NodeClient, slots: &[Slot]) -> Result<Held, ClientError> {
    let before = client.dbsize().await?;
    let counts = client.cluster_countkeysinslot(0, slots).await?;
    let after = client.dbsize().await?;
    Ok(Held::new(counts, Some(before.min(after))))
}

fn has_jobs(version: Version) -> bool {
    match version.product {
        Product::Valkey => version.numbers >= [9, 0, 0],
        Product::Redis => version.numbers >= [8, 4, 0],
    }
}

/// The jobs that a node began, and can call off: on Valkey their source, on Redis their target. The
/// newest is first.
pub async fn jobs_led_by(
    connections: &Connections,
    target: &Target,
    version: Version,
) -> Result<Vec<AsmTask>, ClientError> {
    if !has_jobs(version) {
        return Ok(Vec::new());
    }
    let client = connections.temporary(target).await?;
    let (jobs, side) = match version.product {
        Product::Valkey => (client.cluster_getslotmigrations().await?, Side::Source),
        Product::Redis => (client.cluster_migration_status().await?, Side::Target),
    };
    Ok(jobs.into_iter().filter(|job| job.side == side).collect())
}

/// Those that go on, and those that failed where nobody has tried again since: `owned` are the slots of
/// the node that leads them. (Redis tries again by itself, for as long as nobody calls it off.)
fn not_ended_well(jobs: Vec<AsmTask>, product: Product, owned: &SlotSet) -> Vec<ObservedTask> {
    let mut newer = SlotSet::new();
    let mut left = Vec::new();
    for job in jobs {
        let is_last = newer.intersection(&job.slots).is_empty();
        newer.union_with(&job.slots);
        let has_failed =
            job.end == Some(JobEnd::Failed) && is_last && job.slots.difference(owned).is_empty();
        if job.end.is_some() && !has_failed {
            continue;
        }
        left.push(ObservedTask {
            cancel: job.cancel(product),
            goes_on: job.end.is_none(),
            slots: job.slots,
            source: job.source,
            target: job.target,
            state: job.state,
            said: job.message,
        });
    }
    left
}

/// What a node said, as data.
pub fn read(pool: &mut EntryPool, look: &RawLook) -> Result<Report, ParseError> {
    Ok(Report {
        view: pool.view(&look.nodes)?,
        cluster: ClusterInfo::parse(&look.cluster_info),
        info: Info::parse(&look.info),
        saves: look.save.as_ref().map(|save| !save.is_empty()),
        open_keys: BTreeMap::new(),
        links: BTreeMap::new(),
        jobs: Vec::new(),
    })
}

/// A node that knows nobody and owns nothing.
fn is_alone(view: &View) -> bool {
    view.entries().len() == 1 && view.myself().slots.is_empty()
}

fn share_a_member(one: &View, other: &View) -> bool {
    one.entries().any(|entry| other.entry(entry.id).is_some())
}

impl From<DiscoverError> for Stop {
    fn from(error: DiscoverError) -> Self {
        let code = match &error {
            // They were reached, and they answered.
            DiscoverError::NobodyAnswers(errors)
                if errors.iter().all(|e| e.fault == Fault::ClusterDisabled) =>
            {
                ExitCode::Refused
            }
            DiscoverError::NobodyAnswers(_) | DiscoverError::Unreadable { .. } => {
                ExitCode::Unreachable
            }
            DiscoverError::TwoClusters(..) => ExitCode::Refused,
        };
        Self::new(code, error)
    }
}
