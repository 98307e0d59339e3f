//! The pipeline of every command: session, journal, signals and the event pump; lock, plan, dry run, consent, execution
//! and exit code. No other module implements these.

pub(crate) mod credentials;
mod journal;
mod look;
pub(crate) mod moves;
mod password_command;
mod signals;
mod source;
pub(crate) mod transfer;

use std::io;
use std::sync::Arc;

use anyhow::anyhow;
use secrecy::SecretSlice;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

pub(crate) use look::{Look, Sessions};

use crate::args::global::GlobalArgs;
use crate::client::Connector;
use crate::connections::{Connections, Target};
use crate::control::{ChangedBy, Control, Step};
use crate::event::{Event, Events, Phase};
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupt;
use crate::journal::{Journal, SentChanges};
use crate::resolve::{self, Expected};
use crate::seed::Seed;
use crate::session::{LockHeld, Session, connection_name};
use crate::state::ClusterState;
use crate::stop::{CommandResult, SameCommand, Stop};
use crate::ui::{Answer, CheckFor, Key, Keys, PromptError, Ui};
use credentials::{Credentials, resume_flags};

/// The state of one run of the program: its global options, its journal, its signals.
pub struct Global {
    pub(crate) args: GlobalArgs,
    journal: Option<Arc<Journal>>,
    sent: SentChanges,
    interrupt: Interrupt,
    control: Control,
    began: Instant,
}

/// What a command does to the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Reads them and writes one document.
    Read,
    /// Changes them and writes a stream of events that ends with `done`.
    Change,
    /// Sends no command to a node.
    Local,
}

impl Kind {
    /// Reports the error that ends a command, once: on standard error, and in JSON as the document or as the last event
    /// of the stream. Where both streams go to one file, `done` is the last line.
    pub fn report(self, ui: &Ui, stop: &Stop) {
        ui.error(&stop.error, stop.code);
        ui.resume(&stop.resume);
        // Standard output may be closed; the exit code still tells the result.
        let _ = match self {
            Self::Change => ui.ended_by(stop),
            Self::Read => ui.failed(stop.code, &stop.error),
            Self::Local => Ok(()),
        };
    }
}

impl Global {
    /// Reads the settings of a named cluster, opens the journal and starts to listen for signals.
    pub fn open(mut args: GlobalArgs) -> Result<Self, Stop> {
        args.load_named()?;
        Ok(Self {
            journal: journal::open(&args)?,
            args,
            sent: SentChanges::default(),
            interrupt: signals::listen()?,
            control: Control::default(),
            began: Instant::now(),
        })
    }

    /// Ends the run: settles the exit code, and reports the error once.
    pub fn end(&self, ui: &Ui, kind: Kind, result: CommandResult) -> ExitCode {
        self.control.close();
        let result = journal::closed(self.journal.as_deref(), result);
        // Not before the journal: its last write may have failed after everything was done.
        let result = match result {
            Ok(code) => ui.finish_stream().map(|()| code).map_err(Stop::from),
            stopped => stopped,
        };
        match result {
            Ok(code) => code,
            Err(stop) => {
                let stop = self.settled(kind, stop);
                kind.report(ui, &stop);
                stop.code
            }
        }
    }

    /// The exit code follows from what was sent: 3 and 4 only if no node was changed, 6 only if one was.
    fn settled(&self, kind: Kind, stop: Stop) -> Stop {
        let code = match (stop.code, self.sent.any()) {
            _ if kind != Kind::Change => return stop,
            (
                ExitCode::Usage
                | ExitCode::Refused
                | ExitCode::Unreachable
                | ExitCode::NotConfirmed,
                true,
            ) => ExitCode::Partial,
            (ExitCode::Partial, false) => ExitCode::Refused,
            (code, _) => code,
        };
        self.resumable(Stop { code, ..stop })
    }

    /// A command that changed nodes and stopped names what finishes it: its own resume command, or the same command.
    fn resumable(&self, stop: Stop) -> Stop {
        let has_changed =
            matches!(stop.code, ExitCode::Partial | ExitCode::Interrupted) && self.sent.any();
        match &self.args.again {
            Some(again)
                if has_changed
                    && stop.resume.is_empty()
                    && stop.same_command == SameCommand::MayFinish =>
            {
                stop.with_resume([again.clone()])
            }
            _ => stop,
        }
    }

    /// Runs a part of a command that needs no node, until the first signal.
    pub(crate) async fn local<T>(
        &self,
        ui: &Ui,
        work: impl AsyncFnOnce(&Events) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let (events, mut pump) = self.pump(ui);
        pump.until_signal(work(&events)).await
    }

