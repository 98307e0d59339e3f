//! Keys and data of a cluster: `import`, `verify`, `backup` and `restore`.

pub(crate) mod backup;
pub(crate) mod databases;
mod functions;
pub(crate) mod import;
pub(crate) mod import_files;
mod nodes_json;
pub(crate) mod rdb_files;
pub(crate) mod restore;
mod rights;
pub(crate) mod source;
pub(crate) mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::backup::Meter;
use crate::client::{ClientError, Fault};
use crate::cluster::health::Code;
use crate::cluster::node::NodeId;
use crate::cluster::numbers::counted;
use crate::cluster::parse::Info;
use crate::cluster::slot::SlotSet;
use crate::connections::Target;
use crate::converge::settle::settled;
use crate::event::{Phase, Unit};
use crate::exit_code::ExitCode;
use crate::ops::writes::write_refusals;
use crate::report::{FailedKey, FailedKeys, TransferPlan, TransferView};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::{SameCommand, Stop};
use crate::transfer::{
    OnConflict, SlotOwners, Stopper, TransferError, TransferReport, ValuesBefore,
};

/// What follows a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// All keys are compared with those of the source.
    Compare,
    /// Nothing.
    End,
}

/// Reads a cluster that can take keys: every slot has one owner, and all owners answer. Waits for what normally passes.
async fn writable_cluster(session: &Session) -> Result<ClusterState, Stop> {
    let cluster = settled(session, |_, finding| {
        matches!(
            finding.code,
            Code::SlotsUncovered
                | Code::SlotsContested
                | Code::NodeFailed
                | Code::NodeUnreachable
                | Code::AddressUnreachable
                | Code::NodeLoading
        )
    })
    .await?;
    let topology = &cluster.diagnosis.topology;
    let mut faults = cluster_faults(&cluster);
    let owners = topology.masters().filter(|m| !m.slots.is_empty());
    let owners: BTreeSet<NodeId> = owners.map(|master| master.id).collect();
    for (id, refusal) in write_refusals(session, &cluster, &owners).await {
        faults.push(format!(
            "{} refuses writes: {refusal}; {}",
            cluster.name(id),
            refusal.way_out()
        ));
    }
    if faults.is_empty() {
        return Ok(cluster);
    }
    Err(Stop::refused(anyhow!(
        "the cluster can't take all keys; redis-trib check shows details:\n  {}",
        faults.join("\n  ")
    )))
}

/// Why not all keys of a cluster can be read: slots without an owner, with several, or with one that does not answer.
fn cluster_faults(cluster: &ClusterState) -> Vec<String> {
    let topology = &cluster.diagnosis.topology;
    let mut faults = Vec::new();
    let uncovered = SlotSet::full().difference(&topology.served());
    if !uncovered.is_empty() {
        faults.push(format!("no master serves slots {uncovered}"));
    }
    for (claimants, slots) in topology.contested() {
        let names: Vec<String> = claimants.iter().map(|id| cluster.name(*id)).collect();
        faults.push(format!(
            "slots {} are claimed by {}",
            slots.summary(),
            names.join(" and ")
        ));
    }
    for master in topology.masters().filter(|m| !m.slots.is_empty()) {
        let node = cluster.diagnosis.observation.nodes.get(&master.id);
        if node.is_none_or(|node| node.report().is_none()) {
            let why = cluster.diagnosis.observation.why_absent(master.id);
            faults.push(format!("{} {why}", cluster.name(master.id)));
        }
    }
    faults
}

/// All masters that can be reached.
fn masters(cluster: &ClusterState) -> Vec<Target> {
    let masters = cluster.diagnosis.topology.masters();
    let targets = masters.filter_map(|master| cluster.reach.get(&master.id));
    targets.cloned().collect()
}

/// The INFO of each master that owns slots.
fn infos(cluster: &ClusterState) -> BTreeMap<NodeId, Info> {
    let topology = &cluster.diagnosis.topology;
    let owners = topology.masters().filter(|m| !m.slots.is_empty());
    owners
        .filter_map(|master| {
            let node = cluster.diagnosis.observation.nodes.get(&master.id)?;
            Some((master.id, node.report()?.info.clone()))
        })
        .collect()
}

