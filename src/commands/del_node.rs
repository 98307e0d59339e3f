//! `redis-trib del-node NODE ID…`: nodes leave a cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::Instant;

use crate::args::moves::MoveArgs;
use crate::change::Global;
use crate::change::legacy::Access;
use crate::change::legacy::{Signals, shown};
use crate::cluster::health::Severity;
use crate::cluster::node::{NodeId, Role};
use crate::connections::Target;
use crate::converge::copied;
use crate::converge::poll::Polled;
use crate::exit_code::ExitCode;
use crate::ops::leave::drain::{ReplicaMigrationGuard, give};
use crate::ops::leave::request::{command_again, named, refusals, request, stale_owners};
use crate::ops::leave::{Afterwards, leave, refuse_unwilling, silent_members};
use crate::ops::move_slots::{self, Finished};
use crate::plan::leave::{self as planner, Leave, OwnedSlots, Refusal, Request};
use crate::seed::Seed;
use crate::session::{LockHeld, Session};
use crate::state::ClusterState;
use crate::stop::{CommandResult, Stop};
use crate::ui::{LeaveView, LeavingNode, Ui};

/// Arguments of `del-node`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The other members forget the nodes (CLUSTER FORGET), the nodes forget them (CLUSTER \
    RESET HARD, which\ndeletes a replica's copy and gives the node a new id), and the others forget \
    them once more.\nA del-node that was cut off is finished by the same command.\n\nExamples:\n  \
    redis-trib del-node 10.0.0.3 8fabdaed                   # a replica, or a master without slots\n  \
    redis-trib del-node 10.0.0.3 8fabdaed --drain           # its slots move to the others first\n  \
    redis-trib del-node 10.0.0.3 8fabdaed 77d2bd92 --yes    # dead ones too, several at once"
)]
pub struct Args {
    /// A node of the cluster; it may be one of those that leave.
    #[arg(value_name = "NODE")]
    pub(crate) node: Seed,
    /// The nodes that leave: ids, beginnings of ids, or addresses.
    #[arg(required = true, num_args = 1.., value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Move the slots of masters to the masters that stay, evenly, before they leave.
    #[arg(long)]
    pub(crate) drain: bool,
    /// This replica may leave though it is its master's last copy in sync (repeatable).
    #[arg(long, value_name = "ID")]
    pub(crate) leave_unprotected: Vec<String>,
    /// Shut the servers down when they have left.
    #[arg(long)]
    pub(crate) shutdown: bool,
    /// Wait until nodes may be taken in again (60 s), and see that nobody does.
    #[arg(long)]
    pub(crate) verify_after_ban: bool,
    #[command(flatten)]
    pub(crate) moving: MoveArgs,
}

/// For how long members don't take a forgotten node back (all versions), and a little more.
const BAN: Duration = Duration::from_secs(62);

/// How long replicas that got other masters may take to have their copy; it goes on without us.
const COPIES_WITHIN: Duration = Duration::from_secs(60);

/// Makes nodes leave.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let outcome = delete(global, ui, &args).await;
    if let Err(stop) = &outcome {
        ui.stopped(stop.code, &stop.error)?;
    }
    outcome
}

