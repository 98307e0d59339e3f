//! `redis-trib create NODE…`: a cluster of empty nodes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::args::values::duration;
use crate::change::Global;
use crate::change::legacy::Access;
use crate::change::legacy::Signals;
use crate::client::Transport;
use crate::cluster::health::{Background, Diagnosis, Severity};
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::slot::SlotSet;
use crate::converge::{NotInTime, Watch};
use crate::discover::{self, DiscoverError};
use crate::event::Event;
use crate::exit_code::ExitCode;
use crate::ops::create::existing::healthy_cluster;
use crate::ops::create::plan::CreatePlan;
use crate::ops::create::unfit::misfits;
use crate::ops::join::execute::{ExecuteError, Execution, StepCounts};
use crate::ops::join::inspect::{NewNode, counted, recruit, refusal};
use crate::ops::join::zones::ZoneArgs;
use crate::seed::{Seed, parse_addr};
use crate::session::{LockHeld, Session};
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib create --replicas 1 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.7 10.0.0.8 10.0.0.9\n  \
    redis-trib create --yes --if-needed --replicas 1 --expect-nodes 6 tasks.master tasks.slave")]
pub struct Args {
    /// The nodes. With names that stand for several nodes, those of the first names become masters
    /// where their number fits.
    #[arg(required = true, value_name = "NODE")]
    pub(crate) nodes: Vec<Seed>,
    /// Replicas for each master.
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true, value_parser = clap::value_parser!(u16).range(..1000))]
    pub(crate) replicas: u16,
    /// This node becomes a master (repeatable).
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) pin_master: Vec<Addr>,
    /// This node becomes a replica (repeatable).
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) pin_replica: Vec<Addr>,
    /// Make a cluster of one or two masters, which can't fail over by itself.
    #[arg(long)]
    pub(crate) allow_few_masters: bool,
    #[command(flatten)]
    pub(crate) zones: ZoneArgs,
    /// Succeed, and change nothing, where the nodes form one healthy cluster already.
    #[arg(long)]
    pub(crate) if_needed: bool,
    /// Don't ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Show what would be done, and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Return when all nodes agree about slots and roles, before they serve and replicas have a copy.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long the nodes may take to join, agree and serve.
    #[arg(long, value_name = "TIME", default_value = "60s", allow_hyphen_values = true, value_parser = duration)]
    pub(crate) join_timeout: Duration,
}

/// Makes a cluster of empty nodes.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let outcome = create(global, ui, &args).await;
    if let Err(stop) = &outcome {
        ui.stopped(stop.code, &stop.error)?;
    }
    outcome
}

async fn create(global: &Global, ui: &Ui, args: &Args) -> CommandResult {
    let mut signals = Signals::listen()?;
    let job = tokio::select! {
        // A prompt that is interrupted says so itself.
        biased;
        job = prepare(global, ui, args) => job?,
        signal = signals.next() => {
            return Err(Stop::interrupted(anyhow!("interrupted ({signal}): nothing was changed")));
        }
    };
    match job {
        Some(job) => job.run(ui, args, signals).await,
        None => Ok(ExitCode::Done),
    }
}

/// Everything up to the first change; `None` where there is nothing to do.
async fn prepare(global: &Global, ui: &Ui, args: &Args) -> Result<Option<Job>, Stop> {
    args.refuse_contradictions()?;
    let intent = match args.dry_run {
        true => Access::Read,
        false => Access::Change("create"),
    };
    let session = crate::change::legacy::open(global, ui, &args.nodes, intent).await?;
    let mut recruits = recruit(global, ui, &session).await?;
    let targets = session.targets();
    if !args.dry_run && session.lock(&targets).await? == LockHeld::AfterWaiting {
        recruits = recruit(global, ui, &session).await?;
    }
    let drafted = CreatePlan::of(&session, args, &recruits).await;
    let misfits = match &drafted {
        Ok(draft) => misfits(&recruits, &draft.plan, &draft.progress),
        Err(_) => Vec::new(),
    };
    let fits = drafted.is_ok() && misfits.is_empty();
    if args.if_needed && !fits && !recruits.iter().all(NewNode::is_bare) && has_no_twins(&recruits)
    {
        let diagnosis = healthy_cluster(ui, &session, &recruits, args.join_timeout).await?;
        ui.already(&diagnosis)?;
        return Ok(None);
    }
    let draft = drafted?;
    if !misfits.is_empty() {
        return Err(match already_one_cluster(&recruits) {
            Some(stop) => stop,
            None => refusal(&misfits),
        });
    }
    let (done, left) = (draft.progress.done, draft.progress.rest.len());
    if left > 0 || args.dry_run {
        ui.layout(&draft.view(&recruits))?;
    }
    if args.dry_run {
        ui.done(ExitCode::Done, "Dry run: nothing was changed.")?;
        return Ok(None);
    }
    if done > 0 && left > 0 {
        ui.hint(&format!(
            "{done} of {} steps were done by a create that was cut off: the rest follows",
            done + left
        ));
    }
    if left > 0 && !args.yes {
        consent(ui, recruits.len()).await?;
        // People take their time.
        if session.lock(&targets).await? == LockHeld::AfterWaiting {
            return Err(Stop::refused(anyhow!(
                "another redis-trib was at work on these nodes meanwhile: look at the plan again; \
                 nothing was changed"
            )));
        }
    }
    Ok(Some(Job {
        session,
        recruits,
        draft,
    }))
}

