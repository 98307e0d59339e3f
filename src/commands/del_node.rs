//! `redis-trib del-node NODE MEMBER…`: removes nodes from a cluster.

use std::io;

use crate::args::moves::MoveArgs;
use crate::change::moves::{OpenSlotsAre, about, approval, finish_open, save_and_check};
use crate::change::{Approval, Change, Global, Proposal, Question};
use crate::client::Reset;
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::ops::leave::{
    self, Afterwards, DrainOptions, LeavePlan, LeaveReport, LeaveRequest, Unprotected,
};
use crate::seed::Seed;
use crate::stop::{CommandResult, Stop};
use crate::ui::{Mode, Ui};

/// Arguments of `del-node`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The other members forget the nodes (CLUSTER FORGET), the nodes are reset (CLUSTER RESET \
    HARD, which\ndeletes a replica's copy and gives the node a new id), and the others forget them \
    again.\nAn interrupted del-node is finished by the same command.\n\nExamples:\n  \
    redis-trib del-node 10.0.0.3 8fabdaed                   # a replica, or a master without slots\n  \
    redis-trib del-node 10.0.0.3 8fabdaed --drain           # its slots move to the others first\n  \
    redis-trib del-node 10.0.0.3 8fabdaed 77d2bd92 --yes    # several at once, also if they are down"
)]
pub struct Args {
    /// A node of the cluster; it may be one of those that leave.
    #[arg(value_name = "NODE")]
    node: Seed,
    /// The nodes that leave.
    #[arg(required = true, num_args = 1.., value_name = "MEMBER")]
    ids: Vec<String>,
    /// First move the slots of masters that leave to the other masters, evenly.
    #[arg(long)]
    drain: bool,
    /// Let this replica leave although it is the last copy in sync of its master (repeatable).
    #[arg(long, value_name = "MEMBER")]
    leave_unprotected: Vec<String>,
    /// Let all of them leave although they are last copies; the modes of redis-cli and redis-trib.rb set it.
    #[arg(long, hide = true)]
    leave_all_unprotected: bool,
    /// Shut the servers down after they have left.
    #[arg(long)]
    shutdown: bool,
    /// Wait until members may add forgotten nodes again (60 s), and check that none does.
    #[arg(long)]
    verify_after_ban: bool,
    #[command(flatten)]
    moving: MoveArgs,
}

/// Removes nodes.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let moving = &args.moving;
    let seeds = std::slice::from_ref(&args.node);
    let mut change = Change::open(global, ui, "del-node", seeds, approval(moving)).await?;
    for name in &args.ids {
        ui.old_heading(&format!("Removing node {name} from cluster {}", args.node))?;
    }
    let session = change.session();
    let mut request = args.request(ui.mode());
    let looking = leave::look(&session, &request.names);
    let leave::Looked { state, leaving, .. } = change.prepare(looking).await?;
    if args.drain
        && leave::is_open(&state, &leaving)
        && finish_open(&mut change, moving).await? == OpenSlotsAre::Shown
    {
        return Ok(ExitCode::Done);
    }
    if change.approval() == Approval::Ask
        && ui.can_ask()
        && let Some(why) = leave::only_slots_forbid(&state, &leaving, &request)?
    {
        ui.warn(&why);
        let question = Question {
            about: about(&state),
            text: "Should these slots be moved to the other masters first?".to_string(),
        };
        change.consent(&question).await?;
        change.answered(["--drain".to_string()]);
        request.drain = true;
    }
    let plan = async || {
        let plan = leave::prepare(&session, &request, moving.method(), moving.dry_run);
        Ok(Removal {
            plan: plan.await?,
            afterwards: request.afterwards,
            moving,
        })
    };
    let Some(Removal { plan, .. }) = change.approve(plan).await? else {
        return Ok(ExitCode::Done);
    };
    let willing = leave::refuse_unwilling(&session, &plan.state, &plan.leaving);
    change.prepare(willing).await?;
    let options = DrainOptions {
        method: moving.method(),
        lanes: plan
            .moves
            .as_ref()
            .map(|moves| moving.options(moves.node_timeout)),
    };
    let work = leave::execute(&session, &plan, &request, &options);
    let LeaveReport { left, stay } = change.execute(work).await?;
    ui.old_removed(&plan.leaving)?;
    let left = match left {
        0 => "All nodes had".to_string(),
        1 => "1 node has".to_string(),
        many => format!("{many} nodes have"),
    };
    change.finish(&format!("[OK] {left} left the cluster; {stay} stay."))
}

impl Args {
    fn request(&self, mode: Mode) -> LeaveRequest {
        LeaveRequest {
            names: self.ids.clone(),
            drain: self.drain,
            unprotected: match self.leave_all_unprotected {
                true => Unprotected::All,
                false => Unprotected::Named(self.leave_unprotected.clone()),
            },
            afterwards: match self.shutdown {
                true => Afterwards::ShutDown,
                false if mode.is_redis_cli() => Afterwards::RunReset(Reset::Soft),
                false => Afterwards::RunReset(Reset::Hard),
            },
            verify_after_ban: self.verify_after_ban,
        }
    }
}

/// Nodes to remove, as proposed.
struct Removal<'a> {
    plan: LeavePlan,
    afterwards: Afterwards,
    moving: &'a MoveArgs,
}

impl Proposal for Removal<'_> {
    fn nothing_to_do(&self) -> Option<String> {
        let LeavePlan { leaving, gone, .. } = &self.plan;
        let is_done = leaving.is_empty() && self.afterwards != Afterwards::ShutDown;
        let addrs: Vec<String> = gone
            .iter()
            .map(|node| node.target.addr.to_string())
            .collect();
        is_done.then(|| {
            format!(
                "[OK] Nothing to do: {} left the cluster already.",
                match &addrs[..] {
                    [one] => format!("{one} has"),
                    many => format!("{} have", many.join(", ")),
                }
            )
        })
    }

    fn lock(&self) -> Vec<Target> {
        self.plan.lock()
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        if let Some(moves) = &self.plan.moves {
            ui.moves_away(&moves.view)?;
        }
        if !self.plan.leaving.is_empty() {
            ui.leaving(&self.plan.view)?;
        }
        for warning in &self.plan.warnings {
            ui.warn(warning);
        }
        Ok(())
    }

    fn after_show(&self) -> Result<(), Stop> {
        match &self.plan.moves {
            Some(moves) => save_and_check(self.moving, moves),
            None => Ok(()),
        }
    }

    fn question(&self) -> Option<Question> {
        Some(Question {
            about: about(&self.plan.state),
            text: match self.plan.leaving.len() {
                0 => "Shut it down?".to_string(),
                1 => "Remove it from the cluster?".to_string(),
                many => format!("Remove these {many} nodes from the cluster?"),
            },
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.plan.is_same(&other.plan)
    }
}
