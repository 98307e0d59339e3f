//! `drift`: reads how the nodes are set up, and compares them.

mod fix;

use std::sync::Arc;

use crate::client::{Fault, RawSetup};
use crate::cluster::health::Severity;
use crate::cluster::node::NodeId;
use crate::cluster::setup::{Kind, Setup};
use crate::connections::{Connections, Target};
use crate::plan::drift::{self, Difference, Ignored, NodeSetup};
use crate::report::{DifferenceView, DriftView, UntoldView, ValueView};
use crate::session::Session;
use crate::state::{ClusterState, name};
use crate::stop::Stop;

pub(crate) use fix::{Fix, execute, plan};

/// The setups of a cluster.
pub(crate) struct Setups {
    /// The cluster.
    pub(crate) cluster: ClusterState,
    /// The nodes that answer.
    pub(crate) nodes: Vec<NodeSetup>,
    /// The others, with the reason.
    pub(crate) silent: Vec<(NodeId, String)>,
}

/// Compares all nodes.
pub(crate) async fn compare(session: &Session, ignored: &Ignored) -> Result<DriftView, Stop> {
    let setups = read(session).await?;
    Ok(view(&setups, &drift::compare(&setups.nodes, ignored)))
}

/// Reads the setup of every node, one round trip each.
pub(crate) async fn read(session: &Session) -> Result<Setups, Stop> {
    let cluster = ClusterState::look(session).await?;
    let observation = &cluster.diagnosis.observation;
    let mut silent = Vec::new();
    let mut asked = Vec::new();
    for member in cluster.diagnosis.topology.members.values() {
        let report = observation
            .nodes
            .get(&member.id)
            .and_then(|node| node.report());
        match (report, cluster.reach.get(&member.id)) {
            (Some(report), Some(target)) => {
                let mut setup = Setup::default();
                match report.info.version {
                    Some(version) => setup.add_version(version),
                    None => setup.miss(Kind::Version, "INFO does not tell it"),
                }
                let shard = member.master.unwrap_or(member.id);
                let id = member.id;
                asked.push((NodeSetup { id, shard, setup }, target.clone()));
            }
            _ => silent.push((member.id, observation.why_absent(member.id))),
        }
    }
    let asking = session
        .connections
        .fan_out(asked, |connections, (node, target)| async move {
            let id = node.id;
            of_node(&connections, node, &target)
                .await
                .map_err(|fault| (id, fault.to_string()))
        });
    let mut nodes = Vec::new();
    for node in asking.await {
        match node {
            Ok(node) => nodes.push(node),
            Err(failed) => silent.push(failed),
        }
    }
    Ok(Setups {
        cluster,
        nodes,
        silent,
    })
}

/// Passwords and code are dropped at once: hashes of them are compared.
async fn of_node(
    connections: &Arc<Connections>,
    mut node: NodeSetup,
    target: &Target,
) -> Result<NodeSetup, Fault> {
    let asked = async { connections.temporary(target).await?.setup().await };
    let raw = asked.await.map_err(|error| error.fault)?;
    note(&mut node.setup, raw);
    Ok(node)
}

fn note(setup: &mut Setup, raw: RawSetup) {
    match raw.settings {
        Ok(settings) => setup.add_settings(settings),
        Err(fault) => setup.miss(Kind::Setting, fault.to_string()),
    }
    match raw.users {
        Ok(lines) => setup.add_users(&lines),
        Err(fault) => miss(setup, Kind::User, &fault),
    }
    match raw.modules {
        Ok(modules) => {
            for module in modules {
                let field = |name: &str| module.get(name).map_or("", String::as_str);
                setup.add_module(field("name"), field("ver"));
            }
        }
        Err(fault) => miss(setup, Kind::Module, &fault),
    }
    match raw.libraries {
        Ok(libraries) => {
            for (name, library) in libraries {
                setup.add_library(&name, &library.code);
            }
        }
        Err(fault) => miss(setup, Kind::Library, &fault),
    }
}

/// A server that does not know the command has no such things.
fn miss(setup: &mut Setup, kind: Kind, fault: &Fault) {
    if !fault.is_unknown_command() {
        setup.miss(kind, fault.to_string());
    }
}

fn view(setups: &Setups, differences: &[Difference]) -> DriftView {
    let named = |id: NodeId| name(&setups.cluster.diagnosis, id);
    let differences = differences.iter().map(|one| DifferenceView {
        severity: match one.is_error {
            true => Severity::Error,
            false => Severity::Warning,
        },
        kind: one.item.kind,
        name: one.item.name.clone(),
        shards: one.shards.iter().copied().map(named).collect(),
        values: one
            .groups
            .iter()
            .map(|group| ValueView {
                exists: group.value.is_some(),
                value: group.value.as_ref().and_then(|value| value.shown.clone()),
                nodes: group.nodes.iter().copied().map(named).collect(),
            })
            .collect(),
    });
    let differences: Vec<DifferenceView> = differences.collect();
    let mut unknown: Vec<UntoldView> = Vec::new();
    for node in &setups.nodes {
        unknown.extend(node.setup.untold().iter().map(|(kind, why)| UntoldView {
            node: named(node.id),
            kind: Some(*kind),
            error: why.clone(),
        }));
    }
    unknown.extend(setups.silent.iter().map(|(id, why)| UntoldView {
        node: named(*id),
        kind: None,
        error: why.clone(),
    }));
    DriftView {
        same: differences.is_empty() && unknown.is_empty(),
        node_count: setups.nodes.len(),
        differences,
        unknown,
    }
}
