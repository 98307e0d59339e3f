//! `verify`: compares the keys of a source with those of the cluster.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::source::{self, SourceRequest, SourceState};
use super::{cluster_faults, infos};
use crate::backup::{FileFacts, Meter};
use crate::event::{Phase, Unit};
use crate::exit_code::ExitCode;
use crate::report::{UnequalKey, VerifyView};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::transfer::{
    self, Direction, Discrepancy, FoundKey, SavedFile, Stopper, TransferError, VerifyOptions,
    VerifyReport,
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
    compare(session, &request, &source, &cluster).await
}

/// Compares the keys of a backup.
pub(crate) async fn verify_backup(
    session: &Session,
    directory: &Path,
    ttl_tolerance: Duration,
) -> Result<VerifyView, Stop> {
    let manifest = super::backup::manifest(directory).map_err(Stop::refused)?;
    let cluster = readable_cluster(session).await?;
    let owners = super::owners(session).await?;
    let file = |file: &FileFacts| SavedFile {
        path: directory.join(&file.file),
        name: file.file.clone(),
        slots: file.slots.clone(),
    };
    let files = manifest.files.iter().map(file).collect();
    session.events.phase(Phase::Compare);
    let total = Some(manifest.keys());
    let meter = Meter::new(Phase::Compare, Unit::Keys, total, session.events.clone());
    let (began, stopper) = (Instant::now(), Stopper::default());
    let comparing =
        transfer::verify_backup(owners, files, ttl_tolerance, Arc::new(meter), &stopper);
    let (report, stopped) = comparing.await;
    if let Some(why) = stopped {
        return Err(stop(why));
    }
    let from = format!("the backup {}", directory.display());
    let facts = Facts {
        from,
        direction: Direction::Source,
        ttl_tolerance,
        took: began.elapsed(),
    };
    Ok(facts.view(report, &cluster))
}

/// Compares a source that was observed already.
pub(super) async fn compare(
    session: &Session,
    request: &VerifyRequest,
    source: &SourceState,
    cluster: &ClusterState,
) -> Result<VerifyView, Stop> {
    let parts = source.parts(session, &request.source).await?;
    let owners = super::owners(session).await?;
    let options = VerifyOptions {
        pattern: request.pattern.clone(),
        direction: request.direction,
        ttl_tolerance: request.ttl_tolerance,
    };
    let present: u64 = infos(cluster).values().map(|info| info.keys_of(0)).sum();
    let total = source.keys(&request.source)
        + match request.direction {
            Direction::Source => 0,
            Direction::BothWays => present,
        };
    session.events.phase(Phase::Compare);
    let events = session.events.clone();
    let meter = Arc::new(Meter::new(Phase::Compare, Unit::Keys, Some(total), events));
    let began = Instant::now();
    let stopper = Stopper::default();
    let mut report = VerifyReport::default();
    for part in parts {
        let (owners, options) = (Arc::clone(&owners), options.clone());
        let meter = Arc::clone(&meter);
        let (part, stopped) = transfer::verify(part, owners, options, meter, &stopper).await;
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
            ttl_tolerance: self.ttl_tolerance,
            found: found.into_iter().map(unequal).collect(),
            took: self.took,
        }
    }
}
