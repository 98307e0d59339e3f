//! The method of each pair: the nodes are asked what they support before the plan is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::anyhow;
use secrecy::SecretString;

use super::MethodRequest;
use crate::client::{ClientError, Fault, Login, NodeClient, Transport};
use crate::cluster::node::NodeId;
use crate::cluster::parse::{Product, Version};
use crate::cluster::slot::SlotSet;
use crate::connections::{Connections, DialOptions, Target};
use crate::event::Pair;
use crate::migrate::schedule::MoveMethod;
use crate::migrate::strategy::{MethodChoice, NodeFacts, PairFacts, Strategy, choose};
use crate::migrate::strays;
use crate::plan::MovePlan;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;

/// Settings of a source and its target that matter to ASM tasks.
const OPTIONS: [&str; 7] = [
    "io-threads",
    "port",
    "tls-replication",
    "primaryuser",
    "primaryauth",
    "masteruser",
    "masterauth",
];

/// What a node answered.
struct Asked {
    facts: NodeFacts,
    options: BTreeMap<String, String>,
}

/// The method of each pair of a plan. Refuses what `--strategy` does not allow.
pub(super) async fn choices(
    session: &Session,
    cluster: &ClusterState,
    plan: &MovePlan,
    request: MethodRequest,
) -> Result<BTreeMap<Pair, MethodChoice>, Stop> {
    let MethodRequest {
        strategy,
        throttled,
    } = request;
    if strategy == Strategy::Atomic && throttled {
        return Err(Stop::usage(anyhow!(
            "--rate applies to key-by-key moves only: omit it, or use --strategy auto"
        )));
    }
    let pairs = plan.moves().map(|one| {
        let (from, to) = (one.from, one.to);
        (Pair { from, to }, &one.slots)
    });
    let asked = match strategy {
        Strategy::Keys => BTreeMap::new(),
        Strategy::Auto | Strategy::Atomic => ask_all(session, cluster, plan).await,
    };
    let mut choices = BTreeMap::new();
    let mut impossible = Vec::new();
    for (pair, slots) in pairs {
        let (Some(source), Some(target)) = (asked.get(&pair.from), asked.get(&pair.to)) else {
            choices.insert(pair, by_key("--strategy keys"));
            continue;
        };
        let facts = PairFacts {
            source: &source.facts,
            target: &target.facts,
            hindrance: hindrance(session, cluster, pair, slots, source, target).await?,
        };
        match choose(strategy, throttled, &facts) {
            Ok(choice) => {
                choices.insert(pair, choice);
            }
            Err(why) => impossible.push(format!(
                "  {} to {}: {why}",
                cluster.name(pair.from),
                cluster.name(pair.to)
            )),
        }
    }
    if impossible.is_empty() {
        return Ok(choices);
    }
    Err(Stop::refused(anyhow!(
        "--strategy atomic is not possible, and nothing was changed (--strategy auto moves these \
         key by key):\n{}",
        impossible.join("\n")
    )))
}

/// Key by key for all pairs: the moves of slots that are already open started that way.
pub(super) fn by_key_as_begun(plan: &MovePlan) -> BTreeMap<Pair, MethodChoice> {
    let pairs = plan.moves().map(|one| {
        let (from, to) = (one.from, one.to);
        Pair { from, to }
    });
    pairs
        .map(|pair| (pair, by_key("they were begun that way")))
        .collect()
}

fn by_key(reason: &str) -> MethodChoice {
    MethodChoice {
        way: MoveMethod::Keys,
        reason: reason.to_string(),
    }
}

/// Asks all nodes of a plan.
async fn ask_all(
    session: &Session,
    cluster: &ClusterState,
    plan: &MovePlan,
) -> BTreeMap<NodeId, Asked> {
    let ids: BTreeSet<NodeId> = plan.moves().flat_map(|one| [one.from, one.to]).collect();
    let nodes = ids.into_iter().map(|id| {
        let node = cluster.diagnosis.observation.nodes.get(&id);
        let version = node.and_then(|node| node.report()?.info.version);
        (
            id,
            cluster.reach.get(&id).cloned(),
            cluster.name(id),
            version,
        )
    });
    let asking = session.connections.fan_out(
        nodes,
        |connections, (id, target, name, version)| async move {
            (id, ask(&connections, target, name, version).await)
        },
    );
    asking.await.into_iter().collect()
}

/// Asks one node. A node that does not answer supports nothing; the error is reported when it is needed.
async fn ask(
    connections: &Connections,
    target: Option<Target>,
    name: String,
    version: Option<Version>,
) -> Asked {
    let mut asked = Asked {
        facts: NodeFacts {
            name,
            version,
            offers: None,
            hindrance: None,
            io_threads: None,
        },
        options: BTreeMap::new(),
    };
    let Some(target) = target else {
        return asked;
    };
    let Ok(client) = connections.client(&target).await else {
        return asked;
    };
    asked.facts.offers = offers(&client, version).await;
    if let Some(product) = asked.facts.offers {
        asked.facts.hindrance = rights(&client, product, &asked.facts.name).await;
        asked.options = client.config_get(&OPTIONS).await.unwrap_or_default();
        let threads = asked.options.get("io-threads");
        asked.facts.io_threads = threads.and_then(|threads| threads.parse().ok());
    }
    asked
}

