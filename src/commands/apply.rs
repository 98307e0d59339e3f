//! `redis-trib apply FILE NODE`: a saved plan, or what is left of one that was cut off.
//!
//! A file that holds no plan which this program understands is wrong usage, whatever is wrong with
//! it: no node was asked yet. A plan that does not fit the cluster is refused.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use crate::state::ClusterState;

use crate::args::moves::MoveArgs;

use crate::args::values::text_of;
use crate::change::Global;
use crate::change::legacy::Access;
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::Direction;
use crate::cluster::slot::Slot;
use crate::exit_code::ExitCode;
use crate::ops::move_slots::{self};
use crate::plan::{MovePlan, file};
use crate::seed::Seed;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Slots that their target owns already are done: a plan that was cut off is \
    resumed by applying it again.\n\nExamples:\n  \
    redis-trib rebalance 10.0.0.3 --dry-run --plan-out plan.json --undo-out undo.json\n  \
    redis-trib apply plan.json 10.0.0.3 --yes\n  \
    redis-trib apply undo.json 10.0.0.3"
)]
pub struct Args {
    /// The plan, as --plan-out or --undo-out wrote it.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A node of the cluster.
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    moving: MoveArgs,
}

/// Moves what the plan says and is not moved yet.
pub async fn run(global: &Global, ui: &Ui, mut args: Args) -> CommandResult {
    let plan = read(&args.file)?;
    let seed: Seed = args.node.parse().map_err(Stop::usage)?;
    let session = crate::change::legacy::open(global, ui, &[seed], Access::Change("apply")).await?;
    let mut cluster = ClusterState::look(&session).await?;
    members(&plan, &cluster)?;
    // What takes back the whole plan, not only what is left of it.
    if let Some(undo) = args.moving.undo_out.take() {
        move_slots::save("--undo-out", &undo, &file::inverse(&plan))?;
    }
    args.moving.applied = Some(args.file);
    let begun = begun(&plan, &cluster);
    if begun == Begun::ByThisPlan && !args.moving.dry_run {
        move_slots::finish_open(&session, ui, &args.moving).await?;
    }
    // A plan that is shown only may be one that was begun.
    if begun == Begun::No || !args.moving.dry_run {
        cluster = crate::state::healthy(&session).await?;
        cluster = move_slots::at_rest(&session, ui, &args.moving, cluster).await?;
    }
    let left = outstanding(&plan, &cluster)?;
    if left.is_empty() {
        let message = format!(
            "All {} slots of the plan are where it wants them: there is nothing left to do.",
            plan.slots_moved()
        );
        ui.done(ExitCode::Done, &message)?;
        return Ok(ExitCode::Done);
    }
    let done = plan.slots_moved() - left.slots_moved();
    if done > 0 {
        ui.hint(&format!(
            "{done} of the plan's {} slots are where it wants them; these are left",
            plan.slots_moved()
        ));
    }
    move_slots::carry_out(&session, ui, &args.moving, &cluster, &left).await
}

fn read(path: &Path) -> Result<MovePlan, Stop> {
    let about = || format!("the plan {}", path.display());
    let text = text_of(path)
        .with_context(|| format!("{} can't be read", about()))
        .map_err(Stop::usage)?;
    file::from_json(&text)
        .with_context(about)
        .map_err(Stop::usage)
}

/// All nodes of the plan belong to the cluster.
fn members(plan: &MovePlan, cluster: &ClusterState) -> Result<(), Stop> {
    let members = &cluster.diagnosis.topology.members;
    let unknown: Vec<String> = file::nodes(plan)
        .iter()
        .filter(|id| !members.contains_key(id))
        .map(NodeId::to_string)
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Stop::refused(anyhow!(
        "the plan names nodes that this cluster does not have: {}; is it the plan of another \
         cluster? Nothing was changed",
        unknown.join(", ")
    )))
}

/// Whether slots are open, and by whose doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// None is, or some that the plan knows nothing of.
    No,
    /// All that are open are on the way that the plan gives them.
    ByThisPlan,
}

fn begun(plan: &MovePlan, cluster: &ClusterState) -> Begun {
    let topology = &cluster.diagnosis.topology;
    let planned = |slot: Slot, from: NodeId, to: NodeId| {
        plan.moves()
            .any(|one| one.from == from && one.to == to && one.slots.contains(slot))
    };
    // From Valkey 8 on replicas repeat what is open at their master.
    let open = || {
        let open = topology.open_slots();
        open.filter(|(member, _)| member.role == Role::Master)
    };
    let ours = open().all(|(member, open)| match open.direction {
        Direction::Migrating => planned(open.slot, member.id, open.peer),
        Direction::Importing => planned(open.slot, open.peer, member.id),
    });
    if ours && open().next().is_some() {
        Begun::ByThisPlan
    } else {
        Begun::No
    }
}

/// What is left to do, among masters.
fn outstanding(plan: &MovePlan, cluster: &ClusterState) -> Result<MovePlan, Stop> {
    let topology = &cluster.diagnosis.topology;
    let owner_of = |slot: Slot| {
        let mut owners = topology.masters().filter(|m| m.slots.contains(slot));
        Some(owners.next()?.id)
    };
    let left = file::outstanding(plan, owner_of).map_err(Stop::refused)?;
    for one in left.moves() {
        let target = topology.members.get(&one.to);
        if let Some(target) = target.filter(|member| member.role == Role::Replica) {
            let name = cluster.diagnosis.observation.name(one.to);
            let master = target.master.map_or_else(
                || "another master".to_string(),
                |master| cluster.diagnosis.observation.name(master),
            );
            return Err(Stop::refused(anyhow!(
                "slots {} go to {name}, which is a replica of {master} now: fail over to it, or \
                 make a new plan; nothing was changed",
                one.slots
            )));
        }
    }
    Ok(left)
}
