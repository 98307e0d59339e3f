//! One slot: its state on each master, and the next step that repairs it.
//!
//! The rules, by priority:
//!
//! - A slot whose owner is unreachable is not reassigned: the owner may return with its keys.
//! - An owner deletes its keys of a slot when it learns of another owner with a higher epoch, unless
//!   it is importing the slot. So losers are fenced before another node claims (protocol.md section 2).
//! - An owner that is migrating is the authority for the keys that it still has; a node with more keys
//!   does not have newer values.
//! - A move whose target can't take the keys goes backwards: the owner stops migrating first, and only then the
//!   target stops importing, once it holds no key.
//! - A node that does not own a slot never loses keys to gossip. Its keys move to the owner, or those of
//!   the owner to it, whichever are fewer.
//! - A Valkey node that imports a slot takes it, with a new epoch, as soon as it hears from the node
//!   that it imports from and that node does not claim the slot; the former owner then deletes its keys
//!   (seen on 8.0, 8.1 and 9.1: a claim of another slot by that node is enough). So no node may import
//!   from a node other than the owner, and during a move no node but the target may import.
//!
//! Each step leads to a state that [`decide`] repairs further: the next run finishes an interrupted
//! fix.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use super::passage::Passage;
use crate::cluster::node::NodeId;

/// The state of one slot on a healthy master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MasterState {
    pub(super) id: NodeId,
    /// The owner that it sees; itself if it claims the slot.
    pub(super) sees: Option<NodeId>,
    pub(super) migrating: Option<NodeId>,
    pub(super) importing: Option<NodeId>,
    /// Its keys of the slot, as far as it counts them.
    pub(super) keys: u64,
    /// It may hold more keys, which it does not count.
    pub(super) may_hold_more: bool,
    /// It imports the slot only because `Reveal` made it count its keys: these are strays, not half a
    /// move.
    pub(super) imports_to_count: bool,
    /// It counts keys only in slots that it owns or imports (Redis ≥ 8, which does not take an imported
    /// slot by itself as Valkey does).
    pub(super) counts_own_only: bool,
    /// Its config epoch.
    pub(super) epoch: u64,
}

impl MasterState {
    fn owns(&self) -> bool {
        self.sees == Some(self.id)
    }

    fn is_open(&self) -> bool {
        self.migrating.is_some() || self.importing.is_some()
    }
}

/// The state of the node at the other end of an open slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeerState {
    /// A healthy master.
    Healthy,
    /// It has become a replica of that master.
    Follows(NodeId),
    /// It has failed and owns nothing: another master took over from it, or it never had slots. That
    /// master is known if it is the only one with keys of slots that were migrating to the failed node.
    Replaced(Option<NodeId>),
    /// It does not answer, or no node knows it.
    Unreachable,
}

/// What the user gives up of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SlotConsent {
    /// Any master may take it if no node holds a key of it.
    pub(super) assign: bool,
    /// The keys that unreachable nodes may hold are given up.
    pub(super) accept_loss: bool,
}

/// The state of a slot in the whole cluster.
#[derive(Debug, Clone)]
pub(super) struct SlotState<'a> {
    /// The healthy masters, by id.
    pub(super) masters: Vec<MasterState>,
    /// A master that is not healthy and that owns the slot as other nodes see it.
    pub(super) unreachable_owner: Option<NodeId>,
    /// Any master that is not healthy: it may hold keys.
    pub(super) unreachable_master: Option<NodeId>,
    /// A replica of an unknown master that holds keys of the slot.
    pub(super) orphan: Option<NodeId>,
    /// The nodes at the other end of open slots.
    pub(super) peers: &'a BTreeMap<NodeId, PeerState>,
    /// Between which masters keys can move.
    pub(super) passage: &'a Passage,
    pub(super) consent: SlotConsent,
}

