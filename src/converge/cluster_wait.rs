//! Waits for one condition of a cluster: slot owners, masters of replicas, copies, forgotten nodes.
//!
//! Each function polls until its condition holds or its time is over, and returns what does not meet it
//! yet. What to say of that is the caller's business.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::poll::{Poll, Polled};
use super::probe::read;
use crate::client::{ClientError, NodeClient};
use crate::cluster::health::{Background, Code, Diagnosis};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::observation::Observation;
use crate::cluster::parse::{ClusterInfo, EntryState, MasterLink, ParseError};
use crate::cluster::slot::SlotSet;
use crate::cluster::topology::Topology;
use crate::connections::{Connections, Target};
use crate::discover::{self, DiscoverError};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;

/// Between two looks at a node, or at all of them.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Waits until all nodes have one opinion about slots, in which every node of `owners` owns its slots, or its successor if it
/// has failed over since `before`.
///
/// A new owner tells all others at once, so the first looks follow each other closely. Where that
/// message is lost, gossip brings it later.
///
/// `Missing` has what is wrong, in words: the message of the finding that names the nodes that differ, or the slots with
/// another owner.
pub(crate) async fn one_opinion(
    connections: &Arc<Connections>,
    seeds: &[Target],
    owners: &BTreeMap<NodeId, SlotSet>,
    before: &Topology,
    within: Duration,
) -> Result<Polled<(), String>, DiscoverError> {
    let poll = Poll::every(Duration::from_millis(5), within).slowing_to(LOOK_AGAIN);
    poll.until(async || {
        let observation = discover::observe(connections, seeds).await?;
        let diagnosis = Diagnosis::of(observation, &Background::default());
        let topology = &diagnosis.topology;
        let misplaced = misplaced(topology, before, owners);
        if topology.opinions.len() != 1 {
            let mut findings = diagnosis.findings.iter();
            let differing = findings.find(|finding| finding.code == Code::ViewsDiffer);
            let about = differing.map(|finding| format!(": {}", finding.message));
            let about = about.unwrap_or_default();
            return Ok(Polled::Missing(format!("not all nodes agree{about}")));
        }
        if misplaced.is_empty() {
            return Ok(Polled::Met(()));
        }
        let name = |id: NodeId| diagnosis.observation.name(id);
        let wrong = misplaced.iter().map(|(id, slots)| {
            let owners = topology
                .masters()
                .filter(|master| !master.slots.intersection(slots).is_empty())
                .map(|master| name(master.id));
            let owners: Vec<String> = owners.collect();
            let (slots, wanted) = (slots.summary(), name(*id));
            match owners.is_empty() {
                true => format!("slots {slots} have no owner instead of {wanted}"),
                false => format!(
                    "{} owns slots {slots} instead of {wanted}",
                    owners.join(" or ")
                ),
            }
        });
        let wrong: Vec<String> = wrong.collect();
        Ok(Polled::Missing(wrong.join("; ")))
    })
    .await
}

/// The slots of each of these owners that neither it nor its successor owns. The successor is its master, if it is a replica
/// by now. That of a node that is down is one of its replicas `before`: other nodes go on to list it as a master.
fn misplaced(
    now: &Topology,
    before: &Topology,
    owners: &BTreeMap<NodeId, SlotSet>,
) -> BTreeMap<NodeId, SlotSet> {
    let misplaced = owners.iter().filter_map(|(id, slots)| {
        let member = now.members.get(id)?;
        let is_dead = member.slots.is_empty() && member.peer_status.is_down();
        let successors: Vec<NodeId> = match member.role {
            Role::Replica => member.master.into_iter().collect(),
            Role::Master if is_dead => before.replicas_of(*id).map(|one| one.id).collect(),
            Role::Master => Vec::new(),
        };
        let successors = successors.iter().filter_map(|id| now.members.get(id));
        let owned = successors.fold(member.slots.clone(), |all, one| all.union(&one.slots));
        let missing = slots.difference(&owned);
        (!missing.is_empty()).then_some((*id, missing))
    });
    misplaced.collect()
}

