//! `redis-trib backup NODE DIR`: the data of every master, in files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::anyhow;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::args::values::duration;
use crate::backup::{
    self, BackupError, BackupOptions, Directory, Failure, FileFacts, Job, Manifest, ManifestError,
    Meter, Source, StoreError,
};
use crate::change::Global;
use crate::change::legacy::Access;
use crate::change::legacy::Signals;
use crate::cluster::health::Diagnosis;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::parse::MasterLink;
use crate::cluster::slot::{Slot, SlotSet};
use crate::cluster::topology::Member;
use crate::event::{Event, Phase, Unit};
use crate::exit_code::ExitCode;
use crate::seed::{Seed, parse_addr};
use crate::state::{ClusterState, name};
use crate::stop::{CommandResult, Stop};
use crate::ui::{BackupView, Fetched, NodeName, ShardView, Ui};

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "redis-trib backup [OPTIONS] <NODE> <DIR>\n       \
    redis-trib backup --verify <DIR>")]
#[command(after_help = "Examples:\n  \
    redis-trib backup 10.0.0.3:6379 /backup/2026-11-22\n  \
    redis-trib backup 10.0.0.3 /backup/2026-11-22 --dry-run     # which node would give what\n  \
    redis-trib backup --verify /backup/2026-11-22               # no cluster needed")]
pub struct Args {
    /// A node of the cluster, then the directory to be made and filled (an empty one will do);
    /// with --verify the directory alone.
    #[arg(required = true, num_args = 1..=2, value_names = ["NODE", "DIR"])]
    words: Vec<String>,
    /// Read the files of a backup, and hold them against their manifest.
    #[arg(long, conflicts_with_all = ["from_masters", "per_host", "dry_run"])]
    verify: bool,
    /// Take the data from the masters, also where replicas are in sync.
    #[arg(long)]
    from_masters: bool,
    /// How many nodes of one host fork at a time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    per_host: u16,
    /// How long a node may send nothing.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    stall_timeout: Duration,
    /// Show which node would give what, and stop.
    #[arg(long)]
    dry_run: bool,
}

/// Makes a backup, or verifies one.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let outcome = match (args.verify, args.words.as_slice()) {
        (true, [directory]) => verify(ui, Path::new(directory)).await,
        (true, _) => Err(Stop::usage(anyhow!(
            "--verify reads files only: name the directory, and no node"
        ))),
        (false, [node, directory]) => match node.parse::<Seed>() {
            Ok(seed) => save(global, ui, &args, seed, Path::new(directory)).await,
            Err(error) => Err(Stop::usage(error)),
        },
        (false, _) => Err(Stop::usage(anyhow!(
            "a node and a directory are needed: redis-trib backup NODE DIR"
        ))),
    };
    if let Err(stop) = &outcome {
        ui.stopped(stop.code, &stop.error)?;
    }
    outcome
}

async fn save(global: &Global, ui: &Ui, args: &Args, seed: Seed, path: &Path) -> CommandResult {
    let mut signals = Signals::listen()?;
    // Before anything is asked for: who names the wrong directory learns so at once.
    Directory::refuse_full(path).map_err(unfit)?;
    let session = crate::change::legacy::open(global, ui, &[seed], Access::Read).await?;
    let cluster = ClusterState::look(&session).await?;
    let jobs = jobs(&cluster, args.from_masters)?;
    let view = planned(&cluster.diagnosis, &jobs, path);
    ui.backup(&view)?;
    if args.dry_run {
        ui.done(ExitCode::Done, "Dry run: nothing was fetched.")?;
        return Ok(ExitCode::Done);
    }
    let directory = Arc::new(Directory::prepare(path).map_err(unfit)?);
    let (began, started) = (SystemTime::now(), Instant::now());
    let options = BackupOptions {
        per_host: usize::from(args.per_host),
        silence: args.stall_timeout,
    };
    let (events, mut told) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let connections = Arc::clone(&session.connections);
    let work = async {
        let events = events;
        let _ = events.send(Event::Phase(Phase::Fetch));
        backup::run(
            jobs,
            Arc::clone(&directory),
            connections,
            options,
            &events,
            &stop,
        )
        .await
    };
    let show = async {
        while let Some(event) = told.recv().await {
            ui.event(&event);
        }
    };
    let heed = async {
        signals.next().await;
        stop.cancel();
        std::future::pending().await
    };
    let fetched = tokio::select! {
        (fetched, ()) = async { tokio::join!(work, show) } => fetched,
        () = heed => Err(Failure { master: None, error: BackupError::Interrupted }),
    };
    let files = fetched.map_err(|failure| {
        directory.forsake();
        failed(&cluster.diagnosis, path, &failure)
    })?;
    refuse_moved(&cluster, &ClusterState::look(&session).await?, path)?;
    warn_of(ui, &files);
    let view = done(&cluster.diagnosis, &files, path);
    let manifest = Manifest {
        began,
        ended: SystemTime::now(),
        files,
    };
    manifest
        .write(&directory)
        .map_err(|error| Stop::partial(anyhow!("{error}: there is no manifest, so no backup")))?;
    ui.backed_up(&view, started.elapsed())?;
    Ok(ExitCode::Done)
}

