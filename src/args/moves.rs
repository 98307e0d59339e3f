//! Options of the commands that move slots.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{EnumValueParser, TypedValueParser};

use crate::args::global::MOVING;
use crate::args::values::{duration, number};
use crate::control::values::{rate, size};
use crate::control::{Flow, Rate, Settings};
use crate::migrate::strategy::Strategy;
use crate::migrate::{AfterFailure, Lag, MoveOptions, OnBigKey, OnConflict};
use crate::ops::move_slots::MethodRequest;

/// How slots are moved.
#[derive(Debug, clap::Args)]
pub(crate) struct MoveArgs {
    /// Whether the servers move slots by themselves (atomic), or redis-trib moves them key by key.
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = parser::<StrategyArg, Strategy>(), help_heading = MOVING)]
    pub(crate) strategy: Strategy,
    /// Timeout for one atomic slot migration task, which is cancelled then [default: 60 s, and 1 s
    /// for each 4 MiB].
    #[arg(long, alias = "job-deadline", value_name = "TIME", value_parser = duration, help_heading = MOVING)]
    pub(crate) task_deadline: Option<Duration>,
    #[command(flatten)]
    pub(crate) pace: PaceArgs,
    /// What to do with a key whose values on source and target differ.
    #[arg(long = "on-move-conflict", alias = "on-conflict", value_name = "WHOSE", default_value = "abort", value_parser = parser::<OnConflictArg, OnConflict>(), help_heading = MOVING)]
    pub(crate) on_conflict: OnConflict,
    /// Keep the source's value (--on-move-conflict source).
    #[arg(long, help_heading = MOVING, conflicts_with = "on_conflict")]
    pub(crate) replace: bool,
    /// Continue with the other pairs of nodes when one fails.
    #[arg(long, help_heading = MOVING)]
    pub(crate) keep_going: bool,
    /// Refuse to fill a target above this share of its maxmemory.
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u8).range(1..=100), help_heading = MOVING)]
    pub(crate) max_target_memory: u8,
    /// Do not ask for confirmation.
    #[arg(short, long, overrides_with = "yes")]
    pub(crate) yes: bool,
    /// Show the plan and exit.
    #[arg(long, alias = "simulate")]
    pub(crate) dry_run: bool,
    /// Write the plan to this file for `redis-trib apply`.
    #[arg(long, value_name = "FILE")]
    pub(crate) plan_out: Option<PathBuf>,
    /// Write the plan that undoes it to this file for `redis-trib apply`.
    #[arg(long, value_name = "FILE")]
    pub(crate) undo_out: Option<PathBuf>,
    /// The file that the plan was read from; applying it again resumes.
    #[arg(skip)]
    pub(crate) applied: Option<PathBuf>,
}

/// How fast keys move, and how much at a time.
#[derive(Debug, clap::Args)]
pub(crate) struct PaceArgs {
    /// Timeout of the servers for each read and write of a MIGRATE [default: half of
    /// cluster-node-timeout].
    #[arg(long = "migrate-timeout", alias = "timeout", value_name = "TIME", value_parser = duration, help_heading = MOVING)]
    pub(crate) timeout: Option<Duration>,
    /// Number of keys in each MIGRATE; with --max-latency at most so many [default: adapts to --max-stall].
    #[arg(long, value_name = "N", value_parser = number("keys", 1..=10_000), help_heading = MOVING)]
    pub(crate) pipeline: Option<u16>,
    /// How long one MIGRATE may block its servers, as far as the size of keys allows.
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = duration, help_heading = MOVING)]
    pub(crate) max_stall: Duration,
    /// By how much the move may delay other clients of its nodes, at the 99th percentile of a PING; learns the idle latency
    /// for 2 s first, then adapts the size of calls and how many pairs of nodes move slots [default: no limit].
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = MOVING)]
    pub(crate) max_latency: Option<Duration>,
    /// Read rate, node-pairs, max-latency and pause from this file once a second, one `name value` a line. It may come later.
    #[arg(long, value_name = "FILE", help_heading = MOVING)]
    pub(crate) control: Option<PathBuf>,
    /// How many pairs of nodes move slots at a time [default: 16; with atomic tasks, one for each host of a source].
    #[arg(long, alias = "lanes", value_name = "N", value_parser = number("pairs of nodes", 1..=1000), help_heading = MOVING)]
    pub(crate) node_pairs: Option<u16>,
    /// How many slots one pair of nodes has open at a time.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = number("slots", 1..=1024), help_heading = MOVING)]
    pub(crate) max_open_slots: u16,
    /// Limit of keys (5000) or bytes (10MiB) per second over all pairs; key by key only.
    #[arg(long, value_name = "N|SIZE", value_parser = rate, help_heading = MOVING)]
    pub(crate) rate: Option<Rate>,
    /// Size above which a key is big; a key that would block its servers for more than half of
    /// cluster-node-timeout (at 24 MiB/s) is big too.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size, help_heading = MOVING)]
    pub(crate) big_key: u64,
    /// What to do with slots that have big keys.
    #[arg(long, value_name = "WHAT", default_value = "refuse", value_parser = parser::<OnBigKeyArg, OnBigKey>(), help_heading = MOVING)]
    pub(crate) on_big_key: OnBigKey,
    /// How far replicas of source and target may lag, in bytes (64MiB) or since their last acknowledgement
    /// (5s); the move waits for them, for one minute at most.
    #[arg(long, value_name = "SIZE|TIME", default_value = "64MiB", value_parser = lag, help_heading = MOVING)]
    pub(crate) max_replica_lag: Lag,
    /// Timeout for finishing the slots in progress after Ctrl-C; after it, slots stay open and tasks are cancelled.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration, help_heading = MOVING)]
    pub(crate) stop_deadline: Duration,
}

