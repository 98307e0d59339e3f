//! From what the user named to what there is: names to addresses, addresses to nodes, nodes to the
//! whole cluster.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{ClientError, LoginOutcome, RawLook};
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::observation::{Bystander, Observation, ObservedNode, Report, Seen};
use crate::cluster::parse::{
    ClusterInfo, EntryPool, EntryState, Info, MAX_NODES, MasterLink, ParseError, View,
};
use crate::cluster::slot::Slot;
use crate::cluster::topology::Topology;
use crate::connections::{Access, Connections, Target};
use crate::seed::Seed;

/// How often a name is looked up again while it fills up.
const RESOLVE_AGAIN: Duration = Duration::from_millis(500);

/// The nodes that one seed stands for.
#[derive(Debug, Clone)]
pub struct SeedSet {
    /// As it was written.
    pub seed: Seed,
    /// One or many.
    pub targets: Vec<Target>,
}

impl SeedSet {
    /// Whether a name stood for several nodes.
    pub fn is_many(&self) -> bool {
        self.targets.len() > 1
    }
}

/// Why seeds don't lead to one cluster.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// A name is unknown.
    #[error("{name:?} does not resolve: {why}")]
    NotResolved {
        /// The name.
        name: String,
        /// In the resolver's words.
        why: String,
    },
    /// Names stand for too few or too many nodes.
    #[error(
        "{} found after {}, {} expected (--expect-nodes): {}; --resolve-timeout waits longer",
        .addrs.len(),
        humantime::format_duration(.expected.within),
        .expected.nodes,
        list(.addrs)
    )]
    WrongNumber {
        /// How many were expected.
        expected: Expected,
        /// Those that were found, within the time.
        addrs: Vec<Addr>,
    },
    /// Addresses, which stand for one node each, are fewer or more than that.
    #[error("{} nodes are named, {expected} expected (--expect-nodes): {}", .addrs.len(), list(.addrs))]
    MiscountedAddresses {
        /// How many were expected.
        expected: usize,
        /// Those that are named.
        addrs: Vec<Addr>,
    },
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

fn list(addrs: &[Addr]) -> String {
    if addrs.is_empty() {
        return "none".to_string();
    }
    let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
    addrs.join(", ")
}

/// How many nodes the seeds must stand for, and how long that may take.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Nodes in all seed sets together.
    pub nodes: usize,
    /// Names of services that are starting fill up slowly.
    pub within: Duration,
}

/// Looks all seeds up. Each address is kept once, in the order of the seeds. `tell` hears what is
/// waited for, whenever that changes.
///
/// A name that does not resolve is left as it is where no number is expected: connecting to it says
/// so, beside what is wrong with the others.
pub async fn resolve(
    seeds: &[Seed],
    access: impl Fn(&Seed) -> Access,
    expected: Option<Expected>,
    tell: impl Fn(&str),
) -> Result<Vec<SeedSet>, DiscoverError> {
    let Some(expected) = expected else {
        return resolve_once(seeds, &access, Unknown::Keep).await;
    };
    let deadline = Instant::now() + expected.within;
    let all_fixed = seeds.iter().all(|seed| seed.addr.ip().is_some());
    let mut told = String::new();
    loop {
        let sets = resolve_once(seeds, &access, Unknown::Fail).await;
        let late = Instant::now() >= deadline;
        let waits_for = match sets {
            Ok(sets) => {
                let addrs: Vec<Addr> = targets(&sets).map(|target| target.addr.clone()).collect();
                if addrs.len() == expected.nodes {
                    return Ok(sets);
                }
                if all_fixed {
                    let expected = expected.nodes;
                    return Err(DiscoverError::MiscountedAddresses { expected, addrs });
                }
                if late {
                    return Err(DiscoverError::WrongNumber { expected, addrs });
                }
                let found = addrs.len();
                format!(
                    "{} nodes are expected, and {found} found yet",
                    expected.nodes
                )
            }
            Err(error) if late => return Err(error),
            Err(error) => format!("{} nodes are expected, but {error}", expected.nodes),
        };
        if waits_for != told {
            tell(&waits_for);
            told = waits_for;
        }
        tokio::time::sleep_until(deadline.min(Instant::now() + RESOLVE_AGAIN)).await;
    }
}