impl Args {
    /// What can't be meant, whatever the nodes are.
    fn refuse_contradictions(&self) -> Result<(), Stop> {
        let mut named = BTreeSet::new();
        for seed in &self.nodes {
            if !named.insert(&seed.addr) {
                let addr = &seed.addr;
                return Err(Stop::usage(anyhow!(
                    "{addr} is named twice: name each node once"
                )));
            }
        }
        match self
            .pin_master
            .iter()
            .find(|addr| self.pin_replica.contains(addr))
        {
            Some(addr) => Err(Stop::usage(anyhow!(
                "{addr} is pinned as master (--pin-master) and as replica (--pin-replica): leave one out"
            ))),
            None => Ok(()),
        }
    }
}

/// Whether no node was named by two of its addresses; the planner tells which.
fn has_no_twins(recruits: &[NewNode]) -> bool {
    let ids: BTreeSet<NodeId> = recruits.iter().map(NewNode::id).collect();
    ids.len() == recruits.len()
}

/// Refuses nodes that are one whole cluster, in one sentence instead of one for each.
fn already_one_cluster(recruits: &[NewNode]) -> Option<Stop> {
    let named: BTreeSet<NodeId> = recruits.iter().map(NewNode::id).collect();
    let mut slots = SlotSet::new();
    let mut keys = 0;
    for recruit in recruits {
        let view = &recruit.report.view;
        let known: BTreeSet<NodeId> = view.entries().map(|entry| entry.id).collect();
        if known != named {
            return None;
        }
        slots = slots.union(&view.myself().slots.iter().copied().collect());
        // Replicas have copies.
        keys += match view.myself().master {
            None => recruit.keys(),
            Some(_) => 0,
        };
    }
    let lead = &recruits.first()?.target.addr;
    (slots == SlotSet::full()).then(|| {
        refusal(&[format!(
            "these {} nodes form a cluster already, with {}: create makes a new one of empty nodes \
             (redis-trib check {lead} shows the old one; with --if-needed, create leaves it as it is)",
            recruits.len(),
            counted(keys),
        )])
    })
}

async fn consent(ui: &Ui, nodes: usize) -> Result<(), Stop> {
    let about = format!("A new cluster of {nodes} nodes.");
    crate::change::legacy::consent(ui, "Can I set the above configuration?", &about).await
}

/// A cluster about to be made.
struct Job {
    session: Session,
    recruits: Vec<NewNode>,
    draft: CreatePlan,
}

/// How far it was made.
enum Made {
    /// All agree about slots and roles.
    Agreed,
    /// It serves, and looks like this.
    Usable(Box<Diagnosis>),
}

