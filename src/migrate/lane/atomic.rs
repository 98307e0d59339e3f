//! A lane of jobs: the servers move slots by themselves, many at a time, and hand them over at once.
//!
//! Valkey is asked at the source, Redis at the target, and both answer before anything has moved.
//! What is seen to here (servers: Valkey 9.1, Redis 8.6):
//!
//! - Before each job both ends are looked at as before each window of keys, no slot of either is
//!   open, and the target holds no key of what is coming (see `stray`).
//! - A job is watched until it ends, and so are the processes and roles of both ends: a source of
//!   Redis that restarts empty in the middle makes it `completed` with no key.
//! - Who owns the slots counts, not what a server says of its job. A source of Valkey says `failed`,
//!   and takes writes again, where its target only slept and takes the slots later.
//! - A job that does not end in time is called off: at the source on Valkey, at the target on Redis,
//!   which else begins it again for ever.
//! - After it the target's replicas confirm: no server waits for them.
//!
//! Jobs are as large as what moves in a few seconds: each costs a tenth of a second before its first
//! key, and what is called off has moved nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::size::{Size, Weighed};
use super::watch::{open_on, view_of};
use super::{Ends, Lane, LaneError, REPLICAS_WITHIN, needed, unless_dropped};
use crate::client::{AsmTask, ClientError, Fault, JobEnd, NodeClient, Side};
use crate::cluster::node::Role;
use crate::cluster::parse::{Direction, Info, Product};
use crate::cluster::slot::{Slot, SlotSet};
use crate::connections::Connections;
use crate::event::LaneEvent;
use crate::migrate::stray::strays;
use crate::migrate::{End, SlotProgress, barrier_key};

/// How often a job that moved nothing is begun again.
const TRIES: usize = 3;
/// Before each further try. A target of Valkey needs a moment to clean up.
const BREATH: Duration = Duration::from_secs(1);
/// How long a job may take that has nothing to move.
const LEAST_DEADLINE: Duration = Duration::from_secs(60);
/// What a job moves at least in a second, in bytes; one that is slower is given up.
const SLOWEST: u64 = 4 << 20;
/// How long a job that was called off may take to end.
const CALLED_OFF_WITHIN: Duration = Duration::from_secs(5);
/// How long the node that leads a job may be silent.
const SILENT_FOR: Duration = Duration::from_secs(10);
/// How often the processes and roles of both ends are looked at during a job.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long both ends may take to tell the same about who owns what a job moved.
const OWNED_WITHIN: Duration = Duration::from_secs(5);
/// How often Redis may begin a job again by itself.
const RETRIES: u64 = 5;

/// How far a job came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaskProgress {
    /// The target owns the slots.
    Moved,
    /// They are where they were, and so they stay: the user does not want to wait.
    Stopped,
}

/// What came of a try.
enum Try {
    Over(TaskProgress),
    /// The slots are where they were; why.
    Again(String),
}

/// A job in hand.
struct Hand<'a> {
    product: Product,
    slots: &'a SlotSet,
    /// The jobs that the leading end knew before.
    known: BTreeSet<String>,
    deadline: Duration,
}

/// A job that ended, or is not heard of any more.
struct Ending {
    /// How, as far as the server told.
    end: Option<JobEnd>,
    /// The server's last words about it.
    said: String,
    /// Why we called it off, or gave up listening.
    cause: Option<Cause>,
}

enum Cause {
    /// The user does not want to wait.
    Stopped,
    /// In words.
    Because(String),
}

/// Who owns the slots of a job that is over.
enum Owner {
    Target,
    Source,
    /// It can't be known; why.
    Unclear(String),
}

impl Lane {
    /// All slots, job by job.
    pub(super) async fn move_in_jobs(
        &mut self,
        ends: &mut Ends,
        product: Product,
        slots: Vec<Slot>,
    ) -> Result<(), LaneError> {
        let now = self.stop.now.clone();
        let mut queue = unless_dropped(&now, self.weigh(ends, slots)).await??;
        let mut size = Size::first();
        while !queue.is_empty() && !self.stop.soon.is_cancelled() {
            let job = size.take(&mut queue);
            let bytes: u64 = job.iter().map(|weighed| weighed.bytes).sum();
            let started = Instant::now();
            match self.move_job(ends, product, &job).await? {
                TaskProgress::Moved => size.measured(bytes, started.elapsed()),
                TaskProgress::Stopped => return Ok(()),
            }
        }
        Ok(())
    }