async fn delete(global: &Global, ui: &Ui, args: &Args) -> CommandResult {
    let intent = match args.moving.dry_run {
        true => Access::Read,
        false => Access::Change("del-node"),
    };
    let session =
        crate::change::legacy::open(global, ui, std::slice::from_ref(&args.node), intent).await?;
    let mut cluster = ClusterState::settled(&session).await?;
    let (mut leaving, apart) = named(&session, &cluster, &args.ids).await?;
    if !apart.is_empty() {
        let mut targets = session.targets();
        targets.extend(apart);
        cluster = ClusterState::look_from(&session, &targets).await?;
        (leaving, _) = named(&session, &cluster, &args.ids).await?;
    }
    if args.drain && is_open(&cluster, &leaving) {
        let finished = move_slots::finish_open(&session, ui, &args.moving).await?;
        if finished == Finished::OnlyShown {
            return Ok(ExitCode::Done);
        }
        cluster = ClusterState::settled(&session).await?;
    }
    let cluster = move_slots::at_rest(&session, ui, &args.moving, cluster).await?;
    let job = Job {
        session: &session,
        ui,
        args,
        leaving: &leaving,
    };
    let (mut request, plan) = job.plan(&cluster).await?;
    job.refuse_unhealthy(&cluster, &plan)?;
    job.show(&cluster, &plan).await?;
    if args.moving.dry_run {
        ui.done(ExitCode::Done, "Dry run: nothing was changed.")?;
        return Ok(ExitCode::Done);
    }
    job.consent(&cluster).await?;
    refuse_unwilling(&session, &cluster, &leaving).await?;
    job.drain(&cluster, &plan).await?;
    // What is drained is nobody's copy, should it have become a replica of those who got its slots.
    request
        .unprotected
        .extend(plan.moves().moves().map(|one| one.from));
    let cluster = job.give_rest(&cluster, &request, &plan).await?;
    job.leave(&cluster).await?;
    job.wait_for_copies(&cluster, &plan).await?;
    let members = cluster.diagnosis.topology.members.keys();
    let stay = members.filter(|id| !leaving.contains(id)).count();
    let (left, have) = match leaving.len() {
        1 => ("1 node".to_string(), "has"),
        many => (format!("{many} nodes"), "have"),
    };
    ui.done(
        ExitCode::Done,
        &format!("[OK] {left} {have} left the cluster; {stay} stay."),
    )?;
    Ok(ExitCode::Done)
}

/// Nobody answers any more, but something was changed before.
fn begun(stop: Stop) -> Stop {
    match stop.code {
        ExitCode::Unreachable => Stop::partial(stop.error),
        _ => stop,
    }
}

/// Whether slots are open between one of them and somebody.
fn is_open(cluster: &ClusterState, leaving: &BTreeSet<NodeId>) -> bool {
    let mut open = cluster.diagnosis.topology.open_slots();
    open.any(|(member, open)| leaving.contains(&member.id) || leaving.contains(&open.peer))
}

struct Job<'a> {
    session: &'a Session,
    ui: &'a Ui,
    args: &'a Args,
    leaving: &'a BTreeSet<NodeId>,
}