/// A step for one or more slots, or for a node. Steps are ordered by [`FixStep::stage`], whatever the
/// order of the variants here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FixStep {
    /// A node of another cluster and all nodes of this one forget each other: `--evict-foreign`.
    Evict {
        /// The node.
        node: NodeId,
        /// The master that it follows now, if that master stays: the node leaves empty.
        copies: Option<NodeId>,
    },
    /// A node imports slots from their owner, no longer from another node: `IMPORTING owner`.
    Guard {
        /// The node.
        node: NodeId,
        /// The owner.
        owner: NodeId,
    },
    /// A node gives up its claim and keeps its keys: `DELSLOTS`, `IMPORTING winner`, `NODE winner`, in
    /// one transaction.
    Fence {
        /// The node that gives up its claim.
        loser: NodeId,
        /// The node that keeps its claim.
        winner: NodeId,
    },
    /// Slots are no longer open on a node: `STABLE`.
    Close {
        /// The node.
        node: NodeId,
    },
    /// A node that counts no keys in slots of other owners imports them, so that it does.
    Reveal {
        /// The node.
        node: NodeId,
        /// The node that it imports them from, for a moment.
        from: NodeId,
    },
    /// A node that holds the keys takes the slots, with a new epoch: `NODE itself`, `BUMPEPOCH`.
    Claim {
        /// The node.
        node: NodeId,
    },
    /// A node takes slots of which no node holds a key: `--assign-uncovered`, `--accept-data-loss`.
    Assign {
        /// The node.
        node: NodeId,
    },
    /// The owner repeats its claim with a new epoch, so that all nodes accept it: `BUMPEPOCH`.
    Bump {
        /// The owner.
        node: NodeId,
    },
    /// A node learns the owner of slots: `NODE owner`.
    Tell {
        /// The node.
        node: NodeId,
        /// The owner.
        owner: NodeId,
    },
    /// A move that has begun is finished.
    Finish {
        /// The owner.
        from: NodeId,
        /// The new owner.
        to: NodeId,
    },
    /// Keys move to the owner of their slots.
    Gather {
        /// The node that holds them.
        from: NodeId,
        /// The owner.
        to: NodeId,
    },
    /// Keys outside their owner are deleted if the owner has the same value: `--purge-strays`.
    Purge {
        /// The node that holds them.
        from: NodeId,
        /// The owner.
        to: NodeId,
    },
    /// A replica takes over from its failed master: `--failover`.
    TakeOver {
        /// The replica.
        replica: NodeId,
        /// The master.
        master: NodeId,
    },
    /// A replica of a replica follows the master at the end of the chain; an empty replica of an unknown
    /// master follows any master.
    Follow {
        /// The replica.
        replica: NodeId,
        /// The master.
        master: NodeId,
    },
    /// All nodes forget a node that none can reach, that owns no slot and has no replica.
    Forget {
        /// The node.
        node: NodeId,
    },
    /// A master sends its replicas once more that slots are not open: `STABLE` (Valkey ≥ 8).
    Refresh {
        /// The master.
        node: NodeId,
    },
}

