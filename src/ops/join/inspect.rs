//! Nodes that are to be in a cluster: what they report before anything is changed, and why they can't join.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::origin::Origin;
use crate::client::{ClientError, Fault, LoginOutcome, RawLook};
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::numbers::counted;
use crate::cluster::observation::{ObservedNode, Report, Seen};
use crate::cluster::parse::{Entry, EntryPool};
use crate::cluster::peer_addrs::{self, AddressFacts};
use crate::connections::{Connections, Target};
use crate::discover::{self, DiscoverError};
use crate::ops::raft::{self, Obstacle};
use crate::session::Session;
use crate::state::Participant;
use crate::stop::Stop;

/// The oldest supported server.
const OLDEST: [u16; 3] = [3, 2, 0];

/// How long nodes may load their data set, unless `--settle-timeout` says otherwise.
const LOADED_WITHIN: Duration = Duration::from_secs(15);

/// The pause between two reads of nodes that are starting.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// A node that is to be in the cluster.
#[derive(Clone)]
pub(crate) struct NewNode {
    pub(crate) target: Target,
    /// The seed that it comes from.
    pub(crate) seed_set: usize,
    pub(crate) report: Report,
    /// The address for the other nodes; `None` if its name does not resolve.
    pub(crate) ip: Option<IpAddr>,
    /// Other addresses that it may have for them.
    other_ips: Vec<IpAddr>,
    /// Its port for the other nodes, if it tells clients another one.
    peer_port: Option<u16>,
    /// Its reply to our password.
    pub(crate) login: LoginOutcome,
    pub(crate) masterauth: Masterauth,
    /// What its settings tell about the address from which it connects.
    pub(crate) origin: Origin,
}

/// Whether a node can log in to a master that requires a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Masterauth {
    Set,
    Missing,
    /// No password is required, or CONFIG is denied. A wrong masterauth shows when the node replicates.
    Unknown,
}

/// The reply of one node.
struct Answer {
    raw: RawLook,
    login: LoginOutcome,
    masterauth: Masterauth,
    origin: Origin,
    addresses: AddressFacts,
}

impl NewNode {
    pub(crate) fn id(&self) -> NodeId {
        self.report.view.myself().id
    }

    /// Whether it knows no other node and has neither slots nor keys.
    pub(crate) fn is_bare(&self) -> bool {
        self.report.view.entries().len() == 1
            && self.report.view.myself().slots.is_empty()
            && self.keys() == 0
    }

    pub(crate) fn keys(&self) -> u64 {
        self.report.info.total_keys()
    }

    /// Its port for the other nodes. The bus port is derived from it.
    pub(crate) fn port(&self) -> u16 {
        match (self.peer_port, self.report.view.myself().port) {
            (Some(port), _) => port,
            (None, 0) => self.target.addr.port(),
            (None, port) => port,
        }
    }

    /// Whether `addr` is the address at which we, or the other nodes, reach this node.
    pub(crate) fn is_at(&self, addr: &Addr) -> bool {
        let peer = self.ip.map(|ip| Addr::new(&ip.to_string(), self.port()));
        self.target.addr == *addr || peer.as_ref() == Some(addr)
    }

    /// `127.0.0.1:7000 (1977c4d4)`.
    pub(crate) fn name(&self) -> String {
        format!("{} ({})", self.target.addr, self.id().short())
    }
}

