//! `redis-trib restore DIR NODE`: the keys of a backup into a cluster of any shape.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::args::transfer::{OnConflictArg, TransferArgs};
use crate::args::values::{node_words, refuse_swapped};
use crate::change::{Approval, Change, Global, transfer};
use crate::exit_code::ExitCode;
use crate::ops::data;
use crate::ops::data::backup::{manifest, prepare};
use crate::ops::data::restore::{self, RestoreRequest};
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib restore /backup/2026-11-22 10.0.0.3:6379 --dry-run\n  \
    redis-trib restore /backup/2026-11-22 10.0.0.3 --on-existing-key skip --yes")]
pub struct Args {
    /// The directory of a backup.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// A node of the cluster (also as two words: `host port`).
    #[arg(required = true, num_args = 1..=2, value_name = "NODE")]
    node: Vec<String>,
    /// How to treat keys that exist in the cluster with another value.
    #[arg(
        long = "on-existing-key",
        alias = "on-conflict",
        value_name = "WHAT",
        default_value = "abort"
    )]
    on_conflict: OnConflictArg,
    #[command(flatten)]
    transfer: TransferArgs,
}

/// Restores a backup.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    if let [node] = &args.node[..] {
        refuse_swapped("restore", &args.directory, node)?;
    }
    let seeds = [node_words(&args.node)?];
    let approval = Approval::of(args.transfer.yes, args.transfer.dry_run);
    let request = RestoreRequest {
        manifest: manifest(&args.directory).map_err(Stop::refused)?,
        options: args.transfer.options(args.on_conflict.into()),
        directory: args.directory,
    };
    let mut change = Change::open(global, ui, "restore", &seeds, approval).await?;
    let session = change.session();
    // The cluster first, since reading files may take long. Files without checksums of their blocks are read as a whole
    // before the first key is written.
    let checking = async {
        restore::plan(&session, &request, &BTreeMap::new()).await?;
        let read = prepare(&session.events, &request.directory, &request.manifest).await;
        read.map_err(Stop::refused)
    };
    let read = change.prepare(checking).await?;
    let plan = async || restore::plan(&session, &request, &read).await;
    let Some(plan) = change.approve(plan).await? else {
        return Ok(ExitCode::Done);
    };
    let owners = change.prepare(data::owners(&session)).await?;
    change.has_begun();
    let work = restore::execute(&session, &request, &read, &plan, owners);
    let transferred = change.execute(work).await?;
    transfer::finish(ui, transferred)
}
