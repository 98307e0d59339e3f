//! The resources of a command: connections, the nodes that were named, events and signals.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::{ClientError, Fault};
use crate::cluster::node::Addr;
use crate::connections::{Connections, Target};
use crate::control::{Control, RunName};
use crate::event::{Event, Events};
use crate::interrupt::Interrupt;
use crate::journal::Journal;
use crate::report::{RemedyOptions, redis_cli_line};
use crate::resolve::{self, SeedSet};
use crate::stop::Stop;

/// The resources of a command.
#[derive(Clone)]
pub(crate) struct Session {
    /// Opens connections.
    pub(crate) connections: Arc<Connections>,
    /// The nodes that the named addresses resolve to.
    pub(crate) seeds: Vec<SeedSet>,
    /// The name of our connections in CLIENT LIST; `None` for commands that only read.
    pub(crate) name: Option<String>,
    /// Options for command lines that resume.
    pub(crate) resume: ResumeFlags,
    /// When the command began.
    pub(crate) began: Instant,
    /// How long states that normally pass are waited for (`--settle-timeout`); `None` for the default.
    pub(crate) settle_timeout: Option<Duration>,
    /// Where events go.
    pub(crate) events: Events,
    /// Signals.
    pub(crate) interrupt: Interrupt,
    /// What can be changed while slots move.
    pub(crate) control: Control,
    /// Whether the user was told that other operators can't be seen.
    pub(crate) warned_of_no_lock: Arc<AtomicBool>,
}

/// Options for a command line that resumes this one: it reaches the same nodes and moves slots in the same way. It never
/// contains a password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResumeFlags {
    /// How nodes are reached, and where changes are recorded.
    pub reach: Vec<String>,
    /// How slots move.
    pub moving: Vec<String>,
    /// The options of this command alone.
    pub own: Vec<String>,
    /// Those of them that name zones.
    pub zones: Vec<String>,
    /// `--yes` or `--confirm NAME`, if it was given: what resumes is what was agreed to.
    pub consent: Vec<String>,
    /// The cluster of the configuration file, if the command line names its nodes as `@NAME`.
    pub cluster: Option<String>,
}

impl ResumeFlags {
    /// Adds that the settings of this cluster are used, for a line that names a node by its address.
    pub(crate) fn add_settings_of(&mut self, cluster: &str) {
        let flag = "--settings-of";
        if !self.reach.iter().any(|word| word == flag) {
            self.reach.extend([flag.to_string(), cluster.to_string()]);
        }
    }

    /// What the command line of a remedy repeats.
    pub(crate) fn remedy_options(&self) -> RemedyOptions {
        RemedyOptions {
            reach: self.reach_of_address(),
            zones: self.zones.clone(),
        }
    }

    /// The command line that sends `command` to the node at `addr`.
    pub(crate) fn redis_cli(&self, addr: &Addr, command: &str) -> String {
        redis_cli_line(addr, command, &self.reach_of_address())
    }

    /// How a node is reached by its address.
    pub(crate) fn reach_of_address(&self) -> Vec<String> {
        let mut flags = self.clone();
        if let Some(cluster) = &self.cluster {
            flags.add_settings_of(cluster);
        }
        flags.reach
    }
}

impl Session {
    /// Waits for the second signal. At the first one it says what is finished before the command stops.
    pub(crate) async fn second_signal(&self, in_hand: &str) {
        let signal = self.interrupt.requested().await;
        self.events.warn(format!(
            "{signal}: finishing {in_hand}; a second signal stops at once"
        ));
        self.interrupt.forced().await;
    }

    /// The name of this run, by which `throttle` finds it.
    pub(crate) fn run_name(&self) -> RunName {
        let name = self.name.as_deref().unwrap_or_default();
        let parts: Vec<&str> = name.split('/').collect();
        let (command, run) = match &parts[..] {
            [_, command, .., run] => ((*command).to_string(), (*run).to_string()),
            _ => (String::new(), run_id()),
        };
        let node = self.targets().first().map(|node| node.addr.to_string());
        RunName {
            run,
            command,
            node: node.unwrap_or_default(),
        }
    }

