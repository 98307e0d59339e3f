//! Name resolution: a name that the user gives may stand for many nodes.

#[cfg(target_env = "musl")]
mod dns;

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::cluster::naming::NoSuchNode;
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::observation::Observation;
use crate::connections::{DialOptions, Target};
use crate::exit_code::ExitCode;
use crate::seed::{Seed, parse_addr};
use crate::stop::Stop;

/// The pause between two lookups of a name that does not have all its addresses yet.
const RESOLVE_AGAIN: Duration = Duration::from_millis(500);

/// The deadline of one lookup: a resolver tries each of its servers for 5 s.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(15);

/// The nodes that one seed stands for.
#[derive(Debug, Clone)]
pub struct SeedSet {
    /// The seed as written.
    pub seed: Seed,
    /// One node or several.
    pub targets: Vec<Target>,
}

impl SeedSet {
    /// Whether the name stands for several nodes.
    pub fn is_many(&self) -> bool {
        self.targets.len() > 1
    }
}

/// Why seeds do not stand for the expected nodes.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The name has no address.
    #[error("{name:?} does not resolve: {why}")]
    NotResolved {
        /// The name.
        name: String,
        /// The resolver's message.
        why: String,
    },
    /// The names stand for too few or too many nodes.
    #[error(
        "{} found after {}, {} expected (--expect-nodes): {}; --resolve-timeout waits longer",
        .addrs.len(),
        humantime::format_duration(.expected.within),
        .expected.nodes,
        list(.addrs)
    )]
    WrongNumber {
        /// The expected number.
        expected: Expected,
        /// The nodes that were found in time.
        addrs: Vec<Addr>,
    },
    /// Only addresses were given, which stand for one node each, and their number is not the expected one.
    #[error("{} nodes are named, {expected} expected (--expect-nodes): {}", .addrs.len(), list(.addrs))]
    MiscountedAddresses {
        /// The expected number.
        expected: usize,
        /// The given addresses.
        addrs: Vec<Addr>,
    },
}

fn list(addrs: &[Addr]) -> String {
    if addrs.is_empty() {
        return "none".to_string();
    }
    let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
    addrs.join(", ")
}

/// How many nodes the seeds must stand for, and how long to wait for them.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// The number of nodes in all seed sets together.
    pub nodes: usize,
    /// The time limit: names of services get their addresses one by one while the service starts.
    pub within: Duration,
}

/// Which addresses of a name are used, if it has both kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Any; IPv4 for names that stand for several nodes.
    Any,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Resolves all seeds. Each address is kept once, in the order of the seeds. `tell` receives what is waited for,
