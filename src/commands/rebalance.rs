//! `redis-trib rebalance NODE`: every master its share.

use std::collections::BTreeMap;

use anyhow::anyhow;
use tokio::task::JoinSet;

use crate::state::ClusterState;

use crate::args::moves::MoveArgs;

use crate::args::values::node_words;
use crate::change::Global;
use crate::change::legacy::Access;
use crate::client::ClientError;
use crate::cluster::node::NodeId;
use crate::cluster::slot::{SLOTS, Slot};
use crate::discover;
use crate::exit_code::ExitCode;
use crate::ops::move_slots::{self, Finished};
use crate::plan::rebalance::{
    self, Balance, By, RebalanceError, Request, Share, UseEmpty, Verdict, weights_by_memory,
};
use crate::session::Session;
use crate::stop::{CommandResult, Stop};
use crate::ui::{BalanceView, MasterShare, Measure, Ui};

/// Arguments of `rebalance`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib rebalance 10.0.0.3 --dry-run\n  \
    redis-trib rebalance 10.0.0.3 --use-empty-masters --yes\n  \
    redis-trib rebalance 10.0.0.3 --weight 8fabdaed=2 --weight 10.0.0.4:6379=0 --by keys")]
pub struct Args {
    /// A node of the cluster (`host port` as two words is understood too).
    #[arg(required = true, num_args = 1..=2, value_name = "NODE")]
    node: Vec<String>,
    /// How much a master, by id or address, shall get in proportion to the others, which weigh 1
    /// (repeatable). 0: it gives everything away.
    #[arg(long, value_name = "ID=W", value_parser = weight, value_delimiter = ',')]
    weight: Vec<(String, f64)>,
    /// Masters weigh what their maxmemory is.
    #[arg(long, conflicts_with = "weight")]
    auto_weights: bool,
    /// Masters without slots get some, too.
    #[arg(long)]
    use_empty_masters: bool,
    /// By how many percent of its share a master may be off before anything moves; 0: not at all.
    #[arg(long, value_name = "PERCENT", default_value = "2", value_parser = percent)]
    threshold: f64,
    /// What the shares are shares of. Memory is an estimate: what a node uses by the keys in each
    /// slot, as if all its keys were of one size.
    #[arg(long, value_name = "WHAT", default_value = "slots")]
    by: ByArg,
    /// First finish moves that were begun and cut off.
    #[arg(long)]
    finish_open: bool,
    #[command(flatten)]
    moving: MoveArgs,
}

/// What the shares are shares of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ByArg {
    /// The number of slots.
    Slots,
    /// The keys in them.
    Keys,
    /// The memory that these take, estimated.
    Memory,
}

