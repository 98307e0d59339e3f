//! `redis-trib rebalance NODE`: moves slots until each master has its share.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use anyhow::anyhow;

use crate::args::moves::MoveArgs;
use crate::args::values::{duration, node_words};
use crate::change::moves::{MovesProposal, OpenSlotsAre, approval, finish_open_if_wanted};
use crate::change::{Change, Global, Proposal, Question};
use crate::client::ClientError;
use crate::cluster::node::{NodeId, Role};
use crate::cluster::slot::{SLOTS, Slot};
use crate::cluster::slot_stats::{Metric, part};
use crate::connections::Target;
use crate::converge::settle::healthy;
use crate::discover;
use crate::exit_code::ExitCode;
use crate::ops::{move_slots, slots};
use crate::plan::file::SlotWeights;
use crate::plan::rebalance::{
    self, Balance, By, RebalanceError, Request, Rounding, Share, UseEmpty, Verdict,
    weights_by_memory,
};
use crate::plan::{MovePlan, SlotOwner};
use crate::report::{BalanceView, MasterShare, Measure, OversizedSlotView};
use crate::resolve::find_member;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::{CommandResult, Stop};
use crate::ui::{CheckFor, Mode, Ui};

/// Arguments of `rebalance`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib rebalance 10.0.0.3 --dry-run\n  \
    redis-trib rebalance 10.0.0.3 --use-empty-masters --yes\n  \
    redis-trib rebalance 10.0.0.3 --weight 8fabdaed=2 --weight 10.0.0.4:6379=0 --by keys\n  \
    redis-trib rebalance 10.0.0.3 --by cpu --for 30s --dry-run")]
pub struct Args {
    /// A node of the cluster (`host port` as two words is accepted too).
    #[arg(required = true, num_args = 1..=2, value_name = "NODE")]
    node: Vec<String>,
    /// Weight of a master; the others weigh 1. A master of weight 0 gives all its slots away (repeatable).
    #[arg(long, value_name = "MEMBER=W", value_parser = weight, value_delimiter = ',')]
    weight: Vec<(String, f64)>,
    /// Use the maxmemory of each master as its weight.
    #[arg(long, conflicts_with = "weight")]
    auto_weights: bool,
    /// Include masters without slots.
    #[arg(long)]
    use_empty_masters: bool,
    /// Deviation from its share, in percent, that a master may have before slots move [default: 2; 10 by cpu and
    /// network].
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    threshold: Option<f64>,
    /// What to balance. Memory is an estimate: the used memory of a node, spread over its slots by
    /// their number of keys. By cpu and network the hottest slot of each master stays.
    #[arg(long, value_name = "WHAT", default_value = "slots")]
    by: ByArg,
    /// How long to measure cpu and network [default: 10s].
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// First finish moves that were interrupted.
    #[arg(long)]
    finish_open: bool,
    #[command(flatten)]
    moving: MoveArgs,
}

/// What is balanced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ByArg {
    /// The number of slots.
    Slots,
    /// The number of keys.
    Keys,
    /// The memory of the keys, estimated.
    Memory,
    /// The time of commands on the main thread, measured.
    Cpu,
    /// The bytes received and sent, measured.
    Network,
}

impl ByArg {
    fn measure(self) -> Measure {
        match self {
            Self::Slots => Measure::Slots,
            Self::Keys => Measure::Keys,
            Self::Memory => Measure::Memory,
            Self::Cpu => Measure::Cpu,
            Self::Network => Measure::Network,
        }
    }

    /// The statistic that has to be measured.
    fn metric(self) -> Option<Metric> {
        match self {
            Self::Slots | Self::Keys | Self::Memory => None,
            Self::Cpu => Some(Metric::Cpu),
            Self::Network => Some(Metric::Network),
        }
    }
}

/// The time for which cpu and network are measured.
const SAMPLE: Duration = Duration::from_secs(10);

impl Args {
    /// A sample is never as exact as a count.
    fn threshold(&self) -> f64 {
        self.threshold.unwrap_or(match self.by.metric() {
            Some(_) => 10.0,
            None => 2.0,
        })
    }
}

