//! Keeps nodes in a cluster that forgot them less than a minute ago.
//!
//! A member that got CLUSTER FORGET remembers the node for 60 s. From Redis 7.2 and Valkey 8.0 on, members tell each other
//! which nodes they have forgotten, with each ping, and a member that is told so forgets the node, too. A node that is met
//! again within that minute is lost again a second later. Seen on Redis 7.4 to 8.10 and Valkey 8.0 to 9.1.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::candidates::JoinCandidate;
use super::plan::JoinPlan;
use crate::cluster::node::NodeId;
use crate::cluster::parse::Product;
use crate::converge::{Watch, known};
use crate::report::Before;
use crate::session::Session;

/// How long all members must know the nodes. Each member sends a ping at least once a second to one of the others.
const STEADY: Duration = Duration::from_secs(3);

/// How many looks in a row must find all nodes, besides. A look at a member that is suspended may take as long as
/// [`STEADY`]. Only after it does the member read the pings that tell it to forget the nodes.
const LOOKS: usize = 6;

/// How long the nodes may be lost again beyond the timeout of the join: that one may be as long as a member remembers.
const MARGIN: Duration = Duration::from_secs(8);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// The nodes that may be ones that this cluster has forgotten: a node that was never in any cluster has epoch 0, and a hard
/// reset changes the id.
pub(super) fn may_be_forgotten(candidates: &[JoinCandidate]) -> BTreeSet<NodeId> {
    let candidates = candidates.iter().filter(|candidate| {
        let report = &candidate.node.report;
        let do_members_tell = report
            .info
            .version
            .is_none_or(|version| match version.product {
                Product::Redis => version.numbers >= [7, 2, 0],
                Product::Valkey => true,
            });
        let keeps_id = !matches!(candidate.before, Before::Flush(_));
        do_members_tell && keeps_id && report.cluster.current_epoch > 0
    });
    candidates.map(|candidate| candidate.node.id()).collect()
}

/// Watches the members until they have known these nodes for [`STEADY`], counted from `agreed`, and in [`LOOKS`] looks.
/// Nodes that were lost are met again.
pub(super) async fn stay(
    session: &Session,
    plan: &JoinPlan,
    nodes: &BTreeSet<NodeId>,
    agreed: Instant,
    within: Duration,
) -> anyhow::Result<()> {
    if nodes.is_empty() {
        return Ok(());
    }
    let deadline = agreed + within + MARGIN;
    let mut steady_since = agreed;
    let mut looks = 0;
    loop {
        let forgetting = forgetting(session, plan, nodes).await;
        looks += 1;
        if let Some(member) = &forgetting {
            if Instant::now() >= deadline {
                return Err(anyhow!(
                    "{member} forgets the new nodes again: they were removed from this cluster less than 60 s ago, and \
                     its members tell each other so for that long"
                ));
            }
            session.events.waiting(format!(
                "{member} has forgotten the new nodes, which were removed from this cluster less than 60 s ago: they meet \
                 again until that time is over"
            ));
            // Their phases, once a second, would tell nothing new.
            let (unheard, _) = mpsc::unbounded_channel();
            let watch = Watch::new(
                Arc::clone(&session.connections),
                Arc::clone(&plan.participants),
                Arc::clone(&plan.absent),
                unheard,
                deadline - Instant::now(),
            );
            watch.join().await?;
            watch.agree(&plan.goal).await?;
            steady_since = Instant::now();
            looks = 0;
        }
        if looks >= LOOKS && steady_since.elapsed() >= STEADY {
            return Ok(());
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// A participant that does not know all of these nodes.
async fn forgetting(
    session: &Session,
    plan: &JoinPlan,
    nodes: &BTreeSet<NodeId>,
) -> Option<String> {
    let wanted = Arc::new(nodes.clone());
    let participants = plan.participants.values();
    let targets: Vec<_> = participants.map(|one| one.target.clone()).collect();
    let asking = session.connections.fan_out(targets, |connections, target| {
        let wanted = Arc::clone(&wanted);
        async move {
            let known = known(&connections, &target, &wanted).await;
            // One that does not answer is reported by the checks that follow.
            let forgets = known.is_ok_and(|known| known.len() < wanted.len());
            forgets.then(|| target.addr.to_string())
        }
    });
    asking.await.into_iter().flatten().next()
}
