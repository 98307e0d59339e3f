//! `redis-trib add-node NEW… EXISTING`: nodes join a cluster.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use anyhow::anyhow;

use crate::args::moves::MoveArgs;
use crate::args::values::{duration, node_words, refuse_duplicates};
use crate::args::zones::ZoneArgs;
use crate::change::moves::MovesProposal;
use crate::change::{Approval, Change, Global, Proposal, Question};
use crate::cluster::node::NodeId;
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::ops::join::{
    Allowed, GoOn, Inspected, JoinProposal, JoinRequest, Joining, MemberNamed, NewLibraries, Part,
    RequestedRole, Until, fill_plan,
};
use crate::seed::Seed;
use crate::session::{LockHeld, Session};
use crate::state::ClusterState;
use crate::stop::{CommandResult, Stop};
use crate::ui::{CheckFor, Mode, Ui};

/// Arguments of `add-node`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "redis-trib add-node [OPTIONS] <NEW>... <EXISTING>",
    after_help = "Examples:\n  \
    redis-trib add-node 10.0.0.13:6379 10.0.0.3:6379              # as a master without slots\n  \
    redis-trib add-node 10.0.0.13 10.0.0.14 10.0.0.3 --fill --yes # masters with their share\n  \
    redis-trib add-node tasks.redis007 10.0.0.3 --replica         # as replicas"
)]
pub struct Args {
    /// The new nodes, then a node of the cluster.
    ///
    /// The last one may be two words, `host port`. A name stands for all of its addresses. Nodes that are members
    /// already, in the role that is asked for, are left alone.
    #[arg(required = true, num_args = 2.., value_name = "NODE")]
    nodes: Vec<String>,
    /// Add replicas, each of a master with the fewest replicas.
    ///
    /// Masters on other hosts and in other zones come first.
    #[arg(long, alias = "slave")]
    replica: bool,
    /// Add replicas of this master, by id or address.
    #[arg(long, value_name = "ID", requires = "replica")]
    master_id: Option<String>,
    /// Reset new nodes that have no keys and whose former cluster no longer exists.
    #[arg(long, conflicts_with = "reset_hard_and_flush")]
    reset: bool,
    /// Reset new nodes: they LOSE ALL THEIR KEYS, their former cluster and their id.
    #[arg(long)]
    reset_hard_and_flush: bool,
    /// Give new masters their share of the slots at once.
    #[arg(long, conflicts_with = "replica")]
    fill: bool,
    /// Timeout for the nodes to join, agree and be usable.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    join_timeout: Duration,
    /// Return when all nodes agree about the new ones, without waiting until these are usable.
    #[arg(long, conflicts_with = "fill")]
    no_wait: bool,
    #[command(flatten)]
    zones: ZoneArgs,
    #[command(flatten)]
    moving: MoveArgs,
}

/// Adds nodes to a cluster.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let (new, existing) = args.seeds()?;
    let existing = [existing];
    let request = args.request(global, ui.mode());
    let approval = Approval::of(args.moving.yes, args.moving.dry_run);
    let mut change = Change::open_also(global, ui, "add-node", &new, &existing, approval).await?;
    let newly = change.session();
    let session = change.also(&existing).await?;
    for one in &new {
        let heading = format!("Adding node {one} to cluster {}", existing[0]);
        ui.old_heading(&heading)?;
    }
    change.check_before_of(&session, CheckFor::Change).await?;
    let inspect = async || Inspected::read(&session, &newly, global.args.start_timeout()).await;
    let inspected = change.prepare(inspect()).await?;
    let held = change.lock(&inspected.targets()).await?;
    // What was read before another redis-trib finished may be out of date.
    let inspected = Cell::new((held == LockHeld::AtOnce).then_some(inspected));
    let reported = RefCell::new(BTreeSet::new());
    let plan = async || {
        let inspected = match inspected.take() {
            Some(inspected) => inspected,
            None => inspect().await?,
        };
        let proposal = JoinProposal::of(&session, &newly, inspected, &request).await?;
        for member in &proposal.members {
            if reported.borrow_mut().insert(member.clone()) {
                let events = &session.events;
                events.note(member.clone());
            }
        }
        Ok(proposal)
    };
    let Some(proposal) = change.approve(plan).await? else {
        return Ok(ExitCode::Done);
    };
    let JoinProposal {
        target,
        candidates,
        part,
        ..
    } = proposal;
    for candidate in &candidates {
        let addr = &candidate.node.target.addr;
        ui.old_heading(&format!(
            "Send CLUSTER MEET to node {addr} to make it join the cluster."
        ))?;
    }
    let joining = Joining {
        session: &session,
        target: &target,
        candidates,
        part,
        zones: &request.zones,
        within: args.join_timeout,
        until: match args.no_wait {
            true => Until::Agreed,
            false => Until::Usable,
        },
        afterwards: GoOn::AddTheRest,
    };
    let joined = change.execute(joining.run()).await?.joined;
    ui.added(joined.len())?;
    if request.fill {
        return fill(&mut change, &session, ui, &args.moving, &joined).await;
    }
    if part == Part::Masters {
        ui.hint(&format!(
            "the new masters own no slots yet: redis-trib rebalance {} --use-empty-masters",
            target.cluster.resume_seed()
        ));
    }
    change.finish("")
}