    /// One job, begun again where it moved nothing.
    async fn move_job(
        &mut self,
        ends: &mut Ends,
        product: Product,
        job: &[Weighed],
    ) -> Result<TaskProgress, LaneError> {
        let slots: SlotSet = job.iter().map(|weighed| weighed.slot).collect();
        let mut tries = 1..=TRIES;
        let mut last = String::new();
        let now = self.stop.now.clone();
        while tries.next().is_some() {
            let nothing_open = SlotSet::new();
            unless_dropped(&now, self.look(ends, &slots, &nothing_open)).await??;
            let bytes = job.iter().map(|weighed| weighed.bytes).sum();
            unless_dropped(&now, self.ready(ends, product, &slots, bytes)).await??;
            match self.attempt(ends, product, &slots, job).await? {
                Try::Over(TaskProgress::Moved) => {
                    unless_dropped(&now, self.confirm_job(ends, &slots)).await??;
                    return Ok(TaskProgress::Moved);
                }
                Try::Over(TaskProgress::Stopped) => return Ok(TaskProgress::Stopped),
                Try::Again(why) => {
                    last.clone_from(&why);
                    self.tell(LaneEvent::Again { why });
                    tokio::select! {
                        () = self.stop.soon.cancelled() => return Ok(TaskProgress::Stopped),
                        () = tokio::time::sleep(BREATH) => {}
                    }
                }
            }
        }
        Err(LaneError::Job(format!(
            "slots {slots} stay, after {TRIES} tries: {last} (--strategy keys moves them key by key)"
        )))
    }

    /// Whether a job may begin: nothing is open, the target has no key of it, and room.
    async fn ready(
        &self,
        ends: &Ends,
        product: Product,
        slots: &SlotSet,
        bytes: u64,
    ) -> Result<(), LaneError> {
        for (end, client) in [(&self.source, &ends.source), (&self.target, &ends.target)] {
            let Some(view) = view_of(client).await else {
                return Err(LaneError::Changed(format!("{end} can't be looked at")));
            };
            let open = [Direction::Migrating, Direction::Importing]
                .into_iter()
                .map(|direction| open_on(view.myself(), direction, None))
                .fold(SlotSet::new(), |all, open| all.union(&open));
            if !open.is_empty() {
                return Err(LaneError::Changed(format!(
                    "slots {open} are open on {end}: somebody else moves them, or did (check says \
                     more)"
                )));
            }
        }
        if let Some(strays) = strays(&ends.target, product, slots).await? {
            return Err(LaneError::Key(format!(
                "{} holds {strays}, which a job would lose (--strategy keys compares them)",
                self.target
            )));
        }
        if let Some(room) = self.room(ends).await?
            && needed(bytes.saturating_mul(self.sharing)) > room
        {
            return Err(LaneError::Changed(format!(
                "{} has {} KiB left below its maxmemory, and the next {} slots need about {}: \
                 raise its maxmemory",
                self.target,
                room >> 10,
                slots.count(),
                needed(bytes.saturating_mul(self.sharing)) >> 10
            )));
        }
        Ok(())
    }

