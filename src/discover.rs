//! Discovery: finds a whole cluster from a few addresses. Every node that any member knows is asked.

mod identity;
mod links;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::client::{
    AsmTask, ClientError, DEFAULT_NODE_TIMEOUT, Fault, LoginOutcome, NodeClient, RawLook, Side,
    TaskEnd,
};
use crate::cluster::holdings::{Held, Holdings};
use crate::cluster::identity::{Identities, Twins};
use crate::cluster::merger;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::{
    Bystander, Observation, ObservedNode, ObservedTask, Report, Seen,
};
use crate::cluster::parse::{
    ClusterInfo, EntryPool, EntryState, Info, MAX_NODES, MasterLink, ParseError, Product, Version,
    View, check_raft,
};
use crate::cluster::refusal::{Refusal, RefusalKind};
use crate::cluster::slot::{Slot, SlotSet};
use crate::cluster::topology::Topology;
use crate::connections::{Connections, DialOptions, Target};
use crate::exit_code::ExitCode;
use crate::stop::Stop;

pub use links::{Lasting, lasting_to_owners, may_miss_owners, patience};

/// How many of the addresses that members have for a node are tried.
const ADDRS_TRIED: usize = 3;

/// Why the seeds do not lead to one cluster.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// No seed answered.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    NoAnswer(Vec<ClientError>),
    /// The answer of a node is not a valid CLUSTER NODES.
    #[error("{addr}: {error}")]
    Unreadable {
        /// The node.
        addr: Addr,
        /// The reason.
        error: ParseError,
    },
    /// Two seeds do not know each other.
    #[error("{0} and {1} belong to different clusters: give nodes of one cluster only")]
    TwoClusters(Addr, Addr),
    /// Two processes answer as one node, so nothing can be sent to that node: either of them may get it.
    #[error("{0}")]
    Twins(Twins),
}

/// A cluster as it was found: the observation, and how to reach each node.
#[derive(Debug)]
pub struct Found {
    /// The observation of all nodes.
    pub observation: Observation,
    /// Seeds without a valid answer. If a seed belongs to a member, the observation has the fault too.
    pub silent_seeds: Vec<ClientError>,
    access: NodeAccess,
}

impl Found {
    /// How to reach a node; `None` if no node knows its address.
    pub fn target_of(&self, node: &ObservedNode) -> Option<Target> {
        Some(self.access.target(node.dial.clone()?, Some(node.id)))
    }
}

/// The access to each node: the seed's own for seeds, the first member's for all others.
#[derive(Debug)]
struct NodeAccess {
    lead: Arc<DialOptions>,
    named: HashMap<Addr, Arc<DialOptions>>,
}

impl NodeAccess {
    fn target(&self, addr: Addr, node: Option<NodeId>) -> Target {
        let access = self.named.get(&addr).unwrap_or(&self.lead);
        Target {
            access: Arc::clone(access),
            addr,
            node,
        }
    }

    /// A node that was reached at one address is reached at the other one in the same way.
    fn copy(&mut self, from: &Addr, to: &Addr) {
        if let Some(access) = self.named.get(from) {
            self.named.insert(to.clone(), Arc::clone(access));
        }
    }
}

/// Observes every node that can be found from the seeds.
pub async fn observe(
    connections: &Arc<Connections>,
    seeds: &[Target],
) -> Result<Observation, DiscoverError> {
    Ok(examine(connections, seeds).await?.observation)
}

/// The same, with what is needed to connect to the nodes. Refuses a cluster in which two processes answer as one node.
pub async fn find(
    connections: &Arc<Connections>,
    seeds: &[Target],
) -> Result<Found, DiscoverError> {
    let found = examine(connections, seeds).await?;
    match found.observation.identities.twins.first() {
        Some(twins) => Err(DiscoverError::Twins(twins.clone())),
        None => Ok(found),
    }
}

