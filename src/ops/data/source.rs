//! The source of keys: a standalone server, or a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, sleep};

use super::databases::{DatabaseMapping, Databases};
use super::{cluster_faults, infos};
use crate::client::{ClientError, Fault, NodeClient};
use crate::cluster::functions::Functions;
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::parse::{Info, MasterLink};
use crate::connections::Target;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::transfer::{Clock, Keyspace, NodeKeys, ReadFrom, SlotOwners, SourcePart};

/// How long a cluster whose masters do not all answer is looked at again: a failover takes that long.
const SETTLE: Duration = Duration::from_secs(15);
/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A source, as the user names it.
#[derive(Clone)]
pub(crate) struct SourceRequest {
    /// The session for a source that is only read, whose connections have no name: other operators may change it meanwhile.
    /// `None` for the session of the command.
    pub(crate) session: Option<Arc<Session>>,
    /// The server, or a node of the cluster.
    pub(crate) target: Target,
    /// The databases that are read, and where their keys go.
    pub(crate) databases: Databases,
    /// Which nodes of a cluster are read.
    pub(crate) read_from: ReadFrom,
    /// Whether the server may be a node of a cluster.
    pub(crate) cluster_nodes: ClusterNodes,
}

/// Whether a source may be a node of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClusterNodes {
    /// The whole cluster is the source.
    Read,
    /// Refused, as redis-cli does: its `import` deletes the keys at the source without a question.
    Refuse,
}

/// The function libraries of a source.
#[derive(Default)]
pub(super) struct SourceFunctions {
    /// Those of the server, or of each master.
    pub(super) sets: BTreeMap<String, Functions>,
    /// The code of all.
    pub(super) codes: BTreeSet<Vec<u8>>,
    /// The nodes that have libraries and do not list them.
    pub(super) denied: Vec<String>,
}

/// A source, as it was observed.
pub(crate) struct SourceState {
    /// The INFO of the named node.
    pub(crate) info: Info,
    /// The cluster, if the node is a member of one.
    pub(crate) cluster: Option<ClusterState>,
    /// The clock of the named node; `None` if the user may not read it.
    pub(super) clock: Option<Clock>,
}

impl SourceRequest {
    /// The session for the source; `session` is that of the command.
    pub(super) fn session<'a>(&'a self, session: &'a Session) -> &'a Session {
        self.session.as_deref().unwrap_or(session)
    }
}

/// Reads what the source is, and checks that it can be read.
pub(crate) async fn observe(
    session: &Session,
    request: &SourceRequest,
) -> Result<SourceState, Stop> {
    let session = request.session(session);
    let client = session.connections.own(&request.target).await;
    let client = client.map_err(source_error)?;
    let text = client.info().await.map_err(source_error)?;
    let addr = &request.target.addr;
    if is_sentinel(&text) {
        return Err(Stop::refused(anyhow!(
            "{addr} is a Sentinel, which has no keys: name the master that it watches"
        )));
    }
    let info = Info::parse(&text);
    if info.cluster_enabled == Some(true) && request.cluster_nodes == ClusterNodes::Refuse {
        return Err(Stop::refused(anyhow!(
            "[ERR] The source node should not be a cluster node.\n{addr} is a node of a cluster, and `redis-trib import` \
             copies from clusters; nothing was changed"
        )));
    }
    if info.cluster_enabled != Some(true) {
        refuse_never_synced(addr, &info)?;
    }
    select_and_scan(&client, request).await?;
    let clock = client.time().await.map_err(source_error)?;
    let clock = clock.map(Clock::told);
    let cluster = match info.cluster_enabled {
        Some(true) => Some(observe_cluster(session, &request.target).await?),
        _ => None,
    };
    Ok(SourceState {
        info,
        cluster,
        clock,
    })
}

/// Refuses a replica that has no keys because it never got those of its master. It serves what it has: nothing.
fn refuse_never_synced(addr: &Addr, info: &Info) -> Result<(), Stop> {
    let why = match info.master_link {
        Some(MasterLink::Down(None)) if info.total_keys() == 0 => {
            "has not been in sync with its master since its server started"
        }
        Some(MasterLink::Syncing) if info.total_keys() == 0 => "waits for a full resync",
        _ => return Ok(()),
    };
    Err(Stop::refused(anyhow!(
        "{addr} is a replica without keys that {why}: its master may have keys; name the master, or wait until \
         master_link_status is up"
    )))
}

/// Checks that the databases exist, and that keys may be listed.
async fn select_and_scan(client: &NodeClient, request: &SourceRequest) -> Result<(), Stop> {
    let databases = match &request.databases {
        Databases::All(_) => Vec::new(),
        Databases::Some(mappings) => mappings.iter().map(|mapping| mapping.from).collect(),
    };
    for database in databases.into_iter().filter(|database| *database != 0) {
        client.select(database).await.map_err(|error| {
            Stop::refused(anyhow!("the source has no database {database}: {error}"))
        })?;
    }
    // A replica without a master may answer INFO only, and a user may lack the right.
    client
        .scan(0, None, 1)
        .await
        .map(drop)
        .map_err(source_error)
}