/// The values of `--strategy`.
#[derive(Clone, Copy, clap::ValueEnum)]
enum StrategyArg {
    /// Atomic slot migration where both nodes support it, key by key elsewhere.
    Auto,
    /// Atomic slot migration (Valkey 9.0, Redis 8.4), or nothing.
    Atomic,
    /// Key by key.
    Keys,
}

impl From<StrategyArg> for Strategy {
    fn from(arg: StrategyArg) -> Self {
        match arg {
            StrategyArg::Auto => Self::Auto,
            StrategyArg::Atomic => Self::Atomic,
            StrategyArg::Keys => Self::Keys,
        }
    }
}

/// The values of `--on-move-conflict`.
#[derive(Clone, Copy, clap::ValueEnum)]
enum OnConflictArg {
    /// The slot is not finished. Both copies stay, and the key is reported.
    Abort,
    /// The source's value wins.
    Source,
    /// The target's value wins.
    Target,
}

impl From<OnConflictArg> for OnConflict {
    fn from(arg: OnConflictArg) -> Self {
        match arg {
            OnConflictArg::Abort => Self::Abort,
            OnConflictArg::Source => Self::Source,
            OnConflictArg::Target => Self::Target,
        }
    }
}

/// The values of `--on-big-key`.
#[derive(Clone, Copy, clap::ValueEnum)]
enum OnBigKeyArg {
    /// The move stops before it opens the slot, and reports the key.
    Refuse,
    /// The slot stays where it is. The others move.
    Skip,
    /// The slot moves, however long that blocks both nodes.
    Move,
}

impl From<OnBigKeyArg> for OnBigKey {
    fn from(arg: OnBigKeyArg) -> Self {
        match arg {
            OnBigKeyArg::Refuse => Self::Refuse,
            OnBigKeyArg::Skip => Self::Skip,
            OnBigKeyArg::Move => Self::Move,
        }
    }
}

/// Parses the values of `A`, with their help texts, into the type that `migrate` takes.
fn parser<A, T>() -> impl TypedValueParser<Value = T>
where
    A: clap::ValueEnum + Clone + Send + Sync + Into<T> + 'static,
    T: Clone + Send + Sync + 'static,
{
    EnumValueParser::<A>::new().map(Into::into)
}

/// `64MiB` or `5s`.
fn lag(text: &str) -> Result<Lag, String> {
    match (size(text), duration(text)) {
        (Ok(bytes), _) => Ok(Lag::Bytes(bytes)),
        (_, Ok(time)) => Ok(Lag::Time(time)),
        _ => Err(format!(
            "{text:?} is neither a size nor a time: write it with its unit, as 64MiB or 5s"
        )),
    }
}

impl MoveArgs {
    /// How the method of each pair is chosen.
    pub(crate) fn method(&self) -> MethodRequest {
        MethodRequest {
            strategy: self.strategy,
            throttled: self.pace.rate.is_some(),
        }
    }

    /// The file that holds the whole plan, if there is one.
    pub(crate) fn plan_file(&self) -> Option<&Path> {
        self.applied.as_deref().or(self.plan_out.as_deref())
    }

    /// The options of the lanes.
    pub(crate) fn options(&self, node_timeout: Duration) -> MoveOptions {
        MoveOptions {
            on_conflict: if self.replace {
                OnConflict::Source
            } else {
                self.on_conflict
            },
            after_failure: if self.keep_going {
                AfterFailure::KeepGoing
            } else {
                AfterFailure::Stop
            },
            task_deadline: self.task_deadline,
            by_key_if_denied: self.strategy == Strategy::Auto,
            ..self.pace.options(node_timeout)
        }
    }
}

impl PaceArgs {
    /// The options of the lanes. A conflict stops its slot, a failure stops the other lanes.
    pub(crate) fn options(&self, node_timeout: Duration) -> MoveOptions {
        MoveOptions {
            timeout: self.timeout.unwrap_or(node_timeout / 2),
            pipeline: self.pipeline.map(usize::from),
            max_stall: self.max_stall,
            max_open_slots: usize::from(self.max_open_slots),
            per_target: PER_TARGET,
            settings: Settings {
                rate: self.rate,
                node_pairs: self.node_pairs.map(usize::from),
                stepped_pairs: None,
                max_latency: self.max_latency,
                flow: Flow::Moving,
            },
            control_file: self.control.clone(),
            on_conflict: OnConflict::Abort,
            conflict_flag: "--on-move-conflict source|target",
            big_key: self.big_key,
            on_big_key: self.on_big_key,
            node_timeout,
            max_replica_lag: self.max_replica_lag,
            after_failure: AfterFailure::Stop,
            stop_deadline: self.stop_deadline,
            task_deadline: None,
            by_key_if_denied: true,
        }
    }
}

/// How many sources send to one target at a time: restoring keys costs the target time, too.
const PER_TARGET: usize = 4;
