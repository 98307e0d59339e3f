//! Which process answers at which address, under which node id.
//!
//! Members that have different addresses for a node are no proof of anything: a node that is reached in several ways
//! answers under one run id at all of them. Two run ids that answer at the same time are two processes.
//!
//! Two processes with one node id take the address of that node from each other: each message of one of them makes the
//! receiver write down the address of that one. In a small cluster all members may have the same address for a moment,
//! so the addresses are watched for a while there. From Redis 7.0 on this is needed only while links are young: the two
//! close each other's links several times a second. (Seen on 6.2, 7.0 and 8.10, at most 0.12 s apart; on Valkey 9.1 at most
//! 0.75 s apart.)

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{ADDRS_TRIED, Survey, observe_at_any};
use crate::client::{ClientError, Links, NodeClient};
use crate::cluster::identity::Twins;
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::observation::Seen;
use crate::cluster::parse::{EntryPool, EntryState, Info, View};
use crate::connections::{Connections, Target};

/// How long an address may take to tell which node answers there: it may be an old one that nobody has any more.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The most addresses that are tried in one observation.
const MOST_ADDRS: usize = 128;

/// The most members of a cluster whose addresses are watched: of more, some have one address and some the other.
const SMALL: usize = 12;

/// How long addresses are watched. Each of two such processes sends a message each second, and where links are young, the
/// two connect again every 100 ms.
const WATCH: Duration = Duration::from_millis(2200);

/// The most that counts as watched between two looks. A process without a processor sees nothing, nor does one whose
/// look is answered late.
const MOST_BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// How long addresses are watched at most, with all that does not count.
const MOST_WATCHED: Duration = Duration::from_secs(10);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(60);

/// The same where links are closed and opened: members may have the address of one of two processes for a few
/// milliseconds in each 100.
const LOOK_AGAIN_SOON: Duration = Duration::from_millis(4);

/// A link that is older than this is not closed again and again.
const YOUNG_MS: u64 = 1200;

/// A link that is missing for longer than this was closed, or never opened.
const RENEWED_AFTER_MS: u64 = 100;

/// A process: the node id and the run id under which it answers.
type Process = (NodeId, Option<Arc<str>>);