/// `8fabdaed=2.5`.
fn weight(text: &str) -> Result<(String, f64), String> {
    let wrong = || {
        format!("{text:?} is no weight: write ID=WEIGHT, with a weight from 0 on, as 8fabdaed=2")
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
        .ok_or_else(|| format!("{text:?} is no percentage from 0 (exact) on, such as 2"))
}

/// Plans the balance, and moves slots to it.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let seed = node_words(&args.node)?;
    let session =
        crate::change::legacy::open(global, ui, &[seed], Access::Change("rebalance")).await?;
    if args.finish_open || move_slots::may_offer(ui, &args.moving) {
        let finished = move_slots::finish_open(&session, ui, &args.moving).await?;
        if finished == Finished::OnlyShown {
            return Ok(ExitCode::Done);
        }
    }
    let cluster = crate::state::healthy(&session).await?;
    let cluster = move_slots::at_rest(&session, ui, &args.moving, cluster).await?;
    let request = Request {
        masters: cluster.owners(),
        weights: weights(&args, &cluster)?,
        empty: match args.use_empty_masters {
            true => UseEmpty::Yes,
            false => UseEmpty::No,
        },
        threshold: args.threshold,
        by: by(args.by, &session, &cluster).await?,
    };
    let balance = rebalance::rebalance(&request).map_err(|error| match error {
        // They were named in a way that can't be meant, whatever the cluster.
        RebalanceError::TwoWeights { .. } => Stop::usage(error),
        error => Stop::refused(error),
    })?;
    for id in &balance.left_out {
        ui.hint(&format!(
            "{} owns no slots and is left out: --use-empty-masters gives it some",
            cluster.diagnosis.observation.name(*id)
        ));
    }
    match &balance.verdict {
        Verdict::Balanced => {
            let message = format!(
                "*** No rebalancing needed! All nodes are within the {:.2}% threshold.",
                args.threshold
            );
            ui.done(ExitCode::Done, &message)?;
            Ok(ExitCode::Done)
        }
        Verdict::Indivisible => {
            let message = format!(
                "Nothing is moved: some masters are beyond the {:.2}% threshold, but single slots \
                 hold so much that moving one would only move the trouble.",
                args.threshold
            );
            ui.balance(&view(&args, &request, &balance, &cluster))?;
            ui.done(ExitCode::Done, &message)?;
            Ok(ExitCode::Done)
        }
        Verdict::Moves(plan) => {
            ui.balance(&view(&args, &request, &balance, &cluster))?;
            move_slots::carry_out(&session, ui, &args.moving, &cluster, plan).await
        }
    }
}

fn weights(args: &Args, cluster: &ClusterState) -> Result<Vec<(NodeId, f64)>, Stop> {
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
        // In proportion to the smallest, so that they can be read.
        let least = weights.iter().map(|(_, weight)| *weight).reduce(f64::min);
        for (_, weight) in &mut weights {
            *weight /= least.unwrap_or(1.0);
        }
        return Ok(weights);
    }
    args.weight
        .iter()
        .map(|(name, weight)| Ok((observation.find(name).map_err(Stop::refused)?, *weight)))
        .collect()
}

/// What is measured, and how much of it each slot holds.
async fn by(what: ByArg, session: &Session, cluster: &ClusterState) -> Result<By, Stop> {
    if what == ByArg::Slots {
        return Ok(By::Slots);
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

/// The keys in each slot, asked of all owners side by side.
async fn count(
    session: &Session,
    cluster: &ClusterState,
) -> Result<BTreeMap<NodeId, Vec<(Slot, u64)>>, Stop> {
    let mut counting = JoinSet::new();
    for owner in cluster.owners() {
        let Some(target) = cluster.reach.get(&owner.id).cloned() else {
            let name = cluster.diagnosis.observation.name(owner.id);
            return Err(Stop::refused(anyhow!(
                "{name} can't be reached to count its keys; nothing was changed"
            )));
        };
        let report = cluster.diagnosis.observation.nodes.get(&owner.id);
        let databases: Vec<u32> = report
            .and_then(|node| node.report())
            .map(|report| report.info.keys.iter().map(|(db, _)| *db).collect())
            .unwrap_or_default();
        let connections = session.connections.clone();
        counting.spawn(async move {
            let slots: Vec<Slot> = owner.slots.iter().collect();
            let counts = discover::count_keys(&connections, &target, &databases, &slots).await?;
            Ok::<_, ClientError>((owner.id, slots.into_iter().zip(counts).collect()))
        });
    }
    counting
        .join_all()
        .await
        .into_iter()
        .map(|counted| {
            counted.map_err(|error| {
                Stop::refused(anyhow!(
                    "the keys per slot can't be counted, so only --by slots is possible: {error}; \
                     nothing was changed"
                ))
            })
        })
        .collect()
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
        measure: match args.by {
            ByArg::Slots => Measure::Slots,
            ByArg::Keys => Measure::Keys,
            ByArg::Memory => Measure::Memory,
        },
        threshold: args.threshold,
        masters: balance.shares.iter().map(master).collect(),
    }
}