    /// A channel for the events of one command, and what shows them.
    fn pump<'a>(&self, ui: &'a Ui) -> (Events, Pump<'a>) {
        let (events, heard) = Events::channel();
        let interrupt = self.interrupt.clone();
        let pump = Pump {
            ui,
            interrupt,
            control: self.control.clone(),
            events: events.clone(),
            heard,
        };
        (events, pump)
    }

    /// Opens a session. With the name of a command, other operators see its connections.
    async fn session(
        &self,
        credentials: &Credentials,
        seeds: &[Seed],
        command: Option<&'static str>,
        events: Events,
    ) -> Result<Session, Stop> {
        let expected = self.args.expect_nodes.map(|nodes| Expected {
            nodes: usize::from(nodes),
            within: self.args.resolve_timeout,
        });
        let dial_options = |seed: &Seed| credentials.dial_options(&self.args, seed);
        let family = self.args.family();
        let tell = |what: &str| events.waiting(what);
        let sets = resolve::resolve(seeds, dial_options, family, expected, tell).await?;
        let name = command.map(|command| self.connection_name(command));
        Ok(Session {
            connections: Arc::new(self.connections(name.clone())),
            seeds: sets,
            name,
            resume: resume_flags(&self.args, seeds),
            began: self.began,
            settle_timeout: self.args.settle_timeout,
            events,
            interrupt: self.interrupt.clone(),
            control: self.control.clone(),
            warned_of_no_lock: Arc::default(),
        })
    }

    /// The name of the connections of a command that changes nodes. The journal records the same command.
    fn connection_name(&self, command: &'static str) -> String {
        let journal = self.journal.as_deref();
        if let Some(journal) = journal {
            journal.set_command(command);
        }
        connection_name(command, journal)
    }

    fn connections(&self, name: Option<String>) -> Connections {
        let connector = Connector {
            connect_timeout: self.args.connect_timeout,
            command_timeout: self.args.command_timeout,
            name,
            journal: self.journal.clone(),
            sent: self.sent.clone(),
        };
        let mappings = self.args.address_map.clone();
        Connections::new(connector, mappings, usize::from(self.args.connections))
    }
}

/// Shows the events of a command while it runs.
struct Pump<'a> {
    ui: &'a Ui,
    interrupt: Interrupt,
    control: Control,
    events: Events,
    heard: UnboundedReceiver<Event>,
}

impl Pump<'_> {
    /// Runs `work` to its end. `work` watches signals itself.
    async fn run<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        // Slots are about to move: a person may change how.
        let mut keys: Option<Keys> = None;
        let result = loop {
            tokio::select! {
                biased;
                Some(event) = self.heard.recv() => {
                    if let Event::Phase(phase) = &event {
                        keys = None;
                        if *phase == Phase::Move {
                            keys = self.ui.keys();
                        }
                    }
                    self.ui.event(&event);
                }
                result = &mut work => break result,
                key = next_key(&mut keys) => self.press(key),
            }
        };
        drop(keys);
        while let Ok(event) = self.heard.try_recv() {
            self.ui.event(&event);
        }
        result
    }

    /// Does what a key stands for.
    fn press(&self, key: Key) {
        let (control, events) = (&self.control, &self.events);
        match key {
            Key::Pause => control.toggle(&ChangedBy::Key, events),
            Key::Faster => control.step(Step::Up, &ChangedBy::Key, events),
            Key::Slower => control.step(Step::Down, &ChangedBy::Key, events),
        }
    }

    /// Runs `work` until the first signal.
    async fn until_signal<T>(
        &mut self,
        work: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        let interrupt = self.interrupt.clone();
        match self.run(interrupt.stops(work)).await {
            Ok(result) => result,
            Err(signal) => Err(interrupted(signal)),
        }
    }
}

/// The next key, if keys are read.
async fn next_key(keys: &mut Option<Keys>) -> Key {
    match keys {
        Some(keys) => keys.next().await,
        None => std::future::pending().await,
    }
}

/// How consent is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Approval {
    /// The plan is shown, and nothing is changed (`--dry-run`).
    DryRun,
    /// The command changes no node: it needs no consent, no lock, and no name for its connections.
    NotNeeded,
    /// On the command line (`--yes`).
    Yes,
    /// At a prompt.
    Ask,
}

impl Approval {
    /// The approval that `--yes` and `--dry-run` stand for.
    pub(crate) fn of(yes: bool, dry_run: bool) -> Self {
        match (dry_run, yes) {
            (true, _) => Self::DryRun,
            (false, true) => Self::Yes,
            (false, false) => Self::Ask,
        }
    }