impl Survey<'_> {
    /// Asks nodes that did not answer at the address that one member has for them at the addresses that others have.
    /// Returns whether any answered there.
    pub(super) async fn observe_elsewhere(&mut self) -> bool {
        let absent: BTreeSet<NodeId> = self
            .observation
            .nodes
            .values()
            .filter(|node| matches!(node.seen, Seen::Silent(_) | Seen::OtherNode(_)))
            .map(|node| node.id)
            .collect();
        let mut elsewhere: BTreeMap<NodeId, Vec<Target>> = BTreeMap::new();
        for id in absent {
            let tried = self.observation.nodes.get(&id);
            let tried = tried.and_then(|node| node.dial.clone());
            let reports = self.observation.reports();
            let addrs: BTreeSet<Addr> = reports
                .filter_map(|(_, report)| report.view.entry(id))
                .filter_map(|entry| self.addr_in(id, entry.state, entry.addr.as_ref()))
                .map(|(_, addr)| addr)
                .filter(|addr| Some(addr) != tried.as_ref())
                .collect();
            let targets = addrs.into_iter().take(ADDRS_TRIED);
            let targets: Vec<Target> = targets.map(|addr| self.access.target(addr, None)).collect();
            if !targets.is_empty() {
                elsewhere.insert(id, targets);
            }
        }
        let asking = self
            .connections
            .fan_out(elsewhere, |connections, (id, targets)| {
                let pool = Arc::clone(&self.pool);
                async move { (id, observe_at_any(&connections, id, &targets, &pool).await) }
            });
        let mut is_any_there = false;
        for (id, observed) in asking.await {
            if let Some((dial, Ok(report))) = observed
                && report.view.myself().id == id
            {
                self.observation.nodes.remove(&id);
                self.add(id, Some(dial), Seen::Report(Box::new(report)));
                is_any_there = true;
            }
        }
        is_any_there
    }

    /// Asks further addresses of nodes who answers there.
    pub(super) async fn tell_identities(&mut self) {
        let mut known = HashSet::new();
        let mut addrs = self.other_addrs();
        let remembered = self.connections.remembered_twins().into_iter();
        addrs.extend(remembered.filter(|(id, addr)| self.is_other(*id, addr)));
        self.ask(addrs, &mut known).await;
        let ids = self.observation.nodes.keys().copied();
        if self.observation.identities.twins.is_empty() && self.connections.begin_watch(ids) {
            self.watch(&mut known).await;
        }
    }

    /// The addresses at which nodes were reached by the user, or which members have for them, without those at which
    /// they were observed.
    fn other_addrs(&self) -> BTreeSet<(NodeId, Addr)> {
        let mut addrs: BTreeSet<(NodeId, Addr)> = self.answered_seeds.iter().cloned().collect();
        // Views share their entries: a thousand views of a thousand nodes have about a thousand.
        let mut entries = HashSet::new();
        for (_, report) in self.observation.reports() {
            for entry in report.view.entries() {
                if entries.insert(Arc::as_ptr(entry)) {
                    addrs.extend(self.addr_in(entry.id, entry.state, entry.addr.as_ref()));
                }
            }
        }
        addrs.retain(|(id, addr)| self.is_other(*id, addr));
        addrs
    }

    fn addr_in(
        &self,
        id: NodeId,
        state: EntryState,
        addr: Option<&Addr>,
    ) -> Option<(NodeId, Addr)> {
        let addr = addr.filter(|_| state != EntryState::Handshake)?;
        Some((id, self.connections.dial_of(addr)))
    }

    /// Whether the node answered, and at another address.
    fn is_other(&self, id: NodeId, addr: &Addr) -> bool {
        let node = self.observation.nodes.get(&id);
        node.is_some_and(|node| node.report().is_some() && node.dial.as_ref() != Some(addr))
    }

    /// Asks addresses that are not in `known` yet. Those that told nothing may be asked again: a busy process answers late.
    async fn ask(&mut self, addrs: BTreeSet<(NodeId, Addr)>, known: &mut HashSet<(NodeId, Addr)>) {
        let fresh = addrs.into_iter().filter(|pair| !known.contains(pair));
        let fresh: Vec<(NodeId, Addr)> = fresh.take(MOST_ADDRS).collect();
        known.extend(fresh.iter().cloned());
        let targets = fresh.into_iter().map(|(id, addr)| {
            let dial = self.observation.nodes.get(&id);
            let dial = dial.and_then(|node| node.dial.clone());
            (
                id,
                self.access.target(addr, None),
                dial.map(|dial| self.access.target(dial, None)),
            )
        });
        let targets: Vec<_> = targets.collect();
        let asking = self
            .connections
            .fan_out(targets, async |connections, (id, target, usual)| {
                let there = process_at(&connections, &target).await;
                // Asked last: a process that was there before and is still there runs at the same time.
                let usual = match (&there, usual) {
                    (Some(there), Some(usual)) if there.0 == id => {
                        process_at(&connections, &usual).await
                    }
                    _ => None,
                };
                (id, target.addr, there, usual)
            });
        for (id, addr, there, usual) in asking.await {
            match there {
                Some((found, run)) if found == id => {
                    if usual.is_none() {
                        known.remove(&(id, addr.clone()));
                    }
                    self.note(id, addr, run, usual);
                }
                Some(_) => {}
                None => drop(known.remove(&(id, addr))),
            }
        }
    }

    /// Notes that the node `id` answers at a further address, under that run id. `usual` is the process that answered
    /// at its usual address afterwards.
    fn note(&mut self, id: NodeId, addr: Addr, run: Option<Arc<str>>, usual: Option<Process>) {
        let observation = &mut self.observation;
        let Some(node) = observation.nodes.get_mut(&id) else {
            return;
        };
        let (Some(report), Some(dial)) = (node.report(), node.dial.clone()) else {
            return;
        };
        let before = report.info.run_id.clone();
        let identities = &mut observation.identities;
        if let (Some(run), Some(before)) = (&run, &before)
            && run != before
        {
            // A process that was restarted meanwhile has another run id now.
            if usual == Some((id, Some(Arc::clone(before)))) {
                let twins = Twins {
                    id,
                    one: dial.clone().min(addr.clone()),
                    other: dial.max(addr),
                };
                self.connections
                    .remember_twins(id, [&twins.one, &twins.other]);
                if !identities.twins.contains(&twins) {
                    identities.twins.push(twins);
                }
            }
            return;
        }
        let own = report.view.myself().addr.as_ref();
        if own.map(|own| self.connections.dial_of(own)).as_ref() == Some(&addr) {
            // The address that was given may be that of a load balancer, or of one of several interfaces.
            self.access.copy(&dial, &addr);
            node.dial = Some(addr);
            identities.aliases.insert(dial, id);
        } else {
            identities.aliases.insert(addr, id);
        }
    }

    /// Watches the addresses that members have for each other, if there may be two processes with one id.
    async fn watch(&mut self, known: &mut HashSet<(NodeId, Addr)>) {
        let viewers: Vec<(NodeId, Target)> = self
            .observation
            .reports()
            .filter_map(|(node, _)| {
                let dial = node.dial.clone()?;
                Some((node.id, self.access.target(dial, Some(node.id))))
            })
            .collect();
        if viewers.len() < 2 || viewers.len() > SMALL {
            return;
        }
        let opening = self
            .connections
            .fan_out(viewers, async |connections, (id, target)| {
                let open = connections.own(&target);
                let client = timeout(ANSWER_WITHIN, open).await.ok()?.ok()?;
                Some((id, client))
            });
        let clients: Vec<(NodeId, NodeClient)> = opening.await.into_iter().flatten().collect();
        let began = Instant::now();
        let (mut watched, mut last_look) = (Duration::ZERO, began);
        while self.observation.identities.twins.is_empty()
            && watched < WATCH
            && began.elapsed() < MOST_WATCHED
        {
            let asking = self
                .connections
                .fan_out(clients.clone(), async |_, (id, client)| {
                    let look = async {
                        let links = client.cluster_links().await?;
                        Ok::<_, ClientError>((id, links, client.cluster_nodes().await?))
                    };
                    timeout(ANSWER_WITHIN, look).await
                });
            let looks: Vec<_> = asking.await.into_iter().flatten().flatten().collect();
            let since = began.elapsed();
            let states = looks
                .iter()
                .map(|(id, links, _)| self.state_of_links(*id, links.as_ref(), since));
            let pause = match states.max() {
                None | Some(LinkState::Old) => return,
                Some(LinkState::Young) => LOOK_AGAIN,
                Some(LinkState::Renewed) => LOOK_AGAIN_SOON,
            };
            let mut addrs = BTreeSet::new();
            for (_, _, text) in &looks {
                let view = EntryPool::default().view(text);
                addrs.extend(view.iter().flat_map(|view| self.addrs_in(view)));
            }
            addrs.retain(|(id, addr)| self.is_other(*id, addr));
            self.ask(addrs, known).await;
            sleep(pause).await;
            watched += last_look.elapsed().min(MOST_BETWEEN_LOOKS);
            last_look = Instant::now();
        }
    }

    fn addrs_in(&self, view: &View) -> Vec<(NodeId, Addr)> {
        let entries = view.entries();
        entries
            .filter_map(|entry| self.addr_in(entry.id, entry.state, entry.addr.as_ref()))
            .collect()
    }

    /// The state of a node's least stable link to a node that answers. `since` is the time since the nodes were observed.
    fn state_of_links(
        &self,
        id: NodeId,
        links: Option<&BTreeMap<NodeId, Links>>,
        since: Duration,
    ) -> LinkState {
        let node = self.observation.nodes.get(&id);
        let Some(report) = node.and_then(|node| node.report()) else {
            return LinkState::Old;
        };
        let Some(links) = links else {
            return LinkState::Young;
        };
        let since = since.as_millis() as u64;
        let now = report.info.server_time_ms.map(|now| now + since);
        let others = report.view.entries().filter(|entry| {
            let node = self.observation.nodes.get(&entry.id);
            entry.id != id
                && matches!(entry.state, EntryState::Fine | EntryState::Failing)
                && node.is_some_and(|node| node.report().is_some())
        });
        let states = others.map(|entry| {
            // Its address changes with the link to it. That from it is known after its next message only, which may take
            // seconds in a new cluster.
            let open = links.get(&entry.id).filter(|links| links.outgoing);
            let age = open.map(|links| now.map(|now| now.saturating_sub(links.newest)));
            match age {
                None if since < RENEWED_AFTER_MS => LinkState::Young,
                None => LinkState::Renewed,
                Some(Some(age)) if age < YOUNG_MS.min(since) => LinkState::Renewed,
                Some(Some(age)) if age < YOUNG_MS => LinkState::Young,
                Some(_) => LinkState::Old,
            }
        });
        states.max().unwrap_or(LinkState::Old)
    }
}

/// How stable a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum LinkState {
    /// Two processes with one id would have closed it.
    Old,
    /// It is young, or nothing is known about it (before Redis 7.0).
    Young,
    /// It was opened during the watch, or is still missing.
    Renewed,
}

/// The process that answers at an address.
async fn process_at(connections: &Connections, target: &Target) -> Option<Process> {
    let asking = async {
        let client = connections.temporary(target).await?;
        client.identity().await
    };
    let (id, info) = timeout(ANSWER_WITHIN, asking).await.ok()?.ok()?;
    Some((id, Info::parse(&info).run_id))
}
