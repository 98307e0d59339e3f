//! Backups: an RDB file of every master and a manifest, in a directory of their own.
//!
//! A file has its name only when it is whole: it is written under another, synced, read back from
//! the disk to its end, and renamed. The manifest comes last, under the same rules. A directory
//! without one holds no backup.

mod inspect;
mod manifest;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, block_in_place};
use tokio_util::sync::CancellationToken;

use crate::client::{ClientError, Snapshot};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::Info;
use crate::cluster::slot::SlotSet;
use crate::connections::{Connections, Target};
use crate::event::{Amount, Event, Events, Phase, Unit};

pub use inspect::{InspectError, Inspection, inspect};
pub use manifest::{FileFacts, Manifest, ManifestError};
pub use store::{Directory, StoreError};

/// How long a replica may take to be where its master was when the backup of it began.
const CATCH_UP: Duration = Duration::from_secs(10);

/// A master whose data are wanted.
#[derive(Debug, Clone)]
pub struct Job {
    /// The master.
    pub master: NodeId,
    /// Where it is reached, for people.
    pub addr: String,
    /// How it is reached, where it answers.
    pub target: Option<Target>,
    /// Its slots.
    pub slots: SlotSet,
    /// Who may give its data, the best first; never empty.
    pub sources: Vec<Source>,
}

/// A node that can give a master's data.
#[derive(Debug, Clone)]
pub struct Source {
    /// The node.
    pub id: NodeId,
    /// What it is now.
    pub role: Role,
    /// How it is reached.
    pub target: Target,
    /// The host that it stands on.
    pub host: String,
}

/// How data are fetched.
#[derive(Debug, Clone, Copy)]
pub struct BackupOptions {
    /// How many nodes of one host fork at a time, at least 1.
    pub per_host: usize,
    /// How long a node may send nothing.
    pub silence: Duration,
}

/// Why there is no file of a master.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// No source gives its data; why each of them does not.
    #[error("{}", .0.join("; "))]
    Source(Vec<String>),
    /// It can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was written is no good file.
    #[error("what {0} sent {1}")]
    Unusable(String, InspectError),
    /// It was told to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Where and why a backup ended.
#[derive(Debug)]
pub struct Failure {
    /// The master whose file is missing, where it is that of one.
    pub master: Option<NodeId>,
    /// Why.
    pub error: BackupError,
}

/// What all fetches share.
struct Work {
    connections: Arc<Connections>,
    directory: Arc<Directory>,
    options: BackupOptions,
    hosts: HashMap<String, Arc<Semaphore>>,
    received: Meter,
}

/// Fetches everything; the first failure ends it, since a backup that lacks a master is none.
pub async fn run(
    jobs: Vec<Job>,
    directory: Arc<Directory>,
    connections: Arc<Connections>,
    options: BackupOptions,
    events: &Events,
    stop: &CancellationToken,
) -> Result<Vec<FileFacts>, Failure> {
    let hosts = jobs
        .iter()
        .flat_map(|job| &job.sources)
        .map(|source| {
            let turns = Arc::new(Semaphore::new(options.per_host.max(1)));
            (source.host.clone(), turns)
        })
        .collect();
    let work = Arc::new(Work {
        connections,
        directory,
        options,
        hosts,
        received: Meter::new(Phase::Fetch, Unit::Bytes, None, events.clone()),
    });
    let total = jobs.len();
    let mut fetching = JoinSet::new();
    for job in jobs {
        let work = Arc::clone(&work);
        fetching.spawn(async move {
            let fetched = work.fetch(&job).await;
            (job.master, fetched)
        });
    }
    let mut files = Vec::with_capacity(total);
    let failure = loop {
        let next = tokio::select! {
            next = fetching.join_next() => next,
            () = stop.cancelled() => break Some(Failure::interrupted()),
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
                break Some(Failure { master, error });
            }
            // A task ends by itself, or with all of them.
            Some(Err(_)) => break Some(Failure::interrupted()),
        }
    };
    // Until they are gone, and their unfinished files with them.
    fetching.shutdown().await;
    match failure {
        Some(failure) => Err(failure),
        None => {
            files.sort_by_key(|file| file.slots.iter().next());
            Ok(files)
        }
    }
}

impl Failure {
    fn interrupted() -> Self {
        Self {
            master: None,
            error: BackupError::Interrupted,
        }
    }
}

