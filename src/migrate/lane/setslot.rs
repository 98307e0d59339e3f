//! CLUSTER SETSLOT for many slots.
//!
//! From Valkey 8 on, a master with replicas sends SETSLOT to them first, and carries out the next command of the
//! connection only after all of them have executed it. 64 of them took 86 ms on one connection and 12 ms on eight
//! (Valkey 8.0.1, one replica, loopback), 173 and 23 ms on 9.1.2. So the slots of a window are spread over several
//! connections to such a master; but not the claims of the target, of which each that is under way is a slot at risk
//! (see `rank`).

use tokio::task::JoinSet;

use super::LaneError;
use crate::client::{ClientError, Fault, NodeClient, SetSlot};
use crate::cluster::parse::{Info, Product};
use crate::cluster::slot::Slot;
use crate::connections::{Connections, Target};

/// How often a change that hung on a replica (NOREPLICAS, Valkey ≥ 8) is sent again.
const TRIES: usize = 3;
/// The connections to a master that replicates SETSLOT, with the first.
const CONNECTIONS: usize = 8;

/// Whether a node replicates SETSLOT before it executes it, and has replicas for that.
pub(super) fn replicates(info: &Info) -> bool {
    let is_new = info
        .version
        .is_some_and(|version| version.product == Product::Valkey && version.numbers >= [8, 0, 0]);
    is_new && !info.online_replicas.is_empty()
}

/// Opens more connections to a master that replicates SETSLOT. With fewer, or none, it only takes longer.
pub(super) async fn more_connections(
    connections: &Connections,
    client: &NodeClient,
    target: &Target,
    slots: usize,
) -> Result<Vec<NodeClient>, ClientError> {
    let mut more = Vec::new();
    if slots < CONNECTIONS || !replicates(&Info::parse(&client.info().await?)) {
        return Ok(more);
    }
    for _ in 1..CONNECTIONS {
        match connections.own(target).await {
            Ok(client) => more.push(client),
            Err(error) => {
                tracing::debug!(%error, "no further connection for SETSLOT");
                break;
            }
        }
    }
    Ok(more)
}

/// [`set_slots`] on this connection and on more at the same time. The order of the changes is not kept.
pub(super) async fn set_slots_on(
    client: &NodeClient,
    more: &[NodeClient],
    changes: &[(Slot, SetSlot)],
) -> Vec<Result<(), ClientError>> {
    if more.is_empty() {
        return set_slots(client, changes).await;
    }
    let share = changes.len().div_ceil(more.len() + 1).max(1);
    let mut sending = JoinSet::new();
    let clients = std::iter::once(client).chain(more);
    for (nth, (client, changes)) in clients.zip(changes.chunks(share)).enumerate() {
        let (client, changes) = (client.clone(), changes.to_vec());
        sending.spawn(async move { (nth, set_slots(&client, &changes).await) });
    }
    let mut outcomes = sending.join_all().await;
    outcomes.sort_unstable_by_key(|(nth, _)| *nth);
    outcomes.into_iter().flat_map(|(_, done)| done).collect()
}

/// SETSLOT, again where it hung on a replica; what became of each.
pub async fn set_slots(
    client: &NodeClient,
    changes: &[(Slot, SetSlot)],
) -> Vec<Result<(), ClientError>> {
    let mut outcomes: Vec<Result<(), ClientError>> = Vec::new();
    for _ in 0..TRIES {
        outcomes = match client.cluster_setslots(changes).await {
            Ok(outcomes) => outcomes,
            Err(error) => changes.iter().map(|_| Err(error.clone())).collect(),
        };
        let hung = |outcome: &Result<(), ClientError>| {
            outcome
                .as_ref()
                .is_err_and(|error| error.server_code() == Some("NOREPLICAS"))
        };
        if !outcomes.iter().any(hung) {
            break;
        }
    }
    outcomes
}

/// The same for each of the slots.
pub(super) fn each(slots: &[Slot], state: SetSlot) -> Vec<(Slot, SetSlot)> {
    slots.iter().map(|slot| (*slot, state)).collect()
}

pub(super) fn first_error(outcomes: Vec<Result<(), ClientError>>) -> Result<(), LaneError> {
    outcomes.into_iter().collect::<Result<(), _>>()?;
    Ok(())
}

/// A source that has given its last slot away becomes a replica of the target by itself
/// (`cluster-allow-replica-migration`), and then has this to say to SETSLOT.
pub(super) fn is_follower(error: &ClientError) -> bool {
    match &error.fault {
        Fault::Server { code, message, .. } => {
            matches!(code.as_str(), "NOREPLICAS" | "UNBLOCKED")
                || message.starts_with("Please use SETSLOT only with")
        }
        _ => false,
    }
}
