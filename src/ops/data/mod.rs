//! What `import` and `restore` share: the cluster that keys go into, and what became of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tokio::sync::mpsc;

use crate::backup::Meter;
use crate::change::legacy::Signals;
use crate::cluster::node::NodeId;
use crate::cluster::parse::{Info, Product, Version};
use crate::cluster::slot::SlotSet;
use crate::event::{Event, Phase, Unit};
use crate::exit_code::ExitCode;
use crate::session::{LockHeld, Session};
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::transfer::{
    AfterFailure, OnConflict, Owners, Report, Stopper, TransferError, TransferOptions,
};
use crate::ui::{FailedKey, FailedKeys, TransferView, Ui};

/// How keys are written.
#[derive(Debug, clap::Args)]
pub(crate) struct TransferArgs {
    /// Stop at the first key that fails.
    #[arg(long)]
    fail_fast: bool,
    /// How many connections write to one master at a time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    lanes: u16,
    /// Don't ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Show what would be written, and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl TransferArgs {
    pub(crate) fn options(&self, on_conflict: OnConflict) -> TransferOptions {
        TransferOptions {
            on_conflict,
            after_failure: match self.fail_fast {
                true => AfterFailure::Stop,
                false => AfterFailure::GoOn,
            },
            lanes: usize::from(self.lanes),
        }
    }
}

/// A cluster that takes keys: every slot has an owner that answers.
pub(crate) async fn taker(session: &Session) -> Result<ClusterState, Stop> {
    let cluster = ClusterState::look(session).await?;
    let topology = &cluster.diagnosis.topology;
    let mut wrong = Vec::new();
    let uncovered = SlotSet::full().difference(&topology.served());
    if !uncovered.is_empty() {
        wrong.push(format!("no master serves slots {uncovered}"));
    }
    for (claimants, slots) in topology.contested() {
        let names: Vec<String> = claimants
            .iter()
            .map(|id| cluster.diagnosis.observation.name(*id))
            .collect();
        wrong.push(format!(
            "slots {slots} are claimed by {}",
            names.join(" and ")
        ));
    }
    for master in topology.masters().filter(|m| !m.slots.is_empty()) {
        let node = cluster.diagnosis.observation.nodes.get(&master.id);
        if node.is_none_or(|node| node.report().is_none()) {
            let name = cluster.diagnosis.observation.name(master.id);
            wrong.push(format!("{name} does not answer"));
        }
    }
    if wrong.is_empty() {
        return Ok(cluster);
    }
    Err(Stop::refused(anyhow!(
        "the cluster can't take all keys; redis-trib check tells more:\n  {}",
        wrong.join("\n  ")
    )))
}

/// Refuses while another redis-trib changes the cluster.
pub(crate) async fn alone(session: &Session, cluster: &ClusterState) -> Result<(), Stop> {
    let topology = &cluster.diagnosis.topology;
    let masters = topology.masters().map(|master| master.id);
    let targets: Vec<_> = masters.filter_map(|id| cluster.reach.get(&id)).collect();
    match session.refuse_others(targets.into_iter()).await? {
        LockHeld::AtOnce => Ok(()),
        LockHeld::AfterWaiting => Err(Stop::refused(anyhow!(
            "another redis-trib was at work until now: look again, then try again"
        ))),
    }
}

/// Each master that owns slots with what it says of itself.
pub(crate) fn infos(cluster: &ClusterState) -> BTreeMap<NodeId, Info> {
    let topology = &cluster.diagnosis.topology;
    let owners = topology.masters().filter(|m| !m.slots.is_empty());
    owners
        .filter_map(|master| {
            let node = cluster.diagnosis.observation.nodes.get(&master.id)?;
            Some((master.id, node.report()?.info.clone()))
        })
        .collect()
}

/// What should be known before anyone says yes.
pub(crate) fn notes(cluster: &ClusterState, on_conflict: OnConflict) -> Vec<String> {
    let mut notes = vec![
        match on_conflict {
            OnConflict::Skip => {
                "Keys that are there with another value stay as they are, and are reported."
            }
            OnConflict::Replace => "Keys that are there are overwritten.",
            OnConflict::Abort => "The first key that is there with another value stops it all.",
        }
        .to_string(),
    ];
    for (id, info) in infos(cluster) {
        if let (Some(used), Some(limit @ 1..)) = (info.used_memory, info.maxmemory) {
            notes.push(format!(
                "{} uses {} % of its maxmemory.",
                cluster.diagnosis.observation.name(id),
                used.saturating_mul(100) / limit
            ));
        }
    }
    notes
}