/// The directory can't be used; nothing was fetched.
fn unfit(error: StoreError) -> Stop {
    Stop::refused(error)
}

/// Who gives whose data. Refused where anything would be missing.
fn jobs(cluster: &ClusterState, from_masters: bool) -> Result<Vec<Job>, Stop> {
    let topology = &cluster.diagnosis.topology;
    let observation = &cluster.diagnosis.observation;
    let open = topology.open_set();
    if !open.is_empty() {
        return Err(Stop::refused(anyhow!(
            "slots {open} are half-moved, and their keys on two nodes: finish that first \
             (redis-trib reshard NODE --finish-open), then try again"
        )));
    }
    let contested: SlotSet = topology
        .contested()
        .values()
        .fold(SlotSet::new(), |sum, slots| sum.union(slots));
    if !contested.is_empty() {
        return Err(Stop::refused(anyhow!(
            "slots {contested} are claimed by several masters: redis-trib check NODE names them"
        )));
    }
    let mut jobs = Vec::new();
    let mut without = Vec::new();
    let mut covered = SlotSet::new();
    let mut masters: Vec<&Member> = topology.masters().filter(|m| !m.slots.is_empty()).collect();
    masters.sort_by_key(|master| master.slots.iter().next());
    for master in masters {
        covered = covered.union(&master.slots);
        let sources = sources(cluster, master, from_masters);
        if sources.is_empty() {
            without.push(format!(
                "{} (slots {}) does not answer, nor has it a replica that does",
                observation.name(master.id),
                master.slots
            ));
        }
        jobs.push(Job {
            master: master.id,
            addr: name(&cluster.diagnosis, master.id).addr.to_string(),
            target: cluster.reach.get(&master.id).cloned(),
            slots: master.slots.clone(),
            sources,
        });
    }
    let uncovered = SlotSet::full().difference(&covered);
    if !uncovered.is_empty() {
        without.push(format!("slots {uncovered} are no master's"));
    }
    if without.is_empty() {
        return Ok(jobs);
    }
    Err(Stop::refused(anyhow!(
        "data would be missing:\n  {}",
        without.join("\n  ")
    )))
}

/// Who has a master's data: replicas in sync, then the master itself.
fn sources(cluster: &ClusterState, master: &Member, from_masters: bool) -> Vec<Source> {
    let diagnosis = &cluster.diagnosis;
    let source = |member: &Member| {
        let node = diagnosis.observation.nodes.get(&member.id)?;
        let report = node.report().filter(|report| !report.info.loading)?;
        let fits = member.role == Role::Master || report.info.master_link == Some(MasterLink::Up);
        fits.then_some(())?;
        Some(Source {
            id: member.id,
            role: member.role,
            target: cluster.reach.get(&member.id)?.clone(),
            host: node.host().unwrap_or_default().to_string(),
        })
    };
    let mut sources = Vec::new();
    if !from_masters {
        let replicas = diagnosis.topology.replicas_of(master.id);
        sources.extend(replicas.filter_map(source));
    }
    sources.extend(source(master));
    sources
}

fn planned(diagnosis: &Diagnosis, jobs: &[Job], path: &Path) -> BackupView {
    let shard = |job: &Job| {
        let source = job.sources.first()?;
        Some(ShardView {
            master: name(diagnosis, job.master),
            slots: job.slots.clone(),
            source: name(diagnosis, source.id),
            role: source.role,
            fetched: None,
        })
    };
    BackupView {
        shards: jobs.iter().filter_map(shard).collect(),
        directory: path.display().to_string(),
    }
}

fn done(diagnosis: &Diagnosis, files: &[FileFacts], path: &Path) -> BackupView {
    let shard = |file: &FileFacts| {
        let master = name(diagnosis, file.master);
        kept(file, master, name(diagnosis, file.source))
    };
    BackupView {
        shards: files.iter().map(shard).collect(),
        directory: path.display().to_string(),
    }
}

fn kept(file: &FileFacts, master: NodeName, source: NodeName) -> ShardView {
    ShardView {
        master,
        slots: file.slots.clone(),
        source,
        role: file.source_role,
        fetched: Some(Fetched {
            file: file.file.clone(),
            bytes: file.found.bytes,
            keys: file.found.keys,
            sha256: file.found.sha256.clone(),
        }),
    }
}

