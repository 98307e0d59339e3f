//! Open slots that an interrupted command left behind: finishes their moves, and announces owners to nodes that missed
//! them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;

use super::strategy::by_key_as_begun;
use super::{AGREE_WITHIN, PreparedMoves, execute, masters, refuse_unfit};
use crate::client::SetSlot;
use crate::cluster::health::{Code, Diagnosis};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::Direction;
use crate::cluster::slot::{Slot, SlotSet};
use crate::connections::Target;
use crate::converge::poll::Polled;
use crate::converge::{ViewError, owners_known};
use crate::migrate::MoveOptions;
use crate::ops::raft::{self, Obstacle};
use crate::plan::MovePlan;
use crate::session::Session;
use crate::state::{ClusterState, errors, open_at_masters, unhealthy};
use crate::stop::Stop;

/// Open slots, and what finishes them.
pub(crate) struct OpenSlots {
    /// The state in which they were found.
    pub(crate) state: ClusterState,
    /// The moves that finish them. Empty if nodes only have to learn the owner of a slot.
    pub(crate) moves: PreparedMoves,
    unfinished: Unfinished,
}

impl OpenSlots {
    /// The open slots.
    pub(crate) fn slots(&self) -> SlotSet {
        self.state.diagnosis.topology.open_set()
    }

    /// The steps besides the moves.
    pub(crate) fn steps(&self) -> Vec<String> {
        let name = |id: NodeId| self.state.name(id);
        let late = self.unfinished.told_late.iter();
        let late = late.map(|(holder, slots, owner)| {
            let (holder, owner) = (name(*holder), name(*owner));
            format!(
                "{holder} is told that {owner} owns slots {}",
                slots.summary()
            )
        });
        let orphaned = self.unfinished.orphaned.iter();
        let orphaned = orphaned.map(|(holder, slots)| {
            let holder = name(*holder);
            let slots = slots.summary();
            format!("{holder} is told that the source of slots {slots} failed over")
        });
        late.chain(orphaned).collect()
    }

    /// Whether nothing is to be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.moves.plan.slots_moved() == 0 && self.unfinished.told_late.is_empty()
    }

    /// Whether the same is to be done.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.unfinished == other.unfinished
    }
}

/// The masters of a cluster with open slots; `None` if no slot is open.
pub(crate) async fn masters_if_open(session: &Session) -> Result<Option<Vec<Target>>, Stop> {
    let state = ClusterState::look(session).await?;
    let open = !state.diagnosis.topology.open_set().is_empty();
    Ok(open.then(|| masters(&state)))
}

/// Finds out how open slots are finished. Two looks must show them in the same state, so that no other client is moving
/// them.
pub(crate) async fn prepare(session: &Session, dry_run: bool) -> Result<OpenSlots, Stop> {
    /// Looks, a second apart, that may show clients at work on the keys of open slots.
    const LOOKS: usize = 6;
    let mut state = ClusterState::look(session).await?;
    let mut look = 0;
    let unfinished = loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let next = ClusterState::look(session).await?;
        let settled = state.in_transit() == next.in_transit();
        state = next;
        look += 1;
        // After a failover it takes a moment until all nodes report the same.
        match unfinished(&state.diagnosis) {
            Ok(unfinished) if settled => {
                let obstacles = obstacles(&state.diagnosis);
                let go_on = dry_run
                    || obstacles.is_empty()
                    || unfinished.plan.slots_moved() == 0
                    || !unfinished.orphaned.is_empty();
                if go_on {
                    break unfinished;
                }
                // A node reports cluster_state:fail for some seconds after a restart.
                let may_pass = obstacles.iter().all(|code| *code == Code::StateNotOk);
                if !may_pass || look == LOOKS {
                    let errors = errors(&state.diagnosis, |code| obstacles.contains(&code));
                    return Err(Stop::refused(anyhow!("{}", unhealthy(&errors))));
                }
            }
            Err(stop) if look == LOOKS => return Err(stop),
            _ if look == LOOKS => {
                return Err(Stop::refused(anyhow!(
                    "another client is moving slots {}: the number of their keys falls; wait until that is done",
                    state.diagnosis.topology.open_set()
                )));
            }
            _ => {}
        }
    };
    let plan = unfinished.plan.clone();
    if !state.diagnosis.topology.open_set().is_empty() {
        raft::refuse(&state, Obstacle::Transactions)?;
    }
    let choices = by_key_as_begun(&plan);
    refuse_unfit(session, &state, &choices)
        .await
        .map_err(|stop| {
            let seed = state.resume_seed();
            Stop {
                error: anyhow!(
                    "{:#}\nredis-trib fix {seed} closes these slots again, and takes keys back where they can leave",
                    stop.error
                ),
                ..stop
            }
        })?;
    let mut moves = PreparedMoves::new(session, &state, plan, choices).await;
    moves.warn_of_emptied(session, &state).await;
    Ok(OpenSlots {
        state,
        moves,
        unfinished,
    })
}