    /// Begins a job, watches it to its end, and looks who owns the slots then.
    async fn attempt(
        &mut self,
        ends: &mut Ends,
        product: Product,
        slots: &SlotSet,
        job: &[Weighed],
    ) -> Result<Try, LaneError> {
        let now = self.stop.now.clone();
        let before = unless_dropped(&now, self.jobs(ends, product)).await??;
        if let Some(other) = before.iter().find(|job| job.end.is_none()) {
            return Ok(Try::Again(format!(
                "another job is under way there, for slots {} ({})",
                other.slots, other.state
            )));
        }
        let known: BTreeSet<String> = before.into_iter().map(|job| job.id).collect();
        for slot in slots.iter() {
            self.begun
                .insert(slot, (SlotProgress::InJob, Instant::now()));
        }
        let start = async {
            match product {
                Product::Valkey => {
                    let log = ends.source.cluster_migrateslots(slots, self.target.id);
                    let log = log.await?;
                    Ok(self.find(log, None, &known, slots).map(|job| job.id))
                }
                Product::Redis => ends.target.cluster_migration_import(slots).await.map(Some),
            }
        };
        let id = match unless_dropped(&now, start).await {
            Ok(Ok(id)) => id,
            Ok(Err(error)) if error.outcome_unknown() => None,
            // It may begin all the same.
            Err(_) => None,
            Ok(Err(error)) => {
                self.forget(slots);
                return match is_busy(&error) {
                    true => Ok(Try::Again(error.to_string())),
                    false => Err(error.into()),
                };
            }
        };
        self.touched = true;
        let keys = job.iter().map(|weighed| weighed.keys).sum();
        let bytes = job.iter().map(|weighed| weighed.bytes).sum();
        let since = Instant::now();
        let hand = Hand {
            product,
            slots,
            known,
            deadline: self.options.job_deadline.unwrap_or_else(|| deadline(bytes)),
        };
        let ending = self.watch(ends, &hand, id).await;
        let said = match ending.said.as_str() {
            "" => String::new(),
            said => format!("; it says: {said}"),
        };
        match self.owner(ends, product, slots, ending.end).await {
            Owner::Target => {
                self.tally.longest_job = self.tally.longest_job.max(since.elapsed());
                self.settled(ends, product, slots, &ending, keys, bytes)
                    .await?;
                Ok(Try::Over(TaskProgress::Moved))
            }
            Owner::Source => {
                self.forget(slots);
                match ending.cause {
                    Some(Cause::Stopped) => Ok(Try::Over(TaskProgress::Stopped)),
                    Some(Cause::Because(why)) => Err(LaneError::Job(format!(
                        "the job for slots {slots} was called off, and they stay: {why}{said}"
                    ))),
                    None => Ok(Try::Again(format!(
                        "the job for slots {slots} failed{said}"
                    ))),
                }
            }
            Owner::Unclear(why) => Err(LaneError::Job(format!(
                "what became of the job for slots {slots} is not known, and it may still go on: \
                 {why}{said}"
            ))),
        }
    }

    /// The slots have moved. There are two cases in which that is not the whole truth.
    async fn settled(
        &mut self,
        ends: &mut Ends,
        product: Product,
        slots: &SlotSet,
        ending: &Ending,
        keys: u64,
        bytes: u64,
    ) -> Result<(), LaneError> {
        self.forget(slots);
        self.moved = self.moved.union(slots);
        self.tally.keys += keys;
        self.tally.bytes += bytes;
        self.tell(LaneEvent::Keys { keys, bytes });
        self.tell(LaneEvent::Slots {
            moved: slots.count(),
        });
        if ending.end == Some(JobEnd::Failed) {
            return Err(LaneError::Job(format!(
                "{} took slots {slots} after {} had given the job up ({}): what clients wrote to \
                 them in between is lost",
                self.target, self.source, ending.said
            )));
        }
        if product == Product::Redis && keys > 0 && self.source_restarted(ends).await {
            let numbers: Vec<Slot> = slots.iter().collect();
            let counts = self.count(&ends.target, &[0], &numbers).await;
            let there: u64 = counts.unwrap_or_default().into_iter().sum();
            return Err(LaneError::Job(format!(
                "{} restarted while slots {slots} moved: of about {keys} keys {} has {there}; what \
                 had not been loaded again is lost",
                self.source, self.target
            )));
        }
        Ok(())
    }

    /// It may have done so before its last keys were asked for.
    async fn source_restarted(&self, ends: &mut Ends) -> bool {
        match info(&self.connections, &self.source, &mut ends.source).await {
            Ok(info) => ends.source_run.is_some() && info.run_id != ends.source_run,
            Err(_) => false,
        }
    }

    fn forget(&mut self, slots: &SlotSet) {
        for slot in slots.iter() {
            self.begun.remove(&slot);
        }
    }

    /// The job in hand among those that a server tells of.
    fn find(
        &self,
        jobs: Vec<AsmTask>,
        id: Option<&str>,
        known: &BTreeSet<String>,
        slots: &SlotSet,
    ) -> Option<AsmTask> {
        jobs.into_iter().find(|job| match id {
            Some(id) => job.id == id,
            // The newest come first on Valkey, and on Redis there is one at a time.
            None => {
                let to = job.target.is_none_or(|target| target == self.target.id);
                let from = job.source.is_none_or(|source| source == self.source.id);
                to && from && job.slots == *slots && !known.contains(&job.id)
            }
        })
    }

    /// The jobs that the leading end tells of, on a new connection where the last one broke.
    async fn jobs(&self, ends: &mut Ends, product: Product) -> Result<Vec<AsmTask>, ClientError> {
        let (client, end) = match product {
            Product::Valkey => (&mut ends.source, &self.source),
            Product::Redis => (&mut ends.target, &self.target),
        };
        match list(client, product).await {
            Err(error) if error.outcome_unknown() => {
                *client = self.connections.own(&end.target).await?;
                list(client, product).await
            }
            jobs => jobs,
        }
    }

