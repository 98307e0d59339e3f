//! Cluster buses that anyone may speak to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Code, Diagnosis, Finding};
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;

/// The settings that say who may speak on the cluster bus of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BusSettings {
    /// `cluster-bus-port-protected-mode` (Redis 8.2.10, 8.4.7, 8.6.7, 8.8.3, 8.10.2); `None` where it does not exist or
    /// is not told.
    pub protected: Option<bool>,
    /// `tls-cluster`: peers need a certificate.
    pub tls: bool,
    /// `bind`: the addresses that the server listens at, on the bus port too.
    pub bind: String,
}

impl BusSettings {
    /// The names of the settings.
    pub const NAMES: [&str; 3] = ["cluster-bus-port-protected-mode", "tls-cluster", "bind"];

    /// From what CONFIG GET told.
    pub fn of(values: &BTreeMap<String, String>) -> Self {
        let value = |name: &str| values.get(name).map(String::as_str);
        Self {
            protected: value(Self::NAMES[0]).map(|value| value == "yes"),
            tls: value(Self::NAMES[1]) == Some("yes"),
            bind: value(Self::NAMES[2]).unwrap_or_default().to_string(),
        }
    }

    /// Whether a host that reaches the bus port can join the cluster. Only servers that have the setting are judged: on
    /// others nothing can be switched.
    pub fn is_open(&self) -> bool {
        self.protected == Some(false) && !self.tls && !self.is_local()
    }

    /// Whether the server listens on loopback only. Without `bind` it listens everywhere.
    fn is_local(&self) -> bool {
        let addrs = || self.bind.split_ascii_whitespace();
        let is_loopback = |addr: &str| {
            // A leading dash: the address may be missing on the host.
            let addr = addr.trim_start_matches('-');
            addr == "localhost" || addr.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        };
        addrs().next().is_some() && addrs().all(is_loopback)
    }
}

impl Diagnosis {
    /// Adds the finding that the cluster bus of nodes takes anyone for a node.
    pub fn judge_buses(&mut self, settings: &BTreeMap<NodeId, BusSettings>) {
        let open = settings.iter().filter(|(_, bus)| bus.is_open());
        let open: Vec<NodeId> = open.map(|(id, _)| *id).collect();
        let Some(first) = open.first() else {
            return;
        };
        let more = match open.len() - 1 {
            0 => String::new(),
            1 => " and 1 node more".to_string(),
            more => format!(" and {more} nodes more"),
        };
        self.add(Finding {
            code: Code::BusUnauthenticated,
            message: format!(
                "the cluster bus is not authenticated, so that any host that reaches the bus port can join the cluster \
                 (tls-cluster yes on all nodes, then cluster-bus-port-protected-mode yes; until then a firewall that \
                 lets only the nodes through): {}{more}",
                self.observation.name(*first)
            ),
            nodes: open,
            slots: SlotSet::new(),
            remedy: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus(values: &[(&str, &str)]) -> BusSettings {
        let values = values
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        BusSettings::of(&values.collect())
    }

    #[test]
    fn only_a_bus_that_could_be_protected_and_is_reachable_counts() {
        let [protected, tls, bind] = BusSettings::NAMES;
        assert!(bus(&[(protected, "no"), (tls, "no"), (bind, "* -::*")]).is_open());
        assert!(bus(&[(protected, "no"), (bind, "127.0.0.1 10.0.0.3")]).is_open());
        // Without `bind` it listens everywhere.
        assert!(bus(&[(protected, "no"), (bind, "")]).is_open());
        assert!(!bus(&[(protected, "yes"), (bind, "*")]).is_open());
        assert!(!bus(&[(protected, "no"), (tls, "yes"), (bind, "*")]).is_open());
        assert!(!bus(&[(protected, "no"), (bind, "127.0.0.1 -::1")]).is_open());
        // A server that does not know the setting.
        assert!(!bus(&[(tls, "no"), (bind, "*")]).is_open());
        assert!(!bus(&[]).is_open());
    }
}
