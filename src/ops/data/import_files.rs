//! `import --from` RDB files: the keys of files that any server or tool has written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::anyhow;
use tokio::task::spawn_blocking;

use super::databases::{self, DatabaseMapping, Databases};
use super::rdb_files::{FileOrigin, ImportFile};
use super::restore::{of_modules, unaccepted};
use super::rights::WorkAtTarget;
use super::verify::{self, VerifyFilesRequest};
use super::{
    Afterwards, FilesPlan, Transferred, functions, infos, notes, rights, transfer,
    warn_of_evictions, writable_cluster,
};
use crate::backup::{Inspection, Meter, inspect_rdb, rdb_length};
use crate::cluster::functions::Functions;
use crate::cluster::parse::Info;
use crate::cluster::slot::SlotSet;
use crate::event::{Events, Phase, Unit};
use crate::report::{TransferPlan, VerifyView};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::transfer::{
    self, FileContent, KeyFile, OnConflict, SavedFile, SlotOwners, Stopper, TTL_TOLERANCE,
    TransferOptions,
};

const WORDS: functions::Words = functions::Words {
    holders: "the files",
    source: "the files",
    command: "import",
};

/// RDB files to import, and how their keys are written.
pub(crate) struct FilesRequest {
    /// The files.
    pub(crate) files: Vec<ImportFile>,
    /// The databases whose keys are wanted, and where they go.
    pub(crate) databases: Databases,
    /// The pattern of the keys, as SCAN takes it; `None` for all keys.
    pub(crate) pattern: Option<String>,
    /// How keys are written.
    pub(crate) options: TransferOptions,
    /// What follows.
    pub(crate) afterwards: Afterwards,
}

/// What files hold that were read to their ends.
#[derive(Default)]
pub(crate) struct FilesRead {
    /// What each holds, by its name.
    found: BTreeMap<String, Inspection>,
    /// Their length and when they were written last.
    states: BTreeMap<PathBuf, FileState>,
}

/// What changes when a file is written.
type FileState = (u64, Option<SystemTime>);

/// Reads all files to their ends, one after the other, except standard input.
pub(crate) async fn read(events: &Events, request: &FilesRequest) -> anyhow::Result<FilesRead> {
    events.phase(Phase::Verify);
    let meter = Arc::new(Meter::of_parts(Phase::Verify, Unit::Bytes, events.clone()));
    let mut files = Vec::new();
    for file in &request.files {
        if let FileOrigin::Path(path) = &file.origin {
            // What can't be opened is reported when it is read.
            let part = meter.part(&file.name, rdb_length(path).ok().flatten());
            files.push((file.clone(), path.clone(), part));
        }
    }
    let all = Arc::clone(&meter);
    let reading = spawn_blocking(move || {
        let mut read = FilesRead::default();
        let mut wrong = Vec::new();
        for (file, path, part) in files {
            read.states
                .extend(state_of(&path).map(|state| (path.clone(), state)));
            let tell = |bytes| {
                all.add(bytes);
                part.add(bytes);
            };
            match inspect_rdb(&path, &file.slots, &tell) {
                Ok(found) => drop(read.found.insert(file.name, found)),
                Err(error) => wrong.push(format!("{}: {error}", file.name)),
            }
            part.complete();
        }
        (read, wrong)
    });
    let (read, wrong) = meter.tell_while(reading).await?;
    match wrong.is_empty() {
        true => Ok(read),
        false => Err(anyhow!("{}\nNothing was changed.", wrong.join("\n"))),
    }
}

fn state_of(path: &Path) -> Option<FileState> {
    let facts = fs::metadata(path).ok()?;
    Some((facts.len(), facts.modified().ok()))
}

impl FilesRead {
    /// The keys of each database.
    fn databases(&self) -> BTreeMap<u32, u64> {
        let mut databases = BTreeMap::new();
        for (database, keys) in self.found.values().flat_map(|found| &found.databases) {
            *databases.entry(*database).or_default() += keys;
        }
        databases
    }

    /// Refuses files that were written since they were read.
    fn refuse_changed(&self) -> Result<(), Stop> {
        let mut states = self.states.iter();
        match states.find(|(path, state)| state_of(path).as_ref() != Some(state)) {
            None => Ok(()),
            Some((path, _)) => Err(Stop::refused(anyhow!(
                "{} has changed since it was verified: run the command again once nobody writes to it",
                path.display()
            ))),
        }
    }
}

