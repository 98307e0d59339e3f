//! The pipeline of every command: session, journal, signals and the event pump; lock, plan, dry run, consent, execution
//! and exit code. Nothing of that is written anywhere else.

pub(crate) mod credentials;
mod journal;
pub(crate) mod legacy;
mod look;
pub(crate) mod moves;
mod signals;

use std::io;
use std::sync::Arc;

use anyhow::anyhow;
use tokio::sync::mpsc::UnboundedReceiver;

pub(crate) use look::{Look, LookUp};

use crate::args::global::GlobalArgs;
use crate::client::Connector;
use crate::connections::{Connections, Target};
use crate::event::{Event, Events};
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupt;
use crate::journal::{Journal, SentChanges};
use crate::resolve::{self, Expected};
use crate::seed::Seed;
use crate::session::{LockHeld, Session, connection_name};
use crate::stop::{CommandResult, Stop};
use crate::ui::{Answer, PromptError, Ui};
use credentials::{Credentials, resume_flags};

/// What holds for a run of the program: its global options, its journal, its signals.
pub struct Global {
    pub(crate) args: GlobalArgs,
    journal: Option<Arc<Journal>>,
    sent: SentChanges,
    interrupt: Interrupt,
}

/// What a command does to the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It reads, and writes one document.
    Read,
    /// It changes them, and writes a stream of events that ends with `done`.
    Change,
    /// It asks no node.
    Local,
}

impl Global {
    /// Opens the journal and starts to listen for signals.
    pub fn open(args: GlobalArgs) -> Result<Self, Stop> {
        Ok(Self {
            journal: journal::open(&args)?,
            args,
            sent: SentChanges::default(),
            interrupt: signals::listen()?,
        })
    }

    /// Ends the run: settles the exit code, and reports the error once.
    pub fn end(&self, ui: &Ui, kind: Kind, result: CommandResult) -> ExitCode {
        let result = journal::closed(self.journal.as_deref(), result);
        match result {
            Ok(code) => code,
            Err(stop) => {
                let stop = self.settled(kind, stop);
                // Standard output may be closed; the exit code says the rest.
                let _ = match kind {
                    Kind::Change => ui.ended_by(&stop),
                    Kind::Read | Kind::Local => Ok(()),
                };
                ui.error(&stop.error, stop.code);
                ui.resume(&stop.resume);
                stop.code
            }
        }
    }

    /// The exit code follows from what was sent: 3 and 4 only if no node was changed, 6 only if one was.
    fn settled(&self, kind: Kind, stop: Stop) -> Stop {
        let code = match (stop.code, self.sent.any()) {
            _ if kind != Kind::Change => stop.code,
            (ExitCode::Refused | ExitCode::Unreachable | ExitCode::NotConfirmed, true) => {
                ExitCode::Partial
            }
            (ExitCode::Partial, false) => ExitCode::Refused,
            (code, _) => code,
        };
        Stop { code, ..stop }
    }

    async fn session(
        &self,
        credentials: &Credentials,
        seeds: &[Seed],
        command: Option<&'static str>,
        events: Events,
    ) -> Result<Session, Stop> {
        let journal = self.journal.as_ref();
        let name = command.map(|command| connection_name(command, journal.map(Arc::as_ref)));
        if let (Some(journal), Some(command)) = (journal, command) {
            journal.doing(command);
        }
        let connector = Connector {
            connect_timeout: self.args.connect_timeout,
            command_timeout: self.args.command_timeout,
            name: name.clone(),
            journal: self.journal.clone(),
            sent: self.sent.clone(),
        };
        let connections = Connections::new(
            connector,
            self.args.address_map.clone(),
            usize::from(self.args.connections),
        );
        let expected = self.args.expect_nodes.map(|nodes| Expected {
            nodes: usize::from(nodes),
            within: self.args.resolve_timeout,
        });
        let dial_options = |seed: &Seed| credentials.dial_options(&self.args, seed);
        let family = self.args.family();
        let tell = |what: &str| events.waiting(what);
        let sets = resolve::resolve(seeds, dial_options, family, expected, tell).await?;
        Ok(Session {
            connections: Arc::new(connections),
            seeds: sets,
            name,
            resume: resume_flags(&self.args, seeds),
            events,
            interrupt: self.interrupt.clone(),
        })
    }
}

/// Shows the events of a command while it works.
struct Pump<'a> {
    ui: &'a Ui,
    interrupt: Interrupt,
    heard: UnboundedReceiver<Event>,
}

