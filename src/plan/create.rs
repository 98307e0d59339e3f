//! The layout of a new cluster: who is a master, which slots it owns, and who follows it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::affinity::{self, Mastership, Place};
use super::membership::joining;
use super::{MembershipPlan, MembershipStep, anti_affinity_search};
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::slot::{SLOTS, Slot, SlotRange};

/// The fewest masters of which a majority is left when one fails.
const SAFE_MASTERS: usize = 3;

/// What is asked of a new cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The nodes, in the order in which they were given.
    pub nodes: Vec<Candidate>,
    /// Replicas for each master, from 0 on. Nodes beyond masters × (1 + replicas) become
    /// additional replicas.
    pub replicas: usize,
    /// What to do when that leaves fewer than three masters.
    pub few_masters: FewMasters,
}

/// A node that shall be in the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its id.
    pub id: NodeId,
    /// Its address as people know it.
    pub addr: Addr,
    /// What it runs on: nodes of the same host are taken to fail together.
    pub host: String,
    /// The zone that it runs in, if known: nodes of the same zone are taken to fail together. A
    /// node in no zone shares its zone with nobody.
    pub zone: Option<String>,
    /// The role that was asked for, if any.
    pub pin: Option<Role>,
    /// Which of the given seeds it was found through, counted from 0; one that several nodes were
    /// found through is a name that stands for all of them.
    pub seed_set: usize,
}

/// Whether a cluster may have one or two masters, which cannot survive the loss of one: no
/// majority is left to elect a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FewMasters {
    /// It is an error.
    Refuse,
    /// It is what was asked for.
    Allow,
}

/// Why no cluster can be laid out as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// There is nothing to make a cluster of.
    #[error("no nodes given")]
    NoNodes,
    /// Two candidates have the same address.
    #[error("{addr} is given twice")]
    SameAddr {
        /// The address.
        addr: Addr,
    },
    /// Two candidates have the same id: they are one node with two addresses, or one node's
    /// nodes.conf was copied.
    #[error(
        "{first} and {second} are the same node ({id}): name it once; if they are two nodes, \
         CLUSTER RESET HARD gives one a new id"
    )]
    SameId {
        /// The id.
        id: NodeId,
        /// The address that came first.
        first: Addr,
        /// The other one.
        second: Addr,
    },
    /// Not even one master could have that many replicas.
    #[error(
        "{nodes} nodes are too few for {replicas} replicas per master: three masters need {needed} nodes"
    )]
    TooFewNodes {
        /// How many nodes there are.
        nodes: usize,
        /// How many replicas each master shall have.
        replicas: usize,
        /// How many nodes three masters and their replicas are.
        needed: usize,
    },
    /// One or two masters, and [`FewMasters::Refuse`].
    #[error(
        "{nodes} nodes with {replicas} replicas per master make fewer than three masters ({masters}): \
         give {needed} nodes or fewer replicas, or accept it with --allow-few-masters"
    )]
    FewerThanThreeMasters {
        /// How many nodes there are.
        nodes: usize,
        /// How many replicas each master shall have.
        replicas: usize,
        /// How many masters that makes, 1 or 2.
        masters: usize,
        /// How many nodes three masters and their replicas are.
        needed: usize,
    },
    /// Some masters would own no slots.
    #[error("{masters} masters are more than there are slots ({SLOTS}): ask for more replicas")]
    TooManyMasters {
        /// How many masters it would be.
        masters: usize,
    },
    /// More nodes are pinned as masters than the cluster has.
    #[error(
        "{pinned} nodes are pinned as masters, but {nodes} nodes with {replicas} replicas per master \
         make {masters}: pin fewer, or ask for fewer replicas"
    )]
    TooManyPinnedMasters {
        /// How many are pinned as masters.
        pinned: usize,
        /// How many masters there are.
        masters: usize,
        /// How many nodes there are.
        nodes: usize,
        /// How many replicas each master shall have.
        replicas: usize,
    },
    /// Too few nodes are left to be masters.
    #[error(
        "{pinned} nodes are pinned as replicas, but {nodes} nodes with {replicas} replicas per master \
         have room for {room}: pin fewer, or ask for more replicas"
    )]
    TooManyPinnedReplicas {
        /// How many are pinned as replicas.
        pinned: usize,
        /// How many nodes are no masters.
        room: usize,
        /// How many nodes there are.
        nodes: usize,
        /// How many replicas each master shall have.
        replicas: usize,
    },
}

/// A new cluster: every candidate in one shard.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The masters with what is theirs, by slots. Their numbers of replicas differ by at most one.
    pub shards: Vec<Shard>,
    /// Where nodes of a shard may fail together. Their number (in pairs) is the least that these
    /// nodes allow, zones counted first.
    pub conflicts: Vec<Conflict>,
}

/// A master, its slots and its replicas.
#[derive(Debug, Clone, PartialEq)]
pub struct Shard {
    /// The master.
    pub master: NodeId,
    /// Its slots: 16384 divided by the number of masters, rounded down or up.
    pub slots: SlotRange,
    /// Its replicas, at least as many as asked for.
    pub replicas: Vec<NodeId>,
}