    /// All nodes that were named.
    pub(crate) fn targets(&self) -> Vec<Target> {
        resolve::targets(&self.seeds).cloned().collect()
    }

    /// Takes the lock on these nodes: refuses while another redis-trib changes one of them. Waits for one that has not run
    /// for long. Of several that start at the same time, the one whose name sorts first continues.
    ///
    /// All nodes have the name of this run before the first one is searched for others. Of any two operators, the one
    /// that reaches that point last sees the other one, and an operator that sees another does not continue.
    pub(crate) async fn lock(&self, targets: &[Target]) -> Result<LockHeld, Stop> {
        let naming = self
            .connections
            .fan_out(targets.to_vec(), |connections, target| async move {
                // A node that can't be reached is reported where it is needed.
                let client = connections.client(&target).await.ok()?;
                (!client.is_named()).then_some(target.addr)
            });
        let unnamed: Vec<Addr> = naming.await.into_iter().flatten().collect();
        if self.name.is_some() {
            self.warn_of_no_lock("CLIENT SETNAME", &unnamed);
        }
        let deadline = Instant::now() + YIELDING;
        let mut wait = LockWait::default();
        loop {
            let Some(other) = self.other_operator(targets).await else {
                return Ok(wait.ended(self));
            };
            wait.held = LockHeld::AfterWaiting;
            let is_late = Instant::now() >= deadline;
            let is_older = other.is_older_than(self.began.elapsed());
            let may_go_on = match is_older {
                // It may be about to end.
                true => other.age < self.settle_timeout.unwrap_or(FINISHING),
                // Of two that started at the same time, the one that sorts after the other ends by itself.
                false => self.name.as_ref() <= Some(&other.name) && !is_late,
            };
            if !may_go_on {
                wait.ended(self);
                return Err(at_work(&other.name, &other.addr));
            }
            if is_older {
                wait.began.get_or_insert_with(Instant::now);
                self.events.waiting(format!(
                    "another redis-trib is at work on {}: {}",
                    other.addr, other.name
                ));
            }
            tokio::time::sleep(YIELDING / 10).await;
        }
    }

    /// Refuses if another redis-trib changes one of these nodes: what looks like a fault is its work. It takes no lock.
    pub(crate) async fn refuse_if_at_work(&self, targets: &[Target]) -> Result<(), Stop> {
        match self.other_operator(targets).await {
            Some(other) => Err(at_work(&other.name, &other.addr)),
            None => Ok(()),
        }
    }

    /// Says once that operators do not see each other, and why.
    fn warn_of_no_lock(&self, denied: &str, by: &[Addr]) {
        if by.is_empty() || self.warned_of_no_lock.swap(true, Ordering::Relaxed) {
            return;
        }
        let by: Vec<String> = by.iter().map(Addr::to_string).collect();
        self.events.warn(format!(
            "there is no lock, because {denied} is denied by {}: make sure that no other redis-trib is at work on this \
             cluster",
            by.join(", ")
        ));
    }

    /// The other operator whose name sorts first.
    async fn other_operator(&self, targets: &[Target]) -> Option<OtherOperator> {
        let asked = self
            .connections
            .fan_out(targets.to_vec(), |connections, target| async move {
                let list = client_list(&connections, &target).await;
                (target.addr, list)
            });
        let mut others: BTreeMap<String, OtherOperator> = BTreeMap::new();
        let mut unasked = Vec::new();
        for (addr, list) in asked.await {
            match list {
                Ok(list) => {
                    for (name, age) in operators(&list) {
                        if Some(name) == self.name.as_deref() {
                            continue;
                        }
                        let other = others.entry(name.to_string());
                        let other = other.or_insert_with(|| OtherOperator {
                            name: name.to_string(),
                            addr: addr.clone(),
                            age,
                        });
                        other.age = other.age.max(age);
                    }
                }
                // CLIENT LIST may be denied by ACL, or renamed. A node that does not answer is reported elsewhere.
                Err(error) if is_denied(&error) => unasked.push(addr),
                Err(error) => tracing::warn!(%error, "can't look for other operators"),
            }
        }
        self.warn_of_no_lock("CLIENT LIST", &unasked);
        others.pop_first().map(|(_, other)| other)
    }
}

