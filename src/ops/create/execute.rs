//! Creates the planned cluster, and waits until it is usable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, timeout};

use super::CreateRequest;
use super::plan::CreatePlan;
use crate::cluster::health::{Diagnosis, Severity};
use crate::cluster::node::NodeId;
use crate::cluster::observation::Report;
use crate::cluster::parse::{EntryPool, EntryState};
use crate::cluster::slot::SlotSet;
use crate::converge::settle::{is_error, settled};
use crate::converge::{Watch, warn_of_copies};
use crate::discover;
use crate::ops::join::Until;
use crate::ops::join::execute::{Execution, StepCounts};
use crate::ops::join::inspect::NewNode;
use crate::ops::join::links;
use crate::session::Session;
use crate::stop::Stop;

/// What was created.
pub(crate) struct Created {
    /// Whether anything was changed; an earlier run may have done it all.
    pub(crate) changed: bool,
    pub(crate) took: Duration,
    /// The healthy cluster; `None` without a wait for that.
    pub(crate) diagnosis: Option<Box<Diagnosis>>,
}

/// Creates the cluster, until the first signal. An error says how many steps are done, and how to go on or back.
pub(crate) async fn execute(
    session: &Session,
    plan: &CreatePlan,
    request: &CreateRequest,
) -> Result<Created, Stop> {
    let steps = Arc::new(StepCounts::default());
    let started = Instant::now();
    let work = create(session, plan, request, &steps);
    let diagnosis = match session.interrupt.stops(work).await {
        Ok(Ok(diagnosis)) => diagnosis,
        Ok(Err(error)) => {
            let error = explained(session, &error, plan, &steps).await;
            return Err(Stop::partial(error));
        }
        Err(signal) => {
            let error = anyhow!("interrupted ({signal})");
            let error = explained(session, &error, plan, &steps).await;
            return Err(Stop::interrupted(error));
        }
    };
    if let Some(diagnosis) = &diagnosis
        && !diagnosis.is_healthy()
    {
        return Err(unhealthy(diagnosis));
    }
    Ok(Created {
        changed: steps.has_begun(),
        took: started.elapsed(),
        diagnosis,
    })
}

async fn create(
    session: &Session,
    plan: &CreatePlan,
    request: &CreateRequest,
    steps: &Arc<StepCounts>,
) -> anyhow::Result<Option<Box<Diagnosis>>> {
    let connections = Arc::clone(&session.connections);
    // A node without an address for the others was refused.
    let participants = plan.nodes.iter().filter_map(NewNode::participant);
    let participants = Arc::new(
        participants
            .map(|participant| (participant.id, participant))
            .collect(),
    );
    let goal = Arc::new(plan.goal());
    let watch = Watch::new(
        Arc::clone(&connections),
        Arc::clone(&participants),
        BTreeSet::new(),
        session.events.sender(),
        request.within,
    );
    let execution = Execution {
        connections,
        participants,
        absent: Arc::default(),
        events: session.events.sender(),
        tally: Arc::clone(steps),
    };
    let (joining, replicating) = plan.progress.rest.split_at_replicas();
    execution.run(&joining).await?;
    watch.join().await?;
    execution.run(&replicating).await?;
    let masters = goal.masters.values().copied();
    watch.with_streams_of(masters, watch.agree(&goal)).await?;
    if request.until == Until::Usable {
        warn_of_copies(session, &watch.usable(&goal).await?);
    }
    // Links that were up once may be lost with the first messages that show a node's address to another one.
    links::verify(session, &session.targets(), &plan.nodes, &[]).await?;
    if request.until == Until::Agreed {
        return Ok(None);
    }
    let state = settled(session, |_, finding| is_error(finding)).await;
    let state = state.map_err(|stop| stop.error)?;
    Ok(Some(Box::new(state.diagnosis)))
}

