//! Connections to many nodes: who may be dialled how, and how many at once.
//!
//! Owned by the command, lent to the others. Each node has an address and an access of its own;
//! nodes that were found through another inherit its access.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::client::{ClientError, Connector, Login, NodeClient, Snapshot, Transport};
use crate::cluster::node::Addr;
use crate::seed::AddressMapping;

/// How a node is logged in to, and whether over TLS.
#[derive(Debug, Clone)]
pub struct DialOptions {
    /// User and password.
    pub login: Login,
    /// Plain or TLS.
    pub transport: Transport,
}

/// A node that can be dialled.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where.
    pub addr: Addr,
    /// How.
    pub access: Arc<DialOptions>,
}

/// Opens and keeps connections.
#[derive(Debug)]
pub struct Connections {
    connector: Connector,
    mappings: Vec<AddressMapping>,
    at_once: usize,
    dialling: Arc<Semaphore>,
    kept: Mutex<HashMap<Addr, Arc<NodeClient>>>,
}

impl Connections {
    /// At most `at_once` (at least 1) connections are being opened, and looked through, at a time.
    pub fn new(connector: Connector, mappings: Vec<AddressMapping>, at_once: usize) -> Self {
        Self {
            connector,
            mappings,
            at_once: at_once.max(1),
            dialling: Arc::new(Semaphore::new(at_once.max(1))),
            kept: Mutex::new(HashMap::new()),
        }
    }

    /// Runs `work` on every item, a bounded number of them side by side, and returns the results in the order of the
    /// items. Dropping the future ends all of them. A panic in one ends this one too.
    pub async fn fan_out<I, T, F>(
        self: &Arc<Self>,
        items: impl IntoIterator<Item = I>,
        work: impl Fn(Arc<Self>, I) -> F,
    ) -> Vec<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let mut results = BTreeMap::new();
        let mut running = JoinSet::new();
        for (place, item) in items.into_iter().enumerate() {
            if running.len() >= self.at_once {
                results.extend(joined(running.join_next().await));
            }
            let work = work(Arc::clone(self), item);
            running.spawn(async move { (place, work.await) });
        }
        while let Some(result) = running.join_next().await {
            results.extend(joined(Some(result)));
        }
        results.into_values().collect()
    }

    /// Where a node that announces `peer` is reached from here.
    pub fn dial_of(&self, peer: &Addr) -> Addr {
        self.mappings
            .iter()
            .find_map(|mapping| mapping.apply(peer))
            .unwrap_or_else(|| peer.clone())
    }

    /// Opens a connection for one temporary. It waits its turn, and the turn lasts until the temporary
    /// is dropped: looking at a thousand nodes, no more than a few replies are in memory at once.
    pub async fn temporary(&self, target: &Target) -> Result<TemporaryClient, ClientError> {
        let turn = self.turn().await;
        let client = self.dial(target).await?;
        Ok(TemporaryClient {
            client,
            _turn: turn,
        })
    }

    /// A connection of the caller's own, for as long as it is held.
    pub async fn own(&self, target: &Target) -> Result<NodeClient, ClientError> {
        let _turn = self.turn().await;
        self.dial(target).await
    }

    /// The connection to a node, opened at the first call and kept.
    pub async fn client(&self, target: &Target) -> Result<Arc<NodeClient>, ClientError> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = kept().get(&target.addr) {
            return Ok(Arc::clone(client));
        }
        let _turn = self.turn().await;
        let client = Arc::new(self.dial(target).await?);
        kept().insert(target.addr.clone(), Arc::clone(&client));
        Ok(client)
    }

    /// Forgets the connection to a node, so that the next call opens a new one.
    pub fn drop_client(&self, addr: &Addr) {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(addr);
    }

    /// A connection of the caller's own for a value of any size.
    pub async fn for_one_value(&self, target: &Target) -> Result<NodeClient, ClientError> {
        let DialOptions { login, transport } = &*target.access;
        self.connector
            .connect_for_one_value(&target.addr, login, transport)
            .await
    }

    /// Asks a node for all of its data; see [`Connector::snapshot`].
    pub async fn snapshot(
        &self,
        target: &Target,
        silence: Duration,
    ) -> Result<Snapshot, ClientError> {
        let DialOptions { login, transport } = &*target.access;
        self.connector
            .snapshot(&target.addr, login, transport, silence)
            .await
    }

    async fn dial(&self, target: &Target) -> Result<NodeClient, ClientError> {
        let DialOptions { login, transport } = &*target.access;
        self.connector.connect(&target.addr, login, transport).await
    }

    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.dialling).acquire_owned().await.ok()
    }

    /// Whether anybody listens at an address that speaks no RESP, such as a bus port; if not, why,
    /// in words.
    pub async fn knock(&self, addr: &Addr, within: Duration) -> Result<(), String> {
        let dial = self.dial_of(addr);
        match timeout(within, TcpStream::connect((dial.host(), dial.port()))).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".to_string()),
        }
    }

    /// The address that the other nodes know, of a node that is reached at `dial`.
    pub fn peer_of(&self, dial: &Addr) -> Addr {
        self.mappings
            .iter()
            .find_map(|mapping| mapping.undo(dial))
            .unwrap_or_else(|| dial.clone())
    }
}

/// The result of a task; its panic is ours. No task is aborted but by dropping all of them.
fn joined<T>(result: Option<Result<T, JoinError>>) -> Option<T> {
    match result? {
        Ok(result) => Some(result),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => None,
        },
    }
}

/// A connection of its own, for as long as it is held.
#[derive(Debug)]
pub struct TemporaryClient {
    client: NodeClient,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Deref for TemporaryClient {
    type Target = NodeClient;

    fn deref(&self) -> &NodeClient {
        &self.client
    }
}
