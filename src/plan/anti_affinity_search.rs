//! Anti-affinity where hosts and zones cross: a host lies in several zones, each of which also has
//! nodes elsewhere. No machine does, but an address may (forwarded ports, a test on one machine), and
//! zones may be known for only some nodes of a host.
//!
//! `affinity::deal` then spreads the zones as evenly as possible, but not such hosts. This search
//! improves its result. Hosts and zones are two partitions of the nodes, so two shards can always be
//! split anew with all hosts and zones even between them ([`even_halves`]), and a deal that is
//! even between any two shards has the least number of violations of all. Masters that were asked
//! for by name may end up in one half, though; then only single nodes change places, and the rest is
//! searched, up to [`SEARCH_STEPS`]: for a dozen nodes that is complete; with more, hosts (never zones)
//! may keep more violations than the best deal has.

use super::affinity::{Mastership, PlaceNumbers};

/// The limit of placements that a search tries, which takes well below a second.
const SEARCH_STEPS: usize = 1_000_000;

/// The role that a node must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Duty {
    Master,
    Either,
    Replica,
}

/// Improves a deal of `order`, whose first nodes are the masters, as far as possible. Masters that were
/// not asked for by name may be replaced.
pub(super) fn improve(
    shards: Vec<Vec<usize>>,
    order: &[usize],
    places: &[PlaceNumbers],
    masterships: &[Mastership],
) -> Vec<Vec<usize>> {
    let mut positions = vec![0; order.len()];
    for (position, node) in order.iter().enumerate() {
        positions[*node] = position;
    }
    let duty = |node: usize| match masterships[node] {
        Mastership::Barred => Duty::Replica,
        Mastership::Pinned | Mastership::Named if positions[node] < shards.len() => Duty::Master,
        _ => Duty::Either,
    };
    let duties: Vec<Duty> = (0..places.len()).map(duty).collect();
    let mut deal = Deal::new(shards.len(), places, duties.clone());
    for (shard, nodes) in shards.into_iter().enumerate() {
        deal.put(shard, nodes);
    }
    while deal.split_pairs() || deal.exchange_nodes() {}

    let mut shards = Search::new(deal, order).run();
    for shard in &mut shards {
        shard.sort_by_key(|node| positions[*node]);
        // The master goes first, the others stay in order.
        if let Some(at) = (0..shard.len()).min_by_key(|at| duties[shard[*at]]) {
            shard[..=at].rotate_right(1);
        }
    }
    shards.sort_by_key(|shard| shard.first().map(|master| positions[*master]));
    shards
}

/// A number of violations, or a change in it: in zones, then in hosts.
type Violations = (isize, isize);

/// Shards that are being improved. The places of a node are its zone and its host.
struct Deal {
    shards: Vec<Vec<usize>>,
    /// The shard of each node.
    shard_of: Vec<usize>,
    places: Vec<[Option<usize>; 2]>,
    duties: Vec<Duty>,
    /// How many nodes of each zone, and of each host, each shard has.
    counts: [Vec<Vec<isize>>; 2],
}

impl Deal {
    /// No node dealt.
    fn new(shards: usize, places: &[PlaceNumbers], duties: Vec<Duty>) -> Self {
        let none = vec![vec![0; places.len()]; shards];
        Self {
            shards: vec![Vec::new(); shards],
            shard_of: vec![0; places.len()],
            places: places
                .iter()
                .map(|place| [place.zone, Some(place.host)])
                .collect(),
            duties,
            counts: [none.clone(), none],
        }
    }

    /// Adds nodes to a shard.
    fn put(&mut self, shard: usize, nodes: Vec<usize>) {
        for node in &nodes {
            self.shard_of[*node] = shard;
            for (counts, place) in self.counts.iter_mut().zip(self.places[*node]) {
                if let Some(place) = place {
                    counts[shard][place] += 1;
                }
            }
        }
        self.shards[shard].extend(nodes);
    }

    /// Takes the last node out of a shard.
    fn take_back(&mut self, shard: usize) -> Option<usize> {
        let node = self.shards[shard].pop()?;
        for (counts, place) in self.counts.iter_mut().zip(self.places[node]) {
            if let Some(place) = place {
                counts[shard][place] -= 1;
            }
        }
        Some(node)
    }

    /// Takes all nodes out of a shard.
    fn empty(&mut self, shard: usize) -> Vec<usize> {
        std::iter::from_fn(|| self.take_back(shard)).collect()
    }