/// INFO of a Sentinel (all versions; Valkey may name the mode with its own field).
fn is_sentinel(info: &str) -> bool {
    let mut lines = info.lines().map(str::trim);
    lines.any(|line| ["redis_mode:sentinel", "server_mode:sentinel"].contains(&line))
}

async fn observe_cluster(session: &Session, target: &Target) -> Result<ClusterState, Stop> {
    let deadline = Instant::now() + session.settle_timeout.unwrap_or(SETTLE);
    loop {
        let cluster = ClusterState::look_from(session, std::slice::from_ref(target)).await?;
        if cluster.diagnosis.topology.served().is_empty() {
            return Err(Stop::refused(anyhow!(
                "{} is a cluster node without a cluster that serves slots: there are no keys to read",
                target.addr
            )));
        }
        let faults = cluster_faults(&cluster);
        if faults.is_empty() {
            return Ok(cluster);
        }
        if Instant::now() >= deadline {
            return Err(Stop::refused(anyhow!(
                "the source cluster can't be read as a whole:\n  {}",
                faults.join("\n  ")
            )));
        }
        session
            .events
            .waiting(format!("waiting for the source cluster: {}", faults[0]));
        sleep(LOOK_AGAIN).await;
    }
}

impl SourceState {
    /// Refuses a source that is the cluster itself, or has nodes of it.
    pub(super) fn refuse_same(
        &self,
        request: &SourceRequest,
        cluster: &ClusterState,
    ) -> Result<(), Stop> {
        let addr = &request.target.addr;
        let reports = cluster.diagnosis.observation.reports();
        let mut runs = reports.filter_map(|(_, report)| report.info.run_id.clone());
        let is_member = self.info.run_id.is_some() && runs.any(|run| Some(run) == self.info.run_id);
        if is_member {
            return Err(Stop::refused(anyhow!(
                "{addr} is a node of the cluster itself: the source must be another server or cluster"
            )));
        }
        let ids = |state: &ClusterState| -> BTreeSet<NodeId> {
            state.diagnosis.topology.members.keys().copied().collect()
        };
        let Some(source) = &self.cluster else {
            return Ok(());
        };
        let shared: Vec<String> = ids(source)
            .intersection(&ids(cluster))
            .map(|id| cluster.name(*id))
            .collect();
        match shared.is_empty() {
            true => Ok(()),
            false => Err(Stop::refused(anyhow!(
                "the source and the target have nodes in common, so they are one cluster: {}",
                shared.join(", ")
            ))),
        }
    }

    /// The databases that are read. Of all databases, those that have keys.
    pub(super) fn mappings(&self, request: &SourceRequest) -> Vec<DatabaseMapping> {
        request.databases.mappings(self.databases().into_keys())
    }

    /// Where the keys are read, and where they go.
    pub(super) async fn parts(
        &self,
        session: &Session,
        request: &SourceRequest,
    ) -> Result<Vec<SourcePart>, Stop> {
        let connections = &request.session(session).connections;
        let target = &request.target;
        let owners = match &self.cluster {
            None => None,
            Some(_) => {
                let owners = SlotOwners::read(Arc::clone(connections), vec![target.clone()]).await;
                Some(Arc::new(owners.map_err(Stop::refused)?))
            }
        };
        let mappings = self.mappings(request);
        let nodes = |database: u32| match &self.cluster {
            None => Vec::new(),
            Some(cluster) => node_keys(cluster, database, |addr| match mappings.len() {
                0 | 1 => addr.to_string(),
                _ => format!("{addr}, database {database}"),
            }),
        };
        let part = |mapping: &DatabaseMapping| SourcePart {
            source: match &owners {
                None => {
                    let (target, connections) = (target.clone(), Arc::clone(connections));
                    let clock = self.clock.unwrap_or_else(Clock::of_machine);
                    Keyspace::of_server(target, connections, clock, mapping.from)
                }
                Some(owners) => {
                    Keyspace::of_cluster(Arc::clone(owners), request.read_from, mapping.from)
                }
            },
            nodes: nodes(mapping.from),
            into: mapping.into,
            prefix: mapping.prefix.clone(),
        };
        Ok(mappings.iter().map(part).collect())
    }

    /// The number of keys that are read.
    pub(super) fn keys(&self, request: &SourceRequest) -> u64 {
        request.databases.keys(&self.databases())
    }

    /// The nodes that have the keys: the server, or each master that owns slots.
    pub(super) fn nodes(&self, request: &SourceRequest) -> Vec<(Target, Info)> {
        let Some(cluster) = &self.cluster else {
            return vec![(request.target.clone(), self.info.clone())];
        };
        let nodes = infos(cluster).into_iter();
        nodes
            .filter_map(|(id, info)| Some((cluster.reach.get(&id)?.clone(), info)))
            .collect()
    }

