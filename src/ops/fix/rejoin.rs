//! `fix NODE… --rejoin`: nodes that were all restarted at new addresses, as containers and pods are, and that know each
//! other only at the old ones.
//!
//! A node is identified by its nodes.conf, whatever its address: nodes that know each other's ids belong to one cluster.
//! Each node gets CLUSTER MEET with the new addresses of some of the others, and nothing else. A node that meets a node
//! that it knows adopts the new address (Redis 3.2 to 8.6, Valkey 8 to 9.1). Slots, roles and epochs stay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::Instant;

use crate::cluster::node::{Addr, NodeId};
use crate::cluster::parse::EntryState;
use crate::cluster::peer_addrs;
use crate::connections::Target;
use crate::converge::poll::Polled;
use crate::converge::{Watch, linked};
use crate::ops::raft::{self, Obstacle};
use crate::report::{FixLine, FixView};
use crate::session::Session;
use crate::state::ClusterState;
use crate::state::{Participant, Participants};
use crate::stop::Stop;

/// The timeout until all nodes see each other.
const WITHIN: Duration = Duration::from_secs(60);
/// The timeout until replicas have a link to their masters, by themselves or after CLUSTER REPLICATE.
const LINKED_WITHIN: Duration = Duration::from_secs(40);
/// How long replicas may try by themselves: they try once a second.
const BY_THEMSELVES: Duration = Duration::from_secs(3);
/// The interval between two CLUSTER REPLICATE to one replica. The replica uses the address of its master that it knows
/// at that time, which may still be the old one. With a shorter interval, a large master would never finish a full
/// resync.
const TELL_AGAIN: Duration = Duration::from_secs(8);

/// The nodes, and which of them have lost each other.
pub(crate) struct RejoinPlan {
    cluster: ClusterState,
    participants: Arc<Participants>,
    /// How many of the others each node has no link to.
    unlinked: BTreeMap<NodeId, usize>,
    /// Members that were not named, or do not answer.
    absent: Arc<BTreeSet<NodeId>>,
}

impl RejoinPlan {
    /// Observes and plans.
    pub(crate) async fn observe(session: &Session) -> Result<Self, Stop> {
        session.connections.watch_no_more();
        let cluster = ClusterState::look(session).await?;
        let observation = &cluster.diagnosis.observation;
        if let Some(bystander) = observation.bystanders.first() {
            return Err(Stop::refused(anyhow!(
                "{} ({}) knows no other node: it lost its nodes.conf, or belongs to another cluster; nothing was \
                 changed",
                bystander.dial,
                bystander.id.short()
            )));
        }
        raft::refuse(&cluster, Obstacle::Meets)?;
        let participants = participants(session, &cluster).await?;
        let unlinked = unlinked(&cluster, &participants);
        let absent = observation
            .nodes
            .keys()
            .filter(|id| !participants.contains_key(id))
            .copied()
            .collect();
        Ok(Self {
            participants: Arc::new(participants),
            unlinked,
            absent: Arc::new(absent),
            cluster,
        })
    }

    /// Whether all of them see each other.
    pub(crate) fn is_joined(&self) -> bool {
        self.unlinked.is_empty()
    }

    /// The number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.participants.len()
    }

    /// The nodes on which no other operator may be at work.
    pub(crate) fn lock(&self) -> Vec<Target> {
        let participants = self.participants.values();
        participants
            .map(|participant| participant.target.clone())
            .collect()
    }

    /// Whether it is about the same nodes at the same addresses.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let nodes = |plan: &Self| -> Vec<_> {
            let participants = plan.participants.values();
            participants
                .map(|one| (one.id, one.ip, one.port, one.bus_port))
                .collect()
        };
        nodes(self) == nodes(other)
    }

    /// The plan, as it is shown.
    pub(crate) fn view(&self) -> FixView {
        let line = |word, id: NodeId, text| FixLine {
            word,
            slots: Default::default(),
            nodes: vec![id],
            keys: 0,
            text,
            copies: Vec::new(),
        };
        let meets = self.unlinked.iter().map(|(id, missing)| {
            let others = self.participants.len() - 1;
            let text = format!(
                "{} meets the others at their new addresses: it sees {} of {others}",
                self.cluster.name(*id),
                others - missing
            );
            line("meet", *id, text)
        });
        let missing = self.absent.iter().map(|id| {
            let text = format!(
                "{} was not named, or does not answer: name its new address too",
                self.cluster.name(*id)
            );
            line("not-named", *id, text)
        });
        FixView {
            remedies: meets.collect(),
            refused: missing.collect(),
            ..FixView::default()
        }
    }
}

/// Tells the nodes to meet, and waits until they see each other and replicas have their masters. The first signal ends
/// it: meetings that have begun go on by themselves.
pub(crate) async fn execute(session: &Session, plan: &RejoinPlan) -> Result<(), Stop> {
    let done = session.interrupt.stops(carry_out(session, plan)).await;
    done.unwrap_or_else(|signal| {
        Err(Stop::interrupted(anyhow!(
            "interrupted ({signal}): not all nodes have met; the same command continues"
        )))
    })
}

