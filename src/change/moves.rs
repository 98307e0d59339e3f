//! What commands that move slots share: finishing open slots before their own plan, and the proposal of moves.

use std::collections::BTreeSet;
use std::io;

use anyhow::anyhow;

use super::{Approval, Change, Proposal, Question};
use crate::args::moves::MoveArgs;
use crate::connections::Target;
use crate::converge::wait_for_copies;
use crate::exit_code::ExitCode;
use crate::ops::move_slots::open_slots::{self, OpenSlots};
use crate::ops::move_slots::{self, PreparedMoves, refuse_full_targets, save};
use crate::plan::MovePlan;
use crate::plan::file::{SlotWeights, inverse};
use crate::report::MovedView;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// How consent for moves is given.
pub(crate) fn approval(args: &MoveArgs) -> Approval {
    Approval::of(args.yes, args.dry_run)
}

/// Which cluster a question is about.
pub(crate) fn about(state: &ClusterState) -> String {
    let observation = &state.diagnosis.observation;
    format!(
        "The cluster of {} nodes that {} belongs to.",
        state.diagnosis.topology.members.len(),
        observation.name(observation.lead)
    )
}

/// Whether the command goes on after [`finish_open`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenSlotsAre {
    /// No slot is open that could be finished.
    Finished,
    /// A dry run has shown them: the command ends with success.
    Shown,
}

/// Finishes open slots if `--finish-open` is given, and offers that to a person at a terminal.
pub(crate) async fn finish_open_if_wanted(
    change: &mut Change<'_>,
    ui: &Ui,
    args: &MoveArgs,
    wanted: bool,
) -> Result<OpenSlotsAre, Stop> {
    let may_offer = ui.is_with_person() && change.approval() == Approval::Ask;
    match wanted || may_offer {
        true => finish_open(change, args).await,
        false => Ok(OpenSlotsAre::Finished),
    }
}

/// Finishes the moves that an interrupted command left open, with consent of their own.
pub(crate) async fn finish_open(
    change: &mut Change<'_>,
    args: &MoveArgs,
) -> Result<OpenSlotsAre, Stop> {
    let session = change.session();
    let masters = open_slots::masters_if_open(&session);
    let Some(masters) = change.prepare(masters).await? else {
        return Ok(OpenSlotsAre::Finished);
    };
    // The looks that follow take seconds: another operator is named before.
    change.lock(&masters).await?;
    let plan = async || {
        Ok(OpenSlotsProposal {
            open: open_slots::prepare(&session, args.dry_run).await?,
            args,
        })
    };
    let Some(OpenSlotsProposal { open, .. }) = change.approve(plan).await? else {
        return Ok(OpenSlotsAre::Shown);
    };
    let options = args.options(open.moves.node_timeout);
    let work = open_slots::finish(&session, &open, options);
    change.execute(work).await?;
    Ok(OpenSlotsAre::Finished)
}

struct OpenSlotsProposal<'a> {
    open: OpenSlots,
    args: &'a MoveArgs,
}

impl Proposal for OpenSlotsProposal<'_> {
    fn lock(&self) -> Vec<Target> {
        move_slots::masters(&self.open.state)
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        for step in self.open.steps() {
            ui.note(&step);
        }
        if self.open.moves.plan.slots_moved() > 0 {
            ui.note(&format!(
                "finishing open slots {}",
                self.open.slots().summary()
            ));
            show_moves(ui, &self.open.moves)?;
        }
        Ok(())
    }

    fn after_show(&self) -> Result<(), Stop> {
        refuse_full_targets(&self.open.moves.view, self.args.max_target_memory)
    }

    fn question(&self) -> Option<Question> {
        let text = format!(
            "Slots {} are open: their moves were interrupted. Finish them first?",
            self.open.slots()
        );
        (!self.open.is_empty()).then(|| Question {
            about: about(&self.open.state),
            text,
        })
    }

    fn consent_option(&self) -> Option<&'static str> {
        Some("--finish-open")
    }

    fn is_same(&self, other: &Self) -> bool {
        self.open.is_same(&other.open)
    }
}

/// Moves that a command proposes.
pub(crate) struct MovesProposal<'a> {
    args: &'a MoveArgs,
    state: ClusterState,
    /// The moves, or why nothing is to be done.
    moves: Result<PreparedMoves, String>,
}