/// Why a node could not be asked for its view.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    /// It gave no answer, or an error.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Its answer can't be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
}

/// Waits until a node knows an owner of each of these slots, and says `cluster_state:ok`.
///
/// `Missing` has the slots without an owner, which may be none.
pub(crate) async fn owners_known(
    client: &NodeClient,
    slots: &SlotSet,
    within: Duration,
) -> Result<Polled<(), SlotSet>, ViewError> {
    let poll = Poll::every(LOOK_AGAIN, within);
    poll.until(async || {
        let view = read(&client.cluster_nodes().await?)?;
        let entries = view.entries();
        let owned: SlotSet = entries.flat_map(|e| e.slots.iter().copied()).collect();
        let unowned = slots.difference(&owned);
        let serves = ClusterInfo::parse(&client.cluster_info().await?).ok;
        Ok(match serves && unowned.is_empty() {
            true => Polled::Met(()),
            false => Polled::Missing(unowned),
        })
    })
    .await
}

/// Waits until no view names one of the replicas in `masters` with another master or role.
///
/// `Missing` has a node that sees it otherwise, in words, and the replica.
pub(crate) async fn followed(
    session: &Session,
    masters: &BTreeMap<NodeId, NodeId>,
    within: Duration,
) -> Result<Polled<(), (String, NodeId)>, Stop> {
    let poll = Poll::every(LOOK_AGAIN, within);
    poll.until(async || {
        let now = ClusterState::look(session).await?;
        let behind = now
            .diagnosis
            .observation
            .reports()
            .find_map(|(node, report)| {
                let mut replicas = masters.iter();
                let (replica, _) = replicas.find(|(replica, master)| {
                    let entry = report.view.entry(**replica);
                    entry.is_some_and(|entry| {
                        entry.role != Some(Role::Replica) || entry.master != Some(**master)
                    })
                })?;
                Some((node.to_string(), *replica))
            });
        Ok(behind.map_or(Polled::Met(()), Polled::Missing))
    })
    .await
}

