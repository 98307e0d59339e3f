//! The addresses at which the nodes of a cluster reach each other, which CLUSTER MEET and MIGRATE need.
//!
//! No single source is always right. The line of a node about itself keeps the address of its last CLUSTER MEET, and
//! a node may have moved since. Valkey tells clients another address than it tells other nodes
//! (`cluster-announce-client-ipv4`), in the lines of all nodes. So there are candidates, and the caller tries them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::node::{Addr, NodeId};
use super::observation::Observation;
use super::parse::{Entry, EntryState, MasterLink};

/// The most candidates that are kept for one node.
const MOST: usize = 6;

/// What is known of the addresses of a node besides the views of the nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressFacts {
    /// `cluster-announce-ip`.
    pub announced: Option<IpAddr>,
    /// Addresses that only clients are told (Valkey ≥ 8: `cluster-announce-client-ipv4` and `-ipv6`).
    pub for_clients: Vec<IpAddr>,
    /// The port for other nodes, where CLUSTER NODES tells clients another one.
    pub port: Option<u16>,
    /// The addresses of `bind` that are no wildcards.
    pub bound: Vec<IpAddr>,
    /// The address at which our connection ended.
    pub remote: Option<IpAddr>,
    /// The announced address by `--address-map`.
    pub mapped: Option<Addr>,
}

impl AddressFacts {
    /// Reads settings; `over_tls` is whether we asked over TLS. CLUSTER NODES tells a TLS client the TLS port and others
    /// the plain port; servers among themselves follow `tls-cluster`.
    pub fn of_settings(settings: &BTreeMap<String, String>, over_tls: bool) -> Self {
        let text = |name: &str| settings.get(name).map(String::as_str);
        let ip = |name: &str| text(name).and_then(|ip| ip.parse().ok());
        let port = |name: &str| -> Option<u16> {
            let port = text(name)?.parse().ok()?;
            (port != 0).then_some(port)
        };
        let plain = || port("cluster-announce-port").or_else(|| port("port"));
        let tls = || port("cluster-announce-tls-port").or_else(|| port("tls-port"));
        let is_for_clients = |name: &str| port(name).is_some();
        let port = match (text("tls-cluster"), over_tls) {
            (Some("yes"), false) => tls(),
            (Some("no"), true) => plain(),
            (_, true) if is_for_clients("cluster-announce-client-tls-port") => tls(),
            (_, false) if is_for_clients("cluster-announce-client-port") => plain(),
            _ => None,
        };
        let bound = text("bind").unwrap_or_default().split_whitespace();
        Self {
            announced: ip("cluster-announce-ip"),
            for_clients: CLIENT_IPS.iter().filter_map(|name| ip(name)).collect(),
            port,
            bound: bound
                .filter_map(|word| word.trim_start_matches('-').parse().ok())
                .filter(|ip: &IpAddr| !ip.is_unspecified() && !ip.is_loopback())
                .collect(),
            remote: None,
            mapped: None,
        }
    }
}

const CLIENT_IPS: [&str; 2] = [
    "cluster-announce-client-ipv4",
    "cluster-announce-client-ipv6",
];

/// The settings that [`AddressFacts::of_settings`] reads.
pub const SETTINGS: [&str; 11] = [
    "cluster-announce-ip",
    CLIENT_IPS[0],
    CLIENT_IPS[1],
    "cluster-announce-port",
    "cluster-announce-tls-port",
    "cluster-announce-client-port",
    "cluster-announce-client-tls-port",
    "tls-cluster",
    "port",
    "tls-port",
    "bind",
];

/// Candidates in order, each once.
struct Candidates<'a> {
    facts: &'a AddressFacts,
    port: u16,
    found: Vec<Addr>,
}

