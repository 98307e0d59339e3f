//! The planner of `create`: the masters of a new cluster, their slots and their replicas.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::affinity::{self, Mastership, PlaceNumbers};
use super::membership::joining;
use super::{MembershipPlan, MembershipStep, anti_affinity_search};
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::slot::{SLOTS, Slot, SlotRange};

/// The fewest masters of which a majority is left when one fails.
const SAFE_MASTERS: usize = 3;

/// The nodes of a new cluster, and its shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The nodes, in the order in which they were given.
    pub nodes: Vec<Candidate>,
    /// Replicas for each master, from 0 on. Nodes beyond masters × (1 + replicas) become
    /// additional replicas.
    pub replicas: usize,
    /// Whether fewer than three masters are allowed.
    pub few_masters: FewMasters,
    /// Which replicas masters get where several are as good.
    pub replica_order: ReplicaOrder,
}

/// Which replicas masters get where several are as good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplicaOrder {
    /// In the order in which the nodes were given, as in redis-trib.rb 3.2.
    #[default]
    Given,
    /// As redis-cli deals them: beginning with the second one, and one to each master before additional ones.
    RedisCli,
}

/// A node of the new cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its id.
    pub id: NodeId,
    /// Its address, as the user gave it.
    pub addr: Addr,
    /// Its host; nodes of one host fail together.
    pub host: String,
    /// Its zone, if known; nodes of one zone fail together. A node without a zone shares its zone with no
    /// other node.
    pub zone: Option<String>,
    /// The role that the user wants, if any.
    pub pin: Option<Role>,
    /// The seed that it was found through, counted from 0; a seed of several nodes is a name that
    /// resolves to all of them.
    pub seed_set: usize,
}

/// Whether a cluster may have one or two masters: after the loss of one, no majority is left to elect a
/// replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FewMasters {
    /// An error.
    Refuse,
    /// Allowed.
    Allow,
}

/// Why the request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// There are no nodes.
    #[error("no nodes given")]
    NoNodes,
    /// Two candidates have the same address.
    #[error("{addr} is given twice")]
    SameAddr {
        /// The address.
        addr: Addr,
    },
    /// Two candidates have the same id: they are one node with two addresses, or a nodes.conf was
    /// copied.
    #[error(
        "{first} and {second} are the same node ({id}): give it once; if they are two nodes, CLUSTER \
         RESET HARD gives one of them a new id"
    )]
    SameId {
        /// The id.
        id: NodeId,
        /// The address that came first.
        first: Addr,
        /// The other one.
        second: Addr,
    },
    /// There are too few nodes for one master with its replicas.
    #[error(
        "{nodes} nodes are too few for {replicas} replicas per master: three masters need {needed} nodes"
    )]
    TooFewNodes {
        /// The number of nodes.
        nodes: usize,
        /// The number of replicas of each master.
        replicas: usize,
        /// The number of nodes that three masters with their replicas need.
        needed: usize,
    },
    /// One or two masters, and [`FewMasters::Refuse`].
    #[error(
        "{nodes} nodes with {replicas} replicas per master make fewer than three masters ({masters}): \
         give {needed} nodes or fewer replicas, or accept it with --allow-few-masters"
    )]
    FewerThanThreeMasters {
        /// The number of nodes.
        nodes: usize,
        /// The number of replicas of each master.
        replicas: usize,
        /// The resulting number of masters, 1 or 2.
        masters: usize,
        /// The number of nodes that three masters with their replicas need.
        needed: usize,
    },
    /// Some masters would own no slots.
    #[error("{masters} masters are more than there are slots ({SLOTS}): give them more replicas")]
    TooManyMasters {
        /// The resulting number of masters.
        masters: usize,
    },
    /// More nodes are pinned as masters than the cluster has.
    #[error(
        "{pinned} nodes are pinned as masters, but {nodes} nodes with {replicas} replicas per master \
         make {masters}: pin fewer nodes, or use fewer replicas"
    )]
    TooManyPinnedMasters {
        /// The number of nodes pinned as masters.
        pinned: usize,
        /// The number of masters.
        masters: usize,
        /// The number of nodes.
        nodes: usize,
        /// The number of replicas of each master.
        replicas: usize,
    },
    /// Too few nodes can be masters.
    #[error(
        "{pinned} nodes are pinned as replicas, but {nodes} nodes with {replicas} replicas per master \
         have room for {room}: pin fewer nodes, or use more replicas"
    )]
    TooManyPinnedReplicas {
        /// The number of nodes pinned as replicas.
        pinned: usize,
        /// The number of nodes that are not masters.
        room: usize,
        /// The number of nodes.
        nodes: usize,
        /// The number of replicas of each master.
        replicas: usize,
    },
}

/// A new cluster: every candidate is in one shard.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The shards, by slots. Their numbers of replicas differ by at most one.
    pub shards: Vec<ShardLayout>,
    /// Nodes of one shard that fail together. Their number (in pairs) is the least that is possible,
    /// zones counted first.
    pub conflicts: Vec<Conflict>,
}

/// A master, its slots and its replicas.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardLayout {
    /// The master.
    pub master: NodeId,
    /// Its slots: 16384 divided by the number of masters, rounded down or up.
    pub slots: SlotRange,
    /// Its replicas, at least as many as requested.
    pub replicas: Vec<NodeId>,
}