/// `8fabdaed=2.5`.
fn weight(text: &str) -> Result<(String, f64), String> {
    let wrong = || {
        format!(
            "{text:?} is not a weight: write MEMBER=WEIGHT with a weight of 0 or more, as 8fabdaed=2"
        )
    };
    let (id, weight) = text.rsplit_once('=').ok_or_else(wrong)?;
    let weight: f64 = weight.trim().parse().map_err(|_| wrong())?;
    if id.is_empty() || !weight.is_finite() || weight < 0.0 {
        return Err(wrong());
    }
    Ok((id.to_string(), weight))
}

fn percent(text: &str) -> Result<f64, String> {
    text.strip_suffix('%')
        .unwrap_or(text)
        .parse()
        .ok()
        .filter(|percent: &f64| percent.is_finite() && *percent >= 0.0)
        .ok_or_else(|| format!("{text:?} is not a percentage of 0 (exact) or more, such as 2"))
}

/// Plans the balance, and moves slots to reach it.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let seed = node_words(&args.node)?;
    if args.time.is_some() && args.by.metric().is_none() {
        return Err(Stop::usage(anyhow!(
            "--for is for --by cpu and --by network only: the others need no sample"
        )));
    }
    let moving = &args.moving;
    let mut change = Change::open(global, ui, "rebalance", &[seed], approval(moving)).await?;
    let session = change.session();
    change.check_before(CheckFor::Rebalance).await?;
    let open = finish_open_if_wanted(&mut change, ui, moving, args.finish_open).await?;
    if open == OpenSlotsAre::Shown {
        return Ok(ExitCode::Done);
    }
    let measured = RefCell::new(None);
    let plan = async || Plan::make(&session, ui.mode(), &args, &measured).await;
    match change.approve(plan).await? {
        Some(plan) => plan.moves.carry_out(change, ui).await,
        None => Ok(ExitCode::Done),
    }
}

/// The owners of slots, and what was measured on them. Clients write while a person thinks: a plan that was approved
/// is made again from the same figures as long as the owners are the same.
type Measured = (Vec<SlotOwner>, By);

/// Shares, and the moves that reach them.
struct Plan<'a> {
    /// Masters without slots that get none.
    left_out: Vec<String>,
    /// What people should know of the figures.
    warnings: Vec<String>,
    /// `None` if all masters are within the threshold.
    shares: Option<BalanceView>,
    moves: MovesProposal<'a>,
}

impl<'a> Plan<'a> {
    async fn make(
        session: &Session,
        mode: Mode,
        args: &'a Args,
        measured: &RefCell<Option<Measured>>,
    ) -> Result<Self, Stop> {
        let moving = &args.moving;
        let state = healthy(session).await?;
        let state = move_slots::at_rest(session, state, moving.dry_run).await?;
        let masters = state.owners();
        let last = measured.take().filter(|(owners, _)| *owners == masters);
        let by = match last {
            Some((_, by)) => by,
            None => by(args, session, &state).await?,
        };
        measured.replace(Some((masters.clone(), by.clone())));
        let request = Request {
            masters,
            weights: weights(args, mode, &state)?,
            empty: match args.use_empty_masters {
                true => UseEmpty::Yes,
                false => UseEmpty::No,
            },
            threshold: args.threshold(),
            by,
            rounding: match mode.is_old() {
                true => Rounding::RedisCli(state.diagnosis.observation.lead),
                false => Rounding::Exact,
            },
        };
        let balance = rebalance::rebalance(&request).map_err(|error| match error {
            // A master that is named twice is wrong usage on any cluster.
            RebalanceError::TwoWeights { .. } => Stop::usage(error),
            error => Stop::refused(error),
        })?;
        let left_out = balance.left_out.iter().map(|id| state.name(*id));
        let left_out = left_out.collect();
        let threshold = args.threshold();
        let warnings = oversized(args.by, &balance, &state);
        let shares = match balance.verdict {
            Verdict::Balanced => None,
            Verdict::Indivisible | Verdict::Moves(_) => {
                Some(view(args, &request, &balance, &state))
            }
        };
        let moves = match balance.verdict {
            Verdict::Balanced => MovesProposal::nothing(
                moving,
                state,
                format!(
                    "*** No rebalancing needed! All nodes are within the {threshold:.2}% threshold."
                ),
            ),
            Verdict::Indivisible => MovesProposal::nothing(
                moving,
                state,
                format!(
                    "Nothing is moved: some masters are beyond the {threshold:.2}% threshold, but \
                     single slots hold so much that moving one would not improve the balance."
                ),
            ),
            Verdict::Moves(plan) => {
                let weights = weights_of_slots(args.by, &request.by, &plan);
                let moves = MovesProposal::new(session, moving, state, plan).await?;
                moves.with_weights(weights)
            }
        };
        Ok(Self {
            left_out,
            warnings,
            shares,
            moves,
        })
    }
}