impl Job<'_> {
    /// What is to be done. On a terminal a person may say that slots shall be moved first.
    async fn plan(&self, cluster: &ClusterState) -> Result<(Request, Leave), Stop> {
        let args = self.args;
        let slots = match args.drain {
            true => OwnedSlots::Drain,
            false => OwnedSlots::Refuse,
        };
        let mut request = request(cluster, self.leaving, slots, &args.leave_unprotected)?;
        let mut planned = planner::leave(&request);
        let only_slots = |refusals: &[Refusal]| {
            let of_slots = |refusal: &Refusal| matches!(refusal, Refusal::OwnsSlots { .. });
            refusals.iter().all(of_slots)
        };
        if let Err(found) = &planned
            && only_slots(found)
            && self.ui.can_ask()
            && !args.moving.yes
            && !args.moving.dry_run
        {
            self.ui.warn(&refusals(cluster, found, &args.ids));
            let question = "Shall these slots be moved to the other masters first?";
            crate::change::legacy::consent(self.ui, question, &self.about(cluster)).await?;
            request.slots = OwnedSlots::Drain;
            planned = planner::leave(&request);
        }
        match planned {
            Ok(plan) => Ok((request, plan)),
            Err(found) => {
                let text = refusals(cluster, &found, &args.ids);
                Err(Stop::refused(anyhow!("{text}\nNothing was changed.")))
            }
        }
    }

    /// Members that can't be told would bring the nodes back; slots move between healthy nodes only.
    fn refuse_unhealthy(&self, cluster: &ClusterState, plan: &Leave) -> Result<(), Stop> {
        let (silent, dead) = silent_members(cluster, self.leaving);
        if !silent.is_empty() {
            return Err(Stop::refused(anyhow!(
                "these members do not answer, and would bring the nodes back: {}\nWait until they do, \
                 or name them too, so that they leave as well; nothing was changed",
                silent.join(", ")
            )));
        }
        if !dead.is_empty() {
            self.ui.warn(&format!(
                "{} can't be told: should they ever come back, the same command once more makes them \
                 forget the nodes (or name them too)",
                dead.join(", ")
            ));
        }
        if let Some(why) = stale_owners(cluster, self.leaving) {
            return Err(Stop::refused(anyhow!("{why}; nothing was changed")));
        }
        if plan.drain.is_empty() && plan.last.is_empty() {
            return Ok(());
        }
        let errors: Vec<String> = cluster
            .diagnosis
            .findings
            .iter()
            .filter(|finding| finding.severity() == Severity::Error)
            // What leaves may be ill.
            .filter(|finding| {
                finding.nodes.is_empty()
                    || finding.nodes.iter().any(|id| !self.leaving.contains(id))
            })
            .map(|finding| format!("\n  {}: {}", finding.code, finding.message))
            .collect();
        if errors.is_empty() {
            return Ok(());
        }
        Err(Stop::refused(anyhow!(
            "the cluster is not healthy, and slots move between healthy nodes only:{}",
            errors.concat()
        )))
    }

    fn about(&self, cluster: &ClusterState) -> String {
        format!(
            "The cluster of {} nodes that {} belongs to.",
            cluster.diagnosis.topology.members.len(),
            cluster.name(cluster.diagnosis.observation.lead)
        )
    }

    async fn show(&self, cluster: &ClusterState, plan: &Leave) -> Result<(), Stop> {
        let moves = plan.moves();
        if !moves.is_empty() {
            move_slots::present_drain(self.session, self.ui, &self.args.moving, cluster, &moves)
                .await?;
        }
        let diagnosis = &cluster.diagnosis;
        let members = diagnosis.topology.reading_order().into_iter();
        let leavers = members.filter(|member| self.leaving.contains(&member.id));
        let given = plan.given.iter().map(|one| {
            (
                crate::state::name(diagnosis, one.replica),
                crate::state::name(diagnosis, one.to),
            )
        });
        self.ui.leaving(&LeaveView {
            lead: cluster.seed(),
            leavers: leavers
                .map(|member| LeavingNode {
                    node: crate::state::name(diagnosis, member.id),
                    slots: member.slots.count(),
                    answers: !member.peer_status.silent,
                })
                .collect(),
            given: given.collect(),
        })?;
        let owners = diagnosis.topology.masters();
        let owners = owners.filter(|m| !m.slots.is_empty() && !self.leaving.contains(&m.id));
        if !moves.is_empty() && owners.count() < 3 {
            self.ui.warn(
                "fewer than three masters with slots stay: when one of them dies, the others can't \
                 elect its successor",
            );
        }
        Ok(())
    }

    async fn consent(&self, cluster: &ClusterState) -> Result<(), Stop> {
        if !self.args.moving.yes {
            let question = match self.leaving.len() {
                1 => "Remove it from the cluster?".to_string(),
                many => format!("Remove these {many} nodes from the cluster?"),
            };
            crate::change::legacy::consent(self.ui, &question, &self.about(cluster)).await?;
        }
        let masters = cluster.diagnosis.topology.masters();
        let answering = masters.filter(|master| !master.peer_status.silent);
        let targets = answering.filter_map(|master| cluster.reach.get(&master.id));
        if self.session.refuse_others(targets).await? == LockHeld::AfterWaiting {
            return Err(Stop::refused(anyhow!(
                "another redis-trib was at work until now: the plan may not fit any more; try again"
            )));
        }
        Ok(())
    }

    /// Moves slots away and gives replicas away. Masters keep their role, and what they kept of
    /// their settings is put back, also when this is interrupted.
    async fn drain(&self, cluster: &ClusterState, plan: &Leave) -> Result<(), Stop> {
        let (session, ui, moving) = (self.session, self.ui, &self.args.moving);
        if plan.drain.is_empty() && plan.last.is_empty() {
            return Ok(());
        }
        let hold = ReplicaMigrationGuard::of(session, cluster, self.leaving).await;
        let work = async {
            if !plan.drain.is_empty() {
                move_slots::drain(session, ui, moving, cluster, &plan.drain).await?;
            }
            if !plan.given.is_empty() {
                give(session, ui, cluster, &plan.given).await?;
            }
            if !plan.last.is_empty() {
                let now = ClusterState::look(session).await?;
                let drained = move_slots::drain(session, ui, moving, &now, &plan.last).await;
                drained.map_err(|stop| match stop.code {
                    // The others have moved already.
                    ExitCode::Refused => Stop::partial(stop.error),
                    _ => stop,
                })?;
            }
            Ok(())
        };
        let outcome: Result<(), Stop> = work.await;
        hold.release(ui).await;
        // A person may have said so at the question.
        let drain = if self.args.drain { "" } else { " --drain" };
        outcome.map_err(begun).map_err(|stop| Stop {
            code: stop.code,
            error: anyhow!(
                "{}\nOr, which finishes all of it:\n  {}{drain}",
                stop.error,
                self.again(cluster)
            ),
        })
    }

    /// Replicas of masters that had no slots to drain, and whoever came to follow one meanwhile; what
    /// was seen last. What has become of the cluster since the plan is judged once more.
    async fn give_rest(
        &self,
        cluster: &ClusterState,
        request: &Request,
        plan: &Leave,
    ) -> Result<ClusterState, Stop> {
        const ATTEMPTS: usize = 3;
        let partial = |why: String| {
            let begun = !plan.moves().is_empty() || !plan.given.is_empty();
            let code = match begun {
                true => ExitCode::Partial,
                false => ExitCode::Refused,
            };
            let error = anyhow!("{why}\nTo go on:\n  {}", self.again(cluster));
            Stop { code, error }
        };
        for _ in 0..ATTEMPTS {
            let targets = self.all_targets(cluster);
            let now = ClusterState::look_from(self.session, &targets).await;
            let now = now.map_err(|stop| partial(stop.error.to_string()))?;
            let again = Request {
                members: crate::ops::leave::request::members(&now),
                ..request.clone()
            };
            let rest = planner::leave(&again)
                .map_err(|found| partial(refusals(&now, &found, &self.args.ids)))?;
            if !rest.moves().is_empty() {
                return Err(partial("slots came back meanwhile".to_string()));
            }
            if rest.given.is_empty() {
                return Ok(now);
            }
            let given = give(self.session, self.ui, &now, &rest.given).await;
            given.map_err(begun)?;
        }
        Err(partial(
            "replicas came to follow the nodes again and again".to_string(),
        ))
    }

    /// The seeds, and the nodes themselves: perhaps no other member knows them any more.
    fn all_targets(&self, cluster: &ClusterState) -> Vec<Target> {
        let mut targets = self.session.targets();
        let reports = cluster.diagnosis.observation.reports();
        let leaving = reports.filter(|(node, _)| self.leaving.contains(&node.id));
        targets.extend(leaving.filter_map(|(node, _)| cluster.reach.get(&node.id).cloned()));
        targets
    }

    async fn leave(&self, cluster: &ClusterState) -> Result<(), Stop> {
        let afterwards = match self.args.shutdown {
            true => Afterwards::ShutDown,
            false => Afterwards::Run,
        };
        let left = shown(self.ui, self.session, async |session| {
            leave(session, cluster, self.leaving, afterwards).await
        });
        let left = left.await;
        if !left.troubles.is_empty() {
            return Err(Stop::partial(anyhow!(
                "the nodes have not left altogether:\n  {}\nThe same command again finishes it:\n  {}",
                left.troubles.join("\n  "),
                self.again(cluster)
            )));
        }
        if self.args.shutdown {
            self.tell_restarts(cluster);
        }
        if self.args.verify_after_ban {
            self.verify_after_ban(cluster).await?;
        }
        Ok(())
    }

    /// A service that keeps containers running starts a new one.
    fn tell_restarts(&self, cluster: &ClusterState) {
        for id in self.leaving {
            let node = cluster.diagnosis.observation.nodes.get(id);
            let info = node.and_then(|node| Some(&node.report()?.info));
            if info.is_some_and(|info| info.process_id == Some(1)) {
                self.ui.hint(&format!(
                    "{} was the first process of a container; where it belongs to a service that starts \
                     it anew: docker service rm SERVICE",
                    cluster.name(*id)
                ));
            } else if info.is_some_and(|info| info.supervised) {
                self.ui.hint(&format!(
                    "{} is run by a supervisor that may start it anew: systemctl disable SERVICE",
                    cluster.name(*id)
                ));
            }
        }
    }

    /// Until the ban is over, and then a look at who knows the nodes.
    async fn verify_after_ban(&self, cluster: &ClusterState) -> Result<(), Stop> {
        let until = Instant::now() + BAN;
        let mut signals = Signals::listen()?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let seconds = left.as_secs();
            self.ui.waiting(&format!(
                "{seconds} s until forgotten nodes may be taken in again (--verify-after-ban)"
            ));
            tokio::select! {
                () = tokio::time::sleep(left.min(Duration::from_secs(1))) => {}
                signal = signals.next() => return Err(Stop::interrupted(anyhow!(
                    "interrupted ({signal}): the nodes have left; whether they stay away was not \
                     looked at"
                ))),
            }
        }
        let now = ClusterState::look_from(self.session, &self.stayers(cluster)).await;
        let now = now.map_err(begun)?;
        let back: Vec<String> = self
            .leaving
            .iter()
            .filter(|id| now.diagnosis.topology.members.contains_key(id))
            .map(|id| now.name(*id))
            .collect();
        if back.is_empty() {
            return Ok(());
        }
        Err(Stop::partial(anyhow!(
            "back after the ban: {}; some member that was not told brought them back\nThe same command \
             again makes them leave:\n  {}",
            back.join(", "),
            self.again(cluster)
        )))
    }

    /// Replicas with other masters receive a whole copy; that takes its time, and goes on without us.
    async fn wait_for_copies(&self, cluster: &ClusterState, plan: &Leave) -> Result<(), Stop> {
        let given: BTreeSet<NodeId> = plan.given.iter().map(|one| one.replica).collect();
        if given.is_empty() {
            return Ok(());
        }
        let seeds = self.stayers(cluster);
        let mut signals = Signals::listen()?;
        let mut last = Vec::new();
        let copies = copied(self.session, &seeds, &given, COPIES_WITHIN, |lacking| {
            self.ui.waiting(&format!(
                "copies for replicas that got other masters: {}",
                lacking.join(", ")
            ));
            last = lacking.to_vec();
        });
        tokio::select! {
            biased;
            found = copies => {
                if let Polled::Missing(lacking) = found.map_err(begun)? {
                    self.ui.warn(&format!(
                        "still without a copy from their new masters: {}",
                        lacking.join(", ")
                    ));
                }
                Ok(())
            }
            signal = signals.next() => Err(Stop::interrupted(anyhow!(
                "interrupted ({signal}): the nodes have left; these replicas are still receiving \
                 their copies, and go on: {}",
                last.join(", ")
            ))),
        }
    }

    /// Some members that stay, by which the cluster is found again.
    fn stayers(&self, cluster: &ClusterState) -> Vec<Target> {
        const ENOUGH: usize = 5;
        let reports = cluster.diagnosis.observation.reports();
        let stay = reports.filter(|(node, _)| !self.leaving.contains(&node.id));
        stay.filter_map(|(node, _)| cluster.reach.get(&node.id).cloned())
            .take(ENOUGH)
            .collect()
    }

    fn again(&self, cluster: &ClusterState) -> String {
        command_again(cluster, self.leaving, self.args)
    }
}

impl Args {
    /// The options that another run needs, too.
    pub(crate) fn again(&self) -> String {
        let mut text = String::new();
        if self.drain {
            text += " --drain";
        }
        for id in &self.leave_unprotected {
            text += &format!(" --leave-unprotected {id}");
        }
        if self.shutdown {
            text += " --shutdown";
        }
        text
    }
}

/// Whether a member is a master.
pub(crate) fn is_master(cluster: &ClusterState, id: NodeId) -> bool {
    let member = cluster.diagnosis.topology.members.get(&id);
    member.is_some_and(|member| member.role == Role::Master)
}