/// What the user should know before the transfer: what happens to keys that exist, and how full the masters are.
fn notes(cluster: &ClusterState, on_conflict: OnConflict) -> Vec<String> {
    let mut notes = vec![
        match on_conflict {
            OnConflict::Skip => {
                "Keys that exist in the cluster with another value are kept and reported."
            }
            OnConflict::Replace => "Keys that exist in the cluster are overwritten.",
            OnConflict::Abort => {
                "The transfer stops at the first key that exists in the cluster with another value."
            }
        }
        .to_string(),
    ];
    for (id, info) in infos(cluster) {
        if let (Some(used), Some(limit @ 1..)) = (info.used_memory, info.maxmemory) {
            notes.push(format!(
                "{} uses {} % of its maxmemory.",
                cluster.name(id),
                used.saturating_mul(100) / limit
            ));
        }
    }
    notes
}

/// A transfer from files that can begin.
pub(crate) struct FilesPlan {
    cluster: ClusterState,
    /// What is shown of it.
    pub(crate) view: TransferPlan,
    /// Values that the cluster will probably refuse, and what is left out.
    pub(crate) warnings: Vec<String>,
}

impl FilesPlan {
    /// The nodes that change.
    pub(crate) fn masters(&self) -> Vec<Target> {
        masters(&self.cluster)
    }
}

/// The result of a transfer.
pub(crate) struct Transferred {
    /// What became of the keys.
    pub(crate) view: TransferView,
    /// The time it took.
    pub(crate) took: Duration,
    /// Why it ended early.
    pub(crate) stopped: Option<TransferError>,
    /// The number of keys that were sent, and whose replies did not come.
    pub(crate) unknown: u64,
}

/// Runs a transfer of about `total` keys, if that is known. At the first signal it finishes the keys in transit, at the second it stops
/// at once. `done` is the word for keys that arrived.
async fn transfer<F>(
    session: &Session,
    done: &'static str,
    total: impl Into<Option<u64>>,
    work: impl FnOnce(Arc<Meter>, Stopper) -> F,
) -> Result<Transferred, Stop>
where
    F: Future<Output = (TransferReport, Option<TransferError>)>,
{
    session.events.phase(Phase::Copy);
    let events = session.events.clone();
    let meter = Arc::new(Meter::new(Phase::Copy, Unit::Keys, total.into(), events));
    let stopper = Stopper::default();
    let started = Instant::now();
    let work = meter.tell_while(work(Arc::clone(&meter), stopper.clone()));
    let forced = async {
        let signal = session.interrupt.requested().await;
        session.events.warn(format!(
            "{signal}: finishing the keys in transit; a second signal stops at once"
        ));
        stopper.halt(TransferError::Interrupted);
        session.interrupt.forced().await;
    };
    let (report, stopped) = tokio::select! {
        biased;
        ended = work => ended,
        () = forced => {
            return Err(Stop::interrupted(anyhow!(
                "interrupted twice: the keys in transit may be in the cluster or not; the same command continues"
            )));
        }
    };
    let took = started.elapsed();
    for module in &report.module_data {
        session.events.warn(format!(
            "data of the module of {module} that is not in keys was not restored: no command can write it"
        ));
    }
    if report.other_databases > 0 {
        session.events.warn(format!(
            "{} of other databases: not imported (--from-db selects a database)",
            counted(report.other_databases, "key")
        ));
    }
    Ok(Transferred {
        unknown: report.unknown,
        view: view(done, report),
        took,
        stopped,
    })
}

fn view(done: &'static str, report: TransferReport) -> TransferView {
    TransferView {
        done,
        written: report.written,
        bytes: report.bytes,
        same: report.same,
        expired: report.expired,
        gone: report.gone,
        deleted: report.deleted,
        strays: report.strays,
        functions: report.functions,
        evicted: 0,
        failed: report
            .failed
            .into_iter()
            .map(|(reason, (count, examples))| FailedKeys {
                reason: reason.word(),
                count,
                examples: examples
                    .into_iter()
                    .map(|one| FailedKey {
                        key: one.key,
                        why: one.why,
                    })
                    .collect(),
            })
            .collect(),
    }
}

impl Transferred {
    /// The exit code of a transfer that reached its end.
    pub(crate) fn exit_code(&self) -> ExitCode {
        self.view.exit_code()
    }