/// Adds to an error how many steps are done, and how to go on or back.
async fn explained(
    session: &Session,
    error: &anyhow::Error,
    plan: &CreatePlan,
    steps: &StepCounts,
) -> anyhow::Error {
    let before = plan.progress.done;
    let left = plan.progress.rest.len();
    if before == 0 && !steps.has_begun() {
        return anyhow!("{error}\nNothing was changed.");
    }
    let (done, all) = (before + steps.done(), before + left);
    let unknown = match steps.unknown() {
        0 => String::new(),
        1 => ", one more may be".to_string(),
        many => format!(", {many} more may be"),
    };
    let how_far = if done < all {
        format!("{done} of {all} steps are done{unknown}. The same command again finishes the work")
    } else {
        format!("All {all} steps are done. The same command again waits for what is missing")
    };
    let is_ours = match made(session, plan).await {
        Made::Part => true,
        // Another run would have found nothing left to do here.
        Made::Whole => before == 0 && steps.done() == all,
        Made::Unknown => false,
    };
    if !is_ours {
        return anyhow!("{error}\n{how_far}");
    }
    let undo = plan.nodes.iter().map(|node| {
        let line = session.resume.redis_cli(&node.target.addr, "CLUSTER RESET");
        format!("  {line}")
    });
    anyhow!(
        "{error}\n{how_far}; these commands undo them:\n{}",
        undo.collect::<Vec<_>>().join("\n")
    )
}

/// What the nodes are now.
enum Made {
    /// A part of the plan.
    Part,
    /// The whole plan: a cluster that says that it serves, without keys.
    Whole,
    /// Something else, or nodes that do not answer.
    Unknown,
}

/// Returns whether the nodes are still what this run can have made of them. Where CLIENT is denied there is no lock, and
/// another redis-trib may have made a cluster of them meanwhile, which CLUSTER RESET would destroy.
async fn made(session: &Session, plan: &CreatePlan) -> Made {
    /// How long the look may take.
    const WITHIN: Duration = Duration::from_secs(10);
    // Each by itself: half-way they are several clusters.
    let targets = session.targets();
    let looking = discover::look_at_all(&session.connections, &targets);
    let Ok(looks) = timeout(WITHIN, looking).await else {
        return Made::Unknown;
    };
    let mut pool = EntryPool::default();
    let answers = looks.iter().filter_map(|(_, look)| look.as_ref().ok());
    let reports = answers.map(|looked| discover::read(&mut pool, &looked.raw));
    let Ok(reports) = reports.collect::<Result<Vec<Report>, _>>() else {
        return Made::Unknown;
    };
    let mut goal = plan.goal().slots;
    let planned: BTreeMap<NodeId, SlotSet> = plan
        .nodes
        .iter()
        .map(|node| {
            let slots = goal.remove(&node.id()).unwrap_or_default();
            (node.id(), slots.into_iter().collect())
        })
        .collect();
    let is_ours = |report: &Report| {
        let myself = report.view.myself();
        let owned: SlotSet = myself.slots.iter().copied().collect();
        report.info.total_keys() == 0
            && report.view.entries().all(|entry| {
                // The id of a handshake is not that of the node.
                entry.state == EntryState::Handshake || planned.contains_key(&entry.id)
            })
            && planned
                .get(&myself.id)
                .is_some_and(|slots| owned.difference(slots).is_empty())
    };
    match (
        reports.iter().all(is_ours),
        reports.iter().all(|report| report.cluster.ok),
    ) {
        (true, false) => Made::Part,
        (true, true) => Made::Whole,
        (false, _) => Made::Unknown,
    }
}

fn unhealthy(diagnosis: &Diagnosis) -> Stop {
    let errors: Vec<String> = diagnosis
        .findings
        .iter()
        .filter(|finding| finding.severity() == Severity::Error)
        .map(|finding| format!("\n  {}: {}", finding.code, finding.message))
        .collect();
    Stop::partial(anyhow!(
        "the cluster was created, but is not healthy:{}",
        errors.concat()
    ))
}
