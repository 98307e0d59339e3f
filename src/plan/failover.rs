//! Which replica takes over from which master, and which failovers are refused.

use std::cmp::Reverse;

use crate::cluster::health::Diagnosis;
use crate::cluster::node::{NodeId, Role, Takeover};
use crate::cluster::parse::MasterLink;
use crate::cluster::slot::SlotSet;
use crate::cluster::topology::{Member, Topology};

/// A member, by the way in which it was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedMember {
    /// `--to`: the member that becomes the master.
    To(NodeId),
    /// `--of`: the member that must not be a master afterwards.
    Of(NodeId),
    /// Without an option: a replica means [`Self::To`], a master is refused, since both options would fit it.
    Positional(NodeId),
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The member.
    pub member: NamedMember,
    /// How the replica takes over.
    pub how: Takeover,
}

/// The answer to a request that is not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The cluster is already in the requested state.
    NoChange(Already),
    /// A replica takes over.
    FailOver(FailoverPlan),
}

/// Why nothing has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Already {
    /// The member of `--to` is a master.
    Master(NodeId),
    /// The member of `--of` is a replica, and its master serves.
    ReplicaOf {
        /// The member.
        replica: NodeId,
        /// Its master.
        master: NodeId,
    },
}

/// Which replica takes over from which master, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailoverPlan {
    /// The replica that becomes the master.
    pub replica: NodeId,
    /// The master that becomes its replica.
    pub master: NodeId,
    /// How.
    pub how: Takeover,
    /// The number of replicas it was chosen from; 1 if it was named.
    pub chosen_of: usize,
}

/// Why a failover is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The node is not a member.
    NotMember(NodeId),
    /// A master was named without an option.
    MasterNamed(NodeId),
    /// The member does not answer.
    Silent(NodeId),
    /// The replica does not know its master.
    NoMaster(NodeId),
    /// The member of `--of` is a replica, and its master does not answer.
    MasterOfReplicaDown {
        /// The replica.
        replica: NodeId,
        /// Its master.
        master: NodeId,
    },
    /// The master has no replica.
    NoReplica(NodeId),
    /// No replica of the master answers.
    SilentReplicas {
        /// The master.
        master: NodeId,
        /// The number of its replicas.
        replicas: usize,
    },
    /// The best replica has no link to its master, and a planned failover needs one.
    Unlinked {
        /// The replica.
        replica: NodeId,
        /// Its master.
        master: NodeId,
        /// Whether it receives its first copy.
        is_syncing: bool,
    },
    /// The master of the replica is not a member.
    UnknownMaster(NodeId),
    /// The master of the replica is a replica itself.
    ChainedReplica {
        /// The replica.
        replica: NodeId,
        /// Its master.
        master: NodeId,
    },
    /// The master does not answer, so a planned failover is impossible.
    MasterDown(NodeId),
    /// Slots of the master are open. The promoted node does not know which (Redis 7.0, 8.6).
    OpenSlots {
        /// The master.
        master: NodeId,
        /// The slots.
        slots: SlotSet,
    },
    /// No majority of the masters can vote.
    NoMajority {
        /// Masters that answer.
        answering: usize,
        /// Masters with slots.
        masters: usize,
    },
}

/// Plans a failover. Refuses one that cannot succeed, and one that would lose writes although it is planned.
pub fn plan(diagnosis: &Diagnosis, request: &Request) -> Result<Decision, Refusal> {
    let topology = &diagnosis.topology;
    let (NamedMember::To(id) | NamedMember::Of(id) | NamedMember::Positional(id)) = request.member;
    let member = topology.members.get(&id).ok_or(Refusal::NotMember(id))?;
    match (request.member, member.role) {
        (NamedMember::To(_), Role::Master) if is_down(member) => Err(Refusal::Silent(id)),
        (NamedMember::To(_), Role::Master) => Ok(Decision::NoChange(Already::Master(id))),
        (NamedMember::Positional(_), Role::Master) => Err(Refusal::MasterNamed(id)),
        (NamedMember::To(_) | NamedMember::Positional(_), Role::Replica) => {
            let master = member.master.ok_or(Refusal::NoMaster(id))?;
            choose_and_check(diagnosis, master, &[member], request.how)
        }
        (NamedMember::Of(_), Role::Master) => {
            let replicas: Vec<&Member> = topology.replicas_of(id).collect();
            choose_and_check(diagnosis, id, &replicas, request.how)
        }
        (NamedMember::Of(_), Role::Replica) => has_handed_over(topology, member),
    }
}

