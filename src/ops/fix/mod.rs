//! `fix`: observe, plan, carry out, and observe again, until no remedy is left. `plan::fix` plans the steps.
//!
//! Every step leaves the cluster in a state that the next observation can plan for. So only what did not help is kept
//! from one round to the next, and an interrupted run needs no special treatment.

mod advice;
mod evict;
mod failures;
mod messages;
mod moves;
pub(crate) mod rejoin;
mod settle;
mod state;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;

use self::evict::Leaving;
use self::failures::Failures;
use self::state::FixState;
use self::steps::StepOutcome;
use crate::cluster::naming::NoSuchNode;
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;
use crate::connections::Target;
use crate::event::{Event, FixedStep, Phase};
use crate::migrate::{MoveOptions, OnConflict};
use crate::ops::move_slots::{Waited, ended};
use crate::plan::fix::{Consent, FixPlan, FixStep, PlannedStep, Why};
use crate::report::{FixLine, FixView};
use crate::resolve::find_member;
use crate::session::{LockHeld, Session};
use crate::state::ClusterState;
use crate::stop::{CommandLine, Stop};

/// The limit for rounds. The longest sequence that the planner knows takes five; conflicts between keys take more,
/// since each stops a window of slots.
const ROUNDS: usize = 100;

/// What may be done, and how.
pub(crate) struct FixOptions {
    /// What the user gives up by name.
    pub(crate) consent: Consent,
    /// Which value wins if two differ.
    pub(crate) on_conflict: ConflictWinner,
    /// How keys move.
    pub(crate) moving: MoveOptions,
    /// Whether the plan lists warnings, which are not faults.
    pub(crate) with_warnings: bool,
}

/// Which value wins of a key that differs between the owner of its slot and another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConflictWinner {
    /// Neither: both stay, and the key is named.
    Abort,
    /// The value on the owner of the slot.
    Owner,
    /// The value on the other node.
    Other,
}

impl ConflictWinner {
    /// The same for lanes whose source, or target, owns the slots.
    fn in_lane(self, owner_is_source: bool) -> OnConflict {
        match (self, owner_is_source) {
            (Self::Abort, _) => OnConflict::Abort,
            (Self::Owner, true) | (Self::Other, false) => OnConflict::Source,
            (Self::Owner, false) | (Self::Other, true) => OnConflict::Target,
        }
    }
}

/// The result of a fix.
#[derive(Debug, Default)]
pub(crate) struct FixSummary {
    /// Steps that were carried out.
    pub(crate) steps: usize,
    /// Keys that were moved to the owner of their slot.
    pub(crate) keys: u64,
    /// Keys that were deleted on other nodes, since the owner of their slot has the same value.
    pub(crate) purged: u64,
    /// What is not fixed: refused, or tried without success.
    pub(crate) left: Vec<String>,
    /// Whether any of that was tried.
    pub(crate) has_failures: bool,
}

/// What is kept between rounds.
#[derive(Default)]
struct Memory {
    revealed: BTreeMap<NodeId, SlotSet>,
    unveiled: BTreeMap<NodeId, SlotSet>,
    begun: BTreeMap<NodeId, SlotSet>,
    tried: BTreeSet<FixStep>,
    /// Slots that stay open because of their content, which is named in `failures`.
    stuck: SlotSet,
    failures: Failures,
    /// What could not be started, and why.
    refused: Vec<String>,
    /// Slots without keys that an answer has allowed to assign.
    assign: SlotSet,
}

/// What has been done.
#[derive(Default)]
struct FixCounts {
    rounds: usize,
    steps: usize,
    keys: u64,
    purged: u64,
}

/// What every step works with.
#[derive(Clone, Copy)]
struct FixContext<'a> {
    session: &'a Session,
    options: &'a FixOptions,
}

impl FixContext<'_> {
    /// Reports a step that was carried out.
    fn fixed(&self, line: FixLine) {
        self.session.events.send(Event::Fixed(Box::new(FixedStep {
            word: line.word,
            slots: line.slots,
            nodes: line.nodes,
            keys: line.keys,
            text: line.text,
        })));
    }
}

/// The cluster before the first round.
pub(crate) struct FixStart {
    cluster: ClusterState,
    waited: Waited,
}

impl FixStart {
    /// Reads the cluster, and waits for ASM tasks that are running. A dry run only names them.
    pub(crate) async fn observe(session: &Session, dry_run: bool) -> Result<Self, Stop> {
        let cluster = ClusterState::look(session).await?;
        let waited = ended(session, &cluster, dry_run).await?;
        Ok(Self { cluster, waited })
    }

    /// The cluster, as it was read.
    pub(crate) fn cluster(&self) -> &ClusterState {
        &self.cluster
    }

    /// The nodes on which no other operator may be at work.
    pub(crate) fn lock(&self) -> Vec<Target> {
        let masters = self.cluster.diagnosis.topology.masters();
        masters
            .filter_map(|master| self.cluster.reach.get(&master.id).cloned())
            .collect()
    }

