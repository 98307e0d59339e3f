//! `import`: the keys of a standalone server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;

use super::{Transferred, infos, masters, notes, transfer, warn_of_evictions, writable_cluster};
use crate::client::{ClientError, ExpiryQuestion, Fault};
use crate::cluster::parse::{Info, MasterLink, Product, Version};
use crate::connections::Target;
use crate::report::{TransferPlan, TransferView};
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
    let mut transferred = transfer(session, done, plan.view.keys, work).await?;
    if transferred.stopped.is_none() {
        count_expired(session, request, plan, &mut transferred.view).await;
    }
    warn_of_evictions(session, &plan.cluster).await;
    Ok(transferred)
}

/// Finds out how many of the keys that were counted before the transfer, or seen by SCAN, have expired. SCAN does not
/// return expired keys: a master deletes them on the way, a replica keeps them until its master deletes them (all
/// versions). Both count them in the keys of the database.
async fn count_expired(
    session: &Session,
    request: &ImportRequest,
    plan: &ImportPlan,
    view: &mut TransferView,
) {
    let look = session.interrupt.stops(look_at_source(session, request));
    let Ok(Ok(after)) = look.await else {
        return;
    };
    let before = &plan.source;
    if after.run_id != before.run_id {
        return;
    }
    let expired = Expired {
        is_replica: before.master_link.is_some(),
        before: before.expired_keys.unwrap_or_default(),
        after: after.expired_keys.unwrap_or_default(),
        // A pattern hides other keys, too.
        counted: match request.pattern {
            Some(_) => 0,
            None => plan.view.keys,
        },
        left: match request.pattern {
            Some(_) => 0,
            None => after.keys_of(request.database),
        },
    };
    expired.count(view);
}

/// What a source reports of its keys.
struct Expired {
    is_replica: bool,
    /// Keys that had expired before the transfer.
    before: u64,
    /// Keys that had expired after it.
    after: u64,
    /// Keys before the transfer.
    counted: u64,
    /// Keys after the transfer.
    left: u64,
}

impl Expired {
    /// Divides the keys that were not transferred among those that expired and those that were deleted.
    fn count(&self, view: &mut TransferView) {
        let seen = view.seen();
        let unseen = self.counted.saturating_sub(seen);
        let expired = match self.is_replica {
            true => self.left.saturating_sub(seen - view.gone),
            false => self.after.saturating_sub(self.before),
        };
        let gone = view.gone + unseen;
        let expired = expired.min(gone);
        view.expired += expired;
        view.gone = gone - expired;
    }
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
    // A replica without a master may answer INFO only, and a user may lack the right.
    client.scan(0, None, 1).await.map_err(source_error)?;
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
        Fault::MasterDown => Some(format!(
            "{addr} is a replica without a link to its master, and serves no keys then (replica-serve-stale-data no): \
             name its master, or let it serve what it has: CONFIG SET replica-serve-stale-data yes"
        )),
        _ => None,
    };
    let is_refusal = matches!(
        error.fault,
        Fault::Server { .. }
            | Fault::Loading
            | Fault::NoPermission { .. }
            | Fault::MasterDown
            | Fault::Busy(_)
    );
    let mut stop = match is_refusal {
        true => Stop::refused(error),
        false => Stop::from(error),
    };
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

    /// The database of the cluster, where that is not clear: Valkey 9 may have several (cluster-databases).
    fn destination(&self, cluster: &ClusterState) -> Option<String> {
        const FIRST: Version = Version {
            product: Product::Valkey,
            numbers: [9, 0, 0],
        };
        let has_many = |info: &Info| {
            let version = info.version;
            version.is_some_and(|one| one.product == FIRST.product && one >= FIRST)
        };
        let is_unclear = self.database != 0 || infos(cluster).values().any(has_many);
        is_unclear.then(|| "Keys go to database 0 of the cluster.".to_string())
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
        notes.extend(self.destination(cluster));
        notes.extend(staleness(info));
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
        let to = cluster.diagnosis.observation.lead();
        TransferPlan {
            from: format!("database {database} of {}{server}", self.source.addr),
            keys: info.keys_of(database),
            to: to.map_or_else(String::new, ToString::to_string),
            masters: masters.len(),
            present: masters.values().map(Info::total_keys).sum(),
            notes,
        }
    }
}

/// How old the keys of a replica may be.
fn staleness(info: &Info) -> Option<String> {
    let lost = "The source is a replica that has lost its master";
    match info.master_link? {
        MasterLink::Up => None,
        MasterLink::Syncing => Some(
            "The source is a replica in a full resync: its keys are those from before.".to_string(),
        ),
        MasterLink::Down(Some(seconds)) => Some(format!(
            "{lost}: it lacks what was written in the last {}.",
            humantime::format_duration(Duration::from_secs(seconds))
        )),
        MasterLink::Down(None) => Some(format!("{lost}: how old its keys are is not known.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(written: u64, gone: u64) -> TransferView {
        TransferView {
            done: "copied",
            written,
            bytes: 0,
            same: 0,
            expired: 0,
            gone,
            deleted: 0,
            strays: 0,
            functions: 0,
            failed: Vec::new(),
        }
    }

    #[test]
    fn keys_that_are_missing_have_expired_or_were_deleted() {
        // Of 100 keys: written, gone when they were read; expired at the master meanwhile; then expired, gone.
        for (written, gone, expired, result) in [
            (100, 0, 0, (0, 0)),
            (60, 0, 40, (40, 0)),
            (60, 10, 40, (40, 0)),
            (60, 10, 5, (5, 35)),
            (60, 10, 0, (0, 40)),
            // Other keys were created and expired.
            (100, 0, 7, (0, 0)),
            (120, 3, 7, (3, 0)),
        ] {
            let mut view = view(written, gone);
            let source = Expired {
                is_replica: false,
                before: 1_000,
                after: 1_000 + expired,
                counted: 100,
                left: 0,
            };
            source.count(&mut view);
            assert_eq!(
                (view.expired, view.gone),
                result,
                "{written} {gone} {expired}"
            );
        }
    }

    #[test]
    fn a_replica_keeps_expired_keys() {
        for (written, gone, left, result) in [
            (60, 0, 100, (40, 0)),
            // Its master has deleted some.
            (60, 0, 90, (30, 10)),
            (60, 5, 60, (0, 40)),
            (100, 0, 100, (0, 0)),
        ] {
            let mut view = view(written, gone);
            let source = Expired {
                is_replica: true,
                before: 0,
                after: 0,
                counted: 100,
                left,
            };
            source.count(&mut view);
            assert_eq!((view.expired, view.gone), result, "{written} {gone} {left}");
        }
    }

    #[test]
    fn the_age_of_a_replica_is_told() {
        let said = |link| {
            staleness(&Info {
                master_link: link,
                ..Info::default()
            })
        };
        assert_eq!(said(None), None);
        assert_eq!(said(Some(MasterLink::Up)), None);
        let text = said(Some(MasterLink::Down(Some(90)))).unwrap();
        assert!(text.ends_with("in the last 1m 30s."), "{text}");
        let text = said(Some(MasterLink::Down(None))).unwrap();
        assert!(text.ends_with("is not known."), "{text}");
    }
}