    /// Whether the command may change nodes.
    fn allows_changes(self) -> bool {
        match self {
            Self::DryRun | Self::NotNeeded => false,
            Self::Yes | Self::Ask => true,
        }
    }
}

/// A question of consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// The cluster that changes.
    pub(crate) about: String,
    /// `Add this node?`
    pub(crate) text: String,
}

/// A plan, as the pipeline sees it.
pub(crate) trait Proposal {
    /// Why there is nothing to do; the command then ends with success.
    fn nothing_to_do(&self) -> Option<String> {
        None
    }
    /// Shows what the plan follows from, also if nothing is to be done.
    fn show_basis(&self, _ui: &Ui) -> io::Result<()> {
        Ok(())
    }
    /// The nodes on which no other redis-trib may be at work.
    fn lock(&self) -> Vec<Target>;
    /// Shows the plan.
    fn show(&self, ui: &Ui) -> io::Result<()>;
    /// Runs once the plan is shown, also in a dry run: writes plan files, and refuses what can't be executed.
    fn after_show(&self) -> Result<(), Stop> {
        Ok(())
    }
    /// The question of consent; `None` if the plan needs none.
    fn question(&self) -> Option<Question>;
    /// The option that gives this consent in advance, if that is not `--yes`: more questions follow.
    fn consent_option(&self) -> Option<&'static str> {
        None
    }
    /// Whether both plans make the same changes in the same way.
    fn is_same(&self, other: &Self) -> bool;
}

/// A command that changes nodes, from its start to its end.
pub(crate) struct Change<'a> {
    ui: &'a Ui,
    global: &'a Global,
    command: &'static str,
    approval: Approval,
    credentials: Credentials,
    session: Arc<Session>,
    pump: Pump<'a>,
    /// Options that stand for the answers at prompts.
    answers: Vec<String>,
}

impl<'a> Change<'a> {
    /// Reads credentials and resolves the seeds. Other operators see `command` in the names of the connections.
    pub(crate) async fn open(
        global: &'a Global,
        ui: &'a Ui,
        command: &'static str,
        seeds: &[Seed],
        approval: Approval,
    ) -> Result<Self, Stop> {
        Self::open_also(global, ui, command, seeds, &[], approval).await
    }

    /// As [`Self::open`]. Also reads the certificates that the seeds in `also` need; they are used later.
    pub(crate) async fn open_also(
        global: &'a Global,
        ui: &'a Ui,
        command: &'static str,
        seeds: &[Seed],
        also: &[Seed],
        approval: Approval,
    ) -> Result<Self, Stop> {
        let (events, mut pump) = global.pump(ui);
        let approval = match (approval, &global.args.confirm) {
            (Approval::Ask, Some(_)) => Approval::Yes,
            (approval, _) => approval,
        };
        let name = Some(command).filter(|_| approval.allows_changes());
        let seeds = global.args.expand(seeds);
        let all = [&seeds[..], &global.args.expand(also)].concat();
        let opening = async {
            let credentials = Credentials::read(&global.args, ui, &all).await?;
            let session = global.session(&credentials, &seeds, name, events).await?;
            Ok((credentials, session))
        };
        let opened = pump.until_signal(opening).await;
        let (credentials, session) = opened.map_err(nothing_changed)?;
        Ok(Self {
            ui,
            global,
            command,
            approval,
            credentials,
            session: Arc::new(session),
            pump,
            answers: Vec::new(),
        })
    }