    /// Returns members by their names on the command line.
    pub(crate) fn members(&self, names: &[String]) -> Result<BTreeSet<NodeId>, Stop> {
        let observation = &self.cluster.diagnosis.observation;
        let found = names.iter().map(|name| observation.find(name));
        found.map(|found| found.map_err(Stop::refused)).collect()
    }

    /// Returns the members of another cluster, by their names on the command line.
    pub(crate) fn foreign(
        &self,
        session: &Session,
        names: &[String],
    ) -> Result<BTreeSet<NodeId>, Stop> {
        let observation = &self.cluster.diagnosis.observation;
        let mut ids = BTreeSet::new();
        for name in names {
            match (find_member(observation, name), name.parse::<NodeId>()) {
                (Ok(id), _) => drop(ids.insert(id)),
                // Members gossip which nodes they forgot (Redis and Valkey from 7.2 on), so these nodes may be gone
                // after an interrupted run. An unknown prefix may be a typing error.
                (Err(NoSuchNode::Unknown(_)), Ok(id)) => {
                    let text = format!("{} is not a member, or no longer one", id.short());
                    session.events.note(text);
                }
                (Err(error), _) => return Err(Stop::refused(error)),
            }
        }
        if ids.contains(&observation.lead) {
            return Err(Stop::refused(anyhow!(
                "{} is the node through which the cluster is read: name one that stays, and the foreign nodes \
                 with --evict-foreign",
                self.cluster.name(observation.lead)
            )));
        }
        Ok(ids)
    }
}

/// Slots without an owner.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Uncovered {
    /// No node has keys in them.
    pub(crate) without_keys: SlotSet,
    /// One node has keys in them, or may have.
    pub(crate) on_one_node: SlotSet,
    /// Several nodes have keys in them.
    pub(crate) on_several_nodes: SlotSet,
}

/// A plan, and the state that it was made for.
pub(crate) struct FixRound {
    state: FixState,
    plan: FixPlan,
    with_warnings: bool,
}

impl FixRound {
    /// The kinds of its remedies.
    pub(crate) fn kinds(&self) -> BTreeSet<&'static str> {
        let remedies = self.plan.remedies.iter();
        remedies.map(|remedy| remedy.step.word()).collect()
    }

    /// Slots without an owner that can be given one, by what is needed for it.
    pub(crate) fn uncovered(&self) -> Uncovered {
        let masters = || self.state.diagnosis().topology.masters();
        let owned = masters().fold(SlotSet::new(), |all, master| all.union(&master.slots));
        let mut uncovered = Uncovered::default();
        for refusal in &self.plan.refusals {
            if refusal.why == Why::NobodyHolds {
                uncovered.without_keys.union_with(&refusal.slots);
            }
        }
        for remedy in &self.plan.remedies {
            for slot in remedy.slots.difference(&owned).iter() {
                let holders = masters()
                    .filter(|master| self.state.holdings.keys(master.id, slot) > 0)
                    .count();
                match holders {
                    0 | 1 => uncovered.on_one_node.insert(slot),
                    _ => uncovered.on_several_nodes.insert(slot),
                }
            }
        }
        uncovered
    }

    /// The nodes on which no other operator may be at work.
    pub(crate) fn lock(&self) -> Vec<Target> {
        self.state.masters().cloned().collect()
    }

    /// The plan, as it is shown.
    pub(crate) fn view(&self) -> FixView {
        let mut view = messages::view(&self.state, &self.plan);
        if !self.with_warnings {
            view.warnings.clear();
        }
        view
    }

    /// The cluster, in words.
    pub(crate) fn about(&self) -> String {
        messages::about(&self.state)
    }

    /// What is not fixed by it.
    pub(crate) fn left(&self) -> Vec<String> {
        messages::left(&self.state, &self.plan)
    }
}

/// A fix in progress.
pub(crate) struct Fix<'a> {
    context: FixContext<'a>,
    memory: Memory,
    counts: FixCounts,
}

impl<'a> Fix<'a> {
    /// Begins.
    pub(crate) fn new(session: &'a Session, options: &'a FixOptions) -> Self {
        Self {
            context: FixContext { session, options },
            memory: Memory::default(),
            counts: FixCounts::default(),
        }
    }

    /// Plans the first round. The cluster is read again if it may have changed since `start`.
    pub(crate) async fn first_round(
        &self,
        start: FixStart,
        lock: LockHeld,
    ) -> Result<FixRound, Stop> {
        let session = self.context.session;
        let state = match (start.waited, lock) {
            (Waited::No, LockHeld::AtOnce) => FixState::look_on(session, start.cluster).await?,
            _ => FixState::look(session).await?,
        };
        Ok(self.round(state))
    }

    /// Observes and plans.
    pub(crate) async fn observe(&self) -> Result<FixRound, Stop> {
        let state = FixState::look(self.context.session).await?;
        Ok(self.round(state))
    }

    /// Plans again for the same state.
    pub(crate) fn replan(&self, round: FixRound) -> FixRound {
        self.round(round.state)
    }

    /// These slots have no owner and no keys, and may be assigned.
    pub(crate) fn allow_assigning(&mut self, slots: &SlotSet) {
        self.memory.assign.union_with(slots);
    }

