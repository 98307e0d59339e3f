//! What commands that are not on the pipeline yet use.

use anyhow::{Context, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::credentials::Credentials;
use super::moves::MovesProposal;
use super::{Global, Proposal, Pump};
use crate::args::moves::MoveArgs;
use crate::connections::Target;
use crate::event::Events;
use crate::plan::Plan;
use crate::resolve;
use crate::seed::Seed;
use crate::session::{LockHeld, Session};
use crate::state::ClusterState;
use crate::stop::{CommandResult, Stop};
use crate::ui::{Answer, PromptError, Ui};

/// Whether a command changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It reads.
    Read,
    /// It changes; the command's word is in the name of its connections.
    Change(&'static str),
}

/// Opens a session.
pub(crate) async fn open(
    global: &Global,
    ui: &Ui,
    seeds: &[Seed],
    access: Access,
) -> Result<Session, Stop> {
    let credentials = Credentials::read(&global.args, ui, seeds).await?;
    with(&credentials, global, seeds, access).await
}

/// Opens a session with credentials that were read.
pub(crate) async fn with(
    credentials: &Credentials,
    global: &Global,
    seeds: &[Seed],
    access: Access,
) -> Result<Session, Stop> {
    let command = match access {
        Access::Read => None,
        Access::Change(command) => Some(command),
    };
    let (events, _) = Events::channel();
    global.session(credentials, seeds, command, events).await
}

/// The same session for other seeds.
pub(crate) async fn with_seeds(
    session: &Session,
    credentials: &Credentials,
    global: &Global,
    seeds: &[Seed],
) -> Result<Session, Stop> {
    let dial_options = |seed: &Seed| credentials.dial_options(&global.args, seed);
    Ok(Session {
        seeds: resolve::resolve(seeds, dial_options, global.args.family(), None, |_| {}).await?,
        ..session.clone()
    })
}

/// Asks for consent.
pub(crate) async fn consent(ui: &Ui, question: &str, about: &str) -> Result<(), Stop> {
    let answer = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err(PromptError::Interrupted),
        answer = ui.confirm(question, about) => answer,
    };
    match answer {
        Ok(Answer::Accepted) => Ok(()),
        Ok(Answer::Declined) => Err(Stop::not_confirmed(anyhow!(
            "declined: nothing was changed"
        ))),
        Err(PromptError::NoTerminal) => Err(Stop::not_confirmed(anyhow!(
            "there is no terminal to ask on: --yes says yes; nothing was changed"
        ))),
        Err(PromptError::Interrupted) => Err(Stop::interrupted(anyhow!(
            "interrupted: nothing was changed"
        ))),
        Err(error) => Err(Stop::not_confirmed(anyhow!("{error}: nothing was changed"))),
    }
}

/// Ctrl-C and SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Self, Stop> {
        let listen = |kind| {
            signal(kind)
                .context("can't listen for signals")
                .map_err(Stop::refused)
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The name of one that has come already.
    pub(crate) async fn heard(&mut self) -> Option<&'static str> {
        tokio::select! {
            biased;
            name = self.next() => Some(name),
            () = std::future::ready(()) => None,
        }
    }

    /// The name of the next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Runs `work` in the same session, and shows its events.
pub(crate) async fn shown<T>(
    ui: &Ui,
    session: &Session,
    work: impl AsyncFnOnce(&Session) -> T,
) -> T {
    let (events, heard) = Events::channel();
    let session = Session {
        events,
        ..session.clone()
    };
    let mut pump = Pump {
        ui,
        interrupt: session.interrupt.clone(),
        heard,
    };
    pump.run(work(&session)).await
}

/// Moves slots with consent that was given already.
pub(crate) async fn move_slots(
    session: &Session,
    ui: &Ui,
    args: &MoveArgs,
    state: ClusterState,
    plan: Plan,
) -> CommandResult {
    shown(ui, session, async |session| {
        let moves = MovesProposal::new(session, args, state, plan).await?;
        moves.show(ui)?;
        moves.after_show()?;
        session.lock(&moves.lock()).await?;
        moves.execute(session, ui).await
    })
    .await
}

impl Session {
    /// Takes the lock.
    pub(crate) async fn refuse_others(
        &self,
        targets: impl Iterator<Item = &Target>,
    ) -> Result<LockHeld, Stop> {
        let targets: Vec<Target> = targets.cloned().collect();
        self.lock(&targets).await
    }
}
