//! Which replica takes over from which master, and which failovers are refused.

use std::collections::BTreeSet;

use crate::cluster::copies::{Danger, ShardCopies};
use crate::cluster::election::Votes;
use crate::cluster::health::Diagnosis;
use crate::cluster::node::{NodeId, Role, Takeover};
use crate::cluster::parse::{Direction, MasterLink, Product};
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The member.
    pub member: NamedMember,
    /// How the replica takes over.
    pub how: Takeover,
    /// `--accept-data-loss-of`: replicas that may take over although their copies are unsafe, or masters, of which any
    /// replica may.
    pub accepted: BTreeSet<NodeId>,
}

impl Request {
    fn accepts_loss_of(&self, replica: NodeId, master: NodeId) -> bool {
        self.accepted.contains(&replica) || self.accepted.contains(&master)
    }
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
    /// Whether its copy is unsafe, and what it lacks was given up by name.
    pub gives_up_data: bool,
    /// Whether what its copy lacks was given up by name, be the copy unsafe or not.
    pub accepts_loss: bool,
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
    /// The copy of the replica lacks data that the master or another replica has, or may have.
    UnsafeCopy {
        /// The replica, or the best of them.
        replica: NodeId,
        /// The master.
        master: NodeId,
        /// Why it is unsafe, and which copy is better.
        danger: Danger,
        /// The votes, if these would be missing, too.
        votes: Option<Box<Votes>>,
    },
    /// The master has no slots, so its replica is not elected, and has nothing to take over.
    NoSlots {
        /// The replica.
        replica: NodeId,
        /// The master.
        master: NodeId,
    },
    /// Too few masters will vote for the replica, since it knows an older config epoch of its master than they do.
    NoVotes {
        /// The replica.
        replica: NodeId,
        /// The votes.
        votes: Box<Votes>,
    },
    /// No majority of the voters can vote.
    NoMajority {
        /// Voters that answer.
        answering: usize,
        /// All voters: masters with slots, on the Raft bus nodes that are no learners.
        voters: usize,
        /// Their word.
        word: &'static str,
    },
}

/// Plans a failover. Refuses one that cannot succeed, one that would lose writes although it is planned, and one that
/// would lose more than the master has not sent.
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
            choose_and_check(diagnosis, master, &[member], request)
        }
        (NamedMember::Of(_), Role::Master) => {
            let replicas: Vec<&Member> = topology.replicas_of(id).collect();
            choose_and_check(diagnosis, id, &replicas, request)
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
    request: &Request,
) -> Result<Decision, Refusal> {
    let topology = &diagnosis.topology;
    let copies = ShardCopies::of(&diagnosis.observation, topology, master);
    let answers = |id: &NodeId| {
        let facts = copies.get(*id).and_then(|copy| copy.facts.as_ref());
        // One that is loading answers nothing else, and has no link.
        facts.is_some_and(|facts| request.how != Takeover::Planned || !facts.is_loading)
    };
    let answering = replicas.iter().map(|replica| replica.id).filter(answers);
    let answering: Vec<NodeId> = answering.collect();
    if answering.is_empty() {
        return Err(match replicas {
            [] => Refusal::NoReplica(master),
            [only] => Refusal::Silent(only.id),
            several => Refusal::SilentReplicas {
                master,
                replicas: several.len(),
            },
        });
    }
    let (replica, gives_up_data) = match request.how {
        Takeover::Planned => (linked(topology, &copies, master, &answering)?, false),
        Takeover::Force | Takeover::Takeover => {
            safe(diagnosis, &copies, master, &answering, request)?
        }
    };
    let plan = FailoverPlan {
        replica,
        master,
        how: request.how,
        chosen_of: replicas.len(),
        gives_up_data,
        accepts_loss: request.accepts_loss_of(replica, master),
    };
    check(diagnosis, &plan)?;
    Ok(Decision::FailOver(plan))
}

/// The best replica whose link to the master is up: the servers wait until it has everything.
fn linked(
    topology: &Topology,
    copies: &ShardCopies,
    master: NodeId,
    replicas: &[NodeId],
) -> Result<NodeId, Refusal> {
    let link = |id: NodeId| copies.get(id)?.facts.as_ref()?.link;
    let up = replicas
        .iter()
        .copied()
        .filter(|id| link(*id) == Some(MasterLink::Up));
    if let Some(best) = copies.best(up) {
        return Ok(best);
    }
    if topology.members.get(&master).is_some_and(is_down) {
        return Err(Refusal::MasterDown(master));
    }
    let best = copies.best_of_all(replicas.iter().copied());
    let replica = best.ok_or(Refusal::NoReplica(master))?;
    Err(Refusal::Unlinked {
        replica,
        master,
        is_syncing: link(replica) == Some(MasterLink::Syncing),
    })
}

