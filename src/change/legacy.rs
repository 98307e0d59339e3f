//! What commands that are not on the pipeline yet use.

use anyhow::{Context, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::credentials::Credentials;
use super::{Global, Pump};
use crate::connections::Target;
use crate::event::Events;
use crate::seed::Seed;
use crate::session::{LockHeld, Session};
use crate::stop::Stop;
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

/// Runs `work` with the session, and shows its events meanwhile.
pub(crate) async fn shown<T>(
    ui: &Ui,
    session: &Session,
    work: impl AsyncFnOnce(&Session) -> T,
) -> T {
    let (events, heard) = Events::channel();
    let interrupt = session.interrupt.clone();
    let session = Session {
        events,
        ..session.clone()
    };
    let mut pump = Pump {
        ui,
        interrupt,
        heard,
    };
    pump.run(work(&session)).await
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

    /// The name of the next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
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
