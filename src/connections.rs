//! Connections to many nodes: who may be dialled how, and how many at once.
//!
//! Owned by the command, lent to the others. Each node has an address and an access of its own;
//! nodes that were found through another inherit its access.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::client::{ClientError, Connector, Login, NodeClient, Snapshot, Transport};
use crate::cluster::node::Addr;
use crate::seed::AddressMapping;

/// How a node is logged in to, and whether over TLS.
#[derive(Debug, Clone, PartialEq)]
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

/// A connection that stays open for later calls. One address may have several, one per access: a user without
/// rights must not get the connection of another user.
#[derive(Debug)]
struct KeptClient {
    access: Arc<DialOptions>,
    client: Arc<NodeClient>,
}

/// Opens and keeps connections.
#[derive(Debug)]
pub struct Connections {
    connector: Connector,
    mappings: Vec<AddressMapping>,
    at_once: usize,
    dialling: Arc<Semaphore>,
    kept: Mutex<HashMap<Addr, Vec<KeptClient>>>,
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

    /// Returns the connection to a node with that access; the first call opens it, and it is kept.
    pub async fn client(&self, target: &Target) -> Result<Arc<NodeClient>, ClientError> {
        if let Some(client) = self.kept_client(target) {
            return Ok(client);
        }
        let _turn = self.turn().await;
        let client = Arc::new(self.dial(target).await?);
        self.drop_client(target);
        self.kept()
            .entry(target.addr.clone())
            .or_default()
            .push(KeptClient {
                access: Arc::clone(&target.access),
                client: Arc::clone(&client),
            });
        Ok(client)
    }

    /// Drops the kept connection to a node with that access, so that the next call opens a new one.
    pub fn drop_client(&self, target: &Target) {
        if let Some(clients) = self.kept().get_mut(&target.addr) {
            clients.retain(|kept| kept.access != target.access);
        }
    }

    fn kept_client(&self, target: &Target) -> Option<Arc<NodeClient>> {
        let kept = self.kept();
        let mut clients = kept.get(&target.addr)?.iter();
        let found = clients.find(|kept| kept.access == target.access)?;
        Some(Arc::clone(&found.client))
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Addr, Vec<KeptClient>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use secrecy::SecretString;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::journal::SentChanges;

    /// A server that answers OK to each command (one per packet), and the number of its connections.
    async fn server() -> (Addr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = Addr::new("127.0.0.1", listener.local_addr().unwrap().port());
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {
                        if stream.write_all(b"+OK\r\n").await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (addr, accepted)
    }

    fn connections() -> Connections {
        let connector = Connector {
            connect_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_secs(5),
            name: None,
            journal: None,
            sent: SentChanges::default(),
        };
        Connections::new(connector, Vec::new(), 4)
    }

    fn target(addr: &Addr, user: Option<&str>, password: &str) -> Target {
        Target {
            addr: addr.clone(),
            access: Arc::new(DialOptions {
                login: Login {
                    user: user.map(ToOwned::to_owned),
                    password: Some(SecretString::from(password)),
                },
                transport: Transport::Plain,
            }),
        }
    }

    #[tokio::test]
    async fn a_kept_connection_belongs_to_one_login() {
        let (addr, accepted) = server().await;
        let connections = connections();
        let ann = target(&addr, Some("ann"), "secret");
        let others = [
            target(&addr, Some("bob"), "secret"),
            target(&addr, Some("ann"), "other"),
            target(&addr, None, "secret"),
        ];
        let first = connections.client(&ann).await.unwrap();
        for (i, other) in others.iter().enumerate() {
            let client = connections.client(other).await.unwrap();
            assert!(!Arc::ptr_eq(&first, &client), "{other:?}");
            assert_eq!(accepted.load(Ordering::SeqCst), 2 + i);
        }
        // The same credentials, read a second time.
        let again = target(&addr, Some("ann"), "secret");
        assert!(Arc::ptr_eq(
            &first,
            &connections.client(&again).await.unwrap()
        ));
        connections.drop_client(&others[0]);
        assert!(Arc::ptr_eq(
            &first,
            &connections.client(&ann).await.unwrap()
        ));
        connections.drop_client(&again);
        assert!(!Arc::ptr_eq(
            &first,
            &connections.client(&ann).await.unwrap()
        ));
    }
}
