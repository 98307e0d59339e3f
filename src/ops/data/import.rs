//! `import`: the keys of a standalone server.

use std::sync::Arc;

use anyhow::anyhow;

use super::{Transferred, infos, masters, notes, transfer, warn_of_evictions, writable_cluster};
use crate::client::{ClientError, ExpiryQuestion, Fault};
use crate::cluster::parse::{Info, Product};
use crate::connections::Target;
use crate::report::TransferPlan;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::transfer::{self, ImportOptions, SlotOwners, TransferMode, TransferOptions};

/// The keys that are wanted, and how they are written.
pub(crate) struct ImportRequest {
    /// The server that has the keys.
    pub(crate) source: Target,
    /// Its database.
    pub(crate) database: u32,
    /// The pattern of the keys, as SCAN takes it; `None` for all keys.
    pub(crate) pattern: Option<String>,
    /// Whether keys are deleted at the source.
    pub(crate) mode: TransferMode,
    /// How keys are written.
    pub(crate) options: TransferOptions,
}

/// An import that can begin.
pub(crate) struct ImportPlan {
    cluster: ClusterState,
    source: Info,
    /// The source, if keys are deleted there.
    moves_from: Option<Target>,
    /// What is shown of it.
    pub(crate) view: TransferPlan,
}

/// Looks at the cluster and at the source.
pub(crate) async fn plan(session: &Session, request: &ImportRequest) -> Result<ImportPlan, Stop> {
    let cluster = writable_cluster(session).await?;
    let source = look_at_source(session, request).await?;
    request.refuse_source(&cluster, &source)?;
    let view = request.view(&cluster, &source);
    let is_move = request.mode == TransferMode::Move;
    Ok(ImportPlan {
        moves_from: is_move.then(|| request.source.clone()),
        cluster,
        source,
        view,
    })
}

/// Copies or moves the keys.
pub(crate) async fn execute(
    session: &Session,
    request: &ImportRequest,
    plan: &ImportPlan,
    owners: Arc<SlotOwners>,
) -> Result<Transferred, Stop> {
    let wanted = ImportOptions {
        database: request.database,
        pattern: request.pattern.clone(),
        mode: request.mode,
        question: expiry_question(&plan.source),
    };
    let (source, options) = (request.source.clone(), request.options);
    let connections = Arc::clone(&session.connections);
    let done = match request.mode {
        TransferMode::Move => "moved",
        TransferMode::Copy => "copied",
    };
    let work = |meter, stopper| async move {
        transfer::import(
            owners,
            source,
            connections,
            wanted,
            options,
            meter,
            &stopper,
        )
        .await
    };
    let transferred = transfer(session, done, plan.view.keys, work).await?;
    warn_of_evictions(session, &plan.cluster).await;
    Ok(transferred)
}

impl ImportPlan {
    /// The nodes that change: the masters, and the source if keys move.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let mut targets = masters(&self.cluster);
        targets.extend(self.moves_from.clone());
        targets
    }

    /// Whether the source is still the same process. The numbers of keys change all the time, and a failover in the
    /// cluster does not matter.
    pub(crate) fn has_same_source(&self, other: &Self) -> bool {
        self.source.run_id == other.source.run_id
    }
}

/// What to ask the source about the time to live of keys. PEXPIRETIME exists since Redis 7.0.
fn expiry_question(info: &Info) -> ExpiryQuestion {
    match info.version {
        Some(version) if version.product == Product::Valkey || version.numbers[0] >= 7 => {
            ExpiryQuestion::Time
        }
        _ => ExpiryQuestion::Left,
    }
}

/// Reads INFO of the source and checks that its database exists.
async fn look_at_source(session: &Session, request: &ImportRequest) -> Result<Info, Stop> {
    let client = session.connections.own(&request.source).await;
    let client = client.map_err(source_error)?;
    let info = Info::parse(&client.info().await.map_err(source_error)?);
    if request.database != 0 {
        client.select(request.database).await.map_err(|error| {
            let database = request.database;
            Stop::refused(anyhow!("the source has no database {database}: {error}"))
        })?;
    }
    Ok(info)
}

/// The login of the source is not that of the cluster, so its options have other names.
fn source_error(error: ClientError) -> Stop {
    let addr = error.addr.clone();
    let login = "--from-pass-file, --from-askpass or --from-pass, with --from-user, give its own";
    let message = match &error.fault {
        Fault::PasswordNeeded => Some(format!("{addr} needs a password: {login}")),
        Fault::WrongPassword { user } => Some(format!(
            "{addr}: wrong password (user {user}), or that user is disabled: {login}"
        )),
        _ => None,
    };
    let mut stop = Stop::from(error);
    stop.error = message.map_or(stop.error, |message| anyhow!(message));
    stop.error = stop.error.context("the source (--from) can't be read");
    stop
}

impl ImportRequest {
    /// Refuses servers that can't be a source.
    fn refuse_source(&self, cluster: &ClusterState, info: &Info) -> Result<(), Stop> {
        let addr = &self.source.addr;
        let is_member = infos(cluster)
            .values()
            .any(|other| other.run_id.is_some() && other.run_id == info.run_id);
        if is_member {
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
        if self.mode == TransferMode::Move && info.master_link.is_some() {
            return Err(Stop::refused(anyhow!(
                "{addr} is a replica, from which no key can be deleted: name its master, or leave out --move"
            )));
        }
        Ok(())
    }

    fn view(&self, cluster: &ClusterState, info: &Info) -> TransferPlan {
        let database = self.database;
        let server = match info.version {
            Some(version) => format!(" ({version})"),
            None => String::new(),
        };
        let masters = infos(cluster);
        let mut notes = notes(cluster, self.options.on_conflict);
        if let Some(pattern) = &self.pattern {
            notes.push(format!("Only keys that match {pattern:?}."));
        }
        notes.push(
            match self.mode {
                TransferMode::Move => {
                    "Keys are deleted at the source once they are in the cluster."
                }
                TransferMode::Copy => "Keys stay at the source.",
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
                "Keys of other databases are not imported unless --from-db N names their database: {}.",
                others.join(", ")
            ));
        }
        let keys = info.keys.iter().find(|(number, _)| *number == database);
        let to = cluster.diagnosis.observation.lead();
        TransferPlan {
            from: format!("database {database} of {}{server}", self.source.addr),
            keys: keys.map_or(0, |(_, keys)| *keys),
            to: to.map_or_else(String::new, ToString::to_string),
            masters: masters.len(),
            present: masters.values().map(Info::total_keys).sum(),
            notes,
        }
    }
}