/// whenever that changes.
///
/// A name that does not resolve is kept as it is unless a number of nodes is expected: the connection to it fails
/// with the reason, next to the errors of other seeds.
pub async fn resolve(
    seeds: &[Seed],
    access: impl Fn(&Seed) -> DialOptions,
    family: Family,
    expected: Option<Expected>,
    tell: impl Fn(&str),
) -> Result<Vec<SeedSet>, ResolveError> {
    let Some(expected) = expected else {
        return resolve_once(seeds, &access, family, Unknown::Keep).await;
    };
    let deadline = Instant::now() + expected.within;
    let all_fixed = seeds.iter().all(|seed| seed.addr.ip().is_some());
    let mut told = String::new();
    loop {
        let sets = resolve_once(seeds, &access, family, Unknown::Fail).await;
        let late = Instant::now() >= deadline;
        let waits_for = match sets {
            Ok(sets) => {
                let addrs: Vec<Addr> = targets(&sets).map(|target| target.addr.clone()).collect();
                if addrs.len() == expected.nodes {
                    return Ok(sets);
                }
                if all_fixed {
                    let expected = expected.nodes;
                    return Err(ResolveError::MiscountedAddresses { expected, addrs });
                }
                if late {
                    return Err(ResolveError::WrongNumber { expected, addrs });
                }
                let found = addrs.len();
                format!(
                    "{} nodes are expected, {found} found so far",
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

/// Returns the member that a user names: by what [`Observation::find`] takes, or by a host name that resolves to the
/// address of a member.
pub fn find_member(observation: &Observation, name: &str) -> Result<NodeId, NoSuchNode> {
    let unknown = match observation.find(name) {
        Err(NoSuchNode::Unknown(unknown)) => NoSuchNode::Unknown(unknown),
        found => return found,
    };
    let is_id = name.chars().all(|c| c.is_ascii_hexdigit());
    let addr = parse_addr(name).ok().filter(|addr| addr.ip().is_none());
    let Some(addr) = addr.filter(|_| !is_id) else {
        return Err(unknown);
    };
    // The names of a command line are few, and nothing else is under way.
    let found = tokio::task::block_in_place(|| (addr.host(), addr.port()).to_socket_addrs());
    let ips = found.into_iter().flatten().map(|found| found.ip());
    let named = ips.filter_map(|ip| {
        let addr = Addr::new(&ip.to_canonical().to_string(), addr.port());
        observation.find(&addr.to_string()).ok()
    });
    let named: BTreeSet<NodeId> = named.collect();
    match (named.first(), named.len()) {
        (Some(only), 1) => Ok(*only),
        (None, _) => Err(unknown),
        (Some(_), _) => Err(NoSuchNode::Several {
            name: name.to_string(),
            nodes: named.iter().map(|id| observation.name(*id)).collect(),
        }),
    }
}

/// All nodes of all sets, in order.
pub fn targets(sets: &[SeedSet]) -> impl Iterator<Item = &Target> {
    sets.iter().flat_map(|set| &set.targets)
}

/// How to treat a name that does not resolve.
#[derive(Debug, Clone, Copy)]
enum Unknown {
    Keep,
    Fail,
}

async fn resolve_once(
    seeds: &[Seed],
    access: &impl Fn(&Seed) -> DialOptions,
    family: Family,
    unknown: Unknown,
) -> Result<Vec<SeedSet>, ResolveError> {
    let mut known = HashSet::new();
    let mut sets = Vec::with_capacity(seeds.len());
    for seed in seeds {
        let access = Arc::new(access(seed));
        let addresses = match (addresses(&seed.addr, family).await, unknown) {
            (Err(_), Unknown::Keep) => vec![seed.addr.clone()],
            (addresses, _) => addresses?,
        };
        let targets = addresses
            .into_iter()
            .filter(|addr| known.insert(addr.clone()))
            .map(|addr| Target {
                addr,
                node: None,
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

/// Returns the addresses that a seed stands for. A name with one address per family stays a name, so that
/// certificates are verified against it; with several it stands for one node each. Where both families have records
/// (`localhost`), they lead to the same nodes, and `family` selects one.
async fn addresses(addr: &Addr, family: Family) -> Result<Vec<Addr>, ResolveError> {
    if addr.ip().is_some() {
        return Ok(vec![addr.clone()]);
    }
    let not_resolved = |why: String| ResolveError::NotResolved {
        name: addr.host().to_string(),
        why,
    };
    let look_up = tokio::net::lookup_host((addr.host(), addr.port()));
    let found = timeout(LOOK_UP_WITHIN, look_up)
        .await
        .map_err(|_| not_resolved("no answer from DNS".to_string()))?
        .map_err(|error| not_resolved(error.to_string()))?;
    let found: Vec<IpAddr> = found.map(|socket| socket.ip()).collect();
    #[cfg(target_env = "musl")]
    let found = if found.len() == dns::GETADDRINFO_LIMIT {
        // If DNS does not answer, those that were found are used.
        found
            .into_iter()
            .chain(dns::addresses(addr.host()).await)
            .collect()
    } else {
        found
    };
    let ips: BTreeSet<IpAddr> = found.into_iter().collect();
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = ips.into_iter().partition(IpAddr::is_ipv4);
    let is_one_name = match family {
        Family::Any => v4.len() <= 1 && v6.len() <= 1,
        // The name would be dialled at whichever address comes first.
        Family::V4 | Family::V6 => v4.len() + v6.len() <= 1,
    };
    if is_one_name {
        return Ok(vec![addr.clone()]);
    }
    let ips = match family {
        Family::V6 if !v6.is_empty() => v6,
        _ if v4.is_empty() => v6,
        _ => v4,
    };
    Ok(ips
        .into_iter()
        .map(|ip| Addr::new(&ip.to_string(), addr.port()))
        .collect())
}

impl From<ResolveError> for Stop {
    fn from(error: ResolveError) -> Self {
        let code = match &error {
            ResolveError::NotResolved { .. } => ExitCode::Unreachable,
            ResolveError::WrongNumber { .. } | ResolveError::MiscountedAddresses { .. } => {
                ExitCode::Refused
            }
        };
        Self::new(code, error)
    }
}
