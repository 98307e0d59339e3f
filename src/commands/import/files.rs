//! `import --from` RDB files, directories and standard input.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::Args;
use crate::args::source::Origin;
use crate::args::values::node_words;
use crate::change::{Approval, Change, Global, Proposal, Question, transfer};
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::ops::data;
use crate::ops::data::import_files::{self, FilesPlan, FilesRequest};
use crate::ops::data::rdb_files::{self, AofIncrements};
use crate::stop::{CommandResult, Stop};
use crate::transfer::OnConflict;
use crate::ui::{CheckFor, Ui};
use anyhow::anyhow;

impl Args {
    /// The files that `--from` names; `None` if it names a server.
    pub(super) fn files(&self) -> Result<Option<Vec<PathBuf>>, Stop> {
        let mut files = Vec::new();
        for from in &self.source.from {
            match from {
                Origin::File(path) => files.push(path.clone()),
                Origin::Server(_) if self.source.from.len() == 1 => {
                    return match self.ignore_aof_increments {
                        false => Ok(None),
                        true => Err(usage("--ignore-aof-increments is for files")),
                    };
                }
                Origin::Server(_) => {
                    return Err(usage(
                        "only files can be named together (--from a.rdb --from b.rdb)",
                    ));
                }
            }
        }
        Ok(Some(files))
    }

    /// Refuses options that need a server.
    fn refuse_of_server(&self) -> Result<(), Stop> {
        if self.moving {
            return Err(usage(
                "--move deletes keys at a server, and --from names a file",
            ));
        }
        if self.from_replicas || self.verify {
            return Err(usage(
                "--from-replicas and --verify read a server, and --from names a file",
            ));
        }
        if self.source.pattern.is_some() {
            return Err(usage(
                "--pattern is answered by a server, and --from names a file",
            ));
        }
        if self.source.has_login() {
            return Err(usage("a login is for a server, and --from names a file"));
        }
        match self.source.maps() {
            true => Err(usage(
                "--from-db all, --db-map and --key-prefix are for servers, and --from names a file",
            )),
            false => Ok(()),
        }
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
    args.refuse_of_server()?;
    let seeds = [node_words(&args.node)?];
    let increments = match args.ignore_aof_increments {
        true => AofIncrements::Ignore,
        false => AofIncrements::Refuse,
    };
    let request = FilesRequest {
        files: rdb_files::find(&paths, increments)
            .map_err(|error| Stop::refused(anyhow!("{error:#}")))?,
        database: args.source.one_database().unwrap_or(0),
        options: args.transfer.options(match args.replace {
            true => OnConflict::Replace,
            false => args.on_conflict.into(),
        }),
    };
    let approval = Approval::of(args.transfer.yes, args.transfer.dry_run);
    let mut change = Change::open(global, ui, "import", &seeds, approval).await?;
    change.check_before(CheckFor::Change).await?;
    let session = change.session();
    // The cluster first, since reading all files takes long. All files are read before the first key is written.
    let checking = async {
        import_files::plan(&session, &request, &BTreeMap::new()).await?;
        let read = import_files::read(&session.events, &request).await;
        read.map_err(Stop::refused)
    };
    let read = change.prepare(checking).await?;
    let plan = async || import_files::plan(&session, &request, &read).await;
    let Some(plan) = change.approve(plan).await? else {
        return Ok(ExitCode::Done);
    };
    let owners = change.prepare(data::owners(&session)).await?;
    let work = import_files::execute(&session, &request, &plan, owners);
    let transferred = change.execute(work).await?;
    // Only standard input was not read before.
    if !transferred.is_unread() {
        change.has_begun();
    }
    transfer::finish(ui, transferred)
}

impl Proposal for FilesPlan {
    fn lock(&self) -> Vec<Target> {
        self.masters()
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        ui.transfer_plan(&self.view)?;
        for warning in &self.warnings {
            ui.warn(warning);
        }
        Ok(())
    }

    fn question(&self) -> Option<Question> {
        Some(transfer::question(&self.view))
    }

    /// The files do not change, and a failover in the cluster does not matter.
    fn is_same(&self, _: &Self) -> bool {
        true
    }
}
