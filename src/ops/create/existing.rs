//! `--if-needed`, where some of the nodes are not bare: one healthy cluster of all that were named
//! is fine, anything else is named, and nothing is ever made anew over it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::cluster::health::{Background, Code, Diagnosis, Severity};
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::parse::EntryState;
use crate::discover;
use crate::ops::join::inspect::{NewNode, refusal};
use crate::session::Session;
use crate::stop::Stop;
use crate::ui::Ui;

/// Between two looks at a cluster that is on its way.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long all must have lost all others. Nodes that have just been started remember who failed before
/// they were stopped, and take that back with the first answer, a second later.
const SCATTERED_FOR: Duration = Duration::from_secs(5);

/// The cluster that these nodes form, once it is healthy. A cluster whose nodes have all just been
/// started gets its time.
pub(crate) async fn healthy_cluster(
    ui: &Ui,
    session: &Session,
    recruits: &[NewNode],
    within: Duration,
) -> Result<Diagnosis, Stop> {
    let deadline = Instant::now() + within;
    let mut told = String::new();
    let mut scattered_since = None;
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
        scattered_since = match is_scattered(&diagnosis) {
            true => scattered_since.or_else(|| Some(Instant::now())),
            false => None,
        };
        if scattered_since.is_some_and(|since| since.elapsed() >= SCATTERED_FOR) {
            return Err(refusal(&[scattered(session)]));
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
            ui.waiting(&format!("the cluster is not healthy yet: {told}"));
        }
        sleep_until(deadline.min(Instant::now() + LOOK_AGAIN)).await;
    }
}

/// Whether every member has lost all others. Nodes that were all restarted at new addresses know each
/// other at the old ones, and stay so.
fn is_scattered(diagnosis: &Diagnosis) -> bool {
    let mut reports = diagnosis.observation.reports().peekable();
    reports.peek().is_some()
        && reports.all(|(node, report)| {
            let others = report.view.entries().filter(|entry| entry.id != node.id);
            let mut others = others.peekable();
            others.peek().is_some() && others.all(|other| other.state != EntryState::Fine)
        })
}

fn scattered(session: &Session) -> String {
    let seeds = session.seeds.iter();
    let addrs: Vec<String> = seeds.map(|set| set.seed.addr.to_string()).collect();
    format!(
        "the nodes are one cluster, and none of them reaches any other: were they all restarted at new \
         addresses? Then they meet again with: redis-trib fix --rejoin {}",
        addrs.join(" ")
    )
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
fn outsiders(diagnosis: &Diagnosis, recruits: &[NewNode]) -> Vec<String> {
    let observation = &diagnosis.observation;
    let named: BTreeSet<NodeId> = recruits.iter().map(NewNode::id).collect();
    let bystanders: BTreeSet<NodeId> = observation.bystanders.iter().map(|b| b.id).collect();
    let newcomers = || {
        // A new node at the address of an old one is taken for that one before it is asked.
        let new = |recruit: &&NewNode| bystanders.contains(&recruit.id()) || recruit.is_bare();
        recruits.iter().filter(new)
    };
    let mut unnamed = Vec::new();
    let mut ghosts = Vec::new();
    for node in observation
        .nodes
        .values()
        .filter(|node| !named.contains(&node.id))
    {
        // Members strike out the address at which a node with another id answers.
        let addrs: Vec<&Addr> = [&node.dial, &node.peer].into_iter().flatten().collect();
        let replaced = newcomers().any(|new| addrs.iter().any(|addr| new.is_at(addr)));
        if addrs.is_empty() || replaced {
            ghosts.push(node.id);
        } else {
            unnamed.push(format!("{node} is a member too, but was not named"));
        }
    }
    let lead = observation.lead().and_then(|node| node.addr());
    let lead = lead.map_or_else(|| "NODE".to_string(), ToString::to_string);
    let newcomers: Vec<&NewNode> = newcomers().collect();
    if newcomers.is_empty() {
        let ghosts = ghosts.iter().map(|id| {
            let short = id.short();
            format!("{short} is known as a member too, without an address: redis-trib del-node {lead} {id}")
        });
        return unnamed.into_iter().chain(ghosts).collect();
    }
    let told = newcomers.into_iter().map(|new| {
        let (name, addr) = (new.name(), &new.target.addr);
        if ghosts.is_empty() {
            return format!("{name} is in no cluster, while others are");
        }
        let short: Vec<String> = ghosts.iter().map(|id| id.short()).collect();
        let long: Vec<String> = ghosts.iter().map(ToString::to_string).collect();
        format!(
            "{name} is empty and in no cluster, while the others miss {}: did {addr} lose its volume \
             (nodes.conf)? Then it can be added anew after: redis-trib del-node {lead} {}",
            short.join(", "),
            long.join(" ")
        )
    });
    unnamed.into_iter().chain(told).collect()
}
