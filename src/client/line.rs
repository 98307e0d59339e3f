//! The connection below a client, which is replaced when the server has closed it.
//!
//! Servers (`timeout`), proxies and firewalls close connections that are idle, and Valkey 8 closes the connection of a
//! client that it unblocks when a master becomes a replica. After one second of idleness a connection is therefore
//! checked before anything is sent on it. A closed connection is opened again if the same process answers under the same
//! node id; reads, and changes that may be sent twice, are then sent again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::connect::{Connector, Login, Transport};
use super::error::Fault;
use super::reply::Reply;
use super::stream::Wire;
use super::{Command, Deadline, NodeClient};
use crate::cluster::node::NodeId;

/// The idleness after which a connection is checked before it is used.
const IDLE: Duration = Duration::from_secs(1);

/// How long the answer to that check may take, and opening another connection if it does not come: a firewall may have
/// dropped the connection without a word. A server that is busy for longer keeps its connection.
const CHECKED_WITHIN: Duration = Duration::from_secs(1);

/// How long opening a closed connection again may take.
const REOPENED_WITHIN: Duration = Duration::from_secs(3);

/// Changes that may be sent a second time if the answer to the first is lost: the second one has no effect, or the same.
const REPEATABLE: [&str; 14] = [
    "ASKING",
    "CLIENT SETNAME",
    "CLUSTER BUMPEPOCH",
    // A node that was forgotten is unknown then, which callers take for success.
    "CLUSTER FORGET",
    "CLUSTER MEET",
    "CLUSTER REPLICATE",
    // A source that became a replica by the first one refuses the second, which callers take for success.
    "CLUSTER SETSLOT",
    "CONFIG REWRITE",
    "CONFIG SET",
    "EXEC",
    "FUNCTION RESTORE",
    "MULTI",
    "READONLY",
    "SELECT",
];

/// One connection of a client.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) connection: MultiplexedConnection,
    pub(super) wire: Arc<Wire>,
    /// Whether a complete reply was ever received.
    pub(super) spoken: Arc<AtomicBool>,
    _driver: Arc<Driver>,
}

impl Line {
    pub(super) fn new(
        connection: MultiplexedConnection,
        wire: Arc<Wire>,
        driver: AbortHandle,
    ) -> Self {
        Self {
            connection,
            wire,
            spoken: Arc::default(),
            _driver: Arc::new(Driver(driver)),
        }
    }
}

/// The task that carries the requests of a connection. It outlives the connection while replies are missing: a node that
/// never answers would keep it, and the socket, forever.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How a connection is opened again.
#[derive(Clone)]
pub(super) struct Reopening {
    pub(super) connector: Connector,
    pub(super) login: Login,
    pub(super) transport: Transport,
}

/// The connection of a client, and what is known of the server at its other end.
pub(super) struct Lines {
    reopening: Reopening,
    state: Mutex<State>,
    /// Held while a connection is opened again: callers that share the client do not open one each.
    opening: tokio::sync::Mutex<()>,
    in_flight: AtomicUsize,
}

struct State {
    line: Line,
    /// The number of connections before this one.
    generation: u64,
    /// When the last reply arrived, or the connection was opened.
    answered: Instant,
    /// The id of the node, once it was read.
    id: Option<NodeId>,
    /// The run id of the server process, once it was read.
    run: Option<String>,
    /// READONLY was sent.
    readonly: bool,
    /// The database that was selected for the connection.
    database: u32,
    /// WATCH was sent: the keys are watched on this connection only.
    watching: bool,
}