/// Nodes of one shard that share a place.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// The master of the shard.
    pub master: NodeId,
    /// Those that share the place, two or more, the master first if it is one of them.
    pub nodes: Vec<NodeId>,
    /// The place.
    pub shared: Shared,
}

/// What nodes share, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shared {
    /// The host.
    Host(String),
    /// The zone, though not all of them the host.
    Zone(String),
}

/// Lays out a new cluster.
///
/// There are nodes / (1 + replicas) masters, rounded down, each with an equal part of the slots.
/// Masters are nodes pinned as such; then, where seeds stand for several nodes and the first seeds
/// hold just as many nodes as there are masters, those; then one node of each host in turn (with
/// zones: of each zone in turn). No two nodes of a shard share a zone or a host if any layout can
/// avoid it, and as few as possible otherwise. (One exception: where one host lies in several
/// zones that have other nodes too, masters are asked for by pins or seeds, and there are more than
/// about a dozen nodes, hosts may be shared more often than need be.) All of this takes time in
/// the square of the number of nodes: some hundredths of a second for a thousand.
///
/// # Errors
///
/// When nodes are missing or given twice, or numbers or pins contradict each other.
pub fn create(request: &Request) -> Result<Layout, CreateError> {
    let nodes = &request.nodes;
    refuse_twins(nodes)?;
    let masters = count_masters(request)?;
    refuse_pins(request, masters)?;
    let slots: Vec<SlotRange> = (0..masters)
        .map(|position| share(position, masters))
        .collect::<Option<_>>()
        .ok_or(CreateError::TooManyMasters { masters })?;

    let places = places(nodes);
    let masterships = masterships(nodes, masters);
    let order = affinity::interleave(&places, &masterships, masters);
    let mut dealt = affinity::deal(&places, &order, masters);
    if affinity::crosses(&places) {
        dealt = anti_affinity_search::improve(dealt, &order, &places, &masterships);
    }

    let shards: Vec<Shard> = dealt
        .iter()
        .zip(slots)
        .filter_map(|(shard, slots)| {
            let (master, replicas) = shard.split_first()?;
            Some(Shard {
                master: nodes[*master].id,
                slots,
                replicas: replicas.iter().map(|node| nodes[*node].id).collect(),
            })
        })
        .collect();
    let conflicts = dealt
        .iter()
        .flat_map(|shard| conflicts(shard, nodes))
        .collect();
    Ok(Layout { shards, conflicts })
}

impl Layout {
    /// The steps that make this cluster of nodes that are empty and know nobody: slots, config
    /// epochs (masters get 1, 2, 3, … by slots, replicas those after them; every node its own, so
    /// that none collide), joining, replicas.
    ///
    /// A node that was in a cluster before may have kept its epoch (CLUSTER RESET SOFT), and takes
    /// no other: `epoch_of` tells it, 0 for none, and nobody else gets it.
    pub fn plan(&self, epoch_of: impl Fn(NodeId) -> u64) -> MembershipPlan {
        let masters = self.shards.iter().map(|shard| shard.master);
        let replicas = self.shards.iter().flat_map(|shard| &shard.replicas);
        let nodes: Vec<NodeId> = masters.chain(replicas.copied()).collect();

        let slots = self.shards.iter().map(|shard| MembershipStep::AddSlots {
            node: shard.master,
            slots: [shard.slots].into_iter().collect(),
        });
        let kept: BTreeSet<u64> = nodes.iter().map(|node| epoch_of(*node)).collect();
        let mut beyond = (nodes.len() as u64 + 1..).filter(|epoch| !kept.contains(epoch));
        let epochs = (1..)
            .zip(&nodes)
            .filter(|(_, node)| epoch_of(**node) == 0)
            .filter_map(|(epoch, node)| {
                let epoch = match kept.contains(&epoch) {
                    true => beyond.next()?,
                    false => epoch,
                };
                Some(MembershipStep::SetConfigEpoch { node: *node, epoch })
            });
        let followers = self.shards.iter().flat_map(|shard| {
            shard
                .replicas
                .iter()
                .map(|replica| MembershipStep::Replicate {
                    replica: *replica,
                    master: shard.master,
                })
        });

        let mut rounds = vec![slots.collect(), epochs.collect()];
        rounds.extend(joining(&nodes));
        rounds.push(followers.collect());
        rounds.retain(|round: &Vec<MembershipStep>| !round.is_empty());
        MembershipPlan { rounds }
    }
}

fn refuse_twins(nodes: &[Candidate]) -> Result<(), CreateError> {
    let mut addrs = HashMap::new();
    let mut ids = HashMap::new();
    for node in nodes {
        if addrs.insert(&node.addr, ()).is_some() {
            return Err(CreateError::SameAddr {
                addr: node.addr.clone(),
            });
        }
        if let Some(first) = ids.insert(node.id, &node.addr) {
            return Err(CreateError::SameId {
                id: node.id,
                first: first.clone(),
                second: node.addr.clone(),
            });
        }
    }
    Ok(())
}