/// The same for commands that only report: two processes that answer as one node are part of the observation.
pub async fn examine(
    connections: &Arc<Connections>,
    seeds: &[Target],
) -> Result<Found, DiscoverError> {
    let mut survey = Survey::begin(connections, seeds).await?;
    survey.observe_members().await;
    if survey.observe_elsewhere().await {
        survey.observe_members().await;
    }
    survey.tell_identities().await;
    survey.observation.tell_first_syncs();
    survey.read_links().await;
    survey.read_tasks().await;
    survey.count_open_keys().await;
    survey.count_keys_of_shards().await;
    Ok(Found {
        observation: survey.observation,
        silent_seeds: survey.silent_seeds,
        access: survey.access,
    })
}

/// An observation under construction.
struct Survey<'a> {
    connections: &'a Arc<Connections>,
    pool: Arc<Mutex<EntryPool>>,
    observation: Observation,
    silent_seeds: Vec<ClientError>,
    access: NodeAccess,
    /// The seeds that answered, with the node that did.
    answered_seeds: Vec<(NodeId, Addr)>,
}

impl<'a> Survey<'a> {
    /// Asks all seeds side by side. The first seed, in their order, that is a member is the lead.
    async fn begin(
        connections: &'a Arc<Connections>,
        seeds: &[Target],
    ) -> Result<Self, DiscoverError> {
        let pool = Arc::default();
        let targets = seeds.iter().cloned();
        let reports = connections.fan_out(targets, |connections, seed| {
            let pool = Arc::clone(&pool);
            async move {
                let report = observe_node(&connections, &seed, &pool).await;
                (seed, report)
            }
        });
        let mut silent_seeds = Vec::new();
        let mut unreadable = None;
        let mut answers = Vec::new();
        for (seed, report) in reports.await {
            match report {
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
                None => DiscoverError::NoAnswer(silent_seeds),
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
                identities: Identities::default(),
            },
            answered_seeds: Vec::new(),
            silent_seeds,
            access: NodeAccess {
                lead: Arc::clone(&seed.access),
                named: named.collect(),
            },
        };
        for (seed, report) in answers {
            let id = report.view.myself().id;
            if have_a_common_node(&report.view, &lead_view) {
                survey.answered_seeds.push((id, seed.addr.clone()));
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

    /// Asks every node that a member knows and that was not asked yet, until there are no more.
    async fn observe_members(&mut self) {
        loop {
            let mut targets = Vec::new();
            for (id, addrs) in self.unasked() {
                if addrs.is_empty() {
                    self.add(id, None, Seen::NoAddress);
                    continue;
                }
                let addrs = addrs.into_iter();
                // The id of the answer is compared below.
                let at: Vec<Target> = addrs.map(|addr| self.access.target(addr, None)).collect();
                targets.push((id, at));
            }
            if targets.is_empty() {
                return;
            }
            let reports = self
                .connections
                .fan_out(targets, |connections, (id, targets)| {
                    let pool = Arc::clone(&self.pool);
                    async move { (id, observe_at_any(&connections, id, &targets, &pool).await) }
                });
            for (id, observed) in reports.await {
                let Some((dial, report)) = observed else {
                    continue;
                };
                let seen = match report {
                    Err(ProbeError::Silent(error)) if error.fault == Fault::Loading => {
                        Seen::Loading
                    }
                    Err(ProbeError::Silent(error)) => match error.fault.refusal() {
                        Some(refusal) => Seen::Refused(refusal),
                        None => Seen::Silent(error.fault.to_string()),
                    },
                    Err(ProbeError::Unreadable(error)) => Seen::Silent(error.to_string()),
                    Ok(report) if report.view.myself().id != id => {
                        Seen::OtherNode(report.view.myself().id)
                    }
                    Ok(report) => Seen::Report(Box::new(report)),
                };
                self.add(id, Some(dial), seen);
            }
        }
    }

    /// Returns the nodes that members know and that were not asked, with the addresses that members have for them.
    /// Nodes in handshake have temporary ids that no node answers to: their addresses are not used.
    fn unasked(&self) -> BTreeMap<NodeId, Vec<Addr>> {
        let nodes = &self.observation.nodes;
        let mut unasked: BTreeMap<NodeId, Vec<Addr>> = BTreeMap::new();
        for (_, report) in self.observation.reports() {
            for entry in report.view.entries() {
                if nodes.contains_key(&entry.id) || nodes.len() + unasked.len() >= MAX_NODES {
                    continue;
                }
                let addrs = unasked.entry(entry.id).or_default();
                if addrs.len() == ADDRS_TRIED || entry.state == EntryState::Handshake {
                    continue;
                }
                let dial = entry.addr.as_ref();
                let dial = dial.map(|peer| self.connections.dial_of(peer));
                if let (Some(dial), Some(hostname)) = (&dial, &entry.hostname) {
                    self.connections.note_hostname(dial, hostname);
                }
                addrs.extend(dial.filter(|dial| !addrs.contains(dial)));
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
        // A node that was given twice, under two addresses, keeps the first.
        self.observation.nodes.entry(id).or_insert(node);
    }

    /// Asks the nodes since when they have had links to each other, if some of them may have come from another cluster.
    async fn read_links(&mut self) {
        let witnesses = merger::witnesses(&self.observation);
        let targets: Vec<(NodeId, Target)> = witnesses
            .into_iter()
            .filter_map(|id| {
                let dial = self.observation.nodes.get(&id)?.dial.clone()?;
                Some((id, self.access.target(dial, Some(id))))
            })
            .collect();
        let told = self
            .connections
            .fan_out(targets, async |connections, (id, target)| {
                let client = connections.temporary(&target).await?;
                Ok::<_, ClientError>((id, client.cluster_links().await?))
            });
        for told in told.await {
            match told {
                Ok((id, links)) => {
                    let node = self.observation.nodes.get_mut(&id);
                    if let Some(Seen::Report(report)) = node.map(|node| &mut node.seen) {
                        let links = links.unwrap_or_default().into_iter();
                        report.links = links.map(|(id, links)| (id, links.oldest)).collect();
                    }
                }
                Err(error) => tracing::warn!(%error, "CLUSTER LINKS of a node is not known"),
            }
        }
    }

    /// Asks masters for the ASM tasks that they lead.
    async fn read_tasks(&mut self) {
        let mut masters = Vec::new();
        for (node, report) in self.observation.reports() {
            let is_master = report.view.myself().role == Some(Role::Master);
            let version = report.info.version.filter(|v| v.can_migrate_atomically());
            if let (Some(version), Some(dial), true) = (version, &node.dial, is_master) {
                let target = self.access.target(dial.clone(), Some(node.id));
                masters.push((node.id, target, version));
            }
        }
        let tasks =
            self.connections
                .fan_out(masters, async |connections, (id, target, version)| {
                    let tasks = tasks_led_by(&connections, &target, version).await;
                    (id, version.product, tasks)
                });
        for (id, product, tasks) in tasks.await {
            let node = self.observation.nodes.get_mut(&id);
            let Some(Seen::Report(report)) = node.map(|node| &mut node.seen) else {
                continue;
            };
            match tasks {
                Ok(tasks) => {
                    let owned = report.view.myself().slots.iter().copied().collect();
                    report.tasks = unfinished_tasks(tasks, product, &owned);
                }
                // The right to ask may be missing.
                Err(error) => tracing::warn!(%error, "the ASM tasks of a node are not known"),
            }
        }
    }

    /// Counts the keys of open slots on every node that has them open, and on the other node of the pair.
    async fn count_open_keys(&mut self) {
        let topology = Topology::of(&self.observation);
        let slots: Arc<[Slot]> = topology.open_set().iter().collect();
        if slots.is_empty() {
            return;
        }
        let ends: BTreeSet<NodeId> = topology
            .open_slots()
            .flat_map(|(member, open)| [member.id, open.peer])
            .collect();
        let targets: Vec<(NodeId, Target, Vec<u32>)> = ends
            .into_iter()
            .filter_map(|id| {
                let node = self.observation.nodes.get(&id)?;
                let target = self.access.target(node.dial.clone()?, Some(id));
                Some((id, target, databases(node.report()?)))
            })
            .collect();
        let counted = self
            .connections
            .fan_out(targets, |connections, (id, target, databases)| {
                let slots = Arc::clone(&slots);
                async move {
                    let counts = count_keys(&connections, &target, &databases, &slots).await;
                    (id, counts)
                }
            });
        for (id, counts) in counted.await {
            let Some(Seen::Report(report)) = self
                .observation
                .nodes
                .get_mut(&id)
                .map(|node| &mut node.seen)
            else {
                continue;
            };
            match counts {
                Ok(counts) => report.open_keys = slots.iter().copied().zip(counts).collect(),
                Err(error) => tracing::warn!(%error, "the keys of open slots are not counted"),
            }
        }
    }

    /// Counts the keys in slots of their masters on replicas without a link. One that was given another master may have
    /// the data of the former one still.
    async fn count_keys_of_shards(&mut self) {
        let is_cut_off = |(_, report): (&ObservedNode, &Report)| {
            matches!(report.info.master_link, Some(MasterLink::Down(_)))
                && report.info.total_keys() > 0
        };
        if !self.observation.reports().any(is_cut_off) {
            return;
        }
        let topology = Topology::of(&self.observation);
        let mut targets = Vec::new();
        for (node, report) in self.observation.reports() {
            let is_down = matches!(report.info.master_link, Some(MasterLink::Down(_)));
            let master = report.view.myself().master;
            let master = master.and_then(|id| topology.members.get(&id));
            if let (true, Some(master), Some(dial)) = (is_down, master, &node.dial)
                && report.info.total_keys() > 0
            {
                let slots: Vec<Slot> = master.slots.iter().collect();
                let target = self.access.target(dial.clone(), Some(node.id));
                targets.push((node.id, target, databases(report), slots));
            }
        }
        let counted = self.connections.fan_out(
            targets,
            async |connections, (id, target, databases, slots)| {
                let counts = count_keys(&connections, &target, &databases, &slots).await;
                (id, counts)
            },
        );
        for (id, counts) in counted.await {
            let node = self.observation.nodes.get_mut(&id);
            let Some(Seen::Report(report)) = node.map(|node| &mut node.seen) else {
                continue;
            };
            match counts {
                Ok(counts) => report.keys_of_shard = Some(counts.into_iter().sum()),
                Err(error) => tracing::warn!(%error, "the keys of a replica are not counted"),
            }
        }
    }
}

/// Why there is no report of a node.
enum ProbeError {
    Silent(ClientError),
    Unreadable(ParseError),
}

/// Looks at a node at the first of these addresses where it answers; else returns what came of the first address.
async fn observe_at_any(
    connections: &Connections,
    id: NodeId,
    targets: &[Target],
    pool: &Mutex<EntryPool>,
) -> Option<(Addr, Result<Report, ProbeError>)> {
    let mut first = None;
    for target in targets {
        let report = observe_node(connections, target, pool).await;
        let is_it = matches!(&report, Ok(report) if report.view.myself().id == id);
        let observed = (target.addr.clone(), report);
        if is_it {
            return Some(observed);
        }
        first.get_or_insert(observed);
    }
    first
}

/// Looks at a node, and parses the answer before the next one has its turn: a thousand looks are 200 MB of text, and
/// the same lines over and over once they are parsed.
async fn observe_node(
    connections: &Connections,
    target: &Target,
    pool: &Mutex<EntryPool>,
) -> Result<Report, ProbeError> {
    let client = connections
        .temporary(target)
        .await
        .map_err(ProbeError::Silent)?;
    let raw = client.look().await.map_err(ProbeError::Silent)?;
    // The data is consistent even after a panic of another thread.
    let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
    read(&mut pool, &raw).map_err(ProbeError::Unreadable)
}

/// Returns the node timeout of a node; the servers' default where it does not tell.
pub async fn node_timeout(connections: &Connections, target: Option<&Target>) -> Duration {
    let Some(target) = target else {
        return DEFAULT_NODE_TIMEOUT;
    };
    let timeout = match connections.client(target).await {
        Ok(client) => client.node_timeout().await,
        Err(error) => Err(error),
    };
    timeout.ok().flatten().unwrap_or(DEFAULT_NODE_TIMEOUT)
}

/// The result of one look at one node.
#[derive(Debug, Clone)]
pub struct Looked {
    /// The replies.
    pub raw: RawLook,
    /// The answer to the login.
    pub login: LoginOutcome,
}

/// Looks at nodes side by side; the results have the order of the nodes.
pub async fn look_at_all(
    connections: &Arc<Connections>,
    targets: &[Target],
) -> Vec<(Target, Result<Looked, ClientError>)> {
    let targets = targets.iter().cloned();
    let looks = connections.fan_out(targets, async |connections, target| {
        let look = look(&connections, &target).await;
        (target, look)
    });
    looks.await
}

async fn look(connections: &Connections, target: &Target) -> Result<Looked, ClientError> {
    let client = connections.temporary(target).await?;
    Ok(Looked {
        raw: client.look().await?,
        login: client.login_outcome(),
    })
}

/// Counts the keys of each slot, in all of these databases together.
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

/// Counts the keys of every slot on all masters that answered, and on replicas whose master is unknown: 16 requests
/// for each database of a node. Nodes that can't be counted are missing in the result.
pub async fn count_holdings(
    connections: &Arc<Connections>,
    observation: &Observation,
    reach: &BTreeMap<NodeId, Target>,
) -> Holdings {
    let mut nodes = Vec::new();
    for (node, report) in observation.reports() {
        let myself = report.view.myself();
        let follows = myself
            .master
            .filter(|id| observation.nodes.contains_key(id));
        let is_copy = myself.role == Some(Role::Replica) && follows.is_some();
        let Some(target) = reach.get(&node.id).cloned().filter(|_| !is_copy) else {
            continue;
        };
        let hides = report.info.version.is_some_and(hides_stray_keys);
        nodes.push((node.id, target, databases(report), hides));
    }
    let held = connections.fan_out(
        nodes,
        async |connections, (id, target, databases, hides)| {
            (
                id,
                count_node(&connections, &target, &databases, hides).await,
            )
        },
    );
    let mut holdings = Holdings::default();
    for (id, held) in held.await {
        match held {
            Ok(held) => holdings.insert(id, held),
            Err(error) => tracing::warn!(%error, "the keys of a node are not counted"),
        }
    }
    holdings
}

/// The databases that hold keys.
pub fn databases(report: &Report) -> Vec<u32> {
    report.info.keys.iter().map(|(db, _)| *db).collect()
}

/// Redis 8 counts only keys of slots that a node owns or imports (seen on 8.6; 7.0 counts all).
fn hides_stray_keys(version: Version) -> bool {
    version.product == Product::Redis && version.numbers >= [8, 0, 0]
}

async fn count_node(
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
    /// Clients write during a count, so that each sum is off by some keys; hidden keys are missing in every count.
    const COUNTS: usize = 3;
    let client = connections.temporary(target).await?;
    let mut held = count_with_total(&client, &slots).await?;
    for _ in 1..COUNTS {
        if held.hidden() == 0 {
            break;
        }
        let again = count_with_total(&client, &slots).await?;
        if again.hidden() < held.hidden() {
            held = again;
        }
    }
    Ok(held)
}

/// INFO tells how many keys there are: DBSIZE hides those of slots that the node imports or trims (Redis ≥ 8.4).
async fn count_with_total(client: &NodeClient, slots: &[Slot]) -> Result<Held, ClientError> {
    let before = Info::parse(&client.info().await?).total_keys();
    let counts = client.cluster_countkeysinslot(0, slots).await?;
    let after = Info::parse(&client.info().await?).total_keys();
    Ok(Held::new(counts, Some(before.min(after))))
}

/// Returns the tasks that a node leads and can cancel: as source on Valkey, as target on Redis. The newest is first.
pub async fn tasks_led_by(
    connections: &Connections,
    target: &Target,
    version: Version,
) -> Result<Vec<AsmTask>, ClientError> {
    if !version.can_migrate_atomically() {
        return Ok(Vec::new());
    }
    let client = connections.temporary(target).await?;
    let (tasks, side) = match version.product {
        Product::Valkey => (client.cluster_getslotmigrations().await?, Side::Source),
        Product::Redis => (client.cluster_migration_status().await?, Side::Target),
    };
    Ok(tasks.into_iter().filter(|task| task.side == side).collect())
}

/// Returns tasks that are running, and failed ones that were not repeated since: `owned` are the slots of the node
/// that leads them. (Redis repeats a failed task itself until it is cancelled.)
fn unfinished_tasks(tasks: Vec<AsmTask>, product: Product, owned: &SlotSet) -> Vec<ObservedTask> {
    let mut newer = SlotSet::new();
    let mut left = Vec::new();
    for task in tasks {
        let is_last = newer.intersection(&task.slots).is_empty();
        newer.union_with(&task.slots);
        let has_failed =
            task.end == Some(TaskEnd::Failed) && is_last && task.slots.difference(owned).is_empty();
        if task.end.is_some() && !has_failed {
            continue;
        }
        left.push(ObservedTask {
            product,
            id: task.id,
            goes_on: task.end.is_none(),
            slots: task.slots,
            source: task.source,
            target: task.target,
            state: task.state,
            said: task.message,
            progress: task.progress,
        });
    }
    left
}

/// Parses the replies of a look.
pub fn read(pool: &mut EntryPool, look: &RawLook) -> Result<Report, ParseError> {
    let view = pool.view(&look.nodes)?;
    let cluster = ClusterInfo::parse(&look.cluster_info);
    if let Some(raft) = &cluster.raft {
        check_raft(&view, raft)?;
    }
    Ok(Report {
        view,
        cluster,
        info: Info::parse(&look.info),
        refuses: look.ping.as_ref().and_then(refuses),
        saves: look.save.as_ref().map(|save| !save.is_empty()),
        open_keys: BTreeMap::new(),
        keys_of_shard: None,
        links: BTreeMap::new(),
        tasks: Vec::new(),
    })
}

/// What an error to PING says about the node. Others, such as a missing right, concern PING alone.
fn refuses(ping: &Fault) -> Option<Refusal> {
    ping.refusal()
        .filter(|refusal| matches!(refusal.kind, RefusalKind::MasterDown | RefusalKind::Misconf))
}

/// Whether a node knows no other node and owns no slot.
fn is_alone(view: &View) -> bool {
    view.entries().len() == 1 && view.myself().slots.is_empty()
}

fn have_a_common_node(one: &View, other: &View) -> bool {
    one.entries().any(|entry| other.entry(entry.id).is_some())
}

impl From<DiscoverError> for Stop {
    fn from(error: DiscoverError) -> Self {
        let code = match &error {
            // The nodes were reached and answered.
            DiscoverError::NoAnswer(errors)
                if errors.iter().all(|e| e.fault == Fault::ClusterDisabled) =>
            {
                ExitCode::Refused
            }
            DiscoverError::NoAnswer(_) | DiscoverError::Unreadable { .. } => ExitCode::Unreachable,
            DiscoverError::TwoClusters(..) | DiscoverError::Twins(_) => ExitCode::Refused,
        };
        Self::new(code, error)
    }
}
