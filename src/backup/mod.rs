//! Backups: an RDB file of every master and a manifest, in a directory of their own.
//!
//! A file is parsed and its checksums are computed while it arrives. It is written under a temporary name, synced, and
//! then renamed. It is not read back: the bytes would come from the page cache, which proves nothing about the disk. The
//! manifest is written last, in the same way. A directory without a manifest is not a backup.

mod blocks;
mod inspect;
mod manifest;
mod meter;
mod receive;
#[cfg(test)]
mod recorded_tests;
mod restorable;
mod store;
mod unpack;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{RwLock, Semaphore};
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::client::{ClientError, Snapshot};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::Info;
use crate::cluster::slot::SlotSet;
use crate::connections::{Connections, Target};
use crate::event::{Event, Events, Phase, Unit};
use crate::rdb::RdbError;

pub use blocks::{BLOCK, BlockSum, VerifiedFile};
pub use inspect::{InspectError, Inspection, UnreadRest, inspect, inspect_rdb};
pub use manifest::{FileFacts, Manifest, ManifestError};
pub use meter::{Meter, MeterPart};
use receive::{Received, Receiving};
pub use restorable::{Reading, Restorable, TellRead, prepare, verify};
pub use store::{Directory, StoreError};
pub use unpack::{RdbBytes, open_rdb, rdb_length, unpack};

/// The memory of nodes that fork at a time on one host, for each of [`BackupOptions::per_host`], in MiB. A larger node
/// forks alone. Several small ones do it together: a node waits `repl-diskless-sync-delay` (5 s) before it forks.
const TURN: u32 = 256;

/// How long a replica may take to reach the replication offset that its master had when its backup began.
const CATCH_UP: Duration = Duration::from_secs(10);

/// A master to back up.
#[derive(Debug, Clone)]
pub struct MasterBackup {
    /// The node id of the master.
    pub master: NodeId,
    /// Its address, for messages.
    pub addr: String,
    /// How to reach it, if it answers.
    pub target: Option<Target>,
    /// The name of the file.
    pub file: String,
    /// Its slots.
    pub slots: SlotSet,
    /// The nodes that can send its data, the best first; never empty.
    pub sources: Vec<BackupSource>,
}

/// A node that can send the data of a master.
#[derive(Debug, Clone)]
pub struct BackupSource {
    /// Its node id.
    pub id: NodeId,
    /// Its current role.
    pub role: Role,
    /// How to reach it.
    pub target: Target,
    /// The host that it runs on.
    pub host: String,
    /// Its memory in bytes, if it tells.
    pub used_memory: Option<u64>,
}

impl BackupSource {
    /// Its share of the memory of nodes that fork at a time.
    fn share(&self) -> u32 {
        let used = self.used_memory.map(|bytes| bytes >> 20);
        let used = used.and_then(|mib| u32::try_from(mib).ok());
        used.unwrap_or(TURN).clamp(1, TURN)
    }
}

/// How data are fetched.
#[derive(Debug, Clone, Copy)]
pub struct BackupOptions {
    /// The number of nodes per host that fork at a time, at least 1; small nodes count as one.
    pub per_host: u32,
    /// How long a node may send nothing.
    pub silence: Duration,
}

/// Why there is no file of a master.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// No source sends the data; the reason of each source.
    #[error("{}", .0.join("; "))]
    Source(Vec<String>),
    /// The file can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data are invalid.
    #[error("the data of {0}: the file {1}")]
    Unusable(String, RdbError),
    /// The user interrupted the backup.
    #[error("interrupted")]
    Interrupted,
}

/// Where and why a backup stopped.
#[derive(Debug)]
pub struct BackupFailure {
    /// The master without a file, if the failure concerns one.
    pub master: Option<NodeId>,
    /// The reason.
    pub error: BackupError,
}

/// What all fetches share.
struct Work {
    connections: Arc<Connections>,
    directory: Arc<Directory>,
    options: BackupOptions,
    hosts: HashMap<String, Arc<Semaphore>>,
    received: Meter,
    /// Read-locked by each thread that writes a file.
    writing: Arc<RwLock<()>>,
}

/// Fetches all files. Stops at the first failure, because a backup without one of the masters is incomplete.
pub async fn run(
    backups: Vec<MasterBackup>,
    directory: Arc<Directory>,
    connections: Arc<Connections>,
    options: BackupOptions,
    events: &Events,
    stop: &CancellationToken,
) -> Result<Vec<FileFacts>, BackupFailure> {
    let hosts = backups
        .iter()
        .flat_map(|backup| &backup.sources)
        .map(|source| {
            let turns = options.per_host.max(1).saturating_mul(TURN);
            (
                source.host.clone(),
                Arc::new(Semaphore::new(turns as usize)),
            )
        })
        .collect();
    let work = Arc::new(Work {
        connections,
        directory,
        options,
        hosts,
        received: Meter::of_parts(Phase::Fetch, Unit::Bytes, events.clone()),
        writing: Arc::default(),
    });
    let writing = Arc::clone(&work.writing);
    let total = backups.len();
    let mut fetching = JoinSet::new();
    for backup in backups {
        let (work, part) = (Arc::clone(&work), work.received.part(&backup.addr, None));
        fetching.spawn(async move {
            let fetched = work.fetch(&backup, &part).await;
            (backup.master, fetched)
        });
    }
    let mut files = Vec::with_capacity(total);
    let fetched = async {
        loop {
            let next = tokio::select! {
                next = fetching.join_next() => next,
                () = stop.cancelled() => break Some(BackupFailure::interrupted()),
            };
            match next {
                None => break None,
                Some(Ok((_, Ok(file)))) => {
                    files.push(file);
                    events.send(Event::Waiting {
                        phase: Phase::Fetch,
                        ready: files.len(),
                        total,
                    });
                }
                Some(Ok((master, Err(error)))) => {
                    let master = Some(master);
                    break Some(BackupFailure { master, error });
                }
                // Tasks are aborted only when all of them are.
                Some(Err(_)) => break Some(BackupFailure::interrupted()),
            }
        }
    };
    let failure = work.received.tell_while(fetched).await;
    // Wait for the tasks and threads, which delete their unfinished files.
    fetching.shutdown().await;
    drop(writing.write().await);
    match failure {
        Some(failure) => Err(failure),
        None => {
            files.sort_by_key(|file| file.slots.iter().next());
            Ok(files)
        }
    }
}

