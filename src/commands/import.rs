//! `redis-trib import --from SRC NODE`: keys of a server, or of RDB files, into a cluster.

mod files;

use std::io;

use crate::args::source::SourceArgs;
use crate::args::transfer::{OnConflictArg, TransferArgs};
use crate::args::values::node_words;
use crate::change::{Approval, Change, Global, Proposal, Question, transfer};
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::ops::data::import::{self, ImportPlan, ImportRequest};
use crate::ops::data::source::{ClusterNodes, SourceRequest};
use crate::ops::data::{self, Afterwards};
use crate::stop::CommandResult;
use crate::transfer::{OnConflict, ReadFrom, TransferMode};
use crate::ui::{CheckFor, Ui};

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib import --from 10.0.0.9:6379 10.0.0.3:6379\n  \
    redis-trib import --from redis://:secret@10.0.0.9/3 10.0.0.3 --pattern 'user:*' --dry-run\n  \
    redis-trib import --from 10.0.0.9 10.0.0.3 --from-db all --key-prefix 1=tenant: --verify\n  \
    redis-trib import --from 10.0.0.9 10.0.0.3 --move --on-existing-key abort --yes\n  \
    redis-trib import --from dump.rdb.gz --from ./appendonlydir 10.0.0.3")]
pub struct Args {
    /// A node of the cluster (also as two words: `host port`).
    #[arg(required = true, num_args = 1..=2, value_name = "NODE")]
    node: Vec<String>,
    #[command(flatten)]
    source: SourceArgs,
    /// Read the replicas of a source cluster instead of its masters.
    #[arg(long, conflicts_with = "moving")]
    from_replicas: bool,
    /// Delete keys at the source once they are in the cluster.
    ///
    /// A key that has changed since is copied again first.
    #[arg(long = "move")]
    moving: bool,
    /// How to treat keys that exist in the cluster with another value.
    #[arg(
        long = "on-existing-key",
        alias = "on-conflict",
        value_name = "WHAT",
        default_value = "skip"
    )]
    on_conflict: OnConflictArg,
    /// Overwrite keys that exist in the cluster (--on-existing-key replace).
    #[arg(long, conflicts_with = "on_conflict")]
    replace: bool,
    /// Compare the keys of both sides afterwards (redis-trib verify).
    #[arg(long, conflicts_with = "moving")]
    verify: bool,
    #[command(flatten)]
    transfer: TransferArgs,
}

impl Args {
    fn on_conflict(&self) -> OnConflict {
        match self.replace {
            true => OnConflict::Replace,
            false => self.on_conflict.into(),
        }
    }

    fn afterwards(&self) -> Afterwards {
        match self.verify {
            true => Afterwards::Compare,
            false => Afterwards::End,
        }
    }
}

/// Copies or moves keys.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    if let Some(paths) = args.source.files()? {
        return files::run(global, ui, args, paths).await;
    }
    let seeds = [node_words(&args.node)?];
    let databases = args.source.databases()?;
    let approval = Approval::of(args.transfer.yes, args.transfer.dry_run);
    let source = args.source.server()?.clone();
    let also = std::slice::from_ref(&source);
    let mut change = Change::open_also(global, ui, "import", &seeds, also, approval).await?;
    let heading = format!("Importing data from {} to cluster {}", source, seeds[0]);
    ui.old_heading(&heading)?;
    change.check_before(CheckFor::Change).await?;
    let request = ImportRequest {
        source: SourceRequest {
            session: match args.moving {
                true => None,
                false => Some(change.session_without_name()),
            },
            target: args.source.of_change(global, &mut change).await?,
            databases,
            read_from: match args.from_replicas {
                true => ReadFrom::Replicas,
                false => ReadFrom::Masters,
            },
            cluster_nodes: match ui.mode().is_old() {
                true => ClusterNodes::Refuse,
                false => ClusterNodes::Read,
            },
        },
        pattern: args.source.pattern.clone(),
        mode: match args.moving {
            true => TransferMode::Move,
            false => TransferMode::Copy,
        },
        options: args.transfer.options(args.on_conflict()),
        afterwards: args.afterwards(),
    };
    let session = change.session();
    let plan = async || import::plan(&session, &request).await;
    let Some(plan) = change.approve(plan).await? else {
        return Ok(ExitCode::Done);
    };
    let owners = change.prepare(data::owners(&session)).await?;
    change.has_begun();
    let work = import::execute(&session, &request, &plan, owners);
    let transferred = change.execute(work).await?;
    if !args.verify || transferred.stopped.is_some() {
        return transfer::finish(ui, transferred);
    }
    ui.transfer_report(&transferred.view, transferred.took)?;
    let verifying = import::verify(&session, &request, &plan);
    let compared = change.prepare(verifying).await?;
    transfer::finish_compared(ui, &transferred, &compared)
}

impl Proposal for ImportPlan {
    fn lock(&self) -> Vec<Target> {
        self.targets()
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        ui.transfer_plan(&self.view)?;
        self.warnings.iter().for_each(|warning| ui.warn(warning));
        Ok(())
    }

    fn question(&self) -> Option<Question> {
        Some(transfer::question(&self.view))
    }

    fn is_same(&self, other: &Self) -> bool {
        self.has_same_source(other)
    }
}