    /// These slots stay without an owner.
    pub(crate) fn decline(&mut self, slots: &SlotSet) {
        self.memory.stuck.union_with(slots);
        let line = format!("slots {slots}: no owner was assigned, because that was not confirmed");
        self.memory.refused.push(line);
    }

    fn round(&self, state: FixState) -> FixRound {
        let options = self.context.options;
        let mut consent = options.consent.clone();
        consent.assign.union_with(&self.memory.assign);
        FixRound {
            plan: state.plan(&consent, &self.memory),
            state,
            with_warnings: options.with_warnings,
        }
    }

    /// Observes and plans after changes. A second signal ends it at once.
    pub(crate) async fn next_round(&self) -> Result<FixRound, Stop> {
        let steps = self.counts.steps;
        let round = tokio::select! {
            biased;
            () = self.context.session.interrupt.forced() => {
                return Err(Stop::interrupted(anyhow!(
                    "interrupted: {steps} steps were done; the same command continues"
                )));
            }
            round = self.observe() => round,
        };
        let round = round.map_err(|stop| match steps {
            0 => stop,
            _ => Stop {
                error: stop
                    .error
                    .context(format!("{steps} steps were done, but then")),
                ..stop
            },
        })?;
        if self.counts.rounds < ROUNDS || round.plan.remedies.is_empty() {
            return Ok(round);
        }
        Err(Stop::partial(anyhow!(
            "after {ROUNDS} rounds there are still faults: {}",
            round.left().join("\n")
        )))
    }

    /// Carries out a round, and waits until the nodes have heard of the changes.
    pub(crate) async fn carry_out(&mut self, round: &FixRound) -> Result<(), Stop> {
        let FixRound { state, plan, .. } = round;
        self.counts.rounds += 1;
        self.memory.begun.clone_from(&plan.begun);
        if let Some(signal) = self.context.session.interrupt.heard() {
            return Err(self.interrupted(signal, state, &plan.remedies));
        }
        // Key moves come in a round of their own: after other steps they may not be what is needed.
        if plan.remedies.iter().any(|remedy| !remedy.step.moves_keys()) {
            self.carry_out_steps(state, plan).await?;
        } else {
            moves::carry_out(
                self.context,
                state,
                plan,
                &mut self.memory,
                &mut self.counts,
            )
            .await?;
        }
        settle::wait(self.context.session).await
    }

    /// Carries out everything that takes a few commands.
    async fn carry_out_steps(&mut self, state: &FixState, plan: &FixPlan) -> Result<(), Stop> {
        let context = self.context;
        context.session.events.phase(Phase::Fix);
        let foreign = Leaving::of(plan);
        if !foreign.is_empty() {
            let resume = messages::resume(context, state);
            evict::carry_out(context.session, state, &foreign, resume).await?;
        }
        let remedies: Vec<&PlannedStep> = plan
            .remedies
            .iter()
            .filter(|remedy| !remedy.step.moves_keys())
            .collect();
        for (index, remedy) in remedies.iter().enumerate() {
            if let Some(signal) = context.session.interrupt.heard() {
                let left = remedies[index..].iter().copied();
                return Err(self.interrupted(signal, state, left));
            }
            match remedy.step {
                // They have left together.
                FixStep::Evict { .. } => drop(self.memory.tried.insert(remedy.step)),
                _ => {
                    let done = steps::carry_out(context, state, remedy, &mut self.memory).await;
                    let done = done.map_err(|error| {
                        let doing = messages::doing(state, remedy);
                        let stop = Stop::partial(anyhow!("{doing}: {error}"));
                        // Without progress the same command would do the same.
                        let resume =
                            (self.counts.steps > 0).then(|| messages::resume(context, state));
                        stop.with_resume(resume)
                    })?;
                    if done == StepOutcome::Failed {
                        continue;
                    }
                }
            }
            self.counts.steps += 1;
            context.fixed(messages::line(state, remedy));
        }
        Ok(())
    }

    fn interrupted<'r>(
        &self,
        signal: &str,
        state: &FixState,
        left: impl IntoIterator<Item = &'r PlannedStep>,
    ) -> Stop {
        let left = left
            .into_iter()
            .map(|remedy| messages::doing(state, remedy));
        let left: Vec<String> = left.collect();
        Stop::interrupted(anyhow!(
            "interrupted ({signal}): the step in hand was finished; what is left: {}",
            left.join("; ")
        ))
        .with_resume([messages::resume(self.context, state)])
    }

    /// The command that resumes.
    pub(crate) fn resume(&self, round: &FixRound) -> CommandLine {
        messages::resume(self.context, &round.state)
    }

    /// Ends with a round that has no remedies.
    pub(crate) fn end(self, last: &FixRound) -> FixSummary {
        let Memory {
            failures,
            refused,
            stuck,
            ..
        } = self.memory;
        let failures = failures.at_end(&stuck);
        let has_failures = !failures.is_empty();
        let left = failures.into_iter().chain(refused).chain(last.left());
        FixSummary {
            steps: self.counts.steps,
            keys: self.counts.keys,
            purged: self.counts.purged,
            left: left.collect(),
            has_failures,
        }
    }
}
