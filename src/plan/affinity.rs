//! Anti-affinity: the nodes of each shard, so that the loss of one host or zone affects a shard as
//! little as possible.
//!
//! Two nodes of one shard that share a place (a host or a zone) are a violation; k of them are
//! k(k−1)/2. Their number is least when each place is spread *evenly*: n nodes over m shards, each
//! shard gets n/m of them rounded down or up. Hosts that lie within zones (or zones within hosts)
//! form a tree, "one master per shard" is a second, flat partition of the nodes, and a family
//! of sets made of two trees can always be spread evenly all at once (such incidence matrices are
//! totally unimodular, Edmonds; so they have equitable colourings, de Werra). Hence, for any choice of
//! masters, the least number of violations is reached in hosts and in zones together, and
//! shards can be filled one by one: a filling that is even for this shard leaves a rest that can
//! be spread evenly over the others. That is what [`deal`] does.
//!
//! Only a host that lies in several zones, each of which also has nodes elsewhere, is not part of a
//! tree: `anti_affinity_search` handles those.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// The host and zone of a node, as numbers in the order in which they first appear.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PlaceNumbers {
    pub(super) host: usize,
    /// A node without a zone shares its zone with no other node.
    pub(super) zone: Option<usize>,
}

/// How suitable a node is as a master, the most suitable first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mastership {
    /// Pinned as a master.
    Pinned,
    /// It came from the first seed sets, which have as many nodes as there are masters.
    Named,
    /// Either role is fine.
    Open,
    /// Pinned as a replica.
    Barred,
}

/// Numbers things in the order in which they first appear.
pub(super) fn number<T: Eq + Hash>(things: impl Iterator<Item = T>) -> Vec<usize> {
    let mut numbers = HashMap::new();
    things
        .map(|thing| {
            let next = numbers.len();
            *numbers.entry(thing).or_insert(next)
        })
        .collect()
}

/// All nodes in the order in which they are used, the masters first.
///
/// The order is that of redis-cli and redis-trib.rb: one node of each host in turn; with zones, one of
/// each zone in turn, and within a zone one of each host. A node without a zone takes its turn with its
/// host. Of two zones with as many turns, the one with the less used host comes first: so no host or
/// zone has most of the masters if that can be avoided.
///
/// At most `masters` nodes may be [`Mastership::Pinned`], and at least `masters` not
/// [`Mastership::Barred`]. Takes time in the square of the number of nodes.
pub(super) fn interleave(
    places: &[PlaceNumbers],
    masterships: &[Mastership],
    masters: usize,
) -> Vec<usize> {
    let turns = number(
        places
            .iter()
            .map(|place| (place.zone, place.zone.is_none().then_some(place.host))),
    );
    let mut turns_taken = vec![0; places.len()];
    let mut hosts_taken = vec![0; places.len()];
    let mut rest: Vec<usize> = (0..places.len()).collect();
    let mut order = Vec::with_capacity(places.len());
    while let Some(at) = (0..rest.len()).min_by_key(|at| {
        let node = rest[*at];
        let (turn, host) = (turns[node], places[node].host);
        // The suitability as a master matters only while masters are chosen.
        let wanted = (order.len() < masters).then_some(masterships[node]);
        (wanted, turns_taken[turn], hosts_taken[host], turn, host)
    }) {
        let node = rest.remove(at);
        turns_taken[turns[node]] += 1;
        hosts_taken[places[node].host] += 1;
        order.push(node);
    }
    order
}

/// The shards: the first `masters` nodes of `order`, each with its replicas, whose numbers are as even
/// as possible. Each shard takes the first nodes of the order with which the least number of
/// violations can still be reached.
///
/// `masters` is at least 1. Takes time in masters × nodes.
pub(super) fn deal(places: &[PlaceNumbers], order: &[usize], masters: usize) -> Vec<Vec<usize>> {
    let mut tree = Tree::new(places);
    let mut rest = order[masters..].to_vec();
    order[..masters]
        .iter()
        .enumerate()
        .map(|(done, master)| {
            let shards = masters - done;
            let size = tree.left[ROOT].div_ceil(shards);
            let mut shard = tree.fill(*master, &rest, shards, size);
            if shard.len() < size {
                // One replica less: larger shards come later.
                shard = tree.fill(*master, &rest, shards, tree.left[ROOT] / shards);
            }
            tree.finish(&shard);
            rest.retain(|node| !shard.contains(node));
            shard
        })
        .collect()
}

const ROOT: usize = 0;

/// A set of nodes that is to be spread evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Set {
    All,
    Host(usize),
    Zone(usize),
    /// The part of a host that lies in one zone, or in none.
    Part(usize, Option<usize>),
}

/// Hosts and zones as a tree, and how far the current shard is filled. Sets go by numbers; a set's
/// parent has the smaller number.
struct Tree {
    parents: Vec<usize>,
    /// The smallest set that a node is in.
    innermost: Vec<usize>,
    /// How many nodes of each set are in no finished shard.
    left: Vec<usize>,
    /// For the current shard, by set: how many nodes it must and may have, how many it has, how
    /// many it still must take, and how many of these its subsets need.
    least: Vec<usize>,
    most: Vec<usize>,
    taken: Vec<usize>,
    missing: Vec<usize>,
    missing_inside: Vec<usize>,
}