/// Looks for names that collide. Reads all files again if keys of several databases go to one.
pub(crate) async fn refuse_collisions(
    session: &Session,
    request: &FilesRequest,
    read: &FilesRead,
) -> Result<(), Stop> {
    let counts = read.databases();
    if !databases::merges(&request.databases.mappings(counts.keys().copied())) {
        return Ok(());
    }
    session.events.phase(Phase::FindCollisions);
    let files = request.saved();
    let selection = request.databases.selection(request.pattern.as_deref());
    let stopper = Stopper::default();
    let _stop = stopper.clone().halt_on_drop();
    let searching = spawn_blocking(move || {
        transfer::file_collisions(&files, &selection, counts.values().sum(), &stopper)
    });
    let found = searching
        .await
        .map_err(|error| Stop::refused(anyhow!(error)))?;
    databases::refuse_collisions(&found.map_err(Stop::refused)?)
}

/// Looks at the cluster. Refuses functions that differ within the files, or from those of the cluster.
pub(crate) async fn plan(
    session: &Session,
    request: &FilesRequest,
    read: &FilesRead,
) -> Result<FilesPlan, Stop> {
    let cluster = writable_cluster(session).await?;
    let counts = read.databases();
    let is_known = read.found.len() == request.files.len();
    let found = counts.keys().copied();
    let mappings = match is_known {
        true => request.databases.mappings(found),
        // Those with a prefix are named; that standard input has keys of them is likely.
        false => request.databases.mappings_with_prefixes(found),
    };
    databases::refuse_missing(session, &cluster, &mappings).await?;
    let found: Vec<&Inspection> = read.found.values().collect();
    let mut warnings = unaccepted(&cluster, &found);
    for (name, found) in &read.found {
        if let Some(rest) = found.unread {
            warnings.push(format!("{name}: {rest}, and will be left out"));
        }
    }
    let libraries = |(name, found): (&String, &Inspection)| (name.clone(), found.libraries.clone());
    let saved: BTreeMap<String, Functions> = read.found.iter().map(libraries).collect();
    let on_conflict = request.options.on_conflict;
    let check = functions::check(session, &cluster, on_conflict, WORDS, &saved, String::clone);
    warnings.extend(check.await?);
    let work = WorkAtTarget {
        on_conflict,
        functions: functions::loads(saved.values()),
        afterwards: request.afterwards,
    };
    rights::refuse_missing_at_target(session, &cluster, work).await?;
    let keys = mappings
        .iter()
        .filter_map(|mapping| counts.get(&mapping.from));
    let keys = is_known.then(|| keys.sum());
    let mut view = request.view(&cluster, read, &mappings, keys);
    view.notes.extend(functions::announced(saved.values()));
    Ok(FilesPlan {
        view,
        cluster,
        warnings,
    })
}

/// Writes the keys.
pub(crate) async fn execute(
    session: &Session,
    request: &FilesRequest,
    read: &FilesRead,
    plan: &FilesPlan,
    owners: Arc<SlotOwners>,
) -> Result<Transferred, Stop> {
    read.refuse_changed()?;
    let selection = Arc::new(request.databases.selection(request.pattern.as_deref()));
    let file = |file: &ImportFile| KeyFile {
        name: file.name.clone(),
        keys: request.keys_of(file, read),
        slots: file.slots.clone(),
        content: match &file.origin {
            FileOrigin::Path(path) => FileContent::Verified(path.clone()),
            FileOrigin::Stdin => FileContent::Stdin,
        },
        selection: Arc::clone(&selection),
    };
    let files = request.files.iter().map(file).collect();
    let options = request.options;
    let work = |meter, stopper| async move {
        transfer::restore(owners, files, options, meter, &stopper).await
    };
    let keys = plan.view.keys.filter(|_| request.pattern.is_none());
    let mut transferred = transfer(session, "copied", keys, work).await?;
    let stopped = transferred.stopped.as_ref();
    let evicted = warn_of_evictions(session, &plan.cluster, stopped).await;
    transferred.view.evicted = evicted;
    Ok(transferred)
}

