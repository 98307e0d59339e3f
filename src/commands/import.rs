//! `redis-trib import --from SRC NODE`: keys of a server, or of RDB files, into a cluster.

mod files;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::anyhow;
use secrecy::SecretSlice;

use crate::args::transfer::{OnConflictArg, TransferArgs};
use crate::args::values::node_words;
use crate::change::credentials::password_of;
use crate::change::{Approval, Change, Global, Proposal, Question, transfer};
use crate::client::Login;
use crate::connections::{DialOptions, Target};
use crate::exit_code::ExitCode;
use crate::ops::data;
use crate::ops::data::import::{self, ImportPlan, ImportRequest};
use crate::ops::data::sources;
use crate::seed::Seed;
use crate::stop::{CommandResult, Stop};
use crate::transfer::{OnConflict, TransferMode};
use crate::ui::{CheckFor, Ui};

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib import --from 10.0.0.9:6379 10.0.0.3:6379\n  \
    redis-trib import --from redis://:secret@10.0.0.9/3 10.0.0.3 --pattern 'user:*' --dry-run\n  \
    redis-trib import --from 10.0.0.9 10.0.0.3 --move --on-existing-key abort --yes\n  \
    redis-trib import --from dump.rdb.gz --from ./appendonlydir 10.0.0.3")]
pub struct Args {
    /// A node of the cluster (also as two words: `host port`).
    #[arg(required = true, num_args = 1..=2, value_name = "NODE")]
    node: Vec<String>,
    /// The server that has the keys: host:port, redis://user:password@host:port/database, rediss://…; or an RDB file
    /// (.rdb, .gz, .zst), a directory with RDB files, - for standard input. Files may be named several times.
    #[arg(long, value_name = "SRC", required = true, value_parser = from)]
    from: Vec<Origin>,
    /// The database of the source [default: 0, or the one that the address names].
    #[arg(long, value_name = "N")]
    from_db: Option<u32>,
    /// The ACL user at the source.
    #[arg(long, value_name = "NAME", help_heading = "Login at the source")]
    from_user: Option<String>,
    /// The password at the source. Other users of this machine can see it: prefer --from-pass-file.
    #[arg(
        long,
        value_name = "PASSWORD",
        help_heading = "Login at the source",
        allow_hyphen_values = true
    )]
    from_pass: Option<OsString>,
    /// A file whose first line is the password at the source.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Login at the source",
        conflicts_with = "from_pass"
    )]
    from_pass_file: Option<PathBuf>,
    /// Ask for the password at the source.
    #[arg(long, help_heading = "Login at the source")]
    from_askpass: bool,
    /// Import only keys that match this pattern of SCAN: user:*
    #[arg(long, value_name = "PATTERN")]
    pattern: Option<String>,
    /// Leave out commands that were appended to the RDB file of an appendonlydir.
    #[arg(long)]
    ignore_aof_increments: bool,
    /// Delete keys at the source once they are in the cluster, unless they have changed since.
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
    #[command(flatten)]
    transfer: TransferArgs,
}

/// Where keys come from.
#[derive(Debug, Clone)]
enum Origin {
    /// A server.
    Server(Source),
    /// A file, a directory, or `-`.
    File(PathBuf),
}

fn from(text: &str) -> Result<Origin, String> {
    match sources::is_path(text) {
        true => Ok(Origin::File(PathBuf::from(text))),
        false => source(text).map(Origin::Server),
    }
}

/// A server, and the database that its address names.
#[derive(Debug, Clone)]
struct Source {
    seed: Seed,
    database: Option<u32>,
}

/// An address with an optional database: a standalone server has several, a cluster node has not.
fn source(text: &str) -> Result<Source, String> {
    let (address, database) = match text.rsplit_once('/') {
        Some((address, number))
            if text.contains("://")
                && !address.ends_with('/')
                && !number.is_empty()
                && number.bytes().all(|c| c.is_ascii_digit()) =>
        {
            let number = number
                .parse()
                .map_err(|_| "the number of the database is too large".to_string())?;
            (address, Some(number))
        }
        _ => (text, None),
    };
    let seed: Seed = address
        .parse()
        .map_err(|error: crate::seed::NotAnAddress| error.to_string())?;
    match seed.cluster {
        Some(_) => {
            Err("the source is a server, not a cluster of the configuration file".to_string())
        }
        None => Ok(Source { seed, database }),
    }
}

/// Copies or moves keys.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    if let Some(paths) = args.files()? {
        return files::run(global, ui, args, paths).await;
    }
    let Some(Origin::Server(from)) = args.from.first().cloned() else {
        return Err(Stop::usage(anyhow!("--from is missing")));
    };
    let seeds = [node_words(&args.node)?];
    let database = args.database(&from)?;
    let approval = Approval::of(args.transfer.yes, args.transfer.dry_run);
    let source = std::slice::from_ref(&from.seed);
    let mut change = Change::open_also(global, ui, "import", &seeds, source, approval).await?;
    let heading = format!("Importing data from {} to cluster {}", from.seed, seeds[0]);
    ui.old_heading(&heading)?;
    change.check_before(CheckFor::Change).await?;
    let request = ImportRequest {
        source: args.source(&from, global, &mut change).await?,
        database,
        pattern: args.pattern.clone(),
        mode: match args.moving {
            true => TransferMode::Move,
            false => TransferMode::Copy,
        },
        options: args.transfer.options(match args.replace {
            true => OnConflict::Replace,
            false => args.on_conflict.into(),
        }),
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
    transfer::finish(ui, transferred)
}

impl Args {
    /// The database of the source.
    fn database(&self, from: &Source) -> Result<u32, Stop> {
        match (self.from_db, from.database) {
            (Some(one), Some(other)) if one != other => Err(Stop::usage(anyhow!(
                "--from names database {other}, and --from-db {one}: leave one out"
            ))),
            (one, other) => Ok(one.or(other).unwrap_or(0)),
        }
    }

    /// The source with its own credentials: those of the cluster are never sent to it.
    async fn source(
        &self,
        from: &Source,
        global: &Global,
        change: &mut Change<'_>,
    ) -> Result<Target, Stop> {
        let seed = &from.seed;
        let password = if let Some(password) = &self.from_pass {
            Some(SecretSlice::from(password.clone().into_encoded_bytes()))
        } else if let Some(file) = &self.from_pass_file {
            Some(password_of("--from-pass-file", file).map_err(Stop::usage)?)
        } else if self.from_askpass {
            let instead = "--from-pass-file needs no terminal";
            let question = "Password of the source";
            let asking = change.password(question, "--from-askpass", instead);
            Some(asking.await?)
        } else {
            None
        };
        let login = Login {
            user: seed.user.clone().or_else(|| self.from_user.clone()),
            password: seed.password.clone().or(password),
        };
        let transport = change.credentials().transport(&global.args, seed);
        Ok(Target {
            addr: seed.addr.clone(),
            node: None,
            access: Arc::new(DialOptions { login, transport }),
        })
    }
}

impl Proposal for ImportPlan {
    fn lock(&self) -> Vec<Target> {
        self.targets()
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        ui.transfer_plan(&self.view)
    }

    fn question(&self) -> Option<Question> {
        Some(transfer::question(&self.view))
    }

    fn is_same(&self, other: &Self) -> bool {
        self.has_same_source(other)
    }
}
