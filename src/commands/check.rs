//! `redis-trib check NODE`: the health of a cluster, for people, scripts and monitoring.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::args::values::duration;
use crate::args::values::node_words;
use crate::change::{Global, Look, LookUp};
use crate::client::{ClientError, Fault};
use crate::cluster::health::{Background, Diagnosis, Stability};
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::slot::{Slot, SlotSet};
use crate::connections::{Connections, Target};
use crate::discover::{self, DiscoverError, Found};
use crate::exit_code::ExitCode;
use crate::ops::join::zones::ZoneArgs;
use crate::resolve::ResolveError;
use crate::seed::Seed;
use crate::session::Session;
use crate::stop::{CommandResult, Stop};
use crate::ui::{CheckExtra, Strictness, Ui};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "redis-trib check [OPTIONS] <NODE>",
    after_help = "Examples:\n  \
    redis-trib check 10.0.0.3:6379\n  \
    redis-trib check tasks.master --wait 60s        # until healthy, or exit 1\n  \
    redis-trib check 10.0.0.3 --output json | jq '.findings[].code'\n  \
    redis-trib check 127.0.0.1 --local              # a container's HEALTHCHECK\n\n\
    Exit codes: 0 healthy (warnings are allowed), 1 errors were found or --wait ran out,\n\
    2 wrong usage, 3 no cluster node or nodes of two clusters, 4 no node reached."
)]
pub struct Args {
    /// A node of the cluster (`host port` as two words is understood too).
    #[arg(required = true, num_args = 1..=2, value_name = "NODE")]
    node: Vec<String>,
    /// Look again until the cluster is healthy, for this long at most.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    wait: Option<Duration>,
    /// Warnings count as errors.
    #[arg(long)]
    strict: bool,
    /// Write a small key on each master, read it back and delete it.
    #[arg(long)]
    probe_write: bool,
    /// Judge this one process alone: it answers, and runs in cluster mode. It need not be in a
    /// cluster, and what ails other nodes does not count.
    #[arg(long, conflicts_with_all = ["strict", "probe_write", "zone", "zone_from"])]
    local: bool,
    #[command(flatten)]
    zones: ZoneArgs,
}

/// How long a cluster on its way gets before the second look: gossip comes each second.
const SETTLE: Duration = Duration::from_millis(1100);

/// How often `--wait` looks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Checks the health of a cluster.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let seed = node_words(&args.node)?;
    let deadline = args.wait.map(|wait| Instant::now() + wait);
    let mut look = Look::open(global, ui, std::slice::from_ref(&seed)).await?;
    let subject = Subject {
        looked_up: look.looked_up(),
        seed,
    };
    if args.local {
        let addr = look.until_signal(local(&subject, ui, deadline)).await?;
        ui.alive(&addr)?;
        return Ok(ExitCode::Done);
    }
    let strictness = match args.strict {
        true => Strictness::Strict,
        false => Strictness::Lenient,
    };
    let checking = until_healthy(&subject, ui, &args, strictness, deadline);
    let Checked { diagnosis, extra } = look.until_signal(checking).await?;
    ui.diagnosis(&diagnosis, &extra)?;
    Ok(match strictness.passes(&diagnosis) {
        true => ExitCode::Done,
        false => ExitCode::Unhealthy,
    })
}

