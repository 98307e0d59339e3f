//! The nodes that shall be in a cluster: what they are before anything is done, and what speaks
//! against them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::change::Global;
use crate::client::{ClientError, Fault, LoginOutcome, NodeClient, RawLook};
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::{ObservedNode, Report, Seen};
use crate::cluster::parse::{Entry, EntryPool};
use crate::connections::{Connections, Target};
use crate::discover::{self, DiscoverError};
use crate::session::Session;
use crate::state::Participant;
use crate::stop::Stop;
use crate::ui::Ui;

/// The oldest server that is served.
const OLDEST: [u16; 3] = [3, 2, 0];

/// Between two looks at nodes that are starting.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A node that shall be in the cluster.
#[derive(Clone)]
pub(crate) struct NewNode {
    pub(crate) target: Target,
    /// Which of the seeds it came from.
    pub(crate) seed_set: usize,
    pub(crate) report: Report,
    /// Where the other nodes reach it; `None` where its name tells us no address.
    pub(crate) ip: Option<IpAddr>,
    /// What it said to our password.
    pub(crate) login: LoginOutcome,
    pub(crate) masterauth: Masterauth,
}

/// Whether a node could log in to a master that wants a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Masterauth {
    Set,
    Missing,
    /// Nobody wants one, or CONFIG is denied: we find out when it follows.
    Unknown,
}

/// What one node answers.
struct Answer {
    raw: RawLook,
    login: LoginOutcome,
    masterauth: Masterauth,
    announced: Option<String>,
    remote: Option<IpAddr>,
}

impl NewNode {
    pub(crate) fn id(&self) -> NodeId {
        self.report.view.myself().id
    }

    /// Knows nobody, owns nothing, holds nothing.
    pub(crate) fn is_bare(&self) -> bool {
        self.report.view.entries().len() == 1
            && self.report.view.myself().slots.is_empty()
            && self.keys() == 0
    }

    pub(crate) fn keys(&self) -> u64 {
        self.report.info.total_keys()
    }

    /// Its port for the other nodes; the bus port goes with it.
    pub(crate) fn port(&self) -> u16 {
        match self.report.view.myself().port {
            0 => self.target.addr.port(),
            port => port,
        }
    }

    /// Whether that address means this node, as we reach it or as the others do.
    pub(crate) fn is_at(&self, addr: &Addr) -> bool {
        let peer = self.ip.map(|ip| Addr::new(&ip.to_string(), self.port()));
        self.target.addr == *addr || peer.as_ref() == Some(addr)
    }

    /// `127.0.0.1:7000 (1977c4d4)`.
    pub(crate) fn name(&self) -> String {
        format!("{} ({})", self.target.addr, self.id().short())
    }
}

/// Reads all nodes side by side, on connections that are kept. While names fill up, nodes may still
/// be starting.
pub(crate) async fn recruit(
    global: &Global,
    ui: &Ui,
    session: &Session,
) -> Result<Vec<NewNode>, Stop> {
    let targets = session.targets();
    let patience = global
        .args
        .expect_nodes
        .map(|_| Instant::now() + global.args.resolve_timeout);
    let mut told = String::new();
    let answers = loop {
        let answers = ask_all(&session.connections, &targets).await;
        let starting = answers.iter().find_map(|answer| match answer {
            Err(error) if is_starting(&error.fault) => Some(error),
            _ => None,
        });
        let (Some(starting), Some(patience)) = (starting, patience) else {
            break answers;
        };
        if Instant::now() >= patience {
            break answers;
        }
        let waits_for = format!("a node may be starting: {starting}");
        if waits_for != told {
            ui.waiting(&waits_for);
            told = waits_for;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let sets = session.seeds.iter().enumerate();
    let seed_sets = sets.flat_map(|(i, set)| set.targets.iter().map(move |_| i));
    let mut pool = EntryPool::default();
    let mut recruits = Vec::new();
    let mut faults: Vec<ClientError> = Vec::new();
    let mut unreadable = Vec::new();
    for ((target, seed_set), answer) in targets.into_iter().zip(seed_sets).zip(answers) {
        match answer.map(|answer| (discover::read(&mut pool, &answer.raw), answer)) {
            Ok((Ok(report), answer)) => {
                let ip = peer_ip(session, &target, &report, &answer).await;
                recruits.push(NewNode {
                    target,
                    seed_set,
                    report,
                    ip,
                    login: answer.login,
                    masterauth: answer.masterauth,
                });
            }
            Ok((Err(error), _)) => unreadable.push(format!("{}: {error}", target.addr)),
            Err(error) => faults.push(error),
        }
    }
    let none_spoke = faults
        .iter()
        .all(|error| error.fault != Fault::ClusterDisabled);
    if recruits.is_empty() && unreadable.is_empty() && none_spoke {
        return Err(DiscoverError::NobodyAnswers(faults).into());
    }
    let problems: Vec<String> = faults
        .iter()
        .map(ToString::to_string)
        .chain(unreadable)
        .collect();
    if problems.is_empty() {
        Ok(recruits)
    } else {
        Err(refusal(&problems))
    }
}

/// What a node that is just being started looks like from outside.
fn is_starting(fault: &Fault) -> bool {
    matches!(
        fault,
        // The last is a published port before anybody listens behind it.
        Fault::Refused | Fault::ConnectTimeout(_) | Fault::Loading | Fault::MaybeTls
    )
}

async fn ask_all(
    connections: &Arc<Connections>,
    targets: &[Target],
) -> Vec<Result<Answer, ClientError>> {
    let mut asking = JoinSet::new();
    for (i, target) in targets.iter().cloned().enumerate() {
        let connections = Arc::clone(connections);
        asking.spawn(async move {
            let answer = async { ask(&*connections.client(&target).await?).await }.await;
            if answer.is_err() {
                connections.drop_client(&target);
            }
            (i, answer)
        });
    }
    let mut answers = asking.join_all().await;
    answers.sort_unstable_by_key(|(i, _)| *i);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

async fn ask(client: &NodeClient) -> Result<Answer, ClientError> {
    const MASTERAUTH: &str = "masterauth";
    const ANNOUNCED: &str = "cluster-announce-ip";
    let raw = client.look().await?;
    let mut config = client.config_get(&[MASTERAUTH, ANNOUNCED]).await?;
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
        announced: config.remove(ANNOUNCED).filter(|ip| !ip.is_empty()),
        remote: client.remote_ip(),
    })
}

/// Where the other nodes reach it: where it says that it does, else where the address map says, else
/// where we have just reached it. The address in its own line of CLUSTER NODES comes last: a node
/// keeps it from the last time it was met, which may have been elsewhere.
async fn peer_ip(
    session: &Session,
    target: &Target,
    report: &Report,
    answer: &Answer,
) -> Option<IpAddr> {
    if let Some(ip) = answer.announced.as_ref().and_then(|ip| ip.parse().ok()) {
        return Some(ip);
    }
    let mapped = session.connections.peer_of(&target.addr);
    if mapped == target.addr {
        let known = report.view.myself().addr.as_ref();
        return answer.remote.or(known.and_then(Addr::ip));
    }
    if mapped.ip().is_some() {
        return mapped.ip();
    }
    let mut found = tokio::net::lookup_host((mapped.host(), mapped.port()))
        .await
        .ok()?;
    found.next().map(|socket| socket.ip())
}

/// Everything that speaks against it, at once.
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

/// What the others in the cluster demand of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    /// They need no password.
    Open,
    /// They need one.
    Locked,
}

