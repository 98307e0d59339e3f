//! A lane of ASM tasks: the servers move many slots at a time, and their owner changes at once.
//!
//! The command goes to the source on Valkey and to the target on Redis. Both answer before anything
//! has moved. The lane ensures the following (servers: Valkey 9.1, Redis 8.6):
//!
//! - Before each task, both nodes are checked as before each window of keys. No slot of either is
//!   open, and the target holds no key of the slots that it is to receive (see `stray`).
//! - A task is watched until it ends, and so are the processes and roles of both nodes: if a Redis
//!   source restarts empty in the middle, the task becomes `completed` without any key.
//! - The owner of the slots counts, not the state that a server reports for its task. If the target
//!   only hung, a Valkey source reports `failed` and accepts writes again, and the target takes the
//!   slots later.
//! - A task that does not end in time is canceled: at the source on Valkey, at the target on Redis,
//!   which otherwise starts it again forever.
//! - After a task, the lane waits for the target's replicas to confirm: no server waits for them.
//!
//! A task is as large as what moves in a few seconds. Each task costs a tenth of a second before its
//! first key, and a canceled task has moved nothing.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::serving::is_down;
use super::size::{Size, Weighed};
use super::watch::{open_on, view_of};
use super::{Ends, Lane, LaneError, REPLICAS_WITHIN, needed, unless_dropped};
use crate::client::{AsmTask, ClientError, Fault, NodeClient, Side, TaskEnd};
use crate::cluster::node::Role;
use crate::cluster::numbers::{counted, thousands};
use crate::cluster::observation::TaskProgress;
use crate::cluster::parse::{Direction, Info, Product};
use crate::cluster::slot::{Slot, SlotSet};
use crate::connections::Connections;
use crate::event::LaneEvent;
use crate::migrate::strategy::ASM_RULES;
use crate::migrate::stray::{Hidden, strays};
use crate::migrate::{End, SlotProgress, barrier_key};

/// How often a task that moved nothing is started again.
const TRIES: usize = 3;
/// Before each further try. A target of Valkey needs a moment to clean up.
const BREATH: Duration = Duration::from_secs(1);
/// How long a task may take that has nothing to move.
const LEAST_DEADLINE: Duration = Duration::from_secs(60);
/// The minimum speed of a task, in bytes per second. A slower task is given up.
const SLOWEST: u64 = 4 << 20;
/// How long a canceled task may take to end.
const CALLED_OFF_WITHIN: Duration = Duration::from_secs(5);
/// How long the node that leads a task may be silent.
const SILENT_FOR: Duration = Duration::from_secs(10);
/// How often the processes and roles of both ends are looked at during a task.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long both ends may take to agree about the owner of what a task moved.
const OWNED_WITHIN: Duration = Duration::from_secs(5);
/// How often the source of a task is asked for its write pause.
const PAUSE_LOOKS: usize = 10;
/// How often Redis may restart a task by itself.
const RETRIES: u64 = 5;

/// What became of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaskResult {
    /// The target owns the slots.
    Moved,
    /// They are where they were, and so they stay: the user does not want to wait.
    Stopped,
}

/// What came of a try.
enum Try {
    Over(TaskResult),
    /// The slots are where they were; why.
    Again(String),
    /// The same, after the target refused a command of the source.
    Refused(String),
}

/// A task in hand.
struct Hand<'a> {
    product: Product,
    slots: &'a SlotSet,
    /// The tasks that the leading end knew before.
    known: BTreeSet<String>,
    deadline: Duration,
}

