//! From nodes to the plan of their cluster, and to how it is shown.

use std::collections::BTreeMap;

use anyhow::anyhow;

use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::ObservedNode;
use crate::commands::create::Args;
use crate::converge::{Goal, Heard};
use crate::ops::join::inspect::NewNode;
use crate::ops::join::zones::Zones;
use crate::plan::create::{self, Candidate, Conflict, FewMasters, Layout, Request, Shared};
use crate::plan::{CreateProgress, Plan};
use crate::session::Session;
use crate::stop::Stop;
use crate::ui::{LayoutView, NodeName, PlannedShard};

/// The cluster that is to be, and how much of it is there.
pub(crate) struct CreatePlan {
    layout: Layout,
    zones: Zones,
    /// All steps, those that are done included.
    pub(crate) plan: Plan,
    pub(crate) progress: CreateProgress,
}

impl CreatePlan {
    /// Lays the cluster out.
    pub(crate) async fn of(
        session: &Session,
        args: &Args,
        recruits: &[NewNode],
    ) -> Result<Self, Stop> {
        let zones = zones(session, args, recruits).await?;
        for addr in args.pin_master.iter().chain(&args.pin_replica) {
            if !recruits.iter().any(|recruit| recruit.is_at(addr)) {
                return Err(Stop::usage(anyhow!(
                    "{addr} is pinned, but is not among the nodes: name it as a node too, or leave \
                     out the pin"
                )));
            }
        }
        let candidates = recruits.iter().map(|recruit| Candidate {
            id: recruit.id(),
            addr: recruit.target.addr.clone(),
            host: match recruit.ip {
                Some(ip) => ip.to_string(),
                None => recruit.target.addr.host().to_string(),
            },
            zone: zones.get(&recruit.id()).cloned(),
            pin: pin(args, recruit),
            seed_set: recruit.seed_set,
        });
        let layout = create::create(&Request {
            nodes: candidates.collect(),
            replicas: usize::from(args.replicas),
            few_masters: if args.allow_few_masters {
                FewMasters::Allow
            } else {
                FewMasters::Refuse
            },
        })
        .map_err(Stop::refused)?;
        let views: BTreeMap<NodeId, _> = recruits
            .iter()
            .map(|recruit| (recruit.id(), &recruit.report.view))
            .collect();
        let plan = layout.plan(|id| views.get(&id).map_or(0, |view| view.myself().epoch));
        let progress = plan.progress(|id| views.get(&id).copied());
        Ok(Self {
            layout,
            zones,
            plan,
            progress,
        })
    }

    /// What the nodes shall agree about in the end.
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
            heard: Heard::ByTheirMasters,
        }
    }

    /// The plan for people.
    pub(crate) fn view(&self, recruits: &[NewNode]) -> LayoutView {
        let addrs: BTreeMap<NodeId, &Addr> = recruits
            .iter()
            .map(|recruit| (recruit.id(), &recruit.target.addr))
            .collect();
        let name = |id: &NodeId| {
            Some(NodeName {
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
            warnings: self.warnings(recruits, name),
        }
    }

    /// Where the plan could not keep nodes apart.
    fn warnings(
        &self,
        recruits: &[NewNode],
        name: impl Fn(&NodeId) -> Option<NodeName>,
    ) -> Vec<String> {
        let conflicts = &self.layout.conflicts;
        let Some(first) = conflicts.first() else {
            return Vec::new();
        };
        // Where nothing could be done, it is said once.
        let one_host = |host: &str| {
            let mut ips = recruits.iter().filter_map(|recruit| recruit.ip);
            ips.all(|ip| ip.to_string() == host)
        };
        let one_zone = |zone: &str| {
            let mut ids = recruits.iter().map(NewNode::id);
            ids.all(|id| self.zones.get(&id).is_some_and(|its| its == zone))
        };
        match &first.shared {
            Shared::Host(host) if one_host(host) => vec![format!(
                "all nodes stand on one host, {host}: replicas protect against the loss of a \
                 process, not of the host"
            )],
            Shared::Zone(zone) if one_zone(zone) => vec![format!(
                "all nodes stand in one zone, {zone}: replicas do not protect against its loss"
            )],
            _ => conflicts
                .iter()
                .map(|conflict| warning(conflict, &name))
                .collect(),
        }
    }
}

fn warning(conflict: &Conflict, name: &impl Fn(&NodeId) -> Option<NodeName>) -> String {
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
        "nodes with the same slots stand {place}: {}",
        nodes.join(", ")
    )
}

async fn zones(session: &Session, args: &Args, recruits: &[NewNode]) -> Result<Zones, Stop> {
    let observed: Vec<ObservedNode> = recruits.iter().map(NewNode::observed).collect();
    let nodes: Vec<_> = observed
        .iter()
        .zip(recruits)
        .map(|(node, recruit)| (node, recruit.target.clone()))
        .collect();
    let strays = args.zones.strays(&nodes);
    if !strays.is_empty() {
        return Err(Stop::usage(anyhow!("{}", strays.join("\n"))));
    }
    Ok(args.zones.zones(&session.connections, &nodes).await)
}

fn pin(args: &Args, recruit: &NewNode) -> Option<Role> {
    let is_named = |addrs: &[Addr]| addrs.iter().any(|addr| recruit.is_at(addr));
    if is_named(&args.pin_master) {
        Some(Role::Master)
    } else if is_named(&args.pin_replica) {
        Some(Role::Replica)
    } else {
        None
    }
}
