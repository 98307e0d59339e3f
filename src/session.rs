//! What a command works with: connections, the nodes that were named, where events go, and whether it was interrupted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::ClientError;
use crate::cluster::node::Addr;
use crate::connections::{Connections, Target};
use crate::event::Events;
use crate::interrupt::Interrupt;
use crate::journal::Journal;
use crate::resolve::{self, SeedSet};
use crate::stop::Stop;

/// What a command works with.
#[derive(Clone)]
pub(crate) struct Session {
    /// Opens connections.
    pub(crate) connections: Arc<Connections>,
    /// The nodes that the named addresses stand for.
    pub(crate) seeds: Vec<SeedSet>,
    /// The name of our connections in CLIENT LIST; `None` for commands that only read.
    pub(crate) name: Option<String>,
    /// Options for command lines that resume.
    pub(crate) resume: ResumeFlags,
    /// Where events go.
    pub(crate) events: Events,
    /// Signals.
    pub(crate) interrupt: Interrupt,
}

/// Options as they were given, as arguments of a command line that resumes this one: it reaches the same nodes, and
/// moves slots in the same way. Never a password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResumeFlags {
    /// How nodes are reached, and what is recorded.
    pub reach: Vec<String>,
    /// How slots move.
    pub moving: Vec<String>,
}

impl Session {
    /// All nodes that were named.
    pub(crate) fn targets(&self) -> Vec<Target> {
        resolve::targets(&self.seeds).cloned().collect()
    }

    /// Takes the lock on these nodes: refuses while another redis-trib changes something on one of them. Of several
    /// that start together, the one whose name sorts first goes on.
    ///
    /// All nodes have our name before the first is searched for others. Of any two operators, the one that reaches
    /// that point last sees the other, and none goes on that sees another.
    pub(crate) async fn lock(&self, targets: &[Target]) -> Result<LockHeld, Stop> {
        let naming = self
            .connections
            .fan_out(targets.to_vec(), |connections, target| async move {
                // A node that can't be reached is reported where it is needed.
                let _ = connections.client(&target).await;
            });
        naming.await;
        let deadline = Instant::now() + YIELDING;
        let mut held = LockHeld::AtOnce;
        loop {
            let Some((other, addr)) = self.other_operator(targets).await else {
                return Ok(held);
            };
            held = LockHeld::AfterWaiting;
            // One that started together with this one and sorts after it ends by itself.
            if self.name.as_ref() > Some(&other) || Instant::now() >= deadline {
                return Err(Stop::refused(anyhow::anyhow!(
                    "another redis-trib is at work on {addr}: {other}; wait until it is done (CLIENT \
                     LIST there shows it), then try again"
                )));
            }
            tokio::time::sleep(YIELDING / 10).await;
        }
    }

    /// The other operator on these nodes whose name sorts first, and where it was seen.
    async fn other_operator(&self, targets: &[Target]) -> Option<(String, Addr)> {
        let asked = self
            .connections
            .fan_out(targets.to_vec(), |connections, target| async move {
                let list = client_list(&connections, &target).await;
                (target.addr, list)
            });
        let mut others = BTreeSet::new();
        for (addr, list) in asked.await {
            match list {
                Ok(list) => others.extend(
                    names(&list)
                        .filter(|name| Some(*name) != self.name.as_deref())
                        .map(|name| (name.to_string(), addr.clone())),
                ),
                // CLIENT LIST may be denied by ACL.
                Err(error) => tracing::warn!(%error, "can't look for other operators"),
            }
        }
        others.pop_first()
    }
}

/// CLIENT LIST on the kept connection, or on a new one if the server has closed that: servers close connections that
/// are idle for long (`timeout`), for example at a prompt.
async fn client_list(connections: &Connections, target: &Target) -> Result<String, ClientError> {
    match connections.client(target).await?.client_list().await {
        Err(error) if error.outcome_unknown() => {
            connections.drop_client(&target.addr);
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

/// No other operator is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockHeld {
    /// There was none at the first look either.
    AtOnce,
    /// Another one was at work until now: what was read before may have changed.
    AfterWaiting,
}

/// How long an operator that started together with this one may take to see it and end.
const YIELDING: Duration = Duration::from_secs(2);

/// The first part of the names of our connections, by which others find us in CLIENT LIST.
const NAME_PREFIX: &str = "redis-trib/";

/// `redis-trib/create/ann@laptop/5f3a09c1`: who changes something, told apart by run. The name goes
/// with the process. The journal, if there is one, names the same run.
pub(crate) fn connection_name(command: &str, journal: Option<&Journal>) -> String {
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