/// Which ASM commands a node has; by its version if COMMAND is denied.
async fn offers(client: &NodeClient, version: Option<Version>) -> Option<Product> {
    match client.atomic_commands().await {
        Ok(commands) if commands.migrateslots => Some(Product::Valkey),
        Ok(commands) if commands.migration => Some(Product::Redis),
        Ok(_) => None,
        Err(_) => version
            .filter(|version| version.can_migrate_atomically())
            .map(|version| version.product),
    }
}

/// Why this user can't use ASM commands on the node.
async fn rights(client: &NodeClient, product: Product, name: &str) -> Option<String> {
    let answer = match product {
        Product::Valkey => match client.may_migrateslots().await {
            Ok(()) => client.cluster_getslotmigrations().await,
            Err(error) => Err(error),
        },
        Product::Redis => client.cluster_migration_status().await,
    };
    match answer {
        Ok(_) => None,
        Err(ClientError {
            fault: Fault::NoPermission { command },
            ..
        }) => Some(format!("the user may not run {command} on {name}")),
        Err(error) => Some(error.to_string()),
    }
}

/// What prevents ASM tasks between two nodes.
async fn hindrance(
    session: &Session,
    cluster: &ClusterState,
    pair: Pair,
    slots: &SlotSet,
    source: &Asked,
    target: &Asked,
) -> Result<Option<String>, Stop> {
    let Some(product) = target
        .facts
        .offers
        .filter(|_| source.facts.offers.is_some())
    else {
        return Ok(None);
    };
    let mut open = cluster.diagnosis.topology.open_slots();
    if let Some((member, _)) = open.find(|(member, _)| [pair.from, pair.to].contains(&member.id)) {
        let name = cluster.name(member.id);
        return Ok(Some(format!("slots are open on {name}")));
    }
    let Some(reach) = cluster.reach.get(&pair.to) else {
        return Ok(None);
    };
    let is = |node: &Asked, name: &str, value: &str| {
        node.options.get(name).map(String::as_str) == Some(value)
    };
    let tls = matches!(reach.access.transport, Transport::Tls(_));
    for (node, other) in [(source, target), (target, source)] {
        // ASM tasks use plain TCP then; MIGRATE uses what the cluster bus uses (tls-cluster).
        if tls && is(node, "tls-replication", "no") && is(other, "port", "0") {
            return Ok(Some(format!(
                "{} has tls-replication no, and {} accepts only TLS",
                node.facts.name, other.facts.name
            )));
        }
    }
    if product == Product::Valkey
        && let Some(error) = login_fails(&session.connections, source, reach).await
    {
        return Ok(Some(format!(
            "{} can't log in to {} (primaryuser and primaryauth): {}",
            source.facts.name, target.facts.name, error.fault
        )));
    }
    let client = session.connections.client(reach).await?;
    let strays = strays(&client, product, slots).await?;
    if strays.is_some() && product == Product::Valkey {
        // Keys of a running task count as stray keys. A task of a killed redis-trib may have started after the
        // search for running tasks.
        let tasks = client.cluster_getslotmigrations().await?;
        if let Some(task) = tasks.iter().find(|task| task.end.is_none()) {
            return Err(Stop::refused(anyhow!(
                "an ASM task that moves slots {} to {} has just begun: try again when it has ended; nothing was changed",
                task.slots,
                target.facts.name
            )));
        }
    }
    Ok(strays.map(|strays| format!("{} holds {strays}", target.facts.name)))
}

/// Why the source can't log in to the target (Valkey: it logs in as a replica does to its primary).
async fn login_fails(
    connections: &Connections,
    source: &Asked,
    target: &Target,
) -> Option<ClientError> {
    let option = |names: [&str; 2]| {
        let mut values = names
            .into_iter()
            .filter_map(|name| source.options.get(name));
        values.find(|value| !value.is_empty()).cloned()
    };
    if source.options.is_empty() {
        return None;
    }
    let login = Login {
        user: option(["primaryuser", "masteruser"]),
        password: option(["primaryauth", "masterauth"]).map(SecretString::from),
    };
    let access = DialOptions {
        login,
        transport: target.access.transport.clone(),
    };
    let target = Target {
        addr: target.addr.clone(),
        access: Arc::new(access),
    };
    let answer = match connections.own(&target).await {
        Ok(client) => client.ping().await,
        Err(error) => Err(error),
    };
    answer.err()
}