/// Why there is no backup, and what is left of the try.
fn failed(diagnosis: &Diagnosis, path: &Path, failure: &Failure) -> Stop {
    let left = if path.exists() {
        format!(
            "there is no backup in {}: some files are, but no manifest; delete it, and try again",
            path.display()
        )
    } else {
        "nothing was kept".to_string()
    };
    match (&failure.error, failure.master) {
        (BackupError::Interrupted, _) => Stop::interrupted(anyhow!("interrupted: {left}")),
        (error, Some(master)) => Stop::partial(anyhow!(
            "data of {}: {error}\n{left}",
            diagnosis.observation.name(master)
        )),
        (error, None) => Stop::partial(anyhow!("{error}\n{left}")),
    }
}

/// Slots that moved while the files were fetched may be in two of them, or in none.
fn refuse_moved(before: &ClusterState, after: &ClusterState, path: &Path) -> Result<(), Stop> {
    let owners = |cluster: &ClusterState| -> BTreeMap<Slot, NodeId> {
        let masters = cluster.diagnosis.topology.masters();
        masters
            .flat_map(|master| master.slots.iter().map(|slot| (slot, master.id)))
            .collect()
    };
    let (was, is) = (owners(before), owners(after));
    // A replica that took over has the same data.
    let succeeded = |old: NodeId, new: NodeId| {
        let mut replicas = before.diagnosis.topology.replicas_of(old);
        replicas.any(|replica| replica.id == new)
    };
    let moved: SlotSet = Slot::all()
        .filter(|slot| match (was.get(slot), is.get(slot)) {
            (Some(old), Some(new)) => old != new && !succeeded(*old, *new),
            (old, new) => old.is_some() != new.is_some(),
        })
        .collect();
    let moved = moved.union(&after.diagnosis.topology.open_set());
    if moved.is_empty() {
        return Ok(());
    }
    Err(Stop::partial(anyhow!(
        "slots {moved} moved while the files were fetched: their keys may be in two files or in \
         none, so no manifest was written, and there is no backup in {}; delete it, and try again \
         when slots rest",
        path.display()
    )))
}

/// What a restore will not bring back, or pass over.
fn warn_of(ui: &Ui, files: &[FileFacts]) {
    for file in files {
        if file.found.strays > 0 {
            ui.warn(&format!(
                "{}: {} keys are of slots that {} does not own (left behind by a move): restore \
                 passes over them",
                file.file, file.found.strays, file.source_addr
            ));
        }
        for module in &file.found.module_data {
            ui.warn(&format!(
                "{}: what the module of {module} keeps besides keys can't be restored by commands",
                file.file
            ));
        }
    }
}

/// Reads a backup.
async fn verify(ui: &Ui, path: &Path) -> CommandResult {
    let started = Instant::now();
    let manifest = Manifest::read(path).map_err(|error| no_backup(path, &error))?;
    let manifest = read_back(ui, path, manifest).await?;
    let name = |id, addr: &str| NodeName {
        id,
        addr: parse_addr(addr).unwrap_or_else(|_| Addr::new("?", 0)),
        zone: None,
    };
    let shard = |file: &FileFacts| {
        let master = name(file.master, &file.master_addr);
        kept(file, master, name(file.source, &file.source_addr))
    };
    let view = BackupView {
        shards: manifest.files.iter().map(shard).collect(),
        directory: path.display().to_string(),
    };
    ui.verified(&view, started.elapsed())?;
    Ok(ExitCode::Done)
}

/// Reads all files of a backup, and hands its manifest back if they are as it says.
pub(super) async fn read_back(ui: &Ui, path: &Path, manifest: Manifest) -> Result<Manifest, Stop> {
    let (events, mut told) = mpsc::unbounded_channel();
    let _ = events.send(Event::Phase(Phase::Verify));
    let meter = Meter::new(Phase::Verify, Unit::Bytes, Some(manifest.bytes()), events);
    let directory = PathBuf::from(path);
    let reading = spawn_blocking(move || {
        let wrong = backup::verify(&directory, &manifest, &|bytes| meter.add(bytes));
        (manifest, wrong)
    });
    let show = async {
        while let Some(event) = told.recv().await {
            ui.event(&event);
        }
    };
    let (read, ()) = tokio::join!(reading, show);
    let (manifest, wrong) = read.map_err(|error| Stop::refused(anyhow!(error)))?;
    if !wrong.is_empty() {
        let lines: Vec<String> = wrong
            .iter()
            .map(|(file, why)| format!("{file}: {why}"))
            .collect();
        return Err(Stop::new(
            ExitCode::Unhealthy,
            anyhow!("the backup is damaged:\n  {}", lines.join("\n  ")),
        ));
    }
    Ok(manifest)
}

pub(super) fn no_backup(path: &Path, error: &ManifestError) -> Stop {
    Stop::new(ExitCode::Unhealthy, anyhow!("{}: {error}", path.display()))
}
