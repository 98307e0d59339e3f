//! `import --from` RDB files: the keys of files that any server or tool has written.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::anyhow;
use tokio::task::spawn_blocking;

use super::rdb_files::{FileOrigin, ImportFile};
use super::restore::{compare_functions, of_modules, unaccepted};
use super::{Transferred, infos, masters, notes, transfer, warn_of_evictions, writable_cluster};
use crate::backup::{Inspection, Meter, inspect_rdb};
use crate::cluster::functions::Functions;
use crate::cluster::numbers::counted;
use crate::cluster::parse::Info;
use crate::connections::Target;
use crate::event::{Events, Phase, Unit};
use crate::report::TransferPlan;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::transfer::{self, Databases, FileContent, KeyFile, SlotOwners, TransferOptions};

/// RDB files to import, and how their keys are written.
pub(crate) struct FilesRequest {
    /// The files.
    pub(crate) files: Vec<ImportFile>,
    /// The database whose keys are wanted.
    pub(crate) database: u32,
    /// How keys are written.
    pub(crate) options: TransferOptions,
}

/// An import of files that can begin.
pub(crate) struct FilesPlan {
    cluster: ClusterState,
    /// The keys, if all files could be read beforehand.
    keys: Option<u64>,
    /// What is shown of it.
    pub(crate) view: TransferPlan,
    /// Values that the cluster will probably refuse, and those that are left out.
    pub(crate) warnings: Vec<String>,
}

/// Reads all files to their ends, one after the other, except standard input. Returns what each holds, by its name.
pub(crate) async fn read(
    events: &Events,
    request: &FilesRequest,
) -> anyhow::Result<BTreeMap<String, Inspection>> {
    events.phase(Phase::Verify);
    let meter = Meter::new(Phase::Verify, Unit::Bytes, None, events.clone());
    let files = request.files.clone();
    let reading = spawn_blocking(move || {
        let mut read = BTreeMap::new();
        let mut wrong = Vec::new();
        for file in files {
            let FileOrigin::Path(path) = &file.origin else {
                continue;
            };
            match inspect_rdb(path, &file.slots, &|bytes| meter.add(bytes)) {
                Ok(found) => drop(read.insert(file.name, found)),
                Err(error) => wrong.push(format!("{}: {error}", file.name)),
            }
        }
        (read, wrong)
    });
    let (read, wrong) = reading.await?;
    match wrong.is_empty() {
        true => Ok(read),
        false => Err(anyhow!("{}\nNothing was changed.", wrong.join("\n"))),
    }
}

/// Looks at the cluster. Refuses functions that differ within the files, or from those of the cluster.
pub(crate) async fn plan(
    session: &Session,
    request: &FilesRequest,
    read: &BTreeMap<String, Inspection>,
) -> Result<FilesPlan, Stop> {
    let cluster = writable_cluster(session).await?;
    let found: Vec<&Inspection> = read.values().collect();
    let mut warnings = unaccepted(&cluster, &found);
    for (name, found) in read {
        if let Some(rest) = found.unread {
            warnings.push(format!("{name}: {rest}, and will be left out"));
        }
    }
    let libraries = |(name, found): (&String, &Inspection)| (name.clone(), found.libraries.clone());
    let functions: BTreeMap<String, Functions> = read.iter().map(libraries).collect();
    let on_conflict = request.options.on_conflict;
    let compared = compare_functions(session, &cluster, on_conflict, &functions, String::clone);
    warnings.extend(compared.await?);
    let is_known = read.len() == request.files.len();
    let keys = found
        .iter()
        .filter_map(|found| found.databases.get(&request.database));
    let keys = is_known.then(|| keys.sum());
    Ok(FilesPlan {
        view: request.view(&cluster, read, keys),
        cluster,
        keys,
        warnings,
    })
}

/// Writes the keys.
pub(crate) async fn execute(
    session: &Session,
    request: &FilesRequest,
    plan: &FilesPlan,
    owners: Arc<SlotOwners>,
) -> Result<Transferred, Stop> {
    let file = |file: &ImportFile| KeyFile {
        name: file.name.clone(),
        slots: file.slots.clone(),
        content: match &file.origin {
            FileOrigin::Path(path) => FileContent::Verified(path.clone()),
            FileOrigin::Stdin => FileContent::Stdin,
        },
        databases: Databases::Only(request.database),
    };
    let files = request.files.iter().map(file).collect();
    let options = request.options;
    let work = |meter, stopper| async move {
        transfer::restore(owners, files, options, meter, &stopper).await
    };
    let mut transferred = transfer(session, "copied", plan.keys, work).await?;
    transferred.view.evicted = warn_of_evictions(session, &plan.cluster).await;
    Ok(transferred)
}

impl FilesPlan {
    /// The nodes that change.
    pub(crate) fn masters(&self) -> Vec<Target> {
        masters(&self.cluster)
    }
}

impl FilesRequest {
    fn view(
        &self,
        cluster: &ClusterState,
        read: &BTreeMap<String, Inspection>,
        keys: Option<u64>,
    ) -> TransferPlan {
        let masters = infos(cluster);
        let mut notes = notes(cluster, self.options.on_conflict);
        let mut servers: Vec<&str> = read.values().map(|found| found.server.as_str()).collect();
        servers.sort_unstable();
        servers.dedup();
        servers.retain(|server| !server.is_empty());
        if !servers.is_empty() {
            notes.push(format!("Written by {}.", servers.join(" and ")));
        }
        if keys.is_none() {
            notes.push(
                "Standard input is not verified before its keys are written: its checksum is compared at its end."
                    .to_string(),
            );
        }
        notes.extend(of_modules(read.values()));
        let mut others: BTreeMap<u32, u64> = BTreeMap::new();
        for (database, keys) in read.values().flat_map(|found| &found.databases) {
            if *database != self.database {
                *others.entry(*database).or_default() += keys;
            }
        }
        if !others.is_empty() {
            let others = others
                .iter()
                .map(|(number, keys)| format!("{number} ({keys})"));
            let others: Vec<String> = others.collect();
            notes.push(format!(
                "Keys of other databases are not imported unless --from-db N names their database: {}.",
                others.join(", ")
            ));
        }
        let to = cluster.diagnosis.observation.lead();
        TransferPlan {
            from: match &self.files[..] {
                [file] => file.name.clone(),
                files => counted(files.len() as u64, "RDB file"),
            },
            keys: keys.unwrap_or_default(),
            to: to.map_or_else(String::new, ToString::to_string),
            masters: masters.len(),
            present: masters.values().map(Info::total_keys).sum(),
            notes,
        }
    }
}