impl Ord for FixStep {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |step: &Self| (step.stage(), step.operands());
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for FixStep {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FixStep {
    /// The position of the step in the safety order: the steps of a plan run by ascending stage. No
    /// two kinds of step share a stage.
    ///
    /// A claim has a new config epoch, and every node that hears it deletes its keys of the slots
    /// unless it imports them from the claimant. So `Guard` and `Fence` (which set `IMPORTING`) come
    /// before `Claim`, and `Reveal` (which makes a node count its keys) before the claimant is final.
    /// `Tell` names an owner and follows the claim that makes it the owner. Keys move (`Finish`,
    /// `Gather`) and are deleted (`Purge`) once ownership is settled.
    pub fn stage(&self) -> u8 {
        match self {
            Self::Evict { .. } => 0,
            Self::Guard { .. } => 1,
            Self::Fence { .. } => 2,
            Self::Close { .. } => 3,
            Self::Reveal { .. } => 4,
            Self::Claim { .. } => 5,
            Self::Assign { .. } => 6,
            Self::Bump { .. } => 7,
            Self::Tell { .. } => 8,
            Self::Finish { .. } => 9,
            Self::Gather { .. } => 10,
            Self::Purge { .. } => 11,
            Self::TakeOver { .. } => 12,
            Self::Follow { .. } => 13,
            Self::Forget { .. } => 14,
            Self::Refresh { .. } => 15,
        }
    }

    /// The nodes of the step, which order steps of one stage.
    fn operands(&self) -> (NodeId, Option<NodeId>) {
        match *self {
            Self::Evict { node, copies } => (node, copies),
            Self::Guard { node, owner } | Self::Tell { node, owner } => (node, Some(owner)),
            Self::Fence { loser, winner } => (loser, Some(winner)),
            Self::Reveal { node, from } => (node, Some(from)),
            Self::Close { node }
            | Self::Claim { node }
            | Self::Assign { node }
            | Self::Bump { node }
            | Self::Forget { node }
            | Self::Refresh { node } => (node, None),
            Self::Finish { from, to } | Self::Gather { from, to } | Self::Purge { from, to } => {
                (from, Some(to))
            }
            Self::TakeOver { replica, master } => (master, Some(replica)),
            Self::Follow { replica, master } => (replica, Some(master)),
        }
    }

    /// Whether it moves or deletes keys; the other steps are a few commands.
    pub fn moves_keys(self) -> bool {
        matches!(
            self,
            Self::Finish { .. } | Self::Gather { .. } | Self::Purge { .. }
        )
    }

    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Evict { .. } => "evict",
            Self::Fence { .. } => "fence",
            Self::Guard { .. } => "guard",
            Self::Reveal { .. } => "reveal",
            Self::Claim { .. } => "claim",
            Self::Assign { .. } => "assign",
            Self::Bump { .. } => "bump-epoch",
            Self::Tell { .. } => "tell",
            Self::Close { .. } => "close",
            Self::Finish { .. } => "finish",
            Self::Gather { .. } => "gather",
            Self::Purge { .. } => "purge",
            Self::Refresh { .. } => "refresh",
            Self::TakeOver { .. } => "take-over",
            Self::Follow { .. } => "follow",
            Self::Forget { .. } => "forget",
        }
    }

    /// Its nodes; the one that it changes comes first.
    pub fn nodes(self) -> Vec<NodeId> {
        match self {
            Self::Fence { loser, winner } => vec![loser, winner],
            Self::Guard { node, owner } | Self::Tell { node, owner } => vec![node, owner],
            Self::Evict { node, .. }
            | Self::Reveal { node, .. }
            | Self::Claim { node }
            | Self::Assign { node }
            | Self::Bump { node }
            | Self::Close { node }
            | Self::Refresh { node }
            | Self::Forget { node } => vec![node],
            Self::TakeOver { replica, master } => vec![replica, master],
            Self::Follow { replica, master } => vec![replica, master],
            Self::Finish { from, to } | Self::Gather { from, to } | Self::Purge { from, to } => {
                vec![from, to]
            }
        }
    }
}

/// Why slots are not repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Their owner is unreachable and may return.
    OwnerAway(NodeId),
    /// Their owner is unreachable, and the failover to a replica that the user allowed is refused.
    FailoverRefused(NodeId),
    /// They have no owner, and an unreachable node may hold their keys.
    HolderAway(NodeId),
    /// They have no owner, and no node holds a key of them.
    NobodyHolds,
    /// Their owner is migrating them to an unreachable node, which may have some of their keys.
    TargetAway {
        /// The owner.
        owner: NodeId,
        /// The unreachable node.
        target: NodeId,
    },
    /// Some of their keys are on the target of a move, and keys can move neither there nor back.
    NoPassage {
        /// The owner.
        owner: NodeId,
        /// The target.
        target: NodeId,
    },
    /// They have no owner, and a replica of an unknown master holds keys of them.
    HeldByOrphan(NodeId),
    /// The step was taken before and had no effect.
    NoHelp(FixStep),
    /// Nodes joined from another cluster, and the user has not said whether they stay.
    Strangers {
        /// The node through whose former address they joined.
        door: NodeId,
    },
    /// A node that is to leave owns slots, and has keys of them or is unreachable.
    LeavesWithKeys {
        /// The node.
        node: NodeId,
    },
    /// A node that is to leave has a replica that stays.
    FollowedBy {
        /// The node.
        node: NodeId,
        /// The replica.
        follower: NodeId,
    },
    /// A node that is to leave follows a master that stays and is unreachable.
    LastCopy {
        /// The node.
        replica: NodeId,
        /// Its master.
        master: NodeId,
    },
}

