//! `backup`: the data of every master, in files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::anyhow;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::nodes_json;
use crate::backup::{
    self, BackupError, BackupFailure, BackupOptions, BackupSource, Directory, FileFacts,
    Inspection, Manifest, MasterBackup, Meter, MeterPart, Restorable, TellRead,
};
use crate::cluster::functions::{LibraryDifference, describe, differences};
use crate::cluster::health::Diagnosis;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::numbers::counted;
use crate::cluster::parse::MasterLink;
use crate::cluster::slot::{Slot, SlotSet};
use crate::cluster::topology::Member;
use crate::event::{Events, Phase, Unit};
use crate::report::{BackupView, Fetched, Node, ShardView, UnreadView};
use crate::seed::parse_addr;
use crate::session::Session;
use crate::state::{ClusterState, name};
use crate::stop::Stop;

/// The names of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackupLayout {
    /// A file for each master, named by its id, and `manifest.json`.
    Native,
    /// The same with redis-cli's names, and its `nodes.json`.
    RedisCli,
}

/// Which node sends the data of which master.
pub(crate) struct BackupPlan {
    cluster: ClusterState,
    layout: BackupLayout,
    backups: Vec<MasterBackup>,
    /// What is shown of it.
    pub(crate) view: BackupView,
}

/// A backup that is complete.
pub(crate) struct BackupReport {
    /// Its files.
    pub(crate) view: BackupView,
    /// The time it took.
    pub(crate) took: Duration,
}

/// Refuses a directory that is not empty.
pub(crate) fn check_directory(path: &Path) -> Result<(), Stop> {
    Directory::refuse_full(path).map_err(Stop::refused)
}

/// Makes the directory.
pub(crate) fn prepare_directory(path: &Path) -> Result<Arc<Directory>, Stop> {
    let directory = Directory::prepare(path).map_err(Stop::refused)?;
    Ok(Arc::new(directory))
}

/// Chooses the sources. Refuses a backup that would not be complete.
pub(crate) async fn plan(
    session: &Session,
    path: &Path,
    from_masters: bool,
    layout: BackupLayout,
) -> Result<BackupPlan, Stop> {
    let cluster = ClusterState::look(session).await?;
    let backups = match backups(&cluster, from_masters, layout) {
        Ok(backups) => backups,
        Err(stop) => {
            session.refuse_if_at_work(&cluster.answering()).await?;
            return Err(stop);
        }
    };
    let view = planned(&cluster.diagnosis, &backups, path);
    Ok(BackupPlan {
        cluster,
        layout,
        backups,
        view,
    })
}

/// Fetches the data of all masters, and writes the manifest if no slot moved meanwhile.
pub(crate) async fn execute(
    session: &Session,
    plan: BackupPlan,
    directory: Arc<Directory>,
    options: BackupOptions,
) -> Result<BackupReport, Stop> {
    let (began, started) = (SystemTime::now(), Instant::now());
    let BackupPlan {
        cluster,
        layout,
        backups,
        ..
    } = plan;
    let path = directory.path().to_path_buf();
    let fetched = fetch(session, backups, &directory, options).await;
    let files = fetched.map_err(|failure| {
        directory.remove_if_empty();
        failed(&cluster.diagnosis, &path, &failure)
    })?;
    let after = match session.interrupt.stops(ClusterState::look(session)).await {
        Ok(after) => after?,
        Err(signal) => {
            return Err(Stop::interrupted(anyhow!(
                "interrupted ({signal}): {}",
                remains(&path)
            )));
        }
    };
    refuse_moved(&cluster, &after, &path)?;
    warn_of(session, &files);
    let view = complete(&cluster.diagnosis, &files, &path);
    if layout == BackupLayout::RedisCli {
        // The files are named by the masters from before a failover.
        nodes_json::write(&cluster.diagnosis, &directory)
            .map_err(|error| Stop::partial(anyhow!("{error}: the backup is not complete")))?;
    }
    let manifest = Manifest {
        began,
        ended: SystemTime::now(),
        files,
    };
    manifest
        .write(&directory)
        .map_err(|error| Stop::partial(anyhow!("{error}: there is no manifest, so no backup")))?;
    Ok(BackupReport {
        view,
        took: started.elapsed(),
    })
}