    /// Whether these nodes can be a shard.
    fn has_one_master(&self, nodes: &[usize]) -> bool {
        let count = |duty| nodes.iter().filter(|n| self.duties[**n] == duty).count();
        count(Duty::Master) <= 1 && count(Duty::Replica) < nodes.len()
    }

    /// Splits pairs of shards again; returns whether that improved anything.
    fn split_pairs(&mut self) -> bool {
        let mut bettered = false;
        for one in 0..self.shards.len() {
            for other in one + 1..self.shards.len() {
                bettered |= self.split_pair(one, other);
            }
        }
        bettered
    }

    fn split_pair(&mut self, one: usize, other: usize) -> bool {
        let nodes = [&self.shards[one][..], &self.shards[other][..]].concat();
        let uneven = nodes.iter().any(|node| {
            let places = self.counts.iter().zip(self.places[*node]);
            places
                .filter_map(|(counts, place)| Some(counts[one][place?] - counts[other][place?]))
                .any(|difference| difference.abs() > 1)
        });
        if !uneven {
            return false;
        }
        let (a, b) = even_halves(&nodes, &self.places);
        if !(self.has_one_master(&a) && self.has_one_master(&b)) {
            return false;
        }
        // Some place was uneven and none is now: there are fewer violations, and nowhere more.
        self.empty(one);
        self.empty(other);
        self.put(one, a);
        self.put(other, b);
        true
    }

    /// Exchanges nodes of different shards, and moves nodes from larger shards to smaller ones; returns
    /// whether that improved anything.
    fn exchange_nodes(&mut self) -> bool {
        let mut bettered = false;
        for a in 0..self.duties.len() {
            for b in a + 1..self.duties.len() {
                let other = self.shard_of[b];
                bettered |= self.exchange(a, Some(b), other);
            }
            for shard in 0..self.shards.len() {
                if self.shards[shard].len() < self.shards[self.shard_of[a]].len() {
                    bettered |= self.exchange(a, None, shard);
                }
            }
        }
        bettered
    }

    /// Moves `a` to the shard `other`, and `b` from there to the shard of `a`, if that is an improvement;
    /// returns whether it is.
    fn exchange(&mut self, a: usize, b: Option<usize>, other: usize) -> bool {
        let one = self.shard_of[a];
        if one == other || self.change(a, b, other) >= (0, 0) {
            return false;
        }
        let swapped = |from: &[usize], out: Option<usize>, into: Option<usize>| {
            let stay = from.iter().copied().filter(|node| Some(*node) != out);
            stay.chain(into).collect::<Vec<_>>()
        };
        let first = swapped(&self.shards[one], Some(a), b);
        let second = swapped(&self.shards[other], b, Some(a));
        if !(self.has_one_master(&first) && self.has_one_master(&second)) {
            return false;
        }
        self.empty(one);
        self.empty(other);
        self.put(one, first);
        self.put(other, second);
        true
    }

    /// What an exchange would change.
    fn change(&self, a: usize, b: Option<usize>, other: usize) -> Violations {
        let one = self.shard_of[a];
        let [zones, hosts] = [0, 1].map(|kind| {
            let counts = &self.counts[kind];
            let a = self.places[a][kind];
            let b = b.and_then(|b| self.places[b][kind]);
            // A node that leaves c nodes of its place, itself among them, ends c−1 violations; one
            // that comes to c others makes c.
            let moved = |place: Option<usize>, from: usize, to: usize| {
                place.map_or(0, |place| counts[to][place] - (counts[from][place] - 1))
            };
            if a == b {
                0
            } else {
                moved(a, one, other) + moved(b, other, one)
            }
        });
        (zones, hosts)
    }
}

/// Searches deals, in order, for one with fewer violations than a given one.
struct Search<'a> {
    order: &'a [usize],
    /// The nodes dealt so far.
    deal: Deal,
    /// How many shards may still get one node more than the others.
    larger: usize,
    /// The best deal so far, its violations, and how many no deal can do without.
    best: Vec<Vec<usize>>,
    least: Violations,
    bound: Violations,
    steps: usize,
}

impl<'a> Search<'a> {
    fn new(mut deal: Deal, order: &'a [usize]) -> Self {
        let shards = deal.shards.len();
        let [(zones, least_zones), (hosts, least_hosts)] = [0, 1].map(|kind| {
            let counts = &deal.counts[kind];
            let of_place = |place: usize| counts.iter().map(|c| c[place]).sum::<isize>();
            let bound = (0..order.len()).map(|place| even_pairs(of_place(place), shards as isize));
            let now = counts.iter().flatten().map(|count| pairs(*count));
            (now.sum(), bound.sum())
        });
        Self {
            order,
            best: (0..shards).map(|shard| deal.empty(shard)).collect(),
            deal,
            larger: order.len() % shards,
            least: (zones, hosts),
            bound: (least_zones, least_hosts),
            steps: SEARCH_STEPS,
        }
    }