/// All nodes of all sets, in order.
pub fn targets(sets: &[SeedSet]) -> impl Iterator<Item = &Target> {
    sets.iter().flat_map(|set| &set.targets)
}

/// What to do with a name that does not resolve.
#[derive(Debug, Clone, Copy)]
enum Unknown {
    Keep,
    Fail,
}

async fn resolve_once(
    seeds: &[Seed],
    access: &impl Fn(&Seed) -> Access,
    unknown: Unknown,
) -> Result<Vec<SeedSet>, DiscoverError> {
    let mut known = HashSet::new();
    let mut sets = Vec::with_capacity(seeds.len());
    for seed in seeds {
        let access = Arc::new(access(seed));
        let addresses = match (addresses(&seed.addr).await, unknown) {
            (Err(_), Unknown::Keep) => vec![seed.addr.clone()],
            (addresses, _) => addresses?,
        };
        let targets = addresses
            .into_iter()
            .filter(|addr| known.insert(addr.clone()))
            .map(|addr| Target {
                addr,
                access: Arc::clone(&access),
            })
            .collect();
        sets.push(SeedSet {
            seed: seed.clone(),
            targets,
        });
    }
    Ok(sets)
}

/// What a seed stands for. A name with one address of a family stays a name, so that certificates
/// are checked against it; with several it stands for a node each. Where both families have
/// records (`localhost`), they are two ways to the same nodes, and IPv4 counts.
async fn addresses(addr: &Addr) -> Result<Vec<Addr>, DiscoverError> {
    if addr.ip().is_some() {
        return Ok(vec![addr.clone()]);
    }
    let found = tokio::net::lookup_host((addr.host(), addr.port()))
        .await
        .map_err(|error| DiscoverError::NotResolved {
            name: addr.host().to_string(),
            why: error.to_string(),
        })?;
    let ips: BTreeSet<IpAddr> = found.map(|socket| socket.ip()).collect();
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = ips.into_iter().partition(IpAddr::is_ipv4);
    if v4.len() <= 1 && v6.len() <= 1 {
        return Ok(vec![addr.clone()]);
    }
    let family = if v4.is_empty() { v6 } else { v4 };
    Ok(family
        .into_iter()
        .map(|ip| Addr::new(&ip.to_string(), addr.port()))
        .collect())
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
    lead: Arc<Access>,
    named: HashMap<Addr, Arc<Access>>,
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
    survey.tell_first_syncs();
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
    /// The replicas that are still to get their copy, by master.
    copying: BTreeMap<NodeId, Vec<Addr>>,
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
        let mut copying = BTreeMap::new();
        let mut silent_seeds = Vec::new();
        let mut unreadable = None;
        let mut answers = Vec::new();
        for (_, seed, heard) in heard {
            match heard {
                Ok((report, replicas)) => {
                    copying.insert(report.view.myself().id, replicas);
                    answers.push((seed, report));
                }
                Err(Deaf::Silent(error)) => silent_seeds.push(error),
                Err(Deaf::Unreadable(error)) => {
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
            copying,
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
                    Err(Deaf::Silent(error)) => Seen::Silent(error.fault.to_string()),
                    Err(Deaf::Unreadable(error)) => Seen::Silent(error.to_string()),
                    Ok((report, _)) if report.view.myself().id != id => {
                        Seen::Stranger(report.view.myself().id)
                    }
                    Ok((report, replicas)) => {
                        self.copying.insert(id, replicas);
                        Seen::Report(Box::new(report))
                    }
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

    /// A replica whose master holds its copy back, to send the same to others who may come
    /// (`repl-diskless-sync-delay`), says `down` like one that lost its master. The master knows
    /// better.
    fn tell_first_syncs(&mut self) {
        let mut replicas: BTreeMap<NodeId, Vec<(NodeId, Addr)>> = BTreeMap::new();
        for (node, report) in self.observation.reports() {
            if let (Some(master), Some(peer)) = (report.view.myself().master, &node.peer) {
                let brothers = replicas.entry(master).or_default();
                brothers.push((node.id, peer.clone()));
            }
        }
        for (master, brothers) in replicas {
            let Some(copying) = self.copying.get(&master) else {
                continue;
            };
            for (id, peer) in &brothers {
                // Behind NAT the master sees another host than the nodes announce.
                let is_alone = brothers
                    .iter()
                    .filter(|(_, b)| b.port() == peer.port())
                    .count()
                    == 1;
                let is_copying = copying
                    .iter()
                    .any(|addr| addr == peer || is_alone && addr.port() == peer.port());
                if let Some(Seen::Report(report)) =
                    self.observation.nodes.get_mut(id).map(|n| &mut n.seen)
                    && let Some(MasterLink::Down(_)) = report.info.master_link
                    && is_copying
                {
                    report.info.master_link = Some(MasterLink::Syncing);
                }
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
enum Deaf {
    Silent(ClientError),
    Unreadable(ParseError),
}

/// Looks at a node, and reads what it says before the next one has its turn: a thousand looks are
/// 200 MB of text, and the same lines over and over once they are read. Besides: the replicas that
/// are still to get their copy from it.
async fn hear(
    connections: &Connections,
    target: &Target,
    pool: &Mutex<EntryPool>,
) -> Result<(Report, Vec<Addr>), Deaf> {
    let client = connections.errand(target).await.map_err(Deaf::Silent)?;
    let raw = client.look().await.map_err(Deaf::Silent)?;
    // What a thread that died left behind is whole lines.
    let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
    let report = read(&mut pool, &raw).map_err(Deaf::Unreadable)?;
    Ok((report, copying(&raw.info)))
}

/// Of a master's INFO (`slave0:ip=10.0.0.7,port=6379,state=wait_bgsave,…`), the replicas that are
/// not `online`.
fn copying(info: &str) -> Vec<Addr> {
    let lines = info.lines().filter(|line| line.starts_with("slave"));
    lines
        .filter_map(|line| {
            let (name, fields) = line.split_once(':')?;
            name.strip_prefix("slave")?.parse::<u32>().ok()?;
            let field = |name: &str| {
                let mut fields = fields.split(',').filter_map(|field| field.split_once('='));
                fields.find_map(|(key, value)| (key == name).then_some(value))
            };
            let is_online = field("state")? == "online";
            let addr = Addr::new(field("ip")?, field("port")?.parse().ok()?);
            (!is_online).then_some(addr)
        })
        .collect()
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
    let client = connections.errand(target).await?;
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
    let client = connections.errand(target).await?;
    let mut sums = vec![0; slots.len()];
    for database in databases {
        let counts = client.cluster_countkeysinslot(*database, slots).await?;
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    Ok(sums)
}

/// What a node said, as data.
pub fn read(pool: &mut EntryPool, look: &RawLook) -> Result<Report, ParseError> {
    Ok(Report {
        view: pool.view(&look.nodes)?,
        cluster: ClusterInfo::parse(&look.cluster_info),
        info: Info::parse(&look.info),
        saves: look.save.as_ref().map(|save| !save.is_empty()),
        open_keys: BTreeMap::new(),
    })
}

/// A node that knows nobody and owns nothing.
fn is_alone(view: &View) -> bool {
    view.entries().len() == 1 && view.myself().slots.is_empty()
}

fn share_a_member(one: &View, other: &View) -> bool {
    one.entries().any(|entry| other.entry(entry.id).is_some())
}