async fn carry_out(session: &Session, plan: &RejoinPlan) -> Result<(), Stop> {
    meet(session, &plan.participants).await?;
    let watch = Watch::new(
        Arc::clone(&session.connections),
        Arc::clone(&plan.participants),
        Arc::clone(&plan.absent),
        session.events.sender(),
        WITHIN,
    );
    let joined = watch.join().await;
    joined.map_err(|late| Stop::partial(anyhow!("{late}\nThe same command continues.")))?;
    relink(session).await?;
    session.events.hint(format!(
        "redis-trib check {} --wait 30s",
        plan.cluster.resume_seed()
    ));
    Ok(())
}

/// Sends CLUSTER REPLICATE to replicas that still connect to their master's old address: a replica that learns of the
/// new address by gossip does not use it for replication (Redis 7.0).
async fn relink(session: &Session) -> Result<(), Stop> {
    let started = Instant::now();
    let mut told: BTreeMap<NodeId, Instant> = BTreeMap::new();
    let found = linked(session, LINKED_WITHIN, async |cluster, detached| {
        if started.elapsed() < BY_THEMSELVES {
            return;
        }
        for (replica, master) in detached {
            let Some(target) = cluster.reach.get(replica) else {
                continue;
            };
            let last = told.get(replica);
            if last.is_some_and(|at| at.elapsed() < TELL_AGAIN) {
                continue;
            }
            told.insert(*replica, Instant::now());
            let tell = async {
                let client = session.connections.client(target).await?;
                client.cluster_replicate(*master).await
            };
            if let Err(error) = tell.await {
                let name = cluster.name(*replica);
                session.events.warn(format!(
                    "{name} could not be told its master again: {error}"
                ));
            }
        }
    });
    let found = found.await;
    let found = found.map_err(|stop| Stop {
        error: stop.error.context("the nodes have met, but then"),
        ..stop
    })?;
    if let Polled::Missing(names) = found {
        session.events.warn(format!(
            "replicas without a link to their masters: {}",
            names.join(", ")
        ));
    }
    Ok(())
}

/// The nodes that answered, at the addresses where they were reached.
async fn participants(session: &Session, cluster: &ClusterState) -> Result<Participants, Stop> {
    let mut participants = Participants::new();
    for (node, report) in cluster.diagnosis.observation.reports() {
        let Some(target) = cluster.reach.get(&node.id).cloned() else {
            continue;
        };
        // The lines of the nodes have the old addresses: the nodes are as good as new.
        let facts = session.connections.address_facts(&target).await?;
        let dialled = target.addr.port();
        let port = facts
            .port
            .or(facts.mapped.as_ref().map(Addr::port))
            .unwrap_or(dialled);
        let addrs = peer_addrs::of_new_node(None, port, &facts);
        let mut ips = addrs.iter().filter_map(Addr::ip);
        let Some(ip) = ips.next() else {
            return Err(Stop::refused(anyhow!(
                "{} has no IP address for CLUSTER MEET; nothing was changed",
                cluster.name(node.id)
            )));
        };
        let participant = Participant {
            id: node.id,
            port,
            bus_port: report.view.myself().bus_port,
            ip,
            other_ips: ips.collect(),
            target,
        };
        participants.insert(participant.id, participant);
    }
    Ok(participants)
}

/// The nodes that lack a link to others, and to how many. Another process may listen at an old address and accept the
/// link: then the link is up, and the node is flagged as failing.
fn unlinked(cluster: &ClusterState, participants: &Participants) -> BTreeMap<NodeId, usize> {
    let mut unlinked = BTreeMap::new();
    for (node, report) in cluster.diagnosis.observation.reports() {
        let others = participants.keys().filter(|id| **id != node.id);
        let missing = others
            .filter(|id| {
                let entry = report.view.entry(**id);
                entry.is_none_or(|entry| !entry.linked || entry.state != EntryState::Fine)
            })
            .count();
        if missing > 0 {
            unlinked.insert(node.id, missing);
        }
    }
    unlinked
}

/// Node i meets i+1, then i+2, then i+4 and so on. The id of both is checked right before each meeting.
pub(super) async fn meet(session: &Session, participants: &Participants) -> Result<(), Stop> {
    let all: Vec<&Participant> = participants.values().collect();
    let offsets = std::iter::successors(Some(1_usize), |offset| offset.checked_mul(2));
    for offset in offsets.take_while(|offset| *offset < all.len()) {
        for (one, other) in all.iter().zip(&all[offset..]) {
            let partial = |error: anyhow::Error| {
                Stop::partial(error.context("not all nodes were told to meet"))
            };
            for participant in [one, other] {
                let client = session.connections.client(&participant.target).await;
                let client = client.map_err(|error| partial(error.into()))?;
                let id = client
                    .cluster_myid()
                    .await
                    .map_err(|error| partial(error.into()))?;
                if id != participant.id {
                    return Err(partial(anyhow!(
                        "{} was {} and is {} now",
                        participant.target.addr,
                        participant.id.short(),
                        id.short()
                    )));
                }
            }
            let client = session.connections.client(&one.target).await;
            let client = client.map_err(|error| partial(error.into()))?;
            let met = client
                .cluster_meet(other.ip, other.port, other.bus_port)
                .await;
            met.map_err(|error| partial(error.into()))?;
        }
    }
    Ok(())
}