impl BackupFailure {
    fn interrupted() -> Self {
        Self {
            master: None,
            error: BackupError::Interrupted,
        }
    }
}

impl Work {
    /// Returns the file of one master, from the first source that sends it.
    async fn fetch(
        &self,
        backup: &MasterBackup,
        part: &MeterPart,
    ) -> Result<FileFacts, BackupError> {
        let mut refusals = Vec::new();
        for source in &backup.sources {
            let turns = self.hosts.get(&source.host).map(Arc::clone);
            // The semaphore is never closed.
            let _turn = match turns {
                Some(turns) => turns.acquire_many_owned(source.share()).await.ok(),
                None => None,
            };
            match self.ask(backup, source).await {
                Ok(snapshot) => return self.save(backup, source, snapshot, part).await,
                // The source has lost its master, lags, or is starting: try the next one.
                Err(why) => refusals.push(why),
            }
        }
        Err(BackupError::Source(refusals))
    }

    /// Requests data that contain everything that the master had written at the time of the request.
    ///
    /// A replica's link may be up while its master does not send to it yet: after a full resync, until its first
    /// REPLCONF ACK (seen on Valkey 8.0: a replica that reported `up`, a second behind). So the replica, and the
    /// data, must reach the replication offset of the master.
    async fn ask(&self, backup: &MasterBackup, source: &BackupSource) -> Result<Snapshot, String> {
        let told = |error: ClientError| error.to_string();
        let wanted = match (&backup.target, source.role) {
            (Some(master), Role::Replica) => self.offset(master).await.map_err(told)?,
            _ => None,
        };
        let deadline = Instant::now() + CATCH_UP;
        while let Some(wanted) = wanted {
            let there = self.offset(&source.target).await.map_err(told)?;
            if there.is_some_and(|there| there >= wanted) {
                break;
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "{} is still behind its master after {} s",
                    source.target.addr,
                    CATCH_UP.as_secs()
                ));
            }
            tokio::time::sleep(CATCH_UP / 100).await;
        }
        let silence = self.options.silence;
        let snapshot = self.connections.snapshot(&source.target, silence);
        let snapshot = snapshot.await.map_err(told)?;
        match wanted {
            Some(wanted) if snapshot.offset < wanted => Err(format!(
                "{} sends data that are behind its master's",
                source.target.addr
            )),
            _ => Ok(snapshot),
        }
    }

    /// Returns the replication offset of a node.
    async fn offset(&self, target: &Target) -> Result<Option<u64>, ClientError> {
        let client = self.connections.temporary(target).await?;
        Ok(Info::parse(&client.info().await?).replication_offset)
    }

    async fn save(
        &self,
        backup: &MasterBackup,
        source: &BackupSource,
        mut snapshot: Snapshot,
        part: &MeterPart,
    ) -> Result<FileFacts, BackupError> {
        let began = SystemTime::now();
        let writing = Arc::clone(&self.writing).read_owned().await;
        let file = self.directory.file(&backup.file)?;
        let (receiving, sender) = Receiving::new(file);
        let slots = backup.slots.clone();
        let saving = spawn_blocking(move || {
            // If nobody takes the file, it is deleted before the lock is released.
            (receiving.receive(&slots), writing)
        });
        let lost = |error: ClientError| BackupError::Source(vec![error.to_string()]);
        let mut is_cut_off = None;
        if let Some(length) = snapshot.length {
            part.expect(length);
        }
        loop {
            match snapshot.chunk().await {
                Ok(Some(chunk)) => {
                    self.received.add(chunk.len() as u64);
                    part.add(chunk.len() as u64);
                    // The thread has ended: it says why.
                    if sender.send(chunk).await.is_err() {
                        break;
                    }
                }
                Ok(None) => {
                    part.complete();
                    break;
                }
                Err(error) => {
                    is_cut_off = Some(error);
                    break;
                }
            }
        }
        drop(sender);
        let saved = saving.await;
        if let Some(error) = is_cut_off {
            return Err(lost(error));
        }
        let (received, _writing) = saved.map_err(|_| BackupError::Interrupted)?;
        let (file, found) = received.map_err(|why| match why {
            Received::Unwritten(error) => BackupError::Store(error),
            Received::Invalid(error) => {
                BackupError::Unusable(source.target.addr.to_string(), error)
            }
        })?;
        let file = file.publish()?;
        Ok(FileFacts {
            file,
            master: backup.master,
            master_addr: backup.addr.clone(),
            slots: backup.slots.clone(),
            source: source.id,
            source_addr: source.target.addr.to_string(),
            source_role: source.role,
            replication_id: snapshot.replication_id.clone(),
            offset: snapshot.offset,
            began,
            found,
        })
    }
}
