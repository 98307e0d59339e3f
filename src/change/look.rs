//! Commands that read: the same session and signals, no lock and no consent.

use std::sync::Arc;

use secrecy::SecretSlice;

use super::credentials::{Credentials, ask_password};
use super::{Global, Pump};
use crate::event::Events;
use crate::seed::Seed;
use crate::session::Session;
use crate::stop::Stop;
use crate::ui::Ui;

/// A command that reads.
pub(crate) struct Look<'a> {
    global: &'a Global,
    ui: &'a Ui,
    credentials: Arc<Credentials>,
    events: Events,
    pump: Pump<'a>,
}

impl<'a> Look<'a> {
    /// Reads credentials for these seeds.
    pub(crate) async fn open(global: &'a Global, ui: &'a Ui, seeds: &[Seed]) -> Result<Self, Stop> {
        Self::open_also(global, ui, seeds, &[]).await
    }

    /// As [`Self::open`]. Also reads the certificates that the seeds in `also` need; they are used later.
    pub(crate) async fn open_also(
        global: &'a Global,
        ui: &'a Ui,
        seeds: &[Seed],
        also: &[Seed],
    ) -> Result<Self, Stop> {
        let (events, mut pump) = global.pump(ui);
        let all = [&global.args.expand(seeds)[..], &global.args.expand(also)].concat();
        let credentials = pump
            .until_signal(Credentials::read(&global.args, ui, &all))
            .await?;
        Ok(Self {
            global,
            ui,
            credentials: Arc::new(credentials),
            events,
            pump,
        })
    }

    /// The credentials of the command line.
    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Asks for a password. `instead` names the options that need no terminal.
    pub(crate) async fn password(
        &mut self,
        question: &str,
        flag: &str,
        instead: &str,
    ) -> Result<SecretSlice<u8>, Stop> {
        let asking = ask_password(self.ui, question, flag, instead);
        self.pump.until_signal(asking).await
    }

    /// Resolves the seeds and runs `work` with a session for them, until the first signal.
    pub(crate) async fn run<T>(
        &mut self,
        seeds: &[Seed],
        work: impl AsyncFnOnce(&Session) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let sessions = self.sessions();
        self.until_signal(async move { work(&sessions.open(seeds).await?).await })
            .await
    }

    /// Runs `work` until the first signal.
    pub(crate) async fn until_signal<T>(
        &mut self,
        work: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        self.pump.until_signal(work).await
    }

    /// Opens sessions with the credentials that were read, as often as needed.
    pub(crate) fn sessions(&self) -> Sessions<'a> {
        Sessions {
            global: self.global,
            credentials: Arc::clone(&self.credentials),
            events: self.events.clone(),
        }
    }
}

/// Opens sessions. Each one resolves its seeds again: a node that restarts may get another address.
pub(crate) struct Sessions<'a> {
    global: &'a Global,
    credentials: Arc<Credentials>,
    events: Events,
}

impl Sessions<'_> {
    /// New connections to the nodes that the seeds resolve to now.
    pub(crate) async fn open(&self, seeds: &[Seed]) -> Result<Session, Stop> {
        let events = self.events.clone();
        let seeds = self.global.args.expand(seeds);
        let session = self.global.session(&self.credentials, &seeds, None, events);
        session.await
    }
}
