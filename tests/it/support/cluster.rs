//! Several servers, and a cluster made of them by plain CLUSTER commands: `check` and the others are
//! tested on clusters that our own `create` had no hand in.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::proxy::Proxy;
use super::server::{Server, Spec};
use super::wait::{PATIENCE, until};

const SLOTS: usize = 16384;

/// How long a node may not know another one before it is told to meet it again: longer than a handshake of [`Spec::quick`]
/// lasts.
const MEET_AGAIN: Duration = Duration::from_secs(3);

/// Servers side by side; `nodes[0]` and the rest of a slice's methods are those of the servers.
pub(crate) struct Nodes {
    servers: Vec<Server>,
}

impl Deref for Nodes {
    type Target = [Server];

    fn deref(&self) -> &[Server] {
        &self.servers
    }
}

impl DerefMut for Nodes {
    fn deref_mut(&mut self) -> &mut [Server] {
        &mut self.servers
    }
}

impl IntoIterator for Nodes {
    type Item = Server;
    type IntoIter = std::vec::IntoIter<Server>;

    fn into_iter(self) -> Self::IntoIter {
        self.servers.into_iter()
    }
}

impl Nodes {
    /// `count` bare, cluster-enabled servers with the servers' own defaults.
    #[track_caller]
    pub(crate) fn start(count: usize) -> Self {
        Self::with(count, &Spec::new())
    }

    /// The same with shorter waits, see [`Spec::quick`].
    #[track_caller]
    pub(crate) fn quick(count: usize) -> Self {
        Self::with(count, &Spec::new().quick())
    }

    #[track_caller]
    pub(crate) fn with(count: usize, spec: &Spec) -> Self {
        Self::each(count, |_| spec.clone())
    }

