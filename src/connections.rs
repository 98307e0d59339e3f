//! Connections to many nodes: the access to each node, and a limit on simultaneous connections.
//!
//! Owned by the command. Each node has an address and an access of its own; nodes that were found through another
//! node inherit its access.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::client::{
    BulkReader, BulkWriter, ClientError, Connector, Login, NodeClient, Snapshot, Transport,
};
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::peer_addrs::AddressFacts;
use crate::seed::AddressMapping;

/// The credentials and the transport for a node.
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
    /// The address to dial.
    pub addr: Addr,
    /// The node that must answer there; `None` if it is not known yet. An address alone is not an identity: it may be
    /// a load balancer's, or another node's by now.
    pub node: Option<NodeId>,
    /// The access to the node.
    pub access: Arc<DialOptions>,
}

/// A connection that stays open for later calls. One address may have several, one per access: a user without
/// rights must not get the connection of another user.
#[derive(Debug)]
struct KeptClient {
    access: Arc<DialOptions>,
    node: Option<NodeId>,
    client: Arc<NodeClient>,
}

impl KeptClient {
    /// A connection to a node that is known serves callers who do not know it, but not the other way round.
    fn fits(&self, target: &Target) -> bool {
        self.access == target.access && (target.node.is_none() || self.node == target.node)
    }
}

/// Opens and keeps connections.
#[derive(Debug)]
pub struct Connections {
    connector: Connector,
    mappings: Vec<AddressMapping>,
    at_once: usize,
    dialling: Arc<Semaphore>,
    kept: Mutex<HashMap<Addr, Vec<KeptClient>>>,
    watched: Mutex<HashSet<NodeId>>,
    /// Addresses at which one of two processes with one node id answered.
    twins: Mutex<BTreeSet<(NodeId, Addr)>>,
    /// Nothing is watched: every second counts.
    is_urgent: AtomicBool,
    /// The announced host names of nodes, by the address to dial.
    hostnames: Mutex<HashMap<Addr, Arc<str>>>,
    /// New connections carry no name.
    is_unnamed: AtomicBool,
}

impl Connections {
    /// At most `at_once` (at least 1) connections are opened, and temporary ones used, at a time.
    pub fn new(connector: Connector, mappings: Vec<AddressMapping>, at_once: usize) -> Self {
        Self {
            connector,
            mappings,
            at_once: at_once.max(1),
            dialling: Arc::new(Semaphore::new(at_once.max(1))),
            kept: Mutex::new(HashMap::new()),
            watched: Mutex::default(),
            twins: Mutex::default(),
            is_urgent: AtomicBool::new(false),
            hostnames: Mutex::new(HashMap::new()),
            is_unnamed: AtomicBool::new(false),
        }
    }

    /// Gives up the name by which other operators see this command: it changes nothing any more. Kept connections are
    /// closed.
    pub fn release_name(&self) {
        self.is_unnamed.store(true, Ordering::Relaxed);
        self.kept().clear();
    }

    /// Counts as a change that was sent: a command that is not one of a server changes a node.
    pub fn note_change(&self) {
        self.connector.sent.note();
    }