/// Compares the keys of the files with those of the cluster after the transfer.
pub(crate) async fn verify(
    session: &Session,
    request: &FilesRequest,
    read: &FilesRead,
    plan: &FilesPlan,
) -> Result<VerifyView, Stop> {
    let saved = request.files.iter().filter_map(|file| {
        let keys = request.keys_of(file, read);
        file.saved().map(|saved| SavedFile { keys, ..saved })
    });
    let request = VerifyFilesRequest {
        from: plan.view.from.clone(),
        files: saved.collect(),
        selection: request.databases.selection(request.pattern.as_deref()),
        keys: plan.view.keys.filter(|_| request.pattern.is_none()),
        ttl_tolerance: TTL_TOLERANCE,
    };
    let cluster = verify::written_cluster(session).await?;
    verify::compare_files(session, request, &cluster).await
}

impl FilesRequest {
    /// The files that can be read more than once.
    fn saved(&self) -> Vec<SavedFile> {
        self.files.iter().filter_map(ImportFile::saved).collect()
    }

    /// The number of keys of a file that are wanted, if it is known without the names of all.
    fn keys_of(&self, file: &ImportFile, read: &FilesRead) -> Option<u64> {
        let found = read.found.get(&file.name)?;
        match self.pattern {
            Some(_) => None,
            None => Some(self.databases.keys(&found.databases)),
        }
    }

    /// A sentence about databases that several files have: these are read side by side, so that of two values of one key
    /// either may be the last one.
    fn undecided(&self, read: &FilesRead, mappings: &[DatabaseMapping]) -> Option<String> {
        if self.options.on_conflict != OnConflict::Replace {
            return None;
        }
        let has = |file: &&ImportFile, database: u32| match read.found.get(&file.name) {
            Some(found) => found.databases.get(&database).is_some_and(|keys| *keys > 0),
            // Standard input may have any.
            None => true,
        };
        let is_shared = |database: u32| {
            let files = self.files.iter().filter(|file| has(file, database));
            let mut covered = SlotSet::new();
            for file in files {
                if !covered.intersection(&file.slots).is_empty() {
                    return true;
                }
                covered = covered.union(&file.slots);
            }
            false
        };
        let wanted = mappings.iter().map(|mapping| mapping.from);
        let shared: Vec<String> = wanted
            .filter(|database| is_shared(*database))
            .map(|database| database.to_string())
            .collect();
        (!shared.is_empty()).then(|| {
            format!(
                "Several files have keys of one database ({}): where two have one name, either value may stay.",
                shared.join(", ")
            )
        })
    }

    fn view(
        &self,
        cluster: &ClusterState,
        read: &FilesRead,
        mappings: &[DatabaseMapping],
        keys: Option<u64>,
    ) -> TransferPlan {
        let masters = infos(cluster);
        let mut notes = notes(cluster, self.options.on_conflict);
        if let Some(pattern) = &self.pattern {
            notes.push(format!("Only keys that match {pattern:?}."));
        }
        let mut servers: Vec<&str> = read
            .found
            .values()
            .map(|found| found.server.as_str())
            .collect();
        servers.sort_unstable();
        servers.dedup();
        servers.retain(|server| !server.is_empty());
        if !servers.is_empty() {
            notes.push(format!("Written by {}.", servers.join(" and ")));
        }
        if keys.is_none() {
            notes.push(
                "Standard input is not verified before its keys are written: its checksum is compared at its end. \
                 Functions that it has are loaded on all masters."
                    .to_string(),
            );
        }
        notes.extend(of_modules(read.found.values()));
        notes.extend(match (&self.databases, keys) {
            // Which databases standard input has is not known.
            (Databases::All(_), None) => Some(databases::FIRST.to_string()),
            _ => databases::destination(cluster, mappings),
        });
        notes.extend(databases::prefixes(mappings));
        notes.extend(databases::others(&read.databases(), mappings));
        notes.extend(self.undecided(read, mappings));
        let to = cluster.diagnosis.observation.lead();
        TransferPlan {
            from: super::rdb_files::listed(&self.files),
            keys,
            to: to.map_or_else(String::new, ToString::to_string),
            masters: masters.len(),
            present: masters.values().map(Info::total_keys).sum(),
            notes,
        }
    }
}