impl Candidates<'_> {
    fn add_addr(&mut self, addr: &Addr) {
        let is_for_clients = addr
            .ip()
            .is_some_and(|ip| self.facts.for_clients.contains(&ip));
        if !is_for_clients && !self.found.contains(addr) && self.found.len() < MOST {
            self.found.push(addr.clone());
        }
    }

    /// An address of CLUSTER NODES or INFO, whose port may be that for clients.
    fn add_told(&mut self, addr: &Addr) {
        let port = self.facts.port.unwrap_or(addr.port());
        self.add_addr(&Addr::new(addr.host(), port));
    }

    fn add_ip(&mut self, ip: IpAddr) {
        self.add_addr(&Addr::new(&ip.to_string(), self.port));
    }

    /// The address at which we reach the node, at the port that it tells and at the one that we use.
    fn add_remote(&mut self, dialled: Option<u16>) {
        if let Some(remote) = self.facts.remote {
            self.add_ip(remote);
            if let Some(port) = dialled {
                self.add_addr(&Addr::new(&remote.to_string(), port));
            }
        }
    }

    /// With nothing else, an address for clients is better than none.
    fn done(self, own: Option<&Addr>) -> Vec<Addr> {
        let Self { facts, port, found } = self;
        if !found.is_empty() {
            return found;
        }
        let remote = facts.remote.map(|ip| Addr::new(&ip.to_string(), port));
        own.cloned().or(remote).into_iter().collect()
    }
}

/// Whether these nodes, by the addresses at which we reach them, run on this machine, so that a loopback address means
/// the same to us and to them.
pub fn are_local<'a>(mut dialled: impl Iterator<Item = &'a Addr>) -> bool {
    dialled.all(|addr| match addr.ip() {
        Some(ip) => ip.is_loopback(),
        None => addr.host() == "localhost",
    })
}

/// The addresses at which other nodes may reach a member, the best first.
pub fn of_member(observation: &Observation, id: NodeId, facts: &AddressFacts) -> Vec<Addr> {
    let Some(node) = observation.nodes.get(&id) else {
        return Vec::new();
    };
    let dialled = node.dial.as_ref().map(Addr::port);
    let told = node.report().map(|report| report.view.myself().port);
    let told = told.filter(|port| *port > 0);
    let mut candidates = Candidates {
        facts,
        port: facts.port.or(told).or(dialled).unwrap_or_default(),
        found: Vec::new(),
    };
    if let Some(ip) = facts.announced {
        candidates.add_ip(ip);
    }
    for addr in seen_by_others(observation, id) {
        candidates.add_told(addr);
    }
    if let Some(own) = &node.peer {
        candidates.add_told(own);
    }
    for (_, report) in observation.reports() {
        let follows = report.view.myself().master == Some(id);
        if let Some(addr) = report.info.master_addr.as_ref().filter(|_| follows)
            && report.info.master_link == Some(MasterLink::Up)
        {
            // Its port is the one for replication, which may be TLS where MIGRATE is not.
            if let Some(ip) = addr.ip() {
                candidates.add_ip(ip);
            }
            candidates.add_addr(addr);
        }
    }
    if let Some(mapped) = &facts.mapped {
        candidates.add_addr(mapped);
    }
    for ip in &facts.bound {
        candidates.add_ip(*ip);
    }
    let is_loopback = facts.remote.is_some_and(|ip| ip.is_loopback());
    let all = observation.nodes.values();
    if !is_loopback || are_local(all.filter_map(|node| node.dial.as_ref())) {
        candidates.add_remote(dialled);
    }
    candidates.done(node.peer.as_ref().or(node.dial.as_ref()))
}

/// The addresses of a node in the lines of others that have a link to it, the most frequent first.
fn seen_by_others(observation: &Observation, id: NodeId) -> Vec<&Addr> {
    let is_used = |entry: &&Entry| entry.linked && entry.state == EntryState::Fine;
    let mut counts: BTreeMap<&Addr, usize> = BTreeMap::new();
    for (_, report) in observation.reports().filter(|(node, _)| node.id != id) {
        let entry = report.view.entry(id).map(|entry| &**entry).filter(is_used);
        if let Some(addr) = entry.and_then(|entry| entry.addr.as_ref()) {
            *counts.entry(addr).or_default() += 1;
        }
    }
    let mut addrs: Vec<(&Addr, usize)> = counts.into_iter().collect();
    addrs.sort_by_key(|(_, count)| Reverse(*count));
    addrs.into_iter().map(|(addr, _)| addr).collect()
}