    /// The functions. A node whose INFO counts none is not asked.
    pub(super) async fn functions(
        &self,
        session: &Session,
        request: &SourceRequest,
    ) -> Result<SourceFunctions, Stop> {
        let connections = &request.session(session).connections;
        let mut functions = SourceFunctions::default();
        for (target, info) in self.nodes(request) {
            let name = target.addr.to_string();
            match info.function_libraries {
                None => continue,
                Some(0) => {
                    functions.sets.insert(name, Functions::default());
                    continue;
                }
                Some(_) => {}
            }
            let client = connections.own(&target).await.map_err(source_error)?;
            let Some(libraries) = client.function_list().await.map_err(source_error)? else {
                functions.denied.push(name);
                continue;
            };
            let set = functions.sets.entry(name).or_default();
            for (name, library) in libraries {
                set.add(&name, &library.code);
                functions.codes.insert(library.code);
            }
        }
        Ok(functions)
    }

    /// The number of keys of each database that has any.
    pub(super) fn databases(&self) -> BTreeMap<u32, u64> {
        let mut databases = BTreeMap::new();
        for (database, keys) in self.infos().iter().flat_map(|info| &info.keys) {
            *databases.entry(*database).or_default() += keys;
        }
        databases
    }

    /// The INFO of the server, or of each master that owns slots.
    pub(super) fn infos(&self) -> Vec<Info> {
        match &self.cluster {
            None => vec![self.info.clone()],
            Some(cluster) => infos(cluster).into_values().collect(),
        }
    }

    /// The number of keys that have expired since the servers started.
    pub(super) fn expired_keys(&self) -> u64 {
        let infos = self.infos();
        infos.iter().filter_map(|info| info.expired_keys).sum()
    }

    /// The processes that have the keys.
    pub(super) fn runs(&self) -> BTreeSet<Option<Arc<str>>> {
        self.infos().into_iter().map(|info| info.run_id).collect()
    }

    /// `database 0 of 10.0.0.9:6379 (redis 7.0.15)`, `databases 0, 3 of …`.
    pub(super) fn name(&self, request: &SourceRequest) -> String {
        let server = match self.info.version {
            Some(version) => format!(" ({version})"),
            None => String::new(),
        };
        let of = match &self.cluster {
            Some(_) => "the cluster of ",
            None => "",
        };
        let mappings = self.mappings(request);
        let numbers: Vec<String> = mappings.iter().map(|one| one.from.to_string()).collect();
        let databases = match numbers.len() {
            1 => "database",
            _ => "databases",
        };
        format!(
            "{databases} {} of {of}{}{server}",
            numbers.join(", "),
            request.target.addr
        )
    }
}

/// The keys of a database on each master that has any.
pub(super) fn node_keys(
    cluster: &ClusterState,
    database: u32,
    name: impl Fn(&Addr) -> String,
) -> Vec<NodeKeys> {
    let nodes = infos(cluster).into_iter();
    nodes
        .map(|(id, info)| NodeKeys {
            id,
            name: cluster
                .reach
                .get(&id)
                .map_or_else(|| id.short(), |target| name(&target.addr)),
            keys: info.keys_of(database),
        })
        .filter(|node| node.keys > 0)
        .collect()
}

/// The login of the source is not that of the cluster, so its options have other names.
fn source_error(error: ClientError) -> Stop {
    let addr = error.addr.clone();
    let login = "--from-pass-file, --from-askpass or --from-pass, with --from-user, give its own";
    let message = match &error.fault {
        Fault::PasswordNeeded => Some(format!("{addr} needs a password: {login}")),
        Fault::WrongPassword { user } => Some(format!(
            "{addr}: wrong password (user {user}), or that user is disabled: {login}"
        )),
        Fault::MasterDown => Some(format!(
            "{addr} is a replica without a link to its master, and serves no keys then (replica-serve-stale-data no): \
             name its master, or let it serve what it has: CONFIG SET replica-serve-stale-data yes"
        )),
        _ if error.is_unknown_command() => Some(format!(
            "{addr} can't list its keys: it does not know SCAN (Redis before 2.8, or the command is renamed): {error}"
        )),
        _ => None,
    };
    let is_refusal = matches!(
        error.fault,
        Fault::Server { .. }
            | Fault::Loading
            | Fault::NoPermission { .. }
            | Fault::MasterDown
            | Fault::Busy(_)
    );
    let mut stop = match is_refusal {
        true => Stop::refused(error),
        false => Stop::from(error),
    };
    stop.error = message.map_or(stop.error, |message| anyhow!(message));
    stop.error = stop.error.context("the source (--from) can't be read");
    stop
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentinel_is_told_by_its_mode() {
        assert!(is_sentinel(
            "# Server\r\nredis_mode:sentinel\r\nos:Linux\r\n"
        ));
        assert!(is_sentinel("server_mode:sentinel\n"));
        assert!(!is_sentinel(
            "redis_mode:standalone\r\nname:redis_mode:sentinel\r\n"
        ));
    }
}
