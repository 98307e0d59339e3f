//! Separates two clusters that became one: each member of one forgets all members of the other, at the same time.
//!
//! From Redis 7.2 and Valkey 7.2 on, a node that receives CLUSTER FORGET also gossips which node it forgot. Valkey
//! includes this in its answers to pings of the nodes that it has forgotten. If only one side gets FORGET, each member
//! of the other side loses all members of its own side within seconds (seen on 8.1 and 9.1, not on 8.0, nor on Redis
//! 8.2 and 8.6). So FORGET goes to both sides in parallel, on connections that are already open. If it fails on a
//! node, it is sent again at once. The time between the first and the last FORGET remains. Nodes that lose members of
//! their own side in that time meet them again after a minute: as long as CLUSTER FORGET lasts, they would lose them
//! again (seen on 9.1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;

use super::rejoin;
use super::state::FixState;
use crate::client::Reset;
use crate::cluster::node::NodeId;
use crate::connections::{Connections, Target};
use crate::converge::{Watch, forgotten, known};
use crate::ops::leave::{Afterwards, GONE_WITHIN, leave};
use crate::plan::fix::{FixPlan, FixStep};
use crate::session::Session;
use crate::stop::{CommandLine, SameCommand, Stop};

/// How often FORGET is sent to a node if its connection breaks.
const TRIES: usize = 3;
/// How long a node keeps gossip about a node away that it was told to forget: 60 s, on all servers. A moment more, as
/// the last one may have forgotten later than it was seen.
const FORGET_LASTS: Duration = Duration::from_secs(63);
/// The timeout until the members of a side see each other again.
const TOGETHER_WITHIN: Duration = Duration::from_secs(60);

type Side = BTreeMap<NodeId, Target>;

/// Members of another cluster that are to leave.
#[derive(Default)]
pub(super) struct Leaving {
    /// They keep their data, and know each other afterwards.
    members: BTreeSet<NodeId>,
    /// They are replicas of masters that stay. Only RESET makes them forget these.
    replicas: BTreeSet<NodeId>,
}

impl Leaving {
    pub(super) fn of(plan: &FixPlan) -> Self {
        let mut leaving = Self::default();
        for remedy in &plan.remedies {
            match remedy.step {
                FixStep::Evict { node, copies: None } => leaving.members.insert(node),
                FixStep::Evict { node, .. } => leaving.replicas.insert(node),
                _ => false,
            };
        }
        leaving
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.replicas.is_empty()
    }
}

/// Makes them leave. `resume` is the command that continues.
pub(super) async fn carry_out(
    session: &Session,
    state: &FixState,
    Leaving { members, replicas }: &Leaving,
    resume: CommandLine,
) -> Result<(), Stop> {
    let connections = &session.connections;
    let mut troubles = Vec::new();
    let mut resume = Some(resume);
    if !replicas.is_empty() {
        let left = leave(
            session,
            &state.cluster,
            replicas,
            Afterwards::RunReset(Reset::Hard),
        )
        .await;
        troubles.extend(left.troubles);
    }
    if !members.is_empty() {
        let nodes = &state.diagnosis().observation.nodes;
        let staying: BTreeSet<NodeId> = nodes
            .keys()
            .filter(|id| !members.contains(id) && !replicas.contains(id))
            .copied()
            .collect();
        let (foreign, own) = (side(state, members), side(state, &staying));
        // FORGET is sent only after all nodes are connected.
        for (id, target) in foreign.iter().chain(&own) {
            let client = connections.client(target).await;
            client.map_err(|error| {
                let stop = Stop::partial(anyhow!("{}: {error}", state.name(*id)));
                stop.with_resume(resume.clone())
            })?;
        }
        let (mut untold, others) = tokio::join!(
            forget(connections, &foreign, &staying),
            forget(connections, &own, members)
        );
        untold.extend(others);
        for (side, leaving) in [(&foreign, &staying), (&own, members)] {
            // Nodes on which FORGET failed are not waited for.
            let mut told = side.clone();
            told.retain(|id, _| !untold.contains_key(id));
            untold.extend(forgotten(connections, told, leaving, GONE_WITHIN).await);
        }
        let sides = [&foreign, &own];
        let mut lost = losers(state, connections, sides).await;
        if untold.is_empty() && !lost.is_empty() {
            lost = match bring_together(session, state, sides, lost.keys()).await {
                Ok(()) => losers(state, connections, sides).await,
                Err(why) => {
                    troubles.push(why.to_string());
                    lost
                }
            };
        }
        if !lost.is_empty() {
            // They know no foreign node any more, so the same command would refuse.
            resume = None;
        }
        untold.extend(lost);
        let line = |(id, why): (NodeId, String)| format!("{} {why}", state.name(id));
        troubles.extend(untold.into_iter().map(line));
    }
    if troubles.is_empty() {
        return Ok(());
    }
    let error = anyhow!("{}", troubles.join("\n"));
    let stop = match session.interrupt.heard() {
        Some(_) => Stop::interrupted(error),
        None => Stop::partial(error),
    };
    Err(match resume {
        Some(resume) => stop.with_resume([resume]),
        None => Stop {
            same_command: SameCommand::StopsAgain,
            ..stop
        },
    })
}