/// Reads all nodes that the session names, on connections that are kept. With a `start_timeout`, nodes may still be
/// starting, and are waited for that long.
pub(crate) async fn inspect(
    session: &Session,
    start_timeout: Option<Duration>,
) -> Result<Vec<NewNode>, Stop> {
    let targets = session.targets();
    let answers = answers(session, &targets, start_timeout).await;
    let sets = session.seeds.iter().enumerate();
    let seed_sets = sets.flat_map(|(i, set)| set.targets.iter().map(move |_| i));
    let mut pool = EntryPool::default();
    let mut nodes = Vec::new();
    let mut faults: Vec<ClientError> = Vec::new();
    let mut unreadable = Vec::new();
    for ((mut target, seed_set), answer) in targets.into_iter().zip(seed_sets).zip(answers) {
        match answer.map(|answer| (discover::read(&mut pool, &answer.raw), answer)) {
            Ok((Ok(report), answer)) => {
                target.node = Some(report.view.myself().id);
                let own = report.view.myself().addr.as_ref();
                let addrs = peer_addrs::of_new_node(own, target.addr.port(), &answer.addresses);
                let mut ips = addrs.iter().filter_map(Addr::ip);
                nodes.push(NewNode {
                    ip: ips.next(),
                    other_ips: ips.collect(),
                    peer_port: answer.addresses.port,
                    target,
                    seed_set,
                    report,
                    login: answer.login,
                    masterauth: answer.masterauth,
                    origin: answer.origin,
                });
            }
            Ok((Err(error), _)) => unreadable.push(format!("{}: {error}", target.addr)),
            Err(error) => faults.push(error),
        }
    }
    faults.extend(asked_again(&session.connections, &nodes).await);
    let none_answered = faults
        .iter()
        .all(|error| error.fault != Fault::ClusterDisabled);
    if nodes.is_empty() && unreadable.is_empty() && none_answered {
        return Err(DiscoverError::NoAnswer(faults).into());
    }
    let problems: Vec<String> = faults
        .iter()
        .map(ToString::to_string)
        .chain(unreadable)
        .collect();
    if !problems.is_empty() {
        return Err(refusal(&problems));
    }
    let on_raft = nodes.iter().find(|node| node.report.cluster.raft.is_some());
    match on_raft {
        Some(node) => {
            let what = format!("{} is", node.name());
            Err(raft::refusal(&what, Obstacle::Meets))
        }
        None => Ok(nodes),
    }
}