/// A request in progress.
pub(super) struct InFlight<'a>(&'a Lines);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lines {
    pub(super) fn new(line: Line, reopening: Reopening) -> Self {
        Self {
            reopening,
            state: Mutex::new(State {
                line,
                generation: 0,
                answered: Instant::now(),
                id: None,
                run: None,
                readonly: false,
                database: 0,
                watching: false,
            }),
            opening: tokio::sync::Mutex::default(),
            in_flight: AtomicUsize::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The data is consistent after every statement that holds the lock, even if another thread panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task that carries the requests.
    #[cfg(test)]
    pub(super) fn driver(&self) -> AbortHandle {
        self.state().line._driver.0.clone()
    }

    /// The current connection, and its place in the order of all.
    pub(super) fn current(&self) -> (Line, u64) {
        let state = self.state();
        (state.line.clone(), state.generation)
    }

    /// Counts a request until the guard is dropped.
    pub(super) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    /// Notes that a reply arrived.
    pub(super) fn answered(&self) {
        self.state().answered = Instant::now();
    }

    /// Learns the id of the node from its CLUSTER NODES.
    pub(super) fn learn_id(&self, id: NodeId) {
        self.state().id = Some(id);
    }

    /// Forgets the id: the node is about to get another one.
    pub(super) fn forget_id(&self) {
        self.state().id = None;
    }

    /// Learns the run id of the process from its INFO.
    pub(super) fn learn_run(&self, info: &str) {
        if let Some(run) = run_id(info) {
            self.state().run = Some(run.to_string());
        }
    }

    pub(super) fn set_readonly(&self) {
        self.state().readonly = true;
    }

    pub(super) fn set_database(&self, database: u32) {
        self.state().database = database;
    }

    pub(super) fn set_watching(&self, watching: bool) {
        self.state().watching = watching;
    }

    /// Whether the server has closed the connection.
    fn is_closed(&self) -> bool {
        self.state().line.wire.is_closed()
    }

    fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0 && self.state().answered.elapsed() >= IDLE
    }
}

fn run_id(info: &str) -> Option<&str> {
    let line = info.lines().find_map(|line| line.strip_prefix("run_id:"))?;
    Some(line.trim()).filter(|run| !run.is_empty())
}

/// Whether commands may be sent a second time if the answer to the first is lost.
pub(super) fn may_be_repeated(class: Deadline, commands: &[Command]) -> bool {
    match class {
        Deadline::Read | Deadline::Value => true,
        Deadline::Change => commands
            .iter()
            .all(|command| REPEATABLE.contains(&command.name)),
        Deadline::Within(_) => false,
    }
}

impl NodeClient {
    /// Whether the server has closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.lines.is_closed()
    }

    /// Before a request: opens a connection again that the server has closed. A connection that was idle is checked first.
    /// What can't be opened again is left as it is, and the request reports the fault.
    pub(crate) async fn refresh(&self) {
        let lines = &self.shared.lines;
        let (_, generation) = lines.current();
        if lines.is_closed() {
            self.reopen(generation).await;
            return;
        }
        if !lines.is_idle() {
            return;
        }
        let ping = self.exchange(Deadline::Read, vec![Command::named("PING")]);
        match timeout(CHECKED_WITHIN, ping).await {
            // An error (BUSY, LOADING, NOPERM) is an answer.
            Ok(Ok(_)) => {}
            Ok(Err(_)) => drop(self.reopen(generation).await),
            Err(_) => drop(self.reopen_within(generation, CHECKED_WITHIN).await),
        }
    }

    /// Opens the connection again, unless another caller did so after `generation`. Returns whether there is a new
    /// connection to the same process of the same node.
    pub(super) async fn reopen(&self, generation: u64) -> bool {
        self.reopen_within(generation, REOPENED_WITHIN).await
    }

    async fn reopen_within(&self, generation: u64, within: Duration) -> bool {
        let lines = &self.shared.lines;
        let _opening = lines.opening.lock().await;
        let (old, now) = lines.current();
        if now != generation {
            return true;
        }
        if lines.state().watching {
            return false;
        }
        let opened = timeout(within, self.open_again(&old)).await;
        let line = match opened {
            Ok(Ok(line)) => line,
            Ok(Err(fault)) => {
                debug!(node = %self.shared.addr, %fault, "not connected again");
                return false;
            }
            Err(_) => return false,
        };
        let mut state = lines.state();
        state.line = line;
        state.generation += 1;
        state.answered = Instant::now();
        drop(state);
        debug!(node = %self.shared.addr, "connected again");
        true
    }

    async fn open_again(&self, old: &Line) -> Result<Line, Fault> {
        let lines = &self.shared.lines;
        let Reopening {
            connector,
            login,
            transport,
        } = &lines.reopening;
        let (id, run, readonly, database) = {
            let state = lines.state();
            (state.id, state.run.clone(), state.readonly, state.database)
        };
        let wire = Wire::new(old.wire.limit());
        let opening = connector.open(&self.shared.addr, transport, wire, login, id);
        let client = opening.await?;
        let closed = || Fault::Closed { command: "PING" };
        if let Some(run) = run {
            let commands = vec![Command::named("INFO").word("server")];
            let info = first(client.exchange(Deadline::Read, commands).await)?.text()?;
            if run_id(&info) != Some(run.as_str()) {
                return Err(closed());
            }
        }
        if readonly {
            let commands = vec![Command::named("READONLY")];
            first(client.exchange(Deadline::Change, commands).await)?.ok()?;
        }
        if database != 0 {
            let commands = vec![Command::named("SELECT").word(database)];
            first(client.exchange(Deadline::Read, commands).await)?.ok()?;
        }
        let (line, _) = client.shared.lines.current();
        Ok(line)
    }
}

fn first(replies: Result<Vec<Reply>, Fault>) -> Result<Reply, Fault> {
    let malformed = Fault::Malformed { command: "PING" };
    replies?.pop().ok_or(malformed)
}