/// Finishes open slots. The first signal finishes the slots in hand, the second drops them.
pub(crate) async fn finish(
    session: &Session,
    open: &OpenSlots,
    options: MoveOptions,
) -> Result<(), Stop> {
    let telling = tell(session, open);
    let looked_again = match session.interrupt.stops(telling).await {
        Ok(told) => told?,
        Err(signal) => {
            return Err(Stop::interrupted(anyhow!(
                "interrupted ({signal}) before the open slots were finished"
            )));
        }
    };
    if open.moves.plan.slots_moved() == 0 {
        return Ok(());
    }
    let state = looked_again.as_ref().unwrap_or(&open.state);
    let report = execute(session, state, &open.moves, options, None).await?;
    session
        .events
        .note(format!("open slots are finished: {}", report.slots));
    Ok(())
}

/// Tells nodes what they missed. Returns the state afterwards if that changed who owns the slots.
async fn tell(session: &Session, open: &OpenSlots) -> Result<Option<ClusterState>, Stop> {
    tell_late(session, &open.state, &open.unfinished).await?;
    if open.unfinished.orphaned.is_empty() {
        return Ok(None);
    }
    for (holder, slots) in &open.unfinished.orphaned {
        adopt(session, &open.state, *holder, slots).await?;
    }
    Ok(Some(ClusterState::look(session).await?))
}

/// Findings that prevent all open slots from being finished: keys move only between nodes that serve.
fn obstacles(diagnosis: &Diagnosis) -> Vec<Code> {
    const CODES: [Code; 13] = [
        Code::SlotsUncovered,
        Code::NodeFailed,
        Code::NodeUnreachable,
        Code::AddressUnreachable,
        Code::NodeBusy,
        Code::NodeClientLimit,
        Code::NodeLogin,
        Code::NodePermission,
        Code::NodeProtected,
        Code::NodeError,
        Code::NodeForeign,
        Code::StateNotOk,
        Code::NodeLoading,
    ];
    let found = diagnosis.findings.iter().map(|finding| finding.code);
    found.filter(|code| CODES.contains(code)).collect()
}

/// Announces the new owner of slots to the nodes that missed it. All other nodes know it.
async fn tell_late(
    session: &Session,
    cluster: &ClusterState,
    unfinished: &Unfinished,
) -> Result<(), Stop> {
    for (holder, slots, owner) in &unfinished.told_late {
        let Some(target) = cluster.reach.get(holder) else {
            continue;
        };
        let changes: Vec<_> = slots
            .iter()
            .map(|slot| (slot, SetSlot::Node(*owner)))
            .collect();
        let client = session.connections.client(target).await?;
        for outcome in client.cluster_setslots(&changes).await? {
            outcome.map_err(|error| {
                Stop::partial(anyhow!(
                    "slots {} belong to {}, but {} can't be told: {error}",
                    slots.summary(),
                    cluster.name(*owner),
                    cluster.name(*holder)
                ))
            })?;
        }
    }
    Ok(())
}

