//! `redis-trib replace-node NODE OLD-ID NEW`: a new node takes an old one's place.
//!
//! Each step can be seen from outside once it is done: whom the new node follows, who owns the slots,
//! whether anybody knows the old one. So a run that was cut off is finished by the same command.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::args::values::duration;
use crate::args::values::node_words;
use crate::change::Global;
use crate::change::credentials::Credentials;
use crate::change::legacy::Access;
use crate::change::legacy::Signals;
use crate::cluster::naming::NoSuchNode;
use crate::cluster::node::{NodeId, Role, Takeover};
use crate::cluster::topology::Member;
use crate::converge::{Goal, Heard, Watch};
use crate::exit_code::ExitCode;
use crate::ops::failover::FailoverPlan;
use crate::ops::join::inspect::{NewNode, recruit};
use crate::ops::join::zones::ZoneArgs;
use crate::ops::join::{
    Allowed, GoOn, JoinCandidate, JoinPlan, JoinTarget, Joining, Part, Until, judge,
};
use crate::ops::leave::{Afterwards, leave, silent_members};
use crate::seed::Seed;
use crate::session::{LockHeld, Session};
use crate::state::{ClusterState, name};
use crate::stop::{CommandResult, Stop};
use crate::ui::{Before, NodeName, ReplaceStep, ReplaceView, Ui, standing_words};

/// Arguments of `replace-node`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib replace-node 10.0.0.3 69a0bef4 10.0.0.13:6379   # a master or a replica, dead or alive\n  \
    redis-trib replace-node 10.0.0.3 10.0.0.4:6379 10.0.0.13 --dry-run")]
pub struct Args {
    /// A node of the cluster, as host:port.
    #[arg(value_name = "NODE")]
    node: String,
    /// The node that goes, by id, the beginning of one, or address.
    #[arg(value_name = "OLD-ID")]
    old: String,
    /// The node that comes, empty and in no cluster.
    #[arg(value_name = "NEW")]
    new: Seed,
    /// Where the new node holds no keys, and its old cluster is gone, it forgets that cluster.
    #[arg(long, conflicts_with = "reset_hard_and_flush")]
    reset: bool,
    /// The new node LOSES ALL ITS KEYS, its old cluster and its id.
    #[arg(long)]
    reset_hard_and_flush: bool,
    /// Don't ask.
    #[arg(short, long)]
    yes: bool,
    /// Show what would be done, and stop.
    #[arg(long)]
    dry_run: bool,
    /// How long the new node may take to join, and all to agree after it has taken over.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    join_timeout: Duration,
    /// How long the new node may take to get its copy.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    sync_timeout: Duration,
    #[command(flatten)]
    zones: ZoneArgs,
}

/// Replaces a node.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let outcome = replace(global, ui, &args).await;
    if let Err(stop) = &outcome {
        ui.stopped(stop.code, &stop.error)?;
    }
    outcome
}

async fn replace(global: &Global, ui: &Ui, args: &Args) -> CommandResult {
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

/// What is left to do, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ReplaceRoute {
    /// How the new node joins; `None` where it has.
    joins: Option<Part>,
    /// Whose copy it gets.
    follows: Option<NodeId>,
    takes_over: bool,
}

/// A replacement about to be made.
struct Job {
    session: Session,
    home: JoinTarget,
    old: NodeId,
    new: NewNode,
    before: Before,
    /// What `judge` made of the new node, where it is still to join.
    candidate: Option<JoinCandidate>,
    way: ReplaceRoute,
}

