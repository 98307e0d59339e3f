//! `--if-needed`, where some of the nodes are not bare: one healthy cluster of all that were named
//! is fine, anything else is named, and nothing is ever made anew over it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::recruit::{Recruit, refusal};
use crate::cluster::health::{Background, Code, Diagnosis, Severity};
use crate::cluster::node::NodeId;
use crate::cluster::observation::ObservedNode;
use crate::commands::Stop;
use crate::commands::session::Session;
use crate::discover;
use crate::ui::Ui;

/// Between two looks at a cluster that is on its way.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The cluster that these nodes form, once it is healthy. A cluster whose nodes have all just been
/// started gets its time.
pub(super) async fn healthy_cluster(
    ui: &Ui,
    session: &Session,
    recruits: &[Recruit],
    within: Duration,
) -> Result<Diagnosis, Stop> {
    let deadline = Instant::now() + within;
    let mut told = String::new();
    loop {
        let observation = discover::observe(&session.connections, &session.targets()).await?;
        let diagnosis = Diagnosis::of(observation, &Background::default());
        let outsiders = outsiders(&diagnosis, recruits);
        if !outsiders.is_empty() {
            return Err(refusal(&outsiders));
        }
        if diagnosis.is_healthy() {
            return Ok(diagnosis);
        }
        let errors = || {
            let findings = diagnosis.findings.iter();
            findings.filter(|finding| finding.severity() == Severity::Error)
        };
        if !errors().all(|finding| may_heal(finding.code)) || Instant::now() >= deadline {
            let mut problems =
                vec!["the nodes form a cluster already, but not a healthy one".into()];
            problems
                .extend(errors().map(|finding| format!("{}: {}", finding.code, finding.message)));
            return Err(refusal(&problems));
        }
        if let Some(first) = errors().next()
            && first.message != told
        {
            told.clone_from(&first.message);
            ui.waiting(&format!("waiting for the cluster to be healthy: {told}"));
        }
        sleep_until(deadline.min(Instant::now() + LOOK_AGAIN)).await;
    }
}

/// What nodes that have just been started get over by themselves.
fn may_heal(code: Code) -> bool {
    matches!(
        code,
        Code::StateNotOk
            | Code::NodeFailed
            | Code::NodeLoading
            | Code::NodeForgotten
            | Code::ReplicaLinkDown
            | Code::ViewsDiffer
    )
}

/// Who is named and no member, or a member and not named.
fn outsiders(diagnosis: &Diagnosis, recruits: &[Recruit]) -> Vec<String> {
    let observation = &diagnosis.observation;
    let named: BTreeSet<NodeId> = recruits.iter().map(Recruit::id).collect();
    let mut reported = BTreeSet::new();
    let mut outsiders = Vec::new();
    let unnamed = observation.nodes.values();
    for node in unnamed.filter(|node| !named.contains(&node.id)) {
        match recruits.iter().find(|recruit| is_there(node, recruit)) {
            Some(recruit) => {
                reported.insert(recruit.id());
                let (old, addr) = (node.id.short(), &recruit.target.addr);
                outsiders.push(format!(
                    "{} is empty and in no cluster, where the others know node {old}: did {addr} lose \
                     its volume (nodes.conf)? CLUSTER FORGET {} on every member lets it be added anew",
                    recruit.name(),
                    node.id,
                ));
            }
            None => outsiders.push(format!("{node} is a member too, but was not named")),
        }
    }
    let strangers = observation.bystanders.iter();
    outsiders.extend(
        strangers
            .filter(|stranger| !reported.contains(&stranger.id))
            .map(|stranger| {
                let id = stranger.id.short();
                format!(
                    "{} ({id}) is in no cluster, while others are",
                    stranger.dial
                )
            }),
    );
    outsiders
}

/// Whether another node than the one that the members know now answers at its address.
fn is_there(node: &ObservedNode, recruit: &Recruit) -> bool {
    let mut addrs = [&node.dial, &node.peer].into_iter().flatten();
    recruit.is_bare() && addrs.any(|addr| recruit.is_at(addr))
}