/// Fetches all files. The first signal stops the transfers and deletes their unfinished files; the second one does not
/// wait for that.
async fn fetch(
    session: &Session,
    backups: Vec<MasterBackup>,
    directory: &Arc<Directory>,
    options: BackupOptions,
) -> Result<Vec<FileFacts>, BackupFailure> {
    session.events.phase(Phase::Fetch);
    let stop = CancellationToken::new();
    let connections = Arc::clone(&session.connections);
    let directory = Arc::clone(directory);
    let work = backup::run(
        backups,
        directory,
        connections,
        options,
        &session.events,
        &stop,
    );
    let forced = async {
        session.interrupt.requested().await;
        stop.cancel();
        session.interrupt.forced().await;
    };
    tokio::select! {
        biased;
        fetched = work => fetched,
        () = forced => Err(BackupFailure { master: None, error: BackupError::Interrupted }),
    }
}

/// Chooses the node that sends the data of each master. Refuses a backup that would lack data.
fn backups(
    cluster: &ClusterState,
    from_masters: bool,
    layout: BackupLayout,
) -> Result<Vec<MasterBackup>, Stop> {
    let topology = &cluster.diagnosis.topology;
    let open = topology.open_set();
    if !open.is_empty() {
        return Err(Stop::refused(anyhow!(
            "slots {open} are open, and their keys are on two nodes: finish the move first \
             (redis-trib fix {}), then try again",
            cluster.resume_seed()
        )));
    }
    let contested: SlotSet = topology
        .contested()
        .values()
        .fold(SlotSet::new(), |sum, slots| sum.union(slots));
    if !contested.is_empty() {
        return Err(Stop::refused(anyhow!(
            "slots {contested} are claimed by several masters: redis-trib check {} names them",
            cluster.resume_seed()
        )));
    }
    let mut backups = Vec::new();
    let mut missing = Vec::new();
    let mut covered = SlotSet::new();
    let mut masters: Vec<&Member> = topology.masters().filter(|m| !m.slots.is_empty()).collect();
    masters.sort_by_key(|master| master.slots.iter().next());
    for master in masters {
        covered = covered.union(&master.slots);
        let sources = sources(cluster, master, from_masters);
        if sources.is_empty() {
            missing.push(no_source(cluster, master));
        }
        backups.push(MasterBackup {
            master: master.id,
            addr: name(&cluster.diagnosis, master.id).addr.to_string(),
            target: cluster.reach.get(&master.id).cloned(),
            file: match layout {
                BackupLayout::Native => format!("{}.rdb", master.id),
                BackupLayout::RedisCli => nodes_json::rdb_name(&cluster.diagnosis, master),
            },
            slots: master.slots.clone(),
            sources,
        });
    }
    let uncovered = SlotSet::full().difference(&covered);
    if !uncovered.is_empty() {
        missing.push(format!("slots {uncovered} have no master"));
    }
    if missing.is_empty() {
        return Ok(backups);
    }
    Err(Stop::refused(anyhow!(
        "data would be missing:\n  {}",
        missing.join("\n  ")
    )))
}

/// Why no node can send the data of a master: what is wrong with it, and with each of its replicas.
fn no_source(cluster: &ClusterState, master: &Member) -> String {
    let diagnosis = &cluster.diagnosis;
    let why = |member: &Member| {
        let report = diagnosis.observation.nodes.get(&member.id);
        let Some(report) = report.and_then(|node| node.report()) else {
            return diagnosis.observation.why_absent(member.id);
        };
        match report.info.master_link {
            _ if report.info.loading => "is loading its data set from disk".to_string(),
            Some(MasterLink::Syncing) => "is in a full resync from its master".to_string(),
            Some(MasterLink::Down(Some(seconds))) => {
                format!("answers, but has had no link to its master for {seconds} s")
            }
            Some(MasterLink::Up) => {
                "answers, but only its master could tell whether it has all writes".to_string()
            }
            _ => "answers, but has no link to its master".to_string(),
        }
    };
    let mut nodes = vec![format!(
        "{} (slots {}) {}",
        cluster.name(master.id),
        master.slots,
        why(master)
    )];
    let replicas = diagnosis.topology.replicas_of(master.id);
    nodes.extend(
        replicas
            .map(|replica| format!("its replica {} {}", cluster.name(replica.id), why(replica))),
    );
    if nodes.len() == 1 {
        nodes.push("it has no replica".to_string());
    }
    nodes.join("; ")
}