/// Everything up to the first change; `None` where there is nothing to do.
async fn prepare(global: &Global, ui: &Ui, args: &Args) -> Result<Option<Job>, Stop> {
    let existing = node_words(std::slice::from_ref(&args.node))?;
    let intent = match args.dry_run {
        true => Access::Read,
        false => Access::Change("replace-node"),
    };
    let all = [args.new.clone(), existing.clone()];
    let credentials = Credentials::read(&global.args, ui, &all).await?;
    let new = std::slice::from_ref(&args.new);
    let newly = crate::change::legacy::with(&credentials, global, new, intent).await?;
    if newly.seeds.iter().any(|set| set.is_many()) {
        return Err(Stop::refused(anyhow!(
            "{} stands for several nodes: name the one that comes by its address; nothing was changed",
            args.new.addr
        )));
    }
    let session =
        crate::change::legacy::with_seeds(&newly, &credentials, global, &[existing]).await?;
    let mut home = JoinTarget::visit(&session, ui).await?;
    let everybody = [home.targets(), newly.targets()].concat();
    if !args.dry_run && session.lock(&everybody).await? == LockHeld::AfterWaiting {
        home = JoinTarget::visit(&session, ui).await?;
    }
    let recruits = recruit(global, ui, &newly)
        .await
        .map_err(|stop| match stop.code {
            ExitCode::Unreachable => Stop::refused(stop.error.context("nothing was changed")),
            _ => stop,
        })?;
    let Some(found) = find_old(ui, &home, args, &recruits)? else {
        return Ok(None);
    };
    let mut job = Job::of(session, &newly, home, found, recruits, args).await?;
    ui.replacing(&job.view())?;
    if args.dry_run {
        ui.done(ExitCode::Done, "Dry run: nothing was changed.")?;
        return Ok(None);
    }
    if !args.yes {
        let about = format!(
            "The cluster of {} nodes that {} belongs to.",
            job.home.cluster.diagnosis.topology.members.len(),
            job.home.cluster.seed()
        );
        crate::change::legacy::consent(ui, "Replace it?", &about).await?;
        // People take their time.
        if job.session.lock(&everybody).await? == LockHeld::AfterWaiting {
            return Err(Stop::refused(anyhow!(
                "another redis-trib was at work on this cluster meanwhile: look again; nothing was \
                 changed"
            )));
        }
        let way = job.way;
        job.home = JoinTarget::visit(&job.session, ui).await?;
        job.way = ReplaceRoute::of(&job.home, job.old, &job.new)?;
        if job.way != way {
            return Err(Stop::refused(anyhow!(
                "the cluster is another than it was when the plan was shown: look again; nothing was \
                 changed"
            )));
        }
    }
    Ok(Some(job))
}

/// The old node; `None` where it is gone already, and the new one is there.
fn find_old(
    ui: &Ui,
    home: &JoinTarget,
    args: &Args,
    recruits: &[NewNode],
) -> Result<Option<NodeId>, Stop> {
    let observation = &home.cluster.diagnosis.observation;
    match observation.find(&args.old) {
        Ok(id) => Ok(Some(id)),
        // An id in full can't be a typing error for another.
        Err(NoSuchNode::Unknown(_)) if args.old.parse::<NodeId>().is_ok() => {
            let new = recruits.iter().find(|new| home.member(new.id()).is_some());
            let Some(new) = new else {
                return Err(Stop::refused(anyhow!(
                    "nobody knows {}: it is no node of this cluster; nothing was changed",
                    args.old
                )));
            };
            let message = format!(
                "{} is a member, and nobody knows {} any more: nothing to do.",
                new.name(),
                args.old
            );
            ui.done(ExitCode::Done, &message)?;
            Ok(None)
        }
        Err(error) => Err(Stop::refused(error)),
    }
}