/// Why it was not made to its end.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error(transparent)]
    ExecuteError(#[from] ExecuteError),
    #[error(transparent)]
    Late(#[from] NotInTime),
    #[error(transparent)]
    Unseen(#[from] DiscoverError),
    #[error("interrupted ({0})")]
    Signal(&'static str),
}

impl Job {
    async fn run(self, ui: &Ui, args: &Args, mut signals: Signals) -> CommandResult {
        let (events, mut told) = mpsc::unbounded_channel();
        let tally = Arc::new(StepCounts::default());
        let show = async {
            while let Some(event) = told.recv().await {
                ui.event(&event);
            }
        };
        let started = Instant::now();
        let work = self.carry_out(args, events, Arc::clone(&tally));
        let outcome = tokio::select! {
            biased;
            (outcome, ()) = async { tokio::join!(work, show) } => outcome,
            signal = signals.next() => Err(Cut::Signal(signal)),
        };
        let took = started.elapsed();
        match outcome {
            Err(cut) => return Err(self.with_way_out(&cut, &tally)),
            Ok(Made::Agreed) => {
                ui.agreed(self.recruits.len(), took, &self.recruits[0].target.addr)?;
            }
            Ok(Made::Usable(diagnosis)) if !diagnosis.is_healthy() => {
                return Err(unhealthy(&diagnosis));
            }
            Ok(Made::Usable(diagnosis)) if tally.has_begun() => ui.created(&diagnosis, took)?,
            Ok(Made::Usable(diagnosis)) => ui.already(&diagnosis)?,
        }
        Ok(ExitCode::Done)
    }

    async fn carry_out(
        &self,
        args: &Args,
        events: mpsc::UnboundedSender<Event>,
        tally: Arc<StepCounts>,
    ) -> Result<Made, Cut> {
        let connections = Arc::clone(&self.session.connections);
        // Those that nobody can be told about are left out; `misfits` has refused them.
        let participants = self.recruits.iter().filter_map(NewNode::participant);
        let participants = Arc::new(
            participants
                .map(|participant| (participant.id, participant))
                .collect(),
        );
        let goal = Arc::new(self.draft.goal());
        let watch = Watch {
            connections: Arc::clone(&connections),
            participants: Arc::clone(&participants),
            events: events.clone(),
            deadline: Instant::now() + args.join_timeout,
            within: args.join_timeout,
            nudged: Arc::default(),
            absent: Arc::default(),
        };
        let execution = Execution {
            connections,
            participants,
            absent: Arc::default(),
            events,
            tally,
        };
        let (joining, following) = self.draft.progress.rest.split_at_replicas();
        execution.run(&joining).await?;
        watch.join().await?;
        execution.run(&following).await?;
        watch.agree(&goal).await?;
        if args.no_wait {
            return Ok(Made::Agreed);
        }
        watch.usable(&goal).await?;
        let targets = self.session.targets();
        let observation = discover::observe(&self.session.connections, &targets).await?;
        let diagnosis = Diagnosis::of(observation, &Background::default());
        Ok(Made::Usable(Box::new(diagnosis)))
    }

    /// What is done, and how to go on or back.
    fn with_way_out(&self, cut: &Cut, tally: &StepCounts) -> Stop {
        let before = self.draft.progress.done;
        let left = self.draft.progress.rest.len();
        let code = match cut {
            Cut::Signal(_) => ExitCode::Interrupted,
            _ if tally.has_begun() || left == 0 => ExitCode::Partial,
            _ => ExitCode::Refused,
        };
        if before == 0 && !tally.has_begun() {
            return Stop::new(code, anyhow!("{cut}\nNothing was changed."));
        }
        let (done, all) = (before + tally.done(), before + left);
        let unknown = match tally.unknown() {
            0 => String::new(),
            1 => ", one more may be".to_string(),
            many => format!(", {many} more may be"),
        };
        let how_far = if done < all {
            format!(
                "{done} of {all} steps are done{unknown}. The same command again finishes the work"
            )
        } else {
            format!("All {all} steps are done. The same command again waits for what is missing")
        };
        let undo = self.undo().join("\n");
        Stop::new(
            code,
            anyhow!("{cut}\n{how_far}; these take it back:\n{undo}"),
        )
    }

    fn undo(&self) -> Vec<String> {
        let reset = |recruit: &NewNode| {
            let NewNode { target, .. } = recruit;
            let (host, port) = (target.addr.host(), target.addr.port());
            let tls = match target.access.transport {
                Transport::Plain => "",
                Transport::Tls(_) => " --tls",
            };
            let user = match &target.access.login.user {
                Some(user) => format!(" --user {user}"),
                None => String::new(),
            };
            format!("  redis-cli -h {host} -p {port}{tls}{user} CLUSTER RESET")
        };
        self.recruits.iter().map(reset).collect()
    }
}

fn unhealthy(diagnosis: &Diagnosis) -> Stop {
    let errors: Vec<String> = diagnosis
        .findings
        .iter()
        .filter(|finding| finding.severity() == Severity::Error)
        .map(|finding| format!("\n  {}: {}", finding.code, finding.message))
        .collect();
    Stop::partial(anyhow!(
        "the cluster is made, but not healthy:{}",
        errors.concat()
    ))
}
