//! `redis-trib import --from SRC NODE`: keys of a server into a cluster.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::anyhow;
use secrecy::SecretString;

use crate::args::values::node_words;
use crate::change::Global;
use crate::change::credentials::{Credentials, password_of};
use crate::change::legacy::Access;
use crate::change::legacy::Signals;
use crate::change::legacy::consent;
use crate::client::{ClientError, ExpiryQuestion, Fault, Login};
use crate::cluster::parse::{Info, Product};
use crate::connections::{Connections, DialOptions, Target};
use crate::exit_code::ExitCode;
use crate::ops::data::{
    TransferArgs, alone, flow, infos, notes, owners, taker, tell, warn_of_evictions,
};
use crate::seed::Seed;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::{CommandResult, Stop};
use crate::transfer::{self, ImportOptions, OnConflict, Taking};
use crate::ui::{TransferPlan, Ui};

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib import --from 10.0.0.9:6379 10.0.0.3:6379\n  \
    redis-trib import --from redis://:secret@10.0.0.9/3 10.0.0.3 --pattern 'user:*' --dry-run\n  \
    redis-trib import --from 10.0.0.9 10.0.0.3 --move --on-conflict abort --yes")]
pub struct Args {
    /// A node of the cluster (`host port` as two words is understood too).
    #[arg(required = true, num_args = 1..=2, value_name = "NODE")]
    node: Vec<String>,
    /// The server that has the keys: host:port, redis://user:password@host:port/database, rediss://…
    #[arg(long, value_name = "SRC", required = true, value_parser = source)]
    from: Source,
    /// The database there [default: 0, or the one that the address names].
    #[arg(long, value_name = "N")]
    from_db: Option<u32>,
    /// The ACL user there.
    #[arg(long, value_name = "NAME", help_heading = "Login at the source")]
    from_user: Option<String>,
    /// The password there. Others on this machine can see it here: prefer --from-pass-file.
    #[arg(long, value_name = "PASSWORD", help_heading = "Login at the source")]
    from_pass: Option<String>,
    /// A file whose first line is the password there.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Login at the source",
        conflicts_with = "from_pass"
    )]
    from_pass_file: Option<PathBuf>,
    /// Ask for the password there.
    #[arg(long, help_heading = "Login at the source")]
    from_askpass: bool,
    /// Keys of this pattern only, as SCAN takes it: user:*
    #[arg(long, value_name = "PATTERN")]
    pattern: Option<String>,
    /// Delete keys at the source once they are in the cluster, unless they changed meanwhile.
    #[arg(long = "move")]
    moving: bool,
    /// What becomes of keys that are in the cluster with another value.
    #[arg(long, value_name = "WHAT", default_value = "skip")]
    on_conflict: OnConflict,
    /// Overwrite keys that are in the cluster (--on-conflict replace).
    #[arg(long, conflicts_with = "on_conflict")]
    replace: bool,
    #[command(flatten)]
    transfer: TransferArgs,
}

/// A server, and the database that its address names.
#[derive(Debug, Clone)]
struct Source {
    seed: Seed,
    database: Option<u32>,
}

/// Where cluster nodes have no database to name, a server alone has.
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
                .map_err(|_| "no database has such a number".to_string())?;
            (address, Some(number))
        }
        _ => (text, None),
    };
    let seed = address
        .parse()
        .map_err(|error: crate::seed::NotAnAddress| error.to_string())?;
    Ok(Source { seed, database })
}

/// Copies or moves keys.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let outcome = import(global, ui, &args).await;
    if let Err(stop) = &outcome {
        ui.stopped(stop.code, &stop.error)?;
    }
    outcome
}

async fn import(global: &Global, ui: &Ui, args: &Args) -> CommandResult {
    let seed = node_words(&args.node)?;
    let database = match (args.from_db, args.from.database) {
        (Some(one), Some(other)) if one != other => {
            return Err(Stop::usage(anyhow!(
                "--from names database {other}, and --from-db {one}: leave one out"
            )));
        }
        (one, other) => one.or(other).unwrap_or(0),
    };
    let mut signals = Signals::listen()?;
    // One list: `rediss://` of either asks for certificates.
    let seeds = [seed.clone(), args.from.seed.clone()];
    let credentials = Credentials::read(&global.args, ui, &seeds).await?;
    let from = args.source(&credentials, global, ui).await?;
    let intent = match args.transfer.dry_run {
        true => Access::Read,
        false => Access::Change("import"),
    };
    let session = crate::change::legacy::with(&credentials, global, &[seed], intent).await?;
    let cluster = taker(&session).await?;
    let info = look(&session, &from, database).await?;
    args.refuse_source(&cluster, &from, &info)?;
    let keys = info
        .keys
        .iter()
        .find_map(|(number, keys)| (*number == database).then_some(*keys))
        .unwrap_or(0);
    let on_conflict = match args.replace {
        true => OnConflict::Replace,
        false => args.on_conflict,
    };
    ui.transfer_plan(&args.plan(&cluster, &from, &info, database, keys, on_conflict))?;
    if args.transfer.dry_run {
        ui.done(ExitCode::Done, "Dry run: nothing was changed.")?;
        return Ok(ExitCode::Done);
    }
    if !args.transfer.yes {
        let about = format!("the cluster of {}", session.targets()[0].addr);
        consent(ui, "Write these keys", &about).await?;
    }
    alone(&session, &cluster).await?;
    let owners = owners(&session).await?;
    let wanted = ImportOptions {
        database,
        pattern: args.pattern.clone(),
        taking: match args.moving {
            true => Taking::Move,
            false => Taking::Copy,
        },
        question: question(&info),
    };
    let options = args.transfer.options(on_conflict);
    let reach = Arc::clone(&session.connections);
    let ended = flow(ui, &mut signals, keys, |meter, stopper| async move {
        transfer::import(owners, from, reach, wanted, options, meter, &stopper).await
    })
    .await;
    warn_of_evictions(ui, &session, &cluster).await;
    let done = if args.moving { "moved" } else { "copied" };
    let go_on = "what is there is skipped when the same command is run again";
    tell(ui, done, ended, go_on)
}