/// `--of` a member that is a replica is success while its master serves.
fn has_handed_over(topology: &Topology, member: &Member) -> Result<Decision, Refusal> {
    let replica = member.id;
    let master = member.master.ok_or(Refusal::NoMaster(replica))?;
    match topology.members.get(&master) {
        None => Err(Refusal::UnknownMaster(master)),
        Some(master) if is_down(master) => Err(Refusal::MasterOfReplicaDown {
            replica,
            master: master.id,
        }),
        Some(_) => Ok(Decision::NoChange(Already::ReplicaOf { replica, master })),
    }
}

fn choose_and_check(
    diagnosis: &Diagnosis,
    master: NodeId,
    replicas: &[&Member],
    how: Takeover,
) -> Result<Decision, Refusal> {
    let candidates: Vec<FailoverCandidate> = replicas
        .iter()
        .map(|replica| candidate(diagnosis, replica))
        .collect();
    let replica = match choose(&candidates, how) {
        Ok(replica) => replica,
        Err(NoCandidate::None) => return Err(Refusal::NoReplica(master)),
        Err(NoCandidate::Silent) => match candidates[..] {
            [only] => return Err(Refusal::Silent(only.id)),
            _ => {
                return Err(Refusal::SilentReplicas {
                    master,
                    replicas: candidates.len(),
                });
            }
        },
        Err(NoCandidate::Unlinked(replica)) => {
            let members = &diagnosis.topology.members;
            if members.get(&master).is_some_and(is_down) {
                return Err(Refusal::MasterDown(master));
            }
            let of_replica = |candidate: &&FailoverCandidate| candidate.id == replica;
            let link = candidates
                .iter()
                .find(of_replica)
                .and_then(|candidate| candidate.link);
            return Err(Refusal::Unlinked {
                replica,
                master,
                is_syncing: link == Some(MasterLink::Syncing),
            });
        }
    };
    let plan = FailoverPlan {
        replica,
        master,
        how,
        chosen_of: candidates.len(),
    };
    check(&diagnosis.topology, &plan)?;
    Ok(Decision::FailOver(plan))
}

/// Refuses a plan whose preconditions do not hold.
fn check(topology: &Topology, plan: &FailoverPlan) -> Result<(), Refusal> {
    let &FailoverPlan {
        replica,
        master: id,
        how,
        ..
    } = plan;
    let master = topology
        .members
        .get(&id)
        .ok_or(Refusal::UnknownMaster(id))?;
    if master.role == Role::Replica {
        return Err(Refusal::ChainedReplica {
            replica,
            master: id,
        });
    }
    if how == Takeover::Planned {
        if is_down(master) {
            return Err(Refusal::MasterDown(id));
        }
        let slots: SlotSet = topology
            .open_slots()
            .filter(|(member, open)| member.id == id || open.peer == id)
            .map(|(_, open)| open.slot)
            .collect();
        if !slots.is_empty() {
            return Err(Refusal::OpenSlots { master: id, slots });
        }
    }
    if how == Takeover::Takeover {
        return Ok(());
    }
    let voters: Vec<&Member> = topology.masters().filter(|m| !m.slots.is_empty()).collect();
    let answering = voters.iter().filter(|master| !is_down(master)).count();
    if answering * 2 <= voters.len() {
        return Err(Refusal::NoMajority {
            answering,
            masters: voters.len(),
        });
    }
    Ok(())
}

fn is_down(member: &Member) -> bool {
    member.peer_status.silent || member.peer_status.is_down()
}