/// Another operator at work.
struct OtherOperator {
    name: String,
    /// A node on which it was seen.
    addr: Addr,
    /// The age of its oldest connection, in whole seconds.
    age: Duration,
}

impl OtherOperator {
    /// Whether it certainly started before an operator that runs for so long.
    fn is_older_than(&self, runs: Duration) -> bool {
        self.age > runs + YIELDING
    }
}

/// The wait for another operator.
#[derive(Default)]
struct LockWait {
    held: LockHeld,
    began: Option<Instant>,
}

impl LockWait {
    /// Says how long the wait took.
    fn ended(&self, session: &Session) -> LockHeld {
        if let Some(began) = self.began {
            session.events.send(Event::Waited {
                waited_for: vec!["running-redis-trib"],
                took: began.elapsed(),
            });
        }
        self.held
    }
}

/// Whether a node refuses the command itself: an ACL denies it, or it was renamed.
fn is_denied(error: &ClientError) -> bool {
    matches!(error.fault, Fault::NoPermission { .. }) || error.is_unknown_command()
}

fn at_work(other: &str, addr: &Addr) -> Stop {
    Stop::refused(anyhow::anyhow!(
        "another redis-trib is at work on {addr}: {other}; wait until it is done (CLIENT LIST there shows it), then \
         try again"
    ))
}

/// Sends CLIENT LIST on the kept connection, or on a new one if the server has closed it: servers close idle connections
/// (`timeout`), for example during a prompt.
async fn client_list(connections: &Connections, target: &Target) -> Result<String, ClientError> {
    match connections.client(target).await?.client_list().await {
        Err(error) if error.outcome_unknown() => {
            connections.drop_client(target);
            connections.client(target).await?.client_list().await
        }
        list => list,
    }
}

/// The names of all connections of operators that change nodes, with the ages of the connections.
fn operators(list: &str) -> impl Iterator<Item = (&str, Duration)> {
    list.lines().filter_map(|line| {
        let (mut name, mut age) = (None, Duration::ZERO);
        for (field, value) in line.split(' ').filter_map(|field| field.split_once('=')) {
            match field {
                "name" => name = Some(value),
                "age" => age = Duration::from_secs(value.parse().unwrap_or_default()),
                _ => {}
            }
        }
        let name = name.filter(|name| name.starts_with(NAME_PREFIX))?;
        Some((name, age))
    })
}

/// No other operator is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LockHeld {
    /// There was none.
    #[default]
    AtOnce,
    /// Another one was active until now: what was read before may have changed.
    AfterWaiting,
}

/// The time that an operator that started at the same time has to see this one and to end.
const YIELDING: Duration = Duration::from_secs(2);

/// The default of `--settle-timeout` for another operator that may be about to end.
const FINISHING: Duration = Duration::from_secs(15);

/// The prefix of the names of connections, by which operators find each other in CLIENT LIST.
const NAME_PREFIX: &str = "redis-trib/";

/// The name of the connections of a run, for example `redis-trib/create/ann@laptop/5f3a09c1`. It disappears with the
/// process. The journal has the same run id.
pub(crate) fn connection_name(command: &str, journal: Option<&Journal>) -> String {
    let run = journal.map_or_else(run_id, |journal| journal.run().to_string());
    format!("{NAME_PREFIX}{command}/{}/{run}", who())
}

/// A random id for this run of the program.
pub(crate) fn run_id() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    format!("{:08x}", RandomState::new().build_hasher().finish() as u32)
}

/// The user and the host, for example `ann@laptop`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_found_with_the_ages_of_their_connections() {
        let list = "id=3 addr=127.0.0.1:5 name=redis-trib/fix/ann@host/1 age=7 idle=0\n\
                    id=4 addr=127.0.0.1:6 name=app age=9 idle=0\n\
                    id=5 addr=127.0.0.1:7 age=x name=redis-trib/fix/bob@host/2\n";
        let found: Vec<_> = operators(list).collect();
        let age = Duration::from_secs;
        assert_eq!(
            found,
            [
                ("redis-trib/fix/ann@host/1", age(7)),
                ("redis-trib/fix/bob@host/2", age(0))
            ]
        );
    }
}
