//! `restore`: the keys of a backup.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Transferred, infos, masters, notes, transfer, warn_of_evictions, writable_cluster};
use crate::backup::{FileFacts, Manifest};
use crate::cluster::parse::Info;
use crate::connections::Target;
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

/// Looks at the cluster.
pub(crate) async fn plan(session: &Session, request: &RestoreRequest) -> Result<RestorePlan, Stop> {
    let cluster = writable_cluster(session).await?;
    let view = request.view(&cluster);
    let warnings = warnings(&cluster, &request.manifest);
    Ok(RestorePlan {
        cluster,
        view,
        warnings,
    })
}

/// Writes the keys.
pub(crate) async fn execute(
    session: &Session,
    request: &RestoreRequest,
    plan: &RestorePlan,
    owners: Arc<SlotOwners>,
) -> Result<Transferred, Stop> {
    let parts = parts(&request.directory, &request.manifest);
    let options = request.options;
    let work = |meter, stopper| async move {
        transfer::restore(owners, parts, options, meter, &stopper).await
    };
    let transferred = transfer(session, "restored", request.manifest.keys(), work).await?;
    warn_of_evictions(session, &plan.cluster).await;
    Ok(transferred)
}

impl RestorePlan {
    /// The nodes that change.
    pub(crate) fn masters(&self) -> Vec<Target> {
        masters(&self.cluster)
    }
}

fn parts(directory: &Path, manifest: &Manifest) -> Vec<BackupFile> {
    let part = |file: &FileFacts| BackupFile {
        path: directory.join(&file.file),
        name: file.file.clone(),
        slots: file.slots.clone(),
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
                "{of_modules} keys have types of modules; the masters must have these modules loaded."
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
        let Some(most) = version.highest_rdb_version() else {
            continue;
        };
        let too_new: Vec<String> = encodings
            .iter()
            .filter(|(word, _)| {
                let encoding = Encoding::of_word(word);
                encoding.is_some_and(|encoding| !takes(most, encoding))
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
            "{other_databases} keys are in databases other than 0; in a cluster only Valkey 9 has these \
             (cluster-databases)"
        ));
    }
    warnings
}

/// Whether RESTORE of a server whose own version is `most` takes such a value. Valkey refuses the versions between the
/// last one that it shares with Redis (11) and its own (80).
fn takes(most: u16, encoding: Encoding) -> bool {
    let version = encoding.version();
    version <= most && !(most >= 80 && (12..80).contains(&version))
}
