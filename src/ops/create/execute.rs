//! Creates the planned cluster, and waits until it is usable.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::Instant;

use super::CreateRequest;
use super::plan::CreatePlan;
use crate::client::Transport;
use crate::cluster::health::{Background, Diagnosis, Severity};
use crate::converge::Watch;
use crate::discover;
use crate::ops::join::Until;
use crate::ops::join::execute::{Execution, StepCounts};
use crate::ops::join::inspect::NewNode;
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
        Ok(Err(error)) => return Err(Stop::partial(explained(&error, plan, &steps))),
        Err(signal) => {
            let error = anyhow!("interrupted ({signal})");
            return Err(Stop::interrupted(explained(&error, plan, &steps)));
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
    watch.agree(&goal).await?;
    if request.until == Until::Agreed {
        return Ok(None);
    }
    watch.usable(&goal).await?;
    let observation = discover::observe(&session.connections, &session.targets()).await?;
    let diagnosis = Diagnosis::of(observation, &Background::default());
    Ok(Some(Box::new(diagnosis)))
}

/// Adds to an error how many steps are done, and how to go on or back.
fn explained(error: &anyhow::Error, plan: &CreatePlan, steps: &StepCounts) -> anyhow::Error {
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
    let undo: Vec<String> = plan.nodes.iter().map(reset_command).collect();
    anyhow!(
        "{error}\n{how_far}; these commands undo them:\n{}",
        undo.join("\n")
    )
}

/// The command line that takes a node out of the cluster.
fn reset_command(node: &NewNode) -> String {
    let target = &node.target;
    let (host, port) = (target.addr.host(), target.addr.port());
    let tls = match target.access.transport {
        Transport::Plain => "",
        Transport::Tls(_) => " --tls",
    };
    let user = match &target.access.login.user {
        Some(user) => format!(" --user {user}"),
        None => String::new(),
    };
    format!("  redis-cli -h {host} -p {port}{tls}{user} CLUSTER RESET")
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
