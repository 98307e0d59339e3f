//! From names to addresses: what the user named may stand for many nodes.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::cluster::node::Addr;
use crate::connections::{DialOptions, Target};
use crate::exit_code::ExitCode;
use crate::seed::Seed;
use crate::stop::Stop;

/// How often a name is looked up again while it fills up.
const RESOLVE_AGAIN: Duration = Duration::from_millis(500);

/// How long one look-up may take: a resolver tries each of its servers for 5 s.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(15);

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

/// Why seeds don't stand for the nodes that they should.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
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

/// Which addresses of a name count, where it has both kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Whichever answers; of names that stand for several nodes, IPv4.
    Any,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Looks all seeds up. Each address is kept once, in the order of the seeds. `tell` hears what is
/// waited for, whenever that changes.
///
/// A name that does not resolve is left as it is where no number is expected: connecting to it says
/// so, beside what is wrong with the others.
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
/// records (`localhost`), they are two ways to the same nodes, and `family` says which counts.
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
        .map_err(|_| not_resolved("the DNS does not answer".to_string()))?
        .map_err(|error| not_resolved(error.to_string()))?;
    let ips: BTreeSet<IpAddr> = found.map(|socket| socket.ip()).collect();
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = ips.into_iter().partition(IpAddr::is_ipv4);
    let is_one_name = match family {
        Family::Any => v4.len() <= 1 && v6.len() <= 1,
        // A name would be dialled by whichever address comes first.
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
