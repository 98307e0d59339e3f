//! `redis-trib add-node NEW… EXISTING`: nodes join a cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::anyhow;

use crate::args::moves::MoveArgs;
use crate::args::values::duration;
use crate::args::values::node_words;
use crate::change::Global;
use crate::change::credentials::Credentials;
use crate::change::legacy::Access;
use crate::change::legacy::Signals;
use crate::cluster::node::{NodeId, Role};
use crate::cluster::slot::SLOTS;
use crate::exit_code::ExitCode;
use crate::ops::join::inspect::{NewNode, recruit};
use crate::ops::join::zones::ZoneArgs;
use crate::ops::join::{
    Allowed, GoOn, JoinCandidate, JoinCandidates, JoinPlan, JoinTarget, Joining, Part, Until,
    fair_shares, judge,
};
use crate::plan::reshard::{self, Request, Sources, What};
use crate::seed::Seed;
use crate::session::{LockHeld, Session};
use crate::state::ClusterState;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `add-node`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "redis-trib add-node [OPTIONS] <NEW>... <EXISTING>",
    after_help = "Examples:\n  \
    redis-trib add-node 10.0.0.13:6379 10.0.0.3:6379              # as a master without slots\n  \
    redis-trib add-node 10.0.0.13 10.0.0.14 10.0.0.3 --fill --yes # masters with their share of slots\n  \
    redis-trib add-node tasks.redis007 10.0.0.3 --replica         # replicas of who needs them most"
)]
pub struct Args {
    /// The nodes that join, then one of the cluster (`host port` as two words is understood too). A
    /// name stands for all of its nodes; those that are members already are left alone then.
    #[arg(required = true, num_args = 2.., value_name = "NODE")]
    nodes: Vec<String>,
    /// They become replicas: each of the master that has the fewest, kept off its host and zone.
    #[arg(long, alias = "slave")]
    replica: bool,
    /// They become replicas of this master, by id or address.
    #[arg(long, value_name = "ID", requires = "replica")]
    master_id: Option<String>,
    /// Nodes that hold no keys, and whose old cluster is gone, forget that cluster.
    #[arg(long, conflicts_with = "reset_hard_and_flush")]
    reset: bool,
    /// Nodes LOSE ALL THEIR KEYS, their old cluster and their id.
    #[arg(long)]
    reset_hard_and_flush: bool,
    /// New masters get their share of the slots at once.
    #[arg(long, conflicts_with = "replica")]
    fill: bool,
    /// How long the nodes may take to join, agree and serve.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    join_timeout: Duration,
    /// Return when all nodes know the new ones and agree, before these serve or have their copy.
    #[arg(long, conflicts_with = "fill")]
    no_wait: bool,
    #[command(flatten)]
    zones: ZoneArgs,
    #[command(flatten)]
    moving: MoveArgs,
}

/// Adds nodes to a cluster.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let outcome = add(global, ui, args).await;
    if let Err(stop) = &outcome {
        ui.stopped(stop.code, &stop.error)?;
    }
    outcome
}

async fn add(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let mut signals = Signals::listen()?;
    let job = tokio::select! {
        // A prompt that is interrupted says so itself.
        biased;
        job = prepare(global, ui, &args) => job?,
        signal = signals.next() => {
            return Err(Stop::interrupted(anyhow!("interrupted ({signal}): nothing was changed")));
        }
    };
    match job {
        Some(job) => job.run(ui, args, signals).await,
        None => Ok(ExitCode::Done),
    }
}

/// Nodes about to be added.
struct Job {
    /// The cluster's.
    session: Session,
    home: JoinTarget,
    candidates: Vec<JoinCandidate>,
    part: Part,
}

/// Everything up to the first change; `None` where there is nothing to do.
async fn prepare(global: &Global, ui: &Ui, args: &Args) -> Result<Option<Job>, Stop> {
    let (new, existing) = args.seeds()?;
    let intent = match args.moving.dry_run {
        true => Access::Read,
        false => Access::Change("add-node"),
    };
    let all: Vec<Seed> = new.iter().chain([&existing]).cloned().collect();
    let credentials = Credentials::read(&global.args, ui, &all).await?;
    let newly = crate::change::legacy::with(&credentials, global, &new, intent).await?;
    let session =
        crate::change::legacy::with_seeds(&newly, &credentials, global, &[existing]).await?;
    let mut home = JoinTarget::visit(&session, ui).await?;
    let mut recruits = reach(global, ui, &newly).await?;
    let everybody = [home.targets(), newly.targets()].concat();
    if !args.moving.dry_run && session.lock(&everybody).await? == LockHeld::AfterWaiting {
        home = JoinTarget::visit(&session, ui).await?;
        recruits = reach(global, ui, &newly).await?;
    }
    let part = args.part(&home)?;
    let JoinCandidates {
        nodes: candidates,
        warnings,
        members,
    } = judge(&newly, &home, recruits, part.role(), args.allowed()).await?;
    for member in &members {
        ui.hint(&format!("{member} is a member already, and left alone"));
    }
    if candidates.is_empty() {
        let message = "All of these nodes are members already: nothing to do.";
        ui.done(ExitCode::Done, message)?;
        return Ok(None);
    }
    let draft = JoinPlan::of(&session, &home, &candidates, part, &args.zones).await?;
    let ids: Vec<NodeId> = candidates.iter().map(|new| new.recruit.id()).collect();
    let owners = owners(&home.cluster);
    let shares = match args.fill {
        true => fair_shares(owners, &ids, usize::from(SLOTS)),
        false => Default::default(),
    };
    ui.joining(&draft.view(&home, &candidates, &warnings, &shares))?;
    if args.moving.dry_run {
        ui.done(ExitCode::Done, "Dry run: nothing was changed.")?;
        return Ok(None);
    }
    if !args.moving.yes {
        consent(ui, &home, candidates.len()).await?;
        // People take their time.
        if session.lock(&everybody).await? == LockHeld::AfterWaiting {
            return Err(Stop::refused(anyhow!(
                "another redis-trib was at work on these nodes meanwhile: look at the plan again; \
                 nothing was changed"
            )));
        }
    }
    Ok(Some(Job {
        session,
        home,
        candidates,
        part,
    }))
}

