//! `redis-trib replace-node NODE OLD NEW`: a new node replaces an old one.

use std::io;
use std::time::Duration;

use anyhow::anyhow;

use crate::args::values::duration;
use crate::args::values::node_words;
use crate::args::zones::ZoneArgs;
use crate::change::{Approval, Change, Global, Proposal, Question};
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::ops::join::inspect::inspect;
use crate::ops::join::{Allowed, JoinTarget};
use crate::ops::replace::{self, ReplaceDecision, ReplaceRequest};
use crate::seed::Seed;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `replace-node`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "An interrupted run is continued by the same command.\n\nExamples:\n  \
    redis-trib replace-node 10.0.0.3 69a0bef4 10.0.0.13:6379   # a master or a replica, dead or alive\n  \
    redis-trib replace-node 10.0.0.3 10.0.0.4:6379 10.0.0.13 --dry-run"
)]
pub struct Args {
    /// A node of the cluster, as host:port.
    #[arg(value_name = "NODE")]
    node: String,
    /// The node that leaves, by its id, a unique prefix of its id, or its address.
    #[arg(value_name = "OLD")]
    old: String,
    /// The node that joins, empty and in no cluster.
    #[arg(value_name = "NEW")]
    new: Seed,
    /// Let the new node forget its old cluster, if that is gone and the node has no keys.
    #[arg(long, conflicts_with = "reset_hard_and_flush")]
    reset: bool,
    /// The new node LOSES ALL ITS KEYS, its old cluster and its id.
    #[arg(long)]
    reset_hard_and_flush: bool,
    /// Do not ask for confirmation.
    #[arg(short, long, overrides_with = "yes")]
    yes: bool,
    /// Show the steps and exit.
    #[arg(long)]
    dry_run: bool,
    /// Timeout for the join, and for the wait until all nodes agree after the failover.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    join_timeout: Duration,
    /// Timeout for the first full resync of the new node.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    sync_timeout: Duration,
    #[command(flatten)]
    zones: ZoneArgs,
}

/// Replaces a node.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let approval = Approval::of(args.yes, args.dry_run);
    let cluster = [node_words(std::slice::from_ref(&args.node))?];
    let new = [args.new];
    let mut change =
        Change::open_also(global, ui, "replace-node", &new, &cluster, approval).await?;
    let new_session = change.session();
    if new_session.seeds.iter().any(|set| set.is_many()) {
        return Err(Stop::refused(anyhow!(
            "{} stands for several nodes: name the new node by its address; nothing was changed",
            new[0].addr
        )));
    }
    let session = change.also(&cluster).await?;
    let request = ReplaceRequest {
        old: args.old,
        allowed: match (args.reset, args.reset_hard_and_flush) {
            (_, true) => Allowed::HardAndFlush,
            (true, false) => Allowed::Reset,
            (false, false) => Allowed::Nothing,
        },
        zones: args.zones.rules(&global.args),
        join_timeout: args.join_timeout,
        sync_timeout: args.sync_timeout,
    };
    let plan = async || {
        let home = JoinTarget::visit_without(&session, Some(&request.old)).await?;
        let new_nodes = inspect(&new_session, global.args.start_timeout()).await;
        // The cluster was reached: a new node that is not reached is a refusal.
        let new_nodes = new_nodes.map_err(|stop| match stop.code {
            ExitCode::Unreachable => Stop::refused(stop.error.context("nothing was changed")),
            _ => stop,
        })?;
        replace::plan(&session, &new_session, home, new_nodes, &request).await
    };
    let Some(ReplaceDecision::Replace(plan)) = change.approve(plan).await? else {
        return Ok(ExitCode::Done);
    };
    let work = replace::execute(&session, *plan, &request);
    let message = change.execute(work).await?;
    change.finish(&message)
}

impl Proposal for ReplaceDecision {
    fn nothing_to_do(&self) -> Option<String> {
        match self {
            Self::NoChange { message, .. } => Some(message.clone()),
            Self::Replace(_) => None,
        }
    }

    fn lock(&self) -> Vec<Target> {
        match self {
            Self::NoChange { lock, .. } => lock.clone(),
            Self::Replace(plan) => plan.lock(),
        }
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        match self {
            Self::NoChange { .. } => Ok(()),
            Self::Replace(plan) => {
                ui.replace_plan(&plan.view())?;
                plan.warnings.iter().for_each(|warning| ui.warn(warning));
                Ok(())
            }
        }
    }

    fn question(&self) -> Option<Question> {
        let Self::Replace(plan) = self else {
            return None;
        };
        let cluster = plan.cluster();
        Some(Question {
            about: format!(
                "The cluster of {} nodes that {} belongs to.",
                cluster.diagnosis.topology.members.len(),
                cluster.seed()
            ),
            text: "Replace it?".to_string(),
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Replace(one), Self::Replace(other)) => one.is_same(other),
            (Self::NoChange { .. }, Self::NoChange { .. }) => true,
            _ => false,
        }
    }
}