impl Rules {
    /// What those who logged in with this outcome demand.
    pub(crate) fn of(outcomes: impl IntoIterator<Item = LoginOutcome>) -> Self {
        let mut outcomes = outcomes.into_iter();
        match outcomes.any(|outcome| outcome == LoginOutcome::Accepted) {
            true => Self::Locked,
            false => Self::Open,
        }
    }
}

impl NewNode {
    /// What keeps a node out of any cluster, or of one with these rules, in words that follow its
    /// name.
    pub(crate) fn unfit(&self, rules: Rules, role: Role) -> Vec<String> {
        let mut unfit = Vec::new();
        let info = &self.report.info;
        if let Some(version) = info.version.filter(|version| version.numbers < OLDEST) {
            unfit.push(format!("runs {version}: 3.2 is the oldest that is served"));
        }
        if rules == Rules::Locked && self.login == LoginOutcome::NoPasswordNeeded {
            unfit.push(
                "needs no password, while others do: give it the same requirepass and masterauth"
                    .to_string(),
            );
        }
        if role == Role::Replica && self.masterauth == Masterauth::Missing {
            unfit.push(
                "wants a password, but has no masterauth: as a replica it could not log in to its \
                 master (CONFIG SET masterauth)"
                    .to_string(),
            );
        }
        if self.ip.is_none() {
            unfit.push(
                "has no IP address that the other nodes could be told: set cluster-announce-ip"
                    .to_string(),
            );
        }
        unfit
    }

    /// Who it is for the others; `None` where nobody can be told an address of it.
    pub(crate) fn participant(&self) -> Option<Participant> {
        let port = self.port();
        let bus_port = self.report.view.myself().bus_port;
        Some(Participant {
            id: self.id(),
            target: self.target.clone(),
            ip: self.ip?,
            port,
            bus_port: bus_port.filter(|bus| Some(*bus) != port.checked_add(10_000)),
        })
    }

    /// The node as others show it.
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

/// A loopback address means another machine to each node. `others` are those that the recruits join.
pub(crate) fn loopback(recruits: &[NewNode], others: &[IpAddr]) -> Option<String> {
    let ips = recruits.iter().filter_map(|recruit| recruit.ip);
    let elsewhere = ips
        .chain(others.iter().copied())
        .find(|ip| !ip.is_loopback())?;
    let local = recruits
        .iter()
        .find(|recruit| recruit.ip.is_some_and(|ip| ip.is_loopback()))?;
    Some(format!(
        "{} is a loopback address: the node at {elsewhere} could not reach it there; name it by an \
         address that all nodes can reach",
        local.name()
    ))
}

/// Nodes that a node knows, by address and short id; `None` for nobody.
pub(crate) fn known<'a>(entries: impl Iterator<Item = &'a Arc<Entry>>) -> Option<String> {
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
pub(crate) fn counted(keys: u64) -> String {
    match keys {
        1 => "1 key".to_string(),
        keys => format!("{keys} keys"),
    }
}