impl ReplaceRoute {
    /// What is left to do, by what the cluster shows.
    fn of(home: &JoinTarget, old: NodeId, new: &NewNode) -> Result<Self, Stop> {
        let refuse = |why: String| Err(Stop::refused(anyhow!("{why}; nothing was changed")));
        let cluster = &home.cluster;
        let topology = &cluster.diagnosis.topology;
        let Some(member) = home.member(old) else {
            return refuse(format!("{} is no member", cluster.name(old)));
        };
        if new.id() == old {
            return refuse(format!("{} can't replace itself", cluster.name(old)));
        }
        let is_dead = |member: &Member| member.peer_status.silent;
        let joined = home.member(new.id());
        // Forgotten by some members and not by others: it has handed over, and was on its way out.
        let half_out = is_dead(member)
            && member.slots.is_empty()
            && member.peer_status.known < member.peer_status.asked;
        if half_out && joined.is_some_and(|joined| !joined.slots.is_empty()) {
            return Ok(Self {
                joins: None,
                follows: None,
                takes_over: false,
            });
        }
        let master = member.master.and_then(|id| home.member(id));
        let place = match (member.role, master) {
            // It has taken over already.
            (Role::Replica, Some(master)) if master.id == new.id() => {
                return Ok(Self {
                    joins: None,
                    follows: None,
                    takes_over: false,
                });
            }
            (Role::Replica, Some(master)) if !is_dead(master) => Part::ReplicasOf(master.id),
            (Role::Replica, _) => Part::Replicas,
            (Role::Master, _) if !member.slots.is_empty() && is_dead(member) => {
                return refuse(format!(
                    "{} owns slots and does not answer: its replica must take over first \
                     (redis-trib failover {} {} --force)",
                    cluster.name(old),
                    cluster.resume_seed(),
                    old.short()
                ));
            }
            (Role::Master, _) if !member.slots.is_empty() => Part::ReplicasOf(old),
            // Its slots are its successor's, who has lost a replica by that.
            (Role::Master, _) if is_dead(member) => Part::Replicas,
            (Role::Master, _) if topology.replicas_of(old).next().is_some() => {
                return refuse(format!(
                    "{} owns no slots, but replicas follow it: give it slots first, or take it out \
                     with its replicas (redis-trib del-node)",
                    cluster.name(old)
                ));
            }
            (Role::Master, _) => Part::Masters,
        };
        let takes_over = place == Part::ReplicasOf(old);
        let joins = match (joined, place) {
            (None, _) => Some(place),
            (Some(joined), Part::ReplicasOf(master)) if joined.master == Some(master) => None,
            (Some(joined), Part::Replicas) if joined.role == Role::Replica => None,
            (Some(joined), Part::Masters)
                if joined.role == Role::Master && joined.slots.is_empty() =>
            {
                None
            }
            // Met, and cut off before it was told whom to follow: `judge` tells.
            (Some(joined), _) if joined.role == Role::Master && joined.slots.is_empty() => {
                Some(place)
            }
            (Some(_), _) => {
                return refuse(format!(
                    "{} is a member of this cluster already, elsewhere: failover and del-node replace \
                     a node by another member",
                    new.name()
                ));
            }
        };
        let follows = match (place, joined) {
            (Part::ReplicasOf(master), _) => Some(master),
            (_, Some(joined)) => joined.master,
            _ => None,
        };
        Ok(Self {
            joins,
            follows,
            takes_over,
        })
    }
}

impl Job {
    async fn of(
        session: Session,
        newly: &Session,
        home: JoinTarget,
        old: NodeId,
        recruits: Vec<NewNode>,
        args: &Args,
    ) -> Result<Self, Stop> {
        let none = || Stop::refused(anyhow!("{} stands for no node", args.new.addr));
        let new = recruits.first().cloned().ok_or_else(none)?;
        let mut way = ReplaceRoute::of(&home, old, &new)?;
        let Some(part) = way.joins else {
            return Ok(Self {
                session,
                home,
                old,
                new,
                before: Before::Nothing,
                candidate: None,
                way,
            });
        };
        let allowed = match (args.reset, args.reset_hard_and_flush) {
            (_, true) => Allowed::HardAndFlush,
            (true, false) => Allowed::Reset,
            (false, false) => Allowed::Nothing,
        };
        let judged = judge(newly, &home, recruits, part.role(), allowed).await?;
        let candidate = judged.nodes.into_iter().next().ok_or_else(none)?;
        let candidates = std::slice::from_ref(&candidate);
        let draft = JoinPlan::of(&session, &home, candidates, part, &args.zones).await?;
        way.follows = draft.masters.get(&new.id()).copied();
        Ok(Self {
            session,
            home,
            old,
            new,
            before: candidate.before,
            candidate: Some(candidate),
            way,
        })
    }