impl Why {
    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::OwnerAway(_) => "owner-away",
            Self::FailoverRefused(_) => "failover-refused",
            Self::HolderAway(_) => "holder-away",
            Self::NobodyHolds => "nobody-holds",
            Self::TargetAway { .. } => "target-away",
            Self::NoPassage { .. } => "no-passage",
            Self::HeldByOrphan(_) => "held-by-orphan",
            Self::NoHelp(_) => "no-help",
            Self::Strangers { .. } => "foreign-node",
            Self::LeavesWithKeys { .. } => "leaves-with-keys",
            Self::FollowedBy { .. } => "followed",
            Self::LastCopy { .. } => "last-copy",
        }
    }
}

/// What to do about a slot next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing.
    Fine,
    /// These, by [`FixStep::stage`]; then the slot is read again.
    Steps(Vec<FixStep>),
    /// Give it to any master.
    Assign,
    /// Leave it as it is.
    Refuse(Why),
    /// It is fine, but `holders` have keys of it, which no state of the slot accounts for.
    Strays { owner: NodeId, holders: Vec<NodeId> },
}

/// The next step for a slot.
pub(super) fn decide(slot: &SlotState<'_>) -> Decision {
    let owners: Vec<&MasterState> = slot.masters.iter().filter(|master| master.owns()).collect();
    if let Some(away) = slot.unreachable_owner
        && !slot.consent.accept_loss
    {
        return Decision::Refuse(Why::OwnerAway(away));
    }
    let mut decision = match owners[..] {
        [] => unowned(slot),
        [owner] => owned(slot, owner),
        [..] => contested(slot, &owners),
    };
    if let Decision::Steps(steps) = &mut decision {
        steps.sort_unstable();
    }
    decision
}

/// No healthy master claims it.
fn unowned(slot: &SlotState<'_>) -> Decision {
    let accepted = slot.consent.accept_loss;
    if let Some(away) = slot.unreachable_master
        && !accepted
    {
        return Decision::Refuse(Why::HolderAway(away));
    }
    if let Some(orphan) = slot.orphan
        && !accepted
    {
        return Decision::Refuse(Why::HeldByOrphan(orphan));
    }
    if let Some(reveal) = reveal(slot) {
        return reveal;
    }
    let holders = || slot.masters.iter().filter(|master| master.keys > 0);
    let Some(winner) = holders().max_by_key(|master| claim(master)) else {
        return if slot.consent.assign || accepted {
            Decision::Assign
        } else {
            Decision::Refuse(Why::NobodyHolds)
        };
    };
    let others = slot.masters.iter().filter(|master| master.id != winner.id);
    let close: Vec<FixStep> = others
        .filter(|master| master.importing.is_some() && !master.counts_own_only)
        .map(|master| FixStep::Close { node: master.id })
        .collect();
    if !close.is_empty() {
        return Decision::Steps(close);
    }
    Decision::Steps(vec![FixStep::Claim { node: winner.id }])
}

/// Makes nodes count keys that they may hold; `None` if all have counted theirs.
fn reveal(slot: &SlotState<'_>) -> Option<Decision> {
    let may_hold_more = slot.masters.iter().filter(|master| master.may_hold_more);
    let steps: Vec<FixStep> = may_hold_more
        .filter_map(|master| {
            let from = slot.masters.iter().find(|other| other.id != master.id)?.id;
            Some(FixStep::Reveal {
                node: master.id,
                from,
            })
        })
        .collect();
    (!steps.is_empty()).then_some(Decision::Steps(steps))
}

/// The strength of the claim of a node with keys: a migrating source is the authority for its keys;
/// then the most keys; then the highest epoch.
fn claim(master: &MasterState) -> (bool, u64, u64, Reverse<NodeId>) {
    let is_source = master.migrating.is_some() && master.keys > 0;
    (is_source, master.keys, master.epoch, Reverse(master.id))
}

