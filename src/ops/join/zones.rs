//! The zones of nodes: named by the user, or read from the servers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::node::{Addr, NodeId};
use crate::cluster::observation::ObservedNode;
use crate::cluster::parse::Product;
use crate::cluster::text::clean;
use crate::connections::{Connections, Target};

/// The zone of each node whose zone is known.
pub(crate) type Zones = BTreeMap<NodeId, String>;

/// How the zone of a node is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ZoneRules {
    /// Zones named by the user, by address. They win over `source`.
    pub(crate) named: Vec<(Addr, String)>,
    /// The server setting for the other nodes.
    pub(crate) source: ZoneSource,
}

/// The server setting that names the zone of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ZoneSource {
    /// `availability-zone` (Valkey ≥ 8).
    AvailabilityZone,
    /// `cluster-announce-human-nodename` (Redis ≥ 7.2, Valkey).
    HumanNodename,
    /// `cluster-announce-hostname` (Redis ≥ 7.0, Valkey).
    Hostname,
    /// None.
    None,
}

impl ZoneRules {
    /// Finds the zones of these nodes, as far as they are known.
    pub(crate) async fn zones(
        &self,
        connections: &Arc<Connections>,
        nodes: &[(&ObservedNode, Target)],
    ) -> Zones {
        let mut zones = self.reported(connections, nodes).await;
        for (node, _) in nodes {
            let named = self.named.iter().find(|(addr, _)| is_at(node, addr));
            if let Some((_, zone)) = named {
                zones.insert(node.id, zone.clone());
            }
        }
        zones
    }

    /// Returns a message for each named zone whose address is not that of one of these nodes.
    pub(crate) fn unmatched(&self, nodes: &[(&ObservedNode, Target)]) -> Vec<String> {
        self.named
            .iter()
            .filter(|(addr, _)| !nodes.iter().any(|(node, _)| is_at(node, addr)))
            .map(|(addr, zone)| format!("--zone {addr}={zone}: no node has that address"))
            .collect()
    }

    /// Reads the zones from the servers.
    async fn reported(
        &self,
        connections: &Arc<Connections>,
        nodes: &[(&ObservedNode, Target)],
    ) -> Zones {
        let field = |pick: fn(&ObservedNode) -> Option<&Arc<str>>| {
            nodes
                .iter()
                .filter_map(|(node, _)| Some((node.id, pick(node)?.to_string())))
                .collect()
        };
        match self.source {
            ZoneSource::None => BTreeMap::new(),
            ZoneSource::Hostname => field(|node| node.hostname.as_ref()),
            ZoneSource::AvailabilityZone => {
                let mut zones: Zones = field(|node| node.report()?.info.availability_zone.as_ref());
                if nodes.iter().any(|(node, _)| node.report().is_none()) {
                    for (id, zone) in known_to_others(connections, nodes).await {
                        zones.entry(id).or_insert(zone);
                    }
                }
                zones
            }
            ZoneSource::HumanNodename => {
                let reports = nodes.iter().filter(|(node, _)| node.report().is_some());
                let targets: Vec<(NodeId, Target)> = reports
                    .map(|(node, target)| (node.id, target.clone()))
                    .collect();
                let reading =
                    connections.fan_out(targets, |connections, (id, target)| async move {
                        const NAME: &str = "cluster-announce-human-nodename";
                        let client = connections.temporary(&target).await.ok()?;
                        let name = client.config_get(&[NAME]).await.ok()?.remove(NAME)?;
                        Some((id, clean(&name, 255))).filter(|(_, name)| !name.is_empty())
                    });
                reading.await.into_iter().flatten().collect()
            }
        }
    }
}

/// The zones in CLUSTER SHARDS of one member (Valkey ≥ 9.1): it knows those of nodes that do not answer.
async fn known_to_others(
    connections: &Arc<Connections>,
    nodes: &[(&ObservedNode, Target)],
) -> Zones {
    let tells = |node: &ObservedNode| {
        let version = node.report().and_then(|report| report.info.version);
        version.is_some_and(|v| v.product == Product::Valkey && v.numbers >= [9, 1, 0])
    };
    let Some((_, target)) = nodes.iter().find(|(node, _)| tells(node)) else {
        return Zones::new();
    };
    let zones = async { connections.temporary(target).await?.cluster_zones().await };
    match zones.await {
        Ok(mut zones) => {
            zones.retain(|id, _| nodes.iter().any(|(node, _)| node.id == *id));
            zones
        }
        Err(error) => {
            tracing::warn!(%error, "the zones of nodes that do not answer are not known");
            Zones::new()
        }
    }
}

fn is_at(node: &ObservedNode, addr: &Addr) -> bool {
    node.dial.as_ref() == Some(addr) || node.peer.as_ref() == Some(addr)
}
