//! `import`: the keys of a standalone server or of a cluster.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;

use super::databases;
use super::rights::WorkAtTarget;
use super::source::{self, SourceFunctions, SourceRequest, SourceState};
use super::verify::{self, VerifyRequest};
use super::{
    Afterwards, Transferred, functions, infos, masters, notes, rights, transfer, warn_of_evictions,
    writable_cluster,
};
use crate::client::{ExpiryQuestion, TransferRight};
use crate::cluster::numbers::counted;
use crate::cluster::parse::{Info, MasterLink, Product};
use crate::connections::Target;
use crate::report::{TransferPlan, TransferView, VerifyView};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::transfer::{
    self, Direction, ImportOptions, ReadFrom, SlotOwners, SourcePart, TTL_TOLERANCE, TransferMode,
    TransferOptions,
};

/// The keys that are wanted, and how they are written.
pub(crate) struct ImportRequest {
    /// The source.
    pub(crate) source: SourceRequest,
    /// The pattern of the keys, as SCAN takes it; `None` for all keys.
    pub(crate) pattern: Option<String>,
    /// Whether keys are deleted at the source.
    pub(crate) mode: TransferMode,
    /// How keys are written.
    pub(crate) options: TransferOptions,
    /// What follows.
    pub(crate) afterwards: Afterwards,
}

/// An import that can begin.
pub(crate) struct ImportPlan {
    cluster: ClusterState,
    source: SourceState,
    /// The nodes of the source, if keys are deleted there.
    moves_from: Vec<Target>,
    /// The code of the function libraries of the source.
    libraries: Vec<Vec<u8>>,
    /// What is shown of it.
    pub(crate) view: TransferPlan,
    /// Functions that the cluster has with other code.
    pub(crate) warnings: Vec<String>,
}

const WORDS: functions::Words = functions::Words {
    holders: "masters of the source",
    source: "the source",
    command: "import",
};

/// Looks at the cluster and at the source.
pub(crate) async fn plan(session: &Session, request: &ImportRequest) -> Result<ImportPlan, Stop> {
    let cluster = writable_cluster(session).await?;
    let source = source::observe(session, &request.source).await?;
    request.refuse_source(&cluster, &source)?;
    request.refuse_evicting(&cluster)?;
    databases::refuse_missing(session, &cluster, &source.mappings(&request.source)).await?;
    let functions = source.functions(session, &request.source).await?;
    let on_conflict = request.options.on_conflict;
    let check = functions::check(
        session,
        &cluster,
        on_conflict,
        WORDS,
        &functions.sets,
        String::clone,
    );
    let warnings = check.await?;
    request
        .refuse_missing_rights(session, &cluster, &source, &functions)
        .await?;
    request.refuse_collisions(session, &source).await?;
    let mut view = request.view(&cluster, &source);
    view.notes
        .extend(functions::announced(functions.sets.values()));
    if !functions.denied.is_empty() {
        view.notes.push(format!(
            "Functions are not copied from {}: FUNCTION LIST is denied there.",
            functions.denied.join(", ")
        ));
    }
    let moves_from = match (request.mode, &source.cluster) {
        (TransferMode::Copy, _) => Vec::new(),
        (TransferMode::Move, None) => vec![request.source.target.clone()],
        (TransferMode::Move, Some(source)) => masters(source),
    };
    Ok(ImportPlan {
        moves_from,
        cluster,
        source,
        libraries: functions.codes.into_iter().collect(),
        view,
        warnings,
    })
}