/// Nodes of one shard that share a place.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// The master of the shard.
    pub master: NodeId,
    /// The nodes that share the place, two or more, the master first if it is one of them.
    pub nodes: Vec<NodeId>,
    /// The place.
    pub shared: Shared,
}

/// A place that nodes share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shared {
    /// The host.
    Host(String),
    /// The zone; not all of the nodes share the host.
    Zone(String),
}

/// Lays out a new cluster.
///
/// There are nodes / (1 + replicas) masters, rounded down, each with an equal part of the slots.
/// Masters are the nodes pinned as such; then, if seeds resolve to several nodes and the first seeds
/// have as many nodes as there are masters, those; then one node of each host in turn (with zones: of
/// each zone in turn). No two nodes of a shard share a zone or a host if that is possible, and as few as
/// possible otherwise. (One exception: if a host lies in several zones that have other nodes too,
/// masters are given by pins or seeds, and there are more than about a dozen nodes, hosts may be shared
/// more often than necessary.) The time is quadratic in the number of nodes: some hundredths of a
/// second for a thousand.
///
/// # Errors
///
/// If nodes are missing or given twice, or numbers or pins contradict each other.
pub fn create(request: &Request) -> Result<Layout, CreateError> {
    let nodes = &request.nodes;
    refuse_duplicates(nodes)?;
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
    if request.replica_order == ReplicaOrder::RedisCli {
        let other = deal_as_redis_cli(&order, masters, request.replicas, &places);
        // Only where it spreads the nodes as well as possible; redis-cli swaps replicas by chance then.
        let sum = |dealt: &[Vec<usize>]| -> usize {
            let conflicts = dealt.iter().flat_map(|shard| conflicts(shard, nodes));
            conflicts.map(|conflict| conflict.nodes.len()).sum()
        };
        if sum(&other) <= sum(&dealt) {
            dealt = other;
        }
    }

    let shards: Vec<ShardLayout> = dealt
        .iter()
        .zip(slots)
        .filter_map(|(shard, slots)| {
            let (master, replicas) = shard.split_first()?;
            Some(ShardLayout {
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
    /// The steps that make this cluster of empty nodes that know no other node: slots, config epochs
    /// (masters get 1, 2, 3, … by slots, replicas the following ones, so that no two are equal),
    /// meetings, replicas.
    ///
    /// A node that was in a cluster before may have kept its epoch (CLUSTER RESET SOFT), and takes no
    /// other: `epoch_of` returns it, 0 for none, and no other node gets it.
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

/// The shards that redis-cli makes before it looks for better ones: each master takes the first replicas on other hosts,
/// or else the first ones; replicas that are left are dealt once more.
fn deal_as_redis_cli(
    order: &[usize],
    masters: usize,
    replicas: usize,
    places: &[PlaceNumbers],
) -> Vec<Vec<usize>> {
    let (masters, rest) = order.split_at(masters);
    let mut rest = rest.to_vec();
    if !rest.is_empty() {
        rest.rotate_left(1);
    }
    let mut dealt: Vec<Vec<usize>> = masters.iter().map(|master| vec![*master]).collect();
    let mut each = replicas;
    while !rest.is_empty() {
        for shard in &mut dealt {
            for _ in 0..each {
                let host = places[shard[0]].host;
                let other = rest.iter().position(|node| places[*node].host != host);
                match rest.is_empty() {
                    true => break,
                    false => shard.push(rest.remove(other.unwrap_or(0))),
                }
            }
        }
        each = 1;
    }
    dealt
}

fn refuse_duplicates(nodes: &[Candidate]) -> Result<(), CreateError> {
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
    // Any number may be requested; one that overflows is too large for the nodes, too.
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

/// The slots of the master in that position, counted from 0; `None` if a master would get none.
///
/// redis-cli and redis-trib.rb add up 16384/masters in floating point and round each last slot; this
/// is the same without the accumulated error.
fn share(position: usize, masters: usize) -> Option<SlotRange> {
    // position × 16384 / masters, rounded to the nearest.
    let first = |position: usize| (2 * position * usize::from(SLOTS) + masters) / (2 * masters);
    let slot = |number: usize| u16::try_from(number).ok().and_then(Slot::new);
    SlotRange::new(
        slot(first(position))?,
        slot(first(position + 1).checked_sub(1)?)?,
    )
}

fn places(nodes: &[Candidate]) -> Vec<PlaceNumbers> {
    let hosts = affinity::number(nodes.iter().map(|node| &node.host));
    let zones = affinity::number(nodes.iter().map(|node| &node.zone));
    nodes
        .iter()
        .zip(hosts.into_iter().zip(zones))
        .map(|(node, (host, zone))| PlaceNumbers {
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

/// The last of the first seed sets that together have as many nodes as there are masters. Only if a
/// seed set has several nodes: the order of a service of masters and a service of replicas has a
/// meaning; that of a plain list of addresses has none.
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

/// The places that nodes of a shard share.
fn conflicts(shard: &[usize], nodes: &[Candidate]) -> Vec<Conflict> {
    let mut hosts: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
    let mut zones: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
    for node in shard.iter().map(|node| &nodes[*node]) {
        hosts.entry(&node.host).or_default().push(node.id);
        if let Some(zone) = &node.zone {
            zones.entry(zone).or_default().push(node.id);
        }
    }
    // Nodes that share a host share its zone: that is no second conflict.
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