impl<'a> MovesProposal<'a> {
    /// Finds out how these slots move.
    pub(crate) async fn new(
        session: &Session,
        args: &'a MoveArgs,
        state: ClusterState,
        plan: MovePlan,
    ) -> Result<Self, Stop> {
        let moves = move_slots::prepare(session, &state, plan, args.method()).await?;
        Ok(Self {
            args,
            state,
            moves: Ok(moves),
        })
    }

    /// The same, with the figures that the moves were planned with, for the plan file.
    pub(crate) fn with_weights(mut self, weights: Option<SlotWeights>) -> Self {
        if let Ok(moves) = &mut self.moves {
            moves.weights = weights;
        }
        self
    }

    /// Nothing is to be done; `why` is success.
    pub(crate) fn nothing(args: &'a MoveArgs, state: ClusterState, why: String) -> Self {
        Self {
            args,
            state,
            moves: Err(why),
        }
    }

    /// Shows the moves of `rebalance`.
    pub(crate) fn show_balance(&self, ui: &Ui) -> io::Result<()> {
        let Ok(moves) = &self.moves else {
            return Ok(());
        };
        ui.balance_moves(&moves.view)?;
        show_warnings(ui, moves);
        Ok(())
    }

    /// Moves the slots and reports it.
    pub(crate) async fn carry_out(&self, mut change: Change<'_>, ui: &Ui) -> CommandResult {
        let session = change.session();
        change.execute(self.execute(&session, ui)).await
    }

    /// The same within a session; its events are shown by the caller.
    pub(crate) async fn execute(&self, session: &Session, ui: &Ui) -> CommandResult {
        let moves = match &self.moves {
            Ok(moves) => moves,
            Err(why) => {
                ui.done(ExitCode::Done, why)?;
                return Ok(ExitCode::Done);
            }
        };
        let options = self.args.options(moves.node_timeout);
        let plan_file = self.args.plan_file();
        let work = move_slots::execute(session, &self.state, moves, options, plan_file);
        let report = work.await?;
        let seeds = session.targets();
        let left = BTreeSet::new();
        let copies = wait_for_copies(session, &seeds, &self.state, &left);
        copies.await.map_err(|signal| {
            Stop::interrupted(anyhow!(
                "interrupted ({signal}): {} slots moved; replicas that got other masters may still be receiving \
                 their copies",
                report.slots
            ))
        })?;
        let view = MovedView::of(
            report.slots,
            &report.stats,
            report.took,
            report.write_pauses,
        );
        ui.moved(&view)?;
        Ok(ExitCode::Done)
    }
}

impl Proposal for MovesProposal<'_> {
    fn nothing_to_do(&self) -> Option<String> {
        self.moves.as_ref().err().cloned()
    }

    fn lock(&self) -> Vec<Target> {
        move_slots::masters(&self.state)
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        self.moves
            .as_ref()
            .map_or(Ok(()), |moves| show_moves(ui, moves))
    }

    fn after_show(&self) -> Result<(), Stop> {
        match &self.moves {
            Ok(moves) => save_and_check(self.args, moves),
            Err(_) => Ok(()),
        }
    }

    fn question(&self) -> Option<Question> {
        Some(Question {
            about: about(&self.state),
            text: "Do you want to proceed with the proposed reshard plan?".to_string(),
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        match (&self.moves, &other.moves) {
            (Ok(one), Ok(other)) => one.is_same(other),
            (one, other) => one.is_err() && other.is_err(),
        }
    }
}

fn show_moves(ui: &Ui, moves: &PreparedMoves) -> io::Result<()> {
    ui.moves(&moves.view)?;
    show_warnings(ui, moves);
    Ok(())
}

fn show_warnings(ui: &Ui, moves: &PreparedMoves) {
    for warning in &moves.view.warnings {
        ui.warn(warning);
    }
}

/// Writes the plan files that were asked for, and refuses moves for which a target has no room.
pub(crate) fn save_and_check(args: &MoveArgs, moves: &PreparedMoves) -> Result<(), Stop> {
    if let Some(file) = &args.plan_out {
        save("--plan-out", file, &moves.plan, moves.weights.as_ref())?;
    }
    if let Some(file) = &args.undo_out {
        save("--undo-out", file, &inverse(&moves.plan), None)?;
    }
    refuse_full_targets(&moves.view, args.max_target_memory)
}
