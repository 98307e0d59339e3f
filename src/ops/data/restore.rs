//! `restore`: the keys of a backup.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    Transferred, functions, infos, masters, notes, transfer, warn_of_evictions, writable_cluster,
};
use anyhow::anyhow;

use crate::backup::{FileFacts, Manifest, Reading, Restorable};
use crate::cluster::functions::Functions;
use crate::cluster::node::NodeId;
use crate::cluster::numbers::counted;
use crate::cluster::parse::Info;
use crate::connections::Target;
use crate::ops;
use crate::rdb::Encoding;
use crate::report::TransferPlan;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::transfer::{self, BackupFile, SlotOwners, TransferOptions};

/// A backup to restore, and how its keys are written.
pub(crate) struct RestoreRequest {
    /// The directory of the backup.
    pub(crate) directory: PathBuf,
    /// Its manifest.
    pub(crate) manifest: Manifest,
    /// How keys are written.
    pub(crate) options: TransferOptions,
}

/// A restore that can begin.
pub(crate) struct RestorePlan {
    cluster: ClusterState,
    /// What is shown of it.
    pub(crate) view: TransferPlan,
    /// Values that the cluster will probably refuse.
    pub(crate) warnings: Vec<String>,
}

/// Looks at the cluster. Refuses functions that differ within the backup, or from those of the cluster. `read` is what
/// each file holds; empty as long as the files have not been read.
pub(crate) async fn plan(
    session: &Session,
    request: &RestoreRequest,
    read: &BTreeMap<String, Restorable>,
) -> Result<RestorePlan, Stop> {
    let cluster = writable_cluster(session).await?;
    let view = request.view(&cluster);
    let mut warnings = warnings(&cluster, &request.manifest);
    for file in &request.manifest.files {
        let found = read.get(&file.file).map_or(&file.found, |read| &read.found);
        if let Some(rest) = found.unread {
            warnings.push(format!("{}: {rest}, and will be left out", file.file));
        }
    }
    let libraries =
        |(file, read): (&String, &Restorable)| (file.clone(), read.found.libraries.clone());
    let functions = read.iter().map(libraries).collect();
    warnings.extend(compare_functions(session, &cluster, request, &functions).await?);
    Ok(RestorePlan {
        cluster,
        view,
        warnings,
    })
}

/// Writes the keys. `read` is what each file holds, and how its keys are read.
pub(crate) async fn execute(
    session: &Session,
    request: &RestoreRequest,
    read: &BTreeMap<String, Restorable>,
    plan: &RestorePlan,
    owners: Arc<SlotOwners>,
) -> Result<Transferred, Stop> {
    let parts = parts(&request.directory, &request.manifest, read);
    let options = request.options;
    let work = |meter, stopper| async move {
        transfer::restore(owners, parts, options, meter, &stopper).await
    };
    let transferred = transfer(session, "restored", request.manifest.keys(), work).await?;
    warn_of_evictions(session, &plan.cluster).await;
    Ok(transferred)
}

async fn compare_functions(
    session: &Session,
    cluster: &ClusterState,
    request: &RestoreRequest,
    saved: &BTreeMap<String, Functions>,
) -> Result<Vec<String>, Stop> {
    if saved.values().all(Functions::is_empty) {
        return Ok(Vec::new());
    }
    let diagnosis = &cluster.diagnosis;
    let owners = diagnosis.topology.masters().filter(|m| !m.slots.is_empty());
    let owners: Vec<NodeId> = owners.map(|master| master.id).collect();
    let count = owners.len();
    let target_of = |node: &_| cluster.target_of(node);
    let loaded = ops::functions::read(&session.connections, diagnosis, owners, target_of).await;
    let on_conflict = request.options.on_conflict;
    // People know the masters of a backup by their addresses.
    let master = |file: &String| {
        let mut files = request.manifest.files.iter();
        let facts = files.find(|facts| facts.file == *file);
        facts.map_or_else(|| file.clone(), |facts| facts.master_addr.clone())
    };
    functions::compare(saved, master, &loaded, count, on_conflict, |id| {
        cluster.name(id)
    })
    .map_err(|why| Stop::refused(anyhow!("{why}\nNothing was changed.")))
}

impl RestorePlan {
    /// The nodes that change.
    pub(crate) fn masters(&self) -> Vec<Target> {
        masters(&self.cluster)
    }
}

fn parts(
    directory: &Path,
    manifest: &Manifest,
    read: &BTreeMap<String, Restorable>,
) -> Vec<BackupFile> {
    let by_block = |file: &FileFacts| {
        let restorable = read.get(&file.file)?;
        (restorable.reading == Reading::ByBlock).then_some(())?;
        Some((restorable.found.blocks.clone()?, restorable.found.bytes))
    };
    let part = |file: &FileFacts| BackupFile {
        path: directory.join(&file.file),
        name: file.file.clone(),
        slots: file.slots.clone(),
        blocks: by_block(file),
    };
    manifest.files.iter().map(part).collect()
}

impl RestoreRequest {
    fn view(&self, cluster: &ClusterState) -> TransferPlan {
        let manifest = &self.manifest;
        let masters = infos(cluster);
        let mut notes = notes(cluster, self.options.on_conflict);
        let mut servers: Vec<&str> = manifest
            .files
            .iter()
            .map(|file| file.found.server.as_str())
            .collect();
        servers.sort_unstable();
        servers.dedup();
        notes.push(format!(
            "Saved from {} master{} of {}, {}.",
            manifest.files.len(),
            if manifest.files.len() == 1 { "" } else { "s" },
            servers.join(" and "),
            humantime::format_rfc3339_seconds(manifest.began)
        ));
        let of_modules: u64 = manifest
            .files
            .iter()
            .filter_map(|file| file.found.encodings.get(Encoding::Module2.word()))
            .sum();
        if of_modules > 0 {
            notes.push(format!(
                "{} with types of modules; the masters must have these modules loaded.",
                counted(of_modules, "key")
            ));
        }
        let to = cluster.diagnosis.observation.lead();
        TransferPlan {
            from: self.directory.display().to_string(),
            keys: manifest.keys(),
            to: to.map_or_else(String::new, ToString::to_string),
            masters: masters.len(),
            present: masters.values().map(Info::total_keys).sum(),
            notes,
        }
    }
}

/// Values that the masters will probably refuse.
fn warnings(cluster: &ClusterState, manifest: &Manifest) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut encodings: BTreeMap<&str, u64> = BTreeMap::new();
    for file in &manifest.files {
        for (word, count) in &file.found.encodings {
            *encodings.entry(word).or_default() += count;
        }
    }
    for (id, info) in infos(cluster) {
        let Some(version) = info.version else {
            continue;
        };
        let too_new: Vec<String> = encodings
            .iter()
            .filter(|(word, _)| {
                let encoding = Encoding::of_word(word);
                encoding.is_some_and(|encoding| encoding.is_accepted_by(version) == Some(false))
            })
            .map(|(word, count)| format!("{count} of {word}"))
            .collect();
        if !too_new.is_empty() {
            warnings.push(format!(
                "{} ({version}) does not take all encodings of the backup: {}; these keys will fail",
                cluster.name(id),
                too_new.join(", ")
            ));
        }
    }
    let other_databases: u64 = manifest
        .files
        .iter()
        .flat_map(|file| &file.found.databases)
        .filter(|(database, _)| **database != 0)
        .map(|(_, keys)| keys)
        .sum();
    if other_databases > 0 {
        warnings.push(format!(
            "{} in databases other than 0; in a cluster only Valkey 9 has these (cluster-databases)",
            counted(other_databases, "key")
        ));
    }
    warnings
}