/// The highest RDB version that a server's RESTORE takes (rdb.h of its releases); `None` for
/// versions that are not out yet.
pub(crate) fn rdb_version(version: Version) -> Option<u16> {
    let [major, minor, _] = version.numbers;
    match (version.product, major, minor) {
        (Product::Valkey, ..=8, _) => Some(11),
        (Product::Valkey, 9, _) => Some(80),
        (Product::Redis, 5 | 6, _) => Some(9),
        (Product::Redis, 7, 0) => Some(10),
        (Product::Redis, 7, 1..=3) => Some(11),
        (Product::Redis, 7, _) | (Product::Redis, 8, ..=4) => Some(12),
        (Product::Redis, 8, 5 | 6) => Some(13),
        _ => None,
    }
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) report: Report,
    pub(crate) halt: Option<TransferError>,
    pub(crate) took: Duration,
}

/// Lets keys flow, shows how far they are, and stops at a signal.
pub(crate) async fn flow<F>(
    ui: &Ui,
    signals: &mut Signals,
    total: u64,
    work: impl FnOnce(Meter, Stopper) -> F,
) -> Ended
where
    F: Future<Output = (Report, Option<TransferError>)>,
{
    let (events, mut told) = mpsc::unbounded_channel();
    let _ = events.send(Event::Phase(Phase::Copy));
    let meter = Meter::new(Phase::Copy, Unit::Keys, Some(total), events);
    let stopper = Stopper::default();
    let started = Instant::now();
    let work = work(meter, stopper.clone());
    let show = async {
        while let Some(event) = told.recv().await {
            ui.event(&event);
        }
    };
    let heed = async {
        let name = signals.next().await;
        ui.warn(&format!("{name}: what is on its way is finished first"));
        stopper.halt(TransferError::Interrupted);
        // The work ends by itself now.
        std::future::pending().await
    };
    let ((report, halt), ()) = tokio::select! {
        done = async { tokio::join!(work, show) } => done,
        never = heed => never,
    };
    let took = started.elapsed();
    Ended { report, halt, took }
}

/// Tells what became of all keys, and how the command ends.
pub(crate) fn tell(
    ui: &Ui,
    done: &'static str,
    ended: Ended,
    go_on: &str,
) -> Result<ExitCode, Stop> {
    let Ended { report, halt, took } = ended;
    for module in &report.module_data {
        ui.warn(&format!(
            "what the module of {module} keeps besides keys was not restored: no command does that"
        ));
    }
    let view = view(done, report);
    let Some(halt) = halt else {
        ui.transferred(&view, took)?;
        return Ok(match view.failures() {
            0 => ExitCode::Done,
            _ => ExitCode::Unhealthy,
        });
    };
    ui.transfer_stopped(&view, took)?;
    let error = anyhow!("{halt}\n{go_on}");
    Err(match halt {
        TransferError::Interrupted => Stop::interrupted(error),
        _ => Stop::partial(error),
    })
}

fn view(done: &'static str, report: Report) -> TransferView {
    TransferView {
        done,
        written: report.written,
        bytes: report.bytes,
        same: report.same,
        gone: report.gone,
        deleted: report.deleted,
        strays: report.strays,
        functions: report.functions,
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

/// Keys that servers threw out while they took others.
pub(crate) async fn warn_of_evictions(ui: &Ui, session: &Session, before: &ClusterState) {
    let Ok(after) = ClusterState::look(session).await else {
        return;
    };
    let was = infos(before);
    for (id, info) in infos(&after) {
        let evicted = info.evicted_keys.unwrap_or_default();
        let before = was.get(&id).and_then(|info| info.evicted_keys);
        let lost = evicted.saturating_sub(before.unwrap_or_default());
        if lost > 0 {
            ui.warn(&format!(
                "{} threw out {lost} keys meanwhile, for want of memory (maxmemory-policy)",
                after.diagnosis.observation.name(id)
            ));
        }
    }
}

/// The owners of all slots, for those who write.
pub(crate) async fn owners(session: &Session) -> Result<Arc<Owners>, Stop> {
    let connections = Arc::clone(&session.connections);
    let owners = Owners::read(connections, session.targets()).await;
    owners.map(Arc::new).map_err(Stop::refused)
}
