//! `set-timeout`: cluster-node-timeout of all nodes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;

use crate::client::{ClientError, NODE_TIMEOUT};
use crate::cluster::health::Code;
use crate::cluster::node::Addr;
use crate::cluster::observation::Seen;
use crate::cluster::topology::Topology;
use crate::connections::{Connections, Target};
use crate::converge::settle::settled;
use crate::discover;
use crate::report::{Node, Timeout, TimeoutSet};
use crate::session::Session;
use crate::stop::Stop;

/// A member and its current timeout.
#[derive(Clone)]
pub(crate) struct Member {
    /// How it is reached; why it is not, in words.
    pub(crate) reach: Result<Target, String>,
    /// Its current timeout.
    pub(crate) now: Timeout,
}

/// All members in reading order, without nodes that never joined or have no address.
pub(crate) async fn members(session: &Session) -> Result<Vec<Member>, Stop> {
    // A node that restarts would miss the change.
    settled(session, |_, finding| {
        matches!(
            finding.code,
            Code::NodeUnreachable | Code::SlotlessUnreachable | Code::AddressUnreachable
        )
    })
    .await?;
    let found = discover::find(&session.connections, &session.targets()).await?;
    let topology = Topology::of(&found.observation);
    let mut named = Vec::new();
    for member in topology.reading_order() {
        let Some(node) = found.observation.nodes.get(&member.id) else {
            continue;
        };
        let reach = match &node.seen {
            // CONFIG is executed during loading, too.
            Seen::Report(_) | Seen::Loading => {
                found.target_of(node).ok_or("no address".to_string())
            }
            Seen::Silent(_) | Seen::Refused(_) | Seen::NoAddress
                if member.peer_status.handshake > 0 =>
            {
                continue;
            }
            Seen::NoAddress => continue,
            Seen::Silent(why) => Err(why.clone()),
            Seen::Refused(refusal) => Err(refusal.said.clone()),
            Seen::OtherNode(other) => {
                Err(format!("another node, {}, answers there", other.short()))
            }
        };
        let name = Node {
            id: member.id,
            addr: node.addr().cloned().unwrap_or_else(|| Addr::new("?", 0)),
            role: member.role,
            zone: None,
        };
        named.push((name, reach));
    }
    let reading = session
        .connections
        .fan_out(named, |connections, (node, reach)| async move {
            let now = match &reach {
                Ok(target) => read(&connections, target)
                    .await
                    .map_err(|error| error.fault.to_string()),
                Err(why) => Err(why.clone()),
            };
            let now = Timeout { node, now };
            Member { reach, now }
        });
    Ok(reading.await)
}

/// Sets the timeout on all members in parallel; returns the outcomes in their order. Ends at the first signal.
pub(crate) async fn execute(
    session: &Session,
    members: &[Member],
    timeout: Duration,
) -> Result<Vec<TimeoutSet>, Stop> {
    let reaches: Vec<_> = members.iter().map(|member| member.reach.clone()).collect();
    let setting = session
        .connections
        .fan_out(reaches, |connections, reach| async move {
            match reach {
                Ok(target) => set(&connections, &target, timeout).await,
                Err(why) => TimeoutSet::Failed(why),
            }
        });
    session.interrupt.stops(setting).await.map_err(|signal| {
        Stop::interrupted(anyhow!(
            "interrupted ({signal}): some nodes may have the new timeout; the same command sets it on all of them"
        ))
    })
}

/// The timeout that a node reports; `None` if CONFIG does not report it.
async fn read(connections: &Connections, target: &Target) -> Result<Option<Duration>, ClientError> {
    connections.temporary(target).await?.node_timeout().await
}

/// Sets the timeout on one node and reads it back: a change that timed out may have been made.
async fn set(connections: &Arc<Connections>, target: &Target, timeout: Duration) -> TimeoutSet {
    let change = async {
        let client = connections.temporary(target).await?;
        let millis = timeout.as_millis().to_string();
        client.config_set(NODE_TIMEOUT, &millis).await?;
        Ok::<_, ClientError>(client.config_rewrite().await)
    };
    let change = change.await;
    let now = read(connections, target).await;
    match (now, change) {
        (Ok(Some(now)), Ok(rewritten)) if now == timeout => match rewritten {
            Ok(()) => TimeoutSet::Persisted,
            Err(error) => TimeoutSet::InForce(error.fault.to_string()),
        },
        (Ok(Some(now)), Err(error)) if now == timeout => {
            TimeoutSet::InForce(error.fault.to_string())
        }
        (_, Err(error)) | (Err(error), Ok(_)) => TimeoutSet::Failed(error.fault.to_string()),
        (Ok(Some(now)), Ok(_)) => TimeoutSet::Failed(format!(
            "CONFIG SET succeeded, but the node still reports {}",
            humantime::format_duration(now)
        )),
        (Ok(None), Ok(_)) => {
            TimeoutSet::Failed("CONFIG GET does not report the timeout".to_string())
        }
    }
}