/// What [`relinked`] finds while it waits.
pub(crate) enum CopyNews<'a> {
    /// The names of those that lack their copy, after each look but the last.
    Lacking(&'a [String]),
    /// A replica can't read the data of its master, and is not waited for: the message of the finding.
    CannotSync(&'a str),
}

/// Waits until replicas have their copies and links again: those that got another master since `before`, and those that
/// lost the link to a master that answers. Nodes in `left` do not count, and neither do those that can't read the data
/// of their masters.
///
/// `Missing` has the names of those that lack it.
pub(crate) async fn relinked(
    session: &Session,
    seeds: &[Target],
    before: &ClusterState,
    left: &BTreeSet<NodeId>,
    within: Duration,
    mut tell: impl FnMut(CopyNews<'_>),
) -> Result<Polled<(), Vec<String>>, Stop> {
    let poll = Poll::every(Duration::from_millis(300), within);
    let mut told: BTreeSet<NodeId> = BTreeSet::new();
    let broken_before: BTreeSet<NodeId> = without_link(&before.diagnosis.observation)
        .into_iter()
        .map(|(replica, _)| replica)
        .collect();
    poll.until(async || {
        let now = ClusterState::look_from(session, seeds).await?;
        let observation = &now.diagnosis.observation;
        let mut lacking: BTreeSet<NodeId> = without_link(observation)
            .into_iter()
            .map(|(replica, _)| replica)
            .filter(|replica| !broken_before.contains(replica))
            .collect();
        for member in now.diagnosis.topology.members.values() {
            let then = before.diagnosis.topology.members.get(&member.id);
            let is_new_master = member.role == Role::Replica
                && then
                    .is_none_or(|then| then.role != Role::Replica || then.master != member.master);
            let node = observation.nodes.get(&member.id);
            let link = node.and_then(|node| node.report()?.info.master_link);
            if is_new_master && !member.peer_status.is_down() && link != Some(MasterLink::Up) {
                lacking.insert(member.id);
            }
        }
        let findings = now.diagnosis.findings.iter();
        let cannot = findings.filter(|finding| finding.code == Code::ReplicaCannotSync);
        let cannot: Vec<(NodeId, &str)> = cannot
            .flat_map(|finding| {
                finding
                    .nodes
                    .iter()
                    .map(|id| (*id, finding.message.as_str()))
            })
            .collect();
        for (id, message) in &cannot {
            if lacking.contains(id) && !left.contains(id) && told.insert(*id) {
                tell(CopyNews::CannotSync(message));
            }
        }
        // A replica of such a replica gets nothing either.
        let master_of = |id: NodeId| now.diagnosis.topology.members.get(&id)?.master;
        let is_hopeless = |id: NodeId| {
            let mut cannot = cannot.iter();
            cannot.any(|(replica, _)| *replica == id || Some(*replica) == master_of(id))
        };
        let lacking = lacking.difference(left).filter(|id| !is_hopeless(**id));
        let lacking: Vec<String> = lacking.map(|id| now.name(*id)).collect();
        if lacking.is_empty() {
            return Ok(Polled::Met(()));
        }
        if !poll.is_over() {
            tell(CopyNews::Lacking(&lacking));
        }
        Ok(Polled::Missing(lacking))
    })
    .await
}

/// Waits until no replica lacks the link to a master that answers. `detached` gets the cluster and those
/// replicas with their masters, after each look but the last.
///
/// `Missing` has the names of those that lack it.
pub(crate) async fn linked(
    session: &Session,
    within: Duration,
    mut detached: impl AsyncFnMut(&ClusterState, &[(NodeId, NodeId)]),
) -> Result<Polled<(), Vec<String>>, Stop> {
    let poll = Poll::every(Duration::from_millis(500), within);
    poll.until(async || {
        let cluster = ClusterState::look(session).await?;
        let without = without_link(&cluster.diagnosis.observation);
        if without.is_empty() {
            return Ok(Polled::Met(()));
        }
        if !poll.is_over() {
            detached(&cluster, &without).await;
        }
        let names = without.iter().map(|(id, _)| cluster.name(*id));
        Ok(Polled::Missing(names.collect()))
    })
    .await
}

/// Replicas without a link to a master that answers us, with that master.
fn without_link(observation: &Observation) -> Vec<(NodeId, NodeId)> {
    let answers = |id: &NodeId| {
        let node = observation.nodes.get(id);
        node.is_some_and(|node| node.report().is_some())
    };
    observation
        .reports()
        .filter(|(_, report)| matches!(report.info.master_link, Some(MasterLink::Down(_))))
        .filter_map(|(node, report)| Some((node.id, report.view.myself().master?)))
        .filter(|(_, master)| answers(master))
        .collect()
}

/// Waits until none of `members` knows one of the nodes in `leaving`. Returns why some still do, or
/// can't be asked, by member.
pub(crate) async fn forgotten(
    connections: &Arc<Connections>,
    members: BTreeMap<NodeId, Target>,
    leaving: &BTreeSet<NodeId>,
    within: Duration,
) -> BTreeMap<NodeId, String> {
    let leaving = Arc::new(leaving.clone());
    let poll = Poll::every(LOOK_AGAIN, within);
    let mut remaining = members;
    let found = poll.until(async || {
        let asked = std::mem::take(&mut remaining);
        let answers = connections.fan_out(asked, |connections, (id, target)| {
            let leaving = Arc::clone(&leaving);
            async move {
                let why = match known(&connections, &target, &leaving).await {
                    Ok(known) if known.is_empty() => None,
                    Ok(known) => {
                        let known: Vec<String> = known.iter().map(|id| id.short()).collect();
                        Some(format!("still knows {}", known.join(", ")))
                    }
                    Err(why) => {
                        connections.drop_client(&target);
                        Some(format!(
                            "can't be asked whether it has forgotten them: {why}"
                        ))
                    }
                };
                (id, target, why)
            }
        });
        let mut reasons = BTreeMap::new();
        for (id, target, why) in answers.await {
            if let Some(why) = why {
                remaining.insert(id, target);
                reasons.insert(id, why);
            }
        }
        Ok::<_, Infallible>(match reasons.is_empty() {
            true => Polled::Met(()),
            false => Polled::Missing(reasons),
        })
    });
    match found.await {
        Ok(Polled::Missing(reasons)) => reasons,
        Ok(Polled::Met(())) => BTreeMap::new(),
    }
}

/// Returns those of the nodes in `leaving` that a member knows.
pub(crate) async fn known(
    connections: &Connections,
    target: &Target,
    leaving: &BTreeSet<NodeId>,
) -> Result<Vec<NodeId>, String> {
    let text = async { connections.client(target).await?.cluster_nodes().await };
    let text = text
        .await
        .map_err(|error: ClientError| error.fault.to_string())?;
    let view = read(&text).map_err(|error| error.to_string())?;
    let entries = view.entries();
    Ok(entries
        .filter(|entry| entry.state != EntryState::Handshake && leaving.contains(&entry.id))
        .map(|entry| entry.id)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::slot::Slot;
    use crate::cluster::topology::{Bus, Member, PeerStatus};

    fn id(n: u8) -> NodeId {
        format!("{n:040x}").parse().unwrap()
    }

    fn slots(first: usize, count: usize) -> SlotSet {
        Slot::all().skip(first).take(count).collect()
    }

    fn member(n: u8, master: Option<u8>, slots: SlotSet) -> Member {
        Member {
            id: id(n),
            role: master.map_or(Role::Master, |_| Role::Replica),
            master: master.map(id),
            slots,
            open: Vec::new(),
            epoch: 1,
            learner: false,
            peer_status: PeerStatus::default(),
            is_reset: false,
        }
    }

    fn topology(members: impl IntoIterator<Item = Member>) -> Topology {
        let members = members.into_iter().map(|member| (member.id, member));
        Topology {
            members: members.collect(),
            opinions: Vec::new(),
            bus: Bus::Gossip,
        }
    }

    #[test]
    fn the_successor_of_an_owner_may_own_its_slots() {
        let none = SlotSet::new;
        let before = topology([
            member(1, None, slots(0, 20)),
            member(2, None, slots(20, 10)),
            member(3, Some(2), none()),
        ]);
        let owners = BTreeMap::from([(id(2), slots(10, 10))]);
        let wrong = |now: [Member; 3]| misplaced(&topology(now), &before, &owners);
        let source = || member(1, None, slots(0, 10));
        let dead = |slots| Member {
            peer_status: PeerStatus {
                asked: 2,
                failed: 2,
                silent: true,
                ..PeerStatus::default()
            },
            ..member(2, None, slots)
        };
        let all = || slots(10, 20);
        assert!(wrong([source(), member(2, None, all()), member(3, Some(2), none())]).is_empty());
        assert!(wrong([source(), member(2, Some(3), none()), member(3, None, all())]).is_empty());
        assert!(wrong([source(), dead(none()), member(3, None, all())]).is_empty());
        // Not all of them.
        let some = wrong([source(), dead(none()), member(3, None, slots(15, 15))]);
        assert_eq!(some, BTreeMap::from([(id(2), slots(10, 5))]));
        // Another node owns them.
        let back = || member(1, None, slots(0, 20));
        let missing = BTreeMap::from([(id(2), slots(10, 10))]);
        for two in [
            member(2, None, slots(20, 10)),
            dead(none()),
            dead(slots(20, 10)),
        ] {
            assert_eq!(wrong([back(), two, member(3, Some(2), none())]), missing);
        }
        // It answers, and is no replica of the new owner yet.
        assert_eq!(
            wrong([source(), member(2, None, none()), member(3, None, all())]),
            missing
        );
    }
}