/// Copies or moves the keys.
pub(crate) async fn execute(
    session: &Session,
    request: &ImportRequest,
    plan: &ImportPlan,
    owners: Arc<SlotOwners>,
) -> Result<Transferred, Stop> {
    let parts = plan.source.parts(session, &request.source).await?;
    let question = expiry_question(&plan.source);
    let options = request.options;
    let done = match request.mode {
        TransferMode::Move => "moved",
        TransferMode::Copy => "copied",
    };
    let work = |meter, stopper| async move {
        let libraries = transfer::load_libraries(
            Arc::clone(&owners),
            &plan.libraries,
            options.on_conflict,
            &stopper,
        );
        let (mut all, stopped) = libraries.await;
        if stopped.is_some() {
            return (all, stopped);
        }
        for (n, part) in parts.iter().enumerate() {
            let is_before = |other: &&SourcePart| other.into == part.into;
            let wanted = ImportOptions {
                part: part.clone(),
                before: parts[..n].iter().filter(is_before).cloned().collect(),
                pattern: request.pattern.clone(),
                mode: request.mode,
                question,
            };
            let (owners, meter) = (Arc::clone(&owners), Arc::clone(&meter));
            let (report, stopped) =
                transfer::import(owners, wanted, options, meter, &stopper).await;
            all.add(report);
            if stopped.is_some() {
                return (all, stopped);
            }
        }
        (all, None)
    };
    // Those of a pattern are not counted.
    let keys = plan.view.keys.filter(|_| request.pattern.is_none());
    let mut transferred = transfer(session, done, keys, work).await?;
    if transferred.stopped.is_none() {
        count_expired(session, request, plan, &mut transferred.view).await;
    }
    let stopped = transferred.stopped.as_ref();
    let evicted = warn_of_evictions(session, &plan.cluster, stopped).await;
    transferred.view.evicted = evicted;
    Ok(transferred)
}