impl Proposal for Plan<'_> {
    fn show_basis(&self, ui: &Ui) -> io::Result<()> {
        for master in &self.left_out {
            ui.hint(&format!(
                "{master} owns no slots and is left out: --use-empty-masters includes it"
            ));
        }
        for warning in &self.warnings {
            ui.warn(warning);
        }
        self.shares.as_ref().map_or(Ok(()), |view| ui.balance(view))
    }

    fn nothing_to_do(&self) -> Option<String> {
        self.moves.nothing_to_do()
    }

    fn lock(&self) -> Vec<Target> {
        self.moves.lock()
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        self.moves.show_balance(ui)
    }

    fn after_show(&self) -> Result<(), Stop> {
        self.moves.after_show()
    }

    fn question(&self) -> Option<Question> {
        self.moves.question()
    }

    fn is_same(&self, other: &Self) -> bool {
        self.moves.is_same(&other.moves)
    }
}

/// The weights of masters. The old modes ignore those of replicas: redis-cli does, and scripts name nodes that have
/// changed their roles. Of two weights of a master the last one counts there, as in redis-cli and redis-trib.rb.
fn weights(args: &Args, mode: Mode, cluster: &ClusterState) -> Result<Vec<(NodeId, f64)>, Stop> {
    let observation = &cluster.diagnosis.observation;
    if args.auto_weights {
        let maxmemory: Vec<(NodeId, u64)> = cluster
            .owners()
            .iter()
            .filter(|owner| args.use_empty_masters || !owner.slots.is_empty())
            .map(|owner| {
                let report = observation.nodes.get(&owner.id).and_then(|n| n.report());
                let limit = report.and_then(|report| report.info.maxmemory);
                (owner.id, limit.unwrap_or(0))
            })
            .collect();
        let mut weights = weights_by_memory(&maxmemory).map_err(Stop::refused)?;
        // Relative to the smallest, so that they are readable.
        let least = weights.iter().map(|(_, weight)| *weight).reduce(f64::min);
        for (_, weight) in &mut weights {
            *weight /= least.unwrap_or(1.0);
        }
        return Ok(weights);
    }
    let mut weights: Vec<(NodeId, f64)> = Vec::new();
    for (name, weight) in &args.weight {
        let id = find_member(observation, name).map_err(Stop::refused)?;
        let member = cluster.diagnosis.topology.members.get(&id);
        let is_replica = member.is_some_and(|member| member.role == Role::Replica);
        if mode.is_old() {
            if is_replica {
                continue;
            }
            weights.retain(|(earlier, _)| *earlier != id);
        }
        weights.push((id, *weight));
    }
    Ok(weights)
}

/// Slots that no move can divide.
fn oversized(by: ByArg, balance: &Balance, cluster: &ClusterState) -> Vec<String> {
    let total: u128 = balance.shares.iter().map(|share| share.before).sum();
    let percent = |of: u128| part(of, total) * 100.0;
    let slots = balance.oversized.iter();
    slots
        .map(|one| {
            format!(
                "slot {} of {} alone has {:.0} % of the {} of all masters, and a fair share is {:.0} %: the keys of a \
                 slot can't be divided among masters (are they one hash tag, or one hot key?)",
                one.slot,
                cluster.name(one.owner),
                percent(one.load.into()),
                by.measure().word(),
                percent(one.fair),
            )
        })
        .collect()
}

/// The figures that the plan was made with, for its file: those of the slots that move.
fn weights_of_slots(what: ByArg, by: &By, plan: &MovePlan) -> Option<SlotWeights> {
    let (By::Load(load) | By::Heat(load)) = by else {
        return None;
    };
    let slots = plan.moves().flat_map(|one| one.slots.iter());
    let mut of: Vec<(Slot, u64)> = slots
        .map(|slot| {
            (
                slot,
                load.get(usize::from(slot.number())).copied().unwrap_or(0),
            )
        })
        .collect();
    of.sort_unstable();
    Some(SlotWeights {
        by: what.measure().word(),
        of,
    })
}

