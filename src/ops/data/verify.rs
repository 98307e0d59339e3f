//! `verify`: compares the keys of a source with those of the cluster.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::databases::Databases;
use super::rdb_files::{self, ImportFile};
use super::source::{self, SourceRequest, SourceState};
use super::{cluster_faults, functions, rights};
use crate::backup::{FileFacts, Meter};
use crate::cluster::pattern::KeyPattern;
use crate::event::{Phase, Unit};
use crate::exit_code::ExitCode;
use crate::report::{UnequalKey, VerifyView};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::transfer::{
    self, Direction, Discrepancy, FilesToVerify, FoundKey, SavedFile, Selection, Stopper,
    TransferError, VerifyOptions, VerifyReport,
};

/// What is compared.
pub(crate) struct VerifyRequest {
    /// The source.
    pub(crate) source: SourceRequest,
    /// The pattern of the keys, as SCAN takes it; `None` for all keys.
    pub(crate) pattern: Option<String>,
    /// Which keys are looked for.
    pub(crate) direction: Direction,
    /// By how much times to live may differ.
    pub(crate) ttl_tolerance: Duration,
}

/// Compares all keys.
pub(crate) async fn verify(session: &Session, request: VerifyRequest) -> Result<VerifyView, Stop> {
    let cluster = readable_cluster(session).await?;
    let source = source::observe(session, &request.source).await?;
    source.refuse_same(&request.source, &cluster)?;
    let nodes = source.nodes(&request.source).into_iter();
    let nodes = nodes.map(|(target, _)| target).collect();
    let at_source = request.source.session(session);
    rights::refuse_missing(at_source, nodes, &[rights::COMPARE]).await?;
    rights::refuse_missing_at_owners(session, &cluster, &[rights::COMPARE]).await?;
    compare(session, &request, &source, &cluster).await
}

/// Files whose keys are compared.
pub(crate) struct VerifyFilesRequest {
    /// Their name in the result.
    pub(crate) from: String,
    /// The files.
    pub(crate) files: Vec<SavedFile>,
    /// Which of their keys are wanted, and where they are in the cluster.
    pub(crate) selection: Selection,
    /// About how many there are, if that is known.
    pub(crate) keys: Option<u64>,
    /// By how much times to live may differ.
    pub(crate) ttl_tolerance: Duration,
}

impl VerifyFilesRequest {
    /// The files of a backup of this program. `databases` is `None` for keys that are in the database that they were in.
    pub(crate) fn of_backup(
        directory: &Path,
        databases: Option<Databases>,
        pattern: Option<&str>,
        ttl_tolerance: Duration,
    ) -> anyhow::Result<Self> {
        let manifest = super::backup::manifest(directory)?;
        let keys = |file: &FileFacts| match (&databases, pattern) {
            (_, Some(_)) => None,
            (Some(databases), None) => Some(databases.keys(&file.found.databases)),
            (None, None) => Some(file.found.keys),
        };
        let file = |file: &FileFacts| SavedFile {
            path: directory.join(&file.file),
            name: file.file.clone(),
            slots: file.slots.clone(),
            keys: keys(file),
        };
        let files: Vec<SavedFile> = manifest.files.iter().map(file).collect();
        let keys: Option<u64> = files.iter().map(|file| file.keys).sum();
        let selection = match databases {
            Some(databases) => databases.selection(pattern),
            None => Selection {
                pattern: pattern.map(|pattern| KeyPattern::new(pattern.as_bytes())),
                ..Selection::default()
            },
        };
        Ok(Self {
            from: format!("the backup {}", directory.display()),
            files,
            selection,
            keys,
            ttl_tolerance,
        })
    }

    /// RDB files of any origin.
    pub(crate) fn of_files(
        files: &[ImportFile],
        databases: &Databases,
        pattern: Option<&str>,
        ttl_tolerance: Duration,
    ) -> Self {
        Self {
            from: rdb_files::listed(files),
            files: files.iter().filter_map(ImportFile::saved).collect(),
            selection: databases.selection(pattern),
            keys: None,
            ttl_tolerance,
        }
    }
}

/// Compares the keys of files.
pub(crate) async fn verify_files(
    session: &Session,
    request: VerifyFilesRequest,
) -> Result<VerifyView, Stop> {
    let cluster = readable_cluster(session).await?;
    rights::refuse_missing_at_owners(session, &cluster, &[rights::COMPARE]).await?;
    compare_files(session, request, &cluster).await
}

/// The cluster after its keys were written: the number of its functions is another one than before.
pub(super) async fn written_cluster(session: &Session) -> Result<ClusterState, Stop> {
    ClusterState::settled(session).await
}

