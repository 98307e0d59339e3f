//! The plan of a new cluster, and its view.

use std::collections::BTreeMap;

use anyhow::anyhow;

use super::CreateRequest;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::ObservedNode;
use crate::cluster::parse::Version;
use crate::converge::{Goal, KnownBy};
use crate::ops::join::inspect::NewNode;
use crate::ops::join::origin;
use crate::ops::join::zones::Zones;
use crate::plan::create::{self, Candidate, Conflict, Layout, Request, Shared};
use crate::plan::{CreateProgress, MembershipPlan};
use crate::report::{LayoutView, Node, PlannedShard};
use crate::session::Session;
use crate::stop::Stop;

/// The planned cluster, and how much of it exists.
pub(crate) struct CreatePlan {
    pub(crate) nodes: Vec<NewNode>,
    layout: Layout,
    /// How many replicas each master was to have.
    replicas: usize,
    zones: Zones,
    /// All steps, those that are done included.
    pub(crate) plan: MembershipPlan,
    pub(crate) progress: CreateProgress,
}

impl CreatePlan {
    /// Plans a cluster of these nodes.
    pub(super) async fn of(
        session: &Session,
        request: &CreateRequest,
        nodes: &[NewNode],
    ) -> Result<Self, Stop> {
        let zones = zones(session, request, nodes).await?;
        for addr in request.pin_master.iter().chain(&request.pin_replica) {
            if !nodes.iter().any(|node| node.is_at(addr)) {
                return Err(Stop::usage(anyhow!(
                    "{addr} is pinned, but is not among the nodes: name it as a node too, or remove \
                     the pin"
                )));
            }
        }
        let candidates = nodes.iter().map(|node| Candidate {
            id: node.id(),
            addr: node.target.addr.clone(),
            host: match node.ip {
                Some(ip) => ip.to_string(),
                None => node.target.addr.host().to_string(),
            },
            zone: zones.get(&node.id()).cloned(),
            pin: pin(request, node),
            seed_set: node.seed_set,
        });
        let layout = create::create(&Request {
            nodes: candidates.collect(),
            replicas: request.replicas,
            few_masters: request.few_masters,
            replica_order: request.replica_order,
        })
        .map_err(Stop::refused)?;
        let views: BTreeMap<NodeId, _> = nodes
            .iter()
            .map(|node| (node.id(), &node.report.view))
            .collect();
        let plan = layout.plan(|id| views.get(&id).map_or(0, |view| view.myself().epoch));
        let progress = plan.progress(|id| views.get(&id).copied());
        Ok(Self {
            nodes: nodes.to_vec(),
            layout,
            replicas: request.replicas,
            zones,
            plan,
            progress,
        })
    }

    /// The goal of all nodes.
    pub(crate) fn goal(&self) -> Goal {
        let shards = &self.layout.shards;
        let replicas = shards.iter().flat_map(|shard| {
            let replicas = shard.replicas.iter();
            replicas.map(|replica| (*replica, shard.master))
        });
        Goal {
            slots: shards
                .iter()
                .map(|shard| (shard.master, vec![shard.slots]))
                .collect(),
            masters: replicas.collect(),
            roles_known_by: KnownBy::TheirMasters,
        }
    }

    /// Returns the view of the plan.
    pub(crate) fn view(&self) -> LayoutView {
        let addrs: BTreeMap<NodeId, &Addr> = self
            .nodes
            .iter()
            .map(|node| (node.id(), &node.target.addr))
            .collect();
        let name = |id: &NodeId| {
            Some(Node {
                id: *id,
                addr: (*addrs.get(id)?).clone(),
                role: match self.layout.shards.iter().any(|shard| shard.master == *id) {
                    true => Role::Master,
                    false => Role::Replica,
                },
                zone: self.zones.get(id).cloned(),
            })
        };
        let masters = self.layout.shards.iter().filter_map(|shard| {
            Some(PlannedShard {
                master: name(&shard.master)?,
                slots: shard.slots,
                replicas: shard.replicas.iter().filter_map(name).collect(),
            })
        });
        LayoutView {
            masters: masters.collect(),
            replicas: self.replicas,
            warnings: self
                .warnings(name)
                .into_iter()
                .chain(self.mixed_versions())
                .chain(origin::warnings(&self.nodes, &[]))
                .collect(),
        }
    }