impl Pump<'_> {
    /// Runs `work` to its end. It watches signals itself.
    async fn run<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let result = loop {
            tokio::select! {
                biased;
                Some(event) = self.heard.recv() => self.ui.event(&event),
                result = &mut work => break result,
            }
        };
        while let Ok(event) = self.heard.try_recv() {
            self.ui.event(&event);
        }
        result
    }

    /// Runs `work` until the first signal.
    async fn until_signal<T>(
        &mut self,
        work: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        let interrupt = self.interrupt.clone();
        match self.run(interrupt.stops(work)).await {
            Ok(result) => result,
            Err(signal) => Err(Stop::interrupted(anyhow!("interrupted ({signal})"))),
        }
    }
}

/// How consent is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Approval {
    /// The plan is shown, and nothing is changed (`--dry-run`).
    DryRun,
    /// On the command line (`--yes`).
    Yes,
    /// At a prompt.
    Ask,
}

impl Approval {
    /// From the two flags.
    pub(crate) fn of(yes: bool, dry_run: bool) -> Self {
        match (dry_run, yes) {
            (true, _) => Self::DryRun,
            (false, true) => Self::Yes,
            (false, false) => Self::Ask,
        }
    }
}

/// A question of consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// Which cluster it is about.
    pub(crate) about: String,
    /// `Add this node?`
    pub(crate) text: String,
}

/// A plan with all that the pipeline needs to know of it.
pub(crate) trait Proposal {
    /// Why nothing is to be done; that is success.
    fn nothing_to_do(&self) -> Option<String> {
        None
    }
    /// Shows what the plan follows from, also if nothing is to be done.
    fn show_basis(&self, _ui: &Ui) -> io::Result<()> {
        Ok(())
    }
    /// The nodes on which no other redis-trib may be at work.
    fn lock(&self) -> Vec<Target>;
    /// Shows it.
    fn show(&self, ui: &Ui) -> io::Result<()>;
    /// Runs once the plan is shown, also in a dry run: writes plan files, and refuses what can't be executed.
    fn after_show(&self) -> Result<(), Stop> {
        Ok(())
    }
    /// What is asked before it is carried out; `None` if it needs no consent.
    fn question(&self) -> Option<Question>;
    /// Whether it changes the same things in the same way.
    fn is_same(&self, other: &Self) -> bool;
}

/// A command that changes nodes, from its first look at them to its end.
pub(crate) struct Change<'a> {
    ui: &'a Ui,
    global: &'a Global,
    approval: Approval,
    credentials: Credentials,
    session: Arc<Session>,
    pump: Pump<'a>,
}

impl<'a> Change<'a> {
    /// Reads credentials and looks the seeds up. `command` is the word by which other operators see this one.
    pub(crate) async fn open(
        global: &'a Global,
        ui: &'a Ui,
        command: &'static str,
        seeds: &[Seed],
        approval: Approval,
    ) -> Result<Self, Stop> {
        Self::open_also(global, ui, command, seeds, &[], approval).await
    }

    /// The same, and reads the certificates that seeds of a later [`Self::also`] ask for.
    pub(crate) async fn open_also(
        global: &'a Global,
        ui: &'a Ui,
        command: &'static str,
        seeds: &[Seed],
        also: &[Seed],
        approval: Approval,
    ) -> Result<Self, Stop> {
        let (events, heard) = Events::channel();
        let mut pump = Pump {
            ui,
            interrupt: global.interrupt.clone(),
            heard,
        };
        let command = Some(command).filter(|_| approval != Approval::DryRun);
        let all = [seeds, also].concat();
        let opening = async {
            let credentials = Credentials::read(&global.args, ui, &all).await?;
            let session = global.session(&credentials, seeds, command, events).await?;
            Ok((credentials, session))
        };
        let opened = pump.until_signal(opening).await;
        let (credentials, session) = opened.map_err(nothing_changed)?;
        Ok(Self {
            ui,
            global,
            approval,
            credentials,
            session: Arc::new(session),
            pump,
        })
    }