    fn view(&self) -> ReplaceView {
        let diagnosis = &self.home.cluster.diagnosis;
        let member = self.home.member(self.old);
        let answers = member.is_some_and(|member| !member.peer_status.silent);
        let master = member.and_then(|member| member.master);
        let master = master.map(|id| name(diagnosis, id));
        let mut steps = Vec::new();
        match (self.way.joins, self.way.follows) {
            (Some(_), Some(master)) => {
                steps.push(ReplaceStep::Follows(name(diagnosis, master)));
            }
            (Some(_), None) => steps.push(ReplaceStep::Joins),
            (None, _) => {}
        }
        if self.way.takes_over {
            steps.push(ReplaceStep::TakesOver);
        }
        steps.push(ReplaceStep::Leaves);
        ReplaceView {
            old: name(diagnosis, self.old),
            what: standing_words(
                member.map_or(0, |member| member.slots.count()),
                master.as_ref(),
                answers,
            ),
            answers,
            new: NodeName {
                id: self.new.id(),
                addr: self.new.target.addr.clone(),
                zone: None,
            },
            before: self.before,
            steps,
        }
    }

    async fn run(mut self, ui: &Ui, args: &Args, mut signals: Signals) -> CommandResult {
        let mut new = self.new.id();
        if let (Some(part), Some(candidate)) = (self.way.joins, self.candidate.take()) {
            let joining = Joining {
                session: &self.session,
                home: &self.home,
                candidates: vec![candidate],
                part,
                zones: &args.zones,
                within: args.join_timeout,
                until: match self.way.follows {
                    // The copy has a deadline of its own.
                    Some(_) => Until::Agreed,
                    None => Until::Usable,
                },
                afterwards: GoOn::ResumeFlags,
            };
            let joined = joining.run(ui, &mut signals).await?;
            new = joined.first().copied().unwrap_or(new);
            ui.added(1)?;
        }
        let rest = async {
            if self.way.follows.is_some() {
                self.copied(ui, new, args.sync_timeout).await?;
            }
            if self.way.takes_over {
                self.take_over(ui, new, args.join_timeout).await?;
            }
            Ok::<(), Stop>(())
        };
        tokio::select! {
            biased;
            done = rest => done?,
            signal = signals.next() => {
                return Err(Stop::interrupted(anyhow!(
                    "interrupted ({signal}): {} is a member, and {} is not out of the cluster yet. The \
                     same command again goes on",
                    self.new.target.addr,
                    self.home.cluster.name(self.old)
                )));
            }
        }
        drop(signals);
        self.let_go(ui, new).await
    }

    /// Waits until the new node has its copy.
    async fn copied(&self, ui: &Ui, new: NodeId, within: Duration) -> Result<(), Stop> {
        let cluster = again(ClusterState::look(&self.session).await)?;
        let Some(master) = cluster
            .diagnosis
            .topology
            .members
            .get(&new)
            .and_then(|m| m.master)
        else {
            return Err(Stop::partial(anyhow!(
                "{} follows nobody any more: somebody else is at work on it. The same command again \
                 goes on",
                cluster.name(new)
            )));
        };
        let (mut participants, absent) = cluster.participants(&self.session).await?;
        participants.retain(|id, _| *id == new);
        let (events, mut told) = mpsc::unbounded_channel();
        let goal = Arc::new(Goal {
            slots: Default::default(),
            masters: [(new, master)].into(),
            heard: Heard::ByTheirMasters,
        });
        let watch = Watch {
            connections: Arc::clone(&self.session.connections),
            participants: Arc::new(participants),
            absent: Arc::new(absent),
            events,
            deadline: Instant::now() + within,
            within,
            nudged: Arc::default(),
        };
        let work = async {
            let watch = watch;
            watch.usable(&goal).await
        };
        let show = async {
            while let Some(event) = told.recv().await {
                ui.event(&event);
            }
        };
        let (copied, ()) = tokio::join!(work, show);
        copied.map_err(|late| {
            Stop::partial(anyhow!(
                "{late}\n--sync-timeout waits longer. The same command again goes on"
            ))
        })
    }