    /// Whether a file could not be read before any of its keys was there to send.
    pub(crate) fn is_unread(&self) -> bool {
        let is_of_file = matches!(self.stopped, Some(TransferError::File { .. }));
        is_of_file && self.view.seen() == 0 && self.view.functions == 0 && self.unknown == 0
    }

    /// The error of a transfer that ended early, with what to do next.
    pub(crate) fn stop(&self) -> Option<Stop> {
        let why = self.stopped.as_ref()?;
        if self.is_unread() {
            return Some(Stop::refused(anyhow!("{why}\nNo key was written.")));
        }
        let unknown = match self.unknown {
            0 => String::new(),
            keys => format!(
                "{} in transit may be in the cluster or not\n",
                counted(keys, "key")
            ),
        };
        let (same_command, next) = next(why);
        let error = anyhow!("{why}\n{unknown}{next}");
        let stop = match why {
            TransferError::Interrupted => Stop::interrupted(error),
            _ => Stop::partial(error),
        };
        Some(Stop {
            same_command,
            ..stop
        })
    }
}

/// What to do after a transfer that ended early.
fn next(why: &TransferError) -> (SameCommand, &'static str) {
    match why {
        TransferError::Conflict { .. } => (
            SameCommand::StopsAgain,
            "Keys that were written before stay. Without one of these options, the same command stops at this key again.",
        ),
        TransferError::Key { .. } => (
            SameCommand::StopsAgain,
            "Keys that were written before stay. The same command stops at this key again; without --fail-fast, keys that \
             fail are reported at the end.",
        ),
        TransferError::File {
            before: ValuesBefore::Verified,
            ..
        } => (
            SameCommand::StopsAgain,
            "Keys that were written before are right: no value of a damaged block is sent. The same command stops here \
             again: use another copy of the backup (keys that are in the cluster already are skipped), or another backup \
             with --on-existing-key replace.",
        ),
        TransferError::File {
            before: ValuesBefore::Doubtful,
            ..
        } => (
            SameCommand::StopsAgain,
            "Keys that were written before come from this damaged data: their values may be wrong. The same command with \
             undamaged data and --on-existing-key replace overwrites them.",
        ),
        TransferError::Client(ClientError {
            fault: Fault::NoPermission { .. },
            ..
        }) => (
            SameCommand::StopsAgain,
            "Keys that were written before stay. Once the user has this right, the same command continues.",
        ),
        TransferError::Panicked => (
            SameCommand::StopsAgain,
            "Keys that were written before stay. The same command probably stops here again.",
        ),
        TransferError::OutOfMemory(_)
        | TransferError::Client(_)
        | TransferError::Slots(_)
        | TransferError::NoOwner(_)
        | TransferError::Interrupted => (
            SameCommand::MayFinish,
            "the same command continues: keys that are in the cluster already are skipped",
        ),
    }
}

/// Warns of keys that masters evicted during the transfer, and returns their number. A signal skips this, and so does a node
/// that does not answer any more.
async fn warn_of_evictions(
    session: &Session,
    before: &ClusterState,
    stopped: Option<&TransferError>,
) -> u64 {
    if session.interrupt.heard().is_some() || matches!(stopped, Some(TransferError::Client(_))) {
        return 0;
    }
    let Ok(Ok(after)) = session.interrupt.stops(ClusterState::look(session)).await else {
        return 0;
    };
    let infos_before = infos(before);
    let mut evictions = 0;
    for (id, info) in infos(&after) {
        let evicted = info.evicted_keys.unwrap_or_default();
        let before = infos_before.get(&id).and_then(|info| info.evicted_keys);
        let lost = evicted.saturating_sub(before.unwrap_or_default());
        evictions += lost;
        if lost > 0 {
            session.events.warn(format!(
                "{} evicted {} during the transfer because it has no memory left (maxmemory-policy)",
                after.name(id),
                counted(lost, "key")
            ));
        }
    }
    evictions
}

/// The owners of all slots.
pub(crate) async fn owners(session: &Session) -> Result<Arc<SlotOwners>, Stop> {
    let connections = Arc::clone(&session.connections);
    let owners = SlotOwners::read(connections, session.targets()).await;
    owners.map(Arc::new).map_err(Stop::refused)
}