fn count_masters(request: &Request) -> Result<usize, CreateError> {
    let nodes = request.nodes.len();
    let replicas = request.replicas;
    // Anything may be asked for; what is too much for a number is too much for the nodes too.
    let shard = replicas.saturating_add(1);
    let needed = shard.saturating_mul(SAFE_MASTERS);
    match nodes / shard {
        _ if nodes == 0 => Err(CreateError::NoNodes),
        0 => Err(CreateError::TooFewNodes {
            nodes,
            replicas,
            needed,
        }),
        masters if masters < SAFE_MASTERS && request.few_masters == FewMasters::Refuse => {
            Err(CreateError::FewerThanThreeMasters {
                nodes,
                replicas,
                masters,
                needed,
            })
        }
        masters => Ok(masters),
    }
}

fn refuse_pins(request: &Request, masters: usize) -> Result<(), CreateError> {
    let nodes = request.nodes.len();
    let replicas = request.replicas;
    let room = nodes - masters;
    let pinned = |role| {
        let is_pinned = |node: &&Candidate| node.pin == Some(role);
        request.nodes.iter().filter(is_pinned).count()
    };
    let (pinned_masters, pinned_replicas) = (pinned(Role::Master), pinned(Role::Replica));
    if pinned_masters > masters {
        Err(CreateError::TooManyPinnedMasters {
            pinned: pinned_masters,
            masters,
            nodes,
            replicas,
        })
    } else if pinned_replicas > room {
        Err(CreateError::TooManyPinnedReplicas {
            pinned: pinned_replicas,
            room,
            nodes,
            replicas,
        })
    } else {
        Ok(())
    }
}

/// The slots of the master in that position, counted from 0; `None` when some master would get
/// none.
///
/// The peers add up 16384/masters in floating point and round each last slot; this is the same
/// without the error that adds up.
fn share(position: usize, masters: usize) -> Option<SlotRange> {
    // position × 16384 / masters, rounded to the nearest.
    let first = |position: usize| (2 * position * usize::from(SLOTS) + masters) / (2 * masters);
    let slot = |number: usize| u16::try_from(number).ok().and_then(Slot::new);
    SlotRange::new(
        slot(first(position))?,
        slot(first(position + 1).checked_sub(1)?)?,
    )
}

fn places(nodes: &[Candidate]) -> Vec<Place> {
    let hosts = affinity::number(nodes.iter().map(|node| &node.host));
    let zones = affinity::number(nodes.iter().map(|node| &node.zone));
    nodes
        .iter()
        .zip(hosts.into_iter().zip(zones))
        .map(|(node, (host, zone))| Place {
            host,
            zone: node.zone.is_some().then_some(zone),
        })
        .collect()
}

fn masterships(nodes: &[Candidate], masters: usize) -> Vec<Mastership> {
    let named = named_masters(nodes, masters);
    nodes
        .iter()
        .map(|node| match node.pin {
            Some(Role::Master) => Mastership::Pinned,
            Some(Role::Replica) => Mastership::Barred,
            None if named.is_some_and(|last| node.seed_set <= last) => Mastership::Named,
            None => Mastership::Open,
        })
        .collect()
}

/// The last of those first seed sets that together hold just as many nodes as there are masters.
/// Only where some seed set holds several nodes: a service of masters and one of replicas mean
/// something by their order; a plain list of addresses need not.
fn named_masters(nodes: &[Candidate], masters: usize) -> Option<usize> {
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for node in nodes {
        *sizes.entry(node.seed_set).or_default() += 1;
    }
    if sizes.values().all(|size| *size == 1) {
        return None;
    }
    let mut sum = 0;
    sizes
        .into_iter()
        .map(|(seed_set, size)| {
            sum += size;
            (seed_set, sum)
        })
        .find_map(|(seed_set, sum)| (sum == masters).then_some(seed_set))
}

/// What the nodes of a shard share.
fn conflicts(shard: &[usize], nodes: &[Candidate]) -> Vec<Conflict> {
    let mut hosts: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
    let mut zones: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
    for node in shard.iter().map(|node| &nodes[*node]) {
        hosts.entry(&node.host).or_default().push(node.id);
        if let Some(zone) = &node.zone {
            zones.entry(zone).or_default().push(node.id);
        }
    }
    // That who shares a host also shares its zone need not be said.
    zones.retain(|_, nodes| {
        let shared_by = |others: &Vec<NodeId>| nodes.iter().all(|node| others.contains(node));
        !hosts.values().any(shared_by)
    });
    let zones = zones
        .into_iter()
        .map(|(zone, nodes)| (Shared::Zone(zone.to_owned()), nodes));
    let hosts = hosts
        .into_iter()
        .map(|(host, nodes)| (Shared::Host(host.to_owned()), nodes));
    let master = shard.first().map(|node| nodes[*node].id);
    zones
        .chain(hosts)
        .filter(|(_, nodes)| nodes.len() > 1)
        .filter_map(|(shared, nodes)| {
            Some(Conflict {
                master: master?,
                nodes,
                shared,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