    /// What the command works with.
    pub(crate) fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session)
    }

    /// The same connections and the same name, for other seeds: a command may be about a cluster and about nodes
    /// besides.
    pub(crate) async fn also(&mut self, seeds: &[Seed]) -> Result<Arc<Session>, Stop> {
        let args = &self.global.args;
        let dial_options = |seed: &Seed| self.credentials.dial_options(args, seed);
        let resolving = resolve::resolve(seeds, dial_options, args.family(), None, |_| {});
        let seeds = self.pump.until_signal(async { Ok(resolving.await?) }).await;
        Ok(Arc::new(Session {
            seeds: seeds.map_err(nothing_changed)?,
            ..Session::clone(&self.session)
        }))
    }

    /// The credentials of the command line.
    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// How consent is given.
    pub(crate) fn approval(&self) -> Approval {
        self.approval
    }

    /// Runs a part of the command that changes nothing, until the first signal.
    pub(crate) async fn prepare<T>(
        &mut self,
        work: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        let result = self.pump.until_signal(work).await;
        result.map_err(|stop| match self.global.sent.any() {
            true => stop,
            false => nothing_changed(stop),
        })
    }

    /// Runs a part of the command that changes nodes. It watches signals itself.
    pub(crate) async fn execute<T>(&mut self, work: impl Future<Output = T>) -> T {
        self.pump.run(work).await
    }

    /// Takes the lock, unless nothing will be changed.
    pub(crate) async fn lock(&mut self, targets: &[Target]) -> Result<LockHeld, Stop> {
        if self.approval == Approval::DryRun {
            return Ok(LockHeld::AtOnce);
        }
        let session = self.session();
        self.prepare(session.lock(targets)).await
    }

    /// From a plan to consent: makes the plan, takes the lock, shows the plan, and asks. The plan is made again after
    /// the answer, since people take their time; if it has changed by then, it is shown and asked about again, or
    /// refused where no person can be asked. Returns `None` if the command ends here, with success.
    pub(crate) async fn approve<P: Proposal>(
        &mut self,
        plan: impl AsyncFn() -> Result<P, Stop>,
    ) -> Result<Option<P>, Stop> {
        let mut proposal = self.prepare(plan()).await?;
        // A plan without changes needs no lock.
        if proposal.nothing_to_do().is_none()
            && self.lock(&proposal.lock()).await? == LockHeld::AfterWaiting
        {
            proposal = self.prepare(plan()).await?;
        }
        loop {
            proposal.show_basis(self.ui)?;
            if let Some(message) = proposal.nothing_to_do() {
                self.ui.done(ExitCode::Done, &message)?;
                return Ok(None);
            }
            proposal.show(self.ui)?;
            proposal.after_show()?;
            if self.ends_as_dry_run()? {
                return Ok(None);
            }
            let question = match (self.approval, proposal.question()) {
                (Approval::Ask, Some(question)) => question,
                _ => return Ok(Some(proposal)),
            };
            self.consent(&question).await?;
            self.lock(&proposal.lock()).await?;
            let now = self.prepare(plan()).await?;
            if now.is_same(&proposal) {
                return Ok(Some(now));
            }
            if !self.ui.is_with_person() {
                return Err(Stop::refused(anyhow!(
                    "the cluster has changed since the plan was shown, and the plan with it: run the command \
                     again; nothing was changed"
                )));
            }
            self.ui
                .warn("the cluster has changed since the plan was shown; this is the plan now:");
            proposal = now;
        }
    }

    /// Whether the command ends before the first change, because it was asked to.
    pub(crate) fn ends_as_dry_run(&self) -> io::Result<bool> {
        let is_dry_run = self.approval == Approval::DryRun;
        if is_dry_run {
            self.ui
                .done(ExitCode::Done, "Dry run: nothing was changed.")?;
        }
        Ok(is_dry_run)
    }

    /// Asks for consent, whatever the flags say. Anything but a yes stops the command.
    pub(crate) async fn consent(&mut self, question: &Question) -> Result<(), Stop> {
        let ui = self.ui;
        let refused = |why: &str| Err(Stop::not_confirmed(anyhow!("{why}")));
        self.prepare(async {
            match ui.confirm(&question.text, &question.about).await {
                Ok(Answer::Accepted) => Ok(()),
                Ok(Answer::Declined) => refused("declined: nothing was changed"),
                Err(PromptError::NoTerminal) => refused(
                    "confirmation required but stdin is not a terminal: pass --yes (nothing was changed)",
                ),
                Err(PromptError::Interrupted) => {
                    Err(Stop::interrupted(anyhow!("interrupted (SIGINT)")))
                }
                Err(error) => refused(&format!("{error}: nothing was changed")),
            }
        })
        .await
    }

    /// Ends the command with success, whose lines have said it all: the message is for JSON.
    pub(crate) fn finish_quietly(self, message: &str) -> CommandResult {
        self.ui.ended(ExitCode::Done, message)?;
        Ok(ExitCode::Done)
    }

    /// Ends the command with success.
    pub(crate) fn finish(self, message: &str) -> CommandResult {
        self.ui.done(ExitCode::Done, message)?;
        Ok(ExitCode::Done)
    }
}

/// An interrupt before the first change says so.
fn nothing_changed(stop: Stop) -> Stop {
    match stop.code {
        ExitCode::Interrupted => Stop {
            error: anyhow!("{:#}: nothing was changed", stop.error),
            ..stop
        },
        _ => stop,
    }
}