    /// Until the job ends, calling it off where it must not go on.
    async fn watch(&self, ends: &mut Ends, hand: &Hand<'_>, mut id: Option<String>) -> Ending {
        let Hand { product, slots, .. } = *hand;
        let started = Instant::now();
        let mut called_off: Option<Instant> = None;
        let (mut heard, mut looked) = (started, started);
        let mut retries = 0;
        let mut ending = Ending {
            end: None,
            said: String::new(),
            cause: None,
        };
        loop {
            let mut because = None;
            let now = match called_off {
                None => self.stop.now.clone(),
                // It has its time to end; see `dropped`.
                Some(_) => CancellationToken::new(),
            };
            match unless_dropped(&now, self.jobs(ends, product)).await {
                Ok(Ok(jobs)) => {
                    heard = Instant::now();
                    let job = self.find(jobs, id.as_deref(), &hand.known, slots);
                    // A source that gave its last slot away is a replica by now, and has forgotten.
                    let Some(job) = job else {
                        return ending;
                    };
                    if !job.message.is_empty() {
                        ending.said = job.message;
                    }
                    ending.end = job.end;
                    if ending.end.is_some() {
                        return ending;
                    }
                    if job.retries > retries {
                        retries = job.retries;
                        let why = format!("the job for slots {slots} failed: {}", ending.said);
                        self.tell(LaneEvent::Again { why });
                    }
                    if retries > RETRIES {
                        because = Some(format!("it failed {retries} times"));
                    }
                    if started.elapsed() > hand.deadline {
                        let within = hand.deadline.as_secs();
                        because = Some(overdue(within, &job.state));
                    }
                    id = Some(job.id);
                }
                Ok(Err(error)) if heard.elapsed() > SILENT_FOR => {
                    ending.cause = Some(Cause::Because(error.to_string()));
                    return ending;
                }
                Ok(Err(_)) | Err(_) => {}
            }
            match called_off {
                Some(since) if since.elapsed() > CALLED_OFF_WITHIN => return ending,
                Some(_) => {}
                None => {
                    if because.is_none() && looked.elapsed() > LOOK_EVERY {
                        let changed = unless_dropped(&now, self.changed(ends)).await;
                        because = changed.unwrap_or(None);
                        looked = Instant::now();
                    }
                    ending.cause = match because {
                        _ if self.stop.now.is_cancelled() => Some(Cause::Stopped),
                        because => because.map(Cause::Because),
                    };
                    if ending.cause.is_some() {
                        if id.is_none()
                            && let Ok(jobs) = self.jobs(ends, product).await
                        {
                            let job = self.find(jobs, None, &hand.known, slots);
                            id = job.map(|job| job.id);
                        }
                        call_off(ends, product, id.as_deref()).await;
                        called_off = Some(Instant::now());
                    }
                }
            }
            let pause = started.elapsed() / 16;
            let pause = pause.clamp(Duration::from_millis(2), Duration::from_millis(100));
            tokio::select! {
                () = self.stop.now.cancelled(), if called_off.is_none() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// What is not as it was when the lane began: a process, a role. (A source that gave its last
    /// slot away becomes a replica, but by then the job has ended, and can't be called off.)
    async fn changed(&self, ends: &mut Ends) -> Option<String> {
        let pairs = [
            (&self.source, &mut ends.source, &ends.source_run),
            (&self.target, &mut ends.target, &ends.target_run),
        ];
        for (end, client, run) in pairs {
            match info(&self.connections, end, client).await {
                Err(error) => return Some(error.to_string()),
                Ok(info) if run.is_some() && info.run_id != *run => {
                    return Some(format!("{end} restarted"));
                }
                Ok(info) if info.master_link.is_some() => {
                    return Some(format!("{end} is no master any more"));
                }
                Ok(_) => {}
            }
        }
        None
    }

    /// Who owns the slots now. The target decides: where it neither owns nor takes them, it will not.
    async fn owner(
        &self,
        ends: &mut Ends,
        product: Product,
        slots: &SlotSet,
        end: Option<JobEnd>,
    ) -> Owner {
        let started = Instant::now();
        loop {
            let unclear = match self.owner_now(ends, product, slots).await {
                Ok(Some(Owner::Source)) if end == Some(JobEnd::Done) => {
                    format!("{} does not own them, though it is done", self.target)
                }
                Ok(Some(owner)) => return owner,
                Ok(None) => format!("{} and {} don't agree about it", self.source, self.target),
                Err(error) => error.to_string(),
            };
            if started.elapsed() > OWNED_WITHIN {
                return Owner::Unclear(unclear);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn owner_now(
        &self,
        ends: &mut Ends,
        product: Product,
        slots: &SlotSet,
    ) -> Result<Option<Owner>, ClientError> {
        // Whether its connection still stands shows here.
        info(&self.connections, &self.target, &mut ends.target).await?;
        let Some(target) = view_of(&ends.target).await else {
            return Ok(None);
        };
        let myself = target.myself();
        if myself.role != Some(Role::Master) || myself.id != self.target.id {
            return Ok(None);
        }
        let has: SlotSet = myself.slots.iter().copied().collect();
        let taken = slots.intersection(&has);
        if taken == *slots {
            // A source that died meanwhile has nothing to say.
            let claims = match view_of(&ends.source).await {
                Some(view) => {
                    let has: SlotSet = view.myself().slots.iter().copied().collect();
                    !has.intersection(slots).is_empty()
                }
                None => false,
            };
            return Ok((!claims).then_some(Owner::Target));
        }
        let under_way = list(&ends.target, product).await?.into_iter().any(|job| {
            let overlaps = !job.slots.intersection(slots).is_empty();
            job.side == Side::Target && job.end.is_none() && overlaps
        });
        Ok((taken.is_empty() && !under_way).then_some(Owner::Source))
    }

    /// Waits until the target's replicas have what a job brought: the source has deleted it.
    async fn confirm_job(&self, ends: &Ends, slots: &SlotSet) -> Result<(), LaneError> {
        let Some(key) = barrier_key(slots).filter(|_| ends.replicas() > 0) else {
            return Ok(());
        };
        let confirmed = ends
            .target
            .wait_after_write(&key, ends.replicas(), REPLICAS_WITHIN)
            .await?;
        if confirmed >= ends.replicas() as u64 {
            return Ok(());
        }
        Err(LaneError::Changed(format!(
            "slots {slots} have moved, but {confirmed} of the {} replicas of {} have them after \
             {} s: look at the others, and go on when they have caught up",
            ends.replicas(),
            self.target,
            REPLICAS_WITHIN.as_secs()
        )))
    }
}

/// The jobs that a node tells of.
async fn list(client: &NodeClient, product: Product) -> Result<Vec<AsmTask>, ClientError> {
    match product {
        Product::Valkey => client.cluster_getslotmigrations().await,
        Product::Redis => client.cluster_migration_status().await,
    }
}

/// Calls a job off. Whether that was in time shows in how it ends.
async fn call_off(ends: &Ends, product: Product, id: Option<&str>) {
    let answer = match (product, id) {
        (Product::Valkey, _) => ends.source.cluster_cancelslotmigrations().await,
        (Product::Redis, Some(id)) => ends.target.cluster_migration_cancel(id).await.map(drop),
        (Product::Redis, None) => Ok(()),
    };
    if let Err(error) = answer {
        tracing::warn!(%error, "a job can't be called off");
    }
}

/// INFO, on a new connection where the last one broke.
async fn info(
    connections: &Connections,
    end: &End,
    client: &mut NodeClient,
) -> Result<Info, ClientError> {
    let text = match client.info().await {
        Err(error) if matches!(error.fault, Fault::Closed { .. }) => {
            *client = connections.own(&end.target).await?;
            client.info().await
        }
        text => text,
    };
    Ok(Info::parse(&text?))
}

/// How long a job may take that brings so many bytes.
fn deadline(bytes: u64) -> Duration {
    LEAST_DEADLINE + Duration::from_secs(bytes / SLOWEST)
}

/// Why a job was called off that goes on and on.
fn overdue(within: u64, state: &str) -> String {
    // Seen on Valkey 9.1 with 20,000 writes a second to one slot.
    let hint = match state {
        "waiting-to-pause" => {
            "; clients write faster than it can follow: CONFIG SET \
             slot-migration-max-failover-repl-bytes lets it end earlier"
        }
        _ => "",
    };
    format!("it did not end within {within} s (--job-deadline), and was {state}{hint}")
}

/// A job that can't begin now and may in a moment: an earlier one is still being cleaned up.
fn is_busy(error: &ClientError) -> bool {
    let Fault::Server { message, .. } = &error.fault else {
        return false;
    };
    [
        "already migrating slot",
        "already in progress",
        "already being imported",
    ]
    .iter()
    .any(|words| message.contains(words))
}