    /// The new node takes over from the old one.
    async fn take_over(&self, ui: &Ui, new: NodeId, within: Duration) -> Result<(), Stop> {
        let cluster = again(ClusterState::settled(&self.session).await)?;
        let succession = again(FailoverPlan::of(&cluster, new, Takeover::Planned))?;
        if succession.master != self.old {
            // Somebody was elected meanwhile, and that one need not be replaced.
            return Err(Stop::partial(anyhow!(
                "{} follows {} now, since {} has lost its role: it is not taken over from. The same \
                 command again goes on",
                cluster.name(new),
                cluster.name(succession.master),
                cluster.name(self.old)
            )));
        }
        let (events, mut told) = mpsc::unbounded_channel();
        let show = async {
            while let Some(event) = told.recv().await {
                ui.event(&event);
            }
        };
        let work = succession.carry_out(&self.session, &cluster, ui, events, within);
        let (outcome, ()) = tokio::join!(work, show);
        match outcome {
            Ok(succeeded) => Ok(ui.succeeded(&succeeded)?),
            Err(failed) => Err(Stop::partial(anyhow!(
                "{failed}\n{} is a member, and {} is not out of the cluster yet. The same command \
                 again goes on",
                cluster.name(new),
                cluster.name(self.old)
            ))),
        }
    }

    /// The old one leaves, once nothing depends on it any more.
    async fn let_go(&self, ui: &Ui, new: NodeId) -> CommandResult {
        let cluster = again(ClusterState::settled(&self.session).await)?;
        let old = cluster.name(self.old);
        let topology = &cluster.diagnosis.topology;
        if let Some(member) = topology.members.get(&self.old) {
            let followed = topology.replicas_of(self.old).next().is_some();
            if !member.slots.is_empty() || followed {
                return Err(Stop::partial(anyhow!(
                    "{old} owns slots again, or is followed: somebody else is at work on it. The same \
                     command again goes on"
                )));
            }
        }
        let leaving = [self.old].into();
        let (silent, dead) = silent_members(&cluster, &leaving);
        if !silent.is_empty() {
            return Err(Stop::partial(anyhow!(
                "{} is in its place, but {old} is not out of the cluster yet: these members do not answer, \
                 and would bring it back: {}\nThe same command again goes on, once they do",
                cluster.name(new),
                silent.join(", ")
            )));
        }
        if !dead.is_empty() {
            ui.warn(&format!(
                "{} can't be told: should they ever come back, redis-trib del-node {} {} makes them \
                 forget {old}",
                dead.join(", "),
                cluster.resume_seed(),
                self.old
            ));
        }
        let left = crate::change::legacy::shown(ui, &self.session, async |session| {
            leave(session, &cluster, &leaving, Afterwards::Run).await
        });
        let left = left.await;
        if !left.troubles.is_empty() {
            return Err(Stop::partial(anyhow!(
                "{} is in its place, but {old} is not out of the cluster yet:\n  {}\nThe same command \
                 again goes on",
                cluster.name(new),
                left.troubles.join("\n  ")
            )));
        }
        let message = format!("[OK] {} has taken the place of {old}.", cluster.name(new));
        ui.done(ExitCode::Done, &message)?;
        Ok(ExitCode::Done)
    }
}

/// What would be a refusal comes half-way here.
fn again<T>(outcome: Result<T, Stop>) -> Result<T, Stop> {
    outcome.map_err(|stop| match stop.code {
        ExitCode::Refused | ExitCode::Unreachable => Stop::partial(anyhow!(
            "{:#}\nThe new node has joined; the same command again goes on",
            stop.error
        )),
        _ => stop,
    })
}