    /// The best deal within reach.
    fn run(mut self) -> Vec<Vec<usize>> {
        self.place(0, (0, 0));
        self.best
    }

    /// Deals the nodes of the order from `next` on, in every way.
    fn place(&mut self, next: usize, so_far: Violations) {
        let Some(node) = self.order.get(next).copied() else {
            let shards = &self.deal.shards;
            if shards.iter().all(|shard| self.deal.has_one_master(shard)) {
                self.least = so_far;
                self.best = shards.clone();
            }
            return;
        };
        let smaller = self.order.len() / self.deal.shards.len();
        for shard in 0..self.deal.shards.len() {
            if self.least <= self.bound || self.steps == 0 {
                return;
            }
            self.steps -= 1;
            let nodes = &self.deal.shards[shard];
            let is_empty = nodes.is_empty();
            let one_more = usize::from(nodes.len() >= smaller);
            let [zones, hosts] = [0, 1].map(|kind| {
                let place = self.deal.places[node][kind];
                place.map_or(0, |place| self.deal.counts[kind][shard][place])
            });
            let violations = (so_far.0 + zones, so_far.1 + hosts);
            let second_master = self.deal.duties[node] == Duty::Master
                && nodes.iter().any(|n| self.deal.duties[*n] == Duty::Master);
            if nodes.len() > smaller
                || one_more > self.larger
                || violations >= self.least
                || second_master
            {
                continue;
            }
            self.larger -= one_more;
            self.deal.put(shard, vec![node]);
            self.place(next + 1, violations);
            self.deal.take_back(shard);
            self.larger += one_more;
            if is_empty {
                // The shards after it are empty too and give the same result.
                break;
            }
        }
    }
}

/// How many pairs that many nodes make.
fn pairs(nodes: isize) -> isize {
    nodes * (nodes - 1) / 2
}

/// How many pairs that many nodes make when they are spread evenly over shards.
fn even_pairs(nodes: isize, shards: isize) -> isize {
    let (each, over) = (nodes / shards, nodes % shards);
    over * pairs(each + 1) + (shards - over) * pairs(each)
}

/// Splits nodes so that the halves' numbers differ by at most one, in all and in each place.
///
/// Pairs of nodes of one zone are tied, as many as possible, and so are pairs of nodes of one host: tied
/// nodes go to different halves. A node has at most one tie of either kind, so ties make paths and
/// rings of even length; along these, nodes alternate between the halves.
fn even_halves(nodes: &[usize], places: &[[Option<usize>; 2]]) -> (Vec<usize>, Vec<usize>) {
    let ties = [0, 1].map(|kind| couples(nodes, |node| places[node][kind]));
    let mut halves: [Vec<usize>; 2] = [Vec::new(), Vec::new()];
    let mut seen = vec![false; nodes.len()];
    // Paths are walked from one of their ends; what is left then are rings.
    let ends = (0..nodes.len()).filter(|at| ties.iter().any(|ties| ties[*at].is_none()));
    for start in ends.chain(0..nodes.len()) {
        if seen[start] {
            continue;
        }
        // A path of odd length gives its first half one more.
        let mut half = usize::from(halves[0].len() > halves[1].len());
        let mut kind = usize::from(ties[0][start].is_none());
        let mut next = Some(start);
        while let Some(at) = next.filter(|at| !seen[*at]) {
            seen[at] = true;
            halves[half].push(nodes[at]);
            next = ties[kind][at];
            half = 1 - half;
            kind = 1 - kind;
        }
    }
    let [a, b] = halves;
    (a, b)
}

/// For each node (by position) the one that it is paired with: nodes of one place, two by two.
fn couples(nodes: &[usize], place: impl Fn(usize) -> Option<usize>) -> Vec<Option<usize>> {
    let mut sorted: Vec<_> = (0..nodes.len())
        .filter_map(|at| Some((place(nodes[at])?, at)))
        .collect();
    sorted.sort_unstable();
    let mut couples = vec![None; nodes.len()];
    for group in sorted.chunk_by(|a, b| a.0 == b.0) {
        for couple in group.chunks_exact(2) {
            couples[couple[0].1] = Some(couple[1].1);
            couples[couple[1].1] = Some(couple[0].1);
        }
    }
    couples
}