/// Looks again until the cluster is healthy or the deadline has passed; then what was seen last.
async fn until_healthy(
    subject: &Subject<'_>,
    ui: &Ui,
    args: &Args,
    strictness: Strictness,
    deadline: Option<Instant>,
) -> Result<Checked, Stop> {
    let mut last: Option<Result<Checked, Stop>> = None;
    let outcome = loop {
        let look = subject.check(args, strictness);
        let looked = match (last.take(), deadline) {
            // A node that hangs must not make the last look outlast the wait: then the look before it counts.
            (Some(before), Some(deadline)) => timeout_at(deadline, look).await.unwrap_or(before),
            _ => look.await,
        };
        match &looked {
            Ok(checked) if strictness.passes(&checked.diagnosis) => break looked,
            _ if !before(deadline) => break looked,
            Ok(checked) => ui.waiting(&match checked.diagnosis.findings.first() {
                Some(finding) => format!("not healthy yet: {}", finding.message),
                None => "not healthy yet".to_string(),
            }),
            Err(stop) if may_pass(stop) => ui.waiting(&format!("no answer yet: {:#}", stop.error)),
            Err(_) => break looked,
        }
        last = Some(looked);
        pause(deadline).await;
    };
    outcome.map_err(|stop| late(stop, deadline))
}

fn before(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() < deadline)
}

/// Until the next look.
async fn pause(deadline: Option<Instant>) {
    let next = Instant::now() + LOOK_AGAIN;
    sleep_until(deadline.map_or(next, |deadline| deadline.min(next))).await;
}

/// Whether waiting may help: nodes start, names fill up. A wrong password stays wrong.
fn may_pass(stop: &Stop) -> bool {
    if let Some(error) = stop.error.downcast_ref::<ClientError>() {
        return error.fault.may_pass();
    }
    if let Some(error) = stop.error.downcast_ref::<ResolveError>() {
        return matches!(error, ResolveError::NotResolved { .. });
    }
    match stop.error.downcast_ref::<DiscoverError>() {
        Some(DiscoverError::NobodyAnswers(errors)) => {
            errors.iter().any(|error| error.fault.may_pass())
        }
        _ => false,
    }
}

/// A wait that ran out is exit 1, whatever it waited for.
fn late(stop: Stop, deadline: Option<Instant>) -> Stop {
    match deadline {
        Some(deadline) if Instant::now() >= deadline && may_pass(&stop) => {
            Stop::new(ExitCode::Unhealthy, stop.error.context("--wait ran out"))
        }
        _ => stop,
    }
}

/// The cluster that is checked.
struct Subject<'a> {
    looked_up: LookUp<'a>,
    seed: Seed,
}

struct Checked {
    diagnosis: Diagnosis,
    extra: CheckExtra,
}

impl Subject<'_> {
    /// The seed is looked up again for each look: a node that restarts may get another address.
    async fn session(&self) -> Result<Session, Stop> {
        let seeds = std::slice::from_ref(&self.seed);
        self.looked_up.session(seeds).await
    }

    /// Looks once, and a second time where that may make a difference.
    async fn check(&self, args: &Args, strictness: Strictness) -> Result<Checked, Stop> {
        let session = self.session().await?;
        let connections = &session.connections;
        let targets = session.targets();
        let mut found = discover::find(connections, &targets).await?;
        let nodes: Vec<_> = found
            .observation
            .nodes
            .values()
            .filter_map(|node| Some((node, found.target_of(node)?)))
            .collect();
        let zones = args.zones.zones(connections, &nodes).await;
        let mut notes = args.zones.strays(&nodes);
        let mut background = Background {
            stability: Stability::Unknown,
            zones,
        };
        let signature = found.observation.signature();
        let mut diagnosis = Diagnosis::of(found.observation.clone(), &background);
        if diagnosis.may_settle() {
            sleep(SETTLE).await;
            found = discover::find(connections, &targets).await?;
            background.stability = if found.observation.signature() == signature {
                Stability::Stuck
            } else {
                Stability::Settling
            };
            diagnosis = Diagnosis::of(found.observation.clone(), &background);
        }
        if args.probe_write {
            for (id, why) in probe_write(connections, &found, &diagnosis).await {
                diagnosis.probe_failed(id, &why);
            }
        }
        let silent = found.silent_seeds.iter();
        notes.extend(
            silent
                .filter(|error| !is_member(&diagnosis, &error.addr))
                .map(|error| format!("named, but not known as a member: {error}")),
        );
        let extra = CheckExtra {
            strictness,
            notes,
            zones: background.zones,
        };
        Ok(Checked { diagnosis, extra })
    }
}