/// Several masters claim it, and would delete their keys as soon as they learn of each other.
fn contested(slot: &SlotState<'_>, owners: &[&MasterState]) -> Decision {
    let Some(winner) = owners.iter().max_by_key(|master| claim(master)) else {
        return Decision::Fine;
    };
    let astray = slot
        .masters
        .iter()
        .filter(|master| !master.owns() && master.importing.is_some_and(|from| from != winner.id));
    let mut steps: Vec<FixStep> = astray
        .map(|master| FixStep::Guard {
            node: master.id,
            owner: winner.id,
        })
        .collect();
    let losers = owners.iter().filter(|master| master.id != winner.id);
    steps.extend(losers.map(|loser| FixStep::Fence {
        loser: loser.id,
        winner: winner.id,
    }));
    steps.push(FixStep::Claim { node: winner.id });
    Decision::Steps(steps)
}

/// One master claims it.
fn owned(slot: &SlotState<'_>, owner: &MasterState) -> Decision {
    let others = || slot.masters.iter().filter(|master| master.id != owner.id);
    // A participant that sees another owner would answer with CLUSTERDOWN or MOVED.
    let tell: Vec<FixStep> = others()
        .filter(|master| (master.is_open() || master.keys > 0) && master.sees != Some(owner.id))
        .map(|master| FixStep::Tell {
            node: master.id,
            owner: owner.id,
        })
        .collect();
    if !tell.is_empty() {
        return Decision::Steps(tell);
    }
    let guard: Vec<FixStep> = others()
        .filter(|master| master.importing.is_some_and(|from| from != owner.id))
        .map(|master| FixStep::Guard {
            node: master.id,
            owner: owner.id,
        })
        .collect();
    if !guard.is_empty() {
        return Decision::Steps(guard);
    }
    if owner.importing.is_some() {
        return Decision::Steps(vec![FixStep::Close { node: owner.id }]);
    }
    let holders: Vec<&MasterState> = others().filter(|master| master.keys > 0).collect();
    match owner.migrating {
        Some(peer) => migrating(slot, owner, peer, &holders),
        None => kept(slot, owner, &holders),
    }
}

/// Its owner is migrating it.
fn migrating(
    slot: &SlotState<'_>,
    owner: &MasterState,
    peer: NodeId,
    holders: &[&MasterState],
) -> Decision {
    let finish = |to: NodeId| {
        let others = slot.masters.iter();
        let others = others.filter(|master| master.id != owner.id && master.id != to);
        let close: Vec<FixStep> = others
            .filter(|master| master.importing.is_some() && !master.counts_own_only)
            .map(|master| FixStep::Close { node: master.id })
            .collect();
        Decision::Steps(match close.is_empty() {
            true => vec![FixStep::Finish { from: owner.id, to }],
            false => close,
        })
    };
    let close = || Decision::Steps(vec![FixStep::Close { node: owner.id }]);
    let state = slot
        .peers
        .get(&peer)
        .copied()
        .unwrap_or(PeerState::Unreachable);
    let target = match state {
        PeerState::Healthy => Some(peer),
        PeerState::Follows(master) => Some(master),
        PeerState::Replaced(_) | PeerState::Unreachable => None,
    };
    let target = target.and_then(|id| slot.masters.iter().find(|master| master.id == id));
    match target {
        // The target owns it itself after a failover.
        Some(target) if target.id == owner.id => close(),
        Some(target) if target.importing.is_some() || target.keys > 0 || target.may_hold_more => {
            match slot.passage.is_open(owner.id, target.id) {
                true => finish(target.id),
                false => backwards(slot, owner, target),
            }
        }
        // The target is no longer importing and has no keys: clients redirected there are redirected back.
        Some(_) => match holders {
            [only] if only.importing.is_some() => finish(only.id),
            // Then the keys of others are gathered.
            _ => close(),
        },
        // The master that took over from the target has the keys that were moved already.
        None => {
            let may_hold_more = match (state, holders) {
                (PeerState::Replaced(_), [only]) => return finish(only.id),
                (PeerState::Replaced(successor), []) => match (reveal(slot), successor) {
                    // No key of this slot had been moved yet.
                    (None, Some(id)) if id != owner.id => return finish(id),
                    (may_hold_more, _) => may_hold_more,
                },
                _ => None,
            };
            let refusal = Decision::Refuse(Why::TargetAway {
                owner: owner.id,
                target: peer,
            });
            may_hold_more.unwrap_or(match slot.consent.accept_loss {
                true => close(),
                false => refusal,
            })
        }
    }
}