/// The nodes that have a master's data: replicas in sync, then the master itself. There is none if the master reports
/// nothing: whether a replica has all writes shows in the replication offset of its master.
fn sources(cluster: &ClusterState, master: &Member, from_masters: bool) -> Vec<BackupSource> {
    let diagnosis = &cluster.diagnosis;
    let source = |member: &Member| {
        let node = diagnosis.observation.nodes.get(&member.id)?;
        let report = node.report().filter(|report| !report.info.loading)?;
        let is_in_sync =
            member.role == Role::Master || report.info.master_link == Some(MasterLink::Up);
        is_in_sync.then_some(())?;
        Some(BackupSource {
            id: member.id,
            role: member.role,
            target: cluster.reach.get(&member.id)?.clone(),
            host: node.host().unwrap_or_default().to_string(),
            used_memory: report.info.used_memory,
        })
    };
    let mut sources = Vec::new();
    let master_node = diagnosis.observation.nodes.get(&master.id);
    if master_node.is_none_or(|node| node.report().is_none()) {
        return sources;
    }
    if !from_masters {
        let replicas = diagnosis.topology.replicas_of(master.id);
        sources.extend(replicas.filter_map(source));
    }
    sources.extend(source(master));
    sources
}

fn planned(diagnosis: &Diagnosis, backups: &[MasterBackup], path: &Path) -> BackupView {
    let shard = |backup: &MasterBackup| {
        let source = backup.sources.first()?;
        Some(ShardView {
            master: name(diagnosis, backup.master),
            slots: backup.slots.clone(),
            source: name(diagnosis, source.id),
            fetched: None,
        })
    };
    BackupView {
        shards: backups.iter().filter_map(shard).collect(),
        directory: path.display().to_string(),
    }
}

fn complete(diagnosis: &Diagnosis, files: &[FileFacts], path: &Path) -> BackupView {
    let shard = |file: &FileFacts| {
        let master = name(diagnosis, file.master);
        shard_view(file, master, name(diagnosis, file.source))
    };
    BackupView {
        shards: files.iter().map(shard).collect(),
        directory: path.display().to_string(),
    }
}

fn shard_view(file: &FileFacts, master: Node, source: Node) -> ShardView {
    ShardView {
        master,
        slots: file.slots.clone(),
        source,
        fetched: Some(Fetched {
            file: file.file.clone(),
            bytes: file.found.bytes,
            keys: file.found.keys,
            sha256: file.found.sha256.clone(),
            unread: file.found.unread.map(|rest| UnreadView {
                what: rest.first.to_string(),
                at: rest.first.at,
                keys: rest.keys,
            }),
        }),
    }
}

/// What an unfinished backup leaves behind.
fn remains(path: &Path) -> String {
    if path.exists() {
        format!(
            "there is no backup in {}: it has files but no manifest; delete it, and try again",
            path.display()
        )
    } else {
        "nothing was kept".to_string()
    }
}

/// Why there is no backup, and what it leaves behind.
fn failed(diagnosis: &Diagnosis, path: &Path, failure: &BackupFailure) -> Stop {
    let remains = remains(path);
    match (&failure.error, failure.master) {
        (BackupError::Interrupted, _) => Stop::interrupted(anyhow!("interrupted: {remains}")),
        (error, Some(master)) => Stop::partial(anyhow!(
            "data of {}: {error}\n{remains}",
            diagnosis.observation.name(master)
        )),
        (error, None) => Stop::partial(anyhow!("{error}\n{remains}")),
    }
}

/// Refuses a backup during which slots moved: their keys may be in two files or in none.
fn refuse_moved(before: &ClusterState, after: &ClusterState, path: &Path) -> Result<(), Stop> {
    let owners = |cluster: &ClusterState| -> BTreeMap<Slot, NodeId> {
        let masters = cluster.diagnosis.topology.masters();
        masters
            .flat_map(|master| master.slots.iter().map(|slot| (slot, master.id)))
            .collect()
    };
    let (owners_before, owners_after) = (owners(before), owners(after));
    // After a failover the new master has the same data.
    let is_failover = |old: NodeId, new: NodeId| {
        let mut replicas = before.diagnosis.topology.replicas_of(old);
        replicas.any(|replica| replica.id == new)
    };
    let moved: SlotSet = Slot::all()
        .filter(
            |slot| match (owners_before.get(slot), owners_after.get(slot)) {
                (Some(old), Some(new)) => old != new && !is_failover(*old, *new),
                (old, new) => old.is_some() != new.is_some(),
            },
        )
        .collect();
    let moved = moved.union(&after.diagnosis.topology.open_set());
    if moved.is_empty() {
        return Ok(());
    }
    Err(Stop::partial(anyhow!(
        "slots {moved} moved while the files were fetched: their keys may be in two files or in none, so no manifest \
         was written, and there is no backup in {}; delete it, and try again when no slots move",
        path.display()
    )))
}

