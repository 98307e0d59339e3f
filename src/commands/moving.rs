//! What `reshard`, `rebalance` and `apply` share: from a plan of moves to moved slots.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::session::{Alone, Session};
use super::signals::Signals;
use super::{CommandResult, Stop};
use crate::cli::duration;
use crate::client::{ClientError, Login, LoginOutcome, MigrateFault, SetSlot};
use crate::cluster::health::{Background, Code, Diagnosis, Severity};
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::parse::{ClusterInfo, Direction, EntryPool, OpenSlot, Product, Version};
use crate::cluster::slot::{Slot, SlotSet};
use crate::cluster::topology::Member;
use crate::connections::Target;
use crate::discover;
use crate::event::{Event, Pair, Phase};
use crate::exit_code::ExitCode;
use crate::migrate::schedule::Limits;
use crate::migrate::{
    self, AfterFailure, End, OnBigKey, OnConflict, Options, Outcome, Rate, Standing, StopSignal,
};
use crate::plan::file::{inverse, to_json};
use crate::plan::{Owner, Plan};
use crate::ui::{MovesView, NodeName, PlannedMove, TargetMemory, Ui};

/// How slots are moved.
#[derive(Debug, clap::Args)]
pub(super) struct MoveArgs {
    /// The servers' deadline for each read and write of a MIGRATE [default: half of
    /// cluster-node-timeout].
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = MOVING)]
    timeout: Option<Duration>,
    /// So many keys in each MIGRATE [default: adapts to --max-stall].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000), help_heading = MOVING)]
    pipeline: Option<u16>,
    /// How long one MIGRATE may hold its servers, where the keys allow it.
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = duration, help_heading = MOVING)]
    max_stall: Duration,
    /// How many pairs of nodes move slots side by side.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000), help_heading = MOVING)]
    lanes: u16,
    /// How many slots a pair of nodes has open at a time.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = MOVING)]
    max_open_slots: u16,
    /// No more than so many keys (5000) or bytes (10MiB) in a second, in all.
    #[arg(long, value_name = "N|SIZE", value_parser = rate, help_heading = MOVING)]
    rate: Option<Rate>,
    /// What becomes of a key that has different values on both ends.
    #[arg(long, value_name = "WHOSE", default_value = "abort", help_heading = MOVING)]
    on_conflict: OnConflict,
    /// The source's value wins (--on-conflict source).
    #[arg(long, help_heading = MOVING, conflicts_with = "on_conflict")]
    replace: bool,
    /// Keys above this size are big.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size, help_heading = MOVING)]
    big_key: u64,
    /// What becomes of slots with big keys.
    #[arg(long, value_name = "WHAT", default_value = "refuse", help_heading = MOVING)]
    on_big_key: OnBigKey,
    /// When one pair of nodes fails, the others go on.
    #[arg(long, help_heading = MOVING)]
    keep_going: bool,
    /// How long the slots in hand may take after Ctrl-C.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration, help_heading = MOVING)]
    stop_deadline: Duration,
    /// Refuse when a target's memory would rise above this share of its maxmemory.
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u8).range(1..=100), help_heading = MOVING)]
    max_target_memory: u8,
    /// Don't ask.
    #[arg(short, long)]
    yes: bool,
    /// Show what would be moved, and stop.
    #[arg(long, alias = "simulate")]
    pub(super) dry_run: bool,
    /// Write the plan to this file, for `redis-trib apply`.
    #[arg(long, value_name = "FILE")]
    plan_out: Option<PathBuf>,
    /// Write the plan that takes it all back to this file, for `redis-trib apply`.
    #[arg(long, value_name = "FILE")]
    pub(super) undo_out: Option<PathBuf>,
    /// The file that the plan came from: applying it again goes on.
    #[arg(skip)]
    pub(super) applied: Option<PathBuf>,
}

const MOVING: &str = "Moving";

/// `10MiB`, `512KiB`, `1GiB` or `100B`.
fn size(text: &str) -> Result<u64, String> {
    let units = [
        ("KiB", 1_u64 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("B", 1),
    ];
    let wrong =
        || format!("{text:?} is not a size: write it with its unit, as 512KiB, 64MiB or 1GiB");
    let (number, unit) = units
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)))
        .ok_or_else(wrong)?;
    let number: u64 = number.trim().parse().map_err(|_| wrong())?;
    number
        .checked_mul(*unit)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(wrong)
}