impl Args {
    /// The new nodes, and the one of the cluster.
    fn seeds(&self) -> Result<(Vec<Seed>, Seed), Stop> {
        if !self.fill && (self.moving.plan_out.is_some() || self.moving.undo_out.is_some()) {
            return Err(Stop::usage(anyhow!(
                "--plan-out and --undo-out save moves of slots: add --fill"
            )));
        }
        // `10.0.0.3 6379`, as the last two words.
        let is_port = |word: &String| word.bytes().all(|c| c.is_ascii_digit());
        let last = match self.nodes.last().filter(|word| is_port(word)) {
            Some(_) if self.nodes.len() > 2 => 2,
            _ => 1,
        };
        let (new, existing) = self.nodes.split_at(self.nodes.len() - last);
        let existing = node_words(existing)?;
        let new: Vec<Seed> = new
            .iter()
            .map(|word| word.parse().map_err(Stop::usage))
            .collect::<Result<_, _>>()?;
        refuse_duplicates(&new)?;
        Ok((new, existing))
    }

    fn request(&self, global: &Global, mode: Mode) -> JoinRequest {
        JoinRequest {
            role: match (&self.master_id, self.replica) {
                (Some(name), _) => RequestedRole::ReplicasOf(name.clone()),
                (None, true) => RequestedRole::Replicas,
                (None, false) => RequestedRole::Masters,
            },
            allowed: match (self.reset, self.reset_hard_and_flush) {
                (_, true) => Allowed::HardAndFlush,
                (true, false) => Allowed::Reset,
                (false, false) => Allowed::Nothing,
            },
            zones: self.zones.rules(&global.args),
            fill: self.fill,
            libraries: match mode.is_old() {
                true => NewLibraries::Refused,
                false => NewLibraries::SameAllowed,
            },
            member_named: match (mode.is_old(), self.fill) {
                (true, _) => MemberNamed::Refused,
                (false, true) => MemberNamed::Filled,
                (false, false) => MemberNamed::LeftAlone,
            },
        }
    }
}

impl Proposal for JoinProposal {
    fn nothing_to_do(&self) -> Option<String> {
        self.candidates
            .is_empty()
            .then(|| "All of these nodes are members already: nothing to do.".to_string())
    }

    fn lock(&self) -> Vec<Target> {
        self.targets.clone()
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        self.view.as_ref().map_or(Ok(()), |view| ui.joining(view))
    }

    fn question(&self) -> Option<Question> {
        let cluster = &self.target.cluster;
        Some(Question {
            about: format!(
                "The cluster of {} nodes that {} belongs to.",
                cluster.diagnosis.topology.members.len(),
                cluster.seed()
            ),
            text: match self.candidates.len() {
                1 => "Add this node?".to_string(),
                many => format!("Add these {many} nodes?"),
            },
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        let changes = |proposal: &Self| {
            let view = proposal.view.clone();
            view.map(|view| (view.nodes, view.libraries, view.members))
        };
        changes(self) == changes(other)
    }
}

/// Gives new masters their share of the slots. The consent to the command covers the moves.
async fn fill(
    change: &mut Change<'_>,
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
    joined: &[NodeId],
) -> CommandResult {
    let cluster = change.prepare(ClusterState::settled(session)).await?;
    let mut resume = ["redis-trib", "rebalance"].map(str::to_string).to_vec();
    resume.extend([cluster.seed(), "--use-empty-masters".to_string()]);
    resume.extend(cluster.resume_options());
    let filled = async {
        let plan = fill_plan(&cluster, joined)?;
        let moves = MovesProposal::new(session, args, cluster, plan);
        let moves = change.prepare(moves).await?;
        moves.show(ui)?;
        moves.after_show()?;
        change.lock(&moves.lock()).await?;
        change.execute(moves.execute(session, ui)).await
    };
    filled.await.map_err(|stop| match stop.code {
        // No slot was moved.
        ExitCode::Refused | ExitCode::Unreachable => Stop {
            error: anyhow!(
                "the nodes have joined, and have no slots yet: {:#}",
                stop.error
            ),
            ..stop.with_resume([resume])
        },
        _ => stop,
    })
}