/// Warns of data that a restore will not write.
fn warn_of(session: &Session, files: &[FileFacts]) {
    warn_of_unread(&session.events, files);
    for file in files {
        if file.found.strays > 0 {
            session.events.warn(format!(
                "{}: {} of slots that {} does not own (left behind by a move): restore skips them",
                file.file,
                counted(file.found.strays, "key"),
                file.source_addr
            ));
        }
        for module in &file.found.module_data {
            session.events.warn(format!(
                "{}: data of the module of {module} that is not in keys can't be restored by commands",
                file.file
            ));
        }
    }
    let functions = files.iter();
    let functions = functions.map(|file| (file.master_addr.clone(), file.found.libraries.clone()));
    let mut conflicts = differences(&functions.collect());
    conflicts.retain(LibraryDifference::is_conflict);
    if !conflicts.is_empty() {
        let what = describe(&conflicts, String::clone);
        session.events.warn(format!(
            "function libraries differ between masters: {what}; restore writes none of them, and no key, unless the \
             target has these libraries already (--on-existing-key skip)"
        ));
    }
}

/// Warns of values that this version can't restore.
fn warn_of_unread(events: &Events, files: &[FileFacts]) {
    for file in files {
        if let Some(rest) = file.found.unread {
            events.warn(format!("{}: {rest}", file.file));
        }
    }
}

/// Reads the manifest of a backup.
pub(crate) fn manifest(path: &Path) -> anyhow::Result<Manifest> {
    Manifest::read(path).map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// Verifies a backup. No node is asked.
pub(crate) async fn verify(events: &Events, path: &Path) -> anyhow::Result<BackupReport> {
    let started = Instant::now();
    let mut manifest = manifest(path)?;
    let mut read = read_back(events, path, &manifest).await?;
    // What this version reads, which may be more or less than the one that made the backup.
    for file in &mut manifest.files {
        if let Some(found) = read.remove(&file.file) {
            file.found = found;
        }
    }
    warn_of_unread(events, &manifest.files);
    let name = |id, addr: &str, role| Node {
        id,
        addr: parse_addr(addr).unwrap_or_else(|_| Addr::new("?", 0)),
        role,
        zone: None,
    };
    let shard = |file: &FileFacts| {
        let master = name(file.master, &file.master_addr, Role::Master);
        let source = name(file.source, &file.source_addr, file.source_role);
        shard_view(file, master, source)
    };
    Ok(BackupReport {
        view: BackupView {
            shards: manifest.files.iter().map(shard).collect(),
            directory: path.display().to_string(),
        },
        took: started.elapsed(),
    })
}

/// Reads all files of a backup and compares them with its manifest; returns the contents of each file.
async fn read_back(
    events: &Events,
    path: &Path,
    manifest: &Manifest,
) -> anyhow::Result<BTreeMap<String, Inspection>> {
    let files = manifest.files.iter().collect();
    reading(events, path, manifest, files, backup::verify).await
}

/// Verifies what must be right before the first key is sent; returns what each file holds.
pub(crate) async fn prepare(
    events: &Events,
    path: &Path,
    manifest: &Manifest,
) -> anyhow::Result<BTreeMap<String, Restorable>> {
    let files = manifest.files.iter();
    let whole = files.filter(|file| file.found.blocks.is_none());
    reading(events, path, manifest, whole.collect(), backup::prepare).await
}

type Read<T> =
    fn(&Path, &Manifest, TellRead<'_>) -> Result<BTreeMap<String, T>, BTreeMap<String, String>>;

/// Reads files on threads that may block; `whole` are those that are read to their ends.
async fn reading<T: Send + 'static>(
    events: &Events,
    path: &Path,
    manifest: &Manifest,
    whole: Vec<&FileFacts>,
    read: Read<T>,
) -> anyhow::Result<BTreeMap<String, T>> {
    events.phase(Phase::Verify);
    let total = whole.iter().map(|file| file.found.bytes).sum();
    let meter = Meter::new(Phase::Verify, Unit::Bytes, Some(total), events.clone());
    let meter = Arc::new(meter);
    let part = |file: &FileFacts| {
        let part = meter.part(&file.file, Some(file.found.bytes));
        (file.file.clone(), part)
    };
    let parts: BTreeMap<String, Arc<MeterPart>> = whole.into_iter().map(part).collect();
    let (directory, manifest, all) = (PathBuf::from(path), manifest.clone(), Arc::clone(&meter));
    let reading = spawn_blocking(move || {
        read(&directory, &manifest, &|file: &FileFacts, bytes| {
            all.add(bytes);
            if let Some(part) = parts.get(&file.file) {
                part.add(bytes);
            }
        })
    });
    meter.tell_while(reading).await?.map_err(|wrong| {
        let lines: Vec<String> = wrong
            .iter()
            .map(|(file, why)| format!("{file}: {why}"))
            .collect();
        anyhow!("the backup is damaged:\n  {}", lines.join("\n  "))
    })
}