impl Tree {
    fn new(places: &[PlaceNumbers]) -> Self {
        let chains = chains(places);
        // Parents first: a set's parent is All, or a set whose own parent is All.
        let outer = chains.iter().map(|(_, outer)| *outer);
        let inner = chains.iter().map(|(inner, _)| *inner);
        let mut numbers = HashMap::new();
        for set in std::iter::once(Set::All).chain(outer).chain(inner.clone()) {
            let next = numbers.len();
            numbers.entry(set).or_insert(next);
        }
        let mut parents = vec![ROOT; numbers.len()];
        for (inner, outer) in &chains {
            parents[numbers[inner]] = numbers[outer];
        }
        let sets = numbers.len();
        let mut tree = Self {
            parents,
            innermost: inner.map(|set| numbers[&set]).collect(),
            left: vec![0; sets],
            least: vec![0; sets],
            most: vec![0; sets],
            taken: vec![0; sets],
            missing: vec![0; sets],
            missing_inside: vec![0; sets],
        };
        for node in 0..places.len() {
            for set in tree.sets(node) {
                tree.left[set] += 1;
            }
        }
        tree
    }

    /// The sets that a node is in, the smallest first, the root last.
    fn sets(&self, node: usize) -> impl Iterator<Item = usize> + use<> {
        let inner = self.innermost[node];
        let outer = self.parents[inner];
        let between = (outer != ROOT).then_some(outer);
        std::iter::once(inner).chain(between).chain([ROOT])
    }

    /// One shard of `size` nodes with this master, of the nodes that `shards` shards have left;
    /// shorter when no such shard keeps all sets even.
    fn fill(&mut self, master: usize, rest: &[usize], shards: usize, size: usize) -> Vec<usize> {
        self.taken.fill(0);
        self.missing_inside.fill(0);
        for set in (0..self.parents.len()).rev() {
            self.least[set] = self.left[set] / shards;
            self.most[set] = self.left[set].div_ceil(shards);
            if set == ROOT {
                (self.least[set], self.most[set]) = (size, size);
            }
            self.missing[set] = self.least[set].max(self.missing_inside[set]);
            if set != ROOT {
                self.missing_inside[self.parents[set]] += self.missing[set];
            }
        }
        std::iter::once(&master)
            .chain(rest)
            .copied()
            .filter(|node| self.take(*node))
            .collect()
    }

    /// Takes a node into the current shard, if every set can still end up even. The sets for which that
    /// holds are a matroid: a refused node is never needed later.
    fn take(&mut self, node: usize) -> bool {
        let mut met = 0;
        for set in self.sets(node) {
            let missing = self.missing_with_one_more(set, self.missing_inside[set] - met);
            if self.taken[set] + 1 + missing > self.most[set] {
                return false;
            }
            met = self.missing[set] - missing;
        }
        met = 0;
        for set in self.sets(node) {
            self.missing_inside[set] -= met;
            let missing = self.missing_with_one_more(set, self.missing_inside[set]);
            met = self.missing[set] - missing;
            self.missing[set] = missing;
            self.taken[set] += 1;
        }
        true
    }

    /// How many nodes a set still needs after one more, if its subsets need `inside`.
    fn missing_with_one_more(&self, set: usize, inside: usize) -> usize {
        self.least[set]
            .saturating_sub(self.taken[set] + 1)
            .max(inside)
    }

    /// Removes the nodes of a finished shard.
    fn finish(&mut self, shard: &[usize]) {
        for node in shard {
            for set in self.sets(*node) {
                self.left[set] -= 1;
            }
        }
    }
}

/// For each node the smallest set of the tree that it is in, and the one around it.
fn chains(places: &[PlaceNumbers]) -> Vec<(Set, Set)> {
    let sizes = Sizes::new(places);
    places
        .iter()
        .map(|place| match place.zone {
            _ if sizes.crosses(place.host) => (
                Set::Part(place.host, place.zone),
                place.zone.map_or(Set::All, Set::Zone),
            ),
            None => (Set::Host(place.host), Set::All),
            Some(zone) if sizes.host_within(place.host, zone) => {
                (Set::Host(place.host), Set::Zone(zone))
            }
            Some(zone) => (Set::Zone(zone), Set::Host(place.host)),
        })
        .collect()
}

/// Whether some host lies in several zones, each of which also has nodes elsewhere.
pub(super) fn crosses(places: &[PlaceNumbers]) -> bool {
    let sizes = Sizes::new(places);
    places.iter().any(|place| sizes.crosses(place.host))
}

/// How many nodes each host, each zone, and each host has in each zone.
struct Sizes {
    hosts: BTreeMap<usize, usize>,
    zones: BTreeMap<usize, usize>,
    both: BTreeMap<(usize, usize), usize>,
}

impl Sizes {
    fn new(places: &[PlaceNumbers]) -> Self {
        let mut sizes = Self {
            hosts: BTreeMap::new(),
            zones: BTreeMap::new(),
            both: BTreeMap::new(),
        };
        for place in places {
            *sizes.hosts.entry(place.host).or_default() += 1;
            if let Some(zone) = place.zone {
                *sizes.zones.entry(zone).or_default() += 1;
                *sizes.both.entry((place.host, zone)).or_default() += 1;
            }
        }
        sizes
    }

    fn host_within(&self, host: usize, zone: usize) -> bool {
        self.both.get(&(host, zone)) == self.hosts.get(&host)
    }

    fn crosses(&self, host: usize) -> bool {
        self.both
            .range((host, 0)..=(host, usize::MAX))
            .any(|((_, zone), both)| {
                Some(both) != self.hosts.get(&host) && Some(both) != self.zones.get(zone)
            })
    }
}
