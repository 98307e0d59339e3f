//! The method of each pair: the nodes are asked what they support before the plan is shown.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;

use super::{MethodRequest, asm_login};
use crate::client::{ClientError, Denied, Fault, NodeClient, Transport};
use crate::cluster::node::NodeId;
use crate::cluster::parse::{Product, Version};
use crate::cluster::slot::SlotSet;
use crate::connections::{Connections, Target};
use crate::discover;
use crate::event::Pair;
use crate::migrate::schedule::MoveMethod;
use crate::migrate::strategy::{MethodChoice, NodeFacts, PairFacts, Strategy, choose};
use crate::migrate::{Hidden, strays};
use crate::ops::raft::{self, Obstacle};
use crate::plan::MovePlan;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;

/// Settings of a source and its target that matter to ASM tasks.
const OPTIONS: [&str; 3] = ["io-threads", "port", "tls-replication"];

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
        let by_key = choices
            .iter()
            .filter(|(_, choice)| choice.way == MoveMethod::Keys);
        let by_key: Vec<Pair> = by_key.map(|(pair, _)| *pair).collect();
        if !by_key.is_empty() {
            raft::refuse(cluster, Obstacle::Transactions)?;
            refuse_denied_databases(session, cluster, &by_key).await?;
        }
        return Ok(choices);
    }
    Err(Stop::refused(anyhow!(
        "--strategy atomic is not possible, and nothing was changed (--strategy auto moves these \
         key by key):\n{}",
        impossible.join("\n")
    )))
}

/// Refuses moves key by key of a user who may not use a database that holds keys of a source: a slot moves with the keys
/// of all databases (Valkey ≥ 9.1 limits users to some).
async fn refuse_denied_databases(
    session: &Session,
    cluster: &ClusterState,
    pairs: &[Pair],
) -> Result<(), Stop> {
    let mut asked: BTreeMap<NodeId, BTreeSet<u32>> = BTreeMap::new();
    for pair in pairs {
        let node = cluster.diagnosis.observation.nodes.get(&pair.from);
        let report = node.and_then(|node| node.report());
        // Servers before have database 0 only, or let everyone use all.
        let limits =
            |version: Version| version.product == Product::Valkey && version.numbers >= [9, 1, 0];
        let Some(report) = report.filter(|report| report.info.version.is_some_and(limits)) else {
            continue;
        };
        for end in [pair.from, pair.to] {
            let databases = discover::databases(report);
            asked.entry(end).or_default().extend(databases);
        }
    }
    let targets = asked
        .into_iter()
        .filter_map(|(id, databases)| Some((id, cluster.reach.get(&id).cloned()?, databases)));
    let asking =
        session
            .connections
            .fan_out(targets, |connections, (id, target, databases)| async move {
                let client = connections.own(&target).await.ok()?;
                for database in databases {
                    let error = client.select(database).await.err();
                    // Other errors are reported by the moves.
                    if let Some(Fault::NoPermission { .. }) = error.map(|error| error.fault) {
                        return Some((id, database));
                    }
                }
                None
            });
    let denied = asking.await.into_iter().flatten().next();
    let Some((id, database)) = denied else {
        return Ok(());
    };
    Err(Stop::refused(anyhow!(
        "the user may not use database {database} on {}, and slots move with their keys of all databases: ACL SETUSER with \
         alldbs on all masters, or log in as another user; nothing was changed",
        cluster.name(id)
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
        let version = cluster.diagnosis.observation.version_of(id);
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
        let options = [&OPTIONS[..], &asm_login::OPTIONS].concat();
        asked.options = client.config_get(&options).await.unwrap_or_default();
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
            fault: Fault::NoPermission { command, denied },
            ..
        }) => Some(match denied {
            Denied::Database => format!(
                "the user is limited to some databases on {name}, and {command} needs all of them (ACL SETUSER with \
                 alldbs)"
            ),
            Denied::Command | Denied::Key => {
                format!("the user may not run {command} on {name}")
            }
        }),
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
    if product == Product::Valkey {
        let node = cluster.diagnosis.observation.nodes.get(&pair.from);
        let report = node.and_then(|node| node.report());
        let databases = report.map_or_else(Vec::new, discover::databases);
        let names = (source.facts.name.as_str(), target.facts.name.as_str());
        let connections = &session.connections;
        let problem = asm_login::problem(connections, &source.options, &databases, names, reach);
        if let Some(problem) = problem.await {
            return Ok(Some(problem));
        }
    }
    let client = session.connections.client(reach).await?;
    let strays = strays(&client, product, slots, Hidden::Pass).await?;
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
