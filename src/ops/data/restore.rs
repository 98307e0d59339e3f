//! `restore`: the keys of a backup.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::rights::WorkAtTarget;
use super::{
    Afterwards, FilesPlan, Transferred, functions, infos, notes, rights, transfer,
    warn_of_evictions, writable_cluster,
};
use crate::backup::{FileFacts, Inspection, Manifest, Reading, Restorable};
use crate::cluster::numbers::counted;
use crate::cluster::parse::Info;
use crate::rdb::Encoding;
use crate::report::TransferPlan;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::transfer::{self, FileContent, KeyFile, Selection, SlotOwners, TransferOptions};

/// A backup to restore, and how its keys are written.
pub(crate) struct RestoreRequest {
    /// The directory of the backup.
    pub(crate) directory: PathBuf,
    /// Its manifest.
    pub(crate) manifest: Manifest,
    /// How keys are written.
    pub(crate) options: TransferOptions,
}

const WORDS: functions::Words = functions::Words {
    holders: "masters of the backup",
    source: "the backup",
    command: "restore",
};

/// Looks at the cluster. Refuses functions that differ within the backup, or from those of the cluster. `read` is what
/// each file holds; empty as long as the files have not been read.
pub(crate) async fn plan(
    session: &Session,
    request: &RestoreRequest,
    read: &BTreeMap<String, Restorable>,
) -> Result<FilesPlan, Stop> {
    let cluster = writable_cluster(session).await?;
    let mut view = request.view(&cluster);
    let found: Vec<&Inspection> = request
        .manifest
        .files
        .iter()
        .map(|file| &file.found)
        .collect();
    let mut warnings = unaccepted(&cluster, &found);
    warnings.extend(other_databases(&found));
    for file in &request.manifest.files {
        let found = read.get(&file.file).map_or(&file.found, |read| &read.found);
        if let Some(rest) = found.unread {
            warnings.push(format!("{}: {rest}, and will be left out", file.file));
        }
    }
    let libraries =
        |(file, read): (&String, &Restorable)| (file.clone(), read.found.libraries.clone());
    let saved = read.iter().map(libraries).collect();
    // People know the masters of a backup by their addresses.
    let master = |file: &String| {
        let mut files = request.manifest.files.iter();
        let facts = files.find(|facts| facts.file == *file);
        facts.map_or_else(|| file.clone(), |facts| facts.master_addr.clone())
    };
    let on_conflict = request.options.on_conflict;
    let check = functions::check(session, &cluster, on_conflict, WORDS, &saved, master);
    warnings.extend(check.await?);
    view.notes.extend(functions::announced(saved.values()));
    let work = WorkAtTarget {
        on_conflict,
        functions: functions::loads(saved.values()),
        afterwards: Afterwards::End,
    };
    rights::refuse_missing_at_target(session, &cluster, work).await?;
    Ok(FilesPlan {
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
    plan: &FilesPlan,
    owners: Arc<SlotOwners>,
) -> Result<Transferred, Stop> {
    let parts = parts(&request.directory, &request.manifest, read);
    let options = request.options;
    let work = |meter, stopper| async move {
        transfer::restore(owners, parts, options, meter, &stopper).await
    };
    let mut transferred = transfer(session, "restored", request.manifest.keys(), work).await?;
    let stopped = transferred.stopped.as_ref();
    let evicted = warn_of_evictions(session, &plan.cluster, stopped).await;
    transferred.view.evicted = evicted;
    Ok(transferred)
}

fn parts(
    directory: &Path,
    manifest: &Manifest,
    read: &BTreeMap<String, Restorable>,
) -> Vec<KeyFile> {
    let content = |file: &FileFacts| {
        let path = directory.join(&file.file);
        let restorable = read.get(&file.file);
        let by_block = restorable.filter(|one| one.reading == Reading::ByBlock);
        match by_block.and_then(|one| Some((one.found.blocks.clone()?, one.found.bytes))) {
            Some((sums, bytes)) => FileContent::Blocks { path, sums, bytes },
            None => FileContent::Verified(path),
        }
    };
    let as_saved = Arc::new(Selection::default());
    let part = |file: &FileFacts| KeyFile {
        name: file.file.clone(),
        keys: Some(file.found.keys),
        slots: file.slots.clone(),
        content: content(file),
        selection: Arc::clone(&as_saved),
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
        notes.extend(of_modules(manifest.files.iter().map(|file| &file.found)));
        let to = cluster.diagnosis.observation.lead();
        TransferPlan {
            from: self.directory.display().to_string(),
            keys: Some(manifest.keys()),
            to: to.map_or_else(String::new, ToString::to_string),
            masters: masters.len(),
            present: masters.values().map(Info::total_keys).sum(),
            notes,
        }
    }
}

/// Keys that only masters with the right modules take.
pub(super) fn of_modules<'a>(found: impl Iterator<Item = &'a Inspection>) -> Option<String> {
    let counts = found.filter_map(|found| found.encodings.get(Encoding::Module2.word()));
    let keys: u64 = counts.sum();
    (keys > 0).then(|| {
        format!(
            "{} with types of modules; the masters must have these modules loaded.",
            counted(keys, "key")
        )
    })
}

/// Values that the masters will probably refuse.
pub(super) fn unaccepted(cluster: &ClusterState, found: &[&Inspection]) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut encodings: BTreeMap<&str, u64> = BTreeMap::new();
    for (word, count) in found.iter().flat_map(|found| &found.encodings) {
        *encodings.entry(word).or_default() += count;
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
    warnings
}

/// Keys for which most clusters have no database.
fn other_databases(found: &[&Inspection]) -> Option<String> {
    let databases = found.iter().flat_map(|found| &found.databases);
    let others = databases.filter(|(database, _)| **database != 0);
    let keys: u64 = others.map(|(_, keys)| keys).sum();
    (keys > 0).then(|| {
        format!(
            "{} in databases other than 0; in a cluster only Valkey 9 has these (cluster-databases)",
            counted(keys, "key")
        )
    })
}