/// A task that ended, or that the servers no longer report.
struct Ending {
    /// Its id, if it is known.
    id: Option<String>,
    /// How the task ended, as far as the server reported it.
    end: Option<TaskEnd>,
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

/// The owner of the slots of a task that is over.
enum Owner {
    Target,
    Source,
    /// It can't be known; why.
    Unclear(String),
}

impl Lane {
    /// All slots, task by task.
    pub(super) async fn move_as_tasks(
        &mut self,
        ends: &mut Ends,
        product: Product,
        slots: Vec<Slot>,
    ) -> Result<(), LaneError> {
        let now = self.stop.now.clone();
        let estimate = unless_dropped(&now, self.weigh(ends, slots)).await??;
        let mut queue: VecDeque<Weighed> = estimate.slots().collect();
        let mut size = Size::first(self.regulator.limit());
        let soon = self.stop.soon.clone();
        while !queue.is_empty() {
            if !self.may_open().await {
                return Ok(());
            }
            let task = size.take(&mut queue);
            let bytes: u64 = task.iter().map(|weighed| weighed.bytes).sum();
            let keys: u64 = task.iter().map(|weighed| weighed.keys).sum();
            if !self.wait_for_rate(keys, bytes).await {
                return Ok(());
            }
            let started = Instant::now();
            self.last_write_pause = Duration::ZERO;
            match self.move_task(ends, product, &task).await? {
                TaskResult::Moved => {}
                TaskResult::Stopped => return Ok(()),
            }
            let took = started.elapsed();
            let cost = self
                .regulator
                .cost(self.pair(), took, self.last_write_pause);
            let growth = self.regulator.growth([&self.source.id, &self.target.id]);
            let gap = size.measured(bytes, took, growth, cost);
            if !gap.is_zero() {
                self.seat.give_up();
                tokio::select! {
                    () = tokio::time::sleep(gap) => {}
                    () = soon.cancelled() => return Ok(()),
                }
            }
        }
        Ok(())
    }

    /// Waits until a task of that much may begin: the servers know no rate, so it holds over all tasks. A pause that comes in
    /// between keeps the task from beginning. Returns false if the run is to stop.
    async fn wait_for_rate(&self, keys: u64, bytes: u64) -> bool {
        let pass = self.regulator.pass_task(self.source.id, keys, bytes);
        tokio::pin!(pass);
        loop {
            tokio::select! {
                () = &mut pass => break,
                () = self.stop.soon.cancelled() => return false,
                () = self.seat.to_yield() => self.seat.give_up(),
            }
        }
        self.may_open().await
    }

    /// Runs one task, and starts it again if it moved nothing.
    async fn move_task(
        &mut self,
        ends: &mut Ends,
        product: Product,
        task: &[Weighed],
    ) -> Result<TaskResult, LaneError> {
        let slots: SlotSet = task.iter().map(|weighed| weighed.slot).collect();
        let mut tries = 1..=TRIES;
        let (mut last, mut refused) = (String::new(), false);
        let now = self.stop.now.clone();
        while tries.next().is_some() {
            let nothing_open = SlotSet::new();
            unless_dropped(&now, self.look(ends, &slots, &nothing_open)).await??;
            let bytes = task.iter().map(|weighed| weighed.bytes).sum();
            unless_dropped(&now, self.ready(ends, product, &slots, bytes)).await??;
            match self.attempt(ends, product, &slots, task).await? {
                Try::Over(TaskResult::Moved) => {
                    unless_dropped(&now, self.confirm_task(ends, &slots)).await??;
                    return Ok(TaskResult::Moved);
                }
                Try::Over(TaskResult::Stopped) => return Ok(TaskResult::Stopped),
                again @ (Try::Again(_) | Try::Refused(_)) => {
                    refused = matches!(again, Try::Refused(_));
                    let (Try::Again(why) | Try::Refused(why)) = again else {
                        continue;
                    };
                    last.clone_from(&why);
                    self.tell(LaneEvent::TaskRetry { why });
                    tokio::select! {
                        () = self.stop.soon.cancelled() => return Ok(TaskResult::Stopped),
                        () = tokio::time::sleep(BREATH) => {}
                    }
                    // A pause may have come.
                    if !self.may_open().await {
                        return Ok(TaskResult::Stopped);
                    }
                }
            }
        }
        let why = format!(
            "slots {slots} stay, after {TRIES} tries: {last} (--strategy keys moves them key by key)"
        );
        Err(match refused {
            true => LaneError::TaskDenied(why),
            false => LaneError::Task(why),
        })
    }