impl Args {
    /// The new nodes, and the one of the cluster.
    fn seeds(&self) -> Result<(Vec<Seed>, Seed), Stop> {
        if !self.fill && (self.moving.plan_out.is_some() || self.moving.undo_out.is_some()) {
            return Err(Stop::usage(anyhow!(
                "--plan-out and --undo-out keep moves of slots: add --fill"
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
        let mut named = BTreeSet::new();
        match new.iter().find(|seed| !named.insert(&seed.addr)) {
            Some(Seed { addr, .. }) => Err(Stop::usage(anyhow!(
                "{addr} is named twice: name each node once"
            ))),
            None => Ok((new, existing)),
        }
    }

    fn allowed(&self) -> Allowed {
        match (self.reset, self.reset_hard_and_flush) {
            (_, true) => Allowed::HardAndFlush,
            (true, false) => Allowed::Reset,
            (false, false) => Allowed::Nothing,
        }
    }

    fn part(&self, home: &JoinTarget) -> Result<Part, Stop> {
        let Some(name) = &self.master_id else {
            return Ok(match self.replica {
                true => Part::Replicas,
                false => Part::Masters,
            });
        };
        let observation = &home.cluster.diagnosis.observation;
        let id = observation.find(name).map_err(Stop::refused)?;
        match home.member(id) {
            Some(member) if member.role == Role::Replica => {
                let of = match member.master {
                    Some(master) => format!(" of {}: name that one", home.cluster.name(master)),
                    None => ": name a master".to_string(),
                };
                Err(Stop::refused(anyhow!(
                    "--master-id: {} is a replica{of}; nothing was changed",
                    home.cluster.name(id)
                )))
            }
            Some(member) if member.peer_status.silent => Err(Stop::refused(anyhow!(
                "--master-id: {} does not answer, so nobody can get a copy from it; nothing was \
                 changed",
                home.cluster.name(id)
            ))),
            _ => Ok(Part::ReplicasOf(id)),
        }
    }
}

/// The new nodes. The cluster was reached, so that none of them was is a refusal.
async fn reach(global: &Global, ui: &Ui, newly: &Session) -> Result<Vec<NewNode>, Stop> {
    recruit(global, ui, newly)
        .await
        .map_err(|stop| match stop.code {
            ExitCode::Unreachable => Stop::refused(stop.error.context("nothing was changed")),
            _ => stop,
        })
}

fn owners(cluster: &ClusterState) -> usize {
    let owners = cluster.owners();
    owners
        .iter()
        .filter(|owner| !owner.slots.is_empty())
        .count()
}

async fn consent(ui: &Ui, home: &JoinTarget, nodes: usize) -> Result<(), Stop> {
    let about = format!(
        "The cluster of {} nodes that {} belongs to.",
        home.cluster.diagnosis.topology.members.len(),
        home.cluster.seed()
    );
    let question = match nodes {
        1 => "Add this node?".to_string(),
        many => format!("Add these {many} nodes?"),
    };
    crate::change::legacy::consent(ui, &question, &about).await
}

impl Job {
    async fn run(self, ui: &Ui, mut args: Args, mut signals: Signals) -> CommandResult {
        let joining = Joining {
            session: &self.session,
            home: &self.home,
            candidates: self.candidates,
            part: self.part,
            zones: &args.zones,
            within: args.join_timeout,
            until: match args.no_wait {
                true => Until::Agreed,
                false => Until::Usable,
            },
            afterwards: GoOn::AddTheRest,
        };
        let joined = joining.run(ui, &mut signals).await?;
        ui.added(joined.len())?;
        if args.fill {
            // One yes was for all of it.
            args.moving.yes = true;
            drop(signals);
            return fill(&self.session, ui, &args.moving, &joined).await;
        }
        if self.part == Part::Masters {
            ui.hint(&format!(
                "the new masters own no slots yet: redis-trib rebalance {} --use-empty-masters",
                self.home.cluster.resume_seed()
            ));
        }
        ui.done(ExitCode::Done, "")?;
        Ok(ExitCode::Done)
    }
}

/// New masters get their share, each of the others gives in proportion to what it owns.
async fn fill(session: &Session, ui: &Ui, args: &MoveArgs, joined: &[NodeId]) -> CommandResult {
    let cluster = ClusterState::settled(session).await?;
    let shares = fair_shares(owners(&cluster), joined, usize::from(SLOTS));
    let request = Request {
        masters: cluster.owners(),
        what: What::Count {
            slots: shares.values().sum(),
            from: Sources::All,
            to: joined.to_vec(),
        },
    };
    let seed = cluster.resume_seed();
    let filled = async {
        let plan = reshard::reshard(&request).map_err(Stop::refused)?;
        crate::change::legacy::move_slots(session, ui, args, cluster, plan).await
    };
    filled.await.map_err(|stop| match stop.code {
        // That the nodes have joined is a change.
        ExitCode::Refused | ExitCode::Unreachable => Stop::partial(anyhow!(
            "the nodes have joined, and have no slots yet: {:#}\nTo go on:\n  redis-trib rebalance {seed} \
             --use-empty-masters",
            stop.error
        )),
        _ => stop,
    })
}