fn candidate(diagnosis: &Diagnosis, member: &Member) -> FailoverCandidate {
    let node = diagnosis.observation.nodes.get(&member.id);
    let info = node
        .and_then(|node| node.report())
        .map(|report| &report.info);
    FailoverCandidate {
        id: member.id,
        link: info.map(|info| info.master_link.unwrap_or(MasterLink::Down(None))),
        offset: info.and_then(|info| info.replication_offset),
    }
}

/// A replica that may take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FailoverCandidate {
    id: NodeId,
    /// The link to its master; `None` if the replica does not answer.
    link: Option<MasterLink>,
    /// Its replication offset, if it reports one.
    offset: Option<u64>,
}

/// Why no replica can take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoCandidate {
    /// The master has no replica.
    None,
    /// No replica answers.
    Silent,
    /// This replica is the best that answers, and lacks the link that a planned failover needs.
    Unlinked(NodeId),
}

/// Returns the replica with the most data. A planned failover needs a replica whose link to the master is up; the
/// other kinds take any that answers. Of equals, the lowest id is chosen, so that the result is stable.
fn choose(candidates: &[FailoverCandidate], how: Takeover) -> Result<NodeId, NoCandidate> {
    if candidates.is_empty() {
        return Err(NoCandidate::None);
    }
    let best = |fits: fn(&FailoverCandidate) -> bool| {
        let candidates = candidates.iter().filter(|candidate| fits(candidate));
        candidates
            .max_by_key(|candidate| {
                let up = candidate.link == Some(MasterLink::Up);
                // During its first copy a replica has no complete data.
                let whole = candidate.link != Some(MasterLink::Syncing);
                (up, whole, candidate.offset, Reverse(candidate.id))
            })
            .map(|candidate| candidate.id)
    };
    let linked = best(|candidate| candidate.link == Some(MasterLink::Up));
    let answering = best(|candidate| candidate.link.is_some());
    match (how, linked, answering) {
        (_, Some(id), _) => Ok(id),
        (Takeover::Force | Takeover::Takeover, None, Some(id)) => Ok(id),
        (Takeover::Planned, None, Some(id)) => Err(NoCandidate::Unlinked(id)),
        (_, None, None) => Err(NoCandidate::Silent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(number: usize, link: Option<MasterLink>, offset: u64) -> FailoverCandidate {
        FailoverCandidate {
            id: id(number),
            link,
            offset: Some(offset),
        }
    }

    fn id(number: usize) -> NodeId {
        format!("{number:040x}").parse().unwrap()
    }

    const UP: Option<MasterLink> = Some(MasterLink::Up);
    const DOWN: Option<MasterLink> = Some(MasterLink::Down(Some(3)));

    #[test]
    fn the_most_data_wins() {
        let candidates = [
            candidate(1, UP, 10),
            candidate(2, UP, 12),
            candidate(3, None, 99),
        ];
        assert_eq!(choose(&candidates, Takeover::Planned), Ok(id(2)));
        let equal = [candidate(2, UP, 10), candidate(1, UP, 10)];
        assert_eq!(choose(&equal, Takeover::Planned), Ok(id(1)));
    }

    #[test]
    fn only_a_forced_failover_does_without_the_link() {
        let candidates = [candidate(1, DOWN, 10), candidate(2, DOWN, 12)];
        assert_eq!(
            choose(&candidates, Takeover::Planned),
            Err(NoCandidate::Unlinked(id(2)))
        );
        assert_eq!(choose(&candidates, Takeover::Force), Ok(id(2)));
        let syncing = [
            candidate(1, Some(MasterLink::Syncing), 99),
            candidate(2, DOWN, 1),
        ];
        assert_eq!(choose(&syncing, Takeover::Takeover), Ok(id(2)));
    }

    #[test]
    fn no_candidate() {
        assert_eq!(choose(&[], Takeover::Force), Err(NoCandidate::None));
        let silent = [candidate(1, None, 1)];
        assert_eq!(choose(&silent, Takeover::Force), Err(NoCandidate::Silent));
    }
}
