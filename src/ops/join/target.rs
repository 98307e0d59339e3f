//! The cluster that nodes join: its health, its rules, and what its nodes have.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client::{Libraries, LoginOutcome};
use crate::cluster::health::{Code, Diagnosis, Finding, Severity};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::{Product, Version};
use crate::cluster::topology::Member;
use crate::connections::Target;
use crate::ops::join::inspect::Rules;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::ui::Ui;

/// How long a master may take to serve after it has joined: min(cluster-node-timeout, 5 s), and some
/// to spare.
const SERVES_WITHIN: Duration = Duration::from_secs(8);

/// Between two looks at a cluster that is on its way.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// A healthy cluster that nodes may join.
pub(crate) struct JoinTarget {
    pub(crate) cluster: ClusterState,
    /// Whether its nodes want a password.
    pub(super) rules: Rules,
    /// Its functions, as a master of slots has them; `None` where they are not known.
    pub(super) libraries: Option<Libraries>,
    /// The master that has them.
    pub(super) function_source: Option<Target>,
    /// Its users, as one member has them, and who that is.
    pub(super) users: Option<(String, BTreeSet<String>)>,
}

impl JoinTarget {
    /// Looks at the cluster; refuses one that is not healthy. Nodes that are in no cluster yet are
    /// fine: a name may stand for members and candidates. Masters that have just joined get their time.
    pub(crate) async fn visit(session: &Session, ui: &Ui) -> Result<Self, Stop> {
        let deadline = Instant::now() + SERVES_WITHIN;
        let cluster = loop {
            let cluster = ClusterState::settled(session).await?;
            let errors = errors(&cluster.diagnosis);
            if errors.is_empty() {
                break cluster;
            }
            let are_new = errors
                .iter()
                .all(|finding| is_about_newcomers(&cluster.diagnosis, finding));
            if !are_new || Instant::now() >= deadline {
                let errors = errors
                    .iter()
                    .map(|finding| format!("\n  {}: {}", finding.code, finding.message));
                return Err(Stop::refused(anyhow!(
                    "nodes join, leave and take over in healthy clusters only; nothing was \
                     changed:{}",
                    errors.collect::<String>()
                )));
            }
            ui.waiting("a master that has just joined says cluster_state:fail for up to 5 s");
            sleep(LOOK_AGAIN).await;
        };
        let diagnosis = &cluster.diagnosis;
        let rules = rules(session, &cluster).await;
        let owner = diagnosis
            .topology
            .masters()
            .find(|master| !master.slots.is_empty())
            .map(|master| master.id);
        let function_source = owner.and_then(|id| cluster.reach.get(&id).cloned());
        let mut home = Self {
            cluster,
            rules,
            libraries: None,
            function_source,
            users: None,
        };
        if let (Some(id), Some(target)) = (owner, &home.function_source) {
            let client = session.connections.client(target).await?;
            home.libraries = client.function_list().await?;
            let users = client.acl_users().await?;
            let name = home.cluster.name(id);
            home.users = users.map(|users| (name, users.into_iter().collect()));
        }
        Ok(home)
    }

    /// The member of that id.
    pub(crate) fn member(&self, id: NodeId) -> Option<&Member> {
        self.cluster.diagnosis.topology.members.get(&id)
    }

    /// The newest server of that make among the members, and who runs it.
    pub(super) fn newest(&self, product: Product) -> Option<(Version, String)> {
        let reports = self.cluster.diagnosis.observation.reports();
        reports
            .filter_map(|(node, report)| Some((report.info.version?, node)))
            .filter(|(version, _)| version.product == product)
            .max_by_key(|(version, _)| *version)
            .map(|(version, node)| (version, node.to_string()))
    }

    /// All members that answer.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let reports = self.cluster.diagnosis.observation.reports();
        reports
            .filter_map(|(node, _)| self.cluster.reach.get(&node.id).cloned())
            .collect()
    }
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

/// Whether it is only that masters without slots do not serve yet.
fn is_about_newcomers(diagnosis: &Diagnosis, finding: &Finding) -> bool {
    let owns_nothing = |id: &NodeId| {
        let member = diagnosis.topology.members.get(id);
        member.is_some_and(|member| member.role == Role::Master && member.slots.is_empty())
    };
    finding.code == Code::StateNotOk && finding.nodes.iter().all(owns_nothing)
}

/// What the members say to our password.
async fn rules(session: &Session, cluster: &ClusterState) -> Rules {
    let mut asking = JoinSet::new();
    for (node, _) in cluster.diagnosis.observation.reports() {
        let Some(target) = cluster.reach.get(&node.id).cloned() else {
            continue;
        };
        let connections = Arc::clone(&session.connections);
        asking.spawn(async move {
            let client = connections.client(&target).await;
            client.map_or(LoginOutcome::NotTried, |client| client.login_outcome())
        });
    }
    Rules::of(asking.join_all().await)
}