/// Reads all nodes, again and again while one of them is starting.
async fn answers(
    session: &Session,
    targets: &[Target],
    start_timeout: Option<Duration>,
) -> Vec<Result<Answer, ClientError>> {
    let began = Instant::now();
    let settle = session.settle_timeout.unwrap_or(LOADED_WITHIN);
    let mut reported = String::new();
    loop {
        let answers = read_all(&session.connections, targets).await;
        let starting = answers.iter().find_map(|answer| match answer {
            Err(error) if is_starting(&error.fault) => Some(error),
            _ => None,
        });
        let Some(starting) = starting else {
            return answers;
        };
        // A node that loads has started; any other may never do.
        let within = match starting.fault {
            Fault::Loading => start_timeout.unwrap_or_default().max(settle),
            _ => start_timeout.unwrap_or_default(),
        };
        if began.elapsed() >= within {
            return answers;
        }
        let waits_for = format!("a node may be starting: {starting}");
        if waits_for != reported {
            session.events.waiting(waits_for.clone());
            reported = waits_for;
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Whether a node that is starting fails in this way.
fn is_starting(fault: &Fault) -> bool {
    matches!(
        fault,
        // MaybeTls: a published port accepts connections before the server behind it listens.
        Fault::Refused | Fault::ConnectTimeout(_) | Fault::Loading | Fault::MaybeTls
    )
}

/// Asks all nodes on a second connection: at the address of a load balancer another node answers then. The connection
/// is kept for the steps that follow.
async fn asked_again(connections: &Arc<Connections>, nodes: &[NewNode]) -> Vec<ClientError> {
    let targets = nodes.iter().map(|node| node.target.clone());
    let asking = connections.fan_out(targets, async |connections, target| {
        connections.client(&target).await.err()
    });
    asking.await.into_iter().flatten().collect()
}

async fn read_all(
    connections: &Arc<Connections>,
    targets: &[Target],
) -> Vec<Result<Answer, ClientError>> {
    let reading = connections.fan_out(targets.to_vec(), |connections, target| async move {
        let answer = read(&connections, &target).await;
        if answer.is_err() {
            connections.drop_client(&target);
        }
        answer
    });
    reading.await
}

async fn read(connections: &Connections, target: &Target) -> Result<Answer, ClientError> {
    const MASTERAUTH: &str = "masterauth";
    const ANNOUNCED: &str = "cluster-announce-ip";
    const BIND: &str = "bind";
    const SOURCE: &str = "bind-source-addr";
    let client = connections.client(target).await?;
    let raw = client.look().await?;
    let config = client
        .config_get(&[MASTERAUTH, ANNOUNCED, BIND, SOURCE])
        .await?;
    let is_set = |name| {
        config
            .get(name)
            .is_some_and(|value: &String| !value.is_empty())
    };
    let is_fixed = is_set(ANNOUNCED) || is_set(SOURCE);
    let origin = Origin::of(config.get(BIND).map(String::as_str), is_fixed);
    let login = client.login_outcome();
    Ok(Answer {
        raw,
        login,
        masterauth: match config.get(MASTERAUTH) {
            _ if login != LoginOutcome::Accepted => Masterauth::Unknown,
            None => Masterauth::Unknown,
            Some(value) if value.is_empty() => Masterauth::Missing,
            Some(_) => Masterauth::Set,
        },
        origin,
        addresses: connections.address_facts(target).await?,
    })
}

/// Refuses with all problems at once.
pub(crate) fn refusal(problems: &[String]) -> Stop {
    match problems {
        [only] => Stop::refused(anyhow::anyhow!("{only}; nothing was changed")),
        many => Stop::refused(anyhow::anyhow!(
            "nothing was changed, for {} reasons:\n  {}",
            many.len(),
            many.join("\n  ")
        )),
    }
}

/// Whether the nodes of a cluster require a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PasswordPolicy {
    Open,
    Required,
}

impl PasswordPolicy {
    /// Returns the policy of nodes that replied to our password in these ways.
    pub(crate) fn of(outcomes: impl IntoIterator<Item = LoginOutcome>) -> Self {
        let mut outcomes = outcomes.into_iter();
        match outcomes.any(|outcome| outcome == LoginOutcome::Accepted) {
            true => Self::Required,
            false => Self::Open,
        }
    }
}

impl NewNode {
    /// Returns why it can't be in a cluster with that policy and role, in words that follow its name.
    pub(crate) fn problems(&self, policy: PasswordPolicy, role: Role) -> Vec<String> {
        let mut problems = Vec::new();
        let info = &self.report.info;
        if let Some(version) = info.version.filter(|version| version.numbers < OLDEST) {
            problems.push(format!(
                "runs {version}: 3.2 is the oldest supported version"
            ));
        }
        if policy == PasswordPolicy::Required && self.login == LoginOutcome::NoPasswordNeeded {
            problems.push(
                "requires no password, but other nodes do: set the same requirepass and masterauth on it"
                    .to_string(),
            );
        }
        if role == Role::Replica && self.masterauth == Masterauth::Missing {
            problems.push(
                "requires a password, but has no masterauth: as a replica it could not log in to its \
                 master (CONFIG SET masterauth)"
                    .to_string(),
            );
        }
        if self.ip.is_none() {
            problems.push(
                "has no IP address for CLUSTER MEET: set cluster-announce-ip on it".to_string(),
            );
        }
        problems
    }

    /// The node as a participant of a plan; `None` if it has no address for the other nodes.
    pub(crate) fn participant(&self) -> Option<Participant> {
        let port = self.port();
        let bus_port = self.report.view.myself().bus_port;
        Some(Participant {
            id: self.id(),
            target: self.target.clone(),
            ip: self.ip?,
            other_ips: self.other_ips.clone(),
            port,
            bus_port: bus_port.filter(|bus| Some(*bus) != port.checked_add(10_000)),
        })
    }

    /// The node as a member of an observed cluster.
    pub(crate) fn observed(&self) -> ObservedNode {
        ObservedNode {
            id: self.id(),
            dial: Some(self.target.addr.clone()),
            peer: self.ip.map(|ip| Addr::new(&ip.to_string(), self.port())),
            hostname: self.report.view.myself().hostname.clone(),
            seen: Seen::Report(Box::new(self.report.clone())),
        }
    }
}

/// Returns a problem if one of the nodes has a loopback address and another node, or one of `members`, has not:
/// a loopback address means a different machine to each node.
pub(crate) fn loopback_problem(nodes: &[NewNode], members: &[IpAddr]) -> Option<String> {
    let ips = nodes.iter().filter_map(|node| node.ip);
    let elsewhere = ips
        .chain(members.iter().copied())
        .find(|ip| !ip.is_loopback())?;
    let local = nodes
        .iter()
        .find(|node| node.ip.is_some_and(|ip| ip.is_loopback()))?;
    Some(format!(
        "{} is a loopback address: the node at {elsewhere} could not reach it there; name it by an \
         address that all nodes can reach",
        local.name()
    ))
}

/// Lists nodes by address and short id; `None` if there are none.
pub(crate) fn list_nodes<'a>(entries: impl Iterator<Item = &'a Arc<Entry>>) -> Option<String> {
    const NAMED: usize = 4;
    let mut names: Vec<String> = entries.map(ToString::to_string).collect();
    let more = names.len().saturating_sub(NAMED);
    if more > 0 {
        names.truncate(NAMED);
        names.push(format!("{more} more"));
    }
    (!names.is_empty()).then(|| names.join(", "))
}

/// `1 key`, `2 keys`.
pub(crate) fn key_count(keys: u64) -> String {
    counted(keys, "key")
}