fn is_member(diagnosis: &Diagnosis, addr: &Addr) -> bool {
    let mut nodes = diagnosis.observation.nodes.values();
    nodes.any(|node| node.dial.as_ref() == Some(addr) || node.peer.as_ref() == Some(addr))
}

/// Writes, reads and deletes a key on every master that serves slots. One that does not answer has
/// its finding already.
async fn probe_write(
    connections: &Arc<Connections>,
    found: &Found,
    diagnosis: &Diagnosis,
) -> Vec<(NodeId, String)> {
    // Two probes at a time must not delete each other's keys, and in containers all are process 1.
    let run = RandomState::new().build_hasher().finish();
    let open = diagnosis.topology.open_set();
    let mut probing = JoinSet::new();
    for master in diagnosis.topology.masters() {
        let settled = master.slots.difference(&open);
        let node = diagnosis.observation.nodes.get(&master.id);
        let target = node
            .filter(|node| node.report().is_some())
            .and_then(|node| found.target_of(node));
        let (Some(target), Some(key)) = (target, probe_key(&settled, run)) else {
            continue;
        };
        let connections = Arc::clone(connections);
        let id = master.id;
        probing.spawn(async move {
            let probed = probe(&connections, &target, key.as_bytes()).await;
            (id, probed)
        });
    }
    let mut failed: Vec<(NodeId, String)> = probing
        .join_all()
        .await
        .into_iter()
        .filter_map(|(id, probed)| match probed {
            Ok(true) => None,
            Ok(false) => Some((id, "what was written did not come back".to_string())),
            Err(error) => Some((id, error.fault.to_string())),
        })
        .collect();
    failed.sort_unstable();
    failed
}

async fn probe(
    connections: &Connections,
    target: &Target,
    key: &[u8],
) -> Result<bool, ClientError> {
    /// If we are killed before we delete it.
    const GONE_AFTER: Duration = Duration::from_secs(60);
    const VALUE: &[u8] = b"redis-trib";
    let client = connections.temporary(target).await?;
    client.set(key, VALUE, GONE_AFTER).await?;
    let read = client.get(key).await;
    // Whatever came of reading it, it is not left behind.
    client.del(key).await?;
    Ok(read?.as_deref() == Some(VALUE))
}

/// A key that lives in one of these slots, and that nobody else is likely to use.
fn probe_key(slots: &SlotSet, run: u64) -> Option<String> {
    if slots.is_empty() {
        return None;
    }
    // A single slot is met once in 16384 tries on average; a million tries miss it with a chance
    // of 10^-27.
    (0..1_000_000)
        .map(|n| format!("redis-trib:probe:{run:016x}:{n}"))
        .find(|key| slots.contains(Slot::of_key(key.as_bytes())))
}

/// Checks one process alone. A process that is loading its data is alive: a restart would make it start over.
async fn local(subject: &Subject<'_>, ui: &Ui, deadline: Option<Instant>) -> Result<Addr, Stop> {
    loop {
        match alive(subject).await {
            Ok(addr) => return Ok(addr),
            Err(stop) if before(deadline) && may_pass(&stop) => {
                ui.waiting(&format!("no answer yet: {:#}", stop.error));
            }
            Err(stop) => return Err(late(stop, deadline)),
        }
        pause(deadline).await;
    }
}

async fn alive(subject: &Subject<'_>) -> Result<Addr, Stop> {
    let session = subject.session().await?;
    let targets = session.targets();
    let [target] = &targets[..] else {
        return Err(Stop::usage(anyhow!(
            "--local checks one process, and {} stands for {}: name one of them",
            subject.seed.addr,
            targets.len()
        )));
    };
    let client = session.connections.temporary(target).await?;
    match client.look().await {
        Err(error) if !matches!(error.fault, Fault::Loading) => Err(error.into()),
        _ => Ok(target.addr.clone()),
    }
}
