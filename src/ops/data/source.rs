//! The source of keys: a standalone server, or a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, sleep};

use super::{cluster_faults, infos};
use crate::client::{ClientError, Fault, NodeClient};
use crate::cluster::node::NodeId;
use crate::cluster::parse::Info;
use crate::connections::Target;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::transfer::{Keyspace, ReadFrom, SlotOwners, SourcePart};

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
}

/// Databases of a source.
#[derive(Clone)]
pub(crate) enum Databases {
    /// All that have keys, into database 0, with prefixes for some.
    All(BTreeMap<u32, Vec<u8>>),
    /// These.
    Some(Vec<DatabaseMapping>),
}

/// A database of a source, and where its keys go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatabaseMapping {
    /// The database of the source.
    pub(crate) from: u32,
    /// The database of the cluster.
    pub(crate) into: u32,
    /// What the names of its keys get in front; often nothing.
    pub(crate) prefix: Vec<u8>,
}

/// A source, as it was observed.
pub(crate) struct SourceState {
    /// The INFO of the named node.
    pub(crate) info: Info,
    /// The cluster, if the node is a member of one.
    pub(crate) cluster: Option<ClusterState>,
}

impl SourceRequest {
    /// The session for the source; `session` is that of the command.
    fn session<'a>(&'a self, session: &'a Session) -> &'a Session {
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
    select_and_scan(&client, request).await?;
    let cluster = match info.cluster_enabled {
        Some(true) => Some(observe_cluster(session, &request.target).await?),
        _ => None,
    };
    Ok(SourceState { info, cluster })
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
        match &request.databases {
            Databases::Some(mappings) => mappings.clone(),
            Databases::All(prefixes) => {
                let databases = self.databases().into_keys();
                let mapping = |from| DatabaseMapping {
                    from,
                    into: 0,
                    prefix: prefixes.get(&from).cloned().unwrap_or_default(),
                };
                databases.map(mapping).collect()
            }
        }
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
        let part = |mapping: DatabaseMapping| SourcePart {
            source: match &owners {
                None => Keyspace::of_server(target.clone(), Arc::clone(connections), mapping.from),
                Some(owners) => {
                    Keyspace::of_cluster(Arc::clone(owners), request.read_from, mapping.from)
                }
            },
            into: mapping.into,
            prefix: mapping.prefix,
        };
        Ok(self.mappings(request).into_iter().map(part).collect())
    }

    /// The number of keys that are read.
    pub(super) fn keys(&self, request: &SourceRequest) -> u64 {
        let databases = self.databases();
        let mappings = self.mappings(request).into_iter();
        mappings
            .filter_map(|mapping| databases.get(&mapping.from))
            .sum()
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