/// The replica with the most advanced copy that is safe; without one, the most advanced of those whose data loss is
/// accepted, and whether it is one of these.
fn safe(
    diagnosis: &Diagnosis,
    copies: &ShardCopies,
    master: NodeId,
    replicas: &[NodeId],
    request: &Request,
) -> Result<(NodeId, bool), Refusal> {
    let all = || replicas.iter().copied();
    if let Some(best) = copies.best(all().filter(|id| copies.danger(*id).is_none())) {
        return Ok((best, false));
    }
    let is_accepted = |id: &NodeId| request.accepts_loss_of(*id, master);
    if let Some(best) = copies.best_of_all(all().filter(is_accepted)) {
        return Ok((best, true));
    }
    let replica = copies
        .best_of_all(all())
        .ok_or(Refusal::NoReplica(master))?;
    match copies.danger(replica) {
        Some(danger) => Err(Refusal::UnsafeCopy {
            replica,
            master,
            danger,
            votes: missing_votes(diagnosis, replica, master, request.how),
        }),
        None => Ok((replica, false)),
    }
}

/// Refuses a plan whose preconditions do not hold.
fn check(diagnosis: &Diagnosis, plan: &FailoverPlan) -> Result<(), Refusal> {
    let topology = &diagnosis.topology;
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
    // Redis (6.2 to 8.6) elects no replica of such a master, and after a takeover both are masters. Valkey does (8.0 to
    // 9.1).
    let node = diagnosis.observation.nodes.get(&replica);
    let version = node.and_then(|node| node.report()?.info.version);
    let is_valkey = version.is_some_and(|version| version.product == Product::Valkey);
    if master.slots.is_empty() && !is_valkey {
        return Err(Refusal::NoSlots {
            replica,
            master: id,
        });
    }
    if how == Takeover::Planned && is_down(master) {
        return Err(Refusal::MasterDown(id));
    }
    // Of a master that is down, the moves can't be finished first.
    if !is_down(master) {
        let slots = open_slots_of(topology, id);
        if !slots.is_empty() && !is_cure(diagnosis, plan) {
            return Err(Refusal::OpenSlots { master: id, slots });
        }
    }
    if how == Takeover::Takeover {
        return Ok(());
    }
    let votes = Votes::of(&diagnosis.observation, topology, replica, id);
    if !votes.have_majority() {
        return Err(Refusal::NoMajority {
            answering: votes.answering,
            voters: votes.voters,
            word: votes.word,
        });
    }
    match missing_votes(diagnosis, replica, id, how) {
        Some(votes) => Err(Refusal::NoVotes { replica, votes }),
        None => Ok(()),
    }
}

/// The votes of a forced failover, if they will not be enough. A master that answers tells its replica the newest epoch.
fn missing_votes(
    diagnosis: &Diagnosis,
    replica: NodeId,
    master: NodeId,
    how: Takeover,
) -> Option<Box<Votes>> {
    let topology = &diagnosis.topology;
    let is_down = topology.members.get(&master).is_some_and(is_down);
    let votes = Votes::of(&diagnosis.observation, topology, replica, master);
    (how == Takeover::Force && is_down && !votes.are_enough()).then(|| Box::new(votes))
}

/// The slots that are open on a node or from it.
pub fn open_slots_of(topology: &Topology, id: NodeId) -> SlotSet {
    let open = topology.open_slots();
    open.filter(|(member, open)| member.id == id || open.peer == id)
        .map(|(_, open)| open.slot)
        .collect()
}

/// Whether the failover helps against a master that refuses writes because of its disk, and loses nothing although
/// slots of it are open.
///
/// Valkey ≥ 8 sends open slots to the replicas, and after a failover both ends name the promoted node. Redis does not:
/// a promoted source would answer nil for keys that have moved, and new values would be written beside them. A promoted
/// target has all keys that have arrived, and the source still knows that the slot is on its way: clients can't find
/// those keys until `fix` goes on with the move, and nothing is written in their place.
fn is_cure(diagnosis: &Diagnosis, plan: &FailoverPlan) -> bool {
    let nodes = &diagnosis.observation.nodes;
    let refuses = nodes
        .get(&plan.master)
        .and_then(|node| node.report()?.refuses_writes());
    if refuses.is_none() {
        return false;
    }
    let members = &diagnosis.topology.members;
    let (Some(master), Some(replica)) = (members.get(&plan.master), members.get(&plan.replica))
    else {
        return false;
    };
    let knows_all = master.open.iter().all(|open| replica.open.contains(open));
    let mut gives = diagnosis.topology.open_slots().filter(|(member, open)| {
        let (here, there) = (member.id == plan.master, open.peer == plan.master);
        (here && open.direction == Direction::Migrating)
            || (there && open.direction == Direction::Importing)
    });
    let is_only_target = gives.next().is_none();
    is_only_target || (knows_all && !master.open.is_empty())
}

fn is_down(member: &Member) -> bool {
    member.peer_status.silent || member.peer_status.is_down()
}