/// Its owner is migrating it to a node to which no key can move.
fn backwards(slot: &SlotState<'_>, owner: &MasterState, target: &MasterState) -> Decision {
    let (from, to) = (target.id, owner.id);
    match target.keys {
        // The target is closed in the next round, if no client has written to it by then.
        0 => Decision::Steps(vec![FixStep::Close { node: owner.id }]),
        _ if slot.passage.is_open(from, to) => Decision::Steps(vec![FixStep::Gather { from, to }]),
        _ => Decision::Refuse(Why::NoPassage {
            owner: owner.id,
            target: target.id,
        }),
    }
}

/// Its owner is not migrating it.
fn kept(slot: &SlotState<'_>, owner: &MasterState, holders: &[&MasterState]) -> Decision {
    let (open, strays): (Vec<&MasterState>, Vec<&MasterState>) = holders
        .iter()
        .partition(|master| master.is_open() && !master.imports_to_count);
    let mut steps: Vec<FixStep> = match (&open[..], &strays[..]) {
        // Half a move whose source is no longer migrating (Redis drops that state in a failover): finishing
        // moves fewer keys.
        ([target], [])
            if target.keys > owner.keys
                && target.importing.is_some()
                && slot.passage.is_open(owner.id, target.id) =>
        {
            vec![FixStep::Finish {
                from: owner.id,
                to: target.id,
            }]
        }
        _ => open
            .iter()
            .map(|master| FixStep::Gather {
                from: master.id,
                to: owner.id,
            })
            .collect(),
    };
    let idle = slot
        .masters
        .iter()
        .filter(|master| master.id != owner.id && master.is_open() && master.keys == 0);
    steps.extend(idle.map(|master| FixStep::Close { node: master.id }));
    match (steps.is_empty(), strays.is_empty()) {
        (false, _) => Decision::Steps(steps),
        (true, true) => Decision::Fine,
        (true, false) => Decision::Strays {
            owner: owner.id,
            holders: strays.iter().map(|master| master.id).collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::write_refusal::WriteRefusal;
    use crate::plan::samples::node;

    /// One step of each kind, in the order in which a plan runs them.
    fn in_safety_order() -> [FixStep; 16] {
        let (one, two) = (node(1), node(2));
        [
            FixStep::Evict {
                node: one,
                copies: None,
            },
            FixStep::Guard {
                node: one,
                owner: two,
            },
            FixStep::Fence {
                loser: one,
                winner: two,
            },
            FixStep::Close { node: one },
            FixStep::Reveal {
                node: one,
                from: two,
            },
            FixStep::Claim { node: one },
            FixStep::Assign { node: one },
            FixStep::Bump { node: one },
            FixStep::Tell {
                node: one,
                owner: two,
            },
            FixStep::Finish { from: one, to: two },
            FixStep::Gather { from: one, to: two },
            FixStep::Purge { from: one, to: two },
            FixStep::TakeOver {
                replica: two,
                master: one,
            },
            FixStep::Follow {
                replica: one,
                master: two,
            },
            FixStep::Forget { node: one },
            FixStep::Refresh { node: one },
        ]
    }

    #[test]
    fn steps_sort_in_safety_order_and_no_two_kinds_share_a_stage() {
        let expected = in_safety_order();
        let mut words: Vec<&str> = expected.iter().map(|step| step.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), expected.len(), "a kind is listed twice");
        assert!(expected.is_sorted_by(|one, next| one.stage() < next.stage()));
        let mut shuffled = expected;
        shuffled.reverse();
        shuffled.sort_unstable();
        assert_eq!(shuffled, expected);
        let keyed: BTreeMap<FixStep, ()> = expected.iter().rev().map(|step| (*step, ())).collect();
        assert!(keyed.into_keys().eq(expected));
    }

    #[test]
    fn the_stage_comes_before_the_nodes() {
        let late = FixStep::Fence {
            loser: node(9),
            winner: node(8),
        };
        let mut steps = [FixStep::Claim { node: node(1) }, late];
        steps.sort_unstable();
        assert_eq!(steps, [late, FixStep::Claim { node: node(1) }]);
        let of = |node| FixStep::Claim { node };
        let mut steps = [of(node(2)), of(node(1))];
        steps.sort_unstable();
        assert_eq!(steps, [of(node(1)), of(node(2))]);
    }

    #[test]
    fn keys_are_protected_before_a_claim_and_moved_after_it() {
        let stage = |wanted: &str| {
            let step = in_safety_order()
                .into_iter()
                .find(|step| step.word() == wanted);
            step.unwrap().stage()
        };
        for (earlier, later) in [
            // A loser that hears a claim before its fence deletes its keys.
            ("fence", "claim"),
            // Valkey: a node that imports from a node without the slot takes the slot itself.
            ("guard", "fence"),
            ("guard", "claim"),
            ("close", "claim"),
            // A holder that has not counted its keys is no loser yet.
            ("reveal", "claim"),
            // No owner is named before it has claimed.
            ("claim", "tell"),
            ("assign", "tell"),
            ("claim", "finish"),
            ("fence", "gather"),
            // What is not at its owner yet is brought there before copies are deleted.
            ("gather", "purge"),
            // Nodes leave before any slot is looked at.
            ("evict", "guard"),
        ] {
            assert!(stage(earlier) < stage(later), "{earlier} before {later}");
        }
    }

    #[test]
    fn contested_slots_are_fenced_before_the_claim() {
        let owner = |number: usize, keys| MasterState {
            id: node(number),
            sees: Some(node(number)),
            migrating: None,
            importing: None,
            keys,
            may_hold_more: false,
            imports_to_count: false,
            counts_own_only: false,
            epoch: 1,
        };
        let importer = MasterState {
            sees: None,
            importing: Some(node(2)),
            ..owner(3, 0)
        };
        let peers = BTreeMap::new();
        let slot = SlotState {
            // The winner has the lowest id, so that an order by node would put its claim first.
            masters: vec![owner(1, 5), owner(2, 1), importer],
            unreachable_owner: None,
            unreachable_master: None,
            orphan: None,
            peers: &peers,
            passage: &Passage::default(),
            consent: SlotConsent::default(),
        };
        let Decision::Steps(steps) = decide(&slot) else {
            panic!("no steps");
        };
        let words: Vec<&str> = steps.iter().map(|step| step.word()).collect();
        assert_eq!(words, ["guard", "fence", "claim"]);
    }

    /// A slot of node 1 that is migrating to node 2, where no key can move.
    fn backwards_from(refusal: WriteRefusal, keys: u64) -> Decision {
        let master = |number: usize, keys| MasterState {
            id: node(number),
            sees: Some(node(1)),
            migrating: (number == 1).then(|| node(2)),
            importing: (number == 2).then(|| node(1)),
            keys,
            may_hold_more: false,
            imports_to_count: false,
            counts_own_only: false,
            epoch: 1,
        };
        let peers = [1, 2].map(|number| (node(number), PeerState::Healthy));
        decide(&SlotState {
            masters: vec![master(1, 5), master(2, keys)],
            unreachable_owner: None,
            unreachable_master: None,
            orphan: None,
            peers: &peers.into(),
            passage: &Passage::refusing([(node(2), refusal)].into()),
            consent: SlotConsent::default(),
        })
    }

    #[test]
    fn a_move_to_a_target_that_refuses_keys_goes_backwards() {
        let close = Decision::Steps(vec![FixStep::Close { node: node(1) }]);
        for refusal in [WriteRefusal::SaveFailed, WriteRefusal::OutOfMemory] {
            // The source first: the target is closed once it holds nothing.
            assert_eq!(backwards_from(refusal, 0), close);
        }
        let (owner, target) = (node(1), node(2));
        let back = FixStep::Gather {
            from: target,
            to: owner,
        };
        assert_eq!(
            backwards_from(WriteRefusal::OutOfMemory, 3),
            Decision::Steps(vec![back])
        );
        // MIGRATE is a write, which such a node refuses, too.
        assert_eq!(
            backwards_from(WriteRefusal::SaveFailed, 3),
            Decision::Refuse(Why::NoPassage { owner, target })
        );
    }
}
