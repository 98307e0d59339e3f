//! `redis-trib apply FILE NODE`: executes a saved plan, or what is left of one that was interrupted.
//!
//! A file without a plan that this program can read is wrong usage: no node was asked yet. A plan that does not fit
//! the cluster is refused.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use crate::args::moves::MoveArgs;
use crate::args::values::{refuse_swapped, text_of};
use crate::change::moves::{MovesProposal, approval, finish_open};
use crate::change::{Approval, Change, Global, Proposal, Question};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::numbers::{counted, thousands};
use crate::cluster::parse::Direction;
use crate::cluster::slot::Slot;
use crate::connections::Target;
use crate::converge::settle::healthy;
use crate::exit_code::ExitCode;
use crate::ops::move_slots;
use crate::plan::{MovePlan, file};
use crate::seed::Seed;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Slots that their target owns already are skipped: applying a plan again \
    resumes it.\n\nExamples:\n  \
    redis-trib rebalance 10.0.0.3 --dry-run --plan-out plan.json --undo-out undo.json\n  \
    redis-trib apply plan.json 10.0.0.3 --yes\n  \
    redis-trib apply undo.json 10.0.0.3"
)]
pub struct Args {
    /// The plan that --plan-out or --undo-out wrote.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A node of the cluster.
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    moving: MoveArgs,
}

/// Moves the slots of the plan that have not moved yet.
pub async fn run(global: &Global, ui: &Ui, mut args: Args) -> CommandResult {
    refuse_swapped("apply", &args.file, &args.node)?;
    let plan = read(&args.file)?;
    let seed: Seed = args.node.parse().map_err(Stop::usage)?;
    let approval = approval(&args.moving);
    let mut change = Change::open(global, ui, "apply", &[seed], approval).await?;
    let session = change.session();
    let state = change.prepare(ClusterState::look(&session)).await?;
    members(&plan, &state)?;
    // The file undoes the whole plan, not only what is left of it.
    if let Some(undo) = args.moving.undo_out.take() {
        move_slots::save("--undo-out", &undo, &file::inverse(&plan), None)?;
    }
    args.moving.applied = Some(args.file);
    let moving = &args.moving;
    let begun = begun(&plan, &state);
    if begun == Begun::ByThisPlan && approval != Approval::DryRun {
        finish_open(&mut change, moving).await?;
    }
    // A dry run may show a plan whose slots are open.
    let shown_only = begun == Begun::ByThisPlan && approval == Approval::DryRun;
    let propose = async || {
        let state = match shown_only {
            true => ClusterState::look(&session).await?,
            false => {
                let state = healthy(&session).await?;
                move_slots::at_rest(&session, state, moving.dry_run).await?
            }
        };
        Rest::of(&plan, &session, moving, state).await
    };
    match change.approve(propose).await? {
        Some(rest) => rest.moves.carry_out(change, ui).await,
        None => Ok(ExitCode::Done),
    }
}

/// What is left of a plan.
struct Rest<'a> {
    /// How many slots the plan has, and how many of them have moved.
    slots: usize,
    done: usize,
    moves: MovesProposal<'a>,
}

impl<'a> Rest<'a> {
    async fn of(
        plan: &MovePlan,
        session: &Session,
        moving: &'a MoveArgs,
        state: ClusterState,
    ) -> Result<Self, Stop> {
        let left = outstanding(plan, &state)?;
        let slots = plan.slots_moved();
        let done = slots - left.slots_moved();
        let moves = match left.is_empty() {
            true => MovesProposal::nothing(
                moving,
                state,
                format!(
                    "All {} of the plan are on their targets: nothing is left to do.",
                    counted(slots as u64, "slot")
                ),
            ),
            false => MovesProposal::new(session, moving, state, left).await?,
        };
        Ok(Self { slots, done, moves })
    }
}

impl Proposal for Rest<'_> {
    fn nothing_to_do(&self) -> Option<String> {
        self.moves.nothing_to_do()
    }

    fn lock(&self) -> Vec<Target> {
        self.moves.lock()
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        if self.done > 0 {
            ui.note(&format!(
                "{} of the plan's {} are on their targets; these are left",
                thousands(self.done as u64),
                counted(self.slots as u64, "slot")
            ));
        }
        self.moves.show(ui)
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

fn read(path: &Path) -> Result<MovePlan, Stop> {
    let about = || format!("the plan {}", path.display());
    let text = text_of(path)
        .with_context(|| format!("{} can't be read", about()))
        .map_err(Stop::usage)?;
    file::from_json(&text)
        .with_context(about)
        .map_err(Stop::usage)
}

/// Refuses a plan with nodes that are not members.
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
        "the plan names nodes that are not members of this cluster: {}; it may be the plan of another cluster; \
         nothing was changed",
        unknown.join(", ")
    )))
}

/// Whether slots are open, and whether this plan opened them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// None is open, or some that are not in the plan.
    No,
    /// All open slots move as the plan says.
    ByThisPlan,
}

fn begun(plan: &MovePlan, cluster: &ClusterState) -> Begun {
    let topology = &cluster.diagnosis.topology;
    let planned = |slot: Slot, from: NodeId, to: NodeId| {
        plan.moves()
            .any(|one| one.from == from && one.to == to && one.slots.contains(slot))
    };
    // From Valkey 8 on, replicas repeat the open slots of their master.
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

/// What is left to move. Refuses targets that are replicas now.
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
                "the target of slots {} is {name}, which is a replica of {master} now: fail over to it, or make a new \
                 plan; nothing was changed",
                one.slots
            )));
        }
    }
    Ok(left)
}