/// Nodes that have forgotten members of their own side, with the way to bring them together again.
async fn losers(
    state: &FixState,
    connections: &Arc<Connections>,
    sides: [&Side; 2],
) -> BTreeMap<NodeId, String> {
    let mut losers = BTreeMap::new();
    for side in sides {
        let ids: BTreeSet<NodeId> = side.keys().copied().collect();
        for (id, target) in side {
            // A node that can't be asked has been named for that.
            let Ok(known) = known(connections, target, &ids).await else {
                continue;
            };
            let missing = ids.iter().filter(|one| *one != id && !known.contains(one));
            let missing: Vec<String> = missing.map(|id| state.name(*id)).collect();
            if !missing.is_empty() {
                let meet = state
                    .cluster
                    .redis_cli(&target.addr, "CLUSTER MEET IP PORT");
                let why = format!(
                    "has also forgotten {}, which belong to the same cluster. A minute from now, let them meet again \
                     with the address of each ({meet}); change nothing else before",
                    missing.join(", "),
                );
                losers.insert(*id, why);
            }
        }
    }
    losers
}

/// Lets the members of each side meet again, once they do not forget each other any more.
async fn bring_together(
    session: &Session,
    state: &FixState,
    sides: [&Side; 2],
    losers: impl Iterator<Item = &NodeId>,
) -> anyhow::Result<()> {
    let losers: Vec<String> = losers.map(|id| state.name(*id)).collect();
    session.events.warn(format!(
        "{} forgot members of the same cluster too, which a server can't be kept from; they meet again in {} s",
        losers.join(", "),
        FORGET_LASTS.as_secs()
    ));
    let together = session.interrupt.stops(async {
        tokio::time::sleep(FORGET_LASTS).await;
        let participants = state.cluster.participants(session).await;
        let (participants, absent) = participants.map_err(|stop| stop.error)?;
        for side in sides {
            let mut participants = participants.clone();
            participants.retain(|id, _| side.contains_key(id));
            let met = rejoin::meet(session, &participants).await;
            met.map_err(|stop| stop.error)?;
            let watch = Watch::new(
                Arc::clone(&session.connections),
                participants,
                absent.clone(),
                session.events.sender(),
                TOGETHER_WITHIN,
            );
            watch.join().await?;
        }
        Ok(())
    });
    together
        .await
        .unwrap_or_else(|signal| Err(anyhow!("interrupted ({signal})")))
}

/// Those of them that answer.
fn side(state: &FixState, ids: &BTreeSet<NodeId>) -> Side {
    let reports = state.diagnosis().observation.reports();
    reports
        .filter(|(node, _)| ids.contains(&node.id))
        .filter_map(|(node, _)| Some((node.id, state.cluster.reach.get(&node.id)?.clone())))
        .collect()
}

/// Tells one side to forget the other. Returns the nodes on which that failed, and why.
async fn forget(
    connections: &Arc<Connections>,
    side: &Side,
    others: &BTreeSet<NodeId>,
) -> BTreeMap<NodeId, String> {
    let others = Arc::new(others.clone());
    let told = connections.fan_out(side.clone(), |connections, (id, target)| {
        let others = Arc::clone(&others);
        async move {
            let tell = || async {
                let client = connections.client(&target).await?;
                client.cluster_forget_all(&others).await
            };
            let mut told = tell().await;
            for _ in 1..TRIES {
                if told.is_ok() {
                    break;
                }
                connections.drop_client(&target);
                told = tell().await;
            }
            (id, told)
        }
    });
    let told = told.await.into_iter();
    told.filter_map(|(id, told)| Some((id, format!("was not told: {}", told.err()?.fault))))
        .collect()
}
