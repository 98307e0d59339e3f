//! `create --if-needed` on nodes that are not all empty: a healthy cluster of exactly the named nodes is success.
//! Anything else is an error; no cluster is created over it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::health::{Background, Code, Diagnosis, Finding, Severity};
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::parse::EntryState;
use crate::converge::poll::{Poll, Polled};
use crate::discover;
use crate::ops::join::inspect::{NewNode, refusal};
use crate::session::Session;
use crate::stop::Stop;

/// The pause between two reads of a cluster that is not healthy yet.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// How long each node must have lost all others before that is an error. Nodes that have just been restarted still
/// remember which nodes were failed; the first reply of those nodes, a second later, corrects it.
const SCATTERED_FOR: Duration = Duration::from_secs(5);

/// Returns the cluster of these nodes when it is healthy. Waits for nodes that have just been started.
pub(super) async fn healthy_cluster(
    session: &Session,
    nodes: &[NewNode],
    within: Duration,
) -> Result<Diagnosis, Stop> {
    let mut reported = String::new();
    let mut scattered_since = None;
    let poll = Poll::every(RETRY_INTERVAL, within);
    let polled = poll.until(async || {
        let (connections, seeds) = (&session.connections, session.targets());
        let mut found = discover::examine(connections, &seeds).await?;
        let mut background = Background::default();
        if let Some((last, missing_links)) =
            discover::lasting_to_owners(connections, &seeds, &found).await?
        {
            found = last;
            background.missing_links = missing_links;
        }
        let diagnosis = Diagnosis::of(found.observation, &background);
        let outsiders = outsiders(&diagnosis, nodes);
        if !outsiders.is_empty() {
            return Err(refusal(&outsiders));
        }
        if diagnosis.is_healthy() {
            return Ok(Polled::Met(diagnosis));
        }
        scattered_since = match is_scattered(&diagnosis) {
            true => scattered_since.or_else(|| Some(Instant::now())),
            false => None,
        };
        if scattered_since.is_some_and(|since| since.elapsed() >= SCATTERED_FOR) {
            return Err(refusal(&[scattered(session)]));
        }
        if !errors(&diagnosis).all(|finding| is_transient(finding.code)) || poll.is_over() {
            return Err(unhealthy(&diagnosis));
        }
        if let Some(first) = errors(&diagnosis).next()
            && first.message != reported
        {
            reported.clone_from(&first.message);
            let events = &session.events;
            events.waiting(format!("the cluster is not healthy yet: {reported}"));
        }
        Ok(Polled::Missing(diagnosis))
    });
    match polled.await? {
        Polled::Met(diagnosis) => Ok(diagnosis),
        Polled::Missing(diagnosis) => Err(unhealthy(&diagnosis)),
    }
}

fn errors(diagnosis: &Diagnosis) -> impl Iterator<Item = &Finding> {
    let findings = diagnosis.findings.iter();
    findings.filter(|finding| finding.severity() == Severity::Error)
}

fn unhealthy(diagnosis: &Diagnosis) -> Stop {
    let mut problems = vec!["the nodes form a cluster already, but not a healthy one".into()];
    problems
        .extend(errors(diagnosis).map(|finding| format!("{}: {}", finding.code, finding.message)));
    refusal(&problems)
}

/// Whether every member has lost all others. Nodes that were all restarted at new addresses know each other by the
/// old ones, and do not recover by themselves.
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
        "the nodes form one cluster, but none of them reaches another. If all were restarted at new \
         addresses, this makes them meet again: redis-trib fix --rejoin {}",
        addrs.join(" ")
    )
}

/// Whether nodes that have just been started recover from it by themselves.
fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::StateNotOk
            | Code::NodeFailed
            | Code::NodeBusy
            | Code::NodeLoading
            | Code::SlotlessLoading
            | Code::NodeForgotten
            | Code::ReplicaLinkDown
            | Code::OwnerUnlinked
            | Code::ViewsDiffer
    )
}

/// Returns messages about nodes that are named but not members, or members but not named.
fn outsiders(diagnosis: &Diagnosis, nodes: &[NewNode]) -> Vec<String> {
    let observation = &diagnosis.observation;
    let named: BTreeSet<NodeId> = nodes.iter().map(NewNode::id).collect();
    let bystanders: BTreeSet<NodeId> = observation.bystanders.iter().map(|b| b.id).collect();
    let new_nodes = || {
        // Until it is asked, a new node at the address of a former member is taken for that member.
        let is_new = |node: &&NewNode| bystanders.contains(&node.id()) || node.is_bare();
        nodes.iter().filter(is_new)
    };
    let mut unnamed = Vec::new();
    let mut missing = Vec::new();
    for node in observation
        .nodes
        .values()
        .filter(|node| !named.contains(&node.id))
    {
        // Members clear the address at which a node with another id answers.
        let addrs: Vec<&Addr> = [&node.dial, &node.peer].into_iter().flatten().collect();
        let replaced = new_nodes().any(|new| addrs.iter().any(|addr| new.is_at(addr)));
        if addrs.is_empty() || replaced {
            missing.push(node.id);
        } else {
            unnamed.push(format!("{node} is a member too, but was not named"));
        }
    }
    let lead = observation.lead().and_then(|node| node.addr());
    let lead = lead.map_or_else(|| "NODE".to_string(), ToString::to_string);
    let new_nodes: Vec<&NewNode> = new_nodes().collect();
    if new_nodes.is_empty() {
        let missing = missing.iter().map(|id| {
            let short = id.short();
            format!("{short} is a member too, without an address: redis-trib del-node {lead} {id}")
        });
        return unnamed.into_iter().chain(missing).collect();
    }
    let messages = new_nodes.into_iter().map(|new| {
        let (name, addr) = (new.name(), &new.target.addr);
        if missing.is_empty() {
            return format!("{name} is in no cluster, but others are");
        }
        let short: Vec<String> = missing.iter().map(|id| id.short()).collect();
        let long: Vec<String> = missing.iter().map(ToString::to_string).collect();
        format!(
            "{name} is empty and in no cluster, and the cluster misses {}. If {addr} lost its volume \
             (nodes.conf), it can be added again after: redis-trib del-node {lead} {}",
            short.join(", "),
            long.join(" ")
        )
    });
    unnamed.into_iter().chain(messages).collect()
}