/// Compares the keys of both sides after the transfer.
pub(crate) async fn verify(
    session: &Session,
    request: &ImportRequest,
    plan: &ImportPlan,
) -> Result<VerifyView, Stop> {
    let request = VerifyRequest {
        // Replicas may be behind.
        source: SourceRequest {
            read_from: ReadFrom::Masters,
            ..request.source.clone()
        },
        pattern: request.pattern.clone(),
        direction: Direction::Source,
        ttl_tolerance: TTL_TOLERANCE,
    };
    let cluster = verify::written_cluster(session).await?;
    verify::compare(session, &request, &plan.source, &cluster).await
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
    let look = source::observe(session, &request.source);
    let Ok(Ok(after)) = session.interrupt.stops(look).await else {
        return;
    };
    // Another process counts from 0.
    if after.runs() != plan.source.runs() {
        return;
    }
    let expired = Expired {
        is_replica: plan.source.cluster.is_none() && plan.source.info.master_link.is_some(),
        before: plan.source.expired_keys(),
        after: after.expired_keys(),
        // A pattern hides other keys, too.
        counted: match request.pattern {
            Some(_) => 0,
            None => plan.view.keys.unwrap_or_default(),
        },
        left: match request.pattern {
            Some(_) => 0,
            None => after.keys(&request.source),
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
        self.source.info.run_id == other.source.info.run_id
            && self.source.cluster.is_some() == other.source.cluster.is_some()
    }
}

/// What to ask the source about the time to live of keys. PEXPIRETIME exists since Redis 7.0, and tells a time by a clock
/// that must be known.
fn expiry_question(source: &SourceState) -> ExpiryQuestion {
    let is_new = |info: &Info| {
        let version = info.version;
        version.is_some_and(|one| one.product == Product::Valkey || one.numbers[0] >= 7)
    };
    match source.clock.is_some() && source.infos().iter().all(is_new) {
        true => ExpiryQuestion::Time,
        false => ExpiryQuestion::Left,
    }
}

impl ImportRequest {
    /// Refuses servers that can't be a source.
    fn refuse_source(&self, cluster: &ClusterState, source: &SourceState) -> Result<(), Stop> {
        source.refuse_same(&self.source, cluster)?;
        let (addr, info) = (&self.source.target.addr, &source.info);
        if let Some(cluster) = &source.cluster {
            let open = cluster.diagnosis.topology.open_set();
            return match self.mode {
                TransferMode::Move if !open.is_empty() => Err(Stop::refused(anyhow!(
                    "slots of the source cluster are open, and keys of an open slot can't be deleted in one \
                     transaction: {}; close them (redis-trib fix), or leave out --move",
                    open.summary()
                ))),
                _ => Ok(()),
            };
        }
        if self.source.read_from == ReadFrom::Replicas {
            return Err(Stop::refused(anyhow!(
                "{addr} is a standalone server, and --from-replicas reads the replicas of a cluster: name the replica"
            )));
        }
        if self.mode == TransferMode::Move && info.master_link.is_some() {
            return Err(Stop::refused(anyhow!(
                "{addr} is a replica, from which no key can be deleted: name its master, or leave out --move"
            )));
        }
        Ok(())
    }

    /// Refuses to move keys to masters that evict keys: what was deleted at the source would be nowhere.
    fn refuse_evicting(&self, cluster: &ClusterState) -> Result<(), Stop> {
        if self.mode == TransferMode::Copy {
            return Ok(());
        }
        let mut evicting = Vec::new();
        for (id, info) in infos(cluster) {
            let policy = info.maxmemory_policy.as_deref();
            if let (Some(1..), Some(policy)) = (info.maxmemory, policy)
                && policy != "noeviction"
            {
                evicting.push(format!("{} (maxmemory-policy {policy})", cluster.name(id)));
            }
        }
        match evicting.is_empty() {
            true => Ok(()),
            false => Err(Stop::refused(anyhow!(
                "these masters evict keys at their maxmemory, which --move would have deleted at the source; leave out \
                 --move to copy them, or set maxmemory-policy noeviction:\n  {}",
                evicting.join("\n  ")
            ))),
        }
    }

    /// Refuses an import for which the user lacks a right at the source or in the cluster.
    async fn refuse_missing_rights(
        &self,
        session: &Session,
        cluster: &ClusterState,
        source: &SourceState,
        functions: &SourceFunctions,
    ) -> Result<(), Stop> {
        let mut rights = vec![TransferRight::Read(expiry_question(source))];
        if self.mode == TransferMode::Move {
            rights.push(TransferRight::Delete);
        }
        if self.afterwards == Afterwards::Compare && !rights.contains(&rights::COMPARE) {
            rights.push(rights::COMPARE);
        }
        let nodes = source.nodes(&self.source).into_iter();
        let nodes = nodes.map(|(target, _)| target).collect();
        rights::refuse_missing(self.source.session(session), nodes, &rights).await?;
        let work = WorkAtTarget {
            on_conflict: self.options.on_conflict,
            functions: functions::loads(functions.sets.values()),
            afterwards: self.afterwards,
        };
        rights::refuse_missing_at_target(session, cluster, work).await
    }

    /// Refuses databases that have keys which would get the same name.
    async fn refuse_collisions(&self, session: &Session, source: &SourceState) -> Result<(), Stop> {
        if !databases::merges(&source.mappings(&self.source)) {
            return Ok(());
        }
        let parts = source.parts(session, &self.source).await?;
        let found = transfer::collisions(&parts, self.pattern.as_deref()).await;
        databases::refuse_collisions(&found.map_err(Stop::refused)?)
    }

    fn view(&self, cluster: &ClusterState, source: &SourceState) -> TransferPlan {
        let info = &source.info;
        let mappings = source.mappings(&self.source);
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
        notes.extend(databases::destination(cluster, &mappings));
        notes.extend(databases::prefixes(&mappings));
        match (&source.cluster, self.source.read_from) {
            (None, _) => notes.extend(staleness(info)),
            (Some(cluster), ReadFrom::Masters) => notes.push(match infos(cluster).len() {
                1 => "The only master of the source is read.".to_string(),
                count => format!(
                    "{} of the source are read side by side, each for its slots.",
                    counted(count as u64, "master")
                ),
            }),
            (Some(_), ReadFrom::Replicas) => notes.push(
                "Replicas of the source are read: what was written in the last moments may be missing. A master \
                 without a replica in sync is read itself."
                    .to_string(),
            ),
        }
        notes.extend(databases::others(&source.databases(), &mappings));
        let to = cluster.diagnosis.observation.lead();
        TransferPlan {
            from: source.name(&self.source),
            keys: Some(source.keys(&self.source)),
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
            evicted: 0,
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