/// The heat of each slot, from two samples. All masters must be measured: a plan from a part of them would be wrong.
async fn heat(
    metric: Metric,
    time: Duration,
    session: &Session,
    cluster: &ClusterState,
) -> Result<By, Stop> {
    let sample = slots::sample(session, cluster, metric, time).await;
    if !sample.failures.is_empty() {
        return Err(slots::unmeasured(cluster, &sample, metric));
    }
    let mut load = vec![0; usize::from(SLOTS)];
    for (slot, stats) in sample.nodes.values().flatten() {
        load[usize::from(slot.number())] = stats.load(metric).unwrap_or(0);
    }
    Ok(By::Heat(load))
}

/// The load of each slot.
async fn by(args: &Args, session: &Session, cluster: &ClusterState) -> Result<By, Stop> {
    let what = args.by;
    if what == ByArg::Slots {
        return Ok(By::Slots);
    }
    if let Some(metric) = what.metric() {
        return heat(metric, args.time.unwrap_or(SAMPLE), session, cluster).await;
    }
    let mut load = vec![0; usize::from(SLOTS)];
    for (id, counts) in count(session, cluster).await? {
        let keys: u64 = counts.iter().map(|(_, keys)| keys).sum();
        let report = cluster.diagnosis.observation.nodes.get(&id);
        let used = report
            .and_then(|node| node.report())
            .and_then(|report| report.info.used_memory)
            .unwrap_or(0);
        for (slot, in_slot) in counts {
            load[usize::from(slot.number())] = match what {
                ByArg::Memory if keys > 0 => {
                    (u128::from(used) * u128::from(in_slot) / u128::from(keys)) as u64
                }
                _ => in_slot,
            };
        }
    }
    Ok(By::Load(load))
}

/// The number of keys in each slot, by owner.
async fn count(
    session: &Session,
    cluster: &ClusterState,
) -> Result<BTreeMap<NodeId, Vec<(Slot, u64)>>, Stop> {
    let mut owners = Vec::new();
    for owner in cluster.owners() {
        let Some(target) = cluster.reach.get(&owner.id).cloned() else {
            return Err(Stop::refused(anyhow!(
                "{} can't be reached to count its keys; nothing was changed",
                cluster.name(owner.id)
            )));
        };
        let node = cluster.diagnosis.observation.nodes.get(&owner.id);
        let databases: Vec<u32> = node
            .and_then(|node| node.report())
            .map(|report| report.info.keys.iter().map(|(db, _)| *db).collect())
            .unwrap_or_default();
        owners.push((owner, target, databases));
    }
    let counting = session.connections.fan_out(
        owners,
        |connections, (owner, target, databases)| async move {
            let slots: Vec<Slot> = owner.slots.iter().collect();
            let counts = discover::count_keys(&connections, &target, &databases, &slots).await?;
            Ok::<_, ClientError>((owner.id, slots.into_iter().zip(counts).collect()))
        },
    );
    let counted: Result<_, ClientError> = counting.await.into_iter().collect();
    counted.map_err(|error| {
        Stop::refused(anyhow!(
            "the keys of each slot can't be counted, so only --by slots is possible: {error}; nothing was changed"
        ))
    })
}

fn view(args: &Args, request: &Request, balance: &Balance, cluster: &ClusterState) -> BalanceView {
    let weight_of = |id: NodeId| {
        let given = request.weights.iter().find(|(of, _)| *of == id);
        given.map_or(1.0, |(_, weight)| *weight)
    };
    let master = |share: &Share| MasterShare {
        node: crate::state::name(&cluster.diagnosis, share.id),
        weight: weight_of(share.id),
        before: share.before,
        expected: share.expected,
        after: share.after,
    };
    BalanceView {
        measure: args.by.measure(),
        threshold: args.threshold(),
        masters: balance.shares.iter().map(master).collect(),
        oversized: balance
            .oversized
            .iter()
            .map(|one| OversizedSlotView {
                slot: one.slot,
                node: crate::state::name(&cluster.diagnosis, one.owner),
                load: one.load,
                fair_share: one.fair,
            })
            .collect(),
    }
}
