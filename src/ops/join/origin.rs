//! From which addresses nodes connect to each other. A node is known to the others by the address from which it
//! connects, unless it announces one (`cluster-announce-ip`): it must listen there too.

use std::net::{IpAddr, Ipv4Addr};

use super::inspect::NewNode;
use crate::cluster::parse::Product;

/// What a node's settings tell about the address from which it connects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Origin {
    /// Whether it announces an address (`cluster-announce-ip`), or connects from one (`bind-source-addr`).
    pub(crate) fixed: bool,
    /// The addresses at which it listens; none if that is not known.
    pub(crate) binds: Vec<IpAddr>,
}

impl Origin {
    /// Reads `bind`: addresses, `*` and `::*` for all of a family, with `-` before those that may be missing.
    pub(crate) fn of(bind: Option<&str>, is_fixed: bool) -> Self {
        let words = bind.unwrap_or_default().split_ascii_whitespace();
        let ip = |word: &str| match word.trim_start_matches('-') {
            "*" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            "::*" => Some(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)),
            word => word.parse().ok(),
        };
        Self {
            fixed: is_fixed,
            binds: words.filter_map(ip).collect(),
        }
    }

    /// Whether it listens at some address of that family.
    fn listens_in_family_of(&self, ip: IpAddr) -> bool {
        let mut binds = self.binds.iter();
        self.binds.is_empty() || binds.any(|bind| bind.is_ipv4() == ip.is_ipv4())
    }

    fn listens_at(&self, ip: IpAddr) -> bool {
        let fits = |bind: &IpAddr| {
            *bind == ip || (bind.is_unspecified() && bind.is_ipv4() == ip.is_ipv4())
        };
        self.binds.is_empty() || self.binds.iter().any(fits)
    }

    /// Whether it listens only at some of its addresses, and may connect from another one.
    fn may_differ(&self) -> bool {
        !self.fixed && self.binds.iter().any(|bind| !bind.is_unspecified())
    }
}

/// Whether the others may see a node at an address at which it does not listen. Only the messages of the nodes tell,
/// which takes half a node timeout. (All nodes at one address connect from that address.)
pub(crate) fn is_uncertain(nodes: &[NewNode], members: &[IpAddr]) -> bool {
    let mut ips = nodes.iter().filter_map(|node| node.ip);
    let Some(first) = ips.next() else {
        return false;
    };
    let is_one_address = ips.chain(members.iter().copied()).all(|ip| ip == first)
        && (!first.is_loopback() || first == IpAddr::V4(Ipv4Addr::LOCALHOST) || first.is_ipv6());
    !is_one_address && nodes.iter().any(|node| node.origin.may_differ())
}

/// Warnings about nodes that the others will see at an address at which they do not listen.
pub(crate) fn warnings(nodes: &[NewNode], members: &[IpAddr]) -> Vec<String> {
    let ips: Vec<IpAddr> = nodes.iter().filter_map(|node| node.ip).collect();
    let others = || ips.iter().chain(members).copied();
    let warn = |node: &NewNode| {
        let ip = node.ip.filter(|_| !node.origin.fixed)?;
        let seen_at = match others().find(|other| !node.origin.listens_in_family_of(*other)) {
            Some(other) if other.is_loopback() => format!(
                "{}",
                crate::cluster::node::Addr::new(&other.to_string(), node.port())
            ),
            Some(other) => match other.is_ipv4() {
                true => "an IPv4 address".to_string(),
                false => "an IPv6 address".to_string(),
            },
            None if connects_from_localhost(node, ip) && others().count() > 1 => {
                format!("{}:{}", Ipv4Addr::LOCALHOST, node.port())
            }
            None => return None,
        };
        Some(format!(
            "{} does not listen at {seen_at}, but other nodes will see it there, because it connects from there: set \
             cluster-announce-ip {ip} or bind-source-addr {ip} on it",
            node.name()
        ))
    };
    nodes.iter().filter_map(warn).collect()
}

/// Whether it connects to other loopback addresses from 127.0.0.1, but does not listen there. Before Redis 7.0, nodes
/// connect from the first address in `bind`.
fn connects_from_localhost(node: &NewNode, ip: IpAddr) -> bool {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let version = node.report.info.version;
    let picks_its_own =
        version.is_none_or(|version| version.product == Product::Valkey || version.numbers[0] >= 7);
    ip.is_loopback()
        && ip.is_ipv4()
        && ip != localhost
        && picks_its_own
        && !node.origin.listens_at(localhost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_is_read() {
        let origin = Origin::of(Some("* -::*"), false);
        assert!(!origin.may_differ());
        assert!(origin.listens_at("10.0.0.1".parse().unwrap()));
        assert!(origin.listens_in_family_of("::1".parse().unwrap()));
        let origin = Origin::of(Some("127.0.0.2"), false);
        assert!(origin.may_differ());
        assert!(!origin.listens_at("127.0.0.1".parse().unwrap()));
        assert!(!origin.listens_in_family_of("::1".parse().unwrap()));
        assert!(!Origin::of(Some("127.0.0.2"), true).may_differ());
    }

    #[test]
    fn an_unknown_bind_is_no_reason_to_warn() {
        for bind in [None, Some(""), Some("?")] {
            let origin = Origin::of(bind, false);
            assert!(!origin.may_differ());
            assert!(origin.listens_at("127.0.0.1".parse().unwrap()));
        }
    }
}
