//! What every command starts with: options to connections, seeds to nodes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use secrecy::SecretString;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::args::global::{GlobalArgs, ResumeFlags};
use crate::args::values::text_of;
use crate::client::{ClientError, Connector, Login, TlsClient, TlsOptions, Transport};
use crate::cluster::health::shell_word;
use crate::cluster::node::Addr;
use crate::connections::{Connections, DialOptions, Target};
use crate::journal::Journal;
use crate::resolve::{self, Expected, SeedSet};
use crate::seed::{Scheme, Seed};
use crate::stop::Stop;
use crate::ui::{PromptError, Ui};

/// A command's means: connections, and how seeds are logged in to.
pub(crate) struct Session {
    /// Opens connections.
    pub(crate) connections: Arc<Connections>,
    /// What the seeds stand for.
    pub(crate) seeds: Vec<SeedSet>,
    /// What our connections are called.
    name: Option<String>,
    /// Options for command lines that go on: how the nodes are reached.
    pub(crate) again: ResumeFlags,
}

/// Whether a command changes anything, and so must be seen by other operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It reads.
    Read,
    /// It changes; the command's word is in the name of its connections.
    Change(&'static str),
}

/// Passwords and certificates of the command line, read once: a password is asked for once, however
/// often the seeds are looked up.
pub(crate) struct Credentials {
    login: Login,
    tls: Option<TlsClient>,
}

impl Credentials {
    /// Reads files, the environment and, where it is wanted, the terminal.
    pub(crate) async fn read(global: &GlobalArgs, ui: &Ui, seeds: &[Seed]) -> Result<Self, Stop> {
        // Files first: whoever is asked for a password has nothing else to mend.
        let tls = tls(global, seeds)?;
        let login = login(global, ui).await?;
        Ok(Self { login, tls })
    }

    /// What an address says counts before what the command line says.
    fn access(&self, global: &GlobalArgs, seed: &Seed) -> DialOptions {
        let Login { user, password } = self.login.clone();
        DialOptions {
            login: match (&seed.user, &seed.password) {
                (None, None) => Login { user, password },
                // `redis://ann@host`: who, and the password comes from elsewhere.
                (Some(seed_user), None) => Login {
                    user: Some(seed_user.clone()),
                    password,
                },
                (seed_user, Some(seed_password)) => Login {
                    user: seed_user.clone(),
                    password: Some(seed_password.clone()),
                },
            },
            transport: self.transport(global, seed),
        }
    }

    /// Plain or TLS, whatever the login.
    pub(crate) fn transport(&self, global: &GlobalArgs, seed: &Seed) -> Transport {
        match (&self.tls, seed.scheme) {
            (Some(tls), Scheme::Rediss) => Transport::Tls(tls.clone()),
            (Some(tls), Scheme::None) if global.tls => Transport::Tls(tls.clone()),
            _ => Transport::Plain,
        }
    }
}

impl Session {
    /// Reads credentials and certificates, and looks the seeds up.
    pub(crate) async fn open(
        global: &GlobalArgs,
        ui: &Ui,
        seeds: &[Seed],
        intent: Access,
    ) -> Result<Self, Stop> {
        let credentials = Credentials::read(global, ui, seeds).await?;
        Self::with(&credentials, global, seeds, intent, |what| ui.waiting(what)).await
    }

    /// Looks the seeds up; `tell` hears what that waits for.
    pub(crate) async fn with(
        credentials: &Credentials,
        global: &GlobalArgs,
        seeds: &[Seed],
        intent: Access,
        tell: impl Fn(&str),
    ) -> Result<Self, Stop> {
        let name = match intent {
            Access::Read => None,
            Access::Change(command) => Some(connection_name(command, global.opened.as_deref())),
        };
        if let (Some(journal), Access::Change(command)) = (&global.opened, intent) {
            journal.set_command(command);
        }
        let connector = Connector {
            connect_timeout: global.connect_timeout,
            command_timeout: global.command_timeout,
            name: name.clone(),
            journal: global.opened.clone(),
            sent: global.sent.clone(),
        };
        let expected = global.expect_nodes.map(|nodes| Expected {
            nodes: usize::from(nodes),
            within: global.resolve_timeout,
        });
        let access = |seed: &Seed| credentials.access(global, seed);
        let again = again(global, seeds);
        let seeds = resolve::resolve(seeds, access, global.family(), expected, tell).await?;
        let connections = Connections::new(
            connector,
            global.address_map.clone(),
            usize::from(global.connections),
        );
        Ok(Self {
            connections: Arc::new(connections),
            seeds,
            name,
            again,
        })
    }
}

