//! The cluster that nodes join: its health, and what its nodes have in common.

use std::collections::BTreeSet;

use anyhow::anyhow;

use super::inspect::PasswordPolicy;
use crate::client::{Libraries, LoginOutcome};
use crate::cluster::functions::{describe, differences, most_common};
use crate::cluster::health::{Code, Diagnosis, Finding};
use crate::cluster::node::NodeId;
use crate::cluster::parse::{Product, Version};
use crate::cluster::topology::Member;
use crate::connections::Target;
use crate::converge::settle::settled_with_links;
use crate::ops::functions;
use crate::ops::raft::{self, Obstacle};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;

/// A healthy cluster that nodes may join.
pub(crate) struct JoinTarget {
    pub(crate) cluster: ClusterState,
    /// Whether its nodes require a password.
    pub(super) password: PasswordPolicy,
    /// The function libraries that new masters get; `None` if they are not known.
    pub(super) libraries: Option<Libraries>,
    /// The master that has them.
    pub(super) function_source: Option<Target>,
    /// That masters differ in their functions, and which of them is the source.
    pub(super) functions_differ: Option<String>,
    /// The name of a member, and its ACL users.
    pub(super) users: Option<(String, BTreeSet<String>)>,
}

impl JoinTarget {
    /// Reads the cluster, and refuses one that is not healthy. Seeds that are in no cluster are no error: a name may
    /// stand for members and for new nodes. Waits for errors that normally pass.
    pub(crate) async fn visit(session: &Session) -> Result<Self, Stop> {
        Self::visit_without(session, None).await
    }

    /// The same for a command that replaces the member with that name: its faults are not waited for.
    pub(crate) async fn visit_without(
        session: &Session,
        replaced: Option<&str>,
    ) -> Result<Self, Stop> {
        let cluster = healthy(session, replaced).await?;
        raft::refuse(&cluster, Obstacle::Meets)?;
        let password = password_policy(session, &cluster).await;
        let diagnosis = &cluster.diagnosis;
        let owners = diagnosis.topology.masters().filter(|m| !m.slots.is_empty());
        let owners: Vec<NodeId> = owners.map(|master| master.id).collect();
        let target_of = |node: &_| cluster.target_of(node);
        let connections = &session.connections;
        let functions = functions::read(connections, diagnosis, owners.clone(), target_of).await;
        let owner = most_common(&functions).or(owners.first().copied());
        let function_source = owner.and_then(|id| cluster.reach.get(&id).cloned());
        let functions_differ = owner.and_then(|source| {
            let differences = differences(&functions);
            let what = describe(&differences, |id| cluster.name(*id));
            (!differences.is_empty()).then(|| {
                format!(
                    "function libraries differ between masters: {what}. New masters get those of {}",
                    cluster.name(source)
                )
            })
        });
        let mut target = Self {
            cluster,
            password,
            libraries: None,
            function_source,
            functions_differ,
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
        self.cluster.members()
    }
}

/// Reads the cluster once errors that normally pass have passed.
async fn healthy(session: &Session, replaced: Option<&str>) -> Result<ClusterState, Stop> {
    let cluster = settled_with_links(session, |cluster, finding| {
        let observation = &cluster.diagnosis.observation;
        let replaced = replaced.and_then(|name| observation.find(name).ok());
        let is_fault = replaced.is_some_and(|id| finding.nodes == [id]);
        is_obstacle(&cluster.diagnosis, finding) && !is_fault
    })
    .await?;
    let mut errors = errors(&cluster.diagnosis);
    // A run that was killed has made some members forget it.
    let has_left = replaced.and_then(|name| leaving_without_slots(&cluster.diagnosis, name));
    errors.retain(|finding| {
        finding.code != Code::NodeForgotten || has_left.is_none_or(|id| finding.nodes != [id])
    });
    if errors.is_empty() {
        return Ok(cluster);
    }
    session.refuse_if_at_work(&cluster.answering()).await?;
    Err(unhealthy(&errors))
}

/// The member with that name, if it owns no slots.
fn leaving_without_slots(diagnosis: &Diagnosis, name: &str) -> Option<NodeId> {
    let id = diagnosis.observation.find(name).ok()?;
    let member = diagnosis.topology.members.get(&id)?;
    member.slots.is_empty().then_some(id)
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
    let findings = diagnosis.findings.iter();
    findings.filter(|f| is_obstacle(diagnosis, f)).collect()
}

/// Whether no node may join while there is this finding. Seeds that are in no cluster are no error.
fn is_obstacle(diagnosis: &Diagnosis, finding: &Finding) -> bool {
    let lead = diagnosis.observation.lead;
    finding.blocks_changes()
        && (finding.code != Code::SeedNotMember || finding.nodes.contains(&lead))
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
