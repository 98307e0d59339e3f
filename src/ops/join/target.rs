//! The cluster that nodes join: its health, and what its nodes have in common.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::anyhow;

use super::inspect::PasswordPolicy;
use crate::client::{Libraries, LoginOutcome};
use crate::cluster::health::{Code, Diagnosis, Finding, Severity};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::{Product, Version};
use crate::cluster::topology::Member;
use crate::connections::Target;
use crate::converge::poll::{Poll, Polled};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;

/// How long a new master may report `cluster_state:fail`: min(cluster-node-timeout, 5 s), and a margin.
const NEW_MASTER_TIMEOUT: Duration = Duration::from_secs(8);

/// The pause between two reads of a cluster with such a master.
const RETRY_INTERVAL: Duration = Duration::from_millis(300);

/// A healthy cluster that nodes may join.
pub(crate) struct JoinTarget {
    pub(crate) cluster: ClusterState,
    /// Whether its nodes require a password.
    pub(super) password: PasswordPolicy,
    /// The function libraries of a master with slots; `None` if they are not known.
    pub(super) libraries: Option<Libraries>,
    /// The master that has them.
    pub(super) function_source: Option<Target>,
    /// The name of a member, and its ACL users.
    pub(super) users: Option<(String, BTreeSet<String>)>,
}

impl JoinTarget {
    /// Reads the cluster, and refuses one that is not healthy. Seeds that are in no cluster are no error: a name may
    /// stand for members and for new nodes. Waits for masters that have just joined.
    pub(crate) async fn visit(session: &Session) -> Result<Self, Stop> {
        let cluster = healthy(session).await?;
        let password = password_policy(session, &cluster).await;
        let owner = cluster
            .diagnosis
            .topology
            .masters()
            .find(|master| !master.slots.is_empty())
            .map(|master| master.id);
        let function_source = owner.and_then(|id| cluster.reach.get(&id).cloned());
        let mut target = Self {
            cluster,
            password,
            libraries: None,
            function_source,
            users: None,
        };
        if let (Some(id), Some(source)) = (owner, &target.function_source) {
            let client = session.connections.client(source).await?;
            target.libraries = client.function_list().await?;
            let users = client.acl_users().await?;
            let name = target.cluster.name(id);
            target.users = users.map(|users| (name, users.into_iter().collect()));
        }
        Ok(target)
    }

    /// Returns the member with that id.
    pub(crate) fn member(&self, id: NodeId) -> Option<&Member> {
        self.cluster.diagnosis.topology.members.get(&id)
    }

    /// Returns the newest version of that product among the members, and a member that runs it.
    pub(super) fn newest(&self, product: Product) -> Option<(Version, String)> {
        let reports = self.cluster.diagnosis.observation.reports();
        reports
            .filter_map(|(node, report)| Some((report.info.version?, node)))
            .filter(|(version, _)| version.product == product)
            .max_by_key(|(version, _)| *version)
            .map(|(version, node)| (version, node.to_string()))
    }

    /// Returns all members that answer.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let reports = self.cluster.diagnosis.observation.reports();
        reports
            .filter_map(|(node, _)| self.cluster.reach.get(&node.id).cloned())
            .collect()
    }
}

/// Reads the cluster until it is healthy, as long as only new masters are missing for that.
async fn healthy(session: &Session) -> Result<ClusterState, Stop> {
    let poll = Poll::every(RETRY_INTERVAL, NEW_MASTER_TIMEOUT);
    let polled = poll.until(async || {
        let cluster = ClusterState::settled(session).await?;
        let errors = errors(&cluster.diagnosis);
        if errors.is_empty() {
            return Ok(Polled::Met(cluster));
        }
        let only_new_masters = errors
            .iter()
            .all(|finding| is_about_new_masters(&cluster.diagnosis, finding));
        if !only_new_masters || poll.is_over() {
            return Err(unhealthy(&errors));
        }
        session
            .events
            .waiting("a new master reports cluster_state:fail for up to 5 s after it joins");
        Ok(Polled::Missing(unhealthy(&errors)))
    });
    match polled.await? {
        Polled::Met(cluster) => Ok(cluster),
        Polled::Missing(refusal) => Err(refusal),
    }
}

fn unhealthy(errors: &[&Finding]) -> Stop {
    let errors = errors
        .iter()
        .map(|finding| format!("\n  {}: {}", finding.code, finding.message));
    Stop::refused(anyhow!(
        "the cluster is not healthy, and nodes join, leave and fail over in healthy clusters only; \
         nothing was changed:{}",
        errors.collect::<String>()
    ))
}

fn errors(diagnosis: &Diagnosis) -> Vec<&Finding> {
    let lead = diagnosis.observation.lead;
    diagnosis
        .findings
        .iter()
        .filter(|finding| finding.severity() == Severity::Error)
        .filter(|finding| finding.code != Code::SeedNotMember || finding.nodes.contains(&lead))
        .collect()
}

/// Whether the finding only says that masters without slots do not report `cluster_state:ok` yet.
fn is_about_new_masters(diagnosis: &Diagnosis, finding: &Finding) -> bool {
    let owns_nothing = |id: &NodeId| {
        let member = diagnosis.topology.members.get(id);
        member.is_some_and(|member| member.role == Role::Master && member.slots.is_empty())
    };
    finding.code == Code::StateNotOk && finding.nodes.iter().all(owns_nothing)
}

async fn password_policy(session: &Session, cluster: &ClusterState) -> PasswordPolicy {
    let reports = cluster.diagnosis.observation.reports();
    let targets: Vec<Target> = reports
        .filter_map(|(node, _)| cluster.reach.get(&node.id).cloned())
        .collect();
    let reading = session
        .connections
        .fan_out(targets, |connections, target| async move {
            let client = connections.client(&target).await;
            client.map_or(LoginOutcome::NotTried, |client| client.login_outcome())
        });
    PasswordPolicy::of(reading.await)
}