    fn mixed_versions(&self) -> Option<String> {
        let versions = self.nodes.iter().map(|node| node.report.info.version);
        let list = Version::differing(versions.flatten())?;
        Some(format!(
            "nodes run different versions: {list}: after a failover to a newer one, an older one can't follow it"
        ))
    }

    /// Why replicas could never sync from their masters, all in one problem.
    pub(super) fn older_replicas(&self) -> Option<String> {
        let node = |id| self.nodes.iter().find(|node| node.id() == id);
        let shards = self.layout.shards.iter();
        let pairs = shards.flat_map(|shard| shard.replicas.iter().map(|id| (*id, shard.master)));
        let masters: BTreeMap<NodeId, NodeId> = pairs.collect();
        // In the order in which the nodes were given.
        let nodes = self.nodes.iter();
        let (older, pins): (Vec<String>, Vec<String>) = nodes
            .filter_map(|replica| {
                let master = node(*masters.get(&replica.id())?)?;
                let (own, masters) = (replica.report.info.version?, master.report.info.version?);
                (!own.can_follow(masters)).then(|| {
                    let pair = format!(
                        "{} runs {}, and would replicate {}, which runs {}",
                        replica.name(),
                        own.with_rdb_version(),
                        master.name(),
                        masters.with_rdb_version(),
                    );
                    (pair, format!(" --pin-master {}", replica.target.addr))
                })
            })
            .unzip();
        // The command in full: redis-cli's form of it has no such option.
        (!older.is_empty()).then(|| {
            format!(
                "replicas can't read the data of newer masters: {}; upgrade the older nodes, or make masters of them \
                 (redis-trib create{})",
                older.join("; "),
                pins.concat()
            )
        })
    }

    /// Warns of nodes of one shard on one host or in one zone.
    fn warnings(&self, name: impl Fn(&NodeId) -> Option<Node>) -> Vec<String> {
        let conflicts = &self.layout.conflicts;
        let Some(first) = conflicts.first() else {
            return Vec::new();
        };
        // If all nodes share the host or the zone, one warning is enough.
        let one_host = |host: &str| {
            let mut ips = self.nodes.iter().filter_map(|node| node.ip);
            ips.all(|ip| ip.to_string() == host)
        };
        let one_zone = |zone: &str| {
            let mut ids = self.nodes.iter().map(NewNode::id);
            ids.all(|id| self.zones.get(&id).is_some_and(|its| its == zone))
        };
        match &first.shared {
            Shared::Host(host) if one_host(host) => vec![format!(
                "all nodes are on one host, {host}: replicas protect against the loss of a \
                 process, not of the host"
            )],
            Shared::Zone(zone) if one_zone(zone) => vec![format!(
                "all nodes are in one zone, {zone}: replicas do not protect against its loss"
            )],
            _ => conflicts
                .iter()
                .map(|conflict| warning(conflict, &name))
                .collect(),
        }
    }
}

fn warning(conflict: &Conflict, name: &impl Fn(&NodeId) -> Option<Node>) -> String {
    let nodes: Vec<String> = conflict
        .nodes
        .iter()
        .filter_map(name)
        .map(|node| node.to_string())
        .collect();
    let place = match &conflict.shared {
        Shared::Host(host) => format!("on one host, {host}"),
        Shared::Zone(zone) => format!("in one zone, {zone}"),
    };
    format!(
        "nodes with the same slots are {place}: {}",
        nodes.join(", ")
    )
}

async fn zones(
    session: &Session,
    request: &CreateRequest,
    nodes: &[NewNode],
) -> Result<Zones, Stop> {
    let observed: Vec<ObservedNode> = nodes.iter().map(NewNode::observed).collect();
    let nodes: Vec<_> = observed
        .iter()
        .zip(nodes)
        .map(|(observed, node)| (observed, node.target.clone()))
        .collect();
    let unmatched = request.zones.unmatched(&nodes);
    if !unmatched.is_empty() {
        return Err(Stop::usage(anyhow!("{}", unmatched.join("\n"))));
    }
    Ok(request.zones.zones(&session.connections, &nodes).await)
}

fn pin(request: &CreateRequest, node: &NewNode) -> Option<Role> {
    let is_named = |addrs: &[Addr]| addrs.iter().any(|addr| node.is_at(addr));
    if is_named(&request.pin_master) {
        Some(Role::Master)
    } else if is_named(&request.pin_replica) {
        Some(Role::Replica)
    } else {
        None
    }
}