    fn connector(&self) -> Cow<'_, Connector> {
        match self.is_unnamed.load(Ordering::Relaxed) {
            false => Cow::Borrowed(&self.connector),
            true => Cow::Owned(Connector {
                name: None,
                ..self.connector.clone()
            }),
        }
    }

    /// Runs `work` on every item, at most `at_once` of them side by side, and returns the results in the order of the
    /// items. Dropping the future stops all of them. A panic in one panics this one too.
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
                results.extend(result_of(running.join_next().await));
            }
            let work = work(Arc::clone(self), item);
            running.spawn(async move { (place, work.await) });
        }
        while let Some(result) = running.join_next().await {
            results.extend(result_of(Some(result)));
        }
        results.into_values().collect()
    }

    /// Returns the address to dial for a node that announces `peer`.
    pub fn dial_of(&self, peer: &Addr) -> Addr {
        self.mappings
            .iter()
            .find_map(|mapping| mapping.apply(peer))
            .unwrap_or_else(|| peer.clone())
    }

    /// Notes the host name that nodes tell of the node to dial at `addr`: its certificate may have that name only.
    pub fn note_hostname(&self, addr: &Addr, hostname: &Arc<str>) {
        self.hostnames().insert(addr.clone(), Arc::clone(hostname));
    }

    /// Knows the host names that the other one was told.
    pub fn adopt_hostnames(&self, other: &Self) {
        let names = other.hostnames().clone();
        self.hostnames().extend(names);
    }

    fn hostnames(&self) -> MutexGuard<'_, HashMap<Addr, Arc<str>>> {
        self.hostnames
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The transport to a node, which verifies its host name, too.
    fn transport(&self, target: &Target) -> Transport {
        match (&target.access.transport, self.hostnames().get(&target.addr)) {
            (Transport::Tls(tls), Some(name)) => Transport::Tls(tls.announced(name)),
            (transport, _) => transport.clone(),
        }
    }

    /// Opens a connection for a short use. It waits for a turn, which lasts until the connection is dropped: a look
    /// at a thousand nodes keeps only a few replies in memory at once.
    pub async fn temporary(&self, target: &Target) -> Result<TemporaryClient, ClientError> {
        let turn = self.turn().await;
        let client = self.dial(target).await?;
        Ok(TemporaryClient {
            client,
            _turn: turn,
        })
    }

    /// Opens a connection that belongs to the caller.
    pub async fn own(&self, target: &Target) -> Result<NodeClient, ClientError> {
        let _turn = self.turn().await;
        self.dial(target).await
    }

    /// Returns the connection to a node with that access; the first call opens it, and it is kept.
    pub async fn client(&self, target: &Target) -> Result<Arc<NodeClient>, ClientError> {
        if let Some(client) = self.kept_client(target) {
            client.refresh().await;
            // If it can't be opened again, another process answers by now, or none.
            if !client.is_closed() {
                return Ok(client);
            }
        }
        let _turn = self.turn().await;
        let client = Arc::new(self.dial(target).await?);
        self.drop_client(target);
        self.kept()
            .entry(target.addr.clone())
            .or_default()
            .push(KeptClient {
                access: Arc::clone(&target.access),
                node: target.node,
                client: Arc::clone(&client),
            });
        Ok(client)
    }

    /// No nodes are watched for twins from now on: nodes that have lost each other elect new masters within a node
    /// timeout.
    pub fn watch_no_more(&self) {
        self.is_urgent.store(true, Ordering::Relaxed);
    }

    /// Whether these nodes are to be watched for twins, which takes seconds and is done once for each cluster. The caller
    /// that is told so does it.
    pub fn begin_watch(&self, nodes: impl IntoIterator<Item = NodeId>) -> bool {
        if self.is_urgent.load(Ordering::Relaxed) {
            return false;
        }
        self.mark_watched(nodes)
    }

    /// Counts these nodes as watched. Returns whether none of them was before.
    pub fn mark_watched(&self, nodes: impl IntoIterator<Item = NodeId>) -> bool {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let before = watched.len();
        let nodes: Vec<NodeId> = nodes.into_iter().collect();
        watched.extend(nodes.iter().copied());
        watched.len() == before + nodes.len()
    }

    /// Remembers where two processes with one node id answered: members have one of these addresses now and the other
    /// one in 50 ms, so the next look may meet neither.
    pub fn remember_twins(&self, id: NodeId, addrs: [&Addr; 2]) {
        let mut twins = self.twins.lock().unwrap_or_else(PoisonError::into_inner);
        twins.extend(addrs.map(|addr| (id, addr.clone())));
    }

    /// The addresses that [`Self::remember_twins`] was told.
    pub fn remembered_twins(&self) -> BTreeSet<(NodeId, Addr)> {
        let twins = self.twins.lock().unwrap_or_else(PoisonError::into_inner);
        twins.clone()
    }

    /// Drops the kept connection to a node with that access, so that the next call opens a new one.
    pub fn drop_client(&self, target: &Target) {
        if let Some(clients) = self.kept().get_mut(&target.addr) {
            clients.retain(|kept| !kept.fits(target));
        }
    }

    fn kept_client(&self, target: &Target) -> Option<Arc<NodeClient>> {
        let kept = self.kept();
        let mut clients = kept.get(&target.addr)?.iter();
        let found = clients.find(|kept| kept.fits(target))?;
        Some(Arc::clone(&found.client))
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Addr, Vec<KeptClient>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends PING on all kept connections, so that no server closes one because it is idle (`timeout`). With it would go the
    /// name by which other operators see this command.
    pub async fn keep_alive(self: &Arc<Self>) {
        let kept: Vec<Arc<NodeClient>> = {
            let kept = self.kept();
            let all = kept.values().flatten();
            all.map(|kept| Arc::clone(&kept.client)).collect()
        };
        self.fan_out(kept, async |_, client| {
            // What it answers does not matter, and the next command reports a broken connection.
            let _ = client.ping().await;
        })
        .await;
    }

    /// Opens a connection that belongs to the caller, for a value of any size.
    pub async fn for_one_value(&self, target: &Target) -> Result<NodeClient, ClientError> {
        self.connector
            .connect_for_one_value(
                &target.addr,
                &target.access.login,
                &self.transport(target),
                target.node,
            )
            .await
    }

    /// Asks a node for all of its data; see [`Connector::snapshot`].
    pub async fn snapshot(
        &self,
        target: &Target,
        silence: Duration,
    ) -> Result<Snapshot, ClientError> {
        let DialOptions { login, .. } = &*target.access;
        self.connector
            .snapshot(
                &target.addr,
                login,
                &self.transport(target),
                target.node,
                silence,
            )
            .await
    }

    /// Opens a connection that writes keys; see [`Connector::bulk_writer`].
    pub async fn bulk_writer(
        &self,
        target: &Target,
        database: u32,
    ) -> Result<Option<BulkWriter>, ClientError> {
        let _turn = self.turn().await;
        let transport = self.transport(target);
        let login = &target.access.login;
        self.connector()
            .bulk_writer(&target.addr, login, &transport, target.node, database)
            .await
    }

    /// Opens a connection that reads keys; see [`Connector::bulk_reader`].
    pub async fn bulk_reader(
        &self,
        target: &Target,
        database: u32,
    ) -> Result<Option<BulkReader>, ClientError> {
        let _turn = self.turn().await;
        let transport = self.transport(target);
        let login = &target.access.login;
        self.connector()
            .bulk_reader(&target.addr, login, &transport, target.node, database)
            .await
    }

    async fn dial(&self, target: &Target) -> Result<NodeClient, ClientError> {
        let transport = self.transport(target);
        let login = &target.access.login;
        self.connector()
            .connect(&target.addr, login, &transport, target.node)
            .await
    }

    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.dialling).acquire_owned().await.ok()
    }

    /// Checks that a port accepts TCP connections, for ports that do not speak RESP, such as a cluster bus port. The
    /// error is the reason.
    pub async fn knock(&self, addr: &Addr, within: Duration) -> Result<(), String> {
        let dial = self.dial_of(addr);
        match timeout(within, TcpStream::connect((dial.host(), dial.port()))).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".to_string()),
        }
    }

    /// Returns the announced address of a node that is dialled at `dial`, if `--address-map` has one.
    pub fn peer_of(&self, dial: &Addr) -> Option<Addr> {
        self.mappings.iter().find_map(|mapping| mapping.undo(dial))
    }

    /// What a node and the address map tell of its addresses. A name of the address map is resolved: CLUSTER MEET takes
    /// no names.
    pub async fn address_facts(&self, target: &Target) -> Result<AddressFacts, ClientError> {
        let mapped = match self.peer_of(&target.addr) {
            Some(mapped) if mapped.ip().is_none() => {
                let found = lookup_host((mapped.host(), mapped.port())).await;
                let found = found.ok().and_then(|mut found| found.next());
                found.map(|found| Addr::new(&found.ip().to_string(), mapped.port()))
            }
            mapped => mapped,
        };
        Ok(AddressFacts {
            mapped,
            ..self.client(target).await?.address_facts().await?
        })
    }

    /// The id of the node that answers at an announced address, seen from here; `None` if none does in time. An
    /// address may belong to another node by now, even of another cluster.
    pub async fn node_at(&self, peer: &Addr, access: &Arc<DialOptions>) -> Option<NodeId> {
        const WITHIN: Duration = Duration::from_secs(1);
        let target = Target {
            addr: self.dial_of(peer),
            node: None,
            access: Arc::clone(access),
        };
        let ask = async { self.temporary(&target).await?.cluster_myid().await };
        timeout(WITHIN, ask).await.ok()?.ok()
    }
}

/// Returns the result of a task, or resumes its panic. Tasks are aborted only when all of them are dropped.
fn result_of<T>(result: Option<Result<T, JoinError>>) -> Option<T> {
    match result? {
        Ok(result) => Some(result),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => None,
        },
    }
}

/// A connection for a short use, with its turn.
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
    use std::sync::atomic::AtomicUsize;

    use secrecy::SecretSlice;
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
            node: None,
            access: Arc::new(DialOptions {
                login: Login {
                    user: user.map(ToOwned::to_owned),
                    password: Some(SecretSlice::from(password.as_bytes().to_vec())),
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
