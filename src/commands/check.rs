//! `redis-trib check NODE`: the health of a cluster, for people, scripts and monitoring.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::args::values::{duration, node_words};
use crate::args::zones::ZoneArgs;
use crate::change::{Global, Look, Sessions};
use crate::client::ClientError;
use crate::cluster::node::Addr;
use crate::discover::DiscoverError;
use crate::exit_code::ExitCode;
use crate::ops::check::{self, CheckRequest, Checked};
use crate::resolve::ResolveError;
use crate::seed::Seed;
use crate::session::Session;
use crate::stop::{CommandResult, Stop};
use crate::ui::{CheckExtra, Detail, Strictness, Ui};

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
    2 wrong usage, 3 not a cluster node or nodes of two clusters, 4 no node reached."
)]
pub struct Args {
    /// A node of the cluster (also as two words: `host port`).
    #[arg(required = true, num_args = 1..=2, value_name = "NODE")]
    node: Vec<String>,
    /// Check again until the cluster is healthy, for at most this long.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    wait: Option<Duration>,
    /// Warnings count as errors.
    #[arg(long)]
    strict: bool,
    /// Write a small key on each master, read it back and delete it.
    #[arg(long)]
    probe_write: bool,
    /// Show one line for each shard instead of one for each node, for clusters of many nodes.
    #[arg(long)]
    brief: bool,
    /// Check this one process only: it answers and runs in cluster mode. It need not be in a cluster,
    /// and faults of other nodes do not count.
    #[arg(long, conflicts_with_all = ["brief", "strict", "probe_write", "zone", "zone_from"])]
    local: bool,
    #[command(flatten)]
    zones: ZoneArgs,
}

/// The interval of `--wait`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Checks the health of a cluster.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let seed = node_words(&args.node)?;
    let deadline = args.wait.map(|wait| Instant::now() + wait);
    let mut look = Look::open(global, ui, std::slice::from_ref(&seed)).await?;
    let subject = Subject {
        sessions: look.sessions(),
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
    let checking = until_healthy(&subject, global, ui, &args, strictness, deadline);
    let checked = look.until_signal(checking).await?;
    let detail = match args.brief {
        true => Detail::Shards,
        false => Detail::Nodes,
    };
    let extra = CheckExtra {
        detail,
        strictness,
        notes: checked.notes,
        options: checked.options,
        zones: checked.zones,
    };
    ui.diagnosis(&checked.diagnosis, &extra)?;
    Ok(match strictness.passes(&checked.diagnosis) {
        true => ExitCode::Done,
        false => ExitCode::Unhealthy,
    })
}

/// Checks until the cluster is healthy or the deadline has passed; returns the last result.
async fn until_healthy(
    subject: &Subject<'_>,
    global: &Global,
    ui: &Ui,
    args: &Args,
    strictness: Strictness,
    deadline: Option<Instant>,
) -> Result<Checked, Stop> {
    let zones = args.zones.rules(&global.args);
    let request = CheckRequest {
        zones: &zones,
        probe_write: args.probe_write,
    };
    if deadline.is_some() {
        ui.waiting_begins("checking", left(deadline));
    }
    let mut last: Option<Result<Checked, Stop>> = None;
    let outcome = loop {
        let check = async { check::check(&subject.session().await?, &request).await };
        let checked = match (last.take(), deadline) {
            // A node that hangs must not delay the end of the wait: the previous result counts then.
            (Some(previous), Some(deadline)) => {
                timeout_at(deadline, check).await.unwrap_or(previous)
            }
            _ => check.await,
        };
        match &checked {
            Ok(checked_now) if strictness.passes(&checked_now.diagnosis) => break checked,
            _ if !is_before(deadline) => break checked,
            Ok(checked_now) => {
                let text = match checked_now.diagnosis.findings.first() {
                    Some(finding) => format!("not healthy yet: {}", finding.message),
                    None => "not healthy yet".to_string(),
                };
                ui.waiting_until(&text, left(deadline));
            }
            Err(stop) if may_pass(stop) => {
                ui.waiting_until(&format!("no answer yet: {:#}", stop.error), left(deadline));
            }
            Err(_) => break checked,
        }
        last = Some(checked);
        pause(deadline).await;
    };
    outcome.map_err(|stop| late(stop, deadline))
}

fn is_before(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() < deadline)
}

/// The time until the deadline.
fn left(deadline: Option<Instant>) -> Duration {
    deadline.map_or(Duration::ZERO, |deadline| {
        deadline.saturating_duration_since(Instant::now())
    })
}

/// Waits for the next check.
async fn pause(deadline: Option<Instant>) {
    let next = Instant::now() + INTERVAL;
    sleep_until(deadline.map_or(next, |deadline| deadline.min(next))).await;
}

/// Whether waiting may help: nodes start, DNS names get more addresses. A wrong password stays wrong.
fn may_pass(stop: &Stop) -> bool {
    if let Some(error) = stop.error.downcast_ref::<ClientError>() {
        return error.fault.may_pass();
    }
    if let Some(error) = stop.error.downcast_ref::<ResolveError>() {
        return matches!(error, ResolveError::NotResolved { .. });
    }
    match stop.error.downcast_ref::<DiscoverError>() {
        Some(DiscoverError::NoAnswer(errors)) => errors.iter().any(|error| error.fault.may_pass()),
        _ => false,
    }
}

/// A wait that ran out is exit 1, whatever it waited for.
fn late(stop: Stop, deadline: Option<Instant>) -> Stop {
    match deadline {
        Some(deadline) if Instant::now() >= deadline && may_pass(&stop) => Stop {
            code: ExitCode::Unhealthy,
            ..Stop::refused(stop.error.context("--wait ran out"))
        },
        _ => stop,
    }
}

/// The cluster or process that is checked.
struct Subject<'a> {
    sessions: Sessions<'a>,
    seed: Seed,
}

impl Subject<'_> {
    /// Resolves the seed again for each check: a node that restarts may get another address.
    async fn session(&self) -> Result<Session, Stop> {
        self.sessions.open(std::slice::from_ref(&self.seed)).await
    }
}

/// Checks one process until it is alive or the deadline has passed.
async fn local(subject: &Subject<'_>, ui: &Ui, deadline: Option<Instant>) -> Result<Addr, Stop> {
    loop {
        let alive = async { check::alive(&subject.session().await?, &subject.seed).await };
        match alive.await {
            Ok(addr) => return Ok(addr),
            Err(stop) if is_before(deadline) && may_pass(&stop) => {
                ui.waiting_until(&format!("no answer yet: {:#}", stop.error), left(deadline));
            }
            Err(stop) => return Err(late(stop, deadline)),
        }
        pause(deadline).await;
    }
}
