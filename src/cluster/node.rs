//! Nodes: their ids, their addresses, their roles.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// The default port of Redis and Valkey.
pub const DEFAULT_PORT: u16 = 6379;

/// The id of a node: 160 random bits that the node sets at its first start, written as 40 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 20]);

impl NodeId {
    /// An id that no node has: ids are random.
    pub const NOBODY: Self = Self([0; 20]);

    /// The first eight digits: enough for a person to tell nodes apart.
    pub fn short(self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }
}

/// The text is not a node id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a node id (40 hex digits)")]
pub struct NotANodeId;

impl FromStr for NodeId {
    type Err = NotANodeId;

    fn from_str(text: &str) -> Result<Self, NotANodeId> {
        let digits = text.as_bytes();
        if digits.len() != 40 {
            return Err(NotANodeId);
        }
        let mut id = [0; 20];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).ok_or(NotANodeId);
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(Self(id))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A host and a port. The host is an IP address or a name: see [`Addr::ip`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr {
    host: Arc<str>,
    port: u16,
}

impl Addr {
    /// An address. IPv6 addresses get one spelling, without brackets.
    pub fn new(host: &str, port: u16) -> Self {
        let host = match host.parse::<Ipv6Addr>() {
            Ok(ip) => ip.to_string().into(),
            Err(_) => host.into(),
        };
        Self { host, port }
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host as an IP address; `None` for a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The role of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It may own slots.
    Master,
    /// It replicates a master.
    Replica,
}

impl Role {
    /// The word that output and JSON use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Replica => "replica",
        }
    }
}

/// The kind of failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// The master stops writes until the replica has all of them, then the masters vote. No write is
    /// lost.
    Planned,
    /// Without the master; the other masters vote. Writes that the master has not sent are lost.
    Force,
    /// Without votes: the replica claims the slots.
    Takeover,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_forty_hex_digits() {
        let text = "1977c4d47bfbed850375b2c40d798e4b37e2c070";
        let id: NodeId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.short(), "1977c4d4");
        for bad in [
            "",
            "1977",
            "1977c4d47bfbed850375b2c40d798e4b37e2c07g",
            &text[..39],
            &"é".repeat(20),
            &format!("+{}", &text[1..]),
        ] {
            assert_eq!(bad.parse::<NodeId>(), Err(NotANodeId), "{bad:?}");
        }
        assert_eq!(text.to_uppercase().parse(), Ok(id));
    }

    #[test]
    fn ids_sort_as_they_are_written() {
        let ids = ["9", "a", "f"].map(|digit| digit.repeat(40).parse::<NodeId>().unwrap());
        assert!(ids.is_sorted());
    }

    #[test]
    fn a_host_is_an_ip_address_or_a_name() {
        let ip = |host: &str| Addr::new(host, 6379).ip();
        assert_eq!(ip("10.0.0.3"), Some("10.0.0.3".parse().unwrap()));
        assert_eq!(ip("::1"), Some("::1".parse().unwrap()));
        assert_eq!(ip("redis-0.redis"), None);
        // Not an address that every resolver reads the same way.
        assert_eq!(ip("010.0.0.3"), None);
    }

    #[test]
    fn ipv6_gets_brackets_and_one_spelling() {
        assert_eq!(Addr::new("0:0::1", 7000).to_string(), "[::1]:7000");
        assert_eq!(Addr::new("::1", 7000), Addr::new("0:0:0::1", 7000));
        assert_eq!(
            Addr::new("redis.local", 6379).to_string(),
            "redis.local:6379"
        );
    }
}
