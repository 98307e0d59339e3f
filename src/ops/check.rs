//! `check`: one look at a cluster, or at one process.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::sleep;

use crate::client::{ClientError, Fault};
use crate::cluster::health::{Background, BusSettings, Diagnosis, Stability};
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::observation::ObservedNode;
use crate::cluster::parse::{Info, Product};
use crate::cluster::slot::{Slot, SlotSet};
use crate::connections::{Connections, Target};
use crate::discover::{self, Found};
use crate::ops::functions;
use crate::ops::join::zones::{ZoneRules, Zones};
use crate::report::RemedyOptions;
use crate::seed::Seed;
use crate::session::Session;
use crate::stop::Stop;

/// The time before the second look at a cluster that may be changing: gossip arrives every second.
const SETTLE: Duration = Duration::from_millis(1100);

/// What is checked besides the state of the nodes.
pub(crate) struct CheckRequest<'a> {
    /// Where the zones of nodes come from.
    pub(crate) zones: &'a ZoneRules,
    /// Whether a key is written to each master.
    pub(crate) probe_write: bool,
}

/// The result of a check.
pub(crate) struct Checked {
    /// The findings.
    pub(crate) diagnosis: Diagnosis,
    /// The zones of the nodes.
    pub(crate) zones: Zones,
    /// Remarks about the command line.
    pub(crate) notes: Vec<String>,
    /// What the command lines of remedies repeat.
    pub(crate) options: RemedyOptions,
}

/// Looks at the cluster, and a second time if a fault may be transient.
pub(crate) async fn check(session: &Session, request: &CheckRequest<'_>) -> Result<Checked, Stop> {
    let connections = &session.connections;
    let targets = session.targets();
    let mut found = discover::examine(connections, &targets).await?;
    let nodes: Vec<_> = found
        .observation
        .nodes
        .values()
        .filter_map(|node| Some((node, found.target_of(node)?)))
        .collect();
    let zones = request.zones.zones(connections, &nodes).await;
    let mut notes = request.zones.unmatched(&nodes);
    let mut background = Background {
        zones,
        ..Background::default()
    };
    let signature = found.observation.signature();
    let mut diagnosis = Diagnosis::of(found.observation.clone(), &background);
    if diagnosis.may_settle() {
        sleep(SETTLE).await;
        found = discover::examine(connections, &targets).await?;
        background.stability = if found.observation.signature() == signature {
            Stability::Stuck
        } else {
            Stability::Settling
        };
        found.observation.keep_other_nodes(&diagnosis.observation);
        diagnosis = Diagnosis::of(found.observation.clone(), &background);
    }
    if let Some((last, missing)) =
        discover::lasting_to_owners(connections, &targets, &found).await?
    {
        found = last;
        found.observation.keep_other_nodes(&diagnosis.observation);
        background.missing_links = missing;
        diagnosis = Diagnosis::of(found.observation.clone(), &background);
    }
    let target_of = |node: &ObservedNode| found.target_of(node);
    let functions = functions::of_masters(connections, &diagnosis, target_of).await;
    diagnosis.compare_functions(&functions);
    diagnosis.judge_buses(&bus_settings(connections, &found).await);
    if request.probe_write {
        for (id, why) in probe_write(connections, &found, &diagnosis).await {
            diagnosis.probe_failed(id, &why);
        }
    }
    let silent = found.silent_seeds.iter();
    notes.extend(
        silent
            .filter(|error| !is_member(&diagnosis, &error.addr))
            .map(|error| format!("named, but not known as a member: {error}")),
    );
    Ok(Checked {
        diagnosis,
        zones: background.zones,
        notes,
        options: session.resume.remedy_options(),
    })
}