impl Work {
    /// The file of one master, from the first source that gives it.
    async fn fetch(&self, job: &Job) -> Result<FileFacts, BackupError> {
        let mut refusals = Vec::new();
        for source in &job.sources {
            let turns = self.hosts.get(&source.host).map(Arc::clone);
            // The semaphore is never closed.
            let _turn = match turns {
                Some(turns) => turns.acquire_owned().await.ok(),
                None => None,
            };
            match self.ask(job, source).await {
                Ok(snapshot) => return self.save(job, source, snapshot).await,
                // It has lost its master, lags, or is starting: the next one may be better off.
                Err(why) => refusals.push(why),
            }
        }
        Err(BackupError::Source(refusals))
    }

    /// Data that hold all that the master had written when they were asked for.
    ///
    /// A replica's link may be up while its master sends it nothing yet: after a whole copy, until
    /// its first REPLCONF ACK (seen on Valkey 8.0: a replica that said `up`, a second behind). So
    /// it has to be as far as its master was, and the data too.
    async fn ask(&self, job: &Job, source: &Source) -> Result<Snapshot, String> {
        let told = |error: ClientError| error.to_string();
        let wanted = match (&job.target, source.role) {
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
                "{} gives data that are behind its master's",
                source.target.addr
            )),
            _ => Ok(snapshot),
        }
    }

    /// How far a node is in the history of writes.
    async fn offset(&self, target: &Target) -> Result<Option<u64>, ClientError> {
        let client = self.connections.temporary(target).await?;
        Ok(Info::parse(&client.info().await?).replication_offset)
    }

    async fn save(
        &self,
        job: &Job,
        source: &Source,
        mut snapshot: Snapshot,
    ) -> Result<FileFacts, BackupError> {
        let began = SystemTime::now();
        let mut file = self.directory.file(&format!("{}.rdb", job.master))?;
        let lost = |error: ClientError| BackupError::Source(vec![error.to_string()]);
        while let Some(chunk) = snapshot.chunk().await.map_err(lost)? {
            block_in_place(|| file.write(&chunk))?;
            self.received.add(chunk.len() as u64);
        }
        let saved = block_in_place(|| {
            file.sync()?;
            // From the disk again: what the page cache holds proves little, but a short or torn
            // file, a wrong checksum and an unknown record show here and not in the hour of need.
            let found = inspect(file.path(), &job.slots, &|_| {})
                .map_err(|error| BackupError::Unusable(source.target.addr.to_string(), error))?;
            if found.sha256 != file.sha256() {
                return Err(BackupError::Unusable(
                    source.target.addr.to_string(),
                    InspectError::ReadBack,
                ));
            }
            let name = file.publish()?;
            Ok((name, found))
        })?;
        let (file, found) = saved;
        Ok(FileFacts {
            file,
            master: job.master,
            master_addr: job.addr.clone(),
            slots: job.slots.clone(),
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

/// Holds a backup against its manifest, file by file. `tell` hears how many bytes were read.
///
/// All that is wrong, by file; nothing for a backup that is whole.
pub fn verify(
    path: &Path,
    manifest: &Manifest,
    tell: &(dyn Fn(u64) + Sync),
) -> BTreeMap<String, String> {
    let check = |file: &FileFacts| -> Result<(), String> {
        let found = inspect(&path.join(&file.file), &file.slots, tell)
            .map_err(|error| error.to_string())?;
        file.found.differs(&found).map_or(Ok(()), Err)
    };
    let mut wrong = BTreeMap::new();
    for file in &manifest.files {
        if let Err(why) = check(file) {
            wrong.insert(file.file.clone(), why);
        }
    }
    wrong
}

/// Counts, and tells now and then how far it is.
#[derive(Debug)]
pub struct Meter {
    phase: Phase,
    unit: Unit,
    total: Option<u64>,
    done: AtomicU64,
    told: Mutex<Instant>,
    events: Events,
}

impl Meter {
    /// How often it tells.
    const EVERY: Duration = Duration::from_millis(200);

    /// From 0.
    pub fn new(phase: Phase, unit: Unit, total: Option<u64>, events: Events) -> Self {
        Self {
            phase,
            unit,
            total,
            done: AtomicU64::new(0),
            told: Mutex::new(Instant::now()),
            events,
        }
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        let done = self.done.fetch_add(count, Ordering::Relaxed) + count;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() < Self::EVERY {
            return;
        }
        *told = Instant::now();
        let (phase, unit, total) = (self.phase, self.unit, self.total);
        self.events.send(Event::Amount(Amount {
            phase,
            unit,
            done,
            total,
        }));
    }
}
