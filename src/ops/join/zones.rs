//! Where nodes stand: `--zone` and `--zone-from`, for the commands that keep replicas apart.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use clap::ValueEnum;
use tokio::task::JoinSet;

use crate::cluster::node::{Addr, NodeId};
use crate::cluster::observation::ObservedNode;
use crate::cluster::text::clean;
use crate::connections::{Connections, Target};
use crate::seed::parse_addr;

/// The zone of each node, where it is known.
pub(crate) type Zones = BTreeMap<NodeId, String>;

/// Where nodes stand.
#[derive(Debug, clap::Args)]
pub(crate) struct ZoneArgs {
    /// The node at ADDR stands in zone NAME (repeatable).
    #[arg(long, value_name = "ADDR=NAME")]
    zone: Vec<ZoneOf>,
    /// What the servers tell of themselves that names their zone.
    #[arg(long, value_name = "FIELD", default_value = "availability-zone")]
    zone_from: ZoneFrom,
}

/// What the servers tell of themselves that names their zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ZoneFrom {
    /// availability-zone (Valkey 8 and later).
    AvailabilityZone,
    /// cluster-announce-human-nodename (Redis 7.2 and later, Valkey).
    HumanNodename,
    /// cluster-announce-hostname (Redis 7.0 and later, Valkey).
    Hostname,
    /// Nothing: --zone alone counts.
    None,
}

/// `10.0.0.3:6379=east`.
#[derive(Debug, Clone)]
struct ZoneOf {
    addr: Addr,
    zone: String,
}

impl FromStr for ZoneOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (addr, zone) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is not ADDR=NAME, for example 10.0.0.3:6379=east"))?;
        if zone.is_empty() {
            return Err(format!("{text:?} names no zone"));
        }
        Ok(Self {
            addr: parse_addr(addr).map_err(|error| error.to_string())?,
            zone: clean(zone, 255),
        })
    }
}

impl ZoneArgs {
    /// The zones of these nodes, as far as they are known.
    pub(crate) async fn zones(
        &self,
        connections: &Arc<Connections>,
        nodes: &[(&ObservedNode, Target)],
    ) -> Zones {
        let mut zones = self.told(connections, nodes).await;
        for (node, _) in nodes {
            let named = self.zone.iter().find(|zone| {
                [&node.dial, &node.peer]
                    .into_iter()
                    .any(|addr| addr.as_ref() == Some(&zone.addr))
            });
            if let Some(named) = named {
                zones.insert(node.id, named.zone.clone());
            }
        }
        zones
    }

    /// What `--zone` says about nobody who is there, in words.
    pub(crate) fn strays(&self, nodes: &[(&ObservedNode, Target)]) -> Vec<String> {
        let is_there = |addr: &Addr| {
            let mut nodes = nodes.iter();
            nodes.any(|(node, _)| {
                node.dial.as_ref() == Some(addr) || node.peer.as_ref() == Some(addr)
            })
        };
        self.zone
            .iter()
            .filter(|zone| !is_there(&zone.addr))
            .map(|zone| {
                format!(
                    "--zone {}={}: no node has that address",
                    zone.addr, zone.zone
                )
            })
            .collect()
    }

    /// What the servers tell of themselves.
    async fn told(
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
        match self.zone_from {
            ZoneFrom::None => BTreeMap::new(),
            ZoneFrom::Hostname => field(|node| node.hostname.as_ref()),
            ZoneFrom::AvailabilityZone => {
                field(|node| node.report()?.info.availability_zone.as_ref())
            }
            ZoneFrom::HumanNodename => {
                let mut asking = JoinSet::new();
                for (node, target) in nodes.iter().filter(|(node, _)| node.report().is_some()) {
                    let (id, target) = (node.id, target.clone());
                    let connections = Arc::clone(connections);
                    asking.spawn(async move {
                        const NAME: &str = "cluster-announce-human-nodename";
                        let client = connections.temporary(&target).await.ok()?;
                        let name = client.config_get(&[NAME]).await.ok()?.remove(NAME)?;
                        Some((id, clean(&name, 255))).filter(|(_, name)| !name.is_empty())
                    });
                }
                asking.join_all().await.into_iter().flatten().collect()
            }
        }
    }
}