    /// Servers that differ: `spec` is asked for each.
    #[track_caller]
    pub(crate) fn each(count: usize, spec: impl Fn(usize) -> Spec + Sync) -> Self {
        // More at once would only make them wait for each other.
        const AT_ONCE: usize = 8;
        let next = AtomicUsize::new(0);
        let started = Mutex::new(Vec::with_capacity(count));
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(count) {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count {
                            return;
                        }
                        let server = spec(index).start();
                        started.lock().unwrap().push((index, server));
                    }
                });
            }
        });
        let mut started = started.into_inner().unwrap();
        started.sort_by_key(|(index, _)| *index);
        Self {
            servers: started.into_iter().map(|(_, server)| server).collect(),
        }
    }

    /// Servers that each announce a proxy's port instead of their own, so that clients that find the
    /// nodes in CLUSTER NODES go through the proxies. The bus stays direct.
    #[track_caller]
    pub(crate) fn behind_proxies(count: usize, spec: &Spec) -> (Self, Vec<Proxy>) {
        let proxies: Vec<Proxy> = (0..count).map(|_| Proxy::unconnected()).collect();
        let nodes = Self::each(count, |index| {
            spec.clone()
                .arg("--cluster-announce-port", proxies[index].port())
        });
        for (server, proxy) in nodes.iter().zip(&proxies) {
            proxy.point_at(&server.addr());
        }
        (nodes, proxies)
    }

    pub(crate) fn addrs(&self) -> Vec<String> {
        self.iter().map(Server::addr).collect()
    }

    /// The first `masters` share the slots evenly, the others become their replicas in turn; returns when
    /// all is usable.
    #[track_caller]
    pub(crate) fn form(&self, masters: usize) {
        for index in 0..masters {
            let (from, to) = (index * SLOTS / masters, (index + 1) * SLOTS / masters - 1);
            self.assign(index, from..=to);
            self[index].cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        self.join();
        for index in masters..self.len() {
            self.replicate(index, index % masters);
        }
        self.wait_usable();
        self.wait_for_roles();
    }

    /// Sets the servers' own node timeout, 15 s. With that of [`Spec::quick`], a node that gets no processor for 2 s is
    /// flagged `fail?`, and `check` warns of it. For nodes that stay alive, once they are usable.
    #[track_caller]
    pub(crate) fn set_long_node_timeout(&self) {
        for server in self.iter() {
            server.cmd(&["CONFIG", "SET", "cluster-node-timeout", "15000"]);
        }
    }

    #[track_caller]
    pub(crate) fn assign(&self, index: usize, slots: impl IntoIterator<Item = usize>) {
        let mut words = vec!["CLUSTER".to_owned(), "ADDSLOTS".to_owned()];
        words.extend(slots.into_iter().map(|slot| slot.to_string()));
        self[index].cmd(&words);
    }

    /// Makes `index` a replica of `master`; both know each other already.
    #[track_caller]
    pub(crate) fn replicate(&self, index: usize, master: usize) {
        self[index].cmd(&["CLUSTER", "REPLICATE", &self[master].id()]);
    }

    /// Tells `index` to meet `other`; a promise only.
    #[track_caller]
    pub(crate) fn meet(&self, index: usize, other: usize) {
        let other = &self[other];
        let (port, bus) = (other.port().to_string(), other.bus_port().to_string());
        self[index].cmd(&["CLUSTER", "MEET", other.host(), &port, &bus]);
    }

    /// All meet, and it returns when each knows all the others and is connected to them.
    #[track_caller]
    pub(crate) fn join(&self) {
        // Not a star: with one node in the middle the rest is left to gossip, which takes its time.
        for index in 0..self.len() {
            let mut step = 1;
            while index + step < self.len() {
                self.meet(index, index + step);
                step *= 2;
            }
        }
        let ids: Vec<String> = self.iter().map(Server::id).collect();
        let all: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
        for (index, server) in self.iter().enumerate() {
            let began = Instant::now();
            let mut met_again = Duration::ZERO;
            until(
                &format!("{} to know all {} nodes", server.addr(), all.len()),
                PATIENCE,
                || {
                    let text = server.nodes_text();
                    let known: BTreeSet<&str> = text
                        .lines()
                        .filter(|line| !line.contains("handshake") && line.contains(" connected"))
                        .filter_map(|line| line.split(' ').next())
                        .collect();
                    if known == all {
                        return Ok(());
                    }
                    // A handshake ends after the node timeout (2 s) without an answer. Then perhaps only one of the two
                    // knows the other, and no third one tells of it. A node that is known already is not met again.
                    if began.elapsed() > met_again + MEET_AGAIN {
                        met_again = began.elapsed();
                        for (other, id) in ids.iter().enumerate() {
                            if !text.contains(id.as_str()) {
                                self.meet(index, other);
                            }
                        }
                    }
                    Err(text)
                },
            );
        }
    }

    /// Until every node says `cluster_state:ok`, all agree about the slots, and every replica is in sync.
    #[track_caller]
    pub(crate) fn wait_usable(&self) {
        for server in self.iter() {
            let (addr, first) = (server.addr(), self[0].addr());
            until(
                &format!("{addr} to say cluster_state:ok"),
                PATIENCE,
                || match server.field("cluster_state") {
                    Some(state) if state == "ok" => Ok(()),
                    other => Err(format!("{other:?}\n{}", server.nodes_text())),
                },
            );
            until(
                &format!("{addr} to agree with {first} about the slots"),
                PATIENCE,
                || {
                    let (here, there) = (ownership(server), ownership(&self[0]));
                    if here == there {
                        Ok(())
                    } else {
                        Err(format!("{here:?}\nand\n{there:?}"))
                    }
                },
            );
            until(
                &format!("the replica {addr} to be in sync"),
                PATIENCE,
                || match server.field("master_link_status") {
                    Some(status) if status != "up" => Err(status),
                    _ => Ok(()),
                },
            );
        }
    }

    /// Until every node knows which ones are replicas, and whose: a node tells that with its next ping.
    #[track_caller]
    fn wait_for_roles(&self) {
        let theirs: BTreeSet<_> = self
            .iter()
            .flat_map(|server| {
                let text = server.nodes_text();
                let own = text.lines().find(|line| line.contains("myself"));
                own.map(role)
            })
            .collect();
        for server in self.iter() {
            until(
                &format!("{} to know all roles", server.addr()),
                PATIENCE,
                || {
                    let text = server.nodes_text();
                    let seen: BTreeSet<_> = text.lines().map(role).collect();
                    if seen == theirs { Ok(()) } else { Err(text) }
                },
            );
        }
    }
}

/// A member's id and its master's, of a line of CLUSTER NODES.
fn role(line: &str) -> (String, String) {
    let field = |index| line.split(' ').nth(index).unwrap_or_default().to_owned();
    (field(0), field(3))
}

/// The masters and their slots, as one node sees them.
fn ownership(server: &Server) -> BTreeSet<(String, String)> {
    server
        .nodes_text()
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let id = fields.next()?;
            let slots: Vec<_> = fields
                .skip(7)
                .filter(|field| !field.starts_with('['))
                .collect();
            (!slots.is_empty()).then(|| (id.to_owned(), slots.join(" ")))
        })
        .collect()
}

/// Three masters that share the slots.
pub(crate) fn three(spec: &Spec) -> Nodes {
    let nodes = Nodes::with(3, spec);
    nodes.form(3);
    nodes
}

/// The walkthrough's three masters, and a fourth one without slots.
pub(crate) fn walkthrough(spec: &Spec) -> Nodes {
    walkthrough_of(|_| spec.clone())
}

/// The same with nodes that differ.
pub(crate) fn walkthrough_of(spec: impl Fn(usize) -> Spec + Sync) -> Nodes {
    let nodes = Nodes::each(4, spec);
    for (index, slots) in [0..=5460, 5461..=10922, 10923..=16383]
        .into_iter()
        .enumerate()
    {
        nodes.assign(index, slots);
    }
    for index in 0..4 {
        nodes[index].cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
    }
    nodes.join();
    nodes.wait_usable();
    nodes
}