/// The settings of the cluster bus, of each server that may have the one that protects it (Redis from 8.2.10 on; the
/// last numbers differ by release, so the server is asked). One that does not tell is not judged.
async fn bus_settings(
    connections: &Arc<Connections>,
    found: &Found,
) -> BTreeMap<NodeId, BusSettings> {
    let may_have = |info: &Info| {
        info.version.is_some_and(|version| {
            version.product == Product::Redis && version.numbers >= [8, 2, 10]
        })
    };
    let reports = found.observation.reports();
    let targets = reports
        .filter(|(_, report)| may_have(&report.info))
        .filter_map(|(node, _)| Some((node.id, found.target_of(node)?)));
    let asking = connections.fan_out(targets, |connections, (id, target)| async move {
        let client = connections.temporary(&target).await.ok()?;
        let values = client.config_get(&BusSettings::NAMES).await.ok()?;
        Some((id, BusSettings::of(&values)))
    });
    asking.await.into_iter().flatten().collect()
}

fn is_member(diagnosis: &Diagnosis, addr: &Addr) -> bool {
    let mut nodes = diagnosis.observation.nodes.values();
    nodes.any(|node| node.dial.as_ref() == Some(addr) || node.peer.as_ref() == Some(addr))
}

/// Writes, reads and deletes a key on every master that serves slots; returns the masters on which that failed. A master
/// that does not answer has its finding already.
async fn probe_write(
    connections: &Arc<Connections>,
    found: &Found,
    diagnosis: &Diagnosis,
) -> Vec<(NodeId, String)> {
    // Two probes at the same time must not delete each other's keys; in containers all have process id 1.
    let run = RandomState::new().build_hasher().finish();
    let open = diagnosis.topology.open_set();
    let probes = diagnosis.topology.masters().filter_map(|master| {
        let node = diagnosis.observation.nodes.get(&master.id);
        let node = node.filter(|node| node.report().is_some())?;
        let key = probe_key(&master.slots.difference(&open), run)?;
        Some((master.id, found.target_of(node)?, key))
    });
    let probing = connections.fan_out(probes, |connections, (id, target, key)| async move {
        match probe(&connections, &target, key.as_bytes()).await {
            Ok(true) => None,
            Ok(false) => Some((
                id,
                "the value that was read is not the one written".to_string(),
            )),
            Err(error) => Some((id, error.fault.to_string())),
        }
    });
    let mut failed: Vec<(NodeId, String)> = probing.await.into_iter().flatten().collect();
    failed.sort_unstable();
    failed
}

async fn probe(
    connections: &Connections,
    target: &Target,
    key: &[u8],
) -> Result<bool, ClientError> {
    /// Expires the key if the program is killed before it deletes it.
    const TIME_TO_LIVE: Duration = Duration::from_secs(60);
    const VALUE: &[u8] = b"redis-trib";
    let client = connections.temporary(target).await?;
    client.set(key, VALUE, TIME_TO_LIVE).await?;
    let read = client.get(key).await;
    // The key is deleted even if it could not be read.
    client.del(key).await?;
    Ok(read?.as_deref() == Some(VALUE))
}

/// A key in one of these slots that no application is likely to use.
fn probe_key(slots: &SlotSet, run: u64) -> Option<String> {
    if slots.is_empty() {
        return None;
    }
    // A single slot is hit once in 16384 tries on average; a million tries miss it with a probability of 10^-27.
    (0..1_000_000)
        .map(|n| format!("redis-trib:probe:{run:016x}:{n}"))
        .find(|key| slots.contains(Slot::of_key(key.as_bytes())))
}

/// Checks one process. A process that is loading its data is alive: after a restart it would load them again. So is one
/// that runs a script: a restart would end it, and lose what is not saved.
pub(crate) async fn alive(session: &Session, seed: &Seed) -> Result<Addr, Stop> {
    let targets = session.targets();
    let [target] = &targets[..] else {
        return Err(Stop::usage(anyhow!(
            "--local checks one process, and {seed} stands for {} nodes: name one of them",
            targets.len()
        )));
    };
    let client = session.connections.temporary(target).await?;
    match client.look().await {
        Err(error) if !matches!(error.fault, Fault::Loading | Fault::Busy(_)) => Err(error.into()),
        _ => Ok(target.addr.clone()),
    }
}
