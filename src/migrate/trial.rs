//! A trial MIGRATE, before the first slot is opened: whether the source reaches the target, at which of its addresses,
//! and whether the target accepts the login.

use std::time::Duration;

use super::{End, MoveOptions, trial_key};
use crate::client::{ClientError, Existing, Keep, MigrateFault, Migration};
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::slot::{Slot, SlotSet};
use crate::connections::Connections;

/// The servers' deadline for each read and write of a trial, where there are several addresses. At one that drops packets
/// the source serves no client for so long.
const TRIED_FOR: Duration = Duration::from_secs(2);

/// What a trial came to, unless it was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// The target took it.
    Passed,
    /// There was nothing to try it with; why.
    Impossible(String),
}

/// Tries a MIGRATE at each address of the target, until one works: that is its `peer` from then on. The error says why
/// none does. `slots` are those of the source that the target neither owns nor imports.
pub async fn try_migrate(
    connections: &Connections,
    source: &End,
    target: &mut End,
    slots: &SlotSet,
    options: &MoveOptions,
) -> Result<Trial, String> {
    let mut peers = vec![target.peer.clone()];
    peers.append(&mut target.other_peers);
    let several = peers.len() > 1;
    let shortly = match several {
        true => options.timeout.min(TRIED_FOR),
        false => options.timeout,
    };
    let mut failed = Vec::new();
    let mut silent: Vec<(Answers, usize)> = Vec::new();
    for (nth, peer) in peers.iter().enumerate() {
        let answers = match several {
            true => answers_at(connections, target, peer).await,
            false => Answers::Target,
        };
        if let Answers::Other(id) = answers {
            failed.push(format!("{peer} (node {} answers there)", id.short()));
            continue;
        }
        match try_once(connections, source, target, (peer, shortly), slots).await {
            Ok(trial) => return Ok(chosen(target, peers, nth, trial)),
            Err(error) => match MigrateFault::of(&error) {
                MigrateFault::Io => {
                    silent.push((answers, nth));
                    failed.push(format!("{peer} ({})", error.fault));
                }
                // The target does not own the slot, so this is the owner itself.
                MigrateFault::BusyKey => {
                    failed.push(format!("{peer} (another node answers there)"));
                }
                _ => return Err(explain(source, target, &error)),
            },
        }
    }
    // A target that is slow is not elsewhere: the address at which it answers us, or else the last one, gets more time.
    let answering = silent
        .iter()
        .find(|(answers, _)| *answers == Answers::Target);
    if several && let Some((_, nth)) = answering.or(silent.last()) {
        let tried = (&peers[*nth], options.timeout);
        match try_once(connections, source, target, tried, slots).await {
            Ok(trial) => return Ok(chosen(target, peers, *nth, trial)),
            Err(error) => match MigrateFault::of(&error) {
                MigrateFault::Io | MigrateFault::BusyKey => {}
                _ => return Err(explain(source, target, &error)),
            },
        }
    }
    Err(format!(
        "{source} can't reach {target} at {}: set cluster-announce-ip and cluster-announce-port on {target} to an \
         address that the other nodes reach, or move the slots atomically (--strategy atomic; Valkey 9.0, Redis 8.4), \
         for which nodes use the addresses of their own links",
        failed.join(", nor at ")
    ))
}

/// The address of the target from now on.
fn chosen(target: &mut End, mut peers: Vec<Addr>, nth: usize, trial: Trial) -> Trial {
    target.peer = peers.remove(nth);
    target.other_peers = peers;
    trial
}

/// Who answers at an address, seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    Target,
    Other(NodeId),
    Nobody,
}

async fn answers_at(connections: &Connections, target: &End, peer: &Addr) -> Answers {
    if connections.dial_of(peer) == target.target.addr {
        return Answers::Target;
    }
    match connections.node_at(peer, &target.target.access).await {
        Some(found) if found == target.id => Answers::Target,
        Some(found) => Answers::Other(found),
        None => Answers::Nobody,
    }
}

fn explain(source: &End, target: &End, error: &ClientError) -> String {
    match MigrateFault::of(error) {
        MigrateFault::Login => {
            let user = target.login.user.as_deref().unwrap_or("default");
            format!(
                "{target} rejects the login that {source} would use for MIGRATE: {}; user {user} needs there: \
                 +restore-asking +select ~*",
                error.fault
            )
        }
        _ => format!(
            "a trial MIGRATE from {source} to {target} fails: {}",
            error.fault
        ),
    }
}

/// Sends one small key of these slots with COPY to a target that must not take them (from an
/// importing slot the copy would stay there). `Ok` where the target
/// answered as one that took the login does. Where the source has no such key, one is written for the
/// purpose; it goes by itself should we never get to delete it.
async fn try_once(
    connections: &Connections,
    source: &End,
    target: &End,
    (peer, within): (&Addr, Duration),
    slots: &SlotSet,
) -> Result<Trial, ClientError> {
    /// Slots that are looked through for a key in one go.
    const LOOKED_AT: usize = 1024;
    /// How long a key of ours lives.
    const TRIAL_LIVES: Duration = Duration::from_secs(10);
    let client = connections.client(&source.target).await?.for_trial();
    let listed: Vec<Slot> = slots.iter().collect();
    let mut lightest = None;
    for slots in listed.chunks(LOOKED_AT) {
        let keys = client.cluster_getkeysinslot(0, slots, 1).await?;
        let keys: Vec<Vec<u8>> = keys.into_iter().flatten().collect();
        let named: Vec<&Vec<u8>> = keys.iter().collect();
        let weights = client.memory_usage(0, &named).await?.weights;
        lightest = keys
            .into_iter()
            .zip(weights)
            .min_by_key(|(_, weight)| *weight);
        if lightest.is_some() {
            break;
        }
    }
    let ours = lightest.is_none();
    let key = match lightest {
        Some((key, _)) => key,
        None => {
            let Some(key) = trial_key(slots) else {
                let why = format!("{source} has no slot but open ones");
                return Ok(Trial::Impossible(why));
            };
            if let Err(error) = client.set(&key, b"", TRIAL_LIVES).await {
                return Ok(Trial::Impossible(error.to_string()));
            }
            key
        }
    };
    let migration = Migration {
        peer: peer.clone(),
        login: target.login.clone(),
        database: 0,
        timeout: within,
        existing: Existing::Refuse,
        source: Keep::Copy,
    };
    let tried = client.migrate(&migration, std::slice::from_ref(&key)).await;
    if ours {
        // Otherwise it expires.
        let _ = client.del(&key).await;
    }
    match tried {
        Ok(_) => Ok(Trial::Passed),
        Err(error) if MigrateFault::of(&error) == MigrateFault::Moved => Ok(Trial::Passed),
        Err(error) => Err(error),
    }
}