impl Session {
    /// The same connections, and the same name for other operators, for other seeds: a command may
    /// be about a cluster, and about nodes besides.
    pub(crate) async fn with_seeds(
        &self,
        credentials: &Credentials,
        global: &GlobalArgs,
        seeds: &[Seed],
    ) -> Result<Self, Stop> {
        let access = |seed: &Seed| credentials.access(global, seed);
        Ok(Self {
            connections: Arc::clone(&self.connections),
            seeds: resolve::resolve(seeds, access, global.family(), None, |_| {}).await?,
            name: self.name.clone(),
            again: self.again.clone(),
        })
    }

    /// All nodes that were named.
    pub(crate) fn targets(&self) -> Vec<Target> {
        resolve::targets(&self.seeds).cloned().collect()
    }

    /// Refuses to go on while another redis-trib is at work on one of these nodes. Of several that
    /// start together, the one whose name sorts first goes on.
    ///
    /// All nodes have our name before we look at the first: of any two operators, the one that came
    /// to that point last sees the other, and nobody goes on who sees somebody.
    pub(crate) async fn refuse_others(
        &self,
        targets: impl Iterator<Item = &Target>,
    ) -> Result<LockHeld, Stop> {
        let targets: Vec<Target> = targets.cloned().collect();
        let mut naming = JoinSet::new();
        for target in targets.clone() {
            let connections = Arc::clone(&self.connections);
            // Who can't be reached is told where it is needed.
            naming.spawn(async move { connections.client(&target).await.map(drop) });
        }
        naming.join_all().await;
        let deadline = Instant::now() + YIELDING;
        let mut alone = LockHeld::AllTheTime;
        loop {
            let Some((other, addr)) = self.other_operator(&targets).await else {
                return Ok(alone);
            };
            alone = LockHeld::ByNow;
            // Who started together with us and sorts after us goes away by itself.
            if self.name.as_ref() > Some(&other) || Instant::now() >= deadline {
                return Err(Stop::refused(anyhow::anyhow!(
                    "another redis-trib is at work on {addr}: {other}; wait until it is done (CLIENT \
                     LIST there shows it), then try again"
                )));
            }
            tokio::time::sleep(YIELDING / 10).await;
        }
    }

    /// The first in order of those who are at work on these nodes, and where it was seen.
    async fn other_operator(&self, targets: &[Target]) -> Option<(String, Addr)> {
        let mut asking = JoinSet::new();
        for target in targets.iter().cloned() {
            let connections = Arc::clone(&self.connections);
            asking.spawn(async move {
                let list = client_list(&connections, &target).await;
                (target.addr, list)
            });
        }
        let mut others = BTreeSet::new();
        for (addr, list) in asking.join_all().await {
            match list {
                Ok(list) => others.extend(
                    names(&list)
                        .filter(|name| Some(*name) != self.name.as_deref())
                        .map(|name| (name.to_string(), addr.clone())),
                ),
                // Not everybody may look at CLIENT LIST.
                Err(error) => tracing::warn!(%error, "can't look for other operators"),
            }
        }
        others.pop_first()
    }
}

/// What a command line that goes on repeats, with what the address of the first seed said: command lines
/// name nodes by host and port.
fn again(global: &GlobalArgs, seeds: &[Seed]) -> ResumeFlags {
    let mut again = global.again.clone();
    let Some(seed) = seeds.first() else {
        return again;
    };
    let mut add = |flag: &str, value: Option<&String>| {
        let said = |option: &String| option.split(' ').next() == Some(flag);
        if !again.reach.iter().any(said) {
            let value = value.map(|value| format!(" {}", shell_word(value)));
            let value = value.unwrap_or_default();
            again.reach.push(format!("{flag}{value}"));
        }
    };
    if seed.scheme == Scheme::Rediss {
        add("--tls", None);
    }
    if seed.user.is_some() {
        add("--user", seed.user.as_ref());
    }
    if seed.password.is_some() {
        add("--askpass", None);
    }
    again
}

