//! Commands that read: the same session and signals, no lock and no consent.

use std::sync::Arc;

use super::credentials::Credentials;
use super::{Global, Pump};
use crate::event::Events;
use crate::seed::Seed;
use crate::session::Session;
use crate::stop::Stop;
use crate::ui::Ui;

/// A command that reads.
pub(crate) struct Look<'a> {
    global: &'a Global,
    credentials: Arc<Credentials>,
    events: Events,
    pump: Pump<'a>,
}

impl<'a> Look<'a> {
    /// Reads credentials for these seeds.
    pub(crate) async fn open(global: &'a Global, ui: &'a Ui, seeds: &[Seed]) -> Result<Self, Stop> {
        let (events, heard) = Events::channel();
        let mut pump = Pump {
            ui,
            interrupt: global.interrupt.clone(),
            heard,
        };
        let credentials = pump
            .until_signal(Credentials::read(&global.args, ui, seeds))
            .await?;
        Ok(Self {
            global,
            credentials: Arc::new(credentials),
            events,
            pump,
        })
    }

    /// Looks the seeds up and runs `work` with them, until the first signal.
    pub(crate) async fn run<T>(
        &mut self,
        seeds: &[Seed],
        work: impl AsyncFnOnce(&Session) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let looked_up = self.looked_up();
        self.until_signal(async move { work(&looked_up.session(seeds).await?).await })
            .await
    }

    /// Runs `work` until the first signal.
    pub(crate) async fn until_signal<T>(
        &mut self,
        work: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        self.pump.until_signal(work).await
    }

    /// What looks seeds up, as often as needed.
    pub(crate) fn looked_up(&self) -> LookUp<'a> {
        LookUp {
            global: self.global,
            credentials: Arc::clone(&self.credentials),
            events: self.events.clone(),
        }
    }
}

/// Looks seeds up: a node that starts again may get another address.
pub(crate) struct LookUp<'a> {
    global: &'a Global,
    credentials: Arc<Credentials>,
    events: Events,
}

impl LookUp<'_> {
    /// New connections to what the seeds stand for now.
    pub(crate) async fn session(&self, seeds: &[Seed]) -> Result<Session, Stop> {
        let events = self.events.clone();
        let session = self.global.session(&self.credentials, seeds, None, events);
        session.await
    }
}