    /// The rights that a task takes, for its failure.
    fn rights_needed(&self, product: Product) -> String {
        let (source, target) = (&self.source, &self.target);
        match product {
            Product::Valkey => format!(
                "{source} logs in to {target} with its primaryuser and primaryauth, without primaryauth as the \
                 default user, and that user needs there: {ASM_RULES}"
            ),
            Product::Redis => format!("{source} and {target} do not accept each other's login"),
        }
    }

    /// Whether the target gave a task up because it refused a command of the source. The source sees only that the
    /// connection is lost (Valkey 9.1).
    async fn refused_a_command(&self, ends: &Ends, product: Product, id: Option<&str>) -> bool {
        if product != Product::Valkey {
            return false;
        }
        let log = ends.target.cluster_getslotmigrations().await;
        let mut tasks = log.unwrap_or_default().into_iter();
        let task = tasks.find(|task| Some(task.id.as_str()) == id);
        task.is_some_and(|task| task.message.starts_with("Failed to process command"))
    }

    /// Whether a task may begin: nothing is open, the target has no key of it, and room.
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
                    "slots {open} are open on {end}: another client moves them, or did (check says \
                     more)"
                )));
            }
        }
        if let Some(strays) = strays(&ends.target, product, slots, Hidden::Wait).await? {
            return Err(LaneError::Key(format!(
                "{} holds {strays}, which a task would lose (--strategy keys compares them)",
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

    /// Begins a task, watches it to its end, and returns the owner of the slots then.
    async fn attempt(
        &mut self,
        ends: &mut Ends,
        product: Product,
        slots: &SlotSet,
        task: &[Weighed],
    ) -> Result<Try, LaneError> {
        let now = self.stop.now.clone();
        let before = unless_dropped(&now, self.tasks(ends, product)).await??;
        if let Some(other) = before.iter().find(|task| task.end.is_none()) {
            return Ok(Try::Again(format!(
                "another ASM task is under way there, for slots {} ({})",
                other.slots, other.state
            )));
        }
        let known: BTreeSet<String> = before.into_iter().map(|task| task.id).collect();
        for slot in slots.iter() {
            self.begun
                .insert(slot, (SlotProgress::InTask, Instant::now()));
        }
        let start = async {
            match product {
                Product::Valkey => {
                    let log = ends.source.cluster_migrateslots(slots, self.target.id);
                    let log = log.await?;
                    Ok(self.find(log, None, &known, slots).map(|task| task.id))
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
        let keys = task.iter().map(|weighed| weighed.keys).sum();
        let bytes = task.iter().map(|weighed| weighed.bytes).sum();
        let since = Instant::now();
        let hand = Hand {
            product,
            slots,
            known,
            deadline: self
                .options
                .task_deadline
                .unwrap_or_else(|| deadline(bytes)),
        };
        let ending = self.watch(ends, &hand, id).await;
        let said = match ending.said.as_str() {
            "" => String::new(),
            said => format!("; it says: {said}"),
        };
        match self.owner(ends, product, slots, ending.end).await {
            Owner::Target => {
                self.tally.longest_task = self.tally.longest_task.max(since.elapsed());
                if let (Product::Redis, Some(id)) = (product, &ending.id) {
                    let pause = write_pause(&ends.source, id).await;
                    self.last_write_pause = pause.unwrap_or_default();
                    let longest = &mut self.tally.longest_write_pause;
                    *longest = pause.unwrap_or_default().max(*longest);
                }
                self.settled(ends, product, slots, &ending, keys, bytes)
                    .await?;
                Ok(Try::Over(TaskResult::Moved))
            }
            Owner::Source => {
                self.forget(slots);
                let why_denied = || {
                    format!(
                        "the ASM task for slots {slots} failed{said}; {}",
                        self.rights_needed(product)
                    )
                };
                match ending.cause {
                    Some(Cause::Stopped) => Ok(Try::Over(TaskResult::Stopped)),
                    _ if is_denied(&ending.said) => Err(LaneError::TaskDenied(why_denied())),
                    Some(Cause::Because(why)) => Err(LaneError::Task(format!(
                        "the ASM task for slots {slots} was called off, and they stay: {why}{said}"
                    ))),
                    None if self
                        .refused_a_command(ends, product, ending.id.as_deref())
                        .await =>
                    {
                        Ok(Try::Refused(why_denied()))
                    }
                    None => Ok(Try::Again(format!(
                        "the ASM task for slots {slots} failed{said}"
                    ))),
                }
            }
            Owner::Unclear(why) => Err(LaneError::Task(format!(
                "what became of the ASM task for slots {slots} is not known, and it may still go on: \
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
            moved: slots.clone(),
        });
        if ending.end == Some(TaskEnd::Failed) {
            return Err(LaneError::Task(format!(
                "{} took slots {slots} after {} had given the task up ({}): what clients wrote to \
                 them in between is lost",
                self.target, self.source, ending.said
            )));
        }
        if product == Product::Redis && keys > 0 && self.source_restarted(ends).await {
            let numbers: Vec<Slot> = slots.iter().collect();
            let counts = self.count(&ends.target, &[0], &numbers).await;
            let there: u64 = counts.unwrap_or_default().into_iter().sum();
            return Err(LaneError::Task(format!(
                "{} restarted while slots {slots} moved: of about {} {} has {}; what had not been \
                 loaded again is lost",
                self.source,
                counted(keys, "key"),
                self.target,
                thousands(there)
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

    /// The task in hand among those that a server tells of.
    fn find(
        &self,
        tasks: Vec<AsmTask>,
        id: Option<&str>,
        known: &BTreeSet<String>,
        slots: &SlotSet,
    ) -> Option<AsmTask> {
        tasks.into_iter().find(|task| match id {
            Some(id) => task.id == id,
            // The newest come first on Valkey, and on Redis there is one at a time.
            None => {
                let to = task.target.is_none_or(|target| target == self.target.id);
                let from = task.source.is_none_or(|source| source == self.source.id);
                to && from && task.slots == *slots && !known.contains(&task.id)
            }
        })
    }

    /// The tasks that the leading end tells of, on a new connection where the last one broke.
    async fn tasks(&self, ends: &mut Ends, product: Product) -> Result<Vec<AsmTask>, ClientError> {
        let (client, end) = match product {
            Product::Valkey => (&mut ends.source, &self.source),
            Product::Redis => (&mut ends.target, &self.target),
        };
        match list(client, product).await {
            Err(error) if error.outcome_unknown() => {
                *client = self.connections.own(&end.target).await?;
                list(client, product).await
            }
            tasks => tasks,
        }
    }

    /// Until the task ends, calling it off where it must not go on.
    async fn watch(&self, ends: &mut Ends, hand: &Hand<'_>, mut id: Option<String>) -> Ending {
        let Hand { product, slots, .. } = *hand;
        let started = Instant::now();
        let mut called_off: Option<Instant> = None;
        let (mut heard, mut looked) = (started, started);
        let mut retries = 0;
        let mut progress = None;
        let mut ending = Ending {
            id: id.clone(),
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
            match unless_dropped(&now, self.tasks(ends, product)).await {
                Ok(Ok(tasks)) => {
                    heard = Instant::now();
                    let task = self.find(tasks, id.as_deref(), &hand.known, slots);
                    // A source that gave its last slot away is a replica by now, and has forgotten.
                    let Some(task) = task else {
                        return ending;
                    };
                    if !task.message.is_empty() {
                        ending.said = task.message;
                    }
                    ending.id = Some(task.id.clone());
                    ending.end = task.end;
                    if ending.end.is_some() {
                        return ending;
                    }
                    if task.progress != progress {
                        progress = task.progress;
                        self.tell_progress(progress);
                    }
                    if task.retries > retries {
                        retries = task.retries;
                        let why = format!("the ASM task for slots {slots} failed: {}", ending.said);
                        self.tell(LaneEvent::TaskRetry { why });
                    }
                    if retries > RETRIES {
                        because = Some(format!("it failed {retries} times"));
                    }
                    if started.elapsed() > hand.deadline {
                        let within = hand.deadline.as_secs();
                        because = Some(overdue(within, &task.state));
                    }
                    id = Some(task.id);
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
                            && let Ok(tasks) = self.tasks(ends, product).await
                        {
                            let task = self.find(tasks, None, &hand.known, slots);
                            id = task.map(|task| task.id);
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

    fn tell_progress(&self, progress: Option<TaskProgress>) {
        if let Some(progress) = progress {
            self.tell(LaneEvent::TaskProgress(progress));
        }
    }

    /// Returns what has changed since the lane started: a process or a role. (A source that gave
    /// away its last slot becomes a replica, but then the task has ended, and can't be canceled.)
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
                Ok(info) => self.regulator.note_cpu(end, &info),
            }
        }
        None
    }

    /// Returns the owner of the slots now. The target decides: where it neither owns nor takes them, it
    /// will not.
    async fn owner(
        &self,
        ends: &mut Ends,
        product: Product,
        slots: &SlotSet,
        end: Option<TaskEnd>,
    ) -> Owner {
        let started = Instant::now();
        loop {
            let unclear = match self.owner_now(ends, product, slots).await {
                Ok(Some(Owner::Source)) if end == Some(TaskEnd::Done) => {
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
        let under_way = list(&ends.target, product).await?.into_iter().any(|task| {
            let overlaps = !task.slots.intersection(slots).is_empty();
            task.side == Side::Target && task.end.is_none() && overlaps
        });
        Ok((taken.is_empty() && !under_way).then_some(Owner::Source))
    }

    /// Waits until the target's replicas have what a task brought: the source has deleted it.
    async fn confirm_task(&self, ends: &mut Ends, slots: &SlotSet) -> Result<(), LaneError> {
        let Some(key) = barrier_key(slots).filter(|_| ends.replicas() > 0) else {
            return Ok(());
        };
        let confirmed = self.confirmed(ends, &key, REPLICAS_WITHIN).await?;
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

/// The tasks that a node tells of.
async fn list(client: &NodeClient, product: Product) -> Result<Vec<AsmTask>, ClientError> {
    match product {
        Product::Valkey => client.cluster_getslotmigrations().await,
        Product::Redis => client.cluster_migration_status().await,
    }
}

/// For how long the source of a task held writes back (Redis ≥ 8.4). Only the source reports it, and it completes the
/// task a few milliseconds after the target: when it has heard of the new owner.
async fn write_pause(source: &NodeClient, id: &str) -> Option<Duration> {
    for _ in 0..PAUSE_LOOKS {
        // Only a figure is lost if the source does not answer.
        let tasks = source.cluster_migration_status().await.ok()?;
        let task = tasks.into_iter().find(|task| task.id == id)?;
        if task.end.is_some() {
            return task.write_pause;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

/// Calls a task off. Whether that was in time shows in how it ends.
async fn call_off(ends: &Ends, product: Product, id: Option<&str>) {
    let answer = match (product, id) {
        (Product::Valkey, _) => ends.source.cluster_cancelslotmigrations().await,
        (Product::Redis, Some(id)) => ends.target.cluster_migration_cancel(id).await.map(drop),
        (Product::Redis, None) => Ok(()),
    };
    if let Err(error) = answer {
        tracing::warn!(%error, "a task can't be called off");
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

/// How long a task may take that brings so many bytes.
fn deadline(bytes: u64) -> Duration {
    LEAST_DEADLINE + Duration::from_secs(bytes / SLOWEST)
}

/// Returns why a task that does not end was canceled.
fn overdue(within: u64, state: &str) -> String {
    // Seen on Valkey 9.1 with 20,000 writes a second to one slot.
    let hint = match state {
        "waiting-to-pause" => {
            "; clients write faster than it can follow: CONFIG SET \
             slot-migration-max-failover-repl-bytes lets it end earlier"
        }
        _ => "",
    };
    format!("it did not end within {within} s (--task-deadline), and was {state}{hint}")
}

/// Whether a task failed because the servers do not accept each other's login, or lack rights.
fn is_denied(said: &str) -> bool {
    ["-NOAUTH", "-NOPERM", "-WRONGPASS", "Failed to AUTH"]
        .iter()
        .any(|words| said.contains(words))
}

/// A task that can't begin now and may in a moment: an earlier one is still being cleaned up.
fn is_busy(error: &ClientError) -> bool {
    if is_down(error) {
        return true;
    }
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