    /// The session of the command.
    pub(crate) fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session)
    }

    /// The same session for other seeds, for a command that names nodes besides the cluster.
    pub(crate) async fn also(&mut self, seeds: &[Seed]) -> Result<Arc<Session>, Stop> {
        let args = &self.global.args;
        let seeds = args.expand(seeds);
        let dial_options = |seed: &Seed| self.credentials.dial_options(args, seed);
        let resolving = resolve::resolve(&seeds, dial_options, args.family(), None, |_| {});
        let found = self.pump.until_signal(async { Ok(resolving.await?) }).await;
        Ok(Arc::new(Session {
            seeds: found.map_err(nothing_changed)?,
            resume: resume_flags(args, &seeds),
            ..Session::clone(&self.session)
        }))
    }

    /// The same session with connections that have no name: nodes that are only read are not locked.
    pub(crate) fn session_without_name(&self) -> Arc<Session> {
        let connections = self.global.connections(None);
        connections.adopt_hostnames(&self.session.connections);
        Arc::new(Session {
            connections: Arc::new(connections),
            name: None,
            ..Session::clone(&self.session)
        })
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
        result.map_err(|stop| self.before_changes(stop))
    }

    /// The stop of a part that changes nothing. A command that works in rounds may have changed something before.
    fn before_changes(&self, stop: Stop) -> Stop {
        match self.global.sent.any() {
            true => stop,
            false => nothing_changed(stop),
        }
    }

    /// What a stop before the next change says about the nodes.
    fn rest(&self) -> &'static str {
        match self.global.sent.any() {
            true => "nothing more was changed",
            false => "nothing was changed",
        }
    }

    /// Runs a part of the command that changes nodes. It watches signals itself.
    pub(crate) async fn execute<T>(&mut self, work: impl Future<Output = T>) -> T {
        self.pump.run(work).await
    }

    /// Opens new connections that carry the name of the command: a command that was opened with
    /// [`Approval::NotNeeded`] will change nodes after all, and its flags gave consent.
    pub(crate) fn will_change_nodes(&mut self) {
        let name = self.global.connection_name(self.command);
        self.approval = Approval::Yes;
        let connections = self.global.connections(Some(name.clone()));
        connections.adopt_hostnames(&self.session.connections);
        self.session = Arc::new(Session {
            connections: Arc::new(connections),
            name: Some(name),
            ..Session::clone(&self.session)
        });
    }

    /// Notes that the change has begun: from here on a failure is a partial result, even if no node was changed. `backup`
    /// changes files only, and the first key of a transfer may be the one that stops it.
    pub(crate) fn has_begun(&self) {
        self.global.sent.note();
    }

    /// Asks for a password. `instead` names the options that need no terminal.
    pub(crate) async fn password(
        &mut self,
        question: &str,
        flag: &str,
        instead: &str,
    ) -> Result<SecretSlice<u8>, Stop> {
        let ui = self.ui;
        self.prepare(credentials::ask_password(ui, question, flag, instead))
            .await
    }

    /// Prints the check that redis-cli and redis-trib.rb print first. In the native mode nothing happens.
    pub(crate) async fn check_before(&mut self, before: CheckFor) -> Result<(), Stop> {
        let session = self.session();
        self.check_before_of(&session, before).await
    }

    /// The same for the cluster of another session.
    pub(crate) async fn check_before_of(
        &mut self,
        session: &Session,
        before: CheckFor,
    ) -> Result<(), Stop> {
        let ui = self.ui;
        if !ui.mode().is_old() {
            return Ok(());
        }
        let state = self.prepare(ClusterState::look(session)).await?;
        ui.check_before(&state.diagnosis, before)?;
        Ok(())
    }

    /// Takes the lock, unless the command changes nothing.
    pub(crate) async fn lock(&mut self, targets: &[Target]) -> Result<LockHeld, Stop> {
        if !self.approval.allows_changes() {
            return Ok(LockHeld::AtOnce);
        }
        let session = self.session();
        self.prepare(session.lock(targets)).await
    }

    /// Makes the plan, takes the lock, shows the plan, and asks for consent. After the answer the plan is made again,
    /// because the cluster may have changed while the question was open. If the plan differs, it is shown and asked
    /// about again; without a terminal the command is refused. Returns `None` if the command ends here, with success.
    pub(crate) async fn approve<P: Proposal>(
        &mut self,
        plan: impl AsyncFn() -> Result<P, Stop>,
    ) -> Result<Option<P>, Stop> {
        let approved = self.ask_about(plan).await;
        // The answers are not lost, whatever stopped the command.
        if approved.is_err() && !self.answers.is_empty() {
            self.ui.equivalent(&self.without_prompts(&[]));
        }
        approved
    }

    async fn ask_about<P: Proposal>(
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
            let Some(question) = proposal.question().filter(|_| self.needs_consent()) else {
                return self.approved(proposal);
            };
            let consent = self.consent_by_name_or_yes(&question).await?;
            self.lock(&proposal.lock()).await?;
            let now = self.prepare(plan()).await?;
            if now.is_same(&proposal) {
                match proposal.consent_option() {
                    Some(option) => self.answered([option.to_string()]),
                    None => self.ui.equivalent(&self.without_prompts(&consent)),
                }
                return self.approved(now);
            }
            if !self.ui.is_with_person() {
                return Err(Stop::refused(anyhow!(
                    "the cluster changed after the plan was shown, and the plan no longer fits: run the command again \
                     ({})",
                    self.rest()
                )));
            }
            self.ui
                .warn("the cluster changed after the plan was shown; this is the new plan:");
            proposal = now;
        }
    }

    /// Whether a change needs an answer. `--yes` is enough for clusters that are not protected.
    fn needs_consent(&self) -> bool {
        let args = &self.global.args;
        match self.approval {
            Approval::DryRun | Approval::NotNeeded => false,
            Approval::Ask => true,
            Approval::Yes => args.name_to_confirm().is_some(),
        }
    }

    /// Asks for consent. Returns the option that gives it.
    async fn consent_by_name_or_yes(&mut self, question: &Question) -> Result<Vec<String>, Stop> {
        let global = self.global;
        match global.args.name_to_confirm() {
            Some(name) => {
                self.consent_by_name(name, &question.about).await?;
                Ok(vec!["--confirm".to_string(), name.to_string()])
            }
            None => {
                self.consent(question).await?;
                Ok(vec!["--yes".to_string()])
            }
        }
    }

    /// Asks for the name of a protected cluster.
    async fn consent_by_name(&mut self, name: &str, about: &str) -> Result<(), Stop> {
        let ui = self.ui;
        let answered = self.prepare(async { Ok(ui.confirm_name(name, about).await) });
        let answer = answered.await?;
        let missing = format!("@{name} is protected: pass --confirm {name}");
        self.accepted(answer, &missing)
    }

    /// Asks for the name if the cluster is protected and a command changes it whose options gave consent.
    pub(crate) async fn confirm_if_protected(&mut self, about: &str) -> Result<(), Stop> {
        let global = self.global;
        match global.args.name_to_confirm() {
            Some(name) => self.consent_by_name(name, about).await,
            None => Ok(()),
        }
    }

    /// Notes the options that stand for an answer at a prompt.
    pub(crate) fn answered(&mut self, options: impl IntoIterator<Item = String>) {
        self.answers.extend(options);
    }

    /// The command line that needs no prompts.
    fn without_prompts(&self, consent: &[String]) -> Vec<String> {
        [&self.global.args.line[..], &self.answers, consent].concat()
    }

    /// The plan, unless a signal arrived that nothing has looked at yet: this is the last moment at which nothing was
    /// changed.
    fn approved<P>(&self, proposal: P) -> Result<Option<P>, Stop> {
        match self.global.interrupt.heard() {
            Some(signal) => Err(self.before_changes(interrupted(signal))),
            None => Ok(Some(proposal)),
        }
    }

    /// Ends a dry run: says so and returns true.
    pub(crate) fn ends_as_dry_run(&self) -> io::Result<bool> {
        let is_dry_run = self.approval == Approval::DryRun;
        if is_dry_run {
            self.ui
                .done(ExitCode::Done, "Dry run: nothing was changed.")?;
        }
        Ok(is_dry_run)
    }

    /// Asks for consent, whatever the flags say. The end of the input is a no.
    pub(crate) async fn agreed(&mut self, question: &Question) -> Result<bool, Stop> {
        let ui = self.ui;
        self.prepare(async {
            match ui.confirm(&question.text, &question.about).await {
                Ok(answer) => Ok(answer == Answer::Accepted),
                Err(PromptError::Interrupted) => Err(interrupted("SIGINT")),
                Err(_) => Ok(false),
            }
        })
        .await
    }

    /// Asks for consent, whatever the flags say. Any answer but yes stops the command.
    pub(crate) async fn consent(&mut self, question: &Question) -> Result<(), Stop> {
        let ui = self.ui;
        let answered =
            self.prepare(async { Ok(ui.confirm(&question.text, &question.about).await) });
        let answer = answered.await?;
        self.accepted(answer, "pass --yes")
    }

    /// Any answer but an acceptance stops the command. `missing` says what to do without a terminal.
    fn accepted(&self, answer: Result<Answer, PromptError>, missing: &str) -> Result<(), Stop> {
        let rest = self.rest();
        let refused = |why: String| Err(Stop::not_confirmed(anyhow!("{why}")));
        match answer {
            Ok(Answer::Accepted) => Ok(()),
            Ok(Answer::Declined) => refused(format!("declined: {rest}")),
            Err(PromptError::NoTerminal) => refused(format!(
                "confirmation required but stdin is not a terminal: {missing} ({rest})"
            )),
            Err(PromptError::Interrupted) => Err(self.before_changes(interrupted("SIGINT"))),
            Err(error) => refused(format!("{error}: {rest}")),
        }
    }

    /// Ends the command with success. The message is for JSON; people have read it in other lines.
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

fn interrupted(signal: &str) -> Stop {
    Stop::interrupted(anyhow!("interrupted ({signal})"))
}

/// Adds to an interrupt that it came before the first change.
fn nothing_changed(stop: Stop) -> Stop {
    match stop.code {
        ExitCode::Interrupted => Stop {
            error: anyhow!("{:#}: nothing was changed", stop.error),
            ..stop
        },
        _ => stop,
    }
}