/// Keys or bytes in a second.
fn rate(text: &str) -> Result<Rate, String> {
    match text.parse::<u64>() {
        Ok(0) => Err("a rate of 0 would never move anything".to_string()),
        Ok(keys) => Ok(Rate::Keys(keys)),
        Err(_) => size(text)
            .map(Rate::Bytes)
            .map_err(|_| format!("{text:?} is not a rate: write keys as 5000, or bytes as 10MiB")),
    }
}

impl MoveArgs {
    fn options(&self, node_timeout: Duration) -> Options {
        Options {
            timeout: self.timeout.unwrap_or(node_timeout / 2),
            pipeline: self.pipeline.map(usize::from),
            max_stall: self.max_stall,
            max_open_slots: usize::from(self.max_open_slots),
            limits: Limits {
                lanes: usize::from(self.lanes),
                per_target: PER_TARGET,
            },
            rate: self.rate,
            on_conflict: if self.replace {
                OnConflict::Source
            } else {
                self.on_conflict
            },
            big_key: self.big_key,
            on_big_key: self.on_big_key,
            after_failure: if self.keep_going {
                AfterFailure::KeepGoing
            } else {
                AfterFailure::Stop
            },
            stop_deadline: self.stop_deadline,
        }
    }
}

/// How many sources one target takes from at a time: restoring keys is work for it, too.
const PER_TARGET: usize = 4;

/// cluster-node-timeout where CONFIG is denied: the servers' default.
const NODE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long all nodes may take to agree after the last slot.
const AGREE_WITHIN: Duration = Duration::from_secs(30);

/// A cluster, judged, and how its nodes are reached.
pub(super) struct Cluster {
    /// What was seen of it.
    pub(super) diagnosis: Diagnosis,
    /// How its nodes are reached.
    pub(super) reach: BTreeMap<NodeId, Target>,
}

impl Cluster {
    pub(super) async fn look(session: &Session) -> Result<Self, Stop> {
        let found = discover::find(&session.connections, &session.targets()).await?;
        let reach = found
            .observation
            .nodes
            .values()
            .filter_map(|node| Some((node.id, found.target_of(node)?)))
            .collect();
        let diagnosis = Diagnosis::of(found.observation, &Background::default());
        Ok(Self { diagnosis, reach })
    }

    fn name(&self, id: NodeId) -> String {
        self.diagnosis.observation.name(id)
    }

    /// The seed, for command lines that go on.
    fn seed(&self) -> String {
        let lead = self.diagnosis.observation.lead();
        let addr = lead.and_then(|node| node.addr());
        addr.map_or_else(|| "NODE".to_string(), ToString::to_string)
    }

    /// All masters with what they own.
    pub(super) fn owners(&self) -> Vec<Owner> {
        let owner = |member: &Member| Owner {
            id: member.id,
            slots: member.slots.clone(),
        };
        self.diagnosis.topology.masters().map(owner).collect()
    }
}