/// Compares the keys of files with those of a cluster that was observed already.
pub(super) async fn compare_files(
    session: &Session,
    request: VerifyFilesRequest,
    cluster: &ClusterState,
) -> Result<VerifyView, Stop> {
    let owners = super::owners(session).await?;
    session.events.phase(Phase::Compare);
    let events = session.events.clone();
    let meter = Meter::new(Phase::Compare, Unit::Keys, request.keys, events);
    let (began, stopper) = (Instant::now(), Stopper::default());
    let ttl_tolerance = request.ttl_tolerance;
    let wanted = FilesToVerify {
        files: request.files,
        selection: request.selection,
        ttl_tolerance,
    };
    let meter = Arc::new(meter);
    let comparing = transfer::verify_files(owners, wanted, Arc::clone(&meter), &stopper);
    let (report, stopped) = meter.tell_while(comparing).await;
    if let Some(why) = stopped {
        return Err(stop(why));
    }
    let facts = Facts {
        from: request.from,
        direction: Direction::Source,
        ttl_tolerance,
        took: began.elapsed(),
        notes: functions::differing(session, cluster, &report.functions, Direction::Source).await,
    };
    Ok(facts.view(report, cluster))
}

/// Compares a source that was observed already.
pub(super) async fn compare(
    session: &Session,
    request: &VerifyRequest,
    source: &SourceState,
    cluster: &ClusterState,
) -> Result<VerifyView, Stop> {
    let parts = source.parts(session, &request.source).await?;
    let functions = source.functions(session, &request.source).await?;
    let direction = match functions.denied.is_empty() {
        true => request.direction,
        // What the source has is not known.
        false => Direction::Source,
    };
    let mut notes = functions::differing(session, cluster, &functions.sets, direction).await;
    if !functions.denied.is_empty() {
        notes.push(format!(
            "Functions are not compared with those of {}: FUNCTION LIST is denied there.",
            functions.denied.join(", ")
        ));
    }
    let owners = super::owners(session).await?;
    let masters = match request.direction {
        Direction::Source => Vec::new(),
        Direction::BothWays => source::node_keys(cluster, 0, |addr| format!("{addr}, extra keys")),
    };
    let present: u64 = masters.iter().map(|master| master.keys).sum();
    // Those of a pattern are not counted.
    let total = request.pattern.is_none();
    let total = total.then(|| source.keys(&request.source) + present);
    let options = VerifyOptions {
        pattern: request.pattern.clone(),
        direction: request.direction,
        masters,
        ttl_tolerance: request.ttl_tolerance,
    };
    session.events.phase(Phase::Compare);
    let events = session.events.clone();
    let meter = Arc::new(Meter::new(Phase::Compare, Unit::Keys, total, events));
    let began = Instant::now();
    let stopper = Stopper::default();
    let mut report = VerifyReport::default();
    for part in parts {
        let (owners, options) = (Arc::clone(&owners), options.clone());
        let comparing = transfer::verify(part, owners, options, Arc::clone(&meter), &stopper);
        let (part, stopped) = meter.tell_while(comparing).await;
        report.add(part);
        if let Some(why) = stopped {
            return Err(stop(why));
        }
    }
    let facts = Facts {
        from: source.name(&request.source),
        direction: request.direction,
        ttl_tolerance: request.ttl_tolerance,
        took: began.elapsed(),
        notes,
    };
    Ok(facts.view(report, cluster))
}

/// A cluster of which all keys can be read.
async fn readable_cluster(session: &Session) -> Result<ClusterState, Stop> {
    let cluster = ClusterState::settled(session).await?;
    let faults = cluster_faults(&cluster);
    match faults.is_empty() {
        true => Ok(cluster),
        false => Err(Stop::refused(anyhow!(
            "not all keys of the cluster can be read; redis-trib check shows details:\n  {}",
            faults.join("\n  ")
        ))),
    }
}

/// Nothing was changed: what can't be read any more ends the command like what can't be reached.
fn stop(why: TransferError) -> Stop {
    let context = "the comparison stopped";
    match why {
        TransferError::Client(error) => {
            let stop = Stop::from(error);
            Stop {
                error: stop.error.context(context),
                ..stop
            }
        }
        TransferError::Interrupted => Stop::interrupted(why),
        // Like a manifest that can't be read.
        TransferError::File { .. } => Stop::refused(anyhow!(why).context(context)),
        why => Stop::new(ExitCode::Unreachable, anyhow!(why).context(context)),
    }
}

/// What was compared, and how.
struct Facts {
    from: String,
    direction: Direction,
    ttl_tolerance: Duration,
    took: Duration,
    notes: Vec<String>,
}

impl Facts {
    fn view(self, report: VerifyReport, cluster: &ClusterState) -> VerifyView {
        let mut found = report.found;
        found.sort_by(|one, other| {
            (one.discrepancy, &one.key).cmp(&(other.discrepancy, &other.key))
        });
        let unequal = |one: FoundKey| UnequalKey {
            kind: match one.discrepancy {
                Discrepancy::Missing => "missing",
                Discrepancy::Extra => "extra",
                Discrepancy::Different => "different",
                Discrepancy::Uncompared => "uncompared",
            },
            database: one.database,
            key: one.key,
            what: one.what,
        };
        VerifyView {
            from: self.from,
            to: cluster.seed(),
            same: report.same,
            settled: report.settled,
            gone: report.gone,
            missing: report.missing,
            different: report.different,
            extra: match self.direction {
                Direction::Source => None,
                Direction::BothWays => Some(report.extra),
            },
            uncompared: report.uncompared,
            notes: self.notes,
            ttl_tolerance: self.ttl_tolerance,
            found: found.into_iter().map(unequal).collect(),
            took: self.took,
        }
    }
}
