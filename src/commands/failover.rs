//! `redis-trib failover NODE ID`: a replica takes over from its master.

use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::mpsc;

use crate::args::values::duration;
use crate::args::values::node_words;
use crate::change::Global;
use crate::change::legacy::Access;
use crate::change::legacy::Signals;
use crate::cluster::node::Takeover;
use crate::exit_code::ExitCode;
use crate::ops::failover::{Failed, FailoverPlan};
use crate::session::{LockHeld, Session};
use crate::state::ClusterState;
use crate::stop::{CommandResult, Stop};
use crate::ui::{FailoverReport, Ui};

/// Arguments of `failover`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib failover 10.0.0.3 105f108d          # this replica takes over, no write is lost\n  \
    redis-trib failover 10.0.0.3 10.0.0.5:6379     # of this master's replicas, the best\n  \
    redis-trib failover 10.0.0.3 105f108d --force  # its master is dead, and no vote came about")]
pub struct Args {
    /// A node of the cluster, as host:port.
    #[arg(value_name = "NODE")]
    node: String,
    /// The replica that takes over, or the master that hands over to its best one; by id, the
    /// beginning of one, or address.
    #[arg(value_name = "ID")]
    id: String,
    /// Without the master's help, where it is dead: writes that it has not sent ARE LOST. A majority
    /// of masters must agree.
    #[arg(long, conflicts_with = "takeover")]
    force: bool,
    /// Without anybody's vote, where the majority of masters is gone: as --force, and two sides of a
    /// split network may both take writes, of which one side's ARE LOST.
    #[arg(long)]
    takeover: bool,
    /// Don't ask.
    #[arg(short, long)]
    yes: bool,
    /// Show who would take over, and stop.
    #[arg(long)]
    dry_run: bool,
    /// How long all nodes may take to agree, and the old master to follow.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

impl Args {
    fn how(&self) -> Takeover {
        match (self.force, self.takeover) {
            (_, true) => Takeover::Takeover,
            (true, false) => Takeover::Force,
            (false, false) => Takeover::Planned,
        }
    }
}

/// Lets a replica take over.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let outcome = fail_over(global, ui, &args).await;
    if let Err(stop) = &outcome {
        ui.stopped(stop.code, &stop.error)?;
    }
    outcome
}

async fn fail_over(global: &Global, ui: &Ui, args: &Args) -> CommandResult {
    let mut signals = Signals::listen()?;
    let prepared = tokio::select! {
        // A prompt that is interrupted says so itself.
        biased;
        prepared = prepare(global, ui, args) => prepared?,
        signal = signals.next() => {
            return Err(Stop::interrupted(anyhow!("interrupted ({signal}): nothing was changed")));
        }
    };
    let Some((session, cluster, succession)) = prepared else {
        return Ok(ExitCode::Done);
    };
    let (events, mut told) = mpsc::unbounded_channel();
    let show = async {
        while let Some(event) = told.recv().await {
            ui.event(&event);
        }
    };
    let work = succession.carry_out(&session, &cluster, ui, events, args.timeout);
    tokio::select! {
        biased;
        (outcome, ()) = async { tokio::join!(work, show) } => ended(ui, &cluster, outcome),
        signal = signals.next() => Err(Stop::interrupted(anyhow!(
            "interrupted ({signal}): {} takes over all the same, if it can; redis-trib check {} tells",
            cluster.name(succession.replica),
            cluster.resume_seed()
        ))),
    }
}

fn ended(
    ui: &Ui,
    cluster: &ClusterState,
    outcome: Result<FailoverReport, Failed>,
) -> CommandResult {
    match outcome {
        Ok(succeeded) => {
            ui.succeeded(&succeeded)?;
            ui.done(ExitCode::Done, "")?;
            Ok(ExitCode::Done)
        }
        Err(failed) if failed.has_changed() => Err(Stop::partial(anyhow!(
            "{failed}\nTo see where it stands:\n  redis-trib check {} --wait 30s",
            cluster.resume_seed()
        ))),
        Err(failed) => Err(Stop::refused(anyhow!("{failed}; nothing was changed"))),
    }
}

/// Everything up to the command; `None` where nothing is to be done.
async fn prepare(
    global: &Global,
    ui: &Ui,
    args: &Args,
) -> Result<Option<(Session, ClusterState, FailoverPlan)>, Stop> {
    let seed = node_words(std::slice::from_ref(&args.node))?;
    let intent = match args.dry_run {
        true => Access::Read,
        false => Access::Change("failover"),
    };
    let session = crate::change::legacy::open(global, ui, &[seed], intent).await?;
    let mut cluster = ClusterState::settled(&session).await?;
    let mut succession = succession(&cluster, args)?;
    if !args.dry_run && alone(&session, &cluster, &succession).await? == LockHeld::AfterWaiting {
        cluster = ClusterState::settled(&session).await?;
        succession = self::succession(&cluster, args)?;
    }
    ui.succession(&succession.view(&cluster))?;
    if args.dry_run {
        ui.done(ExitCode::Done, "Dry run: nothing was changed.")?;
        return Ok(None);
    }
    if !args.yes {
        let about = format!(
            "The cluster of {} nodes that {} belongs to.",
            cluster.diagnosis.topology.members.len(),
            cluster.seed()
        );
        let question = match succession.how {
            Takeover::Planned => "Let it take over?",
            Takeover::Force | Takeover::Takeover => "Let it take over, and lose such writes?",
        };
        crate::change::legacy::consent(ui, question, &about).await?;
        // People take their time.
        if alone(&session, &cluster, &succession).await? == LockHeld::AfterWaiting {
            return Err(Stop::refused(anyhow!(
                "another redis-trib was at work on this cluster meanwhile: look again; nothing was \
                 changed"
            )));
        }
        let now = ClusterState::look(&session).await?;
        if self::succession(&now, args)? != succession {
            return Err(Stop::refused(anyhow!(
                "the cluster is another than it was when it was shown: look again; nothing was changed"
            )));
        }
        cluster = now;
    }
    Ok(Some((session, cluster, succession)))
}

fn succession(cluster: &ClusterState, args: &Args) -> Result<FailoverPlan, Stop> {
    let found = cluster.diagnosis.observation.find(&args.id);
    FailoverPlan::of(cluster, found.map_err(Stop::refused)?, args.how())
}

/// Nobody else is at work on the masters, or on the replica.
async fn alone(
    session: &Session,
    cluster: &ClusterState,
    succession: &FailoverPlan,
) -> Result<LockHeld, Stop> {
    let reports = cluster.diagnosis.observation.reports();
    let answer: Vec<_> = reports.map(|(node, _)| node.id).collect();
    let masters = cluster.diagnosis.topology.masters().map(|m| m.id);
    let targets = masters
        .chain([succession.replica])
        .filter(|id| answer.contains(id))
        .filter_map(|id| cluster.reach.get(&id));
    session.refuse_others(targets).await
}
