//! `redis-trib backup NODE DIR`: the data of every master, in files.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;

use crate::args::values::{duration, number, refuse_swapped_after};
use crate::backup::BackupOptions;
use crate::change::{Approval, Change, Global, Proposal, Question};
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::ops::data::backup::{self, BackupLayout, BackupPlan};
use crate::seed::Seed;
use crate::stop::{CommandResult, Stop};
use crate::ui::{CheckFor, Ui};

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "redis-trib backup [OPTIONS] <NODE> <DIR>\n       \
    redis-trib backup --verify <DIR>")]
#[command(after_help = "Examples:\n  \
    redis-trib backup 10.0.0.3:6379 /backup/2026-11-22\n  \
    redis-trib backup 10.0.0.3 /backup/2026-11-22 --dry-run     # which node would send what\n  \
    redis-trib backup --verify /backup/2026-11-22               # no cluster needed")]
pub struct Args {
    /// A node of the cluster, then the directory to create (or an empty one); with --verify only the
    /// directory.
    #[arg(required = true, num_args = 1..=2, value_names = ["NODE", "DIR"])]
    words: Vec<String>,
    /// Read the files of a backup and compare them with its manifest.
    #[arg(long, conflicts_with_all = ["from_masters", "per_host", "dry_run"])]
    verify: bool,
    /// Take the data from the masters, even if replicas are in sync.
    #[arg(long)]
    from_masters: bool,
    /// Number of nodes of one host that fork at the same time; nodes below 256 MiB together count as one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number("nodes", 1..=1000))]
    per_host: u16,
    /// Timeout for a node that sends nothing.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    stall_timeout: Duration,
    /// Show which node would send which data and exit.
    #[arg(long)]
    dry_run: bool,
}

/// Makes a backup, or verifies one.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    match (args.verify, args.words.as_slice()) {
        (true, [directory]) => verify(global, ui, Path::new(directory)).await,
        (true, _) => Err(Stop::usage(anyhow!(
            "--verify reads files only: name the directory, and no node"
        ))),
        (false, [node, directory]) => {
            refuse_swapped_after("backup", node, directory)?;
            let seed = node.parse::<Seed>().map_err(Stop::usage)?;
            save(global, ui, &args, seed, Path::new(directory)).await
        }
        (false, _) => Err(Stop::usage(anyhow!(
            "a node and a directory are needed: redis-trib backup NODE DIR"
        ))),
    }
}

async fn save(global: &Global, ui: &Ui, args: &Args, seed: Seed, path: &Path) -> CommandResult {
    // First of all: a wrong directory is reported before a password is asked for.
    backup::check_directory(path)?;
    let approval = match args.dry_run {
        true => Approval::DryRun,
        false => Approval::NotNeeded,
    };
    let mut change = Change::open(global, ui, "backup", &[seed], approval).await?;
    let session = change.session();
    change.check_before(CheckFor::Change).await?;
    let layout = match ui.mode().is_redis_cli() {
        true => BackupLayout::RedisCli,
        false => BackupLayout::Native,
    };
    let plan = async || backup::plan(&session, path, args.from_masters, layout).await;
    let Some(plan) = change.approve(plan).await? else {
        return Ok(ExitCode::Done);
    };
    let directory = backup::prepare_directory(path)?;
    change.has_begun();
    let options = BackupOptions {
        per_host: u32::from(args.per_host),
        silence: args.stall_timeout,
    };
    let work = backup::execute(&session, plan, directory, options);
    let report = change.execute(work).await?;
    ui.backed_up(&report.view, report.took)?;
    Ok(ExitCode::Done)
}

impl Proposal for BackupPlan {
    /// No node changes, so other operators may be at work.
    fn lock(&self) -> Vec<Target> {
        Vec::new()
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        ui.backup(&self.view)
    }

    fn question(&self) -> Option<Question> {
        None
    }

    fn is_same(&self, other: &Self) -> bool {
        self.view == other.view
    }
}

async fn verify(global: &Global, ui: &Ui, path: &Path) -> CommandResult {
    let verifying = global.local(ui, async |events| {
        let report = backup::verify(events, path).await;
        report.map_err(|error| Stop {
            code: ExitCode::Unhealthy,
            ..Stop::refused(error)
        })
    });
    let report = verifying.await?;
    ui.verified(&report.view, report.took)?;
    Ok(ExitCode::Done)
}