/// The addresses of a node that no other node knows yet: `own` is its line about itself, which may be from an earlier
/// life, and `dialled` the port at which we reach it.
pub fn of_new_node(own: Option<&Addr>, dialled: u16, facts: &AddressFacts) -> Vec<Addr> {
    let told = own.map(Addr::port).filter(|port| *port > 0);
    let mut candidates = Candidates {
        facts,
        port: facts.port.or(told).unwrap_or(dialled),
        found: Vec::new(),
    };
    if let Some(ip) = facts.announced {
        candidates.add_ip(ip);
    }
    if let Some(mapped) = &facts.mapped {
        candidates.add_addr(mapped);
    }
    candidates.add_remote(None);
    if let Some(own) = own {
        candidates.add_told(own);
    }
    candidates.done(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::observation::{ObservedNode, Report, Seen};
    use crate::cluster::parse::{ClusterInfo, EntryPool, Info};

    fn id(digit: char) -> NodeId {
        digit.to_string().repeat(40).parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Node `a` says `own` about itself; `b` and `c` say `seen`, with a link in that state.
    fn observation(own: &str, seen: &str, link: &str, info: &str) -> Observation {
        let line = |digit: char, addr: &str, flags: &str, link: &str| {
            format!("{} {addr}:7000@17000 {flags} - 0 0 1 {link}\n", id(digit))
        };
        let node = |digit: char| {
            let mut text = String::new();
            for other in ['a', 'b', 'c'] {
                let (addr, link) = match (digit, other) {
                    ('a', 'a') => (own, "connected"),
                    (_, 'a') => (seen, link),
                    _ => ("10.0.0.2", "connected"),
                };
                let flags = if digit == other {
                    "myself,master"
                } else {
                    "master"
                };
                text += &line(other, addr, flags, link);
            }
            if digit == 'b' {
                text = text.replace(
                    "myself,master - 0 0 1 connected",
                    &format!("myself,slave {} 0 0 1 connected", id('a')),
                );
            }
            let view = EntryPool::default().view(&text).unwrap();
            let node = ObservedNode {
                id: id(digit),
                dial: Some(Addr::new("127.0.0.1", 7000)),
                peer: view.myself().addr.clone(),
                hostname: None,
                seen: Seen::Report(Box::new(Report {
                    view,
                    cluster: ClusterInfo::default(),
                    info: Info::parse(if digit == 'b' { info } else { "" }),
                    saves: None,
                    refuses: None,
                    open_keys: BTreeMap::new(),
                    keys_of_shard: None,
                    links: BTreeMap::new(),
                    tasks: Vec::new(),
                })),
            };
            (id(digit), node)
        };
        Observation {
            lead: id('a'),
            nodes: ['a', 'b', 'c'].into_iter().map(node).collect(),
            bystanders: Vec::new(),
            identities: Default::default(),
        }
    }

    fn found(observation: &Observation, facts: &AddressFacts) -> Vec<String> {
        let found = of_member(observation, id('a'), facts);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_others_use_comes_before_a_stale_line() {
        let seen = observation("10.0.0.9", "10.0.0.1", "connected", "");
        let all = found(&seen, &AddressFacts::default());
        assert_eq!(all, ["10.0.0.1:7000", "10.0.0.9:7000"]);
        // An address without a link proves nothing.
        let seen = observation("10.0.0.9", "10.0.0.1", "disconnected", "");
        let all = found(&seen, &AddressFacts::default());
        assert_eq!(all, ["10.0.0.9:7000"]);
    }

    #[test]
    fn addresses_for_clients_are_not_used() {
        let facts = AddressFacts {
            for_clients: vec![ip("203.0.113.7")],
            remote: Some(ip("127.0.0.1")),
            mapped: Some(Addr::new("203.0.113.7", 7000)),
            ..AddressFacts::default()
        };
        let nodes = |info| observation("203.0.113.7", "203.0.113.7", "connected", info);
        assert_eq!(found(&nodes(""), &facts), ["127.0.0.1:7000"]);
        let info = "master_host:10.0.0.1\r\nmaster_port:6379\r\nmaster_link_status:up\r\n";
        assert_eq!(
            found(&nodes(info), &facts),
            ["10.0.0.1:7000", "10.0.0.1:6379", "127.0.0.1:7000"]
        );
        let bound = AddressFacts {
            bound: vec![ip("10.0.0.5")],
            ..facts.clone()
        };
        assert_eq!(
            found(&nodes(""), &bound),
            ["10.0.0.5:7000", "127.0.0.1:7000"]
        );
        let announced = AddressFacts {
            announced: Some(ip("10.0.0.3")),
            ..facts
        };
        assert_eq!(found(&nodes(""), &announced)[0], "10.0.0.3:7000");
        // Without anything else it is better than nothing.
        let only = AddressFacts {
            for_clients: vec![ip("203.0.113.7")],
            remote: Some(ip("203.0.113.7")),
            ..AddressFacts::default()
        };
        assert_eq!(found(&nodes(""), &only), ["203.0.113.7:7000"]);
    }

    #[test]
    fn a_loopback_address_is_used_among_nodes_of_this_machine() {
        let facts = AddressFacts {
            remote: Some(ip("127.0.0.1")),
            ..AddressFacts::default()
        };
        let mut seen = observation("10.0.0.1", "10.0.0.1", "connected", "");
        assert_eq!(found(&seen, &facts), ["10.0.0.1:7000", "127.0.0.1:7000"]);
        if let Some(node) = seen.nodes.get_mut(&id('c')) {
            node.dial = Some(Addr::new("10.0.0.3", 7000));
        }
        assert_eq!(found(&seen, &facts), ["10.0.0.1:7000"]);
    }

    #[test]
    fn ports_follow_tls_cluster_and_never_the_clients() {
        let facts = |settings: &[(&str, &str)], tls| {
            let settings = settings.iter().map(|(n, v)| (n.to_string(), v.to_string()));
            AddressFacts::of_settings(&settings.collect(), tls)
        };
        let both = [("port", "7000"), ("tls-port", "7443")];
        let with = |more: &[(&'static str, &'static str)]| [&both[..], more].concat();
        assert_eq!(
            facts(&with(&[("tls-cluster", "no")]), true).port,
            Some(7000)
        );
        assert_eq!(
            facts(&with(&[("tls-cluster", "yes")]), false).port,
            Some(7443)
        );
        assert_eq!(facts(&with(&[("tls-cluster", "no")]), false).port, None);
        let client = ("cluster-announce-client-port", "30000");
        assert_eq!(
            facts(&with(&[("tls-cluster", "no"), client]), false).port,
            Some(7000)
        );
        let announced = ("cluster-announce-port", "8000");
        let settings = with(&[("tls-cluster", "no"), client, announced]);
        assert_eq!(facts(&settings, false).port, Some(8000));
        let bound = facts(&[("bind", "* -::* 127.0.0.1 -10.0.0.4")], false).bound;
        assert_eq!(bound, [ip("10.0.0.4")]);
    }

    #[test]
    fn a_new_node_is_met_where_we_reach_it() {
        let facts = AddressFacts {
            for_clients: vec![ip("127.0.0.9")],
            mapped: Some(Addr::new("127.0.0.9", 7000)),
            remote: Some(ip("127.0.0.1")),
            ..AddressFacts::default()
        };
        let own = Addr::new("127.0.0.9", 7000);
        assert_eq!(
            of_new_node(Some(&own), 7000, &facts),
            [Addr::new("127.0.0.1", 7000)]
        );
        let stale = AddressFacts {
            remote: Some(ip("10.0.0.4")),
            ..AddressFacts::default()
        };
        let own = Addr::new("10.0.0.9", 7000);
        assert_eq!(
            of_new_node(Some(&own), 7000, &stale),
            [Addr::new("10.0.0.4", 7000), own]
        );
    }
}