/// A cluster on which slots may be moved.
pub(super) async fn healthy(session: &Session) -> Result<Cluster, Stop> {
    let mut looks = 0;
    let cluster = loop {
        let cluster = Cluster::look(session).await?;
        looks += 1;
        // What another command has just changed may still be on its way.
        if looks == 3 || !cluster.diagnosis.may_settle() {
            break cluster;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let diagnosis = &cluster.diagnosis;
    let errors: Vec<String> = diagnosis
        .findings
        .iter()
        .filter(|finding| finding.severity() == Severity::Error)
        .map(|finding| format!("{}: {}", finding.code, finding.message))
        .collect();
    if errors.is_empty() {
        return Ok(cluster);
    }
    let open = diagnosis.findings.iter().any(|f| f.code == Code::SlotsOpen);
    let hint = if open {
        "\nfinish what was begun first: the same command with --finish-open"
    } else {
        ""
    };
    Err(Stop::refused(anyhow!(
        "the cluster is not healthy, and slots move between healthy nodes only:\n  {}{hint}",
        errors.join("\n  ")
    )))
}

/// Shows a plan, asks, moves, and waits until all nodes agree.
pub(super) async fn carry_out(
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
    cluster: &Cluster,
    plan: &Plan,
) -> CommandResult {
    carry_out_part(session, ui, args, cluster, plan, Part::Last).await
}

/// What is shown as the end of the command, and what comes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Open slots are finished; what the command is about follows.
    First,
    /// What the command is about.
    Last,
}

async fn carry_out_part(
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
    cluster: &Cluster,
    plan: &Plan,
    part: Part,
) -> CommandResult {
    let diagnosis = &cluster.diagnosis;
    let view = view(diagnosis, plan);
    ui.moves(&view)?;
    warn_of_valkey_9(ui, cluster, plan);
    if part == Part::Last {
        if let Some(file) = &args.plan_out {
            save("--plan-out", file, plan)?;
        }
        if let Some(file) = &args.undo_out {
            save("--undo-out", file, &inverse(plan))?;
        }
    }
    refuse_full_targets(&view, args.max_target_memory)?;
    if args.dry_run {
        return Ok(ExitCode::Done);
    }
    consent(ui, args, diagnosis).await?;
    let masters: Vec<_> = diagnosis
        .topology
        .masters()
        .filter_map(|master| cluster.reach.get(&master.id))
        .collect();
    if session.refuse_others(masters.into_iter()).await? == Alone::ByNow {
        return Err(Stop::refused(anyhow!(
            "another redis-trib was at work until now: the plan may not fit any more; try again"
        )));
    }

    let node_timeout = node_timeout(session, cluster).await;
    let options = Arc::new(args.options(node_timeout));
    let mut ends = ends(cluster, plan)?;
    try_logins(session, diagnosis, plan, &mut ends, &options).await?;

    let moves: BTreeMap<Pair, Vec<Slot>> = plan
        .moves()
        .map(|one| {
            let pair = Pair {
                from: one.from,
                to: one.to,
            };
            (pair, one.slots.iter().collect())
        })
        .collect();
    let (events, mut told) = mpsc::unbounded_channel();
    let stop = StopSignal::default();
    let mut signals = Signals::listen()?;
    let started = Instant::now();
    let work = async {
        let _ = events.send(Event::Phase(Phase::Move));
        let events = events;
        migrate::run(moves, &ends, &session.connections, &options, &events, &stop).await
    };
    let show = async {
        while let Some(event) = told.recv().await {
            ui.event(&event);
        }
    };
    let watched = async {
        tokio::select! {
            (outcome, ()) = async { tokio::join!(work, show) } => outcome,
            // It never comes back: the work ends on its own once it was asked to.
            () = heed_signals(ui, &mut signals, &stop, options.stop_deadline) => Outcome::default(),
        }
    };
    let outcome = watched.await;
    let took = started.elapsed();
    let moved: usize = outcome.moved.values().map(SlotSet::count).sum();
    // A lane that failed asks the others to stop; only a signal makes them drop what is in hand.
    let interrupted =
        stop.now.is_cancelled() || (stop.soon.is_cancelled() && outcome.failures.is_empty());
    let left = outcome.left.values().any(|slots| !slots.is_empty());
    if outcome.failures.is_empty() && outcome.open.is_empty() && !left {
        agree(session, ui, plan, &outcome).await?;
        match part {
            Part::First => ui.hint(&format!("what was begun is finished: {moved} slots")),
            Part::Last => ui.moved(moved, &outcome.tally, took)?,
        }
        tell_skipped(ui, cluster, &outcome);
        return Ok(ExitCode::Done);
    }
    let error = anyhow!(
        "{}",
        rest(args, part, cluster, &outcome, moved, interrupted)
    );
    ui.stopped(
        if interrupted {
            ExitCode::Interrupted
        } else {
            ExitCode::Partial
        },
        &error,
    )?;
    Err(if interrupted {
        Stop::interrupted(error)
    } else {
        Stop::partial(error)
    })
}

/// The first signal asks to finish what is in hand, within the deadline; the second drops it.
async fn heed_signals(ui: &Ui, signals: &mut Signals, stop: &StopSignal, deadline: Duration) {
    let name = signals.next().await;
    stop.soon.cancel();
    ui.warn(&format!(
        "{name}: the slots in hand are finished first; once more stops at once"
    ));
    tokio::select! {
        _ = signals.next() => {}
        () = tokio::time::sleep(deadline) => {}
    }
    stop.now.cancel();
    std::future::pending().await
}

pub(super) fn name(diagnosis: &Diagnosis, id: NodeId) -> NodeName {
    let node = diagnosis.observation.nodes.get(&id);
    NodeName {
        id,
        addr: node
            .and_then(|node| node.addr().cloned())
            .unwrap_or_else(|| Addr::new("?", 0)),
        zone: None,
    }
}

/// Valkey 9.1.2: where a target is killed in the instant in which it claims slots, the replica that
/// takes over has lost the keys of those slots, though it had confirmed them (3 of 3 tries; neither
/// Valkey 8.1 nor Redis 8.6 does that). People should know before they say yes.
fn warn_of_valkey_9(ui: &Ui, cluster: &Cluster, plan: &Plan) {
    const FIRST: Version = Version {
        product: Product::Valkey,
        numbers: [9, 0, 0],
    };
    let is_affected = |id: &NodeId| {
        let node = cluster.diagnosis.observation.nodes.get(id);
        let version = node.and_then(|node| node.report()?.info.version);
        version.is_some_and(|version| version.product == FIRST.product && version >= FIRST)
    };
    if let Some(target) = plan.moves().map(|one| one.to).find(is_affected) {
        ui.warn(&format!(
            "{} runs Valkey 9: should it be killed in the instant in which it claims slots, its \
             replica may lose their keys (seen on 9.1.2); --max-open-slots 1 keeps that to one slot",
            cluster.name(target)
        ));
    }
}

fn view(diagnosis: &Diagnosis, plan: &Plan) -> MovesView {
    let mut coming: BTreeMap<NodeId, u64> = BTreeMap::new();
    for one in plan.moves() {
        let used = used_memory(diagnosis, one.from);
        let owned = diagnosis
            .topology
            .members
            .get(&one.from)
            .map_or(0, |member| member.slots.count());
        let share = used as f64 * one.slots.count() as f64 / owned.max(1) as f64;
        *coming.entry(one.to).or_default() += share as u64;
    }
    MovesView {
        moves: plan
            .moves()
            .map(|one| PlannedMove {
                from: name(diagnosis, one.from),
                to: name(diagnosis, one.to),
                slots: one.slots.clone(),
            })
            .collect(),
        targets: coming
            .into_iter()
            .map(|(id, coming)| {
                let info = diagnosis
                    .observation
                    .nodes
                    .get(&id)
                    .and_then(|n| n.report());
                TargetMemory {
                    node: name(diagnosis, id),
                    used: used_memory(diagnosis, id),
                    coming,
                    limit: info
                        .and_then(|report| report.info.maxmemory)
                        .filter(|max| *max > 0),
                }
            })
            .collect(),
        strategy: "key by key".to_string(),
    }
}

fn used_memory(diagnosis: &Diagnosis, id: NodeId) -> u64 {
    let report = diagnosis
        .observation
        .nodes
        .get(&id)
        .and_then(|n| n.report());
    report
        .and_then(|report| report.info.used_memory)
        .unwrap_or(0)
}

/// A target that is full loses keys, or refuses them half-way.
fn refuse_full_targets(view: &MovesView, percent: u8) -> Result<(), Stop> {
    for memory in &view.targets {
        let after = memory.used.saturating_add(memory.coming);
        if let Some(limit) = memory.limit
            && after as f64 > limit as f64 * f64::from(percent) / 100.0
        {
            return Err(Stop::refused(anyhow!(
                "{} would hold about {} MiB of its maxmemory of {} MiB, more than {percent} %: \
                 raise maxmemory, move less, or allow it with --max-target-memory",
                memory.node,
                after >> 20,
                limit >> 20
            )));
        }
    }
    Ok(())
}

/// Nothing was changed yet, and nothing will be when the plan can't be kept.
pub(super) fn save(flag: &str, file: &Path, plan: &Plan) -> Result<(), Stop> {
    let text = to_json(plan).map_err(Stop::refused)?;
    std::fs::write(file, text)
        .with_context(|| {
            let file = file.display();
            format!("{flag} {file}: can't be written, so nothing was changed; name another file")
        })
        .map_err(Stop::refused)
}

async fn consent(ui: &Ui, args: &MoveArgs, diagnosis: &Diagnosis) -> Result<(), Stop> {
    if args.yes {
        return Ok(());
    }
    let about = format!(
        "The cluster of {} nodes that {} belongs to.",
        diagnosis.topology.members.len(),
        diagnosis.observation.name(diagnosis.observation.lead)
    );
    let question = "Do you want to proceed with the proposed reshard plan?";
    super::consent(ui, question, &about).await
}

async fn node_timeout(session: &Session, cluster: &Cluster) -> Duration {
    const NAME: &str = "cluster-node-timeout";
    let lead = cluster.reach.get(&cluster.diagnosis.observation.lead);
    let config = match lead {
        Some(lead) => match session.connections.client(lead).await {
            Ok(client) => client.config_get(&[NAME]).await.unwrap_or_default(),
            Err(_) => BTreeMap::new(),
        },
        None => BTreeMap::new(),
    };
    let millis = config.get(NAME).and_then(|value| value.parse().ok());
    millis.map_or(NODE_TIMEOUT, Duration::from_millis)
}

/// The nodes of the plan, and how they reach each other.
fn ends(cluster: &Cluster, plan: &Plan) -> Result<BTreeMap<NodeId, End>, Stop> {
    let ids: BTreeSet<NodeId> = plan.moves().flat_map(|one| [one.from, one.to]).collect();
    ids.into_iter()
        .map(|id| {
            let node = cluster.diagnosis.observation.nodes.get(&id);
            let answers = node.is_some_and(|node| node.report().is_some());
            let target = cluster.reach.get(&id).cloned();
            let (Some(node), true, Some(target)) = (node, answers, target) else {
                let name = cluster.name(id);
                return Err(Stop::refused(anyhow!("{name} can't be reached")));
            };
            let peer = node.peer.clone().unwrap_or_else(|| target.addr.clone());
            let login = target.access.login.clone();
            let end = End {
                id,
                target,
                peer,
                login,
            };
            Ok((id, end))
        })
        .collect()
}

/// Tries the login that MIGRATE will use, through the very path: a key of a slot that the target
/// neither owns nor imports is answered with MOVED by one that took the login. (NOKEY proves
/// nothing, since MIGRATE looks for the keys before it connects.)
async fn try_logins(
    session: &Session,
    diagnosis: &Diagnosis,
    plan: &Plan,
    ends: &mut BTreeMap<NodeId, End>,
    options: &Options,
) -> Result<(), Stop> {
    for end in ends.values_mut() {
        let client = session.connections.client(&end.target).await?;
        if client.login_outcome() == LoginOutcome::NoPasswordNeeded {
            // AUTH would be an error there, though the keys arrive.
            end.login = Login::default();
        }
    }
    let open = diagnosis.topology.open_set();
    for one in plan.moves() {
        let (Some(source), Some(target)) = (ends.get(&one.from), ends.get(&one.to)) else {
            continue;
        };
        // Any key of the source will do, but for those of open slots: the target takes these.
        let owned = diagnosis.topology.members.get(&one.from);
        let slots = owned.map_or_else(SlotSet::new, |member| member.slots.difference(&open));
        let tried = migrate::try_login(
            session.connections.as_ref(),
            source,
            target,
            &slots,
            options,
        );
        if let Err(error) = tried.await {
            return Err(Stop::refused(explain_login(source, target, &error)));
        }
    }
    Ok(())
}

fn explain_login(source: &End, target: &End, error: &ClientError) -> anyhow::Error {
    match MigrateFault::of(error) {
        MigrateFault::Login => anyhow!(
            "{target} does not take the login that {source} would send keys with: {}; nothing was changed",
            error.fault
        ),
        MigrateFault::Io => anyhow!(
            "{source} can't reach {target} at {}: {}; nothing was changed",
            target.peer,
            error.fault
        ),
        _ => anyhow!(
            "a trial MIGRATE from {source} to {target} fails: {}; nothing was changed",
            error.fault
        ),
    }
}

/// Waits until all nodes agree, so that the next command never meets "Nodes don't agree".
async fn agree(session: &Session, ui: &Ui, plan: &Plan, outcome: &Outcome) -> Result<(), Stop> {
    let skipped = outcome.skipped.values();
    let skipped = skipped.fold(SlotSet::new(), |all, slots| all.union(slots));
    let deadline = Instant::now() + AGREE_WITHIN;
    ui.event(&Event::Phase(Phase::Agree));
    loop {
        let observation = discover::observe(&session.connections, &session.targets())
            .await
            .map_err(|error| Stop::partial(anyhow!("all slots moved, but then: {error}")))?;
        let diagnosis = Diagnosis::of(observation, &Background::default());
        let misplaced: Option<Slot> = plan.moves().find_map(|one| {
            let member = diagnosis.topology.members.get(&one.to)?;
            let missing = one.slots.difference(&member.slots);
            missing.difference(&skipped).iter().next()
        });
        let opinions = diagnosis.topology.opinions.len();
        if opinions == 1 && misplaced.is_none() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let differing = diagnosis
                .findings
                .iter()
                .find(|finding| finding.code == Code::ViewsDiffer)
                .map_or(String::new(), |finding| finding.message.clone());
            return Err(Stop::partial(anyhow!(
                "all slots moved, but after {} s not all nodes agree: {differing}",
                AGREE_WITHIN.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn tell_skipped(ui: &Ui, cluster: &Cluster, outcome: &Outcome) {
    for (pair, slots) in &outcome.skipped {
        if !slots.is_empty() {
            ui.warn(&format!(
                "slots {slots} stay on {}: they hold big keys",
                cluster.name(pair.from)
            ));
        }
    }
}

/// What is done, what is left, and the commands that go on.
fn rest(
    args: &MoveArgs,
    part: Part,
    cluster: &Cluster,
    outcome: &Outcome,
    moved: usize,
    interrupted: bool,
) -> String {
    let name = |id: NodeId| cluster.name(id);
    let mut lines = Vec::new();
    for (pair, why) in &outcome.failures {
        lines.push(format!("{} to {}: {why}", name(pair.from), name(pair.to)));
    }
    if interrupted {
        lines.push("interrupted".to_string());
    }
    let mut by_state: BTreeMap<(Pair, &str), SlotSet> = BTreeMap::new();
    for (slot, (pair, standing)) in &outcome.open {
        let word = match standing {
            Standing::Importing => "importing at the target",
            Standing::Migrating => "migrating, with keys on both",
            Standing::Claimed => "claimed by the target",
        };
        by_state.entry((*pair, word)).or_default().insert(*slot);
    }
    for ((pair, word), slots) in &by_state {
        lines.push(format!(
            "open: slots {slots} from {} to {}, {word}",
            name(pair.from),
            name(pair.to)
        ));
    }
    let left: usize = outcome.left.values().map(SlotSet::count).sum();
    lines.push(format!(
        "{moved} slots moved, {} open, {left} not begun. To go on:",
        outcome.open.len()
    ));
    let saved = args.plan_out.as_ref().filter(|_| part == Part::Last);
    match args.applied.as_ref().or(saved) {
        Some(file) => lines.push(format!(
            "  redis-trib apply {} {}",
            file.display(),
            cluster.seed()
        )),
        None => {
            let mut to_do: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
            for (pair, slots) in &outcome.left {
                let rest = to_do.entry(pair.to).or_default();
                *rest = rest.union(slots);
            }
            for (slot, (pair, _)) in &outcome.open {
                to_do.entry(pair.to).or_default().insert(*slot);
            }
            for (to, slots) in to_do {
                if !slots.is_empty() {
                    lines.push(format!(
                        "  redis-trib reshard {} --finish-open --slot-ranges {slots} --to {to}",
                        cluster.seed()
                    ));
                }
            }
        }
    }
    lines.join("\n")
}

/// Finishes moves that were begun and cut off: those that two looks show in the same state, so that
/// nobody else is at them. With --dry-run they are shown, and nothing else is.
pub(super) async fn finish_open(
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
) -> Result<Finished, Stop> {
    /// Looks, a second apart, that may show clients at work on the keys of open slots.
    const LOOKS: usize = 6;
    let mut cluster = Cluster::look(session).await?;
    if cluster.diagnosis.topology.open_set().is_empty() {
        return Ok(Finished::NothingOpen);
    }
    if !args.dry_run {
        let masters = cluster.diagnosis.topology.masters();
        let masters = masters.filter_map(|master| cluster.reach.get(&master.id));
        session.refuse_others(masters).await?;
    }
    for look in 1.. {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let next = Cluster::look(session).await?;
        let settled = in_transit(&cluster.diagnosis) == in_transit(&next.diagnosis);
        cluster = next;
        if settled {
            break;
        }
        if look == LOOKS {
            return Err(Stop::refused(anyhow!(
                "slots {} are on their way: their keys become fewer, so somebody else moves them; \
                 wait until that is done",
                cluster.diagnosis.topology.open_set()
            )));
        }
    }
    let unfinished = unfinished(&cluster.diagnosis)?;
    if !args.dry_run {
        tell_late(session, ui, args, &cluster, &unfinished).await?;
    }
    if !args.dry_run && !unfinished.orphaned.is_empty() {
        consent(ui, args, &cluster.diagnosis).await?;
        for (holder, slots) in &unfinished.orphaned {
            adopt(session, &cluster, *holder, slots).await?;
        }
        cluster = Cluster::look(session).await?;
    }
    if unfinished.plan.slots_moved() > 0 {
        ui.hint(&format!(
            "finishing what was begun: slots {}",
            cluster.diagnosis.topology.open_set()
        ));
        let plan = &unfinished.plan;
        carry_out_part(session, ui, args, &cluster, plan, Part::First).await?;
    }
    Ok(if args.dry_run {
        Finished::OnlyShown
    } else {
        Finished::All
    })
}

/// What has become of open slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finished {
    /// There were none.
    NothingOpen,
    /// They are open still (--dry-run).
    OnlyShown,
    /// They are closed.
    All,
}

/// Open slots as masters tell of them, with the keys that their owners still have: these become
/// fewer while somebody moves them, whereas clients create keys at the other end only.
fn in_transit(diagnosis: &Diagnosis) -> Vec<(NodeId, OpenSlot, Option<u64>)> {
    open_at_masters(diagnosis)
        .map(|(member, open)| {
            let node = diagnosis.observation.nodes.get(&member.id);
            let keys = match open.direction {
                Direction::Migrating => node
                    .and_then(|node| node.report())
                    .and_then(|report| report.open_keys.get(&open.slot).copied()),
                Direction::Importing => None,
            };
            (member.id, open, keys)
        })
        .collect()
}

/// From Valkey 8 on replicas repeat what is open at their master.
fn open_at_masters(diagnosis: &Diagnosis) -> impl Iterator<Item = (&Member, OpenSlot)> {
    let open = diagnosis.topology.open_slots();
    open.filter(|(member, _)| member.role == Role::Master)
}

/// Nodes that were not told, before the cut, what all others know: who owns the slots now.
async fn tell_late(
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
    cluster: &Cluster,
    unfinished: &Unfinished,
) -> Result<(), Stop> {
    if unfinished.told_late.is_empty() {
        return Ok(());
    }
    consent(ui, args, &cluster.diagnosis).await?;
    let masters = cluster.diagnosis.topology.masters();
    let masters = masters.filter_map(|master| cluster.reach.get(&master.id));
    session.refuse_others(masters).await?;
    for (holder, slots, owner) in &unfinished.told_late {
        let Some(target) = cluster.reach.get(holder) else {
            continue;
        };
        let changes: Vec<_> = slots
            .iter()
            .map(|slot| (slot, SetSlot::Node(*owner)))
            .collect();
        let client = session.connections.client(target).await?;
        for outcome in client.cluster_setslots(&changes).await? {
            outcome.map_err(|error| {
                Stop::partial(anyhow!(
                    "slots {slots} belong to {}, but {} can't be told: {error}",
                    cluster.name(*owner),
                    cluster.name(*holder)
                ))
            })?;
        }
    }
    Ok(())
}

/// Lets a target see who owns slots now whose source failed over while it imported them. Until it
/// does, it has no owner for them and serves nothing (Redis 7.0, 8.6; Valkey mends that by itself).
/// Their keys stay on it: a node deletes only what it owned.
async fn adopt(
    session: &Session,
    cluster: &Cluster,
    holder: NodeId,
    slots: &SlotSet,
) -> Result<(), Stop> {
    let Some(target) = cluster.reach.get(&holder) else {
        return Ok(());
    };
    let name = cluster.name(holder);
    let client = session.connections.client(target).await?;
    let changes: Vec<_> = slots.iter().map(|slot| (slot, SetSlot::Stable)).collect();
    for outcome in client.cluster_setslots(&changes).await? {
        outcome.map_err(|error| {
            Stop::partial(anyhow!(
                "{name} can't be told that the source of slots {slots} failed over: {error}"
            ))
        })?;
    }
    let deadline = Instant::now() + AGREE_WITHIN;
    loop {
        let text = client.cluster_nodes().await?;
        let view = EntryPool::default()
            .view(&text)
            .map_err(|error| Stop::partial(anyhow!("{name}: {error}")))?;
        let owned: SlotSet = view
            .entries()
            .flat_map(|e| e.slots.iter().copied())
            .collect();
        let serves = ClusterInfo::parse(&client.cluster_info().await?).ok;
        if slots.difference(&owned).is_empty() && serves {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Stop::partial(anyhow!(
                "{name} does not learn within {} s who owns slots {slots}; the same command again \
                 goes on",
                AGREE_WITHIN.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What a cut left behind.
struct Unfinished {
    /// Moves that are finished by doing them again.
    plan: Plan,
    /// Nodes that gave slots away and were not told: the slots, and who owns them.
    told_late: Vec<(NodeId, SlotSet, NodeId)>,
    /// Targets that import slots from a node that has failed over since.
    orphaned: BTreeMap<NodeId, SlotSet>,
}

fn unfinished(diagnosis: &Diagnosis) -> Result<Unfinished, Stop> {
    let topology = &diagnosis.topology;
    let owner_of = |slot: Slot| {
        let mut owners = topology.masters().filter(|m| m.slots.contains(slot));
        match (owners.next(), owners.next()) {
            (Some(owner), None) => Some(owner.id),
            _ => None,
        }
    };
    let mut moves: BTreeMap<(NodeId, NodeId), SlotSet> = BTreeMap::new();
    let mut told_late: BTreeMap<(NodeId, NodeId), SlotSet> = BTreeMap::new();
    let mut targets: BTreeMap<Slot, NodeId> = BTreeMap::new();
    let mut orphaned: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
    // Who was a master when the move began, and follows its successor now.
    let successor = |id: NodeId| match topology.members.get(&id) {
        Some(member) if member.role == Role::Replica => member.master.unwrap_or(id),
        _ => id,
    };
    for (member, open) in open_at_masters(diagnosis) {
        let owner = owner_of(open.slot).ok_or_else(|| {
            Stop::refused(anyhow!(
                "slot {} has no single owner to move it from",
                open.slot
            ))
        })?;
        let (from, to) = match open.direction {
            Direction::Migrating => (member.id, successor(open.peer)),
            Direction::Importing => (successor(open.peer), member.id),
        };
        if owner == to {
            told_late
                .entry((member.id, owner))
                .or_default()
                .insert(open.slot);
            continue;
        }
        if owner != from
            || targets
                .insert(open.slot, to)
                .is_some_and(|other| other != to)
        {
            return Err(Stop::refused(anyhow!(
                "slot {} is open in more than one direction: it is not just an unfinished move",
                open.slot
            )));
        }
        if open.direction == Direction::Importing && from != open.peer {
            orphaned.entry(member.id).or_default().insert(open.slot);
        }
        moves.entry((from, to)).or_default().insert(open.slot);
    }
    Ok(Unfinished {
        orphaned,
        plan: Plan::of_moves(moves),
        told_late: told_late
            .into_iter()
            .map(|((holder, owner), slots)| (holder, slots, owner))
            .collect(),
    })
}