/// The credentials of the command line or the environment, for seeds that bring none.
async fn login(global: &GlobalArgs, ui: &Ui) -> Result<Login, Stop> {
    let password = if let Some(pass) = &global.pass {
        Some(SecretString::from(pass.clone()))
    } else if let Some(file) = &global.pass_file {
        Some(password_of("--pass-file", file).map_err(Stop::usage)?)
    } else if global.askpass {
        Some(ui.password("Password").await.map_err(no_password)?)
    } else {
        // As valkey-cli and redis-cli have it; empty counts as unset.
        let said = |name| {
            let password = std::env::var(name).ok();
            password.filter(|password| !password.is_empty())
        };
        said("VALKEYCLI_AUTH")
            .or_else(|| said("REDISCLI_AUTH"))
            .map(SecretString::from)
    };
    Ok(Login {
        user: global.user.clone(),
        password,
    })
}

fn no_password(error: PromptError) -> Stop {
    match error {
        PromptError::Interrupted => Stop::interrupted(error),
        error => Stop::usage(anyhow::anyhow!(
            "--askpass: {error}; --pass-file and REDISCLI_AUTH need no terminal"
        )),
    }
}

/// The first line of the file that a flag names.
pub(crate) fn password_of(flag: &str, file: &Path) -> anyhow::Result<SecretString> {
    let text =
        text_of(file).with_context(|| format!("{flag} {}: can't be read", file.display()))?;
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(SecretString::from(line.to_string())),
        None => anyhow::bail!("{flag} {}: its first line is empty", file.display()),
    }
}

/// TLS, where an option or an address asks for it.
fn tls(global: &GlobalArgs, seeds: &[Seed]) -> Result<Option<TlsClient>, Stop> {
    let options = TlsOptions {
        ca_file: global.cacert.clone(),
        ca_dir: global.cacertdir.clone(),
        cert: global.cert.clone(),
        key: global.key.clone(),
        sni: global.sni.clone(),
        verify: global.verify(),
    };
    if global.tls || seeds.iter().any(|seed| seed.scheme == Scheme::Rediss) {
        return TlsClient::new(&options).map(Some).map_err(Stop::usage);
    }
    let named = [
        (options.ca_file.is_some(), "--cacert"),
        (options.ca_dir.is_some(), "--cacertdir"),
        (options.cert.is_some(), "--cert"),
        (options.key.is_some(), "--key"),
        (options.sni.is_some(), "--sni"),
        (global.insecure, "--insecure"),
    ];
    match named.iter().find(|(given, _)| *given) {
        Some((_, flag)) => Err(Stop::usage(anyhow::anyhow!(
            "{flag} needs TLS: add --tls, or write addresses as rediss://host:port"
        ))),
        None => Ok(None),
    }
}

/// CLIENT LIST, on the kept connection. Servers close connections that are idle for long, at a prompt
/// for example: then on a new one.
async fn client_list(connections: &Connections, target: &Target) -> Result<String, ClientError> {
    match connections.client(target).await?.client_list().await {
        Err(error) if error.outcome_unknown() => {
            connections.drop_client(target);
            connections.client(target).await?.client_list().await
        }
        list => list,
    }
}

/// The names of every redis-trib that changes something.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.lines()
        .flat_map(|line| line.split(' '))
        .filter_map(|field| field.strip_prefix("name="))
        .filter(|name| name.starts_with(NAME_PREFIX))
}

/// Nobody else is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockHeld {
    /// Nor was anybody when we looked first.
    AllTheTime,
    /// Somebody went away meanwhile: what was read before may no longer be so.
    ByNow,
}

/// How long somebody who started together with us may take to see us and end.
const YIELDING: Duration = Duration::from_secs(2);

/// The first part of the names of our connections, by which others find us in CLIENT LIST.
const NAME_PREFIX: &str = "redis-trib/";

/// `redis-trib/create/ann@laptop/5f3a09c1`: who changes something, told apart by run. The name goes
/// with the process. The journal, if there is one, names the same run.
fn connection_name(command: &str, journal: Option<&Journal>) -> String {
    let run = journal.map_or_else(run_id, |journal| journal.run().to_string());
    format!("{NAME_PREFIX}{command}/{}/{run}", who())
}

/// A number for this run of the program.
pub(crate) fn run_id() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    format!("{:08x}", RandomState::new().build_hasher().finish() as u32)
}

/// `ann@laptop`.
pub(crate) fn who() -> String {
    let user = whoami::username().unwrap_or_else(|_| "unknown".to_string());
    let host = whoami::hostname().unwrap_or_else(|_| "unknown".to_string());
    // CLIENT SETNAME takes printable ASCII without spaces.
    format!("{user}@{host}")
        .chars()
        .map(|c| {
            if c.is_ascii_graphic() && c != '/' {
                c
            } else {
                '_'
            }
        })
        .take(80)
        .collect()
}