/// Makes a target see the owner of slots whose source failed over while the target imported them. Before, it knows no
/// owner for them and reports cluster_state:fail (Redis 7.0, 8.6; Valkey corrects that by itself). Their keys
/// stay on it: a node deletes only keys of slots that it owned.
async fn adopt(
    session: &Session,
    cluster: &ClusterState,
    holder: NodeId,
    slots: &SlotSet,
) -> Result<(), Stop> {
    let Some(target) = cluster.reach.get(&holder) else {
        return Ok(());
    };
    let name = cluster.name(holder);
    let client = session.connections.client(target).await?;
    let changes: Vec<_> = slots.iter().map(|slot| (slot, SetSlot::Stable)).collect();
    for outcome in client.cluster_setslots(&changes).await? {
        outcome.map_err(|error| {
            Stop::partial(anyhow!(
                "{name} can't be told that the source of slots {} failed over: {error}",
                slots.summary()
            ))
        })?;
    }
    match owners_known(&client, slots, AGREE_WITHIN).await {
        Ok(Polled::Met(())) => Ok(()),
        Ok(Polled::Missing(_)) => Err(Stop::partial(anyhow!(
            "{name} does not know the owner of slots {} after {} s; run the same command again",
            slots.summary(),
            AGREE_WITHIN.as_secs()
        ))),
        Err(ViewError::Client(error)) => Err(error.into()),
        Err(ViewError::Parse(error)) => Err(Stop::partial(anyhow!("{name}: {error}"))),
    }
}

/// What an interrupted command left behind.
#[derive(Debug, PartialEq)]
struct Unfinished {
    /// Moves to repeat.
    plan: MovePlan,
    /// Nodes that gave slots away and do not know it: the node, the slots and their owner.
    told_late: Vec<(NodeId, SlotSet, NodeId)>,
    /// Targets that import slots from a node that has failed over since.
    orphaned: BTreeMap<NodeId, SlotSet>,
}

fn unfinished(diagnosis: &Diagnosis) -> Result<Unfinished, Stop> {
    let topology = &diagnosis.topology;
    let owner_of = |slot: Slot| {
        let mut owners = topology.masters().filter(|m| m.slots.contains(slot));
        match (owners.next(), owners.next()) {
            (Some(owner), None) => Some(owner.id),
            _ => None,
        }
    };
    let mut moves: BTreeMap<(NodeId, NodeId), SlotSet> = BTreeMap::new();
    let mut told_late: BTreeMap<(NodeId, NodeId), SlotSet> = BTreeMap::new();
    let mut targets: BTreeMap<Slot, NodeId> = BTreeMap::new();
    let mut orphaned: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
    // A node that was a master when the move began may be a replica of its successor now.
    let successor = |id: NodeId| match topology.members.get(&id) {
        Some(member) if member.role == Role::Replica => member.master.unwrap_or(id),
        _ => id,
    };
    for (member, open) in open_at_masters(diagnosis) {
        let owner = owner_of(open.slot).ok_or_else(|| {
            Stop::refused(anyhow!(
                "slot {} has no single owner that it could move from",
                open.slot
            ))
        })?;
        let (from, to) = match open.direction {
            Direction::Migrating => (member.id, successor(open.peer)),
            // One that lost its last slot to this target, and the others to its own replica, follows the target.
            Direction::Importing => match successor(open.peer) {
                follows if follows == member.id => (owner, member.id),
                source => (source, member.id),
            },
        };
        if owner == to {
            told_late
                .entry((member.id, owner))
                .or_default()
                .insert(open.slot);
            continue;
        }
        if owner != from
            || targets
                .insert(open.slot, to)
                .is_some_and(|other| other != to)
        {
            let name = |id| diagnosis.observation.name(id);
            let (holder, peer) = (name(member.id), name(open.peer));
            let how = match open.direction {
                Direction::Migrating => format!("it is migrating from {holder} to {peer}"),
                Direction::Importing => format!("{holder} is importing it from {peer}"),
            };
            return Err(Stop::refused(anyhow!(
                "slot {} is not just an unfinished move: {} owns it, and {how} (redis-trib fix --dry-run shows what \
                 can be done)",
                open.slot,
                name(owner)
            )));
        }
        if open.direction == Direction::Importing && from != open.peer {
            orphaned.entry(member.id).or_default().insert(open.slot);
        }
        moves.entry((from, to)).or_default().insert(open.slot);
    }
    Ok(Unfinished {
        orphaned,
        plan: MovePlan::of_moves(moves),
        told_late: told_late
            .into_iter()
            .map(|((holder, owner), slots)| (holder, slots, owner))
            .collect(),
    })
}
