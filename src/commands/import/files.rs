//! `import --from` RDB files, directories and standard input.

use std::path::PathBuf;

use super::Args;
use crate::args::values::node_words;
use crate::change::{Approval, Change, Global, transfer};
use crate::exit_code::ExitCode;
use crate::ops::data;
use crate::ops::data::import_files::{self, FilesRead, FilesRequest};
use crate::ops::data::rdb_files;
use crate::stop::{CommandResult, Stop};
use crate::transfer::OnConflict;
use crate::ui::{CheckFor, Ui};
use anyhow::anyhow;

impl Args {
    /// Refuses options that need a server, or a file that can be read twice.
    fn refuse_of_server(&self, paths: &[PathBuf]) -> Result<(), Stop> {
        if self.moving {
            return Err(usage(
                "--move deletes keys at a server, and --from names a file",
            ));
        }
        if self.from_replicas {
            return Err(usage(
                "--from-replicas reads a cluster, and --from names a file",
            ));
        }
        if self.source.has_login() {
            return Err(usage("a login is for a server, and --from names a file"));
        }
        if !paths.iter().any(|path| rdb_files::is_stdin(path)) {
            return Ok(());
        }
        if self.verify {
            return Err(usage(
                "--verify reads the source again, and standard input can be read only once: save it to a file",
            ));
        }
        if self.on_conflict() == OnConflict::Replace && self.source.databases()?.may_merge() {
            return Err(usage(
                "keys of several databases may have one name, which standard input does not tell before they are \
                 written: leave out --replace, or save it to a file",
            ));
        }
        Ok(())
    }
}

fn usage(text: &str) -> Stop {
    Stop::usage(anyhow!("{text}"))
}

/// Imports files.
pub(super) async fn run(
    global: &Global,
    ui: &Ui,
    args: Args,
    paths: Vec<PathBuf>,
) -> CommandResult {
    args.refuse_of_server(&paths)?;
    let seeds = [node_words(&args.node)?];
    let request = FilesRequest {
        files: rdb_files::find(&paths, args.source.increments())
            .map_err(|error| Stop::refused(anyhow!("{error:#}")))?,
        databases: args.source.databases()?,
        pattern: args.source.pattern.clone(),
        options: args.transfer.options(args.on_conflict()),
        afterwards: args.afterwards(),
    };
    let approval = Approval::of(args.transfer.yes, args.transfer.dry_run);
    let mut change = Change::open(global, ui, "import", &seeds, approval).await?;
    change.check_before(CheckFor::Change).await?;
    let session = change.session();
    // The cluster first, since reading all files takes long. All files are read before the first key is written.
    let checking = async {
        import_files::plan(&session, &request, &FilesRead::default()).await?;
        let read = import_files::read(&session.events, &request).await;
        let read = read.map_err(Stop::refused)?;
        import_files::refuse_collisions(&session, &request, &read).await?;
        Ok(read)
    };
    let read = change.prepare(checking).await?;
    let plan = async || import_files::plan(&session, &request, &read).await;
    let Some(plan) = change.approve(plan).await? else {
        return Ok(ExitCode::Done);
    };
    let owners = change.prepare(data::owners(&session)).await?;
    let work = import_files::execute(&session, &request, &read, &plan, owners);
    let transferred = change.execute(work).await?;
    // Only standard input was not read before.
    if !transferred.is_unread() {
        change.has_begun();
    }
    if !args.verify || transferred.stopped.is_some() {
        return transfer::finish(ui, transferred);
    }
    ui.transfer_report(&transferred.view, transferred.took)?;
    let verifying = import_files::verify(&session, &request, &read, &plan);
    let compared = change.prepare(verifying).await?;
    transfer::finish_compared(ui, &transferred, &compared)
}