/// Whether the server tells times or only what is left of them.
fn question(info: &Info) -> ExpiryQuestion {
    match info.version {
        Some(version) if version.product == Product::Valkey || version.numbers[0] >= 7 => {
            ExpiryQuestion::Time
        }
        _ => ExpiryQuestion::Left,
    }
}

/// Asks the source what it is, and whether it has that database.
async fn look(session: &Session, from: &Target, database: u32) -> Result<Info, Stop> {
    let connections: &Connections = &session.connections;
    let told = |error: ClientError| {
        let addr = error.addr.clone();
        let login =
            "--from-pass-file, --from-askpass or --from-pass, with --from-user, give its own";
        let said = match &error.fault {
            // Its login is not that of the cluster.
            Fault::PasswordNeeded => Some(format!("{addr} needs a password: {login}")),
            Fault::WrongPassword { user } => Some(format!(
                "{addr}: wrong password (user {user}), or that user is disabled: {login}"
            )),
            _ => None,
        };
        let mut stop = Stop::from(error);
        stop.error = said.map_or(stop.error, |said| anyhow!(said));
        stop.error = stop.error.context("the source (--from) can't be read");
        stop
    };
    let client = connections.own(from).await.map_err(told)?;
    let info = Info::parse(&client.info().await.map_err(told)?);
    if database != 0 {
        client.select(database).await.map_err(|error| {
            Stop::refused(anyhow!("the source has no database {database}: {error}"))
        })?;
    }
    Ok(info)
}

impl Args {
    /// The source, with its own credentials: the cluster's are none of its business.
    async fn source(
        &self,
        credentials: &Credentials,
        global: &Global,
        ui: &Ui,
    ) -> Result<Target, Stop> {
        let password = if let Some(password) = &self.from_pass {
            Some(SecretString::from(password.clone()))
        } else if let Some(file) = &self.from_pass_file {
            Some(password_of("--from-pass-file", file).map_err(Stop::usage)?)
        } else if self.from_askpass {
            let asked = ui.password("Password of the source").await;
            Some(asked.map_err(|error| {
                Stop::usage(anyhow!(
                    "--from-askpass: {error}; --from-pass-file needs no terminal"
                ))
            })?)
        } else {
            None
        };
        let seed = &self.from.seed;
        let login = Login {
            user: seed.user.clone().or_else(|| self.from_user.clone()),
            password: seed.password.clone().or(password),
        };
        let transport = credentials.transport(&global.args, seed);
        Ok(Target {
            addr: seed.addr.clone(),
            access: Arc::new(DialOptions { login, transport }),
        })
    }

    /// What can't be a source.
    fn refuse_source(
        &self,
        cluster: &ClusterState,
        from: &Target,
        info: &Info,
    ) -> Result<(), Stop> {
        let addr = &from.addr;
        let same = infos(cluster)
            .values()
            .any(|other| other.run_id.is_some() && other.run_id == info.run_id);
        if same {
            return Err(Stop::refused(anyhow!(
                "{addr} is a node of the cluster itself: keys would be copied onto themselves"
            )));
        }
        if info.cluster_enabled == Some(true) {
            return Err(Stop::refused(anyhow!(
                "{addr} is a cluster node, and import takes all keys of a standalone server: \
                 redis-trib backup and restore copy a cluster"
            )));
        }
        if self.moving && info.master_link.is_some() {
            return Err(Stop::refused(anyhow!(
                "{addr} is a replica, from which nothing can be deleted: name its master, or leave \
                 out --move"
            )));
        }
        Ok(())
    }

    fn plan(
        &self,
        cluster: &ClusterState,
        from: &Target,
        info: &Info,
        database: u32,
        keys: u64,
        on_conflict: OnConflict,
    ) -> TransferPlan {
        let server = match info.version {
            Some(version) => format!(" ({version})"),
            None => String::new(),
        };
        let masters = infos(cluster);
        let mut notes = notes(cluster, on_conflict);
        if let Some(pattern) = &self.pattern {
            notes.push(format!("Only keys like {pattern:?}."));
        }
        notes.push(
            match self.moving {
                true => "They are deleted at the source once they are in the cluster.",
                false => "They stay at the source.",
            }
            .to_string(),
        );
        let others: Vec<String> = info
            .keys
            .iter()
            .filter(|(number, keys)| *number != database && *keys > 0)
            .map(|(number, keys)| format!("{number} ({keys})"))
            .collect();
        if !others.is_empty() {
            notes.push(format!(
                "Keys of other databases stay out, unless --from-db N names them: {}.",
                others.join(", ")
            ));
        }
        let to = cluster.diagnosis.observation.lead();
        TransferPlan {
            from: format!("database {database} of {}{server}", from.addr),
            keys,
            to: to.map_or_else(String::new, ToString::to_string),
            masters: masters.len(),
            present: masters.values().map(Info::total_keys).sum(),
            notes,
        }
    }
}
